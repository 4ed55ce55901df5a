//! `import`: the built-in library under `std/`, other names from files beside the script.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rhai::module_resolvers::ModuleResolver;
use rhai::{AST, Engine, EvalAltResult, Module, Position, Scope, Shared};

use super::own_names::with_own_names;
use super::{SCRIPT_LIMIT, error, unreadable};
use crate::base::Result;
use crate::command::{Host, HostFile};

/// The standard library: import name and source.
pub const LIBRARY: &[(&str, &str)] = &[
    ("std/applications", include_str!("../../stdlib/applications.rhai")),
    ("std/assert", include_str!("../../stdlib/assert.rhai")),
    ("std/boot", include_str!("../../stdlib/boot.rhai")),
    ("std/check", include_str!("../../stdlib/check.rhai")),
    ("std/clean", include_str!("../../stdlib/clean.rhai")),
    ("std/cloud_init", include_str!("../../stdlib/cloud_init.rhai")),
    ("std/customize", include_str!("../../stdlib/customize.rhai")),
    ("std/files", include_str!("../../stdlib/files.rhai")),
    ("std/guest", include_str!("../../stdlib/guest.rhai")),
    ("std/image", include_str!("../../stdlib/image.rhai")),
    ("std/kernel", include_str!("../../stdlib/kernel.rhai")),
    ("std/packages", include_str!("../../stdlib/packages.rhai")),
    ("std/report", include_str!("../../stdlib/report.rhai")),
    ("std/systemd", include_str!("../../stdlib/systemd.rhai")),
    ("std/users", include_str!("../../stdlib/users.rhai")),
    ("std/vtorque", include_str!("../../stdlib/vtorque.rhai")),
    ("std/vtorque_cloud", include_str!("../../stdlib/vtorque_cloud.rhai")),
    ("std/vtorque_guest", include_str!("../../stdlib/vtorque_guest.rhai")),
    ("std/vtorque_image", include_str!("../../stdlib/vtorque_image.rhai")),
    ("std/vtorque_network", include_str!("../../stdlib/vtorque_network.rhai")),
];

/// Whether a name is that of a module of the library.
pub fn is_library(name: &str) -> bool {
    LIBRARY.iter().any(|(known, _)| *known == name)
}

/// Finds modules.
pub struct Resolver {
    host: Rc<dyn Host>,
    /// Modules of the library that were imported before: they never change.
    known: RefCell<HashMap<String, Shared<Module>>>,
    taken: Taken,
}

/// Whose function has which name: a file's, or the script's own for an empty one.
pub type Taken = Rc<RefCell<HashMap<String, String>>>;

/// Notes the functions of the script itself.
pub fn take_names(taken: &Taken, ast: &AST) {
    let mut taken = taken.borrow_mut();
    ast.iter_functions().for_each(|function| drop(taken.insert(function.name.to_string(), String::new())));
}

impl Resolver {
    /// A resolver that reads files through `host`.
    pub fn new(host: Rc<dyn Host>, taken: Taken) -> Self {
        Resolver { host, known: RefCell::default(), taken }
    }

    /// The module's text, and the file it is from.
    fn source(&self, importer: Option<&str>, name: &str) -> Result<(String, PathBuf)> {
        if let Some((_, text)) = LIBRARY.iter().find(|(known, _)| *known == name) {
            return Ok((with_own_names(text, name, &|_| true), PathBuf::new()));
        }
        let mut path = PathBuf::from(name);
        if path.extension().is_none() {
            path.set_extension("rhai");
        }
        // The library has no folder: what it imports by name, a user has named.
        let importer = importer.filter(|i| !is_library(i));
        if let Some(folder) = importer.and_then(|i| Path::new(i).parent()) {
            path = folder.join(path);
        }
        Ok((read_source(self.host.as_ref(), &path)?, path))
    }

    /// A user's module: functions whose names others have, too, get names of their own.
    fn compile(&self, engine: &Engine, text: &str, path: &Path) -> std::result::Result<AST, rhai::ParseError> {
        let ast = engine.compile(text)?;
        let owner = path.display().to_string();
        let mut taken = self.taken.borrow_mut();
        let names: Vec<String> = ast.iter_functions().map(|function| function.name.to_string()).collect();
        let others = |name: &str| taken.get(name).is_some_and(|other| *other != owner);
        let ast = match names.iter().any(|name| others(name)) {
            // What does not compile any more was not understood.
            true => engine.compile(with_own_names(text, &owner, &others)).unwrap_or(ast),
            false => ast,
        };
        for name in names {
            taken.entry(name).or_insert_with(|| owner.clone());
        }
        Ok(ast)
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        importer: Option<&str>,
        name: &str,
        position: Position,
    ) -> std::result::Result<Shared<Module>, Box<EvalAltResult>> {
        if let Some(module) = self.known.borrow().get(name) {
            return Ok(module.clone());
        }
        let (text, path) = self.source(importer, name).map_err(|e| error::thrown("import", e, position))?;
        let compiled = if is_library(name) { engine.compile(text) } else { self.compile(engine, &text, &path) };
        let mut ast = compiled.map_err(|e| error::thrown("import", error::from_parse(&e, name), position))?;
        ast.set_source(name);
        let module = Shared::new(Module::eval_ast_as_new(Scope::new(), &ast, engine)?);
        if is_library(name) {
            self.known.borrow_mut().insert(name.to_string(), module.clone());
        }
        Ok(module)
    }
}

/// Reads a script file.
///
/// # Errors
/// Host errors; more than 16 MiB; not UTF-8.
pub fn read_source(host: &dyn Host, path: &Path) -> Result<String> {
    use std::io::Read;
    let (reader, _) = host.read(&HostFile::Path(path.to_path_buf()))?;
    let mut bytes = Vec::new();
    reader.take(SCRIPT_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| crate::base::Error::io(path.display(), e))?;
    if bytes.len() as u64 > SCRIPT_LIMIT {
        return Err(unreadable(path, "a script of more than 16 MiB is refused"));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(path, "this script is not UTF-8 text"))
}
