//! `edit` and its kin, and `install-file`: a file is replaced as a whole, with its attributes.

use std::io::Read;

use super::looking::look;
use super::owners::id_of;
use super::reading::MEMORY_LIMIT;
use super::transfer::open_sized;
use super::writing::{NEW_DIRECTORY, NEW_FILE};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::{FileType, SetAttributes};

const FILENAME: Param = Param::required("filename", Kind::Path);

const EDIT: &str = "The file is given to the editor as a host file. If it was changed, a new file takes its place, with \
    the mode, owner and extended attributes of the old one; links are followed first. If the editor fails, nothing changes.";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "edit",
        aliases: &[],
        summary: "edit a guest file with $EDITOR",
        help: "$EDITOR is a host shell command, the file's name is appended to it: `EDITOR=\"sed -i s/a/b/\"` works. \
               Without it, vi.",
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "# with EDITOR=\"sed -i s/one/two/\"\nwrite /f \"one\\n\"\nchmod 0600 /f\nedit /f\nread-file /f\n\
                    stat /f | grep mode\n",
            output: "two\nmode: 33152\n",
        }],
        run: |cx, args| {
            let editor = cx.host.variable("EDITOR").filter(|e| !e.is_empty()).unwrap_or_else(|| "vi".to_string());
            edit(cx, args, &editor)
        },
    },
    Command {
        name: "emacs",
        aliases: &[],
        summary: "edit a guest file with emacs",
        help: EDIT,
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "-emacs /nope\necho ok\n", output: "ok\n" }],
        run: |cx, args| edit(cx, args, "emacs -nw"),
    },
    Command {
        name: "install-file",
        aliases: &[],
        summary: "put a host file into the guest with its mode and owner",
        help: "Copies LOCAL to REMOTE, a path or a directory to put it in; directories on the way are made. `mode` is \
               octal, 0644 if it is left out. `owner` and `group` are numbers or names from the guest's /etc/passwd and \
               /etc/group, root if they are left out. A file that is there is replaced as a whole.",
        params: &[
            Param::required("local", Kind::FileIn),
            Param::required("remote", Kind::Path),
            Param::optional("mode", Kind::Text),
            Param::optional("owner", Kind::Text),
            Param::optional("group", Kind::Text),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "install-file -<<END /opt/app/bin/run mode:0755 owner:10\n#!/bin/sh\nEND\n\
                    stat /opt/app/bin/run | egrep '^(mode|uid|size)'\n",
            output: "mode: 33261\nuid: 10\nsize: 10\n",
        }],
        run: install_file,
    },
    Command {
        name: "vi",
        aliases: &[],
        summary: "edit a guest file with vi",
        help: EDIT,
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "-vi /nope\necho ok\n", output: "ok\n" }],
        run: |cx, args| edit(cx, args, "vi"),
    },
];

/// A name beside `path` that nothing has, for what is to be renamed over it.
fn beside(cx: &mut Context, path: &GuestPathBuf) -> Result<GuestPathBuf> {
    loop {
        let random = u64::from_le_bytes(cx.host.random()[..8].try_into().unwrap_or_default());
        let candidate = path.parent().join(format!(".imgsh-{random:016x}").as_bytes());
        if look(cx, &candidate, false)?.is_none() {
            return Ok(candidate);
        }
    }
}

/// Puts content in the place of a file that is there: a new file with the old one's attributes, renamed over it.
fn replace(
    cx: &mut Context,
    path: &GuestPathBuf,
    size: u64,
    content: &mut dyn Read,
    set: &SetAttributes,
) -> Result<()> {
    let new = beside(cx, path)?;
    let attributes = cx.session.guest.xattrs(path, false)?;
    cx.session.guest.write_from(&new, size, content, NEW_FILE).map_err(|e| e.at(path))?;
    // The owner first: changing it may clear the set-user-id bit.
    let owner = SetAttributes { mode: None, ..set.clone() };
    cx.session.guest.set_attributes(&new, false, &owner)?;
    cx.session.guest.set_attributes(&new, false, set)?;
    for (name, value) in attributes {
        cx.session.guest.set_xattr(&new, false, &name, Some(&value))?;
    }
    cx.session.guest.rename(&new, path)
}

