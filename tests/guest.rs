//! Trees in and out of real images, through a session: archives by GNU tar, images by mke2fs; judged by e2fsck,
//! debugfs and GNU tar.

mod oracle;

use std::fs::{File, FileTimes};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use imgsh::base::{GuestPathBuf, Kind, Result, Timestamp, Uuid};
use imgsh::disk::Format;
use imgsh::fs::{self, FileType, MakeOptions};
use imgsh::guest::archive::{Compression, TarSink, TarSource};
use imgsh::guest::transfer::{ImportOptions, Report, Sink};
use imgsh::session::{AddDisk, Session, SessionOptions};
use imgsh::volume::{self, TableKind};
use oracle::tree::{Tree, assert_same, judge, through_trait};
use oracle::{assert_clean, run, scratch};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn path(text: &str) -> GuestPathBuf {
    GuestPathBuf::from(text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A session with one raw image; the disk itself is mounted on `/`.
fn open(image: &Path) -> Session {
    let mut session = attach(image);
    session.mount("/dev/sda", &path("/"), false).unwrap();
    session
}

fn attach(image: &Path) -> Session {
    let mut session = Session::new(SessionOptions::default());
    session.add(AddDisk { path: image.into(), format: Some(Format::Raw), ..AddDisk::default() }).unwrap();
    session.launch().unwrap();
    session
}

/// An empty ext4 image by mke2fs.
fn empty_image(folder: &Path, megabytes: u64) -> PathBuf {
    let image = folder.join("image.raw");
    File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", text(&image)]);
    image
}

fn tar_in(session: &mut Session, into: &str, archive: &[u8], compression: Compression) -> Result<Report> {
    session.transact("tar-in", NOW, |session| {
        let mut source = TarSource::new(Box::new(archive), compression)?;
        session.guest.import(&path(into), &mut source, &ImportOptions { xattrs: true, ..ImportOptions::default() })
    })
}

fn tar_out(session: &Session, directory: &str, compression: Compression) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut sink = TarSink::new(Box::new(&mut archive), compression, true).unwrap();
    session.guest.export(&path(directory), &path("."), &mut sink).unwrap();
    sink.finish().unwrap();
    drop(sink);
    archive
}

fn host_time(path: &Path, seconds: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanos);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

/// A host tree with one of everything that needs no root.
fn host_tree(folder: &Path) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("dir/sub/empty")).unwrap();
    std::fs::create_dir_all(tree.join("many")).unwrap();
    for (i, size) in [0, 1, 100, 4095, 4096, 4097, 70_000, 1_500_000].into_iter().enumerate() {
        let content: Vec<u8> = (0..size).map(|b: u32| (b.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = tree.join("dir").join(format!("file{i}"));
        std::fs::write(&file, content).unwrap();
        let mode = [0o644, 0o600, 0o4755, 0o2711, 0o1777, 0o444, 0o666, 0o751][i];
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        host_time(&file, 1_500_000_000 + i as u64, 123_456_789);
    }
    for i in 0..300 {
        let file = tree.join("many").join(format!("{i:03}{}", "-long".repeat(i % 20)));
        std::fs::write(&file, i.to_string()).unwrap();
        host_time(&file, 1_400_000_000 + i as u64, 0);
    }
    std::fs::hard_link(tree.join("dir/file6"), tree.join("many/same")).unwrap();
    symlink("dir/file0", tree.join("short")).unwrap();
    symlink("long/".repeat(19), tree.join("dir/long")).unwrap();
    std::fs::write(tree.join("b\u{e4}h \\x"), b"odd name").unwrap();
    run("mkfifo", &[text(&tree.join("fifo"))]);
    for (i, directory) in ["dir/sub/empty", "dir/sub", "dir", "many"].iter().enumerate() {
        host_time(&tree.join(directory), 1_600_000_000 + i as u64, 987_654_321);
    }
    // The root of an image has the time at which mke2fs made it.
    host_time(&tree, 1_700_000_000, 987_654_321);
    tree
}

/// GNU tar over a host folder.
fn gnu_tar(tree: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(args).arg("-C").arg(tree).args(["-cf", "-", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What mke2fs -d keeps too: whole seconds, and no times but that of the content.
fn comparable(mut tree: Tree) -> Tree {
    for entry in tree.values_mut() {
        entry.times = [Timestamp::default(), Timestamp::from_seconds(entry.times[1].seconds), Timestamp::default()];
    }
    tree
}

fn tree_of(image: &Path) -> Tree {
    let session = attach(image);
    let fs = fs::open(session.device("/dev/sda").unwrap()).unwrap();
    through_trait(fs.as_ref())
}

#[test]
fn tar_in_makes_what_mke2fs_makes() {
    let folder = scratch();
    let tree = host_tree(folder.path());
    let twin = folder.path().join("twin.raw");
    File::create(&twin).unwrap().set_len(64 << 20).unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", text(&tree), text(&twin)]);
    let wanted = comparable(tree_of(&twin));
    for (args, compression) in [
        (&["--format=gnu"][..], Compression::None),
        (&["--format=posix"], Compression::None),
        (&["--format=ustar", "-z"], Compression::Gzip),
        (&["--format=posix", "-S"], Compression::None),
    ] {
        let image = empty_image(folder.path(), 64);
        let mut session = open(&image);
        tar_in(&mut session, "/", &gnu_tar(&tree, args), compression).unwrap();
        if args[0] == "--format=posix" {
            let m = session.guest.stat(&path("/dir/file6")).unwrap();
            assert_eq!(m.modified, Timestamp { seconds: 1_500_000_006, nanos: 123_456_789 });
            assert_eq!(session.guest.stat(&path("/")).unwrap().modified.nanos, 987_654_321);
        }
        session.commit().unwrap();
        drop(session);
        let found = tree_of(&image);
        judge(&image, &found, &format!("tar-in {args:?}"));
        assert_same(&comparable(found), &wanted, &format!("tar-in {args:?}"));
    }
}

/// `tar --compare` finds no difference between the host's tree and what came out of an image made of it.
#[test]
fn tar_out_is_what_gnu_tar_expects() {
    let folder = scratch();
    let tree = host_tree(folder.path());
    let image = empty_image(folder.path(), 64);
    let mut session = open(&image);
    tar_in(&mut session, "/", &gnu_tar(&tree, &["--format=posix"]), Compression::None).unwrap();
    for (compression, option) in [(Compression::None, "--no-same-owner"), (Compression::Gzip, "-z")] {
        let mut archive = tar_out(&session, "/", compression);
        if compression == Compression::None {
            // lost+found is not in the host's tree: leave it out by a directory of its own.
            session.transact("rm", NOW, |s| s.guest.remove_tree(&path("/lost+found"))).unwrap();
            archive = tar_out(&session, "/", compression);
        }
        let mut child = Command::new("tar")
            .args([option, "--compare", "-f", "-", "-C", text(&tree)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &archive));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn a_tree_of_5000_levels() {
    let folder = scratch();
    let image = empty_image(folder.path(), 64);
    let mut session = open(&image);
    // GNU's long name in front of a directory of an older form.
    let name = "d/".repeat(5_000);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    builder.append_data(&mut header, &name, std::io::empty()).unwrap();
    tar_in(&mut session, "/", &builder.into_inner().unwrap(), Compression::None).unwrap();
    let archive = tar_out(&session, "/d", Compression::None);
    assert_eq!(tar::Archive::new(&archive[..]).entries().unwrap().count(), 5_000);
    session.transact("cp-a", NOW, |s| s.guest.copy(&path("/d"), &path("/copy"), true, true)).unwrap();
    let mut deepest = 0;
    session
        .guest
        .walk(&path("/copy"), &mut |entry| {
            deepest = deepest.max(entry.path.components().count());
            Ok(true)
        })
        .unwrap();
    assert_eq!(deepest, 4_999);
    session.transact("rm-rf", NOW, |s| s.guest.remove_tree(&path("/d"))).unwrap();
    session.commit().unwrap();
    drop(session);
    assert_clean(&image, "deep trees");
}

#[test]
fn a_full_file_system_changes_nothing() {
    let folder = scratch();
    let image = empty_image(folder.path(), 16);
    let before = std::fs::read(&image).unwrap();
    let mut session = open(&image);
    let mut builder = tar::Builder::new(Vec::new());
    for i in 0..40 {
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 20);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("file{i}"), &vec![i as u8 + 1; 1 << 20][..]).unwrap();
    }
    let error = tar_in(&mut session, "/", &builder.into_inner().unwrap(), Compression::None).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(error.to_string().starts_with("/file"), "{error}");
    assert_eq!(session.guest.list(&path("/")).unwrap().len(), 1);
    assert!(!session.is_changed());
    // A claim that no file system can hold fails at once.
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_mode(0o644);
    header.set_size(1 << 50);
    header.set_cksum();
    let error = tar_in(&mut session, "/", header.as_bytes(), Compression::None).unwrap_err();
    assert!(matches!(error.kind(), Kind::NoSpace | Kind::FileTooBig | Kind::Corrupt), "{error}");
    session.transact("write", NOW, |s| s.guest.write_file(&path("/small"), b"still works")).unwrap();
    session.undo().unwrap();
    session.commit().unwrap();
    drop(session);
    // Space that was used ahead of a commit that never came may hold anything; the rest is as it was.
    assert_clean(&image, "a full file system");
    assert_eq!(std::fs::read(&image).unwrap().len(), before.len());
    let mut names = tree_of(&image).into_keys();
    assert_eq!((names.next(), names.next()), (Some(Vec::new()), None));
}

/// A disk as installers make it: table, ESP, root; found again by what its fstab says.
#[test]
fn a_root_is_inspected_and_mounted() {
    let folder = scratch();
    let image = folder.path().join("disk.raw");
    File::create(&image).unwrap().set_len(128 << 20).unwrap();
    let mut session = attach(&image);
    session
        .transact("part-init", NOW, |s| {
            s.release("/dev/sda")?;
            volume::init(&s.device("/dev/sda")?, TableKind::Gpt, Uuid([1; 16]))?;
            for (number, (start, end)) in [(2048, 83_967), (83_968, -2048)].into_iter().enumerate() {
                let guid = Uuid([0x10 + number as u8; 16]);
                let add =
                    volume::TableEdit::Add { role: volume::Role::Primary, start_sector: start, end_sector: end, guid };
                volume::edit(&s.device("/dev/sda")?, &add)?;
            }
            assert_eq!(s.partitions()?, ["/dev/sda1", "/dev/sda2"]);
            Ok(())
        })
        .unwrap();
    session
        .transact("mkfs", NOW, |s| {
            let uuid = Uuid([0x77; 16]);
            let options = MakeOptions { fs_type: "vfat".to_string(), uuid, now: NOW, ..MakeOptions::default() };
            fs::make(&s.device("/dev/sda1")?, &options)
        })
        .unwrap();
    session.commit().unwrap();
    drop(session);
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-E", "offset=42991616,root_owner=0:0", text(&image), "80m"]);
    let mut session = attach(&image);
    session.mount("/dev/sda2", &path("/"), false).unwrap();
    let uuid = session.identify("/dev/sda2").unwrap().unwrap().uuid;
    let esp = session.identify("/dev/sda1").unwrap().unwrap().uuid;
    let fstab = format!(
        "# <file system>\nUUID={} / ext4 defaults 0 1\n/dev/disk/by-partuuid/{} /boot/efi vfat umask=0077 0 1\n\
         UUID={esp} /mnt/again auto noauto 0 0\n/dev/nvme0n1p1 /mnt/third auto noauto 0 0\n\
         LABEL=none /data ext4 defaults 0 2\nproc /proc proc defaults 0 0\n",
        uuid.to_uppercase(),
        Uuid([0x10; 16]),
    );
    session
        .transact("fill", NOW, |s| {
            for directory in ["/etc", "/usr/bin", "/boot/efi", "/mnt"] {
                s.guest.mkdir_p(&path(directory), 0o755)?;
            }
            s.guest.symlink(&path("usr/bin"), &path("/bin"))?;
            s.guest.write_file(&path("/etc/fstab"), fstab.as_bytes())?;
            s.guest.write_file(&path("/etc/hostname"), b"guest1\n")?;
            s.guest.write_file(&path("/etc/os-release"), b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n")
        })
        .unwrap();
    session.commit().unwrap();
    drop(session);
    run("sfdisk", &["--verify", "-q", text(&image)]);
    let mut session = attach(&image);
    let found = session.file_systems().unwrap();
    assert_eq!(found, [("/dev/sda1".into(), "vfat".into()), ("/dev/sda2".into(), "ext4".into())]);
    let roots = session.inspect().unwrap();
    assert_eq!((roots.len(), session.take_notices()), (1, Vec::new()));
    let root = &roots[0];
    assert_eq!((root.device.as_str(), root.distro.as_str(), root.major), ("/dev/sda2", "debian", 12));
    assert_eq!((root.hostname.as_str(), root.package_management.as_str()), ("guest1", "apt"));
    let mountpoints: Vec<String> = root.mountpoints.iter().map(|(p, d)| format!("{d} {p}")).collect();
    let wanted = ["/dev/sda2 /", "/dev/sda1 /boot/efi", "/dev/sda1 /mnt/again", "/dev/sda1 /mnt/third"];
    assert_eq!(mountpoints, wanted);
    let failed = session.mount_root(root, false).unwrap();
    let failed: Vec<String> = failed.iter().map(|e| e.to_string()).collect();
    assert_eq!(failed, ["/mnt/again: No such file or directory", "/mnt/third: No such file or directory"]);
    // Copies across the two kinds of file system: what FAT cannot keep is left out, links are told.
    session.transact("cp", NOW, |s| s.guest.copy(&path("/etc/fstab"), &path("/boot/efi/fstab"), true, false)).unwrap();
    assert_eq!(session.guest.read_file(&path("/boot/efi/FSTAB"), 1 << 16).unwrap(), fstab.as_bytes());
    let link = session.transact("cp-a", NOW, |s| s.guest.copy(&path("/bin"), &path("/boot/efi/"), true, true));
    assert_eq!(link.unwrap_err().kind(), Kind::Denied);
    let archive = tar_out(&session, "/etc", Compression::Zstd);
    tar_in(&mut session, "/boot/efi", &archive, Compression::Zstd).unwrap();
    assert_eq!(session.guest.stat(&path("/boot/efi/hostname")).unwrap().file_type, FileType::Regular);
    session.commit().unwrap();
    // Taking the table away takes the mounts away, and undo does not bring them back by itself.
    session.guest.umount_all().unwrap();
    session
        .transact("part-init", NOW, |s| {
            s.release("/dev/sda")?;
            volume::init(&s.device("/dev/sda")?, TableKind::Gpt, Uuid([2; 16]))
        })
        .unwrap();
    assert!(session.partitions().unwrap().is_empty() && session.canonical("/dev/sda2").is_err());
    session.undo().unwrap();
    session.mount("/dev/sda2", &path("/"), false).unwrap();
    assert_eq!(session.guest.read_file(&path("/etc/hostname"), 100).unwrap(), b"guest1\n");
    session.commit().unwrap();
    drop(session);
    for (index, (start, sectors)) in [(2048, 81_920), (83_968, (128 << 11) - 2047 - 83_968)].into_iter().enumerate() {
        let part = folder.path().join(format!("part{index}.raw"));
        run(
            "dd",
            &[
                &format!("if={}", text(&image)),
                &format!("of={}", text(&part)),
                "bs=512",
                &format!("skip={start}"),
                &format!("count={sectors}"),
                "status=none",
                "conv=sparse",
            ],
        );
        match index {
            0 => _ = run("fsck.fat", &["-n", text(&part)]),
            _ => assert_clean(&part, "a session"),
        }
    }
}

/// Without a policy, what is new below a directory with an SELinux label gets that label, whichever way it comes; what has one of its own keeps
/// it, and without a label nothing changes.
#[test]
fn new_nodes_inherit_selinux_labels() {
    let world = oracle::world::World::new();
    std::fs::create_dir_all(world.path("tree/sub")).unwrap();
    std::fs::write(world.path("tree/sub/file"), "x").unwrap();
    run("tar", &["-C", text(&world.path("tree")), "-cf", text(&world.path("tree.tar")), "."]);
    std::fs::write(
        world.path("job.gfs"),
        "mkdir /d\nmkdir /plain\nsetxattr security.selinux system_u:object_r:bin_t:s0 26 /d\n\
         write /d/w x\nmkdir-p /d/a/b\nln-s w /d/l\nmkfifo 0644 /d/p\ncopy-in tree /d\nmkdir /d/t\ntar-in tree.tar /d/t\n\
         touch /d/own\nsetxattr security.selinux own:own:own_t:s0 16 /d/own\ncp-a /d/own /d/copy\nwrite /plain/w x\n",
    )
    .unwrap();
    world.good(&["-N", "disk.img=fs:ext4:64M", "-m", "/dev/sda1", "-f", "job.gfs"]);
    let image = std::fs::read(world.path("disk.img")).unwrap();
    std::fs::write(world.path("part"), &image[128 * 512..image.len() - 128 * 512]).unwrap();
    let part = world.path("part");
    assert_clean(&part, "the disk");
    let label = |name: &str| run("debugfs", &["-R", &format!("ea_list {name}"), text(&part)]);
    for name in ["w", "a", "a/b", "l", "p", "tree", "tree/sub", "tree/sub/file", "t/sub", "t/sub/file"] {
        let shown = label(&format!("/d/{name}"));
        assert!(shown.contains("security.selinux (26) = \"system_u:object_r:bin_t:s0"), "{name}: {shown}");
    }
    for name in ["own", "copy"] {
        assert!(label(&format!("/d/{name}")).contains("own:own:own_t:s0"), "{name}: {}", label(&format!("/d/{name}")));
    }
    assert!(!label("/plain/w").contains("selinux") && !label("/plain").contains("selinux"));
}

/// With a policy, what is new gets the label that the policy says of its path, by every way in; links are followed first, `<<none>>` leaves
/// the directory's, and a policy that is written in the same run is in force for what comes after it.
#[test]
fn new_nodes_are_labelled_by_the_policy() {
    let world = oracle::world::World::new();
    std::fs::create_dir_all(world.path("tree/bin")).unwrap();
    std::fs::write(world.path("tree/bin/run"), "x").unwrap();
    std::fs::write(world.path("tree/lib.so"), "x").unwrap();
    run("tar", &["-C", text(&world.path("tree")), "-cf", text(&world.path("tree.tar")), "."]);
    let rules = "/.*\ts:o:default_t:s0\n/etc(/.*)?\ts:o:etc_t:s0\n/etc/shadow.*\t--\ts:o:shadow_t:s0\n/run(/.*)?\ts:o:run_t:s0\n\
                 /opt-vm/(.*/)?bin(/.*)?\ts:o:bin_t:s0\n/opt-vm/.*\\.so\t--\ts:o:lib_t:s0\n/opt-vm/none/.*\t<<none>>\n\
                 /home/[^/]+\t-d\ts:o:home_t:s0\n";
    std::fs::write(world.path("file_contexts"), rules).unwrap();
    std::fs::write(world.path("homedirs"), "/home/[^/]+/\\.ssh(/.*)?\ts:o:ssh_t:s0\n").unwrap();
    std::fs::write(
        world.path("job.gfs"),
        "setxattr security.selinux s:o:root_t:s0 13 /\nmkdir-p /etc/selinux/mine/contexts/files\ntouch /etc/before\n\
         write /etc/selinux/config \"SELINUX=enforcing\\n#SELINUXTYPE=x\\nSELINUXTYPE=mine\\n\"\n\
         upload file_contexts /etc/selinux/mine/contexts/files/file_contexts\n\
         write /etc/shadow x\nmkdir /etc/shadow.d\nmkdir /run\nmkdir /var\nln-s /run /var/run\nwrite /var/run/pid x\n\
         mkdir /home\nmkdir /home/u\nmkdir /opt-vm\nmkdir /opt-vm/none\ntouch /opt-vm/none/f\n\
         copy-in tree /opt-vm\nmkdir /opt-vm/t\ntar-in tree.tar /opt-vm/t\nln-s t/lib.so /opt-vm/link.so\n\
         cp-r /opt-vm/tree /opt-vm/copied\nmkdir /var/lib\ncopy-in tree /var/run\n\
         upload homedirs /etc/selinux/mine/contexts/files/file_contexts.homedirs\n\
         write /etc/shadow y\n",
    )
    .unwrap();
    world.good(&["-N", "disk.img=fs:ext4:64M", "-m", "/dev/sda1", "-f", "job.gfs"]);
    world.good(&[
        "-a",
        "disk.img",
        "-m",
        "/dev/sda1",
        "mkdir",
        "/home/u/.ssh",
        ":",
        "touch",
        "/home/u/.ssh/authorized_keys",
    ]);
    let image = std::fs::read(world.path("disk.img")).unwrap();
    std::fs::write(world.path("part"), &image[128 * 512..image.len() - 128 * 512]).unwrap();
    let part = world.path("part");
    assert_clean(&part, "the disk");
    for (name, kind) in [
        ("/etc", "root_t"),
        ("/etc/before", "root_t"),
        ("/etc/shadow", "shadow_t"),
        ("/etc/shadow.d", "etc_t"),
        ("/run", "run_t"),
        ("/run/pid", "run_t"),
        ("/run/tree/lib.so", "run_t"),
        ("/var", "default_t"),
        ("/home/u", "home_t"),
        ("/home/u/.ssh", "ssh_t"),
        ("/home/u/.ssh/authorized_keys", "ssh_t"),
        ("/opt-vm", "default_t"),
        ("/opt-vm/none/f", "default_t"),
        ("/opt-vm/tree/bin", "bin_t"),
        ("/opt-vm/tree/bin/run", "bin_t"),
        ("/opt-vm/tree/lib.so", "lib_t"),
        ("/opt-vm/t/bin/run", "bin_t"),
        ("/opt-vm/t/lib.so", "lib_t"),
        ("/opt-vm/link.so", "default_t"),
        ("/opt-vm/copied/bin/run", "bin_t"),
        ("/opt-vm/copied/lib.so", "lib_t"),
    ] {
        let shown = run("debugfs", &["-R", &format!("ea_list {name}"), text(&part)]);
        assert!(shown.contains(&format!("\"s:o:{kind}:s0")), "{name}: {kind}, not {shown}");
    }
}
