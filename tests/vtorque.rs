//! `vtorque-check`: decoys of a small guest for every check, what `fix` mends, the document, the exit status, the real ds-identify.

mod oracle;

use std::fs;
use std::process::Command;

use oracle::world::{World, name, script, text};
use oracle::{assert_clean, run};

const IMAGE: &str = "guest-debian.qcow2";
const DECOY: &str = "decoy-debian.qcow2";
/// Mends the base guest, which quickstart shows with two faults.
const FIT: &str = "-a guest-debian.qcow2 -i vtorque-check fix:true";

/// The small guest of `scripts/small-guest.gfs`, fit for vTorque.
fn fit_guest() -> World {
    let world = World::new();
    world.good(&["-f", &script("small-guest.gfs")]);
    let table = world.good(&FIT.split(' ').collect::<Vec<_>>());
    assert!(table.ends_with("overall: pass\n"), "{table}");
    world
}

/// Makes the decoy: the guest with lines run on it.
fn decoy(world: &World, lines: &str) {
    fs::copy(world.path(IMAGE), world.path(DECOY)).unwrap();
    fs::write(world.path("decoy.gfs"), lines).unwrap();
    world.good(&["-a", DECOY, "-m", "/dev/sda2", "-f", "decoy.gfs"]);
}

/// The check's table and exit status.
fn checked(world: &World, words: &[&str]) -> (String, Option<i32>) {
    let output = world.imgsh(&[&["-a", DECOY, "vtorque-check"], words].concat());
    (text(&output.stdout), output.status.code())
}

/// `VERDICT ID` of each line of a table.
fn verdicts(table: &str) -> Vec<(String, String)> {
    let verdict = |line: &&str| line.len() > 23 && line[8..].starts_with("VT-");
    table.lines().filter(verdict).map(|line| (line[8..23].trim().to_string(), line[..8].trim().to_string())).collect()
}

/// The root file system of an image, clean by e2fsck.
fn judged(world: &World, image: &str) -> String {
    let part = world.part(image, 67_584..522_241);
    assert_clean(&part, "the guest");
    name(&part)
}

#[test]
fn quickstart_makes_a_guest_that_fits() {
    let world = World::new();
    let folder = name(world.folder.path());
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let ran = std::process::Command::new(script("quickstart"))
        .arg(&folder)
        .env("IMGSH", env!("CARGO_BIN_EXE_imgsh"))
        .env("PATH", path)
        .output()
        .unwrap();
    let output = text(&ran.stdout);
    assert!(ran.status.success(), "{output}{}", text(&ran.stderr));
    assert!(output.contains("fix     VT-CI-NOCLOUD  put NoCloud first in the datasource list"), "{output}");
    assert!(output.contains("overall: pass"), "{output}");
    assert!(output.contains("read back in a new run:\n/dev/sda2: /\n/dev/sda1: /boot/efi\nhello\n"), "{output}");

    let part = world.part(IMAGE, 67_584..522_241);
    assert_clean(&part, "the guest");
    let part = name(&part);
    run("fsck.fat", &["-n", &name(&world.part(IMAGE, 2048..67_584))]);
    assert_eq!(
        run("debugfs", &["-R", "cat /opt-vm/hello/bin/hello", &part]),
        "#!/bin/sh\necho \"hello from the guest\"\n"
    );
    assert!(run("debugfs", &["-R", "stat /opt-vm/hello/bin/hello", &part]).contains("Mode:  0755"));
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("datasource_list: [ NoCloud, ConfigDrive, Ec2 ]\n"), "{nocloud}");
    // A second run finds nothing left to mend.
    let again = world.good(&["-a", IMAGE, "vtorque-check", "fix:true"]);
    assert!(!again.contains("\nfix ") && !again.starts_with("fix ") && again.contains("overall: pass"), "{again}");
}

