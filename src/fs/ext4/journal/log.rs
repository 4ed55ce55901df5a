//! The log of a journal: transactions of descriptor, data, revoke and commit blocks, and what they amount to.
//!
//! Forms of blocks and tags: kernel documentation, "Journal (jbd2)". What counts as a finished transaction, and
//! which damage is an error rather than the end of the log, follows the behaviour of Linux and e2fsck.

use std::collections::{BTreeMap, HashMap};

use super::superblock::{JournalSuper, MAGIC, Sums};
use crate::base::bytes::{be16, be32, be64, put_be32, u8_at};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;
use crate::fs::ext4::checksum::crc32c;
use crate::fs::ext4::extent::Run;

/// `h_blocktype`.
pub const DESCRIPTOR: u32 = 1;
pub const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// Tag flags: the data began with [`MAGIC`]; no UUID follows; last tag of its block.
pub const ESCAPED: u32 = 1;
pub const SAME_UUID: u32 = 2;
pub const LAST_TAG: u32 = 8;
/// Bytes of a block's header, and of the header with the byte count of a revoke block.
pub const HEADER: usize = 12;
const REVOKE_HEADER: usize = 16;
/// `h_chksum_type` of commit blocks: crc32.
const CRC32: u8 = 1;
/// Most blocks that a log may change or revoke, so that the list of them stays small.
const MAX_BLOCKS: usize = 1 << 23;

/// Where the last logged bytes of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Block on the device with the journal.
    pub block: u64,
    /// The first word was [`MAGIC`] and is stored as 0.
    pub escaped: bool,
}

/// What a log amounts to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By block of the file system: its bytes after the replay.
    pub blocks: BTreeMap<u64, Source>,
    /// Sequence number of the transaction that the log ends before.
    pub end: u32,
}

impl Outcome {
    /// Refuses blocks that no transaction can have changed: outside a file system of `end` blocks, or of the journal itself,
    /// whose blocks in the file system are `own`.
    ///
    /// # Errors
    /// `Kind::Corrupt` with the block.
    pub fn check(&self, end: u64, own: &[Run]) -> Result<()> {
        if let Some((block, _)) = self.blocks.range(end..).next() {
            return Err(Error::corrupt(format!(
                "ext4: journal: it changes block {block}, and the device has {end} blocks"
            )));
        }
        for run in own {
            if let Some((block, _)) = self.blocks.range(run.physical..run.physical + u64::from(run.len)).next() {
                return Err(Error::corrupt(format!("ext4: journal: it changes block {block}, which is its own")));
            }
        }
        Ok(())
    }
}

/// A tag of a descriptor block.
struct Tag {
    block: u64,
    flags: u32,
    sum: u32,
    /// Block of the log with the data.
    at: u32,
}

/// A transaction that is being read.
#[derive(Default)]
struct Transaction {
    tags: Vec<Tag>,
    revoked: Vec<u64>,
    /// The crc32 so far, for [`Sums::Commit`].
    crc: u32,
    /// What has a wrong checksum: damage, or left over from an older round of the log.
    doubt: Option<String>,
}

/// A log to read.
pub struct Log<'a> {
    device: &'a dyn BlockDevice,
    superblock: &'a JournalSuper,
    runs: &'a [Run],
    block_size: usize,
    seed: u32,
}

/// crc32 with the most significant bit first and no inversions, as version 1 has it.
fn crc32_be(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |c, _| if c >> 31 == 1 { c << 1 ^ 0x04c1_1db7 } else { c << 1 })
    })
}

impl<'a> Log<'a> {
    /// The log of the journal whose blocks `runs` maps, without holes.
    pub fn new(device: &'a dyn BlockDevice, superblock: &'a JournalSuper, runs: &'a [Run], block_size: usize) -> Self {
        Log { device, superblock, runs, block_size, seed: superblock.seed() }
    }

    /// The block of the device that holds a block of the journal.
    pub fn place(&self, block: u32) -> Result<u64> {
        let index = self.runs.partition_point(|run| run.end() <= u64::from(block));
        match self.runs.get(index) {
            Some(run) if run.logical <= u64::from(block) && !run.unwritten => {
                Ok(run.physical + (u64::from(block) - run.logical))
            }
            _ => Err(Error::corrupt(format!("ext4: journal: its block {block} is a hole"))),
        }
    }

