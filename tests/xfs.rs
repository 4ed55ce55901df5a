//! XFS, read: file systems that mkfs.xfs fills from a folder, of every version and geometry, compared with the folder; and damaged ones.
//! Images that Linux filled, with attributes and all forms of extents, are judged by `scripts/judge-tree`.

mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::BlockDevice;
use imgsh::fs;
use oracle::folder::{Node, fill, on_host, walk, walk_damaged};
use oracle::guest::noise;
use oracle::kernel::filled;
use oracle::world::World;
use oracle::{Random, Sparse, run, scratch};

/// What mkfs.xfs is told to put in: a line for each node, `$` behind each directory.
fn list(root: &Path, text: &mut String) {
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let (name, meta) = (path.file_name().unwrap().to_str().unwrap(), std::fs::symlink_metadata(&path).unwrap());
        let mode = meta.mode() & 0o777;
        if meta.is_dir() {
            writeln!(text, "{name} d--{mode:03o} 5 6").unwrap();
            list(&path, text);
            writeln!(text, "$").unwrap();
        } else if meta.is_symlink() {
            writeln!(text, "{name} l--777 5 6 {}", std::fs::read_link(&path).unwrap().display()).unwrap();
        } else if meta.is_file() {
            writeln!(text, "{name} ---{mode:03o} 5 6 {}", path.display()).unwrap();
        } else {
            writeln!(text, "{name} p--{mode:03o} 5 6").unwrap();
        }
    }
}

fn made(options: &[&str], root: &Path) -> Arc<Sparse> {
    let dir = scratch();
    let (image, proto) = (dir.path().join("image"), dir.path().join("proto"));
    let mut text = "/\n0 0\nd--755 0 0\n".to_string();
    list(root, &mut text);
    std::fs::write(&proto, text + "$\n$\n").unwrap();
    std::fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    run(
        "mkfs.xfs",
        &[&["-q", "-L", "a label", "-p", proto.to_str().unwrap()], options, &[image.to_str().unwrap()]].concat(),
    );
    Sparse::load(&image)
}

/// Without what mkfs.xfs does not take from the folder.
fn comparable(tree: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let plain = |(mode, _, size, _, content): Node| (mode & 0o170777, 5, size, 0, content);
    tree.into_iter().map(|(path, node)| (path, plain(node))).collect()
}

#[test]
fn folders_are_read_as_they_are() {
    let dir = scratch();
    fill(dir.path());
    let kinds: &[&[&str]] = &[
        &[],
        &["-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1", "-i", "nrext64=1"],
        &["-b", "size=1024", "-n", "size=4096", "-i", "sparse=0", "-m", "bigtime=0"],
        &["-i", "size=1024", "-n", "size=16384", "-s", "size=4096"],
        &["-m", "crc=0"],
        &["-m", "crc=0,finobt=0", "-n", "ftype=0", "-b", "size=512"],
    ];
    for options in kinds {
        // Longer targets are not for XFS, and mkfs.xfs 6.1 makes those that do not fit the inode as in version 4.
        std::fs::remove_file(dir.path().join("long-link")).unwrap();
        symlink("t".repeat(if options.contains(&"crc=0") { 900 } else { 300 }), dir.path().join("long-link")).unwrap();
        let mut wanted = BTreeMap::new();
        on_host(dir.path(), "", &mut wanted);
        let wanted = comparable(wanted);
        let device = made(options, dir.path());
        let mut fs = fs::open(device.device()).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let mut found = BTreeMap::new();
        walk(fs.as_ref(), fs.root(), "", &mut found).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let found = comparable(found);
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{options:?}");
        for (path, node) in &wanted {
            assert!(
                found[path] == *node,
                "{options:?}: {path} differs: {:?}",
                (found[path].0, found[path].2, node.0, node.2)
            );
        }
        assert_eq!(fs.lookup(fs.root(), b"not there").unwrap(), None);
        let info = fs.info().unwrap();
        assert_eq!((info.fs_type.as_str(), info.label.as_str()), ("xfs", "a label"));
        assert_eq!(fs.edit(Timestamp::default()).err().unwrap().kind(), Kind::ReadOnly);
    }
}

