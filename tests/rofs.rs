//! ROFS, read: folders as OSv's generator puts them into images, compared with the folder; the tables' own limits; damaged ones.

mod oracle;

use std::collections::BTreeMap;

use imgsh::base::{Kind, Result, Timestamp};
use imgsh::fs::{self, FileSystem, Stored};
use oracle::folder::{fill, on_host, walk, walk_damaged_copies};
use oracle::{Random, Sparse, rofs, scratch};

/// An image of the folder that the drivers' tests share.
fn filled() -> (tempfile::TempDir, Vec<u8>) {
    let dir = scratch();
    fill(dir.path());
    // The format has no pipes.
    std::fs::remove_file(dir.path().join("fifo")).unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let image = rofs::image(dir.path());
    (dir, image)
}

fn open(image: &[u8]) -> Result<Box<dyn FileSystem>> {
    fs::open(Sparse::from_bytes(image).device())
}

/// An image with one word of 8 bytes changed.
fn with(image: &[u8], at: usize, value: u64) -> Vec<u8> {
    let mut image = image.to_vec();
    image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    image
}

#[test]
fn a_folder_is_read_as_it_is() {
    let (dir, image) = filled();
    let fs = open(&image).unwrap();
    let (mut wanted, mut found) = (BTreeMap::new(), BTreeMap::new());
    on_host(dir.path(), "", &mut wanted);
    // Owners, permissions and times are not kept.
    wanted.values_mut().for_each(|node| (node.0, node.1, node.3) = (node.0 & 0o170000 | 0o555, 0, 0));
    walk(fs.as_ref(), fs.root(), "", &mut found).unwrap();
    assert!(wanted.len() > 3000 && wanted == found, "{} and {} nodes", wanted.len(), found.len());
    let info = fs.info().unwrap();
    assert_eq!((info.fs_type.as_str(), info.blocks), ("rofs", image.len() as u64 / 512));
    let node = fs.lookup(fs.root(), b"large").unwrap().unwrap();
    let segments = fs.layout(node).unwrap();
    let Stored::Data(at) = segments[0].stored else { panic!("{segments:?}") };
    let content = std::fs::read(dir.path().join("large")).unwrap();
    assert!(segments.len() == 1 && image[at as usize..][..content.len()] == content);
}

#[test]
fn it_is_not_written() {
    let (_dir, image) = filled();
    let mut fs = open(&image).unwrap();
    assert_eq!(fs.edit(Timestamp::default()).err().unwrap().kind(), Kind::ReadOnly);
    fs.reload().unwrap();
    let root = fs.root();
    assert_eq!(fs.lookup(root, b"none").unwrap(), None);
    let file = fs.lookup(root, b"large").unwrap().unwrap();
    assert_eq!(fs.read_dir(file).unwrap_err().kind(), Kind::NotADirectory);
    assert_eq!(fs.read(root, 0, &mut [0]).unwrap_err().kind(), Kind::IsADirectory);
    assert_eq!(fs.read_link(file).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn tables_that_lead_elsewhere() {
    let dir = scratch();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("a/f"), "x").unwrap();
    std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
    let image = rofs::image(dir.path());
    open(&image).unwrap();
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let area = word(24) as usize * 512;
    // Entries: b, f, a, l, of 11 bytes each; a target of 3; then inodes: the root, a, b, f, l.
    let inode = |number: usize, field: usize| area + 4 * 11 + 3 + (number - 1) * 32 + field * 8;
    assert_eq!((word(inode(4, 0)), word(inode(4, 3)), word(inode(5, 0))), (0x8000, 1, 0xa000));
    for (what, kind, bytes) in [
        ("another version", Kind::Unsupported, with(&image, 8, 2)),
        ("other blocks", Kind::Unsupported, with(&image, 16, 4096)),
        ("tables in the superblock", Kind::Corrupt, with(&image, 24, 0)),
        ("tables behind the end", Kind::Corrupt, with(&image, 24, 1 << 20)),
        ("tables without end", Kind::Corrupt, with(&image, 32, u64::MAX)),
        ("entries without end", Kind::Corrupt, with(&image, 40, u64::MAX)),
        ("links without end", Kind::Corrupt, with(&image, 48, u64::MAX)),
        ("inodes without end", Kind::Corrupt, with(&image, 56, u64::MAX)),
        ("no inodes", Kind::Corrupt, with(&image, 56, 0)),
        ("an entry without an inode", Kind::Corrupt, with(&image, area, 0)),
        ("an entry of an inode that is not there", Kind::Corrupt, with(&image, area, 6)),
        ("the root in a directory", Kind::Corrupt, with(&image, area, 1)),
        ("a directory in itself", Kind::Corrupt, with(&image, area, 2)),
        ("a root that is a file", Kind::Corrupt, with(&image, inode(1, 0), 0x8000)),
        ("a pipe", Kind::Corrupt, with(&image, inode(4, 0), 0x1000)),
        ("a directory with another's entries", Kind::Corrupt, with(&image, inode(3, 3), 1)),
        ("a directory with entries that are not there", Kind::Corrupt, with(&image, inode(2, 2), 3)),
        ("a directory without end", Kind::Corrupt, with(&image, inode(2, 2), u64::MAX)),
        ("a file in the superblock", Kind::Corrupt, with(&image, inode(4, 2), 0)),
        ("a file in the tables", Kind::Corrupt, with(&image, inode(4, 2), 2)),
        ("a file without end", Kind::Corrupt, with(&image, inode(4, 3), u64::MAX)),
        ("a link without a target", Kind::Corrupt, with(&image, inode(5, 2), 1)),
        ("cut off", Kind::Corrupt, image[..512].to_vec()),
    ] {
        assert_eq!(open(&bytes).err().map(|error| error.kind()), Some(kind), "{what}");
    }
    for (what, name) in [("a slash", b'/'), ("a dot", b'.'), ("NUL", 0)] {
        let mut image = image.clone();
        image[area + 10] = name;
        assert_eq!(open(&image).err().map(|error| error.kind()), Some(Kind::Corrupt), "{what}");
    }
    // Where an empty file is means nothing.
    let empty = with(&with(&image, inode(4, 2), u64::MAX), inode(4, 3), 0);
    let fs = open(&empty).unwrap();
    walk(fs.as_ref(), fs.root(), "", &mut BTreeMap::new()).unwrap();
}

#[test]
fn damaged_images() {
    let (_dir, image) = filled();
    let area = u64::from_le_bytes(image[24..32].try_into().unwrap()) as usize * 512;
    let mut random = Random(31);
    let place = |random: &mut Random| match random.below(4) {
        0 => random.below(64) as usize,
        _ => area + random.below((image.len() - area) as u64) as usize,
    };
    let refusals = [Kind::Corrupt, Kind::Unsupported];
    let refused = walk_damaged_copies(&image, 200, &mut random, &place, fs::rofs::open, &refusals);
    assert!(refused > 20, "{refused} damages were found");
}
