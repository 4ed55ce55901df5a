//! Squashfs, read: images that mksquashfs makes of a folder, of every compressor and layout, compared with the folder and with what
//! Linux and unsquashfs show of them; and damaged ones.

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;

use imgsh::base::{Kind, Result, Timestamp};
use imgsh::fs::{self, FileSystem, Stored};
use oracle::folder::{fill, on_host, walk, walk_damaged_copies};
use oracle::guest::noise;
use oracle::kernel::judge_reading;
use oracle::tree::through_trait;
use oracle::{Random, Sparse, run, scratch, tool};

/// Bytes of the sparse file.
const HOLLOW: u64 = 3 << 20;

/// The folder that the drivers' tests share, and what squashfs has forms of its own for.
fn folder() -> tempfile::TempDir {
    let dir = scratch();
    let root = dir.path();
    fill(root);
    std::fs::hard_link(root.join("large"), root.join("a/large-again")).unwrap();
    let hollow = std::fs::File::create(root.join("hollow")).unwrap();
    hollow.set_len(HOLLOW).unwrap();
    hollow.write_all_at(b"in the middle", 1 << 20).unwrap();
    std::fs::File::create(root.join("all-hollow")).unwrap().set_len(1 << 20).unwrap();
    std::fs::write(root.join("text"), "words that pack well\n".repeat(40_000)).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    symlink("x", root.join("a/short")).unwrap();
    // Values that two files share stand elsewhere; the link's attribute makes its inode a long one.
    let value = "v".repeat(600);
    for (path, name) in [("large", "user.one"), ("large", "user.two"), ("etc/page", "user.one"), ("many", "user.dir")] {
        let path = root.join(path);
        assert_eq!(tool("setfattr", &["-n", name, "-v", &value, path.to_str().unwrap()]).0, 0);
    }
    dir
}

fn image(root: &Path, options: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = scratch();
    let image = dir.path().join("image");
    let pseudo = dir.path().join("pseudo");
    std::fs::write(
        &pseudo,
        "dev d 755 7 8\ndev/null c 666 0 6 1 3\ndev/disk b 660 0 70000 259 300000\netc/inline m 4700 70000 5\n",
    )
    .unwrap();
    let arguments =
        [root.to_str().unwrap(), image.to_str().unwrap(), "-quiet", "-no-progress", "-pf", pseudo.to_str().unwrap()];
    run("mksquashfs", &[&arguments, options].concat());
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
    let inline = wanted.get_mut("etc/inline").unwrap();
    (inline.0, inline.1) = (0o104700, 70000);
    let kinds: &[(&[&str], bool)] = &[
        (&[], true),
        (&["-comp", "xz", "-b", "4096", "-no-fragments"], true),
        (&["-comp", "xz", "-b", "1M", "-Xbcj", "x86", "-Xdict-size", "100%"], true),
        (&["-comp", "lz4", "-always-use-fragments", "-noX"], true),
        (&["-comp", "zstd", "-b", "32768", "-no-exports"], true),
        (&["-comp", "lzo", "-noI"], true),
        // Linux does not read it.
        (&["-comp", "lzma"], false),
        (&["-noI", "-noD", "-noF", "-noX", "-noId", "-no-duplicates"], true),
    ];
    for (options, kernel) in kinds {
        let (_keep, image) = image(dir.path(), options);
        let mut fs = fs::open(Sparse::load(&image).device()).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let mut found = BTreeMap::new();
        walk(fs.as_ref(), fs.root(), "", &mut found).unwrap();
        for (path, mode, uid) in [("dev", 0o40755, 7), ("dev/null", 0o20666, 0), ("dev/disk", 0o60660, 0)] {
            let node = found.remove(path).unwrap();
            assert_eq!((node.0, node.1), (mode, uid), "{path}");
        }
        for (path, node) in &wanted {
            assert!(found.get(path) == Some(node), "{options:?}: {path}");
        }
        assert_eq!(found.len(), wanted.len(), "{options:?}");
        fs.reload().unwrap();
        let tree = through_trait(fs.as_ref());
        assert_eq!(tree[b"/dev/disk".as_slice()].device, (259, 300000));
        assert_eq!(tree[b"/a/large-again".as_slice()].links, 2);
        let one = [(b"user.one".to_vec(), b"v".repeat(600))];
        assert_eq!(tree[b"/etc/page".as_slice()].xattrs, one);
        assert_eq!(tree[b"/large".as_slice()].xattrs.len(), 2);
        if *kernel {
            judge_reading(&image, "squashfs", &tree, &format!("{options:?}"));
        }
        // What it says of all nodes: mode, owner, size, time, path.
        let listed = run("unsquashfs", &["-llnumeric", "-UTC", image.to_str().unwrap()]);
        let lines = listed.lines().filter(|line| line.contains("squashfs-root/"));
        assert_eq!(lines.count(), tree.len() - 1, "{options:?}");
        holes(fs.as_ref());
    }
}

