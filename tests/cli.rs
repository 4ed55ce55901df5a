//! The program from outside: options, the language, messages, exit statuses, and what is written when.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

fn imgsh(folder: &Path, args: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(args)
        .current_dir(folder)
        .env("HOME", "/home/someone")
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("LC_ALL", "C.UTF-8")
        .env_remove("EDITOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let done = std::thread::scope(|scope| {
        // Beside the reading, or two full pipes wait for each other. A program that ends before it has read everything
        // closes the pipe.
        scope.spawn(move || drop(pipe.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { status: done.status.code().unwrap_or(-1), out: text(&done.stdout), err: text(&done.stderr) }
}

/// Lines of the language, without a disk: standard output; they must end well and say nothing else.
fn lines(input: &str) -> String {
    let ran = imgsh(&std::env::temp_dir(), &[], input);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{input}");
    ran.out
}

/// Lines that fail: standard output and error.
fn failing(input: &str) -> (String, String) {
    let ran = imgsh(&std::env::temp_dir(), &[], input);
    assert_eq!(ran.status, 1, "{input}");
    (ran.out, ran.err)
}

/// A program of the host, which must succeed; its output.
fn host(folder: &Path, program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program).args(args).current_dir(folder).env("PATH", path).output();
    let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A folder with `disk.img`: an ext4 file system of 16 MiB without a partition table.
fn with_disk() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    host(folder.path(), "mke2fs", &["-q", "-t", "ext4", "-E", "root_owner=0:0", "disk.img", "16M"]);
    folder
}

const DISK: [&str; 4] = ["-a", "disk.img", "-m", "/dev/sda"];

fn on_disk(folder: &TempDir, more: &[&str], input: &str) -> Ran {
    let args: Vec<&str> = DISK.iter().chain(more).copied().collect();
    imgsh(folder.path(), &args, input)
}

/// What is in the image, by programs that are not ours.
fn judged(folder: &TempDir, path: &str) -> String {
    host(folder.path(), "e2fsck", &["-fn", "disk.img"]);
    host(folder.path(), "debugfs", &["-R", &format!("cat {path}"), "disk.img"])
}

#[test]
fn words_quotes_comments() {
    assert_eq!(
        lines("echo a  b\t\tc\n  # comment\n\n\techo \"a  b\" 'c d' e\"f # x\nECHO last"),
        "a b c\na  b c d e\"f # x\nlast\n"
    );
    assert_eq!(lines("echo ~ ~/x '~' a~ ~no-such-user/x\n"), "/home/someone /home/someone/x ~ a~ ~no-such-user/x\n");
    assert_eq!(lines("echo a\r\n"), "a\r\n");
    assert_eq!(lines("echo a\0b\n"), "a\n");
    assert_eq!(lines("echo \"\\x41\\102\\t\" é\n"), "AB\t é\n");
    let long = "x".repeat(9000);
    let (out, err) = failing(&format!("echo {long}\n"));
    assert_eq!(out.len(), 8191 - 5 + 1);
    assert!(err.starts_with("xxxx") && err.contains(": unknown command"));
}

#[test]
fn broken_lines_obey_the_dash() {
    for (line, message) in [
        ("echo \"a\"b", "command arguments not separated by whitespace"),
        ("echo \"abc", "unterminated double quote"),
        ("echo 'abc", "unterminated single quote"),
        ("echo \"ab\\q\"", "invalid escape sequence in string (starting at offset 2)"),
        ("upload -<< /x", "missing end marker in -<< expression"),
        ("upload -<<END /x\nabc", "end of input reached without finding 'END'"),
    ] {
        assert_eq!(failing(&format!("{line}\n")), (String::new(), format!("imgsh: {message}\n")), "{line}");
    }
    let ran = imgsh(Path::new("/"), &[], "-echo 'abc\n- bogus\necho next\n");
    assert_eq!((ran.status, ran.out.as_str()), (0, "next\n"));
    assert!(ran.err.starts_with("imgsh: unterminated single quote\nbogus: unknown command\n"));
    let many = |count| format!("echo{}\n", " w".repeat(count));
    assert_eq!(lines(&many(63)).len(), 126);
    assert_eq!(failing(&many(64)).1, "imgsh: too many arguments\n");
}

#[test]
fn the_first_failure_ends_a_script() {
    let (out, err) = failing("echo a\nmkdri /x\necho b\n");
    assert_eq!(out, "a\n");
    assert_eq!(err, "mkdri: unknown command\n  hint: did you mean mkdir?\n");
    let (_, err) = failing("zzzzzz\n");
    assert!(err.starts_with("zzzzzz: unknown command\nDid you mean to open a disk image?"), "{err}");
    assert_eq!(lines("echo a\nexit\nbogus\n"), "a\n");
}

#[test]
fn arguments_are_checked() {
    let (_, err) = failing("echo\nmkdir\n");
    assert_eq!(
        err,
        "error: incorrect number of arguments\nusage: mkdir path\ntype 'help mkdir' for more help on mkdir\n"
    );
    let refused = |line: &str| failing(&format!("{line}\n")).1;
    assert_eq!(refused("add x bogus:1"), "add: unknown optional argument \"bogus:1\"\n");
    assert_eq!(refused("add x format:raw format:raw"), "add: optional argument \"format\" given more than once\n");
    assert_eq!(refused("add x readonly:maybe"), "imgsh: 'maybe': invalid boolean value, use 'true' or 'false'\n");
    assert_eq!(refused("chmod 12q /x"), "chmod: mode: invalid integer parameter (xstrtoll returned 2)\n");
    assert_eq!(refused("chmod 5G /x"), "chmod: mode: integer out of range\n");
    assert_eq!(
        refused("mkdir x"),
        "*stdin*:1: libguestfs: error: mkdir: mkdir_stub: path must start with a / character\n"
    );
    assert_eq!(
        refused("# comment\n\nls /"),
        "*stdin*:3: libguestfs: error: ls0: call launch before using this function\n\
         (in guestfish, don't forget to use the 'run' command)\n"
    );
}

#[test]
fn host_commands_pipes_generators() {
    assert_eq!(lines("echo 1\n!echo 2\necho 3\n"), "1\n2\n3\n");
    assert_eq!(lines("echo b a | tr ' ' '\\n' | sort\necho a|b \"|\"\n"), "a\nb\na|b |\n");
    assert_eq!(failing("!exit 3\necho next\n"), (String::new(), String::new()));
    assert_eq!(lines("-!exit 3\necho next\n"), "next\n");
    assert_eq!(lines("<! echo '# c'; echo 'echo \"a  b\" | cat'; echo '-!false'; echo echo last\n").lines().count(), 2);
    let (out, err) = failing("<! echo echo a; exit 1\necho next\n");
    assert!(out == "a\n" && err.starts_with("pclose: "), "{out} {err}");
    // A reader that stops early is no failure, unless it was asked for.
    let flood = format!("echo {}\n", "x".repeat(8000)).repeat(40);
    let flood = format!("<!printf '%s' 'time echo {}'; echo\n", "y".repeat(100)) + &flood;
    assert!(lines(&flood).len() > 300_000);
    assert_eq!(lines("echo a | true\necho next\n"), "next\n");
    // Failing commands fail in pipes too.
    assert_eq!(failing("bogus | cat\necho next\n").0, "");
}

#[test]
fn lines_that_other_commands_run() {
    assert_eq!(lines("glob echo a b*\n"), "a b*\n");
    assert_eq!(lines("time echo a | sed 's/[0-9]/N/g'\n"), "a\nelapsed time: N.NN seconds\n");
    assert!(failing("time bogus\n").1.starts_with("bogus: unknown command\n"));
    assert!(lines("help mkdir\n").starts_with("NAME\n    mkdir - "));
    assert!(lines("help add\n").contains("SYNOPSIS\n     add-drive filename [readonly:true|false] [format:..]"));
    assert!(lines("help --list\n").contains("\nmkdir                "));
    assert!(failing("help mkdri\n").1.contains("did you mean mkdir?"));
}

#[test]
fn words_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| imgsh(folder.path(), args, "");
    let good = |out: &str| Ran { status: 0, out: out.into(), err: String::new() };
    assert_eq!(run(&["echo", "a", ":", "echo", "~", "\"b\"", "|", ":"]), good("a\n~ \"b\" |\n"));
    assert_eq!(run(&["exit", ":", "echo", "a"]), good("a\n"));
    assert_eq!(run(&["--", "echo", "-x"]), good("-x\n"));
    assert_eq!(run(&["--", "-ls", "/", ":", "echo", "a"]).out, "a\n");
    let empty = "imgsh: empty command on command line\n";
    assert_eq!(run(&[":", "echo", "a"]), Ran { status: 1, out: String::new(), err: empty.into() });
    assert_eq!(run(&["echo", "a", ":", ":", "echo", "b"]), Ran { status: 1, out: "a\n".into(), err: empty.into() });
    assert!(run(&["ls", "/"]).err.starts_with("*stdin*:0: libguestfs: error: ls0: call launch"));
    assert!(run(&["disk.img"]).err.contains("Did you mean to open a disk image?"));
    assert_eq!(imgsh(folder.path(), &["lcd", "/", ":", "echo", "a"], "").out, "a\n");
}

#[test]
fn files_of_commands() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), "#!/usr/bin/imgsh -f\necho a\nls /\n").unwrap();
    let ran = imgsh(folder.path(), &["-f", "s"], "");
    assert_eq!((ran.status, ran.out.as_str()), (1, "a\n"));
    assert!(ran.err.starts_with("s:3: libguestfs: error: ls0: "), "{}", ran.err);
    assert_eq!(imgsh(folder.path(), &["-f", "s", "echo", "b"], "").out, "b\n");
    assert_eq!(imgsh(folder.path(), &["-f", "gone"], "").err, "imgsh: gone: No such file or directory\n");
    fs::write(folder.path().join("x.rhai"), "print(`${ARGS[0]} ${1 + 1}`);\nlet a = ;\n").unwrap();
    let ran = imgsh(folder.path(), &["-f", "x.rhai", "one"], "");
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("x.rhai") && ran.err.contains('2'), "{}", ran.err);
    fs::write(folder.path().join("y.rhai"), "print(`${ARGS[0]} ${1 + 1}`);\n").unwrap();
    assert_eq!(imgsh(folder.path(), &["y.rhai", "one"], "").out, "one 2\n");
    assert_eq!(imgsh(folder.path(), &["--lang=guestfish", "-f", "y.rhai"], "").status, 1);
}

