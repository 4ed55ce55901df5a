//! Bulk work on ext4 against the kernel's loop mount and the host itself, in the same run: whole processes, each with its
//! flushes, on images made here (about 6 GiB of scratch are used). Without root only imgsh and the host are measured.
//!
//! `cargo bench --bench ext_work`; `IMGSH_BENCH_ONLY=word` measures the lines that hold the word.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const IMGSH: &str = env!("CARGO_BIN_EXE_imgsh");
const NAMES: usize = 50_000;
const INODES: usize = 150_000;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let bench =
        Bench { dir: scratch.path().to_path_buf(), only: std::env::var("IMGSH_BENCH_ONLY").unwrap_or_default() };
    println!("{:<44} {:>10} {:>10} {:>7}", "work (wall, best of 2)", "imgsh", "peer", "ratio");
    bench.upload();
    bench.tree();
    bench.names();
    bench.find();
}

struct Bench {
    dir: PathBuf,
    only: String,
}

impl Bench {
    fn wants(&self, what: &str) -> bool {
        what.contains(&self.only)
    }

    fn report(&self, what: &str, ours: Duration, peer: Option<Duration>) {
        let ours = ours.as_secs_f64();
        match peer.map(|peer| peer.as_secs_f64()) {
            Some(peer) => println!("{what:<44} {ours:>9.2}s {peer:>9.2}s {:>6.2}x", ours / peer),
            None => println!("{what:<44} {ours:>9.2}s {:>10} {:>7}", "-", "-"),
        }
    }

    /// A new ext4 of so many MiB with so many inodes.
    fn image(&self, name: &str, mib: u64, inodes: u64) -> PathBuf {
        let image = self.dir.join(name);
        let _ = fs::remove_file(&image);
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image");
        let inodes = inodes.to_string();
        run(
            "mke2fs",
            &[
                "-q".as_ref(),
                "-F".as_ref(),
                "-t".as_ref(),
                "ext4".as_ref(),
                "-N".as_ref(),
                inodes.as_ref(),
                image.as_ref(),
            ],
        );
        image
    }

