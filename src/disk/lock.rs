//! Byte-range locks on image files, as QEMU takes them, so that a running guest and this program keep
//! each other out.
//!
//! The protocol (QEMU's "file-posix locking protocol" note of 2021-07, qemu-block list): locks are *shared* and
//! belong to the open file description (`F_OFD_SETLK`). Byte `100 + p` says "I use permission p", byte
//! `200 + p` says "others may not use p"; p is 0 for read, 1 for write, 3 for resize (2, write-unchanged, is
//! never taken here). A program takes its own bytes first and then asks with `F_OFD_GETLK`, as if for an
//! exclusive lock, whether anybody else holds an opposite byte.
//!
//! A file system without such locks (some NFS mounts) is used without them: `docs/safety.md` says so.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::base::{Error, Kind, Result};

const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
const USED: i64 = 100;
const UNSHARED: i64 = 200;

/// What a reader uses and what it forbids others.
const READER: Permissions = Permissions { used: &[READ], unshared: &[WRITE, RESIZE] };
/// What a writer uses and what it forbids others.
const WRITER: Permissions = Permissions { used: &[READ, WRITE, RESIZE], unshared: &[WRITE, RESIZE] };

struct Permissions {
    used: &'static [i64],
    unshared: &'static [i64],
}

/// A lock on an image file, given back when dropped.
#[derive(Debug)]
pub struct ImageLock {
    /// The description that holds the lock. `None` where the file system has no such locks.
    file: Option<File>,
}

impl ImageLock {
    /// Locks for reading: other readers may come, writers may not. `file` must be open for reading.
    ///
    /// # Errors
    /// `Kind::Busy` if another program writes to the image.
    pub fn read(file: &File, path: &Path) -> Result<Self> {
        Self::take(file, path, &READER, None)
    }

    /// Locks for writing: nobody else may read or write. `file` must be open for reading and writing,
    /// and the process must not hold a reader lock of its own: that is what [`ImageLock::upgrade`] is for.
    ///
    /// # Errors
    /// `Kind::Busy` if another program has the image open.
    pub fn write(file: &File, path: &Path) -> Result<Self> {
        Self::take(file, path, &WRITER, None)
    }

    /// Turns this reader lock into a writer lock on `file`, a newer description of the same image that is
    /// open for reading and writing. At no moment could another writer come in between.
    ///
    /// # Errors
    /// `Kind::Busy` if another program has the image open; the reader lock is then as it was.
    pub fn upgrade(&mut self, file: &File, path: &Path) -> Result<()> {
        *self = Self::take(file, path, &WRITER, self.file.as_ref())?;
        Ok(())
    }

    /// Takes the bytes of `wanted` on `file`, then sees whether others hold an opposite one. `own` is a
    /// description of ours with a reader lock, which is not to count: its forbidding bytes are let go for
    /// the question, when ours already protect the image.
    fn take(file: &File, path: &Path, wanted: &Permissions, own: Option<&File>) -> Result<Self> {
        let file = file.try_clone().map_err(|e| Error::io(path.display(), e))?;
        for (base, permissions) in [(USED, wanted.used), (UNSHARED, wanted.unshared)] {
            for p in permissions {
                match set(&file, base + p, libc::F_RDLCK) {
                    Ok(()) => {}
                    Err(Errno::EAGAIN | Errno::EACCES) => {
                        release(&file);
                        return Err(busy(&file, path, *p, base == UNSHARED, None));
                    }
                    // A file system or kernel without these locks.
                    Err(Errno::ENOLCK | Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) => {
                        release(&file);
                        return Ok(ImageLock { file: None });
                    }
                    Err(errno) => return Err(Error::io(path.display(), errno.into())),
                }
            }
        }
        let mut own_bytes = READER.unshared.iter();
        if let Some(own) = own {
            // Letting go of a lock does not fail; if it did, the questions below would answer "busy".
            own_bytes.clone().for_each(|p| drop(set(own, UNSHARED + p, libc::F_UNLCK)));
        }
        let asked = wanted.used.iter().map(|p| (*p, UNSHARED)).chain(wanted.unshared.iter().map(|p| (*p, USED)));
        for (p, base) in asked {
            if let Some(holder) = holder(&file, base + p).map_err(|e| Error::io(path.display(), e.into()))? {
                if let Some(own) = own {
                    own_bytes.try_for_each(|p| set(own, UNSHARED + p, libc::F_RDLCK)).ok();
                }
                release(&file);
                return Err(busy(&file, path, p, base == USED, holder));
            }
        }
        Ok(ImageLock { file: Some(file) })
    }
}

impl Drop for ImageLock {
    fn drop(&mut self) {
        // Explicitly: the caller's file shares the description and may live on.
        if let Some(file) = &self.file {
            release(file);
        }
    }
}

fn range(byte: i64, len: i64, kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: byte, l_len: len, l_pid: 0 }
}

fn set(file: &File, byte: i64, kind: i32) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(byte, 1, kind))).map(drop)
}

/// Lets go of all bytes of the protocol. Failing would mean that there was no lock.
fn release(file: &File) {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(USED, UNSHARED + RESIZE + 1 - USED, libc::F_UNLCK))).ok();
}

