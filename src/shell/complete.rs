//! What could stand at the cursor: commands, options, guest paths, devices, host files.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::lex;
use crate::base::{GuestPathBuf, in_quotes, printable, quoted};
use crate::command::{Command, Kind, Need, Param};
use crate::commands;
use crate::fs::FileType;
use crate::session::Session;

/// The most names of one folder that are looked at more closely.
const STAT_LIMIT: usize = 400;

/// One way to go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What lists show.
    pub display: String,
    /// What takes the place of the word so far.
    pub replacement: String,
}

/// The names in a host folder, and whether each is a folder.
pub type HostFolder<'a> = &'a dyn Fn(&Path) -> Vec<(Vec<u8>, bool)>;

/// Who reads the word, and so how it is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A command of the table.
    Command,
    /// The host's shell, behind `!`.
    Host,
}

/// The word at the cursor.
struct Word {
    /// Where it begins in the line.
    start: usize,
    /// Its bytes without quotes and escapes.
    text: Vec<u8>,
    /// Whether it began with `"`.
    quoted: bool,
}

impl Word {
    /// As the name of a command or an option.
    fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }
}

/// Cuts a line up to the cursor into words; the last one is at the cursor and may be empty.
fn words(line: &str) -> Vec<Word> {
    let line = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|byte| is_blank(**byte)).count();
        let start = at;
        // The name of a command has no quotes.
        let quote = line.get(at).copied().filter(|byte| !words.is_empty() && matches!(byte, b'"' | b'\''));
        at += usize::from(quote.is_some());
        let mut text = Vec::new();
        let ended = loop {
            match (quote, line.get(at)) {
                (_, None) => break false,
                (Some(quote), Some(byte)) if *byte == quote => break true,
                (None, Some(byte)) if is_blank(*byte) => break true,
                (Some(b'"'), Some(b'\\')) => {
                    // What is no escape yet stands for itself.
                    let (byte, length) = lex::escape(&line[at + 1..]).unwrap_or((b'\\', 0));
                    text.push(byte);
                    at += 1 + length;
                }
                (_, Some(byte)) => {
                    text.push(*byte);
                    at += 1;
                }
            }
        };
        words.push(Word { start, text, quoted: quote == Some(b'"') });
        if !ended {
            return words;
        }
        at += 1;
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The line after white space and `-` prefixes, with the offset of what is left.
fn after_prefixes(line: &str) -> (usize, &str) {
    let rest = line.trim_start_matches([' ', '\t', '-']);
    (line.len() - rest.len(), rest)
}

/// Candidates for the word before the cursor, sorted, with the place where that word begins.
pub fn complete(session: &Session, host: HostFolder<'_>, line: &str) -> (usize, Vec<Candidate>) {
    let (offset, text) = after_prefixes(line);
    let mut words = words(text);
    let Some(last) = words.pop() else { return (line.len(), Vec::new()) };
    let mut found = Vec::new();
    if text.starts_with('!') || text.starts_with("<!") {
        if !words.is_empty() {
            host_paths(host, &last, Reader::Host, &mut found);
        }
    } else if words.is_empty() {
        command_names(&last, &mut found);
    } else {
        arguments(session, host, &words, &last, &mut found);
    }
    found.sort();
    found.dedup();
    (offset + last.start, found)
}

/// Candidates for an argument of the command that the first word names.
fn arguments(session: &Session, host: HostFolder<'_>, words: &[Word], last: &Word, found: &mut Vec<Candidate>) {
    let Some(command) = commands::lookup(&words[0].name()) else { return };
    let given = words.len() - 1;
    // `glob` and `time` have a command line of their own after them.
    if given > 0 && command.params.first().is_some_and(|p| p.kind == Kind::Command) {
        return arguments(session, host, &words[1..], last, found);
    }
    for param in possible(command, given) {
        match param.need {
            Need::Optional => {
                let used = words.iter().any(|w| w.name().split(':').next() == Some(param.name));
                if !used {
                    option(session, host, param, last, found);
                }
            }
            _ => of_kind(session, host, param.kind, last, found),
        }
    }
}

/// The parameters that word number `index` may be for.
fn possible(command: &Command, index: usize) -> Vec<&'static Param> {
    let positional: Vec<&Param> = command.params.iter().filter(|p| p.need != Need::Optional && p.is_word()).collect();
    let repeated = positional.iter().position(|p| matches!(p.need, Need::Many | Need::Any));
    let mut params: Vec<&Param> = match repeated {
        // From the repeated one on, a word may be one more of it or already one of those that follow.
        Some(at) if index >= at => {
            let shortest = usize::from(positional[at].need == Need::Many);
            let after = index.saturating_sub(at + shortest).min(positional.len() - at - 1);
            positional[at..=at + after].to_vec()
        }
        _ => positional.get(index).copied().into_iter().collect(),
    };
    if index >= positional.len() || repeated.is_some_and(|at| index > at) {
        params.extend(command.params.iter().filter(|p| p.need == Need::Optional));
    }
    params
}

