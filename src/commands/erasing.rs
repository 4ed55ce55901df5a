//! Commands that erase devices.

use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, progress};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::disk::Device;
use crate::fs::{self, FileType};

const DEVICE: Param = Param::required("device", Kind::Device);

/// Bytes that `scrub-file` writes at once.
const PIECE: usize = 1 << 20;

/// How much `zero` erases: enough for every superblock and table at the start.
const START: u64 = 512 << 10;

/// Refuses to give back the space of a device that has no holes.
///
/// # Errors
/// `Kind::Unsupported`.
pub(super) fn discards(cx: &Context, device: &str) -> Result<()> {
    match cx.session.device(device)?.holes() {
        true => Ok(()),
        false => Err(Error::unsupported("the discard operation is not supported: the device is encrypted")
            .at(device)
            .hint("zero-free-space and zero-device write zeros there, which takes their space in the image")),
    }
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "blkdiscard",
        aliases: &[],
        summary: "discard everything on a device",
        help: "The device reads as zeros afterwards, and the image needs no space for it where its format can do that.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "pwrite-device /dev/sda hello 0\nblkdiscard /dev/sda\nis-zero-device /dev/sda\n",
            output: "5\ntrue\n",
        }],
        run: |cx, args| {
            discards(cx, &args.text("device"))?;
            zero_all(cx, args)
        },
    },
    Command {
        name: "blkdiscardzeroes",
        aliases: &[],
        summary: "whether discarded blocks read as zeros",
        help: "They do.",
        params: &[DEVICE],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EmptyDisk, lines: "blkdiscardzeroes /dev/sda\n", output: "true\n" }],
        run: |cx, args| cx.session.device(&args.text("device")).map(|_| Value::Bool(true)),
    },
    Command {
        name: "scrub-device",
        aliases: &[],
        summary: "overwrite a device",
        help: "With zeros, once: as `zero-device`. Passes with patterns would only rewrite the same places of the image, and what the \
               host keeps of older ones is out of reach from here.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "scrub-device /dev/sda1\nis-zero-device /dev/sda1\n",
            output: "true\n",
        }],
        run: zero_all,
    },
    Command {
        name: "scrub-file",
        aliases: &[],
        summary: "overwrite a file and remove it",
        help: "With zeros, once, in its own blocks. A link is followed; the file that it leads to is removed. What the host keeps of \
               older blocks is out of reach from here.",
        params: &[Param::required("file", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "write /key secret\nscrub-file /key\nexists /key\n",
            output: "false\n",
        }],
        run: scrub_file,
    },
    Command {
        name: "scrub-freespace",
        aliases: &[],
        summary: "overwrite the free space of a file system",
        help: "With zeros, once: as `zero-free-space`. DIR is a new directory of the file system, which is gone afterwards; one that is \
               there is refused.",
        params: &[Param::required("dir", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example { setup: Setup::Ext4, lines: "scrub-freespace /scrub\nls /\n", output: "lost+found\n" }],
        run: scrub_free_space,
    },
    Command {
        name: "wipefs",
        aliases: &[],
        summary: "erase the signatures of file systems and partition tables",
        help: "Only the magic bytes are erased, so that nothing is found on the device; the rest stays. A mounted device is \
               refused.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "wipefs /dev/sda1\nvfs-type /dev/sda1\n",
            output: "\n",
        }],
        run: |cx, args| {
            let device = unused(cx, args)?;
            done(wipe(&device).map_err(|e| e.at(args.text("device"))))
        },
    },
    Command {
        name: "zero",
        aliases: &[],
        summary: "write zeros over the start of a device",
        help: "The first 512 KiB, which hold partition tables and most superblocks. `zero-device` erases all, `wipefs` only \
               signatures.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkfs ext4 /dev/sda\nzero /dev/sda\nvfs-type /dev/sda\n",
            output: "\n",
        }],
        run: |cx, args| {
            let device = unused(cx, args)?;
            done(device.zero(0..device.len().min(START)))
        },
    },
    Command {
        name: "zero-device",
        aliases: &[],
        summary: "write zeros over a whole device",
        help: "It costs no time and no space, whatever the size.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "zero-device /dev/sda1\nis-zero-device /dev/sda1\n",
            output: "true\n",
        }],
        run: zero_all,
    },
];

/// A device with nothing open on it.
fn unused(cx: &mut Context, args: &Args) -> Result<Device> {
    let name = args.text("device");
    cx.session.release(&name)?;
    cx.session.device(&name)
}

fn zero_all(cx: &mut Context, args: &Args) -> Result<Value> {
    let device = unused(cx, args)?;
    done(device.zero(0..device.len()))
}

