//! Help from the command table.

use std::fmt::Write;

use crate::command::Command;
use crate::commands::{self, GROUPS};

/// Help on a name: a command, or why there is none.
pub fn on(name: &str) -> Option<String> {
    if let Some(command) = commands::lookup(name) {
        return Some(of(command));
    }
    let refusal = commands::refusal(name)?;
    let mut text = format!("NAME\n    {name} - not supported\n\nDESCRIPTION\n");
    indented(&mut text, &format!("{}: {}.\n\nInstead: {}.", name, refusal.reason, refusal.instead));
    Some(text)
}

/// Help on one command.
pub fn of(command: &Command) -> String {
    let mut text = format!(
        "NAME\n    {} - {}\n\nSYNOPSIS\n     {}\n\nDESCRIPTION\n",
        command.name,
        command.summary,
        command.synopsis()
    );
    let body = match command.help {
        "" => {
            let mut chars = command.summary.chars();
            let first = chars.next().map(|c| c.to_ascii_uppercase()).unwrap_or_default();
            format!("{first}{}.", chars.as_str())
        }
        help => help.to_string(),
    };
    indented(&mut text, &body);
    if !command.aliases.is_empty() {
        let _ = write!(text, "\nALIASES\n    {}\n", command.aliases.join(", "));
    }
    for (index, example) in command.examples.iter().enumerate() {
        if index == 0 {
            text.push_str("\nEXAMPLES\n");
        } else {
            text.push('\n');
        }
        indented(&mut text, example.lines);
        if !example.output.is_empty() {
            text.push_str("    prints:\n");
            for line in example.output.lines() {
                let _ = writeln!(text, "        {line}");
            }
        }
    }
    text
}

/// The width that help is written for.
const WIDTH: usize = 78;

/// Lines with four blanks before them, the long ones broken between words.
fn indented(text: &mut String, body: &str) {
    for line in body.trim_end().lines() {
        let start = text.len();
        for word in line.split(' ') {
            let column = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
            let at_start = text.len() == start;
            if at_start || (column > 4 && column + 1 + word.chars().count() > WIDTH) {
                text.push_str(if at_start { "    " } else { "\n    " });
            } else {
                text.push(' ');
            }
            text.push_str(word);
        }
        let kept = text.trim_end_matches(' ').len();
        text.truncate(kept);
        text.push('\n');
    }
}

/// All commands by subject, a line each.
pub fn list() -> String {
    let mut text = String::new();
    for group in GROUPS {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}:", group.title);
        for command in group.commands {
            let _ = writeln!(text, "{:<20} {}", command.name, command.summary);
        }
    }
    text
}

/// The commands whose names, summaries or explanations have all the words, those with a word in the name first; `None`
/// without any, and for no words.
pub fn search(words: &[&str]) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let has = |text: &str, word: &String| text.to_lowercase().contains(word.as_str());
    let all = GROUPS.iter().flat_map(|group| group.commands);
    let says = |c: &&Command| words.iter().all(|w| has(c.name, w) || has(c.summary, w) || has(c.help, w));
    let mut found: Vec<&Command> = all.filter(says).collect();
    if words.is_empty() || found.is_empty() {
        return None;
    }
    let rank = |c: &&Command| match words.iter().any(|w| has(c.name, w)) {
        true => 0,
        false if words.iter().all(|w| has(c.summary, w)) => 1,
        false => 2,
    };
    found.sort_by_key(|command| (rank(command), command.name));
    Some(found.iter().map(|command| format!("{:<20} {}\n", command.name, command.summary)).collect())
}

/// What a new user needs first.
pub fn general(launched: bool) -> &'static str {
    if launched {
        "\
ls /, cat FILE, edit FILE, upload LOCAL FILE, copy-in LOCAL... DIR, copy-out PATH... LOCALDIR
changes shows what is staged, undo takes back the last step, commit writes, rollback forgets.
help CMD explains one command, help --list names all.
"
    } else {
        "\
add IMAGE opens a disk image, run makes its devices available,
list-filesystems shows them, mount DEVICE / mounts one.
From the host: imgsh -a IMAGE -i does all of this for a system it finds.
help CMD explains one command, help --list names all.
"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken() {
        let mut text = String::from("X\n");
        indented(&mut text, &format!("{}\n\nend", "word ".repeat(20)));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1].len() <= WIDTH && lines[1].starts_with("    word") && lines[2].starts_with("    word"));
        assert_eq!((lines[3], lines[4]), ("", "    end"));
    }
}
