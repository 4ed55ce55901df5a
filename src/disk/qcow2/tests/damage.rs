//! Damaged and hostile images: an error, never a panic, a hang, a huge allocation or a huge file.

use super::*;
use crate::base::bytes::{be32, be64, put_be32, put_be64};

/// A change of one header field and the error that it must give at open.
type Case = (&'static str, usize, u64, usize, Kind);

const CASES: &[Case] = &[
    ("magic", 0, 0x5146_4900, 4, Kind::Corrupt),
    ("version 1", 4, 1, 4, Kind::Unsupported),
    ("version 4", 4, 4, 4, Kind::Unsupported),
    ("backing name outside", 8, 1 << 40, 8, Kind::Corrupt),
    ("cluster_bits 8", 20, 8, 4, Kind::Corrupt),
    ("cluster_bits 22", 20, 22, 4, Kind::Corrupt),
    ("cluster_bits 2^32-1", 20, u32::MAX as u64, 4, Kind::Corrupt),
    ("size over L1", 24, 1 << 50, 8, Kind::Corrupt),
    ("size 2^64-1", 24, u64::MAX, 8, Kind::Corrupt),
    ("AES", 32, 1, 4, Kind::Unsupported),
    ("LUKS without its extension", 32, 2, 4, Kind::Corrupt),
    ("crypt 99", 32, 99, 4, Kind::Unsupported),
    ("L1 empty", 36, 0, 4, Kind::Corrupt),
    ("L1 over 32 MiB", 36, 1 << 23, 4, Kind::Corrupt),
    ("L1 at 0", 40, 0, 8, Kind::Corrupt),
    ("L1 unaligned", 40, 4097, 8, Kind::Corrupt),
    ("L1 outside", 40, 1 << 40, 8, Kind::Corrupt),
    ("L1 at the end of numbers", 40, !0xfff, 8, Kind::Corrupt),
    ("L1 on the refcount table", 40, 4096, 8, Kind::Corrupt),
    ("refcount table at 0", 48, 0, 8, Kind::Corrupt),
    ("refcount table unaligned", 48, 4608, 8, Kind::Corrupt),
    ("refcount table outside", 48, 1 << 50, 8, Kind::Corrupt),
    ("refcount table empty", 56, 0, 4, Kind::Corrupt),
    ("refcount table over 8 MiB", 56, 1 << 20, 4, Kind::Corrupt),
    ("65537 snapshots", 60, 65_537, 4, Kind::Corrupt),
    ("unknown feature", 72, 1 << 5, 8, Kind::Unsupported),
    ("unknown feature 63", 72, 1 << 63, 8, Kind::Unsupported),
    ("data file without a name", 72, 1 << 2, 8, Kind::Corrupt),
    ("subclusters in small clusters", 72, 1 << 4, 8, Kind::Corrupt),
    ("refcount_order 7", 96, 7, 4, Kind::Corrupt),
    ("refcount_order 2^31", 96, 1 << 31, 4, Kind::Corrupt),
    ("header_length 0", 100, 0, 4, Kind::Corrupt),
    ("header_length 111", 100, 111, 4, Kind::Corrupt),
    ("header_length over a cluster", 100, 8192, 4, Kind::Corrupt),
];

fn kind_of<T>(result: Result<T>) -> Option<Kind> {
    result.err().map(|e| e.kind())
}

fn bytes_of(convert: &str) -> Vec<u8> {
    let (_dir, path) = image(convert, &[]);
    std::fs::read(path).unwrap()
}

#[test]
fn bad_headers_are_refused() {
    let good = bytes_of("-o cluster_size=4k");
    assert_eq!(kind_of(Recorder::new(good.clone()).disk()), None);
    for (name, at, value, width, kind) in CASES {
        let mut bytes = good.clone();
        match width {
            4 => put_be32(&mut bytes, *at, *value as u32),
            _ => put_be64(&mut bytes, *at, *value),
        }
        assert_eq!(kind_of(Recorder::new(bytes).disk()), Some(*kind), "{name}");
    }
    let mut bytes = good.clone();
    put_be64(&mut bytes, be32(&good, 100) as usize, 0x0102_0304_8000_0000);
    assert_eq!(kind_of(Recorder::new(bytes).disk()), Some(Kind::Corrupt), "extension overruns");
    // A compression type needs feature bit 3, and must be known.
    let mut bytes = good.clone();
    bytes[104] = 1;
    assert_eq!(kind_of(Recorder::new(bytes.clone()).disk()), Some(Kind::Corrupt));
    (bytes[79], bytes[104]) = (1 << 3, 2);
    assert_eq!(kind_of(Recorder::new(bytes).disk()), Some(Kind::Unsupported));
    for len in [0, 3, 71, 103, 512, 4096, 12_288] {
        assert_eq!(kind_of(Recorder::new(good[..len].to_vec()).disk()), Some(Kind::Corrupt), "cut at {len}");
    }
}

#[test]
fn corrupt_images_are_read_only_and_dirty_ones_are_not() {
    for (bit, kind) in [(1, None), (2, Some(Kind::ReadOnly)), (3, Some(Kind::ReadOnly))] {
        let mut bytes = bytes_of("-o cluster_size=4k");
        bytes[79] |= bit;
        let disk = Recorder::new(bytes).disk().unwrap();
        assert!(everything(&disk).unwrap().iter().any(|b| *b != 0));
        assert_eq!(kind_of(disk.write_fresh(0, b"x")), kind);
    }
}

#[test]
fn bad_tables_are_errors() {
    let good = bytes_of("-o cluster_size=4k");
    let l1 = be64(&good, 40) as usize;
    let l2 = (be64(&good, l1) & 0x00ff_ffff_ffff_fe00) as usize;
    for (name, at, value) in [
        ("L2 table outside", l1, 1 << 50),
        ("L2 table unaligned", l1, 0x3200),
        ("data unaligned", l2, 0x3200),
        ("compressed, all ones", l2, !0 >> 1),
    ] {
        let mut bytes = good.clone();
        put_be64(&mut bytes, at, value);
        let disk = Recorder::new(bytes.clone()).disk().unwrap();
        assert_eq!(kind_of(everything(&disk)), Some(Kind::Corrupt), "{name}");
        assert_eq!(kind_of(disk.commit(&Edits(vec![(7, vec![1; 9])]))), Some(Kind::Corrupt), "{name}");
        assert!(Recorder::new(bytes).disk().unwrap().len() > 0);
    }
    // An L2 table that is the header or the L1 table is rubbish but harms nothing.
    for at in [4096, l1 as u64] {
        let mut bytes = good.clone();
        put_be64(&mut bytes, l1, at);
        exercise(bytes);
    }
}

#[test]
fn refcounts_that_lie_stop_the_commit() {
    let good = bytes_of("-o cluster_size=4k");
    let table = be64(&good, 48) as usize;
    let block = be64(&good, table) as usize;
    // All free: then tables and data are in use with refcount 0. All used: no end of the file to be found.
    for fill in [0, 0xff] {
        let mut bytes = good.clone();
        bytes[block..block + 4096].fill(fill);
        if fill == 0xff {
            let entry = (block as u64).to_be_bytes();
            bytes[table..table + 4096].chunks_mut(8).for_each(|slot| slot.copy_from_slice(&entry));
        }
        let recorder = Recorder::new(bytes.clone());
        let disk = recorder.disk().unwrap();
        let old = everything(&disk).unwrap();
        let done = disk.commit(&Edits(vec![(7, vec![1; 9])]));
        assert_eq!(kind_of(done), Some(Kind::Corrupt), "{fill}");
        assert!(recorder.inner().bytes == bytes, "untouched");
        let again = Recorder::new(recorder.inner().bytes.clone()).disk().unwrap();
        assert_eq!(everything(&again).unwrap()[16..], old[16..]);
    }
    for entry in [0x3200, 1 << 50] {
        let mut bytes = good.clone();
        put_be64(&mut bytes, table, entry);
        let disk = Recorder::new(bytes).disk().unwrap();
        assert_eq!(kind_of(disk.write_fresh(0, b"x")), Some(Kind::Corrupt));
    }
}

/// Sets the refcount, of 16 bits, of a cluster.
fn lie(bytes: &mut [u8], cluster: u64, count: u16) {
    let size = 1u64 << be32(bytes, 20);
    let table = be64(bytes, 48) as usize;
    let block = be64(bytes, table + (cluster / (size / 2)) as usize * 8) as usize;
    let at = block + (cluster % (size / 2)) as usize * 2;
    bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
}

#[test]
fn what_snapshots_need_is_not_written_over() {
    let (_dir, path) = image("-o cluster_size=4k", &["snapshot -c one image.qcow2"]);
    let recorder = Recorder::new(std::fs::read(path).unwrap());
    let disk = recorder.disk().unwrap();
    let host = {
        let state = disk.state();
        let table = state.image.table(0).unwrap().unwrap();
        state.image.entry(&table, 0).word & 0x00ff_ffff_ffff_fe00
    };
    // From now on the snapshot alone has the first cluster.
    disk.commit(&Edits(vec![(0, vec![9; 4096])])).unwrap();
    let good = recorder.inner().bytes.clone();
    let table = be64(&good, 64) as usize;
    let l1 = be64(&good, table);
    let l2 = be64(&good, l1 as usize) & 0x00ff_ffff_ffff_fe00;
    for (what, place) in [("data", host), ("L1", l1), ("L2", l2), ("snapshot table", table as u64)] {
        let mut bytes = good.clone();
        lie(&mut bytes, place / 4096, 0);
        let recorder = Recorder::new(bytes.clone());
        let disk = recorder.disk().unwrap();
        assert_eq!(kind_of(disk.write_fresh(300_000, b"x")), Some(Kind::Corrupt), "{what}");
        assert_eq!(kind_of(disk.commit(&Edits(vec![(7, vec![1; 9])]))), Some(Kind::Corrupt), "{what}");
        assert!(recorder.inner().bytes == bytes, "{what}: touched");
    }
    Recorder::new(good).disk().unwrap().commit(&Edits(vec![(7, vec![1; 9])])).unwrap();
}

#[test]
fn disks_too_big_to_be_looked_through_are_written_behind_their_end() {
    // Nine L2 tables of 2 MiB.
    let dir = tempfile::tempdir().unwrap();
    let make = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "image.qcow2", "5T"];
    assert!(Command::new("qemu-img").args(make).current_dir(dir.path()).status().unwrap().success());
    let path = dir.path().join("image.qcow2");
    let recorder = Recorder::new(std::fs::read(path).unwrap());
    let places = (0..9).map(|n| (n << 39, vec![n as u8 + 1; 4096])).collect::<Vec<_>>();
    recorder.disk().unwrap().commit(&Edits(places)).unwrap();
    let mut bytes = recorder.inner().bytes.clone();
    let mut host = 0;
    recorder
        .disk()
        .unwrap()
        .locate(3 << 39..(3 << 39) + 4096, &mut |found| {
            if let crate::disk::Kept::Data(at) = found.kept {
                host = at;
            }
            Ok(())
        })
        .unwrap();
    lie(&mut bytes, host >> 21, 0);
    let recorder = Recorder::new(bytes);
    let disk = recorder.disk().unwrap();
    for round in 0..3 {
        disk.write_fresh(1 << 30, &[round; 4096]).unwrap();
        disk.commit(&Edits(vec![(7, vec![1; 9])])).unwrap();
        let mut seen = vec![0; 4096];
        disk.read_at(3 << 39, &mut seen).unwrap();
        assert!(seen == [4; 4096], "data in a cluster of refcount 0 was written over");
    }
}

