//! Settings that guestfish scripts make and read back.

use crate::base::{Error, Result};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

/// What is said of settings that only matter to a virtual machine.
pub(super) const NO_EFFECT: &str =
    "Kept and answered for scripts; it has no effect, as imgsh starts no virtual machine.";

/// A command that answers a setting.
macro_rules! get {
    ($name:literal, $summary:literal, $help:expr, $returns:expr, $lines:expr, $output:literal, $run:expr) => {
        Command {
            name: $name,
            aliases: &[],
            summary: $summary,
            help: $help,
            params: &[],
            returns: $returns,
            effect: Effect::Host,
            examples: &[Example { setup: Setup::Nothing, lines: $lines, output: $output }],
            run: $run,
        }
    };
}

/// A command that changes a setting; as in guestfish, what follows `set-` is an alias.
macro_rules! set {
    ($name:literal, $alias:literal, $summary:literal, $help:expr, $param:expr, $lines:literal, $output:literal, $run:expr) => {
        Command {
            name: $name,
            aliases: &[$alias],
            summary: $summary,
            help: $help,
            params: &[$param],
            returns: Returns::Nothing,
            effect: Effect::Session,
            examples: &[Example { setup: Setup::Nothing, lines: $lines, output: $output }],
            run: |cx, args| {
                let run: fn(&mut Context, &Args) -> Result<()> = $run;
                run(cx, args).map(|()| Value::Nothing)
            },
        }
    };
}

pub(super) use {get, set};

/// Keeps the name of a back end, if libguestfs has such a one; the appliance is its direct one.
pub(super) fn set_backend(cx: &mut Context, name: String) -> Result<()> {
    cx.session.settings.backend = match name.as_str() {
        "appliance" => "direct".to_string(),
        "direct" | "libvirt" => name,
        _ if name.starts_with("libvirt:") => name,
        _ => return Err(Error::usage(format!("invalid backend: {name}")).hint("there are direct and libvirt")),
    };
    Ok(())
}

