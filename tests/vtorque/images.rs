//! Checks of the image file, and of images that are not Linux guests.

use super::*;

/// The image file itself: one file, qcow2, a name that vsub takes.
#[test]
fn the_image_file() {
    let world = fit_guest();
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            &name(&world.path(IMAGE)),
            "-F",
            "qcow2",
            &name(&world.path("top-debian.qcow2")),
        ],
    );
    run("qemu-img", &["convert", "-O", "raw", &name(&world.path(IMAGE)), &name(&world.path("debian.raw"))]);
    fs::copy(world.path(IMAGE), world.path("open-debian.qcow2")).unwrap();
    fs::set_permissions(world.path("open-debian.qcow2"), std::os::unix::fs::PermissionsExt::from_mode(0o646)).unwrap();
    fs::copy(world.path(IMAGE), world.path("centos.qcow2")).unwrap();
    fs::copy(world.path(IMAGE), world.path("my debian.qcow2")).unwrap();
    for (image, wanted) in [
        ("top-debian.qcow2", "fail    VT-IMG-SELF"),
        ("debian.raw", "warn    VT-IMG-FORMAT"),
        ("debian.raw", "warn    VT-IMG-NAME"),
        ("centos.qcow2", "warn    VT-IMG-NAME"),
        ("my debian.qcow2", "warn    VT-IMG-NAME"),
        ("open-debian.qcow2", "warn    VT-IMG-NAME"),
        (IMAGE, "pass    VT-IMG-NAME"),
    ] {
        let table = text(&world.imgsh(&["--ro", "-a", image, "vtorque-check"]).stdout);
        assert!(table.lines().any(|line| line.starts_with(wanted)), "{image} {wanted}: {table}");
    }
}

/// An image whose disk cannot be opened is judged by its header: a copy of it would not be whole. What is on it is unknown.
#[test]
fn images_that_cannot_be_opened() {
    let world = World::new();
    let path = |file: &str| name(&world.path(file));
    run("qemu-img", &["create", "-q", "-f", "raw", &path("base.raw"), "1M"]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &path("base.raw"), "-F", "raw", &path("top-debian.qcow2")]);
    let data = format!("data_file={}", path("data.raw"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data, &path("outside-debian.qcow2"), "1M"]);
    fs::remove_file(world.path("base.raw")).unwrap();
    fs::remove_file(world.path("data.raw")).unwrap();
    let secret =
        ["--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    run("qemu-img", &[&["create", "-q", "-f", "qcow2"], &secret[..], &[&path("locked-debian.qcow2"), "1M"]].concat());
    for (image, why) in [
        ("top-debian.qcow2", "its backing file"),
        ("outside-debian.qcow2", "its data file"),
        ("locked-debian.qcow2", "it is encrypted (luks)"),
    ] {
        let output = world.imgsh(&["-a", image, "vtorque-check", "fix:true"]);
        let table = text(&output.stdout);
        assert!(table.contains("fail    VT-IMG-SELF"), "{table}");
        assert!(
            table.contains(&format!("unknown VT-ROOT        cannot tell: the disk cannot be opened: {why}")),
            "{table}"
        );
        let found = verdicts(&table);
        assert!(found.iter().all(|(id, verdict)| id.starts_with("VT-IMG") || verdict == "unknown"), "{table}");
        assert_eq!(output.status.code(), Some(1), "{table}");
        // Any other command needs the disk.
        assert!(!world.imgsh(&["--ro", "-a", image, "run"]).status.success());
    }
    // Damage that keeps it from being opened makes all unknown.
    run("qemu-img", &["create", "-q", "-f", "qcow2", &path("short-debian.qcow2"), "1G"]);
    fs::File::options().write(true).open(world.path("short-debian.qcow2")).unwrap().set_len(131_072).unwrap();
    let output = world.imgsh(&["-a", "short-debian.qcow2", "vtorque-check"]);
    assert!(text(&output.stdout).contains("unknown VT-ROOT        cannot tell: the disk cannot be opened: "));
    assert_eq!(output.status.code(), Some(3));
    // A root that may be behind a lock is not said to be missing.
    fs::write(world.path("key"), "x").unwrap();
    fs::write(world.path("luks-debian.img"), vec![0; 8 << 20]).unwrap();
    let luks = ["luksFormat", "--batch-mode", "--type", "luks1", "--iter-time", "10"];
    run("cryptsetup", &[&luks[..], &[&path("luks-debian.img"), &path("key")]].concat());
    let output = world.imgsh(&["--ro", "-a", "luks-debian.img", "vtorque-check"]);
    let table = text(&output.stdout);
    assert!(table.starts_with("unknown VT-ROOT        cannot tell: the root may be on an encrypted volume"), "{table}");
    assert_eq!(output.status.code(), Some(3), "{table}");
}

