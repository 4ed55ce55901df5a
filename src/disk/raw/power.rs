//! Power cuts: an image and its journal in memory, of which only what was synced is sure to survive.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECTOR: usize = 512;
const LEN: usize = 96 * 1024;

pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn chance(&mut self, percent: u64) -> bool {
        (self.next() >> 11) % 100 < percent
    }
}

/// A file: what it reads as now, and what is on the medium.
#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl Content {
    /// After a cut: every unit of so many bytes either as synced or as written, the length likewise.
    fn survive(&self, random: &mut Random, percent: u64, unit: usize) -> Vec<u8> {
        let longer = self.now.len().max(self.synced.len());
        let mut bytes = vec![0; if random.chance(percent) { longer } else { self.synced.len() }];
        for (i, part) in bytes.chunks_mut(unit).enumerate() {
            let from = if random.chance(percent) { &self.now } else { &self.synced };
            let there = from.get(i * unit..).unwrap_or_default();
            let n = there.len().min(part.len());
            part[..n].copy_from_slice(&there[..n]);
        }
        bytes
    }
}

/// The medium: the image, and the journal as the folder lists it now and for sure.
pub(crate) struct Medium {
    image: Mutex<Content>,
    journal: Mutex<Option<Content>>,
    /// What the folder on the medium has: a journal or none.
    listed: Mutex<Option<Content>>,
    /// Operations until the cut.
    left: AtomicUsize,
    /// Whether the operation at the cut fails for want of space, and later ones work again.
    full: bool,
    /// Bytes that are written wholly or not at all.
    unit: usize,
}

impl Medium {
    /// A medium with an image and no journal, which works for `left` operations.
    pub(crate) fn over(bytes: Vec<u8>, left: usize) -> Arc<Self> {
        Self::in_units(bytes, left, SECTOR)
    }

    /// The same, where units of so many bytes are written wholly or not at all.
    pub(crate) fn in_units(bytes: Vec<u8>, left: usize, unit: usize) -> Arc<Self> {
        Arc::new(Self::new(bytes, left, unit))
    }

    fn new(bytes: Vec<u8>, left: usize, unit: usize) -> Self {
        Medium {
            image: Mutex::new(Content { now: bytes.clone(), synced: bytes }),
            journal: Mutex::default(),
            listed: Mutex::default(),
            left: AtomicUsize::new(left),
            full: false,
            unit,
        }
    }

    /// The disk in the image, open for writing.
    pub(crate) fn disk(self: &Arc<Self>) -> Raw {
        Raw::over(Fake::new(self.clone()), false, 0).unwrap()
    }

    /// Operations so far of a medium that was to work for ever.
    pub(crate) fn operations(&self) -> usize {
        usize::MAX - self.left.load(Ordering::Relaxed)
    }

    /// The same, where the operation number `at` fails for want of space, and later ones work again.
    pub(crate) fn full(bytes: Vec<u8>, at: usize, unit: usize) -> Arc<Self> {
        Arc::new(Medium { full: true, ..Self::new(bytes, at, unit) })
    }

    /// Whether there is a journal beside the image.
    pub(crate) fn has_journal(&self) -> bool {
        self.journal.lock().unwrap().is_some()
    }

    /// The image.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.image.lock().unwrap().now.clone()
    }

    /// Counts an operation that changes something; an error if the power is gone.
    pub(crate) fn step(&self) -> Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(1)));
        match left.unwrap_or(0) {
            0 => Err(Error::new(Kind::Io, "the power is cut")),
            1 if self.full => {
                self.left.store(usize::MAX, Ordering::Relaxed);
                Err(Error::from(Kind::NoSpace))
            }
            1 => Err(Error::new(Kind::Io, "the power is cut")),
            _ => Ok(()),
        }
    }
}

struct Handle {
    medium: Arc<Medium>,
    journal: bool,
}

impl Handle {
    fn with<T>(&self, work: impl FnOnce(&mut Content) -> T) -> T {
        match self.journal {
            false => work(&mut self.medium.image.lock().unwrap()),
            true => work(self.medium.journal.lock().unwrap().get_or_insert_default()),
        }
    }
}

