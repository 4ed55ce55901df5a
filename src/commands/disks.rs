//! Commands on disk images and on the session's devices.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::{Error, Kind as ErrorKind, Result, size};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::disk::{self, CreateOptions, Format, OpenOptions};
use crate::session::AddDisk;

const FILENAME: Param = Param::required("filename", Kind::HostPath);
const DEVICE: Param = Param::required("device", Kind::Device);
const SIZE: Param = Param::required("size", Kind::Text);

/// A read-only drive, by one of its old names.
macro_rules! read_only {
    ($name:literal, $aliases:expr, $summary:literal, $help:literal, $params:expr, $lines:literal) => {
        Command {
            name: $name,
            aliases: $aliases,
            summary: $summary,
            help: $help,
            params: $params,
            returns: Returns::Nothing,
            effect: Effect::Session,
            examples: &[Example { setup: Setup::Nothing, lines: $lines, output: "ext2\n" }],
            run: |cx, args| {
                let path = cx.host.absolute(args.host("filename"));
                attach(cx, AddDisk { path, read_only: true, ..AddDisk::default() })?;
                Ok(Value::Nothing)
            },
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    read_only!(
        "add-cdrom",
        &[],
        "attach a disk image that is never written, by an old name",
        "As `add-drive-ro`.",
        &[FILENAME],
        "disk-create disk.img raw 1M\nadd-cdrom disk.img\nrun\nmkfs ext2 /dev/sda\nvfs-type /dev/sda\n"
    ),
    Command {
        name: "add-drive",
        aliases: &["add", "add-drive-opts"],
        summary: "attach a disk image",
        help: "Attaches a raw or qcow2 image; its devices appear with `run`, the first disk as /dev/sda. Without \
               `format` the first bytes decide; give `format:raw` for images of unknown origin. With `readonly:true` \
               it is never written: what changes is seen until the end of the session, and is not kept. `label` gives the disk the name /dev/disk/guestfs/LABEL.\n\n\
               Options of guestfish that only matter to its virtual machine (iface, name, cachemode, discard, \
               copyonread) are read and have no effect. Network disks (protocol, server, username, secret) and \
               blocks of 4096 bytes are refused.",
        params: &[
            FILENAME,
            Param::optional("readonly", Kind::Bool),
            Param::optional("format", Kind::Text),
            Param::optional("iface", Kind::Text),
            Param::optional("name", Kind::Text),
            Param::optional("label", Kind::Text),
            Param::optional("protocol", Kind::Text),
            Param::optional("server", Kind::List),
            Param::optional("username", Kind::Text),
            Param::optional("secret", Kind::Text),
            Param::optional("cachemode", Kind::Text),
            Param::optional("discard", Kind::Text),
            Param::optional("copyonread", Kind::Bool),
            Param::optional("blocksize", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.img raw 1M\nadd disk.img format:raw\nrun\nlist-devices\n",
            output: "/dev/sda\n",
        }],
        run: add_drive,
    },
    Command {
        name: "add-drive-ro",
        aliases: &["add-ro"],
        summary: "attach a disk image that is never written",
        help: "What changes is seen until the end of the session, and is not kept.",
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.img raw 1M\nadd-ro disk.img\nrun\nmkfs ext2 /dev/sda\nvfs-type /dev/sda\n",
            output: "ext2\n",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            attach(cx, AddDisk { path, read_only: true, ..AddDisk::default() })?;
            Ok(Value::Nothing)
        },
    },
    read_only!(
        "add-drive-ro-with-if",
        &[],
        "attach a disk image that is never written, with the name of a bus",
        "As `add-drive-ro`; the bus has no effect.",
        &[FILENAME, Param::required("iface", Kind::Text)],
        "disk-create disk.img raw 1M\nadd-drive-ro-with-if disk.img ide\nrun\nmkfs ext2 /dev/sda\nvfs-type /dev/sda\n"
    ),
    Command {
        name: "add-drive-scratch",
        aliases: &["scratch"],
        summary: "attach an empty disk that is gone at the end",
        help: "SIZE in bytes, with a suffix as `1G`. `label` gives it the name /dev/disk/guestfs/LABEL; `name` has no effect.",
        params: &[
            Param::required("size", Kind::Int64),
            Param::optional("name", Kind::Text),
            Param::optional("label", Kind::Text),
            Param::optional("blocksize", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "scratch 1M\nrun\nblockdev-getsize64 /dev/sda\n",
            output: "1048576\n",
        }],
        run: |cx, args| {
            let size = u64::try_from(args.int("size")).ok().filter(|size| *size > 0);
            let size = size.ok_or_else(|| Error::usage(format!("invalid size: {}", args.int("size"))))?;
            sectors_of_512(args)?;
            let path = cx.host.scratch(size)?;
            let (format, label) = (Some(Format::Raw), label(args)?);
            attach(cx, AddDisk { path, format, label, ..AddDisk::default() })?;
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "add-drive-with-if",
        aliases: &[],
        summary: "attach a disk image, with the name of a bus",
        help: "As `add-drive`; the bus has no effect.",
        params: &[FILENAME, Param::required("iface", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.img raw 1M\nadd-drive-with-if disk.img ide\nrun\nlist-devices\n",
            output: "/dev/sda\n",
        }],
        run: |cx, args| {
            check_bus(args)?;
            attach(cx, AddDisk { path: cx.host.absolute(args.host("filename")), ..AddDisk::default() })?;
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "alloc",
        aliases: &["allocate"],
        summary: "make a raw image that takes all its space at once, and attach it",
        help: "Replaces an existing file. The size is a number with a suffix as `512M` or `10G`.",
        params: &[FILENAME, SIZE],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "alloc disk.img 1M\nrun\nblockdev-getsize64 /dev/sda\n",
            output: "1048576\n",
        }],
        run: |cx, args| make_and_add(cx, args, Some("full")),
    },
    Command {
        name: "blockdev-getro",
        aliases: &[],
        summary: "whether a device cannot be written",
        help: "",
        params: &[DEVICE],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-getro /dev/sda\n", output: "false\n" }],
        run: |cx, args| Ok(Value::Bool(cx.session.device(&args.text("device"))?.read_only())),
    },
    Command {
        name: "blockdev-getsize64",
        aliases: &[],
        summary: "size of a device in bytes",
        help: "",
        params: &[DEVICE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-getsize64 /dev/sda\n", output: "67108864\n" }],
        run: |cx, args| Ok(Value::Int(device_size(cx, args)?)),
    },
    Command {
        name: "blockdev-getss",
        aliases: &[],
        summary: "sector size of a device in bytes",
        help: "",
        params: &[DEVICE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-getss /dev/sda\n", output: "512\n" }],
        run: |cx, args| Ok(Value::Int(cx.session.device(&args.text("device"))?.sector().into())),
    },
    Command {
        name: "blockdev-getsz",
        aliases: &[],
        summary: "size of a device in units of 512 bytes",
        help: "",
        params: &[DEVICE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blockdev-getsz /dev/sda\n", output: "131072\n" }],
        run: |cx, args| Ok(Value::Int(device_size(cx, args)? / 512)),
    },
    Command {
        name: "disk-create",
        aliases: &[],
        summary: "make a disk image",
        help: "Makes a `raw` or `qcow2` image of SIZE bytes, replacing an existing file; it is not attached. With a \
               `backingfile` (qcow2) the image holds only the differences; size -1 then takes the size of the \
               backing file. `preallocation` is off, sparse, full or (qcow2) metadata or falloc; `compat` 0.10 or 1.1; \
               `clustersize` a power of two.\n\n\
               More for qcow2 than guestfish has: `refcountbits` 1 to 64; `subclusters:true` (extended L2 entries); \
               `lazyrefcounts:true`; `compression` zlib or zstd; `datafile` names a file for the guest's data, which \
               with `datafileraw:true` is a raw image of the disk.",
        params: &[
            FILENAME,
            Param::required("format", Kind::Text),
            Param::required("size", Kind::Int64),
            Param::optional("backingfile", Kind::Text),
            Param::optional("backingformat", Kind::Text),
            Param::optional("preallocation", Kind::Text),
            Param::optional("compat", Kind::Text),
            Param::optional("clustersize", Kind::Int),
            Param::optional("refcountbits", Kind::Int),
            Param::optional("subclusters", Kind::Bool),
            Param::optional("lazyrefcounts", Kind::Bool),
            Param::optional("compression", Kind::Text),
            Param::optional("datafile", Kind::Text),
            Param::optional("datafileraw", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create base.img raw 1M\n\
                    disk-create top.qcow2 qcow2 -1 backingfile:base.img backingformat:raw\n\
                    disk-virtual-size top.qcow2\n",
            output: "1048576\n",
        }],
        run: disk_create,
    },
    Command {
        name: "disk-format",
        aliases: &[],
        summary: "format of a disk image",
        help: "What the first bytes say: `raw` or `qcow2`.",
        params: &[FILENAME],
        returns: Returns::Text,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\ndisk-format disk.qcow2\n",
            output: "qcow2\n",
        }],
        run: |cx, args| Ok(Value::text(open(cx, args.host("filename"))?.format())),
    },
    Command {
        name: "disk-has-backing-file",
        aliases: &[],
        summary: "whether a disk image has a backing file",
        help: "",
        params: &[FILENAME],
        returns: Returns::Bool,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.img raw 1M\ndisk-has-backing-file disk.img\n",
            output: "false\n",
        }],
        run: |cx, args| Ok(Value::Bool(open(cx, args.host("filename"))?.files().len() > 1)),
    },
    Command {
        name: "disk-info",
        aliases: &[],
        summary: "what a disk image says of itself",
        help: "Prints `format` and `virtual-size`, and of a qcow2 image, where they apply, `backing-file`, `data-file`, \
               `encryption`, `dirty` and `corrupt`; `others-write` if any user may write to the file. Only the header is read, so that this works on images that cannot be opened.",
        params: &[FILENAME],
        returns: Returns::Hash,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create base.img raw 1M\n\
                    disk-create top.qcow2 qcow2 -1 backingfile:base.img backingformat:raw\n\
                    disk-info top.qcow2\n",
            output: "format: qcow2\nvirtual-size: 1048576\nbacking-file: base.img\n",
        }],
        run: disk_info,
    },
    Command {
        name: "disk-virtual-size",
        aliases: &[],
        summary: "size of the disk in an image, in bytes",
        help: "",
        params: &[FILENAME],
        returns: Returns::Int,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 10G\ndisk-virtual-size disk.qcow2\n",
            output: "10737418240\n",
        }],
        run: |cx, args| Ok(Value::Int(size_of(open(cx, args.host("filename"))?.len())?)),
    },
    Command {
        name: "launch",
        aliases: &["run"],
        summary: "make the attached disks available",
        help: "Needed once, after `add` and before anything that looks into a disk. No virtual machine starts.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "sparse disk.img 1M\nrun\nlist-devices\n",
            output: "/dev/sda\n",
        }],
        run: |cx, _| cx.session.launch().map(|()| Value::Nothing),
    },
    Command {
        name: "list-devices",
        aliases: &[],
        summary: "the attached disks",
        help: "",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "list-devices\n", output: "/dev/sda\n" }],
        run: |cx, _| Ok(Value::list(cx.session.devices())),
    },
    Command {
        name: "shutdown",
        aliases: &[],
        summary: "unmount everything and commit",
        help: "Unmounts all file systems and makes all changes permanent.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /f\nshutdown\nmounts\n", output: "" }],
        run: |cx, _| {
            if !cx.session.is_launched() {
                return Ok(Value::Nothing);
            }
            cx.session.guest.umount_all()?;
            cx.session.commit().map(|()| Value::Nothing)
        },
    },
    Command {
        name: "sparse",
        aliases: &[],
        summary: "make a raw image that takes space only as it is filled, and attach it",
        help: "Replaces an existing file. The size is a number with a suffix as `512M` or `10G`.",
        params: &[FILENAME, SIZE],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "sparse disk.img 10G\nrun\nblockdev-getsize64 /dev/sda\n",
            output: "10737418240\n",
        }],
        run: |cx, args| make_and_add(cx, args, None),
    },
    Command {
        name: "sync",
        aliases: &[],
        summary: "commit what was changed",
        help: "Makes all changes permanent, as `commit` does.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /f\nsync\nchanges\n", output: "" }],
        run: |cx, _| cx.launched()?.commit().map(|()| Value::Nothing),
    },
];