/// For each check: a change of the guest, and the verdict that it makes. Nothing else may change its verdict, but for checks that
/// depend on the same thing and are named behind.
#[test]
fn decoys() {
    let world = fit_guest();
    decoy(&world, "");
    let clean = verdicts(&checked(&world, &[]).0);
    let list = |text: &str| format!("write /etc/cloud/cloud.cfg.d/99_nocloud.cfg \"{text}\"\n");
    let dpkg = |version: &str| {
        format!(
            "write /var/lib/dpkg/status \"Package: cloud-init\\nStatus: install ok installed\\nVersion: {version}\\n\"\n"
        )
    };
    let grub = |words: &str| {
        format!(
            "write /boot/grub/grub.cfg \"menuentry 'A' {{\\n linux /boot/vmlinuz-6.1.0-9-amd64 root=LABEL=root {words}\\n}}\\n\"\n"
        )
    };
    let user = |home: &str, shell: &str| {
        format!("write /etc/passwd \"root:x:0:0::/root:/bin/sh\\nu:x:1000:1000::{home}:{shell}\\n\"\n")
    };
    let netplan = |text: &str| {
        format!("mkdir-p /etc/netplan\nwrite /etc/netplan/50.yaml \"network:\\n  ethernets:\\n    {text}\\n\"\n")
    };
    let disabled = "touch /etc/cloud/cloud-init.disabled\n";
    let decoys: Vec<(String, &str)> = vec![
        // The family.
        ("write /etc/os-release \"ID=alpine\\n\"\n".into(), "fail VT-OS VT-IMG-NAME"),
        ("write /etc/os-release \"ID=mint\\nID_LIKE='ubuntu debian'\\n\"\n".into(), "pass VT-OS"),
        // The package.
        ("write /var/lib/dpkg/status \"Package: cloud-init\\nStatus: deinstall ok config-files\\n\"\n".into(), "fail VT-CI-PKG"),
        ("write /var/lib/dpkg/status \"Package: cloud-init\\nStatus: install ok half-configured\\n\"\n".into(), "fail VT-CI-PKG"),
        ("write /var/lib/dpkg/status \"Package: cloud-initramfs\\nStatus: install ok installed\\n\"\n".into(), "fail VT-CI-PKG"),
        ("write /var/lib/dpkg/status \"Package: cloud-init-base\\nStatus: hold ok installed\\nVersion: 25.1\\n\"\n".into(), "pass VT-CI-PKG"),
        ("rm /var/lib/dpkg/status\n".into(), "unknown VT-CI-PKG"),
        // Its files.
        ("chmod 0644 /usr/bin/cloud-init\n".into(), "fail VT-CI-FILES"),
        ("rm-rf /usr/lib/python3/dist-packages/cloudinit\n".into(), "fail VT-CI-FILES"),
        ("rm /usr/lib/systemd/system/cloud-final.service\n".into(), "fail VT-CI-FILES VT-CI-UNITS"),
        // Off switches.
        (disabled.into(), "fail VT-CI-DISABLED"),
        (format!("{disabled}touch /etc/cloud/cloud-init.enabled\n"), "pass VT-CI-DISABLED"),
        (format!("{}{disabled}touch /etc/cloud/cloud-init.enabled\n", dpkg("24.1-1")), "fail VT-CI-DISABLED"),
        (format!("{}mkdir /etc/cloud/cloud-init.disabled\n", dpkg("1:23.4~rc1")), "fail VT-CI-DISABLED"),
        (format!("{}mkdir /etc/cloud/cloud-init.disabled\n", dpkg("odd")), "unknown VT-CI-DISABLED"),
        // Boot entries.
        (grub("cloud-init=disabled"), "fail VT-CI-CMDLINE"),
        (grub("ds=ec2"), "fail VT-CI-CMDLINE"),
        (grub("ds=nocloud"), "pass VT-CI-CMDLINE"),
        (grub("ci.ds=Ec2"), "fail VT-CI-CMDLINE VT-CI-DSID"),
        (grub("systemd.mask=cloud-init.service"), "fail VT-CI-CMDLINE"),
        ("write /boot/grub/grub.cfg \"set default=1\\nmenuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r\\n}\\nmenuentry b {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r cloud-init=disabled\\n}\\n\"\n".into(), "fail VT-CI-CMDLINE"),
        ("write /boot/grub/grub.cfg \"set default=0\\nmenuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r\\n}\\nmenuentry b {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r cloud-init=disabled\\n}\\n\"\n".into(), "pass VT-CI-CMDLINE"),
        ("write /boot/grub/grub.cfg \"set default='${saved_entry}'\\nmenuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r\\n}\\nsubmenu s {\\nmenuentry b --id x {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r ds=ec2\\n}\\n}\\n\"\nwrite /boot/grub/grubenv \"saved_entry=s>x\\n\"\n".into(), "fail VT-CI-CMDLINE"),
        ("rm /boot/grub/grub.cfg\nmkdir-p /boot/grub2\nmkdir-p /boot/loader/entries\nwrite /boot/grub2/grubenv \"saved_entry=b\\nkernelopts=root=LABEL=r cloud-init=disabled\\n\"\nwrite /boot/loader/entries/a.conf \"version 2\\nlinux /vmlinuz-6.1.0-9-amd64\\noptions root=LABEL=r\\n\"\nwrite /boot/loader/entries/b.conf \"version 1\\nlinux /vmlinuz-6.1.0-9-amd64\\noptions $kernelopts\\n\"\n".into(), "fail VT-CI-CMDLINE"),
        ("rm /boot/grub/grub.cfg\n".into(), "unknown VT-CI-CMDLINE"),
        // Units.
        ("rm /etc/systemd/system/cloud-init.target.wants/cloud-final.service\n".into(), "fail VT-CI-UNITS"),
        ("ln-s /dev/null /etc/systemd/system/cloud-init.service\n".into(), "fail VT-CI-UNITS"),
        ("touch /etc/systemd/system/cloud-init-local.service\n".into(), "fail VT-CI-UNITS"),
        ("ln-s ../../../dev/null /etc/systemd/system/cloud-init.target\n".into(), "fail VT-CI-UNITS"),
        ("chmod 0644 /usr/lib/systemd/system-generators/cloud-init-generator\n".into(), "fail VT-CI-UNITS"),
        ("mkdir /etc/systemd/system-generators\nln-s /dev/null /etc/systemd/system-generators/cloud-init-generator\n".into(), "fail VT-CI-UNITS"),
        ("mkdir /etc/systemd/system/cloud-final.service.d\nwrite /etc/systemd/system/cloud-final.service.d/a.conf \"[Service]\\nExecStart=\\nExecStart=/bin/true\\n\"\n".into(), "fail VT-CI-UNITS"),
        ("mkdir /etc/systemd/system/cloud-init.service.d\nwrite /etc/systemd/system/cloud-init.service.d/a.conf \"[Unit]\\nConditionPathExists=/no\\n\"\n".into(), "fail VT-CI-UNITS"),
        ("mkdir /etc/systemd/system/cloud-init.service.d\nwrite /etc/systemd/system/cloud-init.service.d/a.conf \"[Unit]\\nConditionPathExists=!/no\\n[Service]\\nTimeoutSec=9\\n\"\n".into(), "pass VT-CI-UNITS"),
        ("mkdir /etc/systemd/system/cloud-init.service.d\nwrite /etc/systemd/system/cloud-init.service.d/a.conf \"[Unit]\\nConditionVirtualization=xen\\n\"\n".into(), "unknown VT-CI-UNITS"),
        ("write /etc/systemd/system/cloud-config.service \"[Service]\\nExecStart=/bin/true\\n\"\n".into(), "fail VT-CI-UNITS"),
        ("upload /dev/null /var/lib/dpkg/status\n".into(), "unknown VT-CI-PKG"),
        ("mkdir-p /var/lib/cloud/data\nwrite /var/lib/cloud/data/instance-id \"i-7\\n\"\n".into(), "warn VT-CI-STATE"),
        ("write /etc/systemd/system/workspace-data.mount \"x\"\n".into(), "fail VT-WS-FSTAB"),
        ("write /etc/fstab \"LABEL=o /opt/data ext4 defaults 0 0\\n\"\n".into(), "fail VT-OPT"),
        // The list, as cloud-init reads it.
        (list("datasource_list: [ Ec2, None ]\\n"), "fail VT-CI-NOCLOUD VT-CI-DSID"),
        (list("datasource_list: []\\n"), "warn VT-CI-NOCLOUD"),
        (list("datasource_list: [ nocloud, Ec2 ]\\n"), "fail VT-CI-NOCLOUD VT-CI-DSID"),
        (format!("{}{}", dpkg("23.2-1"), list("datasource_list: [ nocloud ]\\n")), "pass VT-CI-NOCLOUD"),
        (format!("{}{}", dpkg("odd"), list("datasource_list: [ nocloud ]\\n")), "unknown VT-CI-NOCLOUD VT-CI-DSID"),
        // Tabs are no YAML: the file is left out by one reader, and seen by the other.
        (list("x:\\ty\\ndatasource_list: [ Ec2, GCE ]\\n"), "fail VT-CI-DSID VT-CI-NOCLOUD"),
        ("write /etc/cloud/cloud.cfg.d/zz.cfg \"datasource_list: [ Ec2 ]\\n\"\n".into(), "fail VT-CI-NOCLOUD VT-CI-DSID"),
        ("write /etc/cloud/cloud.cfg.d/zz.txt \"datasource_list: [ Ec2 ]\\n\"\n".into(), "pass VT-CI-NOCLOUD"),
        ("write /etc/cloud/cloud.cfg.d/10.cfg \"datasource_list: [ Ec2 ]\\n\"\n".into(), "pass VT-CI-NOCLOUD"),
        // The same, as ds-identify reads it.
        (list("datasource_list:\\n- NoCloud\\n- Ec2\\n"), "warn VT-CI-DSID"),
        (list("datasource_list: [ Ec2,\\n  NoCloud ]\\n"), "fail VT-CI-DSID"),
        (list("datasource_list: [ NoCloud, Ec2 ]\\nsystem_info:\\n  datasource_list: [ Ec2 ]\\n"), "fail VT-CI-DSID"),
        ("write /etc/cloud/ds-identify.cfg \"policy: disabled\\n\"\n".into(), "fail VT-CI-DSID"),
        ("write /etc/cloud/ds-identify.cfg \"policy: enabled\\n\"\n".into(), "pass VT-CI-DSID"),
        ("write /etc/cloud/ds-identify.cfg \"datasource: Ec2\\n\"\n".into(), "fail VT-CI-DSID"),
        (format!("write /etc/cloud/ds-identify.cfg \"datasource: NoCloud\\n\"\n{}", list("datasource_list: [ Ec2 ]\\n")), "pass VT-CI-NOCLOUD"),
        ("chmod 0644 /usr/lib/cloud-init/ds-identify\n".into(), "warn VT-CI-DSID"),
        (format!("{}chmod 0644 /usr/lib/cloud-init/ds-identify\n", dpkg("24.1")), "fail VT-CI-DSID"),
        // Where the seed is looked for.
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"datasource: {NoCloud: {fs_label: seed}}\\n\"\n".into(), "fail VT-CI-LABEL"),
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"datasource: {NoCloud: {fs_label: null}}\\n\"\n".into(), "fail VT-CI-LABEL"),
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"datasource: {NoCloud: {seedfrom: 'http://x/'}}\\n\"\n".into(), "fail VT-CI-LABEL"),
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"datasource: {NoCloud: {fs_label: CIDATA}, Ec2: {fs_label: x}}\\n\"\n".into(), "pass VT-CI-LABEL"),
        // Seeds and state.
        ("mkdir-p /var/lib/cloud/seed/nocloud\ntouch /var/lib/cloud/seed/nocloud/user-data\n".into(), "pass VT-CI-SEED"),
        ("mkdir-p /var/lib/cloud/seed/nocloud-net\ntouch /var/lib/cloud/seed/nocloud-net/user-data\ntouch /var/lib/cloud/seed/nocloud-net/meta-data\n".into(), "warn VT-CI-SEED"),
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"datasource: {NoCloud: {user-data: a, meta-data: b}}\\n\"\n".into(), "warn VT-CI-SEED"),
        ("mkdir-p /var/lib/cloud/instances/iid-local01\n".into(), "fail VT-CI-STATE"),
        ("mkdir-p /var/lib/cloud\nln-s /var/lib/cloud/instances/iid-local01 /var/lib/cloud/instance\n".into(), "fail VT-CI-STATE"),
        ("mkdir-p /var/lib/cloud/data\nwrite /var/lib/cloud/data/instance-id \"iid-local01\\n\"\n".into(), "fail VT-CI-STATE"),
        ("mkdir-p /var/lib/cloud/instances/i-0a1b\n".into(), "warn VT-CI-STATE"),
        ("mkdir-p /var/lib/cloud/instances\n".into(), "pass VT-CI-STATE"),
        // Kernel modules.
        ("rm /usr/lib/modules/6.1.0-9-amd64/kernel/fs/isofs/isofs.ko\n".into(), "fail VT-CI-ISOFS"),
        ("write /usr/lib/modules/6.1.0-9-amd64/modules.dep \"kernel/fs/xisofs.ko:\\n\"\n".into(), "fail VT-CI-ISOFS"),
        ("rm-rf /usr/lib/modules/6.1.0-9-amd64\n".into(), "unknown VT-CI-ISOFS VT-VIRTIO"),
        ("mkdir /etc/modprobe.d\nwrite /etc/modprobe.d/x.conf \"install isofs /bin/true\\n\"\n".into(), "fail VT-CI-ISOFS"),
        ("mkdir /etc/modprobe.d\nwrite /etc/modprobe.d/x.conf \"#blacklist isofs\\n\"\n".into(), "pass VT-CI-ISOFS"),
        ("mkdir /etc/modprobe.d\nwrite /etc/modprobe.d/x.conf \"blacklist isofs\\n\"\nwrite /usr/lib/modules/6.1.0-9-amd64/modules.builtin \"kernel/fs/isofs/isofs.ko\\nkernel/virtio_blk.ko\\nkernel/virtio_net.ko\\n\"\n".into(), "pass VT-CI-ISOFS"),
        // Modules of cloud-init and programs.
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"cloud_config_modules: [runcmd]\\n\"\n".into(), "warn VT-CI-MODULES"),
        ("rm /usr/sbin/blkid\n".into(), "fail VT-CI-DEPS"),
        ("write /usr/lib/systemd/system/cloud-init-main.service \"x\"\nwrite /usr/lib/systemd/system/cloud-init-network.service \"x\"\nln-s /x /etc/systemd/system/cloud-init.target.wants/cloud-init-main.service\nln-s /x /etc/systemd/system/cloud-init.target.wants/cloud-init-network.service\n".into(), "fail VT-CI-DEPS"),
        // Folders.
        ("rmdir /workspace\n".into(), "fail VT-WS"),
        ("rmdir /workspace\ntouch /workspace\n".into(), "fail VT-WS"),
        ("rmdir /workspace\nmkdir /srv\nln-s /srv /workspace\n".into(), "fail VT-WS"),
        ("touch /workspace/f\n".into(), "warn VT-WS"),
        ("mkdir /workspace/lost+found\n".into(), "pass VT-WS"),
        ("write /etc/fstab \"LABEL=w\\t/workspace/\\text4\\tdefaults 0 0\\n\"\n".into(), "fail VT-WS-FSTAB"),
        ("write /etc/fstab \"#LABEL=w /workspace ext4\\nLABEL=w /workspaces ext4 defaults\\n\"\n".into(), "pass VT-WS-FSTAB"),
        ("write /etc/systemd/system/workspace.mount \"x\"\n".into(), "fail VT-WS-FSTAB"),
        ("rmdir /home\n".into(), "fail VT-HOME"),
        ("write /etc/default/useradd \"HOME=/srv/home\\n\"\n".into(), "fail VT-HOME"),
        ("write /etc/default/useradd \"# HOME=/srv\\nHOME=/home\\n\"\n".into(), "pass VT-HOME"),
        ("write /etc/adduser.conf \"DHOME=/srv\\n\"\n".into(), "warn VT-HOME"),
        (user("/srv/u", "/bin/bash"), "warn VT-HOME-USERS"),
        (user("/homes/u", "/bin/bash"), "warn VT-HOME-USERS"),
        (user("/home/u", "/bin/bash"), "pass VT-HOME-USERS"),
        (user("/srv/u", "/usr/sbin/nologin"), "pass VT-HOME-USERS"),
        ("rm-f /etc/passwd\n".into(), "unknown VT-HOME-USERS"),
        ("mkdir-p /opt/a\ntouch /opt/a/f\n".into(), "fail VT-OPT"),
        ("mkdir-p /opt/a\n".into(), "warn VT-OPT"),
        ("rmdir /opt\nln-s /srv /opt\n".into(), "fail VT-OPT"),
        ("rmdir /opt\n".into(), "pass VT-OPT"),
        ("write /etc/fstab \"LABEL=o /opt ext4 defaults 0 0\\n\"\n".into(), "fail VT-OPT"),
        ("mkdir-p /etc/profile.d\nwrite /etc/profile.d/a.sh \"PATH=$PATH:/opt/a/bin\\n\"\n".into(), "warn VT-OPT-REF"),
        ("mkdir-p /etc/profile.d\nwrite /etc/profile.d/a.sh \"PATH=/opt-vm/a/bin:/srv/opt/b\\n\"\n".into(), "pass VT-OPT-REF"),
        ("ln-s /opt/a/bin/a /usr/bin/a\n".into(), "warn VT-OPT-REF"),
        ("rmdir /opt-vm\nln-s /opt /opt-vm\n".into(), "warn VT-OPTVM"),
        ("mkdir /opt-hpc\ntouch /opt-hpc/f\n".into(), "warn VT-OPTHPC"),
        ("mkdir /scratch\ntouch /scratch/f\n".into(), "warn VT-SCRATCH"),
        ("ln-s /workspace /scratch\n".into(), "pass VT-SCRATCH"),
        ("ln-s /tmp /scratch\n".into(), "warn VT-SCRATCH"),
        // Log-in, tools, network, identity, devices.
        ("rm /usr/sbin/sshd\n".into(), "fail VT-SSH"),
        ("rm /etc/systemd/system/multi-user.target.wants/ssh.service\n".into(), "fail VT-SSH"),
        ("ln-s /dev/null /etc/systemd/system/ssh.service\nrm /etc/systemd/system/sshd.service\n".into(), "fail VT-SSH"),
        ("rm /usr/sbin/mount.nfs\n".into(), "warn VT-NFS"),
        ("chmod 0644 /usr/bin/ping\n".into(), "warn VT-TOOLS"),
        ("mkdir-p /etc/udev/rules.d\nwrite /etc/udev/rules.d/70-persistent-net.rules \"SUBSYSTEM==\\\"net\\\", ATTR{address}==\\\"00:11:22:33:44:55\\\", NAME=\\\"eth0\\\"\\n\"\n".into(), "warn VT-NET"),
        ("mkdir-p /etc/sysconfig/network-scripts\nwrite /etc/sysconfig/network-scripts/ifcfg-eth0 \"BOOTPROTO=dhcp\\nHWADDR=00:11:22:33:44:55\\nONBOOT=yes\\n\"\n".into(), "warn VT-NET"),
        ("mkdir-p /etc/sysconfig/network-scripts\nwrite /etc/sysconfig/network-scripts/ifcfg-eth0 \"BOOTPROTO=dhcp\\nONBOOT=yes\\n\"\n".into(), "pass VT-NET"),
        ("mkdir-p /etc/network\nwrite /etc/network/interfaces \"iface eth0 inet static\\n address 10.0.0.2\\n\"\n".into(), "warn VT-NET"),
        (netplan("eth0: {dhcp4: true, nameservers: {addresses: [10.0.0.1]}}"), "pass VT-NET"),
        (netplan("eth0: {dhcp4: true, match: {macaddress: '00:11:22:33:44:55'}}"), "warn VT-NET"),
        (netplan("eth0: {addresses: [10.0.0.2/24]}"), "warn VT-NET"),
        (netplan("eth0: {dhcp4: no}"), "warn VT-NET"),
        (netplan("eth0: {dhcp4: true, \\tx"), "unknown VT-NET"),
        ("write /etc/cloud/cloud.cfg.d/90.cfg \"network: {config: disabled}\\n\"\n".into(), "warn VT-NET"),
        ("write /etc/machine-id \"0123456789abcdef0123456789abcdef\\n\"\n".into(), "warn VT-ID"),
        ("write /etc/machine-id \"uninitialized\\n\"\n".into(), "pass VT-ID"),
        ("touch /etc/ssh/ssh_host_rsa_key\n".into(), "warn VT-ID"),
        ("touch /etc/ssh/ssh_host_rsa_key.pub\n".into(), "pass VT-ID"),
        ("write /etc/fstab \"/dev/sda2 / ext4 defaults 0 1\\n\"\n".into(), "warn VT-VIRTIO"),
        (grub("root=/dev/sda2"), "warn VT-VIRTIO"),
        (grub("root=/dev/vda2"), "pass VT-VIRTIO"),
        ("write /usr/lib/modules/6.1.0-9-amd64/modules.builtin \"kernel/virtio_net.ko\\n\"\n".into(), "warn VT-VIRTIO"),
    ];
    let wrong: String = decoys.iter().filter_map(|(lines, wanted)| misjudged(&world, &clean, lines, wanted)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is wrong about the check of the guest with these lines run on it: the first ID of `wanted` must get the verdict before it, and only those
/// behind it may differ from `clean`, too.
fn misjudged(world: &World, clean: &[(String, String)], lines: &str, wanted: &str) -> Option<String> {
    decoy(world, lines);
    let (table, _) = checked(world, &["--ro"]);
    let found = verdicts(&table);
    let mut words = wanted.split(' ');
    let verdict = words.next().unwrap();
    let ids: Vec<&str> = words.collect();
    let right = match verdict {
        "skip" => table.contains("not for this guest:") && found.iter().all(|(id, _)| id != ids[0]),
        _ => found.iter().any(|(id, found)| id == ids[0] && found == verdict),
    };
    // A changed version touches what depends on it.
    let free = lines.contains("dpkg/status");
    let others = |list: &[(String, String)]| {
        list.iter().filter(|(id, _)| !ids.contains(&id.as_str())).cloned().collect::<Vec<_>>()
    };
    let same = others(&found) == others(clean) && found.len() == clean.len() - usize::from(verdict == "skip");
    (!right || (!free && !same)).then(|| format!("{wanted}: {lines}{table}\n"))
}

/// The decoys of `tests/vtorque/decoys`, which says how it is read.
#[test]
fn more_decoys() {
    let world = fit_guest();
    decoy(&world, "");
    let clean = verdicts(&checked(&world, &[]).0);
    let text = include_str!("vtorque/decoys");
    let mut wrong = String::new();
    let mut count = 0;
    for part in text.split("\n== ").skip(1) {
        let (head, lines) = part.split_once('\n').unwrap_or((part, ""));
        let (wanted, what) = head.split_once(" | ").unwrap_or_else(|| panic!("{head}: VERDICT ID | what it is"));
        count += 1;
        wrong.extend(misjudged(&world, &clean, lines, wanted).map(|text| format!("{what}: {text}")));
    }
    assert!(count > 100, "{count} decoys were read");
    assert!(wrong.is_empty(), "{wrong}");
}

/// `fix` mends, and mends once: the second run writes nothing, and the file systems are clean.
#[test]
fn what_fix_mends() {
    let world = fit_guest();
    let faults = [
        "touch /etc/cloud/cloud-init.disabled\n",
        "chmod 0644 /usr/bin/cloud-init\n",
        "write /boot/grub/grub.cfg \"menuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r quiet cloud-init=disabled\\n}\\n\"\nwrite /etc/default/grub \"GRUB_CMDLINE_LINUX=\\\"quiet cloud-init=disabled\\\"\\n\"\n",
        "ln-s /dev/null /etc/systemd/system/cloud-init.service\nrm /etc/systemd/system/cloud-init.target.wants/cloud-final.service\n",
        "write /etc/cloud/cloud.cfg.d/zz.cfg \"datasource_list: [ Ec2,\\n  OpenStack ]\\n\"\n",
        "write /etc/cloud/cloud.cfg.d/zz.cfg \"datasource: {NoCloud: {fs_label: x, seedfrom: y}}\\n\"\n",
        "write /etc/cloud/ds-identify.cfg \"# mine\\npolicy: disabled\\n\"\n",
        "mkdir /etc/modprobe.d\nwrite /etc/modprobe.d/x.conf \"blacklist isofs\\ninstall isofs /bin/false\\n\"\n",
        "mkdir-p /var/lib/cloud/instances/iid-local01/sem\nln-s instances/iid-local01 /var/lib/cloud/instance\n",
        "rmdir /workspace\nrmdir /home\n",
        "write /etc/default/useradd \"HOME=/srv\\n\"\n",
        "rm /etc/systemd/system/multi-user.target.wants/ssh.service\n",
        "mkdir-p /etc/sysconfig/network-scripts\nwrite /etc/sysconfig/network-scripts/ifcfg-eth0 \"BOOTPROTO=dhcp\\nHWADDR=00:11:22:33:44:55\\nUUID=1\\nONBOOT=yes\\n\"\n",
        "write /etc/machine-id \"0123456789abcdef0123456789abcdef\\n\"\ntouch /etc/ssh/ssh_host_rsa_key\ntouch /etc/ssh/ssh_host_rsa_key.pub\n",
        "write /etc/fstab \"/dev/sda2 / ext4 defaults 0 1\\n\"\n",
    ];
    for fault in faults {
        decoy(&world, fault);
        let before = checked(&world, &["--ro"]).0;
        assert!(!before.ends_with("overall: pass\n"), "{fault}{before}");
        let (table, status) = checked(&world, &["fix:true"]);
        assert!(
            status == Some(0) && table.contains("fix     VT-") && table.ends_with("overall: pass\n"),
            "{fault}{table}"
        );
        let once = fs::read(world.path(DECOY)).unwrap();
        let (again, _) = checked(&world, &["fix:true"]);
        assert!(!again.contains("fix     "), "{fault}{again}");
        assert!(once == fs::read(world.path(DECOY)).unwrap(), "{fault}: the second run wrote");
    }
    judged(&world, DECOY);
}

/// Only `fix:all` moves what somebody put there.
#[test]
fn fix_all_moves_applications() {
    let world = fit_guest();
    decoy(
        &world,
        "mkdir-p /opt/tool/bin\nwrite /opt/tool/bin/run \"abc\"\nchmod 0750 /opt/tool/bin/run\nchown 5 6 /opt/tool/bin/run\nrmdir /workspace\nln-s /srv /workspace\n",
    );
    let before = fs::read(world.path(DECOY)).unwrap();
    let (table, status) = checked(&world, &["fix:true"]);
    assert!(status == Some(1) && table.contains("1 files below /opt will be hidden"), "{table}");
    assert!(before == fs::read(world.path(DECOY)).unwrap(), "a failing check wrote to the image");
    let (table, status) = checked(&world, &["fix:all"]);
    assert!(status == Some(0) && table.ends_with("overall: pass\n"), "{table}");
    let part = judged(&world, DECOY);
    let stat = run("debugfs", &["-R", "stat /opt-vm/tool/bin/run", &part]);
    assert!(stat.contains("Mode:  0750") && stat.contains("User:     5   Group:     6"), "{stat}");
    assert!(run("debugfs", &["-R", "stat /workspace", &part]).contains("Type: directory"));
}

#[test]
fn the_check_as_a_document() {
    let world = fit_guest();

    let json = world.good(&["--ro", "-a", IMAGE, "vtorque-check", "json:true"]);
    for part in [
        r#"guest-debian.qcow2""#,
        r#""family":"debian""#,
        r#""overall":"pass""#,
        r#""id":"VT-WS""#,
        r#""severity":"error""#,
    ] {
        assert!(json.contains(part), "{part}: {json}");
    }
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "mkdir", "/opt-hpc", ":", "touch", "/opt-hpc/f"]);
    assert!(world.good(&["--ro", "-a", IMAGE, "vtorque-check"]).contains("overall: warn"));
    let strict = world.imgsh(&["--ro", "-a", IMAGE, "vtorque-check", "strict:true"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(text(&strict.stdout).contains("overall: fail"));
}

#[test]
fn exit_status_and_usage() {
    let world = fit_guest();
    decoy(&world, "rm /boot/grub/grub.cfg\n");
    let (table, status) = checked(&world, &["--ro"]);
    assert!(status == Some(3) && table.ends_with("overall: unknown\n"), "{table}");
    // A wrong call is no answer about the guest.
    for words in [&["fix:some"][..], &["frob:1"], &["x", "y"], &["profile:nope.rhai"], &["root:/dev/sdz"]] {
        let (table, status) = checked(&world, words);
        assert!(status == Some(2) && table.is_empty(), "{words:?}: {status:?} {table}");
    }
    for words in [&["--frob", "vtorque-check"][..], &["--ro", "-a", "nope.img", "vtorque-check"]] {
        assert_eq!(world.imgsh(words).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(world.imgsh(&["--ro", "-a", DECOY, "frob"]).status.code(), Some(1));
    let wrong = world.imgsh(&["--ro", "-a", DECOY, "vtorque-check", "fix:some"]);
    assert!(text(&wrong.stderr).contains("fix:some: takes true, false or all"), "{}", text(&wrong.stderr));
}

/// The same through a Rhai script, which writes nothing when something is left.
#[test]
fn prepare_as_a_script() {
    let world = World::new();
    world.good(&["-f", &script("small-guest.gfs")]);
    let output = world.good(&["-a", IMAGE, &script("prepare-vtorque.rhai")]);
    assert!(output.contains("fixed: make the folder /workspace") && output.contains("overall: pass"), "{output}");
    let part = judged(&world, IMAGE);
    let nocloud = run("debugfs", &["-R", "cat /etc/cloud/cloud.cfg.d/99_nocloud.cfg", &part]);
    assert!(nocloud.contains("[ NoCloud, ConfigDrive, Ec2 ]"), "{nocloud}");
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "write", "/opt/tool", "x", ":", "rmdir", "/workspace"]);
    let before = fs::read(world.path(IMAGE)).unwrap();
    let output = world.imgsh(&["-a", IMAGE, &script("prepare-vtorque.rhai")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("1 files below /opt will be hidden"), "{}", text(&output.stdout));
    assert!(before == fs::read(world.path(IMAGE)).unwrap(), "a failing script wrote to the image");
}

/// A site's own profile sees what is known and has the last word.
#[test]
fn a_profile_changes_the_list() {
    let world = fit_guest();
    decoy(&world, "mkdir /opt-hpc\ntouch /opt-hpc/f\n");
    fs::write(
        world.path("site.rhai"),
        "import \"std/check\" as check;\nfn checks(about, results) {\n  let kept = results.filter(|r| r.id != \"VT-OPTHPC\");\n  \
         let mine = check::fail(\"no motd for \" + about.family, [check::evidence(\"/etc/motd\", 0, \"\")], \"write one\");\n  \
         mine.id = \"SITE-MOTD\";\n  if !exists(\"/etc/motd\") { kept.push(mine); }\n  kept\n}\n",
    )
    .unwrap();
    let (table, status) = checked(&world, &["--ro", "profile:site.rhai"]);
    assert!(table.contains("fail    SITE-MOTD      no motd for debian") && !table.contains("VT-OPTHPC"), "{table}");
    assert_eq!(status, Some(1));
}

/// Two systems on the disks: which one is asked for, and `root:` says it.
#[test]
fn two_roots_need_a_word() {
    let world = fit_guest();
    fs::copy(world.path(IMAGE), world.path("other-debian.qcow2")).unwrap();
    let both = |more: &[&str]| {
        let output = world.imgsh(&[&["--ro", "-a", IMAGE, "-a", "other-debian.qcow2", "vtorque-check"], more].concat());
        (text(&output.stdout), output.status.code())
    };
    let (table, status) = both(&[]);
    assert!(table.contains("fail    VT-ROOT        more than one operating system was found"), "{table}");
    assert_eq!(status, Some(1));
    let (table, status) = both(&["root:/dev/sdb2"]);
    assert!(
        table.contains("pass    VT-ROOT        the root is /dev/sdb2") && table.ends_with("overall: pass\n"),
        "{table}"
    );
    assert_eq!(status, Some(0));
}

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

/// The image file itself: one file, qcow2, a name that vsub takes.
#[test]
fn the_image_file() {
    let world = fit_guest();
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            &name(&world.path(IMAGE)),
            "-F",
            "qcow2",
            &name(&world.path("top-debian.qcow2")),
        ],
    );
    run("qemu-img", &["convert", "-O", "raw", &name(&world.path(IMAGE)), &name(&world.path("debian.raw"))]);
    fs::copy(world.path(IMAGE), world.path("centos.qcow2")).unwrap();
    fs::copy(world.path(IMAGE), world.path("my debian.qcow2")).unwrap();
    for (image, wanted) in [
        ("top-debian.qcow2", "fail    VT-IMG-SELF"),
        ("debian.raw", "warn    VT-IMG-FORMAT"),
        ("debian.raw", "warn    VT-IMG-NAME"),
        ("centos.qcow2", "warn    VT-IMG-NAME"),
        ("my debian.qcow2", "warn    VT-IMG-NAME"),
        (IMAGE, "pass    VT-IMG-NAME"),
    ] {
        let table = text(&world.imgsh(&["--ro", "-a", image, "vtorque-check"]).stdout);
        assert!(table.lines().any(|line| line.starts_with(wanted)), "{image} {wanted}: {table}");
    }
}

