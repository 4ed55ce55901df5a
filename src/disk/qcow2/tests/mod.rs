//! Tests below the public interface: power cuts, failing hosts, damaged images, all in memory.

mod damage;
mod power;

pub(crate) use power::after_cut;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Qcow2;
use super::chain::Node;
use super::map::Image;
use super::storage::Storage;
use crate::base::{Error, Kind, Result};
use crate::disk::raw::Raw;
use crate::disk::raw::power::Medium;
use crate::disk::{Change, Changes, Disk};

/// One call that reached the host.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Write(u64, Vec<u8>),
    Flush,
    Length(u64),
    Punch(u64, u64),
}

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    calls: Vec<Call>,
    /// The number of the call that fails.
    fails: Option<usize>,
    /// What goes out together with it.
    power: Option<Arc<Medium>>,
}

/// A host file in memory that remembers what was done to it.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Recorder(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// What was done so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// The same, where every call is an operation of a medium too, and fails with it.
    pub(crate) fn beside(bytes: Vec<u8>, medium: &Arc<Medium>) -> Self {
        let recorder = Recorder::new(bytes);
        recorder.inner().power = Some(medium.clone());
        recorder
    }

    pub(crate) fn disk(&self) -> Result<Qcow2> {
        self.disk_with(None, None)
    }

    /// The disk whose data is in another file, or what is not is in a backing file.
    pub(crate) fn disk_with(&self, data: Option<Raw>, backing: Option<Raw>) -> Result<Qcow2> {
        let mut image = Image::new(Arc::new(self.clone()))?;
        image.data = data;
        image.backing = backing.map(|raw| {
            let len = raw.len();
            Node::Raw(Box::new(raw), 0..len)
        });
        Ok(Qcow2::over(image, false))
    }

    fn call(&self, call: Call) -> Result<()> {
        let mut inner = self.inner();
        if let Some(medium) = &inner.power {
            medium.step()?;
        }
        let number = inner.calls.len();
        inner.calls.push(call.clone());
        if inner.fails == Some(number) {
            return Err(Error::new(Kind::Io, "the host fails"));
        }
        apply(&mut inner.bytes, &call);
        Ok(())
    }
}

/// More than any test image; a bigger file is a bug.
const MOST: u64 = 256 << 20;

fn apply(bytes: &mut Vec<u8>, call: &Call) {
    match call {
        Call::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            assert!(end as u64 <= MOST, "the file grows to {end} bytes");
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
        }
        Call::Flush => {}
        Call::Length(len) => {
            assert!(*len <= MOST, "the file is set to {len} bytes");
            bytes.resize(*len as usize, 0);
        }
        Call::Punch(offset, len) => {
            let end = bytes.len().min((offset + len) as usize);
            let start = end.min(*offset as usize);
            // Whatever is read there afterwards must not matter.
            bytes[start..end].fill(0xdb);
        }
    }
}

impl Storage for Recorder {
    fn path(&self) -> &Path {
        Path::new("recorder")
    }
    fn len(&self) -> Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }
    fn grows(&self) -> bool {
        true
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let inner = self.inner();
        let start = inner.bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let rest = &inner.bytes[start..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.call(Call::Write(offset, data.to_vec()))
    }
    fn flush(&self) -> Result<()> {
        self.call(Call::Flush)
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.call(Call::Length(len))
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.call(Call::Punch(offset, len))
    }
    fn in_place(&self) -> Result<()> {
        Ok(())
    }
    fn writable(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

/// Data changes.
struct Edits(Vec<(u64, Vec<u8>)>);

impl Changes for Edits {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(offset, data)| each(*offset, Change::Data(data)))
    }
}

/// A seeded xorshift.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A folder with `image.qcow2`, made of half-filled 1 MiB by `qemu-img convert` and `then`.
fn image(convert: &str, then: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 1 << 20];
    for (number, chunk) in bytes.chunks_mut(4096).enumerate().filter(|(number, _)| number % 16 < 9) {
        chunk.iter_mut().enumerate().for_each(|(i, b)| *b = (i % 97 + number) as u8);
    }
    std::fs::write(dir.path().join("base.raw"), bytes).unwrap();
    for line in [&format!("convert -f raw -O qcow2 {convert} base.raw image.qcow2")[..]].iter().chain(then) {
        let done = Command::new("qemu-img").args(line.split_whitespace()).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let path = dir.path().join("image.qcow2");
    (dir, path)
}

fn everything(disk: &Qcow2) -> Result<Vec<u8>> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// `qemu-img check` of these bytes finds neither errors nor leaks.
fn check(dir: &Path, bytes: &[u8], what: &str) {
    std::fs::write(dir.join("judged.qcow2"), bytes).unwrap();
    let done = Command::new("qemu-img").args(["check", "judged.qcow2"]).current_dir(dir).output().unwrap();
    assert!(
        done.status.success(),
        "{what}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
