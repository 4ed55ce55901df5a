//! Shell patterns: matching of names, and of paths against the guest's tree.

use super::{At, Guest};
use crate::base::{Error, GuestPathBuf, Kind, Name, Result};
use crate::fs::FileType;

/// Patterns that one pattern's braces may expand to.
const BRACES_MAX: usize = 10_000;

/// A bracket expression that begins at `pattern[0] == '['`: whether it holds `byte`, and its length.
/// `None` if it is not closed: the bracket then stands for itself.
fn bracket(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let mut first = true;
    let mut found = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && !first {
            return Some((found != negated, at + 1));
        }
        first = false;
        if low == b'['
            && let Some(class) = pattern[at + 1..].strip_prefix(b":")
            && let Some(end) = class.windows(2).position(|w| w == b":]")
        {
            found |= in_class(&class[..end], byte);
            at += end + 4;
            continue;
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') && pattern.get(at + 1).is_some_and(|b| *b != b']') {
            at += 1;
            high = *pattern.get(at)?;
            if high == b'\\' {
                at += 1;
                high = *pattern.get(at)?;
            }
            at += 1;
        }
        found |= (low..=high).contains(&byte);
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    match class {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Whether the first element of a pattern takes `byte`, and that element's length.
fn element(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    Some(match *pattern.first()? {
        b'?' => (byte != b'/', 1),
        b'[' => match bracket(pattern, byte) {
            Some((found, length)) => (found && byte != b'/', length),
            None => (byte == b'[', 1),
        },
        b'\\' if pattern.len() > 1 => (pattern[1] == byte, 2),
        other => (other == byte, 1),
    })
}

/// Whether a shell pattern (`*`, `?`, `[a-z]`, `[!x]`, `[[:digit:]]`, `\x`) matches a name, as fnmatch(3) with
/// FNM_PATHNAME and FNM_PERIOD: no wildcard takes a `/`, and a dot at the start of a component must be there
/// as such. Takes time proportional to pattern times name at most.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and the first byte of the name that it has not tried to take.
    let mut star: Option<(usize, usize)> = None;
    let leading_dot = |n: usize| name[n] == b'.' && (n == 0 || name[n - 1] == b'/');
    loop {
        let wild = matches!(pattern.get(p), Some(b'*' | b'?' | b'['));
        if pattern.get(p) == Some(&b'*') {
            if n < name.len() && leading_dot(n) {
                return false;
            }
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        let step = match name.get(n) {
            None if p == pattern.len() => return true,
            None => None,
            Some(_) if wild && leading_dot(n) => None,
            Some(byte) => element(&pattern[p..], *byte).filter(|(took, _)| *took),
        };
        match (step, star) {
            (Some((_, length)), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after, tried))) if tried < name.len() && name[tried] != b'/' => {
                star = Some((after, tried + 1));
                p = after;
                n = tried + 1;
            }
            _ => return false,
        }
    }
}

/// Whether a word has pattern characters that are not escaped.
pub fn has_magic(word: &[u8]) -> bool {
    let mut escaped = false;
    word.iter().any(|b| {
        let magic = !escaped && matches!(b, b'*' | b'?' | b'[');
        escaped = !escaped && *b == b'\\';
        magic
    })
}

/// A word without the backslashes that escape.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.iter();
    while let Some(byte) = rest.next() {
        bytes.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    bytes
}

