//! The tokens of a document, as PyYAML's scanner finds them.
//!
//! The rules are those of PyYAML (`yaml/scanner.py`), with its faults: what it takes or refuses is what a guest's
//! cloud-init takes or refuses. A line's end is `\n` here; `parse` has made it of the other ends before.

use std::collections::VecDeque;

use super::Fallible;

/// Most characters of a key that stands before its `:` without a `?`.
const KEY_MAX: usize = 1024;

/// A piece of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// The end of the text.
    End,
    /// `%YAML 1.x`.
    Version,
    /// `%TAG HANDLE PREFIX`.
    Handle {
        handle: String,
        prefix: String,
    },
    /// Another `%` line.
    Directive,
    /// `---`.
    DocumentStart,
    /// `...`.
    DocumentEnd,
    /// The first `-` of a list.
    ListStart,
    /// The first key of a mapping.
    MappingStart,
    /// The end of a list or mapping that ends with its indent.
    BlockEnd,
    /// `[`.
    FlowListStart,
    /// `]`.
    FlowListEnd,
    /// `{`.
    FlowMappingStart,
    /// `}`.
    FlowMappingEnd,
    /// `-`.
    Entry,
    /// `,`.
    FlowEntry,
    /// A key follows.
    Key,
    /// `:`.
    Value,
    Alias(String),
    Anchor(String),
    Tag {
        handle: Option<String>,
        suffix: String,
    },
    Scalar {
        text: String,
        plain: bool,
    },
}

/// A token that is a key if a `:` follows.
struct SimpleKey {
    level: usize,
    number: usize,
    required: bool,
    index: usize,
    line: usize,
    column: isize,
}

/// Makes tokens when they are asked for.
pub struct Scanner {
    pub(super) chars: Vec<char>,
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: isize,
    pub(super) flow_level: usize,
    pub(super) indent: isize,
    pub(super) key_allowed: bool,
    indents: Vec<isize>,
    tokens: VecDeque<(Token, usize)>,
    taken: usize,
    done: bool,
    /// Outermost first: at most one of each level of brackets.
    keys: VecDeque<SimpleKey>,
}

/// Whether a character ends a line or the text.
pub fn ends_line(c: char) -> bool {
    matches!(c, '\0') || is_break(c)
}

/// Whether a character ends a line.
pub fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\u{2028}' | '\u{2029}')
}

/// Whether a character is a blank, a tab or an end.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t') || ends_line(c)
}

impl Scanner {
    /// Over a text whose lines end in `\n`.
    pub fn new(chars: Vec<char>) -> Self {
        Scanner {
            chars,
            index: 0,
            line: 1,
            column: 0,
            flow_level: 0,
            indent: -1,
            key_allowed: true,
            indents: Vec::new(),
            tokens: VecDeque::new(),
            taken: 0,
            done: false,
            keys: VecDeque::new(),
        }
    }

    /// The token that comes next.
    pub fn peek(&mut self) -> Fallible<&Token> {
        self.fill()?;
        Ok(self.tokens.front().map_or(&Token::End, |(token, _)| token))
    }

    /// The line of the token that comes next.
    pub fn next_line(&mut self) -> Fallible<usize> {
        self.fill()?;
        Ok(self.tokens.front().map_or(self.line, |(_, line)| *line))
    }

    /// Takes the token that comes next.
    pub fn take(&mut self) -> Fallible<Token> {
        self.fill()?;
        self.taken += 1;
        Ok(self.tokens.pop_front().map_or(Token::End, |(token, _)| token))
    }

    /// Scans on until it is known what the next token is.
    fn fill(&mut self) -> Fallible<()> {
        while self.needs_more()? {
            self.fetch()?;
        }
        Ok(())
    }

    fn needs_more(&mut self) -> Fallible<bool> {
        if self.done || self.tokens.is_empty() {
            return Ok(!self.done);
        }
        self.drop_stale_keys()?;
        Ok(self.keys.front().is_some_and(|key| key.number == self.taken))
    }

