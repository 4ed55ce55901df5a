//! What passes between `--remote` and the server of `--listen`: requests of one command, answers in frames.
//!
//! All numbers are 32 bits, little-endian. A request is the version, the number of words, the words, whether the command
//! may fail, and the text of its heredoc, each with its length in front. An answer is any number of frames `O` (bytes
//! for standard output), then one frame `E` with how it ended.

use std::fs::DirBuilder;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use crate::base::{Error, Kind, Result};

/// Both sides must be the same program.
pub const VERSION: &str = concat!("imgsh ", env!("CARGO_PKG_VERSION"));
/// The largest piece that is taken: heredocs are the only long ones.
const PIECE_MAX: u32 = 256 << 20;
/// The most words.
const WORDS_MAX: u32 = 1 << 16;

/// A command that is sent to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// Its name and words.
    pub words: Vec<Vec<u8>>,
    /// Whether its failure is no end of the server.
    pub may_fail: bool,
    /// The lines of a heredoc, with the end marker.
    pub heredoc: Vec<u8>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Well, or it might fail.
    Good,
    /// It failed, and the server has ended.
    Failed,
    /// The server was asked to end and has ended.
    Quit,
}

fn put(out: &mut dyn Write, piece: &[u8]) -> io::Result<()> {
    let length = u32::try_from(piece.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(piece)
}

fn number(input: &mut dyn Read, most: u32) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    match u32::from_le_bytes(bytes) {
        number if number <= most => Ok(number),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn get(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let length = number(input, PIECE_MAX)?;
    let mut piece = Vec::new();
    input.take(length.into()).read_to_end(&mut piece)?;
    match piece.len() == length as usize {
        true => Ok(piece),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Call {
    /// Sends it.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut request = Vec::new();
        put(&mut request, VERSION.as_bytes())?;
        request.extend_from_slice(&u32::try_from(self.words.len()).unwrap_or(u32::MAX).to_le_bytes());
        for word in &self.words {
            put(&mut request, word)?;
        }
        request.push(self.may_fail.into());
        put(&mut request, &self.heredoc)?;
        out.write_all(&request)
    }

    /// Takes one; `None` if the other side is done.
    ///
    /// # Errors
    /// Another version, or no request at all.
    pub fn receive(input: &mut dyn Read) -> Result<Option<Self>> {
        let version = match get(input) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        if version != VERSION.as_bytes() {
            let detail = format!("the other side is another version: {}", crate::base::printable(&version));
            return Err(Error::new(Kind::Invalid, detail));
        }
        let count = number(input, WORDS_MAX)?;
        let mut words = Vec::new();
        for _ in 0..count {
            words.push(get(input)?);
        }
        let mut may_fail = [0];
        input.read_exact(&mut may_fail)?;
        Ok(Some(Call { words, may_fail: may_fail[0] != 0, heredoc: get(input)? }))
    }
}

/// Sends bytes for the client's standard output.
///
/// # Errors
/// What the socket says.
pub fn send_output(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(1 << 20) {
        out.write_all(b"O")?;
        put(out, piece)?;
    }
    Ok(())
}

/// Sends the end of an answer.
///
/// # Errors
/// What the socket says.
pub fn send_end(out: &mut dyn Write, end: End) -> io::Result<()> {
    out.write_all(&[b'E', end as u8])
}

/// Passes an answer's output on, up to its end.
///
/// # Errors
/// A server that went away in the middle.
pub fn receive_answer(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<End> {
    loop {
        let mut kind = [0];
        input.read_exact(&mut kind)?;
        if kind[0] == b'O' {
            output.write_all(&get(input)?)?;
            continue;
        }
        input.read_exact(&mut kind)?;
        return Ok(match kind[0] {
            0 => End::Good,
            2 => End::Quit,
            _ => End::Failed,
        });
    }
}

/// The socket of a server, in a folder that only its user can enter.
///
/// # Errors
/// `Kind::Denied` for a folder that somebody else made, or that others can enter.
pub fn socket(pid: u32) -> Result<PathBuf> {
    let user = nix::unistd::Uid::current().as_raw();
    let folder = PathBuf::from(format!("/tmp/.guestfish-{user}"));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io(folder.display(), e)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(&folder).map_err(|e| Error::io(folder.display(), e))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(Error::new(Kind::Denied, "this folder must be yours, with mode 0700").at(folder.display()));
    }
    Ok(folder.join(format!("socket-{pid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers() {
        let call = Call { words: vec![b"ls".to_vec(), b"/".to_vec()], may_fail: true, heredoc: b"x\n".to_vec() };
        let mut sent = Vec::new();
        call.send(&mut sent).unwrap();
        assert_eq!(Call::receive(&mut sent.as_slice()).unwrap(), Some(call));
        assert_eq!(Call::receive(&mut &[][..]).unwrap(), None);
        for cut in 4..sent.len() {
            assert!(!matches!(Call::receive(&mut &sent[..cut]), Ok(Some(_))), "{cut}");
        }
        let (mut answer, mut output) = (Vec::new(), Vec::new());
        send_output(&mut answer, b"hello").unwrap();
        send_end(&mut answer, End::Quit).unwrap();
        assert_eq!(receive_answer(&mut answer.as_slice(), &mut output).unwrap(), End::Quit);
        assert_eq!(output, b"hello");
    }
}
