//! Roots of several distributions, in the shortest form.

use super::*;
use crate::guest::tests::{guest, path};

/// A root with these files, and `/bin/sh` for the processor of `machine`.
fn root(files: &[(&str, &str)]) -> Guest {
    let mut g = guest();
    g.mkdir_p(&path("/etc"), 0o755).unwrap();
    g.mkdir_p(&path("/usr/bin"), 0o755).unwrap();
    g.mkdir_p(&path("/usr/lib"), 0o755).unwrap();
    g.symlink(&path("usr/bin"), &path("/bin")).unwrap();
    let elf = [&b"\x7fELF\x02\x01\x01"[..], &[0; 11], &[62, 0], &[0; 40]].concat();
    g.write_file(&path("/usr/bin/dash"), &elf).unwrap();
    g.symlink(&path("dash"), &path("/usr/bin/sh")).unwrap();
    for (name, text) in files {
        match text.strip_prefix("-> ") {
            Some(target) => g.symlink(&path(target), &path(name)).unwrap(),
            None => g.write_file(&path(name), text.as_bytes()).unwrap(),
        }
    }
    g
}

fn verdict(files: &[(&str, &str)]) -> (String, i64, i64, String, String) {
    let system = linux(&root(files)).unwrap().unwrap();
    assert_eq!((system.os_type.as_str(), system.arch.as_str()), ("linux", "x86_64"));
    (system.distro, system.major, system.minor, system.product_name, system.package_format)
}

#[test]
fn distributions() {
    let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
    for link in ["-> ../usr/lib/os-release", "-> /usr/lib/os-release"] {
        let files = [("/usr/lib/os-release", debian), ("/etc/os-release", link), ("/etc/debian_version", "12.5\n")];
        assert_eq!(verdict(&files), ("debian".into(), 12, 5, "12.5".into(), "deb".into()));
    }
    let ubuntu = "ID=ubuntu\nVERSION_ID='22.04'\nPRETTY_NAME=\"Ubuntu \\\"22.04\\\"\"\n";
    let files = [("/etc/os-release", ubuntu), ("/etc/debian_version", "bookworm/sid\n")];
    assert_eq!(verdict(&files), ("ubuntu".into(), 22, 4, "Ubuntu \"22.04\"".into(), "deb".into()));
    let rocky = "ID=\"rocky\"\nVERSION_ID=\"9.3\"\nPRETTY_NAME=\"Rocky Linux 9.3\"\n";
    assert_eq!(verdict(&[("/etc/os-release", rocky)]), ("rocky".into(), 9, 3, "Rocky Linux 9.3".into(), "rpm".into()));
    // A name that nobody knows has the packages of what it is like.
    let derived = "ID=eurolinux\nID_LIKE=\"rhel fedora\"\nVERSION_ID=9.2\n";
    assert_eq!(verdict(&[("/etc/os-release", derived)]).4, "rpm");
    let centos = "CentOS release 6.10 (Final)\n";
    assert_eq!(
        verdict(&[("/etc/redhat-release", centos)]),
        ("centos".into(), 6, 10, centos.trim().into(), "rpm".into())
    );
    assert_eq!(
        verdict(&[("/etc/alpine-release", "3.19.1\n")]),
        ("alpinelinux".into(), 3, 19, "3.19.1".into(), "apk".into())
    );
    assert_eq!(verdict(&[("/etc/passwd", "")]), ("unknown".into(), 0, 0, "unknown".into(), "unknown".into()));
}

#[test]
fn what_is_no_root() {
    assert_eq!(linux(&guest()).unwrap(), None);
    assert_eq!(linux(&root(&[])).unwrap(), None);
    // Links that lead nowhere or round and round, and a directory in a file's place.
    let mut strange = root(&[("/etc/os-release", "-> os-release"), ("/etc/fstab", "x y")]);
    strange.mkdir(&path("/etc/hostname"), 0o755).unwrap();
    let system = linux(&strange).unwrap().unwrap();
    assert_eq!((system.distro.as_str(), system.hostname.as_str()), ("unknown", "unknown"));
}

#[test]
fn host_names() {
    let name = |files: &[(&str, &str)]| linux(&root(files)).unwrap().unwrap().hostname;
    assert_eq!(name(&[("/etc/hosts", ""), ("/etc/hostname", "\n# x\n vm1 \n")]), "vm1");
    let g = [("/etc/hosts", ""), ("/etc/HOSTNAME", "vm2.example\n")];
    assert_eq!(name(&g), "vm2.example");
}
