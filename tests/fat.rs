//! The FAT driver against dosfstools, mtools and the fatfs crate.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use imgsh::base::{Timestamp, Uuid};
use imgsh::disk::Device;
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, FileSystem, MakeOptions, NewKind, NewNode, NodeId};

/// 2023-11-14 22:13:20 UTC.
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A scratch volume: bytes in memory, and a file for the tools to look at.
struct Scratch {
    memory: Arc<Memory>,
    folder: tempfile::TempDir,
}

fn tool(name: &str) -> PathBuf {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("the tests need {name} (dosfstools, mtools)"))
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(tool(name)).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").args(arguments).output().unwrap();
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&text));
    output
}

impl Scratch {
    /// A volume that mkfs.vfat made.
    fn mkfs(kib: u64, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        std::fs::File::create(&file).unwrap().set_len(kib * 1024).unwrap();
        let file = file.to_str().unwrap();
        run("mkfs.vfat", &[arguments, &["-i", "1234abcd", file]].concat());
        Scratch { memory: Arc::new(Memory::from(std::fs::read(file).unwrap())), folder }
    }

    /// A volume that we made.
    fn made(kib: usize, options: &MakeOptions) -> Self {
        let scratch = Scratch { memory: Arc::new(Memory::new(kib * 1024)), folder: tempfile::tempdir().unwrap() };
        fs::make(&scratch.device(), options).unwrap();
        scratch
    }

    fn device(&self) -> Device {
        self.memory.clone()
    }

    fn open(&self) -> Box<dyn FileSystem> {
        fs::open(self.device()).unwrap()
    }

    /// The volume as a file on the host.
    fn file(&self) -> String {
        let file = self.folder.path().join("image");
        std::fs::write(&file, self.memory.bytes()).unwrap();
        file.to_str().unwrap().to_string()
    }

    /// fsck.fat finds nothing, both tables are the same.
    fn check(&self) {
        let file = self.file();
        let output = run("fsck.fat", &["-n", &file]);
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        assert_eq!(text.lines().count(), 2, "fsck.fat has remarks:\n{text}");
    }

    /// A file as mtools reads it.
    fn mtype(&self, path: &str) -> Vec<u8> {
        run("mtype", &["-i", &self.file(), &format!("::{path}")]).stdout
    }

    /// All files with sizes as mtools lists them.
    fn mdir(&self) -> String {
        String::from_utf8(run("mdir", &["-/", "-b", "-i", &self.file(), "::"]).stdout).unwrap()
    }
}

fn file() -> NewNode {
    NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 }
}

fn folder() -> NewNode {
    NewNode { kind: NewKind::Directory, mode: 0o755, uid: 0, gid: 0 }
}

/// Makes a file with this content.
fn put(fs: &mut dyn FileSystem, dir: NodeId, name: &str, content: &[u8]) -> NodeId {
    let edit = fs.edit(NOW).unwrap();
    let node = edit.create(dir, name.as_bytes(), &file()).unwrap();
    edit.fill(node, content.len() as u64, &mut &content[..], false).unwrap();
    node
}

fn content(fs: &dyn FileSystem, node: NodeId) -> Vec<u8> {
    let mut bytes = vec![0; fs.metadata(node).unwrap().size as usize];
    assert_eq!(fs.read(node, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 7 + i * 31) as u8 ^ seed).collect()
}

/// Sizes and options for mkfs.vfat that give every width and many cluster sizes.
fn kinds() -> Vec<(u64, Vec<&'static str>)> {
    vec![
        (1440, vec!["-F", "12"]),
        (8192, vec!["-F", "12", "-s", "8"]),
        (16384, vec!["-F", "16", "-s", "2"]),
        (65536, vec!["-F", "16", "-S", "4096"]),
        (65536, vec!["-F", "32", "-s", "1"]),
        (40960, vec!["-F", "32", "-s", "8", "-f", "1"]),
    ]
}

