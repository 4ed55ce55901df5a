//! What is asked of the terminal.

use std::os::fd::AsFd;

/// Columns and rows, if it is a terminal that knows them.
pub fn size(terminal: &impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row))).filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// Whether text is longer than a screen on which one row is left for the next prompt.
pub fn is_longer(text: &[u8], (columns, rows): (usize, usize)) -> bool {
    let height = |line: &[u8]| String::from_utf8_lossy(line).chars().count().div_ceil(columns.max(1)).max(1);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut left = rows.saturating_sub(1);
    text.split(|byte| *byte == b'\n').any(|line| {
        let height = height(line);
        let fits = height <= left;
        left = left.saturating_sub(height);
        !fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_take_several_rows() {
        assert!(!is_longer(b"", (80, 2)));
        assert!(!is_longer(b"a\nb\n", (80, 3)) && is_longer(b"a\nb\nc\n", (80, 3)));
        assert!(!is_longer(&[b'x'; 160], (80, 3)) && is_longer(&[b'x'; 161], (80, 3)));
        assert!(!is_longer("é".repeat(80).as_bytes(), (80, 2)));
        assert!(is_longer(b"a", (0, 0)));
    }
}
