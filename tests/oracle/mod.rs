//! What the integration tests of file systems judge by: e2fsprogs, and a sparse device to hand images to it.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod folder;
pub mod guest;
pub mod kernel;
pub mod rofs;
pub mod scripts;
pub mod tree;
pub mod world;

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use imgsh::base::{Kind, Result};
use imgsh::disk::{BlockDevice, Device};

const PAGE: u64 = 4096;

/// A device in memory that keeps only what is not zero.
pub struct Sparse {
    len: u64,
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Sparse {
    /// A device of zero bytes.
    pub fn new(len: u64) -> Arc<Self> {
        Arc::new(Sparse { len, pages: Mutex::default() })
    }

    /// The content of a file.
    pub fn load(path: &Path) -> Arc<Self> {
        Self::from_bytes(&std::fs::read(path).unwrap())
    }

    /// A copy of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Arc<Self> {
        let device = Sparse::new(bytes.len() as u64);
        for (i, page) in bytes.chunks(PAGE as usize).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0)) {
            device.write_at(i as u64 * PAGE, page).unwrap();
        }
        device
    }

    /// A device with the pages of a snapshot.
    pub fn from_pages(len: u64, pages: BTreeMap<u64, Vec<u8>>) -> Arc<Self> {
        Arc::new(Sparse { len, pages: Mutex::new(pages) })
    }

    /// The device as drivers take it.
    pub fn device(self: &Arc<Self>) -> Device {
        self.clone()
    }

    /// Writes a sparse file.
    pub fn save(&self, path: &Path) {
        let mut file = std::fs::File::create(path).unwrap();
        file.set_len(self.len).unwrap();
        for (page, bytes) in self.pages.lock().unwrap().iter() {
            let at = page * PAGE;
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&bytes[..PAGE.min(self.len - at) as usize]).unwrap();
        }
    }

    /// All that is kept, to come back to.
    pub fn snapshot(&self) -> BTreeMap<u64, Vec<u8>> {
        self.pages.lock().unwrap().clone()
    }

    /// Goes back.
    pub fn restore(&self, pages: BTreeMap<u64, Vec<u8>>) {
        *self.pages.lock().unwrap() = pages;
    }

    /// A copy of all bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// Number of bytes that are kept.
    pub fn kept(&self) -> u64 {
        self.pages.lock().unwrap().len() as u64 * PAGE
    }

    /// Runs `each` over the pages of a range: page number, range in the page, range of the caller's bytes.
    fn each_page(&self, offset: u64, len: u64, mut each: impl FnMut(u64, Range<usize>, Range<usize>)) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len).ok_or(Kind::Io)?;
        let mut at = offset;
        while at < end {
            let start = at % PAGE;
            let part = (PAGE - start).min(end - at);
            let here = (at - offset) as usize;
            each(at / PAGE, start as usize..(start + part) as usize, here..here + part as usize);
            at += part;
        }
        Ok(())
    }
}

impl BlockDevice for Sparse {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector(&self) -> u32 {
        512
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let pages = self.pages.lock().unwrap();
        self.each_page(offset, buf.len() as u64, |page, inside, here| match pages.get(&page) {
            Some(bytes) => buf[here].copy_from_slice(&bytes[inside]),
            None => buf[here].fill(0),
        })
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut pages = self.pages.lock().unwrap();
        self.each_page(offset, data.len() as u64, |page, inside, here| {
            let bytes = pages.entry(page).or_insert_with(|| vec![0; PAGE as usize]);
            bytes[inside].copy_from_slice(&data[here]);
        })
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_at(offset, data)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        let mut pages = self.pages.lock().unwrap();
        let first = range.start / PAGE;
        let mut partial = Vec::new();
        for (page, bytes) in pages.range_mut(first..range.end.div_ceil(PAGE).max(first)) {
            let from = range.start.max(page * PAGE) - page * PAGE;
            let to = range.end.min((page + 1) * PAGE) - page * PAGE;
            bytes[from as usize..to as usize].fill(0);
            if to - from == PAGE {
                partial.push(*page);
            }
        }
        partial.iter().for_each(|page| _ = pages.remove(page));
        if range.end > self.len { Err(Kind::Io.into()) } else { Ok(()) }
    }
    fn takes_fresh_within(&self, _: Range<u64>) -> bool {
        true
    }
}