#[test]
fn options() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| imgsh(folder.path(), args, "");
    let refused = |args: &[&str]| {
        let ran = run(args);
        assert_eq!((ran.status, ran.out.as_str()), (1, ""), "{args:?}");
        ran.err
    };
    assert_eq!(run(&["--version"]).out, format!("imgsh {}\n", env!("CARGO_PKG_VERSION")));
    assert!(run(&["--help"]).out.contains("--dry-run"));
    assert!(run(&["-h"]).out.contains("\nmkdir "));
    assert!(run(&["-h", "mkdir"]).out.starts_with("NAME\n    mkdir - "));
    assert!(run(&["-N", "help"]).out.contains("fs:TYPE:SIZE:TABLE"));
    assert_eq!(refused(&["-h", "mkdri"]).lines().nth(1), Some("  hint: did you mean mkdir?"));
    let tail = "Try ‘imgsh --help’ for more information.\n";
    assert_eq!(refused(&["--bogus"]), format!("imgsh: unrecognized option '--bogus'\n{tail}"));
    assert_eq!(refused(&["--ro", "--rw"]), "imgsh: cannot mix --ro and --rw options\n");
    assert_eq!(
        refused(&["-a", "x", "--format=raw", "echo"]),
        "imgsh: --format parameter must appear before -a parameter\n"
    );
    assert_eq!(refused(&["-a", "gone.img", "run"]), "imgsh: access: gone.img: No such file or directory\n");
    assert!(
        refused(&["-N", "bogus", "run"])
            .starts_with("imgsh: -N parameter ‘bogus’: no such prepared disk image known.\n")
    );
    assert!(refused(&["-d", "guest", "run"]).contains("-a"));
    assert!(refused(&["--listen", "echo"]).contains("--listen"));
    assert_eq!(
        imgsh(folder.path(), &["-x", "get-pgroup"], "").err,
        "libguestfs: trace: shutdown\nlibguestfs: trace: shutdown = 0\nlibguestfs: trace: close\n"
    );
}