fn option(session: &Session, host: HostFolder<'_>, param: &Param, last: &Word, found: &mut Vec<Candidate>) {
    let name = format!("{}:", param.name);
    if let Some(value) = last.text.strip_prefix(name.as_bytes()) {
        let inner = Word { start: last.start, text: value.to_vec(), quoted: last.quoted };
        let mut values = Vec::new();
        of_kind(session, host, param.kind, &inner, &mut values);
        found.extend(
            values
                .into_iter()
                .map(|c| Candidate { display: c.display, replacement: option_value(&name, &c.replacement) }),
        );
    } else if name.starts_with(&*last.name()) {
        found.push(Candidate { display: param.option_usage(), replacement: name });
    }
}

/// `name:value` as a word: quotes of the value are those of the word.
fn option_value(name: &str, value: &str) -> String {
    match value.strip_prefix('"') {
        Some(value) => format!("\"{name}{value}"),
        None => format!("{name}{value}"),
    }
}

fn of_kind(session: &Session, host: HostFolder<'_>, kind: Kind, last: &Word, found: &mut Vec<Candidate>) {
    match kind {
        Kind::Path => guest_paths(session, last, found),
        Kind::Device | Kind::Mountable => devices(session, last, found),
        Kind::DeviceOrPath => {
            devices(session, last, found);
            guest_paths(session, last, found);
        }
        Kind::FileIn | Kind::FileOut | Kind::HostPath => host_paths(host, last, Reader::Command, found),
        Kind::Bool => plain(["true", "false"], last, found),
        Kind::Command => command_names(last, found),
        Kind::Text
        | Kind::Bytes
        | Kind::List
        | Kind::Key
        | Kind::Int
        | Kind::Int64
        | Kind::Mode
        | Kind::ModeChange
        | Kind::Owner => {}
    }
}

fn plain<'a>(texts: impl IntoIterator<Item = &'a str>, last: &Word, found: &mut Vec<Candidate>) {
    let begin = last.name().to_ascii_lowercase();
    found.extend(
        texts
            .into_iter()
            .filter(|text| text.starts_with(&begin))
            .map(|text| Candidate { display: text.to_string(), replacement: format!("{text} ") }),
    );
}

fn command_names(last: &Word, found: &mut Vec<Candidate>) {
    let dashed = Word { text: last.name().replace('_', "-").into_bytes(), ..*last };
    plain(commands::all().flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied())), &dashed, found);
}

fn devices(session: &Session, last: &Word, found: &mut Vec<Candidate>) {
    // Whoever has no devices yet gets no candidates.
    let names = session.devices().into_iter().chain(session.partitions().unwrap_or_default());
    let names: Vec<String> = names.chain(session.mapped_devices()).collect();
    if last.text.is_empty() || last.text.starts_with(b"/d") {
        plain(names.iter().map(String::as_str), last, found);
    }
}

/// The folder part of a path, up to its last `/`, and the rest.
fn split_path(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1))
}

fn guest_paths(session: &Session, last: &Word, found: &mut Vec<Candidate>) {
    let text: &[u8] = if last.text.is_empty() { b"/" } else { &last.text };
    let (folder, begin) = split_path(text);
    if !folder.starts_with(b"/") {
        return;
    }
    let path = GuestPathBuf::from(folder);
    // What cannot be listed has no candidates; the command will say why.
    let names = session.guest.list_some(&path, &|name| fits(name, begin)).unwrap_or_default();
    let few = names.len() <= STAT_LIMIT;
    let is_folder = |name: &[u8], kind: Option<FileType>| match kind {
        Some(FileType::Symlink) | None if few => {
            session.guest.stat(&path.join(name)).is_ok_and(|found| found.file_type == FileType::Directory)
        }
        kind => kind == Some(FileType::Directory),
    };
    let names = names.into_iter().map(|(name, kind)| (name.to_vec(), is_folder(&name, kind)));
    push_paths(folder, names.collect(), last, Reader::Command, found);
}

fn host_paths(host: HostFolder<'_>, last: &Word, reader: Reader, found: &mut Vec<Candidate>) {
    let (folder, begin) = split_path(&last.text);
    let path = if folder.is_empty() { b"." } else { folder };
    let mut names = host(Path::new(OsStr::from_bytes(path)));
    names.retain(|(name, _)| fits(name, begin) && (reader == Reader::Command || is_plain(name)));
    push_paths(folder, names, last, reader, found);
}

/// Whether a name goes on from what was typed; names with a dot only if a dot was typed. An image may hold names that are none.
fn fits(name: &[u8], begin: &[u8]) -> bool {
    if name.is_empty() || name.contains(&b'/') {
        return false;
    }
    let same = name.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin));
    same && (begin.starts_with(b".") || !name.starts_with(b"."))
}

/// Whether a name can be typed as it is.
fn is_plain(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(char::is_control))
}

