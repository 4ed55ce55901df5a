//! Commands as Rhai functions, and as methods of the `session()` handle.

use std::any::TypeId;
use std::rc::Rc;

use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};

use super::{Shared, convert, error};
use crate::base::spelling;
use crate::command::{self, Args, Command, Context, Need, Param, Returns};
use crate::commands;

/// The value of `session()`: its methods are the commands.
#[derive(Debug, Clone, Copy)]
pub struct Handle;

/// Rhai reserves these words; `sync` gets a syntax of its own, `exit` and `quit` mean nothing in a script.
pub(super) const RESERVED: &[&str] = &["sync", "exit"];

/// Registers every command that answers a value.
pub fn register(engine: &mut Engine, shared: &Rc<Shared>) {
    engine.register_type_with_name::<Handle>("Session");
    engine.register_fn("session", || Handle);
    for command in commands::all() {
        if command.returns == Returns::Control || RESERVED.contains(&command.name) {
            continue;
        }
        for name in std::iter::once(command.name).chain(command.aliases.iter().copied()) {
            let name = name.replace('-', "_");
            // With a handle in front and options behind, a command of n arguments is called with 0 to 2 more.
            for arity in fewest(command)..=most(command) + 2 {
                let shared = shared.clone();
                engine.register_raw_fn(&name, vec![TypeId::of::<Dynamic>(); arity], move |context, args| {
                    call(&context, &shared, command, args)
                });
            }
        }
    }
    // Rhai's own takes a number as such, and no Ctrl-C.
    if let Some(sleep) = commands::lookup("sleep") {
        let shared = shared.clone();
        engine.register_raw_fn("sleep", [TypeId::of::<rhai::INT>()], move |context, args| {
            call(&context, &shared, sleep, args)
        });
    }
    let lent = shared.clone();
    engine.register_fn("run_line", move |context: NativeCallContext, text: &str| {
        let printed = lent.lines.run_lines(&mut lent.session.borrow_mut(), text);
        let printed = printed.map_err(|e| error::thrown(&e.command, e.error, context.call_position()))?;
        Ok::<_, Box<EvalAltResult>>(convert::from_bytes(printed))
    });
    if let Some(sync) = commands::lookup("sync") {
        let shared = shared.clone();
        // The result says whether the word was already taken; it is not, in a new engine.
        let _ = engine.register_custom_syntax(["sync", "()"], false, move |_, _| {
            run(&shared, sync, &Args::new(sync.params, vec![None; sync.params.len()]), "sync")
                .map_err(|e| error::thrown(sync.name, e, rhai::Position::NONE))
        });
    }
}

/// The fewest arguments of a call, options not counted.
pub(super) fn fewest(command: &Command) -> usize {
    command.params.iter().filter(|p| matches!(p.need, Need::Required | Need::Many)).count()
}

/// The most arguments of a call, options not counted.
pub(super) fn most(command: &Command) -> usize {
    command.params.iter().filter(|p| p.need != Need::Optional).count()
}

fn call(
    context: &NativeCallContext,
    shared: &Shared,
    command: &'static Command,
    args: &mut [&mut Dynamic],
) -> Result<Dynamic, Box<EvalAltResult>> {
    let position = context.call_position();
    let thrown = |e| error::thrown(command.name, e, position);
    let mut given: Vec<Dynamic> = args.iter_mut().map(|a| a.flatten_clone()).collect();
    if given.first().is_some_and(|a| a.is::<Handle>()) {
        drop(given.remove(0));
    }
    let (bound, label) = bind(command, given).map_err(thrown)?;
    run(shared, command, &bound, &label).map_err(thrown)
}

/// Arguments by parameter, and the step's label.
fn bind(command: &'static Command, mut given: Vec<Dynamic>) -> crate::base::Result<(Args, String)> {
    let has_options = command.params.iter().any(|p| p.need == Need::Optional);
    let options = match given.last() {
        Some(last) if last.is_map() && has_options => given.pop().map(Dynamic::cast::<rhai::Map>).unwrap_or_default(),
        _ => rhai::Map::new(),
    };
    let plain = || command.params.iter().filter(|p| p.need != Need::Optional);
    if given.len() < fewest(command) || given.len() > most(command) {
        return Err(crate::base::Error::usage(format!("takes {} arguments, not {}", usage(command), given.len())));
    }
    if let Some(unknown) =
        options.keys().find(|k| !command.params.iter().any(|p| p.need == Need::Optional && p.name == k.as_str()))
    {
        let error = crate::base::Error::usage(format!("has no option \"{unknown}\""));
        let options = command.params.iter().filter(|param| param.need == Need::Optional);
        return Err(match spelling::nearest(unknown, options.map(|param| param.name)) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        });
    }
    let mut label = command.name.to_string();
    let mut values = Vec::with_capacity(command.params.len());
    // Arguments that may be left out are filled from the left, once the required ones are served.
    let mut spare = given.len() - plain().filter(|p| matches!(p.need, Need::Required | Need::Many)).count();
    let mut given = given.into_iter();
    for param in command.params {
        let value = match param.need {
            Need::Optional => options.get(param.name).cloned(),
            Need::Required | Need::Many => given.next(),
            Need::Any | Need::Maybe if spare > 0 => {
                spare -= 1;
                given.next()
            }
            Need::Any | Need::Maybe => None,
        };
        values.push(match value {
            Some(value) => {
                label.push(' ');
                label.push_str(&convert::short(param, &value));
                Some(convert::to_arg(param, value)?)
            }
            None => None,
        });
    }
    Ok((Args::new(command.params, values), label))
}

fn usage(command: &Command) -> String {
    let name = |p: &Param| p.name.to_uppercase();
    let names: Vec<String> = command.params.iter().filter(|p| p.need != Need::Optional).map(name).collect();
    if names.is_empty() { "no".to_string() } else { format!("({})", names.join(", ")) }
}

fn run(shared: &Shared, command: &Command, args: &Args, label: &str) -> crate::base::Result<Dynamic> {
    let mut session = shared.session.borrow_mut();
    let mut context = Context { session: &mut session, host: shared.host.as_ref() };
    command::run(command, &mut context, args, label).map(convert::from_value)
}
