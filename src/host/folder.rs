//! A host folder that entries are written into (copy-out). Every step goes through folder descriptors and never
//! follows a link, so neither a name nor a link in an image can lead outside.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, makedev, mkdirat, mknodat, umask, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, mkfifoat, symlinkat, unlinkat};

use crate::base::{Error, GuestPathBuf, Kind, Result, Timestamp};
use crate::guest::transfer::{Entry, EntryKind, Sink};

/// What a folder still gets when everything is in it.
struct Later {
    components: Vec<Vec<u8>>,
    mode: u32,
    modified: Timestamp,
}

/// Writes entries below one folder.
pub(super) struct Folder {
    root: OwnedFd,
    /// Folders that are open, with their names from the root.
    open: Vec<(Vec<u8>, OwnedFd)>,
    later: Vec<Later>,
    /// Whether an entry for the folder itself came: then files at the top are part of a tree.
    whole: bool,
    as_root: bool,
    umask: u32,
}

/// Files with this many bytes in holes come without them; zeros in others become holes as they come.
const HOLES: u64 = 1 << 20;

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn mode_of(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits & 0o7777)
}

fn host_error(path: &GuestPathBuf, error: Errno) -> Error {
    Error::io(path, std::io::Error::from(error))
}

impl Folder {
    /// # Errors
    /// A path that is no folder.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let root = openat(AT_FDCWD, path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::io(path.display(), std::io::Error::from(e)))?;
        // The mask can only be read by setting it.
        let mask = umask(Mode::empty());
        umask(mask);
        Ok(Folder {
            root,
            open: Vec::new(),
            later: Vec::new(),
            whole: false,
            as_root: Uid::effective().is_root(),
            umask: mask.bits(),
        })
    }

    /// The components of an entry's path, which may not lead outside.
    fn components(path: &GuestPathBuf) -> Result<Vec<Vec<u8>>> {
        let bad = path.is_absolute() || path.components().any(|c| c == b"..") || path.contains(&0);
        if bad {
            return Err(Error::new(Kind::Denied, "the name would leave the target folder, refused").at(path));
        }
        Ok(path.components().map(<[u8]>::to_vec).collect())
    }

    /// Opens the folder of these components, step by step, without following links.
    fn folder(&mut self, path: &GuestPathBuf, components: &[Vec<u8>]) -> Result<&OwnedFd> {
        let same = self.open.iter().zip(components).take_while(|((name, _), wanted)| name == *wanted).count();
        self.open.truncate(same);
        for name in &components[same..] {
            let above = self.open.last().map_or(&self.root, |(_, fd)| fd);
            let next = openat(above, OsStr::from_bytes(name), FOLDER, Mode::empty()).map_err(|e| match e {
                Errno::ELOOP | Errno::ENOTDIR => {
                    Error::new(Kind::Denied, "a link or file stands where a folder is wanted, refused").at(path)
                }
                e => host_error(path, e),
            })?;
            self.open.push((name.clone(), next));
        }
        Ok(self.open.last().map_or(&self.root, |(_, fd)| fd))
    }

    /// Permission bits as tar gives them: all of them to root, else less the umask and without the special bits.
    fn mode(&self, mode: u32) -> u32 {
        if self.as_root { mode & 0o7777 } else { mode & 0o777 & !self.umask }
    }

    /// Writes a file's bytes, or those runs of them that come.
    fn put_regular(
        file: OwnedFd,
        size: u64,
        content: &mut dyn Read,
        pieces: Option<Vec<Range<u64>>>,
        path: &GuestPathBuf,
    ) -> Result<File> {
        let mut file = File::from(file);
        let mut end = 0;
        let whole = std::iter::once(0..size).collect();
        for piece in pieces.unwrap_or(whole) {
            file.seek(SeekFrom::Start(piece.start)).map_err(|e| Error::io(path, e))?;
            let length = piece.end.saturating_sub(piece.start);
            Self::put_run(&mut file, length, &mut content.take(length), path)?;
            end = end.max(piece.end);
        }
        if end > size || content.read(&mut [0])? > 0 {
            return Err(Error::new(Kind::Io, format!("more came than the {size} bytes that were announced")).at(path));
        }
        file.set_len(size).map_err(|e| Error::io(path, e))?;
        Ok(file)
    }

    /// Writes bytes from where the file stands on.
    fn put_run(file: &mut File, size: u64, content: &mut dyn Read, path: &GuestPathBuf) -> Result<()> {
        let mut buffer = vec![0; 1 << 17];
        let mut at = 0u64;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            // Zeros become a hole: images are full of them.
            if buffer[..count].iter().all(|b| *b == 0) {
                file.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(i64::MAX)))
            } else {
                file.write_all(&buffer[..count]).map(|()| 0)
            }
            .map_err(|e| Error::io(path, e))?;
            at = at.saturating_add(count as u64);
        }
        if at != size {
            return Err(Error::new(Kind::Io, format!("{at} bytes came where {size} were announced")).at(path));
        }
        Ok(())
    }
}

