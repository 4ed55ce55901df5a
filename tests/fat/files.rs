//! Volumes that we make and files in them, read back by others.

use std::collections::BTreeMap;

use imgsh::base::{Kind, Uuid};
use imgsh::fs::{self, FileSystem, FileType, MakeOptions, NodeId};

use crate::tools::*;

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
        (560_000, Some(8192), None, Some("BIG")),
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
        assert_eq!(info.label, options.label.clone().unwrap_or_default(), "{kib}");
        assert_eq!((info.uuid.as_str(), info.read_only.clone()), ("CAFE-1234", None));
        assert!(block_size.is_none_or(|size| u64::from(size) == info.block_size));
        let found = fs::identify(scratch.memory.as_ref()).unwrap().unwrap();
        assert_eq!((found.fs_type, found.label, found.uuid), ("vfat".to_string(), info.label, info.uuid));
        for wrong in [&b""[..], b"twelve bytes", b" x", b"a.b", "\u{fc}".as_bytes()] {
            assert_eq!(fs.edit(NOW).unwrap().set_label(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong:?}");
        }
        for label in [&b"a Label"[..], b"elevenchars", b"L"] {
            let edit = fs.edit(NOW).unwrap();
            edit.set_label(label).unwrap();
            edit.sync().unwrap();
            // fsck.fat compares the label of the boot sector with the root directory's, and with the copy's.
            scratch.check();
            assert_eq!(scratch.label().as_bytes(), label, "{kib}");
        }
        let root = fs.root();
        let node = put(fs.as_mut(), root, "Some Long Name.txt", &pattern(20_000, 1));
        fs.edit(NOW).unwrap().sync().unwrap();
        assert_eq!(content(fs.as_ref(), node), pattern(20_000, 1));
        scratch.check();
        assert_eq!(scratch.mtype("Some Long Name.txt"), pattern(20_000, 1), "{kib}");
    }
}

/// Every file and directory (with a slash) with its size.
fn sizes(fs: &dyn FileSystem, dir: NodeId, path: &str, found: &mut BTreeMap<String, u64>) {
    for entry in fs.read_dir(dir).unwrap() {
        let name = format!("{path}/{}", entry.name);
        let about = fs.metadata(entry.node).unwrap();
        if about.file_type == FileType::Directory {
            sizes(fs, entry.node, &name, found);
            found.insert(format!("{name}/"), 0);
        } else {
            found.insert(name, about.size);
        }
    }
}

#[test]
fn what_mtools_wrote_is_read() {
    let scratch = Scratch::mkfs(70_000, &["-F", "32", "-s", "1", "-n", "SEED"]);
    let image = scratch.file();
    let tree = tempfile::tempdir().unwrap();
    let long = "x".repeat(200);
    let mut wanted = BTreeMap::new();
    for (i, name) in ["lower.txt", "UPPER.TXT", "Mixed.Txt", "with space", "кириллица.txt", "no-extension", &long]
        .into_iter()
        .enumerate()
    {
        let file = tree.path().join(name);
        std::fs::write(&file, pattern(i * 2222, i as u8)).unwrap();
        run("mmd", &["-D", "s", "-i", &image, &format!("::/Dir{i}")]);
        run("mcopy", &["-i", &image, file.to_str().unwrap(), &format!("::/Dir{i}/")]);
        wanted.insert(format!("/Dir{i}/"), 0);
        wanted.insert(format!("/Dir{i}/{name}"), i as u64 * 2222);
    }
    run("mdel", &["-i", &image, "::/Dir0/lower.txt"]);
    wanted.remove("/Dir0/lower.txt");
    let scratch = scratch.with(std::fs::read(&image).unwrap());
    let fs = scratch.open();
    let mut found = BTreeMap::new();
    sizes(fs.as_ref(), fs.root(), "", &mut found);
    assert_eq!(found, wanted);
    for (path, size) in wanted.iter().filter(|(path, _)| !path.ends_with('/')) {
        let mut node = fs.root();
        for name in path.split('/').skip(1) {
            node = fs.lookup(node, name.to_lowercase().as_bytes()).unwrap().unwrap();
        }
        assert_eq!(content(fs.as_ref(), node), pattern(*size as usize, (size / 2222) as u8), "{path}");
    }
    assert_eq!(fs.info().unwrap().label, "SEED");
}
