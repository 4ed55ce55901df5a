//! Errors on their way through Rhai: a command's error is a value that a script can catch and look at.

use rhai::{Dynamic, Engine, EvalAltResult, ParseError, Position};

use super::{modules, own_names};
use crate::base::{Error, Kind};
use crate::commands;

/// Calls that a message names, from the innermost on.
const CALLS_SHOWN: usize = 8;

/// Why a script was stopped before the stack is full.
pub const TOO_DEEP: &str = "functions, eval or import call one another too deeply";

/// What `catch (error)` receives from a failed command.
#[derive(Debug, Clone)]
pub struct CommandError {
    command: String,
    message: String,
    error: String,
    path: String,
    hint: Option<String>,
    kind: Kind,
}

/// Registers the type with its properties: `command`, `message` (as it is printed), `error` (without the path), `path`
/// (or device; empty if there is none), `hint` and `kind`.
pub fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<CommandError>("CommandError")
        .register_get("command", |e: &mut CommandError| e.command.clone())
        .register_get("message", |e: &mut CommandError| e.message.clone())
        .register_get("error", |e: &mut CommandError| e.error.clone())
        .register_get("path", |e: &mut CommandError| e.path.clone())
        .register_get("hint", |e: &mut CommandError| e.hint.clone().unwrap_or_default())
        .register_get("kind", |e: &mut CommandError| format!("{:?}", e.kind))
        .register_fn("to_string", |e: &mut CommandError| e.text())
        .register_fn("to_debug", |e: &mut CommandError| e.text());
}

impl CommandError {
    fn text(&self) -> String {
        format!("{}: {}", self.command, self.message)
    }
}

/// A command's error as something Rhai can throw.
pub fn thrown(command: &str, error: Error, position: Position) -> Box<EvalAltResult> {
    let value = CommandError {
        command: command.replace('-', "_"),
        message: error.to_string(),
        error: error.detail().to_string(),
        path: error.subject().unwrap_or_default().to_string(),
        hint: error.hint_text().map(str::to_string),
        kind: error.kind(),
    };
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(value), position))
}

/// A script that does not parse: `FILE:LINE:COLUMN: what`.
pub fn from_parse(error: &ParseError, source: &str) -> Error {
    Error::usage(error.err_type().to_string()).at(place(source, error.position()))
}

/// A script that failed: the innermost error with its place, and the calls that led there as the hint. What a function of the
/// library throws, or a command that it runs, is told at the place of the user's call; a command in Rhai has none.
pub fn from_eval(error: EvalAltResult, source: &str) -> Error {
    let mut calls = Vec::new();
    let (inner, source) = innermost(error, source.to_string(), &mut calls);
    let mut at = Some(Call { source, position: inner.position(), name: String::new() });
    while matches!(inner, EvalAltResult::ErrorRuntime(..))
        && at.as_ref().is_some_and(|call| modules::is_library(&call.source))
    {
        at = calls.pop();
    }
    let found = match inner {
        EvalAltResult::ErrorRuntime(value, _) => match value.clone().try_cast::<CommandError>() {
            Some(e) => {
                let found = Error::new(e.kind, e.text());
                match e.hint {
                    Some(hint) => found.hint(hint),
                    None => found,
                }
            }
            None => Error::new(Kind::Usage, value.to_string()),
        },
        EvalAltResult::ErrorTerminated(token, _) if token.to_string() == TOO_DEEP => Error::usage(TOO_DEEP),
        EvalAltResult::ErrorTerminated(..) => Error::new(Kind::Interrupted, "interrupted"),
        EvalAltResult::ErrorParsing(kind, _) => Error::usage(kind.to_string()),
        EvalAltResult::ErrorFunctionNotFound(call, _) => {
            let error = Error::usage(format!("Function not found: {call}"));
            let name = call.split([' ', '(']).next().unwrap_or_default().replace('_', "-");
            match commands::nearest(&name) {
                Some(near) => error.hint(format!("did you mean {}?", near.replace('-', "_"))),
                None => error,
            }
        }
        other => {
            let mut other = other;
            other.clear_position();
            Error::usage(other.to_string())
        }
    };
    let found = match at {
        Some(call) => found.at(place(&call.source, call.position)),
        None => found,
    };
    let shown = |call: &Call| format!("{} for {}()", place(&call.source, call.position), call.name);
    let mut told: Vec<_> = calls.iter().rev().take(CALLS_SHOWN).map(shown).collect();
    if calls.len() > CALLS_SHOWN {
        told.push(format!("{} more", calls.len() - CALLS_SHOWN));
    }
    if told.is_empty() { found } else { found.hint(format!("called from {}", told.join(", "))) }
}

/// A place in a script, and the function that is called there.
struct Call {
    source: String,
    position: Position,
    name: String,
}

/// The error itself and the script it is in; the calls that led there go to `calls`, the outermost first.
fn innermost(error: EvalAltResult, source: String, calls: &mut Vec<Call>) -> (EvalAltResult, String) {
    match error {
        EvalAltResult::ErrorInFunctionCall(name, inside, inner, position) => {
            let name = own_names::told(&name).to_string();
            calls.push(Call { source: source.clone(), position, name });
            let source = if inside.is_empty() { source } else { inside };
            innermost(*inner, source, calls)
        }
        EvalAltResult::ErrorInModule(name, inner, _) => {
            let source = if name.is_empty() { source } else { name };
            innermost(*inner, source, calls)
        }
        other => (other, source),
    }
}

fn place(source: &str, position: Position) -> String {
    match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!("{source}:{line}:{column}"),
        (Some(line), None) => format!("{source}:{line}"),
        _ => source.to_string(),
    }
}
