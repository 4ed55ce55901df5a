//! Commands of our own on the steps of a session.

use crate::base::Result;
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "changes",
        aliases: &[],
        summary: "what a commit would make permanent",
        help: "Lists the commands since the last commit that changed something, oldest first; `undo` takes back the last \
               one. With `sizes:true` a line a disk follows: how many bytes a commit would write to which image.",
        params: &[Param::optional("sizes", Kind::Bool)],
        returns: Returns::List,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\nchanges\n",
            output: "mkdir /d\nwrite /d/f hello\n",
        }],
        run: changes,
    },
    Command {
        name: "commit",
        aliases: &[],
        summary: "make all changes permanent",
        help: "Each image changes at once or not at all. A script that ends cleanly commits by itself.\n\n\
               With `keep` the state before the commit stays in each (qcow2) image that changes, as an internal snapshot of \
               that name: `disk-snapshot-apply` goes back to it.",
        params: &[Param::optional("keep", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example { setup: Setup::Ext4, lines: "mkdir /d\ncommit\nchanges\n", output: "" }],
        run: |cx, args| {
            let now = cx.host.now();
            match args.text_if("keep") {
                None => cx.launched()?.commit(),
                Some(name) => cx.launched()?.commit_keeping(&name, now),
            }
            .map(|()| Value::Nothing)
        },
    },
    Command {
        name: "rollback",
        aliases: &[],
        summary: "forget all changes since the last commit",
        help: "",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nmkdir /e\nrollback\nls /\n",
            output: "lost+found\n",
        }],
        run: |cx, _| cx.launched()?.rollback().map(|()| Value::Nothing),
    },
    Command {
        name: "undo",
        aliases: &[],
        summary: "take back the last command that changed something",
        help: "Prints the command. May be repeated up to the last commit.",
        params: &[],
        returns: Returns::Text,
        effect: Effect::Session,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nmkdir /e\nundo\nls /\n",
            output: "mkdir /e\nd\nlost+found\n",
        }],
        run: |cx, _| Ok(Value::text(cx.launched()?.undo()?.label)),
    },
];

fn changes(cx: &mut Context, args: &Args) -> Result<Value> {
    let mut lines: Vec<String> = cx.session.steps().iter().map(|step| step.label.clone()).collect();
    if args.bool("sizes") {
        for disk in cx.session.changes()? {
            lines.push(format!("{}: {} bytes in {}", disk.device, disk.bytes, disk.path.display()));
        }
    }
    Ok(Value::list(lines))
}
