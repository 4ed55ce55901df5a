//! `mke2fs`: ext2, ext3 and ext4 with the knobs that guestfish has for them.

use std::sync::Arc;

use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::disk::Device;
use crate::disk::slice::Slice;
use crate::fs::ext4::{Ext4, Tuning};
use crate::fs::{self, Edit, MakeOptions};

/// Options that switch a feature: their name and mke2fs's word.
const FEATURES: &[(&str, &str)] = &[
    ("extent", "extent"),
    ("filetype", "filetype"),
    ("flexbg", "flex_bg"),
    ("hasjournal", "has_journal"),
    ("journaldev", "journal_dev"),
    ("largefile", "large_file"),
    ("quota", "quota"),
    ("resizeinode", "resize_inode"),
    ("sparsesuper", "sparse_super"),
    ("uninitbg", "uninit_bg"),
];
/// Options with a value that are not handled.
const REFUSED: &[&str] = &[
    "fragsize",
    "blockspergroup",
    "numberofgroups",
    "bytesperinode",
    "journalsize",
    "numberofinodes",
    "stridesize",
    "stripewidth",
    "maxonlineresize",
    "mmpupdateinterval",
    "journaldevice",
    "creatoros",
    "usagetype",
];
/// Switches that are not handled.
const REFUSED_SWITCHES: &[&str] = &["writesbandgrouponly", "testfs", "quotatype"];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "mke2fs",
    aliases: &["mke2fs-opts"],
    summary: "make an ext2, ext3 or ext4 file system",
    help: "`fstype` is ext2 (if it is left out), ext3 or ext4; sizes are in bytes. Handled are `blockscount`, `blocksize`, \
           `inodesize`, `reservedblockspercentage`, `label`, `lastmounteddir`, `fstype`, `uuid` and the switches of \
           features; `forcecreate`, `lazyitableinit`, `lazyjournalinit` and `discard` change nothing here. Others are \
           refused by name. What was on the device is gone.",
    params: &[
        Param::required("device", Kind::Device),
        Param::optional("blockscount", Kind::Int64),
        Param::optional("blocksize", Kind::Int64),
        Param::optional("fragsize", Kind::Int64),
        Param::optional("blockspergroup", Kind::Int64),
        Param::optional("numberofgroups", Kind::Int64),
        Param::optional("bytesperinode", Kind::Int64),
        Param::optional("inodesize", Kind::Int64),
        Param::optional("journalsize", Kind::Int64),
        Param::optional("numberofinodes", Kind::Int64),
        Param::optional("stridesize", Kind::Int64),
        Param::optional("stripewidth", Kind::Int64),
        Param::optional("maxonlineresize", Kind::Int64),
        Param::optional("reservedblockspercentage", Kind::Int),
        Param::optional("mmpupdateinterval", Kind::Int),
        Param::optional("journaldevice", Kind::Text),
        Param::optional("label", Kind::Text),
        Param::optional("lastmounteddir", Kind::Text),
        Param::optional("creatoros", Kind::Text),
        Param::optional("fstype", Kind::Text),
        Param::optional("usagetype", Kind::Text),
        Param::optional("uuid", Kind::Text),
        Param::optional("forcecreate", Kind::Bool),
        Param::optional("writesbandgrouponly", Kind::Bool),
        Param::optional("lazyitableinit", Kind::Bool),
        Param::optional("lazyjournalinit", Kind::Bool),
        Param::optional("testfs", Kind::Bool),
        Param::optional("discard", Kind::Bool),
        Param::optional("quotatype", Kind::Bool),
        Param::optional("extent", Kind::Bool),
        Param::optional("filetype", Kind::Bool),
        Param::optional("flexbg", Kind::Bool),
        Param::optional("hasjournal", Kind::Bool),
        Param::optional("journaldev", Kind::Bool),
        Param::optional("largefile", Kind::Bool),
        Param::optional("quota", Kind::Bool),
        Param::optional("resizeinode", Kind::Bool),
        Param::optional("sparsesuper", Kind::Bool),
        Param::optional("uninitbg", Kind::Bool),
    ],
    returns: Returns::Nothing,
    effect: Effect::Writes,
    examples: &[Example {
        setup: Setup::EmptyDisk,
        lines: "mke2fs /dev/sda fstype:ext4 blocksize:4096 label:data\nvfs-type /dev/sda\nvfs-label /dev/sda\n",
        output: "ext4\ndata\n",
    }],
    run: mke2fs,
}];

fn size(args: &Args, name: &str) -> Result<Option<u32>> {
    let checked = |n: i64| {
        let value = u32::try_from(n).ok().filter(|n| n.is_power_of_two());
        value.ok_or_else(|| Error::usage(format!("{name} {n} is not a power of two")))
    };
    args.int_if(name).map(checked).transpose()
}

fn mke2fs(cx: &mut Context, args: &Args) -> Result<Value> {
    let refused = REFUSED.iter().find(|name| args.get(name).is_some());
    if let Some(name) = refused.or_else(|| REFUSED_SWITCHES.iter().find(|name| args.bool(name))) {
        return Err(Error::unsupported(format!("the option {name} is not handled yet")));
    }
    let mut features = Vec::new();
    for (option, word) in FEATURES.iter().filter(|(option, _)| args.get(option).is_some()) {
        features.push(if args.bool(option) { (*word).to_string() } else { format!("^{word}") });
    }
    let uuid = match args.text_if("uuid") {
        Some(text) => Uuid::parse(&text).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{text} is no UUID")))?,
        None => Uuid::from_random(cx.host.random()),
    };
    let options = MakeOptions {
        fs_type: args.text_if("fstype").unwrap_or_else(|| "ext2".to_string()),
        block_size: size(args, "blocksize")?,
        features: (!features.is_empty()).then(|| features.join(",")),
        inode_size: size(args, "inodesize")?,
        label: args.text_if("label"),
        uuid,
        seed: cx.host.random(),
        now: cx.host.now(),
        ..MakeOptions::default()
    };
    if !fs::ext4::NAMES.contains(&options.fs_type.as_str()) {
        return Err(Error::usage(format!("fstype {} is none of ext2, ext3, ext4", options.fs_type)));
    }
    let name = args.text("device");
    cx.session.release(&name)?;
    let device = part(cx.session.device(&name)?, args, &options).map_err(|e| e.at(&name))?;
    fs::make(&device, &options).map_err(|e| e.at(&name))?;
    let tuning = Tuning {
        reserved_percent: args.int_if("reservedblockspercentage"),
        last_mounted: args.text_if("lastmounteddir"),
        ..Tuning::default()
    };
    if tuning == Tuning::default() {
        return Ok(Value::Nothing);
    }
    let mut made = Ext4::open(device)?;
    done(made.tune(&tuning).and_then(|()| made.sync()).map_err(|e| e.at(name)))
}

/// The part of the device that `blockscount` asks for.
fn part(device: Device, args: &Args, options: &MakeOptions) -> Result<Device> {
    let Some(count) = args.int_if("blockscount") else { return Ok(device) };
    // Without a block size mke2fs counts in kilobytes here.
    let bytes = u64::try_from(count).ok().and_then(|n| n.checked_mul(options.block_size.unwrap_or(1024).into()));
    match bytes.filter(|bytes| (1..=device.len()).contains(bytes)) {
        Some(bytes) => Ok(Arc::new(Slice::new(device, 0..bytes))),
        None => Err(Error::new(ErrorKind::NoSpace, format!("blockscount {count} does not fit the device"))),
    }
}
