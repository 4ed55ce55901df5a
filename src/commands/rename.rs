//! `mv` and `cp` as the tools of that name do it: a target that is a directory is filled, not replaced.

use super::looking::look;
use super::writing::done;
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result};
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
    let found = cx.session.guest.lstat(&src)?;
    let dest = landing(cx, &src, &args.path("dest"))?;
    match cx.session.guest.rename(&src, &dest) {
        Err(e) if e.kind() == ErrorKind::CrossDevice => {
            let is_directory = found.file_type == FileType::Directory;
            if !is_directory && look(cx, &dest, false)?.is_some() {
                cx.session.guest.unlink(&dest)?;
            }
            cx.session.guest.copy(&src, &dest, true, true)?;
            done(cx.session.guest.remove_tree(&src))
        }
        other => done(other),
    }
}

pub(super) fn copy(cx: &mut Context, args: &Args, keep_attributes: bool, recursive: bool) -> Result<Value> {
    let src = args.path("src");
    let found = if recursive { cx.session.guest.lstat(&src)? } else { cx.session.guest.stat(&src)? };
    if !recursive && found.file_type == FileType::Directory {
        return Err(Error::from(ErrorKind::IsADirectory).at(&src).hint("cp-r and cp-a copy directories"));
    }
    let dest = landing(cx, &src, &args.path("dest"))?;
    done(cx.session.guest.copy(&src, &dest, keep_attributes, recursive))
}
