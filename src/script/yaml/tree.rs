//! The tree of a document, as PyYAML's composer builds it, and the lines of its keys.

use std::collections::HashMap;

use rhai::{Dynamic, Map};

use super::parser::{Event, Parser, What};
use super::scalar::{self, Tag};
use super::{DEPTH_MAX, Fallible, Size};

/// A value. It stands for others by their places among all nodes.
pub struct Node {
    pub tag: Tag,
    pub content: Content,
    pub line: usize,
    /// Whether aliases may stand for it.
    pub anchored: bool,
}

/// What a value holds.
pub enum Content {
    Scalar(String),
    List(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
}

/// A document.
#[derive(Default)]
pub struct Tree {
    pub nodes: Vec<Node>,
    pub root: Option<usize>,
    pub lines: Map,
}

/// A list or mapping whose end has not come yet.
struct Open {
    node: usize,
    path: String,
    key: Option<usize>,
}

/// Builds the tree.
#[derive(Default)]
struct Composer {
    tree: Tree,
    open: Vec<Open>,
    anchors: HashMap<String, usize>,
    size: Size,
}

/// The only document of a text.
pub fn compose(mut parser: Parser) -> Fallible<Tree> {
    let mut composer = Composer::default();
    parser.start()?;
    while let Some(event) = parser.next()? {
        let line = event.line;
        composer.take(event).map_err(|what| format!("line {line}: {what}"))?;
    }
    Ok(composer.tree)
}

impl Composer {
    fn take(&mut self, event: Event) -> Fallible<()> {
        let Event { line, anchor, tag, what } = event;
        let tag = tag.as_deref();
        let (tag, content) = match what {
            What::End => {
                self.open.pop();
                return Ok(());
            }
            What::Alias(name) => {
                let node = *self.anchors.get(&name).ok_or("an alias of nothing")?;
                self.size.grow(Size::of(""))?;
                return self.add(node, line);
            }
            What::Scalar { text, bare } => {
                self.size.grow(Size::of(&text))?;
                let tag = if bare { scalar::resolved(&text) } else { tag.map_or(Tag::Str, Tag::of) };
                (tag, Content::Scalar(text))
            }
            What::List => (tag.map_or(Tag::Seq, Tag::of), Content::List(Vec::new())),
            What::Mapping => (tag.map_or(Tag::Map, Tag::of), Content::Mapping(Vec::new())),
        };
        let node = self.tree.nodes.len();
        let path = (!matches!(content, Content::Scalar(_))).then(|| self.path());
        self.tree.nodes.push(Node { tag, content, line, anchored: anchor.is_some() });
        self.add(node, line)?;
        if let Some(name) = anchor
            && self.anchors.insert(name, node).is_some()
        {
            return Err("an anchor that stood before".into());
        }
        path.map_or(Ok(()), |path| self.start(node, path))
    }

    /// Opens a list or mapping.
    fn start(&mut self, node: usize, path: String) -> Fallible<()> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested over {DEPTH_MAX} deep"));
        }
        self.size.grow(Size::of(""))?;
        self.open.push(Open { node, path, key: None });
        Ok(())
    }

    /// Adds a value to the list or mapping that is open.
    fn add(&mut self, node: usize, line: usize) -> Fallible<()> {
        let Some(open) = self.open.last_mut() else {
            self.tree.root = Some(node);
            return Ok(());
        };
        match &mut self.tree.nodes[open.node].content {
            Content::List(items) => items.push(node),
            Content::Mapping(pairs) => match open.key.take() {
                Some(key) => pairs.push((key, node)),
                None => {
                    open.key = Some(node);
                    return self.note_key(node, line);
                }
            },
            Content::Scalar(_) => {}
        }
        Ok(())
    }

    /// Notes the line of the key that has just come.
    fn note_key(&mut self, key: usize, line: usize) -> Fallible<()> {
        if !matches!(self.tree.nodes[key].content, Content::Scalar(_)) {
            return Ok(());
        }
        let path = self.path();
        self.size.grow(Size { bytes: path.len(), ..Size::default() })?;
        self.tree.lines.insert(path.into(), Dynamic::from_int(i64::try_from(line).unwrap_or(i64::MAX)));
        Ok(())
    }

    /// The keys that lead to the value that comes next.
    fn path(&self) -> String {
        let Some(open) = self.open.last() else { return String::new() };
        match open.key.map(|key| &self.tree.nodes[key].content) {
            Some(Content::Scalar(key)) if open.path.is_empty() => key.clone(),
            Some(Content::Scalar(key)) => format!("{}.{key}", open.path),
            _ => open.path.clone(),
        }
    }
}
