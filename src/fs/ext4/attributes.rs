//! Extended attributes, written: into the inode if they fit, else into one block that belongs to it alone.

use super::Ext4;
use super::acl::Acl;
use super::cache::Role;
use super::features::{Compat, Incompat, RoCompat};
use super::inode::Inode;
use super::values::{VALUE_MAX, in_inodes};
use super::xattr::{self, ACL_ACCESS, ACL_DEFAULT, Attribute, INLINE};
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Kind, Result};
use crate::fs::FileType;

/// Longest name behind the prefix.
const NAME_MAX: usize = 255;

impl Ext4 {
    /// See [`crate::fs::Edit::set_xattr`]; the inode is changed but not stored.
    pub(super) fn change_xattr(&mut self, inode: &mut Inode, full: &[u8], value: Option<&[u8]>) -> Result<()> {
        let Some((index, name)) = xattr::split(full) else {
            return Err(Error::unsupported(format!("ext4 has no attributes named {}", crate::base::printable(full))));
        };
        if (index, name) == INLINE {
            return Err(Error::new(
                Kind::Denied,
                "Operation not permitted (system.data is the content of small files)",
            ));
        }
        // 7 is `system.` and 8 the rich lists: Linux has no handler for other names with it than those of access control lists.
        if matches!(index, 7 | 8) && value.is_some() {
            return Err(Kind::Unsupported.into());
        }
        if name.len() > NAME_MAX {
            return Err(Error::new(Kind::Invalid, "the name of the attribute is too long"));
        }
        let (file_type, is_dir) = (inode.file_type(), inode.is_dir());
        if index == 1 && file_type != Some(FileType::Regular) && !is_dir {
            return Err(Error::new(
                Kind::Denied,
                "Operation not permitted (user attributes are for files and directories)",
            ));
        }
        if !matches!(index, ACL_ACCESS | ACL_DEFAULT) {
            return self.store_xattr(inode, index, name, value);
        }
        if file_type == Some(FileType::Symlink) {
            return Err(Kind::Unsupported.into());
        }
        if index == ACL_DEFAULT && !is_dir {
            return Err(Kind::Denied.into());
        }
        // A list of no entries removes the default list, as setfacl does it.
        let Some(value) = value.filter(|value| value.len() > 4 || index == ACL_ACCESS) else {
            return self.store_xattr(inode, index, name, None);
        };
        let acl = Acl::from_kernel(value).ok_or_else(|| Error::new(Kind::Invalid, "no valid access control list"))?;
        if index == ACL_ACCESS {
            let mode = u32::from(inode.mode()) & !0o777 | acl.mode();
            inode.set_mode(mode as u16);
            if acl.is_mode() {
                return self.remove_if_present(inode, index);
            }
        }
        self.store_xattr(inode, index, name, Some(&acl.to_disk()))
    }

    fn remove_if_present(&mut self, inode: &mut Inode, index: u8) -> Result<()> {
        match self.store_xattr(inode, index, b"", None) {
            Err(error) if error.kind() == Kind::NoData => Ok(()),
            result => result,
        }
    }

    /// The value of an attribute in the form on disk.
    fn stored_xattr(&self, inode: &Inode, index: u8) -> Result<Option<Vec<u8>>> {
        let mut all = self.attributes_inside(inode)?;
        all.extend(self.attributes_outside(inode)?);
        Ok(all.into_iter().find(|a| a.index == index && a.name.is_empty()).map(|a| a.value))
    }

    /// chmod: the access list, if there is one, follows the mode.
    pub(super) fn update_acl_mode(&mut self, inode: &mut Inode, mode: u32) -> Result<()> {
        let Some(value) = self.stored_xattr(inode, ACL_ACCESS)? else { return Ok(()) };
        let mut acl = self.parse_acl(inode, &value)?;
        acl.set_mode(mode);
        self.store_xattr(inode, ACL_ACCESS, b"", Some(&acl.to_disk()))
    }

    fn parse_acl(&self, inode: &Inode, value: &[u8]) -> Result<Acl> {
        Acl::from_disk(value)
            .ok_or_else(|| Error::corrupt(format!("ext4: inode {}: broken access control list", inode.number())))
    }

    /// A new node takes the default list of its directory: as its access list, limited by its mode, and a
    /// directory as its default list too.
    pub(super) fn inherit_acl(&mut self, parent: &Inode, inode: &mut Inode) -> Result<()> {
        let Some(value) = self.stored_xattr(parent, ACL_DEFAULT)? else { return Ok(()) };
        let mut acl = self.parse_acl(parent, &value)?;
        if inode.is_dir() {
            self.store_xattr(inode, ACL_DEFAULT, b"", Some(&value))?;
        }
        let mode = acl.limit(u32::from(inode.mode()));
        inode.set_mode(mode as u16);
        if acl.is_mode() { Ok(()) } else { self.store_xattr(inode, ACL_ACCESS, b"", Some(&acl.to_disk())) }
    }

