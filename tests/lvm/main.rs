//! LVM: volumes that lvm made are read and written, groups that we make are judged by lvm.

mod made;
#[path = "../oracle/mod.rs"]
mod oracle;
mod thin;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use imgsh::base::bytes::{put_le32, put_le64};
use imgsh::base::{Kind, Timestamp};
use imgsh::disk::{BlockDevice, Device};
use imgsh::fs::{self, FileSystem, NewKind, NewNode, NodeId};
use imgsh::volume::lvm::{self, Lvm};
use oracle::{Random, Sparse, assert_clean, run, scratch};

const DISK: u64 = 64 << 20;
const EXTENT: u64 = 4 << 20;
const PE_START: u64 = 1 << 20;
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// Segments of the volume `root` as lvm lists them: disk, first extent, extents.
const ROOT: [(usize, u64, u64); 3] = [(0, 0, 5), (0, 7, 8), (1, 2, 3)];
/// The volume `striped`: the same extents on two disks, 64 KiB a turn.
const STRIPED: ([(usize, u64); 2], u64) = ([(0, 5), (1, 0)], 2);
const CHUNK: u64 = 64 << 10;

/// The two disks as lvm left them (tests/lvm/make-images).
fn disks() -> [Arc<Sparse>; 2] {
    [&include_bytes!("first.gz")[..], &include_bytes!("second.gz")[..]].map(|packed| {
        let mut head = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut head).unwrap();
        let disk = Sparse::new(DISK);
        disk.write_at(0, &head).unwrap();
        disk
    })
}

fn scan(disks: &[Arc<Sparse>]) -> Lvm {
    let named =
        disks.iter().enumerate().map(|(i, disk)| (format!("/dev/sd{}", (b'a' + i as u8) as char), disk.device()));
    lvm::scan(named).unwrap()
}

fn open(lvm: &Lvm, name: &str) -> imgsh::base::Result<Device> {
    let (group, volume) = lvm.volume("group-1", name).expect("a visible volume");
    lvm.open(group, volume).map(|opened| opened.device)
}

/// Where the bytes of a volume are, as this test counts it: disk, byte on it, length.
fn places(volume: &str) -> Vec<(usize, u64, u64)> {
    let at = |extent: u64| PE_START + extent * EXTENT;
    if volume == "root" {
        return ROOT.map(|(disk, first, count)| (disk, at(first), count * EXTENT)).to_vec();
    }
    let (legs, count) = STRIPED;
    let turns = 0..count * EXTENT / CHUNK;
    turns.flat_map(|turn| legs.map(|(disk, first)| (disk, at(first) + turn * CHUNK, CHUNK))).collect()
}

fn put(disks: &[Arc<Sparse>], volume: &str, bytes: &[u8]) {
    let mut done = 0;
    for (disk, at, len) in places(volume) {
        disks[disk].write_at(at, &bytes[done..done + len as usize]).unwrap();
        done += len as usize;
    }
    assert_eq!(done, bytes.len());
}

fn get(disks: &[Arc<Sparse>], volume: &str) -> Vec<u8> {
    let read = |(disk, at, len): (usize, u64, u64)| {
        let mut bytes = vec![0; len as usize];
        disks[disk].read_at(at, &mut bytes).unwrap();
        bytes
    };
    places(volume).into_iter().flat_map(read).collect()
}

