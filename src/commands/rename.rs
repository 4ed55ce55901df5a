//! `mv` as the tool of that name does it: a target that is a directory is filled, not replaced.

use super::looking::look;
use super::writing::done;
use crate::base::{GuestPathBuf, Kind as ErrorKind, Result};
use crate::command::{Args, Context, Value};
use crate::fs::FileType;

/// Where a source goes: below `dest` under its own name if `dest` is a directory, else to `dest` itself.
pub(super) fn landing(cx: &mut Context, src: &GuestPathBuf, dest: &GuestPathBuf) -> Result<GuestPathBuf> {
    match look(cx, dest, true)? {
        Some(found) if found.file_type == FileType::Directory => Ok(match src.file_name() {
            Some(name) if name != b".." => dest.join(name),
            _ => dest.clone(),
        }),
        _ => Ok(dest.clone()),
    }
}

pub(super) fn mv(cx: &mut Context, args: &Args) -> Result<Value> {
    let src = args.path("src");
    // A missing source is reported before anything about the target.
    cx.session.guest.lstat(&src)?;
    let dest = landing(cx, &src, &args.path("dest"))?;
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
