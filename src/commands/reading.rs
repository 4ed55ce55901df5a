//! Commands that read files.

use std::io::{BufRead, BufReader, Read};

use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

/// What an answer in memory may take; larger files go through `download`.
pub(super) const MEMORY_LIMIT: u64 = 1 << 30;
/// The most bytes of a text file that is taken apart and written anew; a sparse one costs its writer nothing.
pub(super) const EDIT_LIMIT: u64 = 64 << 20;

const PATH: Param = Param::required("path", Kind::Path);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cat",
        aliases: &[],
        summary: "print a text file",
        help: "Prints the file and, as guestfish does, one newline after it. `read-file` prints the bytes alone.\n\
               Files over 1 GiB are refused: use `download`.",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"one\\ntwo\"\ncat /f\n", output: "one\ntwo\n" }],
        run: |cx, args| Ok(Value::Text(content(cx, args)?)),
    },
    Command {
        name: "filesize",
        aliases: &[],
        summary: "length of a file in bytes",
        help: "",
        params: &[Param::required("file", Kind::Path)],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f hello\nfilesize /f\n", output: "5\n" }],
        run: |cx, args| Ok(Value::Int(cx.session.guest.stat(&args.path("file"))?.size.try_into().unwrap_or(i64::MAX))),
    },
    Command {
        name: "head",
        aliases: &[],
        summary: "first ten lines of a file",
        help: "",
        params: &[PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"a\\nb\\n\"\nhead /f\n", output: "a\nb\n" }],
        run: |cx, args| first_lines(cx, args, 10),
    },
    Command {
        name: "head-n",
        aliases: &[],
        summary: "first lines of a file",
        help: "Prints the first NRLINES lines; a negative number prints all but that many last ones.",
        params: &[Param::required("nrlines", Kind::Int), PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"a\\nb\\nc\\n\"\nhead-n 1 /f\nhead-n -1 /f\n",
            output: "a\na\nb\n",
        }],
        run: |cx, args| first_lines(cx, args, args.int("nrlines")),
    },
    Command {
        name: "pread",
        aliases: &[],
        summary: "read a part of a file",
        help: "Prints up to COUNT bytes from byte OFFSET on, fewer at the end of the file.",
        params: &[PATH, Param::required("count", Kind::Int), Param::required("offset", Kind::Int64)],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"hello\\n\"\npread /f 9 2\n", output: "llo\n" }],
        run: pread,
    },
    Command {
        name: "read-file",
        aliases: &[],
        summary: "print the bytes of a file",
        help: "Prints exactly the file's bytes, with nothing added. Files over 1 GiB are refused: use `download`.",
        params: &[PATH],
        returns: Returns::Bytes,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"one\\n\"\nread-file /f\n", output: "one\n" }],
        run: |cx, args| Ok(Value::Bytes(content(cx, args)?)),
    },
    Command {
        name: "read-lines",
        aliases: &[],
        summary: "lines of a file",
        help: "Splits the file at line ends, `\\n` or `\\r\\n`; the answer has neither.",
        params: &[PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"a\\r\\n\\nb\"\nread-lines /f\n",
            output: "a\n\nb\n",
        }],
        run: |cx, args| {
            let mut lines = split_lines(&content(cx, args)?);
            for line in &mut lines {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
            Ok(Value::List(lines))
        },
    },
    Command {
        name: "tail",
        aliases: &[],
        summary: "last ten lines of a file",
        help: "",
        params: &[PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"a\\nb\\n\"\ntail /f\n", output: "a\nb\n" }],
        run: |cx, args| last_lines(cx, args, 10),
    },
    Command {
        name: "tail-n",
        aliases: &[],
        summary: "last lines of a file",
        help: "Prints the last NRLINES lines; with a negative number the lines from that one on, counted from 1.",
        params: &[Param::required("nrlines", Kind::Int), PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"a\\nb\\nc\\n\"\ntail-n 1 /f\ntail-n -2 /f\n",
            output: "c\nb\nc\n",
        }],
        run: |cx, args| last_lines(cx, args, args.int("nrlines")),
    },
];

fn content(cx: &mut Context, args: &Args) -> Result<Vec<u8>> {
    cx.session.guest.read_file(&args.path("path"), MEMORY_LIMIT)
}

/// Lines without their `\n`; a last one without it counts too.
fn split_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    // What follows the last `\n` is a line only if it is not empty.
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fn first_lines(cx: &mut Context, args: &Args, count: i64) -> Result<Value> {
    let path = args.path("path");
    let Ok(count) = usize::try_from(count) else {
        let mut lines = split_lines(&content(cx, args)?);
        let dropped = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        lines.truncate(lines.len().saturating_sub(dropped));
        return Ok(Value::List(lines));
    };
    let mut reader = BufReader::with_capacity(1 << 16, cx.session.guest.reader(&path)?).take(MEMORY_LIMIT);
    let mut lines = Vec::new();
    while lines.len() < count {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).map_err(Error::from).map_err(|e| e.at(&path))? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(line);
    }
    if reader.limit() == 0 {
        return Err(Error::from(ErrorKind::FileTooBig).at(&path));
    }
    Ok(Value::List(lines))
}

fn last_lines(cx: &mut Context, args: &Args, count: i64) -> Result<Value> {
    let mut lines = split_lines(&content(cx, args)?);
    let skipped = match usize::try_from(count) {
        Ok(count) => lines.len().saturating_sub(count),
        Err(_) => usize::try_from(count.unsigned_abs() - 1).unwrap_or(usize::MAX).min(lines.len()),
    };
    Ok(Value::List(lines.split_off(skipped)))
}

fn pread(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("path");
    let count = u64::try_from(args.int("count")).map_err(|_| Error::usage("count is negative"))?;
    let offset = u64::try_from(args.int("offset")).map_err(|_| Error::usage("offset is negative"))?;
    if count > MEMORY_LIMIT {
        return Err(Error::from(ErrorKind::FileTooBig).at(&path).hint("read it in smaller parts, or use download"));
    }
    let bytes = cx.session.guest.read_at(&path, offset, count)?;
    Ok(Value::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_bytes() {
        let cases: [(&[u8], &[&[u8]]); 5] =
            [(b"", &[]), (b"\n", &[b""]), (b"a", &[b"a"]), (b"a\n\n", &[b"a", b""]), (b"a\nb", &[b"a", b"b"])];
        for (bytes, lines) in cases {
            assert_eq!(split_lines(bytes), lines);
        }
    }
}
