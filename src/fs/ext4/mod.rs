//! TEMPORARY skeleton: replaced by the driver's author.
pub mod checksum;
pub mod dirent;
pub mod extent;
pub mod features;
pub mod group;
pub mod hash;
pub mod inode;
pub mod make;
pub mod superblock;

use crate::base::{Error, Result};
use crate::disk::{BlockDevice, Device};
use crate::fs::{FileSystem, Identity};
/// Words of `mkfs`.
pub const NAMES: &[&str] = &["ext2", "ext3", "ext4"];
/// See [`crate::fs::Driver::probe`].
pub fn probe(_device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(None)
}
/// See [`crate::fs::Driver::open`].
pub fn open(_device: Device) -> Result<Box<dyn FileSystem>> {
    Err(Error::unsupported("skeleton"))
}
pub use make::make;
