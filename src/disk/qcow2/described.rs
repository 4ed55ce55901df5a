//! Backing files that a header does not name but describe: `json:` and the options of QEMU's block drivers, as an
//! object or with the keys of inner objects written flat (`file.filename`).

use std::collections::BTreeMap;

use super::header::shown;
use super::window::Window;
use crate::base::json::Json;
use crate::base::{Error, Result};

/// How a program is to hold the file, not what is in it.
const NO_CONTENT: &[&str] = &[
    "aio",
    "auto-read-only",
    "cache.direct",
    "cache.no-flush",
    "detect-zeroes",
    "discard",
    "force-share",
    "locking",
    "node-name",
    "read-only",
];

/// What a description means.
#[derive(Debug)]
pub(super) struct Described {
    /// The name of the file, as a header has it.
    pub file: Vec<u8>,
    /// The format of what is in it.
    pub format: Option<Vec<u8>>,
    /// The part of the file that counts, the outermost window first.
    pub windows: Vec<Window>,
}

/// The file that a description means; `None` for a plain name. `format`: what the header says besides.
///
/// # Errors
/// Text that is no JSON; drivers other than file, raw and qcow2; options that are not known, since they may be about
/// what is in the file; a format that is not the header's.
pub(super) fn read(name: &[u8], format: Option<&[u8]>) -> Result<Option<Described>> {
    let Some(text) = name.strip_prefix(b"json:") else { return Ok(None) };
    let whose = "qcow2: the description of the backing file";
    let text = std::str::from_utf8(text).map_err(|_| Error::corrupt(format!("{whose} is no UTF-8")))?;
    let mut options = Options { keys: BTreeMap::new(), whose };
    options.flatten("", &Json::parse(text, whose)?)?;
    options.meaning(format).map(Some)
}

struct Options {
    /// The keys of inner objects behind a point.
    keys: BTreeMap<String, String>,
    whose: &'static str,
}

impl Options {
    fn flatten(&mut self, before: &str, json: &Json) -> Result<()> {
        for (key, value) in json.pairs() {
            let key = format!("{before}{key}");
            let twice = match value {
                Json::Map(_) => {
                    self.flatten(&format!("{key}."), value)?;
                    false
                }
                Json::List(_) => return Err(self.refused(&format!("option {}", shown(key.as_bytes())))),
                Json::Text(text) => self.keys.insert(key.clone(), text.clone()).is_some(),
            };
            if twice {
                return Err(Error::corrupt(format!("{}: option {} twice", self.whose, shown(key.as_bytes()))));
            }
        }
        Ok(())
    }

    fn refused(&self, what: &str) -> Error {
        Error::unsupported(format!("{}: {what} is not known here", self.whose))
            .hint("drivers file, raw and qcow2 over a local file are; qemu-img rebase -u -F FORMAT -b FILE IMAGE names it plainly")
    }

    /// Goes down from driver to driver, to the one that names a file.
    fn meaning(mut self, format: Option<&[u8]>) -> Result<Described> {
        let mut windows = Vec::new();
        let outer = self.keys.remove("driver");
        let (mut layer, mut driver) = (String::new(), outer.clone());
        loop {
            for key in NO_CONTENT {
                self.keys.remove(&format!("{layer}{key}"));
            }
            match driver.as_deref() {
                Some("file" | "raw") | None => {}
                Some("qcow2") if layer.is_empty() => {}
                Some(other) => return Err(self.refused(&format!("driver {}", shown(other.as_bytes())))),
            }
            if driver.as_deref() == Some("raw") {
                windows.extend(self.window(&layer)?);
            }
            let is_file = matches!(driver.as_deref(), Some("file") | None);
            let file = if is_file { self.keys.remove(&format!("{layer}filename")) } else { None };
            layer.push_str("file.");
            let is_end = file.is_some() || !self.keys.keys().any(|key| key.starts_with(&layer));
            if let Some(key) = self.keys.keys().next().filter(|_| is_end) {
                return Err(self.refused(&format!("option {}", shown(key.as_bytes()))));
            }
            if is_end {
                let file = file.ok_or_else(|| Error::corrupt(format!("{} names no file", self.whose)))?;
                return Ok(Described { file: file.into_bytes(), format: self.format(outer, format)?, windows });
            }
            driver = self.keys.remove(&format!("{layer}driver"));
        }
    }

    /// The part that a layer of the raw driver leaves, if it says so.
    fn window(&mut self, layer: &str) -> Result<Option<Window>> {
        let mut bytes = |key: &str| {
            let Some(text) = self.keys.remove(&format!("{layer}{key}")) else { return Ok(None) };
            bytes_of(&text).map(Some).ok_or_else(|| {
                Error::corrupt(format!("{}: {key} {}: not a count of bytes", self.whose, shown(text.as_bytes())))
            })
        };
        let (offset, size) = (bytes("offset")?, bytes("size")?);
        Ok((offset.is_some() || size.is_some()).then_some(Window { offset: offset.unwrap_or(0), size }))
    }

