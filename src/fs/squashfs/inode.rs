//! Inodes: fourteen kinds, seven of them with the long form of the other seven (`squashfs_fs.h`).

use super::Squash;
use super::metadata::Cursor;
use crate::base::bytes::{le16, le32, le64};
use crate::base::{Error, Result, Timestamp};
use crate::fs::FileType;

/// Number of a fragment, or of a set of attributes, that is not there.
pub(super) const NONE: u32 = u32::MAX;
/// Bytes of the header that all have.
const HEADER: usize = 16;
/// Bytes behind the header, by kind.
const SIZES: [usize; 14] = [16, 16, 8, 8, 8, 4, 4, 24, 40, 8, 12, 12, 8, 8];
/// A directory's size counts its `.` and `..` as so many bytes.
pub(super) const DOTS: u64 = 3;

/// An inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub number: u32,
    pub file_type: FileType,
    pub mode: u32,
    pub uid: u16,
    pub gid: u16,
    pub modified: Timestamp,
    pub links: u32,
    pub size: u64,
    /// Number of its set of attributes, or [`NONE`].
    pub xattrs: u32,
    pub content: Content,
}

/// What is behind an inode.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Where the listing begins, and the index of a long one.
    Directory {
        listing: Cursor,
        index: Cursor,
        indexed: u16,
    },
    File(File),
    /// Where the target stands.
    Link(Cursor),
    /// Major and minor number.
    Device(u32, u32),
    Nothing,
}

/// A regular file's data.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    /// First byte of its blocks on the device.
    pub start: u64,
    /// Bytes that are holes; 0 in the short form.
    pub sparse: u64,
    /// Number of a fragment, or [`NONE`], and the place of the file's end in it.
    pub fragment: u32,
    pub offset: u32,
    /// The words of its blocks.
    pub list: Cursor,
}

impl Squash {
    /// The inode that a reference names.
    ///
    /// # Errors
    /// `Kind::Corrupt` says what is wrong with it.
    pub(super) fn inode(&self, reference: u64) -> Result<Inode> {
        let mut cursor = Cursor::from_reference(self.superblock.inode_table, reference)?;
        let head: [u8; HEADER] = self.take_array(&mut cursor)?;
        let number = le32(&head, 12);
        let bad = |what: String| Error::corrupt(format!("squashfs: inode {number}: {what}"));
        let kind = le16(&head, 0);
        let size = usize::from(kind).checked_sub(1).and_then(|index| SIZES.get(index));
        let mut rest = [0; 40];
        let body = &mut rest[..*size.ok_or_else(|| bad(format!("its kind is {kind}")))?];
        self.take(&mut cursor, body)?;
        let body = &*body;
        let (mut links, mut xattrs, mut bytes) = (le32(body, 0), NONE, 0);
        let directory = |block: u32, offset: u16, index: Cursor, indexed: u16| {
            let listing =
                Cursor::from_reference(self.superblock.directory_table, u64::from(block) << 16 | u64::from(offset))?;
            Ok::<_, Error>(Content::Directory { listing, index, indexed })
        };
        let (file_type, content) = match kind {
            1 => {
                (links, bytes) = (le32(body, 4), le16(body, 8).into());
                (FileType::Directory, directory(le32(body, 0), le16(body, 10), cursor, 0)?)
            }
            8 => {
                (bytes, xattrs) = (le32(body, 4).into(), le32(body, 20));
                let content = directory(le32(body, 8), le16(body, 18), cursor, le16(body, 16))?;
                (FileType::Directory, content)
            }
            2 => {
                let (start, sparse) = (le32(body, 0).into(), 0);
                (links, bytes) = (1, le32(body, 12).into());
                let (fragment, offset) = (le32(body, 4), le32(body, 8));
                (FileType::Regular, Content::File(File { start, sparse, fragment, offset, list: cursor }))
            }
            9 => {
                let (start, sparse) = (le64(body, 0), le64(body, 16));
                (links, bytes, xattrs) = (le32(body, 24), le64(body, 8), le32(body, 36));
                let (fragment, offset) = (le32(body, 28), le32(body, 32));
                (FileType::Regular, Content::File(File { start, sparse, fragment, offset, list: cursor }))
            }
            3 | 10 => {
                bytes = le32(body, 4).into();
                // Linux reads no longer ones.
                if bytes > 4096 {
                    return Err(bad(format!("a target of {bytes} bytes")));
                }
                if kind == 10 {
                    let mut behind = cursor;
                    self.take(&mut behind, &mut vec![0; bytes as usize])?;
                    xattrs = le32(&self.take_array::<4>(&mut behind)?, 0);
                }
                (FileType::Symlink, Content::Link(cursor))
            }
            4 | 5 | 11 | 12 => {
                let word = le32(body, 4);
                let content = Content::Device(word >> 8 & 0xfff, word & 0xff | word >> 12 & 0xf_ff00);
                xattrs = if kind > 10 { le32(body, 8) } else { NONE };
                (if matches!(kind, 4 | 11) { FileType::BlockDevice } else { FileType::CharDevice }, content)
            }
            _ => {
                xattrs = if kind > 10 { le32(body, 4) } else { NONE };
                (if matches!(kind, 6 | 13) { FileType::Fifo } else { FileType::Socket }, Content::Nothing)
            }
        };
        if links == 0 {
            return Err(bad("it has no names".into()));
        }
        if bytes > i64::MAX as u64 {
            return Err(bad(format!("it has {bytes} bytes")));
        }
        Ok(Inode {
            number,
            file_type,
            mode: u32::from(le16(&head, 2)) & 0o7777,
            uid: le16(&head, 4),
            gid: le16(&head, 6),
            modified: Timestamp::from_seconds(le32(&head, 8).into()),
            links,
            size: bytes,
            xattrs,
            content,
        })
    }

    /// The user or group of this number in the table of ids.
    pub(super) fn id(&self, number: u16) -> Result<u32> {
        if number >= self.superblock.ids {
            return Err(Error::corrupt(format!("squashfs: id {number} of {}", self.superblock.ids)));
        }
        Ok(le32(&self.table_entry::<4>(self.superblock.id_table, number.into())?, 0))
    }
}
