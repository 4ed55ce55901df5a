//! Commands of our own that put applications into guests and take out what clones should not inherit. They are written in Rhai, in
//! `stdlib/applications.rhai` and `stdlib/clean.rhai`.

use crate::base::Result;
use crate::command::{Args, Command, Context, Control, Effect, Example, Kind, Need, Param, Returns, Setup, Value};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "app-install",
        aliases: &[],
        summary: "put an application into /opt-vm",
        help: "LOCAL is a host folder or a tar file (also .gz, .xz, .bz2, .zst); its content goes to /opt-vm/NAME, or /opt-vm/NAME/VERSION, as \
               root's. A profile, the linker's list and a module file (/opt-vm/modulefiles) are written for what it has of bin, sbin, lib and lib64. With \
               `relocate:true`, texts that name /opt/NAME name /opt-vm/NAME instead. Printed are the number of files and bytes, what was \
               written, libraries that the guest does not have, and texts that still name /opt/NAME.",
        params: &[
            Param::required("local", Kind::HostPath),
            Param::required("name", Kind::Text),
            Param::optional("version", Kind::Text),
            Param::optional("relocate", Kind::Bool),
        ],
        returns: Returns::Control,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "!mkdir -p tool/bin && echo /opt/tool/share > tool/bin/run\n\
                    app-install tool tool version:1.0 relocate:true\n\
                    cat /opt-vm/tool/1.0/bin/run\n",
            output: "put 1 files, 16 bytes into /opt-vm/tool/1.0\n\
                     wrote /etc/profile.d/tool.sh\n\
                     wrote /opt-vm/modulefiles/tool/1.0\n\
                     relocated /opt-vm/tool/1.0/bin/run\n\
                     /opt-vm/tool/share\n\n",
        }],
        run: |_, args| {
            let local = ("local".to_string(), args.host("local").to_string_lossy().into_owned());
            let words = ["name", "version"].map(|name| (name.to_string(), args.text_if(name).unwrap_or_default()));
            let relocate = ("relocate".to_string(), args.bool("relocate").to_string());
            let options = [vec![local], words.to_vec(), vec![relocate]].concat();
            Ok(Value::Control(Control::Script { module: "std/applications", function: "command", options }))
        },
    },
    Command {
        name: "clean",
        aliases: &[],
        summary: "take out what clones should not inherit",
        help: "WHAT is any of package-cache, logs, tmp, histories, machine-id, host-keys, random-seed, cloud-init, udev-net, leases and crashes; \
               without a word all of them. Logs stay as empty files. Printed is how much of each went; a second run finds nothing.",
        params: &[Param { name: "what", kind: Kind::Text, need: Need::Any }],
        returns: Returns::Control,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "mkdir-p /root\nwrite /root/.bash_history \"ls\\n\"\nmkdir-p /var/log\nwrite /var/log/syslog \"text\\n\"\n\
                    clean histories logs\nclean histories logs\n",
            output: "logs          1 path, 5 bytes\nhistories     1 path, 3 bytes\nnothing to clean\n",
        }],
        run: clean,
    },
];

fn clean(_: &mut Context, args: &Args) -> Result<Value> {
    let what = args.list("what").iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
    let options = vec![("what".to_string(), what)];
    Ok(Value::Control(Control::Script { module: "std/clean", function: "command", options }))
}
