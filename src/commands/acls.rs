//! POSIX ACLs: the attributes `system.posix_acl_access` and `system.posix_acl_default` as text.
//!
//! The kernel's form (include/uapi/linux/posix_acl_xattr.h), little-endian: version 2, then for each entry a tag, the
//! permissions, and an id that only named users and groups have. Access ACLs and the mode's bits belong together: the
//! group bits of the mode are the mask (acl(5)).

use super::owners::id_of;
use super::writing::done;
use crate::base::bytes::{le16, le32};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};
use crate::fs::{FileType, Metadata, SetAttributes};

const PATH: Param = Param::required("path", Kind::Path);
const DIR: Param = Param::required("dir", Kind::Path);
const ACLTYPE: Param = Param::required("acltype", Kind::Text);
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
/// Entries that an ext4 attribute can hold are far fewer.
const ENTRIES_MAX: usize = 8192;

/// Tag, id, permissions: sorted as the kernel wants them.
type Entry = (u16, u32, u16);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "acl-delete-def-file",
        aliases: &[],
        summary: "remove the default ACL of a directory",
        help: "What has none stays as it is.",
        params: &[DIR],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nacl-set-file /d default u::rwx,g::r-x,o::r-x\nacl-delete-def-file /d\n\
                    acl-get-file /d default\n",
            output: "\n",
        }],
        run: |cx, args| {
            let path = args.path("dir");
            if cx.session.guest.stat(&path)?.file_type != FileType::Directory {
                return Ok(Value::Nothing);
            }
            match cx.session.guest.set_xattr(&path, true, DEFAULT, None) {
                Err(e) if e.kind() == ErrorKind::NoData => Ok(Value::Nothing),
                other => done(other),
            }
        },
    },
    Command {
        name: "acl-get-file",
        aliases: &[],
        summary: "the ACL of a path as text",
        help: "ACLTYPE is `access` or `default`. A path without an access ACL shows its permission bits; one without a \
               default ACL an empty line. Owners are numbers. Entries that the mask limits say what is left of them.",
        params: &[PATH, ACLTYPE],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nacl-set-file /f access u::rw-,u:10:r--,g::r--,m::r--,o::---\nacl-get-file /f access\n",
            output: "user::rw-\nuser:10:r--\ngroup::r--\nmask::r--\nother::---\n\n",
        }],
        run: |cx, args| {
            let (path, attribute) = (args.path("path"), attribute(args)?);
            if attribute == DEFAULT {
                directory(&cx.session.guest.stat(&path)?, &path)?;
            }
            let found = cx.session.guest.xattrs(&path, true)?.into_iter().find(|(name, _)| **name == *attribute);
            let entries = match found {
                Some((_, stored)) => decode(&stored).map_err(|e| e.at(&path))?,
                None if attribute == ACCESS => of_mode(cx.session.guest.stat(&path)?.mode),
                None => Vec::new(),
            };
            Ok(Value::text(text(&entries)))
        },
    },
    Command {
        name: "acl-set-file",
        aliases: &[],
        summary: "set the ACL of a path from text",
        help: "ACLTYPE is `access` or `default`; the ACL is entries with commas or line ends between, `user:NAME:rwx`, \
               `group::r-x`, `mask::r--`, `other::---`, or with their first letters. Names are numbers or come from the \
               guest's /etc/passwd and /etc/group. An entry for the owner, the group and others must be there, with named \
               entries a mask too.",
        params: &[PATH, ACLTYPE, Param::required("acl", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\nacl-set-file /f access u::rwx,g::r-x,o::---\nstat /f | grep mode\n",
            output: "mode: 33256\n",
        }],
        run: set,
    },
];

fn attribute(args: &Args) -> Result<&'static [u8]> {
    match args.bytes("acltype") {
        b"access" => Ok(ACCESS),
        b"default" => Ok(DEFAULT),
        _ => Err(Error::usage(format!("invalid acltype parameter: {}", args.text("acltype")))
            .hint("it is access or default")),
    }
}

fn directory(found: &Metadata, path: &GuestPathBuf) -> Result<()> {
    match found.file_type {
        FileType::Directory => Ok(()),
        _ => Err(Error::new(ErrorKind::Denied, "only directories have a default ACL").at(path)),
    }
}

fn set(cx: &mut Context, args: &Args) -> Result<Value> {
    let (path, attribute) = (args.path("path"), attribute(args)?);
    let found = cx.session.guest.stat(&path)?;
    let entries = parse(cx, &args.text("acl"))?;
    if attribute == DEFAULT {
        directory(&found, &path)?;
        return done(cx.session.guest.set_xattr(&path, true, DEFAULT, Some(&encode(&entries))));
    }
    let bits = |tag: u16| entries.iter().find(|e| e.0 == tag).map(|e| u32::from(e.2));
    let group = bits(MASK).or(bits(GROUP_OBJ)).unwrap_or(0);
    let mode = bits(USER_OBJ).unwrap_or(0) << 6 | group << 3 | bits(OTHER).unwrap_or(0);
    // The attribute first: changing the mode would change it.
    let stored = encode(&entries);
    let plain = entries.len() == 3;
    match cx.session.guest.set_xattr(&path, true, ACCESS, if plain { None } else { Some(&stored) }) {
        Err(e) if plain && e.kind() == ErrorKind::NoData => {}
        other => other?,
    }
    let change = SetAttributes { mode: Some(found.mode & 0o7000 | mode), ..SetAttributes::default() };
    done(cx.session.guest.set_attributes(&path, true, &change))
}

