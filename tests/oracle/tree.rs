//! What a file system holds, as plain values: taken through our trait, by debugfs, or by the crate ext4-view.

use std::collections::BTreeMap;
use std::path::Path;

use imgsh::base::{Timestamp, printable};
use imgsh::fs::{FileSystem, FileType, NodeId};

use super::{assert_clean, command};

/// A file, directory or whatever else has a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    /// Of everything but directories.
    pub size: u64,
    pub device: (u32, u32),
    /// Access, modification, change.
    pub times: [Timestamp; 3],
    /// Bytes of a file, or target of a link.
    pub content: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path of the same node.
    pub same_as: Vec<u8>,
}

/// All entries by path; the root is the empty path. `lost+found` is left out.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// Walks a file system through the trait.
pub fn through_trait(fs: &dyn FileSystem) -> Tree {
    let mut tree = Tree::new();
    let mut first = BTreeMap::new();
    let mut queue = vec![(Vec::new(), fs.root())];
    while let Some((path, node)) = queue.pop() {
        let meta = fs.metadata(node).unwrap();
        let same_as = first.entry(node).or_insert_with(|| path.clone()).clone();
        let content = match meta.file_type {
            FileType::Regular => read_all(fs, node),
            FileType::Symlink => fs.read_link(node).unwrap().0,
            _ => Vec::new(),
        };
        let entry = Entry {
            mode: meta.file_type.mode_bits() | meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            links: meta.links,
            size: if meta.file_type == FileType::Directory { 0 } else { meta.size },
            device: meta.device,
            times: [meta.accessed, meta.modified, meta.changed],
            content,
            xattrs: fs.xattrs(node).unwrap().into_iter().map(|(name, value)| (name.0, value)).collect(),
            same_as,
        };
        if meta.file_type == FileType::Directory {
            // Last name first, so that the stack gives them in order.
            let mut names = fs.read_dir(node).unwrap();
            names.sort_by(|a, b| b.name.cmp(&a.name));
            for name in names.into_iter().filter(|name| !(path.is_empty() && *name.name == *b"lost+found")) {
                let found = fs.lookup(node, &name.name).unwrap();
                assert_eq!(found, Some(name.node), "lookup of {} in {}", name.name, printable(&path));
                let file_type = fs.metadata(name.node).unwrap().file_type;
                assert!(name.file_type.is_none_or(|t| t == file_type), "type of {} in its directory", name.name);
                queue.push(([path.as_slice(), b"/", &name.name].concat(), name.node));
            }
        }
        tree.insert(path, entry);
    }
    tree
}

fn read_all(fs: &dyn FileSystem, node: NodeId) -> Vec<u8> {
    let size = fs.metadata(node).unwrap().size;
    let mut content = vec![0; size as usize];
    // Holes are not read, so that files of many gigabytes are cheap; that they are zeros is for other tests.
    let mut end = 0;
    for extent in fs.extents(node).unwrap() {
        assert_eq!(extent.range.start, end, "extents without gaps");
        end = extent.range.end;
        if !extent.hole {
            let part = &mut content[extent.range.start as usize..extent.range.end as usize];
            assert_eq!(fs.read(node, extent.range.start, part).unwrap(), part.len());
        }
    }
    assert_eq!(end, size, "extents up to the size");
    content
}

/// Fails with the first differences of two trees.
pub fn assert_same(found: &Tree, wanted: &Tree, what: &str) {
    if found == wanted {
        return;
    }
    let mut lines = Vec::new();
    let brief = |entry: &Entry| {
        let mut entry = entry.clone();
        let len = entry.content.len();
        entry.content.truncate(64);
        format!("{len} bytes {entry:?}")
    };
    for (path, want) in wanted {
        match found.get(path) {
            None => lines.push(format!("{} is missing", printable(path))),
            Some(have) if have.content != want.content => {
                let at = have.content.iter().zip(&want.content).position(|(a, b)| a != b);
                lines.push(format!(
                    "{}: content differs at {at:?}\n  have {}\n  want {}",
                    printable(path),
                    brief(have),
                    brief(want)
                ));
            }
            Some(have) if have != want => {
                lines.push(format!("{}:\n  have {}\n  want {}", printable(path), brief(have), brief(want)));
            }
            Some(_) => {}
        }
    }
    lines.extend(
        found.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("{} is there", printable(path))),
    );
    lines.truncate(8);
    panic!("{what}: {}", lines.join("\n"));
}

/// Judges an image by those who did not write it: e2fsck finds nothing, and debugfs reads the wanted tree.
pub fn judge(image: &Path, wanted: &Tree, what: &str) {
    assert_clean(image, what);
    assert_same(&by_debugfs(image, wanted), wanted, what);
}

