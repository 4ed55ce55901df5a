//! Changes: new texts in all metadata areas of a group, labels.
//!
//! A text is changed where the change is and written back with all that we do not know in it.

use super::group::{Group, Layout, LogicalVolume, Member, Segment, is_name};
use super::label::Label;
use super::text::{Node, Section, Value};
use super::{Id, Lvm, area::Area};
use crate::base::{Error, Kind, Result, Timestamp};
use crate::disk::Device;

/// Bytes of an extent in a new group: lvm's default.
const EXTENT: u64 = 4 << 20;
const SECTOR: u64 = 512;
/// What a new physical or logical volume loses of its old content at its start and at its end: every signature
/// that would be taken for a file system or for another kind of volume.
const WIPED: u64 = 1 << 20;
const WIPED_END: u64 = 128 << 10;

/// How much of a group to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// These many bytes, rounded up to extents.
    Bytes(u64),
    /// This percentage of what is free.
    FreePercent(u64),
}

/// When and for what a text is written; it stands in the text.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The command.
    pub command: &'a str,
}

/// Free extents of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Free {
    key: String,
    first: u64,
    count: u64,
}

fn refuse(what: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, what)
}

fn texts(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| Value::text(*word)).collect())
}

fn int(n: u64) -> Result<Value> {
    i64::try_from(n).map(Value::Int).map_err(|_| Kind::FileTooBig.into())
}

fn section(entries: Vec<(&str, Value)>) -> Section {
    Section(entries.into_iter().map(|(name, value)| (name.to_string(), Node::Value(value))).collect())
}

fn check_name(name: &str) -> Result<()> {
    match is_name(name) && !name.contains("_rimage") && !name.contains("_rmeta") && !name.starts_with("snapshot") {
        true => Ok(()),
        false => Err(refuse(format!(
            "'{name}' cannot be a name: letters, digits and + _ . - are allowed, no - at the start"
        ))),
    }
}

/// Makes a device a physical volume; what was on it is gone.
///
/// # Errors
/// `Kind::NoSpace` for one that is too small.
pub fn create_physical(device: &Device, id: Id) -> Result<()> {
    let label = Label::new(id, device.len())?;
    wipe(device)?;
    for place in &label.areas {
        Area::create(device.as_ref(), *place)?;
    }
    label.create(device.as_ref())
}

/// Takes the signatures of older content away.
pub fn wipe(device: &Device) -> Result<()> {
    let len = device.len();
    device.zero(0..len.min(WIPED))?;
    device.zero(len.saturating_sub(WIPED_END)..len)
}

impl Group {
    /// Extents that no volume has, by member in their order.
    ///
    /// # Errors
    /// `Kind::Corrupt` for extents that two volumes have, or that are not there; `Kind::Unsupported` for a volume
    /// whose extents we do not know.
    fn free(&self) -> Result<Vec<Free>> {
        let mut used: Vec<(String, u64, u64)> = Vec::new();
        for volume in &self.volumes {
            for segment in &volume.segments {
                match &segment.layout {
                    Layout::Striped { legs, .. } => {
                        let count = segment.count / legs.len() as u64;
                        used.extend(legs.iter().map(|(key, first)| (key.clone(), *first, count)));
                    }
                    Layout::Raid1 { .. } => {}
                    Layout::ThinPool { .. } | Layout::Thin { .. } | Layout::Other(_) => {
                        return Err(Error::unsupported(format!(
                            "lvm: group '{}' is not changed: it has volumes of the kind {}",
                            self.name,
                            volume.kind()
                        )));
                    }
                }
            }
        }
        used.sort();
        let mut free = Vec::new();
        for member in &self.members {
            let mut next = 0;
            for (_, first, count) in used.iter().filter(|(key, ..)| *key == member.key) {
                let end = first.checked_add(*count).filter(|end| *end <= member.extents);
                let (Some(end), true) = (end, *first >= next) else {
                    return Err(Error::corrupt(format!("lvm: extents of {} are used twice or not there", member.id)));
                };
                free.push(Free { key: member.key.clone(), first: next, count: first - next });
                next = end;
            }
            free.push(Free { key: member.key.clone(), first: next, count: member.extents - next });
        }
        free.retain(|run| run.count > 0);
        Ok(free)
    }

