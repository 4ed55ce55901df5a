//! The volume: nodes, directories and the bytes of files.

use std::collections::HashMap;
use std::sync::Arc;

use super::descriptor::{SECTOR, Set};
use super::record::{Record, joliet_name, plain_name};
use super::rock::{self, Attributes};
use crate::base::{Error, Kind, Name, Result};
use crate::disk::Device;
use crate::fs::{DirEntry, FileType, Metadata, NodeId, Segment, Stored, covered};

/// Longest directory that is read: about half a million names.
const MAX_DIR: u64 = 64 << 20;
/// Names kept between operations.
const NAMES: usize = 1 << 18;
/// Pieces that one file may have; each has up to 4 GiB.
const MAX_PIECES: usize = 1024;
/// What Linux gives files without permission bits: the disc may come from anywhere, everything may be a program.
const MODE: u32 = 0o555;

/// Which names a volume shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// NM entries; system use fields begin after this many bytes.
    RockRidge {
        skip: usize,
    },
    Joliet,
    Plain,
}

/// A node as its records tell.
#[derive(Clone)]
pub struct Node {
    /// What `stat` answers.
    pub metadata: Metadata,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// First byte on the device and length of the pieces of the data.
    pub pieces: Vec<(u64, u64)>,
    /// Why the content cannot be read.
    pub unreadable: Option<&'static str>,
}

/// A directory that was read.
pub struct Directory {
    /// Names in the order of the records.
    pub entries: Vec<DirEntry>,
    by_name: HashMap<Name, usize>,
}

impl Directory {
    /// The node of a name.
    pub fn find(&self, name: &[u8]) -> Option<NodeId> {
        self.by_name.get(name).and_then(|at| self.entries.get(*at)).map(|entry| entry.node)
    }
}

/// An open volume. A node's number is the byte on the device where its record is; of a directory, that of its own
/// `.` record, wherever it was found.
pub struct Volume {
    device: Device,
    /// The primary descriptor and Joliet's.
    pub set: Set,
    /// Logical block size in bytes.
    pub block_size: u64,
    names: Names,
    root: NodeId,
    directories: HashMap<NodeId, Arc<Directory>>,
    kept: usize,
    /// The directory in which each directory was found first: a second one would be a circle, or worse.
    parents: HashMap<NodeId, NodeId>,
}

impl Volume {
    /// Opens the volume: reads the descriptors and the root's own record.
    pub fn open(device: Device) -> Result<Self> {
        let Some(set) = Set::read(device.as_ref())? else {
            return Err(Error::corrupt("iso9660: no primary volume descriptor"));
        };
        let block_size = set.primary.block_size()?;
        let root_of = |record: &[u8]| Ok::<_, Error>(NodeId(Record::parse(record)?.block() * block_size));
        let root = root_of(set.primary.root())?;
        let mut volume = Volume {
            device,
            set,
            block_size,
            names: Names::Plain,
            root,
            directories: HashMap::new(),
            kept: 0,
            parents: HashMap::new(),
        };
        if let Some(skip) = volume.rock_ridge()? {
            volume.names = Names::RockRidge { skip };
        } else if let Some(joliet) = &volume.set.joliet {
            volume.root = root_of(joliet.root())?;
            volume.block_size = joliet.block_size()?;
            volume.names = Names::Joliet;
        }
        Ok(volume)
    }

    /// Whether the root's own record begins with SP and has Rock Ridge's entries; how many bytes to skip in others.
    fn rock_ridge(&self) -> Result<Option<usize>> {
        // Discs that are also CD-ROM XA have fourteen bytes of that before the first entry.
        const XA: usize = 14;
        let bytes = self.record_at(self.root)?;
        let field = Record::parse(&bytes)?.system_use();
        for before in [0, XA] {
            let field = field.get(before..).unwrap_or_default();
            if field.starts_with(b"SP") {
                let found = rock::read(self.device.as_ref(), self.block_size, field)?;
                return Ok(found.skip.filter(|_| found.present));
            }
        }
        Ok(None)
    }

    /// The root directory.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The bytes of the record at a node's number, and what follows it in its sector.
    fn record_at(&self, node: NodeId) -> Result<Vec<u8>> {
        let rest = self.device.len().checked_sub(node.0).ok_or(Kind::NotFound)?;
        let len = (SECTOR - node.0 % SECTOR).min(rest);
        let mut bytes = vec![0; len as usize];
        self.device.read_at(node.0, &mut bytes)?;
        Ok(bytes)
    }