#[test]
fn a_good_end_commits() {
    let folder = with_disk();
    let ran = on_disk(&folder, &[], "upload -<<END /f\none\n  $two \"x\nEND\nls /\ncat /f\n");
    assert_eq!(ran, Ran { status: 0, out: "f\nlost+found\none\n  $two \"x\n\n".into(), err: String::new() });
    assert_eq!(judged(&folder, "/f"), "one\n  $two \"x\n");
    assert_eq!(on_disk(&folder, &["write", "/g", "words", ":", "exit", ":", "cat", "/g"], "").out, "words\n");
    assert_eq!(judged(&folder, "/g"), "words");
}

#[test]
fn a_failure_commits_nothing() {
    let folder = with_disk();
    let before = fs::read(folder.path().join("disk.img")).unwrap();
    let ran = on_disk(&folder, &[], "write /f x\nmkdir /f/d\nwrite /g y\n");
    assert_eq!(ran.status, 1);
    assert_eq!(
        ran.err,
        "*stdin*:2: libguestfs: error: mkdir: /f/d: Not a directory\n\
         imgsh: nothing of the 1 step before the error was written; the images are as they were\n"
    );
    assert!(fs::read(folder.path().join("disk.img")).unwrap() == before, "the image has changed");
    // What was committed stays; a failing command that may fail takes nothing else with it.
    let ran = on_disk(&folder, &[], "write /f x\ncommit\nwrite /g y\nbogus\n");
    assert_eq!(ran.status, 1);
    let ran = on_disk(&folder, &[], "-mkdir /f/d\nwrite /h z\n");
    assert_eq!(ran.status, 0);
    assert_eq!(
        (judged(&folder, "/f"), judged(&folder, "/g"), judged(&folder, "/h")),
        ("x".into(), "".into(), "z".into())
    );
}

