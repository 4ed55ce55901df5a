//! File systems: one trait for all of them, nodes and names and bytes.
//!
//! Nodes, not paths: links, `..`, mounts and limits are written once, in `guest::resolve`.
//! A driver is a folder here and two lines in [`DRIVERS`]. It never reads the clock: times are given.

pub mod btrfs;
pub mod erofs;
pub mod ext4;
pub mod fat;
pub mod foreign;
pub mod iso9660;
#[doc(hidden)]
pub mod model;
pub mod rofs;
pub mod squashfs;
mod unpack;
pub mod xfs;

use std::io::Read;
use std::ops::Range;

use crate::base::{Error, GuestPathBuf, Kind, Name, Result, Timestamp, Uuid};
use crate::disk::guest_log::LogPlan;
use crate::disk::{BlockDevice, Changes, Device};

/// A node of one file system: an inode number, or whatever the driver makes of it. Stays valid until the
/// node is removed or the driver is reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl FileType {
    /// The type bits of `st_mode` (S_IFMT).
    pub fn mode_bits(self) -> u32 {
        match self {
            FileType::Fifo => 0o010000,
            FileType::CharDevice => 0o020000,
            FileType::Directory => 0o040000,
            FileType::BlockDevice => 0o060000,
            FileType::Regular => 0o100000,
            FileType::Symlink => 0o120000,
            FileType::Socket => 0o140000,
        }
    }

    /// `Ok` for a regular file, else what `read(2)` or `truncate(2)` would say.
    ///
    /// # Errors
    /// `Kind::IsADirectory`, `Kind::Invalid`.
    pub fn check_regular(self) -> Result<()> {
        match self {
            FileType::Regular => Ok(()),
            FileType::Directory => Err(Kind::IsADirectory.into()),
            _ => Err(Error::new(Kind::Invalid, "not a regular file")),
        }
    }

    /// `Ok` for a directory.
    ///
    /// # Errors
    /// `Kind::NotADirectory`.
    pub fn check_directory(self) -> Result<()> {
        match self {
            FileType::Directory => Ok(()),
            _ => Err(Kind::NotADirectory.into()),
        }
    }

    /// From `st_mode`.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170000 {
            0o010000 => FileType::Fifo,
            0o020000 => FileType::CharDevice,
            0o040000 => FileType::Directory,
            0o060000 => FileType::BlockDevice,
            0o100000 => FileType::Regular,
            0o120000 => FileType::Symlink,
            0o140000 => FileType::Socket,
            _ => return None,
        })
    }

    /// From the number that directories of ext4, XFS, btrfs and EROFS have for it (`FT_REG_FILE` and so on in Linux's `fs_types.h`).
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => FileType::Regular,
            2 => FileType::Directory,
            3 => FileType::CharDevice,
            4 => FileType::BlockDevice,
            5 => FileType::Fifo,
            6 => FileType::Socket,
            7 => FileType::Symlink,
            _ => return None,
        })
    }

    /// The letter that `readdir` answers: `r d l c b f s`.
    pub fn letter(self) -> char {
        match self {
            FileType::Regular => 'r',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::CharDevice => 'c',
            FileType::BlockDevice => 'b',
            FileType::Fifo => 'f',
            FileType::Socket => 's',
        }
    }
}

/// What `stat` answers of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Inode number as guests see it.
    pub inode: u64,
    /// What it is.
    pub file_type: FileType,
    /// Permission bits, 0..=0o7777.
    pub mode: u32,
    /// Number of names.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; of a symbolic link the length of its target.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Preferred transfer size in bytes.
    pub block_size: u32,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the node.
    pub changed: Timestamp,
    /// Creation, where the file system keeps it.
    pub created: Option<Timestamp>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; `.` and `..` are not given.
    pub name: Name,
    /// The node.
    pub node: NodeId,
    /// The node's type as the directory has it, when it has it.
    pub file_type: Option<FileType>,
}

/// A run of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the file.
    pub range: Range<u64>,
    /// Reads as zeros and takes no space.
    pub hole: bool,
}

