use super::*;
use crate::disk::Change;

/// Changes from a list, for tests.
pub(super) struct List(pub Vec<(u64, Option<Vec<u8>>, u64)>);

impl List {
    fn data(offset: u64, bytes: &[u8]) -> Self {
        List(vec![(offset, Some(bytes.to_vec()), 0)])
    }
}

impl Changes for List {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        for (offset, data, zeros) in &self.0 {
            match data {
                Some(data) => each(*offset, Change::Data(data))?,
                None => each(*offset, Change::Zero(*zeros))?,
            }
        }
        Ok(())
    }
}

fn image(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn read(raw: &Raw) -> Vec<u8> {
    let mut all = vec![0xee; raw.len() as usize];
    raw.read_at(0, &mut all).unwrap();
    all
}

#[test]
fn fresh_commit_abandon() {
    let (dir, path) = image(&[7; 64 * 1024]);
    let raw = Raw::open(&path, false).unwrap();
    raw.write_fresh(8192, &[1; 4096]).unwrap();
    raw.write_fresh(12288, &[2; 4096]).unwrap();
    assert_eq!(raw.state().fresh, BTreeMap::from([(8192, 16384)]));
    raw.commit(&List(vec![(0, Some(vec![3; 600]), 0), (40000, None, 5000)])).unwrap();
    let mut expected = vec![7; 64 * 1024];
    expected[..600].fill(3);
    expected[8192..12288].fill(1);
    expected[12288..16384].fill(2);
    expected[40000..45000].fill(0);
    assert_eq!(read(&raw), expected);
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    raw.write_fresh(20480, &[9; 4096]).unwrap();
    raw.abandon().unwrap();
    assert_eq!(raw.runs(20480..24576).unwrap(), [Run { range: 20480..24576, hole: true }]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no journal is left");
}

#[test]
fn odd_length_is_rounded_up() {
    let (_dir, path) = image(&[7; 700]);
    let raw = Raw::open(&path, false).unwrap();
    assert_eq!(raw.len(), 1024);
    assert_eq!(read(&raw)[690..], [[7; 10].as_slice(), &[0; 324]].concat());
    raw.commit(&List::data(1000, &[5; 24])).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
    assert!(raw.read_at(1020, &mut [0; 5]).is_err());
    assert!(raw.commit(&List::data(1020, &[0; 5])).is_err());
}

#[test]
fn refuses_what_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |path: &Path| probe(path).unwrap_err().kind();
    assert_eq!(kind(dir.path()), Kind::IsADirectory);
    assert_eq!(kind(Path::new("")), Kind::NotFound);
    assert_eq!(kind(&dir.path().join("none")), Kind::NotFound);
    assert_eq!(kind(Path::new("/dev/zero")), Kind::Invalid);
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        probe(&fifo).unwrap_err().to_string(),
        format!("{}: a named pipe cannot be a disk image", fifo.display())
    );
}

#[test]
fn create_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.img");
    let options = |preallocation: &str| CreateOptions {
        size: Some(1 << 20),
        preallocation: Some(preallocation.to_string()),
        ..CreateOptions::default()
    };
    create(&path, &options("full")).unwrap();
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
    create(&path, &options("sparse")).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 20, 0));
    assert!(create(&path, &options("metadata")).is_err());
    assert!(create(&path, &CreateOptions { backing: Some("b".into()), ..options("off") }).is_err());
    let _open = Raw::open(&path, false).unwrap();
    assert_eq!(create(&path, &options("off")).unwrap_err().kind(), Kind::Busy);
}

/// Leaves an image as a crash right after the commit point does.
fn crash(path: &Path, changes: &List) {
    let place = HostPlace::open(path).unwrap();
    place.make_writable().unwrap();
    let len = place.image().len().unwrap();
    assert!(journal::write(&place, len, changes).unwrap().is_some());
}

