//! Growing and shrinking against resize2fs: the same sizes, counts and features, clean, and the content as before.

mod oracle;

use std::io::Read;
use std::path::{Path, PathBuf};

use imgsh::base::{Kind, Timestamp};
use imgsh::fs::ext4::Ext4;
use imgsh::fs::{FileSystem, NewKind, NewNode};
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::{Sparse, assert_clean, run, scratch, tool};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };
const MIB: u64 = 1 << 20;

/// A file system with files in many directories, so that several groups have inodes and blocks in use.
fn image(dir: &Path, size: u64, options: &[&str]) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    if !tree.exists() {
        for i in 0..12 {
            let sub = tree.join(format!("dir-{i}/below"));
            std::fs::create_dir_all(&sub).unwrap();
            for j in 0..15 {
                std::fs::write(sub.join(format!("file-{j}")), format!("{i} {j}\n").repeat(j * 50)).unwrap();
            }
        }
        std::fs::write(tree.join("large"), (0..3_000_000_u32).map(|i| (i / 777) as u8).collect::<Vec<u8>>()).unwrap();
        std::os::unix::fs::symlink("long/".repeat(30), tree.join("link")).unwrap();
    }
    let _ = std::fs::remove_file(&image);
    let file = image.to_str().unwrap();
    let base = ["-q", "-F", "-d", tree.to_str().unwrap()];
    run("mke2fs", &[&base, options, &[file, &format!("{}k", size / 1024)]].concat());
    let (status, text) = tool("e2fsck", &["-fyD", file]);
    assert!(status <= 1, "{text}");
    assert_clean(&image, "mke2fs");
    image
}

fn tree_of(image: &Path) -> Tree {
    through_trait(&Ext4::open(Sparse::load(image).device()).unwrap())
}

/// The lines of dumpe2fs that tell sizes and counts; where things lie is not among them.
fn facts(image: &Path) -> Vec<String> {
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let wanted = [
        "Filesystem features",
        "Inode count",
        "Block count",
        "Reserved block count",
        "Free blocks",
        "Free inodes",
        "Reserved GDT blocks",
        "Group descriptor size",
        "Flex block group size",
        "Inodes per group",
        "Blocks per group",
        "First meta block group",
        "Filesystem state",
    ];
    text.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word))).map(str::to_string).collect()
}

/// Resizes with ours on a device of `device` bytes; answers the image.
fn ours(dir: &Path, image: &Path, device: u64, size: Option<u64>) -> PathBuf {
    let file = dir.join("ours");
    let device = Sparse::from_pages(device, Sparse::load(image).snapshot());
    let mut fs = Ext4::open(device.device()).unwrap();
    fs.edit(NOW).unwrap();
    fs.set_size(size).unwrap_or_else(|error| panic!("{size:?}: {error}"));
    fs.edit(NOW).unwrap().sync().unwrap();
    device.save(&file);
    file
}

/// Every copy of superblock and descriptors says the same of where things are.
fn judge_copies(image: &Path, what: &str) {
    let text = run("dumpe2fs", &[image.to_str().unwrap()]);
    let bs = text.lines().find_map(|line| line.strip_prefix("Block size:")).unwrap().trim();
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |rest| rest.trim().parse().unwrap())
    };
    // Behind the groups with old descriptors e2fsprogs finds no copies of those.
    let descs = number("Block size:") / number("Group descriptor size:").max(32);
    let limit = number("First meta block group:") * descs * number("Blocks per group:");
    let copies: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Backup superblock at "))
        .filter_map(|rest| rest.split([',', ' ']).next())
        .filter(|copy| limit == 0 || copy.parse::<u64>().unwrap() < limit)
        .collect();
    let places = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(" bitmap at ") || line.contains("Inode table at "));
        lines.map(|line| line.split(", csum").next().unwrap().to_string()).collect()
    };
    for copy in copies {
        let (superblock, blocksize) = (format!("superblock={copy}"), format!("blocksize={bs}"));
        // Of a copy it takes no group for uninitialised, and so complains of their bitmaps.
        let (_, there) = tool("dumpe2fs", &["-o", &superblock, "-o", &blocksize, image.to_str().unwrap()]);
        assert_eq!(places(&there), places(&text), "{what}: copy {copy}");
    }
}

