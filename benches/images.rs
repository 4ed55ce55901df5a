//! Image files against qemu-img in the same run: whole processes, wall time and CPU seconds.
//!
//! `cargo bench --bench images` makes its own images in a scratch folder (about 3 GiB of it is used), or takes the disk of the
//! image that IMGSH_BENCH_IMAGE names. The programs take turns. `qemu-img convert` leaves its copy in the page cache; with
//! `-t writeback` it brings it to the disk before it ends, as imgsh always does: both are measured. What one commit writes
//! is counted by strace, where that is there.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const IMGSH: &str = env!("CARGO_BIN_EXE_imgsh");
const RUNS: usize = 5;
const MIB: usize = 512;

fn main() {
    // `cargo test --benches` starts this with --test: nothing to measure then.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    let guest = std::env::var("IMGSH_BENCH_IMAGE");
    match &guest {
        Ok(image) => {
            let image = fs::canonicalize(image).expect("IMGSH_BENCH_IMAGE");
            run(dir, "qemu-img", &["convert", "-O", "raw", image.to_str().expect("a plain name"), "mixed.raw"]);
            println!("the disk of {}; medians of {RUNS}", image.display());
        }
        Err(_) => {
            mixed(&dir.join("mixed.raw"));
            println!("{MIB} MiB of programs, text, noise and zeros; medians of {RUNS}");
        }
    }
    println!(
        "{:<32} {:>15} {:>15} {:>15}   ratios: wall, CPU, wall with flush",
        "work", "imgsh", "qemu-img", "with flush"
    );
    reading(dir);
    writing(dir);
    first_byte(dir);
    as_raw(dir);
    // A guest's disk may be too long to be copied in.
    if guest.is_err() {
        written(dir);
    }
}

/// A raw image with parts that compress well, badly and not at all, and holes.
fn mixed(path: &Path) {
    let program = fs::read(IMGSH).expect("the program itself");
    let mut file = fs::File::create(path).expect("a raw image");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut at = 0;
    for part in 0..MIB {
        let mut chunk = vec![0; 1 << 20];
        match part % 4 {
            0 | 2 => {
                for byte in &mut chunk {
                    *byte = program[at % program.len()];
                    at += 1;
                }
            }
            1 => {
                let text = format!("line {part} of some text that a log file could hold, {state:x}\n");
                chunk.iter_mut().zip(text.bytes().cycle()).for_each(|(to, from)| *to = from);
            }
            _ if part % 8 == 3 => {
                for word in chunk.chunks_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    word.copy_from_slice(&state.to_le_bytes());
                }
            }
            _ => {}
        }
        file.write_all(&chunk).expect("a raw image");
    }
}

fn reading(dir: &Path) {
    for (name, options) in [
        ("plain", vec![]),
        ("zlib", vec!["-c"]),
        ("zstd", vec!["-c", "-o", "compression_type=zstd"]),
        ("zlib 4k", vec!["-c", "-o", "cluster_size=4k"]),
    ] {
        let make =
            [&["convert", "-f", "raw", "-O", "qcow2"], options.as_slice(), &["mixed.raw", "source.qcow2"]].concat();
        run(dir, "qemu-img", &make);
        let theirs = ["-O", "raw", "source.qcow2", "their.raw"];
        race(dir, &format!("read {name} into raw"), &["disk-convert", "source.qcow2", "out.raw", "raw"], &theirs);
        run(dir, "cmp", &["mixed.raw", "out.raw"]);
    }
}

fn writing(dir: &Path) {
    for (name, ours, theirs) in [
        ("plain", vec![], vec![]),
        ("zlib", vec!["compress:true"], vec!["-c"]),
        ("zstd", vec!["compress:true", "compression:zstd"], vec!["-c", "-o", "compression_type=zstd"]),
    ] {
        let ours = [&["disk-convert", "mixed.raw", "ours.qcow2", "qcow2"], ours.as_slice()].concat();
        let theirs = [&["-f", "raw", "-O", "qcow2"], theirs.as_slice(), &["mixed.raw", "their.qcow2"]].concat();
        race(dir, &format!("write it as {name} qcow2"), &ours, &theirs);
        run(dir, "qemu-img", &["compare", "-q", "mixed.raw", "ours.qcow2"]);
        let size = |name: &str| fs::metadata(dir.join(name)).map(|m| m.len() >> 20).unwrap_or(0);
        println!("    sizes: {} MiB and {} MiB", size("ours.qcow2"), size("their.qcow2"));
    }
}

