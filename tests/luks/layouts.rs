//! Volumes where guests have them: in a partition of a qcow2, with LVM inside, and opened by `-i`.

use super::*;

const START: u64 = MIB;
const LEN: u64 = 62 * MIB;
const UUID: &str = "6a1b2c3d-0000-4000-8000-00000000c0de";

/// A qcow2 with an encrypted partition from 1 MiB on: LVM in it, and a small system on a logical volume.
fn guest(world: &World) -> PathBuf {
    let (part, disk, image) = (world.path("part.raw"), world.path("disk.raw"), world.path("disk.qcow2"));
    empty(&part, LEN);
    format(
        world,
        &part,
        &format!("--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --sector-size 512 --uuid {UUID}"),
    );
    empty(&disk, 64 * MIB);
    good(
        world,
        &["--format=raw", "-a", "disk.raw"],
        "run\npart-init /dev/sda gpt\npart-add /dev/sda p 2048 129023\nupload part.raw /dev/sda1\n",
    );
    run("qemu-img", &["convert", "-O", "qcow2", &name(&disk), &name(&image)]);
    let lines = format!(
        "run\nluks-open /dev/sda1 crypt\n{PASS}\npvcreate /dev/mapper/crypt\nvgcreate vg /dev/mapper/crypt\n\
        lvcreate root vg 32\nmkfs ext4 /dev/vg/root\nmount /dev/vg/root /\nmkdir /bin\nmkdir /etc\nmkdir /home\nmkdir /root\n\
        mkdir /usr\nmkdir-p /var/lib/dpkg\n\
        write /etc/os-release \"ID=debian\\nVERSION_ID=\\\"12\\\"\\nPRETTY_NAME=\\\"Debian GNU/Linux 12\\\"\\n\"\n\
        write /etc/debian_version \"12.5\\n\"\nwrite /etc/hostname \"box\\n\"\n\
        write /etc/fstab \"/dev/mapper/vg-root / ext4 defaults 0 1\\n\"\n"
    );
    good(world, &["-a", "disk.qcow2"], &lines);
    image
}

#[test]
fn lvm_in_a_partition_of_a_qcow2() {
    let world = World::new();
    let image = guest(&world);
    run("qemu-img", &["check", "-q", &name(&image)]);
    let lines = format!(
        "run\nlvs\nluks-open /dev/sda1 crypt\n{PASS}\nlvs\nvgs\npvs\nlist-filesystems\nvfs-type /dev/mapper/crypt\n\
        mount /dev/vg/root /\ncat /etc/hostname\nwrite /etc/motd \"hi\\n\"\n"
    );
    let out = good(&world, &["-a", "disk.qcow2"], &lines);
    assert_eq!(out, "/dev/vg/root\nvg\n/dev/mapper/crypt\n/dev/vg/root: ext4\nLVM2_member\nbox\n\n");
    // The judge: raw bytes of the partition, decrypted; the volume begins behind 1 MiB of LVM's metadata.
    let raw = world.path("judge.raw");
    run("qemu-img", &["convert", "-O", "raw", &name(&image), &name(&raw)]);
    let bytes = fs::read(&raw).unwrap();
    let part = world.path("part.judge");
    fs::write(&part, &bytes[START as usize..(START + LEN) as usize]).unwrap();
    assert!(
        fs::read(world.path("part.raw")).unwrap()[..16 * MIB as usize] == bytes[START as usize..][..16 * MIB as usize]
    );
    let plain = fs::read(decrypted(&world, &part, 16 * MIB, 512)).unwrap();
    let volume = world.path("volume.raw");
    fs::write(&volume, &plain[MIB as usize..33 * MIB as usize]).unwrap();
    assert_eq!(content(&volume, "/etc/motd").as_deref(), Some("hi\n"));
}

