//! Capabilities of files: the attribute `security.capability` (Linux, include/uapi/linux/capability.h) as libcap's text.
//!
//! The attribute, little-endian: a word with revision (2, or 3 with the root's user id at the end) and bit 0 "effective",
//! then permitted and inheritable bits 0..31, then 32..63.

use super::writing::done;
use crate::base::bytes::{le32, put_le32};
use crate::base::{Error, Result};
use crate::command::{Command, Effect, Example, Kind, Param, Returns, Setup, Value};

const PATH: Param = Param::required("path", Kind::Path);
const ATTRIBUTE: &[u8] = b"security.capability";
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Names by number.
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module",
    "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time",
    "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
];
/// All that have a name.
const ALL: u64 = (1 << NAMES.len()) - 1;

/// Sets of capabilities, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Capabilities {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "cap-get-file",
        aliases: &[],
        summary: "capabilities of a file",
        help: "As libcap writes them, `cap_net_raw=ep`; an empty line for a file without any.",
        params: &[PATH],
        returns: Returns::Text,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\ncap-set-file /f cap_net_raw+ep\ncap-get-file /f\n",
            output: "cap_net_raw=ep\n",
        }],
        run: |cx, args| {
            let path = args.path("path");
            let found = cx.session.guest.xattrs(&path, true)?.into_iter().find(|(name, _)| **name == *ATTRIBUTE);
            Ok(Value::text(match found {
                Some((_, stored)) => decode(&stored).map_err(|e| e.at(&path))?.text(),
                None => String::new(),
            }))
        },
    },
    Command {
        name: "cap-set-file",
        aliases: &[],
        summary: "set the capabilities of a file",
        help: "CAP is a text as cap_from_text(3) reads it: `cap_net_raw,cap_net_admin=ep`. A file has one effective bit for \
               all its capabilities: either all or none of them are effective.",
        params: &[PATH, Param::required("cap", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "touch /f\ncap-set-file /f \"cap_chown=p cap_chown+e\"\ncap-get-file /f\n",
            output: "cap_chown=ep\n",
        }],
        run: |cx, args| {
            let stored = encode(parse(&args.text("cap"))?)?;
            let path = args.path("path");
            cx.session.guest.stat(&path)?.file_type.check_regular().map_err(|e| e.at(&path))?;
            done(cx.session.guest.set_xattr(&path, true, ATTRIBUTE, Some(&stored)))
        },
    },
];

fn decode(stored: &[u8]) -> Result<Capabilities> {
    let head = le32(stored, 0);
    let (revision, effective) = (head & 0xff00_0000, head & 1 != 0);
    if !matches!((revision, stored.len()), (REVISION_2, 20) | (REVISION_3, 24)) {
        return Err(Error::unsupported(format!("security.capability: revision {} is not known", revision >> 24)));
    }
    let permitted = u64::from(le32(stored, 4)) | u64::from(le32(stored, 12)) << 32;
    let inheritable = u64::from(le32(stored, 8)) | u64::from(le32(stored, 16)) << 32;
    let effective = if effective { permitted | inheritable } else { 0 };
    Ok(Capabilities { effective, permitted, inheritable })
}

fn encode(set: Capabilities) -> Result<Vec<u8>> {
    let effective = set.effective != 0;
    if effective && set.effective != set.permitted | set.inheritable {
        return Err(Error::usage("a file's capabilities are effective all or none"));
    }
    let mut stored = vec![0; 20];
    put_le32(&mut stored, 0, REVISION_2 | u32::from(effective));
    for (at, word) in [(4, set.permitted), (8, set.inheritable), (12, set.permitted >> 32), (16, set.inheritable >> 32)]
    {
        put_le32(&mut stored, at, word as u32);
    }
    Ok(stored)
}

