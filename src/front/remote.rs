//! `--remote`: sends commands to a server of `--listen`.

use std::io::{BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;

use super::cli::PROGRAM;
use super::wire::{self, Call, End};
use crate::base::{Error, Result};
use crate::command::{Host, HostFile};
use crate::commands;
use crate::host::{self, RealHost};
use crate::shell::lex::{self, Statement};
use crate::shell::lines::{self, Lines, ReaderLines};
use crate::shell::run::LineHost;

/// A connection to the server.
struct Client {
    socket: UnixStream,
    host: RealHost,
}

/// How a line or word list ended.
enum Next {
    GoOn,
    Stop(bool),
}

fn complain(text: &str) {
    eprintln!("{PROGRAM}: {text}");
}

/// Sends the words, or without any the lines of standard input; answers whether all went well.
pub fn run(pid: Option<&str>, words: &[Vec<u8>], keys_from_stdin: bool) -> bool {
    let variable = std::env::var("GUESTFISH_PID").ok();
    let Some(pid) = pid.filter(|p| !p.is_empty()).or(variable.as_deref()).and_then(|p| p.parse().ok()) else {
        complain("remote: $GUESTFISH_PID must be set to the PID of the remote process");
        return false;
    };
    let connected = wire::socket(pid).and_then(|path| Ok(UnixStream::connect(path)?));
    let Ok(socket) = connected else {
        complain("remote: looks like the server is not running");
        return false;
    };
    let terminal = std::io::stdout().is_terminal();
    let host = RealHost::new(Box::new(std::io::stdout()), terminal, false);
    host.set_keys(keys_from_stdin, false);
    let mut client = Client { socket, host };
    let done = host::standard_input().and_then(|input| {
        let mut lines = ReaderLines(BufReader::new(input));
        match words.is_empty() {
            true => client.lines(&mut lines),
            false => client.words(words, &mut lines),
        }
    });
    match done {
        Ok(good) => good,
        Err(error) => {
            complain(&error.to_string());
            false
        }
    }
}

impl Client {
    fn call(&mut self, call: &Call) -> Result<End> {
        let gone = |_| Error::usage("remote: the server has gone away");
        call.send(&mut self.socket).map_err(gone)?;
        let mut out = self.host.write(&HostFile::Standard)?;
        let end = wire::receive_answer(&mut self.socket, &mut out).map_err(gone)?;
        out.flush()?;
        Ok(end)
    }

    /// The keys that a command wants, a line each; they are asked for here, where the user is.
    fn keys(&self, words: &[Vec<u8>], lines: &mut dyn Lines) -> Result<Vec<u8>> {
        let Some(command) = words.first().and_then(|name| commands::lookup(&String::from_utf8_lossy(name))) else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for param in command.params.iter().filter(|param| !param.is_word()) {
            let key = match self.host.asks_for_keys() {
                true => self.host.key(param.name)?,
                false => lines::key(lines)?,
            };
            keys.extend(key);
            keys.push(b'\n');
        }
        Ok(keys)
    }

    /// Commands with `:` between.
    fn words(&mut self, words: &[Vec<u8>], lines: &mut dyn Lines) -> Result<bool> {
        for command in words.strip_suffix(&[b":".to_vec()]).unwrap_or(words).split(|word| word == b":") {
            let [name, arguments @ ..] = command else {
                complain("empty command on command line");
                return Ok(false);
            };
            let plain = name.strip_prefix(b"-");
            let mut all = vec![plain.unwrap_or(name).to_vec()];
            all.extend_from_slice(arguments);
            let heredoc = self.keys(&all, lines)?;
            match self.call(&Call { words: all, may_fail: plain.is_some(), heredoc })? {
                End::Good => {}
                End::Quit => return Ok(true),
                End::Failed => return Ok(false),
            }
        }
        Ok(true)
    }

    fn lines(&mut self, lines: &mut dyn Lines) -> Result<bool> {
        while let Some(line) = lines.next()? {
            match self.line(&line, lines)? {
                Next::GoOn => {}
                Next::Stop(good) => return Ok(good),
            }
        }
        Ok(true)
    }

    fn line(&mut self, line: &[u8], lines: &mut dyn Lines) -> Result<Next> {
        let (may_fail, statement) = lex::statement(line);
        let tolerated = |good: bool| if good || may_fail { Next::GoOn } else { Next::Stop(false) };
        match statement {
            Statement::Nothing => Ok(Next::GoOn),
            Statement::Host(command) => Ok(tolerated(self.host.system(command)?)),
            Statement::Generate(command) => {
                let (text, good) = self.host.generate(command)?;
                let mut source = ReaderLines(text.as_slice());
                while let Some(line) = source.next()? {
                    if let Next::Stop(good) = self.line(&line, &mut source)? {
                        return Ok(Next::Stop(good));
                    }
                }
                Ok(tolerated(good))
            }
            Statement::Command(text) => self.command(text, may_fail, lines),
        }
    }

    fn command(&mut self, text: &[u8], may_fail: bool, lines: &mut dyn Lines) -> Result<Next> {
        let line = match lex::command_line(text, &|user| self.host.home(user)) {
            Ok(line) => line,
            Err(error) => {
                complain(&error.to_string());
                return Ok(if may_fail { Next::GoOn } else { Next::Stop(false) });
            }
        };
        // The lines of a heredoc are the client's.
        let mut heredoc = Vec::new();
        if let Some(marker) = line.words.iter().find_map(|w| w.strip_prefix(b"-<<")).filter(|m| !m.is_empty()) {
            heredoc = lines::heredoc(lines, marker)?;
            heredoc.extend_from_slice(marker);
        }
        let mut words = vec![line.name];
        words.extend(line.words);
        heredoc.extend(self.keys(&words, lines)?);
        if let Some(pipe) = &line.pipe {
            self.host.open_pipe(pipe)?;
        }
        let end = self.call(&Call { words, may_fail, heredoc });
        if line.pipe.is_some() {
            self.host.close_pipe()?;
        }
        Ok(match end? {
            End::Good => Next::GoOn,
            End::Quit => Next::Stop(true),
            End::Failed => Next::Stop(false),
        })
    }
}
