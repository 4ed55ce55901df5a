//! Journals to be replayed and orphans to be cleaned up: the result is what e2fsck makes of the same image, whatever
//! form the journal has; a reader sees the same and writes nothing.

mod oracle;

use std::io::Read;
use std::path::Path;

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::BlockDevice;
use imgsh::fs::ext4::checksum::crc32c;
use imgsh::fs::{self, FileSystem, FileType, NewKind, NewNode};
use md5::Digest;
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::{Random, Sparse, Staged, assert_clean, run, scratch, tool};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };
const BLOCK: usize = 1024;
const MAGIC: u32 = 0xc03b_3998;

fn be(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn put_be(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn le(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The file system's superblock in an image, with a new checksum if it has one.
fn change_super(image: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let superblock = &mut image[1024..2048];
    change(superblock);
    if le(superblock, 0x64) & 0x400 != 0 {
        let sum = crc32c(!0, &superblock[..0x3fc]);
        superblock[0x3fc..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Runs debugfs commands that write.
fn debugfs(image: &Path, commands: &str) -> String {
    let list = image.with_extension("commands");
    std::fs::write(&list, commands).unwrap();
    run("debugfs", &["-w", "-f", list.to_str().unwrap(), image.to_str().unwrap()])
}

/// The block of the device that holds a block of an inode.
fn bmap(image: &Path, inode: u32, block: u32) -> usize {
    let text = run("debugfs", &["-R", &format!("bmap <{inode}> {block}"), image.to_str().unwrap()]);
    text.lines().find_map(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// An image with some files.
fn image(dir: &Path, options: &[&str]) -> std::path::PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    std::fs::create_dir_all(tree.join("etc/deep")).unwrap();
    for i in 0..60 {
        std::fs::write(tree.join(format!("etc/conf-{i:02}")), format!("before {i}\n").repeat(i * 20)).unwrap();
    }
    std::fs::write(tree.join("big"), vec![b'b'; 300_000]).unwrap();
    let file = image.to_str().unwrap();
    let base = ["-q", "-F", "-b", "1024", "-d", tree.to_str().unwrap()];
    run("mke2fs", &[&base, options, &[file, "16M"]].concat());
    let (status, text) = tool("e2fsck", &["-fyD", file]);
    assert!(status <= 1, "{text}");
    image
}

/// The image before and after some work, both clean.
fn before_and_after(dir: &Path, options: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let image = image(dir, options);
    let before = std::fs::read(&image).unwrap();
    // A block that begins with the journal's own magic number.
    let mut tricky = vec![7; 5000];
    tricky[1024..1028].copy_from_slice(&MAGIC.to_be_bytes());
    std::fs::write(dir.join("tricky"), &tricky).unwrap();
    debugfs(
        &image,
        &format!(
            "write {0} tricky\nmkdir new\nwrite {0} new/second\nrm etc/conf-07\nkill_file /big\nunlink /big\n\
             ln etc/conf-09 new/linked\nsif etc/conf-09 links_count 2\nsif etc/conf-10 mode 0100600\n",
            dir.join("tricky").display()
        ),
    );
    let (status, text) = tool("e2fsck", &["-fy", image.to_str().unwrap()]);
    assert!(status <= 1, "{text}");
    assert_clean(&image, "the work");
    (before, std::fs::read(&image).unwrap())
}

/// The image of before with a journal that holds the work: in three transactions, of which the first writes rubbish
/// that the others replace or revoke.
fn dirty(dir: &Path, (before, after): &(Vec<u8>, Vec<u8>), journal: &str, revokes: bool) -> Vec<u8> {
    let image = dir.join("dirty");
    std::fs::write(&image, before).unwrap();
    let mut after = after.clone();
    // As a kernel's copy of the superblock has it.
    change_super(&mut after, |superblock| superblock[0x60] |= 4);
    let own = bmap(&image, 8, 0);
    // Up to its last block, the pointer blocks of an ext3 in between.
    let own = own..bmap(&image, 8, be(before, own * BLOCK + 0x10) - 1) + 1;
    let blocks: Vec<usize> = (1..before.len() / BLOCK)
        .filter(|n| !own.contains(n) && before[n * BLOCK..][..BLOCK] != after[n * BLOCK..][..BLOCK])
        .collect();
    assert!(blocks.len() > 12, "{blocks:?}");
    let (first, second) = blocks.split_at(blocks.len() / 2);
    let used = |n: &usize| before[n * BLOCK..][..BLOCK].iter().any(|b| *b != 0);
    let untouched = (1500..before.len() / BLOCK).find(|n| used(n) && !blocks.contains(n) && !own.contains(n));
    let untouched = untouched.unwrap();
    let rubbish: Vec<usize> = first[1..4].iter().copied().chain([untouched]).collect();
    let mut commands = format!("jo {journal}\n");
    let mut number = 0;
    let mut write = |blocks: &[usize], bytes: &dyn Fn(usize) -> Vec<u8>, extra: &str| {
        number += 1;
        let file = dir.join(format!("transaction-{number}"));
        std::fs::write(&file, blocks.iter().flat_map(|n| bytes(*n)).collect::<Vec<u8>>()).unwrap();
        let list: Vec<String> = blocks.iter().map(usize::to_string).collect();
        format!("jw -b {}{extra} {}\n", list.join(","), file.display())
    };
    let real = |n: usize| after[n * BLOCK..][..BLOCK].to_vec();
    if revokes {
        commands += &write(&rubbish, &|_| vec![0xee; BLOCK], "");
        commands += &format!("jw -r {untouched}\n");
    }
    commands += &write(first, &real, "");
    commands += &write(second, &real, "");
    commands += "jc\n";
    debugfs(&image, &commands);
    std::fs::read(&image).unwrap()
}

/// Where the journal is in the image: in one piece.
fn journal_at(dir: &Path, image: &[u8]) -> usize {
    let file = dir.join("look");
    std::fs::write(&file, image).unwrap();
    let at = bmap(&file, 8, 0);
    let len = be(image, at * BLOCK + 0x10);
    assert_eq!(bmap(&file, 8, len - 1), at + len as usize - 1);
    at * BLOCK
}

/// Changes the journal's superblock and its checksum.
fn change_journal(image: &mut [u8], at: usize, change: impl FnOnce(&mut [u8])) {
    let superblock = &mut image[at..at + 1024];
    change(superblock);
    if be(superblock, 4) == 4 && be(superblock, 0x28) & 0x18 != 0 {
        put_be(superblock, 0xfc, 0);
        let sum = crc32c(!0, superblock);
        put_be(superblock, 0xfc, sum);
    }
}

/// Moves the log round its ring, so that it wraps somewhere in the middle.
fn rotate(image: &mut [u8], at: usize, by: usize) {
    let blocks = be(&image[at..], 0x10) as usize - 1;
    let log = &mut image[at + BLOCK..at + BLOCK * (1 + blocks)];
    log.rotate_left(by * BLOCK);
    change_journal(image, at, |superblock| {
        let start = be(superblock, 0x1c) as usize;
        put_be(superblock, 0x1c, ((start - 1 + blocks - by) % blocks + 1) as u32);
    });
}

/// What e2fsck makes of an image.
fn by_e2fsck(dir: &Path, image: &[u8], what: &str) -> Vec<u8> {
    let file = dir.join("theirs");
    std::fs::write(&file, image).unwrap();
    let (status, text) = tool("e2fsck", &["-fy", file.to_str().unwrap()]);
    assert!(status <= 1 && !text.contains("corrupt"), "{what}: {text}");
    std::fs::read(&file).unwrap()
}

fn tree_of(image: &[u8]) -> Tree {
    through_trait(fs::open(Sparse::from_bytes(image).device()).unwrap().as_ref())
}

/// Free blocks and inodes as the superblock has them.
fn counts(image: &[u8]) -> (u32, u32) {
    (le(image, 1024 + 0x0c), le(image, 1024 + 0x10))
}

/// Replays with ours: a reader sees e2fsck's tree and writes nothing, a writer leaves it, clean.
fn check(dir: &Path, image: &[u8], what: &str) {
    let theirs = by_e2fsck(dir, image, what);
    let wanted = tree_of(&theirs);
    let base = Sparse::from_bytes(image);
    let staged = Staged::new(base.clone());
    let mut fs = fs::open(staged.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&through_trait(fs.as_ref()), &wanted, &format!("{what}: read before the replay"));
    let info = fs.info().unwrap();
    assert!(base.bytes() == image, "{what}: reading has written");
    assert_eq!(info.read_only, None, "{what}");
    // Once given up, once committed.
    fs.edit(NOW).unwrap().sync().unwrap();
    staged.abandon();
    fs.reload().unwrap();
    assert_same(&through_trait(fs.as_ref()), &wanted, &format!("{what}: after a rollback"));
    fs.edit(NOW).unwrap_or_else(|error| panic!("{what}: {error}")).sync().unwrap();
    assert_same(&through_trait(fs.as_ref()), &wanted, &format!("{what}: after the replay"));
    staged.commit();
    let ours = dir.join("ours");
    base.save(&ours);
    judge(&ours, &wanted, what);
    assert_eq!(counts(&base.bytes()), counts(&theirs), "{what}: free blocks and inodes");
}

const EXT4: &[&str] = &["-t", "ext4"];

#[test]
fn journals_of_every_form() {
    let dir = scratch();
    let ext4 = before_and_after(dir.path(), EXT4);
    let narrow = before_and_after(dir.path(), &["-t", "ext4", "-O", "^64bit,^metadata_csum"]);
    for (images, name) in [(&ext4, "64bit"), (&narrow, "32 bits")] {
        for journal in ["", "-c -v 2", "-c -v 3"] {
            let what = format!("{name} '{journal}'");
            // debugfs 1.47.0 computes wrong sums in revoking transactions of this form; e2fsck finds them, and so do we.
            let revokes = name != "32 bits" || journal.is_empty();
            let mut image = dirty(dir.path(), images, journal, revokes);
            check(dir.path(), &image, &what);
            let at = journal_at(dir.path(), &image);
            // Every border of the ring inside the log, in steps.
            for by in [3, 8] {
                let mut image = image.clone();
                rotate(&mut image, at, by);
                check(dir.path(), &image, &format!("{what} rotated by {by}"));
            }
            change_journal(&mut image, at, |superblock| superblock[0x2b] |= 4);
            check(dir.path(), &image, &format!("{what} async_commit"));
        }
    }
    let ext3 = before_and_after(dir.path(), &["-t", "ext3"]);
    check(dir.path(), &dirty(dir.path(), &ext3, "", true), "ext3");
    // A journal superblock of version 1 has no features, so no revokes either.
    let mut old = dirty(dir.path(), &narrow, "", false);
    let at = journal_at(dir.path(), &old);
    change_journal(&mut old, at, |superblock| {
        put_be(superblock, 4, 3);
        superblock[0x24..0x100].fill(0);
    });
    check(dir.path(), &old, "version 1");
}

/// crc32 of version 1 of the checksums, over whole transactions.
fn crc32_be(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |c, _| if c >> 31 == 1 { c << 1 ^ 0x04c1_1db7 } else { c << 1 })
    })
}

#[test]
fn checksums_of_transactions() {
    let dir = scratch();
    let images = before_and_after(dir.path(), EXT4);
    let mut image = dirty(dir.path(), &images, "", true);
    let at = journal_at(dir.path(), &image);
    change_journal(&mut image, at, |superblock| superblock[0x27] |= 1);
    let (mut crc, mut commits, mut inside) = (!0, Vec::new(), 0);
    for n in 1..1024 {
        let block = &mut image[at + n * BLOCK..][..BLOCK];
        let header = be(block, 0) == MAGIC && inside == 0;
        match be(block, 4) {
            1 if header => {
                crc = crc32_be(crc, block);
                // Tags of 12 bytes, the first with a UUID behind it; the last has flag 8.
                let mut from = 12;
                loop {
                    let flags = block[from + 7];
                    inside += 1;
                    from += if flags & 2 == 0 { 28 } else { 12 };
                    if flags & 8 != 0 {
                        break;
                    }
                }
            }
            2 if header => {
                block[12..14].copy_from_slice(&[1, 4]);
                put_be(block, 0x10, crc);
                commits.push(n);
                crc = !0;
            }
            _ if inside > 0 => {
                crc = crc32_be(crc, block);
                inside -= 1;
            }
            _ => {}
        }
    }
    assert_eq!(commits.len(), 4);
    check(dir.path(), &image, "checksum v1");
    // Damage in the third transaction is found.
    image[at + (commits[2] - 1) * BLOCK + 9] ^= 1;
    let error = fs::open(Sparse::from_bytes(&image).device()).err().unwrap();
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains("its commit block"), "{error}");
}

#[test]
fn damage_is_found_and_named() {
    let dir = scratch();
    let images = before_and_after(dir.path(), EXT4);
    let good = dirty(dir.path(), &images, "-c -v 3", true);
    let at = journal_at(dir.path(), &good);
    let refusal = |image: &[u8]| match fs::open(Sparse::from_bytes(image).device()) {
        Ok(mut fs) => fs.edit(NOW).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    assert_eq!(refusal(&good), None);
    let mut wrong = Vec::new();
    // A bit in each block of the log up to its last commit block; later ones are not looked at.
    let used = (1..1024).take_while(|n| good[at + n * BLOCK..][..BLOCK].iter().any(|b| *b != 0)).count();
    for n in 1..=used {
        let mut image = good.clone();
        image[at + n * BLOCK + 600] ^= 4;
        match refusal(&image) {
            Some(text) => assert!(text.contains("ext4: journal: transaction ") && text.contains("checksum"), "{text}"),
            None => wrong.push(n),
        }
    }
    // Of the rubbish that is revoked or replaced the sum is wrong all the same.
    assert_eq!(wrong, Vec::<usize>::new());
    type Change = fn(&mut [u8]);
    let cases: &[(Change, &str)] = &[
        (|s| put_be(s, 0x20, -5_i32 as u32), "journal recorded error -5 (s_errno)"),
        (|s| put_be(s, 0x28, 0x40), "unknown features (incompat 0x40)"),
        (|s| put_be(s, 0x2c, 0x1), "unknown features (ro_compat 0x1)"),
        (|s| put_be(s, 0x1c, 1024), "s_start is 1024, not in 1..1024"),
        (|s| put_be(s, 0x0c, 4096), "s_blocksize is 4096"),
        (|s| put_be(s, 0x10, 5000), "s_maxlen is 5000"),
        (|s| put_be(s, 0x14, 0), "s_first is 0"),
        (|s| put_be(s, 0x04, 7), "h_blocktype is 7"),
        (|s| put_be(s, 0x28, 0x18), "two kinds of checksums"),
        (|s| s[0x50] = 3, "checksum type 3 is not crc32c"),
    ];
    for (change, words) in cases {
        let mut image = good.clone();
        change_journal(&mut image, at, change);
        let text = refusal(&image).unwrap_or_default();
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut image = good.clone();
    image[at + 0x18] ^= 1;
    assert!(refusal(&image).unwrap().contains("journal superblock: its checksum is wrong"));
    change_super(&mut image, |superblock| superblock[0xe4] = 9);
    assert!(refusal(&image).unwrap().contains("its journal is both inode 8 and on another device (s_journal_dev 0x9)"));
    // Transactions without the flag: Linux drops them, e2fsck replays them.
    let mut image = good.clone();
    change_super(&mut image, |superblock| superblock[0x60] &= !4);
    assert!(refusal(&image).unwrap().contains("s_start 1"), "{:?}", refusal(&image));
    // The flag without transactions is just cleared.
    let mut image = good;
    change_journal(&mut image, at, |superblock| put_be(superblock, 0x1c, 0));
    check(dir.path(), &image, "an empty log");
}

/// Whatever bytes the log has: an answer, never a panic.
#[test]
fn hostile_logs() {
    let dir = scratch();
    let images = before_and_after(dir.path(), &["-t", "ext4", "-O", "^metadata_csum"]);
    let mut random = oracle::Random(5);
    let (mut opened, mut refused) = (0, 0);
    for journal in ["", "-c -v 2"] {
        let good = dirty(dir.path(), &images, journal, true);
        let at = journal_at(dir.path(), &good);
        let places: Vec<usize> =
            (at..at + 60 * BLOCK).filter(|i| i % BLOCK < 64 && good[i & !3..][..4] != [0; 4]).collect();
        let pages = Sparse::from_bytes(&good).snapshot();
        for _ in 0..400 {
            let device = Sparse::from_pages(good.len() as u64, pages.clone());
            for _ in 0..=random.below(2) {
                let place = places[random.below(places.len() as u64) as usize];
                let byte = if random.below(2) == 0 { random.next() as u8 } else { good[place] ^ 1 << random.below(8) };
                device.write_at(place as u64, &[byte]).unwrap();
            }
            match fs::open(device.device()) {
                Ok(mut fs) => {
                    let root = fs.root();
                    let _ = fs.read_dir(root);
                    let _ = fs.edit(NOW).and_then(|edit| edit.sync());
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(opened > 50 && refused > 50, "{opened} {refused}");
}

/// The number of the inode of a path.
fn inode_of(image: &Path, path: &str) -> u32 {
    let text = run("debugfs", &["-R", &format!("stat {path}"), image.to_str().unwrap()]);
    text.split_once("Inode: ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

/// Two deleted files and a cut one: the commands that leave them to be cleaned up, and their numbers.
fn orphans(image: &Path) -> (String, Vec<u32>) {
    let numbers: Vec<u32> = ["/big", "/etc/conf-40", "/etc/conf-50"].iter().map(|path| inode_of(image, path)).collect();
    let [big, deleted, cut] = numbers[..] else { unreachable!() };
    let commands = format!(
        "unlink /big\nunlink /etc/conf-40\nsif <{big}> links_count 0\nsif <{deleted}> links_count 0\n\
         sif <{cut}> size 1500\n"
    );
    (commands, numbers)
}

#[test]
fn orphans_of_the_list() {
    list_of_orphans(EXT4);
    // What the orphans used is no longer used.
    list_of_orphans(&[EXT4, &["-O", "quota"]].concat());
}

fn list_of_orphans(options: &[&str]) {
    let dir = scratch();
    let image = image(dir.path(), options);
    let (commands, numbers) = orphans(&image);
    let [big, deleted, cut] = numbers[..] else { unreachable!() };
    debugfs(
        &image,
        &format!("{commands}sif <{big}> dtime {cut}\nsif <{cut}> dtime {deleted}\nssv last_orphan {big}\n"),
    );
    let bytes = std::fs::read(&image).unwrap();
    check(dir.path(), &bytes, "orphan list");
    // A list that goes round, one that ends nowhere, one that names the root.
    for (commands, words) in [
        (format!("sif <{deleted}> dtime {big}\n"), "marked free"),
        (format!("sif <{deleted}> dtime 4000000\n"), "orphan inode 4000000"),
        (format!("sif <{deleted}> dtime 2\n"), "orphan inode 2"),
    ] {
        std::fs::write(&image, &bytes).unwrap();
        debugfs(&image, &commands);
        let mut fs = fs::open(Sparse::load(&image).device()).unwrap();
        let error = fs.edit(NOW).err().unwrap();
        assert!(error.kind() == Kind::Corrupt && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn orphans_of_the_file() {
    let dir = scratch();
    let image = image(dir.path(), &["-t", "ext4", "-O", "orphan_file,metadata_csum_seed"]);
    let (commands, numbers) = orphans(&image);
    debugfs(&image, &commands);
    let block = bmap(&image, 12, 3);
    let mut bytes = std::fs::read(&image).unwrap();
    let seed = le(&bytes, 1024 + 0x270);
    let at = block * BLOCK;
    for (i, number) in numbers.iter().enumerate() {
        bytes[at + 40 + 4 * i..][..4].copy_from_slice(&number.to_le_bytes());
    }
    let sum = [&12_u32.to_le_bytes()[..], &[0; 4], &(block as u64).to_le_bytes(), &bytes[at..at + BLOCK - 8]];
    let sum = sum.iter().fold(seed, |crc, part| crc32c(crc, part));
    bytes[at + BLOCK - 4..at + BLOCK].copy_from_slice(&sum.to_le_bytes());
    change_super(&mut bytes, |superblock| superblock[0x66] |= 1);
    check(dir.path(), &bytes, "orphan file");
    bytes[at + BLOCK - 4] ^= 1;
    let mut fs = fs::open(Sparse::from_bytes(&bytes).device()).unwrap();
    let error = fs.edit(NOW).err().unwrap();
    assert!(error.to_string().contains(&format!("orphan file: block {block}")), "{error}");
}

/// Bytes of the journal of `tests/fast-commits` that are kept for fast commits.
const FAST_BLOCKS: usize = 512;

/// The image that a kernel left fast commits in, and the place of their blocks.
fn with_fast_commits() -> (Vec<u8>, usize) {
    let mut image = Vec::new();
    let packed = &include_bytes!("fast-commits/image.gz")[..];
    flate2::read::GzDecoder::new(packed).read_to_end(&mut image).unwrap();
    // The head of the first fast commit: tag 9 of 8 bytes, no features, the transaction after the log's last.
    let head = [9, 0, 8, 0, 0, 0, 0, 0];
    let at = image.chunks(BLOCK).position(|block| block.starts_with(&head) && block[12..14] == [6, 0]).unwrap();
    (image, at * BLOCK)
}

/// One line a node, as `tests/fast-commits/make-image` writes them.
fn listed(fs: &dyn FileSystem) -> Vec<String> {
    let mut lines = Vec::new();
    let mut queue = vec![(String::new(), fs.root())];
    while let Some((path, dir)) = queue.pop() {
        for entry in fs.read_dir(dir).unwrap() {
            let path = format!("{path}/{}", entry.name);
            let meta = fs.metadata(entry.node).unwrap();
            let mode = meta.file_type.mode_bits() | meta.mode;
            let mut last = "-".to_string();
            let (mut size, mut blocks, mut time) = (meta.size.to_string(), "-".to_string(), "-".to_string());
            match meta.file_type {
                FileType::Directory => {
                    size = "-".into();
                    queue.push((path.clone(), entry.node));
                }
                FileType::Symlink => last = fs.read_link(entry.node).unwrap().to_string(),
                FileType::Regular => {
                    let mut bytes = vec![0; meta.size as usize];
                    fs.read(entry.node, 0, &mut bytes).unwrap();
                    last = md5::Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    blocks = meta.blocks.to_string();
                    time = format!("{}{:09}", meta.modified.seconds, meta.modified.nanos);
                }
                _ => {}
            }
            let (uid, gid, links) = (meta.uid, meta.gid, meta.links);
            lines.push(format!("{path} 0o{mode:o} {uid} {gid} {links} {size} {blocks} {time} {last}"));
        }
    }
    lines.sort();
    lines
}

/// Fast commits are replayed to what the kernel that wrote them showed: for reading without a write, and for good
/// before the first write.
#[test]
fn fast_commits_of_a_kernel() {
    let dir = scratch();
    let (image, _) = with_fast_commits();
    let mut wanted: Vec<String> = include_str!("fast-commits/tree").lines().map(str::to_string).collect();
    wanted.sort();
    let device = Sparse::from_bytes(&image);
    let mut fs = fs::open(device.device()).unwrap();
    assert_eq!(listed(fs.as_ref()), wanted);
    assert_eq!(fs.notice(), None);
    assert!(device.bytes() == image, "reading writes nothing");
    let root = fs.root();
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    fs.edit(NOW).unwrap().create(root, b"probe", &new).unwrap();
    fs.edit(NOW).unwrap().sync().unwrap();
    let path = dir.path().join("image");
    device.save(&path);
    assert_clean(&path, "after the replay of fast commits");
    let again = fs::open(Sparse::load(&path).device()).unwrap();
    let without_probe = listed(again.as_ref()).into_iter().filter(|line| !line.starts_with("/probe "));
    assert_eq!(without_probe.collect::<Vec<_>>(), wanted);
    // And by somebody else: the content of a file that fast commits made in pieces.
    let dump = run("debugfs", &["-R", "cat /n/sub/b", path.to_str().unwrap()]);
    assert_eq!(dump.lines().last(), Some("deep"));
}

/// What ends before its tail was never promised; what is not known is refused, and reading goes on without it.
#[test]
fn fast_commits_that_are_torn_or_unknown() {
    let (image, at) = with_fast_commits();
    let dir = scratch();
    let count = |image: &[u8]| listed(fs::open(Sparse::from_bytes(image).device()).unwrap().as_ref()).len();
    let whole = count(&image);
    let mut torn = image.clone();
    torn[at + 3 * BLOCK + 20] ^= 1;
    let mut none = image.clone();
    none[at + 8] ^= 1;
    assert!(count(&none) < count(&torn) || count(&torn) < whole, "the commits in front of the torn one count");
    for (image, what) in [(&torn, "torn"), (&none, "of another transaction")] {
        let device = Sparse::from_bytes(image);
        let mut fs = fs::open(device.device()).unwrap();
        let root = fs.root();
        let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
        fs.edit(NOW).unwrap().create(root, b"probe", &new).unwrap();
        fs.edit(NOW).unwrap().sync().unwrap();
        let path = dir.path().join("image");
        device.save(&path);
        assert_clean(&path, what);
    }
    let mut unknown = image.clone();
    unknown[at + 4] = 4;
    let mut fs = fs::open(Sparse::from_bytes(&unknown).device()).unwrap();
    assert!(fs.notice().unwrap().contains("unknown features 0x4 in a fast commit"), "{:?}", fs.notice());
    assert_eq!(fs.edit(NOW).err().unwrap().kind(), Kind::Unsupported);
}

/// Makes the checksums of all fast commits right again.
fn restamp(image: &mut [u8], at: usize) {
    let mut crc = 0;
    for block in image[at..at + (FAST_BLOCKS - 1) * BLOCK].chunks_mut(BLOCK) {
        let mut from = 0;
        while from + 4 <= BLOCK {
            let (tag, len) = (block[from], usize::from(u16::from_le_bytes([block[from + 2], block[from + 3]])));
            if tag == 0 || from + 4 + len > BLOCK {
                break;
            }
            if tag == 8 && len >= 8 {
                let sum = crc32c(crc, &block[from..from + 8]);
                block[from + 8..from + 12].copy_from_slice(&sum.to_le_bytes());
                crc = 0;
            } else {
                crc = crc32c(crc, &block[from..from + 4 + len]);
            }
            from += 4 + len;
        }
    }
}

/// Damaged records with right checksums: an error or a result, never a panic; a failed replay leaves the older state.
#[test]
fn hostile_fast_commits() {
    let (image, at) = with_fast_commits();
    let mut random = Random(77);
    let mut refused = 0;
    for _ in 0..300 {
        let mut bytes = image.clone();
        for _ in 0..=random.below(3) {
            let place = at + random.below(12 * BLOCK as u64) as usize;
            bytes[place] = random.next() as u8;
        }
        restamp(&mut bytes, at);
        let device = Sparse::from_bytes(&bytes);
        let Ok(mut fs) = fs::open(device.device()) else { continue };
        let tree = fs.read_dir(fs.root());
        refused += u32::from(fs.notice().is_some());
        if let (Ok(_), Ok(edit)) = (tree, fs.edit(NOW)) {
            let _ = edit.sync();
        }
    }
    assert!(refused > 0, "some of them are noticed");
}
