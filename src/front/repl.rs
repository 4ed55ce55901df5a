//! The prompt: line editing, history, completion, hints, and the question at the end.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nu_ansi_term::{Color as Paint, Style};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};

use super::cli::{Color, Options, PROGRAM};
use super::recording::Recording;
use super::scripting::Scripting;
use super::user_files;
use crate::base::{Error, Result};
use crate::commands;
use crate::host::RealHost;
use crate::session::Session;
use crate::shell::classify::{self, Class};
use crate::shell::lines::Lines;
use crate::shell::run::{Outcome, Shell};
use crate::shell::{complete, report};

/// Entries of the history that are kept.
const HISTORY: usize = 10_000;
/// The longest Rhai entry that asks for more lines, in lines.
const ENTRY_LINES: usize = 1000;

/// Whether to use colour, as `--color`, `NO_COLOR` and the terminal say.
pub fn colored(choice: Color) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
            !forbidden && !dumb && std::io::stdout().is_terminal()
        }
    }
}

/// What the line editor asks: it looks into the session while nothing runs.
struct Assistant {
    session: Rc<RefCell<Session>>,
    colored: bool,
}

impl Helper for Assistant {}
impl Validator for Assistant {}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Ok(session) = self.session.try_borrow() else { return Ok((pos, Vec::new())) };
        let before = line.get(..pos).unwrap_or(line);
        let (start, found) = complete::complete(&session, &host_folder, before);
        let pairs = found.into_iter().map(|c| Pair { display: c.display, replacement: c.replacement });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, _: &Context<'_>) -> Option<String> {
        // Without colour a hint could not be told from what was typed.
        if self.colored && pos == line.len() { complete::hint(line) } else { None }
    }
}

impl Highlighter for Assistant {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(Style::new().dimmed().paint(hint).to_string())
    }
}

/// Lines without control characters.
fn printable(text: &[u8]) -> String {
    text.split(|c| *c == b'\n').map(crate::base::printable).collect::<Vec<_>>().join("\n")
}

/// The names in a host folder; what cannot be read has none.
fn host_folder(path: &Path) -> Vec<(Vec<u8>, bool)> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| (entry.file_name().into_vec(), entry.path().is_dir())).collect()
}

type LineEditor = Editor<Assistant, FileHistory>;

/// Further lines of a heredoc: those of the same paste first, then the keyboard's.
struct Entered<'a> {
    pending: &'a mut VecDeque<Vec<u8>>,
    editor: &'a mut LineEditor,
    /// The lines that were taken.
    taken: Vec<Vec<u8>>,
}

impl Lines for Entered<'_> {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let next = self.read()?;
        self.taken.extend(next.clone());
        Ok(next)
    }
}

impl Entered<'_> {
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(line) = self.pending.pop_front() {
            return Ok(Some(line));
        }
        match self.editor.readline("> ") {
            Ok(text) => {
                self.pending.extend(text.split('\n').map(|line| line.as_bytes().to_vec()));
                Ok(self.pending.pop_front())
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }
}

fn unreadable(error: ReadlineError) -> Error {
    match error {
        ReadlineError::Io(error) => Error::io("terminal", error),
        error => Error::new(crate::base::Kind::Io, error.to_string()).at("terminal"),
    }
}

/// What the user wants done with steps that are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    Commit,
    Discard,
    Stay,
}

