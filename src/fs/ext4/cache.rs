//! Metadata blocks in memory. A block's role says how its checksum is checked when it is read and
//! computed when it is written: the only two places that know.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ahash::RandomState;

use super::checksum;
use super::geometry::Geometry;
use super::group::{BLOCK_UNINIT, Descriptor, Group, GroupMut, INODE_UNINIT};
use super::{Ext4, dirent};
use crate::base::bytes::{le16, le32, put_le32, u8_at};
use crate::base::{Error, Result};

/// Clean blocks are dropped when they take more than this many bytes.
const CLEAN_LIMIT: usize = 24 << 20;
/// Dirty blocks are written before the next operation when they take more than this many bytes.
const DIRTY_LIMIT: usize = 16 << 20;
/// Neighbouring dirty blocks are written together up to this many bytes.
const WRITE_LIMIT: usize = 1 << 20;

/// What a metadata block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Group descriptors, beginning with this group.
    Descriptors(u32),
    /// Block bitmap of a group.
    BlockBitmap(u32),
    /// Inode bitmap of a group.
    InodeBitmap(u32),
    /// Inodes; each has its own checksum, stamped when it is stored.
    Inodes,
    /// A node of an extent tree; holds the owner's [`checksum::inode_seed`].
    Extents(u32),
    /// A block of a directory: leaf or index, as its bytes say. `root` is block 0 of an indexed one.
    Directory {
        /// The owner's [`checksum::inode_seed`].
        seed: u32,
        /// Whether it is the root of an index.
        root: bool,
    },
    /// Extended attributes.
    Attributes,
    /// Nothing with a checksum: target of a link, block map.
    Plain,
}

struct Cached {
    bytes: Arc<Vec<u8>>,
    role: Role,
    /// Of the first inodes in the block, a bit each: the checksum of these bytes is known to be good.
    good_inodes: u64,
}

/// The cached blocks and which of them must be written.
#[derive(Default)]
pub struct Cache {
    blocks: HashMap<u64, Cached, RandomState>,
    dirty: BTreeSet<u64>,
    /// Groups whose descriptors were changed since their checksums were computed.
    unstamped: BTreeSet<u32>,
}

/// The bit of an inode in [`Cached::good_inodes`]; those further behind have none, and are checked whenever they are read.
fn inode_bit(slot: usize) -> u64 {
    u32::try_from(slot).ok().and_then(|slot| 1u64.checked_shl(slot)).unwrap_or(0)
}

/// Where the entries of an index block begin; `None` for a leaf.
pub fn index_entries(bytes: &[u8], root: bool) -> Option<usize> {
    if root {
        // Entries of `.` and `..`, 12 bytes each, then the root's own header with its length at byte 5.
        return Some(0x18 + usize::from(u8_at(bytes, 0x1d)));
    }
    let covers = usize::from(le16(bytes, 4));
    let whole = covers == bytes.len() || bytes.len() == 65536 && (covers == 0 || covers == 65535);
    (le32(bytes, 0) == 0 && whole && u8_at(bytes, 6) == 0).then_some(dirent::HEADER)
}

/// Checks a block that was just read. Descriptors and bitmaps are checked by those who read them.
fn verify(geometry: &Geometry, number: u64, role: Role, bytes: &[u8]) -> Result<()> {
    if !geometry.has_checksums() {
        return Ok(());
    }
    let (good, what) = match role {
        Role::Extents(seed) => (checksum::extent_is_good(seed, bytes), "extent"),
        Role::Directory { seed, root } => match index_entries(bytes, root) {
            Some(at) => (checksum::index_is_good(seed, bytes, at), "directory index"),
            None => (checksum::leaf_is_good(seed, bytes), "directory"),
        },
        Role::Attributes => (le32(bytes, 0x10) == checksum::xattr_crc(geometry.seed, number, bytes), "attribute"),
        _ => return Ok(()),
    };
    if good { Ok(()) } else { Err(Error::corrupt(format!("ext4: {what} block {number}: its checksum is wrong"))) }
}