/// Opening a big image and reading its first sector, in this process.
fn first_byte(dir: &Path) {
    use imgsh::disk::{self, OpenOptions};
    run(dir, "qemu-img", &["create", "-q", "-f", "qcow2", "big.qcow2", "2T"]);
    run(dir, "qemu-io", &["-c", "write -P 7 0 64k", "-c", "write -P 7 1T 64k", "big.qcow2"]);
    let mut times: Vec<_> = (0..50)
        .map(|_| {
            let start = Instant::now();
            let disk =
                disk::open(&dir.join("big.qcow2"), OpenOptions { format: None, read_only: true }).expect("big.qcow2");
            let mut sector = [0; 512];
            disk.read_at(1 << 40, &mut sector).expect("big.qcow2");
            assert_eq!(sector, [7; 512]);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("open a 2 TiB qcow2 and read a sector: {:.0} us (median of 50)", times[25].as_secs_f64() * 1e6);
}

/// Reading and writing plain qcow2 against the same on raw, in this process: from the page cache, front to back and here and there.
fn as_raw(dir: &Path) {
    use imgsh::base::Result;
    use imgsh::disk::{self, Change, Changes, Disk, OpenOptions};
    struct List<'a>(&'a [u64], &'a [u8]);
    impl Changes for List<'_> {
        fn visit(&self, each: &mut dyn FnMut(u64, Change<'_>) -> Result<()>) -> Result<()> {
            self.0.iter().try_for_each(|at| each(*at, Change::Data(self.1)))
        }
    }
    const PART: usize = 1 << 20;
    let len =
        fs::metadata(dir.join("mixed.raw")).map_or(0, |m| m.len()).min((MIB as u64) << 20) / PART as u64 * PART as u64;
    run(dir, "qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "mixed.raw", "plain.qcow2"]);
    run(dir, "qemu-img", &["convert", "-f", "raw", "-O", "raw", "-S", "0", "mixed.raw", "plain.raw"]);
    let mut state = 88_172_645_463_325_252_u64;
    let mut places = |count: usize, unit: u64| -> Vec<u64> {
        let mut all: Vec<u64> = (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % (len / unit) * unit
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let parts: Vec<u64> = (0..len).step_by(PART).collect();
    let (mut pages, mut bigger, few) = (places(20_000, 4096), places(2_000, 64 << 10), places(200, 4096));
    // Shuffled by a rule, the same for both.
    pages.sort_by_key(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bigger.sort_by_key(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let data = vec![0x5a; PART];
    type Work<'a> = Box<dyn Fn(&dyn Disk) -> Result<()> + 'a>;
    let read = |places: &'_ [u64], size: usize| -> Work<'_> {
        let places = places.to_vec();
        Box::new(move |disk| {
            let mut buf = vec![0; size];
            places.iter().try_for_each(|at| disk.read_at(*at, &mut buf))
        })
    };
    let fresh = |places: &'_ [u64], size: usize| -> Work<'_> {
        let (places, data) = (places.to_vec(), &data);
        Box::new(move |disk| {
            places.iter().try_for_each(|at| disk.write_fresh(*at, &data[..size]))?;
            disk.commit(&List(&[], &[]))
        })
    };
    let works: [(&str, Work<'_>); 6] = [
        ("read all, 1 MiB at a time", read(&parts, PART)),
        ("read 20,000 pages", read(&pages, 4096)),
        ("read 2,000 times 64 KiB", read(&bigger, 64 << 10)),
        ("write over all, 1 MiB at a time", fresh(&parts, PART)),
        ("write over 2,000 times 64 KiB", fresh(&bigger, 64 << 10)),
        ("change 200 pages", Box::new(|disk| disk.commit(&List(&few, &data[..4096])))),
    ];
    println!(
        "{:<32} {:>12} {:>12}   ratio; milliseconds, page cache, flushes included",
        "work on a disk", "qcow2", "raw"
    );
    for (what, work) in &works {
        let mut runs = [const { Vec::new() }; 2];
        for _ in 0..RUNS {
            for (times, name) in runs.iter_mut().zip(["plain.qcow2", "plain.raw"]) {
                // In equal pieces: how a file was written decides how its pages lie, and so how fast they are read.
                run(dir, "dd", &["status=none", "bs=1M", &format!("if={name}"), "of=work"]);
                run(dir, "sync", &[]);
                let disk = disk::open(&dir.join("work"), OpenOptions::default()).expect("work");
                let start = Instant::now();
                work(disk.as_ref()).expect("work");
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let [qcow2, raw] = runs.map(|mut all| {
            all.sort_by(f64::total_cmp);
            all[RUNS / 2]
        });
        println!("{what:<32} {qcow2:>12.1} {raw:>12.1} {:>7.2}", qcow2 / raw);
    }
}

/// Bytes written and flushes of a copy-in of 1 GiB, and of thirty small edits, by strace.
fn written(dir: &Path) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("(no strace: what a commit writes is not counted)");
        return;
    }
    run(dir, "truncate", &["-s", "3G", "fs.raw"]);
    run(dir, "mke2fs", &["-q", "-F", "-t", "ext4", "fs.raw"]);
    let noise = fs::read(dir.join("mixed.raw")).expect("mixed.raw");
    let mut file = fs::File::create(dir.join("big")).expect("big");
    for _ in 0..1024 / MIB {
        file.write_all(&noise).expect("big");
    }
    let edits: Vec<String> = (0..30).flat_map(|n| [format!("mkdir /d{n}"), format!("write /d{n}/f hello")]).collect();
    fs::write(dir.join("edits"), edits.join("\n") + "\n").expect("edits");
    run(dir, "qemu-img", &["convert", "-O", "qcow2", "fs.raw", "fs.qcow2"]);
    for image in ["fs.raw", "fs.qcow2"] {
        let works: [(&str, Vec<&str>); 2] =
            [("copy-in of 1 GiB", vec!["copy-in", "big", "/"]), ("60 small commands", vec!["-f", "edits"])];
        for (what, args) in works {
            let trace = [
                "-f",
                "-qq",
                "-e",
                "trace=pwrite64,write,fsync,fdatasync",
                "-o",
                "trace",
                IMGSH,
                "-a",
                image,
                "-m",
                "/dev/sda",
            ];
            run(dir, "strace", &[&trace, args.as_slice()].concat());
            let text = fs::read_to_string(dir.join("trace")).expect("trace");
            let answer = |line: &str| line.rsplit(" = ").next().and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
            let bytes: u64 = text.lines().filter(|l| l.contains("write")).map(answer).sum();
            let flushes = text.lines().filter(|line| line.contains("sync(")).count();
            println!("{what}, {image}: {:.2} MiB written, {flushes} flushes", bytes as f64 / f64::from(1 << 20));
        }
    }
}

fn run(dir: &Path, program: &str, args: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program).args(args).current_dir(dir).env("PATH", path).output().expect(program);
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Wall and CPU seconds of a program.
fn measure(dir: &Path, program: &str, args: &[&str]) -> (f64, f64) {
    let cpu = || {
        getrusage(UsageWho::RUSAGE_CHILDREN)
            .map(|u| (u.user_time().num_microseconds() + u.system_time().num_microseconds()) as f64 / 1e6)
            .unwrap_or(0.0)
    };
    let (start, before) = (Instant::now(), cpu());
    run(dir, program, args);
    (start.elapsed().as_secs_f64(), cpu() - before)
}

/// imgsh, `qemu-img convert`, and the same with the flush at the end that imgsh always does, in turn.
fn race(dir: &Path, what: &str, ours: &[&str], theirs: &[&str]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let convert = ["convert", "-W", "-m", &cores];
    let programs = [
        (IMGSH, ours.to_vec()),
        ("qemu-img", [&convert, theirs].concat()),
        ("qemu-img", [&convert[..], &["-t", "writeback"], theirs].concat()),
    ];
    let mut runs = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        for (times, (program, args)) in runs.iter_mut().zip(&programs) {
            // Whoever comes next must not wait for what this one leaves to be written.
            run(dir, "sync", &[]);
            times.push(measure(dir, program, args));
        }
    }
    let middle = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[RUNS / 2]
    };
    let [ours, theirs, flushed] =
        runs.map(|runs| (middle(runs.iter().map(|r| r.0).collect()), middle(runs.iter().map(|r| r.1).collect())));
    let show = |(wall, cpu): (f64, f64)| format!("{wall:>7.2} {cpu:>6.2}s");
    println!(
        "{what:<32} {} {} {} {:>6.2} {:>5.2} {:>5.2}",
        show(ours),
        show(theirs),
        show(flushed),
        ours.0 / theirs.0,
        ours.1 / theirs.1,
        ours.0 / flushed.0
    );
}
