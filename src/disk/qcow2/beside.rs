//! Reading by one of several threads that share the work among themselves: everything on its own, straight to its place.

use super::chain::Node;
use super::compress::inflate_into;
use super::inflate::{lay, streams};
use super::map::{Fresh, Image, Packed};
use crate::base::Result;

impl Image {
    /// [`Image::read`] without the threads of the pool, without reading ahead and without the cache of inflated clusters.
    pub fn read_beside(&self, fresh: &Fresh, offset: u64, buf: &mut [u8]) -> Result<()> {
        let pieces = self.read_plain(fresh, offset, buf, true)?;
        if pieces.is_empty() {
            return Ok(());
        }
        let size = self.header.cluster_size();
        let packed: Vec<Packed> = pieces.iter().map(|(_, packed)| *packed).collect();
        let mut plain = Vec::new();
        streams(self.storage.as_ref(), &packed, |number, stream| {
            let Some((range, packed)) = pieces.get(number) else { return Ok(()) };
            let part = (range.start - offset) as usize..(range.end - offset) as usize;
            let whole = part.len() as u64 == size;
            let done = match buf.get_mut(part).filter(|_| whole) {
                Some(out) => inflate_into(self.header.codec, stream, out),
                // A part of a cluster, at an end of the range.
                None => {
                    plain.resize(size as usize, 0);
                    inflate_into(self.header.codec, stream, &mut plain)
                        .map(|()| lay(buf, offset, range, &plain, range.start & (size - 1)))
                }
            };
            done.ok_or_else(|| self.damaged(*packed))
        })
    }

    /// The biggest cluster of the chain.
    pub fn unit(&self) -> u64 {
        let below = match &self.backing {
            Some(Node::Image(image)) => image.unit(),
            Some(Node::Raw(..)) | None => 0,
        };
        below.max(self.header.cluster_size())
    }
}