    /// Number of extents, and of free ones where that can be told.
    pub fn extents(&self) -> (u64, u64) {
        let all = self.members.iter().map(|member| member.extents).sum();
        (all, self.members.iter().map(|member| self.free_on(&member.key)).sum())
    }

    /// Number of free extents of a member.
    pub fn free_on(&self, key: &str) -> u64 {
        let taken = |segment: &Segment| match &segment.layout {
            Layout::Striped { legs, .. } => {
                segment.count / legs.len().max(1) as u64 * legs.iter().filter(|(name, _)| name == key).count() as u64
            }
            _ => 0,
        };
        let used: u64 = self.volumes.iter().flat_map(|v| &v.segments).map(taken).fold(0, u64::saturating_add);
        self.member(key).map_or(0, |member| member.extents.saturating_sub(used))
    }

    /// The first extent of a member behind all that volumes have.
    ///
    /// # Errors
    /// As [`Group::free`].
    fn used_on(&self, member: &Member) -> Result<u64> {
        let free = self.free()?;
        let last = free.iter().rfind(|run| run.key == member.key);
        Ok(last.filter(|run| run.first + run.count == member.extents).map_or(member.extents, |run| run.first))
    }

    /// Takes `count` free extents: those right behind `after` if they are free, then one run that is long enough,
    /// else run by run.
    fn take(&self, count: u64, after: Option<(&str, u64)>) -> Result<Vec<Free>> {
        let mut free = self.free()?;
        free.retain(|run| self.member(&run.key).is_some_and(|member| member.allocatable));
        let total: u64 = free.iter().map(|run| run.count).sum();
        if total < count {
            return Err(Error::new(
                Kind::NoSpace,
                format!("volume group '{}' has {total} free extents, {count} are needed", self.name),
            ));
        }
        let mut taken = Vec::new();
        let mut left = count;
        let follows = |run: &&Free| after == Some((run.key.as_str(), run.first));
        if let Some(at) = free.iter().position(|run| follows(&run)) {
            let run = free.remove(at);
            taken.push(Free { count: run.count.min(left), ..run });
            left -= taken[0].count;
        }
        if let Some(at) = free.iter().position(|run| run.count >= left).filter(|_| left > 0) {
            let run = free.swap_remove(at);
            taken.push(Free { count: left, ..run });
            return Ok(taken);
        }
        for run in free {
            let part = run.count.min(left);
            left -= part;
            if part > 0 {
                taken.push(Free { count: part, ..run });
            }
        }
        Ok(taken)
    }
}

/// The section of a group's member.
fn member_section<'a>(group: &'a mut Section, key: &str) -> Result<&'a mut Section> {
    let all = group.section_mut("physical_volumes");
    all.and_then(|all| all.section_mut(key)).ok_or_else(|| Kind::Internal.into())
}

/// The entries of a segment on one place.
fn linear(start: u64, run: &Free) -> Result<Section> {
    Ok(section(vec![
        ("start_extent", int(start)?),
        ("extent_count", int(run.count)?),
        ("type", Value::text("striped")),
        ("stripe_count", Value::Int(1)),
        ("stripes", Value::List(vec![Value::text(run.key.as_str()), int(run.first)?])),
    ]))
}

impl Lvm {
    /// The group, if its text may be changed.
    fn changeable(&self, name: &str) -> Result<&Group> {
        let group = self.group(name)?;
        let damaged = |group: &Group| {
            let mut volumes = group.members.iter().filter_map(|member| self.physical.get(self.member(member)?));
            volumes
                .find(|pv| pv.areas.len() != pv.label.areas.len())
                .map(|pv| format!("{} has a damaged metadata area", pv.name))
        };
        match group.fixed.clone().or_else(|| damaged(group)) {
            Some(why) => Err(Error::unsupported(format!("lvm: group '{name}' is not changed: {why}"))),
            None => Ok(group),
        }
    }

