//! Any bytes as a qcow2 image: opened, read, mapped, checked, written, committed, read again. What was committed must be there.

#![no_main]

use imgsh::base::Result;
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{Change, Changes, Disk};
use libfuzzer_sys::fuzz_target;

struct Edits<'a>(&'a [(u64, &'a [u8])]);

impl Changes for Edits<'_> {
    fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(offset, data)| each(*offset, Change::Data(data)))
    }
}

/// Reads the ends of the disk and some of its middle.
fn look(disk: &dyn Disk) {
    let mut buf = vec![0; 70_000];
    for offset in [0, disk.len() / 2, disk.len().saturating_sub(70_000)] {
        let len = buf.len().min((disk.len() - offset) as usize);
        let _ = disk.read_at(offset, &mut buf[..len]);
    }
    let _ = disk.runs(0..disk.len().min(1 << 30));
}

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a scratch file");
    std::fs::write(file.path(), bytes).expect("a scratch file");
    // An image may name other files of the host; those are not this test's.
    let near = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    if near(b"/dev/") || near(b"/proc/") {
        return;
    }
    let _ = qcow2::check(file.path(), false);
    let _ = qcow2::snapshots(file.path());
    let Ok(disk) = Qcow2::open(file.path(), false) else { return };
    look(&disk);
    if disk.len() < 4096 {
        return;
    }
    let last = disk.len() - 100;
    let fresh = disk.write_fresh(2000, b"fresh bytes");
    let done = disk.commit(&Edits(&[(100, b"hello"), (last, b"the end")]));
    if done.is_ok() {
        drop(disk);
        let disk = Qcow2::open(file.path(), true).expect("what was committed opens");
        let mut found = [0; 11];
        disk.read_at(100, &mut found[..5]).expect("what was committed is read");
        assert_eq!(&found[..5], b"hello");
        disk.read_at(last, &mut found[..7]).expect("what was committed is read");
        assert_eq!(&found[..7], b"the end");
        if fresh.is_ok() {
            disk.read_at(2000, &mut found).expect("what was committed is read");
            assert_eq!(&found, b"fresh bytes");
        }
        look(&disk);
    }
    let _ = qcow2::check(file.path(), true);
});
