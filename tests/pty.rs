//! The prompt, at a pseudo terminal.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rexpect::session::{PtySession, spawn_command};

/// The program at a terminal, with nothing read of what it says.
fn started(folder: &Path, args: &[&str]) -> PtySession {
    started_with(folder, args, &[])
}

fn started_with(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsh"));
    command
        .args(args)
        .current_dir(folder)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .env("HOME", folder)
        .env_remove("XDG_STATE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("PAGER")
        .env_remove("GUESTFISH_PS1")
        .envs(variables.iter().copied());
    spawn_command(command, Some(20_000)).unwrap()
}

fn prompt(folder: &Path, args: &[&str]) -> PtySession {
    let mut session = started(folder, args);
    session.exp_string("quit ends.").unwrap();
    session.exp_string("> ").unwrap();
    session
}

fn with_disk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "disk.img", "16M"])
        .current_dir(folder.path())
        .env("PATH", path)
        .status();
    assert!(made.unwrap().success());
    folder
}

fn type_keys(session: &mut PtySession, keys: &str) {
    session.send(keys).unwrap();
    session.flush().unwrap();
}

#[test]
fn commands_are_completed_and_failures_do_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = prompt(folder.path(), &[]);
    type_keys(&mut p, "ech\t a \"b c\"\r");
    p.exp_string("\na b c\r\n").unwrap();
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, "mkdri /x\r");
    p.exp_string("did you mean mkdir?").unwrap();
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, "ls /\r");
    p.exp_string("libguestfs: error: ls0: call launch").unwrap();
    p.exp_string("imgsh> ").unwrap();
    // Ctrl-C gives a new prompt.
    type_keys(&mut p, "echo lost\x03");
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, "let x = 20 + 1\r");
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, "x * 2\r");
    p.exp_string("\n42\r\n").unwrap();
    type_keys(&mut p, "exit\r");
    p.exp_eof().unwrap();
}

#[test]
fn history_is_kept_but_for_lines_with_a_blank_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = prompt(folder.path(), &[]);
    type_keys(&mut p, "echo kept\r");
    p.exp_string("\nkept\r\n").unwrap();
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, " echo secret\r");
    p.exp_string("\nsecret\r\n").unwrap();
    p.exp_string("imgsh> ").unwrap();
    type_keys(&mut p, "\x04");
    p.exp_eof().unwrap();
    let history = std::fs::read_to_string(folder.path().join(".local/state/imgsh/history")).unwrap();
    assert!(history.contains("echo kept") && !history.contains("secret"), "{history}");
    let mut p = prompt(folder.path(), &[]);
    type_keys(&mut p, "\x1b[A\r");
    p.exp_string("\nkept\r\n").unwrap();
}

#[test]
fn guest_paths_are_completed_and_leaving_asks() {
    let folder = with_disk();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    type_keys(&mut p, "mkdir /some-folder\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "write /some-folder/unlikely-name text\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "cat /som\tunl\t\r");
    p.exp_string("\ntext\r\n").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "quit\r");
    p.exp_string("2 steps are not written").unwrap();
    type_keys(&mut p, "c\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "\x04");
    p.exp_string("2 steps are not written").unwrap();
    type_keys(&mut p, "n\r");
    p.exp_string("nothing was written").unwrap();
    p.exp_eof().unwrap();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    type_keys(&mut p, "mkdir /kept\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "quit\r");
    p.exp_string("1 step is not written").unwrap();
    type_keys(&mut p, "y\r");
    p.exp_eof().unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let list =
        Command::new("debugfs").args(["-R", "ls /", "disk.img"]).current_dir(folder.path()).env("PATH", path).output();
    let list = String::from_utf8_lossy(&list.unwrap().stdout).into_owned();
    assert!(list.contains("kept") && !list.contains("some-folder"), "{list}");
}

#[test]
fn a_paste_runs_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = prompt(folder.path(), &[]);
    type_keys(&mut p, "\x1b[200~echo first\necho second\x1b[201~\r");
    p.exp_string("\nfirst\r\n").unwrap();
    p.exp_string("second\r\n").unwrap();
    p.exp_string("imgsh> ").unwrap();
}

/// A tar archive with one file of 2 MiB, and a pipe with a name that somebody will send it through.
fn slow_archive(folder: &Path) -> Vec<u8> {
    std::fs::write(folder.join("big"), vec![b'x'; 2 << 20]).unwrap();
    for words in [&["tar", "cf", "big.tar", "big"][..], &["mkfifo", "pipe"]] {
        assert!(Command::new(words[0]).args(&words[1..]).current_dir(folder).status().unwrap().success());
    }
    std::fs::read(folder.join("big.tar")).unwrap()
}

