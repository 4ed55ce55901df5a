//! Archives of our own, of the `tar` crate and of GNU tar's forms, and hostile ones.

use std::io::Read;

use super::fields::Block;
use super::*;
use crate::base::{GuestPathBuf, Kind, Result, Timestamp};
use crate::fs::FileType;
use crate::guest::transfer::{EntryKind, ImportOptions, Report, Sink as _, Source as _};
use crate::guest::{Guest, tests::guest, tests::path};

fn unpack_with(guest: &mut Guest, archive: &[u8], options: ImportOptions) -> Result<Report> {
    let mut source = TarSource::new(Box::new(archive), Compression::None)?;
    guest.import(&path("/t"), &mut source, &options)
}

fn unpack(guest: &mut Guest, archive: &[u8]) -> Result<Report> {
    unpack_with(guest, archive, ImportOptions { xattrs: true, ..ImportOptions::default() })
}

fn pack(guest: &Guest, compression: Compression) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut sink = TarSink::new(Box::new(&mut archive), compression, true).unwrap();
    guest.export(&GuestPathBuf::root(), &path("."), &mut sink).unwrap();
    sink.finish().unwrap();
    sink.finish().unwrap();
    drop(sink);
    archive
}

/// A guest with a directory to unpack into and one that must stay as it is.
fn target() -> Guest {
    let mut g = guest();
    g.mkdir_p(&path("/t"), 0o755).unwrap();
    g.mkdir_p(&path("/etc"), 0o755).unwrap();
    g.write_file(&path("/etc/passwd"), b"root").unwrap();
    g
}

/// A header of old: name, type, link, size.
fn header(name: &str, kind: u8, link: &str, size: u64) -> Block {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[fields::LINK][..link.len()].copy_from_slice(link.as_bytes());
    fields::put_number(&mut block[fields::MODE], 0o644);
    fields::put_number(&mut block[fields::SIZE], size);
    fields::put_number(&mut block[fields::MTIME], 1_600_000_000);
    block[fields::TYPE] = kind;
    seal(&mut block);
    block
}

fn seal(block: &mut Block) {
    let (sum, _) = fields::checksums(block);
    block[fields::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Headers with their data, padded, with the two blocks at the end.
fn archive(entries: &[(Block, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, data) in entries {
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn failure(entries: &[(Block, &[u8])]) -> (Kind, String) {
    let mut g = target();
    let error = unpack(&mut g, &archive(entries)).unwrap_err();
    assert_eq!(g.read_file(&path("/etc/passwd"), 9).unwrap(), b"root");
    (error.kind(), error.to_string())
}

fn read(g: &Guest, name: &str) -> String {
    String::from_utf8(g.read_file(&path(name), 1 << 20).unwrap()).unwrap()
}

#[test]
fn what_goes_out_comes_back() {
    let mut g = guest();
    crate::guest::tests::fill_with_everything(&mut g);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let archive = pack(&g, compression);
        let mut back = guest();
        let mut source = TarSource::new(Box::new(&archive[..]), compression).unwrap();
        let options = ImportOptions { xattrs: true, ..ImportOptions::default() };
        let report = back.import(&GuestPathBuf::root(), &mut source, &options).unwrap();
        assert!(report.entries > 10);
        assert_eq!(crate::guest::tests::listing(&back), crate::guest::tests::listing(&g));
        assert_eq!(back.stat(&path("/hard2")).unwrap().links, 2);
        assert_eq!(back.stat(&path("/long")).unwrap().file_type, FileType::Directory);
    }
}

/// The `tar` crate, which we did not write, reads what we write.
#[test]
fn another_reader_agrees() {
    let mut g = guest();
    crate::guest::tests::fill_with_everything(&mut g);
    let bytes = pack(&g, Compression::None);
    assert_eq!(bytes.len() % 10_240, 0);
    let mut seen = 0;
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = path("/").join(&entry.path_bytes());
        let metadata = g.lstat(&name).unwrap();
        let header = entry.header();
        assert_eq!(header.mode().unwrap(), metadata.mode, "{name}");
        let kind = header.entry_type();
        if kind.is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert_eq!(content, g.read_file(&name, 1 << 24).unwrap());
        } else if kind.is_symlink() {
            assert_eq!(*entry.link_name_bytes().unwrap(), *g.read_link(&name).unwrap());
        } else if kind.is_hard_link() {
            assert_eq!(*entry.link_name_bytes().unwrap(), *b"./hard1");
        }
        seen += 1;
    }
    assert_eq!(seen, crate::guest::tests::listing(&g).len());
}

/// What the `tar` crate writes (GNU long names) is read.
#[test]
fn another_writer_is_understood() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o4750);
    header.set_uid(5_000_000);
    header.set_gid(12);
    header.set_mtime(1 << 35);
    builder.append_data(&mut header, &long, &b"hello"[..]).unwrap();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    builder.append_link(&mut header, "link", "x/".repeat(150)).unwrap();
    let mut g = target();
    assert_eq!(unpack(&mut g, &builder.into_inner().unwrap()).unwrap(), Report { entries: 2, bytes: 5 });
    let file = path("/t").join(long.as_bytes());
    let m = g.stat(&file).unwrap();
    assert_eq!((m.mode, m.uid, m.gid, m.modified.seconds), (0o4750, 5_000_000, 12, 1 << 35));
    assert_eq!(g.read_file(&file, 9).unwrap(), b"hello");
    assert_eq!(g.read_link(&path("/t/link")).unwrap(), path(&"x/".repeat(150)));
}