/// `disk-info` reads headers of images that cannot be opened, and refuses broken ones.
#[test]
fn headers_without_opening() {
    let world = World::new();
    let luks = name(&world.path("luks.qcow2"));
    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "--object",
            "secret,id=s,data=x",
            "-f",
            "qcow2",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            &luks,
            "1M",
        ],
    );
    let data = name(&world.path("data.raw"));
    let with_data = name(&world.path("with-data.qcow2"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &format!("data_file={data}"), &with_data, "1M"]);
    assert!(world.good(&["disk-info", "luks.qcow2"]).contains("encryption: luks\n"));
    assert!(world.good(&["disk-info", "with-data.qcow2"]).contains(&format!("data-file: {data}\n")));
    let header = fs::read(&with_data).unwrap();
    for len in [4, 71, 103, 104, 110, 150] {
        fs::write(world.path("short.qcow2"), &header[..len]).unwrap();
        let output = world.imgsh(&["disk-info", "short.qcow2"]);
        assert_eq!(output.status.success(), len >= 104, "{len}");
    }
    for at in 8..112 {
        let mut broken = header.clone();
        broken[at] ^= 0xff;
        fs::write(world.path("broken.qcow2"), &broken[..4096]).unwrap();
        assert!(matches!(world.imgsh(&["disk-info", "broken.qcow2"]).status.code(), Some(0 | 1)), "{at}");
    }
}

