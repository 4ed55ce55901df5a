//! qcow2 against qemu-img: every shape is read, written at random beside a copy in memory, committed, and
//! judged by `qemu-img check` and `qemu-img convert`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};

use imgsh::base::{Kind, Result};
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{Change, Changes, CreateOptions, Disk, Format};

fn run(program: &str, args: &[&str], dir: &Path) -> String {
    let out = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {text}");
    text
}

fn qemu(dir: &Path, line: &str) -> String {
    run("qemu-img", &line.split_whitespace().collect::<Vec<_>>(), dir)
}

/// A seeded xorshift.
struct Random(u64);

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
    /// Bytes with structure: runs of text, noise and zeros.
    fn fill(&mut self, bytes: &mut [u8]) {
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

enum Edit {
    Data(Vec<u8>),
    Zero(u64),
}

struct Edits(Vec<(u64, Edit)>);

impl Changes for Edits {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(offset, edit)| match edit {
            Edit::Data(data) => each(*offset, Change::Data(data)),
            Edit::Zero(len) => each(*offset, Change::Zero(*len)),
        })
    }
}

/// Ascending changes without overlap, laid over `model`.
fn edits(random: &mut Random, model: &mut [u8]) -> Edits {
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

fn everything(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

fn same(what: &str, ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    if let Some(at) = ours.iter().zip(theirs).position(|(a, b)| a != b) {
        panic!("{what}: differs at byte {at}");
    }
}

fn raw_of(dir: &Path, image: &str) -> Vec<u8> {
    qemu(dir, &format!("convert -U -O raw {image} judge.raw"));
    fs::read(dir.join("judge.raw")).unwrap()
}

/// Raw bytes of a test disk, with holes.
fn base(dir: &Path, name: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut random = Random(seed);
    for chunk in bytes.chunks_mut(150_001).step_by(2) {
        random.fill(chunk);
    }
    fs::write(dir.join(name), &bytes).unwrap();
    bytes
}

const SIZE: usize = 5 * 1024 * 1024;

/// Random rounds on `image` in `dir`; the files in `kept` must not change.
fn rounds(dir: &Path, image: &str, kept: &[&str], seed: u64) {
    let before: Vec<Vec<u8>> = kept.iter().map(|name| fs::read(dir.join(name)).unwrap()).collect();
    let mut random = Random(seed);
    let mut model = raw_of(dir, image);
    let disk = Qcow2::open(&dir.join(image), false).unwrap();
    same(image, &everything(&disk), &model);
    for round in 0..5 {
        let what = format!("{image} round {round}");
        let mut new = model.clone();
        for _ in 0..random.below(12) {
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

fn plain(options: &str, convert: &str, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    base(dir.path(), "base.raw", SIZE, seed);
    qemu(dir.path(), &format!("convert {convert} -f raw -O qcow2 -o {options} base.raw image.qcow2"));
    rounds(dir.path(), "image.qcow2", &["base.raw"], seed);
}

#[test]
fn version_2() {
    plain("compat=0.10", "", 1);
    plain("compat=0.10,cluster_size=4096", "-c", 2);
}

#[test]
fn cluster_sizes() {
    plain("cluster_size=512", "", 3);
    plain("cluster_size=4k", "", 4);
    plain("cluster_size=2M", "", 5);
}

#[test]
fn refcount_widths() {
    for bits in [1, 2, 4, 8, 32, 64] {
        plain(&format!("refcount_bits={bits},cluster_size=4k"), "", 6 + bits);
    }
    plain("refcount_bits=64,cluster_size=512", "", 71);
}

#[test]
fn compressed() {
    for (seed, options) in
        ["compression_type=zlib", "compression_type=zstd", "cluster_size=512", "cluster_size=2M"].iter().enumerate()
    {
        plain(options, "-c", 80 + seed as u64);
    }
    plain("compression_type=zstd,cluster_size=4k", "-c", 90);
}

#[test]
fn preallocated_and_lazy() {
    plain("preallocation=metadata", "", 91);
    plain("preallocation=falloc,lazy_refcounts=on", "", 92);
}

#[test]
fn internal_snapshots_stay() {
    for options in ["cluster_size=64k", "compat=0.10", "cluster_size=4k,refcount_bits=64"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let old = base(dir, "base.raw", SIZE, 7);
        qemu(dir, &format!("convert -c -f raw -O qcow2 -o {options} base.raw image.qcow2"));
        qemu(dir, "snapshot -c one image.qcow2");
        rounds(dir, "image.qcow2", &[], 8);
        qemu(dir, "snapshot -c two image.qcow2");
        rounds(dir, "image.qcow2", &[], 9);
        qemu(dir, "convert -l one -O raw image.qcow2 one.raw");
        same("snapshot one", &fs::read(dir.join("one.raw")).unwrap(), &old);
        qemu(dir, "snapshot -d two image.qcow2");
        qemu(dir, "snapshot -a one image.qcow2");
        assert!(qemu(dir, "check image.qcow2").contains("No errors"), "after going back");
        same("gone back", &everything(&Qcow2::open(&dir.join("image.qcow2"), true).unwrap()), &old);
    }
}

#[test]
fn backing_chains() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    // Not a whole number of sectors, shorter than what lies over it.
    base(dir, "base.raw", SIZE - 1_000_100, 11);
    qemu(dir, "create -q -f qcow2 -F raw -b base.raw one.qcow2 5M");
    rounds(dir, "one.qcow2", &["base.raw"], 12);
    qemu(dir, "create -q -f qcow2 -o compat=0.10,cluster_size=4k -F qcow2 -b one.qcow2 two.qcow2 6M");
    rounds(dir, "two.qcow2", &["base.raw", "one.qcow2"], 13);
    qemu(dir, "create -q -f qcow2 -F qcow2 -b two.qcow2 three.qcow2 4M");
    rounds(dir, "three.qcow2", &["base.raw", "one.qcow2", "two.qcow2"], 14);
    let files = Qcow2::open(&dir.join("three.qcow2"), true).unwrap().files();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["three.qcow2", "two.qcow2", "one.qcow2", "base.raw"]);
}

#[test]
fn odd_sizes() {
    for (seed, size) in [512, 66_048, 1_234_944].into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        base(temp.path(), "base.raw", size, 15);
        qemu(temp.path(), "convert -f raw -O qcow2 base.raw image.qcow2");
        rounds(temp.path(), "image.qcow2", &[], 16 + seed as u64);
    }
}

#[test]
fn bitmaps_go_without_leaks() {
    for line in ["create -q -f qcow2 image.qcow2 5M", "create -q -f qcow2 -F raw -b base.raw image.qcow2 5M"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        base(dir, "base.raw", SIZE, 17);
        qemu(dir, line);
        qemu(dir, "bitmap --add -g 65536 image.qcow2 first");
        qemu(dir, "bitmap --add image.qcow2 second");
        run("qemu-io", &["-c", "write 1M 2M", "image.qcow2"], dir);
        rounds(dir, "image.qcow2", &["base.raw"], 18);
        assert!(!qemu(dir, "info image.qcow2").contains("first"), "bitmap is gone");
    }
}

#[test]
fn subclusters_and_data_files_are_read_only() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let bytes = base(dir, "base.raw", SIZE, 19);
    qemu(dir, "create -q -f qcow2 -o extended_l2=on,cluster_size=128k -F raw -b base.raw sub.qcow2 5M");
    run("qemu-io", &["-c", "write -P 7 5k 3k", "-c", "write -z 300k 9k", "-c", "write -P 9 2M 1M", "sub.qcow2"], dir);
    let disk = Qcow2::open(&dir.join("sub.qcow2"), false).unwrap();
    same("subclusters", &everything(&disk), &raw_of(dir, "sub.qcow2"));
    assert_eq!(disk.write_fresh(0, b"x").unwrap_err().kind(), Kind::Unsupported);
    for raw in ["on", "off"] {
        qemu(dir, &format!("convert -f raw -O qcow2 -o data_file=ext.data,data_file_raw={raw} base.raw ext.qcow2"));
        let disk = Qcow2::open(&dir.join("ext.qcow2"), false).unwrap();
        same("data file", &everything(&disk), &bytes);
        assert_eq!(disk.commit(&Edits(vec![(0, Edit::Zero(512))])).unwrap_err().kind(), Kind::Unsupported);
    }
}

#[test]
fn runs_cover_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    qemu(dir, "create -q -f qcow2 base.qcow2 4M");
    run("qemu-io", &["-c", "write -P 1 0 64k", "-c", "write -z 1M 64k", "base.qcow2"], dir);
    qemu(dir, "create -q -f qcow2 -F qcow2 -b base.qcow2 image.qcow2 1T");
    let disk = Qcow2::open(&dir.join("image.qcow2"), false).unwrap();
    disk.write_fresh(2 << 20, &[5; 70_000]).unwrap();
    let runs = disk.runs(0..disk.len()).unwrap();
    let ends: Vec<_> = runs.iter().map(|run| (run.range.end, run.hole)).collect();
    assert_eq!(ends, [(65_536, false), (2 << 20, true), ((2 << 20) + 131_072, false), (1 << 40, true)]);
    // Zeros over all of it cost no time and no space.
    disk.commit(&Edits(vec![(0, Edit::Zero(1 << 40))])).unwrap();
    assert_eq!(disk.runs(0..disk.len()).unwrap().len(), 1);
    assert!(qemu(dir, "check -U image.qcow2").contains("No errors"));
}

