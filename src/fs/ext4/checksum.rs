//! The checksums of ext4: crc32c (metadata_csum) and crc16 (uninit_bg), and what each is computed over.
//!
//! Facts: kernel documentation, "Checksums"; verified against images of mke2fs 1.47.

use crate::base::bytes::{le16, le32, put_le16, put_le32};

/// crc32c (Castagnoli) continued from `seed`, without the usual final inversion, as ext4 stores it.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// crc16 (polynomial 0x8005, reflected) continued from `seed`.
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |c, _| if c & 1 != 0 { c >> 1 ^ 0xa001 } else { c >> 1 })
    })
}

/// The seed of everything that belongs to an inode: file system seed, inode number, generation.
pub fn inode_seed(seed: u32, inode: u32, generation: u32) -> u32 {
    crc32c(crc32c(seed, &inode.to_le_bytes()), &generation.to_le_bytes())
}

/// A group descriptor under metadata_csum; the checksum field (0x1e) counts as zero.
pub fn group_crc32c(seed: u32, group: u32, desc: &[u8]) -> u16 {
    let mut crc = crc32c(seed, &group.to_le_bytes());
    crc = crc32c(crc, desc.get(..0x1e).unwrap_or(desc));
    crc = crc32c(crc, &[0, 0]);
    crc32c(crc, desc.get(0x20..).unwrap_or_default()) as u16
}

/// A group descriptor under uninit_bg: crc16 of UUID, group number and descriptor without its field.
pub fn group_crc16(uuid: &[u8; 16], group: u32, desc: &[u8]) -> u16 {
    let mut crc = crc16(!0, uuid);
    crc = crc16(crc, &group.to_le_bytes());
    crc = crc16(crc, desc.get(..0x1e).unwrap_or(desc));
    crc16(crc, desc.get(0x20..).unwrap_or_default())
}

/// An inode of 128 bytes or more: fields 0x7c (low) and, where `i_extra_isize` reaches it, 0x82 (high)
/// count as zero. Answers the whole crc and whether the high half is stored.
pub fn inode_crc(seed: u32, number: u32, bytes: &[u8]) -> (u32, bool) {
    let generation = le32(bytes, 0x64);
    let mut crc = inode_seed(seed, number, generation);
    let has_high = bytes.len() > 0x84 && le16(bytes, 0x80) >= 4;
    crc = crc32c(crc, bytes.get(..0x7c).unwrap_or(bytes));
    crc = crc32c(crc, &[0, 0]);
    if has_high {
        crc = crc32c(crc, bytes.get(0x7e..0x82).unwrap_or_default());
        crc = crc32c(crc, &[0, 0]);
        crc = crc32c(crc, bytes.get(0x84..).unwrap_or_default());
    } else {
        crc = crc32c(crc, bytes.get(0x7e..).unwrap_or_default());
    }
    (crc, has_high)
}

/// Whether the stored checksum of an inode fits its bytes.
pub fn inode_is_good(seed: u32, number: u32, bytes: &[u8]) -> bool {
    let (crc, has_high) = inode_crc(seed, number, bytes);
    le16(bytes, 0x7c) == crc as u16 && (!has_high || le16(bytes, 0x82) == (crc >> 16) as u16)
}

/// Stores the checksum of an inode.
pub fn stamp_inode(seed: u32, number: u32, bytes: &mut [u8]) {
    let (crc, has_high) = inode_crc(seed, number, bytes);
    put_le16(bytes, 0x7c, crc as u16);
    if has_high {
        put_le16(bytes, 0x82, (crc >> 16) as u16);
    }
}

/// Where the checksum of an extent block lies: behind `eh_max` entries.
fn extent_tail(block: &[u8]) -> usize {
    12 + 12 * usize::from(le16(block, 4))
}

/// Whether the checksum of an extent block is good; `seed` is the [`inode_seed`] of its owner.
pub fn extent_is_good(seed: u32, block: &[u8]) -> bool {
    let tail = extent_tail(block);
    block.len() >= tail + 4 && le32(block, tail) == crc32c(seed, &block[..tail])
}

/// Stores the checksum of an extent block.
pub fn stamp_extent(seed: u32, block: &mut [u8]) {
    let tail = extent_tail(block);
    if block.len() >= tail + 4 {
        let crc = crc32c(seed, &block[..tail]);
        put_le32(block, tail, crc);
    }
}

/// Bytes of the tail that a directory leaf has under metadata_csum: a false entry with the checksum.
pub const LEAF_TAIL: usize = 12;

/// Whether a directory leaf has a tail with a good checksum.
pub fn leaf_is_good(seed: u32, block: &[u8]) -> bool {
    let Some(tail) = block.len().checked_sub(LEAF_TAIL) else { return false };
    le32(block, tail) == 0
        && le32(block, tail + 4) == 0xde00_000c
        && le32(block, tail + 8) == crc32c(seed, &block[..tail])
}

/// Writes the tail of a directory leaf.
pub fn stamp_leaf(seed: u32, block: &mut [u8]) {
    if let Some(tail) = block.len().checked_sub(LEAF_TAIL) {
        put_le32(block, tail, 0);
        put_le32(block, tail + 4, 0xde00_000c);
        let crc = crc32c(seed, &block[..tail]);
        put_le32(block, tail + 8, crc);
    }
}

/// The checksum of an index block and where it lies: over the used entries and half of the tail.
/// `entries` is the offset of the limit and count fields. `None` if these do not fit the block.
fn index_crc(seed: u32, block: &[u8], entries: usize) -> Option<(u32, usize)> {
    let (limit, count) = (usize::from(le16(block, entries)), usize::from(le16(block, entries + 2)));
    let tail = entries + limit * 8;
    if count > limit || tail + 8 > block.len() {
        return None;
    }
    let crc = crc32c(seed, &block[..entries + count * 8]);
    let crc = crc32c(crc, &block[tail..tail + 4]);
    Some((crc32c(crc, &[0; 4]), tail + 4))
}

/// Whether the checksum of a hash index block is good.
pub fn index_is_good(seed: u32, block: &[u8], entries: usize) -> bool {
    index_crc(seed, block, entries).is_some_and(|(crc, at)| le32(block, at) == crc)
}

/// Stores the checksum of a hash index block.
pub fn stamp_index(seed: u32, block: &mut [u8], entries: usize) {
    if let Some((crc, at)) = index_crc(seed, block, entries) {
        put_le32(block, at, crc);
    }
}

/// The checksum of an attribute block, which counts its own field (0x10) as zero and its place as input.
pub fn xattr_crc(seed: u32, number: u64, block: &[u8]) -> u32 {
    let crc = crc32c(seed, &number.to_le_bytes());
    let crc = crc32c(crc, block.get(..0x10).unwrap_or(block));
    crc32c(crc32c(crc, &[0; 4]), block.get(0x14..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
