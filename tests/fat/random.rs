//! Random operations on the driver and on the model of the contract: the same answers, the same tree.

use std::collections::BTreeMap;

use imgsh::base::Kind;
use imgsh::fs::model::Model;
use imgsh::fs::{FileSystem, FileType, NodeId};

use crate::tools::*;

/// A seeded generator (xorshift64, Marsaglia 2003).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Every path with its content; directories end in a slash.
fn tree(fs: &dyn FileSystem) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![(fs.root(), String::new())];
    while let Some((dir, path)) = waiting.pop() {
        for entry in fs.read_dir(dir).unwrap() {
            let name = format!("{path}/{}", entry.name);
            if fs.metadata(entry.node).unwrap().file_type == FileType::Directory {
                found.insert(format!("{name}/"), Vec::new());
                waiting.push((entry.node, name));
            } else {
                found.insert(name, content(fs, entry.node));
            }
        }
    }
    found
}

fn kind<T>(result: imgsh::base::Result<T>) -> Option<Kind> {
    result.err().map(|e| e.kind())
}

/// One operation on one of them; `dice` starts the same for both.
fn step(fs: &mut dyn FileSystem, mut dice: Dice) -> Option<Kind> {
    let mut dirs = vec![fs.root()];
    let pick = |fs: &dyn FileSystem, dice: &mut Dice, dirs: &mut Vec<NodeId>| {
        // A directory, by names, so that both go the same way.
        let mut here = dirs[0];
        for _ in 0..dice.below(4) {
            let mut below: Vec<_> = fs.read_dir(here).unwrap();
            below.retain(|e| fs.metadata(e.node).unwrap().file_type == FileType::Directory);
            below.sort_by(|a, b| a.name.cmp(&b.name));
            if below.is_empty() {
                break;
            }
            here = below[dice.below(below.len())].node;
        }
        here
    };
    let names =
        ["a", "B.txt", "Mixed Case", "длинное имя файла.conf", "z.tar.gz", "d1", "d2", "d3", "emoji 😀", "plain.cfg"];
    let from = pick(fs, &mut dice, &mut dirs);
    let to = pick(fs, &mut dice, &mut dirs);
    let (one, two) = (names[dice.below(names.len())].as_bytes(), names[dice.below(names.len())].as_bytes());
    let found = fs.lookup(from, one).unwrap();
    let (len, seed) = (dice.below(9000), dice.below(256) as u8);
    let edit = fs.edit(NOW).unwrap();
    match (dice.below(9), found) {
        (0 | 1, _) => kind(edit.create(from, one, &file())),
        (2, _) => kind(edit.create(from, one, &folder())),
        (3, _) => kind(edit.unlink(from, one)),
        (4, _) => kind(edit.rmdir(from, one)),
        (5, _) => kind(edit.rename(from, one, to, two)),
        (6, Some(node)) => kind(edit.write(node, dice.below(20_000) as u64, &pattern(len, seed))),
        (7, Some(node)) => kind(edit.fill(node, len as u64 * 3, &mut &pattern(len * 3, seed)[..], true)),
        (8, Some(node)) => kind(edit.resize(node, dice.below(30_000) as u64)),
        _ => None,
    }
}

#[test]
fn the_driver_does_what_the_model_does() {
    for (number, (kib, arguments)) in kinds().into_iter().enumerate() {
        let scratch = Scratch::mkfs(kib, &arguments);
        let mut fs = scratch.open();
        let mut model = Model::new();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + number as u64);
        for round in 0..600 {
            dice.below(2);
            let seed = dice.0;
            let (ours, wanted) = (step(fs.as_mut(), Dice(seed)), step(model.as_mut(), Dice(seed)));
            if wanted == Some(Kind::IsADirectory) || wanted == Some(Kind::NotADirectory) {
                assert!(ours.is_some(), "{arguments:?}, round {round}: {ours:?} instead of {wanted:?}");
            } else {
                assert_eq!(ours, wanted, "{arguments:?}, round {round}");
            }
            if round % 50 == 49 {
                fs.edit(NOW).unwrap().sync().unwrap();
                if round % 100 == 99 {
                    fs.reload().unwrap();
                }
                if round % 200 == 199 {
                    scratch.check();
                    fs = scratch.open();
                }
                assert!(tree(fs.as_ref()) == tree(model.as_ref()), "{arguments:?}, round {round}");
            }
        }
    }
}
