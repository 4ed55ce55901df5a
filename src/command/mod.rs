//! The command table: one entry a command, from which help, prompt, one-shot form, Rhai function, completion,
//! reference page and tests follow.

pub mod args;
pub mod host;
mod reference;
pub mod value;

pub use args::{Arg, Args, HostFile};
pub use host::{Host, OutFile};
pub use reference::reference;
pub use value::{Control, Field, Record, Table, Value};

use std::fmt::Write;

use crate::base::{Error, Result, progress};
use crate::session::Session;

/// One command.
pub struct Command {
    /// Name with dashes, as users type it.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// One line, lower case, no full stop.
    pub summary: &'static str,
    /// A paragraph or more; may be empty when the summary says all.
    pub help: &'static str,
    /// Arguments in order: required, then at most one repeated, then optional ones.
    pub params: &'static [Param],
    /// Shape of the answer.
    pub returns: Returns,
    /// What it may change.
    pub effect: Effect,
    /// Shown by help, run as tests.
    pub examples: &'static [Example],
    /// The work. Errors carry path and reason, not the command's name.
    pub run: fn(&mut Context, &Args) -> Result<Value>,
}

impl Command {
    /// Name and arguments, as usage lines show them.
    pub fn synopsis(&self) -> String {
        let mut text = self.name.to_string();
        for param in self.params.iter().filter(|param| param.is_word()) {
            let name = param.name;
            text.push(' ');
            // A String takes all that is written to it.
            let _ = match param.need {
                Need::Required => write!(text, "{name}"),
                Need::Many => write!(text, "{name} [{name}...]"),
                Need::Any => write!(text, "[{name}...]"),
                Need::Maybe => write!(text, "[{name}]"),
                Need::Optional => write!(text, "[{}]", param.option_usage()),
            };
        }
        text
    }
}

/// One argument.
pub struct Param {
    /// Name, in optional arguments the word before the colon.
    pub name: &'static str,
    /// How its text is read and completed.
    pub kind: Kind,
    /// Whether it must be there.
    pub need: Need,
}

impl Param {
    /// Exactly one word.
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Param { name, kind, need: Need::Required }
    }

    /// One or more words.
    pub const fn many(name: &'static str, kind: Kind) -> Self {
        Param { name, kind, need: Need::Many }
    }

    /// Zero or more words.
    pub const fn any(name: &'static str, kind: Kind) -> Self {
        Param { name, kind, need: Need::Any }
    }

    /// A word that may be left out.
    pub const fn maybe(name: &'static str, kind: Kind) -> Self {
        Param { name, kind, need: Need::Maybe }
    }

    /// `name:value`.
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Param { name, kind, need: Need::Optional }
    }

    /// Whether it stands as a word in a line. A key does not.
    pub fn is_word(&self) -> bool {
        self.kind != Kind::Key
    }

    /// An option as usage lines show it: `name:true|false`, `name:N`, `name:..`.
    pub fn option_usage(&self) -> String {
        let value = match self.kind {
            Kind::Bool => "true|false",
            Kind::Int | Kind::Int64 | Kind::Mode | Kind::ModeChange | Kind::Owner => "N",
            _ => "..",
        };
        format!("{}:{value}", self.name)
    }
}

/// Whether an argument must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Exactly one word.
    Required,
    /// One or more words (`copy-in LOCAL... DIR`); at most one such parameter.
    Many,
    /// Zero or more words (`echo`, `glob`, `time`); at most one such parameter.
    Any,
    /// A word that may be left out (shell commands only).
    Maybe,
    /// `name:value`, in any order after the others.
    Optional,
}

