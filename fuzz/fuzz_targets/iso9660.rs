//! Any bytes as an ISO 9660: opened and walked.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(fs) = fs::iso9660::open(Arc::new(Memory::from(bytes.to_vec()))) {
        walk::walk(fs.as_ref());
    }
});
