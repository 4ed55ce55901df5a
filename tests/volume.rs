//! Partition tables, against sfdisk and sgdisk, both ways.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use imgsh::base::{Kind, Uuid};
use imgsh::disk::memory::Memory;
use imgsh::disk::{BlockDevice, Device, OpenOptions};
use imgsh::stage::{Stage, StageOptions};
use imgsh::volume::{self, Partition, PartitionType, Role, Table, TableEdit, TableKind};

const MIB: u64 = 1 << 20;
const DISK: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn guid(n: u8) -> Uuid {
    Uuid::from_random([n; 16])
}

fn add(role: Role, start_sector: i64, end_sector: i64) -> TableEdit {
    TableEdit::Add { role, start_sector, end_sector, guid: guid(start_sector as u8) }
}

/// A scratch image.
struct Image {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Image {
    fn new(len: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        std::fs::File::create(&path).unwrap().set_len(len).unwrap();
        Image { _dir: dir, path }
    }

    fn partitioned(len: u64, script: &str) -> Self {
        let image = Self::new(len);
        image.tool("sfdisk", &["--quiet"], script);
        image
    }

    fn stage(&self) -> Arc<Stage> {
        Stage::new(imgsh::disk::open(&self.path, OpenOptions::default()).unwrap(), StageOptions::default())
    }

    /// Edits and commits.
    fn edit(&self, edits: &[TableEdit]) {
        let stage = self.stage();
        let device: Device = stage.clone();
        for edit in edits {
            volume::edit(&device, edit).unwrap_or_else(|e| panic!("{edit:?}: {e}"));
        }
        stage.commit().unwrap();
    }

    fn refuses(&self, edit: &TableEdit, words: &str) {
        let stage = self.stage();
        let device: Device = stage.clone();
        let error = volume::edit(&device, edit).unwrap_err().to_string();
        assert!(error.contains(words), "{edit:?}: {error}");
        assert!(!stage.is_changed(), "{edit:?} wrote something");
    }

    fn table(&self) -> Table {
        let device: Device = self.stage();
        volume::read(&device).unwrap().unwrap()
    }

