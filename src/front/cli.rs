//! The program's options: guestfish's, and a few of our own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::keys::KeyOption;
use super::output::Output;
use crate::base::spelling;

/// The program's name in its messages.
pub const PROGRAM: &str = "imgsh";

/// A disk, in the order of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// `-a`, with the `--format` in force.
    Image {
        /// The image file.
        path: PathBuf,
        /// Its format; probed if `None`.
        format: Option<String>,
    },
    /// `-N`, as it was written.
    Prepared(String),
}

/// `-m`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOption {
    /// The device.
    pub device: String,
    /// Where, `/` by default.
    pub mountpoint: Vec<u8>,
    /// Options as for mount(8).
    pub options: Option<String>,
    /// File system type.
    pub kind: Option<String>,
}

/// The language of a file of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// guestfish's.
    Guestfish,
    /// Rhai.
    Rhai,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On terminals, unless `NO_COLOR` or a dumb terminal forbids it.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Disks in order.
    pub drives: Vec<Drive>,
    /// Mounts in order.
    pub mounts: Vec<MountOption>,
    /// `-i`.
    pub inspect: bool,
    /// `--ro`.
    pub read_only: bool,
    /// `--rw`, or another image takes the changes: whatever the user's settings say.
    pub read_write: bool,
    /// `-f`.
    pub file: Option<PathBuf>,
    /// `--lang`.
    pub language: Option<Language>,
    /// `-n`: nothing is committed at the end.
    pub no_sync: bool,
    /// `--dry-run`: nothing is committed ever.
    pub dry_run: bool,
    /// `--sandbox`: the host folders that commands may use, where they are confined.
    pub sandbox: Vec<PathBuf>,
    /// `--overlay`, `--copy`.
    pub output: Option<Output>,
    /// `-x`.
    pub trace: bool,
    /// `-v`.
    pub verbose: bool,
    /// `--pipe-error`.
    pub pipe_error: bool,
    /// `--json`.
    pub json: bool,
    /// `--check`: the script to look through.
    pub check: Option<PathBuf>,
    /// `--listen`.
    pub listen: bool,
    /// `--csh`.
    pub csh: bool,
    /// `--key`, in order.
    pub keys: Vec<KeyOption>,
    /// `--keys-from-stdin`.
    pub keys_from_stdin: bool,
    /// `--echo-keys`.
    pub echo_keys: bool,
    /// `--color`.
    pub color: Color,
    /// `init.rhai` is not run: `--no-init`.
    pub no_init: bool,
    /// Long answers at the prompt are paged: not with `--no-pager`.
    pub pager: bool,
    /// Long work is shown: not with `--no-progress-bars`.
    pub progress_bars: bool,
    /// The words left: commands.
    pub words: Vec<Vec<u8>>,
}

/// `batch`: one script on many images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// A script file, or a command line.
    pub script: PathBuf,
    /// The images.
    pub images: Vec<PathBuf>,
    /// Options for the program that each image gets.
    pub options: Vec<OsString>,
    /// `--json`.
    pub json: bool,
}

/// What the program is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run commands.
    Run(Box<Options>),
    /// Print this on standard output and end well.
    Print(String),
    /// `--remote[=PID]`: send these words, or standard input, to a server; `true` is `--keys-from-stdin`.
    Remote(Option<String>, Vec<Vec<u8>>, bool),
    /// `batch SCRIPT IMAGE...`.
    Batch(Batch),
    /// `--definitions FOLDER`: write files for editors there.
    Definitions(PathBuf),
    /// `-h [CMD]`.
    CommandHelp(Option<String>),
    /// Print this on standard error and end with status 1.
    Refuse(String),
}

