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

/// Fills `out`, one cluster, from `packed`, which may have rubbish of up to a sector behind the stream.
/// Memory is bounded by the lengths of the two. `None`: damaged, or too short for the cluster.
pub(super) fn inflate(codec: Codec, packed: &[u8], out: &mut [u8]) -> Option<()> {
    match codec {
        Codec::Deflate => {
            let options = DeflateOptions::default().set_limit(out.len()).set_size_hint(out.len() + 1024);
            let plain = DeflateDecoder::new_with_options(packed, options).decode_deflate().ok()?;
            out.copy_from_slice(plain.get(..out.len())?);
            Some(())
        }
        Codec::Zstd => ZSTD.with_borrow_mut(|slot| {
            let frame = zstd::zstd_safe::find_frame_compressed_size(packed).ok()?;
            if slot.is_none() {
                *slot = Decompressor::new().ok();
            }
            let got = slot.as_mut()?.decompress_to_buffer(packed.get(..frame)?, out).ok()?;
            (got == out.len()).then_some(())
        }),
    }
}
