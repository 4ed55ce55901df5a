//! Any bytes as an EROFS: opened and walked. Its checksum is not looked at: most of what there is to find is behind it.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if let Some(features) = bytes.get_mut(1032) {
        *features &= !1;
    }
    let device = Arc::new(Memory::from(bytes));
    if let Ok(fs) = fs::erofs::open(device) {
        walk::walk(fs.as_ref());
    }
});
