//! Making the disk in an image longer or shorter.

use std::path::Path;
use std::sync::PoisonError;

use super::commit::{Roots, finish, settle, tables};
use super::header::L1_LIMIT;
use super::map::{Entry, Source};
use super::snapshot::{open, writing};
use super::staging::{Cleared, Stager};
use super::write::Mark;
use super::{Qcow2, State};
use crate::base::{Error, Kind, Result};
use crate::disk::{Change, Disk};

/// Makes the disk `size` bytes long (a multiple of 512), in one commit. New bytes are zeros. A shorter disk loses what is
/// behind its new end: only with `shrink`. `unlock`: see [`crate::disk::resize`].
///
/// # Errors
/// A disk that would be shorter without `shrink` or in spite of snapshots, a size that the clusters do not allow, an
/// image in use or damaged; what `unlock` says.
pub fn resize(path: &Path, size: u64, shrink: bool, unlock: &dyn Fn(&dyn Disk) -> Result<()>) -> Result<()> {
    let state = open(path)?;
    match resized(state, size, shrink) {
        Err(error) if error.kind() == Kind::Denied => {
            let disk = Qcow2::open(path, false)?;
            if disk.locked().is_none() {
                return Err(error);
            }
            unlock(&disk)?;
            resized(writing(disk.state.into_inner().unwrap_or_else(PoisonError::into_inner))?, size, shrink)
        }
        done => done,
    }
}

fn resized(mut state: State, size: u64, shrink: bool) -> Result<()> {
    let prepared = match size.cmp(&state.image.header.size) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Greater => grow(&mut state, size),
        std::cmp::Ordering::Less if shrink => cut(&mut state, size),
        std::cmp::Ordering::Less => Err(Error::usage(format!(
            "the disk has {} bytes; {size} would cut off what is behind them",
            state.image.header.size
        ))
        .at(state.image.path.display())
        .hint("make file systems and partitions shorter first, then give shrink:true")),
    };
    finish(&mut state, Mark::default(), prepared.map(Some))
}

fn internal() -> Error {
    Error::new(Kind::Internal, "qcow2: not open for writing")
}

fn grow(state: &mut State, size: u64) -> Result<super::commit::Prepared> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Err(internal()) };
    let (old, cluster) = (image.header.size, image.header.cluster_size());
    let entries = size.div_ceil(cluster * image.header.l2_entries());
    if entries * 8 > L1_LIMIT || i64::try_from(size).is_err() {
        return Err(Error::new(Kind::FileTooBig, format!("{size} bytes are too many for clusters of {cluster} bytes"))
            .at(image.path.display()));
    }
    if image.header.version < 3 && image.header.snapshots > 0 {
        return Err(Error::unsupported("qcow2: version 2 snapshots do not know the size of the disk")
            .at(image.path.display())
            .hint("delete the snapshots first: disk-snapshot-delete"));
    }
    image.header.size = size;
    image.l1.resize(image.l1.len().max(entries as usize), 0);
    // Where a backing file is longer than the disk was, its bytes must not come to light; nor those that another
    // program left behind the end of the last cluster.
    let below = image.backing.as_ref().map_or(0, |node| node.len());
    let zeros = old..size.min(below.max(old.next_multiple_of(cluster)));
    let mut stager = Stager::new(writer, fresh, image);
    if !zeros.is_empty() {
        stager.change(zeros.start, Change::Zero(zeros.end - zeros.start))?;
    }
    stager.finish()?;
    let cleared = stager.cleared;
    let mut new = Roots::of(image, writer);
    tables(state, &cleared, &mut new, false)?;
    settle(state, new, false)
}

fn cut(state: &mut State, size: u64) -> Result<super::commit::Prepared> {
    let State { image, fresh, writer: Some(writer), .. } = state else { return Err(internal()) };
    if image.header.snapshots > 0 {
        return Err(Error::unsupported("qcow2: the disk of an image with internal snapshots cannot be shortened")
            .at(image.path.display())
            .hint("delete the snapshots first: disk-snapshot-delete"));
    }
    let (old, cluster) = (image.header.size, image.header.cluster_size());
    let per_table = image.header.l2_entries();
    let mut cleared = Cleared::new();
    let first = size.div_ceil(cluster);
    for index in first / per_table..image.l1.len() as u64 {
        let Some(table) = image.table(index)? else { continue };
        for slot in 0..per_table {
            let number = index * per_table + slot;
            if number >= first && image.entry(&table, slot as usize) != Entry::default() {
                cleared.insert(number, Entry::default());
            }
        }
    }
    // The rest of the last cluster, so that growing again brings zeros.
    let rest = size..old.min(size.next_multiple_of(cluster));
    let mut dirty = false;
    image.pieces(fresh, rest.clone(), |_, source| {
        dirty |= source != Source::Zero;
        Ok(())
    })?;
    if dirty {
        let mut stager = Stager::new(writer, fresh, image);
        stager.change(rest.start, Change::Zero(rest.end - rest.start))?;
        stager.finish()?;
        cleared.append(&mut stager.cleared);
    }
    let mut new = Roots::of(image, writer);
    new.header.size = size;
    tables(state, &cleared, &mut new, false)?;
    settle(state, new, false)
}
