//! EROFS, read: images that mkfs.erofs makes of a folder, of every layout that it knows, compared with the folder and with what Linux
//! shows of them; and damaged ones.

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use imgsh::base::{Kind, Result, Timestamp};
use imgsh::fs::{self, FileSystem, Stored};
use oracle::folder::{Node, fill, on_host, walk, walk_damaged_copies};
use oracle::guest::noise;
use oracle::kernel::judge_reading;
use oracle::tree::through_trait;
use oracle::{Random, Sparse, run, scratch, tool};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// The folder that the drivers' tests share, and what packs well, badly and in turn.
fn folder() -> tempfile::TempDir {
    let dir = scratch();
    let root = dir.path();
    fill(root);
    // mkfs.erofs 1.5 cannot have it.
    std::fs::remove_file(root.join("n".repeat(255))).unwrap();
    std::fs::hard_link(root.join("large"), root.join("a/large-again")).unwrap();
    let hollow = std::fs::File::create(root.join("hollow")).unwrap();
    hollow.set_len(3 << 20).unwrap();
    hollow.write_all_at(b"in the middle", 1 << 20).unwrap();
    std::fs::write(root.join("text"), "words that pack well\n".repeat(40_000)).unwrap();
    let turns: Vec<u8> = (0..60)
        .flat_map(|i| match i % 3 {
            0 => noise(9_000 + i as usize * 131, i),
            1 => b"abcdefgh".repeat(1000 + i as usize * 37),
            _ => noise(700, i).into_iter().flat_map(|byte| [byte & 15; 11]).collect(),
        })
        .collect();
    std::fs::write(root.join("turns"), turns).unwrap();
    std::fs::write(root.join("two-blocks"), noise(8192, 9)).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    for (path, name) in [("large", "user.one"), ("large", "user.two"), ("etc/page", "user.one"), ("many", "user.dir")] {
        let path = root.join(path);
        assert_eq!(tool("setfattr", &["-n", name, "-v", "a value", path.to_str().unwrap()]).0, 0);
    }
    dir
}

/// The program that makes images: that of the variable MKFS_EROFS, where it is set.
fn mkfs() -> String {
    std::env::var("MKFS_EROFS").unwrap_or_else(|_| "mkfs.erofs".into())
}

fn image(root: &Path, options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    // With chunks mkfs.erofs copies from where it keeps temporary files, which must be the same file system.
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    run(&mkfs(), &[&["--quiet", "-U", UUID], options, &[image.to_str().unwrap(), root.to_str().unwrap()]].concat());
    (dir, image)
}

fn open(image: &[u8]) -> Result<Box<dyn FileSystem>> {
    fs::open(Sparse::from_bytes(image).device())
}

/// What mkfs.erofs 1.5 can write.
const KINDS: &[&str] = &[
    "",
    "-x1",
    "--chunksize=4096 -Eforce-inode-extended",
    "--chunksize=65536 -Eforce-chunk-indexes",
    "-zlz4",
    "-zlz4hc,12 -C65536",
    "-zlz4hc -Eztailpacking -C16384",
    "-zlz4hc -Eztailpacking",
    "-zlz4 -Elegacy-compress",
];
/// What 1.9 can write beside that.
const NEWER: &[&str] = &[
    "-b1024 -zlz4",
    "-zlzma",
    "-zlzma,level=9 -C65536 -Eztailpacking",
    "-zdeflate,level=9 -Efragments",
    "-zlibdeflate,level=12 -C32768 -Eztailpacking,legacy-compress",
    "-zzstd -C65536 -Eall-fragments",
    "-zzstd,level=19 -Efragments,ztailpacking -C16384",
    "-zlz4hc -Ededupe",
    "-zlzma -Ededupe,fragments -C65536",
    "-zdeflate -Ededupe",
    "-zzstd -Ededupe -C16384",
    "-zlz4 --zD -Efragments",
    "--xattr-prefix=user.o --xattr-prefix=user.",
    "-zlz4hc --xattr-prefix=user.o -Eall-fragments",
    "-E48bit",
    "-zzstd -E48bit -C65536",
    "-zlzma -E48bit,fragments,dedupe --xattr-prefix=user.o",
    "-zlz4 -E48bit --max-extent-bytes=65536",
    "-zzstd -m4096",
    "-zlzma -C16384 --MZ=i -m16384:0 -Efragments --xattr-prefix=user.o",
    "--MZ -x1",
];

