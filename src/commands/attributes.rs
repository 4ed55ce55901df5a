//! Commands on attributes: modes, owners, times, `stat`, the umask.

use super::modes;
use super::owners::id_of;
use super::writing::{done, unsigned_mode};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, Timestamp};
use crate::command::{Arg, Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::{FileType, Metadata, SetAttributes};
use crate::guest::Guest;

const PATH: Param = Param::required("path", Kind::Path);
const OWNER: Param = Param::required("owner", Kind::Owner);
const GROUP: Param = Param::required("group", Kind::Owner);
const NAMES: Param = Param::required("names", Kind::List);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "chmod",
        aliases: &[],
        summary: "set the permission bits of a path",
        help: "The mode is a number: write it with a leading 0, `0644`. Without it, guestfish and so imgsh read it as \
               decimal. Changes like `u+x` or `go-w` are understood too. Links are followed.",
        params: &[Param::required("mode", Kind::ModeChange), PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[
            Example {
                setup: Setup::Ext4,
                lines: "touch /f\nchmod 0751 /f\nstat /f | grep mode\n",
                output: "mode: 33257\n",
            },
            Example {
                setup: Setup::Ext4,
                lines: "touch /f\nchmod go+w /f\nstat /f | grep mode\n",
                output: "mode: 33206\n",
            },
        ],
        run: |cx, args| {
            let path = args.path("path");
            let mode = match args.get("mode") {
                Some(Arg::Bytes(change)) => {
                    let (old, umask) = (cx.session.guest.stat(&path)?, cx.session.guest.umask());
                    let directory = old.file_type == FileType::Directory;
                    modes::changed(old.mode, directory, umask, &String::from_utf8_lossy(change))?
                }
                _ => unsigned_mode(args, &path)? & 0o7777,
            };
            let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
            done(cx.session.guest.set_attributes(&path, true, &set))
        },
    },
    Command {
        name: "chown",
        aliases: &[],
        summary: "set owner and group of a path",
        help: "Both are numbers, or names from the guest's /etc/passwd and /etc/group; -1 leaves one as it is. Links are \
               followed. A file loses its set-id bits and capabilities, as on Linux.",
        params: &[OWNER, GROUP, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nchown 10 11 /f\nstat /f | grep id\n",
            output: "uid: 10\ngid: 11\n",
        }],
        run: |cx, args| chown(cx, args, true),
    },
    Command {
        name: "get-umask",
        aliases: &[],
        summary: "the mask of permission bits that new files do not get",
        help: "Printed in octal.",
        params: &[],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "get-umask\n", output: "022\n" }],
        run: |cx, _| Ok(Value::Octal(i64::from(cx.session.guest.umask()))),
    },
    Command {
        name: "lchown",
        aliases: &[],
        summary: "set owner and group of a link itself",
        help: "As `chown`, but a symbolic link at the end of the path is not followed.",
        params: &[OWNER, GROUP, PATH],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s x /l\nlchown 10 11 /l\nlstat /l | grep uid\n",
            output: "uid: 10\n",
        }],
        run: |cx, args| chown(cx, args, false),
    },
    Command {
        name: "lstat",
        aliases: &[],
        summary: "attributes of a path, links not followed",
        help: "As `lstatns`, with whole seconds.",
        params: &[PATH],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "ln-s abc /l\nlstat /l | grep ^size\n", output: "size: 3\n" }],
        run: |cx, args| one(cx, args, false, STAT),
    },
    Command {
        name: "lstatlist",
        aliases: &[],
        summary: "attributes of many names in a directory",
        help: "As `lstatnslist`, with whole seconds.",
        params: &[PATH, NAMES],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\nlstatlist / \"f g\" | egrep 'ino: -1| size'\n",
            output: "  size: 5\n  ino: -1\n  size: 0\n",
        }],
        run: |cx, args| many(cx, args, STAT),
    },
    Command {
        name: "lstatns",
        aliases: &[],
        summary: "attributes of a path with nanoseconds, links not followed",
        help: "",
        params: &[PATH],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "ln-s abc /l\nlstatns /l | grep st_mode\n",
            output: "st_mode: 41471\n",
        }],
        run: |cx, args| one(cx, args, false, STATNS),
    },
    Command {
        name: "lstatnslist",
        aliases: &[],
        summary: "attributes of many names in a directory, with nanoseconds",
        help: "A name that is not there gets a record with inode number -1.",
        params: &[PATH, NAMES],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\nlstatnslist / \"f\" | grep st_size\n",
            output: "  st_size: 5\n",
        }],
        run: |cx, args| many(cx, args, STATNS),
    },
    Command {
        name: "stat",
        aliases: &[],
        summary: "attributes of a path",
        help: "Links are followed. As `statns`, with whole seconds.",
        params: &[PATH],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /f hello\nstat /f | egrep '^(mode|nlink|size)'\n",
            output: "mode: 33188\nnlink: 1\nsize: 5\n",
        }],
        run: |cx, args| one(cx, args, true, STAT),
    },
    Command {
        name: "statns",
        aliases: &[],
        summary: "attributes of a path with nanoseconds",
        help: "Links are followed.",
        params: &[PATH],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nutimens /f 1 2 3 4\nstatns /f | egrep 'st_[am]time'\n",
            output: "st_atime_sec: 1\nst_atime_nsec: 2\nst_mtime_sec: 3\nst_mtime_nsec: 4\n",
        }],
        run: |cx, args| one(cx, args, true, STATNS),
    },
    Command {
        name: "umask",
        aliases: &[],
        summary: "set the mask of permission bits that new files do not get",
        help: "Prints the mask before in octal. It is 022 at the start.",
        params: &[Param::required("mask", Kind::Mode)],
        returns: Returns::Int,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "umask 077\nmkdir /d\nstat /d | grep mode\n",
            output: "022\nmode: 16832\n",
        }],
        run: |cx, args| {
            let mask = args.int("mask") as u32;
            if mask > 0o777 {
                return Err(Error::usage("mask negative or out of range").at(format_args!("0{mask:o}")));
            }
            Ok(Value::Octal(i64::from(cx.launched()?.guest.set_umask(mask))))
        },
    },
    Command {
        name: "utimens",
        aliases: &[],
        summary: "set the times of a path",
        help: "Seconds and nanoseconds of the last read, then of the last change of the content. -1 as nanoseconds sets \
               the present time, -2 leaves the time as it is. A link's own times are set, not those of what it leads to.",
        params: &[
            PATH,
            Param::required("atsecs", Kind::Int64),
            Param::required("atnsecs", Kind::Int64),
            Param::required("mtsecs", Kind::Int64),
            Param::required("mtnsecs", Kind::Int64),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nutimens /f 0 -2 1000000000 0\nstat /f | grep mtime\n",
            output: "mtime: 1000000000\n",
        }],
        run: |cx, args| {
            let now = cx.host.now();
            let accessed = moment(args.int("atsecs"), args.int("atnsecs"), now)?;
            let modified = moment(args.int("mtsecs"), args.int("mtnsecs"), now)?;
            let set = SetAttributes { accessed, modified, ..SetAttributes::default() };
            done(cx.session.guest.set_attributes(&args.path("path"), false, &set))
        },
    },
];

