//! Headers that were damaged or made to harm: no panic, no hang, nothing opened that should not be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imgsh::base::{Kind, Result};
use imgsh::disk::luks::{self, Work};
use oracle::Sparse;
use sha2::{Digest, Sha256};

use super::*;

/// Reads and opens; answers the kind of error, `None` if it opened. Work stops after a while, as by Ctrl-C.
fn opened(bytes: &Arc<Sparse>) -> Option<Kind> {
    let start = Instant::now();
    let stop = || match start.elapsed() > Duration::from_millis(20) {
        true => Err(Kind::Interrupted.into()),
        false => Ok(()),
    };
    let open = || -> Result<()> {
        let device = bytes.device();
        let header = luks::read(&device)?.ok_or(Kind::NotFound)?;
        let volume = header.unlock(&device, PASS.as_bytes(), &mut Work::new(&stop))?;
        let mut first = [0; 512];
        volume.on(device.clone()).read_at(0, &mut first)?;
        Ok(())
    };
    let result = open();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?} after {:?}", result.err(), start.elapsed());
    result.err().map(|e| e.kind())
}

fn image(world: &World, options: &str) -> Vec<u8> {
    let path = world.path("luks.img");
    empty(&path, 18 * MIB);
    format(world, &path, &format!("--pbkdf pbkdf2 --pbkdf-force-iterations 1000 {options}"));
    fs::read(path).unwrap()
}

#[test]
fn every_byte_of_a_header_of_version_1() {
    let world = World::new();
    let good = image(&world, "--type luks1");
    let disk = Sparse::from_bytes(&good);
    assert_eq!(opened(&disk), None);
    let pages = disk.snapshot();
    for at in 0..300 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            disk.restore(pages.clone());
            disk.device().write_at(at, &[value]).unwrap();
            let found = opened(&disk);
            // The digest, its salt and iterations; the slot's iterations and salt.
            let counts = (112..168).contains(&at) || (212..248).contains(&at);
            assert!(found.is_some() || !counts || value == good[at as usize], "byte {at}: {value}");
        }
    }
}

/// The binary header again with another JSON text and a right checksum, as both copies.
fn with_json(disk: &Arc<Sparse>, change: &dyn Fn(&str) -> String) {
    let device = disk.device();
    for at in [0, 0x4000] {
        let mut header = vec![0; 0x4000];
        device.read_at(at, &mut header).unwrap();
        let end = header[4096..].iter().position(|b| *b == 0).unwrap();
        let json = change(std::str::from_utf8(&header[4096..4096 + end]).unwrap());
        header[4096..].fill(0);
        let len = json.len().min(0x4000 - 4096);
        header[4096..4096 + len].copy_from_slice(&json.as_bytes()[..len]);
        header[448..512].fill(0);
        let sum = Sha256::digest(&header);
        header[448..480].copy_from_slice(&sum);
        device.write_at(at, &header).unwrap();
    }
}