/// `disk-info` reads headers of images that cannot be opened, and refuses broken ones.
#[test]
fn headers_without_opening() {
    let world = World::new();
    let luks = name(&world.path("luks.qcow2"));
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "--object",
            "secret,id=s,data=x",
            "-f",
            "qcow2",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            &luks,
            "1M",
        ],
    );
    let data = name(&world.path("data.raw"));
    let with_data = name(&world.path("with-data.qcow2"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &format!("data_file={data}"), &with_data, "1M"]);
    assert!(world.good(&["disk-info", "luks.qcow2"]).contains("encryption: luks\n"));
    assert!(world.good(&["disk-info", "with-data.qcow2"]).contains(&format!("data-file: {data}\n")));
    let header = fs::read(&with_data).unwrap();
    for len in [4, 71, 103, 104, 110, 150] {
        fs::write(world.path("short.qcow2"), &header[..len]).unwrap();
        let output = world.imgsh(&["disk-info", "short.qcow2"]);
        assert_eq!(output.status.success(), len >= 104, "{len}");
    }
    for at in 8..112 {
        let mut broken = header.clone();
        broken[at] ^= 0xff;
        fs::write(world.path("broken.qcow2"), &broken[..4096]).unwrap();
        assert!(matches!(world.imgsh(&["disk-info", "broken.qcow2"]).status.code(), Some(0 | 1)), "{at}");
    }
}