pub(super) const COMMANDS: &[Command] = &[
    get!(
        "get-append",
        "extra kernel arguments",
        NO_EFFECT,
        Returns::Text,
        "set-append a=b\nget-append\n",
        "a=b\n",
        |cx, _| Ok(Value::text(cx.session.settings.append.clone().unwrap_or_else(|| "(null)".to_string())))
    ),
    get!("get-autosync", "whether a clean end commits", "", Returns::Bool, "get-autosync\n", "true\n", |cx, _| Ok(
        Value::Bool(cx.session.settings.autosync)
    )),
    get!("get-backend", "name of the back end", NO_EFFECT, Returns::Text, "get-backend\n", "direct\n", |cx, _| Ok(
        Value::text(cx.session.settings.backend.clone())
    )),
    get!(
        "get-identifier",
        "name of the session in traces",
        "",
        Returns::Text,
        "set-identifier one\nget-identifier\n",
        "one\n",
        |cx, _| Ok(Value::text(cx.session.settings.identifier.clone()))
    ),
    get!(
        "get-memsize",
        "memory of the virtual machine in MiB",
        NO_EFFECT,
        Returns::Int,
        "get-memsize\n",
        "1280\n",
        |cx, _| { Ok(Value::Int(cx.session.settings.memory)) }
    ),
    get!("get-network", "whether the network is on", NO_EFFECT, Returns::Bool, "get-network\n", "false\n", |cx, _| Ok(
        Value::Bool(cx.session.settings.network)
    )),
    get!("get-path", "where the appliance is looked for", NO_EFFECT, Returns::Text, "get-path\n", "\n", |cx, _| Ok(
        Value::text(cx.session.settings.path.clone())
    )),
    get!(
        "get-pgroup",
        "whether a process group of its own is used",
        NO_EFFECT,
        Returns::Bool,
        "get-pgroup\n",
        "false\n",
        |cx, _| { Ok(Value::Bool(cx.session.settings.process_group)) }
    ),
    get!("get-program", "name of the calling program", "", Returns::Text, "get-program\n", "imgsh\n", |cx, _| Ok(
        Value::text(cx.session.settings.program.clone())
    )),
    get!("get-smp", "processors of the virtual machine", NO_EFFECT, Returns::Int, "get-smp\n", "1\n", |cx, _| Ok(
        Value::Int(cx.session.settings.processors)
    )),
    get!("get-trace", "whether commands are traced", "", Returns::Bool, "get-trace\n", "false\n", |cx, _| Ok(
        Value::Bool(cx.session.settings.trace)
    )),
    get!("get-verbose", "whether details are printed", "", Returns::Bool, "get-verbose\n", "false\n", |cx, _| Ok(
        Value::Bool(cx.session.settings.verbose)
    )),
    set!(
        "set-append",
        "append",
        "set extra kernel arguments",
        NO_EFFECT,
        Param::required("append", Kind::Text),
        "set-append a=b\nget-append\n",
        "a=b\n",
        |cx, args| {
            cx.session.settings.append = args.text_if("append").filter(|t| !t.is_empty());
            Ok(())
        }
    ),
    set!(
        "set-autosync",
        "autosync",
        "set whether a clean end commits",
        "With `false` only `commit`, `sync` and `shutdown` make changes permanent.",
        Param::required("autosync", Kind::Bool),
        "set-autosync false\nget-autosync\n",
        "false\n",
        |cx, args| {
            cx.session.settings.autosync = args.bool("autosync");
            Ok(())
        }
    ),
    set!(
        "set-backend",
        "backend",
        "set the back end",
        NO_EFFECT,
        Param::required("backend", Kind::Text),
        "set-backend libvirt\nget-backend\n",
        "libvirt\n",
        |cx, args| set_backend(cx, args.text("backend"))
    ),
    set!(
        "set-identifier",
        "identifier",
        "name the session in traces",
        "",
        Param::required("identifier", Kind::Text),
        "set-identifier one\nget-identifier\n",
        "one\n",
        |cx, args| {
            let name = args.text("identifier");
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
                let wanted = "identifier must contain only alphanumeric characters, underscore or minus sign";
                return Err(Error::usage(wanted));
            }
            cx.session.settings.identifier = name;
            Ok(())
        }
    ),
    set!(
        "set-memsize",
        "memsize",
        "set the memory of the virtual machine in MiB",
        NO_EFFECT,
        Param::required("memsize", Kind::Int),
        "set-memsize 700\nget-memsize\n",
        "700\n",
        |cx, args| {
            let memory = args.int("memsize");
            if memory < 256 {
                return Err(Error::usage("too small value for memsize (must be at least 256)"));
            }
            cx.session.settings.memory = memory;
            Ok(())
        }
    ),
    set!(
        "set-network",
        "network",
        "turn the network on or off",
        NO_EFFECT,
        Param::required("network", Kind::Bool),
        "set-network true\nget-network\n",
        "true\n",
        |cx, args| {
            cx.session.settings.network = args.bool("network");
            Ok(())
        }
    ),
    set!(
        "set-path",
        "path",
        "set where the appliance is looked for",
        NO_EFFECT,
        Param::required("searchpath", Kind::Text),
        "set-path /opt\nget-path\n",
        "/opt\n",
        |cx, args| {
            cx.session.settings.path = args.text("searchpath");
            Ok(())
        }
    ),
    set!(
        "set-pgroup",
        "pgroup",
        "set whether a process group of its own is used",
        NO_EFFECT,
        Param::required("pgroup", Kind::Bool),
        "set-pgroup true\nget-pgroup\n",
        "true\n",
        |cx, args| {
            cx.session.settings.process_group = args.bool("pgroup");
            Ok(())
        }
    ),
    set!(
        "set-program",
        "program",
        "set the name of the calling program",
        "",
        Param::required("program", Kind::Text),
        "set-program backup\nget-program\n",
        "backup\n",
        |cx, args| {
            cx.session.settings.program = args.text("program");
            Ok(())
        }
    ),
    set!(
        "set-smp",
        "smp",
        "set the processors of the virtual machine",
        NO_EFFECT,
        Param::required("smp", Kind::Int),
        "set-smp 2\nget-smp\n",
        "2\n",
        |cx, args| {
            let processors = args.int("smp");
            if processors < 1 {
                return Err(Error::usage(format!("invalid smp parameter: {processors}")));
            }
            if processors > 255 {
                return Err(Error::usage(format!("unsupported number of smp vcpus: {processors}")));
            }
            cx.session.settings.processors = processors;
            Ok(())
        }
    ),
    set!(
        "set-trace",
        "trace",
        "turn tracing of commands on or off",
        "A traced command shows with its arguments and its answer on standard error.",
        Param::required("trace", Kind::Bool),
        "set-trace false\nget-trace\n",
        "false\n",
        |cx, args| {
            cx.session.settings.trace = args.bool("trace");
            Ok(())
        }
    ),
    set!(
        "set-verbose",
        "verbose",
        "turn details on or off",
        "",
        Param::required("verbose", Kind::Bool),
        "set-verbose true\nget-verbose\n",
        "true\n",
        |cx, args| {
            cx.session.settings.verbose = args.bool("verbose");
            Ok(())
        }
    ),
];
