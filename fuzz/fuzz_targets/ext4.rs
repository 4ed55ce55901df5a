//! Any bytes as an ext file system: opened, walked, and a file made in it.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::base::Timestamp;
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, NewKind, NewNode};
use libfuzzer_sys::fuzz_target;
use walk::walk;

fuzz_target!(|bytes: &[u8]| {
    let device = Arc::new(Memory::from(bytes.to_vec()));
    let _ = fs::identify(device.as_ref());
    let Ok(mut fs) = fs::open(device) else { return };
    walk(fs.as_ref());
    let root = fs.root();
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    if let Ok(edit) = fs.edit(Timestamp::from_seconds(1_700_000_000)) {
        let made = edit.create(root, b"new", &new).and_then(|file| edit.write(file, 5000, b"hello").map(|_| ()));
        if made.is_ok() {
            let _ = edit.sync();
        }
    }
    let _ = fs.reload();
    walk(fs.as_ref());
});
