//! Patterns as grep reads them (POSIX.1-2017, chapter 9, with GNU's additions), made into regular expressions on bytes.

use regex::bytes::{Regex, RegexBuilder};

use crate::base::{Error, Result};

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// grep: `\(`, `\{`, `\|`.
    Basic,
    /// egrep: `(`, `{`, `|`.
    Extended,
    /// As `Extended`, for texts of many lines: a line end in the pattern is one in the text.
    WholeText,
    /// fgrep: a text.
    Fixed,
}

/// Memory that a compiled pattern may take: a hostile or careless one is refused.
const SIZE_LIMIT: usize = 8 << 20;

/// Makes a pattern ready to be looked for.
pub(crate) fn compile(pattern: &[u8], syntax: Syntax, ignore_case: bool) -> Result<Regex> {
    let text = std::str::from_utf8(pattern)
        .map_err(|_| Error::usage("the pattern is no UTF-8").hint("write other bytes as a dot"))?;
    let translated = match syntax {
        Syntax::Fixed => text.split('\n').map(regex::escape).collect::<Vec<_>>().join("|"),
        syntax => translate(text, syntax)?,
    };
    // A text may hold letters outside of ASCII; the rest is bytes, as in the C locale.
    let translated = bytes_of(&translated);
    RegexBuilder::new(&translated)
        .unicode(false)
        .case_insensitive(ignore_case)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            Error::usage(format!("'{text}' is no regular expression: {reason}"))
        })
}

/// Letters outside of ASCII as the bytes that they are.
fn bytes_of(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| out.push_str(&format!("\\x{b:02x}"))),
        }
    }
    out
}

/// Rewrites a POSIX pattern in the syntax of the crate `regex`.
fn translate(pattern: &str, syntax: Syntax) -> Result<String> {
    let extended = syntax != Syntax::Basic;
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    // At the start of an expression, where `*` is an ordinary character and `^` an anchor.
    let mut start = true;
    while let Some(&c) = chars.get(at) {
        at += 1;
        let mut now_start = false;
        match c {
            '\\' => {
                let Some(&escaped) = chars.get(at) else { return Err(Error::usage("trailing backslash in a pattern")) };
                at += 1;
                match escaped {
                    '(' | ')' | '|' | '{' | '}' | '+' | '?' if !extended => {
                        if matches!(escaped, '{' | '+' | '?') && start {
                            out.push('\\');
                        }
                        out.push(escaped);
                        now_start = matches!(escaped, '(' | '|');
                    }
                    '1'..='9' => {
                        return Err(Error::unsupported(format!("the back reference \\{escaped} in a pattern"))
                            .hint("search with a simpler pattern, or pipe the file to grep on the host"));
                    }
                    '<' | '>' | 'b' | 'B' | 'w' | 'W' | 's' | 'S' => out.extend(['\\', escaped]),
                    '`' => out.push_str("\\A"),
                    '\'' => out.push_str("\\z"),
                    other => literal(&mut out, other),
                }
            }
            '[' => at = bracket(&chars, at, &mut out)?,
            '*' if start => literal(&mut out, '*'),
            '*' => out.push('*'),
            '.' => out.push('.'),
            '^' if extended || start => {
                out.push('^');
                now_start = true;
            }
            '$' if extended || ends_here(&chars, at) => out.push('$'),
            '(' | '|' if extended => {
                out.push(c);
                now_start = true;
            }
            ')' if extended => out.push(')'),
            '+' | '?' if extended && !start => out.push(c),
            '{' if extended && !start && is_interval(&chars[at..]) => {
                let end = chars[at..].iter().position(|c| *c == '}').map_or(chars.len(), |n| at + n + 1);
                interval(&mut out, &chars[at..end - 1]);
                at = end;
            }
            // Alternatives on lines of their own.
            '\n' if syntax != Syntax::WholeText => {
                out.push('|');
                now_start = true;
            }
            other => literal(&mut out, other),
        }
        start = now_start;
    }
    Ok(out)
}

fn literal(out: &mut String, c: char) {
    match c.is_ascii() {
        true => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        // A quantifier after it is for the whole letter.
        false => out.push_str(&format!("(?:{c})")),
    }
}

/// Whether `$` is the last character of a basic expression.
fn ends_here(chars: &[char], at: usize) -> bool {
    matches!(chars.get(at..), Some([] | ['\n', ..] | ['\\', ')' | '|', ..]))
}

