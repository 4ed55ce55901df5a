//! The type of a file by its content, in the words of file(1).
//!
//! The magics are those that each format's own documentation gives.

use super::elf;
use crate::base::bytes::{be16, be32, le16, le32, le64};
use crate::base::{Timestamp, Uuid};

/// How much of a file's beginning is looked at.
pub const TYPE_BYTES: u64 = 256 << 10;

/// Bytes at a place that tell a type.
const MAGICS: &[(usize, &[u8], &str)] = &[
    (0, b"\x1f\x9d", "compress'd data"),
    (0, b"BZh", "bzip2 compressed data"),
    (0, b"\xfd7zXZ\0", "XZ compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard compressed data (v0.8+)"),
    (0, b"\x02\x21\x4c\x18", "LZ4 compressed data (v0.1-v0.9)"),
    (0, b"\x04\x22\x4d\x18", "LZ4 compressed data (v1.4+)"),
    (0, b"\x89LZO\0\r\n\x1a\n", "lzop compressed data"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-zip archive data"),
    (0, b"PK\x03\x04", "Zip archive data"),
    (0, b"PK\x05\x06", "Zip archive data (empty)"),
    (0, b"070701", "ASCII cpio archive (SVR4 with no CRC)"),
    (0, b"070702", "ASCII cpio archive (SVR4 with CRC)"),
    (0, b"070707", "ASCII cpio archive (pre-SVR4 or odc)"),
    (257, b"ustar\0", "POSIX tar archive"),
    (257, b"ustar  \0", "POSIX tar archive (GNU)"),
    (0, b"!<arch>\ndebian-binary", "Debian binary package (format 2.0)"),
    (0, b"!<arch>\n", "current ar archive"),
    (0, b"\xed\xab\xee\xdb", "RPM"),
    (0, b"\xff\xd8\xff", "JPEG image data"),
    (0, b"GIF87a", "GIF image data, version 87a"),
    (0, b"GIF89a", "GIF image data, version 89a"),
    (0, b"%PDF-", "PDF document"),
    (0, b"%!PS", "PostScript document text"),
    (0, b"QFI\xfb", "QEMU QCOW Image"),
    (0, b"KDMV", "VMware4 disk image"),
    (0, b"vhdxfile", "Microsoft Disk Image eXtended"),
    (0, b"LUKS\xba\xbe", "LUKS encrypted file"),
    (0, b"hsqs", "Squashfs filesystem, little endian"),
    (32769, b"CD001", "ISO 9660 CD-ROM filesystem data"),
    (0, b"SQLite format 3\0", "SQLite 3.x database"),
    (0, b"regf", "MS Windows registry file, NT/2000 or above"),
    (0, b"\xca\xfe\xba\xbe", "compiled Java class data"),
    (0, b"-----BEGIN CERTIFICATE-----", "PEM certificate"),
    (0, b"-----BEGIN RSA PRIVATE KEY-----", "PEM RSA private key"),
    (0, b"-----BEGIN OPENSSH PRIVATE KEY-----", "OpenSSH private key"),
];

/// What these bytes are, or begin with.
pub fn file_type_of(start: &[u8]) -> String {
    let part = |offset: u64, len: u64| {
        let rest = usize::try_from(offset).ok().and_then(|offset| start.get(offset..)).unwrap_or_default();
        rest[..rest.len().min(usize::try_from(len).unwrap_or(usize::MAX))].to_vec()
    };
    file_type_with(start, &mut { part })
}

/// What a file is that begins with these bytes; `read` gives others: those from an offset on, at most so many.
pub fn file_type_with<'a>(start: &[u8], read: &'a mut (dyn FnMut(u64, u64) -> Vec<u8> + 'a)) -> String {
    if start.is_empty() {
        return "empty".to_string();
    }
    if start.len() == 1 {
        return "very short file (no magic)".to_string();
    }
    if let Some(found) = elf::describe(start, read)
        .or_else(|| pe(start))
        .or_else(|| disk(start))
        .or_else(|| gzip(start))
        .or_else(|| swap(start))
        .or_else(|| png(start))
    {
        return found;
    }
    for (at, magic, name) in MAGICS {
        if start.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
            return (*name).to_string();
        }
    }
    if start.starts_with(&[0x5d, 0, 0]) && start.len() > 13 {
        return "LZMA compressed data".to_string();
    }
    text(start).unwrap_or_else(|| "data".to_string())
}

