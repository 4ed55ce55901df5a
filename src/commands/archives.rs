//! Commands on archives and compressed copies.

use std::io::Write;

use super::content::content;
use super::looking::look;
use super::reading::MEMORY_LIMIT;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::FileType;
use crate::guest::archive::{Compression, TarSink, TarSource, read_initrd, write_cpio};
use crate::guest::glob;
use crate::guest::transfer::{Entry, ImportOptions, Sink};

const CTYPE: Param = Param::required("ctype", Kind::Text);
const DIRECTORY: Param = Param::required("directory", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "compress-device-out",
        aliases: &[],
        summary: "compressed copy of a device in a host file",
        help: "CTYPE is gzip, bzip2, xz, lzma or zstd; `level` as the program of that name takes it.",
        params: &[
            CTYPE,
            Param::required("device", Kind::Device),
            Param::required("zdevice", Kind::FileOut),
            Param::optional("level", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "compress-device-out gzip /dev/sda - | gunzip | wc -c\n",
            output: "67108864\n",
        }],
        run: |cx, args| compress_out(cx, args, "device", "zdevice"),
    },
    Command {
        name: "compress-out",
        aliases: &[],
        summary: "compressed copy of a guest file in a host file",
        help: "CTYPE is gzip, bzip2, xz, lzma or zstd; `level` as the program of that name takes it.",
        params: &[
            CTYPE,
            Param::required("file", Kind::Path),
            Param::required("zfile", Kind::FileOut),
            Param::optional("level", Kind::Int),
        ],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hello\\n\"\ncompress-out xz /f - level:1 | xz -dc\n",
            output: "hello\n",
        }],
        run: |cx, args| compress_out(cx, args, "file", "zfile"),
    },
    Command {
        name: "cpio-out",
        aliases: &[],
        summary: "pack a guest directory as a cpio archive on the host",
        help: "`format` is newc (the default) or crc, which has checksums. Names are relative to the directory.",
        params: &[DIRECTORY, Param::required("cpiofile", Kind::FileOut), Param::optional("format", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\ncpio-out /d - | head -c 6\n",
            output: "070701",
        }],
        run: cpio_out,
    },
    Command {
        name: "initrd-cat",
        aliases: &[],
        summary: "one file of an initrd",
        help: "Prints its bytes. Compressed initrds and those of several archives are read too.",
        params: &[Param::required("initrdpath", Kind::Path), Param::required("filename", Kind::Bytes)],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\ncpio-out /d d.cpio\nupload d.cpio /initrd\ninitrd-cat /initrd f\n",
            output: "hello",
        }],
        run: initrd_cat,
    },
    Command {
        name: "initrd-list",
        aliases: &[],
        summary: "names in an initrd",
        help: "As they stand in it, in order.",
        params: &[Param::required("path", Kind::Path)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\ncpio-out /d d.cpio\nupload d.cpio /initrd\ninitrd-list /initrd\n",
            output: ".\nf\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            let mut names = Vec::new();
            let mut room = MEMORY_LIMIT;
            read_initrd(cx.session.guest.reader(&path)?, &mut |entry, _| {
                room = room.checked_sub(entry.name.len() as u64 + 32).ok_or(ErrorKind::FileTooBig)?;
                names.push(entry.name.clone());
                Ok(true)
            })
            .map_err(|e| e.at(&path))?;
            Ok(Value::List(names))
        },
    },
    Command {
        name: "tar-in",
        aliases: &["tar-in-opts"],
        summary: "unpack a host tar archive into a guest directory",
        help: "Modes, numeric owners, times and links come with it; extended attributes (which hold ACLs and SELinux \
               labels too) with `xattrs:true`. `compress` is compress, gzip, bzip2, xz, lzma or zstd; without it the archive is read as it is, \
               whatever its name. `keepdirlink:true` keeps a link to a directory where the archive has a directory.",
        params: &[
            Param::required("tarfile", Kind::FileIn),
            DIRECTORY,
            Param::optional("compress", Kind::Text),
            Param::optional("xattrs", Kind::Bool),
            Param::optional("selinux", Kind::Bool),
            Param::optional("acls", Kind::Bool),
            Param::optional("keepdirlink", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "!mkdir d && echo hello > d/f && tar cf d.tar d\ntar-in d.tar /\nread-file /d/f\n",
            output: "hello\n",
        }],
        run: |cx, args| tar_in(cx, args, "tarfile", compression(args)?),
    },
    Command {
        name: "tar-out",
        aliases: &["tar-out-opts"],
        summary: "pack a guest directory as a tar archive on the host",
        help: "Names begin with `./`. Owners are numbers. `compress` is gzip, bzip2, xz, lzma or zstd; `xattrs:true`, `selinux:true` or \
               `acls:true` store extended attributes. `excludes` is a list of wildcards as `glob-expand` has them: \
               what matches in full or from a slash on is left out, with everything below it. A file with large holes (64 MiB and \
               more than half of it) is written without them, as `tar -S` does.",
        params: &[
            Param::required("directory", Kind::Path),
            Param::required("tarfile", Kind::FileOut),
            Param::optional("compress", Kind::Text),
            Param::optional("numericowner", Kind::Bool),
            Param::optional("excludes", Kind::List),
            Param::optional("xattrs", Kind::Bool),
            Param::optional("selinux", Kind::Bool),
            Param::optional("acls", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d/a\ntouch /d/b.o\ntar-out /d - \"excludes:*.o\" | tar tf -\n",
            output: "./\n./a\n",
        }],
        run: |cx, args| tar_out(cx, args, "tarfile", compression(args)?),
    },
    Command {
        name: "tgz-in",
        aliases: &[],
        summary: "unpack a gzip-compressed tar archive into a guest directory",
        help: "As `tar-in` with `compress:gzip`.",
        params: &[Param::required("tarball", Kind::FileIn), DIRECTORY],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "!mkdir d && echo hello > d/f && tar czf d.tgz d\ntgz-in d.tgz /\nread-file /d/f\n",
            output: "hello\n",
        }],
        run: |cx, args| tar_in(cx, args, "tarball", Compression::Gzip),
    },
    Command {
        name: "tgz-out",
        aliases: &[],
        summary: "pack a guest directory as a gzip-compressed tar archive on the host",
        help: "As `tar-out` with `compress:gzip`.",
        params: &[DIRECTORY, Param::required("tarball", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d/a\ntgz-out /d - | tar tzf -\n",
            output: "./\n./a\n",
        }],
        run: |cx, args| tar_out(cx, args, "tarball", Compression::Gzip),
    },
    Command {
        name: "txz-in",
        aliases: &[],
        summary: "unpack an xz-compressed tar archive into a guest directory",
        help: "As `tar-in` with `compress:xz`.",
        params: &[Param::required("tarball", Kind::FileIn), DIRECTORY],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "!mkdir d && echo hello > d/f && tar cJf d.txz d\ntxz-in d.txz /\nread-file /d/f\n",
            output: "hello\n",
        }],
        run: |cx, args| tar_in(cx, args, "tarball", Compression::Xz),
    },
    Command {
        name: "txz-out",
        aliases: &[],
        summary: "pack a guest directory as an xz-compressed tar archive on the host",
        help: "As `tar-out` with `compress:xz`.",
        params: &[DIRECTORY, Param::required("tarball", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d/a\ntxz-out /d - | tar tJf -\n",
            output: "./\n./a\n",
        }],
        run: |cx, args| tar_out(cx, args, "tarball", Compression::Xz),
    },
];

