//! ISO 9660: discs that genisoimage makes, compared with the tree on the host, isoinfo and blkid.

mod oracle;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::Device;
use imgsh::disk::memory::Memory;
use imgsh::fs::{self, FileSystem, FileType, NodeId};
use oracle::tree::{Entry, Tree, assert_same, through_trait};
use oracle::{Random, run};

/// A folder with everything that needs a structure of its own on a disc.
fn fill(root: &Path) {
    let dir = |path: &str| std::fs::create_dir_all(root.join(path)).unwrap();
    let file = |path: &str, content: &[u8]| std::fs::write(root.join(path), content).unwrap();
    dir("etc");
    file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    file("etc/empty", b"");
    file("MixedCase.TXT", &(0..200_001u32).map(|i| ((i * 31) >> 3) as u8).collect::<Vec<u8>>());
    // More than one sector of records.
    dir("many");
    (0..300).for_each(|i| file(&format!("many/file-number-{i}"), format!("{i}\n").as_bytes()));
    // Deeper than eight levels: moved to rr_moved.
    dir("a/b/c/d/e/f/g/h/i/j/k");
    file("a/b/c/d/e/f/g/h/i/j/k/deep", b"deep\n");
    file("a/b/c/d/e/f/g/h/eighth", b"8\n");
    // Names and targets that need several entries and continuation areas.
    file(&"n".repeat(250), b"long name\n");
    file("größer-日本語", b"utf-8\n");
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../.././etc//passwd", root.join("many/relative")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink(format!("{}/end", ["component-of-the-target"; 9].join("/")), root.join("long-link")).unwrap();
    // (genisoimage writes targets wrongly that need a second continuation area.)
    symlink("x".repeat(180), root.join("long-component")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
    for (path, mode) in [("etc", 0o2750), ("etc/passwd", 0o600), ("MixedCase.TXT", 0o4711), ("many", 0o1777)] {
        std::fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    for (path, seconds) in [("etc/passwd", 1_700_000_000), ("MixedCase.TXT", 951_827_696), ("fifo", 5)] {
        run("touch", &["-d", &format!("@{seconds}"), root.join(path).to_str().unwrap()]);
    }
}

/// The folder as a tree, with what a Rock Ridge disc keeps of it.
fn host_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue = vec![Vec::new()];
    while let Some(path) = queue.pop() {
        let host = root.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(&path)));
        let meta = std::fs::symlink_metadata(&host).unwrap();
        let content = match meta.file_type() {
            t if t.is_file() => std::fs::read(&host).unwrap(),
            t if t.is_symlink() => std::fs::read_link(&host).unwrap().as_os_str().as_bytes().to_vec(),
            t if t.is_dir() => {
                for entry in std::fs::read_dir(&host).unwrap() {
                    queue.push([path.as_slice(), b"/", entry.unwrap().file_name().as_bytes()].concat());
                }
                Vec::new()
            }
            t => {
                assert!(t.is_fifo() || t.is_char_device() || t.is_block_device());
                Vec::new()
            }
        };
        let device = match meta.file_type() {
            t if t.is_char_device() || t.is_block_device() => {
                ((meta.rdev() >> 8) as u32 & 0xfff, meta.rdev() as u32 & 0xff)
            }
            _ => (0, 0),
        };
        let entry = Entry {
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            links: meta.nlink(),
            size: if meta.is_dir() { 0 } else { meta.size() },
            device,
            times: [meta.atime(), meta.mtime(), meta.ctime()].map(Timestamp::from_seconds),
            content,
            xattrs: Vec::new(),
            same_as: path.clone(),
        };
        tree.insert(path, entry);
    }
    tree
}

/// Makes a disc of a folder.
fn disc(tree: &Path, image: &Path, options: &[&str]) -> Device {
    let arguments = [&["-quiet", "-input-charset", "utf-8"], options, &["-o", image.to_str().unwrap()]].concat();
    run("genisoimage", &[arguments, vec![tree.to_str().unwrap()]].concat());
    Arc::new(Memory::from(std::fs::read(image).unwrap()))
}

/// What is not compared: reading a folder changes its access times, and link counts of folders are the maker's.
fn comparable(mut tree: Tree) -> Tree {
    for entry in tree.values_mut() {
        entry.times[0] = Timestamp::default();
        if entry.mode & 0o170000 == 0o040000 {
            entry.links = 0;
        }
    }
    tree
}

