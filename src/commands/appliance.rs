//! What only guestfish's virtual machine has: settings that are kept and answered, and questions about it.

use super::settings::{NO_EFFECT, get, set, set_backend};
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

/// Answers a setting that is a text.
macro_rules! answer {
    ($name:literal, $key:literal, $summary:literal, $output:literal) => {
        get!($name, $summary, NO_EFFECT, Returns::Text, concat!($name, "\n"), $output, |cx, _| {
            let default = $output.trim_end();
            Ok(Value::text(cx.session.settings.others.get($key).cloned().unwrap_or_else(|| default.to_string())))
        })
    };
}

/// Sets a setting that is a text.
macro_rules! keep {
    ($name:literal, $alias:literal, $key:literal, $param:literal, $summary:literal, $example:literal, $output:literal) => {
        set!($name, $alias, $summary, NO_EFFECT, Param::required($param, Kind::Text), $example, $output, |cx, args| {
            cx.session.settings.others.insert($key, args.text($param));
            Ok(())
        })
    };
}

/// Answers a switch.
macro_rules! is_on {
    ($name:literal, $key:literal, $summary:literal, $output:literal) => {
        get!($name, $summary, NO_EFFECT, Returns::Bool, concat!($name, "\n"), $output, |cx, _| {
            let default = $output.trim_end();
            Ok(Value::Bool(cx.session.settings.others.get($key).map_or(default, String::as_str) == "true"))
        })
    };
}

/// Sets a switch.
macro_rules! switch {
    ($name:literal, $alias:literal, $key:literal, $param:literal, $summary:literal, $example:literal) => {
        set!($name, $alias, $summary, NO_EFFECT, Param::required($param, Kind::Bool), $example, "true\n", |cx, args| {
            cx.session.settings.others.insert($key, args.bool($param).to_string());
            Ok(())
        })
    };
}

