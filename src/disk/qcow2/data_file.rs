//! Writing an image whose guest data is in a file of its own, where a guest byte's place is its own offset.
//!
//! A commit has two steps, each at once or not at all. First the clusters that are to be written get a place, filled with what
//! the guest reads there now: the shadow commit of the image, which changes no guest byte, and which notes in the dirty bitmaps
//! what is going to change. Then the data file changes as a raw image does, by its redo journal. A cut in between leaves
//! bitmaps that say too much, which costs a backup some time and nothing else.

use std::ops::Range;

use super::State;
use super::bitmaps;
use super::chain;
use super::commit::{Roots, finish, settle, tables};
use super::header::shown;
use super::map::{Fresh, Image, Source};
use super::staging::Cleared;
use crate::base::{Error, Kind, Result};
use crate::disk::raw::Raw;
use crate::disk::target::real_folder;
use crate::disk::{Change, Changes, Disk};

/// The data file of an image that has one.
fn data(image: &Image) -> Result<&Raw> {
    image.data.as_ref().ok_or_else(|| Error::new(Kind::Internal, "qcow2: no data file"))
}

/// Refuses to write to a data file that does not lie beside the image or in a folder below: an image from a stranger can
/// name any file of its reader's. A link beside the image is one that somebody here has made.
pub(super) fn refuse_write(image: &Image) -> Result<()> {
    let Some(name) = image.header.data_file.as_ref().filter(|_| image.data.is_some()) else { return Ok(()) };
    let place = chain::resolve(&image.path, name, "data file")?;
    if real_folder(&place)?.starts_with(real_folder(&image.path)?) {
        return Ok(());
    }
    Err(Error::new(Kind::ReadOnly, format!("qcow2: its data file {} lies outside its folder: read-only", shown(name)))
        .at(image.path.display())
        .hint("if that is right, put a link to it beside the image: ln -s, then qemu-img amend -o data_file=LINK"))
}

/// Gives places to the grains of `bytes` from `offset` that have none yet. `zeros`: only in clusters where something else than
/// zeros is read.
fn place(image: &Image, fresh: &mut Fresh, offset: u64, bytes: u64, zeros: bool) -> Result<()> {
    let (bits, grain) = (image.header.cluster_bits, image.grain());
    let file = data(image)?;
    let grains = offset / grain * grain..(offset + bytes).next_multiple_of(grain).min(image.header.size);
    for cluster in offset >> bits..(offset + bytes).div_ceil(1 << bits) {
        if fresh.get(&cluster).is_some_and(|entry| image.is_full(*entry)) {
            continue;
        }
        let start = cluster << bits;
        let range = start.max(grains.start)..(start + image.header.cluster_size()).min(grains.end);
        let mut missing = Vec::new();
        let mut reads_zero = true;
        image.pieces(fresh, range.clone(), |part, source| {
            reads_zero &= source == Source::Zero;
            if !matches!(source, Source::Data(_)) {
                missing.push(part);
            }
            Ok(())
        })?;
        if missing.is_empty() || (zeros && reads_zero) {
            continue;
        }
        for part in missing {
            let mut old = vec![0; (part.end - part.start) as usize];
            image.read(fresh, part.start, &mut old)?;
            file.write_fresh(part.start, &old)?;
        }
        let old = match fresh.get(&cluster) {
            Some(entry) => *entry,
            None => image.committed(cluster)?,
        };
        fresh.insert(cluster, image.with_data(old, start, range.start - start..range.end - start));
    }
    Ok(())
}

/// Writes bytes that the committed state does not use.
pub(super) fn write_fresh(image: &Image, fresh: &mut Fresh, offset: u64, bytes: &[u8]) -> Result<()> {
    place(image, fresh, offset, bytes.len() as u64, false)?;
    data(image)?.write_fresh(offset, bytes)
}

struct Nothing;

impl Changes for Nothing {
    fn visit(&self, _each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Commits changes; `state.writer` is open.
pub(super) fn commit(state: &mut State, changes: &dyn Changes) -> Result<()> {
    let State { fresh, writer: Some(writer), .. } = &*state else { return Ok(()) };
    let mark = writer.mark(fresh);
    let mut changed: Vec<Range<u64>> = Vec::new();
    let placed = {
        let State { image, fresh, .. } = &mut *state;
        let (size, noted) = (image.header.size, bitmaps::has_active(image)?);
        changes
            .visit(&mut |offset, change| {
                let (len, zeros) = match change {
                    Change::Data(data) => (data.len() as u64, false),
                    Change::Zero(len) => (len, true),
                };
                match offset.checked_add(len) {
                    Some(end) if end <= size => {
                        match changed.last_mut() {
                            Some(last) if last.end == offset => last.end = end,
                            _ if noted => changed.push(offset..end),
                            _ => {}
                        }
                        place(image, fresh, offset, len, zeros)
                    }
                    _ => Err(Error::new(
                        Kind::Io,
                        format!("a change of {len} bytes at {offset} is outside the disk of {size} bytes"),
                    )),
                }
            })
            // The places are in the file before any table says so.
            .and_then(|()| data(image)?.commit(&Nothing))
    };
    let prepared = placed.and_then(|()| {
        let State { image, fresh, writer: Some(writer), .. } = &mut *state else { return Ok(None) };
        if fresh.is_empty() && changed.is_empty() {
            return Ok(None);
        }
        let mut new = Roots::of(image, writer);
        tables(state, &Cleared::new(), &mut new, false)?;
        // A place changes no guest byte; what changes is noted before it does.
        new.changed = changed;
        settle(state, new, false).map(Some)
    });
    finish(state, mark, prepared)?;
    data(&state.image)?.commit(changes)
}
