//! Commands on names in directories: records, spellings, names that nothing has yet.

use super::attributes::file_names;
use super::long_listing;
use super::looking::look;
use super::writing::{NEW_FILE, done};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Name, Result};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::{FileType, NewKind, SetAttributes};

const PATH: Param = Param::required("path", Kind::Path);
const TMPL: Param = Param::required("tmpl", Kind::Path);

/// What the names of temporary files are made of.
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "case-sensitive-path",
        aliases: &[],
        summary: "true spelling of a path that is given in any case",
        help: "Each directory on the way must exist in some spelling; the last name need not. An exact match comes first.",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /Windows\nmkdir /Windows/System32\ncase-sensitive-path /WINDOWS/system32\n",
            output: "/Windows/System32\n",
        }],
        run: |cx, args| Ok(Value::Text(true_spelling(cx, &args.path("path"))?.0)),
    },
    Command {
        name: "copy-attributes",
        aliases: &[],
        summary: "copy mode, owner and extended attributes from one path to another",
        help: "Only what is asked for: `mode:true`, `ownership:true`, `xattributes:true`, or `all:true`. Extended attributes \
               that only DEST has are removed.",
        params: &[
            Param::required("src", Kind::Path),
            Param::required("dest", Kind::Path),
            Param::optional("all", Kind::Bool),
            Param::optional("mode", Kind::Bool),
            Param::optional("xattributes", Kind::Bool),
            Param::optional("ownership", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /a\nchmod 0600 /a\nchown 10 11 /a\ntouch /b\ncopy-attributes /a /b all:true\n\
                    stat /b | egrep 'mode|id'\n",
            output: "mode: 33152\nuid: 10\ngid: 11\n",
        }],
        run: copy_attributes,
    },
    Command {
        name: "fallocate",
        aliases: &[],
        summary: "make a file of a length, with real blocks",
        help: "As `fallocate64`, for lengths under 2 GiB.",
        params: &[PATH, Param::required("len", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "fallocate /f 1000\nfilesize /f\n", output: "1000\n" }],
        run: fallocate,
    },
    Command {
        name: "fallocate64",
        aliases: &[],
        summary: "make a file of a length, with real blocks",
        help: "The file holds zero bytes and no holes. `truncate-size` makes one that takes no space.",
        params: &[PATH, Param::required("len", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "fallocate64 /f 1M\ndu /f\n", output: "1024\n" }],
        run: fallocate,
    },
    Command {
        name: "llz",
        aliases: &[],
        summary: "long listing of a directory with SELinux labels",
        help: "As `ll` with the label of each name after its group, `?` where there is none. For people.",
        params: &[Param::required("directory", Kind::Path)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nutimens /f 0 0 1000000000 0\nsetxattr security.selinux \"a:b:c:s0\" 8 /f\nllz /f\n",
            output: "-rw-r--r--. 1 0 0 a:b:c:s0 0 Sep  9  2001 /f\n\n",
        }],
        run: |cx, args| {
            let now = cx.host.now();
            Ok(Value::Text(long_listing::long_listing(&cx.session.guest, &args.path("directory"), now, true)?))
        },
    },
    Command {
        name: "mkdtemp",
        aliases: &[],
        summary: "make a directory with a name that nothing has",
        help: "The six X at the end of the template are replaced. Prints the path. Its mode is 0700.",
        params: &[TMPL],
        returns: Returns::Text,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdtemp /tmpXXXXXX | sed 's/......$//'\n",
            output: "/tmp\n",
        }],
        run: |cx, args| temporary(cx, args, NewKind::Directory, 0o700),
    },
    Command {
        name: "mktemp",
        aliases: &[],
        summary: "make a file with a name that nothing has",
        help: "The six X at the end of the template are replaced; `suffix` comes after them. Prints the path. Its mode is \
               0600.",
        params: &[TMPL, Param::optional("suffix", Kind::Text)],
        returns: Returns::Text,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mktemp /fXXXXXX suffix:.x | sed 's/......\\.x$//'\n",
            output: "/f\n",
        }],
        run: |cx, args| temporary(cx, args, NewKind::Regular, 0o600),
    },
    Command {
        name: "readdir",
        aliases: &[],
        summary: "names in a directory with inode numbers and types",
        help: "With `.` and `..`. Types are r, d, l, c, b, f (pipe), s (socket).",
        params: &[Param::required("dir", Kind::Path)],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\ntouch /d/f\nreaddir /d | egrep 'ftyp|name'\n",
            output: "  ftyp: d\n  name: .\n  ftyp: d\n  name: ..\n  ftyp: r\n  name: f\n",
        }],
        run: readdir,
    },
    Command {
        name: "readlinklist",
        aliases: &[],
        summary: "targets of many links in a directory",
        help: "An empty line for a name that is no link or is not there.",
        params: &[PATH, Param::required("names", Kind::List)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\ntouch /f\nreadlinklist / \"l f\"\n",
            output: "x\n\n",
        }],
        run: |cx, args| {
            let directory = args.path("path");
            cx.session.guest.stat(&directory)?;
            let mut targets = Vec::new();
            for name in file_names(args)? {
                targets.push(match cx.session.guest.read_link(&directory.join(name)) {
                    Ok(target) => target.0,
                    Err(e) if matches!(e.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => Vec::new(),
                    Err(e) => return Err(e),
                });
            }
            Ok(Value::List(targets))
        },
    },
    Command {
        name: "rename",
        aliases: &[],
        summary: "give a file or directory another path in the same file system",
        help: "As rename(2): a file at NEWPATH is replaced, a directory there is no place to move into. `mv` does what mv does.",
        params: &[Param::required("oldpath", Kind::Path), Param::required("newpath", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /a x\nrename /a /b\nls /\n",
            output: "b\nlost+found\n",
        }],
        run: |cx, args| done(cx.session.guest.rename(&args.path("oldpath"), &args.path("newpath"))),
    },
    Command {
        name: "write-file",
        aliases: &[],
        summary: "make or replace a file with the first bytes of a text",
        help: "The old form of `write`: SIZE bytes of CONTENT, all with 0.",
        params: &[PATH, Param::required("content", Kind::Bytes), Param::required("size", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "write-file /f hello 4\ncat /f\n", output: "hell\n" }],
        run: |cx, args| {
            let content = args.bytes("content");
            let size = match usize::try_from(args.int("size")) {
                Ok(0) => content.len(),
                Ok(size) if size <= content.len() => size,
                _ => return Err(Error::usage("size parameter is larger than string content")),
            };
            done(cx.session.guest.write_file(&args.path("path"), &content[..size]))
        },
    },
];

