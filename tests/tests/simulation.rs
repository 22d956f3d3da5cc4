//! The simulator over a few hundred seeds, and whether it can be trusted.
//!
//! Many more seeds, longer: `cargo run --release -p omnipaxos_tests --bin sim -- --seeds 0..5000`.

use omnipaxos_tests::{
    checker::Check,
    cluster::Trace,
    coverage::Counts,
    disk::Honesty,
    plan::Plan,
    run::{run, Report},
    shrink::shrink,
};

/// Ticks with faults; less than the program's, for a debug build.
const TICKS: u64 = 600;

#[test]
fn a_few_hundred_seeds() {
    let mut counts = Counts::default();
    let few_links = (0..60).map(|seed| (seed, " --few-links"));
    for (seed, mode) in (0..400).map(|seed| (seed, "")).chain(few_links) {
        let mut plan = Plan::of(seed, TICKS);
        if !mode.is_empty() {
            plan.open_few_links();
        }
        let report = run(&plan, Trace::Off);
        counts.merge(&report.counts);
        if let Some(failure) = report.failure {
            let shrunk = shrink(&plan, &failure, 300);
            panic!(
                "seed {seed}, tick {}: {}\n{}\nsmaller: {:#?}\n{:?}\nreplay: sim --seed {seed} \
                 --ticks {TICKS}{mode}",
                failure.at, failure.violation, failure.servers, shrunk.plan.steps, shrunk.failure
            );
        }
    }
    let missing: Vec<&str> = counts.missing().iter().map(|kind| kind.name()).collect();
    assert!(missing.is_empty(), "never occurred: {missing:?}");
}

/// What few links showed: a leader decided what another one had not chosen (511). Servers reported a loss that did
/// not happen, since the leader stood still (924), or since a decided index came from a later leader (314). A
/// copy of a decided entry took over its id, and the entry was decided once more (843).
#[test]
fn what_overtaken_leaders_did() {
    for seed in [314, 511, 843, 924] {
        let mut plan = Plan::of(seed, 2_000);
        plan.open_few_links();
        let report = run(&plan, Trace::Off);
        assert!(report.failure.is_none(), "seed {seed}: {:?}", report.failure);
    }
}

/// The run of this seed failed once.
fn assert_holds(seed: u64) {
    let report = run(&Plan::of(seed, 2_000), Trace::Off);
    assert!(report.failure.is_none(), "seed {seed}: {:?}", report.failure);
}

/// The members repeated the read of an observer for which the leader had no place, until there was one. The check
/// that all fall silent did not know that nothing is promised on when.
#[test]
fn an_observer_without_a_place_reads_late() {
    assert_holds(1_702_003_617);
}

/// An observer lacked what its sources had trimmed, so its read was repeated forever, by way of a member. The check
/// that all fall silent took the answers to that member for work of the members.
#[test]
fn a_read_that_an_observer_repeats_by_way_of_a_member() {
    assert_holds(230_019_791);
}

/// A source that kept more requests of a server than before answered all of them in one output.
#[test]
fn a_source_that_is_asked_for_many_ranges() {
    assert_holds(1_705_010_142);
}

/// Pieces of a snapshot were asked for byte by byte, where less may be in flight than fits into a message.
#[test]
fn a_snapshot_in_pieces_of_a_byte() {
    assert_holds(942_000_103);
}

/// The only source of a snapshot had to write once more until the snapshot was durable, and had nothing to write.
#[test]
fn a_snapshot_that_waits_for_the_last_write() {
    assert_holds(996_201_018);
}

/// Proposals of an observer were decided while the applications handed over their last states.
#[test]
fn states_that_are_taken_while_more_is_decided() {
    assert_holds(1_062_269_888);
}

/// The follower had acknowledged an entry before its leader stored it. The leader stored it with `flush`, had
/// nothing to write in the next output, and did not decide it. Since servers vary their rounds, this run does not
/// come there. A row of the unit test `early_messages` does.
#[test]
fn a_leader_that_flushes_what_was_acknowledged_before() {
    assert_holds(2_646_943_700);
}

/// An observer lacked entries that its source had trimmed, so its own proposals never ended and filled its queue.
/// It dropped those of an observer behind it, which had another source and did not change to it.
#[test]
fn an_observer_that_lacks_trimmed_entries_is_no_source() {
    assert_holds(972_606_737);
}

#[test]
fn a_seed_gives_the_same_run_to_the_byte() {
    for seed in 0..30 {
        let trace = || match run(&Plan::of(seed, TICKS), Trace::Kept(Vec::new())).trace {
            Trace::Kept(lines) => lines.join("\n"),
            other => panic!("the trace was not kept but is {other:?}"),
        };
        let (first, second) = (trace(), trace());
        assert!(!first.is_empty());
        assert!(first == second, "two runs of seed {seed} differ");
    }
}

#[test]
fn tracing_changes_nothing() {
    for seed in 0..10 {
        let traced = run(&Plan::of(seed, TICKS), Trace::Kept(Vec::new()));
        let plain = run(&Plan::of(seed, TICKS), Trace::Off);
        let of = |report: &Report| (report.decided, report.traffic, report.ticks, report.ended);
        assert_eq!(of(&traced), of(&plain), "seed {seed}");
    }
}

/// A negative control: where disks lie, promises are broken, and the checker must see it.
#[test]
fn lying_disks_are_found_out() {
    let mut checks = Vec::new();
    for seed in 0..100 {
        let mut plan = Plan::of(seed, TICKS);
        plan.setting.honesty = Honesty::SkipsFlushes;
        checks.extend(run(&plan, Trace::Off).failure.map(|failure| failure.violation.check));
    }
    assert!(checks.len() > 50, "only {} of 100 seeds found lying disks out", checks.len());
    assert!(checks.contains(&Check::StoredFirst), "{checks:?}");
}

#[test]
fn shrinking_keeps_the_failure_and_drops_steps() {
    let mut plan = Plan::of(7, TICKS);
    plan.setting.honesty = Honesty::SkipsFlushes;
    let failure = run(&plan, Trace::Off).failure.expect("a disk that lies is found out");
    let shrunk = shrink(&plan, &failure, 200);
    assert_eq!(shrunk.failure.violation.check, failure.violation.check);
    assert!(shrunk.plan.steps.len() < plan.steps.len());
    let again = run(&shrunk.plan, Trace::Off).failure;
    assert_eq!(again, Some(shrunk.failure), "what was shrunk fails again, in the same way");
}
