//! The prompt as a user feels it, at a pseudo terminal: until it is ready, from a key to the screen in a directory with 50,000
//! names, and a million turns of a loop.
//!
//! `cargo bench --bench prompt`

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

const IMGSH: &str = env!("CARGO_BIN_EXE_imgsh");
const NAMES: usize = 50_000;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    make_image(scratch.path());
    println!("{:<64} {:>9} {:>9}", "", "median", "worst");
    let ready = (0..20).map(|_| Prompt::start(scratch.path()).1).collect();
    report("from the start of the process to the prompt", ready);
    let mut prompt = Prompt::start(scratch.path()).0;
    let keys = "cat /wide/name-0499".chars().cycle().take(19 * 5);
    let mut taken = Vec::new();
    for (index, key) in keys.enumerate() {
        taken.push(prompt.time(&key.to_string(), &key.to_string()));
        if index % 19 == 18 {
            prompt.time("\x15", "\x1b[K");
        }
    }
    report("a key, the path being that of 50,000 names", taken);
    let mut taken = Vec::new();
    for round in 0..20 {
        prompt.time(&format!("cat /wide/name-{round:04}1"), &format!("{round:04}1"));
        // Ten names go on from here; the list of them ends with the last one.
        taken.push(prompt.time("\t\t", &format!("name-{round:04}19")));
        prompt.time("\x15", "\x1b[K");
    }
    report("a list of ten of the 50,000 names, by Tab twice", taken);
    let mut taken = Vec::new();
    for round in 0..5 {
        taken.push(
            prompt
                .time(&format!("let i = 0; while i < 1000000 {{ i += 1; }} `end{round}`\r"), &format!("\nend{round}")),
        );
    }
    report("a million turns of a loop in Rhai", taken);
}

/// An ext4 with 50,000 names in one directory.
fn make_image(folder: &Path) {
    let wide = folder.join("tree/wide");
    std::fs::create_dir_all(&wide).expect("a folder");
    for number in 0..NAMES {
        File::create(wide.join(format!("name-{number:06}"))).expect("a file");
    }
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-N", "60000", "disk.img", "128M"])
        .current_dir(folder)
        .env("PATH", path)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "mke2fs");
    let filled = Command::new(IMGSH)
        .args(["-a", "disk.img", "-m", "/dev/sda", "copy-in", "tree/wide", "/"])
        .current_dir(folder)
        .status();
    assert!(filled.is_ok_and(|status| status.success()), "copy-in");
}

fn report(what: &str, mut taken: Vec<Duration>) {
    taken.sort();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, worst) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    println!("{what:<64} {:>6.2} ms {:>6.2} ms", milliseconds(median), milliseconds(worst));
}

struct Prompt {
    terminal: File,
    shown: Receiver<Vec<u8>>,
    child: Child,
}

impl Prompt {
    /// The program at a terminal of its own, and how long it took to its prompt.
    fn start(folder: &Path) -> (Self, Duration) {
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a pseudo terminal");
        let stream = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let begun = Instant::now();
        let child = Command::new(IMGSH)
            .args(["--ro", "-a", "disk.img", "-m", "/dev/sda"])
            .current_dir(folder)
            .env("HOME", folder)
            .env("TERM", "xterm")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("imgsh");
        let terminal = File::from(pair.master);
        let mut screen = terminal.try_clone().expect("a descriptor");
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 14];
            while let Ok(count) = screen.read(&mut buffer)
                && sender.send(buffer[..count].to_vec()).is_ok()
            {}
        });
        let mut prompt = Prompt { terminal, shown, child };
        prompt.until("> ");
        (prompt, begun.elapsed())
    }

    /// Sends keys; how long until the screen shows an answer.
    fn time(&mut self, keys: &str, answer: &str) -> Duration {
        let begun = Instant::now();
        self.terminal.write_all(keys.as_bytes()).expect("the terminal");
        self.until(answer);
        let taken = begun.elapsed();
        // What follows the answer belongs to these keys too.
        std::thread::sleep(Duration::from_millis(20));
        while self.shown.try_recv().is_ok() {}
        taken
    }

    fn until(&mut self, wanted: &str) {
        let mut seen = Vec::new();
        while !seen.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            let shown = self.shown.recv_timeout(Duration::from_secs(20));
            seen.extend(
                shown.unwrap_or_else(|_| panic!("{wanted:?} was not shown: {}", String::from_utf8_lossy(&seen))),
            );
        }
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
