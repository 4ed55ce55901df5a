//! What `diff`, `map`, `status` and `tree` show, on images of both formats, and that looking changes nothing.

mod oracle;

use std::fs;

use oracle::world::{World, name, text};
use oracle::{assert_clean, run};

/// A disk with one ext4 file system and a little tree, committed.
fn made(world: &World, format: &str) -> String {
    let image = format!("disk.{format}");
    fs::write(
        world.path("make.gfs"),
        format!(
            "disk-create {image} {format} 64M\nadd {image}\nrun\npart-disk /dev/sda mbr\nmkfs ext4 /dev/sda1 label:root\nmount /dev/sda1 /\n\
             mkdir-p /d/e\nwrite /d/e/f hello\nln-s e /d/l\nwrite /motd \"one\\ntwo\\n\"\nfill 7 300000 /big\n"
        ),
    )
    .unwrap();
    world.good(&["-f", "make.gfs"]);
    image
}

#[test]
fn differences_by_kind() {
    for format in ["raw", "qcow2"] {
        let world = World::new();
        let image = made(&world, format);
        let diff = |lines: &str| {
            fs::write(world.path("a.gfs"), format!("{lines}diff\n")).unwrap();
            world.good(&["--dry-run", "-a", &image, "-m", "/dev/sda1", "-f", "a.gfs"])
        };
        let before = fs::read(world.path(&image)).unwrap();
        for (lines, wanted) in [
            ("", ""),
            ("touch /motd\n", ""),
            ("write /motd \"one\\ntwo\\n\"\n", ""),
            ("mkdir /x\nrmdir /x\n", ""),
            ("mkdir /d.a\nmkdir /d/a\n", "A /d/a\nA /d.a\n"),
            ("rm-rf /d\n", "D /d\nD /d/e\nD /d/e/f\nD /d/l\n"),
            ("chmod 0600 /d/e/f\n", "M /d/e/f (mode 0644 -> 0600)\n"),
            ("chown 1 2 /d\n", "M /d (owner 0:0 -> 1:2)\n"),
            ("setxattr user.a b 1 /motd\n", "M /motd (extended attributes)\n"),
            ("rm /d/l\nln-s motd /d/l\n", "M /d/l (link e -> motd)\n"),
            ("rm /motd\nmkdir /motd\n", "M /motd (type r -> d, mode 0644 -> 0755)\n"),
            ("pwrite /big x 299999\n", "1\nM /big (content)\n"),
            ("write /d/e/f \"\\xff\\x01\"\n", "M /d/e/f (size 5 -> 2)\n  binary files differ\n"),
            ("mv /motd /m\n", "A /m\nD /motd\n"),
            (
                "write /motd \"one\\n2\\n\"\n",
                "M /motd (size 8 -> 6)\n--- /motd\n+++ /motd\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n",
            ),
            ("write \"/a\\nb\" x\n", "A /a\\x0ab\n"),
        ] {
            assert_eq!(diff(lines).trim_end_matches('\n'), wanted.trim_end_matches('\n'), "{format}: {lines}");
        }
        assert!(before == fs::read(world.path(&image)).unwrap(), "looking changed the image");
    }
}

/// A new partition table, a new file system: all that is seen is new.
#[test]
fn differences_to_nothing() {
    let world = World::new();
    let image = made(&world, "qcow2");
    fs::write(world.path("a.gfs"), "run\nmkfs ext4 /dev/sda1\nmount /dev/sda1 /\nmkdir /new\ndiff\n").unwrap();
    let shown = world.good(&["--dry-run", "-a", &image, "-f", "a.gfs"]);
    assert!(shown.contains("A /new\n") && shown.contains("D /d/e/f\n"), "{shown}");
}

#[test]
fn trees() {
    let world = World::new();
    let image = made(&world, "raw");
    let shown = |words: &[&str]| world.good(&[&["--ro", "-a", &image, "-m", "/dev/sda1"], words].concat());
    let whole = "/\n├── big\n├── d\n│   ├── e\n│   │   └── f\n│   └── l -> e\n├── lost+found\n└── motd\n\n3 directories, 4 files\n";
    assert_eq!(shown(&["tree", "/"]), whole);
    assert_eq!(shown(&["tree", "/d", "depth:1"]), "/d\n├── e\n└── l -> e\n\n1 directory, 1 file\n");
    assert_eq!(shown(&["tree", "/d", "depth:0"]), "/d\n\n0 directories, 0 files\n");
    let wrong = world.imgsh(&["--ro", "-a", &image, "-m", "/dev/sda1", "tree", "/motd/x"]);
    assert!(text(&wrong.stderr).contains("tree: /motd/x: Not a directory"), "{}", text(&wrong.stderr));
}

