//! Commands that move files and trees between host and guest.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::content::{CHUNK, Content, content};
use super::looking::look;
use super::writing::{NEW_FILE, done};
use crate::base::{Error, GuestPathBuf, Kind as ErrorKind, Result, progress};
use crate::command::{Args, Command, Context, Effect, Example, HostFile, Kind, OutFile, Param, Returns, Setup, Value};
use crate::fs::FileType;
use crate::guest::transfer::ImportOptions;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "copy-in",
        aliases: &[],
        summary: "copy host files and trees into a guest directory",
        help: "Each one arrives below REMOTEDIR under its own name, with mode, numeric owner and times; a link stays a link. \
               `FOLDER/.` is what is in a folder, through a link too. Files that are there are replaced, directories are filled.",
        params: &[Param::many("local", Kind::HostPath), Param::required("remotedir", Kind::Path)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "!mkdir -p app/etc && echo a=1 > app/etc/app.conf\ncopy-in app /\nfind /app\ncat /app/etc/app.conf\n",
            output: "/etc\n/etc/app.conf\na=1\n\n",
        }],
        run: copy_in,
    },
    Command {
        name: "copy-out",
        aliases: &[],
        summary: "copy guest files and trees to a host folder",
        help: "Trees come with mode, times and links; with owners only for root. `FOLDER/.` is what is in a folder. Holes of files stay holes. Names that would leave the folder are \
               refused and links are never followed on the host.",
        params: &[Param::many("remote", Kind::Path), Param::required("localdir", Kind::HostPath)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "mkdir /d\nwrite /d/f hello\ncopy-out /d .\n!cat d/f\n",
            output: "hello",
        }],
        run: copy_out,
    },
    Command {
        name: "download",
        aliases: &[],
        summary: "copy a guest file or device to a host file",
        help: "`-` is standard output. Large holes of a file stay holes.",
        params: &[Param::required("remotefilename", Kind::DeviceOrPath), Param::required("filename", Kind::FileOut)],
        returns: Returns::Nothing,
        effect: Effect::Reads,
        examples: &[Example { setup: Setup::Ext4, lines: "write /f \"hello\\n\"\ndownload /f -\n", output: "hello\n" }],
        run: download,
    },
    Command {
        name: "upload",
        aliases: &[],
        summary: "copy a host file to a guest file or device",
        help: "A new file gets mode 0644 and owner root; one that is there keeps its attributes. `-` is standard input, \
               `-<<END` the lines that follow up to END.",
        params: &[Param::required("filename", Kind::FileIn), Param::required("remotefilename", Kind::DeviceOrPath)],
        returns: Returns::Nothing,
        effect: Effect::Writes,
        examples: &[Example {
            setup: Setup::Ext4,
            lines: "upload -<<END /f\none\ntwo\nEND\nread-file /f\n",
            output: "one\ntwo\n",
        }],
        run: upload,
    },
];

/// Opens a host file to read with its size, which a stream of unknown length gets by being spooled.
pub(super) fn open_sized(cx: &Context, file: &HostFile) -> Result<(Box<dyn Read>, u64)> {
    let (mut reader, size) = cx.host.read(file)?;
    match size {
        Some(size) => Ok((reader, size)),
        None => cx.host.spool(&mut reader),
    }
}

fn upload(cx: &mut Context, args: &Args) -> Result<Value> {
    let target = content(cx, args, "remotefilename")?;
    let (mut reader, size) = open_sized(cx, &args.file("filename"))?;
    match target {
        Content::Path(path) => done(cx.session.guest.write_from(&path, size, &mut reader, NEW_FILE)),
        Content::Device(_) => {
            target.open_for_writing(cx, false)?;
            if size > target.len(cx)? {
                return Err(Error::from(ErrorKind::NoSpace).at(target.name()));
            }
            done(write_range(cx, &target, 0, size, &mut reader))
        }
    }
}

/// Writes `size` bytes of a reader from byte `offset` on.
pub(super) fn write_range(
    cx: &mut Context,
    target: &Content,
    offset: u64,
    size: u64,
    reader: &mut dyn Read,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut done = 0;
    while done < size {
        cx.session.guest.check_interrupt()?;
        let count = usize::try_from(size - done).map_or(CHUNK, |left| left.min(buffer.len()));
        let chunk = &mut buffer[..count];
        reader.read_exact(chunk)?;
        let at = offset.checked_add(done).ok_or(ErrorKind::FileTooBig)?;
        target.write_at(cx, at, chunk)?;
        done += count as u64;
    }
    Ok(())
}

