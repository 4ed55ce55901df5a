//! `explain`: every place that it names is read on the host and compared with the content; the places themselves are compared with what
//! debugfs, xfs_db and qemu-img say.

mod oracle;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use oracle::guest::noise;
use oracle::run;
use oracle::world::{World, name};

/// A row: texts and numbers by their names, without those that are null.
type Row = BTreeMap<String, String>;

/// The rows of a file; `options` open the image.
fn explain(world: &World, options: &[&str], path: &str) -> Vec<Row> {
    let words = [options, &["explain", path, "all:true", "json:true"]].concat();
    let text = world.good(&words);
    let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
    let rows = inside.split("}, {").filter(|row| !row.is_empty());
    rows.map(|row| {
        let fields = row.trim_matches(['{', '}']).split(", \"").map(|field| field.split_once("\": ").unwrap());
        let plain = |text: &str| text.trim_matches('"').to_string();
        fields.filter(|(_, value)| *value != "null").map(|(key, value)| (plain(key), plain(value))).collect()
    })
    .collect()
}

fn number(row: &Row, key: &str) -> u64 {
    row.get(key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{key} in {row:?}"))
}

/// Bytes of a host file; past its end there are zeros.
fn bytes(file: &str, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let file = File::open(file).unwrap();
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64).unwrap() {
            0 => break,
            n => done += n,
        }
    }
    bytes
}

/// The bytes of a row as the host has them; `None` for those that stand with metadata.
fn kept(row: &Row) -> Option<Vec<u8>> {
    let len = number(row, "length");
    let zeros = vec![0; len as usize];
    if row["kind"] == "inline" {
        return None;
    }
    if row["kind"] != "data" {
        return Some(zeros);
    }
    Some(match row["kept"].as_str() {
        "data" => bytes(&row["file"], number(row, "fileplace"), len),
        "sparse" => {
            assert_eq!(bytes(&row["file"], number(row, "fileplace"), len), zeros, "{row:?}");
            zeros
        }
        "zero" => zeros,
        "compressed" => {
            let packed = bytes(&row["file"], number(row, "fileplace"), number(row, "packed"));
            let mut cluster = Vec::new();
            // The stream's sectors may hold the next stream's beginning too.
            let mut stream = flate2::read::DeflateDecoder::new(&packed[..]).take(65536);
            stream.read_to_end(&mut cluster).unwrap();
            let inside = (number(row, "diskplace") % 65536) as usize;
            cluster[inside..inside + len as usize].to_vec()
        }
        other => panic!("{other} in {row:?}"),
    })
}

/// Checks that the rows cover the content and that the bytes at every place are the content's.
fn check(rows: &[Row], content: &[u8], what: &str) {
    let mut at = 0;
    for row in rows {
        let (offset, len) = (number(row, "offset"), number(row, "length"));
        assert_eq!(offset, at, "{what}: {row:?}");
        at += len;
        if let Some(kept) = kept(row) {
            assert!(kept == content[offset as usize..at as usize], "{what}: {row:?}");
        }
    }
    assert_eq!(at, content.len() as u64, "{what}");
}

