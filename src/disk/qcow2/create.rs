//! Making an empty image, and what the options of a new one mean.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};

use super::build::{Builder, Shape};
use super::chain::{Node, open_backing, resolve};
use super::compress::Codec;
use super::header::NAME_LIMIT;
use super::storage::FileId;
use crate::base::{Error, Kind, Result};
use crate::disk::convert::Output;
use crate::disk::{CreateOptions, target};

const DEFAULT_CLUSTER: u64 = 64 << 10;
/// With subclusters of 4 KiB, as QEMU makes them.
const DEFAULT_CLUSTER_EXTENDED: u64 = 128 << 10;

/// How much of the disk has a place from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preallocation {
    Off,
    /// Tables.
    Metadata,
    /// And space on the host.
    Falloc,
    /// And zeros written to it.
    Full,
}

/// Makes an empty image, replacing what is there: version 3 with 64 KiB clusters and 16-bit refcounts, or
/// what the options say. Without a size it takes the backing file's.
///
/// # Errors
/// Options that are unknown or do not fit each other, a backing file that is missing or is the image itself,
/// an image in use.
pub fn create(path: &Path, options: &CreateOptions) -> Result<()> {
    let preallocation = preallocation(options)?;
    let shape = shape(path, options)?;
    target::in_place(path, |file| {
        let output = Output::new(file, path);
        let mut image = Builder::new(&shape, &output);
        if preallocation != Preallocation::Off {
            for cluster in 0..shape.size.div_ceil(shape.cluster()) {
                image.reserve(cluster)?;
            }
        }
        let end = image.finish()?;
        file.set_len(end).map_err(|e| Error::io(path.display(), e))?;
        match preallocation {
            Preallocation::Off | Preallocation::Metadata => Ok(()),
            Preallocation::Falloc | Preallocation::Full => fill(file, path, end, preallocation == Preallocation::Full),
        }
    })?;
    let Some((name, _)) = &shape.data_file else { return Ok(()) };
    let place = resolve(path, name, "data file")?;
    target::in_place(&place, |file| file.set_len(shape.size).map_err(|e| Error::io(place.display(), e)))
}

/// Takes space on the host for a new image of `end` bytes, whose data is a hole yet.
fn fill(file: &File, path: &Path, end: u64, full: bool) -> Result<()> {
    let len = i64::try_from(end).map_err(|_| Kind::FileTooBig)?;
    fallocate(file, FallocateFlags::empty(), 0, len).map_err(|e| Error::io(path.display(), e.into()))?;
    if !full {
        return Ok(());
    }
    // What is there is not zero, or zero already: reading and writing back makes the space written to.
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < end {
        let part = bytes.get_mut(..(end - at).min(1 << 20) as usize).unwrap_or_default();
        file.read_exact_at(part, at)
            .and_then(|()| file.write_all_at(part, at))
            .map_err(|e| Error::io(path.display(), e))?;
        at += part.len() as u64;
    }
    Ok(())
}

fn preallocation(options: &CreateOptions) -> Result<Preallocation> {
    let wanted = match options.preallocation.as_deref() {
        None | Some("off" | "sparse") => return Ok(Preallocation::Off),
        Some("metadata") => Preallocation::Metadata,
        Some("falloc") => Preallocation::Falloc,
        Some("full") => Preallocation::Full,
        Some(other) => {
            return Err(Error::usage(format!("a qcow2 image has no preallocation '{other}'"))
                .hint("use off, metadata, falloc or full"));
        }
    };
    if options.backing.is_some() || options.data_file.is_some() {
        return Err(Error::usage("preallocation does not go together with a backing file or a data file"));
    }
    Ok(wanted)
}