/// Blocks that went with a shrink and came back with a growth are not free in the state that is committed: a new file's
/// content must not go there ahead of the commit.
#[test]
fn a_failure_after_resizing_both_ways_leaves_the_image() {
    let folder = TempDir::new().unwrap();
    host(folder.path(), "mke2fs", &["-q", "-t", "ext4", "-b", "1024", "disk.img", "70M"]);
    for before in [
        "fill-dir / 200\numount /\nresize2fs-m /dev/sda\n",
        "umount /\nresize2fs /dev/sda\nmount /dev/sda /\nmkdir /a\nmkdir /b\nmkdir /c\nwrite /c/f hello\n",
    ] {
        let ran = on_disk(&folder, &[], before);
        assert_eq!(ran.status, 0, "{}", ran.err);
    }
    assert_eq!(judged(&folder, "/c/f"), "hello");
    let resized =
        "umount /\nresize2fs-m /dev/sda\nresize2fs-size /dev/sda 24707072\nmount /dev/sda /\nfill 65 12000000 /new\n";
    for (end, status) in [("nope", 1), ("rollback", 0)] {
        assert_eq!(on_disk(&folder, &[], &format!("{resized}{end}\n")).status, status);
        assert_eq!(judged(&folder, "/c/f"), "hello", "{end}");
    }
    let ran = on_disk(&folder, &[], resized);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!((judged(&folder, "/c/f").as_str(), judged(&folder, "/new").len()), ("hello", 12_000_000));
}