fn is_interval(rest: &[char]) -> bool {
    let Some(end) = rest.iter().position(|c| *c == '}') else { return false };
    let inside = &rest[..end];
    inside.iter().any(char::is_ascii_digit)
        && inside.iter().all(|c| c.is_ascii_digit() || *c == ',')
        && inside.iter().filter(|c| **c == ',').count() < 2
}

/// `{2}`, `{2,}`, `{2,3}`; `{,3}` has no lower bound in the other syntax.
fn interval(out: &mut String, inside: &[char]) {
    out.push('{');
    if inside.first() == Some(&',') {
        out.push('0');
    }
    out.extend(inside);
    out.push('}');
}

/// A bracket expression, from after its `[`; answers where it ends.
fn bracket(chars: &[char], mut at: usize, out: &mut String) -> Result<usize> {
    out.push('[');
    if chars.get(at) == Some(&'^') {
        // As grep has it, no list matches the end of a line.
        out.push_str("^\\n");
        at += 1;
    }
    let first = at;
    loop {
        let Some(&c) = chars.get(at) else { return Err(Error::usage("unmatched [ in a pattern")) };
        at += 1;
        match (c, chars.get(at)) {
            (']', _) if at > first + 1 => {
                out.push(']');
                return Ok(at);
            }
            ('[', Some(':')) => {
                let end = chars[at..].windows(2).position(|w| w == [':', ']']);
                let Some(end) = end else { return Err(Error::usage("unmatched [: in a pattern")) };
                // `[:alpha:]` is the same in both.
                out.push('[');
                out.extend(&chars[at..at + end + 2]);
                at += end + 2;
            }
            ('[', Some('.' | '=')) => {
                return Err(Error::unsupported("collating elements, [. and [=, in a pattern"));
            }
            // A range keeps its dash; everything else that means something in the other syntax is made harmless.
            ('-', Some(next)) if at > first + 1 && *next != ']' => out.push('-'),
            (c, _) if c.is_ascii_alphanumeric() || !c.is_ascii() => {
                if !c.is_ascii() {
                    return Err(Error::unsupported(format!(
                        "'{c}' in a bracket expression: only ASCII is known there"
                    )));
                }
                out.push(c);
            }
            (c, _) => out
                .extend(['\\', c].into_iter().filter(|x| !(*x == '\\' && matches!(c, ' ' | '\t' | '\n' | '<' | '>')))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pattern: &str, syntax: Syntax, text: &str) -> bool {
        compile(pattern.as_bytes(), syntax, false).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn basic_and_extended() {
        use Syntax::{Basic, Extended, Fixed};
        for (pattern, syntax, text, wanted) in [
            ("a+b", Basic, "a+b", true),
            ("a+b", Extended, "aab", true),
            ("a\\+b", Basic, "aab", true),
            ("^*a", Basic, "*a", true),
            ("\\(ab\\)\\{2\\}", Basic, "abab", true),
            ("a\\|b", Basic, "b", true),
            ("a|b", Basic, "b", false),
            ("a|b", Extended, "b", true),
            ("(ab){2}", Extended, "abab", true),
            ("(ab){,2}$", Extended, "ab", true),
            ("a{x", Extended, "a{x", true),
            ("a$b", Basic, "a$b", true),
            ("a^b", Basic, "a^b", true),
            ("^a$", Basic, "ab", false),
            ("[]a]", Basic, "]", true),
            ("[^]a]", Basic, "]", false),
            ("[[:digit:]x]", Extended, "7", true),
            ("[[:digit:]x]", Extended, "y", false),
            ("[a\\]", Basic, "\\", true),
            ("[a-c]", Basic, "b", true),
            ("[a-]", Basic, "-", true),
            ("[&&[~]", Basic, "~", true),
            ("[<>]", Basic, ">", true),
            ("\\<one\\>", Basic, "a one b", true),
            ("\\<one\\>", Basic, "bones", false),
            ("é+", Extended, "éé", true),
            (".*", Fixed, "a.*b", true),
            (".*", Fixed, "ab", false),
            ("\\.", Extended, "a", false),
            ("/a b/", Basic, "x/a b/", true),
        ] {
            assert_eq!(hits(pattern, syntax, text), wanted, "{pattern} {text}");
        }
        assert!(compile(b"\\(a\\)\\1", Basic, false).unwrap_err().to_string().contains("back reference"));
        assert!(compile(b"(a", Extended, false).is_err());
        assert!(compile(b"[a", Basic, false).is_err());
        assert!(compile(b"a\\", Basic, false).is_err());
        assert!(compile(b"(a{999}){999}", Extended, false).is_err());
        assert!(compile(b"abc", Basic, true).unwrap().is_match(b"xABC"));
    }
}
