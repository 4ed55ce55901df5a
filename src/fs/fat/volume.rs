//! The volume: nodes, directories and the bytes of files, as they are read.

use std::collections::HashMap;

use super::boot::{BOOT_BYTES, Boot, SLOT, Width};
use super::directory::{self, Directory};
use super::table::{Run, Table};
use super::time;
use crate::base::bytes::{le32, u8_at};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{DirEntry, Extent, FileType, FsInfo, Fsid, Metadata, NodeId, Segment, Stored, covered};

/// The root directory. Every other node is its short entry's place on the volume, in units of 32 bytes,
/// which is never below 16.
pub const ROOT: NodeId = NodeId(1);
/// Bytes of directories kept between operations.
const DIRECTORY_BYTES: usize = 16 << 20;
/// Chains kept between operations, and runs in all of them.
const CHAINS: usize = 512;
const CHAIN_RUNS: usize = 1 << 18;
/// guestfish's appliance mounts with the umask 022; FAT has no permission bits but "read only".
const MODE: u32 = 0o755;
const WRITE_BITS: u32 = 0o222;

/// A node, as its short entry tells.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The short entry; of the root all zeros but for the attribute.
    pub entry: [u8; SLOT],
    /// First cluster; 0 for an empty file and for the root of FAT12 and FAT16.
    pub first: u32,
    /// Size in bytes of a file.
    pub size: u32,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        u8_at(&self.entry, 11) & directory::DIRECTORY != 0
    }
}

/// An open FAT volume.
pub struct Volume {
    pub(super) device: Device,
    pub(super) boot: Boot,
    pub(super) table: Table,
    /// Directories by their first cluster.
    pub(super) dirs: HashMap<u32, Directory>,
    /// Clusters of cached directories: the directory's first cluster, and the position in it.
    homes: HashMap<u32, (u32, usize)>,
    dir_bytes: usize,
    pub(super) chains: HashMap<u32, Vec<Run>>,
    chain_runs: usize,
    pub(super) now: Timestamp,
}

/// The text of a label's entry.
fn label_text(entry: &[u8]) -> String {
    String::from_utf8_lossy(entry.get(..11).unwrap_or_default()).trim_end().to_string()
}

/// Looks for the label in the root directory, without opening the volume; an empty word if there is none.
pub fn find_label(device: &dyn BlockDevice, boot: &Boot) -> Result<String> {
    // mkfs and Windows put it first: more of a FAT32 root than this is not searched.
    const MOST: u64 = 1 << 20;
    let (at, len) = match boot.width {
        Width::Fat32 => (boot.cluster_at(boot.root_cluster), u64::from(boot.cluster)),
        _ => (boot.root_at, boot.root_len),
    };
    let len = len.min(MOST).min(device.len().saturating_sub(at));
    let mut bytes = vec![0; len as usize];
    if !bytes.is_empty() {
        device.read_at(at, &mut bytes)?;
    }
    let dir = Directory::parse(bytes, Vec::new(), boot.width == Width::Fat32);
    Ok(dir.label.map(|slot| label_text(dir.slot(slot))).unwrap_or_default())
}

/// Reads the boot sector; `None` if the device is too small for one.
pub fn read_boot(device: &dyn BlockDevice) -> Result<Option<[u8; BOOT_BYTES]>> {
    if device.len() < BOOT_BYTES as u64 {
        return Ok(None);
    }
    let mut sector = [0; BOOT_BYTES];
    device.read_at(0, &mut sector)?;
    Ok(Some(sector))
}

impl Volume {
    /// Opens the volume on a device.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a boot sector that contradicts itself or names more than the device has.
    pub fn open(device: Device) -> Result<Self> {
        let Some(sector) = read_boot(device.as_ref())? else {
            return Err(Error::corrupt("vfat: the device is smaller than a boot sector"));
        };
        let boot = Boot::parse(&sector)?;
        if boot.len() > device.len() {
            return Err(Error::corrupt(format!(
                "vfat: boot sector: a volume of {} bytes on a device of {}",
                boot.len(),
                device.len()
            )));
        }
        let table = Table::new(device.clone(), boot.clone());
        Ok(Volume {
            device,
            boot,
            table,
            dirs: HashMap::new(),
            homes: HashMap::new(),
            dir_bytes: 0,
            chains: HashMap::new(),
            chain_runs: 0,
            now: Timestamp::default(),
        })
    }

