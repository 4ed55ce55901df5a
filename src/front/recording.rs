//! What was done at the prompt, to be saved as a script that does it again: `history save FILE`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::cli::PROGRAM;
use crate::base::{Error, Kind, Result};

/// The commands of a session that ended well, with the lines of their heredocs.
#[derive(Debug, Default)]
pub struct Recording {
    lines: Vec<Vec<u8>>,
    /// Entries in Rhai that ended well.
    scripts: usize,
}

impl Recording {
    /// A command ended well; `more` are the lines that it took.
    pub fn command(&mut self, line: &[u8], more: Vec<Vec<u8>>) {
        if !line.trim_ascii().is_empty() {
            self.lines.push(line.to_vec());
            self.lines.extend(more);
        }
    }

    /// An entry in Rhai ended well.
    pub fn script(&mut self) {
        self.scripts += 1;
    }

    /// `history`: the commands; `history save FILE`: into a file. Answers what to print.
    ///
    /// # Errors
    /// Other words, a file that is there already, host errors.
    pub fn run(&self, words: &str) -> Result<String> {
        if words.is_empty() {
            return Ok(String::from_utf8_lossy(&self.lines.join(&b'\n')).into_owned());
        }
        let file = match words.strip_prefix("save") {
            Some(file) if file.starts_with([' ', '\t']) && !file.trim().is_empty() => Path::new(file.trim()),
            _ => return Err(Error::usage("history takes nothing, or: save FILE")),
        };
        let failed = |e| Error::io(file.display(), e);
        // Passwords may stand in it.
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let mut out = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::from(Kind::Exists).at(file.display()).hint("name another file, or remove this one"));
            }
            opened => opened.map_err(failed)?,
        };
        let mut text =
            format!("# Saved from the prompt; run it with {PROGRAM} -f FILE and the options of that session.\n")
                .into_bytes();
        for line in &self.lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        out.write_all(&text).map_err(failed)?;
        let left_out = match self.scripts {
            0 => String::new(),
            1 => "; 1 entry in Rhai is left out".to_string(),
            count => format!("; {count} entries in Rhai are left out"),
        };
        Ok(format!("saved {} lines in {}{left_out}", self.lines.len(), file.display()))
    }
}
