//! From words to arguments, by a command's parameters.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::report::Failure;
use super::{lex, usage};
use crate::base::{GuestPathBuf, size, spelling};
use crate::command::{Arg, Args, Command, HostFile, Kind, Need, Param};

/// Where arguments come from that are no words of the line.
pub trait Sources {
    /// The lines of a heredoc up to its end marker.
    ///
    /// # Errors
    /// No such marker.
    fn heredoc(&mut self, marker: &[u8]) -> Result<Vec<u8>, Failure>;
    /// A passphrase, asked for by the parameter's name.
    ///
    /// # Errors
    /// Nobody gives one.
    fn key(&mut self, name: &str) -> Result<Vec<u8>, Failure>;
}

/// Reads words as the arguments of a command. `typed` is the command's name as the user wrote it.
///
/// # Errors
/// A wrong number of words, an unknown or repeated option, a value that its kind refuses. Values are read
/// in the order of the parameters, and none after the first that fails.
pub fn bind(
    command: &'static Command,
    typed: &str,
    words: Vec<Vec<u8>>,
    sources: &mut dyn Sources,
) -> Result<Args, Failure> {
    let params = command.params;
    let split = split(params, &words).ok_or_else(|| wrong_count(command, typed))?;
    let mut values: Vec<Option<Arg>> = vec![None; params.len()];
    let mut words = words.into_iter();
    for ((param, slot), count) in params.iter().zip(&mut values).zip(&split.counts) {
        let mut taken = words.by_ref().take(*count);
        *slot = match param.need {
            Need::Optional => None,
            _ if !param.is_word() => Some(Arg::Bytes(sources.key(param.name)?)),
            Need::Many | Need::Any => Some(Arg::List(taken.collect())),
            Need::Required | Need::Maybe => match taken.next() {
                Some(word) => Some(value(param, typed, word, sources)?),
                None => None,
            },
        };
    }
    for word in words {
        let (index, text) = option(params, &word).ok_or_else(|| {
            let word = String::from_utf8_lossy(&word);
            let near = near_option(params, word.split(':').next().unwrap_or_default());
            let hint = near.map(|near| format!("\n  hint: did you mean {near}?")).unwrap_or_default();
            Failure::Plain(format!("{typed}: unknown optional argument \"{word}\"{hint}"))
        })?;
        let param = &params[index];
        if values[index].is_some() {
            let name = param.name;
            return Err(Failure::Plain(format!("{typed}: optional argument \"{name}\" given more than once")));
        }
        values[index] = Some(value(param, typed, text.to_vec(), sources)?);
    }
    Ok(Args::new(params, values))
}

/// The option that is nearest to a mistyped name, as usage lines show it.
fn near_option(params: &[Param], name: &str) -> Option<String> {
    let options = params.iter().filter(|param| param.need == Need::Optional);
    let near = spelling::nearest(name, options.clone().map(|param| param.name))?;
    options.clone().find(|param| param.name == near).map(Param::option_usage)
}

fn wrong_count(command: &Command, typed: &str) -> Failure {
    if let Some(line) = usage::of(command) {
        return Failure::Plain(line.to_string());
    }
    let usage = command.synopsis();
    Failure::Plain(format!(
        "error: incorrect number of arguments\nusage: {usage}\ntype 'help {typed}' for more help on {typed}"
    ))
}

/// How many words go to each parameter; the rest are options.
struct Split {
    counts: Vec<usize>,
}

/// Deals the words out, `None` if there are too few or too many.
fn split(params: &[Param], words: &[Vec<u8>]) -> Option<Split> {
    let count = |need: Need| params.iter().filter(|p| p.need == need && p.is_word()).count();
    let (required, many, any) = (count(Need::Required), count(Need::Many), count(Need::Any));
    let (maybe, optional) = (count(Need::Maybe), count(Need::Optional));
    let least = required + many;
    let mut given = words.len();
    if many + any > 0 {
        // Without a fixed number of words, only those at the end that name an option are options.
        let options = words.iter().rev().take_while(|w| option(params, w).is_some()).count();
        given = given.checked_sub(options.min(given.saturating_sub(least)))?;
    } else if given > least + maybe + optional {
        return None;
    } else if optional > 0 {
        given = given.min(least + maybe);
    }
    let mut spare = given.checked_sub(least)?;
    let counts = params
        .iter()
        .map(|param| match param.need {
            Need::Required => usize::from(param.is_word()),
            Need::Many => 1 + std::mem::take(&mut spare),
            Need::Any => std::mem::take(&mut spare),
            Need::Maybe if spare > 0 => {
                spare -= 1;
                1
            }
            Need::Maybe | Need::Optional => 0,
        })
        .collect();
    Some(Split { counts })
}

