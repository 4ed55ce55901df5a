//! Reading: whatever mke2fs and debugfs put into an image, of any make, reads back as debugfs reads it.

mod oracle;

use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use imgsh::fs;
use oracle::tree::{judge, through_trait};
use oracle::{Random, Sparse, run, tool};

/// A tree on the host that a plain user can make.
fn source(dir: &Path) {
    let mut random = Random(7);
    for (name, len) in [("empty", 0), ("short", 40), ("inline", 150), ("block", 5000), ("large", 300_000)] {
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for at in [0, 65_536, 100_000, 1 << 20, (3 << 20) - 1] {
        sparse.write_all_at(b"x", at).unwrap();
    }
    std::fs::hard_link(dir.join("short"), dir.join("second name of short")).unwrap();
    for len in [1, 59, 60, 61, 1000] {
        symlink("t".repeat(len), dir.join(format!("link-{len}"))).unwrap();
    }
    let mut deep = dir.to_path_buf();
    for level in 0..20 {
        deep = deep.join(format!("level-{level}"));
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("ö".repeat(120)), b"deep").unwrap();
    std::fs::create_dir(dir.join("many")).unwrap();
    for i in 0..600 {
        std::fs::write(dir.join("many").join(format!("a rather long name, number {i}")), i.to_string()).unwrap();
    }
}

/// What mke2fs does not take from a host without privileges.
const SPECIAL: &str = "mknod char c 4 64
mknod disk b 259 60000
mknod fifo p
ea_set short user.small value
ea_set large user.large \"{LONG}\"
ea_set large security.selinux system_u:object_r:etc_t:s0
set_inode_field disk uid 70000
set_inode_field disk gid 4000000000
set_inode_field disk mtime @4481000000
set_inode_field large atime @-100
set_inode_field large mode 0104755
";

fn reads(options: &[&str], special: &str) {
    let what = format!("{options:?}");
    let dir = oracle::scratch();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image"));
    std::fs::create_dir(&tree).unwrap();
    source(&tree);
    let file = image.to_str().unwrap();
    let args = [&["-q", "-F", "-d", tree.to_str().unwrap()], options, &[file, "24M"]].concat();
    run("mke2fs", &args);
    let list = dir.path().join("special");
    std::fs::write(&list, special.replace("{LONG}", &"long value ".repeat(50))).unwrap();
    run("debugfs", &["-w", "-f", list.to_str().unwrap(), file]);
    // Gives large directories their index.
    let (status, text) = tool("e2fsck", &["-fyD", file]);
    assert!(status <= 1, "{what}: {text}");
    let fs = fs::open(Sparse::load(&image).device()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = through_trait(fs.as_ref());
    assert_eq!(found.len(), 638, "{what}");
    judge(&image, &found, &what);
}

#[test]
fn images_of_the_default_kind() {
    reads(&["-t", "ext4"], SPECIAL);
    reads(&["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"], SPECIAL);
    reads(&["-t", "ext4", "-b", "4096"], SPECIAL);
    reads(&["-t", "ext4", "-b", "2048", "-I", "1024"], SPECIAL);
}

#[test]
fn images_with_fewer_features() {
    reads(&["-t", "ext4", "-O", "^metadata_csum"], SPECIAL);
    reads(&["-t", "ext4", "-O", "^metadata_csum,uninit_bg"], SPECIAL);
    reads(&["-t", "ext4", "-O", "^has_journal,^64bit,^flex_bg"], SPECIAL);
    reads(&["-t", "ext4", "-O", "^filetype,^dir_index"], SPECIAL);
}

#[test]
fn images_of_ext2_and_ext3() {
    reads(&["-t", "ext2"], SPECIAL);
    reads(&["-t", "ext3", "-b", "4096"], SPECIAL);
    let short: String = SPECIAL.lines().filter(|line| !line.contains("time")).map(|line| format!("{line}\n")).collect();
    reads(&["-t", "ext3", "-I", "128"], &short);
}

#[test]
fn images_with_features_that_are_only_read() {
    reads(&["-t", "ext4", "-O", "inline_data"], SPECIAL);
    reads(&["-t", "ext4", "-O", "bigalloc"], SPECIAL);
    reads(&["-t", "ext4", "-O", "meta_bg,^resize_inode"], SPECIAL);
    reads(&["-t", "ext4", "-O", "ea_inode,large_dir,quota,project"], SPECIAL);
}
