//! The streams of compress(1), `.Z`: LZW with codes of 9 to 16 bits.
//!
//! The format, from the manual of compress and descriptions of it: bytes 1f 9d, one byte of flags (bits 0..5 the
//! largest width, bit 7 whether code 256 clears the table), then codes, lowest bit first. Codes of one width come in
//! groups of eight: when the width changes the rest of the group is padding.

use std::io::{self, BufRead, Read};

use crate::base::{Error, Result};

const CLEAR: usize = 256;
const FIRST_WIDTH: u32 = 9;

/// A `.Z` stream that is being read.
pub(super) struct Unlzw<R> {
    source: R,
    /// Bits that were read and not used, lowest first.
    bits: u32,
    count: u32,
    width: u32,
    most: u32,
    blocks: bool,
    /// Codes of this width since it began, for the padding of groups.
    codes: u32,
    /// By code from 256 (or 257) on: the code before and the last byte.
    table: Vec<(u16, u8)>,
    previous: Option<u16>,
    first: u8,
    /// Bytes that were decoded, the next one last.
    ready: Vec<u8>,
}

fn damaged(what: &str) -> io::Error {
    Error::corrupt(format!("compress: {what}")).into()
}

impl<R: BufRead> Unlzw<R> {
    pub(super) fn new(mut source: R) -> Result<Self> {
        let mut header = [0; 3];
        source.read_exact(&mut header)?;
        let most = u32::from(header[2] & 0x1f);
        if header[..2] != [0x1f, 0x9d] || !(FIRST_WIDTH..=16).contains(&most) {
            return Err(Error::corrupt("compress: this is no stream of compress"));
        }
        Ok(Unlzw {
            source,
            bits: 0,
            count: 0,
            width: FIRST_WIDTH,
            most,
            blocks: header[2] & 0x80 != 0,
            codes: 0,
            table: Vec::new(),
            previous: None,
            first: 0,
            ready: Vec::new(),
        })
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let found = self.source.fill_buf()?.first().copied();
        if found.is_some() {
            self.source.consume(1);
        }
        Ok(found)
    }

    /// Skips the rest of a group of eight codes and begins another width.
    fn set_width(&mut self, width: u32) -> io::Result<()> {
        let mut left = (8 - self.codes % 8) % 8 * self.width;
        left -= self.count.min(left);
        (self.bits, self.count, self.codes) = (0, 0, 0);
        for _ in 0..left.div_ceil(8) {
            self.byte()?;
        }
        self.width = width;
        Ok(())
    }

    fn code(&mut self) -> io::Result<Option<usize>> {
        while self.count < self.width {
            let Some(byte) = self.byte()? else { return Ok(None) };
            self.bits |= u32::from(byte) << self.count;
            self.count += 8;
        }
        let code = self.bits & ((1 << self.width) - 1);
        self.bits >>= self.width;
        self.count -= self.width;
        self.codes += 1;
        Ok(Some(code as usize))
    }

    fn base(&self) -> usize {
        if self.blocks { 257 } else { 256 }
    }

    /// Decodes one code into `ready`; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        let next = self.base() + self.table.len();
        if next + 1 > 1 << self.width && self.width < self.most {
            self.set_width(self.width + 1)?;
        }
        let Some(code) = self.code()? else { return Ok(false) };
        if code == CLEAR && self.blocks {
            self.table.clear();
            self.previous = None;
            self.set_width(FIRST_WIDTH)?;
            return Ok(true);
        }
        let Some(previous) = self.previous else {
            let byte = u8::try_from(code).map_err(|_| damaged("the first code is no byte"))?;
            (self.previous, self.first) = (Some(code as u16), byte);
            self.ready.push(byte);
            return Ok(true);
        };
        let mut at = code;
        if code == next {
            // The string that is being defined right now: the one before and its own first byte.
            self.ready.push(self.first);
            at = previous.into();
        } else if code > next {
            return Err(damaged("a code that is not defined yet"));
        }
        while at >= 256 {
            let (before, byte) = at
                .checked_sub(self.base())
                .and_then(|i| self.table.get(i))
                .copied()
                .ok_or_else(|| damaged("a code that stands for nothing"))?;
            self.ready.push(byte);
            at = before.into();
        }
        self.first = at as u8;
        self.ready.push(self.first);
        if next < 1 << self.most {
            self.table.push((previous, self.first));
        }
        self.previous = Some(code as u16);
        Ok(true)
    }
}

impl<R: BufRead> Read for Unlzw<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if !self.step()? {
                return Ok(0);
            }
        }
        let mut filled = 0;
        for (slot, byte) in buf.iter_mut().zip(std::iter::from_fn(|| self.ready.pop())) {
            *slot = byte;
            filled += 1;
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_codes_are_refused() {
        for bytes in
            [&[0x1f, 0x9d, 0x90, 0xff, 0xff][..], &[0x1f, 0x9d, 0x90, 0x61, 0xfe, 0xff, 0xff], &[0x1f, 0x9d, 3]]
        {
            let result = Unlzw::new(bytes).map_err(io::Error::from).and_then(|mut s| s.read_to_end(&mut Vec::new()));
            assert!(result.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_repeated_byte() {
        // 'a', then the code that is being defined, codes of 9 bits: 0x061, 0x101, 0x102.
        let codes = 0x061_u32 | 0x101 << 9 | 0x102 << 18;
        let bytes = [&[0x1f, 0x9d, 0x90][..], &codes.to_le_bytes()].concat();
        let mut out = Vec::new();
        Unlzw::new(&bytes[..]).unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out, b"aaaaaa");
    }
}
