//! What the hidden `_rmeta_` volumes of a raid1 say: which legs hold the data.
//!
//! The fields are those of Linux's dm-raid superblock (drivers/md/dm-raid.c, "struct dm_raid_superblock").

use crate::base::bytes::{is_zero, le32, le64};
use crate::base::{Error, Result};
use crate::disk::BlockDevice;

const MAGIC: &[u8; 4] = b"DmRd";
const RAID1: u32 = 1;

/// The state that one leg has of the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Never started: the first start makes every leg like the first.
    New,
    /// As the kernel left it.
    Known {
        /// Counts changes of the state.
        events: u64,
        /// Legs that failed, a bit each.
        failed: u64,
        /// Whether the leg was rebuilt to its end, and the mirror compared to its end.
        whole: bool,
    },
}

impl State {
    /// Reads the state at the start of a hidden volume.
    ///
    /// # Errors
    /// `Kind::Unsupported` for a state of another kind of raid or one that is being reshaped.
    pub fn read(device: &dyn BlockDevice) -> Result<Self> {
        let mut block = [0; 512];
        device.read_at(0, &mut block)?;
        if is_zero(&block) {
            return Ok(State::New);
        }
        const RESHAPING: u32 = 1;
        let reshaping = le32(&block, 4) & 1 != 0 && le32(&block, 60) & RESHAPING != 0;
        if !block.starts_with(MAGIC) || le32(&block, 48) != RAID1 || le32(&block, 4) & !1 != 0 || reshaping {
            return Err(Error::unsupported("lvm: the state of a raid1 leg is not one that imgsh knows"));
        }
        let done = |at: usize| le64(&block, at) == u64::MAX;
        Ok(State::Known { events: le64(&block, 16), failed: le64(&block, 24), whole: done(32) && done(40) })
    }
}

/// The legs that hold the data, the first one to be read; and why the mirror is not to be written, if it is not.
///
/// # Errors
/// `Kind::Unsupported` if no leg holds them.
pub fn in_step(states: &[State]) -> Result<(Vec<usize>, Option<String>)> {
    let newest = states.iter().filter_map(|state| match state {
        State::New => None,
        State::Known { events, failed, .. } => Some((*events, *failed)),
    });
    let Some((newest, failed)) = newest.max() else { return Ok(((0..states.len()).collect(), None)) };
    let holds = |(leg, state): (usize, &State)| match state {
        State::Known { events, whole: true, .. } if *events == newest && failed >> leg.min(63) & 1 == 0 => Some(leg),
        _ => None,
    };
    let legs: Vec<usize> = states.iter().enumerate().filter_map(holds).collect();
    if legs.is_empty() {
        return Err(Error::unsupported("lvm: no leg of this raid1 is known to be whole"));
    }
    let why = (legs.len() < states.len()).then(|| "not all legs of the raid1 are in step".to_string());
    Ok((legs, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::bytes::{put_le32, put_le64};
    use crate::disk::memory::Memory;

    fn state(events: u64, failed: u64, recovered: u64) -> State {
        let mut block = vec![0; 4096];
        block[..4].copy_from_slice(MAGIC);
        put_le32(&mut block, 8, 2);
        put_le64(&mut block, 16, events);
        put_le64(&mut block, 24, failed);
        put_le64(&mut block, 32, recovered);
        put_le64(&mut block, 40, u64::MAX);
        put_le32(&mut block, 48, 1);
        State::read(&Memory::from(block)).unwrap()
    }

    #[test]
    fn legs() {
        let fine = state(7, 0, u64::MAX);
        assert_eq!(in_step(&[State::New, State::New]).unwrap(), (vec![0, 1], None));
        assert_eq!(in_step(&[fine.clone(), fine.clone()]).unwrap(), (vec![0, 1], None));
        let only = |states: &[State]| {
            let (legs, why) = in_step(states).unwrap();
            assert!(why.is_some());
            legs
        };
        assert_eq!(only(&[state(6, 0, u64::MAX), fine.clone()]), [1]);
        assert_eq!(only(&[fine.clone(), state(7, 0, 4096)]), [0]);
        assert_eq!(only(&[state(7, 2, u64::MAX), state(7, 0, u64::MAX)]), [0]);
        assert_eq!(only(&[State::New, fine.clone()]), [1]);
        assert!(in_step(&[state(7, 0, 5), state(6, 0, u64::MAX)]).is_err());
        let mut other = vec![0; 512];
        other[..4].copy_from_slice(MAGIC);
        put_le32(&mut other, 48, 5);
        assert!(State::read(&Memory::from(other)).is_err());
    }
}
