//! Commands for vTorque administrators; their checks are written in Rhai, in `stdlib/vtorque.rhai`.

use crate::base::Result;
use crate::command::{Args, Command, Context, Control, Effect, Example, Kind, Need, Param, Returns, Setup, Value};

/// Commands for vTorque.
pub const COMMANDS: &[Command] = &[Command {
    name: "vtorque-check",
    aliases: &[],
    summary: "say whether the guest meets vTorque's documented requirements",
    help: "Checks the family of the guest, the package cloud-init, the NoCloud source in the effective datasource list, \
           /workspace, /home, /opt (must be empty) and /opt-vm. Each check answers pass, warn, fail or unknown with its evidence and a \
           remedy. The command fails if a check fails. With fix:true what can be mended without moving data is mended first.\n\n\
           If nothing is mounted, the only operating system on the disks is mounted by itself.",
    params: &[Param { name: "fix", kind: Kind::Bool, need: Need::Optional }],
    returns: Returns::Control,
    effect: Effect::Session,
    examples: &[Example {
        setup: Setup::Ext4,
        lines: "mkdir-p /var/lib/dpkg\n\
                write /etc/debian_version 12.5\n\
                -vtorque-check\n",
        output: "",
    }],
    run: vtorque_check,
}];

fn vtorque_check(_: &mut Context, args: &Args) -> Result<Value> {
    Ok(Value::Control(Control::Script {
        module: "std/vtorque",
        function: "command",
        options: vec![("fix".to_string(), args.bool("fix").to_string())],
    }))
}
