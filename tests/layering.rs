//! Who may use whom (docs/architecture.md): reads the sources and fails with file, line and the broken rule.

use std::fs;
use std::path::Path;

/// Every module with the modules it may name. `front` may name all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("disk", &["base"]),
    ("stage", &["base", "disk"]),
    ("volume", &["base", "disk"]),
    ("fs", &["base", "disk"]),
    ("guest", &["base", "disk", "fs"]),
    ("session", &["base", "disk", "stage", "volume", "fs", "guest"]),
    // The table and its types are one layer.
    ("command", &["base", "disk", "stage", "volume", "fs", "guest", "session", "commands"]),
    ("commands", &["base", "disk", "stage", "volume", "fs", "guest", "session", "command"]),
    ("shell", &["base", "fs", "guest", "session", "command", "commands"]),
    ("script", &["base", "guest", "session", "command", "commands"]),
    ("host", &["base", "guest", "command", "shell"]),
];

/// Words that only some files may hold, with why.
const ONLY_IN: &[(&[&str], &[&str], &str)] = &[
    (&["rhai::"], &["script/"], "only script knows Rhai"),
    (&["rustyline::"], &["front/repl.rs"], "only the prompt knows rustyline"),
    (&["rustix::termios"], &["host/terminal.rs"], "only one place asks the terminal"),
    (
        &["rustix::"],
        &["host/terminal.rs", "disk/raw/host.rs"],
        "only the terminal, attributes of image files and shared blocks need rustix",
    ),
    (&["clap::"], &["front/cli.rs"], "only the options know clap"),
    (&["println!", "print!", "stdout()", "stderr()", "dbg!"], &["front/"], "only front writes to the terminal"),
    (
        &["std::env", "std::process", "std::fs"],
        &["host/", "front/", "disk/", "stage/pages.rs", "main.rs"],
        "the host is reached through the trait Host",
    ),
    (&["SystemTime"], &["host/"], "the clock is the host's"),
];

const DRIVERS: &[&str] = &["btrfs", "erofs", "ext4", "fat", "iso9660", "rofs", "squashfs", "xfs"];

/// The rules that a source file breaks. `name` is its path below `src/`.
fn broken(name: &str, source: &str) -> Vec<String> {
    // Tests at the end of a file may use what they like.
    let code = source.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let module = name.split(['/', '.']).next().unwrap_or_default();
    let driver = name.strip_prefix("fs/").and_then(|rest| rest.split('/').next());
    let mut found = Vec::new();
    let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    for (index, line) in code.iter().enumerate() {
        let mut fail = |rule: String| found.push(format!("src/{name}:{}: {rule}: {}", index + 1, line.trim()));
        for (at, _) in line.match_indices("crate::") {
            let text = code[index..].join("\n");
            for used in named(&text[at + "crate::".len()..]) {
                let allowed = MAY_USE.iter().find(|(from, _)| *from == module).map(|(_, to)| *to);
                if used != module && allowed.is_some_and(|to| !to.contains(&used.as_str())) {
                    fail(format!("{module} may not use {used}"));
                }
            }
            let other = DRIVERS.iter().find(|d| line[at..].starts_with(&format!("crate::fs::{d}")));
            if let (Some(own), Some(other)) = (driver.filter(|d| DRIVERS.contains(d)), other)
                && own != *other
            {
                fail(format!("the driver {own} may not use the driver {other}"));
            }
        }
        for (words, places, why) in ONLY_IN {
            if !places.iter().any(|p| name.starts_with(p)) && words.iter().any(|w| holds(line, w)) {
                fail((*why).to_string());
            }
        }
    }
    found
}

/// Whether a line names a word that is not the end of a longer one.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The modules that the path after `crate::` names: one, or those in braces.
fn named(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inside) = text.strip_prefix('{') else { return vec![word(text)] };
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            c if depth == 0 && !c.is_whitespace() => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    parts.iter().map(|part| word(part)).filter(|part| !part.is_empty() && part != "self").collect()
}

fn read(folder: &Path, root: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.ends_with("tests") {
            // Tests may use what they like.
        } else if path.is_dir() {
            read(&path, root, found, files);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_stem().is_some_and(|s| s != "tests") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
            found.extend(broken(&name, &fs::read_to_string(&path).unwrap()));
            *files += 1;
        }
    }
}

#[test]
fn every_module_keeps_to_its_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut files) = (Vec::new(), 0);
    read(&root, &root, &mut found, &mut files);
    assert!(files > 30, "only {files} files were read");
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn broken_rules_are_found() {
    assert_eq!(
        broken("fs/ext4/mod.rs", "use crate::base::Result;\nuse crate::guest::Guest;\n"),
        ["src/fs/ext4/mod.rs:2: fs may not use guest: use crate::guest::Guest;"]
    );
    assert_eq!(broken("shell/run.rs", "use crate::{\n    base::{Kind, host},\n    front::cli,\n};\n").len(), 1);
    assert_eq!(broken("fs/fat/dir.rs", "use crate::fs::ext4::Inode;\n").len(), 1);
    assert_eq!(broken("guest/mod.rs", "fn f() { println!(\"x\"); std::fs::read(p); }\n").len(), 2);
    assert_eq!(broken("shell/lex.rs", "use rustyline::Editor;\nuse clap::Arg; // rhai::Engine\n").len(), 2);
    assert_eq!(broken("front/run.rs", "use crate::session::Session;\nprintln!();\n").len(), 0);
    assert_eq!(broken("base/path.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n").len(), 0);
}