fn download(cx: &mut Context, args: &Args) -> Result<Value> {
    let source = content(cx, args, "remotefilename")?;
    done(to_host(cx, &source, 0, u64::MAX, &args.file("filename")))
}

/// Copies up to `count` bytes from byte `offset` on to a host file.
pub(super) fn to_host(cx: &Context, source: &Content, offset: u64, count: u64, file: &HostFile) -> Result<()> {
    // The guest's side first: a missing file leaves the host's alone.
    let end = source.len(cx)?.min(offset.saturating_add(count));
    let holes = source.holes(cx, offset)?;
    let mut at = offset;
    let mut reader = source.reader(cx, at)?;
    progress::expect(end.saturating_sub(offset));
    let mut out = cx.host.write(file)?;
    for hole in holes.into_iter().map(|hole| hole.start.min(end)..hole.end.min(end)).filter(|hole| !hole.is_empty()) {
        pass_on(reader.as_mut(), hole.start - at, out.as_mut(), source)?;
        let length = hole.end - hole.start;
        at = match out.skip(length)? {
            true => {
                progress::add(length);
                reader = source.reader(cx, hole.end)?;
                hole.end
            }
            // They come from the reader as zeros.
            false => hole.start,
        };
    }
    pass_on(reader.as_mut(), end.saturating_sub(at), out.as_mut(), source)?;
    Ok(out.flush()?)
}

/// Writes the next bytes of a reader, up to its end.
fn pass_on(reader: &mut dyn Read, count: u64, out: &mut dyn OutFile, source: &Content) -> Result<()> {
    let mut reader = reader.take(count);
    let mut buffer = vec![0; CHUNK.min(count as usize)];
    loop {
        let count = reader.read(&mut buffer).map_err(|e| Error::from(e).at(source.name()))?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count])?;
    }
}

fn host_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn copy_in(cx: &mut Context, args: &Args) -> Result<Value> {
    let directory = args.path("remotedir");
    let found = look(cx, &directory, true)?;
    if found.is_none_or(|m| m.file_type != FileType::Directory) {
        return Err(Error::new(ErrorKind::NotADirectory, format!("target ‘{directory}’ is not a directory")));
    }
    for local in args.list("local") {
        let path = host_path(local);
        let mut source = cx.host.tree(&path).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::Denied => {
                Error::new(e.kind(), format!("source ‘{}’ does not exist (or cannot be read)", path.display()))
            }
            _ => e,
        })?;
        let options = ImportOptions { sparse: true, ..ImportOptions::default() };
        cx.session.guest.import(&directory, source.as_mut(), &options)?;
    }
    Ok(Value::Nothing)
}

fn copy_out(cx: &mut Context, args: &Args) -> Result<Value> {
    let folder: &Path = args.host("localdir");
    if !cx.host.is_folder(folder) {
        let detail = format!("target ‘{}’ is not a directory", folder.display());
        return Err(Error::new(ErrorKind::NotADirectory, detail));
    }
    for remote in args.list("remote") {
        let path = GuestPathBuf(remote.clone());
        let name = match path.file_name() {
            Some(b"..") => cx.session.guest.realpath(&path)?.file_name().map(<[u8]>::to_vec),
            // What is in a folder comes out, as tar has it.
            _ if path.ends_with(b"/.") => None,
            name => name.map(<[u8]>::to_vec),
        };
        // The root has no name of its own: what is in it comes out into the folder itself.
        let name = GuestPathBuf(name.unwrap_or_default());
        match look(cx, &path, true)?.map(|m| m.file_type) {
            Some(FileType::Directory) => {
                let mut sink = cx.host.folder(folder)?;
                cx.session.guest.export(&path, &name, sink.as_mut())?;
                sink.finish()?;
            }
            Some(FileType::Regular) => {
                let file = HostFile::Path(folder.join(host_path(&name)));
                to_host(cx, &Content::Path(path), 0, u64::MAX, &file)?;
            }
            _ => return Err(Error::new(ErrorKind::NotFound, format!("‘{path}’ is not a file or directory"))),
        }
    }
    Ok(Value::Nothing)
}
