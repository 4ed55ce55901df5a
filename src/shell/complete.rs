//! What could stand at the cursor: commands, options, guest paths, devices, host files.

use std::path::Path;

use crate::base::GuestPathBuf;
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
pub type HostFolder<'a> = &'a dyn Fn(&Path) -> Vec<(String, bool)>;

/// The word at the cursor.
struct Word {
    /// Where it begins in the line.
    start: usize,
    /// Its text without quotes and escapes.
    text: String,
    /// Whether it began with `"`.
    quoted: bool,
}

/// Cuts a line up to the cursor into words; the last one is at the cursor and may be empty.
fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = line.char_indices().peekable();
    loop {
        while chars.next_if(|(_, c)| *c == ' ' || *c == '\t').is_some() {}
        let start = chars.peek().map_or(line.len(), |(at, _)| *at);
        let quote = if words.is_empty() { None } else { chars.next_if(|(_, c)| matches!(c, '"' | '\'')).map(|q| q.1) };
        let mut text = String::new();
        let mut open = true;
        while open {
            match (quote, chars.next()) {
                (_, None) => {
                    words.push(Word { start, text, quoted: quote == Some('"') });
                    return words;
                }
                (Some('"'), Some((_, '\\'))) => text.extend(chars.next().map(|(_, c)| c)),
                (Some(quote), Some((_, c))) if c == quote => open = false,
                (None, Some((_, ' ' | '\t'))) => open = false,
                (_, Some((_, c))) => text.push(c),
            }
        }
        words.push(Word { start, text, quoted: quote == Some('"') });
    }
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
            host_paths(host, &last, &mut found);
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
    let Some(command) = commands::lookup(&words[0].text) else { return };
    let given = words.len() - 1;
    // `glob` and `time` have a command line of their own after them.
    if given > 0 && command.params.first().is_some_and(|p| p.kind == Kind::Command) {
        return arguments(session, host, &words[1..], last, found);
    }
    for param in possible(command, given) {
        match param.need {
            Need::Optional => {
                let used = words.iter().any(|w| w.text.split(':').next() == Some(param.name));
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
    if let Some(value) = last.text.strip_prefix(&name) {
        let inner = Word { start: last.start, text: value.to_string(), quoted: false };
        let mut values = Vec::new();
        of_kind(session, host, param.kind, &inner, &mut values);
        found.extend(
            values
                .into_iter()
                .filter(|c| !c.replacement.starts_with('"'))
                .map(|c| Candidate { display: c.display, replacement: format!("{name}{}", c.replacement) }),
        );
    } else if name.starts_with(&last.text) {
        found.push(Candidate { display: param.option_usage(), replacement: name });
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
        Kind::FileIn | Kind::FileOut | Kind::HostPath => host_paths(host, last, found),
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
    let begin = last.text.to_ascii_lowercase();
    found.extend(
        texts
            .into_iter()
            .filter(|text| text.starts_with(&begin))
            .map(|text| Candidate { display: text.to_string(), replacement: format!("{text} ") }),
    );
}

fn command_names(last: &Word, found: &mut Vec<Candidate>) {
    let dashed = Word { text: last.text.replace('_', "-"), ..*last };
    plain(commands::all().flat_map(|c| std::iter::once(c.name).chain(c.aliases.iter().copied())), &dashed, found);
}

fn devices(session: &Session, last: &Word, found: &mut Vec<Candidate>) {
    // Whoever has no devices yet gets no candidates.
    let names = session.devices().into_iter().chain(session.partitions().unwrap_or_default());
    let names: Vec<String> = names.chain(session.mapped_devices()).collect();
    if last.text.is_empty() || last.text.starts_with("/d") {
        plain(names.iter().map(String::as_str), last, found);
    }
}

/// The folder part of a path, up to its last `/`, and the rest.
fn split_path(text: &str) -> (&str, &str) {
    text.split_at(text.rfind('/').map_or(0, |at| at + 1))
}

fn guest_paths(session: &Session, last: &Word, found: &mut Vec<Candidate>) {
    let text = if last.text.is_empty() { "/" } else { &last.text };
    let (folder, begin) = split_path(text);
    if !folder.starts_with('/') {
        return;
    }
    let path = GuestPathBuf::from(folder);
    // What cannot be listed has no candidates; the command will say why.
    let names = session.guest.list(&path).unwrap_or_default();
    let names: Vec<&str> =
        names.iter().filter_map(|n| std::str::from_utf8(n).ok()).filter(|n| fits(n, begin)).collect();
    for name in &names {
        let is_folder = names.len() <= STAT_LIMIT
            && session.guest.stat(&path.join(name.as_bytes())).is_ok_and(|m| m.file_type == FileType::Directory);
        push_path(folder, name, is_folder, last, found);
    }
}

fn host_paths(host: HostFolder<'_>, last: &Word, found: &mut Vec<Candidate>) {
    let (folder, begin) = split_path(&last.text);
    for (name, is_folder) in host(Path::new(if folder.is_empty() { "." } else { folder })) {
        if fits(&name, begin) {
            push_path(folder, &name, is_folder, last, found);
        }
    }
}

/// Whether a name goes on from what was typed; names with a dot only if a dot was typed.
fn fits(name: &str, begin: &str) -> bool {
    let same = name.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin));
    same && (begin.starts_with('.') || !name.starts_with('.')) && !name.chars().any(char::is_control)
}

fn push_path(folder: &str, name: &str, is_folder: bool, last: &Word, found: &mut Vec<Candidate>) {
    let path = format!("{folder}{name}");
    let special = |c: char| matches!(c, ' ' | '\t' | '"' | '\'' | '|');
    let quoted = last.quoted || path.contains(special) || path.starts_with('~') && folder.is_empty();
    let mut replacement = match quoted {
        true => format!("\"{}", path.replace('\\', "\\\\").replace('"', "\\\"")),
        false => path,
    };
    match (is_folder, quoted) {
        (true, _) => replacement.push('/'),
        (false, true) => replacement.push_str("\" "),
        (false, false) => replacement.push(' '),
    }
    let display = format!("{name}{}", if is_folder { "/" } else { "" });
    found.push(Candidate { display, replacement });
}

/// The arguments that are still missing at the end of a line, as usage lines show them.
pub fn hint(line: &str) -> Option<String> {
    let (_, text) = after_prefixes(line);
    if !text.ends_with([' ', '\t']) {
        return None;
    }
    let words = words(text);
    let command = commands::lookup(&words.first()?.text)?;
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
        words(line).into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn words_up_to_the_cursor() {
        assert_eq!(texts("cat /a"), ["cat", "/a"]);
        assert_eq!(texts("cat "), ["cat", ""]);
        assert_eq!(texts("cat \"/a b\" \"/c \\\"d"), ["cat", "/a b", "/c \"d"]);
        assert_eq!(texts(""), [""]);
        let words = words("cp '/a b' /c");
        assert_eq!((words[2].start, words[1].start), (10, 3));
    }

    #[test]
    fn host_names_are_quoted_where_they_must() {
        let host = |folder: &Path| {
            assert_eq!(folder, Path::new("sub/"));
            vec![
                ("a b".to_string(), false),
                ("ad".to_string(), true),
                ("x".to_string(), false),
                (".ah".to_string(), false),
            ]
        };
        let (start, found) = complete(&Session::default(), &host, "!ls sub/a");
        assert_eq!(start, 4);
        let replacements: Vec<_> = found.iter().map(|c| c.replacement.as_str()).collect();
        assert_eq!(replacements, ["\"sub/a b\" ", "sub/ad/"]);
    }
}