/// A question about the state of the virtual machine.
macro_rules! state {
    ($name:literal, $summary:literal, $help:literal, $output:literal, $answer:expr) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: &[],
            returns: Returns::Bool,
            effect: Effect::Host,
            examples: &[Example { setup: Setup::EmptyDisk, lines: concat!($name, "\n"), output: $output }],
            run: |cx, _| {
                let answer: fn(bool) -> bool = $answer;
                Ok(Value::Bool(answer(cx.session.is_launched())))
            },
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "clear-backend-setting",
        aliases: &[],
        summary: "forget one backend setting",
        help: "Prints how many there were. Backend settings have no effect.",
        params: &[Param::required("name", Kind::Text)],
        returns: Returns::Int,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-backend-setting force_tcg 1\nclear-backend-setting force_tcg\n",
            output: "1\n",
        }],
        run: |cx, args| {
            let (settings, before) = (&mut cx.session.settings.backend_settings, args.text("name"));
            let count = settings.len();
            settings.retain(|setting| setting_name(setting) != before);
            Ok(Value::Int((count - settings.len()) as i64))
        },
    },
    Command {
        name: "debug-drives",
        aliases: &[],
        summary: "the drives that were added",
        help: "A line for each: its image. For people: the form is not guestfish's.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "debug-drives | wc -l\n", output: "1\n" }],
        run: |cx, _| Ok(Value::list(cx.session.images().map(|path| format!("path={}", path.display())))),
    },
    Command {
        name: "drop-caches",
        aliases: &[],
        summary: "drop the caches of the kernel",
        help: "WHATTODROP is 1 to 4, as for Linux. There is no kernel, and what imgsh keeps is always what is on the disk: it \
               has no effect.",
        params: &[Param::required("whattodrop", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "drop-caches 3\n", output: "" }],
        run: |_, args| match args.int("whattodrop") {
            1..=4 => Ok(Value::Nothing),
            _ => Err(Error::from(ErrorKind::Invalid).at("/proc/sys/vm/drop_caches")),
        },
    },
    Command {
        name: "echo-daemon",
        aliases: &[],
        summary: "print the words of a list",
        help: "With one blank between them.",
        params: &[Param::required("words", Kind::List)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "echo-daemon \"a  b\"\n", output: "a b\n" }],
        run: |_, args| Ok(Value::Text(args.list("words").join(&b' '))),
    },
    Command {
        name: "get-attach-method",
        aliases: &[],
        summary: "name of the back end",
        help: "As `get-backend`, but that `direct` is called `appliance`.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "get-attach-method\n", output: "appliance\n" }],
        run: |cx, _| {
            let backend = cx.session.settings.backend.clone();
            Ok(Value::text(if backend == "direct" { "appliance".to_string() } else { backend }))
        },
    },
    Command {
        name: "get-backend-setting",
        aliases: &[],
        summary: "one backend setting",
        help: "A name that was not set is an error. Backend settings have no effect.",
        params: &[Param::required("name", Kind::Text)],
        returns: Returns::Text,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-backend-setting force_tcg 1\nget-backend-setting force_tcg\n",
            output: "1\n",
        }],
        run: |cx, args| {
            let name = args.text("name");
            let found = cx.session.settings.backend_settings.iter().find(|setting| setting_name(setting) == name);
            match found {
                Some(setting) => Ok(Value::text(setting.split_once('=').map_or("1", |(_, value)| value))),
                None => Err(Error::new(ErrorKind::NotFound, "setting not found").at(name)),
            }
        },
    },
    Command {
        name: "get-backend-settings",
        aliases: &[],
        summary: "all backend settings",
        help: NO_EFFECT,
        params: &[],
        returns: Returns::List,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-backend-settings \"force_tcg a=b\"\nget-backend-settings\n",
            output: "force_tcg\na=b\n",
        }],
        run: |cx, _| Ok(Value::list(cx.session.settings.backend_settings.clone())),
    },
    answer!("get-cachedir", "cachedir", "folder for the virtual machine's system", "/var/tmp\n"),
    is_on!("get-direct", "direct", "whether the console is passed through", "false\n"),
    answer!("get-hv", "hv", "program of the virtual machine", "/usr/bin/qemu-system-x86_64\n"),
    answer!("get-qemu", "hv", "program of the virtual machine, by its old name", "/usr/bin/qemu-system-x86_64\n"),
    is_on!("get-recovery-proc", "recovery-proc", "whether a process watches over the virtual machine", "true\n"),
    is_on!("get-selinux", "selinux", "whether the virtual machine uses SELinux", "false\n"),
    answer!("get-sockdir", "sockdir", "folder for sockets", "/tmp\n"),
    answer!("get-tmpdir", "tmpdir", "folder for temporary files", "/tmp\n"),
    state!("is-busy", "whether a command is running", "None is when this one is.", "false\n", |_| false),
    state!(
        "is-config",
        "whether disks can still be added",
        "Before `run`. imgsh takes disks afterwards too.",
        "false\n",
        |launched| !launched
    ),
    state!("is-launching", "whether `run` is under way", "It takes no time.", "false\n", |_| false),
    state!("is-ready", "whether `run` was done", "", "true\n", |launched| launched),
    Command {
        name: "kill-subprocess",
        aliases: &[],
        summary: "end the virtual machine",
        help: "There is none: file systems are unmounted and all changes committed, as `shutdown` does.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "kill-subprocess\nmounts\n", output: "" }],
        run: |cx, _| {
            let session = cx.launched()?;
            session.guest.umount_all()?;
            done(session.commit())
        },
    },
    Command {
        name: "modprobe",
        aliases: &[],
        summary: "accepted: load a module of the kernel",
        help: "There is no kernel: the name is only looked at. What imgsh can read and write needs no module.",
        params: &[Param::required("modulename", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "modprobe ext4\n", output: "" }],
        run: |_, args| {
            let name = args.text("modulename");
            match !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
                true => Ok(Value::Nothing),
                false => Err(Error::new(ErrorKind::NotFound, "modprobe: this is no name of a module").at(name)),
            }
        },
    },
    Command {
        name: "parse-environment",
        aliases: &[],
        summary: "take settings from environment variables",
        help: "LIBGUESTFS_TRACE, LIBGUESTFS_DEBUG, LIBGUESTFS_MEMSIZE, LIBGUESTFS_PATH, LIBGUESTFS_HV, LIBGUESTFS_APPEND, \
               LIBGUESTFS_BACKEND, LIBGUESTFS_BACKEND_SETTINGS, LIBGUESTFS_TMPDIR and LIBGUESTFS_CACHEDIR.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "setenv LIBGUESTFS_MEMSIZE 600\nparse-environment\nget-memsize\n",
            output: "600\n",
        }],
        run: |cx, _| {
            let host = cx.host;
            done(environment(cx, &|name| host.variable(name)))
        },
    },
    Command {
        name: "parse-environment-list",
        aliases: &[],
        summary: "take settings from a list of variables",
        help: "As `parse-environment`, from words `NAME=value`.",
        params: &[Param::required("environment", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "parse-environment-list \"LIBGUESTFS_MEMSIZE=600\"\nget-memsize\n",
            output: "600\n",
        }],
        run: |cx, args| {
            let words: Vec<String> =
                args.list("environment").iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let value = |name: &str| {
                words.iter().find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_string()))
            };
            done(environment(cx, &value))
        },
    },
    Command {
        name: "ping-daemon",
        aliases: &[],
        summary: "whether the back end answers",
        help: "It always does after `run`.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "ping-daemon\n", output: "" }],
        run: |_, _| Ok(Value::Nothing),
    },
    Command {
        name: "set-attach-method",
        aliases: &["attach-method"],
        summary: "set the back end, by its old name",
        help: NO_EFFECT,
        params: &[Param::required("backend", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-attach-method libvirt\nget-attach-method\n",
            output: "libvirt\n",
        }],
        run: |cx, args| done(set_backend(cx, args.text("backend"))),
    },
    Command {
        name: "set-backend-setting",
        aliases: &[],
        summary: "set one backend setting",
        help: NO_EFFECT,
        params: &[Param::required("name", Kind::Text), Param::required("val", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-backend-setting force_tcg 1\nget-backend-settings\n",
            output: "force_tcg=1\n",
        }],
        run: |cx, args| {
            let (name, settings) = (args.text("name"), &mut cx.session.settings.backend_settings);
            settings.retain(|setting| setting_name(setting) != name);
            settings.push(format!("{name}={}", args.text("val")));
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "set-backend-settings",
        aliases: &[],
        summary: "replace all backend settings",
        help: NO_EFFECT,
        params: &[Param::required("settings", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "set-backend-settings \"\"\nget-backend-settings\n",
            output: "",
        }],
        run: |cx, args| {
            let words = args.list("settings").iter().map(|word| String::from_utf8_lossy(word).into_owned());
            cx.session.settings.backend_settings = words.collect();
            Ok(Value::Nothing)
        },
    },
    keep!(
        "set-cachedir",
        "cachedir",
        "cachedir",
        "cachedir",
        "set the folder for the virtual machine's system",
        "set-cachedir /x\nget-cachedir\n",
        "/x\n"
    ),
    switch!("set-direct", "direct", "direct", "direct", "pass the console through", "set-direct true\nget-direct\n"),
    keep!("set-hv", "hv", "hv", "hv", "set the program of the virtual machine", "set-hv /x\nget-hv\n", "/x\n"),
    keep!(
        "set-qemu",
        "qemu",
        "hv",
        "hv",
        "set the program of the virtual machine, by its old name",
        "set-qemu /x\nget-qemu\n",
        "/x\n"
    ),
    switch!(
        "set-recovery-proc",
        "recovery-proc",
        "recovery-proc",
        "recoveryproc",
        "have a process watch over the virtual machine",
        "set-recovery-proc true\nget-recovery-proc\n"
    ),
    switch!(
        "set-selinux",
        "selinux",
        "selinux",
        "selinux",
        "use SELinux in the virtual machine",
        "set-selinux true\nget-selinux\n"
    ),
    keep!(
        "set-tmpdir",
        "tmpdir",
        "tmpdir",
        "tmpdir",
        "set the folder for temporary files",
        "set-tmpdir /x\nget-tmpdir\n",
        "/x\n"
    ),
    Command {
        name: "user-cancel",
        aliases: &[],
        summary: "stop the transfer that is under way",
        help: "None is when this command is, so it has no effect; Ctrl-C stops one.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "user-cancel\n", output: "" }],
        run: |_, _| Ok(Value::Nothing),
    },
];

