//! Commands that tell what physical volumes, groups and logical volumes of LVM are.

use super::lvm::{DEVICE, VGNAME, example, logical};
use crate::base::Kind as ErrorKind;
use crate::command::{Command, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::session::volume_name;
use crate::volume::lvm::{Group, Layout, LogicalVolume, Lvm, PhysicalVolume};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "lvm-canonical-lv-name",
        aliases: &[],
        summary: "usual name of a logical volume",
        help: "`/dev/VG/LV` for `/dev/mapper/VG-LV` and other names.",
        params: &[Param::required("lvname", Kind::Text)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: example!("lvm-canonical-lv-name /dev/mapper/vg-root\n", "/dev/vg/root\n"),
        run: |cx, args| {
            let (group, volume) = logical(cx, &args.text("lvname"))?;
            Ok(Value::text(volume_name(&group, &volume)))
        },
    },
    Command {
        name: "lvs",
        aliases: &[],
        summary: "logical volumes",
        help: "Their devices, by group and name. Thin pools are left out, and snapshots of thin volumes that LVM does not \
               activate by itself; they can be named all the same.",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("lvs\n", "/dev/vg/root\n"),
        run: |cx, _| Ok(Value::list(cx.session.logical_volumes()?)),
    },
    Command {
        name: "lvs-full",
        aliases: &[],
        summary: "what LVM knows of all logical volumes",
        help: "Sizes in bytes. Numbers that only a running kernel has are -1.",
        params: &[],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: example!(
            "lvs-full | egrep 'lv_name|lv_size|seg_count'\n",
            "  lv_name: root\n  lv_size: 20971520\n  seg_count: 1\n"
        ),
        run: |cx, _| {
            let lvm = cx.session.lvm()?;
            Ok(Value::Structs(lvm.volumes().map(|(group, volume)| volume_facts(group, volume)).collect()))
        },
    },
    Command {
        name: "lvuuid",
        aliases: &[],
        summary: "UUID of a logical volume",
        help: "",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: example!("lvuuid /dev/vg/root | tr A-Za-z0-9 N\n", "NNNNNN-NNNN-NNNN-NNNN-NNNN-NNNN-NNNNNN\n"),
        run: |cx, args| {
            let (group, volume) = logical(cx, &args.text("device"))?;
            let lvm = cx.session.lvm()?;
            let (_, volume) = lvm.volume(&group, &volume).ok_or(ErrorKind::NotFound)?;
            Ok(Value::text(volume.id.to_string()))
        },
    },
    Command {
        name: "pvs",
        aliases: &[],
        summary: "physical volumes",
        help: "",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("pvs\n", "/dev/sda\n"),
        run: |cx, _| Ok(Value::list(cx.session.lvm()?.physical.iter().map(|pv| pv.name.clone()))),
    },
    Command {
        name: "pvs-full",
        aliases: &[],
        summary: "what LVM knows of all physical volumes",
        help: "Sizes in bytes.",
        params: &[],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: example!(
            "pvs-full | egrep 'pv_name|pv_pe_'\n",
            "  pv_name: /dev/sda\n  pv_pe_count: 15\n  pv_pe_alloc_count: 5\n"
        ),
        run: |cx, _| {
            let lvm = cx.session.lvm()?;
            Ok(Value::Structs(lvm.physical.iter().map(|pv| physical_facts(&lvm, pv)).collect()))
        },
    },
    Command {
        name: "pvuuid",
        aliases: &[],
        summary: "UUID of a physical volume",
        help: "",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: example!("pvuuid /dev/sda | tr A-Za-z0-9 N\n", "NNNNNN-NNNN-NNNN-NNNN-NNNN-NNNN-NNNNNN\n"),
        run: |cx, args| {
            let lvm = cx.session.lvm()?;
            Ok(Value::text(lvm.physical_volume(&args.text("device"))?.label.id.to_string()))
        },
    },
    Command {
        name: "vglvuuids",
        aliases: &[],
        summary: "identifiers of the logical volumes of a group",
        help: "",
        params: &[VGNAME],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("vglvuuids vg | wc -l\n", "1\n"),
        run: |cx, args| {
            let lvm = cx.session.lvm()?;
            let group = lvm.group(&args.text("vgname"))?;
            Ok(Value::list(group.volumes.iter().filter(|volume| volume.visible).map(|volume| volume.id.to_string())))
        },
    },
    Command {
        name: "vgmeta",
        aliases: &[],
        summary: "metadata of a volume group as text",
        help: "",
        params: &[VGNAME],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: example!("vgmeta vg | grep extent_size\n", "extent_size = 8192\n"),
        run: |cx, args| Ok(Value::Bytes(cx.session.lvm()?.group(&args.text("vgname"))?.render().into_bytes())),
    },
    Command {
        name: "vgpvuuids",
        aliases: &[],
        summary: "identifiers of the physical volumes of a group",
        help: "",
        params: &[VGNAME],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("vgpvuuids vg | wc -l\n", "1\n"),
        run: |cx, args| {
            let lvm = cx.session.lvm()?;
            let group = lvm.group(&args.text("vgname"))?;
            Ok(Value::list(group.members.iter().map(|member| member.id.to_string())))
        },
    },
    Command {
        name: "vgs",
        aliases: &[],
        summary: "volume groups",
        help: "",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("vgs\n", "vg\n"),
        run: |cx, _| Ok(Value::list(cx.session.lvm()?.groups.iter().map(|group| group.name.clone()))),
    },
    Command {
        name: "vgs-full",
        aliases: &[],
        summary: "what LVM knows of all volume groups",
        help: "Sizes in bytes.",
        params: &[],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: example!(
            "vgs-full | egrep 'vg_name|vg_free|seqno'\n",
            "  vg_name: vg\n  vg_free: 41943040\n  vg_free_count: 10\n  vg_seqno: 2\n"
        ),
        run: |cx, _| {
            let lvm = cx.session.lvm()?;
            Ok(Value::Structs(lvm.groups.iter().map(|group| group_facts(&lvm, group)).collect()))
        },
    },
    Command {
        name: "vguuid",
        aliases: &[],
        summary: "UUID of a volume group",
        help: "",
        params: &[VGNAME],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: example!("vguuid vg | tr A-Za-z0-9 N\n", "NNNNNN-NNNN-NNNN-NNNN-NNNN-NNNN-NNNNNN\n"),
        run: |cx, args| Ok(Value::text(cx.session.lvm()?.group(&args.text("vgname"))?.id.to_string())),
    },
];