/// Holes are holes, and reads that begin anywhere give the file's bytes.
fn holes(fs: &dyn FileSystem) {
    let node = |name: &[u8]| fs.lookup(fs.root(), name).unwrap().unwrap();
    let extents = fs.extents(node(b"hollow")).unwrap();
    let data: u64 = extents.iter().filter(|e| !e.hole).map(|e| e.range.end - e.range.start).sum();
    assert!(extents.len() >= 2 && data < HOLLOW / 2, "{extents:?}");
    assert!(fs.metadata(node(b"hollow")).unwrap().blocks < HOLLOW / 1024);
    let mut random = Random(7);
    let content = noise(5_000_001, 2);
    for _ in 0..200 {
        let at = random.below(5_000_001);
        let mut buf = vec![0; random.below(300_000) as usize];
        let got = fs.read(node(b"large"), at, &mut buf).unwrap();
        assert_eq!(got, buf.len().min(5_000_001 - at as usize));
        assert!(buf[..got] == content[at as usize..][..got]);
    }
    let covered: u64 = fs.layout(node(b"large")).unwrap().iter().map(|segment| segment.len).sum();
    assert_eq!(covered, 5_000_001);
}

#[test]
fn plain_blocks_are_where_the_layout_says() {
    let dir = folder();
    let (_keep, image) = image(dir.path(), &["-noD", "-noF"]);
    let fs = fs::open(Sparse::load(&image).device()).unwrap();
    let bytes = std::fs::read(&image).unwrap();
    let content = std::fs::read(dir.path().join("large")).unwrap();
    let node = fs.lookup(fs.root(), b"large").unwrap().unwrap();
    for segment in fs.layout(node).unwrap() {
        let Stored::Data(at) = segment.stored else { panic!("{segment:?}") };
        assert!(
            bytes[at as usize..][..segment.len as usize] == content[segment.offset as usize..][..segment.len as usize]
        );
    }
}

#[test]
fn many_names_and_a_large_file_by_their_indexes() {
    let dir = scratch();
    let root = dir.path();
    (0..20_000).for_each(|i| std::fs::write(root.join(format!("a-rather-long-name-{i}")), "").unwrap());
    // More than three steps of the list of blocks.
    std::fs::File::create(root.join("hollow")).unwrap().set_len(100 << 20).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(root.join("hollow"))
        .unwrap()
        .write_all_at(b"end", (90 << 20) + 5)
        .unwrap();
    let (_keep, image) = image_of(root, &["-b", "4096"]);
    let device = Sparse::load(&image);
    let fs = fs::open(device.device()).unwrap();
    let entries = fs.read_dir(fs.root()).unwrap();
    assert_eq!(entries.len(), 20_001);
    for entry in &entries {
        assert_eq!(fs.lookup(fs.root(), &entry.name).unwrap(), Some(entry.node), "{}", entry.name);
    }
    for none in ["", "a", "a-rather-long-name-5000x", "zzz", &"a".repeat(300)] {
        assert_eq!(fs.lookup(fs.root(), none.as_bytes()).unwrap(), None);
    }
    let node = fs.lookup(fs.root(), b"hollow").unwrap().unwrap();
    let mut buf = [0; 10];
    // Backwards, so that marks are used and made.
    for (at, wanted) in
        [((90 << 20) + 3, "\0\0end\0\0\0\0\0"), (5, "\0\0\0\0\0\0\0\0\0\0"), ((90 << 20) + 3, "\0\0end\0\0\0\0\0")]
    {
        assert_eq!(fs.read(node, at, &mut buf).unwrap(), 10);
        assert_eq!(buf, *wanted.as_bytes());
    }
    assert_eq!(fs.extents(node).unwrap().len(), 3);
}

