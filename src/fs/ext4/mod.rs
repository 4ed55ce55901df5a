//! TEMPORARY skeleton: replaced by the driver's author.
pub mod hash;
use crate::base::{Error, Result};
use crate::disk::{BlockDevice, Device};
use crate::fs::{FileSystem, Identity, MakeOptions};
/// Words of `mkfs`.
pub const NAMES: &[&str] = &["ext4"];
/// See [`crate::fs::Driver::probe`].
pub fn probe(_device: &dyn BlockDevice) -> Result<Option<Identity>> {
    Ok(None)
}
/// See [`crate::fs::Driver::open`].
pub fn open(_device: Device) -> Result<Box<dyn FileSystem>> {
    Err(Error::unsupported("skeleton"))
}
/// See [`crate::fs::Driver::make`].
pub fn make(_device: &Device, _options: &MakeOptions) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}
