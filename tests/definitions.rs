//! The definition files for editors: all that scripts can call is in them, in the grammar of the language server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use imgsh::command::Returns;
use imgsh::commands;
use imgsh::script::{LIBRARY, definitions};

/// What a file defines: names of functions and constants. Panics where the grammar is broken: a module line, then items, each
/// with comments before it and a semicolon behind it.
fn names(file: &str, text: &str) -> BTreeSet<String> {
    let mut lines = text.lines().filter(|line| !line.is_empty()).skip_while(|line| line.starts_with("/// "));
    let module = lines.next().unwrap();
    assert!(
        module == "module static;" || module.starts_with("module \"./") && module.ends_with("\";"),
        "{file}: {module}"
    );
    let mut names = BTreeSet::new();
    let mut commented = false;
    for line in lines {
        if line.starts_with("///") {
            commented = true;
            continue;
        }
        let item = line.strip_suffix(';').unwrap_or_else(|| panic!("{file}: no semicolon: {line}"));
        let name = match (item.strip_prefix("fn "), item.strip_prefix("const ")) {
            (Some(function), _) => function_name(function),
            (_, Some(constant)) => constant.split_once(": ").filter(|(_, kind)| is_type(kind)).map(|(name, _)| name),
            _ => None,
        };
        let name = name.unwrap_or_else(|| panic!("{file}: no item: {line}"));
        assert!(is_identifier(name), "{file}: {line}");
        names.insert(name.to_string());
        assert!(commented || file != "imgsh.d.rhai", "{file}: no comment before {line}");
        commented = false;
    }
    assert!(!commented, "{file}: a comment at the end");
    names
}

/// The name in `name(param: type, ...) -> type`, `None` if it is not that.
fn function_name(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once('(')?;
    let (params, result) = rest.split_once(')')?;
    let mut seen = BTreeSet::new();
    for param in params.split(", ").filter(|param| !param.is_empty()) {
        let (name, kind) = param.split_once(": ")?;
        if !is_identifier(name) || !is_type(kind) || !seen.insert(name) {
            return None;
        }
    }
    (result.is_empty() || result.strip_prefix(" -> ").is_some_and(is_type)).then_some(name)
}

/// An identifier of Rhai that is none of its keywords: the compiler takes it as a parameter.
fn is_identifier(word: &str) -> bool {
    rhai::Engine::new_raw().compile(format!("fn f({word}) {{ {word} }}")).is_ok()
}

fn is_type(word: &str) -> bool {
    ["?", "Array", "Blob", "Map", "String", "bool", "int"].contains(&word)
}

#[test]
fn every_command_is_defined() {
    let files = definitions();
    let (file, text) = &files[0];
    assert_eq!(file, "imgsh.d.rhai");
    let names = names(file, text);
    let missing: Vec<&str> = commands::all()
        .filter(|c| c.returns != Returns::Control && !["sync", "exit"].contains(&c.name))
        .flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied()))
        .filter(|name| !names.contains(&name.replace('-', "_")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for line in [
        "/// make a directory.\n",
        "fn mkdir(path: String);\n",
        "fn ls(directory: String) -> Array;\n",
        "fn is_dir(path: String, options: Map) -> bool;\n",
        "fn copy_in(local: Array, remotedir: String);\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn what_is_registered_beside_the_commands_is_defined() {
    let (file, text) = &definitions()[0];
    let names = names(file, text);
    let mut registered = 0;
    for source in ["bind", "natives", "yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/script").join(format!("{source}.rs"));
        for rest in std::fs::read_to_string(path).unwrap().split("register_fn(\"").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(names.contains(name), "{name}");
            registered += 1;
        }
    }
    assert!(registered > 5, "{registered}");
}

#[test]
fn every_function_of_the_library_is_defined() {
    for (module, source) in LIBRARY {
        let file = format!("{module}.d.rhai");
        let files = definitions();
        let text = &files.iter().find(|(name, _)| *name == file).unwrap().1;
        let names = names(&file, text);
        let heads = source.lines().filter_map(|line| line.strip_prefix("fn ")?.split_once('('));
        let wanted: BTreeSet<String> = heads.map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, wanted, "{module}");
    }
}

#[test]
fn the_option_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = |into: &Path| Command::new(env!("CARGO_BIN_EXE_imgsh")).arg("--definitions").arg(into).output().unwrap();
    assert!(run(folder.path()).status.success());
    for (name, text) in definitions() {
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), text);
    }
    let wrong = run(&folder.path().join("imgsh.d.rhai"));
    assert!(
        !wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("imgsh.d.rhai: File exists"),
        "{wrong:?}"
    );
}
