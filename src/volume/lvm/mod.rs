//! LVM2: physical volumes, volume groups and logical volumes on the devices of a session.
//!
//! `docs/formats/lvm.md` has the tables of bytes, the sources and the decisions.

mod area;
mod edit;
mod group;
mod id;
mod label;
mod map;
mod raid;
mod text;
pub mod thin;

use std::ops::Range;
use std::sync::Arc;

use crate::base::{Error, Kind, Result};
use crate::disk::Device;

pub use edit::{Allocation, Stamp, create_physical, wipe};
pub use group::{Group, Layout, LogicalVolume, Member, Segment, is_name};
pub use id::Id;
pub use label::Label;
pub use text::Section;

use area::Area;
use map::{Mapped, Run, Target};
use thin::{Metadata, Thin};

/// Hidden volumes inside hidden volumes.
const MAX_DEPTH: usize = 4;
/// Runs of one volume, over all levels.
const MAX_RUNS: usize = 1 << 16;

/// A device with a label.
pub struct PhysicalVolume {
    /// The device's name, as the caller has it.
    pub name: String,
    /// The device.
    pub device: Device,
    /// Its label.
    pub label: Label,
    /// Metadata areas that are whole.
    areas: Vec<Area>,
    /// The group that it belongs to, as an index.
    pub group: Option<usize>,
}

impl PhysicalVolume {
    /// Metadata areas in use, and the bytes that are free in the fullest one.
    pub fn areas(&self) -> (usize, u64) {
        (self.areas.len(), self.areas.iter().map(Area::free).min().unwrap_or(0))
    }
}

/// Everything that was found.
#[derive(Default)]
pub struct Lvm {
    /// Devices with labels, in the order in which they were given.
    pub physical: Vec<PhysicalVolume>,
    /// Groups by name.
    pub groups: Vec<Group>,
    /// Labels and areas that could not be read.
    pub notices: Vec<String>,
}

/// A logical volume that can be opened.
pub struct Opened {
    /// Its bytes.
    pub device: Device,
    /// Where they are: physical volume (index) and bytes of its device.
    pub places: Vec<(usize, Range<u64>)>,
}

/// Looks for labels on devices, and puts groups together from all metadata areas: of each group the text with the
/// highest sequence number counts. A damaged label or area is told in [`Lvm::notices`], and the others count.
///
/// # Errors
/// What a device says when it is read.
pub fn scan(devices: impl IntoIterator<Item = (String, Device)>) -> Result<Lvm> {
    let mut found = Lvm::default();
    let mut groups: Vec<Group> = Vec::new();
    for (name, device) in devices {
        let label = match Label::read(device.as_ref()) {
            Ok(Some(label)) => label,
            Ok(None) => continue,
            Err(error) if error.kind() == Kind::Corrupt => {
                found.notices.push(error.at(&name).to_string());
                continue;
            }
            Err(error) => return Err(error.at(name)),
        };
        let mut areas = Vec::new();
        for place in &label.areas {
            match Area::read(device.as_ref(), *place).and_then(|area| Ok((read_group(&area, &device)?, area))) {
                Ok((group, area)) => {
                    groups.extend(group);
                    areas.push(area);
                }
                Err(error) => found.notices.push(error.at(&name).to_string()),
            }
        }
        found.physical.push(PhysicalVolume { name, device, label, areas, group: None });
    }
    groups.sort_by(|a, b| (a.id, b.sequence).cmp(&(b.id, a.sequence)));
    groups.dedup_by(|later, first| later.id == first.id);
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    found.groups = groups;
    found.settle();
    Ok(found)
}

fn read_group(area: &Area, device: &Device) -> Result<Option<Group>> {
    area.text(device.as_ref())?.map(|text| Group::parse(&text::parse(&text)?)).transpose()
}

impl Lvm {
    /// Finds out which physical volume belongs to which group, and what that forbids.
    fn settle(&mut self) {
        let ids: Vec<Id> = self.physical.iter().map(|pv| pv.label.id).collect();
        let names: Vec<String> = self.groups.iter().map(|group| group.name.clone()).collect();
        let mut owners = vec![Vec::new(); ids.len()];
        for (index, group) in self.groups.iter_mut().enumerate() {
            if names.iter().filter(|name| **name == group.name).count() > 1 {
                group.refused = Some("there is another group with its name".into());
            }
            for member in &group.members {
                for (pv, _) in ids.iter().enumerate().filter(|(_, id)| **id == member.id) {
                    owners[pv].push(index);
                }
                if ids.iter().filter(|id| **id == member.id).count() > 1 {
                    group.refused = Some(format!("the physical volume {} is there twice", member.id));
                }
                if member.missing || !ids.contains(&member.id) {
                    group.fixed = Some(format!("the physical volume {} is missing", member.id));
                }
            }
        }
        for (pv, owners) in owners.into_iter().enumerate() {
            if owners.len() > 1 {
                for group in &owners {
                    self.groups[*group].refused =
                        Some(format!("the physical volume {} is in two groups", self.physical[pv].label.id));
                }
            }
            self.physical[pv].group = owners.first().copied();
        }
        for group in &mut self.groups {
            if let Some(why) = &group.refused {
                group.fixed = Some(why.clone());
            }
        }
    }

