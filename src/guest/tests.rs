//! Paths, mounts, names and content on the model file system.

use super::*;
use crate::base::Name;
use crate::fs::model::Model;
use crate::fs::{FileType, NewKind, NewNode, SetAttributes};

pub(super) fn path(text: &str) -> GuestPathBuf {
    GuestPathBuf::from(text)
}

/// A guest with one empty file system on `/`.
pub(super) fn guest() -> Guest {
    let mut guest = Guest::default();
    guest.set_now(Timestamp::from_seconds(1_700_000_000));
    guest.mount("/dev/sda1", &GuestPathBuf::root(), false, &mut || Ok(Model::new())).unwrap();
    guest
}

fn kind<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(e) => e.kind(),
    }
}

fn read(guest: &Guest, file: &str) -> String {
    String::from_utf8(guest.read_file(&path(file), 1 << 20).unwrap()).unwrap()
}

fn names(guest: &Guest, dir: &str) -> Vec<String> {
    guest.list(&path(dir)).unwrap().iter().map(Name::to_string).collect()
}

#[test]
fn links_and_dots_stay_inside() {
    let mut g = guest();
    g.mkdir_p(&path("/a/b"), 0o755).unwrap();
    g.write_file(&path("/a/b/f"), b"x").unwrap();
    g.symlink(&path("/a"), &path("/abs")).unwrap();
    g.symlink(&path("../../../../a/b"), &path("/a/up")).unwrap();
    g.symlink(&path("b/f"), &path("/a/f")).unwrap();
    g.symlink(&path("loop2"), &path("/loop1")).unwrap();
    g.symlink(&path("loop1"), &path("/loop2")).unwrap();
    assert_eq!(read(&g, "/abs/up/../../../a/./b//f"), "x");
    assert_eq!(read(&g, "/../../a/f"), "x");
    assert_eq!(g.realpath(&path("/abs/up/f")).unwrap(), path("/a/b/f"));
    assert_eq!(g.realpath(&path("/a/..")).unwrap(), path("/"));
    assert_eq!(kind(g.stat(&path("/loop1"))), Kind::TooManyLinks);
    assert_eq!(g.lstat(&path("/loop1")).unwrap().file_type, FileType::Symlink);
    assert_eq!(kind(g.stat(&path("/loop1/x"))), Kind::TooManyLinks);
    assert_eq!(kind(g.stat(&path("/a/f/x"))), Kind::NotADirectory);
    assert_eq!(kind(g.stat(&path("/a/f/"))), Kind::NotADirectory);
    assert_eq!(kind(g.stat(&path("/a/b/f/../f"))), Kind::NotADirectory);
    assert_eq!(g.lstat(&path("/abs/")).unwrap().file_type, FileType::Directory);
    assert_eq!(kind(g.stat(&path("a"))), Kind::Invalid);
    assert_eq!(kind(g.stat(&path(""))), Kind::NotFound);
    assert!(g.exists(&path("/loop1")).unwrap() && !g.exists(&path("/a/f/x")).unwrap());
    let error = g.read_file(&path("/abs/none"), 1).unwrap_err();
    assert_eq!(error.to_string(), "/abs/none: No such file or directory");
}

/// Names that were looked up are remembered until something changes.
#[test]
fn remembered_names_follow_changes() {
    let mut g = guest();
    g.mkdir(&path("/d"), 0o755).unwrap();
    let ask = |g: &Guest, there: &str| {
        for name in (0..30).map(|i| format!("/d/f{i}")) {
            assert_eq!(g.exists(&path(&name)).unwrap(), name == there, "{name}");
        }
    };
    for _ in 0..2 {
        ask(&g, "");
        ask(&g, "");
        g.write_file(&path("/d/f29"), b"x").unwrap();
        ask(&g, "/d/f29");
        ask(&g, "/d/f29");
        g.rename(&path("/d/f29"), &path("/d/f3")).unwrap();
        ask(&g, "/d/f3");
        g.remove_tree(&path("/d/f3")).unwrap();
    }
    ask(&g, "");
    g.reload().unwrap();
    ask(&g, "");
}

