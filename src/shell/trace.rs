//! The lines that `-x` shows: each command with its arguments, then its answer.

use super::wording;
use crate::base::{printable, without_secret};
use crate::command::{Arg, Args, Command, HostFile, Kind, Need, Table, Value};

/// `libguestfs: trace: NAME ARG...`
pub fn call(command: &Command, args: &Args) -> String {
    let mut line = format!("libguestfs: trace: {}", wording::call(command));
    for param in command.params {
        let Some(arg) = args.get(param.name) else { continue };
        line.push(' ');
        if param.need == Need::Optional {
            line.push_str(param.name);
            line.push(':');
        }
        line.push_str(&if param.kind == Kind::Key { "***".to_string() } else { argument(arg) });
    }
    line
}

/// `libguestfs: trace: NAME = RESULT`; `None` is a failure.
pub fn result(command: &Command, value: Option<&Value>) -> String {
    let value = match value {
        None => "-1 (error)".to_string(),
        Some(Value::Nothing | Value::Control(_)) => "0".to_string(),
        Some(Value::Bool(truth)) => i32::from(*truth).to_string(),
        Some(Value::Int(n) | Value::Octal(n) | Value::Hex(n)) => n.to_string(),
        Some(Value::Text(text) | Value::Bytes(text)) => quoted(text),
        Some(Value::List(items)) => list(items),
        Some(Value::Hash(pairs)) => {
            let items: Vec<_> = pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
            list(&items)
        }
        Some(Value::Struct(_)) => "<struct>".to_string(),
        Some(Value::Structs(records) | Value::Table(Table { rows: records, .. })) => {
            format!("<struct list({})>", records.len())
        }
    };
    format!("libguestfs: trace: {} = {value}", wording::call(command))
}

fn argument(arg: &Arg) -> String {
    match arg {
        Arg::Bytes(bytes) => quoted(bytes),
        Arg::Path(path) => quoted(path),
        Arg::Host(path) => quoted(path.as_os_str().as_encoded_bytes()),
        Arg::File(HostFile::Path(path)) => quoted(path.as_os_str().as_encoded_bytes()),
        Arg::File(HostFile::Standard) => quoted(b"-"),
        Arg::File(HostFile::Inline(bytes)) => format!("<{} bytes>", bytes.len()),
        Arg::List(items) => list(items),
        Arg::Bool(truth) => truth.to_string(),
        Arg::Int(number) => number.to_string(),
    }
}

fn list(items: &[Vec<u8>]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn quoted(bytes: &[u8]) -> String {
    /// Longer texts are cut: a trace is for people.
    const SHOWN: usize = 256;
    match bytes.get(..SHOWN) {
        Some(begin) => format!("\"{}\"<truncated, original size {} bytes>", printable(begin), bytes.len()),
        None => format!("\"{}\"", without_secret(printable(bytes))),
    }
}