/// Reads and runs entries until the user leaves. `system` names what inspection has mounted. Steps that are not written then are committed or forgotten as the
/// user says.
///
/// # Errors
/// A terminal that cannot be read, a commit that fails.
pub fn run(
    options: &Options,
    system: Option<&str>,
    session: &mut Session,
    shell: &mut Shell,
    host: &RealHost,
    scripting: &Scripting,
) -> Result<Outcome> {
    if let Some(system) = system {
        println!("Operating system: {}", crate::base::printable(system.as_bytes()));
        for mount in session.guest.mounts() {
            println!("{} mounted on {}", mount.device, mount.mountpoint);
        }
    }
    let colored = colored(options.color);
    host.set_pages(options.pager);
    let shared = Rc::new(RefCell::new(std::mem::take(session)));
    // The user's own file has nothing to do with a stranger's script.
    let init = if options.no_init || !options.sandbox.is_empty() { None } else { user_files::init() };
    let done = Repl::new(shared.clone(), colored, host, scripting).and_then(|mut repl| {
        if let Some(path) = init {
            repl.include(&path);
        }
        repl.run(shell)
    });
    *session = shared.take();
    done
}

struct Repl<'a> {
    session: Rc<RefCell<Session>>,
    editor: LineEditor,
    history: Option<PathBuf>,
    colored: bool,
    host: &'a RealHost,
    scripting: &'a Scripting,
    entries: u64,
    recording: Recording,
}