/// Builds a record from what `stat` answers and the device's number.
type Shape = fn(&Metadata, u64) -> Record;

const STAT: Shape = stat_record;
const STATNS: Shape = statns_record;

fn moment(seconds: i64, nanos: i64, now: Timestamp) -> Result<Option<Timestamp>> {
    match nanos {
        -1 => Ok(Some(now)),
        -2 => Ok(None),
        0..1_000_000_000 => Ok(Some(Timestamp { seconds, nanos: nanos as u32 })),
        _ => Err(Error::usage(format!("{nanos} nanoseconds are not -1, -2 or 0 to 999999999"))),
    }
}

/// A number or a name; -1 keeps the owner, as chown(2) has it.
fn owner(cx: &Context, args: &Args, name: &str, file: &str) -> Result<Option<u32>> {
    match args.get(name) {
        Some(Arg::Bytes(text)) => id_of(cx, &String::from_utf8_lossy(text), file).map(Some),
        _ => Ok(Some(args.int(name)).filter(|id| *id != -1).map(|id| id as u32)),
    }
}

fn chown(cx: &mut Context, args: &Args, follow: bool) -> Result<Value> {
    let uid = owner(cx, args, "owner", "/etc/passwd")?;
    let gid = owner(cx, args, "group", "/etc/group")?;
    let path = args.path("path");
    let (guest, capability) = (&mut cx.session.guest, b"security.capability");
    let found = if follow { guest.stat(&path)? } else { guest.lstat(&path)? };
    let mut set = SetAttributes { uid, gid, ..SetAttributes::default() };
    // As Linux does (fs/open.c, chown_common): what a file may do for its owner goes with the owner.
    if found.file_type == FileType::Regular {
        let special = if found.mode & 0o010 != 0 { 0o6000 } else { 0o4000 };
        set.mode = (found.mode & special != 0).then_some(found.mode & !special);
        if guest.xattrs(&path, follow)?.iter().any(|(name, _)| **name == *capability) {
            guest.set_xattr(&path, follow, capability, None)?;
        }
    }
    done(guest.set_attributes(&path, follow, &set))
}

fn one(cx: &mut Context, args: &Args, follow: bool, shape: Shape) -> Result<Value> {
    let (guest, path) = (&cx.session.guest, args.path("path"));
    let metadata = if follow { guest.stat(&path)? } else { guest.lstat(&path)? };
    let holder = if follow { guest.realpath(&path)? } else { guest.realpath(&path.parent())? };
    Ok(Value::Struct(shape(&metadata, device_of(guest, &holder))))
}

/// Checks the words of a `names` argument: file names in one directory, not paths.
pub(super) fn file_names(args: &Args) -> Result<&[Vec<u8>]> {
    let names = args.list("names");
    match names.iter().find(|n| n.is_empty() || n.contains(&b'/')) {
        Some(bad) => Err(Error::usage(format!("names: '{}' is not a file name", crate::base::printable(bad)))),
        None => Ok(names),
    }
}

