//! The power goes at any write, flush or punch of a session that changes a partition table, FAT and ext4 in one commit:
//! afterwards all of it is old or all of it is new, judged by qemu-img, sfdisk, e2fsck, debugfs, fsck.fat and mtools.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::disk::Disk;
use crate::disk::qcow2::tests::{Random as Dice, Recorder, after_cut as qcow2_after_cut};
use crate::disk::raw::{Raw, power};
use crate::volume::{self, TableEdit};

/// First byte and length of the two partitions.
const FAT: (usize, usize) = (1 << 20, 2 << 20);
const EXT4: (usize, usize) = (3 << 20, 8 << 20);
const SIZE: usize = 12 << 20;

fn tool(folder: &Path, line: &str) -> (bool, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(words[0]).args(&words[1..]).current_dir(folder).env("PATH", path).output();
    let done = done.unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    (done.status.success(), text)
}

fn good(folder: &Path, line: &str) -> String {
    let (status, text) = tool(folder, line);
    assert!(status, "{line}: {text}");
    text
}

/// A disk with a partition table, FAT and ext4, made by other programs.
fn disk(folder: &Path) -> Vec<u8> {
    fs::write(
        folder.join("table"),
        "label: gpt\nstart=2048,size=4096,type=U,name=\"old\"\nstart=6144,size=16384,type=L\n",
    )
    .unwrap();
    fs::write(folder.join("disk.raw"), vec![0; SIZE]).unwrap();
    fs::write(folder.join("make-table"), "sfdisk -q disk.raw < table\n").unwrap();
    good(folder, "sh make-table");
    fs::create_dir(folder.join("tree")).unwrap();
    fs::write(folder.join("tree/marker"), "old").unwrap();
    fs::write(folder.join("tree/gone"), vec![5; 70_000]).unwrap();
    fs::write(folder.join("ext4"), vec![0; EXT4.1]).unwrap();
    good(folder, "mke2fs -q -t ext4 -d tree -E root_owner=0:0 ext4");
    fs::write(folder.join("fat"), vec![0; FAT.1]).unwrap();
    good(folder, "mkfs.vfat fat");
    good(folder, "mcopy -i fat tree/marker ::marker");
    let mut bytes = fs::read(folder.join("disk.raw")).unwrap();
    bytes[FAT.0..FAT.0 + FAT.1].copy_from_slice(&fs::read(folder.join("fat")).unwrap());
    bytes[EXT4.0..EXT4.0 + EXT4.1].copy_from_slice(&fs::read(folder.join("ext4")).unwrap());
    fs::write(folder.join("disk.raw"), &bytes).unwrap();
    bytes
}

/// What a session does: everything at once, and one commit.
fn work(disk: Box<dyn Disk>) -> Result<()> {
    let mut s = Session::default();
    s.attach(disk, AddDisk::default());
    s.launch()?;
    s.mount("/dev/sda2", &path("/"), false)?;
    s.transact("mkdir", NOW, |s| s.guest.mkdir(&path("/efi"), 0o755))?;
    s.mount("/dev/sda1", &path("/efi"), false)?;
    write(&mut s, "/big", &[7; 300_000])?;
    write(&mut s, "/efi/new file", &[8; 40_000])?;
    s.transact("rm", NOW, |s| s.guest.unlink(&path("/gone")))?;
    write(&mut s, "/marker", b"new")?;
    write(&mut s, "/efi/marker", b"new")?;
    let edit = TableEdit::SetName { number: 1, name: "new".into() };
    s.transact("part-set-name", NOW, |s| volume::edit(&s.device("/dev/sda")?, &edit))?;
    s.commit()
}

