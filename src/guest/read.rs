//! Reading: attributes, names, content.

use std::io::{self, BufReader, Read};

use super::{At, Guest, Place};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result, progress};
use crate::fs::{Extent, FileSystem, FileType, FsInfo, Metadata, NodeId, Segment};

/// Largest buffer of a [`Guest::reader`].
const CHUNK: u64 = 1 << 20;

/// A file of a file system as a stream.
struct Stream<'a> {
    guest: &'a Guest,
    fs: &'a dyn FileSystem,
    node: NodeId,
    offset: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.guest.check_interrupt()?;
        let got = self.fs.read(self.node, self.offset, buf)?;
        progress::add(got as u64);
        self.offset += got as u64;
        Ok(got)
    }
}

impl Guest {
    /// Attributes; links are followed.
    pub fn stat(&self, path: &GuestPathBuf) -> Result<Metadata> {
        self.metadata(self.resolve(path)?).map_err(|e| e.at(path))
    }

    /// Attributes; a link at the end is not followed.
    pub fn lstat(&self, path: &GuestPathBuf) -> Result<Metadata> {
        self.metadata(self.resolve_link(path)?).map_err(|e| e.at(path))
    }

    /// Attributes of a node.
    pub fn metadata(&self, place: Place) -> Result<Metadata> {
        self.fs(place.fs)?.metadata(place.node)
    }

    /// Names of a directory sorted by bytes, without `.` and `..`.
    pub fn list(&self, path: &GuestPathBuf) -> Result<Vec<Name>> {
        let at = self.at(path, true)?;
        let entries = self.entries(at).map_err(|e| e.at(path))?;
        Ok(entries.into_iter().map(|(name, _)| name).collect())
    }

    /// The names of a directory that `wanted` takes, in the order of the directory, with their types where the directory has
    /// them: for looking at a few of many.
    ///
    /// # Errors
    /// As [`Guest::list`].
    pub fn list_some(
        &self,
        path: &GuestPathBuf,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<(Name, Option<FileType>)>> {
        let at = self.at(path, true)?;
        let entries = self.fs_of(at)?.read_dir(at.node).map_err(|e| e.at(path))?;
        let wanted = entries.into_iter().filter(|entry| wanted(&entry.name));
        Ok(wanted.map(|entry| (entry.name, entry.file_type)).collect())
    }

    /// Names and nodes of a directory sorted by bytes, with what is mounted on them.
    pub(super) fn entries(&self, dir: At) -> Result<Vec<(Name, At)>> {
        let mut entries = Vec::new();
        for entry in self.fs_of(dir)?.read_dir(dir.node)? {
            // Such names cannot be made, but an image can hold them; a tree that is copied out must not climb.
            if matches!(&*entry.name, b"" | b"." | b"..") || entry.name.iter().any(|b| matches!(b, 0 | b'/')) {
                return Err(Error::corrupt(format!("directory {} holds the name '{}'", dir.node.0, entry.name)));
            }
            entries.push((entry.name, self.cross(At { mount: dir.mount, node: entry.node })?));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: &GuestPathBuf) -> Result<GuestPathBuf> {
        let at = self.at(path, false)?;
        self.fs_of(at)?.read_link(at.node).map_err(|e| e.at(path))
    }

    /// A whole regular file; `limit` in bytes guards memory (`Kind::FileTooBig`).
    pub fn read_file(&self, path: &GuestPathBuf, limit: u64) -> Result<Vec<u8>> {
        let (at, size) = self.regular(path)?;
        if size > limit {
            let detail = format!("the file has {size} bytes, more than the {limit} that can be held at once");
            return Err(Error::new(Kind::FileTooBig, detail).at(path));
        }
        let mut data = Vec::new();
        self.stream(at, size).and_then(|mut stream| Ok(stream.read_to_end(&mut data)?)).map_err(|e| e.at(path))?;
        Ok(data)
    }

    /// A reader of a regular file, in large chunks.
    pub fn reader(&self, path: &GuestPathBuf) -> Result<Box<dyn Read + '_>> {
        let (at, size) = self.regular(path)?;
        progress::expect(size);
        self.stream(at, size)
    }

    /// A reader of up to `count` bytes of a regular file from byte `offset` on, fewer at its end.
    pub fn reader_at(&self, path: &GuestPathBuf, offset: u64, count: u64) -> Result<Box<dyn Read + '_>> {
        let (at, size) = self.regular(path)?;
        let left = count.min(size.saturating_sub(offset));
        let stream = Stream { guest: self, fs: self.fs_of(at)?, node: at.node, offset };
        Ok(Box::new(BufReader::with_capacity(left.clamp(512, CHUNK) as usize, stream).take(left)))
    }

    /// Up to `count` bytes of a regular file from byte `offset` on, fewer at its end.
    pub fn read_at(&self, path: &GuestPathBuf, offset: u64, count: u64) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        self.reader_at(path, offset, count)?.read_to_end(&mut data).map_err(|e| Error::from(e).at(path))?;
        Ok(data)
    }

    fn regular(&self, path: &GuestPathBuf) -> Result<(At, u64)> {
        let at = self.at(path, true)?;
        let metadata = self.fs_of(at)?.metadata(at.node).map_err(|e| e.at(path))?;
        metadata.file_type.check_regular().map_err(|e| e.at(path))?;
        Ok((at, metadata.size))
    }

    pub(super) fn stream(&self, at: At, size: u64) -> Result<Box<dyn Read + '_>> {
        let stream = Stream { guest: self, fs: self.fs_of(at)?, node: at.node, offset: 0 };
        Ok(Box::new(BufReader::with_capacity(size.clamp(512, CHUNK) as usize, stream).take(size)))
    }

    /// Data and holes of a regular file.
    pub fn extents(&self, path: &GuestPathBuf) -> Result<Vec<Extent>> {
        let (at, _) = self.regular(path)?;
        self.fs_of(at)?.extents(at.node).map_err(|e| e.at(path))
    }

    /// Where the bytes of a regular file are on its device, and the device's canonical name.
    pub fn layout(&self, path: &GuestPathBuf) -> Result<(String, Vec<Segment>)> {
        let (at, _) = self.regular(path)?;
        let device = self.mounts.get(at.mount).ok_or(Kind::Internal)?.device.clone();
        Ok((device, self.fs_of(at)?.layout(at.node).map_err(|e| e.at(path))?))
    }

    /// Extended attributes, sorted by name.
    pub fn xattrs(&self, path: &GuestPathBuf, follow: bool) -> Result<Vec<(Name, Vec<u8>)>> {
        let at = self.at(path, follow)?;
        self.fs_of(at)?.xattrs(at.node).map_err(|e| e.at(path))
    }

    /// Whether the mount that holds a path is read-only.
    pub fn is_read_only(&self, path: &GuestPathBuf) -> Result<bool> {
        let at = self.at(path, true)?;
        Ok(self.mounts.get(at.mount).is_some_and(|mount| mount.read_only))
    }

    /// The file system that holds a path.
    pub fn statvfs(&self, path: &GuestPathBuf) -> Result<FsInfo> {
        let at = self.at(path, true)?;
        self.fs_of(at)?.info().map_err(|e| e.at(path))
    }
}
