//! Images whose data is encrypted with LUKS, against qemu-img, which is given the key too.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use imgsh::base::{Kind, Timestamp};
use imgsh::disk::qcow2::{self, Qcow2};
use imgsh::disk::{self, Disk};

use crate::judge::*;

const PASS: &str = "open-sesame";
const SECRET: [&str; 2] = ["--object", "secret,id=s,data=open-sesame"];

fn create(dir: &Path, name: &str, options: &str, size: &str) {
    let options = format!("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10{options}");
    let args = [&["create", "-q", "-f", "qcow2"], &SECRET[..], &["-o", &options, name, size]].concat();
    run("qemu-img", &args, dir);
}

/// The plain bytes as QEMU reads them. `options`: those of the image file.
fn plain(dir: &Path, options: &str) -> Vec<u8> {
    let args = [&["convert", "-U"], &SECRET[..], &["--image-opts", options, "-O", "raw", "plain.raw"]].concat();
    run("qemu-img", &args, dir);
    fs::read(dir.join("plain.raw")).unwrap()
}

fn opened(path: &Path, read_only: bool) -> Qcow2 {
    let disk = Qcow2::open(path, read_only).unwrap();
    while disk.locked().is_some() {
        disk.unlock(PASS.as_bytes(), &|| Ok(())).unwrap();
    }
    disk
}

/// Two rounds of random edits.
fn edited(dir: &Path, image: &str, options: &str, seed: u64) {
    let mut random = Random(seed);
    let mut model = plain(dir, options);
    let path = dir.join(image);
    let disk = opened(&path, false);
    same(image, &everything(&disk), &model);
    for round in 0..3 {
        let mut new = model.clone();
        for _ in 0..random.below(9) {
            let at = random.below(model.len() as u64) as usize;
            let most = [700, 9_000, 600_000][random.below(3) as usize];
            let len = (1 + random.below(most) as usize).min(model.len() - at);
            random.fill(&mut new[at..at + len]);
            disk.write_fresh(at as u64, &new[at..at + len]).unwrap();
        }
        same(image, &everything(&disk), &new);
        match round {
            1 => disk.abandon().unwrap(),
            _ => {
                disk.commit(&edits(&mut random, &mut new)).unwrap();
                model = new;
            }
        }
        same(image, &everything(&disk), &model);
        let check = run("qemu-img", &[&["check", "-U"], &SECRET[..], &["--image-opts", options]].concat(), dir);
        assert!(check.contains("No errors were found"), "{image} round {round}: {check}");
        same(image, &plain(dir, options), &model);
    }
    drop(disk);
    same("opened again", &everything(&opened(&path, true)), &model);
    let mut part = vec![0; 1000];
    opened(&path, true).read_beside(70_001, &mut part).unwrap();
    same("part", &part, &model[70_001..71_001]);
}

#[test]
fn encrypted_images() {
    for (seed, more) in [
        "",
        ",cluster_size=512",
        ",cluster_size=2M",
        ",extended_l2=on",
        ",encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256",
    ]
    .iter()
    .enumerate()
    {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        create(dir, "image.qcow2", more, "5M");
        let options = "driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=s";
        let io =
            [&SECRET[..], &["--image-opts", options, "-c", "write -P 5 1M 2M", "-c", "write -P 6 70000 1024"]].concat();
        run("qemu-io", &io, dir);
        edited(dir, "image.qcow2", options, 700 + seed as u64);
        let report = qcow2::check(&dir.join("image.qcow2"), false).unwrap();
        assert!(report.is_clean(), "{more}: {report:?}");
        // What is in the file is not what the guest reads.
        let disk = opened(&dir.join("image.qcow2"), false);
        disk.commit(&Edits(vec![(1 << 20, Edit::Data(b"a very plain text".repeat(100)))])).unwrap();
        let bytes = fs::read(dir.join("image.qcow2")).unwrap();
        assert!(!bytes.windows(17).any(|window| window == b"a very plain text"), "{more}");
    }
}

#[test]
fn chains_of_encrypted_images() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    create(dir, "base.qcow2", "", "3M");
    let base = "driver=qcow2,file.filename=base.qcow2,encrypt.key-secret=s";
    edited(dir, "base.qcow2", base, 720);
    qemu(dir, "create -q -f qcow2 -u -F qcow2 -b base.qcow2 over.qcow2 5M");
    edited(dir, "over.qcow2", "driver=qcow2,file.filename=over.qcow2,backing.encrypt.key-secret=s", 721);
    create(dir, "top.qcow2", ",backing_file=over.qcow2,backing_fmt=qcow2", "5M");
    let top = "driver=qcow2,file.filename=top.qcow2,encrypt.key-secret=s,backing.backing.encrypt.key-secret=s";
    edited(dir, "top.qcow2", top, 722);
}

