//! Names in directories that ignore case (casefold): two names are one if they are the same under Unicode 12.1 normalization and
//! case folding (kernel documentation, "Case-insensitive file name lookups").
//!
//! Of ASCII that is lower case, whatever the version; of other characters nothing is said here, for their tables would have to be
//! the kernel's to the last character: a name more or fewer that counts as the same makes two nodes where the guest sees one.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::Ext4;
use super::hash::dir_hash;
use super::inode::{FLAG_CASEFOLD, Inode};
use crate::base::{Error, Result};

/// `s_encoding`: UTF-8 with the tables of Unicode 12.1.
const UTF8_12_1: u16 = 1;

/// Whether names are the same without regard to case; false for all but ASCII that differ in a byte.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a == b || a.is_ascii() && a.eq_ignore_ascii_case(b)
}

impl Ext4 {
    /// Refuses a new name in a directory that ignores case unless it is certain which names there are the same: if all are
    /// ASCII. In other directories all names will do.
    pub(super) fn check_folding(&self, dir: &Inode, name: &[u8]) -> Result<()> {
        if !dir.has(FLAG_CASEFOLD) {
            return Ok(());
        }
        let refuse = |what: &str| {
            Err(Error::unsupported(format!(
                "ext4: directory inode {} ignores case (casefold, flag {FLAG_CASEFOLD:#x}); {what}",
                dir.number()
            )))
        };
        let encoding = self.superblock.encoding();
        if encoding != UTF8_12_1 {
            return refuse(&format!("its encoding {encoding} (s_encoding) is not known"));
        }
        let mut all = name.is_ascii();
        self.scan(dir, |_, entry| {
            all &= entry.name.is_ascii();
            if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if all { Ok(()) } else { refuse("names are only added where all of them are ASCII") }
    }

    /// The hash of a name in the index of a directory: of the folded name where it ignores case.
    pub(super) fn hash_in(&self, dir: &Inode, version: u8, name: &[u8]) -> Option<u32> {
        let name = if dir.has(FLAG_CASEFOLD) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
        dir_hash(version, &self.superblock.hash_seed(), &name).map(|(hash, _)| hash)
    }
}
