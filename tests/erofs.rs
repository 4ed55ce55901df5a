//! EROFS, read: images that mkfs.erofs makes of a folder, of every layout that it knows, compared with the folder and with what Linux
//! shows of them; and damaged ones.

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use imgsh::base::{Kind, Result, Timestamp};
use imgsh::fs::{self, FileSystem, Stored};
use oracle::folder::{fill, on_host, walk, walk_damaged_copies};
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

fn image(root: &Path, options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    // With chunks mkfs.erofs copies from where it keeps temporary files, which must be the same file system.
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    run(
        "mkfs.erofs",
        &[&["--quiet", "-U", UUID], options, &[image.to_str().unwrap(), root.to_str().unwrap()]].concat(),
    );
    (dir, image)
}

fn open(image: &[u8]) -> Result<Box<dyn FileSystem>> {
    fs::open(Sparse::from_bytes(image).device())
}

#[test]
fn folders_are_read_as_they_are() {
    let dir = folder();
    let mut wanted = BTreeMap::new();
    on_host(dir.path(), "", &mut wanted);
    let kinds: &[&[&str]] = &[
        &[],
        &["-x1"],
        &["--chunksize=4096", "-Eforce-inode-extended"],
        &["--chunksize=65536", "-Eforce-chunk-indexes"],
        &["-zlz4"],
        &["-zlz4hc,12", "-C65536"],
        &["-zlz4hc", "-Eztailpacking", "-C16384"],
        &["-zlz4hc", "-Eztailpacking"],
    ];
    for options in kinds {
        let (_keep, image) = image(dir.path(), options);
        let device = Sparse::load(&image);
        let mut fs = fs::open(device.device()).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let mut found = BTreeMap::new();
        walk(fs.as_ref(), fs.root(), "", &mut found).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        for (path, node) in &wanted {
            assert!(found.get(path) == Some(node), "{options:?}: {path}");
        }
        assert_eq!(found.len(), wanted.len(), "{options:?}");
        fs.reload().unwrap();
        let tree = through_trait(fs.as_ref());
        assert_eq!(tree[b"/a/large-again".as_slice()].links, 2);
        assert_eq!(tree[b"/large".as_slice()].xattrs.len(), 2);
        assert_eq!(tree[b"/etc/page".as_slice()].xattrs, [(b"user.one".to_vec(), b"a value".to_vec())]);
        judge_reading(&image, "erofs", &tree, &format!("{options:?}"));
        let text = std::fs::read(dir.path().join("turns")).unwrap();
        let node = fs.lookup(fs.root(), b"turns").unwrap().unwrap();
        let mut random = Random(7);
        for _ in 0..200 {
            let at = random.below(text.len() as u64) as usize;
            let mut buf = vec![0; random.below(100_000) as usize];
            let got = fs.read(node, at as u64, &mut buf).unwrap();
            assert!(got == buf.len().min(text.len() - at) && buf[..got] == text[at..][..got], "{options:?}");
        }
        let bytes = device.bytes();
        for segment in fs.layout(node).unwrap() {
            if let Stored::Data(at) = segment.stored {
                let wanted = &text[segment.offset as usize..][..segment.len as usize];
                assert!(bytes[at as usize..][..wanted.len()] == *wanted, "{options:?}: {segment:?}");
            }
        }
        let packed = fs.layout(node).unwrap().iter().any(|segment| matches!(segment.stored, Stored::Compressed { .. }));
        assert_eq!(packed, options.iter().any(|option| option.starts_with("-z")), "{options:?}");
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
        ("48bit", Kind::Unsupported, 80, 0x81),
        ("metabox", Kind::Unsupported, 81, 1),
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
    for (name, at, value) in
        [("lzma", header + 6, 1), ("zstd", header + 6, 3), ("form", header + 4, 0x10), ("fragments", header + 7, 0x80)]
    {
        let error = open(&with(&[(at, value)])).unwrap().read(node, 0, &mut [0]).unwrap_err();
        assert!(error.kind() == Kind::Unsupported && error.to_string().contains(name), "{error}");
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
fn the_older_map_is_refused() {
    let dir = scratch();
    std::fs::write(dir.path().join("packed"), "content ".repeat(9000)).unwrap();
    let (_keep, image) = image(dir.path(), &["-zlz4hc", "-Elegacy-compress"]);
    let fs = fs::open(Sparse::load(&image).device()).unwrap();
    let node = fs.lookup(fs.root(), b"packed").unwrap().unwrap();
    assert_eq!(fs.metadata(node).unwrap().size, 72_000);
    let error = fs.read(node, 0, &mut [0; 10]).unwrap_err();
    assert!(error.kind() == Kind::Unsupported && error.to_string().contains("legacy-compress"), "{error}");
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
    for options in [&[][..], &["--chunksize=4096"], &["-zlz4hc"], &["-zlz4hc", "-C65536", "-Eztailpacking"]] {
        let (_keep, image) = image(root, options);
        let mut image = std::fs::read(image).unwrap();
        // Damage is to be found behind the checksum too.
        image[1024 + 8] &= !1;
        let inodes = open(&image).unwrap().root().0 as usize * 32;
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
