//! `diff`: the staged state of the mounted guest against the committed one; `diff-image`: against another image.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use super::disks;
use crate::base::{Error, GuestPathBuf, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::disk::OpenOptions;
use crate::fs::{FileType, Metadata};
use crate::guest::Guest;
use crate::session::{AddDisk, Session, SessionOptions};

/// Longest file whose lines are compared, in bytes.
const TEXT_LIMIT: u64 = 256 << 10;
/// How long the comparison of two texts may look for the shortest difference.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes that two files are compared by.
const STEP: usize = 64 << 10;

pub(super) const COMMANDS: &[Command] = &[DIFF, DIFF_IMAGE];

const DIFF: Command = Command {
    name: "diff",
    aliases: &[],
    summary: "what differs between the staged and the committed state",
    help: "A line for each path below PATH (or the root) that was added (A), deleted (D) or modified (M), with what differs in its attributes, and \
           the lines that differ in texts of up to 256 KiB; `text:false` leaves those out. What a commit would make permanent is all \
           of it.",
    params: &[Param::maybe("path", Kind::Path), Param::optional("text", Kind::Bool)],
    returns: Returns::Text,
    effect: Effect::Reads,
    examples: &[Example {
        setup: Setup::Ext4,
        lines: "write /motd \"one\\ntwo\\n\"\ncommit\nwrite /motd \"one\\n2\\n\"\nchmod 0600 /motd\nmkdir /d\ndiff\n",
        output: "A /d\nM /motd (mode 0644 -> 0600, size 8 -> 6)\n--- /motd\n+++ /motd\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n",
    }],
    run: diff,
};

const DIFF_IMAGE: Command = Command {
    name: "diff-image",
    aliases: &[],
    summary: "what differs between another image and the mounted guest",
    help: "As `diff`, from the state in the image FILENAME to what is mounted here, staged changes with it: A is only here, D only there, M in \
           both and different in type, mode, owner, device numbers, extended attributes, link or content, which is read; times are not \
           compared. If the root here is that of an operating system, the only one in the other image is mounted there as its fstab says; \
           else the devices of the same names are mounted there as they are here. The other image is only read. `format` is raw or qcow2, \
           `text:false` leaves the lines of texts out.",
    params: &[
        Param::required("filename", Kind::HostPath),
        Param::maybe("path", Kind::Path),
        Param::optional("format", Kind::Text),
        Param::optional("text", Kind::Bool),
    ],
    returns: Returns::Text,
    effect: Effect::Reads,
    examples: &[Example {
        setup: Setup::Ext4,
        lines: "write /motd \"one\\n\"\nsync\n!cp disk.img old.img\nwrite /motd \"two\\n\"\nrmdir /lost+found\ndiff-image old.img\n",
        output: "D /lost+found\nM /motd (content)\n--- /motd\n+++ /motd\n@@ -1 +1 @@\n-one\n+two\n",
    }],
    run: diff_image,
};

/// How two guests are compared.
#[derive(Clone, Copy)]
struct Manner {
    /// The lines that differ in texts are wanted.
    text: bool,
    /// A node that has the same number, size and times is the same: so only for two states of one image.
    trusting: bool,
}

fn top_of(args: &Args) -> GuestPathBuf {
    match args.get("path") {
        Some(_) => args.path("path"),
        None => GuestPathBuf::root(),
    }
}

fn wants_text(args: &Args) -> bool {
    args.get("text").is_none() || args.bool("text")
}

fn diff(cx: &mut Context, args: &Args) -> Result<Value> {
    if cx.session.steps().is_empty() {
        return Ok(Value::text(""));
    }
    let committed = cx.session.committed()?;
    let manner = Manner { text: wants_text(args), trusting: true };
    compare(&committed.guest, &cx.session.guest, &top_of(args), manner)
}

fn diff_image(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.host("filename");
    let format = args.text_if("format").map(|name| disks::format(&name)).transpose()?;
    let opened = disks::open_image(cx, path, OpenOptions { format, read_only: true })?;
    let mut other = Session::new(SessionOptions { dry_run: true });
    other.guest.set_interrupt(cx.session.guest.interrupt_flag());
    other.attach(opened, AddDisk { path: path.to_path_buf(), format, read_only: true, label: None });
    other.launch()?;
    mount_likewise(cx.session, &mut other).map_err(|e| e.at(path.display()))?;
    let manner = Manner { text: wants_text(args), trusting: false };
    compare(&other.guest, &cx.session.guest, &top_of(args), manner)
}

/// Mounts in another session what is mounted in this one.
fn mount_likewise(session: &mut Session, other: &mut Session) -> Result<()> {
    let mounts = session.guest.mounts().to_vec();
    let root = mounts.iter().find(|mount| mount.mountpoint == GuestPathBuf::root());
    let Some(root) = root else {
        return Err(Error::usage("nothing is mounted on / here").hint("mount what is to be compared, or use -i"));
    };
    if !session.inspect()?.iter().any(|found| found.device == root.device) {
        return mounts.iter().try_for_each(|mount| other.mount(&mount.device, &mount.mountpoint, true));
    }
    match &other.inspect()?[..] {
        [found] => {
            // Volumes that are mounted only here show as what they hold.
            other.mount_root(found, true)?;
            Ok(())
        }
        found => Err(Error::usage(format!("{} operating systems were found in it, not one", found.len()))
            .hint("mount devices by hand that are no operating system's root, and compare those")),
    }
}

fn compare(old: &Guest, new: &Guest, top: &GuestPathBuf, manner: Manner) -> Result<Value> {
    let mut before = nodes(old, top)?;
    let mut lines: Vec<(GuestPathBuf, String)> = Vec::new();
    new.walk(top, &mut |entry| {
        let path = below(top, &entry.path);
        match before.remove(&path) {
            None => lines.push((path.clone(), format!("A {}\n", path))),
            Some(was) => {
                if let Some(line) = changed(old, new, &path, &was, &entry.metadata, manner)? {
                    lines.push((path, line));
                }
            }
        }
        Ok(true)
    })?;
    lines.extend(before.into_keys().map(|path| {
        let line = format!("D {}\n", path);
        (path, line)
    }));
    // Slashes first, so that a folder comes before what is in it.
    lines.sort_by(|a, b| a.0.0.split(|c| *c == b'/').cmp(b.0.0.split(|c| *c == b'/')));
    let out: String = lines.into_iter().map(|(_, line)| line).collect();
    Ok(Value::text(out.strip_suffix('\n').unwrap_or(&out)))
}

/// A path of a walk as a whole one.
pub(super) fn below(top: &GuestPathBuf, path: &GuestPathBuf) -> GuestPathBuf {
    if path.0.is_empty() { top.clone() } else { top.join(&path.0) }
}

/// All nodes below a path, by whole path; none if the path is not there.
fn nodes(guest: &Guest, top: &GuestPathBuf) -> Result<HashMap<GuestPathBuf, Metadata>> {
    let mut found = HashMap::new();
    if guest.mounts().is_empty() || guest.lstat(top).is_err() {
        return Ok(found);
    }
    guest.walk(top, &mut |entry| {
        found.insert(below(top, &entry.path), entry.metadata.clone());
        Ok(true)
    })?;
    Ok(found)
}

/// The lines that tell how a path has changed, `None` if it has not.
fn changed(
    old: &Guest,
    new: &Guest,
    path: &GuestPathBuf,
    was: &Metadata,
    is: &Metadata,
    manner: Manner,
) -> Result<Option<String>> {
    let touched = was.changed != is.changed || was.modified != is.modified || was.inode != is.inode;
    if manner.trusting && (was == is || (!touched && was.size == is.size)) {
        return Ok(None);
    }
    let mut facts = Vec::new();
    if was.file_type != is.file_type {
        facts.push(format!("type {} -> {}", was.file_type.letter(), is.file_type.letter()));
    }
    if was.mode != is.mode {
        facts.push(format!("mode {:04o} -> {:04o}", was.mode, is.mode));
    }
    if (was.uid, was.gid) != (is.uid, is.gid) {
        facts.push(format!("owner {}:{} -> {}:{}", was.uid, was.gid, is.uid, is.gid));
    }
    if was.device != is.device {
        facts.push(format!("device {:?} -> {:?}", was.device, is.device));
    }
    if old.xattrs(path, false)? != new.xattrs(path, false)? {
        facts.push("extended attributes".to_string());
    }
    let both = |kind| was.file_type == kind && is.file_type == kind;
    let mut content = String::new();
    if both(FileType::Symlink) {
        let (a, b) = (old.read_link(path)?, new.read_link(path)?);
        if a != b {
            facts.push(format!("link {} -> {}", a, b));
        }
    } else if both(FileType::Regular) {
        let same = was.size == is.size && same_content(old, new, path)?;
        if was.size != is.size {
            facts.push(format!("size {} -> {}", was.size, is.size));
        } else if !same {
            facts.push("content".to_string());
        }
        if !same && manner.text && was.size.max(is.size) <= TEXT_LIMIT {
            content = text_difference(old, new, path)?;
        }
    }
    if facts.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!("M {} ({})\n{content}", path, facts.join(", "))))
}

fn same_content(old: &Guest, new: &Guest, path: &GuestPathBuf) -> Result<bool> {
    let (mut a, mut b) = (old.reader(path)?, new.reader(path)?);
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    loop {
        new.check_interrupt()?;
        let (n, m) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        if n != m || left[..n] != right[..m] {
            return Ok(false);
        }
        if n < STEP {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read(&mut buffer[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// The unified difference of two texts, or that they are none.
fn text_difference(old: &Guest, new: &Guest, path: &GuestPathBuf) -> Result<String> {
    let read = |guest: &Guest| guest.read_file(path, TEXT_LIMIT).map(String::from_utf8);
    let name = path.to_string();
    let (Ok(a), Ok(b)) = (read(old)?, read(new)?) else {
        return Ok("  binary files differ\n".to_string());
    };
    if a.contains('\0') || b.contains('\0') {
        return Ok("  binary files differ\n".to_string());
    }
    let difference = similar::TextDiff::configure().timeout(PATIENCE).diff_lines(&a, &b);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{}", difference.unified_diff().context_radius(3).header(&name, &name));
    Ok(out)
}
