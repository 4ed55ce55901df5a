//! Commands that make, change and remove files and directories.

use std::io::Read;

use super::looking::look;
use super::rename;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::{FileType, NewKind, SetAttributes};

/// Permission bits of a new file before the umask takes its part, as open(2) is usually asked.
pub(super) const NEW_FILE: u32 = 0o666;
/// The same of a new directory.
pub(super) const NEW_DIRECTORY: u32 = 0o777;

const PATH: Param = Param::required("path", Kind::Path);
const SRC: Param = Param::required("src", Kind::Path);
const DEST: Param = Param::required("dest", Kind::Path);
const MODE: Param = Param::required("mode", Kind::Mode);
const MAJOR: Param = Param::required("devmajor", Kind::Int);
const MINOR: Param = Param::required("devminor", Kind::Int);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cp",
        aliases: &[],
        summary: "copy a file",
        help: "Copies one file. Into a directory if DEST is one. The copy is a new file with the mode of the source, \
               less the umask.",
        params: &[SRC, DEST],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /a hello\nmkdir /d\ncp /a /b\ncp /a /d\nfind /\n",
            output: "a\nb\nd\nd/a\nlost+found\n",
        }],
        run: |cx, args| copy(cx, args, false, false),
    },
    Command {
        name: "cp-a",
        aliases: &[],
        summary: "copy a file or tree with its attributes",
        help: "Keeps modes, owners, times, links and extended attributes. Into a directory if DEST is one.",
        params: &[SRC, DEST],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\nchmod 0600 /d/f\ncp-a /d /e\nlstatns /e/f | grep st_mode\n",
            output: "st_mode: 33152\n",
        }],
        run: |cx, args| copy(cx, args, true, true),
    },
    Command {
        name: "cp-r",
        aliases: &[],
        summary: "copy a file or tree",
        help: "The copies get new owners and times. Into a directory if DEST is one.",
        params: &[SRC, DEST],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d/f\nmkdir /e\ncp-r /d /e\nfind /e\n",
            output: "/d\n/d/f\n",
        }],
        run: |cx, args| copy(cx, args, false, true),
    },
    Command {
        name: "fill",
        aliases: &[],
        summary: "make a file of one repeated byte",
        help: "Writes LEN times the byte C (0 to 255). What a longer file has behind that stays.",
        params: &[Param::required("c", Kind::Int), Param::required("len", Kind::Int), PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "fill 0x61 3 /f\ncat /f\n", output: "aaa\n" }],
        run: |cx, args| match u8::try_from(args.int("c")) {
            Ok(byte) => fill(cx, args, vec![byte]),
            Err(_) => Err(Error::usage("byte number must be in range 0..255").at(args.int("c"))),
        },
    },
    Command {
        name: "fill-pattern",
        aliases: &[],
        summary: "make a file of a repeated string",
        help: "Writes LEN bytes: PATTERN again and again, the last time cut. What a longer file has behind that stays.",
        params: &[Param::required("pattern", Kind::Bytes), Param::required("len", Kind::Int), PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "fill-pattern abc 7 /f\ncat /f\n", output: "abcabca\n" }],
        run: |cx, args| match args.bytes("pattern") {
            [] => Err(Error::usage("pattern string must be non-empty")),
            pattern => fill(cx, args, pattern.to_vec()),
        },
    },
    Command {
        name: "mkdir",
        aliases: &[],
        summary: "make a directory",
        help: "Its mode is 0777 less the umask: 0755 unless `umask` was used.",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir /d\nls /\n", output: "d\nlost+found\n" }],
        run: |cx, args| done(cx.session.guest.mkdir(&args.path("path"), NEW_DIRECTORY)),
    },
    Command {
        name: "mkdir-mode",
        aliases: &[],
        summary: "make a directory with a mode",
        help: "The umask takes its part from the mode. Write modes with a leading 0: `0755`. Set-id bits are left out, as Linux \
               does; `chmod` sets them.",
        params: &[PATH, MODE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir-mode /d 0700\nstat /d | grep mode\n",
            output: "mode: 16832\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            // What Linux keeps of the mode of a new directory (fs/namei.c, vfs_mkdir).
            let mode = unsigned_mode(args, &path)? & 0o1777;
            done(cx.session.guest.mkdir(&path, mode))
        },
    },
    Command {
        name: "mkdir-p",
        aliases: &[],
        summary: "make a directory and its parents",
        help: "A directory that is there already is no error.",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir-p /a/b\nmkdir-p /a/b\nfind /a\n", output: "/b\n" }],
        run: |cx, args| done(cx.session.guest.mkdir_p(&args.path("path"), NEW_DIRECTORY)),
    },
    Command {
        name: "mkfifo",
        aliases: &[],
        summary: "make a named pipe",
        help: "The umask takes its part from the mode.",
        params: &[MODE, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "mkfifo 0600 /p\nis-fifo /p\n", output: "true\n" }],
        run: |cx, args| make_node(cx, args, |_| Ok(NewKind::Fifo)),
    },
    Command {
        name: "mknod",
        aliases: &[],
        summary: "make a device node, pipe, socket or file from a full mode",
        help: "MODE holds type and permission bits as `st_mode` does: 060000 block, 020000 character, 010000 pipe, \
               0140000 socket, 0100000 or nothing a regular file. The umask takes its part.",
        params: &[MODE, MAJOR, MINOR, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mknod 060660 8 1 /sda1\nlstat /sda1 | grep rdev\n",
            output: "rdev: 2049\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            let mode = unsigned_mode(args, &path)?;
            let kind = match (FileType::from_mode(mode), mode & 0o170000) {
                (Some(FileType::CharDevice), _) => char_device(args)?,
                (Some(FileType::BlockDevice), _) => block_device(args)?,
                (Some(FileType::Fifo), _) => NewKind::Fifo,
                (Some(FileType::Socket), _) => NewKind::Socket,
                (Some(FileType::Regular), _) | (None, 0) => NewKind::Regular,
                (Some(FileType::Directory), _) => {
                    return Err(Error::new(ErrorKind::Denied, "Operation not permitted")
                        .at(path)
                        .hint("mkdir makes directories"));
                }
                _ => return Err(Error::from(ErrorKind::Invalid).at(path)),
            };
            make(cx, args, kind, mode & 0o7777)
        },
    },
    Command {
        name: "mknod-b",
        aliases: &[],
        summary: "make a block device node",
        help: "MODE holds permission bits only; the umask takes its part.",
        params: &[MODE, MAJOR, MINOR, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mknod-b 0660 8 0 /sda\nis-blockdev /sda\n",
            output: "true\n",
        }],
        run: |cx, args| make_node(cx, args, block_device),
    },
    Command {
        name: "mknod-c",
        aliases: &[],
        summary: "make a character device node",
        help: "MODE holds permission bits only; the umask takes its part.",
        params: &[MODE, MAJOR, MINOR, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mknod-c 0666 1 3 /null\nis-chardev /null\n",
            output: "true\n",
        }],
        run: |cx, args| make_node(cx, args, char_device),
    },
    Command {
        name: "mv",
        aliases: &[],
        summary: "move or rename a file or tree",
        help: "Into a directory if DEST is one; a file at DEST is replaced. Between file systems it copies and removes.",
        params: &[SRC, DEST],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /a\nmkdir /d\nmv /a /b\nmv /b /d\nfind /\n",
            output: "d\nd/b\nlost+found\n",
        }],
        run: rename::mv,
    },
    Command {
        name: "pwrite",
        aliases: &[],
        summary: "write into a file at an offset",
        help: "The file must exist; past its end it grows. Prints how many bytes were written.",
        params: &[PATH, Param::required("content", Kind::Bytes), Param::required("offset", Kind::Int64)],
        returns: Returns::Int,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\npwrite /f XY 1\ncat /f\n",
            output: "2\nhXYlo\n",
        }],
        run: |cx, args| {
            let offset = u64::try_from(args.int("offset")).map_err(|_| Error::usage("offset is negative"))?;
            let content = args.bytes("content");
            cx.session.guest.write_at(&args.path("path"), Some(offset), content)?;
            Ok(Value::Int(content.len() as i64))
        },
    },
    Command {
        name: "rm",
        aliases: &[],
        summary: "remove a file",
        help: "",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /f\nrm /f\nexists /f\n", output: "false\n" }],
        run: |cx, args| done(cx.session.guest.unlink(&args.path("path"))),
    },
    Command {
        name: "rm-f",
        aliases: &[],
        summary: "remove a file if it is there",
        help: "A missing file is no error; a directory is.",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "rm-f /nope\necho ok\n", output: "ok\n" }],
        run: |cx, args| match cx.session.guest.unlink(&args.path("path")) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Value::Nothing),
            other => done(other),
        },
    },
    Command {
        name: "rm-rf",
        aliases: &[],
        summary: "remove a file or tree",
        help: "A missing path is no error. A tree with a mounted file system in it is refused.",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir-p /d/e\nrm-rf /d\nls /\n", output: "lost+found\n" }],
        run: |cx, args| match args.path("path") {
            path if *path == *b"/" => Err(Error::usage("cannot remove root directory")),
            path => done(cx.session.guest.remove_tree(&path)),
        },
    },
    Command {
        name: "rmdir",
        aliases: &[],
        summary: "remove an empty directory",
        help: "",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir /d\nrmdir /d\nls /\n", output: "lost+found\n" }],
        run: |cx, args| done(cx.session.guest.rmdir(&args.path("path"))),
    },
    Command {
        name: "touch",
        aliases: &[],
        summary: "make a file or set its times to now",
        help: "Works on regular files only.",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "touch /f\nfilesize /f\n", output: "0\n" }],
        run: touch,
    },
    Command {
        name: "truncate",
        aliases: &[],
        summary: "cut a file to nothing",
        help: "",
        params: &[PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f hello\ntruncate /f\nfilesize /f\n", output: "0\n" }],
        run: |cx, args| done(cx.session.guest.truncate(&args.path("path"), 0)),
    },
    Command {
        name: "truncate-size",
        aliases: &[],
        summary: "set the length of a file",
        help: "A file that grows gets a hole at its end, which reads as zeros and takes no space.",
        params: &[PATH, Param::required("size", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\ntruncate-size /f 1M\nfilesize /f\n",
            output: "1048576\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            let size = u64::try_from(args.int("size")).map_err(|_| Error::from(ErrorKind::Invalid).at(&path))?;
            done(cx.session.guest.truncate(&path, size))
        },
    },
    Command {
        name: "write",
        aliases: &["internal-write"],
        summary: "make or replace a file with a text",
        help: "The file holds exactly CONTENT: no newline is added. In double quotes `\\n` is a newline.",
        params: &[PATH, Param::required("content", Kind::Bytes)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"hello\\n\"\nread-file /f\n", output: "hello\n" }],
        run: |cx, args| done(cx.session.guest.write_file(&args.path("path"), args.bytes("content"))),
    },
    Command {
        name: "write-append",
        aliases: &["internal-write-append"],
        summary: "append a text to a file",
        help: "A missing file is made.",
        params: &[PATH, Param::required("content", Kind::Bytes)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f one\nwrite-append /f two\ncat /f\n",
            output: "onetwo\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            match look(cx, &path, true)? {
                Some(_) => done(cx.session.guest.write_at(&path, None, args.bytes("content"))),
                None => done(cx.session.guest.write_file(&path, args.bytes("content"))),
            }
        },
    },
];