/// A device with staged writes over a committed state, as the session's stage has them: fresh data goes straight
/// to the committed state, everything else is kept apart until [`Staged::commit`].
pub struct Staged {
    base: Arc<Sparse>,
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Staged {
    /// Nothing staged over `base`.
    pub fn new(base: Arc<Sparse>) -> Arc<Self> {
        Arc::new(Staged { base, pages: Mutex::default() })
    }

    /// What is staged becomes the committed state.
    pub fn commit(&self) {
        for (page, bytes) in std::mem::take(&mut *self.pages.lock().unwrap()) {
            let len = PAGE.min(self.base.len - page * PAGE) as usize;
            self.base.write_at(page * PAGE, &bytes[..len]).unwrap();
        }
    }

    /// Forgets what is staged.
    pub fn abandon(&self) {
        self.pages.lock().unwrap().clear();
    }

    /// The staged page, made from the committed one.
    fn change(&self, offset: u64, len: u64, change: impl Fn(&mut [u8], Range<usize>)) -> Result<()> {
        let mut pages = self.pages.lock().unwrap();
        self.base.each_page(offset, len, |page, inside, here| {
            let bytes = pages.entry(page).or_insert_with(|| {
                let mut bytes = vec![0; PAGE as usize];
                let len = PAGE.min(self.base.len - page * PAGE) as usize;
                self.base.read_at(page * PAGE, &mut bytes[..len]).unwrap();
                bytes
            });
            change(&mut bytes[inside], here);
        })
    }
}

impl BlockDevice for Staged {
    fn len(&self) -> u64 {
        self.base.len
    }
    fn sector(&self) -> u32 {
        512
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.base.read_at(offset, buf)?;
        let pages = self.pages.lock().unwrap();
        self.base.each_page(offset, buf.len() as u64, |page, inside, here| {
            if let Some(bytes) = pages.get(&page) {
                buf[here].copy_from_slice(&bytes[inside]);
            }
        })
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.change(offset, data.len() as u64, |bytes, here| bytes.copy_from_slice(&data[here]))
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.base.write_at(offset, data)?;
        let mut pages = self.pages.lock().unwrap();
        self.base.each_page(offset, data.len() as u64, |page, inside, here| {
            if let Some(bytes) = pages.get_mut(&page) {
                bytes[inside].copy_from_slice(&data[here]);
            }
        })
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.change(range.start, range.end.saturating_sub(range.start), |bytes, _| bytes.fill(0))
    }
    fn takes_fresh_within(&self, _: Range<u64>) -> bool {
        self.pages.lock().unwrap().is_empty()
    }
}

/// A folder for images, in memory where the host has a place for that: e2fsprogs sync what they write.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A tool of e2fsprogs with the same surroundings everywhere: time, configuration, language.
pub fn command(name: &str) -> Command {
    let program = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|dir| PathBuf::from(dir).join(name));
    let mut command = Command::new(program.iter().find(|path| path.exists()).unwrap_or(&PathBuf::from(name)));
    command
        .env("E2FSPROGS_FAKE_TIME", "1700000000")
        .env("MKE2FS_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/mke2fs.conf"))
        .env("DEBUGFS_PAGER", "cat")
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    command
}

/// Runs a tool; answers status and everything it printed.
pub fn tool(name: &str, args: &[&str]) -> (i32, String) {
    let output =
        command(name).args(args).output().unwrap_or_else(|error| panic!("{name} is needed by this test: {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// Runs a tool that must succeed; answers its standard output.
pub fn run(name: &str, args: &[&str]) -> String {
    let output =
        command(name).args(args).output().unwrap_or_else(|error| panic!("{name} is needed by this test: {error}"));
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{name} {args:?}: {out}{err}");
    out
}

/// Demands that `e2fsck -fn` finds nothing at all: status 0 and only its passes and the summary printed.
pub fn assert_clean(image: &Path, what: &str) {
    let (status, text) = tool("e2fsck", &["-fn", image.to_str().unwrap()]);
    let odd: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("Pass ") && !line.starts_with("e2fsck ") && !line.is_empty())
        .filter(|line| !(line.contains(" files (") && line.contains(" blocks")))
        .collect();
    assert!(status == 0 && odd.is_empty(), "e2fsck after {what}: status {status}\n{text}");
}

/// A seeded generator (xorshift64*), so that every run does the same.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
