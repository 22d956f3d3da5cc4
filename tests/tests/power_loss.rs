//! The persistent storage under loss of power, `kill -9` and flipped bits.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos_tests::power_loss::{
    open, read_record, storage_below, verify, Acknowledged, Controls, Folders, Loss, Plan,
    Recorder, Replay, Verdict,
};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_storage_workload");

/// Numbers from a seed.
fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below.max(1)
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

struct Outcome {
    good: u32,
    bad: Vec<String>,
}

impl Outcome {
    /// Asserts that a storage with this fault has lost something in at least so many states.
    fn assert_lost(&self, fault: &str, least: usize) {
        let (bad, good) = (self.bad.len(), self.good);
        println!("{fault}: {bad} bad, {good} good");
        assert!(bad >= least, "{fault}: {bad} bad, {good} good");
    }
}

/// Records what a process does that writes `count` batches after `from`.
fn record(
    recorder: &Recorder,
    root: &Path,
    log: &Path,
    [seed, from, count]: [u64; 3],
    pause_us: u64,
) -> Replay {
    let _ = fs::remove_file(log);
    // A sync of its own name would not be recorded.
    fs::create_dir_all(root).unwrap();
    let mut command = Command::new(WORKLOAD);
    command.arg(root).args([seed, from, count].map(|number| number.to_string()));
    command.env("SHIM_PAUSE_US", pause_us.to_string());
    recorder.watch(&mut command, root, log);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_record(log).unwrap()
}

/// Seeds beyond those below, for a longer search: `POWER_LOSS_SEEDS=1000..1200`.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("POWER_LOSS_SEEDS").unwrap_or_else(|_| "1..10".to_string());
    let (first, end) = asked.split_once("..").expect("a range of seeds");
    first.parse().unwrap()..end.parse().unwrap()
}

/// Records several incarnations of a storage, each begun from what a loss of power left of the one
/// before, and verifies `states` states of the disk in each.
fn lose_power(seed: u64, rounds: u64, states: usize, controls: Controls) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recorder = Recorder::build(folder.path()).unwrap();
    let (base, root, target, log) = (at("base"), at("root"), at("target"), at("record"));
    let mut outcome = Outcome { good: 0, bad: Vec::new() };
    let mut random = chance(seed);
    let mut written = 0;
    for round in 0..rounds {
        let _ = fs::remove_dir_all(&root);
        if base.exists() {
            copy(&base, &root);
        }
        let replay = record(&recorder, &root, &log, [seed, written, 60], random(4) * 1000);
        assert!(replay.len() > 100, "{} events", replay.len());
        let mut last_good = None;
        let before = Plan::after(seed, written).all();
        for state in 0..states {
            let moment = random(replay.len() as u64 + 1) as usize;
            let loss = [Loss::Nothing, Loss::Everything, Loss::Some, Loss::Some][state % 4];
            let folders = Folders { base: &base, root: &root, target: &target };
            let acknowledged = replay.build(moment, loss, controls, &mut random, folders).unwrap();
            let acknowledged = if acknowledged.batches > written { acknowledged } else { before };
            match verify(&target, seed, acknowledged) {
                Verdict::Holds(batches) => {
                    outcome.good += 1;
                    last_good = Some((state, batches));
                    copy(&target, &at("good"));
                }
                Verdict::Bad(problem) => outcome.bad.push(format!(
                    "seed {seed}, round {round}, moment {moment} of {}, {loss:?} lost, \
                     {acknowledged:?}: {problem}",
                    replay.len()
                )),
            }
        }
        let Some((_, batches)) = last_good else {
            return outcome;
        };
        written = batches;
        copy(&at("good"), &base);
    }
    outcome
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let mut good = 0;
    for seed in seeds() {
        let outcome = lose_power(seed, 3, 20, Controls::default());
        assert!(outcome.bad.is_empty(), "{}", outcome.bad.join("\n"));
        good += outcome.good;
    }
    println!("{good} states after a loss of power, none bad");
    assert!(good as u64 >= 55 * (seeds().end - seeds().start));
}