/// The first brace group with a comma: its start, the ends of its alternatives, the byte after it.
fn group(pattern: &[u8]) -> Option<(usize, Vec<usize>, usize)> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            // `{}` stands for itself.
            b'{' if pattern.get(at + 1) != Some(&b'}') => {
                if let Some((ends, after)) = alternatives(pattern, at) {
                    return Some((at, ends, after));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn alternatives(pattern: &[u8], start: usize) -> Option<(Vec<usize>, usize)> {
    let (mut depth, mut ends, mut at) = (0_usize, Vec::new(), start + 1);
    loop {
        match *pattern.get(at)? {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                ends.push(at);
                return Some((ends, at + 1));
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => ends.push(at),
            _ => {}
        }
        at += 1;
    }
}

/// `/a/{b,c}` is `/a/b` and `/a/c`, as GLOB_BRACE has it.
fn expand_braces(pattern: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (mut done, mut todo) = (Vec::new(), vec![pattern.to_vec()]);
    while let Some(pattern) = todo.pop() {
        let Some((start, ends, after)) = group(&pattern) else {
            done.push(pattern);
            continue;
        };
        if done.len() + todo.len() + ends.len() > BRACES_MAX {
            return Err(Error::new(Kind::Invalid, format!("the braces make more than {BRACES_MAX} patterns")));
        }
        let mut from = start + 1;
        let at = todo.len();
        for end in ends {
            todo.insert(at, [&pattern[..start], &pattern[from..end], &pattern[after..]].concat());
            from = end + 1;
        }
    }
    Ok(done)
}

impl Guest {
    /// Paths that match a shell pattern with braces, sorted for each of the braces' alternatives; directories
    /// get a trailing `/` if `mark`. Nothing that matches is no error.
    pub fn glob(&self, pattern: &GuestPathBuf, mark: bool) -> Result<Vec<GuestPathBuf>> {
        let mut found = Vec::new();
        for pattern in expand_braces(pattern).map_err(|e| e.at(pattern))? {
            self.glob_one(&pattern, mark, &mut found).map_err(|e| e.at(GuestPathBuf(pattern)))?;
        }
        Ok(found)
    }

    fn glob_one(&self, pattern: &[u8], mark: bool, found: &mut Vec<GuestPathBuf>) -> Result<()> {
        let root = self.root_at()?;
        let words: Vec<&[u8]> = pattern.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
        let slash = pattern.ends_with(b"/");
        // Directories to search, with the number of the word to match in them; the next one last.
        let mut todo = vec![(Vec::new(), root, 0)];
        let start = found.len();
        while let Some((path, dir, index)) = todo.pop() {
            self.check_interrupt()?;
            let Some(word) = words.get(index) else {
                found.push(GuestPathBuf([&path[..], b"/"].concat()));
                continue;
            };
            let last = index + 1 == words.len();
            let level = todo.len();
            for (name, at) in self.matching(&path, dir, word)? {
                let path = [&path[..], b"/", &name].concat();
                let target = self.followed(&path, at)?;
                let directory = target.is_some_and(|(_, t)| t == FileType::Directory);
                match target {
                    Some((target, _)) if directory && !last => todo.insert(level, (path, target, index + 1)),
                    _ if !last || slash && !directory => {}
                    _ if directory && (mark || slash) => found.push(GuestPathBuf([&path[..], b"/"].concat())),
                    _ => found.push(GuestPathBuf(path)),
                }
            }
        }
        found[start..].sort();
        Ok(())
    }

    /// Names in a directory that a word of a pattern matches.
    fn matching(&self, path: &[u8], dir: At, word: &[u8]) -> Result<Vec<(Name, At)>> {
        if has_magic(word) {
            let mut entries = self.entries(dir)?;
            entries.retain(|(name, _)| matches(word, name));
            return Ok(entries);
        }
        let name = Name(unescape(word));
        if matches!(&*name, b"." | b"..") {
            let at = self.walk_path(&[path, b"/", &name].concat(), true)?.found()?;
            return Ok(vec![(name, at)]);
        }
        match self.child(dir, &name) {
            Ok(child) => Ok(child.map(|at| (name, at)).into_iter().collect()),
            Err(e) if e.kind() == Kind::NameTooLong => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Where a path leads and what that is; `None` if nowhere.
    fn followed(&self, path: &[u8], at: At) -> Result<Option<(At, FileType)>> {
        let file_type = self.type_of(at)?;
        if file_type != FileType::Symlink {
            return Ok(Some((at, file_type)));
        }
        match self.walk_path(path, true).and_then(|walked| walked.found()) {
            Ok(at) => Ok(Some((at, self.type_of(at)?))),
            Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::Io | Kind::Internal) => Err(e),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, wanted) in [
            ("*", "abc", true),
            ("*", ".abc", false),
            (".*", ".abc", true),
            ("?bc", ".bc", false),
            ("[.]x", ".x", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "zx", true),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("[[:digit:]]*", "7up", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\", "\\", true),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("a/*", "a/.b", false),
            ("a?b", "a/b", false),
            ("", "", true),
            ("*", "", true),
            ("**", "a.b", true),
            ("/dev/sd*", "/dev/sda1", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} on {name}");
        }
        // Linear enough: this takes for ever with backtracking into every star.
        assert!(!matches(&b"a*".repeat(60), &[&b"a".repeat(3_000)[..], b"b/"].concat()));
    }

    #[test]
    fn braces() {
        let expand = |p: &str| -> Vec<String> {
            expand_braces(p.as_bytes()).unwrap().into_iter().map(|p| String::from_utf8(p).unwrap()).collect()
        };
        assert_eq!(expand("/a{b,c{d,e},}f"), ["/abf", "/acdf", "/acef", "/af"]);
        assert_eq!(expand("/{}x\\{a,b}"), ["/{}x\\{a,b}"]);
        assert_eq!(expand("/{a"), ["/{a"]);
        assert!(expand_braces("{a,b}".repeat(40).as_bytes()).is_err());
    }
}
