//! Any bytes as an ext file system: opened, walked, and a file made in it.

#![no_main]

use std::collections::HashSet;
use std::sync::Arc;

use imgsh::base::Timestamp;
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, FileSystem, FileType, NewKind, NewNode};
use libfuzzer_sys::fuzz_target;

/// Nodes to visit: damage can make a tree look endless.
const NODES: usize = 200;

fn walk(fs: &dyn FileSystem) {
    let _ = fs.info();
    let mut seen = HashSet::new();
    let mut queue = vec![fs.root()];
    let mut buf = vec![0; 5000];
    while let Some(node) = queue.pop() {
        if !seen.insert(node) || seen.len() > NODES {
            continue;
        }
        let Ok(metadata) = fs.metadata(node) else { continue };
        let _ = fs.xattrs(node);
        match metadata.file_type {
            FileType::Directory => {
                let entries = fs.read_dir(node).unwrap_or_default();
                queue.extend(entries.iter().take(NODES).map(|entry| entry.node));
            }
            FileType::Symlink => _ = fs.read_link(node),
            _ => {
                let _ = fs.extents(node);
                let _ = fs.read(node, metadata.size / 2, &mut buf);
            }
        }
    }
}

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
