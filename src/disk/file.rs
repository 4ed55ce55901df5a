//! An open host file of an image. Large writes are handed to a thread, so that whoever makes the bytes goes on while the medium
//! takes them; everything else waits for the writes that it has to come after.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::direct::{Direct, Room};

/// Bytes of a piece that waits: what follows it in the file is put to it up to here.
const PIECE: usize = 2 << 20;
/// Pieces that may wait before another is taken.
const WAITING: usize = 1;

/// An open host file.
#[derive(Debug)]
pub(super) struct ImageFile {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    direct: Direct,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What the thread has to do.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Room>,
    /// Where it writes now.
    active: Option<Range<u64>>,
    spare: Vec<Room>,
    /// The first write that failed. Nobody knows what is missing now: all that comes after it fails too.
    failed: Option<Failure>,
    /// There will be no more.
    closed: bool,
}

/// An error that can be told more than once.
#[derive(Debug, Clone)]
struct Failure(Option<i32>, io::ErrorKind, String);

impl Failure {
    fn new(error: &io::Error) -> Self {
        Failure(error.raw_os_error(), error.kind(), error.to_string())
    }

    fn error(&self) -> io::Error {
        self.0.map_or_else(|| io::Error::new(self.1, self.2.clone()), io::Error::from_raw_os_error)
    }
}

impl Queue {
    fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Whether there is something that is not written yet.
    fn busy(&self) -> bool {
        self.active.is_some() || !self.waiting.is_empty()
    }

    /// Whether something within a range is not written yet.
    fn touches(&self, range: &Range<u64>) -> bool {
        let waiting = self.waiting.iter().map(Room::range);
        waiting.chain(self.active.clone()).any(|run| run.start < range.end && range.start < run.end)
    }

    /// Puts `data` to the piece that waits last, if it follows it and there is room.
    fn append(&mut self, data: &[u8], offset: u64) -> bool {
        self.waiting.back_mut().is_some_and(|last| {
            let fits = last.range().end == offset && last.bytes().len() + data.len() <= PIECE;
            if fits {
                last.extend(data);
            }
            fits
        })
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is nothing any more that `busy` means.
    fn wait(&self, busy: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let mut queue = self.queue();
        while busy(&queue) {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue
    }

    /// The thread.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let Some(room) = queue.waiting.pop_front() else {
                if queue.closed {
                    return;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.active = Some(room.range());
            drop(queue);
            let done = self.direct.write(&self.file, &room);
            queue = self.queue();
            queue.active = None;
            queue.spare.push(room);
            if let Err(error) = done {
                queue.failed = Some(Failure::new(&error));
                queue.waiting.clear();
            }
            self.changed.notify_all();
        }
    }
}

impl ImageFile {
    /// Over an open file, from its first byte.
    pub fn new(file: File) -> Self {
        Self::with(file, Direct::default())
    }

    fn with(file: File, direct: Direct) -> Self {
        let shared = Shared { file, direct, queue: Mutex::default(), changed: Condvar::new() };
        ImageFile { shared: Arc::new(shared), writer: Mutex::default() }
    }

    /// The file itself, for what does not look at its bytes.
    pub fn as_file(&self) -> &File {
        &self.shared.file
    }

    /// The file itself, everything written.
    ///
    /// # Errors
    /// Of a write that was still to be done.
    pub fn settled(&self) -> io::Result<&File> {
        self.shared.wait(Queue::busy).check()?;
        Ok(&self.shared.file)
    }

