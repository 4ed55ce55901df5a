//! Persistent dirty bitmaps, read back by QEMU's NBD server: a backup that copies only what they say must be whole.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{self, Disk};

use crate::judge::*;

const CLUSTER: u64 = 65_536;

/// What a bitmap calls changed, as QEMU reads it.
fn dirty(dir: &Path, image: &str, name: &str) -> Vec<Range<u64>> {
    let socket = dir.join("socket");
    fs::remove_file(&socket).ok();
    let mut server = Command::new("qemu-nbd")
        .args(["-r", "-t", "-f", "qcow2", "-B", name, "-k"])
        .args([&socket, &dir.join(image)])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let options =
        format!("driver=nbd,server.type=unix,server.path={},x-dirty-bitmap=qemu:dirty-bitmap:{name}", socket.display());
    // Until the server listens.
    let map = (0..3000)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            Command::new("qemu-img").args(["map", "--output=json", "--image-opts", &options]).output().unwrap()
        })
        .find(|map| map.status.success());
    server.kill().unwrap();
    server.wait().unwrap();
    let map = map.unwrap_or_else(|| panic!("{image} {name}: no map"));
    let text = String::from_utf8(map.stdout).unwrap();
    let number = |line: &str, key: &str| -> u64 {
        let rest = &line[line.find(key).unwrap() + key.len()..];
        rest[..rest.find(',').unwrap()].trim().parse().unwrap()
    };
    // QEMU shows what is dirty as a part without data.
    let parts = text.lines().filter(|line| line.contains("\"data\": false"));
    parts.map(|line| (number(line, "\"start\":"), number(line, "\"length\":"))).map(|(at, len)| at..at + len).collect()
}

fn only(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

/// `old`, with what the bitmap says copied from `new`.
fn incremental(old: &[u8], new: &[u8], dirty: &[Range<u64>]) -> Vec<u8> {
    let mut backup = old.to_vec();
    backup.resize(new.len(), 0);
    for range in dirty {
        let range = range.start as usize..(range.end as usize).min(new.len());
        backup[range.clone()].copy_from_slice(&new[range]);
    }
    backup
}

/// Whether all that is dirty lies in clusters that a change touches.
fn is_touched(dirty: &[Range<u64>], changes: &[Range<u64>], cluster: u64) -> bool {
    let mut clusters = dirty.iter().flat_map(|range| range.start / cluster..range.end.div_ceil(cluster));
    clusters
        .all(|number| changes.iter().any(|range| range.start < (number + 1) * cluster && number * cluster < range.end))
}

fn clean(dir: &Path, image: &str) {
    let check = qemu(dir, &format!("check {image}"));
    assert!(check.contains("No errors were found"), "{check}");
}

/// Where the directory of bitmaps is.
fn directory(bytes: &[u8]) -> usize {
    let extension = bytes.windows(8).position(|w| w == [0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24]).unwrap();
    u64::from_be_bytes(bytes[extension + 24..extension + 32].try_into().unwrap()) as usize
}

/// Changes a field of the first bitmap's directory entry.
fn forge(path: &Path, at: usize, value: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let directory = directory(&bytes);
    bytes[directory + at..directory + at + value.len()].copy_from_slice(value);
    fs::write(path, bytes).unwrap();
}

fn change(path: &Path, changes: Vec<(u64, Edit)>) -> imgsh::base::Result<()> {
    Qcow2::open(path, false)?.commit(&Edits(changes))
}

#[test]
fn what_a_commit_changes_is_noted() {
    let shapes = [
        ("create -q -f qcow2 image.qcow2 5M", CLUSTER),
        ("create -q -f qcow2 -o cluster_size=512 image.qcow2 5M", 512),
        ("create -q -f qcow2 -o extended_l2=on -F raw -b base.raw image.qcow2 5M", CLUSTER),
        ("create -q -f qcow2 -o cluster_size=4k,refcount_bits=64 -F raw -b base.raw image.qcow2 5M", 4096),
    ];
    for (seed, (line, cluster)) in shapes.into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        base(dir, "base.raw", SIZE, 17);
        qemu(dir, line);
        for add in ["-g 65536 image.qcow2 coarse", "-g 512 image.qcow2 fine", "--disable image.qcow2 stopped"] {
            qemu(dir, &format!("bitmap --add {add}"));
        }
        run("qemu-io", &["-c", "write -P 5 1M 2M", "image.qcow2"], dir);
        qemu(dir, "bitmap --clear image.qcow2 coarse");
        qemu(dir, "bitmap --clear image.qcow2 fine");
        let old = raw_of(dir, "image.qcow2");
        let mut new = old.clone();
        let mut random = Random(50 + seed as u64);
        // Twice by one object, and once more by another.
        let disk = Qcow2::open(&dir.join("image.qcow2"), false).unwrap();
        new[3_000_000..3_000_100].fill(7);
        disk.write_fresh(3_000_000, &[7; 100]).unwrap();
        let changes = edits(&mut random, &mut new);
        disk.commit(&changes).unwrap();
        disk.commit(&Edits(vec![(70_000, Edit::Data(vec![1; 10]))])).unwrap();
        new[70_000..70_010].fill(1);
        drop(disk);
        change(&dir.join("image.qcow2"), vec![(4_000_000, Edit::Data(vec![2; 3]))]).unwrap();
        new[4_000_000..4_000_003].fill(2);
        clean(dir, "image.qcow2");
        same(line, &raw_of(dir, "image.qcow2"), &new);
        for name in ["coarse", "fine"] {
            let found = dirty(dir, "image.qcow2", name);
            same(name, &incremental(&old, &new, &found), &new);
        }
        // To the cluster, and no more than that.
        let fine = dirty(dir, "image.qcow2", "fine");
        let mut touched = vec![3_000_000..3_000_100, 70_000..70_010, 4_000_000..4_000_003];
        touched.extend(changes.0.iter().map(|(at, edit)| match edit {
            Edit::Data(data) => *at..at + data.len() as u64,
            Edit::Zero(len) => *at..at + len,
        }));
        assert!(is_touched(&fine, &touched, cluster), "{line}: {fine:?}");
        assert!(dirty(dir, "image.qcow2", "stopped").is_empty(), "{line}: a disabled bitmap is another one");
        // QEMU goes on with them.
        qemu(dir, "bitmap --merge fine image.qcow2 stopped");
        assert_eq!(
            dirty(dir, "image.qcow2", "stopped").first().map(|r| r.start / CLUSTER),
            fine.first().map(|r| r.start / CLUSTER)
        );
        run("qemu-io", &["-c", "write -P 9 2M 1k", "image.qcow2"], dir);
        let newest = raw_of(dir, "image.qcow2");
        same("after QEMU", &incremental(&old, &newest, &dirty(dir, "image.qcow2", "coarse")), &newest);
        clean(dir, "image.qcow2");
    }
}