/// How an argument's text is read (guestfish-language, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text as it is.
    Text,
    /// Bytes as they are.
    Bytes,
    /// Absolute guest path.
    Path,
    /// Device, translated to its canonical name.
    Device,
    /// Device or `btrfsvol:`.
    Mountable,
    /// Device or path.
    DeviceOrPath,
    /// Host file to read; `-` is standard input, `-<<END` a heredoc.
    FileIn,
    /// Host file to write; `-` is standard output.
    FileOut,
    /// Host path that is neither read nor written as a stream (copy-in sources, lcd).
    HostPath,
    /// Words in one word.
    List,
    /// Boolean.
    Bool,
    /// C integer with suffix, 32 bits.
    Int,
    /// C integer with suffix, 64 bits.
    Int64,
    /// Permission bits: a C integer; decimal 755 is 755 (a known trap, kept).
    Mode,
    /// Permission bits as [`Kind::Mode`], or a change of them like `u+x` (as bytes).
    ModeChange,
    /// The number of a user or group, or a name (as bytes) that the guest's own files explain.
    Owner,
    /// A passphrase: no word of a line, but asked for; never shown.
    Key,
    /// A command name and its words (`glob`, `time`, `help`).
    Command,
}

/// Shape of an answer; decides how it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// Nothing.
    Nothing,
    /// `true` or `false`.
    Bool,
    /// Decimal.
    Int,
    /// Text and a newline.
    Text,
    /// A line an element.
    List,
    /// `key: value` lines.
    Hash,
    /// `field: value` lines.
    Struct,
    /// `[n] = { ... }` blocks.
    Structs,
    /// Aligned columns.
    Table,
    /// Raw bytes.
    Bytes,
    /// A request to the shell.
    Control,
}

/// What a command may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: looks at the guest's disks.
    Reads,
    /// The guest's disks: runs inside a transaction, becomes a step.
    Writes,
    /// The session: drives, mounts, steps.
    Session,
    /// Only the host or the shell itself.
    Host,
}

/// An example: lines of the guestfish language that run after [`Example::setup`] and what they print.
pub struct Example {
    /// The world it runs in.
    pub setup: Setup,
    /// The lines.
    pub lines: &'static str,
    /// Their standard output.
    pub output: &'static str,
}

/// A prepared world for examples and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// No drive at all.
    Nothing,
    /// One empty 64 MiB raw disk, `run` done.
    EmptyDisk,
    /// A 64 MiB MBR disk with one ext4 partition, mounted on `/`.
    Ext4,
    /// A 64 MiB GPT disk: vfat on /dev/sda1, ext4 on /dev/sda2 mounted on `/`.
    EspAndExt4,
    /// As [`Setup::Ext4`], with the files by which inspection knows a small Debian 12.5 called `box`.
    Debian,
    /// A disk of 64 MiB with an empty LUKS2 volume; its passphrase comes on standard input.
    Encrypted,
    /// An ISO 9660 disc called `Disc`, mounted on `/`; its file /small.iso is another one.
    Disc,
    /// A btrfs on the whole disk: subvolumes `root` (the default, mounted on `/`), `root/var/lib`, `home` and a snapshot.
    Btrfs,
}

/// What a handler works with.
pub struct Context<'a> {
    /// The session.
    pub session: &'a mut Session,
    /// The host.
    pub host: &'a dyn Host,
}

impl Context<'_> {
    /// `Kind::Usage` unless `run` was done.
    pub fn launched(&mut self) -> Result<&mut Session> {
        if self.session.is_launched() {
            return Ok(self.session);
        }
        Err(Error::usage("call launch before using this function")
            .hint("(in guestfish, don't forget to use the 'run' command)"))
    }
}

/// Runs a command: the one way in for every front end. A command that writes runs in a transaction under `label`
/// (the line as it was given). A command that reads or writes the guest's disks needs `run` first.
///
/// # Errors
/// What the handler said; after an error nothing has changed.
pub fn run(command: &Command, context: &mut Context, args: &Args, label: &str) -> Result<Value> {
    let _work = progress::begin(command.name);
    let host = context.host;
    let now = host.now();
    args.host_paths(command.params).try_for_each(|path| host.reach(path))?;
    let args = &*args.resolved(command.params, context.session)?;
    context.session.guest.set_now(now);
    if matches!(command.effect, Effect::Reads | Effect::Writes) {
        context.launched()?;
    }
    match command.effect {
        Effect::Writes => {
            context.session.transact(label, now, |session| (command.run)(&mut Context { session, host }, args))
        }
        _ => (command.run)(context, args),
    }
}