    fn tool(&self, name: &str, args: &[&str], input: &str) -> String {
        let program = ["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(name)).into_iter().find(|p| p.exists());
        let mut command = Command::new(program.unwrap_or_else(|| name.into()));
        command.args(args).arg(&self.path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name} {args:?}: {text}");
        text
    }

    /// What sfdisk reads: `number start size type ...` a line, in sectors.
    fn dump(&self) -> Vec<String> {
        let text = self.tool("sfdisk", &["--dump"], "");
        let path = self.path.display().to_string();
        let lines = text.lines().filter_map(|line| line.strip_prefix(&path));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    fn verify_gpt(&self) {
        let text = self.tool("sgdisk", &["--verify"], "");
        assert!(text.contains("No problems found"), "{text}");
        let text = self.tool("sfdisk", &["--verify"], "");
        assert!(!text.contains("differ") && !text.contains("damaged") && !text.contains("mismatch"), "{text}");
    }
}

fn sectors(partition: &Partition) -> (u32, u64, u64, Role) {
    (partition.number, partition.start / 512, partition.len / 512, partition.role)
}

#[test]
fn gpt_made_here_is_clean_for_others() {
    let image = Image::new(100 * MIB);
    let stage = image.stage();
    let device: Device = stage.clone();
    assert_eq!(volume::read(&device).unwrap(), None);
    volume::init(&device, TableKind::Gpt, DISK).unwrap();
    stage.commit().unwrap();
    drop((stage, device));
    image.verify_gpt();
    image.edit(&[
        add(Role::Primary, 34, 127),
        add(Role::Primary, 128, 4095),
        add(Role::Primary, 4096, -34),
        TableEdit::SetName { number: 2, name: "größe".to_string() },
        TableEdit::SetGptType { number: 2, kind: guid(7) },
        TableEdit::SetGptGuid { number: 2, guid: guid(8) },
        TableEdit::SetGptAttributes { number: 2, attributes: 1 << 63 | 4 },
        TableEdit::SetBootable { number: 1, bootable: true },
        TableEdit::Resize { number: 3, end_sector: 100_000 },
    ]);
    image.verify_gpt();
    let upper = |n| guid(n).to_string().to_uppercase();
    assert_eq!(
        image.dump(),
        [
            format!(
                "1 : start= 34, size= 94, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={}, name=\"primary\"",
                upper(34)
            ),
            format!(
                "2 : start= 128, size= 3968, type={}, uuid={}, name=\"gr\\xc3\\xb6\\xc3\\x9fe\", attrs=\"LegacyBIOSBootable GUID:63\"",
                upper(7),
                upper(8)
            ),
            format!(
                "3 : start= 4096, size= 95905, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid={}, name=\"primary\"",
                upper(0)
            ),
        ]
    );
    image.edit(&[TableEdit::Delete { number: 2 }, TableEdit::SetBootable { number: 1, bootable: false }]);
    image.verify_gpt();
    assert!(image.dump()[0].contains("type=0FC63DAF"));
    image.edit(&[add(Role::Primary, 200, 300)]);
    image.verify_gpt();
    assert_eq!(image.table().partitions.iter().map(sectors).nth(1), Some((2, 200, 101, Role::Primary)));
    for (edit, words) in [
        (add(Role::Primary, 250, 260), "overlap partition 2"),
        (add(Role::Primary, 33, 33), "usable"),
        (add(Role::Primary, 3000, -33), "usable"),
        (add(Role::Primary, 3000, 2999), "after the end"),
        (add(Role::Primary, 3000, 1 << 40), "outside of the disk"),
        (TableEdit::Delete { number: 9 }, "partition 9 does not exist"),
        (TableEdit::SetMbrId { number: 1, id: 7 }, "only be done on an MBR"),
        (TableEdit::SetName { number: 1, name: "x".repeat(37) }, "at most 36"),
        (TableEdit::SetGptType { number: 1, kind: Uuid::default() }, "all zeros"),
        (TableEdit::Resize { number: 1, end_sector: 33 }, "after the end"),
        (TableEdit::Resize { number: 1, end_sector: 210 }, "overlap partition 2"),
    ] {
        image.refuses(&edit, words);
    }
}

#[test]
fn gpt_of_sfdisk_is_read_and_kept() {
    let script = "label: gpt\nlabel-id: 01020304-0506-0708-090A-0B0C0D0E0F10\nfirst-lba: 34\n\
        start=2048, size=4096, type=U, name=\"EFI\", attrs=\"RequiredPartition\"\nstart=8192, size=20000, name=\"root\"\n";
    let image = Image::partitioned(64 * MIB, script);
    let table = image.table();
    assert_eq!((table.kind, table.disk_guid, table.sector), (TableKind::Gpt, Some(DISK), 512));
    let efi = &table.partitions[0];
    assert_eq!(
        (sectors(efi), efi.name.as_str(), efi.attributes, efi.bootable),
        ((1, 2048, 4096, Role::Primary), "EFI", 1, true)
    );
    let before = std::fs::read(&image.path).unwrap();
    image.edit(&[TableEdit::SetName { number: 2, name: "other".to_string() }]);
    image.edit(&[TableEdit::SetName { number: 2, name: "root".to_string() }]);
    assert!(before == std::fs::read(&image.path).unwrap(), "an edit and its opposite leave other bytes");
    image.verify_gpt();
}

#[test]
fn gpt_backup_and_grown_disk() {
    let image = Image::partitioned(64 * MIB, "label: gpt\nstart=2048, size=4096, name=\"one\"\n");
    let table = image.table();
    // A destroyed first copy: read from the backup, mended by an edit.
    let mut bytes = std::fs::read(&image.path).unwrap();
    bytes[512..600].fill(0x55);
    std::fs::write(&image.path, &bytes).unwrap();
    assert_eq!(image.table(), table);
    image.edit(&[TableEdit::SetName { number: 1, name: "two".to_string() }]);
    image.verify_gpt();
    // Both destroyed.
    let mut bytes = std::fs::read(&image.path).unwrap();
    bytes[1024] ^= 1;
    let end = bytes.len();
    bytes[end - 512 + 20] ^= 1;
    let device: Device = Arc::new(Memory::from(bytes));
    assert_eq!(volume::read(&device).unwrap_err().kind(), Kind::Corrupt);
    assert!(volume::edit(&device, &TableEdit::Delete { number: 1 }).is_err());
    // Grown.
    std::fs::File::options().write(true).open(&image.path).unwrap().set_len(80 * MIB).unwrap();
    assert_eq!(image.table().partitions.len(), 1);
    image.edit(&[TableEdit::ExpandGpt]);
    image.verify_gpt();
    image.edit(&[TableEdit::Resize { number: 1, end_sector: -34 }]);
    image.verify_gpt();
    assert_eq!(image.table().partitions[0].len, 80 * MIB - (2048 + 33) * 512);
    // Shrunk: only read.
    std::fs::File::options().write(true).open(&image.path).unwrap().set_len(70 * MIB).unwrap();
    image.refuses(&TableEdit::ExpandGpt, "over the end");
}

#[test]
fn gpt_hybrid_is_only_read() {
    let image = Image::partitioned(64 * MIB, "label: gpt\nstart=2048, size=4096\nstart=8192, size=4096\n");
    image.tool("sgdisk", &["--hybrid=1"], "");
    assert_eq!(image.table().partitions.len(), 2);
    image.refuses(&TableEdit::Delete { number: 1 }, "hybrid");
}

/// A device with sectors of 4096 bytes.
struct Large(Memory);

impl BlockDevice for Large {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector(&self) -> u32 {
        4096
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> imgsh::base::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> imgsh::base::Result<()> {
        self.0.write_at(offset, data)
    }
    fn write_fresh(&self, offset: u64, data: &[u8]) -> imgsh::base::Result<()> {
        self.0.write_at(offset, data)
    }
    fn zero(&self, range: std::ops::Range<u64>) -> imgsh::base::Result<()> {
        self.0.zero(range)
    }
    fn takes_fresh_within(&self, _range: std::ops::Range<u64>) -> bool {
        true
    }
}

#[test]
fn gpt_of_large_sectors() {
    let large = Arc::new(Large(Memory::new(32 << 20)));
    let device: Device = large.clone();
    volume::whole_disk(&device, TableKind::Gpt, DISK, guid(3)).unwrap();
    let expected = volume::read(&device).unwrap().unwrap();
    assert_eq!((expected.sector, expected.partitions[0].start), (4096, 128 * 4096));
    let image = Image::new(0);
    std::fs::write(&image.path, large.0.bytes()).unwrap();
    let text = image.tool("fdisk", &["-b", "4096", "-l"], "");
    assert!(text.contains("Disklabel type: gpt") && !text.contains("corrupt") && !text.contains("differ"), "{text}");
    let line: Vec<_> = text.lines().last().unwrap().split_whitespace().skip(1).take(3).collect();
    assert_eq!(line, ["128", "8064", "7937"]);
    // As a device that claims 512-byte sectors.
    assert_eq!(image.table(), expected);
}

#[test]
fn whole_disks() {
    for kind in [TableKind::Gpt, TableKind::Mbr] {
        let image = Image::new(10 * MIB);
        // The signature of an ext file system, to be gone.
        std::fs::File::options()
            .write(true)
            .open(&image.path)
            .and_then(|f| std::os::unix::fs::FileExt::write_all_at(&f, &[0x53, 0xef], 1024 + 56))
            .unwrap();
        let stage = image.stage();
        let device: Device = stage.clone();
        volume::whole_disk(&device, kind, DISK, guid(1)).unwrap();
        stage.commit().unwrap();
        drop((stage, device));
        let kept = std::fs::read(&image.path).unwrap()[1024 + 56..1024 + 58] == [0x53, 0xef];
        assert!(!kept, "the old superblock would still be found");
        let partition = &image.table().partitions[0];
        assert_eq!(sectors(partition), (1, 128, 20480 - 255, Role::Primary));
        if kind == TableKind::Gpt {
            assert_eq!(partition.name, "p1");
            image.verify_gpt();
        } else {
            assert_eq!(partition.kind, PartitionType::Mbr(0x83));
            assert_eq!(image.dump(), ["1 : start= 128, size= 20225, type=83"]);
            let text = image.tool("sfdisk", &["--dump"], "");
            assert!(text.contains("label-id: 0x04030201"), "{text}");
        }
    }
    let tiny: Device = Arc::new(Memory::new(16 * 512));
    assert!(volume::init(&tiny, TableKind::Gpt, DISK).is_err());
    assert!(volume::read(&tiny).unwrap().is_none());
}

#[test]
fn mbr_made_here_is_clean_for_others() {
    let image = Image::new(400 * MIB);
    let stage = image.stage();
    let device: Device = stage.clone();
    volume::init(&device, TableKind::Mbr, DISK).unwrap();
    stage.commit().unwrap();
    drop((stage, device));
    assert_eq!(image.table().partitions, []);
    image.edit(&[
        add(Role::Primary, 64, 204_799),
        add(Role::Extended, 204_800, 614_400),
        add(Role::Logical, 204_864, 205_988),
        add(Role::Logical, 210_000, 220_000),
        add(Role::Logical, 205_990, 209_998),
        add(Role::Primary, 700_000, -1),
        TableEdit::SetBootable { number: 1, bootable: true },
        TableEdit::SetBootable { number: 3, bootable: true },
        TableEdit::SetMbrId { number: 6, id: 0x7f },
    ]);
    let verified = |image: &Image| {
        let text = image.tool("sfdisk", &["--verify"], "");
        assert!(!text.contains("verlap") && !text.contains("outside") && !text.contains("nvalid"), "{text}");
    };
    verified(&image);
    assert_eq!(
        image.dump(),
        [
            "1 : start= 64, size= 204736, type=83",
            "2 : start= 204800, size= 409601, type=f",
            "3 : start= 700000, size= 119200, type=83, bootable",
            "5 : start= 204864, size= 1125, type=83",
            "6 : start= 210000, size= 10001, type=7f",
            "7 : start= 205990, size= 4009, type=83",
        ]
    );
    let table = image.table();
    let roles: Vec<_> = table.partitions.iter().map(sectors).collect();
    assert_eq!(roles[1], (2, 204_800, 409_601, Role::Extended));
    assert_eq!(roles[3], (5, 204_864, 1125, Role::Logical));
    for (edit, words) in [
        (add(Role::Logical, 204_900, 205_000), "overlap partition 5"),
        (add(Role::Logical, 100_000, 100_100), "must be inside"),
        (add(Role::Logical, 209_999, 209_999), "overlap partition 2"),
        (add(Role::Logical, 220_001, 230_000), "must be free"),
        (add(Role::Primary, 300_000, 300_100), "overlap partition 2"),
        (add(Role::Extended, 650_000, 660_000), "extended partition already"),
        (add(Role::Primary, 0, 10), "sector 0"),
        (TableEdit::Delete { number: 4 }, "does not exist"),
        (TableEdit::SetGptType { number: 1, kind: guid(1) }, "GUID partition table"),
        (TableEdit::SetMbrId { number: 1, id: 0 }, "free entry"),
        (TableEdit::Resize { number: 5, end_sector: 206_000 }, "overlap"),
        (TableEdit::Resize { number: 2, end_sector: 215_000 }, "no longer be inside"),
    ] {
        image.refuses(&edit, words);
    }
    image.edit(&[add(Role::Primary, 650_000, 650_100)]);
    image.refuses(&add(Role::Primary, 660_000, 660_100), "no free entry");
    // The middle of the chain, its end, its beginning.
    image.edit(&[TableEdit::Delete { number: 6 }]);
    assert_eq!(image.dump()[5], "6 : start= 205990, size= 4009, type=83");
    image.edit(&[TableEdit::Resize { number: 6, end_sector: 206_989 }, TableEdit::Delete { number: 5 }]);
    verified(&image);
    assert_eq!(image.dump()[4..], ["5 : start= 205990, size= 1000, type=83"]);
    image.edit(&[add(Role::Logical, 300_000, 310_000)]);
    assert_eq!(image.dump()[5..], ["6 : start= 300000, size= 10001, type=83"]);
    image.edit(&[
        TableEdit::Delete { number: 6 },
        TableEdit::Delete { number: 5 },
        add(Role::Logical, 204_801, 204_900),
    ]);
    assert_eq!(image.dump()[4..], ["5 : start= 204801, size= 100, type=83"]);
    image.edit(&[TableEdit::Delete { number: 2 }, add(Role::Extended, 204_800, 614_400)]);
    assert_eq!(image.table().partitions.len(), 4);
    verified(&image);
}

#[test]
fn mbr_of_sfdisk_is_read_and_kept() {
    let script = "label: dos\nlabel-id: 0x12345678\nstart=2048, size=4096, type=c, bootable\nstart=8192, size=100000, type=5\n\
        start=10240, size=4096, type=82\nstart=20480, size=4096\nstart=40960, size=4096\n";
    let image = Image::partitioned(64 * MIB, script);
    // Boot code.
    let mut bytes = std::fs::read(&image.path).unwrap();
    bytes[..440].fill(0xaa);
    std::fs::write(&image.path, &bytes).unwrap();
    let table = image.table();
    let found: Vec<_> = table.partitions.iter().map(sectors).collect();
    assert_eq!(found[0], (1, 2048, 4096, Role::Primary));
    assert_eq!(
        found[2..],
        [(5, 10240, 4096, Role::Logical), (6, 20480, 4096, Role::Logical), (7, 40960, 4096, Role::Logical)]
    );
    assert!(table.partitions[0].bootable);
    image.edit(&[TableEdit::SetMbrId { number: 6, id: 0x8e }]);
    image.edit(&[TableEdit::SetMbrId { number: 6, id: 0x83 }]);
    assert!(bytes == std::fs::read(&image.path).unwrap(), "an edit and its opposite leave other bytes");
    image.edit(&[TableEdit::Delete { number: 6 }, add(Role::Logical, 30_000, 30_999)]);
    assert_eq!(
        image.dump()[2..],
        [
            "5 : start= 10240, size= 4096, type=82",
            "6 : start= 40960, size= 4096, type=83",
            "7 : start= 30000, size= 1000, type=83"
        ]
    );
}

#[test]
fn whole_disk_file_systems_are_no_tables() {
    for (tool, args) in [
        ("mkfs.fat", &["-F", "16"][..]),
        ("mkfs.fat", &["-F", "32"]),
        ("mkfs.ext4", &["-q", "-F"]),
        ("mkfs.fat", &["-F", "12", "--mbr=yes"]),
    ] {
        let image = Image::new(64 * MIB);
        image.tool(tool, args, "");
        let device: Device = image.stage();
        assert_eq!(volume::read(&device).unwrap(), None, "{tool} {args:?}");
    }
}

#[test]
fn loops_and_rubbish_end() {
    let image = Image::partitioned(4 * MIB, "label: dos\nstart=2048, size=6000, type=5\nstart=4096, size=100\n");
    let mut bytes = std::fs::read(&image.path).unwrap();
    // The chain's table links to itself, and to the end of the address space.
    for link in [0_u32, u32::MAX] {
        let at = 2048 * 512 + 446 + 16;
        bytes[at + 4] = 5;
        bytes[at + 8..at + 12].copy_from_slice(&link.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&1_u32.to_le_bytes());
        let device: Device = Arc::new(Memory::from(bytes.clone()));
        assert_eq!(volume::read(&device).unwrap().unwrap().partitions.len(), 2);
    }
    // Every byte of both kinds of table, flipped: no panic, whatever is found.
    let gpt = Image::partitioned(4 * MIB, "label: gpt\nstart=2048, size=2000\nstart=4096, size=100\n");
    let gpt = std::fs::read(&gpt.path).unwrap();
    let places = [
        (&bytes, 440..512),
        (&bytes, 2048 * 512 + 440..2048 * 512 + 512),
        (&gpt, 440..512),
        (&gpt, 512..612),
        (&gpt, 1024..1300),
    ];
    for (original, places) in places {
        let memory = Arc::new(Memory::from(original.clone()));
        let device: Device = memory.clone();
        for place in places {
            for flip in [0x01, 0x80, 0xff] {
                let at = place as u64;
                memory.write_at(at, &[original[place] ^ flip]).unwrap();
                let _ = volume::read(&device).map(|_| ());
                let _ = volume::edit(&device, &add(Role::Logical, 7000, 7001));
                let _ = volume::edit(&device, &TableEdit::Resize { number: 1, end_sector: -40 });
                let _ = volume::edit(&device, &TableEdit::Delete { number: 5 });
                let kept = 2 << 20;
                memory.write_at(0, &original[..kept]).unwrap();
                memory.write_at(kept as u64, &original[kept..]).unwrap();
            }
        }
    }
}