fn kinds(rows: &[Row], key: &str) -> Vec<String> {
    let mut kinds: Vec<String> = rows.iter().filter_map(|row| row.get(key).cloned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Noise on the host.
fn noisy(world: &World, file: &str, len: usize, seed: u64) -> Vec<u8> {
    let content = noise(len, seed);
    std::fs::write(world.path(file), &content).unwrap();
    content
}

/// What debugfs says of an inode's blocks: block of the file, of the device, and whether it is unwritten.
fn debugfs_blocks(part: &Path, path: &str) -> Vec<(u64, u64, bool)> {
    let text = run("debugfs", &["-R", &format!("stat {path}"), part.to_str().unwrap()]);
    let (_, list) = text.rsplit_once("EXTENTS:").or_else(|| text.rsplit_once("BLOCKS:")).unwrap();
    let mut blocks = Vec::new();
    for item in list.split("TOTAL").next().unwrap().split([',', '\n']) {
        let item = item.trim();
        let Some((logical, physical)) = item.strip_prefix('(').and_then(|rest| rest.split_once("):")) else { continue };
        // Blocks of the map itself.
        if logical.contains("ETB") || logical.contains("IND") {
            continue;
        }
        let unwritten = logical.contains("[u]") || physical.contains("[u]");
        let range = |text: &str| {
            let text = text.replace("[u]", "");
            let (a, b) = text.split_once('-').unwrap_or((&text, &text));
            (a.trim().parse::<u64>().unwrap(), b.trim().parse::<u64>().unwrap())
        };
        let ((from, to), (start, _)) = (range(logical), range(physical));
        blocks.extend((from..=to).zip(start..).map(|(logical, physical)| (logical, physical, unwritten)));
    }
    blocks
}

/// The same as the rows have it, for blocks that begin inside the file.
fn row_blocks(rows: &[Row], block: u64) -> Vec<(u64, u64, bool)> {
    let with_blocks = rows.iter().filter(|row| row.contains_key("block"));
    with_blocks
        .flat_map(|row| {
            let (first, count) = (number(row, "offset") / block, number(row, "length").div_ceil(block));
            let unwritten = row["kind"] == "unwritten";
            (first..first + count).zip(number(row, "block")..).map(move |(a, b)| (a, b, unwritten))
        })
        .collect()
}

/// A guest on a whole disk without a partition table, made by `lines`.
fn disk(world: &World, image: &str, lines: &str) {
    std::fs::write(world.path("make.gfs"), lines).unwrap();
    world.good(&["-a", image, "-f", "make.gfs"]);
}

#[test]
fn ext_maps_are_those_of_debugfs() {
    for (kind, options) in [("ext4", ""), ("ext2", ""), ("ext3", " blocksize:4096"), ("ext4", " blocksize:1024")] {
        let world = World::new();
        let content = noisy(&world, "noise", 3_000_001, 5);
        File::create(world.path("disk.raw")).unwrap().set_len(64 << 20).unwrap();
        // Two files in turns, so that neither is in one piece; a hole; space that reads as zeros.
        let mut lines = format!("run\nmkfs {kind} /dev/sda{options}\nmount /dev/sda /\ntouch /a\ntouch /b\n");
        for turn in 0..40 {
            for file in ["a", "b"] {
                lines += &format!("!dd if=noise of=piece bs=10000 skip={turn} count=1 status=none\n");
                lines +=
                    &format!("upload-offset piece /{file} {}\n", turn * 10000 + if turn > 20 { 700_000 } else { 0 });
            }
        }
        lines += "upload noise /whole\ntouch /hole\ntruncate-size /hole 300000\nfallocate64 /space 100000\n";
        disk(&world, "disk.raw", &lines);
        let mut turns = vec![0; 1_100_000];
        turns[..210_000].copy_from_slice(&content[..210_000]);
        turns[910_000..].copy_from_slice(&content[210_000..400_000]);
        let image = world.path("disk.raw");
        let size = run("debugfs", &["-R", "stats", &name(&image)]);
        let block = size.lines().find_map(|line| line.strip_prefix("Block size:")).unwrap().trim().parse().unwrap();
        let opened = ["--ro", "-a", "disk.raw", "-m", "/dev/sda"];
        let wanted = [
            ("/a", &turns[..]),
            ("/b", &turns),
            ("/whole", &content),
            ("/hole", &[0; 300_000]),
            ("/space", &[0; 100_000]),
        ];
        for (path, wanted) in wanted {
            let rows = explain(&world, &opened, path);
            check(&rows, wanted, path);
            let theirs = debugfs_blocks(&image, path);
            let inside: Vec<_> = theirs.into_iter().filter(|(at, ..)| at * block < wanted.len() as u64).collect();
            assert_eq!(row_blocks(&rows, block), inside, "{kind}{options} {path}");
        }
        assert_eq!(kinds(&explain(&world, &opened, "/a"), "kind"), ["data", "hole"]);
        assert_eq!(kinds(&explain(&world, &opened, "/hole"), "kind"), ["hole"]);
        assert!(explain(&world, &opened, "/a").len() > 10, "the file is in pieces");
    }
}

#[test]
fn unwritten_and_inline_files_are_said_to_be() {
    let world = World::new();
    let image = world.path("disk.raw");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let path = name(&image);
    run("mke2fs", &["-q", "-t", "ext4", "-O", "inline_data", "-I", "256", &path]);
    std::fs::write(world.path("small"), "a few bytes").unwrap();
    run("debugfs", &["-w", "-R", &format!("write {} small", name(&world.path("small"))), &path]);
    run("debugfs", &["-w", "-R", &format!("write {} space", name(&world.path("hello.sh"))), &path]);
    noisy(&world, "noise", 20_000, 9);
    run("debugfs", &["-w", "-R", &format!("write {} large", name(&world.path("noise"))), &path]);
    run("debugfs", &["-w", "-R", "fallocate large 25 30", &path]);
    run("debugfs", &["-w", "-R", "set_inode_field large size 40960", &path]);
    let opened = ["--ro", "-a", "disk.raw", "-m", "/dev/sda"];
    let rows = explain(&world, &opened, "/small");
    assert_eq!(kinds(&rows, "kind"), ["inline"]);
    check(&rows, b"a few bytes", "inline");
    let rows = explain(&world, &opened, "/large");
    assert_eq!(kinds(&rows, "kind"), ["data", "hole", "unwritten"]);
    let mut content = std::fs::read(world.path("noise")).unwrap();
    content.resize(40960, 0);
    check(&rows, &content, "unwritten");
    // mke2fs makes blocks of 1 KiB on so small a disk.
    assert_eq!(row_blocks(&rows, 1024), debugfs_blocks(&image, "/large"));
}

#[test]
fn qcow2_images_of_all_kinds() {
    let world = World::new();
    let content = noisy(&world, "noise", 1_500_000, 7);
    // Text, which compresses.
    let text: Vec<u8> = content.iter().flat_map(|byte| format!("{byte} ").into_bytes()).take(900_000).collect();
    std::fs::write(world.path("text"), &text).unwrap();
    let make =
        "run\npart-disk /dev/sda gpt\nmkfs vfat /dev/sda1\nmount /dev/sda1 /\nupload noise /noise\nupload text /text\n";
    for format in ["raw", "qcow2"] {
        run("qemu-img", &["create", "-q", "-f", format, &name(&world.path(&format!("base.{format}"))), "64M"]);
        disk(&world, &format!("base.{format}"), make);
    }
    let base = name(&world.path("base.raw"));
    for (from, backing) in [("base.raw", "raw"), ("base.qcow2", "qcow2")] {
        let over = name(&world.path(&format!("over.{backing}.qcow2")));
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", from, "-F", backing, &over]);
        disk(
            &world,
            &format!("over.{backing}.qcow2"),
            "run\nmount /dev/sda1 /\nupload hello.sh /hello\nupload-offset hello.sh /noise 700000\n",
        );
    }
    run("qemu-img", &["convert", "-c", "-O", "qcow2", &base, &name(&world.path("packed.qcow2"))]);
    let data = format!("data_file={},data_file_raw=on", name(&world.path("apart.raw")));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &name(&world.path("apart.qcow2")), "64M"]);
    disk(&world, "apart.qcow2", make);
    run(
        "qemu-img",
        &["convert", "-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k", &base, &name(&world.path("parts.qcow2"))],
    );
    let mut changed = content.clone();
    let hello = std::fs::read(world.path("hello.sh")).unwrap();
    changed[700_000..700_000 + hello.len()].copy_from_slice(&hello);
    let images = [
        ("base.raw", &content, &["data"][..]),
        ("base.qcow2", &content, &["data"]),
        ("over.raw.qcow2", &changed, &["data"]),
        ("over.qcow2.qcow2", &changed, &["data"]),
        ("packed.qcow2", &content, &["compressed", "data"]),
        ("apart.qcow2", &content, &["data"]),
        ("parts.qcow2", &content, &["data"]),
    ];
    for (image, noise, kept) in images {
        let opened = ["--ro", "-a", image, "-m", "/dev/sda1"];
        let rows = [explain(&world, &opened, "/noise"), explain(&world, &opened, "/text")];
        check(&rows[0], noise, image);
        check(&rows[1], &text, image);
        let all: Vec<Row> = rows.concat();
        for word in kinds(&all, "kept") {
            assert!(kept.contains(&word.as_str()), "{image}: {word}");
        }
        let files: Vec<String> =
            kinds(&all, "file").iter().map(|file| file.rsplit('/').next().unwrap().to_string()).collect();
        match image {
            "over.raw.qcow2" => assert_eq!(files, ["base.raw", "over.raw.qcow2"]),
            "over.qcow2.qcow2" => assert_eq!(files, ["base.qcow2", "over.qcow2.qcow2"]),
            "apart.qcow2" => assert_eq!(files, ["apart.raw"]),
            image => assert_eq!(files, [image]),
        }
        if image.ends_with("qcow2") {
            same_as_qemu(&world, image, &all);
        }
    }
}