    /// Scans a token.
    fn fetch(&mut self) -> Fallible<()> {
        self.skip_to_token();
        self.drop_stale_keys()?;
        self.unwind(self.column);
        let next_blank = is_blank(self.at(1));
        let flow = self.flow_level > 0;
        match self.at(0) {
            '\0' => self.fetch_end(),
            '%' if self.column == 0 => self.fetch_directive(),
            '-' if self.is_separator('-') => self.fetch_separator(Token::DocumentStart),
            '.' if self.is_separator('.') => self.fetch_separator(Token::DocumentEnd),
            '[' => self.fetch_flow_start(Token::FlowListStart),
            '{' => self.fetch_flow_start(Token::FlowMappingStart),
            ']' => self.fetch_flow_end(Token::FlowListEnd),
            '}' => self.fetch_flow_end(Token::FlowMappingEnd),
            ',' => self.fetch_flow_entry(),
            '-' if next_blank => self.fetch_entry(),
            '?' if flow || next_blank => self.fetch_key(),
            ':' if flow || next_blank => self.fetch_value(),
            '*' => self.fetch_keyable(|scanner| Ok(Token::Alias(scanner.scan_anchor()?))),
            '&' => self.fetch_keyable(|scanner| Ok(Token::Anchor(scanner.scan_anchor()?))),
            '!' => self.fetch_keyable(Self::scan_tag),
            style @ ('|' | '>') if !flow => self.fetch_block_text(style == '>'),
            quote @ ('\'' | '"') => {
                self.fetch_keyable(move |scanner| Ok(Token::Scalar { text: scanner.scan_quoted(quote)?, plain: false }))
            }
            c if self.starts_plain(c) => {
                self.fetch_keyable(|scanner| Ok(Token::Scalar { text: scanner.scan_plain(), plain: true }))
            }
            c => self.fail(&format!("{c:?} starts nothing")),
        }
    }

    /// Whether a plain text starts with a character.
    fn starts_plain(&self, c: char) -> bool {
        let indicator = is_blank(c) || "-?:,[]{}#&*!|>'\"%@`".contains(c);
        let inner = c == '-' || (self.flow_level == 0 && matches!(c, '?' | ':'));
        !indicator || (inner && !is_blank(self.at(1)))
    }

    /// The character so many places on; `\0` behind the text.
    pub(super) fn at(&self, offset: usize) -> char {
        self.chars.get(self.index + offset).copied().unwrap_or('\0')
    }

    /// Goes on by so many characters.
    pub(super) fn forward(&mut self, count: usize) {
        for _ in 0..count {
            match self.at(0) {
                c if is_break(c) => {
                    self.line += 1;
                    self.column = 0;
                }
                '\u{feff}' => {}
                _ => self.column += 1,
            }
            self.index += 1;
        }
    }

    /// Goes on as long as characters are such, and adds them to a text.
    pub(super) fn copy_while(&mut self, text: &mut String, wanted: impl Fn(char) -> bool) {
        while self.at(0) != '\0' && wanted(self.at(0)) {
            text.push(self.at(0));
            self.forward(1);
        }
    }

