//! Commands on whole file systems: identity, settings, size, free space, checks; and what only ext2, ext3 and ext4 have.

use super::erasing::discards;
use super::filesystems::identity;
use super::writing::{NEW_FILE, done};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::ext4::Tuning;

use crate::guest::whole::ext4;

const DEVICE: Param = Param::required("device", Kind::Device);
const MOUNTABLE: Param = Param::required("mountable", Kind::Mountable);
const LABEL: Param = Param::required("label", Kind::Text);
const UUID: Param = Param::required("uuid", Kind::Text);
const FILE: Param = Param::required("file", Kind::Path);

/// `fsck`: nothing is wrong; errors were mended; errors are left; it could not be run.
const FSCK: [i64; 4] = [0, 1, 4, 8];
/// Bytes of a new `lost+found`.
const LOST_FOUND: u64 = 16 << 10;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "blkid",
        aliases: &[],
        summary: "what is on a device, as tags",
        help: "TYPE, UUID, LABEL and USAGE of what is there, and PART_ENTRY_ tags of the partition, as `blkid -p` \
               exports them. Numbers of sectors count 512 bytes.",
        params: &[DEVICE],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "blkid /dev/sda1 | egrep 'TYPE|USAGE|NUMBER'\n",
            output: "TYPE: ext4\nUSAGE: filesystem\nPART_ENTRY_TYPE: 0x83\nPART_ENTRY_NUMBER: 1\n",
        }],
        run: blkid,
    },
    Command {
        name: "e2fsck",
        aliases: &[],
        summary: "check an ext2, ext3 or ext4 file system",
        help: "Replays the journal and cleans up deleted files that were still open (not with `forceno`), then checks \
               inodes, maps, names, bitmaps and counts. With `correct` or `forceall` it mends what follows from the rest: \
               bitmaps, counts, links counts, names of deleted inodes, nodes without a name (which go to /lost+found), the \
               mark of an unclean unmount. Damage beyond that is an error, and then nothing is changed; without these options \
               any damage is. The file system must not be mounted.",
        params: &[
            DEVICE,
            Param::optional("correct", Kind::Bool),
            Param::optional("forceall", Kind::Bool),
            Param::optional("forceno", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\ne2fsck /dev/sda1\n", output: "" }],
        run: e2fsck,
    },
    Command {
        name: "e2fsck-f",
        aliases: &[],
        summary: "check an ext2, ext3 or ext4 file system",
        help: "As `e2fsck` with `correct:true`.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\ne2fsck-f /dev/sda1\n", output: "" }],
        run: |cx, args| mend(cx, &args.text("device")),
    },
    Command {
        name: "fill-dir",
        aliases: &[],
        summary: "make many empty files in a directory",
        help: "Their names are 00000000, 00000001 and so on.",
        params: &[Param::required("dir", Kind::Path), Param::required("nr", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nfill-dir /d 3\nls /d\n",
            output: "00000000\n00000001\n00000002\n",
        }],
        run: fill_dir,
    },
    Command {
        name: "fsck",
        aliases: &[],
        summary: "check a file system; answers the checker's exit code",
        help: "For ext2, ext3 and ext4: 0 if nothing is wrong, 4 if something is, 8 if it could not be checked.",
        params: &[Param::required("fstype", Kind::Text), DEVICE],
        returns: Returns::Int,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\nfsck ext4 /dev/sda1\n", output: "0\n" }],
        run: fsck,
    },
    Command {
        name: "fstrim",
        aliases: &[],
        summary: "give the free space of a mounted file system back",
        help: "It becomes holes in the image; encrypted volumes have none. `offset` and `length` in bytes choose a part, shorter runs of free space \
               than `minimumfreeextent` bytes are left.",
        params: &[
            Param::required("mountpoint", Kind::Path),
            Param::optional("offset", Kind::Int64),
            Param::optional("length", Kind::Int64),
            Param::optional("minimumfreeextent", Kind::Int64),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "fstrim /\nls /\n", output: "lost+found\n" }],
        run: fstrim,
    },
    Command {
        name: "get-e2attrs",
        aliases: &[],
        summary: "ext2, ext3, ext4 and XFS flags of a file, as letters",
        help: "The letters of lsattr, sorted.",
        params: &[FILE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nset-e2attrs /f is\nget-e2attrs /f\n",
            output: "eis\n",
        }],
        run: |cx, args| Ok(Value::text(cx.session.guest.flag_letters(&args.path("file"))?)),
    },
    Command {
        name: "get-e2generation",
        aliases: &[],
        summary: "generation of a file's inode",
        help: "",
        params: &[FILE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nset-e2generation /f 12345\nget-e2generation /f\n",
            output: "12345\n",
        }],
        run: |cx, args| {
            let (fs, node) = cx.session.guest.ext4_node(&args.path("file"), false)?;
            Ok(Value::Int(fs.generation_of(node)?.into()))
        },
    },
    Command {
        name: "get-e2label",
        aliases: &[],
        summary: "label of a file system",
        help: "As `vfs-label`.",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-e2label /dev/sda1 data\nget-e2label /dev/sda1\n",
            output: "data\n",
        }],
        run: |cx, args| Ok(Value::text(identity(cx, &args.text("device"))?.label)),
    },
    Command {
        name: "get-e2uuid",
        aliases: &[],
        summary: "UUID of a file system",
        help: "As `vfs-uuid`.",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-e2uuid /dev/sda1 12345678-1234-1234-1234-123456789abc\nget-e2uuid /dev/sda1\n",
            output: "12345678-1234-1234-1234-123456789abc\n",
        }],
        run: |cx, args| Ok(Value::text(identity(cx, &args.text("device"))?.uuid)),
    },
    Command {
        name: "mklost-and-found",
        aliases: &[],
        summary: "make lost+found in the root of a file system",
        help: "With room for names, so that e2fsck need not look for any.",
        params: &[Param::required("mountpoint", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "rm-rf /lost+found\nmklost-and-found /\nfilesize /lost+found\n",
            output: "16384\n",
        }],
        run: mklost_and_found,
    },
    Command {
        name: "resize2fs",
        aliases: &[],
        summary: "make an ext2, ext3 or ext4 file system as long as its device",
        help: "Make the disk, partition or volume longer first. A mounted file system can grow.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mke2fs /dev/sda blockscount:20000 fstype:ext4\nresize2fs /dev/sda\n\
                    tune2fs-l /dev/sda | grep 'Block count'\n",
            output: "Block count: 65536\n",
        }],
        run: |cx, args| resize(cx, args, None),
    },
    Command {
        name: "resize2fs-m",
        aliases: &[],
        summary: "shrink an ext2, ext3 or ext4 file system as far as it goes",
        help: "What lies at the end moves to the front. `vfs-minimum-size` tells the size before. A mounted file system does not \
               shrink.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkfs ext4 /dev/sda\nresize2fs-m /dev/sda\nmount /dev/sda /\nls /\n",
            output: "lost+found\n",
        }],
        run: |cx, args| {
            let device = args.text("device");
            let least = ext4(cx.session.file_system(&device)?).and_then(|fs| fs.minimum_size());
            let least = least.map_err(|e| e.at(&device))?;
            resize(cx, args, Some(least))
        },
    },
    Command {
        name: "resize2fs-size",
        aliases: &[],
        summary: "set the size of an ext2, ext3 or ext4 file system",
        help: "In bytes, whole kilobytes. A mounted file system can grow, not shrink.",
        params: &[DEVICE, Param::required("size", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mke2fs /dev/sda blockscount:20000 fstype:ext4\nresize2fs-size /dev/sda 50M\n\
                    tune2fs-l /dev/sda | grep 'Block count'\n",
            output: "Block count: 51200\n",
        }],
        run: |cx, args| {
            let size = args.int("size");
            match u64::try_from(size) {
                Ok(bytes) if bytes % 1024 == 0 && bytes > 0 => resize(cx, args, Some(bytes)),
                _ => Err(Error::usage(format!("{size}: size must be a round number of kilobytes"))),
            }
        },
    },
    Command {
        name: "set-e2attrs",
        aliases: &[],
        summary: "set or clear ext2, ext3 and ext4 flags of a file",
        help: "ATTRS are letters of chattr; with `clear:true` these are taken away, others stay.",
        params: &[FILE, Param::required("attrs", Kind::Text), Param::optional("clear", Kind::Bool)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nset-e2attrs /f id\nset-e2attrs /f i clear:true\nget-e2attrs /f\n",
            output: "de\n",
        }],
        run: |cx, args| {
            let (fs, node) = cx.session.guest.ext4_node(&args.path("file"), true)?;
            let letters = args.text("attrs");
            if let Some((_, twice)) = letters.char_indices().find(|(at, c)| letters[..*at].contains(*c)) {
                return Err(Error::usage(format!("duplicate file attribute '{twice}'")));
            }
            done(fs.change_flags(node, &letters, !args.bool("clear")))
        },
    },
    Command {
        name: "set-e2generation",
        aliases: &[],
        summary: "set the generation of a file's inode",
        help: "",
        params: &[FILE, Param::required("generation", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nset-e2generation /d 7\nget-e2generation /d\n",
            output: "7\n",
        }],
        run: |cx, args| {
            let generation = args.int("generation");
            let value = u32::try_from(generation)
                .map_err(|_| Error::usage(format!("generation {generation} is not in 0..=4294967295")))?;
            let (fs, node) = cx.session.guest.ext4_node(&args.path("file"), true)?;
            done(fs.change_generation(node, value))
        },
    },
    Command {
        name: "set-e2label",
        aliases: &[],
        summary: "set the label of a file system",
        help: "As `set-label`.",
        params: &[DEVICE, LABEL],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-e2label /dev/sda1 data\nvfs-label /dev/sda1\n",
            output: "data\n",
        }],
        run: |cx, args| set_label(cx, &args.text("device"), args.bytes("label")),
    },
    Command {
        name: "set-e2uuid",
        aliases: &[],
        summary: "set the UUID of a file system",
        help: "UUID may also be `clear`, `random` or `time`.",
        params: &[DEVICE, UUID],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-e2uuid /dev/sda1 clear\nget-e2uuid /dev/sda1\n",
            output: "\n",
        }],
        run: set_uuid,
    },
    Command {
        name: "set-label",
        aliases: &[],
        summary: "set the label of a file system",
        help: "Of ext2, ext3 and ext4 up to 16 bytes.",
        params: &[MOUNTABLE, LABEL],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-label /dev/sda1 data\nvfs-label /dev/sda1\n",
            output: "data\n",
        }],
        run: |cx, args| set_label(cx, &args.text("mountable"), args.bytes("label")),
    },
    Command {
        name: "set-uuid",
        aliases: &[],
        summary: "set the UUID of a file system",
        help: "Checksums that begin with it are computed anew, which takes a while on large file systems.",
        params: &[DEVICE, UUID],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-uuid /dev/sda1 12345678-1234-1234-1234-123456789abc\nvfs-uuid /dev/sda1\n",
            output: "12345678-1234-1234-1234-123456789abc\n",
        }],
        run: set_uuid,
    },
    Command {
        name: "set-uuid-random",
        aliases: &[],
        summary: "give a file system a new random UUID",
        help: "",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "set-uuid-random /dev/sda1\nvfs-uuid /dev/sda1 | tr 0-9a-f N\n",
            output: "NNNNNNNN-NNNN-NNNN-NNNN-NNNNNNNNNNNN\n",
        }],
        run: |cx, args| {
            let uuid = Uuid::from_random(cx.host.random());
            change_uuid(cx, &args.text("device"), uuid)
        },
    },
    Command {
        name: "tune2fs",
        aliases: &[],
        summary: "change settings of an ext2, ext3 or ext4 file system",
        help: "`maxmountcount` and `intervalbetweenchecks` (seconds) say when a kernel wants it checked, 0 for never; \
               `errorbehavior` is continue, remount-ro or panic; `user` and `group` may take the reserved blocks, whose \
               number is given by `reservedblockscount` or `reservedblockspercentage`.",
        params: &[
            DEVICE,
            Param::optional("force", Kind::Bool),
            Param::optional("maxmountcount", Kind::Int),
            Param::optional("mountcount", Kind::Int),
            Param::optional("errorbehavior", Kind::Text),
            Param::optional("group", Kind::Int64),
            Param::optional("intervalbetweenchecks", Kind::Int),
            Param::optional("reservedblockspercentage", Kind::Int),
            Param::optional("lastmounteddirectory", Kind::Text),
            Param::optional("reservedblockscount", Kind::Int64),
            Param::optional("user", Kind::Int64),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "tune2fs /dev/sda1 maxmountcount:30 errorbehavior:panic\n\
                    tune2fs-l /dev/sda1 | egrep 'Maximum|Errors'\n",
            output: "Errors behavior: Panic\nMaximum mount count: 30\n",
        }],
        run: tune2fs,
    },
    Command {
        name: "tune2fs-l",
        aliases: &[],
        summary: "facts of an ext2, ext3 or ext4 superblock",
        help: "The lines of tune2fs -l. Times are in UTC.",
        params: &[DEVICE],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "tune2fs-l /dev/sda1 | egrep 'state|Block size'\n",
            output: "Filesystem state: clean\nBlock size: 1024\n",
        }],
        run: |cx, args| {
            let facts = ext4(cx.session.file_system(&args.text("device"))?)?.facts();
            // The appliance, whose tune2fs guestfish asks, has no names for users and groups.
            let nameless = |label: &str, value: String| match label.strip_prefix("Reserved blocks ") {
                Some("uid") => value.split(' ').next().map(|number| format!("{number} (user unknown)")),
                Some("gid") => value.split(' ').next().map(|number| format!("{number} (group unknown)")),
                _ => Some(value),
            };
            // guestfish shows what tune2fs marks as missing as empty.
            let missing = |value: &str| matches!(value, "<none>" | "<not available>" | "(none)");
            let shown = facts.into_iter().map(|(label, value)| {
                let value = if missing(&value) { String::new() } else { nameless(label, value).unwrap_or_default() };
                (label.as_bytes().to_vec(), value.into_bytes())
            });
            Ok(Value::Hash(shown.collect()))
        },
    },
    Command {
        name: "vfs-minimum-size",
        aliases: &[],
        summary: "fewest bytes that a file system can be shrunk to",
        help: "Of ext2, ext3 and ext4; what `resize2fs-m` shrinks to.",
        params: &[MOUNTABLE],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "vfs-minimum-size /dev/sda1 | tr 0-9 N\n",
            output: "NNNNNNN\n",
        }],
        run: |cx, args| {
            let device = args.text("mountable");
            let least = ext4(cx.session.file_system(&device)?).and_then(|fs| fs.minimum_size());
            Ok(Value::Int(least.map_err(|e| e.at(device))? as i64))
        },
    },
    Command {
        name: "zero-free-space",
        aliases: &[],
        summary: "make the free space of a mounted file system zero",
        help: "From the bitmaps: nothing is read, and where the image can have holes the space becomes holes.",
        params: &[Param::required("directory", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "zero-free-space /\nls /\n", output: "lost+found\n" }],
        run: |cx, args| {
            let device = cx.session.guest.device_of_directory(&args.path("directory"))?.to_string();
            zero(cx, &device, 0..u64::MAX, 0)
        },
    },
    Command {
        name: "zerofree",
        aliases: &[],
        summary: "make the free space of a file system zero",
        help: "As `zero-free-space`, by device. The file system must not be mounted.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "umount /\nzerofree /dev/sda1\n", output: "" }],
        run: |cx, args| {
            let device = args.text("device");
            cx.session.check_unmounted(&device)?;
            zero(cx, &device, 0..u64::MAX, 0)
        },
    },
];