/// Computes the checksum inside a block that is about to be written.
fn stamp(geometry: &Geometry, number: u64, role: Role, bytes: &mut [u8]) {
    match role {
        Role::Extents(seed) => checksum::stamp_extent(seed, bytes),
        Role::Directory { seed, root } => match index_entries(bytes, root) {
            Some(at) => checksum::stamp_index(seed, bytes, at),
            None => checksum::stamp_leaf(seed, bytes),
        },
        Role::Attributes => {
            let crc = checksum::xattr_crc(geometry.seed, number, bytes);
            put_le32(bytes, 0x10, crc);
        }
        _ => {}
    }
}

impl Cache {
    fn insert(&mut self, block_size: usize, number: u64, bytes: Vec<u8>, role: Role) -> Arc<Vec<u8>> {
        if (self.blocks.len() - self.dirty.len()) * block_size > CLEAN_LIMIT {
            let dirty = &self.dirty;
            self.blocks.retain(|number, _| dirty.contains(number));
        }
        let bytes = Arc::new(bytes);
        self.blocks.insert(number, Cached { bytes: bytes.clone(), role, good_inodes: 0 });
        bytes
    }
}

impl Ext4 {
    /// A metadata block, read and checked unless it is cached.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a number outside the file system or a wrong checksum.
    pub(super) fn block(&self, number: u64, role: Role) -> Result<Arc<Vec<u8>>> {
        if let Some(cached) = self.cache.borrow().blocks.get(&number) {
            return Ok(cached.bytes.clone());
        }
        let geometry = &self.geometry;
        if number < geometry.first_block || number >= geometry.blocks {
            return Err(Error::corrupt(format!(
                "ext4: metadata block {number} ({role:?}) is outside the file system of {} blocks",
                geometry.blocks
            )));
        }
        let mut bytes = vec![0; geometry.block_size];
        self.device.read_at(number * geometry.bs(), &mut bytes)?;
        verify(geometry, number, role, &bytes)?;
        Ok(self.cache.borrow_mut().insert(geometry.block_size, number, bytes, role))
    }

    /// Whether the checksum of the inode in this slot of a block is known to be good.
    pub(super) fn inode_is_known_good(&self, block: u64, slot: usize) -> bool {
        self.cache.borrow().blocks.get(&block).is_some_and(|cached| cached.good_inodes & inode_bit(slot) != 0)
    }

    /// Notes that the checksum of the inode in this slot is good, until the block is changed or forgotten.
    pub(super) fn inode_is_good(&self, block: u64, slot: usize) {
        if let Some(cached) = self.cache.borrow_mut().blocks.get_mut(&block) {
            cached.good_inodes |= inode_bit(slot);
        }
    }

    /// The bytes of a metadata block to change; it is written by the next sync.
    pub(super) fn block_mut(&mut self, number: u64, role: Role) -> Result<&mut [u8]> {
        let cached = self.dirty_block(number, role)?;
        cached.good_inodes = 0;
        Ok(Arc::make_mut(&mut cached.bytes).as_mut_slice())
    }

    /// The bytes of one inode to change, for those who stamp its checksum: the other inodes of the block stay as good as
    /// they were.
    pub(super) fn inode_mut(&mut self, block: u64, place: std::ops::Range<usize>) -> Result<&mut [u8]> {
        let slot = place.start / self.geometry.inode_size;
        let cached = self.dirty_block(block, Role::Inodes)?;
        cached.good_inodes |= inode_bit(slot);
        let bytes = Arc::make_mut(&mut cached.bytes).get_mut(place);
        bytes.ok_or_else(|| Error::new(crate::base::Kind::Internal, "ext4: an inode outside its block"))
    }

    /// A block in the cache, marked as changed.
    fn dirty_block(&mut self, number: u64, role: Role) -> Result<&mut Cached> {
        self.block(number, role)?;
        let cache = self.cache.get_mut();
        cache.dirty.insert(number);
        let cached = cache.blocks.get_mut(&number);
        let cached = cached
            .ok_or_else(|| Error::new(crate::base::Kind::Internal, "ext4: a block left the cache while it was read"))?;
        cached.role = role;
        Ok(cached)
    }

    /// A metadata block of zeros in place of whatever is on the device; it is written by the next sync.
    pub(super) fn block_new(&mut self, number: u64, role: Role) -> Result<&mut [u8]> {
        let size = self.geometry.block_size;
        self.cache.get_mut().insert(size, number, vec![0; size], role);
        self.block_mut(number, role)
    }

