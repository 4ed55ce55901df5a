//! qcow2 against qemu-img.

mod bitmaps;
mod copies;
mod encrypted;
mod hostile;
mod judge;
mod kinds;
mod whole;
