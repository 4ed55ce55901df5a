//! Answers as guestfish prints them, byte for byte.

use std::io::{self, Write};

use super::json;
use crate::base::printable;
use crate::command::{Field, Record, Table, Value};

/// Writes an answer. Answers that ask the shell for something have no bytes.
///
/// # Errors
/// What `out` says.
pub fn value(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    match value {
        Value::Nothing | Value::Control(_) => Ok(()),
        Value::Bool(truth) => writeln!(out, "{truth}"),
        Value::Int(number) => writeln!(out, "{number}"),
        // C's %#o and %#x: zero has no prefix of its own.
        Value::Octal(0) | Value::Hex(0) => out.write_all(b"0\n"),
        Value::Octal(number) => writeln!(out, "0{number:o}"),
        Value::Hex(number) => writeln!(out, "{number:#x}"),
        Value::Text(text) => line(out, text),
        Value::List(items) => items.iter().try_for_each(|item| line(out, item)),
        Value::Hash(pairs) => pairs.iter().try_for_each(|(key, value)| {
            out.write_all(key)?;
            out.write_all(b": ")?;
            line(out, value)
        }),
        Value::Struct(fields) => record(out, fields, b""),
        Value::Structs(records) => records.iter().enumerate().try_for_each(|(index, fields)| {
            writeln!(out, "[{index}] = {{")?;
            record(out, fields, b"  ")?;
            out.write_all(b"}\n")
        }),
        Value::Table(answer) if answer.json => json::value(out, value),
        Value::Table(answer) => table(out, answer),
        Value::Bytes(bytes) => out.write_all(bytes),
    }
}

fn line(out: &mut dyn Write, text: &[u8]) -> io::Result<()> {
    out.write_all(text)?;
    out.write_all(b"\n")
}

/// Columns two blanks apart under their names, numbers to the right; columns without anything are left out.
fn table(out: &mut dyn Write, Table { rows, note, .. }: &Table) -> io::Result<()> {
    let names: Vec<&str> = rows.first().map(|row| row.0.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
    let mut lines: Vec<String> = vec![String::new(); rows.len() + 1];
    for (column, name) in names.iter().enumerate() {
        let fields = || rows.iter().map(|row| row.0.get(column).map_or(&Field::Nothing, |(_, field)| field));
        let cells: Vec<String> = fields().map(cell).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let to_right = fields().all(|field| matches!(field, Field::Int(_) | Field::Nothing));
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0).max(name.chars().count());
        for (line, cell) in lines.iter_mut().zip(std::iter::once(*name).chain(cells.iter().map(String::as_str))) {
            let cell = if cell.is_empty() { "-" } else { cell };
            let gap = if line.is_empty() { "" } else { "  " };
            line.push_str(&if to_right { format!("{gap}{cell:>width$}") } else { format!("{gap}{cell:<width$}") });
        }
    }
    lines.iter().filter(|line| !line.is_empty()).try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
    note.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn cell(field: &Field) -> String {
    match field {
        Field::Nothing => String::new(),
        Field::Int(number) => number.to_string(),
        Field::Text(bytes) | Field::Bytes(bytes) => printable(bytes),
        Field::Char(c) => c.to_string(),
        Field::Percent(percent) => percent.map(|percent| format!("{} %", general(percent))).unwrap_or_default(),
    }
}

fn record(out: &mut dyn Write, Record(fields): &Record, indent: &[u8]) -> io::Result<()> {
    for (name, field) in fields {
        out.write_all(indent)?;
        write!(out, "{name}: ")?;
        match field {
            Field::Int(number) => writeln!(out, "{number}")?,
            Field::Text(text) => line(out, text)?,
            Field::Bytes(bytes) => line(out, &escaped(bytes))?,
            Field::Char(c) => writeln!(out, "{c}")?,
            Field::Percent(Some(percent)) if *percent >= 0.0 => writeln!(out, "{} %", general(*percent))?,
            Field::Nothing | Field::Percent(_) => out.write_all(b"\n")?,
        }
    }
    Ok(())
}

/// Printable ASCII as it is, every other byte as `\xhh`.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'~' => out.push(*byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out
}