#[test]
fn without_the_key() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    create(dir, "image.qcow2", "", "5M");
    opened(&path, false).commit(&Edits(vec![(0, Edit::Data(vec![1; 100_000]))])).unwrap();
    let before = fs::read(&path).unwrap();
    let disk = Qcow2::open(&path, false).unwrap();
    let uuid = disk.locked().unwrap();
    assert!(qemu(dir, "info image.qcow2").contains(&uuid));
    assert_eq!(disk.unlock(b"wrong", &|| Ok(())).unwrap_err().kind(), Kind::Denied);
    assert_eq!(disk.unlock(PASS.as_bytes(), &|| Err(Kind::Interrupted.into())).unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(disk.read_at(0, &mut [0; 9]).unwrap_err().kind(), Kind::Denied);
    let error = disk.write_fresh(200_000, &[1; 9]).unwrap_err();
    assert!(error.kind() == Kind::Denied && error.hint_text().unwrap().contains(&uuid), "{error}");
    disk.abandon().unwrap();
    assert!(disk.locked().is_some() && fs::read(&path).unwrap() == before, "touched");
    drop(disk);
    // What needs no data needs no key.
    qcow2::create_snapshot(&path, "one", Timestamp::from_seconds(1)).unwrap();
    disk::resize(&path, 8 << 20, false, &no_keys).unwrap();
    assert!(qcow2::check(&path, false).unwrap().is_clean());
    let mut all = vec![1; 100_000];
    all.resize(8 << 20, 0);
    same("after", &plain(dir, "driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=s"), &all);
}

/// Ends inside of clusters with data: what is behind them has to be written, and that takes the key.
#[test]
fn resized_inside_a_cluster() {
    for (number, more) in ["", ",extended_l2=on", ",backing_file=base.raw,backing_fmt=raw"].into_iter().enumerate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let path = dir.join("image.qcow2");
        let mut model = base(dir, "base.raw", 7 << 20, 90);
        model.resize(5_000_192, 0);
        if number < 2 {
            model.fill(0);
        }
        create(dir, "image.qcow2", more, "5000192");
        opened(&path, false).commit(&Edits(vec![(4_900_000, Edit::Data(vec![5; 100_192]))])).unwrap();
        model[4_900_000..].fill(5);
        let options = "driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=s";
        same("before", &plain(dir, options), &model);
        for (size, shrink) in [(4_950_016, true), (8 << 20, false), (5_500_416, true), (6 << 20, false)] {
            let before = fs::read(&path).unwrap();
            let refused = |_: &dyn Disk| Err(imgsh::base::Error::usage("no key today"));
            if disk::resize(&path, size, shrink, &refused).is_ok() {
                // Nothing but zeros was there.
                assert!(size as usize > model.len() || model[size as usize..].iter().all(|b| *b == 0), "{more} {size}");
            } else {
                assert!(fs::read(&path).unwrap() == before, "{more} {size}: touched");
                let give = |disk: &dyn Disk| {
                    while disk.locked().is_some() {
                        disk.unlock(PASS.as_bytes(), &|| Ok(()))?;
                    }
                    Ok(())
                };
                disk::resize(&path, size, shrink, &give).unwrap();
            }
            model.resize(size as usize, 0);
            same(more, &plain(dir, options), &model);
            assert!(qcow2::check(&path, false).unwrap().is_clean());
            let check = run("qemu-img", &[&["check"], &SECRET[..], &["--image-opts", options]].concat(), dir);
            assert!(check.contains("No errors were found"), "{more} {size}: {check}");
        }
        opened(&path, false).commit(&Edits(vec![(4_900_000, Edit::Data(vec![5; 100_192]))])).unwrap();
        model[4_900_000..5_000_192].fill(5);
        fs::write(dir.join("key"), PASS).unwrap();
        let (good, text) = imgsh(dir, &[], "disk-resize image.qcow2 4950016 shrink:true\n");
        assert!(!good && text.contains("--key"), "{text}");
        same("refused", &plain(dir, options), &model);
        let (good, text) = imgsh(dir, &["--key", "all:file:key"], "disk-resize image.qcow2 4950016 shrink:true\n");
        assert!(good, "{text}");
        same("by the program", &plain(dir, options), &model[..4_950_016]);
    }
}

