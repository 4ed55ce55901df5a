//! What this program can do: feature groups, versions, file systems.

use crate::base::{Error, Result};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::commands::lookup;
use crate::fs;

/// guestfish's feature groups, each with a command that stands for it: the group is there when the command is.
const FEATURES: &[(&str, &str)] = &[
    ("acl", "acl-set-file"),
    ("blkdiscard", "blkdiscard"),
    ("blkdiscardzeroes", "blkdiscardzeroes"),
    ("btrfs", "btrfs-subvolume-create"),
    ("clevisluks", "clevis-luks-unlock"),
    ("extlinux", "extlinux"),
    ("f2fs", "f2fs-expand"),
    ("fstrim", "fstrim"),
    ("gdisk", "part-set-gpt-type"),
    ("grub", "grub-install"),
    ("hivex", "hivex-open"),
    ("inotify", "inotify-init"),
    ("journal", "journal-open"),
    ("ldm", "ldmtool-scan"),
    ("libtsk", "filesystem-walk"),
    ("libyara", "yara-scan"),
    ("linuxcaps", "cap-set-file"),
    ("linuxfsuuid", "mkswap-U"),
    ("linuxmodules", "modprobe"),
    ("linuxxattrs", "setxattr"),
    ("luks", "luks-open"),
    ("lvm2", "lvcreate"),
    ("mdadm", "md-create"),
    ("mknod", "mknod"),
    ("ntfs3g", "ntfsresize"),
    ("ntfsprogs", "ntfsclone-out"),
    ("realpath", "realpath"),
    ("rsync", "rsync"),
    ("scrub", "scrub-device"),
    ("selinux", "setcon"),
    ("selinuxrelabel", "setfiles"),
    ("sleuthkit", "download-inode"),
    ("squashfs", "mksquashfs"),
    ("syslinux", "syslinux"),
    ("wipefs", "wipefs"),
    ("xfs", "xfs-growfs"),
    ("xz", "txz-in"),
    ("zerofree", "zerofree"),
];

const GROUPS: Param = Param::required("groups", Kind::List);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "available",
        aliases: &[],
        summary: "fail unless all the named feature groups are there",
        help: "`available-all-groups` names them, `feature-available` answers instead of failing.",
        params: &[GROUPS],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "available \"acl xz\"\n-available rsync\necho ok\n",
            output: "ok\n",
        }],
        run: |_, args| {
            for name in args.list("groups") {
                let name = String::from_utf8_lossy(name);
                if !is_there(&name)? {
                    return Err(Error::unsupported(format!("the feature group '{name}' is not available"))
                        .hint("'supported' shows which groups are"));
                }
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "available-all-groups",
        aliases: &[],
        summary: "names of all feature groups",
        help: "",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "available-all-groups | head -n 2\n",
            output: "acl\nblkdiscard\n",
        }],
        run: |_, _| Ok(Value::list(FEATURES.iter().map(|(name, _)| *name))),
    },
    Command {
        name: "feature-available",
        aliases: &[],
        summary: "whether all the named feature groups are there",
        help: "",
        params: &[GROUPS],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "feature-available \"acl xz\"\nfeature-available \"acl rsync\"\n",
            output: "true\nfalse\n",
        }],
        run: |_, args| {
            let mut all = true;
            for name in args.list("groups") {
                all &= is_there(&String::from_utf8_lossy(name))?;
            }
            Ok(Value::Bool(all))
        },
    },
    Command {
        name: "filesystem-available",
        aliases: &[],
        summary: "whether a type of file system can be mounted",
        help: "",
        params: &[Param::required("filesystem", Kind::Text)],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "filesystem-available ext4\nfilesystem-available nope\n",
            output: "true\nfalse\n",
        }],
        run: |_, args| {
            let name = args.text("filesystem");
            Ok(Value::Bool(fs::DRIVERS.iter().any(|driver| driver.names.contains(&name.as_str()))))
        },
    },
    Command {
        name: "supported",
        aliases: &[],
        summary: "table of the feature groups, yes or no",
        help: "Words behind it have no effect.",
        params: &[Param::any("words", Kind::Text)],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "supported | head -n 1\n",
            output: "             acl yes\n",
        }],
        run: supported,
    },
    Command {
        name: "version",
        aliases: &[],
        summary: "version of the language and of this program",
        help: "major, minor and release are those of the libguestfs whose language is spoken; `extra` names imgsh and its own \
               version.",
        params: &[],
        returns: Returns::Struct,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "version | sed 's/: .*//'\n",
            output: "major\nminor\nrelease\nextra\n",
        }],
        run: |_, _| {
            let extra = concat!("imgsh-", env!("CARGO_PKG_VERSION"));
            Ok(Value::Struct(Record(vec![
                ("major", Field::Int(1)),
                ("minor", Field::Int(58)),
                ("release", Field::Int(0)),
                ("extra", Field::Text(extra.into())),
            ])))
        },
    },
];

fn is_there(group: &str) -> Result<bool> {
    match FEATURES.iter().find(|(name, _)| *name == group) {
        Some((_, command)) => Ok(lookup(command).is_some()),
        None => Err(Error::usage(format!("unknown feature group '{group}'")).hint("available-all-groups names them")),
    }
}

fn supported(_: &mut Context, _: &Args) -> Result<Value> {
    let width = FEATURES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut table = String::new();
    for (name, command) in FEATURES {
        let answer = if lookup(command).is_some() { "yes" } else { "no" };
        table.push_str(&format!("{name:>width$} {answer}\n"));
    }
    Ok(Value::Bytes(table.into_bytes()))
}
