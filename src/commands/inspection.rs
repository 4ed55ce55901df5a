//! Commands that find out what is installed in an image.

use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::guest::inspect;
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

/// A question about an inspected Windows, which imgsh does not find.
macro_rules! windows {
    ($name:literal, $summary:literal, $what:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: "An error for other systems; NTFS, and so Windows, is not inspected yet.",
            params: &[ROOT],
            returns: Returns::Text,
            effect: Effect::Reads,
            examples: &[Example {
                setup: Setup::Debian,
                lines: concat!("-", $name, " /dev/sda1\necho ok\n"),
                output: "ok\n",
            }],
            run: |cx, args| {
                root(cx, args)?;
                let detail = concat!("not a Windows guest, or ", $what, " could not be determined");
                Err(Error::new(ErrorKind::NotFound, detail))
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
        "inspect-get-build-id",
        "build identifier of an inspected system",
        "`unknown`: only Windows has one.",
        Returns::Text,
        "unknown\n",
        |_| Value::text("unknown")
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
        "inspect-get-drive-mappings",
        "drive letters of an inspected Windows and their devices",
        "Nothing for other systems.",
        Returns::Hash,
        "",
        |_| Value::Hash(Vec::new())
    ),
    ask!(
        "inspect-get-filesystems",
        "file systems that an inspected system uses",
        "The devices of its mount points, as `inspect-get-mountpoints` has them.",
        Returns::List,
        "/dev/sda1\n",
        |root| {
            let mut devices: Vec<String> = Vec::new();
            for (_, device) in root.mountpoints.into_iter().rev() {
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
            Value::list(devices)
        }
    ),
    ask!(
        "inspect-get-format",
        "whether a system is installed or on an installer medium",
        "`installed`.",
        Returns::Text,
        "installed\n",
        |_| Value::text("installed")
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
        "From its /etc/fstab, the last one first, with UUID= and LABEL= resolved.",
        Returns::Hash,
        "/: /dev/sda1\n",
        |root| {
            let pairs =
                root.mountpoints.into_iter().rev().map(|(mountpoint, device)| (mountpoint.0, device.into_bytes()));
            Value::Hash(pairs.collect())
        }
    ),
    ask!(
        "inspect-get-osinfo",
        "libosinfo short id of an inspected system",
        "`unknown` where libosinfo has no id.",
        Returns::Text,
        "debian12\n",
        |root| Value::text(osinfo(&root))
    ),
    Command {
        name: "inspect-get-owned-files",
        aliases: &[],
        summary: "files below a folder that packages own, and the packages",
        help: "From the databases of dpkg and rpm; of other packages there are none. At most 10000 files are listed, whether they are there or \
               not. The system must be mounted.",
        params: &[ROOT, Param::required("folder", Kind::Path)],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "mkdir-p /var/lib/dpkg/info\nwrite /var/lib/dpkg/info/tool:amd64.list \"/.\\n/opt\\n/opt/tool\\n/usr/share\\n\"\n\
                    inspect-get-owned-files /dev/sda1 /opt\n",
            output: "/opt/tool: tool\n",
        }],
        run: |cx, args| {
            let format = root(cx, args)?.package_format;
            let found = inspect::owned_files(&cx.session.guest, &format, &args.path("folder"))?;
            Ok(Value::Hash(
                found.into_iter().map(|(path, package)| (path.into_bytes(), package.into_bytes())).collect(),
            ))
        },
    },
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
        "name of an inspected system",
        "PRETTY_NAME of os-release; on Debian, as in guestfish, what /etc/debian_version says.",
        Returns::Text,
        "12.5\n",
        |root| { Value::text(root.product_name) }
    ),
    ask!(
        "inspect-get-product-variant",
        "variant of an inspected system",
        "`unknown`: only Windows has one.",
        Returns::Text,
        "unknown\n",
        |_| Value::text("unknown")
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
    windows!(
        "inspect-get-windows-current-control-set",
        "current control set of an inspected Windows",
        "current control set"
    ),
    ask!(
        "inspect-get-windows-group-policy",
        "whether an inspected Windows has group policies",
        "`false` for other systems.",
        Returns::Bool,
        "false\n",
        |_| Value::Bool(false)
    ),
    windows!("inspect-get-windows-software-hive", "the SOFTWARE hive of an inspected Windows", "SOFTWARE hive"),
    windows!("inspect-get-windows-system-hive", "the SYSTEM hive of an inspected Windows", "SYSTEM hive"),
    windows!("inspect-get-windows-systemroot", "system folder of an inspected Windows", "systemroot"),
    ask!(
        "inspect-is-live",
        "whether a system is a live medium",
        "As in guestfish now, always `false`.",
        Returns::Bool,
        "false\n",
        |_| Value::Bool(false)
    ),
    ask!(
        "inspect-is-multipart",
        "whether a system is one of several discs",
        "As in guestfish now, always `false`.",
        Returns::Bool,
        "false\n",
        |_| Value::Bool(false)
    ),
    ask!(
        "inspect-is-netinst",
        "whether a system is a network installer",
        "As in guestfish now, always `false`.",
        Returns::Bool,
        "false\n",
        |_| Value::Bool(false)
    ),
    Command {
        name: "inspect-list-applications",
        aliases: &[],
        summary: "packages of an inspected system, in the old form",
        help: "As `inspect-list-applications2`, with fewer fields.",
        params: &[ROOT],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "write /var/lib/dpkg/status \"Package: sed\\nStatus: install ok installed\\nVersion: 4.9-1\\n\"\n\
                    inspect-list-applications /dev/sda1 | egrep 'name|version|release'\n",
            output: "  app_name: sed\n  app_display_name: \n  app_version: 4.9\n  app_release: 1\n",
        }],
        run: |cx, args| list_applications(cx, args, OLD_FIELDS),
    },
    Command {
        name: "inspect-list-applications2",
        aliases: &[],
        summary: "packages of an inspected system",
        help: "From the databases of dpkg, rpm (SQLite, Berkeley DB, ndb), apk and pacman, sorted by name. The system must be \
               mounted.",
        params: &[ROOT],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Debian,
            lines: "write /var/lib/dpkg/status \"Package: sed\\nStatus: install ok installed\\nVersion: 4.9-1\\n\"\n\
                    inspect-list-applications2 /dev/sda1 | egrep 'name|version|release'\n",
            output: "  app2_name: sed\n  app2_display_name: \n  app2_version: 4.9\n  app2_release: 1\n",
        }],
        run: |cx, args| list_applications(cx, args, FIELDS),
    },
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

