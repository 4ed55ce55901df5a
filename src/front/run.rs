//! One run of the program: options, disks, mounts, then commands, then the commit.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{AccessFlags, access};

use super::batch;
use super::cli::{self, Drive, Language, Options, PROGRAM, Request};
use super::keys;
use super::prepare::{self, Prepared};
use super::progress;
use super::repl;
use super::scripting::Scripting;
use super::user_files;
use super::{remote, serve};
use crate::base::{Error, GuestPathBuf, Kind, Result};
use crate::command::Host;
use crate::commands;
use crate::disk::target::Target;
use crate::disk::{self, Format, OpenOptions};
use crate::host::{self, RealHost};
use crate::script;
use crate::session::{Session, SessionOptions};
use crate::shell;
use crate::shell::check;
use crate::shell::lines::ReaderLines;
use crate::shell::report::{self, Place};
use crate::shell::run::{Outcome, Shell};

/// Bytes of memory that the program may have under `--sandbox`.
const SANDBOX_MEMORY: u64 = 4 << 30;

/// The program.
pub fn main() -> ExitCode {
    let request = cli::parse(std::env::args_os());
    let mut status = Status { good: 0, failed: 1 };
    let good = match request {
        Request::Run(mut options) => {
            options.read_only |= !options.read_write && user_files::read_only_by_default();
            if options.words.iter().any(|word| word == CHECK) {
                status.failed = NOT_JUDGED;
            }
            run(&options, &mut status)
        }
        Request::Print(text) => print(&text),
        Request::Remote(pid, words, keys) => remote::run(pid.as_deref(), &words, keys),
        Request::Batch(request) => match batch::run(&request) {
            Ok(status) => return status.into(),
            Err(error) => failed(&error),
        },
        Request::Definitions(folder) => definitions(&folder).map_or_else(|error| failed(&error), |()| true),
        Request::CommandHelp(topic) => command_help(topic.as_deref()),
        Request::Refuse(text) => {
            if std::env::args_os().any(|word| word.as_bytes() == CHECK) {
                status.failed = NOT_JUDGED;
            }
            eprintln!("{text}");
            false
        }
    };
    if good { status.good.into() } else { status.failed.into() }
}

/// The command whose failure is an answer about the image.
const CHECK: &[u8] = b"vtorque-check";
/// The exit status if it was asked for on the command line and has not come to an answer, so that nobody takes a wrong call for one.
const NOT_JUDGED: u8 = 2;

/// The exit status of a run, by its end.
struct Status {
    good: u8,
    failed: u8,
}

/// Standard output; a reader that has gone is no error.
fn print(text: &str) -> bool {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{PROGRAM}: write error: {error}");
            false
        }
        _ => true,
    }
}

