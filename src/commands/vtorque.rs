//! Commands for vTorque administrators; their checks are written in Rhai, in `stdlib/vtorque.rhai`.

use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Arg, Args, Command, Context, Control, Effect, Example, Kind, Param, Returns, Setup, Value};

/// Commands for vTorque.
pub const COMMANDS: &[Command] = &[OSV_COMMAND_LINE, VTORQUE_CHECK];

const OSV_COMMAND_LINE: Command = Command {
    name: "osv-command-line",
    aliases: &[],
    summary: "show or set the command line of an OSv image",
    help: "Without TEXT it is printed. It stands in the disk's first sectors, from byte 512 on, and has at most 32255 bytes. The disk must look \
           like OSv's: a boot sector, no first partition, an ELF kernel at 64 KiB.",
    params: &[Param::maybe("text", Kind::Text)],
    returns: Returns::Control,
    effect: Effect::Writes,
    examples: &[Example {
        setup: Setup::EmptyDisk,
        lines: "pwrite-device /dev/sda \"\\x55\\xaa\" 510 | cat > /dev/null\n\
                pwrite-device /dev/sda \"\\x7fELF\" 65536 | cat > /dev/null\n\
                osv-command-line \"/usr/mgmt/cloud-init.so; /app\"\nosv-command-line\n",
        output: "/usr/mgmt/cloud-init.so; /app\n",
    }],
    run: |_, args| {
        let text = args.text_if("text");
        let set = ("set".to_string(), text.is_some().to_string());
        let options = vec![set, ("text".to_string(), text.unwrap_or_default())];
        Ok(Value::Control(Control::Script { module: "std/vtorque_image", function: "command_line", options }))
    },
};

const VTORQUE_CHECK: Command = Command {
    name: "vtorque-check",
    aliases: &[],
    summary: "say whether the guest meets vTorque's documented requirements",
    help: "Checks the image file, the root, the family of the guest, cloud-init (package, files, units, off switches, boot entries, \
           the NoCloud source as cloud-init and as ds-identify read it, seeds, state, modules), /workspace, /home, /opt, /opt-vm, \
           /opt-hpc, /scratch and what is mounted there, the SSH server, tools, the network, identity and the disk's names. Each \
           check answers pass, warn, fail, unknown or skip with its evidence and a remedy. Nothing of the guest is run.\n\n\
           fix:true prints and makes the edits that mend what was found, and checks again; fix:all makes also those that \
           move or drop what somebody has put there. strict:true counts warnings as failures. json:true prints one JSON \
           document. vrdma:true looks for what vRDMA needs. profile:FILE runs a site's own checks, written in Rhai (see \
           std/vtorque). The root is the one that is mounted, or root:DEVICE, or the only operating system on the disks.\n\n\
           The command fails if a check of severity error fails; then nothing is written, not even what was mended. The exit \
           status of the program is 0 for pass and warn, 1 for fail, 3 for unknown; on the program's command line it is 2 if the \
           check did not take place: a wrong option or value, an image, root or profile that is not there.",
    params: &[
        Param::optional("root", Kind::Text),
        Param::optional("fix", Kind::Text),
        Param::optional("strict", Kind::Bool),
        Param::optional("vrdma", Kind::Bool),
        Param::optional("json", Kind::Bool),
        Param::optional("profile", Kind::HostPath),
    ],
    returns: Returns::Control,
    effect: Effect::Session,
    examples: &[Example {
        setup: Setup::Debian,
        lines: "!echo 'fn checks(about, results) { results.filter(|r| r.id == \"VT-WS\") }' > site.rhai\n\
                vtorque-check fix:true profile:site.rhai\n",
        output: "fix     VT-WS          make the folder /workspace\n\
                 pass    VT-WS          /workspace is an empty folder\n\
                 overall: pass\n",
    }],
    run: vtorque_check,
};

fn vtorque_check(cx: &mut Context, args: &Args) -> Result<Value> {
    let unopened = cx.session.settings.unopened.clone();
    let image = cx.session.images().next().or(unopened.as_ref().map(|(path, _)| path.as_path()));
    let mut options = vec![("image".to_string(), image.map(|path| path.display().to_string()).unwrap_or_default())];
    options.extend(unopened.as_ref().map(|(_, lacks)| ("unopened".to_string(), lacks.clone())));
    options.extend(["strict", "vrdma", "json"].map(|name| (name.to_string(), args.bool(name).to_string())));
    let fix = match args.text_if("fix").as_deref() {
        Some("true" | "yes" | "1") => "true",
        Some("all") => "all",
        None | Some("" | "false" | "no" | "0") => "",
        Some(other) => return Err(Error::usage(format!("fix:{other}: takes true, false or all"))),
    };
    if !fix.is_empty() && cx.session.has_disks() && cx.session.disk_facts().all(|disk| disk.read_only) {
        return Err(Error::new(ErrorKind::ReadOnly, "the image was added read-only: what fix changes would be lost")
            .hint("leave out --ro; --dry-run shows the edits without making them"));
    }
    options.push(("fix".to_string(), fix.to_string()));
    options.extend(args.text_if("root").map(|root| ("root".to_string(), root)));
    if let Some(Arg::Host(profile)) = args.get("profile") {
        options.push(("profile".to_string(), profile.display().to_string()));
    }
    Ok(Value::Control(Control::Script { module: "std/vtorque", function: "command", options }))
}