/// Gives a file, named without links, another content and keeps its attributes.
pub(super) fn replace_content(cx: &mut Context, path: &GuestPathBuf, content: &[u8]) -> Result<()> {
    let old = cx.session.guest.stat(path)?;
    let set =
        SetAttributes { mode: Some(old.mode), uid: Some(old.uid), gid: Some(old.gid), ..SetAttributes::default() };
    replace(cx, path, content.len() as u64, &mut &*content, &set)
}

fn edit(cx: &mut Context, args: &Args, editor: &str) -> Result<Value> {
    let path = cx.session.guest.realpath(&args.path("filename"))?;
    let content = cx.session.guest.read_file(&path, MEMORY_LIMIT)?;
    let hint = path.file_name().map(crate::base::printable).unwrap_or_default();
    if let Some(edited) = cx.host.edit(editor, &hint, &content)? {
        replace_content(cx, &path, &edited)?;
    }
    Ok(Value::Nothing)
}

fn install_file(cx: &mut Context, args: &Args) -> Result<Value> {
    let mode = match args.text_if("mode") {
        Some(text) => octal_mode(&text)?,
        None => 0o644,
    };
    let uid = match args.text_if("owner") {
        Some(text) => id_of(cx, &text, "/etc/passwd")?,
        None => 0,
    };
    let gid = match args.text_if("group") {
        Some(text) => id_of(cx, &text, "/etc/group")?,
        None => 0,
    };
    let mut path = args.path("remote");
    let is_directory = |found: Option<crate::fs::Metadata>| found.is_some_and(|m| m.file_type == FileType::Directory);
    if path.ends_with(b"/") || is_directory(look(cx, &path, true)?) {
        path = path.join(&local_name(args)?);
    }
    let (mut reader, size) = open_sized(cx, &args.file("local"))?;
    cx.session.guest.mkdir_p(&path.parent(), NEW_DIRECTORY)?;
    let set = SetAttributes { mode: Some(mode), uid: Some(uid), gid: Some(gid), ..SetAttributes::default() };
    if look(cx, &path, true)?.is_some() {
        // A link is followed, so that what it leads to is replaced and the link stays.
        let path = cx.session.guest.realpath(&path)?;
        if cx.session.guest.stat(&path)?.file_type != FileType::Regular {
            return Err(Error::new(ErrorKind::Invalid, "only a regular file can be replaced").at(path));
        }
        replace(cx, &path, size, &mut reader, &set)?;
    } else {
        cx.session.guest.write_from(&path, size, &mut reader, NEW_FILE)?;
        cx.session.guest.set_attributes(&path, true, &set)?;
    }
    Ok(Value::Nothing)
}

/// The name that a file put into a directory gets there.
fn local_name(args: &Args) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    match args.file("local") {
        crate::command::HostFile::Path(path) => {
            path.file_name().map(|name| name.as_bytes().to_vec()).ok_or_else(|| Error::usage("local has no file name"))
        }
        _ => Err(Error::usage("remote is a directory: give the name of the file in it")),
    }
}

fn octal_mode(text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mode = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|m| *m <= 0o7777).ok_or_else(|| {
        Error::usage(format!("mode '{text}' is not an octal number up to 7777")).hint("write it like 0755")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_text() {
        assert_eq!(octal_mode("0755").unwrap(), 0o755);
        assert_eq!(octal_mode("4755").unwrap(), 0o4755);
        for wrong in ["", "u+x", "0o755", "+755", "789", "17777"] {
            assert!(octal_mode(wrong).is_err(), "{wrong}");
        }
    }
}