fn command() -> Command {
    let flag = |name: &'static str, short: Option<char>| {
        let arg = Arg::new(name).long(name).action(ArgAction::SetTrue);
        match short {
            Some(short) => arg.short(short),
            None => arg,
        }
    };
    let valued = |name: &'static str, value: &'static str| {
        Arg::new(name)
            .action(ArgAction::Append)
            .value_name(value)
            .value_parser(clap::value_parser!(OsString))
            .allow_hyphen_values(true)
    };
    Command::new(PROGRAM)
        .about("Edits the inside of virtual-machine images, in-process: no virtual machine, no root.")
        .override_usage("imgsh [OPTIONS] [COMMAND [WORD...] [: COMMAND [WORD...]]...]")
        .after_help(
            "Commands come from the words left, else from the file of -f, else from standard input; at a terminal a\n\
             prompt opens. A run that ends well is written to the images; one that fails changes nothing.\n\
             'imgsh -h' lists the commands, 'imgsh -h COMMAND' explains one.",
        )
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .next_line_help(false)
        .arg(valued("add", "IMAGE").short('a').long("add").help("Attach a disk image"))
        .arg(
            valued("format", "F")
                .long("format")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .help("Format (raw, qcow2) of the -a that follow; without a value it is probed"),
        )
        .arg(valued("mount", "DEV[:MNT[:OPTS]]").short('m').long("mount").help("Mount a file system, on / by default"))
        .arg(flag("inspector", Some('i')).help("Find the operating system and mount its file systems"))
        .arg(
            valued("new", "[FILE=]TYPE[:P...]")
                .short('N')
                .long("new")
                .help("Make a new disk and attach it; -N help lists the types"),
        )
        .arg(flag("ro", Some('r')).help("Attach and mount read-only"))
        .arg(flag("rw", Some('w')).help("Attach and mount for writing (the default)"))
        .arg(
            valued("file", "FILE")
                .short('f')
                .long("file")
                .help("Read commands from a file; FILE.rhai is a Rhai script"),
        )
        .arg(valued("lang", "LANG").long("lang").help("Language of the commands: guestfish or rhai"))
        .arg(
            valued("sandbox", "FOLDER")
                .long("sandbox")
                .help("Let the script use this host folder only (may be given again), and run no programs"),
        )
        .arg(flag("dry-run", None).help("Change no image; say at the end what would have been written"))
        .arg(
            valued("overlay", "FILE")
                .long("overlay")
                .help("Leave the image of -a as it is; FILE becomes a qcow2 image with the differences"),
        )
        .arg(valued("copy", "FILE").long("copy").help("Leave the image of -a as it is; FILE becomes its changed copy"))
        .arg(flag("no-sync", Some('n')).help("Do not write at the end; only commit, sync and shutdown write"))
        .arg(flag("trace", Some('x')).help("Show every command and its answer on standard error"))
        .arg(flag("verbose", Some('v')).help("Say more on standard error"))
        .arg(flag("pipe-error", None).help("A host command that stops reading its pipe is an error"))
        .arg(valued("color", "WHEN").long("color").help("auto, always or never"))
        .arg(flag("no-pager", None).help("Do not show long answers at the prompt with $PAGER"))
        .arg(flag("no-init", None).help("Do not run the user's init.rhai when the prompt starts"))
        .arg(flag("cmd-help", Some('h')).help("List the commands, or explain the one that follows"))
        .arg(flag("help", None).help("Show the options"))
        .arg(flag("version", Some('V')).help("Show the version"))
        .arg(valued("domain", "GUEST").short('d').long("domain").hide(true))
        .arg(valued("connect", "URI").short('c').long("connect").hide(true))
        .arg(flag("json", None).help("Print every answer as one line of JSON, errors as objects"))
        .arg(valued("check", "SCRIPT").long("check").help("Say what is wrong with a script, without any image"))
        .arg(
            valued("definitions", "FOLDER")
                .long("definitions")
                .help("Write definition files for the Rhai language server into a folder of scripts"),
        )
        .arg(flag("listen", None).help("Start a server for --remote and print its number"))
        .arg(flag("csh", None).help("With --listen: print the number in csh's words"))
        .arg(
            valued("key", "SELECTOR:key:PASS")
                .long("key")
                .help("A passphrase, or SELECTOR:file:FILE; SELECTOR is a device, a UUID, a qcow2 image or all"),
        )
        .arg(flag("keys-from-stdin", None).help("Passphrases are lines of standard input"))
        .arg(flag("echo-keys", None).help("Show passphrases while they are typed"))
        .arg(flag("network", None).hide(true))
        .arg(flag("selinux", None).hide(true))
        .arg(flag("progress-bars", None).overrides_with("no-progress-bars").hide(true))
        .arg(
            flag("no-progress-bars", None)
                .overrides_with("progress-bars")
                .help("Do not show on the terminal how far long work is"),
        )
        .arg(flag("no-dest-paths", Some('D')).hide(true))
        .arg(
            valued("blocksize", "N")
                .long("blocksize")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .hide(true),
        )
        .arg(
            valued("remote", "PID")
                .long("remote")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .help("Send the commands to a server of --listen; without PID to $GUESTFISH_PID"),
        )
        .arg(valued("words", "WORD").num_args(0..).allow_hyphen_values(false).hide(true))
}

