//! Runs lines: prefixes, pipes, generated lines, the commands that only the shell itself can do.

use std::collections::VecDeque;
use std::io::Write;

use super::events::Handlers;
use super::lex::{self, Statement};
use super::lines::{self, Lines, ReaderLines};
use super::render::{self, TerminalSafe};
use super::report::{self, Failure, Place};
use super::{bind, json, suggest, trace};
use crate::base::{Error, Kind, Result, without_secret};
use crate::command::{self, Args, Command, Context, Effect, Host, HostFile, Value};
use crate::commands;
use crate::session::Session;

/// What lines need of the host beyond what commands may ask of it.
pub trait LineHost: Host {
    /// `!`: runs a command by the host's shell, answers whether it ended with status 0.
    fn system(&self, command: &[u8]) -> Result<bool>;
    /// `<!`: what a command prints, and whether it ended with status 0.
    fn generate(&self, command: &[u8]) -> Result<(Vec<u8>, bool)>;
    /// Sends standard output to a host command until [`LineHost::close_pipe`].
    fn open_pipe(&self, command: &[u8]) -> Result<()>;
    /// Ends the pipe and waits for its command; its status does not matter.
    fn close_pipe(&self) -> Result<()>;
    /// Keeps what is written to standard output in memory until [`LineHost::kept_output`]. May be nested.
    fn keep_output(&self);
    /// What was written since [`LineHost::keep_output`].
    fn kept_output(&self) -> Vec<u8>;
    /// Brings everything written to standard output on its way.
    fn flush(&self) -> Result<()>;
    /// Whether standard output, as it is now, is a terminal.
    fn output_is_terminal(&self) -> bool;
    /// Shows text with a pager, at a prompt whose terminal it is too long for; `false`: it is to be written as always.
    fn page(&self, text: &[u8]) -> Result<bool>;
    /// Asks for a passphrase on the terminal, which does not show it; without a terminal it is a line of standard input.
    fn key(&self, name: &str) -> Result<Vec<u8>>;
    /// The home folder of a user, or of the caller.
    fn home(&self, user: Option<&[u8]>) -> Option<Vec<u8>>;
    /// Runs the script of an event handler, with the event's name in its environment.
    fn handle_event(&self, script: &str, event: &str, arguments: &[String]) -> Result<()>;
    /// The host as commands see it.
    fn for_commands(&self) -> &dyn Host;
}

/// What belongs to a command and is no word of its line.
struct Given<'a> {
    lines: &'a mut dyn Lines,
    /// Who asks for keys; without it they are lines.
    keys: Option<&'a dyn LineHost>,
}

impl bind::Sources for Given<'_> {
    fn heredoc(&mut self, marker: &[u8]) -> Result<Vec<u8>, Failure> {
        lines::heredoc(self.lines, marker).map_err(Failure::shell)
    }

    fn key(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        match self.keys {
            Some(host) => host.key(name).map_err(Failure::shell),
            None => lines::key(self.lines).map_err(Failure::shell),
        }
    }
}

/// Runs functions of the script library, for commands that are written there.
pub trait Library {
    /// Calls `function(options)` of a module.
    fn call(&self, session: &mut Session, module: &str, function: &str, options: &[(String, String)]) -> Result<()>;
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Go on.
    Done,
    /// It failed and was reported; a script ends here.
    Failed,
    /// `quit`.
    Quit,
}

/// The state of a run that is neither the session's nor the host's.
pub struct Shell<'a> {
    pub(super) host: &'a dyn LineHost,
    pub(super) library: &'a dyn Library,
    messages: &'a mut dyn Write,
    program: &'a str,
    place: Place,
    any_command: bool,
    pub(super) events: Handlers,
    json: bool,
    keys_in_lines: bool,
}

