//! A whole disk as a new qcow2 image, written from front to back.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::build::Builder;
use super::compress::deflate;
use super::create::shape;
use crate::base::bytes::is_zero;
use crate::base::{Error, Kind, Result};
use crate::disk::pool::{self, Task};
use crate::disk::{CreateOptions, Disk};

/// A cluster that is being compressed: its number, its bytes, and the stream to be, `None` if it is not shorter.
type Packing = (u64, Arc<Vec<u8>>, Task<Option<Vec<u8>>>);

/// Bytes read from the source at once, at least.
const CHUNK: u64 = 1 << 20;
/// Bytes of the source whose map is asked for at once.
const WINDOW: u64 = 1 << 30;

/// Writes all of `source` as an image that is to be at `path` to `file`, which is empty.
pub(in crate::disk) fn fill(
    source: &dyn Disk,
    file: &File,
    path: &Path,
    options: &CreateOptions,
    compress: bool,
) -> Result<()> {
    if options.backing.is_some() || options.data_file.is_some() || options.preallocation.is_some() {
        return Err(Error::usage("a copy has no backing file, no data file and no preallocation"));
    }
    let options = CreateOptions { size: Some(options.size.unwrap_or(source.len())), ..options.clone() };
    let shape = shape(path, &options)?;
    if shape.size < source.len() {
        return Err(Error::usage(format!("a copy of {} bytes cannot hold {}", shape.size, source.len())));
    }
    let cluster = shape.cluster();
    let mut image = Builder::new(&shape, file, path);
    // Clusters in order that are being compressed.
    let mut tasks: VecDeque<Packing> = VecDeque::new();
    let finish = |image: &mut Builder, (number, plain, task): Packing| match task.wait() {
        None => Err(Error::new(Kind::Internal, "a thread that compresses has died")),
        Some(Some(stream)) => image.packed(number, &stream),
        Some(None) => image.data(number, &plain),
    };
    let mut next = 0;
    let mut window = 0;
    while window < source.len() {
        let until = source.len().min(window + WINDOW);
        for run in source.runs(window..until)?.into_iter().filter(|run| !run.hole) {
            let (first, end) = (run.range.start / cluster, run.range.end.div_ceil(cluster));
            let mut at = next.max(first);
            next = next.max(end);
            while at < end {
                let count = (CHUNK / cluster).max(1).min(end - at);
                let start = at * cluster;
                let mut bytes = vec![0; (count * cluster) as usize];
                let inside = (source.len() - start).min(count * cluster) as usize;
                source.read_at(start, bytes.get_mut(..inside).unwrap_or_default())?;
                for (number, plain) in (at..).zip(bytes.chunks(cluster as usize)).filter(|(_, plain)| !is_zero(plain)) {
                    if !compress {
                        image.data(number, plain)?;
                        continue;
                    }
                    let (plain, codec) = (Arc::new(plain.to_vec()), shape.codec);
                    let shared = Arc::clone(&plain);
                    tasks.push_back((number, plain, pool::start(move || deflate(codec, &shared))));
                    let most = ((8 << 20) / cluster).max(4 * pool::width() as u64) as usize;
                    if tasks.len() > most
                        && let Some(task) = tasks.pop_front()
                    {
                        finish(&mut image, task)?;
                    }
                }
                at += count;
            }
        }
        window = until;
    }
    for task in tasks {
        finish(&mut image, task)?;
    }
    let end = image.finish()?;
    file.set_len(end).map_err(|e| Error::io(path.display(), e))
}