    /// A group by its name, with `/dev/` in front or not.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn group(&self, name: &str) -> Result<&Group> {
        let bare = name.strip_prefix("/dev/").unwrap_or(name);
        self.groups.iter().find(|group| group.name == bare).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("volume group '{name}' was not found")).hint("vgs lists the groups")
        })
    }

    /// A visible logical volume by group and name.
    pub fn volume(&self, group: &str, name: &str) -> Option<(&Group, &LogicalVolume)> {
        let groups = self.groups.iter().filter(|g| g.name == group);
        groups.filter_map(|g| Some((g, g.volume(name).filter(|v| v.visible)?))).next()
    }

    /// All visible logical volumes, by group and name.
    pub fn volumes(&self) -> impl Iterator<Item = (&Group, &LogicalVolume)> {
        self.groups.iter().flat_map(|group| {
            let mut volumes: Vec<_> = group.volumes.iter().filter(|volume| volume.visible).collect();
            volumes.sort_by(|a, b| a.name.cmp(&b.name));
            volumes.into_iter().map(move |volume| (group, volume))
        })
    }

    /// The logical volumes that lvm would activate by itself, without those that are there for others.
    pub fn listed(&self) -> impl Iterator<Item = (&Group, &LogicalVolume)> {
        self.volumes().filter(|(_, volume)| !volume.skipped && !volume.is_private())
    }

    /// The physical volume that a member of a group is, unless it is missing.
    pub fn member(&self, member: &Member) -> Option<usize> {
        self.physical.iter().position(|pv| pv.label.id == member.id)
    }

    /// Opens a logical volume.
    ///
    /// # Errors
    /// `Kind::Unsupported` with the reason for a volume that is not mapped; `Kind::Corrupt` for extents that are
    /// not there.
    pub fn open(&self, group: &Group, volume: &LogicalVolume) -> Result<Opened> {
        if let Some(why) = group.refused.as_ref().or(volume.refused.as_ref()) {
            return Err(Error::unsupported(format!("lvm: this volume cannot be opened: {why}")));
        }
        let mut mapping =
            Mapping { lvm: self, group, places: Vec::new(), read_only: volume.read_only.clone(), runs: 0 };
        let runs = mapping.runs(volume, 0)?;
        let device = Arc::new(Mapped::new(runs, mapping.read_only));
        Ok(Opened { device, places: mapping.places })
    }
}

/// Puts together what a volume is mapped to.
struct Mapping<'a> {
    lvm: &'a Lvm,
    group: &'a Group,
    places: Vec<(usize, Range<u64>)>,
    read_only: Option<String>,
    runs: usize,
}

