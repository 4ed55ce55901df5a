//! Commands of our own for people who look rather than read: trees, disks, the state of the session.

use std::fmt::Write as _;

use super::comparing::below;
use super::disk_free;
use crate::base::{Result, printable};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::FileType;
use crate::volume::TableKind;

/// Most entries of a tree that are shown.
const ENTRIES_MAX: usize = 1_000_000;
/// Columns of a disk's bar.
const BAR: usize = 60;
/// Marks of partitions in a bar, by number.
const MARKS: &[u8] = b"123456789abcdefghijklmnopqrstuvwxyz";

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "map",
        aliases: &[],
        summary: "the disks with their partitions and free space, as bars",
        help: "Each disk is a bar in proportion, a dot for what no partition has, and a line a partition: its device, start, size, file \
               system, label and, where it is mounted, how full it is and where. Nothing is scanned.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "map\n",
            output: "/dev/sda  64M  mbr\n[111111111111111111111111111111111111111111111111111111111111]\n1 /dev/sda1           64K      64M  ext4       14K used on /\n",
        }],
        run: map,
    },
    Command {
        name: "status",
        aliases: &[],
        summary: "the images, what is mounted and what is staged",
        help: "Images with format, size and whether they are read-only, mounts, and the number of steps and bytes that a commit would write.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "status\n",
            output: "not launched: 'run' makes the devices available\nnothing is staged\n",
        }],
        run: status,
    },
    Command {
        name: "tree",
        aliases: &[],
        summary: "the tree below a directory",
        help: "With `depth`, only so many levels. Links show where they lead and are not followed.",
        params: &[Param::required("directory", Kind::Path), Param::optional("depth", Kind::Int)],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir-p /d/e\ntouch /d/e/f\nln-s e /d/l\ntree /d\n",
            output: "/d\n├── e\n│   └── f\n└── l -> e\n\n1 directory, 2 files\n",
        }],
        run: tree,
    },
];

/// An amount of bytes for people.
fn readable(bytes: u64) -> String {
    disk_free::readable(bytes.into())
}

fn tree(cx: &mut Context, args: &Args) -> Result<Value> {
    let top = args.path("directory");
    let depth = args.int_if("depth").map_or(usize::MAX, |depth| usize::try_from(depth).unwrap_or(0));
    let guest = &cx.session.guest;
    // Depth, name and link of each entry, in the order of the walk.
    let mut entries: Vec<(usize, String)> = Vec::new();
    let (mut directories, mut files) = (0_usize, 0_usize);
    let mut more = false;
    guest.walk(&top, &mut |entry| {
        let path = entry.path.0.as_slice();
        if path.is_empty() {
            return Ok(depth > 0);
        }
        if entries.len() >= ENTRIES_MAX {
            more = true;
            return Ok(false);
        }
        let level = path.iter().filter(|c| **c == b'/').count();
        let mut name = printable(path.rsplit(|c| *c == b'/').next().unwrap_or(path));
        match entry.metadata.file_type {
            FileType::Directory => directories += 1,
            FileType::Symlink => {
                files += 1;
                let _ = write!(name, " -> {}", guest.read_link(&below(&top, &entry.path))?);
            }
            _ => files += 1,
        }
        entries.push((level, name));
        Ok(level + 1 < depth)
    })?;
    // From the end: whether an entry is the last one of its directory.
    let mut last = vec![true; entries.len()];
    let mut open: Vec<bool> = Vec::new();
    for (at, (level, _)) in entries.iter().enumerate().rev() {
        open.resize(level + 1, false);
        last[at] = !std::mem::replace(&mut open[*level], true);
    }
    let mut out = format!("{}\n", top);
    let mut bars: Vec<bool> = Vec::new();
    for ((level, name), last) in entries.iter().zip(last) {
        bars.truncate(*level);
        for ended in &bars {
            out.push_str(if *ended { "    " } else { "│   " });
        }
        out.push_str(if last { "└── " } else { "├── " });
        out.push_str(name);
        out.push('\n');
        bars.push(last);
    }
    if more {
        let _ = writeln!(out, "(only the first {ENTRIES_MAX} are shown)");
    }
    let (d, f) =
        (if directories == 1 { "directory" } else { "directories" }, if files == 1 { "file" } else { "files" });
    let _ = write!(out, "\n{directories} {d}, {files} {f}");
    Ok(Value::text(out))
}

