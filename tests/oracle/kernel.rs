//! Linux itself as a judge: it mounts the image, reads everything, and goes on writing. Needs root and loop devices;
//! without them it is skipped, and says so.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use imgsh::base::Timestamp;

use super::tree::{Entry, Tree, assert_same};
use super::{assert_clean, run, scratch};

/// A mounted image; unmounted at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(image: &Path, fs_type: &str, options: &str) -> Result<Self, String> {
        let dir = scratch();
        let output = Command::new("mount").args(["-t", fs_type, "-o", options]).arg(image).arg(dir.path()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() { Ok(Mount(dir)) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A busy machine may keep it busy for a moment.
        for _ in 0..50 {
            let output = Command::new("umount").arg(self.0.path()).output();
            if output.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("{} stays mounted", self.0.path().display());
    }
}

/// Whether an image can be mounted here at all; tried once.
fn can_mount() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let dir = scratch();
        let image = dir.path().join("image");
        run("mke2fs", &["-q", "-F", "-t", "ext4", image.to_str().unwrap(), "4M"]);
        match Mount::new(&image, "ext4", "loop,ro") {
            Ok(_) => true,
            Err(error) => {
                eprintln!("SKIPPED: no judgement by the kernel, images cannot be mounted here: {}", error.trim());
                false
            }
        }
    })
}

/// All entries below a mount point, without extended attributes.
fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(path) = queue.pop() {
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).unwrap();
        let file_type = meta.file_type();
        let content = if file_type.is_file() {
            std::fs::read(&full).unwrap()
        } else if file_type.is_symlink() {
            std::fs::read_link(&full).unwrap().into_os_string().into_vec()
        } else {
            Vec::new()
        };
        if file_type.is_dir() {
            for entry in std::fs::read_dir(&full).unwrap() {
                let name = entry.unwrap().file_name();
                if path.as_os_str().is_empty() && name == "lost+found" {
                    continue;
                }
                queue.push(path.join(name));
            }
        }
        let device = if file_type.is_char_device() || file_type.is_block_device() { meta.rdev() } else { 0 };
        let time = |seconds, nanos: i64| Timestamp { seconds, nanos: nanos as u32 };
        let entry = Entry {
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            links: meta.nlink(),
            size: if file_type.is_dir() { 0 } else { meta.len() },
            device: (nix::sys::stat::major(device) as u32, nix::sys::stat::minor(device) as u32),
            times: [
                time(meta.atime(), meta.atime_nsec()),
                time(meta.mtime(), meta.mtime_nsec()),
                time(meta.ctime(), meta.ctime_nsec()),
            ],
            content,
            xattrs: Vec::new(),
            same_as: meta.ino().to_be_bytes().to_vec(),
        };
        let name = path.as_os_str().as_bytes();
        tree.insert(if name.is_empty() { Vec::new() } else { [b"/", name].concat() }, entry);
    }
    // Inode numbers become first paths.
    let mut first: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (path, entry) in &mut tree {
        entry.same_as = first.entry(entry.same_as.clone()).or_insert_with(|| path.clone()).clone();
    }
    tree
}

/// Has Linux read an image, then make and remove a name in every directory; e2fsck must find nothing after it.
pub fn judge_by_kernel(image: &Path, wanted: &Tree, what: &str) {
    if !can_mount() {
        return;
    }
    let fail = |error: String| -> Mount { panic!("{what}: mount: {error}") };
    let mut plain = wanted.clone();
    plain.values_mut().for_each(|entry| entry.xattrs.clear());
    let mount = Mount::new(image, "ext4", "loop,ro").unwrap_or_else(fail);
    assert_same(&walk(mount.0.path()), &plain, &format!("{what}, read by Linux"));
    drop(mount);
    let mount = Mount::new(image, "ext4", "loop").unwrap_or_else(fail);
    for (path, _) in wanted.iter().filter(|(_, entry)| entry.mode & 0o170000 == 0o040000) {
        let name = [path.strip_prefix(b"/").unwrap_or(path), b"/a name by Linux"].concat();
        let name = name.strip_prefix(b"/").unwrap_or(&name);
        let full = mount.0.path().join(std::ffi::OsStr::from_bytes(name));
        // A full file system has no room, which is no fault.
        if std::fs::write(&full, b"content").is_ok() || full.exists() {
            std::fs::remove_file(&full).unwrap();
        }
    }
    drop(mount);
    assert_clean(image, &format!("{what}, then Linux"));
}

/// Has Linux mount an image and lets `fill` put something into it; `false` where it cannot be mounted here.
pub fn filled(image: &Path, fs_type: &str, fill: impl FnOnce(&Path)) -> bool {
    match Mount::new(image, fs_type, "loop") {
        Ok(mount) => fill(mount.0.path()),
        Err(error) => {
            eprintln!("SKIPPED: images of {fs_type} cannot be mounted here: {}", error.trim());
            return false;
        }
    }
    true
}

/// Has Linux read an image of a file system that nobody writes, with the attributes of those files that should have some.
/// An image that it does not know how to mount is skipped.
pub fn judge_reading(image: &Path, fs_type: &str, found: &Tree, what: &str) {
    if !can_mount() {
        return;
    }
    let mount = match Mount::new(image, fs_type, "loop,ro") {
        Ok(mount) => mount,
        Err(error) => return eprintln!("SKIPPED: {what}: no judgement by the kernel: {}", error.trim()),
    };
    let mut wanted = walk(mount.0.path());
    for (path, entry) in found.iter().filter(|(_, entry)| !entry.xattrs.is_empty()) {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let full = mount.0.path().join(std::ffi::OsStr::from_bytes(path));
        if let Some(entry) = wanted.get_mut(&[if path.is_empty() { b"".as_slice() } else { b"/" }, path].concat()) {
            entry.xattrs = attributes(&full);
        }
        assert!(entry.xattrs.is_sorted(), "{what}: attributes are sorted");
    }
    assert_same(found, &wanted, &format!("{what}, read by Linux"));
}

/// All attributes of a file that getfattr shows, sorted.
fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = run("getfattr", &["-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", path.to_str().unwrap()]);
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once("=0x"));
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut found: Vec<_> =
        lines.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().chunks(2).map(byte).collect())).collect();
    found.sort();
    found
}