fn blkid(cx: &mut Context, args: &Args) -> Result<Value> {
    let device = args.text("device");
    let found = identity(cx, &device)?;
    let mut tags = vec![("DEVNAME", device.clone())];
    if !found.label.is_empty() {
        tags.push(("LABEL", found.label.clone()));
    }
    if !found.uuid.is_empty() {
        tags.push(("UUID", found.uuid.clone()));
    }
    match found.fs_type.as_str() {
        "ext2" | "ext3" | "ext4" => {
            tags.push(("VERSION", "1.0".into()));
            // A file system that cannot be opened is there all the same.
            let info = cx.session.file_system(&device).and_then(|fs| fs.info());
            tags.extend(info.ok().map(|info| ("BLOCK_SIZE", info.block_size.to_string())));
        }
        "swap" => tags.push(("VERSION", "1".into())),
        _ => {}
    }
    if !found.fs_type.is_empty() {
        let usage = match found.fs_type.as_str() {
            "swap" => "other",
            "crypto_LUKS" => "crypto",
            name if name.ends_with("_member") => "raid",
            _ => "filesystem",
        };
        tags.push(("TYPE", found.fs_type.clone()));
        tags.push(("USAGE", usage.to_string()));
    }
    for tag in ["MINIMUM_IO_SIZE", "PHYSICAL_SECTOR_SIZE", "LOGICAL_SECTOR_SIZE"] {
        tags.push((tag, "512".into()));
    }
    tags.extend(cx.session.partition_tags(&device)?);
    Ok(Value::Hash(tags.into_iter().map(|(tag, value)| (tag.as_bytes().to_vec(), value.into_bytes())).collect()))
}

