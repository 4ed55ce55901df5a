//! `mke2fs`: ext2, ext3 and ext4 with the knobs that guestfish has for them.

use std::sync::Arc;

use super::attributes::device_number;
use super::filesystems::power_of_two;
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::disk::Device;
use crate::disk::slice::Slice;
use crate::fs::ext4::{Ext4, ExtOptions, Tuning};
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
const REFUSED: &[&str] = &["mmpupdateinterval"];
/// Switches that are not handled.
const REFUSED_SWITCHES: &[&str] = &["writesbandgrouponly", "quotatype"];

/// What mke2fs gets as `-E`, in the order in which guestfish gives it, and whether it is a word that is only there when it is true.
/// mke2fs takes the last `-E` alone.
const EXTENDED: &[(&str, bool)] = &[
    ("stridesize", false),
    ("stripewidth", false),
    ("maxonlineresize", false),
    ("lazyitableinit", false),
    ("lazyjournalinit", false),
    ("testfs", true),
    ("discard", false),
];

const FSTYPE: Param = Param::required("fstype", Kind::Text);
const BLOCK_SIZE: Param = Param::required("blocksize", Kind::Int);
const DEVICE: Param = Param::required("device", Kind::Device);
const LABEL: Param = Param::required("label", Kind::Text);
const UUID: Param = Param::required("uuid", Kind::Text);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mke2fs",
        aliases: &["mke2fs-opts"],
        summary: "make an ext2, ext3 or ext4 file system",
        help: "`fstype` is ext2 (if it is left out), ext3 or ext4; sizes are in bytes. `journalsize` is in MiB, \
           `maxonlineresize` in blocks, `journaldevice` a device, `LABEL=...` or `UUID=...`; `usagetype` is one of floppy, small, default, big, \
           huge, news, largefile and largefile4; `journaldev` makes a journal for other file systems; `creatoros` is Linux; \
           `fragsize`, `forcecreate`, `lazyitableinit`, `lazyjournalinit` and `discard` change nothing here. As in guestfish, only the last one counts \
           of `stridesize`, `stripewidth`, `maxonlineresize`, `lazyitableinit`, `lazyjournalinit`, `testfs`, `discard`, in this order. `mmpupdateinterval`, \
           `quotatype` and `writesbandgrouponly` are refused. What was on the device is gone.",
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
            lines: "mke2fs /dev/sda fstype:ext4 blocksize:4096 label:data numberofinodes:512\nvfs-label /dev/sda\ntune2fs-l /dev/sda | grep 'Inode count'\n",
            output: "data\nInode count: 512\n",
        }],
        run: mke2fs,
    },
    Command {
        name: "mke2fs-J",
        aliases: &[],
        summary: "make a file system with its journal on another device",
        help: "As `mke2fs` with `fstype`, `blocksize` and `journaldevice`.",
        params: &[FSTYPE, BLOCK_SIZE, DEVICE, Param::required("journal", Kind::Device)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda mbr\npart-add /dev/sda p 2048 34815\npart-add /dev/sda p 34816 -1\nmke2journal 4096 /dev/sda1\nmke2fs-J ext4 4096 /dev/sda2 /dev/sda1\ntune2fs-l /dev/sda2 | grep 'Journal device'\n",
            output: "Journal device: 0x0801\n",
        }],
        run: |cx, args| mke2fs_with(cx, args, &args.text("journal")),
    },
    Command {
        name: "mke2fs-JL",
        aliases: &[],
        summary: "make a file system with its journal on another device, found by its label",
        help: "As `mke2fs-J` with the journal's label.",
        params: &[FSTYPE, BLOCK_SIZE, DEVICE, LABEL],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda mbr\npart-add /dev/sda p 2048 34815\npart-add /dev/sda p 34816 -1\nmke2journal-L 4096 LOG /dev/sda1\nmke2fs-JL ext3 4096 /dev/sda2 LOG\nvfs-type /dev/sda2\n",
            output: "ext3\n",
        }],
        run: |cx, args| mke2fs_with(cx, args, &format!("LABEL={}", args.text("label"))),
    },
    Command {
        name: "mke2fs-JU",
        aliases: &[],
        summary: "make a file system with its journal on another device, found by its UUID",
        help: "As `mke2fs-J` with the journal's UUID.",
        params: &[FSTYPE, BLOCK_SIZE, DEVICE, UUID],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda mbr\npart-add /dev/sda p 2048 34815\npart-add /dev/sda p 34816 -1\nmke2journal-U 4096 01234567-89ab-4def-8123-456789abcdef /dev/sda1\nmke2fs-JU ext3 4096 /dev/sda2 01234567-89ab-4def-8123-456789abcdef\ntune2fs-l /dev/sda2 | grep 'Journal UUID'\n",
            output: "Journal UUID: 01234567-89ab-4def-8123-456789abcdef\n",
        }],
        run: |cx, args| mke2fs_with(cx, args, &format!("UUID={}", args.text("uuid"))),
    },
    Command {
        name: "mke2journal",
        aliases: &[],
        summary: "make a journal on a device of its own",
        help: "For ONE file system of ext3 or ext4 with the same block size, which `mke2fs` makes with `journaldevice`. What was on the \
           device is gone.",
        params: &[BLOCK_SIZE, DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mke2journal 4096 /dev/sda\nvfs-type /dev/sda\n",
            output: "jbd\n",
        }],
        run: |cx, args| mke2journal(cx, args, None, None),
    },
    Command {
        name: "mke2journal-L",
        aliases: &[],
        summary: "make a journal on a device of its own, with a label",
        help: "As `mke2journal`.",
        params: &[BLOCK_SIZE, LABEL, DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mke2journal-L 1024 LOG /dev/sda\nvfs-label /dev/sda\n",
            output: "LOG\n",
        }],
        run: |cx, args| mke2journal(cx, args, Some(args.text("label")), None),
    },
    Command {
        name: "mke2journal-U",
        aliases: &[],
        summary: "make a journal on a device of its own, with a UUID",
        help: "As `mke2journal`.",
        params: &[BLOCK_SIZE, UUID, DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mke2journal-U 1024 01234567-89ab-4def-8123-456789abcdef /dev/sda\nvfs-uuid /dev/sda\n",
            output: "01234567-89ab-4def-8123-456789abcdef\n",
        }],
        run: |cx, args| mke2journal(cx, args, None, Some(args.text("uuid"))),
    },
];