fn pe(start: &[u8]) -> Option<String> {
    if !start.starts_with(b"MZ") {
        return None;
    }
    if start.get(0x202..0x206) == Some(b"HdrS") {
        return Some("Linux kernel x86 boot executable bzImage".to_string());
    }
    let Some(header) = start.get(le32(start, 60) as usize..).filter(|h| h.starts_with(b"PE\0\0")) else {
        return Some("MS-DOS executable".to_string());
    };
    let machine = match le16(header, 4) {
        0x14c => "Intel 80386",
        0x8664 => "x86-64",
        0xaa64 => "Aarch64",
        0x1c0 | 0x1c4 => "ARM",
        _ => "unknown machine",
    };
    let kind = if le16(header, 22) & 0x2000 != 0 { " (DLL)" } else { "" };
    let form = if le16(header, 24) == 0x20b { "PE32+" } else { "PE32" };
    Some(format!("{form} executable{kind}, {machine}, for MS Windows"))
}

/// A gzip file with what its header tells (RFC 1952, section 2.3): flags at 3, time at 4, effort at 8, system at 9, name from 10 on.
fn gzip(start: &[u8]) -> Option<String> {
    if !start.starts_with(b"\x1f\x8b") {
        return None;
    }
    let mut text = "gzip compressed data".to_string();
    let &[flags, t0, t1, t2, t3, effort, system] = start.get(3..10)? else { return Some(text) };
    if flags & 0b1100 == 0b1000 {
        let name = start.get(10..)?.split(|b| *b == 0).next()?;
        text.push_str(&format!(", was \"{}\"", crate::base::printable(name.get(..256).unwrap_or(name))));
    }
    let time = u32::from_le_bytes([t0, t1, t2, t3]);
    if time > 0 {
        text.push_str(&format!(", last modified: {}", Timestamp::from_seconds(time.into()).ctime()));
    }
    text.push_str(match effort {
        2 => ", max compression",
        4 => ", max speed",
        _ => "",
    });
    text.push_str(match system {
        0 => ", from FAT filesystem (MS-DOS, OS/2, NT)",
        3 => ", from Unix",
        7 => ", from MacOS",
        11 => ", from NTFS filesystem (NT)",
        _ => "",
    });
    Some(text)
}

/// A picture (PNG specification, section 11.2.2): width at 16, height at 20, bits at 24, colour at 25, interlacing at 28.
fn png(start: &[u8]) -> Option<String> {
    let rest = start.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    if rest.get(4..8)? != b"IHDR" || start.len() < 29 {
        return Some("PNG image data".to_string());
    }
    let colour = match start[25] {
        0 => " grayscale",
        2 => "/color RGB",
        3 => " colormap",
        4 => " gray+alpha",
        6 => "/color RGBA",
        _ => "",
    };
    let interlaced = if start[28] == 0 { "non-interlaced" } else { "interlaced" };
    let (width, height, bits) = (be32(start, 16), be32(start, 20), start[24]);
    Some(format!("PNG image data, {width} x {height}, {bits}-bit{colour}, {interlaced}"))
}

/// Swap with pages of 4 KiB (Linux, include/linux/swap.h): version at 1024, last page at 1028, bad pages at 1032, UUID at 1036, label at 1052.
fn swap(start: &[u8]) -> Option<String> {
    if start.get(4086..4096)? != b"SWAPSPACE2" {
        return None;
    }
    let [version, last, bad] = [1024, 1028, 1032].map(|at| le32(start, at));
    let uuid = Uuid(start.get(1036..1052)?.try_into().ok()?);
    let label = match start.get(1052..1068)?.split(|b| *b == 0).next()? {
        [] => "no label".to_string(),
        label => format!("LABEL={}", crate::base::printable(label)),
    };
    Some(format!(
        "Linux swap file, 4k page size, little endian, version {version}, size {last} pages, {bad} bad pages, {label}, UUID={uuid}"
    ))
}

