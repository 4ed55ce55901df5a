//! Any bytes as a btrfs: opened, its log replayed, walked, its subvolumes listed. Checksums of type crc32c are made right, so that the fuzzer gets
//! behind them.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs;
use libfuzzer_sys::fuzz_target;
use walk::walk;

const SUPERBLOCK: usize = 0x1_0000;
const BLOCK: usize = 4096;

fn stamp(block: &mut [u8]) {
    let sum = crc32c::crc32c(&block[32..]).to_le_bytes();
    block[..4].copy_from_slice(&sum);
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    let Some(superblock) = bytes.get(SUPERBLOCK..SUPERBLOCK + BLOCK) else { return };
    let uuid = superblock[0x20..0x30].to_vec();
    // Nodes of 4096 bytes, as the images of the corpus have them.
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[0x20..0x30] == uuid) {
        stamp(block);
    }
    let device = Arc::new(Memory::from(bytes));
    let _ = fs::identify(device.as_ref());
    let Ok(mut fs) = fs::open(device) else { return };
    walk(fs.as_ref());
    if let Some(btrfs) = fs.as_btrfs() {
        let _ = (btrfs.default_volume(), btrfs.subvolumes());
    }
});