impl<'a> Shell<'a> {
    /// A shell that writes its messages (standard error) to `messages`, under the program's name.
    pub fn new(
        host: &'a dyn LineHost,
        library: &'a dyn Library,
        messages: &'a mut dyn Write,
        program: &'a str,
    ) -> Self {
        let place = Place::Prompt;
        Shell {
            host,
            library,
            messages,
            program,
            place,
            any_command: false,
            events: Handlers::default(),
            json: false,
            keys_in_lines: false,
        }
    }

    /// Answers and failures as JSON from now on.
    pub fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Keys are the lines behind the commands that want them: those lines are standard input, or a client's.
    pub fn set_keys_in_lines(&mut self, keys_in_lines: bool) {
        self.keys_in_lines = keys_in_lines;
    }

    /// Where the next lines come from, for messages.
    pub fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// Where messages go.
    pub fn messages(&mut self) -> &mut dyn Write {
        self.messages
    }

    /// Runs lines until they end, one fails, or `quit`.
    pub fn run_lines(&mut self, session: &mut Session, lines: &mut dyn Lines) -> Outcome {
        loop {
            if let Place::Line { line, .. } = &mut self.place {
                *line += 1;
            }
            let next = match self.host.interrupted() {
                true => Err(Error::from(Kind::Interrupted)),
                false => lines.next(),
            };
            let outcome = match next {
                Ok(None) => return Outcome::Done,
                Ok(Some(line)) => self.run_line(session, &line, lines),
                Err(error) => self.reported(false, Err(Failure::Shell(error.to_string()))),
            };
            if outcome != Outcome::Done {
                return outcome;
            }
        }
    }

    /// Runs one line; heredocs are read from `lines`.
    pub fn run_line(&mut self, session: &mut Session, line: &[u8], lines: &mut dyn Lines) -> Outcome {
        let (may_fail, statement) = lex::statement(line);
        let result = self.statement(session, statement, lines);
        self.reported(may_fail, result)
    }

