//! What is asked of the terminal.

use std::os::fd::AsFd;

/// Columns and rows, if it is a terminal that knows them.
pub fn size(terminal: &impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row))).filter(|(columns, rows)| *columns > 0 && *rows > 0)
}
