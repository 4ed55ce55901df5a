//! Functions of the library under names of their own.
//!
//! Rhai 1.27 remembers what an unqualified call stands for by name and number of arguments alone, across modules: where a script and a
//! module, or two modules, have functions `words(line)`, one of them may get the other's. Qualified calls are not affected. So a
//! module's functions call one another by names that nobody else has, and each has a second function with the name that is told to users.

use std::collections::HashSet;
use std::fmt::Write;

use crate::commands;

/// The text of a module in which functions call one another as `NAME__MODULE`. Lines stay where they are. A function that has the name
/// of a command keeps it: a call may mean the one or the other.
pub fn with_own_names(text: &str, module: &str) -> String {
    let suffix = format!("__{}", module.replace('/', "_"));
    let words = words(text);
    let mut own = HashSet::new();
    let mut exported = String::new();
    for pair in words.windows(2) {
        let [first, word] = pair else { continue };
        if first.text != "fn" || commands::lookup(&word.text.replace('_', "-")).is_some() {
            continue;
        }
        own.insert(word.text);
        let rest = text.get(word.end..).unwrap_or_default();
        let parameters = rest.split_once(')').map_or("", |(inside, _)| inside.trim_start_matches('('));
        if !first.private {
            let _ = writeln!(exported, "fn {0}({parameters}) {{ {0}{suffix}({parameters}) }}", word.text);
        }
    }
    let mut changed = String::with_capacity(text.len() * 2);
    let mut done = 0;
    for word in words.iter().filter(|word| own.contains(word.text) && word.called) {
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
    name.split_once("__std_").map_or(name, |(told, _)| told)
}

/// A word of a script, outside of texts and comments.
struct Word<'a> {
    text: &'a str,
    /// The byte behind it.
    end: usize,
    /// A parenthesis follows, and neither a dot nor a module stands in front.
    called: bool,
    /// `private` stands in front.
    private: bool,
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
                    called: at(here) == b'(' && !matches!(before, b'.' | b':'),
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
        let wanted = "/// words(x)\nfn words__std_x(a, b) { a.words(b) + other::words(a) + \"words(\\\"words(\" }\n\
                    private fn one__std_x() { words__std_x(1, || words__std_x('\"', 2)) + ls(\"/\") } // words(1)\nfn ls(x, y) { words__std_x(x, y) }\n\
                    \nfn words(a, b) { words__std_x(a, b) }\n";
        assert_eq!(with_own_names(text, "std/x"), wanted);
    }
}
