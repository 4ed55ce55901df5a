//! Writing ext4 with the features that mke2fs does not switch on by itself, and what the flags of an inode forbid.
//! Judged as `ext4_write` is.

mod oracle;

use std::sync::Arc;

use imgsh::base::{Error, Kind, Timestamp};
use imgsh::disk::BlockDevice;
use imgsh::fs::model::Model;
use imgsh::fs::{self, FileSystem, FileType, MakeOptions, NewKind, NewNode, NodeId, SetAttributes, ext4};
use oracle::guest::{Guest, check, mke2fs, noise};
use oracle::kernel::judge_by_kernel;
use oracle::scripts::everything;
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::{Random, Sparse, assert_clean, run, scratch, tool};

#[test]
fn everything_with_rare_features() {
    let kinds: &[&[&str]] = &[
        &["-O", "meta_bg,^resize_inode", "-b", "1024"],
        &["-O", "meta_bg,^resize_inode,^64bit,^flex_bg", "-g", "512", "-b", "1024"],
        &["-O", "large_dir,ea_inode,metadata_csum_seed"],
        &["-O", "inline_data"],
        &["-O", "inline_data", "-I", "1024", "-b", "4096"],
        &["-O", "mmp,sparse_super2,stable_inodes"],
        &["-O", "encrypt,verity,project"],
        &["-O", "casefold"],
        &["-O", "quota", "-b", "1024"],
        &["-O", "quota,project,inline_data", "-E", "quotatype=usrquota:grpquota:prjquota"],
    ];
    for kind in kinds {
        check(&mke2fs(&[&["-t", "ext4"], *kind].concat(), "64M", &[]), &everything, &format!("{kind:?}"));
    }
}

/// The same in file systems that are not mke2fs's but ours.
#[test]
fn everything_in_what_we_made_with_rare_features() {
    let kinds = [
        ("ext4", "meta_bg,^resize_inode", 1024),
        ("ext4", "inline_data,encrypt,verity", 2048),
        ("ext4", "mmp,sparse_super2,quota,project,orphan_file", 1024),
        ("ext3", "quota", 4096),
        ("ext4", "casefold,quota,inline_data", 4096),
        ("ext4", "bigalloc", 4096),
        ("ext4", "bigalloc,quota,^flex_bg,orphan_file", 1024),
    ];
    for (fs_type, features, block_size) in kinds {
        let device = Sparse::new(64 << 20);
        let options = MakeOptions {
            fs_type: fs_type.to_string(),
            features: Some(features.to_string()),
            block_size: Some(block_size),
            ..MakeOptions::default()
        };
        ext4::make(&device.device(), &options).unwrap();
        // ext3 has block lists.
        check(&device, &everything, &format!("{fs_type} {features}{}", if fs_type == "ext3" { ", lists" } else { "" }));
    }
}

#[test]
fn everything_in_clusters() {
    let kinds: &[&[&str]] = &[
        &["-O", "bigalloc", "-b", "4096", "-C", "16384"],
        &["-O", "bigalloc,^has_journal,quota", "-b", "1024", "-C", "16384"],
        &["-O", "bigalloc,inline_data,ea_inode,^flex_bg", "-b", "1024", "-C", "4096"],
        &["-O", "bigalloc,^metadata_csum,uninit_bg", "-b", "2048", "-C", "65536"],
    ];
    for kind in kinds {
        check(&mke2fs(&[&["-t", "ext4"], *kind].concat(), "200M", &[]), &everything, &format!("{kind:?}"));
    }
}