    /// Replaces a metadata block if its bytes differ.
    pub(super) fn block_put(&mut self, number: u64, role: Role, bytes: &[u8]) -> Result<()> {
        let same = match self.cache.get_mut().blocks.get(&number) {
            Some(cached) => cached.role == role && *cached.bytes == bytes,
            None => false,
        };
        if !same {
            self.block_new(number, role)?.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Forgets blocks that are no longer metadata.
    pub(super) fn forget(&mut self, start: u64, count: u64) {
        let cache = self.cache.get_mut();
        if cache.blocks.len() as u64 <= count {
            cache.blocks.retain(|number, _| !(start..start + count).contains(number));
            cache.dirty.retain(|number| !(start..start + count).contains(number));
            return;
        }
        for number in start..start + count {
            if cache.blocks.remove(&number).is_some() {
                cache.dirty.remove(&number);
            }
        }
    }

    /// Writes changed metadata if there is much of it, so that large imports take little memory. It goes to the stage,
    /// which is rolled back if the operation fails.
    pub(super) fn write_back_if_many(&mut self) -> Result<()> {
        if self.cache.get_mut().dirty.len() * self.geometry.block_size > DIRTY_LIMIT {
            self.write_back()?;
        }
        Ok(())
    }

    /// Stamps checksums and writes all changed metadata, ascending, neighbours together.
    pub(super) fn write_back(&mut self) -> Result<()> {
        self.stamp_groups()?;
        let geometry = self.geometry.clone();
        let bs = geometry.block_size;
        let cache = self.cache.get_mut();
        let mut buffer: Vec<u8> = Vec::new();
        let mut start = 0;
        for number in &cache.dirty {
            let Some(cached) = cache.blocks.get_mut(number) else { continue };
            if geometry.has_checksums() {
                stamp(&geometry, *number, cached.role, Arc::make_mut(&mut cached.bytes).as_mut_slice());
            }
            if !buffer.is_empty() && (start + (buffer.len() / bs) as u64 != *number || buffer.len() >= WRITE_LIMIT) {
                self.device.write_at(start * geometry.bs(), &buffer)?;
                buffer.clear();
            }
            if buffer.is_empty() {
                start = *number;
            }
            buffer.extend_from_slice(&cached.bytes);
        }
        if !buffer.is_empty() {
            self.device.write_at(start * geometry.bs(), &buffer)?;
        }
        cache.dirty.clear();
        Ok(())
    }

    /// Puts the checksums of changed bitmaps into their descriptors, then those of changed descriptors.
    fn stamp_groups(&mut self) -> Result<()> {
        let mut bitmaps = Vec::new();
        let cache = self.cache.get_mut();
        for number in &cache.dirty {
            if let Some(cached) = cache.blocks.get(number) {
                match cached.role {
                    Role::BlockBitmap(group) => {
                        bitmaps.push((group, true, bitmap_crc(&self.geometry, &cached.bytes, true)));
                    }
                    Role::InodeBitmap(group) => {
                        bitmaps.push((group, false, bitmap_crc(&self.geometry, &cached.bytes, false)));
                    }
                    _ => {}
                }
            }
        }
        if self.geometry.has_checksums() {
            for (group, of_blocks, crc) in bitmaps {
                let mut desc = self.group_mut(group)?;
                if of_blocks { desc.set_block_bitmap_checksum(crc) } else { desc.set_inode_bitmap_checksum(crc) }
            }
        }
        if !self.geometry.has_group_checksums() {
            return Ok(());
        }
        for group in std::mem::take(&mut self.cache.get_mut().unstamped) {
            let (number, _, place) = self.group_place(group)?;
            let Some(cached) = self.cache.get_mut().blocks.get_mut(&number) else { continue };
            if let Some(desc) = Arc::make_mut(&mut cached.bytes).get_mut(place) {
                let sum = group_checksum(&self.geometry, &self.superblock.uuid().0, group, desc);
                GroupMut(desc).set_checksum(sum);
            }
        }
        Ok(())
    }

    /// The block of descriptors that holds a group's, its role, and the descriptor's place in it.
    pub(super) fn group_place(&self, group: u32) -> Result<(u64, Role, std::ops::Range<usize>)> {
        let geometry = &self.geometry;
        if group >= geometry.groups {
            return Err(Error::corrupt(format!("ext4: group {group} is past the last of {}", geometry.groups)));
        }
        let per = geometry.descs_per_block();
        let at = (group % per) as usize * geometry.desc_size;
        let role = Role::Descriptors(group / per * per);
        Ok((geometry.desc_block(u64::from(group / per)), role, at..at + geometry.desc_size))
    }

    /// A block of descriptors, all of them checked when it is first read.
    fn descriptor_block(&self, number: u64, role: Role) -> Result<Arc<Vec<u8>>> {
        if let Some(cached) = self.cache.borrow().blocks.get(&number) {
            return Ok(cached.bytes.clone());
        }
        let geometry = &self.geometry;
        let bytes = self.block(number, role)?;
        let Role::Descriptors(first) = role else { return Ok(bytes) };
        if geometry.has_group_checksums() {
            let uuid = self.superblock.uuid().0;
            for (group, desc) in (first..geometry.groups).zip(bytes.chunks_exact(geometry.desc_size)) {
                if Group(desc).checksum() != group_checksum(geometry, &uuid, group, desc) {
                    self.cache.borrow_mut().blocks.remove(&number);
                    return Err(Error::corrupt(format!("ext4: descriptor of group {group}: its checksum is wrong")));
                }
            }
        }
        Ok(bytes)
    }

    /// A copy of a group's descriptor.
    pub(super) fn group(&self, group: u32) -> Result<Descriptor> {
        let (number, role, place) = self.group_place(group)?;
        Ok(Descriptor::new(self.descriptor_block(number, role)?.get(place).unwrap_or_default()))
    }

    /// A group's descriptor to change.
    pub(super) fn group_mut(&mut self, group: u32) -> Result<GroupMut<'_>> {
        let (number, role, place) = self.group_place(group)?;
        self.descriptor_block(number, role)?;
        self.cache.get_mut().unstamped.insert(group);
        Ok(GroupMut(&mut self.block_mut(number, role)?[place]))
    }

    /// A group's block bitmap (`of_blocks`) or inode bitmap, checked when it is first read. Only for groups
    /// whose bitmap is initialised.
    pub(super) fn bitmap(&self, group: u32, of_blocks: bool) -> Result<(u64, Arc<Vec<u8>>)> {
        let desc = self.group(group)?;
        let desc = Group(&desc);
        let (number, role, stored, uninit) = if of_blocks {
            (desc.block_bitmap(), Role::BlockBitmap(group), desc.block_bitmap_checksum(), BLOCK_UNINIT)
        } else {
            (desc.inode_bitmap(), Role::InodeBitmap(group), desc.inode_bitmap_checksum(), INODE_UNINIT)
        };
        debug_assert!(!self.geometry.has_group_checksums() || desc.flags() & uninit == 0);
        if let Some(cached) = self.cache.borrow().blocks.get(&number) {
            return Ok((number, cached.bytes.clone()));
        }
        let bytes = self.block(number, role)?;
        if self.geometry.has_checksums() {
            let crc = bitmap_crc(&self.geometry, &bytes, of_blocks);
            if stored != crc & desc.checksum_mask() {
                self.cache.borrow_mut().blocks.remove(&number);
                let what = if of_blocks { "block" } else { "inode" };
                return Err(Error::corrupt(format!("ext4: {what} bitmap of group {group}: its checksum is wrong")));
            }
        }
        Ok((number, bytes))
    }
}

/// The crc32c of a bitmap: over its bits for clusters or inodes, not the padding.
pub(super) fn bitmap_crc(geometry: &Geometry, bytes: &[u8], of_blocks: bool) -> u32 {
    let bits = if of_blocks { geometry.clusters_per_group } else { geometry.inodes_per_group };
    checksum::crc32c(geometry.seed, bytes.get(..bits as usize / 8).unwrap_or(bytes))
}

/// The checksum of a descriptor, by whichever feature is on.
fn group_checksum(geometry: &Geometry, uuid: &[u8; 16], group: u32, desc: &[u8]) -> u16 {
    if geometry.has_checksums() {
        checksum::group_crc32c(geometry.seed, group, desc)
    } else {
        checksum::group_crc16(uuid, group, desc)
    }
}
