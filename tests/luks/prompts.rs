//! Where passphrases come from, and where they never go.

use super::*;

fn volume(world: &World) {
    let image = world.path("luks.img");
    empty(&image, 20 * MIB);
    format(world, &image, "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000");
}

#[test]
fn keys_of_scripts_and_of_servers() {
    let world = World::new();
    volume(&world);
    fs::write(world.path("script"), "run\nluks-open /dev/sda c\nlist-dm-devices\n").unwrap();
    // From a file of commands, the key is on standard input; in words too.
    let base = ["--format=raw", "-a", "luks.img", "--keys-from-stdin", "-x"];
    let from_file = imgsh(&world, &[&base[..], &["-f", "script"]].concat(), &format!("{PASS}\n"));
    let words = ["run", ":", "luks-open", "/dev/sda", "c", ":", "list-dm-devices"];
    let from_words = imgsh(&world, &[&base[..], &words].concat(), &format!("{PASS}\n"));
    for answer in [from_file, from_words] {
        assert_eq!((answer.good, answer.out.as_str()), (true, "/dev/mapper/c\n"), "{}", answer.err);
        assert!(answer.err.contains("trace: luks_open \"/dev/sda\" *** \"c\""), "{}", answer.err);
        assert!(!answer.err.contains(PASS));
    }
    let none = imgsh(&world, &[&base[..], &["-f", "script"]].concat(), "");
    assert!(!none.good && none.err.contains("a key or passphrase must be"), "{}", none.err);
    fs::write(
        world.path("job.rhai"),
        format!("run();\nluks_open(\"/dev/sda\", \"{PASS}\", \"c\");\nprint(list_dm_devices()[0]);\n"),
    )
    .unwrap();
    let rhai = imgsh(&world, &["--format=raw", "-a", "luks.img", "job.rhai"], "");
    assert!(rhai.good && rhai.out.contains("/dev/mapper/c"), "{}{}", rhai.out, rhai.err);
    // A client asks, its server gets the key.
    let started = good(&world, &["--format=raw", "-a", "luks.img", "--listen"], "");
    let pid = started.split(['=', ';']).nth(1).unwrap().to_string();
    let remote = format!("--remote={pid}");
    let lines = format!("run\nluks-open /dev/sda c\n{PASS}\nlist-dm-devices\n");
    assert_eq!(good(&world, &[&remote, "--keys-from-stdin"], &lines), "/dev/mapper/c\n");
    good(&world, &[&remote, "luks-close", "/dev/mapper/c"], "");
    good(&world, &[&remote, "--keys-from-stdin", "luks-open", "/dev/sda", "d"], &format!("{PASS}\n"));
    good(&world, &[&remote, "exit"], "");
}

#[test]
fn the_prompt_asks_without_showing() {
    let world = World::new();
    volume(&world);
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsh"));
    command.args(["--format=raw", "-a", "luks.img"]).current_dir(world.folder.path());
    command.env("HOME", world.folder.path()).env("TERM", "xterm").env("NO_COLOR", "1");
    command.env_remove("XDG_STATE_HOME").env_remove("GUESTFISH_PS1");
    let mut session = rexpect::session::spawn_command(command, Some(30_000)).unwrap();
    let mut shown = session.exp_string("quit ends.").unwrap();
    session.exp_string("> ").unwrap();
    let mut say = |line: &str, wanted: &str| {
        session.send(&format!("{line}\r")).unwrap();
        session.flush().unwrap();
        shown += &session.exp_string(wanted).unwrap();
    };
    say("run", "> ");
    say("luks-open /dev/sda c", "Enter key or passphrase (\"key\"): ");
    say(PASS, "> ");
    say("list-dm-devices", "\n/dev/mapper/c");
    say("history save saved", "saved 3 lines");
    say("quit", "quit");
    session.exp_eof().unwrap();
    assert!(!shown.contains(PASS), "{shown}");
    let saved = fs::read_to_string(world.path("saved")).unwrap();
    assert!(saved.contains("luks-open /dev/sda c\n") && !saved.contains(PASS));
    for file in walk(world.folder.path()) {
        let bytes = fs::read(&file).unwrap();
        let known = ["pass", "luks.img"].iter().any(|name| file.ends_with(name));
        assert!(known || !bytes.windows(PASS.len()).any(|w| w == PASS.as_bytes()), "{}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
