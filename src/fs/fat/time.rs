//! DOS dates and times (fatgen103 page 25), taken as UTC.
//!
//! FAT keeps local time without a zone. guestfish's appliance runs in UTC, and so do cloud images.

use crate::base::Timestamp;
use crate::base::bytes::{le16, put_le16, u8_at};

/// 1980-01-01 00:00:00 and 2107-12-31 23:59:59 UTC.
const RANGE: (i64, i64) = (315_532_800, 4_354_819_199);

/// A directory entry's times.
const CREATED_FINE: usize = 13;
const CREATED: usize = 14;
const ACCESSED: usize = 18;
const MODIFIED: usize = 22;

fn decode(date: u16, time: u16) -> Timestamp {
    let (year, month, day) = (1980 + i64::from(date >> 9), u32::from(date >> 5 & 15), u32::from(date & 31));
    let (hour, minute, second) = (u32::from(time >> 11), u32::from(time >> 5 & 63), u32::from(time & 31) * 2);
    Timestamp::from_civil(year, month.clamp(1, 12), day.max(1), hour, minute, second)
}

/// Date, time, and hundredths of a second after the even second; outside the range the nearest moment.
fn encode(moment: Timestamp) -> (u16, u16, u8) {
    let nanos = if moment.seconds.clamp(RANGE.0, RANGE.1) == moment.seconds { moment.nanos } else { 0 };
    let (year, month, day, hour, minute, second) =
        Timestamp::from_seconds(moment.seconds.clamp(RANGE.0, RANGE.1)).to_civil();
    let date = ((year - 1980) as u16) << 9 | (month as u16) << 5 | day as u16;
    let time = (hour as u16) << 11 | (minute as u16) << 5 | (second / 2) as u16;
    (date, time, (second % 2 * 100 + nanos / 10_000_000) as u8)
}

/// Last change of the content, to two seconds.
pub fn modified(entry: &[u8]) -> Timestamp {
    decode(le16(entry, MODIFIED + 2), le16(entry, MODIFIED))
}

/// Day of the last read.
pub fn accessed(entry: &[u8]) -> Timestamp {
    decode(le16(entry, ACCESSED), 0)
}

/// Creation, to ten milliseconds; `None` if the entry has none.
pub fn created(entry: &[u8]) -> Option<Timestamp> {
    if le16(entry, CREATED + 2) == 0 {
        return None;
    }
    let even = decode(le16(entry, CREATED + 2), le16(entry, CREATED));
    let fine = u32::from(u8_at(entry, CREATED_FINE)).min(199);
    Some(Timestamp { seconds: even.seconds + i64::from(fine / 100), nanos: fine % 100 * 10_000_000 })
}

/// Sets the last change of the content.
pub fn set_modified(entry: &mut [u8], moment: Timestamp) {
    let (date, time, _) = encode(moment);
    put_le16(entry, MODIFIED, time);
    put_le16(entry, MODIFIED + 2, date);
}

/// Sets the day of the last read.
pub fn set_accessed(entry: &mut [u8], moment: Timestamp) {
    put_le16(entry, ACCESSED, encode(moment).0);
}

/// Sets all three times of a new entry.
pub fn set_all(entry: &mut [u8], moment: Timestamp) {
    set_modified(entry, moment);
    set_accessed(entry, moment);
    let (date, time, fine) = encode(moment);
    if let Some(byte) = entry.get_mut(CREATED_FINE) {
        *byte = fine;
    }
    put_le16(entry, CREATED, time);
    put_le16(entry, CREATED + 2, date);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_limits() {
        let mut entry = [0; 32];
        assert_eq!((created(&entry), modified(&entry)), (None, Timestamp::from_seconds(RANGE.0)));
        let moment = Timestamp { seconds: 1_700_000_001, nanos: 987_654_321 };
        set_all(&mut entry, moment);
        assert_eq!(modified(&entry).seconds, 1_700_000_000);
        assert_eq!(created(&entry), Some(Timestamp { seconds: 1_700_000_001, nanos: 980_000_000 }));
        assert_eq!(accessed(&entry).seconds, 1_700_000_000 / 86_400 * 86_400);
        for (far, near) in [(i64::MIN, RANGE.0), (0, RANGE.0), (i64::MAX, RANGE.1 - 1)] {
            set_modified(&mut entry, Timestamp::from_seconds(far));
            assert_eq!(modified(&entry).seconds, near);
        }
        for pattern in 0..=255 {
            let _ = (modified(&[pattern; 32]), created(&[pattern; 32]), accessed(&[pattern; 32]));
        }
    }
}
