//! `parse_yaml(TEXT)`: configuration files of guests as Rhai values.
//!
//! Answers `#{ value, lines }`: the document's value, and for each key of a mapping its line, by the keys that lead
//! there with dots between them. Scalars are read as YAML 1.1 readers such as cloud-init's do. What cannot be trusted is bounded: a
//! document is refused once its aliases stand for too much.

use std::borrow::Cow;
use std::collections::HashMap;

use rhai::{Array, Dynamic, Engine, EvalAltResult, Map, Position};
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Most values of a document, aliases counted as often as they stand.
const VALUES_MAX: usize = 100_000;
/// Most bytes of a document, aliases counted as often as they stand.
const BYTES_MAX: usize = 16 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;

/// Registers the function.
pub fn register(engine: &mut Engine) {
    engine.register_fn("parse_yaml", |text: &str| -> Result<Map, Box<EvalAltResult>> {
        // Readers of YAML 1.1 take a comment right behind a bracket.
        let (value, lines) = parse(text)
            .or_else(|what| match text.contains("]#") || text.contains("}#") {
                true => parse(&text.replace("]#", "] #").replace("}#", "} #")),
                false => Err(what),
            })
            .map_err(|what| EvalAltResult::ErrorRuntime(format!("no YAML: {what}").into(), Position::NONE))?;
        Ok(Map::from([("value".into(), value), ("lines".into(), lines.into())]))
    });
}

/// What a value counts against the limits.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
}

/// A list or mapping whose end has not come yet.
struct Open {
    anchor: usize,
    size: Size,
    path: String,
    kind: Kind,
}

enum Kind {
    List(Array),
    Mapping { map: Map, merged: Vec<Map>, key: Option<String> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, (Dynamic, Size)>,
    lines: Map,
    whole: Option<Dynamic>,
    size: Size,
}

/// The value of the only document and the lines of its keys.
fn parse(text: &str) -> Result<(Dynamic, Map), String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Lines of YAML 1.1 end in these, too.
    let text: Cow<'_, str> = match text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        true => text.replace("\r\n", "\n").replace(['\r', '\u{85}', '\u{2028}', '\u{2029}'], "\n").into(),
        false => text.into(),
    };
    let text = text.as_ref();
    let head = text.lines().take_while(|line| line.is_empty() || line.starts_with(['%', '#']));
    let version = head.filter_map(|line| line.strip_prefix("%YAML")).next();
    if version.is_some_and(|version| !version.trim_start().starts_with("1.")) {
        return Err("another version of YAML".into());
    }
    if let Some(odd) = text.chars().find(|c| !printable(*c)) {
        return Err(format!("the character {:#x}", u32::from(odd)));
    }
    let mut builder = Builder::default();
    // Tabs separate nothing in YAML 1.1; the parser, which reads 1.2, takes them.
    let chars: Vec<char> = if text.contains('\t') { text.chars().collect() } else { Vec::new() };
    let mut end = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| format!("line {}: {}", e.marker().line(), e.info()))?;
        let line = span.start.line();
        if let Some(gap) = chars.get(end..span.start.index())
            && has_tab(gap)
        {
            return Err(format!("line {line}: a tab where blanks must be"));
        }
        end = end.max(span.end.index());
        builder.take(event, line).map_err(|what| format!("line {line}: {what}"))?;
    }
    Ok((builder.whole.unwrap_or(Dynamic::UNIT), builder.lines))
}

/// Whether there is a tab outside of comments.
fn has_tab(gap: &[char]) -> bool {
    gap.split(|c| *c == '\n').any(|line| line.iter().take_while(|c| **c != '#').any(|c| *c == '\t'))
}

