//! The worked examples in `scripts/`, run by the program and judged by e2fsck, debugfs and qemu-img.

mod oracle;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use oracle::{assert_clean, run};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = World { folder: tempfile::tempdir().unwrap() };
        fs::write(world.path("hello.sh"), "#!/bin/sh\necho hello\n").unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn imgsh(&self, args: &[&str]) -> Output {
        std::process::Command::new(env!("CARGO_BIN_EXE_imgsh"))
            .current_dir(self.folder.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs imgsh, which must succeed; answers what it printed.
    fn good(&self, args: &[&str]) -> String {
        let output = self.imgsh(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The file system in the image's only partition, in a file of its own, clean by e2fsck.
    fn judged(&self, image: &str) -> String {
        // `part-disk` on 128 MiB: from sector 128 to the 128th from the end.
        let part = self.part(image, 128..128 * 2048 - 128);
        assert_clean(&part, "the guest");
        name(&part)
    }

    /// Sectors of an image in a file of their own; the qcow2 clean by qemu-img.
    fn part(&self, image: &str, sectors: std::ops::Range<usize>) -> PathBuf {
        let (image, raw) = (self.path(image), self.path("judge.raw"));
        let part = self.path(&format!("judge.{}", sectors.start));
        run("qemu-img", &["check", "-q", &name(&image)]);
        run("qemu-img", &["convert", "-O", "raw", &name(&image), &name(&raw)]);
        let bytes = fs::read(&raw).unwrap();
        fs::write(&part, &bytes[sectors.start * 512..sectors.end * 512]).unwrap();
        part
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn script(name: &str) -> String {
    format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A guest as quickstart makes it, before the vTorque fixes.
fn guest(world: &World, datasources: &str) {
    world.good(&[
        "disk-create",
        "guest.qcow2",
        "qcow2",
        "128M",
        ":",
        "add",
        "guest.qcow2",
        ":",
        "run",
        ":",
        "part-disk",
        "/dev/sda",
        "gpt",
        ":",
        "mkfs",
        "ext4",
        "/dev/sda1",
        ":",
        "mount",
        "/dev/sda1",
        "/",
        ":",
        "mkdir-p",
        "/etc/cloud/cloud.cfg.d",
        ":",
        "mkdir-p",
        "/etc/profile.d",
        ":",
        "mkdir-p",
        "/var/lib/dpkg",
        ":",
        "mkdir-p",
        "/usr/bin",
        ":",
        "mkdir",
        "/opt",
        ":",
        "write",
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n",
        ":",
        "write",
        "/etc/os-release",
        "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
        ":",
        "write",
        "/var/lib/dpkg/status",
        "Package: cloud-init\nStatus: install ok installed\nVersion: 22.4.2-1\n\n",
        ":",
        "write",
        "/etc/cloud/cloud.cfg",
        datasources,
    ]);
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
    assert!(output.contains("fixed: put NoCloud first in the datasource list"), "{output}");
    assert!(output.contains("overall: pass"), "{output}");
    assert!(output.contains("read back in a new run:\n/dev/sda2: /\n/dev/sda1: /boot/efi\nhello\n"), "{output}");

    let part = world.part("guest.qcow2", 67_584..522_241);
    assert_clean(&part, "the guest");
    let part = name(&part);
    run("fsck.fat", &["-n", &name(&world.part("guest.qcow2", 2048..67_584))]);
    assert_eq!(
        run("debugfs", &["-R", "cat /opt-vm/hello/bin/hello", &part]),
        "#!/bin/sh\necho \"hello from the guest\"\n"
    );
    assert!(run("debugfs", &["-R", "stat /opt-vm/hello/bin/hello", &part]).contains("Mode:  0755"));
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("datasource_list: [ NoCloud, ConfigDrive, Ec2 ]\n"), "{nocloud}");
    // A second run finds nothing left to mend.
    let again = world.good(&["-a", "guest.qcow2", "vtorque-check", "fix:true"]);
    assert!(!again.contains("fixed:") && again.contains("overall: pass"), "{again}");
}

#[test]
fn add_application_keeps_modes_links_and_times() {
    let world = World::new();
    guest(&world, "datasource_list: [ NoCloud ]\n");
    fs::create_dir_all(world.path("tool/bin")).unwrap();
    fs::write(world.path("tool/bin/run"), vec![7; 100_000]).unwrap();
    std::os::unix::fs::symlink("run", world.path("tool/bin/start")).unwrap();
    run("chmod", &["0750", &name(&world.path("tool/bin/run"))]);
    run("touch", &["-d", "2001-02-03 04:05:06 UTC", &name(&world.path("tool/bin/run"))]);

    world.good(&["-a", "guest.qcow2", &script("add-application.rhai"), "tool", "demo"]);
    let part = world.judged("guest.qcow2");
    run("debugfs", &["-R", &format!("dump /opt-vm/demo/bin/run {}", name(&world.path("back"))), &part]);
    assert_eq!(fs::read(world.path("back")).unwrap(), vec![7; 100_000]);
    let stat = run("debugfs", &["-R", "stat /opt-vm/demo/bin/run", &part]);
    assert!(stat.contains("Mode:  0750") && stat.contains("User:     0"), "{stat}");
    assert!(stat.contains("mtime: 0x3a7b8372:00000000"), "{stat}");
    let link = run("debugfs", &["-R", "stat /opt-vm/demo/bin/start", &part]);
    assert!(link.contains("Fast link dest: \"run\""), "{link}");
    assert_eq!(run("debugfs", &["-R", "cat /etc/profile.d/demo.sh", &part]), "PATH=/opt-vm/demo/bin:$PATH\n");

    let twice = world.imgsh(&["-a", "guest.qcow2", &script("add-application.rhai"), "tool", "demo"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("/opt-vm/demo is there already"), "{}", text(&twice.stderr));
}

#[test]
fn prepare_mends_what_it_can_and_writes_nothing_when_something_is_left() {
    let world = World::new();
    guest(&world, "# none here\ndatasource_list:\n- Ec2\n- None\n");
    let output = world.good(&["-a", "guest.qcow2", &script("prepare-vtorque.rhai")]);
    assert!(output.contains("fixed: made /workspace") && output.contains("overall: pass"), "{output}");
    let part = world.judged("guest.qcow2");
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("[ NoCloud, Ec2, None ]"), "{nocloud}");

    // Files below /opt are nobody's to move: the script fails and the image stays as it is.
    let world = World::new();
    guest(&world, "datasource_list: [ NoCloud ]\n");
    world.good(&["-a", "guest.qcow2", "-m", "/dev/sda1", "write", "/opt/tool", "x"]);
    let before = fs::read(world.path("guest.qcow2")).unwrap();
    let output = world.imgsh(&["-a", "guest.qcow2", &script("prepare-vtorque.rhai")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("1 files below /opt will be hidden"), "{}", text(&output.stdout));
    assert!(before == fs::read(world.path("guest.qcow2")).unwrap(), "a failing script wrote to the image");
}

#[test]
fn checks_say_fail_unknown_and_warn() {
    let world = World::new();
    guest(&world, "datasource_list: [ Ec2 ]\n");
    let output = world.imgsh(&["--ro", "-a", "guest.qcow2", "vtorque-check"]);
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    for wanted in ["fail    VT-CI-NOCLOUD", "fail    VT-WS", "warn    VT-OPTVM", "pass    VT-CI-PKG", "overall: fail"] {
        assert!(table.contains(wanted), "{wanted}:\n{table}");
    }
    // A list that is no list cannot be judged; a package that is only half there is no package.
    world.good(&[
        "-a",
        "guest.qcow2",
        "-m",
        "/dev/sda1",
        "write",
        "/etc/cloud/cloud.cfg.d/50.cfg",
        "datasource_list: {a: b}\n",
        ":",
        "write",
        "/var/lib/dpkg/status",
        "Package: cloud-init\nStatus: deinstall ok config-files\n\n",
    ]);
    let table = text(&world.imgsh(&["--ro", "-a", "guest.qcow2", "vtorque-check"]).stdout);
    for wanted in ["unknown VT-CI-NOCLOUD", "50.cfg:1", "fail    VT-CI-PKG"] {
        assert!(table.contains(wanted), "{wanted}:\n{table}");
    }
}

/// For each check of what is left in an image: a change of a guest, and the line that tells it.
#[test]
fn decoys_for_what_is_left_in_an_image() {
    let world = World::new();
    guest(&world, "datasource_list: [ NoCloud ]\n");
    let clean = text(&world.imgsh(&["--ro", "-a", "guest.qcow2", "vtorque-check"]).stdout);
    let dpkg = |version: &str| {
        format!(
            "write /var/lib/dpkg/status \"Package: cloud-init\\nStatus: install ok installed\\nVersion: {version}\\n\"\n"
        )
    };
    let disabled = "touch /etc/cloud/cloud-init.disabled\n";
    let user = |home: &str, shell: &str| {
        format!("write /etc/passwd \"root:x:0:0::/root:/bin/sh\\nu:x:1000:1000::{home}:{shell}\\n\"\n")
    };
    let decoys: Vec<(String, &str)> = vec![
        (disabled.into(), "fail    VT-CI-DISABLED"),
        (format!("{}{disabled}touch /etc/cloud/cloud-init.enabled\n", dpkg("22.4.2-1")), "pass    VT-CI-DISABLED"),
        (format!("{}{disabled}touch /etc/cloud/cloud-init.enabled\n", dpkg("24.1-1")), "fail    VT-CI-DISABLED"),
        (format!("{}mkdir /etc/cloud/cloud-init.disabled\n", dpkg("1:23.4~rc1")), "fail    VT-CI-DISABLED"),
        (format!("{}mkdir /etc/cloud/cloud-init.disabled\n", dpkg("odd")), "unknown VT-CI-DISABLED"),
        (
            "mkdir-p /var/lib/cloud/seed/nocloud\ntouch /var/lib/cloud/seed/nocloud/user-data\n".into(),
            "pass    VT-CI-SEED",
        ),
        (
            "mkdir-p /var/lib/cloud/seed/nocloud-net\ntouch /var/lib/cloud/seed/nocloud-net/user-data\n\
             touch /var/lib/cloud/seed/nocloud-net/meta-data\n"
                .into(),
            "warn    VT-CI-SEED",
        ),
        ("mkdir-p /var/lib/cloud/instances/iid-local01\n".into(), "fail    VT-CI-STATE"),
        (
            "mkdir-p /var/lib/cloud\nln-s /var/lib/cloud/instances/iid-local01 /var/lib/cloud/instance\n".into(),
            "fail    VT-CI-STATE",
        ),
        (
            "mkdir-p /var/lib/cloud/data\nwrite /var/lib/cloud/data/instance-id \"iid-local01\\n\"\n".into(),
            "fail    VT-CI-STATE",
        ),
        ("mkdir-p /var/lib/cloud/instances/i-0a1b\n".into(), "warn    VT-CI-STATE"),
        ("mkdir-p /var/lib/cloud/instances\n".into(), "pass    VT-CI-STATE"),
        ("write /etc/fstab \"LABEL=w\\t/workspace/\\text4\\tdefaults 0 0\\n\"\n".into(), "fail    VT-WS-FSTAB"),
        (
            "write /etc/fstab \"#LABEL=w /workspace ext4\\nLABEL=w /workspaces ext4 defaults\\n\"\n".into(),
            "pass    VT-WS-FSTAB",
        ),
        ("mkdir-p /etc/systemd/system\ntouch /etc/systemd/system/workspace.mount\n".into(), "fail    VT-WS-FSTAB"),
        (user("/srv/u", "/bin/bash"), "warn    VT-HOME-USERS"),
        (user("/homes/u", "/bin/bash"), "warn    VT-HOME-USERS"),
        (user("/home/u", "/bin/bash"), "pass    VT-HOME-USERS"),
        (user("/srv/u", "/usr/sbin/nologin"), "pass    VT-HOME-USERS"),
        ("rm-f /etc/passwd\n".into(), "unknown VT-HOME-USERS"),
        ("mkdir /opt-hpc\ntouch /opt-hpc/f\n".into(), "warn    VT-OPTHPC"),
        ("mkdir /scratch\ntouch /scratch/f\n".into(), "warn    VT-SCRATCH"),
        ("ln-s /workspace /scratch\n".into(), "pass    VT-SCRATCH"),
        ("ln-s /tmp /scratch\n".into(), "warn    VT-SCRATCH"),
        ("write /etc/machine-id \"0123456789abcdef0123456789abcdef\\n\"\n".into(), "warn    VT-ID"),
        ("write /etc/machine-id \"uninitialized\\n\"\n".into(), "pass    VT-ID"),
        ("mkdir-p /etc/ssh\ntouch /etc/ssh/ssh_host_rsa_key\n".into(), "warn    VT-ID"),
        ("mkdir-p /etc/ssh\ntouch /etc/ssh/ssh_host_rsa_key.pub\n".into(), "pass    VT-ID"),
    ];
    for (lines, wanted) in decoys {
        fs::copy(world.path("guest.qcow2"), world.path("decoy.qcow2")).unwrap();
        fs::write(world.path("decoy.gfs"), &lines).unwrap();
        world.good(&["-a", "decoy.qcow2", "-m", "/dev/sda1", "-f", "decoy.gfs"]);
        let table = text(&world.imgsh(&["--ro", "-a", "decoy.qcow2", "vtorque-check"]).stdout);
        assert!(table.lines().any(|line| line.starts_with(&format!("{wanted} "))), "{lines}{wanted}:\n{table}");
        // Nothing else changes its verdict.
        let id = wanted[8..].trim();
        let others = |table: &str| -> Vec<String> {
            let verdict = |line: &&str| line.len() > 23 && line[8..].starts_with("VT-") && line[8..23].trim() != id;
            table.lines().filter(verdict).map(|line| line[..23].to_string()).collect()
        };
        let package = lines.contains("dpkg");
        assert!(package || others(&table) == others(&clean), "{lines}:\n{table}\n{clean}");
    }
}

#[test]
fn the_check_as_a_document() {
    let world = World::new();
    guest(&world, "datasource_list: [ NoCloud ]\n");
    world.good(&["-a", "guest.qcow2", "vtorque-check", "fix:true"]);
    let json = world.good(&["--ro", "-a", "guest.qcow2", "vtorque-check", "json:true"]);
    for part in
        [r#"guest.qcow2""#, r#""family":"debian""#, r#""overall":"pass""#, r#""id":"VT-WS""#, r#""severity":"error""#]
    {
        assert!(json.contains(part), "{part}: {json}");
    }
    world.good(&["-a", "guest.qcow2", "-m", "/dev/sda1", "mkdir", "/opt-hpc", ":", "touch", "/opt-hpc/f"]);
    assert!(world.good(&["--ro", "-a", "guest.qcow2", "vtorque-check"]).contains("overall: warn"));
    let strict = world.imgsh(&["--ro", "-a", "guest.qcow2", "vtorque-check", "strict:true"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stdout).contains("overall: fail"));
}

#[test]
fn a_script_error_names_file_line_and_column_and_writes_nothing() {
    let world = World::new();
    guest(&world, "\n");
    let before = fs::read(world.path("guest.qcow2")).unwrap();
    fs::write(world.path("bad.rhai"), "write(\"/etc/x\", \"1\");\n\n  rm(\"/nope\");\n").unwrap();
    let output = world.imgsh(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "bad.rhai"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("bad.rhai:3:3: rm: /nope: No such file or directory"), "{message}");
    assert!(before == fs::read(world.path("guest.qcow2")).unwrap(), "a failing script wrote to the image");

    fs::write(
        world.path("caught.rhai"),
        "try { rm(\"/nope\") } catch (e) { print(e.kind + \" \" + e.message) }\nsync();\n",
    )
    .unwrap();
    assert_eq!(
        world.good(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "caught.rhai"]),
        "NotFound /nope: No such file or directory\n"
    );
    fs::write(world.path("mode.rhai"), "chmod(0755, \"/etc\");").unwrap();
    let output = world.imgsh(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "mode.rhai"]);
    assert!(text(&output.stderr).contains("write 0o755"), "{}", text(&output.stderr));
}