/// Candidates for names in a folder. If one of them needs quotes all get them: what they have in common is inserted.
fn push_paths(folder: &[u8], names: Vec<(Vec<u8>, bool)>, last: &Word, reader: Reader, found: &mut Vec<Candidate>) {
    let special = |name: &[u8]| match reader {
        Reader::Command => quoted(&[folder, name].concat()).starts_with('"'),
        Reader::Host => {
            !name.iter().chain(folder).all(|byte| byte.is_ascii_alphanumeric() || b"_./+:@%,=-".contains(byte))
        }
    };
    let quotes = last.quoted || names.iter().any(|(name, _)| special(name));
    for (name, is_folder) in names {
        let path = [folder, &name].concat();
        let mut replacement = match (quotes, reader) {
            (false, _) => printable(&path),
            (true, Reader::Command) => in_quotes(&path),
            (true, Reader::Host) => for_host(&path),
        };
        match (is_folder, quotes) {
            // The quotes stay open for what comes behind the slash.
            (true, true) => {
                replacement.pop();
                replacement.push('/');
            }
            (true, false) => replacement.push('/'),
            (false, _) => replacement.push(' '),
        }
        let display = format!("{}{}", printable(&name), if is_folder { "/" } else { "" });
        found.push(Candidate { display, replacement });
    }
}

/// Bytes in double quotes as the host's shell reads them.
fn for_host(path: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in String::from_utf8_lossy(path).chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// The arguments that are still missing at the end of a line, as usage lines show them.
pub fn hint(line: &str) -> Option<String> {
    let (_, text) = after_prefixes(line);
    if !text.ends_with([' ', '\t']) {
        return None;
    }
    let words = words(text);
    let command = commands::lookup(&words.first()?.name())?;
    let given = words.len().checked_sub(2)?;
    let usage = command.synopsis();
    let rest = usage.split(' ').skip(1 + given).collect::<Vec<_>>().join(" ");
    let repeated = command.params.iter().any(|p| matches!(p.need, Need::Many | Need::Any));
    let complete = rest.is_empty() || (repeated && given > 0);
    (!complete).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        words(line).into_iter().map(|w| w.name().into_owned()).collect()
    }

    #[test]
    fn words_up_to_the_cursor() {
        assert_eq!(texts("cat /a"), ["cat", "/a"]);
        assert_eq!(texts("cat "), ["cat", ""]);
        assert_eq!(texts("cat \"/a b\" \"/c \\\"d"), ["cat", "/a b", "/c \"d"]);
        assert_eq!(texts(""), [""]);
        assert_eq!(texts("cat \"/a\\x41\\n\\"), ["cat", "/aA\n\\"]);
        assert_eq!(words("cat \"\\xff")[1].text, b"\xff");
        let words = words("cp '/a b' /c");
        assert_eq!((words[2].start, words[1].start), (10, 3));
    }

    #[test]
    fn values_of_options_are_quoted_with_their_names() {
        assert_eq!(option_value("to:", "/a "), "to:/a ");
        assert_eq!(option_value("to:", "\"/a b\" "), "\"to:/a b\" ");
    }

    fn replacements(line: &str, names: &[(&[u8], bool)]) -> (usize, Vec<String>) {
        let names: Vec<_> = names.iter().map(|(name, folder)| (name.to_vec(), *folder)).collect();
        let host = |folder: &Path| {
            assert_eq!(folder, Path::new("sub/"));
            names.clone()
        };
        let (start, found) = complete(&Session::default(), &host, line);
        (start, found.into_iter().map(|c| c.replacement).collect())
    }

    #[test]
    fn host_names_are_quoted_where_they_must() {
        let names: &[(&[u8], bool)] =
            &[(b"a $b", false), (b"ad", true), (b"x", false), (b".ah", false), (b"a\x1b", false)];
        // What the host's shell reads: nothing that cannot be typed.
        assert_eq!(replacements("!ls sub/a", names), (4, vec!["\"sub/a \\$b\" ".into(), "\"sub/ad/".into()]));
        assert_eq!(replacements("!ls sub/x", names), (4, vec!["sub/x ".into()]));
        let (start, found) = replacements("lcd \"sub/a", names);
        assert_eq!((start, found.len()), (4, 3));
        assert_eq!(found, ["\"sub/a $b\" ", "\"sub/a\\x1b\" ", "\"sub/ad/"]);
    }

    #[test]
    fn what_is_inserted_is_read_back() {
        for name in [&b"a b"[..], b"a\"b", b"a'b", b"a\\b", b"a\tb\n", b"a\xffb", b"a|b", "aé".as_bytes(), b"a\x1b[2Jb"]
        {
            let (_, found) = replacements("lcd sub/a", &[(name, false), (b"ab", false)]);
            let line = format!("lcd {}", found.iter().find(|text| !text.contains("/ab")).unwrap());
            let read = lex::command_line(line.as_bytes(), &|_| None).unwrap();
            assert_eq!(read.words, [[b"sub/", name].concat()], "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
            // What is common to all can be completed further.
            assert!(found.iter().all(|text| text.starts_with('"') == found[0].starts_with('"')), "{found:?}");
        }
    }
}
