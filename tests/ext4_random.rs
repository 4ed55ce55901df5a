//! Random operations on the driver and on the model, over images of every make: the same answers, the same tree, after
//! commits and after changes that were thrown away. `IMGSH_SEED` and `IMGSH_STEPS` make other and longer runs.

mod oracle;

use imgsh::base::{GuestPathBuf, Kind, Result, Timestamp};
use imgsh::fs::model::Model;
use imgsh::fs::{self, FileSystem, FileType, NewKind, NewNode, NodeId, SetAttributes};
use oracle::guest::{mke2fs, noise};
use oracle::kernel::judge_by_kernel;
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::{Random, Staged, scratch};

/// A name: short or long, so that directories grow and get an index.
fn name(random: &mut Random) -> Vec<u8> {
    let number = random.below(50);
    format!("{number}{}", "-name".repeat(number as usize % 8 * 6)).into_bytes()
}

/// A directory, found by names, so that model and driver go the same way.
fn directory(fs: &dyn FileSystem, random: &mut Random) -> NodeId {
    let mut here = fs.root();
    for _ in 0..random.below(4) {
        let mut below = fs.read_dir(here).unwrap();
        below.retain(|entry| entry.file_type.is_none_or(|t| t == FileType::Directory) && *entry.name != *b"lost+found");
        below.retain(|entry| fs.metadata(entry.node).unwrap().file_type == FileType::Directory);
        below.sort_by(|a, b| a.name.cmp(&b.name));
        if below.is_empty() {
            break;
        }
        here = below[random.below(below.len() as u64) as usize].node;
    }
    here
}

/// One operation; `random` begins the same for driver and model.
fn step(fs: &mut dyn FileSystem, now: Timestamp, mut random: Random) -> Result<()> {
    let (from, to) = (directory(fs, &mut random), directory(fs, &mut random));
    let (one, two) = (name(&mut random), name(&mut random));
    let node = fs.lookup(from, &one)?;
    let file = node.filter(|node| fs.metadata(*node).unwrap().file_type == FileType::Regular);
    let (len, seed) = (random.below(60_000), random.next());
    let edit = fs.edit(now)?;
    let mut create = |kind| edit.create(from, &one, &NewNode { kind, mode: 0o640, uid: 1000, gid: 70_000 });
    match (random.below(20), node, file) {
        (0..=2, None, _) => create(NewKind::Directory).map(drop),
        (3, None, _) => create(NewKind::Symlink(GuestPathBuf(vec![b't'; 1 + seed as usize % 1000]))).map(drop),
        (4, None, _) => create(NewKind::BlockDevice(8, seed as u32 % 1000)).map(drop),
        (5..=12, None, _) => {
            let node = create(NewKind::Regular)?;
            let bytes = noise(len as usize, seed);
            edit.fill(node, len, &mut bytes.as_slice(), false)
        }
        (13, None, _) => {
            // Many names at once, then most of them away again.
            for i in 0..60 {
                let many = format!("many {i} {}", "x".repeat(i * 3)).into_bytes();
                let found = edit.create(from, &many, &NewNode { kind: NewKind::Fifo, mode: 0o600, uid: 0, gid: 0 });
                if found.is_err_and(|error| error.kind() != Kind::Exists) {
                    panic!("many names");
                }
            }
            (0..60).filter(|i| i % 5 != 0).try_for_each(|i| {
                let many = format!("many {i} {}", "x".repeat(i * 3)).into_bytes();
                edit.unlink(from, &many)
            })
        }
        (0..=3, _, Some(node)) => {
            let offset = [seed % 5000, seed % 400_000, seed % 3_000_000][seed as usize % 3];
            edit.write(node, offset, &noise(len as usize / 4, seed))
        }
        (4 | 5, _, Some(node)) => edit.resize(node, [seed % 700_000, seed % 3000][seed as usize % 2]),
        (6, _, Some(node)) => {
            let mut bytes = noise(len as usize, seed);
            bytes.extend(vec![0; 200_000]);
            bytes.extend(noise(len as usize / 7, seed));
            edit.fill(node, bytes.len() as u64, &mut bytes.as_slice(), true)
        }
        (7 | 8, Some(_), _) => edit.unlink(from, &one),
        (9, Some(_), _) => edit.rmdir(from, &one),
        (10 | 11, Some(_), _) => edit.rename(from, &one, to, &two),
        (12 | 13, Some(node), _) => edit.link(node, to, &two),
        (14, Some(node), _) => {
            let time = Timestamp { seconds: (seed % (1 << 31)) as i64, nanos: (seed % 1_000_000_000) as u32 };
            let mode = Some(seed as u32 & 0o7777);
            edit.set_attributes(
                node,
                &SetAttributes { mode, modified: Some(time), uid: Some(77), ..Default::default() },
            )
        }
        (15..=17, Some(node), _) => {
            let name = format!("trusted.{}", seed % 3);
            let value = noise(len as usize % 250, seed);
            edit.set_xattr(node, name.as_bytes(), (seed % 4 > 0).then_some(&value))
        }
        _ => Ok(()),
    }
}