/// Checks a file system that is not mounted; what is wrong is the error.
fn check(cx: &mut Context, device: &str, replay: bool) -> Result<Value> {
    let problems = problems(cx, device, replay)?;
    let Some(first) = problems.first() else { return Ok(Value::Nothing) };
    let more = if problems.len() > 1 { format!(" (and {} more)", problems.len() - 1) } else { String::new() };
    Err(Error::corrupt(format!("{first}{more}")).at(device).hint("e2fsck -f on the host, or in the guest, can mend it"))
}

/// Checks a file system that is not mounted and mends it; says what was wrong.
fn mend(cx: &mut Context, device: &str) -> Result<Value> {
    let mended = mended(cx, device).map_err(|e| e.hint("nothing was changed; e2fsck -f on the host may mend it"))?;
    mended.into_iter().for_each(|what| cx.session.notify(format!("{device}: mended: {what}")));
    Ok(Value::Nothing)
}

fn mended(cx: &mut Context, device: &str) -> Result<Vec<String>> {
    cx.session.check_unmounted(device)?;
    let now = cx.host.now();
    let fs = ext4(cx.session.file_system_to_mend(device)?).map_err(|e| e.at(device))?;
    fs.mend(now).map_err(|e| e.at(device))
}

fn problems(cx: &mut Context, device: &str, replay: bool) -> Result<Vec<String>> {
    cx.session.check_unmounted(device)?;
    let fs = if replay { cx.session.file_system_mut(device)? } else { cx.session.file_system(device)? };
    let fs = ext4(fs).map_err(|e| e.at(device))?;
    fs.check().map_err(|e| e.at(device))
}

