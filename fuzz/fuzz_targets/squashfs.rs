//! Any bytes as a squashfs: opened and walked.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let device = Arc::new(Memory::from(bytes.to_vec()));
    if let Ok(fs) = fs::squashfs::open(device) {
        walk::walk(fs.as_ref());
    }
});
