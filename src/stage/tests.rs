use super::*;
use crate::disk::{CreateOptions, Device, Format, OpenOptions, slice::Slice};
use std::path::{Path, PathBuf};
use std::process::Command;

const LEN: usize = 300 * 1024 + 512;

/// xorshift64*: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }
    /// A range, mostly short, with borders that are often those of sectors or pages.
    fn range(&mut self) -> Range<usize> {
        let grain = [1, 512, 1024, 4096][self.below(4)];
        let longest = [1, 5000, 60_000][self.below(3)];
        let start = self.below(LEN) / grain * grain;
        let len = (1 + self.below(longest)).next_multiple_of(grain);
        start..(start + len).min(LEN)
    }
}

/// An image with data everywhere, or a blank one if its name says so.
fn image(name: &str, len: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let bytes: Vec<u8> = (0..len).map(|i| (i / 512 + 1) as u8).collect();
    if name.ends_with(".qcow2") {
        let options = CreateOptions { size: Some(len as u64), cluster_size: Some(4096), ..CreateOptions::default() };
        crate::disk::create(&path, Format::Qcow2, &options).unwrap();
        if name.starts_with("blank") {
            return (dir, path);
        }
        let stage = stage(&path, StageOptions::default(), LIMIT);
        stage.write_at(0, &bytes).unwrap();
        stage.commit().unwrap();
    } else if name.starts_with("blank") {
        std::fs::File::create(&path).unwrap().set_len(len as u64).unwrap();
    } else {
        std::fs::write(&path, bytes).unwrap();
    }
    (dir, path)
}