#[test]
fn a_commit_that_changes_all_fills_the_bitmap() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    qemu(dir, "create -q -f qcow2 -o cluster_size=512 image.qcow2 4M");
    qemu(dir, "bitmap --add -g 512 image.qcow2 all");
    let path = dir.join("image.qcow2");
    change(&path, vec![(0, Edit::Data(vec![3; 4 << 20]))]).unwrap();
    assert_eq!(dirty(dir, "image.qcow2", "all"), only(0..4 << 20));
    clean(dir, "image.qcow2");
    // Nothing is left to note.
    change(&path, vec![(512, Edit::Data(vec![4; 512]))]).unwrap();
    assert_eq!(dirty(dir, "image.qcow2", "all"), only(0..4 << 20));
    clean(dir, "image.qcow2");
}

#[test]
fn bitmaps_that_are_not_to_be_trusted_stay_so() {
    // Field, its new bytes, and whether QEMU calls the bitmap inconsistent afterwards.
    let cases: [(&str, usize, &[u8]); 4] = [
        ("in use", 12, &[0, 0, 0, 3]),
        ("unknown type", 16, &[9]),
        ("unknown flag", 12, &[0, 0, 1, 2]),
        ("granularity of 2^64", 17, &[64]),
    ];
    for (name, at, value) in cases {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        qemu(dir, "create -q -f qcow2 image.qcow2 5M");
        qemu(dir, "bitmap --add -g 65536 image.qcow2 first");
        qemu(dir, "bitmap --add -g 65536 image.qcow2 second");
        let path = dir.join("image.qcow2");
        forge(&path, at, value);
        change(&path, vec![(200_000, Edit::Data(vec![1; 10]))]).unwrap();
        let resized = disk::resize(&path, 6 << 20, false, &no_keys).unwrap_err();
        assert!(resized.to_string().contains("bitmap first"), "{name}: {resized}");
        if at == 12 && value[2] == 0 {
            assert!(qemu(dir, "info image.qcow2").contains("in-use"), "{name}");
        } else {
            // Changes that could not be noted: it says that it is outdated, and all else is as it was.
            let flags = if at == 12 { [0, 0, 1, 3] } else { [0, 0, 0, 3] };
            let bytes = fs::read(&path).unwrap();
            let entry = directory(&bytes);
            assert_eq!(bytes[entry + 12..entry + 16], flags, "{name}");
            forge(
                &path,
                at,
                if at == 12 {
                    &[0, 0, 0, 3]
                } else if at == 16 {
                    &[1]
                } else {
                    &[16]
                },
            );
            assert!(qemu(dir, "info image.qcow2").contains("in-use"), "{name}");
        }
        assert_eq!(dirty(dir, "image.qcow2", "second"), only(196_608..262_144), "{name}");
        clean(dir, "image.qcow2");
        qemu(dir, "bitmap --remove image.qcow2 first");
        clean(dir, "image.qcow2");
    }
}