/// A format by its name.
pub(super) fn format(name: &str) -> Result<Format> {
    Format::from_name(name).ok_or_else(|| {
        Error::unsupported(format!("format '{name}': imgsh does not know this image format"))
            .hint("it handles raw and qcow2")
    })
}

fn add_drive(cx: &mut Context, args: &Args) -> Result<Value> {
    if let Some(protocol) = args.text_if("protocol").filter(|p| p != "file") {
        return Err(Error::unsupported(format!("protocol '{protocol}': only local images can be attached")));
    }
    for name in ["server", "username", "secret"] {
        if args.get(name).is_some() {
            return Err(Error::unsupported(format!("{name}: only local images can be attached")));
        }
    }
    sectors_of_512(args)?;
    check_bus(args)?;
    one_of(args, "cachemode", &["writeback", "unsafe"])?;
    one_of(args, "discard", &["disable", "enable", "besteffort"])?;
    if args.bool("readonly") && args.text_if("discard").is_some_and(|mode| mode == "enable") {
        return Err(Error::usage("discard support cannot be enabled on read-only drives"));
    }
    let format = args.text_if("format").map(|name| format(&name)).transpose()?;
    attach(
        cx,
        AddDisk {
            path: cx.host.absolute(args.host("filename")),
            format,
            read_only: args.bool("readonly"),
            label: label(args)?,
        },
    )?;
    Ok(Value::Nothing)
}

