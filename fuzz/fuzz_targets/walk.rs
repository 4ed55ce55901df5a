//! A walk through a file system of any bytes.

use std::collections::HashSet;

use imgsh::fs::{FileSystem, FileType};

/// Nodes to visit: damage can make a tree look endless.
const NODES: usize = 200;

/// Looks at everything that there is of a few nodes.
pub fn walk(fs: &dyn FileSystem) {
    let _ = fs.info();
    let mut seen = HashSet::new();
    let mut queue = vec![fs.root()];
    let mut buf = vec![0; 5000];
    while let Some(node) = queue.pop() {
        if !seen.insert(node) || seen.len() > NODES {
            continue;
        }
        let Ok(metadata) = fs.metadata(node) else { continue };
        let _ = fs.xattrs(node);
        match metadata.file_type {
            FileType::Directory => {
                let entries = fs.read_dir(node).unwrap_or_default();
                if let Some(entry) = entries.last() {
                    let _ = fs.lookup(node, &entry.name);
                }
                queue.extend(entries.iter().take(NODES).map(|entry| entry.node));
            }
            FileType::Symlink => _ = fs.read_link(node),
            _ => {
                let _ = fs.extents(node);
                let _ = fs.layout(node);
                let _ = fs.read(node, metadata.size / 2, &mut buf);
            }
        }
    }
}
