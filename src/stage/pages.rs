//! The staged pages: in memory, past a limit in an unlinked temporary file.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use super::difference::Difference;
use crate::base::{Error, Result};

/// Bytes of a page: the block size of almost every file system, and the host's page size.
pub(super) const PAGE: usize = 4096;

/// Pages held in memory: 32 MiB. The metadata of a large edit fits; a file copied in a dry run does not
/// fill the memory of a small machine.
pub(super) const LIMIT: usize = 8 * 1024;

/// How many pages go to the file at once.
const BATCH: usize = 64;

pub(super) type Bytes = [u8; PAGE];

enum Content {
    Memory(Box<Bytes>),
    /// At this page of the file.
    Spilled(u64),
}

/// A page. Shared by the present state and the undo log; gives its space back when the last of them lets go.
pub(super) struct Page {
    content: Mutex<Content>,
    store: Arc<Store>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the lock is whole even if a thread died holding it: each holder changes it in one step.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Page {
    /// Fills `buf` from byte `at` of the page.
    pub(super) fn read(&self, at: usize, buf: &mut [u8]) -> Result<()> {
        match &*lock(&self.content) {
            Content::Memory(bytes) => buf.copy_from_slice(&bytes[at..at + buf.len()]),
            Content::Spilled(slot) => {
                self.store.file()?.read_exact_at(buf, slot * PAGE as u64 + at as u64).map_err(spill_error)?;
            }
        }
        Ok(())
    }

    /// What `data` from `at` on would replace, if that is little.
    pub(super) fn difference(&self, at: usize, data: &[u8]) -> Result<Option<Difference>> {
        if let Content::Memory(bytes) = &*lock(&self.content) {
            return Ok(Difference::between(&bytes[at..at + data.len()], data, at));
        }
        let mut old = [0; PAGE];
        let old = &mut old[..data.len()];
        self.read(at, old)?;
        Ok(Difference::between(old, data, at))
    }

    /// Changes bytes from `at`. Only for a page that nobody shares.
    pub(super) fn write(self: &Arc<Self>, at: usize, data: &[u8]) -> Result<()> {
        let mut content = lock(&self.content);
        if let Content::Spilled(slot) = *content {
            let mut bytes = Box::new([0; PAGE]);
            self.store.file()?.read_exact_at(&mut *bytes, slot * PAGE as u64).map_err(spill_error)?;
            *content = Content::Memory(bytes);
            lock(&self.store.slots).free.push(slot);
            self.store.enqueue(self);
        }
        if let Content::Memory(bytes) = &mut *content {
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        drop(content);
        self.store.spill()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        match *lock(&self.content) {
            Content::Memory(_) => drop(self.store.in_memory.fetch_sub(1, Ordering::Relaxed)),
            Content::Spilled(slot) => lock(&self.store.slots).free.push(slot),
        }
    }
}

#[derive(Default)]
struct Slots {
    free: Vec<u64>,
    end: u64,
}

/// Where the pages of one stage live.
pub(super) struct Store {
    limit: usize,
    in_memory: AtomicUsize,
    /// The pages in memory, oldest first, with some that are gone.
    queue: Mutex<VecDeque<Weak<Page>>>,
    slots: Mutex<Slots>,
    file: OnceLock<File>,
}

impl Store {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Store {
            limit,
            in_memory: AtomicUsize::new(0),
            queue: Mutex::default(),
            slots: Mutex::default(),
            file: OnceLock::new(),
        })
    }

    /// A page with this content.
    pub(super) fn page(self: &Arc<Self>, bytes: Box<Bytes>) -> Result<Arc<Page>> {
        let page = Arc::new(Page { content: Mutex::new(Content::Memory(bytes)), store: self.clone() });
        self.enqueue(&page);
        self.spill()?;
        Ok(page)
    }

    fn enqueue(&self, page: &Arc<Page>) {
        let count = self.in_memory.fetch_add(1, Ordering::Relaxed) + 1;
        let mut queue = lock(&self.queue);
        queue.push_back(Arc::downgrade(page));
        if queue.len() > 2 * count + BATCH {
            queue.retain(|page| page.strong_count() > 0);
        }
    }

    fn file(&self) -> Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = tempfile::tempfile().map_err(spill_error)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Moves the oldest pages to the file while too many are in memory.
    fn spill(&self) -> Result<()> {
        while self.in_memory.load(Ordering::Relaxed) > self.limit {
            let mut batch = Vec::new();
            {
                let mut queue = lock(&self.queue);
                while batch.len() < BATCH
                    && let Some(page) = queue.pop_front()
                {
                    batch.extend(page.upgrade());
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.spill_batch(&batch) {
                // They are still in memory and still whole.
                lock(&self.queue).extend(batch.iter().map(Arc::downgrade));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Called with the stage locked for writing: nobody changes a page meanwhile.
    fn spill_batch(&self, batch: &[Arc<Page>]) -> Result<()> {
        let file = self.file()?;
        let places: Vec<u64> = {
            let mut slots = lock(&self.slots);
            match slots.free.len().checked_sub(batch.len()) {
                Some(rest) => slots.free.split_off(rest),
                None => {
                    let first = slots.end;
                    slots.end += batch.len() as u64;
                    (first..slots.end).collect()
                }
            }
        };
        let written = self.write_batch(file, batch, &places);
        if written.is_err() {
            lock(&self.slots).free.extend(places);
            return written;
        }
        for (page, place) in batch.iter().zip(places) {
            *lock(&page.content) = Content::Spilled(place);
            self.in_memory.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes pages to their places, neighbours in one go.
    fn write_batch(&self, file: &File, batch: &[Arc<Page>], places: &[u64]) -> Result<()> {
        let mut joined = Vec::with_capacity(batch.len() * PAGE);
        for (i, (page, place)) in batch.iter().zip(places).enumerate() {
            let start = joined.len();
            joined.resize(start + PAGE, 0);
            page.read(0, &mut joined[start..])?;
            if places.get(i + 1) != Some(&(place + 1)) {
                let first = place + 1 - (joined.len() / PAGE) as u64;
                file.write_all_at(&joined, first * PAGE as u64).map_err(spill_error)?;
                joined.clear();
            }
        }
        Ok(())
    }
}

fn spill_error(error: std::io::Error) -> Error {
    Error::io(std::env::temp_dir().display(), error)
        .hint("changes that do not fit into memory are kept there; set TMPDIR to a folder with more space")
}