#[test]
fn rock_ridge_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir(&root).unwrap();
    fill(&root);
    let made = |path: &str, kind: &str, numbers: [&str; 2]| {
        Command::new("mknod").arg(root.join(path)).arg(kind).args(numbers).output().unwrap().status.success()
    };
    if !made("null", "c", ["1", "3"]) || !made("disk", "b", ["8", "17"]) {
        eprintln!("SKIPPED: device nodes, since only root can make them");
    }
    for options in [&["-R"][..], &["-R", "-J", "-joliet-long"], &["-R", "-iso-level", "3", "-D"]] {
        let device = disc(&root, &image, options);
        let fs = fs::open(device).unwrap();
        let mut found = comparable(through_trait(fs.as_ref()));
        if let Some(moved) = found.remove(&b"/rr_moved"[..]) {
            assert_eq!(moved.mode & 0o170000, 0o040000);
        }
        assert_same(&found, &comparable(host_tree(&root)), &format!("{options:?}"));
        assert_eq!(fs.info().unwrap().fs_type, "iso9660");
    }
}

/// What isoinfo prints of one file.
fn isoinfo_content(image: &Path, way: &[&str], path: &str) -> Vec<u8> {
    let output = oracle::command("isoinfo").args(way).arg("-i").arg(image).args(["-x", path]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn paths(tree: &Tree) -> Vec<String> {
    let mut paths: Vec<String> = tree.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
    paths.retain(|path| !path.is_empty());
    paths.sort();
    paths
}

#[test]
fn joliet_and_plain_names() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir_all(root.join("Some Folder/deeper")).unwrap();
    let content = |name: &str| format!("content of {name}\n").into_bytes();
    for name in ["Read Me.txt", "makefile", "größer 日本語.tar.gz", "Some Folder/x", "Some Folder/deeper/y.c"] {
        std::fs::write(root.join(name), content(name)).unwrap();
    }
    let joliet = through_trait(fs::open(disc(&root, &image, &["-J"])).unwrap().as_ref());
    let host = host_tree(&root);
    assert_eq!(paths(&joliet), paths(&host));
    for (path, entry) in &joliet {
        let want = &host[path];
        assert_eq!(entry.content, want.content);
        assert_eq!((entry.times[1], entry.mode & 0o7777, entry.uid), (want.times[1], 0o555, 0));
    }
    let plain = through_trait(fs::open(disc(&root, &image, &[])).unwrap().as_ref());
    let listed = run("isoinfo", &["-f", "-i", image.to_str().unwrap()]);
    // isoinfo shows names as they are recorded.
    let recorded: Vec<&str> = listed.lines().filter(|line| line.starts_with('/')).collect();
    let shown = |name: &&str| name.trim_end_matches(";1").trim_end_matches('.').to_lowercase();
    let mut wanted: Vec<String> = recorded.iter().map(shown).collect();
    wanted.sort();
    assert_eq!(paths(&plain), wanted);
    assert!(wanted.contains(&"/makefile".to_string()), "{wanted:?}");
    for name in recorded.iter().filter(|name| name.ends_with(";1")) {
        let bytes = isoinfo_content(&image, &[], name);
        assert!(!bytes.is_empty());
        assert_eq!(plain[shown(name).as_bytes()].content, bytes, "{name}");
    }
}

#[test]
fn label_and_uuid_are_blkids() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("user-data"), "#cloud-config\n").unwrap();
    for options in [
        &["-V", "cidata", "-J", "-R"][..],
        &["-V", "CIDATA"],
        &["-V", "A label of thirty-two characters", "-J"],
        &["-V", "", "-J"],
        &["-V", "Größe", "-J", "-R"],
    ] {
        let device = disc(&root, &image, options);
        let identity = fs::identify(device.as_ref()).unwrap().unwrap();
        let field = |name: &str| {
            let told = oracle::tool("blkid", &["-p", "-o", "value", "-s", name, image.to_str().unwrap()]).1;
            told.trim_end_matches('\n').to_string()
        };
        assert_eq!(identity.fs_type, field("TYPE"));
        assert_eq!(identity.label, field("LABEL"), "{options:?}");
        assert_eq!((identity.uuid.as_str(), identity.uuid.len()), (field("UUID").as_str(), 22), "{options:?}");
    }
}

