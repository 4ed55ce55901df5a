//! Asking for a passphrase without showing it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::base::{Error, Kind, Result};

/// The terminal that the program was started from.
const TERMINAL: &str = "/dev/tty";
/// The longest passphrase in bytes.
const KEY_MAX: usize = 1 << 20;

/// The terminal, if there is one.
pub fn terminal() -> Option<File> {
    OpenOptions::new().read(true).write(true).open(TERMINAL).ok()
}

/// Gives a terminal its settings back.
struct Restored<'a> {
    terminal: &'a File,
    settings: Termios,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        // There is no better moment to say that the terminal does not take them.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.settings);
    }
}

/// Asks on a terminal; what is typed shows only with `echo`. Ctrl-C ends it with `Kind::Interrupted`.
///
/// # Errors
/// The terminal's.
pub fn ask(mut terminal: &File, name: &str, echo: bool) -> Result<Vec<u8>> {
    let failed = |e: nix::errno::Errno| Error::io(TERMINAL, e.into());
    let settings = tcgetattr(terminal).map_err(failed)?;
    let mut silent = settings.clone();
    // Ctrl-C comes as a byte: a signal would not end the reading.
    silent.local_flags.remove(LocalFlags::ICANON | LocalFlags::ISIG);
    silent.local_flags.set(LocalFlags::ECHO, echo);
    let _restored = Restored { terminal, settings };
    tcsetattr(terminal, SetArg::TCSAFLUSH, &silent).map_err(failed)?;
    let name = crate::base::printable(name.as_bytes());
    write!(terminal, "Enter key or passphrase (\"{name}\"): ").map_err(|e| Error::io(TERMINAL, e))?;
    let key = typed(&mut terminal);
    // The key was read all the same.
    let _ = writeln!(terminal);
    key
}

/// What is typed up to the end of the line.
fn typed(input: &mut dyn Read) -> Result<Vec<u8>> {
    let mut key = Vec::new();
    while let Some(byte) = next(input)? {
        match byte {
            b'\n' | b'\r' => return Ok(key),
            // Ctrl-C, Ctrl-D.
            3 => return Err(Kind::Interrupted.into()),
            4 if key.is_empty() => break,
            // Backspace, Ctrl-U.
            8 | 127 => drop(key.pop()),
            21 => key.clear(),
            byte => push(&mut key, byte)?,
        }
    }
    Err(no_key())
}

/// A line of standard input, of which no byte more is taken.
///
/// # Errors
/// The reader's; no line.
pub fn line(input: &mut dyn Read) -> Result<Vec<u8>> {
    let mut key = Vec::new();
    loop {
        match next(input)? {
            Some(b'\n') => return Ok(key),
            Some(byte) => push(&mut key, byte)?,
            None if key.is_empty() => return Err(no_key()),
            None => return Ok(key),
        }
    }
}

fn next(input: &mut dyn Read) -> Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(count) => return Ok((count > 0).then_some(byte[0])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn push(key: &mut Vec<u8>, byte: u8) -> Result<()> {
    if key.len() >= KEY_MAX {
        return Err(Error::usage(format!("a key or passphrase of over {KEY_MAX} bytes")));
    }
    key.push(byte);
    Ok(())
}

fn no_key() -> Error {
    Error::usage("end of input reached where a key or passphrase must be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing() {
        assert_eq!(typed(&mut b"ab\x7fc\n".as_slice()).unwrap(), b"ac");
        assert_eq!(typed(&mut b"wrong\x15right\x04\r".as_slice()).unwrap(), b"right\x04");
        assert_eq!(typed(&mut b"ab\x03".as_slice()).unwrap_err().kind(), Kind::Interrupted);
        assert!(typed(&mut b"\x04".as_slice()).is_err());
        let mut two = b"one\ntwo".as_slice();
        assert_eq!((line(&mut two).unwrap(), line(&mut two).unwrap()), (b"one".to_vec(), b"two".to_vec()));
        assert!(line(&mut two).is_err());
    }
}
