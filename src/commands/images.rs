//! Commands of our own on image files that are not attached: checks, copies, sizes, internal snapshots.

use super::disks::{format, open, shape, unlock};
use crate::base::{Error, Result, size};
use crate::command::{Args, Command, Context, Effect, Example, Field, Kind, Param, Record, Returns, Setup, Value};
use crate::disk::{self, CreateOptions, Format, qcow2};

const FILENAME: Param = Param::required("filename", Kind::HostPath);
const SNAPSHOT: Param = Param::required("snapshot", Kind::Text);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "disk-check",
        aliases: &[],
        summary: "check the inner books of a qcow2 image",
        help: "Compares the refcounts of the image with what refers to its clusters, and prints what does not agree: \
               leaks (lost space, harmless) and errors (writing may destroy data). Nothing is printed for a clean image; \
               errors that are left are the command's error. With `repair:true` the refcounts are written anew, at once or \
               not at all. This is about the image file; file systems inside have checks of their own.",
        params: &[FILENAME, Param::optional("repair", Kind::Bool)],
        returns: Returns::List,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\ndisk-check disk.qcow2\n",
            output: "",
        }],
        run: check,
    },
    Command {
        name: "disk-convert",
        aliases: &[],
        summary: "copy the disk in an image to a new raw or qcow2 image",
        help: "The copy is whole in itself, without a backing file; zeros become holes. It takes the place of NEWFILE when it \
               is complete. `compress:true` packs the clusters of a qcow2 copy, with `compression` zlib or zstd. The other \
               options are those of `disk-create`.",
        params: &[
            FILENAME,
            Param::required("newfile", Kind::HostPath),
            Param::required("format", Kind::Text),
            Param::optional("compress", Kind::Bool),
            Param::optional("compression", Kind::Text),
            Param::optional("compat", Kind::Text),
            Param::optional("clustersize", Kind::Int),
            Param::optional("refcountbits", Kind::Int),
            Param::optional("subclusters", Kind::Bool),
        ],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.img raw 1M\n\
                    disk-convert disk.img small.qcow2 qcow2 compress:true\n\
                    disk-format small.qcow2\n",
            output: "qcow2\n",
        }],
        run: convert,
    },
    Command {
        name: "disk-resize",
        aliases: &[],
        summary: "make the disk in an image longer or shorter",
        help: "SIZE is a number with a suffix as `512M` or `10G`. New bytes are zeros. What is behind the end of a shorter disk \
               is lost, so that needs `shrink:true`. Partitions and file systems stay as they are. The image must not \
               be attached. An encrypted one that is to end inside a cluster with data needs its key (`--key`).",
        params: &[FILENAME, Param::required("size", Kind::Text), Param::optional("shrink", Kind::Bool)],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\ndisk-resize disk.qcow2 2M\ndisk-virtual-size disk.qcow2\n",
            output: "2097152\n",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            let size = size::bytes(&args.text("size"))?;
            let whole = size.checked_next_multiple_of(512).ok_or(crate::base::Kind::FileTooBig)?;
            let keys = |disk: &dyn disk::Disk| unlock(cx, &path, disk);
            disk::resize(&path, whole, args.bool("shrink"), &keys).map(|()| Value::Nothing)
        },
    },
    Command {
        name: "disk-snapshot-apply",
        aliases: &[],
        summary: "go back to an internal snapshot of a qcow2 image",
        help: "SNAPSHOT is its number or its name. It stays; what was changed since is lost. The image must not be attached.",
        params: &[FILENAME, SNAPSHOT],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\n\
                    disk-snapshot-create disk.qcow2 first\n\
                    disk-resize disk.qcow2 2M\n\
                    disk-snapshot-apply disk.qcow2 first\n\
                    disk-virtual-size disk.qcow2\n",
            output: "1048576\n",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            qcow2::apply_snapshot(&path, &args.text("snapshot")).map(|()| Value::Nothing)
        },
    },
    Command {
        name: "disk-snapshot-create",
        aliases: &[],
        summary: "keep the present state of a qcow2 image as an internal snapshot",
        help: "The image must not be attached; for one that is, `commit keep:NAME` does the same.",
        params: &[FILENAME, Param::required("name", Kind::Text)],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\n\
                    disk-snapshot-create disk.qcow2 first\n\
                    -disk-snapshot-create disk.qcow2 first\n",
            output: "",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            qcow2::create_snapshot(&path, &args.text("name"), cx.host.now()).map(|()| Value::Nothing)
        },
    },
    Command {
        name: "disk-snapshot-delete",
        aliases: &[],
        summary: "delete an internal snapshot of a qcow2 image",
        help: "SNAPSHOT is its number or its name. The image must not be attached.",
        params: &[FILENAME, SNAPSHOT],
        returns: Returns::Nothing,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\n\
                    disk-snapshot-create disk.qcow2 first\n\
                    disk-snapshot-delete disk.qcow2 first\n\
                    disk-snapshot-list disk.qcow2\n",
            output: "",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            qcow2::delete_snapshot(&path, &args.text("snapshot")).map(|()| Value::Nothing)
        },
    },
    Command {
        name: "disk-snapshot-list",
        aliases: &[],
        summary: "the internal snapshots of a qcow2 image",
        help: "Number, name, time (seconds since 1970), size of the disk and of a virtual machine's state, for each.",
        params: &[FILENAME],
        returns: Returns::Structs,
        effect: Effect::Host,
        examples: &[Example {
            setup: Setup::Nothing,
            lines: "disk-create disk.qcow2 qcow2 1M\ndisk-snapshot-list disk.qcow2\n",
            output: "",
        }],
        run: |cx, args| {
            let path = cx.host.absolute(args.host("filename"));
            let record = |s: qcow2::Snapshot| {
                Record(vec![
                    ("id", Field::Text(s.id.into_bytes())),
                    ("name", Field::Text(s.name.into_bytes())),
                    ("time", Field::Int(s.time.seconds.into())),
                    ("disk_size", Field::Int(s.disk_size.into())),
                    ("vm_state_size", Field::Int(s.vm_state.into())),
                ])
            };
            Ok(Value::Structs(qcow2::snapshots(&path)?.into_iter().map(record).collect()))
        },
    },
];

fn check(cx: &mut Context, args: &Args) -> Result<Value> {
    let path = cx.host.absolute(args.host("filename"));
    let report = qcow2::check(&path, args.bool("repair"))?;
    let mut lines = report.examples.clone();
    if report.marked {
        lines.push("the image is marked as dirty or corrupt".into());
    }
    if report.leaks > 0 || report.errors > 0 {
        lines.push(format!("{} leaked clusters, {} errors", report.leaks, report.errors));
    }
    if report.repaired {
        lines.push("repaired".into());
    } else if report.errors > 0 {
        return Err(Error::corrupt(lines.join("; ")).at(path.display()).hint("disk-check IMAGE repair:true mends it"));
    }
    Ok(Value::list(lines))
}

fn convert(cx: &mut Context, args: &Args) -> Result<Value> {
    let source = open(cx, args.host("filename"))?;
    let format = format(&args.text("format"))?;
    let options: CreateOptions = shape(args)?;
    if args.text_if("compression").is_some() && !args.bool("compress") && format == Format::Qcow2 {
        return Err(Error::usage("compression without compress:true packs nothing"));
    }
    let path = cx.host.absolute(args.host("newfile"));
    let going = &mut || !cx.host.interrupted();
    disk::convert::convert_while(source.as_ref(), &path, format, &options, args.bool("compress"), going)?;
    Ok(Value::Nothing)
}
