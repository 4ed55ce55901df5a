//! Journals on devices of their own: made as mke2fs makes them, used by the file systems that they are for and by no others;
//! what they hold is replayed as e2fsck does it, or not at all.

mod oracle;

use std::path::{Path, PathBuf};

use imgsh::base::{Kind, Timestamp, Uuid};
use imgsh::disk::BlockDevice;
use imgsh::fs::ext4::{self, Ext4, JournalDevice};
use imgsh::fs::{self, FileSystem, MakeOptions};
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::world::{World, name};
use oracle::{Sparse, Staged, run, scratch, tool};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };
const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
const OTHER: &str = "00010203-0405-4607-8809-0a0b0c0d0e0f";
const MIB: u64 = 1 << 20;

fn options(block_size: u32, uuid: &str) -> MakeOptions {
    let uuid = Uuid::parse(uuid).unwrap();
    MakeOptions {
        fs_type: "ext2".into(),
        block_size: Some(block_size),
        features: Some("journal_dev".into()),
        label: Some("LOG".into()),
        uuid,
        seed: uuid.0,
        now: NOW,
        ..MakeOptions::default()
    }
}

#[test]
fn journals_are_those_of_mke2fs() {
    let dir = scratch();
    let theirs = dir.path().join("theirs");
    for block_size in [1024_u32, 2048, 4096] {
        let device = Sparse::new(5 * MIB + 512);
        fs::make(&device.device(), &options(block_size, JOURNAL)).unwrap();
        std::fs::File::create(&theirs).unwrap().set_len(5 * MIB + 512).unwrap();
        let (size, seed) = (block_size.to_string(), format!("hash_seed={JOURNAL}"));
        let known = ["-q", "-F", "-O", "journal_dev", "-b", &size, "-L", "LOG", "-U", JOURNAL, "-E", &seed];
        run("mke2fs", &[&known[..], &[theirs.to_str().unwrap()]].concat());
        let (ours, theirs) = (device.bytes(), std::fs::read(&theirs).unwrap());
        // The times are those of the clock there.
        let excused = |at: usize| [0x42c..0x434, 0x440..0x444, 0x508..0x50c].iter().any(|range| range.contains(&at));
        let wrong: Vec<usize> = (0..ours.len()).filter(|at| ours[*at] != theirs[*at] && !excused(*at)).collect();
        assert_eq!(wrong, Vec::<usize>::new(), "{block_size}");
    }
    let small = fs::make(&Sparse::new(MIB).device(), &options(4096, JOURNAL)).unwrap_err();
    assert!(small.kind() == Kind::NoSpace && small.to_string().contains("1024 are needed"), "{small}");
}

/// A file system with some files and the journal that it uses.
fn made(dir: &Path, block_size: u32, fs_options: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    for i in 0..40 {
        std::fs::write(tree.join(format!("etc/conf-{i:02}")), format!("before {i}\n").repeat(i * 20)).unwrap();
    }
    let (size, file) = (block_size.to_string(), image.to_str().unwrap());
    let base = ["-q", "-F", "-b", &size, "-d", tree.to_str().unwrap(), "-O", "^has_journal"];
    run("mke2fs", &[&base[..], fs_options, &[file, "16M"]].concat());
    let (disk, journal) = (Sparse::load(&image), Sparse::new(8 * MIB));
    fs::make(&journal.device(), &options(block_size, JOURNAL)).unwrap();
    Ext4::open(disk.device()).unwrap().attach_journal(&journal.device(), 0x801).unwrap();
    (disk.bytes(), journal.bytes())
}

/// Both in files; the clean file system is judged by e2fsck, which must find the journal.
fn save(dir: &Path, pair: &(Vec<u8>, Vec<u8>), what: &str) -> (PathBuf, PathBuf) {
    let (image, journal) = (dir.join("fs"), dir.join("journal"));
    std::fs::write(&image, &pair.0).unwrap();
    std::fs::write(&journal, &pair.1).unwrap();
    let (status, text) = tool("e2fsck", &["-fn", "-j", journal.to_str().unwrap(), image.to_str().unwrap()]);
    assert!(status == 0, "{what}: {text}");
    (image, journal)
}

