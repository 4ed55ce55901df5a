//! What went wrong, in the words that scripts know.

use std::io::{self, Write};

use super::wording;
use crate::base::{Error, Kind};
use crate::command::Command;

/// Why a line failed.
#[derive(Debug)]
pub enum Failure {
    /// Of the language itself: `PROG: text`.
    Shell(String),
    /// Lines that stand alone.
    Plain(String),
    /// Of a command: `FILE:LINE: libguestfs: error: mkdir: /d: File exists`.
    Command {
        /// What stands in front: the library's call and the step, `mkdir: `, `ls0: opendir: `.
        prefix: String,
        /// Its error.
        error: Error,
    },
    /// Of a host program that has spoken for itself.
    Silent,
}

impl Failure {
    /// Of the shell itself, or of the host on its behalf.
    pub fn shell(error: Error) -> Self {
        Failure::Shell(error.to_string())
    }

    /// A command's failure.
    pub fn command(command: &Command, error: Error) -> Self {
        match (command.name, error.kind()) {
            // guestfish says these itself: they are not the library's.
            ("lcd", _) => Failure::Plain(error.to_string()),
            ("edit" | "emacs" | "vi", Kind::Io) if error.subject().is_none() => Failure::Plain(error.to_string()),
            _ => Failure::Command { prefix: wording::prefix(command, &error), error },
        }
    }
}

impl From<super::lex::LexError> for Failure {
    fn from(error: super::lex::LexError) -> Self {
        match error {
            super::lex::LexError::RunawayQuote(_) => Failure::Plain(error.to_string()),
            _ => Failure::Shell(error.to_string()),
        }
    }
}

/// Where lines come from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A prompt, or before any line: no place is named.
    Prompt,
    /// A file, `*stdin*`, or the words of the program's command line (line 0).
    Line {
        /// Name of the file.
        file: String,
        /// Lines from 1, those of heredocs not counted.
        line: u64,
    },
}

/// Writes a failure. `program` is the program's own name.
///
/// # Errors
/// What `out` says.
pub fn failure(out: &mut dyn Write, program: &str, place: &Place, failure: &Failure) -> io::Result<()> {
    match failure {
        Failure::Silent => Ok(()),
        Failure::Shell(text) => writeln!(out, "{program}: {text}"),
        Failure::Plain(text) => writeln!(out, "{text}"),
        Failure::Command { prefix, error } => {
            if let Place::Line { file, line } = place {
                write!(out, "{file}:{line}: ")?;
            }
            writeln!(out, "libguestfs: error: {prefix}{}", words(prefix, error))?;
            hint(out, error)
        }
    }
}

/// An error in guestfish's words, where they are not the kernel's.
fn words(prefix: &str, error: &Error) -> String {
    let text = error.to_string();
    match error.kind() {
        Kind::IsADirectory if prefix == "download: " => text.replace("Is a directory", "is a directory"),
        Kind::NotMounted => error.detail().to_string(),
        // The path itself is not repeated.
        Kind::Usage if prefix.contains("_stub: ") => "path must start with a / character".to_string(),
        _ => text,
    }
}

/// Writes what the user can do next, if the error knows. Hints in parentheses are guestfish's own second lines.
///
/// # Errors
/// What `out` says.
pub fn hint(out: &mut dyn Write, error: &Error) -> io::Result<()> {
    match error.hint_text() {
        Some(hint) if hint.starts_with('(') => writeln!(out, "{hint}"),
        Some(hint) => writeln!(out, "  hint: {hint}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(place: &Place, what: &Failure) -> String {
        let mut out = Vec::new();
        failure(&mut out, "imgsh", place, what).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_and_hints() {
        let line = Place::Line { file: "*stdin*".into(), line: 3 };
        let error = || Error::from(Kind::Exists).at("/d");
        let failed = |error| Failure::Command { prefix: "mkdir_p: ".into(), error };
        assert_eq!(shown(&line, &failed(error())), "*stdin*:3: libguestfs: error: mkdir_p: /d: File exists\n");
        assert_eq!(
            shown(&Place::Prompt, &failed(error().hint("use another name"))),
            "libguestfs: error: mkdir_p: /d: File exists\n  hint: use another name\n"
        );
        assert_eq!(
            shown(&Place::Prompt, &failed(Error::usage("call launch").hint("(use run)"))),
            "libguestfs: error: mkdir_p: call launch\n(use run)\n"
        );
        assert_eq!(shown(&line, &Failure::Shell("x".into())), "imgsh: x\n");
        assert_eq!(shown(&line, &Failure::Plain("x: unknown command".into())), "x: unknown command\n");
        assert_eq!(shown(&line, &Failure::Silent), "");
    }
}
