//! Answers as JSON (RFC 8259), a line each. Texts that are no UTF-8 are objects `{"base64": "..."}`.

use std::io::{self, Write};

use super::report::Failure;
use crate::base::base64;
use crate::command::{Field, Record, Table, Value};

/// Writes an answer as one line.
///
/// # Errors
/// What `out` says.
pub fn value(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{}", text_of(value))
}

/// Writes a failure as one line: an object with the key `error`.
///
/// # Errors
/// What `out` says.
pub fn failure(out: &mut dyn Write, failure: &Failure) -> io::Result<()> {
    let mut fields = Vec::new();
    let message = match failure {
        Failure::Shell(text) | Failure::Plain(text) => text.clone(),
        Failure::Silent => "the host command failed".to_string(),
        Failure::Command { prefix, error } => {
            fields.push(("kind", string(format!("{:?}", error.kind()).as_bytes())));
            if let Some(hint) = error.hint_text() {
                fields.push(("hint", string(hint.as_bytes())));
            }
            format!("{prefix}{error}")
        }
    };
    fields.insert(0, ("message", string(message.as_bytes())));
    let fields: Vec<String> = fields.into_iter().map(|(name, text)| format!("\"{name}\": {text}")).collect();
    writeln!(out, "{{\"error\": {{{}}}}}", fields.join(", "))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Nothing | Value::Control(_) => "null".to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(n) | Value::Octal(n) | Value::Hex(n) => n.to_string(),
        Value::Text(text) | Value::Bytes(text) => string(text),
        Value::List(items) => array(items.iter().map(|item| string(item))),
        Value::Hash(pairs) => {
            let key = |k: &[u8]| string(String::from_utf8_lossy(k).as_bytes());
            object(pairs.iter().map(|(k, v)| format!("{}: {}", key(k), string(v))))
        }
        Value::Struct(fields) => record(fields),
        Value::Structs(records) | Value::Table(Table { rows: records, .. }) => array(records.iter().map(record)),
    }
}

fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn object(items: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
}

fn record(Record(fields): &Record) -> String {
    object(fields.iter().map(|(name, field)| {
        let text = match field {
            Field::Int(number) => number.to_string(),
            Field::Text(text) | Field::Bytes(text) => string(text),
            Field::Char(c) => string(c.to_string().as_bytes()),
            Field::Percent(Some(percent)) if percent.is_finite() && *percent >= 0.0 => percent.to_string(),
            Field::Nothing | Field::Percent(_) => "null".to_string(),
        };
        format!("\"{name}\": {text}")
    }))
}

fn string(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("{{\"base64\": \"{}\"}}", String::from_utf8_lossy(&base64::encode(bytes)));
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Error, Kind};

    #[test]
    fn values_and_failures() {
        let shown = |answer: Value| {
            let mut out = Vec::new();
            value(&mut out, &answer).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Value::Nothing), "null\n");
        assert_eq!(shown(Value::list(["a\"b", "c\n\x01"])), "[\"a\\\"b\", \"c\\n\\u0001\"]\n");
        assert_eq!(shown(Value::Text(vec![0xff])), "{\"base64\": \"/w==\"}\n");
        let fields = Record(vec![("n", Field::Int(1)), ("c", Field::Char('d')), ("p", Field::Percent(None))]);
        assert_eq!(shown(Value::Structs(vec![fields])), "[{\"n\": 1, \"c\": \"d\", \"p\": null}]\n");
        assert_eq!(shown(Value::Hash(vec![(b"k".to_vec(), b"v".to_vec())])), "{\"k\": \"v\"}\n");
        let mut out = Vec::new();
        let error = Error::from(Kind::NotFound).at("/x").hint("look");
        failure(&mut out, &Failure::Command { prefix: "rm: ".into(), error }).unwrap();
        let wanted = "{\"error\": {\"message\": \"rm: /x: No such file or directory\", \"kind\": \"NotFound\", \"hint\": \"look\"}}\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