    /// Waits until the host has taken everything. An error is told once: whoever asks gives up what was written since the
    /// last time.
    ///
    /// # Errors
    /// The host's.
    pub fn settle(&self) -> io::Result<()> {
        let mut queue = self.shared.wait(Queue::busy);
        queue.failed.take().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Makes everything written durable. After a failure the kernel may call what it could not write clean, so it is asked to
    /// forget it: what is read from now on is what the medium has.
    ///
    /// # Errors
    /// The host's, as [`ImageFile::settle`] too.
    pub fn sync(&self) -> io::Result<()> {
        self.settle()?;
        self.shared.file.sync_data().inspect_err(|_| {
            // Only advice: where it is not taken, reads may show what is not there.
            posix_fadvise(&self.shared.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
        })
    }

    /// Reads up to the end of the file; gives the count of bytes read.
    ///
    /// # Errors
    /// The host's.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        self.shared.wait(|queue| queue.touches(&range)).check()?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.shared.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Writes all of `data`, now or behind what the caller does next.
    ///
    /// # Errors
    /// The host's, also those of writes before this one.
    pub fn write_all_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if !self.shared.direct.takes(&self.shared.file, data.len()) || !self.start() {
            return self.settled()?.write_all_at(data, offset);
        }
        let mut offset = offset;
        for piece in data.chunks(PIECE) {
            let mut queue = self.shared.wait(|queue| queue.waiting.len() > WAITING);
            queue.check()?;
            if !queue.append(piece, offset) {
                let mut room = queue.spare.pop().unwrap_or_default();
                room.start(PIECE, offset, piece);
                queue.waiting.push_back(room);
            }
            self.shared.changed.notify_all();
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether there is a thread.
    fn start(&self) -> bool {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            let shared = Arc::clone(&self.shared);
            *writer = std::thread::Builder::new().name("imgsh-write".into()).spawn(move || shared.work()).ok();
        }
        writer.is_some()
    }
}

impl Drop for ImageFile {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // It does not panic; who wanted to know of its errors has asked.
            writer.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> impl FnMut(usize) -> usize {
        let mut random = seed;
        move |below| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        }
    }

    /// Writes of all sizes and places, some of them behind, with reads and a change of the length between them.
    #[test]
    fn what_is_read_is_what_was_written_last() {
        for seed in 1..4 {
            let file = ImageFile::new(tempfile::tempfile().unwrap());
            let mut next = random(seed);
            let mut wanted = vec![0; 12 << 20];
            file.settled().unwrap().set_len(wanted.len() as u64).unwrap();
            let sizes = [0, 1, 511, 4096, 200_000, 256 << 10, (256 << 10) + 4097, 1 << 20, PIECE, PIECE + 1, 5_012_345];
            let mut at = 0;
            for round in 0..150 {
                let size = sizes[next(sizes.len())];
                if next(3) > 0 || at + size > wanted.len() {
                    at = next(wanted.len() - size) / [1, 512, 4096, 65_536][round % 4]
                        * [1, 512, 4096, 65_536][round % 4];
                }
                let data: Vec<u8> = (0..size).map(|i| (i / 7 + round) as u8).collect();
                file.write_all_at(at as u64, &data).unwrap();
                wanted[at..at + size].copy_from_slice(&data);
                // The next one may follow it.
                at += size;
                match next(8) {
                    0 => {
                        let (from, len) = (next(wanted.len()), 1 + next(1 << 20));
                        let mut read = vec![0; len];
                        let got = file.read_at(from as u64, &mut read).unwrap();
                        assert!(read[..got] == wanted[from..from + got], "{seed} {round}: {len} bytes at {from}");
                        assert!(got == len || from + got == wanted.len());
                    }
                    1 => {
                        let len = wanted.len() - next(100_000);
                        wanted.truncate(len);
                        file.settled().unwrap().set_len(len as u64).unwrap();
                        wanted.resize(12 << 20, 0);
                        file.settled().unwrap().set_len(12 << 20).unwrap();
                    }
                    2 => file.sync().unwrap(),
                    _ => {}
                }
            }
            let mut read = vec![0; wanted.len()];
            assert_eq!(file.read_at(0, &mut read).unwrap(), wanted.len());
            assert!(read == wanted, "{seed}");
        }
    }

    /// A write that fails behind the caller's back is told once, to whoever asks; until then nothing goes on.
    #[test]
    fn errors_come_later_but_come() {
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(8 << 20).unwrap();
        // The door is open for reading: every write through it fails.
        let door = Direct::through(File::open(named.path()).unwrap());
        let file = ImageFile::with(named.reopen().unwrap(), door);
        let large = vec![1; 1 << 20];
        let told = file.write_all_at(0, &large).and_then(|()| file.read_at(0, &mut [0; 10]).map(|_| ()));
        assert!(told.is_err());
        assert!(file.write_all_at(0, &large).is_err(), "goes on without what is missing");
        assert!(file.settle().is_err());
        file.settle().unwrap();
        assert_eq!(file.read_at(0, &mut [0; 10]).unwrap(), 10);
        assert!(file.write_all_at(1 << 20, &large).and_then(|()| file.sync()).is_err());
        drop(file);
        assert!(std::fs::read(named.path()).unwrap().iter().all(|byte| *byte == 0));
    }
}