/// Whether a disk is in the new state; all of its parts must agree, and all checkers be content.
fn is_new(folder: &Path, bytes: &[u8], what: &str) -> bool {
    fs::write(folder.join("judged.raw"), bytes).unwrap();
    fs::write(folder.join("read-marker"), "debugfs -R 'cat /marker' ext4\n").unwrap();
    fs::write(folder.join("fat"), &bytes[FAT.0..FAT.0 + FAT.1]).unwrap();
    fs::write(folder.join("ext4"), &bytes[EXT4.0..EXT4.0 + EXT4.1]).unwrap();
    for line in ["sfdisk -V -q judged.raw", "fsck.fat -n fat", "e2fsck -fn ext4"] {
        let (status, text) = tool(folder, line);
        assert!(status, "{what}: {line}: {text}");
    }
    let seen = [
        good(folder, "mtype -i fat ::marker").contains("new"),
        good(folder, "sh read-marker").contains("new"),
        good(folder, "sfdisk -d judged.raw").contains("name=\"new\""),
    ];
    assert!(seen == [false; 3] || seen == [true; 3], "{what}: the parts do not agree: {seen:?}");
    seen[0]
}

/// Judges each state once.
struct Judge {
    folder: PathBuf,
    seen: HashSet<u64>,
    old: usize,
    new: usize,
}

impl Judge {
    fn judge(&mut self, bytes: &[u8], what: &str) {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        if self.seen.insert(hasher.finish()) {
            match is_new(&self.folder, bytes, what) {
                true => self.new += 1,
                false => self.old += 1,
            }
        }
    }
}

/// How an image is made of `disk.raw`.
struct Shape {
    make: &'static [&'static str],
    /// Whether it lies over `disk.raw`.
    over: bool,
    /// Whether it is encrypted, with this passphrase.
    pass: Option<&'static str>,
}

const fn made(make: &'static [&'static str]) -> Shape {
    Shape { make, over: false, pass: None }
}

const SHAPES: &[Shape] = &[
    made(&["convert -f raw -O qcow2 -o cluster_size=64k disk.raw image.qcow2"]),
    made(&["convert -f raw -O qcow2 -c -o cluster_size=4k disk.raw image.qcow2", "snapshot -c one image.qcow2"]),
    made(&["convert -f raw -O qcow2 -o extended_l2=on disk.raw image.qcow2", "snapshot -c one image.qcow2"]),
    made(&["convert -f raw -O qcow2 -o compat=0.10 disk.raw image.qcow2", "snapshot -c one image.qcow2"]),
    made(&["convert -f raw -O qcow2 -c -o compression_type=zstd disk.raw image.qcow2", "bitmap --add image.qcow2 b"]),
    Shape { make: &["create -q -f qcow2 -F raw -b disk.raw image.qcow2"], over: true, pass: None },
    Shape {
        make: &["create -q -f qcow2 -F raw -b disk.raw -o extended_l2=on image.qcow2", "snapshot -c one image.qcow2"],
        over: true,
        pass: None,
    },
    Shape {
        make: &[
            "create -q --object secret,id=s,data=word -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,\
             encrypt.iter-time=10 image.qcow2 12M",
            "convert -n --object secret,id=s,data=word -f raw --target-image-opts disk.raw \
             driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=s",
        ],
        over: false,
        pass: Some("word"),
    },
];

#[test]
fn qcow2_sessions_survive_power_cuts() {
    for (seed, shape) in (0..).zip(SHAPES) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        disk(folder);
        shape.make.iter().for_each(|line| drop(good(folder, &format!("qemu-img {line}"))));
        let before = fs::read(folder.join("image.qcow2")).unwrap();
        let recorder = Recorder::new(before.clone());
        let backing = shape.over.then(|| Raw::open(&folder.join("disk.raw"), true).unwrap());
        let opened = recorder.disk_with(None, backing).unwrap();
        if let Some(pass) = shape.pass {
            opened.unlock(pass.as_bytes(), &|| Ok(())).unwrap();
        }
        work(Box::new(opened)).unwrap();
        let calls = recorder.calls();
        let mut judge = Judge { folder: folder.to_path_buf(), seen: HashSet::new(), old: 0, new: 0 };
        let mut dice = Dice(seed + 900);
        for cut in 0..=calls.len() {
            let what = format!("{:?}: cut at {cut} of {}", shape.make, calls.len());
            let bytes = qcow2_after_cut(&before, &calls[..cut], &mut dice);
            fs::write(folder.join("cut.qcow2"), &bytes).unwrap();
            judge.judge(&judged(folder, shape.pass), &what);
        }
        assert_eq!((judge.old, judge.new), (1, 1), "{:?}: exactly two states are ever seen", shape.make);
    }
}