/// What another program reads.
fn on_host(path: &Path) -> Vec<u8> {
    if path.extension().is_none_or(|e| e != "qcow2") {
        return std::fs::read(path).unwrap();
    }
    let raw = path.with_extension("converted");
    // A writer holds the image: the tool is told to look all the same.
    let run = |args: &[&str]| {
        let output = Command::new("qemu-img").args(args).arg(path).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    run(&["check", "-U", "-q"]);
    let convert = ["convert", "-U", "-f", "qcow2", "-O", "raw"];
    let output = Command::new("qemu-img").args(convert).arg(path).arg(&raw).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read(raw).unwrap()
}

fn stage(path: &Path, options: StageOptions, limit: usize) -> Arc<Stage> {
    Stage::with_limit(crate::disk::open(path, OpenOptions::default()).unwrap(), options, limit)
}

/// What the disk must read as; `None`: anything, since nothing uses the byte.
type Model = Vec<Option<u8>>;

fn check(model: &Model, read: &[u8], when: &str) {
    let wrong = model.iter().zip(read).position(|(m, b)| m.is_some_and(|m| m != *b));
    assert_eq!(wrong, None, "{when}");
}

fn model_run(name: &str, seed: u64, steps: usize, dry_run: bool) {
    let (_dir, path) = image(name, LEN);
    let stage = stage(&path, StageOptions { dry_run, ..StageOptions::default() }, 7);
    let mut random = Random(seed);
    let original = on_host(&path);
    // The second half is free space; a blank disk has to stay zeros.
    let known = |i: usize| i < LEN / 2 || stage.is_blank();
    let mut model: Model = original.iter().enumerate().map(|(i, b)| known(i).then_some(*b)).collect();
    let mut committed = model.clone();
    let mut marks: Vec<(Savepoint, Model)> = Vec::new();
    let mut all = vec![0; LEN];
    for step in 0..steps {
        let range = random.range();
        let offset = range.start as u64;
        let bytes: Vec<u8> = range.clone().map(|_| random.next() as u8).collect();
        match random.below(100) {
            0..35 => {
                stage.write_at(offset, &bytes).unwrap();
                model[range].iter_mut().zip(bytes).for_each(|(m, b)| *m = Some(b));
            }
            35..50 => {
                stage.zero(offset..range.end as u64).unwrap();
                model[range].fill(Some(0));
            }
            50..70 => {
                let unused = model[range.clone()].iter().chain(&committed[range.clone()]).all(Option::is_none);
                let blank = stage.is_blank();
                if unused || blank && stage.takes_fresh_within(offset..range.end as u64) {
                    stage.write_fresh(offset, &bytes).unwrap();
                    model[range].iter_mut().zip(bytes).for_each(|(m, b)| *m = Some(b));
                }
            }
            70..80 => marks.push((stage.savepoint(), model.clone())),
            80..88 if !marks.is_empty() => {
                let i = random.below(marks.len());
                let later = marks.get(i + 1).map(|(mark, _)| *mark);
                stage.rollback(marks[i].0).unwrap();
                marks.truncate(i + 1);
                model.clone_from(&marks[i].1);
                assert!(later.is_none_or(|mark| stage.rollback(mark).is_err()));
            }
            88..92 if !dry_run => {
                stage.commit().unwrap();
                assert!(!stage.is_changed() && stage.takes_fresh() && stage.changed_ranges().is_empty());
                marks.clear();
                committed.clone_from(&model);
                check(&model, &on_host(&path), &format!("seed {seed} step {step} on the host"));
            }
            92..94 => {
                stage.abandon().unwrap();
                marks.clear();
                model.clone_from(&committed);
            }
            _ => {
                let mut part = vec![0; range.len()];
                stage.read_at(offset, &mut part).unwrap();
                check(&model[range].to_vec(), &part, &format!("seed {seed} step {step}, a part"));
            }
        }
        stage.read_at(0, &mut all).unwrap();
        check(&model, &all, &format!("seed {seed} step {step}"));
        let changed = stage.changed_ranges();
        for (i, (now, then)) in model.iter().zip(&committed).enumerate() {
            let covered = || changed.iter().any(|r| r.contains(&(i as u64)));
            assert!(now == then || covered(), "seed {seed} step {step}: byte {i} is not in the changed ranges");
        }
    }
    if dry_run {
        assert_eq!(on_host(&path), original);
    }
}

#[test]
fn behaves_as_a_vector() {
    for seed in 1..6 {
        model_run("disk.raw", seed, 150, false);
    }
}

#[test]
fn behaves_as_a_vector_over_qcow2() {
    for seed in 10..14 {
        model_run("disk.qcow2", seed, 150, false);
    }
    model_run("disk.qcow2", 14, 100, true);
}

#[test]
fn a_blank_disk_takes_fresh_data_anywhere_and_stays_blank_without_a_commit() {
    for name in ["blank.raw", "blank.qcow2"] {
        let (_dir, path) = image(name, LEN);
        let stage = stage(&path, StageOptions::default(), LIMIT);
        let half = LEN as u64 / 2 / UNIT * UNIT;
        let (left, right) = (Slice::new(stage.clone(), 0..half), Slice::new(stage.clone(), half..LEN as u64));
        left.zero(0..half).unwrap();
        left.write_at(100, &[1]).unwrap();
        assert!(left.takes_fresh() && right.takes_fresh(), "{name}");
        left.write_fresh(4096, &[2; 8192]).unwrap();
        assert!(!left.takes_fresh() && right.takes_fresh(), "{name}: what was written fresh once is not written over");
        stage.abandon().unwrap();
        assert!(left.takes_fresh() && on_host(&path) == [0; LEN], "{name}");
        left.write_fresh(4096, &[3; 4096]).unwrap();
        stage.commit().unwrap();
        assert!(on_host(&path)[4096..8192] == [3; 4096] && left.takes_fresh(), "{name}");
        left.write_at(100, &[1]).unwrap();
        assert!(!left.takes_fresh(), "{name}: it is blank no more");
    }
    for seed in 20..32 {
        model_run(if seed % 2 == 0 { "blank.raw" } else { "blank.qcow2" }, seed, 100, seed % 3 == 0);
    }
}

#[test]
fn dry_run_leaves_the_image() {
    for seed in 6..9 {
        model_run("disk.raw", seed, 120, true);
    }
}

#[test]
fn a_terabyte_of_zeros_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.raw");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let stage = stage(&path, StageOptions::default(), LIMIT);
    stage.write_at(1 << 30, &[1; 4096]).unwrap();
    let mark = stage.savepoint();
    stage.zero(0..1 << 40).unwrap();
    assert!(stage.changed_ranges().into_iter().eq(std::iter::once(0..1 << 40)));
    stage.rollback(mark).unwrap();
    assert!(stage.changed_ranges().into_iter().eq(std::iter::once(1 << 30..(1 << 30) + 4096)));
    stage.zero(100..(1 << 40) - 100).unwrap();
    stage.commit().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() == 1 << 40);
}

