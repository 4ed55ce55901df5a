//! NoCloud seeds: the disk by which cloud-init gets its settings, a volume of the label `cidata` with the files user-data and
//! meta-data.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::disks::open;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, printable};
use crate::command::{Args, Command, Context, Effect, Example, HostFile, Kind, Param, Returns, Setup, Value};
use crate::disk::{self, CreateOptions, Format};
use crate::fs::{self, MakeOptions, iso9660};
use crate::session::{AddDisk, Session, SessionOptions};
use crate::stage::{Stage, StageOptions};

/// The label that makes a volume a seed.
const LABEL: &str = "cidata";
/// The instance id that vTorque's own seeds have.
const LOCAL: &str = "iid-local01";
/// Files of a seed, in the order in which they are shown.
const FILES: [&str; 4] = ["user-data", "meta-data", "network-config", "vendor-data"];
/// Largest file, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// Size of a vfat seed beside its content.
const FAT_ROOM: u64 = 2 << 20;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "seed-make",
        aliases: &[],
        summary: "make a NoCloud seed for cloud-init",
        help: "FILE becomes an ISO 9660 disc (with vfat:true a FAT file system) of the label cidata (FAT: CIDATA) with user-data, meta-data and, if they are given, \
               network-config and vendor-data. Without meta-data it gets an instance id of its own, made from the content. Warnings are printed: an \
               instance id that guests may have seen before, data that cloud-init would not take.",
        params: &[
            Param::required("file", Kind::HostPath),
            Param::required("userdata", Kind::FileIn),
            Param::optional("metadata", Kind::FileIn),
            Param::optional("networkconfig", Kind::FileIn),
            Param::optional("vendordata", Kind::FileIn),
            Param::optional("vfat", Kind::Bool),
        ],
        returns: Returns::List,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "!printf '#cloud-config\\nhostname: a\\n' > user-data; echo 'instance-id: iid-local01' > meta-data\n\
                    seed-make seed.iso user-data metadata:meta-data\n\
                    seed-read seed.iso user-data\n",
            output: "warning: instance-id iid-local01 is the one of every vTorque machine: a guest that has seen it skips what is done once\n\
                     #cloud-config\nhostname: a\n\n",
        }],
        run: seed_make,
    },
    Command {
        name: "seed-read",
        aliases: &[],
        summary: "show what a NoCloud seed says",
        help: "With a name (user-data, meta-data, network-config, vendor-data) that file is printed, without one a summary with warnings.",
        params: &[Param::required("file", Kind::HostPath), Param::maybe("name", Kind::Text)],
        returns: Returns::Text,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "!printf '#!/bin/sh\\n' > user-data; echo 'instance-id: i-1' > meta-data\n\
                    seed-make seed.img user-data metadata:meta-data vfat:true\n\
                    seed-read seed.img\n",
            output: "vfat, label CIDATA\nuser-data: 10 bytes\nmeta-data: 17 bytes\ninstance-id: i-1\n",
        }],
        run: seed_read,
    },
];

fn seed_make(cx: &mut Context, args: &Args) -> Result<Value> {
    let target = args.host("file").to_path_buf();
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in FILES {
        let param = name.replace('-', "");
        if args.get(&param).is_some() {
            files.push((name, read(cx, &args.file(&param))?));
        }
    }
    if !files.iter().any(|(name, _)| *name == "meta-data") {
        let mut hash = Sha256::new();
        for (name, data) in &files {
            hash.update(name.as_bytes());
            hash.update(data);
        }
        let id: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        files.insert(1, ("meta-data", format!("instance-id: iid-{id}\n").into_bytes()));
    }
    let notes = warnings(&files);
    if args.bool("vfat") {
        make_fat(cx, &target, &files)?;
    } else {
        let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, data)| (*name, data.as_slice())).collect();
        let disc = iso9660::make::flat(LABEL, &borrowed, cx.host.now())?;
        let mut out = cx.host.write(&HostFile::Path(target.clone()))?;
        out.write_all(&disc).and_then(|()| out.flush()).map_err(|e| Error::io(target.display(), e))?;
    }
    Ok(Value::list(notes))
}

fn read(cx: &Context, file: &HostFile) -> Result<Vec<u8>> {
    let (reader, _) = cx.host.read(file)?;
    let mut bytes = Vec::new();
    reader.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::new(ErrorKind::FileTooBig, "a file of a seed is at most 16 MiB"));
    }
    Ok(bytes)
}

