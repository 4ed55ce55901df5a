//! Files of the user's own: settings, definitions, history.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::cli::PROGRAM;

/// The folder that a variable names, or one below the user's home.
fn folder(variable: &str, default: &str) -> Option<PathBuf> {
    match std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(base) => Some(base),
        None => Some(std::env::home_dir()?.join(default)),
    }
}

/// `$XDG_CONFIG_HOME/imgsh/init.rhai`, by default below `~/.config`, if it is there.
pub fn init() -> Option<PathBuf> {
    let path = folder("XDG_CONFIG_HOME", ".config")?.join(PROGRAM).join("init.rhai");
    path.exists().then_some(path)
}

/// `$XDG_STATE_HOME/imgsh/history`, by default below `~/.local/state`; its folder is made.
pub fn history() -> Option<PathBuf> {
    let folder = folder("XDG_STATE_HOME", ".local/state")?.join(PROGRAM);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder.join("history"))
}

/// Whether the settings that guestfish reads say `read_only = true`: the first of them that is there decides.
pub fn read_only_by_default() -> bool {
    let files = [
        folder("XDG_CONFIG_HOME", ".config").map(|base| base.join("libguestfs/libguestfs-tools.conf")),
        std::env::home_dir().map(|home| home.join(".libguestfs-tools.rc")),
        Some(Path::new("/etc/libguestfs-tools.conf").to_path_buf()),
    ];
    let text = files.into_iter().flatten().find_map(|path| fs::read_to_string(path).ok());
    text.is_some_and(|text| text.lines().any(says_read_only))
}

/// Whether a line of libconfig's language sets `read_only`.
fn says_read_only(line: &str) -> bool {
    let value = line.trim().strip_prefix("read_only").and_then(|rest| rest.trim_start().strip_prefix(['=', ':']));
    let word = value.map(|value| value.trim_start().split([';', ',', '#', '/', ' ', '\t']).next().unwrap_or_default());
    word.is_some_and(|word| word.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::says_read_only;

    #[test]
    fn settings_of_guestfish() {
        for line in ["read_only = true;", "  read_only=TRUE", "read_only : true ; # safe", "read_only = true// so"] {
            assert!(says_read_only(line), "{line}");
        }
        for line in
            ["# read_only = true;", "read_only = false;", "read_only_not = true;", "read_only", "read_only = truely;"]
        {
            assert!(!says_read_only(line), "{line}");
        }
    }
}
