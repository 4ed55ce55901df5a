//! The gate and the names of devices, on raw images with FAT.

mod cuts;

use std::path::Path;

use super::*;
use crate::base::{GuestPathBuf, Kind, Timestamp};
use crate::fs::{self, MakeOptions};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn path(text: &str) -> GuestPathBuf {
    GuestPathBuf::from(text)
}

fn kind<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(e) => e.kind(),
    }
}

/// Images of 8 MiB of zeros, attached.
fn session(folder: &Path, disks: usize, options: SessionOptions) -> Session {
    let mut session = Session::new(options);
    for index in 0..disks {
        let path = folder.join(format!("disk{index}.img"));
        if !path.exists() {
            std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
        }
        session.add(AddDisk { path, format: Some(Format::Raw), ..AddDisk::default() }).unwrap();
    }
    session.launch().unwrap();
    session
}

fn mkfs(session: &mut Session, device: &str, label: &str) -> Result<()> {
    session.transact(&format!("mkfs vfat {device}"), NOW, |session| {
        session.release(device)?;
        let options = MakeOptions {
            fs_type: "vfat".to_string(),
            label: Some(label.to_string()),
            uuid: crate::base::Uuid([0xab; 16]),
            now: NOW,
            ..MakeOptions::default()
        };
        fs::make(&session.device(device)?, &options)
    })
}

fn write(session: &mut Session, name: &str, content: &[u8]) -> Result<()> {
    session.transact(&format!("write {name}"), NOW, |s| s.guest.write_file(&path(name), content))
}

#[test]
fn a_drive_is_needed() {
    let mut session = Session::default();
    assert_eq!(kind(session.launch()), Kind::Usage);
    assert!(!session.has_disks() && !session.is_launched());
    let missing = AddDisk { path: "/nonexistent/x.img".into(), ..AddDisk::default() };
    assert_eq!(kind(session.add(missing)), Kind::NotFound);
}

#[test]
fn steps_are_taken_back_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = session(folder.path(), 2, SessionOptions::default());
    mkfs(&mut s, "/dev/sda", "ONE").unwrap();
    s.mount("/dev/vda", &path("/"), false).unwrap();
    assert_eq!(kind(mkfs(&mut s, "/dev/sda", "BUSY")), Kind::Busy);
    write(&mut s, "/a", b"1").unwrap();
    write(&mut s, "/a", b"22").unwrap();
    // A command that fails in the middle, and one that changes nothing, are no steps.
    let failed = s.transact("half", NOW, |s| {
        s.guest.write_file(&path("/a"), b"333")?;
        s.transact("inner", NOW, |s| s.guest.mkdir(&path("/d"), 0o755))?;
        s.guest.mkdir(&path("/none/d"), 0o755)
    });
    assert_eq!(kind(failed), Kind::NotFound);
    assert_eq!(s.guest.read_file(&path("/a"), 9).unwrap(), b"22");
    assert!(!s.guest.exists(&path("/d")).unwrap());
    s.transact("rm-f /none", NOW, |s| s.guest.remove_tree(&path("/none"))).unwrap();
    let labels: Vec<&str> = s.steps().iter().map(|step| step.label.as_str()).collect();
    assert_eq!(labels, ["mkfs vfat /dev/sda", "write /a", "write /a"]);
    let changes = s.changes().unwrap();
    assert_eq!((changes.len(), changes[0].device.as_str(), s.is_changed()), (1, "/dev/sda", true));
    assert!(changes[0].bytes > 0 && changes[0].bytes <= 8 << 20);
    assert_eq!(s.undo().unwrap().label, "write /a");
    assert_eq!(s.guest.read_file(&path("/a"), 9).unwrap(), b"1");
    s.undo().unwrap();
    assert!(!s.guest.exists(&path("/a")).unwrap() && s.take_notices().is_empty());
    // Taking the file system itself back unmounts it.
    s.undo().unwrap();
    assert_eq!(kind(s.guest.stat(&path("/"))), Kind::NotMounted);
    let notices = s.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("/dev/sda from /"), "{notices:?}");
    assert_eq!(kind(s.undo()), Kind::Invalid);
    assert!(!s.is_changed());
}

#[test]
fn commits_last_and_rollbacks_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = session(folder.path(), 2, SessionOptions::default());
    mkfs(&mut s, "/dev/sda", "KEPT").unwrap();
    s.mount("/dev/sda", &path("/"), false).unwrap();
    write(&mut s, "/kept", b"kept").unwrap();
    s.commit().unwrap();
    assert!(s.steps().is_empty() && !s.is_changed());
    assert_eq!(kind(s.undo()), Kind::Invalid);
    write(&mut s, "/kept", b"changed").unwrap();
    write(&mut s, "/lost", &[7; 100_000]).unwrap();
    s.rollback().unwrap();
    assert_eq!(s.guest.read_file(&path("/kept"), 9).unwrap(), b"kept");
    write(&mut s, "/more", b"more").unwrap();
    s.commit().unwrap();
    write(&mut s, "/lost", b"not committed").unwrap();
    drop(s);
    let mut s = session(folder.path(), 1, SessionOptions::default());
    s.mount("/dev/disk/by-label/KEPT", &path("/"), true).unwrap();
    let names: Vec<String> = s.guest.list(&path("/")).unwrap().iter().map(|n| n.to_string()).collect();
    assert_eq!(names, ["kept", "more"]);
    assert_eq!(kind(write(&mut s, "/x", b"")), Kind::ReadOnly);
    assert_eq!(s.file_systems().unwrap(), [("/dev/sda".to_string(), "vfat".to_string())]);
}

