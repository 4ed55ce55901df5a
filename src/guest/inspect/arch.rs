//! The processor that a guest's programs are for.

use super::passable;
use crate::base::bytes::{be16, le16};
use crate::base::{GuestPathBuf, Result};
use crate::guest::Guest;

/// Programs that some of every system has.
const PROGRAMS: &[&str] =
    &["/bin/bash", "/bin/ls", "/bin/echo", "/bin/rm", "/bin/sh", "/bin/busybox", "/usr/bin/bash", "/usr/bin/ls"];

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

/// The machine of an ELF header (System V ABI: e_ident class at byte 4 and data at 5, e_machine at 18).
fn elf(header: &[u8]) -> Option<&'static str> {
    if header.len() < 20 || !header.starts_with(b"\x7fELF") {
        return None;
    }
    let (wide, little) = (header[4] == 2, header[5] == 1);
    let machine = if little { le16(header, 18) } else { be16(header, 18) };
    Some(match machine {
        2 => "sparc",
        3 => "i386",
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
