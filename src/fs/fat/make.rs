//! `mkfs vfat`: the layout is the `fatfs` crate's, the rest is set right here.
//!
//! fatfs leaves the free count unknown and gives the label no time; and it knows one cluster size for each
//! volume size, which not every size fits.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use super::boot::{self, BOOT_BYTES, Boot, INFO_BYTES, SLOT, Width};
use super::{name, time, volume};
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use crate::fs::MakeOptions;

/// Cluster sizes that are tried when none was asked for, after fatfs' own choice.
const CLUSTERS: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
/// Where signatures of other formats may lie: the start, up to LUKS2's last second header, and the end.
const WIPE_START: u64 = (4 << 20) + 4096;
const WIPE_END: u64 = 128 << 10;

/// See [`crate::fs::Driver::make`].
pub fn make(device: &Device, options: &MakeOptions) -> Result<()> {
    if options.features.is_some() || options.inode_size.is_some() {
        return Err(Error::new(Kind::Usage, "mkfs vfat: FAT has no features and no inodes"));
    }
    let sector = options.sector_size.unwrap_or_else(|| device.sector());
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(Error::new(Kind::Usage, format!("mkfs vfat: a sector size of {sector} bytes is not possible")));
    }
    let most = sector.saturating_mul(128);
    if let Some(cluster) = options.block_size
        && !(cluster.is_power_of_two() && (sector..=most).contains(&cluster))
    {
        return Err(Error::new(Kind::Usage, format!("mkfs vfat: a cluster size of {cluster} bytes is not possible"))
            .hint(format!("give a power of two from {sector} to {most}")));
    }
    let label = options
        .label
        .as_deref()
        .filter(|label| !label.is_empty())
        .map(|label| name::label(label.as_bytes()))
        .transpose()?;
    let Ok(sectors) = u32::try_from(device.len() / u64::from(sector)) else {
        return Err(Error::new(Kind::Usage, format!("mkfs vfat: {} bytes are too many for FAT", device.len())));
    };

    let len = device.len();
    device.zero(0..len.min(WIPE_START))?;
    device.zero(len.saturating_sub(WIPE_END)..len)?;
    let chosen = match options.block_size {
        Some(cluster) => vec![Some(cluster)],
        None => [None].into_iter().chain(CLUSTERS.map(Some)).collect(),
    };
    let [.., a, b, c, d] = options.uuid.0;
    let mut outcome = Err(io::ErrorKind::InvalidInput.into());
    for cluster in chosen.into_iter().filter(|cluster| cluster.is_none_or(|c| (sector..=most).contains(&c))) {
        let mut format = fatfs::FormatVolumeOptions::new()
            .bytes_per_sector(sector as u16)
            .total_sectors(sectors)
            .volume_id(u32::from_be_bytes([a, b, c, d]));
        if let Some(cluster) = cluster {
            format = format.bytes_per_cluster(cluster);
        }
        if let Some(label) = label {
            format = format.volume_label(label);
        }
        let mut stream = Stream { device, position: 0, zeros: 0..0 };
        outcome = fatfs::format_volume(&mut stream, format).and_then(|()| stream.flush());
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|e| match Error::from(e) {
        e if e.kind() == Kind::Io => Error::new(Kind::Usage, format!("mkfs vfat: no FAT fits {len} bytes: {e}"))
            .hint("take another size or another blocksize:"),
        e => e,
    })?;
    finish(device, options)
}

/// Sets the free count, and the time of the label.
fn finish(device: &Device, options: &MakeOptions) -> Result<()> {
    let sector: [u8; BOOT_BYTES] = volume::read_boot(device.as_ref())?.ok_or(Kind::Internal)?;
    let made = Boot::parse(&sector)?;
    if let Some(at) = made.info_at {
        let mut info = vec![0; INFO_BYTES];
        device.read_at(at, &mut info)?;
        // The root directory has the first cluster.
        boot::put_info(&mut info, made.clusters - 1, made.root_cluster + 1);
        device.write_at(at, &info)?;
    }
    if options.label.as_deref().is_some_and(|label| !label.is_empty()) {
        let at = if made.width == Width::Fat32 { made.cluster_at(made.root_cluster) } else { made.root_at };
        let mut entry = [0; SLOT];
        device.read_at(at, &mut entry)?;
        time::set_all(&mut entry, options.now);
        device.write_at(at, &entry)?;
    }
    Ok(())
}

/// A device as fatfs wants one. Zeros are gathered, since fatfs writes them sector by sector.
struct Stream<'a> {
    device: &'a Device,
    position: u64,
    zeros: Range<u64>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        let len = buf.len().min(usize::try_from(self.device.len().saturating_sub(self.position)).unwrap_or(usize::MAX));
        self.device.read_at(self.position, &mut buf[..len])?;
        self.position += len as u64;
        Ok(len)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let end = self.position.saturating_add(buf.len() as u64);
        if end > self.device.len() {
            return Err(Error::new(Kind::Io, "a write past the end of the device").into());
        }
        if is_zero(buf) {
            if self.zeros.end != self.position {
                self.flush()?;
                self.zeros = self.position..self.position;
            }
            self.zeros.end = end;
        } else {
            self.flush()?;
            self.device.write_at(self.position, buf)?;
        }
        self.position = end;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let zeros = std::mem::take(&mut self.zeros);
        if !zeros.is_empty() {
            self.device.zero(zeros)?;
        }
        Ok(())
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.device.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