#[test]
fn lengths_are_those_of_linux() {
    let mut g = guest();
    let name = "n".repeat(255);
    g.mkdir(&path(&format!("/{name}")), 0o755).unwrap();
    assert_eq!(kind(g.mkdir(&path(&format!("/{name}n")), 0o755)), Kind::NameTooLong);
    assert_eq!(kind(g.stat(&path(&format!("/{name}n/x")))), Kind::NameTooLong);
    let slashes = "/".repeat(4095);
    g.stat(&path(&slashes)).unwrap();
    assert_eq!(kind(g.stat(&path(&format!("{slashes}/")))), Kind::NameTooLong);
    // 40 links are followed, 41 are not.
    g.write_file(&path("/l0"), b"end").unwrap();
    for i in 1..=41 {
        g.symlink(&path(&format!("l{}", i - 1)), &path(&format!("/l{i}"))).unwrap();
    }
    assert_eq!(read(&g, "/l40"), "end");
    assert_eq!(kind(g.stat(&path("/l41"))), Kind::TooManyLinks);
}

#[test]
fn mounts_are_crossed_both_ways() {
    let mut g = guest();
    let mut model = || Ok(Model::new());
    assert_eq!(kind(Guest::default().stat(&path("/"))), Kind::NotMounted);
    assert_eq!(kind(Guest::default().mount("/dev/sda2", &path("/boot"), false, &mut model)), Kind::NotMounted);
    assert_eq!(kind(g.mount("/dev/sda2", &path("/boot"), false, &mut model)), Kind::NotFound);
    g.mkdir_p(&path("/boot/hidden"), 0o755).unwrap();
    g.write_file(&path("/f"), b"root").unwrap();
    assert_eq!(kind(g.mount("/dev/sda2", &path("/f"), false, &mut model)), Kind::NotADirectory);
    g.symlink(&path("/boot"), &path("/link")).unwrap();
    g.mount("/dev/sda2", &path("/link/"), false, &mut model).unwrap();
    assert_eq!(g.mounts()[1].mountpoint, path("/boot"));
    assert_eq!(names(&g, "/boot"), [""; 0]);
    g.mkdir(&path("/boot/efi"), 0o755).unwrap();
    g.mount("/dev/sda3", &path("/boot/efi"), true, &mut model).unwrap();
    assert_eq!(read(&g, "/boot/efi/../../f"), "root");
    assert_eq!(kind(g.write_file(&path("/boot/efi/x"), b"")), Kind::ReadOnly);
    assert_eq!(kind(g.rename(&path("/f"), &path("/boot/f"))), Kind::CrossDevice);
    assert_eq!(kind(g.link(&path("/f"), &path("/boot/f"))), Kind::CrossDevice);
    assert_eq!(kind(g.rmdir(&path("/boot"))), Kind::Busy);
    assert_eq!(kind(g.remove_tree(&path("/boot"))), Kind::Busy);
    assert_eq!(kind(g.umount("/boot")), Kind::Busy);
    assert_eq!(kind(g.close("/dev/sda")), Kind::Busy);
    // The same device again shares one file system; read-only beside writable is refused.
    g.mkdir(&path("/again"), 0o755).unwrap();
    assert_eq!(kind(g.mount("/dev/sda2", &path("/again"), true, &mut model)), Kind::Busy);
    g.mount("/dev/sda2", &path("/again"), false, &mut || panic!("it is open")).unwrap();
    g.write_file(&path("/again/shared"), b"1").unwrap();
    assert_eq!(read(&g, "/boot/shared"), "1");
    assert_eq!(names(&g, "/again/efi"), [""; 0]);
    g.umount("/dev/sda3").unwrap();
    g.umount("/boot/").unwrap();
    assert_eq!(names(&g, "/boot"), ["hidden"]);
    assert_eq!(kind(g.umount("/boot")), Kind::Invalid);
    g.umount_all().unwrap();
    g.mount("/dev/sda2", &path("/"), false, &mut || panic!("it stays open")).unwrap();
    assert_eq!(names(&g, "/"), ["efi", "shared"]);
}