/// File systems and partition tables, whose magics stand far inside.
fn disk(start: &[u8]) -> Option<String> {
    if let Some(found) = ext(start).or_else(|| xfs(start)).or_else(|| btrfs(start)) {
        return Some(found);
    }
    if start.get(510..512) == Some(&[0x55, 0xaa]) {
        if start.get(54..59) == Some(b"FAT12")
            || start.get(54..59) == Some(b"FAT16")
            || start.get(82..87) == Some(b"FAT32")
        {
            return Some("DOS/MBR boot sector, FAT".to_string());
        }
        if start.get(3..11) == Some(b"NTFS    ") {
            return Some("DOS/MBR boot sector, NTFS".to_string());
        }
        return Some("DOS/MBR boot sector".to_string());
    }
    None
}

/// A text of `len` bytes, or up to the first NUL.
fn label(start: &[u8], at: usize, len: usize) -> Option<String> {
    let text = start.get(at..at + len)?.split(|b| *b == 0).next()?;
    Some(crate::base::printable(text)).filter(|text| !text.is_empty())
}

/// The superblock of ext2, ext3 and ext4 at 1024: revision at 76 and 62, state at 58, features from 92 on, UUID at 104, label at 120.
fn ext(start: &[u8]) -> Option<String> {
    let b = start.get(1024..2048).filter(|b| le16(b, 56) == 0xef53)?;
    let [journal, incompatible, compatible] = [92, 96, 100].map(|at| le32(b, at));
    let (journal, state) = (journal & 4 != 0, le16(b, 58));
    let name = match journal {
        false => "ext2",
        true if incompatible < 0x40 && compatible < 8 => "ext3",
        true => "ext4",
    };
    let unclean = if !journal && state & 1 == 0 { " (mounted or unclean)" } else { "" };
    let uuid = Uuid(b.get(104..120)?.try_into().ok()?);
    let mut text = format!("Linux rev {}.{} {name} filesystem data{unclean}, UUID={uuid}", le32(b, 76), le16(b, 62));
    if let Some(label) = label(b, 120, 16) {
        text.push_str(&format!(", volume name \"{label}\""));
    }
    let marks = [
        (incompatible & 4 != 0, " (needs journal recovery)"),
        (state & 2 != 0, " (errors)"),
        (incompatible & 0x40 != 0, " (extents)"),
        (incompatible & 0x80 != 0, " (64bit)"),
        (compatible & 2 != 0, " (large files)"),
        (compatible & 8 != 0, " (huge files)"),
    ];
    marks.iter().filter(|(set, _)| *set).for_each(|(_, word)| text.push_str(word));
    Some(text)
}

/// The superblock of XFS: bytes of a block at 4, version with its flags at 100, bytes of an inode at 104.
fn xfs(start: &[u8]) -> Option<String> {
    let b = start.get(..512).filter(|b| b.starts_with(b"XFSB"))?;
    let directories = if be16(b, 100) & 0x2000 != 0 { "v2" } else { "v1" };
    Some(format!("SGI XFS filesystem data (blksz {}, inosz {}, {directories} dirs)", be32(b, 4), be16(b, 104)))
}

/// The superblock of btrfs at 64 KiB: UUID at 32, magic at 64, bytes of all devices and used ones at 112, number of devices at 136, bytes of a
/// sector, a node and a leaf at 144, label at 299.
fn btrfs(start: &[u8]) -> Option<String> {
    let b = start.get(0x10000..0x11000).filter(|b| b[64..].starts_with(b"_BHRfS_M"))?;
    let label = label(b, 299, 256).map(|label| format!("label \"{label}\", ")).unwrap_or_default();
    let uuid = Uuid(b.get(32..48)?.try_into().ok()?);
    let [sector, node, leaf] = [144, 148, 152].map(|at| le32(b, at));
    let [all, used, devices] = [112, 120, 136].map(|at| le64(b, at));
    Some(format!(
        "BTRFS Filesystem {label}sectorsize {sector}, nodesize {node}, leafsize {leaf}, UUID={uuid}, {used}/{all} bytes used, {devices} devices"
    ))
}