fn compression(args: &Args) -> Result<Compression> {
    args.text_if("compress").map_or(Ok(Compression::None), |name| Compression::from_name(&name))
}

/// Whether extended attributes are asked for. In an archive ACLs and SELinux labels are attributes like others.
fn attributes(args: &Args, command_has_options: bool) -> bool {
    command_has_options && ["xattrs", "selinux", "acls"].into_iter().any(|name| args.bool(name))
}

fn check_directory(cx: &mut Context, path: &GuestPathBuf) -> Result<()> {
    match look(cx, path, true)?.map(|m| m.file_type) {
        Some(FileType::Directory) => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::NotADirectory, "not a directory").at(path)),
        None => Err(Error::from(ErrorKind::NotFound).at(path)),
    }
}

fn tar_in(cx: &mut Context, args: &Args, file: &str, compression: Compression) -> Result<Value> {
    let directory = args.path("directory");
    let (reader, _) = cx.host.read(&args.file(file))?;
    check_directory(cx, &directory)?;
    let plain = file == "tarball";
    let options = ImportOptions {
        xattrs: attributes(args, !plain),
        keep_directory_links: !plain && args.bool("keepdirlink"),
        ..ImportOptions::default()
    };
    let mut source = TarSource::new(reader, compression)?;
    cx.session.guest.import(&directory, &mut source, &options)?;
    Ok(Value::Nothing)
}

