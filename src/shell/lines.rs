//! Lines and where they come from.

use std::collections::VecDeque;
use std::io::BufRead;

use super::lex::LINE_LIMIT;
use crate::base::{Error, Result};

/// Where lines come from.
pub trait Lines {
    /// The next line without its newline, `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>>;
}

/// Lines of a reader, cut at [`LINE_LIMIT`].
pub struct ReaderLines<R>(pub R);

impl<R: BufRead> Lines for ReaderLines<R> {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        while line.len() < LINE_LIMIT {
            let buffer = self.0.fill_buf()?;
            let room = buffer.len().min(LINE_LIMIT - line.len());
            let newline = memchr::memchr(b'\n', &buffer[..room]);
            let taken = newline.map_or(room, |at| at + 1);
            line.extend_from_slice(&buffer[..taken]);
            self.0.consume(taken);
            if newline.is_some() {
                line.pop();
                return Ok(Some(line));
            }
            if taken == 0 {
                return Ok((!line.is_empty()).then_some(line));
            }
        }
        Ok(Some(line))
    }
}

/// Lines that are already there: generated ones, pasted ones.
impl Lines for VecDeque<Vec<u8>> {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.pop_front())
    }
}

/// The lines up to one that is exactly the marker.
///
/// # Errors
/// Lines that end before.
pub fn heredoc(lines: &mut dyn Lines, marker: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while let Some(line) = lines.next()? {
        if line == marker {
            return Ok(text);
        }
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    let marker = String::from_utf8_lossy(marker);
    Err(Error::usage(format!("end of input reached without finding '{marker}'")))
}

/// A passphrase: the next line.
///
/// # Errors
/// Lines that have ended.
pub fn key(lines: &mut dyn Lines) -> Result<Vec<u8>> {
    lines.next()?.ok_or_else(|| Error::usage("end of input reached where a key or passphrase must be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let mut source = ReaderLines(text);
        std::iter::from_fn(|| source.next().unwrap()).collect()
    }

    #[test]
    fn lines_are_cut_where_the_buffer_ends() {
        assert_eq!(lines(b"a\n\nb"), [b"a".as_slice(), b"", b"b"]);
        let long = vec![b'x'; LINE_LIMIT + 5];
        assert_eq!(lines(&long).iter().map(Vec::len).collect::<Vec<_>>(), [LINE_LIMIT, 5]);
        assert_eq!(lines(&[]).len(), 0);
    }

    #[test]
    fn heredocs_end_at_their_marker() {
        let mut source: VecDeque<Vec<u8>> = lines(b"a\n END\nEND\nrest").into();
        assert_eq!(heredoc(&mut source, b"END").unwrap(), b"a\n END\n");
        assert_eq!(source.len(), 1);
        let text = heredoc(&mut source, b"X").unwrap_err().to_string();
        assert_eq!(text, "end of input reached without finding 'X'");
    }
}