/// Refuses a setting without effect that guestfish would not take.
fn one_of(args: &Args, name: &str, known: &[&str]) -> Result<()> {
    match args.text_if(name).filter(|value| !known.contains(&value.as_str())) {
        Some(value) => Err(Error::usage(format!("{name} '{value}' is none of {}", known.join(", ")))),
        None => Ok(()),
    }
}

/// Refuses a name of a bus that cannot be one.
fn check_bus(args: &Args) -> Result<()> {
    let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    match args.text_if("iface").is_none_or(|name| plain(&name)) {
        true => Ok(()),
        false => Err(Error::usage("iface parameter is empty or contains disallowed characters")),
    }
}

/// The label of a drive, as guestfish has it: 1 to 20 letters.
fn label(args: &Args) -> Result<Option<String>> {
    let label = args.text_if("label");
    match label.as_ref().is_none_or(|l| (1..=20).contains(&l.len()) && l.chars().all(|c| c.is_ascii_alphabetic())) {
        true => Ok(label),
        false => Err(Error::usage("label parameter is empty, too long, or contains disallowed characters")
            .hint("a label is 1 to 20 letters")),
    }
}

/// Refuses a `blocksize` that disks do not have.
fn sectors_of_512(args: &Args) -> Result<()> {
    match args.int_if("blocksize").filter(|n| *n != 512) {
        Some(size) => Err(Error::unsupported(format!("blocksize {size}: disks have sectors of 512 bytes"))),
        None => Ok(()),
    }
}

