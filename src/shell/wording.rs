//! guestfish's words in front of an error: the library's call that failed, which is not always the command typed, and
//! the step in it. Scripts look for them.

use crate::base::{Error, Kind};
use crate::command::Command;

/// Command, its call in the library, the step that fails on a path.
const CALLS: &[(&str, &str, &str)] = &[
    ("cat", "download", ""),
    ("edit", "download", ""),
    ("emacs", "download", ""),
    ("file", "file", "lstat: "),
    ("fill-dir", "fill_dir", "create: "),
    ("less", "download", ""),
    ("ln", "ln", "link: "),
    ("ln-f", "ln_f", "link: "),
    ("ls", "ls0", "opendir: "),
    ("ls0", "ls0", "opendir: "),
    ("lstat", "lstatns", ""),
    ("lstatlist", "lstatnslist", ""),
    ("more", "download", ""),
    ("pwrite", "pwrite", "open: "),
    ("read-file", "download", ""),
    ("readdir", "readdir", "opendir: "),
    ("readlink", "readlink", "readlink: "),
    ("realpath", "realpath", "realpath: "),
    ("rename", "rename", "rename: "),
    ("stat", "statns", ""),
    ("statvfs", "statvfs", "statvfs: "),
    ("touch", "touch", "open: "),
    ("truncate", "truncate", "open: "),
    ("truncate-size", "truncate_size", "ftruncate: "),
    ("utimens", "utimens", "utimensat: "),
    ("vi", "download", ""),
    ("write", "internal_write", "open: "),
    ("write-append", "internal_write_append", "open: "),
];

/// Commands whose errors stand alone: they are not the library's.
const ALONE: &[&str] =
    &["copy-in", "copy-out", "parse-environment", "parse-environment-list", "set-memsize", "set-smp"];

/// The call that a command's error names; empty for errors that stand alone.
pub fn call(command: &Command) -> String {
    match CALLS.iter().find(|(name, ..)| *name == command.name) {
        Some((_, call, _)) => (*call).to_string(),
        None => command.name.replace('-', "_"),
    }
}

/// What stands in front of an error, with blanks and colons.
pub fn prefix(command: &Command, error: &Error) -> String {
    let call = call(command);
    match error.kind() {
        // Arguments are checked in the part of the library that has this name.
        Kind::Usage if error.to_string().ends_with("path must start with a / character") => {
            format!("{call}: {call}_stub: ")
        }
        Kind::NotMounted => format!("{call}: {call}_stub: "),
        _ if ALONE.contains(&command.name) && error.kind() != Kind::Unsupported => String::new(),
        Kind::NotFound if error.to_string().starts_with("/dev/") => format!("{call}: {call}_stub: "),
        Kind::Usage | Kind::Unsupported | Kind::Interrupted | Kind::Internal => format!("{call}: "),
        Kind::NoSpace => format!("{call}: write: "),
        _ => {
            let step = CALLS.iter().find(|(name, ..)| *name == command.name).map_or("", |(.., step)| step);
            format!("{call}: {step}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::lookup;

    #[test]
    fn names_that_scripts_know() {
        let missing = Error::from(Kind::NotFound).at("/nope");
        for (name, words) in [("cat", "download: "), ("ls", "ls0: opendir: "), ("mkdir", "mkdir: ")] {
            assert_eq!(prefix(lookup(name).unwrap(), &missing), words);
        }
        let relative = Error::usage("path must start with a / character").at("x");
        assert_eq!(prefix(lookup("is-file").unwrap(), &relative), "is_file: is_file_stub: ");
        assert!(CALLS.iter().all(|(name, ..)| lookup(name).is_some()) && ALONE.iter().all(|n| lookup(n).is_some()));
    }
}
