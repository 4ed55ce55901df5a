//! Commands that find out what is installed in an image.

use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::session::Root;

const ROOT: Param = Param::required("root", Kind::Mountable);

/// A question about one inspected root.
macro_rules! ask {
    ($name:literal, $summary:literal, $help:literal, $returns:expr, $output:literal, $answer:expr) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: &[ROOT],
            returns: $returns,
            effect: Effect::Reads,
            examples: &[Example { setup: Setup::Debian, lines: concat!($name, " /dev/sda1\n"), output: $output }],
            run: |cx, args| {
                let answer: fn(Root) -> Value = $answer;
                root(cx, args).map(answer)
            },
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    ask!(
        "inspect-get-arch",
        "processor architecture of an inspected system",
        "As /bin/ls or another program of the system says; `unknown` without one.",
        Returns::Text,
        "unknown\n",
        |root| Value::text(root.arch)
    ),
    ask!(
        "inspect-get-distro",
        "distribution of an inspected system",
        "The short word: `debian`, `ubuntu`, `fedora`, ...",
        Returns::Text,
        "debian\n",
        |root| Value::text(root.distro)
    ),
    ask!(
        "inspect-get-filesystems",
        "file systems that an inspected system uses",
        "The devices of its mount points, sorted.",
        Returns::List,
        "/dev/sda1\n",
        |root| {
            let mut devices: Vec<String> = root.mountpoints.into_iter().map(|(_, device)| device).collect();
            devices.push(root.device);
            devices.sort();
            devices.dedup();
            Value::list(devices)
        }
    ),
    ask!(
        "inspect-get-hostname",
        "host name of an inspected system",
        "`unknown` if none was found.",
        Returns::Text,
        "box\n",
        |root| Value::text(root.hostname)
    ),
    ask!(
        "inspect-get-major-version",
        "major version of an inspected system",
        "0 if it is not known.",
        Returns::Int,
        "12\n",
        |root| Value::Int(root.major)
    ),
    ask!(
        "inspect-get-minor-version",
        "minor version of an inspected system",
        "0 if it is not known.",
        Returns::Int,
        "5\n",
        |root| Value::Int(root.minor)
    ),
    ask!(
        "inspect-get-mountpoints",
        "mount points of an inspected system and their devices",
        "From its /etc/fstab, with UUID= and LABEL= resolved.",
        Returns::Hash,
        "/: /dev/sda1\n",
        |root| {
            let pairs = root.mountpoints.into_iter().map(|(mountpoint, device)| (mountpoint.0, device.into_bytes()));
            Value::Hash(pairs.collect())
        }
    ),
    ask!(
        "inspect-get-package-format",
        "package format of an inspected system",
        "`deb`, `rpm`, ... or `unknown`.",
        Returns::Text,
        "deb\n",
        |root| Value::text(root.package_format)
    ),
    ask!(
        "inspect-get-package-management",
        "package manager of an inspected system",
        "`apt`, `dnf`, ... or `unknown`.",
        Returns::Text,
        "apt\n",
        |root| Value::text(root.package_management)
    ),
    ask!(
        "inspect-get-product-name",
        "full name of an inspected system",
        "",
        Returns::Text,
        "Debian GNU/Linux 12\n",
        |root| { Value::text(root.product_name) }
    ),
    Command {
        name: "inspect-get-roots",
        aliases: &[],
        summary: "root file systems of the operating systems found",
        help: "As `inspect-os`.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Debian, lines: "inspect-get-roots\n", output: "/dev/sda1\n" }],
        run: roots,
    },
    ask!(
        "inspect-get-type",
        "kind of an inspected system",
        "`linux`, or `unknown`.",
        Returns::Text,
        "linux\n",
        |root| Value::text(root.os_type)
    ),
    Command {
        name: "inspect-os",
        aliases: &[],
        summary: "find the operating systems on the disks",
        help: "Prints their root file systems; nothing for a disk without one. What is mounted stays mounted.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[
            Example { setup: Setup::Debian, lines: "inspect-os\n", output: "/dev/sda1\n" },
            Example { setup: Setup::Ext4, lines: "inspect-os\n", output: "" },
        ],
        run: roots,
    },
];

fn roots(cx: &mut Context, _: &Args) -> Result<Value> {
    Ok(Value::list(cx.session.inspect()?.into_iter().map(|root| root.device)))
}

fn root(cx: &mut Context, args: &Args) -> Result<Root> {
    let device = args.text("root");
    cx.session.inspect()?.into_iter().find(|root| root.device == device).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no operating system was found here")
            .at(device)
            .hint("inspect-os lists the roots")
    })
}
