//! A snapshot that bincode cannot decode: its pieces arrive whole, and are no snapshot.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    storage::{Entry, Snapshot},
    util::LogEntry,
    ClusterConfig, ServerConfig,
};
use omnipaxos_harness::{build, Cluster, Fate};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, rc::Rc};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Add(u64);

/// Serde can decode an untagged enum only from a format that describes itself, such as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Sum {
    Of { count: u64, text: String },
}

impl Entry for Add {
    type Snapshot = Sum;
    omnipaxos::without_unicache!();
}

impl Snapshot<Add> for Sum {
    fn create(entries: &[Add]) -> Self {
        Sum::Of { count: entries.len() as u64, text: "x".repeat(10 * entries.len()) }
    }

    fn merge(&mut self, delta: Self) {
        let (Sum::Of { count, text }, Sum::Of { count: more, text: longer }) = (self, delta);
        *count += more;
        text.push_str(&longer);
    }

    fn use_snapshots() -> bool {
        true
    }
}

const ROUND: u64 = 5;
const MESSAGE: usize = 200;
const ENTRIES: u64 = 100;

/// What the network carried to the learner, and whether it carries large messages.
#[derive(Debug, Default)]
struct Carried {
    pieces: u64,
    whole: u64,
    to_learner: u64,
    loses_large: bool,
}

/// Three servers led by 1, of which 3 comes back empty-handed and has to learn a snapshot.
fn learner(
    carried: &Rc<RefCell<Carried>>,
) -> Cluster<Add, MemoryStorage<Add>, impl FnMut(u64, &mut Message<Add>) -> Fate> {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let servers = [1, 2, 3].map(|pid| {
        let change = |config: &mut ServerConfig| {
            config.election_tick_timeout = ROUND;
            config.max_message_bytes = MESSAGE;
        };
        build(&config, pid, change, MemoryStorage::default())
    });
    let seen = Rc::clone(carried);
    let network = move |_now: u64, message: &mut Message<Add>| {
        let mut seen = seen.borrow_mut();
        if message.get_receiver() == 3 {
            if let Message::SequencePaxos(paxos) = message {
                if let PaxosMsg::CatchUpChunk(chunk) = &paxos.msg {
                    seen.to_learner += 1;
                    seen.pieces += u64::from(chunk.piece.is_some());
                    if chunk.snapshot.is_some() {
                        seen.whole += 1;
                        if seen.loses_large {
                            return Fate::Lost;
                        }
                    }
                }
            }
        }
        Fate::Arrives(1)
    };
    let mut cluster = Cluster::of(servers, network);
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..ENTRIES {
        cluster.server(1).append(Add(number)).unwrap();
        cluster.run(3);
    }
    cluster.run(2 * ROUND);
    for pid in [1, 2] {
        cluster.server(pid).compact(ENTRIES).unwrap();
    }
    cluster.heal_all();
    cluster
}

#[test]
fn after_two_that_cannot_be_decoded_it_takes_the_snapshot_whole() {
    let carried = Rc::default();
    let mut cluster = learner(&carried);
    cluster.run(20 * ROUND);
    let server = cluster.server(3);
    assert_eq!(server.get_decided_idx(), ENTRIES);
    assert_eq!(server.dropped().undecodable_snapshots, 2);
    match server.read(0) {
        Some(LogEntry::Snapshotted(snapshotted)) => {
            let Sum::Of { count, .. } = snapshotted.snapshot;
            assert_eq!(count, ENTRIES);
        }
        other => panic!("{other:?}"),
    }
    let carried = carried.borrow();
    let pieces = (10 * ENTRIES).div_ceil(MESSAGE as u64) + 1;
    assert!(carried.pieces <= 2 * pieces, "{carried:?}, a snapshot has {pieces} pieces");
    assert_eq!(carried.whole, 1, "{carried:?}");
}

/// The network carries no message so large: the server cannot learn it, and reports that. It asks no more
/// than its peers in turn, and less and less often for pieces, so that the others lose little by it.
#[test]
fn where_it_cannot_travel_whole_a_request_a_round_is_all_it_costs() {
    let carried: Rc<RefCell<Carried>> = Rc::default();
    carried.borrow_mut().loses_large = true;
    let mut cluster = learner(&carried);
    cluster.run(20 * ROUND);
    let before = carried.borrow().to_learner;
    let rounds = 100;
    cluster.run(rounds * ROUND);
    let server = cluster.server(3);
    let undecodable = server.dropped().undecodable_snapshots;
    assert_eq!(server.get_decided_idx(), 0);
    assert!((3..6).contains(&undecodable), "{undecodable} attempts in 120 rounds");
    let sent = carried.borrow().to_learner - before;
    assert!(sent <= 2 * rounds, "{sent} chunks in {rounds} rounds");
    cluster.server(1).append(Add(ENTRIES)).unwrap();
    cluster.run(2 * ROUND);
    assert_eq!(cluster.server(2).get_decided_idx(), ENTRIES + 1);
}