/// Bitmaps that call used blocks or the journal free: Linux does not touch such groups, and neither is anything written here.
#[test]
fn bitmaps_that_cannot_be_right_are_not_followed() {
    let folder = TempDir::new().unwrap();
    let debugfs = |script: &str| {
        fs::write(folder.path().join("script"), script).unwrap();
        host(folder.path(), "debugfs", &["-w", "-f", "script", "disk.img"])
    };
    // A block in the middle, where they are in a row.
    let middle_block = |what: &str| -> u32 {
        let blocks = host(folder.path(), "debugfs", &["-R", &format!("blocks {what}"), "disk.img"]);
        let blocks: Vec<&str> = blocks.split_whitespace().collect();
        blocks[blocks.len() / 2].parse().unwrap()
    };
    for (what, count) in [("/big", false), ("<8>", true)] {
        let _ = fs::remove_file(folder.path().join("disk.img"));
        host(
            folder.path(),
            "mke2fs",
            &["-q", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg", "disk.img", "8M"],
        );
        assert_eq!(on_disk(&folder, &[], "fill 66 300000 /big\n").status, 0);
        let block = middle_block(what);
        debugfs(&format!("freeb {block} 100\n"));
        if count {
            // Else the counts differ.
            let text = host(folder.path(), "dumpe2fs", &["disk.img"]);
            let free = text.split(" free blocks").next().unwrap().rsplit(' ').next().unwrap();
            let free: u32 = free.parse().unwrap();
            let free = free + 100;
            debugfs(&format!("set_bg 0 free_blocks_count {free}\nset_super_value free_blocks_count {free}\n"));
        }
        let before = fs::read(folder.path().join("disk.img")).unwrap();
        let words = if count { "are the journal's but marked free" } else { "its descriptor says" };
        // More than is free without the journal's blocks.
        let fill = if count { "fill 67 6500000 /new" } else { "fill 67 6000000 /new" };
        for line in ["fstrim /", "zero-free-space /", fill] {
            let ran = on_disk(&folder, &[], &format!("{line}\n"));
            assert!(ran.status == 1 && ran.err.contains(words), "{what}, {line}: {}", ran.err);
            assert!(fs::read(folder.path().join("disk.img")).unwrap() == before, "{what}, {line}");
        }
    }
}

/// A count that is wrong where a file waits to be removed is mended, too.
#[test]
fn counts_beside_orphans_are_mended() {
    let folder = TempDir::new().unwrap();
    host(folder.path(), "mke2fs", &["-q", "-t", "ext4", "disk.img", "32M"]);
    assert_eq!(on_disk(&folder, &[], "write /f hello\nwrite /g there\n").status, 0);
    let stat = host(folder.path(), "debugfs", &["-R", "stat /f", "disk.img"]);
    let inode = stat.split_whitespace().nth(1).unwrap();
    let script = format!(
        "sif /f links_count 0\nsif /f dtime 0\nunlink /f\nssv last_orphan {inode}\nset_bg 1 free_blocks_count 5000\n\
         set_bg 1 checksum calc\n"
    );
    fs::write(folder.path().join("script"), script).unwrap();
    host(folder.path(), "debugfs", &["-w", "-f", "script", "disk.img"]);
    let ran = imgsh(folder.path(), &["-a", "disk.img", "run", ":", "e2fsck", "/dev/sda", "correct:true"], "");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(judged(&folder, "/g"), "there");
}

/// Values in inodes of their own have hashes that the UUID is part of, with checksums of metadata or without.
#[test]
fn a_new_uuid_is_refused_where_values_would_be_lost() {
    let folder = TempDir::new().unwrap();
    host(folder.path(), "mke2fs", &["-q", "-t", "ext4", "-O", "ea_inode,^metadata_csum", "disk.img", "8M"]);
    let ran = imgsh(folder.path(), &["-a", "disk.img", "run", ":", "set-uuid-random", "/dev/sda"], "");
    assert!(ran.status == 1 && ran.err.contains("'ea_inode'"), "{}", ran.err);
}

/// What a command wrote ahead before it failed takes no space on the host from then on.
#[test]
fn a_failed_command_gives_its_space_back() {
    for format in ["raw", "qcow2"] {
        let dir = TempDir::new().unwrap();
        host(dir.path(), "qemu-img", &["create", "-q", "-f", format, "disk", "256M"]);
        assert_eq!(imgsh(dir.path(), &["-a", "disk"], "run\nmkfs ext4 /dev/sda\n").status, 0);
        fs::write(dir.path().join("large"), vec![1; 20 << 20]).unwrap();
        host(dir.path(), "tar", &["cf", "cut.tar", "large"]);
        fs::File::options().write(true).open(dir.path().join("cut.tar")).unwrap().set_len(15 << 20).unwrap();
        let bytes = fs::read(dir.path().join("disk")).unwrap();
        let ran = imgsh(dir.path(), &["-a", "disk", "-m", "/dev/sda"], "-tar-in cut.tar /\n! du -k disk\nls /\n");
        assert!(ran.status == 0 && ran.err.contains("in the middle of an entry"), "{}", ran.err);
        let kib: u64 = ran.out.split('\t').next().unwrap().parse().unwrap();
        assert!(kib < 2000 && ran.out.ends_with("\tdisk\nlost+found\n"), "{format}: {}", ran.out);
        assert!(fs::read(dir.path().join("disk")).unwrap() == bytes, "{format}");
    }
}

#[test]
fn dry_runs_and_runs_without_sync() {
    let folder = with_disk();
    let before = fs::read(folder.path().join("disk.img")).unwrap();
    let ran = on_disk(&folder, &["--dry-run"], "write /f x\nmkdir \"/a b\"\ncommit\ncat /f\n");
    assert_eq!((ran.status, ran.out.as_str()), (0, "x\n"), "{}", ran.err);
    assert!(ran.err.contains("dry run") && ran.err.contains("  write /f x\n  mkdir \"/a b\"\n"), "{}", ran.err);
    assert!(fs::read(folder.path().join("disk.img")).unwrap() == before, "a dry run wrote");
    let ran = on_disk(&folder, &["-n"], "write /f x\n");
    assert!(ran.status == 0 && ran.err.contains("1 step not written"), "{}", ran.err);
    assert!(fs::read(folder.path().join("disk.img")).unwrap() == before, "-n wrote");
    assert_eq!(on_disk(&folder, &["-n"], "write /f x\nsync\n").err, "");
    assert_eq!(judged(&folder, "/f"), "x");
}

/// Who has told guestfish to be careful is believed here too; `--rw` says otherwise, and so does another file for the changes.
#[test]
fn guestfish_s_settings_can_say_read_only() {
    let folder = with_disk();
    let settings = folder.path().join("config/libguestfs");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("libguestfs-tools.conf"), "# careful\nread_only = true;\n").unwrap();
    let ran = on_disk(&folder, &[], "mkdir /d\n");
    assert!(ran.status == 1 && ran.err.contains("mkdir: /d: Read-only file system"), "{}", ran.err);
    let ran = on_disk(&folder, &["--overlay", "over.qcow2"], "write /in-overlay yes\n");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let ran = on_disk(&folder, &["--rw"], "write /d yes\nexists /in-overlay\n");
    assert_eq!((ran.status, ran.out.as_str()), (0, "false\n"), "{}", ran.err);
    assert_eq!(judged(&folder, "/d"), "yes");
}

