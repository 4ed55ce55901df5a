//! Copies of whole disks: every kind into every kind, odd sizes, and what goes wrong half-way.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use imgsh::base::{Error, Kind, Result};
use imgsh::disk::{self, Changes, CreateOptions, Disk, Format, OpenOptions, Run, convert};

use crate::judge::*;

fn open(path: &Path) -> Box<dyn Disk> {
    disk::open(path, OpenOptions { format: None, read_only: true }).unwrap()
}

fn options(change: fn(&mut CreateOptions)) -> CreateOptions {
    let mut options = CreateOptions::default();
    change(&mut options);
    options
}

/// Copies and has qemu-img judge.
fn copy(dir: &Path, source: &str, what: &str, format: Format, options: &CreateOptions, compress: bool) {
    let target = dir.join("copy");
    convert::convert(open(&dir.join(source)).as_ref(), &target, format, options, compress).unwrap();
    let name = format.name();
    let of = if source.ends_with(".raw") { "raw" } else { "qcow2" };
    run("qemu-img", &["compare", "-f", of, "-F", name, source, "copy"], dir);
    if format == Format::Qcow2 {
        let check = qemu(dir, "check -f qcow2 copy");
        assert!(check.contains("No errors"), "{what}: {check}");
    }
}

fn nothing_left(dir: &Path) {
    let left: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("part") || name == "copy")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_kind_into_every_kind() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    // Several pieces, and an end in the middle of a cluster of any size.
    base(dir, "base.raw", 5_000_704, 600);
    qemu(dir, "create -q -f qcow2 -F raw -b base.raw over.qcow2 6M");
    run("qemu-io", &["-c", "write -P 5 70k 300k", "-c", "write -z 3M 100k", "over.qcow2"], dir);
    let mut sources = vec!["base.raw".to_string(), "over.qcow2".to_string()];
    for (number, kind) in [
        "-o cluster_size=64k",
        "-c",
        "-c -o cluster_size=512",
        "-c -o cluster_size=4k",
        "-c -o cluster_size=2M",
        "-c -o compression_type=zstd",
        "-c -o compression_type=zstd,cluster_size=4k",
        "-c -o compression_type=zstd,cluster_size=2M",
        "-c -o compat=0.10",
        "-o extended_l2=on",
        "-c -o extended_l2=on",
        "-o cluster_size=512",
        "-o preallocation=metadata",
    ]
    .iter()
    .enumerate()
    {
        sources.push(format!("{number}.qcow2"));
        qemu(dir, &format!("convert -f raw -O qcow2 {kind} base.raw {number}.qcow2"));
    }
    // A compressed base under clusters of another size.
    qemu(dir, "create -q -f qcow2 -o cluster_size=4k -F qcow2 -b 4.qcow2 high.qcow2 7M");
    run("qemu-io", &["-c", "write -P 6 3k 9k", "-c", "write -P 7 2500k 40k", "high.qcow2"], dir);
    sources.push("high.qcow2".into());
    for (number, source) in sources.iter().enumerate() {
        copy(dir, source, source, Format::Raw, &CreateOptions::default(), false);
        // Every other one, which are all of them for each two sources.
        for (change, compress) in [
            ((|_| ()) as fn(&mut CreateOptions), false),
            (|_| (), true),
            (|o| o.compression = Some("zstd".into()), true),
            (|o| o.cluster_size = Some(512), false),
            (|o| (o.cluster_size, o.compression) = (Some(2 << 20), Some("zstd".into())), true),
            (|o| (o.cluster_size, o.refcount_bits) = (Some(512), Some(2)), true),
        ]
        .iter()
        .skip(number % 2)
        .step_by(2)
        {
            let options = options(*change);
            copy(dir, source, &format!("{source} {options:?}"), Format::Qcow2, &options, *compress);
        }
    }
}