#[test]
fn equal_bytes_are_not_written() {
    let (_dir, path) = image("disk.raw", LEN);
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let stage = stage(&path, StageOptions::default(), LIMIT);
    let mut bytes = vec![0; 9000];
    stage.read_at(1000, &mut bytes).unwrap();
    stage.write_at(1000, &bytes).unwrap();
    stage.commit().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn refusals() {
    let (_dir, path) = image("disk.raw", LEN);
    let read_only = stage(&path, StageOptions { read_only: true, ..StageOptions::default() }, LIMIT);
    assert_eq!(read_only.write_at(0, &[1]).unwrap_err().kind(), Kind::ReadOnly);
    assert_eq!(read_only.write_fresh(0, &[1]).unwrap_err().kind(), Kind::ReadOnly);
    assert_eq!(read_only.zero(0..1).unwrap_err().kind(), Kind::ReadOnly);
    drop(read_only);
    let stage = stage(&path, StageOptions { dry_run: true, ..StageOptions::default() }, LIMIT);
    let end = LEN as u64;
    assert!(stage.read_at(end, &mut [0]).is_err() && stage.write_at(end - 1, &[0; 2]).is_err());
    assert!(stage.write_at(u64::MAX, &[0; 2]).is_err() && stage.zero(0..end + 1).is_err());
    let (from, to) = (5, 2);
    assert!(stage.zero(from..to).is_err());
    stage.write_at(end - 1, &[9]).unwrap();
    assert_eq!(stage.commit().unwrap_err().kind(), Kind::ReadOnly);
    let mark = stage.savepoint();
    stage.abandon().unwrap();
    assert_eq!(stage.rollback(mark).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn fresh_data_is_given_back() {
    let (_dir, path) = image("disk.raw", LEN);
    let before = std::fs::read(&path).unwrap();
    let first = stage(&path, StageOptions::default(), LIMIT);
    let mark = first.savepoint();
    first.write_fresh(8192, &[1; 8192]).unwrap();
    assert!(first.is_changed());
    first.rollback(mark).unwrap();
    assert!(!first.is_changed());
    // A commit of something else makes holes of it.
    first.write_at(0, &[5]).unwrap();
    first.commit().unwrap();
    let after = std::fs::read(&path).unwrap();
    assert_eq!((after[0], &after[8192..16384], &after[16384..]), (5, &[0; 8192][..], &before[16384..]));
    first.write_fresh(20480, &[1; 4096]).unwrap();
    drop(first);
    assert_eq!(std::fs::read(&path).unwrap()[20480..24576], [0; 4096]);
}

#[test]
fn bytes_that_a_rollback_left_behind_are_not_taken_for_committed_ones() {
    for name in ["disk.raw", "disk.qcow2"] {
        let (_dir, path) = image(name, LEN);
        let stage = stage(&path, StageOptions::default(), LIMIT);
        let mark = stage.savepoint();
        stage.write_fresh(200 * 1024, &[7; 8192]).unwrap();
        stage.rollback(mark).unwrap();
        // The same bytes once more, as a change: they are on the disk, but as rubbish that the commit makes holes of.
        stage.write_at(200 * 1024, &[7; 8192]).unwrap();
        stage.commit().unwrap();
        assert!(on_host(&path)[200 * 1024..208 * 1024] == [7; 8192], "{name}");
    }
}

#[test]
fn a_partition_knows_whether_it_takes_fresh_data() {
    let (_dir, path) = image("disk.raw", LEN);
    let disk: Device = stage(&path, StageOptions::default(), LIMIT);
    let (left, right) = (Slice::new(disk.clone(), 0..65536), Slice::new(disk.clone(), 65536..131_072));
    left.write_at(65535, &[1]).unwrap();
    assert!(!left.takes_fresh() && right.takes_fresh() && !disk.takes_fresh());
    right.zero(0..8192).unwrap();
    assert!(!right.takes_fresh());
}
