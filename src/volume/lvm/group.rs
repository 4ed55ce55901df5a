//! A volume group as its text describes it.

use super::id::Id;
use super::text::{Node, Section, Value};
use crate::base::{Error, Result};

/// Text counts in sectors of this size, whatever the disk has.
const SECTOR: u64 = 512;

/// A physical volume as the group knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name inside the text: `pv0`.
    pub key: String,
    /// Its identifier.
    pub id: Id,
    /// First byte of the first extent.
    pub start: u64,
    /// Number of extents.
    pub extents: u64,
    /// Size of the device in bytes.
    pub size: u64,
    /// Whether new volumes may be put there.
    pub allocatable: bool,
    /// Whether lvm has marked it as missing.
    pub missing: bool,
}

/// Where the extents of a segment are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// On one place, or in turns on several: name of a physical volume (or of a hidden volume) and first extent.
    Striped {
        /// Bytes before the next place's turn; 0 for one place.
        chunk: u64,
        /// Places.
        legs: Vec<(String, u64)>,
    },
    /// The same on several hidden volumes, each with another one for its state.
    Raid1 {
        /// State and data of each leg.
        legs: Vec<(String, String)>,
    },
    /// What thin volumes are made from: hidden volumes for metadata and data.
    ThinPool {
        /// The hidden volume with the metadata.
        metadata: String,
        /// The hidden volume with the chunks.
        data: String,
        /// Bytes of a chunk.
        chunk: u64,
        /// The number of the last change, which the metadata has, too.
        transaction: u64,
        /// Whether new chunks are zeroed.
        zeroes: bool,
    },
    /// A volume of a pool.
    Thin {
        /// The pool's name.
        pool: String,
        /// Its number in the pool.
        device: u64,
        /// The volume that it is a snapshot of.
        origin: Option<String>,
    },
    /// A kind that we do not map.
    Other(String),
}

/// A run of a logical volume's extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First extent in the volume.
    pub start: u64,
    /// Number of extents.
    pub count: u64,
    /// Where they are.
    pub layout: Layout,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    /// Its name in the group.
    pub name: String,
    /// Its identifier.
    pub id: Id,
    /// Whether it is a volume of its own, not a part of another one.
    pub visible: bool,
    /// Whether lvm activates it only when it is told to, as it does with thin snapshots.
    pub skipped: bool,
    /// Segments in order, without gaps.
    pub segments: Vec<Segment>,
    /// Why it cannot be opened.
    pub refused: Option<String>,
    /// Why it cannot be written.
    pub read_only: Option<String>,
}

impl LogicalVolume {
    /// Number of extents.
    pub fn extents(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.start + s.count)
    }

    /// The kind of its first segment, as `lvs` names it: `linear`, `striped`, `raid1`, ...
    pub fn kind(&self) -> &str {
        match self.segments.first().map(|s| &s.layout) {
            Some(Layout::Striped { legs, .. }) if legs.len() == 1 => "linear",
            Some(Layout::Striped { .. }) => "striped",
            Some(Layout::Raid1 { .. }) => "raid1",
            Some(Layout::ThinPool { .. }) => "thin-pool",
            Some(Layout::Thin { .. }) => "thin",
            Some(Layout::Other(kind)) => kind,
            None => "unknown",
        }
    }

    /// Whether it is there only for other volumes, as lvm's `lv_role` says.
    pub fn is_private(&self) -> bool {
        !self.visible || matches!(self.kind(), "thin-pool" | "cache-pool" | "vdo-pool")
    }
}

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its identifier.
    pub id: Id,
    /// Counts the changes of the text.
    pub sequence: u64,
    /// Bytes of an extent.
    pub extent: u64,
    /// Physical volumes.
    pub members: Vec<Member>,
    /// Logical volumes, hidden ones too.
    pub volumes: Vec<LogicalVolume>,
    /// Why none of its volumes can be opened.
    pub refused: Option<String>,
    /// Why its text cannot be changed.
    pub fixed: Option<String>,
    /// The group's section of the text.
    pub text: Section,
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("lvm: metadata text: {what}"))
}

fn id(section: &Section, whose: &str) -> Result<Id> {
    section.text("id").and_then(Id::parse).ok_or_else(|| bad(format_args!("{whose} has no identifier")))
}

/// A number of sectors in bytes.
fn bytes(section: &Section, name: &str, whose: &str) -> Result<u64> {
    let sectors = section.number(name).ok_or_else(|| bad(format_args!("{whose}: {name} is missing")))?;
    // Sizes above 2^62 bytes are no sizes, and sums of a few of them must not overflow.
    sectors
        .checked_mul(SECTOR)
        .filter(|bytes| *bytes < 1 << 62)
        .ok_or_else(|| bad(format_args!("{whose}: {name} {sectors} is too large")))
}

fn count(section: &Section, name: &str, whose: &str) -> Result<u64> {
    let number = section.number(name).ok_or_else(|| bad(format_args!("{whose}: {name} is missing")))?;
    match number <= u64::from(u32::MAX) {
        true => Ok(number),
        false => Err(bad(format_args!("{whose}: {name} {number} is too large"))),
    }
}