/// Tables of inodes that are not initialised hold nothing; had a copy of descriptors been put there, e2fsck would not see it.
fn judge_tables(image: &Path, what: &str) {
    let text = run("dumpe2fs", &[image.to_str().unwrap()]);
    let bs: usize = text.lines().find_map(|line| line.strip_prefix("Block size:")).unwrap().trim().parse().unwrap();
    let bytes = std::fs::read(image).unwrap();
    for group in text.split("\nGroup ").filter(|group| group.contains("INODE_UNINIT")) {
        let range = group.split_once("Inode table at ").unwrap().1;
        let range = range.split([' ', '\n']).next().unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (range.0.parse().unwrap(), range.1.parse().unwrap());
        assert!(bytes[first * bs..(last + 1) * bs].iter().all(|byte| *byte == 0), "{what}: table {first}-{last}");
    }
}

/// Resizes one image with ours and with resize2fs and compares.
fn compare(dir: &Path, image: &Path, from: u64, to: u64, what: &str) {
    let wanted = tree_of(image);
    let theirs = dir.join("theirs");
    std::fs::copy(image, &theirs).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&theirs).unwrap();
    file.set_len(from.max(to)).unwrap();
    let size = format!("{}K", to / 1024);
    run("resize2fs", &["-f", theirs.to_str().unwrap(), &size]);
    let ours = ours(dir, image, from.max(to), Some(to));
    judge(&ours, &wanted, what);
    judge_copies(&ours, what);
    let split = |image: &Path| -> (Vec<String>, Vec<i64>) {
        let (free, rest): (Vec<String>, _) = facts(image).into_iter().partition(|line| line.starts_with("Free blocks"));
        (rest, free.iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect())
    };
    let ((ours, free), (theirs, wanted)) = (split(&ours), split(&theirs));
    assert_eq!(ours, theirs, "{what}");
    // Where files were cut into other pieces, their trees have other numbers of nodes.
    let slack = if to < from { 100 } else { 0 };
    assert!((free[0] - wanted[0]).abs() <= slack, "{what}: {free:?} free blocks, resize2fs has {wanted:?}");
}

const GROW: &[(&[&str], u64, u64)] = &[
    (&["-t", "ext3"], 40 * MIB, 150 * MIB),
    (&["-t", "ext2", "-I", "128"], 40 * MIB, 100 * MIB),
    (&["-t", "ext4"], 40 * MIB, 200 * MIB),
    (&["-t", "ext4"], 40 * MIB, 41 * MIB),
    // A last group that would be too short is left out; one that is just long enough is not.
    (&["-t", "ext4"], 40 * MIB, 64 * MIB + 200 * 1024),
    (&["-t", "ext4", "-b", "4096"], 40 * MIB, 300 * MIB),
    (&["-t", "ext4", "-b", "2048", "-O", "metadata_csum_seed,orphan_file"], 40 * MIB, 150 * MIB),
    (&["-t", "ext4", "-O", "^flex_bg"], 40 * MIB, 150 * MIB),
    (&["-t", "ext4", "-O", "^64bit,^metadata_csum"], 40 * MIB, 150 * MIB),
    (&["-t", "ext4", "-O", "^metadata_csum,uninit_bg", "-I", "128"], 40 * MIB, 150 * MIB),
    (&["-t", "ext4", "-O", "^resize_inode"], 40 * MIB, 100 * MIB),
    (&["-t", "ext4", "-O", "^has_journal,^sparse_super,^resize_inode"], 40 * MIB, 100 * MIB),
    (&["-t", "ext4", "-O", "sparse_super2"], 40 * MIB, 200 * MIB),
    (&["-t", "ext4", "-b", "4096", "-O", "sparse_super2"], 40 * MIB, 500 * MIB),
    (&["-t", "ext4", "-b", "1024", "-O", "sparse_super2,meta_bg,^resize_inode", "-g", "1024"], 40 * MIB, 111 * MIB),
];

#[test]
fn growing_as_resize2fs_does() {
    let dir = scratch();
    for (options, from, to) in GROW {
        let image = image(dir.path(), *from, options);
        compare(dir.path(), &image, *from, *to, &format!("{options:?} {from} to {to}"));
    }
}

/// In small steps, each on top of the last.
#[test]
fn growing_again_and_again() {
    let dir = scratch();
    let image = image(dir.path(), 10 * MIB, &["-t", "ext4"]);
    let wanted = tree_of(&image);
    for to in [12, 17, 33, 60, 61, 130, 300].map(|mib| mib * MIB) {
        let grown = ours(dir.path(), &image, to, None);
        assert_clean(&grown, &format!("to {to}"));
        std::fs::rename(grown, &image).unwrap();
    }
    judge(&image, &wanted, "all steps");
    judge_copies(&image, "all steps");
}

