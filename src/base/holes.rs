//! Where the files of the host have holes.

use std::ops::Range;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The runs of a range of an open file, in order, each with whether it is a hole. Where the host cannot tell, all is data.
///
/// # Errors
/// The host's.
pub fn runs(file: impl AsFd, range: Range<u64>) -> Result<Vec<(Range<u64>, bool)>, Errno> {
    let seek = |offset: u64, whence| {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        Ok(u64::try_from(lseek(file.as_fd(), offset, whence)?).unwrap_or(0))
    };
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let data = match seek(at, Whence::SeekData) {
            Ok(data) => data.clamp(at, range.end),
            Err(Errno::ENXIO) => range.end,
            // No map: all of it is data.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => at,
            Err(e) => return Err(e),
        };
        if data > at {
            runs.push((at..data, true));
        }
        if data >= range.end {
            break;
        }
        let hole = seek(data, Whence::SeekHole).unwrap_or(range.end).clamp(data, range.end);
        // A hole right where data was just found: the file changes under us; call it data.
        at = if hole > data { hole } else { range.end };
        runs.push((data..at, false));
    }
    Ok(runs)
}

/// Whether an open file is known to have no data at all.
pub fn has_no_data(file: impl AsFd) -> bool {
    lseek(file.as_fd(), 0, Whence::SeekData) == Err(Errno::ENXIO)
}