/// The number behind a word in the lines of `xfs_info` from one that begins with `line` on.
fn told(text: &str, line: &str, word: &str) -> u64 {
    let rest = &text[text.find(line).unwrap_or_else(|| panic!("no {line} in {text}"))..];
    let rest = rest.split_once(&format!("{word}=")).unwrap_or_else(|| panic!("no {word} in {rest}")).1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn the_geometry_is_that_of_xfs_info() {
    let world = World::new();
    let image = world.path("image").into_os_string().into_string().unwrap();
    std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
    let kinds: &[&[&str]] = &[
        &[],
        &["-b", "size=1024", "-n", "size=8192", "-i", "size=512,maxpct=7", "-d", "agcount=9", "-l", "size=64m"],
        &["-m", "crc=0", "-i", "attr=1", "-l", "version=1", "-n", "ftype=0"],
        &["-d", "sunit=128,swidth=512", "-s", "size=4096", "-l", "su=32768,size=64m"],
    ];
    for options in kinds {
        run("mkfs.xfs", &[&["-q", "-f"], *options, &[&image]].concat());
        let text = run("xfs_db", &["-r", "-c", "info", &image]);
        let record = world.good(&["--ro", "-a", "image", "run", ":", "xfs-info", "/dev/sda"]);
        let mounted = world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "xfs-info", "/"]);
        assert!(record == mounted && record.starts_with("xfs_mntpoint: /dev/sda\n"), "{record}");
        // Linux derives it from the number of the device: 8:0.
        let sizes = world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "statvfs", "/"]);
        assert!(sizes.contains("\nfsid: 2048\n"), "{sizes}");
        for (field, line, word) in [
            ("inodesize", "meta-data=", "isize"),
            ("agcount", "meta-data=", "agcount"),
            ("agsize", "meta-data=", "agsize"),
            ("sectsize", "meta-data=", "sectsz"),
            ("attr", "meta-data=", "attr"),
            ("blocksize", "data ", "bsize"),
            ("datablocks", "data ", "blocks"),
            ("imaxpct", "data ", "imaxpct"),
            ("sunit", "data ", "sunit"),
            ("swidth", "data ", "swidth"),
            ("dirblocksize", "naming ", "bsize"),
            ("cimode", "naming ", "ascii-ci"),
            ("logblocksize", "log ", "bsize"),
            ("logblocks", "log ", "blocks"),
            ("logversion", "log ", "version"),
            ("logsectsize", "log ", "sectsz"),
            ("logsunit", "log ", "sunit"),
            ("lazycount", "log ", "lazy-count"),
            ("rtblocks", "realtime ", "blocks"),
            ("rtextents", "realtime ", "rtextents"),
        ] {
            let wanted = format!("\nxfs_{field}: {}\n", told(&text, line, word));
            assert!(record.contains(&wanted), "{options:?}: {wanted}{record}{text}");
        }
        assert!(text.contains("=version 2") && record.contains("xfs_dirversion: 2\n"), "{record}");
        assert!(text.contains("=internal") && record.contains("\nxfs_logname: internal\n"), "{record}");
        // guestfish's own answer where there is no realtime part (xfs_info says 4096).
        assert!(record.contains("\nxfs_rtextsize: 4294967295\n"), "{record}");
        assert!(text.contains("=none") && record.contains("\nxfs_rtname: none\n"), "{record}");
    }
}

#[test]
fn blocks_that_changed_places_are_found() {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    (0..2000).for_each(|i| std::fs::write(dir.path().join(format!("dir/a-longer-name-{i}")), b"").unwrap());
    let device = made(&[], dir.path());
    let pages = device.snapshot();
    let data: Vec<u64> = pages.iter().filter(|(_, page)| page.starts_with(b"XDD3")).map(|(at, _)| *at).collect();
    assert!(data.len() > 3, "{data:?}");
    let (a, b) = (data[1] * 4096, data[2] * 4096);
    let mut blocks = [vec![0; 4096], vec![0; 4096]];
    device.read_at(a, &mut blocks[0]).unwrap();
    device.read_at(b, &mut blocks[1]).unwrap();
    assert!(blocks[0].starts_with(b"XDD3") && blocks[0][40..48] == blocks[1][40..48]);
    device.write_at(a, &blocks[1]).unwrap();
    device.write_at(b, &blocks[0]).unwrap();
    let fs = fs::open(device.device()).unwrap();
    let node = fs.lookup(fs.root(), b"dir").unwrap().unwrap();
    let error = fs.read_dir(node).unwrap_err();
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains("blkno"), "{error}");
}