/// Reads the program's arguments, the program's name first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Request {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return Request::Refuse(as_getopt_says(&error)),
    };
    request(&matches).unwrap_or_else(Request::Refuse)
}

/// A mistake in GNU getopt's words, which scripts may look for.
fn as_getopt_says(error: &clap::Error) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap shows `-a, --add <IMAGE>`-like forms for known options: the first word will do.
    let name = argument.split([' ', ',', '=']).next().unwrap_or_default();
    let what = match (error.kind(), name.strip_prefix("--")) {
        (ErrorKind::UnknownArgument, Some(_)) => format!("unrecognized option '{name}'"),
        (ErrorKind::UnknownArgument, None) => {
            format!("invalid option -- '{}'", name.chars().nth(1).unwrap_or_default())
        }
        (ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues, Some(_)) => {
            format!("option '{name}' requires an argument")
        }
        (ErrorKind::InvalidValue, None) => {
            format!("option requires an argument -- '{}'", name.chars().nth(1).unwrap_or_default())
        }
        (ErrorKind::TooManyValues, _) => format!("option '{name}' doesn't allow an argument"),
        _ => error.to_string().trim_start_matches("error: ").lines().next().unwrap_or_default().to_string(),
    };
    let hint = near_option(name).map(|near| format!("\n  hint: did you mean --{near}?")).unwrap_or_default();
    format!("{PROGRAM}: {what}{hint}\nTry ‘{PROGRAM} --help’ for more information.")
}

/// The option that is nearest to a mistyped one.
fn near_option(typed: &str) -> Option<String> {
    let program = command();
    let options = program.get_arguments().filter(|option| !option.is_hide_set()).filter_map(|option| option.get_long());
    spelling::nearest(typed.strip_prefix("--")?, options).map(str::to_string)
}

fn refuse<T>(text: impl std::fmt::Display) -> Result<T, String> {
    Err(format!("{PROGRAM}: {text}"))
}

