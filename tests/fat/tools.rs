//! Scratch volumes, and what the tools say of them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use imgsh::base::Timestamp;
use imgsh::disk::Device;
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, FileSystem, MakeOptions, NewKind, NewNode, NodeId};

/// 2023-11-14 22:13:20 UTC.
pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A scratch volume: bytes in memory, and a file for the tools to look at.
pub struct Scratch {
    pub memory: Arc<Memory>,
    folder: tempfile::TempDir,
}

pub fn tool(name: &str) -> PathBuf {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("the tests need {name} (dosfstools, mtools)"))
}

pub fn run(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(tool(name)).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").args(arguments).output().unwrap();
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&text));
    output
}

impl Scratch {
    /// A volume that mkfs.vfat made.
    pub fn mkfs(kib: u64, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        std::fs::File::create(&file).unwrap().set_len(kib * 1024).unwrap();
        let file = file.to_str().unwrap();
        run("mkfs.vfat", &[arguments, &["-i", "1234abcd", file]].concat());
        Scratch { memory: Arc::new(Memory::from(std::fs::read(file).unwrap())), folder }
    }

    /// A volume that we made.
    pub fn made(kib: usize, options: &MakeOptions) -> Self {
        let scratch = Scratch { memory: Arc::new(Memory::new(kib * 1024)), folder: tempfile::tempdir().unwrap() };
        fs::make(&scratch.device(), options).unwrap();
        scratch
    }

    pub fn device(&self) -> Device {
        self.memory.clone()
    }

    pub fn open(&self) -> Box<dyn FileSystem> {
        fs::open(self.device()).unwrap()
    }

    /// The volume as a file on the host.
    pub fn file(&self) -> String {
        let file = self.folder.path().join("image");
        let bytes = self.memory.bytes();
        let out = std::fs::File::create(&file).unwrap();
        out.set_len(bytes.len() as u64).unwrap();
        for (i, piece) in bytes.chunks(1 << 16).enumerate() {
            if !imgsh::base::bytes::is_zero(piece) {
                out.write_all_at(piece, (i as u64) << 16).unwrap();
            }
        }
        file.to_str().unwrap().to_string()
    }

    /// fsck.fat finds nothing, both tables are the same.
    pub fn check(&self) {
        let file = self.file();
        let output = run("fsck.fat", &["-n", &file]);
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        assert_eq!(text.lines().count(), 2, "fsck.fat has remarks:\n{text}");
    }

    /// The label as fatlabel reads it.
    pub fn label(&self) -> String {
        String::from_utf8(run("fatlabel", &[&self.file()]).stdout).unwrap().trim_end().to_string()
    }

    /// What one of the mtools says of a path.
    pub fn tool(&self, name: &str, path: &str) -> Vec<u8> {
        run(name, &["-i", &self.file(), &format!("::{path}")]).stdout
    }

    /// The volume with other bytes.
    pub fn with(self, bytes: Vec<u8>) -> Self {
        Scratch { memory: Arc::new(Memory::from(bytes)), ..self }
    }

    /// The volume as the fatfs crate sees it.
    pub fn fatfs(&self) -> fatfs::FileSystem<std::io::Cursor<Vec<u8>>> {
        fatfs::FileSystem::new(std::io::Cursor::new(self.memory.bytes()), fatfs::FsOptions::new()).unwrap()
    }

    /// A file as mtools reads it.
    pub fn mtype(&self, path: &str) -> Vec<u8> {
        run("mtype", &["-i", &self.file(), &format!("::{path}")]).stdout
    }

    /// All files with sizes as mtools lists them.
    pub fn mdir(&self) -> String {
        String::from_utf8(run("mdir", &["-/", "-b", "-i", &self.file(), "::"]).stdout).unwrap()
    }
}

pub fn file() -> NewNode {
    NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 }
}

pub fn folder() -> NewNode {
    NewNode { kind: NewKind::Directory, mode: 0o755, uid: 0, gid: 0 }
}

/// Makes a file with this content.
pub fn put(fs: &mut dyn FileSystem, dir: NodeId, name: &str, content: &[u8]) -> NodeId {
    let edit = fs.edit(NOW).unwrap();
    let node = edit.create(dir, name.as_bytes(), &file()).unwrap();
    edit.fill(node, content.len() as u64, &mut &content[..], false).unwrap();
    node
}

pub fn content(fs: &dyn FileSystem, node: NodeId) -> Vec<u8> {
    let mut bytes = vec![0; fs.metadata(node).unwrap().size as usize];
    assert_eq!(fs.read(node, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 7 + i * 31) as u8 ^ seed).collect()
}

/// Sizes and options for mkfs.vfat that give every width and many cluster sizes.
pub fn kinds() -> Vec<(u64, Vec<&'static str>)> {
    vec![
        (1440, vec!["-F", "12"]),
        (8192, vec!["-F", "12", "-s", "8"]),
        (16384, vec!["-F", "16", "-s", "2"]),
        (65536, vec!["-F", "16", "-S", "4096"]),
        (65536, vec!["-F", "32", "-s", "1"]),
        (40960, vec!["-F", "32", "-s", "8", "-f", "1"]),
    ]
}
