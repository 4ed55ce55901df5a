//! Rhai values to arguments, and answers to Rhai values.

use rhai::{Array, Blob, Dynamic, Map};

use crate::base::{Error, GuestPathBuf, Result, quoted, without_secret};
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
        Kind::Text
        | Kind::Bytes
        | Kind::Device
        | Kind::Mountable
        | Kind::DeviceOrPath
        | Kind::Command
        | Kind::List
        | Kind::Key => Arg::Bytes(bytes(param, value)?),
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
/// `0755` as decimal 755): its decimal digits make a usual mode and it is none itself.
fn mode(param: &Param, value: Dynamic) -> Result<i64> {
    if let Ok(number) = value.as_int() {
        let digits = number.to_string();
        let written = i64::from_str_radix(&digits, 8).ok().filter(|_| digits.len() >= 3);
        if written.is_some_and(usual_mode) && !usual_mode(number) {
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

/// A mode as people give them: the group may do no more than the owner, others no more than the group, and whoever may do
/// anything may read.
fn usual_mode(mode: i64) -> bool {
    let [owner, group, others] = [mode >> 6 & 7, mode >> 3 & 7, mode & 7];
    (0..=0o7777).contains(&mode)
        && group & !owner == 0
        && others & !group == 0
        && [owner, group, others].iter().all(|bits| *bits == 0 || bits & 4 != 0)
}

/// An argument as `changes` shows it: as a word of a line, long ones cut.
pub fn short(param: &Param, value: &Dynamic) -> String {
    let text = match (param.kind, value.as_int()) {
        (Kind::Key, _) => "***".to_string(),
        (Kind::Mode | Kind::ModeChange, Ok(mode)) => format!("0{mode:o}"),
        _ if value.is_blob() => "(bytes)".to_string(),
        _ => without_secret(quoted(value.to_string().as_bytes())),
    };
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
        Value::Table(table) => table.rows.into_iter().map(from_record).collect::<Array>().into(),
        Value::Bytes(bytes) => Dynamic::from_blob(bytes),
    }
}

/// Bytes as a string, or as a blob where they are no UTF-8.
pub fn from_bytes(bytes: Vec<u8>) -> Dynamic {
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
        Field::Nothing | Field::Percent(None) => Dynamic::UNIT,
    };
    record.0.into_iter().map(|(name, value)| (name.into(), field(value))).collect::<Map>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_with_a_forgotten_prefix_are_refused() {
        let param = Param::required("mode", Kind::Mode);
        for good in [0, 0o644, 0o755, 0o600, 0o700, 0o640, 0o750, 0o664, 0o775, 0o777, 0o400, 0o440, 0o1777, 0o4755] {
            assert_eq!(mode(&param, Dynamic::from_int(good)).unwrap(), good);
            assert_eq!(mode(&param, format!("0{good:o}").into()).unwrap(), good);
        }
        for bad in [644, 755, 600, 700, 640, 750, 664, 775, 777, 400, 440, 1777, 2755] {
            let error = mode(&param, Dynamic::from_int(bad)).unwrap_err().to_string();
            assert!(error.contains("is decimal here"), "{bad}: {error}");
        }
    }
}