#[test]
fn a_reload_drops_what_is_gone() {
    let mut g = guest();
    g.mkdir(&path("/kept"), 0o755).unwrap();
    g.sync().unwrap();
    g.mkdir(&path("/lost"), 0o755).unwrap();
    g.mount("/dev/sda2", &path("/kept"), false, &mut || Ok(Model::new())).unwrap();
    g.mount("/dev/sda3", &path("/lost"), false, &mut || Ok(Model::new())).unwrap();
    let error = g.reload().unwrap_err().to_string();
    assert_eq!(error, "unmounted, since it is no longer there: /dev/sda3 from /lost");
    assert_eq!(g.mounts().iter().map(|m| m.device.as_str()).collect::<Vec<_>>(), ["/dev/sda1", "/dev/sda2"]);
    assert_eq!(names(&g, "/"), ["kept"]);
    g.reload().unwrap();
    assert_eq!(g.forget("/dev/sda1").len(), 2);
    assert_eq!(kind(g.stat(&path("/"))), Kind::NotMounted);
}

#[test]
fn files_are_written_in_place() {
    let mut g = guest();
    assert_eq!(g.set_umask(0o077), 0o022);
    g.write_file(&path("/f"), b"first").unwrap();
    assert_eq!(g.stat(&path("/f")).unwrap().mode, 0o600);
    let owner = SetAttributes { mode: Some(0o4751), uid: Some(7), gid: Some(8), ..SetAttributes::default() };
    g.set_attributes(&path("/f"), true, &owner).unwrap();
    let inode = g.stat(&path("/f")).unwrap().inode;
    g.write_file(&path("/f"), b"new").unwrap();
    let after = g.stat(&path("/f")).unwrap();
    assert_eq!((after.inode, after.mode, after.uid, after.gid, after.size), (inode, 0o4751, 7, 8, 3));
    g.write_at(&path("/f"), None, b"er").unwrap();
    g.write_at(&path("/f"), Some(0), b"N").unwrap();
    assert_eq!(read(&g, "/f"), "Newer");
    g.truncate(&path("/f"), 3).unwrap();
    assert_eq!(read(&g, "/f"), "New");
    // A link to nowhere: its target is made.
    g.symlink(&path("/made"), &path("/link")).unwrap();
    g.write_file(&path("/link"), b"through").unwrap();
    assert_eq!(read(&g, "/made"), "through");
    assert_eq!(kind(g.write_file(&path("/made/x"), b"")), Kind::NotADirectory);
    assert_eq!(kind(g.write_file(&path("/none/x"), b"")), Kind::NotFound);
    assert_eq!(kind(g.write_file(&path("/"), b"")), Kind::IsADirectory);
    assert_eq!(kind(g.write_file(&path("/new/"), b"")), Kind::IsADirectory);
    assert_eq!(kind(g.write_from(&path("/short"), 9, &mut &b"few"[..], 0o666)), Kind::Io);
    assert_eq!(kind(g.read_file(&path("/made"), 6)), Kind::FileTooBig);
    assert_eq!(kind(g.read_file(&path("/"), 6)), Kind::IsADirectory);
    g.interrupt.store(true, Ordering::Relaxed);
    assert_eq!(kind(g.write_file(&path("/f"), b"stop")), Kind::Interrupted);
}