fn e2fsck(cx: &mut Context, args: &Args) -> Result<Value> {
    if args.bool("correct") && args.bool("forceall") {
        return Err(Error::usage("only one of the options 'correct', 'forceall' may be specified"));
    }
    let device = args.text("device");
    match args.bool("correct") || args.bool("forceall") {
        true => mend(cx, &device),
        false => check(cx, &device, !args.bool("forceno")),
    }
}

fn fsck(cx: &mut Context, args: &Args) -> Result<Value> {
    let (fs_type, device) = (args.text("fstype"), args.text("device"));
    if !matches!(fs_type.as_str(), "ext2" | "ext3" | "ext4") {
        return Err(Error::unsupported(format!("file systems of type {fs_type} cannot be checked yet")));
    }
    cx.session.check_unmounted(&device)?;
    if !matches!(identity(cx, &device)?.fs_type.as_str(), "ext2" | "ext3" | "ext4") {
        return Ok(Value::Hex(FSCK[3]));
    }
    let fs = ext4(cx.session.file_system(&device)?).map_err(|e| e.at(&device))?;
    if fs.is_hopeless().map_err(|e| e.at(&device))? {
        return Ok(Value::Hex(FSCK[2]));
    }
    Ok(Value::Hex(FSCK[usize::from(!mended(cx, &device)?.is_empty())]))
}