impl Storage for Handle {
    fn len(&self) -> Result<u64> {
        Ok(self.with(|c| c.now.len()) as u64)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.with(|c| {
            let there = c.now.get(offset as usize..).unwrap_or_default();
            let n = there.len().min(buf.len());
            buf[..n].copy_from_slice(&there[..n]);
            buf[n..].fill(0);
        });
        Ok(())
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let cut = self.medium.step();
        // A cut leaves a part of the write behind, up to a unit's border.
        let unit = self.medium.unit;
        let border = (offset as usize + data.len() / 2) / unit * unit;
        let data = if cut.is_err() { &data[..border.saturating_sub(offset as usize)] } else { data };
        if data.is_empty() {
            return cut;
        }
        self.with(|c| {
            let end = offset as usize + data.len();
            let len = c.now.len().max(end);
            c.now.resize(len, 0);
            c.now[offset as usize..end].copy_from_slice(data);
        });
        cut
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.medium.step()?;
        self.with(|c| c.now[range.start as usize..range.end as usize].fill(0));
        Ok(())
    }
    fn reserve(&self, _range: Range<u64>) -> Result<()> {
        self.medium.step()
    }
    fn runs(&self, range: Range<u64>) -> Result<Vec<Run>> {
        Ok(vec![Run { range, hole: false }])
    }
    fn is_hole(&self) -> bool {
        false
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.medium.step()?;
        self.with(|c| c.now.resize(len as usize, 0));
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        self.medium.step()?;
        self.with(|c| c.synced = c.now.clone());
        if self.journal
            && let Some(listed) = self.medium.listed.lock().unwrap().as_mut()
        {
            self.with(|c| *listed = c.clone());
        }
        Ok(())
    }
}

struct Fake {
    medium: Arc<Medium>,
    image: Handle,
}

impl Fake {
    fn new(medium: Arc<Medium>) -> Box<Self> {
        Box::new(Fake { image: Handle { medium: medium.clone(), journal: false }, medium })
    }
    fn journal(&self) -> Box<dyn Storage> {
        Box::new(Handle { medium: self.medium.clone(), journal: true })
    }
}

impl Place for Fake {
    fn path(&self) -> &Path {
        Path::new("image")
    }
    fn journal_path(&self) -> PathBuf {
        PathBuf::from("image.imgsh-journal")
    }
    fn image(&self) -> &dyn Storage {
        &self.image
    }
    fn writable(&self) -> bool {
        false
    }
    fn make_writable(&self) -> Result<()> {
        Ok(())
    }
    fn share_with(&self, _: &File) -> bool {
        false
    }
    fn in_place(&self) -> Result<()> {
        Ok(())
    }
    fn create_journal(&self) -> Result<Box<dyn Storage>> {
        self.medium.step()?;
        assert!(
            self.medium.journal.lock().unwrap().replace(Content::default()).is_none(),
            "a journal is there already"
        );
        Ok(self.journal())
    }
    fn open_journal(&self) -> Result<Option<Box<dyn Storage>>> {
        Ok(self.medium.journal.lock().unwrap().is_some().then(|| self.journal()))
    }
    fn journal_elsewhere(&self) -> Option<(PathBuf, Box<dyn Storage>)> {
        None
    }
    fn remove_journal(&self) -> Result<()> {
        self.medium.step()?;
        *self.medium.journal.lock().unwrap() = None;
        self.sync_folder()
    }
    fn sync_folder(&self) -> Result<()> {
        self.medium.step()?;
        *self.medium.listed.lock().unwrap() = self.medium.journal.lock().unwrap().clone();
        Ok(())
    }
}

/// What is left of a medium after a cut, and works again until `left` more operations.
pub(crate) fn after_cut(medium: &Medium, random: &mut Random, left: usize) -> Arc<Medium> {
    let percent = [0, 10, 50, 90, 100][(random.next() >> 20) as usize % 5];
    let image = medium.image.lock().unwrap().survive(random, percent, medium.unit);
    let present = medium.journal.lock().unwrap().clone();
    // A name that was made or removed without a sync of the folder may be there or not.
    let listed = if random.chance(50) { present } else { medium.listed.lock().unwrap().clone() };
    let journal = listed
        .map(|content| content.survive(random, percent, medium.unit))
        .map(|b| Content { now: b.clone(), synced: b });
    Arc::new(Medium {
        image: Mutex::new(Content { now: image.clone(), synced: image }),
        journal: Mutex::new(journal.clone()),
        listed: Mutex::new(journal),
        left: AtomicUsize::new(left),
        full: false,
        unit: medium.unit,
    })
}