#[test]
fn names_are_made_and_removed() {
    let mut g = guest();
    assert_eq!(kind(g.mkdir(&path("/"), 0o755)), Kind::Exists);
    g.mkdir_p(&path("/d/e/"), 0o777).unwrap();
    g.mkdir_p(&path("/d/e"), 0o777).unwrap();
    assert_eq!(g.stat(&path("/d/e")).unwrap().mode, 0o755);
    g.write_file(&path("/d/f"), b"").unwrap();
    assert_eq!(kind(g.mkdir_p(&path("/d/f/g"), 0o777)), Kind::NotADirectory);
    assert_eq!(kind(g.mkdir(&path("/d/f"), 0o777)), Kind::Exists);
    assert_eq!(kind(g.rmdir(&path("/d"))), Kind::NotEmpty);
    assert_eq!(kind(g.rmdir(&path("/d/f"))), Kind::NotADirectory);
    assert_eq!(kind(g.rmdir(&path("/d/e/.."))), Kind::Invalid);
    assert_eq!(kind(g.unlink(&path("/d/e"))), Kind::IsADirectory);
    assert_eq!(kind(g.unlink(&path("/d/f/"))), Kind::NotADirectory);
    assert_eq!(kind(g.link(&path("/d"), &path("/hard"))), Kind::Denied);
    g.link(&path("/d/f"), &path("/hard")).unwrap();
    assert_eq!(g.stat(&path("/hard")).unwrap().links, 2);
    assert_eq!(kind(g.rename(&path("/d"), &path("/d/e/x"))), Kind::Invalid);
    assert_eq!(kind(g.rename(&path("/hard"), &path("/d"))), Kind::IsADirectory);
    assert_eq!(kind(g.rename(&path("/hard"), &path("/slash/"))), Kind::NotADirectory);
    g.rename(&path("/d"), &path("/moved/")).unwrap();
    g.make(&path("/null"), &NewNode { kind: NewKind::CharDevice(1, 3), mode: 0o666, uid: 0, gid: 0 }).unwrap();
    assert_eq!(g.stat(&path("/null")).unwrap().device, (1, 3));
    g.symlink(&path("/moved"), &path("/moved/e/back")).unwrap();
    g.remove_tree(&path("/moved")).unwrap();
    g.remove_tree(&path("/moved")).unwrap();
    g.unlink(&path("/hard")).unwrap();
    assert_eq!(names(&g, "/"), ["null"]);
}

#[test]
fn walks_are_sorted_and_cross_mounts() {
    let mut g = guest();
    g.mkdir_p(&path("/t/b"), 0o755).unwrap();
    g.mkdir_p(&path("/t/a/skipped"), 0o755).unwrap();
    g.write_file(&path("/t/a.x"), b"").unwrap();
    g.symlink(&path("/t"), &path("/t/z")).unwrap();
    g.mount("/dev/sda2", &path("/t/b"), false, &mut || Ok(Model::new())).unwrap();
    g.write_file(&path("/t/b/inside"), b"").unwrap();
    let mut seen = Vec::new();
    g.walk(&path("/t"), &mut |entry| {
        seen.push(entry.path.to_string());
        Ok(&*entry.path != b"a")
    })
    .unwrap();
    assert_eq!(seen, ["", "a", "a.x", "b", "b/inside", "z"]);
}

