//! Commands on links.

use super::looking::look;
use super::rename::landing;
use super::writing::done;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::FileType;

const PATH: Param = Param::required("path", Kind::Path);
const TARGET: Param = Param::required("target", Kind::Text);
const LINKNAME: Param = Param::required("linkname", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "ln",
        aliases: &[],
        summary: "make a hard link",
        help: "TARGET is an absolute guest path; a symbolic link there is linked itself.",
        params: &[TARGET, LINKNAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\nln /f /g\ncat /g\nstat /f | grep nlink\n",
            output: "hello\nnlink: 2\n",
        }],
        run: |cx, args| hard_link(cx, args, false),
    },
    Command {
        name: "ln-f",
        aliases: &[],
        summary: "make a hard link, replacing a file",
        help: "",
        params: &[TARGET, LINKNAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\ntouch /g\nln-f /f /g\ncat /g\n",
            output: "hello\n",
        }],
        run: |cx, args| hard_link(cx, args, true),
    },
    Command {
        name: "ln-s",
        aliases: &[],
        summary: "make a symbolic link",
        help: "TARGET is stored as it is given, whether it exists or not. If LINKNAME is a directory, the link is made \
               in it.",
        params: &[TARGET, LINKNAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "ln-s ../x /l\nreadlink /l\n", output: "../x\n" }],
        run: |cx, args| symbolic_link(cx, args, false),
    },
    Command {
        name: "ln-sf",
        aliases: &[],
        summary: "make a symbolic link, replacing a file",
        help: "",
        params: &[TARGET, LINKNAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "ln-s a /l\nln-sf b /l\nreadlink /l\n", output: "b\n" }],
        run: |cx, args| symbolic_link(cx, args, true),
    },
    Command {
        name: "readlink",
        aliases: &[],
        summary: "target of a symbolic link",
        help: "",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "ln-s x /l\nreadlink /l\n", output: "x\n" }],
        run: |cx, args| Ok(Value::Text(cx.session.guest.read_link(&args.path("path"))?.0)),
    },
    Command {
        name: "realpath",
        aliases: &[],
        summary: "the absolute path with all links resolved",
        help: "",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir-p /a/b\nln-s a /l\nrealpath /l/b/../b\n",
            output: "/a/b\n",
        }],
        run: |cx, args| Ok(Value::Text(cx.session.guest.realpath(&args.path("path"))?.0)),
    },
];

/// Takes away what stands where a link is to be made, as `ln -f` does. Not directories.
fn make_room(cx: &mut Context, at: &GuestPathBuf) -> Result<()> {
    match look(cx, at, false)? {
        Some(found) if found.file_type == FileType::Directory => Err(Error::from(ErrorKind::Exists).at(at)),
        Some(_) => cx.session.guest.unlink(at),
        None => Ok(()),
    }
}

fn hard_link(cx: &mut Context, args: &Args, force: bool) -> Result<Value> {
    let target = GuestPathBuf::from(args.bytes("target"));
    if !target.is_absolute() {
        return Err(Error::usage("the target of a hard link must begin with /").at(&target));
    }
    let at = args.path("linkname");
    if force {
        // The same file under both names: `ln -f` leaves it, and removing it first could lose it.
        if cx.session.guest.exists(&at)?
            && cx.session.guest.resolve_link(&at)? == cx.session.guest.resolve_link(&target)?
        {
            return Ok(Value::Nothing);
        }
        cx.session.guest.lstat(&target)?;
        make_room(cx, &at)?;
    }
    done(cx.session.guest.link(&target, &at))
}

fn symbolic_link(cx: &mut Context, args: &Args, force: bool) -> Result<Value> {
    let target = GuestPathBuf::from(args.bytes("target"));
    let at = landing(cx, &target, &args.path("linkname"))?;
    if force {
        make_room(cx, &at)?;
    }
    done(cx.session.guest.symlink(&target, &at))
}