#[test]
fn maps_and_status() {
    let world = World::new();
    let image = made(&world, "qcow2");
    let shown = world.good(&["-a", &image, "-m", "/dev/sda1", "mkdir", "/x", ":", "map", ":", "status"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "/dev/sda  64M  mbr");
    assert_eq!(lines[1], format!("[{}]", "1".repeat(60)));
    assert!(
        lines[2].starts_with("1 /dev/sda1") && lines[2].contains("ext4     root") && lines[2].ends_with("used on /"),
        "{shown}"
    );
    assert!(lines[3].starts_with("/dev/sda: ") && lines[3].ends_with("disk.qcow2 (qcow2, 64M)"), "{shown}");
    assert!(lines[4].ends_with(" bytes staged") && lines[5] == "/dev/sda1 on /", "{shown}");
    assert_eq!(lines[6], "1 step is staged: 'diff' shows what it changes");
    run("qemu-img", &["convert", "-O", "raw", &name(&world.path(&image)), &name(&world.path("judge.raw"))]);
    let bytes = fs::read(world.path("judge.raw")).unwrap();
    fs::write(world.path("part"), &bytes[128 * 512..bytes.len() - 128 * 512]).unwrap();
    assert_clean(&world.path("part"), "the disk");
    // Disks without partitions, and more of them than there are marks.
    fs::write(
        world.path("many.gfs"),
        "disk-create many raw 64M\nadd many\nrun\npart-init /dev/sda gpt\n".to_string()
            + (0..40)
                .map(|i| format!("part-add /dev/sda p {} {}\n", 2048 + i * 2048, 2048 + i * 2048 + 1023))
                .collect::<String>()
                .as_str()
            + "map\n",
    )
    .unwrap();
    let shown = world.good(&["-f", "many.gfs"]);
    assert!(shown.contains("# /dev/sda40") && shown.contains("z /dev/sda35"), "{shown}");
}

/// Two images of the same tree with other numbers, times, formats and partitions: only what differs is told.
#[test]
fn differences_between_images() {
    let world = World::new();
    let tree = "mkdir-p /etc/deep\nwrite /etc/os-release \"ID=debian\\nPRETTY_NAME=\\\"Debian 12\\\"\\n\"\nmkdir-p /usr/bin\nwrite /etc/a one\n\
                write /etc/deep/b \"two\\nlines\\n\"\nln-s a /etc/l\nmkdir-p /var/lib/dpkg\nwrite /var/lib/dpkg/status \"\"\nmkdir /bin\n";
    let part = "part-add /dev/sda p";
    let first = format!("run\npart-init /dev/sda mbr\n{part} 2048 -1\nmkfs ext4 /dev/sda1\nmount /dev/sda1 /\n{tree}");
    // Nodes with other numbers, and a root elsewhere.
    let second = format!(
        "run\npart-init /dev/sda gpt\n{part} 2048 22527\n{part} 22528 -34\nmkfs vfat /dev/sda1\nmkfs ext4 /dev/sda2 blocksize:1024\n\
         mount /dev/sda2 /\nmkdir /tmp\nwrite /tmp/x y\nrm-rf /tmp\n{tree}utimens /etc/a 1 0 1 0\n"
    );
    for (image, format, lines) in [("a.raw", "raw", &first), ("b.qcow2", "qcow2", &second)] {
        world.good(&["disk-create", image, format, "64M"]);
        fs::write(world.path("make.gfs"), lines).unwrap();
        world.good(&["-a", image, "-f", "make.gfs"]);
    }
    let diff = |lines: &str| {
        fs::write(world.path("diff.gfs"), format!("{lines}diff-image b.qcow2\n")).unwrap();
        world.good(&["--dry-run", "-a", "a.raw", "-i", "-f", "diff.gfs"])
    };
    assert_eq!(diff("").trim_end(), "");
    let changes = "chmod 0600 /etc/a\nchown 5 6 /etc/deep\nwrite /etc/deep/b \"two\\nwords\\n\"\nln-sf b /etc/l\nrmdir /bin\n\
                   mkdir /new\ntouch /new/f\nlsetxattr user.x y 1 /etc/os-release\n";
    let wanted = "D /bin\nM /etc/a (mode 0644 -> 0600)\nM /etc/deep (owner 0:0 -> 5:6)\nM /etc/deep/b (content)\n\
                  --- /etc/deep/b\n+++ /etc/deep/b\n@@ -1,2 +1,2 @@\n two\n-lines\n+words\nM /etc/l (link a -> b)\n\
                  M /etc/os-release (extended attributes)\nA /new\nA /new/f";
    assert_eq!(diff(changes).trim_end(), wanted);
    // The devices of the same names, where no operating system is meant.
    world.good(&["disk-convert", "a.raw", "c.qcow2", "qcow2"]);
    let by_name = world.good(&["--ro", "-a", "a.raw", "-m", "/dev/sda1", "diff-image", "c.qcow2", "/etc"]);
    assert_eq!(by_name.trim_end(), "");
    world.good(&["disk-create", "empty.raw", "raw", "1M"]);
    let wrong = world.imgsh(&["--ro", "-a", "a.raw", "-i", "diff-image", "empty.raw"]);
    assert!(text(&wrong.stderr).contains("0 operating systems were found in it"), "{}", text(&wrong.stderr));
}