/// Adds a run to those of a file of `size` bytes, in order: cut at the end, joined with the last one if that is like it.
pub(crate) fn push_extent(extents: &mut Vec<Extent>, size: u64, range: Range<u64>, hole: bool) {
    let range = range.start.min(size)..range.end.min(size);
    match extents.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.hole == hole => last.range.end = range.end,
        _ => extents.push(Extent { range, hole }),
    }
}

/// How a run of a file's bytes is kept on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As it is, from this byte of the device on.
    Data(u64),
    /// Space from this byte of the device on is set aside; it reads as zeros.
    Unwritten(u64),
    /// Nowhere: it reads as zeros.
    Hole,
    /// With the metadata of the file.
    Inline,
    /// Compressed.
    Compressed {
        /// First byte of the device.
        at: u64,
        /// Bytes there.
        len: u64,
    },
    /// On several devices, or on another one than this.
    Elsewhere,
}

/// A run of a file's bytes and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte of the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// The file system's own number of the first block (FAT: cluster), where there is one.
    pub block: Option<u64>,
    /// Where it is.
    pub stored: Stored,
}

/// Fills the gaps between segments with holes and cuts the last one at the end of the file.
pub(crate) fn covered(size: u64, segments: impl IntoIterator<Item = Segment>) -> Vec<Segment> {
    let mut all: Vec<Segment> = Vec::new();
    let mut at = 0;
    let hole = |at: u64, end: u64| Segment { offset: at, len: end - at, block: None, stored: Stored::Hole };
    for segment in segments {
        let (start, end) = (segment.offset.min(size), segment.offset.saturating_add(segment.len).min(size));
        if at < start {
            all.push(hole(at, start));
        }
        if start < end {
            all.push(Segment { len: end - start, ..segment });
        }
        at = at.max(end);
    }
    if at < size {
        all.push(hole(at, size));
    }
    all
}

/// `f_fsid` of a file system: what Linux derives it from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fsid {
    /// Nobody knows.
    #[default]
    Unknown,
    /// This number.
    Number(u64),
    /// The number of the device.
    OfDevice,
}

/// What a file system says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsInfo {
    /// guestfish's word: `ext4`, `vfat`, ...
    pub fs_type: String,
    /// Label, empty if none.
    pub label: String,
    /// UUID as blkid prints it, empty if none.
    pub uuid: String,
    /// Block size in bytes.
    pub block_size: u64,
    /// Blocks that can hold data.
    pub blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Free blocks for users other than root.
    pub available_blocks: u64,
    /// Number of inodes; 0 where there are none.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// Longest name in bytes.
    pub name_max: u64,
    /// Why [`FileSystem::edit`] would refuse, if it would.
    pub read_only: Option<String>,
    /// `f_fsid` as Linux derives it.
    pub fsid: Fsid,
    /// Whether it keeps owners and permission bits. Where it does not (FAT), a copy onto it leaves them out.
    pub owners: bool,
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewKind {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link with this target.
    Symlink(GuestPathBuf),
    /// A character device, major and minor.
    CharDevice(u32, u32),
    /// A block device, major and minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl NewKind {
    /// The type of the node that it makes.
    pub fn file_type(&self) -> FileType {
        match self {
            NewKind::Regular => FileType::Regular,
            NewKind::Directory => FileType::Directory,
            NewKind::Symlink(_) => FileType::Symlink,
            NewKind::CharDevice(..) => FileType::CharDevice,
            NewKind::BlockDevice(..) => FileType::BlockDevice,
            NewKind::Fifo => FileType::Fifo,
            NewKind::Socket => FileType::Socket,
        }
    }
}

/// A node to make; its times are the operation's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// What.
    pub kind: NewKind,
    /// Permission bits, 0..=0o7777 (the umask is applied already).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Attributes to change; `None` stays. Every change sets the changed time to the operation's time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits, 0..=0o7777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last read.
    pub accessed: Option<Timestamp>,
    /// Last change of the content.
    pub modified: Option<Timestamp>,
}

