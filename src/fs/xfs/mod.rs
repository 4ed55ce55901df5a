//! XFS of versions 4 and 5, read only: every form of directories, extents and attributes, with all checksums.
//!
//! `docs/formats/xfs.md` says what is read and what is refused.

mod attributes;
mod directory;
mod inode;
mod log;
mod map;
mod superblock;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::base::bytes::{be32, be64};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp};
use crate::disk::{BlockDevice, Device};
use crate::fs::{
    DirEntry, Edit, Extent, FileSystem, FileType, FsInfo, Fsid, Identity, Metadata, NodeId, Segment, Stored, covered,
    push_extent,
};

use inode::{Format, Inode};
use log::{MapChange, Outcome};
use map::Run;
pub use superblock::Geometry;
use superblock::{Superblock, crc_is_good};

/// Word of `vfs-type`.
pub const NAMES: &[&str] = &["xfs"];

const REPLAYED: &str = "it was not unmounted: its log is replayed in memory, and the image is not changed";
/// Longest target of a symbolic link (XFS_SYMLINK_MAXLEN).
const LINK_MAX: u64 = 1024;
const LINK: Frame = Frame { magic: 0x5853_4c4d, sum: Sum { crc: 12, owner: 32, place: 40 }, spans_runs: true };
/// Blocks tell their own places in these.
const SECTOR: u64 = 512;
/// Groups whose counts are summed up after a replay; with more of them the superblock's counts must do.
const RECOUNTED: u32 = 1 << 14;
/// Bytes of blocks that are kept.
const CACHE: usize = 16 << 20;
/// Blocks that every group keeps back, as Linux counts them for statfs.
const KEPT_BACK: u64 = 8;
/// Inodes are made in chunks of so many.
const CHUNK: u64 = 64;
/// Flags of inodes (`XFS_DIFLAG_`) that lsattr has letters for.
const FLAGS: &[(u16, char)] = &[(0x40, 'A'), (0x20, 'S'), (0x10, 'a'), (0x80, 'd'), (0x8, 'i')];

/// See [`crate::fs::Driver::probe`].
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(superblock::probe(device)?.map(|(label, uuid)| Identity {
        fs_type: "xfs".into(),
        label: String::from_utf8_lossy(&label).into_owned(),
        uuid: uuid.to_string(),
    }))
}

/// See [`crate::fs::Driver::open`].
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    Ok(Box::new(Xfs::open(device)?))
}

/// Places of checksum, owner and own place (in sectors of 512 bytes) in a block of version 5.
#[derive(Debug, Clone, Copy)]
struct Sum {
    crc: usize,
    owner: usize,
    place: usize,
}

/// What is around bytes that are no fork's own.
#[derive(Debug, Clone, Copy)]
struct Frame {
    magic: u32,
    sum: Sum,
    /// Whether one header is for all blocks that follow each other, or each block has its own.
    spans_runs: bool,
}

/// The runs of the file that was read last.
type LastMap = Option<(u64, Arc<Vec<Run>>)>;

/// An open file system.
pub struct Xfs {
    /// As it is on the disk, and as it reads with the log replayed.
    base: Device,
    device: Device,
    superblock: Superblock,
    /// What those who read should know.
    notice: Option<String>,
    /// Changes of files' maps that the log promises.
    map_changes: Vec<MapChange>,
    blocks: RefCell<HashMap<u64, Arc<Vec<u8>>>>,
    last: RefCell<LastMap>,
}