/// Runs debugfs commands; answers its output, which may hold any bytes.
fn debugfs(image: &Path, commands: &str) -> Vec<u8> {
    let list = image.with_extension("debugfs");
    std::fs::write(&list, commands).unwrap();
    let output = command("debugfs").arg("-f").arg(&list).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Inode numbers by path, from the directories as debugfs lists them, level by level.
fn inodes(image: &Path) -> BTreeMap<Vec<u8>, u32> {
    let mut found = BTreeMap::from([(Vec::new(), 2)]);
    let mut level = vec![(Vec::new(), 2_u32)];
    while !level.is_empty() {
        let commands: String = level.iter().map(|(_, inode)| format!("ls -p <{inode}>\n")).collect();
        let output = debugfs(image, &commands);
        let mut parents = level.drain(..);
        let mut parent = Vec::new();
        let mut next = Vec::new();
        for line in output.split(|b| *b == b'\n') {
            if line.starts_with(b"debugfs: ls") {
                parent = parents.next().unwrap().0;
            }
            let fields: Vec<&[u8]> = line.split(|b| *b == b'/').collect();
            let [b"", inode, mode, _, _, name, ..] = fields.as_slice() else { continue };
            let (Ok(inode), Ok(mode)) = (number(inode, 10), number(mode, 8)) else { continue };
            if matches!(*name, b"." | b"..") || inode == 0 || parent.is_empty() && *name == b"lost+found" {
                continue;
            }
            let path = [parent.as_slice(), b"/", name].concat();
            if mode >> 12 == 4 {
                next.push((path.clone(), inode as u32));
            }
            found.insert(path, inode as u32);
        }
        drop(parents);
        level = next;
    }
    found
}

fn number(text: &[u8], radix: u32) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(std::str::from_utf8(text).unwrap_or("?"), radix)
}

/// The number behind a label in the output of `stat`.
fn field(text: &str, label: &str, radix: u32) -> u64 {
    let rest = text.split_once(label).unwrap_or_else(|| panic!("no {label} in {text}")).1.trim_start();
    // debugfs prints owners above 2^31 as negative numbers.
    let (rest, sign) = rest.strip_prefix('-').map_or((rest, 1), |rest| (rest, -1));
    let digits: String = rest.chars().take_while(|c| c.is_digit(radix)).collect();
    (i64::from_str_radix(&digits, radix).unwrap_or_else(|_| panic!("{label} in {text}")) * sign) as u64
}

/// A time as `stat` prints it: seconds, and the extra word with epoch and nanoseconds where inodes are large.
fn time(text: &str, label: &str) -> Timestamp {
    let line = text.lines().find(|line| line.trim_start().starts_with(label)).unwrap();
    let words = line.split_once(": 0x").unwrap().1.split(' ').next().unwrap();
    let (seconds, extra) = words.split_once(':').unwrap_or((words, "0"));
    let [seconds, extra] = [seconds, extra].map(|word| u32::from_str_radix(word, 16).unwrap());
    Timestamp { seconds: i64::from(seconds.cast_signed()) + (i64::from(extra & 3) << 32), nanos: extra >> 2 }
}

/// The bytes of files, given with their sizes, as debugfs prints them one after the other.
fn contents(image: &Path, wanted: &[(u32, usize)]) -> BTreeMap<u32, Vec<u8>> {
    let commands: String = wanted.iter().map(|(inode, _)| format!("cat <{inode}>\n")).collect();
    let output = debugfs(image, &commands);
    let mut rest = output.as_slice();
    let mut found = BTreeMap::new();
    for (inode, size) in wanted {
        let prompt = format!("debugfs: cat <{inode}>\n");
        let at = rest.windows(prompt.len()).position(|window| window == prompt.as_bytes()).unwrap();
        rest = &rest[at + prompt.len()..];
        // Of a file that lies in its inode debugfs prints the whole area, so the size decides.
        let content = rest.get(..*size).unwrap_or_else(|| panic!("inode {inode}: debugfs reads too few bytes"));
        found.insert(*inode, content.to_vec());
        rest = &rest[*size..];
    }
    found
}

