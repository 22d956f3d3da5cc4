//! A follower with a slow link to its leader and a quick one to another follower, under load.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{messages::Message, ClusterConfig, ServerConfig};
use omnipaxos_harness::{build, kind, Cluster, Fate};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::Word;

const LEADER: u64 = 1;
const FAR: u64 = 3;
/// Ticks of a heartbeat round.
const ROUND: u64 = 10;
const ROUNDS: u64 = 150;

/// What was counted.
#[derive(Debug, Default)]
struct Counted {
    syncs: u64,
    /// The round in which the far server was in step first.
    in_step_after: Option<u64>,
    /// How far the far server was behind in the second half, at most.
    behind: u64,
}

/// Three servers, led by 1. Messages between 1 and 3 take this number of ticks, others one.
fn under_load(delay: u64) -> Counted {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let servers = [1, 2, 3].map(|pid| {
        let change = |config: &mut ServerConfig| config.election_tick_timeout = ROUND;
        build(&config, pid, change, MemoryStorage::default())
    });
    let mut counted = Counted::default();
    let network = |now: u64, message: &mut Message<Word>| {
        let link = (message.get_sender(), message.get_receiver());
        match (link, kind(message)) {
            ((LEADER, FAR), "AcceptSync") => counted.syncs += 1,
            ((FAR, LEADER), "Accepted") if now > 3 * ROUND => {
                counted.in_step_after.get_or_insert(now / ROUND);
            }
            _other => {}
        }
        let is_slow = [(LEADER, FAR), (FAR, LEADER)].contains(&link);
        Fate::Arrives(if is_slow { delay } else { 1 })
    };
    let mut cluster = Cluster::of(servers, network);
    let mut most_behind = 0;
    for now in 0..ROUNDS * ROUND {
        if now == 2 * ROUND {
            cluster.server(LEADER).try_become_leader();
        }
        if now > 3 * ROUND {
            cluster.server(LEADER).append(Word(now.to_string())).unwrap();
        }
        cluster.tick();
        if now > ROUNDS * ROUND / 2 {
            let decided = cluster.server(LEADER).get_decided_idx();
            most_behind = most_behind.max(decided - cluster.server(FAR).get_decided_idx());
        }
    }
    drop(cluster);
    counted.behind = most_behind;
    counted
}

/// It learns from its neighbour what is decided, faster than from the leader. It waits with
/// that until it is in step.
#[test]
fn a_follower_that_outlearns_its_leader_gets_in_step() {
    for delay in [1, 3, 6, 12, 20, 30] {
        let counted = under_load(delay);
        println!("{delay} ticks: {counted:?}");
        assert!(counted.syncs <= 8, "{delay} ticks: {counted:?}");
        let after = counted.in_step_after.expect("it gets in step");
        assert!(after < 50, "{delay} ticks: in step after {after} rounds");
    }
}