fn write_file(fs: &mut dyn FileSystem, name: &str, content: &[u8]) -> NodeId {
    let root = fs.root();
    let edit = fs.edit(NOW).unwrap();
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    let node = edit.create(root, name.as_bytes(), &new).unwrap();
    edit.fill(node, content.len() as u64, &mut &content[..], false).unwrap();
    edit.sync().unwrap();
    node
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn ext4_on_volumes_that_lvm_made() {
    let disks = disks();
    let folder = scratch();
    let file = folder.path().join("volume");
    let path = file.to_str().unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, pattern(5 << 20)).unwrap();
    for (name, size) in [("root", 64 << 20), ("striped", 16 << 20)] {
        std::fs::File::create(&file).unwrap().set_len(size).unwrap();
        run("mke2fs", &["-q", "-t", "ext4", path]);
        run("debugfs", &["-w", "-R", &format!("write {} old", old.display()), path]);
        put(&disks, name, &std::fs::read(&file).unwrap());
        let lvm = scan(&disks);
        assert_eq!(lvm.notices, Vec::<String>::new());
        let device = open(&lvm, name).unwrap();
        assert_eq!((device.len(), device.read_only(), device.takes_fresh()), (size, false, true));
        let mut fs = fs::open(device).unwrap();
        let node = fs.lookup(fs.root(), b"old").unwrap().unwrap();
        let mut content = vec![0; 5 << 20];
        assert_eq!(fs.read(node, 0, &mut content).unwrap(), content.len());
        assert!(content == pattern(5 << 20), "{name}: what debugfs wrote");
        let new = pattern(if name == "root" { 40 << 20 } else { 7 << 20 });
        write_file(fs.as_mut(), "new", &new);
        std::fs::write(&file, get(&disks, name)).unwrap();
        assert_clean(&file, name);
        let out = folder.path().join("out");
        run("debugfs", &["-R", &format!("dump new {}", out.display()), path]);
        assert!(std::fs::read(&out).unwrap() == new, "{name}: as debugfs reads it");
    }
}

#[test]
fn facts_of_a_group_that_lvm_made() {
    let lvm = scan(&disks());
    let group = lvm.group("group-1").unwrap();
    let names: Vec<_> =
        lvm.volumes().map(|(_, v)| (v.name.as_str(), v.kind(), v.extents(), v.segments.len())).collect();
    assert_eq!(names, [("root", "linear", 16, 3), ("striped", "striped", 4, 1), ("swap-2", "linear", 2, 1)]);
    assert_eq!((group.extent, group.extents(), group.sequence), (EXTENT, (30, 8), 6));
    assert_eq!(group.tags("logical_volumes", "swap-2"), "kept");
    assert_eq!(lvm.physical.iter().map(|pv| pv.group).collect::<Vec<_>>(), [Some(0), Some(0)]);
    let device = open(&lvm, "swap-2").unwrap();
    assert!(device.read_only());
    assert_eq!(device.write_at(0, b"x").unwrap_err().kind(), Kind::ReadOnly);
    assert_eq!(lvm.group("none").err().unwrap().kind(), Kind::NotFound);
}

/// LVM's checksum, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Puts a text into the metadata area at 4 KiB as the valid one.
fn set_text(disk: &Sparse, text: &[u8]) {
    let mut header = vec![0; 512];
    disk.read_at(4096, &mut header).unwrap();
    let text = [text, &[0]].concat();
    disk.write_at(4096 + 512, &text).unwrap();
    put_le64(&mut header, 40, 512);
    put_le64(&mut header, 48, text.len() as u64);
    put_le32(&mut header, 56, checksum(&text));
    let crc = checksum(&header[4..]);
    put_le32(&mut header, 0, crc);
    disk.write_at(4096, &header).unwrap();
}

/// The valid text, as the test finds it.
fn text(disk: &Arc<Sparse>) -> String {
    let lvm = lvm::scan([("a".to_string(), disk.device())]).unwrap();
    let facts = "contents = \"Text Format Volume Group\"\nversion = 1\n";
    lvm.groups[0].render() + facts
}

