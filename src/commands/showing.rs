//! Commands that show guest files with host programs, and edit parts of them.

use std::io::Read;

use super::content::{Content, content};
use super::reading::MEMORY_LIMIT;
use super::transfer::write_range;
use super::writing::done;
use crate::base::{Error, Kind as ErrorKind, Result, size};
use crate::command::{Args, Command, Context, Effect, Example, Kind, Param, Returns, Setup, Value, reference};

const FILENAME: Param = Param::required("filename", Kind::Path);

/// The most that `hexedit` takes without being told a range.
const HEX_LIMIT: u64 = 16 << 20;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "display",
        aliases: &[],
        summary: "show a picture of the guest",
        help: "With the host program that $GUESTFISH_DISPLAY_IMAGE names, `display` without it; a temporary file's name is \
               appended to it.",
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "setenv GUESTFISH_DISPLAY_IMAGE \"cat\"\nwrite /f hello\ndisplay /f\n",
            output: "hello",
        }],
        run: |cx, args| {
            let path = args.path("filename");
            let picture = cx.session.guest.read_file(&path, MEMORY_LIMIT)?;
            let program = program(cx, "GUESTFISH_DISPLAY_IMAGE", "display");
            // The program only looks: what it may have written into its copy is of no interest.
            cx.host.edit(&program, &path.file_name().map(crate::base::printable).unwrap_or_default(), &picture)?;
            Ok(Value::Nothing)
        },
    },
    Command {
        name: "hexedit",
        aliases: &[],
        summary: "edit bytes of a file or device with a hex editor",
        help: "With the host program that $HEXEDITOR names, `hexedit` without it. `hexedit FILE MAX` takes only the first MAX \
               bytes, `hexedit FILE START MAX` MAX bytes from START on; sizes as 1M. Without a range at most 16 MiB are \
               taken. What was changed is written back to its place.",
        params: &[
            Param::required("filename", Kind::DeviceOrPath),
            Param::maybe("start", Kind::Text),
            Param::maybe("max", Kind::Text),
        ],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "setenv HEXEDITOR \"sed -i s/wor/WOR/\"\nwrite /f \"hello, world\"\nhexedit /f 7 5\ncat /f\n",
            output: "hello, WORld\n",
        }],
        run: hexedit,
    },
    Command {
        name: "less",
        aliases: &[],
        summary: "page a guest file with less",
        help: "",
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "-less /nope\necho ok\n", output: "ok\n" }],
        run: |cx, args| page(cx, args, "less"),
    },
    Command {
        name: "man",
        aliases: &["manual"],
        summary: "page the reference of all commands",
        help: "With the host program that $PAGER names, `more` without it.",
        params: &[],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "setenv PAGER \"head -n 1\"\nman\n",
            output: "# Commands\n",
        }],
        run: |cx, _| done(cx.host.pipe_to(&program(cx, "PAGER", "more"), reference().as_bytes())),
    },
    Command {
        name: "more",
        aliases: &[],
        summary: "page a guest file",
        help: "With the host program that $PAGER names, `more` without it.",
        params: &[FILENAME],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "setenv PAGER cat\nwrite /f \"one\\n\"\nmore /f\n",
            output: "one\n",
        }],
        run: |cx, args| {
            let pager = program(cx, "PAGER", "more");
            page(cx, args, &pager)
        },
    },
];

fn program(cx: &Context, variable: &str, default: &str) -> String {
    cx.host.variable(variable).filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_string())
}

fn page(cx: &mut Context, args: &Args, pager: &str) -> Result<Value> {
    let text = cx.session.guest.read_file(&args.path("filename"), MEMORY_LIMIT)?;
    done(cx.host.pipe_to(pager, &text))
}

fn hexedit(cx: &mut Context, args: &Args) -> Result<Value> {
    let what = content(cx, args, "filename")?;
    let (first, second) = (args.text_if("start"), args.text_if("max"));
    let (start, most) = match (&first, &second) {
        (None, _) => (0, None),
        (Some(most), None) => (0, Some(size::bytes(most)?)),
        (Some(start), Some(most)) => (size::bytes(start)?, Some(size::bytes(most)?)),
    };
    let left = what.len(cx)?.saturating_sub(start);
    let count = most.map_or(left, |most| most.min(left));
    if count > HEX_LIMIT && most.is_none() || count > MEMORY_LIMIT {
        return Err(Error::new(ErrorKind::FileTooBig, format!("{count} bytes are too many to edit at once"))
            .at(what.name())
            .hint("give a range: hexedit FILE START MAX"));
    }
    let mut before = Vec::new();
    what.reader(cx, start)?.take(count).read_to_end(&mut before)?;
    let editor = program(cx, "HEXEDITOR", "hexedit");
    if let Some(after) = cx.host.edit(&editor, "", &before)? {
        if let Content::Device(_) = &what {
            what.open_for_writing(cx, false)?;
        }
        write_range(cx, &what, start, after.len() as u64, &mut after.as_slice())?;
    }
    Ok(Value::Nothing)
}
