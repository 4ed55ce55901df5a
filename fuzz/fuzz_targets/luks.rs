//! Any bytes as an encrypted volume: its header is read, and a key is tried until that has taken a little work. The checksum of LUKS2 is made right.

#![no_main]

use std::cell::Cell;
use std::sync::Arc;

use imgsh::base::Kind;
use imgsh::disk::Device;
use imgsh::disk::luks::{self, Work};
use imgsh::disk::memory::Memory;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

const SUM: std::ops::Range<usize> = 448..512;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() > 4096 && bytes[6..8] == [0, 2] {
        let len = u64::from_be_bytes(bytes[8..16].try_into().unwrap()) as usize;
        bytes[SUM].fill(0);
        if let Some(sum) = bytes.get(..len).map(Sha256::digest) {
            bytes[448..480].copy_from_slice(&sum);
        }
    }
    let device: Device = Arc::new(Memory::from(bytes));
    let Ok(Some(header)) = luks::read(&device) else { return };
    let _ = header.cipher();
    let left = Cell::new(3);
    let interrupt = || match left.get() {
        0 => Err(Kind::Interrupted.into()),
        more => {
            left.set(more - 1);
            Ok(())
        }
    };
    let _ = header.unlock(&device, b"key", &mut Work::new(&interrupt));
});