#[test]
fn pax_records_count() {
    let records = b"22 path=from a record\n20 mtime=-1.25000000\n12 uid=1234\n30 SCHILY.xattr.user.k=a=\nb\0c\n\n";
    let records = [&records[..], b"16 comment=what\n"].concat();
    let entries = [(header("x", b'x', "", records.len() as u64), &records[..]), (header("short", b'0', "", 2), b"ok")];
    let mut g = target();
    unpack(&mut g, &archive(&entries)).unwrap_err();
    // The lengths above are wrong on purpose in one record; now all are right.
    let record = |key: &str, value: &[u8]| {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|l| l.to_string().len() + rest == *l).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    };
    let records = [
        record("path", b"from a record"),
        record("mtime", b"-1.25"),
        record("uid", b"1234"),
        record("SCHILY.xattr.user.k", b"a=\nb\0c\n"),
        record("comment", b"what"),
    ]
    .concat();
    let global = record("gid", b"77");
    let entries = [
        (header("g", b'g', "", global.len() as u64), &global[..]),
        (header("x", b'x', "", records.len() as u64), &records[..]),
        (header("short", b'0', "", 2), b"ok"),
        (header("other", b'0', "", 0), b""),
    ];
    unpack(&mut g, &archive(&entries)).unwrap();
    let m = g.stat(&path("/t/from a record")).unwrap();
    assert_eq!((m.uid, m.gid, m.modified), (1234, 77, Timestamp { seconds: -2, nanos: 750_000_000 }));
    assert_eq!(g.xattrs(&path("/t/from a record"), true).unwrap()[0].1, b"a=\nb\0c\n");
    let m = g.stat(&path("/t/other")).unwrap();
    assert_eq!((m.uid, m.gid, m.modified.seconds), (0, 77, 1_600_000_000));
}

