//! The text of `ll`, and of `llz`: a directory as coreutils' `ls -la` prints it in the C locale, owners as numbers, times in UTC.

use crate::base::{GuestPathBuf, MONTHS, Result, Timestamp};
use crate::fs::{FileType, Metadata};
use crate::guest::Guest;

/// Half of a mean year: `ls` prints the year instead of the hour for what is older, or in the future.
const RECENT_SECONDS: i64 = 31_556_952 / 2;

struct Line {
    name: Vec<u8>,
    target: Option<GuestPathBuf>,
    metadata: Metadata,
    /// The SELinux label, where labels are shown.
    label: Option<Vec<u8>>,
    /// Behind the permissions: `+` with an ACL, `.` with only a label, else a blank.
    mark: char,
}

/// The listing of a directory, or the one line of anything else; with `labels` their SELinux labels, as `ls -laZ` has it.
pub(super) fn long_listing(guest: &Guest, path: &GuestPathBuf, now: Timestamp, labels: bool) -> Result<Vec<u8>> {
    let real = guest.realpath(path)?;
    if guest.lstat(&real)?.file_type != FileType::Directory {
        return Ok(render(&[line(guest, path.0.clone(), &real, labels)?], now));
    }
    let mut lines =
        vec![line(guest, b"..".to_vec(), &real.parent(), labels)?, line(guest, b".".to_vec(), &real, labels)?];
    for name in guest.list(&real)? {
        let at = real.join(&name);
        lines.push(line(guest, name.0, &at, labels)?);
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    let sectors = lines.iter().fold(0_u64, |sum, l| sum.saturating_add(l.metadata.blocks));
    let mut out = format!("total {}\n", sectors.div_ceil(2)).into_bytes();
    out.extend(render(&lines, now));
    Ok(out)
}

fn line(guest: &Guest, name: Vec<u8>, at: &GuestPathBuf, labels: bool) -> Result<Line> {
    let metadata = guest.lstat(at)?;
    let target = if metadata.file_type == FileType::Symlink { Some(guest.read_link(at)?) } else { None };
    let attributes = guest.xattrs(at, false)?;
    let label = attributes.iter().find(|(name, _)| **name == *b"security.selinux").map(|(_, value)| {
        let label = value.trim_ascii_end();
        label.strip_suffix(b"\0").unwrap_or(label).to_vec()
    });
    let mark = match &label {
        _ if attributes.iter().any(|(name, _)| name.starts_with(b"system.posix_acl_")) => '+',
        Some(_) => '.',
        None => ' ',
    };
    let label = labels.then(|| label.unwrap_or_else(|| b"?".to_vec()));
    Ok(Line { name, target, metadata, label, mark })
}

fn render(lines: &[Line], now: Timestamp) -> Vec<u8> {
    let width = |of: &dyn Fn(&Metadata) -> String| lines.iter().map(|l| of(&l.metadata).len()).max().unwrap_or(0);
    let links = width(&|m| m.links.to_string());
    let owner = width(&|m| m.uid.to_string());
    let group = width(&|m| m.gid.to_string());
    let devices = || lines.iter().map(|l| &l.metadata).filter(|m| is_device(m));
    let major = devices().map(|m| m.device.0.to_string().len()).max().unwrap_or(0);
    let minor = devices().map(|m| m.device.1.to_string().len()).max().unwrap_or(0);
    // A device's two numbers share the size's column: "major, minor".
    let device = if major == 0 { 0 } else { major + 2 + minor };
    let size = width(&|m| if is_device(m) { String::new() } else { m.size.to_string() }).max(device);
    let marked = lines.iter().any(|line| line.mark != ' ');
    let label = lines.iter().filter_map(|l| l.label.as_ref()).map(Vec::len).max().unwrap_or(0);
    let mut out = Vec::new();
    for line in lines {
        let m = &line.metadata;
        let amount = if is_device(m) {
            format!("{:>1$}, {2:>3$}", m.device.0, size - minor - 2, m.device.1, minor)
        } else {
            format!("{:>size$}", m.size)
        };
        let (uid, gid, count) = (m.uid, m.gid, m.links);
        let when = moment(m.modified, now);
        let mark = if marked { line.mark.to_string() } else { String::new() };
        out.extend_from_slice(permissions(m).as_bytes());
        out.extend_from_slice(format!("{mark} {count:>links$} {uid:>owner$} {gid:>group$} ").as_bytes());
        if let Some(text) = &line.label {
            out.extend_from_slice(text);
            out.resize(out.len() + label - text.len() + 1, b' ');
        }
        out.extend_from_slice(format!("{amount} {when} ").as_bytes());
        out.extend_from_slice(&line.name);
        if let Some(target) = &line.target {
            out.extend_from_slice(b" -> ");
            out.extend_from_slice(target);
        }
        out.push(b'\n');
    }
    out
}

fn is_device(m: &Metadata) -> bool {
    matches!(m.file_type, FileType::CharDevice | FileType::BlockDevice)
}

/// `-rwxr-xr-x` and its relatives.
fn permissions(m: &Metadata) -> String {
    let mut out = String::with_capacity(10);
    out.push(match m.file_type {
        FileType::Regular => '-',
        FileType::Fifo => 'p',
        other => other.letter(),
    });
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = m.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (m.mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

fn moment(t: Timestamp, now: Timestamp) -> String {
    let (year, month, day, hour, minute, _) = t.to_civil();
    let month = MONTHS[(month as usize - 1) % 12];
    let age = now.seconds.saturating_sub(t.seconds);
    if (0..RECENT_SECONDS).contains(&age) {
        format!("{month} {day:>2} {hour:02}:{minute:02}")
    } else {
        format!("{month} {day:>2} {year:>5}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, file_type: FileType, mode: u32, size: u64, device: (u32, u32), seconds: i64) -> Line {
        let modified = Timestamp::from_seconds(seconds);
        let metadata = Metadata {
            inode: 1,
            file_type,
            mode,
            links: 1,
            uid: 0,
            gid: 1000,
            size,
            blocks: 0,
            block_size: 4096,
            device,
            accessed: modified,
            modified,
            changed: modified,
            created: None,
        };
        let target = (file_type == FileType::Symlink).then(|| GuestPathBuf::from("f"));
        Line { name: name.into(), target, metadata, label: None, mark: ' ' }
    }

    #[test]
    fn columns_as_ls_aligns_them() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let lines = [
            line("d", FileType::Directory, 0o1777, 4096, (0, 0), 1_000_000_000),
            line("l", FileType::Symlink, 0o777, 1, (0, 0), 1_699_999_000),
            line("n", FileType::CharDevice, 0o620, 0, (136, 12), 1_699_999_000),
            line("s", FileType::Regular, 0o4711, 7, (0, 0), 1_700_000_001),
        ];
        assert_eq!(
            String::from_utf8(render(&lines, now)).unwrap(),
            "drwxrwxrwt 1 0 1000    4096 Sep  9  2001 d\n\
             lrwxrwxrwx 1 0 1000       1 Nov 14 21:56 l -> f\n\
             crw--w---- 1 0 1000 136, 12 Nov 14 21:56 n\n\
             -rws--x--x 1 0 1000       7 Nov 14  2023 s\n"
        );
    }
}
