//! The features of a new file system: what each type has by default, and mke2fs's `-O` words.
//!
//! Defaults: the observed answers of mke2fs 1.47.0 as Debian 12 configures it.

use super::super::features::{Compat, Incompat, RoCompat};
use crate::base::{Error, Kind, Result};

/// The three words of feature bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `s_feature_compat`.
    pub compat: Compat,
    /// `s_feature_incompat`.
    pub incompat: Incompat,
    /// `s_feature_ro_compat`.
    pub ro_compat: RoCompat,
}

/// One bit in its word.
#[derive(Clone, Copy)]
enum Bit {
    C(u32),
    I(u32),
    R(u32),
}
use Bit::{C, I, R};

/// The features that can be laid out: mke2fs's word, the bit, and the types that have it by default.
const WORDS: &[(&str, Bit, &[&str])] = &[
    ("has_journal", C(Compat::HAS_JOURNAL), &["ext3", "ext4"]),
    ("ext_attr", C(Compat::EXT_ATTR), ALL),
    ("resize_inode", C(Compat::RESIZE_INODE), ALL),
    ("dir_index", C(Compat::DIR_INDEX), ALL),
    ("orphan_file", C(Compat::ORPHAN_FILE), &[]),
    ("stable_inodes", C(Compat::STABLE_INODES), &[]),
    ("sparse_super2", C(Compat::SPARSE_SUPER2), &[]),
    ("journal_dev", I(Incompat::JOURNAL_DEV), &[]),
    ("filetype", I(Incompat::FILETYPE), ALL),
    ("extent", I(Incompat::EXTENTS), &["ext4"]),
    ("extents", I(Incompat::EXTENTS), &["ext4"]),
    ("64bit", I(Incompat::BIT64), &["ext4"]),
    ("flex_bg", I(Incompat::FLEX_BG), &["ext4"]),
    ("ea_inode", I(Incompat::EA_INODE), &[]),
    ("large_dir", I(Incompat::LARGE_DIR), &[]),
    ("metadata_csum_seed", I(Incompat::CSUM_SEED), &[]),
    ("meta_bg", I(Incompat::META_BG), &[]),
    ("mmp", I(Incompat::MMP), &[]),
    ("inline_data", I(Incompat::INLINE_DATA), &[]),
    ("encrypt", I(Incompat::ENCRYPT), &[]),
    ("casefold", I(Incompat::CASEFOLD), &[]),
    ("sparse_super", R(RoCompat::SPARSE_SUPER), ALL),
    ("large_file", R(RoCompat::LARGE_FILE), ALL),
    ("huge_file", R(RoCompat::HUGE_FILE), &["ext4"]),
    ("uninit_bg", R(RoCompat::GDT_CSUM), &[]),
    ("dir_nlink", R(RoCompat::DIR_NLINK), &["ext4"]),
    ("extra_isize", R(RoCompat::EXTRA_ISIZE), &["ext4"]),
    ("metadata_csum", R(RoCompat::METADATA_CSUM), &["ext4"]),
    ("quota", R(RoCompat::QUOTA), &[]),
    ("project", R(RoCompat::PROJECT), &[]),
    ("verity", R(RoCompat::VERITY), &[]),
    ("bigalloc", R(RoCompat::BIGALLOC), &[]),
];

const ALL: &[&str] = &["ext2", "ext3", "ext4"];

/// The words that mean more than one bit of [`WORDS`] can say need one another like this: the first needs the second.
const NEEDS: &[(&str, &str)] = &[
    ("64bit", "extent"),
    ("bigalloc", "extent"),
    ("resize_inode", "sparse_super"),
    ("resize_inode", "large_file"),
    ("metadata_csum_seed", "metadata_csum"),
    ("orphan_file", "has_journal"),
];

