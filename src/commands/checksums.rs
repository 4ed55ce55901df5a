//! Commands that sum up and encode files: checksums and base 64.

use std::io::{Read, Write};

use super::content::{Content, content};
use super::writing::{NEW_FILE, done};
use crate::base::digest::Checksum;
use crate::base::{Result, base64};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::FileType;

const CSUMTYPE: Param = Param::required("csumtype", Kind::Text);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "base64-in",
        aliases: &[],
        summary: "decode a base 64 host file into a guest file",
        help: "",
        params: &[Param::required("base64file", Kind::FileIn), Param::required("filename", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "base64-in -<<END /f\naGVsbG8K\nEND\nread-file /f\n",
            output: "hello\n",
        }],
        run: |cx, args| {
            let (mut reader, _) = cx.host.read(&args.file("base64file"))?;
            let decoder = base64::Decoder::default();
            let mut decoded = Decoded { source: reader.as_mut(), decoder: Some(decoder), ready: Vec::new(), at: 0 };
            let (mut spooled, size) = cx.host.spool(&mut decoded)?;
            done(cx.session.guest.write_from(&args.path("filename"), size, &mut spooled, NEW_FILE))
        },
    },
    Command {
        name: "base64-out",
        aliases: &[],
        summary: "encode a guest file into a base 64 host file",
        help: "Lines of 76 digits, as base64(1) writes them.",
        params: &[Param::required("filename", Kind::Path), Param::required("base64file", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hello\\n\"\nbase64-out /f -\n",
            output: "aGVsbG8K\n",
        }],
        run: base64_out,
    },
    Command {
        name: "checksum",
        aliases: &[],
        summary: "checksum of a file",
        help: "CSUMTYPE is crc (POSIX cksum, a decimal number), md5, sha1, sha224, sha256, sha384 or sha512.",
        params: &[CSUMTYPE, Param::required("path", Kind::Path)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f \"hello\\n\"\nchecksum md5 /f\nchecksum crc /f\n",
            output: "b1946ac92492d2347c6235b4d2611184\n3015617425\n",
        }],
        run: |cx, args| {
            let checksum = Checksum::from_name(&args.text("csumtype"))?;
            let path = args.path("path");
            let sum = checksum.of(cx.session.guest.reader(&path)?.as_mut()).map_err(|e| e.at(&path))?;
            Ok(Value::text(sum))
        },
    },
    Command {
        name: "checksum-device",
        aliases: &[],
        summary: "checksum of a device",
        help: "As `checksum`, of everything on a disk or partition.",
        params: &[CSUMTYPE, Param::required("device", Kind::Device)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "checksum-device md5 /dev/sda\n",
            output: "7f614da9329cd3aebf59b91aadc30bf0\n",
        }],
        run: |cx, args| {
            let checksum = Checksum::from_name(&args.text("csumtype"))?;
            let device = content(cx, args, "device")?;
            let sum = checksum.of(&mut device.reader(cx, 0)?)?;
            Ok(Value::text(sum))
        },
    },
    Command {
        name: "checksums-out",
        aliases: &[],
        summary: "checksums of all files below a directory, to a host file",
        help: "Lines as md5sum and its kin write them, with paths that begin with `./`: `md5sum -c` checks a copy of the \
               tree. Only regular files; sorted by path. `crc` lines have the size too, as cksum has it.",
        params: &[CSUMTYPE, Param::required("directory", Kind::Path), Param::required("sumsfile", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f \"hello\\n\"\nchecksums-out md5 /d -\n",
            output: "b1946ac92492d2347c6235b4d2611184  ./f\n",
        }],
        run: checksums_out,
    },
];

fn base64_out(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("filename");
    let mut reader = cx.session.guest.reader(&path)?;
    let mut out = std::io::BufWriter::new(cx.host.write(&args.file("base64file"))?);
    loop {
        let mut line = Vec::with_capacity(base64::LINE);
        reader.by_ref().take(base64::LINE as u64).read_to_end(&mut line)?;
        if line.is_empty() {
            out.flush()?;
            return Ok(Value::Nothing);
        }
        out.write_all(&base64::encode(&line))?;
        out.write_all(b"\n")?;
    }
}

/// The bytes of a base 64 text.
struct Decoded<'a> {
    source: &'a mut dyn Read,
    /// `None` after the end.
    decoder: Option<base64::Decoder>,
    ready: Vec<u8>,
    at: usize,
}

impl Read for Decoded<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.ready.len() {
            let Some(decoder) = &mut self.decoder else { return Ok(0) };
            let mut text = [0; 1 << 16];
            let count = self.source.read(&mut text)?;
            (self.ready, self.at) = (Vec::new(), 0);
            match count {
                0 => self.decoder.take().unwrap_or_default().finish(&mut self.ready)?,
                count => decoder.decode(&text[..count], &mut self.ready)?,
            }
        }
        let count = buf.len().min(self.ready.len() - self.at);
        buf[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn checksums_out(cx: &mut Context, args: &Args) -> Result<Value> {
    let checksum = Checksum::from_name(&args.text("csumtype"))?;
    let directory = args.path("directory");
    cx.session.guest.stat(&directory)?.file_type.check_directory().map_err(|e| e.at(&directory))?;
    let mut files = Vec::new();
    cx.session.guest.walk(&directory, &mut |entry| {
        if entry.metadata.file_type == FileType::Regular {
            files.push((entry.path.clone(), entry.metadata.size));
        }
        Ok(true)
    })?;
    files.sort();
    let mut out = std::io::BufWriter::new(cx.host.write(&args.file("sumsfile"))?);
    for (name, size) in files {
        let path = if name.is_empty() { directory.clone() } else { directory.join(&name) };
        let sum = Content::Path(path).sum(cx, checksum)?;
        let odd = name.iter().any(|b| matches!(b, b'\\' | b'\n'));
        match checksum {
            Checksum::Crc => write!(out, "{sum} {size} ./")?,
            // As md5sum marks a name in which it had to write something in another way.
            _ => write!(out, "{}{sum}  ./", if odd { "\\" } else { "" })?,
        }
        for byte in name.iter() {
            match byte {
                b'\\' if checksum != Checksum::Crc => out.write_all(b"\\\\")?,
                b'\n' if checksum != Checksum::Crc => out.write_all(b"\\n")?,
                byte => out.write_all(&[*byte])?,
            }
        }
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(Value::Nothing)
}
