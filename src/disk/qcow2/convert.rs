//! A whole disk as a new qcow2 image, written from front to back.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::build::{Builder, Part, Shape, write_parts};
use super::compress::deflate_into;
use super::create::shape;
use crate::base::bytes::is_zero;
use crate::base::{Error, Result};
use crate::disk::convert::{Output, read};
use crate::disk::lanes::{self, Piece, Work};
use crate::disk::{CreateOptions, Disk};

/// Writes all of `source` as an image to `output`, which is empty. `poll` as for [`lanes::copy`].
pub(in crate::disk) fn fill(
    source: &dyn Disk,
    output: &Output,
    options: &CreateOptions,
    compress: bool,
    poll: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    if options.backing.is_some() || options.data_file.is_some() || options.preallocation.is_some() {
        return Err(Error::usage("a copy has no backing file, no data file and no preallocation"));
    }
    let options = CreateOptions { size: Some(options.size.unwrap_or(source.len())), ..options.clone() };
    let shape = shape(output.path(), &options)?;
    if shape.size < source.len() {
        return Err(Error::usage(format!("a copy of {} bytes cannot hold {}", shape.size, source.len())));
    }
    let work = ToQcow2 { source, shape: &shape, compress, output, image: Mutex::new(Builder::new(&shape, output)) };
    lanes::copy(source, shape.cluster(), &work, poll)?;
    let image = work.image.into_inner().unwrap_or_else(PoisonError::into_inner);
    let end = image.finish().map_err(|e| e.at(output.path().display()))?;
    output.file().set_len(end).map_err(|e| Error::io(output.path().display(), e))
}

struct ToQcow2<'a> {
    source: &'a dyn Disk,
    shape: &'a Shape,
    compress: bool,
    output: &'a Output<'a>,
    image: Mutex<Builder<'a>>,
}

/// What a lane holds of its piece.
#[derive(Default)]
struct Lane {
    plain: Vec<u8>,
    streams: Vec<u8>,
    /// Clusters that are not zeros: number, place in `plain`, place in `streams` if they are packed.
    clusters: Vec<(u64, Range<usize>, Option<Range<usize>>)>,
    parts: Vec<Part>,
    /// Room for joining small parts.
    joined: Vec<u8>,
}

impl Work for ToQcow2<'_> {
    type Lane = Lane;

    fn read(&self, lane: &mut Lane, piece: &Piece) -> Result<()> {
        let cluster = self.shape.cluster();
        read(self.source, piece, &mut lane.plain)?;
        lane.clusters.clear();
        // Only the disk's last cluster can be a part of one.
        let whole = piece.span().next_multiple_of(cluster as usize);
        lane.plain.resize(lane.plain.len().max(whole), 0);
        lane.plain.get_mut(piece.span()..whole).unwrap_or_default().fill(0);
        if self.compress {
            lane.streams.resize(lane.streams.len().max(whole), 0);
        }
        let mut packed = 0;
        for range in &piece.ranges {
            for number in range.start / cluster..range.end.div_ceil(cluster) {
                let start = (number * cluster - piece.start()) as usize;
                let place = start..start + cluster as usize;
                let Some(plain) = lane.plain.get(place.clone()).filter(|plain| !is_zero(plain)) else { continue };
                let mut stream = None;
                if self.compress {
                    // A stream has to be shorter than the cluster.
                    let room = lane.streams.get_mut(packed..packed + cluster as usize - 1).unwrap_or_default();
                    stream = deflate_into(self.shape.codec, plain, room).map(|len| packed..packed + len);
                    packed = stream.as_ref().map_or(packed, |stream| stream.end);
                }
                lane.clusters.push((number, place, stream));
            }
        }
        Ok(())
    }

    fn place(&self, lane: &mut Lane) -> Result<()> {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, plain, stream) in lane.clusters.drain(..) {
            match stream {
                Some(stream) => image.packed(number, stream),
                None => image.data(number, plain),
            }
        }
        lane.parts = image.take_parts();
        Ok(())
    }

    fn write(&self, lane: &mut Lane, _: &Piece) -> Result<()> {
        write_parts(self.output, &lane.parts, &lane.plain, &lane.streams, &mut lane.joined)
    }
}
