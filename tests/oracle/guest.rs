//! Scripts of operations by path, and their judgement: the same script runs on an image and on the model.

use std::sync::Arc;

use imgsh::base::{Timestamp, Uuid};
use imgsh::fs::model::Model;
use imgsh::fs::{self, Edit, FileSystem, MakeOptions, NewKind, NewNode, NodeId, SetAttributes};

use super::kernel::judge_by_kernel;
use super::tree::{Tree, assert_same, judge, judge_by_ext4_view, through_trait};
use super::{Random, Sparse, run, scratch};

/// A file system with paths instead of nodes. Every operation has its own moment.
pub struct Guest<'a> {
    pub fs: &'a mut dyn FileSystem,
    pub now: Timestamp,
}

impl<'a> Guest<'a> {
    pub fn new(fs: &'a mut dyn FileSystem) -> Self {
        let mut guest = Guest { fs, now: Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 } };
        // The root's access time is the one thing that no operation sets.
        let set = SetAttributes { accessed: Some(guest.now), modified: Some(guest.now), ..Default::default() };
        guest.set("", set);
        guest
    }

    pub fn node(&self, path: &str) -> NodeId {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(self.fs.root(), |dir, name| {
            let found = self.fs.lookup(dir, name.as_bytes()).unwrap();
            found.unwrap_or_else(|| panic!("{path}: {name} is not there"))
        })
    }

    pub fn split<'p>(&self, path: &'p str) -> (NodeId, &'p [u8]) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(dir), name.as_bytes())
    }

    pub fn edit(&mut self) -> &mut dyn Edit {
        self.now.seconds += 1;
        self.now.nanos = (self.now.nanos + 77_777_777) % 1_000_000_000;
        self.fs.edit(self.now).unwrap()
    }

    pub fn make(&mut self, path: &str, kind: NewKind, mode: u32) -> NodeId {
        let (dir, name) = self.split(path);
        let new = NewNode { kind, mode, uid: 0, gid: 0 };
        self.edit().create(dir, name, &new).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn dir(&mut self, path: &str) {
        self.make(path, NewKind::Directory, 0o755);
    }

    pub fn file(&mut self, path: &str, content: &[u8]) {
        let node = self.make(path, NewKind::Regular, 0o644);
        self.edit().fill(node, content.len() as u64, &mut &*content, false).unwrap();
    }

    pub fn write(&mut self, path: &str, offset: u64, data: &[u8]) {
        let node = self.node(path);
        self.edit().write(node, offset, data).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub fn resize(&mut self, path: &str, size: u64) {
        let node = self.node(path);
        self.edit().resize(node, size).unwrap();
    }

    pub fn set(&mut self, path: &str, set: SetAttributes) {
        let node = self.node(path);
        self.edit().set_attributes(node, &set).unwrap();
    }

    pub fn xattr(&mut self, path: &str, name: &str, value: Option<&[u8]>) {
        let node = self.node(path);
        self.edit().set_xattr(node, name.as_bytes(), value).unwrap_or_else(|error| panic!("{path}: {name}: {error}"));
    }

    pub fn link(&mut self, of: &str, path: &str) {
        let (node, (dir, name)) = (self.node(of), self.split(path));
        self.edit().link(node, dir, name).unwrap();
    }

    pub fn remove(&mut self, path: &str) {
        let (dir, name) = self.split(path);
        self.edit().unlink(dir, name).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub fn remove_dir(&mut self, path: &str) {
        let (dir, name) = self.split(path);
        self.edit().rmdir(dir, name).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.split(from), self.split(to));
        let done = self.edit().rename(from_dir, from_name, to_dir, to_name);
        done.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    }

    pub fn sync(&mut self) {
        self.edit().sync().unwrap();
    }
}

pub type Script<'a> = &'a dyn Fn(&mut Guest<'_>);

/// The tree that a script makes on an empty file system.
pub fn wanted(script: Script<'_>) -> Tree {
    let mut model = Model::new();
    // A new ext4 has lost+found; it counts among the root's links and is not in trees.
    let new = NewNode { kind: NewKind::Directory, mode: 0o700, uid: 0, gid: 0 };
    let root = model.root();
    model.edit(Timestamp::default()).unwrap().create(root, b"lost+found", &new).unwrap();
    script(&mut Guest::new(model.as_mut()));
    through_trait(model.as_ref())
}

/// Runs a script on an image with an empty file system and has the result judged.
pub fn check(device: &Arc<Sparse>, script: Script<'_>, what: &str) {
    let wanted = wanted(script);
    let mut fs = fs::open(device.device()).unwrap();
    let mut guest = Guest::new(fs.as_mut());
    script(&mut guest);
    guest.sync();
    assert_same(&through_trait(fs.as_ref()), &wanted, what);
    let dir = scratch();
    let image = dir.path().join("image");
    device.save(&image);
    assert_same(&through_trait(fs::open(device.device()).unwrap().as_ref()), &wanted, &format!("{what}, opened anew"));
    judge(&image, &wanted, what);
    let not_for_view = ["filetype", "lists", "inline_data", "ea_inode", "meta_bg", "large_dir", "casefold", "mmp"];
    if !not_for_view.iter().any(|word| what.contains(word)) {
        // ext4-view refuses these features, and takes a hole of a block list for block 0.
        judge_by_ext4_view(&image, &wanted);
    }
    // Blocks larger than a page, and what kernels are often built without.
    if !["65536", "casefold", "encrypt", "quota"].iter().any(|word| what.contains(word)) {
        judge_by_kernel(&image, &wanted, what);
    }
}

/// An empty ext4 of ours.
pub fn made(size: u64, block_size: u32, features: &str) -> Arc<Sparse> {
    made_as("ext4", size, block_size, features)
}

/// An empty file system of ours.
pub fn made_as(fs_type: &str, size: u64, block_size: u32, features: &str) -> Arc<Sparse> {
    let uuid = Uuid(*b"sixteen bytes...");
    let options = MakeOptions {
        fs_type: fs_type.to_string(),
        block_size: Some(block_size),
        features: Some(features.to_string()),
        uuid,
        seed: uuid.0,
        now: Timestamp::from_seconds(1_700_000_000),
        ..MakeOptions::default()
    };
    let device = Sparse::new(size);
    fs::make(&device.device(), &options).unwrap();
    device
}

/// An empty file system of mke2fs, perhaps changed by debugfs commands.
pub fn mke2fs(options: &[&str], size: &str, commands: &[&str]) -> Arc<Sparse> {
    let dir = scratch();
    let image = dir.path().join("image");
    let file = image.to_str().unwrap();
    run("mke2fs", &[&["-q", "-F"], options, &[file, size]].concat());
    for command in commands {
        run("debugfs", &["-w", "-R", command, file]);
    }
    Sparse::load(&image)
}

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    (0..len).map(|_| random.next() as u8).collect()
}
