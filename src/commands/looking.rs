//! Commands that look at names: what is there and of what kind.

use std::collections::HashSet;
use std::io::Write;

use super::long_listing;
use crate::base::{GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::{FileType, Metadata};

const PATH: Param = Param::required("path", Kind::Path);
const DIRECTORY: Param = Param::required("directory", Kind::Path);
const FOLLOW: Param = Param::optional("followsymlinks", Kind::Bool);

/// A question about a path's type: all of them read alike.
macro_rules! is {
    ($name:literal, $alias:literal, $summary:literal, $type:expr, $lines:literal, $output:literal) => {
        Command {
            name: $name,
            aliases: &[$alias],
            summary: $summary,
            help: "A missing path answers `false`, which is no error. Symbolic links at the end of the path are followed \
                   only with `followsymlinks:true`.",
            params: &[PATH, FOLLOW],
            returns: Returns::Bool,
            effect: Effect::Reads,
            examples: &[Example { setup: Setup::Ext4, lines: $lines, output: $output }],
            run: |cx, args| is_type(cx, args, $type),
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "du",
        aliases: &[],
        summary: "disk use of a file or tree in KiB",
        help: "Counts the space that is really used, hard links once.",
        params: &[PATH],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /f\ndu /f\n", output: "0\n" }],
        run: du,
    },
    Command {
        name: "exists",
        aliases: &[],
        summary: "whether a path exists",
        help: "A symbolic link at the end of the path exists wherever it leads; with `followsymlinks:true`, which guestfish \
               does not have, only if what it leads to does. `false` is no error.",
        params: &[PATH, FOLLOW],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s /nope /link\nexists /nope\nexists /link\nexists /link followsymlinks:true\n",
            output: "false\ntrue\nfalse\n",
        }],
        run: |cx, args| {
            let found = look(cx, &args.path("path"), args.bool("followsymlinks"))?;
            Ok(Value::Bool(found.is_some()))
        },
    },
    Command {
        name: "find",
        aliases: &[],
        summary: "everything below a directory",
        help: "Prints the paths below the directory, without the directory itself, sorted by bytes. There is nothing below a link to a \
               directory, unless a slash follows its name.",
        params: &[DIRECTORY],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir-p /d/e\ntouch /d/e/f\nfind /d\nfind /d/\n",
            output: "/e\n/e/f\ne\ne/f\n",
        }],
        run: |cx, args| Ok(Value::List(find(cx, &args.path("directory"))?)),
    },
    Command {
        name: "find0",
        aliases: &[],
        summary: "everything below a directory, to a host file",
        help: "As `find`, every path with a NUL byte after it, for names that hold line ends.",
        params: &[DIRECTORY, Param::required("files", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir /d\ntouch /d/f\nfind0 /d -\n", output: "/f\0" }],
        run: |cx, args| {
            let names = find(cx, &args.path("directory"))?;
            write_names(cx, args, "files", &names)
        },
    },
    Command {
        name: "glob-expand",
        aliases: &["glob-expand-opts"],
        summary: "paths that match a wildcard",
        help: "`*`, `?` and `[...]` match within one component, not a leading dot. Sorted; directories get a slash \
               at the end unless `directoryslash:false` is given.",
        params: &[Param::required("pattern", Kind::Path), Param::optional("directoryslash", Kind::Bool)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d1\nglob-expand /d*\n",
            output: "/d/\n/d1\n",
        }],
        run: |cx, args| {
            let mark = args.get("directoryslash").is_none() || args.bool("directoryslash");
            let paths = cx.session.guest.glob(&args.path("pattern"), mark)?;
            Ok(Value::list(paths.into_iter().map(|p| p.0)))
        },
    },
    is!(
        "is-blockdev",
        "is-blockdev-opts",
        "whether a path is a block device node",
        FileType::BlockDevice,
        "mknod-b 0600 8 0 /b\nis-blockdev /b\n",
        "true\n"
    ),
    is!(
        "is-chardev",
        "is-chardev-opts",
        "whether a path is a character device node",
        FileType::CharDevice,
        "mknod-c 0666 1 3 /null\nis-chardev /null\n",
        "true\n"
    ),
    is!(
        "is-dir",
        "is-dir-opts",
        "whether a path is a directory",
        FileType::Directory,
        "is-dir /lost+found\nis-dir /nope\n",
        "true\nfalse\n"
    ),
    is!(
        "is-fifo",
        "is-fifo-opts",
        "whether a path is a named pipe",
        FileType::Fifo,
        "mkfifo 0600 /p\nis-fifo /p\n",
        "true\n"
    ),
    is!(
        "is-file",
        "is-file-opts",
        "whether a path is a regular file",
        FileType::Regular,
        "touch /f\nln-s f /l\nis-file /f\nis-file /l\nis-file /l followsymlinks:true\n",
        "true\nfalse\ntrue\n"
    ),
    is!(
        "is-socket",
        "is-socket-opts",
        "whether a path is a socket",
        FileType::Socket,
        "mknod 0140600 0 0 /s\nis-socket /s\n",
        "true\n"
    ),
    Command {
        name: "is-symlink",
        aliases: &[],
        summary: "whether a path is a symbolic link",
        help: "A missing path answers `false`, which is no error.",
        params: &[PATH],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "ln-s x /l\nis-symlink /l\n", output: "true\n" }],
        run: |cx, args| is_type(cx, args, FileType::Symlink),
    },
    Command {
        name: "ll",
        aliases: &[],
        summary: "long listing of a directory",
        help: "As `ls -la` prints it, with numeric owners and times in UTC; `+` behind the permissions is an ACL, `.` an SELinux label alone. For people: scripts use `ls` and `lstatns`.",
        params: &[DIRECTORY],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\nutimens /d/f 0 0 1000000000 0\nll /d/f\n",
            output: "-rw-r--r-- 1 0 0 5 Sep  9  2001 /d/f\n\n",
        }],
        run: |cx, args| {
            let now = cx.host.now();
            Ok(Value::Text(long_listing::long_listing(&cx.session.guest, &args.path("directory"), now, false)?))
        },
    },
    Command {
        name: "ls",
        aliases: &[],
        summary: "names in a directory",
        help: "Sorted by bytes, without `.` and `..`; other names that begin with a dot are shown.",
        params: &[DIRECTORY],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /.f\nls /\n", output: ".f\nlost+found\n" }],
        run: |cx, args| Ok(Value::list(cx.session.guest.list(&args.path("directory"))?.into_iter().map(|n| n.0))),
    },
    Command {
        name: "ls0",
        aliases: &[],
        summary: "names in a directory, to a host file",
        help: "As `ls`, every name with a NUL byte after it.",
        params: &[Param::required("dir", Kind::Path), Param::required("filenames", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "ls0 / -\n", output: "lost+found\0" }],
        run: |cx, args| {
            let names: Vec<Vec<u8>> = cx.session.guest.list(&args.path("dir"))?.into_iter().map(|n| n.0).collect();
            write_names(cx, args, "filenames", &names)
        },
    },
];