/// The option that a word `name:value` is for, and its value.
fn option<'w>(params: &[Param], word: &'w [u8]) -> Option<(usize, &'w [u8])> {
    let colon = word.iter().position(|b| *b == b':')?;
    let index = params.iter().position(|p| p.need == Need::Optional && p.name.as_bytes() == &word[..colon])?;
    Some((index, &word[colon + 1..]))
}

fn value(param: &Param, typed: &str, word: Vec<u8>, sources: &mut dyn Sources) -> Result<Arg, Failure> {
    let host = |word: Vec<u8>| PathBuf::from(OsString::from_vec(word));
    Ok(match param.kind {
        Kind::Text | Kind::Bytes | Kind::Device | Kind::Mountable | Kind::DeviceOrPath | Kind::Command | Kind::Key => {
            Arg::Bytes(word)
        }
        Kind::Path => Arg::Path(GuestPathBuf(word)),
        Kind::FileIn => match word.strip_prefix(b"-<<") {
            Some(b"") => return Err(Failure::Shell("missing end marker in -<< expression".into())),
            Some(marker) => Arg::File(HostFile::Inline(sources.heredoc(marker)?)),
            None if word == b"-" => Arg::File(HostFile::Standard),
            None => Arg::File(HostFile::Path(host(word))),
        },
        Kind::FileOut if word == b"-" => Arg::File(HostFile::Standard),
        Kind::FileOut => Arg::File(HostFile::Path(host(word))),
        Kind::HostPath => Arg::Host(host(word)),
        Kind::List => Arg::List(lex::list(&word)?),
        Kind::Bool => Arg::Bool(boolean(&word).ok_or_else(|| {
            let text = String::from_utf8_lossy(&word);
            Failure::Shell(format!("'{text}': invalid boolean value, use 'true' or 'false'"))
        })?),
        // Numbers begin with a digit or a sign; `-x` is a change of a mode.
        Kind::ModeChange if !is_number(&word) => Arg::Bytes(word),
        Kind::Owner if !is_number(&word) => Arg::Bytes(word),
        Kind::Int | Kind::Mode | Kind::ModeChange | Kind::Owner => {
            Arg::Int(integer(param, typed, &word, i32::MIN.into()..=i32::MAX.into())?)
        }
        Kind::Int64 => Arg::Int(integer(param, typed, &word, i64::MIN..=i64::MAX)?),
    })
}

/// Whether a word is a number: digits, perhaps with a sign.
fn is_number(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").or(word.strip_prefix(b"+")).unwrap_or(word);
    digits.first().is_some_and(u8::is_ascii_digit)
}

fn boolean(word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"1" | b"true" | b"t" | b"yes" | b"y" | b"on" => Some(true),
        b"0" | b"false" | b"f" | b"no" | b"n" | b"off" => Some(false),
        _ => None,
    }
}