#[test]
fn inspection_opens_what_it_has_keys_for() {
    let world = World::new();
    guest(&world);
    fs::write(world.path("key"), format!("{PASS}\nnot this\n")).unwrap();
    let by_uuid = format!("{}:key:{PASS}", UUID.to_uppercase());
    for key in [format!("/dev/vda1:key:{PASS}"), by_uuid, "all:file:key".into(), "/dev/disk/by-uuid/x:key:x".into()] {
        let args = ["-a", "disk.qcow2", "-i", "--ro", "--key", "all:key:wrong", "--key", &key, "cat", "/etc/hostname"];
        let answer = imgsh(&world, &args, "");
        match key.starts_with("/dev/disk") {
            false => assert_eq!((answer.good, answer.out.as_str()), (true, "box\n\n"), "{key}: {}", answer.err),
            true => {
                assert!(!answer.good && answer.err.contains("/dev/sda1: No key available"), "{}", answer.err);
                assert!(answer.err.contains("hint: give the right one with --key /dev/sda1:key:"), "{}", answer.err);
            }
        }
    }
    let args = ["-a", "disk.qcow2", "-i", "list-dm-devices", ":", "write", "/etc/issue", "x"];
    let out = good(&world, &[&["--keys-from-stdin"], &args[..]].concat(), &format!("{PASS}\n"));
    assert_eq!(out, format!("/dev/mapper/luks-{UUID}\n"));
    let closed = imgsh(&world, &args, "");
    assert!(!closed.good && closed.out.is_empty());
    for words in [
        "/dev/sda1: this volume is encrypted and stays closed",
        "--key /dev/sda1:key:PASSPHRASE",
        "no operating system",
    ] {
        assert!(closed.err.contains(words), "{}", closed.err);
    }
    let clevis = imgsh(&world, &["-a", "disk.qcow2", "-i", "--key", "all:clevis"], "");
    assert!(!clevis.good && clevis.err.contains("clevis"), "{}", clevis.err);
}

#[test]
fn what_an_open_volume_stands_on_is_in_use() {
    let world = World::new();
    guest(&world);
    let opened = format!("run\nluks-open /dev/sda1 crypt\n{PASS}\n");
    for (line, words) in [
        ("part-del /dev/sda 1", "/dev/mapper/crypt is open on it"),
        ("mkfs ext4 /dev/sda1", "/dev/mapper/crypt is open on it"),
        ("luks-open /dev/sda1 other\ncorrect horse", "open already, as /dev/mapper/crypt"),
        ("mount /dev/vg/root /\nluks-close /dev/mapper/crypt", "mounted"),
        ("mount /dev/vg/root /\nfstrim /", "the discard operation is not supported: the device is encrypted"),
        ("blkdiscard /dev/mapper/crypt", "the discard operation is not supported"),
        ("luks-close /dev/sda1", "no opened encrypted volume"),
        ("luks-close /dev/mapper/none", "No such file"),
        ("luks-open /dev/vg/root other\nx", "/dev/vg/root: this is no LUKS volume"),
    ] {
        let refused = imgsh(&world, &["-a", "disk.qcow2"], &format!("{opened}{line}\n"));
        assert!(!refused.good && refused.err.contains(words), "{line}: {}", refused.err);
    }
    for wrong in ["control", "a/b", "..", "\"\"", "\"a b\"", "vg-root"] {
        let lines = format!(
            "{opened}mkfs ext4 /dev/vg/root\nluks-close /dev/mapper/crypt\nluks-open /dev/sda1 {wrong}\n{PASS}\n"
        );
        let refused = imgsh(&world, &["-a", "disk.qcow2", "--dry-run"], &lines);
        // The group is not there while the volume is closed: its name is free.
        assert_eq!(refused.good, wrong == "vg-root", "{wrong}: {}", refused.err);
    }
    // Closed and opened again in one run; an undo reaches into the volume; the committed state is seen through it.
    let lines = format!(
        "{opened}mount /dev/vg/root /\nwrite /a one\nundo\nexists /a\nwrite /b two\ndiff\numount /\n\
        luks-close /dev/mapper/crypt\nlvs\nluks-open /dev/sda1 again\n{PASS}\nmount /dev/vg/root /\ncat /b\n"
    );
    let answer = imgsh(&world, &["-a", "disk.qcow2"], &lines);
    assert!(
        answer.good && answer.out.contains("false\n") && answer.out.ends_with("\ntwo\n"),
        "{}{}",
        answer.out,
        answer.err
    );
    assert!(answer.out.contains("A /b\n") && !answer.out.contains("hostname"), "{}", answer.out);
    // A volume whose partition an undo takes away is closed.
    empty(&world.path("blank.raw"), 64 * MIB);
    let lines = format!(
        "run\npart-init /dev/sda gpt\npart-add /dev/sda p 2048 129023\nupload part.raw /dev/sda1\n\
        luks-open /dev/sda1 crypt\n{PASS}\nundo\nlist-dm-devices\n"
    );
    let answer = imgsh(&world, &["--format=raw", "-a", "blank.raw"], &lines);
    assert!(answer.good && !answer.out.contains("/dev/mapper"), "{}", answer.out);
    assert!(answer.err.contains("/dev/mapper/crypt was closed"), "{}", answer.err);
}