/// Each row that is data is where `qemu-img map` has that byte of the disk.
fn same_as_qemu(world: &World, image: &str, rows: &[Row]) {
    let text = run("qemu-img", &["map", "--output=json", &name(&world.path(image))]);
    let value = |line: &str, key: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("\"{key}\": "))?;
        Some(rest.split([',', '}']).next()?.trim().to_string())
    };
    let mut judged = 0;
    for row in rows.iter().filter(|row| row["kept"] == "data") {
        let place = number(row, "diskplace");
        let line = text
            .lines()
            .find(|line| {
                let at = |key| value(line, key).and_then(|text| text.parse::<u64>().ok());
                at("start").is_some_and(|start| (start..start + at("length").unwrap()).contains(&place))
            })
            .unwrap();
        let start: u64 = value(line, "start").unwrap().parse().unwrap();
        let offset: u64 = value(line, "offset").unwrap_or_else(|| panic!("{image}: {line}")).parse().unwrap();
        assert_eq!(number(row, "fileplace"), offset + (place - start), "{image}: {row:?}");
        let in_image = row["file"].ends_with(image) || image == "apart.qcow2";
        assert_eq!(value(line, "depth").unwrap() == "0", in_image, "{image}: {row:?}");
        judged += 1;
    }
    assert!(judged > 0, "{image}");
}

