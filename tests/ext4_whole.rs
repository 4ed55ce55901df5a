//! Operations on whole ext file systems: identity, settings, flags, free space, the check; judged by e2fsprogs.

mod oracle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgsh::base::{Kind, Timestamp, Uuid};
use imgsh::disk::BlockDevice;
use imgsh::fs::FileSystem;
use imgsh::fs::ext4::{Ext4, Tuning};
use oracle::tree::{Tree, judge, through_trait};
use oracle::{Sparse, assert_clean, run, scratch, tool};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };
const UUID: &str = "12345678-1234-4234-9234-123456789abc";

/// Makes of file systems whose checksums are each of another kind.
const MAKES: &[&[&str]] = &[
    &["-t", "ext4"],
    &["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"],
    &["-t", "ext4", "-O", "orphan_file"],
    &["-t", "ext4", "-O", "^metadata_csum,uninit_bg"],
    &["-t", "ext4", "-O", "^metadata_csum,^64bit"],
    &["-t", "ext4", "-O", "meta_bg,^resize_inode"],
    &["-t", "ext3"],
    &["-t", "ext2", "-I", "128"],
];

/// More makes, whose check has rules of their own.
const MORE: &[&[&str]] = &[
    &["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "4096"],
    &["-t", "ext4", "-O", "inline_data"],
    &["-t", "ext4", "-O", "ea_inode,sparse_super2"],
    &["-t", "ext4", "-O", "large_dir"],
    &["-t", "ext4", "-g", "8192", "-b", "1024"],
];

/// A file system with an indexed directory, a file of many extents, attributes in a block, and deleted files.
fn image(dir: &Path, options: &[&str]) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("image"));
    if !tree.exists() {
        std::fs::create_dir_all(tree.join("many")).unwrap();
        for i in 0..200 {
            std::fs::write(tree.join("many").join(format!("a name that takes some space {i}")), b"x").unwrap();
        }
        let holes: Vec<u8> = (0..400_000_u32).map(|i| u8::from(i / 1024 % 2 == 0)).collect();
        std::fs::write(tree.join("holes"), holes).unwrap();
        std::fs::write(tree.join("deleted"), vec![9; 200_000]).unwrap();
    }
    let _ = std::fs::remove_file(&image);
    let file = image.to_str().unwrap();
    run("mke2fs", &[&["-q", "-F", "-d", tree.to_str().unwrap()], options, &[file, "24M"]].concat());
    let list = dir.join("special");
    let large = "long value ".repeat(40);
    std::fs::write(&list, format!("ea_set holes user.large \"{large}\"\nrm deleted\n")).unwrap();
    run("debugfs", &["-w", "-f", list.to_str().unwrap(), file]);
    let (status, text) = tool("e2fsck", &["-fyD", file]);
    assert!(status <= 1, "{text}");
    image
}

fn open(device: &Arc<Sparse>) -> Ext4 {
    Ext4::open(device.device()).unwrap()
}

fn fact(image: &Path, label: &str) -> String {
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {label} in {text}")).trim().to_string()
}

