//! rpm's databases: what `rpm -qa` says of them (tests/rpm/make-databases, tests/rpm/make-ndb), and damaged ones.

mod oracle;

use std::io::Read;

use imgsh::base::{GuestPathBuf, Kind, Result};
use imgsh::fs;
use imgsh::guest::Guest;
use imgsh::guest::inspect::{Application, applications};
use oracle::guest::Guest as Maker;
use oracle::{Random, Sparse, guest::made};

const SQLITE: &[u8] = include_bytes!("rpm/rpmdb.sqlite.gz");
const LOG: &[u8] = include_bytes!("rpm/rpmdb.sqlite-wal.gz");
const PACKAGES: &[u8] = include_bytes!("rpm/Packages.gz");
const NDB: &[u8] = include_bytes!("rpm/Packages.db.gz");

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The packages of a guest that has these files in its database's folder.
fn listed(files: &[(&str, &[u8])]) -> Result<Vec<Application>> {
    let device: std::sync::Arc<Sparse> = made(16 << 20, 4096, "");
    let mut fs = fs::open(device.device()).unwrap();
    let mut maker = Maker::new(fs.as_mut());
    ["var", "var/lib", "var/lib/rpm"].iter().for_each(|dir| maker.dir(dir));
    files.iter().for_each(|(name, bytes)| maker.file(&format!("var/lib/rpm/{name}"), bytes));
    maker.sync();
    let mut guest = Guest::default();
    guest.mount("/dev/sda", &GuestPathBuf::root(), true, &mut || fs::open(device.device())).unwrap();
    applications(&guest, "rpm")
}

fn lines(found: &[Application]) -> Vec<String> {
    let line = |a: &Application| {
        format!("{} {} {} {} {} {} {}", a.name, a.epoch, a.version, a.release, a.arch, a.url, a.summary)
    };
    found.iter().map(line).collect()
}

#[test]
fn what_rpm_says() {
    let (sqlite, log) = (unpacked(SQLITE), unpacked(LOG));
    let wanted: Vec<&str> = include_str!("rpm/list").lines().collect();
    assert_eq!(lines(&listed(&[("rpmdb.sqlite", &sqlite), ("rpmdb.sqlite-wal", &log)]).unwrap()), wanted);
    assert_eq!(lines(&listed(&[("Packages.db", &unpacked(NDB))]).unwrap()), wanted);
    // Without the log: before package 6 came and package 4 went.
    let names = |found: &[Application]| found.iter().map(|a| a.name.clone()).collect::<Vec<_>>();
    let before: Vec<String> = (1..=5).map(|i| format!("package-{i}")).collect();
    assert_eq!(names(&listed(&[("rpmdb.sqlite", &sqlite)]).unwrap()), before);
    // A log that is torn in its first frame has nothing; so has an empty one.
    let mut torn = log.clone();
    torn[32 + 24 + 100] ^= 1;
    assert_eq!(names(&listed(&[("rpmdb.sqlite", &sqlite), ("rpmdb.sqlite-wal", &torn)]).unwrap()), before);
    assert_eq!(names(&listed(&[("rpmdb.sqlite", &sqlite), ("rpmdb.sqlite-wal", &[])]).unwrap()), before);
    assert_eq!(names(&listed(&[("Packages", &unpacked(PACKAGES))]).unwrap()), before);
}

#[test]
fn no_database_and_other_forms() {
    assert_eq!(listed(&[]).unwrap_err().kind(), Kind::NotFound);
    let mut newer = unpacked(NDB);
    newer[4] = 1;
    assert_eq!(listed(&[("Packages.db", &newer)]).unwrap_err().kind(), Kind::Unsupported);
    for (name, bytes) in [
        ("rpmdb.sqlite", &b"no database, but long enough"[..]),
        ("Packages", &[0; 4096]),
        ("Packages", b""),
        ("Packages.db", b"RpmP"),
        ("Packages.db", &[0; 4096]),
        ("Packages.db", b""),
    ] {
        assert_eq!(listed(&[(name, bytes)]).unwrap_err().kind(), Kind::Corrupt, "{name}");
    }
}

#[test]
fn damaged_databases() {
    let files = [("rpmdb.sqlite", unpacked(SQLITE)), ("Packages", unpacked(PACKAGES)), ("Packages.db", unpacked(NDB))];
    let mut random = Random(21);
    for (name, bytes) in files {
        let mut refused = 0;
        for round in 0..250 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(3) {
                // Heads of pages, and anywhere.
                let page = random.below(damaged.len() as u64 / 4096) * 4096;
                let place = page + if random.below(2) == 0 { random.below(60) } else { random.below(4096) };
                damaged[place as usize] = random.next() as u8;
            }
            if round % 10 == 0 {
                damaged.truncate(random.below(damaged.len() as u64) as usize);
            }
            refused += u32::from(listed(&[(name, &damaged)]).is_err());
        }
        assert!(refused > 20, "{name}: {refused} damages were found");
    }
}

/// The words of slots and heads that lead elsewhere, and any byte of a package: each is found.
#[test]
fn damaged_ndb() {
    let whole = unpacked(NDB);
    let word = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
    let (first, blocks) = (word(40) as usize * 16, word(44) as usize * 16);
    let with = |at: usize, value: u32| {
        let mut damaged = whole.clone();
        damaged[at..at + 4].copy_from_slice(&value.to_le_bytes());
        damaged
    };
    let cases = [
        ("no pages of slots", with(12, 0)),
        ("more pages than the file has", with(12, 2000)),
        ("more pages than are read", with(12, u32::MAX)),
        ("a slot's magic word", with(32, 0)),
        ("another's package", with(36, 77)),
        ("two slots of one package", with(36, word(52))),
        ("package 0", with(36, 0)),
        ("inside the slots", with(40, 1)),
        ("behind the end", with(40, u32::MAX)),
        ("on another's blocks", with(40, word(56))),
        ("no blocks", with(44, 0)),
        ("blocks without end", with(44, u32::MAX)),
        ("a length", with(first + 12, word(first + 12) + 1)),
        ("the other length", with(first + blocks - 8, 1)),
    ];
    for (what, bytes) in cases {
        assert_eq!(listed(&[("Packages.db", &bytes)]).unwrap_err().kind(), Kind::Corrupt, "{what}");
    }
    let mut random = Random(9);
    for _ in 0..200 {
        let mut damaged = whole.clone();
        let at = first + random.below(blocks as u64) as usize;
        damaged[at] ^= 1 << random.below(8);
        assert_eq!(listed(&[("Packages.db", &damaged)]).unwrap_err().kind(), Kind::Corrupt, "byte {at}");
    }
    assert!(listed(&[("Packages.db", &whole[..whole.len() - 16])]).is_err());
}
