//! Any bytes as a FAT: opened, walked; files and directories made, written, renamed and removed.

#![no_main]

mod walk;

use std::sync::Arc;

use imgsh::base::{Result, Timestamp};
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, Edit, NewKind, NewNode, NodeId};
use libfuzzer_sys::fuzz_target;
use walk::walk;

fn change(edit: &mut dyn Edit, root: NodeId) -> Result<()> {
    let new = |kind| NewNode { kind, mode: 0o755, uid: 0, gid: 0 };
    let dir = edit.create(root, b"a new directory", &new(NewKind::Directory))?;
    let file = edit.create(dir, b"new", &new(NewKind::Regular))?;
    edit.write(file, 5000, b"hello")?;
    edit.rename(dir, b"new", root, b"another name")?;
    edit.resize(file, 700)?;
    edit.rmdir(root, b"a new directory")?;
    edit.sync()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut fs) = fs::fat::open(Arc::new(Memory::from(bytes.to_vec()))) else { return };
    walk(fs.as_ref());
    let root = fs.root();
    let names: Vec<Vec<u8>> = fs.read_dir(root).unwrap_or_default().into_iter().map(|entry| entry.name.0).collect();
    if let Ok(edit) = fs.edit(Timestamp::from_seconds(1_700_000_000)) {
        let _ = change(edit, root);
        for name in names.iter().take(20) {
            let _ = edit.unlink(root, name).or_else(|_| edit.rmdir(root, name));
        }
        let _ = edit.sync();
    }
    let _ = fs.reload();
    walk(fs.as_ref());
});