#[test]
fn every_value_of_a_header_of_version_2() {
    let world = World::new();
    let disk = Sparse::from_bytes(&image(&world, "--type luks2 --sector-size 512"));
    assert_eq!(opened(&disk), None);
    let pages = disk.snapshot();
    let with = |change: &dyn Fn(&str) -> String| {
        disk.restore(pages.clone());
        with_json(&disk, change);
        opened(&disk)
    };
    assert_eq!(with(&str::to_string), None);
    for (from, to, kind) in [
        (r#""iterations":1000,"#, r#""iterations":100000001,"#, Kind::Unsupported),
        (r#""stripes":4000"#, r#""stripes":4000000000"#, Kind::Corrupt),
        (r#""stripes":4000"#, r#""stripes":0"#, Kind::Corrupt),
        (r#""key_size":64"#, r#""key_size":640000000"#, Kind::Corrupt),
        (r#""key_size":64"#, r#""key_size":48"#, Kind::Unsupported),
        (r#""sector_size":512"#, r#""sector_size":0"#, Kind::Corrupt),
        (r#""sector_size":512"#, r#""sector_size":513"#, Kind::Corrupt),
        (r#""offset":"16777216""#, r#""offset":"0""#, Kind::Unsupported),
        (r#""offset":"16777216""#, r#""offset":"4096""#, Kind::Corrupt),
        (r#""offset":"32768""#, r#""offset":"18446744073709551104""#, Kind::Corrupt),
        (r#""offset":"32768""#, r#""offset":"512""#, Kind::Corrupt),
        (r#""encryption":"aes-xts-plain64""#, r#""encryption":"cipher_null-ecb""#, Kind::Unsupported),
        (r#""segments":{"0""#, r#""segments":{"1":{},"0""#, Kind::Unsupported),
        (r#""type":"crypt""#, r#""type":"crypt","integrity":{"type":"hmac(sha256)"}"#, Kind::Unsupported),
        (r#""config":{"#, r#""config":{"requirements":{"mandatory":["online-reencrypt-v2"]},"#, Kind::Unsupported),
        (r#""config":{"#, r#""config":{"requirements":{"mandatory":["warp"]},"#, Kind::Unsupported),
        (r#""type":"luks2""#, r#""type":"reencrypt""#, Kind::Unsupported),
        (r#""keyslots":["0"]"#, r#""keyslots":[]"#, Kind::Denied),
        (
            r#""kdf":{"type":"pbkdf2","#,
            r#""kdf":{"type":"argon2id","time":4,"memory":4194304,"cpus":4,"#,
            Kind::Unsupported,
        ),
        (
            r#""kdf":{"type":"pbkdf2","#,
            r#""kdf":{"type":"argon2id","time":4000000000,"memory":32,"cpus":4,"#,
            Kind::Unsupported,
        ),
        (r#""kdf":{"type":"pbkdf2","#, r#""kdf":{"type":"argon2id","time":1,"memory":32,"cpus":0,"#, Kind::Corrupt),
        (
            r#""kdf":{"type":"pbkdf2","#,
            r#""kdf":{"type":"argon2id","time":1,"memory":32,"cpus":4000000000,"#,
            Kind::Corrupt,
        ),
    ] {
        let found = with(&|json| {
            assert!(json.contains(from), "{from}: {json}");
            json.replace(from, to)
        });
        assert_eq!(found, Some(kind), "{to}");
    }
    // Random values for random characters of the JSON text, and the text cut anywhere.
    let mut random = 7_u64;
    let mut next = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % most
    };
    for _ in 0..400 {
        let (at, with_what, cut) = (next(1000), next(96) as u8 + 32, next(8) == 0);
        with(&|json| {
            let mut bytes = json.as_bytes().to_vec();
            let at = at % bytes.len();
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] = with_what,
            }
            String::from_utf8_lossy(&bytes).into_owned()
        });
    }
}

#[test]
fn one_good_copy_is_enough() {
    let world = World::new();
    let disk = Sparse::from_bytes(&image(&world, "--type luks2 --sector-size 512"));
    let device = disk.device();
    let pages = disk.snapshot();
    for at in [0, 7, 300, 4096, 5000, 0x4000, 0x4000 + 9, 0x4000 + 4100] {
        disk.restore(pages.clone());
        device.write_at(at, b"\xee\xee\xee").unwrap();
        assert_eq!(opened(&disk), None, "byte {at}");
    }
    disk.restore(pages);
    device.write_at(4100, b"\xee").unwrap();
    device.write_at(0x4000 + 4100, b"\xee").unwrap();
    assert_eq!(opened(&disk), Some(Kind::Corrupt));
    // The header of a volume whose key slots are wiped.
    assert_eq!(opened(&Sparse::new(18 * MIB)), Some(Kind::NotFound));
    assert_eq!(opened(&Sparse::new(100)), Some(Kind::NotFound));
}
