//! Writing the journal: the changes of a commit as one transaction, which a kernel, e2fsck or [`super::Recovery`] can
//! finish.
//!
//! The log is empty before and after. That keeps it simple: one transaction from the log's first block on, of any size
//! that fits, without revoke records, since nothing older can be replayed. Forms of the blocks: `log`.

use std::ops::Range;

use super::idle::{Busy, Idle};
use super::log::{COMMIT, DESCRIPTOR, ESCAPED, HEADER, LAST_TAG, Log, SAME_UUID};
use super::superblock::{MAGIC, Sums};
use super::{Ext4, Journal};
use crate::base::bytes::{be32, le32, put_be16, put_be32};
use crate::base::{Error, Kind, Result};
use crate::disk::guest_log::{LogEntries, LogPlan, Put};
use crate::disk::{BlockDevice, Change, Changes, Device};
use crate::fs::ext4::checksum::crc32c;
use crate::fs::ext4::features::{Compat, Incompat};
use crate::fs::ext4::superblock::{SUPERBLOCK_OFFSET, SUPERBLOCK_SIZE, Superblock};

/// Bytes that are written to the log at once.
const COPY: usize = 1 << 20;
/// Bytes of the UUID behind the first tag of a descriptor block.
const UUID: usize = 16;
/// `h_commit_sec` of a commit block.
const COMMIT_SECONDS: usize = 0x30;

/// A block that the transaction has.
struct Logged {
    block: u64,
    /// crc32c of sequence number and data, as the data stand in the log.
    sum: u32,
    escaped: bool,
}

/// The transaction that a commit writes.
struct Transaction {
    device: Device,
    block_size: usize,
    journal: Journal,
    /// The superblock as it is before and after.
    superblock: (Superblock, Superblock),
    sequence: u32,
    /// What the sums of the log's blocks begin with.
    seed: u32,
    blocks: Vec<Logged>,
    /// Zeros that need no log.
    idle: Idle,
    /// The superblock's block, where nothing else is to be logged.
    same: Option<Vec<u8>>,
}

/// Takes a block's number, its bytes, and what they become.
type EachBlock<'a> = dyn FnMut(u64, &[u8], &mut [u8]) -> Result<()> + 'a;

/// Which blocks are read as they are now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// All that change.
    All,
    /// Those of which only a part changes.
    Parts,
}

/// The blocks that changes touch, whole, ascending: what they are now where they are read, and what they become.
fn each_block(
    device: &dyn BlockDevice,
    block_size: usize,
    read: Read,
    changes: &dyn Changes,
    each: &mut EachBlock<'_>,
) -> Result<()> {
    let bs = block_size as u64;
    let (mut old, mut new) = (vec![0; block_size], vec![0; block_size]);
    let mut open: Option<u64> = None;
    changes.visit(&mut |offset, change| {
        let (mut at, end) = (offset, offset + change.len());
        while at < end {
            let (block, stop) = (at / bs, end.min((at / bs + 1) * bs));
            if open != Some(block) {
                if let Some(block) = open {
                    each(block, &old, &mut new)?;
                }
                if read == Read::All || stop - at < bs {
                    // The device may end inside its last block.
                    let inside = (device.len() - block * bs).min(bs) as usize;
                    old.fill(0);
                    device.read_at(block * bs, &mut old[..inside])?;
                    new.copy_from_slice(&old);
                }
                open = Some(block);
            }
            let place = (at % bs) as usize..(at % bs) as usize + (stop - at) as usize;
            match change {
                Change::Data(data) => {
                    new[place].copy_from_slice(&data[(at - offset) as usize..(stop - offset) as usize]);
                }
                Change::Zero(_) => new[place].fill(0),
            }
            at = stop;
        }
        Ok(())
    })?;
    open.map_or(Ok(()), |block| each(block, &old, &mut new))
}

/// Stops a visit whose changes do not fit.
fn unfit() -> Error {
    Error::from(Kind::NoSpace)
}

