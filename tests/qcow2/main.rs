//! qcow2 against qemu-img.

mod hostile;
mod judge;
mod kinds;
mod whole;
