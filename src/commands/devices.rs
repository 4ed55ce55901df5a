//! Commands on names of devices and on what the kernel would know of them.

use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

const DEVICE: Param = Param::required("device", Kind::Device);
const NAME: Param = Param::required("device", Kind::Text);
const UUID: Param = Param::required("uuid", Kind::Text);
const LABEL: Param = Param::required("label", Kind::Text);

/// Where udev's names for devices are.
const LINKS: &str = "/dev/disk/";

/// As many as the kernel's names for disks go on.
const DISKS_MAX: i64 = 255;

/// A search for a device by what is written on it.
macro_rules! find {
    ($name:literal, $summary:literal, $param:expr, $tag:literal, $setup:expr, $lines:literal, $output:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: "No such device is an error.",
            params: &[$param],
            returns: Returns::Text,
            effect: Effect::Reads,
            examples: &[Example { setup: $setup, lines: $lines, output: $output }],
            run: |cx, args| find(cx, $tag, &args.text($param.name)),
        }
    };
}

/// Something that only a kernel has: read and answered, without an effect.
macro_rules! kernel {
    ($name:literal, $summary:literal, $help:literal, $params:expr, $lines:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: $params,
            returns: Returns::Nothing,
            effect: Effect::Reads,
            examples: &[Example { setup: Setup::EmptyDisk, lines: $lines, output: "" }],
            run: |cx, args| cx.session.device(&args.text("device")).map(|_| Value::Nothing),
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    kernel!(
        "blockdev-flushbufs",
        "flush the buffers of a device",
        "Only the device's name is checked: there are no buffers of a kernel. `sync` commits.",
        &[DEVICE],
        "blockdev-flushbufs /dev/sda\n"
    ),
    Command {
        name: "blockdev-getbsz",
        aliases: &[],
        summary: "block size of a device in bytes",
        help: "What Linux answers for a device that nothing has changed: the largest power of two that divides its size, from 512 to 4096.",
        params: &[DEVICE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-getbsz /dev/sda\n", output: "4096\n" }],
        run: |cx, args| {
            let bits = cx.session.device(&args.text("device"))?.len().trailing_zeros();
            Ok(Value::Int(1 << bits.clamp(9, 12)))
        },
    },
    Command {
        name: "blockdev-rereadpt",
        aliases: &[],
        summary: "read the partition table of a device again",
        help: "Only the device is checked, which must be a whole disk: imgsh always sees the table as it is.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-rereadpt /dev/sda\n", output: "" }],
        run: |cx, args| match cx.session.devices().contains(&args.text("device")) {
            true => Ok(Value::Nothing),
            false => Err(Error::new(ErrorKind::Invalid, "ioctl error on BLKRRPART: Invalid argument")
                .at(args.text("device"))
                .hint("only a whole disk has a partition table")),
        },
    },
    kernel!(
        "blockdev-setbsz",
        "set the block size of a device",
        "Only the device's name is checked: the setting is a kernel's, and no longer has an effect there either.",
        &[DEVICE, Param::required("blocksize", Kind::Int)],
        "blockdev-setbsz /dev/sda 4096\n"
    ),
    kernel!(
        "blockdev-setra",
        "set the read-ahead of a device",
        "Only the device's name is checked: the setting is a kernel's.",
        &[DEVICE, Param::required("sectors", Kind::Int)],
        "blockdev-setra /dev/sda 1024\n"
    ),
    Command {
        name: "blockdev-setro",
        aliases: &[],
        summary: "make a device read-only",
        help: "Until `blockdev-setrw` or the end of the session. A disk makes its partitions read-only too. What is mounted \
               stays as it is.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "blockdev-setro /dev/sda\nblockdev-getro /dev/sda\n-zero-device /dev/sda\n",
            output: "true\n",
        }],
        run: |cx, args| done(cx.launched()?.set_read_only(&args.text("device"), true)),
    },
    Command {
        name: "blockdev-setrw",
        aliases: &[],
        summary: "make a device writable again",
        help: "Takes back `blockdev-setro`.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "blockdev-setro /dev/sda\nblockdev-setrw /dev/sda\nblockdev-getro /dev/sda\n",
            output: "false\n",
        }],
        run: |cx, args| done(cx.launched()?.set_read_only(&args.text("device"), false)),
    },
    Command {
        name: "canonical-device-name",
        aliases: &[],
        summary: "usual spelling of a device name",
        help: "/dev/vda1 and /dev/hda1 are /dev/sda1, /dev/mapper/vg-root is /dev/vg/root. Other names, also those below /dev/disk, stay \
               as they are; the device need not be there.",
        params: &[NAME],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "canonical-device-name /dev/vda1\ncanonical-device-name /dev/md127\n",
            output: "/dev/sda1\n/dev/md127\n",
        }],
        run: |cx, args| {
            let name = args.text("device");
            if name.starts_with(LINKS) {
                return Ok(Value::text(name));
            }
            if let Ok(found) = cx.session.canonical(&name) {
                return Ok(Value::text(found));
            }
            let disk = ["hd", "vd", "xvd"].iter().find_map(|prefix| name.strip_prefix("/dev/")?.strip_prefix(prefix));
            let is_disk = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_lowercase());
            Ok(Value::text(disk.filter(is_disk).map_or(name.clone(), |rest| format!("/dev/sd{rest}"))))
        },
    },
    Command {
        name: "device-index",
        aliases: &[],
        summary: "number of a disk",
        help: "0 for /dev/sda. Names below /dev/disk are not looked up.",
        params: &[NAME],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "device-index /dev/sda\n", output: "0\n" }],
        run: |cx, args| {
            let name = args.text("device");
            if name.starts_with(LINKS) {
                return Err(Error::new(ErrorKind::NotFound, "device not found").at(name).hint("give it as /dev/sda"));
            }
            Ok(Value::Int(cx.session.disk_index(&cx.session.canonical(&name)?)? as i64))
        },
    },
    Command {
        name: "device-name",
        aliases: &[],
        summary: "name of a disk by its number",
        help: "/dev/sda for 0.",
        params: &[Param::required("index", Kind::Int)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "device-name 0\n", output: "/dev/sda\n" }],
        run: |cx, args| {
            let devices = cx.session.devices();
            let found = usize::try_from(args.int("index")).ok().and_then(|index| devices.get(index).cloned());
            found.map(Value::text).ok_or_else(|| Error::usage(format!("{}: index out of range", args.int("index"))))
        },
    },
    find!(
        "findfs-label",
        "device of the file system with a label",
        LABEL,
        "LABEL",
        Setup::EmptyDisk,
        "mkfs ext4 /dev/sda label:data\nfindfs-label data\n",
        "/dev/sda\n"
    ),
    find!(
        "findfs-partlabel",
        "device of the GPT partition with a name",
        LABEL,
        "PARTLABEL",
        Setup::EspAndExt4,
        "part-set-name /dev/sda 2 root\nfindfs-partlabel root\n",
        "/dev/sda2\n"
    ),
    find!(
        "findfs-partuuid",
        "device of the partition with a UUID",
        UUID,
        "PARTUUID",
        Setup::EspAndExt4,
        "part-set-gpt-guid /dev/sda 2 01234567-89ab-cdef-0123-456789abcdef\n\
         findfs-partuuid 01234567-89ab-cdef-0123-456789abcdef\n",
        "/dev/sda2\n"
    ),
    find!(
        "findfs-uuid",
        "device of the file system with a UUID",
        UUID,
        "UUID",
        Setup::EmptyDisk,
        "mkswap /dev/sda uuid:8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\nfindfs-uuid 8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\n",
        "/dev/sda\n"
    ),
    Command {
        name: "is-lv",
        aliases: &[],
        summary: "whether a device is a logical volume",
        help: "",
        params: &[Param::required("mountable", Kind::Mountable)],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "pvcreate /dev/sda\nvgcreate vg /dev/sda\nlvcreate root vg 20\nis-lv /dev/vg/root\nis-lv /dev/sda\n",
            output: "true\nfalse\n",
        }],
        run: |cx, args| {
            let name = args.text("mountable");
            let found = cx.session.logical_volume(&name)?.is_some();
            if !found && !name.starts_with("btrfsvol:") {
                cx.session.device(&name)?;
            }
            Ok(Value::Bool(found))
        },
    },
    Command {
        name: "is-whole-device",
        aliases: &[],
        summary: "whether a device is a disk, not a partition",
        help: "",
        params: &[DEVICE],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "is-whole-device /dev/sda\nis-whole-device /dev/sda1\n",
            output: "true\nfalse\n",
        }],
        run: |cx, args| Ok(Value::Bool(cx.session.devices().contains(&args.text("device")))),
    },
    Command {
        name: "list-disk-labels",
        aliases: &[],
        summary: "labels given to disks, and their devices",
        help: "Those of `add-drive` with `label`; /dev/disk/guestfs/LABEL names the same device.",
        params: &[],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create a.img raw 1M\nadd a.img label:boot\nrun\nlist-disk-labels\n",
            output: "boot: /dev/sda\n",
        }],
        run: list_disk_labels,
    },
    Command {
        name: "list-dm-devices",
        aliases: &[],
        summary: "device-mapper devices other than logical volumes",
        help: "Encrypted volumes that are open.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Encrypted,
            lines: "luks-open /dev/sda data\nlist-dm-devices\n",
            output: "/dev/mapper/data\n",
        }],
        run: |cx, _| Ok(Value::list(cx.session.mapped_devices())),
    },
    Command {
        name: "list-ldm-partitions",
        aliases: &[],
        summary: "partitions of Windows dynamic disks",
        help: "There are none: dynamic disks are not assembled.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "list-ldm-partitions\n", output: "" }],
        run: |_, _| Ok(Value::List(Vec::new())),
    },
    Command {
        name: "list-ldm-volumes",
        aliases: &[],
        summary: "volumes of Windows dynamic disks",
        help: "There are none: dynamic disks are not assembled.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "list-ldm-volumes\n", output: "" }],
        run: |_, _| Ok(Value::List(Vec::new())),
    },
    Command {
        name: "list-md-devices",
        aliases: &[],
        summary: "software RAID devices",
        help: "There are none: RAID sets are not assembled. Their members show as `linux_raid_member`.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "list-md-devices\n", output: "" }],
        run: |_, _| Ok(Value::List(Vec::new())),
    },
    Command {
        name: "max-disks",
        aliases: &[],
        summary: "how many disks may be attached",
        help: "",
        params: &[],
        returns: Returns::Int,
        effect: Effect::Host,
        examples: &[Example { setup: Setup::Nothing, lines: "max-disks\n", output: "255\n" }],
        run: |_, _| Ok(Value::Int(DISKS_MAX)),
    },
    Command {
        name: "nr-devices",
        aliases: &[],
        summary: "how many disks are attached",
        help: "",
        params: &[],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "nr-devices\n", output: "1\n" }],
        run: |cx, _| Ok(Value::Int(cx.session.devices().len() as i64)),
    },
];

fn find(cx: &mut Context, tag: &str, value: &str) -> Result<Value> {
    match cx.session.find(tag, value)? {
        Some(device) => Ok(Value::text(device)),
        None => Err(Error::new(ErrorKind::NotFound, format!("unable to resolve '{tag}={value}'"))
            .hint("list-filesystems, vfs-label, vfs-uuid and part-list show what is there")),
    }
}

fn list_disk_labels(cx: &mut Context, _: &Args) -> Result<Value> {
    let mut pairs = Vec::new();
    let partitions = cx.session.partitions()?;
    for (label, disk) in cx.session.labels() {
        for partition in &partitions {
            if let Some(number) = partition.strip_prefix(&disk).filter(|n| n.bytes().all(|b| b.is_ascii_digit())) {
                pairs.push((format!("{label}{number}").into_bytes(), partition.clone().into_bytes()));
            }
        }
        pairs.push((label.into_bytes(), disk.into_bytes()));
    }
    pairs.sort();
    Ok(Value::Hash(pairs))
}