/// Clauses with blanks between: names with commas between (none or `all`: every one), then operators `=`, `+`, `-` with
/// the letters e, i, p.
fn parse(text: &str) -> Result<Capabilities> {
    let bad = || Error::usage(format!("'{text}' is not a text of capabilities")).hint("write it like cap_net_raw=ep");
    let mut set = Capabilities::default();
    let clauses = text.split_whitespace();
    for clause in clauses {
        let at = clause.find(['=', '+', '-']).ok_or_else(bad)?;
        let (names, mut rest) = clause.split_at(at);
        let mut mask = 0;
        for name in names.split(',').filter(|_| !names.is_empty()) {
            let name = name.to_ascii_lowercase();
            mask |= match name.strip_prefix("cap_").and_then(|n| NAMES.iter().position(|known| *known == n)) {
                Some(number) => 1 << number,
                None if name == "all" => ALL,
                None => return Err(bad()),
            };
        }
        if names.is_empty() {
            if !rest.starts_with('=') {
                return Err(bad());
            }
            mask = ALL;
        }
        while let Some(operator) = rest.chars().next() {
            let letters = &rest[1..];
            let end = letters.find(['=', '+', '-']).unwrap_or(letters.len());
            for (letter, flag) in [('e', &mut set.effective), ('p', &mut set.permitted), ('i', &mut set.inheritable)] {
                match (operator, letters[..end].contains(letter)) {
                    ('=' | '+', true) => *flag |= mask,
                    ('=', false) | ('-', true) => *flag &= !mask,
                    _ => {}
                }
            }
            if letters[..end].chars().any(|c| !"eip".contains(c)) {
                return Err(bad());
            }
            rest = &letters[end..];
        }
    }
    Ok(set)
}

impl Capabilities {
    /// As cap_to_text(3) of libcap 2.66: the letters that most have, then those that have other ones, most letters first.
    fn text(self) -> String {
        // The letters of a capability: 1 is e, 2 is p, 4 is i.
        let of = |n: u32| {
            [self.effective, self.permitted, self.inheritable].iter().rev().fold(0, |all, set| all << 1 | set >> n & 1)
        };
        let written = |letters: u64| {
            [(1, 'e'), (4, 'i'), (2, 'p')]
                .iter()
                .filter(|(bit, _)| letters & bit != 0)
                .map(|(_, c)| c)
                .collect::<String>()
        };
        let known = NAMES.len() as u32;
        let usual = (0..8).rev().max_by_key(|letters| (0..known).filter(|n| of(*n) == *letters).count()).unwrap_or(0);
        let mut groups = Vec::new();
        if usual != 0 || [self.effective, self.permitted, self.inheritable] == [0; 3] {
            groups.push(format!("={}", written(usual)));
        }
        for letters in (0..8).rev().filter(|letters| *letters != usual) {
            let names: Vec<String> = (0..64)
                .filter(|n| of(*n) == letters && (*n < known || letters != 0))
                .map(|n| NAMES.get(n as usize).map_or_else(|| n.to_string(), |name| format!("cap_{name}")))
                .collect();
            if names.is_empty() {
                continue;
            }
            let mut group = names.join(",");
            // The first clause of all is said with `=`, which is the same.
            for (operator, changed) in
                [(if groups.is_empty() { '=' } else { '+' }, letters & !usual), ('-', usual & !letters)]
            {
                if changed != 0 {
                    group.push(operator);
                    group.push_str(&written(changed));
                }
            }
            groups.push(group);
        }
        groups.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_bytes() {
        for (text, shown) in [
            ("cap_chown=p cap_chown+e", "cap_chown=ep"),
            ("cap_net_raw,CAP_NET_ADMIN+ep", "cap_net_admin,cap_net_raw=ep"),
            ("cap_bpf=eip", "cap_bpf=eip"),
            ("cap_chown=ip cap_chown-i", "cap_chown=p"),
            ("=", "="),
            ("", "="),
            ("cap_net_raw,cap_chown=p cap_kill+i", "cap_kill=i cap_chown,cap_net_raw+p"),
            ("=ep", "=ep"),
            ("all=p cap_chown-p", "=p cap_chown-p"),
        ] {
            let set = parse(text).unwrap();
            assert_eq!(decode(&encode(set).unwrap()).unwrap(), set, "{text}");
            assert_eq!(set.text(), shown, "{text}");
        }
        for wrong in ["cap_chown", "cap_nope=ep", "cap_chown=x", "+ep"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(encode(parse("cap_chown=ep cap_kill=p").unwrap()).is_err());
        assert!(decode(&[0; 20]).is_err() && decode(&[]).is_err());
        // As setcap of libcap 2.66 stores cap_net_raw=ep.
        let stored = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode(&stored).unwrap().text(), "cap_net_raw=ep");
    }
}