#[test]
fn labels_and_uuids_with_their_checksums() {
    let dir = scratch();
    for options in MAKES {
        let image = image(dir.path(), options);
        let wanted = through_trait(&open(&Sparse::load(&image)));
        let device = Sparse::load(&image);
        let mut fs = open(&device);
        let edit = fs.edit(NOW).unwrap();
        edit.set_label(b"sixteen letters!").unwrap();
        assert_eq!(edit.set_label(b"seventeen letters").err().unwrap().kind(), Kind::Invalid);
        edit.set_uuid(Uuid::parse(UUID).unwrap()).unwrap();
        edit.sync().unwrap();
        // The driver goes on with the new one.
        let new = imgsh::fs::NewNode { kind: imgsh::fs::NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
        let root = fs.root();
        let edit = fs.edit(NOW).unwrap();
        edit.create(root, b"new", &new).unwrap();
        edit.unlink(root, b"new").unwrap();
        edit.sync().unwrap();
        device.save(&image);
        let mut wanted = wanted;
        let root = through_trait(&fs).remove(&Vec::new()).unwrap();
        wanted.insert(Vec::new(), root);
        judge(&image, &wanted, &format!("{options:?}"));
        assert_eq!(
            (fact(&image, "Filesystem volume name"), fact(&image, "Filesystem UUID").as_str()),
            ("sixteen letters!".into(), UUID)
        );
        // The copy in group 1 has them too.
        let copy = run("dumpe2fs", &["-h", "-o", "superblock=8193", "-o", "blocksize=1024", image.to_str().unwrap()]);
        assert!(copy.contains(UUID) && copy.contains("sixteen letters!"), "{copy}");
    }
}

#[test]
fn facts_are_those_of_tune2fs() {
    let dir = scratch();
    for options in MAKES.iter().chain(&[&["-t", "ext2"][..], &["-t", "ext3"], &["-t", "ext2", "-r", "0", "-O", "none"]])
    {
        let image = image(dir.path(), options);
        let file = image.to_str().unwrap();
        run("tune2fs", &["-L", "label", "-i", "3d", "-c", "20", "-e", "panic", "-M", "/mnt", "-r", "77", file]);
        let theirs = run("tune2fs", &["-l", file]);
        let theirs: Vec<(String, String)> = theirs
            .lines()
            .filter(|line| !line.starts_with("tune2fs "))
            .filter_map(|line| line.split_once(':'))
            .map(|(label, value)| (label.to_string(), value.trim().to_string()))
            .collect();
        let ours = open(&Sparse::load(&image)).facts();
        let ours: Vec<(String, String)> =
            ours.into_iter().map(|(l, v)| (l.to_string(), v.trim().to_string())).collect();
        assert_eq!(ours, theirs, "{options:?}");
    }
}

#[test]
fn settings() {
    let dir = scratch();
    let image = image(dir.path(), MAKES[0]);
    let device = Sparse::load(&image);
    let mut fs = open(&device);
    let tuning = Tuning {
        max_mounts: Some(0),
        mounts: Some(5),
        on_errors: Some("remount-ro".into()),
        group: Some(7),
        user: Some(8),
        check_interval: Some(86_400),
        reserved_percent: Some(2),
        last_mounted: Some("/somewhere".into()),
        ..Tuning::default()
    };
    fs.tune(&tuning).unwrap();
    for wrong in [
        Tuning { on_errors: Some("explode".into()), ..Tuning::default() },
        Tuning { reserved_percent: Some(51), ..Tuning::default() },
        Tuning { reserved_blocks: Some(20_000), ..Tuning::default() },
        Tuning { user: Some(-1), ..Tuning::default() },
    ] {
        assert_eq!(fs.tune(&wrong).err().unwrap().kind(), Kind::Invalid);
    }
    fs.edit(NOW).unwrap().sync().unwrap();
    device.save(&image);
    assert_clean(&image, "settings");
    for (label, value) in [
        ("Maximum mount count", "-1"),
        ("Mount count", "5"),
        ("Errors behavior", "Remount read-only"),
        ("Check interval", "86400 (1 day)"),
        ("Reserved block count", "491"),
        ("Last mounted on", "/somewhere"),
    ] {
        assert_eq!(fact(&image, label), value, "{label}");
    }
    assert!(
        fact(&image, "Reserved blocks uid").starts_with("8 ") && fact(&image, "Reserved blocks gid").starts_with("7 ")
    );
}

#[test]
fn flags_and_generations() {
    let dir = scratch();
    for options in MAKES {
        let image = image(dir.path(), options);
        let device = Sparse::load(&image);
        let mut fs = open(&device);
        let root = fs.root();
        let node = |fs: &Ext4, name: &[u8]| fs.lookup(root, name).unwrap().unwrap();
        let (many, holes) = (node(&fs, b"many"), node(&fs, b"holes"));
        fs.edit(NOW).unwrap();
        assert_eq!(fs.change_flags(holes, "ASdD", true).unwrap_err().kind(), Kind::Unsupported, "D is for directories");
        fs.change_flags(holes, "ASd", true).unwrap();
        fs.change_flags(holes, "S", false).unwrap();
        fs.change_flags(many, "iD", true).unwrap();
        // 'e' tells of extents, which ext2 and ext3 do not have.
        let extents = if options.contains(&"ext4") { "e" } else { "" };
        assert_eq!(fs.flag_letters(holes).unwrap(), format!("Ad{extents}"));
        assert_eq!(fs.flag_letters(many).unwrap(), format!("DI{extents}i"));
        for letter in ["R", "v", "I", "é"] {
            assert_eq!(fs.change_flags(holes, letter, true).err().unwrap().kind(), Kind::Invalid, "{letter}");
        }
        // What is immutable says so; the flag itself can be taken away.
        let new = imgsh::fs::NewNode { kind: imgsh::fs::NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
        assert_eq!(fs.edit(NOW).unwrap().create(many, b"new", &new).err().unwrap().kind(), Kind::Denied);
        fs.change_flags(many, "i", false).unwrap();
        // The checksums of directory blocks and of nodes of the extent tree follow the generation.
        fs.change_generation(many, 0xffff_fff0).unwrap();
        fs.change_generation(holes, 77).unwrap();
        assert_eq!((fs.generation_of(many).unwrap(), fs.generation_of(holes).unwrap()), (0xffff_fff0, 77));
        fs.edit(NOW).unwrap().sync().unwrap();
        let wanted = through_trait(&open(&device));
        device.save(&image);
        judge(&image, &wanted, &format!("{options:?}"));
        let stat = run("debugfs", &["-R", "stat /many", image.to_str().unwrap()]);
        assert!(
            stat.contains("Generation: 4294967280")
                && stat.contains(if extents.is_empty() { "Flags: 0x11000" } else { "Flags: 0x91000" }),
            "{stat}"
        );
    }
}

#[test]
fn free_space_becomes_zero_and_nothing_else() {
    let dir = scratch();
    for options in MAKES {
        let image = image(dir.path(), options);
        let mut bytes = std::fs::read(&image).unwrap();
        // Rubbish in everything that dumpe2fs calls free.
        let text = run("dumpe2fs", &[image.to_str().unwrap()]);
        let mut free = Vec::new();
        for list in text.lines().filter_map(|line| line.strip_prefix("  Free blocks: ")) {
            for run in list.split(", ").filter(|run| !run.is_empty()) {
                let (first, last) = run.split_once('-').unwrap_or((run, run));
                free.push(first.parse::<usize>().unwrap()..last.parse::<usize>().unwrap() + 1);
            }
        }
        let total: usize = free.iter().map(|run| run.len()).sum();
        for run in &free {
            bytes[run.start * 1024..run.end * 1024].fill(0x5a);
        }
        let device = Sparse::from_bytes(&bytes);
        let mut fs = open(&device);
        let wanted = through_trait(&fs);
        assert_eq!(fs.free_space().unwrap().iter().map(|r| r.end - r.start).sum::<u64>(), total as u64 * 1024);
        let edit = fs.edit(NOW).unwrap();
        // Only long runs, only the second half: what is left stays.
        let half = edit.zero_free(12 << 20..u64::MAX, 1 << 20).unwrap();
        assert!(half > 0 && half < total as u64 * 1024, "{half}");
        assert_eq!(edit.zero_free(0..u64::MAX, 0).unwrap(), total as u64 * 1024);
        edit.sync().unwrap();
        for run in &free {
            bytes[run.start * 1024..run.end * 1024].fill(0);
        }
        assert!(device.bytes() == bytes, "{options:?}: something else than free space was changed");
        device.save(&image);
        judge(&image, &wanted, &format!("{options:?}"));
    }
}

/// Damage that e2fsck finds is found by the check too; what e2fsck calls clean is clean.
#[test]
fn the_check_agrees_with_e2fsck() {
    let dir = scratch();
    let image = image(dir.path(), &["-t", "ext4", "-O", "^metadata_csum"]);
    let bytes = std::fs::read(&image).unwrap();
    let quota: &[&str] = &["-t", "ext4", "-O", "quota,project"];
    for options in MAKES.iter().chain(MORE).chain([&quota]) {
        let image = self::image(dir.path(), options);
        assert_eq!(open(&Sparse::load(&image)).check().unwrap(), Vec::<String>::new(), "{options:?}");
    }
    let damages = [
        ("sif holes links_count 3", "links count is 3"),
        ("sif holes blocks 10", "i_blocks is 10"),
        ("unlink holes", "in no directory"),
        ("freei holes", "in use but marked free"),
        ("clri holes", "which is free"),
        ("freeb 1000 4", "in use but marked free"),
        ("setb 20000 3", "nothing has it"),
        ("ssv free_blocks_count 5", "superblock: free blocks"),
        ("set_bg 1 free_blocks_count 5", "its descriptor says 5"),
        ("set_bg 0 free_inodes_count 9", "its descriptor says 9"),
        ("sif many block[5] 1000000", "outside the file system"),
        ("sif holes size 2000", "blocks past its size"),
        ("sif holes file_acl 30000", "outside the file system"),
    ];
    for (command, words) in damages {
        std::fs::write(&image, &bytes).unwrap();
        run("debugfs", &["-w", "-R", command, image.to_str().unwrap()]);
        let (status, text) = tool("e2fsck", &["-fn", image.to_str().unwrap()]);
        assert!(status == 4 || text.contains("wrong"), "{command}: e2fsck finds nothing: {text}");
        let found = open(&Sparse::load(&image)).check().unwrap();
        assert!(found.iter().any(|problem| problem.contains(words)), "{command}: {found:?}");
    }
}

/// Damages one by one, for one make of file system.
const DAMAGES: &[&[&str]] = &[
    &["sif holes links_count 3"],
    &["sif holes blocks 10"],
    &["sif many links_count 9", "sif holes dtime 0x50000000"],
    &["freei holes"],
    &["freeb 1000 4", "setb 20000 3"],
    &["seti <900>", "freei <13>"],
    &["ssv free_blocks_count 5", "ssv free_inodes_count 1"],
    &["set_bg 1 free_blocks_count 5", "set_bg 0 free_inodes_count 9", "set_bg 0 used_dirs_count 77"],
    &["ssv state 0"],
    &["ssv state 3", "ssv error_count 4", "ssv first_error_time 20200101000000"],
    &["unlink holes"],
    &["unlink many"],
    &["clri holes"],
];

/// Many at once, for all of them.
const TOGETHER: &[&[&str]] = &[
    &["sif holes links_count 3", "sif holes blocks 10", "freeb 1000 4", "setb 5000 3", "seti <90>", "ssv state 2"],
    &["unlink many", "freei <13>", "sif many links_count 9", "ssv free_blocks_count 5"],
];

/// What is mended is clean for e2fsck, and everything else is as it was.
#[test]
fn mends_what_follows_from_the_rest() {
    let dir = scratch();
    let cases = DAMAGES.iter().map(|damage| (&MAKES[4], damage));
    let more = MAKES.iter().chain(MORE).flat_map(|make| TOGETHER.iter().map(move |damage| (make, damage)));
    for (options, commands) in cases.chain(more) {
        let made = self::image(dir.path(), options);
        let whole = through_trait(&open(&Sparse::load(&made)));
        for command in *commands {
            run("debugfs", &["-w", "-R", command, made.to_str().unwrap()]);
        }
        let what = format!("{options:?} {commands:?}");
        let device = Sparse::load(&made);
        let mut fs = open(&device);
        let mended = fs.mend(NOW).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!mended.is_empty(), "{what}");
        fs.edit(NOW).and_then(|edit| edit.sync()).unwrap_or_else(|error| panic!("{what}: {error}"));
        device.save(&made);
        judge(&made, &without_lost(&whole, &made, commands[0]), &what);
    }
}

/// What is left in its place after a name was taken away; the node itself must be in `lost+found`, if it still is.
fn without_lost(whole: &Tree, image: &Path, damage: &str) -> Tree {
    let Some((how, lost)) = damage.split_once(' ').filter(|(how, _)| matches!(*how, "unlink" | "clri")) else {
        return whole.clone();
    };
    let (lost, inside) = (format!("/{lost}").into_bytes(), format!("/{lost}/").into_bytes());
    let mut wanted = whole.clone();
    wanted.retain(|path, _| *path != lost && !path.starts_with(&inside));
    if whole[&lost].mode & 0o170000 == 0o040000 {
        wanted.get_mut(&b""[..]).unwrap().links -= 1;
    }
    let sheltered = run("debugfs", &["-R", "ls -p /lost+found", image.to_str().unwrap()]);
    assert_eq!(sheltered.contains("/#"), how == "unlink", "{damage}: {sheltered}");
    wanted
}

/// What cannot be mended is named, and nothing is written.
#[test]
fn does_not_mend_what_is_not_certain() {
    let dir = scratch();
    let made = image(dir.path(), &["-t", "ext4", "-O", "^metadata_csum"]);
    let bytes = std::fs::read(&made).unwrap();
    for (commands, words) in [
        (["sif many block[5] 1000000", "sif holes links_count 3"], "outside the file system"),
        (["sif holes size 2000", "freeb 1000 4"], "blocks past its size"),
        (["sif holes file_acl 30000", "freei holes"], "outside the file system"),
        (["clri <11>", "unlink holes"], "/lost+found"),
    ] {
        std::fs::write(&made, &bytes).unwrap();
        commands.iter().for_each(|command| drop(run("debugfs", &["-w", "-R", command, made.to_str().unwrap()])));
        let mut fs = open(&Sparse::load(&made));
        let error = fs.mend(NOW).err().unwrap_or_else(|| panic!("{commands:?}"));
        assert!(error.to_string().contains(words), "{commands:?}: {error}");
    }
}

/// After a crash without a journal the directory and the node may be there, and the descriptor that counts it not. e2fsck keeps the file.
#[test]
fn files_behind_the_used_nodes_are_kept() {
    let dir = scratch();
    let made = image(dir.path(), &["-t", "ext4", "-O", "^has_journal"]);
    let number = run("debugfs", &["-R", "stat many", made.to_str().unwrap()]);
    let number: u32 = number.split_whitespace().nth(1).unwrap().parse().unwrap();
    let unused = run("dumpe2fs", &[made.to_str().unwrap()]);
    let per_group: u32 =
        unused.lines().find_map(|line| line.strip_prefix("Inodes per group:")).unwrap().trim().parse().unwrap();
    for command in [
        format!("set_bg 0 itable_unused {}", per_group - number + 1),
        "set_bg 0 checksum calc".into(),
        "ssv state 0".into(),
    ] {
        run("debugfs", &["-w", "-R", &command, made.to_str().unwrap()]);
    }
    let error = open(&Sparse::load(&made)).mend(NOW).unwrap_err().to_string();
    assert!(error.contains("behind the used ones of its group"), "{error}");
}

/// A first block other than that of the size of blocks shifts all bitmaps; Linux does not mount it.
#[test]
fn another_first_block_is_not_written() {
    let dir = scratch();
    // One group: in others the bitmaps would not fit the counts.
    let made = dir.path().join("small");
    let file = made.to_str().unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", file, "4M"]);
    let mut bytes = std::fs::read(&made).unwrap();
    assert_eq!(bytes[1024 + 20], 1);
    bytes[1024 + 20] = 0;
    let refused = Ext4::open(Sparse::from_bytes(&bytes).device()).and_then(|mut fs| fs.edit(NOW).map(drop));
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("s_first_data_block is 0 with blocks of 1024 bytes"), "{error}");
}

