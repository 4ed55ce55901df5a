//! The events of a document, as PyYAML's parser makes them (`yaml/parser.py`).

use std::collections::HashMap;

use super::Fallible;
use super::scanner::{Scanner, Token};

/// What the handle `!!` stands for.
const CORE: &str = "tag:yaml.org,2002:";

/// A value of a document, or the start or end of one.
pub struct Event {
    pub line: usize,
    pub anchor: Option<String>,
    /// The whole tag; `!` alone is none.
    pub tag: Option<String>,
    pub what: What,
}

/// What an event is.
pub enum What {
    /// `bare`: what the text looks like decides what it is.
    Scalar {
        text: String,
        bare: bool,
    },
    Alias(String),
    List,
    Mapping,
    End,
}

/// What the parser does next.
#[derive(Clone, Copy)]
enum State {
    Content,
    BlockNode,
    ListEntry,
    IndentlessEntry,
    Key,
    Value,
    FlowEntry { first: bool },
    PairKey,
    PairValue,
    PairEnd,
    FlowKey { first: bool },
    FlowValue,
    FlowNoValue,
}

/// Makes events of tokens.
pub struct Parser {
    tokens: Scanner,
    /// The line of the token that was taken last.
    line: usize,
    states: Vec<State>,
    handles: HashMap<String, String>,
}

impl Parser {
    pub fn new(tokens: Scanner) -> Self {
        let handles = HashMap::from([("!".into(), "!".into()), ("!!".into(), CORE.into())]);
        Parser { tokens, line: 1, states: Vec::new(), handles }
    }

    /// Starts with the only document.
    pub fn start(&mut self) -> Fallible<()> {
        match self.tokens.peek()? {
            Token::End => {}
            Token::Version | Token::Handle { .. } | Token::Directive | Token::DocumentStart => {
                self.directives()?;
                self.states.push(State::Content);
            }
            _ => self.states.push(State::BlockNode),
        }
        Ok(())
    }

    /// Takes the lines of `%` and `---`.
    fn directives(&mut self) -> Fallible<()> {
        let mut version = false;
        let mut handles = HashMap::new();
        loop {
            match self.tokens.take()? {
                Token::Version if version => return self.fail("two versions of YAML"),
                Token::Version => version = true,
                Token::Handle { handle, prefix } => {
                    if handles.insert(handle, prefix).is_some() {
                        return self.fail("two meanings of a handle");
                    }
                }
                Token::Directive => {}
                Token::DocumentStart => break,
                _ => return self.fail("'---' must stand here"),
            }
        }
        self.handles.extend(handles);
        Ok(())
    }

    /// The next event; none behind the document, which must be the last.
    pub fn next(&mut self) -> Fallible<Option<Event>> {
        if let Some(state) = self.states.pop() {
            return self.step(state).map(Some);
        }
        while self.is(&Token::DocumentEnd)? {
            self.tokens.take()?;
        }
        match self.is(&Token::End)? {
            true => Ok(None),
            false => self.fail("a second document"),
        }
    }

    fn is(&mut self, token: &Token) -> Fallible<bool> {
        Ok(self.tokens.peek()? == token)
    }

    fn is_one(&mut self, tokens: &[Token]) -> Fallible<bool> {
        let next = self.tokens.peek()?;
        Ok(tokens.contains(next))
    }

    /// Takes the next token if it is such.
    fn took(&mut self, token: &Token) -> Fallible<bool> {
        let is = self.is(token)?;
        if is {
            self.line = self.tokens.next_line()?;
            self.tokens.take()?;
        }
        Ok(is)
    }

    fn fail<T>(&mut self, what: &str) -> Fallible<T> {
        let line = self.tokens.next_line()?;
        Err(format!("line {line}: {what}"))
    }