/// Checks `cut.qcow2` and makes `cut.raw` of it; gives what is in that.
fn judged(folder: &Path, pass: Option<&str>) -> Vec<u8> {
    let image = match pass {
        None => "-f qcow2 cut.qcow2".into(),
        Some(pass) => format!(
            "--object secret,id=s,data={pass} --image-opts driver=qcow2,file.filename=cut.qcow2,encrypt.key-secret=s"
        ),
    };
    good(folder, &format!("qemu-img check {image}"));
    good(folder, &format!("qemu-img convert -O raw {image} cut.raw"));
    fs::read(folder.join("cut.raw")).unwrap()
}

#[test]
fn sessions_with_a_data_file_survive_power_cuts() {
    for options in ["data_file_raw=on", "data_file_raw=off", "data_file_raw=off,extended_l2=on"] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        disk(folder);
        good(folder, &format!("qemu-img create -q -f qcow2 -o data_file=data,{options} image.qcow2 12M"));
        good(folder, "qemu-img convert -n -f raw -O qcow2 disk.raw image.qcow2");
        let before = fs::read(folder.join("image.qcow2")).unwrap();
        let data = fs::read(folder.join("data")).unwrap();
        let whole = power::Medium::over(data.clone(), usize::MAX);
        let recorder = Recorder::beside(before.clone(), &whole);
        work(Box::new(recorder.disk_with(Some(whole.disk()), None).unwrap())).unwrap();
        let operations = whole.operations();
        let mut judge = Judge { folder: folder.to_path_buf(), seen: HashSet::new(), old: 0, new: 0 };
        let (mut dice, mut random) = (Dice(41), power::Random(78));
        for cut in 1..=operations {
            let what = format!("{options}: cut at {cut} of {operations}");
            let broken = power::Medium::over(data.clone(), cut);
            let recorder = Recorder::beside(before.clone(), &broken);
            work(Box::new(recorder.disk_with(Some(broken.disk()), None).unwrap())).unwrap_err();
            let bytes = qcow2_after_cut(&before, &recorder.calls(), &mut dice);
            let survivor = power::after_cut(&broken, &mut random, usize::MAX);
            // Opening it finishes or drops what was under way.
            drop(Recorder::new(bytes.clone()).disk_with(Some(survivor.disk()), None).unwrap());
            fs::write(folder.join("cut.qcow2"), &bytes).unwrap();
            fs::write(folder.join("data"), survivor.bytes()).unwrap();
            let seen = judged(folder, None);
            if options == "data_file_raw=on" && seen != survivor.bytes() {
                // Who reads it as a raw image may see fresh data where the file systems have nothing.
                assert_eq!(is_new(folder, &survivor.bytes(), &what), is_new(folder, &seen, &what), "{what}");
            }
            judge.judge(&seen, &what);
        }
        assert!(judge.old > 0 && judge.new > 0, "{options}: {} old, {} new", judge.old, judge.new);
    }
}

#[test]
fn raw_sessions_survive_power_cuts() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let before = disk(folder);
    let whole = power::Medium::over(before.clone(), usize::MAX);
    work(Box::new(whole.disk())).unwrap();
    let operations = whole.operations();
    let mut judge = Judge { folder: folder.to_path_buf(), seen: HashSet::new(), old: 0, new: 0 };
    let mut random = power::Random(77);
    for cut in 1..=operations {
        let broken = power::Medium::over(before.clone(), cut);
        work(Box::new(broken.disk())).unwrap_err();
        let survivor = power::after_cut(&broken, &mut random, usize::MAX);
        // Opening it finishes or drops what was under way.
        drop(survivor.disk());
        judge.judge(&survivor.bytes(), &format!("cut at {cut} of {operations}"));
    }
    assert!(judge.old > 0 && judge.new > 0, "{} old, {} new", judge.old, judge.new);
}

