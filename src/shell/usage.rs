//! The lines that the shell's own commands print when they are given the wrong words.

use crate::command::Command;

/// By command.
const USAGE: &[(&str, &str)] = &[
    ("alloc", "use 'alloc file size' to create an image"),
    ("copy-in", "use 'copy-in <local> [<local>...] <remotedir>' to copy files into the image"),
    ("copy-out", "use 'copy-out <remote> [<remote>..] <localdir>' to copy files out of the image"),
    ("delete-event", "use 'delete-event <name>' to delete an event handler"),
    ("display", "use 'display filename' to view an image"),
    ("edit", "use 'edit filename' to edit a file"),
    ("emacs", "use 'emacs filename' to edit a file"),
    ("event", "use 'event <name> <eventset> <script>' to register an event handler"),
    ("glob", "use 'glob command [args...]'"),
    ("help", "use 'help', 'help <cmd>' or 'help -l|--list' to list all commands"),
    ("hexedit", "hexedit (device|filename) [max | start max]"),
    ("lcd", "use 'lcd directory' to change local directory"),
    ("less", "use 'less filename' to page a file"),
    ("list-events", "use 'list-events' to list event handlers"),
    ("man", "use 'man' without parameters to open the manual"),
    ("more", "use 'more filename' to page a file"),
    ("not", "use 'not command [args...]'"),
    ("reopen", "‘reopen’ command takes no parameters"),
    ("setenv", "use 'setenv VAR value' to set an environment variable"),
    ("sparse", "use 'sparse file size' to create an image"),
    ("supported", "use 'supported' without parameters to list the feature groups"),
    ("time", "use 'time command [args...]'"),
    ("unsetenv", "use 'unsetenv VAR' to unset an environment variable"),
    ("vi", "use 'vi filename' to edit a file"),
];

/// The line of a command of the shell; `None` for those of the library.
pub fn of(command: &Command) -> Option<&'static str> {
    USAGE.iter().find(|(name, _)| *name == command.name).map(|(_, line)| *line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::lookup;

    #[test]
    fn every_line_has_its_command() {
        for (name, line) in USAGE {
            assert_eq!(lookup(name).and_then(of), Some(*line), "{name}");
        }
    }
}