fn text(text: impl Into<String>) -> Field {
    Field::Text(text.into().into_bytes())
}

fn int(n: u64) -> Field {
    Field::Int(n.into())
}

fn physical_facts(lvm: &Lvm, pv: &PhysicalVolume) -> Record {
    let group = pv.group.and_then(|group| lvm.groups.get(group));
    let member = group.and_then(|group| group.members.iter().find(|member| member.id == pv.label.id));
    let extent = group.map_or(0, |group| group.extent);
    let (extents, free) = match (group, member) {
        (Some(group), Some(member)) => (member.extents, group.free_on(&member.key)),
        _ => (0, 0),
    };
    let (size, free_bytes) = match member {
        Some(_) => (extents.saturating_mul(extent), free.saturating_mul(extent)),
        None => (pv.device.len(), pv.device.len()),
    };
    let attributes = match member {
        Some(member) if member.allocatable => "a--",
        _ => "---",
    };
    let (areas, area_free) = pv.areas();
    Record(vec![
        ("pv_name", text(pv.name.as_str())),
        ("pv_uuid", text(pv.label.id.letters())),
        ("pv_fmt", text("lvm2")),
        ("pv_size", int(size)),
        ("dev_size", int(pv.device.len())),
        ("pv_free", int(free_bytes)),
        ("pv_used", int(size.saturating_sub(free_bytes))),
        ("pv_attr", text(attributes)),
        ("pv_pe_count", int(extents)),
        ("pv_pe_alloc_count", int(extents.saturating_sub(free))),
        (
            "pv_tags",
            text(
                group.zip(member).map_or(String::new(), |(group, member)| group.tags("physical_volumes", &member.key)),
            ),
        ),
        ("pe_start", int(member.map_or(1 << 20, |member| member.start))),
        ("pv_mda_count", int(areas as u64)),
        ("pv_mda_free", int(area_free)),
    ])
}

