//! LVM's configuration text: sections, numbers, strings and lists, as metadata areas hold it.
//!
//! What we do not know inside a text is kept and written back.

use std::fmt::Write;

use crate::base::{Error, Result};

/// Sections inside sections; lvm's own texts have four.
const MAX_DEPTH: usize = 16;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// A quoted string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A word or a number with a fraction, as it stands there.
    Word(String),
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// `name = value`
    Value(Value),
    /// `name { ... }`
    Section(Section),
}

/// Names in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section(pub Vec<(String, Node)>);

impl Section {
    /// The node of a name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, node)| node)
    }

    /// A subsection.
    pub fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name) {
            Some(Node::Section(section)) => Some(section),
            _ => None,
        }
    }

    /// A subsection to change.
    pub fn section_mut(&mut self, name: &str) -> Option<&mut Section> {
        self.0.iter_mut().find_map(|(n, node)| match node {
            Node::Section(section) if n == name => Some(section),
            _ => None,
        })
    }

    /// Adds a subsection at the end.
    pub fn add(&mut self, name: &str, section: Section) {
        self.0.push((name.to_string(), Node::Section(section)));
    }

    /// All subsections with their names.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, node)| match node {
            Node::Section(section) => Some((name.as_str(), section)),
            Node::Value(_) => None,
        })
    }

    /// A number that is not negative.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Node::Value(Value::Int(n))) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Node::Value(Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// A list; a single value counts as a list of one.
    pub fn list(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Node::Value(Value::List(items))) => items,
            Some(Node::Value(value)) => std::slice::from_ref(value),
            _ => &[],
        }
    }

    /// The strings of a list.
    pub fn words(&self, name: &str) -> Vec<&str> {
        self.list(name)
            .iter()
            .filter_map(|value| match value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Sets a value in its place, or at the end.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, node)) => *node = Node::Value(value),
            None => self.0.push((name.to_string(), Node::Value(value))),
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// The text, as `parse` reads it.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_into(&mut out);
        out
    }

    fn render_into(&self, out: &mut String) {
        for (name, node) in &self.0 {
            // A String takes all that is written to it.
            match node {
                Node::Value(value) => {
                    let _ = write!(out, "{name} = ");
                    value.render_into(out);
                    out.push('\n');
                }
                Node::Section(section) => {
                    let _ = writeln!(out, "\n{name} {{");
                    section.render_into(out);
                    out.push_str("}\n");
                }
            }
        }
    }
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    fn render_into(&self, out: &mut String) {
        match self {
            Value::Int(n) => {
                let _ = write!(out, "{n}");
            }
            Value::Word(word) => out.push_str(word),
            Value::Text(text) => {
                out.push('"');
                for c in text.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    item.render_into(out);
                }
                out.push(']');
            }
        }
    }
}

/// Reads a text.
///
/// # Errors
/// `Kind::Corrupt` with the line for what is no such text, or is nested deeper than lvm nests.
pub fn parse(text: &str) -> Result<Section> {
    let mut parser = Parser { text, rest: text };
    let section = parser.section(0)?;
    match parser.rest.is_empty() {
        true => Ok(section),
        false => Err(parser.bad("a name was expected")),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn bad(&self, what: &str) -> Error {
        let line = self.text[..self.text.len() - self.rest.len()].matches('\n').count() + 1;
        Error::corrupt(format!("lvm: metadata text, line {line}: {what}"))
    }

    /// Skips blanks and comments.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
            match self.rest.strip_prefix('#') {
                Some(comment) => self.rest = comment.find('\n').map_or("", |end| &comment[end..]),
                None => return,
            }
        }
    }

    /// Whether a character comes next; it is taken.
    fn takes(&mut self, c: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Result<&'a str> {
        self.skip();
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || "._+-/@:".contains(c))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(self.bad("a name or a value was expected"));
        }
        self.rest = rest;
        Ok(word)
    }

    /// Entries up to the end of the section or of the text.
    fn section(&mut self, depth: usize) -> Result<Section> {
        if depth > MAX_DEPTH {
            return Err(self.bad("sections are nested too deep"));
        }
        let mut entries = Vec::new();
        loop {
            self.skip();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                return Ok(Section(entries));
            }
            let name = if self.rest.starts_with('"') { self.string()? } else { self.word()?.to_string() };
            let node = if self.takes('{') {
                let section = self.section(depth + 1)?;
                if !self.takes('}') {
                    return Err(self.bad("a section has no end"));
                }
                Node::Section(section)
            } else if self.takes('=') {
                Node::Value(self.value(true)?)
            } else {
                return Err(self.bad("neither '{' nor '=' after a name"));
            };
            entries.push((name, node));
        }
    }

    fn value(&mut self, list: bool) -> Result<Value> {
        self.skip();
        if self.rest.starts_with('"') {
            return Ok(Value::Text(self.string()?));
        }
        if list && self.takes('[') {
            let mut items = Vec::new();
            while !self.takes(']') {
                items.push(self.value(false)?);
                if !self.takes(',') && !self.rest.starts_with(']') {
                    return Err(self.bad("neither ',' nor ']' in a list"));
                }
            }
            return Ok(Value::List(items));
        }
        let word = self.word()?;
        Ok(word.parse().map_or_else(|_| Value::Word(word.to_string()), Value::Int))
    }

    fn string(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(self.bad("a string has no end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        let text = "vg {\nid = \"a-b\"\nseqno = 4\nflags = []\nratio = 1.5 # a comment { \" \nlog = [\"a\\\"b\\\\\", 0,\n-7]\n\
                    pvs {\n\npv0 {\nx = 1\n}\n}\n}\n# at the end";
        let section = parse(text).unwrap();
        let vg = section.section("vg").unwrap();
        assert_eq!((vg.text("id"), vg.number("seqno"), vg.number("none")), (Some("a-b"), Some(4), None));
        assert_eq!(vg.words("log"), ["a\"b\\"]);
        assert_eq!(vg.list("log")[2], Value::Int(-7));
        assert_eq!(vg.section("pvs").unwrap().sections().count(), 1);
        assert_eq!(parse(&section.render()).unwrap(), section);
    }

    #[test]
    fn changes() {
        let mut section = parse("a = 1\nb { c = 2 }").unwrap();
        section.set("a", Value::text("x"));
        section.section_mut("b").unwrap().remove("c");
        assert!(section.section_mut("a").is_none());
        let list = Value::List(vec![Value::Int(1), Value::text("2")]);
        section.add("d", Section(vec![("e".to_string(), Node::Value(list))]));
        assert_eq!(section.render(), "a = \"x\"\n\nb {\n}\n\nd {\ne = [1, \"2\"]\n}\n");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for text in [
            "a",
            "a =",
            "a = [1 2]",
            "a = [1, ",
            "a { b = 1",
            "}",
            "a = \"x",
            "a = \"x\\",
            "= 1",
            "a = [[1]]",
            "a = é{",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"a {".repeat(100_000)).is_err());
        assert!(parse(&format!("a {}", "{ a ".repeat(17))).is_err());
    }
}
