//! Commands of the language itself; the shell does what they ask for.

use crate::command::{Command, Control, Effect, Example, Kind, Param, Returns, Setup, Value};

pub(super) const COMMANDS: &[Command] = &[
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
        help: "`help` explains where to begin, `help --list` lists every command, `help COMMAND` explains one.",
        params: &[Param::maybe("cmd", Kind::Command)],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "help mkdir-p | head -n 2\n",
            output: "NAME\n    mkdir-p - make a directory and its parents\n",
        }],
        run: |_, args| Ok(Value::Control(Control::Help(args.text_if("cmd")))),
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
        name: "quit",
        aliases: &["exit", "q"],
        summary: "end the session",
        help: "Stops reading lines. What was changed is committed as at any clean end. On the command line it does not \
               stop the commands after it.",
        params: &[],
        returns: Returns::Control,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "echo a\nquit\necho b\n", output: "a\n" }],
        run: |_, _| Ok(Value::Control(Control::Quit)),
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
];