fn group_facts(lvm: &Lvm, group: &Group) -> Record {
    let (extents, free) = group.extents();
    let members = lvm.members(group);
    let areas: Vec<(usize, u64)> = members.iter().filter_map(|pv| lvm.physical.get(*pv)).map(|pv| pv.areas()).collect();
    let number = |name: &str| int(group.text.number(name).unwrap_or(0));
    Record(vec![
        ("vg_name", text(group.name.as_str())),
        ("vg_uuid", text(group.id.letters())),
        ("vg_fmt", text("lvm2")),
        ("vg_attr", text(if group.fixed.is_some() { "r-p-n-" } else { "wz--n-" })),
        ("vg_size", int(extents.saturating_mul(group.extent))),
        ("vg_free", int(free.saturating_mul(group.extent))),
        ("vg_sysid", text(group.text.text("system_id").unwrap_or_default())),
        ("vg_extent_size", int(group.extent)),
        ("vg_extent_count", int(extents)),
        ("vg_free_count", int(free)),
        ("max_lv", number("max_lv")),
        ("max_pv", number("max_pv")),
        ("pv_count", int(group.members.len() as u64)),
        ("lv_count", int(group.volumes.iter().filter(|volume| volume.visible).count() as u64)),
        ("snap_count", int(group.snapshots() as u64)),
        ("vg_seqno", int(group.sequence)),
        ("vg_tags", text(group.text.words("tags").join(","))),
        ("vg_mda_count", int(areas.iter().map(|area| area.0 as u64).sum())),
        ("vg_mda_free", int(areas.iter().map(|area| area.1).min().unwrap_or(0))),
    ])
}

fn volume_facts(group: &Group, volume: &LogicalVolume) -> Record {
    let write = if volume.read_only.is_some() { 'r' } else { 'w' };
    let kind = match volume.kind() {
        "raid1" => 'r',
        "snapshot" => 's',
        "thin" => 'V',
        "thin-pool" => 't',
        _ => '-',
    };
    let layout = volume.segments.first().map(|segment| &segment.layout);
    let pool = match layout {
        Some(Layout::Thin { pool, .. }) => group.volume(pool).unwrap_or(volume),
        _ => volume,
    };
    let (thin, modules) = match (layout, pool.segments.first().map(|segment| &segment.layout)) {
        (Some(Layout::Thin { .. }), Some(Layout::ThinPool { zeroes: true, .. })) => ("tz", "thin,thin-pool"),
        (Some(Layout::Thin { .. }), _) => ("t-", "thin,thin-pool"),
        (Some(Layout::ThinPool { zeroes: true, .. }), _) => ("tz", "thin-pool"),
        (Some(Layout::ThinPool { .. }), _) => ("t-", "thin-pool"),
        _ => ("--", ""),
    };
    let origin = match layout {
        Some(Layout::Thin { origin: Some(origin), .. }) => origin,
        _ => "",
    };
    let uses = |other: &LogicalVolume| {
        let layout = other.segments.first().map(|segment| &segment.layout);
        matches!(layout, Some(Layout::Thin { pool, .. }) if *pool == volume.name && !other.skipped)
    };
    let open = if group.volumes.iter().any(uses) { 'o' } else { '-' };
    let skip = if volume.skipped { 'k' } else { '-' };
    let active = if group.refused.is_some() || volume.refused.is_some() || volume.skipped { '-' } else { 'a' };
    Record(vec![
        ("lv_name", text(volume.name.as_str())),
        ("lv_uuid", text(volume.id.letters())),
        ("lv_attr", text(format!("{kind}{write}i-{active}{open}{thin}-{skip}"))),
        ("lv_major", Field::Int(-1)),
        ("lv_minor", Field::Int(-1)),
        ("lv_kernel_major", Field::Int(-1)),
        ("lv_kernel_minor", Field::Int(-1)),
        ("lv_size", int(volume.extents().saturating_mul(group.extent))),
        ("seg_count", int(volume.segments.len() as u64)),
        ("origin", text(origin)),
        ("snap_percent", Field::Percent(None)),
        ("copy_percent", Field::Percent(None)),
        ("move_pv", text("")),
        ("lv_tags", text(group.tags("logical_volumes", &volume.name))),
        ("mirror_log", text("")),
        ("modules", text(modules)),
    ])
}
