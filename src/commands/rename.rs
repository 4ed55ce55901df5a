//! `mv` as the tool of that name does it: a target that is a directory is filled, not replaced.

use super::looking::look;
use super::writing::done;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Context, Value};
use crate::fs::{FileType, Metadata};
use crate::guest::Guest;

/// Where a source goes: below `dest` under its own name if `dest` is a directory, else to `dest` itself.
pub(super) fn landing(cx: &mut Context, src: &GuestPathBuf, dest: &GuestPathBuf) -> Result<GuestPathBuf> {
    match look(cx, dest, true) {
        Ok(Some(found)) if found.file_type == FileType::Directory => Ok(match src.file_name() {
            Some(name) if name != b".." => dest.join(name),
            _ => dest.clone(),
        }),
        // A link that goes round in circles is no directory.
        Err(error) if error.kind() != ErrorKind::TooManyLinks => Err(error),
        _ => Ok(dest.clone()),
    }
}

/// Whether `mv` takes two names for one file: they are, or the first is a link to the second, which has other names too.
fn is_onto_itself(
    guest: &Guest,
    src: &GuestPathBuf,
    found: &Metadata,
    dest: &GuestPathBuf,
    there: &Metadata,
) -> Result<bool> {
    if guest.resolve_link(src)? == guest.resolve_link(dest)? {
        return Ok(true);
    }
    let links = found.file_type == FileType::Symlink && there.file_type != FileType::Symlink && there.links > 1;
    Ok(links && guest.realpath(src).ok() == guest.realpath(dest).ok())
}

pub(super) fn mv(cx: &mut Context, args: &Args) -> Result<Value> {
    let src = args.path("src");
    // A missing source is reported before anything about the target.
    let found = cx.session.guest.lstat(&src)?;
    let dest = landing(cx, &src, &args.path("dest"))?;
    if let Some(there) = look(cx, &dest, false)?
        && is_onto_itself(&cx.session.guest, &src, &found, &dest, &there)?
    {
        return Err(Error::new(ErrorKind::Invalid, "source and target are the same file").at(dest));
    }
    match cx.session.guest.rename(&src, &dest) {
        Err(e) if e.kind() == ErrorKind::CrossDevice => {
            match look(cx, &dest, false)?.map(|m| m.file_type) {
                Some(FileType::Directory) => cx.session.guest.rmdir(&dest)?,
                Some(_) => cx.session.guest.unlink(&dest)?,
                None => {}
            }
            cx.session.guest.copy(&src, &dest, true, true)?;
            done(cx.session.guest.remove_tree(&src))
        }
        other => done(other),
    }
}