/// What users and groups use stays what e2fsck counts: with hundreds of owners, who share blocks of entries and branches
/// of the tree, come in later runs, change, and lose all they had.
#[test]
fn quotas_of_many_owners() {
    let owner = |i: u32| [i, 0x100 * i, 0x1_0000 * i, 0x100_0001 * (i % 200)][i as usize % 4];
    for options in [&["-O", "quota", "-b", "1024"][..], &["-O", "quota,project", "-E", "quotatype=prjquota:usrquota"]] {
        let device = mke2fs(&[&["-t", "ext4", "-N", "2000"], options].concat(), "64M", &[]);
        let dir = scratch();
        let image = dir.path().join("image");
        let mut random = Random(5);
        for round in 0..4 {
            let mut fs = fs::open(device.device()).unwrap();
            let mut guest = Guest::new(fs.as_mut());
            for i in round * 100..round * 100 + 150 {
                let path = format!("file-{round}-{i}");
                guest.file(&path, &noise(random.below(9000) as usize, i.into()));
                guest.set(&path, SetAttributes { uid: Some(owner(i)), gid: Some(owner(i + 1)), ..Default::default() });
                if i % 7 == 0 {
                    guest.sync();
                }
                if i % 3 == 0 {
                    guest.remove(&path);
                }
            }
            guest.sync();
            device.save(&image);
            assert_clean(&image, &format!("round {round} of {options:?}"));
        }
    }
}

/// A quota file that is not understood forbids writing; one that contradicts the inodes fails the change.
#[test]
fn quota_files_that_are_damaged() {
    let made = mke2fs(&["-t", "ext4", "-b", "1024", "-O", "quota"], "16M", &[]);
    let bytes = made.bytes();
    let magic = [0x11, 0x1f, 0xc0, 0xd9, 1, 0, 0, 0];
    let at = (0..bytes.len()).step_by(1024).find(|at| bytes[*at..].starts_with(&magic)).unwrap();
    let with = |place: usize, value: u8| {
        let device = Sparse::from_bytes(&bytes);
        device.write_at((at + place) as u64, &[value]).unwrap();
        device
    };
    let (_, wrong) = (with(0, 0x11), with(4, 7));
    let mut fs = fs::open(wrong.device()).unwrap();
    assert!(fs.info().unwrap().read_only.unwrap().contains("user quota file has magic 0xd9c01f11 and version 7"));
    assert_eq!(fs.edit(Timestamp::default()).err().unwrap().kind(), Kind::Unsupported);
    // Every byte of the head and the tree's branch of id 0, every value of some: an error or a result.
    let mut random = Random(9);
    let mut failed = 0;
    for _ in 0..400 {
        let device = with(8 + random.below(6 * 1024 - 8) as usize, random.next() as u8);
        let Ok(mut fs) = fs::open(device.device()) else { continue };
        let root = fs.root();
        let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: random.below(3) as u32, gid: 0 };
        let Ok(edit) = fs.edit(Timestamp::default()) else { continue };
        failed += u32::from(edit.create(root, b"probe", &new).and_then(|_| edit.sync()).is_err());
    }
    assert!(failed > 0, "none of 400 damages was found");
}

