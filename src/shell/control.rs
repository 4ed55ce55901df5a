//! What commands ask of the shell itself: `glob`, `time`, `not`, `help`, events, `reopen`.

use std::time::Instant;

use super::lines::Lines;
use super::report::Failure;
use super::run::{Outcome, Shell};
use super::{glob, help};
use crate::base::{Error, Kind};
use crate::command::{Command, Control, Effect, Value};
use crate::commands;
use crate::session::Session;

impl Shell<'_> {
    pub(super) fn control(
        &mut self,
        session: &mut Session,
        command: &Command,
        control: Control,
        lines: &mut dyn Lines,
    ) -> Result<Outcome, Failure> {
        match control {
            Control::Quit => Ok(Outcome::Quit),
            Control::Time(words) => {
                let start = Instant::now();
                let outcome = self.words(session, "time", words, lines)?;
                let elapsed = start.elapsed().as_secs_f64();
                self.print(&Value::Text(format!("elapsed time: {elapsed:.2} seconds").into_bytes()))?;
                Ok(outcome)
            }
            Control::Glob(words) => self.glob(session, words, lines),
            Control::Not(words) => self.not(session, words, lines),
            Control::Event(name, events, script) => {
                self.events.add(&name, &events, &script).map(|()| Outcome::Done).map_err(Failure::Plain)
            }
            Control::DeleteEvent(name) => match self.events.remove(&name) {
                true => Ok(Outcome::Done),
                false => Err(Failure::Plain(format!("delete-event: {name}: no such event handler"))),
            },
            Control::ListEvents => self.print(&Value::List(self.events.list())),
            Control::Reopen => {
                session.reopen().map_err(|error| Failure::command(command, error))?;
                self.close();
                Ok(Outcome::Done)
            }
            Control::Help(words) => self.help(session, &words),
            Control::Script { module, function, options } => {
                let call = |session: &mut Session| self.library.call(session, module, function, &options);
                // What a script does in many commands is one step, and nothing of it stays when it fails.
                let done = match command.effect {
                    Effect::Writes => session.transact(command.name, self.host.now(), call),
                    _ => call(session),
                };
                done.map(|()| Outcome::Done).map_err(|error| Failure::command(command, error))
            }
        }
    }

    /// Runs the handlers of `close` and forgets all handlers: at the end, and when the session begins anew.
    pub fn close(&mut self) {
        // What a handler could not do does not concern the session that is over.
        let _ = self.events.fire(self.host, "close", &[]);
        self.events.clear();
    }

    /// Runs a command that was given as words of another.
    fn words(
        &mut self,
        session: &mut Session,
        by: &str,
        mut words: Vec<Vec<u8>>,
        lines: &mut dyn Lines,
    ) -> Result<Outcome, Failure> {
        if words.is_empty() {
            return Err(Failure::Plain(format!("use '{by} command [args...]'")));
        }
        let name = words.remove(0);
        self.named(session, &name, words, lines)
    }

    /// Turns a failure of a command into success, and success into a failure.
    fn not(&mut self, session: &mut Session, words: Vec<Vec<u8>>, lines: &mut dyn Lines) -> Result<Outcome, Failure> {
        match self.words(session, "not", words, lines) {
            Err(failure @ Failure::Command { .. }) => Ok(self.reported(true, Err(failure))),
            Err(other) => Err(other),
            Ok(Outcome::Quit) => Ok(Outcome::Quit),
            Ok(_) => Err(Failure::Plain("not: the command did not fail".to_string())),
        }
    }

    /// Runs a command for every combination of what its words match; a failure does not stop the rest.
    fn glob(&mut self, session: &mut Session, words: Vec<Vec<u8>>, lines: &mut dyn Lines) -> Result<Outcome, Failure> {
        let Some((name, patterns)) = words.split_first() else {
            return self.words(session, "glob", words, lines);
        };
        let choices = patterns
            .iter()
            .map(|word| glob::matches(session, word))
            .collect::<Result<Vec<_>, Error>>()
            .map_err(|error| Failure::Command { prefix: "glob_expand: ".into(), error })?;
        let mut picks = vec![0; choices.len()];
        let mut failed = None;
        loop {
            let chosen = choices.iter().zip(&picks).map(|(choice, pick)| choice[*pick].clone());
            let run: Vec<_> = std::iter::once(name.clone()).chain(chosen).collect();
            match self.words(session, "glob", run, lines) {
                Ok(Outcome::Done) => {}
                Ok(other) => return Ok(other),
                Err(failure) => {
                    // All but the last failure are reported here, the last one by whoever ran the line.
                    if let Some(earlier) = failed.replace(failure) {
                        self.reported(true, Err(earlier));
                    }
                }
            }
            if self.host.interrupted() {
                return Err(Failure::shell(Error::from(Kind::Interrupted)));
            }
            // The last word runs fastest, like an odometer.
            let Some(turned) = (0..picks.len()).rev().find(|i| picks[*i] + 1 < choices[*i].len()) else { break };
            picks[turned] += 1;
            picks[turned + 1..].fill(0);
        }
        failed.map_or(Ok(Outcome::Done), Err)
    }

    fn help(&mut self, session: &Session, words: &[String]) -> Result<Outcome, Failure> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = match words.as_slice() {
            [] => help::general(session.is_launched()).to_string(),
            ["-l" | "--list"] => help::list(),
            ["-k", words @ ..] => match help::search(words) {
                Some(found) => found,
                None => {
                    let words = words.join(" ");
                    return Err(Failure::Plain(format!("help: no command says '{words}': help --list names all")));
                }
            },
            [_, _, ..] => {
                return Err(Failure::Plain("help: one command at a time; help -k WORD... searches".to_string()));
            }
            [name] => match help::on(name) {
                Some(text) => text,
                None => {
                    let near = commands::nearest(name).map(|near| format!("\n  hint: did you mean {near}?"));
                    let near = near.unwrap_or_default();
                    return Err(Failure::Plain(format!(
                        "{name}: command not known: use -h to list all commands{near}"
                    )));
                }
            },
        };
        self.print(&Value::Bytes(text.into_bytes()))
    }
}
