//! `imgsh batch SCRIPT IMAGE...`: the same script on many images, side by side, each in a program of its own, so that what
//! happens to one image touches no other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cli::{Batch, PROGRAM};
use crate::base::{Error, Result};
use crate::command::{Field, Record, Value};
use crate::commands;
use crate::shell::json;

/// The most of an image's output that is reported; the rest is cut.
const OUTPUT_MAX: u64 = 4 << 20;
/// The exit status of a script that cannot tell.
const UNKNOWN: i32 = 3;

/// How an image went.
struct Ended {
    /// The exit status; -1 for a program that was killed.
    status: i32,
    output: Vec<u8>,
    errors: Vec<u8>,
}

/// Runs the batch; answers the exit status: 1 if an image failed, else 3 if one could not be judged, else 0.
///
/// # Errors
/// A script that is neither a file nor a command, images given twice, programs that cannot be started.
pub fn run(batch: &Batch) -> Result<u8> {
    let line = match batch.script.is_file() {
        true => None,
        false => Some(command_line(&batch.script)?),
    };
    for (at, image) in batch.images.iter().enumerate() {
        let same = |other: &PathBuf| {
            other == image || (image.exists() && other.canonicalize().ok() == image.canonicalize().ok())
        };
        if batch.images[..at].iter().any(same) {
            return Err(Error::usage("given twice").at(image.display()));
        }
    }
    let program = std::env::current_exe().map_err(|e| Error::io("this program", e))?;
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<Ended>>>> = Mutex::new((0..batch.images.len()).map(|_| None).collect());
    let printed = Mutex::new(0_usize);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(batch.images.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(image) = batch.images.get(at) else { break };
                    let ended = one(&program, batch, image, line.as_deref());
                    if let Ok(mut done) = done.lock() {
                        done[at] = Some(ended);
                    }
                    report(batch, &done, &printed);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_default();
    let status = |wanted: fn(i32) -> bool| done.iter().filter(|d| wanted(status_of(d.as_ref()))).count();
    let (good, unknown) = (status(|s| s == 0), status(|s| s == UNKNOWN));
    let failed = done.len() - good - unknown;
    if !batch.json {
        println!("{} images: {good} good, {failed} failed, {unknown} unknown", done.len());
    }
    Ok(if failed > 0 {
        1
    } else if unknown > 0 {
        3
    } else {
        0
    })
}

fn status_of(ended: Option<&Result<Ended>>) -> i32 {
    match ended {
        Some(Ok(ended)) => ended.status,
        _ => 1,
    }
}

/// A script that is no file may be a line of the guestfish language.
fn command_line(script: &Path) -> Result<Vec<u8>> {
    let text = script.to_string_lossy();
    let name = text.split_whitespace().next().unwrap_or_default();
    match commands::lookup(name) {
        Some(_) => Ok(format!("{text}\n").into_bytes()),
        None => Err(Error::usage("neither a script file nor a command")
            .at(script.display())
            .hint("imgsh batch SCRIPT IMAGE..., where SCRIPT is a file, or a command in quotes")),
    }
}

/// Runs the script on one image.
fn one(program: &Path, batch: &Batch, image: &Path, line: Option<&[u8]>) -> Result<Ended> {
    let spool = || tempfile::tempfile().map_err(|e| Error::io("a temporary file", e));
    let (mut output, mut errors) = (spool()?, spool()?);
    let share = |file: &File| file.try_clone().map(Stdio::from).map_err(|e| Error::io("a temporary file", e));
    let mut command = Command::new(program);
    command.args(&batch.options).arg("-a").arg(image);
    match line {
        Some(_) => command.stdin(Stdio::piped()),
        None => command.arg("-f").arg(&batch.script).stdin(Stdio::null()),
    };
    command.stdout(share(&output)?).stderr(share(&errors)?);
    let mut child = command.spawn().map_err(|e| Error::io(program.display(), e))?;
    if let (Some(line), Some(mut input)) = (line, child.stdin.take()) {
        // A program that ends without reading says why itself.
        let _ = input.write_all(line);
    }
    let status = child.wait().map_err(|e| Error::io(program.display(), e))?;
    Ok(Ended { status: status.code().unwrap_or(-1), output: content(&mut output)?, errors: content(&mut errors)? })
}

fn content(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(OUTPUT_MAX).read_to_end(&mut bytes));
    read.map_err(|e| Error::io("a temporary file", e))?;
    Ok(bytes)
}

/// Prints what is complete, in the order of the images.
fn report(batch: &Batch, done: &Mutex<Vec<Option<Result<Ended>>>>, printed: &Mutex<usize>) {
    let (Ok(mut printed), Ok(done)) = (printed.lock(), done.lock()) else { return };
    let mut out = io::stdout().lock();
    while let Some(Some(ended)) = done.get(*printed) {
        let image = &batch.images[*printed];
        *printed += 1;
        // A reader that has gone is no error of the images.
        let _ = print(batch, image, ended, &mut out);
    }
    let _ = out.flush();
}

fn print(batch: &Batch, image: &Path, ended: &Result<Ended>, out: &mut dyn Write) -> io::Result<()> {
    let (status, output, errors) = match ended {
        Ok(ended) => (ended.status, ended.output.clone(), ended.errors.clone()),
        Err(error) => (1, Vec::new(), format!("{PROGRAM}: {error}\n").into_bytes()),
    };
    if batch.json {
        let name = image.display().to_string();
        let fields = vec![
            ("image", Field::Text(name.into_bytes())),
            ("status", Field::Int(status.into())),
            ("output", Field::Text(output)),
            ("errors", Field::Text(errors)),
        ];
        return json::value(out, &Value::Struct(Record(fields)));
    }
    let word = match status {
        0 => "good".to_string(),
        UNKNOWN => "unknown".to_string(),
        other => format!("failed ({other})"),
    };
    writeln!(out, "== {}: {word}", image.display())?;
    out.write_all(&output)?;
    out.write_all(&errors)
}

/// The options that are passed on to each image's program.
pub fn passed_on(flags: &[(&str, bool)]) -> Vec<OsString> {
    flags.iter().filter(|(_, set)| *set).map(|(name, _)| format!("--{name}").into()).collect()
}