impl Xfs {
    /// Opens a file system: reads its superblock and looks at the end of its log.
    ///
    /// # Errors
    /// Features that are not read, damage.
    pub fn open(device: Device) -> Result<Self> {
        let superblock = Superblock::open(device.as_ref())?;
        let (view, superblock, notice, map_changes) = match log::recover(&device, &superblock)? {
            Outcome::Clean => (device.clone(), superblock, None, Vec::new()),
            Outcome::Left(why) => (device.clone(), superblock, Some(why), Vec::new()),
            Outcome::Replayed(view, superblock, pending) => {
                let left = pending.left.map(|left| format!("; changes that it promises are left out: {left}"));
                (view, *superblock, Some(format!("{REPLAYED}{}", left.unwrap_or_default())), pending.maps)
            }
        };
        let notice = match superblock.needs_repair {
            true => Some("it is marked as needing repair (needsrepair): run xfs_repair".into()),
            false => notice,
        };
        let was_replayed = !Arc::ptr_eq(&device, &view);
        let (blocks, last) = Default::default();
        let mut fs = Xfs { base: device, device: view, superblock, notice, map_changes, blocks, last };
        if was_replayed && fs.superblock.groups <= RECOUNTED {
            fs.recount()?;
        }
        Ok(fs)
    }

    /// Sums up what is free in the groups, as Linux does after a replay: until the unmount the superblock's counts are not kept.
    fn recount(&mut self) -> Result<()> {
        let (mut free, mut inodes, mut free_inodes) = (0, 0, 0);
        for group in 0..u64::from(self.superblock.groups) {
            let header = self.superblock.place(group << self.superblock.group_log);
            let header =
                header.ok_or_else(|| Error::corrupt(format!("xfs: group {group} is outside the file system")))?;
            let sector = self.superblock.sector as u64;
            let mut words = [0; 64];
            self.device.read_at(header + sector, &mut words)?;
            // agf_flcount, agf_freeblks, agf_btreeblks.
            free += [48, 52, 60].iter().map(|at| u64::from(be32(&words, *at))).sum::<u64>();
            self.device.read_at(header + 2 * sector, &mut words)?;
            // agi_count, agi_freecount.
            inodes += u64::from(be32(&words, 16));
            free_inodes += u64::from(be32(&words, 28));
        }
        (self.superblock.free, self.superblock.inodes, self.superblock.free_inodes) = (free, inodes, free_inodes);
        Ok(())
    }

    /// Inodes that there are and could be in so many free blocks, as Linux counts them for statfs (fs/xfs/xfs_super.c): no more than
    /// the superblock's part of the space holds, in whole chunks of 64.
    fn inodes_possible(&self, free: u64) -> u64 {
        let superblock = &self.superblock;
        let could = superblock.inodes.saturating_add(free.saturating_mul(1 << superblock.inode_log));
        let chunk = (CHUNK >> superblock.inode_log).max(1);
        let part = (u128::from(superblock.blocks) * u128::from(superblock.inodes_most) / 100) as u64;
        let most = (part / chunk * chunk).saturating_mul(1 << superblock.inode_log);
        let could = if superblock.inodes_most == 0 { could } else { could.min(most) };
        could.max(superblock.inodes)
    }

