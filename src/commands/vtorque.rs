//! Commands for vTorque administrators; their checks are written in Rhai, in `stdlib/vtorque.rhai`.

use crate::base::Result;
use crate::command::{Args, Command, Context, Control, Effect, Example, Kind, Param, Returns, Setup, Value};

/// Commands for vTorque.
pub const COMMANDS: &[Command] = &[Command {
    name: "vtorque-check",
    aliases: &[],
    summary: "say whether the guest meets vTorque's documented requirements",
    help: "Checks the family of the guest, the package cloud-init (dpkg or rpm), what switches it off, the NoCloud source in the \
           effective datasource list, seeds and state inside the image, /workspace and mounts on it, /home and homes elsewhere, /opt (must be \
           empty), /opt-vm, /opt-hpc, /scratch, machine id and host keys. Each check answers pass, warn, fail or unknown with its \
           evidence and a remedy. The command fails if a check fails. With fix:true what can be mended without moving data is mended \
           first; with strict:true a warning counts as a failure; with json:true one JSON document is printed.\n\n\
           If nothing is mounted, the only operating system on the disks is mounted by itself.",
    params: &[
        Param::optional("fix", Kind::Bool),
        Param::optional("strict", Kind::Bool),
        Param::optional("json", Kind::Bool),
    ],
    returns: Returns::Control,
    effect: Effect::Session,
    examples: &[Example {
        setup: Setup::Debian,
        lines: "mkdir-p /etc/cloud\n\
                mkdir-p /var/lib/dpkg\n\
                write /etc/passwd \"root:x:0:0:root:/root:/bin/sh\\n\"\n\
                write /etc/cloud/cloud.cfg \"datasource_list: [ Ec2 ]\\n\"\n\
                write /var/lib/dpkg/status \"Package: cloud-init\\nStatus: install ok installed\\nVersion: 22.4.2-1\\n\"\n\
                vtorque-check fix:true\n",
        output: "fixed: made /workspace\n\
fixed: made /opt-vm\n\
fixed: put NoCloud first in the datasource list (/etc/cloud/cloud.cfg.d/99_nocloud.cfg)\n\
pass    VT-OS          family debian\n\
\x20                        /etc/os-release: Debian GNU/Linux 12\n\
pass    VT-CI-PKG      package cloud-init is installed\n\
\x20                        /var/lib/dpkg/status: cloud-init 22.4.2-1: install ok installed\n\
pass    VT-CI-DISABLED no file switches cloud-init off\n\
pass    VT-CI-NOCLOUD  the NoCloud source is on\n\
\x20                        /etc/cloud/cloud.cfg.d/99_nocloud.cfg:2: datasource_list: [ NoCloud, Ec2 ]\n\
pass    VT-CI-SEED     no seed is inside the image\n\
pass    VT-CI-STATE    cloud-init has no state\n\
pass    VT-WS          /workspace is an empty folder\n\
pass    VT-WS-FSTAB    the image mounts nothing on /workspace\n\
pass    VT-HOME        /home is a folder\n\
pass    VT-HOME-USERS  all users have their homes below /home\n\
pass    VT-OPT         /opt is not there\n\
pass    VT-OPTVM       /opt-vm is a folder\n\
pass    VT-OPTHPC      /opt-hpc is not there\n\
pass    VT-SCRATCH     /scratch is not there\n\
pass    VT-ID          no identity is in the image\n\
overall: pass\n",
    }],
    run: vtorque_check,
}];

fn vtorque_check(cx: &mut Context, args: &Args) -> Result<Value> {
    let image = cx.session.images().next().map(|path| path.display().to_string()).unwrap_or_default();
    let mut options = vec![("image".to_string(), image)];
    options.extend(["fix", "strict", "json"].map(|name| (name.to_string(), args.bool(name).to_string())));
    Ok(Value::Control(Control::Script { module: "std/vtorque", function: "command", options }))
}