/// Writes the definition files; those that are there are replaced.
fn definitions(folder: &Path) -> Result<()> {
    for (name, text) in script::definitions() {
        let path = folder.join(name);
        let failed = |e| Error::io(path.display(), e);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

fn command_help(topic: Option<&str>) -> bool {
    let Some(name) = topic else { return print(&shell::help::list()) };
    match shell::help::on(name) {
        Some(text) => print(&text),
        None => {
            eprintln!("{name}: command not known: use -h to list all commands");
            if let Some(near) = commands::nearest(name) {
                eprintln!("  hint: did you mean {near}?");
            }
            false
        }
    }
}

/// Reports an error outside of any command.
fn failed(error: &Error) -> bool {
    eprintln!("{PROGRAM}: {error}");
    // There is nowhere to report that standard error cannot be written.
    let _ = report::hint(&mut io::stderr(), error);
    false
}

/// Runs a session; `status` becomes the one that a script asked for.
fn run(options: &Options, status: &mut Status) -> bool {
    if options.listen && !serve::is_server() {
        return serve::start(options.csh).unwrap_or_else(|error| failed(&error));
    }
    if let Some(script) = &options.check {
        return check_script(options, script).unwrap_or_else(|error| failed(&error));
    }
    let channel = options.listen.then(serve::Channel::default);
    let output = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(output) => File::from(output),
        Err(error) => return failed(&Error::io("standard output", error)),
    };
    let is_terminal = output.is_terminal();
    let output: Box<dyn Write> = match &channel {
        Some(channel) => Box::new(channel.clone()),
        None => Box::new(output),
    };
    let host = Rc::new(RealHost::new(output, is_terminal, options.pipe_error));
    host.set_keys(options.keys_from_stdin, options.echo_keys);
    host.set_image_keys(keys::of_images(options.keys.clone()));
    let interactive =
        !options.listen && options.words.is_empty() && options.file.is_none() && io::stdin().is_terminal();
    if let Err(error) = host.catch_interrupts(!interactive) {
        return failed(&error);
    }
    progress::show(options);
    let mut session = Session::new(SessionOptions { dry_run: options.dry_run });
    session.guest.set_interrupt(host.interrupt_flag());
    session.settings.trace = options.trace;
    session.settings.verbose = options.verbose;
    session.settings.autosync = !options.no_sync;
    let mut messages = io::stderr();
    let scripting = Scripting::new(host.clone());
    let mut shell = Shell::new(&*host, &scripting, &mut messages, PROGRAM);
    let mut target = None;
    shell.set_json(options.json);
    // Standard input is read by lines from one place only, and a server has none.
    shell.set_keys_in_lines(options.listen || (options.file.is_none() && !interactive && !host.asks_for_keys()));
    let system = match open(options, &mut session, &mut shell, &host, &mut target) {
        Ok(Opened::Ready(system)) => system,
        Ok(Opened::Listed) => return true,
        // What failed as a command was reported as one.
        Err(error) => {
            return {
                if let Some(error) = error {
                    failed(&error);
                }
                false
            };
        }
    };
    if let Err(error) = confine(options, &session, &host) {
        return failed(&error);
    }
    let mut waiting = None;
    let done = match (&channel, interactive) {
        (Some(channel), _) => serve::serve(channel, &mut session, &mut shell).map(|(outcome, client)| {
            waiting = client;
            outcome
        }),
        (None, true) => repl::run(options, system.as_deref(), &mut session, &mut shell, &host, &scripting),
        (None, false) => batch(options, &mut session, &mut shell, &scripting),
    };
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(error) => {
            failed(&error);
            Outcome::Failed
        }
    };
    let traced = session.settings.trace;
    if traced {
        eprintln!("libguestfs: trace: shutdown");
    }
    let good = finish(&mut session, options, outcome);
    if let Some(wanted) = session.settings.exit_status {
        *status = Status { good: wanted, failed: 1 };
    }
    // The result gets its name when all is in it; without that it is gone, and the image was never touched.
    drop(session);
    let good = match target.filter(|_| good).map(Target::finish) {
        Some(Err(error)) => failed(&error),
        _ => good,
    };
    if traced {
        eprintln!("libguestfs: trace: shutdown = {}", if good { "0" } else { "-1 (error)" });
        eprintln!("libguestfs: trace: close");
    }
    shell.close();
    serve::end(waiting, if good { outcome } else { Outcome::Failed });
    good
}

/// Closes the sandbox around the commands that follow: it has its folders, the script, and the images that were named.
fn confine(options: &Options, session: &Session, host: &RealHost) -> Result<()> {
    if options.sandbox.is_empty() {
        return Ok(());
    }
    // A stranger's script cannot take all memory: past this the program ends, as by kill -9.
    let (_, hard) = getrlimit(Resource::RLIMIT_AS).map_err(|e| Error::io("memory", e.into()))?;
    let most = SANDBOX_MEMORY.min(hard);
    setrlimit(Resource::RLIMIT_AS, most, most).map_err(|e| Error::io("memory", e.into()))?;
    let named = options.drives.iter().filter_map(|drive| match drive {
        Drive::Image { path, .. } => Some(path.as_path()),
        Drive::Prepared(_) => None,
    });
    let folders = options.sandbox.iter().chain(&options.file).map(PathBuf::as_path);
    host.confine(folders.chain(named).chain(session.images()))?;
    // A stranger's image may name any file as its backing file.
    session.files().try_for_each(|file| host.reach(&file))
}

/// Says what is wrong with a script; answers whether it is nothing.
fn check_script(options: &Options, path: &Path) -> Result<bool> {
    let text = std::fs::read(path).map_err(|e| Error::io(path.display(), e))?;
    let mounted = options.inspect || !options.mounts.is_empty();
    let prepared = options.drives.iter().any(|drive| matches!(drive, Drive::Prepared(_)));
    let findings = check::script(&text, check::Before { launched: mounted || prepared, mounted });
    for finding in &findings {
        let place = format!("{}:{}:{}", path.display(), finding.line, finding.column);
        let caret = format!("{:>1$}", "^", finding.column);
        eprintln!("{place}: {}\n  {}\n  {caret}", finding.message, finding.text);
    }
    Ok(findings.is_empty())
}

/// Why an image cannot be opened that the words only ask to judge: its header is an answer, too. `None` if it can, or if another
/// program holds it.
fn only_judged(options: &Options, path: &Path) -> Option<String> {
    let alone = options.drives.len() == 1 && options.mounts.is_empty() && !options.inspect && options.output.is_none();
    if !alone || !options.keys.is_empty() || options.words.first().is_none_or(|word| word != CHECK) {
        return None;
    }
    let known = disk::info::info(path);
    if let Some(lacks) = known.as_ref().ok().and_then(|info| info.lacks(path)) {
        return Some(lacks);
    }
    let damage = match known {
        Ok(info) if info.format == Format::Raw => return None,
        Ok(_) => disk::open(path, OpenOptions { read_only: true, ..OpenOptions::default() }).err()?,
        Err(error) => error,
    };
    matches!(damage.kind(), Kind::Corrupt | Kind::Unsupported).then(|| damage.to_string())
}

