//! Files with large holes on their way: tar-out, tar-in, copy-out and copy-in neither read nor write what is in none of them. GNU tar,
//! Python and the host's file system are those who read and write beside us; e2fsck and debugfs judge the image.

mod oracle;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use oracle::world::{World, name, text};
use oracle::{assert_clean, run};

const GIANT: u64 = 15 << 40;
const MIDDLE: u64 = 7 << 40;

/// An image with ext4 that has a file of 15 TiB, one of 100 MiB and one with a hole that is less than half of it.
fn world() -> World {
    let world = World::new();
    run("truncate", &["-s", "256M", &name(&world.path("image"))]);
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", &name(&world.path("image"))]);
    let script = format!(
        "mkdir /d\ntouch /d/giant\ntruncate-size /d/giant {GIANT}\npwrite /d/giant 'in the middle' {MIDDLE}\n\
         touch /d/hollow\ntruncate-size /d/hollow 104857600\npwrite /d/hollow start 0\nchmod 0640 /d/hollow\n\
         setxattr user.note value 5 /d/hollow\ntouch /d/empty\ntruncate-size /d/empty 104857600\n\
         touch /d/small\ntruncate-size /d/small 1000000\npwrite /d/small end 999997\n"
    );
    fs::write(world.path("fill"), script).unwrap();
    world.good(&["-a", "image", "-m", "/dev/sda", "-f", "fill"]);
    world
}

/// Files of the host as the image has them, with few blocks.
fn judge_host(world: &World, folder: &str) {
    let file = |name: &str| fs::File::open(world.path(&format!("{folder}/{name}"))).unwrap();
    let at = |name: &str, offset: u64, len: usize| {
        let mut bytes = vec![0; len];
        file(name).read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    for (name, size) in [("giant", GIANT), ("hollow", 104_857_600), ("empty", 104_857_600)] {
        let meta = file(name).metadata().unwrap();
        assert_eq!(meta.size(), size, "{name}");
        assert!(meta.blocks() < 4096, "{name} takes {} blocks", meta.blocks());
    }
    assert_eq!(at("giant", MIDDLE - 3, 19), b"\0\0\0in the middle\0\0\0");
    assert_eq!(at("giant", GIANT - 5, 5), [0; 5]);
    let hollow = fs::read(world.path(&format!("{folder}/hollow"))).unwrap();
    assert!(hollow.starts_with(b"start") && hollow[5..].iter().all(|byte| *byte == 0));
    assert!(fs::read(world.path(&format!("{folder}/small"))).unwrap().ends_with(b"\0end"));
}

/// The files in a directory of the image, by e2fsck and debugfs.
fn judge_image(world: &World, directory: &str) {
    let image = world.path("image");
    assert_clean(&image, directory);
    let debugfs = |command: &str| run("debugfs", &["-R", command, &name(&image)]);
    for (file, size, most) in [("giant", GIANT, 64), ("hollow", 104_857_600, 64), ("small", 1_000_000, 4096)] {
        let stat = debugfs(&format!("stat {directory}/{file}"));
        assert!(stat.contains(&format!("Size: {size}\n")), "{stat}");
        let blocks: u64 =
            stat.split("Blockcount: ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        assert!(blocks <= most, "{file}: {blocks} sectors");
    }
    let block = |file: &str, number: u64| {
        let map = debugfs(&format!("bmap {directory}/{file} {number}"));
        let at = map.trim().parse::<u64>().unwrap() * 4096;
        let mut bytes = vec![0; 16];
        fs::File::open(&image).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    assert!(block("giant", MIDDLE / 4096).starts_with(b"in the middle"));
    assert!(block("hollow", 0).starts_with(b"start"));
}

#[test]
fn archives_have_holes_left_out() {
    let world = world();
    world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "tar-out", "/d", "out.tar", "xattrs:true"]);
    assert!(fs::metadata(world.path("out.tar")).unwrap().len() < 1_200_000);
    let listed = run("tar", &["-tvf", &name(&world.path("out.tar"))]);
    assert!(listed.contains(&format!(" {GIANT} ")) && listed.contains("./hollow\n"), "{listed}");
    // A small file is as it always was.
    let raw = fs::read(world.path("out.tar")).unwrap();
    let beside = |file: &str| raw.windows(17 + file.len()).any(|w| w == format!("GNUSparseFile.0/{file}\0").as_bytes());
    assert!(beside("giant") && beside("hollow") && beside("empty") && !beside("small"));
    fs::create_dir(world.path("host")).unwrap();
    run("tar", &["-C", &name(&world.path("host")), "-xf", &name(&world.path("out.tar"))]);
    judge_host(&world, "host");
    let python = "import sys, tarfile\nt = tarfile.open('out.tar')\nf = t.extractfile('./giant')\nf.seek(int(sys.argv[1]))\n\
                  print(t.getmember('./giant').size, f.read(13).decode(), t.getmember('./hollow').pax_headers.get('SCHILY.xattr.user.note'))";
    let output = Command::new("python3")
        .current_dir(world.folder.path())
        .args(["-c", python, &MIDDLE.to_string()])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), format!("{GIANT} in the middle value\n"), "{}", text(&output.stderr));
    // And back in, as it is and as GNU tar writes such files.
    world.good(&["-a", "image", "-m", "/dev/sda", "mkdir", "/back", ":", "tar-in", "out.tar", "/back", "xattrs:true"]);
    judge_image(&world, "/back");
    for (number, format) in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=0.0"],
    ]
    .iter()
    .enumerate()
    {
        let (archive, folder) = (name(&world.path("gnu.tar")), name(&world.path("host")));
        run("tar", &[&["-S"], *format, &["-C", &folder, "-cf", &archive, "."]].concat());
        let directory = format!("/gnu{number}");
        world.good(&["-a", "image", "-m", "/dev/sda", "mkdir", &directory, ":", "tar-in", "gnu.tar", &directory]);
        judge_image(&world, &directory);
    }
}

