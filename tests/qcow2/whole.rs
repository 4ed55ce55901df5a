//! What concerns an image as a whole: creation, copies, sizes, internal snapshots, checks and repairs.

use std::fs;
use std::path::Path;

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{self, CreateOptions, Disk, Format, OpenOptions, convert};

use crate::judge::*;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn clean(dir: &Path, image: &str, what: &str) {
    let check = qemu(dir, &format!("check {image}"));
    assert!(check.contains("No errors"), "{what}: {check}");
    let report = qcow2::check(&dir.join(image), false).unwrap();
    assert!(report.is_clean(), "{what}: {report:?}");
}

fn open(dir: &Path, name: &str) -> Box<dyn Disk> {
    disk::open(&dir.join(name), OpenOptions { format: None, read_only: true }).unwrap()
}

/// Images of many kinds that qemu-img makes from `base.raw`.
const KINDS: &[&str] = &[
    "-o cluster_size=64k",
    "-o compat=0.10,cluster_size=4k",
    "-o cluster_size=512,refcount_bits=8",
    "-o cluster_size=4k,refcount_bits=64 -c",
    "-o extended_l2=on",
    "-o compression_type=zstd -c",
    "-o preallocation=metadata,lazy_refcounts=on",
];

#[test]
fn snapshots_are_made_applied_and_deleted() {
    for (seed, kind) in KINDS.iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        let first = base(dir, "base.raw", SIZE, 100 + seed as u64);
        qemu(dir, &format!("convert -f raw -O qcow2 {kind} base.raw image.qcow2"));
        qcow2::create_snapshot(&path, "first", NOW).unwrap();
        clean(dir, "image.qcow2", "one snapshot");
        assert_eq!(qcow2::create_snapshot(&path, "first", NOW).unwrap_err().kind(), Kind::Exists);
        few(dir, "image.qcow2", &[], 110 + seed as u64);
        // QEMU's own in between, and one that is kept by a commit.
        qemu(dir, "snapshot -c second image.qcow2");
        let second = raw_of(dir, "image.qcow2");
        few(dir, "image.qcow2", &[], 120 + seed as u64);
        let third = raw_of(dir, "image.qcow2");
        let disk = Qcow2::open(&path, false).unwrap();
        disk.write_fresh(100_000, &[9; 70_000]).unwrap();
        let edits = Edits(vec![(5, Edit::Data(vec![8; 100_000])), (2 << 20, Edit::Zero(1 << 20))]);
        disk.commit_keeping(&edits, "third", NOW).unwrap();
        let mut fourth = third.clone();
        fourth[100_000..170_000].fill(9);
        fourth[5..100_005].fill(8);
        fourth[2 << 20..3 << 20].fill(0);
        same("after keeping", &everything(&disk), &fourth);
        drop(disk);
        clean(dir, "image.qcow2", "after keeping");
        let list = qcow2::snapshots(&path).unwrap();
        let names: Vec<_> = list.iter().map(|s| (s.id.as_str(), s.name.as_str(), s.disk_size)).collect();
        let size = SIZE as u64;
        assert_eq!(names, [("1", "first", size), ("2", "second", size), ("3", "third", size)]);
        assert_eq!(list[0].time, NOW);
        let shown = qemu(dir, "snapshot -l image.qcow2");
        assert!(shown.contains("first") && shown.contains("third") && shown.contains("2023-11-14"), "{shown}");
        for (name, bytes) in [("first", &first), ("second", &second), ("third", &third)] {
            qemu(dir, &format!("convert -l {name} -O raw image.qcow2 one.raw"));
            same(name, &fs::read(dir.join("one.raw")).unwrap(), bytes);
        }
        // Ours back and forth, then QEMU's over ours.
        qcow2::apply_snapshot(&path, "second").unwrap();
        clean(dir, "image.qcow2", "applied");
        same("applied", &raw_of(dir, "image.qcow2"), &second);
        few(dir, "image.qcow2", &[], 130 + seed as u64);
        qcow2::delete_snapshot(&path, "2").unwrap();
        clean(dir, "image.qcow2", "deleted");
        assert_eq!(qcow2::delete_snapshot(&path, "second").unwrap_err().kind(), Kind::NotFound);
        qemu(dir, "snapshot -a third image.qcow2");
        clean(dir, "image.qcow2", "QEMU applies ours");
        same("QEMU applies ours", &raw_of(dir, "image.qcow2"), &third);
        qemu(dir, "snapshot -d first image.qcow2");
        clean(dir, "image.qcow2", "QEMU deletes ours");
        qcow2::delete_snapshot(&path, "third").unwrap();
        clean(dir, "image.qcow2", "none left");
        same("none left", &raw_of(dir, "image.qcow2"), &third);
        few(dir, "image.qcow2", &[], 140 + seed as u64);
        assert!(qcow2::snapshots(&path).unwrap().is_empty());
    }
}

