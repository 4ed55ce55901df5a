//! The FAT driver against dosfstools, mtools and the fatfs crate.

mod changes;
mod files;
mod fresh;
mod hostile;
mod random;
mod tools;
