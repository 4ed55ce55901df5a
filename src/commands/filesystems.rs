//! Commands on whole file systems.

use super::attributes::device_number;
use super::disk_free;
use super::writing::done;
use crate::base::{Error, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::{self, Fsid, Identity, MakeOptions};

const MOUNTABLE: Param = Param::required("mountable", Kind::Mountable);
const DEVICE: Param = Param::required("device", Kind::Device);
const FSTYPE: Param = Param::required("fstype", Kind::Text);

/// What Linux sets for every mount that was not given other options (`ST_RELATIME`).
const RELATIME: i128 = 4096;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "df",
        aliases: &[],
        summary: "use of the mounted file systems",
        help: "A table in KiB. For people: scripts use `statvfs`.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "df | awk '{ print $1, $2, $6 }'\n",
            output: "Filesystem 1K-blocks Mounted\n/dev/sda1 55925 /\n  \n",
        }],
        run: |cx, _| Ok(Value::Text(disk_free::table(&cx.session.guest, false)?)),
    },
    Command {
        name: "df-h",
        aliases: &[],
        summary: "use of the mounted file systems in readable units",
        help: "As `df`, in powers of 1024.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "df-h | awk '{ print $1, $2, $6 }'\n",
            output: "Filesystem Size Mounted\n/dev/sda1 55M /\n  \n",
        }],
        run: |cx, _| Ok(Value::Text(disk_free::table(&cx.session.guest, true)?)),
    },
    Command {
        name: "list-filesystems",
        aliases: &[],
        summary: "file systems on all devices and their types",
        help: "Superblocks decide, not partition types. `unknown` is a partition without anything known on it.",
        params: &[],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "list-filesystems\n",
            output: "/dev/sda1: vfat\n/dev/sda2: ext4\n",
        }],
        run: |cx, _| {
            let found = cx.session.file_systems()?.into_iter();
            Ok(Value::Hash(found.map(|(device, fs_type)| (device.into_bytes(), fs_type.into_bytes())).collect()))
        },
    },
    Command {
        name: "mkfs",
        aliases: &["mkfs-opts"],
        summary: "make a file system",
        help: "FSTYPE is ext2, ext3, ext4 or vfat. `blocksize` in bytes (of vfat: of a cluster), `features` as mke2fs's \
               -O takes them, `inode` size in bytes, `sectorsize` in bytes, `label`. What was on the device is gone.",
        params: &[
            FSTYPE,
            DEVICE,
            Param::optional("blocksize", Kind::Int),
            Param::optional("features", Kind::Text),
            Param::optional("inode", Kind::Int),
            Param::optional("sectorsize", Kind::Int),
            Param::optional("label", Kind::Text),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkfs ext4 /dev/sda label:data\nmount /dev/sda /\nls /\nvfs-label /dev/sda\n",
            output: "lost+found\ndata\n",
        }],
        run: mkfs,
    },
    Command {
        name: "mkfs-b",
        aliases: &[],
        summary: "make a file system with a block size",
        help: "As `mkfs` with `blocksize`.",
        params: &[FSTYPE, Param::required("blocksize", Kind::Int), DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkfs-b ext4 4096 /dev/sda\nmount /dev/sda /\nstatvfs / | grep bsize\n",
            output: "bsize: 4096\n",
        }],
        run: |cx, args| {
            let options = MakeOptions { block_size: power_of_two(args, "blocksize")?, ..make_options(cx, args) };
            make(cx, args, &options)
        },
    },
    Command {
        name: "statvfs",
        aliases: &[],
        summary: "counters of the file system that holds a path",
        help: "",
        params: &[Param::required("path", Kind::Path)],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "statvfs / | egrep 'bsize|flag|namemax'\n",
            output: "bsize: 1024\nflag: 4096\nnamemax: 255\n",
        }],
        run: statvfs,
    },
    Command {
        name: "vfs-label",
        aliases: &[],
        summary: "label of a file system",
        help: "",
        params: &[MOUNTABLE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkfs ext4 /dev/sda label:data\nvfs-label /dev/sda\n",
            output: "data\n",
        }],
        run: |cx, args| Ok(Value::text(identity(cx, &args.text("mountable"))?.label)),
    },
    Command {
        name: "vfs-type",
        aliases: &[],
        summary: "type of the file system on a device",
        help: "An empty line if nothing known is there.",
        params: &[MOUNTABLE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EspAndExt4, lines: "vfs-type /dev/sda1\n", output: "vfat\n" }],
        run: |cx, args| Ok(Value::text(identity(cx, &args.text("mountable"))?.fs_type)),
    },
    Command {
        name: "vfs-uuid",
        aliases: &["get-uuid"],
        summary: "UUID of a file system",
        help: "",
        params: &[MOUNTABLE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "vfs-uuid /dev/sda1 | tr 0-9a-f N\n",
            output: "NNNNNNNN-NNNN-NNNN-NNNN-NNNNNNNNNNNN\n",
        }],
        run: |cx, args| Ok(Value::text(identity(cx, &args.text("mountable"))?.uuid)),
    },
];