#[test]
fn sparse_files_have_their_holes_as_zeros() {
    let wanted = [&[0; 1000][..], b"abc", &[0; 997], b"de", &[0; 10]].concat();
    // GNU's old form: the map in the header.
    let mut old = header("old", b'S', "", 5);
    for (at, number) in [(386, 1000), (398, 3), (410, 2000), (422, 2), (483, wanted.len() as u64)] {
        fields::put_number(&mut old[at..at + 12], number);
    }
    seal(&mut old);
    // Its pax form, version 1.0: the map before the data.
    let pax = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n23 GNU.sparse.name=new\n28 GNU.sparse.realsize=2012\n";
    let mut data = b"2\n1000\n3\n2000\n2\n".to_vec();
    data.resize(BLOCK, 0);
    data.extend_from_slice(b"abcde");
    let entries = [
        (old, &b"abcde"[..]),
        (header("x", b'x', "", pax.len() as u64), &pax[..]),
        (header("GNUSparseFile.0/new", b'0', "", data.len() as u64), &data),
        (header("after", b'0', "", 1), b"z"),
    ];
    let mut g = target();
    assert_eq!(unpack(&mut g, &archive(&entries)).unwrap().bytes, 2 * 2012 + 1);
    for name in ["/t/old", "/t/new"] {
        assert_eq!(g.read_file(&path(name), 1 << 16).unwrap(), wanted, "{name}");
    }
    assert_eq!(read(&g, "/t/after"), "z");
    // A map that overlaps, or is longer than the data.
    for (offset, length) in [(1001, 2), (2000, 3), (u64::MAX >> 2, 2)] {
        let mut bad = old;
        fields::put_number(&mut bad[410..422], offset);
        fields::put_number(&mut bad[422..434], length);
        seal(&mut bad);
        assert_eq!(failure(&[(bad, b"abcde")]).0, Kind::Corrupt);
    }
}

#[test]
fn names_cannot_leave_the_directory() {
    for name in ["../x", "a/../../x", "a/..", "/../x"] {
        let (kind, text) = failure(&[(header(name, b'0', "", 0), b"")]);
        assert_eq!(kind, Kind::Denied, "{text}");
        assert_eq!(failure(&[(header("x", b'1', name, 0), b"")]).0, Kind::Denied);
    }
    // As tar does, a slash at the start is taken away.
    let mut g = target();
    unpack(&mut g, &archive(&[(header("//etc/./passwd", b'0', "", 4), b"evil")])).unwrap();
    assert_eq!((read(&g, "/etc/passwd"), read(&g, "/t/etc/passwd")), ("root".into(), "evil".into()));
}

#[test]
fn links_of_an_archive_are_not_followed() {
    for keep_directory_links in [false, true] {
        let options = ImportOptions { keep_directory_links, ..ImportOptions::default() };
        for target_of_link in ["/etc", "../etc"] {
            // A file through the link, a directory in its place, a directory through a chain, a hard link through it.
            let link = header("link", b'2', target_of_link, 0);
            let mut g = target();
            unpack_with(&mut g, &archive(&[(link, b""), (header("link/passwd", b'0', "", 4), b"evil")]), options)
                .unwrap();
            assert_eq!((read(&g, "/etc/passwd"), read(&g, "/t/link/passwd")), ("root".into(), "evil".into()));
            let mut g = target();
            let entries =
                [(link, &b""[..]), (header("link/", b'5', "", 0), b""), (header("link/passwd", b'0', "", 4), b"evil")];
            unpack_with(&mut g, &archive(&entries), options).unwrap();
            assert_eq!((read(&g, "/etc/passwd"), read(&g, "/t/link/passwd")), ("root".into(), "evil".into()));
            let mut g = target();
            g.symlink(&path("link/sub"), &path("/t/chain")).unwrap();
            g.mkdir(&path("/etc/sub"), 0o755).unwrap();
            let entries = [(link, &b""[..]), (header("chain/f", b'0', "", 4), b"evil")];
            assert_eq!(unpack_with(&mut g, &archive(&entries), options).unwrap_err().kind(), Kind::Denied);
            assert!(g.list(&path("/etc/sub")).unwrap().is_empty());
            let mut g = target();
            let entries = [(link, &b""[..]), (header("hard", b'1', "link/passwd", 0), b"")];
            assert_eq!(unpack_with(&mut g, &archive(&entries), options).unwrap_err().kind(), Kind::NotFound);
        }
    }
}

