//! Parts of files: what QEMU's raw driver calls offset and size.

use std::ops::Range;

use crate::base::{Error, Result};

/// Bytes that count as one: lengths of files are rounded up to them.
const SECTOR: u64 = 512;

/// A part of what lies below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes; `None`: all the rest.
    pub size: Option<u64>,
}

/// The bytes of a file of `len` bytes that windows leave, the outermost first. They can end behind the end of the file.
///
/// # Errors
/// Windows that lie outside of what is below them, or are not in whole sectors, as QEMU refuses them.
pub(super) fn part(windows: &[Window], len: u64) -> Result<Range<u64>> {
    let wrong = |window: &Window, what: String| {
        let size = window.size.map_or("the rest".to_string(), |size| format!("{size} bytes"));
        Error::corrupt(format!("qcow2: the part of the backing file, {size} from {} on: {what}", window.offset))
    };
    let mut part = 0..len.checked_next_multiple_of(SECTOR).unwrap_or(len);
    for window in windows.iter().rev() {
        let rest = (part.end - part.start).checked_sub(window.offset);
        let size = match (window.size, rest) {
            (None, Some(rest)) => rest.checked_next_multiple_of(SECTOR).unwrap_or(rest),
            (Some(size), Some(rest)) if size <= rest => size,
            _ => return Err(wrong(window, format!("only {} bytes are there", part.end - part.start))),
        };
        if !size.is_multiple_of(SECTOR) {
            return Err(wrong(window, format!("not a multiple of {SECTOR} bytes")));
        }
        let start = part.start + window.offset;
        part = start..start.checked_add(size).ok_or_else(|| wrong(window, "too far".into()))?;
    }
    Ok(part)
}

/// Where the part that windows leave begins.
pub(super) fn start(windows: &[Window]) -> u64 {
    windows.iter().fold(0, |start, window| start.saturating_add(window.offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_qemu_takes() {
        let window = |offset, size| Window { offset, size };
        // The lengths are those that qemu-img info gives for a file of 10100 bytes.
        for (windows, expected) in [
            (vec![], Some(0..10240)),
            (vec![window(1000, None)], Some(1000..10728)),
            (vec![window(10101, None)], Some(10101..10613)),
            (vec![window(10240, None)], Some(10240..10240)),
            (vec![window(10241, None)], None),
            (vec![window(0, Some(10240))], Some(0..10240)),
            (vec![window(0, Some(10752))], None),
            (vec![window(0, Some(1000))], None),
            (vec![window(512, Some(4096)), window(1000, Some(5120))], Some(1512..5608)),
            (vec![window(512, Some(5120)), window(1000, Some(5120))], None),
            (vec![window(u64::MAX, Some(512))], None),
        ] {
            assert_eq!(part(&windows, 10100).ok(), expected, "{windows:?}");
        }
        assert!(part(&[window(1, None)], u64::MAX).is_err());
    }
}