fn make_and_add(cx: &mut Context, args: &Args, preallocation: Option<&str>) -> Result<Value> {
    let path = cx.host.absolute(args.host("filename"));
    let size = size::bytes(&args.text("size"))?;
    if size == 0 {
        return Err(Error::usage("invalid size: 0"));
    }
    let preallocation = preallocation.map(str::to_string);
    disk::create(&path, Format::Raw, &CreateOptions { size: Some(size), preallocation, ..CreateOptions::default() })?;
    attach(cx, AddDisk { path, format: Some(Format::Raw), ..AddDisk::default() })?;
    Ok(Value::Nothing)
}

fn disk_info(cx: &mut Context, args: &Args) -> Result<Value> {
    let info = disk::info::info(&cx.host.absolute(args.host("filename")))?;
    let mut found = vec![("format", info.format.name().to_string()), ("virtual-size", info.virtual_size.to_string())];
    let texts = [("backing-file", info.backing_file), ("data-file", info.data_file), ("encryption", info.encryption)];
    found.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text?))));
    let marks = [("dirty", info.dirty), ("corrupt", info.corrupt), ("others-write", info.others_write)];
    found.extend(marks.into_iter().filter(|(_, set)| *set).map(|(key, _)| (key, "true".to_string())));
    Ok(Value::Hash(found.into_iter().map(|(key, text)| (key.into(), text.into_bytes())).collect()))
}

