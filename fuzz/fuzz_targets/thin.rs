//! Any bytes as the metadata of a thin pool: a volume in it is read and written. Checksums are made right, so that the fuzzer gets behind them.

#![no_main]

use std::sync::Arc;

use imgsh::disk::BlockDevice;
use imgsh::disk::memory::Memory;
use imgsh::volume::lvm::thin::{Metadata, Thin};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;
/// Bytes of the pool's data, and of the volume.
const DATA: usize = 1 << 20;
const LEN: u64 = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for (number, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
        block[8..16].copy_from_slice(&(number as u64).to_le_bytes());
        let sum = !crc32c::crc32c(&block[4..]) ^ if number == 0 { 160_774 } else { 121_107 };
        block[..4].copy_from_slice(&sum.to_le_bytes());
    }
    for id in 0..3 {
        let Ok(metadata) = Metadata::open(Arc::new(Memory::from(bytes.clone()))) else { return };
        let Ok(volume) = Thin::new(metadata, id, Arc::new(Memory::new(DATA)), LEN) else { continue };
        let mut read = vec![0; 300_000];
        for offset in [0, 65_535, LEN / 2, LEN - 300_000] {
            let _ = volume.read_at(offset, &mut read);
            let wrote = volume.write_at(offset, b"hello");
            if wrote.is_ok() {
                volume.read_at(offset, &mut read[..5]).expect("what was written is read");
                assert_eq!(&read[..5], b"hello");
            }
        }
        let _ = volume.pieces(0..LEN, &mut |_| Ok(()));
    }
});
