//! The texts of a document: quoted ones, blocks of `|` and `>`, and plain ones.

use super::Fallible;
use super::scanner::{Scanner, ends_line, is_blank, is_break};

/// What becomes of the last ends of lines of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chomping {
    /// `-`: all go.
    Strip,
    /// One stays.
    Clip,
    /// `+`: all stay.
    Keep,
}

impl Scanner {
    /// The text of a block that starts with `|` or `>`.
    pub(super) fn scan_block(&mut self, folded: bool) -> Fallible<String> {
        self.forward(1);
        let (chomping, increment) = self.scan_block_head()?;
        self.skip_rest_of_line()?;
        let least = (self.indent + 1).max(1);
        let (indent, mut breaks) = match increment {
            Some(increment) => {
                let indent = least + increment - 1;
                (indent, self.block_breaks(indent))
            }
            None => {
                let (breaks, deepest) = self.block_indentation();
                (deepest.max(least), breaks)
            }
        };
        let mut text = String::new();
        let mut end = None;
        while self.column == indent && self.at(0) != '\0' {
            text += &breaks;
            let indented = matches!(self.at(0), ' ' | '\t');
            self.copy_while(&mut text, |c| !ends_line(c));
            end = self.line_break();
            breaks = self.block_breaks(indent);
            if self.column != indent || self.at(0) == '\0' {
                break;
            }
            if !folded || end != Some('\n') || indented || matches!(self.at(0), ' ' | '\t') {
                text.extend(end);
            } else if breaks.is_empty() {
                text.push(' ');
            }
        }
        if chomping != Chomping::Strip {
            text.extend(end);
        }
        if chomping == Chomping::Keep {
            text += &breaks;
        }
        Ok(text)
    }

    /// What stands behind `|` or `>`: a sign and a digit, in any order.
    fn scan_block_head(&mut self) -> Fallible<(Chomping, Option<isize>)> {
        let (mut chomping, mut increment) = (None, None);
        loop {
            match self.at(0) {
                sign @ ('+' | '-') if chomping.is_none() => {
                    chomping = Some(if sign == '+' { Chomping::Keep } else { Chomping::Strip });
                }
                digit @ '1'..='9' if increment.is_none() => {
                    increment = digit.to_digit(10).and_then(|digit| isize::try_from(digit).ok());
                }
                c if c == ' ' || ends_line(c) => return Ok((chomping.unwrap_or(Chomping::Clip), increment)),
                _ => return self.fail("an indentation of a block that is none"),
            }
            self.forward(1);
        }
    }

    /// The blank lines at the start of a block, and the most blanks of one or of its first line.
    fn block_indentation(&mut self) -> (String, isize) {
        let (mut breaks, mut deepest) = (String::new(), 0);
        loop {
            if let Some(end) = self.line_break() {
                breaks.push(end);
            } else if self.at(0) == ' ' {
                self.forward(1);
                deepest = deepest.max(self.column);
            } else {
                return (breaks, deepest);
            }
        }
    }

    /// The blank lines inside of a block.
    fn block_breaks(&mut self, indent: isize) -> String {
        let mut breaks = String::new();
        loop {
            while self.column < indent && self.at(0) == ' ' {
                self.forward(1);
            }
            match self.line_break() {
                Some(end) => breaks.push(end),
                None => return breaks,
            }
        }
    }

    /// A text in quotes.
    pub(super) fn scan_quoted(&mut self, quote: char) -> Fallible<String> {
        self.forward(1);
        let mut text = String::new();
        loop {
            self.quoted_words(quote == '"', &mut text)?;
            if self.at(0) == quote {
                break;
            }
            self.quoted_blanks(&mut text)?;
        }
        self.forward(1);
        Ok(text)
    }

    /// Text in quotes up to a blank or the last quote.
    fn quoted_words(&mut self, double: bool, text: &mut String) -> Fallible<()> {
        loop {
            self.copy_while(text, |c| !is_blank(c) && !matches!(c, '\'' | '"' | '\\'));
            match self.at(0) {
                '\'' if !double && self.at(1) == '\'' => {
                    text.push('\'');
                    self.forward(2);
                }
                c if (double && c == '\'') || (!double && matches!(c, '"' | '\\')) => {
                    text.push(c);
                    self.forward(1);
                }
                '\\' if double => self.escape(text)?,
                _ => return Ok(()),
            }
        }
    }

