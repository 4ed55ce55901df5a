//! Every shape is read, written at random beside a copy in memory, committed, and judged by `qemu-img check` and
//! `qemu-img convert`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};

use imgsh::base::Kind;
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{CreateOptions, Disk, Format};

use crate::judge::*;

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
fn described_backing_files() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    base(dir, "base.raw", SIZE, 61);
    qemu(dir, "convert -f raw -O qcow2 base.raw base.qcow2");
    base(dir, "odd.raw", 1_234_567, 62);
    let inside = fs::read(dir.join("base.qcow2")).unwrap();
    fs::write(dir.join("archive"), [&[7; 1536], inside.as_slice(), &[7; 4096]].concat()).unwrap();
    for (seed, (format, backing)) in [
        ("raw", r#"json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}"#),
        ("qcow2", r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}"#),
        ("qcow2", r#"json:{"driver":"qcow2","file.driver":"file","file.filename":"base.qcow2"}"#),
        ("qcow2", r#"json:{"driver":"qcow2","file":{"driver":"raw","file":{"driver":"file","filename":"base.qcow2","locking":"off"}}}"#),
        // Parts of files: not on a sector, one in the other, up to an end that is not on one, an image in an archive.
        ("raw", r#"json:{"driver":"raw","offset":77777,"size":"3M","file.filename":"base.raw"}"#),
        ("raw", r#"json:{"driver":"raw","offset":300,"file":{"driver":"raw","offset":1000,"size":2048000,"file.filename":"base.raw"}}"#),
        ("raw", r#"json:{"driver":"raw","offset":99999,"file.filename":"odd.raw"}"#),
        ("qcow2", r#"json:{"driver":"qcow2","file":{"driver":"raw","offset":1536,"size":INSIDE,"file.filename":"archive"}}"#),
    ]
    .into_iter()
    .enumerate()
    {
        qemu(dir, "create -q -f qcow2 image.qcow2 5M");
        let backing = backing.replace("INSIDE", &inside.len().to_string());
        qemu(dir, &format!("rebase -u -F {format} -b {backing} image.qcow2"));
        few(dir, "image.qcow2", &["base.raw", "base.qcow2", "odd.raw", "archive"], 500 + seed as u64);
    }
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
fn subclusters() {
    for (seed, options) in ["cluster_size=16k", "", "cluster_size=2M", "refcount_bits=64"].iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        base(dir, "base.raw", SIZE, 19);
        let comma = if options.is_empty() { "" } else { "," };
        qemu(dir, &format!("create -q -f qcow2 -o extended_l2=on{comma}{options} -F raw -b base.raw sub.qcow2 6M"));
        run(
            "qemu-io",
            &["-c", "write -P 7 5k 3k", "-c", "write -z 300k 9k", "-c", "write -P 9 2M 1M", "sub.qcow2"],
            dir,
        );
        qemu(dir, "snapshot -c one sub.qcow2");
        let one = raw_of(dir, "sub.qcow2");
        rounds(dir, "sub.qcow2", &["base.raw"], 40 + seed as u64);
        qemu(dir, "convert -l one -O raw sub.qcow2 one.raw");
        same("snapshot", &fs::read(dir.join("one.raw")).unwrap(), &one);
        // QEMU goes on where we stopped.
        run("qemu-io", &["-c", "write -P 3 1000k 77k", "-c", "write -z 64k 200k", "sub.qcow2"], dir);
        rounds(dir, "sub.qcow2", &["base.raw"], 50 + seed as u64);
        plain(&format!("extended_l2=on{comma}{options}"), "-c", 60 + seed as u64);
    }
}

/// What is data, zero or not here in the image itself: start, length, whether it is data.
fn own_parts(dir: &std::path::Path, image: &str) -> Vec<(u64, u64, bool)> {
    let map = qemu(dir, &format!("map --output=json {image}"));
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\": ")).unwrap();
        rest.split([',', '}']).next().unwrap().to_string()
    };
    let own = map.lines().filter(|line| field(line, "depth") == "0");
    own.map(|line| {
        let number = |name| field(line, name).parse().unwrap();
        (number("start"), number("length"), field(line, "data") == "true")
    })
    .collect()
}

/// A small write leaves the other subclusters of its cluster where they were: in the base, as zeros, in the old cluster.
#[test]
fn only_subclusters_that_are_written_get_data() {
    const M: u64 = 1 << 20;
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut model = vec![5; 6 << 20];
    fs::write(dir.join("base.raw"), &model).unwrap();
    let external = format!(",data_file={}", dir.join("data").display());
    for option in ["", &external] {
        qemu(
            dir,
            &format!("create -q -f qcow2 -o extended_l2=on,cluster_size=128k{option} -F raw -b base.raw sub.qcow2"),
        );
        model.fill(5);
        let mut lay = |at: u64, bytes: &[u8]| model[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        let disk = Qcow2::open(&dir.join("sub.qcow2"), false).unwrap();
        // Parts of three subclusters of 4 KiB, written ahead, two of them in the cluster that is there already.
        for at in [M + 5000, M + 20_000, M + 6000, 3 * M - 100] {
            disk.write_fresh(at, &[7; 200]).unwrap();
            lay(at, &[7; 200]);
        }
        let changes = [
            (M + 5100, Edit::Data(vec![9; 20])),
            (2 * M + 4096, Edit::Zero(8192)),
            (4 * M + 10_000, Edit::Data(vec![8; 3000])),
        ];
        lay(M + 5100, &[9; 20]);
        lay(2 * M + 4096, &[0; 8192]);
        lay(4 * M + 10_000, &[8; 3000]);
        disk.commit(&Edits(changes.into())).unwrap();
        disk.commit(&Edits(vec![(2 * M, Edit::Data(vec![6; 100]))])).unwrap();
        lay(2 * M, &[6; 100]);
        drop(disk);
        let own = own_parts(dir, "sub.qcow2");
        let zeros = own.iter().filter(|(.., data)| !data).map(|(start, len, _)| (*start, *len)).collect::<Vec<_>>();
        let data = own.iter().filter(|(.., data)| *data).map(|(start, len, _)| (*start, *len)).collect::<Vec<_>>();
        let expected =
            [(M + 4096, 4096), (M + 16_384, 4096), (2 * M, 4096), (3 * M - 4096, 8192), (4 * M + 8192, 8192)];
        if option.is_empty() {
            assert_eq!((data, zeros), (expected.to_vec(), vec![(2 * M + 4096, 8192)]));
        }
        assert!(qemu(dir, "check sub.qcow2").contains("No errors"));
        same(option, &raw_of(dir, "sub.qcow2"), &model);
    }
}

#[test]
fn data_files() {
    for (seed, options) in
        ["data_file_raw=on", "data_file_raw=off", "data_file_raw=off,extended_l2=on"].iter().enumerate()
    {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        base(dir, "base.raw", SIZE, 19);
        // QEMU takes the name from its working folder, we from that of the image: an absolute one is the same for both.
        let file = dir.join("ext.data");
        let name = format!("data_file={},{options}", file.display());
        qemu(dir, &format!("convert -f raw -O qcow2 -o {name} base.raw ext.qcow2"));
        some_rounds(dir, "ext.qcow2", &["base.raw"], 150 + seed as u64, 0..5, false);
        let raw = options.contains("raw=on");
        assert!(qemu(dir, "info ext.qcow2").contains(&format!("data file raw: {raw}")));
        if raw {
            same("the data file itself", &fs::read(&file).unwrap(), &raw_of(dir, "ext.qcow2"));
        } else {
            fs::remove_file(&file).unwrap();
            qemu(dir, &format!("create -q -f qcow2 -o {name} -F raw -b base.raw ext.qcow2 6M"));
            run("qemu-io", &["-c", "write -P 5 1M 3k", "-c", "write -z 2M 100k", "ext.qcow2"], dir);
            some_rounds(dir, "ext.qcow2", &["base.raw"], 160 + seed as u64, 0..5, false);
        }
        // Ahead of the commit, to a place that nothing uses yet; then given up: zeros or the base are there again.
        qemu(
            dir,
            "create -q -f qcow2 -o data_file=DATA,data_file_raw=off new.qcow2 3M"
                .replace("DATA", &format!("{}.2", file.display()))
                .as_str(),
        );
        let disk = Qcow2::open(&dir.join("new.qcow2"), false).unwrap();
        disk.write_fresh(1_000_000, &[7; 90_000]).unwrap();
        disk.abandon().unwrap();
        assert!(everything(&disk).iter().all(|b| *b == 0));
        disk.write_fresh(1_000_000, &[7; 90_000]).unwrap();
        disk.commit(&Edits(vec![(2_000_000, Edit::Data(vec![8; 10_000]))])).unwrap();
        drop(disk);
        let bytes = raw_of(dir, "new.qcow2");
        assert_eq!((bytes[999_999], bytes[1_000_000], bytes[1_089_999], bytes[2_009_999]), (0, 7, 7, 8));
        assert!(qemu(dir, "check new.qcow2").contains("No errors"));
        let disk = Qcow2::open(&dir.join("ext.qcow2"), false).unwrap();
        let kept = disk.commit_keeping(&Edits(Vec::new()), "x", imgsh::base::Timestamp::from_seconds(0));
        assert_eq!(kept.unwrap_err().kind(), Kind::Unsupported);
    }
}

/// An image can name any file as its data file. One outside its folder is read; written only through a link beside the image.
#[test]
fn data_files_elsewhere_are_only_read() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("images");
    fs::create_dir(&folder).unwrap();
    let outside = temp.path().join("outside");
    qemu(&folder, &format!("create -q -f qcow2 -o data_file={},data_file_raw=on image.qcow2 1M", outside.display()));
    run("qemu-io", &["-c", "write -P 5 0 64k", "image.qcow2"], &folder);
    let before = fs::read(&outside).unwrap();
    let image = folder.join("image.qcow2");
    for name in ["../outside".to_string(), outside.display().to_string()] {
        qemu(&folder, &format!("amend -f qcow2 -o data_file={name} image.qcow2"));
        let disk = Qcow2::open(&image, false).unwrap();
        assert!(everything(&disk).starts_with(&[5; 65536]), "{name}");
        let error = disk.commit(&Edits(vec![(0, Edit::Data(vec![8; 4096]))])).unwrap_err();
        assert_eq!(error.kind(), Kind::ReadOnly, "{name}: {error}");
        assert_eq!(disk.write_fresh(500_000, &[8; 4096]).unwrap_err().kind(), Kind::ReadOnly, "{name}");
    }
    assert!(before == fs::read(&outside).unwrap());
    std::os::unix::fs::symlink("../outside", folder.join("link")).unwrap();
    qemu(&folder, "amend -f qcow2 -o data_file=link image.qcow2");
    let disk = Qcow2::open(&image, false).unwrap();
    disk.commit(&Edits(vec![(0, Edit::Data(vec![8; 4096]))])).unwrap();
    drop(disk);
    assert!(fs::read(&outside).unwrap().starts_with(&[8; 4096]));
}

/// Sets the dirty bit and zeroes the refcounts of everything past the first clusters: what a program with lazy refcounts
/// leaves when it dies.
fn die_dirty(path: &std::path::Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[79] |= 1;
    let at = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let block = at(&bytes, at(&bytes, 48));
    bytes[block + 2 * 8..block + 2 * 40].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn dirty_images_are_counted_anew() {
    for (seed, options) in
        ["lazy_refcounts=on", "lazy_refcounts=on,cluster_size=4k", "lazy_refcounts=on,extended_l2=on"]
            .iter()
            .enumerate()
    {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        base(dir, "base.raw", SIZE, 70);
        qemu(dir, &format!("convert -f raw -O qcow2 -o {options} base.raw image.qcow2"));
        die_dirty(&dir.join("image.qcow2"));
        let report = qcow2::check(&dir.join("image.qcow2"), false).unwrap();
        assert!(report.marked && report.errors > 10, "{report:?}");
        rounds(dir, "image.qcow2", &[], 71 + seed as u64);
        let info = qemu(dir, "info image.qcow2");
        assert!(info.contains("lazy refcounts: true") && info.contains("corrupt: false"), "{info}");
        assert_eq!(fs::read(dir.join("image.qcow2")).unwrap()[79] & 1, 0, "still dirty");
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

/// What was made zeros is not in the file any more; space that was replaced is used again.
#[test]
fn zeros_give_space_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    fs::write(dir.join("base.raw"), b"a secret text".repeat(100_000)).unwrap();
    qemu(dir, "convert -f raw -O qcow2 base.raw image.qcow2");
    let disk = Qcow2::open(&path, false).unwrap();
    disk.commit(&Edits(vec![(0, Edit::Zero(disk.len()))])).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(13).any(|window| window == b"a secret text"));
    for round in 0..20 {
        disk.commit(&Edits(vec![(70_000, Edit::Data(vec![round + 1; 90_000]))])).unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() < 2 << 20, "freed clusters are not used again");
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
    assert_eq!(with(|o| o.preallocation = Some("none".into())).kind(), Kind::Usage);
    assert_eq!(with(|o| o.refcount_bits = Some(3)).kind(), Kind::Usage);
    assert_eq!(with(|o| (o.subclusters, o.cluster_size) = (true, Some(4096))).kind(), Kind::Usage);
    assert_eq!(with(|o| o.compression = Some("lzo".into())).kind(), Kind::Usage);
    assert_eq!(with(|o| (o.lazy_refcounts, o.compat) = (true, Some("0.10".into()))).kind(), Kind::Usage);
    assert_eq!(with(|o| o.data_file_raw = true).kind(), Kind::Usage);
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
        [("nbd://host/disk", Kind::Unsupported), ("json:{}", Kind::Corrupt), (".", Kind::IsADirectory)]
    {
        qemu(dir, &format!("rebase -u -F raw -b {backing} one.qcow2"));
        assert_eq!(open("one.qcow2").0, kind, "{backing}");
    }
    let pipe = r#"json:{"driver":"raw","file":{"driver":"file","filename":"pipe"}}"#;
    run("mkfifo", &["pipe"], dir);
    for backing in ["pipe", pipe] {
        qemu(dir, &format!("rebase -u -F raw -b {backing} one.qcow2"));
        assert_eq!(open("one.qcow2").0, Kind::Invalid);
    }
    let nbd = r#"json:{"driver":"raw","file":{"driver":"nbd","host":"h"}}"#;
    qemu(dir, &format!("rebase -u -F raw -b {nbd} one.qcow2"));
    let (kind, text) = open("one.qcow2");
    assert!(kind == Kind::Unsupported && text.contains("one.qcow2") && text.contains("driver nbd"), "{text}");
    let itself = r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"one.qcow2"}}"#;
    qemu(dir, &format!("rebase -u -F qcow2 -b {itself} one.qcow2"));
    let (kind, text) = open("one.qcow2");
    assert!(kind == Kind::Corrupt && text.contains("loops"), "{text}");
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
