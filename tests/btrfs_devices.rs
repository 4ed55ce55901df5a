//! btrfs on several devices, read: images that Linux filled (tests/btrfs/make-devices) against the checksums that it found, with all
//! devices and without some; then damaged copies.

mod oracle;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgsh::base::{GuestPathBuf, Kind, Result};
use imgsh::disk::{BlockDevice, Device};
use imgsh::fs::btrfs::Btrfs;
use imgsh::fs::{self, Beside, FileSystem, FileType, NodeId, Stored};
use imgsh::session::{AddDisk, Session, SessionOptions};
use oracle::folder::walk_damaged;
use oracle::{Random, Sparse, scratch};
use sha2::{Digest, Sha256};

/// Profiles and how many devices each image has.
const PROFILES: &[(&str, usize)] =
    &[("single", 2), ("raid0", 3), ("raid1", 2), ("raid1c3", 3), ("raid10", 4), ("raid5", 3), ("raid6", 4)];

fn kept(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/btrfs")).join(format!("devices-{name}.zst"))
}

/// A device of an image; what is not zero is kept.
fn device(name: &str) -> Arc<Sparse> {
    let mut stream = zstd::stream::read::Decoder::new(std::fs::File::open(kept(name)).unwrap()).unwrap();
    stream.window_log_max(27).unwrap();
    let device = Sparse::new(128 << 20);
    let mut piece = vec![0; 1 << 20];
    for at in (0..128 << 20).step_by(piece.len()) {
        stream.read_exact(&mut piece).unwrap();
        for (index, block) in piece.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
            device.write_at(at + index as u64 * 4096, block).unwrap();
        }
    }
    device
}

fn devices(profile: &str, count: usize) -> Vec<Arc<Sparse>> {
    (1..=count).map(|number| device(&format!("{profile}-{number}"))).collect()
}

/// Opens the first of them with the others at hand.
fn open(devices: &[&Arc<Sparse>]) -> Result<Box<dyn FileSystem>> {
    let members: Vec<Device> = devices[1..].iter().map(|device| device.device()).collect();
    Ok(Box::new(Btrfs::open(devices[0].device(), &members)?))
}

/// The files of a profile and their checksums, as Linux found them.
fn wanted(profile: &str) -> BTreeMap<String, String> {
    let lines = include_str!("btrfs/devices.txt").lines();
    let ours = lines.filter_map(|line| line.strip_prefix(profile)?.strip_prefix(' '));
    ours.map(|line| line.split_once("  ").map(|(sum, path)| (path.to_string(), sum.to_string())).unwrap()).collect()
}

fn sums(fs: &dyn FileSystem, dir: NodeId, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs.read_dir(dir).unwrap() {
        let path = format!("{path}{}", entry.name);
        match entry.file_type {
            Some(FileType::Directory) => sums(fs, entry.node, &format!("{path}/"), found),
            _ => {
                let mut content = vec![0; fs.metadata(entry.node).unwrap().size as usize];
                // In pieces that fall anywhere in stripes.
                let mut at = 0;
                while at < content.len() {
                    let end = (at + 100_003).min(content.len());
                    at += fs.read(entry.node, at as u64, &mut content[at..end]).unwrap();
                }
                let sum = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
                found.insert(path, sum);
            }
        }
    }
}

fn judge(fs: &dyn FileSystem, profile: &str, what: &str) {
    let mut found = BTreeMap::new();
    sums(fs, fs.root(), "", &mut found);
    let wanted = wanted(profile);
    assert!(wanted.len() > 20 && found.keys().eq(wanted.keys()), "{what}");
    wanted.iter().for_each(|(path, sum)| assert_eq!(&found[path], sum, "{what}: {path}"));
}

#[test]
fn all_profiles() {
    for (profile, count) in PROFILES {
        let all = devices(profile, *count);
        for first in 0..*count {
            let mut order: Vec<&Arc<Sparse>> = all.iter().collect();
            order.rotate_left(first);
            let mut fs = open(&order).unwrap_or_else(|error| panic!("{profile}: {error}"));
            judge(fs.as_ref(), profile, profile);
            assert_eq!(fs.notice(), None);
            fs.reload().unwrap();
            judge(fs.as_ref(), profile, profile);
            // What is said to be on the opened device is there.
            let node = fs.lookup(fs.root(), b"numbers").unwrap().unwrap();
            for segment in fs.layout(node).unwrap() {
                let mut content = vec![0; segment.len as usize];
                let len = fs.read(node, segment.offset, &mut content).unwrap();
                match segment.stored {
                    Stored::Data(at) => {
                        let mut there = vec![0; len];
                        order[0].read_at(at, &mut there).unwrap();
                        assert!(there == content[..len], "{profile}");
                    }
                    other => assert_eq!(other, Stored::Elsewhere, "{profile}"),
                }
            }
        }
    }
}

#[test]
fn devices_that_are_not_here() {
    for (profile, count, may_miss) in
        [("single", 2, 0), ("raid0", 3, 0), ("raid1", 2, 1), ("raid1c3", 3, 2), ("raid10", 4, 1), ("raid5", 3, 0)]
    {
        let all = devices(profile, count);
        for first in 0..count {
            let order: Vec<&Arc<Sparse>> = (0..count).map(|i| &all[(first + i) % count]).collect();
            for here in 1..count {
                match open(&order[..here]) {
                    Ok(fs) => {
                        judge(fs.as_ref(), profile, profile);
                        let notice = fs.notice().unwrap();
                        assert!(notice.contains(&format!("{here} of its {count} devices")), "{profile}: {notice}");
                    }
                    Err(error) => {
                        assert!(count - here > may_miss, "{profile}: {error}");
                        assert_eq!(error.kind(), Kind::Unsupported);
                        assert!(error.to_string().contains(&format!("of {count} is not here")), "{error}");
                    }
                }
                assert!(here == 1 || count - here > may_miss || open(&order[..here]).is_ok(), "{profile}");
            }
        }
    }
}