#[test]
fn what_cannot_be_opened_is_refused_and_the_rest_is_listed() {
    let disks = disks();
    let whole = text(&disks[0]);
    let refused = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from} is not in\n{whole}");
        disks.iter().for_each(|disk| set_text(disk, whole.replacen(from, to, 1).as_bytes()));
        let lvm = scan(&disks);
        assert_eq!(lvm.volumes().count(), 3, "{to}: {:?}", lvm.notices);
        (open(&lvm, "root").err().map(|e| e.to_string()), open(&lvm, "striped").err().map(|e| e.to_string()))
    };
    let (root, striped) = refused("type = \"striped\"\nstripe_count = 1", "type = \"thin\"\nstripe_count = 1");
    assert!(root.unwrap().contains("of the kind thin, but without a pool") && striped.is_none());
    let (root, striped) = refused("\"RESIZEABLE\", ", "\"RESIZEABLE\", \"EXPORTED\", ");
    assert!(root.unwrap().contains("EXPORTED") && striped.is_some());
    let (root, striped) = refused("stripes = [\"pv0\", 7]", "stripes = [\"pv0\", 8]");
    assert!(root.unwrap().contains("behind the 15 of pv0") && striped.is_none());
    let (root, _) = refused("\"READ\", \"WRITE\", \"VISIBLE\"", "\"READ\", \"WRITE\", \"VISIBLE\", \"PVMOVE\"");
    assert!(root.unwrap().contains("PVMOVE"));
    // One disk alone: what lies on the other one is missing.
    set_text(&disks[1], whole.as_bytes());
    let lvm = scan(&disks[1..]);
    let missing = open(&lvm, "root").err().unwrap();
    assert!(missing.to_string().contains("is missing") && missing.hint_text().is_some());
    assert!(open(&lvm, "swap-2").is_ok());
    // The same disk twice.
    let lvm = scan(&[disks[1].clone(), Sparse::from_bytes(&disks[1].bytes())]);
    assert!(open(&lvm, "swap-2").err().unwrap().to_string().contains("there twice"));
}

#[test]
fn the_highest_sequence_number_counts() {
    let disks = disks();
    let whole = text(&disks[0]);
    set_text(&disks[1], whole.replace("seqno = 6", "seqno = 7").replace("swap-2", "newer").as_bytes());
    for order in [[0, 1], [1, 0]] {
        let lvm = scan(&order.map(|i: usize| disks[i].clone()));
        assert!(lvm.volume("group-1", "newer").is_some() && lvm.volume("group-1", "swap-2").is_none());
    }
    // A damaged text does not count; it is told.
    disks[1].write_at(4096 + 600, b"!").unwrap();
    let lvm = scan(&disks);
    assert!(lvm.volume("group-1", "swap-2").is_some());
    assert!(lvm.notices.len() == 1 && lvm.notices[0].contains("checksum"), "{:?}", lvm.notices);
}

/// The group's text with a mirror `mir` of two extents, on what is free of each disk.
fn with_mirror(whole: &str) -> String {
    let id = |n: u8| format!("id = \"{}\"", lvm::Id([n; 32]));
    let hidden = |name: &str, n: u8, pv: &str, first: u64, count: u64| {
        format!(
            "{name} {{\n{}\nstatus = [\"READ\", \"WRITE\"]\nflags = []\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\n\
             extent_count = {count}\ntype = \"striped\"\nstripe_count = 1\nstripes = [\"{pv}\", {first}]\n}}\n}}\n",
            id(n)
        )
    };
    let mirror = format!(
        "mir {{\n{}\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\n\
         extent_count = 2\ntype = \"raid1\"\ndevice_count = 2\nregion_size = 4096\n\
         raids = [\"mir_rmeta_0\", \"mir_rimage_0\", \"mir_rmeta_1\", \"mir_rimage_1\"]\n}}\n}}\n",
        id(b'a')
    );
    let parts = [
        mirror,
        hidden("mir_rmeta_0", b'b', "pv1", 7, 1),
        hidden("mir_rimage_0", b'c', "pv1", 8, 2),
        hidden("mir_rmeta_1", b'd', "pv1", 10, 1),
        hidden("mir_rimage_1", b'e', "pv1", 11, 2),
    ];
    whole.replacen("logical_volumes {\n", &format!("logical_volumes {{\n{}", parts.concat()), 1)
}