impl Features {
    /// The features of a type, changed by `-O` words: separated by commas or blanks, `^` switches off, `none`
    /// switches everything off that was on.
    ///
    /// # Errors
    /// `Kind::Unsupported` names a word that cannot be laid out; `Kind::Invalid` names two that contradict each other.
    pub fn new(fs_type: &str, words: Option<&str>) -> Result<Self> {
        let mut features = Features { compat: Compat(0), incompat: Incompat(0), ro_compat: RoCompat(0) };
        for (_, bit, _) in WORDS.iter().filter(|(_, _, types)| types.contains(&fs_type)) {
            features.set(*bit, true);
        }
        for word in words.unwrap_or_default().split([',', ' ']).filter(|word| !word.is_empty()) {
            if word == "none" {
                features = Features { compat: Compat(0), incompat: Incompat(0), ro_compat: RoCompat(0) };
                continue;
            }
            let (name, on) = match word.strip_prefix(['^', '-']) {
                Some(name) => (name, false),
                None => (word.strip_prefix('+').unwrap_or(word), true),
            };
            match bit_of(name) {
                Some(bit) => features.set(bit, on),
                None if on => {
                    return Err(Error::unsupported(format!("mkfs {fs_type}: feature '{name}' cannot be laid out"))
                        .hint(format!("known features: {}", known())));
                }
                // What is never laid out is always off.
                None => {}
            }
        }
        // Both are checksums of the descriptors; the better one wins, as in mke2fs.
        if features.has("metadata_csum") {
            features.set(R(RoCompat::GDT_CSUM), false);
        }
        if features.has("meta_bg") && features.has("resize_inode") {
            let detail = format!("mkfs {fs_type}: features 'meta_bg' and 'resize_inode' exclude each other");
            return Err(Error::new(Kind::Invalid, detail).hint("add ^resize_inode to the features"));
        }
        for (word, needed) in NEEDS {
            if features.has(word) && !features.has(needed) {
                let detail = format!("mkfs {fs_type}: feature '{word}' needs feature '{needed}'");
                return Err(Error::new(Kind::Invalid, detail).hint(format!("add ^{word} to the features")));
            }
        }
        Ok(features)
    }

    /// Whether the feature with this word is on.
    pub fn has(&self, word: &str) -> bool {
        match bit_of(word) {
            Some(C(bit)) => self.compat.has(bit),
            Some(I(bit)) => self.incompat.has(bit),
            Some(R(bit)) => self.ro_compat.has(bit),
            None => false,
        }
    }

    /// Whether there is a file of what projects use: the feature `project` alone only says that inodes may belong to some.
    pub fn quota_of_projects(&self) -> bool {
        self.has("quota") && self.has("project")
    }

    /// Takes the journal away: the file system is too small for one.
    pub fn drop_journal(&mut self) {
        self.set(C(Compat::HAS_JOURNAL | Compat::ORPHAN_FILE), false);
    }

    fn set(&mut self, bit: Bit, on: bool) {
        let (word, bit) = match bit {
            C(bit) => (&mut self.compat.0, bit),
            I(bit) => (&mut self.incompat.0, bit),
            R(bit) => (&mut self.ro_compat.0, bit),
        };
        *word = if on { *word | bit } else { *word & !bit };
    }
}

fn bit_of(word: &str) -> Option<Bit> {
    WORDS.iter().find(|(name, ..)| *name == word).map(|(_, bit, _)| *bit)
}

fn known() -> String {
    WORDS.iter().map(|(name, ..)| *name).filter(|name| *name != "extents").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_switch_on_and_off() {
        let plain = Features::new("ext4", None).unwrap();
        assert_eq!((plain.compat.0, plain.incompat.0, plain.ro_compat.0), (0x3c, 0x2c2, 0x46b));
        let odd = Features::new("ext4", Some("^has_journal,^64bit ^metadata_csum,uninit_bg")).unwrap();
        assert_eq!((odd.compat.0, odd.incompat.0, odd.ro_compat.0), (0x38, 0x242, 0x7b));
        let none = Features::new("ext2", Some("none,filetype")).unwrap();
        assert_eq!((none.compat.0, none.incompat.0, none.ro_compat.0), (0, 2, 0));
    }

    #[test]
    fn refusals_name_the_word() {
        let error = Features::new("ext4", Some("snapshot")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("'snapshot'"), "{error}");
        let error = Features::new("ext3", Some("bigalloc")).unwrap_err();
        assert!(error.to_string().contains("'bigalloc' needs feature 'extent'"), "{error}");
        let error = Features::new("ext4", Some("^extent")).unwrap_err();
        assert!(error.to_string().contains("'64bit' needs feature 'extent'"), "{error}");
        assert!(Features::new("ext4", Some("^snapshot")).is_ok());
    }
}