/// Reads everything with debugfs. Extended attributes are asked for by the names that are wanted, and counted.
fn by_debugfs(image: &Path, wanted: &Tree) -> Tree {
    let inodes = inodes(image);
    let out = super::scratch();
    let mut first: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for (path, inode) in &inodes {
        first.entry(*inode).or_insert_with(|| path.clone());
    }
    let mut commands: String = first.keys().map(|inode| format!("stat <{inode}>\n")).collect();
    let stats = String::from_utf8_lossy(&debugfs(image, &commands)).into_owned();
    let stats: BTreeMap<u32, &str> =
        stats.split("debugfs: stat <").skip(1).map(|text| (field(text, "Inode: ", 10) as u32, text)).collect();
    commands.clear();
    let mut wanted_bytes = Vec::new();
    let place = |inode: u32, i: usize| out.path().join(format!("{inode}-{i}"));
    for (inode, path) in &first {
        let text = stats[inode];
        if text.contains("Type: regular") || text.contains("Type: symlink") && !text.contains("Fast link dest") {
            wanted_bytes.push((*inode, field(text, "Size: ", 10) as usize));
        }
        for (i, (name, _)) in wanted.get(path).iter().flat_map(|entry| &entry.xattrs).enumerate() {
            let name = String::from_utf8_lossy(name);
            commands += &format!("ea_get -f {} <{inode}> {name}\n", place(*inode, i).display());
        }
    }
    debugfs(image, &commands);
    let contents = contents(image, &wanted_bytes);
    let entry = |path: &Vec<u8>, inode: &u32| {
        let text = stats[inode];
        let file_type = match text.split_once("Type: ").unwrap().1.split_whitespace().next().unwrap() {
            "regular" => FileType::Regular,
            "directory" => FileType::Directory,
            "symlink" => FileType::Symlink,
            "character" => FileType::CharDevice,
            "block" => FileType::BlockDevice,
            "FIFO" => FileType::Fifo,
            "socket" => FileType::Socket,
            other => panic!("{} is of type {other}", printable(path)),
        };
        let size = if file_type == FileType::Directory { 0 } else { field(text, "Size: ", 10) };
        let content = match text.split_once("Fast link dest: \"") {
            Some((_, rest)) => rest.split('"').next().unwrap().as_bytes().to_vec(),
            None => contents.get(inode).cloned().unwrap_or_default(),
        };
        let device = match text.split_once("Device major/minor number: ") {
            Some((_, rest)) => {
                let (major, rest) = rest.split_once(':').unwrap();
                (major.parse().unwrap(), rest.split_whitespace().next().unwrap().parse().unwrap())
            }
            None => (0, 0),
        };
        let names = wanted.get(path).map(|entry| entry.xattrs.as_slice()).unwrap_or_default();
        let values = names
            .iter()
            .enumerate()
            .filter_map(|(i, (name, _))| Some((name.clone(), std::fs::read(place(*inode, i)).ok()?)));
        let mut xattrs: Vec<_> = values.collect();
        let listed = text.split_once("Extended attributes:").map_or(0, |(_, rest)| {
            let lines = rest.lines().skip(1).take_while(|line| line.starts_with("  "));
            lines.filter(|line| !line.starts_with("  system.data ")).count()
        });
        if listed != xattrs.len() {
            xattrs.push((format!("debugfs lists {listed}").into_bytes(), Vec::new()));
        }
        Entry {
            mode: file_type.mode_bits() | field(text, "Mode: ", 8) as u32,
            uid: field(text, "User: ", 10) as u32,
            gid: field(text, "Group: ", 10) as u32,
            links: field(text, "Links: ", 10),
            size,
            device,
            times: [time(text, "atime"), time(text, "mtime"), time(text, "ctime")],
            content,
            xattrs,
            same_as: first[inode].clone(),
        }
    };
    inodes.iter().map(|(path, inode)| (path.clone(), entry(path, inode))).collect()
}

/// Names, types, permissions, owners, sizes, content and targets as the crate ext4-view reads them.
pub fn judge_by_ext4_view(image: &Path, wanted: &Tree) {
    let fs = ext4_view::Ext4::load(Box::new(std::fs::read(image).unwrap())).unwrap();
    let mut found = 0;
    for (path, want) in wanted {
        let path = if path.is_empty() { b"/" } else { path.as_slice() };
        let what = printable(path);
        let name = ext4_view::PathBuf::try_from(path).unwrap();
        let meta = fs.symlink_metadata(&name).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(u32::from(meta.mode()) & 0o7777, want.mode & 0o7777, "{what}");
        assert_eq!((meta.uid(), meta.gid()), (want.uid, want.gid), "{what}");
        match FileType::from_mode(want.mode) {
            Some(FileType::Regular) => assert!(fs.read(&name).unwrap() == want.content, "{what}: content"),
            Some(FileType::Symlink) => assert_eq!(fs.read_link(&name).unwrap().as_ref(), want.content, "{what}"),
            Some(FileType::Directory) => found += fs.read_dir(&name).unwrap().map(|entry| entry.unwrap()).count() - 2,
            _ => {}
        }
    }
    // All names, and lost+found.
    assert_eq!(found, wanted.len(), "names that ext4-view lists");
}