/// Inodes of 128 bytes have no nanoseconds.
fn rounded(mut tree: Tree, round: bool) -> Tree {
    if round {
        tree.values_mut().flat_map(|entry| &mut entry.times).for_each(|time| time.nanos = 0);
    }
    tree
}

fn play(kind: &[&str], seed: u64, steps: u64) {
    let what = format!("{kind:?}, seed {seed}");
    let small = kind.contains(&"128");
    let base = mke2fs(kind, "96M", &[]);
    let staged = Staged::new(base.clone());
    let mut fs = fs::open(staged.clone()).unwrap();
    let mut model: Box<dyn FileSystem> = Model::new();
    let mut random = Random(seed * 7919 + 1);
    let mut now = Timestamp { seconds: 1_700_000_000, nanos: 5 };
    for fs in [model.as_mut(), fs.as_mut()] {
        let root = fs.root();
        if fs.lookup(root, b"lost+found").unwrap().is_none() {
            let lost = NewNode { kind: NewKind::Directory, mode: 0o700, uid: 0, gid: 0 };
            fs.edit(now).unwrap().create(root, b"lost+found", &lost).unwrap();
        }
        let set = SetAttributes { accessed: Some(now), modified: Some(now), ..Default::default() };
        let edit = fs.edit(now).unwrap();
        edit.set_attributes(root, &set).unwrap();
        edit.sync().unwrap();
    }
    staged.commit();
    fs.committed();
    let same = |fs: &dyn FileSystem, model: &dyn FileSystem, round: u64| {
        let (found, wanted) = (through_trait(fs), through_trait(model));
        assert_same(&rounded(found, small), &rounded(wanted, small), &format!("{what}, round {round}"));
    };
    for round in 1..=steps {
        now = Timestamp { seconds: now.seconds + 1, nanos: (now.nanos + 77_777_777) % 1_000_000_000 };
        let seed = random.next();
        let (ours, wanted) = (step(fs.as_mut(), now, Random(seed)), step(model.as_mut(), now, Random(seed)));
        let (ours, wanted) = (ours.err(), wanted.err());
        let agree = ours.as_ref().map(|e| e.kind()) == wanted.as_ref().map(|e| e.kind());
        assert!(agree, "{what}, round {round}: {ours:?} instead of {wanted:?}");
        if ours.is_none() && round % 8 != 0 {
            continue;
        }
        // An error, and now and then a whim, throws away what was not committed.
        let keep = ours.is_none() && random.below(4) > 0;
        if ours.is_none() {
            fs.edit(now).unwrap().sync().unwrap();
        }
        if round % 40 == 0 && ours.is_none() {
            same(fs.as_ref(), model.as_ref(), round);
        }
        if keep {
            model.edit(now).unwrap().sync().unwrap();
            staged.commit();
            fs.committed();
        } else {
            staged.abandon();
            fs.reload().unwrap();
            model.reload().unwrap();
        }
        if random.below(4) == 0 {
            fs = fs::open(staged.clone()).unwrap();
        }
        if !keep {
            same(fs.as_ref(), model.as_ref(), round);
        }
    }
    fs.edit(now).unwrap().sync().unwrap();
    staged.commit();
    let dir = scratch();
    let image = dir.path().join("image");
    base.save(&image);
    let wanted = rounded(through_trait(model.as_ref()), small);
    assert!(wanted.len() > 60, "{what}: only {} entries are left", wanted.len());
    judge(&image, &wanted, &what);
    if !kind.contains(&"65536") {
        judge_by_kernel(&image, &wanted, &what);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn play_all(kinds: &[&[&str]]) {
    let (seed, steps) = (number("IMGSH_SEED", 1), number("IMGSH_STEPS", 400));
    for kind in kinds {
        play(kind, seed, steps);
    }
}

#[test]
fn random_operations_on_block_lists() {
    play_all(&[
        &["-t", "ext2", "-b", "1024"],
        &["-t", "ext2", "-b", "1024", "-I", "128", "-O", "^filetype"],
        &["-t", "ext3", "-b", "2048", "-O", "^dir_index"],
        &["-t", "ext3", "-b", "4096"],
    ]);
}

#[test]
fn random_operations_on_extents() {
    play_all(&[
        &["-t", "ext4", "-b", "1024", "-O", "metadata_csum_seed,orphan_file"],
        &["-t", "ext4", "-b", "4096"],
        &["-t", "ext4", "-b", "1024", "-g", "1024", "-O", "^metadata_csum,uninit_bg,^has_journal"],
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,^flex_bg,large_dir,ea_inode", "-g", "2048"],
        &["-t", "ext4", "-b", "65536", "-O", "^has_journal", "-N", "4000"],
    ]);
}

#[test]
fn random_operations_in_clusters() {
    play_all(&[
        &["-t", "ext4", "-b", "1024", "-O", "bigalloc,inline_data", "-C", "4096"],
        &["-t", "ext4", "-b", "4096", "-O", "bigalloc,^metadata_csum,^has_journal", "-C", "65536", "-N", "4000"],
    ]);
}
