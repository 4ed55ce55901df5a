//! Damaged and hostile images: whatever the bytes are, opening, walking and a small edit end with an answer, soon,
//! and without taking much memory.

mod oracle;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imgsh::base::{Result, Timestamp};
use imgsh::fs::{self, FileSystem, FileType, NewKind, NewNode, SetAttributes};
use oracle::{Random, Sparse, run, scratch, tool};

/// The longest that one image may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);
/// Nodes to visit at most: damage can make a tree look endless.
const NODES: usize = 300;

/// A small image with a little of everything.
fn image(dir: &Path, options: &[&str]) -> Vec<u8> {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    std::fs::create_dir_all(tree.join("d/e")).unwrap();
    std::fs::create_dir_all(tree.join("many")).unwrap();
    for i in 0..150 {
        std::fs::write(tree.join("many").join(format!("a name that takes some space {i}")), b"x").unwrap();
    }
    std::fs::write(tree.join("d/e/file"), vec![7; 100_000]).unwrap();
    let holes: Vec<u8> = (0..200_000_u32).map(|i| u8::from(i / 1024 % 2 == 0)).collect();
    std::fs::write(tree.join("holes"), holes).unwrap();
    let _ = std::os::unix::fs::symlink("long".repeat(50), tree.join("link"));
    let file = image.to_str().unwrap();
    run(
        "mke2fs",
        &[&["-q", "-F", "-t", "ext4", "-b", "1024", "-d", tree.to_str().unwrap()], options, &[file, "4M"]].concat(),
    );
    let list = dir.join("special");
    let large = "long value ".repeat(30);
    std::fs::write(&list, format!("ea_set holes user.large \"{large}\"\nea_set link user.small x\nmknod fifo p\n"))
        .unwrap();
    run("debugfs", &["-w", "-f", list.to_str().unwrap(), file]);
    let (status, text) = tool("e2fsck", &["-fyD", file]);
    assert!(status <= 1, "{text}");
    std::fs::read(image).unwrap()
}

/// Looks at everything as far as it goes; errors are fine.
fn walk(fs: &dyn FileSystem) {
    let _ = fs.info();
    let mut seen = HashSet::new();
    let mut queue = vec![fs.root()];
    let mut buf = vec![0; 10_000];
    while let Some(node) = queue.pop() {
        if !seen.insert(node) || seen.len() > NODES {
            continue;
        }
        let Ok(meta) = fs.metadata(node) else { continue };
        let _ = fs.xattrs(node);
        match meta.file_type {
            FileType::Directory => {
                let names = fs.read_dir(node).unwrap_or_default();
                assert!(names.len() <= 4 << 20 >> 3, "{} names", names.len());
                for entry in names.iter().take(NODES) {
                    let _ = fs.lookup(node, &entry.name);
                    queue.push(entry.node);
                }
                let _ = fs.lookup(node, b"no such name");
            }
            FileType::Symlink => _ = fs.read_link(node),
            _ => {
                let _ = fs.extents(node);
                for offset in [0, 5000, meta.size.saturating_sub(5000), meta.size, u64::MAX] {
                    let _ = fs.read(node, offset, &mut buf);
                }
            }
        }
    }
}

/// A bit of every operation, in a directory that is there.
fn edit(fs: &mut dyn FileSystem) -> Result<()> {
    let root = fs.root();
    let many = fs.lookup(root, b"many")?.unwrap_or(root);
    let holes = fs.lookup(root, b"holes")?;
    let now = Timestamp::from_seconds(1_800_000_000);
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 1000, gid: 1000 };
    let edit = fs.edit(now)?;
    let file = edit.create(many, b"new", &new)?;
    edit.write(file, 10_000, &[1; 20_000])?;
    edit.fill(file, 30_000, &mut [2; 30_000].as_slice(), false)?;
    edit.set_xattr(file, b"user.new", Some(b"value"))?;
    let dir = edit.create(root, b"newdir", &NewNode { kind: NewKind::Directory, ..new.clone() })?;
    edit.rename(many, b"new", dir, b"moved")?;
    if let Some(holes) = holes {
        edit.write(holes, 3000, &[3; 9000])?;
        edit.resize(holes, 50_001)?;
        edit.set_xattr(holes, b"user.large", None)?;
        edit.set_attributes(holes, &SetAttributes { mode: Some(0o600), ..Default::default() })?;
        edit.unlink(root, b"holes")?;
    }
    edit.link(file, root, b"linked")?;
    edit.unlink(dir, b"moved")?;
    edit.rmdir(root, b"newdir")?;
    edit.sync()
}

/// Opens, walks and edits one image; `None` if it does not open.
fn probe(device: &Arc<Sparse>) -> Option<Result<()>> {
    let _ = fs::identify(device.as_ref());
    let mut fs = fs::open(device.device()).ok()?;
    walk(fs.as_ref());
    let edited = edit(fs.as_mut());
    if edited.is_err() {
        let _ = fs.reload();
    }
    walk(fs.as_ref());
    Some(edited)
}

