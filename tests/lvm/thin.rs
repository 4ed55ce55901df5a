//! Thin volumes: metadata that `thin_restore` made, in a group that lvm itself accepted (tests/lvm/make-images).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use imgsh::base::Kind;
use imgsh::base::bytes::{put_le32, put_le64};
use imgsh::disk::{BlockDevice, Device};
use imgsh::fs;
use imgsh::volume::lvm;

use super::{EXTENT, NOW, PE_START, pattern, set_text};
use crate::oracle::{Random, Sparse, assert_clean, run, scratch};

const CHUNK: u64 = 64 << 10;
/// Bytes of the thin volumes, and of the pool's data.
const LEN: u64 = 64 << 20;
const POOL: u64 = 32 << 20;
/// First extents and number of extents of the pool's data; the extent of its metadata.
const DATA: [(u64, u64); 2] = [(1, 5), (12, 3)];
const METADATA: u64 = 9;
const BLOCK: usize = 4096;

/// A chunk of a volume: its number in the pool, and when it was mapped.
type Chunks = BTreeMap<u64, (u64, u32)>;

/// A thin volume for `thin_restore`: number, when it was last snapshotted, chunks.
struct Volume {
    id: u64,
    snapshotted: u32,
    chunks: Chunks,
}

fn disk() -> Arc<Sparse> {
    let mut head = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("thin.gz")[..]).read_to_end(&mut head).unwrap();
    let disk = Sparse::new(128 << 20);
    disk.write_at(0, &head).unwrap();
    disk
}

/// The byte of the disk where a chunk of the pool is.
fn place(chunk: u64) -> u64 {
    let at = chunk * CHUNK;
    let (first, skip) = if at < DATA[0].1 * EXTENT { (DATA[0].0, 0) } else { (DATA[1].0, DATA[0].1 * EXTENT) };
    PE_START + first * EXTENT + at - skip
}

/// Lets `thin_restore` make the pool's metadata, and puts it in its place.
fn restore(disk: &Sparse, folder: &Path, volumes: &[Volume]) {
    let mut text = format!(
        "<superblock uuid=\"\" time=\"1\" transaction=\"2\" data_block_size=\"{}\" nr_data_blocks=\"{}\">\n",
        CHUNK / 512,
        POOL / CHUNK
    );
    for Volume { id, snapshotted, chunks } in volumes {
        text += &format!(
            "<device dev_id=\"{id}\" mapped_blocks=\"{}\" transaction=\"0\" creation_time=\"0\" snap_time=\"{snapshotted}\">\n",
            chunks.len()
        );
        for (chunk, (block, time)) in chunks {
            text += &format!("<single_mapping origin_block=\"{chunk}\" data_block=\"{block}\" time=\"{time}\"/>\n");
        }
        text += "</device>\n";
    }
    let (xml, image) = (folder.join("xml"), folder.join("metadata"));
    std::fs::write(&xml, text + "</superblock>\n").unwrap();
    std::fs::File::create(&image).unwrap().set_len(EXTENT).unwrap();
    run("thin_restore", &["-i", xml.to_str().unwrap(), "-o", image.to_str().unwrap()]);
    disk.write_at(PE_START + METADATA * EXTENT, &std::fs::read(&image).unwrap()).unwrap();
}

/// The pool's metadata, which `thin_check` must find whole.
fn check(disk: &Sparse, folder: &Path) -> Vec<u8> {
    let mut bytes = vec![0; EXTENT as usize];
    disk.read_at(PE_START + METADATA * EXTENT, &mut bytes).unwrap();
    let image = folder.join("checked");
    std::fs::write(&image, &bytes).unwrap();
    run("thin_check", &[image.to_str().unwrap()]);
    bytes
}

fn open(disk: &Arc<Sparse>, name: &str) -> imgsh::base::Result<Device> {
    let lvm = lvm::scan([("/dev/sda".to_string(), disk.device())]).unwrap();
    assert_eq!(lvm.notices, Vec::<String>::new());
    let (group, volume) = lvm.volume("thin", name).expect("a visible volume");
    lvm.open(group, volume).map(|opened| opened.device)
}

/// The bytes of a volume, as this test finds them.
fn bytes(disk: &Sparse, chunks: &Chunks) -> Vec<u8> {
    let mut bytes = vec![0; LEN as usize];
    for (chunk, (block, _)) in chunks {
        let at = (chunk * CHUNK) as usize;
        disk.read_at(place(*block), &mut bytes[at..at + CHUNK as usize]).unwrap();
    }
    bytes
}

