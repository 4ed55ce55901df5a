//! Guest data encrypted with LUKS inside the image: the LUKS header lies in clusters of its own, and every sector of
//! data is encrypted by its offset in the image file. Tables are plain.

use std::sync::Arc;

use super::chain::Node;
use super::header::{EncryptionExtension, Header};
use super::map::Image;
use super::storage::{Storage, read_data, read_metadata};
use crate::base::{Error, Kind, Result};
use crate::disk::Device;
use crate::disk::luks::{self, Unlocked, Way, Work};
use crate::disk::memory::Memory;

/// Bytes that are encrypted as one.
const SECTOR: u64 = 512;
/// Most bytes of a LUKS header: eight key slots with the longest keys are 2 MiB.
const AREA_LIMIT: u64 = 4 << 20;
/// What is encrypted at once.
const PIECE: usize = 1 << 18;

/// The LUKS header, and the key if it is known.
pub(super) struct Encryption {
    header: luks::Header,
    /// The bytes of the header and its key slots.
    area: Device,
    volume: Option<Arc<Unlocked>>,
}

impl Encryption {
    /// Reads the LUKS header that an image header points to; `None` for a plain image.
    pub fn read(storage: &dyn Storage, header: &Header) -> Result<Option<Self>> {
        let Some(EncryptionExtension { offset, len }) = header.encryption else { return Ok(None) };
        let corrupt = |what: &str| {
            Error::corrupt(format!("qcow2: the LUKS header of {len} bytes at {offset}: {what}"))
                .at(storage.path().display())
        };
        if offset == 0 || !offset.is_multiple_of(header.cluster_size()) || len > AREA_LIMIT.min(storage.len()?) {
            return Err(corrupt("not on a cluster, or too long"));
        }
        let mut area = vec![0; len as usize];
        read_metadata(storage, offset, &mut area, "the LUKS header")?;
        let area: Device = Arc::new(Memory::from(area));
        let header = luks::read(&area).map_err(|e| e.at(storage.path().display()))?;
        let header = header.filter(|header| header.version == 1).ok_or_else(|| corrupt("it is not LUKS1"))?;
        Ok(Some(Encryption { header, area, volume: None }))
    }

    fn volume(&self) -> Result<&Unlocked> {
        self.volume.as_deref().ok_or_else(|| {
            Error::new(Kind::Denied, "qcow2: the image is encrypted (LUKS) and its key was not given")
                .hint(format!("give it with --key {}:key:PASSPHRASE or --key all:file:FILE", self.header.uuid))
        })
    }

    /// Reads plain data from host offset `at`.
    pub fn read_at(&self, storage: &dyn Storage, at: u64, out: &mut [u8]) -> Result<()> {
        let volume = self.volume()?;
        let (start, end) = (at - at % SECTOR, (at + out.len() as u64).next_multiple_of(SECTOR));
        if start == at && end == at + out.len() as u64 {
            read_data(storage, at, out)?;
            volume.crypt(Way::Decrypt, at / SECTOR, out);
            return Ok(());
        }
        let mut sectors = vec![0; (end - start) as usize];
        read_data(storage, start, &mut sectors)?;
        volume.crypt(Way::Decrypt, start / SECTOR, &mut sectors);
        let part = (at - start) as usize..(at - start) as usize + out.len();
        out.copy_from_slice(sectors.get(part).ok_or(Kind::Internal)?);
        Ok(())
    }

    /// Writes plain data to host offset `at`. What shares a sector with it at either end stays.
    pub fn write_at(&self, storage: &dyn Storage, at: u64, data: &[u8]) -> Result<()> {
        let volume = self.volume()?;
        let (mut at, mut rest) = (at, data);
        while !rest.is_empty() {
            let start = at - at % SECTOR;
            let (now, later) = rest.split_at(rest.len().min(PIECE - (at - start) as usize));
            let end = (at + now.len() as u64).next_multiple_of(SECTOR);
            let mut sectors = vec![0; (end - start) as usize];
            if end - start != now.len() as u64 {
                self.read_at(storage, start, &mut sectors)?;
            }
            let part = (at - start) as usize..(at - start) as usize + now.len();
            sectors.get_mut(part).ok_or(Kind::Internal)?.copy_from_slice(now);
            volume.crypt(Way::Encrypt, start / SECTOR, &mut sectors);
            storage.write_at(start, &sectors)?;
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }
}

impl Image {
    /// The first encrypted image from here down whose key is not known.
    fn closed(&mut self) -> Option<&mut Encryption> {
        match (&mut self.encryption, &mut self.backing) {
            (Some(encryption), _) if encryption.volume.is_none() => Some(encryption),
            (_, Some(Node::Image(image))) => image.closed(),
            _ => None,
        }
    }

    /// The UUID in the LUKS header of the first encrypted image from here down whose key is not known.
    pub fn locked(&mut self) -> Option<String> {
        self.closed().map(|encryption| encryption.header.uuid.clone())
    }

    /// Opens that image with a passphrase. `interrupt` fails once the user wants an end.
    pub fn unlock(&mut self, passphrase: &[u8], interrupt: &dyn Fn() -> Result<()>) -> Result<()> {
        let Some(encryption) = self.closed() else { return Ok(()) };
        let volume = encryption.header.unlock(&encryption.area, passphrase, &mut Work::new(interrupt))?;
        encryption.volume = Some(volume);
        Ok(())
    }

    /// Writes guest data to a place in the file.
    pub fn write_data(&self, host: u64, data: &[u8]) -> Result<()> {
        match &self.encryption {
            Some(encryption) => encryption.write_at(self.storage.as_ref(), host, data),
            None => self.storage.write_at(host, data),
        }
    }
}