/// A pair whose journal holds work on the file system, and the tree that e2fsck makes of it.
fn dirty(dir: &Path, pair: (Vec<u8>, Vec<u8>), version: &str) -> (Vec<u8>, Vec<u8>, Tree) {
    let (image, journal) = save(dir, &pair, version);
    let block_size = 1024 << pair.0[1024 + 0x18];
    let new = dir.join("new");
    std::fs::write(&new, vec![7; 50_000]).unwrap();
    let list = dir.join("commands");
    let write = |commands: &str| {
        std::fs::write(&list, commands).unwrap();
        run("debugfs", &["-w", "-f", list.to_str().unwrap(), image.to_str().unwrap()]);
    };
    write(&format!("write {} new\nrm etc/conf-07\nmkdir fresh\n", new.display()));
    let (_, text) = tool("e2fsck", &["-fy", "-j", journal.to_str().unwrap(), image.to_str().unwrap()]);
    let after = std::fs::read(&image).unwrap();
    assert!(after != pair.0, "{text}");
    let blocks: Vec<usize> = (0..pair.0.len() / block_size)
        .filter(|n| pair.0[n * block_size..][..block_size] != after[n * block_size..][..block_size])
        .collect();
    // A running kernel's copy of the superblock says that the journal is needed; debugfs sets that here.
    let blocks: Vec<usize> =
        blocks.into_iter().filter(|n| *n * block_size >= 2048 || *n * block_size + block_size <= 1024).collect();
    std::fs::write(&image, &pair.0).unwrap();
    let bytes: Vec<u8> = blocks.iter().flat_map(|n| after[n * block_size..][..block_size].to_vec()).collect();
    std::fs::write(dir.join("blocks"), bytes).unwrap();
    let numbers: Vec<String> = blocks.iter().map(usize::to_string).collect();
    write(&format!(
        "jo -f {} {version}\njw -b {} {}\njc\n",
        journal.display(),
        numbers.join(","),
        dir.join("blocks").display()
    ));
    let (left, log) = (std::fs::read(&image).unwrap(), std::fs::read(&journal).unwrap());
    assert!(left[1024 + 0x60] & 4 != 0 && log != pair.1, "{version}: nothing to replay");
    let (status, text) = tool("e2fsck", &["-fy", "-j", journal.to_str().unwrap(), image.to_str().unwrap()]);
    assert!(status <= 1 && text.contains("recovering journal"), "{text}");
    let theirs = through_trait(&Ext4::open(Sparse::load(&image).device()).unwrap());
    assert!(theirs.keys().any(|path| path.ends_with(b"new")) && !theirs.keys().any(|path| path.ends_with(b"conf-07")));
    (left, log, theirs)
}

fn open(fs: &Pair, same_disk: bool) -> imgsh::base::Result<Ext4> {
    Ext4::open_with_journal(fs.0.clone(), Some(JournalDevice { device: fs.1.clone(), same_disk }))
}

/// A file system and its journal, staged.
struct Pair(imgsh::disk::Device, imgsh::disk::Device);

