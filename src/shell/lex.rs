//! From a line to words: prefixes, quotes, escapes, pipes, lists.

use std::fmt;

/// The longest line, in bytes; what is over is taken as the next line.
pub const LINE_LIMIT: usize = 8191;
/// The most words after the command.
pub const WORD_LIMIT: usize = 63;

/// What a line asks for, before its words are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement<'a> {
    /// Empty, or a comment.
    Nothing,
    /// `!`: the rest is for the host's shell.
    Host(&'a [u8]),
    /// `<!`: the rest is for the host's shell, its output is lines of this language.
    Generate(&'a [u8]),
    /// A command with its words.
    Command(&'a [u8]),
}

/// Reads the prefixes of a line. The truth says whether the line may fail (`-`).
pub fn statement(line: &[u8]) -> (bool, Statement<'_>) {
    // The language is C's: a NUL ends the line.
    let mut rest = line.split(|b| *b == 0).next().unwrap_or_default();
    let mut may_fail = false;
    loop {
        rest = rest.trim_ascii_start();
        match rest {
            [] | [b'#', ..] => return (may_fail, Statement::Nothing),
            [b'!', command @ ..] => return (may_fail, Statement::Host(command)),
            [b'<', b'!', command @ ..] => return (may_fail, Statement::Generate(command)),
            [b'-', after @ ..] => {
                may_fail = true;
                rest = after;
            }
            _ => return (may_fail, Statement::Command(rest)),
        }
    }
}

/// A command with its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The command's name as it was typed.
    pub name: Vec<u8>,
    /// Its words.
    pub words: Vec<Vec<u8>>,
    /// The host command that its output goes to.
    pub pipe: Option<Vec<u8>>,
}

/// Why words could not be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LexError {
    /// No closing `"`.
    UnterminatedDouble,
    /// No closing `'`.
    UnterminatedSingle,
    /// Text right after a closing quote.
    NotSeparated,
    /// An unknown escape, with the offset in the text so far.
    BadEscape(usize),
    /// More than [`WORD_LIMIT`].
    TooManyWords,
    /// An open single quote in a list.
    RunawayQuote(String),
}

impl fmt::Display for LexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LexError::UnterminatedDouble => f.write_str("unterminated double quote"),
            LexError::UnterminatedSingle => f.write_str("unterminated single quote"),
            LexError::NotSeparated => f.write_str("command arguments not separated by whitespace"),
            LexError::BadEscape(at) => write!(f, "invalid escape sequence in string (starting at offset {at})"),
            LexError::TooManyWords => f.write_str("too many arguments"),
            LexError::RunawayQuote(text) => write!(f, "Runaway quote in string \"{text}\""),
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| !is_blank(*b)).unwrap_or(text.len());
    &text[end..]
}

/// Splits at the first blank.
fn bare_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| is_blank(*b)).unwrap_or(text.len()))
}

/// Answers the home folder of a user (`None`: the caller's).
pub type Home<'a> = dyn Fn(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Cuts a command statement into words.
///
/// # Errors
/// Broken quoting, too many words.
pub fn command_line(text: &[u8], home: &Home) -> Result<CommandLine, LexError> {
    let (name, rest) = bare_word(text);
    let mut line = CommandLine { name: name.to_vec(), ..CommandLine::default() };
    let mut rest = skip_blanks(rest);
    while let Some(first) = rest.first() {
        let (word, after) = match first {
            b'"' => double_quoted(&rest[1..])?,
            b'\'' => {
                let end = rest[1..].iter().position(|b| *b == b'\'').ok_or(LexError::UnterminatedSingle)?;
                (rest[1..=end].to_vec(), &rest[end + 2..])
            }
            b'|' => {
                line.pipe = Some(rest[1..].to_vec());
                break;
            }
            _ => {
                let (word, after) = bare_word(rest);
                (tilde(word, home), after)
            }
        };
        if after.first().is_some_and(|b| !is_blank(*b)) {
            return Err(LexError::NotSeparated);
        }
        if line.words.len() == WORD_LIMIT {
            return Err(LexError::TooManyWords);
        }
        line.words.push(word);
        rest = skip_blanks(after);
    }
    Ok(line)
}

/// The text after an opening `"`: the word, and what follows the closing one.
fn double_quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), LexError> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [] => return Err(LexError::UnterminatedDouble),
            [b'"', after @ ..] => return Ok((word, after)),
            [b'\\', after @ ..] => {
                let (byte, length) = escape(after).ok_or(LexError::BadEscape(word.len()))?;
                word.push(byte);
                rest = &after[length..];
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// The byte that an escape stands for, and the escape's length after the backslash.
pub(super) fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let byte = match *text.first()? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        same @ (b'\\' | b'"' | b'\'' | b'?') => same,
        b'x' => return number(text.get(1..3)?, 16).map(|byte| (byte, 3)),
        b'0'..=b'7' => return number(text.get(..3)?, 8).map(|byte| (byte, 3)),
        _ => return None,
    };
    Some((byte, 1))
}

/// A number of 1 to 255 in exactly these digits.
fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let value = digits.iter().try_fold(0u32, |sum, d| Some(sum * radix + (*d as char).to_digit(radix)?))?;
    u8::try_from(value).ok().filter(|byte| *byte != 0)
}