/// What a field of a record holds.
#[derive(Clone, Copy)]
enum Column {
    Name,
    Epoch,
    Version,
    Release,
    Arch,
    Url,
    Source,
    Summary,
    Description,
    Nothing,
}

/// As guestfish fills them from dpkg: what it leaves empty stays empty.
const OLD_FIELDS: &[(&str, Column)] = &[
    ("app_name", Column::Name),
    ("app_display_name", Column::Nothing),
    ("app_epoch", Column::Epoch),
    ("app_version", Column::Version),
    ("app_release", Column::Release),
    ("app_install_path", Column::Nothing),
    ("app_trans_path", Column::Nothing),
    ("app_publisher", Column::Nothing),
    ("app_url", Column::Url),
    ("app_source_package", Column::Source),
    ("app_summary", Column::Summary),
    ("app_description", Column::Description),
];
const FIELDS: &[(&str, Column)] = &[
    ("app2_name", Column::Name),
    ("app2_display_name", Column::Nothing),
    ("app2_epoch", Column::Epoch),
    ("app2_version", Column::Version),
    ("app2_release", Column::Release),
    ("app2_arch", Column::Arch),
    ("app2_install_path", Column::Nothing),
    ("app2_trans_path", Column::Nothing),
    ("app2_publisher", Column::Nothing),
    ("app2_url", Column::Url),
    ("app2_source_package", Column::Source),
    ("app2_summary", Column::Summary),
    ("app2_description", Column::Description),
    ("app2_spare1", Column::Nothing),
    ("app2_spare2", Column::Nothing),
    ("app2_spare3", Column::Nothing),
    ("app2_spare4", Column::Nothing),
];

fn list_applications(cx: &mut Context, args: &Args, fields: &[(&'static str, Column)]) -> Result<Value> {
    let format = root(cx, args)?.package_format;
    let record = |app: inspect::Application| {
        let value = |column: &Column| match column {
            Column::Name => Field::Text(app.name.clone().into_bytes()),
            Column::Epoch => Field::Int(app.epoch.into()),
            Column::Version => Field::Text(app.version.clone().into_bytes()),
            Column::Release => Field::Text(app.release.clone().into_bytes()),
            Column::Arch => Field::Text(app.arch.clone().into_bytes()),
            Column::Url => Field::Text(app.url.clone().into_bytes()),
            Column::Source => Field::Text(app.source.clone().into_bytes()),
            Column::Summary => Field::Text(app.summary.clone().into_bytes()),
            Column::Description => Field::Text(app.description.clone().into_bytes()),
            Column::Nothing => Field::Text(Vec::new()),
        };
        Record(fields.iter().map(|(name, column)| (*name, value(column))).collect())
    };
    let found = inspect::applications(&cx.session.guest, &format)?;
    Ok(Value::Structs(found.into_iter().map(record).collect()))
}

/// libosinfo's short id as guestfish makes it up, most often name and version.
fn osinfo(root: &Root) -> String {
    let (major, minor) = (root.major, root.minor);
    match root.distro.as_str() {
        name @ ("archlinux" | "gentoo" | "unknown") => name.to_string(),
        // A testing system.
        "debian" if major == 0 => "unknown".to_string(),
        name if (major, minor) == (0, 0) => name.to_string(),
        name @ ("debian" | "fedora" | "mageia" | "rocky" | "almalinux") => format!("{name}{major}"),
        "altlinux" => format!("alt{major}.{minor}"),
        "centos" if major >= 8 => format!("centos{major}"),
        "centos" if major == 7 => "centos7.0".to_string(),
        "sles" if minor > 0 => format!("sles{major}sp{minor}"),
        "sles" => format!("sles{major}"),
        "ubuntu" => format!("ubuntu{major}.{minor:02}"),
        name => format!("{name}{major}.{minor}"),
    }
}
