//! Groups that imgsh makes, by its commands, judged by lvm and e2fsck.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::oracle::{run, scratch, tool};
use crate::pvck;

/// Runs commands on two disks of 64 MiB that stay in the folder.
fn imgsh(folder: &Path, lines: &str) -> Result<String, String> {
    for name in ["a.img", "b.img"].map(|name| folder.join(name)).iter().filter(|path| !path.exists()) {
        std::fs::File::create(name).unwrap().set_len(64 << 20).unwrap();
    }
    std::fs::write(folder.join("script"), format!("run\n{lines}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(["--format=raw", "-a", "a.img", "-a", "b.img", "-f", "script"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// A disk of the folder as a loop device, taken away at the end.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let (status, text) = tool("losetup", &["-f", "--show", file.to_str().unwrap()]);
        (status == 0).then(|| Loop(text.trim().to_string()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        tool("losetup", &["-d", &self.0]);
    }
}

/// Runs lvm's own commands on the disks; `None` where there are no loop devices (they need root).
fn lvm(folder: &Path, commands: &[&[&str]]) -> Option<String> {
    let disks = (Loop::new(&folder.join("a.img")), Loop::new(&folder.join("b.img")));
    let (Some(a), Some(b)) = &disks else {
        eprintln!("SKIPPED: lvm on loop devices, which need root; pvck judges the metadata all the same");
        return None;
    };
    let config = format!(
        "devices {{ use_devicesfile=0 global_filter=[\"a|^{}$|\",\"a|^{}$|\",\"r|.*|\"] obtain_device_list_from_udev=0 }} \
         activation {{ udev_sync=0 udev_rules=0 }} global {{ locking_dir=\"{}\" use_lvmpolld=0 }} \
         backup {{ backup=0 archive=0 }}",
        a.0,
        b.0,
        folder.display()
    );
    let mut out = String::new();
    for command in commands {
        let output = crate::oracle::command("lvm")
            .arg(command[0])
            .args(["--driverloaded", "n", "--config", &config])
            .args(&command[1..])
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).replace(&a.0, "A").replace(&b.0, "B");
        let known = ["Activation disabled", "NOT backed up", "not zeroed"];
        let odd: Vec<&str> = text.lines().filter(|line| !known.iter().any(|words| line.contains(words))).collect();
        assert!(output.status.success() && odd.is_empty(), "{command:?}: {text}");
        out += &String::from_utf8_lossy(&output.stdout).replace(&a.0, "A").replace(&b.0, "B");
    }
    Some(out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect())
}

const LVS: &[&str] = &["lvs", "--noheadings", "--units", "m", "-o", "vg_name,lv_name,lv_size,devices"];
const VGCK: &[&str] = &["vgck"];

#[test]
fn a_group_from_nothing() {
    let folder = scratch();
    let folder = folder.path();
    let made = imgsh(
        folder,
        "pvcreate /dev/sda\npvcreate /dev/sdb\nvgcreate vg \"/dev/sda /dev/sdb\"\nlvcreate root vg 41\nlvcreate big vg 70\n\
         mkfs ext4 /dev/vg/root\nmount /dev/mapper/vg-root /\nwrite /f content\numount /\n\
         lvs\nlist-filesystems\nvfs-type /dev/sda\nblockdev-getsize64 /dev/vg/big\n",
    );
    let listed = "/dev/vg/big\n/dev/vg/root\n/dev/vg/big: unknown\n/dev/vg/root: ext4\nLVM2_member\n75497472\n";
    assert_eq!(made.as_deref(), Ok(listed));
    for disk in ["a.img", "b.img"] {
        let text = pvck(&folder.join(disk));
        assert!(
            text.contains("vgname vg seqno 3") && text.contains("description = \"Write from imgsh lvcreate.\""),
            "{text}"
        );
    }
    let places = "vg big 72.00m A(11)\nvg big 72.00m B(0)\nvg root 44.00m A(0)\n";
    if let Some(told) = lvm(folder, &[VGCK, LVS]) {
        assert_eq!(told, places);
    }
    // The first volume lies in one piece from the first extent on.
    let (status, text) = tool("e2fsck", &["-fn", &format!("{}?offset=1048576", folder.join("a.img").display())]);
    assert_eq!(status, 0, "{text}");
    let cat = run("debugfs", &["-R", "cat f", &format!("{}?offset=1048576", folder.join("a.img").display())]);
    assert!(cat.ends_with("content"), "{cat}");
    // Everything that changes a group, one after the other, with lvm's own changes between.
    let lines = "lvresize /dev/vg/root 20\nlvrename /dev/vg/root /dev/vg/small\nlvresize-free /dev/vg/small 50\nlvremove /dev/vg/big\n\
                 lvcreate-free rest vg 33\nlvcreate a_1.b+c vg 4\nvgrename vg other\nvgchange-uuid other\npvchange-uuid /dev/sda\nlvs\n";
    assert_eq!(
        imgsh(folder, lines).as_deref(),
        Ok("/dev/other/a_1.b+c\n/dev/other/rest\n/dev/other/small\n"),
        "after the changes"
    );
    if let Some(told) =
        lvm(folder, &[VGCK, &["lvcreate", "-an", "-Zn", "-Wn", "-n", "lvms", "-L", "8M", "other"], VGCK])
    {
        assert!(told.contains("created"), "{told}");
        assert!(imgsh(folder, "lvs\n").unwrap().contains("/dev/other/lvms\n"));
        imgsh(folder, "lvresize /dev/other/lvms 12\nlvremove /dev/other/small\n").unwrap();
        let told = lvm(folder, &[VGCK, LVS]).unwrap();
        assert!(told.contains("other lvms 12.00m") && !told.contains("small"), "{told}");
    }
    let removed = imgsh(folder, "lvremove /dev/other\nlvs\nvgremove other\nvgs\npvs\npvremove /dev/sda\npvs\n");
    assert_eq!(removed.as_deref(), Ok("/dev/sda\n/dev/sdb\n/dev/sdb\n"));
    if let Some(told) = lvm(folder, &[&["pvs", "--noheadings"], &["vgs"]]) {
        assert_eq!(told, "B lvm2 --- 64.00m 64.00m\n");
    }
}

#[test]
fn a_physical_volume_of_another_size() {
    let folder = scratch();
    let folder = folder.path();
    imgsh(
        folder,
        "pvcreate /dev/sda\nvgcreate vg /dev/sda\nlvcreate root vg 20\nmkfs ext4 /dev/vg/root\npvcreate /dev/sdb\n",
    )
    .unwrap();
    let grow = |name: &str, len| {
        let file = std::fs::OpenOptions::new().write(true).open(folder.join(name)).unwrap();
        file.set_len(len).unwrap();
    };
    grow("a.img", 200 << 20);
    grow("b.img", 100 << 20);
    imgsh(folder, "pvresize /dev/sda\npvresize /dev/sdb\nlvresize /dev/vg/root 180\nresize2fs /dev/vg/root\n").unwrap();
    const PVS: &[&str] = &["pvs", "--noheadings", "--units", "m", "-o", "pv_name,dev_size,pv_size,pv_used"];
    if let Some(told) = lvm(folder, &[VGCK, PVS, LVS]) {
        assert_eq!(told, "A 200.00m 196.00m 180.00m\nB 100.00m 100.00m 0m\nvg root 180.00m A(0)\n");
    }
    let (status, text) = tool("e2fsck", &["-fn", &format!("{}?offset=1048576", folder.join("a.img").display())]);
    assert_eq!(status, 0, "{text}");
    // Shorter again, as far as no volume is in the way.
    let error = imgsh(folder, "pvresize-size /dev/sda 100000000\n").unwrap_err();
    assert!(error.contains("its extents in use reach to byte 189792256"), "{error}");
    let error = imgsh(folder, "pvresize-size /dev/sda 300000000\n").unwrap_err();
    assert!(error.contains("past its end"), "{error}");
    imgsh(folder, "pvresize-size /dev/sda 189792256\n").unwrap();
    grow("a.img", 189_792_256);
    if let Some(told) = lvm(folder, &[VGCK, PVS]) {
        assert_eq!(told, "A 181.00m 180.00m 180.00m\nB 100.00m 100.00m 0m\n");
    }
    assert_eq!(imgsh(folder, "lvresize /dev/vg/root 184\n").unwrap_err().lines().count(), 1);
}

/// The start of a disk, with all that LVM and a small file system keep there, and the space that the whole takes.
fn heads(disk: &Path) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; 4 << 20];
    let file = std::fs::File::open(disk).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    (bytes, file.metadata().unwrap().blocks())
}

