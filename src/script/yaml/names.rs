//! The names of a document: directives, anchors and tags.

use super::Fallible;
use super::scanner::{Scanner, Token, ends_line, is_blank};

/// Whether a character is a blank or an end, but no tab.
fn is_space(c: char) -> bool {
    c == ' ' || ends_line(c)
}

/// Whether a name of an anchor, handle or directive may have a character.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

impl Scanner {
    pub(super) fn scan_directive(&mut self) -> Fallible<Token> {
        self.forward(1);
        let name = self.word()?;
        self.expect(is_space)?;
        let token = match name.as_str() {
            "YAML" => self.scan_version()?,
            "TAG" => self.scan_handle_and_prefix()?,
            _ => {
                self.skip_while(|c| !ends_line(c));
                Token::Directive
            }
        };
        self.skip_rest_of_line()?;
        Ok(token)
    }

    /// A name of at least one letter.
    fn word(&mut self) -> Fallible<String> {
        let mut name = String::new();
        self.copy_while(&mut name, is_word);
        if name.is_empty() {
            return self.fail("a name must stand here");
        }
        Ok(name)
    }

    fn scan_version(&mut self) -> Fallible<Token> {
        let (mut major, mut minor) = (String::new(), String::new());
        self.skip_while(|c| c == ' ');
        self.copy_while(&mut major, |c| c.is_ascii_digit());
        self.expect(|c| c == '.')?;
        self.forward(1);
        self.copy_while(&mut minor, |c| c.is_ascii_digit());
        self.expect(is_space)?;
        if major.trim_start_matches('0') != "1" || minor.is_empty() {
            return self.fail("another version of YAML");
        }
        Ok(Token::Version)
    }

    fn scan_handle_and_prefix(&mut self) -> Fallible<Token> {
        self.skip_while(|c| c == ' ');
        let handle = self.scan_tag_handle()?;
        self.expect(|c| c == ' ')?;
        self.skip_while(|c| c == ' ');
        let prefix = self.scan_tag_uri()?;
        self.expect(is_space)?;
        Ok(Token::Handle { handle, prefix })
    }

    /// The name behind `&` or `*`.
    pub(super) fn scan_anchor(&mut self) -> Fallible<String> {
        self.forward(1);
        let name = self.word()?;
        self.expect(|c| is_blank(c) || matches!(c, '?' | ':' | ',' | ']' | '}' | '%' | '@' | '`'))?;
        Ok(name)
    }

    pub(super) fn scan_tag(&mut self) -> Fallible<Token> {
        let (handle, suffix) = match self.at(1) {
            '<' => {
                self.forward(2);
                let suffix = self.scan_tag_uri()?;
                self.expect(|c| c == '>')?;
                self.forward(1);
                (None, suffix)
            }
            c if is_blank(c) => {
                self.forward(1);
                (None, "!".to_string())
            }
            _ if self.has_handle() => (Some(self.scan_tag_handle()?), self.scan_tag_uri()?),
            _ => {
                self.forward(1);
                (Some("!".to_string()), self.scan_tag_uri()?)
            }
        };
        self.expect(is_space)?;
        Ok(Token::Tag { handle, suffix })
    }

    /// Whether the tag here has another `!`.
    fn has_handle(&self) -> bool {
        let rest = self.chars.get(self.index + 1..).unwrap_or_default();
        rest.iter().take_while(|c| !is_space(**c)).any(|c| *c == '!')
    }

    /// `!`, `!!` or `!NAME!`.
    fn scan_tag_handle(&mut self) -> Fallible<String> {
        self.expect(|c| c == '!')?;
        self.forward(1);
        let mut handle = "!".to_string();
        if self.at(0) != ' ' {
            self.copy_while(&mut handle, is_word);
            self.expect(|c| c == '!')?;
            self.forward(1);
            handle.push('!');
        }
        Ok(handle)
    }

    fn scan_tag_uri(&mut self) -> Fallible<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-;/?:@&=+$,_.!~*'()[]".contains(c);
        let mut uri = String::new();
        loop {
            self.copy_while(&mut uri, plain);
            if self.at(0) != '%' {
                break;
            }
            uri += &self.scan_uri_escapes()?;
        }
        if uri.is_empty() {
            return self.fail("a tag without a name");
        }
        Ok(uri)
    }

    /// The text of `%XX%XX`.
    fn scan_uri_escapes(&mut self) -> Fallible<String> {
        let mut bytes = Vec::new();
        while self.at(0) == '%' {
            self.forward(1);
            let code = self.hex(2)?;
            bytes.push(u8::try_from(code).unwrap_or_default());
        }
        String::from_utf8(bytes).or_else(|_| self.fail("a tag that is no UTF-8"))
    }

    /// Fails unless the next character is such.
    fn expect(&self, wanted: impl Fn(char) -> bool) -> Fallible<()> {
        match self.at(0) {
            c if wanted(c) => Ok(()),
            '\0' => self.fail("the text ends too early"),
            c => self.fail(&format!("{c:?} may not stand here")),
        }
    }
}
