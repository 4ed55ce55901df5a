//! Commands on extended attributes.

use super::attributes::file_names;
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Name, Result};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};

const PATH: Param = Param::required("path", Kind::Path);
const NAME: Param = Param::required("name", Kind::Text);
const XATTR: Param = Param::required("xattr", Kind::Text);
const VAL: Param = Param::required("val", Kind::Bytes);
const VALLEN: Param = Param::required("vallen", Kind::Int);

const LINK: &str = "A symbolic link at the end of the path is not followed.";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "getxattr",
        aliases: &[],
        summary: "value of an extended attribute",
        help: "Prints the bytes, with nothing added. The name is the full one, like `user.x`.",
        params: &[PATH, NAME],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nsetxattr user.x one 3 /f\ngetxattr /f user.x\n",
            output: "one",
        }],
        run: |cx, args| get(cx, args, true),
    },
    Command {
        name: "getxattrs",
        aliases: &[],
        summary: "all extended attributes of a path",
        help: "",
        params: &[PATH],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nsetxattr user.x one 3 /f\ngetxattrs /f\n",
            output: "[0] = {\n  attrname: user.x\n  attrval: one\n}\n",
        }],
        run: |cx, args| all(cx, args, true),
    },
    Command {
        name: "lgetxattr",
        aliases: &[],
        summary: "value of an extended attribute of a link itself",
        help: LINK,
        params: &[PATH, NAME],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\nlsetxattr trusted.x one 3 /l\nlgetxattr /l trusted.x\n",
            output: "one",
        }],
        run: |cx, args| get(cx, args, false),
    },
    Command {
        name: "lgetxattrs",
        aliases: &[],
        summary: "all extended attributes of a link itself",
        help: LINK,
        params: &[PATH],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\nlsetxattr trusted.x one 3 /l\nlgetxattrs /l\n",
            output: "[0] = {\n  attrname: trusted.x\n  attrval: one\n}\n",
        }],
        run: |cx, args| all(cx, args, false),
    },
    Command {
        name: "lremovexattr",
        aliases: &[],
        summary: "remove an extended attribute of a link itself",
        help: LINK,
        params: &[XATTR, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\nlsetxattr trusted.x one 3 /l\nlremovexattr trusted.x /l\nlgetxattrs /l\n",
            output: "",
        }],
        run: |cx, args| done(cx.session.guest.set_xattr(&args.path("path"), false, args.bytes("xattr"), None)),
    },
    Command {
        name: "lsetxattr",
        aliases: &[],
        summary: "set an extended attribute of a link itself",
        help: LINK,
        params: &[XATTR, VAL, VALLEN, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\nlsetxattr trusted.x one 3 /l\nlgetxattr /l trusted.x\n",
            output: "one",
        }],
        run: |cx, args| set(cx, args, false),
    },
    Command {
        name: "lxattrlist",
        aliases: &[],
        summary: "extended attributes of many names in a directory",
        help: "One flat list: for each name a record without a name whose value is the number of attributes as text and \
               a NUL, then the attributes. A missing name has a record with an empty value.",
        params: &[PATH, Param::required("names", Kind::List)],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nsetxattr user.x one 3 /f\nlxattrlist / \"f\"\n",
            output: "[0] = {\n  attrname: \n  attrval: 1\\x00\n}\n[1] = {\n  attrname: user.x\n  attrval: one\n}\n",
        }],
        run: |cx, args| {
            let directory = args.path("path");
            cx.session.guest.list(&directory)?;
            let mut records = Vec::new();
            for name in file_names(args)? {
                let found = match cx.session.guest.xattrs(&directory.join(name), false) {
                    Ok(found) => found,
                    Err(e) if e.kind() == ErrorKind::NotFound => {
                        records.push(record(Vec::new(), Vec::new()));
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                records.push(record(Vec::new(), format!("{}\0", found.len()).into_bytes()));
                records.extend(found.into_iter().map(|(name, value)| record(name.0, value)));
            }
            Ok(Value::Structs(records))
        },
    },
    Command {
        name: "removexattr",
        aliases: &[],
        summary: "remove an extended attribute",
        help: "",
        params: &[XATTR, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nsetxattr user.x one 3 /f\nremovexattr user.x /f\ngetxattrs /f\n",
            output: "",
        }],
        run: |cx, args| done(cx.session.guest.set_xattr(&args.path("path"), true, args.bytes("xattr"), None)),
    },
    Command {
        name: "setxattr",
        aliases: &[],
        summary: "set an extended attribute",
        help: "The name is the full one, like `user.x`. VALLEN is the length of VAL in bytes; one more adds a NUL.",
        params: &[XATTR, VAL, VALLEN, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nsetxattr user.x one 3 /f\ngetxattr /f user.x\n",
            output: "one",
        }],
        run: |cx, args| set(cx, args, true),
    },
];

fn record(name: Vec<u8>, value: Vec<u8>) -> Record {
    Record(vec![("attrname", Field::Text(name)), ("attrval", Field::Bytes(value))])
}

fn get(cx: &mut Context, args: &Args, follow: bool) -> Result<Value> {
    let path = args.path("path");
    let found: Vec<(Name, Vec<u8>)> = cx.session.guest.xattrs(&path, follow)?;
    let value = found.into_iter().find(|(name, _)| name.0 == args.bytes("name"));
    value.map(|(_, value)| Value::Bytes(value)).ok_or_else(|| Error::from(ErrorKind::NoData).at(&path))
}

fn all(cx: &mut Context, args: &Args, follow: bool) -> Result<Value> {
    let found = cx.session.guest.xattrs(&args.path("path"), follow)?;
    Ok(Value::Structs(found.into_iter().map(|(name, value)| record(name.0, value)).collect()))
}

/// The value may be counted with the NUL at its end, as guestfish has it in its memory.
fn set(cx: &mut Context, args: &Args, follow: bool) -> Result<Value> {
    let with_end = [args.bytes("val"), b"\0"].concat();
    let value = usize::try_from(args.int("vallen")).ok().and_then(|len| with_end.get(..len));
    let value = value.ok_or_else(|| {
        Error::usage(format!(
            "vallen {} is not within the {} bytes of val",
            args.int("vallen"),
            args.bytes("val").len()
        ))
    })?;
    done(cx.session.guest.set_xattr(&args.path("path"), follow, args.bytes("xattr"), Some(value)))
}
