//! Symbolic modes, as chmod(1) reads them: `u+x`, `go-w`, `a=rX`, `u=g`, with commas between.

use crate::base::{Error, Result};

/// The mode that a change makes of another. `umask` masks clauses that name nobody, as POSIX has it.
pub(super) fn changed(mode: u32, directory: bool, umask: u32, change: &str) -> Result<u32> {
    let bad = || {
        Error::usage(format!("'{change}' is no mode")).hint("write a number like 0644, or a change like u+x or go-w")
    };
    let mut mode = mode;
    for clause in change.split(',') {
        let start = clause.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut rest) = clause.split_at(start);
        let mut people = 0;
        for c in who.chars() {
            people |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(bad()),
            };
        }
        let mask = if who.is_empty() { 0o7777 & !umask } else { people };
        while let Some(operator) = rest.chars().next() {
            let letters = &rest[1..];
            let end = letters.find(['+', '-', '=']).unwrap_or(letters.len());
            let bits = bits(&letters[..end], mode, directory).ok_or_else(bad)? & mask;
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                '=' => {
                    // A directory keeps its set-id bits unless they are named.
                    let kept = if directory { 0o6000 } else { 0 };
                    let named = if who.is_empty() { 0o7777 } else { people };
                    mode & !(named & !kept) | bits
                }
                _ => return Err(bad()),
            };
            rest = &letters[end..];
        }
    }
    Ok(mode & 0o7777)
}

/// The bits of some letters for everybody.
fn bits(letters: &str, mode: u32, directory: bool) -> Option<u32> {
    let copied = |shift: u32| (mode >> shift & 7) * 0o111;
    match letters {
        "u" => return Some(copied(6)),
        "g" => return Some(copied(3)),
        "o" => return Some(copied(0)),
        _ => {}
    }
    letters.chars().try_fold(0, |bits, c| {
        Some(
            bits | match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if directory || mode & 0o111 != 0 => 0o111,
                'X' => 0,
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_chmod_changes_them() {
        for (mode, change, wanted) in [
            (0o644, "u+x", 0o744),
            (0o777, "go-w", 0o755),
            (0o600, "a=rX", 0o444),
            (0o700, "a+X", 0o711),
            (0o640, "o=g", 0o644),
            (0o755, "u+s,g+s", 0o6755),
            (0o755, "+t", 0o1755),
            (0o4755, "u-s", 0o755),
            (0o644, "+w", 0o644),
            (0o755, "u=rw,go=", 0o600),
            (0o644, "u+x-r", 0o344),
        ] {
            assert_eq!(changed(mode, false, 0o022, change).unwrap(), wanted, "{mode:o} {change}");
        }
        assert_eq!(changed(0o2755, true, 0o022, "u=rwx,g=rx").unwrap(), 0o2755);
        for wrong in ["", "x", "u", "u+q", "z+x", "u+x,"] {
            assert!(changed(0o644, false, 0, wrong).is_err(), "{wrong}");
        }
    }
}