#[test]
fn read_only_and_bad_mounts() {
    let folder = with_disk();
    let ran = on_disk(&folder, &["--ro"], "mkdir /d\n");
    assert!(ran.status == 1 && ran.err.contains("mkdir: /d: Read-only file system"), "{}", ran.err);
    let ran = imgsh(folder.path(), &["-a", "disk.img", "-m", "/dev/sdb1", "ls", "/"], "");
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
    assert!(
        ran.err.contains("libguestfs: error: mount: mount_stub: /dev/sdb1: No such file or directory\n"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("/dev/sda (ext4)"), "{}", ran.err);
    let ran = imgsh(folder.path(), &["-a", "disk.img", "-i", "ls", "/"], "");
    assert!(
        ran.status == 1 && ran.err.starts_with("imgsh: no operating system was found on this disk\n"),
        "{}",
        ran.err
    );
}

#[test]
fn files_that_are_no_images() {
    let folder = tempfile::tempdir().unwrap();
    host(folder.path(), "mkfifo", &["pipe"]);
    fs::write(folder.path().join("words.img"), "these are words\n").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for (image, words) in [
        ("missing.img", "imgsh: access: missing.img: No such file or directory\n"),
        ("pipe", "a named pipe cannot be a disk image"),
        ("folder", "Is a directory"),
        ("/dev/zero", "a character device cannot be a disk image"),
    ] {
        let ran = imgsh(folder.path(), &["-a", image, "run"], "");
        assert!(ran.status == 1 && ran.err.contains(words), "{image}: {}", ran.err);
    }
    let ran = imgsh(folder.path(), &["-a", "words.img", "run", ":", "list-filesystems"], "");
    assert_eq!((ran.status, ran.out.as_str()), (0, "/dev/sda: unknown\n"));
    // guestfish's drive for sessions that need none.
    let ran = imgsh(folder.path(), &["-a", "/dev/null", "run", ":", "blockdev-getsize64", "/dev/sda"], "");
    assert_eq!((ran.status, ran.out.as_str()), (0, "4096\n"));
}

#[test]
fn globs_over_the_guest() {
    let folder = with_disk();
    let ran = on_disk(
        &folder,
        &[],
        "touch /b1\ntouch /b2\nmkdir /bd\nglob echo /b* /none* x\n-glob rm /b*\nls /\nglob echo /dev/sd*\n",
    );
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(ran.out, "/b1 /none* x\n/b2 /none* x\n/bd/ /none* x\nbd\nlost+found\n/dev/sda\n");
    assert!(ran.err.contains("Is a directory"), "{}", ran.err);
}

/// What a partition has grown over is not free in the state that is committed either.
#[test]
fn a_failure_after_growing_over_another_partition_leaves_the_image() {
    let folder = TempDir::new().unwrap();
    host(folder.path(), "truncate", &["-s", "64M", "disk.img"]);
    let make = "run\npart-init /dev/sda mbr\npart-add /dev/sda p 2048 34815\npart-add /dev/sda p 34816 131071\n\
                mkfs ext4 /dev/sda1\nmkfs ext4 /dev/sda2\nmount /dev/sda2 /\nfill 97 20000000 /data\n";
    let ran = imgsh(folder.path(), &["-a", "disk.img"], make);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let before = fs::read(folder.path().join("disk.img")).unwrap();
    let grow = "run\npart-del /dev/sda 2\npart-resize /dev/sda 1 -1\nresize2fs /dev/sda1\nmount /dev/sda1 /\n\
                fill 98 40000000 /big\nnope\n";
    assert_eq!(imgsh(folder.path(), &["-a", "disk.img"], grow).status, 1);
    let old = 17 << 20;
    assert!(fs::read(folder.path().join("disk.img")).unwrap()[old..] == before[old..]);
}

/// The logical volume of [`volumes_grow_while_they_are_mounted`], by programs that are not ours: it lies in one piece behind the
/// first MiB.
fn judged_volume(folder: &TempDir, mebibytes: u32, path: &str) -> String {
    host(folder.path(), "qemu-img", &["convert", "-O", "raw", "disk", "whole.img"]);
    let count = format!("count={mebibytes}");
    host(folder.path(), "dd", &["if=whole.img", "of=disk.img", "bs=1M", "skip=1", &count, "status=none"]);
    judged(folder, path)
}

#[test]
fn volumes_grow_while_they_are_mounted() {
    for format in ["raw", "qcow2"] {
        let folder = TempDir::new().unwrap();
        host(folder.path(), "qemu-img", &["create", "-q", "-f", format, "disk", "64M"]);
        let run = |input: &str| imgsh(folder.path(), &[&format!("--format={format}"), "-a", "disk"], input);
        let ran = run("run\npvcreate /dev/sda\nvgcreate vg /dev/sda\nlvcreate root vg 16\nmkfs ext4 /dev/vg/root\n\
                       mount /dev/vg/root /\nwrite /kept kept\nmkdir /d\n");
        assert_eq!(ran.status, 0, "{}", ran.err);
        let grow = "run\nmount /dev/vg/root /\nwrite /d/a a\nlvresize /dev/vg/root 40\nwrite /d/b b\n\
                    resize2fs /dev/vg/root\nfill 65 30000000 /d/big\n";
        assert_eq!(run(&format!("{grow}nope\n")).status, 1);
        assert_eq!(judged_volume(&folder, 16, "/kept"), "kept");

        // The way back, a step at a time: what is mounted stays so, and works.
        let look = "mounts\nblockdev-getsize64 /dev/vg/root\nfind /d\n";
        let lines = format!("{grow}undo\nundo\n{look}undo\nundo\n{look}write /d/c c\ncat /kept\nrollback\n{look}");
        let ran = run(&lines);
        let (long, short) = ("/dev/vg/root\n41943040\n/a\n/b\n", "/dev/vg/root\n16777216\n/a\n");
        assert_eq!((ran.status, ran.err.contains("unmounted")), (0, false), "{}", ran.err);
        let (two, more) =
            ("fill 65 30000000 /d/big\nresize2fs /dev/vg/root\n", "write /d/b b\nlvresize /dev/vg/root 40\n");
        assert_eq!(ran.out, format!("{two}{long}{more}{short}kept\n/dev/vg/root\n16777216\n"), "{}", ran.err);
        assert_eq!(judged_volume(&folder, 16, "/kept"), "kept");

        // Refused: smaller than it is, and longer than its device.
        let ran = run("run\nmount /dev/vg/root /\n-lvresize /dev/vg/root 12\n-resize2fs-size /dev/vg/root 12M\n\
                       -resize2fs-size /dev/vg/root 20M\nls /d\n");
        assert_eq!((ran.status, ran.out.as_str()), (0, ""), "{}", ran.err);
        assert!(ran.err.contains("not made smaller") && ran.err.contains("On-line shrinking"), "{}", ran.err);
        assert_eq!(judged_volume(&folder, 16, "/kept"), "kept");

        // Commits in between, and writes before, between and behind.
        let ran =
            run(&grow.replace("write /d/b b\n", "commit\nwrite /d/b b\ncommit\n").replace("fill", "commit\nfill"));
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(judged_volume(&folder, 40, "/d/a") + &judged(&folder, "/d/b"), "ab");
        assert_eq!(judged(&folder, "/d/big").len(), 30_000_000);
        let ran = run(&format!(
            "{}write /d/c c\n",
            grow.replace("40", "44").replace("big", "more").replace("30000000", "3000000")
        ));
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert_eq!(judged_volume(&folder, 44, "/d/c"), "c");
        assert_eq!(judged(&folder, "/d/more").len(), 3_000_000);
    }
}

#[test]
fn free_space_is_named_by_a_directory() {
    let folder = with_disk();
    let lines =
        "write /f x\n-fstrim /f\n-zero-free-space /f\n-scrub-freespace /f\nscrub-freespace /new\nfstrim /lost+found/\n";
    let ran = on_disk(&folder, &[], lines);
    assert_eq!((ran.status, ran.err.matches("/f: Not a directory").count()), (0, 2), "{}", ran.err);
    assert!(ran.err.contains("/f: scrub: -X directory already exists"), "{}", ran.err);
    assert_eq!(
        (judged(&folder, "/f").as_str(), on_disk(&folder, &[], "ls /\n").out.as_str()),
        ("x", "f\nlost+found\n")
    );
}

#[test]
fn trees_in_and_out() {
    let folder = with_disk();
    let make = "mkdir -p in/sub && echo a > in/a && ln in/a in/hard && ln -s /etc/passwd in/link && \
                mkfifo in/fifo && chmod 2751 in/sub && truncate -s 300k in/sparse && touch -d @1000000000 in/a in/sub";
    host(folder.path(), "sh", &["-c", make]);
    let ran = on_disk(&folder, &[], "copy-in in /\nmkdir /out\ncopy-in in/a in/link /out\nfind /\n");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(judged(&folder, "/in/hard"), "a\n");
    host(folder.path(), "mkdir", &["back"]);
    let ran = on_disk(&folder, &[], "copy-out /in back\ncopy-out /out/a .\n");
    assert_eq!(ran.status, 0, "{}", ran.err);
    let list = "cd $1 && find . -printf '%p %y %m %s %l %n\\n' | grep -v ' d ' | sort; stat -c '%Y' a sub; cmp a $2";
    let other = folder.path().join("in/a");
    let other = other.to_str().unwrap();
    assert_eq!(
        host(folder.path(), "sh", &["-c", list, "sh", "back/in", other]),
        host(folder.path(), "sh", &["-c", list, "sh", "in", other])
    );
    assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "a\n");
}