/// The answer of a command that answers nothing.
pub(super) fn done(result: Result<()>) -> Result<Value> {
    result.map(|()| Value::Nothing)
}

/// A mode that is not negative. What is over the permission bits is for the caller to mask.
pub(super) fn unsigned_mode(args: &Args, path: &GuestPathBuf) -> Result<u32> {
    u32::try_from(args.int("mode")).map_err(|_| Error::usage("mode is negative").at(path))
}

fn copy(cx: &mut Context, args: &Args, keep_attributes: bool, recursive: bool) -> Result<Value> {
    done(cx.session.guest.copy(&args.path("src"), &args.path("dest"), keep_attributes, recursive))
}

fn touch(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("path");
    // Most are new, so that one walk does.
    let made = cx.session.guest.make_file(&path, NEW_FILE);
    if !made.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Exists | ErrorKind::Invalid)) {
        return done(made);
    }
    match look(cx, &path, false)? {
        None => done(made),
        Some(found) if found.file_type == FileType::Regular => {
            let now = Some(cx.host.now());
            let set = SetAttributes { accessed: now, modified: now, ..SetAttributes::default() };
            done(cx.session.guest.set_attributes(&path, false, &set))
        }
        Some(_) => Err(Error::usage("touch can only be used on a regular files").at(&path)),
    }
}

