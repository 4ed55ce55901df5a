//! What the trait promises, kept by every driver: random operations on a driver and on the model give the same
//! answers, the same errors and, in the end, the same tree as somebody else reads it.

mod oracle;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use imgsh::base::{GuestPathBuf, Kind, Name, Result, Timestamp, Uuid};
use imgsh::fs::model::Model;
use imgsh::fs::{self, Edit, FileSystem, FileType, MakeOptions, NewKind, NewNode, NodeId, SetAttributes};
use oracle::tree::{self, assert_same, through_trait};
use oracle::{Random, Sparse};

/// One operation; nodes are the model's.
#[derive(Debug, Clone)]
enum Op {
    Create(NodeId, Name, NewNode),
    Link(NodeId, NodeId, Name),
    Unlink(NodeId, Name),
    Rmdir(NodeId, Name),
    Rename(NodeId, Name, NodeId, Name),
    Write(NodeId, u64, Vec<u8>),
    Resize(NodeId, u64),
    Fill(NodeId, Vec<u8>, bool),
    Set(NodeId, SetAttributes),
    Xattr(NodeId, Name, Option<Vec<u8>>),
}

impl Op {
    /// Does it; answers the node that was made.
    fn apply(&self, edit: &mut dyn Edit, node: impl Fn(NodeId) -> NodeId) -> Result<Option<NodeId>> {
        match self {
            Op::Create(dir, name, new) => return edit.create(node(*dir), name, new).map(Some),
            Op::Link(of, dir, name) => edit.link(node(*of), node(*dir), name),
            Op::Unlink(dir, name) => edit.unlink(node(*dir), name),
            Op::Rmdir(dir, name) => edit.rmdir(node(*dir), name),
            Op::Rename(from_dir, from, to_dir, to) => edit.rename(node(*from_dir), from, node(*to_dir), to),
            Op::Write(of, offset, data) => edit.write(node(*of), *offset, data),
            Op::Resize(of, size) => edit.resize(node(*of), *size),
            Op::Fill(of, data, sparse) => edit.fill(node(*of), data.len() as u64, &mut data.as_slice(), *sparse),
            Op::Set(of, set) => edit.set_attributes(node(*of), set),
            Op::Xattr(of, name, value) => edit.set_xattr(node(*of), name, value.as_deref()),
        }?;
        Ok(None)
    }

    /// The operation without its bytes.
    fn brief(&self) -> String {
        let mut text = format!("{self:?}");
        text.truncate(text.char_indices().nth(300).map_or(text.len(), |(at, _)| at));
        text
    }
}

/// A driver and the model, which do the same.
struct Pair {
    device: Arc<Sparse>,
    driver: Box<dyn FileSystem>,
    model: Box<dyn FileSystem>,
    /// The driver's nodes by the model's.
    nodes: BTreeMap<NodeId, NodeId>,
    /// All nodes of the model with their types.
    all: Vec<(NodeId, FileType)>,
    random: Random,
    now: Timestamp,
}

impl Pair {
    fn new(device: Arc<Sparse>, seed: u64) -> Self {
        let driver = fs::open(device.device()).unwrap();
        let (nodes, all) = (BTreeMap::new(), Vec::new());
        let now = Timestamp::from_seconds(1_700_000_000);
        let mut pair = Pair { device, driver, model: Model::new(), nodes, all, random: Random(seed), now };
        // The root of a new file system has its own times.
        let set = SetAttributes { mode: Some(0o755), accessed: Some(now), modified: Some(now), ..Default::default() };
        let root = pair.model.root();
        pair.map();
        pair.both(&Op::Set(root, set)).unwrap();
        // And a link count that counts lost+found.
        let wanted = pair.driver.metadata(pair.driver.root()).unwrap().links;
        if wanted == 3 {
            let new = NewNode { kind: NewKind::Directory, mode: 0o700, uid: 0, gid: 0 };
            pair.model.edit(now).unwrap().create(root, b"lost+found", &new).unwrap();
        }
        pair.sync();
        pair
    }

    /// Finds the nodes of both sides by walking.
    fn map(&mut self) {
        self.nodes.clear();
        self.all.clear();
        let mut queue = vec![(self.model.root(), self.driver.root())];
        while let Some((model, driver)) = queue.pop() {
            let file_type = self.model.metadata(model).unwrap().file_type;
            if self.nodes.insert(model, driver).is_none() {
                self.all.push((model, file_type));
            }
            if file_type == FileType::Directory {
                for entry in self.model.read_dir(model).unwrap().iter().filter(|entry| *entry.name != *b"lost+found") {
                    let found = self.driver.lookup(driver, &entry.name).unwrap();
                    queue.push((entry.node, found.unwrap_or_else(|| panic!("{} is lost", entry.name))));
                }
            }
        }
    }

