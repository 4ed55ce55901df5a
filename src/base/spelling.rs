//! "Did you mean": the name nearest to a mistyped one.

/// The longest names that are compared, in bytes: the time goes with the square.
const LONGEST: usize = 255;

/// The name with the fewest letters wrong, left out, added or exchanged, if that is one, and one more for every four
/// letters. Upper and lower case are the same.
pub fn nearest<N: AsRef<str> + Ord>(word: &str, names: impl IntoIterator<Item = N>) -> Option<N> {
    let typed = word.to_lowercase();
    if typed.len() > LONGEST {
        return None;
    }
    let near = |name: N| {
        let known = name.as_ref();
        let most = 1 + known.len().min(typed.len()) / 4;
        if known == word || known.len().abs_diff(typed.len()) > most || known.len() > LONGEST {
            return None;
        }
        let distance = strsim::damerau_levenshtein(&typed, &known.to_lowercase());
        (distance <= most).then_some((distance, name))
    };
    names.into_iter().filter_map(near).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_in_four_may_be_wrong() {
        let names = ["passwd", "group", "passwd-", "Readme"];
        assert_eq!(nearest("psswd", names), Some("passwd"));
        assert_eq!(nearest("gruop", names), Some("group"));
        assert_eq!(nearest("readmee", names), Some("Readme"));
        assert_eq!(nearest("hostname", names), None);
        // What is there and cannot be used is not what was meant.
        assert_eq!(nearest("passwd", ["passwd"]), None);
        assert_eq!(nearest(&"a".repeat(300), ["a".repeat(300)]), None);
    }
}