/// Whether a change of the superblock leaves alone what the journal and its replay stand on.
fn same_frame(old: &Superblock, new: &Superblock) -> bool {
    // Counts of inodes and blocks; block size and groups; inode size and features; UUID; journal; descriptors; the high word
    // of the blocks; flexible groups and checksum type; the seed of the checksums.
    const FRAME: [Range<usize>; 9] = [
        0x0..0x8,
        0x14..0x2c,
        0x4c..0x50,
        0x58..0x78,
        0xce..0xe8,
        0xfe..0x108,
        0x150..0x154,
        0x174..0x176,
        0x270..0x274,
    ];
    let same = |range: Range<usize>| old.bytes().get(range.clone()) == new.bytes().get(range);
    FRAME.into_iter().all(same) && new.verify().is_ok()
}

impl Ext4 {
    /// The journal, if a transaction can be put into it now.
    fn empty_journal(&self) -> Result<Option<Journal>> {
        let (compat, incompat) = (self.superblock.compat(), self.superblock.incompat());
        if !compat.has(Compat::HAS_JOURNAL) || incompat.has(Incompat::RECOVER) || incompat.has(Incompat::MMP) {
            return Ok(None);
        }
        // A journal on another device is not part of what one commit writes.
        if self.superblock.journal_inode() == 0 {
            return Ok(None);
        }
        let journal = self.journal()?;
        let found = &journal.superblock;
        let usable =
            found.start == 0 && found.errno == 0 && found.sums != Sums::Commit && found.fast_blocks().is_empty();
        Ok(usable.then_some(journal))
    }

    /// The plan of a commit through the journal: [`crate::fs::FileSystem::log_plan`].
    pub(in crate::fs::ext4) fn plan_commit(&self, changes: &dyn Changes) -> Result<Option<LogPlan>> {
        let Some(journal) = self.empty_journal()? else { return Ok(None) };
        let old = self.superblock.clone();
        let mut transaction = Transaction {
            device: self.device.clone(),
            block_size: self.geometry.block_size,
            sequence: journal.superblock.sequence.wrapping_add(1),
            seed: journal.superblock.seed(),
            superblock: (old.clone(), old),
            journal,
            blocks: Vec::new(),
            idle: Idle::new(),
            same: None,
        };
        let idle = self.idle_zeros(changes)?;
        match self.collect(&mut transaction, &Busy { changes, idle: &idle, same: None }) {
            Err(error) if error.kind() == Kind::NoSpace => Ok(None),
            Err(error) => Err(error),
            Ok(()) if transaction.blocks.is_empty() && idle.is_empty() => Ok(None),
            Ok(()) => {
                transaction.idle = idle;
                if transaction.blocks.is_empty() {
                    let block = transaction.superblock_place().0;
                    let same = self.block_now(block)?;
                    let mut logged = same.clone();
                    let escaped = transaction.as_logged(block, &mut logged);
                    let sum = crc32c(transaction.data_seed(), &logged);
                    transaction.blocks.push(Logged { block, sum, escaped });
                    transaction.same = Some(same);
                }
                transaction.plan().map(Some)
            }
        }
    }

    /// Notes the blocks that differ.
    fn collect(&self, transaction: &mut Transaction, changes: &dyn Changes) -> Result<()> {
        let block_size = self.geometry.block_size;
        let frame = self.inode_slot(self.superblock.journal_inode())?;
        let (home, place) = transaction.superblock_place();
        let data_seed = transaction.data_seed();
        each_block(self.device.as_ref(), block_size, Read::All, changes, &mut |block, old, new| {
            if old == new {
                return Ok(());
            }
            let outside = block >= self.superblock.blocks() || transaction.journal_has(block);
            let too_far = !transaction.journal.superblock.wide && block > u64::from(u32::MAX);
            let moved = block == frame.0 && old.get(frame.1.clone()) != new.get(frame.1.clone());
            if outside || too_far || moved || !transaction.has_room() {
                return Err(unfit());
            }
            if block == home {
                let found = Superblock::from_bytes(&new[place.clone()]).ok_or_else(unfit)?;
                if !same_frame(&self.superblock, &found) {
                    return Err(unfit());
                }
                transaction.superblock.1 = found;
            }
            let escaped = transaction.as_logged(block, new);
            let sum = crc32c(data_seed, new);
            transaction.blocks.push(Logged { block, sum, escaped });
            Ok(())
        })?;
        Ok(())
    }
}

