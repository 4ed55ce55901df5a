//! `--check`: what is wrong with a script, without any image.

use std::collections::VecDeque;

use super::bind;
use super::bind::Sources;
use super::lex::{self, Statement};
use super::lines::{self, Lines};
use super::report::Failure;
use crate::command::{Command, Effect, Kind, Need};
use crate::commands;

/// Something that is wrong, or looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line, from 1; lines of heredocs count.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What, and what to do.
    pub message: String,
    /// The line itself.
    pub text: String,
}

/// What the options of the program do before the script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// `-m`, `-i` or `-N`: `run` is done.
    pub launched: bool,
    /// `-m` or `-i`: something is mounted.
    pub mounted: bool,
}

/// Looks through a script.
pub fn script(text: &[u8], before: Before) -> Vec<Finding> {
    let mut lines: VecDeque<Vec<u8>> = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let total = lines.len();
    let mut check = Check { state: before, findings: Vec::new(), line: 0, text: Vec::new() };
    while let Ok(Some(line)) = lines.next() {
        check.line = total - lines.len();
        check.text = line.clone();
        let (_, Statement::Command(rest)) = lex::statement(&line) else { continue };
        if !check.command(rest, &mut lines) {
            break;
        }
    }
    check.findings
}

/// What a script holds for its commands; keys come from elsewhere.
struct Script<'a>(&'a mut VecDeque<Vec<u8>>);

impl Sources for Script<'_> {
    fn heredoc(&mut self, marker: &[u8]) -> Result<Vec<u8>, Failure> {
        lines::heredoc(self.0, marker).map_err(Failure::shell)
    }

    fn key(&mut self, _: &str) -> Result<Vec<u8>, Failure> {
        Ok(Vec::new())
    }
}

struct Check {
    state: Before,
    findings: Vec<Finding>,
    line: usize,
    text: Vec<u8>,
}

impl Check {
    /// Notes something at a word of the line, at its first one if the word is not found.
    fn note(&mut self, word: &[u8], message: String) {
        let blanks = self.text.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'-')).count();
        let found = self.text.windows(word.len().max(1)).skip(blanks).position(|w| w == word).map(|at| at + blanks);
        self.findings.push(Finding {
            line: self.line,
            column: found.unwrap_or(blanks.min(self.text.len())) + 1,
            message,
            text: crate::base::printable(&self.text),
        });
    }

    /// Answers whether to go on.
    fn command(&mut self, text: &[u8], lines: &mut VecDeque<Vec<u8>>) -> bool {
        // What the tilde stands for is of no interest here.
        let line = match lex::command_line(text, &|_| None) {
            Ok(line) => line,
            Err(error) => {
                self.note(b"", error.to_string());
                return true;
            }
        };
        self.words(&line.name, line.words, lines)
    }

    fn words(&mut self, name: &[u8], words: Vec<Vec<u8>>, lines: &mut VecDeque<Vec<u8>>) -> bool {
        let typed = String::from_utf8_lossy(name).into_owned();
        let Some(command) = commands::lookup(&typed) else {
            let message = match (commands::refusal(&typed), commands::nearest(&typed)) {
                (Some(refusal), _) => format!("{typed}: {}; {}", refusal.reason, refusal.instead),
                (None, Some(near)) => format!("{typed}: unknown command, did you mean {near}?"),
                (None, None) => format!("{typed}: unknown command"),
            };
            self.note(name, message);
            return true;
        };
        self.modes(command, &words);
        if let Err(failure) = bind::bind(command, &typed, words.clone(), &mut Script(lines)) {
            let message = match failure {
                Failure::Plain(text) | Failure::Shell(text) => text.lines().take(2).collect::<Vec<_>>().join("; "),
                _ => "this cannot be read".to_string(),
            };
            let word = words.iter().find(|word| message.contains(&*String::from_utf8_lossy(word)));
            self.note(word.map_or(name, |word| word), message);
            return true;
        }
        self.order(command, name);
        match command.name {
            "quit" => return false,
            // Their words are a command themselves.
            "glob" | "time" | "not" => {
                if let Some((inner, rest)) = words.split_first() {
                    return self.words(inner, rest.to_vec(), lines);
                }
            }
            _ => {}
        }
        true
    }

    /// A mode that was meant to be octal.
    fn modes(&mut self, command: &Command, words: &[Vec<u8>]) {
        let plain = command.params.iter().filter(|p| p.need == Need::Required && p.is_word());
        for (param, word) in plain.zip(words) {
            let octal = word.iter().all(|b| matches!(b, b'0'..=b'7')) && word.len() >= 3 && !word.starts_with(b"0");
            if matches!(param.kind, Kind::Mode | Kind::ModeChange) && octal {
                let text = String::from_utf8_lossy(word);
                self.note(word, format!("the mode {text} is read as a decimal number: write 0{text}"));
            }
        }
    }

    /// Commands that come too early.
    fn order(&mut self, command: &Command, name: &[u8]) {
        let on_paths = command.params.iter().any(|p| p.kind == Kind::Path && p.need != Need::Optional);
        let on_guest = matches!(command.effect, Effect::Reads | Effect::Writes);
        match command.name {
            "launch" => self.state.launched = true,
            "reopen" => self.state = Before::default(),
            "mount" | "mount-ro" | "mount-options" | "mount-vfs" | "mkmountpoint" => {
                self.need_run(name);
                self.state.mounted = true;
            }
            "umount-all" | "shutdown" => self.state.mounted = false,
            _ if on_guest && !self.state.launched => self.need_run(name),
            _ if on_guest && on_paths && !self.state.mounted => {
                let name_text = String::from_utf8_lossy(name).into_owned();
                self.note(name, format!("{name_text}: nothing is mounted yet: mount the root on / first"));
                // Once is enough.
                self.state.mounted = true;
            }
            _ => {}
        }
    }

    fn need_run(&mut self, name: &[u8]) {
        if !std::mem::replace(&mut self.state.launched, true) {
            let text = String::from_utf8_lossy(name).into_owned();
            self.note(name, format!("{text}: 'run' must come before this"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, before: Before) -> Vec<(usize, usize, String)> {
        script(text.as_bytes(), before).into_iter().map(|f| (f.line, f.column, f.message)).collect()
    }

    #[test]
    fn mistakes_with_their_places() {
        let text = "add x.img\nls /\nrun\nmount /dev/sda1 /\nmkdirr /x\n  chmod 755 /f\nupload -<<E /f\nbogus\nE\n\
                    mkdir\ntime bogus x\nsh ls\ntruncate-size /f 1q\necho \"a\nexit\nbogus\n";
        let found = found(text, Before::default());
        let places: Vec<(usize, usize)> = found.iter().map(|f| (f.0, f.1)).collect();
        assert_eq!(places, [(2, 1), (5, 1), (6, 9), (10, 1), (11, 6), (12, 1), (13, 1), (14, 1)], "{found:?}");
        assert!(found[0].2.contains("'run'") && found[1].2.contains("did you mean mkdir"));
        assert!(found[2].2.contains("0755") && found[5].2.contains("firstboot"));
    }

    #[test]
    fn good_scripts_have_none() {
        let text = "# c\nmkdir /d\n!ls\n-rm /x\nchmod 0644 /f\nglob rm /d/*\ncat /f | wc\n";
        assert_eq!(found(text, Before { launched: true, mounted: true }), []);
        assert_eq!(found("ls /\ncat /f\n", Before { launched: true, mounted: false }).len(), 1);
    }
}