/// Past the room that is kept for descriptors, which then lie in the groups they describe. resize2fs moves what is in their
/// way instead, so it is not compared with.
#[test]
fn growing_past_the_room_for_descriptors() {
    let dir = scratch();
    let makes: &[(&[&str], &[u64])] = &[
        (&["-t", "ext4", "-b", "1024", "-O", "^resize_inode"], &[100, 129, 300, 700]),
        (&["-t", "ext4", "-b", "1024", "-E", "resize=200M"], &[180, 400, 401]),
        (&["-t", "ext4", "-b", "4096", "-O", "^resize_inode,^metadata_csum", "-g", "512"], &[400, 900]),
        (&["-t", "ext2", "-b", "1024", "-O", "^resize_inode,^sparse_super"], &[400, 900]),
        (&["-t", "ext3", "-b", "1024", "-O", "^resize_inode"], &[700]),
        (&["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"], &[41, 55, 400]),
    ];
    for (options, sizes) in makes {
        let mut image = image(dir.path(), 40 * MIB, options);
        let wanted = tree_of(&image);
        for size in *sizes {
            let what = format!("{options:?} to {size} MiB");
            let grown = ours(dir.path(), &image, size * MIB, None);
            judge(&grown, &wanted, &what);
            judge_copies(&grown, &what);
            judge_tables(&grown, &what);
            image = dir.path().join("grown");
            std::fs::rename(grown, &image).unwrap();
        }
        assert!(facts(&image)[0].contains("meta_bg"), "{options:?}");
        let device = Sparse::load(&image);
        let mut fs = Ext4::open(device.device()).unwrap();
        let root = fs.root();
        // Directories are spread over the groups, old and new.
        for i in 0..60 {
            let new = |kind| NewNode { kind, mode: 0o755, uid: 0, gid: 0 };
            let edit = fs.edit(NOW).unwrap();
            let dir = edit.create(root, format!("new-{i}").as_bytes(), &new(NewKind::Directory)).unwrap();
            let file = edit.create(dir, b"file", &new(NewKind::Regular)).unwrap();
            edit.fill(file, 900_000, &mut std::io::repeat(i).take(900_000), false).unwrap();
        }
        fs.edit(NOW).unwrap().sync().unwrap();
        device.save(&image);
        assert_clean(&image, &format!("{options:?} filled"));
    }
}

const SHRINK: &[(&[&str], u64, u64)] = &[
    (&["-t", "ext3"], 64 * MIB, 40 * MIB),
    (&["-t", "ext2", "-I", "128"], 64 * MIB, 30 * MIB),
    (&["-t", "ext4"], 64 * MIB, 38 * MIB),
    (&["-t", "ext4"], 64 * MIB, 63 * MIB),
    // A last group that would be too short is left out.
    (&["-t", "ext4"], 64 * MIB, 40 * MIB + 300 * 1024),
    (&["-t", "ext4", "-b", "4096", "-g", "2048"], 64 * MIB, 31 * MIB),
    (&["-t", "ext4", "-b", "2048", "-O", "metadata_csum_seed,orphan_file"], 128 * MIB, 64 * MIB),
    (&["-t", "ext4", "-O", "^flex_bg"], 64 * MIB, 40 * MIB),
    (&["-t", "ext4", "-O", "^64bit,^metadata_csum"], 64 * MIB, 40 * MIB),
    (&["-t", "ext4", "-O", "^metadata_csum,uninit_bg", "-I", "128"], 64 * MIB, 40 * MIB),
    (&["-t", "ext4", "-O", "^resize_inode,^has_journal"], 64 * MIB, 30 * MIB),
    // Descriptors of the groups that go take whole blocks.
    (&["-t", "ext4", "-b", "1024", "-O", "^resize_inode", "-g", "1024"], 64 * MIB, 31 * MIB),
    (&["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"], 64 * MIB, 40 * MIB),
    (&["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"], 64 * MIB, 34 * MIB),
    (&["-t", "ext4", "-O", "sparse_super2"], 64 * MIB, 40 * MIB),
    (
        &["-t", "ext4", "-b", "1024", "-O", "sparse_super2,^resize_inode,^metadata_csum", "-g", "1024"],
        64 * MIB,
        44 * MIB,
    ),
    (&["-t", "ext4", "-O", "ea_inode"], 64 * MIB, 38 * MIB),
    (&["-t", "ext4", "-b", "1024", "-O", "ea_inode,inline_data,^metadata_csum", "-I", "512"], 64 * MIB, 38 * MIB),
    (&["-t", "ext4", "-O", "inline_data"], 64 * MIB, 38 * MIB),
    (&["-t", "ext4", "-O", "mmp"], 64 * MIB, 38 * MIB),
    (&["-t", "ext4", "-O", "quota,project"], 64 * MIB, 38 * MIB),
];

