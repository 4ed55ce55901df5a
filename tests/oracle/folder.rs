//! A folder of the host against a file system that a tool made of it, and walks through damaged ones.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use imgsh::base::{Kind, Result};
use imgsh::disk::{BlockDevice, Device};
use imgsh::fs::{FileSystem, FileType, NodeId};

use super::guest::noise;
use super::{Random, Sparse};

/// Fills a folder with what needs a structure of its own.
pub fn fill(root: &Path) {
    let file = |path: &str, content: &[u8]| std::fs::write(root.join(path), content).unwrap();
    for dir in ["etc", "many", "a/b/c/d/e/f"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    file("etc/empty", b"");
    file("etc/inline", b"kept inside the tree\n");
    file("etc/page", &noise(4096, 1));
    file("large", &noise(5_000_001, 2));
    // More names than one tree node has.
    (0..3000).for_each(|i| file(&format!("many/file-number-{i}"), format!("{i}\n").as_bytes()));
    file("a/b/c/d/e/f/deep", b"deep\n");
    file(&"n".repeat(255), b"long name\n");
    symlink("/etc/empty", root.join("link")).unwrap();
    symlink("t".repeat(3000), root.join("long-link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
    for (path, mode) in [("etc", 0o2750), ("etc/page", 0o4711), ("many", 0o1777)] {
        std::fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
}

/// What is compared of a node: mode, owner, size, time, and content or target.
pub type Node = (u32, u32, u64, i64, Vec<u8>);

/// Everything below a folder.
pub fn on_host(root: &Path, dir: &str, found: &mut BTreeMap<String, Node>) {
    for entry in std::fs::read_dir(root.join(dir)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = format!("{dir}{name}");
        let host = root.join(&path);
        let meta = std::fs::symlink_metadata(&host).unwrap();
        let (mut size, mut content) = (meta.size(), Vec::new());
        if meta.is_dir() {
            size = 0;
            on_host(root, &format!("{path}/"), found);
        } else if meta.is_symlink() {
            content = std::fs::read_link(&host).unwrap().into_os_string().into_encoded_bytes();
        } else if meta.is_file() {
            content = std::fs::read(&host).unwrap();
        }
        found.insert(path, (meta.mode(), meta.uid(), size, meta.mtime(), content));
    }
}

/// Walks a file system; every name is looked up too.
pub fn walk(fs: &dyn FileSystem, node: NodeId, dir: &str, found: &mut BTreeMap<String, Node>) -> Result<()> {
    for entry in fs.read_dir(node)? {
        let path = format!("{dir}{}", entry.name);
        let meta = fs.metadata(entry.node)?;
        assert_eq!(fs.lookup(node, &entry.name)?, Some(entry.node), "{path}");
        let (mut size, mut content) = (meta.size, Vec::new());
        match meta.file_type {
            FileType::Directory => {
                size = 0;
                walk(fs, entry.node, &format!("{path}/"), found)?;
            }
            FileType::Symlink => content = fs.read_link(entry.node)?.0,
            FileType::Regular => {
                let covered: u64 =
                    fs.extents(entry.node)?.iter().map(|extent| extent.range.end - extent.range.start).sum();
                assert_eq!(covered, meta.size, "{path}");
                content = vec![0; meta.size.min(1 << 24) as usize];
                // In pieces that fall anywhere in extents.
                let mut at = 0;
                while at < content.len() {
                    let end = (at + 70_001).min(content.len());
                    at += fs.read(entry.node, at as u64, &mut content[at..end])?;
                }
            }
            _ => {}
        }
        fs.xattrs(entry.node)?;
        let mode = meta.file_type.mode_bits() | meta.mode;
        found.insert(path, (mode, meta.uid, size, meta.modified.seconds, content));
    }
    Ok(())
}

/// Looks at everything that can be reached.
pub fn walk_damaged(fs: &dyn FileSystem, node: NodeId, depth: u32) -> Result<()> {
    // A directory that names itself is for those who walk to stop.
    if depth > 3 {
        return Ok(());
    }
    for entry in fs.read_dir(node)? {
        let meta = fs.metadata(entry.node)?;
        fs.lookup(node, &entry.name)?;
        fs.xattrs(entry.node)?;
        match meta.file_type {
            FileType::Directory => walk_damaged(fs, entry.node, depth + 1)?,
            FileType::Symlink => drop(fs.read_link(entry.node)?),
            FileType::Regular => {
                fs.extents(entry.node)?;
                let mut content = vec![0; meta.size.min(1 << 20) as usize];
                fs.read(entry.node, 0, &mut content)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens and walks copies of an image with one to three bytes changed at the places that `place` picks; answers how many were
/// refused. All others are shown; none is written.
pub fn walk_damaged_copies(
    image: &[u8],
    rounds: u32,
    random: &mut Random,
    place: &dyn Fn(&mut Random) -> usize,
    open: fn(Device) -> Result<Box<dyn FileSystem>>,
    refusals: &[Kind],
) -> u32 {
    let mut refused = 0;
    for _ in 0..rounds {
        let mut damaged = image.to_vec();
        for _ in 0..=random.below(3) {
            let at = place(random);
            damaged[at] = random.next() as u8;
        }
        let device = Sparse::from_bytes(&damaged);
        if let Err(error) = open(device.device()).and_then(|fs| walk_damaged(fs.as_ref(), fs.root(), 0)) {
            assert!(refusals.contains(&error.kind()), "{error}");
            refused += 1;
        }
        assert_eq!(device.len(), damaged.len() as u64);
    }
    refused
}
