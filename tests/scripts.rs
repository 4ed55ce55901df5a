//! The worked examples in `scripts/`, run by the program and judged by e2fsck, debugfs and qemu-img.

mod oracle;

use std::fs;

use oracle::run;
use oracle::world::{World, name, script, text};

/// A guest with what the scripts need.
fn guest(world: &World, datasources: &str) {
    world.good(&[
        "disk-create",
        "guest.qcow2",
        "qcow2",
        "128M",
        ":",
        "add",
        "guest.qcow2",
        ":",
        "run",
        ":",
        "part-disk",
        "/dev/sda",
        "gpt",
        ":",
        "mkfs",
        "ext4",
        "/dev/sda1",
        ":",
        "mount",
        "/dev/sda1",
        "/",
        ":",
        "mkdir-p",
        "/etc/cloud/cloud.cfg.d",
        ":",
        "mkdir-p",
        "/etc/profile.d",
        ":",
        "mkdir-p",
        "/var/lib/dpkg",
        ":",
        "mkdir-p",
        "/usr/bin",
        ":",
        "mkdir",
        "/opt",
        ":",
        "write",
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n",
        ":",
        "write",
        "/etc/os-release",
        "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
        ":",
        "write",
        "/var/lib/dpkg/status",
        "Package: cloud-init\nStatus: install ok installed\nVersion: 22.4.2-1\n\n",
        ":",
        "write",
        "/etc/cloud/cloud.cfg",
        datasources,
    ]);
}

#[test]
fn add_application_keeps_modes_links_and_times() {
    let world = World::new();
    guest(&world, "datasource_list: [ NoCloud ]\n");
    fs::create_dir_all(world.path("tool/bin")).unwrap();
    fs::write(world.path("tool/bin/run"), vec![7; 100_000]).unwrap();
    std::os::unix::fs::symlink("run", world.path("tool/bin/start")).unwrap();
    run("chmod", &["0750", &name(&world.path("tool/bin/run"))]);
    run("touch", &["-d", "2001-02-03 04:05:06 UTC", &name(&world.path("tool/bin/run"))]);

    world.good(&["-a", "guest.qcow2", &script("add-application.rhai"), "tool", "demo"]);
    let part = world.judged("guest.qcow2");
    run("debugfs", &["-R", &format!("dump /opt-vm/demo/bin/run {}", name(&world.path("back"))), &part]);
    assert_eq!(fs::read(world.path("back")).unwrap(), vec![7; 100_000]);
    let stat = run("debugfs", &["-R", "stat /opt-vm/demo/bin/run", &part]);
    assert!(stat.contains("Mode:  0750") && stat.contains("User:     0"), "{stat}");
    assert!(stat.contains("mtime: 0x3a7b8372:00000000"), "{stat}");
    let link = run("debugfs", &["-R", "stat /opt-vm/demo/bin/start", &part]);
    assert!(link.contains("Fast link dest: \"run\""), "{link}");
    assert_eq!(run("debugfs", &["-R", "cat /etc/profile.d/demo.sh", &part]), "PATH=/opt-vm/demo/bin:$PATH\n");

    let twice = world.imgsh(&["-a", "guest.qcow2", &script("add-application.rhai"), "tool", "demo"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("/opt-vm/demo is there already"), "{}", text(&twice.stderr));
}

#[test]
fn a_script_error_names_file_line_and_column_and_writes_nothing() {
    let world = World::new();
    guest(&world, "\n");
    let before = fs::read(world.path("guest.qcow2")).unwrap();
    fs::write(world.path("bad.rhai"), "write(\"/etc/x\", \"1\");\n\n  rm(\"/nope\");\n").unwrap();
    let output = world.imgsh(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "bad.rhai"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("bad.rhai:3:3: rm: /nope: No such file or directory"), "{message}");
    assert!(before == fs::read(world.path("guest.qcow2")).unwrap(), "a failing script wrote to the image");

    fs::write(
        world.path("caught.rhai"),
        "try { rm(\"/nope\") } catch (e) { print(e.kind + \" \" + e.message + \"|\" + e.error + \"|\" + e.path + \"|\" + e.command) }\nsync();\n",
    )
    .unwrap();
    assert_eq!(
        world.good(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "caught.rhai"]),
        "NotFound /nope: No such file or directory|No such file or directory|/nope|rm\n"
    );
    fs::write(world.path("mode.rhai"), "chmod(0755, \"/etc\");").unwrap();
    let output = world.imgsh(&["-a", "guest.qcow2", "-m", "/dev/sda1", "-f", "mode.rhai"]);
    assert!(text(&output.stderr).contains("write 0o755"), "{}", text(&output.stderr));
}

