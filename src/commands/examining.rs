//! Commands that examine what is in a file: sizes in words, strings, dumps, comparisons, types.

use std::io::{BufRead, BufReader, Read};

use super::content::{Content, content};
use super::grep::unpacked;
use super::reading::MEMORY_LIMIT;
use super::text::{Encoding, dump, strings};
use crate::base::{Error, Kind as ErrorKind, Result, bytes};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::FileType;
use crate::guest::archive::Compression;
use crate::guest::inspect;

const PATH: Param = Param::required("path", Kind::Path);
const DEVICE: Param = Param::required("device", Kind::Device);

/// Longest file whose dump fits in memory: a dump takes five bytes for each.
const DUMP_LIMIT: u64 = MEMORY_LIMIT / 5;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "elf-dynamic",
        aliases: &[],
        summary: "libraries and paths that a program names",
        help: "A line each: NEEDED, SONAME, RPATH or RUNPATH and its text, as `readelf -d` has them. Nothing for a file that is no \
               ELF file, or has no dynamic section.",
        params: &[Param::required("filename", Kind::Path)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f text\nelf-dynamic /f\n", output: "" }],
        run: |cx, args| {
            let path = args.path("filename");
            let found = inspect::needed(&cx.session.guest, &path).map_err(|e| e.at(&path))?;
            Ok(Value::list(found.unwrap_or_default().into_iter().map(|(word, text)| format!("{word} {text}"))))
        },
    },
    Command {
        name: "equal",
        aliases: &[],
        summary: "whether two files hold the same bytes",
        help: "",
        params: &[Param::required("file1", Kind::Path), Param::required("file2", Kind::Path)],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /a x\nwrite /b x\nequal /a /b\nwrite /b y\nequal /a /b\n",
            output: "true\nfalse\n",
        }],
        run: equal,
    },
    Command {
        name: "file",
        aliases: &[],
        summary: "type of a file by its content",
        help: "In the words of file(1), which knows many more types; what is not known is `data`. Links are not followed; \
               of what is no regular file its kind is answered. Compressed content is looked into.",
        params: &[Param::required("path", Kind::DeviceOrPath)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hello\\n\"\nfile /f\nfile /lost+found\n",
            output: "ASCII text\ndirectory\n",
        }],
        run: file,
    },
    Command {
        name: "file-architecture",
        aliases: &[],
        summary: "processor that a program, library, kernel or initrd is for",
        help: "guestfish's words: `x86_64`, `i386`, `aarch64`, ... Links are followed. Compressed files are looked into; of \
               an initrd its programs decide.",
        params: &[Param::required("filename", Kind::Path)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"\\x7fELF\\x02\\x01\\x01\"\npwrite /f \"\\x02\" 16\npwrite /f \"\\x3e\" 18\n\
                    truncate-size /f 64\nfile-architecture /f\n",
            output: "1\n1\nx86_64\n",
        }],
        run: |cx, args| {
            let path = args.path("filename");
            match inspect::architecture(&cx.session.guest, &path).map_err(|e| e.at(&path))? {
                Some(arch) => Ok(Value::text(arch)),
                None => Err(Error::new(ErrorKind::Invalid, "unknown architecture").at(path)),
            }
        },
    },
    Command {
        name: "hexdump",
        aliases: &[],
        summary: "bytes of a file in hex and as text",
        help: "As `hexdump -C` prints it: lines that repeat are shown as `*`.",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hi\\n\"\nhexdump /f\n",
            output: "00000000  68 69 0a                                          |hi.|\n00000003\n\n",
        }],
        run: |cx, args| Ok(Value::Text(dump(&cx.session.guest.read_file(&args.path("path"), DUMP_LIMIT)?))),
    },
    Command {
        name: "is-zero",
        aliases: &[],
        summary: "whether a file holds zero bytes only",
        help: "An empty file does.",
        params: &[PATH],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\ntruncate-size /f 1G\nis-zero /f\n",
            output: "true\n",
        }],
        run: |cx, args| is_zero(cx, &Content::Path(args.path("path"))),
    },
    Command {
        name: "is-zero-device",
        aliases: &[],
        summary: "whether a device holds zero bytes only",
        help: "",
        params: &[DEVICE],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "is-zero-device /dev/sda\n", output: "true\n" }],
        run: |cx, args| {
            let device = content(cx, args, "device")?;
            is_zero(cx, &device)
        },
    },
    Command {
        name: "strings",
        aliases: &[],
        summary: "printable strings in a file",
        help: "Runs of four or more printable ASCII characters.",
        params: &[PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"\\x01hello\\x01abc\\x01\"\nstrings /f\n",
            output: "hello\n",
        }],
        run: |cx, args| found_strings(cx, args, Encoding::SevenBit),
    },
    Command {
        name: "strings-e",
        aliases: &[],
        summary: "printable strings of an encoding in a file",
        help: "ENCODING is s (7 bits), S (8 bits), b and l (16 bits, big and little endian), B and L (32 bits).",
        params: &[Param::required("encoding", Kind::Text), PATH],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "base64-in -<<END /f\naABlAGwAbABvAA==\nEND\nstrings-e l /f\n",
            output: "hello\n",
        }],
        run: |cx, args| {
            let encoding = Encoding::from_letter(&args.text("encoding"))?;
            found_strings(cx, args, encoding)
        },
    },
    Command {
        name: "wc-c",
        aliases: &[],
        summary: "number of bytes in a file",
        help: "",
        params: &[PATH],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f hello\nwc-c /f\n", output: "5\n" }],
        run: |cx, args| count(cx, args, |_| 1),
    },
    Command {
        name: "wc-l",
        aliases: &[],
        summary: "number of lines in a file",
        help: "Counts line ends.",
        params: &[PATH],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"a\\nb\\nc\"\nwc-l /f\n", output: "2\n" }],
        run: |cx, args| count(cx, args, |byte| i64::from(byte == b'\n')),
    },
    Command {
        name: "wc-w",
        aliases: &[],
        summary: "number of words in a file",
        help: "As wc counts them in the C locale: words are between blanks, and one without a printable ASCII character is none.",
        params: &[PATH],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \" one  two\\n\"\nwc-w /f\n", output: "2\n" }],
        run: |cx, args| count_words(cx, args),
    },
    Command {
        name: "zfile",
        aliases: &[],
        summary: "type of the content of a compressed file",
        help: "METH is gzip, compress, bzip2, xz or zstd. `file` looks into compressed files too.",
        params: &[Param::required("meth", Kind::Text), PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "!echo hello | gzip > f.gz\nupload f.gz /f.gz\nzfile gzip /f.gz\n",
            output: "ASCII text\n",
        }],
        run: |cx, args| {
            let (path, compression) = (args.path("path"), Compression::from_name(&args.text("meth"))?);
            let start = beginning(compression.reader(cx.session.guest.reader(&path)?)?).map_err(|e| e.at(&path))?;
            Ok(Value::text(inspect::file_type_of(&start)))
        },
    },
];

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Sums up what `of` says of every byte.
fn count(cx: &mut Context, args: &Args, mut of: impl FnMut(u8) -> i64) -> Result<Value> {
    let path = args.path("path");
    let mut reader = BufReader::with_capacity(1 << 18, cx.session.guest.reader(&path)?);
    let mut sum = 0;
    loop {
        let data = reader.fill_buf().map_err(|e| Error::from(e).at(&path))?;
        if data.is_empty() {
            return Ok(Value::Int(sum));
        }
        sum += data.iter().map(|byte| of(*byte)).sum::<i64>();
        let length = data.len();
        reader.consume(length);
    }
}

