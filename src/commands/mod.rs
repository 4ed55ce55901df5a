//! All commands, grouped by subject: one slice a file, listed in [`GROUPS`].

use crate::command::Command;

/// A subject and its commands.
pub struct Group {
    /// Title in the reference.
    pub title: &'static str,
    /// Commands in alphabetical order.
    pub commands: &'static [Command],
}

/// Every group.
pub const GROUPS: &[Group] = &[];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|g| g.commands)
}

/// Finds a command by name or alias: case is ignored, `_` and `-` are the same in the main name.
pub fn lookup(name: &str) -> Option<&'static Command> {
    let wanted = name.to_ascii_lowercase();
    let dashed = wanted.replace('_', "-");
    all().find(|c| c.name == dashed || c.aliases.contains(&wanted.as_str()))
}