    /// Runs lines until they end or `quit`; the first failure is answered, not reported.
    ///
    /// # Errors
    /// The failure of a line that may not fail.
    pub fn try_lines(&mut self, session: &mut Session, lines: &mut dyn Lines) -> Result<Outcome, Failure> {
        // Nobody who gives lines needs to be told how the program is called.
        self.any_command = true;
        while let Some(line) = lines.next().map_err(Failure::shell)? {
            let (may_fail, statement) = lex::statement(&line);
            let result = self.statement(session, statement, lines);
            let outcome = if may_fail { self.reported(true, result) } else { result? };
            if outcome != Outcome::Done {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }

    fn statement(
        &mut self,
        session: &mut Session,
        statement: Statement<'_>,
        lines: &mut dyn Lines,
    ) -> Result<Outcome, Failure> {
        match statement {
            Statement::Nothing => Ok(Outcome::Done),
            Statement::Host(command) => self.host_line(command),
            Statement::Generate(command) => self.generated(session, command),
            Statement::Command(text) => self.command_line(session, text, lines),
        }
    }

    /// Runs the commands of the program's own command line: words as they are, separated by `:`.
    /// `quit` does not stop the list.
    pub fn run_words(&mut self, session: &mut Session, words: &[Vec<u8>], lines: &mut dyn Lines) -> Outcome {
        let mut words = words;
        while !words.is_empty() {
            let end = words.iter().position(|w| w == b":").unwrap_or(words.len());
            let outcome = match &words[..end] {
                [] => self.reported(false, Err(Failure::Shell("empty command on command line".into()))),
                [name, arguments @ ..] => {
                    let plain = name.strip_prefix(b"-");
                    let result = self.named(session, plain.unwrap_or(name), arguments.to_vec(), lines);
                    self.reported(plain.is_some(), result)
                }
            };
            if outcome == Outcome::Failed {
                return outcome;
            }
            words = words.get(end + 1..).unwrap_or_default();
        }
        Outcome::Done
    }

    /// Runs one command of a remote client: words as they are, heredocs from `lines`.
    pub fn run_call(
        &mut self,
        session: &mut Session,
        words: &[Vec<u8>],
        may_fail: bool,
        lines: &mut dyn Lines,
    ) -> Outcome {
        let Some((name, arguments)) = words.split_first() else { return Outcome::Done };
        let result = self.named(session, name, arguments.to_vec(), lines);
        self.reported(may_fail, result)
    }

    /// Runs one command of the program itself (its options), with words as they are.
    pub fn run_command(&mut self, session: &mut Session, words: &[Vec<u8>]) -> Outcome {
        let Some((name, arguments)) = words.split_first() else { return Outcome::Done };
        let any_command = self.any_command;
        let result = self.named(session, name, arguments.to_vec(), &mut VecDeque::new());
        self.any_command = any_command;
        self.reported(false, result)
    }

    /// Writes out what is pending, reports a failure; a line that may fail is done even so.
    pub(super) fn reported(&mut self, may_fail: bool, result: Result<Outcome, Failure>) -> Outcome {
        let flushed = self.host.flush();
        let result = match (result, flushed) {
            (Ok(_), Err(error)) => Err(Failure::Shell(format!("write error: {error}"))),
            (result, _) => result,
        };
        result.unwrap_or_else(|failure| {
            if self.json {
                let written = self.host.write(&HostFile::Standard).map(|mut out| json::failure(&mut out, &failure));
                // The message below says it too.
                let _ = written.map(|_| self.host.flush());
            }
            // There is nowhere to report that the messages themselves cannot be written.
            let _ = report::failure(self.messages, self.program, &self.place, &failure);
            if may_fail { Outcome::Done } else { Outcome::Failed }
        })
    }

    fn host_line(&mut self, command: &[u8]) -> Result<Outcome, Failure> {
        self.host.flush().map_err(Failure::shell)?;
        match self.host.system(command).map_err(Failure::shell)? {
            true => Ok(Outcome::Done),
            false => Err(Failure::Silent),
        }
    }

    fn generated(&mut self, session: &mut Session, command: &[u8]) -> Result<Outcome, Failure> {
        self.host.flush().map_err(Failure::shell)?;
        let (text, good) = self.host.generate(command).map_err(Failure::shell)?;
        let mut source = ReaderLines(text.as_slice());
        // Heredocs in generated lines are read from the generator's output too.
        while let Some(line) = source.next().map_err(Failure::shell)? {
            match self.run_line(session, &line, &mut source) {
                Outcome::Done => {}
                Outcome::Failed => return Err(Failure::Silent),
                Outcome::Quit => return Ok(Outcome::Quit),
            }
        }
        match good {
            true => Ok(Outcome::Done),
            false => {
                let command = String::from_utf8_lossy(command.trim_ascii()).into_owned();
                Err(Failure::Plain(format!("pclose: {command}: the command failed")))
            }
        }
    }

    fn command_line(&mut self, session: &mut Session, text: &[u8], lines: &mut dyn Lines) -> Result<Outcome, Failure> {
        let host = self.host;
        let line = lex::command_line(text, &|user| host.home(user))?;
        let Some(pipe) = &line.pipe else { return self.named(session, &line.name, line.words, lines) };
        host.flush().map_err(Failure::shell)?;
        host.open_pipe(pipe).map_err(Failure::shell)?;
        let result = self.named(session, &line.name, line.words, lines);
        host.close_pipe().map_err(Failure::shell)?;
        result
    }

    /// Looks a command up and runs it.
    pub(super) fn named(
        &mut self,
        session: &mut Session,
        name: &[u8],
        words: Vec<Vec<u8>>,
        lines: &mut dyn Lines,
    ) -> Result<Outcome, Failure> {
        let first = !std::mem::replace(&mut self.any_command, true);
        let typed = String::from_utf8_lossy(name);
        let Some(command) = commands::lookup(&typed) else {
            return Err(match commands::refusal(&typed) {
                Some(refusal) => {
                    let error = Error::unsupported(refusal.reason).hint(refusal.instead);
                    let name = typed.to_ascii_lowercase().replace('-', "_");
                    Failure::Command { prefix: format!("{name}: "), error }
                }
                None => self.unknown(&typed, first),
            });
        };
        let label = label(&typed, &words);
        let mut sources = Given { lines, keys: (!self.keys_in_lines).then_some(self.host) };
        let args = bind::bind(command, &typed, words, &mut sources)?;
        let value = self.call(session, command, &args, &label)?;
        match value {
            Value::Control(control) => self.control(session, command, control, lines),
            value => self.print(&value),
        }
    }

    /// Runs a bound command through the gate, traced if that was asked for.
    fn call(
        &mut self,
        session: &mut Session,
        command: &'static Command,
        args: &Args,
        label: &str,
    ) -> Result<Value, Failure> {
        // guestfish traces its library: what the shell does by itself is not shown.
        let traced = session.settings.trace && command.effect != Effect::Host;
        if command.effect != Effect::Host {
            let name = command.name.replace('-', "_");
            self.events.fire(self.host, "enter", &[name]).map_err(Failure::shell)?;
        }
        if traced {
            self.trace(&trace::call(command, args))?;
        }
        let launched = session.is_launched();
        let mut context = Context { session, host: self.host.for_commands() };
        let result = command::run(command, &mut context, args, label);
        if traced {
            self.trace(&trace::result(command, result.as_ref().ok()))?;
        }
        if !launched && session.is_launched() {
            self.events.fire(self.host, "launch_done", &[]).map_err(Failure::shell)?;
        }
        for notice in session.take_notices() {
            let _ = writeln!(self.messages, "{}: {notice}", self.program);
        }
        result.map_err(|error| {
            // A script that goes on after an error needs no advice, and would pay for it.
            let read = matches!(self.place, Place::Prompt | Place::Line { line: 0, .. });
            Failure::command(command, if read { suggest::nearest_name(session, error) } else { error })
        })
    }

    /// Gives a line of the trace to the handlers of that event, else to the messages.
    fn trace(&mut self, line: &str) -> Result<(), Failure> {
        let message = line.strip_prefix("libguestfs: trace: ").unwrap_or(line).to_string();
        if !self.events.fire(self.host, "trace", &[message]).map_err(Failure::shell)? {
            // There is nowhere to report that the messages themselves cannot be written.
            let _ = writeln!(self.messages, "{line}");
        }
        Ok(())
    }

    pub(super) fn print(&mut self, value: &Value) -> Result<Outcome, Failure> {
        let mut out = self.host.write(&HostFile::Standard).map_err(Failure::shell)?;
        let written = match self.host.output_is_terminal() {
            _ if self.json => json::value(&mut out, value),
            true => {
                let mut text = Vec::new();
                render::value(&mut TerminalSafe(&mut text), value)
                    .and_then(|()| if self.host.page(&text)? { Ok(()) } else { out.write_all(&text) })
            }
            false => render::value(&mut out, value),
        };
        written.map_err(|error| Failure::shell(error.into()))?;
        Ok(Outcome::Done)
    }

    fn unknown(&self, typed: &str, first: bool) -> Failure {
        let mut text = format!("{typed}: unknown command");
        if let Some(near) = commands::nearest(typed) {
            text.push_str(&format!("\n  hint: did you mean {near}?"));
        }
        if first {
            let program = self.program;
            text.push_str(&format!(
                "\nDid you mean to open a disk image?  {program} -a disk.img\n\
                 For a list of commands:             {program} -h\n\
                 For help on one command:            {program} -h COMMAND"
            ));
        }
        Failure::Plain(text)
    }
}

/// A command as `changes` and `undo` show it.
fn label(typed: &str, words: &[Vec<u8>]) -> String {
    let mut label = typed.to_string();
    for word in words {
        label.push(' ');
        label.push_str(&without_secret(crate::base::quoted(word)));
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_quote_what_holds_blanks() {
        assert_eq!(label("write", &[b"/f".to_vec(), b"a b\n".to_vec(), Vec::new()]), "write /f \"a b\\n\" \"\"");
    }
}
