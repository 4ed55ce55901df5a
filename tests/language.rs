//! The rarer parts of the language, from outside: remote control, events, JSON, checks, refusals.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_imgsh");

fn imgsh(folder: &Path, args: &[&str], lines: &str) -> Output {
    fs::write(folder.join("stdin"), lines).unwrap();
    Command::new(PROGRAM)
        .args(args)
        .current_dir(folder)
        .env_remove("GUESTFISH_PID")
        .stdin(fs::File::open(folder.join("stdin")).unwrap())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a shell script. What it says goes through a file: a server that outlived a failed test would keep a pipe open.
fn shell(folder: &Path, script: &str) -> Output {
    let script = format!("exec 2>stderr\n{script}");
    let mut done = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .env("IMGSH", PROGRAM)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    done.stderr = fs::read(folder.join("stderr")).unwrap();
    done
}

#[test]
fn a_disk_is_made_through_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let done = shell(
        folder.path(),
        "eval \"$(\"$IMGSH\" --listen)\"; g() { \"$IMGSH\" --remote -- \"$@\"; }\n\
         g sparse r.img 32M; g run; g mkfs ext4 /dev/sda; g mount /dev/sda /; g write /f 'hello world'\n\
         echo \"got $(g cat /f)\"; g -cat /nope; g ls / : filesize /f\n\
         printf 'upload -<<E /g\\none\\nE\\ncat /g | tr a-z A-Z\\n' | \"$IMGSH\" --remote=$GUESTFISH_PID\n\
         g exit; g ls /; echo status $?",
    );
    assert_eq!(out(&done), "got hello world\nf\nlost+found\n11\nONE\n\nstatus 1\n", "{}", err(&done));
    assert_eq!(
        err(&done),
        "libguestfs: error: download: /nope: No such file or directory\nimgsh: remote: looks like the server is not running\n"
    );
    // What the server committed, as somebody else's program sees it.
    let judge = shell(
        folder.path(),
        "PATH=$PATH:/sbin:/usr/sbin; e2fsck -fn r.img >&2 && debugfs -R 'cat /f' r.img 2>/dev/null",
    );
    assert!(judge.status.success(), "{}", err(&judge));
    assert_eq!(out(&judge), "hello world");
}

#[test]
fn a_server_ends_with_a_failure_and_needs_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let done = shell(
        folder.path(),
        "\"$IMGSH\" --listen --csh > csh; sed 's/[0-9]*$/N/' csh; GUESTFISH_PID=$(sed 's/[^0-9]//g' csh); export GUESTFISH_PID\n\
         \"$IMGSH\" --remote bogus; echo status $?; \"$IMGSH\" --remote echo x; echo status $?",
    );
    assert_eq!(out(&done), "setenv GUESTFISH_PID N\nstatus 1\nstatus 1\n", "{}", err(&done));
    let done = imgsh(folder.path(), &["--remote", "ls"], "");
    assert_eq!(err(&done), "imgsh: remote: $GUESTFISH_PID must be set to the PID of the remote process\n");
    let done = imgsh(folder.path(), &["--listen", "-a", "nope.img"], "");
    assert!(!done.status.success() && out(&done).is_empty(), "{}", err(&done));
}

#[test]
fn events_and_not_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "event e1 close,enter \"echo $EVENT $1\"\nlist-events\nnot launch\ndelete-event e1\n-delete-event e1\n\
                 -event a bogus x\n-not echo a\nnot bogus\n";
    let done = imgsh(folder.path(), &[], lines);
    assert_eq!(out(&done), "\"e1\" (0): close,enter: echo $EVENT $1\nenter launch\na\n", "{}", err(&done));
    assert!(
        err(&done).contains("delete-event: e1: no such event handler\nunknown event name: bogus\n"),
        "{}",
        err(&done)
    );
    assert!(err(&done).ends_with("bogus: unknown command\n") && !done.status.success(), "{}", err(&done));
}

#[test]
fn json_has_one_value_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "mkdir /d\nls /\nstat /d | grep -c blksize\n-cat /nope\necho \"a\\\"b\"\n";
    let done = imgsh(folder.path(), &["--json", "-N", "t.img=fs:ext4:16M", "-m", "/dev/sda1"], lines);
    let lines: Vec<String> = out(&done).lines().map(str::to_string).collect();
    // The commands of -N and -m themselves are answered too.
    let own = &lines[lines.len() - 5..];
    assert_eq!(own[0], "null");
    assert_eq!(own[1], "[\"d\", \"lost+found\"]");
    assert_eq!(own[2], "1");
    assert!(own[3].starts_with("{\"error\": {\"message\": \"download: /nope: No such file"), "{}", own[3]);
    assert_eq!(own[4], "\"a\\\"b\"");
}

