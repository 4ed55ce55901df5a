//! TEMPORARY: signatures of the tree operations.
use super::Guest;
use super::transfer::{ImportOptions, Report, Sink, Source};
use crate::base::{Error, GuestPathBuf, Result};

#[allow(unused_variables, missing_docs)]
impl Guest {
    pub fn import(&mut self, into: &GuestPathBuf, source: &mut dyn Source, options: &ImportOptions) -> Result<Report> {
        Err(Error::unsupported("import comes with the next commit"))
    }
    pub fn export(&self, path: &GuestPathBuf, prefix: &GuestPathBuf, sink: &mut dyn Sink) -> Result<Report> {
        Err(Error::unsupported("export comes with the next commit"))
    }
    pub fn copy(
        &mut self,
        from: &GuestPathBuf,
        to: &GuestPathBuf,
        keep_attributes: bool,
        recursive: bool,
    ) -> Result<()> {
        Err(Error::unsupported("copy comes with the next commit"))
    }
}
