//! Commands that copy ranges of bytes between files, devices and the host.

use std::io::Read;

use super::content::{Content, content};
use super::reading::MEMORY_LIMIT;
use super::transfer::{open_sized, to_host, write_range};
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, bytes, progress};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

const SIZE: Param = Param::required("size", Kind::Int64);
const OFFSET: Param = Param::required("offset", Kind::Int64);
const REMOTE: Param = Param::required("remotefilename", Kind::DeviceOrPath);

/// One of the four directions between files and devices.
macro_rules! copy {
    ($name:literal, $summary:literal, $src:expr, $dest:expr, $setup:expr, $lines:literal, $output:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: "Copies `size` bytes, all without it, from byte `srcoffset` on to byte `destoffset` on. A file as DEST \
                   is cut to nothing first, or with `append:true` written at its end; with `sparse:true` blocks of zeros \
                   become holes. A source that ends before `size` bytes is an error.",
            params: &[
                Param::required("src", $src),
                Param::required("dest", $dest),
                Param::optional("srcoffset", Kind::Int64),
                Param::optional("destoffset", Kind::Int64),
                Param::optional("size", Kind::Int64),
                Param::optional("sparse", Kind::Bool),
                Param::optional("append", Kind::Bool),
            ],
            returns: Returns::Nothing,
            effect: Effect::Writes,
            examples: &[Example { setup: $setup, lines: $lines, output: $output }],
            run: copy_range,
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    copy!(
        "copy-device-to-device",
        "copy bytes between devices",
        Kind::Device,
        Kind::Device,
        Setup::EspAndExt4,
        "copy-device-to-device /dev/sda /dev/sda1 srcoffset:512 size:8\npread-device /dev/sda1 8 0\n",
        "EFI PART"
    ),
    copy!(
        "copy-device-to-file",
        "copy bytes of a device into a file",
        Kind::Device,
        Kind::Path,
        Setup::Ext4,
        "copy-device-to-file /dev/sda /boot-sector srcoffset:510 size:2\nhexdump /boot-sector\n",
        "00000000  55 aa                                             |U.|\n00000002\n\n"
    ),
    copy!(
        "copy-file-to-device",
        "copy bytes of a file onto a device",
        Kind::Path,
        Kind::Device,
        Setup::EspAndExt4,
        "write /f hello\ncopy-file-to-device /f /dev/sda1 destoffset:3\npread-device /dev/sda1 5 3\n",
        "hello"
    ),
    copy!(
        "copy-file-to-file",
        "copy bytes between files",
        Kind::Path,
        Kind::Path,
        Setup::Ext4,
        "write /a hello\ncopy-file-to-file /a /b srcoffset:1 size:3\ncopy-file-to-file /a /b append:true\ncat /b\n",
        "ellhello\n"
    ),
    Command {
        name: "copy-size",
        aliases: &[],
        summary: "copy the first bytes of a file or device",
        help: "A file as DEST is replaced. A source with fewer than SIZE bytes is an error.",
        params: &[Param::required("src", Kind::DeviceOrPath), Param::required("dest", Kind::DeviceOrPath), SIZE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /a \"hello, world\"\ncopy-size /a /b 5\ncat /b\n",
            output: "hello\n",
        }],
        run: |cx, args| {
            let size = unsigned(args, "size")?;
            copy(cx, args, &Copy { size: Some(size), ..Copy::default() })
        },
    },
    Command {
        name: "dd",
        aliases: &[],
        summary: "copy one file or device over another",
        help: "A file as DEST is replaced; a device must have room for all of the source.",
        params: &[Param::required("src", Kind::DeviceOrPath), Param::required("dest", Kind::DeviceOrPath)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "write /a hello\ndd /a /b\ncat /b\n", output: "hello\n" }],
        run: |cx, args| copy(cx, args, &Copy::default()),
    },
    Command {
        name: "download-offset",
        aliases: &[],
        summary: "copy a range of a guest file or device to a host file",
        help: "Up to SIZE bytes from byte OFFSET on.",
        params: &[REMOTE, Param::required("filename", Kind::FileOut), OFFSET, SIZE],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hello, world\\n\"\ndownload-offset /f - 7 100\n",
            output: "world\n",
        }],
        run: |cx, args| {
            let source = content(cx, args, "remotefilename")?;
            let (offset, size) = (unsigned(args, "offset")?, unsigned(args, "size")?);
            done(to_host(cx, &source, offset, size, &args.file("filename")))
        },
    },
    Command {
        name: "pread-device",
        aliases: &[],
        summary: "read a part of a device",
        help: "Prints up to COUNT bytes from byte OFFSET on, fewer at the end of the device.",
        params: &[Param::required("device", Kind::Device), Param::required("count", Kind::Int), OFFSET],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EspAndExt4, lines: "pread-device /dev/sda 8 512\n", output: "EFI PART" }],
        run: |cx, args| {
            let (count, offset) = (unsigned(args, "count")?, unsigned(args, "offset")?);
            if count > MEMORY_LIMIT {
                let hint = "read it in smaller parts, or use download-offset";
                return Err(Error::from(ErrorKind::FileTooBig).at(args.text("device")).hint(hint));
            }
            let mut data = Vec::new();
            content(cx, args, "device")?.reader(cx, offset)?.take(count).read_to_end(&mut data)?;
            Ok(Value::Bytes(data))
        },
    },
    Command {
        name: "pwrite-device",
        aliases: &[],
        summary: "write bytes at an offset of a device",
        help: "Prints how many bytes were written. What was on the device is not looked at: a table or file system that is \
               hit is damaged. A mounted device is refused.",
        params: &[Param::required("device", Kind::Device), Param::required("content", Kind::Bytes), OFFSET],
        returns: Returns::Int,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "pwrite-device /dev/sda hello 100\npread-device /dev/sda 5 100\n",
            output: "5\nhello",
        }],
        run: |cx, args| {
            let (device, offset) = (content(cx, args, "device")?, unsigned(args, "offset")?);
            device.open_for_writing(cx, false)?;
            device.write_at(cx, offset, args.bytes("content"))?;
            Ok(Value::Int(args.bytes("content").len() as i64))
        },
    },
    Command {
        name: "upload-offset",
        aliases: &[],
        summary: "copy a host file over a part of a guest file or device",
        help: "The bytes from OFFSET on are overwritten, those after it stay. A missing file is made.",
        params: &[Param::required("filename", Kind::FileIn), REMOTE, OFFSET],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"one two\\n\"\nupload-offset -<<END /f 4\nsix\nEND\nread-file /f\n",
            output: "one six\n",
        }],
        run: |cx, args| {
            let (target, offset) = (content(cx, args, "remotefilename")?, unsigned(args, "offset")?);
            let (mut reader, size) = open_sized(cx, &args.file("filename"))?;
            target.open_for_writing(cx, false)?;
            done(write_range(cx, &target, offset, size, &mut reader))
        },
    },
];

