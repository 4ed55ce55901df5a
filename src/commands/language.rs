//! Commands of the language itself; the shell does what they ask for.

use std::time::{Duration, Instant};

use crate::base::{Error, Result};
use crate::command::{Command, Control, Effect, Example, Kind, Param, Returns, Setup, Value};

/// Events, in the order in which sets of them are printed.
pub(crate) const EVENTS: [&str; 10] = [
    "appliance",
    "close",
    "enter",
    "launch_done",
    "library",
    "libvirt_auth",
    "progress",
    "subprocess_quit",
    "trace",
    "warning",
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "delete-event",
        aliases: &[],
        summary: "forget the event handlers of a name",
        help: "",
        params: &[Param::required("name", Kind::Text)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "event one close \"echo bye\"\ndelete-event one\nlist-events\n",
            output: "",
        }],
        run: |_, args| Ok(Value::Control(Control::DeleteEvent(args.text("name")))),
    },
    Command {
        name: "echo",
        aliases: &[],
        summary: "print words",
        help: "Prints its words with one blank between them.",
        params: &[Param::any("params", Kind::Bytes)],
        returns: Returns::Text,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "echo a  b \"c  d\"\n", output: "a b c  d\n" }],
        run: |_, args| Ok(Value::Text(args.list("params").join(&b' '))),
    },
    Command {
        name: "event",
        aliases: &[],
        summary: "run a host script whenever events happen",
        help: "EVENTSET is `*` or names with commas between: close, launch_done, trace, enter and others that a virtual \
               machine has and that never happen here. The script is run by $SHELL with the event's name in $EVENT and its \
               message as $1. Several handlers may have one name.",
        params: &[
            Param::required("name", Kind::Text),
            Param::required("eventset", Kind::Text),
            Param::required("script", Kind::Text),
        ],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "event one close \"echo $EVENT\"\nlist-events\n",
            output: "\"one\" (0): close: echo $EVENT\nclose\n",
        }],
        run: |_, args| {
            Ok(Value::Control(Control::Event(args.text("name"), args.text("eventset"), args.text("script"))))
        },
    },
    Command {
        name: "glob",
        aliases: &[],
        summary: "run a command for every match of wildcards",
        help: "Every word that begins with `/` is matched against guest paths, one that begins with `/dev/` against \
               devices. The command runs for every combination; a pattern without a match stays as it is. A failure \
               does not stop the rest.",
        params: &[Param::any("command", Kind::Command)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /a1\ntouch /a2\nglob rm /a*\nls /\n",
            output: "lost+found\n",
        }],
        run: |_, args| Ok(Value::Control(Control::Glob(args.list("command").to_vec()))),
    },
    Command {
        name: "help",
        aliases: &[],
        summary: "help on a command, or the list of commands",
        help: "`help` explains where to begin, `help --list` lists every command, `help COMMAND` explains one, `help -k WORD...` \
               searches names and explanations.",
        params: &[Param::any("cmd", Kind::Command)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "help mkdir-p | head -n 2\nhelp -k machine-id\n",
            output: "NAME\n    mkdir-p - make a directory and its parents\n\
                     reset-machine-id     have the guest make itself a new machine id at its next start\n\
                     clean                take out what clones should not inherit\n",
        }],
        run: |_, args| {
            let words = args.list("cmd").iter().map(|word| String::from_utf8_lossy(word).into_owned());
            Ok(Value::Control(Control::Help(words.collect())))
        },
    },
    Command {
        name: "lcd",
        aliases: &[],
        summary: "change the host folder",
        help: "Host paths that do not begin with `/` count from here.",
        params: &[Param::required("directory", Kind::HostPath)],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "lcd /\necho ok\n", output: "ok\n" }],
        run: |cx, args| cx.host.change_folder(args.host("directory")).map(|()| Value::Nothing),
    },
    Command {
        name: "list-events",
        aliases: &[],
        summary: "the event handlers in force",
        help: "",
        params: &[],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "list-events\n", output: "" }],
        run: |_, _| Ok(Value::Control(Control::ListEvents)),
    },
    Command {
        name: "not",
        aliases: &[],
        summary: "run a command and succeed if it fails",
        help: "The command's error is shown. A wrong number of words fails all the same.",
        params: &[Param::any("command", Kind::Command)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Ext4, lines: "not cat /nope\necho ok\n", output: "ok\n" }],
        run: |_, args| Ok(Value::Control(Control::Not(args.list("command").to_vec()))),
    },
    Command {
        name: "quit",
        aliases: &["exit", "q"],
        summary: "end the session",
        help: "Stops reading lines. What was changed is committed as at any clean end. On the command line it does not \
               stop the commands after it. Other words on the line are left alone.",
        params: &[Param::any("words", Kind::Bytes)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "echo a\nquit\necho b\n", output: "a\n" }],
        run: |_, _| Ok(Value::Control(Control::Quit)),
    },
    Command {
        name: "reopen",
        aliases: &[],
        summary: "begin anew, without disks",
        help: "What was changed is committed as at any clean end. Settings go back to their start but for verbose, trace, \
               autosync, path and pgroup; event handlers are forgotten.",
        params: &[],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-memsize 700\nreopen\nget-memsize\n",
            output: "1280\n",
        }],
        run: |_, _| Ok(Value::Control(Control::Reopen)),
    },
    Command {
        name: "setenv",
        aliases: &[],
        summary: "set a variable for host programs",
        help: "",
        params: &[Param::required("var", Kind::Text), Param::required("value", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "setenv FOO bar\n!echo $FOO\n", output: "bar\n" }],
        run: |cx, args| {
            cx.host.set_variable(&variable(&args.text("var"))?, Some(&args.text("value")));
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "sleep",
        aliases: &[],
        summary: "wait some seconds",
        help: "",
        params: &[Param::required("secs", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "sleep 0\n", output: "" }],
        run: |cx, args| {
            let end = Instant::now() + Duration::from_secs(u64::try_from(args.int("secs")).unwrap_or(0));
            while Instant::now() < end {
                cx.session.guest.check_interrupt()?;
                std::thread::sleep(Duration::from_millis(20).min(end - Instant::now().min(end)));
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "time",
        aliases: &[],
        summary: "run a command and print how long it took",
        help: "",
        params: &[Param::any("command", Kind::Command)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "time echo a | sed 's/[0-9]/N/g'\n",
            output: "a\nelapsed time: N.NN seconds\n",
        }],
        run: |_, args| Ok(Value::Control(Control::Time(args.list("command").to_vec()))),
    },
    Command {
        name: "unsetenv",
        aliases: &[],
        summary: "take a variable away from host programs",
        help: "",
        params: &[Param::required("var", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "setenv FOO bar\nunsetenv FOO\n!echo [$FOO]\n",
            output: "[]\n",
        }],
        run: |cx, args| {
            cx.host.set_variable(&variable(&args.text("var"))?, None);
            Ok(Value::Nothing)
        },
    },
];

/// A name that a variable can have.
fn variable(name: &str) -> Result<String> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(Error::usage(format!("'{name}' is no name of a variable"))),
        false => Ok(name.to_string()),
    }
}
