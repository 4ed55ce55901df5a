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
