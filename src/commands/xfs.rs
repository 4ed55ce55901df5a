//! Commands on XFS.

use super::content::device_of;
use crate::base::Result;
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::xfs::Geometry;

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "xfs-info",
    aliases: &[],
    summary: "geometry of an XFS",
    help: "Of a device, or of the file system that holds a path. Sizes of blocks, sectors and inodes are in bytes; `agsize`, `sunit`, \
           `swidth`, `logblocks` and `logsunit` in blocks.",
    params: &[Param::required("pathordevice", Kind::DeviceOrPath)],
    returns: Returns::Struct,
    effect: Effect::Reads,
    examples: &[Example {
        setup: Setup::Ext4,
        lines: "-xfs-info /dev/sda1\necho that was ext4\n",
        output: "that was ext4\n",
    }],
    run: info,
}];

fn info(cx: &mut Context, args: &Args) -> Result<Value> {
    let device = device_of(cx, args, "pathordevice")?;
    let found = Geometry::read(cx.session.device(&device)?.as_ref()).map_err(|e| e.at(&device))?;
    let text = |text: &str| Field::Text(text.into());
    let number = |number: u32| Field::Int(number.into());
    Ok(Value::Struct(Record(vec![
        ("xfs_mntpoint", text(&device)),
        ("xfs_inodesize", number(found.inode)),
        ("xfs_agcount", number(found.groups)),
        ("xfs_agsize", number(found.group_blocks)),
        ("xfs_sectsize", number(found.sector)),
        ("xfs_attr", number(found.attributes)),
        ("xfs_blocksize", number(found.block)),
        ("xfs_datablocks", Field::Int(found.blocks.into())),
        ("xfs_imaxpct", number(found.inodes_most)),
        ("xfs_sunit", number(found.stripe_unit)),
        ("xfs_swidth", number(found.stripe)),
        ("xfs_dirversion", number(2)),
        ("xfs_dirblocksize", number(found.dir_block)),
        // File systems that look for names without regard to case are not opened.
        ("xfs_cimode", number(0)),
        ("xfs_logname", text(if found.log_inside { "internal" } else { "external" })),
        ("xfs_logblocksize", number(found.block)),
        ("xfs_logblocks", number(found.log_blocks)),
        ("xfs_logversion", number(found.log_version)),
        ("xfs_logsectsize", number(found.log_sector)),
        ("xfs_logsunit", number(found.log_stripe_unit)),
        ("xfs_lazycount", number(found.lazy_counts.into())),
        ("xfs_rtname", text(if found.realtime_blocks == 0 { "none" } else { "external" })),
        // Without a realtime device guestfish does not find it in what xfs_info prints.
        ("xfs_rtextsize", number(if found.realtime_blocks == 0 { u32::MAX } else { found.realtime_extent })),
        ("xfs_rtblocks", Field::Int(found.realtime_blocks.into())),
        ("xfs_rtextents", Field::Int(found.realtime_extents.into())),
    ])))
}
