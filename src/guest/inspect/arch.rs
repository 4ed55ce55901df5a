//! The processor that programs are for: ELF, PE, kernels, initrds.

use std::io::{Cursor, Read};

use super::passable;
use crate::base::bytes::{be16, le16, le32};
use crate::base::{GuestPathBuf, Result};
use crate::guest::Guest;
use crate::guest::archive::{Compression, is_cpio, read_initrd};

/// Programs that some of every system has.
const PROGRAMS: &[&str] =
    &["/bin/bash", "/bin/ls", "/bin/echo", "/bin/rm", "/bin/sh", "/bin/busybox", "/usr/bin/bash", "/usr/bin/ls"];

/// How much of a file is looked at.
const START: u64 = 4096;
/// Compressions inside of each other.
const DEPTH_MAX: u32 = 3;

/// guestfish's word for the processor, from the header of the first program found.
pub(super) fn of(guest: &Guest) -> Result<Option<&'static str>> {
    for path in PROGRAMS {
        let header = passable(guest.read_at(&GuestPathBuf::from(*path), 0, 20))?;
        if let Some(arch) = header.and_then(|header| elf(&header)) {
            return Ok(Some(arch));
        }
    }
    Ok(None)
}

/// guestfish's word for the processor that a program, library, kernel or initrd is for; compressed ones are looked
/// into. `None` if it cannot be told.
///
/// # Errors
/// Those of reading the file.
pub fn architecture(guest: &Guest, path: &GuestPathBuf) -> Result<Option<&'static str>> {
    within(guest.reader(path)?, 0)
}

fn within(mut reader: Box<dyn Read + '_>, depth: u32) -> Result<Option<&'static str>> {
    let mut start = Vec::new();
    reader.by_ref().take(START).read_to_end(&mut start)?;
    if let Some(arch) = program(&start) {
        return Ok(Some(arch));
    }
    let (is_cpio, compression) = (is_cpio(&start), Compression::of(&start));
    let whole: Box<dyn Read + '_> = Box::new(Cursor::new(start).chain(reader));
    match compression {
        _ if is_cpio => initrd(whole),
        Compression::None => Ok(None),
        _ if depth == DEPTH_MAX => Ok(None),
        known => within(known.reader(whole)?, depth + 1),
    }
}

/// The processor of the first program or kernel module in an initrd.
fn initrd(reader: Box<dyn Read + '_>) -> Result<Option<&'static str>> {
    let mut found = None;
    read_initrd(reader, &mut |entry, data| {
        if entry.is_regular() && entry.size >= 20 {
            let mut header = Vec::new();
            data.take(20).read_to_end(&mut header)?;
            found = elf(&header);
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// The processor of a program that is not compressed.
fn program(start: &[u8]) -> Option<&'static str> {
    elf(start).or_else(|| pe(start)).or_else(|| kernel(start))
}

/// The machine of an ELF header (System V ABI: e_ident class at byte 4 and data at 5, e_machine at 18).
fn elf(header: &[u8]) -> Option<&'static str> {
    if header.len() < 20 || !header.starts_with(b"\x7fELF") {
        return None;
    }
    let (wide, little) = (header[4] == 2, header[5] == 1);
    let machine = if little { le16(header, 18) } else { be16(header, 18) };
    Some(match machine {
        2 | 18 => "sparc",
        3 | 6 => "i386",
        8 => "mips",
        20 => "ppc",
        21 if little => "ppc64le",
        21 => "ppc64",
        22 if wide => "s390x",
        22 => "s390",
        40 => "arm",
        43 => "sparc64",
        50 => "ia64",
        62 => "x86_64",
        183 => "aarch64",
        243 if wide => "riscv64",
        243 => "riscv32",
        258 if wide => "loongarch64",
        _ => return None,
    })
}

/// The machine of a Windows or EFI program (PE format: offset of the header at byte 60, machine after its magic).
fn pe(start: &[u8]) -> Option<&'static str> {
    if !start.starts_with(b"MZ") {
        return None;
    }
    let header = start.get(le32(start, 60) as usize..)?;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    Some(match le16(header, 4) {
        0x14c => "i386",
        0x8664 => "x86_64",
        0x1c0 | 0x1c2 | 0x1c4 => "arm",
        0xaa64 => "aarch64",
        0x200 => "ia64",
        0x5064 => "riscv64",
        0x6264 => "loongarch64",
        _ => return None,
    })
}

/// A kernel: x86's boot protocol (magic at 0x202, since version 2.12 bit 0 of xloadflags at 0x236 is a 64-bit kernel),
/// arm64's and RISC-V's image headers (magics at 56).
fn kernel(start: &[u8]) -> Option<&'static str> {
    if start.get(0x202..0x206) == Some(b"HdrS") {
        let wide = le16(start, 0x206) >= 0x20c && le16(start, 0x236) & 1 != 0;
        return Some(if wide { "x86_64" } else { "i386" });
    }
    match start.get(56..60)? {
        b"ARM\x64" => Some("aarch64"),
        b"RSC\x05" => Some("riscv64"),
        _ => None,
    }
}
