//! Any bytes as an XFS: opened, its log replayed, walked. Checksums are made right where a magic says what a block is, so that the fuzzer gets behind them.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs;
use libfuzzer_sys::fuzz_target;
use walk::walk;

/// Magic of a block, and where its CRC-32C is: superblock, group headers, inode, directory and attribute blocks, trees.
const SUMS: &[(&[u8], usize)] = &[
    (b"XFSB", 224),
    (b"XAGF", 216),
    (b"XAGI", 312),
    (b"IN", 100),
    (b"XDB3", 4),
    (b"XDD3", 4),
    (b"BMA3", 64),
];

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    // Inodes and sectors have 512 bytes in the images of the corpus; their sums are over that many.
    for block in bytes.chunks_exact_mut(512) {
        if let Some((_, at)) = SUMS.iter().find(|(magic, _)| block.starts_with(magic)) {
            block[*at..at + 4].fill(0);
            let sum = crc32c::crc32c(block).to_le_bytes();
            block[*at..at + 4].copy_from_slice(&sum);
        }
    }
    let device = Arc::new(Memory::from(bytes));
    let _ = fs::identify(device.as_ref());
    let Ok(mut fs) = fs::open(device) else { return };
    walk(fs.as_ref());
    let _ = fs.reload();
    walk(fs.as_ref());
});