#[test]
fn shrinking_as_resize2fs_does() {
    let dir = scratch();
    for (options, from, to) in SHRINK {
        let image = image(dir.path(), *from, options);
        scatter(&image);
        compare(dir.path(), &image, *from, *to, &format!("{options:?} {from} to {to}"));
    }
}

/// Puts files and directories into the last groups: by our own driver, which places by the bitmaps that it is given.
fn scatter(image: &Path) {
    let values = facts(image)[0].contains("ea_inode");
    let device = Sparse::load(image);
    let mut fs = Ext4::open(device.device()).unwrap();
    let root = fs.root();
    let new = |kind| NewNode { kind, mode: 0o755, uid: 1, gid: 2 };
    let old = (0..20).map(|i| fs.lookup(root, format!("dir-{i}").as_bytes()).unwrap()).collect::<Vec<_>>();
    let edit = fs.edit(NOW).unwrap();
    // Directories of the root spread over the groups, and their files go where they are.
    for (i, old) in old.iter().enumerate() {
        let sub = edit.create(root, format!("spread-{i}").as_bytes(), &new(NewKind::Directory)).unwrap();
        for j in 0..25_u32 {
            let file =
                edit.create(sub, format!("a file with a long name {j}").as_bytes(), &new(NewKind::Regular)).unwrap();
            let content = vec![(i as u32 * 25 + j) as u8; 3000 + 37 * j as usize];
            edit.fill(file, content.len() as u64, &mut content.as_slice(), false).unwrap();
        }
        let below = edit.create(sub, b"below", &new(NewKind::Directory)).unwrap();
        edit.create(below, b"long", &new(NewKind::Symlink("target/".repeat(20).as_str().into()))).unwrap();
        let first = edit.create(below, b"first", &new(NewKind::Regular)).unwrap();
        edit.link(first, root, format!("link-{i}").as_bytes()).unwrap();
        edit.set_xattr(first, b"user.large", Some(&vec![b'v'; 700])).unwrap();
        if values {
            edit.set_xattr(first, b"user.huge", Some(&vec![i as u8 % 7; 9000])).unwrap();
            edit.set_xattr(sub, b"user.huge", Some(&vec![b'd'; 5000])).unwrap();
        }
        // Older directories, which may be kept in their inodes, name new nodes and lie in new directories.
        if let Some(old) = old {
            edit.link(first, *old, b"l").unwrap();
            edit.rename(root, format!("dir-{i}").as_bytes(), sub, b"old").unwrap();
        }
    }
    edit.sync().unwrap();
    // A file that is cut into many pieces, at the very end of the free space.
    let free = fs.free_space().unwrap();
    let total: u64 = free.iter().map(|run| run.end - run.start).sum();
    let filler = fs.edit(NOW).unwrap().create(root, b"filler", &new(NewKind::Regular)).unwrap();
    let size = total / 2;
    fs.edit(NOW).unwrap().fill(filler, size, &mut std::io::repeat(7).take(size), false).unwrap();
    let pieces = fs.edit(NOW).unwrap().create(root, b"pieces", &new(NewKind::Regular)).unwrap();
    for i in 0..300_u64 {
        fs.edit(NOW).unwrap().write(pieces, i * 9000, &vec![i as u8; 1500]).unwrap();
    }
    let edit = fs.edit(NOW).unwrap();
    edit.unlink(root, b"filler").unwrap();
    edit.sync().unwrap();
    device.save(image);
    assert_clean(image, "scattering");
}

/// As small as it goes, and back again.
#[test]
fn the_least_size_is_reached() {
    let dir = scratch();
    for options in [&["-t", "ext4"][..], &["-t", "ext4", "-b", "4096", "-g", "2048", "-O", "orphan_file"]] {
        let image = image(dir.path(), 64 * MIB, options);
        scatter(&image);
        let wanted = tree_of(&image);
        let least = Ext4::open(Sparse::load(&image).device()).unwrap().minimum_size().unwrap();
        assert!(least < 30 * MIB, "{least}");
        let small = ours(dir.path(), &image, 64 * MIB, Some(least));
        judge(&small, &wanted, &format!("{options:?} at {least}"));
        judge_copies(&small, "least");
        let mut fs = Ext4::open(Sparse::load(&small).device()).unwrap();
        assert_eq!(fs.set_size(Some(least / 2)).err().unwrap().kind(), Kind::NoSpace);
        // The image can be cut off there.
        std::fs::OpenOptions::new().write(true).open(&small).unwrap().set_len(least).unwrap();
        judge(&small, &wanted, "cut off");
        std::fs::rename(&small, &image).unwrap();
        let large = ours(dir.path(), &image, 90 * MIB, None);
        judge(&large, &wanted, "grown again");
    }
}

