//! Every example of the command table: run by the program in its prepared world, compared byte by byte, and the
//! disk checked afterwards by programs that are not ours.

mod oracle;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use imgsh::base::{Timestamp, Uuid};
use imgsh::command::{Example, Setup};
use imgsh::commands;
use imgsh::disk::Device;
use imgsh::disk::slice::Slice;
use imgsh::fs::{self, MakeOptions};
use imgsh::volume::{self, Role, TableEdit, TableKind};
use oracle::Sparse;

const SIZE: u64 = 64 << 20;
/// First sector of the EFI partition and of the ext4 partition after it.
const ESP: i64 = 2048;
const ROOT: i64 = 34_816;

/// A world's disk: its bytes, what to mount, and where its file systems begin.
struct World {
    disk: Arc<Sparse>,
    mount: Option<&'static str>,
    ext4: Option<u64>,
    /// What is on standard input: the passphrases.
    keys: &'static str,
}

fn guid(n: u8) -> Uuid {
    Uuid::from_random([n; 16])
}

fn make(disk: &Device, number: u32, fs_type: &str) -> u64 {
    let table = volume::read(disk).unwrap().unwrap();
    let partition = table.partitions.iter().find(|p| p.number == number).unwrap();
    let device: Device = Arc::new(Slice::new(disk.clone(), partition.start..partition.start + partition.len));
    let options = MakeOptions {
        fs_type: fs_type.to_string(),
        uuid: guid(9),
        seed: [7; 16],
        now: Timestamp::from_seconds(1_700_000_000),
        ..MakeOptions::default()
    };
    fs::make(&device, &options).unwrap();
    partition.start
}

static EMPTY: LazyLock<World> = LazyLock::new(|| World { disk: Sparse::new(SIZE), mount: None, ext4: None, keys: "" });

static EXT4: LazyLock<World> = LazyLock::new(|| {
    let disk = Sparse::new(SIZE);
    volume::whole_disk(&disk.device(), TableKind::Mbr, guid(1), guid(2)).unwrap();
    let ext4 = Some(make(&disk.device(), 1, "ext4"));
    World { disk, mount: Some("/dev/sda1"), ext4, keys: "" }
});

static ESP_AND_EXT4: LazyLock<World> = LazyLock::new(|| {
    let disk = Sparse::new(SIZE);
    volume::init(&disk.device(), TableKind::Gpt, guid(1)).unwrap();
    for (n, start_sector, end_sector) in [(2, ESP, ROOT - 1), (3, ROOT, -2048)] {
        let edit = TableEdit::Add { role: Role::Primary, start_sector, end_sector, guid: guid(n) };
        volume::edit(&disk.device(), &edit).unwrap();
    }
    make(&disk.device(), 1, "vfat");
    let ext4 = Some(make(&disk.device(), 2, "ext4"));
    World { disk, mount: Some("/dev/sda2"), ext4, keys: "" }
});

static DEBIAN: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let lines = "mkdir /bin\nmkdir /etc\nmkdir /home\nmkdir /root\nmkdir /usr\nmkdir-p /var/lib/dpkg\n\
        write /etc/os-release \"ID=debian\\nVERSION_ID=\\\"12\\\"\\nPRETTY_NAME=\\\"Debian GNU/Linux 12\\\"\\n\"\n\
        write /etc/debian_version \"12.5\\n\"\nwrite /etc/hostname \"box\\n\"\n\
        write /etc/fstab \"/dev/sda1 / ext4 defaults 0 1\\n\"\n";
    let answer = run(folder.path(), &EXT4, lines);
    assert_eq!(answer, Ok(String::new()));
    World { disk: Sparse::load(&folder.path().join("disk.img")), mount: EXT4.mount, ext4: EXT4.ext4, keys: "" }
});

static DISC: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "content\n").unwrap();
    let small = folder.path().join("small.iso");
    oracle::run("genisoimage", &["-quiet", "-V", "SMALL", "-o", small.to_str().unwrap(), tree.to_str().unwrap()]);
    std::fs::rename(&small, tree.join("small.iso")).unwrap();
    oracle::run("genisoimage", &["-quiet", "-R", "-V", "Disc", "-o", small.to_str().unwrap(), tree.to_str().unwrap()]);
    World { disk: Sparse::load(&small), mount: Some("/dev/sda"), ext4: None, keys: "" }
});

