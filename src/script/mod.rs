//! Rhai: every command as a function, scripts from files, lines from the prompt, the standard library.
//!
//! Only this module names `rhai`. It knows the command table, not the grammar of the guestfish language.

mod bind;
mod convert;
mod definitions;
mod error;
mod modules;
mod natives;
mod own_names;
mod yaml;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit};
use rhai::{AST, Dynamic, Engine, Scope};

use crate::base::{Error, Kind, Result};
use crate::command::{Host, HostFile};
use crate::session::Session;

pub use definitions::definitions;
pub use modules::LIBRARY;

/// The largest script file that is read, in bytes.
const SCRIPT_LIMIT: u64 = 16 << 20;
/// How often Ctrl-C is looked at, in Rhai operations (about every tenth of a millisecond).
const OPERATIONS_PER_POLL: u64 = 4096;

/// Bytes of the stack of a program's first thread, as Linux has it by default.
const STACK: u64 = 8 << 20;

/// Runs lines of the guestfish language for `run_line`: the front end gives it, since this module knows no grammar.
pub trait LineRunner {
    /// Runs lines in the session that the script has; answers what they printed.
    ///
    /// # Errors
    /// The first line that failed; those before it have run.
    fn run_lines(&self, session: &mut Session, text: &str) -> Result<Vec<u8>, LineError>;
}

/// Why a line of `run_line` failed.
#[derive(Debug)]
pub struct LineError {
    /// The command, `run_line` if it was none.
    pub command: String,
    /// What is wrong.
    pub error: Error,
}

/// What the registered functions share: the session while a script runs, and the host.
struct Shared {
    session: RefCell<Session>,
    host: Rc<dyn Host>,
    lines: Rc<dyn LineRunner>,
}

/// A Rhai engine with the commands bound, and what the prompt has defined so far.
pub struct Interpreter {
    engine: Engine,
    scope: Scope<'static>,
    functions: AST,
    /// Names of functions, for the modules that are imported.
    taken: modules::Taken,
    /// Where the stack was when Rhai was called.
    top: Rc<Cell<usize>>,
    shared: Rc<Shared>,
}

impl Interpreter {
    /// An engine for one host. Costs under a millisecond.
    pub fn new(host: Rc<dyn Host>, lines: Rc<dyn LineRunner>) -> Self {
        let shared = Rc::new(Shared { session: RefCell::default(), host, lines });
        let mut engine = Engine::new();
        engine.set_max_expr_depths(256, 256);
        engine.set_max_call_levels(128);
        // A full table of strings is searched for each new one: 6 % of a check of a guest.
        engine.set_max_strings_interned(0);
        let taken = modules::Taken::default();
        engine.set_module_resolver(modules::Resolver::new(shared.host.clone(), taken.clone()));
        let host = shared.host.clone();
        engine.on_print(move |line| say(host.as_ref(), line));
        let host = shared.host.clone();
        engine.on_debug(move |line, source, position| {
            say(host.as_ref(), &format!("{}:{position:?}: {line}", source.unwrap_or("")));
        });
        let host = shared.host.clone();
        let (top, room) = (Rc::new(Cell::new(0_usize)), stack_room());
        let begin = top.clone();
        engine.on_progress(move |count| {
            if begin.get().saturating_sub(stack_place()) > room {
                return Some(Dynamic::from(error::TOO_DEEP));
            }
            (count.is_multiple_of(OPERATIONS_PER_POLL) && host.interrupted()).then(|| Dynamic::from("interrupted"))
        });
        error::register(&mut engine);
        yaml::register(&mut engine);
        natives::register(&mut engine, &shared);
        bind::register(&mut engine, &shared);
        Interpreter { engine, scope: Scope::new(), functions: AST::empty(), taken, top, shared }
    }

    /// Runs a script file; `args` are its `ARGS` array.
    ///
    /// # Errors
    /// A file that cannot be read; the script's own error with file, line and column.
    pub fn run_file(&mut self, session: &mut Session, path: &Path, args: &[String]) -> Result<()> {
        let name = path.display().to_string();
        let text = modules::read_source(self.shared.host.as_ref(), path)?;
        let mut ast = self.engine.compile(without_shebang(&text)).map_err(|e| error::from_parse(&e, &name))?;
        ast.set_source(&name);
        modules::take_names(&self.taken, &ast);
        let mut scope = Scope::new();
        scope.push_constant("ARGS", args.iter().map(|a| Dynamic::from(a.clone())).collect::<rhai::Array>());
        self.lend(session, |this| {
            this.engine.run_ast_with_scope(&mut scope, &ast).map_err(|e| error::from_eval(*e, &name))
        })
    }

