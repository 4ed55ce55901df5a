//! Archives of our own and of GNU tar, and hostile ones.

use super::*;
use crate::base::GuestPathBuf;
use crate::fs::FileType;
use crate::guest::transfer::{ImportOptions, Report, Sink as _};
use crate::guest::{Guest, tests::guest, tests::path};

fn unpack(guest: &mut Guest, archive: &[u8], compression: Compression) -> Result<Report> {
    let mut source = TarSource::new(Box::new(archive), compression)?;
    let options = ImportOptions { xattrs: true, ..ImportOptions::default() };
    guest.import(&GuestPathBuf::root(), &mut source, &options)
}

fn pack(guest: &Guest, compression: Compression) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut sink = TarSink::new(Box::new(&mut archive), compression, true).unwrap();
    guest.export(&GuestPathBuf::root(), &path("."), &mut sink).unwrap();
    sink.finish().unwrap();
    drop(sink);
    archive
}

#[test]
fn what_goes_out_comes_back() {
    let mut g = guest();
    crate::guest::tests::fill_with_everything(&mut g);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let archive = pack(&g, compression);
        let mut back = guest();
        let report = unpack(&mut back, &archive, compression).unwrap();
        assert!(report.entries > 10);
        assert_eq!(crate::guest::tests::listing(&back), crate::guest::tests::listing(&g));
        assert_eq!(back.stat(&path("/hard2")).unwrap().links, 2);
        assert_eq!(back.stat(&path("/long")).unwrap().file_type, FileType::Directory);
    }
}
