//! The allocation table: chains, free clusters, and the pages of it that are kept in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bits::Bits;
use super::boot::{self, Boot, FIRST_CLUSTER, INFO_BYTES, Width};
use crate::base::bytes::{le16, le32, put_le16, put_le32};
use crate::base::{Error, Kind, Result};
use crate::disk::Device;

/// Bytes of a page: a multiple of every sector size and of twelve bits, so that no entry crosses a page.
const PAGE: u64 = 48 * 1024;
/// Pages kept; more and the clean ones are dropped (about 16 MiB).
const PAGES: usize = 340;

/// A run of clusters of a file: `len` clusters from `start`, the first of them the file's cluster `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Position in the file, in clusters.
    pub index: u32,
    /// First cluster.
    pub start: u32,
    /// Number of clusters.
    pub len: u32,
}

struct Page {
    bytes: Vec<u8>,
    /// Bytes of the page that the device does not have yet.
    dirty: Option<Range<usize>>,
}

/// The free clusters, once they were counted.
struct Free {
    set: Bits,
    /// Where the next search begins.
    next: u32,
}

/// The allocation table of a volume.
pub struct Table {
    device: Device,
    boot: Boot,
    pages: BTreeMap<u64, Page>,
    free: Option<Free>,
    /// Clusters that were free in the committed state and that nobody has written since. Survives
    /// [`Table::reload`], since a rollback does not undo what was written there.
    fresh: Option<Bits>,
    /// Whether clusters that are free when they are first counted are so in the committed state.
    committed: bool,
}

impl Table {
    /// The table of a volume; nothing is read yet.
    pub fn new(device: Device, boot: Boot) -> Self {
        let committed = device.takes_fresh();
        Table { device, boot, pages: BTreeMap::new(), free: None, fresh: None, committed }
    }

    /// Forgets everything that was read or changed.
    pub fn reload(&mut self) {
        self.pages.clear();
        self.free = None;
    }

    /// The stage was committed: all that is free now is fresh.
    pub fn committed(&mut self) {
        self.committed = self.device.takes_fresh();
        self.fresh = match &self.free {
            Some(free) if self.committed => Some(free.set.clone()),
            _ => None,
        };
    }