#[test]
fn long_work_shows_how_far_it_is() {
    let folder = with_disk();
    let archive = slow_archive(folder.path());
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    type_keys(&mut p, "tar-in pipe /\r");
    let mut pipe = std::fs::OpenOptions::new().write(true).open(folder.path().join("pipe")).unwrap();
    pipe.write_all(&archive[..1 << 20]).unwrap();
    p.exp_string("\rtar-in  1.0 MiB").unwrap();
    pipe.write_all(&archive[1 << 20..]).unwrap();
    drop(pipe);
    // Erased before anything else is written.
    p.exp_string("\r\x1b[K").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "download /big copy\r");
    let before = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(!before.contains("MiB"), "what is quick shows nothing: {before:?}");
    assert_eq!(std::fs::read(folder.path().join("copy")).unwrap().len(), 2 << 20);
}

#[test]
fn an_interrupt_ends_a_copy_and_nothing_else() {
    let folder = with_disk();
    let archive = slow_archive(folder.path());
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda", "--no-progress-bars"]);
    type_keys(&mut p, "mkdir /kept\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "tar-in pipe /kept\r");
    let mut pipe = std::fs::OpenOptions::new().write(true).open(folder.path().join("pipe")).unwrap();
    pipe.write_all(&archive[..1 << 20]).unwrap();
    type_keys(&mut p, "\x03");
    // The terminal turns the key into a signal in its own time; the reader goes away while it is written to.
    for piece in archive[1 << 20..].chunks(64 << 10) {
        std::thread::sleep(Duration::from_millis(20));
        if pipe.write_all(piece).is_err() {
            break;
        }
    }
    drop(pipe);
    let before = p.exp_string("nterrupted").unwrap();
    assert!(!before.contains("MiB"), "{before:?}");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "find /kept\r");
    let found = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(!found.contains("big"), "{found:?}");
    type_keys(&mut p, "changes\r");
    p.exp_string("\nmkdir /kept\r\n").unwrap();
    let steps = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(!steps.contains("tar-in"), "{steps:?}");
}

#[test]
fn an_interrupt_ends_a_loop_in_rhai_and_undo_takes_steps_back() {
    let folder = with_disk();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    type_keys(&mut p, "mkdir(\"/one\"); let turns = 0; loop { turns += 1; if turns == 1000 { print(\"round\"); } }\r");
    p.exp_string("\nround\r\n").unwrap();
    type_keys(&mut p, "\x03");
    p.exp_string("nterrupted").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "print(\"sle\" + \"eps\"); sleep(1000)\r");
    p.exp_string("\nsleeps\r\n").unwrap();
    type_keys(&mut p, "\x03");
    p.exp_string("nterrupted").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "write /two text\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "undo\r");
    p.exp_string("\nwrite /two text\r\n").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "undo\r");
    p.exp_string("mkdir /one\r\n").unwrap();
    p.exp_string("disk.img:sda> ").unwrap();
    type_keys(&mut p, "undo\r");
    p.exp_string("othing").unwrap();
}

#[test]
fn the_user_s_own_definitions_are_there() {
    let folder = with_disk();
    let config = folder.path().join(".config/imgsh");
    std::fs::create_dir_all(&config).unwrap();
    let init = config.join("init.rhai");
    std::fs::write(&init, "fn twice(x) { x * 2 }\nlet answer = 21;\nprint(\"sees \" + ls(\"/\"));\n").unwrap();
    let image = ["-a", "disk.img", "-m", "/dev/sda"];
    let mut p = started(folder.path(), &image);
    p.exp_string("sees [\"lost+found\"]\r\n").unwrap();
    p.exp_string("disk.img:sda> ").unwrap();
    type_keys(&mut p, "twice(answer)\r");
    p.exp_string("\n42\r\n").unwrap();
    // Neither here nor where no prompt opens.
    let mut p = started(folder.path(), &[&image[..], &["--no-init"]].concat());
    let before = p.exp_string("disk.img:sda> ").unwrap();
    assert!(!before.contains("sees"), "{before:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(image)
        .args(["echo", "ready"])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\n", "{output:?}");
    // A mistake does not lock the user out.
    std::fs::write(&init, "let x = ;\n").unwrap();
    let mut p = started(folder.path(), &image);
    p.exp_string("init.rhai:1:9: ").unwrap();
    p.exp_string("--no-init").unwrap();
    p.exp_string("disk.img:sda> ").unwrap();
}

/// What guestfish's users have in their environment: a prompt, and what goes before it, before output and at the end.
#[test]
fn guestfish_s_decorations() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("GUESTFISH_PS1", "<<fish>> "),
        ("GUESTFISH_INIT", "(in\\x69t)"),
        ("GUESTFISH_OUTPUT", "(out)"),
        ("GUESTFISH_RESTORE", "(end)\\n"),
    ];
    let mut p = started_with(folder.path(), &[], &variables);
    p.exp_string("(init)").unwrap();
    p.exp_string("<<fish>> ").unwrap();
    type_keys(&mut p, "echo one\r");
    p.exp_string("(out)one\r\n").unwrap();
    p.exp_string("<<fish>> ").unwrap();
    type_keys(&mut p, "quit\r");
    p.exp_string("(out)(end)\r\n").unwrap();
    p.exp_eof().unwrap();
}

