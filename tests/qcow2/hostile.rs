//! Damaged images, for everything that looks at an image as a whole: an answer within a second of CPU time, and where it is
//! an error, not a byte is changed.

use std::fs;
use std::time::{Duration, Instant};

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{self, Disk};

use nix::sys::resource::{UsageWho, getrusage};

use crate::judge::*;

/// The most CPU time that a damaged image may cost.
const LIMIT: Duration = Duration::from_secs(1);
/// The most time on the clock: only to find what waits for ever, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// CPU time of this thread so far.
fn used() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    [used.user_time(), used.system_time()]
        .iter()
        .map(|t| Duration::new(t.tv_sec() as u64, t.tv_usec() as u32 * 1000))
        .sum()
}

/// Does something that may cost no more than [`LIMIT`].
fn limited<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let (start, before) = (Instant::now(), used());
    let answer = work();
    let cost = used() - before;
    assert!(cost < LIMIT && start.elapsed() < PATIENCE, "{name}: {cost:?} of {:?}", start.elapsed());
    answer
}

fn kept(name: &str, path: &std::path::Path, bytes: &[u8], mut work: impl FnMut() -> bool) {
    fs::write(path, bytes).unwrap();
    let done = limited(name, &mut work);
    if !done {
        assert!(fs::read(path).unwrap() == bytes, "{name}: an error, and the image is touched");
    }
    assert!(fs::metadata(path).unwrap().len() < 64 << 20, "{name}: the file has grown");
}

/// Everything that can be asked of an image as a whole.
fn everything_of(name: &str, path: &std::path::Path, bytes: &[u8]) {
    let now = Timestamp::from_seconds(1);
    kept(name, path, bytes, || qcow2::check(path, false).is_err());
    assert!(fs::read(path).unwrap() == bytes, "{name}: a check writes");
    kept(name, path, bytes, || qcow2::check(path, true).is_ok());
    kept(name, path, bytes, || qcow2::snapshots(path).is_err());
    kept(name, path, bytes, || qcow2::create_snapshot(path, "new", now).is_ok());
    kept(name, path, bytes, || qcow2::apply_snapshot(path, "one").is_ok());
    kept(name, path, bytes, || qcow2::delete_snapshot(path, "one").is_ok());
    kept(name, path, bytes, || disk::resize(path, 3 << 20, false, &no_keys).is_ok());
    kept(name, path, bytes, || disk::resize(path, 1 << 20, true, &no_keys).is_ok());
}

fn with_snapshots(dir: &std::path::Path, options: &str) -> Vec<u8> {
    base(dir, "base.raw", 2 << 20, 900);
    qemu(dir, &format!("convert -c -f raw -O qcow2 -o {options} base.raw image.qcow2"));
    qemu(dir, "snapshot -c one image.qcow2");
    qemu(dir, "snapshot -c two image.qcow2");
    fs::read(dir.join("image.qcow2")).unwrap()
}

#[test]
fn lying_snapshot_tables_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    let good = with_snapshots(dir, "cluster_size=4k");
    let table = u64::from_be_bytes(good[64..72].try_into().unwrap()) as usize;
    for (name, at, value) in [
        ("table at 0", 64, 0u64.to_be_bytes().to_vec()),
        ("table unaligned", 64, 0x1234u64.to_be_bytes().to_vec()),
        ("table outside", 64, (1u64 << 50).to_be_bytes().to_vec()),
        ("table at the end of numbers", 64, (!0xfffu64).to_be_bytes().to_vec()),
        ("more entries than there are", 60, 60_000u32.to_be_bytes().to_vec()),
        ("L1 unaligned", table, 0x1234u64.to_be_bytes().to_vec()),
        ("L1 outside", table, (1u64 << 50).to_be_bytes().to_vec()),
        ("L1 of 32 GiB", table + 8, u32::MAX.to_be_bytes().to_vec()),
        ("L1 is the header", table, 0u64.to_be_bytes().to_vec()),
        ("extra data of 4 GiB", table + 36, u32::MAX.to_be_bytes().to_vec()),
        ("extra data of 1025", table + 36, 1025u32.to_be_bytes().to_vec()),
        ("name of 65535", table + 14, u16::MAX.to_be_bytes().to_vec()),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(&value);
        everything_of(name, &path, &bytes);
        fs::write(&path, &bytes).unwrap();
        let applied = qcow2::apply_snapshot(&path, "one").map_err(|e| e.kind());
        assert!(matches!(applied, Err(Kind::Corrupt | Kind::NotFound)), "{name}: {applied:?}");
    }
}