    fn driver_do(&mut self, op: &Op) -> Result<Option<NodeId>> {
        let nodes = &self.nodes;
        op.apply(self.driver.edit(self.now)?, |node| nodes[&node])
    }

    /// Does an operation on both; the model goes first and says whether it must fail.
    fn both(&mut self, op: &Op) -> Result<(), Kind> {
        match op.apply(self.model.edit(self.now).unwrap(), |node| node) {
            Ok(made) => {
                let found = self.driver_do(op).unwrap_or_else(|error| panic!("{}: {error}", op.brief()));
                if let (Some(model), Some(driver)) = (made, found) {
                    self.nodes.insert(model, driver);
                }
                Ok(())
            }
            Err(wanted) => {
                // As a session does it: what was before is kept, and comes back after the error.
                self.sync();
                let before = self.device.snapshot();
                let error = self.driver_do(op).err();
                let found = error.as_ref().map(|error| error.kind());
                assert_eq!(found, Some(wanted.kind()), "{}: {error:?}", op.brief());
                self.device.restore(before);
                self.driver.reload().unwrap();
                self.map();
                Err(wanted.kind())
            }
        }
    }

    fn sync(&mut self) {
        self.model.edit(self.now).unwrap().sync().unwrap();
        self.driver.edit(self.now).unwrap().sync().unwrap();
    }

    fn check(&mut self, what: &str) {
        assert_same(&through_trait(self.driver.as_ref()), &through_trait(self.model.as_ref()), what);
    }

    fn pick(&mut self, file_type: Option<FileType>) -> NodeId {
        let fit: Vec<NodeId> =
            self.all.iter().filter(|(_, t)| file_type.is_none_or(|wanted| *t == wanted)).map(|(id, _)| *id).collect();
        match fit.len() as u64 {
            0 => self.model.root(),
            len => fit[self.random.below(len) as usize],
        }
    }

    /// A name, most of the time one that is there.
    fn name(&mut self, dir: NodeId) -> Name {
        if let Ok(names) = self.model.read_dir(dir) {
            let names: Vec<Name> = names.into_iter().map(|e| e.name).filter(|n| **n != *b"lost+found").collect();
            if !names.is_empty() && self.random.below(3) > 0 {
                return names[self.random.below(names.len() as u64) as usize].clone();
            }
        }
        self.new_name()
    }

    fn new_name(&mut self) -> Name {
        match self.random.below(40) {
            0 => Name(vec![b'L'; 255]),
            1 => Name(vec![b'x'; 256]),
            2 => Name(b"bytes \xff\xfe \\ \x7f".to_vec()),
            3 => Name("größer-ñ-日本語".as_bytes().to_vec()),
            n => Name(format!("{}-{}", "name".repeat(n as usize % 7), self.random.below(30)).into_bytes()),
        }
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.random.below(most);
        let zeros = self.random.below(4) == 0;
        (0..len).map(|_| if zeros { 0 } else { self.random.next() as u8 }).collect()
    }

    fn op(&mut self, unix: bool) -> Op {
        use FileType::{Directory, Regular};
        let dir = self.pick(Some(Directory));
        let file = self.pick(Some(Regular));
        match self.random.below(if unix { 20 } else { 13 }) {
            0..=3 => {
                let kind = match self.random.below(if unix { 10 } else { 4 }) {
                    0..=2 => NewKind::Regular,
                    3..=4 => NewKind::Directory,
                    5 => NewKind::CharDevice(self.random.below(4096) as u32, self.random.below(1 << 20) as u32),
                    6 => NewKind::BlockDevice(self.random.below(256) as u32, self.random.below(256) as u32),
                    7 => NewKind::Fifo,
                    8 => NewKind::Socket,
                    _ => {
                        let len = [1, 59, 60, 61, 1000][self.random.below(5) as usize];
                        NewKind::Symlink(GuestPathBuf(vec![b'/'; len]))
                    }
                };
                let mode = if unix { self.random.below(0o10000) as u32 } else { 0o755 };
                let owner = if unix { self.random.below(1 << 32) as u32 } else { 0 };
                let name = self.new_name();
                Op::Create(dir, name, NewNode { kind, mode, uid: owner, gid: owner / 3 })
            }
            4 => Op::Unlink(dir, self.name(dir)),
            5 => Op::Rmdir(dir, self.name(dir)),
            6..=7 => {
                let to = self.pick(Some(Directory));
                let (from_name, to_name) = (self.name(dir), self.name(to));
                Op::Rename(dir, from_name, to, to_name)
            }
            8..=9 => {
                let offset = self.random.below(200_000);
                Op::Write(file, offset, self.bytes(40_000))
            }
            10 => Op::Write(file, self.random.below(5 << 20), vec![7; 3]),
            11 => Op::Resize(file, self.random.below(150_000)),
            12 => {
                let sparse = self.random.below(2) == 0;
                Op::Fill(file, self.bytes(100_000), sparse)
            }
            13..=14 => Op::Link(self.pick(None), dir, self.new_name()),
            15..=16 => {
                let mut some = |most: u64| (self.random.below(2) == 0).then(|| self.random.below(most));
                let set = SetAttributes {
                    mode: some(0o10000).map(|m| m as u32),
                    uid: some(1 << 32).map(|u| u as u32),
                    gid: some(1 << 32).map(|g| g as u32),
                    accessed: some(1 << 33).map(|s| Timestamp { seconds: s as i64 - (1 << 31), nanos: 999_999_999 }),
                    modified: some(1 << 31).map(|s| Timestamp { seconds: s as i64, nanos: 1 }),
                };
                Op::Set(self.pick(None), set)
            }
            _ => {
                let names =
                    ["user.a", "user.long-name.with.dots", "trusted.t", "security.selinux", "security.capability"];
                let name = Name::from(names[self.random.below(5) as usize]);
                let node = if self.random.below(2) == 0 { file } else { dir };
                let value = (self.random.below(3) > 0).then(|| self.bytes(150));
                Op::Xattr(node, name, value)
            }
        }
    }
}

