//! `mkfs` for ext2, ext3 and ext4: the layout that mke2fs makes, written in one pass.
//!
//! Only metadata is written; inode tables and the journal are made zero as ranges, which costs nothing where the
//! image can hold holes.

mod files;
mod layout;
mod space;
mod superblock;
mod words;

use std::ops::Range;

use self::files::bitmap;
use self::layout::{FIRST_INODE, Layout, Places};
pub(super) use self::space::Space;
use self::words::Features;
use super::inode::{Inode, Time};
use super::{checksum, group, journal};
use crate::base::{Error, Kind, Result};
use crate::disk::{BlockDevice, Device};
use crate::fs::MakeOptions;

/// The journal's inode.
const JOURNAL_INODE: u32 = 8;
/// Bytes at both ends of a device where other formats keep their marks (the same 64 KiB that mke2fs clears at the
/// end; at the front as far as ISO 9660, swap, Btrfs and LUKS reach).
const MARKS_FRONT: u64 = 128 * 1024;
const MARKS_END: u64 = 64 * 1024;
/// Longest label in bytes.
const LABEL_MAX: usize = 16;

/// Options of mke2fs that other file systems do not have; `None` for what it chooses by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtOptions {
    /// `-g`: blocks of a group, a multiple of 8 from 256 to 8 times the block size.
    pub blocks_per_group: Option<u32>,
    /// `-G`: groups whose metadata lies together, a power of two.
    pub flex_groups: Option<u32>,
    /// `-i`: one inode for so many bytes, from 1024 to 64 MiB.
    pub bytes_per_inode: Option<u32>,
    /// `-N`: inodes.
    pub inodes: Option<u32>,
    /// `-J size=`: MiB of the journal.
    pub journal_size: Option<u32>,
    /// `-E stride=`: blocks that a disk of a RAID has before the next one follows.
    pub stride: Option<u16>,
    /// `-E stripe_width=`: blocks of data in a whole stripe.
    pub stripe_width: Option<u32>,
    /// `-E resize=`: blocks that it may grow to while it is mounted.
    pub grows_to: Option<u64>,
    /// `-T`: what it is for, as mke2fs.conf has it.
    pub usage: Option<String>,
    /// `-E test_fs`: a flag that says so.
    pub test: bool,
}

/// Everything about the file system in the making.
struct Builder<'a> {
    device: &'a dyn BlockDevice,
    options: &'a MakeOptions,
    features: Features,
    layout: Layout,
    space: Space,
    places: Vec<Places>,
    /// Blocks that hold no files: in front of the first group, copies of superblock and descriptors, bitmaps, tables.
    overhead: u64,
    /// Blocks of the journal, if there is one.
    journal: Option<u64>,
    /// The block that guards against two mounts, if there is one.
    guard: Option<u64>,
    /// The seed of all metadata checksums.
    seed: u32,
    /// The inodes in use: 1 to 11, and those of the project quota and of the orphan file if there are such.
    inodes: Vec<Inode>,
}

/// Makes an ext2, ext3 or ext4 file system, or with the feature `journal_dev` a journal for others; see [`crate::fs::Driver::make`].
///
/// # Errors
/// `Kind::NoSpace` if the device is too small; `Kind::Unsupported` names an option or feature that is not handled.
pub fn make(device: &Device, options: &MakeOptions) -> Result<()> {
    if options.sector_size.is_some() {
        return Err(Error::unsupported(format!("mkfs {}: a sector size cannot be chosen", options.fs_type)));
    }
    if let Some(label) = options.label.as_ref().filter(|label| label.len() > LABEL_MAX) {
        let detail = format!("label '{label}' has {} bytes, the most is {LABEL_MAX}", label.len());
        return Err(Error::new(Kind::Invalid, detail));
    }
    let mut features = Features::new(&options.fs_type, options.features.as_deref())?;
    if features.has("journal_dev") {
        return journal::lay_out(device.as_ref(), &superblock::of_journal(device.as_ref(), options)?);
    }
    let layout = Layout::new(device.len(), device.sector(), options, &features)?;
    let journal = layout.journal_blocks().filter(|_| features.has("has_journal"));
    let journal = match options.ext.journal_size.filter(|_| journal.is_some()) {
        Some(size) => Some(layout.journal_of(size)?),
        None => journal,
    };
    if journal.is_none() {
        features.drop_journal();
    }
    let mut space = Space::default();
    let places = layout.place(&mut space)?;
    space.fill(layout.cluster);
    let overhead = layout.first + space.count(0..layout.blocks);
    let more = [features.quota_of_projects(), features.has("orphan_file")];
    let last = FIRST_INODE + more.into_iter().filter(|one| *one).count() as u32;
    let empty = vec![0; layout.inode_size as usize];
    let mut inodes: Vec<Inode> = (1..=last).map(|number| Inode::new(number, &empty)).collect();
    for time in [Time::Access, Time::Change, Time::Modify] {
        // Inode 1, the list of bad blocks, has these and nothing else.
        inodes[0].set_time(time, options.now);
    }
    let seed = checksum::crc32c(!0, &options.uuid.0);
    let mut builder = Builder {
        device: device.as_ref(),
        options,
        features,
        layout,
        space,
        places,
        overhead,
        journal,
        guard: None,
        seed,
        inodes,
    };
    builder.clear()?;
    builder.files()?;
    builder.write()
}