/// Kills a process, lets another one open what it left and go on, and then loses power. What the killed one
/// had not synced is there for the next one, which may tell others of it.
fn lose_power_after_a_kill(seed: u64, kills: u64, states: usize, controls: Controls) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recorder = Recorder::build(folder.path()).unwrap();
    let (base, root, target, log) = (at("no base"), at("root"), at("target"), at("record"));
    let folders = Folders { base: &base, root: &root, target: &target };
    let mut random = chance(seed);
    let first = record(&recorder, &root, &log, [seed, 0, 60], random(4) * 1000);
    assert_eq!(first.folders_without_sync(), BTreeSet::new(), "seed {seed}");
    let before_syncs = first.moments_before_syncs();
    let mut outcome = Outcome { good: 0, bad: Vec::new() };
    for kill in 0..kills {
        let killed_at = match kill % 2 {
            0 => random(first.len() as u64 + 1) as usize,
            _ => before_syncs[random(before_syncs.len() as u64) as usize],
        };
        let no_controls = Controls::default();
        let acknowledged =
            first.build(killed_at, Loss::Nothing, no_controls, &mut random, folders).unwrap();
        copy(&target, &root);
        let Verdict::Holds(batches) = verify(&target, seed, acknowledged) else {
            panic!("seed {seed}: killed at {killed_at}, it lacks {acknowledged:?}");
        };
        let database = storage_below(&root).join("database");
        let has_database = database.exists();
        let next = record(&recorder, &root, &log, [seed, batches, 5], random(4) * 1000);
        let both = first.killed_at(killed_at, next);
        let opening = both.opening();
        // Only what is durable may say which segments are not needed.
        assert!(
            !has_database || both.opening_syncs_first(&database),
            "seed {seed}, killed at {killed_at}: the opening does not sync the database first"
        );
        for state in 0..states {
            // Few events are near the opening, and most of what can go wrong.
            let end = if state % 3 == 0 { both.len() } else { opening.end + 6 };
            let moment = killed_at + random((end - killed_at) as u64 + 1) as usize;
            let loss = [Loss::Everything, Loss::Some][state % 2];
            let acknowledged = both.build(moment, loss, controls, &mut random, folders).unwrap();
            match verify(&target, seed, acknowledged) {
                Verdict::Holds(_) => outcome.good += 1,
                Verdict::Bad(problem) => outcome.bad.push(format!(
                    "seed {seed}, killed at {killed_at}, moment {moment} of {} (opened at {}), \
                     {loss:?} lost, {acknowledged:?}: {problem}",
                    both.len(),
                    opening.end
                )),
            }
        }
    }
    outcome
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power_after_a_kill() {
    let mut good = 0;
    let seeds: Vec<u64> = seeds().step_by(4).collect();
    for seed in &seeds {
        let outcome = lose_power_after_a_kill(*seed, 6, 10, Controls::default());
        assert!(outcome.bad.is_empty(), "{}", outcome.bad.join("\n"));
        good += outcome.good;
    }
    println!("{good} states after a kill and a loss of power, none bad");
    assert_eq!(good as usize, 60 * seeds.len());
}

#[test]
fn without_syncs_of_an_opening_something_is_lost() {
    let controls = Controls { skip_opening_syncs: true, ..Controls::default() };
    let outcome = lose_power_after_a_kill(1, 8, 12, controls);
    outcome.assert_lost("without syncs of an opening", 10);
}

#[test]
fn without_syncs_of_the_log_something_is_lost() {
    let controls = Controls { skip_log_syncs: true, ..Controls::default() };
    let outcome = lose_power(1, 1, 60, controls);
    outcome.assert_lost("without syncs of the log", 30);
}

#[test]
fn without_syncs_of_folders_something_is_lost() {
    let controls = Controls { skip_folder_syncs: true, ..Controls::default() };
    let outcome = lose_power(1, 1, 60, controls);
    outcome.assert_lost("without syncs of folders", 20);
}

#[test]
fn without_syncs_of_snapshots_something_is_lost() {
    let controls = Controls { skip_snapshot_syncs: true, ..Controls::default() };
    let outcome = lose_power(1, 1, 30, controls);
    outcome.assert_lost("without syncs of snapshots", 3);
}

