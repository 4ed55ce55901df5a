//! Commands on ISO 9660 discs.

use crate::base::{Error, Kind as ErrorKind, Result, Timestamp};
use crate::command::{Command, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::iso9660::{Descriptor, FIRST, SECTOR};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "isoinfo",
        aliases: &[],
        summary: "what an ISO file in the guest says of itself",
        help: "The fields of its primary volume descriptor. Times are seconds since 1970; -1 where the disc gives none.",
        params: &[Param::required("isofile", Kind::Path)],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Disc,
            lines: "isoinfo /small.iso | egrep 'volume_id|block_size'\n",
            output: "iso_volume_id: SMALL\niso_logical_block_size: 2048\n",
        }],
        run: |cx, args| {
            let path = args.path("isofile");
            let sector = cx.session.guest.read_at(&path, FIRST, SECTOR)?;
            volume_facts(&sector).map_err(|e| e.at(path))
        },
    },
    Command {
        name: "isoinfo-device",
        aliases: &[],
        summary: "what an ISO 9660 disc says of itself",
        help: "As `isoinfo`, of a device.",
        params: &[Param::required("device", Kind::Device)],
        returns: Returns::Struct,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Disc,
            lines: "isoinfo-device /dev/sda | egrep 'volume_id|set_size|block_size|expiration'\n",
            output: "iso_volume_id: Disc\niso_volume_set_size: 1\niso_logical_block_size: 2048\n\
                     iso_volume_expiration_t: -1\n",
        }],
        run: |cx, args| {
            let name = args.text("device");
            let device = cx.session.device(&name)?;
            let mut sector = vec![0; SECTOR.min(device.len().saturating_sub(FIRST)) as usize];
            device.read_at(FIRST.min(device.len()), &mut sector)?;
            volume_facts(&sector).map_err(|e| e.at(name))
        },
    },
];

fn volume_facts(sector: &[u8]) -> Result<Value> {
    let Some(found) = Descriptor::primary(sector) else {
        return Err(Error::new(ErrorKind::Invalid, "no ISO 9660 volume descriptor was found here")
            .hint("vfs-type tells what is on a device, file what is in a file"));
    };
    let text = |text: String| Field::Text(text.into_bytes());
    let time = |time: Option<Timestamp>| Field::Int(time.map_or(-1, |t| t.seconds.into()));
    Ok(Value::Struct(Record(vec![
        ("iso_system_id", text(found.system())),
        ("iso_volume_id", text(found.volume())),
        ("iso_volume_space_size", Field::Int(found.blocks().into())),
        ("iso_volume_set_size", Field::Int(found.set_size().into())),
        ("iso_volume_sequence_number", Field::Int(found.sequence_number().into())),
        ("iso_logical_block_size", Field::Int(found.raw_block_size().into())),
        ("iso_volume_set_id", text(found.set())),
        ("iso_publisher_id", text(found.publisher())),
        ("iso_data_preparer_id", text(found.preparer())),
        ("iso_application_id", text(found.application())),
        ("iso_copyright_file_id", text(found.copyright_file())),
        ("iso_abstract_file_id", text(found.abstract_file())),
        ("iso_bibliographic_file_id", text(found.bibliographic_file())),
        ("iso_volume_creation_t", time(found.created())),
        ("iso_volume_modification_t", time(found.modified())),
        ("iso_volume_expiration_t", time(found.expires())),
        ("iso_volume_effective_t", time(found.effective())),
    ])))
}
