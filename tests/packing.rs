//! `app-install`, `clean` and `elf-dynamic`, judged by debugfs, e2fsck, tar and readelf.

mod oracle;

use std::fs;
use std::process::Command;

use oracle::run;
use oracle::world::{World, name, script, text};

const IMAGE: &str = "guest-debian.qcow2";

fn guest() -> World {
    let world = World::new();
    world.good(&["-f", &script("small-guest.gfs")]);
    world
}

fn judged(world: &World) -> String {
    let part = world.part(IMAGE, 67_584..522_241);
    oracle::assert_clean(&part, "the guest");
    name(&part)
}

/// A tree as makers of applications leave it, with a program of the host in it.
fn application(world: &World) {
    for folder in ["tool/bin", "tool/lib", "tool/tool", "tool/share/man"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    fs::copy("/bin/ls", world.path("tool/bin/list")).unwrap();
    fs::write(world.path("tool/bin/run"), "#!/bin/sh\nexec /opt/tool/bin/list /opt/tool\n").unwrap();
    fs::write(world.path("tool/tool/data"), vec![9; 70_000]).unwrap();
    std::os::unix::fs::symlink("run", world.path("tool/bin/start")).unwrap();
    run("chmod", &["0750", &name(&world.path("tool/bin/run"))]);
    run("touch", &["-d", "2001-02-03 04:05:06 UTC", &name(&world.path("tool/tool/data"))]);
}

#[test]
fn folders_and_archives() {
    for archive in [None, Some("tool.tar.gz"), Some("tool.tar.zst")] {
        let world = guest();
        application(&world);
        let local = match archive {
            None => "tool".to_string(),
            Some(file) => {
                let flag = if file.ends_with("gz") { "-z" } else { "--zstd" };
                run("tar", &["-C", &name(&world.path("tool")), "-c", flag, "-f", &name(&world.path(file)), "."]);
                file.to_string()
            }
        };
        let report = world.good(&["-a", IMAGE, "-i", "app-install", &local, "tool", "version:1.2"]);
        assert!(report.contains("put 3 files, ") && report.contains(" into /opt-vm/tool/1.2\n"), "{report}");
        // The small guest has no libraries at all.
        assert!(report.contains("missing: libc.so.6, needed by /opt-vm/tool/1.2/bin/list\n"), "{report}");
        assert!(report.contains("still names /opt: /opt-vm/tool/1.2/bin/run\n"), "{report}");
        let part = judged(&world);
        let stat = |path: &str| run("debugfs", &["-R", &format!("stat {path}"), &part]);
        let script = stat("/opt-vm/tool/1.2/bin/run");
        assert!(script.contains("Mode:  0750") && script.contains("User:     0   Group:     0"), "{script}");
        assert!(stat("/opt-vm/tool/1.2/bin/start").contains("Fast link dest: \"run\""));
        assert!(
            stat("/opt-vm/tool/1.2/tool/data").contains("mtime: 0x3a7b8372"),
            "{}",
            stat("/opt-vm/tool/1.2/tool/data")
        );
        let cat = |path: &str| run("debugfs", &["-R", &format!("cat {path}"), &part]);
        assert!(
            cat("/etc/profile.d/tool.sh")
                .starts_with("PATH=/opt-vm/tool/1.2/bin:$PATH\nexport PATH\nLD_LIBRARY_PATH=/opt-vm/tool/1.2/lib$")
        );
        assert_eq!(cat("/etc/ld.so.conf.d/tool.conf"), "/opt-vm/tool/1.2/lib\n");
        assert!(cat("/opt-vm/modulefiles/tool/1.2").starts_with("#%Module1.0\n"));
        let profile = world.path("profile.sh");
        fs::write(&profile, cat("/etc/profile.d/tool.sh")).unwrap();
        run("sh", &["-n", &name(&profile)]);

        let before = fs::read(world.path(IMAGE)).unwrap();
        let twice = world.imgsh(&["-a", IMAGE, "-i", "app-install", &local, "tool", "version:1.2"]);
        assert!(text(&twice.stderr).contains("/opt-vm/tool/1.2 is there already"), "{}", text(&twice.stderr));
        assert!(before == fs::read(world.path(IMAGE)).unwrap(), "a failing command wrote to the image");
        for wrong in ["../x", "a/b", ".x", ""] {
            assert!(!world.imgsh(&["-a", IMAGE, "-i", "app-install", &local, wrong]).status.success(), "{wrong}");
        }
        let report = world.good(&["-a", IMAGE, "-i", "app-install", &local, "tool2", "relocate:true"]);
        assert!(!report.contains("relocated"), "{report}");
        world.good(&["-a", IMAGE, "-i", "rm-rf", "/opt-vm/tool"]);
        let report = world.good(&["-a", IMAGE, "-i", "app-install", &local, "tool", "relocate:true"]);
        assert!(report.contains("relocated /opt-vm/tool/bin/run\n") && !report.contains("still names"), "{report}");
        let part = judged(&world);
        let script = run("debugfs", &["-R", "cat /opt-vm/tool/bin/run", &part]);
        assert_eq!(script, "#!/bin/sh\nexec /opt-vm/tool/bin/list /opt-vm/tool\n");
        assert!(run("debugfs", &["-R", "stat /opt-vm/tool/bin/run", &part]).contains("Mode:  0750"));
    }
}

#[test]
fn cleaning_twice_finds_nothing() {
    let world = guest();
    fs::write(
        world.path("dirt.gfs"),
        "mkdir-p /var/cache/apt/archives/partial\nwrite /var/cache/apt/archives/a.deb 12345\ntouch /var/cache/apt/archives/lock\n\
         mkdir-p /var/log/a\nwrite /var/log/a/syslog text\nchmod 0600 /var/log/a/syslog\nwrite /var/log/a/syslog.1 old\nwrite /var/log/b.gz z\n\
         mkdir-p /tmp/x/y\ntouch /tmp/x/y/z\nmkdir-p /home/u\nwrite /home/u/.bash_history ls\nwrite /root/.bash_history ls\nwrite /home/u/keep me\n\
         write /etc/passwd \"root:x:0:0:root:/root:/bin/bash\\nu:x:1000:1000::/home/u:/bin/sh\\n\"\nwrite /etc/machine-id 0123\n\
         write /etc/ssh/ssh_host_rsa_key k\nwrite /etc/ssh/ssh_host_rsa_key.pub k\nwrite /etc/ssh/sshd_config c\n\
         mkdir-p /var/lib/cloud/instances/i-1\nln-s instances/i-1 /var/lib/cloud/instance\nmkdir-p /etc/udev/rules.d\nwrite /etc/udev/rules.d/70-persistent-net.rules r\n",
    )
    .unwrap();
    world.good(&["-a", IMAGE, "-i", "-f", "dirt.gfs"]);
    assert_eq!(world.good(&["-a", IMAGE, "-i", "clean", "udev-net"]), "udev-net      1 path, 1 bytes\n");
    let report = world.good(&["-a", IMAGE, "-i", "clean"]);
    for line in [
        "package-cache 1 path, 5 bytes",
        "logs          3 paths, 8 bytes",
        "tmp           1 path, 0 bytes",
        "histories     2 paths, 4 bytes",
        "machine-id    1 path, 4 bytes",
        "host-keys     2 paths, 2 bytes",
        "cloud-init    2 paths, 0 bytes",
    ] {
        assert!(report.lines().any(|found| found == line), "{line}: {report}");
    }
    let part = judged(&world);
    let names = |folder: &str| run("debugfs", &["-R", &format!("ls -p {folder}"), &part]);
    assert!(names("/home/u").contains("/keep/") && !names("/home/u").contains("history"));
    assert!(names("/etc/ssh").contains("sshd_config") && !names("/etc/ssh").contains("ssh_host"));
    assert!(names("/var/log/a").contains("/syslog/") && !names("/var/log/a").contains("syslog.1"));
    assert!(names("/var/cache/apt/archives").contains("/lock/"));
    assert!(run("debugfs", &["-R", "stat /var/log/a/syslog", &part]).contains("Mode:  0600"));
    let once = fs::read(world.path(IMAGE)).unwrap();
    assert_eq!(world.good(&["-a", IMAGE, "-i", "clean"]), "nothing to clean\n");
    assert!(once == fs::read(world.path(IMAGE)).unwrap(), "the second run wrote");
    let wrong = world.imgsh(&["-a", IMAGE, "-i", "clean", "logs", "all"]);
    assert!(text(&wrong.stderr).contains("clean: all is not known"), "{}", text(&wrong.stderr));
}

/// Programs and libraries of this host, as readelf has them, and the same with every byte of their first block turned over.
#[test]
fn dynamic_sections() {
    let world = guest();
    let Ok(found) = Command::new("readelf").arg("--version").output() else {
        eprintln!("skipped: no readelf here (package binutils)");
        return;
    };
    assert!(found.status.success());
    for file in ["/bin/ls", "/bin/sh", "/usr/bin/env", env!("CARGO_BIN_EXE_imgsh")] {
        fs::copy(file, world.path("program")).unwrap();
        world.good(&["-a", IMAGE, "-i", "upload", "program", "/program"]);
        let shown = world.good(&["--ro", "-a", IMAGE, "-i", "elf-dynamic", "/program"]);
        let mut real: Vec<String> = Vec::new();
        for line in run("readelf", &["-dW", file]).lines() {
            for word in ["NEEDED", "SONAME", "RPATH", "RUNPATH"] {
                if line.contains(&format!("({word})")) {
                    let text = line.split_once('[').unwrap().1.trim_end_matches(']');
                    real.push(format!("{word} {text}"));
                }
            }
        }
        assert_eq!(shown.lines().collect::<Vec<_>>(), real, "{file}");
    }
    let mut lines = String::new();
    for at in 0..120 {
        lines += &format!("pwrite /program \"\\xff\\x7f\" {at}\n-elf-dynamic /program\n");
    }
    fs::write(world.path("turn.gfs"), lines).unwrap();
    world.good(&["--dry-run", "-a", IMAGE, "-i", "-f", "turn.gfs"]);
}