/// Whether a name may stand in paths and texts, as lvm has it.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 128
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+_.-".contains(&b))
}

impl Group {
    /// Reads a text: one group, then facts about the text itself.
    ///
    /// # Errors
    /// `Kind::Corrupt` with what is missing or does not fit.
    pub fn parse(text: &Section) -> Result<Self> {
        let mut groups = text.sections();
        let (Some((name, section)), None) = (groups.next(), groups.next()) else {
            return Err(bad("it does not hold one group"));
        };
        if text.text("contents") != Some("Text Format Volume Group") || text.number("version") != Some(1) {
            return Err(bad("contents and version are not those of a group"));
        }
        if !is_name(name) {
            return Err(bad(format_args!("'{name}' is no name")));
        }
        let extent = bytes(section, "extent_size", name)?;
        if extent == 0 || !extent.is_multiple_of(SECTOR) || extent > 1 << 40 {
            return Err(bad(format_args!("{name}: an extent size of {extent} bytes")));
        }
        let mut group = Group {
            name: name.to_string(),
            id: id(section, name)?,
            sequence: section.number("seqno").ok_or_else(|| bad("no sequence number"))?,
            extent,
            members: Vec::new(),
            volumes: Vec::new(),
            refused: None,
            fixed: None,
            text: section.clone(),
        };
        for (key, member) in section.section("physical_volumes").into_iter().flat_map(Section::sections) {
            group.members.push(Member {
                key: key.to_string(),
                id: id(member, key)?,
                start: bytes(member, "pe_start", key)?,
                extents: count(member, "pe_count", key)?,
                size: bytes(member, "dev_size", key).unwrap_or_default(),
                allocatable: member.words("status").contains(&"ALLOCATABLE"),
                missing: member.words("flags").contains(&"MISSING"),
            });
        }
        for (name, volume) in section.section("logical_volumes").into_iter().flat_map(Section::sections) {
            group.volumes.push(logical_volume(name, volume)?);
        }
        group.find_snapshots();
        group.judge();
        Ok(group)
    }

    /// A logical volume by its name.
    pub fn volume(&self, name: &str) -> Option<&LogicalVolume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// A member by its name in the text.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// Tags of a member or of a volume, with commas between.
    pub fn tags(&self, kind: &str, name: &str) -> String {
        let section = self.text.section(kind).and_then(|all| all.section(name));
        section.map_or_else(String::new, |section| section.words("tags").join(","))
    }

    /// Number of volumes that are snapshots.
    pub fn snapshots(&self) -> usize {
        self.volumes.iter().filter(|volume| !volume.visible && volume.kind() == "snapshot").count()
    }

    /// The group's part of the text.
    pub fn render(&self) -> String {
        let mut text = Section::default();
        text.add(&self.name, self.text.clone());
        text.render().trim_start().to_string()
    }

    /// Classic snapshots: a hidden volume names origin and store.
    fn find_snapshots(&mut self) {
        let section = self.text.section("logical_volumes").cloned().unwrap_or_default();
        let segments = section.sections().flat_map(|(_, volume)| volume.sections().map(|(_, segment)| segment));
        for segment in segments.filter(|segment| segment.text("type") == Some("snapshot")) {
            let (origin, store) = (segment.text("origin"), segment.text("cow_store").or(segment.text("merging_store")));
            for volume in &mut self.volumes {
                if Some(volume.name.as_str()) == store {
                    volume.refused = Some("it is a snapshot, which is not mapped yet".into());
                } else if Some(volume.name.as_str()) == origin {
                    volume.read_only = Some("it has snapshots, which a write would change".into());
                }
            }
        }
    }

    /// What forbids to open or to change the group.
    fn judge(&mut self) {
        let words: Vec<&str> = [self.text.words("status"), self.text.words("flags")].concat();
        let known = ["RESIZEABLE", "READ", "WRITE"];
        let unknown: Vec<&str> = words.iter().copied().filter(|word| !known.contains(word)).collect();
        let lock = self.text.text("lock_type").filter(|lock| *lock != "none");
        if let Some(lock) = lock {
            self.refused = Some(format!("the group is shared (lock_type {lock})"));
        } else if !unknown.is_empty() {
            self.refused = Some(format!("the group is {}", unknown.join(", ")));
        } else if !words.contains(&"WRITE") {
            self.fixed = Some("the group is read-only".into());
        } else if !words.contains(&"RESIZEABLE") {
            self.fixed = Some("the group is not resizeable".into());
        }
        if !words.contains(&"WRITE") {
            for volume in &mut self.volumes {
                volume.read_only.get_or_insert_with(|| "its group is read-only".into());
            }
        }
    }
}

