//! Encrypted volumes. LUKS1 is judged by qemu-img, which has an implementation of its own, both ways; LUKS2 is made by
//! cryptsetup and decrypted by Python's `cryptography` with the volume key that cryptsetup tells.

#[path = "../oracle/mod.rs"]
mod oracle;

mod hostile;
mod layouts;
mod prompts;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oracle::world::{World, name, text};

const MIB: u64 = 1 << 20;
/// The passphrase of all volumes here.
const PASS: &str = "correct horse";

/// How a run of imgsh ended.
struct Answer {
    good: bool,
    out: String,
    err: String,
}

/// Runs imgsh with standard input.
fn imgsh(world: &World, args: &[&str], input: &str) -> Answer {
    let mut child = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .current_dir(world.folder.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A server that stays keeps it open.
        .stderr(if args.contains(&"--listen") { Stdio::null() } else { Stdio::piped() })
        .spawn()
        .unwrap();
    // A program that ends early does not read it all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Answer { good: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// As [`imgsh`], which must end well.
fn good(world: &World, args: &[&str], input: &str) -> String {
    let answer = imgsh(world, args, input);
    assert!(answer.good, "{args:?} {input}: {}{}", answer.out, answer.err);
    answer.out
}

fn run(program: &str, args: &[&str]) {
    oracle::run(program, args);
}

fn empty(path: &Path, len: u64) {
    fs::File::create(path).unwrap().set_len(len).unwrap();
}

/// An ext4 with /hello, made by e2fsprogs.
fn ext4(world: &World, len: u64) -> PathBuf {
    let (path, tree) = (world.path("plain.raw"), world.path("tree"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("hello"), "hello\n").unwrap();
    empty(&path, len);
    run("mke2fs", &["-q", "-t", "ext4", "-d", &name(&tree), &name(&path)]);
    path
}

/// Makes a LUKS volume of a file with cryptsetup.
fn format(world: &World, image: &Path, options: &str) {
    fs::write(world.path("pass"), PASS).unwrap();
    let (image, key) = (name(image), name(&world.path("pass")));
    let mut args = vec!["luksFormat", "--batch-mode"];
    args.extend(options.split_whitespace());
    args.extend([image.as_str(), key.as_str()]);
    run("cryptsetup", &args);
}

/// The segment of a LUKS2 volume as Python decrypts it.
fn decrypted(world: &World, image: &Path, offset: u64, sector: u64) -> PathBuf {
    let (key, pass) = (world.path("volume-key"), world.path("pass"));
    let _ = fs::remove_file(&key);
    let (key, pass, image) = (name(&key), name(&pass), name(image));
    let dump =
        ["luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", &key, "--key-file", &pass, &image];
    run("cryptsetup", &dump);
    let script = format!("{}/tests/luks/decrypt.py", env!("CARGO_MANIFEST_DIR"));
    let out = world.path("decrypted.raw");
    run("python3", &[&script, &image, &key, &offset.to_string(), &sector.to_string(), &name(&out)]);
    out
}

/// What a file in an ext4 holds, as debugfs sees it, after e2fsck found nothing; `None` if there is no such file.
fn content(ext4: &Path, file: &str) -> Option<String> {
    oracle::assert_clean(ext4, "the decrypted file system");
    let out = ext4.with_extension("content");
    let _ = fs::remove_file(&out);
    oracle::tool("debugfs", &["-R", &format!("dump {file} {}", name(&out)), &name(ext4)]);
    fs::read(out).ok().map(|bytes| text(&bytes))
}

/// Lines that open the volume on /dev/sda, change it and read it.
const WORK: &str = "luks-open /dev/sda c\nmount /dev/mapper/c /\ncat /hello\nwrite /new \"from imgsh\\n\"\n\
    fill 66 300000 /big\nrm /hello\numount /\nluks-close /dev/mapper/c\n";

fn work() -> String {
    format!("run\n{}", WORK.replacen("luks-open /dev/sda c\n", &format!("luks-open /dev/sda c\n{PASS}\n"), 1))
}

#[test]
fn luks1_of_qemu_both_ways() {
    let world = World::new();
    let plain = name(&ext4(&world, 16 * MIB));
    let secret = format!("secret,id=k,data={PASS}");
    for (bits, mode, ivgen, hash) in [
        (256, "xts", "plain64", "sha256"),
        (128, "xts", "plain64", "sha1"),
        (256, "cbc", "essiv,ivgen-hash-alg=sha256", "sha512"),
        (128, "cbc", "plain64", "sha256"),
    ] {
        let (image, back) = (world.path("luks.img"), world.path("back.raw"));
        let options = format!(
            "key-secret=k,iter-time=10,cipher-alg=aes-{bits},cipher-mode={mode},ivgen-alg={ivgen},hash-alg={hash}"
        );
        let whole = ["convert", "-O", "luks", "--object", &secret, "-o", &options, &plain, &name(&image)];
        run("qemu-img", &whole);
        let before = fs::read(&image).unwrap();
        let out = good(&world, &["--format=raw", "-a", "luks.img", "--keys-from-stdin"], &work());
        assert_eq!(out, "hello\n\n", "{options}");
        let after = fs::read(&image).unwrap();
        let payload = u32::from_be_bytes(before[104..108].try_into().unwrap()) as usize * 512;
        assert!(before[..payload] == after[..payload], "the header changed");
        assert!(before[payload..] != after[payload..]);
        let source = format!("driver=luks,key-secret=k,file.filename={}", name(&image));
        run("qemu-img", &["convert", "--object", &secret, "--image-opts", &source, "-O", "raw", &name(&back)]);
        assert_eq!(content(&back, "/new").as_deref(), Some("from imgsh\n"));
        assert!(content(&back, "/big") == Some("B".repeat(300_000)));

        let wrong = imgsh(&world, &["--format=raw", "-a", "luks.img"], "run\nluks-open /dev/sda c\nwrong\n");
        assert!(!wrong.good);
        assert!(wrong.err.contains("luks_open: /dev/sda: No key available with this passphrase."), "{}", wrong.err);
        assert!(fs::read(&image).unwrap() == after);
    }
}

#[test]
fn luks2_of_cryptsetup() {
    for (options, sector) in [
        ("--pbkdf argon2id --pbkdf-memory 32768 --pbkdf-force-iterations 4 --pbkdf-parallel 2 --sector-size 512", 512),
        ("--pbkdf argon2i --pbkdf-memory 16384 --pbkdf-force-iterations 4 --sector-size 4096 --key-size 256", 4096),
        ("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha512 --sector-size 2048", 2048),
        ("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --hash sha1 --sector-size 512 --key-size 256", 512),
    ] {
        let world = World::new();
        let image = world.path("luks.img");
        empty(&image, 32 * MIB);
        format(&world, &image, &format!("--type luks2 --cipher aes-xts-plain64 {options}"));
        let header = fs::read(&image).unwrap();
        let made = format!(
            "run\nluks-open /dev/sda c\n{PASS}\nmkfs ext4 /dev/mapper/c\nmount /dev/mapper/c /\n\
            write /hello \"hello\\n\"\n"
        );
        good(&world, &["--format=raw", "-a", "luks.img"], &made);
        assert_eq!(good(&world, &["--format=raw", "-a", "luks.img"], &work()), "hello\n\n", "{options}");
        let after = fs::read(&image).unwrap();
        assert!(header[..16 * MIB as usize] == after[..16 * MIB as usize], "the header changed");
        let judge = decrypted(&world, &image, 16 * MIB, sector);
        assert_eq!(content(&judge, "/new").as_deref(), Some("from imgsh\n"), "{options}");
        assert!(content(&judge, "/big") == Some("B".repeat(300_000)));
        assert_eq!(content(&judge, "/hello"), None);
        // Linux mounts no blocks that are smaller than the sectors.
        let (_, facts) = oracle::tool("dumpe2fs", &["-h", &name(&judge)]);
        assert!(
            facts.contains(if sector > 512 {
                "Block size:               4096"
            } else {
                "Block size:               1024"
            }),
            "{facts}"
        );
    }
}

#[test]
fn any_key_slot_opens_it() {
    for kind in ["luks1", "luks2"] {
        let world = World::new();
        let image = world.path("luks.img");
        empty(&image, 32 * MIB);
        format(&world, &image, &format!("--type {kind} --pbkdf pbkdf2 --pbkdf-force-iterations 1000"));
        fs::write(world.path("second"), "second").unwrap();
        let (pass, second) = (name(&world.path("pass")), name(&world.path("second")));
        let add = ["luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
        run("cryptsetup", &[&add[..], &["--key-file", &pass, &name(&image), &second]].concat());
        let options = ["--format=raw", "-a", "luks.img", "--ro"];
        for key in ["second", PASS] {
            let lines = format!(
                "run\ncryptsetup-open /dev/sda c crypttype:{kind} cipher:aes-xts-plain64\n{key}\n\
                list-dm-devices\nvfs-type /dev/sda\nblockdev-getro /dev/mapper/c\nblockdev-getsize64 /dev/mapper/c\n"
            );
            let out = good(&world, &options, &lines);
            let len = 32 * MIB - if kind == "luks1" { 2 * MIB } else { 16 * MIB };
            assert_eq!(out, format!("/dev/mapper/c\ncrypto_LUKS\nfalse\n{len}\n"));
        }
        if kind == "luks2" {
            // A key slot that holds another key than the volume's.
            fs::write(world.path("third"), "third").unwrap();
            let unbound =
                ["--unbound", "--key-size", "256", "--key-file", &pass, &name(&image), &name(&world.path("third"))];
            run("cryptsetup", &[&add[..], &unbound].concat());
            let answer = imgsh(&world, &options, "run\nluks-open /dev/sda c\nthird\n");
            assert!(answer.err.contains("No key available"), "{}", answer.err);
        }
        run("cryptsetup", &["luksRemoveKey", "--batch-mode", &name(&image), &second]);
        let removed = imgsh(&world, &options, "run\nluks-open /dev/sda c\nsecond\n");
        assert!(removed.err.contains("No key available"), "{}", removed.err);
        let other = if kind == "luks1" { "luks2" } else { "luks1" };
        for (option, words) in [
            (format!("crypttype:{other}"), "not LUKS"),
            ("crypttype:bitlk".into(), "bitlk is not opened here"),
            ("cipher:aes-cbc-plain64".into(), "encrypted with aes-xts-plain64"),
        ] {
            let refused = imgsh(&world, &options, &format!("run\ncryptsetup-open /dev/sda c {option}\n{PASS}\n"));
            assert!(!refused.good && refused.err.contains(words), "{option}: {}", refused.err);
        }
    }
}

#[test]
fn what_is_not_opened_is_named() {
    let world = World::new();
    let image = world.path("luks.img");
    let refused = |options: &str| {
        empty(&image, 32 * MIB);
        format(&world, &image, &format!("--pbkdf-force-iterations 1000 {options}"));
        let answer =
            imgsh(&world, &["--format=raw", "-a", "luks.img"], &format!("run\nluks-open /dev/sda c\n{PASS}\n"));
        assert!(!answer.good);
        answer.err
    };
    let cipher = refused("--type luks1 --cipher aes-xts-plain");
    assert!(cipher.contains("/dev/sda: luks: the cipher aes-xts-plain is not known"), "{cipher}");
    let hash = refused("--type luks1 --hash ripemd160");
    assert!(hash.contains("the hash ripemd160"), "{hash}");
    // The keys of the segment stand in another file.
    empty(&image, 32 * MIB);
    format(&world, &image, "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000");
    let (pass, path) = (name(&world.path("pass")), name(&image));
    run(
        "cryptsetup",
        &[
            "reencrypt",
            "--batch-mode",
            "--init-only",
            "--key-file",
            &pass,
            "--resilience",
            "checksum",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
            &path,
        ],
    );
    let answer = imgsh(&world, &["--format=raw", "-a", "luks.img"], &format!("run\nluks-open /dev/sda c\n{PASS}\n"));
    assert!(answer.err.contains("encrypted anew") && answer.err.contains("--resume-only"), "{}", answer.err);
}