#[test]
fn an_interrupted_commit_is_finished() {
    let (dir, path) = image(&[7; 64 * 1024]);
    let journal = dir.path().join("disk.img.imgsh-journal");
    crash(&path, &List(vec![(1000, Some(vec![1; 3000]), 0), (8192, None, 10_000)]));
    let before = std::fs::read(&path).unwrap();
    assert_eq!(before, [7; 64 * 1024]);
    let mut expected = before.clone();
    expected[1000..4000].fill(1);
    expected[8192..18192].fill(0);
    // Through a link, which lies in another folder.
    let other = tempfile::tempdir().unwrap();
    let link = other.path().join("link.img");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let reader = Raw::open(&link, true).unwrap();
    assert_eq!(read(&reader), expected);
    let mut part = [0; 700];
    reader.read_at(3500, &mut part).unwrap();
    assert_eq!(part, expected[3500..4200]);
    assert_eq!(reader.runs(0..4096).unwrap().len(), 1);
    assert!(reader.notices()[0].contains("interrupted"));
    assert_eq!(reader.write_fresh(0, &[1]).unwrap_err().kind(), Kind::ReadOnly);
    // Somebody else reads: it is not finished under his eyes, and shown as finished.
    let second = Raw::open(&path, false).unwrap();
    assert_eq!(read(&second), expected);
    assert!(journal.exists() && std::fs::read(&path).unwrap() == before);
    // Then the first write finishes it.
    drop(reader);
    second.write_fresh(60_000, &[9; 10]).unwrap();
    expected[60_000..60_010].fill(9);
    assert!(!journal.exists() && std::fs::read(&path).unwrap() == expected && read(&second) == expected);
    drop(second);
    // The usual way.
    crash(&path, &List::data(0, &[3; 512]));
    let third = Raw::open(&link, false).unwrap();
    assert!(!journal.exists() && third.notices()[0].contains("finished a commit"));
    assert_eq!(std::fs::read(&path).unwrap()[..513], [[3; 512].as_slice(), &[expected[512]]].concat());
}

#[test]
fn an_interrupted_commit_is_found_under_another_name() {
    let (dir, path) = image(&[7; 64 * 1024]);
    let marked = |path: &Path| rustix::fs::getxattr(path, "user.imgsh.journal", &mut [0; 512]).is_ok();
    crash(&path, &List::data(0, &[3; 512]));
    if !marked(&path) {
        println!("skipped: the file system of the temporary folder has no extended attributes");
        return;
    }
    let journal = dir.path().join("disk.img.imgsh-journal");
    let other = dir.path().join("other.img");
    // A second name, then a new one.
    for renamed in [false, true] {
        std::fs::remove_file(&other).ok();
        match renamed {
            false => std::fs::hard_link(&path, &other).unwrap(),
            true => std::fs::rename(&path, &other).unwrap(),
        }
        for read_only in [true, false] {
            let error = Raw::open(&other, read_only).err().unwrap();
            assert_eq!(error.kind(), Kind::Busy);
            assert!(error.to_string().contains("disk.img.imgsh-journal"), "{error}");
            assert!(error.hint_text().unwrap().contains("other.img.imgsh-journal"));
        }
    }
    assert!(std::fs::read(&other).unwrap() == [7; 64 * 1024]);
    std::fs::rename(&journal, dir.path().join("other.img.imgsh-journal")).unwrap();
    assert!(Raw::open(&other, false).unwrap().notices()[0].contains("finished a commit"));
    assert!(std::fs::read(&other).unwrap()[..512] == [3; 512] && !marked(&other));
    // A mark of a journal that is gone, or is another image's, means nothing.
    crash(&other, &List::data(0, &[4; 512]));
    let journal = dir.path().join("other.img.imgsh-journal");
    std::fs::rename(&other, &path).unwrap();
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &whole[..whole.len() - 1]).unwrap();
    assert!(Raw::open(&path, false).is_ok());
    std::fs::remove_file(&journal).unwrap();
    assert!(Raw::open(&path, false).is_ok());
}