/// With little in it, the least size lies in front of the resize inode's double indirect block.
#[test]
fn the_map_of_the_resize_inode_moves() {
    let dir = scratch();
    let image = dir.path().join("image");
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024", image.to_str().unwrap(), "31744k"]);
    let map = |image: &Path| -> u64 {
        let (_, text) = tool("debugfs", &["-R", "stat <7>", image.to_str().unwrap()]);
        let (_, rest) = text.split_once("(DIND):").unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    let wanted = tree_of(&image);
    let least = Ext4::open(Sparse::load(&image).device()).unwrap().minimum_size().unwrap();
    assert!(map(&image) >= least / 1024, "{least}");
    let small = ours(dir.path(), &image, 31 * MIB, Some(least));
    assert!(map(&small) < least / 1024);
    judge(&small, &wanted, "least");
    std::fs::rename(&small, &image).unwrap();
    let large = ours(dir.path(), &image, 90 * MIB, None);
    judge(&large, &wanted, "grown again");
}

/// New groups are used like others.
#[test]
fn a_grown_file_system_takes_files() {
    let dir = scratch();
    let image = image(dir.path(), 10 * MIB, &["-t", "ext4"]);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes.resize(80 << 20, 0);
    let device = Sparse::from_bytes(&bytes);
    let mut fs = Ext4::open(device.device()).unwrap();
    fs.set_size(None).unwrap();
    let root = fs.root();
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    let edit = fs.edit(NOW).unwrap();
    let node = edit.create(root, b"much", &new).unwrap();
    let content: Vec<u8> = (0..40_000_000_u32).map(|i| (i / 1000) as u8).collect();
    edit.fill(node, content.len() as u64, &mut content.as_slice(), false).unwrap();
    edit.sync().unwrap();
    let wanted = through_trait(&fs);
    device.save(&image);
    judge(&image, &wanted, "a file in the new groups");
    assert_same(&tree_of(&image), &wanted, "read anew");
}

#[test]
fn refusals_name_the_reason() {
    let dir = scratch();
    let cases: &[(&[&str], u64, &str)] = &[
        (&["-t", "ext2", "-r", "0"], 5000 * MIB, "revision 0 has no feature 'meta_bg'"),
        (&["-t", "ext4", "-O", "bigalloc"], 50 * MIB, "'bigalloc'"),
    ];
    for (options, to, words) in cases {
        let image = image(dir.path(), 40 * MIB, options);
        let device = Sparse::from_pages(*to, Sparse::load(&image).snapshot());
        let before = device.snapshot();
        let mut fs = Ext4::open(device.device()).unwrap();
        let error = fs.set_size(None).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
        assert!(device.snapshot() == before, "{words}: something was written");
    }
    let image = image(dir.path(), 40 * MIB, &["-t", "ext4"]);
    let mut fs = Ext4::open(Sparse::load(&image).device()).unwrap();
    assert_eq!(fs.set_size(Some(41 * MIB)).err().unwrap().kind(), Kind::NoSpace);
    let fixed = self::image(dir.path(), 40 * MIB, &["-t", "ext4", "-O", "stable_inodes"]);
    let error = Ext4::open(Sparse::load(&fixed).device()).unwrap().set_size(Some(20 * MIB)).err().unwrap();
    assert!(error.to_string().contains("'stable_inodes' (compat 0x800) forbids moving inodes"), "{error}");
}

/// Descriptors in the groups that they describe, until all that are left fit behind the superblock.
#[test]
fn shrinking_what_was_grown_past_the_room_for_descriptors() {
    let dir = scratch();
    for (options, sizes) in [
        (&["-t", "ext4", "-b", "1024", "-O", "^resize_inode", "-g", "1024"][..], &[100, 70, 30][..]),
        (&["-t", "ext4", "-b", "1024", "-O", "sparse_super2,^resize_inode", "-g", "1024"][..], &[100, 70, 30][..]),
    ] {
        let mut image = image(dir.path(), 40 * MIB, options);
        for size in sizes {
            if *size < 40 {
                compare(dir.path(), &image, 100 * MIB, size * MIB, &format!("{options:?} to {size}"));
            }
            let wanted = tree_of(&image);
            let made = ours(dir.path(), &image, 100 * MIB, Some(size * MIB));
            judge(&made, &wanted, &format!("{options:?} to {size}"));
            judge_copies(&made, "grown and shrunk");
            assert_eq!(facts(&made)[0].contains("meta_bg"), *size > 40, "{options:?} to {size}");
            image = dir.path().join("made");
            std::fs::rename(made, &image).unwrap();
            if *size == 100 {
                scatter(&image);
            }
        }
    }
}

/// Copies of the superblock under sparse_super2, where resize2fs has other rules: few groups, and a place that is taken.
#[test]
fn copies_of_the_superblock_follow_the_last_group() {
    let dir = scratch();
    let cases: &[(&[&str], u64, u64, &str)] = &[
        (&["-O", "sparse_super2"], 40, 200, "1 24"),
        (&["-O", "sparse_super2"], 200, 60, "1 7"),
        (&["-O", "sparse_super2,meta_bg,^resize_inode", "-g", "1024"], 40, 111, "1 110"),
        // resize2fs 1.47.0 frees the old last group's block bitmap too.
        (&["-O", "sparse_super2,^flex_bg,^resize_inode"], 40, 100, "1 12"),
        (&["-O", "sparse_super2"], 8, 60, "1 7"),
        (&["-O", "sparse_super2"], 60, 15, "1"),
        (&["-O", "sparse_super2"], 16, 60, "1"),
        (&["-O", "sparse_super2", "-E", "num_backup_sb=1"], 40, 90, "1"),
        (&["-O", "sparse_super2", "-E", "num_backup_sb=0"], 40, 90, ""),
        // The bitmaps of the new last group are in the way.
        (&["-O", "sparse_super2,^flex_bg"], 60, 40, "1"),
    ];
    for (options, from, to, groups) in cases {
        let (image, what) = (dir.path().join("image"), format!("{options:?} {from} to {to}"));
        let _ = std::fs::remove_file(&image);
        let base = ["-q", "-F", "-t", "ext4", "-b", "1024"];
        run("mke2fs", &[&base[..], options, &[image.to_str().unwrap(), &format!("{from}M")]].concat());
        let made = ours(dir.path(), &image, from.max(to) * MIB, Some(to * MIB));
        assert_clean(&made, &what);
        judge_copies(&made, &what);
        let text = run("dumpe2fs", &[made.to_str().unwrap()]);
        let found = text.lines().find_map(|line| line.strip_prefix("Backup block groups:")).unwrap_or_default();
        assert_eq!(found.trim(), *groups, "{what}");
        let copies = text.lines().filter(|line| line.contains("Backup superblock at ")).count();
        assert_eq!(copies, groups.split_whitespace().count(), "{what}");
    }
}

/// The block of mmp lies past the new end.
#[test]
fn the_block_against_two_mounts_moves() {
    let dir = scratch();
    let image = image(dir.path(), 64 * MIB, &["-t", "ext4", "-b", "1024", "-O", "mmp"]);
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let old: usize = text.lines().find_map(|l| l.strip_prefix("MMP block number:")).unwrap().trim().parse().unwrap();
    let mut bytes = std::fs::read(&image).unwrap();
    let new = 60 * 1024;
    bytes.copy_within(old * 1024..(old + 1) * 1024, new * 1024);
    std::fs::write(&image, bytes).unwrap();
    run("debugfs", &["-w", "-R", &format!("ssv mmp_block {new}"), image.to_str().unwrap()]);
    let (_, text) = tool("e2fsck", &["-fy", image.to_str().unwrap()]);
    assert_clean(&image, &text);
    let wanted = tree_of(&image);
    let made = ours(dir.path(), &image, 64 * MIB, Some(40 * MIB));
    judge(&made, &wanted, "mmp");
    let text = run("dumpe2fs", &["-h", made.to_str().unwrap()]);
    let moved: usize = text.lines().find_map(|l| l.strip_prefix("MMP block number:")).unwrap().trim().parse().unwrap();
    assert!(moved > 1 && moved < 40 * 1024, "{moved}");
    // The driver honours it there, and so it can be written.
    Ext4::open(Sparse::load(&made).device()).unwrap().edit(NOW).unwrap();
}