fn mke2fs(cx: &mut Context, args: &Args) -> Result<Value> {
    let refused = REFUSED.iter().find(|name| args.get(name).is_some());
    if let Some(name) = refused.or_else(|| REFUSED_SWITCHES.iter().find(|name| args.bool(name))) {
        return Err(Error::unsupported(format!("the option {name} is not handled yet")));
    }
    if let Some(system) = args.text_if("creatoros").filter(|name| !name.eq_ignore_ascii_case("linux") && name != "0") {
        return Err(Error::unsupported(format!("creatoros {system}: only linux is handled")));
    }
    let mut features = Vec::new();
    for (option, word) in FEATURES.iter().filter(|(option, _)| args.get(option).is_some()) {
        features.push(if args.bool(option) { (*word).to_string() } else { format!("^{word}") });
    }
    let options = MakeOptions {
        fs_type: args.text_if("fstype").unwrap_or_else(|| "ext2".to_string()),
        block_size: power_of_two(args, "blocksize")?,
        features: (!features.is_empty()).then(|| features.join(",")),
        inode_size: power_of_two(args, "inodesize")?,
        label: args.text_if("label"),
        ext: ext_options(args)?,
        ..named(cx, args.text_if("uuid"))?
    };
    let name = args.text("device");
    cx.session.release(&name)?;
    let device = part(cx.session.device(&name)?, args, &options).map_err(|e| e.at(&name))?;
    if args.bool("journaldev") {
        return done(fs::make(&device, &options).map_err(|e| e.at(&name)));
    }
    match args.text_if("journaldevice") {
        Some(journal) => make_with(cx, &name, &device, options, &find_journal(cx, &journal)?)?,
        None => make(&device, &options).map_err(|e| e.at(&name))?,
    }
    let tuning = Tuning {
        reserved_percent: args.int_if("reservedblockspercentage"),
        last_mounted: args.text_if("lastmounteddir"),
        ..Tuning::default()
    };
    if tuning == Tuning::default() {
        return Ok(Value::Nothing);
    }
    let beside = cx.session.journal_device(&cx.session.canonical(&name)?)?;
    let mut made = Ext4::open_with_journal(device, beside)?;
    done(made.tune(&tuning).and_then(|()| made.sync()).map_err(|e| e.at(name)))
}