fn many(cx: &mut Context, args: &Args, shape: Shape) -> Result<Value> {
    let (guest, directory) = (&cx.session.guest, args.path("path"));
    let device = device_of(guest, &guest.realpath(&directory)?);
    let mut records = Vec::new();
    for name in file_names(args)? {
        records.push(match guest.lstat(&directory.join(name)) {
            Ok(metadata) => shape(&metadata, device),
            Err(e) if e.kind() == ErrorKind::NotFound => missing(shape),
            Err(e) => return Err(e),
        });
    }
    Ok(Value::Structs(records))
}

/// The record of a name that is not there: inode -1, all else 0.
fn missing(shape: Shape) -> Record {
    let nothing = Metadata {
        inode: 0,
        file_type: crate::fs::FileType::Regular,
        mode: 0,
        links: 0,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        block_size: 0,
        device: (0, 0),
        accessed: Timestamp::default(),
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        created: None,
    };
    let mut record = shape(&nothing, 0);
    for (name, field) in &mut record.0 {
        *field = Field::Int(if name.ends_with("ino") { -1 } else { 0 });
    }
    record
}

/// `st_dev` of the file system that holds a path without links: the number that Linux gives the disk or partition.
fn device_of(guest: &Guest, real: &GuestPathBuf) -> u64 {
    let components: Vec<&[u8]> = real.components().collect();
    let holds = |mountpoint: &GuestPathBuf| {
        let mountpoint: Vec<&[u8]> = mountpoint.components().collect();
        components.starts_with(&mountpoint).then_some(mountpoint.len())
    };
    // The longest mount point wins, the later one of two equal ones.
    let mount = guest.mounts().iter().filter_map(|m| Some((holds(&m.mountpoint)?, m))).max_by_key(|(depth, _)| *depth);
    mount.map_or(0, |(_, m)| device_number(&m.device))
}

/// The number of `/dev/sdXN` on Linux: major 8 and sixteen minors a disk; 0 for any other name.
pub(super) fn device_number(device: &str) -> u64 {
    let Some(rest) = device.strip_prefix("/dev/sd") else { return 0 };
    let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (letters, number) = rest.split_at(digits);
    let disk =
        letters.bytes().fold(0_u64, |n, c| n.saturating_mul(26).saturating_add(u64::from(c.wrapping_sub(b'a')) + 1));
    let part = number.parse::<u64>().unwrap_or(0);
    let minor = disk.saturating_sub(1).saturating_mul(16).saturating_add(part);
    makedev(8, u32::try_from(minor).unwrap_or(0))
}

/// `dev_t` as glibc packs major and minor.
fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}

fn int(value: impl Into<i128>) -> Field {
    Field::Int(value.into())
}

fn st_mode(m: &Metadata) -> u32 {
    m.file_type.mode_bits() | m.mode
}

fn stat_record(m: &Metadata, device: u64) -> Record {
    Record(vec![
        ("dev", int(device)),
        ("ino", int(m.inode)),
        ("mode", int(st_mode(m))),
        ("nlink", int(m.links)),
        ("uid", int(m.uid)),
        ("gid", int(m.gid)),
        ("rdev", int(makedev(m.device.0, m.device.1))),
        ("size", int(m.size)),
        ("blksize", int(m.block_size)),
        ("blocks", int(m.blocks)),
        ("atime", int(m.accessed.seconds)),
        ("mtime", int(m.modified.seconds)),
        ("ctime", int(m.changed.seconds)),
    ])
}

fn statns_record(m: &Metadata, device: u64) -> Record {
    Record(vec![
        ("st_dev", int(device)),
        ("st_ino", int(m.inode)),
        ("st_mode", int(st_mode(m))),
        ("st_nlink", int(m.links)),
        ("st_uid", int(m.uid)),
        ("st_gid", int(m.gid)),
        ("st_rdev", int(makedev(m.device.0, m.device.1))),
        ("st_size", int(m.size)),
        ("st_blksize", int(m.block_size)),
        ("st_blocks", int(m.blocks)),
        ("st_atime_sec", int(m.accessed.seconds)),
        ("st_atime_nsec", int(m.accessed.nanos)),
        ("st_mtime_sec", int(m.modified.seconds)),
        ("st_mtime_nsec", int(m.modified.nanos)),
        ("st_ctime_sec", int(m.changed.seconds)),
        ("st_ctime_nsec", int(m.changed.nanos)),
        ("st_spare1", int(0)),
        ("st_spare2", int(0)),
        ("st_spare3", int(0)),
        ("st_spare4", int(0)),
        ("st_spare5", int(0)),
        ("st_spare6", int(0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices() {
        assert_eq!(device_number("/dev/sda"), 0x800);
        assert_eq!(device_number("/dev/sdb3"), 0x813);
        assert_eq!(device_number("/dev/sdaa1"), makedev(8, 26 * 16 + 1));
        assert_eq!(makedev(5, 6), 1286);
    }
}
