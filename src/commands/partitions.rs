//! Commands on partition tables.

use super::disks::size_of;
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, Uuid};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::session::Session;
use crate::volume::{self, Partition, PartitionType, Role, Table, TableEdit, TableKind};

const DEVICE: Param = Param::required("device", Kind::Device);
const PARTNUM: Param = Param::required("partnum", Kind::Int);
const PARTTYPE: Param = Param::required("parttype", Kind::Text);
const PARTITION: Param = Param::required("partition", Kind::Device);
const GUID: Param = Param::required("guid", Kind::Text);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "list-partitions",
        aliases: &[],
        summary: "partitions of all disks",
        help: "",
        params: &[],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::EspAndExt4, lines: "list-partitions\n", output: "/dev/sda1\n/dev/sda2\n" }],
        run: |cx, _| Ok(Value::list(cx.session.partitions()?)),
    },
    Command {
        name: "part-add",
        aliases: &[],
        summary: "add a partition",
        help: "PRLOGEX is `p` or `primary`, `l` or `logical`, `e` or `extended` (the last two on MBR disks only). First and \
               last sector count 512 bytes; a negative last one counts from the end of the disk.",
        params: &[
            DEVICE,
            Param::required("prlogex", Kind::Text),
            Param::required("startsect", Kind::Int64),
            Param::required("endsect", Kind::Int64),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda gpt\npart-add /dev/sda p 2048 -34\nlist-partitions\n",
            output: "/dev/sda1\n",
        }],
        run: |cx, args| {
            let role = match args.text("prlogex").as_str() {
                "p" | "primary" => Role::Primary,
                "l" | "logical" => Role::Logical,
                "e" | "extended" => Role::Extended,
                other => {
                    return Err(Error::usage(format!("unknown partition type '{other}'"))
                        .hint("it is p or primary, l or logical, e or extended"));
                }
            };
            let (start_sector, end_sector) = (args.int("startsect"), args.int("endsect"));
            if start_sector < 0 {
                return Err(
                    Error::usage("startsect cannot be negative").hint("only the last sector counts from the end")
                );
            }
            let guid = Uuid::from_random(cx.host.random());
            edit(cx, args, TableEdit::Add { role, start_sector, end_sector, guid })
        },
    },
    Command {
        name: "part-del",
        aliases: &[],
        summary: "delete a partition",
        help: "The bytes in it stay.",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-del /dev/sda 1\nlist-partitions\n",
            output: "/dev/sda2\n",
        }],
        run: |cx, args| {
            let number = partition(cx, args)?.number;
            cx.session.release(&format!("{}{number}", args.text("device")))?;
            edit(cx, args, TableEdit::Delete { number })
        },
    },
    Command {
        name: "part-disk",
        aliases: &[],
        summary: "make a partition table with one partition over the whole disk",
        help: "PARTTYPE is `mbr` (or `msdos`) or `gpt`.",
        params: &[DEVICE, PARTTYPE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-disk /dev/sda mbr\npart-list /dev/sda\n",
            output: "[0] = {\n  part_num: 1\n  part_start: 65536\n  part_end: 67043839\n  part_size: 66978304\n}\n",
        }],
        run: |cx, args| {
            let kind = table_kind(args)?;
            let device = whole_disk(cx, args)?;
            let (disk_guid, guid) = (Uuid::from_random(cx.host.random()), Uuid::from_random(cx.host.random()));
            done(volume::whole_disk(&cx.session.device(&device)?, kind, disk_guid, guid).map_err(|e| e.at(device)))
        },
    },
    Command {
        name: "part-get-bootable",
        aliases: &[],
        summary: "whether a partition has the boot flag",
        help: "On GPT disks this is the attribute \"legacy BIOS bootable\".",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Bool,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "part-get-bootable /dev/sda 1\npart-set-bootable /dev/sda 1 true\npart-get-bootable /dev/sda 1\n",
            output: "false\ntrue\n",
        }],
        run: |cx, args| Ok(Value::Bool(partition(cx, args)?.bootable)),
    },
    Command {
        name: "part-get-disk-guid",
        aliases: &[],
        summary: "GUID of a GPT disk",
        help: "",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-get-disk-guid /dev/sda | tr 0-9A-F N\n",
            output: "NNNNNNNN-NNNN-NNNN-NNNN-NNNNNNNNNNNN\n",
        }],
        run: |cx, args| {
            let guid = gpt_table(cx, args)?.disk_guid;
            Ok(guid_text(guid.ok_or_else(|| Error::from(ErrorKind::NoData).at(args.text("device")))?))
        },
    },
    Command {
        name: "part-get-gpt-attributes",
        aliases: &[],
        summary: "attribute bits of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-gpt-attributes /dev/sda 1 4\npart-get-gpt-attributes /dev/sda 1\n",
            output: "4\n",
        }],
        // Bit 63 makes the number negative, as in guestfish.
        run: |cx, args| Ok(Value::Int(gpt_partition(cx, args)?.attributes as i64)),
    },
    Command {
        name: "part-get-gpt-guid",
        aliases: &[],
        summary: "GUID of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-gpt-guid /dev/sda 1 01234567-89AB-CDEF-0123-456789ABCDEF\npart-get-gpt-guid /dev/sda 1\n",
            output: "01234567-89AB-CDEF-0123-456789ABCDEF\n",
        }],
        run: |cx, args| {
            let guid = gpt_partition(cx, args)?.guid;
            Ok(guid_text(guid.ok_or_else(|| Error::from(ErrorKind::NoData).at(args.text("device")))?))
        },
    },
    Command {
        name: "part-get-gpt-type",
        aliases: &[],
        summary: "type GUID of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-get-gpt-type /dev/sda 2\n",
            output: "0FC63DAF-8483-4772-8E79-3D69D8477DE4\n",
        }],
        run: |cx, args| match gpt_partition(cx, args)?.kind {
            PartitionType::Gpt(guid) => Ok(guid_text(guid)),
            PartitionType::Mbr(_) => Err(not_gpt(args)),
        },
    },
    Command {
        name: "part-get-mbr-id",
        aliases: &[],
        summary: "type byte of an MBR partition",
        help: "Printed in hex.",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "part-get-mbr-id /dev/sda 1\n", output: "0x83\n" }],
        run: |cx, args| match partition(cx, args)?.kind {
            PartitionType::Mbr(id) => Ok(Value::Hex(id.into())),
            PartitionType::Gpt(_) => Err(not_mbr(args)),
        },
    },
    Command {
        name: "part-get-mbr-part-type",
        aliases: &[],
        summary: "whether an MBR partition is primary, logical or extended",
        help: "Those of a GPT are all primary.",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "part-get-mbr-part-type /dev/sda 1\n", output: "primary\n" }],
        run: |cx, args| match partition(cx, args)?.role {
            Role::Primary => Ok(Value::text("primary")),
            Role::Logical => Ok(Value::text("logical")),
            Role::Extended => Ok(Value::text("extended")),
        },
    },
    Command {
        name: "part-get-name",
        aliases: &[],
        summary: "name of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-name /dev/sda 2 root\npart-get-name /dev/sda 2\n",
            output: "root\n",
        }],
        run: |cx, args| Ok(Value::text(gpt_partition(cx, args)?.name)),
    },
    Command {
        name: "part-get-parttype",
        aliases: &[],
        summary: "kind of a disk's partition table",
        help: "`gpt` or `msdos`; both words, and `mbr`, are understood where a kind is asked for.",
        params: &[DEVICE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "part-get-parttype /dev/sda\n", output: "msdos\n" }],
        run: |cx, args| {
            Ok(Value::text(match table(cx.session, &args.text("device"))?.kind {
                TableKind::Gpt => "gpt",
                TableKind::Mbr => "msdos",
            }))
        },
    },
    Command {
        name: "part-init",
        aliases: &[],
        summary: "make an empty partition table",
        help: "PARTTYPE is `mbr` (or `msdos`) or `gpt`. Partitions that were there are gone.",
        params: &[DEVICE, PARTTYPE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda gpt\npart-get-parttype /dev/sda\n",
            output: "gpt\n",
        }],
        run: |cx, args| {
            let kind = table_kind(args)?;
            let device = whole_disk(cx, args)?;
            let guid = Uuid::from_random(cx.host.random());
            done(volume::init(&cx.session.device(&device)?, kind, guid).map_err(|e| e.at(device)))
        },
    },
    Command {
        name: "part-list",
        aliases: &[],
        summary: "partitions of a disk with their places in bytes",
        help: "In the order in which they lie on the disk. `part_end` is the last byte of the partition.",
        params: &[DEVICE],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "part-list /dev/sda\n",
            output: "[0] = {\n  part_num: 1\n  part_start: 65536\n  part_end: 67043839\n  part_size: 66978304\n}\n",
        }],
        run: |cx, args| {
            let mut partitions = table(cx.session, &args.text("device"))?.partitions;
            partitions.sort_by_key(|p| p.start);
            let records = partitions.into_iter().map(|p| {
                let last = i128::from(p.start) + i128::from(p.len) - 1;
                Record(vec![
                    ("part_num", Field::Int(p.number.into())),
                    ("part_start", Field::Int(p.start.into())),
                    ("part_end", Field::Int(last)),
                    ("part_size", Field::Int(p.len.into())),
                ])
            });
            Ok(Value::Structs(records.collect()))
        },
    },
    Command {
        name: "part-set-bootable",
        aliases: &[],
        summary: "set or clear the boot flag of a partition",
        help: "",
        params: &[DEVICE, PARTNUM, Param::required("bootable", Kind::Bool)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "part-set-bootable /dev/sda 1 true\npart-get-bootable /dev/sda 1\n",
            output: "true\n",
        }],
        run: |cx, args| {
            let number = partition(cx, args)?.number;
            edit(cx, args, TableEdit::SetBootable { number, bootable: args.bool("bootable") })
        },
    },
    Command {
        name: "part-set-gpt-attributes",
        aliases: &[],
        summary: "set the attribute bits of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM, Param::required("attributes", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-gpt-attributes /dev/sda 2 1\npart-get-gpt-attributes /dev/sda 2\n",
            output: "1\n",
        }],
        run: |cx, args| {
            let number = gpt_partition(cx, args)?.number;
            edit(cx, args, TableEdit::SetGptAttributes { number, attributes: args.int("attributes") as u64 })
        },
    },
    Command {
        name: "part-set-gpt-guid",
        aliases: &[],
        summary: "set the GUID of a GPT partition",
        help: "",
        params: &[DEVICE, PARTNUM, GUID],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-gpt-guid /dev/sda 2 01234567-89AB-CDEF-0123-456789ABCDEF\npart-get-gpt-guid /dev/sda 2\n",
            output: "01234567-89AB-CDEF-0123-456789ABCDEF\n",
        }],
        run: |cx, args| {
            let number = gpt_partition(cx, args)?.number;
            edit(cx, args, TableEdit::SetGptGuid { number, guid: guid(args)? })
        },
    },
    Command {
        name: "part-set-gpt-type",
        aliases: &[],
        summary: "set the type GUID of a GPT partition",
        help: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B is an EFI system partition, 0FC63DAF-8483-4772-8E79-3D69D8477DE4 \
               Linux data.",
        params: &[DEVICE, PARTNUM, GUID],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-gpt-type /dev/sda 2 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\npart-get-gpt-type /dev/sda 2\n",
            output: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n",
        }],
        run: |cx, args| {
            let number = gpt_partition(cx, args)?.number;
            edit(cx, args, TableEdit::SetGptType { number, kind: guid(args)? })
        },
    },
    Command {
        name: "part-set-mbr-id",
        aliases: &[],
        summary: "set the type byte of an MBR partition",
        help: "",
        params: &[DEVICE, PARTNUM, Param::required("idbyte", Kind::Int)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "part-set-mbr-id /dev/sda 1 0x7f\npart-get-mbr-id /dev/sda 1\n",
            output: "0x7f\n",
        }],
        run: |cx, args| {
            let number = partition(cx, args)?.number;
            let id = u8::try_from(args.int("idbyte"))
                .map_err(|_| Error::usage(format!("idbyte {} is not in the range 0..255", args.int("idbyte"))))?;
            edit(cx, args, TableEdit::SetMbrId { number, id })
        },
    },
    Command {
        name: "part-set-name",
        aliases: &[],
        summary: "name a GPT partition",
        help: "Names are cut after 36 UTF-16 units.",
        params: &[DEVICE, PARTNUM, Param::required("name", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-name /dev/sda 1 esp\npart-get-name /dev/sda 1\n\
                    part-set-name /dev/sda 1 0123456789012345678901234567890123456789\npart-get-name /dev/sda 1\n",
            output: "esp\n012345678901234567890123456789012345\n",
        }],
        run: |cx, args| {
            let number = gpt_partition(cx, args)?.number;
            edit(cx, args, TableEdit::SetName { number, name: gpt_name(&args.text("name")) })
        },
    },
    Command {
        name: "part-to-dev",
        aliases: &[],
        summary: "the disk that a partition lies on",
        help: "",
        params: &[PARTITION],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "part-to-dev /dev/sda1\n", output: "/dev/sda\n" }],
        run: |cx, args| Ok(Value::text(disk_and_number(cx, args)?.0)),
    },
    Command {
        name: "part-to-partnum",
        aliases: &[],
        summary: "number of a partition",
        help: "",
        params: &[PARTITION],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "part-to-partnum /dev/sda1\n", output: "1\n" }],
        run: |cx, args| Ok(Value::Int(size_of(disk_and_number(cx, args)?.1)?)),
    },
];