    pub(super) fn fat32(&self) -> bool {
        self.boot.width == Width::Fat32
    }

    /// Why nothing may be written.
    pub fn refusal(&self) -> Option<String> {
        if self.boot.dirty {
            return Some("vfat: the dirty bit is set: the volume was not unmounted".into());
        }
        self.device.read_only().then(|| "the disk is read-only".into())
    }

    /// Drops directories and chains when many are kept. Only between operations.
    pub(super) fn trim(&mut self) -> Result<()> {
        if self.dir_bytes > DIRECTORY_BYTES {
            self.flush_dirs()?;
            self.dirs.clear();
            self.homes.clear();
            self.dir_bytes = 0;
        }
        if self.chains.len() > CHAINS || self.chain_runs > CHAIN_RUNS {
            self.chains.clear();
            self.chain_runs = 0;
        }
        Ok(())
    }

    /// Forgets everything that was read or changed, and reads the boot sector again.
    pub fn reload(&mut self) -> Result<()> {
        self.dirs.clear();
        self.homes.clear();
        self.dir_bytes = 0;
        self.chains.clear();
        self.chain_runs = 0;
        let sector = read_boot(self.device.as_ref())?.ok_or(Kind::Io)?;
        if Boot::parse(&sector)? != self.boot {
            let table = Volume::open(self.device.clone())?.table;
            (self.boot, self.table) = (Boot::parse(&sector)?, table);
        }
        self.table.reload();
        Ok(())
    }

    /// The clusters of a chain that begins at `first`. Put back with [`Volume::keep_chain`].
    pub(super) fn chain(&mut self, first: u32) -> Result<Vec<Run>> {
        match self.chains.remove(&first) {
            Some(runs) => {
                self.chain_runs = self.chain_runs.saturating_sub(runs.len());
                Ok(runs)
            }
            None => self.table.chain(first, u32::MAX),
        }
    }

    pub(super) fn keep_chain(&mut self, runs: Vec<Run>) {
        if let Some(run) = runs.first() {
            self.chain_runs += runs.len();
            self.chains.insert(run.start, runs);
        }
    }

    /// Where the directory of the root's or a cluster's first cluster is: byte on the volume of one of its bytes.
    pub(super) fn dir_place(&self, dir: &Directory, at: usize) -> Option<u64> {
        if dir.clusters.is_empty() {
            return Some(self.boot.root_at + at as u64);
        }
        let cluster = self.boot.cluster as usize;
        dir.clusters.get(at / cluster).map(|c| self.boot.cluster_at(*c) + (at % cluster) as u64)
    }

    /// The cached directory and the byte in it that a byte of the volume is, if it is cached.
    fn cached_place(&self, at: u64) -> Option<(u32, usize)> {
        match self.boot.cluster_of(at) {
            Some(cluster) => {
                let (home, position) = *self.homes.get(&cluster)?;
                Some((home, position * self.boot.cluster as usize + (at - self.boot.cluster_at(cluster)) as usize))
            }
            None => self.dirs.contains_key(&0).then(|| (0, at.wrapping_sub(self.boot.root_at) as usize)),
        }
    }

    fn node_at(&self, id: NodeId) -> Result<u64> {
        let at = id.0.checked_mul(SLOT as u64).ok_or(Kind::NotFound)?;
        let in_root = at >= self.boot.root_at && at < self.boot.root_at + self.boot.root_len;
        if in_root || self.boot.cluster_of(at).is_some() { Ok(at) } else { Err(Kind::NotFound.into()) }
    }

    /// The node of an id.
    pub fn node(&mut self, id: NodeId) -> Result<Node> {
        let mut entry = [0; SLOT];
        if id == ROOT {
            entry[11] = directory::DIRECTORY;
            return Ok(Node { entry, first: self.boot.root_cluster, size: 0 });
        }
        let at = self.node_at(id)?;
        match self.cached_place(at) {
            Some((home, byte)) => {
                let slot = self.dirs.get(&home).map(|dir| dir.slot(byte / SLOT)).unwrap_or_default();
                entry = slot.try_into().map_err(|_| Kind::NotFound)?;
            }
            None => self.device.read_at(at, &mut entry)?,
        }
        if !directory::is_node(&entry) {
            return Err(Kind::NotFound.into());
        }
        let first = directory::first_cluster(&entry, self.fat32());
        Ok(Node { entry, first, size: le32(&entry, 28) })
    }

