//! Packed files: clusters of blocks, unpacked one at a time.

use std::cell::RefCell;
use std::sync::Arc;

use super::Erofs;
use super::inode::Inode;
use super::map::{Cluster, Form};
use super::superblock::{METABOX, PADDED};
use crate::base::Result;
use crate::fs::{Segment, Stored};

/// What is kept of packed files.
#[derive(Default)]
pub(super) struct Kept {
    /// The clusters of the file that was read last, by its number.
    pub map: RefCell<Option<(u64, Arc<Vec<Cluster>>)>>,
    /// The cluster that was unpacked last, by its place.
    cluster: RefCell<Option<(u64, Arc<Vec<u8>>)>>,
}

impl Erofs {
    /// Unpacks a cluster that is packed.
    fn unpacked(&self, inode: &Inode, cluster: &Cluster, len: usize) -> Result<Arc<Vec<u8>>> {
        let kept = &self.kept(inode).cluster;
        if let Some((place, plain)) = &*kept.borrow()
            && *place == cluster.place
            && plain.len() == len
        {
            return Ok(plain.clone());
        }
        let bad = || inode.bad(format!("the cluster of byte {} cannot be unpacked", cluster.at));
        let Form::Packed(codec) = cluster.form else { return Err(bad()) };
        let mut stored = vec![0; cluster.stored as usize];
        self.anywhere(cluster.place, &mut stored)?;
        let mut plain = vec![0; len];
        // Older images have the padding behind the stream, whose end is where the file has enough.
        let padded = self.superblock.features & PADDED != 0;
        if padded && !cluster.partial {
            let got = codec.unpack(self.without_padding(&stored), &mut plain);
            got.filter(|got| *got == len).ok_or_else(bad)?;
        } else {
            let stream = if padded { self.without_padding(&stored) } else { &stored };
            codec.unpack_front(stream, &mut plain).ok_or_else(bad)?;
        }
        let plain = Arc::new(plain);
        kept.replace(Some((cluster.place, plain.clone())));
        Ok(plain)
    }

    /// The padding is in front, in the first block only; no stream begins with a zero byte.
    fn without_padding<'a>(&self, stored: &'a [u8]) -> &'a [u8] {
        let padding = stored.iter().take(self.superblock.block() as usize).take_while(|byte| **byte == 0).count();
        &stored[padding..]
    }

    /// Fills `buf` from a packed file; all of it lies inside.
    pub(super) fn read_packed(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let clusters = self.clusters(inode)?;
        let end = offset + buf.len() as u64;
        let first = clusters.partition_point(|cluster| cluster.at <= offset).saturating_sub(1);
        for (index, cluster) in clusters.iter().enumerate().skip(first).take_while(|(_, cluster)| cluster.at < end) {
            let next = clusters.get(index + 1).map_or(inode.size, |next| next.at);
            let (from, to) = (offset.max(cluster.at), end.min(next));
            let buf = &mut buf[(from - offset) as usize..(to - offset) as usize];
            let skip = from - cluster.at;
            let outside = || inode.bad(format!("the cluster of byte {} has only {} bytes", cluster.at, cluster.stored));
            let stored = u64::from(cluster.stored);
            match cluster.form {
                Form::Hole => buf.fill(0),
                Form::Packed(_) => {
                    let plain = self.unpacked(inode, cluster, (next - cluster.at) as usize)?;
                    buf.copy_from_slice(&plain[skip as usize..][..buf.len()]);
                }
                Form::Fragment => self.read_fragment(inode, cluster.place.saturating_add(skip), buf)?,
                Form::Plain | Form::Turned if next - cluster.at > stored => return Err(outside()),
                Form::Plain => self.anywhere(cluster.place.saturating_add(skip), buf)?,
                Form::Turned => {
                    // One block.
                    if stored > self.superblock.block() {
                        return Err(outside());
                    }
                    let turn = from % stored;
                    let (right, left) = buf.split_at_mut((stored - turn).min(to - from) as usize);
                    self.stored(cluster.place.saturating_add(turn), right)?;
                    self.stored(cluster.place, left)?;
                }
            }
        }
        Ok(())
    }

    /// Fills `buf` from byte `offset` of the packed inode on.
    fn read_fragment(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let packed = self.superblock.packed.filter(|_| !self.is_special(inode));
        let packed = self.inode(packed.ok_or_else(|| inode.bad("it has a fragment without a packed inode".into()))?)?;
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > packed.size) {
            return Err(inode.bad(format!("a fragment at byte {offset} of the packed inode's {}", packed.size)));
        }
        self.fill(&packed, offset, buf)
    }

    /// Where the clusters of a packed file are.
    pub(super) fn packed_segments(&self, inode: &Inode) -> Result<Vec<Segment>> {
        let clusters = self.clusters(inode)?;
        let ends = clusters.iter().skip(1).map(|next| next.at).chain([inode.size]);
        let segments = clusters.iter().zip(ends).map(|(cluster, end)| {
            let stored = match cluster.form {
                Form::Hole => Stored::Hole,
                _ if cluster.place & METABOX != 0 => Stored::Inline,
                Form::Plain => Stored::Data(cluster.place),
                Form::Packed(_) => Stored::Compressed { at: cluster.place, len: cluster.stored.into() },
                // Parts of a block in another order: nobody can take it as it is.
                Form::Turned | Form::Fragment => Stored::Inline,
            };
            let block = match cluster.form {
                Form::Hole | Form::Fragment => None,
                _ if cluster.place & METABOX != 0 => None,
                Form::Plain | Form::Turned | Form::Packed(_) => Some(cluster.place >> self.superblock.log),
            };
            Segment { offset: cluster.at, len: end - cluster.at, block, stored }
        });
        Ok(segments.collect())
    }
}