#[test]
fn bitmaps_follow_the_size_of_the_disk() {
    for cluster in [512, 65_536] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        qemu(dir, &format!("create -q -f qcow2 -o cluster_size={cluster} image.qcow2 5M"));
        qemu(dir, "bitmap --add -g 512 image.qcow2 on");
        qemu(dir, "bitmap --add -g 512 --disable image.qcow2 off");
        run("qemu-io", &["-c", "write -P 5 1M 1M", "-c", "write -P 5 3M 2M", "image.qcow2"], dir);
        qemu(dir, "bitmap --merge on image.qcow2 off");
        let path = dir.join("image.qcow2");
        disk::resize(&path, 8 << 20, false, &no_keys).unwrap();
        clean(dir, "image.qcow2");
        let both = [1 << 20..2 << 20, 3 << 20..5 << 20];
        assert_eq!((dirty(dir, "image.qcow2", "on"), dirty(dir, "image.qcow2", "off")), (both.to_vec(), both.to_vec()));
        change(&path, vec![(7 << 20, Edit::Data(vec![1; 65_536]))]).unwrap();
        assert_eq!(dirty(dir, "image.qcow2", "on").last(), Some(&(7 << 20..(7 << 20) + 65_536)));
        disk::resize(&path, (4 << 20) + 1024, true, &no_keys).unwrap();
        clean(dir, "image.qcow2");
        let cut = [1 << 20..2 << 20, 3 << 20..(4 << 20) + 1024];
        assert_eq!(dirty(dir, "image.qcow2", "off"), cut, "{cluster}");
        // What was cut off does not come back.
        qemu(dir, "resize image.qcow2 8M");
        assert_eq!(dirty(dir, "image.qcow2", "off"), cut, "{cluster}");
        clean(dir, "image.qcow2");
    }
}

#[test]
fn snapshots_and_bitmaps() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    qemu(dir, "create -q -f qcow2 image.qcow2 5M");
    qemu(dir, "bitmap --add -g 65536 image.qcow2 b");
    qcow2::create_snapshot(&path, "one", Timestamp::from_seconds(1)).unwrap();
    let disk = Qcow2::open(&path, false).unwrap();
    let edit = Edits(vec![(0, Edit::Data(vec![1; 10]))]);
    disk.commit_keeping(&edit, "two", Timestamp::from_seconds(2)).unwrap();
    drop(disk);
    assert_eq!(dirty(dir, "image.qcow2", "b"), only(0..CLUSTER));
    let before = fs::read(&path).unwrap();
    let error = qcow2::apply_snapshot(&path, "one").unwrap_err();
    assert!(error.kind() == Kind::Unsupported && error.to_string().contains("bitmap b"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "touched");
    qcow2::delete_snapshot(&path, "one").unwrap();
    clean(dir, "image.qcow2");
    assert_eq!(dirty(dir, "image.qcow2", "b"), only(0..CLUSTER));
    qemu(dir, "bitmap --remove image.qcow2 b");
    qcow2::apply_snapshot(&path, "two").unwrap();
    clean(dir, "image.qcow2");
}