#[test]
fn permission_is_asked_at_the_first_write() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    qemu(dir, "create -q -f qcow2 image.qcow2 1M");
    let path: PathBuf = dir.join("image.qcow2");
    let disk = Qcow2::open(&path, true).unwrap();
    assert_eq!(disk.write_fresh(0, b"x").unwrap_err().kind(), Kind::ReadOnly);
    assert_eq!(disk.write_fresh(1 << 20, b"x").unwrap_err().kind(), Kind::Io);
    drop(disk);
    let disk = Qcow2::open(&path, false).unwrap();
    fs::rename(&path, dir.join("moved")).unwrap();
    qemu(dir, "create -q -f qcow2 image.qcow2 1M");
    assert_eq!(disk.write_fresh(0, b"x").unwrap_err().kind(), Kind::Busy);
}

#[test]
fn created_images_are_qemus_too() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let bytes = base(dir, "base.raw", SIZE, 20);
    let path = dir.join("image.qcow2");
    let sizes = [None, Some(512), Some(4096), Some(2 << 20)];
    for (seed, (compat, cluster_size)) in
        [None, Some("0.10")].iter().flat_map(|compat| sizes.map(|size| (*compat, size))).enumerate()
    {
        let mut options = CreateOptions {
            size: Some(SIZE as u64),
            compat: compat.map(String::from),
            cluster_size,
            ..CreateOptions::default()
        };
        qcow2::create(&path, &options).unwrap();
        assert!(qemu(dir, "check image.qcow2").contains("No errors"), "{options:?}");
        assert!(raw_of(dir, "image.qcow2").iter().all(|b| *b == 0));
        if seed % 3 == 0 {
            rounds(dir, "image.qcow2", &[], 21);
        }
        options.size = None;
        options.backing = Some("base.raw".into());
        options.backing_format = Some(Format::Raw);
        qcow2::create(&path, &options).unwrap();
        assert!(qemu(dir, "check image.qcow2").contains("No errors"), "{options:?}");
        same("over a base", &raw_of(dir, "image.qcow2"), &bytes);
    }
    // Big disks need more than one cluster of each table.
    for (size, cluster) in [(64 << 40, 65_536), (100 << 30, 512), (4 << 40, 4096)] {
        let options = CreateOptions { size: Some(size), cluster_size: Some(cluster), ..CreateOptions::default() };
        qcow2::create(&path, &options).unwrap();
        let check = qemu(dir, "check image.qcow2");
        assert!(check.contains("No errors"), "{size} {cluster}: {check}");
        assert_eq!(Qcow2::open(&path, true).unwrap().len(), size);
    }
}

