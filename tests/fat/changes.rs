//! What editing does to names, directories, sizes and attributes.

use imgsh::base::{Kind, Timestamp};
use imgsh::fs::{FileSystem, FileType, NewKind, NewNode, NodeId, SetAttributes};

use crate::tools::*;

fn names(fs: &dyn FileSystem, dir: NodeId) -> Vec<String> {
    let mut names: Vec<String> = fs.read_dir(dir).unwrap().iter().map(|e| e.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn many_files_half_of_them_deleted_and_their_slots_used_again() {
    for (kib, arguments) in [(16384, vec!["-F", "16", "-s", "1"]), (70_000, vec!["-F", "32", "-s", "1"])] {
        let scratch = Scratch::mkfs(kib, &arguments);
        let mut fs = scratch.open();
        let root = fs.root();
        let dir = fs.edit(NOW).unwrap().create(root, b"many", &folder()).unwrap();
        for i in 0..300 {
            put(fs.as_mut(), dir, &format!("file number {i:03} with a long name.txt"), &pattern(i * 11, i as u8));
        }
        fs.edit(NOW).unwrap().sync().unwrap();
        scratch.check();
        let size = fs.metadata(dir).unwrap().size;
        let free = fs.info().unwrap().free_blocks;
        for i in (0..300).step_by(2) {
            fs.edit(NOW).unwrap().unlink(dir, format!("FILE number {i:03} with a long name.txt").as_bytes()).unwrap();
        }
        assert!(fs.info().unwrap().free_blocks > free);
        fs.edit(NOW).unwrap().sync().unwrap();
        scratch.check();
        for i in (0..300).step_by(2) {
            put(fs.as_mut(), dir, &format!("again number {i:03} as long as it.txt"), &pattern(i * 11, i as u8));
        }
        assert_eq!(fs.metadata(dir).unwrap().size, size, "freed slots are used again");
        assert_eq!(fs.info().unwrap().free_blocks, free);
        fs.edit(NOW).unwrap().sync().unwrap();
        scratch.check();
        let fs = scratch.open();
        let dir = fs.lookup(root, b"many").unwrap().unwrap();
        assert_eq!(fs.read_dir(dir).unwrap().len(), 300);
        assert_eq!(scratch.mtype("many/again number 298 as long as it.txt"), pattern(298 * 11, 298u32 as u8));
        assert_eq!(scratch.mtype("many/file number 299 with a long name.txt"), pattern(299 * 11, 299u32 as u8));
        // What FSInfo and the table say is what another implementation counts.
        let other = scratch.fatfs();
        assert_eq!(u64::from(other.stats().unwrap().free_clusters()), free);
        assert_eq!(other.root_dir().open_dir("many").unwrap().iter().count(), 302);
    }
}

#[test]
fn thirty_directories_deep() {
    let scratch = Scratch::mkfs(70_000, &["-F", "32", "-s", "1"]);
    let mut fs = scratch.open();
    let root = fs.root();
    let mut dir = root;
    for i in 0..30 {
        dir = fs.edit(NOW).unwrap().create(dir, format!("level {i}").as_bytes(), &folder()).unwrap();
    }
    put(fs.as_mut(), dir, "bottom", b"deep");
    // Into its own subtree it cannot go; elsewhere it can, and `..` follows.
    let top = fs.lookup(root, b"level 0").unwrap().unwrap();
    let failed = fs.edit(NOW).unwrap().rename(root, b"level 0", dir, b"inside").unwrap_err();
    assert_eq!(failed.kind(), Kind::Invalid);
    fs.edit(NOW).unwrap().rename(top, b"level 1", root, b"moved").unwrap();
    let other = fs.edit(NOW).unwrap().create(root, b"other", &folder()).unwrap();
    let moved = fs.lookup(root, b"moved").unwrap().unwrap();
    fs.edit(NOW).unwrap().rename(moved, b"level 2", other, b"level 2").unwrap();
    fs.edit(NOW).unwrap().sync().unwrap();
    scratch.check();
    let path: String = (3..30).map(|i| format!("level {i}/")).collect();
    assert_eq!(scratch.mtype(&format!("other/level 2/{path}bottom")), b"deep");
}

#[test]
fn renames() {
    let scratch = Scratch::mkfs(16384, &["-F", "16"]);
    let mut fs = scratch.open();
    let root = fs.root();
    put(fs.as_mut(), root, "a", b"one");
    put(fs.as_mut(), root, "Target file", &pattern(9000, 3));
    let edit = fs.edit(NOW).unwrap();
    edit.create(root, b"dir", &folder()).unwrap();
    edit.create(root, b"empty", &folder()).unwrap();
    let full = edit.create(root, b"full", &folder()).unwrap();
    edit.create(full, b"x", &file()).unwrap();
    for (from, to, kind) in [
        (&b"a"[..], &b"dir"[..], Kind::IsADirectory),
        (b"dir", b"a", Kind::NotADirectory),
        (b"dir", b"full", Kind::NotEmpty),
        (b"none", b"b", Kind::NotFound),
        (b"a", b"bad:name", Kind::Invalid),
    ] {
        assert_eq!(fs.edit(NOW).unwrap().rename(root, from, root, to).unwrap_err().kind(), kind);
    }
    let edit = fs.edit(NOW).unwrap();
    edit.rename(root, b"a", root, b"target FILE").unwrap();
    edit.rename(root, b"dir", root, b"empty").unwrap();
    edit.rename(root, b"full", root, b"FULL").unwrap();
    edit.rename(root, b"FULL", root, b"Full").unwrap();
    edit.rename(root, b"Full", root, b"Full").unwrap();
    edit.sync().unwrap();
    assert_eq!(names(fs.as_ref(), root), ["Full", "empty", "target FILE"]);
    scratch.check();
    assert_eq!(scratch.mtype("target FILE"), b"one");
    assert_eq!(names(scratch.open().as_ref(), root), ["Full", "empty", "target FILE"]);
}

#[test]
fn writing_past_the_end_leaves_zeros_and_sizes_are_exact() {
    for (kib, arguments) in kinds() {
        let scratch = Scratch::mkfs(kib, &arguments);
        // Old bytes in the data area must not shine through.
        let mut fs = scratch.open();
        let root = fs.root();
        let dirt = put(fs.as_mut(), root, "dirt", &vec![0xaa; 600_000]);
        fs.edit(NOW).unwrap().sync().unwrap();
        fs.edit(NOW).unwrap().unlink(root, b"dirt").unwrap();
        assert_eq!(fs.metadata(dirt).unwrap_err().kind(), Kind::NotFound);
        let node = fs.edit(NOW).unwrap().create(root, b"sparse", &file()).unwrap();
        let mut want = vec![0; 100_000];
        want[99_000..].copy_from_slice(&pattern(1000, 9));
        let edit = fs.edit(NOW).unwrap();
        edit.write(node, 99_000, &pattern(1000, 9)).unwrap();
        edit.resize(node, 99_500).unwrap();
        edit.resize(node, 140_001).unwrap();
        edit.write(node, 50, b"hello").unwrap();
        edit.write(node, 140_001, b"").unwrap();
        want.truncate(99_500);
        want.resize(140_001, 0);
        want[50..55].copy_from_slice(b"hello");
        edit.sync().unwrap();
        assert!(content(fs.as_ref(), node) == want);
        scratch.check();
        let fs = scratch.open();
        let node = fs.lookup(root, b"SPARSE").unwrap().unwrap();
        assert!(content(fs.as_ref(), node) == want);
        if kib != 40960 {
            assert!(scratch.mtype("sparse") == want);
        }
        let mut fs = fs;
        let edit = fs.edit(NOW).unwrap();
        edit.resize(node, 0).unwrap();
        assert_eq!(edit.resize(node, 1 << 32).unwrap_err().kind(), Kind::FileTooBig);
        assert_eq!(edit.write(node, u32::MAX.into(), b"x").unwrap_err().kind(), Kind::FileTooBig);
        edit.sync().unwrap();
        scratch.check();
        assert_eq!(fs.info().unwrap().free_blocks, fs.info().unwrap().blocks - u64::from(arguments.contains(&"32")));
    }
}

#[test]
fn a_full_volume_takes_the_last_cluster_and_no_more() {
    for (kib, arguments) in kinds() {
        let scratch = Scratch::mkfs(kib, &arguments);
        let mut fs = scratch.open();
        let root = fs.root();
        let info = fs.info().unwrap();
        let all = info.free_blocks * info.block_size;
        let edit = fs.edit(NOW).unwrap();
        let node = edit.create(root, b"big", &file()).unwrap();
        assert_eq!(edit.fill(node, all + 1, &mut std::io::repeat(1), false).unwrap_err().kind(), Kind::NoSpace);
        edit.fill(node, all, &mut std::io::repeat(1), true).unwrap();
        assert_eq!(edit.create(root, b"dir", &folder()).unwrap_err().kind(), Kind::NoSpace);
        let small = edit.create(root, b"small", &file()).unwrap();
        assert_eq!(edit.write(small, 0, b"x").unwrap_err().kind(), Kind::NoSpace);
        edit.resize(node, all - 1).unwrap();
        assert_eq!(edit.write(small, 0, b"x").unwrap_err().kind(), Kind::NoSpace);
        edit.resize(node, all - info.block_size).unwrap();
        edit.write(small, 0, b"x").unwrap();
        edit.sync().unwrap();
        assert_eq!(fs.info().unwrap().free_blocks, 0);
        scratch.check();
    }
}

#[test]
fn the_root_of_fat16_has_its_limit_and_directories_of_fat32_have_theirs() {
    let scratch = Scratch::mkfs(16384, &["-F", "16", "-r", "64"]);
    let mut fs = scratch.open();
    let root = fs.root();
    let edit = fs.edit(NOW).unwrap();
    for i in 0..64 {
        edit.create(root, format!("f{i}").as_bytes(), &file()).unwrap();
    }
    assert_eq!(edit.create(root, b"more", &file()).unwrap_err().kind(), Kind::NoSpace);
    edit.unlink(root, b"f9").unwrap();
    assert_eq!(edit.create(root, b"Long Name", &file()).unwrap_err().kind(), Kind::NoSpace);
    edit.create(root, b"more", &file()).unwrap();
    edit.sync().unwrap();
    scratch.check();

    let scratch = Scratch::mkfs(70_000, &["-F", "32", "-s", "1"]);
    let mut fs = scratch.open();
    let edit = fs.edit(NOW).unwrap();
    let dir = edit.create(root, b"dir", &folder()).unwrap();
    let long = "x".repeat(240);
    let mut made = 0;
    let failed = loop {
        match edit.create(dir, format!("{long}{made}").as_bytes(), &file()) {
            Ok(_) => made += 1,
            Err(failed) => break failed,
        }
    };
    assert_eq!((made, failed.kind()), ((65536 - 2) / 20, Kind::NoSpace));
    edit.sync().unwrap();
    scratch.check();
}

#[test]
fn attributes_as_linux_has_them() {
    let scratch = Scratch::mkfs(1440, &["-F", "12"]);
    let mut fs = scratch.open();
    let root = fs.root();
    let node = put(fs.as_mut(), root, "file", b"x");
    let dir = fs.edit(NOW).unwrap().create(root, b"dir", &folder()).unwrap();
    let made = fs.metadata(node).unwrap();
    assert_eq!((made.file_type, made.mode, made.uid, made.links, made.size), (FileType::Regular, 0o755, 0, 1, 1));
    assert_eq!((made.modified, made.created, made.accessed), (NOW, Some(NOW), Timestamp::from_seconds(1_699_920_000)));
    let linked = fs.metadata(root).unwrap();
    assert_eq!((linked.file_type, linked.links), (FileType::Directory, 3));
    let mode = |mode| SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    let edit = fs.edit(NOW).unwrap();
    for refused in [mode(0o4755), SetAttributes { uid: Some(1), ..SetAttributes::default() }] {
        assert_eq!(edit.set_attributes(node, &refused).unwrap_err().kind(), Kind::Denied);
    }
    // Other modes than 0755 and 0555 are ignored.
    for ignored in [0o644, 0o700, 0o444] {
        edit.set_attributes(node, &mode(ignored)).unwrap();
    }
    edit.set_attributes(dir, &mode(0o555)).unwrap();
    assert_eq!((fs.metadata(node).unwrap().mode, fs.metadata(dir).unwrap().mode), (0o755, 0o755));
    let edit = fs.edit(NOW).unwrap();
    let owner = SetAttributes {
        uid: Some(0),
        gid: Some(0),
        modified: Some(Timestamp::from_seconds(1_000_000_001)),
        ..mode(0o555)
    };
    edit.set_attributes(node, &owner).unwrap();
    for kind in [NewKind::Symlink("/x".into()), NewKind::Fifo, NewKind::CharDevice(1, 3)] {
        let new = NewNode { kind, mode: 0o644, uid: 0, gid: 0 };
        assert_eq!(edit.create(root, b"odd", &new).unwrap_err().kind(), Kind::Denied);
    }
    assert_eq!(edit.link(node, root, b"second").unwrap_err().kind(), Kind::Denied);
    assert_eq!(edit.set_xattr(node, b"user.x", Some(b"y")).unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(edit.unlink(root, b"dir").unwrap_err().kind(), Kind::IsADirectory);
    assert_eq!(edit.rmdir(root, b"file").unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(edit.create(root, b"FILE", &file()).unwrap_err().kind(), Kind::Exists);
    assert_eq!(edit.create(node, b"below", &file()).unwrap_err().kind(), Kind::NotADirectory);
    edit.sync().unwrap();
    scratch.check();
    let set = fs.metadata(node).unwrap();
    assert_eq!((set.mode, set.modified.seconds), (0o555, 1_000_000_000));
    let said = [scratch.tool("mattrib", "file"), scratch.tool("mdir", "file")].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(said.trim_start().starts_with("A    R") && said.contains("2001-09-09   1:46"), "{said}");
}

#[test]
fn a_volume_that_was_not_unmounted_is_read_only() {
    for (arguments, at) in [(["-F", "16"], 0x25), (["-F", "32"], 0x41)] {
        let scratch = Scratch::mkfs(40_000, &arguments);
        let mut bytes = scratch.memory.bytes();
        bytes[at] |= 1;
        let scratch = scratch.with(bytes);
        let mut fs = scratch.open();
        assert!(fs.info().unwrap().read_only.unwrap().contains("dirty"));
        assert_eq!(fs.edit(NOW).err().unwrap().kind(), Kind::ReadOnly);
        assert_eq!(fs.read_dir(fs.root()).unwrap(), []);
    }
}

#[test]
fn a_rollback_and_a_reload_forget() {
    let scratch = Scratch::mkfs(16384, &["-F", "16"]);
    let mut fs = scratch.open();
    let root = fs.root();
    let before = scratch.memory.bytes();
    fs.edit(NOW).unwrap().create(root, b"kept in memory", &folder()).unwrap();
    assert!(before == scratch.memory.bytes(), "changes are kept until sync");
    fs.reload().unwrap();
    assert_eq!(fs.lookup(root, b"kept in memory").unwrap(), None);
    fs.edit(NOW).unwrap().sync().unwrap();
    assert!(before == scratch.memory.bytes());
}