fn medium(left: usize, full: bool) -> Arc<Medium> {
    let bytes: Vec<u8> = (0..LEN).map(|i| (i / SECTOR) as u8 | 1).collect();
    Arc::new(Medium { full, ..Medium::new(bytes, left, SECTOR) })
}

/// The bytes that are free in the old state, and written fresh.
const FRESH: Range<usize> = 40_960..49_152;

/// Fresh data, then a commit of a few changes.
fn transaction(raw: &Raw) -> Result<()> {
    raw.write_fresh(FRESH.start as u64, &[0xaa; 4096])?;
    raw.write_fresh(FRESH.start as u64 + 4096, &[0xbb; 4096])?;
    raw.commit(&super::tests::List(vec![
        (0, Some(vec![0x11; 512]), 0),
        (8192, Some(vec![0x22; 20_480]), 0),
        (28_672, None, 8192),
        (53_000, Some(vec![0x33; 5000]), 0),
        (61_440, None, 1000),
    ]))
}

fn committed() -> Vec<u8> {
    let medium = medium(usize::MAX, false);
    let raw = Raw::over(Fake::new(medium.clone()), false, 0).unwrap();
    transaction(&raw).unwrap();
    assert!(medium.journal.lock().unwrap().is_none() && medium.listed.lock().unwrap().is_none());
    let content = medium.image.lock().unwrap().clone();
    assert!(content.now == content.synced, "not everything is durable");
    content.now
}

/// Operations of the whole transaction.
fn operations() -> usize {
    let medium = medium(usize::MAX, false);
    transaction(&Raw::over(Fake::new(medium.clone()), false, 0).unwrap()).unwrap();
    usize::MAX - medium.left.load(Ordering::Relaxed)
}

fn same(a: &[u8], b: &[u8], but: &Range<usize>) -> bool {
    a[..but.start] == b[..but.start] && a[but.end..] == b[but.end..]
}

#[test]
fn a_cut_anywhere_leaves_old_or_new() {
    let old = medium(0, false).image.lock().unwrap().now.clone();
    let new = committed();
    let mut random = Random(0x1234_5678);
    let (mut olds, mut news, mut overlays) = (0, 0, 0);
    for cut in 1..=operations() {
        for _ in 0..60 {
            let broken = medium(cut, false);
            let raw = Raw::over(Fake::new(broken.clone()), false, 0).unwrap();
            transaction(&raw).unwrap_err();
            // Half of the time the recovery is cut off as well, up to twice.
            let mut survivor = after_cut(&broken, &mut random, usize::MAX);
            while random.chance(50) {
                survivor.left.store((random.next() >> 40) as usize % 8 + 1, Ordering::Relaxed);
                Raw::over(Fake::new(survivor.clone()), false, 0).ok();
                survivor = after_cut(&survivor, &mut random, usize::MAX);
            }
            // First as a reader sees it, then as a writer leaves it.
            let reader = Raw::over(Fake::new(survivor.clone()), true, 0).unwrap();
            overlays += usize::from(reader.overlay.read().unwrap().is_some());
            let mut seen = vec![0; LEN];
            reader.read_at(0, &mut seen).unwrap();
            let writer = Raw::over(Fake::new(survivor.clone()), false, 0).unwrap();
            let left = survivor.image.lock().unwrap().now.clone();
            assert!(survivor.journal.lock().unwrap().is_none(), "cut {cut}: the journal is still there");
            assert_eq!(seen, left, "cut {cut}: a reader saw another state than the writer left");
            let is_new = left == new;
            assert!(is_new || same(&left, &old, &FRESH), "cut {cut}: neither old nor new");
            assert!(is_new || writer.notices().iter().all(|n| !n.contains("finished")));
            *(if is_new { &mut news } else { &mut olds }) += 1;
        }
    }
    assert!(olds > 100 && news > 100 && overlays > 100, "{olds} old, {news} new, {overlays} overlays");
}