#[test]
fn deep_trees_do_not_overflow() {
    let mut g = guest();
    let mut at = g.root_at().unwrap();
    for _ in 0..5_000 {
        let new = NewNode { kind: NewKind::Directory, mode: 0o755, uid: 0, gid: 0 };
        at.node = g.edit(at).unwrap().create(at.node, b"deep", &new).unwrap();
    }
    let mut count = 0;
    g.walk(&path("/"), &mut |_| {
        count += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(count, 5_001);
    g.remove_tree(&path("/deep")).unwrap();
    assert_eq!(names(&g, "/"), [""; 0]);
}

#[test]
fn globs_find_paths() {
    let mut g = guest();
    g.mkdir_p(&path("/b/c"), 0o755).unwrap();
    g.mkdir_p(&path("/.dot/c"), 0o755).unwrap();
    g.write_file(&path("/b/c/d"), b"").unwrap();
    g.write_file(&path("/b/c/e"), b"").unwrap();
    g.write_file(&path("/b/*"), b"").unwrap();
    g.symlink(&path("/b"), &path("/link")).unwrap();
    g.symlink(&path("/nowhere"), &path("/dangling")).unwrap();
    let glob = |pattern: &str, mark| -> Vec<String> {
        g.glob(&path(pattern), mark).unwrap().iter().map(GuestPathBuf::to_string).collect()
    };
    assert_eq!(glob("/*/c/*", true), ["/b/c/d", "/b/c/e", "/link/c/d", "/link/c/e"]);
    assert_eq!(glob("/*", true), ["/b/", "/dangling", "/link/"]);
    assert_eq!(glob("/*", false), ["/b", "/dangling", "/link"]);
    assert_eq!(glob("/*/", false), ["/b/", "/link/"]);
    assert_eq!(glob("/{link,b}/c/[!d]", false), ["/link/c/e", "/b/c/e"]);
    assert_eq!(glob("/b/\\*", false), ["/b/*"]);
    assert_eq!(glob("/b/c/../?", false), ["/b/c/../*", "/b/c/../c"]);
    assert_eq!(glob("/.d*/c", false), ["/.dot/c"]);
    assert_eq!(glob("/", true), ["/"]);
    assert_eq!(glob("/none/*", true), [""; 0]);
}

/// One of everything that a tree can hold.
pub(super) fn fill_with_everything(g: &mut Guest) {
    g.mkdir_p(&path("/dir/sub"), 0o755).unwrap();
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    g.write_file(&path("/dir/big"), &content).unwrap();
    g.write_file(&path("/dir/empty"), b"").unwrap();
    g.write_file(&path("/hard1"), b"two names").unwrap();
    g.link(&path("/hard1"), &path("/hard2")).unwrap();
    g.symlink(&path("dir/none"), &path("/link")).unwrap();
    g.symlink(&path(&"t/".repeat(100)), &path("/long-link")).unwrap();
    for (name, kind) in
        [("/null", NewKind::CharDevice(1, 3)), ("/sda", NewKind::BlockDevice(259, 1_000_000)), ("/fifo", NewKind::Fifo)]
    {
        g.make(&path(name), &NewNode { kind, mode: 0o640, uid: 0, gid: 6 }).unwrap();
    }
    let long = format!("/long/{}/{}", "n".repeat(200), "m".repeat(255));
    g.mkdir_p(&path(&long), 0o700).unwrap();
    g.write_file(&GuestPathBuf([long.as_bytes(), b"/\xff\xfe"].concat()), b"bytes").unwrap();
    let set = SetAttributes {
        mode: Some(0o6755),
        uid: Some(4_000_000_000),
        gid: Some(3_000_000),
        accessed: None,
        modified: Some(Timestamp { seconds: -5, nanos: 250_000_000 }),
    };
    g.set_attributes(&path("/dir/empty"), true, &set).unwrap();
    let late = Timestamp { seconds: 1 << 34, nanos: 999_999_999 };
    g.set_attributes(&path("/dir"), true, &SetAttributes { modified: Some(late), ..SetAttributes::default() }).unwrap();
    g.set_xattr(&path("/dir"), true, b"user.text", Some(b"a=b\nc")).unwrap();
    g.set_xattr(&path("/hard1"), true, b"security.capability", Some(&[0, 1, 2, 255])).unwrap();
}

/// Every node with all that a copy must keep.
pub(super) fn listing(g: &Guest) -> Vec<String> {
    let mut lines = Vec::new();
    g.walk(&GuestPathBuf::root(), &mut |entry| {
        let m = &entry.metadata;
        let whole = path("/").join(&entry.path);
        let content = match m.file_type {
            FileType::Regular => format!("{:x}", crc32fast::hash(&g.read_file(&whole, 1 << 24)?)),
            FileType::Symlink => g.read_link(&whole)?.to_string(),
            _ => format!("{:?}", m.device),
        };
        let size = if m.file_type == FileType::Directory { 0 } else { m.size };
        lines.push(format!(
            "{whole} {:?} {:o} {}:{} {size} {:?} {} {content} {:?}",
            m.file_type,
            m.mode,
            m.uid,
            m.gid,
            m.modified,
            m.links,
            g.xattrs(&whole, false)?
        ));
        Ok(true)
    })
    .unwrap();
    lines
}