/// Gives the terminal another size; the kernel tells the program with SIGWINCH.
fn resize(session: &PtySession, columns: u16, rows: u16) {
    let terminal = session.process().get_file_handle().unwrap();
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size).unwrap();
}

#[test]
fn long_answers_are_paged() {
    let folder = with_disk();
    let image = ["-a", "disk.img", "-m", "/dev/sda"];
    let mut p = prompt(folder.path(), &image);
    resize(&p, 60, 10);
    for line in ["write /f \"1\\n2\\n3\\n4\\n5\\n6\\n7\\n8\\n9\\n\\x1b[2J\\n\"", "setenv PAGER \"sed s/^/paged:/\""] {
        type_keys(&mut p, &format!("{line}\r"));
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    type_keys(&mut p, "cat /f\r");
    // What the guest's text does to terminals is harmless behind the pager too.
    p.exp_string("paged:1\r\npaged:2\r\n").unwrap();
    p.exp_string("paged:\\x1b[2J\r\n").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "head-n 3 /f\r");
    let short = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(short.contains("\n3\r\n") && !short.contains("paged"), "{short:?}");
    // Neither on a larger terminal nor with cat; a pager that is not there hides nothing.
    resize(&p, 60, 40);
    type_keys(&mut p, "cat /f\r");
    let whole = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(whole.contains("\n9\r\n") && !whole.contains("paged"), "{whole:?}");
    resize(&p, 60, 10);
    for pager in ["cat", "/no/such/program"] {
        type_keys(&mut p, &format!("setenv PAGER {pager}\r"));
        p.exp_string("disk.img:sda*> ").unwrap();
        type_keys(&mut p, "cat /f\r");
        p.exp_string("\n9\r\n\\x1b[2J\r\n").unwrap();
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    let mut p = prompt(folder.path(), &["--no-pager"]);
    resize(&p, 60, 10);
    for line in ["setenv PAGER \"sed s/^/paged:/\"", "help mkdir"] {
        type_keys(&mut p, &format!("{line}\r"));
        let shown = p.exp_string("imgsh> ").unwrap();
        assert!(!shown.contains("paged:NAME"), "{shown:?}");
    }
}

#[test]
fn lines_follow_the_terminal_s_width() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = prompt(folder.path(), &[]);
    resize(&p, 200, 24);
    type_keys(&mut p, &format!("echo {}", "a".repeat(60)));
    p.exp_string(&"a".repeat(60)).unwrap();
    resize(&p, 40, 24);
    // The line is drawn anew when the size changes, and goes on over several rows.
    type_keys(&mut p, "b");
    p.exp_string("b").unwrap();
    type_keys(&mut p, "\x01\x05c\r");
    p.exp_string(&format!("\n{}bc\r\n", "a".repeat(60))).unwrap();
    p.exp_string("imgsh> ").unwrap();
}

#[test]
fn a_pasted_block_of_rhai_and_heredocs_runs() {
    let folder = with_disk();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    let block = "for n in 1..4 {\n  mkdir(\"/d\" + n);\n}\nupload -<<END /f\none\ntwo\nEND\nls /\ncat /f";
    type_keys(&mut p, &format!("\x1b[200~{block}\x1b[201~\r"));
    p.exp_string("\nd1\r\nd2\r\nd3\r\nf\r\n").unwrap();
    p.exp_string("one\r\ntwo\r\n").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    // What fails stops the rest of a paste.
    type_keys(&mut p, "\x1b[200~mkdir /d1\nmkdir /never\x1b[201~\r");
    p.exp_string("File exists").unwrap();
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "is-dir /never\r");
    p.exp_string("\nfalse\r\n").unwrap();
}