impl Builder<'_> {
    /// Makes zero what must read as zero, and what would let other formats be found.
    fn clear(&self) -> Result<()> {
        let len = self.device.len();
        self.device.zero(0..len.min(MARKS_FRONT))?;
        self.device.zero(len.saturating_sub(MARKS_END)..len)?;
        for number in 0..self.layout.groups {
            self.zero(self.layout.head(number))?;
        }
        let mut tables: Option<Range<u64>> = None;
        for place in &self.places {
            let table = place.inode_table..place.inode_table + self.layout.table_blocks;
            match &mut tables {
                Some(run) if run.end == table.start => run.end = table.end,
                _ => {
                    if let Some(run) = tables.replace(table) {
                        self.zero(run)?;
                    }
                }
            }
        }
        tables.map_or(Ok(()), |run| self.zero(run))
    }

    fn zero(&self, blocks: Range<u64>) -> Result<()> {
        if blocks.start >= blocks.end {
            return Ok(());
        }
        self.device.zero(blocks.start * self.layout.block_size..blocks.end * self.layout.block_size)
    }

    /// Whether groups that nobody has used may say so instead of having bitmaps.
    fn lazy(&self) -> bool {
        self.features.has("metadata_csum") || self.features.has("uninit_bg")
    }

    /// Writes inodes, bitmaps, and all copies of descriptors and superblock.
    fn write(&mut self) -> Result<()> {
        let table = self.inode_table();
        let block_size = self.layout.block_size;
        self.device.write_at(self.places[0].inode_table * block_size, &table)?;
        let mut descriptors = vec![0; (self.layout.desc_blocks * block_size) as usize];
        let desc_size = self.layout.desc_size as usize;
        let mut free_blocks = 0;
        for (number, desc) in (0..self.layout.groups).zip(descriptors.chunks_mut(desc_size)) {
            free_blocks += self.group(number, desc)?;
        }
        let main = self.superblock(free_blocks)?;
        for number in 0..self.layout.groups {
            if self.layout.has_super(number) {
                let start = self.layout.group(number).start * block_size;
                let at = if number == 0 { super::superblock::SUPERBLOCK_OFFSET } else { start };
                self.device.write_at(at, self.copy_for(&main, number).bytes())?;
            }
            let own = self.layout.descriptors(number);
            let own = (own.start * block_size) as usize..(own.end * block_size) as usize;
            if !own.is_empty() {
                self.device.write_at(self.layout.descriptors_at(number) * block_size, &descriptors[own])?;
            }
        }
        Ok(())
    }

    /// Writes a group's bitmaps and fills in its descriptor; answers its free blocks.
    fn group(&self, number: u32, desc: &mut [u8]) -> Result<u64> {
        let (layout, place) = (&self.layout, self.places[number as usize]);
        let (range, block_size) = (layout.group(number), layout.block_size);
        let used = self.space.count(range.clone());
        let free = range.end - range.start - used;
        let inodes_used = if number == 0 { self.inodes.len() as u32 } else { 0 };
        let free_inodes = layout.inodes_per_group - inodes_used;
        let with_sums = self.features.has("metadata_csum");
        let head = layout.head(number);
        let own = [place.block_bitmap..place.block_bitmap + 1, place.inode_bitmap..place.inode_bitmap + 1];
        let own = own.into_iter().chain([head, place.inode_table..place.inode_table + layout.table_blocks]);
        let mut clusters = Space::default();
        own.filter(|run| range.contains(&run.start) && !run.is_empty()).for_each(|run| clusters.take(run));
        clusters.fill(layout.cluster);
        let own = clusters.count(range.clone());
        let mut flags = group::INODE_ZEROED;
        if self.lazy() {
            if number > 0 {
                flags |= group::INODE_UNINIT;
            }
            // Nobody has used the group, so its bitmap follows from the layout. The last one has padding to tell.
            if used == own && number + 1 < layout.groups {
                flags |= group::BLOCK_UNINIT;
            }
        }
        let mut desc = group::GroupMut(desc);
        desc.set_block_bitmap(place.block_bitmap);
        desc.set_inode_bitmap(place.inode_bitmap);
        desc.set_inode_table(place.inode_table);
        desc.set_free_blocks((free / layout.cluster) as u32);
        desc.set_free_inodes(free_inodes);
        desc.set_used_dirs(if number == 0 { 2 } else { 0 });
        desc.set_flags(flags);
        if self.lazy() {
            desc.set_itable_unused(free_inodes);
        }
        if flags & group::BLOCK_UNINIT == 0 {
            let bit = |block: u64| (block - range.start) / layout.cluster;
            let runs = self.space.used(range.clone()).map(|run| bit(run.start)..bit(run.end));
            let bytes = bitmap(block_size, bit(range.end), runs);
            self.device.write_at(place.block_bitmap * block_size, &bytes)?;
            if with_sums {
                let covered = &bytes[..(layout.blocks_per_group / layout.cluster / 8) as usize];
                desc.set_block_bitmap_checksum(checksum::crc32c(self.seed, covered));
            }
        }
        if flags & group::INODE_UNINIT == 0 {
            let runs = std::iter::once(0..u64::from(inodes_used));
            let bytes = bitmap(block_size, u64::from(layout.inodes_per_group), runs);
            self.device.write_at(place.inode_bitmap * block_size, &bytes)?;
            if with_sums {
                let covered = &bytes[..layout.inodes_per_group as usize / 8];
                desc.set_inode_bitmap_checksum(checksum::crc32c(self.seed, covered));
            }
        }
        let sum = match (with_sums, self.lazy()) {
            (true, _) => checksum::group_crc32c(self.seed, number, desc.0),
            (_, true) => checksum::group_crc16(&self.options.uuid.0, number, desc.0),
            _ => 0,
        };
        desc.set_checksum(sum);
        Ok(free)
    }
}
