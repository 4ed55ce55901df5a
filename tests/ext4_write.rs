//! Writing ext4: scripts of operations run on the driver and on the model must give the same tree, as our reader,
//! debugfs and ext4-view read it, on images of every make that is written; and e2fsck finds nothing.

mod oracle;

use std::sync::Arc;

use imgsh::base::{GuestPathBuf, Kind, Result, Timestamp, Uuid};
use imgsh::disk::BlockDevice;
use imgsh::fs::model::Model;
use imgsh::fs::{self, Edit, FileSystem, MakeOptions, NewKind, NewNode, NodeId, SetAttributes};
use oracle::tree::{Tree, assert_same, judge, judge_by_ext4_view, through_trait};
use oracle::{Random, Sparse, Staged, assert_clean, run, scratch};

const MIB: u64 = 1 << 20;

/// A file system with paths instead of nodes. Every operation has its own moment.
struct Guest<'a> {
    fs: &'a mut dyn FileSystem,
    now: Timestamp,
}

impl<'a> Guest<'a> {
    fn new(fs: &'a mut dyn FileSystem) -> Self {
        let mut guest = Guest { fs, now: Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 } };
        // The root's access time is the one thing that no operation sets.
        let set = SetAttributes { accessed: Some(guest.now), modified: Some(guest.now), ..Default::default() };
        guest.set("", set);
        guest
    }

    fn node(&self, path: &str) -> NodeId {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.fold(self.fs.root(), |dir, name| {
            let found = self.fs.lookup(dir, name.as_bytes()).unwrap();
            found.unwrap_or_else(|| panic!("{path}: {name} is not there"))
        })
    }

    fn split<'p>(&self, path: &'p str) -> (NodeId, &'p [u8]) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(dir), name.as_bytes())
    }

    fn edit(&mut self) -> &mut dyn Edit {
        self.now.seconds += 1;
        self.now.nanos = (self.now.nanos + 77_777_777) % 1_000_000_000;
        self.fs.edit(self.now).unwrap()
    }

    fn make(&mut self, path: &str, kind: NewKind, mode: u32) -> NodeId {
        let (dir, name) = self.split(path);
        let new = NewNode { kind, mode, uid: 0, gid: 0 };
        self.edit().create(dir, name, &new).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn dir(&mut self, path: &str) {
        self.make(path, NewKind::Directory, 0o755);
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        let node = self.make(path, NewKind::Regular, 0o644);
        self.edit().fill(node, content.len() as u64, &mut &*content, false).unwrap();
    }

    fn write(&mut self, path: &str, offset: u64, data: &[u8]) {
        let node = self.node(path);
        self.edit().write(node, offset, data).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn resize(&mut self, path: &str, size: u64) {
        let node = self.node(path);
        self.edit().resize(node, size).unwrap();
    }

    fn set(&mut self, path: &str, set: SetAttributes) {
        let node = self.node(path);
        self.edit().set_attributes(node, &set).unwrap();
    }

    fn xattr(&mut self, path: &str, name: &str, value: Option<&[u8]>) {
        let node = self.node(path);
        self.edit().set_xattr(node, name.as_bytes(), value).unwrap_or_else(|error| panic!("{path}: {name}: {error}"));
    }

    fn link(&mut self, of: &str, path: &str) {
        let (node, (dir, name)) = (self.node(of), self.split(path));
        self.edit().link(node, dir, name).unwrap();
    }

    fn remove(&mut self, path: &str) {
        let (dir, name) = self.split(path);
        self.edit().unlink(dir, name).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn remove_dir(&mut self, path: &str) {
        let (dir, name) = self.split(path);
        self.edit().rmdir(dir, name).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn rename(&mut self, from: &str, to: &str) {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.split(from), self.split(to));
        let done = self.edit().rename(from_dir, from_name, to_dir, to_name);
        done.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    }

    fn sync(&mut self) {
        self.edit().sync().unwrap();
    }
}

type Script<'a> = &'a dyn Fn(&mut Guest<'_>);

/// The tree that a script makes on an empty file system.
fn wanted(script: Script<'_>) -> Tree {
    let mut model = Model::new();
    // A new ext4 has lost+found; it counts among the root's links and is not in trees.
    let new = NewNode { kind: NewKind::Directory, mode: 0o700, uid: 0, gid: 0 };
    let root = model.root();
    model.edit(Timestamp::default()).unwrap().create(root, b"lost+found", &new).unwrap();
    script(&mut Guest::new(model.as_mut()));
    through_trait(model.as_ref())
}

/// Runs a script on an image with an empty file system and has the result judged.
fn check(device: &Arc<Sparse>, script: Script<'_>, what: &str) {
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
    if !what.contains("filetype") {
        // ext4-view wants types in directories.
        judge_by_ext4_view(&image, &wanted);
    }
}

/// An empty file system of ours.
fn made(size: u64, block_size: u32, features: &str) -> Arc<Sparse> {
    let uuid = Uuid(*b"sixteen bytes...");
    let options = MakeOptions {
        fs_type: "ext4".to_string(),
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
fn mke2fs(options: &[&str], size: &str, commands: &[&str]) -> Arc<Sparse> {
    let dir = scratch();
    let image = dir.path().join("image");
    let file = image.to_str().unwrap();
    run("mke2fs", &[&["-q", "-F"], options, &[file, size]].concat());
    for command in commands {
        run("debugfs", &["-w", "-R", command, file]);
    }
    Sparse::load(&image)
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    (0..len).map(|_| random.next() as u8).collect()
}

/// Content in all its forms.
fn content(guest: &mut Guest<'_>) {
    guest.dir("files");
    for len in [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 100_000, 1_000_001] {
        guest.file(&format!("files/len-{len}"), &noise(len, len as u64));
    }
    guest.make("files/written", NewKind::Regular, 0o600);
    for (offset, len) in [(0, 10), (5, 10), (4090, 20), (100_000, 5000), (60_000, 1), (99_999, 2), (8192, 4096)] {
        guest.write("files/written", offset, &noise(len, offset));
    }
    // Every second block of 1024, first upwards, then the gaps between downwards.
    guest.make("files/comb", NewKind::Regular, 0o600);
    for i in (0..200).step_by(2) {
        guest.write("files/comb", i * 4096, &noise(1500, i));
    }
    for i in (1_u32..200).step_by(2).rev().step_by(3).map(u64::from) {
        guest.write("files/comb", i * 4096 + 7, &noise(100, i));
    }
    guest.make("files/far", NewKind::Regular, 0o600);
    guest.write("files/far", 30_000_000, b"far away");
    guest.make("files/hole", NewKind::Regular, 0o600);
    guest.resize("files/hole", 1_234_567);
    // What a smaller size cuts off must not come back.
    guest.file("files/cut", &noise(50_000, 1));
    guest.resize("files/cut", 20_001);
    guest.resize("files/cut", 60_000);
    guest.write("files/cut", 70_000, b"end");
    guest.file("files/emptied", &noise(300_000, 2));
    guest.resize("files/emptied", 0);
    guest.file("files/refilled", &noise(300_000, 3));
    let node = guest.node("files/refilled");
    guest.edit().fill(node, 5000, &mut noise(5000, 4).as_slice(), true).unwrap();
    let zeros = [noise(5000, 5), vec![0; 200_000], noise(5000, 6)].concat();
    guest.make("files/zeros", NewKind::Regular, 0o644);
    let node = guest.node("files/zeros");
    guest.edit().fill(node, zeros.len() as u64, &mut zeros.as_slice(), true).unwrap();
    guest.sync();
    guest.resize("files/comb", 300_001);
    guest.file("files/late", &noise(70_000, 8));
    guest.remove("files/len-1000001");
    guest.file("files/again", &noise(1_000_001, 9));
}

/// A target of so many bytes, in names of 99.
fn target(len: usize) -> GuestPathBuf {
    GuestPathBuf((0..len).map(|i| if i % 100 == 99 { b'/' } else { b't' }).collect())
}

/// Names: links, renames, removal.
fn names(guest: &mut Guest<'_>) {
    guest.dir("names");
    guest.file("names/a", b"a");
    guest.link("names/a", "names/b");
    guest.link("names/a", "c");
    guest.remove("names/a");
    guest.file("names/victim", b"victim");
    guest.link("names/victim", "names/other victim");
    guest.rename("names/b", "names/victim");
    guest.rename("c", "c");
    guest.rename("c", "names/victim");
    guest.file("names/one", b"1");
    guest.file("names/two", b"2");
    guest.rename("names/one", "names/two");
    guest.rename("names/two", "moved");
    for path in ["x", "x/y", "x/y/z", "empty", "target", "names/sub"] {
        guest.dir(path);
    }
    guest.file("x/y/z/file", b"deep");
    guest.rename("x/y", "y");
    guest.rename("y", "names/sub/y");
    guest.rename("empty", "target");
    guest.rename("names/sub", "target");
    guest.rename("target", "x/target");
    guest.dir("gone");
    guest.dir("gone/below");
    guest.remove_dir("gone/below");
    guest.remove_dir("gone");
    guest.file(&"n".repeat(255), b"long");
    let root = guest.node("");
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    for name in
        [b"\xff\xfe bytes \x80".as_slice(), "ÄÖÜ ßñ 日本語".as_bytes(), b"\\back\"quote'", b" blank ", b"-", b"..."]
    {
        guest.edit().create(root, name, &new).unwrap();
    }
    let mut path = "deep".to_string();
    guest.dir(&path);
    for level in 0..64 {
        path = format!("{path}/{level}");
        guest.dir(&path);
    }
    guest.file(&format!("{path}/bottom"), b"64 below");
    for len in [1, 59, 60, 61, 1023] {
        guest.make(&format!("names/link-{len}"), NewKind::Symlink(target(len)), 0o777);
    }
    guest.make("names/dead", NewKind::Symlink("no/such/place".into()), 0o777);
    guest.remove("names/link-1023");
    guest.remove("names/link-59");
    guest.make("names/again", NewKind::Symlink(target(500)), 0o777);
}

/// Special files and attributes; `large` says that inodes have room for times beyond 2038.
fn attributes(guest: &mut Guest<'_>, large: bool) {
    guest.dir("dev");
    let devices = [(0, 0), (8, 1), (255, 255), (259, 0), (4, 70_000), (4095, 1_048_575)];
    for (major, minor) in devices {
        guest.make(&format!("dev/c{major}-{minor}"), NewKind::CharDevice(major, minor), 0o666);
        guest.make(&format!("dev/b{major}-{minor}"), NewKind::BlockDevice(major, minor), 0o660);
    }
    guest.make("dev/fifo", NewKind::Fifo, 0o600);
    guest.make("dev/socket", NewKind::Socket, 0o755);
    guest.file("attributes", b"x");
    for mode in [0, 0o7777, 0o4711] {
        guest.set("attributes", SetAttributes { mode: Some(mode), ..Default::default() });
    }
    guest.set("attributes", SetAttributes { uid: Some(70_000), gid: Some(4_000_000_000), ..Default::default() });
    let mut times = vec![(-1, 0), (-2_147_483_648, 1), (2_147_483_647, 999_999_999)];
    if large {
        times.extend([(2_147_483_648, 5), (4_481_000_000, 123_456_789), (15_032_385_535, 0)]);
    }
    for (i, (seconds, nanos)) in times.into_iter().enumerate() {
        let path = format!("time-{i}");
        guest.file(&path, b"");
        let time = Timestamp { seconds, nanos: if large { nanos } else { 0 } };
        guest.set(&path, SetAttributes { accessed: Some(time), modified: Some(time), ..Default::default() });
    }
}

/// Extended attributes in the inode, in a block, growing, shrinking, of directories and links.
fn xattrs(guest: &mut Guest<'_>) {
    guest.dir("xattrs");
    guest.make("xattrs/link", NewKind::Symlink("target".into()), 0o777);
    for path in ["xattrs/small", "xattrs/large", "xattrs/many", "xattrs/acl", "xattrs/gone"] {
        guest.file(path, path.as_bytes());
    }
    guest.xattr("xattrs/small", "user.name", Some(b"value"));
    guest.xattr("xattrs/small", "user.empty", Some(b""));
    guest.xattr("xattrs/small", "security.capability", Some(b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    guest.xattr("xattrs/link", "security.selinux", Some(b"system_u:object_r:etc_t:s0\0"));
    guest.xattr("xattrs", "security.selinux", Some(b"system_u:object_r:usr_t:s0\0"));
    guest.xattr("xattrs/large", "user.large", Some(&noise(700, 1)));
    guest.xattr("xattrs/large", "user.small", Some(b"moves about"));
    guest.xattr("xattrs/large", "user.large", Some(&noise(600, 2)));
    guest.xattr("xattrs/large", "user.small", Some(b"grows"));
    guest.xattr("xattrs/large", "trusted.t", Some(&noise(33, 3)));
    for i in (0..20).rev() {
        guest.xattr("xattrs/many", &format!("user.{}{i}", "n".repeat(i)), Some(&noise(i, 4)));
    }
    for i in (0..20).step_by(3) {
        guest.xattr("xattrs/many", &format!("user.{}{i}", "n".repeat(i)), None);
    }
    guest.xattr("xattrs/gone", "user.large", Some(&noise(500, 5)));
    guest.xattr("xattrs/gone", "user.large", None);
    guest.file("xattrs/removed", b"");
    guest.xattr("xattrs/removed", "user.large", Some(&noise(800, 6)));
    guest.remove("xattrs/removed");
    // Version 2; user rw-, user 1000 r--, group r--, mask r--, other ---.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1_u16, 6_u16, !0), (2, 4, 1000_u32), (4, 4, !0), (0x10, 4, !0), (0x20, 0, !0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    guest.set("xattrs/acl", SetAttributes { mode: Some(0o640), ..Default::default() });
    guest.xattr("xattrs/acl", "system.posix_acl_access", Some(&acl));
    guest.xattr("xattrs", "system.posix_acl_default", Some(&acl));
}

fn everything(guest: &mut Guest<'_>) {
    content(guest);
    names(guest);
    attributes(guest, true);
    xattrs(guest);
}

#[test]
fn everything_on_file_systems_of_ours() {
    check(&made(64 * MIB, 4096, ""), &everything, "4096");
    check(&made(64 * MIB, 1024, "metadata_csum_seed,orphan_file"), &everything, "1024");
}

#[test]
fn everything_on_file_systems_of_mke2fs() {
    let ext4 = ["-t", "ext4"];
    let kinds: &[&[&str]] = &[
        &[],
        &["-b", "4096"],
        &["-b", "2048", "-I", "512"],
        &["-O", "metadata_csum_seed,orphan_file", "-b", "4096"],
        &["-O", "^metadata_csum"],
        &["-O", "^metadata_csum,uninit_bg"],
        &["-O", "^has_journal"],
        &["-O", "^64bit"],
        &["-O", "^flex_bg", "-b", "1024"],
        &["-O", "^resize_inode,^dir_index"],
        &["-O", "sparse_super2"],
        &["-g", "4096", "-N", "1000"],
        &["-E", "lazy_itable_init=1"],
        &["-O", "^huge_file,^dir_nlink,^extra_isize"],
        &["-O", "^filetype"],
    ];
    for kind in kinds {
        check(&mke2fs(&[&ext4, *kind].concat(), "64M", &[]), &everything, &format!("{kind:?}"));
    }
}

/// Inodes of 128 bytes hold no nanoseconds and no times after 2038; they are refused, or right.
#[test]
fn small_inodes() {
    let device = mke2fs(&["-t", "ext4", "-I", "128"], "64M", &[]);
    let before = device.bytes();
    let mut fs = fs::open(device.device()).unwrap();
    if fs.edit(Timestamp::default()).is_err() {
        assert!(device.bytes() == before);
        return;
    }
    let script = |guest: &mut Guest<'_>| {
        names(guest);
        attributes(guest, false);
        xattrs(guest);
    };
    let whole = |tree: Tree| -> Tree {
        let cut = |time: &Timestamp| Timestamp::from_seconds(time.seconds);
        let entry = |(path, mut entry): (Vec<u8>, oracle::tree::Entry)| {
            entry.times = [0, 1, 2].map(|i| cut(&entry.times[i]));
            (path, entry)
        };
        tree.into_iter().map(entry).collect()
    };
    let mut guest = Guest::new(fs.as_mut());
    script(&mut guest);
    guest.sync();
    let dir = scratch();
    device.save(&dir.path().join("image"));
    judge(&dir.path().join("image"), &whole(wanted(&script)), "128-byte inodes");
}

/// Thousands of names in small blocks: an index of two levels, removal, and names in the room that became free.
#[test]
fn many_names() {
    let script = |guest: &mut Guest<'_>| {
        guest.dir("many");
        let dir = guest.node("many");
        let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
        let name = |i: u32| format!("{}-{i}", "name".repeat(i as usize % 12)).into_bytes();
        for i in 0..5000 {
            guest.edit().create(dir, &name(i), &new).unwrap();
        }
        for i in (0..5000).step_by(3) {
            guest.edit().unlink(dir, &name(i)).unwrap();
        }
        guest.sync();
        for i in 5000..6000 {
            guest.edit().create(dir, &name(i), &new).unwrap();
        }
        for i in (1..5000).step_by(30) {
            guest.edit().rename(dir, &name(i), dir, &[b"renamed-".as_slice(), &name(i)].concat()).unwrap();
        }
        guest.dir("many/sub");
        guest.rename("many", "elsewhere");
        guest.dir("new home");
        guest.rename("elsewhere", "new home/many");
        guest.dir("emptied");
        for i in 0..400 {
            guest.make(&format!("emptied/directory number {i}"), NewKind::Directory, 0o755);
        }
        for i in 0..400 {
            guest.remove_dir(&format!("emptied/directory number {i}"));
        }
        guest.file("emptied/again", b"");
    };
    check(&mke2fs(&["-t", "ext4", "-b", "1024", "-N", "10000"], "64M", &[]), &script, "many names");
    check(&made(64 * MIB, 4096, "^metadata_csum"), &script, "many names in 4096");
    check(&made(64 * MIB, 1024, "^dir_index"), &script, "many names without an index");
}

/// Fills a file system, takes a third away, and fills it again. What fails leaves all as it was.
#[test]
fn full() {
    for (block_size, features) in [(1024, "^has_journal"), (4096, ""), (1024, "^metadata_csum,uninit_bg")] {
        let what = format!("{block_size} {features}");
        let device = made(12 * MIB, block_size, features);
        let mut fs = fs::open(device.device()).unwrap();
        let now = Timestamp::from_seconds(1_700_000_001);
        let new = |kind| NewNode { kind, mode: 0o644, uid: 0, gid: 0 };
        let root = fs.root();
        let mut count = 0;
        let mut fill = |fs: &mut dyn FileSystem| {
            // Files of falling size, then small ones, then long links, until even an empty file is too much.
            let mut kinds = vec![900_000, 60_000, 5000, 1, 0];
            let mut failed = 0;
            while let Some(len) = kinds.first().copied() {
                let (before, snapshot, info) = (through_trait(fs), device.snapshot(), fs.info().unwrap());
                count += 1;
                assert!(count < 5000, "{what}: never full");
                let name = format!("{}{count}", "n".repeat(count % 200));
                let result = (|| -> Result<()> {
                    let edit = fs.edit(now)?;
                    if len == 0 {
                        edit.create(root, name.as_bytes(), &new(NewKind::Symlink(GuestPathBuf(vec![b'x'; 900]))))?;
                    } else {
                        let node = edit.create(root, name.as_bytes(), &new(NewKind::Regular))?;
                        edit.write(node, 0, &noise(len, count as u64))?;
                    }
                    edit.sync()
                })();
                if let Err(error) = result {
                    assert_eq!(error.kind(), Kind::NoSpace, "{what}: {error}");
                    device.restore(snapshot);
                    fs.reload().unwrap();
                    assert_eq!(fs.info().unwrap(), info, "{what}");
                    assert_same(&through_trait(fs), &before, &what);
                    kinds.remove(0);
                    failed += 1;
                }
            }
            assert_eq!(failed, 5);
        };
        let end = |fs: &dyn FileSystem, what: &str| {
            let dir = scratch();
            let image = dir.path().join("image");
            device.save(&image);
            judge(&image, &through_trait(fs), what);
            let info = fs.info().unwrap();
            let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
            let number = |label: &str| -> u64 {
                let line = text.lines().find(|line| line.starts_with(label)).unwrap();
                line.rsplit(' ').next().unwrap().parse().unwrap()
            };
            assert_eq!(info.free_blocks, number("Free blocks:"), "{what}");
            assert_eq!(info.free_inodes, number("Free inodes:"), "{what}");
            info.free_blocks
        };
        fill(fs.as_mut());
        let free = end(fs.as_ref(), &format!("{what}, full"));
        assert!(free * u64::from(block_size) < 60_000, "{what}: {free} blocks are left");
        let names: Vec<_> = fs.read_dir(root).unwrap().into_iter().map(|entry| entry.name).collect();
        let edit = fs.edit(now).unwrap();
        for name in names.iter().filter(|name| ***name != *b"lost+found").step_by(3) {
            edit.unlink(root, name).unwrap();
        }
        edit.sync().unwrap();
        fs.committed();
        assert!(end(fs.as_ref(), &format!("{what}, a third less")) > free);
        fill(fs.as_mut());
        end(fs.as_ref(), &format!("{what}, full again"));
    }
}

/// All inodes taken.
#[test]
fn no_inode_left() {
    let device = mke2fs(&["-t", "ext4", "-N", "64"], "16M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let root = fs.root();
    let free = fs.info().unwrap().free_inodes;
    let edit = fs.edit(Timestamp::from_seconds(1)).unwrap();
    let new = NewNode { kind: NewKind::Directory, mode: 0o755, uid: 0, gid: 0 };
    for i in 0..free {
        edit.create(root, format!("{i}").as_bytes(), &new).unwrap();
    }
    edit.sync().unwrap();
    let before = device.snapshot();
    let error = fs.edit(Timestamp::from_seconds(2)).unwrap().create(root, b"one more", &new).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    device.restore(before);
    fs.reload().unwrap();
    let dir = scratch();
    device.save(&dir.path().join("image"));
    judge(&dir.path().join("image"), &through_trait(fs.as_ref()), "all inodes taken");
}

/// A stage that is thrown away leaves the committed state as it was, whatever was written fresh; and what was
/// freed is used again only after a commit.
#[test]
fn abandoned_edits() {
    for (block_size, features) in [(1024, ""), (4096, "^has_journal")] {
        let base = made(32 * MIB, block_size, features);
        let staged = Staged::new(base.clone());
        let mut fs = fs::open(staged.clone()).unwrap();
        let mut guest = Guest::new(fs.as_mut());
        everything(&mut guest);
        guest.sync();
        staged.commit();
        fs.committed();
        let dir = scratch();
        let image = dir.path().join("image");
        let kept = wanted(&everything);
        base.save(&image);
        judge(&image, &kept, "the commit");
        for round in 0..3 {
            let mut guest = Guest { fs: fs.as_mut(), now: Timestamp::from_seconds(1_800_000_000) };
            for path in ["files/comb", "files/len-100000", "xattrs/large", "names/link-1", "files/again"] {
                guest.remove(path);
            }
            guest.write("files/len-4096", 100, &noise(9000, round));
            guest.write("files/written", 0, &noise(5000, round));
            guest.resize("files/zeros", 10);
            guest.sync();
            for i in 0..20 {
                guest.file(&format!("new-{i}"), &noise(200_000, i + round));
            }
            guest.remove("new-3");
            guest.file("new-3", &noise(150_000, 77));
            guest.xattr("files", "user.x", Some(&noise(500, round)));
            guest.sync();
            let edited = through_trait(fs.as_ref());
            if round < 2 {
                staged.abandon();
                fs.reload().unwrap();
                base.save(&image);
                judge(&image, &kept, &format!("round {round}, abandoned"));
                assert_same(&through_trait(fs.as_ref()), &kept, "reloaded");
            } else {
                staged.commit();
                base.save(&image);
                judge(&image, &edited, "committed at last");
            }
        }
    }
}

/// What must be cleaned up by somebody else first is not written, and says why.
#[test]
fn pending_work_is_refused() {
    let plain = ["-t", "ext4", "-b", "1024"];
    let kinds: &[(&[&str], &[&str], &str)] = &[
        (&[], &["feature needs_recovery"], "replay"),
        (&[], &["ssv last_orphan 12"], "orphan"),
        (&[], &["ssv state 2"], "error"),
        (&["-O", "orphan_file"], &["feature orphan_present"], "orphan"),
        (&["-O", "mmp"], &[], "mmp"),
        (&["-O", "bigalloc"], &[], "bigalloc"),
        (&["-O", "inline_data"], &[], "inline_data"),
        (&["-O", "meta_bg,^resize_inode"], &[], "meta_bg"),
        (&["-O", "quota"], &[], "quota"),
        (&["-O", "encrypt"], &[], "encrypt"),
        (&["-O", "casefold"], &[], "casefold"),
        (&["-O", "ea_inode"], &[], "ea_inode"),
        (&["-O", "large_dir"], &[], "large_dir"),
    ];
    for (options, commands, word) in kinds {
        let device = mke2fs(&[&plain, *options].concat(), "16M", commands);
        let before = device.bytes();
        let mut fs = fs::open(device.device()).unwrap_or_else(|error| panic!("{word}: {error}"));
        let said = fs.info().unwrap().read_only.unwrap_or_else(|| panic!("{word} is written"));
        let error = fs.edit(Timestamp::default()).err().unwrap().to_string();
        assert!(said.contains(word) && error.contains(word), "{word}: {said}; {error}");
        assert!(device.bytes() == before, "{word}: the image was touched");
    }
}

/// A journal whose superblock says that there is something in it, though the flag is off.
#[test]
fn a_journal_in_use_is_refused() {
    let device = mke2fs(&["-t", "ext4", "-b", "1024"], "16M", &[]);
    let magic = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4];
    let bytes = device.bytes();
    let journal = (0..bytes.len()).step_by(1024).find(|at| bytes[*at..].starts_with(&magic)).unwrap();
    device.write_at(journal as u64 + 0x1c, &[0, 0, 0, 9]).unwrap();
    let mut fs = fs::open(device.device()).unwrap();
    let error = fs.edit(Timestamp::default()).err().unwrap();
    assert!(error.to_string().contains("replay"), "{error}");
}

/// Tables that were never zeroed hold garbage until an inode is used (lazy_itable_init).
#[test]
fn lazy_tables_hold_garbage() {
    let dir = scratch();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![0xa5; 64 << 20]).unwrap();
    let file = image.to_str().unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024", "-E", "lazy_itable_init=1,nodiscard", file]);
    assert_clean(&image, "mke2fs");
    check(&Sparse::load(&image), &everything, "garbage in the tables");
}