#[test]
fn links_of_the_guest() {
    let usr = [
        (header("lib/", b'5', "", 0), &b""[..]),
        (header("lib/a", b'0', "", 1), b"a"),
        (header("bin/b", b'0', "", 1), b"b"),
        (header("c", b'0', "", 1), b"c"),
    ];
    for keep_directory_links in [false, true] {
        let mut g = target();
        g.mkdir_p(&path("/t/usr/lib"), 0o711).unwrap();
        g.mkdir_p(&path("/t/usr/bin"), 0o755).unwrap();
        g.symlink(&path("usr/lib"), &path("/t/lib")).unwrap();
        g.symlink(&path("/t/usr/bin"), &path("/t/bin")).unwrap();
        g.symlink(&path("/etc/passwd"), &path("/t/c")).unwrap();
        unpack_with(&mut g, &archive(&usr), ImportOptions { keep_directory_links, ..ImportOptions::default() })
            .unwrap();
        // A directory takes the link's place, unless asked to keep it; a link that is only on the way is followed.
        let kind = g.lstat(&path("/t/lib")).unwrap().file_type;
        assert_eq!(kind == FileType::Symlink, keep_directory_links);
        assert_eq!(g.exists(&path("/t/usr/lib/a")).unwrap(), keep_directory_links);
        assert_eq!(g.stat(&path("/t/usr/lib")).unwrap().mode, 0o711);
        assert_eq!((read(&g, "/t/lib/a"), read(&g, "/t/usr/bin/b")), ("a".into(), "b".into()));
        // A file replaces a link; it is not written through it.
        assert_eq!((read(&g, "/t/c"), read(&g, "/etc/passwd")), ("c".into(), "root".into()));
    }
}

#[test]
fn names_that_are_taken() {
    let mut g = target();
    g.mkdir_p(&path("/t/full/x"), 0o700).unwrap();
    g.mkdir_p(&path("/t/empty"), 0o755).unwrap();
    g.write_file(&path("/t/file"), b"old").unwrap();
    g.link(&path("/t/file"), &path("/t/other")).unwrap();
    let entries = [
        (header("file", b'0', "", 3), &b"new"[..]),
        (header("full/", b'5', "", 0), b""),
        (header("empty", b'0', "", 1), b"e"),
        (header("late", b'1', "file", 0), b""),
        (header("late", b'1', "./file", 0), b""),
        (header("other/", b'5', "", 0), b""),
        (header("other/deep/f", b'0', "", 0), b""),
    ];
    unpack(&mut g, &archive(&entries)).unwrap();
    assert_eq!(
        (read(&g, "/t/file"), read(&g, "/t/empty"), read(&g, "/t/late")),
        ("new".into(), "e".into(), "new".into())
    );
    assert_eq!(g.stat(&path("/t/late")).unwrap().links, 2);
    assert_eq!((g.stat(&path("/t/full")).unwrap().mode, g.exists(&path("/t/full/x")).unwrap()), (0o644, true));
    // The directory's time is that of the archive, although names were put into it later.
    assert_eq!(g.stat(&path("/t/other")).unwrap().modified.seconds, 1_600_000_000);
    let taken = [(header("full", b'0', "", 0), &b""[..])];
    assert_eq!(unpack(&mut g, &archive(&taken)).unwrap_err().kind(), Kind::NotEmpty);
    let below_file = [(header("file/x", b'0', "", 0), &b""[..])];
    let error = unpack(&mut g, &archive(&below_file)).unwrap_err();
    assert_eq!(error.to_string(), "/t/file/x: Not a directory");
}