impl<'a> Repl<'a> {
    fn new(session: Rc<RefCell<Session>>, colored: bool, host: &'a RealHost, scripting: &'a Scripting) -> Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(unreadable)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .color_mode(if colored { ColorMode::Forced } else { ColorMode::Disabled })
            .build();
        let mut editor = LineEditor::with_config(config).map_err(unreadable)?;
        editor.set_helper(Some(Assistant { session: session.clone(), colored }));
        let history = user_files::history();
        if let Some(history) = &history {
            // The first run has none.
            let _ = editor.load_history(history);
        }
        Ok(Repl { session, editor, history, colored, host, scripting, entries: 0, recording: Recording::default() })
    }

    fn run(&mut self, shell: &mut Shell) -> Result<Outcome> {
        self.decorate("GUESTFISH_INIT");
        let done = self.entries(shell);
        self.decorate("GUESTFISH_RESTORE");
        done
    }

    /// Reads and runs entries until one ends it.
    fn entries(&mut self, shell: &mut Shell) -> Result<Outcome> {
        if self.session.borrow().is_launched() {
            println!("{PROGRAM}: help shows where to begin, quit ends.");
        } else {
            println!("{PROGRAM}: add IMAGE and run open a disk image; help shows where to begin, quit ends.");
        }
        loop {
            let outcome = match self.editor.readline(&self.prompt()) {
                Ok(entry) => {
                    self.decorate("GUESTFISH_OUTPUT");
                    self.entry(shell, &entry)
                }
                Err(ReadlineError::Interrupted) => Outcome::Done,
                Err(ReadlineError::Eof) => Outcome::Quit,
                Err(error) => return Err(unreadable(error)),
            };
            // A Ctrl-C that came too late to stop anything stops nothing else.
            let _ = crate::command::Host::interrupted(self.host);
            if outcome == Outcome::Quit && self.leave()? {
                return Ok(Outcome::Quit);
            }
        }
    }

    /// Runs what was entered: one line, or several that were pasted.
    fn entry(&mut self, shell: &mut Shell, entry: &str) -> Outcome {
        self.remember(entry);
        let mut pending: VecDeque<Vec<u8>> = entry.split('\n').map(|line| line.as_bytes().to_vec()).collect();
        while let Some(line) = pending.pop_front() {
            if let Some(words) = self.history_words(&line) {
                match self.recording.run(words) {
                    Ok(text) => println!("{}", printable(text.as_bytes())),
                    Err(error) => drop(self.failed(&error)),
                }
                continue;
            }
            let class = classify::classify(&line, &|name| self.is_name(name));
            let outcome = match class {
                Class::Command => {
                    let mut session = self.session.borrow_mut();
                    // The editor looks into the session only for completion, which heredoc lines do without.
                    let mut lines = Entered { pending: &mut pending, editor: &mut self.editor, taken: Vec::new() };
                    let outcome = shell.run_line(&mut session, &line, &mut lines);
                    if outcome == Outcome::Done {
                        self.recording.command(&line, lines.taken);
                    }
                    outcome
                }
                Class::Script => self.script(line, &mut pending),
                Class::Mistyped => {
                    let word = String::from_utf8_lossy(line.trim_ascii()).into_owned();
                    let word = word.split([' ', '\t']).next().unwrap_or_default();
                    eprintln!("{word}: unknown command");
                    if let Some(near) = commands::nearest(word) {
                        eprintln!("  hint: did you mean {near}?");
                    }
                    Outcome::Failed
                }
            };
            self.fresh_line();
            match outcome {
                Outcome::Done => {}
                // The rest of a paste could mean anything after a failure.
                Outcome::Failed => return Outcome::Done,
                Outcome::Quit => return Outcome::Quit,
            }
        }
        Outcome::Done
    }

    fn is_name(&self, name: &str) -> bool {
        self.scripting.with(|interpreter| interpreter.knows(name))
    }

    /// Evaluates Rhai; an entry with open brackets goes on with the next lines.
    fn script(&mut self, line: Vec<u8>, pending: &mut VecDeque<Vec<u8>>) -> Outcome {
        let mut text = String::from_utf8_lossy(&line).into_owned();
        for _ in 0..ENTRY_LINES {
            if !self.scripting.with(|interpreter| interpreter.is_incomplete(&text)) {
                break;
            }
            let next = Entered { pending, editor: &mut self.editor, taken: Vec::new() }.next();
            match next {
                Ok(Some(line)) => {
                    text.push('\n');
                    text.push_str(&String::from_utf8_lossy(&line));
                }
                Ok(None) => return Outcome::Done,
                Err(error) => return self.failed(&error),
            }
        }
        self.entries += 1;
        let source = format!("entry {}", self.entries);
        let session = &mut self.session.borrow_mut();
        match self.scripting.with(|interpreter| interpreter.evaluate(session, &text, &source)) {
            Ok(value) => {
                self.recording.script();
                if let Some(value) = value {
                    println!("{}", printable(value.as_bytes()));
                }
                Outcome::Done
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Runs the user's own definitions. The prompt starts whatever is wrong with them.
    fn include(&self, path: &Path) {
        let session = &mut self.session.borrow_mut();
        if let Err(error) = self.scripting.with(|interpreter| interpreter.include(session, path)) {
            self.failed(&error.hint("--no-init starts without this file"));
        }
        self.fresh_line();
    }

    /// The words behind `history`, unless it is a name of the user's.
    fn history_words<'l>(&self, line: &'l [u8]) -> Option<&'l str> {
        let rest = std::str::from_utf8(line).ok()?.trim().strip_prefix("history")?;
        let is_word =
            rest.is_empty() || (rest.starts_with([' ', '\t']) && !rest.trim_start().starts_with(['=', '.', '[']));
        (is_word && !self.is_name("history")).then(|| rest.trim())
    }

    fn failed(&self, error: &Error) -> Outcome {
        eprintln!("{PROGRAM}: {error}");
        // There is nowhere to report that standard error cannot be written.
        let _ = report::hint(&mut std::io::stderr(), error);
        Outcome::Failed
    }

    /// What a variable of guestfish's prompt holds.
    fn decoration(&self, variable: &str) -> Option<String> {
        crate::command::Host::variable(self.host, variable).map(|text| unescaped(&text))
    }

    /// Shows what a variable of guestfish's prompt holds, such as a change of colours.
    fn decorate(&self, variable: &str) {
        if let Some(text) = self.decoration(variable) {
            print!("{text}");
            // The editor finds out when the terminal is gone.
            let _ = std::io::stdout().flush();
        }
    }

    /// Output that did not end its line must not stand in the way of the prompt.
    fn fresh_line(&self) {
        if !self.host.at_line_start() {
            println!();
        }
    }

    fn remember(&mut self, entry: &str) {
        if entry.trim().is_empty() {
            return;
        }
        // What cannot be kept is not kept: the history is a convenience.
        if let (Ok(true), Some(history)) = (self.editor.add_history_entry(entry), &self.history) {
            let _ = self.editor.append_history(history);
        }
    }

    /// The prompt in plain and in coloured form: image, root device, `*` when steps are not written.
    fn prompt(&self) -> (String, String) {
        if let Some(text) = self.decoration("GUESTFISH_PS1") {
            return (text.clone(), text);
        }
        let session = self.session.borrow();
        let name = session.images().next().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.map_or_else(|| PROGRAM.to_string(), |name| crate::base::printable(name.as_bytes()));
        let mounts = session.guest.mounts();
        let root = mounts.iter().find(|m| *m.mountpoint == *b"/").map(|m| m.device.trim_start_matches("/dev/"));
        let root = root.map(|device| format!(":{device}")).unwrap_or_default();
        let staged = if session.steps().is_empty() { "" } else { "*" };
        let plain = format!("{name}{root}{staged}> ");
        if !self.colored {
            return (plain.clone(), plain);
        }
        let styled = format!(
            "{}{}{}> ",
            Paint::Cyan.bold().paint(name),
            Paint::Blue.paint(root),
            Paint::Yellow.bold().paint(staged)
        );
        (plain, styled)
    }

    /// Asks what to do with steps that are not written; answers whether to leave.
    fn leave(&mut self) -> Result<bool> {
        let mut session = self.session.borrow_mut();
        if !session.is_changed() {
            return Ok(true);
        }
        let steps = session.steps().len();
        let question = format!(
            "{steps} step{} not written: commit them (y), discard them (n), or go on (c)? ",
            if steps == 1 { " is" } else { "s are" }
        );
        loop {
            let answer = match self.editor.readline(&question) {
                Ok(text) => answer(&text),
                Err(ReadlineError::Interrupted) => Some(Leave::Stay),
                // The terminal has gone: nobody said that anything should be written.
                Err(ReadlineError::Eof) => Some(Leave::Discard),
                Err(error) => return Err(unreadable(error)),
            };
            match answer {
                Some(Leave::Commit) => return session.commit().map(|()| true),
                Some(Leave::Discard) => {
                    session.rollback()?;
                    println!("nothing was written");
                    return Ok(true);
                }
                Some(Leave::Stay) => return Ok(false),
                None => {}
            }
        }
    }
}