/// How the opening of the disks ended.
enum Opened {
    /// With the name of the operating system that was mounted, if one was looked for.
    Ready(Option<String>),
    /// `-N help` was answered.
    Listed,
}

/// Attaches, launches, inspects, prepares, mounts, as the options say. `Err(None)`: reported already.
fn open(
    options: &Options,
    session: &mut Session,
    shell: &mut Shell,
    host: &RealHost,
    target: &mut Option<Target>,
) -> Result<Opened, Option<Error>> {
    let mut prepared = Vec::new();
    for (index, drive) in options.drives.iter().enumerate() {
        let add = match drive {
            Drive::Image { path, format } => {
                // The words of access(2), before anything else is tried.
                access(path, AccessFlags::R_OK)
                    .map_err(|e| Some(Error::io(format!("access: {}", path.display()), e.into())))?;
                let whole = std::path::absolute(path).map_err(|e| Error::io(path.display(), e))?;
                if let Some(what) = only_judged(options, &whole) {
                    session.settings.unopened = Some((whole, what));
                    continue;
                }
                let (mut path, mut format) = (path.clone(), format.clone());
                if let Some(output) = &options.output {
                    let (made, kind) = output.prepare(&path, format.as_deref())?;
                    path = made.temporary().to_path_buf();
                    format = Some(kind.name().to_string());
                    *target = Some(made);
                }
                let mut add = vec![b"add-drive".to_vec(), path.as_os_str().as_bytes().to_vec()];
                add.extend(options.read_only.then(|| b"readonly:true".to_vec()));
                add.extend(format.map(|format| format!("format:{format}").into_bytes()));
                add
            }
            Drive::Prepared(text) if matches!(text.as_str(), "help" | "list" | "h" | "?") => {
                print(prepare::list());
                return Ok(Opened::Listed);
            }
            Drive::Prepared(text) => {
                let new = Prepared::parse(text, prepared.len() + 1)?;
                new.create()?;
                let path = new.path.as_os_str().as_bytes().to_vec();
                prepared.push((index, new));
                vec![b"add-drive".to_vec(), path, b"format:raw".to_vec()]
            }
        };
        command(shell, session, &add)?;
    }
    if options.mounts.is_empty() && !options.inspect && prepared.is_empty() {
        return Ok(Opened::Ready(None));
    }
    command(shell, session, &[b"launch".to_vec()])?;
    let system = match options.inspect {
        true => Some(inspect(options, session, host)?),
        false => None,
    };
    for (index, new) in &prepared {
        let devices = session.devices();
        let device = devices.get(*index).ok_or_else(|| Error::usage(format!("drive {index} is not there")))?;
        for words in new.commands(device) {
            let words: Vec<_> = words.into_iter().map(String::into_bytes).collect();
            command(shell, session, &words)?;
        }
    }
    if !prepared.is_empty() && !options.dry_run {
        // As with guestfish, a prepared disk is there whatever becomes of the script.
        session.commit()?;
    }
    for mount in &options.mounts {
        let default = if options.read_only { "ro" } else { "" };
        let words: Vec<Vec<u8>> = match (&mount.options, &mount.kind) {
            (given, Some(kind)) => {
                let given = given.as_deref().unwrap_or(default);
                vec![
                    "mount-vfs".into(),
                    given.into(),
                    kind.clone().into(),
                    mount.device.clone().into(),
                    mount.mountpoint.clone(),
                ]
            }
            (None, None) if !options.read_only => {
                vec!["mount".into(), mount.device.clone().into(), mount.mountpoint.clone()]
            }
            (None, None) => vec!["mount-ro".into(), mount.device.clone().into(), mount.mountpoint.clone()],
            (Some(given), None) => {
                vec![
                    "mount-options".into(),
                    given.clone().into(),
                    mount.device.clone().into(),
                    mount.mountpoint.clone(),
                ]
            }
        };
        if command(shell, session, &words).is_err() {
            eprintln!("{PROGRAM}: ‘{}’ could not be mounted.", mount.device);
            if let Ok(found) = session.file_systems() {
                eprintln!("{PROGRAM}: Did you mean to mount one of these filesystems?");
                for (device, kind) in found {
                    eprintln!("{PROGRAM}: \t{device} ({kind})");
                }
            }
            return Err(None);
        }
    }
    Ok(Opened::Ready(system))
}