/// Characters that YAML lets a document have.
fn printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) if self.whole.is_some() => Err("a second document".into()),
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag.as_ref().is_some_and(|tag| tag.suffix == "str" || is_bare(tag));
                if !is_known(tag.as_deref()) {
                    return Err("a tag that is not known".into());
                }
                let number = tag.is_some_and(|tag| tag.suffix == "int").then(|| scalar(&text.replace('_', "")));
                if number.as_ref().is_some_and(|number| !number.is_int()) {
                    return Err("a number that is none".into());
                }
                let size = Size { values: 1, bytes: text.len() };
                if self.wants_key() {
                    return self.key(&text, line);
                }
                let plain = style == ScalarStyle::Plain && !string;
                if plain && (matches!(&*text, "=" | "<<") || is_no_date(&text)) {
                    return Err(format!("'{text}' is no value"));
                }
                let value = match number {
                    Some(number) => number,
                    None if plain => scalar(&text),
                    None => Dynamic::from(text.into_owned()),
                };
                self.put(value, size, anchor)
            }
            Event::Alias(anchor) => {
                // What contains itself is read by cloud-init; here it ends.
                let inside = self.open.iter().any(|open| open.anchor == anchor);
                let own = inside.then_some((Dynamic::UNIT, Size { values: 1, bytes: 0 }));
                let Some((value, size)) = own.or_else(|| self.anchors.get(&anchor).cloned()) else {
                    return Err("an alias of nothing".into());
                };
                if self.wants_key() {
                    return self.key(&value.to_string(), line);
                }
                self.put(value, size, 0)
            }
            Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) if !is_known(tag.as_deref()) => {
                Err("a tag that is not known".into())
            }
            Event::SequenceStart(anchor, _) => self.start(anchor, Kind::List(Array::new())),
            Event::MappingStart(anchor, _) => {
                self.start(anchor, Kind::Mapping { map: Map::new(), merged: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(done) = self.open.pop() else { return Err("an end without a start".into()) };
                let value = match done.kind {
                    Kind::List(items) => items.into(),
                    Kind::Mapping { mut map, merged, .. } => {
                        // `<<`: what the mapping says itself wins, then the first merged one.
                        for (key, value) in merged.into_iter().flatten() {
                            map.entry(key).or_insert(value);
                        }
                        map.into()
                    }
                };
                self.put(value, done.size, done.anchor)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, anchor: usize, kind: Kind) -> Result<(), String> {
        if self.wants_key() {
            return Err("a key that is a list or a mapping".into());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested over {DEPTH_MAX} deep"));
        }
        let path = self.path();
        self.open.push(Open { anchor, size: Size { values: 1, bytes: 0 }, path, kind });
        Ok(())
    }

    /// The keys that lead to the value that comes next.
    fn path(&self) -> String {
        match self.open.last() {
            Some(Open { path, kind: Kind::Mapping { key: Some(key), .. }, .. }) if path.is_empty() => key.clone(),
            Some(Open { path, kind: Kind::Mapping { key: Some(key), .. }, .. }) => format!("{path}.{key}"),
            Some(open) => open.path.clone(),
            None => String::new(),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Mapping { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, line: usize) -> Result<(), String> {
        if let Some(Open { kind: Kind::Mapping { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(text.to_string());
        }
        let path = self.path();
        self.count(Size { values: 1, bytes: path.len() })?;
        self.lines.insert(path.into(), Dynamic::from_int(i64::try_from(line).unwrap_or(i64::MAX)));
        Ok(())
    }

    fn count(&mut self, size: Size) -> Result<(), String> {
        self.size.values += size.values;
        self.size.bytes += size.bytes;
        if self.size.values > VALUES_MAX || self.size.bytes > BYTES_MAX {
            return Err(format!("over {VALUES_MAX} values or {BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn put(&mut self, value: Dynamic, size: Size, anchor: usize) -> Result<(), String> {
        self.count(size)?;
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size));
            self.count(size)?;
        }
        let Some(open) = self.open.last_mut() else {
            self.whole = Some(value);
            return Ok(());
        };
        open.size.values += size.values;
        open.size.bytes += size.bytes;
        match &mut open.kind {
            Kind::List(items) => items.push(value),
            Kind::Mapping { map, merged, key } => {
                let key = key.take().unwrap_or_default();
                if key != "<<" {
                    map.insert(key.into(), value);
                } else if value.is_map() {
                    merged.push(value.cast());
                } else if value.is_array() {
                    merged.extend(value.cast::<Array>().into_iter().filter_map(Dynamic::try_cast::<Map>));
                } else {
                    return Err("<< takes mappings".into());
                }
            }
        }
        Ok(())
    }
}

/// Whether a tag is `!` alone: a text, whatever it looks like.
fn is_bare(tag: &Tag) -> bool {
    matches!((tag.handle.as_str(), tag.suffix.as_str()), ("", "!") | ("!", ""))
}

/// Whether a tag is one that YAML's safe readers know.
fn is_known(tag: Option<&Tag>) -> bool {
    const KNOWN: [&str; 12] =
        ["str", "int", "float", "bool", "null", "seq", "map", "set", "omap", "pairs", "binary", "timestamp"];
    tag.is_none_or(|tag| is_bare(tag) || (tag.is_yaml_core_schema() && KNOWN.contains(&tag.suffix.as_str())))
}

/// Whether a plain scalar looks like a date of YAML 1.1, but no calendar has it: its readers refuse the document.
fn is_no_date(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let part = |range: std::ops::Range<usize>| date.get(range).and_then(|digits| digits.parse::<u32>().ok());
    let bytes = date.as_bytes();
    let time = rest.trim_start_matches(['T', 't', ' ', '\t']);
    let clock = |part: Option<&str>| {
        part.is_some_and(|part| matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut parts = time.split(':');
    let alone = rest.is_empty() || (time.len() < rest.len() && clock(parts.next()) && clock(parts.next()));
    if !alone || bytes[4] != b'-' || bytes[7] != b'-' || date.bytes().any(|b| b != b'-' && !b.is_ascii_digit()) {
        return false;
    }
    let (Some(year), Some(month), Some(day)) = (part(0..4), part(5..7), part(8..10)) else { return false };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year == 0 || !(1..=days).contains(&day)
}

/// A plain scalar: nothing, a boolean, an integer, else text.
fn scalar(text: &str) -> Dynamic {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Dynamic::UNIT,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return false.into(),
        _ => {}
    }
    let number = match text.strip_prefix('0') {
        Some("") | None => text.parse(),
        Some(digits) => match digits.strip_prefix('x') {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => i64::from_str_radix(digits, 8),
        },
    };
    number.map_or_else(|_| text.to_string().into(), Dynamic::from_int)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok((value, _)) => value.to_string(),
            Err(what) => format!("error: {what}"),
        }
    }

    #[test]
    fn values_are_read_as_cloud_init_reads_them() {
        for (text, wanted) in [
            ("", ""),
            ("a: [x, 'y', \"z\"]\n", r#"#{"a": ["x", "y", "z"]}"#),
            ("a:\n- x\n- y: ~\n", r#"#{"a": ["x", #{"y": ()}]}"#),
            ("a: 1\na: 2\n", r#"#{"a": 2}"#),
            ("a: yes\nb: 'yes'\nc: 010\n", r#"#{"a": true, "b": "yes", "c": 8}"#),
            ("x: &x {p: 1, q: 2}\ny: {<<: *x, q: 3}\n", r#"#{"x": #{"p": 1, "q": 2}, "y": #{"p": 1, "q": 3}}"#),
            ("a: \"x\ty\" #\tno\nb: |\n  o\tne\n", "#{\"a\": \"x\\ty\", \"b\": \"o\\tne\\n\"}"),
            ("a: |\n  one\n  two\n", r#"#{"a": "one\ntwo\n"}"#),
            ("# c\u{85}a: 1\u{2028}b: 2\rc: 3\r\nd: 4\n", r#"#{"a": 1, "b": 2, "c": 3, "d": 4}"#),
            ("a: !\nb: ! 12\nc: &c [*c]\n", r#"#{"a": "", "b": "12", "c": [()]}"#),
            (
                "a: 2024-02-29\nb: 2026-02-28 10:00:00\nc: 2026-1x-30\nd: 2026-13-45 build\n",
                r#"#{"a": "2024-02-29", "b": "2026-02-28 10:00:00", "c": "2026-1x-30", "d": "2026-13-45 build"}"#,
            ),
            ("a: !!int 1_000\nb: !!int \"5\"\nc: |\n  %YAML 2\n", "#{\"a\": 1000, \"b\": 5, \"c\": \"%YAML 2\\n\"}"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn lines_of_keys_are_known() {
        let (_, lines) = parse("# c\na:\n  b:\n    c: 1\nd: [\n  {e: 2}]\n").unwrap();
        let line = |key: &str| lines[key].as_int().unwrap();
        assert_eq!([line("a"), line("a.b"), line("a.b.c"), line("d"), line("d.e")], [2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_wrong_or_too_much_is_refused() {
        for text in [
            "a: [",
            "a: b: c\n",
            "\ta: 1\n",
            "a:\t1\n",
            "a:\n\t- 1\n",
            "a: 1\n---\nb: 2\n",
            "? [a]\n: 1\n",
            "a: !x 1\n",
            "a: *b\n",
            "a: \u{7}\n",
            "a: 2026-02-30\n",
            "a: 2026-02-30 1:00:00\n",
            "a: !!int x\n",
            "a: !x {b: 1}\n",
            "a: !!python/tuple [1]\n",
            "a: =\n",
            "%YAML 2.0\n---\na: 1\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}: {}", shown(text));
        }
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
        }
        assert!(shown(&bomb).contains("over 100000 values"), "{}", shown(&bomb));
        assert!(shown(&"[".repeat(5000)).starts_with("error"));
        assert!(shown(&"- ".repeat(5000)).starts_with("error"));
    }
}