    fn page(&mut self, number: u64) -> Result<&mut Page> {
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= PAGES {
                self.flush_pages()?;
                self.pages.clear();
            }
            let start = number * PAGE;
            let len = self.boot.table_len.saturating_sub(start).min(PAGE) as usize;
            let mut bytes = vec![0; len];
            self.device.read_at(
                self.boot.table_at + self.boot.active.unwrap_or(0) * self.boot.table_len + start,
                &mut bytes,
            )?;
            self.pages.insert(number, Page { bytes, dirty: None });
        }
        // Just put in if it was missing.
        self.pages.get_mut(&number).ok_or_else(|| Kind::Internal.into())
    }

    /// Page number, byte in the page, and bytes of an entry.
    fn place(&self, cluster: u32) -> (u64, usize, usize) {
        let at = entry_at(self.boot.width, u64::from(cluster));
        (at / PAGE, (at % PAGE) as usize, if self.boot.width == Width::Fat32 { 4 } else { 2 })
    }

    fn get(&mut self, cluster: u32) -> Result<u32> {
        let (page, at, _) = self.place(cluster);
        let width = self.boot.width;
        Ok(entry(&self.page(page)?.bytes, width, at, cluster))
    }

    fn set(&mut self, cluster: u32, value: u32) -> Result<()> {
        let (number, at, len) = self.place(cluster);
        let width = self.boot.width;
        let page = self.page(number)?;
        match width {
            Width::Fat12 => {
                let shift = cluster % 2 * 4;
                let kept = le16(&page.bytes, at) & !(0xfff << shift);
                put_le16(&mut page.bytes, at, kept | (value as u16 & 0xfff) << shift);
            }
            Width::Fat16 => put_le16(&mut page.bytes, at, value as u16),
            Width::Fat32 => {
                let kept = le32(&page.bytes, at) & 0xf000_0000;
                put_le32(&mut page.bytes, at, kept | value & 0x0fff_ffff);
            }
        }
        let touched = at..(at + len).min(page.bytes.len());
        page.dirty = Some(match page.dirty.take() {
            Some(old) => old.start.min(touched.start)..old.end.max(touched.end),
            None => touched,
        });
        Ok(())
    }

    /// The cluster after this one in its chain.
    ///
    /// # Errors
    /// `Kind::Corrupt` for an entry that is free, bad or outside the volume.
    fn next(&mut self, cluster: u32) -> Result<Option<u32>> {
        match self.get(cluster)? {
            next if self.boot.has_cluster(next) => Ok(Some(next)),
            end if end >= self.boot.width.end() - 7 => Ok(None),
            other => Err(Error::corrupt(format!("vfat: cluster {cluster}: its chain goes on with {other:#x}"))),
        }
    }

    /// The whole chain that begins at `first` (0: none), at most `most` clusters of it.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a chain that is broken or longer than the volume.
    pub fn chain(&mut self, first: u32, most: u32) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut index = 0;
        let mut cluster = Some(first).filter(|first| *first != 0 && most != 0);
        while let Some(here) = cluster {
            if !self.boot.has_cluster(here) {
                return Err(Error::corrupt(format!("vfat: a chain begins with cluster {here}, which does not exist")));
            }
            if index >= self.boot.clusters {
                return Err(Error::corrupt(format!("vfat: the chain of cluster {first} goes round in a circle")));
            }
            match runs.last_mut() {
                Some(run) if run.start + run.len == here => run.len += 1,
                _ => runs.push(Run { index, start: here, len: 1 }),
            }
            index += 1;
            cluster = if index < most { self.next(here)? } else { None };
        }
        Ok(runs)
    }

    /// Counts the free clusters, once.
    pub fn count_free(&mut self) -> Result<u32> {
        if let Some(free) = &self.free {
            return Ok(free.set.count());
        }
        let mut set = Bits::new(self.boot.clusters + FIRST_CLUSTER);
        let (width, per_page) = (self.boot.width, PAGE * 8 / self.boot.width.bits());
        let end = u64::from(self.boot.clusters + FIRST_CLUSTER);
        for number in 0..end.div_ceil(per_page) {
            let first = number * per_page;
            let bytes = &self.page(number)?.bytes;
            for index in 0..per_page.min(end - first) {
                let cluster = (first + index) as u32;
                if cluster >= FIRST_CLUSTER && entry(bytes, width, entry_at(width, index) as usize, cluster) == 0 {
                    set.insert(cluster);
                }
            }
        }
        if self.fresh.is_none() {
            self.fresh = Some(if self.committed { set.clone() } else { Bits::default() });
        }
        self.committed = false;
        let advised = match self.info()? {
            Some(info) => boot::info_next(&info),
            None => FIRST_CLUSTER,
        };
        let next = if self.boot.has_cluster(advised) { advised } else { FIRST_CLUSTER };
        let count = set.count();
        self.free = Some(Free { set, next });
        Ok(count)
    }

    fn info(&self) -> Result<Option<Vec<u8>>> {
        let Some(at) = self.boot.info_at else { return Ok(None) };
        let mut info = vec![0; INFO_BYTES];
        self.device.read_at(at, &mut info)?;
        Ok(boot::is_info(&info).then_some(info))
    }

    /// Takes `count` clusters, in one run if there is one, and makes a chain of them.
    ///
    /// # Errors
    /// `Kind::NoSpace` if there are not enough; nothing is taken then.
    pub fn allocate(&mut self, count: u32) -> Result<Vec<Run>> {
        self.count_free()?;
        let free = self.free.as_mut().ok_or(Kind::Internal)?;
        if count > free.set.count() {
            return Err(Kind::NoSpace.into());
        }
        let mut runs: Vec<Run> = match run_of(&free.set, free.next, count) {
            Some(start) => vec![Run { index: 0, start, len: count }],
            None => Vec::new(),
        };
        let (mut index, mut from, mut wrapped) = (runs.iter().map(|r| r.len).sum(), free.next, false);
        while index < count {
            match free.set.run(from, count - index) {
                Some((start, len)) if !wrapped || start < free.next => {
                    // What lies from the hint on was taken in the first round.
                    let len = if wrapped { len.min(free.next - start) } else { len };
                    runs.push(Run { index, start, len });
                    index += len;
                    from = start + len;
                }
                // The count of the set says there are enough: the rest lies before the hint.
                _ if !wrapped => (wrapped, from) = (true, FIRST_CLUSTER),
                _ => return Err(Kind::Internal.into()),
            }
        }
        for run in &runs {
            for cluster in run.start..run.start + run.len {
                free.set.remove(cluster);
            }
            free.next = run.start + run.len;
        }
        self.link(&runs)?;
        Ok(runs)
    }

    /// Makes one chain of these runs and ends it.
    fn link(&mut self, runs: &[Run]) -> Result<()> {
        for (i, run) in runs.iter().enumerate() {
            for cluster in run.start..run.start + run.len - 1 {
                self.set(cluster, cluster + 1)?;
            }
            let next = runs.get(i + 1).map_or(self.boot.width.end(), |next| next.start);
            self.set(run.start + run.len - 1, next)?;
        }
        Ok(())
    }

    /// Lets `first` be the cluster after `last`.
    pub fn join(&mut self, last: u32, first: u32) -> Result<()> {
        self.set(last, first)
    }

    /// Frees all clusters of `runs` after the first `keep`, and ends the chain there.
    pub fn cut(&mut self, runs: &[Run], keep: u32) -> Result<()> {
        self.count_free()?;
        for run in runs {
            let kept = keep.saturating_sub(run.index).min(run.len);
            if kept > 0 && keep == run.index + kept {
                self.set(run.start + kept - 1, self.boot.width.end())?;
            }
            for cluster in run.start + kept..run.start + run.len {
                self.set(cluster, 0)?;
                if let Some(free) = &mut self.free {
                    free.set.insert(cluster);
                }
            }
        }
        Ok(())
    }

    /// Whether the whole run may be written ahead of the commit; it may not a second time.
    pub fn take_fresh(&mut self, start: u32, len: u32) -> bool {
        let Some(fresh) = &mut self.fresh else { return false };
        let all = (start..start + len).all(|cluster| fresh.has(cluster));
        for cluster in start..start + len {
            fresh.remove(cluster);
        }
        all
    }

    /// Writes what the device does not have yet, to all tables in use.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_pages()?;
        if let (Some(free), Some(at), Some(mut info)) = (&self.free, self.boot.info_at, self.info()?)
            && boot::put_info(
                &mut info,
                free.set.count(),
                if self.boot.has_cluster(free.next) { free.next } else { FIRST_CLUSTER },
            )
        {
            self.device.write_at(at, &info)?;
        }
        Ok(())
    }

    fn flush_pages(&mut self) -> Result<()> {
        for (number, page) in &mut self.pages {
            let Some(dirty) = page.dirty.take() else { continue };
            let sector = self.boot.sector as usize;
            let from = dirty.start / sector * sector;
            let to = dirty.end.next_multiple_of(sector).min(page.bytes.len());
            let Some(bytes) = page.bytes.get(from..to) else { continue };
            let tables = match self.boot.active {
                Some(active) => active..active + 1,
                None => 0..self.boot.tables,
            };
            for table in tables {
                let at = self.boot.table_at + table * self.boot.table_len + number * PAGE + from as u64;
                self.device.write_at(at, bytes)?;
            }
        }
        Ok(())
    }
}

/// Byte at which the entry of a number begins, counted from the entry of number 0.
fn entry_at(width: Width, number: u64) -> u64 {
    match width {
        Width::Fat12 => number * 3 / 2,
        Width::Fat16 => number * 2,
        Width::Fat32 => number * 4,
    }
}

/// The entry of a cluster, which begins at byte `at`.
fn entry(bytes: &[u8], width: Width, at: usize, cluster: u32) -> u32 {
    match width {
        Width::Fat12 => u32::from(le16(bytes, at) >> (cluster % 2 * 4) & 0xfff),
        Width::Fat16 => u32::from(le16(bytes, at)),
        Width::Fat32 => le32(bytes, at) & 0x0fff_ffff,
    }
}

/// Start of a run of `count`: the first at or after `next`, else the first before it.
fn run_of(set: &Bits, next: u32, count: u32) -> Option<u32> {
    for (mut from, end) in [(next, u32::MAX), (FIRST_CLUSTER, next)] {
        while let Some((start, len)) = set.run(from, count).filter(|(start, _)| *start < end) {
            if len == count {
                return Some(start);
            }
            from = start + len;
        }
    }
    None
}