/// Calls that Rhai does not count end in an error, too.
#[test]
fn endless_nesting_is_an_error() {
    let world = World::new();
    fs::write(world.path("itself.rhai"), "import \"itself\" as x;").unwrap();
    fs::write(world.path("eval.rhai"), "let s = \"eval(s)\"; eval(s);").unwrap();
    for script in ["itself.rhai", "eval.rhai"] {
        let output = world.imgsh(&["-f", script]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("call one another too deeply") && message.len() < 1000, "{message}");
    }
}

/// A script's functions and those of the library do not take each other's places, whoever is called first.
#[test]
fn functions_of_the_same_name_keep_apart() {
    let world = World::new();
    let own = "fn beside(a, b) { \"mine\" }\nfn words(x) { [\"own\"] }\nfn joined(a, b) { \"mine\" }\n";
    let lines = [
        "print(beside(1, 2) + words(\"\")[0] + joined(1, 2));",
        "print(systemd::beside(\"/a/b\", \"c\") + guest::joined(guest::words(\"x  y\"), \"-\"));",
        "print(cloud::names_in(\"a, b\").len() + report::table([#{ a: cloud::names_in(\"c\")[0] }]).len());",
        "print(!systemd::does_work(\"/bin/true x\", \"\", \"\"));",
    ];
    let said = ["mineownmine", "/a/cx-y", "5", "true"];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        let mut script = String::from(own);
        for name in ["systemd", "guest", "report"] {
            script += &format!("import \"std/{name}\" as {name};\n");
        }
        script += "import \"std/cloud_init\" as cloud;\n";
        script += &order.map(|at| lines[at]).join("\n");
        fs::write(world.path("s.rhai"), &script).unwrap();
        assert_eq!(world.good(&["s.rhai"]), order.map(|at| format!("{}\n", said[at])).concat(), "{script}");
    }
}

/// What the library throws is told at the script's own line, and at none for a command that is written in Rhai.
#[test]
fn errors_of_the_library_are_told_at_the_call() {
    let world = World::new();
    let said = |lines: &str| {
        fs::write(world.path("s.rhai"), lines).unwrap();
        let output = world.imgsh(&["s.rhai"]);
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let assert = "import \"std/assert\" as assert;\n";
    assert_eq!(
        said(&format!("{assert}  assert::that(assert::same(\"n\", 1, 2));\n")),
        "imgsh: s.rhai:2:11: n: expected 2, found 1\n"
    );
    let message =
        said(&format!("{assert}fn f() {{\n  import \"std/files\" as files;\n  files::bytes_of(\"x\")\n}}\n\nf();\n"));
    assert_eq!(
        message,
        "imgsh: s.rhai:4:10: 'x' is no number with one of the units G, K, M, T\n  hint: called from s.rhai:7:1 for f()\n"
    );
    let output =
        world.imgsh(&["disk-create", "a.img", "raw", "1M", ":", "add", "a.img", ":", "run", ":", "osv-command-line"]);
    let message = text(&output.stderr);
    assert!(message.contains("error: osv_command_line: none of these disks is an OSv image"), "{message}");
    assert!(!message.contains("std/") && !message.contains("called from"), "{message}");
}

/// Functions of the same name in a script and two modules of its user: each calls its own.
#[test]
fn functions_of_modules_keep_apart() {
    let world = World::new();
    let module = |letter: &str| {
        format!(
            "/* it's {letter} */ fn word(x) {{ `{letter}${{x}}` }}\nfn all(x) {{ word(x) }}\n\
             fn twice() {{ word(this) + word(this) }}\nfn method(x) {{ x.twice() }}\nfn fails() {{ throw word(0) }}\n"
        )
    };
    fs::write(world.path("a.rhai"), module("a")).unwrap();
    fs::write(world.path("b.rhai"), module("b")).unwrap();
    let main = "import \"a\" as a;\nimport \"b\" as b;\nfn word(x) { `m${x}` }\nfn mine(x) { word(x) }\n\
                for i in 0..2 {\n  print(`${mine(1)} ${a::all(1)} ${b::all(1)} ${word(2)} ${a::word(3)} ${b::word(3)} ${mine(1)}`);\n  \
                print(`${a::method(4)} ${b::method(5)}`);\n  try { b::fails() } catch (e) { print(e) }\n}\n";
    fs::write(world.path("main.rhai"), main).unwrap();
    let once = "m1 a1 b1 m2 a3 b3 m1\na4a4 b5b5\nb0\n";
    assert_eq!(world.good(&["main.rhai"]), once.repeat(2));
    // An error names the function as it is written.
    fs::write(world.path("bad.rhai"), "import \"a\" as a;\nfn fails() { 1 }\na::fails();\n").unwrap();
    let output = world.imgsh(&["bad.rhai"]);
    let said = text(&output.stderr);
    assert!(said.contains("fails()") && !said.contains("__own_"), "{said}");
}
