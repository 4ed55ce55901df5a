//! Damaged volumes: errors, never a panic, a hang or a write outside.

use std::collections::HashSet;
use std::sync::Arc;

use imgsh::disk::memory::Memory;
use imgsh::fs::{self, FileSystem, FileType, NodeId};

use crate::random::Dice;
use crate::tools::*;

/// Walks everything, with a limit on what it visits, and answers how many nodes it saw.
fn walk(fs: &dyn FileSystem) -> usize {
    let mut seen: HashSet<NodeId> = HashSet::new();
    let mut waiting = vec![(fs.root(), 0)];
    let mut buffer = vec![0; 70_000];
    while let Some((node, depth)) = waiting.pop() {
        let Ok(about) = fs.metadata(node) else { continue };
        if about.file_type == FileType::Regular {
            let _ = fs.read(node, about.size / 2, &mut buffer);
            let _ = fs.extents(node);
            continue;
        }
        for entry in fs.read_dir(node).unwrap_or_default() {
            assert!(!entry.name.contains(&b'/') && !matches!(&entry.name[..], b"" | b"." | b".."));
            assert!(depth < 64, "a circle of directories");
            if seen.insert(entry.node) {
                waiting.push((entry.node, depth + 1));
            }
        }
    }
    seen.len()
}

/// Tries to change whatever is there.
fn disturb(fs: &mut dyn FileSystem) -> imgsh::base::Result<()> {
    let root = fs.root();
    let entries = fs.read_dir(root)?;
    let edit = fs.edit(NOW)?;
    let _ = edit.create(root, b"a new file with a long name", &file()).and_then(|n| edit.write(n, 5000, b"data"));
    let _ = edit.create(root, b"newdir", &folder()).and_then(|n| edit.create(n, b"below", &file()));
    for entry in &entries {
        let _ = edit.write(entry.node, 3, &[7; 3000]);
        let _ = edit.resize(entry.node, 100);
        let _ = edit.rename(root, &entry.name, root, b"renamed thing");
        let _ = edit.unlink(root, b"renamed thing");
        let _ = edit.rmdir(root, &entry.name);
    }
    edit.sync()
}

#[test]
fn mutations() {
    let mut dice = Dice(0x5eed_0fa7);
    let mut opened = 0;
    for (kib, arguments) in
        [(512, vec!["-F", "12"]), (5000, vec!["-F", "16", "-s", "1"]), (2048, vec!["-F", "32", "-s", "1"])]
    {
        let scratch = Scratch::mkfs(kib, &arguments);
        let mut fs = scratch.open();
        let root = fs.root();
        for i in 0..5 {
            put(fs.as_mut(), root, &format!("File number {i}"), &pattern(i * 3000, i as u8));
            let dir = fs.edit(NOW).unwrap().create(root, format!("dir{i}").as_bytes(), &folder()).unwrap();
            put(fs.as_mut(), dir, "inner file", b"content");
        }
        fs.edit(NOW).unwrap().sync().unwrap();
        assert_eq!(walk(fs.as_ref()), 15);
        let clean = scratch.memory.bytes();
        // Where the structures are: boot sector, tables, directories; all below this.
        let used = clean.iter().rposition(|b| *b != 0).unwrap() + 1;
        let interesting: Vec<usize> =
            (0..used).filter(|i| *i < 128 || clean[i / 32 * 32..].iter().take(32).any(|b| *b != 0)).collect();
        for round in 0..700 {
            let mut bytes = clean.clone();
            for _ in 0..1 + dice.below(6) {
                let at = if round % 3 == 0 { dice.below(64) } else { interesting[dice.below(interesting.len())] };
                bytes[at] =
                    if dice.below(2) == 0 { dice.below(256) as u8 } else { [0, 1, 2, 0xff, 0xf8, 0xe5][dice.below(6)] };
            }
            if round % 10 == 0 {
                bytes.truncate(dice.below(bytes.len()));
            }
            let device = Arc::new(Memory::from(bytes));
            let _ = fs::identify(device.as_ref());
            if let Ok(mut fs) = fs::fat::open(device) {
                opened += 1;
                walk(fs.as_ref());
                let _ = fs.info();
                let _ = disturb(fs.as_mut());
                let _ = fs.reload();
                walk(fs.as_ref());
            }
        }
    }
    assert!(opened > 700, "only {opened} damaged volumes were opened at all");
}