/// Whatever the bytes are: each operation ends with an answer, soon.
#[test]
fn damaged_file_systems() {
    let dir = scratch();
    let image = image(dir.path(), &["-t", "ext4", "-O", "^metadata_csum"]);
    let good = std::fs::read(&image).unwrap();
    let pages = Sparse::from_bytes(&good).snapshot();
    // Superblock, descriptors, bitmaps, the first inodes and directories.
    let places: Vec<usize> =
        (1024..800 * 1024).filter(|at| good[*at] != 0 && good[at & !7..][..8] != [0xff; 8]).collect();
    let mut random = oracle::Random(21);
    let (mut done, mut refused) = (0, 0);
    for round in 0..250 {
        let device = Sparse::from_pages(64 << 20, pages.clone());
        for _ in 0..=random.below(3) {
            let place = places[random.below(places.len() as u64) as usize] + random.below(4) as usize;
            let byte = [0, 0xff, good[place] ^ 1 << random.below(8), random.next() as u8][random.below(4) as usize];
            device.write_at(place as u64, &[byte]).unwrap();
        }
        let began = std::time::Instant::now();
        let Ok(mut fs) = Ext4::open(device.device()) else { continue };
        let _ = (fs.check(), fs.minimum_size(), fs.facts(), fs.free_space());
        let answer = fs.edit(NOW).map(|_| ()).and_then(|()| match round % 5 {
            0 => fs.set_size(Some(50 << 20)),
            1 => fs.set_size(Some(15 << 20)),
            2 => fs.edit(NOW)?.set_uuid(Uuid::parse(UUID).unwrap()),
            3 => fs.edit(NOW)?.zero_free(0..u64::MAX, 0).map(|_| ()),
            _ => fs.set_size(None).and_then(|()| fs.set_size(Some(15 << 20))),
        });
        *(if answer.is_ok() { &mut done } else { &mut refused }) += 1;
        assert!(began.elapsed().as_secs() < 20, "round {round}: {:?}", began.elapsed());
    }
    assert!(done > 20 && refused > 20, "{done} {refused}");
}