    /// Goes on as long as characters are such.
    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.at(0) != '\0' && wanted(self.at(0)) {
            self.forward(1);
        }
    }

    /// Goes over the end of a line: what it is in a text.
    pub(super) fn line_break(&mut self) -> Option<char> {
        let c = self.at(0);
        is_break(c).then(|| self.forward(1))?;
        Some(c)
    }

    /// Whether `---` or `...` stands here, alone.
    pub(super) fn is_separator(&self, mark: char) -> bool {
        self.column == 0 && (0..3).all(|offset| self.at(offset) == mark) && is_blank(self.at(3))
    }

    /// An error on this line.
    pub(super) fn fail<T>(&self, what: &str) -> Fallible<T> {
        Err(format!("line {}: {what}", self.line))
    }

    /// Skips blanks, comments and ends of lines.
    fn skip_to_token(&mut self) {
        if self.index == 0 && self.at(0) == '\u{feff}' {
            self.forward(1);
        }
        loop {
            self.skip_while(|c| c == ' ');
            self.skip_comment();
            if self.line_break().is_none() {
                return;
            }
            if self.flow_level == 0 {
                self.key_allowed = true;
            }
        }
    }

    fn skip_comment(&mut self) {
        if self.at(0) == '#' {
            self.skip_while(|c| !ends_line(c));
        }
    }

    /// Skips the rest of a line, which is blank or a comment.
    pub(super) fn skip_rest_of_line(&mut self) -> Fallible<()> {
        self.skip_while(|c| c == ' ');
        self.skip_comment();
        if !ends_line(self.at(0)) {
            return self.fail("only a comment may stand here");
        }
        self.line_break();
        Ok(())
    }

    fn push(&mut self, token: Token) {
        self.tokens.push_back((token, self.line));
    }

    /// Forgets keys that no `:` can follow any more.
    fn drop_stale_keys(&mut self) -> Fallible<()> {
        while let Some(key) = self.keys.front()
            && (key.line != self.line || self.index - key.index > KEY_MAX)
        {
            if key.required {
                return self.fail("a key without ':'");
            }
            self.keys.pop_front();
        }
        Ok(())
    }

    /// Takes the key of this level, if one is open.
    fn take_key(&mut self) -> Option<SimpleKey> {
        match self.keys.back() {
            Some(key) if key.level == self.flow_level => self.keys.pop_back(),
            _ => None,
        }
    }

    /// Notes that the token that comes next may be a key.
    fn save_key(&mut self) -> Fallible<()> {
        if self.key_allowed {
            self.remove_key()?;
            self.keys.push_back(SimpleKey {
                level: self.flow_level,
                number: self.taken + self.tokens.len(),
                required: self.flow_level == 0 && self.indent == self.column,
                index: self.index,
                line: self.line,
                column: self.column,
            });
        }
        Ok(())
    }

    fn remove_key(&mut self) -> Fallible<()> {
        match self.take_key() {
            Some(key) if key.required => self.fail("a key without ':'"),
            _ => Ok(()),
        }
    }

    /// Ends the lists and mappings that are indented more.
    fn unwind(&mut self, column: isize) {
        while self.flow_level == 0 && self.indent > column {
            self.indent = self.indents.pop().unwrap_or(-1);
            self.push(Token::BlockEnd);
        }
    }

    /// Whether a list or mapping starts at a column.
    fn add_indent(&mut self, column: isize) -> bool {
        let deeper = self.indent < column;
        if deeper {
            self.indents.push(self.indent);
            self.indent = column;
        }
        deeper
    }

    /// Starts a list or mapping here if none has this indent; only where a key may stand.
    fn start_block(&mut self, start: Token, what: &str) -> Fallible<()> {
        if self.flow_level > 0 {
            return Ok(());
        }
        if !self.key_allowed {
            return self.fail(what);
        }
        if self.add_indent(self.column) {
            self.push(start);
        }
        Ok(())
    }

    fn fetch_end(&mut self) -> Fallible<()> {
        self.unwind(-1);
        self.remove_key()?;
        self.keys.clear();
        self.push(Token::End);
        self.done = true;
        Ok(())
    }

    fn fetch_separator(&mut self, token: Token) -> Fallible<()> {
        self.unwind(-1);
        self.remove_key()?;
        self.key_allowed = false;
        self.push(token);
        self.forward(3);
        Ok(())
    }

    fn fetch_flow_start(&mut self, token: Token) -> Fallible<()> {
        self.save_key()?;
        self.flow_level += 1;
        self.key_allowed = true;
        self.push(token);
        self.forward(1);
        Ok(())
    }

    fn fetch_flow_end(&mut self, token: Token) -> Fallible<()> {
        self.remove_key()?;
        let Some(level) = self.flow_level.checked_sub(1) else { return self.fail("a bracket that nothing opened") };
        self.flow_level = level;
        self.key_allowed = false;
        self.push(token);
        self.forward(1);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Fallible<()> {
        self.key_allowed = true;
        self.remove_key()?;
        self.push(Token::FlowEntry);
        self.forward(1);
        Ok(())
    }

    fn fetch_entry(&mut self) -> Fallible<()> {
        self.start_block(Token::ListStart, "no list may start here")?;
        self.key_allowed = true;
        self.remove_key()?;
        self.push(Token::Entry);
        self.forward(1);
        Ok(())
    }

    fn fetch_key(&mut self) -> Fallible<()> {
        self.start_block(Token::MappingStart, "no key may stand here")?;
        self.key_allowed = self.flow_level == 0;
        self.remove_key()?;
        self.push(Token::Key);
        self.forward(1);
        Ok(())
    }

    fn fetch_value(&mut self) -> Fallible<()> {
        if let Some(key) = self.take_key() {
            let place = key.number.saturating_sub(self.taken).min(self.tokens.len());
            self.tokens.insert(place, (Token::Key, key.line));
            if self.flow_level == 0 && self.add_indent(key.column) {
                self.tokens.insert(place, (Token::MappingStart, key.line));
            }
            self.key_allowed = false;
        } else {
            self.start_block(Token::MappingStart, "no value may stand here")?;
            self.key_allowed = self.flow_level == 0;
        }
        self.push(Token::Value);
        self.forward(1);
        Ok(())
    }

    /// Scans a token that may be a key.
    fn fetch_keyable(&mut self, scan: impl FnOnce(&mut Self) -> Fallible<Token>) -> Fallible<()> {
        self.save_key()?;
        self.key_allowed = false;
        let line = self.line;
        let token = scan(self)?;
        self.tokens.push_back((token, line));
        Ok(())
    }

    fn fetch_block_text(&mut self, folded: bool) -> Fallible<()> {
        self.key_allowed = true;
        self.remove_key()?;
        let line = self.line;
        let text = self.scan_block(folded)?;
        self.tokens.push_back((Token::Scalar { text, plain: false }, line));
        Ok(())
    }

    fn fetch_directive(&mut self) -> Fallible<()> {
        self.unwind(-1);
        self.remove_key()?;
        self.key_allowed = false;
        let line = self.line;
        let token = self.scan_directive()?;
        self.tokens.push_back((token, line));
        Ok(())
    }

    /// A number of so many hexadecimal digits.
    pub(super) fn hex(&mut self, digits: usize) -> Fallible<u32> {
        let mut number: u32 = 0;
        for offset in 0..digits {
            let Some(digit) = self.at(offset).to_digit(16) else {
                return self.fail(&format!("{digits} hexadecimal digits must stand here"));
            };
            number = number << 4 | digit;
        }
        self.forward(digits);
        Ok(number)
    }
}
