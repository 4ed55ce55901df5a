//! `vtorque-check`: what `fix` mends, the document, the exit status; decoys, image files and the real cloud-init in their own files.

mod cloud_init;
mod ds_identify;
mod guests;
mod images;
#[path = "../oracle/mod.rs"]
mod oracle;
mod presets;

use std::fs;
use std::process::Command;

use oracle::world::{World, name, script, text};
use oracle::{assert_clean, run};

const IMAGE: &str = "guest-debian.qcow2";
const DECOY: &str = "decoy-debian.qcow2";
/// Mends the base guest, which quickstart shows with two faults.
const FIT: &str = "-a guest-debian.qcow2 -i vtorque-check fix:true";

/// The small guest of `scripts/small-guest.gfs`, fit for vTorque.
fn fit_guest() -> World {
    let world = World::new();
    world.good(&["-f", &script("small-guest.gfs")]);
    let table = world.good(&FIT.split(' ').collect::<Vec<_>>());
    assert!(table.ends_with("overall: pass\n"), "{table}");
    world
}

/// Makes the decoy: the guest with lines run on it.
fn decoy(world: &World, lines: &str) {
    fs::copy(world.path(IMAGE), world.path(DECOY)).unwrap();
    fs::write(world.path("decoy.gfs"), lines).unwrap();
    world.good(&["-a", DECOY, "-m", "/dev/sda2", "-f", "decoy.gfs"]);
}

/// The check's table and exit status.
fn checked(world: &World, words: &[&str]) -> (String, Option<i32>) {
    let output = world.imgsh(&[&["-a", DECOY, "vtorque-check"], words].concat());
    (text(&output.stdout), output.status.code())
}

/// `VERDICT ID` of each line of a table.
fn verdicts(table: &str) -> Vec<(String, String)> {
    let verdict = |line: &&str| line.len() > 23 && line[8..].starts_with("VT-");
    table.lines().filter(verdict).map(|line| (line[8..23].trim().to_string(), line[..8].trim().to_string())).collect()
}

/// The root file system of an image, clean by e2fsck.
fn judged(world: &World, image: &str) -> String {
    let part = world.part(image, 67_584..522_241);
    assert_clean(&part, "the guest");
    name(&part)
}

#[test]
fn quickstart_makes_a_guest_that_fits() {
    let world = World::new();
    let folder = name(world.folder.path());
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let ran = std::process::Command::new(script("quickstart"))
        .arg(&folder)
        .env("IMGSH", env!("CARGO_BIN_EXE_imgsh"))
        .env("PATH", path)
        .output()
        .unwrap();
    let output = text(&ran.stdout);
    assert!(ran.status.success(), "{output}{}", text(&ran.stderr));
    assert!(output.contains("fix     VT-CI-NOCLOUD  put NoCloud first in the datasource list"), "{output}");
    assert!(output.contains("overall: pass"), "{output}");
    assert!(output.contains("read back in a new run:\n/dev/sda2: /\n/dev/sda1: /boot/efi\nhello\n"), "{output}");

    let part = world.part(IMAGE, 67_584..522_241);
    assert_clean(&part, "the guest");
    let part = name(&part);
    run("fsck.fat", &["-n", &name(&world.part(IMAGE, 2048..67_584))]);
    assert_eq!(
        run("debugfs", &["-R", "cat /opt-vm/hello/bin/hello", &part]),
        "#!/bin/sh\necho \"hello from the guest\"\n"
    );
    assert!(run("debugfs", &["-R", "stat /opt-vm/hello/bin/hello", &part]).contains("Mode:  0755"));
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("datasource_list: [ NoCloud, ConfigDrive, Ec2 ]\n"), "{nocloud}");
    // A second run finds nothing left to mend.
    let again = world.good(&["-a", IMAGE, "vtorque-check", "fix:true"]);
    assert!(!again.contains("\nfix ") && !again.starts_with("fix ") && again.contains("overall: pass"), "{again}");
    // What would be lost is not mended.
    let refused = world.imgsh(&["--ro", "-a", IMAGE, "vtorque-check", "fix:true"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("was added read-only"), "{refused:?}");
}