#[test]
fn where_entries_are_removed_too_early_something_is_lost() {
    let controls = Controls { remove_segments_early: true, ..Controls::default() };
    // Only a few moments show it, and which ones are recorded depends on time: a batch frees files only after
    // the thread that writes a snapshot has ended. No seed decides when that thread runs beside the batches,
    // so a single recording may have no such moment.
    let mut states = 0;
    for seed in 1..=12 {
        let outcome = lose_power(seed, 1, 60, controls);
        states += outcome.bad.len() + outcome.good as usize;
        if !outcome.bad.is_empty() {
            println!("removed too early: {} bad of {states}", outcome.bad.len());
            return;
        }
    }
    panic!("none of {states} states is bad");
}

#[test]
fn a_batch_takes_one_sync_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::build(folder.path()).unwrap();
    let (root, log) = (folder.path().join("root"), folder.path().join("record"));
    let mut command = Command::new(WORKLOAD);
    command.arg(&root).args(["11", "0", "300"]);
    recorder.watch(&mut command, &root, &log);
    assert!(command.output().unwrap().status.success());
    let syncs = read_record(&log).unwrap().log_syncs();
    assert_eq!(syncs.len(), 301);
    // The first count is that of the opening.
    let batches = syncs.get(1..).unwrap();
    let journal: usize = batches.iter().map(|batch| batch.journal).sum();
    let log: usize = batches.iter().map(|batch| batch.log).sum();
    let segments: usize = batches.iter().map(|batch| batch.segments_begun).sum();
    println!(
        "{journal} syncs of the journal for {} batches; {log} of the log, of which {segments} \
         segments were begun",
        batches.len()
    );
    // The thread syncs a segment that is complete, and the log for a checkpoint, perhaps some batches later.
    let (mut segments_begun, mut changes) = (0, 0);
    for (number, batch) in batches.iter().enumerate() {
        // An incarnation and an identity are in the database, and each leaves a trace in the journal.
        let noted = if Plan::notes_incarnation_after(number as u64 + 1) { 2 } else { 0 };
        changes += noted;
        // The thread may enlarge a file of the journal.
        assert!((1..=2).contains(&(batch.journal - noted)), "batch {number}: {batch:?}");
        segments_begun += batch.segments_begun;
        let synced: usize = batches.iter().take(number + 1).map(|batch| batch.log).sum();
        let most = 2 * segments_begun + changes + 3;
        assert!(synced <= most, "batch {number}: {synced} syncs of the log");
    }
    assert_eq!(changes, 30);
    assert!(journal <= batches.len() + changes + 3, "{journal} syncs of the journal");
}

#[test]
fn nothing_acknowledged_is_lost_with_the_process() {
    let mut random = chance(7);
    let mut kills = 0;
    for seed in 100..110 {
        let folder = tempfile::tempdir().unwrap();
        let mut written = 0;
        for _ in 0..20 {
            let mut child = Command::new(WORKLOAD)
                .arg(folder.path())
                .args([seed, written, 1000].map(|number| number.to_string()))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let stop_after = random(12);
            let mut acknowledged = Plan::after(seed, written).all();
            for line in BufReader::new(child.stdout.take().unwrap()).lines() {
                let line = line.unwrap();
                let printed = Acknowledged::read(&line).unwrap();
                // What was there when the process began.
                assert!(printed.batches > written || printed == acknowledged, "{printed:?}");
                acknowledged = printed;
                if acknowledged.batches >= written + stop_after {
                    child.kill().unwrap();
                }
            }
            let status = child.wait().unwrap();
            assert_eq!(status.signal(), Some(9), "seed {seed}: it has ended by itself: {status}");
            kills += 1;
            match verify(folder.path(), seed, acknowledged) {
                Verdict::Holds(batches) => written = batches,
                Verdict::Bad(problem) => panic!("seed {seed}: {problem}"),
            }
        }
    }
    println!("{kills} processes killed");
    assert_eq!(kills, 200);
}

