//! The model of ds-identify against the real script.

use super::*;

/// The real ds-identify: of Debian's package, unpacked by `scripts/test-all`, or installed.
fn real_ds_identify() -> Option<std::path::PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/cloud-init/usr/lib/cloud-init/ds-identify");
    [unpacked, "/usr/lib/cloud-init/ds-identify"].iter().map(std::path::PathBuf::from).find(|path| path.exists())
}

/// What the real script, run on the guest's files, makes of lists and policies, against VT-CI-DSID.
#[test]
fn ds_identify_as_the_real_one() {
    let Some(program) = real_ds_identify() else {
        eprintln!("skipped: no ds-identify here; scripts/test-all fetches Debian's package for it");
        return;
    };
    let world = fit_guest();
    let lists = [
        "datasource_list: [ NoCloud ]\n",
        "datasource_list: [ NoCloud, None ]\n",
        "datasource_list: [ Ec2, None ]\n",
        "datasource_list: [ Ec2, NoCloud ]\n",
        "datasource_list: [ 'NoCloud', \"Ec2\" ] # c\n",
        "datasource_list: [ Ec2, # NoCloud ]\n",
        "datasource_list: [ nocloud, Ec2 ]\n",
        "datasource_list: NoCloud\n",
        "datasource_list: NoCloud, Ec2\n",
        "datasource_list: [ Ec2,\n NoCloud ]\n",
        "datasource_list:\n- NoCloud\n",
        "datasource_list: []\n",
        "datasource_list: [ Ec2, GCE ]\n",
        "datasource_list: [ Ec2, GCE ]",
        "#datasource_list: [ Ec2, GCE ]\n",
        "old_datasource_list: [ Ec2, GCE ]\n",
        "a:\n  datasource_list: [ Ec2, GCE ]\n",
        "datasource_list : [ Ec2, GCE ]\n",
        "datasource_list:  [NoCloud,Ec2]\n",
        "datasource_list:[ Ec2, GCE ]\n",
        "datasource_list: [ NoCloud ]\r\n",
        "datasource_list: [ NoCloud, Ec2 ]\r\n",
        "datasource_list: [ Ec2, GCE ]\r\n",
        "\tdatasource_list:\t[ Ec2, GCE ]\n",
        "datasource_list: [ Ec2, GCE ]\ndatasource_list: [ NoCloud, GCE ]\n",
    ];
    let policies = [
        "",
        "policy: disabled\n",
        "policy: enabled\n",
        "policy: report\n",
        "policy: search,found=first,maybe=all,notfound=enabled\n",
        "datasource: NoCloud\n",
        "datasource: Ec2\n",
        "policy: disabled",
        "  policy : \"disabled\" # c\n",
        "policy: disabled\r\n",
        "policy: search,notfound=enabled\ndatasource: \"Ec2\"\n",
    ];
    let cases = lists.iter().map(|list| (*list, "")).chain(policies.iter().map(|policy| (lists[12], *policy)));
    let mut wrong = String::new();
    for (list, policy) in cases.chain(policies.iter().map(|policy| (lists[3], *policy))) {
        fs::write(world.path("list.cfg"), list).unwrap();
        fs::write(world.path("ds.cfg"), policy).unwrap();
        decoy(
            &world,
            "upload list.cfg /etc/cloud/cloud.cfg.d/99_nocloud.cfg\nupload ds.cfg /etc/cloud/ds-identify.cfg\n",
        );
        let root = world.path("root");
        let _ = fs::remove_dir_all(&root);
        for folder in ["sys/class/dmi/id", "etc", "var", "run/cloud-init", "proc", "tools"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        world.good(&["--ro", "-a", DECOY, "-m", "/dev/sda2", "copy-out", "/etc/cloud", "root/etc"]);
        fs::write(root.join("proc/cmdline"), "ro\n").unwrap();
        for (tool, answer) in [
            ("blkid", "DEVNAME=/dev/vdb\\nUUID=2026-01-01\\nLABEL=cidata\\nTYPE=iso9660\\n\\n"),
            ("systemd-detect-virt", "kvm\\n"),
            ("uname", ""),
        ] {
            // Older scripts ask for six fields, newer ones for three.
            let body = match tool {
                "uname" => "#!/bin/sh\ncase $1 in *o*) echo Linux h 6.1 '#1 x' x86_64 GNU/Linux;; *) echo Linux '#1 x' x86_64;; esac\n".into(),
                _ => format!("#!/bin/sh\nprintf '{answer}'\n"),
            };
            fs::write(root.join("tools").join(tool), body).unwrap();
            run("chmod", &["0755", &name(&root.join("tools").join(tool))]);
        }
        let ran = Command::new("sh")
            .arg(&program)
            .env("PATH_ROOT", &root)
            .env("PATH", format!("{}:/usr/bin:/bin", name(&root.join("tools"))))
            .env("DI_LOG", "/dev/null")
            .output()
            .unwrap();
        let written = fs::read_to_string(root.join("run/cloud-init/cloud.cfg")).unwrap_or_default();
        let list_line = written.lines().find(|line| line.starts_with("datasource_list:"));
        let real = match (ran.status.code(), list_line) {
            (Some(0), Some(line)) if line.contains("NoCloud") => "finds the NoCloud",
            (Some(0), None) => "leaves the configured list",
            _ => "fail",
        };
        let (table, _) = checked(&world, &["--ro"]);
        let line = table.lines().find(|line| line[8..].starts_with("VT-CI-DSID")).unwrap_or_default();
        let same = match real {
            "fail" => line.starts_with("fail"),
            "finds the NoCloud" => line.starts_with("warn") || line.contains(real),
            _ => line.contains(real),
        };
        if !same {
            wrong += &format!("{list:?} {policy:?}: {real} ({written:?}), not: {line}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
