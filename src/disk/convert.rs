//! Copying a whole disk into a new image of any format, holes left out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::target::Target;
use super::{CreateOptions, Disk, Format, qcow2};
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};

/// Bytes read at once.
const CHUNK: u64 = 2 << 20;
/// Zeros of this size become holes.
const PAGE: usize = 4096;
/// Bytes of the source whose map is asked for at once.
const WINDOW: u64 = 1 << 30;

/// Writes the disk `source` to a new image at `path`, which takes the place of what is there when it is whole. `options` as
/// for [`super::create`]; without a size it is the source's. `compress`: clusters are packed (qcow2).
///
/// # Errors
/// Options that do not fit, a source that is its own target, host errors: then nothing is left behind.
pub fn convert(source: &dyn Disk, path: &Path, format: Format, options: &CreateOptions, compress: bool) -> Result<()> {
    for file in source.files() {
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (a.dev(), a.ino()) == (b.dev(), b.ino())
        };
        if let (Ok(ours), Ok(theirs)) = (std::fs::metadata(&file), std::fs::metadata(path))
            && same(ours, theirs)
        {
            return Err(Error::new(Kind::Invalid, "the copy would replace what it is made from").at(path.display()));
        }
    }
    let target = Target::new(path)?;
    match format {
        Format::Qcow2 => qcow2::fill(source, target.file(), path, options, compress)?,
        Format::Raw if compress => return Err(Error::usage("a raw image cannot be compressed")),
        Format::Raw => raw(source, target.file(), path, options)?,
    }
    target.finish()
}

fn raw(source: &dyn Disk, file: &File, path: &Path, options: &CreateOptions) -> Result<()> {
    super::raw::fill(file, path, options.size.unwrap_or(source.len()), options)?;
    if options.size.is_some_and(|size| size < source.len()) {
        return Err(Error::usage(format!("a copy cannot be shorter than the {} bytes of the disk", source.len())));
    }
    let at = |e: std::io::Error| Error::io(path.display(), e);
    let mut bytes = Vec::new();
    let mut window = 0;
    while window < source.len() {
        let until = source.len().min(window + WINDOW);
        for run in source.runs(window..until)?.into_iter().filter(|run| !run.hole) {
            let mut start = run.range.start;
            while start < run.range.end {
                bytes.resize((run.range.end - start).min(CHUNK) as usize, 0);
                source.read_at(start, &mut bytes)?;
                let mut from = None;
                for (number, page) in bytes.chunks(PAGE).enumerate() {
                    let place = number * PAGE;
                    match (is_zero(page), from) {
                        (false, None) => from = Some(place),
                        (true, Some(first)) => {
                            file.write_all_at(&bytes[first..place], start + first as u64).map_err(at)?;
                            from = None;
                        }
                        _ => {}
                    }
                }
                if let Some(first) = from {
                    file.write_all_at(&bytes[first..], start + first as u64).map_err(at)?;
                }
                start += bytes.len() as u64;
            }
        }
        window = until;
    }
    Ok(())
}

/// Copies an image file as it is, byte for byte, to an empty file; holes stay holes. For a raw image a commit that was
/// interrupted is in the copy.
///
/// # Errors
/// Host errors, an image in use, data in a file of its own.
pub fn copy_file(image: &Path, file: &File, path: &Path) -> Result<()> {
    qcow2::refuse_data_file(image)?;
    let source = super::raw::Raw::open(image, true)?;
    raw(&source, file, path, &CreateOptions::default())?;
    let len = std::fs::metadata(image).map_err(|e| Error::io(image.display(), e))?;
    if len.is_file() {
        file.set_len(len.len()).map_err(|e| Error::io(path.display(), e))?;
    }
    Ok(())
}