/// Everything that can be done to an image; only the absence of panics and of huge files is judged.
fn exercise(bytes: Vec<u8>) {
    let recorder = Recorder::new(bytes);
    let Ok(disk) = recorder.disk() else { return };
    if disk.len() > 64 << 20 {
        let mut some = vec![0; 1 << 20];
        disk.read_at(disk.len() - (1 << 20), &mut some).ok();
        return;
    }
    for at in (0..disk.len()).step_by(10_000) {
        let mut some = vec![0; 10_000.min(disk.len() - at) as usize];
        disk.read_at(at, &mut some).ok();
    }
    disk.runs(0..disk.len()).ok();
    disk.write_fresh(70_000, &[1; 5000]).ok();
    disk.commit(&Edits(vec![(0, vec![2; 4096]), (500_000, vec![3; 10])])).ok();
    disk.abandon().ok();
}

#[test]
fn random_damage_is_survived() {
    let mut random = Random(4711);
    for convert in [
        "-o cluster_size=4k",
        "-o cluster_size=512,refcount_bits=1",
        "-c",
        "-c -o compression_type=zstd",
        "-c -o cluster_size=4k",
    ] {
        let good = bytes_of(convert);
        // Metadata of images that qemu-img makes is in front; compressed data is small and follows.
        let front = good.len().min(5 << 16) as u64;
        for round in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(6) {
                let region = if round % 2 == 0 { 120 } else { front };
                let at = random.below(region) as usize;
                bytes[at] = random.next() as u8;
            }
            if random.below(10) == 0 {
                bytes.truncate(random.below(good.len() as u64) as usize);
            }
            exercise(bytes);
        }
    }
}