/// OSv by its layout: the command line, and what its root has.
#[test]
fn osv_images() {
    let world = World::new();
    let mut disk = vec![0; 64 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let sectors = (disk.len() / 512 - 4096) as u32;
    let entry = [&[0x80, 0, 0, 0, 0x83, 0, 0, 0][..], &4096_u32.to_le_bytes(), &sectors.to_le_bytes()].concat();
    disk[462..478].copy_from_slice(&entry);
    disk[65536..65540].copy_from_slice(b"\x7fELF");
    fs::write(world.path("osv.img"), &disk).unwrap();
    world.good(&["-a", "osv.img", "run", ":", "osv-command-line", "/usr/mgmt/cloud-init.so; /app --file x"]);
    let verdict = |id: &str| {
        let table = text(&world.imgsh(&["--ro", "-a", "osv.img", "vtorque-check"]).stdout);
        let found = verdicts(&table).into_iter().find(|(known, _)| known == id);
        found.unwrap_or_else(|| panic!("{id}: {table}")).1
    };
    // No file system that can be read: only the command line is known.
    assert_eq!(["VT-OS", "VT-O-CMD", "VT-O-ISO"].map(verdict), ["pass", "pass", "unknown"]);
    fs::write(
        world.path("root.gfs"),
        "run\nmkfs ext4 /dev/sda2\nmount /dev/sda2 /\nmkdir-p /usr/bin\ntouch /usr/bin/iso-read.so\nmkdir /init\n\
         write /init/30-cloud-init \"/usr/mgmt/cloud-init.so\"\n",
    )
    .unwrap();
    world.good(&["-a", "osv.img", "-f", "root.gfs"]);
    assert_eq!(["VT-O-ISO", "VT-O-HTTP", "VT-O-NFS"].map(verdict), ["pass", "fail", "warn"]);
    // A root of the other kinds: ROFS is read, ZFS is named.
    let folder = world.path("root");
    for path in ["usr/bin", "tools", "init"] {
        fs::create_dir_all(folder.join(path)).unwrap();
    }
    for path in ["usr/bin/iso-read.so", "libhttpserver-api.so", "tools/mount-nfs.so"] {
        fs::write(folder.join(path), "x").unwrap();
    }
    fs::write(folder.join("init/30-cloud-init"), "/usr/mgmt/cloud-init.so\n").unwrap();
    let with_root = |at: usize, bytes: &[u8]| {
        let mut image = disk.clone();
        image[512..516].copy_from_slice(b"/app");
        image[4096 * 512 + at..][..bytes.len()].copy_from_slice(bytes);
        fs::write(world.path("other-osv.img"), image).unwrap();
        text(&world.imgsh(&["--ro", "-a", "other-osv.img", "vtorque-check"]).stdout)
    };
    let table = with_root(0, &oracle::rofs::image(&folder));
    let found: Vec<_> = verdicts(&table).into_iter().filter(|(id, _)| id.starts_with("VT-O-")).collect();
    let wanted = [("CMD", "pass"), ("ISO", "pass"), ("HTTP", "pass"), ("NFS", "pass"), ("PING", "warn")];
    assert_eq!(found, wanted.map(|(id, verdict)| (format!("VT-O-{id}"), verdict.to_string())), "{table}");
    let uberblock = [&0x00ba_b10c_u64.to_le_bytes()[..], &[0; 1016]].concat();
    let table = with_root(128 * 1024, &uberblock.repeat(8));
    assert!(table.contains("unknown VT-O-ISO       cannot tell: the root cannot be read: "), "{table}");
    assert!(table.contains("zfs"), "{table}");
    for (line, wanted) in [
        ("/usr/mgmt/cloud-init.so --server http://x/ ; /app", "fail"),
        ("/usr/mgmt/cloud-init.so&/app --server x", "pass"),
        ("/app", "pass"),
        ("--noinit /app", "fail"),
    ] {
        fs::write(world.path("line.gfs"), format!("run\nosv-command-line \"{line}\"\n")).unwrap();
        world.good(&["-a", "osv.img", "-f", "line.gfs"]);
        assert_eq!(world.good(&["--ro", "-a", "osv.img", "run", ":", "osv-command-line"]), format!("{line}\n"));
        assert_eq!(verdict("VT-O-CMD"), wanted, "{line}");
    }
    // Nothing but the text has changed, and what follows it is NUL.
    let now = fs::read(world.path("osv.img")).unwrap();
    assert_eq!(&now[512..512 + 15], b"--noinit /app\0\0".get(..15).unwrap());
    assert!(now[..510] == disk[..510] && now[65536..65540] == disk[65536..65540]);
    let long = "x".repeat(32256);
    assert!(!world.imgsh(&["-a", "osv.img", "run", ":", "osv-command-line", &long]).status.success());
    let part = world.path("part");
    fs::write(&part, &now[4096 * 512..]).unwrap();
    assert_clean(&part, "the root");
}

/// Files that are not what they should be are unknown, within bounds: menus nested without end, files that are huge.
#[test]
fn hostile_guests() {
    let world = fit_guest();
    let mut deep = String::new();
    for level in 0..400 {
        deep += &format!("submenu 's{level}' --id=i{level} {{\n");
    }
    deep += "menuentry 'x' {\n linux /boot/vmlinuz-6.1.0-9-amd64 root=LABEL=root\n}\n";
    fs::write(world.path("grub.cfg"), deep + "}\n".repeat(400).as_str()).unwrap();
    decoy(&world, "upload grub.cfg /boot/grub/grub.cfg\n");
    let (table, _) = checked(&world, &["--ro"]);
    assert!(table.contains("pass    VT-CI-CMDLINE"), "{table}");
    decoy(
        &world,
        "truncate-size /etc/passwd 200000000\ntruncate-size /etc/fstab 200000000\ntruncate-size /etc/cloud/cloud.cfg 200000000\n\
         truncate-size /boot/grub/grub.cfg 200000000\ntruncate-size /var/lib/dpkg/status 200000000\n",
    );
    let (table, status) = checked(&world, &["--ro"]);
    for id in ["VT-CI-PKG", "VT-CI-CMDLINE", "VT-CI-NOCLOUD", "VT-WS-FSTAB", "VT-HOME-USERS", "VT-VIRTIO"] {
        assert!(table.lines().any(|line| line.starts_with(&format!("unknown {id} "))), "{id}: {table}");
    }
    assert_ne!(status, Some(0), "{table}");
}

/// Files below /opt are named with the package that owns them.
#[test]
fn owners_of_files_below_opt() {
    let world = fit_guest();
    decoy(
        &world,
        "mkdir-p /var/lib/dpkg/info\nmkdir /opt/tool\nwrite /opt/tool/run x\nwrite /opt/tool/zz x\n\
         write /var/lib/dpkg/info/tool:amd64.list \"/.\\n/opt\\n/opt/tool\\n/opt/tool/run\\n\"\n",
    );
    let (table, status) = checked(&world, &["--ro"]);
    assert!(table.contains("fail    VT-OPT         2 files below /opt will be hidden"), "{table}");
    assert!(table.contains("/opt/tool/run: of package tool\n") && table.contains("/opt/tool/zz\n"), "{table}");
    assert_eq!(status, Some(1));
}

/// Decoys of a RedHat guest, with the packages of rpm in the form ndb (tests/rpm/make-databases).
#[test]
fn redhat_decoys() {
    let world = fit_guest();
    let unpacked = |packed: &[u8]| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
        bytes
    };
    let with = unpacked(include_bytes!("rpm/cloud-init.db.gz"));
    let mut damaged = with.clone();
    let at = with.windows(10).rposition(|word| word == b"cloud-init").unwrap();
    damaged[at] = b'k';
    fs::write(world.path("damaged.db"), damaged).unwrap();
    fs::write(world.path("without.db"), unpacked(include_bytes!("rpm/Packages.db.gz"))).unwrap();
    fs::write(world.path("with.db"), with).unwrap();
    fs::write(
        world.path("redhat.gfs"),
        "rm-rf /var/lib/dpkg\nmkdir-p /usr/lib/sysimage/rpm\nupload with.db /usr/lib/sysimage/rpm/Packages.db\n\
         write /etc/os-release \"ID=rhel\\nVERSION_ID=\\\"9.4\\\"\\n\"\n",
    )
    .unwrap();
    world.good(&["-a", IMAGE, "-m", "/dev/sda2", "-f", "redhat.gfs"]);
    decoy(&world, "");
    let (table, _) = checked(&world, &[]);
    assert!(
        table.contains("pass    VT-OS          family redhat") && table.contains("cloud-init 23.4-7.el9"),
        "{table}"
    );
    let clean = verdicts(&table);
    let database = "/usr/lib/sysimage/rpm/Packages.db";
    let decoys: Vec<(String, &str)> = vec![
        (String::new(), "pass VT-CI-PKG"),
        (format!("upload without.db {database}\n"), "fail VT-CI-PKG"),
        (format!("upload damaged.db {database}\n"), "unknown VT-CI-PKG"),
        (format!("truncate-size {database} 5000\n"), "unknown VT-CI-PKG"),
        (format!("rm {database}\n"), "unknown VT-CI-PKG"),
        // The folder that was used before the other one came.
        (format!("upload without.db {database}\nmkdir /var/lib/rpm\nupload with.db /var/lib/rpm/Packages.db\n"), "fail VT-CI-PKG"),
        ("mkdir-p /var/lib\nmv /usr/lib/sysimage/rpm /var/lib/rpm\n".into(), "pass VT-CI-PKG"),
        ("ln-s ../../usr/lib/sysimage/rpm /var/lib/rpm\n".into(), "pass VT-CI-PKG"),
        // A distribution that nobody knows, but for what it is like.
        ("write /etc/os-release \"ID=eurolinux\\nID_LIKE=\\\"rhel fedora\\\"\\n\"\n".into(), "pass VT-CI-PKG"),
        // The version is rpm's.
        ("mkdir /etc/cloud/cloud-init.disabled\n".into(), "fail VT-CI-DISABLED"),
        // Entries of the boot loader.
        ("rm /boot/grub/grub.cfg\nmkdir-p /boot/loader/entries\nwrite /boot/loader/entries/a.conf \"version 1\\nlinux /vmlinuz-6.1.0-9-amd64\\noptions root=LABEL=r cloud-init=disabled\\n\"\n".into(), "fail VT-CI-CMDLINE"),
    ];
    let wrong: String = decoys.iter().filter_map(|(lines, wanted)| misjudged(&world, &clean, lines, wanted)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}