/// A cluster with more users than its refcount says would be given back while the others need it; QEMU does so.
#[test]
fn clusters_with_more_users_than_counted_are_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    qemu(dir, "create -q -f qcow2 image.qcow2 1M");
    run("qemu-io", &["-c", "write -P 1 0 64k", "-c", "write -P 2 64k 64k", "image.qcow2"], dir);
    qemu(dir, "snapshot -c one image.qcow2");
    let good = fs::read(&path).unwrap();
    let be64 = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap()) & 0x00ff_ffff_ffff_fe00;
    let table = be64(be64(40) as usize) as usize;
    // Both places of the disk, and so those of the snapshot, at one cluster that is counted twice.
    let mut bytes = good.clone();
    bytes.copy_within(table..table + 8, table + 8);
    everything_of("one cluster, four users", &path, &bytes);
    for work in [
        (&|| qcow2::create_snapshot(&path, "two", Timestamp::from_seconds(1)).err()) as &dyn Fn() -> Option<_>,
        &|| qcow2::delete_snapshot(&path, "one").err(),
        &|| qcow2::apply_snapshot(&path, "one").err(),
        &|| {
            disk::open(&path, disk::OpenOptions::default())
                .and_then(|disk| disk.write_fresh(1 << 19, &[1; 65536]))
                .err()
        },
    ] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(work().map(|e| e.kind()), Some(Kind::Corrupt));
        assert!(fs::read(&path).unwrap() == bytes, "touched");
    }
}

/// Every bit of a place in the refcount table counts: QEMU does not leave out the highest ones, as it does in L1 and L2 tables.
#[test]
fn places_of_refcount_blocks_have_no_spare_bits() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("image.qcow2");
    let good = with_snapshots(temp.path(), "cluster_size=4k");
    let table = u64::from_be_bytes(good[48..56].try_into().unwrap()) as usize;
    for byte in [0, 7] {
        let mut bytes = good.clone();
        bytes[table + byte] |= 1;
        everything_of("spare bits", &path, &bytes);
        fs::write(&path, &bytes).unwrap();
        let applied = qcow2::apply_snapshot(&path, "one").map_err(|e| e.kind());
        assert_eq!(applied.unwrap_err(), Kind::Corrupt);
    }
}

#[test]
fn tables_without_end_are_not_walked_for_ever() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    // An L1 table of 32 MiB, sparse, whose entries all name one L2 table: 2^22 times 2^18 entries.
    qemu(dir, "create -q -f qcow2 -o cluster_size=2M image.qcow2 1M");
    run("qemu-io", &["-c", "write 0 64k", "image.qcow2"], dir);
    let mut bytes = fs::read(&path).unwrap();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let entry = bytes[l1..l1 + 8].to_vec();
    bytes.resize(bytes.len().next_multiple_of(2 << 20), 0);
    let new = bytes.len() as u64;
    bytes[36..40].copy_from_slice(&(1u32 << 22).to_be_bytes());
    bytes[40..48].copy_from_slice(&new.to_be_bytes());
    bytes.extend(entry.repeat(1 << 22));
    fs::write(&path, &bytes).unwrap();
    for work in [
        (&|| qcow2::check(&path, false).err().map(|e| e.kind())) as &dyn Fn() -> Option<Kind>,
        &|| qcow2::create_snapshot(&path, "x", Timestamp::from_seconds(1)).err().map(|e| e.kind()),
        &|| disk::resize(&path, 512, true, &no_keys).err().map(|e| e.kind()),
    ] {
        assert_eq!(limited("tables without end", work), Some(Kind::Corrupt));
    }
    assert!(fs::read(&path).unwrap() == bytes, "touched");
}

