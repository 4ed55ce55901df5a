//! What guestfish 1.48.6 answered to the scripts of tests/side-by-side, as `scripts/judge-guestfish --record` keeps it, and what imgsh
//! answers. The host files and the masks are those of the judge.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/side-by-side");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "gfs") && path.with_extension("answers").exists());
    cases.sort();
    cases
}

fn host(folder: &Path, line: &str) {
    let done = Command::new("sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Two empty disks, a tree and its archives.
fn prepare(folder: &Path) {
    for name in ["a.img", "b.img"] {
        File::create(folder.join(name)).unwrap().set_len(64 << 20).unwrap();
    }
    fs::create_dir_all(folder.join("tree/sub/deeper")).unwrap();
    fs::write(folder.join("tree/hello.txt"), "hello\nworld\n").unwrap();
    fs::write(folder.join("tree/sub/data.bin"), (0..=255).cycle().take(256 * 40).collect::<Vec<u8>>()).unwrap();
    fs::write(folder.join("tree/sub/run.sh"), "#!/bin/sh\necho run\n").unwrap();
    fs::write(folder.join("one.txt"), "one\ntwo\nthree\n").unwrap();
    host(
        folder,
        "umask 022; chmod 755 tree tree/sub tree/sub/deeper tree/sub/run.sh; chmod 644 tree/hello.txt tree/sub/data.bin one.txt
         ln -s ../hello.txt tree/sub/link
         find tree one.txt -exec touch -h -d @1600000000 {} +
         tar --sort=name -cf tree.tar tree; tar --sort=name -czf tree.tar.gz tree",
    );
}

/// The script with the number of each line said before it, and the lines by number. Lines of heredocs have none.
fn numbered(script: &str) -> (String, Vec<&str>) {
    let heredoc = Regex::new(r" -<<(\S+)").unwrap();
    let (mut out, mut lines, mut end) = (String::new(), Vec::new(), None);
    for line in script.lines() {
        match end {
            None => {
                lines.push(line);
                out.push_str(&format!("echo @{}\n", lines.len()));
                end = heredoc.captures(line).map(|found| found.get(1).unwrap().as_str());
            }
            Some(word) if line == word => end = None,
            Some(_) => {}
        }
        out.push_str(line);
        out.push('\n');
    }
    (out, lines)
}

/// Lines as Python has them, with other bytes than UTF-8 escaped.
fn text(bytes: &[u8]) -> Vec<String> {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    let ends = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines: Vec<String> = out.replace("\r\n", "\n").split(ends).map(str::to_string).collect();
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn answers(script: &str, folder: &Path) -> Vec<String> {
    let (script, lines) = numbered(script);
    fs::write(folder.join("script"), script).unwrap();
    let stdin = File::open(folder.join("script")).unwrap();
    fs::remove_file(folder.join("script")).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(["--format=raw", "-a", "a.img", "-a", "b.img"])
        .current_dir(folder)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::from(stdin))
        .output()
        .unwrap();
    let numbers = r"^( *(?:(?:st_)?(?:dev|ino): |(?:st_)?[amc]time(?:_n?sec)?: -?))\d+$";
    let masks = [
        (Regex::new(numbers).unwrap(), "${1}N"),
        (Regex::new(r"^([-a-z]{10}.*) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d ").unwrap(), "${1} TIME "),
    ];
    let marker = Regex::new(r"^(.*)@(\d+)$").unwrap();
    let mut out = Vec::new();
    for line in text(&done.stdout) {
        let line = masks.iter().fold(line, |line, (mask, put)| mask.replace(&line, *put).into_owned());
        let place =
            marker.captures(&line).and_then(|found| Some((found[1].to_string(), found[2].parse::<usize>().ok()?)));
        match place.filter(|(_, number)| *number <= lines.len()) {
            Some((before, number)) => {
                if !before.is_empty() {
                    out.push(before + "\\");
                }
                out.push(format!("> {number}: {}", lines[number - 1]));
            }
            None => out.push(line),
        }
    }
    out.push("> failed:".to_string());
    let failed = Regex::new(r"^\*stdin\*:(\d+): ").unwrap();
    let mut numbers: Vec<usize> = text(&done.stderr)
        .iter()
        .filter_map(|line| Some(failed.captures(line)?[1].parse::<usize>().unwrap() / 2))
        .filter(|number| (1..=lines.len()).contains(number))
        .collect();
    numbers.dedup();
    numbers.sort_unstable();
    numbers.dedup();
    out.extend(numbers.iter().map(|number| format!("{number}: {}", lines[number - 1])));
    out
}

#[test]
fn imgsh_answers_as_guestfish_did() {
    let cases = cases();
    assert!(cases.len() > 9, "{cases:?}");
    let mut different = Vec::new();
    for case in cases {
        let temp = tempfile::tempdir().unwrap();
        // Some scripts show the owners of host files, or give files away.
        let script = fs::read_to_string(&case).unwrap();
        if script.lines().next().unwrap().ends_with("(As root.)") && fs::metadata(temp.path()).unwrap().uid() != 0 {
            continue;
        }
        prepare(temp.path());
        let ours = answers(&script, temp.path());
        let theirs = text(&fs::read(case.with_extension("answers")).unwrap());
        let at = ours.iter().zip(&theirs).take_while(|(ours, theirs)| ours == theirs).count();
        let near = |lines: &[String]| lines[at.saturating_sub(3)..lines.len().min(at + 4)].join("\n");
        if ours != theirs {
            different.push(format!("{case:?}\nguestfish:\n{}\n\nimgsh:\n{}", near(&theirs), near(&ours)));
        }
        for name in ["a.img", "b.img"] {
            // What is left of the disk, if it is one ext file system.
            let disk = temp.path().join(name);
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let kind =
                Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE"]).arg(&disk).env("PATH", &path).output();
            if kind.unwrap().stdout.starts_with(b"ext") {
                let checked = Command::new("e2fsck").arg("-fn").arg(&disk).env("PATH", &path).output().unwrap();
                assert!(checked.status.success(), "{case:?} {name}: {}", String::from_utf8_lossy(&checked.stdout));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
