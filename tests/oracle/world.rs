//! A folder in which the program is run, and what its images are judged by.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::{assert_clean, run};

/// A folder of its own, gone at the end.
pub struct World {
    /// The folder.
    pub folder: tempfile::TempDir,
}

impl World {
    /// An empty one, but for `hello.sh`.
    pub fn new() -> Self {
        let world = World { folder: tempfile::tempdir().unwrap() };
        fs::write(world.path("hello.sh"), "#!/bin/sh\necho hello\n").unwrap();
        world
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs imgsh there.
    pub fn imgsh(&self, args: &[&str]) -> Output {
        std::process::Command::new(env!("CARGO_BIN_EXE_imgsh"))
            .current_dir(self.folder.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs imgsh, which must succeed; answers what it printed.
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.imgsh(args);
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The file system in the image's only partition, in a file of its own, clean by e2fsck.
    pub fn judged(&self, image: &str) -> String {
        // `part-disk` on 128 MiB: from sector 128 to the 128th from the end.
        let part = self.part(image, 128..128 * 2048 - 128);
        assert_clean(&part, "the guest");
        name(&part)
    }

    /// Sectors of an image in a file of their own; the qcow2 clean by qemu-img.
    pub fn part(&self, image: &str, sectors: std::ops::Range<usize>) -> PathBuf {
        let (image, raw) = (self.path(image), self.path("judge.raw"));
        let part = self.path(&format!("judge.{}", sectors.start));
        run("qemu-img", &["check", "-q", &name(&image)]);
        run("qemu-img", &["convert", "-O", "raw", &name(&image), &name(&raw)]);
        let bytes = fs::read(&raw).unwrap();
        fs::write(&part, &bytes[sectors.start * 512..sectors.end * 512]).unwrap();
        part
    }
}

/// As text.
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// As text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A script of the project.
pub fn script(name: &str) -> String {
    format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}
