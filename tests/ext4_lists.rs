//! Writing ext2 and ext3: block lists to the third depth, inodes of 128 bytes, directories without types, every block
//! size. Judged as `ext4_write` is.

mod oracle;

use imgsh::base::{Kind, Timestamp};
use imgsh::fs::{self, NewKind, SetAttributes};
use oracle::guest::{Guest, check, made_as, mke2fs, noise, wanted};
use oracle::scripts::{attributes, content, everything, names, xattrs};
use oracle::tree::{Entry, Tree, assert_same, judge, through_trait};
use oracle::{run, scratch};

#[test]
fn everything_on_ext2_and_ext3() {
    let kinds: &[&[&str]] = &[
        &["-t", "ext2"],
        &["-t", "ext2", "-b", "4096", "-O", "^filetype,^dir_index"],
        &["-t", "ext2", "-b", "2048", "-O", "none"],
        &["-t", "ext3"],
        &["-t", "ext3", "-b", "4096", "-E", "lazy_itable_init=1"],
        &["-t", "ext4", "-O", "^extent,^64bit,^metadata_csum,uninit_bg", "-b", "2048"],
        &["-t", "ext4", "-O", "^extent,^64bit"],
    ];
    for kind in kinds {
        check(&mke2fs(kind, "64M", &[]), &everything, &format!("{kind:?}, lists"));
    }
    check(&mke2fs(&["-t", "ext2", "-b", "65536"], "400M", &[]), &everything, "lists, -b 65536");
    check(&mke2fs(&["-t", "ext4", "-b", "65536"], "600M", &[]), &everything, "-b 65536");
    for fs_type in ["ext2", "ext3"] {
        check(&made_as(fs_type, 64 << 20, 1024, ""), &everything, &format!("{fs_type}, lists"));
        check(&made_as(fs_type, 64 << 20, 4096, ""), &everything, &format!("{fs_type}, lists, 4096"));
    }
}

/// Content in every depth of a list, with holes, in every order; then cut through every depth, and filled anew.
fn depths(guest: &mut Guest<'_>) {
    // With blocks of 1 KiB the depths begin at 12 KiB, 268 KiB and 64 MiB + 268 KiB.
    const EDGES: [u64; 3] = [12 << 10, 268 << 10, (64 << 20) + (268 << 10)];
    for (name, edges) in [("up", EDGES), ("down", [EDGES[2], EDGES[1], EDGES[0]])] {
        guest.make(name, NewKind::Regular, 0o644);
        for (i, edge) in (0..).zip(edges) {
            guest.write(name, edge - 1500, &noise(3000, i));
            guest.write(name, edge + 70_000, &noise(1, i));
        }
        guest.write(name, 0, b"begin");
    }
    guest.make("third", NewKind::Regular, 0o644);
    guest.write("third", EDGES[2] + (3 << 20), &noise(5000, 9));
    for (i, size) in (0..).zip([EDGES[2] + 1, EDGES[2] - 1, EDGES[1] + 200, EDGES[1], 13 << 10, EDGES[0], 5, 0]) {
        let name = format!("cut-{i}");
        guest.make(&name, NewKind::Regular, 0o644);
        for edge in EDGES {
            guest.write(&name, edge - 700, &noise(1400, i));
        }
        guest.resize(&name, size);
        guest.resize(&name, size + 2000);
        guest.write(&name, size + 900, b"after");
    }
    let bytes = noise(3 << 20, 7);
    guest.file("filled", &bytes);
    guest.file("filled again", &bytes);
    let node = guest.node("filled again");
    guest.edit().fill(node, 300_000, &mut &bytes[..300_000], false).unwrap();
    let zeros = [&bytes[..20_000], &vec![0; 1 << 20], &bytes[..90_000]].concat();
    guest.make("sparse", NewKind::Regular, 0o644);
    let node = guest.node("sparse");
    guest.edit().fill(node, zeros.len() as u64, &mut zeros.as_slice(), true).unwrap();
    guest.sync();
    guest.remove("down");
    guest.file("late", &bytes[..200_000]);
}

#[test]
fn lists_of_every_depth() {
    check(&mke2fs(&["-t", "ext2", "-b", "1024"], "80M", &[]), &depths, "lists, ext2");
    check(&mke2fs(&["-t", "ext3", "-b", "1024", "-O", "^dir_index"], "80M", &[]), &depths, "lists, ext3");
}

