//! "Did you mean" for paths and devices of the guest that are not there.

use crate::base::spelling::nearest;
use crate::base::{Error, GuestPathBuf, Kind, printable, quoted};
use crate::session::Session;

/// The most names of one directory that are compared.
const NAMES_MAX: usize = 20_000;

/// Adds the nearest name to an error about something that is not there. Reads the directory in which it should be, so it is
/// for errors that somebody reads.
pub(super) fn nearest_name(session: &Session, error: Error) -> Error {
    let Some(subject) = error.subject().filter(|_| error.kind() == Kind::NotFound).map(str::to_string) else {
        return error;
    };
    let near = match subject.starts_with("/dev/") {
        true => device(session, &subject),
        false => path(session, &subject),
    };
    match near {
        Some(near) => error.hint_instead(format!("did you mean {near}?")),
        None => error,
    }
}

fn device(session: &Session, wanted: &str) -> Option<String> {
    let names = session.devices().into_iter().chain(session.partitions().unwrap_or_default());
    nearest(wanted, names.chain(session.mapped_devices()))
}

/// The path with its first missing name replaced.
fn path(session: &Session, wanted: &str) -> Option<String> {
    let wanted = GuestPathBuf::from(wanted);
    if !wanted.is_absolute() {
        return None;
    }
    let mut folder = GuestPathBuf::root();
    let mut names = wanted.components();
    loop {
        let name = names.next()?;
        let next = folder.join(name);
        if session.guest.exists(&next).ok()? {
            folder = next;
            continue;
        }
        let there = session.guest.list(&folder).ok().filter(|there| there.len() <= NAMES_MAX)?;
        let there = there.iter().filter_map(|name| std::str::from_utf8(name).ok());
        let near = nearest(&printable(name), there)?;
        let path = names.fold(folder.join(near.as_bytes()), |path, name| path.join(name));
        return session.guest.exists(&path).ok()?.then(|| quoted(&path));
    }
}