#[test]
fn names_that_lead_outside_stay_inside() {
    let folder = with_disk();
    host(folder.path(), "sh", &["-c", "mkdir -p t/evil && echo guest > t/evil/f && ln -s ../../outside t/link"]);
    assert_eq!(on_disk(&folder, &[], "copy-in t /\n").err, "");
    host(folder.path(), "sh", &["-c", "mkdir outside back back/t && ln -s ../../outside back/t/evil"]);
    // A link that stands where a folder comes is replaced, never entered.
    let ran = on_disk(&folder, &["copy-out", "/t", "back"], "");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(folder.path().join("back/t/evil/f")).unwrap(), "guest\n");
}

#[test]
fn editors() {
    let folder = with_disk();
    let edit = |editor: &str, lines: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imgsh"))
            .args(DISK)
            .current_dir(folder.path())
            .env("EDITOR", editor)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!(edit("echo added >>", "write /f \"one\\n\"\nchmod 0600 /f\nedit /f\n"), Some(0));
    assert_eq!(judged(&folder, "/f"), "one\nadded\n");
    assert!(host(folder.path(), "debugfs", &["-R", "stat /f", "disk.img"]).contains("Mode:  0600"));
    assert_eq!(edit("false", "edit /f\n"), Some(1));
    assert_eq!(judged(&folder, "/f"), "one\nadded\n");
}