/// Who else holds a byte: `Some(Some(pid))` for a lock of the classic kind, `Some(None)` for one that has no owner.
fn holder(file: &File, byte: i64) -> Result<Option<Option<i32>>, Errno> {
    let mut found = range(byte, 1, libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok((i32::from(found.l_type) != libc::F_UNLCK).then_some((found.l_pid > 0).then_some(found.l_pid)))
}

/// The refusal. `uses`: the other side uses permission `p`; else it forbids us to.
fn busy(file: &File, path: &Path, p: i64, uses: bool, pid: Option<i32>) -> Error {
    let permission = match p {
        READ => "read",
        WRITE => "write",
        _ => "resize",
    };
    let who = match pid.or_else(|| find_holder(file)) {
        Some(pid) => match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("{} (process {pid})", name.trim_end()),
            Err(_) => format!("process {pid}"),
        },
        None => "another program".to_string(),
    };
    let what = match uses {
        true => format!("image in use: {who} holds \"{permission}\""),
        false => format!("image in use: {who} does not share \"{permission}\""),
    };
    Error::new(Kind::Busy, what)
        .at(path.display())
        .hint("shut the guest down or end the program that uses the image, then try again")
}

/// The first other process that has the file open with a lock, as far as `/proc` may be read: a lock of an open
/// file description carries no process number of its own.
fn find_holder(file: &File) -> Option<i32> {
    let ours = file.metadata().ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let others = processes.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let this = i32::try_from(std::process::id()).ok();
    others.filter(|pid| Some(*pid) != this).find(|pid| {
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        open.flatten().any(|fd| {
            let same = std::fs::metadata(fd.path()).is_ok_and(|m| m.dev() == ours.dev() && m.ino() == ours.ino());
            let info = || format!("/proc/{pid}/fdinfo/{}", fd.file_name().to_string_lossy());
            same && std::fs::read_to_string(info()).is_ok_and(|text| text.contains("\nlock:"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn image() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.qcow2");
        // qcow2: of a raw image that it only reads, QEMU lets others write.
        let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M").status();
        assert!(made.unwrap().success());
        (dir, path)
    }

    fn writable(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn readers_share_and_writers_exclude() {
        let (_dir, path) = image();
        let reader = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap();
        let second = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap();
        let refused = ImageLock::write(&writable(&path), &path).unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
        assert!(refused.to_string().contains("does not share \"write\""), "{refused}");
        drop((reader, second));
        let writer = ImageLock::write(&writable(&path), &path).unwrap();
        let refused = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap_err();
        assert!(refused.to_string().contains("holds \"write\""), "{refused}");
        assert!(ImageLock::write(&writable(&path), &path).is_err());
        drop(writer);
        assert!(ImageLock::write(&writable(&path), &path).is_ok());
    }

    #[test]
    fn upgrade_counts_other_readers_only() {
        let (_dir, path) = image();
        let mut lock = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap();
        let other = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap();
        assert_eq!(lock.upgrade(&writable(&path), &path).unwrap_err().kind(), Kind::Busy);
        drop(other);
        // Still a reader after the refusal: writers stay out.
        assert!(ImageLock::write(&writable(&path), &path).is_err());
        lock.upgrade(&writable(&path), &path).unwrap();
        assert!(ImageLock::read(&File::open(&path).unwrap(), &path).is_err());
        drop(lock);
        assert!(ImageLock::read(&File::open(&path).unwrap(), &path).is_ok());
    }

    fn qemu(path: &Path, command: &str, read_only: bool) -> (bool, String) {
        let mut tool = Command::new("qemu-io");
        tool.args(read_only.then_some("-r")).args(["-f", "qcow2", "-c", command]).arg(path);
        let output = tool.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn qemu_respects_ours() {
        let (_dir, path) = image();
        let reader = ImageLock::read(&File::open(&path).unwrap(), &path).unwrap();
        assert!(qemu(&path, "read 0 512", true).0);
        let (ok, words) = qemu(&path, "write 0 512", false);
        assert!(!ok && words.contains("lock"), "{words}");
        drop(reader);
        let writer = ImageLock::write(&writable(&path), &path).unwrap();
        assert!(!qemu(&path, "read 0 512", true).0);
        drop(writer);
        assert!(qemu(&path, "write 0 512", false).0);
    }

    #[test]
    fn we_respect_qemu() {
        let (_dir, path) = image();
        for (flag, may_read) in [(Some("-r"), true), (None, false)] {
            let mut tool = Command::new("qemu-io");
            tool.args(flag).args(["-f", "qcow2"]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = tool.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(b"read 0 512\n").unwrap();
            // Its answer shows that it holds its locks.
            let mut answer = [0; 32];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
            assert_eq!(ImageLock::read(&File::open(&path).unwrap(), &path).is_ok(), may_read);
            let refused = ImageLock::write(&writable(&path), &path).unwrap_err();
            assert_eq!(refused.kind(), Kind::Busy);
            assert!(refused.to_string().contains("qemu-io (process "), "{refused}");
            drop(stdin);
            child.wait().unwrap();
            assert!(ImageLock::write(&writable(&path), &path).is_ok());
        }
    }
}
