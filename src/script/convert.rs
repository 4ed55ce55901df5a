//! Rhai values to arguments, and answers to Rhai values.

use rhai::{Array, Blob, Dynamic, Map};

use crate::base::{Error, GuestPathBuf, Result, printable};
use crate::command::{Arg, Field, HostFile, Kind, Need, Param, Record, Value};

/// Reads a Rhai value as the parameter wants it.
pub fn to_arg(param: &Param, value: Dynamic) -> Result<Arg> {
    if matches!(param.need, Need::Many | Need::Any) || param.kind == Kind::List {
        return list(param, value).map(Arg::List);
    }
    Ok(match param.kind {
        Kind::Path => Arg::Path(GuestPathBuf(bytes(param, value)?)),
        Kind::FileIn if value.is_blob() => Arg::File(HostFile::Inline(bytes(param, value)?)),
        Kind::FileIn | Kind::FileOut => Arg::File(match text(param, value)?.as_str() {
            "-" => HostFile::Standard,
            name => HostFile::Path(name.into()),
        }),
        Kind::HostPath => Arg::Host(text(param, value)?.into()),
        Kind::Bool => Arg::Bool(value.as_bool().map_err(|found| wrong(param, "a boolean", found))?),
        Kind::ModeChange if value.is_string() && !is_number(&value) => Arg::Bytes(text(param, value)?.into_bytes()),
        Kind::Owner if value.is_string() && !is_number(&value) => Arg::Bytes(text(param, value)?.into_bytes()),
        Kind::Mode | Kind::ModeChange => Arg::Int(mode(param, value)?),
        Kind::Int | Kind::Int64 | Kind::Owner => {
            Arg::Int(value.as_int().map_err(|found| wrong(param, "an integer", found))?)
        }
        // Device names are resolved in the gate.
        Kind::Text | Kind::Bytes | Kind::Device | Kind::Mountable | Kind::DeviceOrPath | Kind::Command | Kind::List => {
            Arg::Bytes(bytes(param, value)?)
        }
    })
}

fn wrong(param: &Param, wanted: &str, found: &str) -> Error {
    Error::usage(format!("argument {} must be {wanted}, not {found}", param.name.to_uppercase()))
}

fn text(param: &Param, value: Dynamic) -> Result<String> {
    match value.type_name() {
        "string" | "char" | "i64" => Ok(value.to_string()),
        found => Err(wrong(param, "a string", found)),
    }
}

fn bytes(param: &Param, value: Dynamic) -> Result<Vec<u8>> {
    if value.is_blob() {
        return Ok(value.cast::<Blob>());
    }
    text(param, value).map(String::into_bytes)
}

fn list(param: &Param, value: Dynamic) -> Result<Vec<Vec<u8>>> {
    if value.is_array() {
        return value.cast::<Array>().into_iter().map(|v| bytes(param, v)).collect();
    }
    Ok(vec![bytes(param, value)?])
}

/// Permission bits: a string is octal; an integer must not look as if the `0o` were forgotten (Rhai reads
/// `0755` as decimal 755).
fn mode(param: &Param, value: Dynamic) -> Result<i64> {
    if let Ok(number) = value.as_int() {
        let digits = number.to_string();
        let octal_digits = digits.len() >= 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if octal_digits && matches!(number, 400..=777 | 1000..=7777) {
            return Err(Error::usage(format!("mode {number} is decimal here"))
                .hint(format!("write 0o{number}, or \"0{number}\"")));
        }
        return Ok(number);
    }
    let text = text(param, value)?;
    i64::from_str_radix(text.trim_start_matches("0o"), 8)
        .map_err(|_| Error::usage(format!("'{text}' is no octal mode")))
}

/// Whether a string is a number, perhaps with a sign.
fn is_number(value: &Dynamic) -> bool {
    let text = value.to_string();
    text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit())
}

/// An argument for a step's label: one line, short.
pub fn short(value: &Dynamic) -> String {
    let text = if value.is_blob() { "(bytes)".to_string() } else { printable(value.to_string().as_bytes()) };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// An answer as Rhai sees it: text that is not UTF-8 becomes a blob.
pub fn from_value(value: Value) -> Dynamic {
    match value {
        Value::Nothing | Value::Control(_) => Dynamic::UNIT,
        Value::Bool(b) => b.into(),
        Value::Int(n) | Value::Octal(n) | Value::Hex(n) => n.into(),
        Value::Text(bytes) => from_bytes(bytes),
        Value::List(items) => items.into_iter().map(from_bytes).collect::<Array>().into(),
        Value::Hash(pairs) => pairs
            .into_iter()
            .map(|(key, value)| (String::from_utf8_lossy(&key).as_ref().into(), from_bytes(value)))
            .collect::<Map>()
            .into(),
        Value::Struct(record) => from_record(record),
        Value::Structs(records) => records.into_iter().map(from_record).collect::<Array>().into(),
        Value::Bytes(bytes) => Dynamic::from_blob(bytes),
    }
}

fn from_bytes(bytes: Vec<u8>) -> Dynamic {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(e) => Dynamic::from_blob(e.into_bytes()),
    }
}

fn from_record(record: Record) -> Dynamic {
    let field = |field| match field {
        Field::Int(n) => Dynamic::from_int(i64::try_from(n).unwrap_or(i64::MAX)),
        Field::Text(bytes) | Field::Bytes(bytes) => from_bytes(bytes),
        Field::Char(c) => c.to_string().into(),
        Field::Percent(Some(p)) => Dynamic::from_float(p),
        Field::Percent(None) => Dynamic::UNIT,
    };
    record.0.into_iter().map(|(name, value)| (name.into(), field(value))).collect::<Map>().into()
}
