//! Commands of our own that prepare a guest without running its programs. What they do is written in Rhai, in
//! `stdlib/customize.rhai`; a failure in the middle takes all of it back.

use crate::base::Result;
use crate::command::{Args, Command, Control, Effect, Example, Kind, Param, Returns, Setup, Value};

/// A command whose work is a function of `std/customize`.
macro_rules! customize {
    ($name:literal, $function:literal, $summary:literal, $help:literal, $params:expr, $lines:literal, $output:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: $params,
            returns: Returns::Control,
            effect: Effect::Writes,
            examples: &[Example { setup: Setup::Debian, lines: $lines, output: $output }],
            run: |_, args| script($function, $params, args),
        }
    };
}

const UNIT: &[Param] = &[Param::required("unit", Kind::Text)];

pub(super) const COMMANDS: &[Command] = &[
    customize!(
        "disable-unit",
        "disable_unit",
        "have a systemd unit not started by others",
        "What `systemctl disable` does: the links to it below /etc/systemd/system are removed. `ssh` means `ssh.service`.",
        UNIT,
        "mkdir-p /etc/systemd/system/multi-user.target.wants\n\
         ln-s /lib/systemd/system/cron.service /etc/systemd/system/multi-user.target.wants/cron.service\n\
         disable-unit cron\nls /etc/systemd/system/multi-user.target.wants\n",
        ""
    ),
    customize!(
        "enable-unit",
        "enable_unit",
        "have a systemd unit started as its file asks for",
        "What `systemctl enable` does: the links of its [Install] part are made. `ssh` means `ssh.service`.",
        UNIT,
        "mkdir-p /lib/systemd/system\n\
         write /lib/systemd/system/a.service \"[Service]\\nExecStart=/a\\n[Install]\\nWantedBy=multi-user.target\\n\"\n\
         enable-unit a\nreadlink /etc/systemd/system/multi-user.target.wants/a.service\n",
        "/lib/systemd/system/a.service\n"
    ),
    customize!(
        "firstboot",
        "firstboot",
        "run a host script once inside the guest, at its next start",
        "The script, which begins with `#!`, is put below /var/lib/imgsh and run as root by a systemd unit after the network \
         is up, or by rc.local without systemd. Several run in the order in which they were given. What they print is kept \
         beside them.",
        &[Param::required("script", Kind::HostPath)],
        "mkdir-p /etc/systemd/system\n!printf '#!/bin/sh\\necho hello\\n' > s.sh\nfirstboot s.sh\n\
         ls /var/lib/imgsh/firstboot\nls /etc/systemd/system/multi-user.target.wants\n",
        "0001.sh\nimgsh-firstboot.service\n"
    ),
    customize!(
        "mask-unit",
        "mask_unit",
        "have a systemd unit never started",
        "What `systemctl mask` does: a link to /dev/null in its place. `ssh` means `ssh.service`.",
        UNIT,
        "mask-unit cron\nreadlink /etc/systemd/system/cron.service\n",
        "/dev/null\n"
    ),
    customize!(
        "reset-machine-id",
        "reset_machine_id",
        "have the guest make itself a new machine id at its next start",
        "Empties /etc/machine-id, as images for many machines want it.",
        &[],
        "write /etc/machine-id \"0123\\n\"\nreset-machine-id\nfilesize /etc/machine-id\n",
        "0\n"
    ),
    customize!(
        "set-hostname",
        "set_hostname",
        "set the host name of the guest",
        "In /etc/hostname, in Debian's line of /etc/hosts, and in Red Hat's old network file if it is there.",
        &[Param::required("name", Kind::Text)],
        "set-hostname web1\ncat /etc/hostname\n",
        "web1\n\n"
    ),
    customize!(
        "set-timezone",
        "set_timezone",
        "set the time zone of the guest",
        "ZONE is a name below the guest's /usr/share/zoneinfo, like `Europe/Berlin`.",
        &[Param::required("zone", Kind::Text)],
        "mkdir-p /usr/share/zoneinfo/Europe\ntouch /usr/share/zoneinfo/Europe/Berlin\nset-timezone Europe/Berlin\n\
         readlink /etc/localtime\n",
        "../usr/share/zoneinfo/Europe/Berlin\n"
    ),
    customize!(
        "truncate-logs",
        "truncate_logs",
        "empty the logs of the guest",
        "Every file below /var/log is cut to nothing; the files stay, with their owners and modes.",
        &[],
        "mkdir-p /var/log/a\nwrite /var/log/a/b text\ntruncate-logs\nfilesize /var/log/a/b\n",
        "0\n"
    ),
];

/// The call of a function with the words as text.
fn script(function: &'static str, params: &[Param], args: &Args) -> Result<Value> {
    let text = |param: &Param| match param.kind {
        Kind::HostPath => args.host(param.name).to_string_lossy().into_owned(),
        _ => args.text(param.name),
    };
    let options = params.iter().map(|param| (param.name.to_string(), text(param))).collect();
    Ok(Value::Control(Control::Script { module: "std/customize", function, options }))
}