    /// Changes the short entry of a node; the root has none.
    pub(super) fn change(&mut self, id: NodeId, change: impl FnOnce(&mut [u8])) -> Result<()> {
        if id == ROOT {
            return Ok(());
        }
        let at = self.node_at(id)?;
        if let Some((home, byte)) = self.cached_place(at)
            && let Some(dir) = self.dirs.get_mut(&home)
        {
            change(dir.slot_mut(byte / SLOT));
            return Ok(());
        }
        let mut entry = [0; SLOT];
        self.device.read_at(at, &mut entry)?;
        change(&mut entry);
        self.device.write_at(at, &entry)
    }

    /// Loads the directory that a node is; answers its key in `dirs`.
    pub(super) fn dir(&mut self, id: NodeId) -> Result<u32> {
        let node = self.node(id)?;
        if !node.is_dir() {
            return Err(Kind::NotADirectory.into());
        }
        if self.dirs.contains_key(&node.first) {
            return Ok(node.first);
        }
        if id == ROOT && !self.fat32() {
            let mut bytes = vec![0; self.boot.root_len as usize];
            self.device.read_at(self.boot.root_at, &mut bytes)?;
            self.keep_dir(0, Directory::parse(bytes, Vec::new(), false));
            return Ok(0);
        }
        let bad = |what: &str| Error::corrupt(format!("vfat: directory at cluster {}: {what}", node.first));
        if id != ROOT && (node.first == 0 || node.first == self.boot.root_cluster) {
            return Err(bad("it is the root's"));
        }
        let cluster = self.boot.cluster as usize;
        let most = (directory::MAX_SLOTS * SLOT / cluster).max(1) as u32;
        let runs = self.table.chain(node.first, most + 1)?;
        if runs.iter().map(|r| r.len).sum::<u32>() > most {
            return Err(bad("it is longer than 65536 entries"));
        }
        let mut bytes = Vec::new();
        let mut clusters = Vec::new();
        for run in runs {
            let from = bytes.len();
            bytes.resize(from + run.len as usize * cluster, 0);
            self.device.read_at(self.boot.cluster_at(run.start), &mut bytes[from..])?;
            clusters.extend(run.start..run.start + run.len);
        }
        let dir = Directory::parse(bytes, clusters, self.fat32());
        if id != ROOT {
            // The one check that keeps a damaged tree from going round in a circle.
            let parent = dir.parent.ok_or_else(|| bad("no '..' entry"))?;
            let home = self.cached_place(self.node_at(id)?).map(|(home, _)| home);
            let own = |cluster: u32| if cluster == self.boot.root_cluster { 0 } else { cluster };
            if home.is_some_and(|home| own(home) != own(parent)) {
                return Err(bad(&format!("its '..' names cluster {parent}, which is not the directory it is in")));
            }
        }
        self.keep_dir(node.first, dir);
        Ok(node.first)
    }

    pub(super) fn keep_dir(&mut self, first: u32, dir: Directory) {
        self.dir_bytes += dir.bytes.len();
        for (position, cluster) in dir.clusters.iter().enumerate() {
            self.homes.insert(*cluster, (first, position));
        }
        self.dirs.insert(first, dir);
    }

    /// Adds a cluster of zeros to a cached directory.
    pub(super) fn grow_dir(&mut self, key: u32) -> Result<()> {
        let dir = self.dirs.get_mut(&key).ok_or(Kind::Internal)?;
        let (Some(last), true) = (dir.clusters.last().copied(), dir.capacity() < directory::MAX_SLOTS) else {
            return Err(Kind::NoSpace.into());
        };
        for run in self.table.allocate(1)? {
            self.table.join(last, run.start)?;
            self.homes.insert(run.start, (key, dir.clusters.len()));
            dir.grow(run.start, self.boot.cluster as usize);
            self.dir_bytes += self.boot.cluster as usize;
        }
        Ok(())
    }

