//! TEMPORARY skeleton: byte-range locks as QEMU takes them (formats/qcow2.md, section 2.5).
