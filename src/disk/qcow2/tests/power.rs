//! The power goes at any call, the host fails at any call: old or new, and nothing to repair.

use super::*;

const SHAPES: &[(&str, &[&str])] = &[
    ("-o cluster_size=4k", &[]),
    ("-o cluster_size=512", &[]),
    ("-o cluster_size=4k -c", &[]),
    ("-o compat=0.10", &["snapshot -c one image.qcow2"]),
    ("-o cluster_size=4k,refcount_bits=64", &["snapshot -c one image.qcow2"]),
    ("-o preallocation=metadata,refcount_bits=1", &[]),
    ("-o cluster_size=4k", &["bitmap --add -g 4096 image.qcow2 b"]),
    ("-o extended_l2=on,cluster_size=16k", &[]),
];

/// Fresh writes and changes; gives the new contents.
fn edit(disk: &Qcow2, random: &mut Random, old: &[u8]) -> (Vec<u8>, Result<()>) {
    let mut new = old.to_vec();
    let mut place = |random: &mut Random, from: u64| {
        let len = 1 + random.below(20_000) as usize;
        let at = (from + random.below(90_000)) as usize;
        let data: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        new[at..at + len].copy_from_slice(&data);
        (at as u64, data)
    };
    let mut done = Ok(());
    for from in [300_000, 900_000, 300_000] {
        let (at, data) = place(random, from);
        done = done.and_then(|()| disk.write_fresh(at, &data));
    }
    let edits = Edits([0, 150_000, 420_000, 800_000].map(|from| place(random, from)).into());
    done = done.and_then(|()| disk.commit(&edits));
    (new, done)
}

/// What a disk holds after a cut: everything before the last flush, of the rest each 512-byte sector or not.
pub(crate) fn after_cut(bytes: &[u8], calls: &[Call], random: &mut Random) -> Vec<u8> {
    let mut disk = bytes.to_vec();
    let flushed = calls.iter().rposition(|call| matches!(call, Call::Flush)).map_or(0, |at| at + 1);
    let tenths = [0, 1, 5, 9, 10][random.below(5) as usize];
    for (number, call) in calls.iter().enumerate() {
        match call {
            Call::Write(offset, data) if number >= flushed => {
                for (sector, part) in data.chunks(512).enumerate() {
                    if random.below(10) < tenths {
                        apply(&mut disk, &Call::Write(offset + sector as u64 * 512, part.to_vec()));
                    }
                }
            }
            _ if number >= flushed && random.below(10) >= tenths => {}
            call => apply(&mut disk, call),
        }
    }
    disk
}

#[test]
fn power_cuts_leave_the_old_or_the_new_state() {
    for (seed, (convert, then)) in SHAPES.iter().enumerate() {
        let (dir, path) = image(convert, then);
        let mut random = Random(77 + seed as u64);
        let before = std::fs::read(path).unwrap();
        let recorder = Recorder::new(before.clone());
        let disk = recorder.disk().unwrap();
        let mut states = vec![everything(&disk).unwrap()];
        let mut ends = vec![0];
        for _ in 0..2 {
            let (new, done) = edit(&disk, &mut random, &states[states.len() - 1]);
            done.unwrap();
            states.push(new);
            ends.push(recorder.inner().calls.len());
        }
        assert!(everything(&disk).unwrap() == states[2]);
        let calls = recorder.inner().calls.clone();
        let (mut old, mut new) = (0, 0);
        // Between the switch and its flush more than once: there is one such moment in a commit.
        let tries = |cut: usize| {
            let switched = cut > 0 && matches!(calls.get(cut - 1), Some(Call::Write(0, _)));
            std::iter::repeat_n(cut, if switched { 8 } else { 1 })
        };
        for cut in (0..=calls.len()).flat_map(tries) {
            let what = format!("{convert}: cut at {cut} of {}", calls.len());
            let bytes = after_cut(&before, &calls[..cut], &mut random);
            check(dir.path(), &bytes, &what);
            let found = everything(&Recorder::new(bytes).disk().unwrap()).unwrap();
            let round = ends.iter().rposition(|end| *end <= cut).unwrap();
            if found == states[round] {
                old += 1;
            } else {
                assert!(round < 2 && found == states[round + 1], "{what}: neither old nor new");
                new += 1;
            }
        }
        assert!(old > 10 && new > 0, "{convert}: both sides of the switch were seen: {old} {new}");
    }
}