/// A FAT file system that fills the file, made as any other image is.
fn make_fat(cx: &Context, target: &Path, files: &[(&str, Vec<u8>)]) -> Result<()> {
    let content: u64 = files.iter().map(|(_, data)| (data.len() as u64).next_multiple_of(4096)).sum();
    let size = (content + FAT_ROOM).next_multiple_of(1 << 20);
    disk::create(target, Format::Raw, &CreateOptions { size: Some(size), ..CreateOptions::default() })?;
    let mut session = Session::new(SessionOptions::default());
    let add = AddDisk { path: target.to_path_buf(), format: Some(Format::Raw), read_only: false, label: None };
    session.add(add)?;
    session.launch()?;
    let device = session.devices().remove(0);
    let options = MakeOptions {
        fs_type: "vfat".into(),
        // As mkfs.vfat -n CIDATA, which the documentation of cloud-init names.
        label: Some(LABEL.to_uppercase()),
        uuid: crate::base::Uuid::from_random(cx.host.random()),
        seed: cx.host.random(),
        now: cx.host.now(),
        ..MakeOptions::default()
    };
    session.transact("seed-make", cx.host.now(), |session| {
        fs::make(&session.device(&device)?, &options)?;
        session.mount(&device, &GuestPathBuf::root(), false)?;
        files
            .iter()
            .try_for_each(|(name, data)| session.guest.write_file(&GuestPathBuf::root().join(name.as_bytes()), data))
    })?;
    session.commit()
}

fn seed_read(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = args.host("file");
    let stage = Stage::new(open(cx, path)?, StageOptions { read_only: true, dry_run: true, ..StageOptions::default() });
    let volume = fs::open(stage).map_err(|e| e.at(path.display()))?;
    let info = volume.info()?;
    let wanted = args.text_if("name");
    if let Some(other) = wanted.as_deref().filter(|name| !FILES.contains(name)) {
        return Err(Error::usage(format!("a seed has no {other}: {}", FILES.join(", "))));
    }
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in FILES {
        let Some(node) = volume.lookup(volume.root(), name.as_bytes())? else { continue };
        let size = volume.metadata(node)?.size;
        if size > FILE_MAX {
            return Err(Error::new(ErrorKind::FileTooBig, "a file of a seed is at most 16 MiB").at(name));
        }
        let mut data = vec![0; usize::try_from(size).unwrap_or(0)];
        let got = volume.read(node, 0, &mut data)?;
        data.truncate(got);
        files.push((name, data));
    }
    if let Some(name) = wanted {
        return match files.into_iter().find(|(known, _)| *known == name) {
            Some((_, data)) => Ok(Value::Text(data)),
            None => Err(Error::from(ErrorKind::NotFound).at(name)),
        };
    }
    let mut out = format!("{}, label {}\n", info.fs_type, printable(info.label.as_bytes()));
    for (name, data) in &files {
        let _ = writeln!(out, "{name}: {} bytes", data.len());
    }
    if let Some(id) = files.iter().find(|(name, _)| *name == "meta-data").and_then(|(_, data)| instance_id(data)) {
        let _ = writeln!(out, "instance-id: {id}");
    }
    if !info.label.eq_ignore_ascii_case(LABEL) {
        let _ = writeln!(out, "warning: the label is not {LABEL}: cloud-init does not look here");
    }
    for note in warnings(&files) {
        let _ = writeln!(out, "{note}");
    }
    Ok(Value::text(out.trim_end_matches('\n')))
}

/// What cloud-init would not take, or take wrongly.
fn warnings(files: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut notes = Vec::new();
    let content = |wanted: &str| files.iter().find(|(name, _)| *name == wanted).map(|(_, data)| data.as_slice());
    match content("meta-data").map(instance_id) {
        None => notes.push("warning: there is no meta-data: cloud-init does not take the seed".to_string()),
        Some(None) => notes.push("warning: meta-data has no instance-id".to_string()),
        Some(Some(id)) if id == LOCAL => notes.push(format!(
            "warning: instance-id {LOCAL} is the one of every vTorque machine: a guest that has seen it skips what is done once"
        )),
        Some(Some(_)) => {}
    }
    match content("user-data") {
        None => notes.push("warning: there is no user-data: cloud-init does not take the seed".to_string()),
        Some(data) => {
            const STARTS: [&[u8]; 7] = [
                b"#cloud-config",
                b"#!",
                b"#include",
                b"#cloud-boothook",
                b"#part-handler",
                b"## template:",
                b"\x1f\x8b",
            ];
            let lower = data.get(..64.min(data.len())).unwrap_or_default().to_ascii_lowercase();
            let mime = lower.starts_with(b"content-type:") || lower.starts_with(b"mime-version:");
            if !data.is_empty() && !mime && !STARTS.iter().any(|start| data.starts_with(start)) {
                notes.push(
                    "warning: user-data begins with nothing that cloud-init knows (#cloud-config, #!, ...)".to_string(),
                );
            }
        }
    }
    notes
}

/// The instance id of meta-data: a line of YAML, or of JSON.
fn instance_id(data: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    text.lines().find_map(|line| {
        let line = line.trim().trim_start_matches('{').trim();
        let (key, value) = line.split_once(':')?;
        let bare = |text: &str| text.trim().trim_matches(['"', '\'', ',', '}', ' ']).to_string();
        (bare(key) == "instance-id").then(|| printable(bare(value.split(',').next().unwrap_or(value)).as_bytes()))
    })
}
