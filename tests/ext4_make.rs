//! `mkfs` for ext2, ext3 and ext4 against mke2fs: same geometry, clean for e2fsck.

mod oracle;

use std::path::{Path, PathBuf};

use imgsh::base::{Kind, Timestamp, Uuid};
use imgsh::disk::BlockDevice;
use imgsh::fs::{MakeOptions, ext4};
use oracle::{Sparse, assert_clean, run};

const UUID: &str = "00010203-0405-4607-8809-0a0b0c0d0e0f";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn options(fs_type: &str) -> MakeOptions {
    let uuid = Uuid::parse(UUID).unwrap();
    let now = Timestamp::from_seconds(1_700_000_000);
    MakeOptions { fs_type: fs_type.to_string(), uuid, seed: uuid.0, now, ..MakeOptions::default() }
}

/// The lines of dumpe2fs that tell the geometry: all but places of files, checksums and lifetime writes.
fn geometry(image: &Path) -> Vec<String> {
    let differ = ["Lifetime writes", "Checksum:", "  Free blocks:", "    mmp_update", "    mmp_node", "    mmp_device"];
    let text = run("dumpe2fs", &[image.to_str().unwrap()]);
    let lines = text.lines().filter(|line| !differ.iter().any(|d| line.starts_with(d)));
    lines.map(|line| line.split(" csum ").next().unwrap().split(", csum").next().unwrap().to_string()).collect()
}