fn of_mode(mode: u32) -> Vec<Entry> {
    [(USER_OBJ, 6), (GROUP_OBJ, 3), (OTHER, 0)].map(|(tag, shift)| (tag, NO_ID, (mode >> shift & 7) as u16)).to_vec()
}

fn decode(stored: &[u8]) -> Result<Vec<Entry>> {
    if stored.len() < 4 || le32(stored, 0) != 2 || !(stored.len() - 4).is_multiple_of(8) {
        return Err(Error::corrupt("the ACL is not in the kernel's version 2 form"));
    }
    Ok(stored[4..].chunks_exact(8).map(|e| (le16(e, 0), le32(e, 4), le16(e, 2))).collect())
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut stored = 2_u32.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        stored.extend_from_slice(&tag.to_le_bytes());
        stored.extend_from_slice(&permissions.to_le_bytes());
        stored.extend_from_slice(&id.to_le_bytes());
    }
    stored
}

fn text(entries: &[Entry]) -> String {
    let mask = entries.iter().find(|e| e.0 == MASK).map_or(7, |e| e.2);
    let letters = |permissions: u16| -> String {
        [(4, 'r'), (2, 'w'), (1, 'x')].iter().map(|(bit, c)| if permissions & bit != 0 { *c } else { '-' }).collect()
    };
    let mut out = String::new();
    for (tag, id, permissions) in entries {
        let word = match *tag {
            USER_OBJ | USER => "user",
            GROUP_OBJ | GROUP => "group",
            MASK => "mask",
            _ => "other",
        };
        let name = if matches!(*tag, USER | GROUP) { id.to_string() } else { String::new() };
        out.push_str(&format!("{word}:{name}:{}", letters(*permissions)));
        // What the mask takes away is told, as acl_to_any_text(3) does.
        if matches!(*tag, USER | GROUP | GROUP_OBJ) && permissions & !mask & 7 != 0 {
            out.push_str(&format!("\t#effective:{}", letters(permissions & mask)));
        }
        out.push('\n');
    }
    out
}

fn parse(cx: &Context, text: &str) -> Result<Vec<Entry>> {
    let bad = |entry: &str| {
        Error::usage(format!("'{entry}' is no entry of an ACL")).hint("write entries like user:10:rw- or g::r--")
    };
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields = entry.split(':').map(str::trim);
        let (Some(word), Some(name), Some(bits)) = (fields.next(), fields.next(), fields.next()) else {
            // `other:r--` has no place for a name.
            return Err(bad(entry));
        };
        if fields.next().is_some() {
            return Err(bad(entry));
        }
        let tag = match (word, name) {
            ("u" | "user", "") => USER_OBJ,
            ("u" | "user", _) => USER,
            ("g" | "group", "") => GROUP_OBJ,
            ("g" | "group", _) => GROUP,
            ("m" | "mask", "") => MASK,
            ("o" | "other", "") => OTHER,
            _ => return Err(bad(entry)),
        };
        let id = match tag {
            USER => id_of(cx, name, "/etc/passwd")?,
            GROUP => id_of(cx, name, "/etc/group")?,
            _ => NO_ID,
        };
        let mut permissions = 0;
        for c in bits.chars() {
            permissions |= match c {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err(bad(entry)),
            };
        }
        entries.push((tag, id, permissions));
    }
    entries.sort_unstable();
    let count = |tag: u16| entries.iter().filter(|e| e.0 == tag).count();
    let named = count(USER) + count(GROUP) > 0;
    let whole = [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1);
    let twice = entries.windows(2).any(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    if !whole || twice || count(MASK) > 1 || named && count(MASK) == 0 || entries.len() > ENTRIES_MAX {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("'{text}' is no whole ACL: it needs user::, group::, other:: once, with named entries a mask"),
        ));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_shown() {
        let entries =
            vec![(USER_OBJ, NO_ID, 7), (USER, 10, 5), (GROUP_OBJ, NO_ID, 4), (MASK, NO_ID, 5), (OTHER, NO_ID, 0)];
        assert_eq!(decode(&encode(&entries)).unwrap(), entries);
        assert_eq!(text(&entries), "user::rwx\nuser:10:r-x\ngroup::r--\nmask::r-x\nother::---\n");
        assert_eq!(text(&of_mode(0o640)), "user::rw-\ngroup::r--\nother::---\n");
        assert!(decode(b"").is_err() && decode(&[2, 0, 0, 0, 1]).is_err());
    }
}
