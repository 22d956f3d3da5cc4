//! The simulator of one log that continues, over a hundred seeds.
//!
//! Many more seeds: `cargo run --release -p omnipaxos_tests --bin sim -- --changes --ticks 600 --seeds 0..20000`.

use omnipaxos_tests::changes::{run, Changes};

const TICKS: u64 = 600;

fn check(seed: u64) -> String {
    let report = run(Changes { seed, ticks: TICKS }, false);
    assert!(
        report.failure.is_none(),
        "seed {seed}: {:?}\nreplay: sim --changes --seed {seed} --ticks {TICKS}",
        report.failure
    );
    report.counts.to_string()
}

#[test]
fn a_hundred_seeds() {
    (0..100).for_each(|seed| drop(check(seed)));
}

#[test]
fn a_seed_gives_the_same_run() {
    (0..10).for_each(|seed| assert_eq!(check(seed), check(seed), "seed {seed}"));
}

/// A read that a leader of an epoch before had confirmed was answered where a snapshot of a later epoch
/// stood for the stop sign (6071). A server that was removed, and had only asked for the log, was not notified
/// again (14231, 18533). A server that a snapshot had brought into a later epoch was promised in the present one,
/// and appended entries (970094855). A torn write left entries that a joining server took into its first epoch,
/// beyond the decided ones (1062270475). A server that had caught up with a new epoch took a leader there that had
/// been overtaken for one that had lost entries (1672502342). Servers that joined an empty log did not learn its members,
/// and nothing that they proposed was ever decided (1500074493).
#[test]
fn seeds_that_found_bugs() {
    [6071, 14231, 18533, 970_094_855, 1_062_270_475, 1_672_502_342, 1_500_074_493]
        .into_iter()
        .for_each(|seed| drop(check(seed)));
}
