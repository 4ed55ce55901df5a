//! btrfs, read: file systems that mkfs.btrfs makes of a folder, compared with the folder; and damaged ones. Images that Linux filled, with
//! subvolumes and packed files, are judged by `scripts/judge-tree`.

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::BlockDevice;
use imgsh::fs::{self, FileSystem, FileType, NodeId};
use md5::Digest;
use oracle::folder::{fill, on_host, walk, walk_damaged};
use oracle::guest::noise;
use oracle::{Random, Sparse, run, scratch};

const SUPERBLOCK: u64 = 0x1_0000;

fn made(options: &[&str], root: &Path) -> Arc<Sparse> {
    let dir = scratch();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(130 << 20).unwrap();
    let words = ["-q", "-L", "a label", "--rootdir", root.to_str().unwrap()];
    run("mkfs.btrfs", &[&words[..], options, &[image.to_str().unwrap()]].concat());
    Sparse::load(&image)
}

#[test]
fn folders_are_read_as_they_are() {
    let dir = scratch();
    fill(dir.path());
    let mut wanted = BTreeMap::new();
    on_host(dir.path(), "", &mut wanted);
    let kinds: &[&[&str]] = &[
        &[],
        &["-n", "4096", "-m", "single"],
        &["-n", "65536", "-O", "^no-holes"],
        &["--csum", "sha256"],
        &["--csum", "xxhash"],
        &["--csum", "blake2"],
    ];
    for options in kinds {
        let device = made(options, dir.path());
        let before = device.bytes();
        let mut fs = fs::open(device.device()).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let mut found = BTreeMap::new();
        walk(fs.as_ref(), fs.root(), "", &mut found).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{options:?}");
        for (path, node) in &wanted {
            assert!(found[path] == *node, "{options:?}: {path} differs");
        }
        let info = fs.info().unwrap();
        assert_eq!((info.fs_type.as_str(), info.label.as_str()), ("btrfs", "a label"));
        let error = fs.edit(Timestamp::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::ReadOnly);
        assert!(device.bytes() == before, "nothing was written");
    }
}

#[test]
fn what_is_not_read_is_named() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let device = made(&[], dir.path());
    let mut block = vec![0; 4096];
    let change = |at: usize, byte: u8, block: &mut Vec<u8>| {
        device.read_at(SUPERBLOCK, block).unwrap();
        let old = block.clone();
        block[at] = byte;
        let sum = crc32c::crc32c(&block[32..]).to_le_bytes();
        block[..4].copy_from_slice(&sum);
        device.write_at(SUPERBLOCK, block).unwrap();
        let error = fs::open(device.device()).err().map(|error| error.to_string());
        device.write_at(SUPERBLOCK, &old).unwrap();
        error.unwrap_or_default()
    };
    assert!(change(0xbd, 0x10, &mut block).contains("feature 'zoned' (incompat 0x1000)"));
    assert!(change(0xc2, 1, &mut block).contains("unknown features"));
    // All that is there is on the one that is here.
    assert_eq!(change(0x88, 2, &mut block), "");
    assert!(change(0xc4, 4, &mut block).contains("checksums of type 4"));
    assert!(change(0xc6, 3, &mut block).contains("its level is"));
    device.write_at(SUPERBLOCK + 5000, &[1]).unwrap();
    assert!(fs::open(device.device()).is_ok());
    device.write_at(SUPERBLOCK + 0x70, &[1]).unwrap();
    assert!(fs::open(device.device()).err().unwrap().to_string().contains("checksum is wrong"));
}

/// Damage in superblock and tree nodes, their sums made right again: an error or a result, and in bounded time.
#[test]
fn damaged_trees() {
    let dir = scratch();
    for i in 0..40 {
        std::fs::write(dir.path().join(format!("file-{i}")), noise(i * 97, i as u64)).unwrap();
    }
    symlink("target", dir.path().join("link")).unwrap();
    let device = made(&["-n", "4096", "-m", "single"], dir.path());
    let pages = device.snapshot();
    let mut bytes = vec![0; 4096];
    device.read_at(SUPERBLOCK, &mut bytes).unwrap();
    let uuid = bytes[0x20..0x30].to_vec();
    let blocks: Vec<u64> = (0..device.len() / 4096)
        .map(|number| number * 4096)
        .filter(|at| {
            device.read_at(*at, &mut bytes).unwrap();
            *at == SUPERBLOCK || bytes[0x20..0x30] == uuid && bytes[0x40..0x48] != *b"_BHRfS_M"
        })
        .collect();
    assert!(blocks.len() > 8, "{} nodes", blocks.len());
    let mut random = Random(3);
    let mut refused = 0;
    for _ in 0..1500 {
        let at = blocks[random.below(blocks.len() as u64) as usize];
        device.read_at(at, &mut bytes).unwrap();
        for _ in 0..=random.below(4) {
            // Heads and the items at the end are where something is.
            let place = if random.below(2) == 0 { random.below(600) } else { 4095 - random.below(800) };
            bytes[place as usize] = random.next() as u8;
        }
        let sum = crc32c::crc32c(&bytes[32..]).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        device.write_at(at, &bytes).unwrap();
        let result = fs::open(device.device()).and_then(|fs| walk_damaged(fs.as_ref(), fs.root(), 0));
        refused += u32::from(result.is_err());
        device.restore(pages.clone());
    }
    assert!(refused > 100, "{refused} damages were found");
}

/// A file system that was copied while it was mounted, and what Linux shows of it at the next mount (tests/btrfs/make-log).
fn with_log() -> (Arc<Sparse>, &'static str) {
    let image = zstd::decode_all(&include_bytes!("btrfs/log.zst")[..]).unwrap();
    (Sparse::from_bytes(&image), include_str!("btrfs/log.txt"))
}

