//! Persistent dirty bitmaps: this program does not keep them up to date, so a commit drops them, as a whole
//! and together with their clusters. Left in place they would be wrong (backups with holes), and with only
//! the autoclear bit cleared `qemu-img check` would find leaks.

use super::header::{BITMAPS, BitmapExtension, Header};
use super::map::{Image, OFFSET, entries};
use super::storage::read_metadata;
use crate::base::bytes::{be16, be32, be64, put_be64};
use crate::base::{Error, Result};

/// As in QEMU: directory size and count of bitmaps.
const DIRECTORY_LIMIT: u64 = 64 << 20;
const COUNT_LIMIT: u32 = 65_535;
const TABLE_LIMIT: u64 = 64 << 20;

/// Takes the bitmaps out of `header` and gives the clusters that they used.
pub(super) fn remove(image: &Image, header: &mut Header) -> Result<Vec<u64>> {
    let clusters = used(image)?;
    // Without the autoclear bit the extension means nothing and may stay.
    if header.bitmaps.take().is_none() || header.autoclear & BITMAPS == 0 {
        return Ok(clusters);
    }
    header.drop_bitmaps().map_err(|e| e.at(image.path.display()))?;
    Ok(clusters)
}

/// The clusters that bitmaps use.
pub(super) fn used(image: &Image) -> Result<Vec<u64>> {
    // Without the autoclear bit the extension means nothing and may point anywhere.
    match image.header.bitmaps.as_ref().filter(|_| image.header.autoclear & BITMAPS != 0) {
        Some(extension) => clusters(image, extension),
        None => Ok(Vec::new()),
    }
}

fn clusters(image: &Image, extension: &BitmapExtension) -> Result<Vec<u64>> {
    let corrupt = |what: String| Error::corrupt(format!("qcow2: bitmaps: {what}")).at(image.path.display());
    let bits = image.header.cluster_bits;
    let size = image.header.cluster_size();
    let mut used = Vec::new();
    let mut add = |offset: u64, bytes: u64, what: &str| {
        let end = offset.checked_add(bytes).filter(|end| *end <= OFFSET);
        match end {
            Some(end) if offset.is_multiple_of(size) && bytes > 0 => {
                used.extend(offset >> bits..end.div_ceil(size));
                Ok(())
            }
            _ => Err(corrupt(format!("{what} of {bytes} bytes at {offset}"))),
        }
    };
    if extension.size > DIRECTORY_LIMIT || extension.count > COUNT_LIMIT {
        return Err(corrupt(format!("directory of {} bytes with {} entries", extension.size, extension.count)));
    }
    add(extension.directory, extension.size, "directory")?;
    let mut directory = vec![0; extension.size as usize];
    read_metadata(image.storage.as_ref(), extension.directory, &mut directory, "the bitmap directory")?;
    let mut at = 0;
    for number in 0..extension.count {
        let entry = directory.get(at..).filter(|entry| entry.len() >= 24);
        let entry = entry.ok_or_else(|| corrupt(format!("entry {number} is past the end of the directory")))?;
        let (offset, length) = (be64(entry, 0), u64::from(be32(entry, 8)) * 8);
        if length > TABLE_LIMIT {
            return Err(corrupt(format!("table {number} of {length} bytes")));
        }
        if length > 0 {
            add(offset, length, "table")?;
            let mut table = vec![0; length as usize];
            read_metadata(image.storage.as_ref(), offset, &mut table, "a bitmap table")?;
            for cluster in entries(&table).into_iter().map(|entry| entry & OFFSET).filter(|offset| *offset != 0) {
                add(cluster, size, "data")?;
            }
        }
        let names = 24 + usize::from(be16(entry, 18)) + be32(entry, 20) as usize;
        at += names.next_multiple_of(8);
    }
    Ok(used)
}

impl Header {
    /// Ends the list of extensions before the bitmaps extension, by the one field that says so. The list is only
    /// cut where nothing but feature names, which are for messages alone, is lost with it; and the field must be
    /// in the first sector, which is switched as one.
    fn drop_bitmaps(&mut self) -> Result<()> {
        match self.end_of_extensions.take() {
            Some(at) if at + 8 <= self.sector.len() => {
                put_be64(&mut self.sector, at, 0);
                Ok(())
            }
            _ => Err(Error::unsupported("qcow2: bitmaps: their header extension cannot be taken out in one write")
                .hint("remove the bitmaps first: qemu-img bitmap --remove IMAGE NAME")),
        }
    }
}
