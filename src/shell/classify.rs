//! Two languages at one prompt: which one a line is in.

use super::lex::{self, Statement};
use crate::commands;

/// What a line at the prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The guestfish language.
    Command,
    /// Rhai.
    Script,
    /// A word that is neither a command nor the start of an expression.
    Mistyped,
}

/// Words that begin a Rhai statement.
const KEYWORDS: [&str; 20] = [
    "let", "const", "if", "switch", "while", "loop", "for", "do", "fn", "return", "throw", "try", "import", "export",
    "print", "debug", "true", "false", "this", "private",
];

/// Operators that stand alone between a name and what follows.
const OPERATORS: [&str; 31] = [
    "=", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "**", "+=", "-=", "*=", "/=", "%=", "**=", "<<",
    ">>", "<<=", ">>=", "&", "|", "^", "&&", "||", "??", "in", "..",
];

/// Decides: a first word that is a command makes a command line; a bare unknown word followed by something that
/// is no operator is mistyped; everything else is Rhai. `is_name` answers whether a word is a name that Rhai
/// knows (a variable or a function).
pub fn classify(line: &[u8], is_name: &dyn Fn(&str) -> bool) -> Class {
    let (may_fail, Statement::Command(text)) = lex::statement(line) else { return Class::Command };
    let text = String::from_utf8_lossy(text);
    let mut words = text.split([' ', '\t']).filter(|w| !w.is_empty());
    let first = words.next().unwrap_or_default();
    if may_fail || commands::lookup(first).is_some() || commands::refusal(first).is_some() {
        return Class::Command;
    }
    let bare = first.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && first.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !bare || KEYWORDS.contains(&first) || is_name(first) {
        return Class::Script;
    }
    match words.next() {
        Some(next) if OPERATORS.contains(&next) || next.starts_with('(') => Class::Script,
        _ => Class::Mistyped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_expressions() {
        let class = |line: &str| classify(line.as_bytes(), &|name| name == "count");
        for line in ["", "# x", "!ls", "<!ls", "-bogus", "  - bogus x"] {
            assert_eq!(class(line), Class::Command, "{line}");
        }
        for line in ["let x = 1", "x = 2", "x + 1", "ls(\"/\").len()", "1 + 1", "count", "x (1)", "[1, 2]", "\"a\""] {
            assert_eq!(class(line), Class::Script, "{line}");
        }
        for line in ["bogus", "bogus /etc", "mkdirr /x", "bogus -x", "bogus /etc = 1"] {
            assert_eq!(class(line), Class::Mistyped, "{line}");
        }
    }
}