fn disk_create(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = cx.host.absolute(args.host("filename"));
    // Names in a header count from the image's folder.
    let path_if = |name: &str| -> Result<Option<PathBuf>> {
        let Some(name) = args.get(name).map(|_| PathBuf::from(OsStr::from_bytes(args.bytes(name)))) else {
            return Ok(None);
        };
        cx.host.reach(&path.parent().unwrap_or(Path::new("/")).join(&name))?;
        Ok(Some(name))
    };
    let backing = path_if("backingfile")?;
    let size = match args.int("size") {
        -1 if backing.is_some() => None,
        _ if backing.is_some() => return Err(Error::usage("if using a backing file, size must be passed as -1")),
        0 => return Err(Error::usage("invalid size: 0")),
        size => Some(u64::try_from(size).map_err(|_| Error::usage(format!("size {size} is negative")))?),
    };
    let options = CreateOptions {
        size,
        backing,
        backing_format: args.text_if("backingformat").map(|name| format(&name)).transpose()?,
        preallocation: args.text_if("preallocation"),
        lazy_refcounts: args.bool("lazyrefcounts"),
        data_file: path_if("datafile")?,
        data_file_raw: args.bool("datafileraw"),
        ..shape(args)?
    };
    disk::create(&path, format(&args.text("format"))?, &options)?;
    Ok(Value::Nothing)
}

/// The options that both new images and copies have.
pub(super) fn shape(args: &Args) -> Result<CreateOptions> {
    let power = |name: &str| match args.int_if(name) {
        None => Ok(None),
        Some(n) => match u64::try_from(n).ok().filter(|n| n.is_power_of_two()) {
            Some(n) => Ok(Some(n)),
            None => Err(Error::usage(format!("{name} {n} is not a power of two"))),
        },
    };
    Ok(CreateOptions {
        compat: args.text_if("compat"),
        cluster_size: power("clustersize")?,
        refcount_bits: power("refcountbits")?.map(|bits| u32::try_from(bits).unwrap_or(u32::MAX)),
        subclusters: args.bool("subclusters"),
        compression: args.text_if("compression"),
        ..CreateOptions::default()
    })
}

/// Opens an image with all the files that it is read from, which the sandbox must reach too.
pub(super) fn open_image(cx: &Context, path: &Path, options: OpenOptions) -> Result<Box<dyn disk::Disk>> {
    let opened = disk::open(&cx.host.absolute(path), options).map_err(|e| e.at(path.display()))?;
    opened.files().iter().try_for_each(|file| cx.host.reach(file))?;
    unlock(cx, path, opened.as_ref())?;
    Ok(opened)
}

/// Opens what is encrypted of an image and its backing chain, with the keys that the host has.
pub(super) fn unlock(cx: &Context, path: &Path, disk: &dyn disk::Disk) -> Result<()> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let interrupt = || cx.session.guest.check_interrupt();
    while let Some(uuid) = disk.locked() {
        let mut refused = Some(Error::new(ErrorKind::Denied, "the image is encrypted (LUKS)"));
        for key in cx.host.image_keys(&[&uuid, &path.to_string_lossy(), &file])? {
            match disk.unlock(&key, &interrupt) {
                Err(e) if e.kind() == ErrorKind::Denied => refused = Some(e),
                done => {
                    done?;
                    refused = None;
                    break;
                }
            }
        }
        if let Some(error) = refused {
            return Err(error.at(path.display()).hint(format!("give its key with --key {uuid}:key:PASSPHRASE")));
        }
    }
    Ok(())
}

/// Attaches an image.
fn attach(cx: &mut Context, add: AddDisk) -> Result<()> {
    let options = OpenOptions { format: add.format, read_only: add.read_only };
    let opened = open_image(cx, &add.path, options)?;
    cx.session.attach(opened, add);
    Ok(())
}

/// Opens an image that is not attached, to read it.
pub(super) fn open(cx: &Context, path: &Path) -> Result<Box<dyn disk::Disk>> {
    open_image(cx, path, OpenOptions { format: None, read_only: true })
}

/// A size as a number that commands answer.
pub(super) fn size_of(len: u64) -> Result<i64> {
    i64::try_from(len).map_err(|_| ErrorKind::FileTooBig.into())
}

fn device_size(cx: &Context, args: &Args) -> Result<i64> {
    size_of(cx.session.device(&args.text("device"))?.len())
}