/// Runs the contract on what is on a device; answers the tree that must be there now.
fn contract(device: Arc<Sparse>, unix: bool, seed: u64, steps: usize) -> tree::Tree {
    let mut pair = Pair::new(device, seed);
    let mut failed = 0;
    for step in 0..steps {
        pair.now.seconds += 1;
        pair.now.nanos = pair.random.below(1_000_000_000) as u32;
        if !unix {
            pair.now = Timestamp::from_seconds(pair.now.seconds / 2 * 2 + 2);
        }
        let op = pair.op(unix);
        match pair.both(&op) {
            Ok(()) => pair.map(),
            Err(_) => failed += 1,
        }
        if step % 7 == 0 {
            pair.sync();
        }
        if step % 50 == 49 {
            pair.check(&format!("step {step}, after {}", op.brief()));
        }
        if step % 150 == 149 {
            pair.sync();
            pair.driver = fs::open(pair.device.device()).unwrap();
            pair.map();
            pair.check(&format!("step {step}, opened anew"));
        }
    }
    assert!(failed > steps / 20 && failed < steps / 2, "{failed} of {steps} operations failed");
    pair.sync();
    pair.check("the end");
    through_trait(pair.model.as_ref())
}

fn ext4_contract(features: Option<&str>, block_size: u32, seed: u64) {
    let uuid = Uuid([seed as u8; 16]);
    let options = MakeOptions {
        fs_type: "ext4".to_string(),
        features: features.map(str::to_string),
        block_size: Some(block_size),
        uuid,
        seed: uuid.0,
        now: Timestamp::from_seconds(1_700_000_000),
        ..MakeOptions::default()
    };
    let device = Sparse::new(48 << 20);
    fs::make(&device.device(), &options).unwrap();
    let wanted = contract(device.clone(), true, seed, 1200);
    let dir = oracle::scratch();
    let image = dir.path().join("image");
    device.save(&image);
    let mut wanted = wanted;
    wanted.retain(|path, _| path != b"/lost+found");
    tree::judge(Path::new(&image), &wanted, "the contract");
    tree::judge_by_ext4_view(&image, &wanted);
}

#[test]
fn ext4_keeps_the_contract() {
    ext4_contract(None, 4096, 1);
}

#[test]
fn ext4_with_small_blocks_keeps_the_contract() {
    ext4_contract(Some("metadata_csum_seed,orphan_file"), 1024, 2);
}

#[test]
fn ext4_without_checksums_keeps_the_contract() {
    ext4_contract(Some("^metadata_csum,^64bit,^has_journal,^flex_bg"), 2048, 3);
}

/// The model forgets what was not synced, as a driver does after a rollback.
#[test]
fn the_model_goes_back() {
    let mut model = Model::new();
    let (root, now) = (model.root(), Timestamp::from_seconds(5));
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 1, gid: 2 };
    let edit = model.edit(now).unwrap();
    let kept = edit.create(root, b"kept", &new).unwrap();
    edit.sync().unwrap();
    edit.write(kept, 5000, b"x").unwrap();
    edit.create(root, b"lost", &new).unwrap();
    model.reload().unwrap();
    let names: Vec<Name> = model.read_dir(root).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [Name::from("kept")]);
    assert_eq!(model.metadata(kept).unwrap().size, 0);
}