fn setting_name(setting: &str) -> &str {
    setting.split_once('=').map_or(setting, |(name, _)| name)
}

/// Applies the variables that are set.
fn environment(cx: &mut Context, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    let settings = &mut cx.session.settings;
    let truth = |name: &str| match variable(name).as_deref() {
        None => Ok(None),
        Some("1" | "true" | "t" | "yes" | "y" | "on") => Ok(Some(true)),
        Some("" | "0" | "false" | "f" | "no" | "n" | "off") => Ok(Some(false)),
        Some(other) => Err(Error::usage(format!("{name}={other}: non-boolean value")).hint("write 0 or 1")),
    };
    if let Some(trace) = truth("LIBGUESTFS_TRACE")? {
        settings.trace = trace;
    }
    if let Some(verbose) = truth("LIBGUESTFS_DEBUG")? {
        settings.verbose = verbose;
    }
    if let Some(text) = variable("LIBGUESTFS_MEMSIZE").filter(|text| !text.is_empty()) {
        let memory = text.parse().map_err(|_| Error::usage("non-numeric value for LIBGUESTFS_MEMSIZE"))?;
        settings.memory = memory;
    }
    if let Some(path) = variable("LIBGUESTFS_PATH").filter(|text| !text.is_empty()) {
        settings.path = path;
    }
    if let Some(append) = variable("LIBGUESTFS_APPEND") {
        settings.append = Some(append).filter(|text| !text.is_empty());
    }
    if let Some(backend) = variable("LIBGUESTFS_BACKEND").filter(|text| !text.is_empty()) {
        settings.backend = backend;
    }
    if let Some(words) = variable("LIBGUESTFS_BACKEND_SETTINGS") {
        settings.backend_settings = words.split(':').filter(|word| !word.is_empty()).map(str::to_string).collect();
    }
    for (name, key) in [("LIBGUESTFS_HV", "hv"), ("LIBGUESTFS_TMPDIR", "tmpdir"), ("LIBGUESTFS_CACHEDIR", "cachedir")] {
        if let Some(value) = variable(name).filter(|text| !text.is_empty()) {
            settings.others.insert(key, value);
        }
    }
    Ok(())
}
