//! What is recognised but not opened: containers (LUKS, md, LVM, ...) and other file systems.
//!
//! The answers are blkid's words. Every field is read where the format's own documentation puts it. Nothing here follows a pointer that an image gives,
//! but for one bounded field of the LVM label.

use super::Identity;
use crate::base::bytes::{be16, be64, is_zero, le16, le32, le64};
use crate::base::{Result, Uuid};
use crate::disk::BlockDevice;

/// A magic at a fixed place, with label (place, bytes) and UUID (place) where they are as simple.
struct Magic {
    fs_type: &'static str,
    at: u64,
    magic: &'static [u8],
    label: Option<(u64, usize)>,
    uuid: Option<u64>,
}

const fn magic(fs_type: &'static str, at: u64, magic: &'static [u8]) -> Magic {
    Magic { fs_type, at, magic, label: None, uuid: None }
}

/// File systems that a magic at one place tells.
const MAGICS: &[Magic] = &[
    Magic { uuid: Some(1132), ..magic("f2fs", 1024, &[0x10, 0x20, 0xf5, 0xf2]) },
    Magic { label: Some((32920, 16)), uuid: Some(32904), ..magic("jfs", 32768, b"JFS1") },
];

/// Page sizes whose swap areas Linux makes.
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];

/// Places of LUKS2's second header (cryptsetup, LUKS2 on-disk format 1.1.1, section 2).
const LUKS2_SECOND: [u64; 9] =
    [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];

