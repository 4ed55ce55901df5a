//! Any bytes as an ext file system that grows and shrinks.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs::FileSystem;
use imgsh::fs::ext4::Ext4;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let len = bytes.len() as u64;
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len() * 3, 0);
    let device = Arc::new(Memory::from(bytes));
    let Ok(mut fs) = Ext4::open(device) else { return };
    for size in [len * 3, len / 2, len] {
        if fs.set_size(Some(size)).is_err() || fs.reload().is_err() {
            return;
        }
        walk::walk(&fs);
    }
});