fn integer(param: &Param, typed: &str, word: &[u8], range: std::ops::RangeInclusive<i64>) -> Result<i64, Failure> {
    let name = param.name;
    let number = size::integer(&String::from_utf8_lossy(word)).map_err(|error| {
        let code = error as u8;
        Failure::Plain(format!("{typed}: {name}: invalid integer parameter (xstrtoll returned {code})"))
    })?;
    match range.contains(&number) {
        true => Ok(number),
        false => Err(Failure::Plain(format!("{typed}: {name}: integer out of range"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Effect, Returns, Value};

    const fn param(name: &'static str, kind: Kind, need: Need) -> Param {
        Param { name, kind, need }
    }

    const fn command(params: &'static [Param]) -> Command {
        Command {
            name: "a-command",
            aliases: &[],
            summary: "",
            help: "",
            params,
            returns: Returns::Nothing,
            effect: Effect::Reads,
            examples: &[],
            run: |_, _| Ok(Value::Nothing),
        }
    }

    /// Sources for tests: a heredoc is its marker, a key its name.
    struct Given;

    impl Sources for Given {
        fn heredoc(&mut self, marker: &[u8]) -> Result<Vec<u8>, Failure> {
            Ok([marker, b"!"].concat())
        }

        fn key(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
            Ok(format!("the {name}").into_bytes())
        }
    }

    static OPEN: Command = command(&[
        param("device", Kind::Text, Need::Required),
        param("key", Kind::Key, Need::Required),
        param("name", Kind::Text, Need::Required),
        param("readonly", Kind::Bool, Need::Optional),
    ]);
    static COPY: Command = command(&[
        param("local", Kind::HostPath, Need::Many),
        param("dir", Kind::Path, Need::Required),
        param("xattrs", Kind::Bool, Need::Optional),
    ]);
    static FILE: Command = command(&[
        param("file", Kind::FileIn, Need::Required),
        param("mode", Kind::Mode, Need::Required),
        param("size", Kind::Int64, Need::Optional),
        param("names", Kind::List, Need::Optional),
    ]);
    static PAGER: Command = command(&[param("a", Kind::Text, Need::Required), param("b", Kind::Text, Need::Maybe)]);

    fn bound(command: &'static Command, words: &[&str]) -> Result<Args, String> {
        let words = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        bind(command, "typed", words, &mut Given).map_err(|failure| match failure {
            Failure::Plain(text) => text,
            Failure::Shell(text) => format!("imgsh: {text}"),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn many_words_and_options() {
        let args = bound(&COPY, &["a", "b", "/d", "xattrs:yes"]).unwrap();
        assert_eq!(args.list("local"), [b"a", b"b"]);
        assert_eq!((args.path("dir"), args.bool("xattrs")), ("/d".into(), true));
        assert_eq!(bound(&COPY, &["a", "/d"]).unwrap().list("local"), [b"a"]);
        assert!(bound(&COPY, &["a"]).unwrap_err().starts_with("error: incorrect number of arguments\nusage: a-command local [local...] dir [xattrs:true|false]\ntype 'help typed'"));
        assert_eq!(bound(&PAGER, &["a"]).unwrap().text_if("b"), None);
        assert_eq!(bound(&PAGER, &["a", "c"]).unwrap().text("b"), "c");
        assert!(bound(&PAGER, &["a", "b", "c"]).is_err());
        assert!(bound(&PAGER, &[]).is_err());
    }

    #[test]
    fn keys_are_no_words() {
        let args = bound(&OPEN, &["d", "n", "readonly:yes"]).unwrap();
        assert_eq!(
            (args.text("device"), args.text("key"), args.text("name")),
            ("d".into(), "the key".into(), "n".into())
        );
        assert!(args.bool("readonly"));
        let unknown = bound(&OPEN, &["d", "secret", "n"]).unwrap_err();
        assert!(unknown.contains("unknown optional argument \"n\""), "{unknown}");
        assert!(bound(&OPEN, &["d"]).unwrap_err().contains("usage: a-command device name [readonly:true|false]\n"));
    }

    #[test]
    fn files_numbers_lists() {
        let args = bound(&FILE, &["-<<EOF", "0644", "names:a 'b c'", "size:1K"]).unwrap();
        assert_eq!(args.file("file"), HostFile::Inline(b"EOF!".to_vec()));
        assert_eq!((args.int("mode"), args.int("size")), (0o644, 1024));
        assert_eq!(args.list("names"), [b"a".as_slice(), b"b c"]);
        assert_eq!(bound(&FILE, &["-", "755"]).unwrap().int("mode"), 755);
        assert_eq!(bound(&FILE, &["-<<", "1"]).unwrap_err(), "imgsh: missing end marker in -<< expression");
    }

    #[test]
    fn refused_values() {
        let refused = |words: &[&str]| bound(&FILE, words).unwrap_err();
        assert_eq!(refused(&["f", "x"]), "typed: mode: invalid integer parameter (xstrtoll returned 4)");
        assert_eq!(refused(&["f", "1q"]), "typed: mode: invalid integer parameter (xstrtoll returned 2)");
        assert_eq!(refused(&["f", "3G"]), "typed: mode: integer out of range");
        assert_eq!(refused(&["f", "1", "bogus:1"]), "typed: unknown optional argument \"bogus:1\"");
        assert_eq!(refused(&["f", "1", "raw"]), "typed: unknown optional argument \"raw\"");
        assert_eq!(refused(&["f", "1", "size:1", "size:2"]), "typed: optional argument \"size\" given more than once");
        assert_eq!(refused(&["f", "1", "names:'a"]), "Runaway quote in string \"'a\"");
        assert_eq!(
            bound(&COPY, &["a", "/d", "xattrs:maybe"]).unwrap_err(),
            "imgsh: 'maybe': invalid boolean value, use 'true' or 'false'"
        );
    }
}
