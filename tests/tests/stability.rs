//! Who leads, and how often that changes.

use omnipaxos_tests::scheduled::{Fate, Scheduled, Start};

/// Calm starts: every server sees one leader, and reports one.
fn check_start(starts: &[Start], delay: u64, priorities: &[u32], best: u64) {
    let priority = |pid: u64| priorities[pid as usize - 1];
    let mut cluster = Scheduled::new(
        starts,
        None,
        |config| config.leader_priority = priority(config.pid),
        |_, _| Fate::Arrives(delay),
    );
    cluster.run(100);
    for seen in [cluster.leaders(), cluster.reported_leaders()] {
        for (at, seen) in seen.iter().enumerate() {
            assert_eq!(
                *seen,
                [best],
                "seen by {}; {starts:?}, delay {delay}, priorities {priorities:?}",
                at + 1
            );
        }
    }
    assert_eq!(cluster.highest_ballot(), 1, "{starts:?}, delay {delay}");
}

#[test]
fn one_server_leads_when_all_start_together() {
    for n in 2..=7 {
        for delay in [1, 3] {
            check_start(&vec![Start::default(); n], delay, &vec![0; n], n as u64);
            for first in 1..=n as u64 {
                let priorities: Vec<u32> =
                    (1..=n as u64).map(|pid| u32::from(pid == first)).collect();
                check_start(&vec![Start::default(); n], delay, &priorities, first);
            }
        }
    }
}

/// The clocks of the servers begin at different ticks of a heartbeat round.
#[test]
fn one_server_leads_when_rounds_have_phases() {
    for n in 2..=7 {
        for delay in [1, 3] {
            for pattern in 0..40_u64 {
                let mut random = pattern * 7919 + n as u64;
                let starts: Vec<Start> = (0..n)
                    .map(|_| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        Start { built_at: 0, ticks_from: (random >> 33) % 10 }
                    })
                    .collect();
                check_start(&starts, delay, &vec![0; n], n as u64);
            }
        }
    }
}

fn random_starts(n: usize, seed: u64, last: u64) -> Vec<Start> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % bound
    };
    (0..n).map(|_| Start { built_at: below(last), ticks_from: 0 }).collect()
}

/// Servers are started one after the other. A server that becomes ready to take over just when another
/// does, before it can learn that, leads for as long as a message takes; so two may be seen, but rarely.
#[test]
fn one_server_leads_when_they_start_one_after_the_other() {
    let mut more_than_one = 0;
    for n in 1..=7 {
        for delay in 1..=3 {
            for seed in 0..20 {
                for last in [5, 10, 40] {
                    let starts = random_starts(n, seed, last);
                    let mut cluster =
                        Scheduled::new(&starts, None, |_| {}, |_, _| Fate::Arrives(delay));
                    cluster.run(last + 40);
                    let leader = cluster.server(1).get_current_leader();
                    assert!(leader.is_some(), "{starts:?}");
                    for seen in cluster.leaders() {
                        assert_eq!(seen.last().copied(), leader, "{starts:?}, delay {delay}");
                        assert!(seen.len() <= 2, "{starts:?}, delay {delay}: {seen:?}");
                    }
                    if cluster.leaders().iter().any(|seen| seen.len() > 1) {
                        more_than_one += 1;
                        println!("{starts:?}, delay {delay}: {:?}", cluster.leaders());
                    }
                }
            }
        }
    }
    assert!(more_than_one <= 12, "{more_than_one} of 1260");
}