fn request(matches: &ArgMatches) -> Result<Request, String> {
    let all = |name: &str| matches.get_many::<OsString>(name).into_iter().flatten();
    let last = |name: &str| all(name).next_back().map(|value| value.to_string_lossy());
    let flag = |name: &str| matches.get_flag(name);
    let mut words: Vec<Vec<u8>> = all("words").map(|word| word.as_bytes().to_vec()).collect();
    if flag("help") {
        return Ok(Request::Print(command().render_help().to_string()));
    }
    if flag("version") {
        return Ok(Request::Print(format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION"))));
    }
    if let Some(folder) = all("definitions").next_back() {
        return Ok(Request::Definitions(folder.into()));
    }
    if flag("cmd-help") {
        return Ok(Request::CommandHelp(words.first().map(|word| String::from_utf8_lossy(word).into_owned())));
    }
    // -c alone only says where -d looks.
    if all("domain").next().is_some() {
        return refuse("libvirt guests are not supported; name the guest's disk image with -a");
    }
    if let Some(pid) = last("remote") {
        let pid = Some(pid.into_owned()).filter(|pid| !pid.is_empty());
        return Ok(Request::Remote(pid, words, flag("keys-from-stdin")));
    }
    if words.first().is_some_and(|word| word == b"batch") {
        return batch(matches, words);
    }
    if flag("listen") && !words.is_empty() {
        return refuse("extra parameters on the command line with --listen flag");
    }
    if flag("listen") && all("file").next().is_some() {
        return refuse("cannot use --listen and --file options at the same time");
    }
    if let Some(size) = all("blocksize").map(|s| s.to_string_lossy()).find(|s| !s.is_empty() && s != "512") {
        return refuse(format!("--blocksize={size} is not supported: disks have sectors of 512 bytes"));
    }
    let keys = all("key").map(|value| KeyOption::parse(value.as_bytes()));
    let keys = keys.collect::<Result<Vec<_>, _>>().or_else(refuse)?;
    let mut drives = drives(matches)?;
    if flag("ro") && flag("rw") {
        return refuse("cannot mix --ro and --rw options");
    }
    if all("file").count() > 1 {
        return refuse("only one -f parameter can be given");
    }
    if flag("inspector") && drives.is_empty() {
        // The old form: the words are the images.
        let image = |word: Vec<u8>| Drive::Image { path: OsString::from_vec(word).into(), format: None };
        drives = std::mem::take(&mut words).into_iter().map(image).collect();
        if drives.is_empty() {
            return refuse("-i needs a disk image; name it with -a");
        }
    }
    let output = output(matches, &drives, flag("ro"), flag("dry-run"))?;
    let mut file: Option<PathBuf> = all("file").next().map(PathBuf::from);
    // A script as the first word.
    if file.is_none() && words.first().is_some_and(|word| word.ends_with(b".rhai")) {
        file = Some(OsString::from_vec(words.remove(0)).into());
    }
    let language = match last("lang").as_deref() {
        None => None,
        Some("guestfish") => Some(Language::Guestfish),
        Some("rhai") => Some(Language::Rhai),
        Some(other) => return refuse(format!("--lang knows guestfish and rhai, not ‘{other}’")),
    };
    let color = match last("color").as_deref() {
        None | Some("auto") => Color::Auto,
        Some("always") => Color::Always,
        Some("never") => Color::Never,
        Some(other) => return refuse(format!("--color knows auto, always and never, not ‘{other}’")),
    };
    Ok(Request::Run(Box::new(Options {
        drives,
        mounts: all("mount").map(|value| mount(value)).collect(),
        inspect: flag("inspector"),
        read_only: flag("ro"),
        read_write: flag("rw") || output.is_some(),
        file,
        language,
        no_sync: flag("no-sync"),
        dry_run: flag("dry-run"),
        sandbox: all("sandbox").map(PathBuf::from).collect(),
        output,
        trace: flag("trace"),
        verbose: flag("verbose"),
        pipe_error: flag("pipe-error"),
        json: flag("json"),
        check: all("check").next().map(PathBuf::from),
        listen: flag("listen"),
        csh: flag("csh"),
        keys,
        keys_from_stdin: flag("keys-from-stdin"),
        echo_keys: flag("echo-keys"),
        color,
        no_init: flag("no-init"),
        pager: !flag("no-pager"),
        progress_bars: !flag("no-progress-bars"),
        words,
    })))
}

/// `batch SCRIPT IMAGE...` with the options that make sense for many images.
fn batch(matches: &ArgMatches, words: Vec<Vec<u8>>) -> Result<Request, String> {
    for other in ["add", "new", "file", "mount", "overlay", "copy"] {
        if matches.contains_id(other) && matches.get_raw(other).is_some() {
            return refuse(format!("--{other} does not go with batch, which takes a script and images as words"));
        }
    }
    let mut words = words.into_iter().skip(1).map(|word| PathBuf::from(OsString::from_vec(word)));
    let Some(script) = words.next() else {
        return refuse("batch needs a script and images: batch SCRIPT IMAGE...");
    };
    let images: Vec<PathBuf> = words.collect();
    if images.is_empty() {
        return refuse("batch needs images: batch SCRIPT IMAGE...");
    }
    let flags = ["ro", "inspector", "dry-run", "no-sync", "verbose"].map(|name| (name, matches.get_flag(name)));
    let mut options = super::batch::passed_on(&flags);
    for name in ["sandbox", "key"] {
        let values = matches.get_many::<OsString>(name).into_iter().flatten();
        options.extend(values.flat_map(|value| [format!("--{name}").into(), value.clone()]));
    }
    Ok(Request::Batch(Batch { script, images, options, json: matches.get_flag("json") }))
}

/// `--overlay` or `--copy`, which go with one image that is to be changed.
fn output(matches: &ArgMatches, drives: &[Drive], read_only: bool, dry_run: bool) -> Result<Option<Output>, String> {
    let all = |name: &str| matches.get_many::<OsString>(name).into_iter().flatten().map(PathBuf::from);
    let mut found: Vec<Output> = all("overlay").map(Output::Overlay).chain(all("copy").map(Output::Copy)).collect();
    match (found.len(), drives) {
        (0, _) => return Ok(None),
        (1, [Drive::Image { .. }]) => {}
        (1, _) => return refuse("--overlay and --copy need exactly one image, named with -a"),
        _ => return refuse("only one --overlay or --copy can be given"),
    }
    if read_only || dry_run {
        return refuse("--overlay and --copy are for changes; leave out --ro and --dry-run");
    }
    Ok(found.pop())
}

/// The disks in the order of the command line; `--format` holds for those that follow it.
fn drives(matches: &ArgMatches) -> Result<Vec<Drive>, String> {
    let mut found: Vec<(usize, &str, &OsString)> = Vec::new();
    for name in ["add", "format", "new"] {
        let values = matches.get_many::<OsString>(name).into_iter().flatten();
        let places = matches.indices_of(name).into_iter().flatten();
        found.extend(places.zip(values).map(|(place, value)| (place, name, value)));
    }
    found.sort_unstable_by_key(|(place, ..)| *place);
    let mut drives = Vec::new();
    let mut format = None;
    let mut used = true;
    for (_, name, value) in found {
        match name {
            "format" => {
                format = (!value.is_empty()).then(|| value.to_string_lossy().into_owned());
                used = false;
            }
            "add" => {
                used = true;
                drives.push(Drive::Image { path: local_file(value)?, format: format.clone() });
            }
            _ => drives.push(Drive::Prepared(value.to_string_lossy().into_owned())),
        }
    }
    match used {
        true => Ok(drives),
        false => refuse("--format parameter must appear before -a parameter"),
    }
}

/// The file of `-a`: a path, or a `file://` URI.
fn local_file(value: &OsStr) -> Result<PathBuf, String> {
    const REMOTE: [&str; 10] = ["http", "https", "ftp", "ftps", "ssh", "nbd", "nbd+unix", "rbd", "iscsi", "gluster"];
    let text = value.to_string_lossy();
    match text.split_once("://") {
        Some(("file", path)) => Ok(PathBuf::from(path)),
        Some((scheme, _)) if REMOTE.contains(&scheme) => {
            refuse(format!("{text}: {scheme} is not supported, only local image files are"))
        }
        _ => Ok(PathBuf::from(value)),
    }
}

fn mount(value: &OsStr) -> MountOption {
    let mut parts = value.as_bytes().splitn(4, |b| *b == b':').map(<[u8]>::to_vec);
    let text = |part: Vec<u8>| String::from_utf8_lossy(&part).into_owned();
    MountOption {
        device: parts.next().map(text).unwrap_or_default(),
        mountpoint: parts.next().unwrap_or_else(|| b"/".to_vec()),
        options: parts.next().map(text),
        kind: parts.next().map(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Request {
        parse(std::iter::once(&PROGRAM).chain(args).map(OsString::from))
    }

    fn options(args: &[&str]) -> Options {
        match parsed(args) {
            Request::Run(options) => *options,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn refused(args: &[&str]) -> String {
        match parsed(args) {
            Request::Refuse(text) => text,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn image(path: &str, format: Option<&str>) -> Drive {
        Drive::Image { path: path.into(), format: format.map(str::to_string) }
    }

    #[test]
    fn drives_and_formats_in_order() {
        let got = options(&["-a", "x", "--format=raw", "-ay", "-N", "disk:1M", "--format", "--add=z", "ls", "/"]);
        assert_eq!(
            got.drives,
            [image("x", None), image("y", Some("raw")), Drive::Prepared("disk:1M".into()), image("z", None)]
        );
        assert_eq!(got.words, [b"ls".as_slice(), b"/"]);
        assert_eq!(refused(&["-a", "x", "--format=raw"]), "imgsh: --format parameter must appear before -a parameter");
        assert_eq!(options(&["-a", "file:///x"]).drives, [image("/x", None)]);
        assert!(refused(&["-a", "nbd://h/x"]).contains("only local image files"));
    }

    #[test]
    fn options_and_words_mix() {
        let got = options(&["echo", "-x", "a", "-r"]);
        assert_eq!((got.words, got.trace, got.read_only), (vec![b"echo".to_vec(), b"a".to_vec()], true, true));
        assert_eq!(options(&["--", "-cat", "-x"]).words, [b"-cat".as_slice(), b"-x"]);
        let got = options(&["-rnvx", "-m", "/dev/sda1:/boot:noatime,ro:ext4", "-m/dev/sda2"]);
        assert_eq!((got.no_sync, got.verbose), (true, true));
        assert_eq!(got.mounts[0].mountpoint, b"/boot");
        assert_eq!(
            (got.mounts[0].options.as_deref(), got.mounts[0].kind.as_deref()),
            (Some("noatime,ro"), Some("ext4"))
        );
        assert_eq!(
            (got.mounts[1].device.as_str(), got.mounts[1].mountpoint.as_slice()),
            ("/dev/sda2", b"/".as_slice())
        );
    }

    #[test]
    fn mistakes_as_getopt_words_them() {
        let tail = "\nTry ‘imgsh --help’ for more information.";
        assert_eq!(refused(&["--bogus"]), format!("imgsh: unrecognized option '--bogus'{tail}"));
        let near = format!("imgsh: unrecognized option '--sandbxo'\n  hint: did you mean --sandbox?{tail}");
        assert_eq!(refused(&["--sandbxo"]), near);
        assert_eq!(refused(&["-Z"]), format!("imgsh: invalid option -- 'Z'{tail}"));
        assert_eq!(refused(&["-a"]), format!("imgsh: option '--add' requires an argument{tail}"));
        assert_eq!(refused(&["--ro", "--rw"]), "imgsh: cannot mix --ro and --rw options");
        assert!(refused(&["-f", "a", "-f", "b"]).contains("only one -f"));
        assert!(refused(&["-d", "guest"]).contains("libvirt"));
        assert_eq!(parsed(&["--remote=5", "ls"]), Request::Remote(Some("5".into()), vec![b"ls".to_vec()], false));
        assert_eq!(parsed(&["--remote"]), Request::Remote(None, Vec::new(), false));
        assert!(refused(&["--listen", "echo", "a"]).contains("extra parameters"));
        assert!(refused(&["--listen", "-f", "a"]).contains("at the same time"));
        assert!(options(&["--csh", "-c", "uri", "--verb"]).csh);
        assert_eq!(parsed(&["--vers"]), parsed(&["--version"]));
        assert!(refused(&["--ver"]).contains("--ver"));
        assert!(refused(&["-i"]).contains("-i needs a disk image"));
    }

    #[test]
    fn outputs() {
        assert_eq!(options(&["-a", "x", "--overlay", "y"]).output, Some(Output::Overlay("y".into())));
        assert_eq!(options(&["--copy", "y", "-a", "x"]).output, Some(Output::Copy("y".into())));
        assert!(refused(&["--copy", "y"]).contains("exactly one image"));
        assert!(refused(&["-a", "x", "--copy", "y", "--overlay", "z"]).contains("only one"));
        assert!(refused(&["-a", "x", "--ro", "--copy", "y"]).contains("leave out --ro"));
    }

    #[test]
    fn old_form_of_inspection_and_scripts() {
        assert_eq!(options(&["-i", "a.img"]).drives, [image("a.img", None)]);
        assert_eq!(options(&["-i", "-a", "a.img", "ll", "/"]).words.len(), 2);
        let got = options(&["-a", "x", "job.rhai", "one", "two"]);
        assert_eq!((got.file, got.words.len()), (Some("job.rhai".into()), 2));
        assert_eq!(parsed(&["-h", "mkdir"]), Request::CommandHelp(Some("mkdir".into())));
        assert!(matches!(parsed(&["--help"]), Request::Print(text) if text.contains("--dry-run")));
    }
}