fn times(modified: Timestamp) -> TimeSpec {
    TimeSpec::new(modified.seconds, i64::from(modified.nanos))
}

impl Sink for Folder {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        let components = Self::components(&entry.path)?;
        let Some((name, above)) = components.split_last() else {
            self.whole = true;
            return Ok(());
        };
        let name = OsStr::from_bytes(name);
        let path = &entry.path;
        let failed = |error| host_error(path, error);
        let in_tree = self.whole || !above.is_empty();
        let (as_root, mode) = (self.as_root, self.mode(entry.mode));
        let source = match &entry.kind {
            // A hard link's first name lies below the same root.
            EntryKind::HardLink(first) => {
                let components = Self::components(first)?;
                let (name, above) = components.split_last().ok_or_else(|| Error::from(Kind::IsADirectory).at(first))?;
                let folder = self.folder(path, above)?.try_clone().map_err(|e| Error::io(path, e))?;
                Some((folder, name.clone()))
            }
            _ => None,
        };
        let folder = self.folder(path, above)?;
        if entry.kind != EntryKind::Directory {
            // What stands there is replaced, as tar does; writing through it could follow a link.
            match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        match entry.kind {
            EntryKind::Directory => {
                match mkdirat(folder, name, Mode::S_IRWXU) {
                    Ok(()) => {}
                    Err(Errno::EEXIST) => {
                        // A folder stays; anything else makes way.
                        if openat(folder, name, FOLDER, Mode::empty()).is_err() {
                            unlinkat(folder, name, UnlinkatFlags::NoRemoveDir).map_err(failed)?;
                            mkdirat(folder, name, Mode::S_IRWXU).map_err(failed)?;
                        }
                    }
                    Err(error) => return Err(failed(error)),
                }
                if as_root {
                    own(folder, name, entry.uid, entry.gid).map_err(failed)?;
                }
                self.later.push(Later { components, mode, modified: entry.modified });
                return Ok(());
            }
            EntryKind::Regular(size) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                // A file alone is a download: 0666 less the umask, with the time of now.
                let first = if in_tree { Mode::S_IRUSR | Mode::S_IWUSR } else { mode_of(0o666) };
                let file = openat(folder, name, flags, first).map_err(failed)?;
                let mut content = entry.content.unwrap_or_else(|| Box::new(std::io::empty()));
                if !in_tree {
                    Self::put_regular(file, size, &mut content, entry.pieces, path)?;
                    return Ok(());
                }
                if as_root {
                    own(folder, name, entry.uid, entry.gid).map_err(failed)?;
                }
                let file = Self::put_regular(file, size, &mut content, entry.pieces, path)?;
                fchmod(file.as_fd(), mode_of(mode)).map_err(failed)?;
            }
            EntryKind::Symlink(target) => {
                symlinkat(OsStr::from_bytes(&target), folder, name).map_err(failed)?;
                if as_root {
                    own(folder, name, entry.uid, entry.gid).map_err(failed)?;
                }
            }
            EntryKind::HardLink(_) => {
                let Some((from, old)) = source else { return Err(Error::from(Kind::Internal).at(path)) };
                return linkat(from, OsStr::from_bytes(&old), folder, name, AtFlags::empty()).map_err(failed);
            }
            EntryKind::CharDevice(major, minor) | EntryKind::BlockDevice(major, minor) => {
                let kind = match entry.kind {
                    EntryKind::CharDevice(..) => SFlag::S_IFCHR,
                    _ => SFlag::S_IFBLK,
                };
                let device = makedev(major.into(), minor.into());
                mknodat(folder, name, kind, mode_of(mode), device).map_err(|e| {
                    failed(e).hint("device nodes can be made by root only; leave them out or use tar-out")
                })?;
                own(folder, name, entry.uid, entry.gid).map_err(failed)?;
                fchmodat(folder, name, mode_of(mode), FchmodatFlags::FollowSymlink).map_err(failed)?;
            }
            EntryKind::Fifo => {
                mkfifoat(folder, name, mode_of(mode)).map_err(failed)?;
                if as_root {
                    own(folder, name, entry.uid, entry.gid).map_err(failed)?;
                }
            }
            // A socket without its program is nothing; tar leaves it out as well.
            EntryKind::Socket => return Ok(()),
        }
        let time = times(entry.modified);
        utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(failed)
    }

    fn leaves_out(&self, _: u64, holes: u64) -> bool {
        holes >= HOLES
    }

    fn finish(&mut self) -> Result<()> {
        // Innermost last in, first done: a closed folder above would hide those below.
        for later in std::mem::take(&mut self.later).into_iter().rev() {
            let path = GuestPathBuf(later.components.join(&b'/'));
            let folder = self.folder(&path, &later.components)?;
            fchmod(folder, mode_of(later.mode)).map_err(|e| host_error(&path, e))?;
            let time = times(later.modified);
            nix::sys::stat::futimens(folder, &time, &time).map_err(|e| host_error(&path, e))?;
        }
        Ok(())
    }
}

fn own(folder: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> nix::Result<()> {
    fchownat(folder, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_SYMLINK_NOFOLLOW)
}