/// OSv by its layout: the command line, and what its root has.
#[test]
fn osv_images() {
    let world = World::new();
    let mut disk = vec![0; 64 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let sectors = (disk.len() / 512 - 4096) as u32;
    let entry = [&[0x80, 0, 0, 0, 0x83, 0, 0, 0][..], &4096_u32.to_le_bytes(), &sectors.to_le_bytes()].concat();
    disk[462..478].copy_from_slice(&entry);
    disk[65536..65540].copy_from_slice(b"\x7fELF");
    fs::write(world.path("osv.img"), &disk).unwrap();
    world.good(&["-a", "osv.img", "run", ":", "osv-command-line", "/usr/mgmt/cloud-init.so; /app --file x"]);
    let verdict = |id: &str| {
        let table = text(&world.imgsh(&["--ro", "-a", "osv.img", "vtorque-check"]).stdout);
        let found = verdicts(&table).into_iter().find(|(known, _)| known == id);
        found.unwrap_or_else(|| panic!("{id}: {table}")).1
    };
    // No file system that can be read: only the command line is known.
    assert_eq!(["VT-OS", "VT-O-CMD", "VT-O-ISO"].map(verdict), ["pass", "pass", "unknown"]);
    fs::write(
        world.path("root.gfs"),
        "run\nmkfs ext4 /dev/sda2\nmount /dev/sda2 /\nmkdir-p /usr/bin\ntouch /usr/bin/iso-read.so\nmkdir /init\nmkdir /etc\n\
         write /etc/hosts \"127.0.0.1 localhost\\n\"\nwrite /s \"/usr/mgmt/cloud-init.so; /app\\n\"\nwrite /init/30-cloud-init \"/usr/mgmt/cloud-init.so\"\n",
    )
    .unwrap();
    world.good(&["-a", "osv.img", "-f", "root.gfs"]);
    assert_eq!(["VT-O-ISO", "VT-O-HTTP", "VT-O-NFS"].map(verdict), ["pass", "fail", "warn"]);
    // A root of the other kinds: ROFS is read, ZFS is named.
    let folder = world.path("root");
    for path in ["usr/bin", "tools", "init", "workspace", "home", "opt-hpc"] {
        fs::create_dir_all(folder.join(path)).unwrap();
    }
    for path in ["usr/bin/iso-read.so", "libhttpserver-api.so", "tools/mount-nfs.so"] {
        fs::write(folder.join(path), "x").unwrap();
    }
    fs::write(folder.join("init/30-cloud-init"), "/usr/mgmt/cloud-init.so\n").unwrap();
    let with_root = |at: usize, bytes: &[u8]| {
        let mut image = disk.clone();
        image[512..516].copy_from_slice(b"/app");
        image[4096 * 512 + at..][..bytes.len()].copy_from_slice(bytes);
        fs::write(world.path("other-osv.img"), image).unwrap();
        text(&world.imgsh(&["--ro", "-a", "other-osv.img", "vtorque-check"]).stdout)
    };
    let table = with_root(0, &oracle::rofs::image(&folder));
    let found: Vec<_> = verdicts(&table).into_iter().filter(|(id, _)| id.starts_with("VT-O-")).collect();
    let wanted = [("CMD", "pass"), ("ISO", "pass"), ("HTTP", "pass"), ("NFS", "pass"), ("PING", "warn")];
    assert_eq!(found, wanted.map(|(id, verdict)| (format!("VT-O-{id}"), verdict.to_string())), "{table}");
    let uberblock = [&0x00ba_b10c_u64.to_le_bytes()[..], &[0; 1016]].concat();
    let table = with_root(128 * 1024, &uberblock.repeat(8));
    assert!(table.contains("unknown VT-O-ISO       cannot tell: the root cannot be read: "), "{table}");
    assert!(table.contains("zfs"), "{table}");
    for (line, wanted) in [
        ("/usr/mgmt/cloud-init.so --server http://x/ ; /app", "fail"),
        ("/usr/mgmt/cloud-init.so&/app --server x", "pass"),
        ("/app", "pass"),
        ("/app --noinit", "pass"),
        ("--noinit /app /usr/mgmt/cloud-init.so", "fail"),
        ("--noinit /not-cloud-init.so", "fail"),
        ("--noinit --ip=eth0,10.0.0.2 /usr/mgmt/cloud-init.so & /app", "pass"),
        ("/usr/mgmt/cloud-init.so --help", "fail"),
        ("--nomount /usr/mgmt/cloud-init.so", "fail"),
        ("--noinit java /usr/mgmt/cloud-init.so", "fail"),
        ("--noinit --env=A=/x/y.so /usr/mgmt/cloud-init.so! /app", "pass"),
        ("runscript /s", "pass"),
        ("--noinit runscript /s", "pass"),
        ("--noinit --hostname=/usr/mgmt/cloud-init.so /app", "fail"),
        ("--noinit /app", "fail"),
    ] {
        fs::write(world.path("line.gfs"), format!("run\nosv-command-line \"{line}\"\n")).unwrap();
        world.good(&["-a", "osv.img", "-f", "line.gfs"]);
        assert_eq!(world.good(&["--ro", "-a", "osv.img", "run", ":", "osv-command-line"]), format!("{line}\n"));
        assert_eq!(verdict("VT-O-CMD"), wanted, "{line}");
    }
    // What /init starts may be told to read something else, too.
    let with_init = |line: &str| {
        fs::write(folder.join("init/30-cloud-init"), format!("{line}\n")).unwrap();
        verdicts(&with_root(0, &oracle::rofs::image(&folder)))
    };
    for (line, wanted) in [
        ("/usr/mgmt/cloud-init.so --file /x", "fail"),
        ("#/usr/mgmt/cloud-init.so", "fail"),
        ("/usr/mgmt/cloud-init.so", "pass"),
    ] {
        assert!(with_init(line).contains(&("VT-O-CMD".into(), wanted.into())), "{line}");
    }
    // OSv mounts only on folders that are there.
    for point in ["workspace", "home", "opt-hpc"] {
        fs::remove_dir(folder.join(point)).unwrap();
        assert!(with_init("/usr/mgmt/cloud-init.so").contains(&("VT-O-NFS".into(), "warn".into())), "{point}");
        fs::create_dir(folder.join(point)).unwrap();
    }
    // Nothing but the text has changed, and what follows it is NUL.
    let now = fs::read(world.path("osv.img")).unwrap();
    assert_eq!(&now[512..512 + 15], b"--noinit /app\0\0".get(..15).unwrap());
    assert!(now[..510] == disk[..510] && now[65536..65540] == disk[65536..65540]);
    // There is nothing to mend: the second look is as the first.
    let fixed = text(&world.imgsh(&["-a", "osv.img", "vtorque-check", "fix:all"]).stdout);
    assert!(fixed.contains("pass    VT-OS          family osv"), "{fixed}");
    assert!(fs::read(world.path("osv.img")).unwrap() == now);
    let long = "x".repeat(32256);
    assert!(!world.imgsh(&["-a", "osv.img", "run", ":", "osv-command-line", &long]).status.success());
    let part = world.path("part");
    fs::write(&part, &now[4096 * 512..]).unwrap();
    assert_clean(&part, "the root");
}
