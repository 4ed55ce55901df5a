//! A whole image against a manifest of what Linux shows of it: every path, type, mode, owner, link count, time, size, content,
//! target, device number and attribute. For images that are too large to keep here: `scripts/judge-tree` says how to run it; without the
//! variable that it sets there is nothing to do.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io::Read;

use imgsh::base::GuestPathBuf;
use imgsh::fs::FileType;
use imgsh::session::{AddDisk, Session, SessionOptions};
use sha2::{Digest, Sha256};

/// Files above this are summed block by block, without the blocks of zeros.
const WHOLE: u64 = 64 << 20;
const BLOCK: usize = 4096;

/// Percent-encoding as the manifest has it.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b if b.is_ascii_alphanumeric() || b"/ !$&'()*+,;=:@~_.-".contains(b) => text.push(*b as char),
            b => write!(text, "%{b:02X}").unwrap(),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum(session: &Session, path: &GuestPathBuf, size: u64) -> (&'static str, String) {
    let mut reader = session.guest.reader(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    if size <= WHOLE {
        loop {
            match reader.read(&mut buffer).unwrap_or_else(|error| panic!("{path}: {error}")) {
                0 => return ("h", hex(&hash.finalize())),
                count => hash.update(&buffer[..count]),
            }
        }
    }
    for extent in session.guest.extents(path).unwrap().into_iter().filter(|extent| !extent.hole) {
        let mut at = extent.range.start / BLOCK as u64 * BLOCK as u64;
        while at < extent.range.end {
            let bytes = session.guest.read_at(path, at, BLOCK as u64).unwrap();
            if bytes.iter().any(|byte| *byte != 0) {
                hash.update((at / BLOCK as u64).to_le_bytes());
                hash.update(&bytes);
            }
            at += BLOCK as u64;
        }
    }
    ("z", hex(&hash.finalize()))
}

/// The lines of everything below a path, by path.
fn walk(
    session: &Session,
    path: &GuestPathBuf,
    seen: &mut HashMap<(String, u64), String>,
    lines: &mut BTreeMap<String, String>,
) {
    let meta = session.guest.lstat(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let name = quoted(&path.0);
    let kind = match meta.file_type {
        FileType::Regular => 'f',
        FileType::Fifo => 'p',
        other => other.letter(),
    };
    let time = i128::from(meta.modified.seconds) * 1_000_000_000 + i128::from(meta.modified.nanos);
    let mut line = format!(
        r#"{{"p":"{name}","t":"{kind}","m":"{:04o}","u":{},"g":{},"n":{},"T":{time}"#,
        meta.mode, meta.uid, meta.gid, meta.links
    );
    if matches!(meta.file_type, FileType::Regular | FileType::Symlink) {
        write!(line, r#","s":{}"#, meta.size).unwrap();
    }
    match meta.file_type {
        FileType::CharDevice | FileType::BlockDevice => {
            write!(line, r#","r":[{},{}]"#, meta.device.0, meta.device.1).unwrap();
        }
        FileType::Symlink => write!(line, r#","l":"{}""#, quoted(&session.guest.read_link(path).unwrap().0)).unwrap(),
        FileType::Regular => {
            let device = session.guest.device_of(path).unwrap().to_string();
            let first = seen.get(&(device.clone(), meta.inode)).filter(|_| meta.links > 1);
            match first {
                Some(first) => write!(line, r#","i":"{first}""#).unwrap(),
                None => {
                    let (key, sum) = sum(session, path, meta.size);
                    write!(line, r#","{key}":"{sum}""#).unwrap();
                    seen.insert((device, meta.inode), name.clone());
                }
            }
        }
        _ => {}
    }
    let xattrs = session.guest.xattrs(path, false).unwrap_or_else(|error| panic!("{path}: {error}"));
    if !xattrs.is_empty() {
        let each: Vec<String> = xattrs.iter().map(|(name, value)| format!(r#""{name}":"{}""#, hex(value))).collect();
        write!(line, r#","x":{{{}}}"#, each.join(",")).unwrap();
    }
    line.push('}');
    lines.insert(name, line);
    if meta.file_type == FileType::Directory {
        let mut names = session.guest.list(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        names.retain(|name| name.0 != b"." && name.0 != b"..");
        names.sort();
        names.iter().for_each(|name| walk(session, &path.join(name), seen, lines));
    }
}

#[test]
fn an_image_is_what_linux_shows() {
    let Ok(what) = std::env::var("JUDGE_TREE") else {
        println!("skipped: JUDGE_TREE is not set, see scripts/judge-tree");
        return;
    };
    let words: Vec<&str> = what.split(' ').collect();
    let [image, manifest, mounts @ ..] = words.as_slice() else { panic!("JUDGE_TREE: IMAGE MANIFEST MOUNT...") };
    let mut session = Session::new(SessionOptions::default());
    session.add(AddDisk { path: image.into(), read_only: true, ..AddDisk::default() }).unwrap();
    session.launch().unwrap();
    if *mounts == ["-i"] {
        let roots = session.inspect().unwrap();
        assert_eq!(roots.len(), 1, "one root");
        let failed = session.mount_root(&roots[0], true).unwrap();
        failed.iter().for_each(|error| println!("{error}"));
    }
    for mount in mounts.iter().filter(|mount| **mount != "-i") {
        let (device, path) = mount.rsplit_once('=').unwrap_or((mount, "/"));
        session.mount(device, &GuestPathBuf(path.as_bytes().to_vec()), true).unwrap();
    }
    let mut text = String::new();
    let file = std::fs::File::open(manifest).unwrap();
    zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
    let mut lines = BTreeMap::new();
    walk(&session, &GuestPathBuf::root(), &mut HashMap::new(), &mut lines);
    let mut wrong = 0;
    for line in text.lines() {
        let path = line.strip_prefix(r#"{"p":""#).unwrap().split('"').next().unwrap();
        let ours = lines.remove(path);
        if ours.as_deref() != Some(line) {
            wrong += 1;
            if wrong <= 20 {
                println!("linux {line}\nours  {}", ours.as_deref().unwrap_or("nothing"));
            }
        }
    }
    lines.values().take(20).for_each(|line| println!("only here {line}"));
    assert!(
        wrong == 0 && lines.is_empty(),
        "{wrong} of {} differ, {} are only here",
        text.lines().count(),
        lines.len()
    );
    println!("{}: {} paths are equal", image, text.lines().count());
}