#[test]
fn odd_sizes_are_copied() {
    for size in [0, 1, 511, 512, 4095, 4097, 65_537, (1 << 20) - 1, (1 << 20) + 1, 3_333_333] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let bytes = base(dir, "base.raw", size, 700 + size as u64);
        for compress in [false, true] {
            copy(dir, "base.raw", &format!("{size}"), Format::Qcow2, &CreateOptions::default(), compress);
        }
        fs::rename(dir.join("copy"), dir.join("image.qcow2")).unwrap();
        copy(dir, "image.qcow2", &format!("{size}"), Format::Raw, &CreateOptions::default(), false);
        let back = fs::read(dir.join("copy")).unwrap();
        assert_eq!(back.len(), size.next_multiple_of(512));
        same("back", &back[..size], &bytes);
    }
}

#[test]
fn holes_stay_and_zeros_become_holes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let file = fs::File::create(dir.join("base.raw")).unwrap();
    file.set_len(3 << 30).unwrap();
    // Around the borders of pieces and windows, and zeros that take space.
    for at in [0, (1 << 20) - 3, (256 << 20) - 5000, (300 << 20) + 77, (2 << 30) - 4096, (3 << 30) - 9] {
        file.write_all_at(b"something", at).unwrap();
    }
    file.write_all_at(&vec![0; 5 << 20], 700 << 20).unwrap();
    let blocks = |name: &str| fs::metadata(dir.join(name)).unwrap().blocks() * 512;
    copy(dir, "base.raw", "raw", Format::Raw, &CreateOptions::default(), false);
    assert!(blocks("copy") <= 9 * 4096, "{}", blocks("copy"));
    for compress in [false, true] {
        copy(dir, "base.raw", "qcow2", Format::Qcow2, &CreateOptions::default(), compress);
        assert!(fs::metadata(dir.join("copy")).unwrap().len() < 2 << 20);
    }
    fs::rename(dir.join("copy"), dir.join("image.qcow2")).unwrap();
    copy(dir, "image.qcow2", "back", Format::Raw, &CreateOptions::default(), false);
    assert!(blocks("copy") <= 9 * 4096, "{}", blocks("copy"));
}

#[test]
fn copies_are_the_same_every_time() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    base(dir, "base.raw", 20 << 20, 800);
    let source = open(&dir.join("base.raw"));
    for compress in [false, true] {
        let mut first = None;
        for _ in 0..5 {
            let options = options(|o| o.cluster_size = Some(4096));
            convert::convert(source.as_ref(), &dir.join("copy"), Format::Qcow2, &options, compress).unwrap();
            let bytes = fs::read(dir.join("copy")).unwrap();
            assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "compress: {compress}");
        }
    }
}

/// A disk that does something at some of its bytes.
struct Trap<'a> {
    disk: &'a dyn Disk,
    at: Vec<u64>,
    act: fn(u64) -> Result<()>,
    maps: bool,
}

impl Trap<'_> {
    fn step(&self, range: Range<u64>) -> Result<()> {
        self.at.iter().filter(|at| range.contains(at)).try_for_each(|at| (self.act)(*at))
    }
}

impl Disk for Trap<'_> {
    fn len(&self) -> u64 {
        self.disk.len()
    }
    fn format(&self) -> &'static str {
        self.disk.format()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.step(offset..offset + buf.len() as u64)?;
        self.disk.read_at(offset, buf)
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        if self.maps {
            self.step(range.clone())?;
        }
        self.disk.runs(range)
    }
    fn write_fresh(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn commit(&self, _: &dyn Changes) -> Result<()> {
        Err(Kind::ReadOnly.into())
    }
    fn abandon(&self) -> Result<()> {
        Ok(())
    }
    fn files(&self) -> Vec<PathBuf> {
        self.disk.files()
    }
}

