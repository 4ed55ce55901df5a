//! Reading compressed clusters: several at once on the threads of the pool, and ahead of who reads on and on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::Cache;
use super::compress::{Codec, inflate};
use super::map::{Fresh, Image, Packed, Source};
use super::storage::{Storage, read_data};
use crate::base::{Error, Kind, Result};
use crate::disk::pool::{self, Task};

/// Bytes of inflated clusters that are kept.
const CACHE: usize = 16 << 20;
/// A job of the pool makes about so many bytes.
const JOB: u64 = 128 << 10;
/// Most bytes that are inflated ahead.
const AHEAD: u64 = 16 << 20;

/// Compressed clusters that follow each other in the guest.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The first guest cluster.
    first: u64,
    packed: Vec<Packed>,
}

impl Group {
    /// The guest cluster after the last one.
    fn end(&self) -> u64 {
        self.first + self.packed.len() as u64
    }

    /// Whether a cluster is the next one and there is room for it.
    fn takes(&self, cluster: u64, bits: u32) -> bool {
        self.end() == cluster && ((self.packed.len() as u64) << bits) < JOB
    }
}

/// The plain clusters of a group; `None` for a damaged stream.
type Plain = Result<Vec<Option<Vec<u8>>>>;

/// What is inflated, or about to be.
pub(super) struct Inflated {
    cache: Cache<Vec<u8>>,
    ahead: Mutex<Ahead>,
}

#[derive(Default)]
struct Ahead {
    /// Where the last read ended.
    end: u64,
    /// Groups in work, by their first guest cluster.
    tasks: BTreeMap<u64, (Group, Task<Plain>)>,
    /// Where looking ahead has come to, in bytes.
    reach: u64,
}

impl Inflated {
    pub fn new() -> Self {
        Inflated { cache: Cache::new(CACHE), ahead: Mutex::default() }
    }

