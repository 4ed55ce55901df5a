//! Extended attributes: behind the inode, and such that many share in a place of their own.

use super::Erofs;
use super::inode::Inode;
use crate::base::bytes::{le16, le32, u8_at};
use crate::base::{Name, Result};

/// Bytes in front of a file's own: filter, number of shared ones.
const HEADER: u64 = 12;
/// The name begins with one of the prefixes that the image has.
const LONG: u8 = 0x80;

impl Erofs {
    /// The attributes of an inode, sorted by name.
    pub(super) fn attributes(&self, inode: &Inode) -> Result<Vec<(Name, Vec<u8>)>> {
        if inode.xattr_len == 0 {
            return Ok(Vec::new());
        }
        let mut area = vec![0; inode.xattr_len as usize];
        self.metadata(inode.xattrs, &mut area)?;
        let shared = usize::from(u8_at(&area, 4));
        let own = HEADER as usize + 4 * shared;
        if own > area.len() {
            return Err(inode.bad(format!("{shared} shared attributes in {} bytes", area.len())));
        }
        let mut found = Vec::new();
        for number in 0..shared {
            let at = (self.superblock.xattrs_in | self.superblock.xattrs << self.superblock.log)
                .saturating_add(4 * u64::from(le32(&area, HEADER as usize + 4 * number)));
            let mut head = [0; 4];
            self.metadata(at, &mut head)?;
            let mut rest = vec![0; usize::from(u8_at(&head, 0)) + usize::from(le16(&head, 2))];
            self.metadata(at + 4, &mut rest)?;
            found.push(self.attribute(inode, head, &rest)?);
        }
        let mut rest = &area[own..];
        while rest.len() >= 4 {
            let head = [rest[0], rest[1], rest[2], rest[3]];
            let len = usize::from(head[0]) + usize::from(le16(&head, 2));
            let body = rest.get(4..4 + len).ok_or_else(|| inode.bad("an attribute behind their end".into()))?;
            found.push(self.attribute(inode, head, body)?);
            rest = rest.get((4 + len).next_multiple_of(4)..).unwrap_or_default();
        }
        found.sort();
        Ok(found)
    }

    /// From the entry's four bytes, its name and its value.
    fn attribute(&self, inode: &Inode, head: [u8; 4], body: &[u8]) -> Result<(Name, Vec<u8>)> {
        let (name, value) = body.split_at(usize::from(head[0]).min(body.len()));
        let name = match head[1] {
            long if long & LONG != 0 => {
                let prefix = self.long_prefix(long & !LONG)?;
                let prefix = prefix.ok_or_else(|| inode.bad(format!("an attribute with prefix {}", long & !LONG)))?;
                [prefix.as_slice(), name].concat()
            }
            kind => [prefix(kind).ok_or_else(|| inode.bad(format!("an attribute of kind {kind}")))?, name].concat(),
        };
        Ok((Name(name), value.to_vec()))
    }

    /// A prefix that the image has itself: the number of one of those that all have, and what follows it.
    fn long_prefix(&self, wanted: u8) -> Result<Option<Vec<u8>>> {
        let (count, mut at, holder) = self.superblock.prefixes;
        if wanted >= count {
            return Ok(None);
        }
        let holder = holder.map(|number| self.inode(number)).transpose()?;
        let read = |at: u64, buf: &mut [u8]| match &holder {
            Some(inode) if at + buf.len() as u64 > inode.size => Err(inode.bad(format!("a prefix at byte {at}"))),
            Some(inode) => self.fill(inode, at, buf),
            None => self.metadata(at, buf),
        };
        for number in 0..=wanted {
            let mut len = [0; 2];
            read(at, &mut len)?;
            if number == wanted {
                let mut bytes = vec![0; le16(&len, 0).into()];
                read(at + 2, &mut bytes)?;
                let known = bytes.split_first().and_then(|(kind, rest)| Some([prefix(*kind)?, rest].concat()));
                return Ok(known.filter(|prefix| prefix.len() <= 255));
            }
            at = (at + 2 + u64::from(le16(&len, 0))).next_multiple_of(4);
        }
        Ok(None)
    }
}

/// What the names of a kind of attributes begin with.
fn prefix(kind: u8) -> Option<&'static [u8]> {
    Some(match kind {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        _ => return None,
    })
}
