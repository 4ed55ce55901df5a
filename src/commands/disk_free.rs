//! The text of `df` and `df-h`: coreutils' table, of the mounted file systems only.

use crate::base::Result;
use crate::guest::Guest;

/// The least widths that coreutils gives its columns.
const LEAST: [usize; 5] = [14, 5, 5, 5, 4];

/// The table, with a newline at its end.
pub(super) fn table(guest: &Guest, human: bool) -> Result<Vec<u8>> {
    let size = if human { "Size" } else { "1K-blocks" };
    let available = if human { "Avail" } else { "Available" };
    let header = ["Filesystem", size, "Used", available, "Use%"].map(String::from);
    let mut rows = vec![(header, b"Mounted on".to_vec())];
    for mount in guest.mounts() {
        let info = guest.statvfs(&mount.mountpoint)?;
        let used = info.blocks.saturating_sub(info.free_blocks);
        let amount = |blocks: u64| {
            let bytes = u128::from(blocks) * u128::from(info.block_size);
            if human { readable(bytes) } else { bytes.div_ceil(1024).to_string() }
        };
        let cells = [
            mount.device.clone(),
            amount(info.blocks),
            amount(used),
            amount(info.available_blocks),
            percent(used, info.available_blocks),
        ];
        rows.push((cells, mount.mountpoint.0.clone()));
    }
    Ok(render(&rows))
}

fn render(rows: &[([String; 5], Vec<u8>)]) -> Vec<u8> {
    let mut widths = LEAST;
    for (cells, _) in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.len());
        }
    }
    let mut out = Vec::new();
    for (cells, mountpoint) in rows {
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let padded = if column == 0 { format!("{cell:<width$} ") } else { format!("{cell:>width$} ") };
            out.extend_from_slice(padded.as_bytes());
        }
        out.extend_from_slice(mountpoint);
        out.push(b'\n');
    }
    out
}

/// The share that is used, of what root and others may use together, rounded up.
fn percent(used: u64, available: u64) -> String {
    let total = u128::from(used) + u128::from(available);
    if total == 0 { "-".to_string() } else { format!("{}%", (u128::from(used) * 100).div_ceil(total)) }
}

/// Bytes in powers of 1024, rounded up, with one decimal below 10.
pub(super) fn readable(bytes: u128) -> String {
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = 1_u128;
    for letter in "KMGTPE".chars() {
        unit <<= 10;
        let tenths = (bytes * 10).div_ceil(unit);
        if tenths < 100 {
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
        let whole = bytes.div_ceil(unit);
        if whole < 1024 || letter == 'E' {
            return format!("{whole}{letter}");
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_amounts_round_up() {
        let cases = [(0, "0"), (1023, "1023"), (1024, "1.0K"), (1025, "1.1K"), (10_200, "10K"), (1_048_575, "1.0M")];
        for (bytes, text) in cases {
            assert_eq!(readable(bytes), text);
        }
        assert_eq!(readable(60_000_000), "58M");
        assert_eq!(readable(9_999_999_999), "9.4G");
    }

    #[test]
    fn shares() {
        assert_eq!([percent(0, 0), percent(0, 5), percent(1, 999), percent(5, 5)], ["-", "0%", "1%", "50%"]);
    }

    #[test]
    fn columns() {
        let row = |a: &str, b: &str| [a, b, "1", "2", "3%"].map(String::from);
        let rows = [(row("Filesystem", "Size"), b"Mounted on".to_vec()), (row("/dev/sda1", "1234567"), b"/".to_vec())];
        assert_eq!(
            String::from_utf8(render(&rows)).unwrap(),
            "Filesystem        Size     1     2   3% Mounted on\n/dev/sda1      1234567     1     2   3% /\n"
        );
    }
}