    /// The blocks of the journal that are kept for fast commits.
    pub fn fast_blocks(&self) -> std::ops::Range<u32> {
        self.superblock.fast_blocks()
    }

    /// Reads a block of the journal.
    pub fn read(&self, block: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.block_size];
        self.device.read_at(self.place(block)? * self.block_size as u64, &mut bytes)?;
        Ok(bytes)
    }

    fn next(&self, block: u32) -> u32 {
        if block + 1 >= self.superblock.last { self.superblock.first } else { block + 1 }
    }

    /// Reads the log to its end.
    ///
    /// # Errors
    /// `Kind::Corrupt` for a finished transaction that is damaged.
    pub fn scan(&self) -> Result<Outcome> {
        let (mut at, mut sequence) = (self.superblock.start, self.superblock.sequence);
        // By block: the transaction that wrote or revoked it last, counted from the log's start.
        let mut written: HashMap<u64, (u32, Source)> = HashMap::new();
        let mut revoked: HashMap<u64, u32> = HashMap::new();
        let mut left = self.superblock.last - self.superblock.first;
        let mut committed = 0;
        let mut count = 0;
        while let Some((transaction, time, next)) = self.transaction(at, sequence, &mut left, committed)? {
            for tag in &transaction.tags {
                self.check_data(sequence, tag)?;
                let source = Source { block: self.place(tag.at)?, escaped: tag.flags & ESCAPED != 0 };
                written.insert(tag.block, (count, source));
            }
            transaction.revoked.iter().for_each(|block| _ = revoked.insert(*block, count));
            if written.len().max(revoked.len()) > MAX_BLOCKS {
                return Err(Error::unsupported(format!("ext4: journal: it changes over {MAX_BLOCKS} blocks")));
            }
            committed = committed.max(time);
            (at, sequence, count) = (next, sequence.wrapping_add(1), count + 1);
        }
        let live = written.into_iter().filter(|(block, (by, _))| revoked.get(block).is_none_or(|r| r < by));
        Ok(Outcome { blocks: live.map(|(block, (_, source))| (block, source)).collect(), end: sequence })
    }

    /// Reads one transaction; answers its commit time and where the next one begins. `None` at the log's end.
    /// `left` is how many blocks of the log have not been looked at; `committed` the time of the last commit.
    fn transaction(
        &self,
        mut at: u32,
        sequence: u32,
        left: &mut u32,
        committed: u64,
    ) -> Result<Option<(Transaction, u64, u32)>> {
        let mut transaction = Transaction { crc: !0, ..Transaction::default() };
        loop {
            if at == 0 || *left == 0 {
                return Ok(None);
            }
            let block = self.read(at)?;
            if be32(&block, 0) != MAGIC || be32(&block, 8) != sequence {
                return Ok(None);
            }
            let here = at;
            *left -= 1;
            at = self.next(at);
            match be32(&block, 4) {
                DESCRIPTOR => {
                    self.check_tail(&block, &mut transaction, "descriptor", here);
                    let tags = self.tags(&block, &mut at);
                    if tags.len() > *left as usize {
                        return Ok(None);
                    }
                    *left -= tags.len() as u32;
                    if self.superblock.sums == Sums::Commit {
                        transaction.crc = crc32_be(transaction.crc, &block);
                        for tag in &tags {
                            transaction.crc = crc32_be(transaction.crc, &self.read(tag.at)?);
                        }
                    }
                    transaction.tags.extend(tags);
                }
                REVOKE => {
                    self.check_tail(&block, &mut transaction, "revoke", here);
                    self.revoke(&block, &mut transaction)?;
                }
                COMMIT => {
                    let time = be64(&block, 0x30);
                    return match self.commit_trouble(&block, &transaction, here) {
                        None => Ok(Some((transaction, time, at))),
                        // Older than what came before: left over from an older round of the log.
                        Some(_) if time < committed => Ok(None),
                        Some(what) => Err(Error::corrupt(format!("ext4: journal: transaction {sequence}: {what}"))
                            .hint("run e2fsck -f; nothing was changed")),
                    };
                }
                _ => return Ok(None),
            }
        }
    }

    /// Checks the sum at the end of a descriptor or revoke block.
    fn check_tail(&self, block: &[u8], transaction: &mut Transaction, what: &str, at: u32) {
        if self.superblock.has_block_sums() && be32(block, block.len() - 4) != self.sum_without(block, block.len() - 4)
        {
            transaction.doubt.get_or_insert(format!("the checksum of its {what} block {at} is wrong"));
        }
    }

    /// The sum of a block of the log whose own field at `field` counts as zero.
    fn sum_without(&self, block: &[u8], field: usize) -> u32 {
        let mut bytes = block.to_vec();
        put_be32(&mut bytes, field, 0);
        crc32c(self.seed, &bytes)
    }

    /// The tags of a descriptor block; `at` moves behind their data.
    fn tags(&self, block: &[u8], at: &mut u32) -> Vec<Tag> {
        let (sums, wide, size) = (self.superblock.sums, self.superblock.wide, self.superblock.tag_size());
        let end = block.len() - if self.superblock.has_block_sums() { 4 } else { 0 };
        let mut tags = Vec::new();
        let mut from = HEADER;
        while from + size <= end {
            let (flags, sum) = match sums {
                Sums::Long => (be32(block, from + 4), be32(block, from + 12)),
                _ => (u32::from(be16(block, from + 6)), u32::from(be16(block, from + 4))),
            };
            let high = if wide { be32(block, from + 8) } else { 0 };
            let number = u64::from(be32(block, from)) | u64::from(high) << 32;
            tags.push(Tag { block: number, flags, sum, at: *at });
            *at = self.next(*at);
            from += size + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST_TAG != 0 {
                break;
            }
        }
        tags
    }

    fn revoke(&self, block: &[u8], transaction: &mut Transaction) -> Result<()> {
        let end = be32(block, HEADER) as usize;
        let most = block.len() - if self.superblock.has_block_sums() { 4 } else { 0 };
        if end > most || end < REVOKE_HEADER {
            if transaction.doubt.is_none() {
                return Err(Error::corrupt(format!("ext4: journal: a revoke block says that it has {end} bytes")));
            }
            return Ok(());
        }
        for record in block[REVOKE_HEADER..end].chunks_exact(if self.superblock.wide { 8 } else { 4 }) {
            transaction.revoked.push(if self.superblock.wide { be64(record, 0) } else { be32(record, 0).into() });
        }
        Ok(())
    }

    /// Why a commit block does not finish its transaction, if it does not.
    fn commit_trouble(&self, block: &[u8], transaction: &Transaction, at: u32) -> Option<String> {
        if transaction.doubt.is_some() {
            return transaction.doubt.clone();
        }
        let (kind, size, sum) = (u8_at(block, HEADER), u8_at(block, HEADER + 1), be32(block, 0x10));
        let good = match self.superblock.sums {
            Sums::None => true,
            // Version 1 came to journals that had transactions without.
            Sums::Commit => (kind, size, sum) == (CRC32, 4, transaction.crc) || (kind, size, sum) == (0, 0, 0),
            Sums::Short | Sums::Long => sum == self.sum_without(block, 0x10),
        };
        (!good).then(|| format!("the checksum of its commit block {at} is wrong"))
    }

    /// Checks the sum that a tag has of its data, as they stand in the log.
    fn check_data(&self, sequence: u32, tag: &Tag) -> Result<()> {
        if !self.superblock.has_block_sums() {
            return Ok(());
        }
        let sum = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), &self.read(tag.at)?);
        let sum = if self.superblock.sums == Sums::Short { sum & 0xffff } else { sum };
        if sum == tag.sum {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "ext4: journal: transaction {sequence}: the checksum of block {} (block {} of the journal) is wrong",
            tag.block, tag.at
        ))
        .hint("run e2fsck -f; nothing was changed"))
    }
}