#[test]
fn linear_and_striped_volumes() {
    let world = World::new();
    let content = noisy(&world, "noise", 900_000, 11);
    let packed = [&include_bytes!("lvm/first.gz")[..], &include_bytes!("lvm/second.gz")[..]];
    for (packed, image) in packed.into_iter().zip(["first.raw", "second.raw"]) {
        let mut head = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut head).unwrap();
        let mut file = File::create(world.path(image)).unwrap();
        file.write_all(&head).unwrap();
        file.set_len(64 << 20).unwrap();
    }
    for volume in ["/dev/group-1/root", "/dev/group-1/striped"] {
        let lines = format!("run\nmkfs ext4 {volume}\nmount {volume} /\nupload noise /f\n");
        std::fs::write(world.path("make.gfs"), lines).unwrap();
        world.good(&["-a", "first.raw", "-a", "second.raw", "-f", "make.gfs"]);
        let rows = explain(&world, &["--ro", "-a", "first.raw", "-a", "second.raw", "-m", volume], "/f");
        check(&rows, &content, volume);
        if volume.ends_with("striped") {
            assert_eq!(kinds(&rows, "disk"), ["/dev/sda", "/dev/sdb"]);
            // 64 KiB a turn: no row is longer.
            assert!(rows.iter().all(|row| number(row, "length") <= 65536) && rows.len() >= 900_000 / 65536);
        }
        for row in &rows {
            let image = if row["disk"] == "/dev/sda" { "first.raw" } else { "second.raw" };
            assert!(row["file"].ends_with(image) && row["fileplace"] == row["diskplace"], "{row:?}");
        }
    }
}

