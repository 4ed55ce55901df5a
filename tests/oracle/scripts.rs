//! Scripts that do a little of everything, for images of every kind.

use imgsh::base::{GuestPathBuf, Timestamp};
use imgsh::fs::{NewKind, NewNode, SetAttributes};

use super::guest::{Guest, noise};

/// Content in all its forms.
pub fn content(guest: &mut Guest<'_>) {
    guest.dir("files");
    for len in [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 100_000, 1_000_001] {
        guest.file(&format!("files/len-{len}"), &noise(len, len as u64));
    }
    guest.make("files/written", NewKind::Regular, 0o600);
    for (offset, len) in [(0, 10), (5, 10), (4090, 20), (100_000, 5000), (60_000, 1), (99_999, 2), (8192, 4096)] {
        guest.write("files/written", offset, &noise(len, offset));
    }
    // Every second block of 1024, first upwards, then the gaps between downwards.
    guest.make("files/comb", NewKind::Regular, 0o600);
    for i in (0..200).step_by(2) {
        guest.write("files/comb", i * 4096, &noise(1500, i));
    }
    for i in (1_u32..200).step_by(2).rev().step_by(3).map(u64::from) {
        guest.write("files/comb", i * 4096 + 7, &noise(100, i));
    }
    guest.make("files/far", NewKind::Regular, 0o600);
    guest.write("files/far", 30_000_000, b"far away");
    guest.make("files/hole", NewKind::Regular, 0o600);
    guest.resize("files/hole", 1_234_567);
    // What a smaller size cuts off must not come back.
    guest.file("files/cut", &noise(50_000, 1));
    guest.resize("files/cut", 20_001);
    guest.resize("files/cut", 60_000);
    guest.write("files/cut", 70_000, b"end");
    guest.file("files/emptied", &noise(300_000, 2));
    guest.resize("files/emptied", 0);
    guest.file("files/refilled", &noise(300_000, 3));
    let node = guest.node("files/refilled");
    guest.edit().fill(node, 5000, &mut noise(5000, 4).as_slice(), true).unwrap();
    let zeros = [noise(5000, 5), vec![0; 200_000], noise(5000, 6)].concat();
    guest.make("files/zeros", NewKind::Regular, 0o644);
    let node = guest.node("files/zeros");
    guest.edit().fill(node, zeros.len() as u64, &mut zeros.as_slice(), true).unwrap();
    guest.sync();
    guest.resize("files/comb", 300_001);
    guest.file("files/late", &noise(70_000, 8));
    guest.remove("files/len-1000001");
    guest.file("files/again", &noise(1_000_001, 9));
}

/// A target of so many bytes, in names of 99.
pub fn target(len: usize) -> GuestPathBuf {
    GuestPathBuf((0..len).map(|i| if i % 100 == 99 { b'/' } else { b't' }).collect())
}