#[test]
fn changes_of_an_external_data_file_are_noted() {
    for (seed, options) in ["data_file_raw=on", "data_file_raw=off", "extended_l2=on"].into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        let data = dir.join("data");
        qemu(dir, &format!("create -q -f qcow2 -o data_file={},{options} image.qcow2 5M", data.display()));
        run("qemu-io", &["-c", "write -P 5 1M 2M", "image.qcow2"], dir);
        for name in ["b", "fine -g 512", "stopped --disable"] {
            qemu(dir, &format!("bitmap --add image.qcow2 {name}"));
        }
        let old = raw_of(dir, "image.qcow2");
        let mut new = old.clone();
        let disk = Qcow2::open(&path, false).unwrap();
        // Bytes that go ahead would be there before they are noted.
        assert!(!disk.writes_ahead());
        let before = fs::read(&data).unwrap();
        assert_eq!(disk.write_fresh(4 << 20, &[1; 4096]).unwrap_err().kind(), Kind::Internal);
        assert!(fs::read(&data).unwrap() == before, "written ahead");
        // A commit that comes no further than to its first step: no byte is another, and the bitmaps know what was to come.
        disk.commit(&Edits(Vec::new())).unwrap();
        let journal = dir.join("data.imgsh-journal");
        fs::create_dir(&journal).unwrap();
        disk.commit(&Edits(vec![(4 << 20, Edit::Data(vec![1; 10]))])).unwrap_err();
        same("not committed", &everything(&disk), &old);
        same("not committed", &raw_of(dir, "image.qcow2"), &old);
        fs::remove_dir(&journal).unwrap();
        let changes = edits(&mut Random(80 + seed as u64), &mut new);
        disk.commit(&changes).unwrap();
        drop(disk);
        assert!(dirty(dir, "image.qcow2", "fine").iter().any(|range| range.contains(&(4 << 20))), "{options}");
        // Where every cluster has its place already.
        change(&path, vec![(1_500_000, Edit::Data(vec![9; 3]))]).unwrap();
        new[1_500_000..1_500_003].fill(9);
        clean(dir, "image.qcow2");
        same(options, &raw_of(dir, "image.qcow2"), &new);
        for name in ["b", "fine"] {
            same(name, &incremental(&old, &new, &dirty(dir, "image.qcow2", name)), &new);
        }
        let mut touched = vec![1_500_000..1_500_003, 4 << 20..(4 << 20) + 10];
        touched.extend(changes.0.iter().map(|(at, edit)| match edit {
            Edit::Data(data) => *at..at + data.len() as u64,
            Edit::Zero(len) => *at..at + len,
        }));
        let fine = dirty(dir, "image.qcow2", "fine");
        assert!(is_touched(&fine, &touched, 512), "{options}: {fine:?} {touched:?}");
        assert!(dirty(dir, "image.qcow2", "stopped").is_empty());
        // Without an active bitmap bytes go ahead again.
        for name in ["b", "fine"] {
            qemu(dir, &format!("bitmap --disable image.qcow2 {name}"));
        }
        assert!(Qcow2::open(&path, false).unwrap().writes_ahead());
    }
}

#[test]
fn headers_without_room_lose_the_bitmaps_or_are_refused() {
    for (line, is_lost) in
        [("create -q -f qcow2 image.qcow2 5M", true), ("create -q -f qcow2 -F raw -b base.raw image.qcow2 5M", false)]
    {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        base(dir, "base.raw", SIZE, 17);
        qemu(dir, line);
        qemu(dir, "bitmap --add -g 65536 image.qcow2 b");
        let mut bytes = fs::read(&path).unwrap();
        let names = bytes.windows(4).position(|w| w == 0x6803_f857u32.to_be_bytes()).unwrap();
        // An extension that nobody knows in the place of the feature names.
        bytes[names] = 0x17;
        fs::write(&path, &bytes).unwrap();
        let done = change(&path, vec![(0, Edit::Data(vec![1; 10]))]);
        assert_eq!(done.is_ok(), is_lost, "{done:?}");
        if let Err(error) = done {
            assert!(error.hint_text().unwrap().contains("bitmap --remove"), "{error}");
            assert!(fs::read(&path).unwrap()[..bytes.len()] == bytes, "touched");
        }
        assert_eq!(qemu(dir, "info image.qcow2").contains("name: b"), !is_lost);
        clean(dir, "image.qcow2");
    }
}

#[test]
fn hostile_bitmaps() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    qemu(dir, "create -q -f qcow2 -o cluster_size=4k image.qcow2 5M");
    qemu(dir, "bitmap --add -g 4096 image.qcow2 b");
    run("qemu-io", &["-c", "write 1M 64k", "image.qcow2"], dir);
    let good = fs::read(&path).unwrap();
    let extension = good.windows(8).position(|w| w == [0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24]).unwrap();
    let place = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let directory = place(extension + 24);
    let table = place(directory);
    for (what, start, end) in [
        ("extension", extension + 8, extension + 32),
        ("entry", directory, directory + 24),
        ("table", table, table + 8),
    ] {
        for at in start..end {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                let begin = Instant::now();
                let done = change(&path, vec![(0, Edit::Data(vec![1; 10]))]);
                assert!(begin.elapsed() < Duration::from_secs(2), "{what} {at} {value}");
                match done {
                    Err(_) => assert!(fs::read(&path).unwrap()[..bytes.len()] == bytes, "{what} {at} {value}: touched"),
                    Ok(()) => drop(qcow2::check(&path, false)),
                }
            }
        }
    }
    // 1000 entries that share one table.
    let mut bytes = good.clone();
    let new = bytes.len().next_multiple_of(4096);
    bytes.resize(new, 0);
    bytes.extend(good[directory..directory + 32].repeat(1000));
    bytes[extension + 8..extension + 12].copy_from_slice(&1000u32.to_be_bytes());
    bytes[extension + 16..extension + 24].copy_from_slice(&32_000u64.to_be_bytes());
    bytes[extension + 24..extension + 32].copy_from_slice(&(new as u64).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(change(&path, vec![(0, Edit::Data(vec![1; 10]))]).unwrap_err().kind(), Kind::Corrupt);
    assert!(fs::read(&path).unwrap() == bytes, "touched");
}