#[test]
fn creating_refuses_what_cannot_be() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    let with = |change: fn(&mut CreateOptions)| {
        let mut options = CreateOptions { size: Some(1 << 20), ..CreateOptions::default() };
        change(&mut options);
        qcow2::create(&path, &options).unwrap_err()
    };
    assert_eq!(with(|o| o.size = None).kind(), Kind::Usage);
    assert_eq!(with(|o| o.cluster_size = Some(3000)).kind(), Kind::Usage);
    assert_eq!(with(|o| o.cluster_size = Some(4 << 20)).kind(), Kind::Usage);
    assert_eq!(with(|o| o.compat = Some("1.2".into())).kind(), Kind::Usage);
    assert_eq!(with(|o| o.preallocation = Some("full".into())).kind(), Kind::Unsupported);
    assert_eq!(with(|o| o.size = Some(u64::MAX)).kind(), Kind::FileTooBig);
    assert_eq!(with(|o| o.size = Some(1 << 60)).kind(), Kind::FileTooBig);
    assert_eq!(with(|o| o.backing = Some("none".into())).kind(), Kind::Usage);
    let missing = |o: &mut CreateOptions| (o.backing, o.backing_format) = (Some("none".into()), Some(Format::Raw));
    assert_eq!(with(missing).kind(), Kind::NotFound);
    assert!(!path.exists(), "nothing is left of a failure");
    fs::write(&path, [7; 512]).unwrap();
    let itself =
        |o: &mut CreateOptions| (o.backing, o.backing_format) = (Some("image.qcow2".into()), Some(Format::Raw));
    assert_eq!(with(itself).kind(), Kind::Invalid);
    assert_eq!(fs::read(&path).unwrap(), [7; 512]);
}