#[test]
fn copies_keep_holes() {
    let world = world();
    fs::create_dir(world.path("host")).unwrap();
    world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "copy-out", "/d", "host"]);
    judge_host(&world, "host/d");
    world.good(&["-a", "image", "-m", "/dev/sda", "mkdir", "/back", ":", "copy-in", "host/d", "/back"]);
    judge_image(&world, "/back/d");
    // One file by itself.
    world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "copy-out", "/d/giant", "."]);
    assert!(fs::metadata(world.path("giant")).unwrap().blocks() < 4096);
    fs::rename(world.path("giant"), world.path("host/d/giant")).unwrap();
    world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "download", "/d/hollow", "host/d/hollow"]);
    world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "download", "/d/empty", "host/d/empty"]);
    judge_host(&world, "host/d");
    world.good(&[
        "--ro",
        "-a",
        "image",
        "-m",
        "/dev/sda",
        "download-offset",
        "/d/giant",
        "part",
        "7696581394000",
        "200000000",
    ]);
    let part = fs::read(world.path("part")).unwrap();
    assert_eq!(part.len(), 200_000_000);
    let at = (MIDDLE - 7_696_581_394_000) as usize;
    assert!(part[at..].starts_with(b"in the middle") && fs::metadata(world.path("part")).unwrap().blocks() < 4096);
    fs::remove_file(world.path("part")).unwrap();
    let piped = world.good(&["--ro", "-a", "image", "-m", "/dev/sda", "download", "/d/small", "-"]);
    assert!(piped.len() == 1_000_000 && piped.ends_with("\0end"));
    fs::rename(world.path("host/d/giant"), world.path("giant")).unwrap();
    world.good(&["-a", "image", "-m", "/dev/sda", "mkdir", "/one", ":", "copy-in", "giant", "/one"]);
    assert_clean(&world.path("image"), "one file");
}