#[test]
fn what_is_in_use_is_refused() {
    let folder = scratch();
    let folder = folder.path();
    imgsh(
        folder,
        "pvcreate /dev/sda\nvgcreate vg /dev/sda\nlvcreate root vg 20\nmkfs ext2 /dev/vg/root\npvcreate /dev/sdb\n",
    )
    .unwrap();
    let refused = |lines: &str, why: &str| {
        let before = ["a.img", "b.img"].map(|name| heads(&folder.join(name)));
        let error = imgsh(folder, lines).unwrap_err();
        assert!(error.contains(why), "{lines}: {error}");
        let after = ["a.img", "b.img"].map(|name| heads(&folder.join(name)));
        assert!(before == after, "{lines}: the disks were changed");
    };
    refused("mount /dev/vg/root /\nlvremove /dev/vg/root\n", "is mounted on /");
    refused("mount /dev/vg/root /\nvgremove vg\n", "is mounted on /");
    refused("mount /dev/vg/root /\nzero /dev/sda\npvcreate /dev/sda\n", "is mounted on /");
    refused("pvcreate /dev/sda\n", "belongs to volume group 'vg'");
    refused("pvremove /dev/sda\n", "belongs to volume group 'vg'");
    refused("vgcreate two /dev/sda\n", "belongs to volume group 'vg'");
    refused("vgcreate vg /dev/sdb\n", "is there already");
    refused("vgcreate a/b /dev/sdb\n", "cannot be a name");
    refused("vgcreate two \"/dev/sdb /dev/sdb\"\n", "given twice");
    refused("lvcreate root vg 4\n", "already");
    refused("lvcreate more vg 64\n", "has 10 free extents, 16 are needed");
    refused("lvresize /dev/vg/root 300\n", "free extents");
    refused("lvrename /dev/vg/root /dev/two/root\n", "stays in its group");
    refused("mount /dev/sda /\n", "physical volume of LVM");
    refused("lvremove /dev/vg/none\n", "/dev/vg/none");
    refused("lvcreate new vg 8\nmkdir /x\n", "mount");
    // A volume that is mounted may get another name.
    let renamed = imgsh(
        folder,
        "mount /dev/vg/root /\nlvrename /dev/vg/root /dev/vg/r2\nwrite /f x\nmounts\ncat /f\nlvs\n\
                                 lvrename /dev/vg/r2 root\n",
    );
    assert_eq!(renamed.as_deref(), Ok("/dev/vg/r2\nx\n/dev/vg/r2\n"));
    // A step is taken back as any other.
    let undone = imgsh(folder, "lvcreate new vg 8\nlvs\nundo\nlvs\nvgs-full | grep seqno\n");
    assert_eq!(undone.as_deref(), Ok("/dev/vg/new\n/dev/vg/root\nlvcreate new vg 8\n/dev/vg/root\n  vg_seqno: 4\n"));
}