impl Transaction {
    fn log(&self) -> Log<'_> {
        Log::new(self.device.as_ref(), &self.journal.superblock, &self.journal.runs, self.block_size)
    }

    /// What the sum of a block of data begins with.
    fn data_seed(&self) -> u32 {
        crc32c(self.seed, &self.sequence.to_be_bytes())
    }

    /// The block with the file system's superblock, and its bytes in there.
    fn superblock_place(&self) -> (u64, Range<usize>) {
        let at = SUPERBLOCK_OFFSET as usize % self.block_size;
        (SUPERBLOCK_OFFSET / self.block_size as u64, at..at + SUPERBLOCK_SIZE)
    }

    fn journal_has(&self, block: u64) -> bool {
        self.journal.runs.iter().any(|run| (run.physical..run.physical + u64::from(run.len)).contains(&block))
    }

    /// Bytes of the sum at the end of a descriptor block.
    fn tail(&self) -> usize {
        if self.journal.superblock.has_block_sums() { 4 } else { 0 }
    }

    /// How many tags a descriptor block takes.
    fn tags(&self) -> usize {
        (self.block_size - HEADER - UUID - self.tail()) / self.journal.superblock.tag_size()
    }

    /// Block of the log with the data of the block `index` of the transaction; its descriptor stands before the data.
    fn position(&self, index: usize) -> u64 {
        let (before, inside) = (index / self.tags(), index % self.tags());
        u64::from(self.journal.superblock.first) + (before * (self.tags() + 1) + 1 + inside) as u64
    }

    /// The bytes of the device that the log's blocks take.
    fn space(&self) -> Result<Vec<Range<u64>>> {
        let (log, bs) = (self.log(), self.block_size as u64);
        let end = self.position(self.blocks.len().saturating_sub(1)) + 2;
        let mut space: Vec<Range<u64>> = Vec::new();
        for block in u64::from(self.journal.superblock.first)..end {
            let at = log.place(block as u32)? * bs;
            match space.last_mut() {
                Some(last) if last.end == at => last.end = at + bs,
                _ => space.push(at..at + bs),
            }
        }
        Ok(space)
    }

    /// Whether one more block, and the commit block behind it, fit.
    fn has_room(&self) -> bool {
        self.position(self.blocks.len()) + 1 < u64::from(self.journal.superblock.last)
    }

    /// Makes a block what it is in the log; answers whether its first word was replaced.
    fn as_logged(&self, block: u64, bytes: &mut [u8]) -> bool {
        let (home, place) = self.superblock_place();
        if block == home {
            bytes[place].copy_from_slice(&marked(&self.superblock.1));
        }
        let escaped = be32(bytes, 0) == MAGIC;
        if escaped {
            put_be32(bytes, 0, 0);
        }
        escaped
    }

    fn block(&self, kind: u32) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        put_be32(&mut block, 0, MAGIC);
        put_be32(&mut block, 4, kind);
        put_be32(&mut block, 8, self.sequence);
        block
    }

    /// The descriptor block before the data of the block `first` of the transaction.
    fn descriptor(&self, first: usize) -> Vec<u8> {
        let journal = &self.journal.superblock;
        let mut block = self.block(DESCRIPTOR);
        let end = self.blocks.len().min(first + self.tags());
        let mut at = HEADER;
        for (index, logged) in self.blocks.iter().enumerate().take(end).skip(first) {
            let mut flags = if logged.escaped { ESCAPED } else { 0 };
            flags |= if index == first { 0 } else { SAME_UUID };
            flags |= if index + 1 == end { LAST_TAG } else { 0 };
            put_be32(&mut block, at, logged.block as u32);
            if journal.wide {
                put_be32(&mut block, at + 8, (logged.block >> 32) as u32);
            }
            match journal.sums {
                Sums::Long => {
                    put_be32(&mut block, at + 4, flags);
                    put_be32(&mut block, at + 12, logged.sum);
                }
                _ => {
                    let sum = if journal.sums == Sums::Short { logged.sum as u16 } else { 0 };
                    put_be16(&mut block, at + 4, sum);
                    put_be16(&mut block, at + 6, flags as u16);
                }
            }
            at += journal.tag_size();
            if index == first {
                block[at..at + UUID].copy_from_slice(&journal.uuid().0);
                at += UUID;
            }
        }
        self.stamp(&mut block, self.block_size - 4);
        block
    }

    fn commit_block(&self) -> Vec<u8> {
        let mut block = self.block(COMMIT);
        // The time of the last write, which is this one's.
        put_be32(&mut block, COMMIT_SECONDS + 4, le32(self.superblock.1.bytes(), 0x30));
        self.stamp(&mut block, 0x10);
        block
    }

    /// Sets the sum of a block of the log, where the journal has sums.
    fn stamp(&self, block: &mut [u8], field: usize) {
        if self.journal.superblock.has_block_sums() {
            let sum = crc32c(self.seed, block);
            put_be32(block, field, sum);
        }
    }

    fn plan(self) -> Result<LogPlan> {
        let home = self.log().place(0)? * self.block_size as u64;
        let journal = &self.journal.superblock;
        let superblock = |bytes: Vec<u8>| Put { offset: SUPERBLOCK_OFFSET, data: bytes };
        let (old, new) = &self.superblock;
        Ok(LogPlan {
            range: 0..self.device.len(),
            space: self.space()?,
            mark: superblock(marked(old)),
            point: Put { offset: home, data: journal.started(self.sequence) },
            over: superblock(marked(new)),
            empty: Put { offset: home, data: journal.emptied(self.sequence.wrapping_add(1)) },
            close: superblock(new.bytes().to_vec()),
            withdraw: superblock(old.bytes().to_vec()),
            entries: Box::new(self),
        })
    }
}