/// Compares an image with the folder that it was made of and with what Linux shows of it.
fn judge(image: &Path, root: &Path, what: &str) {
    let mut wanted = BTreeMap::new();
    on_host(root, "", &mut wanted);
    let device = Sparse::load(image);
    let mut fs = fs::open(device.device()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut found = BTreeMap::new();
    walk(fs.as_ref(), fs.root(), "", &mut found).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (path, node) in &wanted {
        assert!(found.get(path) == Some(node), "{what}: {path}");
    }
    assert_eq!(found.len(), wanted.len(), "{what}");
    fs.reload().unwrap();
    let tree = through_trait(fs.as_ref());
    assert_eq!(tree[b"/a/large-again".as_slice()].links, 2);
    assert_eq!(tree[b"/large".as_slice()].xattrs.len(), 2);
    assert_eq!(tree[b"/etc/page".as_slice()].xattrs, [(b"user.one".to_vec(), b"a value".to_vec())]);
    judge_reading(image, "erofs", &tree, what);
    let text = std::fs::read(root.join("turns")).unwrap();
    let node = fs.lookup(fs.root(), b"turns").unwrap().unwrap();
    let mut random = Random(7);
    for _ in 0..200 {
        let at = random.below(text.len() as u64) as usize;
        let mut buf = vec![0; random.below(100_000) as usize];
        let got = fs.read(node, at as u64, &mut buf).unwrap();
        assert!(got == buf.len().min(text.len() - at) && buf[..got] == text[at..][..got], "{what}");
    }
    let bytes = device.bytes();
    for segment in fs.layout(node).unwrap() {
        if let Stored::Data(at) = segment.stored {
            let wanted = &text[segment.offset as usize..][..segment.len as usize];
            assert!(bytes[at as usize..][..wanted.len()] == *wanted, "{what}: {segment:?}");
        }
    }
    let segments = fs.layout(node).unwrap();
    let packed = segments.iter().any(|segment| matches!(segment.stored, Stored::Compressed { .. }));
    assert_eq!(packed, what.contains("-z") && !what.contains("all-fragments"), "{what}");
}

fn made(root: &Path, options: &str) -> (tempfile::TempDir, PathBuf) {
    image(root, &options.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn folders_are_read_as_they_are() {
    let dir = folder();
    for options in KINDS {
        let (_keep, image) = made(dir.path(), options);
        judge(&image, dir.path(), options);
    }
    if !tool(&mkfs(), &["--help"]).1.contains("--MZ") {
        return println!("skipped: mkfs.erofs is older than 1.9, only the images in tests/erofs are looked at");
    }
    for options in NEWER {
        // By itself it keeps no times of single files.
        let (_keep, image) = made(dir.path(), &format!("--preserve-mtime --mkfs-time {options}"));
        judge(&image, dir.path(), options);
    }
}

/// Images that mkfs.erofs 1.9 made of [`small`].
const KEPT: &[(&str, &str)] = &[
    ("deflate", "-zdeflate,level=9 -Eztailpacking"),
    ("lzma-parts", "-zlzma -C16384 -Efragments,dedupe"),
    ("lz4-dedupe", "-zlz4hc -Ededupe"),
    ("zstd-list", "-zzstd -E48bit -C65536"),
    ("lzma-list", "-zlzma -E48bit,fragments,dedupe -C16384"),
    ("zstd-metabox", "-zzstd -m4096 -Eall-fragments --xattr-prefix=user.o"),
];

fn kept(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/erofs")).join(format!("{name}.zst"))
}

/// A folder that has something of everything and packs well; the same bytes each time.
fn small(root: &Path) {
    let words = |seed: u64, count: usize| -> Vec<u8> {
        noise(count, seed).into_iter().flat_map(|byte| format!("{} ", u32::from(byte & 7) * 77).into_bytes()).collect()
    };
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("words"), words(1, 9000)).unwrap();
    // Shares its middle with the other.
    std::fs::write(root.join("again"), [words(2, 3000), words(1, 7000)].concat()).unwrap();
    std::fs::write(root.join("mixed"), [words(3, 2500), noise(9000, 4), vec![0; 70_000], words(5, 400)].concat())
        .unwrap();
    std::fs::write(root.join("a/noise"), noise(5000, 6)).unwrap();
    (0..60).for_each(|i| std::fs::write(root.join(format!("a/b/{i}")), words(i, i as usize * 12)).unwrap());
    symlink("a/b/7", root.join("link")).unwrap();
    assert_eq!(tool("setfattr", &["-n", "user.one", "-v", "a value", root.join("words").to_str().unwrap()]).0, 0);
}

/// With the variable MAKE_EROFS the images are made anew first, by the program that MKFS_EROFS names.
#[test]
fn kept_images_are_read_as_they_are() {
    let dir = scratch();
    small(dir.path());
    let mut wanted = BTreeMap::new();
    on_host(dir.path(), "", &mut wanted);
    let contents = |found: BTreeMap<String, Node>| -> BTreeMap<String, (u32, u64, Vec<u8>)> {
        found.into_iter().map(|(path, (mode, _, size, _, content))| (path, (mode & 0o170_000, size, content))).collect()
    };
    let wanted = contents(wanted);
    for (name, options) in KEPT {
        let packed = kept(name);
        if std::env::var("MAKE_EROFS").is_ok() {
            let (_keep, image) = made(dir.path(), &format!("-T1700000000 --all-root {options}"));
            std::fs::write(&packed, zstd::bulk::compress(&std::fs::read(image).unwrap(), 19).unwrap()).unwrap();
        }
        let keep = scratch();
        let image = keep.path().join("image");
        std::fs::write(&image, zstd::stream::decode_all(std::fs::File::open(&packed).unwrap()).unwrap()).unwrap();
        let fs = fs::open(Sparse::load(&image).device()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut found = BTreeMap::new();
        walk(fs.as_ref(), fs.root(), "", &mut found).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = contents(found);
        assert!(found.keys().eq(wanted.keys()), "{name}");
        wanted.iter().for_each(|(path, node)| assert!(found[path] == *node, "{name}: {path}"));
        let tree = through_trait(fs.as_ref());
        assert_eq!(tree[b"/words".as_slice()].xattrs, [(b"user.one".to_vec(), b"a value".to_vec())], "{name}");
        judge_reading(&image, "erofs", &tree, name);
    }
}

#[test]
fn plain_trees_need_no_owner_and_no_time() {
    let dir = scratch();
    (0..5000).for_each(|i| std::fs::write(dir.path().join(format!("a-name-{i}")), format!("{i}")).unwrap());
    symlink("target", dir.path().join("link")).unwrap();
    let (_keep, image) = image(dir.path(), &["-T1700000000", "-Eforce-inode-compact"]);
    let fs = fs::open(Sparse::load(&image).device()).unwrap();
    let tree = through_trait(fs.as_ref());
    assert_eq!(tree.len(), 5002);
    assert!(tree.values().all(|entry| entry.times == [Timestamp::from_seconds(1_700_000_000); 3]));
    judge_reading(&image, "erofs", &tree, "compact");
    for none in ["", ".", "..", "a-name-", "a-name-5000", "zzz", "a"] {
        assert_eq!(fs.lookup(fs.root(), none.as_bytes()).unwrap(), None, "{none}");
    }
    assert_eq!(fs.info().unwrap().uuid, UUID);
}

#[test]
fn it_is_not_written_and_what_is_not_known_is_refused() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    std::fs::write(dir.path().join("packed"), "content ".repeat(9000)).unwrap();
    let (_keep, image) = image(dir.path(), &["-zlz4hc"]);
    let bytes = std::fs::read(&image).unwrap();
    let mut fs = open(&bytes).unwrap();
    assert_eq!(fs::identify(Sparse::from_bytes(&bytes).as_ref()).unwrap().unwrap().fs_type, "erofs");
    assert_eq!(fs.edit(Timestamp::default()).err().unwrap().kind(), Kind::ReadOnly);
    let root = fs.root();
    let file = fs.lookup(root, b"file").unwrap().unwrap();
    assert_eq!(fs.read_dir(file).unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(fs.lookup(file, b"x").unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(fs.read(root, 0, &mut [0]).unwrap_err().kind(), Kind::IsADirectory);
    assert_eq!(fs.read_link(file).unwrap_err().kind(), Kind::Invalid);
    // Without its checksum the superblock takes changes.
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = bytes.clone();
        bytes[1024 + 8] &= !1;
        changes.iter().for_each(|(at, value)| bytes[*at] = *value);
        bytes
    };
    open(&with(&[])).unwrap();
    let mut summed = bytes.clone();
    if summed[1024 + 8] & 1 != 0 {
        summed[1024 + 64] ^= 1;
        assert_eq!(open(&summed).err().unwrap().kind(), Kind::Corrupt);
    }
    for (what, kind, at, value) in [
        ("a feature that is not known", Kind::Unsupported, 80 + 3, 1),
        ("a feature above metabox", Kind::Unsupported, 81, 2),
        ("a metabox without room for its number", Kind::Corrupt, 81, 1),
        ("large directory blocks", Kind::Unsupported, 90, 1),
        ("odd blocks", Kind::Corrupt, 12, 40),
        ("a root that is nowhere", Kind::Corrupt, 43, 0xff),
    ] {
        assert_eq!(open(&with(&[(1024 + at, value)])).err().map(|error| error.kind()), Some(kind), "{what}");
    }
    // The header of the map lies behind the inode.
    let node = fs.lookup(root, b"packed").unwrap().unwrap();
    let inode = node.0 as usize * 32;
    let long = bytes[inode] & 1 != 0;
    let header = inode + if long { 64 } else { 32 };
    for (name, kind, at, value) in [
        ("cannot be unpacked", Kind::Corrupt, header + 6, 1),
        ("cannot be unpacked", Kind::Corrupt, header + 6, 2),
        ("cannot be unpacked", Kind::Corrupt, header + 6, 3),
        ("algorithm 4", Kind::Unsupported, header + 6, 4),
        ("form", Kind::Unsupported, header + 4, 0x40),
        ("form", Kind::Unsupported, header + 7, 1),
        ("without a packed inode", Kind::Corrupt, header + 4, 0x23),
        ("without a packed inode", Kind::Corrupt, header + 7, 0x80),
    ] {
        let error = open(&with(&[(at, value)])).unwrap().read(node, 0, &mut [0]).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn data_on_another_device_is_refused() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), noise(20_000, 4)).unwrap();
    let blob = scratch();
    let device = format!("--blobdev={}", blob.path().join("blob").display());
    let (_keep, image) = image(dir.path(), &["--chunksize=4096", &device]);
    let fs = fs::open(Sparse::load(&image).device()).unwrap();
    let node = fs.lookup(fs.root(), b"file").unwrap().unwrap();
    let error = fs.read(node, 0, &mut [0; 10]).unwrap_err();
    assert!(error.kind() == Kind::Unsupported && error.to_string().contains("device_table"), "{error}");
    assert_eq!(fs.extents(node).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn damaged_images() {
    let dir = scratch();
    let root = dir.path();
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    (0..150).for_each(|i| std::fs::write(root.join(format!("a/file-{i}")), noise(i * 100, i as u64)).unwrap());
    std::fs::write(root.join("text"), "words that pack well\n".repeat(40_000)).unwrap();
    symlink("text", root.join("a/b/link")).unwrap();
    tool("setfattr", &["-n", "user.one", "-v", "value", root.join("text").to_str().unwrap()]);
    let mut random = Random(31);
    let mut refused = 0;
    let made = ["", "--chunksize=4096", "-zlz4hc", "-zlz4hc -C65536 -Eztailpacking", "-zlz4 -Elegacy-compress"]
        .map(|options| std::fs::read(made(root, options).1).unwrap());
    let kept = KEPT.iter().map(|(name, _)| zstd::stream::decode_all(std::fs::File::open(kept(name)).unwrap()).unwrap());
    for mut image in made.into_iter().chain(kept) {
        // Damage is to be found behind the checksum too.
        image[1024 + 8] &= !1;
        // A root in the metabox has the highest bit.
        let inodes = (open(&image).unwrap().root().0 as u32 as usize) * 32;
        let place = |random: &mut Random| match random.below(5) {
            0 => 1024 + random.below(128) as usize,
            1 => random.below(image.len() as u64) as usize,
            _ => (inodes + random.below(8_000) as usize).min(image.len() - 1),
        };
        let refusals = [Kind::Corrupt, Kind::Unsupported, Kind::NotADirectory];
        refused += walk_damaged_copies(&image, 100, &mut random, &place, fs::erofs::open, &refusals);
    }
    assert!(refused > 50, "{refused} damages were found");
}