#[test]
fn the_sandbox() {
    let folder = with_disk();
    let at = |name: &str| folder.path().join(name);
    host(
        folder.path(),
        "sh",
        &["-c", "mkdir open && echo secret > secret && echo fine > open/fine && ln -s ../secret open/link"],
    );
    host(folder.path(), "qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "secret", "thief.qcow2"]);
    host(folder.path(), "qemu-img", &["create", "-q", "-f", "raw", "open/disk.raw", "1M"]);
    let sandbox = ["--sandbox", "open"];
    let ran = on_disk(&folder, &sandbox, "upload open/fine /fine\ncopy-in open/fine /etc-\ndownload /fine open/copy\n");
    assert!(ran.err.contains("/etc-"), "{}", ran.err);
    let ran =
        on_disk(&folder, &sandbox, "upload open/fine /fine\ndownload /fine open/copy\nlcd open\nupload fine /f\n");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert_eq!(fs::read(at("open/copy")).unwrap(), b"fine\n");
    for line in [
        "upload secret /s",
        "upload open/link /s",
        "upload /etc/passwd /s",
        "upload open/../secret /s",
        "download /fine stolen",
        "copy-in /etc /",
        "copy-out /fine .",
        "tar-out / stolen.tar",
        "lcd /",
        "add /etc/passwd",
        "disk-create stolen.raw raw 1M",
        "disk-create open/o.qcow2 qcow2 -1 backingfile:../secret backingformat:raw",
        "disk-create open/o.qcow2 qcow2 1M datafile:../stolen",
        "disk-convert secret open/copy.qcow2 qcow2",
        "disk-convert thief.qcow2 open/copy.raw raw",
        "disk-info secret",
        "seed-make stolen vfat:true",
        "seed-read secret",
        "diff-image thief.qcow2",
        "!echo stolen > stolen",
        "<!echo echo stolen",
        "echo hello | cat",
        "edit /fine",
    ] {
        let ran = on_disk(&folder, &sandbox, &format!("{line}\n"));
        assert!(ran.status == 1 && ran.err.contains("the sandbox"), "{line}: {ran:?}");
        assert!(!at("stolen").exists() && !at("stolen.raw").exists() && !at("stolen.tar").exists(), "{line}");
    }
    let ran = imgsh(folder.path(), &["--sandbox", "open", "-a", "thief.qcow2"], "run\n");
    assert!(ran.status == 1 && ran.err.contains("secret: the sandbox"), "{ran:?}");
    fs::write(at("script.rhai"), "import \"secret\" as s;\n").unwrap();
    let ran = imgsh(folder.path(), &["--sandbox", "open", "-f", "script.rhai"], "");
    assert!(ran.status == 1 && ran.err.contains("the sandbox"), "{ran:?}");
}