/// The largest file of a list, and one byte more.
#[test]
fn the_largest_file() {
    let device = mke2fs(&["-t", "ext2", "-b", "1024"], "16M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let mut guest = Guest::new(fs.as_mut());
    let node = guest.make("large", NewKind::Regular, 0o644);
    let blocks: u64 = 12 + 256 + 256 * 256 + 256 * 256 * 256;
    guest.write("large", blocks * 1024 - 3, b"end");
    let error = guest.edit().write(node, blocks * 1024, b"x").unwrap_err();
    assert_eq!(error.kind(), Kind::FileTooBig);
    guest.sync();
    let dir = scratch();
    let image = dir.path().join("image");
    device.save(&image);
    oracle::assert_clean(&image, "the largest file");
    let text = run("debugfs", &["-R", "stat /large", image.to_str().unwrap()]);
    assert!(text.contains(&format!("Size: {}", blocks * 1024)), "{text}");
    // One block of content and one of pointers in each depth.
    assert!(text.contains("Blockcount: 8"), "{text}");
    let mut end = [0; 3];
    assert_eq!(fs.read(node, blocks * 1024 - 3, &mut end).unwrap(), 3);
    assert_eq!(&end, b"end");
}

/// Inodes of 128 bytes hold no nanoseconds and no times after 2038.
#[test]
fn small_inodes() {
    let kinds: &[&[&str]] =
        &[&["-t", "ext2", "-I", "128"], &["-t", "ext3", "-I", "128"], &["-t", "ext4", "-I", "128"], &["-r", "0"]];
    for kind in kinds {
        let what = format!("{kind:?}");
        let device = mke2fs(kind, "64M", &[]);
        let mut fs = fs::open(device.device()).unwrap();
        let script = |guest: &mut Guest<'_>| {
            content(guest);
            names(guest);
            attributes(guest, false);
            if !what.contains("-r") {
                xattrs(guest);
            }
        };
        let whole = |tree: Tree| -> Tree {
            let entry = |(path, mut entry): (Vec<u8>, Entry)| {
                entry.times = entry.times.map(|time| Timestamp::from_seconds(time.seconds));
                (path, entry)
            };
            tree.into_iter().map(entry).collect()
        };
        let mut guest = Guest::new(fs.as_mut());
        script(&mut guest);
        let node = guest.node("attributes");
        let late = SetAttributes { modified: Some(Timestamp::from_seconds(1 << 31)), ..Default::default() };
        let error = guest.edit().set_attributes(node, &late).unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("2038"), "{error}");
        guest.sync();
        let dir = scratch();
        let image = dir.path().join("image");
        device.save(&image);
        let wanted = whole(wanted(&script));
        judge(&image, &wanted, &what);
        oracle::kernel::judge_by_kernel(&image, &wanted, &what);
    }
}

/// A file system that became ext4 keeps block lists for the files that it had, next to extents.
#[test]
fn old_files_of_a_converted_file_system() {
    let dir = scratch();
    let image = dir.path().join("image");
    let device = mke2fs(&["-t", "ext3", "-b", "1024"], "64M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let first = |guest: &mut Guest<'_>| {
        guest.dir("old");
        guest.file("old/file", &noise(600_000, 1));
        guest.file("old/removed", &noise(600_000, 2));
        for i in 0..50 {
            guest.file(&format!("old/a name that makes the directory grow {i}"), b"x");
        }
    };
    let mut guest = Guest::new(fs.as_mut());
    first(&mut guest);
    let now = guest.now;
    guest.sync();
    device.save(&image);
    run("tune2fs", &["-O", "extents,uninit_bg,dir_nlink,extra_isize", image.to_str().unwrap()]);
    // The descriptors have no checksums yet.
    let (status, text) = oracle::tool("e2fsck", &["-fy", image.to_str().unwrap()]);
    assert!(status <= 1, "{text}");
    let device = oracle::Sparse::load(&image);
    let mut fs = fs::open(device.device()).unwrap();
    let second = |guest: &mut Guest<'_>| {
        guest.write("old/file", 500_000, &noise(400_000, 3));
        guest.resize("old/file", 450_000);
        guest.remove("old/removed");
        for i in 50..100 {
            guest.file(&format!("old/a name that makes the directory grow {i}"), b"x");
        }
        guest.file("new", &noise(600_000, 4));
        guest.rename("new", "old/file two");
    };
    let mut guest = Guest { fs: fs.as_mut(), now };
    second(&mut guest);
    guest.sync();
    let wanted = wanted(&|guest: &mut Guest<'_>| {
        first(guest);
        second(guest);
    });
    assert_same(&through_trait(fs.as_ref()), &wanted, "converted");
    device.save(&image);
    judge(&image, &wanted, "converted");
    oracle::kernel::judge_by_kernel(&image, &wanted, "converted");
    let flags = |path: &str| -> bool {
        let text = run("debugfs", &["-R", &format!("stat \"{path}\""), image.to_str().unwrap()]);
        let flags = text.split_once("Flags: 0x").unwrap().1.split_whitespace().next().unwrap();
        u32::from_str_radix(flags, 16).unwrap() & 0x8_0000 != 0
    };
    assert!(!flags("/old") && !flags("/old/file") && flags("/old/file two"));
}

/// Lists without a checksum name anything; a pointer outside the file system, or into its tables, is an error.
#[test]
fn bad_pointers_are_named() {
    let device = mke2fs(&["-t", "ext2", "-b", "1024"], "16M", &[]);
    let mut fs = fs::open(device.device()).unwrap();
    let mut guest = Guest::new(fs.as_mut());
    guest.file("file", &noise(600_000, 1));
    guest.sync();
    let dir = scratch();
    let image = dir.path().join("image");
    device.save(&image);
    let list = run("debugfs", &["-R", "blocks /file", image.to_str().unwrap()]);
    let table = run("dumpe2fs", &[image.to_str().unwrap()]);
    let table = table.split_once("Inode table at ").unwrap().1.split('-').next().unwrap().to_string();
    for bad in ["4000000", &table] {
        let mut script = String::new();
        for slot in ["block[12]", "block[3]"] {
            script += &format!("sif /file {slot} {bad}\n");
        }
        let file = dir.path().join("script");
        std::fs::write(&file, script).unwrap();
        run("debugfs", &["-w", "-f", file.to_str().unwrap(), image.to_str().unwrap()]);
        let damaged = oracle::Sparse::load(&image);
        let before = damaged.bytes();
        let mut fs = fs::open(damaged.device()).unwrap();
        let root = fs.root();
        let node = fs.lookup(root, b"file").unwrap().unwrap();
        let edit = fs.edit(Timestamp::from_seconds(1_700_000_000)).unwrap();
        let errors = [
            edit.resize(node, 5).unwrap_err(),
            edit.write(node, 100_000, b"x").unwrap_err(),
            edit.unlink(root, b"file").unwrap_err(),
        ];
        for error in errors {
            assert!(error.kind() == Kind::Corrupt && error.to_string().contains("inode 12"), "{error}");
        }
        assert!(damaged.bytes() == before);
    }
    assert!(!list.is_empty());
}