    pub(super) fn drop_dir(&mut self, first: u32) {
        if let Some(dir) = self.dirs.remove(&first) {
            self.dir_bytes = self.dir_bytes.saturating_sub(dir.bytes.len());
            for cluster in &dir.clusters {
                self.homes.remove(cluster);
            }
        }
    }

    /// A cached directory; [`Volume::dir`] has put it there.
    pub(super) fn cached(&mut self, key: u32) -> Result<&mut Directory> {
        self.dirs.get_mut(&key).ok_or_else(|| Kind::Internal.into())
    }

    /// The node of a slot in a cached directory.
    pub(super) fn node_id(&self, key: u32, slot: usize) -> Result<NodeId> {
        let dir = self.dirs.get(&key).ok_or(Kind::Internal)?;
        let at = self.dir_place(dir, slot * SLOT).ok_or(Kind::Internal)?;
        Ok(NodeId(at / SLOT as u64))
    }

    /// See [`crate::fs::FileSystem::lookup`].
    pub fn lookup(&mut self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        self.trim()?;
        let key = self.dir(dir)?;
        match self.cached(key)?.find(name) {
            Some(slot) => self.node_id(key, slot).map(Some),
            None => Ok(None),
        }
    }

    /// See [`crate::fs::FileSystem::read_dir`].
    pub fn read_dir(&mut self, dir: NodeId) -> Result<Vec<DirEntry>> {
        self.trim()?;
        let key = self.dir(dir)?;
        let found = self.dirs.get(&key).ok_or(Kind::Internal)?;
        let entry = |(slot, entry): (&usize, &directory::Entry)| {
            let is_dir = u8_at(found.slot(*slot), 11) & directory::DIRECTORY != 0;
            let file_type = if is_dir { FileType::Directory } else { FileType::Regular };
            Ok(DirEntry {
                name: entry.name.as_slice().into(),
                node: self.node_id(key, *slot)?,
                file_type: Some(file_type),
            })
        };
        found.entries.iter().map(entry).collect()
    }

    /// See [`crate::fs::FileSystem::metadata`].
    pub fn metadata(&mut self, id: NodeId) -> Result<Metadata> {
        self.trim()?;
        let node = self.node(id)?;
        let (file_type, size, links) = if node.is_dir() {
            let key = self.dir(id)?;
            let dir = self.cached(key)?;
            let is_dir = |slot: &&usize| u8_at(dir.slot(**slot), 11) & directory::DIRECTORY != 0;
            (FileType::Directory, dir.bytes.len() as u64, 2 + dir.entries.keys().filter(is_dir).count() as u64)
        } else {
            (FileType::Regular, u64::from(node.size), 1)
        };
        let locked = u8_at(&node.entry, 11) & directory::READ_ONLY != 0 && !node.is_dir();
        // The root has no entry: Linux gives it the time 0.
        let (modified, accessed) = match id {
            ROOT => Default::default(),
            _ => (time::modified(&node.entry), time::accessed(&node.entry)),
        };
        Ok(Metadata {
            inode: id.0,
            file_type,
            mode: if locked { MODE & !WRITE_BITS } else { MODE },
            links,
            uid: 0,
            gid: 0,
            size,
            blocks: self.boot.clusters_for(size) * u64::from(self.boot.cluster) / 512,
            block_size: self.boot.cluster,
            device: (0, 0),
            accessed,
            modified,
            changed: modified,
            created: time::created(&node.entry),
        })
    }

    /// A node that must be a file.
    pub(super) fn file(&mut self, id: NodeId) -> Result<Node> {
        let node = self.node(id)?;
        if node.is_dir() { Err(Kind::IsADirectory.into()) } else { Ok(node) }
    }