    /// Runs work on a loop mount, from mount to the image on the disk; `None` where there is none.
    fn mounted(&self, image: &Path, work: impl FnOnce(&Path)) -> Option<Duration> {
        let mount = self.dir.join("mount");
        fs::create_dir_all(&mount).ok()?;
        run("sync", &[]);
        let start = Instant::now();
        let status = Command::new("mount").args(["-o", "loop"]).arg(image).arg(&mount).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            return None;
        }
        work(&mount);
        run("umount", &[mount.as_ref()]);
        run("sync", &[image.as_ref()]);
        Some(start.elapsed())
    }

    fn imgsh(&self, image: &Path, script: &str) -> Duration {
        let file = self.dir.join("script");
        fs::write(&file, script).expect("script");
        run("sync", &[]);
        let start = Instant::now();
        run(IMGSH, &["-a".as_ref(), image.as_ref(), "-m".as_ref(), "/dev/sda".as_ref(), "-f".as_ref(), file.as_ref()]);
        start.elapsed()
    }

    fn upload(&self) {
        if !self.wants("upload") {
            return;
        }
        let source = self.dir.join("large");
        let mut file = File::create(&source).expect("source");
        let mut block = vec![0u8; 1 << 20];
        let mut state = 1_u64;
        for _ in 0..1024 {
            for chunk in block.chunks_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                chunk.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&block).expect("source");
        }
        drop(file);
        let ours = best(|| {
            let image = self.image("upload.raw", 2048, 1000);
            self.imgsh(&image, &format!("upload {} /large\n", source.display()))
        });
        let peer = best(|| {
            let copy = self.dir.join("copy");
            let _ = fs::remove_file(&copy);
            run("sync", &[]);
            let start = Instant::now();
            let (from, to) = (format!("if={}", source.display()), format!("of={}", copy.display()));
            run("dd", &[from.as_ref(), to.as_ref(), "bs=1M".as_ref(), "conv=fsync".as_ref()]);
            start.elapsed()
        });
        self.report("upload of 1 GiB; peer dd conv=fsync", ours, Some(peer));
        let image = self.image("upload.raw", 2048, 1000);
        let peer = self.mounted(&image, |mount| run("cp", &[source.as_ref(), mount.join("large").as_ref()]));
        self.report("upload of 1 GiB; peer loop mount, cp, sync", ours, peer);
        for name in ["large", "copy"] {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    /// 25,000 entries, 550 MB: as many small files as a distribution has, some larger ones, links.
    fn tree(&self) {
        if !self.wants("tree") {
            return;
        }
        let tree = self.dir.join("tree");
        let mut state = 7_u64;
        let mut bytes = vec![0u8; 1 << 20];
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        for i in 0..23_000_usize {
            let folder = tree.join(format!("a{:02}/b{:02}", i / 1000, i / 50 % 20));
            if i % 50 == 0 {
                fs::create_dir_all(&folder).expect("tree");
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (state >> 33) as usize;
            let len = if i % 100 == 0 { bytes.len() } else { pick % 28_000 };
            fs::write(folder.join(format!("file-{i}")), &bytes[..len]).expect("tree");
            if i % 15 == 0 {
                std::os::unix::fs::symlink(format!("file-{i}"), folder.join(format!("link-{i}"))).expect("tree");
            }
        }
        let tar = self.dir.join("tree.tar");
        run("tar", &["cf".as_ref(), tar.as_ref(), "-C".as_ref(), tree.as_ref(), ".".as_ref()]);
        let host = best(|| {
            let copy = self.dir.join("copy");
            let _ = fs::remove_dir_all(&copy);
            run("sync", &[]);
            let start = Instant::now();
            run("cp", &["-a".as_ref(), tree.as_ref(), copy.as_ref()]);
            run("sync", &[]);
            start.elapsed()
        });
        let ours = best(|| {
            let image = self.image("tree.raw", 2048, 60_000);
            self.imgsh(&image, &format!("copy-in {} /\n", tree.display()))
        });
        self.report("copy-in of a tree; peer cp -a, sync", ours, Some(host));
        let peer = best(|| {
            let image = self.dir.join("peer.raw");
            let _ = fs::remove_file(&image);
            File::create(&image).and_then(|file| file.set_len(2 << 30)).expect("an image");
            run("sync", &[]);
            let start = Instant::now();
            run(
                "mke2fs",
                &[
                    "-q".as_ref(),
                    "-F".as_ref(),
                    "-t".as_ref(),
                    "ext4".as_ref(),
                    "-d".as_ref(),
                    tree.as_ref(),
                    image.as_ref(),
                ],
            );
            run("sync", &[image.as_ref()]);
            start.elapsed()
        });
        self.report("copy-in of a tree; peer mke2fs -d, sync", ours, Some(peer));
        let ours = best(|| {
            let image = self.image("tree.raw", 2048, 60_000);
            self.imgsh(&image, &format!("tar-in {} /\n", tar.display()))
        });
        let image = self.image("peer.raw", 2048, 60_000);
        let peer =
            self.mounted(&image, |mount| run("tar", &["xf".as_ref(), tar.as_ref(), "-C".as_ref(), mount.as_ref()]));
        self.report("tar-in of a tree; peer loop mount, tar x, sync", ours, peer);
        let out = self.dir.join("out.tar");
        let image = self.dir.join("tree.raw");
        let ours = best(|| self.imgsh(&image, &format!("tar-out / {}\n", out.display())));
        let peer = self.mounted(&image, |mount| {
            run("tar", &["cf".as_ref(), out.as_ref(), "-C".as_ref(), mount.as_ref(), ".".as_ref()])
        });
        self.report("tar-out of a tree; peer loop mount, tar c", ours, peer);
        for name in ["tree", "copy"] {
            let _ = fs::remove_dir_all(self.dir.join(name));
        }
    }

    fn names(&self) {
        if !self.wants("names") {
            return;
        }
        let image = self.image("names.raw", 1024, 100_000);
        let script: String = (0..NAMES).map(|i| format!("touch /many/name-{i}\n")).collect();
        let ours = self.imgsh(&image, &format!("mkdir /many\n{script}"));
        let removed = self.imgsh(&image, "rm-rf /many\n");
        let image = self.image("names.raw", 1024, 100_000);
        let peer = self.mounted(&image, |mount| {
            fs::create_dir(mount.join("many")).expect("many");
            (0..NAMES).for_each(|i| drop(File::create(mount.join(format!("many/name-{i}"))).expect("a name")));
        });
        self.report("50,000 names, a touch each; peer loop mount", ours, peer);
        let peer = self.mounted(&image, |mount| run("rm", &["-rf".as_ref(), mount.join("many").as_ref()]));
        self.report("rm-rf of 50,000 names; peer loop mount", removed, peer);
    }

    fn find(&self) {
        if !self.wants("find") {
            return;
        }
        let image = self.image("find.raw", 1024, 200_000);
        let mut script = String::new();
        for i in 0..INODES {
            let folder = format!("/d{:02}/e{:02}", i / 3000, i / 100 % 30);
            if i % 100 == 0 {
                script += &format!("mkdir-p {folder}\n");
            }
            script += &format!("touch {folder}/name-{i}\n");
        }
        let made = self.imgsh(&image, &script);
        self.report("150,000 names in 1,500 directories", made, None);
        let ours = best(|| self.imgsh(&image, "find /\n"));
        let peer = self.mounted(&image, |mount| run("find", &[mount.as_ref()]));
        self.report("find over 150,000; peer loop mount, find", ours, peer);
    }
}

fn best(mut work: impl FnMut() -> Duration) -> Duration {
    work().min(work())
}

fn run(program: &str, args: &[&OsStr]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