/// Bytes that repeat for ever.
struct Repeat {
    pattern: Vec<u8>,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        for byte in buf.iter_mut() {
            *byte = self.pattern.get(self.at).copied().unwrap_or(0);
            self.at = (self.at + 1) % self.pattern.len().max(1);
        }
        Ok(buf.len())
    }
}

fn fill(cx: &mut Context, args: &Args, pattern: Vec<u8>) -> Result<Value> {
    let len = u64::try_from(args.int("len")).map_err(|_| Error::usage("length is < 0").at(args.int("len")))?;
    let (path, guest) = (args.path("path"), &mut cx.session.guest);
    let mut source = Repeat { pattern, at: 0 };
    if guest.stat(&path).is_ok_and(|old| old.size > len) {
        // What a longer file has behind it stays.
        let mut at = 0;
        while at < len {
            let mut part = vec![0; (len - at).min(1 << 20) as usize];
            source.read_exact(&mut part)?;
            guest.write_at(&path, Some(at), &part)?;
            at += part.len() as u64;
        }
        return Ok(Value::Nothing);
    }
    done(guest.write_from(&path, len, &mut source, NEW_FILE))
}

/// A device number, which Linux keeps in 12 bits and 20 (include/linux/kdev_t.h).
fn device(args: &Args) -> Result<(u32, u32)> {
    let number = |name, max| u32::try_from(args.int(name)).ok().filter(|number| *number <= max);
    let pair = number("devmajor", (1 << 12) - 1).zip(number("devminor", (1 << 20) - 1));
    pair.ok_or_else(|| Error::from(ErrorKind::Invalid).at(args.path("path")))
}

fn block_device(args: &Args) -> Result<NewKind> {
    device(args).map(|(major, minor)| NewKind::BlockDevice(major, minor))
}

fn char_device(args: &Args) -> Result<NewKind> {
    device(args).map(|(major, minor)| NewKind::CharDevice(major, minor))
}

/// Makes a node of a kind, with a mode that holds permission bits only.
fn make_node(cx: &mut Context, args: &Args, kind: impl FnOnce(&Args) -> Result<NewKind>) -> Result<Value> {
    let mode = args.int("mode") as u32;
    if mode > 0o7777 {
        return Err(Error::usage("mode must specify only file permission bits").at(format_args!("{mode:o}")));
    }
    let kind = kind(args)?;
    make(cx, args, kind, mode)
}

fn make(cx: &mut Context, args: &Args, kind: NewKind, mode: u32) -> Result<Value> {
    done(cx.session.guest.make_masked(&args.path("path"), &kind, mode))
}