#[test]
fn refcounts_of_one_bit_allow_no_snapshot() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    base(dir, "base.raw", SIZE, 1);
    qemu(dir, "convert -f raw -O qcow2 -o refcount_bits=1 base.raw image.qcow2");
    let before = fs::read(dir.join("image.qcow2")).unwrap();
    let error = qcow2::create_snapshot(&dir.join("image.qcow2"), "one", NOW).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(fs::read(dir.join("image.qcow2")).unwrap() == before, "touched");
}

#[test]
fn disks_grow_and_shrink() {
    for (seed, kind) in KINDS.iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        let mut model = base(dir, "base.raw", SIZE, 200 + seed as u64);
        qemu(dir, &format!("convert -f raw -O qcow2 {kind} base.raw image.qcow2"));
        let mut step = |size: usize, shrink: bool| {
            disk::resize(&path, size as u64, shrink, &no_keys).unwrap();
            model.resize(size, 0);
            clean(dir, "image.qcow2", &format!("{kind}: {size}"));
            same(kind, &raw_of(dir, "image.qcow2"), &model);
        };
        step(SIZE + 512, false);
        step(2 * SIZE, false);
        step(SIZE + 512 * 7, true);
        step(SIZE - 300_032, true);
        step(SIZE, false);
        let error = disk::resize(&path, 512, false, &no_keys).unwrap_err();
        assert!(error.kind() == Kind::Usage && error.hint_text().unwrap().contains("shrink:true"));
        few(dir, "image.qcow2", &[], 210 + seed as u64);
    }
    // What a longer backing file has there stays hidden.
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut model = base(dir, "base.raw", SIZE, 220);
    for compat in ["0.10", "1.1"] {
        model.truncate(3_000_320);
        qemu(dir, &format!("create -q -f qcow2 -o compat={compat} -F raw -b base.raw image.qcow2 3000320"));
        disk::resize(&dir.join("image.qcow2"), 6 << 20, false, &no_keys).unwrap();
        model.resize(6 << 20, 0);
        clean(dir, "image.qcow2", "over a base");
        same("over a base", &raw_of(dir, "image.qcow2"), &model);
    }
    // From nothing to much: the L1 table grows too.
    qcow2::create(&dir.join("image.qcow2"), &CreateOptions { size: Some(0), ..Default::default() }).unwrap();
    clean(dir, "image.qcow2", "empty");
    disk::resize(&dir.join("image.qcow2"), 100 << 40, false, &no_keys).unwrap();
    clean(dir, "image.qcow2", "100 TiB");
    assert_eq!(disk::resize(&dir.join("image.qcow2"), 1 << 62, false, &no_keys).unwrap_err().kind(), Kind::FileTooBig);
    let raw = dir.join("base.raw");
    disk::resize(&raw, 7 << 20, false, &no_keys).unwrap();
    assert_eq!(fs::metadata(&raw).unwrap().len(), 7 << 20);
    assert_eq!(disk::resize(&raw, 1 << 20, false, &no_keys).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn copies_are_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    // Not a whole number of clusters, with much that is zero.
    let bytes = base(dir, "base.raw", SIZE - 66_048, 300);
    qemu(dir, "create -q -f qcow2 -F raw -b base.raw over.qcow2");
    run("qemu-io", &["-c", "write -P 5 70k 300k", "over.qcow2"], dir);
    let over = raw_of(dir, "over.qcow2");
    let options = |change: fn(&mut CreateOptions)| {
        let mut options = CreateOptions::default();
        change(&mut options);
        options
    };
    let shapes = [
        (options(|_| ()), false),
        (options(|_| ()), true),
        (options(|o| o.compression = Some("zstd".into())), true),
        (options(|o| o.compat = Some("0.10".into())), true),
        (options(|o| o.cluster_size = Some(512)), true),
        (options(|o| (o.cluster_size, o.refcount_bits) = (Some(4096), Some(1))), true),
        (options(|o| (o.cluster_size, o.refcount_bits) = (Some(2 << 20), Some(64))), true),
        (options(|o| o.subclusters = true), true),
        (options(|o| o.subclusters = true), false),
    ];
    for (number, (options, compress)) in shapes.iter().enumerate() {
        for (source, model) in [("base.raw", &bytes), ("over.qcow2", &over)] {
            let what = format!("copy {number} of {source}");
            let path = dir.join("copy.qcow2");
            convert::convert(open(dir, source).as_ref(), &path, Format::Qcow2, options, *compress).unwrap();
            clean(dir, "copy.qcow2", &what);
            qemu(dir, &format!("compare {source} copy.qcow2"));
            same(&what, &everything(open(dir, "copy.qcow2").as_ref())[..model.len()], model);
            let plain = fs::metadata(dir.join("base.raw")).unwrap().len();
            let small = options.cluster_size.is_none_or(|size| size < 1 << 20);
            assert!(!compress || !small || fs::metadata(&path).unwrap().len() < plain, "{what}: not smaller");
        }
        few(dir, "copy.qcow2", &["base.raw"], 310 + number as u64);
        convert::convert(
            open(dir, "copy.qcow2").as_ref(),
            &dir.join("back.raw"),
            Format::Raw,
            &Default::default(),
            false,
        )
        .unwrap();
        same("back", &fs::read(dir.join("back.raw")).unwrap(), &raw_of(dir, "copy.qcow2"));
    }
    // Into itself, or with options that mean nothing: refused, and nothing is left behind.
    let source = open(dir, "base.raw");
    let itself = convert::convert(source.as_ref(), &dir.join("base.raw"), Format::Qcow2, &Default::default(), false);
    assert_eq!(itself.unwrap_err().kind(), Kind::Invalid);
    let packed = convert::convert(source.as_ref(), &dir.join("new.raw"), Format::Raw, &Default::default(), true);
    assert_eq!(packed.unwrap_err().kind(), Kind::Usage);
    let left =
        fs::read_dir(dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().contains("part"));
    assert_eq!(left.count(), 0);
    same("source", &fs::read(dir.join("base.raw")).unwrap(), &bytes);
}