#[test]
fn hints_show_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut p = started(folder.path(), &["--color=always"]);
    p.exp_string("quit ends.").unwrap();
    type_keys(&mut p, "copy-in ");
    p.exp_string("\x1b[2mlocal [local...] remotedir\x1b[0m").unwrap();
}

#[test]
fn hostile_names_are_completed_so_that_they_are_read_back() {
    let folder = with_disk();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    for name in ["blank name", "quote\\\"d", "esc\\x1b[2J", "byte\\xff", "d r"] {
        let line = if name == "d r" { format!("mkdir \"/{name}\"") } else { format!("write \"/{name}\" text") };
        type_keys(&mut p, &format!("{line}\r"));
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    for keys in ["cat /bl\t\r", "cat /qu\t\r", "cat /es\t\r", "cat /by\t\r", "cat \"/bl\t\r"] {
        type_keys(&mut p, keys);
        p.exp_string("\ntext\r\n").unwrap();
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    // The quotes stay open behind a folder.
    type_keys(&mut p, "write \"/d r/in side\" deep\r");
    p.exp_string("disk.img:sda*> ").unwrap();
    type_keys(&mut p, "cat /d\ti\t\r");
    p.exp_string("\ndeep\r\n").unwrap();
}

#[test]
fn mistyped_names_are_answered_with_the_nearest() {
    let folder = with_disk();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    for line in ["mkdir /etc", "write /etc/passwd text"] {
        type_keys(&mut p, &format!("{line}\r"));
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    for (line, near) in [
        ("cat /etc/psswd", "did you mean /etc/passwd?"),
        ("cat /ect/passwd", "did you mean /etc/passwd?"),
        ("blockdev-getsz /dev/sdz", "did you mean /dev/sda?"),
        ("is-dir /etc folowsymlinks:true", "did you mean followsymlinks:true|false?"),
        ("is_dir(\"/etc\", #{ folowsymlinks: true })", "did you mean followsymlinks?"),
        ("mkdri(\"/x\")", "did you mean mkdir?"),
    ] {
        type_keys(&mut p, &format!("{line}\r"));
        p.exp_string(near).unwrap();
        p.exp_string("disk.img:sda*> ").unwrap();
    }
    type_keys(&mut p, "cat /entirely-different\r");
    let shown = p.exp_string("disk.img:sda*> ").unwrap();
    assert!(shown.contains("No such file") && !shown.contains("did you mean"), "{shown:?}");
}

#[test]
fn a_session_is_saved_and_run_again() {
    let folder = with_disk();
    let copy = folder.path().join("copy.img");
    std::fs::copy(folder.path().join("disk.img"), &copy).unwrap();
    let mut p = prompt(folder.path(), &["-a", "disk.img", "-m", "/dev/sda"]);
    for line in ["mkdir /d", "mkdir /d", "upload -<<END /d/f", "one", "END", "let x = 1", "chmod 0600 /d/f"] {
        type_keys(&mut p, &format!("{line}\r"));
        p.exp_string("> ").unwrap();
    }
    type_keys(&mut p, "history save s.gfs\r");
    p.exp_string("saved 5 lines in s.gfs; 1 entry in Rhai is left out").unwrap();
    type_keys(&mut p, "history save s.gfs\r");
    p.exp_string("File exists").unwrap();
    type_keys(&mut p, "history\r");
    p.exp_string("mkdir /d\r\nupload -<<END /d/f\r\none\r\nEND\r\nchmod 0600 /d/f\r\n").unwrap();
    type_keys(&mut p, "quit\r");
    p.exp_string("go on (c)?").unwrap();
    type_keys(&mut p, "y\r");
    p.exp_eof().unwrap();
    let shown = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_imgsh")).current_dir(folder.path()).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    shown(&["-a", "copy.img", "-m", "/dev/sda", "-f", "s.gfs"]);
    let list = |image: &str| {
        shown(&["--ro", "-a", image, "-m", "/dev/sda", "find", "/", ":", "cat", "/d/f", ":", "stat", "/d/f"])
    };
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| !line.contains("time")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(text(list("disk.img")), text(list("copy.img")));
}
