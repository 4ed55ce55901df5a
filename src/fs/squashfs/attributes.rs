//! Extended attributes: a table of sets, each a run of names and values; a value that several have stands elsewhere once.

use super::Squash;
use super::inode::{Inode, NONE};
use super::metadata::Cursor;
use crate::base::bytes::{le16, le32, le64};
use crate::base::{Error, Name, Result};

/// The value is a reference to where it stands.
const ELSEWHERE: u16 = 0x100;
/// Longest value, and most names, that Linux lets a file have.
const VALUE: u32 = 65536;
const NAMES: u32 = 65536;
/// Most bytes of all of a file's values.
const ALL: u64 = 16 << 20;

impl Squash {
    /// The attributes of an inode, sorted by name.
    pub(super) fn attributes(&self, inode: &Inode) -> Result<Vec<(Name, Vec<u8>)>> {
        let bad = |what: String| Error::corrupt(format!("squashfs: inode {}: attributes: {what}", inode.number));
        if inode.xattrs == NONE {
            return Ok(Vec::new());
        }
        let table = self.superblock.xattr_table.ok_or_else(|| bad("there is no table".into()))?;
        let mut head = [0; 16];
        self.stored(table, &mut head)?;
        let (values, sets) = (le64(&head, 0), le32(&head, 8));
        if inode.xattrs >= sets {
            return Err(bad(format!("set {} of {sets}", inode.xattrs)));
        }
        let set: [u8; 16] = self.table_entry(table + 16, inode.xattrs.into())?;
        let count = le32(&set, 8);
        if count > NAMES {
            return Err(bad(format!("{count} names")));
        }
        let mut cursor = Cursor::from_reference(values, le64(&set, 0))?;
        let mut found = Vec::new();
        let mut all = 0;
        for _ in 0..count {
            let head: [u8; 4] = self.take_array(&mut cursor)?;
            let (kind, len) = (le16(&head, 0), le16(&head, 2));
            let prefix: &[u8] = match kind & 0xff {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                other => return Err(Error::unsupported(format!("squashfs: attributes of kind {other} are not known"))),
            };
            let mut name = prefix.to_vec();
            name.resize(prefix.len() + usize::from(len), 0);
            self.take(&mut cursor, &mut name[prefix.len()..])?;
            let size = le32(&self.take_array::<4>(&mut cursor)?, 0);
            let value = if kind & ELSEWHERE != 0 {
                let reference = le64(&self.take_array::<8>(&mut cursor)?, 0);
                let mut place = Cursor::from_reference(values, reference)?;
                let size = le32(&self.take_array::<4>(&mut place)?, 0);
                self.value(&mut place, size)?
            } else {
                self.value(&mut cursor, size)?
            };
            all += (name.len() + value.len()) as u64;
            if all > ALL {
                return Err(bad(format!("more than {ALL} bytes")));
            }
            found.push((Name(name), value));
        }
        found.sort();
        Ok(found)
    }

    fn value(&self, cursor: &mut Cursor, size: u32) -> Result<Vec<u8>> {
        if size > VALUE {
            return Err(Error::corrupt(format!("squashfs: an attribute of {size} bytes")));
        }
        let mut value = vec![0; size as usize];
        self.take(cursor, &mut value)?;
        Ok(value)
    }
}
