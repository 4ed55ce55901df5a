//! Attribute values in inodes of their own (ea_inode): counted by how many attributes use them.
//!
//! Such an inode has the flag 0x200000, one link, the number of users in its change time (high half) and its version
//! (low half), and in its access time the crc32c of the value, seeded as all checksums of the file system are; seen in
//! images of Linux and demanded by e2fsck. Older ones, of Lustre, have no count and belong to one owner.

use super::Ext4;
use super::features::Incompat;
use super::inode::{FLAG_EA_INODE, Inode, Time};
use super::xattr::{Attribute, ValueInode};
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

/// Longest value that Linux takes.
pub(super) const VALUE_MAX: usize = 65536;

/// Where the low half of the count of users lies (`i_version`).
const USERS_LOW: usize = 0x24;
/// The seconds of the access time: the value's hash.
const HASH: usize = 0x08;
/// The seconds of the change time: the high half of the count.
const USERS_HIGH: usize = 0x0c;

fn users(inode: &Inode) -> u64 {
    u64::from(le32(inode.bytes(), USERS_LOW)) | u64::from(le32(inode.bytes(), USERS_HIGH)) << 32
}

/// How many of these attributes have inodes of their own.
pub(super) fn in_inodes(attributes: &[Attribute]) -> i64 {
    attributes.iter().filter(|attribute| attribute.stored.is_some()).count() as i64
}

impl Ext4 {
    /// How many attributes have an inode as their value; 0 if it does not say.
    pub(super) fn users_of_value(&self, inode: &Inode) -> u64 {
        users(inode)
    }

    fn value_inode(&self, owner: &Inode, number: u32) -> Result<Inode> {
        let inode = self.inode(number)?;
        if !inode.has(FLAG_EA_INODE) || inode.file_type() != Some(FileType::Regular) {
            return Err(self.bad_attributes(owner, &format!("inode {number}, which holds no value")));
        }
        Ok(inode)
    }

    /// A value and its hash.
    pub(super) fn read_value(&self, owner: &Inode, number: u32, size: usize) -> Result<(Vec<u8>, u32)> {
        let inode = self.value_inode(owner, number)?;
        if size > VALUE_MAX || inode.size() != size as u64 {
            return Err(self.bad_attributes(owner, &format!("inode {number}")));
        }
        let mut value = vec![0; size];
        self.read_mapped(&inode, 0, &mut value)?;
        Ok((value, le32(inode.bytes(), HASH)))
    }

    /// Gives a value an inode of its own.
    pub(super) fn store_value(&mut self, owner: &Inode, value: &[u8]) -> Result<ValueInode> {
        let mut inode = self.allocate_inode(owner, false)?;
        let hash = super::checksum::crc32c(self.geometry.seed, value);
        let want = self.new_extra_size();
        inode.set_extra_size(want);
        inode.set_mode((FileType::Regular.mode_bits() | 0o600) as u16);
        inode.set_uid(owner.uid());
        inode.set_gid(owner.gid());
        inode.set_links(1);
        inode.set_flags(FLAG_EA_INODE);
        let generation = self.next_generation();
        inode.set_generation(generation);
        self.init_map(&mut inode);
        self.write_content(&mut inode, 0, value)?;
        for time in [Time::Modify, Time::Create] {
            inode.set_time(time, self.now);
        }
        for time in [Time::Access, Time::Change] {
            inode.set_time(time, Timestamp::default());
        }
        put_le32(inode.bytes_mut(), HASH, hash);
        put_le32(inode.bytes_mut(), USERS_LOW, 1);
        self.put_inode(&inode)?;
        Ok(ValueInode { number: inode.number(), hash })
    }

    /// Clusters that the values of these attributes take in inodes of their own. They count as space of the owner, of
    /// every owner that shares them.
    pub(super) fn value_clusters(&self, attributes: &[Attribute]) -> u64 {
        let cluster = self.geometry.bs() * self.geometry.ratio();
        let stored = attributes.iter().filter(|attribute| attribute.stored.is_some());
        stored.map(|attribute| (attribute.value.len() as u64).div_ceil(cluster)).sum()
    }

    /// Clusters of all values of an inode that have inodes of their own.
    pub(super) fn all_value_clusters(&self, inode: &Inode) -> Result<u64> {
        Ok(self.value_clusters(&self.attributes_with_values(inode)?))
    }

    /// How many values an inode has in inodes of their own.
    pub(super) fn count_of_values(&self, inode: &Inode) -> Result<i64> {
        Ok(in_inodes(&self.attributes_with_values(inode)?))
    }

    /// All attributes of an inode, if some of them can have inodes of their own.
    fn attributes_with_values(&self, inode: &Inode) -> Result<Vec<Attribute>> {
        if !self.geometry.incompat.has(Incompat::EA_INODE) {
            return Ok(Vec::new());
        }
        Ok([self.attributes_inside(inode)?, self.attributes_outside(inode)?].concat())
    }

    /// Counts one user more, or one less, of each value; a value without users is freed.
    pub(super) fn count_values(&mut self, owner: &Inode, attributes: &[Attribute], more: bool) -> Result<()> {
        for stored in attributes.iter().filter_map(|attribute| attribute.stored) {
            let number = stored.number;
            if owner.has(FLAG_EA_INODE) {
                return Err(self.bad_attributes(owner, "the inode, which itself holds a value"));
            }
            let mut inode = self.value_inode(owner, number)?;
            let users = users(&inode);
            if users == 0 || owner.generation() != 0 && inode.generation() == owner.generation() {
                return Err(Error::unsupported(format!(
                    "ext4: inode {}: its attribute value in inode {number} has no count of users; it is not changed",
                    owner.number()
                )));
            }
            let users = if more { users.saturating_add(1) } else { users - 1 };
            if users == 0 {
                self.remove_node(&mut inode)?;
            } else {
                put_le32(inode.bytes_mut(), USERS_LOW, users as u32);
                put_le32(inode.bytes_mut(), USERS_HIGH, (users >> 32) as u32);
                self.put_inode(&inode)?;
            }
        }
        Ok(())
    }
}