fn whole(device: &Device) -> Vec<u8> {
    let mut bytes = vec![0; device.len() as usize];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Every second chunk, backwards through the pool and then in runs: several leaves, both segments of the data.
fn scattered(time: u32) -> Chunks {
    let last = POOL / CHUNK - 1;
    let apart = (0..250).map(|i| (i * 2 + 1, (last - i, time)));
    apart.chain((0..200).map(|i| (700 + i, (i, time)))).collect()
}

fn fill(disk: &Sparse) {
    for chunk in 0..POOL / CHUNK {
        disk.write_at(place(chunk), &vec![chunk as u8 | 1; CHUNK as usize]).unwrap();
    }
}

#[test]
fn volumes_are_read_as_they_are_mapped() {
    let (disk, folder) = (disk(), scratch());
    fill(&disk);
    let chunks = scattered(0);
    // The snapshot has the same, but for a chunk that was written since.
    let mut snapshot = chunks.clone();
    snapshot.insert(3, (470 - 250, 1));
    restore(
        &disk,
        folder.path(),
        &[
            Volume { id: 1, snapshotted: 1, chunks: chunks.clone() },
            Volume { id: 2, snapshotted: 1, chunks: snapshot.clone() },
        ],
    );
    check(&disk, folder.path());
    let device = open(&disk, "thin1").unwrap();
    assert_eq!((device.len(), device.read_only(), device.sector()), (LEN, false, 512));
    assert!(whole(&device) == bytes(&disk, &chunks));
    assert!(whole(&open(&disk, "snap1").unwrap()) == bytes(&disk, &snapshot));
    let expected = bytes(&disk, &chunks);
    for (offset, len) in [(CHUNK - 1, 2), (CHUNK * 700 - 5, 3 * CHUNK), (LEN - 1, 1), (LEN, 0), (CHUNK * 3 + 7, 100)] {
        let mut read = vec![1; len as usize];
        device.read_at(offset, &mut read).unwrap();
        assert!(read == expected[offset as usize..(offset + len) as usize], "{len} bytes at {offset}");
    }
    assert!(device.read_at(LEN - 1, &mut [0; 2]).is_err());
    let mut covered = 0;
    device
        .pieces(0..LEN, &mut |piece| {
            covered += piece.range.end - piece.range.start;
            Ok(())
        })
        .unwrap();
    assert_eq!(covered, chunks.len() as u64 * CHUNK);
    let error = open(&disk, "pool").err().unwrap();
    assert!(error.to_string().contains("thin/pool is a thin pool"), "{error}");
}

#[test]
fn written_is_what_a_volume_has_alone() {
    let (disk, folder) = (disk(), scratch());
    fill(&disk);
    let mut chunks = scattered(0);
    chunks.insert(701, (201, 1));
    chunks.insert(702, (202, 1));
    restore(&disk, folder.path(), &[Volume { id: 1, snapshotted: 1, chunks: chunks.clone() }]);
    let before = check(&disk, folder.path());
    let device = open(&disk, "thin1").unwrap();
    device.write_at(701 * CHUNK + 3, &pattern(CHUNK as usize)).unwrap();
    device.zero(702 * CHUNK + 100..702 * CHUNK + 200).unwrap();
    let mut wanted = bytes(&disk, &chunks);
    wanted[(701 * CHUNK) as usize + 3..][..CHUNK as usize].copy_from_slice(&pattern(CHUNK as usize));
    wanted[(702 * CHUNK) as usize + 100..][..100].fill(0);
    assert!(whole(&device) == wanted && bytes(&disk, &chunks) == wanted);
    let refused = |error: imgsh::base::Error, words: &str| {
        assert!(error.kind() == Kind::Unsupported && error.to_string().contains(words), "{error}");
    };
    refused(
        device.write_at(700 * CHUNK, b"x").unwrap_err(),
        "chunk 700, which this thin volume shares with a snapshot",
    );
    refused(device.zero(700 * CHUNK..700 * CHUNK + 1).unwrap_err(), "shares with a snapshot");
    refused(device.write_at(2 * CHUNK, b"x").unwrap_err(), "chunk 2, which this thin volume does not have yet");
    device.write_at(2 * CHUNK, &[0; 4096]).unwrap();
    device.zero(2 * CHUNK..3 * CHUNK).unwrap();
    assert!(whole(&device) == wanted && bytes(&disk, &chunks) == wanted);
    assert!(check(&disk, folder.path()) == before, "the metadata was changed");
    // A change of the pool that is not finished, and a pool that is marked as damaged.
    let mut superblock = before[..BLOCK].to_vec();
    for (at, word, why) in [(48, 3, "transaction 3"), (4, 1, "needs_check"), (56, 9, "is held"), (356, 2, "compat_ro")]
    {
        superblock.copy_from_slice(&before[..BLOCK]);
        put_le32(&mut superblock, at, word);
        stamp(&mut superblock, 160_774);
        disk.write_at(PE_START + METADATA * EXTENT, &superblock).unwrap();
        let device = open(&disk, "thin1").unwrap();
        assert!(device.read_only() && whole(&device) == wanted, "{why}");
        let error = device.write_at(701 * CHUNK, b"x").unwrap_err();
        assert!(error.kind() == Kind::ReadOnly && error.to_string().contains(why), "{error}");
    }
}

/// A file system whose blocks lie all over the pool; its volume was never snapshotted, or just now.
#[test]
fn ext4_in_a_thin_volume() {
    let folder = scratch();
    let file = folder.path().join("volume");
    let path = file.to_str().unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, pattern(5 << 20)).unwrap();
    std::fs::File::create(&file).unwrap().set_len(LEN).unwrap();
    run("mke2fs", &["-q", "-t", "ext4", path]);
    run("debugfs", &["-w", "-R", &format!("write {} old", old.display()), path]);
    let image = std::fs::read(&file).unwrap();
    for snapshotted in [0, 1] {
        let disk = disk();
        let mut chunks = Chunks::new();
        for (number, chunk) in
            image.chunks(CHUNK as usize).enumerate().filter(|(_, chunk)| chunk.iter().any(|b| *b != 0))
        {
            let block = (chunks.len() as u64 * 97 + 11) % (POOL / CHUNK);
            chunks.insert(number as u64, (block, 0));
            disk.write_at(place(block), chunk).unwrap();
        }
        restore(&disk, folder.path(), &[Volume { id: 1, snapshotted, chunks: chunks.clone() }]);
        let before = check(&disk, folder.path());
        let mut fs = fs::open(open(&disk, "thin1").unwrap()).unwrap();
        let node = fs.lookup(fs.root(), b"old").unwrap().unwrap();
        let mut content = vec![0; 5 << 20];
        assert_eq!(fs.read(node, 0, &mut content).unwrap(), content.len());
        assert!(content == pattern(5 << 20));
        let new = [b'n'; 100_000];
        let edit = fs.edit(NOW).unwrap();
        let done = edit.write(node, 1_000_000, &new).and_then(|_| edit.sync());
        if snapshotted == 1 {
            let error = done.err().unwrap();
            assert!(error.to_string().contains("shares with a snapshot"), "{error}");
            assert!(bytes(&disk, &chunks) == image);
        } else {
            done.unwrap();
            std::fs::write(&file, bytes(&disk, &chunks)).unwrap();
            assert_clean(&file, "the thin volume");
            let out = folder.path().join("out");
            run("debugfs", &["-R", &format!("dump old {}", out.display()), path]);
            content[1_000_000..1_100_000].copy_from_slice(&new);
            assert!(std::fs::read(&out).unwrap() == content, "as debugfs reads it");
        }
        assert!(check(&disk, folder.path()) == before, "the metadata was changed");
    }
}

