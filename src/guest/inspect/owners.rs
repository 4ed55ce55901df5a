//! Which packages own the files below a folder.
//!
//! dpkg: a file `PACKAGE.list` or `PACKAGE:ARCH.list` for each package, a path on each line (dpkg-query(1), deb(5)). rpm: tags of the headers.

use std::collections::BTreeMap;

use super::{rpm, text_up_to};
use crate::base::{GuestPathBuf, Kind, Result};
use crate::guest::Guest;

/// dpkg's lists.
const LISTS: &str = "/var/lib/dpkg/info";
/// Largest list that is read; a kernel's headers have some two mebibytes.
const LIST_MAX: u64 = 64 << 20;
/// Most files that are named.
const FILES_MAX: usize = 10_000;

/// The files strictly below `folder` that packages own, and the package of each: at most 10000. `format` is inspection's word; of others than
/// `deb` and `rpm` nothing is known.
///
/// # Errors
/// A damaged database; `Kind::NotFound` if rpm has none.
pub fn owned_files(guest: &Guest, format: &str, folder: &GuestPathBuf) -> Result<BTreeMap<String, String>> {
    let start = format!("{}/", folder.to_string().trim_end_matches('/'));
    let mut found = BTreeMap::new();
    let mut add = |path: &str, package: &str| {
        if found.len() < FILES_MAX {
            found.insert(path.to_string(), package.to_string());
        }
    };
    match format {
        "deb" => dpkg(guest, &start, &mut add)?,
        "rpm" => rpm::files(guest, &start, &mut add)?,
        _ => {}
    }
    Ok(found)
}

fn dpkg(guest: &Guest, start: &str, add: &mut dyn FnMut(&str, &str)) -> Result<()> {
    let folder = GuestPathBuf::from(LISTS);
    let names = match guest.list(&folder) {
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => return Ok(()),
        names => names?,
    };
    for name in names {
        let path = folder.join(&name).to_string();
        let Some(package) = path.rsplit('/').next().and_then(|name| name.strip_suffix(".list")) else { continue };
        let package = package.split(':').next().unwrap_or(package);
        let Some(text) = text_up_to(guest, &path, LIST_MAX)? else { continue };
        text.lines()
            .filter(|line| line.starts_with(start) && line.len() > start.len())
            .for_each(|line| add(line, package));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::tests::{guest, path};

    #[test]
    fn of_dpkg() {
        let mut g = guest();
        assert!(owned_files(&g, "deb", &path("/opt")).unwrap().is_empty());
        g.mkdir_p(&path(LISTS), 0o755).unwrap();
        for (name, text) in [
            ("a:amd64.list", "/.\n/opt\n/opt/\n/opt/a\n/opt/a/f\n/opt-vm/x\n/srv/opt/x"),
            ("b.list", "/opt/b f"),
            ("c.md5sums", "/opt/c"),
        ] {
            g.write_file(&path(&format!("{LISTS}/{name}")), text.as_bytes()).unwrap();
        }
        let wanted = [("/opt/a", "a"), ("/opt/a/f", "a"), ("/opt/b f", "b")];
        let wanted: BTreeMap<_, _> = wanted.map(|(path, package)| (path.to_string(), package.to_string())).into();
        assert_eq!(owned_files(&g, "deb", &path("/opt/")).unwrap(), wanted);
        assert!(owned_files(&g, "apk", &path("/opt")).unwrap().is_empty());
        assert_eq!(owned_files(&g, "rpm", &path("/opt")).unwrap_err().kind(), Kind::NotFound);
    }
}