    /// Writes a group's section into all its metadata areas.
    fn commit(&self, members: &[usize], name: &str, mut group: Section, sequence: u64, stamp: Stamp) -> Result<()> {
        group.set("seqno", int(sequence)?);
        let mut text = Section::default();
        text.add(name, group);
        text.set("contents", Value::text("Text Format Volume Group"));
        text.set("version", Value::Int(1));
        text.set("description", Value::text(format!("Write from imgsh {}.", stamp.command)));
        text.set("creation_host", Value::text("imgsh"));
        text.set("creation_time", Value::Int(stamp.now.seconds));
        let text = text.render();
        let text = text.trim_start();
        let mut written = 0;
        for pv in members.iter().filter_map(|pv| self.physical.get(*pv)) {
            for area in pv.areas.iter().filter(|area| !area.is_ignored()) {
                area.clone().write(pv.device.as_ref(), text).map_err(|e| e.at(&pv.name))?;
                written += 1;
            }
        }
        match written {
            0 => Err(Error::unsupported(format!("lvm: group '{name}' has no metadata area in use"))),
            _ => Ok(()),
        }
    }

    /// Changes a group's section.
    fn change(&self, group: &Group, stamp: Stamp, change: impl FnOnce(&mut Section) -> Result<()>) -> Result<()> {
        let mut text = group.text.clone();
        change(&mut text)?;
        self.commit(&self.members(group), &group.name, text, group.sequence + 1, stamp)
    }

    /// The physical volumes of a group.
    pub fn members(&self, group: &Group) -> Vec<usize> {
        group.members.iter().filter_map(|member| self.member(member)).collect()
    }

    /// `pvremove`: takes the label of a device away.
    ///
    /// # Errors
    /// `Kind::Invalid` for a device without a label, or one that belongs to a group.
    pub fn remove_physical(&self, device: &str) -> Result<()> {
        let pv = self.orphan(device)?;
        pv.label.erase(pv.device.as_ref())
    }

    /// `pvchange-uuid`: gives a physical volume another identifier.
    ///
    /// # Errors
    /// `Kind::Invalid` for a device without a label; `Kind::Unsupported` for a group that is not changed.
    pub fn change_physical_id(&self, device: &str, id: Id, stamp: Stamp) -> Result<()> {
        let pv = self.physical_volume(device)?;
        if let Some(group) = pv.group.and_then(|group| self.groups.get(group)) {
            let group = self.changeable(&group.name)?;
            let member = group.members.iter().find(|member| member.id == pv.label.id).ok_or(Kind::Internal)?;
            self.change(group, stamp, |text| {
                member_section(text, &member.key)?.set("id", Value::text(id.to_string()));
                Ok(())
            })?;
        }
        pv.label.set_id(pv.device.as_ref(), id)
    }

    /// `pvresize`: fits a physical volume to `size` bytes, or to its whole device.
    ///
    /// # Errors
    /// `Kind::Invalid` for a device without a label, a size past the device's end, or one that cuts off extents in use;
    /// `Kind::Unsupported` for a metadata area behind the extents, or a group that is not changed.
    pub fn resize_physical(&self, device: &str, size: Option<u64>, stamp: Stamp) -> Result<()> {
        let pv = self.physical_volume(device)?;
        let len = pv.device.len();
        let size = size.unwrap_or(len) / SECTOR * SECTOR;
        if size > len {
            return Err(refuse(format!("it has {len} bytes, {size} are past its end")).at(device));
        }
        let start = pv.label.data.first().map(|data| data.start).unwrap_or_default();
        if pv.label.areas.iter().any(|area| area.start > start) {
            return Err(
                Error::unsupported("lvm: its second metadata area, behind the extents, would have to move").at(device)
            );
        }
        if let Some(group) = pv.group.and_then(|group| self.groups.get(group)) {
            let group = self.changeable(&group.name)?;
            let member = group.members.iter().find(|member| member.id == pv.label.id).ok_or(Kind::Internal)?;
            let extents = size.saturating_sub(member.start).checked_div(group.extent).unwrap_or_default();
            let needed = group.used_on(member)?.max(1);
            if extents < needed {
                let needed = member.start + needed * group.extent;
                return Err(
                    refuse(format!("{size} bytes are too few: its extents in use reach to byte {needed}")).at(device)
                );
            }
            self.change(group, stamp, |text| {
                let section = member_section(text, &member.key)?;
                section.set("dev_size", int(size / SECTOR)?);
                section.set("pe_count", int(extents)?);
                Ok(())
            })?;
        } else if size <= start {
            return Err(refuse(format!("{size} bytes are too few: its extents begin at byte {start}")).at(device));
        }
        pv.label.set_size(pv.device.as_ref(), size)
    }

