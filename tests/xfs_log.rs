//! XFS that was not unmounted: its log is replayed in memory, and then everything reads as Linux shows it after its own replay.
//! `tests/xfs-log` makes the images.

mod oracle;

use std::path::Path;
use std::process::Command;

use imgsh::fs::{self, FileSystem, FileType, NodeId};
use md5::{Digest, Md5};
use oracle::{Sparse, scratch};

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

const GEOMETRIES: &[&str] = &[
    "-l size=6m",
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
    let differences = differences(&found, &wanted);
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
    let runs = std::env::var("XFS_LOG_RUNS").unwrap_or_else(|_| "0-3".into());
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