/// A disk that fails a write or a sync with EIO: the writer gets the error, writes nothing more, and
/// what was acknowledged is there when the storage is opened again.
#[test]
fn a_failing_disk_is_reported_and_nothing_acknowledged_is_lost() {
    let tools = tempfile::tempdir().unwrap();
    let recorder = Recorder::build(tools.path()).unwrap();
    let mut failures = 0;
    // The second sync is that of a new file of the journal. Later the thread enlarges files at any time, with
    // syncs of their sizes, too. Each other sync is one of data.
    let room: (&str, &str, &[u32]) = ("SHIM_FAIL_SYNC", "make room in", &[2]);
    let sync: (&str, &str, &[u32]) = ("SHIM_FAIL_DATA_SYNC", "sync", &[2, 5, 11, 23, 40]);
    let write: (&str, &str, &[u32]) = ("SHIM_FAIL_WRITE", "append to", &[2, 5, 11, 23, 40]);
    for (kind, says, numbers) in [room, sync, write] {
        for number in numbers {
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new(WORKLOAD);
            command.arg(folder.path()).args([9u64, 0, 60].map(|number| number.to_string()));
            recorder.watch(&mut command, folder.path(), &tools.path().join("record"));
            let output = command.env(kind, number.to_string()).output().unwrap();
            let (stdout, error) = (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            );
            assert_eq!(output.status.code(), Some(1), "{kind}={number}: {error}");
            assert!(error.contains(says), "{kind}={number}: {error}");
            let last = stdout.lines().last().unwrap_or("ACK 0 0");
            let acknowledged = Acknowledged::read(last).unwrap();
            let verdict = verify(folder.path(), 9, acknowledged);
            assert!(matches!(verdict, Verdict::Holds(_)), "{kind}={number}: {verdict:?}");
            failures += 1;
        }
    }
    assert_eq!(failures, 11);
}

/// The disk fails while a killed storage is opened again: the opening returns the error, and the next one
/// finds what was acknowledged.
#[test]
fn a_disk_that_fails_while_a_storage_is_opened_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recorder = Recorder::build(folder.path()).unwrap();
    let mut random = chance(11);
    let mut failures = 0;
    for seed in [3u64, 4, 9] {
        let _ = fs::remove_dir_all(at("root"));
        let _ = fs::remove_file(at("record"));
        let mut command = Command::new(WORKLOAD);
        command.arg(at("root")).args([seed, 0, 60].map(|number| number.to_string()));
        recorder.watch(&mut command, &at("root"), &at("record"));
        assert!(command.output().unwrap().status.success());
        let replay = read_record(&at("record")).unwrap();
        for _ in 0..8 {
            let moment = random(replay.len() as u64 + 1) as usize;
            let (base, root, target) = (at("no base"), at("root"), at("killed"));
            let folders = Folders { base: &base, root: &root, target: &target };
            let (loss, controls) = (Loss::Nothing, Controls::default());
            let killed = replay.build(moment, loss, controls, &mut random, folders).unwrap();
            copy(&target, &at("opened"));
            let Verdict::Holds(held) = verify(&at("opened"), seed, killed) else {
                panic!("{seed}, {moment}: without a failure it lacks {killed:?}");
            };
            for number in [1, 2, 3, 6, 12] {
                copy(&target, &at("opened"));
                let mut command = Command::new(WORKLOAD);
                let arguments = [seed, held, 0].map(|number| number.to_string());
                command.arg(at("opened")).args(arguments);
                recorder.watch(&mut command, &at("opened"), &at("opening"));
                let output = command.env("SHIM_FAIL_WRITE", number.to_string()).output().unwrap();
                let error = String::from_utf8_lossy(&output.stderr);
                failures += u32::from(error.contains("append to"));
                assert_eq!(output.status.success(), error.is_empty(), "{error}");
                let stdout = String::from_utf8_lossy(&output.stdout);
                let told = stdout.lines().last().and_then(Acknowledged::read).unwrap_or(killed);
                let verdict = verify(&at("opened"), seed, told);
                assert!(matches!(verdict, Verdict::Holds(_)), "{seed}, {moment}: {verdict:?}");
            }
        }
    }
    println!("{failures} openings failed");
    assert!(failures > 20, "{failures} openings failed");
}