#[test]
fn what_is_no_journal() {
    let (dir, path) = image(&[7; 64 * 1024]);
    let journal = dir.path().join("disk.img.imgsh-journal");
    // Cut off: does not count and goes away, but not for a reader.
    crash(&path, &List::data(0, &[3; 512]));
    std::fs::File::options().write(true).open(&journal).unwrap().set_len(200).unwrap();
    drop(Raw::open(&path, true).unwrap());
    assert!(journal.exists());
    drop(Raw::open(&path, false).unwrap());
    assert!(!journal.exists() && std::fs::read(&path).unwrap() == [7; 64 * 1024]);
    // A link or a folder in its place.
    std::os::unix::fs::symlink("/etc/passwd", &journal).unwrap();
    assert!(Raw::open(&path, false).is_err());
    std::fs::remove_file(&journal).unwrap();
    std::fs::create_dir(&journal).unwrap();
    assert_eq!(Raw::open(&path, false).err().unwrap().kind(), Kind::Denied);
    std::fs::remove_dir(&journal).unwrap();
    // A new image does not inherit the old one's.
    crash(&path, &List::data(0, &[3; 512]));
    create(&path, &CreateOptions { size: Some(64 * 1024), ..CreateOptions::default() }).unwrap();
    assert!(!journal.exists());
}

#[test]
fn an_image_that_is_no_longer_at_its_path_is_not_committed_to() {
    let (dir, path) = image(&[7; 64 * 1024]);
    let raw = Raw::open(&path, false).unwrap();
    raw.write_fresh(8192, &[1; 4096]).unwrap();
    let elsewhere = dir.path().join("renamed.img");
    std::fs::rename(&path, &elsewhere).unwrap();
    // Its journal would lie beside nothing, or beside another image.
    for other in [false, true] {
        if other {
            std::fs::write(&path, [8; 64 * 1024]).unwrap();
        }
        let error = raw.commit(&List::data(0, &[3; 512])).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(error.to_string().contains("renamed, replaced or removed"), "{error}");
    }
    assert!(std::fs::read(&path).unwrap() == [8; 64 * 1024] && std::fs::read(&elsewhere).unwrap()[0] == 7);
    std::fs::rename(&elsewhere, &path).unwrap();
    raw.commit(&List::data(0, &[3; 512])).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[..513], [[3; 512].as_slice(), &[7]].concat());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no journal is left");
}

#[test]
fn a_file_that_takes_the_place_of_an_image_does_not_inherit_its_journal() {
    let (_dir, path) = image(&[7; 64 * 1024]);
    crash(&path, &List::data(0, &[3; 512]));
    let journal = host::journal_path(&path);
    let target = target::Target::new(&path).unwrap();
    target.file().set_len(64 * 1024).unwrap();
    // Until then nobody else gets at what is there, and what its crash left stays.
    assert_eq!(Raw::open(&path, true).err().unwrap().kind(), Kind::Busy);
    assert!(journal.exists());
    target.finish().unwrap();
    assert!(!journal.exists());
    assert!(Raw::open(&path, false).unwrap().notices().is_empty() && std::fs::read(&path).unwrap() == [0; 64 * 1024]);
}

#[test]
fn space_for_holes_is_reserved_before_the_commit_point() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.img");
    std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let hole = |path: &Path| std::fs::metadata(path).unwrap().blocks() == 0;
    let place = HostPlace::open(&path).unwrap();
    place.make_writable().unwrap();
    // A commit that fails half-way gives it back.
    let failing = List(vec![(0, Some(vec![1; 65536]), 0), (1 << 20, Some(vec![1]), 0)]);
    assert!(journal::write(&place, 1 << 20, &failing).is_err());
    assert!(hole(&path) && !place.journal_path().exists());
    journal::write(&place, 1 << 20, &List::data(0, &[1; 65536])).unwrap();
    assert!(!hole(&path) && std::fs::read(&path).unwrap() == vec![0; 1 << 20]);
}
