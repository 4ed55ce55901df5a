//! Trees in motion: entries between a host folder, a tar archive and a guest.
//!
//! A [`Source`] gives entries one by one, a [`Sink`] takes them: copy-in is host tree to guest, tar-in is tar
//! to guest, copy-out and tar-out the reverse. Every combination goes through the same two traits.

use std::io::{self, Read};
use std::ops::Range;
use std::vec;

use crate::base::{GuestPathBuf, Name, Result, Timestamp};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file of this many bytes; its content comes from [`Entry::content`].
    Regular(u64),
    /// Directory.
    Directory,
    /// Symbolic link with its target.
    Symlink(GuestPathBuf),
    /// Another name of an entry given before, by that entry's path.
    HardLink(GuestPathBuf),
    /// Character device.
    CharDevice(u32, u32),
    /// Block device.
    BlockDevice(u32, u32),
    /// Named pipe.
    Fifo,
    /// Socket (a tar cannot hold it).
    Socket,
}

/// One node on its way.
pub struct Entry<'a> {
    /// Relative path: no leading slash; `..` and absolute paths are refused by whoever receives it. Empty: the target itself.
    pub path: GuestPathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last read, where it is known.
    pub accessed: Option<Timestamp>,
    /// Extended attributes by full name; ACLs in the kernel's form.
    pub xattrs: Vec<(Name, Vec<u8>)>,
    /// The bytes of a regular file; holes read as zeros, or are left out as `pieces` says.
    pub content: Option<Box<dyn Read + 'a>>,
    /// The runs of bytes that `content` gives one after the other, ascending, where it leaves out holes; `None` where it is the
    /// whole file. A sink gets such entries if it asks for them ([`Sink::leaves_out`]).
    pub pieces: Option<Vec<Range<u64>>>,
}

/// The bytes of some runs of a file: the content of an entry that has [`Entry::pieces`].
pub struct Pieced<F> {
    pieces: vec::IntoIter<Range<u64>>,
    now: Range<u64>,
    read_at: F,
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<usize>> Pieced<F> {
    /// `read_at` reads from a byte of the file on; 0 is its end.
    pub fn new(pieces: Vec<Range<u64>>, read_at: F) -> Self {
        Pieced { pieces: pieces.into_iter(), now: 0..0, read_at }
    }
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<usize>> Read for Pieced<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.now = piece,
                None => return Ok(0),
            }
        }
        let part = (self.now.end - self.now.start).min(buf.len() as u64) as usize;
        let got = (self.read_at)(self.now.start, &mut buf[..part])?;
        self.now.start += got as u64;
        Ok(got)
    }
}

/// Gives entries, directories before what is in them.
pub trait Source {
    /// The next entry, or `None` at the end.
    fn next(&mut self) -> Result<Option<Entry<'_>>>;
}

/// Takes entries, directories before what is in them.
pub trait Sink {
    /// Takes one.
    fn put(&mut self, entry: Entry<'_>) -> Result<()>;
    /// After the last one: directory times, trailers, flushes. Called by whoever made the sink, so that several
    /// exports can go into one.
    fn finish(&mut self) -> Result<()>;
    /// Whether it wants [`Entry::xattrs`]; they are left empty otherwise.
    fn wants_xattrs(&self) -> bool {
        true
    }
    /// Whether a file of so many bytes, so many of them in holes, should come with its holes left out ([`Entry::pieces`]).
    fn leaves_out(&self, size: u64, holes: u64) -> bool {
        let _ = (size, holes);
        false
    }
}

/// How [`super::Guest::import`] treats what it gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Set extended attributes.
    pub xattrs: bool,
    /// A directory entry where the guest has a link to a directory keeps the link (tar --keep-directory-symlink).
    pub keep_directory_links: bool,
    /// Long runs of zeros become holes.
    pub sparse: bool,
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}
