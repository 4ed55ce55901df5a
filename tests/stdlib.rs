//! The modules of `stdlib/` for administrators: each script in `tests/stdlib/` runs on a guest of its own, and their comments are their pages in
//! `docs/stdlib.md` (`UPDATE_DOCS=1 cargo test --test stdlib` writes them anew).

mod oracle;

use std::fs;
use std::path::PathBuf;

use imgsh::script::LIBRARY;
use oracle::world::{World, name, text};
use oracle::{assert_clean, run};

/// The modules whose pages are made from their comments.
const DOCUMENTED: [&str; 5] = ["std/assert", "std/files", "std/image", "std/report", "std/users"];
/// Where the pages stand: from here to the end.
const MARK: &str = "<!-- From here on by UPDATE_DOCS=1 cargo test --test stdlib, from the comments in stdlib/. -->\n";

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A world with an empty file system in disk.raw, and a host folder.
fn world() -> World {
    let world = World::new();
    world.good(&[
        "disk-create",
        "disk.raw",
        "raw",
        "64M",
        ":",
        "add",
        "disk.raw",
        ":",
        "run",
        ":",
        "mkfs",
        "ext4",
        "/dev/sda",
        "label:std",
    ]);
    fs::create_dir_all(world.path("host/sub")).unwrap();
    fs::write(world.path("host/sub/f"), "hi\n").unwrap();
    run("chmod", &["0700", &name(&world.path("host/sub/f"))]);
    run("chmod", &["0755", &name(&world.path("host/sub")), &name(&world.path("host"))]);
    std::os::unix::fs::symlink("sub/f", world.path("host/l")).unwrap();
    world
}

/// Runs a script of tests/stdlib, which must succeed; answers what it printed.
fn script(world: &World, script: &str) -> String {
    let path = name(&here("tests/stdlib").join(script));
    let printed = world.good(&["-a", "disk.raw", "-m", "/dev/sda", &path]);
    assert_clean(&world.path("disk.raw"), script);
    printed
}

#[test]
fn every_module_does_what_its_script_says() {
    let mut scripts: Vec<String> = fs::read_dir(here("tests/stdlib"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "expect.rhai")
        .collect();
    scripts.sort();
    let named: Vec<String> = scripts.iter().map(|script| format!("std/{}", script.trim_end_matches(".rhai"))).collect();
    assert_eq!(named, DOCUMENTED, "a script for every module");
    for name in scripts {
        let printed = script(&world(), &name);
        let wanted = if name == "assert.rhai" { "1 looked at, 1 right, 0 wrong\n" } else { "" };
        assert_eq!(printed, wanted, "{name}");
    }
}

#[test]
fn assertions_set_the_exit_status() {
    let world = world();
    let script = "import \"std/assert\" as assert;\n\
                  assert::finish([assert::dir_at(\"/lost+found\"), assert::file_at(\"/nope\"), assert::mode(\"/\", \"0700\")]);\n";
    fs::write(world.path("soft.rhai"), script).unwrap();
    let done = world.imgsh(&["--ro", "-a", "disk.raw", "-m", "/dev/sda", "soft.rhai"]);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(
        text(&done.stdout),
        "wrong: /nope: expected file, found missing\nwrong: the mode of /: expected 0700, found 0755\n3 looked at, 1 right, 2 wrong\n"
    );
    fs::write(
        world.path("hard.rhai"),
        "import \"std/assert\" as assert;\nassert::that(assert::file_at(\"/nope\"));\nprint(1);",
    )
    .unwrap();
    let done = world.imgsh(&["--ro", "-a", "disk.raw", "-m", "/dev/sda", "hard.rhai"]);
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(1), ""));
    assert!(text(&done.stderr).contains("/nope: expected file, found missing"), "{}", text(&done.stderr));
}

#[test]
fn images_that_were_made_are_good_and_copies_are_the_same() {
    let world = world();
    script(&world, "image.rhai");
    let lines = "import \"std/image\" as image;\n\
                 image::copy(\"new.qcow2\", \"copy.qcow2\");\n\
                 image::convert(\"new.qcow2\", \"copy.raw\", \"raw\");\n\
                 print(image::info(\"copy.raw\").format + \" \" + image::info(\"copy.qcow2\").size);\n\
                 print(image::compare(\"copy.qcow2\", \"copy.raw\").same);\n\
                 print(image::compare(\"copy.raw\", \"flat.raw\").same);\n";
    fs::write(world.path("copies.rhai"), lines).unwrap();
    assert_eq!(world.good(&["copies.rhai"]), "raw 134217728\ntrue\nfalse\n");
    let [made, copy] = ["new.qcow2", "copy.raw"].map(|image| name(&world.path(image)));
    run("qemu-img", &["compare", &made, &copy]);
    run("sgdisk", &["-v", &copy]);
    let part = world.part("new.qcow2", 34816..34816 + 208_896);
    assert_clean(&part, "the root of a made image");
    run("fsck.fat", &["-n", &name(&world.part("new.qcow2", 2048..34816))]);
}

/// A module's page: what stands at the top of the file, and the comment and head of each function that others may call.
fn page(module: &str, source: &str) -> String {
    let mut page = format!("\n## {module}\n\n");
    let mut lines = source.lines().peekable();
    let top = format!("// {module}: ");
    let mut first = true;
    while let Some(line) = lines.next_if(|line| line.starts_with("//")) {
        let line = if first { line.strip_prefix(&top).unwrap() } else { line[2..].strip_prefix(' ').unwrap_or("") };
        // The first sentence begins behind the module's name.
        let line = if first { line[..1].to_uppercase() + &line[1..] } else { line.to_string() };
        first = false;
        page += line.trim_end();
        page.push('\n');
    }
    let mut comment: Vec<&str> = Vec::new();
    for line in lines {
        if let Some(text) = line.strip_prefix("/// ") {
            comment.push(text);
        } else if let Some(head) = line.strip_prefix("fn ") {
            assert!(!comment.is_empty(), "{module}: fn {head} has no comment");
            let head = head.split_once(" {").unwrap().0;
            page += &format!("\n`{head}`\n\n{}\n", comment.join("\n"));
            comment.clear();
        }
    }
    page
}

#[test]
fn the_pages_are_those_of_the_comments() {
    let path = here("docs/stdlib.md");
    let text = fs::read_to_string(&path).unwrap();
    let (written, pages) = text.split_once(MARK).unwrap();
    let wanted: String = LIBRARY
        .iter()
        .filter(|(module, _)| DOCUMENTED.contains(module))
        .map(|(module, source)| page(module, source))
        .collect();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{written}{MARK}{wanted}")).unwrap();
        return;
    }
    assert!(pages == wanted, "docs/stdlib.md is stale: UPDATE_DOCS=1 cargo test --test stdlib");
}
