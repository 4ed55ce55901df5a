//! Inflating and making compressed clusters: raw deflate without a header, or one zstd frame.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use zstd::bulk::{Compressor as ZstdCompressor, Decompressor as ZstdDecompressor};
use zstd::zstd_safe::WriteBuf;

/// About as small as level 6 of zlib, in half its time.
const DEFLATE_LEVEL: i32 = 5;
/// The usual one.
const ZSTD_LEVEL: i32 = 3;

/// How an image's compressed clusters are packed (header byte 104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Type 0: raw deflate, RFC 1951.
    Deflate,
    /// Type 1: one zstd frame.
    Zstd,
}

/// What a thread needs to inflate and to pack. It costs more to make than a cluster does, so each thread keeps its own.
#[derive(Default)]
struct Tools {
    inflate: Option<Decompressor>,
    deflate: Option<Compressor>,
    unzstd: Option<ZstdDecompressor<'static>>,
    zstd: Option<ZstdCompressor<'static>>,
}

thread_local! {
    static TOOLS: RefCell<Tools> = RefCell::default();
}

impl Tools {
    /// One zstd frame to a slice or to the room of a vector; answers its length.
    fn unzstd<B: WriteBuf + ?Sized>(&mut self, packed: &[u8], plain: &mut B) -> Option<usize> {
        let frame = zstd::zstd_safe::find_frame_compressed_size(packed).ok()?;
        if self.unzstd.is_none() {
            self.unzstd = ZstdDecompressor::new().ok();
        }
        self.unzstd.as_mut()?.decompress_to_buffer(packed.get(..frame)?, plain).ok()
    }

    fn inflate(&mut self, packed: &[u8], plain: &mut [u8]) -> Option<usize> {
        self.inflate.get_or_insert_with(Decompressor::new).deflate_decompress(packed, plain).ok()
    }
}

/// Fills `plain` from `packed`, which may have rubbish of up to a sector behind the stream. `None`: damaged, or not as long
/// as `plain`; what is in `plain` then means nothing.
pub(super) fn inflate_into(codec: Codec, packed: &[u8], plain: &mut [u8]) -> Option<()> {
    let got = TOOLS.with_borrow_mut(|tools| match codec {
        Codec::Deflate => tools.inflate(packed, plain),
        Codec::Zstd => tools.unzstd(packed, plain),
    })?;
    (got == plain.len()).then_some(())
}

/// [`inflate_into`] a new buffer of `size` bytes.
pub(super) fn inflate(codec: Codec, packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(size);
    match codec {
        Codec::Deflate => {
            plain.resize(size, 0);
            inflate_into(codec, packed, &mut plain)?;
        }
        // The bytes need not be zeroed first.
        Codec::Zstd => {
            TOOLS.with_borrow_mut(|tools| tools.unzstd(packed, &mut plain))?;
        }
    }
    (plain.len() == size).then_some(plain)
}

/// Writes the stream of one cluster to the start of `packed` and answers its length; `None` where it does not fit there.
pub(super) fn deflate_into(codec: Codec, plain: &[u8], packed: &mut [u8]) -> Option<usize> {
    TOOLS.with_borrow_mut(|tools| match codec {
        Codec::Deflate => {
            if tools.deflate.is_none() {
                tools.deflate = Some(Compressor::new(CompressionLvl::new(DEFLATE_LEVEL).ok()?));
            }
            tools.deflate.as_mut()?.deflate_compress(plain, packed).ok()
        }
        Codec::Zstd => {
            if tools.zstd.is_none() {
                tools.zstd = ZstdCompressor::new(ZSTD_LEVEL).ok();
            }
            tools.zstd.as_mut()?.compress_to_buffer(plain, packed).ok()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let plain: Vec<u8> = (0..70_000u32).map(|n| (n / 7 * n % 11) as u8).collect();
        for codec in [Codec::Deflate, Codec::Zstd] {
            let mut packed = vec![0xa5; plain.len() + 300];
            let len = deflate_into(codec, &plain, &mut packed[..plain.len() - 1]).unwrap();
            // Rubbish behind the stream is as in images.
            assert!(inflate(codec, &packed[..len + 300], plain.len()).unwrap() == plain, "{codec:?}");
            assert_eq!(inflate(codec, &packed[..len - 1], plain.len()), None);
            assert_eq!(inflate(codec, &packed[..len], plain.len() + 1), None);
            assert_eq!(inflate(codec, &packed[..len], plain.len() - 1), None);
            assert_eq!(inflate(codec, &packed[len..], plain.len()), None);
            assert_eq!(inflate(codec, &[], plain.len()), None);
            assert_eq!(deflate_into(codec, &plain, &mut packed[..len - 1]), None);
        }
    }
}