/// A number that is 0 or more.
pub(super) fn unsigned(args: &Args, name: &str) -> Result<u64> {
    u64::try_from(args.int(name)).map_err(|_| Error::usage(format!("{name} is negative")))
}

/// What is copied.
#[derive(Default)]
struct Copy {
    from: u64,
    to: u64,
    size: Option<u64>,
    sparse: bool,
    append: bool,
}

fn copy_range(cx: &mut Context, args: &Args) -> Result<Value> {
    let given = |name: &str| args.get(name).map_or(Ok(0), |_| unsigned(args, name));
    let size = match args.int_if("size") {
        // -1 is guestfish's word for all.
        None | Some(-1) => None,
        Some(_) => Some(unsigned(args, "size")?),
    };
    let what = Copy {
        from: given("srcoffset")?,
        to: given("destoffset")?,
        size,
        sparse: args.bool("sparse"),
        append: args.bool("append"),
    };
    copy(cx, args, &what)
}

fn copy(cx: &mut Context, args: &Args, what: &Copy) -> Result<Value> {
    let (source, target) = (content(cx, args, "src")?, content(cx, args, "dest")?);
    let device = matches!(target, Content::Device(_));
    if device && what.append {
        return Err(Error::usage("append is for files: a device has a fixed size").at(target.name()));
    }
    let length = source.len(cx)?.saturating_sub(what.from);
    let size = what.size.unwrap_or(length);
    if size > length {
        let detail = format!("there are only {length} bytes from {} on, not {size}", what.from);
        return Err(Error::new(ErrorKind::Invalid, detail).at(source.name()));
    }
    if source == target && !device {
        return Err(Error::new(ErrorKind::Invalid, "a file cannot be copied onto itself").at(source.name()));
    }
    // Looked at before the target is cut: both may be the same file under two names.
    drop(source.reader(cx, what.from)?);
    target.open_for_writing(cx, !what.append)?;
    let start = if what.append { target.len(cx)? } else { what.to };
    if device && what.to.checked_add(size).is_none_or(|end| target.len(cx).is_ok_and(|len| end > len)) {
        return Err(Error::from(ErrorKind::NoSpace).at(target.name()));
    }
    const PIECE: u64 = super::content::CHUNK as u64;
    progress::expect(size);
    let mut done = 0;
    while done < size {
        cx.session.guest.check_interrupt()?;
        let count = PIECE.min(size - done);
        let mut data = Vec::new();
        source.reader(cx, what.from + done)?.take(count).read_to_end(&mut data)?;
        if data.len() as u64 != count {
            return Err(Error::new(ErrorKind::Io, "the source ended early").at(source.name()));
        }
        // A hole needs no writing: the target was cut, or ends before.
        if device || !what.sparse || !bytes::is_zero(&data) {
            target.write_at(cx, start + done, &data)?;
        }
        done += count;
    }
    if let (Content::Path(path), true) = (&target, what.sparse) {
        let end = start.checked_add(size).ok_or(ErrorKind::FileTooBig)?;
        if target.len(cx)? < end {
            cx.session.guest.truncate(path, end)?;
        }
    }
    Ok(Value::Nothing)
}