/// What a session does in the ext4 alone.
fn work_in_ext4(disk: Box<dyn Disk>) -> Result<()> {
    let mut s = Session::default();
    s.attach(disk, AddDisk::default());
    s.launch()?;
    s.mount("/dev/sda2", &path("/"), false)?;
    write(&mut s, "/big", &[7; 300_000])?;
    // Begins as blocks of the log do.
    write(&mut s, "/gone", &[&[0xc0, 0x3b, 0x39, 0x98], [9; 5000].as_slice()].concat())?;
    s.transact("unlink", NOW, |s| s.guest.unlink(&path("/gone")))?;
    s.transact("mkdir", NOW, |s| s.guest.mkdir(&path("/folder"), 0o755))?;
    write(&mut s, "/folder/file", b"in a new folder")?;
    // In place: the block is logged with its data.
    s.transact("write", NOW, |s| s.guest.write_at(&path("/marker"), Some(0), b"new"))?;
    s.transact("write", NOW, |s| s.guest.write_at(&path("/magic"), Some(0), &[0xc0, 0x3b, 0x39, 0x98, 1]))?;
    s.commit()
}

/// What this program makes of a disk: the state, and the bytes after a change of its own.
fn with_own_recovery(bytes: &[u8]) -> (bool, Vec<u8>) {
    let medium = power::Medium::over(bytes.to_vec(), usize::MAX);
    let mut s = Session::default();
    s.attach(Box::new(medium.disk()), AddDisk::default());
    s.launch().unwrap();
    s.mount("/dev/sda2", &path("/"), false).unwrap();
    let new = s.guest.read_file(&path("/marker"), 100).unwrap().starts_with(b"new");
    write(&mut s, "/after", b"the cut").unwrap();
    s.commit().unwrap();
    drop(s);
    (new, medium.bytes())
}

/// A disk whose ext4 was made with other options.
fn disk_with(folder: &Path, options: &str, sums: Option<(u8, &str)>) -> Vec<u8> {
    let mut bytes = disk(folder);
    fs::write(folder.join("tree/magic"), vec![1; 6000]).unwrap();
    fs::write(folder.join("ext4"), vec![0; EXT4.1]).unwrap();
    good(folder, &format!("mke2fs -q -d tree -E root_owner=0:0 {options} ext4"));
    if let Some((number, word)) = sums {
        // As kernels do at the first mount.
        fs::write(folder.join("with-sums"), format!("jo -c -v {number}\njw -b 8000 /dev/zero\njc\n")).unwrap();
        good(folder, "debugfs -w -f with-sums ext4");
        tool(folder, "e2fsck -fy ext4");
        assert!(good(folder, "dumpe2fs -h ext4").contains(word), "{word}");
    }
    bytes[EXT4.0..EXT4.0 + EXT4.1].copy_from_slice(&fs::read(folder.join("ext4")).unwrap());
    bytes
}

