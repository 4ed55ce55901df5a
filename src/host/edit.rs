//! A piece of content in the user's editor.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::base::{Error, Kind, Result};

/// Writes the content to a temporary file, runs `editor` by `shell` with its name appended, and reads it back;
/// `None` if neither its change time nor its size is another than before.
pub(super) fn edit(mut shell: Command, editor: &str, name_hint: &str, content: &[u8]) -> Result<Option<Vec<u8>>> {
    let failed = |e| Error::io("temporary file", e);
    // The name's end tells editors the language; it is the guest's, so only plain characters are kept.
    let hint: String =
        name_hint.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).collect();
    let mut file = tempfile::Builder::new().prefix("imgsh-").suffix(&format!("-{hint}")).tempfile().map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.flush().map_err(failed)?;
    let state = |path: &std::path::Path| {
        let found = fs::metadata(path)?;
        Ok((found.ctime(), found.ctime_nsec(), found.size()))
    };
    let before = state(file.path()).map_err(failed)?;
    let mut command = editor.as_bytes().to_vec();
    command.push(b' ');
    command.extend_from_slice(&quoted(file.path().as_os_str()));
    let status = shell.arg("-c").arg(OsStr::from_bytes(&command)).status().map_err(|e| Error::io("/bin/sh", e))?;
    if !status.success() {
        return Err(Error::new(Kind::Io, format!("the editor failed: {editor}")));
    }
    if state(file.path()).map_err(failed)? == before {
        return Ok(None);
    }
    // By name: many editors replace the file.
    Ok(Some(fs::read(file.path()).map_err(failed)?))
}

/// A path as one word of the host's shell.
fn quoted(path: &OsStr) -> Vec<u8> {
    let mut word = b"'".to_vec();
    for byte in path.as_bytes() {
        match byte {
            b'\'' => word.extend_from_slice(b"'\\''"),
            byte => word.push(*byte),
        }
    }
    word.push(b'\'');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(editor: &str, hint: &str, content: &[u8]) -> Result<Option<Vec<u8>>> {
        edit(Command::new("/bin/sh"), editor, hint, content)
    }

    #[test]
    fn changed_unchanged_failed() {
        assert_eq!(run("echo two >>", "a.conf", b"one\n").unwrap(), Some(b"one\ntwo\n".to_vec()));
        assert_eq!(run("true", "x", b"one\n").unwrap(), None);
        assert!(run("false", "x", b"one\n").is_err());
        // A hostile name is no shell text.
        assert_eq!(run("cat >/dev/null", "a; exit 1;$(x)", b"one\n").unwrap(), None);
    }
}