    /// Sets or removes an attribute in the form on disk.
    fn store_xattr(&mut self, inode: &mut Inode, index: u8, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        let mut inside = self.attributes_inside(inode)?;
        let mut outside = self.attributes_outside(inode)?;
        let is_old = |a: &mut Attribute| a.is((index, name));
        let old_inside: Vec<Attribute> = inside.extract_if(.., is_old).collect();
        let old_outside: Vec<Attribute> = outside.extract_if(.., is_old).collect();
        let mut outside_changed = !old_outside.is_empty();
        match value {
            None if old_inside.is_empty() && old_outside.is_empty() => return Err(Kind::NoData.into()),
            None => {
                xattr::put_in_inode(inode, &inside);
            }
            Some(value) if value.len() > VALUE_MAX => {
                return Err(Error::new(Kind::NoSpace, "the value of the attribute is over 64 KiB"));
            }
            Some(value) => {
                let attribute = Attribute { index, name: name.to_vec(), value: value.to_vec(), stored: None };
                let attribute = self.place_value(inode, attribute, &inside, &outside)?;
                self.use_values(inode, std::slice::from_ref(&attribute), 1)?;
                inside.push(attribute);
                if !xattr::put_in_inode(inode, &inside) {
                    outside.extend(inside.pop());
                    outside_changed = true;
                    xattr::put_in_inode(inode, &inside);
                }
            }
        }
        if self.superblock.revision() == 0 {
            return Err(Error::unsupported("ext4: a file system of revision 0 has no attributes"));
        }
        if !self.superblock.compat().has(Compat::EXT_ATTR) {
            self.superblock.add_compat(Compat::EXT_ATTR);
            self.superblock_changed = true;
        }
        if outside_changed {
            self.store_outside(inode, &mut outside)?;
        }
        let old = [old_inside, old_outside].concat();
        self.use_values(inode, &old, -1)?;
        self.count_values(inode, &old, false)
    }

    /// Gives a value that fits neither the inode nor its block an inode of its own, where the feature ea_inode is on.
    fn place_value(
        &mut self,
        inode: &Inode,
        mut attribute: Attribute,
        inside: &[Attribute],
        outside: &[Attribute],
    ) -> Result<Attribute> {
        let space = |list: &[Attribute]| -> usize { list.iter().map(Attribute::space).sum() };
        let fits = space(inside) + attribute.space() <= xattr::inode_room(inode)
            || space(outside) + attribute.space() <= xattr::block_room(self.geometry.block_size);
        if !fits && self.geometry.incompat.has(Incompat::EA_INODE) {
            attribute.stored = Some(self.store_value(inode, &attribute.value)?);
        }
        Ok(attribute)
    }

    /// Makes these the attributes of the inode's block. A block that other inodes use too is left to them, and the
    /// values that it names have one user more.
    fn store_outside(&mut self, inode: &mut Inode, attributes: &mut [Attribute]) -> Result<()> {
        let size = self.geometry.block_size;
        if attributes.iter().map(Attribute::space).sum::<usize>() > xattr::block_room(size) {
            return Err(Error::new(Kind::NoSpace, "No space left on device (the attributes do not fit one block)"));
        }
        let mut number = inode.xattr_block();
        let shared = number != 0 && le32(&self.block(number, Role::Attributes)?, 4) != 1;
        if shared {
            let before = self.attributes_outside(inode)?;
            self.count_values(inode, &before, true)?;
        }
        if shared || attributes.is_empty() {
            self.leave_xattr_block(inode)?;
            number = 0;
        }
        if attributes.is_empty() {
            return Ok(());
        }
        if number == 0 {
            number = self.allocate(self.home_of(inode), 1)?.start;
            self.block_new(number, Role::Attributes)?;
            inode.set_xattr_block(number);
            self.add_clusters(inode, 1)?;
        }
        xattr::put_in_block(self.block_mut(number, Role::Attributes)?, attributes);
        Ok(())
    }

    /// A node that goes away no longer uses its attribute block, nor, if nobody else does, the values that it names.
    pub(super) fn drop_xattr_block(&mut self, inode: &mut Inode) -> Result<()> {
        if inode.xattr_block() != 0 && le32(&self.block(inode.xattr_block(), Role::Attributes)?, 4) == 1 {
            let values = self.attributes_outside(inode)?;
            self.count_values(inode, &values, false)?;
        }
        self.leave_xattr_block(inode)
    }

    /// The inode no longer uses its attribute block: one user less, or the block is free.
    fn leave_xattr_block(&mut self, inode: &mut Inode) -> Result<()> {
        let number = inode.xattr_block();
        if number == 0 {
            return Ok(());
        }
        let block = self.block(number, Role::Attributes)?;
        let users = le32(&block, 4);
        if le32(&block, 0) != xattr::MAGIC || users == 0 {
            let inode = inode.number();
            return Err(Error::corrupt(format!("ext4: inode {inode}: attribute block {number} has {users} users")));
        }
        drop(block);
        if users == 1 {
            self.release(number, 1)?;
        } else {
            put_le32(self.block_mut(number, Role::Attributes)?, 4, users - 1);
        }
        inode.set_xattr_block(0);
        self.add_clusters(inode, -1)
    }

    /// An inode uses the values of these attributes from now on (1), or no longer (-1).
    fn use_values(&mut self, inode: &mut Inode, attributes: &[Attribute], sign: i64) -> Result<()> {
        self.note_values(inode, sign * in_inodes(attributes));
        self.add_clusters(inode, sign * self.value_clusters(attributes) as i64)
    }

    /// Changes the space of the inode by so many clusters.
    fn add_clusters(&self, inode: &mut Inode, change: i64) -> Result<()> {
        let bs = self.geometry.bs();
        let unit = (bs / 512 * self.geometry.ratio()) as i64;
        let sectors = inode.sectors(bs).saturating_add_signed(change.saturating_mul(unit));
        inode.set_sectors(sectors, bs, self.geometry.ro_compat.has(RoCompat::HUGE_FILE))
    }
}