    /// Flags of a file as letters of lsattr, sorted.
    pub fn flag_letters(&self, node: NodeId) -> Result<String> {
        let flags = self.inode(node)?.flags();
        Ok(FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| *letter).collect())
    }

    /// A block by its number with the group in the high bits.
    fn block(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        if let Some(block) = self.blocks.borrow().get(&number) {
            return Ok(block.clone());
        }
        let place = self.superblock.place(number);
        let place =
            place.ok_or_else(|| Error::corrupt(format!("xfs: block {number:#x} is outside the file system")))?;
        let mut bytes = vec![0; self.superblock.block];
        self.device.read_at(place, &mut bytes)?;
        let block = Arc::new(bytes);
        let mut blocks = self.blocks.borrow_mut();
        if (blocks.len() + 1) * self.superblock.block > CACHE {
            blocks.clear();
        }
        blocks.insert(number, block.clone());
        Ok(block)
    }

    /// Checks sum, owner, UUID and own place of a block of version 5, which begins at a byte of the device. The UUID lies 16 bytes
    /// in front of the owner.
    fn check_sum(&self, block: &[u8], fields: Sum, number: u64, place: Option<u64>) -> Result<(), &'static str> {
        if !self.superblock.has_sums() {
            return Ok(());
        }
        let Sum { crc, owner, place: field } = fields;
        if !crc_is_good(block, crc) {
            return Err("its checksum is wrong");
        }
        if be64(block, owner) != number || block.get(owner - 16..owner) != Some(&self.superblock.meta_uuid[..]) {
            return Err("it belongs elsewhere (owner or uuid)");
        }
        if Some(be64(block, field)) != place.map(|byte| byte / SECTOR) {
            return Err("it belongs elsewhere (blkno)");
        }
        Ok(())
    }

    fn inode(&self, node: NodeId) -> Result<Inode> {
        let (number, log) = (node.0, self.superblock.inode_log);
        let block = self
            .block(number >> log)
            .map_err(|_| Error::corrupt(format!("xfs: inode {number} is outside the file system")))?;
        let at = (number & ((1 << log) - 1)) as usize * self.superblock.inode;
        let inode = Inode::new(&self.superblock, number, block[at..at + self.superblock.inode].to_vec())?;
        if inode.links() == 0 {
            return Err(Error::corrupt(format!("xfs: inode {number} is not in use")));
        }
        Ok(inode)
    }

    fn directory(&self, node: NodeId) -> Result<Inode> {
        let inode = self.inode(node)?;
        if inode.file_type() == FileType::Directory { Ok(inode) } else { Err(Kind::NotADirectory.into()) }
    }

    /// What the log promises to change in a file's map.
    fn promised(&self, inode: &Inode) -> impl Iterator<Item = &MapChange> {
        let number = inode.number;
        self.map_changes.iter().filter(move |change| change.inode == number)
    }

    /// Blocks of an inode, with what the log promises.
    fn blocks_of(&self, inode: &Inode) -> Result<u64> {
        if self.promised(inode).next().is_none() {
            return Ok(inode.blocks());
        }
        let sum = |runs: &[Run]| runs.iter().fold(0, |sum: u64, run| sum.saturating_add(run.len));
        let (before, after) = (sum(&self.map(inode, &inode.data()?)?), sum(&self.content(inode)?));
        Ok(inode.blocks().saturating_sub(before).saturating_add(after))
    }

    /// The runs of a file's content.
    fn content(&self, inode: &Inode) -> Result<Arc<Vec<Run>>> {
        if let Some((number, runs)) = &*self.last.borrow()
            && *number == inode.number
        {
            return Ok(runs.clone());
        }
        if inode.is_realtime() {
            let number = inode.number;
            return Err(Error::unsupported(format!("xfs: inode {number}: its content is on the realtime device")));
        }
        let mut runs = self.map(inode, &inode.data()?)?;
        self.promised(inode).for_each(|change| change.apply(&mut runs));
        self.check_runs(inode, &runs)?;
        let runs = Arc::new(runs);
        self.last.replace(Some((inode.number, runs.clone())));
        Ok(runs)
    }
}

impl FileSystem for Xfs {
    fn info(&self) -> Result<FsInfo> {
        let superblock = &self.superblock;
        let log = if superblock.log_start == 0 { 0 } else { superblock.log_blocks };
        let free = superblock.free.saturating_sub(KEPT_BACK * u64::from(superblock.groups));
        let inodes = self.inodes_possible(free);
        Ok(FsInfo {
            fs_type: "xfs".into(),
            label: String::from_utf8_lossy(&superblock.label).into_owned(),
            uuid: superblock.uuid.to_string(),
            block_size: superblock.block as u64,
            blocks: superblock.blocks.saturating_sub(log.into()),
            free_blocks: free,
            available_blocks: free,
            inodes,
            free_inodes: inodes.saturating_sub(superblock.inodes.saturating_sub(superblock.free_inodes)),
            name_max: 255,
            read_only: Some("XFS is read only here".into()),
            owners: true,
            fsid: Fsid::OfDevice,
        })
    }

    fn root(&self) -> NodeId {
        NodeId(self.superblock.root)
    }