    fn step(&mut self, state: State) -> Fallible<Event> {
        match state {
            State::Content => self.content(),
            State::BlockNode => self.node(true, false),
            State::ListEntry => self.list_entry(),
            State::IndentlessEntry => self.indentless_entry(),
            State::Key => self.key(),
            State::Value => self.value(),
            State::FlowEntry { first } => self.flow_entry(first),
            State::PairKey => self.pair_key(),
            State::PairValue => self.flow_value(State::PairEnd, &Token::FlowListEnd),
            State::PairEnd => self.event(What::End),
            State::FlowKey { first } => self.flow_key(first),
            State::FlowValue => self.flow_value(State::FlowKey { first: false }, &Token::FlowMappingEnd),
            State::FlowNoValue => {
                self.states.push(State::FlowKey { first: false });
                self.empty()
            }
        }
    }

    /// An event on the line of the next token.
    fn event(&mut self, what: What) -> Fallible<Event> {
        Ok(Event { line: self.tokens.next_line()?, anchor: None, tag: None, what })
    }

    /// A value that does not stand there.
    fn empty(&mut self) -> Fallible<Event> {
        self.event(What::Scalar { text: String::new(), bare: true })
    }

    /// A key or value that does not stand behind the token that was taken last.
    fn empty_behind(&self) -> Event {
        let what = What::Scalar { text: String::new(), bare: true };
        Event { line: self.line, anchor: None, tag: None, what }
    }

    /// The end of a list or mapping, whose token is taken.
    fn end(&mut self) -> Fallible<Event> {
        let event = self.event(What::End)?;
        self.tokens.take()?;
        Ok(event)
    }

    /// The document behind `---`.
    fn content(&mut self) -> Fallible<Event> {
        match self.tokens.peek()? {
            Token::Version
            | Token::Handle { .. }
            | Token::Directive
            | Token::DocumentStart
            | Token::DocumentEnd
            | Token::End => self.empty(),
            _ => self.node(true, false),
        }
    }

    /// A value: in a block, or within brackets.
    fn node(&mut self, block: bool, indentless: bool) -> Fallible<Event> {
        let line = self.tokens.next_line()?;
        if let Token::Alias(name) = self.tokens.peek()? {
            let what = What::Alias(name.clone());
            self.tokens.take()?;
            return Ok(Event { line, anchor: None, tag: None, what });
        }
        let (anchor, tag) = self.properties()?;
        let bang = tag.as_deref() == Some("!");
        let (what, state) = match self.tokens.peek()? {
            Token::Entry if indentless => (What::List, Some(State::IndentlessEntry)),
            Token::Scalar { text, plain } => {
                let bare = bang || (*plain && tag.is_none());
                (What::Scalar { text: text.clone(), bare }, None)
            }
            Token::FlowListStart => (What::List, Some(State::FlowEntry { first: true })),
            Token::FlowMappingStart => (What::Mapping, Some(State::FlowKey { first: true })),
            Token::ListStart if block => (What::List, Some(State::ListEntry)),
            Token::MappingStart if block => (What::Mapping, Some(State::Key)),
            _ if anchor.is_some() || tag.is_some() => {
                let what = What::Scalar { text: String::new(), bare: bang || tag.is_none() };
                return Ok(Event { line, anchor, tag: tag.filter(|_| !bang), what });
            }
            _ => return self.fail("a value must stand here"),
        };
        if !matches!(state, Some(State::IndentlessEntry)) {
            self.tokens.take()?;
        }
        self.states.extend(state);
        Ok(Event { line, anchor, tag: tag.filter(|_| !bang), what })
    }

    /// The anchor and the tag of a value, in any order.
    fn properties(&mut self) -> Fallible<(Option<String>, Option<String>)> {
        let (mut anchor, mut tag) = (None, None);
        loop {
            match self.tokens.peek()? {
                Token::Anchor(name) if anchor.is_none() => anchor = Some(name.clone()),
                Token::Tag { handle: None, suffix } if tag.is_none() => tag = Some(suffix.clone()),
                Token::Tag { handle: Some(handle), suffix } if tag.is_none() => {
                    let Some(prefix) = self.handles.get(handle) else { return self.fail("a handle that is not known") };
                    tag = Some(format!("{prefix}{suffix}"));
                }
                _ => return Ok((anchor, tag)),
            }
            self.tokens.take()?;
        }
    }

