//! The superblock as `tune2fs -l` shows it: labels and words are those that scripts know from there.

use super::Ext4;
use super::features;
use super::superblock::{STATE_ERROR, STATE_VALID};
use crate::base::bytes::{le16, le32, u8_at};
use crate::base::{Timestamp, Uuid};

/// `s_default_mount_opts`.
const MOUNT_OPTIONS: &[(u32, &str)] = &[
    (0x1, "debug"),
    (0x2, "bsdgroups"),
    (0x4, "user_xattr"),
    (0x8, "acl"),
    (0x10, "uid16"),
    (0x100, "nobarrier"),
    (0x200, "block_validity"),
    (0x400, "discard"),
    (0x800, "nodelalloc"),
];

/// `s_flags`.
const FLAGS: &[(u32, &str)] =
    &[(0x1, "signed_directory_hash "), (0x2, "unsigned_directory_hash "), (0x4, "test_filesystem ")];

/// A number of kilobytes in the unit that fits.
fn kilobytes(count: u64) -> String {
    match count {
        0..=2047 => format!("{count} kB"),
        2048..=2_097_151 => format!("{} MB", (count + 512) / 1024),
        2_097_152..=2_147_483_647 => format!("{} GB", (count + 524_288) / 1_048_576),
        _ => format!("{} TB", (count + 536_870_912) / 1_073_741_824),
    }
}

