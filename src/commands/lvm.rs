//! Commands that make and change LVM's physical volumes, groups and logical volumes.

use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::session::volume_name;
use crate::volume::lvm::{self, Allocation, Id, Stamp};

pub(super) const DEVICE: Param = Param::required("device", Kind::Device);
pub(super) const VGNAME: Param = Param::required("vgname", Kind::Text);
const ACTIVATE: Param = Param::required("activate", Kind::Bool);

/// The lines of an example, after a group `vg` of one disk with the volume `root` was made.
macro_rules! example {
    ($lines:expr, $output:expr) => {
        &[Example {
            setup: Setup::EmptyDisk,
            lines: concat!("pvcreate /dev/sda\nvgcreate vg /dev/sda\nlvcreate root vg 20\n", $lines),
            output: $output,
        }]
    };
}
pub(super) use example;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "lvcreate",
        aliases: &[],
        summary: "make a logical volume of a size in MiB",
        help: "The size is rounded up to whole extents. The volume lies in one piece where the group has room for that.",
        params: &[
            Param::required("logvol", Kind::Text),
            Param::required("volgroup", Kind::Text),
            Param::required("mbytes", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvcreate swap vg 10\nblockdev-getsize64 /dev/vg/swap\n", "12582912\n"),
        run: |cx, args| create(cx, args, mebibytes(args)?),
    },
    Command {
        name: "lvcreate-free",
        aliases: &[],
        summary: "make a logical volume of a part of what is free",
        help: "PERCENT of the group's free extents, rounded down.",
        params: &[
            Param::required("logvol", Kind::Text),
            Param::required("volgroup", Kind::Text),
            Param::required("percent", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvcreate-free rest vg 100\nblockdev-getsize64 /dev/vg/rest\n", "41943040\n"),
        run: |cx, args| create(cx, args, percent(args)?),
    },
    Command {
        name: "lvm-clear-filter",
        aliases: &[],
        summary: "let LVM see all devices",
        help: "It always does.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: example!("lvm-clear-filter\nlvs\n", "/dev/vg/root\n"),
        run: |_, _| Ok(Value::Nothing),
    },
    Command {
        name: "lvm-remove-all",
        aliases: &[],
        summary: "remove all logical volumes, volume groups and physical volumes",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvm-remove-all\npvs\n", ""),
        run: |cx, _| {
            let names: Vec<String> = cx.session.lvm()?.groups.iter().map(|group| group.name.clone()).collect();
            for name in names {
                remove_group(cx, &name)?;
            }
            let devices: Vec<String> = cx.session.lvm()?.physical.iter().map(|pv| pv.name.clone()).collect();
            for device in devices {
                remove_physical(cx, &device)?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "lvm-scan",
        aliases: &["vgscan"],
        summary: "look for logical volumes again",
        help: "Nothing needs it: LVM is read anew after every change, and all its volumes are active.",
        params: &[Param::maybe("activate", Kind::Bool)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: example!("lvm-scan true\nlvs\n", "/dev/vg/root\n"),
        run: |_, _| Ok(Value::Nothing),
    },
    Command {
        name: "lvm-set-filter",
        aliases: &[],
        summary: "accepted: LVM sees all devices",
        help: "Nothing is changed; the devices must be there. Volumes of the other devices stay visible.",
        params: &[Param::required("devices", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: example!("lvm-set-filter /dev/sda\nlvs\n", "/dev/vg/root\n"),
        run: |cx, args| {
            for name in args.list("devices") {
                cx.session.device(&cx.session.canonical(&String::from_utf8_lossy(name))?)?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "lvremove",
        aliases: &[],
        summary: "remove a logical volume, or all of a group",
        help: "DEVICE is `/dev/VG/LV`, or `/dev/VG` for all its volumes.",
        params: &[Param::required("device", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvremove /dev/vg/root\nlvs\n", ""),
        run: |cx, args| {
            let device = args.text("device");
            let names = match device.strip_prefix("/dev/") {
                Some(group) if cx.session.lvm()?.group(group).is_ok() => volumes_of(cx, group)?,
                _ => vec![logical(cx, &device)?],
            };
            for (group, volume) in names {
                cx.session.release(&volume_name(&group, &volume))?;
                cx.session.lvm()?.remove_volume(&group, &volume, stamp(cx, "lvremove"))?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "lvrename",
        aliases: &[],
        summary: "rename a logical volume",
        help: "Both names are `/dev/VG/LV`; the second one may be the new name alone. What is mounted stays mounted.",
        params: &[Param::required("logvol", Kind::Text), Param::required("newlogvol", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvrename /dev/vg/root /dev/vg/home\nlvs\n", "/dev/vg/home\n"),
        run: |cx, args| {
            let from = args.text("logvol");
            // VG/LV will do, as LVM has it.
            let from = if from.contains('/') && !from.starts_with('/') { format!("/dev/{from}") } else { from };
            let (group, volume) = logical(cx, &from)?;
            let to = args.text("newlogvol");
            let name = match to.strip_prefix("/dev/").unwrap_or(&to).split_once('/') {
                None => to.as_str(),
                Some((same, name)) if same == group => name,
                Some(_) => return Err(Error::usage("a logical volume stays in its group").at(to)),
            };
            cx.session.lvm()?.rename_volume(&group, &volume, name, stamp(cx, "lvrename"))?;
            cx.session.renamed(&volume_name(&group, &volume), &volume_name(&group, name));
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "lvresize",
        aliases: &[],
        summary: "set the size of a logical volume in MiB",
        help: "Rounded up to whole extents. What is on it is not told: grow a file system after its volume, shrink it before. A volume \
               may grow while it is mounted, not shrink.",
        params: &[DEVICE, Param::required("mbytes", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvresize /dev/vg/root 40\nblockdev-getsize64 /dev/vg/root\n", "41943040\n"),
        run: |cx, args| resize(cx, &args.text("device"), mebibytes(args)?),
    },
    Command {
        name: "lvresize-free",
        aliases: &[],
        summary: "grow a logical volume by a part of what is free",
        help: "By PERCENT of the group's free extents, rounded up. It may be mounted.",
        params: &[Param::required("lv", Kind::Device), Param::required("percent", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("lvresize-free /dev/vg/root 100\nblockdev-getsize64 /dev/vg/root\n", "62914560\n"),
        run: |cx, args| resize(cx, &args.text("lv"), percent(args)?),
    },
    Command {
        name: "pvchange-uuid",
        aliases: &[],
        summary: "give a physical volume a new UUID",
        help: "",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("pvchange-uuid /dev/sda\nlvs\n", "/dev/vg/root\n"),
        run: |cx, args| change_physical_id(cx, &args.text("device")),
    },
    Command {
        name: "pvchange-uuid-all",
        aliases: &[],
        summary: "give all physical volumes new UUIDs",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("pvchange-uuid-all\npvs\n", "/dev/sda\n"),
        run: |cx, _| {
            let names: Vec<String> = cx.session.lvm()?.physical.iter().map(|pv| pv.name.clone()).collect();
            for name in names {
                change_physical_id(cx, &name)?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "pvcreate",
        aliases: &[],
        summary: "make a device a physical volume of LVM",
        help: "What was on the device is gone. A device that belongs to a volume group is refused, and a disk with partitions.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-disk /dev/sda mbr\npvcreate /dev/sda1\npvs\nvfs-type /dev/sda1\n",
            output: "/dev/sda1\nLVM2_member\n",
        }],
        run: |cx, args| {
            let name = args.text("device");
            refuse_member(cx, &name)?;
            refuse_partitioned(cx, &name)?;
            done(make_physical(cx, &name))
        },
    },
    Command {
        name: "pvremove",
        aliases: &[],
        summary: "make a physical volume a plain device again",
        help: "Only one that belongs to no volume group.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("vgremove vg\npvremove /dev/sda\npvs\n", ""),
        run: |cx, args| remove_physical(cx, &args.text("device")),
    },
    Command {
        name: "pvresize",
        aliases: &[],
        summary: "fit a physical volume to its device",
        help: "After the partition grew: the group has more free extents then, for lvresize. Smaller only if no volume has extents behind the \
               new end.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!(
            "pvresize-size /dev/sda 33554432\npvresize /dev/sda\npvs-full | grep pv_pe_count\n",
            "  pv_pe_count: 15\n"
        ),
        run: |cx, args| done(cx.session.lvm()?.resize_physical(&args.text("device"), None, stamp(cx, "pvresize"))),
    },
    Command {
        name: "pvresize-size",
        aliases: &[],
        summary: "set the size of a physical volume in bytes",
        help: "Before its partition is made shorter: extents behind the new end must be free.",
        params: &[DEVICE, Param::required("size", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("pvresize-size /dev/sda 33554432\npvs-full | grep pv_pe_count\n", "  pv_pe_count: 7\n"),
        run: |cx, args| {
            let size = u64::try_from(args.int("size")).map_err(|_| Error::usage("a size cannot be negative"))?;
            done(cx.session.lvm()?.resize_physical(&args.text("device"), Some(size), stamp(cx, "pvresize-size")))
        },
    },
    Command {
        name: "vg-activate",
        aliases: &[],
        summary: "activate volume groups, or deactivate them",
        help: "Accepted for guestfish's scripts: volumes are always active. The groups must be there.",
        params: &[ACTIVATE, Param::required("volgroups", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: example!("vg-activate true vg\nlvs\n", "/dev/vg/root\n"),
        run: |cx, args| {
            let lvm = cx.session.lvm()?;
            for name in args.list("volgroups") {
                lvm.group(&String::from_utf8_lossy(name))?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "vg-activate-all",
        aliases: &[],
        summary: "activate all volume groups, or deactivate them",
        help: "Accepted for guestfish's scripts: volumes are always active.",
        params: &[ACTIVATE],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: example!("vg-activate-all false\nlvs\n", "/dev/vg/root\n"),
        run: |_, _| Ok(Value::Nothing),
    },
    Command {
        name: "vgchange-uuid",
        aliases: &[],
        summary: "give a volume group a new UUID",
        help: "",
        params: &[Param::required("vg", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("vgchange-uuid vg\nlvs\n", "/dev/vg/root\n"),
        run: |cx, args| {
            let id = new_id(cx);
            done(cx.session.lvm()?.change_group_id(&args.text("vg"), id, stamp(cx, "vgchange-uuid")))
        },
    },
    Command {
        name: "vgchange-uuid-all",
        aliases: &[],
        summary: "give all volume groups new UUIDs",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("vgchange-uuid-all\nvgs\n", "vg\n"),
        run: |cx, _| {
            let lvm = cx.session.lvm()?;
            for group in &lvm.groups {
                let id = new_id(cx);
                lvm.change_group_id(&group.name, id, stamp(cx, "vgchange-uuid-all"))?;
            }
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "vgcreate",
        aliases: &[],
        summary: "make a volume group of physical volumes",
        help: "Its extents have 4 MiB. A device with nothing on it is made a physical volume by the way.",
        params: &[Param::required("volgroup", Kind::Text), Param::required("physvols", Kind::List)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "pvcreate /dev/sda\nvgcreate vg /dev/sda\nvgs\n",
            output: "vg\n",
        }],
        run: |cx, args| {
            let canonical = |name: &Vec<u8>| cx.session.canonical(&String::from_utf8_lossy(name));
            let devices = args.list("physvols").iter().map(canonical).collect::<Result<Vec<String>>>()?;
            for device in &devices {
                // A device with nothing on it is made a physical volume by the way.
                let empty = cx.session.identify(device)?.is_none();
                if empty && cx.session.lvm()?.physical.iter().all(|pv| pv.name != *device) {
                    refuse_partitioned(cx, device)?;
                    make_physical(cx, device)?;
                }
            }
            let id = new_id(cx);
            done(cx.session.lvm()?.create_group(&args.text("volgroup"), &devices, id, stamp(cx, "vgcreate")))
        },
    },
    Command {
        name: "vgremove",
        aliases: &[],
        summary: "remove a volume group with all its volumes",
        help: "Its physical volumes stay.",
        params: &[VGNAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("vgremove vg\nvgs\npvs\n", "/dev/sda\n"),
        run: |cx, args| remove_group(cx, &args.text("vgname")),
    },
    Command {
        name: "vgrename",
        aliases: &[],
        summary: "rename a volume group",
        help: "What is mounted stays mounted.",
        params: &[Param::required("volgroup", Kind::Text), Param::required("newvolgroup", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: example!("vgrename vg data\nlvs\n", "/dev/data/root\n"),
        run: |cx, args| {
            let (from, to) = (args.text("volgroup"), args.text("newvolgroup"));
            let volumes = volumes_of(cx, &from)?;
            cx.session.lvm()?.rename_group(&from, &to, stamp(cx, "vgrename"))?;
            for (_, volume) in volumes {
                cx.session.renamed(&volume_name(&from, &volume), &volume_name(&to, &volume));
            }
            Ok(Value::Nothing)
        },
    },
];

fn stamp<'a>(cx: &Context, command: &'a str) -> Stamp<'a> {
    Stamp { now: cx.host.now(), command }
}

fn new_id(cx: &Context) -> Id {
    Id::from_random([cx.host.random(), cx.host.random()])
}

fn mebibytes(args: &Args) -> Result<Allocation> {
    let size = args.int("mbytes");
    match u64::try_from(size) {
        Ok(size @ 1..) => Ok(Allocation::Bytes(size << 20)),
        _ => Err(Error::usage(format!("a size of {size} MiB"))),
    }
}

fn percent(args: &Args) -> Result<Allocation> {
    match args.int("percent") {
        percent @ 1..=100 => Ok(Allocation::FreePercent(percent as u64)),
        percent => Err(Error::usage(format!("{percent} is no percentage between 1 and 100"))),
    }
}

/// Group and name of a logical volume that must be there.
pub(super) fn logical(cx: &Context, name: &str) -> Result<(String, String)> {
    cx.session
        .logical_volume(name)?
        .ok_or_else(|| Error::from(ErrorKind::NotFound).at(name).hint("lvs lists the logical volumes"))
}

fn create(cx: &mut Context, args: &Args, size: Allocation) -> Result<Value> {
    let (group, name, id) = (args.text("volgroup"), args.text("logvol"), new_id(cx));
    cx.session.lvm()?.create_volume(&group, &name, size, id, stamp(cx, "lvcreate"))?;
    done(lvm::wipe(&cx.session.device(&volume_name(&group, &name))?))
}

fn resize(cx: &mut Context, device: &str, size: Allocation) -> Result<Value> {
    let (group, volume) = logical(cx, device)?;
    let now = stamp(cx, "lvresize");
    done(cx.session.resize_logical(device, |lvm| lvm.resize_volume(&group, &volume, size, now)))
}

/// Group and name of each visible volume of a group.
fn volumes_of(cx: &Context, group: &str) -> Result<Vec<(String, String)>> {
    let lvm = cx.session.lvm()?;
    let of_group = lvm.volumes().filter(|(found, _)| found.name == group);
    Ok(of_group.map(|(found, volume)| (found.name.clone(), volume.name.clone())).collect())
}

/// Closes what is open on the volumes of a group.
fn release_group(cx: &mut Context, group: &str) -> Result<()> {
    for (group, volume) in volumes_of(cx, group)? {
        cx.session.release(&volume_name(&group, &volume))?;
    }
    Ok(())
}

fn remove_group(cx: &mut Context, name: &str) -> Result<Value> {
    release_group(cx, name)?;
    done(cx.session.lvm()?.remove_group(name))
}

fn remove_physical(cx: &mut Context, device: &str) -> Result<Value> {
    cx.session.release(device)?;
    done(cx.session.lvm()?.remove_physical(device))
}

fn change_physical_id(cx: &mut Context, device: &str) -> Result<Value> {
    let id = new_id(cx);
    done(cx.session.lvm()?.change_physical_id(device, id, stamp(cx, "pvchange-uuid")))
}

fn refuse_member(cx: &Context, device: &str) -> Result<()> {
    let lvm = cx.session.lvm()?;
    let pv = lvm.physical.iter().find(|pv| pv.name == device);
    match pv.and_then(|pv| pv.group).and_then(|group| lvm.groups.get(group)) {
        Some(group) => Err(Error::new(ErrorKind::Busy, format!("it belongs to volume group '{}'", group.name))
            .at(device)
            .hint(format!("vgremove {} first", group.name))),
        None => Ok(()),
    }
}

/// Refuses a disk with partitions.
fn refuse_partitioned(cx: &Context, device: &str) -> Result<()> {
    if !cx.session.devices().iter().any(|disk| disk == device) {
        return Ok(());
    }
    match cx.session.table(device)? {
        Some(table) if !table.partitions.is_empty() => Err(Error::new(ErrorKind::Busy, "the disk has partitions")
            .at(device)
            .hint(format!("choose one of them, or erase the table: wipefs {device}"))),
        _ => Ok(()),
    }
}

/// Makes a device a physical volume.
fn make_physical(cx: &mut Context, name: &str) -> Result<()> {
    cx.session.release(name)?;
    let id = new_id(cx);
    lvm::create_physical(&cx.session.device(name)?, id).map_err(|e| e.at(name))?;
    match cx.session.identify(name)? {
        Some(found) if found.fs_type == "LVM2_member" => Ok(()),
        found => {
            let kind = found.unwrap_or_default().fs_type;
            Err(Error::new(ErrorKind::Busy, format!("the device still counts as {kind}")).at(name))
        }
    }
}
