//! Swap areas. The header (Linux, include/linux/swap.h): in a page of 4096 bytes, version 1 at byte 1024, the last page
//! at 1028, the number of bad pages at 1032, UUID at 1036, label at 1052 (16 bytes), `SWAPSPACE2` at 4086.

use std::io::Read;

use super::content::{Content, content};
use super::writing::done;
use crate::base::bytes::put_le32;
use crate::base::{Error, Kind as ErrorKind, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

const DEVICE: Param = Param::required("device", Kind::Device);
const FILE: Param = Param::required("file", Kind::Path);
const LABEL: Param = Param::required("label", Kind::Text);
const UUID: Param = Param::required("uuid", Kind::Text);
const PAGE: usize = 4096;
/// As mkswap has it.
const LEAST_PAGES: u64 = 10;
const LABEL_MAX: usize = 15;

const HELP: &str = "Swap of Linux with pages of 4096 bytes. What was there is gone.";

/// Swapping is a kernel's work: what is left is to check the area.
macro_rules! on_or_off {
    ($name:literal, $summary:literal, $param:expr, $setup:expr, $lines:literal) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: "imgsh itself never swaps: the command only checks that a swap area is there.",
            params: &[$param],
            returns: Returns::Nothing,
            effect: Effect::Reads,
            examples: &[Example { setup: $setup, lines: $lines, output: "" }],
            run: |cx, args| check_area(cx, args, $param.name),
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mkswap",
        aliases: &["mkswap-opts"],
        summary: "make a swap area on a device",
        help: HELP,
        params: &[DEVICE, Param::optional("label", Kind::Text), Param::optional("uuid", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkswap /dev/sda label:more\nvfs-type /dev/sda\nvfs-label /dev/sda\n",
            output: "swap\nmore\n",
        }],
        run: |cx, args| make(cx, args, "device", args.text_if("label"), args.text_if("uuid")),
    },
    Command {
        name: "mkswap-L",
        aliases: &[],
        summary: "make a swap area with a label on a device",
        help: HELP,
        params: &[Param::required("label", Kind::Text), DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkswap-L more /dev/sda\nvfs-label /dev/sda\n",
            output: "more\n",
        }],
        run: |cx, args| make(cx, args, "device", args.text_if("label"), None),
    },
    Command {
        name: "mkswap-U",
        aliases: &[],
        summary: "make a swap area with a UUID on a device",
        help: HELP,
        params: &[Param::required("uuid", Kind::Text), DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "mkswap-U 8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11 /dev/sda\nvfs-uuid /dev/sda\n",
            output: "8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\n",
        }],
        run: |cx, args| make(cx, args, "device", None, args.text_if("uuid")),
    },
    Command {
        name: "mkswap-file",
        aliases: &[],
        summary: "make a swap area in a file",
        help: "The file must be there and have no holes, or the guest's kernel refuses it: make it with `fallocate64`.",
        params: &[Param::required("path", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "fallocate64 /swap 1M\nmkswap-file /swap\nfile /swap | cut -d, -f4-6\n",
            output: " version 1, size 255 pages, 0 bad pages\n",
        }],
        run: |cx, args| make(cx, args, "path", None, None),
    },
    on_or_off!(
        "swapoff-device",
        "stop swapping on a device",
        DEVICE,
        Setup::EmptyDisk,
        "mkswap /dev/sda\nswapoff-device /dev/sda\n"
    ),
    on_or_off!(
        "swapoff-file",
        "stop swapping on a file",
        FILE,
        Setup::Ext4,
        "fallocate64 /swap 1M\nmkswap-file /swap\nswapoff-file /swap\n"
    ),
    on_or_off!(
        "swapoff-label",
        "stop swapping on the area with a label",
        LABEL,
        Setup::EmptyDisk,
        "mkswap /dev/sda label:more\nswapoff-label more\n"
    ),
    on_or_off!(
        "swapoff-uuid",
        "stop swapping on the area with a UUID",
        UUID,
        Setup::EmptyDisk,
        "mkswap /dev/sda uuid:8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\nswapoff-uuid 8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\n"
    ),
    on_or_off!(
        "swapon-device",
        "check that one can swap on a device",
        DEVICE,
        Setup::EmptyDisk,
        "mkswap /dev/sda\nswapon-device /dev/sda\n"
    ),
    on_or_off!(
        "swapon-file",
        "check that one can swap on a file",
        FILE,
        Setup::Ext4,
        "fallocate64 /swap 1M\nmkswap-file /swap\nswapon-file /swap\n"
    ),
    on_or_off!(
        "swapon-label",
        "check that one can swap on the area with a label",
        LABEL,
        Setup::EmptyDisk,
        "mkswap /dev/sda label:more\nswapon-label more\n"
    ),
    on_or_off!(
        "swapon-uuid",
        "check that one can swap on the area with a UUID",
        UUID,
        Setup::EmptyDisk,
        "mkswap /dev/sda uuid:8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\nswapon-uuid 8e5d8be2-7f1d-4d5a-9c47-4e1b0f2a6c11\n"
    ),
];

fn make(cx: &mut Context, args: &Args, what: &str, label: Option<String>, uuid: Option<String>) -> Result<Value> {
    let target = content(cx, args, what)?;
    let uuid = match uuid {
        Some(text) => Uuid::parse(&text).ok_or_else(|| Error::usage(format!("'{text}' is not a UUID")))?,
        None => Uuid::from_random(cx.host.random()),
    };
    let label = label.unwrap_or_default();
    if label.len() > LABEL_MAX {
        return Err(Error::usage(format!("the label '{label}' is longer than {LABEL_MAX} bytes")));
    }
    let pages = target.len(cx)? / PAGE as u64;
    if pages < LEAST_PAGES {
        let detail = format!("a swap area needs at least {} KiB", LEAST_PAGES * PAGE as u64 / 1024);
        return Err(Error::new(ErrorKind::Invalid, detail).at(target.name()));
    }
    if let Content::Path(path) = &target
        && cx.session.guest.extents(path)?.iter().any(|e| e.hole)
    {
        return Err(Error::new(ErrorKind::Invalid, "the file has holes, which Linux does not swap to")
            .at(path)
            .hint("make it with fallocate64"));
    }
    target.open_for_writing(cx, false)?;
    let mut page = vec![0; PAGE];
    put_le32(&mut page, 1024, 1);
    // A larger area is used as far as the field reaches.
    put_le32(&mut page, 1028, u32::try_from(pages - 1).unwrap_or(u32::MAX));
    page[1036..1052].copy_from_slice(&uuid.0);
    page[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    done(target.write_at(cx, 0, &page))
}

/// Fails unless a swap area is where the argument says.
fn check_area(cx: &mut Context, args: &Args, what: &str) -> Result<Value> {
    let missing =
        |name: String| Error::new(ErrorKind::Invalid, "there is no swap area").at(name).hint("mkswap makes one");
    let area = match what {
        "label" | "uuid" => {
            let (tag, value) = (what.to_ascii_uppercase(), args.text(what));
            let device = cx.session.find(&tag, &value)?.ok_or_else(|| missing(format!("{tag}={value}")))?;
            Content::Device(device)
        }
        _ => content(cx, args, what)?,
    };
    let mut magic = Vec::new();
    area.reader(cx, 4086)?.take(10).read_to_end(&mut magic)?;
    match magic == b"SWAPSPACE2" {
        true => Ok(Value::Nothing),
        false => Err(missing(area.name())),
    }
}
