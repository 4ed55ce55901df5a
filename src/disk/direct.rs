//! Large writes to host files, past the host's page cache (`O_DIRECT`, open(2)): all of it has to be on the medium in the end,
//! and the cache costs a copy, memory, and a wait when a commit flushes. Small writes, and host file systems that do not have
//! it, go through the cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;

/// Writes from this size go past the cache.
const LARGE: usize = 256 << 10;
/// Places in memory are multiples of this: no medium that Linux knows asks for more.
const UNIT: usize = 4096;
/// Places in the file are multiples of this, and so are lengths. It is the largest page that Linux has: no page of the cache
/// has bytes that go past it beside others.
const GRAIN: usize = 64 << 10;

/// The second door to one open file, found when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Direct {
    file: OnceLock<Option<File>>,
    /// The host said that it cannot.
    refused: AtomicBool,
}

impl Direct {
    #[cfg(test)]
    pub fn through(door: File) -> Self {
        Direct { file: OnceLock::from(Some(door)), ..Direct::default() }
    }

    /// Whether a write of so many bytes to `file` goes past the cache. The file is always the same one.
    pub fn takes(&self, file: &File, len: usize) -> bool {
        len >= LARGE && !self.refused.load(Ordering::Relaxed) && self.file.get_or_init(|| open(file)).is_some()
    }

    /// Writes what a room has to `file`, past the cache where that can be.
    ///
    /// # Errors
    /// The host's.
    pub fn write(&self, file: &File, room: &Room) -> io::Result<()> {
        let (data, offset) = (room.bytes(), room.range().start);
        let direct = self.file.get().and_then(Option::as_ref).filter(|_| self.takes(file, data.len()));
        let Some(direct) = direct else { return file.write_all_at(data, offset) };
        let head = (offset.next_multiple_of(GRAIN as u64) - offset) as usize;
        let (head, rest) = data.split_at(head);
        let (body, tail) = rest.split_at(rest.len() / GRAIN * GRAIN);
        file.write_all_at(head, offset)?;
        let start = offset + head.len() as u64;
        let done = self.body(direct, body, start)?;
        file.write_all_at(body.get(done..).unwrap_or_default(), start + done as u64)?;
        file.write_all_at(tail, start + body.len() as u64)
    }

    /// Writes what the host takes of `body`, in whole units.
    fn body(&self, direct: &File, body: &[u8], start: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(left) = body.get(done..).filter(|left| !left.is_empty()) {
            match direct.write_at(left, start + done as u64) {
                // The host ended inside a unit: its cache takes the rest.
                Ok(count) if count == 0 || count % UNIT != 0 => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if [Errno::EINVAL, Errno::EOPNOTSUPP].map(|no| Some(no as i32)).contains(&e.raw_os_error()) => {
                    self.refused.store(true, Ordering::Relaxed);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

/// The file behind an open one, whatever has its name by now; `None` where the host cannot do it.
fn open(file: &File) -> Option<File> {
    let door = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_NONBLOCK).open(door).ok()
}

/// Bytes for a place in a file. They lie in memory so that what is written past the cache begins at a multiple of [`UNIT`].
#[derive(Debug, Default)]
pub(super) struct Room {
    memory: Vec<u8>,
    /// Where the bytes are in it.
    used: Range<usize>,
    offset: u64,
}

impl Room {
    /// Takes bytes for `offset`, with room for `most` in all; what was in it is gone.
    pub fn start(&mut self, most: usize, offset: u64, data: &[u8]) {
        let most = most.max(data.len()) + 2 * UNIT;
        if self.memory.len() < most {
            self.memory.resize(most, 0);
        }
        // Where a unit begins in memory, one begins in the file.
        let from = self.memory.as_ptr().align_offset(UNIT).min(UNIT) + (offset % UNIT as u64) as usize;
        (self.used, self.offset) = (from..from, offset);
        self.extend(data);
    }

    /// Takes more bytes, for behind what it has. There must be room for them.
    pub fn extend(&mut self, data: &[u8]) {
        let end = self.used.end + data.len();
        self.memory[self.used.end..end].copy_from_slice(data);
        self.used.end = end;
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.used.clone()]
    }

    /// Where they belong.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.used.len() as u64
    }
}
