//! Commands on whole partition tables, and on the ends of partitions.

use super::partitions::{edit, guid};
use crate::base::{Error, Uuid};
use crate::command::{Command, Effect, Example, Kind, Param, Returns, Setup};
use crate::volume::TableEdit;

const DEVICE: Param = Param::required("device", Kind::Device);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "part-expand-gpt",
        aliases: &[],
        summary: "move the backup of a GPT to the end of a disk that has grown",
        help: "After the image was made larger. Partitions stay as they are: `part-resize` grows one. Every other change of \
               a GPT does it too.",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-expand-gpt /dev/sda\npart-get-parttype /dev/sda\n",
            output: "gpt\n",
        }],
        run: |cx, args| edit(cx, args, TableEdit::ExpandGpt),
    },
    Command {
        name: "part-resize",
        aliases: &[],
        summary: "move the end of a partition",
        help: "ENDSECT is its last sector, a negative one counted from the end of the disk. The file system in it stays as it \
               is: resize it afterwards when the partition grows, before when it shrinks.",
        params: &[DEVICE, Param::required("partnum", Kind::Int), Param::required("endsect", Kind::Int64)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EmptyDisk,
            lines: "part-init /dev/sda mbr\npart-add /dev/sda p 2048 4095\npart-resize /dev/sda 1 -1\n\
                    blockdev-getsz /dev/sda1\n",
            output: "129024\n",
        }],
        run: |cx, args| {
            let number = u32::try_from(args.int("partnum")).map_err(|_| Error::usage("partnum is negative"))?;
            edit(cx, args, TableEdit::Resize { number, end_sector: args.int("endsect") })
        },
    },
    Command {
        name: "part-set-disk-guid",
        aliases: &[],
        summary: "set the GUID of a GPT disk",
        help: "",
        params: &[DEVICE, Param::required("guid", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-disk-guid /dev/sda 01234567-89ab-cdef-0123-456789abcdef\npart-get-disk-guid /dev/sda\n",
            output: "01234567-89AB-CDEF-0123-456789ABCDEF\n",
        }],
        run: |cx, args| edit(cx, args, TableEdit::SetDiskGuid { guid: guid(args)? }),
    },
    Command {
        name: "part-set-disk-guid-random",
        aliases: &[],
        summary: "give a GPT disk a new random GUID",
        help: "",
        params: &[DEVICE],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::EspAndExt4,
            lines: "part-set-disk-guid-random /dev/sda\npart-get-disk-guid /dev/sda | wc -c\n",
            output: "37\n",
        }],
        run: |cx, args| {
            let guid = Uuid::from_random(cx.host.random());
            edit(cx, args, TableEdit::SetDiskGuid { guid })
        },
    },
];