/// Makes the checksum of a block right.
fn stamp(block: &mut [u8], xor: u32) {
    let sum = !crc32c::crc32c(&block[4..]) ^ xor;
    put_le32(block, 0, sum);
}

#[test]
fn damaged_metadata() {
    let (disk, folder) = (disk(), scratch());
    let chunks = scattered(0);
    restore(
        &disk,
        folder.path(),
        &[
            Volume { id: 1, snapshotted: 0, chunks: chunks.clone() },
            Volume { id: 2, snapshotted: 0, chunks: Chunks::new() },
        ],
    );
    let whole_metadata = check(&disk, folder.path());
    assert!(whole(&open(&disk, "snap1").unwrap()).iter().all(|byte| *byte == 0), "a volume without chunks");
    let at = PE_START + METADATA * EXTENT;
    // Nodes of trees: flags say so, and the block its number.
    let is_node = |number: usize| {
        let block = &whole_metadata[number * BLOCK..][..BLOCK];
        matches!(block[4], 1 | 2) && block[8..16] == (number as u64).to_le_bytes() && block[24] == 8
    };
    let nodes: Vec<usize> = (1..whole_metadata.len() / BLOCK).filter(|number| is_node(*number)).collect();
    let inner = *nodes.iter().find(|number| whole_metadata[*number * BLOCK + 4] == 1).expect("a tree of two levels");
    let change = |number: usize, change: &dyn Fn(&mut [u8])| {
        let mut block = whole_metadata[number * BLOCK..][..BLOCK].to_vec();
        change(&mut block);
        disk.write_at(at + (number * BLOCK) as u64, &block).unwrap();
        let result = open(&disk, "thin1").and_then(|device| {
            let mut bytes = vec![0; LEN as usize];
            device.read_at(0, &mut bytes)
        });
        disk.write_at(at, &whole_metadata).unwrap();
        result
    };
    let refused = |number: usize, offset: usize, value: u64, words: &str| {
        let error = change(number, &|block| {
            put_le64(block, offset, value);
            stamp(block, 121_107);
        });
        let error = error.unwrap_err();
        assert!(error.kind() == Kind::Corrupt && error.to_string().contains(words), "{error}, not {words}");
    };
    let room = u32::from_le_bytes(whole_metadata[inner * BLOCK + 20..][..4].try_into().unwrap()) as usize;
    let value = 32 + room * 8;
    refused(inner, value, inner as u64, "belong into another one");
    refused(inner, value + 8, inner as u64, "belong into another one");
    refused(inner, value, 1 << 40, "outside of");
    refused(inner, value, 0, "outside of");
    refused(inner, 8, 77, "says that it is block 77");
    refused(inner, 4, (inner as u64) << 32 | 3, "those of no node");
    refused(inner, 32 + 8, 0, "out of order");
    refused(inner, 16, 0xffff_0000_ffff, "entries with values");
    assert!(change(inner, &|block| block[40] ^= 1).unwrap_err().to_string().contains("checksum is wrong"));
    assert!(change(0, &|block| block[60] ^= 1).unwrap_err().to_string().contains("superblock: its checksum"));
    let leaf = *nodes
        .iter()
        .find(|number| whole_metadata[*number * BLOCK + 4] == 2 && whole_metadata[*number * BLOCK + 16] > 100)
        .unwrap();
    let room = u32::from_le_bytes(whole_metadata[leaf * BLOCK + 20..][..4].try_into().unwrap()) as usize;
    refused(leaf, 32 + room * 8, (POOL / CHUNK) << 24, "outside of the pool's data");
    refused(leaf, 32 + room * 8, u64::MAX, "outside of the pool's data");
    let mut random = Random(0x7419_5eed);
    let mut errors = 0;
    for _ in 0..400 {
        let number = if random.below(4) == 0 { 0 } else { nodes[random.below(nodes.len() as u64) as usize] };
        let flips: Vec<(usize, u8)> = (0..=random.below(3))
            .map(|_| (4 + random.below(if number == 0 { 380 } else { 4092 }) as usize, random.next() as u8))
            .collect();
        let result = change(number, &|block| {
            flips.iter().for_each(|(at, byte)| block[*at] = *byte);
            stamp(block, if number == 0 { 160_774 } else { 121_107 });
        });
        errors += usize::from(result.is_err());
    }
    assert!(errors > 50, "{errors} damages were found");
}