/// Makes one with ours, which must be clean, and one with mke2fs.
fn twins(dir: &Path, size: u64, fs_type: &str, extra: &[&str]) -> (PathBuf, PathBuf) {
    let what = format!("{fs_type} {size} {extra:?}");
    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    let mut options = options(fs_type);
    let mut words = extra.iter();
    while let Some(word) = words.next() {
        let value = words.next().unwrap();
        match *word {
            "-b" => options.block_size = value.parse().ok(),
            "-I" => options.inode_size = value.parse().ok(),
            "-L" => options.label = Some(value.to_string()),
            "-O" => options.features = Some(value.to_string()),
            "-g" => options.ext.blocks_per_group = value.parse().ok(),
            "-G" => options.ext.flex_groups = value.parse().ok(),
            "-i" => options.ext.bytes_per_inode = value.parse().ok(),
            "-N" => options.ext.inodes = value.parse().ok(),
            "-T" => options.ext.usage = Some(value.to_string()),
            "-J" => options.ext.journal_size = value.strip_prefix("size=").unwrap().parse().ok(),
            "-E" => match value.split_once('=').unwrap() {
                ("stride", n) => options.ext.stride = n.parse().ok(),
                ("stripe_width", n) => options.ext.stripe_width = n.parse().ok(),
                ("resize", n) => options.ext.grows_to = n.parse().ok(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other}"),
        }
    }
    let device = Sparse::new(size);
    ext4::make(&device.device(), &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    device.save(&ours);
    assert_clean(&ours, &what);
    std::fs::File::create(&theirs).unwrap().set_len(size).unwrap();
    let seed = format!("hash_seed={UUID}");
    // The last -E counts alone.
    let extended: Vec<&str> =
        extra.chunks(2).filter(|pair| pair[0] == "-E").map(|pair| pair[1]).chain([seed.as_str()]).collect();
    let extended = extended.join(",");
    let mut args = vec!["-q", "-F", "-t", fs_type, "-U", UUID];
    args.extend(extra);
    args.extend(["-E", &extended]);
    args.push(theirs.to_str().unwrap());
    run("mke2fs", &args);
    (ours, theirs)
}

/// Makes one with ours and one with mke2fs; answers the first lines of their geometry that differ.
fn compare(dir: &Path, size: u64, fs_type: &str, extra: &[&str]) -> Vec<String> {
    let what = format!("{fs_type} {size} {extra:?}");
    let (ours, theirs) = twins(dir, size, fs_type, extra);
    let (ours, theirs) = (geometry(&ours), geometry(&theirs));
    let mut differences: Vec<String> =
        ours.iter().zip(&theirs).filter(|(a, b)| a != b).map(|(a, b)| format!("{what}: {a} <> {b}")).collect();
    if ours.len() != theirs.len() {
        differences.push(format!("{what}: {} and {} lines", ours.len(), theirs.len()));
    }
    differences.truncate(12);
    differences
}

/// Byte for byte the same, but for the kilobytes that mke2fs says it has written, and the checksum over them.
#[test]
fn images_are_those_of_mke2fs() {
    let dir = oracle::scratch();
    let grid: &[(&str, &[&str])] = &[
        ("ext4", &[]),
        ("ext4", &["-b", "2048", "-O", "metadata_csum_seed,orphan_file", "-L", "sixteen letters!"]),
        ("ext4", &["-O", "^metadata_csum,uninit_bg", "-I", "128"]),
        ("ext4", &["-O", "^flex_bg,^has_journal"]),
        ("ext4", &["-O", "verity,encrypt,casefold,sparse_super2,project"]),
        ("ext4", &["-O", "meta_bg,^resize_inode"]),
        ("ext3", &[]),
        ("ext2", &[]),
    ];
    for (fs_type, extra) in grid {
        let (ours, theirs) = twins(dir.path(), 64 * MIB, fs_type, extra);
        let (ours, theirs) = (std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap());
        let block = if extra.contains(&"2048") { 2048 } else { 1024 };
        // A copy of the superblock may begin any group; group 0's is at 1024, in blocks of 1024 the others too.
        let group = 8 * block * block;
        let base = if block == 1024 { 1024 } else { 0 };
        let excused = |at: usize| {
            let inside = if at < group { at.wrapping_sub(1024) } else { (at - base) % group };
            (0x178..0x180).contains(&inside) || (0x3fc..0x400).contains(&inside)
        };
        let wrong: Vec<usize> = (0..ours.len()).filter(|at| ours[*at] != theirs[*at] && !excused(*at)).collect();
        let first: Vec<String> = wrong.iter().take(20).map(|at| format!("{at:#x}")).collect();
        assert!(wrong.is_empty(), "{fs_type} {extra:?}: {} bytes differ: {first:?}", wrong.len());
    }
}

#[test]
fn sizes_that_are_asked_for_are_those_of_mke2fs() {
    let dir = oracle::scratch();
    let grid: &[(u64, &str, &[&str])] = &[
        (GIB, "ext4", &["-N", "1000"]),
        (GIB, "ext4", &["-N", "200000", "-b", "1024"]),
        (64 * MIB, "ext2", &["-N", "128"]),
        (GIB, "ext4", &["-i", "8192"]),
        (GIB, "ext3", &["-i", "65536"]),
        (GIB, "ext4", &["-i", "1048576", "-I", "128"]),
        (GIB, "ext4", &["-J", "size=4"]),
        (GIB, "ext4", &["-J", "size=400"]),
        (GIB, "ext3", &["-J", "size=16", "-b", "1024"]),
        (GIB, "ext4", &["-G", "1"]),
        (GIB, "ext4", &["-G", "4"]),
        (3 * GIB, "ext4", &["-G", "64"]),
        (GIB, "ext4", &["-E", "stride=16", "-E", "stripe_width=64"]),
        (GIB, "ext4", &["-E", "resize=1000000"]),
        (GIB, "ext4", &["-E", "resize=40000000"]),
        (GIB, "ext4", &["-T", "news"]),
        (100 * MIB, "ext4", &["-T", "small"]),
        (GIB, "ext4", &["-T", "largefile"]),
        (3 * GIB, "ext4", &["-T", "largefile4"]),
        (64 * MIB, "ext2", &["-T", "huge"]),
        (64 * MIB, "ext3", &["-T", "floppy"]),
        (GIB, "ext4", &["-g", "8192"]),
        (GIB, "ext4", &["-g", "16384", "-G", "8"]),
        (200 * MIB, "ext2", &["-g", "4096", "-b", "1024"]),
        (GIB, "ext4", &["-O", "large_dir,ea_inode,stable_inodes"]),
    ];
    let differences: Vec<String> =
        grid.iter().flat_map(|(size, fs_type, extra)| compare(dir.path(), *size, fs_type, extra)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // Smaller groups for more inodes; their tables lie elsewhere.
    let (ours, theirs) = twins(dir.path(), GIB, "ext4", &["-i", "2048"]);
    let sizes = |image: &Path| {
        let lines = geometry(image).into_iter().take_while(|line| !line.starts_with("Group 0"));
        lines.filter(|line| !line.starts_with("Reserved block count")).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&ours), sizes(&theirs));
}

#[test]
fn geometry_is_that_of_mke2fs() {
    let dir = oracle::scratch();
    let grid: &[(u64, &str, &[&str])] = &[
        (16 * MIB, "ext4", &[]),
        (64 * MIB, "ext4", &["-L", "a label"]),
        (100 * MIB + 3 * KIB, "ext4", &[]),
        (512 * MIB, "ext4", &[]),
        (GIB, "ext4", &["-O", "metadata_csum_seed,orphan_file"]),
        (3 * GIB, "ext4", &[]),
        (20 * GIB, "ext4", &[]),
        (256 * MIB, "ext4", &["-b", "4096"]),
        (600 * MIB, "ext4", &["-b", "1024"]),
        (GIB, "ext4", &["-b", "2048", "-I", "512"]),
        (GIB, "ext4", &["-O", "^has_journal"]),
        (GIB, "ext4", &["-O", "^64bit"]),
        (GIB, "ext4", &["-O", "^metadata_csum"]),
        (GIB, "ext4", &["-O", "^metadata_csum,uninit_bg"]),
        (GIB, "ext4", &["-O", "^flex_bg"]),
        (GIB, "ext4", &["-O", "^resize_inode"]),
        (GIB, "ext4", &["-I", "128"]),
        (64 * MIB, "ext4", &["-O", "^extent,^64bit"]),
        (16 * MIB, "ext3", &[]),
        (GIB, "ext3", &[]),
        (600 * MIB, "ext3", &["-b", "1024"]),
        (8 * MIB, "ext2", &[]),
        (GIB, "ext2", &[]),
        (GIB, "ext2", &["-O", "none,filetype", "-b", "2048"]),
        (64 * MIB + 60 * KIB, "ext2", &[]),
        (16_420 * KIB, "ext4", &[]),
        (8_400 * KIB, "ext2", &[]),
    ];
    let differences: Vec<String> =
        grid.iter().flat_map(|(size, fs_type, extra)| compare(dir.path(), *size, fs_type, extra)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Features that few ask for, with the blocks and inodes that they take.
#[test]
fn rare_features_are_laid_out_as_by_mke2fs() {
    let dir = oracle::scratch();
    let grid: &[(u64, &str, &[&str])] = &[
        (64 * MIB, "ext4", &["-O", "mmp"]),
        (256 * MIB, "ext4", &["-O", "mmp,metadata_csum_seed", "-b", "4096"]),
        (GIB, "ext4", &["-O", "quota"]),
        (64 * MIB, "ext4", &["-O", "quota,project"]),
        (64 * MIB, "ext4", &["-O", "quota,project,mmp,orphan_file"]),
        (64 * MIB, "ext2", &["-O", "quota", "-b", "2048"]),
        (64 * MIB, "ext3", &["-O", "quota,project,mmp"]),
        (16 * MIB, "ext4", &["-O", "sparse_super2"]),
        (24 * MIB, "ext4", &["-O", "sparse_super2"]),
        (3 * GIB, "ext4", &["-O", "sparse_super2,^resize_inode"]),
        (600 * MIB, "ext2", &["-O", "sparse_super2", "-b", "1024"]),
        (64 * MIB, "ext4", &["-O", "inline_data", "-b", "2048"]),
        (GIB, "ext4", &["-O", "inline_data"]),
        (512 * MIB, "ext4", &["-O", "meta_bg,^resize_inode", "-b", "1024"]),
        (20 * GIB, "ext4", &["-O", "meta_bg,^resize_inode"]),
        (GIB, "ext2", &["-O", "meta_bg,^resize_inode", "-b", "1024"]),
        (GIB, "ext3", &["-O", "meta_bg,^resize_inode,sparse_super2", "-b", "1024"]),
        (GIB, "ext4", &["-O", "meta_bg,^resize_inode,^flex_bg", "-b", "1024"]),
        (GIB, "ext4", &["-O", "verity,encrypt,casefold,stable_inodes"]),
        (60 * GIB, "ext4", &["-O", "bigalloc", "-b", "4096"]),
    ];
    let differences: Vec<String> =
        grid.iter().flat_map(|(size, fs_type, extra)| compare(dir.path(), *size, fs_type, extra)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Sizes where mke2fs leaves gaps, rounds or places a block differently; ours need only be right.
#[test]
fn other_sizes_are_clean() {
    let dir = oracle::scratch();
    let image = dir.path().join("image");
    let grid: &[(u64, &str, Option<u32>)] = &[
        (64 * KIB, "ext4", None),
        (256 * KIB, "ext4", None),
        (MIB, "ext4", None),
        (MIB + 512, "ext2", None),
        (8 * MIB, "ext4", Some(4096)),
        (16_388 * KIB, "ext4", None),
        (130 * MIB + 4 * KIB, "ext3", Some(4096)),
        (200 * GIB, "ext4", None),
    ];
    for (size, fs_type, block_size) in grid {
        let what = format!("{fs_type} {size} {block_size:?}");
        let device = Sparse::new(*size);
        let options = MakeOptions { block_size: *block_size, ..options(fs_type) };
        ext4::make(&device.device(), &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(device.kept() < 8 * MIB + size / 1000, "{what}: {} bytes", device.kept());
        device.save(&image);
        assert_clean(&image, &what);
    }
}

/// Old content must not shine through: tables and journal are made zero, marks of other formats go.
#[test]
fn used_devices_are_clean() {
    let dir = oracle::scratch();
    let image = dir.path().join("image");
    for fs_type in ["ext2", "ext3", "ext4"] {
        let device = Sparse::new(24 * MIB);
        device.write_at(0, &vec![0xa5; 24 * MIB as usize]).unwrap();
        ext4::make(&device.device(), &options(fs_type)).unwrap();
        device.save(&image);
        assert_clean(&image, fs_type);
        let mut front = [1; 1024];
        device.read_at(0, &mut front).unwrap();
        assert_eq!(front, [0; 1024]);
        let found = ext4::probe(device.as_ref()).unwrap().unwrap();
        assert_eq!((found.fs_type.as_str(), found.uuid.as_str()), (fs_type, UUID));
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    let refused = |size: u64, change: &dyn Fn(&mut MakeOptions)| {
        let device = Sparse::new(size);
        let mut options = options("ext4");
        change(&mut options);
        let error = ext4::make(&device.device(), &options).expect_err(&format!("{options:?}"));
        assert_eq!(device.kept(), 0, "{error}");
        (error.kind(), error.to_string())
    };
    for size in [0, 512, 4 * KIB, 16 * KIB] {
        let (kind, text) = refused(size, &|_| {});
        assert_eq!(kind, Kind::NoSpace, "{text}");
    }
    assert_eq!(refused(GIB, &|o| o.block_size = Some(3000)).0, Kind::Unsupported);
    assert_eq!(refused(GIB, &|o| o.inode_size = Some(200)).0, Kind::Invalid);
    assert_eq!(refused(GIB, &|o| o.inode_size = Some(8192)).0, Kind::Invalid);
    assert_eq!(refused(GIB, &|o| o.sector_size = Some(512)).0, Kind::Unsupported);
    assert_eq!(refused(GIB, &|o| o.label = Some("seventeen letters".to_string())).0, Kind::Invalid);
    assert_eq!(refused(20_000 * GIB, &|_| {}).0, Kind::Unsupported);
    for change in [
        &(|o: &mut MakeOptions| o.ext.inodes = Some(0)) as &dyn Fn(&mut MakeOptions),
        &|o| o.ext.inodes = Some(u32::MAX),
        &|o| o.ext.bytes_per_inode = Some(100),
        &|o| o.ext.blocks_per_group = Some(0),
        &|o| o.ext.blocks_per_group = Some(65_536),
        &|o| o.ext.flex_groups = Some(0),
        &|o| o.ext.flex_groups = Some(12),
        &|o| o.ext.journal_size = Some(1),
        &|o| o.ext.grows_to = Some(5),
        &|o| o.ext.usage = Some("nonsense".to_string()),
    ] {
        let (kind, text) = refused(GIB, change);
        assert_eq!(kind, Kind::Invalid, "{text}");
    }
    assert_eq!(refused(GIB, &|o| o.ext.journal_size = Some(600)).0, Kind::NoSpace);
    for word in ["snapshot", "nonsense"] {
        let (kind, text) = refused(GIB, &|o| o.features = Some(format!("has_journal,{word}")));
        assert_eq!(kind, Kind::Unsupported);
        assert!(text.contains(word), "{text}");
    }
    for (features, word) in [("project", "project"), ("quota,project", "project"), ("inline_data", "inline_data")] {
        let (kind, text) = refused(GIB, &|o| {
            o.features = Some(features.to_string());
            o.inode_size = Some(128);
        });
        assert!(kind == Kind::Invalid && text.contains(&format!("'{word}'")), "{text}");
    }
    let (kind, text) = refused(GIB, &|o| o.features = Some("meta_bg".to_string()));
    assert!(kind == Kind::Invalid && text.contains("'meta_bg' and 'resize_inode'"), "{text}");
}
