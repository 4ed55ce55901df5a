//! What scripts can do beyond the commands, without any import: patterns on text, the clock, host files, the exit status.

use std::io::Read;
use std::path::PathBuf;
use std::rc::Rc;

use regex::bytes::Regex;
use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};

use super::{Shared, convert, error};
use crate::base::{Error, Kind, Result};
use crate::command::HostFile;
use crate::commands::pattern::{self, Syntax};

/// The largest host file that `host_file` reads, in bytes.
const HOST_FILE_MAX: u64 = 64 << 20;
/// The longest text that `regex_replace` makes, in bytes.
const TEXT_MAX: usize = 256 << 20;

/// Registers the functions.
pub fn register(engine: &mut Engine, shared: &Rc<Shared>) {
    let lent = shared.clone();
    engine.register_fn("exit_status", move |status: i64| {
        lent.session.borrow_mut().settings.exit_status = Some(u8::try_from(status).unwrap_or(1));
    });
    let lent = shared.clone();
    engine.register_fn("now", move || lent.host.now().seconds);
    let lent = shared.clone();
    engine.register_fn("host_file", move |context: NativeCallContext, path: &str| {
        answer(&context, "host_file", host_file(&lent, path).map(Dynamic::from_blob))
    });
    engine.register_fn("regex_matches", |context: NativeCallContext, text: &str, regex: &str| {
        answer(&context, "regex_matches", compiled(regex).map(|regex| regex.is_match(text.as_bytes()).into()))
    });
    engine.register_fn("regex_replace", |context: NativeCallContext, text: &str, regex: &str, with: &str| {
        answer(&context, "regex_replace", replaced(text, regex, with).map(convert::from_bytes))
    });
}

/// An error is thrown as those of commands are.
fn answer(context: &NativeCallContext, name: &str, result: Result<Dynamic>) -> Result<Dynamic, Box<EvalAltResult>> {
    result.map_err(|e| error::thrown(name, e, context.call_position()))
}

fn compiled(regex: &str) -> Result<Regex> {
    pattern::compile(regex.as_bytes(), Syntax::WholeText, false)
}

fn replaced(text: &str, regex: &str, with: &str) -> Result<Vec<u8>> {
    let regex = compiled(regex)?;
    // Matches do not overlap, so their groups together are no longer than the text, for each `$` that names one.
    let matches = regex.find_iter(text.as_bytes()).count();
    let groups = with.matches('$').count().saturating_mul(text.len());
    let longest = text.len().saturating_add(groups).saturating_add(with.len().saturating_mul(matches));
    if longest > TEXT_MAX {
        return Err(Error::new(Kind::FileTooBig, format!("the text could have over {} MiB", TEXT_MAX >> 20)));
    }
    Ok(regex.replace_all(text.as_bytes(), with.as_bytes()).into_owned())
}

fn host_file(shared: &Shared, path: &str) -> Result<Vec<u8>> {
    let (reader, _) = shared.host.read(&HostFile::Path(PathBuf::from(path)))?;
    let mut bytes = Vec::new();
    reader.take(HOST_FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > HOST_FILE_MAX {
        return Err(Error::new(Kind::FileTooBig, format!("more than {} MiB", HOST_FILE_MAX >> 20)).at(path));
    }
    Ok(bytes)
}