/// A target of two blocks has one header where they follow each other.
#[test]
fn links_of_two_blocks() {
    let world = World::new();
    let image = world.path("image");
    std::fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    run("mkfs.xfs", &["-q", "-b", "size=1024", image.to_str().unwrap()]);
    let target = |len: usize| "d/".repeat(len / 2);
    let lens = [500, 968, 970, 1022];
    if filled(&image, "xfs", |root| {
        lens.iter().for_each(|len| symlink(target(*len), root.join(format!("link-{len}"))).unwrap());
    }) {
        for len in lens {
            let found = world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "readlink", &format!("/link-{len}")]);
            assert_eq!(found.trim_end(), target(len));
        }
    }
}

#[test]
fn what_is_not_read_is_named() {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let device = made(&[], dir.path());
    let mut sector = vec![0; 512];
    let mut change = |at: usize, byte: u8| {
        device.read_at(0, &mut sector).unwrap();
        let old = sector.clone();
        sector[at] = byte;
        restamp(&mut sector, 224);
        device.write_at(0, &sector).unwrap();
        let error = fs::open(device.device()).err().map(|error| error.to_string());
        device.write_at(0, &old).unwrap();
        error.unwrap_or_default()
    };
    assert!(change(218, 1).contains("feature 'metadir' (incompat 0x100)"));
    assert!(change(216, 1).contains("unknown features"));
    assert!(change(100, 0xf4).contains("feature 'ascii-ci' (versionnum 0x4000)"));
    assert!(change(120, 60).contains("blocklog 60"));
    assert!(change(91, 200).contains("agcount 200") || change(91, 200).contains("not that of"));
    device.write_at(108, b"other").unwrap();
    assert!(fs::open(device.device()).err().unwrap().to_string().contains("checksum is wrong"));
}

fn restamp(block: &mut [u8], at: usize) {
    block[at..at + 4].fill(0);
    let sum = crc32c::crc32c(block).to_le_bytes();
    block[at..at + 4].copy_from_slice(&sum);
}

/// Damage in metadata, sums made right again: an error or a result, and in bounded time.
#[test]
fn damaged_metadata() {
    let dir = scratch();
    for i in 0..200 {
        std::fs::write(dir.path().join(format!("file-{i}")), noise(i * 31, i as u64)).unwrap();
    }
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    (0..2000).for_each(|i| std::fs::write(dir.path().join(format!("dir/a-longer-name-{i}")), b"").unwrap());
    symlink("t".repeat(300), dir.path().join("link")).unwrap();
    let device = made(&["-b", "size=1024"], dir.path());
    let pages = device.snapshot();
    let mut block = vec![0; 1024];
    // Where which magic has its sum; inodes are found by theirs, two in a block.
    let sums: [(&[u8], usize, usize); 5] =
        [(b"XDD3", 0, 4), (b"XDB3", 0, 4), (b"BMA3", 0, 64), (b"XSLM", 0, 12), (&[0x3d], 8, 12)];
    let mut places = Vec::new();
    for at in (0..device.len()).step_by(1024) {
        device.read_at(at, &mut block).unwrap();
        for (magic, from, sum) in sums {
            if block[from..].starts_with(magic) {
                places.push((at, 1024, sum));
            }
        }
        for half in [0, 512] {
            if block[half..].starts_with(b"IN\x41")
                || block[half..].starts_with(b"IN\x81")
                || block[half..].starts_with(b"IN\xa1")
            {
                places.push((at + half as u64, 512, 100));
            }
        }
    }
    places.push((0, 512, 224));
    // Each kind of metadata as often as inodes, which are the most.
    let mut random = Random(11);
    let mut refused = 0;
    for round in 0..1500 {
        let kind = [4, 12, 64, 100, 224][round % 5];
        let of_kind: Vec<_> = places.iter().filter(|(.., sum)| *sum == kind).collect();
        let Some((at, len, sum)) = of_kind.get(random.below(of_kind.len().max(1) as u64) as usize) else { continue };
        let mut bytes = vec![0; *len];
        device.read_at(*at, &mut bytes).unwrap();
        for _ in 0..=random.below(4) {
            let place = if random.below(2) == 0 { random.below(256) } else { random.below(*len as u64) };
            bytes[place as usize] = random.next() as u8;
        }
        restamp(&mut bytes, *sum);
        device.write_at(*at, &bytes).unwrap();
        let result = fs::open(device.device()).and_then(|fs| walk_damaged(fs.as_ref(), fs.root(), 0));
        refused += u32::from(result.is_err());
        device.restore(pages.clone());
    }
    assert!(refused > 100, "{refused} damages were found");
}