#[test]
fn xfs_places_are_those_of_xfs_db() {
    let world = World::new();
    let image = world.path("disk.raw");
    File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let content = noisy(&world, "noise", 1_000_001, 13);
    let proto = format!("/\n0 0\nd--755 0 0\nnoise ---644 0 0 {}\n$\n$\n", name(&world.path("noise")));
    std::fs::write(world.path("proto"), proto).unwrap();
    run("mkfs.xfs", &["-q", "-p", &name(&world.path("proto")), &name(&image)]);
    let opened = ["--ro", "-a", "disk.raw", "-m", "/dev/sda"];
    let rows = explain(&world, &opened, "/noise");
    check(&rows, &content, "xfs");
    let inode = world.good(&[&opened[..], &["stat", "/noise"]].concat());
    let inode = inode.lines().find_map(|line| line.strip_prefix("ino: ")).unwrap();
    let text = run("xfs_db", &["-r", "-c", &format!("inode {inode}"), "-c", "bmap", &name(&image)]);
    // data offset 0 startblock 24 (0/24) count 245 flag 0
    let theirs: Vec<(u64, u64, u64)> = text
        .lines()
        .filter(|line| line.starts_with("data offset"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[2].parse().unwrap(), words[4].parse().unwrap(), words[7].parse().unwrap())
        })
        .collect();
    let ours: Vec<(u64, u64, u64)> = rows
        .iter()
        .map(|row| (number(row, "offset") / 4096, number(row, "block"), number(row, "length").div_ceil(4096)))
        .collect();
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs);
}

#[test]
fn discs_and_btrfs() {
    let world = World::new();
    std::fs::create_dir(world.path("tree")).unwrap();
    let content = noisy(&world, "tree/noise", 700_001, 17);
    std::fs::write(world.path("tree/small"), "small").unwrap();
    let (iso, btrfs, tree) = (world.path("disk.iso"), world.path("disk.btrfs"), name(&world.path("tree")));
    run("genisoimage", &["-quiet", "-R", "-o", &name(&iso), &tree]);
    File::create(&btrfs).unwrap().set_len(130 << 20).unwrap();
    run("mkfs.btrfs", &["-q", "--rootdir", &tree, &name(&btrfs)]);
    for image in ["disk.iso", "disk.btrfs"] {
        let opened = ["--ro", "-a", image, "-m", "/dev/sda"];
        check(&explain(&world, &opened, "/noise"), &content, image);
        let small = explain(&world, &opened, "/small");
        check(&small, b"small", image);
        assert_eq!(kinds(&small, "kind"), [if image == "disk.iso" { "data" } else { "inline" }]);
    }
}

#[test]
fn staged_bytes_and_long_lists() {
    let world = World::new();
    File::create(world.path("disk.raw")).unwrap().set_len(64 << 20).unwrap();
    let mut lines = "run\nmkfs ext4 /dev/sda blocksize:1024\nmount /dev/sda /\ntouch /f\n".to_string();
    for at in 0..1200 {
        lines += &format!("-pwrite /f x {}\n", at * 4096);
    }
    std::fs::write(world.path("make.gfs"), lines).unwrap();
    world.good(&["-a", "disk.raw", "-f", "make.gfs"]);
    let opened = ["--ro", "-a", "disk.raw", "-m", "/dev/sda"];
    let text = world.good(&[&opened[..], &["explain", "/f"]].concat());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 1000 + 1 + 1, "names, rows, the rest, the note");
    // 1200 blocks with holes between them.
    assert_eq!(lines[1002], "and 1399 more rows; all:true shows more of them");
    assert!(lines[1001].starts_with("2048000  "), "{}", lines[1001]);
    assert_eq!(explain(&world, &opened, "/f").len(), 2399);

    std::fs::write(world.path("staged.gfs"), "pwrite /f staged 0\nexplain /f json:true\nundo\nexplain /f json:true\n")
        .unwrap();
    let text = world.good(&["--dry-run", "-a", "disk.raw", "-m", "/dev/sda", "-f", "staged.gfs"]);
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with('[')).map(|line| line.split('}').next().unwrap()).collect();
    assert!(rows[0].contains("\"staged\": \"yes\", \"kept\": \"staged\", \"file\": null"), "{}", rows[0]);
    assert!(rows[1].contains("\"staged\": \"no\", \"kept\": \"data\""), "{}", rows[1]);
}
