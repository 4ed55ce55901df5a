//! Trees: nodes found by logical address, checked once when they are read, and searched by key.
//!
//! Every node must have the level, the first key and the range that its parent says, so that no tree has a loop or shows a node twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::chunks::{CHUNK_ITEM, CHUNKS, Chunks, system};
use super::devices::Devices;
use super::superblock::{Root, Superblock};
use crate::base::bytes::{le32, le64, u8_at};
use crate::base::{Error, Result};

/// Bytes of a node's header, of a pointer to a node below, and of an item's head.
const HEADER: usize = 101;
const POINTER: usize = 33;
const ITEM: usize = 25;
/// Deepest level (BTRFS_MAX_LEVEL is 8).
const LEVEL_MAX: u8 = 7;
/// Bytes of nodes that are kept.
const CACHE: usize = 32 << 20;

/// A key: what everything in a tree is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Object id: an inode, a subvolume.
    pub object: u64,
    /// What the item is.
    pub kind: u8,
    /// Its meaning depends on the kind.
    pub offset: u64,
}

impl Key {
    /// Bytes on disk.
    pub const SIZE: usize = 17;
    const MAX: Key = Key { object: u64::MAX, kind: u8::MAX, offset: u64::MAX };

    /// The first key of an object's items of a kind.
    pub const fn first(object: u64, kind: u8) -> Self {
        Key { object, kind, offset: 0 }
    }

    /// From its bytes.
    pub fn read(bytes: &[u8], at: usize) -> Self {
        Key { object: le64(bytes, at), kind: u8_at(bytes, at + 8), offset: le64(bytes, at + 9) }
    }
}

/// Takes items one after the other until it breaks.
type Each<'a> = dyn FnMut(Key, &[u8]) -> Result<ControlFlow<()>> + 'a;

/// A node whose header, order and item places were checked.
struct Node {
    bytes: Vec<u8>,
    level: u8,
    count: usize,
}

impl Node {
    fn stride(&self) -> usize {
        if self.level == 0 { ITEM } else { POINTER }
    }

    fn key(&self, i: usize) -> Key {
        Key::read(&self.bytes, HEADER + i * self.stride())
    }

    /// What pointer `i` says of the node below.
    fn child(&self, i: usize) -> Below {
        let at = HEADER + i * POINTER + Key::SIZE;
        Below { at: le64(&self.bytes, at), generation: le64(&self.bytes, at + 8), first: self.key(i) }
    }

    /// The transaction that wrote it.
    fn generation(&self) -> u64 {
        le64(&self.bytes, 0x50)
    }

    /// The bytes of item `i` of a leaf.
    fn item(&self, i: usize) -> &[u8] {
        let at = HEADER + i * ITEM + Key::SIZE;
        let (from, len) = (HEADER + le32(&self.bytes, at) as usize, le32(&self.bytes, at + 4) as usize);
        self.bytes.get(from..from + len).unwrap_or_default()
    }