    fn rock(&self, record: &Record) -> Result<Attributes> {
        match self.names {
            Names::RockRidge { skip } => {
                let own_root = record.is_own() && self.place(record) == self.root.0;
                let field = record.system_use();
                let field = if own_root { field } else { field.get(skip..).unwrap_or_default() };
                rock::read(self.device.as_ref(), self.block_size, field)
            }
            _ => Ok(Attributes::default()),
        }
    }

    /// Where a record's data begins.
    fn place(&self, record: &Record) -> u64 {
        record.block() * self.block_size
    }

    /// The own record of a directory.
    fn own_record(&self, dir: NodeId) -> Result<Vec<u8>> {
        let bytes = self.record_at(dir)?;
        match Record::parse(&bytes) {
            Ok(record) if record.is_own() && record.is_dir() && self.place(&record) == dir.0 => Ok(bytes),
            _ => Err(Error::corrupt(format!(
                "iso9660: directory at block {}: it does not begin with its own record",
                dir.0 / self.block_size
            ))),
        }
    }

    /// The node of a number.
    pub fn node(&self, id: NodeId) -> Result<Node> {
        let bytes = self.record_at(id)?;
        let record = Record::parse(&bytes)?;
        let is_dir = record.is_own();
        if is_dir {
            self.own_record(id)?;
        }
        let rock = self.rock(&record)?;
        let mut pieces = vec![(self.place(&record), record.data_len())];
        let mut unreadable = rock.compressed.then_some("compressed (zisofs) content cannot be read");
        if record.is_interleaved() {
            unreadable = Some("interleaved files cannot be read");
        }
        if !is_dir && record.continues() {
            self.more_pieces(id, &record, &mut pieces)?;
        }
        let size = pieces.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.1));
        let [mode, links, uid, gid] = rock.posix.unwrap_or([0, 1, 0, 0]);
        let file_type = match FileType::from_mode(mode) {
            _ if is_dir => FileType::Directory,
            None if rock.posix.is_none() => FileType::Regular,
            None | Some(FileType::Directory) => {
                return Err(Error::corrupt(format!("iso9660: record {}: mode {mode:o}", id.0)));
            }
            Some(file_type) => file_type,
        };
        if rock.broken_target {
            return Err(Error::corrupt(format!("iso9660: record {}: the target of the link does not fit", id.0)));
        }
        let target = rock.target.unwrap_or_default();
        let size = match file_type {
            FileType::Regular | FileType::Directory => size,
            FileType::Symlink => target.len() as u64,
            _ => 0,
        };
        let date = record.date();
        let [created, modified, accessed, changed] = rock.times;
        let metadata = Metadata {
            // Linux counts in units of 32 bytes, of which no record is shorter.
            inode: id.0 / 32,
            file_type,
            mode: if rock.posix.is_some() { mode & 0o7777 } else { MODE },
            links: links.into(),
            uid,
            gid,
            size,
            blocks: if file_type == FileType::Symlink { 0 } else { size.div_ceil(512) },
            block_size: self.block_size as u32,
            device: rock.device.unwrap_or_default(),
            accessed: accessed.unwrap_or(date),
            modified: modified.unwrap_or(date),
            changed: changed.or(created).unwrap_or(date),
            created,
        };
        Ok(Node { metadata, target, pieces, unreadable })
    }

    /// The further pieces of a file whose first record is at `id`.
    fn more_pieces(&self, id: NodeId, first: &Record, pieces: &mut Vec<(u64, u64)>) -> Result<()> {
        let mut at = id.0 + first.len() as u64;
        loop {
            let bytes = self.record_at(NodeId(at))?;
            if bytes.first().is_none_or(|len| *len == 0) {
                // Records do not cross sectors: zeros to the end of this one, then the next one begins.
                let next = (at / SECTOR + 1) * SECTOR;
                if at.is_multiple_of(SECTOR) || next >= self.device.len() {
                    return Err(Error::corrupt(format!("iso9660: record {}: its last piece is missing", id.0)));
                }
                at = next;
                continue;
            }
            let record = Record::parse(&bytes)?;
            if record.raw_name() != first.raw_name() || record.is_interleaved() {
                return Err(Error::corrupt(format!("iso9660: record {}: its last piece is missing", id.0)));
            }
            pieces.push((self.place(&record), record.data_len()));
            if !record.continues() {
                return Ok(());
            }
            if pieces.len() >= MAX_PIECES {
                return Err(Error::unsupported(format!("iso9660: record {}: over {MAX_PIECES} pieces", id.0)));
            }
            at += record.len() as u64;
        }
    }

    /// A directory's names.
    ///
    /// # Errors
    /// `Kind::NotADirectory`; `Kind::Corrupt` for a directory in two places, records that do not fit.
    pub fn directory(&mut self, id: NodeId) -> Result<Arc<Directory>> {
        if let Some(found) = self.directories.get(&id) {
            return Ok(found.clone());
        }
        if !Record::parse(&self.record_at(id)?)?.is_own() {
            return Err(Kind::NotADirectory.into());
        }
        let own = self.own_record(id)?;
        let len = Record::parse(&own)?.data_len();
        if len > MAX_DIR {
            return Err(Error::unsupported(format!(
                "iso9660: directory at block {}: {len} bytes, more than {MAX_DIR}",
                id.0 / self.block_size
            )));
        }
        let found = Arc::new(self.read_records(id, len)?);
        if self.kept > NAMES {
            self.directories.clear();
            self.kept = 0;
        }
        self.kept += found.entries.len() + 1;
        self.directories.insert(id, found.clone());
        Ok(found)
    }

    fn read_records(&mut self, dir: NodeId, len: u64) -> Result<Directory> {
        let mut found = Directory { entries: Vec::new(), by_name: HashMap::new() };
        // The piece before was not the last one of its file.
        let mut inside = false;
        let mut sector = vec![0; SECTOR as usize];
        for start in (0..len).step_by(SECTOR as usize) {
            sector.truncate((len - start).min(SECTOR) as usize);
            self.device.read_at(dir.0 + start, &mut sector)?;
            let mut at = 0;
            while let Some(rest) = sector.get(at..).filter(|rest| rest.first().is_some_and(|len| *len > 0)) {
                let record = Record::parse(rest)?;
                let here = NodeId(dir.0 + start + at as u64);
                at += record.len();
                let later_piece = std::mem::replace(&mut inside, record.continues());
                if later_piece || record.is_own() || record.is_parent() || record.is_associated() {
                    continue;
                }
                if let Some(entry) = self.entry(dir, here, &record)? {
                    found.by_name.entry(entry.name.clone()).or_insert(found.entries.len());
                    found.entries.push(entry);
                }
            }
        }
        Ok(found)
    }

    /// What a directory shows of a record.
    fn entry(&mut self, dir: NodeId, here: NodeId, record: &Record) -> Result<Option<DirEntry>> {
        let rock = self.rock(record)?;
        if rock.moved {
            return Ok(None);
        }
        let name = match (rock.name, self.names) {
            (Some(name), _) => name,
            (None, Names::Joliet) => joliet_name(record.raw_name()),
            (None, _) => plain_name(record.raw_name()),
        };
        let child = match rock.moved_to {
            Some(block) => Some(u64::from(block) * self.block_size),
            None if record.is_dir() => Some(self.place(record)),
            None => None,
        };
        let Some(child) = child.map(NodeId) else {
            let file_type = match rock.posix {
                Some([mode, ..]) => FileType::from_mode(mode),
                None => Some(FileType::Regular),
            };
            return Ok(Some(DirEntry { name: Name(name), node: here, file_type }));
        };
        let parent = *self.parents.entry(child).or_insert(dir);
        if parent != dir || child == self.root {
            return Err(Error::corrupt(format!(
                "iso9660: directory at block {} is in two places",
                child.0 / self.block_size
            )));
        }
        Ok(Some(DirEntry { name: Name(name), node: child, file_type: Some(FileType::Directory) }))
    }

    /// Reads bytes of a regular file.
    pub fn read(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let node = self.node(id)?;
        node.metadata.file_type.check_regular()?;
        if let Some(why) = node.unreadable {
            return Err(Error::unsupported(format!("iso9660: {why}")));
        }
        let (mut done, mut start) = (0, 0u64);
        for (place, len) in node.pieces {
            let end = start.saturating_add(len);
            let wanted = offset + done as u64;
            if wanted >= start && wanted < end && done < buf.len() {
                let part = (buf.len() - done).min((end - wanted) as usize);
                self.device.read_at(place + (wanted - start), &mut buf[done..done + part])?;
                done += part;
            }
            start = end;
        }
        Ok(done)
    }

    /// See [`crate::fs::FileSystem::layout`].
    pub fn layout(&self, id: NodeId) -> Result<Vec<Segment>> {
        let node = self.node(id)?;
        if node.metadata.file_type != FileType::Regular {
            return Err(Kind::Invalid.into());
        }
        if let Some(why) = node.unreadable {
            return Err(Error::unsupported(format!("iso9660: {why}")));
        }
        let mut offset = 0_u64;
        let segments = node.pieces.into_iter().map(|(place, len)| {
            let block = Some(place / self.block_size.max(1));
            let segment = Segment { offset, len, block, stored: Stored::Data(place) };
            offset = offset.saturating_add(len);
            segment
        });
        Ok(covered(node.metadata.size, segments))
    }
}
