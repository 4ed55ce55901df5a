//! Large writes to host files, past the host's page cache (`O_DIRECT`, open(2)): all of it has to be on the medium in the end,
//! and the cache costs a copy, memory, and a wait when a commit flushes. Small writes, and host file systems that do not have
//! it, go through the cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::libc;

/// Writes from this size go past the cache.
const LARGE: usize = 256 << 10;
/// Places in the file, lengths and places in memory are multiples of this: no medium that Linux knows asks for more.
const UNIT: usize = 4096;
/// Bytes that are written at once.
const PIECE: usize = 4 << 20;

/// The second door to one open file, found when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Direct {
    file: OnceLock<Option<File>>,
    /// The host said that it cannot.
    refused: AtomicBool,
    /// Memory for pieces, one for each thread that writes. What starts at a multiple of [`UNIT`] begins in its first bytes.
    rooms: Mutex<Vec<Vec<u8>>>,
}

impl Direct {
    /// Writes all of `data` at an offset of `file`, always the same one.
    ///
    /// # Errors
    /// The host's.
    pub fn write_all_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<()> {
        if self.write_large(file, data, offset)? { Ok(()) } else { file.write_all_at(data, offset) }
    }

    /// The same for what is large, where the host can do it; else nothing is written and the answer is false.
    ///
    /// # Errors
    /// The host's.
    pub fn write_large(&self, file: &File, data: &[u8], offset: u64) -> io::Result<bool> {
        let head = (offset.next_multiple_of(UNIT as u64) - offset) as usize;
        if data.len() < LARGE + head || self.refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(direct) = self.file.get_or_init(|| open(file)) else { return Ok(false) };
        let (head, rest) = data.split_at(head);
        let (body, tail) = rest.split_at(rest.len() / UNIT * UNIT);
        file.write_all_at(head, offset)?;
        let start = offset + head.len() as u64;
        let mut room = self.rooms().pop().unwrap_or_default();
        let done = self.body(direct, body, start, &mut room);
        self.rooms().push(room);
        let done = done?;
        file.write_all_at(body.get(done..).unwrap_or_default(), start + done as u64)?;
        file.write_all_at(tail, start + body.len() as u64)?;
        Ok(true)
    }

    fn rooms(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the host takes of `body`, in whole units.
    fn body(&self, direct: &File, body: &[u8], start: u64, room: &mut Vec<u8>) -> io::Result<usize> {
        room.resize(PIECE.min(body.len()) + UNIT, 0);
        let from = room.as_ptr().align_offset(UNIT).min(UNIT);
        let mut done = 0;
        for piece in body.chunks(PIECE) {
            let Some(aligned) = room.get_mut(from..from + piece.len()) else { break };
            aligned.copy_from_slice(piece);
            let mut left = &*aligned;
            while !left.is_empty() {
                match direct.write_at(left, start + done as u64) {
                    // The host ended inside a unit: its cache takes the rest.
                    Ok(count) if count == 0 || count % UNIT != 0 => return Ok(done),
                    Ok(count) => {
                        done += count;
                        left = left.get(count..).unwrap_or_default();
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e)
                        if [Errno::EINVAL, Errno::EOPNOTSUPP].map(|no| Some(no as i32)).contains(&e.raw_os_error()) =>
                    {
                        self.refused.store(true, Ordering::Relaxed);
                        return Ok(done);
                    }
                    Err(e) => return Err(e),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes of all sizes and places go through both doors; what the cache had read before is not seen again.
    #[test]
    fn both_doors_show_the_same() {
        let mut file = tempfile::tempfile().unwrap();
        let (direct, len) = (Direct::default(), 12 << 20);
        let mut wanted = vec![0; len];
        file.set_len(len as u64).unwrap();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let sizes = [0, 1, 511, LARGE - 1, LARGE, LARGE + 4095, LARGE + 4096, PIECE, PIECE + 1, 2 * PIECE + 12_345];
        for round in 0..60 {
            let size = sizes[round % sizes.len()];
            let at = next(len - size) / [1, 512, UNIT][round % 3] * [1, 512, UNIT][round % 3];
            let data: Vec<u8> = (0..size).map(|i| (i + round) as u8).collect();
            direct.write_all_at(&file, &data, at as u64).unwrap();
            wanted[at..at + size].copy_from_slice(&data);
            let mut read = vec![0; len];
            file.read_exact_at(&mut read, 0).unwrap();
            assert!(read == wanted, "round {round}: {size} bytes at {at}");
        }
        // Past the end the file grows.
        direct.write_all_at(&file, &vec![7; LARGE * 2 + 5], len as u64 + 3).unwrap();
        assert_eq!(io::Seek::seek(&mut file, io::SeekFrom::End(0)).unwrap(), (len + 3 + LARGE * 2 + 5) as u64);
    }

    /// What the host refuses here it takes through the cache.
    #[test]
    fn hosts_that_refuse() {
        let file = tempfile::tempfile().unwrap();
        let direct = Direct { file: OnceLock::from(None), ..Direct::default() };
        assert!(!direct.write_large(&file, &vec![1; LARGE], 0).unwrap());
        direct.write_all_at(&file, &vec![1; LARGE], 0).unwrap();
        let mut read = vec![0; LARGE];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
    }
}