fn fallocate(cx: &mut Context, args: &Args) -> Result<Value> {
    let len = u64::try_from(args.int("len")).map_err(|_| Error::usage("len is negative"))?;
    if len == 0 {
        return Err(Error::from(ErrorKind::Invalid).at(args.path("path")));
    }
    done(cx.session.guest.write_from(&args.path("path"), len, &mut std::io::repeat(0), NEW_FILE))
}

fn true_spelling(cx: &Context, path: &GuestPathBuf) -> Result<GuestPathBuf> {
    let guest = &cx.session.guest;
    let names: Vec<&[u8]> = path.components().collect();
    let mut found = GuestPathBuf::root();
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        let there = guest.list(&found).map_err(|e| e.at(path))?;
        let exact = there.iter().find(|n| ***n == **name);
        let spelled = exact.or_else(|| there.iter().find(|n| n.eq_ignore_ascii_case(name)));
        found = match spelled {
            Some(name) => found.join(name),
            None if last && !path.ends_with(b"/") => found.join(name),
            None => return Err(Error::from(ErrorKind::NotFound).at(path)),
        };
    }
    if path.ends_with(b"/") && guest.stat(&found)?.file_type != FileType::Directory {
        return Err(Error::from(ErrorKind::NotADirectory).at(path));
    }
    Ok(found)
}

fn copy_attributes(cx: &mut Context, args: &Args) -> Result<Value> {
    let (src, dest) = (args.path("src"), args.path("dest"));
    let wanted = |name: &str| args.bool("all") || args.bool(name);
    let from = cx.session.guest.stat(&src)?;
    if wanted("xattributes") {
        let keep = cx.session.guest.xattrs(&src, true)?;
        let old: Vec<Name> = cx.session.guest.xattrs(&dest, true)?.into_iter().map(|(name, _)| name).collect();
        for name in old.iter().filter(|name| keep.iter().all(|(kept, _)| kept != *name)) {
            cx.session.guest.set_xattr(&dest, true, name, None)?;
        }
        for (name, value) in &keep {
            cx.session.guest.set_xattr(&dest, true, name, Some(value))?;
        }
    }
    // The owner first: changing it may clear the set-user-id bit.
    if wanted("ownership") {
        let set = SetAttributes { uid: Some(from.uid), gid: Some(from.gid), ..SetAttributes::default() };
        cx.session.guest.set_attributes(&dest, true, &set)?;
    }
    if wanted("mode") {
        let set = SetAttributes { mode: Some(from.mode), ..SetAttributes::default() };
        cx.session.guest.set_attributes(&dest, true, &set)?;
    }
    Ok(Value::Nothing)
}

fn temporary(cx: &mut Context, args: &Args, kind: NewKind, mode: u32) -> Result<Value> {
    let template = args.path("tmpl");
    let Some(start) = template.strip_suffix(b"XXXXXX") else {
        return Err(Error::from(ErrorKind::Invalid).at(template).hint("the template ends in XXXXXX"));
    };
    let suffix =
        if kind == NewKind::Directory { Vec::new() } else { args.text_if("suffix").unwrap_or_default().into() };
    loop {
        let letters: Vec<u8> = cx.host.random()[..6].iter().map(|b| LETTERS[usize::from(*b) % LETTERS.len()]).collect();
        let path = GuestPathBuf([start, &letters, &suffix].concat());
        if look(cx, &path, false)?.is_none() {
            cx.session.guest.make_masked(&path, &kind, mode)?;
            return Ok(Value::Text(path.0));
        }
    }
}

fn readdir(cx: &mut Context, args: &Args) -> Result<Value> {
    let (guest, directory) = (&cx.session.guest, args.path("dir"));
    let real = guest.realpath(&directory)?;
    let record = |name: &[u8], at: &GuestPathBuf| {
        let found = guest.lstat(at)?;
        Ok::<_, Error>(Record(vec![
            ("ino", Field::Int(found.inode.into())),
            ("ftyp", Field::Char(found.file_type.letter())),
            ("name", Field::Text(name.to_vec())),
        ]))
    };
    let names = guest.list(&real)?;
    let mut records = vec![record(b".", &real)?, record(b"..", &real.parent())?];
    for name in names {
        records.push(record(&name, &real.join(&name))?);
    }
    Ok(Value::Structs(records))
}