fn mutations(options: &[&str], count: usize, seed: u64) {
    let dir = scratch();
    let good = image(dir.path(), options);
    let device = Sparse::from_bytes(&good);
    let pages = device.snapshot();
    let edited = probe(&device).expect("the undamaged image opens");
    edited.expect("the undamaged image is edited");
    device.save(&dir.path().join("edited"));
    oracle::assert_clean(&dir.path().join("edited"), "the edit of the undamaged image");
    // Bytes that are not zero are where structures are; their neighbours are fields too. File content is left alone.
    let content = |at: usize| matches!(good[at], 1 | 7) && good[at - 8..at + 8].iter().all(|b| *b == good[at]);
    let places: Vec<usize> = (1024..good.len() - 8).filter(|at| good[*at] != 0 && !content(*at)).collect();
    let mut random = Random(seed);
    let (mut opened, mut succeeded) = (0, 0);
    for round in 0..count {
        let mut damaged: BTreeMap<u64, Vec<u8>> = pages.clone();
        let mut what = Vec::new();
        for _ in 0..=random.below(3) {
            let at = places[random.below(places.len() as u64) as usize] + random.below(5) as usize;
            let page = damaged.entry(at as u64 / 4096).or_insert_with(|| vec![0; 4096]);
            let byte = &mut page[at % 4096];
            *byte = match random.below(4) {
                0 => *byte ^ 1 << random.below(8),
                1 => 0xff,
                2 => 0,
                _ => random.next() as u8,
            };
            what.push((at, *byte));
        }
        let device = Sparse::from_pages(good.len() as u64, damaged);
        let began = Instant::now();
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| probe(&device)));
        let answer = answer.unwrap_or_else(|_| panic!("{options:?} round {round}: panic with {what:x?}"));
        assert!(began.elapsed() < LIMIT, "{options:?} round {round}: {:?} with {what:x?}", began.elapsed());
        opened += usize::from(answer.is_some());
        succeeded += usize::from(matches!(answer, Some(Ok(()))));
    }
    assert!(opened > count / 2, "{opened} of {count} opened");
    assert!(succeeded > count / 20, "{succeeded} of {count} were edited");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: Option<u64> = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    assert!(peak.is_none_or(|kib| kib < 400 << 10), "{peak:?} KiB of memory at the peak");
}

#[test]
fn damage_without_checksums() {
    mutations(&["-O", "^metadata_csum"], 1200, 11);
}

#[test]
fn damage_of_block_lists() {
    mutations(&["-O", "^extent,^64bit,^metadata_csum"], 600, 13);
}

#[test]
fn damage_of_inline_data_and_clusters() {
    mutations(&["-O", "^metadata_csum,inline_data,ea_inode", "-I", "512"], 500, 14);
    mutations(&["-O", "^metadata_csum,bigalloc", "-C", "4096"], 500, 15);
}

#[test]
fn damage_with_checksums() {
    mutations(&[], 600, 12);
}

/// Each cut ends in an error or in something readable, never in a panic.
#[test]
fn truncated_images() {
    let dir = scratch();
    let good = image(dir.path(), &[]);
    for len in (0..70).map(|i| i * 1024 + i % 3).chain([100_000, 1 << 20, good.len() - 1]) {
        let device = Sparse::from_bytes(&good[..len]);
        assert!(probe(&device).is_none(), "an image of {len} bytes opened");
    }
}

/// Every bit of the three feature words: what is not handled refuses by name, and the image stays as it was.
#[test]
fn unknown_features_refuse_by_name() {
    let dir = scratch();
    let good = image(dir.path(), &["-O", "^metadata_csum"]);
    let mut refused = 0;
    for (word, at) in [("compat", 0x45c), ("incompat", 0x460), ("ro_compat", 0x464)] {
        for bit in 0..32_u32 {
            let mut bytes = good.clone();
            if bytes[at + bit as usize / 8] & 1 << (bit % 8) != 0 {
                continue;
            }
            bytes[at + bit as usize / 8] |= 1 << (bit % 8);
            let device = Sparse::from_bytes(&bytes);
            let names = (word == "compat", format!("{word} {:#x}", 1_u32 << bit));
            let edited = fs::open(device.device()).and_then(|mut fs| {
                let why = fs.info()?.read_only;
                let answer = fs.edit(Timestamp::default()).map(|_| ());
                assert_eq!(why.is_some(), answer.is_err(), "{}: {why:?}", names.1);
                answer
            });
            let Err(error) = edited else {
                assert!(names.0 || WRITTEN.contains(&names.1.as_str()), "{} is written", names.1);
                continue;
            };
            let text = error.to_string();
            assert!(text.contains(&names.1) || SAID_OTHERWISE.contains(&names.1.as_str()), "{}: {text}", names.1);
            assert!(device.bytes() == bytes, "{} was written", names.1);
            refused += 1;
        }
    }
    assert!(refused >= 40, "{refused} bits refused");
}

/// Bits that the image does not have and that are written all the same: none of its nodes uses what they stand for,
/// the journal is empty, clusters are blocks, and the one block of descriptors is where it was.
const WRITTEN: &[&str] = &[
    // Without quota files there is no usage to keep.
    "ro_compat 0x100",
    "incompat 0x4",
    "incompat 0x10",
    "incompat 0x400",
    "incompat 0x2000",
    "incompat 0x4000",
    "incompat 0x8000",
    "incompat 0x10000",
    "incompat 0x20000",
    "ro_compat 0x4",
    "ro_compat 0x200",
    "ro_compat 0x2000",
    "ro_compat 0x8000",
];
/// Bits whose refusal has better words: another user, checksums that do not fit.
const SAID_OTHERWISE: &[&str] = &["incompat 0x100", "ro_compat 0x400", "ro_compat 0x10"];
