//! The driver over images of mke2fs, judged by e2fsck and debugfs.
