//! `--listen`: a server that runs commands of `--remote`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::rc::Rc;

use super::wire::{self, Call, End};
use crate::base::{Error, Result};
use crate::session::Session;
use crate::shell::run::{Outcome, Shell};

/// Tells a process that it is the server which another one started.
const MARK: &str = "IMGSH_LISTEN";

/// Where standard output goes: to the client that is being served, else nowhere.
#[derive(Clone, Default)]
pub struct Channel(Rc<RefCell<Option<UnixStream>>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut client = self.0.borrow_mut();
        // A client that has gone is no error of the command.
        if client.as_mut().is_some_and(|client| wire::send_output(client, bytes).is_err()) {
            *client = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether this process is the server itself.
pub fn is_server() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the server, waits until it is ready, and prints its number; `csh` in csh's words.
///
/// # Errors
/// A server that could not start has said why; then the answer is `false`.
pub fn start(csh: bool) -> Result<bool> {
    let program = std::env::current_exe().map_err(|e| Error::io("the program itself", e))?;
    let mut server = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io(program.display(), e))?;
    let mut line = String::new();
    if let Some(output) = server.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line != "ready\n" {
        server.wait()?;
        return Ok(false);
    }
    let pid = server.id();
    match csh {
        true => println!("setenv GUESTFISH_PID {pid}"),
        false => println!("GUESTFISH_PID={pid}; export GUESTFISH_PID"),
    }
    Ok(true)
}

/// Runs what clients send until one says `exit` or a command fails; answers how it ended and who waits for the end.
///
/// # Errors
/// The socket's.
pub fn serve(channel: &Channel, session: &mut Session, shell: &mut Shell) -> Result<(Outcome, Option<UnixStream>)> {
    let path = wire::socket(std::process::id())?;
    let failed = |e| Error::io(path.display(), e);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    // A session of its own: Ctrl-C at the terminal is for the clients.
    let _ = nix::unistd::setsid();
    let ready = io::stdout().write_all(b"ready\n").and_then(|()| io::stdout().flush());
    let result = ready.map_err(Error::from).and_then(|()| {
        loop {
            let (client, _) = listener.accept().map_err(failed)?;
            if let Some(end) = one(channel, session, shell, client)? {
                return Ok(end);
            }
        }
    });
    // After this no client finds the server any more.
    let _ = std::fs::remove_file(&path);
    result
}

/// Serves one client.
fn one(
    channel: &Channel,
    session: &mut Session,
    shell: &mut Shell,
    client: UnixStream,
) -> Result<Option<(Outcome, Option<UnixStream>)>> {
    let mut requests = client.try_clone()?;
    channel.0.replace(Some(client));
    loop {
        let call = match Call::receive(&mut requests) {
            Ok(Some(call)) => call,
            Ok(None) => {
                channel.0.replace(None);
                return Ok(None);
            }
            Err(error) => {
                let _ = writeln!(shell.messages(), "{}: remote: {error}", super::cli::PROGRAM);
                channel.0.replace(None);
                return Ok(None);
            }
        };
        let mut lines: VecDeque<Vec<u8>> = call.heredoc.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let outcome = shell.run_call(session, &call.words, call.may_fail, &mut lines);
        if outcome != Outcome::Done {
            return Ok(Some((outcome, channel.0.replace(None))));
        }
        if let Some(client) = channel.0.borrow_mut().as_mut() {
            // A client that has gone is noticed at the next request.
            let _ = wire::send_end(client, End::Good);
        }
    }
}

/// Tells the client that waits that the server has ended.
pub fn end(client: Option<UnixStream>, outcome: Outcome) {
    if let Some(mut client) = client {
        let end = if outcome == Outcome::Quit { End::Quit } else { End::Failed };
        // It may have gone.
        let _ = wire::send_end(&mut client, end);
    }
}
