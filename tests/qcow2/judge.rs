//! qemu-img as the judge, random edits, and a copy in memory beside every image.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use imgsh::base::Result;
use imgsh::disk::qcow2::Qcow2;
use imgsh::disk::{Change, Changes, Disk};

pub fn run(program: &str, args: &[&str], dir: &Path) -> String {
    let out = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {text}");
    text
}

pub fn qemu(dir: &Path, line: &str) -> String {
    run("qemu-img", &line.split_whitespace().collect::<Vec<_>>(), dir)
}

/// A seeded xorshift.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    /// Bytes with structure: runs of text, noise and zeros.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(1 + 3 * 1024) {
            match self.below(4) {
                0 => chunk.fill(0),
                1 => chunk.iter_mut().for_each(|b| *b = self.next() as u8),
                _ => {
                    let word = self.next().to_le_bytes();
                    chunk.iter_mut().enumerate().for_each(|(i, b)| *b = word[i % 8]);
                }
            }
        }
    }
}

pub enum Edit {
    Data(Vec<u8>),
    Zero(u64),
}

pub struct Edits(pub Vec<(u64, Edit)>);

impl Changes for Edits {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(offset, edit)| match edit {
            Edit::Data(data) => each(*offset, Change::Data(data)),
            Edit::Zero(len) => each(*offset, Change::Zero(*len)),
        })
    }
}

/// Ascending changes without overlap, laid over `model`.
pub fn edits(random: &mut Random, model: &mut [u8]) -> Edits {
    let size = model.len() as u64;
    let mut list = Vec::new();
    let mut at = random.below(size / 4);
    while at < size {
        let most = if random.below(4) == 0 { size / 3 } else { 12_000 };
        let len = (1 + random.below(most)).min(size - at);
        let place = &mut model[at as usize..(at + len) as usize];
        if random.below(3) == 0 {
            place.fill(0);
            list.push((at, Edit::Zero(len)));
        } else {
            random.fill(place);
            list.push((at, Edit::Data(place.to_vec())));
        }
        at += len + random.below(size / 5);
    }
    Edits(list)
}

pub fn everything(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

pub fn same(what: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    if let Some(at) = ours.iter().zip(theirs).position(|(a, b)| a != b) {
        panic!("{what}: differs at byte {at}");
    }
}

/// For images that are not encrypted.
pub fn no_keys(_disk: &dyn Disk) -> Result<()> {
    Err(imgsh::base::Error::usage("there is no key"))
}

pub fn raw_of(dir: &Path, image: &str) -> Vec<u8> {
    qemu(dir, &format!("convert -U -O raw {image} judge.raw"));
    fs::read(dir.join("judge.raw")).unwrap()
}

/// Raw bytes of a test disk, with holes.
pub fn base(dir: &Path, name: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut random = Random(seed);
    for chunk in bytes.chunks_mut(150_001).step_by(2) {
        random.fill(chunk);
    }
    fs::write(dir.join(name), &bytes).unwrap();
    bytes
}

pub const SIZE: usize = 5 * 1024 * 1024;

/// Random rounds on `image` in `dir`; the files in `kept` must not change.
pub fn rounds(dir: &Path, image: &str, kept: &[&str], seed: u64) {
    some_rounds(dir, image, kept, seed, 0..5, true);
}

/// Two rounds: for what comes many times.
pub fn few(dir: &Path, image: &str, kept: &[&str], seed: u64) {
    some_rounds(dir, image, kept, seed, 0..2, true);
}

/// `fresh`: data goes ahead of the commit to places that are in use, which a shadow allows. Round 2 is given up.
pub fn some_rounds(dir: &Path, image: &str, kept: &[&str], seed: u64, numbers: Range<u32>, fresh: bool) {
    let before: Vec<Vec<u8>> = kept.iter().map(|name| fs::read(dir.join(name)).unwrap()).collect();
    let mut random = Random(seed);
    let mut model = raw_of(dir, image);
    let disk = Qcow2::open(&dir.join(image), false).unwrap();
    same(image, &everything(&disk), &model);
    for round in numbers {
        let what = format!("{image} round {round}");
        let mut new = model.clone();
        for _ in 0..if fresh { random.below(12) } else { 0 } {
            let at = random.below(model.len() as u64) as usize;
            let most = [700, 9_000, 400_000][random.below(3) as usize];
            let len = (1 + random.below(most) as usize).min(model.len() - at);
            random.fill(&mut new[at..at + len]);
            disk.write_fresh(at as u64, &new[at..at + len]).unwrap();
            let mut back = vec![0; len];
            disk.read_at(at as u64, &mut back).unwrap();
            same(&what, &back, &new[at..at + len]);
        }
        same(&what, &everything(&disk), &new);
        if round == 2 {
            disk.abandon().unwrap();
        } else {
            let changes = edits(&mut random, &mut new);
            disk.commit(&changes).unwrap();
            model = new;
        }
        same(&what, &everything(&disk), &model);
        let check = qemu(dir, &format!("check -U {image}"));
        assert!(check.contains("No errors were found"), "{what}: {check}");
        same(&what, &raw_of(dir, image), &model);
    }
    drop(disk);
    same(image, &everything(&Qcow2::open(&dir.join(image), true).unwrap()), &model);
    for (name, old) in kept.iter().zip(&before) {
        same(name, &fs::read(dir.join(name)).unwrap(), old);
    }
}