#[test]
fn files_of_every_kind_are_read_back_by_mtools() {
    for (kib, arguments) in kinds() {
        let scratch = Scratch::mkfs(kib, &arguments);
        let mut fs = scratch.open();
        let root = fs.root();
        let dir = fs.edit(NOW).unwrap().create(root, b"EFI", &folder()).unwrap();
        let long = format!("{}.conf", "name ".repeat(40));
        let names =
            ["grub.cfg", "BOOTX64.EFI", "ReadMe.txt", "привет мир.txt", "emoji 😀 file", ".hidden", long.as_str()];
        for (i, name) in names.iter().enumerate() {
            put(fs.as_mut(), dir, name, &pattern(i * 5000, i as u8));
        }
        fs.edit(NOW).unwrap().sync().unwrap();
        scratch.check();
        // Everything by a fresh look of ours, and by mtools.
        let fs = scratch.open();
        let dir = fs.lookup(root, b"efi").unwrap().unwrap();
        let found: Vec<String> = fs.read_dir(dir).unwrap().iter().map(|e| e.name.to_string()).collect();
        assert_eq!(found, names);
        for (i, name) in names.iter().enumerate() {
            let node = fs.lookup(dir, name.to_uppercase().as_bytes()).unwrap().unwrap();
            assert_eq!(content(fs.as_ref(), node), pattern(i * 5000, i as u8), "{name}");
            // mtools refuses FAT32 with fewer than 65525 clusters.
            if !name.contains('😀') && kib != 40960 {
                assert_eq!(scratch.mtype(&format!("EFI/{name}")), pattern(i * 5000, i as u8), "{name}");
            }
        }
        let listing = if kib == 40960 { continue } else { scratch.mdir() };
        assert!(listing.contains("::/EFI/grub.cfg\n") && listing.contains("::/EFI/привет мир.txt\n"), "{listing}");
        let info = fs.info().unwrap();
        assert_eq!((info.fs_type.as_str(), info.uuid.as_str(), info.owners), ("vfat", "1234-ABCD", false));
    }
}

#[test]
fn made_volumes_are_clean_in_every_size() {
    for (kib, block_size, sector_size, label) in [
        (64, None, None, None),
        (360, None, None, Some("floppy")),
        (1440, Some(1024), None, None),
        (4096, None, None, Some("EFI")),
        (5000, None, None, None),
        (16385, None, None, Some("A B-C")),
        (33_000, Some(512), None, None),
        (65536, None, Some(4096), None),
        (126_976, None, None, Some("ESP")),
        (300_000, Some(1024), None, Some("THIRTY-TWO")),
        (540_000, None, None, None),
        (1_100_000, Some(8192), None, Some("BIG")),
    ] {
        let uuid = Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0xca, 0xfe, 0x12, 0x34]);
        let label = label.map(String::from);
        let options = MakeOptions {
            fs_type: "vfat".into(),
            block_size,
            sector_size,
            label,
            uuid,
            now: NOW,
            ..Default::default()
        };
        let scratch = Scratch::made(kib, &options);
        scratch.check();
        let mut fs = scratch.open();
        let info = fs.info().unwrap();
        assert_eq!(info.label, options.label.clone().unwrap_or_default().to_uppercase(), "{kib}");
        assert_eq!((info.uuid.as_str(), info.read_only.clone()), ("CAFE-1234", None));
        assert!(block_size.is_none_or(|size| u64::from(size) == info.block_size));
        let found = fs::identify(scratch.memory.as_ref()).unwrap().unwrap();
        assert_eq!((found.fs_type, found.label, found.uuid), ("vfat".to_string(), info.label, info.uuid));
        let root = fs.root();
        let node = put(fs.as_mut(), root, "Some Long Name.txt", &pattern(20_000, 1));
        fs.edit(NOW).unwrap().sync().unwrap();
        assert_eq!(content(fs.as_ref(), node), pattern(20_000, 1));
        scratch.check();
        assert_eq!(scratch.mtype("Some Long Name.txt"), pattern(20_000, 1), "{kib}");
    }
}