#[test]
fn a_full_host_before_the_commit_point_changes_nothing() {
    let old = medium(0, false).image.lock().unwrap().now.clone();
    let new = committed();
    let (mut refused, mut later, mut lost) = (0, 0, 0);
    for at in 1..=operations() {
        let full = medium(at, true);
        let raw = Raw::over(Fake::new(full.clone()), false, 0).unwrap();
        let error = transaction(&raw).unwrap_err();
        let left = full.image.lock().unwrap().now.clone();
        if error.to_string().contains("the commit is complete") {
            assert!(left == new, "operation {at}");
        } else if error.to_string().contains("saved in") {
            // After it: the bytes are safe in the journal, and read so.
            later += 1;
            let mut seen = vec![0; LEN];
            raw.read_at(0, &mut seen).unwrap();
            assert!(seen == new, "operation {at}");
            assert!(raw.commit(&super::tests::List(Vec::new())).is_err(), "operation {at}: a second commit");
            assert!(Raw::over(Fake::new(full.clone()), false, 0).unwrap().notices()[0].contains("finished"));
            assert!(full.image.lock().unwrap().now == new, "operation {at}");
        } else {
            refused += 1;
            assert!(same(&left, &old, &FRESH), "operation {at}");
            assert!(full.journal.lock().unwrap().is_none(), "operation {at}: the journal is still there");
            // There is space again. A flush is not tried twice: what it was for may be gone.
            if raw.state().lost {
                lost += 1;
                assert!(raw.commit(&super::tests::List(Vec::new())).is_err(), "operation {at}: a second flush");
                raw.abandon().unwrap();
            }
            transaction(&raw).unwrap();
            assert!(full.image.lock().unwrap().now == new, "operation {at}");
        }
    }
    assert!(refused > 5 && later > 3 && lost == 1, "{refused} {later} {lost}");
}

/// An image that was cut off right after the commit point.
fn unfinished() -> Arc<Medium> {
    let mut random = Random(99);
    for cut in 1.. {
        let broken = medium(cut, false);
        transaction(&Raw::over(Fake::new(broken.clone()), false, 0).unwrap()).unwrap_err();
        let survivor = after_cut(&broken, &mut random, usize::MAX);
        if Raw::over(Fake::new(survivor.clone()), true, 0).unwrap().overlay.read().unwrap().is_some() {
            return survivor;
        }
    }
    unreachable!()
}

#[test]
fn a_journal_that_does_not_fit_is_refused() {
    let medium = unfinished();
    let before = medium.image.lock().unwrap().now.clone();
    medium.image.lock().unwrap().now[9000] ^= 0x77;
    for read_only in [true, false] {
        let error = Raw::over(Fake::new(medium.clone()), read_only, 0).err().unwrap();
        assert_eq!(error.to_string(), "image: sector 17 was changed by another program after an interrupted commit");
        assert!(error.hint_text().unwrap().contains("image.imgsh-journal"));
    }
    // Another length.
    *medium.image.lock().unwrap() = Content { now: vec![0; 2048], synced: Vec::new() };
    assert_eq!(Raw::over(Fake::new(medium.clone()), false, 0).err().unwrap().kind(), Kind::Corrupt);
    // Nothing was written, and the journal is still there for whoever looks into it.
    assert!(medium.journal.lock().unwrap().is_some());
    medium.image.lock().unwrap().now = before;
    assert!(Raw::over(Fake::new(medium), false, 0).is_ok());
}

#[test]
fn damaged_journals_do_not_count() {
    let medium = unfinished();
    let (image, journal) =
        (medium.image.lock().unwrap().now.clone(), medium.journal.lock().unwrap().clone().unwrap().now);
    let places = (0..400).chain(journal.len() - 64..journal.len());
    for place in places {
        let mut bytes = journal.clone();
        bytes[place] ^= 0x81;
        *medium.journal.lock().unwrap() = Some(Content { now: bytes, synced: Vec::new() });
        let raw = Raw::over(Fake::new(medium.clone()), true, 0).unwrap();
        let mut seen = vec![0; LEN];
        raw.read_at(0, &mut seen).unwrap();
        assert!(seen == image && raw.notices().is_empty(), "byte {place}");
    }
    for len in [0, 1, 63, 64, 80, journal.len() / 2, journal.len() - 1] {
        *medium.journal.lock().unwrap() = Some(Content { now: journal[..len].to_vec(), synced: Vec::new() });
        assert!(Raw::over(Fake::new(medium.clone()), true, 0).unwrap().notices().is_empty(), "length {len}");
    }
}
