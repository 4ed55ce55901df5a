//! Where a run's result can go besides into the image: `--overlay`, `--copy`, `commit keep:NAME`. And what a run that is killed
//! leaves behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn host(folder: &Path, program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program).args(args).current_dir(folder).env("PATH", path).output();
    let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn qemu(folder: &Path, line: &str) -> String {
    host(folder, "qemu-img", &line.split_whitespace().collect::<Vec<_>>())
}

/// Runs the program; status and messages.
fn imgsh(folder: &Path, args: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_imgsh")).args(args).current_dir(folder).output().unwrap();
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let (status, text) = imgsh(folder, args);
    assert!(status, "{args:?}: {text}");
    text
}

/// A folder with `disk.img`, an ext4 file system of 16 MiB, and `disk.qcow2`, the same.
fn folder() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    host(temp.path(), "mke2fs", &["-q", "-t", "ext4", "-E", "root_owner=0:0", "disk.img", "16M"]);
    qemu(temp.path(), "convert -f raw -O qcow2 disk.img disk.qcow2");
    temp
}

/// What is in a file of the file system in an image, by debugfs, after e2fsck.
fn inside(folder: &Path, image: &str, path: &str) -> String {
    qemu(folder, &format!("convert -O raw {image} judged.raw"));
    host(folder, "e2fsck", &["-fn", "judged.raw"]);
    host(folder, "debugfs", &["-R", &format!("cat {path}"), "judged.raw"])
}

/// Names in a folder, but for what the judge made.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "judged.raw");
    names.sort();
    names
}

#[test]
fn the_image_stays_and_the_output_has_the_change() {
    for image in ["disk.img", "disk.qcow2"] {
        for option in ["--overlay", "--copy"] {
            let temp = folder();
            let dir = temp.path();
            let before = fs::read(dir.join(image)).unwrap();
            ok(dir, &["-a", image, option, "out", "-m", "/dev/sda", "write", "/f", "hello"]);
            assert_eq!(inside(dir, "out", "/f"), "hello");
            assert!(fs::read(dir.join(image)).unwrap() == before, "{image} {option}: touched");
            assert_eq!(names(dir), ["disk.img", "disk.qcow2", "out"]);
            let info = qemu(dir, "info out");
            assert_eq!(info.contains(&format!("backing file: {image}")), option == "--overlay", "{info}");
            if info.contains("file format: qcow2") {
                assert!(qemu(dir, "check out").contains("No errors"));
            }
            // A run that fails leaves no output, and an older one as it was.
            let old = fs::read(dir.join("out")).unwrap();
            for out in ["out", "other"] {
                let run = ["-a", image, option, out, "-m", "/dev/sda", "write", "/g", "x", ":", "mkdir", "/none/d"];
                let (status, text) = imgsh(dir, &run);
                assert!(!status, "{text}");
            }
            assert_eq!(names(dir), ["disk.img", "disk.qcow2", "out"]);
            assert!(fs::read(dir.join("out")).unwrap() == old, "{image} {option}: the older output");
            // Into itself: refused.
            let (status, text) = imgsh(dir, &["-a", image, option, image, "-m", "/dev/sda", "write", "/f", "x"]);
            assert!(!status && text.contains("the image itself"), "{text}");
        }
    }
}

#[test]
fn an_overlay_in_another_folder_finds_its_base() {
    let temp = folder();
    let dir = temp.path();
    fs::create_dir(dir.join("sub")).unwrap();
    ok(dir, &["-a", "disk.qcow2", "--overlay", "sub/out", "-m", "/dev/sda", "write", "/f", "hello"]);
    assert_eq!(inside(dir, "sub/out", "/f"), "hello");
    // A copy of that one would lose its base elsewhere only if the name were relative; it is refused all the same.
    let (status, text) = imgsh(dir, &["-a", "sub/out", "--copy", "copy", "-m", "/dev/sda", "write", "/f", "x"]);
    assert!(!status && text.contains("--overlay"), "{text}");
    ok(dir, &["-a", "sub/out", "--overlay", "two", "-m", "/dev/sda", "write", "/g", "there"]);
    assert_eq!((inside(dir, "two", "/f"), inside(dir, "two", "/g")), ("hello".into(), "there".into()));
}

