//! All commands, grouped by subject: one slice a file, listed in [`GROUPS`].

mod acls;
mod appliance;
mod archives;
mod attributes;
mod btrfs;
mod capabilities;
mod checksums;
mod comparing;
mod content;
mod customizing;
mod devices;
mod disk_free;
mod disks;
mod editing;
mod encryption;
mod erasing;
mod examining;
mod explaining;
mod extfs;
mod features;
mod filesystems;
mod grep;
mod images;
mod inspection;
mod iso;
mod labels;
mod language;
mod links;
mod long_listing;
mod looking;
mod lvm;
mod lvm_facts;
mod mke2fs;
mod modes;
mod mounts;
mod names;
mod owners;
mod packing;
mod partitions;
pub(crate) mod pattern;
mod ranges;
mod reading;
mod refusals;
mod rename;
mod seeds;
mod settings;
mod showing;
mod steps;
mod swap;
mod tables;
mod text;
mod text_files;
mod transfer;
mod users;
mod views;
mod vtorque;
mod writing;
mod xattrs;
mod xfs;

pub(crate) use language::EVENTS;
pub use refusals::{Refusal, refusal};

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::base::spelling;
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
    Group { title: "Devices", commands: devices::COMMANDS },
    Group { title: "Partitions", commands: partitions::COMMANDS },
    Group { title: "Partition tables", commands: tables::COMMANDS },
    Group { title: "File systems", commands: filesystems::COMMANDS },
    Group { title: "Logical volumes", commands: lvm::COMMANDS },
    Group { title: "What logical volumes are", commands: lvm_facts::COMMANDS },
    Group { title: "Encrypted volumes", commands: encryption::COMMANDS },
    Group { title: "Discs", commands: iso::COMMANDS },
    Group { title: "XFS", commands: xfs::COMMANDS },
    Group { title: "Whole file systems", commands: extfs::COMMANDS },
    Group { title: "Subvolumes of btrfs", commands: btrfs::COMMANDS },
    Group { title: "Making ext2, ext3 and ext4", commands: mke2fs::COMMANDS },
    Group { title: "Swap", commands: swap::COMMANDS },
    Group { title: "Erasing", commands: erasing::COMMANDS },
    Group { title: "Mounts", commands: mounts::COMMANDS },
    Group { title: "Looking", commands: looking::COMMANDS },
    Group { title: "Looking at the whole", commands: views::COMMANDS },
    Group { title: "Where bytes are", commands: explaining::COMMANDS },
    Group { title: "Names", commands: names::COMMANDS },
    Group { title: "Reading files", commands: reading::COMMANDS },
    Group { title: "Searching", commands: grep::COMMANDS },
    Group { title: "Examining files", commands: examining::COMMANDS },
    Group { title: "Checksums and base 64", commands: checksums::COMMANDS },
    Group { title: "Making, changing, removing", commands: writing::COMMANDS },
    Group { title: "Moving files and trees", commands: transfer::COMMANDS },
    Group { title: "Ranges of bytes", commands: ranges::COMMANDS },
    Group { title: "Archives", commands: archives::COMMANDS },
    Group { title: "Editing and installing files", commands: editing::COMMANDS },
    Group { title: "Showing files", commands: showing::COMMANDS },
    Group { title: "Text files", commands: text_files::COMMANDS },
    Group { title: "Users", commands: users::COMMANDS },
    Group { title: "Preparing a guest", commands: customizing::COMMANDS },
    Group { title: "Applications and leftovers", commands: packing::COMMANDS },
    Group { title: "Seeds of cloud-init", commands: seeds::COMMANDS },
    Group { title: "Links", commands: links::COMMANDS },
    Group { title: "Attributes", commands: attributes::COMMANDS },
    Group { title: "Extended attributes", commands: xattrs::COMMANDS },
    Group { title: "ACLs", commands: acls::COMMANDS },
    Group { title: "SELinux labels", commands: labels::COMMANDS },
    Group { title: "Capabilities", commands: capabilities::COMMANDS },
    Group { title: "Inspection", commands: inspection::COMMANDS },
    Group { title: "vTorque", commands: vtorque::COMMANDS },
    Group { title: "Steps", commands: steps::COMMANDS },
    Group { title: "Comparing", commands: comparing::COMMANDS },
    Group { title: "The language", commands: language::COMMANDS },
    Group { title: "Features", commands: features::COMMANDS },
    Group { title: "Settings", commands: settings::COMMANDS },
    Group { title: "The virtual machine that is not there", commands: appliance::COMMANDS },
];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|g| g.commands)
}

/// The name of a command that is nearest to a mistyped one.
pub fn nearest(word: &str) -> Option<&'static str> {
    spelling::nearest(
        word,
        all().flat_map(|command| std::iter::once(command.name).chain(command.aliases.iter().copied())),
    )
}

/// Finds a command by name or alias: case is ignored, `_` and `-` are the same in the main name.
pub fn lookup(name: &str) -> Option<&'static Command> {
    static BY_NAME: LazyLock<HashMap<String, &Command>> =
        LazyLock::new(|| all().map(|command| (command.name.to_ascii_lowercase(), command)).collect());
    static BY_ALIAS: LazyLock<HashMap<&str, &Command>> = LazyLock::new(|| {
        all().flat_map(|command| command.aliases.iter().map(move |alias| (*alias, command))).collect()
    });
    let wanted = name.to_ascii_lowercase();
    BY_NAME.get(&wanted.replace('_', "-")).or_else(|| BY_ALIAS.get(wanted.as_str())).copied()
}
