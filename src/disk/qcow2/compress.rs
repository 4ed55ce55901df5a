//! Inflating compressed clusters: raw deflate without a header, or one zstd frame.

use std::cell::RefCell;

use zstd::bulk::Decompressor;
use zune_inflate::{DeflateDecoder, DeflateOptions};

/// How an image's compressed clusters are packed (header byte 104).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Type 0: raw deflate, RFC 1951.
    Deflate,
    /// Type 1: one zstd frame.
    Zstd,
}

thread_local! {
    /// A zstd context costs more to make than a cluster to inflate.
    static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The plain bytes, `size` of them, of `packed`, which may have rubbish of up to a sector behind the stream.
/// Memory is bounded by the two lengths. `None`: damaged, or too short for the cluster.
pub(super) fn inflate(codec: Codec, packed: &[u8], size: usize) -> Option<Vec<u8>> {
    match codec {
        Codec::Deflate => {
            let options = DeflateOptions::default().set_limit(size).set_size_hint(size + 1024);
            let mut plain = DeflateDecoder::new_with_options(packed, options).decode_deflate().ok()?;
            plain.truncate(size);
            (plain.len() == size).then_some(plain)
        }
        Codec::Zstd => ZSTD.with_borrow_mut(|slot| {
            let frame = zstd::zstd_safe::find_frame_compressed_size(packed).ok()?;
            if slot.is_none() {
                *slot = Decompressor::new().ok();
            }
            let mut plain = Vec::with_capacity(size);
            let got = slot.as_mut()?.decompress_to_buffer(packed.get(..frame)?, &mut plain).ok()?;
            (got == size && plain.len() == size).then_some(plain)
        }),
    }
}

/// The stream of one cluster; `None` where it would not be shorter than the cluster.
pub(super) fn deflate(codec: Codec, plain: &[u8]) -> Option<Vec<u8>> {
    let packed = match codec {
        Codec::Deflate => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
            std::io::Write::write_all(&mut encoder, plain).ok()?;
            encoder.finish().ok()?
        }
        Codec::Zstd => zstd::bulk::compress(plain, 3).ok()?,
    };
    (packed.len() < plain.len()).then_some(packed)
}