/// Reading.
pub trait FileSystem: Send {
    /// Type, label, sizes.
    fn info(&self) -> Result<FsInfo>;
    /// The root directory.
    fn root(&self) -> NodeId;
    /// What `stat` answers.
    fn metadata(&self, node: NodeId) -> Result<Metadata>;
    /// The node of `name` in a directory. `Kind::NotADirectory` if `dir` is none.
    fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>>;
    /// All names in directory order, without `.` and `..`.
    fn read_dir(&self, dir: NodeId) -> Result<Vec<DirEntry>>;
    /// The target of a symbolic link. `Kind::Invalid` for anything else.
    fn read_link(&self, node: NodeId) -> Result<GuestPathBuf>;
    /// Reads from byte `offset`; answers how many bytes were read, fewer than `buf.len()` only at the end.
    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize>;
    /// Data and holes of a file, in order, covering `0..size`.
    fn extents(&self, node: NodeId) -> Result<Vec<Extent>>;
    /// Where the bytes of a regular file are, in order, covering `0..size`.
    ///
    /// # Errors
    /// As [`FileSystem::read`]; `Kind::Unsupported` for drivers that cannot tell.
    fn layout(&self, node: NodeId) -> Result<Vec<Segment>> {
        let _ = node;
        Err(Error::unsupported("where this file system keeps the bytes of files cannot be told yet"))
    }
    /// All extended attributes with full names (`user.x`, `security.selinux`), ACLs in the kernel's
    /// (version 2) form. Sorted by name.
    fn xattrs(&self, node: NodeId) -> Result<Vec<(Name, Vec<u8>)>>;
    /// The writer, or why there is none; `now` is the time of the operation. Refuses, naming the
    /// structure or bit, whatever the driver does not fully understand.
    fn edit(&mut self, now: Timestamp) -> Result<&mut dyn Edit>;
    /// Drops every cache, dirty or not, and reads the device anew: called after a rollback.
    fn reload(&mut self) -> Result<()>;
    /// The bytes of the device that nothing uses, ascending.
    ///
    /// # Errors
    /// `Kind::Unsupported` for drivers that cannot tell.
    fn free_space(&mut self) -> Result<Vec<Range<u64>>> {
        Err(Error::unsupported("the free space of this file system cannot be listed yet"))
    }
    /// How changes of this file system's bytes become permanent through its own journal, so that other programs can finish
    /// it. Asked of a file system as it is before the changes, which are counted from the start of its device. `None`
    /// where it has no such journal, or they do not fit.
    fn log_plan(&self, changes: &dyn Changes) -> Result<Option<LogPlan>> {
        let _ = changes;
        Ok(None)
    }
    /// What those who read should know: that it is not all there.
    fn notice(&self) -> Option<String> {
        None
    }
    /// The driver itself, for what only ext2, ext3 and ext4 have.
    fn as_ext4(&mut self) -> Option<&mut ext4::Ext4> {
        None
    }
    /// The driver itself, for the flags of files of XFS.
    fn as_xfs(&mut self) -> Option<&mut xfs::Xfs> {
        None
    }
    /// The driver itself, for the subvolumes that only btrfs has.
    fn as_btrfs(&mut self) -> Option<&mut btrfs::Btrfs> {
        None
    }
    /// The stage was committed: what was freed before may now be reused.
    fn committed(&mut self);
}

