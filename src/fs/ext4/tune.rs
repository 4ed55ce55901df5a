//! Settings in the superblock, as tune2fs changes them.

use super::Ext4;
use super::copies;
use crate::base::{Error, Kind, Result};
use crate::fs::Edit;

/// What to change; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Mounts after which it is checked; 0 and negative numbers mean never.
    pub max_mounts: Option<i64>,
    /// Mounts since the last check.
    pub mounts: Option<i64>,
    /// `continue`, `remount-ro`, `panic`.
    pub on_errors: Option<String>,
    /// Group that may use reserved blocks.
    pub group: Option<i64>,
    /// User who may use reserved blocks.
    pub user: Option<i64>,
    /// Seconds after which it is checked, 0 for never.
    pub check_interval: Option<i64>,
    /// Reserved blocks, in per cent of all.
    pub reserved_percent: Option<i64>,
    /// Reserved blocks.
    pub reserved_blocks: Option<i64>,
    /// Where it was mounted last.
    pub last_mounted: Option<String>,
}

/// The value of an option if it is in range.
fn ranged(name: &str, value: i64, most: u64) -> Result<u64> {
    match u64::try_from(value) {
        Ok(value) if value <= most => Ok(value),
        _ => Err(Error::new(Kind::Invalid, format!("{name} {value} is not in 0..={most}"))),
    }
}

impl Ext4 {
    /// Changes settings.
    ///
    /// # Errors
    /// `Kind::Invalid` with the option whose value is out of range; then nothing is changed.
    pub fn tune(&mut self, tuning: &Tuning) -> Result<()> {
        self.begin_edit()?;
        let mut sb = self.superblock.clone();
        if let Some(count) = tuning.max_mounts {
            let count = if count <= 0 { -1 } else { ranged("maxmountcount", count, 16_000)? as i16 };
            sb.set_max_mounts(count as u16);
        }
        if let Some(count) = tuning.mounts {
            sb.set_mounts(ranged("mountcount", count, 16_000)? as u16);
        }
        if let Some(word) = &tuning.on_errors {
            let value = match word.as_str() {
                "continue" => 1,
                "remount-ro" => 2,
                "panic" => 3,
                _ => {
                    let detail = format!("errorbehavior {word} is none of continue, remount-ro, panic");
                    return Err(Error::new(Kind::Invalid, detail));
                }
            };
            sb.set_on_errors(value);
        }
        if let Some(group) = tuning.group {
            sb.set_reserved_group(ranged("group", group, 0xffff)? as u16);
        }
        if let Some(user) = tuning.user {
            sb.set_reserved_user(ranged("user", user, 0xffff)? as u16);
        }
        if let Some(seconds) = tuning.check_interval {
            sb.set_check_interval(ranged("intervalbetweenchecks", seconds, u32::MAX.into())? as u32);
        }
        if let Some(percent) = tuning.reserved_percent {
            let percent = u128::from(ranged("reservedblockspercentage", percent, 50)?);
            sb.set_reserved_blocks((percent * u128::from(sb.blocks()) / 100) as u64);
        }
        if let Some(count) = tuning.reserved_blocks {
            sb.set_reserved_blocks(ranged("reservedblockscount", count, sb.blocks() / 2)?);
        }
        if let Some(path) = &tuning.last_mounted {
            if path.len() > 63 {
                return Err(Error::new(Kind::Invalid, "lastmounteddirectory has over 63 bytes"));
            }
            sb.set_last_mounted(path.as_bytes());
        }
        self.sync()?;
        self.superblock = sb;
        copies::write_superblocks(self.base.as_ref(), &self.geometry, &self.superblock)
    }
}
