//! Any bytes as a disk with a partition table: read, every partition changed, and read again. The checksums of a GPT of 512 bytes a sector are
//! made right.

#![no_main]

use std::sync::Arc;

use imgsh::base::Uuid;
use imgsh::disk::Device;
use imgsh::disk::memory::Memory;
use imgsh::volume::{self, Role, TableEdit};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 512;

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize)
}

fn stamp(bytes: &mut [u8]) {
    let (count, size) = (word(bytes, HEADER + 80), word(bytes, HEADER + 84));
    let entries =
        count.checked_mul(size).and_then(|len| bytes.get(1024..1024_usize.checked_add(len)?)).map(crc32fast::hash);
    if let Some(sum) = entries {
        bytes[HEADER + 88..HEADER + 92].copy_from_slice(&sum.to_le_bytes());
    }
    if bytes.len() > HEADER + 92 {
        bytes[HEADER + 16..HEADER + 20].fill(0);
        let sum = crc32fast::hash(&bytes[HEADER..HEADER + 92]);
        bytes[HEADER + 16..HEADER + 20].copy_from_slice(&sum.to_le_bytes());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    stamp(&mut bytes);
    let device: Device = Arc::new(Memory::from(bytes));
    let Ok(Some(table)) = volume::read(&device) else { return };
    let guid = Uuid([7; 16]);
    let mut edits = vec![TableEdit::ExpandGpt, TableEdit::SetDiskGuid { guid }];
    for partition in table.partitions.iter().take(8) {
        let number = partition.number;
        edits.push(TableEdit::Resize { number, end_sector: -40 });
        edits.push(TableEdit::SetBootable { number, bootable: true });
        edits.push(TableEdit::SetName { number, name: "a name".to_string() });
        edits.push(TableEdit::SetMbrId { number, id: 0x83 });
        edits.push(TableEdit::Delete { number });
    }
    for role in [Role::Primary, Role::Extended, Role::Logical] {
        edits.push(TableEdit::Add { role, start_sector: 64, end_sector: -64, guid });
    }
    for edit in &edits {
        if volume::edit(&device, edit).is_ok() {
            volume::read(&device).expect("what was changed is read");
        }
    }
});