    /// The physical volume of a device.
    ///
    /// # Errors
    /// `Kind::Invalid` for a device without a label.
    pub fn physical_volume(&self, device: &str) -> Result<&super::PhysicalVolume> {
        self.physical.iter().find(|pv| pv.name == device).ok_or_else(|| {
            refuse("it is no physical volume").at(device).hint("pvs lists the physical volumes, pvcreate makes one")
        })
    }

    fn orphan(&self, device: &str) -> Result<&super::PhysicalVolume> {
        let pv = self.physical_volume(device)?;
        match pv.group.and_then(|group| self.groups.get(group)) {
            Some(group) => Err(refuse(format!("it belongs to volume group '{}'", group.name))
                .at(device)
                .hint(format!("vgremove {} first", group.name))),
            None => Ok(pv),
        }
    }

    /// `vgcreate`: a group of physical volumes that belong to none.
    ///
    /// # Errors
    /// A name that is taken or is none, a device that is no free physical volume.
    pub fn create_group(&self, name: &str, devices: &[String], id: Id, stamp: Stamp) -> Result<()> {
        check_name(name)?;
        if self.groups.iter().any(|group| group.name == name) {
            return Err(Error::new(Kind::Exists, format!("a volume group '{name}' is there already")));
        }
        let mut members = Vec::new();
        let mut texts_of = Section::default();
        for (number, device) in devices.iter().enumerate() {
            let pv = self.orphan(device)?;
            let index = self.physical.iter().position(|other| std::ptr::eq(other, pv)).ok_or(Kind::Internal)?;
            if members.contains(&index) {
                return Err(refuse("it is given twice").at(device));
            }
            let start = pv.label.data.first().map_or(WIPED, |place| place.start);
            let extents = pv.device.len().saturating_sub(start) / EXTENT;
            if extents == 0 {
                return Err(Error::new(Kind::NoSpace, "it is too small for an extent of 4 MiB").at(device));
            }
            members.push(index);
            texts_of.add(
                &format!("pv{number}"),
                section(vec![
                    ("id", Value::text(pv.label.id.to_string())),
                    ("device", Value::text(device.as_str())),
                    ("status", texts(&["ALLOCATABLE"])),
                    ("flags", texts(&[])),
                    ("dev_size", int(pv.device.len() / SECTOR)?),
                    ("pe_start", int(start / SECTOR)?),
                    ("pe_count", int(extents)?),
                ]),
            );
        }
        if members.is_empty() {
            return Err(Error::usage("a volume group needs a physical volume"));
        }
        let mut group = section(vec![
            ("id", Value::text(id.to_string())),
            ("seqno", Value::Int(1)),
            ("format", Value::text("lvm2")),
            ("status", texts(&["RESIZEABLE", "READ", "WRITE"])),
            ("flags", texts(&[])),
            ("extent_size", int(EXTENT / SECTOR)?),
            ("max_lv", Value::Int(0)),
            ("max_pv", Value::Int(0)),
            ("metadata_copies", Value::Int(0)),
        ]);
        group.add("physical_volumes", texts_of);
        self.commit(&members, name, group, 1, stamp)?;
        self.set_used(&members, true)
    }

    fn set_used(&self, members: &[usize], used: bool) -> Result<()> {
        for pv in members.iter().filter_map(|pv| self.physical.get(*pv)) {
            pv.label.set_used(pv.device.as_ref(), used)?;
        }
        Ok(())
    }

