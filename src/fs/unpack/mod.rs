//! The compressed blocks of file systems, unpacked into what the reader has room for: no stream can make more than it was asked for.

mod lzo;

use std::cell::RefCell;
use std::io::Read;

use libdeflater::Decompressor;
use lzma_rust2::{LzmaReader, XzReader};

/// Largest memory, in KiB, that a stream of xz or lzma may ask for: dictionaries are as large as blocks, which have 1 MiB at most.
const MEMORY_KIB: u32 = 16 << 10;

/// How blocks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1950.
    Zlib,
    /// The container of the older `lzma` program, with 13 bytes in front.
    Lzma,
    /// LZO1X.
    Lzo,
    /// Streams of xz.
    Xz,
    /// LZ4 blocks without a frame.
    Lz4,
    /// Zstandard frames (RFC 8878).
    Zstd,
}

/// What is made once a thread: it costs more to make than most blocks to unpack.
struct Tools {
    inflate: Decompressor,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::new(Tools { inflate: Decompressor::new(), zstd: None });
}

/// All of a stream into the front of `plain`; `None` where it is damaged or longer.
fn all_of(mut stream: impl Read, plain: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    while len < plain.len() {
        match stream.read(&mut plain[len..]).ok()? {
            0 => return Some(len),
            count => len += count,
        }
    }
    // A stream that is not over is longer than a block may be.
    (stream.read(&mut [0]).ok()? == 0).then_some(len)
}

/// Unpacks a stream of LZO1X behind `out`, by `most` bytes at most. `None` for what is no such stream.
pub fn lzo(packed: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
    lzo::unpack(packed, out, most)
}

impl Codec {
    /// Unpacks one block into the front of `plain` and answers its length. `None`: it is damaged, or there is not the room.
    pub fn unpack(self, packed: &[u8], plain: &mut [u8]) -> Option<usize> {
        match self {
            Codec::Zlib => TOOLS.with_borrow_mut(|tools| tools.inflate.zlib_decompress(packed, plain).ok()),
            Codec::Zstd => TOOLS.with_borrow_mut(|tools| {
                if tools.zstd.is_none() {
                    tools.zstd = zstd::bulk::Decompressor::new().ok();
                }
                tools.zstd.as_mut()?.decompress_to_buffer(packed, plain).ok()
            }),
            Codec::Lz4 => lz4_flex::block::decompress_into(packed, plain).ok(),
            Codec::Xz => all_of(XzReader::new_mem_limit(packed, false, MEMORY_KIB), plain),
            Codec::Lzma => all_of(LzmaReader::new_mem_limit(packed, MEMORY_KIB, None).ok()?, plain),
            Codec::Lzo => {
                let mut out = Vec::with_capacity(plain.len());
                lzo::unpack(packed, &mut out, plain.len())?;
                plain.get_mut(..out.len())?.copy_from_slice(&out);
                Some(out.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match codec {
            Codec::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Codec::Lzma => {
                let options = lzma_rust2::LzmaOptions::with_preset(1);
                let mut encoder = lzma_rust2::LzmaWriter::new_use_header(&mut out, &options, None).unwrap();
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Codec::Xz => {
                let mut encoder = lzma_rust2::XzWriter::new(&mut out, lzma_rust2::XzOptions::with_preset(1)).unwrap();
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Codec::Lz4 => out = lz4_flex::block::compress(plain),
            Codec::Zstd => out = zstd::bulk::compress(plain, 3).unwrap(),
            // No crate here packs it: literals, then the end.
            Codec::Lzo => {
                out.push(17 + 200);
                out.extend(&plain[..200]);
                out.extend([17, 0, 0]);
            }
        }
        out
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let plain: Vec<u8> = (0..60_000u32).map(|n| (n / 5 * n % 13) as u8).collect();
        for codec in [Codec::Zlib, Codec::Lzma, Codec::Lzo, Codec::Xz, Codec::Lz4, Codec::Zstd] {
            let len = if codec == Codec::Lzo { 200 } else { plain.len() };
            let stream = packed(codec, &plain);
            let mut out = vec![0; len + 1];
            assert_eq!(codec.unpack(&stream, &mut out), Some(len), "{codec:?}");
            assert!(out[..len] == plain[..len], "{codec:?}");
            assert_eq!(codec.unpack(&stream, &mut out[..len]), Some(len), "{codec:?}");
            assert_eq!(codec.unpack(&stream, &mut out[..len - 1]), None, "{codec:?}");
            for at in (0..stream.len()).step_by(stream.len() / 60 + 1) {
                let mut damaged = stream.clone();
                damaged[at] ^= 0x55;
                let _ = codec.unpack(&damaged, &mut out);
                assert!(codec.unpack(&stream[..at], &mut out).is_none_or(|got| got <= len), "{codec:?}");
            }
        }
    }
}
