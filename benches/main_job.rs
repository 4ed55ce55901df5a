//! The main job against peers in the same run: whole processes, medians, ratios.
//!
//! `cargo bench` makes its own images in a scratch folder (about 1.5 GiB of it is used). `IMGSH_BENCH_IMAGE=guest.qcow2` measures
//! `cat` on a real guest too. The kernel's loop mount is a peer when this runs as root; else it says so.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

const IMGSH: &str = env!("CARGO_BIN_EXE_imgsh");
const RUNS: usize = 5;
const FILES: usize = 20_000;
const FILE_BYTES: usize = 25_000;

fn main() {
    // `cargo test --benches` starts this with --test: nothing to measure then.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    println!("{:<52} {:>10} {:>10} {:>7}", "work (medians, wall)", "imgsh", "peer", "ratio");
    small_work(dir);
    if let Ok(image) = std::env::var("IMGSH_BENCH_IMAGE") {
        real_guest(dir, Path::new(&image));
    }
    tree(dir);
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map(|u| u.max_rss() / 1024).unwrap_or(0);
    println!("largest process of this run: {peak} MiB (peers included)");
}

/// One file read, and one edit with commit, on a fresh 2 GiB ext4.
fn small_work(dir: &Path) {
    let (raw, qcow2) = (dir.join("small.raw"), dir.join("small.qcow2"));
    let seed = dir.join("seed");
    fs::create_dir_all(seed.join("etc")).expect("seed");
    fs::write(seed.join("etc/os-release"), "ID=debian\n").expect("seed");
    run("truncate", &["-s".as_ref(), "2G".as_ref(), raw.as_ref()]);
    run("mke2fs", &["-q".as_ref(), "-t".as_ref(), "ext4".as_ref(), "-d".as_ref(), seed.as_ref(), raw.as_ref()]);
    run("qemu-img", &["convert".as_ref(), "-O".as_ref(), "qcow2".as_ref(), raw.as_ref(), qcow2.as_ref()]);

    let peer = median(|| run("debugfs", &["-R".as_ref(), "cat /etc/os-release".as_ref(), raw.as_ref()]));
    let cat = |image: &Path| imgsh(&["--ro", "-a"], image, &["-m", "/dev/sda", "cat", "/etc/os-release"]);
    report("cat /etc/os-release, raw; peer debugfs, raw", median(|| cat(&raw)), peer);
    report("cat /etc/os-release, qcow2; peer debugfs, raw", median(|| cat(&qcow2)), peer);

    let line = dir.join("line");
    fs::write(&line, "hello\n").expect("line");
    let script = dir.join("edit.debugfs");
    fs::write(&script, format!("rm /etc/motd\nwrite {} /etc/motd\n", line.display())).expect("script");
    let peer = median(|| run("debugfs", &["-w".as_ref(), "-f".as_ref(), script.as_ref(), raw.as_ref()]));
    let edit = |image: &Path| imgsh(&["-a"], image, &["-m", "/dev/sda", "write", "/etc/motd", "hello"]);
    report("one edit with commit, raw; peer debugfs -w (no sync)", median(|| edit(&raw)), peer);
    report("one edit with commit, qcow2; peer debugfs -w (no sync)", median(|| edit(&qcow2)), peer);
}

/// `cat` on an image that the user names, through inspection and by a given mount.
fn real_guest(dir: &Path, image: &Path) {
    let raw = dir.join("guest.raw");
    run("qemu-img", &["convert".as_ref(), "-O".as_ref(), "raw".as_ref(), image.as_ref(), raw.as_ref()]);
    let peer = median(|| run("sfdisk", &["-J".as_ref(), raw.as_ref()]));
    report(
        "real guest: cat, -i; peer sfdisk -J (reads a table)",
        median(|| imgsh(&["--ro", "-i", "-a"], image, &["cat", "/etc/os-release"])),
        peer,
    );
}