fn map(cx: &mut Context, _: &Args) -> Result<Value> {
    let mut out = String::new();
    for disk in cx.launched()?.devices() {
        let size = cx.session.device(&disk)?.len();
        let table = cx.session.table(&disk)?;
        let kind = match &table {
            Some(table) if table.kind == TableKind::Gpt => "gpt",
            Some(_) => "mbr",
            None => "no partition table",
        };
        let _ = writeln!(out, "{disk}  {}  {kind}", readable(size));
        let Some(table) = table else {
            let _ = writeln!(out, "[{}]", "#".repeat(BAR));
            row(cx, &mut out, "", &disk, 0, size)?;
            continue;
        };
        let mut bar = vec![b'.'; BAR];
        let column = |at: u64| {
            usize::try_from(u128::from(at) * BAR as u128 / u128::from(size.max(1))).unwrap_or(BAR).min(BAR - 1)
        };
        let mark = |number: u32| MARKS.get(number as usize - 1).copied().unwrap_or(b'#');
        for part in table.partitions.iter().filter(|p| p.len > 0 && p.number > 0) {
            let end = part.start.saturating_add(part.len - 1);
            bar[column(part.start)..=column(end)].fill(mark(part.number));
        }
        let _ = writeln!(out, "[{}]", String::from_utf8_lossy(&bar));
        for part in table.partitions.iter().filter(|p| p.number > 0) {
            let sign = char::from(mark(part.number)).to_string();
            row(cx, &mut out, &sign, &format!("{disk}{}", part.number), part.start, part.len)?;
        }
    }
    for name in cx.session.mapped_devices().into_iter().chain(cx.session.logical_volumes()?) {
        // A volume that cannot be opened is told by lvs.
        if let Ok(device) = cx.session.device(&name) {
            row(cx, &mut out, "", &name, 0, device.len())?;
        }
    }
    Ok(Value::text(out.trim_end_matches('\n')))
}

/// A line on a volume.
fn row(cx: &Context, out: &mut String, sign: &str, device: &str, start: u64, len: u64) -> Result<()> {
    let found = cx.session.identify(device)?.unwrap_or_default();
    let mut line = format!(
        "{sign:<2}{device:<14} {:>8} {:>8}  {:<8} {}",
        readable(start),
        readable(len),
        found.fs_type,
        found.label
    );
    for mount in cx.session.guest.mounts().iter().filter(|mount| mount.device == device) {
        let info = cx.session.guest.statvfs(&mount.mountpoint)?;
        let used = (info.blocks - info.free_blocks.min(info.blocks)) * info.block_size;
        let _ = write!(line, "  {} used on {}", readable(used), mount.mountpoint);
    }
    let _ = writeln!(out, "{}", line.trim_end());
    Ok(())
}

fn status(cx: &mut Context, _: &Args) -> Result<Value> {
    let session = &cx.session;
    let mut out = String::new();
    let changes = session.changes()?;
    for (device, disk) in session.devices().iter().zip(session.disk_facts()) {
        let access = if disk.read_only { ", read-only" } else { "" };
        let _ = writeln!(out, "{device}: {} ({}, {}{access})", disk.path.display(), disk.format, readable(disk.size));
        if let Some(change) = changes.iter().find(|change| change.device == *device) {
            let _ = writeln!(out, "  {} bytes staged", change.bytes);
        }
    }
    if !session.is_launched() {
        out.push_str("not launched: 'run' makes the devices available\n");
    } else if session.guest.mounts().is_empty() {
        out.push_str("nothing is mounted\n");
    }
    for mount in session.guest.mounts() {
        let access = if mount.read_only { " (read-only)" } else { "" };
        let _ = writeln!(out, "{} on {}{access}", mount.device, mount.mountpoint);
    }
    match session.steps().len() {
        0 => out.push_str("nothing is staged"),
        1 => out.push_str("1 step is staged: 'diff' shows what it changes"),
        count => {
            let _ = write!(out, "{count} steps are staged: 'diff' shows what they change");
        }
    }
    Ok(Value::text(out))
}