    /// What stands for another character.
    fn escape(&mut self, text: &mut String) -> Fallible<()> {
        self.forward(1);
        let plain = match self.at(0) {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            c @ (' ' | '"' | '\\' | '/') => c,
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            'x' => return self.code(2, text),
            'u' => return self.code(4, text),
            'U' => return self.code(8, text),
            c if is_break(c) => {
                self.line_break();
                return self.quoted_breaks(text);
            }
            _ => return self.fail("an escape that is none"),
        };
        text.push(plain);
        self.forward(1);
        Ok(())
    }

    /// A character by its number. Halves of a pair, which only Python has in a text, are marked.
    fn code(&mut self, digits: usize, text: &mut String) -> Fallible<()> {
        self.forward(1);
        match self.hex(digits)? {
            code @ ..=0x10_ffff => text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
            _ => return self.fail("a character that is none"),
        }
        Ok(())
    }

    /// Blanks and ends of lines in quotes.
    fn quoted_blanks(&mut self, text: &mut String) -> Fallible<()> {
        let mut blanks = String::new();
        self.copy_while(&mut blanks, |c| matches!(c, ' ' | '\t'));
        if self.at(0) == '\0' {
            return self.fail("the text ends within quotes");
        }
        match self.line_break() {
            None => text.push_str(&blanks),
            Some(end) => {
                let mut breaks = String::new();
                self.quoted_breaks(&mut breaks)?;
                join_lines(text, end, &breaks);
            }
        }
        Ok(())
    }

    /// Blank lines in quotes, and the blanks before the text goes on.
    fn quoted_breaks(&mut self, breaks: &mut String) -> Fallible<()> {
        loop {
            if self.is_separator('-') || self.is_separator('.') {
                return self.fail("a document ends within quotes");
            }
            self.skip_while(|c| matches!(c, ' ' | '\t'));
            match self.line_break() {
                Some(end) => breaks.push(end),
                None => return Ok(()),
            }
        }
    }

    /// A text without quotes.
    pub(super) fn scan_plain(&mut self) -> String {
        let indent = self.indent + 1;
        let (mut text, mut blanks) = (String::new(), String::new());
        while self.at(0) != '#' && !self.ends_plain() {
            self.key_allowed = false;
            text += &blanks;
            while !self.ends_plain() {
                text.push(self.at(0));
                self.forward(1);
            }
            blanks = self.plain_blanks();
            if blanks.is_empty() || (self.flow_level == 0 && self.column < indent) {
                break;
            }
        }
        text
    }

    /// Whether a plain text ends here, or at least a word of it.
    fn ends_plain(&self) -> bool {
        let flow = self.flow_level > 0;
        match self.at(0) {
            ':' => is_blank(self.at(1)) || (flow && matches!(self.at(1), ',' | '[' | ']' | '{' | '}')),
            ',' | '?' | '[' | ']' | '{' | '}' => flow,
            c => is_blank(c),
        }
    }

    /// What stands between two words of a plain text; nothing if the text ends.
    fn plain_blanks(&mut self) -> String {
        let mut blanks = String::new();
        self.copy_while(&mut blanks, |c| c == ' ');
        let Some(end) = self.line_break() else { return blanks };
        self.key_allowed = true;
        let mut breaks = String::new();
        loop {
            if self.is_separator('-') || self.is_separator('.') {
                return String::new();
            }
            self.skip_while(|c| c == ' ');
            match self.line_break() {
                Some(end) => breaks.push(end),
                None => break,
            }
        }
        let mut between = String::new();
        join_lines(&mut between, end, &breaks);
        between
    }
}

/// Adds what the end of a line and the blank lines behind it stand for: one end is a blank.
fn join_lines(text: &mut String, end: char, breaks: &str) {
    if end != '\n' {
        text.push(end);
    } else if breaks.is_empty() {
        text.push(' ');
    }
    text.push_str(breaks);
}