/// `fix` mends, and mends once: the second run writes nothing, and the file systems are clean.
#[test]
fn what_fix_mends() {
    let world = fit_guest();
    let faults = [
        "touch /etc/cloud/cloud-init.disabled\n",
        "chmod 0644 /usr/bin/cloud-init\n",
        "write /boot/grub/grub.cfg \"menuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r quiet cloud-init=disabled\\n}\\n\"\nwrite /etc/default/grub \"GRUB_CMDLINE_LINUX=\\\"quiet cloud-init=disabled\\\"\\n\"\n",
        "ln-s /dev/null /etc/systemd/system/cloud-init.service\nrm /etc/systemd/system/cloud-init.target.wants/cloud-final.service\n",
        "write /etc/cloud/cloud.cfg.d/zz.cfg \"datasource_list: [ Ec2,\\n  OpenStack ]\\n\"\n",
        "write /etc/cloud/cloud.cfg.d/zz.cfg \"datasource: {NoCloud: {fs_label: x, seedfrom: y}}\\n\"\n",
        "write /etc/cloud/ds-identify.cfg \"# mine\\npolicy: disabled\\n\"\n",
        "mkdir /etc/modprobe.d\nwrite /etc/modprobe.d/x.conf \"blacklist isofs\\ninstall isofs /bin/false\\n\"\n",
        "mkdir-p /var/lib/cloud/instances/iid-local01/sem\nln-s instances/iid-local01 /var/lib/cloud/instance\n",
        "rmdir /workspace\nrmdir /home\n",
        "write /etc/default/useradd \"HOME=/srv\\n\"\n",
        "rm /etc/systemd/system/multi-user.target.wants/ssh.service\n",
        "mkdir-p /etc/sysconfig/network-scripts\nwrite /etc/sysconfig/network-scripts/ifcfg-eth0 \"BOOTPROTO=dhcp\\nHWADDR=00:11:22:33:44:55\\nUUID=1\\nONBOOT=yes\\n\"\n",
        "write /etc/machine-id \"0123456789abcdef0123456789abcdef\\n\"\ntouch /etc/ssh/ssh_host_rsa_key\ntouch /etc/ssh/ssh_host_rsa_key.pub\n",
        "write /etc/fstab \"/dev/sda2 / ext4 defaults 0 1\\n\"\n",
    ];
    for fault in faults {
        decoy(&world, fault);
        let before = checked(&world, &["--ro"]).0;
        assert!(!before.ends_with("overall: pass\n"), "{fault}{before}");
        let (table, status) = checked(&world, &["fix:true"]);
        assert!(
            status == Some(0) && table.contains("fix     VT-") && table.ends_with("overall: pass\n"),
            "{fault}{table}"
        );
        let once = fs::read(world.path(DECOY)).unwrap();
        let (again, _) = checked(&world, &["fix:true"]);
        assert!(!again.contains("fix     "), "{fault}{again}");
        assert!(once == fs::read(world.path(DECOY)).unwrap(), "{fault}: the second run wrote");
    }
    judged(&world, DECOY);
}

/// Only `fix:all` moves what somebody put there.
#[test]
fn fix_all_moves_applications() {
    let world = fit_guest();
    decoy(
        &world,
        "write /etc/cloud/cloud.cfg.d/50.cfg \"cloud_config_modules: [ [ntp, always], x ]\\ncloud_init_modules: null\\n\"\n\
         mkdir-p /opt/tool/bin\nwrite /opt/tool/bin/run \"abc\"\nchmod 0750 /opt/tool/bin/run\nchown 5 6 /opt/tool/bin/run\nrmdir /workspace\nln-s /srv /workspace\n",
    );
    let before = fs::read(world.path(DECOY)).unwrap();
    let (table, status) = checked(&world, &["fix:true"]);
    assert!(status == Some(1) && table.contains("1 files below /opt will be hidden"), "{table}");
    assert!(before == fs::read(world.path(DECOY)).unwrap(), "a failing check wrote to the image");
    let (table, status) = checked(&world, &["fix:all"]);
    assert!(status == Some(0) && table.ends_with("overall: pass\n"), "{table}");
    let part = judged(&world, DECOY);
    let stat = run("debugfs", &["-R", "stat /opt-vm/tool/bin/run", &part]);
    assert!(stat.contains("Mode:  0750") && stat.contains("User:     5   Group:     6"), "{stat}");
    assert!(run("debugfs", &["-R", "stat /workspace", &part]).contains("Type: directory"));
    let modules = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud_modules.cfg", &part]);
    assert!(
        modules.contains("\ncloud_init_modules: [ bootcmd, write_files, mounts, set_hostname, ssh ]\n"),
        "{modules}"
    );
    assert!(modules.ends_with("\ncloud_config_modules: [ [ntp, always], x, runcmd ]\n"), "{modules}");
    let once = fs::read(world.path(DECOY)).unwrap();
    checked(&world, &["fix:all"]);
    assert!(once == fs::read(world.path(DECOY)).unwrap(), "the second run wrote");
}