    fn metadata(&self, node: NodeId) -> Result<Metadata> {
        let inode = self.inode(node)?;
        let file_type = inode.file_type();
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Metadata {
            inode: node.0,
            file_type,
            mode: inode.mode() & 0o7777,
            links: inode.links().into(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            blocks: self.blocks_of(&inode)?.saturating_mul(self.superblock.block as u64 / 512),
            block_size: self.superblock.block as u32,
            device: if is_device { inode.device() } else { (0, 0) },
            accessed: inode.accessed(),
            modified: inode.modified(),
            changed: inode.changed(),
            created: inode.created(),
        })
    }

    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        Ok(self.find(&self.directory(dir)?, name)?.map(NodeId))
    }

    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>> {
        self.list_dir(&self.directory(dir)?)
    }

    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf> {
        let inode = self.inode(node)?;
        if inode.file_type() != FileType::Symlink {
            return Err(Kind::Invalid.into());
        }
        let bad = |what: String| Error::corrupt(format!("xfs: inode {}: link: {what}", node.0));
        let fork = inode.data()?;
        let len = usize::try_from(inode.size()).ok().filter(|_| inode.size() <= LINK_MAX);
        let len = len.ok_or_else(|| bad(format!("a target of {} bytes", inode.size())))?;
        if fork.format == Format::Local {
            let target = fork.bytes.get(..len).ok_or_else(|| bad("it runs out of the inode".into()))?;
            return Ok(GuestPathBuf(target.to_vec()));
        }
        let runs = self.map(&inode, &fork)?;
        let target = self.framed(&runs, 0, len, LINK, node.0);
        Ok(GuestPathBuf(target.map_err(|error| bad(error.to_string()))?))
    }

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inode = self.inode(node)?;
        inode.file_type().check_regular()?;
        let len = inode.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        if len > 0 {
            self.read_runs(&self.content(&inode)?, offset, &mut buf[..len])?;
        }
        Ok(len)
    }

    fn extents(&self, node: NodeId) -> Result<Vec<Extent>> {
        let inode = self.inode(node)?;
        let (size, bs) = (inode.size(), self.superblock.block as u64);
        let mut extents = Vec::new();
        let mut add = |from: u64, to: u64, hole: bool| push_extent(&mut extents, size, from..to, hole);
        if inode.file_type() != FileType::Regular {
            add(0, size, false);
            return Ok(extents);
        }
        let mut at = 0;
        for run in self.content(&inode)?.iter() {
            let (from, to) = (run.logical.saturating_mul(bs), run.end().saturating_mul(bs));
            add(at, from, true);
            add(from, to, run.unwritten);
            at = to;
        }
        add(at, size, true);
        Ok(extents)
    }

    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        let inode = self.inode(node)?;
        if inode.file_type() != FileType::Regular {
            return Err(Kind::Invalid.into());
        }
        let bs = self.superblock.block as u64;
        let runs = self.content(&inode)?;
        let segments = runs.iter().filter_map(|run| {
            let place = self.superblock.place(run.physical)?;
            Some(Segment {
                offset: run.logical.saturating_mul(bs),
                len: run.len.saturating_mul(bs),
                block: Some(run.physical),
                stored: if run.unwritten { Stored::Unwritten(place) } else { Stored::Data(place) },
            })
        });
        Ok(covered(inode.size(), segments))
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>> {
        self.list_attributes(&self.inode(node)?)
    }

    fn edit(&mut self, _: Timestamp) -> Result<&mut dyn Edit> {
        Err(Error::from(Kind::ReadOnly).hint(
            "imgsh reads XFS and does not write it yet: copy files out, or change the guest from inside (cloud-init)",
        ))
    }

    fn reload(&mut self) -> Result<()> {
        *self = Xfs::open(self.base.clone())?;
        Ok(())
    }

    fn notice(&self) -> Option<String> {
        self.notice.clone()
    }

    fn as_xfs(&mut self) -> Option<&mut Xfs> {
        Some(self)
    }

    fn committed(&mut self) {}
}
