//! The values of a document's tree, as PyYAML's safe constructor makes them.

use std::collections::HashMap;

use rhai::{Array, Dynamic, Map};

use super::scalar::{self, Tag};
use super::tree::{Content, Node};
use super::{DEPTH_MAX, Fallible, Size};

/// Makes values.
pub struct Values {
    nodes: Vec<Node>,
    /// What aliases stand for.
    known: HashMap<usize, (Dynamic, Size)>,
    /// The lists and mappings around the value that is being made.
    open: Vec<usize>,
    size: Size,
}

/// The value of a node.
pub fn value_of(nodes: Vec<Node>, root: usize) -> Fallible<Dynamic> {
    let mut values = Values { nodes, known: HashMap::new(), open: Vec::new(), size: Size::default() };
    Ok(values.value(root)?.0)
}

impl Values {
    /// The value of a node, and what it counts.
    fn value(&mut self, node: usize) -> Fallible<(Dynamic, Size)> {
        if let Some((value, size)) = self.known.get(&node) {
            if self.open.len() + size.depth > DEPTH_MAX {
                return self.fail(node, &format!("nested over {DEPTH_MAX} deep"));
            }
            self.size.grow(*size)?;
            return Ok((value.clone(), *size));
        }
        if self.nodes[node].anchored && self.open.contains(&node) {
            // What contains itself is read by cloud-init; here it ends.
            self.size.grow(Size::of(""))?;
            return Ok((Dynamic::UNIT, Size::of("")));
        }
        let made = match self.nodes[node].tag {
            Tag::Unknown => return self.fail(node, "a tag that is not known"),
            tag if tag.is_collection() => self.collection(node)?,
            _ => self.scalar(node)?,
        };
        if self.nodes[node].anchored {
            self.size.grow(made.1)?;
            self.known.insert(node, made.clone());
        }
        Ok(made)
    }

    fn fail<T>(&self, node: usize, what: &str) -> Fallible<T> {
        Err(format!("line {}: {what}", self.nodes[node].line))
    }

    fn scalar(&mut self, node: usize) -> Fallible<(Dynamic, Size)> {
        let text = self.text(node)?;
        let size = Size::of(text);
        let value = match &self.nodes[node] {
            Node { tag: Tag::Timestamp, content: Content::Mapping(_), .. } => None,
            Node { tag, .. } => scalar::value(*tag, text),
        };
        let Some(value) = value else {
            return self.fail(node, &format!("{:?} is no value that its tag allows", shortened(text)));
        };
        self.size.grow(size)?;
        Ok((value, size))
    }

    /// The text of a scalar, or of what stands for one: a mapping that has the key `=`.
    fn text(&self, mut node: usize) -> Fallible<&str> {
        for _ in 0..DEPTH_MAX {
            let pairs = match &self.nodes[node].content {
                Content::Scalar(text) => return Ok(text),
                Content::Mapping(pairs) => pairs.as_slice(),
                Content::List(_) => &[],
            };
            match pairs.iter().find(|(key, _)| self.nodes[*key].tag == Tag::Value) {
                Some((_, value)) => node = *value,
                None => break,
            }
        }
        self.fail(node, "a list or mapping whose tag is one of a text")
    }

    fn collection(&mut self, node: usize) -> Fallible<(Dynamic, Size)> {
        if self.open.len() >= DEPTH_MAX {
            return self.fail(node, &format!("nested over {DEPTH_MAX} deep"));
        }
        let tag = self.nodes[node].tag;
        let mapping = matches!(tag, Tag::Map | Tag::Set);
        if mapping != matches!(self.nodes[node].content, Content::Mapping(_)) {
            return self.fail(node, "a tag that does not fit");
        }
        self.size.grow(Size::of(""))?;
        self.open.push(node);
        let mut size = Size::of("");
        let value = match tag {
            Tag::Map | Tag::Set => self.mapping(node, tag == Tag::Set, &mut size)?.into(),
            Tag::Seq => self.list(node, &mut size)?.into(),
            _ => self.pairs(node, &mut size)?.into(),
        };
        self.open.pop();
        size.depth += 1;
        Ok((value, size))
    }