#[test]
fn damage_is_told() {
    let good = archive(&[(header("f", b'0', "", 600), &[1; 600])]);
    for length in [1, 511, 513, 1000, 1100, 1400] {
        let error = unpack(&mut target(), &good[..length]).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{length}: {error}");
    }
    // The end may be missing, as for GNU tar.
    unpack(&mut target(), &good[..1536]).unwrap();
    unpack(&mut target(), &[]).unwrap();
    let mut wrong = good.clone();
    wrong[0] = b'g';
    assert!(unpack(&mut target(), &wrong).unwrap_err().to_string().contains("checksum"));
    assert!(unpack(&mut target(), &[0x1f; 4096]).unwrap_err().hint_text().is_some());
    assert_eq!(failure(&[(header("f", b'Q', "", 0), b"")]).0, Kind::Unsupported);
    assert_eq!(failure(&[(header("f", b'M', "", 0), b"")]).0, Kind::Unsupported);
    assert_eq!(failure(&[(header("", b'0', "", 0), b"")]).0, Kind::Invalid);
    for records in ["5 a=b\n", "99 path=x\n", "x path=y\n", "0 a=b\n", "11 path=x\nx", "7 path\n", "13 size=12x4\n"] {
        let data = records.as_bytes();
        let (kind, text) =
            failure(&[(header("x", b'x', "", data.len() as u64), data), (header("f", b'0', "", 0), b"")]);
        assert_eq!(kind, Kind::Corrupt, "{records:?}: {text}");
    }
    let deep = "d/".repeat(60);
    unpack(&mut target(), &archive(&[(header(&deep[..99], b'0', "", 0), b"")])).unwrap();
}

/// A source of zeros without end, for archives that claim to be huge.
struct Endless<'a>(&'a [u8]);

impl Read for Endless<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if !self.0.is_empty() {
            return self.0.read(buf);
        }
        buf.fill(0);
        Ok(buf.len())
    }
}

#[test]
fn huge_claims_take_no_memory() {
    // Long names and pax headers of gigabytes, from a stream that would give them.
    for kind in [b'L', b'K', b'x', b'g'] {
        let start = header("x", kind, "", 8 << 30);
        let mut source = TarSource::new(Box::new(Endless(&start)), Compression::None).unwrap();
        let error = source.next().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
    // A sparse map that never ends.
    let mut start = header("x", b'S', "", 0);
    start[482] = 1;
    seal(&mut start);
    let mut block = [0; BLOCK];
    for piece in block[..504].chunks_exact_mut(24) {
        fields::put_number(&mut piece[..12], 1);
        fields::put_number(&mut piece[12..], 0);
    }
    block[504] = 1;
    let blocks = [&start[..], &block.repeat(60_000)].concat();
    let mut source = TarSource::new(Box::new(&blocks[..]), Compression::None).unwrap();
    assert_eq!(source.next().map(|_| ()).unwrap_err().kind(), Kind::Corrupt);
    // Any size can be told; the data is what counts.
    let mut start = header("x", b'0', "", 0);
    fields::put_number(&mut start[fields::SIZE], i64::MAX as u64);
    seal(&mut start);
    let mut source = TarSource::new(Box::new(&start[..]), Compression::None).unwrap();
    let entry = source.next().unwrap().unwrap();
    assert_eq!(entry.kind, EntryKind::Regular(i64::MAX as u64));
    let error = entry.content.unwrap().read(&mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("ends after"), "{error}");
}

#[test]
fn random_damage_never_panics() {
    let mut g = guest();
    crate::guest::tests::fill_with_everything(&mut g);
    g.unlink(&path("/dir/big")).unwrap();
    let good = pack(&g, Compression::None);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..4 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let block = (random >> 20) as usize % (bytes.len() / BLOCK) * BLOCK;
            let at = block + (random >> 8) as usize % BLOCK;
            bytes[at] = random as u8;
            // With a right checksum the damage gets further.
            let mut header: Block = bytes[block..block + BLOCK].try_into().unwrap();
            seal(&mut header);
            bytes[block..block + BLOCK].copy_from_slice(&header);
        }
        let mut source = TarSource::new(Box::new(&bytes[..]), Compression::None).unwrap();
        while let Ok(Some(entry)) = source.next() {
            if let Some(content) = entry.content {
                _ = content.take(1 << 20).read_to_end(&mut Vec::new());
            }
        }
        _ = unpack(&mut target(), &bytes);
    }
}
