//! What scripts can do beyond the commands, without any import: patterns on text, the clock, host files, the exit status.

use std::cell::RefCell;
use std::collections::HashMap;
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

/// Definitions of what is registered here and beside the commands, for the language server.
pub(super) const NATIVES: &str = r#"/// The words behind the script's name.
const ARGS: Array;

/// A handle whose methods are the commands.
fn session() -> ?;

/// Runs lines of the guestfish language in the same session and answers what they printed.
fn run_line(lines: String) -> ?;

/// Sets the exit status of a run that ends well.
fn exit_status(status: int);

/// Seconds since 1970.
fn now() -> int;

/// A host file of up to 64 MiB.
fn host_file(path: String) -> Blob;

/// Whether an expression of egrep matches somewhere in a text.
fn regex_matches(text: String, regex: String) -> bool;

/// The text with all matches of an expression of egrep replaced; `$1` in `with_text` is a group.
fn regex_replace(text: String, regex: String, with_text: String) -> ?;

/// A YAML document: `#{ value, lines }`.
fn parse_yaml(text: String) -> Map;

"#;

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
    let patterns = Rc::new(Patterns::default());
    let known = patterns.clone();
    engine.register_fn("regex_matches", move |context: NativeCallContext, text: &str, regex: &str| {
        answer(&context, "regex_matches", known.get(regex).map(|regex| regex.is_match(text.as_bytes()).into()))
    });
    engine.register_fn("regex_replace", move |context: NativeCallContext, text: &str, regex: &str, with: &str| {
        let made = patterns.get(regex).and_then(|regex| replaced(text, &regex, with));
        answer(&context, "regex_replace", made.map(convert::from_bytes))
    });
}

/// Expressions that are compiled already: scripts go over the lines of files with the same few.
#[derive(Default)]
struct Patterns(RefCell<HashMap<String, Rc<Regex>>>);

impl Patterns {
    /// Each may take some MiB.
    const MOST: usize = 32;

    /// A copy of an expression would have to make its tables anew.
    fn get(&self, regex: &str) -> Result<Rc<Regex>> {
        let mut known = self.0.borrow_mut();
        if let Some(found) = known.get(regex) {
            return Ok(found.clone());
        }
        let made = Rc::new(pattern::compile(regex.as_bytes(), Syntax::WholeText, false)?);
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(regex.to_string(), made.clone());
        Ok(made)
    }
}

/// An error is thrown as those of commands are.
fn answer(context: &NativeCallContext, name: &str, result: Result<Dynamic>) -> Result<Dynamic, Box<EvalAltResult>> {
    result.map_err(|e| error::thrown(name, e, context.call_position()))
}

fn replaced(text: &str, regex: &Regex, with: &str) -> Result<Vec<u8>> {
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