    /// The items of a list, as places of nodes.
    fn items(&self, node: usize) -> Fallible<Vec<usize>> {
        match &self.nodes[node].content {
            Content::List(items) => Ok(items.clone()),
            _ => self.fail(node, "a tag that does not fit"),
        }
    }

    fn list(&mut self, node: usize, size: &mut Size) -> Fallible<Array> {
        let mut list = Array::new();
        for item in self.items(node)? {
            let (value, own) = self.value(item)?;
            size.include(own);
            list.push(value);
        }
        Ok(list)
    }

    /// `!!omap` and `!!pairs`: a list of mappings of one key each becomes one of pairs.
    fn pairs(&mut self, node: usize, size: &mut Size) -> Fallible<Array> {
        let mut list = Array::new();
        for item in self.items(node)? {
            let (key, value) = match &self.nodes[item].content {
                Content::Mapping(pairs) if pairs.len() == 1 => pairs[0],
                _ => return self.fail(item, "a mapping of one key must stand here"),
            };
            let mut pair = Array::new();
            for part in [key, value] {
                let (value, own) = self.value(part)?;
                size.include(own);
                pair.push(value);
            }
            list.push(pair.into());
        }
        size.depth += 1;
        Ok(list)
    }

    fn mapping(&mut self, node: usize, set: bool, size: &mut Size) -> Fallible<Map> {
        self.merge(node, 0)?;
        let pairs = match &self.nodes[node].content {
            Content::Mapping(pairs) => pairs.clone(),
            _ => Vec::new(),
        };
        let mut map = Map::new();
        for (key, value) in pairs {
            let name = self.key(key, size)?;
            let (value, own) = self.value(value)?;
            size.include(own);
            map.insert(name.into(), if set { Dynamic::UNIT } else { value });
        }
        Ok(map)
    }

    /// The text of a key. PyYAML takes anything that has a hash.
    fn key(&mut self, node: usize, size: &mut Size) -> Fallible<String> {
        if self.nodes[node].tag.is_collection() {
            return self.fail(node, "a key that is a list or a mapping");
        }
        size.include(self.value(node)?.1);
        Ok(self.text(node)?.to_string())
    }

    /// Puts what the keys `<<` of a mapping stand for before its own keys, which win.
    fn merge(&mut self, node: usize, depth: usize) -> Fallible<()> {
        if depth > DEPTH_MAX {
            return self.fail(node, "too many mappings within '<<'");
        }
        let Content::Mapping(pairs) = &mut self.nodes[node].content else { return Ok(()) };
        let (mut merged, mut own) = (Vec::new(), Vec::new());
        for (key, value) in std::mem::take(pairs) {
            if self.nodes[key].tag == Tag::Merge {
                self.merge_from(value, depth, &mut merged)?;
                continue;
            }
            if self.nodes[key].tag == Tag::Value {
                self.nodes[key].tag = Tag::Str;
            }
            own.push((key, value));
        }
        if !merged.is_empty() {
            merged.append(&mut own);
            own = merged;
        }
        self.nodes[node].content = Content::Mapping(own);
        Ok(())
    }

    /// Adds the pairs of a mapping, or of those of a list, of which the first wins.
    fn merge_from(&mut self, node: usize, depth: usize, merged: &mut Vec<(usize, usize)>) -> Fallible<()> {
        let sources = match &self.nodes[node].content {
            Content::Mapping(_) => vec![node],
            Content::List(items) => items.clone(),
            Content::Scalar(_) => return self.fail(node, "'<<' takes mappings"),
        };
        for source in &sources {
            if !matches!(self.nodes[*source].content, Content::Mapping(_)) {
                return self.fail(*source, "'<<' takes mappings");
            }
            self.merge(*source, depth + 1)?;
        }
        for source in sources.iter().rev() {
            if let Content::Mapping(pairs) = &self.nodes[*source].content {
                self.size.grow(Size { values: pairs.len(), ..Size::default() })?;
                merged.extend(pairs);
            }
        }
        Ok(())
    }
}

/// The start of a text, for a message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