/// LUKS, md, LVM and other members, which must never be taken for the file system inside them.
pub fn probe_containers(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    for probe in [luks, md, lvm, bitlocker, bcache] {
        if let Some(found) = probe(device)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// swap, xfs, btrfs, squashfs, udf, ...
pub fn probe(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    if let Some(found) = swap(device)? {
        return Ok(Some(found));
    }
    for known in MAGICS {
        if matches(device, known.at, known.magic)? {
            let label = match known.label {
                Some((at, len)) => text(&bytes(device, at, len)?.unwrap_or_default()),
                None => String::new(),
            };
            let uuid = match known.uuid {
                Some(at) => uuid(&bytes(device, at, 16)?.unwrap_or_default()),
                None => String::new(),
            };
            return Ok(Some(Identity { fs_type: known.fs_type.into(), label, uuid }));
        }
    }
    for probe in [ntfs, exfat, squashfs, udf, zfs] {
        if let Some(found) = probe(device)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Reads `len` bytes, or `None` if they are not all inside the device.
fn bytes(device: &dyn BlockDevice, at: u64, len: usize) -> Result<Option<Vec<u8>>> {
    if at.checked_add(len as u64).is_none_or(|end| end > device.len()) {
        return Ok(None);
    }
    let mut buffer = vec![0; len];
    device.read_at(at, &mut buffer)?;
    Ok(Some(buffer))
}

fn matches(device: &dyn BlockDevice, at: u64, magic: &[u8]) -> Result<bool> {
    Ok(bytes(device, at, magic.len())?.is_some_and(|found| found == magic))
}

/// The piece `at..at+len` of a block, shorter or empty where the block ends.
fn piece(block: &[u8], at: usize, len: usize) -> &[u8] {
    let rest = block.get(at..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// A label: up to the first NUL, without the spaces that pad it.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim_end().to_string()
}

/// A UUID as blkid prints it; nothing for one that is all zeros.
fn uuid(field: &[u8]) -> String {
    match <[u8; 16]>::try_from(field) {
        Ok(bytes) if !is_zero(&bytes) => Uuid(bytes).to_string(),
        _ => String::new(),
    }
}

fn named(fs_type: &str, label: String, uuid: String) -> Option<Identity> {
    Some(Identity { fs_type: fs_type.into(), label, uuid })
}

/// LUKS1 and LUKS2 share the start of the header; LUKS2's second copy has the magic `SKUL`.
fn luks(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    const FIRST: &[u8] = b"LUKS\xba\xbe";
    const SECOND: &[u8] = b"SKUL\xba\xbe";
    for (magic, at) in [(FIRST, 0)].into_iter().chain(LUKS2_SECOND.map(|at| (SECOND, at))) {
        let Some(header) = bytes(device, at, 264)?.filter(|h| h.starts_with(magic)) else { continue };
        let version = be16(&header, 6);
        if at != 0 && (version != 2 || be64(&header, 256) != at) {
            continue;
        }
        let label = if version == 2 { text(piece(&header, 24, 48)) } else { String::new() };
        return Ok(named("crypto_LUKS", label, text(piece(&header, 168, 40))));
    }
    Ok(None)
}

/// md: metadata 1.1 at the start, 1.2 at 4 KiB, 1.0 and 0.90 near the end.
fn md(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    const MAGIC: u32 = 0xa92b_4efc;
    let sectors = device.len() / 512;
    // 1.0 lies at least 8 KiB from the end, on a 4 KiB boundary (md(4)).
    let near_end = sectors.checked_sub(16).map(|s| s & !7);
    for sector in [Some(0), Some(8), near_end].into_iter().flatten() {
        let Some(sb) = bytes(device, sector * 512, 256)? else { continue };
        if le32(&sb, 0) == MAGIC && le32(&sb, 4) == 1 && le64(&sb, 128) == sector {
            return Ok(named("linux_raid_member", text(piece(&sb, 32, 32)), uuid(piece(&sb, 16, 16))));
        }
    }
    // 0.90 lies in the last whole 64 KiB block, in the byte order of the machine that made it.
    const RESERVED: u64 = 65536;
    let Some(at) = (device.len() / RESERVED).checked_sub(1).map(|block| block * RESERVED) else { return Ok(None) };
    let Some(sb) = bytes(device, at, 64)? else { return Ok(None) };
    let word = |i: usize| if le32(&sb, 0) == MAGIC { le32(&sb, i) } else { le32(&sb, i).swap_bytes() };
    if word(0) != MAGIC || word(4) != 0 {
        return Ok(None);
    }
    let set = [piece(&sb, 20, 4), if word(8) >= 90 { piece(&sb, 52, 12) } else { &[0; 12] }].concat();
    Ok(named("linux_raid_member", String::new(), uuid(&set)))
}

/// An LVM2 physical volume: a label in one of the first four sectors, its checksum right.
fn lvm(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    for sector in 0..4u64 {
        let Some(label) = bytes(device, sector * 512, 512)? else { return Ok(None) };
        if !label.starts_with(b"LABELONE") || le64(&label, 8) != sector || piece(&label, 24, 8) != b"LVM2 001" {
            continue;
        }
        // LVM's CRC-32 starts from its own value and is not inverted at the end.
        let mut crc = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
        crc.update(piece(&label, 20, 492));
        if !crc.finalize() != le32(&label, 16) {
            continue;
        }
        let id = piece(&label, le32(&label, 20) as usize, 32);
        let mut dashed = String::new();
        for (i, byte) in id.iter().enumerate() {
            if matches!(i, 6 | 10 | 14 | 18 | 22 | 26) {
                dashed.push('-');
            }
            dashed.push(if byte.is_ascii_graphic() { *byte as char } else { '?' });
        }
        return Ok(named("LVM2_member", String::new(), dashed));
    }
    Ok(None)
}

fn bitlocker(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let found = matches(device, 3, b"-FVE-FS-")?;
    Ok(found.then(|| Identity { fs_type: "BitLocker".into(), ..Identity::default() }))
}

fn bcache(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    const MAGIC: &[u8] =
        &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
    let Some(sb) = bytes(device, 4096, 56)? else { return Ok(None) };
    if piece(&sb, 24, 16) != MAGIC {
        return Ok(None);
    }
    Ok(named("bcache", String::new(), uuid(piece(&sb, 40, 16))))
}

/// Swap areas say so at the end of their first page, whatever the page size of the machine that made them.
fn swap(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    for page in PAGE_SIZES {
        let Some(magic) = bytes(device, page - 10, 10)? else { return Ok(None) };
        match magic.as_slice() {
            b"SWAP-SPACE" => return Ok(named("swap", String::new(), String::new())),
            b"SWAPSPACE2" => {
                let header = bytes(device, 1024, 44)?.unwrap_or_default();
                return Ok(named("swap", text(piece(&header, 28, 16)), uuid(piece(&header, 12, 16))));
            }
            b"LINHIB0001" => return Ok(named("swsuspend", String::new(), String::new())),
            word if [b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND"].iter().any(|m| word.starts_with(*m)) => {
                return Ok(named("swsuspend", String::new(), String::new()));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn ntfs(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let Some(boot) = bytes(device, 0, 512)? else { return Ok(None) };
    if piece(&boot, 3, 8) != b"NTFS    " || le16(&boot, 14) != 0 || !matches!(le16(&boot, 11), 256..=4096) {
        return Ok(None);
    }
    Ok(named("ntfs", String::new(), format!("{:016X}", le64(&boot, 72))))
}

fn exfat(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let Some(boot) = bytes(device, 0, 512)? else { return Ok(None) };
    if piece(&boot, 3, 8) != b"EXFAT   " {
        return Ok(None);
    }
    let serial = le32(&boot, 100);
    Ok(named("exfat", String::new(), format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)))
}

/// Versions before 4, which has a driver.
fn squashfs(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    let Some(sb) = bytes(device, 0, 32)? else { return Ok(None) };
    let name = match piece(&sb, 0, 4) {
        b"hsqs" | b"sqsh" => "squashfs3",
        _ => return Ok(None),
    };
    Ok(named(name, String::new(), String::new()))
}

/// UDF: 2 KiB volume descriptors from 32 KiB on (ECMA-167, part 2, section 9).
fn udf(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    const DESCRIPTORS: u64 = 32;
    for number in 0..DESCRIPTORS {
        let Some(id) = bytes(device, 32768 + number * 2048 + 1, 5)? else { break };
        match id.as_slice() {
            b"NSR02" | b"NSR03" => return Ok(named("udf", String::new(), String::new())),
            b"CD001" | b"BEA01" | b"BOOT2" | b"CDW02" => {}
            _ => break,
        }
    }
    Ok(None)
}

/// A ZFS pool member: at least four uberblocks in the ring of its first label.
fn zfs(device: &dyn BlockDevice) -> Result<Option<Identity>> {
    const MAGIC: u64 = 0x00ba_b10c;
    let Some(ring) = bytes(device, 128 * 1024, 128 * 1024)? else { return Ok(None) };
    let valid = ring.chunks(1024).filter(|u| le64(u, 0) == MAGIC || be64(u, 0) == MAGIC).count();
    if valid < 4 {
        return Ok(None);
    }
    Ok(named("zfs_member", String::new(), String::new()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::disk::memory::Memory;

    type Probe = fn(&dyn BlockDevice) -> Result<Option<Identity>>;

    fn image(size: usize, pieces: &[(usize, &[u8])]) -> Memory {
        let mut bytes = vec![0; size];
        for (at, data) in pieces {
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
        Memory::from(bytes)
    }

    fn found(probe: Probe, device: &Memory) -> (String, String, String) {
        let identity = probe(device).unwrap().expect("recognised");
        (identity.fs_type, identity.label, identity.uuid)
    }

    fn words(fs_type: &str, label: &str, uuid: &str) -> (String, String, String) {
        (fs_type.into(), label.into(), uuid.into())
    }

    const ID: [u8; 16] =
        [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x10];
    const ID_TEXT: &str = "11223344-5566-7788-99aa-bbccddeeff10";

    #[test]
    fn luks_headers() {
        let one = image(1 << 20, &[(0, b"LUKS\xba\xbe\0\x01"), (168, ID_TEXT.as_bytes())]);
        assert_eq!(found(probe_containers, &one), words("crypto_LUKS", "", ID_TEXT));
        let two =
            image(1 << 20, &[(0x8000, b"SKUL\xba\xbe\0\x02"), (0x8018, b"secret"), (0x8100, &0x8000u64.to_be_bytes())]);
        assert_eq!(found(probe_containers, &two), words("crypto_LUKS", "secret", ""));
        let stale = image(1 << 20, &[(0x8000, b"SKUL\xba\xbe\0\x02")]);
        assert_eq!(probe_containers(&stale).unwrap(), None);
    }

    #[test]
    fn md_superblocks() {
        let magic = 0xa92b_4efcu32.to_le_bytes();
        let size = (1 << 20) + 512 * 5;
        for sector in [0usize, 8, (size / 512 - 16) & !7] {
            let at = sector * 512;
            let pieces: [(usize, &[u8]); 5] = [
                (at, &magic),
                (at + 4, &[1]),
                (at + 16, &ID),
                (at + 32, b"host:0"),
                (at + 128, &(sector as u64).to_le_bytes()),
            ];
            assert_eq!(found(probe_containers, &image(size, &pieces)), words("linux_raid_member", "host:0", ID_TEXT));
            assert_eq!(probe_containers(&image(size, &pieces[..4])).unwrap().is_some(), sector == 0);
        }
        let at = (size / 65536 - 1) * 65536;
        let old = image(size, &[(at, &magic), (at + 8, &[90]), (at + 20, &ID[..4]), (at + 52, &ID[4..])]);
        assert_eq!(found(probe_containers, &old), words("linux_raid_member", "", ID_TEXT));
    }

    #[test]
    fn lvm_label() {
        // The label that pvcreate 2.03.16 wrote to a device of 100 MiB, checksum and all.
        let mut label = vec![0; 512];
        let written: [(usize, &[u8]); 6] = [
            (0, b"LABELONE\x01"),
            (16, b"\xba\xf5J\x8f\x20\x00\x00\x00LVM2\x20001bA292QvLPCpXnUl81gof8vtb3d3HuKz7\x00\x00@\x06"),
            (74, b"\x10"),
            (105, b"\x10"),
            (113, b"\xf0\x0f"),
            (136, b"\x02"),
        ];
        for (at, bytes) in written {
            label[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let device = image(1 << 16, &[(512, &label)]);
        assert_eq!(
            found(probe_containers, &device),
            words("LVM2_member", "", "bA292Q-vLPC-pXnU-l81g-of8v-tb3d-3HuKz7")
        );
        label[100] ^= 1;
        assert_eq!(probe_containers(&image(1 << 16, &[(512, &label)])).unwrap(), None);
    }

    #[test]
    fn signatures() {
        let size = 1 << 19;
        let serial = 0x1234_abcdu32.to_le_bytes();
        for (pieces, want) in [
            (vec![(0, b"hsqs".as_slice()), (28, &[3])], words("squashfs3", "", "")),
            (vec![(3, b"NTFS    ".as_slice()), (11, &[0, 2]), (72, &serial)], words("ntfs", "", "000000001234ABCD")),
            (vec![(3, b"EXFAT   ".as_slice()), (100, &serial)], words("exfat", "", "1234-ABCD")),
            (vec![(32769, b"BEA01".as_slice()), (34817, b"NSR03")], words("udf", "", "")),
            (
                vec![(65526, b"SWAPSPACE2".as_slice()), (1036, &ID), (1052, b"big pages")],
                words("swap", "big pages", ID_TEXT),
            ),
            (vec![(4086, b"S1SUSPEND\0".as_slice())], words("swsuspend", "", "")),
        ] {
            assert_eq!(found(probe, &image(size, &pieces)), want);
        }
        assert_eq!(found(probe_containers, &image(size, &[(3, b"-FVE-FS-")])), words("BitLocker", "", ""));
    }

    #[test]
    fn short_and_empty_devices() {
        for size in [0, 1, 511, 512, 4096, 32770, 65535, 131_073, 262_143] {
            assert_eq!(probe_containers(&Memory::new(size)).unwrap(), None);
            assert_eq!(probe(&Memory::new(size)).unwrap(), None);
            let full = Memory::from(vec![0xff; size]);
            assert_eq!(probe_containers(&full).unwrap(), None);
            assert_eq!(probe(&full).unwrap(), None);
        }
    }

    /// Makes an image with a tool; `None` where the tool is not installed.
    fn made_by(tool: &str, size: u64, arguments: &[&str]) -> Option<Memory> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        std::fs::create_dir(folder.path().join("tree")).unwrap();
        std::fs::write(folder.path().join("tree/file"), "content").unwrap();
        std::fs::File::create(&file).unwrap().set_len(size).unwrap();
        let program = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .map(|d| format!("{d}/{tool}"))
            .find(|p| std::path::Path::new(p).exists());
        let Some(program) = program else {
            eprintln!("skipped: {tool} is not installed");
            return None;
        };
        let file_name = file.to_str().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|a| if *a == "IMAGE" { file_name } else { *a }).collect();
        let output = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
        Some(Memory::from(std::fs::read(file).unwrap()))
    }

    #[test]
    fn images_of_the_tools() {
        if let Some(image) = made_by("mkswap", 1 << 20, &["-L", "sw", "-U", ID_TEXT, "-p", "16384", "IMAGE"]) {
            assert_eq!(found(probe, &image), words("swap", "sw", ID_TEXT));
        }
        let xfs = format!("uuid={ID_TEXT}");
        if let Some(image) = made_by("mkfs.xfs", 301 << 20, &["-q", "-L", "data", "-m", &xfs, "IMAGE"]) {
            assert_eq!(found(crate::fs::identify, &image), words("xfs", "data", ID_TEXT));
        }
        if let Some(image) = made_by("mkfs.btrfs", 128 << 20, &["-q", "-L", "pool", "-U", ID_TEXT, "IMAGE"]) {
            assert_eq!(found(crate::fs::identify, &image), words("btrfs", "pool", ID_TEXT));
        }
    }
}