fn count_words(cx: &mut Context, args: &Args) -> Result<Value> {
    let mut in_word = false;
    count(cx, args, |byte| {
        let begins = byte.is_ascii_graphic() && !in_word;
        in_word = begins || in_word && !is_space(byte);
        i64::from(begins)
    })
}

fn equal(cx: &mut Context, args: &Args) -> Result<Value> {
    let guest = &cx.session.guest;
    let mut readers = Vec::new();
    for name in ["file1", "file2"] {
        readers.push(BufReader::with_capacity(1 << 18, guest.reader(&args.path(name))?));
    }
    let [one, other] = &mut readers[..] else { return Ok(Value::Bool(false)) };
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let length = a.len().min(b.len());
        if length == 0 || a[..length] != b[..length] {
            return Ok(Value::Bool(a.is_empty() && b.is_empty()));
        }
        one.consume(length);
        other.consume(length);
    }
}

fn is_zero(cx: &mut Context, what: &Content) -> Result<Value> {
    // Holes are zero without being read.
    let ranges: Vec<std::ops::Range<u64>> = match what {
        Content::Path(path) => {
            let extents = cx.session.guest.extents(path)?.into_iter();
            extents.filter(|e| !e.hole).map(|e| e.range).collect()
        }
        Content::Device(_) => std::iter::once(0..what.len(cx)?).collect(),
    };
    for range in ranges {
        let mut reader = BufReader::with_capacity(1 << 18, what.reader(cx, range.start)?.take(range.end - range.start));
        loop {
            let data = reader.fill_buf().map_err(|e| Error::from(e).at(what.name()))?;
            if data.is_empty() {
                break;
            }
            if !bytes::is_zero(data) {
                return Ok(Value::Bool(false));
            }
            let length = data.len();
            reader.consume(length);
        }
    }
    Ok(Value::Bool(true))
}