    /// `vgremove`: the group goes with all its volumes; its physical volumes stay.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::Unsupported` for a group that is not changed.
    pub fn remove_group(&self, name: &str) -> Result<()> {
        let members = self.members(self.changeable(name)?);
        for pv in members.iter().filter_map(|pv| self.physical.get(*pv)) {
            for area in &pv.areas {
                area.clone().clear(pv.device.as_ref())?;
            }
        }
        self.set_used(&members, false)
    }

    /// `vgrename`.
    ///
    /// # Errors
    /// A name that is taken or is none, a group that is not there or not changed.
    pub fn rename_group(&self, name: &str, to: &str, stamp: Stamp) -> Result<()> {
        check_name(to)?;
        if self.groups.iter().any(|group| group.name == to) {
            return Err(Error::new(Kind::Exists, format!("a volume group '{to}' is there already")));
        }
        let group = self.changeable(name)?;
        self.commit(&self.members(group), to, group.text.clone(), group.sequence + 1, stamp)
    }

    /// `vgchange-uuid`: gives a group another identifier.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::Unsupported` for a group that is not changed.
    pub fn change_group_id(&self, name: &str, id: Id, stamp: Stamp) -> Result<()> {
        self.change(self.changeable(name)?, stamp, |text| {
            text.set("id", Value::text(id.to_string()));
            Ok(())
        })
    }

    /// `lvcreate`, `lvcreate-free`: a volume on one place after the other.
    ///
    /// # Errors
    /// A name that is taken or is none, `Kind::NoSpace`, a group that is not there or not changed.
    pub fn create_volume(&self, group: &str, name: &str, size: Allocation, id: Id, stamp: Stamp) -> Result<()> {
        check_name(name)?;
        let group = self.changeable(group)?;
        if group.volume(name).is_some() {
            let words = format!("a logical volume '{name}' is in volume group '{}' already", group.name);
            return Err(Error::new(Kind::Exists, words));
        }
        let count = match size {
            Allocation::Bytes(bytes) => bytes.div_ceil(group.extent),
            Allocation::FreePercent(percent) => group.extents().1 * percent.min(100) / 100,
        };
        if count == 0 {
            return Err(refuse("a logical volume needs an extent at least"));
        }
        let mut volume = section(vec![
            ("id", Value::text(id.to_string())),
            ("status", texts(&["READ", "WRITE", "VISIBLE"])),
            ("flags", texts(&[])),
            ("creation_time", Value::Int(stamp.now.seconds)),
            ("creation_host", Value::text("imgsh")),
        ]);
        set_segments(&mut volume, &group.take(count, None)?, 0, 0)?;
        self.change(group, stamp, |text| {
            if text.section("logical_volumes").is_none() {
                text.add("logical_volumes", Section::default());
            }
            text.section_mut("logical_volumes").ok_or(Kind::Internal)?.add(name, volume);
            Ok(())
        })
    }

    /// Group and volume for a change: a volume that nothing else is made of.
    fn plain(&self, group: &str, name: &str) -> Result<(&Group, &LogicalVolume)> {
        let group = self.changeable(group)?;
        let Some(volume) = group.volume(name).filter(|volume| volume.visible) else {
            return Err(Error::from(Kind::NotFound).at(format!("/dev/{}/{name}", group.name)));
        };
        group.free()?;
        if let Some(other) = group.volumes.iter().find(|volume| volume.refused.is_some()) {
            let why = other.refused.as_deref().unwrap_or_default();
            return Err(Error::unsupported(format!(
                "lvm: group '{}' is not changed: {}: {why}",
                group.name, other.name
            )));
        }
        match volume.segments.iter().all(|s| matches!(s.layout, Layout::Striped { .. })) {
            true => Ok((group, volume)),
            false => Err(Error::unsupported(format!("lvm: a {} volume is not changed", volume.kind()))),
        }
    }

    /// `lvremove` of a volume.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::Unsupported` for a volume with hidden parts or a group that is not changed.
    pub fn remove_volume(&self, group: &str, name: &str, stamp: Stamp) -> Result<()> {
        let (group, _) = self.plain(group, name)?;
        self.change(group, stamp, |text| {
            let volumes = text.section_mut("logical_volumes").ok_or(Kind::Internal)?;
            volumes.remove(name);
            if volumes.0.is_empty() {
                text.remove("logical_volumes");
            }
            Ok(())
        })
    }