#[test]
fn scripts_are_checked_without_an_image() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad"), "add x.img\nls /\nrun\nmount /dev/sda1 /\nmkdirr /x\nchmod 755 /f\n").unwrap();
    let done = imgsh(folder.path(), &["--check", "bad"], "");
    assert!(!done.status.success());
    assert!(err(&done).starts_with("bad:2:1: ls: 'run' must come before this\n  ls /\n  ^\n"), "{}", err(&done));
    assert!(
        err(&done)
            .contains("bad:6:7: the mode 755 is read as a decimal number: write 0755\n  chmod 755 /f\n        ^\n")
    );
    fs::write(folder.path().join("good"), "add x.img\nrun\nmount /dev/sda1 /\nls /\n").unwrap();
    assert!(imgsh(folder.path(), &["--check", "good"], "").status.success());
}

#[test]
fn what_cannot_be_done_says_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    let done = imgsh(folder.path(), &[], "-sh \"ls /\"\n-aug-init / 0\n-hivex_open /x\nhelp sh | head -n 2\n");
    assert_eq!(out(&done), "NAME\n    sh - not supported\n");
    assert!(
        err(&done).contains("*stdin*:1: libguestfs: error: sh: programs of the guest cannot run"),
        "{}",
        err(&done)
    );
    assert!(
        err(&done).contains("firstboot") && err(&done).contains("hivex_open: Windows registries"),
        "{}",
        err(&done)
    );
}

#[test]
fn passwords_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "mkdir /etc\nwrite /etc/passwd \"root:x:0:0::/:/bin/sh\\n\"\nwrite /etc/shadow \"root:*:1:0:9:7:::\\n\"\n\
                 set-password root password:hunter2\nchanges\n";
    let done = imgsh(folder.path(), &["-x", "-N", "t.img=fs:ext4:16M", "-m", "/dev/sda1"], lines);
    assert!(done.status.success() && out(&done).contains("set-password root password:***"), "{}", out(&done));
    assert!(!out(&done).contains("hunter2") && !err(&done).contains("hunter2"), "{}", err(&done));
    // The hash that was stored, made again by another program.
    let line = imgsh(folder.path(), &["-a", "t.img", "--ro", "-m", "/dev/sda1", "read-file", "/etc/shadow"], "");
    let text = out(&line);
    let salt = text.split('$').nth(2).unwrap();
    let judge = shell(folder.path(), &format!("openssl passwd -6 -salt '{salt}' hunter2"));
    match judge.status.success() {
        true => assert!(text.starts_with(&format!("root:{}:", out(&judge).trim())), "{text}"),
        false => eprintln!("skipped: openssl is not there"),
    }
}

#[test]
fn archives_as_other_programs_read_and_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let prepare = "mkdir t; cd t; mkdir d; seq 20000 > d/n; ln d/n d/m; ln -s n d/l; : > d/e; cd ..\n\
                   for z in bzip2 xz lzma zstd gzip; do tar cf - -C t . | $z -c > t.$z || echo no $z >&2; done; tar cf t.tar -C t .";
    let made = shell(folder.path(), prepare);
    for missing in err(&made).lines().filter(|line| line.starts_with("no ")) {
        eprintln!("skipped: {missing}");
    }
    let sum = out(&shell(folder.path(), "md5sum < t/d/n | cut -c 1-32"));
    let mut lines = String::from("tar-in t.tar /\ncpio-out /d out.cpio\ncpio-out /d crc.cpio format:crc\n");
    for name in ["bzip2", "xz", "lzma", "zstd", "gzip"] {
        if fs::metadata(folder.path().join(format!("t.{name}"))).is_ok_and(|m| m.len() > 100) {
            lines.push_str(&format!(
                "mkdir /{name}\ntar-in t.{name} /{name} compress:{name}\nchecksum md5 /{name}/d/n\n\
                 compress-out {name} /d/n n.{name}\n!{name} -dc < n.{name} | md5sum | cut -c 1-32\n\
                 tar-out /{name} - compress:{name} | {name} -dc | tar xOf - ./d/m | md5sum | cut -c 1-32\n"
            ));
        }
    }
    let done = imgsh(folder.path(), &["-N", "t.img=fs:ext4:32M", "-m", "/dev/sda1"], &lines);
    assert!(done.status.success(), "{}", err(&done));
    let sums: Vec<String> = out(&done).lines().map(str::to_string).collect();
    assert!(sums.len() >= 3 && sums.iter().all(|line| *line == sum.trim()), "{sums:?} {sum}");
    let judge = shell(
        folder.path(),
        "command -v cpio >/dev/null || exit 9; for a in out crc; do mkdir x$a; (cd x$a && cpio -id < ../$a.cpio) || exit 1\n\
         cmp x$a/n t/d/n && cmp x$a/m t/d/n && test \"$(readlink x$a/l)\" = n && test -f x$a/e || exit 1\n\
         test $(stat -c %h x$a/n) = 2 || exit 1; done",
    );
    match judge.status.code() {
        Some(9) => eprintln!("skipped: cpio is not there"),
        code => assert_eq!(code, Some(0), "{}", err(&judge)),
    }
}