fn table_kind(args: &Args) -> Result<TableKind> {
    match args.text("parttype").as_str() {
        "gpt" | "efi" => Ok(TableKind::Gpt),
        "mbr" | "msdos" => Ok(TableKind::Mbr),
        _ => Err(Error::usage("unknown partition type: common choices are \"gpt\" and \"msdos\"")),
    }
}

/// The disk to be partitioned anew, with nothing open on it.
fn whole_disk(cx: &mut Context, args: &Args) -> Result<String> {
    let device = args.text("device");
    if !cx.session.devices().contains(&device) {
        return Err(Error::new(ErrorKind::Invalid, "only a whole disk can have a partition table").at(device));
    }
    cx.session.release(&device)?;
    Ok(device)
}

fn table(session: &Session, device: &str) -> Result<Table> {
    session.table(device)?.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "unrecognised disk label").at(device).hint("part-init makes a partition table")
    })
}

fn partition(cx: &Context, args: &Args) -> Result<Partition> {
    let (device, number) = (args.text("device"), args.int("partnum"));
    let found = table(cx.session, &device)?.partitions.into_iter().find(|p| i64::from(p.number) == number);
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no partition {number}")).at(device))
}

/// What a GPT keeps of a name: 36 UTF-16 units, as parted cuts it.
fn gpt_name(text: &str) -> String {
    let mut units = 0;
    let fits = |c: &char| {
        units += c.len_utf16();
        units <= 36
    };
    text.chars().take_while(fits).collect()
}

