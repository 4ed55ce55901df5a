//! The types of files against file(1), which guestfish asks: programs, libraries and objects of this machine, file systems.

mod oracle;

use std::fs;
use std::path::{Path, PathBuf};

use oracle::world::{World, name};
use oracle::{command, run};

/// What file(1) says of a host file.
fn told(path: &Path) -> String {
    run("file", &["-b", &name(path)]).trim_end().to_string()
}

/// Lines of imgsh's `file` for files of a folder, copied in.
fn ours(world: &World, names: &[String]) -> Vec<String> {
    run("truncate", &["-s", "400M", &name(&world.path("image"))]);
    let files: String = names.iter().map(|name| format!("file /files/{name}\n")).collect();
    fs::write(world.path("ask"), format!("run\nmkfs ext4 /dev/sda\nmount /dev/sda /\ncopy-in files /\n{files}"))
        .unwrap();
    world.good(&["--format=raw", "-a", "image", "-f", "ask"]).lines().map(str::to_string).collect()
}

#[test]
fn programs_are_told_as_by_file() {
    let world = World::new();
    let folder = world.path("files");
    fs::create_dir(&folder).unwrap();
    let this = std::env::current_exe().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_imgsh"));
    let mut sources: Vec<PathBuf> = vec![this, program];
    for place in
        ["/bin", "/sbin", "/usr/bin", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
    {
        let Ok(found) = fs::read_dir(place) else { continue };
        let mut found: Vec<PathBuf> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.sort();
        let small = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() < 3 << 20);
        let elf = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        sources.extend(found.into_iter().filter(|path| !path.is_symlink() && small(path) && elf(path)).take(25));
    }
    // An object, with and without what debuggers need.
    fs::write(world.path("a.c"), "int one = 1;\n").unwrap();
    for (options, object) in [(&["-g"][..], "debug.o"), (&[], "plain.o")] {
        let made =
            command("cc").args(options).args(["-c", "-o"]).arg(world.path(object)).arg(world.path("a.c")).status();
        sources.extend(made.is_ok_and(|status| status.success()).then(|| world.path(object)));
    }
    let mut names = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let file = format!("{number:03}");
        fs::copy(source, folder.join(&file)).unwrap();
        names.push(file);
    }
    let wanted: Vec<String> = names.iter().map(|name| told(&folder.join(name))).collect();
    assert!(wanted.iter().filter(|line| line.contains("BuildID")).count() > 5, "{wanted:?}");
    for ((source, ours), wanted) in sources.iter().zip(ours(&world, &names)).zip(wanted) {
        assert_eq!(ours, wanted, "{}", source.display());
    }
}

#[test]
fn file_systems_are_told_as_by_file() {
    let world = World::new();
    let disk = name(&world.path("disk"));
    for (make, words) in [
        ("mke2fs", "-q -F -t ext4 -L label"),
        ("mke2fs", "-q -F -t ext3"),
        ("mke2fs", "-q -F -t ext2 -r 0 -O none"),
        ("mke2fs", "-q -F -t ext4 -O ^has_journal,quota"),
        ("mkfs.xfs", "-q -f -L label"),
        ("mkfs.btrfs", "-q -f -L label"),
        ("mkfs.btrfs", "-q -f"),
        ("mkswap", "-q -L label"),
    ] {
        fs::remove_file(world.path("disk")).ok();
        run("truncate", &["-s", "400M", &disk]);
        run(make, &[&words.split(' ').collect::<Vec<_>>()[..], &[disk.as_str()]].concat());
        let wanted = run("file", &["-bs", &disk]);
        fs::write(world.path("ask"), "run\nfile /dev/sda\n").unwrap();
        let ours = world.good(&["--format=raw", "-a", "disk", "-f", "ask"]);
        assert_eq!(ours.trim_end(), wanted.trim_end(), "{make} {words}");
    }
}

/// No header of a program makes it fail: every byte of the first ones changed, and the file cut.
#[test]
fn damaged_programs_are_told_somehow() {
    let program = fs::read("/bin/true").or_else(|_| fs::read("/usr/bin/true")).unwrap();
    let world = World::new();
    let folder = world.path("files");
    fs::create_dir(&folder).unwrap();
    let mut names = Vec::new();
    let mut keep = |bytes: &[u8]| {
        let file = format!("{:04}", names.len());
        fs::write(folder.join(&file), bytes).unwrap();
        names.push(file);
    };
    for at in 0..200 {
        let mut bytes = program.clone();
        bytes[at] = if bytes[at] == 0xff { 0 } else { 0xff };
        keep(&bytes);
        keep(&program[..at * 3]);
    }
    assert_eq!(ours(&world, &names).len(), names.len());
}