fn fill_dir(cx: &mut Context, args: &Args) -> Result<Value> {
    let (dir, count) = (args.path("dir"), args.int("nr"));
    for number in 0..count {
        cx.session.guest.write_from(
            &dir.join(format!("{number:08}").as_bytes()),
            0,
            &mut std::io::empty(),
            NEW_FILE,
        )?;
    }
    Ok(Value::Nothing)
}

fn fstrim(cx: &mut Context, args: &Args) -> Result<Value> {
    let number = |name: &str, default: u64| match args.int_if(name) {
        None => Ok(default),
        Some(n) => u64::try_from(n).map_err(|_| Error::usage(format!("{name} {n} is negative"))),
    };
    let (offset, length) = (number("offset", 0)?, number("length", u64::MAX)?);
    let minimum = number("minimumfreeextent", 0)?;
    let device = cx.session.guest.device_of_directory(&args.path("mountpoint"))?.to_string();
    discards(cx, &device)?;
    zero(cx, &device, offset..offset.saturating_add(length), minimum)
}

pub(super) fn zero(cx: &mut Context, device: &str, within: std::ops::Range<u64>, minimum: u64) -> Result<Value> {
    let fs = cx.session.file_system_mut(device)?;
    let now = cx.host.now();
    fs.edit(now).and_then(|edit| edit.zero_free(within, minimum)).map_err(|e| e.at(device))?;
    Ok(Value::Nothing)
}