fn image_of(root: &Path, options: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = scratch();
    let image = dir.path().join("image");
    run(
        "mksquashfs",
        &[&[root.to_str().unwrap(), image.to_str().unwrap(), "-quiet", "-no-progress"], options].concat(),
    );
    (dir, image)
}

#[test]
fn it_is_not_written() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let (_keep, image) = image_of(dir.path(), &[]);
    let bytes = std::fs::read(&image).unwrap();
    let mut fs = open(&bytes).unwrap();
    assert_eq!(fs::identify(Sparse::from_bytes(&bytes).as_ref()).unwrap().unwrap().fs_type, "squashfs");
    let error = fs.edit(Timestamp::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::ReadOnly);
    let root = fs.root();
    let file = fs.lookup(root, b"file").unwrap().unwrap();
    assert_eq!(fs.read_dir(file).unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(fs.lookup(file, b"x").unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(fs.read(root, 0, &mut [0]).unwrap_err().kind(), Kind::IsADirectory);
    assert_eq!(fs.read_link(file).unwrap_err().kind(), Kind::Invalid);
    for (what, kind, at, value) in [
        ("another version", Kind::Unsupported, 30, 1),
        ("another compressor", Kind::Unsupported, 20, 9),
        ("blocks of another size", Kind::Corrupt, 22, 13),
        ("longer than the device", Kind::Corrupt, 46, 1),
        ("a table outside", Kind::Corrupt, 68, 1),
        ("a root that is nowhere", Kind::Corrupt, 37, 1),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        assert_eq!(open(&bytes).err().map(|error| error.kind()), Some(kind), "{what}");
    }
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
    // Plain tables show every field to the damage, packed ones the decoders.
    for options in [
        &["-noI", "-noX", "-noId"][..],
        &[],
        &["-comp", "xz"],
        &["-comp", "lz4"],
        &["-comp", "zstd"],
        &["-comp", "lzo"],
        &["-comp", "lzma"],
    ] {
        let (_keep, image) = image_of(root, options);
        let image = std::fs::read(image).unwrap();
        let used = u64::from_le_bytes(image[40..48].try_into().unwrap()) as usize;
        let tables = u64::from_le_bytes(image[64..72].try_into().unwrap()) as usize;
        let place = |random: &mut Random| match random.below(5) {
            0 => random.below(96) as usize,
            1 => random.below(used as u64) as usize,
            _ => tables + random.below((used - tables) as u64) as usize,
        };
        let refusals = [Kind::Corrupt, Kind::Unsupported, Kind::NotADirectory];
        refused += walk_damaged_copies(&image, 40, &mut random, &place, fs::squashfs::open, &refusals);
    }
    assert!(refused > 60, "{refused} damages were found");
}

#[test]
fn a_file_without_end_needs_no_memory() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), noise(8192, 3)).unwrap();
    let (_keep, image) = image_of(dir.path(), &["-noI", "-b", "4096", "-no-fragments"]);
    let mut bytes = std::fs::read(image).unwrap();
    let tables = u64::from_le_bytes(bytes[64..72].try_into().unwrap()) as usize;
    // The file's inode is the first one: type, ..., start, fragment, offset, size.
    assert_eq!((bytes[tables + 2], &bytes[tables + 2 + 28..][..4]), (2, &8192u32.to_le_bytes()[..]));
    bytes[tables + 2 + 28..][..4].fill(0xff);
    let device: Arc<Sparse> = Sparse::from_bytes(&bytes);
    let fs = fs::open(device.device()).unwrap();
    let node = fs.lookup(fs.root(), b"file").unwrap().unwrap();
    assert_eq!(fs.metadata(node).unwrap().size, u64::from(u32::MAX));
    assert_eq!(fs.extents(node).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(fs.layout(node).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(fs.read(node, 1 << 30, &mut [0; 10]).unwrap_err().kind(), Kind::Corrupt);
}
