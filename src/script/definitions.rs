//! Definition files for the Rhai language server: what scripts can call, with types and comments, written from the command
//! table and the library. The grammar is that of rhaiscript/lsp (`rhai-rowan`, parsers/def.rs) and of Rhai's own generator
//! (The Rhai Book, "Generate Definition Files for Language Server").

use std::fmt::Write;

use super::bind::{RESERVED, fewest, most};
use super::modules::LIBRARY;
use super::natives::NATIVES;
use crate::command::{Command, Kind, Need, Param, Returns};
use crate::commands;

/// Words that no name of a parameter may be: Rhai's keywords and those it keeps for later (The Rhai Book, "Keywords").
const KEYWORDS: &[&str] = &[
    "as",
    "async",
    "await",
    "break",
    "call",
    "case",
    "catch",
    "const",
    "continue",
    "curry",
    "debug",
    "default",
    "do",
    "each",
    "else",
    "eval",
    "exit",
    "export",
    "false",
    "fn",
    "for",
    "get",
    "global",
    "go",
    "goto",
    "if",
    "import",
    "in",
    "is",
    "let",
    "loop",
    "match",
    "module",
    "new",
    "nil",
    "null",
    "package",
    "print",
    "private",
    "protected",
    "public",
    "return",
    "set",
    "shared",
    "spawn",
    "static",
    "super",
    "switch",
    "sync",
    "then",
    "this",
    "thread",
    "throw",
    "true",
    "try",
    "unless",
    "until",
    "use",
    "var",
    "void",
    "when",
    "while",
    "with",
    "yield",
];

/// The files, by their path below a folder, and their text. Scripts that lie in that folder are understood: `import
/// "std/users"` is looked for beside the script.
pub fn definitions() -> Vec<(String, String)> {
    let module = |(name, source): &(&str, &str)| (format!("{name}.d.rhai"), library(name, source));
    std::iter::once(("imgsh.d.rhai".to_string(), global())).chain(LIBRARY.iter().map(module)).collect()
}

/// What needs no import.
fn global() -> String {
    let mut text = "/// The commands of imgsh, and what scripts can do beyond them.\nmodule static;\n\n".to_string();
    text.push_str(NATIVES);
    for command in commands::all().filter(|command| command.returns != Returns::Control) {
        for name in std::iter::once(command.name).chain(command.aliases.iter().copied()) {
            define(&mut text, command, &name.replace('-', "_"));
        }
    }
    text
}

/// One definition for each number of arguments that a command takes.
fn define(text: &mut String, command: &Command, name: &str) {
    // `sync` is syntax of its own, and `exit` means nothing in a script.
    if RESERVED.contains(&command.name) {
        return;
    }
    let returns = result(command.returns);
    for count in fewest(command)..=most(command) {
        let params = positional(command, count);
        comment(text, command);
        // A String takes all that is written to it.
        let _ = writeln!(text, "fn {name}({}){returns};\n", params.join(", "));
        if command.params.iter().any(|param| param.need == Need::Optional) {
            let params: Vec<String> = params.into_iter().chain(["options: Map".to_string()]).collect();
            comment(text, command);
            let _ = writeln!(text, "fn {name}({}){returns};\n", params.join(", "));
        }
    }
}

/// The parameters of a call with `count` arguments: those that may be left out are filled from the left.
fn positional(command: &Command, count: usize) -> Vec<String> {
    let mut spare = count.saturating_sub(fewest(command));
    let taken = |param: &&Param| match param.need {
        Need::Required | Need::Many => true,
        Need::Optional => false,
        Need::Any | Need::Maybe => {
            let taken = spare > 0;
            spare = spare.saturating_sub(1);
            taken
        }
    };
    command.params.iter().filter(taken).map(|param| format!("{}: {}", identifier(param.name), kind(param))).collect()
}

fn identifier(name: &str) -> String {
    let name = name.replace('-', "_");
    if KEYWORDS.contains(&name.as_str()) { name + "_" } else { name }
}

/// The type of an argument; `?` where several will do.
fn kind(param: &Param) -> &'static str {
    match (param.need, param.kind) {
        (Need::Many | Need::Any, _) => "Array",
        (_, Kind::Bool) => "bool",
        (_, Kind::Int | Kind::Int64) => "int",
        // Bytes may be a blob, modes and owners numbers or words, lists an array.
        (_, Kind::Bytes | Kind::List | Kind::Mode | Kind::ModeChange | Kind::Owner) => "?",
        _ => "String",
    }
}

fn result(returns: Returns) -> &'static str {
    match returns {
        Returns::Nothing | Returns::Control => "",
        Returns::Bool => " -> bool",
        Returns::Int => " -> int",
        // Text that is no UTF-8 is a blob.
        Returns::Text => " -> ?",
        Returns::List | Returns::Structs | Returns::Table => " -> Array",
        Returns::Hash | Returns::Struct => " -> Map",
        Returns::Bytes => " -> Blob",
    }
}

/// Summary, help and options in front of a definition.
fn comment(text: &mut String, command: &Command) {
    let mut line = |words: &str| match words {
        "" => text.push_str("///\n"),
        words => {
            let _ = writeln!(text, "/// {words}");
        }
    };
    line(&format!("{}.", command.summary));
    if !command.help.is_empty() {
        line("");
        command.help.lines().for_each(&mut line);
    }
    let options = command.params.iter().filter(|param| param.need == Need::Optional);
    let options: Vec<String> = options.map(|param| format!("{}: {}", param.name, kind(param))).collect();
    if !options.is_empty() {
        line("");
        line(&format!("Options: `#{{ {} }}`", options.join(", ")));
    }
}

/// The public functions of a module, with the comments that stand before them.
fn library(name: &str, source: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut text = format!("module \"./{file}\";\n\n");
    let mut comment = String::new();
    for line in source.lines() {
        let head = line.strip_prefix("fn ").and_then(|rest| rest.split_once(')')).map(|(head, _)| head);
        match head.and_then(|head| head.split_once('(')) {
            Some((name, params)) => {
                let params = params.split(',').map(str::trim).filter(|param| !param.is_empty());
                let params: Vec<String> = params.map(|param| format!("{param}: ?")).collect();
                let _ = writeln!(text, "{comment}fn {name}({}) -> ?;\n", params.join(", "));
                comment.clear();
            }
            None => match line.trim_start_matches('/') {
                words if line.starts_with("//") => comment.push_str(&format!("///{words}\n")),
                _ => comment.clear(),
            },
        }
    }
    text
}
