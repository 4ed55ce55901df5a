//! grep and its many names.

use std::io::{BufRead, BufReader, Read};

use super::pattern::{self, Syntax};
use super::reading::MEMORY_LIMIT;
use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::guest::archive::Compression;

const PATH: Param = Param::required("path", Kind::Path);
const REGEX: Param = Param::required("regex", Kind::Bytes);
const PATTERN: Param = Param::required("pattern", Kind::Bytes);

/// Bytes that grep looks at together: a NUL among them makes the file a binary one from there on.
const PIECE: usize = 96 << 10;

/// One of grep's old names: what it stands for in terms of `grep`'s options.
macro_rules! old {
    ($name:literal, $summary:literal, $pattern:expr, $syntax:expr, $ignore_case:literal, $packed:literal, $lines:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: "`grep` with options does the same.",
            params: &[$pattern, PATH],
            returns: Returns::List,
            effect: Effect::Reads,
            examples: &[Example { setup: Setup::Ext4, lines: $lines, output: "aab\n" }],
            run: |cx, args| grep(cx, args, $pattern.name, $syntax, $ignore_case, $packed),
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    old!(
        "egrep",
        "lines of a file that match an extended regular expression",
        REGEX,
        Syntax::Extended,
        false,
        false,
        "write /f \"aab\\nAAB\\na+b\\n\"\negrep ^a+b /f\n"
    ),
    old!(
        "egrepi",
        "lines of a file that match an extended regular expression in either case",
        REGEX,
        Syntax::Extended,
        true,
        false,
        "write /f \"aab\\nxyz\\na+b\\n\"\negrepi ^A+B /f\n"
    ),
    old!(
        "fgrep",
        "lines of a file that hold a text",
        PATTERN,
        Syntax::Fixed,
        false,
        false,
        "write /f \"aab\\nAAB\\n\"\nfgrep aa /f\n"
    ),
    old!(
        "fgrepi",
        "lines of a file that hold a text in either case",
        PATTERN,
        Syntax::Fixed,
        true,
        false,
        "write /f \"aab\\nxyz\\n\"\nfgrepi AA /f\n"
    ),
    Command {
        name: "grep",
        aliases: &["grep-opts"],
        summary: "lines of a file that match a regular expression",
        help: "The expression is a basic one as grep(1) reads it; an extended one with `extended:true`, a plain text with \
               `fixed:true`. `insensitive:true` ignores case, `compressed:true` looks into a gzip file. No match is no \
               error. From the first NUL byte on a file is binary, and no lines are answered. Back references are refused.",
        params: &[
            REGEX,
            PATH,
            Param::optional("extended", Kind::Bool),
            Param::optional("fixed", Kind::Bool),
            Param::optional("insensitive", Kind::Bool),
            Param::optional("compressed", Kind::Bool),
        ],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"one\\ntwo\\nTen\\n\"\ngrep ^t /f insensitive:true\n",
            output: "two\nTen\n",
        }],
        run: |cx, args| {
            let syntax = match (args.bool("extended"), args.bool("fixed")) {
                (true, true) => return Err(Error::usage("can't use 'extended' and 'fixed' flags at the same time")),
                (true, false) => Syntax::Extended,
                (false, true) => Syntax::Fixed,
                (false, false) => Syntax::Basic,
            };
            grep(cx, args, "regex", syntax, args.bool("insensitive"), args.bool("compressed"))
        },
    },
    old!(
        "grepi",
        "lines of a file that match a regular expression in either case",
        REGEX,
        Syntax::Basic,
        true,
        false,
        "write /f \"aab\\nxyz\\n\"\ngrepi ^A /f\n"
    ),
    old!(
        "zegrep",
        "lines of a gzip file that match an extended regular expression",
        REGEX,
        Syntax::Extended,
        false,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzegrep ^a+ /f.gz\n"
    ),
    old!(
        "zegrepi",
        "lines of a gzip file that match an extended regular expression in either case",
        REGEX,
        Syntax::Extended,
        true,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzegrepi ^A+ /f.gz\n"
    ),
    old!(
        "zfgrep",
        "lines of a gzip file that hold a text",
        PATTERN,
        Syntax::Fixed,
        false,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzfgrep ab /f.gz\n"
    ),
    old!(
        "zfgrepi",
        "lines of a gzip file that hold a text in either case",
        PATTERN,
        Syntax::Fixed,
        true,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzfgrepi AB /f.gz\n"
    ),
    old!(
        "zgrep",
        "lines of a gzip file that match a regular expression",
        REGEX,
        Syntax::Basic,
        false,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzgrep b$ /f.gz\n"
    ),
    old!(
        "zgrepi",
        "lines of a gzip file that match a regular expression in either case",
        REGEX,
        Syntax::Basic,
        true,
        true,
        "!printf 'aab\\nxyz\\n' | gzip > f.gz\nupload f.gz /f.gz\nzgrepi B$ /f.gz\n"
    ),
];

fn grep(
    cx: &mut Context,
    args: &Args,
    pattern: &str,
    syntax: Syntax,
    ignore_case: bool,
    packed: bool,
) -> Result<Value> {
    let regex = pattern::compile(args.bytes(pattern), syntax, ignore_case)?;
    let path = args.path("path");
    let failed = |e| Error::from(e).at(&path);
    let reader = cx.session.guest.reader(&path)?;
    let reader = if packed { unpacked(reader).map_err(|e| e.at(&path))? } else { reader };
    let mut reader = BufReader::with_capacity(PIECE, reader);
    let mut found = Vec::new();
    let mut room = MEMORY_LIMIT;
    loop {
        // Of a binary file grep tells only that it matches, and guestfish not even that.
        if reader.buffer().is_empty() && reader.fill_buf().map_err(failed)?.contains(&0) {
            return Ok(Value::List(found));
        }
        let mut line = Vec::new();
        let read = reader.by_ref().take(MEMORY_LIMIT).read_until(b'\n', &mut line);
        if read.map_err(failed)? == 0 || line.contains(&0) {
            return Ok(Value::List(found));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if regex.is_match(&line) {
            room = room.checked_sub(line.len() as u64).ok_or_else(|| {
                Error::from(ErrorKind::FileTooBig).at(&path).hint("download the file and search it there")
            })?;
            found.push(line);
        }
    }
}

/// The content of a compressed file; of another one, as zcat -f has it, the file itself.
pub(super) fn unpacked<'r>(reader: Box<dyn Read + 'r>) -> Result<Box<dyn Read + 'r>> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let compression = Compression::of(reader.fill_buf()?);
    match compression {
        Compression::Lzma => Ok(Box::new(reader)),
        known => known.reader(Box::new(reader)),
    }
}