#[test]
fn what_a_journal_elsewhere_holds_is_replayed() {
    let dir = scratch();
    let grid: &[(u32, &[&str], &str)] = &[
        (1024, &["-t", "ext4"], "-c -v 3"),
        (4096, &["-t", "ext4"], "-c -v 3"),
        (4096, &["-t", "ext4", "-O", "^metadata_csum,^64bit"], ""),
        (1024, &["-t", "ext3"], ""),
    ];
    for (block_size, fs_options, version) in grid {
        let what = format!("{block_size} {fs_options:?} {version}");
        let clean = made(dir.path(), *block_size, fs_options);
        let (image, log, wanted) = dirty(dir.path(), clean, version);
        let (base, journal) = (Sparse::from_bytes(&image), Sparse::from_bytes(&log));
        let (fs_stage, log_stage) = (Staged::new(base.clone()), Staged::new(journal.clone()));
        let both = Pair(fs_stage.clone(), log_stage.clone());

        // Without the journal nothing is read, and with one of another disk nothing is written.
        let error = Ext4::open(base.device()).err().unwrap();
        assert!(error.kind() == Kind::Unsupported && error.to_string().contains(JOURNAL), "{what}: {error}");
        let mut fs = open(&both, false).unwrap();
        assert_same(&through_trait(&fs), &wanted, &what);
        let error = fs.edit(NOW).err().unwrap();
        assert!(error.kind() == Kind::Unsupported && error.to_string().contains(JOURNAL), "{what}: {error}");
        assert!(error.to_string().contains("of another disk, and must be replayed"), "{error}");

        let mut fs = open(&both, true).unwrap();
        assert_same(&through_trait(&fs), &wanted, &what);
        assert!(base.bytes() == image && journal.bytes() == log, "{what}: reading has written");
        fs.edit(NOW).unwrap().sync().unwrap();
        fs_stage.abandon();
        log_stage.abandon();
        fs.reload().unwrap();
        assert_same(&through_trait(&fs), &wanted, &format!("{what}: after a rollback"));
        fs.edit(NOW).unwrap().sync().unwrap();
        fs_stage.commit();
        log_stage.commit();
        let (ours, _) = save(dir.path(), &(base.bytes(), journal.bytes()), &what);
        // The judge has no journal, and so the file system may have none either.
        for change in ["feature -has_journal", "ssv journal_uuid clear", "ssv journal_dev 0"] {
            run("debugfs", &["-w", "-R", change, ours.to_str().unwrap()]);
        }
        judge(&ours, &wanted, &what);
    }
}

