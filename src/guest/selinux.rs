//! SELinux labels by the rules of a file_contexts file.
//!
//! A line is a regular expression for whole paths, sometimes a type of file (`--`, `-d`, `-l`, `-c`, `-b`, `-s`, `-p`),
//! and a label or `<<none>>` (selabel_file(5), file_contexts(5)). Expressions without special characters come before
//! others; of several that fit the last one wins. `FILE.homedirs` and `FILE.local` belong to it, `FILE.subs` and
//! `FILE.subs_dist` say which path stands for another.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::bytes::Regex;

use super::Guest;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::FileType;

/// Largest file of rules.
const RULES_MAX: u64 = 64 << 20;
/// The attribute that holds a label.
pub const ATTRIBUTE: &[u8] = b"security.selinux";

/// Most expressions that are kept compiled; a policy has some 6000, and a tree needs few of them.
const COMPILED_MAX: usize = 4096;

struct Rule {
    pattern: String,
    /// The text that every path which fits begins with.
    prefix: String,
    regex: OnceLock<Option<Regex>>,
    file_type: Option<FileType>,
    label: Option<String>,
}

/// The rules of a guest.
#[derive(Default)]
pub struct Contexts {
    /// Those without special characters, by path.
    exact: HashMap<String, Vec<Rule>>,
    /// The others, in the order of the file.
    rules: Vec<Rule>,
    /// Their indices by their first directory (empty where that is not plain), in the order of the file.
    stems: HashMap<String, Vec<usize>>,
    substitutions: Vec<(String, String)>,
    compiled: AtomicUsize,
}

/// What a folder's files are labelled by: found once for all of them.
pub struct Folder {
    /// The folder's path after substitution, with a slash at its end.
    path: String,
    /// Rules that may fit, the last of the file first; `None` where that depends on the file's name.
    rules: Option<Vec<usize>>,
}

fn is_special(c: char) -> bool {
    matches!(c, '.' | '^' | '$' | '?' | '*' | '+' | '|' | '[' | ']' | '(' | ')' | '{' | '}' | '\\')
}

