//! What may be written ahead of the commit: only clusters that were free when the volume was opened, and only once.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use imgsh::base::Result;
use imgsh::disk::BlockDevice;
use imgsh::disk::memory::Memory;
use imgsh::fs;

use crate::tools::*;

/// Writes ahead of the commit, and staged ones.
#[derive(Default)]
struct Log {
    fresh: Vec<Range<u64>>,
    staged: Vec<Range<u64>>,
}

struct Recorder {
    inner: Memory,
    log: Mutex<Log>,
    may_take: bool,
}

impl BlockDevice for Recorder {
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn sector(&self) -> u32 {
        512
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.log.lock().unwrap().staged.push(offset..offset + data.len() as u64);
        self.inner.write_at(offset, data)
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.log.lock().unwrap().fresh.push(offset..offset + data.len() as u64);
        self.inner.write_at(offset, data)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.log.lock().unwrap().staged.push(range.clone());
        self.inner.zero(range)
    }
    fn takes_fresh_within(&self, _range: Range<u64>) -> bool {
        self.may_take
    }
}

fn recorder(bytes: Vec<u8>, may_take: bool) -> Arc<Recorder> {
    Arc::new(Recorder { inner: Memory::from(bytes), log: Mutex::default(), may_take })
}

fn bytes(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|r| r.end - r.start).sum()
}

#[test]
fn fresh_clusters_are_written_once_and_freed_ones_are_not_fresh() {
    let scratch = Scratch::mkfs(16384, &["-F", "16", "-s", "4"]);
    let mut fs = scratch.open();
    let root = fs.root();
    put(fs.as_mut(), root, "old", &pattern(3_000_000, 1));
    fs.edit(NOW).unwrap().sync().unwrap();
    let committed = scratch.memory.bytes();

    let device = recorder(committed.clone(), true);
    let mut fs = fs::open(device.clone()).unwrap();
    put(fs.as_mut(), root, "new", &pattern(5_000_000, 2));
    assert!(bytes(&device.log.lock().unwrap().fresh) >= 5_000_000);
    // Freed in this session: its old content must survive a rollback.
    fs.edit(NOW).unwrap().unlink(root, b"old").unwrap();
    fs.edit(NOW).unwrap().unlink(root, b"new").unwrap();
    let free = fs.info().unwrap();
    let all = (free.free_blocks * free.block_size) as usize;
    let node = put(fs.as_mut(), root, "all", &pattern(all, 3));
    fs.edit(NOW).unwrap().sync().unwrap();
    fs.reload().unwrap();
    fs.edit(NOW).unwrap().resize(node, 0).unwrap();
    put(fs.as_mut(), root, "after the reload", &pattern(4_000_000, 4));
    fs.edit(NOW).unwrap().sync().unwrap();

    let log = device.log.lock().unwrap();
    let mut ranges = log.fresh.clone();
    ranges.sort_by_key(|r| r.start);
    assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start), "a place was written fresh twice");
    // 16 MiB less the three of "old": everything else was free when the volume was opened.
    assert!(bytes(&ranges) > 13_000_000, "{}", bytes(&ranges));
    for range in &ranges {
        assert!(committed[range.start as usize..range.end as usize].iter().all(|b| *b == 0), "{range:?} was in use");
    }
    drop(log);

    // A committed stage: all that is free is fresh again.
    fs.committed();
    device.log.lock().unwrap().fresh.clear();
    put(fs.as_mut(), root, "next", &pattern(1_000_000, 5));
    assert!(bytes(&device.log.lock().unwrap().fresh) >= 1_000_000);
    fs.edit(NOW).unwrap().sync().unwrap();
    scratch.with(device.inner.bytes()).check();
}

#[test]
fn nothing_is_fresh_on_a_device_with_staged_changes() {
    let scratch = Scratch::mkfs(16384, &["-F", "16", "-s", "4"]);
    let device = recorder(scratch.memory.bytes(), false);
    let mut fs = fs::open(device.clone()).unwrap();
    let root = fs.root();
    put(fs.as_mut(), root, "new", &pattern(500_000, 2));
    assert!(device.log.lock().unwrap().fresh.is_empty());
    assert!(bytes(&device.log.lock().unwrap().staged) >= 500_000);
}
