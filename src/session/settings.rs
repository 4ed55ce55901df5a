//! What the `set-` commands keep: what guestfish tells its virtual machine. Here only some of it has an effect,
//! but scripts set all of it and read it back.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings of a session, with guestfish's values at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `set-verbose`: details on stderr.
    pub verbose: bool,
    /// `set-trace`: every call on stderr.
    pub trace: bool,
    /// `set-autosync`: commit at a clean end.
    pub autosync: bool,
    /// The program's exit status at the end of a run that did not fail; scripts set it.
    pub exit_status: Option<u8>,
    /// An image that was named and whose disk cannot be opened, with what it lacks: a check can still say so.
    pub unopened: Option<(PathBuf, String)>,
    /// `set-pgroup`; no effect.
    pub process_group: bool,
    /// `set-network`; no effect, there is no network.
    pub network: bool,
    /// `set-memsize` in MiB; no effect, there is no virtual machine.
    pub memory: i64,
    /// `set-smp`; no effect.
    pub processors: i64,
    /// `set-program`: the calling program's name.
    pub program: String,
    /// `set-identifier`: the session's name in traces.
    pub identifier: String,
    /// `set-append`; no effect.
    pub append: Option<String>,
    /// `set-path`; no effect.
    pub path: String,
    /// `set-backend`; no effect.
    pub backend: String,
    /// `set-backend-settings`; no effect.
    pub backend_settings: Vec<String>,
    /// Paths and switches of the virtual machine, by the name in their command; no effect.
    pub others: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            verbose: false,
            trace: false,
            autosync: true,
            exit_status: None,
            unopened: None,
            process_group: false,
            network: false,
            memory: 1280,
            processors: 1,
            program: "imgsh".to_string(),
            identifier: String::new(),
            append: None,
            path: String::new(),
            backend: "direct".to_string(),
            backend_settings: Vec::new(),
            others: BTreeMap::new(),
        }
    }
}
