//! Faults that last: something is decided again and again, within bounds that have reasons.
//!
//! Many more runs: `cargo run --release -p omnipaxos_tests --bin sim -- --lasting --seeds 0..2000`.

use omnipaxos_tests::{
    cluster::Trace,
    lasting::{run, Kind, Lasting, Pattern, Reads},
};

fn passes(lasting: &Lasting) {
    let report = run(lasting, Trace::Off);
    if let Some(failure) = report.failure {
        panic!(
            "{:?}, seed {}, {:?}, tick {}: {}\n{}\nreplay: sim --lasting --seed {}",
            lasting.kind,
            lasting.seed,
            lasting.reads,
            failure.at,
            failure.violation,
            failure.servers,
            lasting.seed
        );
    }
    assert!(report.measured.decided > 0);
}

fn some_of(kind: Kind) {
    (0..12).for_each(|seed| passes(&Lasting::of_kind(seed, kind)));
}

/// Some runs were found when the keeper read one by one, others when it did so in each tick.
fn passes_either_way(lasting: Lasting) {
    for reads in [Reads::OneByOne, Reads::EachTick] {
        passes(&Lasting { reads, ..lasting.clone() });
    }
}

/// Runs that have found something, as `sim --lasting` draws them.
///
/// Since servers at which nothing moves vary their rounds, most of these runs pass without the other mends, too.
/// Tests beside the code find the lack of each of those: see `tests/planted/README.md`.
#[test]
fn runs_that_found_something() {
    // Clients whose proposals were lost with their leader made no others.
    passes_either_way(Lasting::of(20_270_006_839));
    // The keeper's rounds were shorter than the answers took, and one without an answer refused its reads.
    passes_either_way(Lasting::of(3_077_385_174));
    // Its link to the leader was open for a heartbeat and the answer, and not for forwards after them.
    passes_either_way(Lasting::of(970_002_469));
    // Its link to the leader was open for the heartbeats that begin a round, but not for requests after them.
    passes_either_way(Lasting::of(990_000_962));
    // A peer that it needs as a relay was out of reach now and then, and had to prove itself again each time.
    passes_either_way(Lasting::of(993_001_838));
    // A link of the leader was open for heartbeats, but never when the leader repeated a check of its leadership.
    passes_either_way(Lasting::of_kind(707, Kind::Windows));
    // A relay passed requests on when they came, and the leader's link back to it was closed each time.
    passes_either_way(Lasting::of(998_002_610));
    // The leader answered two peers of the keeper in two of three rounds each, and none counted as a relay.
    passes_either_way(Lasting::of(1_072_000_057));
    // The link from the leader to the keeper was open for answers to heartbeats only, never when the leader
    // repeated an AcceptSync.
    passes_either_way(Lasting::of(1_075_004_414));
    // A relay passed answers back when they came, and its link to the keeper was closed each time.
    passes_either_way(Lasting::of(1_095_000_841));
    passes_either_way(Lasting::of(1_095_010_861));
    passes_either_way(Lasting::of_kind(3_001_816, Kind::Flaps));
    // The keeper requested reads all the time, and only the last one was asked for again.
    passes_either_way(Lasting::of_kind(1869, Kind::Flaps));
    // The same behind a relay. Its leader confirmed nothing in the tick in which the first one was repeated.
    passes_either_way(Lasting::of(1_120_014_758));
    // A follower lacked many decided entries. Its link to the leader was open in every second round, but never when
    // it was redirected to a source.
    passes_either_way(Lasting::of(1_180_003_238));
    // A leader was unhappy in every second round, and said so with a second request. Only that one reached a
    // follower, and no Prepare left with it.
    passes_either_way(Lasting::of_kind(5_000_104, Kind::Windows));
    // Two leaders took over in turns. The keeper lost each of its requests to them, but not its replies.
    passes_either_way(Lasting::of(1_095_008_882));
    // Two servers had a quorum for a round or two, and took over in turns before they had decided anything.
    passes_either_way(Lasting::of(1_180_012_334));
    // The keeper's relay was answered by the leader in one round of two. Rounds of a fixed length do not pass.
    passes_either_way(Lasting::of(1_410_006_866));
    // A second heartbeat request would hide from the election that the first one is lost each round, and with
    // it the proposals that a relay passes on.
    passes_either_way(Lasting::of_kind(1698, Kind::Flaps));
    passes_either_way(Lasting::of_kind(2_010_467, Kind::Flaps));
    // The clock of the leader stood still. It reached a minority, which stayed happy with it.
    passes_either_way(Lasting::of_kind(2, Kind::StoppedClocks));
    // The clock of the keeper's relay stood still, and it passed no proposals on.
    passes_either_way(Lasting::of_kind(1_701_700_193, Kind::StoppedClocks));
}

/// One leader is elected, in the first ballot, and stays.
#[test]
fn a_calm_cluster_uses_one_ballot() {
    for kind in [Kind::Calm, Kind::LateStart] {
        for seed in 0..40 {
            let lasting = Lasting::of_kind(seed, kind);
            passes(&lasting);
            let measured = run(&lasting, Trace::Off).measured;
            assert_eq!(measured.ballots, 1, "{kind:?}, seed {seed}: {measured:?}");
        }
    }
}

#[test]
fn decides_while_links_flap() {
    some_of(Kind::Flaps);
    some_of(Kind::Windows);
}

#[test]
fn decides_while_links_are_cut_in_one_direction() {
    some_of(Kind::OneWay);
}

#[test]
fn decides_while_clocks_are_thirty_times_apart() {
    some_of(Kind::Skew);
}

#[test]
fn decides_while_clocks_stand_still() {
    some_of(Kind::StoppedClocks);
}

#[test]
fn decides_while_whoever_leads_is_cut_off() {
    some_of(Kind::Adversary);
}

#[test]
fn decides_while_others_restart() {
    some_of(Kind::Restarts);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..12 {
        let lines = || match run(&Lasting::of(seed), Trace::Kept(Vec::new())).trace {
            Trace::Kept(lines) => lines,
            other => panic!("the trace was not kept but is {other:?}"),
        };
        assert!(lines() == lines(), "two runs of seed {seed} differ");
    }
}

/// A negative control: with no quorum nothing is decided, and the bound is exceeded.
#[test]
fn a_cluster_without_a_quorum_is_found_out() {
    let mut lasting = Lasting::of_kind(1, Kind::Calm);
    lasting.links.fill(Pattern::CUT);
    let failure = run(&lasting, Trace::Off).failure.expect("nothing can be decided");
    let what = &failure.violation.what;
    assert!(what.starts_with("no proposal of the keeper"), "{what}");
}
