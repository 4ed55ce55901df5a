//! Compressed streams, read and written as they come: memory does not grow with them.

use std::io::{self, BufReader, BufWriter, Read, Write};

use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter, XzOptions, XzReader, XzWriter};

use super::lz4::Unlz4;
use super::unlzw::Unlzw;
use crate::base::{Error, Result};

/// Largest memory, in KiB, that an xz or lzma stream may ask for: what `xz -9` needs, and as much again.
const MEMORY_KIB: u32 = 128 << 10;
/// Buffer in front of a decoder.
const BUFFER: usize = 1 << 18;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all; what guestfish takes when nothing is said, whatever the file's name is.
    #[default]
    None,
    /// compress(1), `.Z`; read only.
    Compress,
    /// gzip (RFC 1952).
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// The older container of xz's algorithm.
    Lzma,
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4 as Linux has it for kernels and initrds (the "legacy frame"); read only.
    Lz4,
}

impl Compression {
    /// From guestfish's word for it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for those that are known and not handled, `Kind::Usage` for others.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "compress" => Ok(Compression::Compress),
            "gzip" => Ok(Compression::Gzip),
            "bzip2" => Ok(Compression::Bzip2),
            "xz" => Ok(Compression::Xz),
            "lzma" => Ok(Compression::Lzma),
            "zstd" => Ok(Compression::Zstd),
            "lzop" => Err(Error::unsupported("lzop streams are not handled").hint("run lzop on the host")),
            _ => Err(Error::usage(format!("unknown compression '{name}'"))
                .hint("compress, gzip, bzip2, xz, lzma and zstd are known")),
        }
    }

    /// What the first bytes of a stream say.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x9d, ..] => Compression::Compress,
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x5d, 0, 0, ..] => Compression::Lzma,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [0x02, 0x21, 0x4c, 0x18, ..] => Compression::Lz4,
            _ => Compression::None,
        }
    }

    /// The bytes of a compressed stream.
    ///
    /// # Errors
    /// A header that is no such stream's, or asks for more memory than is given.
    pub fn reader<'r>(self, source: Box<dyn Read + 'r>) -> Result<Box<dyn Read + 'r>> {
        let source = BufReader::with_capacity(BUFFER, source);
        Ok(match self {
            Compression::None => Box::new(source),
            Compression::Compress => Box::new(Unlzw::new(source)?),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Compression::Xz => Box::new(XzReader::new_mem_limit(source, true, MEMORY_KIB)),
            Compression::Lzma => Box::new(LzmaReader::new_mem_limit(source, MEMORY_KIB, None)?),
            Compression::Lz4 => Box::new(Unlz4::new(source)?),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        })
    }

    /// A writer that compresses into another; `level` as the program of that name takes it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for compress, which is read only; a level that there is not.
    pub fn writer<'w>(self, output: Box<dyn Write + 'w>, level: Option<u32>) -> Result<Encoder<'w>> {
        let checked = |default: u32, most: u32| match level {
            Some(level) if level > most => Err(Error::usage(format!("level {level} is over {most}"))),
            level => Ok(level.unwrap_or(default)),
        };
        Ok(match self {
            Compression::None => Encoder::Plain(BufWriter::with_capacity(BUFFER, output)),
            Compression::Compress | Compression::Lz4 => {
                return Err(Error::unsupported("these streams are only read").hint("write gzip, xz or zstd"));
            }
            Compression::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(output, flate2::Compression::new(checked(6, 9)?)))
            }
            Compression::Bzip2 => {
                let level = bzip2::Compression::new(checked(9, 9)?.max(1));
                Encoder::Bzip2(bzip2::write::BzEncoder::new(output, level))
            }
            Compression::Xz => Encoder::Xz(Box::new(XzWriter::new(output, XzOptions::with_preset(checked(6, 9)?))?)),
            Compression::Lzma => {
                let options = LzmaOptions::with_preset(checked(6, 9)?);
                Encoder::Lzma(Box::new(LzmaWriter::new_use_header(output, &options, None)?))
            }
            Compression::Zstd => {
                let level = i32::try_from(checked(3, 22)?).unwrap_or(3);
                Encoder::Zstd(zstd::stream::write::Encoder::new(output, level)?)
            }
        })
    }
}

/// A stream that is being compressed; [`Encoder::finish`] ends it.
pub enum Encoder<'w> {
    /// Not compressed.
    Plain(BufWriter<Box<dyn Write + 'w>>),
    /// gzip.
    Gzip(flate2::write::GzEncoder<Box<dyn Write + 'w>>),
    /// bzip2.
    Bzip2(bzip2::write::BzEncoder<Box<dyn Write + 'w>>),
    /// xz.
    Xz(Box<XzWriter<Box<dyn Write + 'w>>>),
    /// lzma.
    Lzma(Box<LzmaWriter<Box<dyn Write + 'w>>>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, Box<dyn Write + 'w>>),
}

impl<'w> Encoder<'w> {
    fn inner(&mut self) -> &mut (dyn Write + 'w) {
        match self {
            Encoder::Plain(output) => output,
            Encoder::Gzip(output) => output,
            Encoder::Bzip2(output) => output,
            Encoder::Xz(output) => output,
            Encoder::Lzma(output) => output,
            Encoder::Zstd(output) => output,
        }
    }

    /// Writes the stream's end.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> Result<()> {
        match self {
            Encoder::Plain(mut output) => output.flush()?,
            Encoder::Gzip(output) => output.finish()?.flush()?,
            Encoder::Bzip2(output) => output.finish()?.flush()?,
            Encoder::Xz(output) => output.finish()?.flush()?,
            Encoder::Lzma(output) => output.finish()?.flush()?,
            Encoder::Zstd(output) => output.finish()?.flush()?,
        }
        Ok(())
    }
}

impl Write for Encoder<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.inner().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(compression: Compression, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        compression.reader(Box::new(data))?.take(1 << 20).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_kind_there_and_back_and_no_panic_on_damage() {
        let data: Vec<u8> = (0..20_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for name in ["gzip", "bzip2", "xz", "lzma", "zstd"] {
            let compression = Compression::from_name(name).unwrap();
            let mut packed = Vec::new();
            let mut encoder = compression.writer(Box::new(&mut packed), None).unwrap();
            encoder.write_all(&data).unwrap();
            encoder.finish().unwrap();
            assert_eq!(Compression::of(&packed), compression, "{name}");
            assert_eq!(unpacked(compression, &packed).unwrap(), data, "{name}");
            for at in (0..packed.len()).step_by(packed.len() / 40 + 1) {
                let mut damaged = packed.clone();
                damaged[at] ^= 0x55;
                let _ = unpacked(compression, &damaged);
                let _ = unpacked(compression, &packed[..at]);
            }
        }
        assert!(Compression::from_name("lzop").is_err());
        assert!(Compression::Gzip.writer(Box::new(Vec::new()), Some(10)).is_err());
    }
}