/// Free counts, which bigalloc keeps in clusters by group and in blocks in all, are those that dumpe2fs finds.
#[test]
fn free_space_in_clusters() {
    let device = mke2fs(&["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "8192"], "64M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let before = fs.info().unwrap().free_blocks;
    let mut guest = Guest::new(fs.as_mut());
    guest.file("one byte", b"1");
    guest.file("nine blocks", &noise(9 * 1024, 1));
    guest.sync();
    let after = fs.info().unwrap().free_blocks;
    assert_eq!(before - after, 3 * 8);
    let dir = scratch();
    let image = dir.path().join("image");
    device.save(&image);
    assert_clean(&image, "clusters");
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    assert!(text.contains(&format!("Free blocks:              {after}\n")), "{after}: {text}");
}

/// Attribute values of all sizes on a file system that gives large ones an inode.
#[test]
fn large_attribute_values() {
    let script = |guest: &mut Guest<'_>| {
        for name in ["file", "removed", "emptied"] {
            guest.file(name, b"x");
            for (i, len) in [10, 900, 1100, 5000, 20_000, 65_536].into_iter().enumerate() {
                guest.xattr(name, &format!("user.value-{i}"), Some(&noise(len, i as u64)));
            }
        }
        guest.dir("dir");
        guest.xattr("dir", "trusted.large", Some(&noise(30_000, 9)));
        guest.xattr("file", "user.value-5", Some(&noise(60_000, 10)));
        guest.xattr("file", "user.value-4", Some(b"small now"));
        guest.xattr("file", "user.value-3", None);
        guest.xattr("file", "user.value-0", Some(&noise(2000, 11)));
        guest.remove("removed");
        for i in 0..6 {
            guest.xattr("emptied", &format!("user.value-{i}"), None);
        }
        for (name, uid) in [("dir", 7), ("file", 8), ("file", 70_000)] {
            guest.set(name, SetAttributes { uid: Some(uid), gid: Some(uid + 1), ..Default::default() });
            guest.xattr(name, "user.owned", Some(&noise(5000, uid.into())));
        }
    };
    let quota = &["-b", "1024", "-O", "quota,project"][..];
    for kind in [&["-b", "1024"][..], &["-b", "4096"], &["-b", "4096", "-I", "128"], quota] {
        let device = mke2fs(&[&["-t", "ext4", "-O", "ea_inode"], kind].concat(), "32M", &[]);
        let mut fs = fs::open(device.device()).unwrap();
        let free = fs.info().unwrap();
        let mut guest = Guest::new(fs.as_mut());
        script(&mut guest);
        guest.sync();
        let dir = scratch();
        let image = dir.path().join("image");
        device.save(&image);
        judge(&image, &through_trait(fs.as_ref()), &format!("ea_inode {kind:?}"));
        let mut guest = Guest::new(fs.as_mut());
        for name in ["file", "emptied"] {
            guest.remove(name);
        }
        guest.remove_dir("dir");
        guest.sync();
        let now = fs.info().unwrap();
        // The quota files keep the blocks in which the owners were booked.
        let blocks = if kind == quota { now.free_blocks } else { free.free_blocks };
        assert_eq!((now.free_inodes, now.free_blocks), (free.free_inodes, blocks), "{kind:?}");
        device.save(&image);
        assert_clean(&image, "all removed");
    }
    // Without the feature a value that fits nowhere is refused, and nothing is half done.
    let device = mke2fs(&["-t", "ext4", "-b", "1024"], "32M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let mut guest = Guest::new(fs.as_mut());
    guest.file("file", b"x");
    let node = guest.node("file");
    let error = guest.edit().set_xattr(node, b"user.large", Some(&noise(5000, 1))).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
}

/// A tree on the host of small files and small directories.
fn small_things(dir: &std::path::Path) {
    for len in [0, 1, 59, 60, 61, 100, 150, 157, 200, 900] {
        std::fs::write(dir.join(format!("file-{len}")), noise(len, len as u64)).unwrap();
    }
    for names in [0, 1, 3, 6, 12] {
        let dir = dir.join(format!("dir-{names}"));
        std::fs::create_dir(&dir).unwrap();
        for i in 0..names {
            std::fs::write(dir.join(format!("n{i}")), b"x").unwrap();
        }
    }
    std::fs::create_dir(dir.join("dir-1/below")).unwrap();
}

/// A model with the nodes of a tree; times differ.
fn model_of(tree: &Tree) -> Box<dyn FileSystem> {
    let mut model: Box<dyn FileSystem> = Model::new();
    let root = model.root();
    let edit = model.edit(Timestamp::default()).unwrap();
    let lost = NewNode { kind: NewKind::Directory, mode: 0o700, uid: 0, gid: 0 };
    edit.create(root, b"lost+found", &lost).unwrap();
    let mut guest = Guest::new(model.as_mut());
    for (path, entry) in tree.iter().filter(|(path, _)| !path.is_empty()) {
        let path = std::str::from_utf8(&path[1..]).unwrap();
        match FileType::from_mode(entry.mode) {
            Some(FileType::Directory) => guest.dir(path),
            _ => guest.file(path, &entry.content),
        }
        let set = SetAttributes {
            mode: Some(entry.mode & 0o7777),
            uid: Some(entry.uid),
            gid: Some(entry.gid),
            ..Default::default()
        };
        guest.set(path, set);
        for (name, value) in &entry.xattrs {
            guest.xattr(path, std::str::from_utf8(name).unwrap(), Some(value));
        }
    }
    let root = &tree[&Vec::new()];
    let set = SetAttributes {
        mode: Some(root.mode & 0o7777),
        uid: Some(root.uid),
        gid: Some(root.gid),
        ..Default::default()
    };
    guest.set("", set);
    model
}

fn without_times(mut tree: Tree) -> Tree {
    tree.values_mut().for_each(|entry| entry.times = Default::default());
    tree
}

/// Content and names that mke2fs put into inodes: changed there, grown out of them, moved, removed.
#[test]
fn content_in_inodes() {
    let script = |guest: &mut Guest<'_>| {
        guest.write("file-59", 58, b"grows by some");
        guest.write("file-61", 0, b"in place");
        guest.write("file-100", 140, b"hole");
        guest.write("file-150", 100, &noise(3000, 1));
        guest.write("file-0", 0, b"first");
        guest.write("file-1", 5_000, b"far");
        guest.resize("file-157", 40);
        guest.resize("file-157", 90);
        guest.resize("file-60", 100_000);
        guest.resize("file-200", 0);
        guest.xattr("file-61", "user.large", Some(&noise(300, 2)));
        guest.xattr("dir-3", "user.x", Some(b"value"));
        let node = guest.node("file-900");
        guest.edit().fill(node, 20_000, &mut noise(20_000, 3).as_slice(), false).unwrap();
        guest.file("dir-1/a new name", b"x");
        guest.remove("dir-3/n0");
        guest.remove("dir-3/n2");
        guest.file("dir-3/other", b"x");
        guest.rename("dir-6/n1", "dir-6/renamed to something longer");
        for i in 0..30 {
            guest.file(&format!("dir-12/many more names {i}"), b"x");
        }
        guest.rename("dir-12/n3", "dir-12/n4");
        guest.rename("dir-1/below", "dir-0/below");
        guest.rename("dir-0", "dir-6/dir-0");
        guest.remove("file-100");
        for i in 0..6 {
            if i != 1 {
                guest.remove(&format!("dir-6/n{i}"));
            }
        }
        guest.rename("dir-6/dir-0", "dir-0");
        guest.remove("dir-6/renamed to something longer");
        guest.remove_dir("dir-6");
    };
    for kind in [&[][..], &["-I", "1024", "-b", "4096"], &["-O", "^metadata_csum,^extent,^64bit,inline_data"]] {
        let what = format!("inline_data {kind:?}");
        let dir = scratch();
        let (source, image) = (dir.path().join("source"), dir.path().join("image"));
        std::fs::create_dir(&source).unwrap();
        small_things(&source);
        let base = ["-q", "-F", "-t", "ext4", "-O", "inline_data", "-d", source.to_str().unwrap()];
        run("mke2fs", &[&base, kind, &[image.to_str().unwrap(), "32M"]].concat());
        assert_clean(&image, "mke2fs");
        let device = Sparse::load(&image);
        let mut fs = fs::open(device.device()).unwrap();
        let mut model = model_of(&through_trait(fs.as_ref()));
        script(&mut Guest::new(model.as_mut()));
        let mut guest = Guest::new(fs.as_mut());
        script(&mut guest);
        guest.sync();
        let found = through_trait(fs.as_ref());
        assert_same(&without_times(found.clone()), &without_times(through_trait(model.as_ref())), &what);
        device.save(&image);
        judge(&image, &found, &what);
        judge_by_kernel(&image, &found, &what);
    }
}

/// Three levels of index blocks, which only large_dir allows; without it the directory is full, and says so.
#[test]
fn an_index_of_three_levels() {
    for (features, deep) in [("large_dir", true), ("^large_dir", false)] {
        let device = mke2fs(&["-t", "ext4", "-b", "1024", "-O", features], "64M", &[]);
        let mut fs = fs::open(device.device()).unwrap();
        let mut guest = Guest::new(fs.as_mut());
        guest.file("file", b"x");
        guest.dir("large");
        let (node, dir) = (guest.node("file"), guest.node("large"));
        let edit = guest.edit();
        let name = |i: u32| format!("{i:05}{}", "n".repeat(245)).into_bytes();
        let full = (0..40_000).find_map(|i| edit.link(node, dir, &name(i)).err().map(|error| (i, error)));
        match (deep, full) {
            (true, None) => {}
            (false, Some((i, error))) => {
                assert!(error.kind() == Kind::NoSpace && error.to_string().contains("index"), "{i}: {error}");
                continue;
            }
            (_, other) => panic!("{features}: {other:?}"),
        }
        for i in (0..40_000).step_by(7) {
            edit.unlink(dir, &name(i)).unwrap();
        }
        edit.sync().unwrap();
        let image_dir = scratch();
        let image = image_dir.path().join("image");
        device.save(&image);
        assert_clean(&image, features);
        let text = run("debugfs", &["-R", "htree_dump /large", image.to_str().unwrap()]);
        assert!(text.contains("Indirect levels: 2"), "{}", text.lines().take(12).collect::<Vec<_>>().join("\n"));
        assert_eq!(fs.lookup(dir, &name(39_999)).unwrap(), Some(node));
        assert_eq!(fs.lookup(dir, &name(7)).unwrap(), None);
        assert_eq!(fs.read_dir(dir).unwrap().len(), 40_000 - 40_000_usize.div_ceil(7));
    }
}

/// An image with a file and a directory that have these flags beside those that they need.
fn flagged(features: &str, file: u32, dir: u32) -> (Arc<Sparse>, NodeId, NodeId) {
    let device = mke2fs(&["-t", "ext4", "-O", features], "16M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let mut guest = Guest::new(fs.as_mut());
    guest.file("file", b"content");
    guest.dir("dir");
    let (file_node, dir_node) = (guest.node("file"), guest.node("dir"));
    guest.sync();
    let scratch = scratch();
    let image = scratch.path().join("image");
    device.save(&image);
    for (path, flags) in [("file", file), ("dir", dir)] {
        let command = format!("sif /{path} flags {:#x}", 0x8_0000 | flags);
        run("debugfs", &["-w", "-R", &command, image.to_str().unwrap()]);
    }
    (Sparse::load(&image), file_node, dir_node)
}

const NEW: NewNode = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };

fn all_are(errors: &[Error], kind: Kind, word: &str) {
    for error in errors {
        assert!(error.kind() == kind && error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn immutable_and_append_only() {
    let (device, file, dir) = flagged("^metadata_csum", 0x10, 0x10);
    let before = device.bytes();
    let mut fs = fs::open(device.device()).unwrap();
    let root = fs.root();
    let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
    let errors = [
        edit.write(file, 0, b"x").unwrap_err(),
        edit.resize(file, 0).unwrap_err(),
        edit.unlink(root, b"file").unwrap_err(),
        edit.rename(root, b"file", root, b"other").unwrap_err(),
        edit.link(file, root, b"other").unwrap_err(),
        edit.set_attributes(file, &SetAttributes { mode: Some(0), ..Default::default() }).unwrap_err(),
        edit.set_xattr(file, b"user.x", Some(b"x")).unwrap_err(),
        edit.create(dir, b"new", &NEW).unwrap_err(),
        edit.rmdir(root, b"dir").unwrap_err(),
    ];
    all_are(&errors, Kind::Denied, "immutable");
    edit.sync().unwrap();
    assert!(device.bytes() == before);

    let (device, file, dir) = flagged("^metadata_csum", 0x20, 0x20);
    let mut fs = fs::open(device.device()).unwrap();
    let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
    let errors = [
        edit.write(file, 0, b"x").unwrap_err(),
        edit.resize(file, 0).unwrap_err(),
        edit.unlink(root, b"file").unwrap_err(),
        edit.rename(root, b"file", root, b"other").unwrap_err(),
    ];
    all_are(&errors, Kind::Denied, "append-only");
    edit.write(file, 7, b" and more").unwrap();
    edit.create(dir, b"new", &NEW).unwrap();
    all_are(&[edit.unlink(dir, b"new").unwrap_err()], Kind::Denied, "append-only");
    edit.sync().unwrap();
    let scratch = scratch();
    device.save(&scratch.path().join("image"));
    judge(&scratch.path().join("image"), &through_trait(fs.as_ref()), "append-only");
}

#[test]
fn sealed_encrypted_and_folded() {
    // fs-verity: read, not written, removed.
    let (device, file, _) = flagged("verity", 0x10_0000, 0);
    let mut fs = fs::open(device.device()).unwrap();
    let root = fs.root();
    let mut buf = [0; 7];
    assert_eq!(fs.read(file, 0, &mut buf).unwrap(), 7);
    assert_eq!(&buf, b"content");
    let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
    all_are(&[edit.write(file, 0, b"x").unwrap_err(), edit.resize(file, 9).unwrap_err()], Kind::Denied, "verity");
    edit.rename(root, b"file", root, b"other").unwrap();
    edit.unlink(root, b"other").unwrap();
    edit.sync().unwrap();
    let scratch = scratch();
    let image = scratch.path().join("image");
    device.save(&image);
    judge(&image, &through_trait(fs.as_ref()), "verity");

    // Encryption: content and names are refused, the rest of the file system is written.
    let (device, file, dir) = flagged("encrypt", 0x800, 0x800);
    let mut fs = fs::open(device.device()).unwrap();
    assert_eq!(fs.metadata(file).unwrap().size, 7);
    let mut errors = vec![fs.read(file, 0, &mut buf).unwrap_err(), fs.read_dir(dir).unwrap_err()];
    let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
    errors.push(edit.write(file, 0, b"x").unwrap_err());
    errors.push(edit.create(dir, b"new", &NEW).unwrap_err());
    all_are(&errors, Kind::Unsupported, "encrypted");
    edit.unlink(root, b"file").unwrap();
    edit.rmdir(root, b"dir").unwrap();
    edit.create(root, b"new", &NEW).unwrap();
    edit.sync().unwrap();
    device.save(&image);
    judge(&image, &through_trait(fs.as_ref()), "encrypt");
}

/// Names that differ in case only are one name; e2fsck knows their hashes, and so finds no name at a wrong place. What is not
/// ASCII is not folded, and so nothing is added beside it.
#[test]
fn directories_that_ignore_case() {
    for features in ["casefold", "casefold,^metadata_csum", "casefold,^dir_index", "casefold,inline_data"] {
        let (device, _, dir) = flagged(features, 0, 0x4000_0000);
        let scratch = scratch();
        let image = scratch.path().join("image");
        let mut fs = fs::open(device.device()).unwrap();
        let root = fs.root();
        let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
        for i in 0..600 {
            let name = if i % 2 == 0 { format!("A Name In Mixed Case {i}") } else { format!("another-NAME-{i}") };
            edit.create(dir, name.as_bytes(), &NEW).unwrap();
        }
        for taken in ["a name in mixed case 400", "ANOTHER-NAME-401"] {
            assert_eq!(edit.create(dir, taken.as_bytes(), &NEW).unwrap_err().kind(), Kind::Exists, "{taken}");
        }
        edit.unlink(dir, b"ANOTHER-name-5").unwrap();
        edit.rename(dir, b"another-name-7", dir, b"Moved").unwrap();
        let file = edit.create(root, b"Other", &NEW).unwrap();
        edit.link(file, dir, b"other").unwrap();
        let below = edit.create(dir, b"Below", &NewNode { kind: NewKind::Directory, ..NEW }).unwrap();
        edit.create(below, b"New", &NEW).unwrap();
        assert_eq!(edit.create(below, b"nEW", &NEW).unwrap_err().kind(), Kind::Exists, "the flag is handed down");
        // Outside of such directories case counts.
        edit.create(root, b"other", &NEW).unwrap();
        edit.sync().unwrap();
        assert!(fs.lookup(dir, b"OTHER").unwrap() == Some(file) && fs.lookup(root, b"OTHER").unwrap().is_none());
        let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
        let errors = [edit.create(dir, "\u{fc}ber".as_bytes(), &NEW).unwrap_err()];
        all_are(&errors, Kind::Unsupported, "casefold");
        fs.reload().unwrap();
        let wanted = through_trait(fs.as_ref());
        device.save(&image);
        judge(&image, &wanted, features);
        // Built anew by e2fsck, with its hashes, the names are found and added to as well; the kelvin sign is a k.
        let (status, text) = tool("e2fsck", &["-fyD", image.to_str().unwrap()]);
        assert!(status <= 1, "{text}");
        run("debugfs", &["-w", "-R", "ln Other dir/\u{212a}elvin", image.to_str().unwrap()]);
        run("debugfs", &["-w", "-R", "sif Other links_count 3", image.to_str().unwrap()]);
        let device = Sparse::load(&image);
        let mut fs = fs::open(device.device()).unwrap();
        assert_eq!(fs.lookup(dir, "\u{212a}elvin".as_bytes()).unwrap(), Some(file));
        let edit = fs.edit(Timestamp::from_seconds(1_700_000_200)).unwrap();
        all_are(&[edit.create(dir, b"kelvin", &NEW).unwrap_err()], Kind::Unsupported, "casefold");
        fs.reload().unwrap();
        let edit = fs.edit(Timestamp::from_seconds(1_700_000_200)).unwrap();
        edit.unlink(dir, "\u{212a}elvin".as_bytes()).unwrap();
        for i in 0..300 {
            edit.create(dir, format!("Later {i}").as_bytes(), &NEW).unwrap();
        }
        edit.sync().unwrap();
        device.save(&image);
        judge(&image, &through_trait(fs.as_ref()), &format!("{features}, built anew"));
    }
}

#[test]
fn projects_are_handed_down() {
    let (device, file, dir) = flagged("project", 0, 0x2000_0000);
    let scratch = scratch();
    let image = scratch.path().join("image");
    device.save(&image);
    run("debugfs", &["-w", "-R", "sif /dir projid 77", image.to_str().unwrap()]);
    let device = Sparse::load(&image);
    let mut fs = fs::open(device.device()).unwrap();
    let root = fs.root();
    let edit = fs.edit(Timestamp::from_seconds(1_700_000_100)).unwrap();
    edit.create(dir, b"new", &NEW).unwrap();
    let below = edit.create(dir, b"below", &NewNode { kind: NewKind::Directory, ..NEW }).unwrap();
    edit.create(below, b"deep", &NEW).unwrap();
    let errors = [edit.rename(root, b"file", dir, b"file").unwrap_err(), edit.link(file, below, b"file").unwrap_err()];
    all_are(&errors, Kind::CrossDevice, "project");
    edit.rename(dir, b"new", root, b"out").unwrap();
    edit.sync().unwrap();
    device.save(&image);
    judge(&image, &through_trait(fs.as_ref()), "project");
    for (path, project) in [("/out", 77), ("/dir/below", 77), ("/dir/below/deep", 77), ("/file", 0)] {
        let text = run("debugfs", &["-R", &format!("stat {path}"), image.to_str().unwrap()]);
        assert!(
            text.split_whitespace().collect::<Vec<_>>().windows(2).any(|w| w == ["Project:", &project.to_string()]),
            "{path}: {text}"
        );
    }
}

/// A file system that says that somebody has it mounted is not written.
#[test]
fn mounted_elsewhere() {
    let device = mke2fs(&["-t", "ext4", "-O", "mmp,^metadata_csum"], "16M", &[]);
    let scratch = scratch();
    let image = scratch.path().join("image");
    device.save(&image);
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let block: u64 =
        text.lines().find_map(|line| line.strip_prefix("MMP block number:")).unwrap().trim().parse().unwrap();
    for (sequence, word) in [(0x1234_u32, "mounted"), (0xe24d_4d50, "e2fsck")] {
        device.write_at(block * 1024 + 4, &sequence.to_le_bytes()).unwrap();
        device.write_at(block * 1024 + 16, b"node-7").unwrap();
        let before = device.bytes();
        let mut fs = fs::open(device.device()).unwrap();
        let error = fs.edit(Timestamp::default()).err().unwrap();
        all_are(&[error], Kind::Unsupported, word);
        assert!(device.bytes() == before);
    }
}
