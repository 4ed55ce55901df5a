//! Decoys: guests with one thing that is not as it should be, and that verdict alone another one.

use super::*;

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
        ("write /boot/grub/grub.cfg \"load_env\\nset default=${saved_entry}\\nmenuentry a {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r\\n}\\nsubmenu s {\\nmenuentry b --id x {\\n linux /vmlinuz-6.1.0-9-amd64 root=LABEL=r ds=ec2\\n}\\n}\\n\"\nwrite /boot/grub/grubenv \"saved_entry=s>x\\n\"\n".into(), "fail VT-CI-CMDLINE"),
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
        ("mkdir /etc/systemd/system/cloud-init.service.d\nwrite /etc/systemd/system/cloud-init.service.d/a.conf \"[Unit]\\nConditionVirtualization=xen\\n\"\n".into(), "fail VT-CI-UNITS"),
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
    let text = include_str!("decoys");
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

/// Texts that are long in one way cost no more than their length: each run ends within CPU seconds that work by the square of it
/// would exceed many times over.
#[test]
fn long_texts() {
    let world = fit_guest();
    let many = |text: &str| text.repeat(300_000 / text.len());
    let menu = |words: &str| format!("menuentry 'x' {{\n linux /boot/vmlinuz root=LABEL=root {words}\n}}\n");
    let (grub, modprobe, dep) =
        ("/boot/grub/grub.cfg", "/etc/modprobe.d/x.conf", "/usr/lib/modules/6.1.0-9-amd64/modules.dep");
    let (dpkg, identify) = ("/var/lib/dpkg/status", "/etc/cloud/ds-identify.cfg");
    let drop_in = "/etc/systemd/system/cloud-init.service.d/a.conf";
    let rounds = [
        vec![
            (grub, many("\\\n")),
            (modprobe, many("\\\n")),
            (dep, format!("kernel/x.ko: {}", many("/isofs.ko "))),
            ("/etc/fstab", format!("LABEL=o /mnt{} ext4 defaults 0 0\n", many("\\"))),
            (dpkg, many("Package: cloud-init\n\n")),
            (identify, format!("policy: {}x", many(" "))),
            (drop_in, format!("[Service]\nExecStart={}", "\\\n".repeat(30_000))),
        ],
        vec![
            (grub, many("submenu x {\n")),
            (modprobe, format!("install {} /bin/true\n", many("*"))),
            (dep, many("/isofs.ko:\n")),
            ("/etc/fstab", many(" ")),
            (dpkg, many("Package: cloud-init\nStatus: x\n")),
            (identify, many("a: b\n")),
            (drop_in, format!("[Service]\nExecStart=/x /opt{}\n", "/opt".repeat(15_000))),
        ],
        vec![
            (grub, format!("set a={}\n{}", "x".repeat(30_000), menu(&many("$a")))),
            (modprobe, many("alias *x*x* off\n")),
            ("/etc/default/grub", format!("GRUB_CMDLINE_LINUX=\"{}\"\n", many("$a"))),
            ("/etc/passwd", many("u:x:1000:1000::/home/u:/bin/sh\n")),
            ("/etc/cloud/cloud.cfg.d/90.cfg", format!("a: {}\n", many("["))),
        ],
        vec![(grub, menu(&many("cc:end_cc"))), ("/etc/cloud/cloud.cfg.d/90.cfg", many("a: &a [*a, *a]\n"))],
    ];
    for round in rounds {
        let mut lines = format!("mkdir-p {}\nmkdir-p /etc/modprobe.d\n", drop_in.rsplit_once('/').unwrap().0);
        for (number, (path, text)) in round.iter().enumerate() {
            fs::write(world.path(&format!("long{number}")), text).unwrap();
            lines += &format!("upload long{number} {path}\n");
        }
        decoy(&world, &lines);
        let output = Command::new("prlimit")
            .current_dir(world.folder.path())
            .args(["--cpu=60", env!("CARGO_BIN_EXE_imgsh"), "--ro", "-a", DECOY, "vtorque-check"])
            .output()
            .unwrap();
        let table = text(&output.stdout);
        assert!(table.contains("overall: "), "{}: {}{table}{}", lines, output.status, text(&output.stderr));
    }
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
    let with = unpacked(include_bytes!("../rpm/cloud-init.db.gz"));
    let mut damaged = with.clone();
    let at = with.windows(10).rposition(|word| word == b"cloud-init").unwrap();
    damaged[at] = b'k';
    fs::write(world.path("damaged.db"), damaged).unwrap();
    fs::write(world.path("without.db"), unpacked(include_bytes!("../rpm/Packages.db.gz"))).unwrap();
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
        // The folder that this release uses, and the one that newer ones use.
        (format!("upload without.db {database}\nmkdir /var/lib/rpm\nupload with.db /var/lib/rpm/Packages.db\n"), "pass VT-CI-PKG"),
        (format!("upload without.db {database}\nmkdir /var/lib/rpm\nupload with.db /var/lib/rpm/Packages.db\nwrite /etc/os-release \"ID=fedora\\nVERSION_ID=40\\n\"\n"), "fail VT-CI-PKG"),
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