#[test]
fn what_the_group_says_of_pools() {
    let (disk, folder) = (disk(), scratch());
    restore(&disk, folder.path(), &[Volume { id: 1, snapshotted: 0, chunks: scattered(0) }]);
    let lvm = lvm::scan([("a".to_string(), disk.device())]).unwrap();
    let text = lvm.groups[0].render() + "contents = \"Text Format Volume Group\"\nversion = 1\n";
    let listed: Vec<&str> = lvm.listed().map(|(_, volume)| volume.name.as_str()).collect();
    assert_eq!(listed, ["thin1"]);
    let all: Vec<_> = lvm.volumes().map(|(_, volume)| (volume.name.as_str(), volume.kind())).collect();
    assert_eq!(all, [("pool", "thin-pool"), ("snap1", "thin"), ("thin1", "thin")]);
    assert_eq!(lvm.groups[0].extents(), (31, 21));
    let error = open(&disk, "snap1").err().unwrap();
    assert!(error.to_string().contains("knows no device 2"), "{error}");
    for (from, to, words) in [
        ("chunk_size = 128", "chunk_size = 256", "chunks of 131072 bytes, but its metadata has 65536"),
        ("thin_pool = \"pool\"", "thin_pool = \"thin1\"", "'thin1' is no thin pool"),
        ("thin_pool = \"pool\"", "thin_pool = \"none\"", "'none' is no thin pool"),
        ("thin_pool = \"pool\"", "thin_pool = 7", "of the kind thin, but without a pool"),
        ("metadata = \"pool_tmeta\"", "metadata = \"pool_tdata\"", "superblock: it is not there"),
        ("pool = \"pool_tdata\"", "pool = \"pool\"", "'pool' is neither a physical nor a hidden volume"),
        ("device_id = 1\n", "device_id = 1\nexternal_origin = \"x\"\n", "with an external origin"),
        ("device_id = 1\n", "device_id = 1\nmerge = \"x\"\n", "being merged"),
    ] {
        assert!(text.contains(from), "{from} is not in\n{text}");
        set_text(&disk, text.replacen(from, to, 1).as_bytes());
        let error = open(&disk, "thin1").err().unwrap();
        assert!(error.to_string().contains(words), "{to}: {error}");
    }
}
