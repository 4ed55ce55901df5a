//! The guest's account files: passwd(5), shadow(5), group(5), gshadow(5), as lines of fields that keep what they do
//! not concern.

use crate::base::{Error, Kind, Result};

/// A file of lines with colons between fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// Reads a file.
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Table { lines: text.lines().map(|line| line.split(':').map(str::to_string).collect()).collect() }
    }

    /// The file.
    pub fn text(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|fields| [fields.join(":"), "\n".to_string()]).collect::<String>().into_bytes()
    }

    /// The fields of a name.
    pub fn find(&self, name: &str) -> Option<&Vec<String>> {
        self.lines.iter().find(|fields| fields.first().is_some_and(|f| f == name))
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, name: &str) -> Option<&mut Vec<String>> {
        self.lines.iter_mut().find(|fields| fields.first().is_some_and(|f| f == name))
    }

    /// Adds a line. NIS lines (`+...`) stay last.
    pub fn add(&mut self, line: &str) {
        let end = self.lines.iter().position(|f| f[0].starts_with('+')).unwrap_or(self.lines.len());
        self.lines.insert(end, line.split(':').map(str::to_string).collect());
    }

    /// The numbers in the third field.
    pub fn ids(&self) -> Vec<u32> {
        self.lines.iter().filter_map(|fields| fields.get(2)?.parse().ok()).collect()
    }
}

/// The smallest number of an ordinary user that none of `taken` has (login.defs(5): UID_MIN, UID_MAX).
///
/// # Errors
/// All are taken.
pub fn free_id(taken: &[&[u32]]) -> Result<u32> {
    let used = |id: u32| taken.iter().any(|ids| ids.contains(&id));
    // Above the highest one first, as useradd counts.
    let highest = taken.iter().flat_map(|ids| ids.iter()).filter(|id| (1000..60000).contains(*id)).max();
    let next = highest.map_or(1000, |id| id + 1);
    (next..60000).chain(1000..next).find(|id| !used(*id)).ok_or_else(|| Error::new(Kind::NoSpace, "no user id is free"))
}

/// Checks a new name as useradd does: lower-case letters, digits, `_` and `-`, no digit first, at most 32.
///
/// # Errors
/// `Kind::Usage`.
pub fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    match good {
        true => Ok(()),
        false => Err(Error::usage(format!("'{name}' is no name for a user"))
            .hint("names are lower-case letters, digits, _ and -, and begin with a letter")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive() {
        let text = b"root:x:0:0:root:/root:/bin/bash\nodd line\n+::::::\n";
        let mut table = Table::parse(text);
        assert_eq!(table.text(), text);
        table.add("a:x:1000:1000::/home/a:/bin/sh");
        assert!(table.text().ends_with(b"a:x:1000:1000::/home/a:/bin/sh\n+::::::\n"));
        assert_eq!(table.ids(), [0, 1000]);
        assert_eq!(free_id(&[&table.ids(), &[1001]]).unwrap(), 1002);
        assert_eq!(free_id(&[&[]]).unwrap(), 1000);
        for wrong in ["", "Root", "1a", "a:b", "-a", "a b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
