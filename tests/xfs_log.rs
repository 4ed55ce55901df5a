//! XFS that was not unmounted: its log is replayed in memory, and then everything reads as Linux shows it after its own replay.
//! `tests/xfs-log` makes the images.

mod oracle;

use std::io::Read;
use std::path::Path;
use std::process::Command;

use imgsh::base::bytes::{be32, be64, put_le32};
use imgsh::disk::BlockDevice;
use imgsh::fs::{self, FileSystem, FileType, NodeId};
use md5::{Digest, Md5};
use oracle::folder::walk_damaged;
use oracle::{Random, Sparse, scratch};

fn digest(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn quoted(name: &[u8]) -> String {
    let each = |byte: &u8| match byte {
        33..127 if *byte != b'%' => char::from(*byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    name.iter().map(each).collect()
}

/// A line of a node, as `tests/xfs-log/list.py` writes it.
fn line(fs: &dyn FileSystem, path: &[u8], node: NodeId) -> imgsh::base::Result<String> {
    let meta = fs.metadata(node)?;
    let content = match meta.file_type {
        FileType::Regular => {
            let mut bytes = vec![0; meta.size as usize];
            fs.read(node, 0, &mut bytes)?;
            digest(&bytes)
        }
        FileType::Symlink => digest(&fs.read_link(node)?.0),
        _ => "-".into(),
    };
    let time = |time: imgsh::base::Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let mut attributes = fs.xattrs(node)?;
    attributes.sort();
    let all: Vec<u8> = attributes.iter().flat_map(|(name, value)| [&name.0, &b"="[..], value, b";"].concat()).collect();
    let path = if path.is_empty() { "/".into() } else { quoted(path) };
    let (mode, major, minor) = (meta.file_type.mode_bits() | meta.mode, meta.device.0, meta.device.1);
    let times = [meta.accessed, meta.modified, meta.changed].map(|t| time(t).to_string()).join(" ");
    Ok(format!(
        "{path} 0o{mode:o} {} {} {} {} {} {} {major}:{minor} {times} {content} {} {}",
        meta.inode,
        meta.uid,
        meta.gid,
        meta.links,
        meta.size,
        meta.blocks,
        attributes.len(),
        digest(&all)
    ))
}

/// All nodes of a file system; what cannot be read is said in its line.
fn listed(fs: &dyn FileSystem) -> Vec<String> {
    let mut lines = Vec::new();
    let mut queue = vec![(Vec::new(), fs.root())];
    while let Some((path, node)) = queue.pop() {
        let text = line(fs, &path, node).unwrap_or_else(|error| format!("{} {error}", quoted(&path)));
        lines.push(text);
        if !fs.metadata(node).is_ok_and(|meta| meta.file_type == FileType::Directory) {
            continue;
        }
        match fs.read_dir(node) {
            Ok(entries) => entries.into_iter().for_each(|entry| {
                assert_eq!(fs.lookup(node, &entry.name).ok(), Some(Some(entry.node)), "{}", entry.name);
                queue.push(([&path, &b"/"[..], &entry.name].concat(), entry.node));
            }),
            Err(error) => lines.push(format!("{} {error}", quoted(&path))),
        }
    }
    lines.sort();
    lines
}

/// The lines that differ, at most a few.
fn differences(found: &[String], wanted: &[String]) -> Vec<String> {
    let only = |these: &[String], those: &[String], sign: &str| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    [only(wanted, found, "linux"), only(found, wanted, "ours ")].concat()
}

/// The image that `tests/xfs-log/make-image` made, and what Linux shows of it.
fn of_linux() -> (Vec<u8>, Vec<String>) {
    let unpacked = |packed: &[u8]| {
        let mut bytes = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(packed).unwrap();
        decoder.window_log_max(27).unwrap();
        decoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let list = String::from_utf8(unpacked(include_bytes!("xfs-log/list.zst"))).unwrap();
    (unpacked(include_bytes!("xfs-log/image.zst")), list.lines().map(str::to_string).collect())
}

/// First byte and bytes of the log.
fn log_of(image: &[u8]) -> (usize, usize) {
    let (block, first, bits) = (be32(image, 4) as usize, be64(image, 48), image[124]);
    let (group, inside) = (first >> bits, first & ((1 << bits) - 1));
    let start = (group as usize * be32(image, 84) as usize + inside as usize) * block;
    (start, be32(image, 96) as usize * block)
}

const SECTOR: usize = 512;
const MAGIC: u32 = 0xfeed_babe;

/// Places of the live records of a log with one header each, and their lengths with it.
fn records(image: &[u8]) -> Vec<(usize, usize)> {
    let (start, len) = log_of(image);
    // What was never written has headers of cycle 0.
    let is_record = |at: &usize| be32(image, *at) == MAGIC && be32(image, at + 4) != 0;
    let places: Vec<usize> = (start..start + len).step_by(SECTOR).filter(is_record).collect();
    let tail = start + be32(image, places.last().unwrap() + 28) as usize * SECTOR;
    places.into_iter().filter(|at| *at >= tail).map(|at| (at, SECTOR + be32(image, at + 12) as usize)).collect()
}

fn stamp(image: &mut [u8], (at, len): (usize, usize)) {
    put_le32(image, at + 32, 0);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&image[at..at + 328]), &image[at + SECTOR..at + len]);
    put_le32(image, at + 32, sum);
}

#[test]
fn a_log_of_linux_is_replayed() {
    let (mut image, wanted) = of_linux();
    let device = Sparse::from_bytes(&image);
    let fs = fs::open(device.device()).unwrap();
    assert_eq!(differences(&listed(fs.as_ref()), &wanted), Vec::<String>::new());
    assert!(fs.notice().unwrap().contains("its log is replayed in memory"));
    assert!(device.bytes() == image, "reading writes nothing");

    // Sums are checked as this test makes them, so that damaged records below are taken.
    let places = records(&image);
    let last = *places.last().unwrap();
    let sum = be32(&image, last.0 + 32);
    stamp(&mut image, last);
    assert_eq!(be32(&image, last.0 + 32), sum);

    // Of a record that is torn nothing counts, and of none nothing is there.
    image[last.0 + SECTOR + 40] ^= 1;
    let torn = fs::open(Sparse::from_bytes(&image).device()).unwrap();
    assert!(torn.notice().unwrap().contains("its log is replayed in memory"));
    let without = listed(torn.as_ref());
    assert_ne!(without, wanted);
    let (start, len) = log_of(&image);
    image[start..start + len].fill(0);
    let older = fs::open(Sparse::from_bytes(&image).device()).unwrap();
    assert_eq!(older.notice(), None);
    assert!(listed(older.as_ref()).len() < wanted.len());
}

#[test]
fn what_is_not_replayed_is_said() {
    let (image, _) = of_linux();
    let notice = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = image.clone();
        change(&mut image);
        fs::open(Sparse::from_bytes(&image).device()).unwrap().notice().unwrap_or_default()
    };
    let superblock = |at: usize, byte: u8| {
        notice(&|image| {
            image[at] = byte;
            put_le32(image, 224, 0);
            let sum = crc32c::crc32c(&image[..SECTOR]);
            put_le32(image, 224, sum);
        })
    };
    assert!(superblock(223, 3).contains("unknown features, log_incompat 0x2"), "{}", superblock(223, 3));
    assert!(superblock(48, 0x70).contains("outside the file system"));
    let header = |at: usize, byte: u8| {
        notice(&|image| {
            for place in records(image) {
                image[place.0 + at] = byte;
                stamp(image, place);
            }
        })
    };
    assert!(header(303, 2).contains("byte order"), "{}", header(303, 2));
    assert!(header(305, 9).contains("another file system's"));
}

/// Damage in the log, most of it with the right sums: all is read, or an error, and in bounded time.
#[test]
fn damaged_logs() {
    let (image, _) = of_linux();
    let places = records(&image);
    let (first, last) = (places[0].0, places.last().map(|(at, len)| at + len).unwrap());
    let device = Sparse::from_bytes(&image);
    let mut random = Random(7);
    let mut kinds = [0; 2];
    for round in 0..500 {
        let mut bytes = image[..last].to_vec();
        for _ in 0..=random.below(3) {
            let (at, len) = places[random.below(places.len() as u64) as usize];
            for _ in 0..=random.below(4) {
                // Headers of records, headers of operations and items, and anything.
                let place = match random.below(4) {
                    0 => random.below(48),
                    1 => 300 + random.below(28),
                    2 => SECTOR as u64 + random.below(400),
                    _ => random.below(len as u64),
                };
                let value = [0, 0xff, 1 << random.below(8), random.next() as u8][random.below(4) as usize];
                bytes[at + place as usize] = value;
            }
            let len = SECTOR + be32(&bytes, at + 12) as usize;
            if random.below(10) > 0 && at + len <= bytes.len() {
                stamp(&mut bytes, (at, len));
            }
        }
        let start = std::time::Instant::now();
        device.write_at(first as u64, &bytes[first..]).unwrap();
        let fs = fs::open(device.device()).unwrap();
        let replayed = fs.notice().unwrap_or_default().contains("is replayed");
        kinds[usize::from(replayed)] += 1;
        let _ = walk_damaged(fs.as_ref(), fs.root(), 0);
        assert!(start.elapsed().as_secs() < 20, "round {round}");
    }
    assert!(kinds[0] > 50 && kinds[1] > 50, "refused and replayed: {kinds:?}");
}

const GEOMETRIES: &[&str] = &[
    "-l size=6m",
    "-d size=305m,agsize=64m -l size=6m",
    "-m rmapbt=1,reflink=1,bigtime=1 -i nrext64=1 -l size=13m",
    "-b size=1024 -l size=5m",
    "-d agcount=7 -l size=8m",
    "-i size=1024 -n size=8192 -l size=10m",
    "-l size=8m,su=32k",
    "-l size=20m,su=256k",
    "-s size=4096 -l size=8m",
    "-m bigtime=0,reflink=0 -i sparse=0 -l size=8m",
    "-b size=1024 -n size=16384 -m rmapbt=1 -l size=16m",
];
const CUTS: [&str; 4] = ["flush", "now", "torn", "hole"];

/// Makes an image, and compares; answers the differences, or nothing where images cannot be mounted.
fn run(seed: usize, dir: &Path) -> Option<Vec<String>> {
    let (image, list) = (dir.join(format!("image-{seed}")), dir.join(format!("list-{seed}")));
    let (geometry, cut) = (GEOMETRIES[seed % GEOMETRIES.len()], CUTS[(seed + seed / GEOMETRIES.len()) % CUTS.len()]);
    let rounds = if seed.is_multiple_of(3) { "12" } else { "40" };
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xfs-log/make-dirty"))
        .args([&seed.to_string(), rounds, cut, image.to_str()?, list.to_str()?, "320M"])
        .args(geometry.split(' '))
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make-dirty {seed} {cut} {geometry}: {errors}");
    let device = Sparse::load(&image);
    let before = device.snapshot();
    let fs = fs::open(device.device()).unwrap();
    let found = listed(fs.as_ref());
    assert!(device.snapshot() == before, "reading writes nothing");
    let text = std::fs::read_to_string(&list).unwrap();
    let wanted: Vec<String> = text.lines().map(str::to_string).collect();
    let notice = fs.notice().unwrap_or_default();
    // A log that Linux refuses is refused.
    let refused = wanted == ["Linux does not mount it"] && notice.contains("its log is not replayed");
    let differences = if refused { Vec::new() } else { differences(&found, &wanted) };
    println!("{seed} {cut} {geometry}: {} nodes, {} differ; {notice}", wanted.len(), differences.len());
    let keep = std::env::var("XFS_LOG_KEEP");
    if let (Ok(folder), false) = (keep, differences.is_empty()) {
        [&image, &list].iter().for_each(|path| {
            std::fs::copy(path, Path::new(&folder).join(path.file_name().unwrap())).unwrap();
        });
    }
    [image, list].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    Some(differences)
}

/// Random work in every geometry and with every kind of end. `XFS_LOG_RUNS=FROM-TO` does those seeds.
#[test]
fn random_work_is_read_as_linux_replays_it() {
    let runs = std::env::var("XFS_LOG_RUNS").unwrap_or_else(|_| "1-3".into());
    let (from, to) = runs.split_once('-').unwrap();
    let is_root = nix::unistd::Uid::effective().is_root();
    let dir = scratch();
    let mut wrong = 0;
    for seed in from.parse().unwrap()..=to.parse().unwrap() {
        let Some(differences) = is_root.then(|| run(seed, dir.path())).flatten() else {
            println!("SKIPPED: no judgement by the kernel, XFS images cannot be mounted here");
            return;
        };
        differences.iter().take(6).for_each(|line| println!("{line}"));
        wrong += differences.len();
    }
    assert_eq!(wrong, 0, "differences");
}