    fn list_entry(&mut self) -> Fallible<Event> {
        if self.took(&Token::Entry)? {
            self.states.push(State::ListEntry);
            return match self.is_one(&[Token::Entry, Token::BlockEnd])? {
                true => self.empty(),
                false => self.node(true, false),
            };
        }
        self.block_end()
    }

    fn block_end(&mut self) -> Fallible<Event> {
        match self.is(&Token::BlockEnd)? {
            true => self.end(),
            false => self.fail("something that does not belong here"),
        }
    }

    fn indentless_entry(&mut self) -> Fallible<Event> {
        if self.took(&Token::Entry)? {
            self.states.push(State::IndentlessEntry);
            return match self.is_one(&[Token::Entry, Token::Key, Token::Value, Token::BlockEnd])? {
                true => self.empty(),
                false => self.node(true, false),
            };
        }
        self.event(What::End)
    }

    fn key(&mut self) -> Fallible<Event> {
        match self.took(&Token::Key)? {
            true => self.key_or_value(State::Value),
            false => self.block_end(),
        }
    }

    fn value(&mut self) -> Fallible<Event> {
        if self.took(&Token::Value)? {
            return self.key_or_value(State::Key);
        }
        self.states.push(State::Key);
        self.empty()
    }

    /// What stands behind a `?` or `:` of a block.
    fn key_or_value(&mut self, then: State) -> Fallible<Event> {
        self.states.push(then);
        match self.is_one(&[Token::Key, Token::Value, Token::BlockEnd])? {
            true => Ok(self.empty_behind()),
            false => self.node(true, true),
        }
    }

    fn flow_entry(&mut self, first: bool) -> Fallible<Event> {
        if self.is(&Token::FlowListEnd)? {
            return self.end();
        }
        if !first && !self.took(&Token::FlowEntry)? {
            return self.fail("',' or ']' must stand here");
        }
        if self.is(&Token::FlowListEnd)? {
            return self.end();
        }
        self.states.push(State::FlowEntry { first: false });
        if self.is(&Token::Key)? {
            self.states.push(State::PairKey);
            return self.event(What::Mapping);
        }
        self.node(false, false)
    }

    /// The key of a mapping that is an item of a list and has no brackets of its own.
    fn pair_key(&mut self) -> Fallible<Event> {
        self.took(&Token::Key)?;
        self.states.push(State::PairValue);
        match self.is_one(&[Token::Value, Token::FlowEntry, Token::FlowListEnd])? {
            true => Ok(self.empty_behind()),
            false => self.node(false, false),
        }
    }

    /// A value within brackets.
    fn flow_value(&mut self, then: State, end: &Token) -> Fallible<Event> {
        self.states.push(then);
        if !self.took(&Token::Value)? || self.is(&Token::FlowEntry)? || self.is(end)? {
            return self.empty();
        }
        self.node(false, false)
    }

    fn flow_key(&mut self, first: bool) -> Fallible<Event> {
        if self.is(&Token::FlowMappingEnd)? {
            return self.end();
        }
        if !first && !self.took(&Token::FlowEntry)? {
            return self.fail("',' or '}' must stand here");
        }
        if self.took(&Token::Key)? {
            self.states.push(State::FlowValue);
            return match self.is_one(&[Token::Value, Token::FlowEntry, Token::FlowMappingEnd])? {
                true => Ok(self.empty_behind()),
                false => self.node(false, false),
            };
        }
        if self.is(&Token::FlowMappingEnd)? {
            return self.end();
        }
        self.states.push(State::FlowNoValue);
        self.node(false, false)
    }
}