/// copy-in of 20,000 files, 500 MB.
fn tree(dir: &Path) {
    let source = dir.join("tree");
    let mut content = vec![0u8; FILE_BYTES];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 0..FILES {
        let folder = source.join(format!("d{:03}", n / 100));
        if n % 100 == 0 {
            fs::create_dir_all(&folder).expect("tree");
        }
        for chunk in content.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
        }
        fs::write(folder.join(format!("f{n:05}")), &content).expect("tree");
    }
    let empty = dir.join("empty.raw");
    run("truncate", &["-s".as_ref(), "2G".as_ref(), empty.as_ref()]);
    run("mke2fs", &["-q".as_ref(), "-t".as_ref(), "ext4".as_ref(), empty.as_ref()]);
    let fresh = |name: &str| {
        let image = dir.join(name);
        run("cp", &["--sparse=always".as_ref(), empty.as_ref(), image.as_ref()]);
        run("sync", &[]);
        image
    };

    let peer = loop_mount(dir, &source, &fresh).unwrap_or_else(|| {
        println!("(no root: the kernel's loop mount is no peer here; mke2fs -d is)");
        let image = fresh("peer.raw");
        let start = Instant::now();
        run(
            "mke2fs",
            &[
                "-q".as_ref(),
                "-F".as_ref(),
                "-t".as_ref(),
                "ext4".as_ref(),
                "-d".as_ref(),
                source.as_ref(),
                image.as_ref(),
            ],
        );
        run("sync", &[image.as_ref()]);
        start.elapsed()
    });
    let raw = median_of(3, || {
        let image = fresh("ours.raw");
        let start = Instant::now();
        imgsh(&["-a"], &image, &["-m", "/dev/sda", "copy-in", &source.to_string_lossy(), "/"]);
        start.elapsed()
    });
    report("copy-in of 20,000 files, 500 MB, raw; peer cp -a + sync", raw, peer);
    run(
        "qemu-img",
        &["convert".as_ref(), "-O".as_ref(), "qcow2".as_ref(), empty.as_ref(), dir.join("base.qcow2").as_ref()],
    );
    let qcow2 = median_of(3, || {
        let image = dir.join("ours.qcow2");
        run("cp", &[dir.join("base.qcow2").as_ref(), image.as_ref()]);
        run("sync", &[]);
        let start = Instant::now();
        imgsh(&["-a"], &image, &["-m", "/dev/sda", "copy-in", &source.to_string_lossy(), "/"]);
        start.elapsed()
    });
    report("the same, qcow2; peer cp -a + sync on raw", qcow2, peer);
}

/// `cp -a` onto a loop mount, unmount, sync; `None` without root.
fn loop_mount(dir: &Path, source: &Path, fresh: &dyn Fn(&str) -> std::path::PathBuf) -> Option<Duration> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let mount = dir.join("mnt");
    fs::create_dir_all(&mount).ok()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let image = fresh("peer.raw");
        let start = Instant::now();
        let mounted =
            Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount).stderr(Stdio::null()).status().ok()?;
        if !mounted.success() {
            return None;
        }
        run("cp", &["-a".as_ref(), source.as_ref(), mount.as_ref()]);
        run("umount", &[mount.as_ref()]);
        run("sync", &[image.as_ref()]);
        times.push(start.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied()
}

fn imgsh(before: &[&str], image: &Path, after: &[&str]) {
    let args: Vec<&OsStr> =
        before.iter().map(OsStr::new).chain([image.as_os_str()]).chain(after.iter().map(OsStr::new)).collect();
    run(IMGSH, &args);
}

fn run(program: &str, args: &[&OsStr]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn median(mut work: impl FnMut()) -> Duration {
    median_of(RUNS, || {
        let start = Instant::now();
        work();
        start.elapsed()
    })
}

fn median_of(runs: usize, mut measured: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| measured()).collect();
    times.sort();
    times[runs / 2]
}

fn report(what: &str, ours: Duration, peer: Duration) {
    println!("{what:<52} {:>8.1}ms {:>8.1}ms {:>6.2}x", ms(ours), ms(peer), ms(ours) / ms(peer));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