#[test]
fn any_program_finishes_a_commit_through_the_journal() {
    let kinds = [
        ("-t ext4 -O 64bit", None),
        ("-t ext4", Some((3, "journal_checksum_v3"))),
        ("-t ext4 -b 4096 -O ^64bit", Some((2, "journal_checksum_v2"))),
        ("-t ext3 -b 1024 -J size=1", None),
    ];
    for (seed, (options, sums)) in kinds.iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let before = disk_with(folder, options, *sums);
        let whole = power::Medium::over(before.clone(), usize::MAX);
        work_in_ext4(Box::new(whole.disk())).unwrap();
        let operations = whole.operations();
        assert!(is_whole(folder, &whole.bytes(), options), "{options}: not committed");
        let mut random = power::Random(seed as u64 + 5);
        let mut states = [0, 0];
        let mut kept = HashSet::new();
        for round in 0..operations * 2 {
            let cut = round % operations + 1;
            let what = format!("{options}: cut at {cut} of {operations}");
            // Superblocks are longer than a sector, for every program that writes them.
            let broken = power::Medium::in_units(before.clone(), cut, 4096);
            work_in_ext4(Box::new(broken.disk())).unwrap_err();
            let survivor = power::after_cut(&broken, &mut random, usize::MAX);
            assert!(!survivor.has_journal(), "{what}: a journal beside the image");
            let bytes = survivor.bytes();
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            if !kept.insert(hasher.finish()) {
                continue;
            }
            // e2fsck first, then this program; each on its own.
            fs::write(folder.join("ext4"), &bytes[EXT4.0..EXT4.0 + EXT4.1]).unwrap();
            let (_, text) = tool(folder, "e2fsck -p ext4");
            assert!(!text.contains("UNEXPECTED") && !text.contains("RUN fsck"), "{what}: {text}");
            let mut checked = bytes.clone();
            checked[EXT4.0..EXT4.0 + EXT4.1].copy_from_slice(&fs::read(folder.join("ext4")).unwrap());
            let for_others = is_whole(folder, &checked, &what);
            let (for_us, ours) = with_own_recovery(&bytes);
            assert_eq!(for_us, for_others, "{what}: e2fsck and this program disagree");
            assert_eq!(is_whole(folder, &ours, &what), for_us, "{what}");
            states[usize::from(for_us)] += 1;
        }
        assert!(states[0] > 0 && states[1] > 2, "{options}: {states:?} of old and new");
    }
}

/// Whether the ext4 of a disk is wholly new; it must be clean, and wholly old otherwise.
fn is_whole(folder: &Path, bytes: &[u8], what: &str) -> bool {
    fs::write(folder.join("judged"), &bytes[EXT4.0..EXT4.0 + EXT4.1]).unwrap();
    let (status, text) = tool(folder, "e2fsck -fn judged");
    assert!(status, "{what}: {text}");
    fs::write(folder.join("look"), "cat /marker\nls /\ncat /folder/file\ndump /big big\ndump /magic magic\n").unwrap();
    fs::write(folder.join("big"), "").unwrap();
    let seen = good(folder, "debugfs -f look judged");
    let new = [
        seen.contains("new"),
        !seen.contains("gone"),
        seen.contains("in a new folder"),
        fs::read(folder.join("big")).unwrap() == vec![7; 300_000],
        fs::read(folder.join("magic")).unwrap()[..5] == [0xc0, 0x3b, 0x39, 0x98, 1],
    ];
    assert!(new == [false; 5] || new == [true; 5], "{what}: {new:?}: {seen}");
    new[0]
}

#[test]
fn a_full_host_in_a_commit_through_the_journal() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let before = disk_with(folder, "-t ext4", None);
    let whole = power::Medium::over(before.clone(), usize::MAX);
    work_in_ext4(Box::new(whole.disk())).unwrap();
    let (mut refused, mut saved) = (0, 0);
    for at in 1..=whole.operations() {
        let what = format!("full at {at} of {}", whole.operations());
        let medium = power::Medium::full(before.clone(), at, 4096);
        let error = work_in_ext4(Box::new(medium.disk())).unwrap_err();
        let after_the_point = error.to_string().contains("saved in the file system's journal");
        let unknown = error.to_string().contains("the old state or the new one");
        assert!(after_the_point || error.kind() == Kind::NoSpace, "{what}: {error}");
        fs::write(folder.join("ext4"), &medium.bytes()[EXT4.0..EXT4.0 + EXT4.1]).unwrap();
        let recovers = good(folder, "dumpe2fs -h ext4").contains("needs_recovery");
        assert!(after_the_point || unknown || !recovers, "{what}: a mark was left behind");
        tool(folder, "e2fsck -p ext4");
        let mut checked = before.clone();
        checked[EXT4.0..EXT4.0 + EXT4.1].copy_from_slice(&fs::read(folder.join("ext4")).unwrap());
        let new = is_whole(folder, &checked, &what);
        assert!(new == after_the_point || unknown, "{what}: {error}");
        *(if after_the_point { &mut saved } else { &mut refused }) += 1;
    }
    assert!(refused > 5 && saved > 5, "{refused} refused, {saved} saved");
}