#[test]
fn devices_that_were_left_behind() {
    let (first, second, older) = (device("raid1-1"), device("raid1-2"), device("raid1-2-older"));
    let fs = open(&[&first, &older]).unwrap();
    judge(fs.as_ref(), "raid1", "with an older one");
    assert!(fs.notice().unwrap().contains("device 2 is older"), "{:?}", fs.notice());
    let error = open(&[&older, &first]).err().unwrap();
    assert!(error.to_string().contains("device 2 is older"), "{error}");
    // By itself it is what it was.
    let fs = open(&[&older]).unwrap();
    assert!(fs.lookup(fs.root(), b"later").unwrap().is_none());
    let again = Sparse::from_pages(second.len(), second.snapshot());
    let error = open(&[&first, &second, &again]).err().unwrap();
    assert!(error.to_string().contains("device 2 of the file system is here twice"), "{error}");
    // Of others nothing is taken.
    let other = device("single-1");
    judge(open(&[&first, &other, &second]).unwrap().as_ref(), "raid1", "with another file system's");
    let members = vec![second.device()];
    judge(fs::open_with(first.device(), &Beside { journal: None, members }).unwrap().as_ref(), "raid1", "by type");
}

#[test]
fn a_session_finds_them() {
    let dir = scratch();
    for number in 1..=3 {
        let device = device(&format!("raid0-{number}"));
        device.save(&dir.path().join(format!("{number}")));
    }
    let session = |numbers: &[u32]| {
        let mut session = Session::new(SessionOptions::default());
        for number in numbers {
            let path = dir.path().join(number.to_string());
            session.add(AddDisk { path, read_only: true, ..AddDisk::default() }).unwrap();
        }
        session.launch().unwrap();
        session
    };
    let root = GuestPathBuf::root();
    let mut all = session(&[2, 3, 1]);
    let found = all.file_systems().unwrap();
    let name = |device: &str, path: &str| (format!("{path}{device}"), "btrfs".to_string());
    let both = ["/dev/sda", "/dev/sdb", "/dev/sdc"]
        .map(|device| [name(device, ""), name(&format!("{device}/other"), "btrfsvol:")]);
    assert_eq!(found, both.as_flattened());
    assert_eq!(all.members("/dev/sdb").unwrap(), ["/dev/sda", "/dev/sdc"]);
    assert_eq!(all.members("btrfsvol:/dev/sdb/other").unwrap(), ["/dev/sda", "/dev/sdc"]);
    let roots: Vec<String> = all.inspect().unwrap().into_iter().map(|root| root.device).collect();
    assert_eq!(roots, ["/dev/sda"], "one system");
    all.mount("/dev/sdb", &root, true).unwrap();
    assert_eq!(all.guest.read_at(&root.join(b"many").join(b"7"), 0, 100).unwrap(), b"file 7\n");
    all.mount("btrfsvol:/dev/sdc/other", &root.join(b"many"), true).unwrap();
    assert!(all.guest.lstat(&root.join(b"many").join(b"numbers")).unwrap().size > 100_000);
    let mut two = session(&[1, 3]);
    let error = two.mount("/dev/sda", &root, true).unwrap_err();
    assert!(error.to_string().contains("device 2 of 3 is not here"), "{error}");
}

/// Damage in superblocks and nodes, their sums made right again: an error or a result, and in bounded time.
#[test]
fn damaged_chunks() {
    let mut random = Random(5);
    for (profile, count) in [("raid10", 4), ("raid5", 3)] {
        let all = devices(profile, count);
        let pages: Vec<_> = all.iter().map(|device| device.snapshot()).collect();
        let mut superblock = vec![0; 4096];
        all[0].read_at(0x1_0000, &mut superblock).unwrap();
        let uuid = superblock[0x20..0x30].to_vec();
        let mut refused = 0;
        for _ in 0..300 {
            let index = random.below(count as u64) as usize;
            let nodes: Vec<u64> = pages[index]
                .iter()
                .filter(|(_, page)| page.len() >= 0x48 && page[0x20..0x30] == uuid)
                .map(|(number, _)| *number)
                .collect();
            let page = nodes[random.below(nodes.len() as u64) as usize];
            // The chunks of the superblock, or any node.
            let at = if random.below(2) == 0 { 0x1_0000 } else { page * 4096 };
            let mut block = vec![0; 4096];
            all[index].read_at(at, &mut block).unwrap();
            for _ in 0..=random.below(3) {
                let place = if at == 0x1_0000 { 0x32b + random.below(400) } else { random.below(4096) };
                block[place as usize] = random.next() as u8;
            }
            let sum = crc32c::crc32c(&block[32..]).to_le_bytes();
            block[..4].copy_from_slice(&sum);
            all[index].write_at(at, &block).unwrap();
            let mut order: Vec<&Arc<Sparse>> = all.iter().collect();
            order.rotate_left(index);
            let result = open(&order).and_then(|fs| walk_damaged(fs.as_ref(), fs.root(), 0));
            refused += u32::from(result.is_err());
            all[index].restore(pages[index].clone());
        }
        assert!(refused > 20, "{profile}: {refused} damages were found");
    }
}