/// C's `%g` for 0 and up: six significant digits, trailing zeros left out.
fn general(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let scientific = format!("{number:.5e}");
    // Rust writes the exponent after the last 'e'.
    let (digits, exponent) = scientific.rsplit_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    if (-4..6).contains(&exponent) {
        trim(&format!("{number:.*}", usize::try_from(5 - exponent).unwrap_or(0)))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(digits), exponent.abs())
    }
}

/// A writer for terminals: control characters other than newline and tab, and bytes that are no UTF-8, come out as
/// `\xhh`, so that names in an image cannot steer the terminal.
pub struct TerminalSafe<'a>(pub &'a mut dyn Write);

impl Write for TerminalSafe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() && c != '\n' && c != '\t' {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        write!(self.0, "\\x{byte:02x}")?;
                    }
                } else {
                    self.0.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
            }
            for byte in chunk.invalid() {
                write!(self.0, "\\x{byte:02x}")?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: Value) -> String {
        let mut out = Vec::new();
        value(&mut out, &answer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn scalars() {
        assert_eq!(shown(Value::Nothing), "");
        assert_eq!(shown(Value::Bool(false)), "false\n");
        assert_eq!(shown(Value::Int(-3)), "-3\n");
        assert_eq!(shown(Value::Octal(0o755)), "0755\n");
        assert_eq!(shown(Value::Octal(0)), "0\n");
        assert_eq!(shown(Value::Hex(0x83)), "0x83\n");
        assert_eq!(shown(Value::Hex(0)), "0\n");
        assert_eq!(shown(Value::text("a\n")), "a\n\n");
        assert_eq!(shown(Value::Bytes(b"a".to_vec())), "a");
    }

    #[test]
    fn collections() {
        assert_eq!(shown(Value::list(["a", "b"])), "a\nb\n");
        assert_eq!(shown(Value::List(Vec::new())), "");
        assert_eq!(shown(Value::Hash(vec![(b"k".to_vec(), b"v w".to_vec())])), "k: v w\n");
        let fields = Record(vec![
            ("number", Field::Int(u64::MAX.into())),
            ("text", Field::Text(b"x y".to_vec())),
            ("bytes", Field::Bytes(b"x\x01\\y".to_vec())),
            ("kind", Field::Char('d')),
            ("full", Field::Percent(Some(12.5))),
            ("none", Field::Percent(None)),
            ("minus", Field::Percent(Some(-1.0))),
        ]);
        let lines = [
            "number: 18446744073709551615",
            "text: x y",
            "bytes: x\\x01\\y",
            "kind: d",
            "full: 12.5 %",
            "none: ",
            "minus: ",
        ];
        assert_eq!(shown(Value::Struct(fields.clone())), lines.map(|l| format!("{l}\n")).concat());
        let block = lines.map(|l| format!("  {l}\n")).concat();
        assert_eq!(
            shown(Value::Structs(vec![fields.clone(), fields])),
            format!("[0] = {{\n{block}}}\n[1] = {{\n{block}}}\n")
        );
    }

    #[test]
    fn percentages_as_c_prints_them() {
        for (number, text) in
            [(0.0, "0"), (100.0, "100"), (33.333333, "33.3333"), (1234567.0, "1.23457e+06"), (0.00001, "1e-05")]
        {
            assert_eq!(general(number), text);
        }
    }

    #[test]
    fn terminals_are_not_steered() {
        let mut out = Vec::new();
        TerminalSafe(&mut out).write_all("a\x1b[2J\té\n".as_bytes()).unwrap();
        TerminalSafe(&mut out).write_all(b"\xff\r").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\x1b[2J\té\n\\xff\\x0d");
    }
}