/// Writing. Changes are kept in the driver until [`Edit::sync`]. After any error the caller rolls the stage
/// back and calls [`FileSystem::reload`], so a driver need not clean up.
pub trait Edit {
    /// Makes a node under a new name. `Kind::Exists` if the name is taken. `Kind::NameTooLong`.
    fn create(&mut self, dir: NodeId, name: &[u8], new: &NewNode) -> Result<NodeId>;
    /// Gives a node another name (hard link). Not for directories (`Kind::Denied`).
    fn link(&mut self, node: NodeId, dir: NodeId, name: &[u8]) -> Result<()>;
    /// Removes a name that is no directory (`Kind::IsADirectory`); the last one frees the node.
    fn unlink(&mut self, dir: NodeId, name: &[u8]) -> Result<()>;
    /// Removes an empty directory (`Kind::NotEmpty`, `Kind::NotADirectory`).
    fn rmdir(&mut self, dir: NodeId, name: &[u8]) -> Result<()>;
    /// rename(2): replaces a file, or an empty directory by a directory; same node is no change;
    /// `Kind::Invalid` for a directory into its own subtree.
    fn rename(&mut self, from_dir: NodeId, from: &[u8], to_dir: NodeId, to: &[u8]) -> Result<()>;
    /// Writes into a regular file at byte `offset`; past the end it grows, with a hole between.
    fn write(&mut self, node: NodeId, offset: u64, data: &[u8]) -> Result<()>;
    /// Sets the size of a regular file; growth is a hole.
    fn resize(&mut self, node: NodeId, size: u64) -> Result<()>;
    /// Replaces the content of a regular file by exactly `size` bytes of `source`, allocated at once.
    /// `Kind::Io` if the source ends early. Long runs of zeros may become holes if `sparse`.
    fn fill(&mut self, node: NodeId, size: u64, source: &mut dyn Read, sparse: bool) -> Result<()>;
    /// Changes attributes.
    fn set_attributes(&mut self, node: NodeId, set: &SetAttributes) -> Result<()>;
    /// Sets an extended attribute by its full name, or removes it (`Kind::NoData` if there is none).
    fn set_xattr(&mut self, node: NodeId, name: &[u8], value: Option<&[u8]>) -> Result<()>;
    /// Sets the label, in every copy of it.
    ///
    /// # Errors
    /// `Kind::Invalid` if it is too long, `Kind::Unsupported` for drivers that cannot.
    fn set_label(&mut self, label: &[u8]) -> Result<()> {
        let _ = label;
        Err(Error::unsupported("the label of this file system cannot be set yet"))
    }
    /// Sets the UUID, in every copy of it.
    ///
    /// # Errors
    /// `Kind::Unsupported` for drivers that cannot.
    fn set_uuid(&mut self, uuid: Uuid) -> Result<()> {
        let _ = uuid;
        Err(Error::unsupported("the UUID of this file system cannot be set yet"))
    }
    /// Makes free space zero, as holes where the image can: the runs within these bytes of the device that have at
    /// least `minimum` bytes. Answers the number of bytes.
    ///
    /// # Errors
    /// `Kind::Unsupported` for drivers that cannot.
    fn zero_free(&mut self, within: Range<u64>, minimum: u64) -> Result<u64> {
        let _ = (within, minimum);
        Err(Error::unsupported("the free space of this file system cannot be made zero yet"))
    }
    /// Writes everything kept back to the device (the stage).
    fn sync(&mut self) -> Result<()>;
}

/// What a superblock says: the answer of `vfs-type`, `vfs-label`, `vfs-uuid`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// guestfish's (blkid's) word: `ext4`, `vfat`, `swap`, `xfs`, `LVM2_member`, ...
    pub fs_type: String,
    /// Label, empty if none.
    pub label: String,
    /// UUID as blkid prints it, empty if none.
    pub uuid: String,
}

/// What `mkfs` was asked for.
#[derive(Debug, Clone, Default)]
pub struct MakeOptions {
    /// The word that was given: `ext2`, `ext3`, `ext4`, `vfat`, ...
    pub fs_type: String,
    /// Block size in bytes (FAT: cluster size).
    pub block_size: Option<u32>,
    /// mke2fs's `-O` words: `^64bit,inline_data`.
    pub features: Option<String>,
    /// Inode size in bytes.
    pub inode_size: Option<u32>,
    /// Sector size in bytes.
    pub sector_size: Option<u32>,
    /// Label.
    pub label: Option<String>,
    /// What only ext2, ext3 and ext4 have.
    pub ext: ext4::ExtOptions,
    /// The UUID to give (FAT takes its last four bytes as the volume id).
    pub uuid: Uuid,
    /// Sixteen random bytes for hash seeds.
    pub seed: [u8; 16],
    /// Creation time.
    pub now: Timestamp,
}

