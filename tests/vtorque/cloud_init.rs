//! The model of cloud-init's configuration against the real one.

use super::*;

/// Where the real cloud-init's code is: of Debian's package, unpacked by `scripts/test-all`, or installed. Its own libraries may be missing.
fn real_cloud_init() -> Option<&'static str> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/cloud-init/usr/lib/python3/dist-packages");
    [unpacked, "/usr/lib/python3/dist-packages"].into_iter().find(|path| {
        let tried =
            Command::new("/usr/bin/python3").args(["-c", "import cloudinit.util"]).env("PYTHONPATH", path).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

/// What the real one makes of a folder with cases, each a folder with cloud.cfg, cloud.cfg.d and cmdline: a line of JSON each.
const REAL: &str = r#"
import json, os, sys, logging
logging.disable(logging.CRITICAL)
from cloudinit import util
for case in sorted(os.listdir(sys.argv[1])):
    folder = os.path.join(sys.argv[1], case)
    line = util.load_yaml(util.read_cc_from_cmdline(open(folder + "/cmdline").read()), default={})
    try:
        print(json.dumps(util.mergemanydict([line, util.read_conf_with_confd(folder + "/cloud.cfg")]), sort_keys=True))
    except Exception:
        print("refused")
"#;

/// The same in Rhai, in a guest that has the cases below /cases.
const OURS: &str = r#"
import "std/cloud_init" as cloud_init;
for name in ls("/cases") {
    let folder = "/cases/" + name;
    rm_rf("/etc/cloud");
    mkdir_p("/etc/cloud");
    cp_a(folder + "/cloud.cfg", "/etc/cloud");
    cp_a(folder + "/cloud.cfg.d", "/etc/cloud");
    let line = #{ file: "grub.cfg", line: 1, text: cat(folder + "/cmdline") };
    let config = cloud_init::config(line);
    print(if config.doubt == "" { config.value.to_json() } else { "refused" });
}
"#;

/// Files that say how they are merged, and configuration among the kernel's words.
#[test]
fn merged_as_by_the_real_one() {
    let Some(code) = real_cloud_init() else {
        eprintln!("skipped: no cloud-init here that Python can load");
        return;
    };
    let list = "l: [a, {b: 1}, [c], d]\nm: {x: {y: [1, 2], s: abc}, n: null}\ns: text\nt: true\n";
    let values = [
        list,
        "l: [z]\nm: {x: {y: [3], s: de, q: 1}, n: 7}\ns: more\nt: [1]\n",
        "l: {a: 1}\nm: text\ns: {a: 1}\nt: null\n",
        "l: text\nm: [1]\ns: [1]\nt: {a: 1}\n",
        "l: [e, {b: 2, c: 3}, [f, g]]\nm: null\ns: null\n",
        "l: null\nm: {x: null, n: {a: 1}}\n",
        "- a\n- b\n",
        "",
    ];
    let ways = [
        "",
        "merge_how: dict(replace)+list()+str()\n",
        "merge_how: ' List(Append) + dict(no_replace, recurse_list)+str(append)'\n",
        "merge_type: dict(recurse_array,recurse_str,allow_delete)+list(prepend)\n",
        "merge_how: dict(recurse_list)+list(recurse_dict,recurse_array,recurse_str)+str(append)\n",
        "merge_how: dict(recurse_list)+list(no_replace)\n",
        "merge_how: list(append)\n",
        "merge_how: m_dict(replace)+dict()\n",
        "merge_how: [{name: dict, settings: [replace]}, [list, append]]\n",
        "merge_how: null\nmerge_type: dict(replace)\n",
        "merge_how: set()\n",
        "merge_how: dict\n",
        "merge_how: ''\n",
    ];
    let lines = [
        "ro quiet",
        "ro \"cc:{s: cmd, l: [k]}end_cc\" quiet",
        "xcc:s:%20cmd%0Am:%20{z:%201}end_cc cc: t: [9]\\nu: 1",
        "cc:s: [1",
        "cc:- a\n",
        "cc:%zz: %4 end_cc",
    ];
    let world = World::new();
    let mut cases = 0;
    let mut case = |strong: &str, weak: &str, way: &str, line: &str| {
        let folder = world.path("cases").join(format!("{cases:04}"));
        fs::create_dir_all(folder.join("cloud.cfg.d")).unwrap();
        fs::write(folder.join("cloud.cfg"), format!("l: [base]\nm: {{x: {{y: [0]}}}}\nbase: 1\n{way}")).unwrap();
        fs::write(folder.join("cloud.cfg.d/10.cfg"), format!("{weak}{way}")).unwrap();
        fs::write(folder.join("cloud.cfg.d/20.cfg"), strong).unwrap();
        fs::write(folder.join("cmdline"), line).unwrap();
        cases += 1;
    };
    for way in ways {
        for strong in values {
            for weak in &values[..6] {
                case(strong, weak, way, lines[0]);
            }
        }
        for line in lines {
            case(list, values[1], way, line);
        }
    }
    fs::write(world.path("real.py"), REAL).unwrap();
    fs::write(world.path("ours.rhai"), OURS).unwrap();
    let mut python = Command::new("/usr/bin/python3");
    let real = python.arg(world.path("real.py")).arg(world.path("cases")).env("PYTHONPATH", code).output().unwrap();
    assert!(real.status.success(), "{}", text(&real.stderr));
    world.good(&["-f", &script("small-guest.gfs")]);
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "copy-in", "cases", "/"]);
    let ours = world.good(&["--dry-run", "-a", IMAGE, "-m", "/dev/sda2", "ours.rhai"]);
    // Both as Python writes it: the order of keys and the blanks are the same then.
    fs::write(world.path("ours"), ours).unwrap();
    let sorted = "import json, sys\nfor l in open(sys.argv[1]):\n  print(l.strip() if l == 'refused\\n' else json.dumps(json.loads(l), sort_keys=True))\n";
    let ours = run("/usr/bin/python3", &["-c", sorted, &name(&world.path("ours"))]);
    let real = text(&real.stdout);
    assert_eq!((ours.lines().count(), real.lines().count()), (cases, cases));
    for refused in [&ours, &real] {
        assert!(refused.lines().filter(|line| *line == "refused").count() < cases / 3, "{refused}");
    }
    for (at, (ours, real)) in ours.lines().zip(real.lines()).enumerate() {
        let folder = world.path("cases").join(format!("{at:04}"));
        let shown = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        // Keys and letters in a list's place are not taken apart: nobody means that.
        if ours == "refused"
            && ["Append", "append", "prepend"].iter().any(|way| shown("cloud.cfg.d/10.cfg").contains(way))
        {
            continue;
        }
        assert_eq!(
            ours,
            real,
            "{}\n{}\n{}",
            shown("cloud.cfg.d/10.cfg"),
            shown("cloud.cfg.d/20.cfg"),
            shown("cmdline")
        );
    }
}
