//! Any bytes as the start of a physical volume: its group is read, its volumes are opened and read, and one more is made. Checksums are made right for a
//! label in the second sector and an area at 4096, where lvm and imgsh put them.

#![no_main]

use std::sync::Arc;

use imgsh::base::Timestamp;
use imgsh::disk::Device;
use imgsh::disk::memory::Memory;
use imgsh::volume::lvm::{self, Allocation, Id, Stamp};
use libfuzzer_sys::fuzz_target;

const LABEL: usize = 512;
const AREA: usize = 4096;
const DEVICE: usize = 32 << 20;

fn sum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    (!hasher.finalize()).to_le_bytes()
}

fn long(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap()) as usize)
}

fn stamp(bytes: &mut [u8]) {
    if bytes.len() < AREA + 512 {
        return;
    }
    let (start, len) = (long(bytes, AREA + 40), long(bytes, AREA + 48));
    let text = AREA.checked_add(start).and_then(|start| bytes.get(start..start.checked_add(len)?));
    if let Some(sum) = text.map(sum) {
        bytes[AREA + 56..AREA + 60].copy_from_slice(&sum);
    }
    let area = sum(&bytes[AREA + 4..AREA + 512]);
    bytes[AREA..AREA + 4].copy_from_slice(&area);
    let label = sum(&bytes[LABEL + 20..LABEL + 512]);
    bytes[LABEL + 16..LABEL + 20].copy_from_slice(&label);
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    stamp(&mut bytes);
    bytes.resize(DEVICE, 0);
    let device: Device = Arc::new(Memory::from(bytes));
    let scan = || lvm::scan([("/dev/sda".to_string(), device.clone())]);
    let Ok(found) = scan() else { return };
    let mut groups = Vec::new();
    for (group, volume) in found.volumes() {
        groups.push(group.name.clone());
        if let Ok(opened) = found.open(group, volume) {
            let mut buf = [0; 5000];
            for at in [0, opened.device.len() / 2, opened.device.len().saturating_sub(5000)] {
                let _ = opened.device.read_at(at, &mut buf);
            }
        }
    }
    let stamp = Stamp { now: Timestamp::from_seconds(1_700_000_000), command: "fuzz" };
    groups.dedup();
    for group in groups.iter().take(3) {
        let id = Id::from_random([[1; 16]; 2]);
        if found.create_volume(group, "new", Allocation::FreePercent(50), id, stamp).is_ok() {
            scan().expect("what was changed is read");
        }
    }
});