/// A file system driver.
pub struct Driver {
    /// The words of `mkfs` and of `vfs-type` that it answers to.
    pub names: &'static [&'static str],
    /// Whether the device holds this file system; reads a few sectors at most.
    pub probe: fn(&dyn BlockDevice) -> Result<Option<Identity>>,
    /// Opens it; reads superblock and descriptors only.
    pub open: fn(Device) -> Result<Box<dyn FileSystem>>,
    /// Makes it, if it can be made.
    pub make: Option<fn(&Device, &MakeOptions) -> Result<()>>,
}

/// All drivers, in the order in which they are asked.
pub const DRIVERS: &[Driver] = &[
    Driver { names: ext4::NAMES, probe: ext4::probe, open: ext4::open, make: Some(ext4::make) },
    Driver { names: fat::NAMES, probe: fat::probe, open: fat::open, make: Some(fat::make) },
    Driver { names: iso9660::NAMES, probe: iso9660::probe, open: iso9660::open, make: None },
    Driver { names: btrfs::NAMES, probe: btrfs::probe, open: btrfs::open, make: None },
    Driver { names: rofs::NAMES, probe: rofs::probe, open: rofs::open, make: None },
    Driver { names: squashfs::NAMES, probe: squashfs::probe, open: squashfs::open, make: None },
    Driver { names: erofs::NAMES, probe: erofs::probe, open: erofs::open, make: None },
    Driver { names: xfs::NAMES, probe: xfs::probe, open: xfs::open, make: None },
];

/// What is on a device: superblocks decide, never a partition type. `None` for nothing known.
pub fn identify(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    if let Some(found) = foreign::probe_containers(device)? {
        return Ok(Some(found));
    }
    for driver in DRIVERS {
        if let Some(found) = (driver.probe)(device)? {
            return Ok(Some(found));
        }
    }
    foreign::probe(device)
}

/// Opens whatever file system is on a device.
///
/// # Errors
/// `Kind::Unsupported` names what was found when no driver opens it.
pub fn open(device: Device) -> Result<Box<dyn FileSystem>> {
    open_with(device, &Beside::default())
}

/// What a file system has on other devices.
#[derive(Clone, Default)]
pub struct Beside {
    /// Its journal: that which [`ext4::wanted_journal`] asks for.
    pub journal: Option<ext4::JournalDevice>,
    /// Its other devices: those with the UUID of [`btrfs::wanted_members`].
    pub members: Vec<Device>,
}

/// As [`open`], of a file system that has something on other devices.
///
/// # Errors
/// Those of [`open`]; a journal that cannot be replayed; members that do not belong together.
pub fn open_with(device: Device, beside: &Beside) -> Result<Box<dyn FileSystem>> {
    if foreign::probe_containers(device.as_ref())?.is_none() {
        if beside.journal.is_some() {
            return Ok(Box::new(ext4::Ext4::open_with_journal(device, beside.journal.clone())?));
        }
        if !beside.members.is_empty() {
            return Ok(Box::new(btrfs::Btrfs::open(device, &beside.members)?));
        }
        for driver in DRIVERS {
            if (driver.probe)(device.as_ref())?.is_some() {
                return (driver.open)(device);
            }
        }
    }
    Err(match identify(device.as_ref())? {
        Some(found) if found.fs_type == "LVM2_member" => {
            Error::unsupported("this is a physical volume of LVM, no file system")
                .hint("lvs lists the logical volumes; mount one of them")
        }
        Some(found) => Error::unsupported(format!("{} file systems cannot be opened yet", found.fs_type))
            .hint("imgsh opens ext2, ext3, ext4, FAT, ISO 9660, XFS, btrfs, squashfs and EROFS; nothing was changed"),
        None => Error::new(Kind::Invalid, "no file system that imgsh knows was found here")
            .hint("list-filesystems shows what is where"),
    })
}

/// Makes a file system.
///
/// # Errors
/// `Kind::Unsupported` for a type without a driver.
pub fn make(device: &Device, options: &MakeOptions) -> Result<()> {
    for driver in DRIVERS {
        if let Some(make) = driver.make.filter(|_| driver.names.contains(&options.fs_type.as_str())) {
            return make(device, options);
        }
    }
    Err(Error::unsupported(format!("mkfs {}: imgsh cannot make this file system", options.fs_type))
        .hint("it makes ext2, ext3, ext4 and vfat"))
}