/// A read of the database fails while a killed storage is opened again: the opening returns the error, and
/// the next one finds what was acknowledged. The database would take it for the end of its file.
#[test]
fn a_database_that_cannot_be_read_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recorder = Recorder::build(folder.path()).unwrap();
    for (seed, openings) in [(3u64, 1), (4, 2), (9, 3)] {
        let _ = fs::remove_dir_all(at("root"));
        for opening in 0..openings {
            let mut command = Command::new(WORKLOAD);
            let written = [seed, opening * 20, 20].map(|number| number.to_string());
            assert!(command.arg(at("root")).args(written).output().unwrap().status.success());
        }
        let held = Acknowledged { batches: openings * 20, ..Acknowledged::default() };
        for number in 1..=4 {
            let _ = fs::remove_dir_all(at("opened"));
            copy(&at("root"), &at("opened"));
            let mut command = Command::new(WORKLOAD);
            let arguments = [seed, openings * 20, 0].map(|number| number.to_string());
            command.arg(at("opened")).args(arguments);
            recorder.watch(&mut command, &at("opened"), &at("opening"));
            let output = command.env("SHIM_FAIL_READ", number.to_string()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("doing: \"read\""), "{seed}, {number}: {error}");
            let verdict = verify(&at("opened"), seed, held);
            assert!(matches!(verdict, Verdict::Holds(_)), "{seed}, {number}: {verdict:?}");
        }
    }
}

/// The disk is full when the thread writes a snapshot: the next call returns the error, and what was
/// acknowledged is there.
#[test]
fn a_full_disk_beneath_a_snapshot_is_reported_and_nothing_acknowledged_is_lost() {
    let tools = tempfile::tempdir().unwrap();
    let recorder = Recorder::build(tools.path()).unwrap();
    for (seed, number) in [(9u64, 1), (9, 3), (10, 1), (10, 4)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(WORKLOAD);
        command.arg(folder.path()).args([seed, 0, 60].map(|number| number.to_string()));
        recorder.watch(&mut command, folder.path(), &tools.path().join("record"));
        let output = command.env("SHIM_FAIL_SNAPSHOT", number.to_string()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{seed}: {error}");
        assert!(error.contains("snapshot.") && error.contains("StorageFull"), "{error}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let last = stdout.lines().last().unwrap_or("ACK 0 0");
        let verdict = verify(folder.path(), seed, Acknowledged::read(last).unwrap());
        assert!(matches!(verdict, Verdict::Holds(_)), "{seed}, {number}: {verdict:?}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// After a clean close, a flipped bit anywhere is reported, or changes nothing.
#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, flipped) = (folder.path().join("whole"), folder.path().join("flipped"));
    let batches = 25;
    let mut plan = Plan::new(3);
    {
        let mut storage = open(&whole).unwrap();
        for _ in 0..batches {
            plan.write_next(&mut storage).unwrap();
        }
    }
    let all = plan.all();
    copy(&whole, &flipped);
    assert_eq!(verify(&flipped, 3, all), Verdict::Holds(batches), "without a flip");
    let mut random = chance(5);
    let (mut reported, mut harmless) = (0, 0);
    for file in files(&whole) {
        let len = fs::metadata(&file).unwrap().len();
        let is_index = file.extension().is_some_and(|extension| extension == "index");
        let tries = if len == 0 || is_index { 2.min(len) } else { 60.min(len) };
        for _ in 0..tries {
            copy(&whole, &flipped);
            let target = flipped.join(file.strip_prefix(&whole).unwrap());
            let mut bytes = fs::read(&target).unwrap();
            let bit = random(len * 8);
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
            fs::write(&target, bytes).unwrap();
            let verdict = std::panic::catch_unwind(|| verify(&flipped, 3, all));
            let what = format!("bit {bit} of {}", file.display());
            match verdict {
                Ok(Verdict::Holds(held)) => {
                    assert_eq!(held, batches, "{what}");
                    harmless += 1;
                }
                Ok(Verdict::Bad(problem)) => {
                    assert!(!problem.contains("it holds neither"), "{what}: wrong data");
                    reported += 1;
                }
                Err(_) => panic!("{what}: a panic"),
            }
        }
    }
    println!("{reported} flips reported, {harmless} harmless");
    assert!(reported > 50);
}