#[test]
fn what_does_not_fit_into_the_journal_goes_beside_the_image() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let kinds = [
        ("-t ext4", None, false),
        ("-t ext4 -O ^metadata_csum,^64bit", Some((1, "journal_checksum")), true),
        ("-t ext2", None, true),
        ("-t ext4 -O mmp", None, true),
    ];
    for (options, sums, beside) in kinds {
        let before = disk_with(folder, options, sums);
        let whole = power::Medium::over(before.clone(), usize::MAX);
        work_in_ext4(Box::new(whole.disk())).unwrap();
        assert!(is_whole(folder, &whole.bytes(), options), "{options}: not committed");
        let ever = (1..=whole.operations()).any(|cut| {
            let medium = power::Medium::over(before.clone(), cut);
            work_in_ext4(Box::new(medium.disk())).unwrap_err();
            medium.has_journal()
        });
        assert_eq!(ever, beside, "{options}");
        fs::remove_dir_all(folder.join("tree")).unwrap();
    }
}

/// Free space full of rubbish, more than the journal takes: it becomes zeros, with other changes or alone.
#[test]
fn zeros_of_free_space_need_no_log() {
    // Groups whose bitmaps are not in use have rubbish in their place too.
    for (with_more, groups) in [(true, 8192), (false, 8192), (true, 1024), (false, 1024)] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path();
        let mut before = disk(folder);
        fs::write(folder.join("ext4"), vec![9; EXT4.1]).unwrap();
        let options = "-t ext4 -b 1024 -J size=1 -N 256 -E root_owner=0:0,nodiscard,lazy_itable_init=0";
        good(folder, &format!("mke2fs -q -d tree -g {groups} {options} ext4"));
        before[EXT4.0..EXT4.0 + EXT4.1].copy_from_slice(&fs::read(folder.join("ext4")).unwrap());
        let work = |disk: Box<dyn Disk>| -> Result<()> {
            let mut s = Session::default();
            s.attach(disk, AddDisk::default());
            s.launch()?;
            s.mount("/dev/sda2", &path("/"), false)?;
            if with_more {
                s.transact("rm", NOW, |s| s.guest.unlink(&path("/gone")))?;
                write(&mut s, "/marker", b"new")?;
            }
            let zero = |s: &mut Session| s.file_system_mut("/dev/sda2")?.edit(NOW)?.zero_free(0..u64::MAX, 0);
            s.transact("zero", NOW, zero)?;
            s.commit()
        };
        let rubbish = |bytes: &[u8]| {
            let ext4 = &bytes[EXT4.0..EXT4.0 + EXT4.1];
            ext4.chunks(1024).filter(|block| block.iter().all(|b| *b == 9)).count()
        };
        let whole = power::Medium::over(before.clone(), usize::MAX);
        work(Box::new(whole.disk())).unwrap();
        let (much, left) = (rubbish(&before), rubbish(&whole.bytes()));
        // What is left is in use: the journal, whose blocks mke2fs does not always write, and bitmaps that do not count.
        assert!(much > 5000 && left < 1100, "{with_more} {groups}: {left} of {much}");
        let mut random = power::Random(17);
        for cut in 1..=whole.operations() {
            let what = format!("{with_more}: cut at {cut} of {}", whole.operations());
            let broken = power::Medium::in_units(before.clone(), cut, 4096);
            work(Box::new(broken.disk())).unwrap_err();
            let survivor = power::after_cut(&broken, &mut random, usize::MAX);
            assert!(!survivor.has_journal(), "{what}: a journal beside the image");
            fs::write(folder.join("ext4"), &survivor.bytes()[EXT4.0..EXT4.0 + EXT4.1]).unwrap();
            let (_, text) = tool(folder, "e2fsck -p ext4");
            assert!(!text.contains("UNEXPECTED") && !text.contains("RUN fsck"), "{what}: {text}");
            good(folder, "e2fsck -fn ext4");
            fs::write(folder.join("look"), "cat /marker\nls /\n").unwrap();
            let seen = good(folder, "debugfs -f look ext4");
            assert_eq!(seen.contains("gone"), !seen.contains("new"), "{what}: {seen}");
        }
    }
}