fn scrub_free_space(cx: &mut Context, args: &Args) -> Result<Value> {
    let dir = args.path("dir");
    if cx.session.guest.exists(&dir)? {
        return Err(Error::new(ErrorKind::Exists, "scrub: -X directory already exists")
            .at(dir)
            .hint("give the name of a new directory, or use zero-free-space"));
    }
    cx.session.guest.mkdir(&dir, 0o700)?;
    let device = cx.session.guest.device_of(&dir)?.to_string();
    cx.session.guest.rmdir(&dir)?;
    super::extfs::zero(cx, &device, 0..u64::MAX, 0)
}

fn scrub_file(cx: &mut Context, args: &Args) -> Result<Value> {
    let guest = &mut cx.session.guest;
    let path = guest.realpath(&args.path("file"))?;
    let found = guest.stat(&path)?;
    match found.file_type {
        FileType::Regular => {}
        FileType::Directory => return Err(Error::from(ErrorKind::IsADirectory).at(path)),
        _ => return Err(Error::new(ErrorKind::Invalid, "only regular files are overwritten").at(path)),
    }
    let zeros = vec![0; PIECE];
    // Holes hold nothing.
    let data = guest.extents(&path)?.into_iter().filter(|extent| !extent.hole);
    let ranges: Vec<_> = data.map(|extent| extent.range.start..extent.range.end.min(found.size)).collect();
    progress::expect(ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum());
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            guest.check_interrupt()?;
            let part = &zeros[..(range.end - at).min(PIECE as u64) as usize];
            guest.write_at(&path, Some(at), part)?;
            progress::add(part.len() as u64);
            at += part.len() as u64;
        }
    }
    done(guest.unlink(&path))
}

/// Where the magic bytes of each type are, as its own documentation gives them: start and length.
const SIGNATURES: &[(&str, &[(u64, usize)])] = &[
    ("ext2", &[(1080, 2)]),
    ("ext3", &[(1080, 2)]),
    ("ext4", &[(1080, 2)]),
    ("ext4dev", &[(1080, 2)]),
    ("jbd", &[(1080, 2)]),
    ("xfs", &[(0, 4)]),
    ("btrfs", &[(0x10040, 8)]),
    ("vfat", &[(0, 3), (54, 8), (82, 8), (510, 2)]),
    ("ntfs", &[(3, 8), (510, 2)]),
    ("exfat", &[(3, 8), (510, 2)]),
    ("swap", &[(4086, 10), (8182, 10), (16374, 10), (32758, 10), (65526, 10)]),
    ("swsuspend", &[(4086, 10)]),
    ("iso9660", &[(32769, 5)]),
    ("udf", &[(32769, 5), (34817, 5), (36865, 5), (38913, 5)]),
    ("squashfs", &[(0, 4)]),
    ("erofs", &[(1024, 4)]),
    ("f2fs", &[(1024, 4)]),
    ("jfs", &[(32768, 4)]),
    ("LVM2_member", &[(0, 8), (512, 8), (1024, 8), (1536, 8)]),
    ("BitLocker", &[(3, 8)]),
    ("bcache", &[(4120, 16)]),
    (
        "crypto_LUKS",
        &[
            (0, 6),
            (0x4000, 6),
            (0x8000, 6),
            (0x1_0000, 6),
            (0x2_0000, 6),
            (0x4_0000, 6),
            (0x8_0000, 6),
            (0x10_0000, 6),
            (0x20_0000, 6),
            (0x40_0000, 6),
        ],
    ),
];

/// Erases signatures until none is found.
fn wipe(device: &Device) -> Result<()> {
    while let Some(found) = fs::identify(device.as_ref())? {
        let Some((_, places)) = SIGNATURES.iter().find(|(name, _)| *name == found.fs_type) else {
            return Err(Error::unsupported(format!("the signature of {} cannot be erased alone", found.fs_type))
                .hint("zero-device erases everything"));
        };
        let mut changed = false;
        for (start, length) in *places {
            let end = start + *length as u64;
            if end > device.len() {
                continue;
            }
            let mut magic = vec![0; *length];
            device.read_at(*start, &mut magic)?;
            if magic.iter().any(|b| *b != 0) {
                device.zero(*start..end)?;
                changed = true;
            }
        }
        if !changed {
            return Err(Error::unsupported(format!(
                "the signature of {} was not found where it should be",
                found.fs_type
            ))
            .hint("zero-device erases everything"));
        }
    }
    // Partition tables: the boot sector's mark, and GPT's headers at both ends.
    let sector = u64::from(device.sector());
    for (at, magic) in
        [(510, &[0x55, 0xaa][..]), (sector, b"EFI PART"), (device.len().saturating_sub(sector), b"EFI PART")]
    {
        let end = at + magic.len() as u64;
        if end <= device.len() {
            let mut found = vec![0; magic.len()];
            device.read_at(at, &mut found)?;
            if found == magic {
                device.zero(at..end)?;
            }
        }
    }
    Ok(())
}
