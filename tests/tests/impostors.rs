//! Impostors, at random: see [`omnipaxos_tests::impostors`].
//!
//! Longer: `IMPOSTOR_SEEDS=0..20000 cargo test --release -p omnipaxos_tests --test impostors`.

use omnipaxos_tests::impostors::{run, Identities};
use std::collections::BTreeMap;

#[test]
fn nothing_decided_is_lost_or_changed() {
    let range = std::env::var("IMPOSTOR_SEEDS").unwrap_or_else(|_| "0..150".into());
    let bounds = range.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (from, to): (u64, u64) = bounds.unwrap_or_else(|| panic!("a range, not {range}"));
    let mut impostors = BTreeMap::new();
    for seed in from..to {
        let report = run(seed, Identities::Kept);
        for (kind, count) in report.impostors {
            *impostors.entry(kind).or_insert(0) += count;
        }
        if let Some(failure) = report.failure {
            panic!("seed {seed}: {failure}");
        }
        assert!(report.decided > 10, "seed {seed}: {} are decided", report.decided);
    }
    println!("{impostors:?}");
    assert_eq!(impostors.len(), 5, "{impostors:?}");
}

#[test]
fn a_quorum_that_counts_anybody_is_found() {
    let failed = (0..150).filter(|seed| {
        let failure = run(*seed, Identities::TakenOff).failure;
        // Not only that no server reports a conflict.
        failure.is_some_and(|what| what.contains("others"))
    });
    let failed: Vec<u64> = failed.collect();
    println!("{failed:?}");
    assert!(failed.len() > 3, "{failed:?}");
}