/// What is on a device; nothing known has empty fields.
pub(super) fn identity(cx: &Context, device: &str) -> Result<Identity> {
    Ok(cx.session.identify(device)?.unwrap_or_default())
}

pub(super) fn power_of_two(args: &Args, name: &str) -> Result<Option<u32>> {
    let checked = |n: i64| {
        u32::try_from(n)
            .ok()
            .filter(|n| n.is_power_of_two())
            .ok_or_else(|| Error::usage(format!("{name} {n} is not a power of two")))
    };
    args.int_if(name).map(checked).transpose()
}

/// The options that every `mkfs` has.
fn make_options(cx: &Context, args: &Args) -> MakeOptions {
    MakeOptions {
        fs_type: args.text("fstype"),
        uuid: Uuid::from_random(cx.host.random()),
        seed: cx.host.random(),
        now: cx.host.now(),
        ..MakeOptions::default()
    }
}

fn mkfs(cx: &mut Context, args: &Args) -> Result<Value> {
    let options = MakeOptions {
        block_size: power_of_two(args, "blocksize")?,
        features: args.text_if("features"),
        inode_size: power_of_two(args, "inode")?,
        sector_size: power_of_two(args, "sectorsize")?,
        label: args.text_if("label"),
        ..make_options(cx, args)
    };
    make(cx, args, &options)
}

fn make(cx: &mut Context, args: &Args, options: &MakeOptions) -> Result<Value> {
    let device = args.text("device");
    cx.session.release(&device)?;
    done(fs::make(&cx.session.device(&device)?, options).map_err(|e| e.at(device)))
}

fn statvfs(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("path");
    let info = cx.session.guest.statvfs(&path)?;
    let fsid = match info.fsid {
        Fsid::Unknown => 0,
        Fsid::Number(number) => number,
        Fsid::OfDevice => device_number(cx.session.guest.device_of(&path)?),
    };
    let read_only = info.read_only.is_some() || cx.session.guest.is_read_only(&path)?;
    let flag = if read_only { RELATIME | 1 } else { RELATIME };
    let fields: [(&'static str, i128); 11] = [
        ("bsize", info.block_size.into()),
        ("frsize", info.block_size.into()),
        ("blocks", info.blocks.into()),
        ("bfree", info.free_blocks.into()),
        ("bavail", info.available_blocks.into()),
        ("files", info.inodes.into()),
        ("ffree", info.free_inodes.into()),
        ("favail", info.free_inodes.into()),
        ("fsid", fsid.into()),
        ("flag", flag),
        ("namemax", info.name_max.into()),
    ];
    Ok(Value::Struct(Record(fields.into_iter().map(|(name, n)| (name, Field::Int(n))).collect())))
}
