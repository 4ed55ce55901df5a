//! Encrypted volumes.

use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::session::{ENCRYPTED, OpenVolume};

const DEVICE: Param = Param::required("device", Kind::Device);
const KEY: Param = Param::required("key", Kind::Key);
const MAPNAME: Param = Param::required("mapname", Kind::Text);

/// An older name of a command, with fewer options.
macro_rules! older {
    ($name:literal, $summary:literal, $help:literal, $params:expr, $lines:literal, $output:literal, $run:expr) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: $params,
            returns: Returns::Nothing,
            effect: Effect::Session,
            examples: &[Example { setup: Setup::Encrypted, lines: $lines, output: $output }],
            run: $run,
        }
    };
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cryptsetup-close",
        aliases: &[],
        summary: "close an encrypted volume",
        help: "`device` is the one below /dev/mapper. Nothing on it may be mounted; what was written to it stays and is \
               committed with the rest.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Encrypted,
            lines: "cryptsetup-open /dev/sda data\ncryptsetup-close /dev/mapper/data\nlist-dm-devices\n",
            output: "",
        }],
        run: close,
    },
    Command {
        name: "cryptsetup-open",
        aliases: &[],
        summary: "open an encrypted volume",
        help: "The volume of LUKS1 or LUKS2 on `device` appears as /dev/mapper/MAPNAME, with what is in it: file systems, or \
               physical volumes of LVM. The passphrase is no word of the line: it is asked for, or, with \
               --keys-from-stdin or without a terminal, a line of standard input; it is never shown, kept or saved. \
               `--key` gives passphrases for what `-i` opens.\n\n\
               `readonly:true` refuses writes. `crypttype` may say luks, luks1 or luks2, and `cipher` what the volume must \
               be encrypted with; without them the header decides. The header is never written. Detached headers, \
               integrity and re-encryption that has not ended are refused; docs/formats/luks.md says what is known.",
        params: &[
            DEVICE,
            KEY,
            MAPNAME,
            Param::optional("readonly", Kind::Bool),
            Param::optional("crypttype", Kind::Text),
            Param::optional("cipher", Kind::Text),
        ],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Encrypted,
            lines: "cryptsetup-open /dev/sda data crypttype:luks2\nmkfs ext4 /dev/mapper/data\nlist-filesystems\n",
            output: "/dev/mapper/data: ext4\n",
        }],
        run: open_as,
    },
    older!(
        "luks-close",
        "close an encrypted volume",
        "An older name of `cryptsetup-close`.",
        &[DEVICE],
        "luks-open /dev/sda data\nluks-close /dev/mapper/data\nlist-dm-devices\n",
        "",
        close
    ),
    older!(
        "luks-open",
        "open an encrypted volume",
        "An older form of `cryptsetup-open`.",
        &[DEVICE, KEY, MAPNAME],
        "luks-open /dev/sda data\nlist-dm-devices\n",
        "/dev/mapper/data\n",
        |cx, args| open(cx, args, OpenVolume::default())
    ),
    older!(
        "luks-open-ro",
        "open an encrypted volume read-only",
        "An older form of `cryptsetup-open` with `readonly:true`.",
        &[DEVICE, KEY, MAPNAME],
        "luks-open-ro /dev/sda data\nblockdev-getro /dev/mapper/data\n",
        "true\n",
        |cx, args| open(cx, args, OpenVolume { read_only: true, ..OpenVolume::default() })
    ),
    Command {
        name: "luks-uuid",
        aliases: &[],
        summary: "UUID of an encrypted volume",
        help: "From the header of LUKS; the volume itself is not opened.",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Encrypted,
            lines: "luks-uuid /dev/sda\n",
            output: "6a1b2c3d-0000-4000-8000-00000000c0de\n",
        }],
        run: |cx, args| {
            let device = args.text("device");
            match cx.session.identify(&device)?.filter(|i| i.fs_type == ENCRYPTED) {
                Some(found) => Ok(Value::text(found.uuid)),
                None => Err(Error::new(ErrorKind::Invalid, "this is no LUKS volume").at(device)),
            }
        },
    },
];

/// `cryptsetup-open` with its options.
fn open_as(cx: &mut Context, args: &Args) -> Result<Value> {
    let version = match args.text_if("crypttype").as_deref() {
        None | Some("luks") => None,
        Some("luks1") => Some(1),
        Some("luks2") => Some(2),
        Some(other) => {
            let words = format!("crypttype: {other} is not opened here; luks, luks1 and luks2 are");
            return Err(Error::unsupported(words).at(args.text("device")));
        }
    };
    let (read_only, cipher) = (args.bool("readonly"), args.text_if("cipher"));
    open(cx, args, OpenVolume { read_only, version, cipher, ..OpenVolume::default() })
}

fn open(cx: &mut Context, args: &Args, how: OpenVolume) -> Result<Value> {
    let open = OpenVolume { name: args.text("mapname"), ..how };
    done(cx.launched()?.open_encrypted(&args.text("device"), args.bytes("key"), &open))
}

fn close(cx: &mut Context, args: &Args) -> Result<Value> {
    done(cx.launched()?.close_encrypted(&args.text("device")))
}
