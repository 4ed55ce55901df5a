//! `seed-make` and `seed-read`: discs judged by isoinfo, FAT seeds by fsck.fat and mtools, and foreign seeds read.

mod oracle;

use std::fs;

use oracle::run;
use oracle::world::{World, name, text};

fn inputs(world: &World) {
    fs::write(world.path("u"), "#cloud-config\nhostname: a\n").unwrap();
    fs::write(world.path("m"), "instance-id: i-1\nlocal-hostname: a\n").unwrap();
    fs::write(world.path("n"), vec![b'#'; 5000]).unwrap();
}

#[test]
fn discs() {
    let world = World::new();
    inputs(&world);
    assert_eq!(world.good(&["seed-make", "seed.iso", "u", "metadata:m", "networkconfig:n"]), "");
    let disc = name(&world.path("seed.iso"));
    let facts = run("isoinfo", &["-d", "-i", &disc]);
    for fact in [
        "Volume id: cidata",
        "Joliet with UCS level 3 found",
        "Rock Ridge signatures version 1 found",
        "Logical block size is: 2048",
    ] {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    for flag in ["-R", "-J"] {
        let list = run("isoinfo", &[flag, "-f", "-i", &disc]);
        let mut names: Vec<&str> = list.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["/meta-data", "/network-config", "/user-data"], "{flag}");
        for (file, source) in [("user-data", "u"), ("meta-data", "m"), ("network-config", "n")] {
            let content = run("isoinfo", &[flag, "-x", &format!("/{file}"), "-i", &disc]);
            assert_eq!(content.as_bytes(), fs::read(world.path(source)).unwrap(), "{flag} {file}");
        }
    }
    let list = run("isoinfo", &["-R", "-l", "-i", &disc]);
    assert!(list.contains("-r--r--r--   1    0    0            5000"), "{list}");
    assert!(run("blkid", &["-p", "-o", "export", &disc]).contains("LABEL=cidata\n"));
    // imgsh's own reader sees the same.
    let shown =
        world.good(&["--ro", "-a", "seed.iso", "run", ":", "mount-ro", "/dev/sda", "/", ":", "cat", "/network-config"]);
    assert_eq!(shown.trim_end().len(), 5000);
    assert_eq!(
        world.good(&["seed-read", "seed.iso"]),
        "iso9660, label cidata\nuser-data: 26 bytes\nmeta-data: 35 bytes\nnetwork-config: 5000 bytes\ninstance-id: i-1\n"
    );
    // The same input gives the same disc.
    let once = fs::read(&disc).unwrap();
    let again = std::process::Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .current_dir(world.folder.path())
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .args(["seed-make", "a.iso", "u", "metadata:m", ":", "seed-make", "b.iso", "u", "metadata:m"])
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(fs::read(world.path("a.iso")).unwrap(), fs::read(world.path("b.iso")).unwrap());
    assert!(once.len() == (26 + 1 + 3 + 1) * 2048, "{}", once.len());
}

#[test]
fn fat_seeds() {
    let world = World::new();
    inputs(&world);
    world.good(&["seed-make", "seed.img", "u", "metadata:m", "vfat:true"]);
    let image = name(&world.path("seed.img"));
    run("fsck.fat", &["-n", &image]);
    assert!(run("blkid", &["-p", "-o", "export", &image]).contains("LABEL=CIDATA\n"));
    assert_eq!(run("mtype", &["-i", &image, "::/user-data"]), "#cloud-config\nhostname: a\n");
    assert!(world.good(&["seed-read", "seed.img"]).starts_with("vfat, label CIDATA\nuser-data: 26 bytes\n"));
}

#[test]
fn warnings_and_refusals() {
    let world = World::new();
    inputs(&world);
    fs::write(world.path("local"), "{\"instance-id\": \"iid-local01\"}").unwrap();
    fs::write(world.path("odd"), "hostname: a\n").unwrap();
    fs::write(world.path("none"), "local-hostname: a\n").unwrap();
    let made = |words: &[&str]| world.good(&[&["seed-make", "seed.iso"], words].concat());
    assert!(made(&["u", "metadata:local"]).contains("instance-id iid-local01 is the one of every vTorque machine"));
    assert!(made(&["u", "metadata:none"]).contains("meta-data has no instance-id"));
    assert!(made(&["odd", "metadata:m"]).contains("user-data begins with nothing"));
    // Without meta-data the id comes from the content: the same for the same, another for another.
    let id = |user: &str| {
        assert_eq!(made(&[user]).lines().filter(|line| line.contains("instance")).count(), 0);
        world.good(&["seed-read", "seed.iso", "meta-data"])
    };
    assert!(id("u") == id("u") && id("u") != id("n") && id("u").starts_with("instance-id: iid-"));
    // A seed as vTorque makes it.
    fs::create_dir(world.path("d")).unwrap();
    fs::copy(world.path("u"), world.path("d/user-data")).unwrap();
    fs::copy(world.path("local"), world.path("d/meta-data")).unwrap();
    let foreign = name(&world.path("foreign.iso"));
    run("genisoimage", &["-quiet", "-J", "-r", "-V", "cidata", "-o", &foreign, &name(&world.path("d"))]);
    let shown = world.good(&["seed-read", "foreign.iso"]);
    assert!(
        shown.contains("label cidata") && shown.contains("instance-id: iid-local01") && shown.contains("warning:"),
        "{shown}"
    );
    fs::write(world.path("nothing"), vec![0; 100_000]).unwrap();
    let wrong = world.imgsh(&["seed-read", "nothing"]);
    assert!(text(&wrong.stderr).contains("no file system that imgsh knows"), "{}", text(&wrong.stderr));
    let wrong = world.imgsh(&["seed-read", "foreign.iso", "../x"]);
    assert!(text(&wrong.stderr).contains("a seed has no ../x"), "{}", text(&wrong.stderr));
}