    /// `lvrename`.
    ///
    /// # Errors
    /// A name that is taken or is none, else as [`Lvm::remove_volume`].
    pub fn rename_volume(&self, group: &str, name: &str, to: &str, stamp: Stamp) -> Result<()> {
        check_name(to)?;
        let (group, _) = self.plain(group, name)?;
        if group.volume(to).is_some() {
            let words = format!("a logical volume '{to}' is in volume group '{}' already", group.name);
            return Err(Error::new(Kind::Exists, words));
        }
        self.change(group, stamp, |text| {
            let volumes = text.section_mut("logical_volumes").ok_or(Kind::Internal)?;
            let entry = volumes.0.iter_mut().find(|(n, _)| n == name).ok_or(Kind::Internal)?;
            entry.0 = to.to_string();
            Ok(())
        })
    }

    /// `lvresize`: to a size in bytes, or (percent of what is free) by so much more. Content stays where it is; of
    /// a smaller volume the end is given up.
    ///
    /// # Errors
    /// `Kind::NoSpace`; `Kind::Unsupported` for a striped volume; else as [`Lvm::remove_volume`].
    pub fn resize_volume(&self, group: &str, name: &str, size: Allocation, stamp: Stamp) -> Result<()> {
        let (group, volume) = self.plain(group, name)?;
        let now = volume.extents();
        let wanted = match size {
            Allocation::Bytes(bytes) => bytes.div_ceil(group.extent),
            Allocation::FreePercent(percent) => now + (group.extents().1 * percent.min(100)).div_ceil(100),
        };
        if wanted == 0 {
            return Err(refuse("a logical volume needs an extent at least"));
        }
        let last = volume.segments.last().ok_or(Kind::Internal)?;
        let Layout::Striped { legs, .. } = &last.layout else { return Err(Kind::Internal.into()) };
        let [(key, first)] = legs.as_slice() else {
            return Err(Error::unsupported("lvm: a striped volume is not resized"));
        };
        let mut kept = volume.segments.len();
        let mut runs = Vec::new();
        if wanted > now {
            runs = group.take(wanted - now, Some((key, first + last.count)))?;
        }
        self.change(group, stamp, |text| {
            let volumes = text.section_mut("logical_volumes").ok_or(Kind::Internal)?;
            let volume_text = volumes.section_mut(name).ok_or(Kind::Internal)?;
            while let Some(segment) = kept.checked_sub(1).and_then(|last| volume.segments.get(last)) {
                if segment.start < wanted {
                    break;
                }
                volume_text.remove(&format!("segment{kept}"));
                kept -= 1;
            }
            let end = volume.segments.get(kept.wrapping_sub(1)).ok_or(Kind::Internal)?;
            let mut count = end.count.min(wanted - end.start);
            // What follows the last segment on the disk makes it longer.
            if runs.first().is_some_and(|run| run.key == *key && run.first == first + last.count) {
                count += runs.remove(0).count;
            }
            let segment = volume_text.section_mut(&format!("segment{kept}")).ok_or_else(|| {
                Error::unsupported(format!("lvm: the segments of '{name}' are not numbered from 1 on"))
            })?;
            if count != end.count {
                if matches!(&end.layout, Layout::Striped { legs, .. } if legs.len() > 1) {
                    return Err(Error::unsupported("lvm: a striped volume is not resized"));
                }
                segment.set("extent_count", int(count)?);
            }
            set_segments(volume_text, &runs, kept as u64, end.start + count)
        })
    }
}

/// Adds segments behind the first `number`, which end at the extent `start`.
fn set_segments(volume: &mut Section, runs: &[Free], mut number: u64, mut start: u64) -> Result<()> {
    volume.set("segment_count", int(number + runs.len() as u64)?);
    for run in runs {
        number += 1;
        volume.add(&format!("segment{number}"), linear(start, run)?);
        start += run.count;
    }
    Ok(())
}