/// A number of seconds with the largest unit that divides it.
fn interval(seconds: u32) -> String {
    const UNITS: [(u32, &str); 5] =
        [(30 * 86_400, "month"), (7 * 86_400, "week"), (86_400, "day"), (3600, "hour"), (60, "minute")];
    let mut parts = Vec::new();
    let mut rest = seconds;
    for (unit, name) in UNITS {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if rest > 0 {
        parts.push(format!("{rest} second{}", if rest == 1 { "" } else { "s" }));
    }
    format!("{seconds} ({})", if parts.is_empty() { "<none>".into() } else { parts.join(", ") })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

impl Ext4 {
    /// Label and value of each line, in the order of `tune2fs -l`. What is not there has an empty value.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let sb = &self.superblock;
        let bytes = sb.bytes();
        let geometry = &self.geometry;
        let (compat, incompat, ro_compat) = (sb.compat(), sb.incompat(), sb.ro_compat());
        let mut facts: Vec<(&'static str, String)> = Vec::new();
        let mut add = |label: &'static str, value: String| facts.push((label, value));
        let or_none = |value: String| if value.is_empty() { "<none>".to_string() } else { value };
        let id = |at: usize| Uuid(bytes[at..at + 16].try_into().unwrap_or_default());
        let name_of = |id: u16| if id == 0 { "root".to_string() } else { "unknown".to_string() };
        add("Filesystem volume name", or_none(text(sb.label())));
        let last = text(&bytes[0x88..0xc8]);
        add("Last mounted on", if last.is_empty() { "<not available>".into() } else { last });
        add("Filesystem UUID", if sb.uuid().is_nil() { "<none>".into() } else { sb.uuid().to_string() });
        add("Filesystem magic number", "0xEF53".into());
        let revision = sb.revision();
        add("Filesystem revision #", format!("{revision} {}", if revision == 0 { "(original)" } else { "(dynamic)" }));
        let words = features::words(compat, incompat, ro_compat).join(" ");
        add("Filesystem features", if words.is_empty() { "(none)".into() } else { words });
        if sb.flags() != 0 {
            let words = FLAGS.iter().filter(|(bit, _)| sb.flags() & bit != 0);
            let words: String = words.map(|(_, word)| *word).collect();
            add("Filesystem flags", if words.is_empty() { "(none)".into() } else { words });
        }
        let options = le32(bytes, 0x100);
        let mut words: Vec<&str> =
            MOUNT_OPTIONS.iter().filter(|(bit, _)| options & bit != 0).map(|(_, word)| *word).collect();
        match options & 0x60 {
            0x20 => words.push("journal_data"),
            0x40 => words.push("journal_data_ordered"),
            0x60 => words.push("journal_data_writeback"),
            _ => {}
        }
        add("Default mount options", if words.is_empty() { "(none)".into() } else { words.join(" ") });
        let clean = if sb.state() & STATE_VALID != 0 { "clean" } else { "not clean" };
        add("Filesystem state", format!("{clean}{}", if sb.state() & STATE_ERROR != 0 { " with errors" } else { "" }));
        add(
            "Errors behavior",
            match le16(bytes, 0x3c) {
                1 => "Continue",
                2 => "Remount read-only",
                3 => "Panic",
                _ => "Unknown (continue)",
            }
            .into(),
        );
        add(
            "Filesystem OS type",
            match sb.creator_os() {
                0 => "Linux".into(),
                1 => "Hurd".into(),
                3 => "FreeBSD".into(),
                _ => "unknown".to_string(),
            },
        );
        add("Inode count", sb.inodes().to_string());
        add("Block count", sb.blocks().to_string());
        add("Reserved block count", sb.reserved_blocks().to_string());
        if sb.overhead() != 0 {
            add("Overhead clusters", sb.overhead().to_string());
        }
        add("Free blocks", sb.free_blocks().to_string());
        add("Free inodes", sb.free_inodes().to_string());
        add("First block", sb.first_data_block().to_string());
        add("Block size", geometry.block_size.to_string());
        add("Fragment size", (1024_u64 << sb.log_cluster_size().min(20)).to_string());
        if incompat.has(features::Incompat::BIT64) {
            add("Group descriptor size", sb.desc_size().to_string());
        }
        if sb.reserved_gdt_blocks() != 0 {
            add("Reserved GDT blocks", sb.reserved_gdt_blocks().to_string());
        }
        add("Blocks per group", sb.blocks_per_group().to_string());
        add("Fragments per group", sb.clusters_per_group().to_string());
        add("Inodes per group", sb.inodes_per_group().to_string());
        add("Inode blocks per group", geometry.table_blocks().to_string());
        if sb.first_meta_bg() != 0 {
            add("First meta block group", sb.first_meta_bg().to_string());
        }
        let (stride, width) = (le16(bytes, 0x164), le32(bytes, 0x170));
        if stride != 0 {
            add("RAID stride", stride.to_string());
        }
        if width != 0 {
            add("RAID stripe width", width.to_string());
        }
        if sb.log_groups_per_flex() != 0 {
            add("Flex block group size", geometry.groups_per_flex(sb.log_groups_per_flex()).to_string());
        }
        let when = |time: Timestamp| if time.seconds == 0 { "n/a".to_string() } else { time.ctime() };
        if sb.time(2).seconds != 0 {
            add("Filesystem created", sb.time(2).ctime());
        }
        add("Last mount time", when(sb.time(0)));
        add("Last write time", sb.time(1).ctime());
        add("Mount count", le16(bytes, 0x34).to_string());
        add("Maximum mount count", (le16(bytes, 0x36) as i16).to_string());
        let checked = i64::from(le32(bytes, 0x40)) | i64::from(u8_at(bytes, 0x277)) << 32;
        add("Last checked", Timestamp::from_seconds(checked).ctime());
        let every = le32(bytes, 0x44);
        add("Check interval", interval(every));
        if every != 0 {
            add("Next check after", Timestamp::from_seconds(checked + i64::from(every)).ctime());
        }
        let written = u64::from(le32(bytes, 0x178)) | u64::from(le32(bytes, 0x17c)) << 32;
        if written != 0 {
            add("Lifetime writes", kilobytes(written));
        }
        let (uid, gid) = (le16(bytes, 0x50), le16(bytes, 0x52));
        add("Reserved blocks uid", format!("{uid} (user {})", name_of(uid)));
        add("Reserved blocks gid", format!("{gid} (group {})", name_of(gid)));
        if revision > 0 {
            add("First inode", sb.first_inode().to_string());
            add("Inode size", sb.inode_size().to_string());
            if le16(bytes, 0x15c) != 0 {
                add("Required extra isize", le16(bytes, 0x15c).to_string());
            }
            if sb.want_extra_isize() != 0 {
                add("Desired extra isize", sb.want_extra_isize().to_string());
            }
        }
        if !id(0xd0).is_nil() {
            add("Journal UUID", id(0xd0).to_string());
        }
        if sb.journal_inode() != 0 {
            add("Journal inode", sb.journal_inode().to_string());
        }
        if sb.journal_device() != 0 {
            add("Journal device", format!("0x{:04x}", sb.journal_device()));
        }
        if sb.last_orphan() != 0 {
            add("First orphan inode", sb.last_orphan().to_string());
        }
        if sb.hash_version() != 0 || compat.has(features::Compat::DIR_INDEX) {
            let hash = ["legacy", "half_md4", "tea", "legacy-unsigned", "half_md4-unsigned", "tea-unsigned"];
            add("Default directory hash", hash.get(usize::from(sb.hash_version())).unwrap_or(&"unknown").to_string());
        }
        if !id(0xec).is_nil() {
            add("Directory Hash Seed", id(0xec).to_string());
        }
        match u8_at(bytes, 0xfd) {
            0 => {}
            1 => add("Journal backup", "inode blocks".into()),
            other => add("Journal backup", format!("type {other}")),
        }
        if geometry.has_checksums() {
            add("Checksum type", "crc32c".into());
            add("Checksum", format!("0x{:08x}", le32(bytes, 0x3fc)));
            if incompat.has(features::Incompat::CSUM_SEED) {
                add("Checksum seed", format!("0x{:08x}", le32(bytes, 0x270)));
            }
        }
        if compat.has(features::Compat::ORPHAN_FILE) {
            add("Orphan file inode", sb.orphan_file().to_string());
        }
        facts
    }
}