fn found_strings(cx: &mut Context, args: &Args, encoding: Encoding) -> Result<Value> {
    let content = cx.session.guest.read_file(&args.path("path"), MEMORY_LIMIT)?;
    Ok(Value::List(strings(&content, encoding)))
}

/// The first bytes of a stream, as many as types are told by.
fn beginning(reader: Box<dyn Read + '_>) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(inspect::TYPE_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// The type of a file with what its mode says in front, set as file(1) does it.
fn with_mode(mode: u32, text: &str) -> String {
    let bits = [(0o4000, "setuid"), (0o2000, "setgid"), (0o1000, "sticky")];
    let said: Vec<&str> = bits.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, word)| *word).collect();
    let between = match text {
        _ if said.is_empty() => "",
        "empty" => ", ",
        _ if ["ASCII text", "Unicode text", "ISO-8859 text", "Non-ISO"].iter().any(|kind| text.starts_with(kind)) => {
            " , "
        }
        _ => " ",
    };
    format!("{}{between}{text}", said.join(", "))
}

fn file(cx: &mut Context, args: &Args) -> Result<Value> {
    let what = content(cx, args, "path")?;
    let mut mode = 0;
    if let Content::Path(path) = &what {
        let found = cx.session.guest.lstat(path)?;
        mode = found.mode;
        let kind = match found.file_type {
            FileType::Regular => None,
            FileType::Directory => Some("directory"),
            FileType::Symlink => Some("symbolic link"),
            FileType::CharDevice => Some("character device"),
            FileType::BlockDevice => Some("block device"),
            FileType::Fifo => Some("FIFO"),
            FileType::Socket => Some("socket"),
        };
        if let Some(kind) = kind {
            return Ok(Value::text(kind));
        }
    }
    let start = beginning(what.reader(cx, 0)?).map_err(|e| e.at(what.name()))?;
    let mut read = |offset: u64, len: u64| {
        let mut bytes = Vec::new();
        // What cannot be read is not there; the beginning could be.
        let read = what.reader(cx, offset).map(|reader| reader.take(len).read_to_end(&mut bytes));
        read.map(|_| bytes).unwrap_or_default()
    };
    let outside = inspect::file_type_with(&start, &mut read);
    if Compression::of(&start) == Compression::None {
        return Ok(Value::text(with_mode(mode, &outside)));
    }
    // What cannot be unpacked has the type of its outside alone.
    let inside = unpacked(what.reader(cx, 0)?).and_then(beginning).ok().filter(|inside| !inside.is_empty());
    let text = match inside {
        Some(inside) if Compression::of(&inside) == Compression::None => {
            format!("{} ({outside})", inspect::file_type_of(&inside))
        }
        _ => outside,
    };
    Ok(Value::text(with_mode(mode, &text)))
}