    /// The number of keys at or below one.
    fn up_to(&self, key: &Key) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= *key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// A node as the one above it has it.
struct Below {
    at: u64,
    generation: u64,
    first: Key,
}

/// The trees of one file system.
pub struct Trees {
    devices: Devices,
    superblock: Superblock,
    chunks: Chunks,
    nodes: RefCell<HashMap<u64, Arc<Node>>>,
    /// By the address of a tree's root: items that count instead of those in the tree, `None` for those that are gone.
    over: HashMap<u64, Over>,
}

type Over = BTreeMap<Key, Option<Vec<u8>>>;

impl Trees {
    /// Reads the chunk tree, which everything else is found through.
    ///
    /// # Errors
    /// Chunks that are damaged or of a profile that is not read.
    pub fn open(devices: Devices, superblock: Superblock) -> Result<Self> {
        let chunks = system(&superblock.system_chunks, &devices)?;
        let mut trees = Trees { devices, superblock, chunks, nodes: RefCell::default(), over: HashMap::new() };
        let mut found = Vec::new();
        let root = trees.superblock.chunks;
        trees.items(root, Key::first(CHUNKS, CHUNK_ITEM), |key, item| {
            if key.object != CHUNKS || key.kind != CHUNK_ITEM {
                return Ok(ControlFlow::Break(()));
            }
            found.push((key.offset, item.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        for (logical, item) in found {
            trees.chunks.add(logical, &item, &trees.devices)?;
        }
        Ok(trees)
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The chunks.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The devices.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Reads bytes at a logical address from the first copy that is here.
    pub fn read(&self, logical: u64, buf: &mut [u8]) -> Result<()> {
        self.read_copy(logical, 0, buf)
    }

    fn read_copy(&self, logical: u64, copy: usize, mut buf: &mut [u8]) -> Result<()> {
        self.chunks.places(logical, buf.len() as u64, copy, &mut |(device, at), len| {
            let (part, rest) = std::mem::take(&mut buf).split_at_mut(len as usize);
            buf = rest;
            self.devices.read(device, at, part)
        })
    }

    /// The node of a tree's root.
    fn root(&self, root: Root) -> Result<Arc<Node>> {
        self.node(root.at, root.level, None)
    }

    /// The node below pointer `i`.
    fn below(&self, node: &Node, i: usize) -> Result<Arc<Node>> {
        let below = node.child(i);
        self.node(below.at, node.level - 1, Some(&below))
    }

    /// A node, as its parent has it.
    fn node(&self, at: u64, level: u8, below: Option<&Below>) -> Result<Arc<Node>> {
        let bad = |what: String| Error::corrupt(format!("btrfs: tree node at {at}: {what}"));
        let known = self.nodes.borrow().get(&at).cloned();
        let node = match known {
            Some(node) => node,
            None => {
                let node = Arc::new(self.read_node(at, below)?);
                let mut nodes = self.nodes.borrow_mut();
                if (nodes.len() + 1) * self.superblock.node > CACHE {
                    nodes.clear();
                }
                nodes.insert(at, node.clone());
                node
            }
        };
        if node.level != level {
            return Err(bad(format!("its level is {}, not {level}", node.level)));
        }
        if below.is_some_and(|below| node.count == 0 || node.key(0) != below.first) {
            return Err(bad("its first key is not the one in the node above".into()));
        }
        if below.is_some_and(|below| node.generation() != below.generation) {
            return Err(bad("it is not of the transaction that the node above has".into()));
        }
        Ok(node)
    }

    /// Reads a node from whichever copy is whole and not older than the others.
    fn read_node(&self, at: u64, below: Option<&Below>) -> Result<Node> {
        let size = self.superblock.node;
        let mut trouble = None;
        for copy in 0..self.chunks.copies(at, size as u64)? {
            let mut bytes = vec![0; size];
            let result = self.read_copy(at, copy, &mut bytes).and_then(|()| self.check_node(at, bytes, below));
            match result {
                Ok(node) => return Ok(node),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        Err(trouble.unwrap_or_else(|| Error::corrupt(format!("btrfs: tree node at {at}: it has no copy"))))
    }

    fn check_node(&self, at: u64, bytes: Vec<u8>, below: Option<&Below>) -> Result<Node> {
        let bad = |what: String| Err(Error::corrupt(format!("btrfs: tree node at {at}: {what}")));
        if !self.superblock.sums.is_good(&bytes) {
            return bad("its checksum is wrong".into());
        }
        if below.is_some_and(|below| le64(&bytes, 0x50) != below.generation) {
            return bad("it is not of the transaction that the node above has".into());
        }
        if bytes[0x20..0x30] != self.superblock.node_uuid || le64(&bytes, 0x30) != at {
            return bad("it belongs elsewhere (fsid or bytenr)".into());
        }
        let (count, level) = (le32(&bytes, 0x60) as usize, u8_at(&bytes, 0x64));
        let node = Node { bytes, level, count };
        if level > LEVEL_MAX || count > (self.superblock.node - HEADER) / node.stride() {
            return bad(format!("level {level} with {count} entries"));
        }
        if (1..count).any(|i| node.key(i - 1) >= node.key(i)) {
            return bad("its keys are out of order".into());
        }
        if level == 0 {
            let heads = HEADER + count * ITEM;
            for i in 0..count {
                let at = HEADER + i * ITEM + Key::SIZE;
                let from = (le32(&node.bytes, at) as usize).saturating_add(HEADER);
                let end = from.saturating_add(le32(&node.bytes, at + 4) as usize);
                if from < heads || end > node.bytes.len() {
                    return bad(format!("item {i} lies outside of it"));
                }
            }
        }
        Ok(node)
    }

    /// Lets an item count instead of what a tree has under its key, or removes that.
    pub fn put(&mut self, root: Root, key: Key, item: Option<Vec<u8>>) {
        self.over.entry(root.at).or_default().insert(key, item);
    }

    /// Forgets all that was put over trees.
    pub fn forget(&mut self) {
        self.over.clear();
    }

    /// Gives the items from a key on, in order, until `each` breaks.
    pub fn items(
        &self,
        root: Root,
        from: Key,
        mut each: impl FnMut(Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let node = self.root(root)?;
        let Some(over) = self.over.get(&root.at) else {
            return self.items_below(&node, &from, &Key::MAX, &mut each).map(|_| ());
        };
        let mut over = over.range(from..).peekable();
        let flow = self.items_below(&node, &from, &Key::MAX, &mut |key, item| {
            while let Some((other, new)) = over.next_if(|(other, _)| **other < key) {
                if let Some(new) = new
                    && each(*other, new)?.is_break()
                {
                    return Ok(ControlFlow::Break(()));
                }
            }
            match over.next_if(|(other, _)| **other == key) {
                Some((_, Some(new))) => each(key, new),
                Some((_, None)) => Ok(ControlFlow::Continue(())),
                None => each(key, item),
            }
        })?;
        if flow.is_continue() {
            for (key, new) in over {
                if let Some(new) = new
                    && each(*key, new)?.is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    fn items_below(&self, node: &Node, from: &Key, end: &Key, each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        if node.count > 0 && node.key(node.count - 1) > *end {
            return Err(Error::corrupt("btrfs: a tree node has keys that belong into the next one"));
        }
        if node.level == 0 {
            let first = node.up_to(from);
            let first = if first > 0 && node.key(first - 1) == *from { first - 1 } else { first };
            for i in first..node.count {
                if each(node.key(i), node.item(i))?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        for i in node.up_to(from).saturating_sub(1)..node.count {
            let child = self.below(node, i)?;
            let last = if i + 1 < node.count { node.key(i + 1) } else { *end };
            if self.items_below(&child, from, &last, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The item of a key.
    pub fn item(&self, root: Root, key: Key) -> Result<Option<Vec<u8>>> {
        if let Some(new) = self.over.get(&root.at).and_then(|over| over.get(&key)) {
            return Ok(new.clone());
        }
        let mut found = None;
        self.items(root, key, |at, item| {
            found = (at == key).then(|| item.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The last item of an object and kind at or below an offset.
    pub fn last_up_to(&self, root: Root, key: Key) -> Result<Option<(Key, Vec<u8>)>> {
        let Some(over) = self.over.get(&root.at) else { return self.last_in_tree(root, key) };
        let mut upto = key;
        let below = loop {
            match self.last_in_tree(root, upto)? {
                Some((found, _)) if over.contains_key(&found) => match found.offset.checked_sub(1) {
                    Some(offset) => upto.offset = offset,
                    None => break None,
                },
                found => break found,
            }
        };
        let new = over.range(Key { offset: 0, ..key }..=key).rev().find_map(|(key, item)| Some((*key, item.clone()?)));
        Ok(match (below, new) {
            (Some(below), Some(new)) => Some(if below.0 > new.0 { below } else { new }),
            (below, new) => below.or(new),
        })
    }

    fn last_in_tree(&self, root: Root, key: Key) -> Result<Option<(Key, Vec<u8>)>> {
        let mut node = self.root(root)?;
        loop {
            let Some(i) = node.up_to(&key).checked_sub(1) else { return Ok(None) };
            if node.level == 0 {
                let found = node.key(i);
                let same = (found.object, found.kind) == (key.object, key.kind);
                return Ok(same.then(|| (found, node.item(i).to_vec())));
            }
            node = self.below(&node, i)?;
        }
    }
}
