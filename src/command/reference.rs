//! The reference page of all commands, docs/commands.md, written from the table.

use std::fmt::Write;

use super::{Command, Effect, Setup};
use crate::commands::GROUPS;

const INTRODUCTION: &str = "\
# Commands

Generated from the command table: `UPDATE_DOCS=1 cargo test --test table` writes it anew. Every example is run by
`cargo test --test commands`. Words in brackets may be left out; `name:..` stands in any order after the others.

";

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_string();
    for group in GROUPS {
        let links: Vec<String> = group.commands.iter().map(|c| format!("[{0}](#{0})", c.name)).collect();
        // A String takes all that is written to it.
        let _ = writeln!(page, "- {}: {}", group.title, links.join(", "));
    }
    for group in GROUPS {
        let _ = writeln!(page, "\n## {}", group.title);
        for command in group.commands {
            describe(&mut page, command);
        }
    }
    page
}

fn describe(page: &mut String, command: &Command) {
    let _ = writeln!(page, "\n### {}\n\n    {}\n\n{}.", command.name, command.synopsis(), sentence(command.summary));
    if !command.help.is_empty() {
        let _ = writeln!(page, "{}", command.help);
    }
    if !command.aliases.is_empty() {
        let _ = writeln!(page, "\nAlso: {}.", command.aliases.join(", "));
    }
    if command.effect == Effect::Writes {
        let _ = writeln!(page, "\nA step: `undo` takes it back, a failure changes nothing.");
    }
    for example in command.examples {
        let _ = writeln!(page, "\n{}:\n\n```\n{}\n```", world(example.setup), example.lines.trim_end());
        if !example.output.is_empty() {
            let shown = example.output.replace('\0', "\\0");
            let _ = writeln!(page, "\n```text\n{}\n```", shown.trim_end_matches('\n'));
        }
    }
}

fn sentence(summary: &str) -> String {
    let mut chars = summary.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn world(setup: Setup) -> &'static str {
    match setup {
        Setup::Nothing => "Example",
        Setup::EmptyDisk => "Example, with an empty disk of 64 MiB",
        Setup::Ext4 => "Example, with an ext4 file system mounted on `/`",
        Setup::EspAndExt4 => "Example, with an EFI partition /dev/sda1, and an ext4 file system /dev/sda2 on `/`",
        Setup::Debian => "Example, with a small Debian on /dev/sda1",
        Setup::Encrypted => "Example, with a LUKS volume on /dev/sda and its passphrase on standard input",
        Setup::Disc => "Example, with an ISO 9660 disc mounted on `/`",
        Setup::Btrfs => "Example, with a btrfs that has subvolumes, its default one mounted on `/`",
    }
}