fn command(shell: &mut Shell, session: &mut Session, words: &[Vec<u8>]) -> Result<(), Option<Error>> {
    match shell.run_command(session, words) {
        Outcome::Failed => Err(None),
        Outcome::Done | Outcome::Quit => Ok(()),
    }
}

/// `-i`: exactly one system is mounted; answers its name.
fn inspect(options: &Options, session: &mut Session, host: &RealHost) -> Result<String> {
    let closed = keys::open_volumes(options, session, host)?;
    keys::tell_closed(&closed);
    let mut roots = session.inspect()?;
    let root = match roots.len() {
        0 if !closed.is_empty() => {
            let words = "no operating system was found outside of encrypted volumes";
            return Err(Error::usage(words).hint("give their keys with --key"));
        }
        0 => {
            return Err(Error::usage("no operating system was found on this disk")
                .hint("leave out -i, look with 'run' and 'list-filesystems', and mount by hand with -m or 'mount'"));
        }
        1 => roots.remove(0),
        _ => {
            let names: Vec<_> = roots.iter().map(|r| format!("{} ({})", r.device, r.product_name)).collect();
            return Err(Error::usage(format!("more than one operating system was found: {}", names.join(", ")))
                .hint("mount the one that is meant with -m or 'mount'"));
        }
    };
    let missing = session.mount_root(&root, options.read_only)?;
    if session.guest.mounts().iter().all(|m| m.mountpoint != GuestPathBuf::root()) {
        if let Some(error) = missing.into_iter().next() {
            return Err(error);
        }
        return Err(Error::usage("the root file system could not be mounted").at(&root.device));
    }
    if !missing.is_empty() {
        eprintln!("{PROGRAM}: some filesystems could not be mounted (ignored)");
        for error in missing {
            eprintln!("{PROGRAM}: {error}");
        }
    }
    Ok(root.product_name)
}

/// Runs what the words, the file or standard input say.
fn batch(options: &Options, session: &mut Session, shell: &mut Shell, scripting: &Scripting) -> Result<Outcome> {
    let is_script = |path: &Path| match options.language {
        Some(language) => language == Language::Rhai,
        None => path.extension().is_some_and(|e| e == "rhai"),
    };
    if let Some(path) = options.file.as_deref().filter(|path| is_script(path)) {
        scripting.run_file(session, path, &options.words)?;
        return Ok(Outcome::Done);
    }
    let (input, name) = match &options.file {
        Some(path) => (File::open(path).map_err(|e| Error::io(path.display(), e))?, path.display().to_string()),
        None => (host::standard_input()?, "*stdin*".to_string()),
    };
    let mut lines = ReaderLines(BufReader::new(input));
    shell.set_place(Place::Line { file: name, line: 0 });
    Ok(match options.words.is_empty() {
        true => shell.run_lines(session, &mut lines),
        false => shell.run_words(session, &options.words, &mut lines),
    })
}

/// The end of a run: a good one is committed, one that failed leaves every image as it was. Answers whether all
/// went well.
fn finish(session: &mut Session, options: &Options, outcome: Outcome) -> bool {
    let good = outcome != Outcome::Failed;
    let steps = match session.steps().len() {
        1 => "1 step".to_string(),
        count => format!("{count} steps"),
    };
    if !good {
        if !session.steps().is_empty() && !options.dry_run {
            eprintln!("{PROGRAM}: nothing of the {steps} before the error was written; the images are as they were");
        }
        return false;
    }
    if options.dry_run {
        return would_write(session, &steps);
    }
    if !session.is_changed() {
        return true;
    }
    if !session.settings.autosync {
        eprintln!(
            "{PROGRAM}: {steps} not written, since autosync is off (-n); 'commit' or 'sync' would have written them"
        );
        return true;
    }
    let sizes = if session.settings.verbose { session.changes() } else { Ok(Vec::new()) };
    if let Err(error) = session.commit() {
        return failed(&error);
    }
    for change in sizes.unwrap_or_default() {
        eprintln!("{PROGRAM}: {} ({}): {} bytes written", change.device, change.path.display(), change.bytes);
    }
    true
}

/// The end of a dry run: what a commit would have made permanent.
fn would_write(session: &Session, steps: &str) -> bool {
    eprintln!("{PROGRAM}: dry run, nothing was written; {steps} would have been");
    for step in session.steps() {
        eprintln!("  {}", step.label);
    }
    match session.changes() {
        Ok(changes) => {
            for change in changes {
                eprintln!("{PROGRAM}: {} ({}): {} bytes", change.device, change.path.display(), change.bytes);
            }
            true
        }
        Err(error) => failed(&error),
    }
}