    /// See [`crate::fs::FileSystem::read`].
    pub fn read(&mut self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.trim()?;
        let node = self.file(id)?;
        let len = u64::from(node.size).saturating_sub(offset).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..len).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let runs = self.chain(node.first)?;
        let mut done = 0;
        for (at, piece) in self.places(&runs, offset, len as u64) {
            let piece = piece as usize;
            self.device.read_at(at, &mut buf[done..done + piece])?;
            done += piece;
        }
        self.keep_chain(runs);
        if done < len {
            return Err(self.short_chain(&node));
        }
        Ok(len)
    }

    pub(super) fn short_chain(&self, node: &Node) -> Error {
        Error::corrupt(format!("vfat: a file of {} bytes at cluster {}: its chain is too short", node.size, node.first))
    }

    /// Bytes of the volume, and their number, that bytes of a file are; less than asked if the chain ends.
    pub(super) fn places(&self, runs: &[Run], offset: u64, len: u64) -> Vec<(u64, u64)> {
        let cluster = u64::from(self.boot.cluster);
        let end = offset.saturating_add(len);
        let first = runs.partition_point(|run| u64::from(run.index + run.len) * cluster <= offset);
        let mut places = Vec::new();
        for run in &runs[first..] {
            let (from, to) = (u64::from(run.index) * cluster, u64::from(run.index + run.len) * cluster);
            let (from_here, to_here) = (offset.max(from), end.min(to));
            if from_here >= to_here {
                break;
            }
            places.push((self.boot.cluster_at(run.start) + (from_here - from), to_here - from_here));
        }
        places
    }

    /// See [`crate::fs::FileSystem::extents`]: FAT has no holes.
    pub fn extents(&mut self, id: NodeId) -> Result<Vec<Extent>> {
        let size = u64::from(self.file(id)?.size);
        Ok(if size == 0 { Vec::new() } else { vec![Extent { range: 0..size, hole: false }] })
    }

    /// See [`crate::fs::FileSystem::layout`].
    pub fn layout(&mut self, id: NodeId) -> Result<Vec<Segment>> {
        let node = self.file(id)?;
        let (size, cluster) = (u64::from(node.size), u64::from(self.boot.cluster));
        if size == 0 {
            return Ok(Vec::new());
        }
        let runs = self.chain(node.first)?;
        let segments: Vec<Segment> = runs
            .iter()
            .map(|run| Segment {
                offset: u64::from(run.index) * cluster,
                len: u64::from(run.len) * cluster,
                block: Some(run.start.into()),
                stored: Stored::Data(self.boot.cluster_at(run.start)),
            })
            .collect();
        self.keep_chain(runs);
        if segments.last().is_none_or(|last| last.offset + last.len < size) {
            return Err(self.short_chain(&node));
        }
        Ok(covered(size, segments))
    }

    /// The label in the root directory, as blkid prints it.
    pub fn label(&mut self) -> Result<String> {
        let key = self.dir(ROOT)?;
        let dir = self.cached(key)?;
        let Some(slot) = dir.label else { return Ok(String::new()) };
        Ok(label_text(dir.slot(slot)))
    }

    /// See [`crate::fs::FileSystem::info`].
    pub fn info(&mut self) -> Result<FsInfo> {
        self.trim()?;
        let free = u64::from(self.table.count_free()?);
        Ok(FsInfo {
            fs_type: "vfat".into(),
            label: self.label()?,
            uuid: self.boot.uuid(),
            block_size: u64::from(self.boot.cluster),
            blocks: u64::from(self.boot.clusters),
            free_blocks: free,
            available_blocks: free,
            // Linux: 255 UTF-16 units of up to six bytes.
            name_max: 1530,
            read_only: self.refusal(),
            fsid: Fsid::OfDevice,
            ..FsInfo::default()
        })
    }

    /// Writes back changed directories.
    pub(super) fn flush_dirs(&mut self) -> Result<()> {
        let mut changed: Vec<u32> = self.dirs.iter().filter(|(_, dir)| dir.is_dirty()).map(|(key, _)| *key).collect();
        changed.sort_unstable();
        for key in changed {
            let ranges = self.cached(key)?.take_dirty();
            let dir = self.dirs.get(&key).ok_or(Kind::Internal)?;
            for range in ranges {
                let mut at = range.start;
                while at < range.end {
                    let cluster = if dir.clusters.is_empty() { dir.bytes.len() } else { self.boot.cluster as usize };
                    let end = range.end.min((at / cluster + 1) * cluster);
                    let (Some(place), Some(bytes)) = (self.dir_place(dir, at), dir.bytes.get(at..end)) else {
                        return Err(Kind::Internal.into());
                    };
                    self.device.write_at(place, bytes)?;
                    at = end;
                }
            }
        }
        Ok(())
    }
}