fn tar_out(cx: &mut Context, args: &Args, file: &str, compression: Compression) -> Result<Value> {
    let directory = args.path("directory");
    check_directory(cx, &directory)?;
    let plain = file == "tarball";
    let patterns = if plain { &[] } else { args.list("excludes") };
    let writer = cx.host.write(&args.file(file))?;
    let sink = TarSink::new(writer, compression, attributes(args, !plain))?;
    let mut sink = Excluding { sink, patterns, below: None };
    cx.session.guest.export(&directory, &GuestPathBuf::from("."), &mut sink)?;
    sink.finish()?;
    Ok(Value::Nothing)
}

/// Leaves out of an archive what matches a pattern, as tar's `--exclude` does.
struct Excluding<'a, S> {
    sink: S,
    patterns: &'a [Vec<u8>],
    /// The last directory that was left out.
    below: Option<Vec<u8>>,
}

impl<S: Sink> Sink for Excluding<'_, S> {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        if let Some(excluded) = &self.below
            && entry.path.strip_prefix(excluded.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
        {
            return Ok(());
        }
        if self.patterns.iter().any(|pattern| excludes(pattern, &entry.path)) {
            self.below = Some(entry.path.0);
            return Ok(());
        }
        self.sink.put(entry)
    }

    fn finish(&mut self) -> Result<()> {
        self.sink.finish()
    }

    fn wants_xattrs(&self) -> bool {
        self.sink.wants_xattrs()
    }

    fn leaves_out(&self, size: u64, holes: u64) -> bool {
        self.sink.leaves_out(size, holes)
    }
}

/// Whether a pattern matches a path, or the rest of it after some slash.
fn excludes(pattern: &[u8], path: &[u8]) -> bool {
    let starts = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
    std::iter::once(0).chain(starts).any(|at| glob::matches(pattern, &path[at..]))
}

fn compress_out(cx: &mut Context, args: &Args, from: &str, to: &str) -> Result<Value> {
    let compression = Compression::from_name(&args.text("ctype"))?;
    let level = args
        .int_if("level")
        .map(|level| u32::try_from(level).map_err(|_| Error::usage(format!("level {level} is negative"))));
    let source = content(cx, args, from)?;
    let mut reader = source.reader(cx, 0)?;
    let mut encoder = compression.writer(cx.host.write(&args.file(to))?, level.transpose()?)?;
    std::io::copy(&mut reader, &mut encoder).map_err(|e| Error::from(e).at(source.name()))?;
    encoder.finish()?;
    Ok(Value::Nothing)
}

fn cpio_out(cx: &mut Context, args: &Args) -> Result<Value> {
    let directory = args.path("directory");
    check_directory(cx, &directory)?;
    let checksums = match args.text_if("format").as_deref() {
        None | Some("newc") => false,
        Some("crc") => true,
        Some(other) => return Err(Error::usage(format!("format must be newc or crc, not '{other}'"))),
    };
    let mut out = std::io::BufWriter::with_capacity(1 << 18, cx.host.write(&args.file("cpiofile"))?);
    write_cpio(&cx.session.guest, &directory, &mut out, checksums)?;
    out.flush()?;
    Ok(Value::Nothing)
}

fn initrd_cat(cx: &mut Context, args: &Args) -> Result<Value> {
    let (path, wanted) = (args.path("initrdpath"), args.bytes("filename"));
    let plain = |name: &[u8]| name.strip_prefix(b"./").unwrap_or(name).to_vec();
    let (wanted, mut found) = (plain(wanted), None);
    read_initrd(cx.session.guest.reader(&path)?, &mut |entry, data| {
        if plain(&entry.name) != wanted || !entry.is_regular() {
            return Ok(true);
        }
        if entry.size > MEMORY_LIMIT {
            return Err(ErrorKind::FileTooBig.into());
        }
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        found = Some(content);
        Ok(false)
    })
    .map_err(|e| e.at(&path))?;
    match found {
        Some(content) => Ok(Value::Bytes(content)),
        None => {
            Err(Error::new(ErrorKind::NotFound, format!("{}: file not found in this initrd", args.text("filename")))
                .at(path)
                .hint("initrd-list shows the names"))
        }
    }
}