fn answer(text: &str) -> Option<Leave> {
    match text.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" | "commit" => Some(Leave::Commit),
        "n" | "no" | "discard" => Some(Leave::Discard),
        "c" | "cancel" | "stay" => Some(Leave::Stay),
        _ => None,
    }
}

/// The escapes of `GUESTFISH_PS1` and its kin; the terminal-mode marks `\[ \]` are dropped, unknown ones become `?`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let code = |digits: String, radix| u8::from_str_radix(&digits, radix).map_or('?', char::from);
        match chars.next() {
            Some('\\') => out.push('\\'),
            Some('[' | ']') | None => {}
            Some('a') => out.push('\x07'),
            Some('e') => out.push('\x1b'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('x') => out.push(code(chars.by_ref().take(2).collect(), 16)),
            Some(first @ '0'..='7') => {
                let digits = std::iter::once(first).chain(chars.by_ref().take(2)).collect();
                out.push(code(digits, 8));
            }
            Some(_) => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(answer(" Y "), Some(Leave::Commit));
        assert_eq!(answer("discard"), Some(Leave::Discard));
        assert_eq!(answer("c"), Some(Leave::Stay));
        assert_eq!(answer(""), None);
    }

    #[test]
    fn guestfish_prompts() {
        assert_eq!(unescaped("\\[\\e[1;31m\\]><fs> \\[\\e[0m\\]"), "\x1b[1;31m><fs> \x1b[0m");
        assert_eq!(unescaped("a\\\\b\\x41\\102\\q"), "a\\bAB?");
    }
}
