//! The words of `glob`.

use crate::base::{GuestPathBuf, Result};
use crate::session::Session;

/// What a word of `glob` stands for: matching devices or paths, or the word itself.
pub(super) fn matches(session: &Session, word: &[u8]) -> Result<Vec<Vec<u8>>> {
    let found: Vec<Vec<u8>> = if word.starts_with(b"/dev/") {
        let pattern = String::from_utf8_lossy(word);
        let names = session.devices().into_iter().chain(session.partitions()?).chain(session.logical_volumes()?);
        names.filter(|name| device_matches(pattern.as_bytes(), name.as_bytes())).map(String::into_bytes).collect()
    } else if word.starts_with(b"/") {
        session.guest.glob(&GuestPathBuf(word.to_vec()), true)?.into_iter().map(|p| p.0).collect()
    } else {
        Vec::new()
    };
    Ok(if found.is_empty() { vec![word.to_vec()] } else { found })
}

/// Shell patterns over device names: `*`, `?` and `[...]`, none of which matches `/`.
fn device_matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = name.iter().position(|b| *b == b'/').unwrap_or(name.len());
            (0..=end).any(|skip| device_matches(rest, &name[skip..]))
        }
        ([b'?', rest @ ..], [byte, after @ ..]) => *byte != b'/' && device_matches(rest, after),
        ([b'[', class @ ..], [byte, after @ ..]) if class.contains(&b']') => {
            let end = class.iter().position(|b| *b == b']').unwrap_or(class.len());
            let (negated, set) = match &class[..end] {
                [b'!' | b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut hit = false;
            let mut set = set;
            while let [first, rest @ ..] = set {
                set = match rest {
                    [b'-', last, rest @ ..] => {
                        hit |= (*first..=*last).contains(byte);
                        rest
                    }
                    _ => {
                        hit |= first == byte;
                        rest
                    }
                };
            }
            *byte != b'/' && hit != negated && device_matches(&class[end + 1..], after)
        }
        ([literal, rest @ ..], [byte, after @ ..]) => literal == byte && device_matches(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_patterns() {
        for (pattern, name, hit) in [
            ("/dev/sd*", "/dev/sda1", true),
            ("/dev/sd?", "/dev/sda1", false),
            ("/dev/sd[a-c][12]", "/dev/sdb2", true),
            ("/dev/sd[!a]1", "/dev/sda1", false),
            ("/dev/*", "/dev/vg/lv", false),
            ("/dev/sda[", "/dev/sda[", true),
        ] {
            assert_eq!(device_matches(pattern.as_bytes(), name.as_bytes()), hit, "{pattern} {name}");
        }
    }
}
