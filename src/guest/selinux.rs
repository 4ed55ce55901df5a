//! SELinux labels by the rules of a file_contexts file.
//!
//! A line is a regular expression for whole paths, sometimes a type of file (`--`, `-d`, `-l`, `-c`, `-b`, `-s`, `-p`),
//! and a label or `<<none>>` (selabel_file(5), file_contexts(5)). Expressions without special characters come before
//! others; of several that fit the last one wins. `FILE.homedirs` and `FILE.local` belong to it, `FILE.subs` and
//! `FILE.subs_dist` say which path stands for another.

use std::cell::OnceCell;
use std::collections::HashMap;

use regex::bytes::Regex;

use super::Guest;
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::fs::FileType;

/// Largest file of rules.
const RULES_MAX: u64 = 64 << 20;
/// The attribute that holds a label.
pub const ATTRIBUTE: &[u8] = b"security.selinux";

struct Rule {
    pattern: String,
    regex: OnceCell<Option<Regex>>,
    file_type: Option<FileType>,
    label: Option<String>,
}

/// The rules of a guest.
#[derive(Default)]
pub struct Contexts {
    /// Those without special characters, by path.
    exact: HashMap<String, Vec<Rule>>,
    /// The others by their first directory (empty where that is not plain), in the order of the file.
    stems: HashMap<String, Vec<(usize, Rule)>>,
    substitutions: Vec<(String, String)>,
    count: usize,
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
            let rule = Rule { pattern: pattern.to_string(), regex: OnceCell::new(), file_type, label };
            if !pattern.contains(is_special) {
                self.exact.entry(pattern.to_string()).or_default().push(rule);
                continue;
            }
            let stem = pattern.strip_prefix('/').and_then(|rest| rest.split_once('/')).map_or("", |(first, _)| first);
            let stem = if stem.contains(is_special) { "" } else { stem };
            self.stems.entry(stem.to_string()).or_default().push((self.count, rule));
            self.count += 1;
        }
        Ok(())
    }

    /// The label of a path; `None` where the rules give none.
    pub fn label(&self, path: &[u8], file_type: FileType) -> Option<&str> {
        let mut path = String::from_utf8_lossy(path).into_owned();
        for (from, to) in &self.substitutions {
            let rest = path.strip_prefix(from.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if let Some(rest) = rest {
                path = format!("{to}{rest}");
                break;
            }
        }
        let fits = |rule: &&Rule| rule.file_type.is_none_or(|t| t == file_type);
        if let Some(rule) = self.exact.get(&path).into_iter().flatten().rev().find(fits) {
            return rule.label.as_deref();
        }
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let mut best: Option<(usize, &Rule)> = None;
        for stem in [first, ""] {
            let rules = self.stems.get(stem).into_iter().flatten().rev();
            let found = rules.map(|(index, rule)| (*index, rule)).find(|(index, rule)| {
                best.is_none_or(|(known, _)| *index > known) && fits(rule) && rule.matches(path.as_bytes())
            });
            best = found.or(best);
        }
        best.and_then(|(_, rule)| rule.label.as_deref())
    }
}

impl Rule {
    fn matches(&self, path: &[u8]) -> bool {
        let regex = self.regex.get_or_init(|| {
            // What this crate cannot read fits nothing: the general rule stays in force.
            regex::bytes::RegexBuilder::new(&format!("^(?:{})$", self.pattern))
                .unicode(false)
                .size_limit(1 << 20)
                .dfa_size_limit(1 << 18)
                .build()
                .ok()
        });
        regex.as_ref().is_some_and(|regex| regex.is_match(path))
    }
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
        assert!(contexts.add("/x --\n-d a b c\n").is_err());
        assert_eq!(merged(Some(b"a:b:c:s0:c1\0"), "u:r:t:s0", false), b"a:b:t:s0:c1\0");
        assert_eq!(merged(Some(b"a:b:c:s0\0"), "u:r:t:s0", true), b"u:r:t:s0\0");
        assert_eq!(merged(None, "u:r:t:s0", false), b"u:r:t:s0\0");
    }
}