/// Every form of a copy of `disk` fails with these words, and nothing is left behind.
fn fails(dir: &Path, disk: &dyn Disk, kind: Kind, words: &[&str]) {
    for (format, compress) in [(Format::Raw, false), (Format::Qcow2, false), (Format::Qcow2, true)] {
        for _ in 0..3 {
            let error = convert::convert(disk, &dir.join("copy"), format, &CreateOptions::default(), compress);
            let error = error.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            for word in words {
                assert!(error.to_string().contains(word), "{error}: no {word}");
            }
            nothing_left(dir);
        }
    }
}

#[test]
fn a_read_that_fails_in_the_middle_stops_the_copy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::write(dir.join("base.raw"), vec![1; 20 << 20]).unwrap();
    let disk = open(&dir.join("base.raw"));
    let fail = |_| Err(Error::new(Kind::Io, "the disk is broken"));
    // Of several the first is told.
    let at = vec![5 << 20, 6 << 20, 19 << 20];
    let trap = Trap { disk: disk.as_ref(), at, act: fail, maps: false };
    fails(dir, &trap, Kind::Io, &["base.raw", "the disk is broken", "at 5242880"]);
    let trap = Trap { disk: disk.as_ref(), at: vec![0], act: fail, maps: true };
    fails(dir, &trap, Kind::Io, &["the disk is broken"]);
}

#[test]
fn a_thread_that_panics_stops_the_copy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::write(dir.join("base.raw"), vec![1; 20 << 20]).unwrap();
    let disk = open(&dir.join("base.raw"));
    for (at, maps) in [(0, false), (7 << 20, false), ((20 << 20) - 1, false), (0, true)] {
        let trap = Trap { disk: disk.as_ref(), at: vec![at], act: |_| panic!("on purpose"), maps };
        fails(dir, &trap, Kind::Internal, &["died"]);
    }
}

#[test]
fn a_copy_can_be_stopped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::write(dir.join("base.raw"), vec![1; 50 << 20]).unwrap();
    let disk = open(&dir.join("base.raw"));
    let slow = |_| {
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    };
    let trap = Trap { disk: disk.as_ref(), at: (0..50).map(|n| n << 20).collect(), act: slow, maps: false };
    for (format, compress) in [(Format::Raw, false), (Format::Qcow2, true)] {
        let mut asked = 0;
        let going = &mut || {
            asked += 1;
            asked < 3
        };
        let start = std::time::Instant::now();
        let stopped =
            convert::convert_while(&trap, &dir.join("copy"), format, &CreateOptions::default(), compress, going);
        assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
        assert_eq!(asked, 3);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        nothing_left(dir);
    }
}

#[test]
fn a_damaged_stream_is_named() {
    for kind in ["zlib", "zstd"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let text: Vec<u8> = (0..800_000u32).flat_map(|n| format!("{n} ").into_bytes()).take(5 << 20).collect();
        fs::write(dir.join("base.raw"), text).unwrap();
        qemu(dir, &format!("convert -c -f raw -O qcow2 -o compression_type={kind} base.raw image.qcow2"));
        let path = dir.join("image.qcow2");
        let mut bytes = fs::read(&path).unwrap();
        let at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize & 0xff_ffff_ffff;
        let entry = at(at(at(40)) + 8 * 40);
        bytes[entry..entry + 5000].fill(0xff);
        fs::write(&path, bytes).unwrap();
        let words = ["image.qcow2", &format!("compressed cluster at {entry}: damaged"), "reading the disk at 2097152"];
        fails(dir, open(&path).as_ref(), Kind::Corrupt, &words);
    }
}

#[test]
fn a_full_host_stops_the_copy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    base(dir, "base.raw", 20 << 20, 900);
    for compress in ["false", "true"] {
        // A limit on the length of files is the next best thing to a full disk.
        let line = format!(
            "trap '' XFSZ; ulimit -f 2000; exec {} disk-convert base.raw copy qcow2 compress:{compress}",
            env!("CARGO_BIN_EXE_imgsh")
        );
        let done = Command::new("bash").args(["-c", &line]).current_dir(dir).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && text.contains("copy: File too large, writing at "), "{text}");
        nothing_left(dir);
    }
}