/// Expands `~` and `~user` at the start of a bare word.
fn tilde(word: &[u8], home: &Home) -> Vec<u8> {
    let Some(after) = word.strip_prefix(b"~") else { return word.to_vec() };
    let (user, path) = after.split_at(after.iter().position(|b| *b == b'/').unwrap_or(after.len()));
    match home((!user.is_empty()).then_some(user)) {
        Some(mut folder) => {
            folder.extend_from_slice(path);
            folder
        }
        None => word.to_vec(),
    }
}

/// The elements of a list in one word: split at blanks, single quotes toggle, `\'` is a literal quote.
///
/// # Errors
/// A quote left open.
pub fn list(text: &[u8]) -> Result<Vec<Vec<u8>>, LexError> {
    let mut items = Vec::new();
    let mut item: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'\\' if after.first() == Some(&b'\'') => {
                item.get_or_insert_default().push(b'\'');
                rest = &after[1..];
            }
            b'\'' => {
                quoted = !quoted;
                item.get_or_insert_default();
            }
            blank if is_blank(*blank) && !quoted => items.extend(item.take()),
            other => item.get_or_insert_default().push(*other),
        }
    }
    if quoted {
        return Err(LexError::RunawayQuote(String::from_utf8_lossy(text).into_owned()));
    }
    items.extend(item);
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Result<CommandLine, LexError> {
        command_line(text.as_bytes(), &|user| match user {
            None => Some(b"/home/me".to_vec()),
            Some(b"root") => Some(b"/root".to_vec()),
            Some(_) => None,
        })
    }

    fn words(text: &str) -> Vec<String> {
        cut(text).unwrap().words.into_iter().map(|w| String::from_utf8_lossy(&w).into_owned()).collect()
    }

    #[test]
    fn prefixes() {
        assert_eq!(statement(b"  # x"), (false, Statement::Nothing));
        assert_eq!(statement(b"\t\r"), (false, Statement::Nothing));
        assert_eq!(statement(b"--  -cmd a\0b"), (true, Statement::Command(b"cmd a")));
        assert_eq!(statement(b"-!x"), (true, Statement::Host(b"x")));
        assert_eq!(statement(b"!-x"), (false, Statement::Host(b"-x")));
        assert_eq!(statement(b"-<! x"), (true, Statement::Generate(b" x")));
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("c a  b\t\tc"), ["a", "b", "c"]);
        assert_eq!(words("c \"a  b\" 'c\\n' a\"b c'd #x"), ["a  b", "c\\n", "a\"b", "c'd", "#x"]);
        assert_eq!(words("c '' \"\""), ["", ""]);
        assert_eq!(words("c a\r"), ["a\r"]);
        assert_eq!(words("c \"\\x41\\101\\t\\\"\""), ["AA\t\""]);
        assert_eq!(cut("\"echo\" a").unwrap().name, b"\"echo\"");
    }

    #[test]
    fn broken_quotes() {
        assert_eq!(cut("c \"a"), Err(LexError::UnterminatedDouble));
        assert_eq!(cut("c 'a"), Err(LexError::UnterminatedSingle));
        assert_eq!(cut("c \"a\"b"), Err(LexError::NotSeparated));
        assert_eq!(cut("c 'a''b'"), Err(LexError::NotSeparated));
        assert_eq!(cut("c \"ab\\q\""), Err(LexError::BadEscape(2)));
        assert_eq!(cut("c \"\\000\""), Err(LexError::BadEscape(0)));
        assert_eq!(cut("c \"\\777\""), Err(LexError::BadEscape(0)));
        assert_eq!(cut("c \"\\x4\""), Err(LexError::BadEscape(0)));
        assert_eq!(cut(&format!("c{}", " w".repeat(64))), Err(LexError::TooManyWords));
        assert_eq!(cut(&format!("c{}", " w".repeat(63))).unwrap().words.len(), 63);
    }

    #[test]
    fn pipes() {
        let line = cut("c a |  sort -u").unwrap();
        assert_eq!((line.words, line.pipe), (vec![b"a".to_vec()], Some(b"  sort -u".to_vec())));
        assert_eq!(cut("c a|b \"|\"").unwrap().pipe, None);
        assert_eq!(cut("c |x").unwrap().pipe, Some(b"x".to_vec()));
    }

    #[test]
    fn homes() {
        assert_eq!(
            words("c ~ ~/x a~ '~' ~root/y ~nobody-here/z"),
            ["/home/me", "/home/me/x", "a~", "~", "/root/y", "~nobody-here/z"]
        );
    }

    #[test]
    fn lists() {
        let of = |text: &str| {
            let items = list(text.as_bytes())?;
            Ok::<_, LexError>(items.into_iter().map(|i| String::from_utf8(i).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(of(" a  b\tc ").unwrap(), ["a", "b", "c"]);
        assert_eq!(of("foo' 'bar 'a b' ''").unwrap(), ["foo bar", "a b", ""]);
        assert_eq!(of("it\\'s 'it\\'s ok' a\\b").unwrap(), ["it's", "it's ok", "a\\b"]);
        assert_eq!(of("").unwrap(), Vec::<String>::new());
        assert_eq!(of("a 'b"), Err(LexError::RunawayQuote("a 'b".into())));
    }
}