/// A superblock that says that the journal may have something to replay.
fn marked(superblock: &Superblock) -> Vec<u8> {
    let mut marked = superblock.clone();
    marked.add_incompat(Incompat::RECOVER);
    marked.stamp();
    marked.bytes().to_vec()
}

/// Puts blocks that follow each other on the device together.
struct Gather<'a> {
    each: &'a mut dyn FnMut(u64, &[u8]) -> Result<()>,
    start: u64,
    bytes: Vec<u8>,
}

impl Gather<'_> {
    fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if offset != self.start + self.bytes.len() as u64 || self.bytes.len() >= COPY {
            self.flush()?;
            self.start = offset;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            (self.each)(self.start, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl LogEntries for Transaction {
    fn visit(&self, changes: &dyn Changes, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let log = self.log();
        let place = |block: u64| Ok::<u64, Error>(log.place(block as u32)? * self.block_size as u64);
        let mut out = Gather { each, start: 0, bytes: Vec::with_capacity(COPY) };
        let mut index = 0;
        let same =
            self.same.as_ref().map(|bytes| (self.superblock_place().0 * self.block_size as u64, bytes.as_slice()));
        let busy = Busy { changes, idle: &self.idle, same };
        each_block(self.device.as_ref(), self.block_size, Read::Parts, &busy, &mut |block, _, new| {
            if self.blocks.get(index).is_none_or(|logged| logged.block != block) {
                return Ok(());
            }
            let position = self.position(index);
            if index.is_multiple_of(self.tags()) {
                out.add(place(position - 1)?, &self.descriptor(index))?;
            }
            self.as_logged(block, new);
            out.add(place(position)?, new)?;
            index += 1;
            Ok(())
        })?;
        if index != self.blocks.len() {
            return Err(Error::new(
                Kind::Internal,
                "ext4: journal: the changes are others than those that were planned",
            ));
        }
        out.add(place(self.position(index - 1) + 1)?, &self.commit_block())?;
        out.flush()
    }
}