#[test]
fn creation_has_qemus_options() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    let size = 3 << 20;
    let create = |change: &dyn Fn(&mut CreateOptions)| {
        let mut options = CreateOptions { size: Some(size), ..Default::default() };
        change(&mut options);
        qcow2::create(&path, &options).unwrap();
        clean(dir, "image.qcow2", &format!("{options:?}"));
        assert!(raw_of(dir, "image.qcow2").iter().all(|b| *b == 0), "{options:?}");
        qemu(dir, "info image.qcow2")
    };
    for bits in [1, 2, 4, 8, 16, 32, 64] {
        let info = create(&|o| (o.refcount_bits, o.cluster_size) = (Some(bits), Some(512)));
        assert!(info.contains(&format!("refcount bits: {bits}\n")), "{info}");
        few(dir, "image.qcow2", &[], 400 + u64::from(bits));
    }
    for (change, word) in [
        (&(|o: &mut CreateOptions| o.subclusters = true) as &dyn Fn(&mut CreateOptions), "extended l2: true"),
        (&|o| o.lazy_refcounts = true, "lazy refcounts: true"),
        (&|o| o.compression = Some("zstd".into()), "compression type: zstd"),
    ] {
        let info = create(change);
        assert!(info.contains(word), "{info}");
        few(dir, "image.qcow2", &[], 420);
    }
    for kind in ["metadata", "falloc", "full"] {
        for cluster in [4096, 2 << 20] {
            create(&|o| (o.preallocation, o.cluster_size) = (Some(kind.into()), Some(cluster)));
            let map = qemu(dir, "map --output=json image.qcow2");
            assert!(map.contains("\"offset\"") && map.contains("\"present\": true"), "{kind}: {map}");
            let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512;
            assert!(
                if kind == "metadata" { cluster > 4096 || blocks < size } else { blocks >= size },
                "{kind}: {blocks}"
            );
            few(dir, "image.qcow2", &[], 430);
        }
    }
    for raw in [false, true] {
        let info = create(&|o| (o.data_file, o.data_file_raw) = (Some(dir.join("data")), raw));
        assert!(info.contains("data file:") && info.contains(&format!("data file raw: {raw}")), "{info}");
        run("qemu-io", &["-c", "write -P 7 1M 64k", "image.qcow2"], dir);
        assert_eq!(everything(open(dir, "image.qcow2").as_ref())[1 << 20], 7);
    }
}

#[test]
fn leaks_and_lying_refcounts_are_repaired() {
    for (seed, kind) in KINDS.iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        base(dir, "base.raw", SIZE, 500 + seed as u64);
        qemu(dir, &format!("convert -f raw -O qcow2 {kind} base.raw image.qcow2"));
        qemu(dir, "snapshot -c one image.qcow2");
        few(dir, "image.qcow2", &[], 510 + seed as u64);
        let bytes = raw_of(dir, "image.qcow2");
        let good = fs::read(&path).unwrap();
        let at = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap()) as usize;
        let (block, cluster) = (at(at(48)), 1usize << good[23]);
        // A leak: more references than there are. An error: fewer.
        for (fill, leaks) in [(0x22, true), (0, false)] {
            let mut bad = good.clone();
            let middle = block + cluster / 4..block + cluster / 2;
            bad[middle].fill(fill);
            if bad == good {
                continue;
            }
            fs::write(&path, &bad).unwrap();
            let report = qcow2::check(&path, false).unwrap();
            assert!(report.leaks > 0 || report.errors > 0, "{kind} {leaks}: {report:?}");
            assert!(fs::read(&path).unwrap() == bad, "a check changes nothing");
            assert!(qcow2::check(&path, true).unwrap().repaired);
            clean(dir, "image.qcow2", kind);
            same(kind, &raw_of(dir, "image.qcow2"), &bytes);
            qemu(dir, "snapshot -a one image.qcow2");
            clean(dir, "image.qcow2", "the snapshot is whole");
        }
    }
}
