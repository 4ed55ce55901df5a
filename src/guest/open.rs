//! A file system that is open, with the names that were looked up in it.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::base::Result;
use crate::fs::{FileSystem, NodeId};

/// Names that are remembered for one file system.
const NAMES: usize = 8192;
/// Names that are looked up before any is remembered: between two changes are only a few.
const FIRST: usize = 16;

/// An open file system. It stays open when it is unmounted, so that its driver remembers which blocks were freed.
pub(super) struct Open {
    pub device: String,
    /// Whether the driver may hold changes that the stage has not.
    pub edited: bool,
    fs: Box<dyn FileSystem>,
    /// What was looked up since the file system last could change.
    names: RefCell<Names>,
}

/// Directories, and what they have under a name.
#[derive(Default)]
struct Names {
    directories: HashMap<NodeId, HashMap<Vec<u8>, Option<NodeId>>>,
    /// Names that were not known.
    asked: usize,
}

impl Open {
    /// A file system that was just opened.
    pub fn new(device: &str, fs: Box<dyn FileSystem>) -> Self {
        Open { device: device.to_string(), edited: false, fs, names: RefCell::default() }
    }

    /// The file system, to look.
    pub fn fs(&self) -> &dyn FileSystem {
        self.fs.as_ref()
    }

    /// The file system, to change: the names are forgotten.
    pub fn fs_mut(&mut self) -> &mut dyn FileSystem {
        let names = self.names.get_mut();
        names.asked = 0;
        if !names.directories.is_empty() {
            names.directories.clear();
        }
        self.fs.as_mut()
    }

    /// [`FileSystem::lookup`], remembered: a check of a guest asks for the same directories thousands of times.
    pub fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        let known = self.names.borrow().directories.get(&directory).and_then(|names| names.get(name)).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.fs.lookup(directory, name)?;
        let mut names = self.names.borrow_mut();
        names.asked += 1;
        if names.asked > NAMES {
            *names = Names::default();
        }
        if names.asked > FIRST {
            names.directories.entry(directory).or_default().insert(name.to_vec(), found);
        }
        Ok(found)
    }
}