/// An edit touches what it names and nothing else: other names of a file, what links lead to, lines, line ends and bytes that it does not know. One that
/// cannot be made keeps none of the others from being made.
#[test]
fn fix_harms_nothing() {
    let world = fit_guest();
    fs::write(world.path("latin1"), b"# Datentr\xe4ger\n/dev/sda3 /data ext4 defaults 0 0\n").unwrap();
    fs::write(world.path("passwd"), b"root:x:0:0:r\xe9:/root:/bin/sh\nu:x:1:1:\xe9\xe8:/srv:/bin/sh\n").unwrap();
    decoy(
        &world,
        "write /etc/default/useradd \"SHELL=/bin/sh\\r\\nHOME=/srv\"\nln /etc/default/useradd /etc/other\n\
         chmod 0640 /etc/default/useradd\nchown 5 6 /etc/default/useradd\nsetxattr user.a 1 1 /etc/default/useradd\n\
         upload latin1 /etc/fstab\nupload passwd /etc/passwd\n\
         write /etc/cloud/cloud.cfg.d/50.cfg \"datasource_list: [ Ec2,\\n  OpenStack ]\\n\"\n\
         mkdir /dev\nmknod-c 0666 1 3 /dev/null\nln-sf /dev/null /etc/cloud/cloud.cfg.d/99_nocloud.cfg\n\
         rm /etc/machine-id\nmkdir-p /var/lib/dbus\nwrite /var/lib/dbus/machine-id \"0123456789abcdef\\n\"\n\
         ln-s /var/lib/dbus/machine-id /etc/machine-id\n\
         mkdir-p /etc/udev/rules.d\nwrite /etc/udev/rules.d/70-persistent-net.rules \"A\\nC, \\\\\\nATTR{address}==\\\"00:11\\\", \\\\\\nNAME=\\\"e\\\"\\nB\"\n\
         rm /etc/systemd/system/multi-user.target.wants/ssh.service\nmkdir /etc/systemd/system/multi-user.target.wants/ssh.service\n\
         mkdir /srv\nwrite /srv/f x\nmkdir-p /var/lib/cloud/instances/iid-local01\nln-s /srv /var/lib/cloud/data\nln-s /srv /var/lib/cloud/instance\n\
         write /boot/grub/grub.cfg \"menuentry 'A' {\\n linux /boot/vmlinuz-6.1.0-9-amd64 overlayroot=/dev/sda2 root=/dev/sda2 ro\\n}\"\n\
         write /var/lib/random-seed x\nset-e2attrs /var/lib/random-seed i\n",
    );
    fs::write(world.path("site.rhai"), "fn checks(about, results) { results.filter(|r| r.id != \"VT-SSH\") }\n")
        .unwrap();
    let (table, status) = checked(&world, &["fix:true"]);
    assert!(
        status == Some(1)
            && table.contains("not done: /etc/systemd/system/multi-user.target.wants/ssh.service is a folder"),
        "{table}"
    );
    let (table, status) = checked(&world, &["fix:true", "profile:site.rhai"]);
    assert!(status == Some(0) && table.ends_with("overall: warn\n"), "{table}");
    assert!(table.contains("not done: ") && table.contains("immutable"), "{table}");
    let warned: Vec<_> =
        verdicts(&table).into_iter().filter(|(_, verdict)| verdict == "warn").map(|(id, _)| id).collect();
    assert_eq!(warned, ["VT-ID", "VT-VIRTIO"], "{table}");
    let part = judged(&world, DECOY);
    let cat = |path: &str| run("debugfs", &["-R", &format!("cat {path}"), &part]);
    assert_eq!(cat("/etc/default/useradd"), "SHELL=/bin/sh\r\nHOME=/home");
    assert_eq!(cat("/etc/other"), "SHELL=/bin/sh\r\nHOME=/srv");
    let stat = run("debugfs", &["-R", "stat /etc/default/useradd", &part]);
    for told in ["Mode:  0640", "User:     5   Group:     6", "Links: 1", "user.a"] {
        assert!(stat.contains(told), "{told}: {stat}");
    }
    assert!(run("debugfs", &["-R", "stat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]).contains("Type: regular"));
    assert!(run("debugfs", &["-R", "stat /dev/null", &part]).contains("Type: character"));
    assert!(run("debugfs", &["-R", "stat /etc/machine-id", &part]).contains("Type: symlink"));
    assert_eq!(cat("/var/lib/dbus/machine-id"), "");
    assert_eq!(cat("/etc/udev/rules.d/70-persistent-net.rules"), "A\nB");
    assert_eq!(cat("/srv/f"), "x");
    assert!(cat("/boot/grub/grub.cfg").contains(" overlayroot=/dev/sda2 root=PARTUUID="));
    // Without an initrd the kernel finds no file system by its UUID, but the partition by its own.
    let grub = cat("/boot/grub/grub.cfg");
    let uuid =
        grub.split("root=PARTUUID=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_uppercase();
    let info = world.good(&["--ro", "-a", DECOY, "run", ":", "part-get-gpt-guid", "/dev/sda", "2"]);
    assert_eq!(info.trim(), uuid, "{grub}");
    run("debugfs", &["-R", &format!("dump /etc/fstab {}", name(&world.path("fstab"))), &part]);
    assert_eq!(fs::read(world.path("fstab")).unwrap(), fs::read(world.path("latin1")).unwrap());
    let once = fs::read(world.path(DECOY)).unwrap();
    checked(&world, &["fix:true", "profile:site.rhai"]);
    assert!(once == fs::read(world.path(DECOY)).unwrap(), "the second run wrote");
}

/// What referred to the applications that `fix:all` moves refers to them where they are now; other paths below /opt are left to people.
#[test]
fn fix_all_changes_references() {
    let world = fit_guest();
    decoy(
        &world,
        "mkdir-p /opt/tool/bin\nwrite /opt/tool/bin/run \"x\"\nmkdir-p /etc/profile.d\nmkdir /etc/alternatives\n\
         write /etc/profile.d/a.sh \"# /opt/tool\\r\\nPATH=/opt/tool/bin:/opt/tool-2/bin:$PATH:/opt/tool\\r\\n\\r\\nA=/srv/opt/tool\"\n\
         chmod 0600 /etc/profile.d/a.sh\nchown 5 6 /etc/profile.d/a.sh\n\
         write /usr/lib/systemd/system/x.service \"[Service]\\nExecStart=/opt/tool/bin/run --in=/opt/tool\\n\"\n\
         ln-s /usr/lib/systemd/system/x.service /etc/systemd/system/multi-user.target.wants/x.service\n\
         ln-s ../../opt/tool/bin/run /usr/bin/run\nln-s /opt/tool /etc/alternatives/tool\n\
         ln-s /etc/alternatives/tool /usr/bin/tool\nln-s /opt/other /usr/bin/other\n\
         write /opt/tool/y.service \"[Service]\\nExecStart=/opt/tool/bin/run\\n\"\n\
         ln-s /opt/tool /opt/java\nln-s /opt/tool/bin/run /opt/tool/start\n\
         ln-s /opt/tool/y.service /etc/systemd/system/y.service\n\
         ln-s /opt/tool/y.service /etc/systemd/system/multi-user.target.wants/y.service\n",
    );
    let (table, status) = checked(&world, &["fix:all"]);
    assert!(status == Some(0) && table.contains("warn    VT-OPT-REF     2 places refer to"), "{table}");
    assert!(table.contains("let /etc/profile.d/a.sh refer to /opt-vm"), "{table}");
    let part = judged(&world, DECOY);
    let profile = run("debugfs", &["-R", "cat /etc/profile.d/a.sh", &part]);
    assert_eq!(
        profile,
        "# /opt/tool\r\nPATH=/opt-vm/tool/bin:/opt/tool-2/bin:$PATH:/opt-vm/tool\r\n\r\nA=/srv/opt/tool"
    );
    let stat = run("debugfs", &["-R", "stat /etc/profile.d/a.sh", &part]);
    assert!(stat.contains("Mode:  0600") && stat.contains("User:     5   Group:     6"), "{stat}");
    // The distribution's own unit stays as it was.
    for (unit, folder) in [("/etc/systemd/system/x.service", "/opt-vm"), ("/usr/lib/systemd/system/x.service", "/opt")]
    {
        let lines = run("debugfs", &["-R", &format!("cat {unit}"), &part]);
        assert_eq!(lines, format!("[Service]\nExecStart={folder}/tool/bin/run --in={folder}/tool\n"), "{unit}");
    }
    for (link, target) in [
        ("/usr/bin/run", "/opt-vm/tool/bin/run"),
        ("/etc/systemd/system/y.service", "/opt-vm/tool/y.service"),
        ("/etc/systemd/system/multi-user.target.wants/y.service", "/opt-vm/tool/y.service"),
        ("/etc/alternatives/tool", "/opt-vm/tool"),
        ("/usr/bin/tool", "/etc/alternatives/tool"),
        ("/usr/bin/other", "/opt/other"),
        ("/opt-vm/java", "/opt-vm/tool"),
        ("/opt-vm/tool/start", "/opt-vm/tool/bin/run"),
    ] {
        let stat = run("debugfs", &["-R", &format!("stat {link}"), &part]);
        assert!(stat.contains(&format!("Fast link dest: \"{target}\"")), "{stat}");
    }
    assert_eq!(
        run("debugfs", &["-R", "cat /opt-vm/tool/y.service", &part]),
        "[Service]\nExecStart=/opt-vm/tool/bin/run\n"
    );
    let once = fs::read(world.path(DECOY)).unwrap();
    checked(&world, &["fix:all"]);
    assert!(once == fs::read(world.path(DECOY)).unwrap(), "the second run wrote");
}

#[test]
fn the_check_as_a_document() {
    let world = fit_guest();

    let json = world.good(&["--ro", "-a", IMAGE, "vtorque-check", "json:true"]);
    for part in [
        r#"guest-debian.qcow2""#,
        r#""family":"debian""#,
        r#""overall":"pass""#,
        r#""id":"VT-WS""#,
        r#""severity":"error""#,
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    // Nothing but what the document is said to have; what was mended is told where something was.
    let keys: Vec<&str> =
        json.split('"').filter(|word| ["image", "family", "checks", "fixed", "mends"].contains(word)).collect();
    assert_eq!(keys, ["checks", "family", "image"], "{json}");
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "mkdir", "/opt-hpc", ":", "touch", "/opt-hpc/f"]);
    assert!(world.good(&["--ro", "-a", IMAGE, "vtorque-check"]).contains("overall: warn"));
    let strict = world.imgsh(&["--ro", "-a", IMAGE, "vtorque-check", "strict:true"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stdout).contains("overall: fail"));
}

#[test]
fn exit_status_and_usage() {
    let world = fit_guest();
    decoy(&world, "rm /boot/grub/grub.cfg\n");
    let (table, status) = checked(&world, &["--ro"]);
    assert!(status == Some(3) && table.ends_with("overall: unknown\n"), "{table}");
    // The table is the verdict; the line behind it says what ended the run, without places in the library.
    decoy(&world, "rmdir /workspace\n");
    let failed = world.imgsh(&["-a", DECOY, "vtorque-check"]);
    assert_eq!(text(&failed.stderr), "*stdin*:0: libguestfs: error: vtorque_check: 1 of 38 checks failed: VT-WS\n");
    assert!(failed.status.code() == Some(1) && text(&failed.stdout).ends_with("overall: fail\n"));
    // A wrong call is no answer about the guest.
    for words in
        [&["fix:some"][..], &["frob:1"], &["x", "y"], &["profile:nope.rhai"], &["root:/dev/sdz"], &["root:sda2"]]
    {
        let (table, status) = checked(&world, words);
        assert!(status == Some(2) && table.is_empty(), "{words:?}: {status:?} {table}");
    }
    for words in [&["--frob", "vtorque-check"][..], &["--ro", "-a", "nope.img", "vtorque-check"]] {
        assert_eq!(world.imgsh(words).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(world.imgsh(&["--ro", "-a", DECOY, "frob"]).status.code(), Some(1));
    let wrong = world.imgsh(&["--ro", "-a", DECOY, "vtorque-check", "fix:some"]);
    assert!(text(&wrong.stderr).contains("fix:some: takes true, false or all"), "{}", text(&wrong.stderr));
}

/// The same through a Rhai script, which writes nothing when something is left.
#[test]
fn prepare_as_a_script() {
    let world = World::new();
    world.good(&["-f", &script("small-guest.gfs")]);
    let output = world.good(&["-a", IMAGE, &script("prepare-vtorque.rhai")]);
    assert!(output.contains("fixed: make the folder /workspace") && output.contains("overall: pass"), "{output}");
    let part = judged(&world, IMAGE);
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("[ NoCloud, ConfigDrive, Ec2 ]"), "{nocloud}");
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "write", "/opt/tool", "x", ":", "rmdir", "/workspace"]);
    let before = fs::read(world.path(IMAGE)).unwrap();
    let output = world.imgsh(&["-a", IMAGE, &script("prepare-vtorque.rhai")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("1 files below /opt will be hidden"), "{}", text(&output.stdout));
    assert!(before == fs::read(world.path(IMAGE)).unwrap(), "a failing script wrote to the image");
}

/// A site's own profile sees what is known and has the last word.
#[test]
fn a_profile_changes_the_list() {
    let world = fit_guest();
    decoy(&world, "mkdir /opt-hpc\ntouch /opt-hpc/f\n");
    fs::write(
        world.path("site.rhai"),
        "import \"std/check\" as check;\nfn checks(about, results) {\n  let kept = results.filter(|r| r.id != \"VT-OPTHPC\");\n  \
         let mine = check::fail(\"no motd for \" + about.family, [check::evidence(\"/etc/motd\", 0, \"\")], \"write one\");\n  \
         mine.id = \"SITE-MOTD\";\n  if !exists(\"/etc/motd\") { kept.push(mine); }\n  kept\n}\n",
    )
    .unwrap();
    let (table, status) = checked(&world, &["--ro", "profile:site.rhai"]);
    assert!(table.contains("fail    SITE-MOTD      no motd for debian") && !table.contains("VT-OPTHPC"), "{table}");
    assert_eq!(status, Some(1));
}

/// Two systems on the disks: which one is asked for, and `root:` says it.
#[test]
fn two_roots_need_a_word() {
    let world = fit_guest();
    fs::copy(world.path(IMAGE), world.path("other-debian.qcow2")).unwrap();
    let both = |more: &[&str]| {
        let output = world.imgsh(&[&["--ro", "-a", IMAGE, "-a", "other-debian.qcow2", "vtorque-check"], more].concat());
        (text(&output.stdout), output.status.code())
    };
    let (table, status) = both(&[]);
    assert!(table.contains("fail    VT-ROOT        more than one operating system was found"), "{table}");
    assert!(table.contains(" /dev/sdb2: Debian GNU/Linux 12 (bookworm)\n"), "{table}");
    assert!(table.contains(" -> say which is meant: vtorque-check root:/dev/sda2\n"), "{table}");
    assert_eq!(status, Some(1));
    let (table, status) = both(&["root:/dev/sdb2"]);
    assert!(
        table.contains("pass    VT-ROOT        the root is /dev/sdb2") && table.ends_with("overall: pass\n"),
        "{table}"
    );
    assert_eq!(status, Some(0));
}