#[test]
fn a_failing_host_leaves_the_old_state() {
    for (convert, then) in SHAPES {
        let (dir, path) = image(convert, then);
        let before = std::fs::read(path).unwrap();
        let old = everything(&Recorder::new(before.clone()).disk().unwrap()).unwrap();
        for fails in 0.. {
            let what = format!("{convert}: call {fails} fails");
            let recorder = Recorder::new(before.clone());
            recorder.inner().fails = Some(fails);
            let disk = recorder.disk().unwrap();
            let (new, done) = edit(&disk, &mut Random(5), &old);
            let calls = recorder.inner().calls.clone();
            let Err(error) = done else {
                assert!(everything(&disk).unwrap() == new, "{what}");
                let punched = matches!(calls.get(fails), None | Some(Call::Punch(..) | Call::Length(_)));
                assert!(punched, "{what}: not even noticed");
                check(dir.path(), &recorder.inner().bytes, &what);
                if fails >= calls.len() {
                    break;
                }
                continue;
            };
            check(dir.path(), &recorder.inner().bytes, &what);
            let bytes = recorder.inner().bytes.clone();
            let on_disk = everything(&Recorder::new(bytes).disk().unwrap()).unwrap();
            let header = calls.iter().position(|call| matches!(call, Call::Write(0, _)));
            if header.is_some_and(|header| header <= fails) {
                assert!(error.hint_text().unwrap().contains("old or in the new state"), "{what}: {error}");
                assert!(on_disk == old || on_disk == new, "{what}");
                disk.abandon().unwrap();
                assert!(disk.write_fresh(0, b"x").is_err(), "{what}: goes on writing");
            } else {
                assert!(on_disk == old, "{what}");
                disk.abandon().unwrap();
                assert_eq!(recorder.inner().bytes.len(), before.len(), "{what}: length");
                let (new, done) = edit(&disk, &mut Random(6), &old);
                done.unwrap();
                assert!(everything(&disk).unwrap() == new, "{what}: second try");
                check(dir.path(), &recorder.inner().bytes, &what);
            }
        }
    }
}

#[test]
fn a_commit_that_failed_can_be_tried_again() {
    for (convert, then) in SHAPES {
        let (dir, path) = image(convert, then);
        let before = std::fs::read(path).unwrap();
        let (mut again, mut lost) = (0, 0);
        for fails in 0.. {
            let what = format!("{convert}: call {fails} of the commit fails");
            let recorder = Recorder::new(before.clone());
            let disk = recorder.disk().unwrap();
            disk.write_fresh(300_000, &[7; 60_000]).unwrap();
            let fresh = everything(&disk).unwrap();
            // Over fresh data, beside it in the same cluster, and somewhere else.
            let changes = [(310_000, vec![1; 5000]), (360_100, vec![2; 100]), (700_000, vec![3; 30_000])];
            let mut new = fresh.clone();
            changes.iter().for_each(|(at, data)| new[*at as usize..][..data.len()].copy_from_slice(data));
            let edits = Edits(changes.into());
            let begin = recorder.calls().len();
            recorder.inner().fails = Some(begin + fails);
            let Err(_) = disk.commit(&edits) else { break };
            let call = recorder.calls()[begin + fails].clone();
            if matches!(call, Call::Write(0, _)) {
                break;
            }
            if matches!(call, Call::Flush) {
                lost += 1;
                let error = disk.commit(&edits).unwrap_err();
                assert!(error.hint_text().unwrap().contains("may be lost"), "{what}: {error}");
            } else {
                again += 1;
                assert!(everything(&disk).unwrap() == fresh, "{what}: fresh data is another");
                disk.commit(&edits).unwrap();
                assert!(everything(&disk).unwrap() == new, "{what}");
                let bytes = recorder.inner().bytes.clone();
                check(dir.path(), &bytes, &what);
                assert!(everything(&Recorder::new(bytes).disk().unwrap()).unwrap() == new, "{what}: on disk");
            }
        }
        assert!(again > 2 && lost == 1, "{convert}: {again} {lost}");
    }
}

#[test]
fn a_commit_writes_little() {
    let (_dir, path) = image("-o cluster_size=64k", &[]);
    let recorder = Recorder::new(std::fs::read(path).unwrap());
    let disk = recorder.disk().unwrap();
    disk.commit(&Edits(vec![(5000, vec![1; 4096])])).unwrap();
    let calls = recorder.inner().calls.clone();
    let written: usize = calls.iter().map(|call| if let Call::Write(_, data) = call { data.len() } else { 0 }).sum();
    let flushes = calls.iter().filter(|call| matches!(call, Call::Flush)).count();
    assert_eq!((written, flushes), (5 * 65_536 + 512, 2), "data, L2, L1, refcount block and table; header");
    let before = calls.len();
    disk.commit(&Edits(Vec::new())).unwrap();
    assert_eq!(recorder.inner().calls.len(), before, "nothing changed, nothing written");
}