/// The lines of log.txt, as we read the file system.
fn lines(fs: &dyn FileSystem, dir: NodeId, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs.read_dir(dir).unwrap() {
        let path = format!("{path}{}", entry.name);
        assert_eq!(fs.lookup(dir, &entry.name).unwrap(), Some(entry.node), "{path}");
        let meta = fs.metadata(entry.node).unwrap();
        let (kind, sum) = match meta.file_type {
            FileType::Directory => ("d", "-".to_string()),
            FileType::Symlink => ("l", fs.read_link(entry.node).unwrap().to_string()),
            _ => {
                let mut content = vec![0; meta.size as usize];
                assert_eq!(fs.read(entry.node, 0, &mut content).unwrap(), content.len());
                ("f", md5::Md5::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect())
            }
        };
        let mut line = format!("{kind} {:o} {} {} {path} {sum}", meta.mode, meta.links, meta.blocks);
        for (name, value) in fs.xattrs(entry.node).unwrap() {
            line += &format!(" {name}=\"{}\"", String::from_utf8_lossy(&value));
        }
        if meta.file_type == FileType::Directory {
            lines(fs, entry.node, &format!("{path}/"), found);
        }
        found.insert(path, line);
    }
}

#[test]
fn logs_are_replayed_as_linux_does() {
    let (device, wanted) = with_log();
    let before = device.bytes();
    let fs = fs::open(device.device()).unwrap();
    assert_eq!(fs.notice(), None);
    let mut found = BTreeMap::new();
    lines(fs.as_ref(), fs.root(), "", &mut found);
    assert_eq!(found.into_values().collect::<Vec<_>>(), wanted.lines().collect::<Vec<_>>());
    assert!(device.bytes() == before, "nothing was written");
}

#[test]
fn damaged_logs() {
    let (device, _) = with_log();
    let pages = device.snapshot();
    let mut bytes = vec![0; 4096];
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    // Nodes whose owner is the tree of logs; metadata lies once in this image.
    let logs: Vec<u64> = (0..device.len() / 4096)
        .map(|number| number * 4096)
        .filter(|at| {
            device.read_at(*at, &mut bytes).unwrap();
            bytes[0x20..0x30]
                == [0x10, 0x91, 0x09, 0x10, 0x7b, 0x52, 0x4f, 0x7e, 0xa6, 0xa1, 0x6d, 0x0b, 0x7a, 0x3c, 0x0e, 1]
                && word(&bytes, 0x58) == u64::MAX - 5
        })
        .collect();
    assert!(logs.len() > 1, "{} nodes", logs.len());
    let mut random = Random(11);
    let (mut refused, mut shown) = (0, 0);
    for _ in 0..1500 {
        let at = logs[random.below(logs.len() as u64) as usize];
        device.read_at(at, &mut bytes).unwrap();
        for _ in 0..=random.below(4) {
            let place = if random.below(2) == 0 { 100 + random.below(900) } else { 4095 - random.below(2500) };
            bytes[place as usize] = random.next() as u8;
        }
        let sum = crc32c::crc32c(&bytes[32..]).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        device.write_at(at, &bytes).unwrap();
        // What the file system was before the log is there all the same.
        let fs = fs::open(device.device()).unwrap();
        match fs.notice() {
            Some(notice) => {
                assert!(notice.contains("cannot be replayed"), "{notice}");
                refused += 1;
                walk_damaged(fs.as_ref(), fs.root(), 0).unwrap();
            }
            None => shown += u32::from(walk_damaged(fs.as_ref(), fs.root(), 0).is_ok()),
        }
        device.restore(pages.clone());
    }
    assert!(refused > 50 && shown > 50, "{refused} {shown}");
}

/// What btrfs-progs say of subvolumes (tests/btrfs/make-volumes).
#[test]
fn subvolumes_are_listed_as_btrfs_progs_do() {
    let image = zstd::decode_all(&include_bytes!("btrfs/volumes.zst")[..]).unwrap();
    let wanted = include_str!("btrfs/volumes.txt");
    let mut fs = fs::open(Sparse::from_bytes(&image).device()).unwrap();
    let btrfs = fs.as_btrfs().unwrap();
    let all = btrfs.subvolumes().unwrap();
    let mut lines: Vec<String> = Vec::new();
    for volume in &all {
        let path = String::from_utf8_lossy(&volume.path);
        lines.push(format!("ID {} gen {} top level {} path {path}", volume.id, volume.generations.0, volume.parent));
    }
    assert_eq!(btrfs.default_volume().unwrap(), all[0].id);
    lines.push(lines[0].clone());
    assert_eq!(lines, wanted.lines().take(5).collect::<Vec<_>>());
    // One text for each subvolume that was shown.
    let shown: Vec<&str> = wanted.split("\tName:").skip(1).collect();
    for (volume, text) in [&all[0], &all[2], &all[3]].into_iter().zip(shown) {
        let fact = |name: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
            line.unwrap().trim().to_string()
        };
        assert_eq!(text.lines().next().unwrap().trim().as_bytes(), volume.name());
        let words = ["UUID", "Parent UUID", "Received UUID"].map(fact);
        assert_eq!(volume.uuids.map(|uuid| uuid.map_or("-".into(), |uuid| uuid.to_string())), words);
        assert_eq!(volume.generations.1.to_string(), fact("Gen at creation"));
        assert_eq!(volume.read_only, fact("Flags") == "readonly");
        let (year, month, day, hour, minute, second) = volume.created.to_civil();
        let created = format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000");
        assert_eq!(created, fact("Creation time"));
    }
}
