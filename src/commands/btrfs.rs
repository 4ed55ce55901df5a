//! Subvolumes of btrfs, to look at.

use super::content::device_of;
use crate::base::{Error, Kind as ErrorKind, Result, Timestamp};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::fs::FileSystem;
use crate::fs::btrfs::{Btrfs, Subvolume};

const FS: Param = Param::required("fs", Kind::DeviceOrPath);

macro_rules! example {
    ($lines:expr, $output:expr) => {
        &[Example { setup: Setup::Btrfs, lines: $lines, output: $output }]
    };
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "btrfs-filesystem-show",
        aliases: &[],
        summary: "the devices of a btrfs file system",
        help: "All of them must be disks or volumes of this session.",
        params: &[Param::required("device", Kind::Device)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: example!("btrfs-filesystem-show /dev/sda\n", "/dev/sda\n"),
        run: |cx, args| {
            let device = cx.session.canonical(&args.text("device"))?;
            let wanted = driver(cx.session.file_system(&device)?)?.devices();
            let mut names = cx.session.members(&device)?;
            names.push(device.clone());
            if (names.len() as u64) < wanted {
                let (here, hint) = (names.len(), "add the disks of the others too (-a DISK)");
                return Err(Error::new(ErrorKind::NotFound, format!("{here} of its {wanted} devices are here"))
                    .at(device)
                    .hint(hint));
            }
            names.sort();
            Ok(Value::list(names))
        },
    },
    Command {
        name: "btrfs-subvolume-get-default",
        aliases: &[],
        summary: "the number of the default subvolume",
        help: "The one that a mount without options shows; 5 is the top of all.",
        params: &[FS],
        returns: Returns::Int,
        effect: Effect::Reads,
        examples: example!("btrfs-subvolume-get-default /dev/sda\nbtrfs-subvolume-get-default /\n", "256\n256\n"),
        run: |cx, args| {
            let id = open(cx, args)?.default_volume()?;
            i64::try_from(id).map(Value::Int).map_err(|_| Error::corrupt(format!("btrfs: a default subvolume {id}")))
        },
    },
    Command {
        name: "btrfs-subvolume-list",
        aliases: &[],
        summary: "the subvolumes of a btrfs file system",
        help: "Numbers, the number of the subvolume that each is in, and paths below the top of all.",
        params: &[FS],
        returns: Returns::Structs,
        effect: Effect::Reads,
        examples: example!(
            "btrfs-subvolume-list / | grep btrfs\n",
            concat!(
                "  btrfssubvolume_id: 256\n  btrfssubvolume_top_level_id: 5\n  btrfssubvolume_path: root\n",
                "  btrfssubvolume_id: 257\n  btrfssubvolume_top_level_id: 256\n  btrfssubvolume_path: root/var/lib\n",
                "  btrfssubvolume_id: 258\n  btrfssubvolume_top_level_id: 5\n  btrfssubvolume_path: home\n",
                "  btrfssubvolume_id: 259\n  btrfssubvolume_top_level_id: 5\n  btrfssubvolume_path: root of Monday\n",
            )
        ),
        run: |cx, args| {
            let record = |volume: Subvolume| {
                Record(vec![
                    ("btrfssubvolume_id", Field::Int(volume.id.into())),
                    ("btrfssubvolume_top_level_id", Field::Int(volume.parent.into())),
                    ("btrfssubvolume_path", Field::Text(volume.path)),
                ])
            };
            Ok(Value::Structs(open(cx, args)?.subvolumes()?.into_iter().map(record).collect()))
        },
    },
    Command {
        name: "btrfs-subvolume-show",
        aliases: &[],
        summary: "what is known of a subvolume",
        help: "The path is that of its top directory in what is mounted. Snapshots are listed with commas between. The top of all has no facts.",
        params: &[Param::required("subvolume", Kind::Path)],
        returns: Returns::Hash,
        effect: Effect::Reads,
        examples: example!(
            "btrfs-subvolume-show / | egrep 'Name|lume ID|Flags|Snapshot'\n",
            "Name: root\nSubvolume ID: 256\nFlags: -\nSnapshot(s): root of Monday\n"
        ),
        run: show,
    },
];

fn driver(fs: &mut dyn FileSystem) -> Result<&mut Btrfs> {
    fs.as_btrfs().ok_or_else(|| Error::unsupported("this is no btrfs file system"))
}

/// The file system of the device or path `fs`.
fn open<'a>(cx: &'a mut Context, args: &Args) -> Result<&'a mut Btrfs> {
    let name = args.text("fs");
    let device = match name.starts_with("btrfsvol:") {
        true => cx.session.canonical(&name)?,
        false => device_of(cx, args, "fs")?,
    };
    driver(cx.session.file_system(&device)?).map_err(|e| e.at(device))
}

fn show(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.path("subvolume");
    let node = cx.session.guest.resolve(&path).map_err(|e| e.at(&path))?.node;
    let device = cx.session.guest.device_of(&path)?.to_string();
    let fs = driver(cx.session.file_system(&device)?).map_err(|e| e.at(&path))?;
    let id = fs.volume_at(node).map_err(|e| e.at(&path))?;
    let all = fs.subvolumes()?;
    let Some(volume) = all.iter().find(|volume| volume.id == id) else { return Ok(Value::Hash(Vec::new())) };
    let snapshots = all.iter().filter(|other| other.uuids[1].is_some() && other.uuids[1] == volume.uuids[0]);
    let snapshots: Vec<&[u8]> = snapshots.map(|other| other.path.as_slice()).collect();
    let uuid = |index: usize| volume.uuids[index].map_or("-".to_string(), |uuid| uuid.to_string());
    let facts = [
        ("UUID", uuid(0)),
        ("Parent UUID", uuid(1)),
        ("Received UUID", uuid(2)),
        ("Creation time", date(volume.created)),
        ("Subvolume ID", id.to_string()),
        ("Generation", volume.generations.0.to_string()),
        ("Gen at creation", volume.generations.1.to_string()),
        ("Parent ID", volume.parent.to_string()),
        ("Top level ID", volume.parent.to_string()),
        ("Flags", if volume.read_only { "readonly" } else { "-" }.to_string()),
        ("Send transid", volume.sent.0.to_string()),
        ("Send time", date(volume.sent.1)),
        ("Receive transid", volume.received.0.to_string()),
        ("Receive time", date(volume.received.1)),
    ];
    let mut pairs = vec![(b"Name".to_vec(), volume.name().to_vec())];
    pairs.extend(facts.map(|(name, fact)| (name.as_bytes().to_vec(), fact.into_bytes())));
    pairs.push((b"Snapshot(s)".to_vec(), snapshots.join(&b","[..])));
    Ok(Value::Hash(pairs))
}

/// A moment in UTC as btrfs-progs write it; `-` for none.
fn date(time: Timestamp) -> String {
    if time.seconds == 0 {
        return "-".into();
    }
    let (year, month, day, hour, minute, second) = time.to_civil();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000")
}