    /// Evaluates one entry of the prompt. Variables and functions stay for the next one. Answers the value as
    /// text, `None` for `()`.
    ///
    /// # Errors
    /// The script's error with line and column.
    pub fn evaluate(&mut self, session: &mut Session, text: &str, source: &str) -> Result<Option<String>> {
        let mut ast = self.engine.compile_with_scope(&self.scope, text).map_err(|e| error::from_parse(&e, source))?;
        ast.set_source(source);
        modules::take_names(&self.taken, &ast);
        let whole = self.functions.merge(&ast);
        let value = self.lend(session, |this| {
            let mut scope = std::mem::take(&mut this.scope);
            let value = this.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &whole);
            this.scope = scope;
            value.map_err(|e| error::from_eval(*e, source))
        })?;
        self.functions = self.functions.merge(&ast.clone_functions_only());
        Ok((!value.is_unit()).then(|| value.to_string()))
    }

    /// Evaluates a file as an entry of the prompt: what it defines stays.
    ///
    /// # Errors
    /// A file that cannot be read; the script's error with file, line and column.
    pub fn include(&mut self, session: &mut Session, path: &Path) -> Result<()> {
        let text = modules::read_source(self.shared.host.as_ref(), path)?;
        self.evaluate(session, without_shebang(&text), &path.display().to_string()).map(drop)
    }

    /// Whether a word is a variable of the prompt.
    pub fn knows(&self, name: &str) -> bool {
        self.scope.contains(name)
    }

    /// Whether text is the beginning of something longer (open bracket or string): the prompt asks for more.
    pub fn is_incomplete(&self, text: &str) -> bool {
        use rhai::{LexError, ParseErrorType as P};
        match self.engine.compile(text) {
            Ok(_) => false,
            Err(e) => matches!(
                e.err_type(),
                P::UnexpectedEOF | P::MissingToken(..) | P::BadInput(LexError::UnterminatedString)
            ),
        }
    }

    /// Calls `function(options)` of a library module, for commands that are written in Rhai.
    ///
    /// # Errors
    /// What the function threw.
    pub fn call(
        &mut self,
        session: &mut Session,
        module: &str,
        function: &str,
        options: &[(String, String)],
    ) -> Result<()> {
        let text = format!("import \"{module}\" as library; library::{function}(OPTIONS)");
        let ast = self.engine.compile(text).map_err(|e| error::from_parse(&e, module))?;
        let mut scope = Scope::new();
        let options: rhai::Map = options.iter().map(|(k, v)| (k.as_str().into(), Dynamic::from(v.clone()))).collect();
        scope.push_constant("OPTIONS", options);
        self.lend(session, |this| {
            this.engine.run_ast_with_scope(&mut scope, &ast).map_err(|e| error::from_eval(*e, module))
        })
    }

    /// Lends the session to the bound functions while `work` runs.
    fn lend<T>(&mut self, session: &mut Session, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        std::mem::swap(session, &mut *self.shared.session.borrow_mut());
        self.top.set(stack_place());
        let result = work(self);
        std::mem::swap(session, &mut *self.shared.session.borrow_mut());
        result
    }
}

/// About where the stack is: the address of a variable on it.
#[inline(never)]
fn stack_place() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

/// Bytes of the stack that a script may use: Rhai counts calls of functions, but not those of `eval` and `import`.
fn stack_room() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_STACK).unwrap_or((STACK, STACK));
    (soft.min(STACK) / 4 * 3) as usize
}

/// Prints one line to the host's standard output; a closed pipe is not the script's error.
fn say(host: &dyn Host, line: &str) {
    if let Ok(mut out) = host.write(&HostFile::Standard) {
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    }
}

fn without_shebang(text: &str) -> &str {
    match text.strip_prefix("#!") {
        Some(rest) => rest.find('\n').map_or("", |end| &rest[end..]),
        None => text,
    }
}

/// A script that is no UTF-8, or too large.
fn unreadable(path: &Path, why: &str) -> Error {
    Error::new(Kind::Usage, why.to_string()).at(path.display())
}
