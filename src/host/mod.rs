//! The real host: its files, its clock, its programs. Only the front ends know it; commands see the trait.

mod edit;
mod folder;
mod key;
mod output;
mod sandbox;
pub mod terminal;
mod tree;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use signal_hook::consts::SIGINT;
use signal_hook::{SigId, flag};

use self::sandbox::Sandbox;
use crate::base::{Error, Kind, Result, Timestamp, progress};
use crate::command::{Host, HostFile, OutFile};
use crate::guest::transfer::{Sink, Source};
use crate::shell::render::TerminalSafe;
use crate::shell::run::LineHost;

/// The host that the program runs on.
pub struct RealHost {
    output: output::Output,
    output_is_terminal: bool,
    interrupted: Arc<AtomicBool>,
    /// `SOURCE_DATE_EPOCH`: the clock stands there, and random bytes are a fixed sequence.
    epoch: Option<i64>,
    drawn: Cell<u64>,
    listening: RefCell<Vec<SigId>>,
    end_on_second: Cell<bool>,
    /// Files that go when the program ends.
    scratch: RefCell<Vec<tempfile::TempPath>>,
    /// What `setenv` and `unsetenv` changed.
    variables: RefCell<BTreeMap<String, Option<String>>>,
    sandbox: Sandbox,
    /// Passphrases are lines of standard input even if there is a terminal.
    keys_from_stdin: Cell<bool>,
    /// Passphrases show while they are typed.
    echo_keys: Cell<bool>,
    /// Gives the passphrases that an encrypted image has, by its names.
    image_keys: RefCell<Option<ImageKeys>>,
    /// Long answers go through a pager.
    pages: Cell<bool>,
}

/// Gives the passphrases of an image by its names.
pub type ImageKeys = Box<dyn Fn(&[&str]) -> Result<Vec<Vec<u8>>>>;

impl RealHost {
    /// A host whose standard output is `output`. `pipe_errors`: a host command that stops reading its pipe is an error.
    pub fn new(output: Box<dyn Write>, output_is_terminal: bool, pipe_errors: bool) -> Self {
        RealHost {
            output: output::Output::new(output, output_is_terminal, pipe_errors),
            output_is_terminal,
            interrupted: Arc::new(AtomicBool::new(false)),
            epoch: env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()),
            drawn: Cell::new(0),
            listening: RefCell::default(),
            end_on_second: Cell::new(false),
            scratch: RefCell::default(),
            variables: RefCell::default(),
            sandbox: Sandbox::default(),
            keys_from_stdin: Cell::new(false),
            echo_keys: Cell::new(false),
            image_keys: RefCell::default(),
            pages: Cell::new(false),
        }
    }

    /// Lets commands use these folders and files of the host only, and run no programs.
    ///
    /// # Errors
    /// A path that is not there.
    pub fn confine<'a>(&self, open: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        self.sandbox.confine(open)
    }

    /// `--keys-from-stdin` and `--echo-keys`.
    pub fn set_keys(&self, from_stdin: bool, echo: bool) {
        self.keys_from_stdin.set(from_stdin);
        self.echo_keys.set(echo);
    }

    /// Takes the passphrases of encrypted images from `give`.
    pub fn set_image_keys(&self, give: ImageKeys) {
        *self.image_keys.borrow_mut() = Some(give);
    }

    /// Whether a passphrase that is not given can be had from somebody: a line of standard input, or at a terminal.
    pub fn can_ask_for_keys(&self) -> bool {
        self.keys_from_stdin.get() || (std::io::stdin().is_terminal() && self.asks_for_keys())
    }

    /// Has [`LineHost::page`] show text with a pager from now on.
    pub fn set_pages(&self, pages: bool) {
        self.pages.set(pages);
    }

    /// Whether somebody at a terminal is asked for passphrases.
    pub fn asks_for_keys(&self) -> bool {
        !self.keys_from_stdin.get() && key::terminal().is_some()
    }

    /// Makes Ctrl-C stop the running command instead of the program. With `twice` a second one before anybody has
    /// asked for the first ends the program: nobody's steps wait for an answer then.
    ///
    /// # Errors
    /// The host's.
    pub fn catch_interrupts(&self, twice: bool) -> Result<()> {
        self.end_on_second.set(twice);
        self.listen()
    }

    /// What Ctrl-C sets, for whoever stops long work.
    pub fn interrupt_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    fn listen(&self) -> Result<()> {
        let mut listening = Vec::new();
        if self.end_on_second.get() {
            listening.push(flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&self.interrupted))?);
        }
        listening.push(flag::register(SIGINT, Arc::clone(&self.interrupted))?);
        self.listening.replace(listening);
        Ok(())
    }

    /// Runs a host program in the foreground: Ctrl-C is the program's own meanwhile.
    fn in_foreground<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        progress::give_way();
        LineHost::flush(self)?;
        let listening = self.listening.take();
        let listened = !listening.is_empty();
        for id in listening {
            signal_hook::low_level::unregister(id);
        }
        let result = run();
        if listened {
            self.listen()?;
        }
        result
    }

    /// Whether what was written last to the program's own standard output ended its line.
    pub fn at_line_start(&self) -> bool {
        self.output.at_line_start()
    }

    /// A host program with the variables that were set.
    fn program(&self, name: &str) -> Command {
        let mut program = Command::new(name);
        for (name, value) in &*self.variables.borrow() {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        program
    }

    fn shell(&self, command: &[u8]) -> Command {
        let mut shell = self.program("/bin/sh");
        shell.arg("-c").arg(std::ffi::OsStr::from_bytes(command));
        shell
    }
}

