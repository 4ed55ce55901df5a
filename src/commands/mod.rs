//! All commands, grouped by subject: one slice a file, listed in [`GROUPS`].

mod archives;
mod attributes;
mod disk_free;
mod disks;
mod editing;
mod filesystems;
mod images;
mod inspection;
mod language;
mod links;
mod long_listing;
mod looking;
mod mounts;
mod partitions;
mod reading;
mod rename;
mod settings;
mod steps;
mod transfer;
mod vtorque;
mod writing;
mod xattrs;

use crate::command::Command;

/// A subject and its commands.
pub struct Group {
    /// Title in the reference.
    pub title: &'static str,
    /// Commands in alphabetical order.
    pub commands: &'static [Command],
}

/// Every group.
pub const GROUPS: &[Group] = &[
    Group { title: "Disks and images", commands: disks::COMMANDS },
    Group { title: "Image files", commands: images::COMMANDS },
    Group { title: "Partitions", commands: partitions::COMMANDS },
    Group { title: "File systems", commands: filesystems::COMMANDS },
    Group { title: "Mounts", commands: mounts::COMMANDS },
    Group { title: "Looking", commands: looking::COMMANDS },
    Group { title: "Reading files", commands: reading::COMMANDS },
    Group { title: "Making, changing, removing", commands: writing::COMMANDS },
    Group { title: "Moving files and trees", commands: transfer::COMMANDS },
    Group { title: "Archives", commands: archives::COMMANDS },
    Group { title: "Editing and installing files", commands: editing::COMMANDS },
    Group { title: "Links", commands: links::COMMANDS },
    Group { title: "Attributes", commands: attributes::COMMANDS },
    Group { title: "Extended attributes", commands: xattrs::COMMANDS },
    Group { title: "Inspection", commands: inspection::COMMANDS },
    Group { title: "vTorque", commands: vtorque::COMMANDS },
    Group { title: "Steps", commands: steps::COMMANDS },
    Group { title: "The language", commands: language::COMMANDS },
    Group { title: "Settings", commands: settings::COMMANDS },
];

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
