//! Names and paths inside a guest: bytes, never host paths.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

/// One name in a guest's directory: any bytes but `/` and NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(pub Vec<u8>);

/// An owned guest path: any bytes, components separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestPathBuf(pub Vec<u8>);

/// Bytes as text for people: valid UTF-8 as it is, every other byte and control character as `\xhh`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|b| format!("\\x{b:02x}")));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out
}

/// Bytes as one word of a line of the guestfish language: bare where that is enough, else in double quotes with
/// escapes, so that the line can be read back.
pub fn quoted(word: &[u8]) -> String {
    let bare = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'|' | b'~' | b'\\') || *b >= 0x80;
    if !word.is_empty() && word.iter().all(bare) && std::str::from_utf8(word).is_ok() {
        return String::from_utf8_lossy(word).into_owned();
    }
    in_quotes(word)
}

/// As [`quoted`], in double quotes whatever it is.
pub fn in_quotes(word: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                c => out.push_str(&printable(c.encode_utf8(&mut [0; 4]).as_bytes())),
            }
        }
        out.push_str(&printable(chunk.invalid()));
    }
    out.push('"');
    out
}

impl Deref for Name {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Name(bytes.to_vec())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name(text.as_bytes().to_vec())
    }
}

impl GuestPathBuf {
    /// The root, `/`.
    pub fn root() -> Self {
        GuestPathBuf(b"/".to_vec())
    }

    /// The path with `name` below it.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = self.0.clone();
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        GuestPathBuf(bytes)
    }

    /// The components, without empty ones and `.`; `..` is kept.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".")
    }

    /// The last component, as [`GuestPathBuf::components`] gives it.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// Everything before the last component: `/` for `/a`, and for `/` itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut components: Vec<&[u8]> = self.components().collect();
        components.pop();
        let mut bytes = b"/".to_vec();
        bytes.extend_from_slice(&components.join(&b'/'));
        GuestPathBuf(bytes)
    }

    /// Whether the path begins with `/`.
    pub fn is_absolute(&self) -> bool {
        self.0.first() == Some(&b'/')
    }
}

impl Deref for GuestPathBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for GuestPathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl From<&str> for GuestPathBuf {
    fn from(text: &str) -> Self {
        GuestPathBuf(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for GuestPathBuf {
    fn from(bytes: &[u8]) -> Self {
        GuestPathBuf(bytes.to_vec())
    }
}

/// A word as it may be shown: what follows `password:` is not.
pub fn without_secret(word: String) -> String {
    match word.find("password:") {
        Some(at) if word.len() > at + "password:".len() => {
            let end = if word.starts_with('"') { "\"" } else { "" };
            format!("{}password:***{end}", &word[..at])
        }
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let path = GuestPathBuf::from("//a/./b/../c/");
        assert_eq!(path.components().collect::<Vec<_>>(), [b"a".as_slice(), b"b", b"..", b"c"]);
        assert_eq!(path.file_name(), Some(b"c".as_slice()));
        assert_eq!(GuestPathBuf::from("/a").parent(), GuestPathBuf::root());
        assert_eq!(GuestPathBuf::root().join(b"x"), GuestPathBuf::from("/x"));
    }

    #[test]
    fn hostile_names_print_as_text() {
        assert_eq!(printable(b"a\x1b[2J\xff\xc3\xa9"), "a\\x1b[2J\\xffé");
    }
}
