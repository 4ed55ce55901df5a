//! The FAT driver against dosfstools, mtools and the fatfs crate.

mod changes;
mod files;
mod hostile;
mod random;
mod tools;