/// What `lstat` or `stat` answers, or `None` for a path that leads nowhere.
pub(super) fn look(cx: &mut Context, path: &GuestPathBuf, follow: bool) -> Result<Option<Metadata>> {
    let found = if follow { cx.session.guest.stat(path) } else { cx.session.guest.lstat(path) };
    match found {
        Ok(metadata) => Ok(Some(metadata)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_type(cx: &mut Context, args: &Args, wanted: FileType) -> Result<Value> {
    let follow = wanted != FileType::Symlink && args.bool("followsymlinks");
    let found = look(cx, &args.path("path"), follow)?;
    Ok(Value::Bool(found.is_some_and(|m| m.file_type == wanted)))
}

fn find(cx: &mut Context, directory: &GuestPathBuf) -> Result<Vec<Vec<u8>>> {
    cx.session.guest.stat(directory)?.file_type.check_directory().map_err(|e| e.at(directory))?;
    // As find(1) has it: a link to a directory is only followed with a slash behind it.
    if cx.session.guest.lstat(directory)?.file_type == FileType::Symlink {
        return Ok(Vec::new());
    }
    // The answer is what follows the directory as it was typed.
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    let host = cx.host;
    let mut found = Vec::new();
    cx.session.guest.walk(directory, &mut |entry| {
        if !entry.path.is_empty() {
            found.push([slash, &entry.path].concat());
        }
        if host.interrupted() { Err(ErrorKind::Interrupted.into()) } else { Ok(true) }
    })?;
    found.sort();
    Ok(found)
}

fn write_names(cx: &mut Context, args: &Args, file: &str, names: &[Vec<u8>]) -> Result<Value> {
    let mut out = std::io::BufWriter::new(cx.host.write(&args.file(file))?);
    for name in names {
        out.write_all(name)?;
        out.write_all(b"\0")?;
    }
    out.flush()?;
    Ok(Value::Nothing)
}

fn du(cx: &mut Context, args: &Args) -> Result<Value> {
    let host = cx.host;
    let mut counted = HashSet::new();
    let mut sectors = 0_u64;
    let path = args.path("path");
    let start = cx.session.guest.lstat(&path)?;
    if start.file_type != FileType::Directory {
        return Ok(Value::Int(kib(start.blocks)));
    }
    cx.session.guest.walk(&path, &mut |entry| {
        let metadata = &entry.metadata;
        if metadata.links < 2 || metadata.file_type == FileType::Directory || counted.insert(entry.place) {
            sectors = sectors.saturating_add(metadata.blocks);
        }
        if host.interrupted() { Err(ErrorKind::Interrupted.into()) } else { Ok(true) }
    })?;
    Ok(Value::Int(kib(sectors)))
}

/// 512-byte units as KiB, rounded up as du does.
fn kib(sectors: u64) -> i64 {
    i64::try_from(sectors.div_ceil(2)).unwrap_or(i64::MAX)
}
