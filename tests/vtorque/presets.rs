//! The model of systemd's presets against the real systemctl.

use super::*;

/// Rules with patterns, comments, files that hide others: what systemctl says of each unit.
#[test]
fn presets_as_systemctl_has_them() {
    let world = World::new();
    let tree = world.path("tree");
    let etc = tree.join("etc/systemd/system-preset");
    let lib = tree.join("usr/lib/systemd/system-preset");
    let units = tree.join("usr/lib/systemd/system");
    for folder in [&etc, &lib, &units, &tree.join("etc/systemd/system")] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(etc.join("10-a.preset"), "# disable a.service\n; disable a.service\n  enable a.service\ndisable a.*\n")
        .unwrap();
    fs::write(etc.join("20-hides.preset"), "disable b-?.service\n").unwrap();
    fs::write(lib.join("20-hides.preset"), "disable c.service\n").unwrap();
    fs::write(lib.join("15-b.preset"), "disable b-[!x]x.service\r\nenable\tb-2.service  \ndisable\nfrob b-3.service\n")
        .unwrap();
    fs::write(lib.join("30-no.conf"), "disable d.service\n").unwrap();
    fs::write(lib.join("40-masked.preset"), "disable d.service\n").unwrap();
    std::os::unix::fs::symlink("/dev/null", etc.join("40-masked.preset")).unwrap();
    fs::write(
        lib.join("50.preset"),
        "enable e[0-9].service\ndisable e*\ndisable \\x2d.service f.service\ndisable f.x.service\n",
    )
    .unwrap();
    let names = ["a", "b-1", "b-2", "b-3", "b-yx", "b-xx", "c", "d", "e1", "e11", "ex", "f.x", "fax", "z"];
    for name in names {
        let text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        fs::write(units.join(format!("{name}.service")), text).unwrap();
    }
    let listed = Command::new("systemctl")
        .args(["--root", &name(&tree), "--no-legend", "--no-pager", "list-unit-files", "*.service"])
        .env("SYSTEMD_COLORS", "0")
        .output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: no systemctl here");
        return;
    };
    let said = text(&listed.stdout);
    let mut real: Vec<String> = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [unit, _, preset] = words[..] {
            real.push(format!("{unit} {}", preset.trim_end_matches('d')));
        }
    }
    real.sort();
    assert_eq!(real.len(), names.len(), "{said}");
    fs::write(
        world.path("ours.rhai"),
        "import \"std/systemd\" as systemd;\nfor name in ARGS { print(name + \" \" + systemd::preset(name).verb); }\n",
    )
    .unwrap();
    world.good(&["-f", &script("small-guest.gfs")]);
    for folder in ["tree/etc/systemd", "tree/usr/lib/systemd"] {
        let to = format!("/{}", folder.trim_start_matches("tree/").trim_end_matches("/systemd"));
        world.good(&["-a", IMAGE, "-m", "/dev/sda2", "copy-in", folder, &to]);
    }
    let units = names.map(|name| format!("{name}.service"));
    let words =
        ["--ro", "-a", IMAGE, "-m", "/dev/sda2", "ours.rhai"].into_iter().chain(units.iter().map(String::as_str));
    let ours = world.good(&words.collect::<Vec<_>>());
    let mut ours: Vec<&str> = ours.lines().collect();
    ours.sort_unstable();
    assert_eq!(ours, real);
}