    /// What driver and header say, which must be the same. The driver for files gives them as they are.
    fn format(&self, driver: Option<String>, header: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let driver = driver.map(|driver| if driver == "file" { "raw".to_string() } else { driver });
        match (driver, header) {
            (Some(driver), Some(header)) if driver.as_bytes() != header => Err(Error::corrupt(format!(
                "{}: it is {driver}, and the header says format {}",
                self.whose,
                shown(header)
            ))),
            (driver, header) => Ok(driver.map(String::into_bytes).or(header.map(<[u8]>::to_vec))),
        }
    }
}

/// A count of bytes as QEMU's options have it: a number, of bytes or with a letter for a power of 1024.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[digits.len()..] {
        "" | "b" | "B" => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        _ => return None,
    };
    let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(1024u64.pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    fn named(text: &str, format: Option<&str>) -> Result<(String, Option<String>)> {
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let Described { file, format, .. } = read(text.as_bytes(), format.map(str::as_bytes))?.unwrap();
        Ok((string(file), format.map(string)))
    }

    #[test]
    fn descriptions() {
        let raw = Some("raw");
        for (text, header, file, format) in [
            (r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"a b"}}"#, None, "a b", Some("qcow2")),
            (r#"json:{"file.filename": "x", "driver":"raw", "file.driver":"file"}"#, raw, "x", raw),
            (
                r#"json:{"driver":"raw","file":{"driver":"raw","file.filename":"/x","file":{"driver":"file"}}}"#,
                None,
                "/x",
                raw,
            ),
            (r#"json:{"driver":"file","filename":"x","locking":"off","cache":{"direct":true}}"#, None, "x", raw),
            (r#"json:{"file":{"filename":"x"},"node-name":"n"}"#, None, "x", None),
            (r#"json:{"filename":"x"}"#, Some("qcow2"), "x", Some("qcow2")),
        ] {
            assert_eq!(named(text, header).unwrap(), (file.into(), format.map(str::to_string)), "{text}");
        }
        assert!(read(b"plain:name", None).unwrap().is_none());
    }

    #[test]
    fn windows() {
        let windows = |text: &str| read(text.as_bytes(), None).unwrap().unwrap().windows;
        assert_eq!(windows(r#"json:{"driver":"raw","file.filename":"x"}"#), []);
        assert_eq!(
            windows(
                r#"json:{"driver":"raw","size":512,"file":{"driver":"raw","offset":"2k","size":"1024","file":{"filename":"x"}}}"#
            ),
            [Window { offset: 0, size: Some(512) }, Window { offset: 2048, size: Some(1024) }]
        );
    }

    #[test]
    fn refused_by_name() {
        for (text, header, word, kind) in [
            (r#"json:{"driver":"nbd","host":"h"}"#, None, "driver nbd", Kind::Unsupported),
            (r#"json:{"driver":"raw","file":{"driver":"https","url":"u"}}"#, None, "driver https", Kind::Unsupported),
            (
                r#"json:{"driver":"raw","file.driver":"blkdebug","file.image.filename":"x"}"#,
                None,
                "blkdebug",
                Kind::Unsupported,
            ),
            (r#"json:{"driver":"qcow2","offset":512,"file.filename":"x"}"#, None, "option offset", Kind::Unsupported),
            (r#"json:{"driver":"raw","offset":-512,"file.filename":"x"}"#, None, "offset -512", Kind::Corrupt),
            (r#"json:{"driver":"raw","size":"1.5k","file.filename":"x"}"#, None, "size 1.5k", Kind::Corrupt),
            (r#"json:{"driver":"raw","size":"99999999T","file.filename":"x"}"#, None, "not a count", Kind::Corrupt),
            (r#"json:{"driver":"raw","file.offset":512,"file.filename":"x"}"#, None, "file.offset", Kind::Unsupported),
            (r#"json:{"driver":"qcow2","file":"node"}"#, None, "option file", Kind::Unsupported),
            (
                r#"json:{"driver":"qcow2","file":{"driver":"qcow2","file.filename":"x"}}"#,
                None,
                "driver qcow2",
                Kind::Unsupported,
            ),
            (r#"json:{"driver":"raw","children":[1]}"#, None, "children", Kind::Unsupported),
            (r#"json:{"driver":"raw","file":{"filename":"a"},"file.filename":"b"}"#, None, "twice", Kind::Corrupt),
            (r#"json:{"driver":"raw"}"#, None, "names no file", Kind::Corrupt),
            (r#"json:{"driver":"qcow2","filename":"x"}"#, None, "option filename", Kind::Unsupported),
            (r#"json:{"driver":"file","filename":"x","file.filename":"y"}"#, None, "file.filename", Kind::Unsupported),
            (r#"json:{"driver":"file","filename":"x"}"#, Some("qcow2"), "format qcow2", Kind::Corrupt),
            (r#"json:{}"#, None, "names no file", Kind::Corrupt),
            (r#"json:{"driver":"raw","file.filename":"x"}"#, Some("qcow2"), "format qcow2", Kind::Corrupt),
            ("json:", None, "description", Kind::Corrupt),
            ("json:{", None, "description", Kind::Corrupt),
            ("json:x", None, "no object", Kind::Corrupt),
        ] {
            let error = named(text, header).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
        assert_eq!(read(b"json:{\"driver\":\"\xff\"}", None).unwrap_err().kind(), Kind::Corrupt);
    }
}