/// Names: links, renames, removal.
pub fn names(guest: &mut Guest<'_>) {
    guest.dir("names");
    guest.file("names/a", b"a");
    guest.link("names/a", "names/b");
    guest.link("names/a", "c");
    guest.remove("names/a");
    guest.file("names/victim", b"victim");
    guest.link("names/victim", "names/other victim");
    guest.rename("names/b", "names/victim");
    guest.rename("c", "c");
    guest.rename("c", "names/victim");
    guest.file("names/one", b"1");
    guest.file("names/two", b"2");
    guest.rename("names/one", "names/two");
    guest.rename("names/two", "moved");
    for path in ["x", "x/y", "x/y/z", "empty", "target", "names/sub"] {
        guest.dir(path);
    }
    guest.file("x/y/z/file", b"deep");
    guest.rename("x/y", "y");
    guest.rename("y", "names/sub/y");
    guest.rename("empty", "target");
    guest.rename("names/sub", "target");
    guest.rename("target", "x/target");
    guest.dir("gone");
    guest.dir("gone/below");
    guest.remove_dir("gone/below");
    guest.remove_dir("gone");
    guest.file(&"n".repeat(255), b"long");
    let root = guest.node("");
    let new = NewNode { kind: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    for name in
        [b"\xff\xfe bytes \x80".as_slice(), "ÄÖÜ ßñ 日本語".as_bytes(), b"\\back\"quote'", b" blank ", b"-", b"..."]
    {
        guest.edit().create(root, name, &new).unwrap();
    }
    let mut path = "deep".to_string();
    guest.dir(&path);
    for level in 0..64 {
        path = format!("{path}/{level}");
        guest.dir(&path);
    }
    guest.file(&format!("{path}/bottom"), b"64 below");
    for len in [1, 59, 60, 61, 1023] {
        guest.make(&format!("names/link-{len}"), NewKind::Symlink(target(len)), 0o777);
    }
    guest.make("names/dead", NewKind::Symlink("no/such/place".into()), 0o777);
    guest.remove("names/link-1023");
    guest.remove("names/link-59");
    guest.make("names/again", NewKind::Symlink(target(500)), 0o777);
}

/// Special files and attributes; `large` says that inodes have room for times beyond 2038.
pub fn attributes(guest: &mut Guest<'_>, large: bool) {
    guest.dir("dev");
    let devices = [(0, 0), (8, 1), (255, 255), (259, 0), (4, 70_000), (4095, 1_048_575)];
    for (major, minor) in devices {
        guest.make(&format!("dev/c{major}-{minor}"), NewKind::CharDevice(major, minor), 0o666);
        guest.make(&format!("dev/b{major}-{minor}"), NewKind::BlockDevice(major, minor), 0o660);
    }
    guest.make("dev/fifo", NewKind::Fifo, 0o600);
    guest.make("dev/socket", NewKind::Socket, 0o755);
    guest.file("attributes", b"x");
    for mode in [0, 0o7777, 0o4711] {
        guest.set("attributes", SetAttributes { mode: Some(mode), ..Default::default() });
    }
    guest.set("attributes", SetAttributes { uid: Some(70_000), gid: Some(4_000_000_000), ..Default::default() });
    let mut times = vec![(-1, 0), (-2_147_483_648, 1), (2_147_483_647, 999_999_999)];
    if large {
        times.extend([(2_147_483_648, 5), (4_481_000_000, 123_456_789), (15_032_385_535, 0)]);
    }
    for (i, (seconds, nanos)) in times.into_iter().enumerate() {
        let path = format!("time-{i}");
        guest.file(&path, b"");
        let time = Timestamp { seconds, nanos: if large { nanos } else { 0 } };
        guest.set(&path, SetAttributes { accessed: Some(time), modified: Some(time), ..Default::default() });
    }
}

/// Extended attributes in the inode, in a block, growing, shrinking, of directories and links.
pub fn xattrs(guest: &mut Guest<'_>) {
    guest.dir("xattrs");
    guest.make("xattrs/link", NewKind::Symlink("target".into()), 0o777);
    for path in ["xattrs/small", "xattrs/large", "xattrs/many", "xattrs/acl", "xattrs/gone"] {
        guest.file(path, path.as_bytes());
    }
    guest.xattr("xattrs/small", "user.name", Some(b"value"));
    guest.xattr("xattrs/small", "user.empty", Some(b""));
    guest.xattr("xattrs/small", "security.capability", Some(b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    guest.xattr("xattrs/link", "security.selinux", Some(b"system_u:object_r:etc_t:s0\0"));
    guest.xattr("xattrs", "security.selinux", Some(b"system_u:object_r:usr_t:s0\0"));
    guest.xattr("xattrs/large", "user.large", Some(&noise(700, 1)));
    guest.xattr("xattrs/large", "user.small", Some(b"moves about"));
    guest.xattr("xattrs/large", "user.large", Some(&noise(600, 2)));
    guest.xattr("xattrs/large", "user.small", Some(b"grows"));
    guest.xattr("xattrs/large", "trusted.t", Some(&noise(33, 3)));
    for i in (0..20).rev() {
        guest.xattr("xattrs/many", &format!("user.{}{i}", "n".repeat(i)), Some(&noise(i, 4)));
    }
    for i in (0..20).step_by(3) {
        guest.xattr("xattrs/many", &format!("user.{}{i}", "n".repeat(i)), None);
    }
    guest.xattr("xattrs/gone", "user.large", Some(&noise(500, 5)));
    guest.xattr("xattrs/gone", "user.large", None);
    guest.file("xattrs/removed", b"");
    guest.xattr("xattrs/removed", "user.large", Some(&noise(800, 6)));
    guest.remove("xattrs/removed");
    // Version 2; user rw-, user 1000 r--, group r--, mask r--, other ---.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [(1_u16, 6_u16, !0), (2, 4, 1000_u32), (4, 4, !0), (0x10, 4, !0), (0x20, 0, !0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    guest.set("xattrs/acl", SetAttributes { mode: Some(0o640), ..Default::default() });
    guest.xattr("xattrs/acl", "system.posix_acl_access", Some(&acl));
    guest.xattr("xattrs", "system.posix_acl_default", Some(&acl));
}

pub fn everything(guest: &mut Guest<'_>) {
    content(guest);
    names(guest);
    attributes(guest, true);
    xattrs(guest);
}
