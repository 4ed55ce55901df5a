//! The SELinux label of what is made: what the guest's own policy says of its path (matchpathcon(8)). A guest that enforces
//! its policy does not read files without a label.

use std::sync::Arc;

use super::selinux::{self, Contexts};
use super::{At, Guest, Place};
use crate::base::{GuestPathBuf, Name, Result, Timestamp};
use crate::fs::NewKind;

/// Which policy is in force (selinux_config(5)).
const CONFIG: &str = "/etc/selinux/config";
const CONFIG_MAX: u64 = 1 << 16;
/// Largest policy that is looked at, in bytes and in expressions: real ones have half a mebibyte and 6000.
const RULES_BYTES_MAX: u64 = 8 << 20;
const RULES_MAX: usize = 50_000;

/// The rules of the guest's policy, and the state of the file they are from.
pub(super) struct Policy {
    file: (GuestPathBuf, Place, u64, Timestamp),
    rules: Option<Arc<Contexts>>,
}

/// What the last folder's new nodes were labelled by.
#[derive(Default)]
pub(super) struct Labels {
    place: Option<Place>,
    found: Option<(Arc<Contexts>, selinux::Folder)>,
}

impl Labels {
    /// A folder went, and its node may come again elsewhere.
    pub(super) fn forget(&mut self) {
        self.place = None;
    }
}

impl Guest {
    /// The label of a new node, with its final NUL: the policy's, else the folder's. `None` in a folder without one: the guest has no SELinux, and
    /// nothing more is read. `folder` answers the folder's path.
    pub(super) fn new_label(
        &mut self,
        labels: &mut Labels,
        parent: At,
        folder: &dyn Fn() -> GuestPathBuf,
        name: &Name,
        kind: &NewKind,
    ) -> Result<Option<Vec<u8>>> {
        let attributes = self.fs_of(parent)?.xattrs(parent.node)?;
        let Some((_, inherited)) = attributes.into_iter().find(|(name, _)| **name == *selinux::ATTRIBUTE) else {
            return Ok(None);
        };
        let place = self.place(parent)?;
        if labels.place != Some(place) {
            labels.found = self.policy().and_then(|rules| {
                let folder = rules.folder(&self.realpath(&folder()).ok()?);
                Some((rules, folder))
            });
            labels.place = Some(place);
        }
        let label = labels.found.as_ref().and_then(|(rules, folder)| rules.label_in(folder, name, kind.file_type()));
        Ok(Some(label.map_or(inherited, |label| selinux::merged(None, label, true))))
    }

    /// The rules of the guest's policy, read anew when their file has changed; `None` if there are none that can be read.
    fn policy(&mut self) -> Option<Arc<Contexts>> {
        let path = match &self.policy {
            Some(policy) => policy.file.0.clone(),
            None => self.policy_file(),
        };
        let metadata = self.stat(&path).ok()?;
        let file = (path.clone(), self.resolve(&path).ok()?, metadata.size, metadata.changed);
        if self.policy.as_ref().is_none_or(|policy| policy.file != file) {
            let small = metadata.size <= RULES_BYTES_MAX;
            let rules = small.then(|| Contexts::read(self, &path).ok()).flatten();
            self.policy = Some(Policy { file, rules: rules.filter(|rules| rules.len() <= RULES_MAX).map(Arc::new) });
        }
        self.policy.as_ref()?.rules.clone()
    }

    /// Where the rules are: by the last SELINUXTYPE of the configuration, `targeted` without one.
    fn policy_file(&self) -> GuestPathBuf {
        let text = self.read_file(&GuestPathBuf::from(CONFIG), CONFIG_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let kind = text.lines().filter_map(|line| line.trim().strip_prefix("SELINUXTYPE=")).next_back();
        let kind = kind.map(str::trim).filter(|kind| !kind.is_empty() && !kind.contains('/')).unwrap_or("targeted");
        GuestPathBuf::from(format!("/etc/selinux/{kind}/contexts/files/file_contexts").as_str())
    }
}