#[test]
fn scripts_run_lines() {
    let folder = tempfile::tempdir().unwrap();
    let script = r##"
        fn caught(line) {
            try { run_line(line); return "nothing"; } catch (e) { return e.command + "|" + e.message + "|" + e.hint; }
        }
        print(run_line("echo 'a  b' \"c\\n\""));
        write("/x", "one\n");
        print(run_line("# a remark\n-rm /none\ncat /x\nupload -<<END /y\n1\nEND\nread-file /y"));
        print(cat("/y"));
        print(run_line("!echo host") + run_line("<!echo echo generated") + run_line("time echo t").contains("elapsed"));
        print(caught("mkdir /a/b"));
        print(caught("mkdri /a"));
        print(caught("quit"));
        print(caught("cat /x | wc -c"));
        print(caught("!false"));
        print(type_of(run_line("read-file /bytes")) + " " + type_of(run_line("touch /z")));
        mkdir_p("/var/log");
        write("/var/log/a", "text");
        run_line("truncate-logs");
        print(filesize("/var/log/a"));
        run_line("undo");
        print(filesize("/var/log/a"));
    "##;
    fs::write(folder.path().join("lines.rhai"), script).unwrap();
    let make =
        "disk-create d.img raw 32M\nadd d.img\nrun\nmkfs ext4 /dev/sda\nmount /dev/sda /\nwrite /bytes \"\\xff\"\n";
    assert!(imgsh(folder.path(), &[], make).status.success());
    let done = imgsh(folder.path(), &["-a", "d.img", "-m", "/dev/sda", "lines.rhai"], "");
    let wanted = [
        "a  b c\n\n\n",
        "one\n\n1\n\n",
        "1\n\n",
        "host\ngenerated\ntrue\n",
        "mkdir|/a/b: No such file or directory|\n",
        "run_line|mkdri: unknown command\n  hint: did you mean mkdir?|\n",
        "run_line|quit means nothing in a script|return ends a function, throw a script\n",
        "run_line|a pipe in run_line: leave it out and work on the answer in the script|\n",
        "run_line|the host command failed|\n",
        "blob string\n0\n4\n",
    ];
    assert_eq!(out(&done), wanted.concat(), "{}", err(&done));
}

#[test]
fn lines_in_scripts_in_lines_end() {
    let folder = tempfile::tempdir().unwrap();
    let again = "run_line(\"vtorque-check profile:site.rhai\");";
    fs::write(folder.path().join("site.rhai"), format!("fn checks(about, results) {{ {again} results }}")).unwrap();
    fs::write(folder.path().join("go.rhai"), again).unwrap();
    let make = "disk-create d.img raw 32M\nadd d.img\nrun\nmkfs ext4 /dev/sda\nmount /dev/sda /\nmkdir /etc\n\
                write /etc/os-release ID=debian\n";
    assert!(imgsh(folder.path(), &[], make).status.success());
    let done = imgsh(folder.path(), &["-a", "d.img", "-m", "/dev/sda", "go.rhai"], "");
    assert_eq!(done.status.code(), Some(1), "{}", err(&done));
    assert!(err(&done).contains("nested more than"), "{}", err(&done));
}
