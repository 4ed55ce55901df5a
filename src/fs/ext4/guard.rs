//! What may not be changed: refusals by name, by flag, by what an inode can hold, by project.

use super::inode::{FLAG_APPEND, FLAG_IMMUTABLE, FLAG_PROJINHERIT, FLAG_VERITY, Inode, Time};
use super::{Ext4, dirent};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::fs::NodeId;

/// Refuses what cannot be the name of an entry.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > dirent::NAME_MAX {
        return Err(Kind::NameTooLong.into());
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|b| matches!(b, 0 | b'/')) {
        return Err(Kind::Invalid.into());
    }
    Ok(())
}

/// Refuses a change of an inode that has one of these flags.
pub(super) fn check_flags(inode: &Inode, flags: u32) -> Result<()> {
    let what = match inode.flags() & flags {
        0 => return Ok(()),
        bits if bits & FLAG_IMMUTABLE != 0 => "immutable",
        _ => "append-only",
    };
    let (number, bits) = (inode.number(), inode.flags() & flags);
    Err(Error::new(Kind::Denied, format!("Operation not permitted (inode {number} is {what}, flag {bits:#x})")))
}

/// Refuses a time that the inode cannot hold.
pub(super) fn check_time(inode: &Inode, which: Time, time: Timestamp) -> Result<()> {
    if inode.time_range(which).contains(&time.seconds) {
        return Ok(());
    }
    let (number, size) = (inode.number(), inode.bytes().len());
    let last = if *inode.time_range(which).end() == i64::from(i32::MAX) { 2038 } else { 2446 };
    let seconds = time.seconds;
    Err(Error::new(
        Kind::Invalid,
        format!("a time of {seconds} seconds is not in 1901 to {last}, which inode {number} of {size} bytes can hold"),
    ))
}

/// What keeps a node from being changed other than by growth.
pub(super) const LOCKED: u32 = FLAG_IMMUTABLE | FLAG_APPEND;

impl Ext4 {
    /// A directory whose names may change; `remove` if one may go away.
    pub(super) fn dir_to_change(&self, node: NodeId, remove: bool) -> Result<Inode> {
        let dir = self.node(node)?;
        self.check_dir(&dir)?;
        check_flags(&dir, if remove { LOCKED } else { FLAG_IMMUTABLE })?;
        Ok(dir)
    }

    /// A regular file whose content may change.
    pub(super) fn file_to_change(&self, node: NodeId) -> Result<Inode> {
        let inode = self.node(node)?;
        inode.file_type().ok_or(Kind::Invalid)?.check_regular()?;
        check_flags(&inode, FLAG_IMMUTABLE)?;
        self.check_readable(&inode)?;
        if inode.has(FLAG_VERITY) {
            let number = inode.number();
            let what =
                format!("Operation not permitted (inode {number} is sealed by fs-verity, flag {FLAG_VERITY:#x})");
            return Err(Error::new(Kind::Denied, what));
        }
        Ok(inode)
    }

    /// Refuses a name in a directory that hands its project down to a node of another project, as Linux does.
    pub(super) fn check_project(&self, dir: &Inode, inode: &Inode) -> Result<()> {
        if !dir.has(FLAG_PROJINHERIT) || dir.project() == inode.project() {
            return Ok(());
        }
        let (number, project, other) = (inode.number(), inode.project(), dir.project());
        let what =
            format!("Invalid cross-device link (inode {number} is of project {project}, the directory of {other})");
        Err(Error::new(Kind::CrossDevice, what))
    }
}