/// The options of mke2fs that set sizes.
fn ext_options(args: &Args) -> Result<ExtOptions> {
    let count = |name: &str| {
        let checked = |n: i64| {
            u32::try_from(n).map_err(|_| Error::new(ErrorKind::Invalid, format!("{name} {n} is out of range")))
        };
        args.int_if(name).map(checked).transpose()
    };
    let given = |(name, word): &&(&str, bool)| if *word { args.bool(name) } else { args.get(name).is_some() };
    let last = EXTENDED.iter().rfind(given).map_or("", |(name, _)| *name);
    let extended = |name: &str| -> Result<Option<u32>> { Ok(count(name)?.filter(|_| name == last)) };
    let stride = extended("stridesize")?.map(u16::try_from).transpose();
    Ok(ExtOptions {
        blocks_per_group: count("blockspergroup")?,
        flex_groups: count("numberofgroups")?,
        bytes_per_inode: count("bytesperinode")?,
        inodes: count("numberofinodes")?,
        journal_size: count("journalsize")?,
        stride: stride.map_err(|_| Error::new(ErrorKind::Invalid, "stridesize: at most 65535 blocks"))?,
        stripe_width: extended("stripewidth")?,
        grows_to: extended("maxonlineresize")?.map(u64::from),
        usage: args.text_if("usagetype"),
        test: last == "testfs",
    })
}

/// Options with the UUID that was given, or a random one, and what the host has for all of them.
fn named(cx: &Context, uuid: Option<String>) -> Result<MakeOptions> {
    let uuid = match uuid {
        Some(text) => Uuid::parse(&text).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{text} is no UUID")))?,
        None => Uuid::from_random(cx.host.random()),
    };
    Ok(MakeOptions { uuid, seed: cx.host.random(), now: cx.host.now(), ..MakeOptions::default() })
}

fn make(device: &Device, options: &MakeOptions) -> Result<()> {
    if !fs::ext4::NAMES.contains(&options.fs_type.as_str()) {
        return Err(Error::usage(format!("fstype {} is none of ext2, ext3, ext4", options.fs_type)));
    }
    fs::make(device, options)
}

/// Makes a file system whose journal is another device.
fn make_with(cx: &Context, name: &str, device: &Device, mut options: MakeOptions, journal: &str) -> Result<()> {
    let number = match device_number(journal) {
        0 => {
            return Err(Error::unsupported(
                "a journal must be on a disk or partition: Linux has fixed numbers for these",
            )
            .at(journal));
        }
        number => number as u32,
    };
    let words = options.features.iter().map(String::as_str).chain(["^has_journal"]).collect::<Vec<_>>().join(",");
    options.features = Some(words);
    let mut made = make(device, &options).and_then(|()| Ext4::open(device.clone())).map_err(|e| e.at(name))?;
    made.attach_journal(&cx.session.device(journal)?, number).map_err(|e| e.at(journal))
}

/// The device that mke2fs's `-J device=` names: by itself, or with `LABEL=` or `UUID=`.
fn find_journal(cx: &Context, text: &str) -> Result<String> {
    let found = match text.split_once('=') {
        Some(("LABEL", label)) => cx.session.find_journal(&|found| found.label == label)?,
        Some(("UUID", uuid)) => cx.session.find_journal(&|found| found.uuid.eq_ignore_ascii_case(uuid))?,
        _ => Some(cx.session.canonical(text)?),
    };
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("no device is a journal with {text}")).hint("mke2journal makes one")
    })
}

/// `mke2journal` and its kin.
fn mke2journal(cx: &mut Context, args: &Args, label: Option<String>, uuid: Option<String>) -> Result<Value> {
    let options = MakeOptions {
        fs_type: "ext2".to_string(),
        block_size: power_of_two(args, "blocksize")?,
        features: Some("journal_dev".to_string()),
        label,
        ..named(cx, uuid)?
    };
    let name = args.text("device");
    cx.session.release(&name)?;
    done(fs::make(&cx.session.device(&name)?, &options).map_err(|e| e.at(name)))
}

/// `mke2fs-J` and its kin; `journal` is as [`find_journal`] takes it.
fn mke2fs_with(cx: &mut Context, args: &Args, journal: &str) -> Result<Value> {
    let journal = find_journal(cx, journal)?;
    let options =
        MakeOptions { fs_type: args.text("fstype"), block_size: power_of_two(args, "blocksize")?, ..named(cx, None)? };
    let name = args.text("device");
    cx.session.release(&name)?;
    done(make_with(cx, &name, &cx.session.device(&name)?, options, &journal))
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