#[test]
fn a_file_in_several_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir(&root).unwrap();
    // Two files that follow each other become the pieces of one, by their records alone.
    let pieces = [vec![1; 2048 * 3], vec![2; 5000]];
    std::fs::write(root.join("PIECE1"), &pieces[0]).unwrap();
    std::fs::write(root.join("PIECE2"), &pieces[1]).unwrap();
    std::fs::write(root.join("ZLAST"), b"last").unwrap();
    disc(&root, &image, &[]);
    let mut bytes = std::fs::read(&image).unwrap();
    let records: Vec<usize> =
        (0..bytes.len() - 8).filter(|at| bytes[*at..].starts_with(b"PIECE") && bytes[*at - 1] == 9).collect();
    let [first, second] = records[..] else { panic!("records at {records:?}") };
    bytes[first - 8] |= 0x80;
    bytes[second + 5] = b'1';
    let open = |bytes: &[u8]| fs::open(Arc::new(Memory::from(bytes.to_vec()))).unwrap();
    let fs = open(&bytes);
    let tree = through_trait(fs.as_ref());
    assert_eq!(paths(&tree), ["/piece1", "/zlast"]);
    assert_eq!(tree[&b"/piece1"[..]].content, pieces.concat());
    let node = fs.lookup(fs.root(), b"piece1").unwrap().unwrap();
    let mut middle = [0; 4];
    assert_eq!(fs.read(node, 6142, &mut middle).unwrap(), 4);
    assert_eq!(middle, [1, 1, 2, 2]);
    assert_eq!(fs.read(node, 11_142, &mut middle).unwrap(), 2);
    // A last piece that says that more follow.
    bytes[second - 8] |= 0x80;
    let fs = open(&bytes);
    let node = fs.lookup(fs.root(), b"piece1").unwrap().unwrap();
    assert_eq!(fs.metadata(node).unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn discs_are_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("f"), "x").unwrap();
    let mut fs = fs::open(disc(&root, &image, &["-R"])).unwrap();
    let error = fs.edit(Timestamp::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::ReadOnly);
    assert!(error.hint_text().unwrap().contains("copy the tree out"));
    assert!(fs.info().unwrap().read_only.is_some());
    let options = fs::MakeOptions { fs_type: "iso9660".into(), ..Default::default() };
    assert_eq!(fs::make(&(Arc::new(Memory::new(1 << 20)) as Device), &options).unwrap_err().kind(), Kind::Unsupported);
}

/// Walks everything and reads a piece of every file; a tree of directories has no circle.
fn walk(fs: &dyn FileSystem) -> usize {
    let mut seen: HashSet<NodeId> = HashSet::new();
    let mut waiting = vec![fs.root()];
    let mut buffer = vec![0; 5000];
    while let Some(node) = waiting.pop() {
        let Ok(about) = fs.metadata(node) else { continue };
        match about.file_type {
            FileType::Directory => {
                for entry in fs.read_dir(node).unwrap_or_default() {
                    let is_dir = entry.file_type == Some(FileType::Directory);
                    assert!(seen.insert(entry.node) || !is_dir, "a circle of directories");
                    waiting.push(entry.node);
                }
            }
            FileType::Symlink => drop(fs.read_link(node)),
            _ => {
                let _ = fs.read(node, about.size / 2, &mut buffer);
                let _ = fs.extents(node);
            }
        }
    }
    seen.len()
}

#[test]
fn damaged_discs() {
    let folder = tempfile::tempdir().unwrap();
    let (root, image) = (folder.path().join("tree"), folder.path().join("disc"));
    std::fs::create_dir(&root).unwrap();
    fill(&root);
    let mut random = Random(0x1509_6600);
    let mut walked = 0;
    for options in [&["-R"][..], &["-J"], &["-iso-level", "3"]] {
        disc(&root, &image, options);
        let bytes = std::fs::read(&image).unwrap();
        let whole = walk(fs::open(Arc::new(Memory::from(bytes.clone()))).unwrap().as_ref());
        assert!(whole > 300, "{whole}");
        // Structures stand before the content, which begins after some 100 sectors.
        let end = 150 * 2048;
        let used: Vec<usize> = (0x8000..end).filter(|at| bytes[*at] != 0).collect();
        for _ in 0..120 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(20) {
                let at = used[random.below(used.len() as u64) as usize];
                damaged[at] = [random.next() as u8, 0, 0xff, damaged[at].wrapping_add(1)][random.below(4) as usize];
            }
            if random.below(20) == 0 {
                damaged.truncate(random.below(damaged.len() as u64) as usize);
            }
            if let Ok(fs) = fs::open(Arc::new(Memory::from(damaged))) {
                walked += walk(fs.as_ref());
            }
        }
    }
    assert!(walked > 30_000, "only {walked} nodes");
}
