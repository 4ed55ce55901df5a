//! Commands of our own that change text files: a new file with the old one's attributes takes its place.

use super::editing::replace_content;
use super::looking::look;
use super::pattern::{self, Syntax};
use super::reading::EDIT_LIMIT;
use crate::base::{Error, GuestPathBuf, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

const FILE: Param = Param::required("file", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "append-line",
        aliases: &[],
        summary: "append a line to a text file",
        help: "A last line without an end is ended first. A missing file is made.",
        params: &[FILE, Param::required("line", Kind::Bytes)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f one\nappend-line /f two\nread-file /f\n",
            output: "one\ntwo\n",
        }],
        run: append_line,
    },
    Command {
        name: "replace",
        aliases: &[],
        summary: "replace what matches a regular expression in a text file",
        help: "REGEX is an extended one as egrep reads it, looked for line by line; every match is replaced by TEXT, in \
               which `$0` is the match, `$1` the first group and `$$` a dollar sign. Prints how many were replaced; without \
               one the file stays as it is.",
        params: &[FILE, Param::required("regex", Kind::Bytes), Param::required("text", Kind::Bytes)],
        returns: Returns::Int,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"#Port 22\\nUse no\\n\"\nreplace /f \"^#?(Port) .*\" \"$1 2222\"\nread-file /f\n",
            output: "1\nPort 2222\nUse no\n",
        }],
        run: replace,
    },
];

/// A text file's content, through links, and where it really is.
fn content(cx: &Context, path: &GuestPathBuf) -> Result<(GuestPathBuf, Vec<u8>)> {
    let real = cx.session.guest.realpath(path)?;
    let bytes = cx.session.guest.read_file(&real, EDIT_LIMIT)?;
    Ok((real, bytes))
}

fn append_line(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("file");
    let line = args.bytes("line");
    if line.contains(&b'\n') {
        return Err(Error::usage("line holds a line end: append one line at a time"));
    }
    if look(cx, &path, true)?.is_none() {
        cx.session.guest.write_file(&path, &[line, b"\n"].concat())?;
        return Ok(Value::Nothing);
    }
    let (real, mut text) = content(cx, &path)?;
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(line);
    text.push(b'\n');
    replace_content(cx, &real, &text)?;
    Ok(Value::Nothing)
}

fn replace(cx: &mut Context, args: &Args) -> Result<Value> {
    let regex = pattern::compile(args.bytes("regex"), Syntax::Extended, false)?;
    let (real, text) = content(cx, &args.path("file"))?;
    let (mut out, mut count) = (Vec::with_capacity(text.len()), 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let (body, end) = match line.strip_suffix(b"\n") {
            Some(body) => (body, &b"\n"[..]),
            None => (line, &b""[..]),
        };
        count += regex.find_iter(body).count();
        out.extend_from_slice(&regex.replace_all(body, args.bytes("text")));
        out.extend_from_slice(end);
    }
    if count > 0 {
        replace_content(cx, &real, &out)?;
    }
    Ok(Value::Int(count as i64))
}