#[test]
fn another_reader_sees_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    qcow2::create(&path, &CreateOptions { size: Some(SIZE as u64), ..CreateOptions::default() }).unwrap();
    rounds(dir, "image.qcow2", &[], 30);
    let params = qcow2_rs::dev::Qcow2DevParams::new(9, None, None, true, false);
    let disk = qcow2_rs::utils::qcow2_setup_dev_sync(&path, &params).unwrap();
    let reading = std::pin::pin!(async {
        let mut bytes = Vec::new();
        disk.qcow2_prep_io().await.unwrap();
        for offset in (0..SIZE as u64).step_by(65_536) {
            let mut buf = qcow2_rs::helpers::Qcow2IoBuf::<u8>::new(65_536);
            disk.read_at(&mut buf, offset).await.unwrap();
            bytes.extend_from_slice(&buf);
        }
        bytes
    });
    // Its calls block; a future that is not ready at once would be a bug of this test.
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(bytes) = reading.poll(&mut context) else { panic!("it waits") };
    same("another reader", &bytes, &everything(&Qcow2::open(&path, true).unwrap()));
}

#[test]
fn images_in_use_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    qemu(dir, "create -q -f qcow2 base.qcow2 1M");
    qemu(dir, "create -q -f qcow2 -F qcow2 -b base.qcow2 image.qcow2");
    let hold = |name: &str| {
        let mut child = Command::new("qemu-io")
            .arg(name)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The prompt is there when the image is open.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 8]).unwrap();
        child
    };
    let path = dir.join("image.qcow2");
    for name in ["image.qcow2", "base.qcow2"] {
        let mut child = hold(name);
        assert_eq!(Qcow2::open(&path, true).err().unwrap().kind(), Kind::Busy, "{name}");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
    // Readers get along; a second one keeps the first from writing.
    let (first, second) = (Qcow2::open(&path, false).unwrap(), Qcow2::open(&path, true).unwrap());
    assert_eq!(first.write_fresh(0, b"x").unwrap_err().kind(), Kind::Busy);
    drop(second);
    first.write_fresh(0, b"x").unwrap();
    assert_eq!(Qcow2::open(&path, true).err().unwrap().kind(), Kind::Busy);
}

#[test]
fn bad_chains_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let open = |name: &str| Qcow2::open(&dir.join(name), true).err().map(|e| (e.kind(), e.to_string())).unwrap();
    base(dir, "base.raw", 1 << 20, 31);
    qemu(dir, "create -q -f qcow2 -F raw -b base.raw one.qcow2");
    qemu(dir, "create -q -f qcow2 -F qcow2 -b one.qcow2 two.qcow2");
    qemu(dir, "rebase -u -F qcow2 -b two.qcow2 one.qcow2");
    let (kind, text) = open("one.qcow2");
    assert!(kind == Kind::Corrupt && text.contains("loops"), "{text}");
    qemu(dir, "rebase -u -F raw -b gone.raw one.qcow2");
    let (kind, text) = open("two.qcow2");
    assert!(kind == Kind::NotFound && text.contains("one.qcow2") && text.contains("gone.raw"), "{text}");
    for (backing, kind) in
        [("nbd://host/disk", Kind::Unsupported), ("json:{}", Kind::Unsupported), (".", Kind::IsADirectory)]
    {
        qemu(dir, &format!("rebase -u -F raw -b {backing} one.qcow2"));
        assert_eq!(open("one.qcow2").0, kind, "{backing}");
    }
    run("mkfifo", &["pipe"], dir);
    qemu(dir, "rebase -u -F raw -b pipe one.qcow2");
    assert_eq!(open("one.qcow2").0, Kind::Invalid);
    assert_eq!(open("pipe").0, Kind::Invalid);
    // Without a format only what is clearly qcow2 is taken.
    qemu(dir, "create -q -f qcow2 clear.qcow2 1M");
    for (backing, good) in [("clear.qcow2", true), ("base.raw", false)] {
        qemu(dir, &format!("rebase -u -F qcow2 -b {backing} one.qcow2"));
        let path = dir.join("one.qcow2");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|window| window == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
        // An extension of an unknown type is skipped.
        bytes[at] = 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(Qcow2::open(&path, true).is_ok(), good, "{backing}");
    }
}