fn mklost_and_found(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("mountpoint").join(b"lost+found");
    cx.session.guest.mkdir(&path, 0o700)?;
    let name = |number: u32| -> GuestPathBuf { path.join(format!("{number:0250}").as_bytes()) };
    let mut count = 0;
    // A directory does not shrink: names that come and go leave the room.
    while cx.session.guest.stat(&path)?.size < LOST_FOUND {
        cx.session.guest.make_file(&name(count), NEW_FILE)?;
        count += 1;
    }
    done((0..count).try_for_each(|number| cx.session.guest.unlink(&name(number))))
}

fn resize(cx: &mut Context, args: &Args, size: Option<u64>) -> Result<Value> {
    let device = args.text("device");
    let mounted = cx.session.guest.is_mounted(&device);
    let fs = ext4(cx.session.file_system_mut(&device)?).map_err(|e| e.at(&device))?;
    done(if mounted { fs.grow_mounted(size) } else { fs.set_size(size) }.map_err(|e| e.at(device)))
}

fn set_label(cx: &mut Context, device: &str, label: &[u8]) -> Result<Value> {
    let now = cx.host.now();
    let fs = cx.session.file_system_mut(device)?;
    done(fs.edit(now).and_then(|edit| edit.set_label(label)).map_err(|e| e.at(device)))
}

fn set_uuid(cx: &mut Context, args: &Args) -> Result<Value> {
    let text = args.text("uuid");
    let uuid = match text.as_str() {
        "clear" => Uuid([0; 16]),
        "random" | "time" => Uuid::from_random(cx.host.random()),
        _ => Uuid::parse(&text).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{text} is no UUID")))?,
    };
    change_uuid(cx, &args.text("device"), uuid)
}

fn change_uuid(cx: &mut Context, device: &str, uuid: Uuid) -> Result<Value> {
    let now = cx.host.now();
    let fs = cx.session.file_system_mut(device)?;
    done(fs.edit(now).and_then(|edit| edit.set_uuid(uuid)).map_err(|e| e.at(device)))
}

fn tune2fs(cx: &mut Context, args: &Args) -> Result<Value> {
    let tuning = Tuning {
        max_mounts: args.int_if("maxmountcount"),
        mounts: args.int_if("mountcount"),
        on_errors: args.text_if("errorbehavior"),
        group: args.int_if("group"),
        user: args.int_if("user"),
        check_interval: args.int_if("intervalbetweenchecks"),
        reserved_percent: args.int_if("reservedblockspercentage"),
        reserved_blocks: args.int_if("reservedblockscount"),
        last_mounted: args.text_if("lastmounteddirectory"),
    };
    let device = args.text("device");
    if tuning == Tuning::default() && !args.bool("force") {
        return Err(Error::usage("no option was given")
            .at(device)
            .hint("help tune2fs lists them: maxmountcount:30, ..."));
    }
    let fs = ext4(cx.session.file_system_mut(&device)?).map_err(|e| e.at(&device))?;
    done(fs.tune(&tuning).map_err(|e| e.at(device)))
}