static ENCRYPTED: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "secret").unwrap();
    let options = "--batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid 6a1b2c3d-0000-4000-8000-00000000c0de";
    let mut all = vec!["luksFormat"];
    all.extend(options.split(' '));
    all.extend([image.to_str().unwrap(), key.to_str().unwrap()]);
    oracle::run("cryptsetup", &all);
    World { disk: Sparse::load(&image), mount: None, ext4: None, keys: "secret\nsecret\n" }
});

static BTRFS: LazyLock<World> = LazyLock::new(|| {
    let image = zstd::decode_all(&include_bytes!("btrfs/volumes.zst")[..]).unwrap();
    World { disk: Sparse::from_bytes(&image), mount: Some("/dev/sda"), ext4: None, keys: "" }
});

fn world(setup: Setup) -> Option<&'static World> {
    match setup {
        Setup::Nothing => None,
        Setup::EmptyDisk => Some(&EMPTY),
        Setup::Ext4 => Some(&EXT4),
        Setup::EspAndExt4 => Some(&ESP_AND_EXT4),
        Setup::Debian => Some(&DEBIAN),
        Setup::Encrypted => Some(&ENCRYPTED),
        Setup::Disc => Some(&DISC),
        Setup::Btrfs => Some(&BTRFS),
    }
}

/// Runs lines in a folder on a copy of the world's disk; standard output, or what went wrong.
fn run(folder: &Path, world: &World, lines: &str) -> Result<String, String> {
    world.disk.save(&folder.join("disk.img"));
    let mut options = vec!["--format=raw", "-a", "disk.img"];
    let mut script = lines.to_string();
    match world.mount {
        Some(device) => options.extend(["-m", device]),
        None => script.insert_str(0, "run\n"),
    }
    run_script(folder, &options, &script, world.keys)
}

fn run_script(folder: &Path, options: &[&str], script: &str, keys: &str) -> Result<String, String> {
    std::fs::write(folder.join("script"), script).unwrap();
    std::fs::write(folder.join("keys"), keys).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(options)
        .args(["--keys-from-stdin", "-f", "script"])
        .current_dir(folder)
        .stdin(std::fs::File::open(folder.join("keys")).unwrap())
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .env("HOME", folder)
        .env("EDITOR", "sed -i s/one/two/")
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// What the checkers say of the disk that an example left.
fn check(folder: &Path, world: &World) -> Result<(), String> {
    let image = folder.join("disk.img");
    // A device that is a journal begins like a file system, with the feature 'journal_dev'.
    let is_ext = |at: u64| {
        let mut superblock = [0; 1024];
        let file = std::fs::File::open(&image).unwrap();
        file.read_exact_at(&mut superblock, at + 1024).unwrap();
        superblock[56..58] == [0x53, 0xef] && superblock[0x60] & 8 == 0
    };
    let at = world.ext4.unwrap_or(0);
    if world.ext4.is_some() || is_ext(at) {
        let place = format!("{}?offset={at}", image.display());
        let (status, text) = oracle::tool("e2fsck", &["-fn", &place]);
        if status != 0 {
            return Err(text);
        }
    }
    let path = image.to_str().unwrap();
    if oracle::tool("sfdisk", &["--dump", path]).0 == 0 {
        let (status, text) = oracle::tool("sfdisk", &["--verify", path]);
        if status != 0 {
            return Err(text);
        }
    }
    Ok(())
}

fn one(name: &str, example: &Example) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let answer = match world(example.setup) {
        Some(world) => {
            let answer = run(folder.path(), world, example.lines);
            check(folder.path(), world)
                .map_err(|e| format!("{name}: after\n{}the disk is damaged: {e}", example.lines))?;
            answer
        }
        None => run_script(folder.path(), &[], example.lines, ""),
    };
    match answer {
        Ok(output) if output == example.output => Ok(()),
        Ok(output) => Err(format!("{name}: {}printed {output:?}\ninstead of {:?}", example.lines, example.output)),
        Err(error) => Err(format!("{name}: {}{error}", example.lines)),
    }
}

#[test]
fn examples() {
    let all: Vec<_> = commands::all().flat_map(|c| c.examples.iter().map(move |e| (c.name, e))).collect();
    let failures: Vec<String> = all.iter().filter_map(|(name, example)| one(name, example).err()).collect();
    assert!(failures.is_empty(), "{} of {} examples:\n\n{}", failures.len(), all.len(), failures.join("\n\n"));
}
