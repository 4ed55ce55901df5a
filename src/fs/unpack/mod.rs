//! The compressed blocks of file systems, unpacked into what the reader has room for: no stream can make more than it was asked for.

mod lz4;
mod lzo;

use std::cell::RefCell;
use std::io::Read;

use flate2::read::DeflateDecoder;
use libdeflater::Decompressor;
use lzma_rust2::{LzmaReader, XzReader};

/// Largest memory, in KiB, that a stream of xz or lzma may ask for: dictionaries are as large as blocks, which have 1 MiB at most.
const MEMORY_KIB: u32 = 16 << 10;

/// Largest window of a stream of zstd whose front is unpacked, as for blocks of 12 MiB.
const WINDOW_LOG: u32 = 24;

/// How blocks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1950.
    Zlib,
    /// RFC 1951, without a frame.
    Deflate,
    /// LZMA1 without header or mark of the end; the first byte, which is always 0, has the complement of the properties.
    MicroLzma,
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

/// A stream of [`Codec::MicroLzma`] of `len` bytes, of which `room` are wanted: no dictionary need be longer than that.
fn micro_lzma(packed: &[u8], len: u64, room: usize) -> Option<impl Read + '_> {
    let (properties, rest) = packed.split_first()?;
    let dictionary = u32::try_from(room).ok()?.max(4096);
    LzmaReader::new_with_props([0].as_slice().chain(rest), len, !properties, dictionary, None).ok()
}

impl Codec {
    /// Unpacks one block into the front of `plain` and answers its length. `None`: it is damaged, or there is not the room.
    pub fn unpack(self, packed: &[u8], plain: &mut [u8]) -> Option<usize> {
        match self {
            Codec::Deflate => TOOLS.with_borrow_mut(|tools| tools.inflate.deflate_decompress(packed, plain).ok()),
            Codec::MicroLzma => all_of(micro_lzma(packed, plain.len() as u64, plain.len())?, plain),
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

    /// Unpacks the front of one block, as much as fills `plain`; what follows is not looked at, but for the codecs
    /// that no file system shares in parts. `None`: it is damaged or shorter.
    pub fn unpack_front(self, packed: &[u8], plain: &mut [u8]) -> Option<()> {
        match self {
            Codec::Deflate => DeflateDecoder::new(packed).read_exact(plain).ok(),
            // The length is not known.
            Codec::MicroLzma => micro_lzma(packed, u64::MAX, plain.len())?.read_exact(plain).ok(),
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).ok()?;
                decoder.window_log_max(WINDOW_LOG).ok()?;
                decoder.read_exact(plain).ok()
            }
            Codec::Lz4 => lz4::unpack_front(packed, plain),
            Codec::Zlib | Codec::Lzma | Codec::Lzo | Codec::Xz => {
                // These are not shared in parts by any file system.
                (self.unpack(packed, plain)? == plain.len()).then_some(())
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
            Codec::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(&mut out, flate2::Compression::default());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
            }
            Codec::MicroLzma => {
                let options = lzma_rust2::LzmaOptions::with_preset(1);
                let mut encoder = lzma_rust2::LzmaWriter::new_no_header(&mut out, &options, false).unwrap();
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap();
                out[0] = !options.get_props();
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
    fn the_front_of_a_block() {
        // Long runs, of bytes and of literals, and what was seen before.
        let plain: Vec<u8> = (0..60_000u32)
            .map(|n| if n % 7000 < 900 { 7 } else { (n.wrapping_mul(0x9e37_79b1) >> (24 + n % 2 * 5)) as u8 })
            .collect();
        for codec in [Codec::Deflate, Codec::MicroLzma, Codec::Lz4, Codec::Zstd] {
            let stream = packed(codec, &plain);
            for len in (0..plain.len()).step_by(701).chain([1, 17, 900, plain.len()]) {
                let mut out = vec![0; len];
                assert_eq!(codec.unpack_front(&stream, &mut out), Some(()), "{codec:?} {len}");
                assert!(out == plain[..len], "{codec:?} {len}");
            }
            let mut out = vec![0; plain.len()];
            assert_eq!(codec.unpack(&stream, &mut out), Some(plain.len()), "{codec:?}");
            assert!(out == plain, "{codec:?}");
            assert_eq!(codec.unpack_front(&stream[..stream.len() / 2], &mut out), None, "{codec:?}");
            for at in (0..stream.len()).step_by(stream.len() / 60 + 1) {
                let mut damaged = stream.clone();
                damaged[at] ^= 0x55;
                let _ = codec.unpack_front(&damaged, &mut out);
            }
        }
        for odd in [&[0x10][..], &[0xf0, 255, 255], &[0x10, 1, 0, 0], &[0x10, 1, 2, 0], &[0x1f, 1, 1, 0, 255]] {
            assert_eq!(Codec::Lz4.unpack_front(odd, &mut [0; 400]), None, "{odd:?}");
        }
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let plain: Vec<u8> = (0..60_000u32).map(|n| (n / 5 * n % 13) as u8).collect();
        for codec in [Codec::Zlib, Codec::Deflate, Codec::Lzma, Codec::Lzo, Codec::Xz, Codec::Lz4, Codec::Zstd] {
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
