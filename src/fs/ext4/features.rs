//! Feature bits: what may be read, what may be written, and their names.
//!
//! Bits and names: kernel documentation, "Super Block", tables of `s_feature_*`; mke2fs's words.

/// `s_feature_compat`: may be ignored by those who do not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compat(pub u32);
/// `s_feature_incompat`: forbid reading to those who do not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incompat(pub u32);
/// `s_feature_ro_compat`: forbid writing to those who do not know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoCompat(pub u32);

macro_rules! bits {
    ($set:ident: $($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl $set {
            $($(#[$doc])* pub const $name: u32 = $bit;)*
            /// Whether all the given bits are set.
            pub fn has(self, bits: u32) -> bool {
                self.0 & bits == bits
            }
        }
    };
}

bits! { Compat:
    /// Has a journal.
    HAS_JOURNAL = 0x4;
    /// Has extended attributes.
    EXT_ATTR = 0x8;
    /// Blocks behind the descriptors are kept for growth.
    RESIZE_INODE = 0x10;
    /// Large directories have a hash index.
    DIR_INDEX = 0x20;
    /// Two copies of the superblock at most.
    SPARSE_SUPER2 = 0x200;
    /// Inode numbers and UUID must stay.
    STABLE_INODES = 0x800;
    /// Orphans are kept in a file.
    ORPHAN_FILE = 0x1000;
}

bits! { Incompat:
    /// Directory entries hold the file type.
    FILETYPE = 0x2;
    /// The journal must be replayed.
    RECOVER = 0x4;
    /// A journal, no file system.
    JOURNAL_DEV = 0x8;
    /// Descriptors are spread over the groups.
    META_BG = 0x10;
    /// Files may be mapped by extents.
    EXTENTS = 0x40;
    /// Block numbers of 64 bits.
    BIT64 = 0x80;
    /// A block guards against two mounts.
    MMP = 0x100;
    /// Metadata of several groups lies together.
    FLEX_BG = 0x200;
    /// Large attribute values are inodes.
    EA_INODE = 0x400;
    /// The checksum seed is stored.
    CSUM_SEED = 0x2000;
    /// Indexes of three levels.
    LARGE_DIR = 0x4000;
    /// Small files are kept in the inode.
    INLINE_DATA = 0x8000;
    /// Files may be encrypted.
    ENCRYPT = 0x10000;
    /// Directories may ignore case.
    CASEFOLD = 0x20000;
}

bits! { RoCompat:
    /// Copies of the superblock in some groups only.
    SPARSE_SUPER = 0x1;
    /// Files of 2 GiB and more.
    LARGE_FILE = 0x2;
    /// Files counted in blocks.
    HUGE_FILE = 0x8;
    /// Descriptors have a crc16.
    GDT_CSUM = 0x10;
    /// More than 65000 subdirectories.
    DIR_NLINK = 0x20;
    /// Inodes have extra fields.
    EXTRA_ISIZE = 0x40;
    /// Quota files.
    QUOTA = 0x100;
    /// Allocation in clusters.
    BIGALLOC = 0x200;
    /// All metadata has a crc32c.
    METADATA_CSUM = 0x400;
    /// Inodes belong to projects.
    PROJECT = 0x2000;
    /// Files may have a tree of checksums.
    VERITY = 0x8000;
    /// The orphan file is not empty.
    ORPHAN_PRESENT = 0x10000;
}

/// A feature: mke2fs's word, its bit, and whether this driver reads and writes file systems that have it.
struct Feature(&'static str, u32, Support);

#[derive(PartialEq, Eq, Clone, Copy)]
enum Support {
    Writes,
    Reads,
    Nothing,
}
use Support::{Nothing, Reads, Writes};

const COMPAT: &[Feature] = &[
    Feature("dir_prealloc", 0x1, Writes),
    Feature("imagic_inodes", 0x2, Reads),
    Feature("has_journal", 0x4, Writes),
    Feature("ext_attr", 0x8, Writes),
    Feature("resize_inode", 0x10, Writes),
    Feature("dir_index", 0x20, Writes),
    Feature("exclude_bitmap", 0x100, Reads),
    Feature("sparse_super2", 0x200, Writes),
    Feature("fast_commit", 0x400, Writes),
    Feature("stable_inodes", 0x800, Writes),
    Feature("orphan_file", 0x1000, Writes),
];

const INCOMPAT: &[Feature] = &[
    Feature("compression", 0x1, Nothing),
    Feature("filetype", 0x2, Writes),
    // Judged by the state of the journal, not by the table: see `Ext4::why_read_only`.
    Feature("needs_recovery", 0x4, Writes),
    Feature("journal_dev", 0x8, Nothing),
    Feature("meta_bg", 0x10, Writes),
    Feature("extents", 0x40, Writes),
    Feature("64bit", 0x80, Writes),
    // Judged by its block: see `Ext4::mmp_trouble`.
    Feature("mmp", 0x100, Writes),
    Feature("flex_bg", 0x200, Writes),
    Feature("ea_inode", 0x400, Writes),
    Feature("dirdata", 0x1000, Nothing),
    Feature("metadata_csum_seed", 0x2000, Writes),
    Feature("large_dir", 0x4000, Writes),
    Feature("inline_data", 0x8000, Writes),
    // These are judged by the flags of each inode: see `guard`.
    Feature("encrypt", 0x10000, Writes),
    Feature("casefold", 0x20000, Writes),
];

const RO_COMPAT: &[Feature] = &[
    Feature("sparse_super", 0x1, Writes),
    Feature("large_file", 0x2, Writes),
    Feature("huge_file", 0x8, Writes),
    Feature("uninit_bg", 0x10, Writes),
    Feature("dir_nlink", 0x20, Writes),
    Feature("extra_isize", 0x40, Writes),
    Feature("snapshot", 0x80, Reads),
    // Judged by its files: see `Ext4::quota_trouble`.
    Feature("quota", 0x100, Writes),
    Feature("bigalloc", 0x200, Writes),
    Feature("metadata_csum", 0x400, Writes),
    Feature("replica", 0x800, Reads),
    Feature("read-only", 0x1000, Reads),
    Feature("project", 0x2000, Writes),
    Feature("shared_blocks", 0x4000, Reads),
    Feature("verity", 0x8000, Writes),
    // Judged with the orphan list: see `Ext4::why_read_only`.
    Feature("orphan_present", 0x10000, Writes),
];

/// `'name' (class 0xbit)` of the first bit whose feature fails `good`; unknown bits fail if `unknown_fails`.
fn first_failing(
    class: &str,
    table: &[Feature],
    bits: u32,
    unknown_fails: bool,
    good: impl Fn(Support) -> bool,
) -> Option<String> {
    (0..32).map(|shift| 1u32 << shift).filter(|bit| bits & bit != 0).find_map(|bit| {
        match table.iter().find(|feature| feature.1 == bit) {
            Some(feature) => (!good(feature.2)).then(|| format!("feature '{}' ({class} {bit:#x})", feature.0)),
            None => unknown_fails.then(|| format!("an unknown feature ({class} {bit:#x})")),
        }
    })
}

/// The first feature that forbids opening.
pub fn unreadable(incompat: Incompat) -> Option<String> {
    first_failing("incompat", INCOMPAT, incompat.0, true, |support| support != Nothing)
}

/// The first feature that forbids writing. Unknown compatible bits do not: that is what they are for.
pub fn unwritable(compat: Compat, incompat: Incompat, ro_compat: RoCompat) -> Option<String> {
    first_failing("incompat", INCOMPAT, incompat.0, true, |support| support == Writes)
        .or_else(|| first_failing("ro_compat", RO_COMPAT, ro_compat.0, true, |support| support == Writes))
        .or_else(|| first_failing("compat", COMPAT, compat.0, false, |support| support == Writes))
}

/// mke2fs's words for all features, in the order in which tune2fs lists them; unknown bits as `FEATURE_C5` and the like.
pub fn words(compat: Compat, incompat: Incompat, ro_compat: RoCompat) -> Vec<String> {
    let classes = [(COMPAT, compat.0, 'C'), (INCOMPAT, incompat.0, 'I'), (RO_COMPAT, ro_compat.0, 'R')];
    let mut words = Vec::new();
    for (table, bits, class) in classes {
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            words.push(match table.iter().find(|feature| feature.1 == 1 << bit) {
                // tune2fs calls the feature by the flag of its inodes.
                Some(feature) if feature.0 == "extents" => "extent".to_string(),
                Some(feature) => feature.0.to_string(),
                None => format!("FEATURE_{class}{bit}"),
            });
        }
    }
    words
}