impl Mapping<'_> {
    fn bad(&self, volume: &LogicalVolume, what: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("lvm: {}/{}: {what}", self.group.name, volume.name))
    }

    /// A number of extents in bytes.
    fn bytes(&self, extents: u64) -> Result<u64> {
        extents.checked_mul(self.group.extent).filter(|bytes| *bytes < 1 << 62).ok_or_else(|| Kind::FileTooBig.into())
    }

    fn runs(&mut self, volume: &LogicalVolume, depth: usize) -> Result<Vec<Run>> {
        self.runs += volume.segments.len();
        if depth > MAX_DEPTH || self.runs > MAX_RUNS {
            return Err(Error::unsupported(format!(
                "lvm: {}/{}: more than {MAX_DEPTH} levels or {MAX_RUNS} segments",
                self.group.name, volume.name
            )));
        }
        if let Some(why) = &volume.refused {
            return Err(Error::unsupported(format!("lvm: its part {} cannot be opened: {why}", volume.name)));
        }
        let mut runs = Vec::new();
        for segment in &volume.segments {
            let target = match &segment.layout {
                Layout::Striped { chunk, legs } => {
                    let places = legs.len() as u64;
                    self.runs += legs.len();
                    if !segment.count.is_multiple_of(places) {
                        return Err(self.bad(volume, "its extents cannot be shared among its stripes"));
                    }
                    let mut found = Vec::new();
                    for (name, extent) in legs {
                        found.push(self.leg(volume, name, *extent, segment.count / places, depth)?);
                    }
                    match (found.len(), found.pop()) {
                        (1, Some((device, at))) => Target::Linear(device, at),
                        (_, last) => {
                            found.extend(last);
                            Target::Striped { chunk: *chunk, legs: found }
                        }
                    }
                }
                Layout::Raid1 { legs } => self.raid1(volume, segment, legs, depth)?,
                Layout::Thin { pool, device, .. } => self.thin(volume, segment, pool, *device, depth)?,
                Layout::ThinPool { .. } => {
                    return Err(Error::unsupported(format!(
                        "lvm: {}/{} is a thin pool, which has no bytes of its own",
                        self.group.name, volume.name
                    ))
                    .hint("lvs lists the volumes in it"));
                }
                Layout::Other(kind) => return Err(self.bad(volume, format_args!("a part of the kind {kind}"))),
            };
            runs.push(Run { range: self.bytes(segment.start)?..self.bytes(segment.start + segment.count)?, target });
        }
        Ok(runs)
    }

    /// Extents on a physical volume or a hidden volume: the device and the first byte.
    fn leg(&mut self, of: &LogicalVolume, name: &str, first: u64, count: u64, depth: usize) -> Result<(Device, u64)> {
        let group = self.group;
        let end = first.checked_add(count);
        if let Some(member) = group.member(name) {
            let Some(pv) = self.lvm.member(member) else {
                return Err(Error::unsupported(format!(
                    "lvm: this volume cannot be opened: the physical volume {} is missing",
                    member.id
                ))
                .hint("add the disk that holds it, too"));
            };
            let Some(end) = end.filter(|end| *end <= member.extents) else {
                return Err(self.bad(of, format_args!("it uses extents behind the {} of {name}", member.extents)));
            };
            let device = self.lvm.physical.get(pv).map(|pv| pv.device.clone()).ok_or(Kind::Internal)?;
            let range = member.start + self.bytes(first)?..member.start + self.bytes(end)?;
            if range.end > device.len() {
                return Err(self.bad(of, format_args!("it uses bytes behind the end of {}", member.id)));
            }
            let start = range.start;
            self.places.push((pv, range));
            return Ok((device, start));
        }
        let Some(hidden) = group.volume(name).filter(|hidden| !hidden.visible) else {
            return Err(self.bad(of, format_args!("'{name}' is neither a physical nor a hidden volume")));
        };
        if end.is_none_or(|end| end > hidden.extents()) {
            return Err(self.bad(of, format_args!("it uses extents behind the end of {name}")));
        }
        let device = Arc::new(Mapped::new(self.runs(hidden, depth + 1)?, None));
        Ok((device, self.bytes(first)?))
    }

    /// A mirror: the legs that are in step, the one to be read first.
    fn raid1(
        &mut self,
        of: &LogicalVolume,
        segment: &Segment,
        legs: &[(String, String)],
        depth: usize,
    ) -> Result<Target> {
        let mut devices = Vec::new();
        let mut states = Vec::new();
        for (state, data) in legs {
            let (device, _) = self.leg(of, state, 0, 1, depth)?;
            states.push(raid::State::read(device.as_ref())?);
            let (device, at) = self.leg(of, data, 0, segment.count, depth)?;
            debug_assert_eq!(at, 0, "hidden volumes are whole devices");
            devices.push(device);
        }
        let (fresh, why) = raid::in_step(&states)?;
        if let Some(why) = why {
            self.read_only.get_or_insert(why);
        }
        let devices = fresh.into_iter().filter_map(|leg| devices.get(leg).cloned()).collect();
        Ok(Target::Mirrored(devices, 0))
    }

    /// A thin volume, over the hidden volumes of its pool.
    fn thin(&mut self, of: &LogicalVolume, segment: &Segment, name: &str, id: u64, depth: usize) -> Result<Target> {
        let group = self.group;
        let pool = group.volume(name);
        let Some((pool, [Segment { layout: Layout::ThinPool { metadata, data, chunk, transaction, .. }, .. }])) =
            pool.map(|pool| (pool, pool.segments.as_slice()))
        else {
            return Err(self.bad(of, format_args!("'{name}' is no thin pool")));
        };
        if let Some(why) = &pool.refused {
            return Err(Error::unsupported(format!("lvm: its pool {name} cannot be opened: {why}")));
        }
        if of.segments.len() != 1 {
            return Err(self.bad(of, "a thin volume with several segments"));
        }
        let mut whole = |part: &str| {
            let extents = group.volume(part).map_or(0, LogicalVolume::extents);
            self.leg(pool, part, 0, extents, depth).map(|(device, _)| device)
        };
        let (metadata, data) = (Metadata::open(whole(metadata)?)?, whole(data)?);
        if metadata.chunk != *chunk {
            let found = metadata.chunk;
            return Err(self.bad(pool, format_args!("chunks of {chunk} bytes, but its metadata has {found}")));
        }
        let unsettled = match metadata.transaction == *transaction {
            true => metadata.unsettled.clone(),
            false => Some(format!(
                "its pool is at transaction {}, its group at {transaction}: a change of the pool is not finished",
                metadata.transaction
            )),
        };
        if let Some(why) = unsettled.or_else(|| pool.read_only.clone().map(|why| format!("of its pool {name}, {why}")))
        {
            self.read_only.get_or_insert(why);
        }
        Ok(Target::Linear(Arc::new(Thin::new(metadata, id, data, self.bytes(segment.count)?)?), 0))
    }
}
