//! LZ4's legacy frame: a magic, then blocks, each with its compressed length in front, of up to 8 MiB of content
//! (LZ4 frame format, "Legacy frame").

use std::io::{self, Read};

use crate::base::{Error, Result};

const MAGIC: u32 = 0x184c_2102;
const BLOCK_MAX: usize = 8 << 20;

/// A legacy frame that is being read.
pub(super) struct Unlz4<R> {
    source: R,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Unlz4<R> {
    pub(super) fn new(mut source: R) -> Result<Self> {
        let mut magic = [0; 4];
        source.read_exact(&mut magic)?;
        match u32::from_le_bytes(magic) {
            MAGIC => Ok(Unlz4 { source, block: Vec::new(), at: 0, ended: false }),
            _ => Err(Error::corrupt("lz4: this is no legacy frame")),
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let mut word = [0; 4];
        let mut got = 0;
        while got < 4 {
            match self.source.read(&mut word[got..])? {
                0 => break,
                count => got += count,
            }
        }
        let length = match u32::from_le_bytes(word) {
            // The end, or padding after it; another frame may follow.
            _ if got < 4 => 0,
            MAGIC => return self.next_block_after_magic(),
            length => length as usize,
        };
        self.unpack(length)
    }

    fn next_block_after_magic(&mut self) -> io::Result<()> {
        let mut word = [0; 4];
        self.source.read_exact(&mut word)?;
        self.unpack(u32::from_le_bytes(word) as usize)
    }

    fn unpack(&mut self, length: usize) -> io::Result<()> {
        (self.at, self.block) = (0, Vec::new());
        // No block is longer than its content needs when it cannot be made smaller.
        if length == 0 || length > BLOCK_MAX + BLOCK_MAX / 255 + 16 {
            self.ended = true;
            return Ok(());
        }
        let mut packed = Vec::new();
        self.source.by_ref().take(length as u64).read_to_end(&mut packed)?;
        let mut block = vec![0; BLOCK_MAX];
        let size = lz4_flex::block::decompress_into(&packed, &mut block)
            .map_err(|e| io::Error::from(Error::corrupt(format!("lz4: {e}"))))?;
        block.truncate(size);
        self.block = block;
        self.ended = size == 0;
        Ok(())
    }
}

impl<R: Read> Read for Unlz4<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.ended {
            self.next_block()?;
        }
        let count = buf.len().min(self.block.len() - self.at);
        buf[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_damage() {
        let data = b"hello hello hello hello hello".repeat(9);
        let packed = lz4_flex::block::compress(&data);
        let frame = [&MAGIC.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat();
        let unpacked = |bytes: &[u8]| {
            let mut out = Vec::new();
            Unlz4::new(bytes).map_err(io::Error::from)?.read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(unpacked(&frame).unwrap(), data);
        let whole = [&frame[..], &frame[..], &[0; 7]].concat();
        assert_eq!(unpacked(&whole).unwrap(), data.repeat(2));
        for at in 4..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 0xff;
            let _ = unpacked(&damaged);
            let _ = unpacked(&frame[..at]);
        }
    }
}
