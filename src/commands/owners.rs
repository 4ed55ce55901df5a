//! Owners by name: the guest's own passwd and group files decide, never the host's.

use super::reading::EDIT_LIMIT;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::Context;

/// A number, or the third field of a name's line in the guest's passwd or group file.
pub(super) fn id_of(cx: &Context, text: &str, file: &str) -> Result<u32> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let content = cx.session.guest.read_file(&GuestPathBuf::from(file), EDIT_LIMIT)?;
    let found = String::from_utf8_lossy(&content).lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != text {
            return None;
        }
        fields.nth(1)?.parse().ok()
    });
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("the guest's {file} has no '{text}'")).hint("give a number instead")
    })
}