impl Contexts {
    /// Reads the rules of `path` and of the files that belong to it.
    ///
    /// # Errors
    /// A missing file; a line that is no rule, named.
    pub fn read(guest: &Guest, path: &GuestPathBuf) -> Result<Self> {
        let mut contexts = Contexts::default();
        for (suffix, needed) in [("", true), (".homedirs", false), (".local", false)] {
            let part = GuestPathBuf([path, suffix.as_bytes()].concat());
            match guest.read_file(&part, RULES_MAX) {
                Ok(text) => contexts.add(&String::from_utf8_lossy(&text)).map_err(|e| e.at(&part))?,
                Err(e) if !needed && e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        for suffix in [".subs_dist", ".subs"] {
            let part = GuestPathBuf([path, suffix.as_bytes()].concat());
            if let Ok(text) = guest.read_file(&part, RULES_MAX) {
                let text = String::from_utf8_lossy(&text);
                let pairs = text.lines().filter(|l| !l.trim_start().starts_with('#')).filter_map(|line| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?.to_string(), words.next()?.to_string()))
                });
                contexts.substitutions.extend(pairs);
            }
        }
        Ok(contexts)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || Error::corrupt(format!("line {} is no rule: {line}", index + 1));
            let words: Vec<&str> = line.split_whitespace().collect();
            let (pattern, kind, label) = match words[..] {
                [pattern, label] => (pattern, None, label),
                [pattern, kind, label] => (pattern, Some(kind), label),
                _ => return Err(bad()),
            };
            let file_type = match kind {
                None => None,
                Some("--") => Some(FileType::Regular),
                Some("-d") => Some(FileType::Directory),
                Some("-l") => Some(FileType::Symlink),
                Some("-c") => Some(FileType::CharDevice),
                Some("-b") => Some(FileType::BlockDevice),
                Some("-s") => Some(FileType::Socket),
                Some("-p") => Some(FileType::Fifo),
                Some(_) => return Err(bad()),
            };
            let label = (label != "<<none>>").then(|| label.to_string());
            let prefix = plain_prefix(pattern);
            let rule = Rule { pattern: pattern.to_string(), prefix, regex: OnceLock::new(), file_type, label };
            if !pattern.contains(is_special) {
                self.exact.entry(pattern.to_string()).or_default().push(rule);
                continue;
            }
            let stem = pattern.strip_prefix('/').and_then(|rest| rest.split_once('/')).map_or("", |(first, _)| first);
            let stem = if stem.contains(is_special) { "" } else { stem };
            self.stems.entry(stem.to_string()).or_default().push(self.rules.len());
            self.rules.push(rule);
        }
        Ok(())
    }

    /// How many expressions there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The label of a path; `None` where the rules give none.
    pub fn label(&self, path: &[u8], file_type: FileType) -> Option<&str> {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (folder, name) = (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default());
        self.label_in(&self.folder(folder), name, file_type)
    }

    /// What the files of a folder are labelled by.
    pub fn folder(&self, path: &[u8]) -> Folder {
        let mut path = self.substituted(&String::from_utf8_lossy(path));
        if !path.ends_with('/') {
            path.push('/');
        }
        let first = path.trim_start_matches('/').split_once('/').map(|(first, _)| first);
        let rules = first.map(|first| self.candidates(first, &path));
        Folder { path, rules }
    }

    /// The label of a name in a folder; `None` where the rules give none.
    pub fn label_in(&self, folder: &Folder, name: &[u8], file_type: FileType) -> Option<&str> {
        let path = self.substituted(&format!("{}{}", folder.path, String::from_utf8_lossy(name)));
        let fits = |rule: &&Rule| rule.file_type.is_none_or(|t| t == file_type);
        if let Some(rule) = self.exact.get(&path).into_iter().flatten().rev().find(fits) {
            return rule.label.as_deref();
        }
        let own;
        let candidates = match &folder.rules {
            Some(rules) if path.starts_with(&folder.path) => rules,
            _ => {
                let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
                own = self.candidates(first, &path);
                &own
            }
        };
        let rules = candidates.iter().filter_map(|index| self.rules.get(*index));
        rules.filter(fits).find(|rule| self.matches(rule, &path)).and_then(|rule| rule.label.as_deref())
    }

    /// A path with the one that stands for it in place of its beginning.
    fn substituted(&self, path: &str) -> String {
        let other = self.substitutions.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some(format!("{to}{rest}"))
        });
        other.unwrap_or_else(|| path.to_string())
    }

    /// The rules that may fit what begins with `start`, whose first name is `first`: the last of the file first.
    fn candidates(&self, first: &str, start: &str) -> Vec<usize> {
        let stems = if first.is_empty() { vec![""] } else { vec![first, ""] };
        let all = stems.into_iter().flat_map(|stem| self.stems.get(stem).into_iter().flatten());
        let may_fit = |index: &&usize| {
            let prefix = self.rules.get(**index).map_or("", |rule| rule.prefix.as_str());
            prefix.starts_with(start) || start.starts_with(prefix)
        };
        let mut found: Vec<usize> = all.filter(may_fit).copied().collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    fn matches(&self, rule: &Rule, path: &str) -> bool {
        if !path.starts_with(&rule.prefix) {
            return false;
        }
        if rule.regex.get().is_none() && self.compiled.load(Ordering::Relaxed) >= COMPILED_MAX {
            return rule.compiled().is_some_and(|regex| regex.is_match(path.as_bytes()));
        }
        let regex = rule.regex.get_or_init(|| {
            self.compiled.fetch_add(1, Ordering::Relaxed);
            rule.compiled()
        });
        regex.as_ref().is_some_and(|regex| regex.is_match(path.as_bytes()))
    }
}

impl Rule {
    /// What this crate cannot read fits nothing: the general rule stays in force.
    fn compiled(&self) -> Option<Regex> {
        regex::bytes::RegexBuilder::new(&format!("^(?:{})$", self.pattern))
            .unicode(false)
            .size_limit(1 << 18)
            .dfa_size_limit(1 << 16)
            .build()
            .ok()
    }
}

