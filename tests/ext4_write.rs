//! Writing ext4: scripts of operations run on the driver and on the model must give the same tree, as our reader,
//! debugfs and ext4-view read it, on images of every make that is written; and e2fsck finds nothing.

mod oracle;

use imgsh::base::{GuestPathBuf, Kind, Result, Timestamp};
use imgsh::disk::BlockDevice;
use imgsh::fs::{self, FileSystem, NewKind, NewNode};
use oracle::guest::{Guest, check, made, mke2fs, noise, wanted};
use oracle::scripts::everything;
use oracle::tree::{assert_same, judge, through_trait};
use oracle::{Sparse, Staged, assert_clean, run, scratch};

const MIB: u64 = 1 << 20;

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

/// What must be cleaned up by somebody else first is not written, and says why. (Journals and orphans are cleaned up
/// here: tests/ext4_journal.rs.)
#[test]
fn pending_work_is_refused() {
    let plain = ["-t", "ext4", "-b", "1024"];
    let kinds: &[(&[&str], &[&str], &str)] = &[(&[], &["ssv state 2"], "error")];
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
    assert!(error.to_string().contains("s_start 9") && error.to_string().contains("needs_recovery"), "{error}");
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

/// Free space in single blocks: a file of thousands of runs, whose map is several levels deep, cut, grown and removed;
/// then, with the space whole again, a file in few runs.
#[test]
fn fragmented_space() {
    for kind in [&["-t", "ext4", "-b", "1024"][..], &["-t", "ext3", "-b", "1024"]] {
        let what = format!("fragments {kind:?}");
        let device = mke2fs(&[kind, &["-N", "8000"]].concat(), "24M", &[]);
        let mut fs = fs::open(device.device()).unwrap();
        let root = fs.root();
        let new = |kind| NewNode { kind, mode: 0o644, uid: 0, gid: 0 };
        let now = Timestamp::from_seconds(1_700_000_001);
        let edit = fs.edit(now).unwrap();
        let dir = edit.create(root, b"dir", &new(NewKind::Directory)).unwrap();
        let mut names = 0..;
        let name = |i: u32| i.to_string().into_bytes();
        for i in names.by_ref().take(7000) {
            let node = edit.create(dir, &name(i), &new(NewKind::Regular)).unwrap();
            edit.fill(node, 1000, &mut noise(1000, i.into()).as_slice(), false).unwrap();
        }
        // What is left in one piece goes to one file.
        let rest = edit.create(root, b"rest", &new(NewKind::Regular)).unwrap();
        edit.sync().unwrap();
        let free = fs.info().unwrap().free_blocks - 200;
        let edit = fs.edit(now).unwrap();
        edit.fill(rest, free * 1024, &mut noise(free as usize * 1024, 1).as_slice(), false).unwrap();
        for i in (0..7000).step_by(2) {
            edit.unlink(dir, &name(i)).unwrap();
        }
        edit.sync().unwrap();
        fs.committed();
        let content = noise(3_300_000, 2);
        let edit = fs.edit(now).unwrap();
        let file = edit.create(root, b"file", &new(NewKind::Regular)).unwrap();
        edit.fill(file, content.len() as u64, &mut content.as_slice(), false).unwrap();
        edit.sync().unwrap();
        let scratch = scratch();
        let image = scratch.path().join("image");
        let look = |fs: &dyn FileSystem, what: &str| {
            device.save(&image);
            judge(&image, &through_trait(fs), what);
        };
        look(fs.as_ref(), &what);
        let mut found = vec![0; content.len()];
        assert_eq!(fs.read(file, 0, &mut found).unwrap(), content.len());
        assert!(found == content, "{what}: content");
        let runs = |path: &str| {
            let text = run("debugfs", &["-R", &format!("blocks {path}"), image.to_str().unwrap()]);
            let blocks: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            blocks.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() + 1
        };
        assert!(runs("/file") > 2000, "{what}: {} runs", runs("/file"));
        let edit = fs.edit(now).unwrap();
        edit.resize(file, 1_500_001).unwrap();
        edit.write(file, 1_400_000, &noise(300_000, 3)).unwrap();
        edit.sync().unwrap();
        look(fs.as_ref(), &format!("{what}, cut and grown"));
        let edit = fs.edit(now).unwrap();
        edit.unlink(root, b"file").unwrap();
        for i in (1..7000).step_by(2) {
            edit.unlink(dir, &name(i)).unwrap();
        }
        edit.sync().unwrap();
        fs.committed();
        let edit = fs.edit(now).unwrap();
        let file = edit.create(root, b"whole", &new(NewKind::Regular)).unwrap();
        edit.fill(file, content.len() as u64, &mut content.as_slice(), false).unwrap();
        edit.sync().unwrap();
        look(fs.as_ref(), &format!("{what}, whole again"));
        assert!(runs("/whole") < 40, "{what}: {} runs", runs("/whole"));
    }
}
