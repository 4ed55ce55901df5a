//! TEMPORARY
use crate::base::{Error, Result};
use crate::disk::Device;
use crate::fs::MakeOptions;
/// See [`crate::fs::Driver::make`].
pub fn make(_device: &Device, _options: &MakeOptions) -> Result<()> {
    Err(Error::unsupported("skeleton"))
}
