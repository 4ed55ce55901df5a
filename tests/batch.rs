//! `imgsh batch SCRIPT IMAGE...`: order of the report, exit status, one image's failure touches no other.

mod oracle;

use std::fs;

use oracle::world::{World, script, text};

fn images(world: &World, count: usize) -> Vec<String> {
    world.good(&["-f", &script("small-guest.gfs")]);
    world.good(&["-a", "guest-debian.qcow2", "-i", "vtorque-check", "fix:true"]);
    (0..count)
        .map(|at| {
            let image = format!("debian-{at}.qcow2");
            fs::copy(world.path("guest-debian.qcow2"), world.path(&image)).unwrap();
            image
        })
        .collect()
}

fn batch(world: &World, first: &[&str], images: &[String]) -> (String, Option<i32>) {
    let words: Vec<&str> = first.iter().copied().chain(images.iter().map(String::as_str)).collect();
    let output = world.imgsh(&words);
    (format!("{}{}", text(&output.stdout), text(&output.stderr)), output.status.code())
}

#[test]
fn one_report_and_one_status() {
    let world = World::new();
    let images = images(&world, 7);
    let (report, status) = batch(&world, &["--ro", "batch", "vtorque-check"], &images);
    assert!(status == Some(0) && report.ends_with("7 images: 7 good, 0 failed, 0 unknown\n"), "{report}");
    let order: Vec<&str> = report.lines().filter(|line| line.starts_with("== ")).collect();
    assert_eq!(order, images.iter().map(|image| format!("== {image}: good")).collect::<Vec<_>>());

    // Unknown, then a failure, then a file that is no image.
    world.good(&["-a", &images[2], "-i", "rm", "/boot/grub/grub.cfg"]);
    let (report, status) = batch(&world, &["--ro", "batch", "vtorque-check"], &images);
    assert!(status == Some(3) && report.contains("== debian-2.qcow2: unknown\n"), "{report}");
    world.good(&["-a", &images[4], "-i", "rmdir", "/workspace"]);
    fs::write(world.path(&images[5]), "QFI\u{fb}short").unwrap();
    let (report, status) = batch(&world, &["--ro", "batch", "vtorque-check"], &images);
    assert!(status == Some(1) && report.ends_with("7 images: 4 good, 2 failed, 1 unknown\n"), "{report}");
    assert!(report.contains("== debian-5.qcow2: failed (1)\n"), "{report}");
    let (report, _) = batch(&world, &["--ro", "--json", "batch", "vtorque-check"], &images);
    assert!(
        report.lines().count() == 7 && report.lines().all(|line| line.starts_with("{\"image\": \"debian-")),
        "{report}"
    );
}

#[test]
fn a_script_writes_to_each_image_or_not_at_all() {
    let world = World::new();
    let images = images(&world, 4);
    world.good(&["-a", &images[1], "-i", "mkdir", "/new"]);
    let before = fs::read(world.path(&images[1])).unwrap();
    fs::write(world.path("job.gfs"), "write /motd hello\nmkdir /new\n").unwrap();
    let (report, status) = batch(&world, &["-i", "batch", "job.gfs"], &images);
    assert!(status == Some(1) && report.ends_with("4 images: 3 good, 1 failed, 0 unknown\n"), "{report}");
    assert!(before == fs::read(world.path(&images[1])).unwrap(), "the failing run wrote");
    for image in [&images[0], &images[2], &images[3]] {
        assert_eq!(world.good(&["--ro", "-a", image, "-i", "cat", "/motd"]), "hello\n");
    }
    fs::write(world.path("job.rhai"), "print(cat(\"/motd\"));\n").unwrap();
    let (report, status) = batch(&world, &["--ro", "-i", "batch", "job.rhai"], &images[2..]);
    assert!(status == Some(0) && report.contains("== debian-3.qcow2: good\nhello\n"), "{report}");
}

#[test]
fn wrong_words() {
    let world = World::new();
    for (words, wanted) in [
        (vec!["batch"], "batch needs a script and images"),
        (vec!["batch", "x"], "batch needs images"),
        (vec!["batch", "no-such-command x", "a"], "neither a script file nor a command"),
        (vec!["batch", "version", "a", "a"], "a: given twice"),
        (vec!["-a", "b", "batch", "version", "a"], "--add does not go with batch"),
    ] {
        let output = world.imgsh(&words);
        assert!(text(&output.stderr).contains(wanted) && output.status.code() == Some(1), "{}", text(&output.stderr));
    }
}
