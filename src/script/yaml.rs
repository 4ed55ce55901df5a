//! `parse_yaml(TEXT)`: configuration files of guests as Rhai values.
//!
//! Answers `#{ value, lines }`: the document's value, and for each key of a mapping its line, by the keys that lead
//! there with dots between them. What is read, and what is refused, is what PyYAML's safe reader (YAML 1.1) reads and
//! refuses in cloud-init, faults of its own included; fractions, times, and numbers over 64 bits stay texts. What
//! cannot be trusted is bounded: a document is refused once it, or its aliases, stand for too much.

use rhai::{Dynamic, Engine, EvalAltResult, Map, Position};

mod names;
mod parser;
mod scalar;
mod scanner;
mod text;
mod tree;
mod values;

#[cfg(test)]
mod tests;

/// Most values of a document, aliases counted as often as they stand.
const VALUES_MAX: usize = 100_000;
/// Most bytes of a document, aliases counted as often as they stand.
const BYTES_MAX: usize = 16 << 20;
/// Deepest nesting. Python's own limit lets PyYAML nest some 480 deep.
const DEPTH_MAX: usize = 256;

/// What went well, or what is wrong with a document.
type Fallible<T> = Result<T, String>;

/// Registers the function.
pub fn register(engine: &mut Engine) {
    engine.register_fn("parse_yaml", |text: &str| -> Result<Map, Box<EvalAltResult>> {
        let (value, lines) = parse(text)
            .map_err(|what| EvalAltResult::ErrorRuntime(format!("no YAML: {what}").into(), Position::NONE))?;
        Ok(Map::from([("value".into(), value), ("lines".into(), lines.into())]))
    });
}

/// What a value counts against the limits.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
    /// How deep it nests.
    depth: usize,
}

impl Size {
    /// Of one value with such a text.
    fn of(text: &str) -> Self {
        Size { values: 1, bytes: text.len(), depth: 0 }
    }

    /// Adds what lies inside.
    fn include(&mut self, other: Size) {
        self.values += other.values;
        self.bytes += other.bytes;
        self.depth = self.depth.max(other.depth);
    }

    /// Adds to what the document counts so far; fails over the limits.
    fn grow(&mut self, other: Size) -> Fallible<()> {
        self.include(other);
        if self.values > VALUES_MAX || self.bytes > BYTES_MAX {
            return Err(format!("over {VALUES_MAX} values or {BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

/// The value of the only document and the lines of its keys.
fn parse(text: &str) -> Fallible<(Dynamic, Map)> {
    if text.len() > BYTES_MAX {
        return Err(format!("over {BYTES_MAX} bytes"));
    }
    if let Some(odd) = text.chars().find(|c| !is_printable(*c)) {
        return Err(format!("the character {:#x}", u32::from(odd)));
    }
    let parser = parser::Parser::new(scanner::Scanner::new(with_plain_ends(text)));
    let tree = tree::compose(parser)?;
    let value = tree.root.map_or(Ok(Dynamic::UNIT), |root| values::value_of(tree.nodes, root))?;
    Ok((value, tree.lines))
}

/// Characters that YAML lets a document have.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The characters of a text, with `\n` for the other ends of lines that mean the same.
fn with_plain_ends(text: &str) -> Vec<char> {
    let mut chars = Vec::with_capacity(text.len());
    let mut last = '\0';
    for c in text.chars() {
        match c {
            '\n' if last == '\r' => {}
            '\r' | '\u{85}' => chars.push('\n'),
            _ => chars.push(c),
        }
        last = c;
    }
    chars
}