#[test]
fn both_legs_of_a_mirror_are_written() {
    let disks = disks();
    let with = with_mirror(&text(&disks[0]));
    disks.iter().for_each(|disk| set_text(disk, with.as_bytes()));
    let lvm = scan(&disks);
    let device = open(&lvm, "mir").unwrap();
    assert_eq!((device.len(), lvm.volumes().count()), (2 * EXTENT, 4));
    let options = fs::MakeOptions { fs_type: "ext4".into(), now: NOW, ..Default::default() };
    fs::make(&device, &options).unwrap();
    write_file(fs::open(device).unwrap().as_mut(), "f", &pattern(300_000));
    let leg = |first: u64| {
        let mut bytes = vec![0; 2 * EXTENT as usize];
        disks[1].read_at(PE_START + first * EXTENT, &mut bytes).unwrap();
        bytes
    };
    assert!(leg(8) == leg(11), "the legs differ");
    let folder = scratch();
    let file = folder.path().join("leg");
    std::fs::write(&file, leg(11)).unwrap();
    assert_clean(&file, "the second leg");
    // The state of the second leg says that it is behind: the first one is read, none is written.
    for (extent, events) in [(7, 9u64), (10, 8)] {
        let mut state = vec![0; 512];
        state[..4].copy_from_slice(b"DmRd");
        put_le64(&mut state, 16, events);
        put_le64(&mut state, 32, u64::MAX);
        put_le64(&mut state, 40, u64::MAX);
        put_le32(&mut state, 48, 1);
        disks[1].write_at(PE_START + extent * EXTENT, &state).unwrap();
    }
    let device = open(&scan(&disks), "mir").unwrap();
    assert!(device.read_only());
    assert!(device.write_at(0, b"x").unwrap_err().to_string().contains("in step"));
    assert_eq!(fs::identify(device.as_ref()).unwrap().unwrap().fs_type, "ext4");
}

#[test]
fn damaged_texts() {
    let disks = disks();
    let whole = with_mirror(&text(&disks[0])).into_bytes();
    let mut random = Random(0x17a1_5eed);
    let (mut groups, mut opened) = (0, 0);
    let words: [&[u8]; 8] = [b"18446744073709551615", b"-1", b"{", b"}", b"\"pv0\"", b"\"root\"", b"[", b"4294967295"];
    for _ in 0..500 {
        let mut text = whole.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(text.len() as u64) as usize;
            let end = (at + random.below(12) as usize).min(text.len());
            match random.below(3) {
                0 => text[at] = random.next() as u8,
                1 => drop(text.splice(at..end, words[random.below(8) as usize].iter().copied())),
                _ => {
                    // Another number where one stands.
                    if let Some(digit) = text[at..].iter().position(u8::is_ascii_digit) {
                        text[at + digit] = b'0' + random.below(10) as u8;
                    }
                }
            }
        }
        disks.iter().for_each(|disk| set_text(disk, &text));
        let lvm = scan(&disks);
        for (group, volume) in lvm.volumes() {
            groups += 1;
            let Ok(found) = lvm.open(group, volume) else { continue };
            opened += 1;
            assert!(found.device.len() < 1 << 40);
            let _ = fs::identify(found.device.as_ref());
            let _ = found.device.read_at(found.device.len() - 1, &mut [0]);
        }
    }
    assert!(groups > 150 && opened > 100, "{groups} {opened}");
}

#[test]
fn damaged_labels_and_headers() {
    let disks = disks();
    let head = {
        let mut head = vec![0; 8192];
        disks[0].read_at(0, &mut head).unwrap();
        head
    };
    let mut random = Random(0x1abe_15ed);
    for _ in 0..1000 {
        let mut bytes = head.clone();
        let used = [20..200, 4096..4200][random.below(2) as usize].clone();
        for _ in 0..1 + random.below(6) {
            let at = if used.start == 20 { 512 } else { 0 } + used.start + random.below(used.len() as u64) as usize;
            bytes[at] = [random.next() as u8, 0, 0xff][random.below(3) as usize];
        }
        let crc = checksum(&bytes[512 + 20..1024]);
        put_le32(&mut bytes[512..], 16, crc);
        let crc = checksum(&bytes[4096 + 4..4096 + 512]);
        put_le32(&mut bytes[4096..], 0, crc);
        disks[0].write_at(0, &bytes).unwrap();
        let lvm = scan(&disks);
        for (group, volume) in lvm.volumes() {
            let _ = lvm.open(group, volume);
        }
    }
}

/// What lvm's checker says of the first metadata area of a file; needs no root.
fn pvck(image: &Path) -> String {
    run("lvm", &["pvck", "--driverloaded", "n", "--dump", "metadata", image.to_str().unwrap()])
}