#[test]
fn a_commit_keeps_the_old_state_inside_the_image() {
    let temp = folder();
    let dir = temp.path();
    ok(dir, &["-a", "disk.qcow2", "-m", "/dev/sda", "write", "/f", "first", ":", "commit"]);
    ok(dir, &["-a", "disk.qcow2", "-m", "/dev/sda", "write", "/f", "second", ":", "commit", "keep:before"]);
    assert_eq!(inside(dir, "disk.qcow2", "/f"), "second");
    assert!(qemu(dir, "check disk.qcow2").contains("No errors"));
    let list = ok(dir, &["disk-snapshot-list", "disk.qcow2"]);
    assert!(list.contains("name: before") && list.contains("id: 1"), "{list}");
    ok(dir, &["disk-snapshot-apply", "disk.qcow2", "before"]);
    assert_eq!(inside(dir, "disk.qcow2", "/f"), "first");
    assert!(qemu(dir, "check disk.qcow2").contains("No errors"));
    let before = fs::read(dir.join("disk.img")).unwrap();
    let (status, text) = imgsh(dir, &["-a", "disk.img", "-m", "/dev/sda", "write", "/f", "x", ":", "commit", "keep:y"]);
    assert!(!status && text.contains("raw image has no room"), "{text}");
    assert!(fs::read(dir.join("disk.img")).unwrap() == before, "touched");
}

/// The same as `scripts/kill-loop`, which does it hundreds of times.
#[test]
fn a_killed_run_leaves_the_old_or_the_new_state() {
    for image in ["disk.img", "disk.qcow2"] {
        let temp = folder();
        let dir = temp.path();
        ok(dir, &["-a", image, "-m", "/dev/sda", "write", "/f", "0", ":", "write", "/g", "0"]);
        let (mut kept, mut random) = (0, 0x9e37_79b9_u64);
        for round in 1..=12 {
            let text = round.to_string();
            let run = [
                "-a", image, "-m", "/dev/sda", "write", "/f", &text, ":", "fill", "7", "300000", "/big", ":", "write",
                "/g", &text,
            ];
            let mut child = Command::new(env!("CARGO_BIN_EXE_imgsh"))
                .args(run)
                .current_dir(dir)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_micros((random >> 33) % 25_000));
            child.kill().unwrap();
            child.wait().unwrap();
            // A raw image is whole once imgsh has opened it.
            ok(dir, &["-a", image, "-m", "/dev/sda", "write", "/touched", &text]);
            if image == "disk.qcow2" {
                assert!(qemu(dir, "check disk.qcow2").contains("No errors"), "round {round}");
            }
            let (f, g) = (inside(dir, image, "/f"), inside(dir, image, "/g"));
            assert_eq!(f, g, "{image} round {round}: a half");
            assert!(f == kept.to_string() || f == text, "{image} round {round}: {f}, neither {kept} nor {text}");
            kept = f.parse().unwrap();
        }
    }
}

#[test]
fn an_overlay_in_the_place_of_a_linked_file_finds_its_image() {
    let temp = folder();
    let dir = temp.path();
    fs::create_dir(dir.join("far")).unwrap();
    fs::write(dir.join("far/over.qcow2"), "to be replaced").unwrap();
    std::os::unix::fs::symlink("far/over.qcow2", dir.join("over")).unwrap();
    ok(dir, &["-a", "disk.img", "--overlay", "over", "-m", "/dev/sda", "write", "/f", "linked"]);
    assert!(dir.join("over").is_symlink());
    assert_eq!(inside(dir, "far/over.qcow2", "/f"), "linked");
    assert_eq!(inside(dir, "over", "/f"), "linked");
}

/// A mounted file system that is unmounted in the end.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.join("mounted")).status().ok();
    }
}

/// Only for root: on a host file system whose files can share blocks a copy costs nothing until it is written to.
#[test]
fn copies_share_blocks_where_the_host_can() {
    let temp = folder();
    let dir = temp.path();
    let quiet = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let done = Command::new(words[0]).args(&words[1..]).current_dir(dir).output();
        done.is_ok_and(|done| done.status.success())
    };
    fs::create_dir(dir.join("mounted")).unwrap();
    if !(quiet("truncate -s 400M xfs") && quiet("mkfs.xfs -q xfs") && quiet("mount -o loop xfs mounted")) {
        eprintln!("skipped: needs root, mkfs.xfs and loop devices");
        return;
    }
    let _mounted = Mounted(dir);
    for image in ["disk.img", "disk.qcow2"] {
        ok(dir, &["-a", image, "-m", "/dev/sda", "fill", "7", "3000000", "/big"]);
        fs::copy(dir.join(image), dir.join("mounted").join(image)).unwrap();
        let image = format!("mounted/{image}");
        let before = fs::read(dir.join(&image)).unwrap();
        ok(dir, &["-a", &image, "--copy", "mounted/copy", "-m", "/dev/sda", "write", "/f", "copied"]);
        assert!(host(dir, "filefrag", &["-v", "mounted/copy"]).contains("shared"), "{image}");
        assert_eq!(inside(dir, "mounted/copy", "/f"), "copied");
        assert!(fs::read(dir.join(&image)).unwrap() == before, "{image}");
    }
}
