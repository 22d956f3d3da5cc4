//! A follower with a slow link to its leader and a quick one to another follower, under load.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::Word;
use std::collections::BTreeMap;

const LEADER: u64 = 1;
const FAR: u64 = 3;
/// Ticks of a heartbeat round.
const ROUND: u64 = 10;
const ROUNDS: u64 = 150;

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

/// What was counted.
#[derive(Debug, Default)]
struct Counted {
    syncs: u64,
    /// The round in which the far server was in step first.
    in_step_after: Option<u64>,
    /// How far the far server was behind in the second half, at most.
    behind: u64,
}

/// Three servers, led by 1. Messages between 1 and 3 take so many ticks, others one.
fn under_load(delay: u64) -> Counted {
    let cluster =
        ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], flexible_quorum: None };
    let mut servers: BTreeMap<u64, Server> = (1..=3)
        .map(|pid| {
            let config = ServerConfig { pid, election_tick_timeout: ROUND, ..Default::default() };
            (pid, cluster.clone().build_for_server(config, MemoryStorage::default()).unwrap())
        })
        .collect();
    let mut on_their_way: BTreeMap<(u64, u64), Message<Word>> = BTreeMap::new();
    let (mut number, mut counted) = (0, Counted::default());
    let mut messages = Vec::new();
    for now in 0..ROUNDS * ROUND {
        let later = on_their_way.split_off(&(now + 1, 0));
        for message in std::mem::replace(&mut on_their_way, later).into_values() {
            servers.get_mut(&message.get_receiver()).unwrap().handle_incoming(message);
        }
        if now == 2 * ROUND {
            servers.get_mut(&LEADER).unwrap().try_become_leader();
        }
        if now > 3 * ROUND {
            servers.get_mut(&LEADER).unwrap().append(Word(now.to_string())).unwrap();
        }
        servers.values_mut().for_each(|server| {
            server.tick();
            server.take_outgoing_messages(&mut messages);
        });
        for message in messages.drain(..) {
            let (from, to) = (message.get_sender(), message.get_receiver());
            if let (Message::SequencePaxos(paxos), LEADER, FAR) = (&message, from, to) {
                counted.syncs += u64::from(matches!(paxos.msg, PaxosMsg::AcceptSync(_)));
            }
            if let (Message::SequencePaxos(paxos), FAR, LEADER) = (&message, from, to) {
                if matches!(paxos.msg, PaxosMsg::Accepted(_)) && now > 3 * ROUND {
                    counted.in_step_after.get_or_insert(now / ROUND);
                }
            }
            let is_slow = from + to == LEADER + FAR && from != to;
            number += 1;
            on_their_way.insert((now + if is_slow { delay } else { 1 }, number), message);
        }
        if now > ROUNDS * ROUND / 2 {
            let behind = servers[&LEADER].get_decided_idx() - servers[&FAR].get_decided_idx();
            counted.behind = counted.behind.max(behind);
        }
    }
    counted
}

/// It learns from its neighbour what is decided, faster than the leader can tell it. It waits with
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