#[test]
fn only_its_own_journal_will_do() {
    let dir = scratch();
    let (image, log) = made(dir.path(), 1024, &["-t", "ext4"]);
    let wanted = through_trait(&Ext4::open(Sparse::from_bytes(&image).device()).unwrap());
    let refusal = |image: &[u8], log: &[u8]| {
        let both = Pair(Sparse::from_bytes(image).device(), Sparse::from_bytes(log).device());
        match open(&both, true) {
            Ok(mut fs) => fs.edit(NOW).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    };
    assert_eq!(refusal(&image, &log), None);
    assert_eq!(ext4::wanted_journal(Sparse::from_bytes(&image).device().as_ref()).unwrap(), Uuid::parse(JOURNAL),);
    assert_eq!(ext4::wanted_journal(Sparse::from_bytes(&log).device().as_ref()).unwrap(), None);
    // Clean, it is read without; to write it needs its journal.
    let mut alone = Ext4::open(Sparse::from_bytes(&image).device()).unwrap();
    assert_same(&through_trait(&alone), &wanted, "without its journal");
    let error = alone.edit(NOW).err().unwrap().to_string();
    assert!(error.contains(JOURNAL) && error.contains("none of those that are here"), "{error}");

    let home = 2048;
    let changed = |at: usize, bytes: &[u8]| {
        let mut log = log.clone();
        log[at..at + bytes.len()].copy_from_slice(bytes);
        log
    };
    let another = Sparse::new(8 * MIB);
    fs::make(&another.device(), &options(1024, OTHER)).unwrap();
    let larger = Sparse::new(8 * MIB);
    fs::make(&larger.device(), &options(4096, JOURNAL)).unwrap();
    let cases: &[(Vec<u8>, &str)] = &[
        (another.bytes(), OTHER),
        (larger.bytes(), "blocks of 4096 bytes"),
        (changed(home + 0x100, &Uuid::parse(OTHER).unwrap().0), "whose users are 00010203-"),
        (changed(home + 0x43, &[0]), "whose users are none"),
        (changed(home + 0x43, &[2]), "whose users are "),
        (changed(home + 0x41, &[1]), "that of a journal inside"),
        (changed(home + 0x07, &[3]), "that of a journal inside"),
        (changed(home + 0x1f, &[9]), "its journal has transactions (s_start 9)"),
        (changed(home + 0x17, &[2]), "that of a journal inside"),
        (changed(home + 0x30, &[0]), "different UUIDs"),
        (changed(1024 + 0x60, &[0]), "no device with a journal"),
        (changed(1024 + 0x61, &[1]), "features (incompat 0x108)"),
        (changed(1024 + 0x05, &[0xff]), "blocks, and has"),
        (changed(1024 + 0x18, &[77]), "s_log_block_size is 77"),
        (changed(home + 0x23, &[5]), "journal recorded error 5"),
        (log[..1500].to_vec(), "no device with a journal"),
    ];
    for (log, words) in cases {
        let text = refusal(&image, log).unwrap_or_default();
        assert!(text.contains(words), "{words}: {text}");
    }
    // Whatever byte its superblocks have: an answer.
    let (disk, journal) = (Staged::new(Sparse::from_bytes(&image)), Staged::new(Sparse::from_bytes(&log)));
    for at in (1024..1024 + 0x180).chain(home..home + 0x120) {
        for value in [0, 1, 0x80, 0xff] {
            journal.write_at(at as u64, &[value]).unwrap();
            if let Ok(mut fs) = open(&Pair(disk.clone(), journal.clone()), true) {
                let _ = fs.edit(NOW).map(|edit| edit.sync());
            }
            disk.abandon();
            journal.abandon();
        }
    }
}

#[test]
fn a_journal_serves_one_file_system() {
    let dir = scratch();
    let (image, log) = made(dir.path(), 1024, &["-t", "ext4"]);
    let (disk, journal) = (Sparse::from_bytes(&image), Sparse::from_bytes(&log));
    let users = run("dumpe2fs", &[save(dir.path(), &(image.clone(), log.clone()), "made").1.to_str().unwrap()]);
    let own = Ext4::open(disk.device()).unwrap().info().unwrap().uuid;
    assert!(users.contains(&format!("Journal users:            {own}")), "{users}");
    // Its UUID is in the journal: a new one is refused.
    let both = Pair(disk.device(), journal.device());
    let mut fs = open(&both, true).unwrap();
    let error = fs.edit(NOW).unwrap().set_uuid(Uuid::parse(OTHER).unwrap()).unwrap_err();
    assert!(error.to_string().contains("knows it by its UUID"), "{error}");
    // Nor does it take another file system, one with other blocks, or one with a journal.
    let refused = |options: &[&str], log: &Pair| {
        let image = dir.path().join("other");
        run("mke2fs", &[&["-q", "-F"], options, &[image.to_str().unwrap(), "16M"]].concat());
        let before = std::fs::read(&image).unwrap();
        let disk = Sparse::load(&image);
        let error = Ext4::open(disk.device()).unwrap().attach_journal(&log.1, 0x801).unwrap_err();
        assert!(disk.bytes() == before, "{error}: something was written");
        error.to_string()
    };
    assert!(refused(&["-t", "ext2", "-b", "1024"], &both).contains("in use by another file system"));
    assert!(refused(&["-t", "ext3", "-b", "1024"], &both).contains("has a journal"));
    assert!(refused(&["-t", "ext2", "-b", "4096"], &both).contains("blocks of 1024 bytes, the file system of 4096"));
    let none = Pair(disk.device(), Sparse::new(8 * MIB).device());
    assert!(refused(&["-t", "ext2", "-b", "1024"], &none).contains("no device with a journal"));
    assert!(journal.bytes() == log, "the journal was written");
}

/// The commands, on two disks and on two partitions.
#[test]
fn sessions_find_the_journal() {
    let world = World::new();
    let path = |file: &str| name(&world.path(file));
    for file in ["log.img", "fs.img", "alone.img"] {
        std::fs::File::create(world.path(file)).unwrap().set_len(20 * MIB).unwrap();
    }
    let lines = "run\nmke2journal-L 4096 LOG /dev/sda\nmke2fs-JL ext4 4096 /dev/sdb LOG\nmount /dev/sdb /\n\
                 write /new hello\numount /\nresize2fs-size /dev/sdb 16M\nset-label /dev/sdb data\n";
    std::fs::write(world.path("make.gfs"), lines).unwrap();
    let both = |more: &[&str]| {
        let drives = ["-a", "log.img", "-a", "fs.img"];
        world.imgsh(&[&["--rw"], &drives[..], more].concat())
    };
    let made = both(&["-f", "make.gfs"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let checked = |what: &str| {
        let (status, text) = tool("e2fsck", &["-fn", "-j", &path("log.img"), &path("fs.img")]);
        assert!(status == 0, "{what}: {text}");
    };
    checked("made");
    assert_eq!(run("debugfs", &["-R", "cat /new", &path("fs.img")]), "hello");
    let facts = run("dumpe2fs", &["-h", &path("fs.img")]);
    assert!(facts.contains("Journal device:\t          0x0800") && !facts.contains("Journal inode"), "{facts}");
    // Without its drive it is only read.
    let alone = world.imgsh(&["--rw", "-a", "fs.img", "-m", "/dev/sda", "cat", "/new"]);
    assert_eq!(String::from_utf8_lossy(&alone.stdout).trim(), "hello");
    let alone = world.imgsh(&["--rw", "-a", "fs.img", "-m", "/dev/sda", "rm", "/new"]);
    let text = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(!alone.status.success() && text.contains("its journal is on another device"), "{text}");
    // The journal cannot be made anew under a mounted file system.
    let busy = both(&["-m", "/dev/sdb", "mke2journal", "4096", "/dev/sda"]);
    assert!(!busy.status.success() && String::from_utf8_lossy(&busy.stderr).contains("mounted"), "{busy:?}");
    checked("after refusals");

    let lines = "run\npart-init /dev/sda mbr\npart-add /dev/sda p 64 20479\npart-add /dev/sda p 20480 -1\n\
                 mke2fs /dev/sda1 blocksize:1024 journaldev:true\n\
                 mke2fs /dev/sda2 blocksize:1024 journaldevice:/dev/sda1 fstype:ext3 reservedblockspercentage:0\n\
                 mount /dev/sda2 /\nwrite /new hello\n";
    std::fs::write(world.path("parts.gfs"), lines).unwrap();
    world.good(&["--rw", "-a", "alone.img", "-f", "parts.gfs"]);
    let bytes = std::fs::read(world.path("alone.img")).unwrap();
    let (log, fs) = (bytes[64 * 512..20_480 * 512].to_vec(), bytes[20_480 * 512..].to_vec());
    let dir = scratch();
    let (image, log, _) = dirty(dir.path(), (fs, log), "");
    let mut dirtied = bytes;
    dirtied[64 * 512..20_480 * 512].copy_from_slice(&log);
    dirtied[20_480 * 512..].copy_from_slice(&image);
    std::fs::write(world.path("alone.img"), &dirtied).unwrap();
    // One disk, one commit: it is replayed, and changed.
    world.good(&["--rw", "-a", "alone.img", "-m", "/dev/sda2", "write", "/fresh/more", "x"]);
    let bytes = std::fs::read(world.path("alone.img")).unwrap();
    let pair = (bytes[20_480 * 512..].to_vec(), bytes[64 * 512..20_480 * 512].to_vec());
    let (image, _) = save(dir.path(), &pair, "replayed by a session");
    assert_eq!(run("debugfs", &["-R", "cat /fresh/more", image.to_str().unwrap()]), "x");
}