/// The program with lines on its standard input; what it prints, and whether all went well.
fn imgsh(dir: &Path, args: &[&str], lines: &str) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_imgsh"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).ok();
    let out = child.wait_with_output().unwrap();
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn keys_of_the_command_line() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    create(dir, "image.qcow2", "", "5M");
    fs::write(dir.join("key"), format!("{PASS}\n")).unwrap();
    let make = "run\npart-disk /dev/sda mbr\nmkfs ext4 /dev/sda1\nmount /dev/sda1 /\nwrite /hello kept\n";
    let (good, text) = imgsh(dir, &["-a", "image.qcow2", "--key", "all:file:key"], make);
    assert!(good, "{text}");
    let look = "run\nmount-ro /dev/sda1 /\ncat /hello\n";
    let uuid = Qcow2::open(&dir.join("image.qcow2"), true).unwrap().locked().unwrap();
    for key in [format!("{uuid}:key:{PASS}"), format!("image.qcow2:key:{PASS}")] {
        let (good, text) = imgsh(dir, &["--ro", "-a", "image.qcow2", "--key", &key], look);
        assert!(good && text.contains("kept"), "{text}");
    }
    let (good, text) = imgsh(dir, &["--ro", "-a", "image.qcow2", "--keys-from-stdin"], &format!("{PASS}\n{look}"));
    assert!(good && text.contains("kept"), "{text}");
    // Two images of a chain may have one UUID.
    fs::copy(dir.join("image.qcow2"), dir.join("twin.qcow2")).unwrap();
    let twin = "driver=qcow2,file.filename=twin.qcow2,encrypt.key-secret=s";
    let under = ["-F", "qcow2", "-b", "image.qcow2", "--image-opts", twin];
    run("qemu-img", &[&["rebase", "-u"], &SECRET[..], &under].concat(), dir);
    let (good, text) = imgsh(dir, &["--ro", "-a", "twin.qcow2", "--key", "all:file:key"], look);
    assert!(good && text.contains("kept"), "{text}");
    for args in [&["--ro", "-a", "image.qcow2"][..], &["--ro", "-a", "image.qcow2", "--key", "all:key:wrong"]] {
        let (good, text) = imgsh(dir, args, look);
        assert!(!good && text.contains(&uuid) && !text.contains("kept"), "{text}");
    }
    let (good, text) = imgsh(dir, &["--key", "all:file:key"], "disk-convert image.qcow2 plain.img raw\n");
    assert!(good, "{text}");
    let same = [
        &["compare", "-q"],
        &SECRET[..],
        &[
            "--image-opts",
            "driver=qcow2,file.filename=image.qcow2,encrypt.key-secret=s",
            "driver=raw,file.filename=plain.img",
        ],
    ]
    .concat();
    run("qemu-img", &same, dir);
}

#[test]
fn damaged_encryption_headers() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let path = dir.join("image.qcow2");
    create(dir, "image.qcow2", "", "1M");
    let good = fs::read(&path).unwrap();
    let extension = good.windows(8).position(|w| w == [0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16]).unwrap();
    let area = u64::from_be_bytes(good[extension + 8..extension + 16].try_into().unwrap()) as usize;
    for (name, at, value) in [
        ("offset 0", extension + 8, 0u64.to_be_bytes()),
        ("offset not on a cluster", extension + 8, 4096u64.to_be_bytes()),
        ("offset outside", extension + 8, (1u64 << 62).to_be_bytes()),
        ("offset at the end of numbers", extension + 8, (!0xffffu64).to_be_bytes()),
        ("no length", extension + 16, 0u64.to_be_bytes()),
        ("a length of one", extension + 16, 1u64.to_be_bytes()),
        ("a length of 2^63", extension + 16, (1u64 << 63).to_be_bytes()),
        ("no LUKS", area, [0; 8]),
        ("no extension", extension, [0; 8]),
        ("crypt_method 0", 28, [0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value);
        if at == 28 {
            bytes[28..32].copy_from_slice(&good[28..32]);
        }
        fs::write(&path, &bytes).unwrap();
        let error = Qcow2::open(&path, false).err().map(|e| e.kind());
        assert_eq!(error, Some(Kind::Corrupt), "{name}");
        assert!(fs::read(&path).unwrap() == bytes, "{name}: touched");
    }
}
