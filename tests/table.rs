//! Rules of the command table, and docs/commands.md, which is written from it.

use std::collections::BTreeMap;
use std::path::Path;

use imgsh::command::{self, Effect, Kind, Need, Returns};
use imgsh::commands::{self, GROUPS};

#[test]
fn names() {
    let mut seen = BTreeMap::new();
    for command in commands::all() {
        for name in std::iter::once(&command.name).chain(command.aliases) {
            let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            assert!(valid, "{name}: names begin in lower case and are letters, digits and dashes");
            let before = seen.insert(*name, command.name);
            assert_eq!(before, None, "{name} stands for two commands");
            assert_eq!(commands::lookup(name).map(|c| c.name), Some(command.name), "{name} is not found");
            assert_eq!(commands::lookup(&name.to_uppercase()).map(|c| c.name), Some(command.name));
        }
        assert_eq!(commands::lookup(&command.name.replace('-', "_")).map(|c| c.name), Some(command.name));
    }
    assert!(commands::lookup("no-such-command").is_none());
}

#[test]
fn groups_are_sorted() {
    for group in GROUPS {
        assert!(group.commands.is_sorted_by_key(|c| c.name), "{}: not in alphabetical order", group.title);
    }
}

#[test]
fn texts() {
    for command in commands::all() {
        let name = command.name;
        let abbreviation = command.summary.starts_with("GUID ") || command.summary.starts_with("UUID ");
        assert!(
            abbreviation || command.summary.starts_with(char::is_lowercase),
            "{name}: the summary begins in lower case"
        );
        assert!(
            !command.summary.ends_with('.') && !command.summary.contains('\n'),
            "{name}: summary is one line, no full stop"
        );
        assert!(
            command.help.is_empty() || command.help.trim_end().ends_with(['.', '`']),
            "{name}: help ends with a full stop"
        );
        assert!(!command.examples.is_empty(), "{name}: no example");
        for example in command.examples {
            assert!(mentions(example.lines, command), "{name}: an example does not use it");
            assert!(example.lines.ends_with('\n'), "{name}: the last line of an example is not ended");
        }
    }
}

/// Whether one of the lines runs the command.
fn mentions(lines: &str, command: &command::Command) -> bool {
    lines
        .lines()
        .filter_map(|line| line.trim_start_matches('-').split(' ').next())
        .any(|word| word == command.name || command.aliases.contains(&word))
}

#[test]
fn parameters() {
    for command in commands::all() {
        let name = command.name;
        let params = command.params;
        let repeated = params.iter().filter(|p| matches!(p.need, Need::Many | Need::Any)).count();
        assert!(repeated <= 1, "{name}: two repeated parameters cannot be told apart");
        let optional = |p: &command::Param| p.need == Need::Optional;
        assert!(params.is_sorted_by_key(optional), "{name}: optional parameters come last");
        assert!(
            params.iter().all(|p| p.need != Need::Maybe) || repeated == 0,
            "{name}: a word that may be left out beside a repeated one"
        );
        for (index, param) in params.iter().enumerate() {
            let valid = param.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            assert!(valid && !param.name.is_empty(), "{name}: parameter {}", param.name);
            assert!(params[..index].iter().all(|p| p.name != param.name), "{name}: {} twice", param.name);
        }
        let writes_host = params.iter().any(|p| p.kind == Kind::FileOut);
        assert!(!writes_host || command.returns == Returns::Nothing, "{name}: two answers");
    }
}

#[test]
fn effects() {
    for name in ["mkdir", "upload", "copy-in", "mkfs", "part-init", "part-set-name", "chmod", "edit", "install-file"] {
        let command = commands::lookup(name).unwrap();
        assert_eq!(command.effect, Effect::Writes, "{name} must become a step");
    }
    for name in ["cat", "ls", "download", "copy-out", "find0", "part-list", "inspect-os", "changes"] {
        assert_eq!(commands::lookup(name).unwrap().effect, Effect::Reads, "{name} must not become a step");
    }
}

#[test]
fn reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let fresh = command::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == fresh, "docs/commands.md is stale: run `UPDATE_DOCS=1 cargo test --test table`");
}