#[test]
fn a_dry_run_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = session(folder.path(), 1, SessionOptions { dry_run: true });
    mkfs(&mut s, "/dev/sda", "DRY").unwrap();
    s.commit().unwrap();
    assert_eq!((s.steps().len(), s.is_changed(), s.changes().unwrap().len()), (1, false, 1));
    drop(s);
    let image = std::fs::read(folder.path().join("disk0.img")).unwrap();
    assert!(image.len() == 8 << 20 && image.iter().all(|b| *b == 0));
}

#[test]
fn an_interrupt_undoes_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = session(folder.path(), 1, SessionOptions::default());
    mkfs(&mut s, "/dev/sda", "INT").unwrap();
    s.mount("/dev/sda", &path("/"), false).unwrap();
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    s.guest.set_interrupt(flag.clone());
    let stopped = s.transact("write /a", NOW, |s| {
        s.guest.write_file(&path("/a"), b"1")?;
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(kind(stopped), Kind::Interrupted);
    assert!(!s.guest.exists(&path("/a")).unwrap() && s.steps().len() == 1);
}

#[test]
fn changes_of_a_read_only_disk_are_seen_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = session(folder.path(), 1, SessionOptions::default());
    mkfs(&mut s, "/dev/sda", "RO").unwrap();
    s.commit().unwrap();
    drop(s);
    let mut s = Session::default();
    let image = folder.path().join("disk0.img");
    let label = Some("data".to_string());
    s.add(AddDisk { path: image.clone(), format: None, read_only: true, label }).unwrap();
    s.launch().unwrap();
    assert_eq!(s.canonical("/dev/disk/guestfs/data").unwrap(), "/dev/sda");
    assert_eq!(s.canonical("/dev/disk/by-uuid/ABAB-ABAB").unwrap(), "/dev/sda");
    for wrong in ["/dev/disk/guestfs/data1", "/dev/disk/by-uuid/", "/dev/sdb", "/dev/sda1", "/dev/disk/x", "sda"] {
        assert_eq!(kind(s.canonical(wrong)), Kind::NotFound, "{wrong}");
    }
    let before = std::fs::read(&image).unwrap();
    s.mount("/dev/sda", &path("/"), true).unwrap();
    assert_eq!(kind(write(&mut s, "/x", b"")), Kind::ReadOnly);
    s.guest.umount_all().unwrap();
    s.mount("/dev/sda", &path("/"), false).unwrap();
    write(&mut s, "/x", &[7; 3 << 20]).unwrap();
    write(&mut s, "/y", b"more").unwrap();
    let notices = s.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("disk0.img was added read-only"), "{notices:?}");
    assert!(!s.is_changed() && s.disk_facts().all(|disk| disk.read_only));
    s.commit().unwrap();
    s.commit_keeping("state", NOW).unwrap();
    assert_eq!(s.guest.stat(&path("/y")).unwrap().size, 4);
    s.guest.umount_all().unwrap();
    mkfs(&mut s, "/dev/sda", "NEW").unwrap();
    drop(s);
    assert!(before == std::fs::read(&image).unwrap());
}

#[test]
fn a_commit_leaves_the_read_only_disks_among_others() {
    let folder = tempfile::tempdir().unwrap();
    drop(session(folder.path(), 2, SessionOptions::default()));
    let mut s = Session::default();
    for (name, read_only) in [("disk0.img", true), ("disk1.img", false)] {
        s.add(AddDisk { path: folder.path().join(name), read_only, ..AddDisk::default() }).unwrap();
    }
    s.launch().unwrap();
    mkfs(&mut s, "/dev/sda", "LOST").unwrap();
    assert!(!s.is_changed());
    mkfs(&mut s, "/dev/sdb", "KEPT").unwrap();
    assert!(s.is_changed());
    s.commit().unwrap();
    let types = s.file_systems().unwrap();
    assert!(types.iter().all(|(_, kind)| kind == "vfat") && types.len() == 2, "{types:?}");
    drop(s);
    let empty = |name: &str| std::fs::read(folder.path().join(name)).unwrap().iter().all(|b| *b == 0);
    assert!(empty("disk0.img") && !empty("disk1.img"));
}