fn not_gpt(args: &Args) -> Error {
    Error::new(ErrorKind::Invalid, "not a GPT disk: only GPT partitions have this").at(args.text("device"))
}

fn not_mbr(args: &Args) -> Error {
    Error::new(ErrorKind::Invalid, "not an MBR disk: only MBR partitions have this").at(args.text("device"))
}

fn gpt_table(cx: &Context, args: &Args) -> Result<Table> {
    let table = table(cx.session, &args.text("device"))?;
    if table.kind == TableKind::Gpt { Ok(table) } else { Err(not_gpt(args)) }
}

fn gpt_partition(cx: &Context, args: &Args) -> Result<Partition> {
    gpt_table(cx, args)?;
    partition(cx, args)
}

pub(super) fn guid(args: &Args) -> Result<Uuid> {
    let text = args.text("guid");
    Uuid::parse(&text).ok_or_else(|| Error::usage(format!("'{text}' is not a GUID")))
}

fn guid_text(guid: Uuid) -> Value {
    Value::text(guid.to_string().to_ascii_uppercase())
}

pub(super) fn edit(cx: &mut Context, args: &Args, edit: TableEdit) -> Result<Value> {
    let device = args.text("device");
    table(cx.session, &device)?;
    done(volume::edit(&cx.session.device(&device)?, &edit).map_err(|e| e.at(device)))
}

/// `/dev/sda1` as `/dev/sda` and 1.
fn disk_and_number(cx: &Context, args: &Args) -> Result<(String, u64)> {
    let partition = args.text("partition");
    let number = |disk: &str| partition.strip_prefix(disk)?.parse::<u64>().ok();
    let found = cx.session.devices().into_iter().find_map(|disk| Some((number(&disk)?, disk)));
    match found {
        Some((number, disk)) => Ok((disk, number)),
        None => Err(Error::new(ErrorKind::Invalid, "device name is not a partition").at(partition)),
    }
}