/// What the options of a new image at `path` mean.
pub(super) fn shape(path: &Path, options: &CreateOptions) -> Result<Shape> {
    let version = match options.compat.as_deref() {
        None | Some("1.1" | "v3") => 3,
        Some("0.10" | "v2") => 2,
        Some(other) => {
            return Err(Error::usage(format!("a qcow2 image has no compat '{other}'")).hint("use 0.10 or 1.1"));
        }
    };
    let codec = match options.compression.as_deref() {
        None | Some("zlib") => Codec::Deflate,
        Some("zstd") => Codec::Zstd,
        Some(other) => {
            return Err(Error::usage(format!("a qcow2 image has no compression '{other}'")).hint("use zlib or zstd"));
        }
    };
    let refcount_bits = options.refcount_bits.unwrap_or(16);
    if !refcount_bits.is_power_of_two() || refcount_bits > 64 {
        return Err(Error::usage(format!("refcounts of {refcount_bits} bits")).hint("use 1, 2, 4, 8, 16, 32 or 64"));
    }
    for (name, needed) in [
        ("compression zstd", codec == Codec::Zstd),
        ("lazy refcounts", options.lazy_refcounts),
        ("subclusters", options.subclusters),
        ("a data file", options.data_file.is_some()),
        ("refcounts of other than 16 bits", refcount_bits != 16),
    ] {
        if needed && version < 3 {
            return Err(Error::usage(format!("{name}: not in version 2 (compat 0.10)")));
        }
    }
    let default = if options.subclusters { DEFAULT_CLUSTER_EXTENDED } else { DEFAULT_CLUSTER };
    let cluster = options.cluster_size.unwrap_or(default);
    if !cluster.is_power_of_two() || !(512..=2 << 20).contains(&cluster) {
        return Err(Error::usage(format!("cluster size {cluster} is no power of two between 512 and 2097152")));
    }
    if options.subclusters && cluster < 16 << 10 {
        return Err(Error::usage(format!("subclusters need clusters of at least 16384 bytes, not {cluster}")));
    }
    let backing = backing(path, options)?;
    let below = backing.as_ref().map(|(len, ..)| *len);
    let size = match options.size.or(below) {
        Some(size) => size.checked_next_multiple_of(512).ok_or(Kind::FileTooBig)?,
        None => return Err(Error::usage("a qcow2 image needs a size or a backing file")),
    };
    let shape = Shape {
        version,
        cluster_bits: cluster.trailing_zeros(),
        size,
        refcount_order: refcount_bits.trailing_zeros(),
        extended: options.subclusters,
        lazy: options.lazy_refcounts,
        codec,
        backing: backing.map(|(_, name, format)| (name, format)),
        data_file: data_file(path, options)?,
    };
    shape.check()?;
    Ok(shape)
}

fn data_file(path: &Path, options: &CreateOptions) -> Result<Option<(Vec<u8>, bool)>> {
    let Some(name) = &options.data_file else {
        return match options.data_file_raw {
            true => Err(Error::usage("datafileraw without a data file")),
            false => Ok(None),
        };
    };
    if options.backing.is_some() && options.data_file_raw {
        return Err(Error::usage("a raw data file does not go together with a backing file"));
    }
    let place = resolve(path, name.as_os_str().as_bytes(), "data file")?;
    if FileId::of(path).is_ok_and(|id| FileId::of(&place).is_ok_and(|data| data == id)) {
        return Err(Error::new(Kind::Invalid, "would be its own data file").at(path.display()));
    }
    Ok(Some((name.as_os_str().as_bytes().to_vec(), options.data_file_raw)))
}

/// Checks the backing file and gives its size, and name and format for the header.
fn backing(path: &Path, options: &CreateOptions) -> Result<Option<(u64, Vec<u8>, &'static str)>> {
    let Some(name) = &options.backing else {
        return match options.backing_format {
            Some(_) => Err(Error::usage("a backing format without a backing file")),
            None => Ok(None),
        };
    };
    let Some(format) = options.backing_format else {
        return Err(Error::usage(format!("the format of backing file {} is not given", name.display()))
            .hint("give backingformat: raw or qcow2"));
    };
    if name.as_os_str().len() > NAME_LIMIT as usize {
        return Err(Error::from(Kind::NameTooLong).at(name.display()));
    }
    let place = resolve(path, name.as_os_str().as_bytes(), "backing file")?;
    let below = FileId::of(&place)?;
    if FileId::of(path).is_ok_and(|id| id == below) {
        return Err(Error::new(Kind::Invalid, "would be its own backing file").at(path.display()));
    }
    let node: Node = open_backing(&place, Some(format.name().as_bytes()), &[], &mut Vec::new())?;
    Ok(Some((node.len(), name.as_os_str().as_bytes().to_vec(), format.name())))
}