/// The text before the first special character of an expression, without what that character makes optional.
fn plain_prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    let (mut depth, mut escaped, mut plain) = (0_usize, false, true);
    for c in pattern.chars() {
        if escaped {
            // `\.` is a dot; `\d` is not a letter.
            plain &= !c.is_ascii_alphanumeric();
            if plain {
                prefix.push(c);
            }
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            // Another beginning is as good.
            '|' if depth == 0 => return String::new(),
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '?' | '*' | '{' if plain => {
                prefix.pop();
            }
            _ => {}
        }
        plain &= escaped || !is_special(c);
        if plain && !escaped {
            prefix.push(c);
        }
    }
    prefix
}

/// The label that a file is to have: all of `wanted` with `force` or without an old label, else the old one with the
/// type of `wanted`, as setfiles does.
pub fn merged(old: Option<&[u8]>, wanted: &str, force: bool) -> Vec<u8> {
    let old = old.map(|old| String::from_utf8_lossy(old).trim_end_matches('\0').to_string());
    let label = match old {
        Some(old) if !force => {
            let mut fields: Vec<&str> = old.splitn(4, ':').collect();
            match (wanted.split(':').nth(2), fields.len()) {
                (Some(kind), 3..) => {
                    fields[2] = kind;
                    fields.join(":")
                }
                _ => wanted.to_string(),
            }
        }
        _ => wanted.to_string(),
    };
    let mut bytes = label.into_bytes();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (pattern, prefix) in [
            ("/etc(/.*)?", "/etc"),
            ("/usr/lib64?/x", "/usr/lib6"),
            ("/a/b*", "/a/"),
            (r"/etc/rc\.d/.*", "/etc/rc.d/"),
            (r"/etc/rc\.?d", "/etc/rc"),
            (r"/x\d", "/x"),
            ("/a.*|/b", ""),
            ("/a/(b|c)", "/a/"),
            ("/a{0,2}b", "/"),
            ("/a+", "/a"),
            ("", ""),
        ] {
            assert_eq!(plain_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn the_last_rule_that_fits() {
        let mut contexts = Contexts::default();
        contexts
            .add(
                "# rules\n/.*\tu:r:default_t:s0\n/etc(/.*)?  u:r:etc_t:s0\n/etc/shadow.*  --  u:r:shadow_t:s0\n\
                 /etc/hosts u:r:net_t:s0\n/proc/.* <<none>>\n/[^/]+ -l u:r:link_t:s0\n",
            )
            .unwrap();
        contexts.substitutions.push(("/usr/etc".into(), "/etc".into()));
        for (path, file_type, label) in [
            ("/etc", FileType::Directory, Some("u:r:etc_t:s0")),
            ("/etc/shadow-", FileType::Regular, Some("u:r:shadow_t:s0")),
            ("/etc/shadow-", FileType::Directory, Some("u:r:etc_t:s0")),
            ("/etc/hosts", FileType::Regular, Some("u:r:net_t:s0")),
            ("/usr/etc/hosts", FileType::Regular, Some("u:r:net_t:s0")),
            ("/proc/1", FileType::Regular, None),
            ("/bin", FileType::Symlink, Some("u:r:link_t:s0")),
            ("/bin", FileType::Directory, Some("u:r:default_t:s0")),
        ] {
            assert_eq!(contexts.label(path.as_bytes(), file_type), label, "{path}");
        }
        // The same by folders, whose rules are found once.
        let folder = contexts.folder(b"/usr/etc");
        assert_eq!(contexts.label_in(&folder, b"shadow-", FileType::Regular), Some("u:r:shadow_t:s0"));
        assert_eq!(contexts.label_in(&contexts.folder(b"/"), b"bin", FileType::Symlink), Some("u:r:link_t:s0"));
        assert_eq!(contexts.label_in(&contexts.folder(b""), b"etc", FileType::Directory), Some("u:r:etc_t:s0"));
        assert!(contexts.add("/x --\n-d a b c\n").is_err());
        assert_eq!(merged(Some(b"a:b:c:s0:c1\0"), "u:r:t:s0", false), b"a:b:t:s0:c1\0");
        assert_eq!(merged(Some(b"a:b:c:s0\0"), "u:r:t:s0", true), b"u:r:t:s0\0");
        assert_eq!(merged(None, "u:r:t:s0", false), b"u:r:t:s0\0");
    }
}