fn logical_volume(name: &str, section: &Section) -> Result<LogicalVolume> {
    if !is_name(name) {
        return Err(bad(format_args!("'{name}' is no name")));
    }
    let status = section.words("status");
    let words: Vec<&str> = [status.clone(), section.words("flags")].concat();
    let known = ["READ", "WRITE", "VISIBLE", "FIXED_MINOR", "ACTIVATION_SKIP", "NOTSYNCED", "LV_NOSCAN"];
    let unknown: Vec<&str> = words.iter().copied().filter(|word| !known.contains(word)).collect();
    let mut volume = LogicalVolume {
        name: name.to_string(),
        id: id(section, name)?,
        visible: status.contains(&"VISIBLE"),
        skipped: words.contains(&"ACTIVATION_SKIP"),
        segments: Vec::new(),
        refused: (!unknown.is_empty()).then(|| format!("its state is {}", unknown.join(", "))),
        read_only: (!status.contains(&"WRITE")).then(|| "it is a read-only volume".to_string()),
    };
    for (key, part) in section.sections().filter(|(key, _)| key.starts_with("segment")) {
        let whose = format!("{name}/{key}");
        let (start, count) = (count(part, "start_extent", &whose)?, count(part, "extent_count", &whose)?);
        if start != volume.extents() || count == 0 {
            return Err(bad(format_args!("{whose}: it does not follow the segment before it")));
        }
        volume.segments.push(Segment { start, count, layout: layout(part, &whose)? });
    }
    if section.number("segment_count").is_some_and(|n| n != volume.segments.len() as u64) {
        return Err(bad(format_args!("{name}: segments are missing")));
    }
    if let Some(Layout::Other(kind)) = volume.segments.iter().map(|s| &s.layout).find(|l| matches!(l, Layout::Other(_)))
    {
        volume.refused = Some(format!("it is of the kind {kind}, which is not mapped yet"));
    }
    Ok(volume)
}

fn layout(part: &Section, whose: &str) -> Result<Layout> {
    let pairs = |name: &str| {
        let list = part.list(name);
        list.as_chunks::<2>().0.iter().filter(|_| list.len().is_multiple_of(2)).cloned().collect::<Vec<_>>()
    };
    match part.text("type") {
        Some("striped" | "linear") => {
            let leg = |[name, extent]: [Value; 2]| match (name, extent) {
                (Value::Text(name), Value::Int(extent)) => Some((name, u64::try_from(extent).ok()?)),
                _ => None,
            };
            let legs: Option<Vec<_>> = pairs("stripes").into_iter().map(leg).collect();
            let legs = legs.filter(|legs| !legs.is_empty() && part.number("stripe_count") == Some(legs.len() as u64));
            let legs = legs.ok_or_else(|| bad(format_args!("{whose}: its stripes cannot be read")))?;
            let chunk = if legs.len() == 1 { 0 } else { bytes(part, "stripe_size", whose)? };
            if legs.len() > 1 && (chunk == 0 || chunk > 1 << 30) {
                return Err(bad(format_args!("{whose}: a stripe size of {chunk} bytes")));
            }
            Ok(Layout::Striped { chunk, legs })
        }
        Some("raid1") => {
            let leg = |[state, data]: [Value; 2]| match (state, data) {
                (Value::Text(state), Value::Text(data)) => Some((state, data)),
                _ => None,
            };
            let legs: Option<Vec<_>> = pairs("raids").into_iter().map(leg).collect();
            let legs = legs.filter(|legs| !legs.is_empty() && part.number("device_count") == Some(legs.len() as u64));
            match part.get("data_offset") {
                Some(Node::Value(Value::Int(0))) | None => {}
                _ => return Ok(Layout::Other("raid1 with a data offset".into())),
            }
            Ok(Layout::Raid1 { legs: legs.ok_or_else(|| bad(format_args!("{whose}: its legs cannot be read")))? })
        }
        Some("thin-pool") => {
            let name = |name: &str| part.text(name).map(str::to_string);
            let numbers =
                part.number("chunk_size").and_then(|n| n.checked_mul(SECTOR)).zip(part.number("transaction_id"));
            match (name("metadata"), name("pool"), numbers) {
                (Some(metadata), Some(data), Some((chunk, transaction))) => {
                    let zeroes = part.number("zero_new_blocks") == Some(1);
                    Ok(Layout::ThinPool { metadata, data, chunk, transaction, zeroes })
                }
                _ => Ok(Layout::Other("thin-pool, but without its parts".into())),
            }
        }
        Some("thin") if part.get("external_origin").is_some() => {
            Ok(Layout::Other("thin with an external origin".into()))
        }
        Some("thin") if part.get("merge").is_some() => Ok(Layout::Other("thin that is being merged".into())),
        Some("thin") => match (part.text("thin_pool"), part.number("device_id")) {
            (Some(pool), Some(device)) => {
                let origin = part.text("origin").map(str::to_string);
                Ok(Layout::Thin { pool: pool.to_string(), device, origin })
            }
            _ => Ok(Layout::Other("thin, but without a pool".into())),
        },
        // Words behind a '+' change how the kind is to be read.
        Some(kind) => Ok(Layout::Other(kind.to_string())),
        None => Err(bad(format_args!("{whose}: it is of no kind"))),
    }
}