    /// Forgets everything: the places may hold something else now.
    pub fn forget(&self) {
        self.cache.clear();
        *self.ahead() = Ahead::default();
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the streams of a group and inflates them.
fn unpack(storage: &dyn Storage, codec: Codec, size: usize, packed: &[Packed]) -> Plain {
    let mut plain = Vec::with_capacity(packed.len());
    streams(storage, packed, |_, stream| {
        plain.push(inflate(codec, stream, size));
        Ok(())
    })?;
    Ok(plain)
}

thread_local! {
    /// What [`streams`] reads into.
    static STREAMS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads streams, in one piece where they follow each other in the file, and calls `each` with the number of each one in
/// the list and its bytes.
pub(super) fn streams(
    storage: &dyn Storage,
    packed: &[Packed],
    each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    STREAMS.with_borrow_mut(|bytes| streams_by(storage, packed, bytes, each))
}

fn streams_by(
    storage: &dyn Storage,
    packed: &[Packed],
    bytes: &mut Vec<u8>,
    mut each: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut rest = packed;
    let mut number = 0;
    while let Some(first) = rest.first() {
        let mut end = first.offset + first.len;
        let near = |p: &&Packed| {
            // Lengths are in whole sectors and reach into the next stream.
            let follows = p.offset >= first.offset && p.offset <= end && p.offset + p.len >= end;
            end = if follows { p.offset + p.len } else { end };
            follows
        };
        let count = rest.iter().take_while(near).count().max(1);
        let (now, later) = rest.split_at(count);
        let len = (end - first.offset) as usize;
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        let bytes = bytes.get_mut(..len).unwrap_or_default();
        read_data(storage, first.offset, bytes)?;
        for p in now {
            let start = (p.offset - first.offset) as usize;
            each(number, bytes.get(start..start + p.len as usize).unwrap_or_default())?;
            number += 1;
        }
        rest = later;
    }
    Ok(())
}

impl Image {
    fn start(&self, group: Group) -> (Group, Task<Plain>) {
        let (storage, codec) = (Arc::clone(&self.storage), self.header.codec);
        let (size, packed) = (self.header.cluster_size() as usize, group.packed.clone());
        (group, pool::start(move || unpack(storage.as_ref(), codec, size, &packed)))
    }

    pub fn damaged(&self, packed: Packed) -> Error {
        Error::corrupt(format!("qcow2: compressed cluster at {}: damaged stream", packed.offset))
            .at(self.path.display())
    }

    /// Fills the parts of `buf`, which begins at guest byte `offset`, that `pieces` say are compressed.
    pub fn read_packed(
        &self,
        fresh: &Fresh,
        offset: u64,
        buf: &mut [u8],
        pieces: &[(Range<u64>, Packed)],
    ) -> Result<()> {
        let bits = self.header.cluster_bits;
        let mut own: Vec<(Group, Task<Plain>)> = Vec::new();
        let mut inline: Vec<(Range<u64>, Packed)> = Vec::new();
        {
            let mut ahead = self.inflated.ahead();
            let on_and_on = ahead.end == offset && offset != 0;
            ahead.end = offset + buf.len() as u64;
            // What was looked ahead for and jumped over is not needed.
            let from = offset >> bits;
            if ahead.reach < offset || !on_and_on {
                ahead.tasks.clear();
                ahead.reach = 0;
            }
            ahead.tasks.retain(|_, (group, _)| group.end() > from);
            let mut open: Option<Group> = None;
            let mut covered = 0;
            for (range, packed) in pieces {
                let cluster = range.start >> bits;
                if cluster < covered {
                    continue;
                }
                let known = ahead.tasks.range(..=cluster).next_back();
                let known = known.filter(|(_, (group, _))| cluster < group.end()).map(|(first, _)| *first);
                if let Some(task) = known.and_then(|first| ahead.tasks.remove(&first)) {
                    covered = task.0.end();
                    own.push(task);
                    continue;
                }
                if self.inflated.cache.has(packed.offset) || pieces.len() == 1 {
                    inline.push((range.clone(), *packed));
                    continue;
                }
                match &mut open {
                    Some(group) if group.takes(cluster, bits) => group.packed.push(*packed),
                    _ => {
                        own.extend(open.replace(Group { first: cluster, packed: vec![*packed] }).map(|g| self.start(g)))
                    }
                }
            }
            own.extend(open.map(|group| self.start(group)));
            if on_and_on {
                self.look_ahead(fresh, &mut ahead, offset + buf.len() as u64);
            }
        }
        let mut filled = inline.len();
        for (range, packed) in inline {
            let plain = self.inflated.cache.get(packed.offset, 1 << bits, || {
                let plain = unpack(self.storage.as_ref(), self.header.codec, 1 << bits, &[packed])?;
                plain.into_iter().next().flatten().ok_or_else(|| self.damaged(packed))
            })?;
            lay(buf, offset, &range, &plain, range.start & ((1 << bits) - 1));
        }
        let end = offset + buf.len() as u64;
        for (group, task) in own {
            let Some(plain) = task.wait() else {
                return Err(Error::new(Kind::Internal, "a thread that inflates has died").at(self.path.display()));
            };
            for ((cluster, packed), plain) in (group.first..).zip(&group.packed).zip(plain?) {
                let at = pieces.partition_point(|(range, _)| range.start >> bits < cluster);
                let wanted = pieces.get(at).filter(|(range, p)| range.start >> bits == cluster && p == packed);
                let within = |range: &Range<u64>| range.start & ((1 << bits) - 1);
                match (wanted, plain) {
                    (Some((range, _)), Some(plain)) => {
                        filled += 1;
                        lay(buf, offset, range, &plain, within(range));
                        // The rest of it will be read next.
                        if range.end < (cluster + 1) << bits {
                            self.inflated.cache.put(packed.offset, 1 << bits, plain);
                        }
                    }
                    (Some(_), None) => return Err(self.damaged(*packed)),
                    (None, Some(plain)) if cluster << bits >= end => {
                        self.inflated.cache.put(packed.offset, 1 << bits, plain);
                    }
                    (None, _) => {}
                }
            }
        }
        if filled != pieces.len() {
            return Err(Error::new(Kind::Internal, "qcow2: compressed clusters were left out").at(self.path.display()));
        }
        Ok(())
    }

    /// Starts inflating what will be read next.
    fn look_ahead(&self, fresh: &Fresh, ahead: &mut Ahead, end: u64) {
        let bits = self.header.cluster_bits;
        let window = (JOB.max(1 << bits) * 4 * pool::width() as u64).min(AHEAD);
        let from = ahead.reach.max(end.next_multiple_of(1 << bits));
        let upto = end.saturating_add(window).min(self.header.size);
        // Not for a cluster or two: jobs should be whole.
        if from + JOB.max(1 << bits) > upto && upto < self.header.size || from >= upto {
            return;
        }
        let mut groups: Vec<Group> = Vec::new();
        let found =
            self.pieces(fresh, from..upto.next_multiple_of(1 << bits).min(self.header.size), |range, source| {
                if let Source::Packed(packed) = source {
                    let cluster = range.start >> bits;
                    match groups.last_mut() {
                        Some(group) if group.takes(cluster, bits) => group.packed.push(packed),
                        _ => groups.push(Group { first: cluster, packed: vec![packed] }),
                    }
                }
                Ok(())
            });
        // Damage shows when its turn comes.
        if found.is_ok() {
            ahead.reach = upto.next_multiple_of(1 << bits);
            ahead.tasks.extend(groups.into_iter().map(|group| (group.first, self.start(group))));
        }
    }
}

/// Puts `range` of the guest, which is at `within` in `plain`, into `buf`, which begins at `offset`.
pub(super) fn lay(buf: &mut [u8], offset: u64, range: &Range<u64>, plain: &[u8], within: u64) {
    let len = (range.end - range.start) as usize;
    let to = (range.start - offset) as usize;
    if let (Some(out), Some(bytes)) = (buf.get_mut(to..to + len), plain.get(within as usize..within as usize + len)) {
        out.copy_from_slice(bytes);
    }
}