/// Text of some kind, if all of it is.
fn text(start: &[u8]) -> Option<String> {
    let plain = |b: u8| matches!(b, 0x07..=0x0d | 0x1b | b' '..=b'~');
    let encoding = match start {
        [0xef, 0xbb, 0xbf, rest @ ..] if utf8(rest) => "Unicode text, UTF-8 (with BOM)",
        [0xff, 0xfe, ..] => return Some("Unicode text, UTF-16, little-endian text".to_string()),
        [0xfe, 0xff, ..] => return Some("Unicode text, UTF-16, big-endian text".to_string()),
        _ if start.iter().all(|b| plain(*b)) => "ASCII",
        _ if start.iter().all(|b| plain(*b) || *b >= 0x80) && utf8(start) => "Unicode text, UTF-8",
        _ if start.iter().all(|b| plain(*b) || *b >= 0xa0) => "ISO-8859",
        _ => return None,
    };
    let script = script(start);
    if script.as_deref() == Some("Perl script") {
        return Some("Perl script text executable".to_string());
    }
    let kind = script.map(|script| format!("{script}, "));
    let executable = if kind.is_some() && start.starts_with(b"#!") { " executable" } else { "" };
    let crlf = start.windows(2).filter(|w| w == b"\r\n").count();
    let lines = start.iter().filter(|b| **b == b'\n').count();
    let ends = match (crlf, lines) {
        (0, 0) => ", with no line terminators",
        (0, _) => "",
        (crlf, lines) if crlf == lines => ", with CRLF line terminators",
        _ => ", with CRLF, LF line terminators",
    };
    let long = start.split(|b| *b == b'\n').map(<[u8]>::len).max().filter(|n| *n > 300);
    let long = long.map(|n| format!(", with very long lines ({n})")).unwrap_or_default();
    Some(format!("{}{encoding} text{executable}{long}{ends}", kind.unwrap_or_default()))
}

/// What a text is besides a text.
fn script(start: &[u8]) -> Option<String> {
    if start.starts_with(b"<?xml") {
        return Some("XML 1.0 document".to_string());
    }
    let lower: Vec<u8> = start.iter().take(64).map(u8::to_ascii_lowercase).collect();
    if lower.trim_ascii_start().starts_with(b"<!doctype html") || lower.trim_ascii_start().starts_with(b"<html") {
        return Some("HTML document".to_string());
    }
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let path = words.next()?;
    let name = path.rsplit('/').next()?;
    let name = if name == "env" { words.find(|w| !w.starts_with('-'))? } else { name };
    Some(match name {
        "sh" | "dash" | "ash" => "POSIX shell script".to_string(),
        "bash" => "Bourne-Again shell script".to_string(),
        "perl" => "Perl script".to_string(),
        name if name.starts_with("python") => "Python script".to_string(),
        _ => format!("a {} script", line.trim()),
    })
}

/// Whether bytes are UTF-8, but for a character that is cut off at the end.
fn utf8(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && e.valid_up_to() + 4 > bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_file() {
        for (bytes, wanted) in [
            (&b""[..], "empty"),
            (b"abc\ndef\nghi", "ASCII text"),
            (b"abc", "ASCII text, with no line terminators"),
            (b"a\r\nb\r\n", "ASCII text, with CRLF line terminators"),
            ("ä\n".as_bytes(), "Unicode text, UTF-8 text"),
            (b"\xe4 \n", "ISO-8859 text"),
            (b"#!/bin/sh\nls\n", "POSIX shell script, ASCII text executable"),
            (b"#!/usr/bin/env python3\n", "Python script, ASCII text executable"),
            (b"\x01\x02\x03", "data"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "gzip compressed data"),
            (b"\n", "very short file (no magic)"),
            (b"#!/usr/bin/perl -w\n", "Perl script text executable"),
            (
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x20\x08\x06\0\0\0",
                "PNG image data, 16 x 32, 8-bit/color RGBA, non-interlaced",
            ),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10", "PNG image data"),
            (
                b"\x1f\x8b\x08\x08\x80\x1e\xd5\x65\x02\x03f.txt\0",
                "gzip compressed data, was \"f.txt\", last modified: Tue Feb 20 21:49:52 2024, max compression, from Unix",
            ),
        ] {
            assert_eq!(file_type_of(bytes), wanted, "{bytes:?}");
        }
        let header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0";
        assert_eq!(file_type_of(header), "ELF 64-bit LSB executable, x86-64, version 1 (SYSV), statically linked");
        for cut in 0..header.len() {
            let _ = file_type_of(&header[..cut]);
        }
        let mut hostile = header.to_vec();
        hostile.resize(64, 0xff);
        let _ = file_type_of(&hostile);
    }
}