/// A host file whose bytes count as work done.
struct Counted<R>(R);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).inspect(|count| progress::add(*count as u64))
    }
}

/// A file that was made, or emptied, to be written from its start on.
struct NewFile(File);

impl Write for NewFile {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl OutFile for NewFile {
    fn skip(&mut self, count: u64) -> std::io::Result<bool> {
        // Pipes and devices are files too.
        if !self.0.metadata()?.is_file() {
            return Ok(false);
        }
        let end = self.0.stream_position()?.saturating_add(count);
        self.0.set_len(end)?;
        self.0.seek(SeekFrom::Start(end))?;
        Ok(true)
    }
}

/// The program's standard input as a file of its own, without a buffer.
///
/// # Errors
/// The host's.
pub fn standard_input() -> Result<File> {
    Ok(File::from(std::io::stdin().as_fd().try_clone_to_owned()?))
}

/// The first line of a reader without its newline, if it has no more than `most` bytes.
///
/// # Errors
/// The reader's.
pub fn first_line(reader: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(most).read_to_end(&mut line)?;
    line.truncate(memchr::memchr(b'\n', &line).unwrap_or(line.len()));
    Ok(line)
}

impl Host for RealHost {
    fn now(&self) -> Timestamp {
        if let Some(seconds) = self.epoch {
            return Timestamp::from_seconds(seconds);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let read = |bytes: &mut [u8]| File::open("/dev/urandom")?.read_exact(bytes);
        if self.epoch.is_some() || read(&mut bytes).is_err() {
            let now = self.now();
            let seed = (now.seconds as u64).rotate_left(32) ^ u64::from(now.nanos);
            for half in bytes.chunks_exact_mut(8) {
                self.drawn.set(self.drawn.get().wrapping_add(1));
                half.copy_from_slice(&splitmix(seed, self.drawn.get()).to_le_bytes());
            }
        }
        bytes
    }

    fn image_keys(&self, names: &[&str]) -> Result<Vec<Vec<u8>>> {
        let given = self.image_keys.borrow().as_ref().map(|give| give(names)).transpose()?.unwrap_or_default();
        match names.last() {
            Some(name) if given.is_empty() && self.can_ask_for_keys() => Ok(vec![LineHost::key(self, name)?]),
            _ => Ok(given),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        match self.variables.borrow().get(name) {
            Some(changed) => changed.clone(),
            None => env::var(name).ok(),
        }
    }

    fn set_variable(&self, name: &str, value: Option<&str>) {
        self.variables.borrow_mut().insert(name.to_string(), value.map(str::to_string));
    }

    fn read(&self, file: &HostFile) -> Result<(Box<dyn Read>, Option<u64>)> {
        match file {
            HostFile::Path(path) => {
                self.sandbox.check(path)?;
                let failed = |e| Error::io(path.display(), e);
                let file = File::open(path).map_err(failed)?;
                let found = file.metadata().map_err(failed)?;
                if found.is_dir() {
                    return Err(Error::from(Kind::IsADirectory).at(path.display()));
                }
                let size = found.is_file().then_some(found.len());
                progress::expect(size.unwrap_or(0));
                Ok((Box::new(Counted(file)), size))
            }
            HostFile::Standard => Ok((Box::new(Counted(standard_input()?)), None)),
            HostFile::Inline(bytes) => {
                let size = bytes.len() as u64;
                Ok((Box::new(std::io::Cursor::new(bytes.clone())), Some(size)))
            }
        }
    }

    fn write(&self, file: &HostFile) -> Result<Box<dyn OutFile>> {
        match file {
            HostFile::Path(path) => {
                self.sandbox.check(path)?;
                Ok(Box::new(NewFile(File::create(path).map_err(|e| Error::io(path.display(), e))?)))
            }
            HostFile::Standard => Ok(Box::new(self.output.clone())),
            HostFile::Inline(_) => Err(Error::usage("a heredoc cannot be written to")),
        }
    }

    fn spool(&self, source: &mut dyn Read) -> Result<(Box<dyn Read>, u64)> {
        let mut file = tempfile::tempfile().map_err(|e| Error::io("temporary file", e))?;
        let size = std::io::copy(source, &mut file)?;
        file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("temporary file", e))?;
        Ok((Box::new(file), size))
    }

    fn scratch(&self, size: u64) -> Result<PathBuf> {
        let failed = |e| Error::io("temporary file", e);
        let file = tempfile::Builder::new().prefix("imgsh-scratch-").tempfile().map_err(failed)?;
        file.as_file().set_len(size).map_err(failed)?;
        let path = file.into_temp_path();
        let name = path.to_path_buf();
        self.scratch.borrow_mut().push(path);
        Ok(name)
    }

    fn tree(&self, path: &Path) -> Result<Box<dyn Source>> {
        let tree = tree::Tree::new(path)?;
        if progress::is_watched() {
            tree::expect(path);
        }
        Ok(Box::new(tree))
    }

    fn folder(&self, path: &Path) -> Result<Box<dyn Sink>> {
        Ok(Box::new(folder::Folder::new(path)?))
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn reach(&self, path: &Path) -> Result<()> {
        self.sandbox.check(path)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
    }

    fn change_folder(&self, path: &Path) -> Result<()> {
        env::set_current_dir(path).map_err(|e| Error::io(path.display(), e))
    }

    fn edit(&self, editor: &str, name_hint: &str, content: &[u8]) -> Result<Option<Vec<u8>>> {
        self.sandbox.check_program(editor)?;
        self.in_foreground(|| edit::edit(self.program("/bin/sh"), editor, name_hint, content))
    }

    fn pipe_to(&self, command: &str, input: &[u8]) -> Result<()> {
        self.sandbox.check_program(command)?;
        let mut safe = Vec::new();
        let input = match self.output_is_terminal {
            true => {
                TerminalSafe(&mut safe).write_all(input)?;
                safe.as_slice()
            }
            false => input,
        };
        self.in_foreground(|| {
            let failed = |e| Error::io(command, e);
            let mut child = self.shell(command.as_bytes()).stdin(Stdio::piped()).spawn().map_err(failed)?;
            if let Some(mut pipe) = child.stdin.take() {
                match pipe.write_all(input) {
                    // Left before the end, as pagers are.
                    Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(failed(error)),
                    _ => {}
                }
            }
            match child.wait().map_err(failed)?.success() {
                true => Ok(()),
                false => Err(Error::new(Kind::Io, "the program failed").at(command)),
            }
        })
    }

    fn interrupted(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }
}

impl LineHost for RealHost {
    fn system(&self, command: &[u8]) -> Result<bool> {
        self.sandbox.check_program(&String::from_utf8_lossy(command))?;
        if self.output.is_kept() {
            let (printed, good) = self.generate(command)?;
            self.output.clone().write_all(&printed)?;
            return Ok(good);
        }
        self.in_foreground(|| {
            let status = self.shell(command).status().map_err(|e| Error::io("/bin/sh", e))?;
            Ok(status.success())
        })
    }

    fn generate(&self, command: &[u8]) -> Result<(Vec<u8>, bool)> {
        self.sandbox.check_program(&String::from_utf8_lossy(command))?;
        let done = self.shell(command).stdin(Stdio::inherit()).stderr(Stdio::inherit()).output();
        let done = done.map_err(|e| Error::io("/bin/sh", e))?;
        Ok((done.stdout, done.status.success()))
    }

    fn open_pipe(&self, command: &[u8]) -> Result<()> {
        self.sandbox.check_program(&String::from_utf8_lossy(command))?;
        if self.output.is_kept() {
            return Err(Error::unsupported("a pipe in run_line: leave it out and work on the answer in the script"));
        }
        let child = self.shell(command).stdin(Stdio::piped()).spawn().map_err(|e| Error::io("/bin/sh", e))?;
        self.output.to_pipe(child);
        Ok(())
    }

    fn close_pipe(&self) -> Result<()> {
        Ok(self.output.to_own()?)
    }

    fn keep_output(&self) {
        self.output.keep();
    }

    fn kept_output(&self) -> Vec<u8> {
        self.output.kept()
    }

    fn flush(&self) -> Result<()> {
        Ok(self.output.clone().flush()?)
    }

    fn output_is_terminal(&self) -> bool {
        self.output_is_terminal && !self.output.is_pipe() && !self.output.is_kept()
    }

    fn page(&self, text: &[u8]) -> Result<bool> {
        let size = terminal::size(&std::io::stdin()).filter(|_| self.pages.get() && self.output_is_terminal());
        let long = size.is_some_and(|size| terminal::is_longer(text, size));
        let pager = self.variable("PAGER").filter(|pager| !pager.is_empty());
        let pager = pager.unwrap_or_else(|| "less -RFX".to_string());
        if !long || pager == "cat" || self.sandbox.check_program(&pager).is_err() {
            return Ok(false);
        }
        // A pager that is not there, or fails, must not hide the answer.
        Ok(self.pipe_to(&pager, text).is_ok())
    }

    fn key(&self, name: &str) -> Result<Vec<u8>> {
        match key::terminal().filter(|_| !self.keys_from_stdin.get()) {
            Some(terminal) => key::ask(&terminal, name, self.echo_keys.get()),
            None => key::line(&mut standard_input()?),
        }
    }

    fn home(&self, user: Option<&[u8]>) -> Option<Vec<u8>> {
        let found = match user {
            None => match self.variable("HOME") {
                Some(home) => return Some(home.into_bytes()),
                None => nix::unistd::User::from_uid(nix::unistd::Uid::current()),
            },
            Some(name) => nix::unistd::User::from_name(std::str::from_utf8(name).ok()?),
        };
        found.ok().flatten().map(|user| user.dir.into_os_string().into_vec())
    }

    fn handle_event(&self, script: &str, event: &str, arguments: &[String]) -> Result<()> {
        self.sandbox.check_program(script)?;
        let shell = self.variable("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".to_string());
        self.in_foreground(|| {
            let mut program = self.program(&shell);
            program.args(["-c", script, &shell]).args(arguments).env("EVENT", event);
            // A handler's own failure is its own business.
            program.status().map(|_| ()).map_err(|e| Error::io(&shell, e))
        })
    }

    fn for_commands(&self) -> &dyn Host {
        self
    }
}

/// One number of a fixed sequence (S. Vigna's splitmix64).
fn splitmix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