#[test]
fn random_damage_is_survived() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("damaged.qcow2");
    let mut random = Random(4712);
    for options in ["cluster_size=4k", "cluster_size=512,refcount_bits=8", "extended_l2=on,cluster_size=16k"] {
        let good = with_snapshots(dir, options);
        for round in 0..40 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(5) {
                let region = if round % 2 == 0 { 120 } else { good.len().min(1 << 18) as u64 };
                bytes[random.below(region) as usize] = random.next() as u8;
            }
            if random.below(8) == 0 {
                bytes.truncate(random.below(good.len() as u64) as usize);
            }
            everything_of(&format!("{options} round {round}"), &path, &bytes);
            // With compressed clusters: all of it is read, and read again in small pieces.
            if let Ok(disk) = Qcow2::open(&path, true) {
                let mut buf = vec![0; (disk.len().min(4 << 20)) as usize];
                disk.read_at(0, &mut buf).ok();
                buf.chunks_mut(10_000).enumerate().for_each(|(n, part)| drop(disk.read_at(n as u64 * 10_000, part)));
            }
        }
    }
}

#[test]
fn devices_are_no_backing_files() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    qemu(dir, "create -q -f qcow2 base.qcow2 1M");
    qemu(dir, "create -q -f qcow2 -F qcow2 -b base.qcow2 image.qcow2");
    run("mkfifo", &["pipe"], dir);
    for name in ["/dev/zero", "/dev/tty", "pipe", ".", "image.qcow2"] {
        for format in ["raw", "qcow2"] {
            qemu(dir, &format!("rebase -u -F {format} -b {name} image.qcow2"));
            let opened = limited(name, || Qcow2::open(&dir.join("image.qcow2"), true).is_err());
            assert!(opened, "{name}");
        }
    }
}

/// Starts the program once for every image that it is given, and prints of each run: exit status, milliseconds on the clock
/// and of the CPU, KiB of memory at most.
const RUNS: &str = r#"
import os, subprocess, sys, time
for image in sys.argv[2:]:
    start = time.time()
    quiet = subprocess.DEVNULL
    child = subprocess.Popen([sys.argv[1], "--ro", "-a", image], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    try:
        child.stdin.write(b"run\nchecksum-device crc /dev/sda\n")
        child.stdin.close()
    except BrokenPipeError:
        pass
    _, status, used = os.wait4(child.pid, 0)
    cost = int((used.ru_utime + used.ru_stime) * 1000)
    print(os.waitstatus_to_exitcode(status), int((time.time() - start) * 1000), cost, used.ru_maxrss)
"#;

#[test]
fn no_header_costs_much() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let good = with_snapshots(dir, "cluster_size=4k");
    let mut images = vec![("good".to_string(), good.clone())];
    for (at, width) in [
        (4, 4),
        (8, 8),
        (16, 4),
        (20, 4),
        (24, 8),
        (32, 4),
        (36, 4),
        (40, 8),
        (48, 8),
        (56, 4),
        (60, 4),
        (64, 8),
        (72, 8),
        (80, 8),
        (88, 8),
        (96, 4),
        (100, 4),
        (104, 1),
    ] {
        let most = u64::MAX >> (64 - 8 * width);
        for value in [0, 1, most / 2, most / 2 + 1, most] {
            let mut bytes = good.clone();
            bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
            images.push((format!("{value:#x} at {at}"), bytes));
        }
    }
    let cuts = (512..good.len().min(64 << 10)).step_by(512).chain((64 << 10..good.len()).step_by(32 << 10));
    images.extend(cuts.map(|len| (format!("cut at {len}"), good[..len].to_vec())));
    let names: Vec<String> = (0..images.len()).map(|number| format!("{number}.qcow2")).collect();
    for (name, (_, bytes)) in names.iter().zip(&images) {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let args = [&["-c", RUNS, env!("CARGO_BIN_EXE_imgsh")], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]]
        .concat();
    let report = run("python3", &args, dir);
    let lines: Vec<Vec<u64>> =
        report.lines().map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect();
    assert_eq!((lines.len(), lines[0][0]), (images.len(), 0), "{report}");
    for ((what, bytes), (line, name)) in images.iter().zip(lines.iter().zip(&names)) {
        assert!(line[0] <= 1, "{what}: status {}", line[0]);
        assert!(line[1] < PATIENCE.as_millis() as u64, "{what}: {} ms", line[1]);
        assert!(line[2] < LIMIT.as_millis() as u64, "{what}: {} ms of CPU time", line[2]);
        assert!(line[3] < lines[0][3] + (64 << 10), "{what}: {} KiB, a good image takes {}", line[3], lines[0][3]);
        assert!(fs::read(dir.join(name)).unwrap() == *bytes, "{what}: touched");
    }
    assert!(lines.iter().filter(|line| line[0] == 1).count() > images.len() / 3, "{report}");
}
