//! Functions of modules under names of their own.
//!
//! Rhai 1.27 remembers what an unqualified call stands for by name and number of arguments alone, across modules: where a script and a
//! module, or two modules, have functions `words(line)`, one of them may get the other's. Qualified calls are not affected. So a
//! module's functions call one another by names that nobody else has, and each has a second function with the name that is told to users.

use std::collections::HashSet;
use std::fmt::Write;

use crate::commands;

/// What stands between a function's name and its module's.
const MARK: &str = "__own_";

/// The text of a module in which the functions that `which` means call one another as `NAME__own_MODULE`. Lines stay where they are. A
/// function that has the name of a command keeps it: a call may mean the one or the other. So do methods of one type.
pub fn with_own_names(text: &str, module: &str, which: &dyn Fn(&str) -> bool) -> String {
    let suffix = format!("{MARK}{}", module.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let words = words(text);
    let (mut own, mut methods) = (HashSet::new(), HashSet::new());
    let mut exported = String::new();
    for (index, pair) in words.windows(2).enumerate() {
        let [first, word] = pair else { continue };
        let is_command = commands::lookup(&word.text.replace('_', "-")).is_some();
        if first.text != "fn" || !word.called || is_command || !which(word.text) {
            continue;
        }
        own.insert(word.text);
        // What works on the value that it is called on is called with a dot, too, and its second function hands the value on.
        let body = words.iter().skip(index + 2).take_while(|word| word.text != "fn");
        let this = if body.into_iter().any(|word| word.text == "this") { "this." } else { "" };
        if !this.is_empty() {
            methods.insert(word.text);
        }
        let rest = text.get(word.end..).unwrap_or_default();
        let parameters = rest.split_once(')').map_or("", |(inside, _)| inside.trim_start_matches('('));
        if !first.private {
            let _ = writeln!(exported, "fn {0}({parameters}) {{ {this}{0}{suffix}({parameters}) }}", word.text);
        }
    }
    let mut changed = String::with_capacity(text.len() * 2);
    let mut done = 0;
    let renamed = |word: &&Word| word.called && if word.method { &methods } else { &own }.contains(word.text);
    for word in words.iter().filter(renamed) {
        changed.push_str(text.get(done..word.end).unwrap_or_default());
        changed.push_str(&suffix);
        done = word.end;
    }
    changed.push_str(text.get(done..).unwrap_or_default());
    changed.push('\n');
    changed.push_str(&exported);
    changed
}

/// The name that is told to users.
pub fn told(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(told, _)| told)
}

/// A word of a script, outside of texts and comments.
struct Word<'a> {
    text: &'a str,
    /// The byte behind it.
    end: usize,
    /// A parenthesis follows, and no module stands in front.
    called: bool,
    /// A dot stands in front.
    method: bool,
    /// `private` stands in front.
    private: bool,
}

/// The hashes of a text in hashes, `#"..."#`, that begins here; 0 if none does.
fn raw_text(bytes: &[u8]) -> usize {
    let hashes = bytes.iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(hashes) == Some(&b'"') { hashes } else { 0 }
}

/// The byte behind a block comment, which may have others inside. `from` is behind its beginning.
fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut here, mut depth) = (from, 1);
    while depth > 0 && here < bytes.len() {
        match bytes.get(here..here + 2) {
            Some(b"/*") => (here, depth) = (here + 2, depth + 1),
            Some(b"*/") => (here, depth) = (here + 2, depth - 1),
            _ => here += 1,
        }
    }
    here
}

fn words(text: &str) -> Vec<Word<'_>> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut found: Vec<Word> = Vec::new();
    let mut here = 0;
    while here < bytes.len() {
        let start = here;
        here += 1;
        match at(start) {
            b'/' if at(here) == b'/' => here = text[start..].find('\n').map_or(bytes.len(), |length| start + length),
            b'/' if at(here) == b'*' => here = comment_end(bytes, here + 1),
            b'#' if raw_text(&bytes[start..]) > 0 => {
                let hashes = raw_text(&bytes[start..]);
                let end = format!("\"{}", "#".repeat(hashes));
                let inside = start + hashes + 1;
                here = text
                    .get(inside..)
                    .and_then(|rest| rest.find(&end))
                    .map_or(bytes.len(), |at| inside + at + end.len());
            }
            quote @ (b'"' | b'\'' | b'`') => {
                while here < bytes.len() && at(here) != quote {
                    here += if at(here) == b'\\' { 2 } else { 1 };
                }
                here += 1;
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                while at(here).is_ascii_alphanumeric() || at(here) == b'_' {
                    here += 1;
                }
                let before = start.checked_sub(1).map_or(0, at);
                let private = found.last().is_some_and(|word| word.text == "private");
                found.push(Word {
                    text: &text[start..here],
                    end: here,
                    called: at(here) == b'(' && before != b':',
                    method: before == b'.',
                    private,
                });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::with_own_names;

    #[test]
    fn calls_get_names_of_their_own_and_others_stay() {
        let text = "/// words(x)\nfn words(a, b) { a.words(b) + other::words(a) + \"words(\\\"words(\" }\n\
                    private fn one() { words(1, || words('\"', 2)) + ls(\"/\") } // words(1)\nfn ls(x, y) { words(x, y) }\n";
        let wanted = "/// words(x)\nfn words__own_std_x(a, b) { a.words(b) + other::words(a) + \"words(\\\"words(\" }\n\
                    private fn one__own_std_x() { words__own_std_x(1, || words__own_std_x('\"', 2)) + ls(\"/\") } // words(1)\nfn ls(x, y) { words__own_std_x(x, y) }\n\
                    \nfn words(a, b) { words__own_std_x(a, b) }\n";
        assert_eq!(with_own_names(text, "std/x", &|_| true), wanted);
    }

    /// Comments, texts in hashes, methods, and functions that nobody else has.
    #[test]
    fn what_users_write() {
        let text = "/* it's /* fn a() */ a() */ fn a() { this.x + a() }\nfn b() { a() + #\"it's a()\"# + #{x: b()} }\nfn int.c() { 1.a() }\n";
        let wanted = "/* it's /* fn a() */ a() */ fn a__own__m_y_rhai() { this.x + a__own__m_y_rhai() }\n\
                      fn b() { a__own__m_y_rhai() + #\"it's a()\"# + #{x: b()} }\nfn int.c() { 1.a__own__m_y_rhai() }\n\
                      \nfn a() { this.a__own__m_y_rhai() }\n";
        assert_eq!(with_own_names(text, "/m-y.rhai", &|name| name != "b"), wanted);
        for text in ["/*", "#\"", "##\"#", "'", "fn", "fn a", "fn a("] {
            with_own_names(text, "x", &|_| true);
        }
    }
}
