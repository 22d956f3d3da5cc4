//! `next_timeout` and `tick_by`: a server that sleeps until a tick does something sends what a server
//! sends that counts each tick. The simulator compares the same after every tick.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    messages::{ballot_leader_election::HeartbeatMsg, sequence_paxos::PaxosMsg, Message},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::{failing_storage::FailingStorage, lab::Word};
use std::collections::{BTreeMap, BTreeSet};

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

fn cluster(nodes: u64) -> ClusterConfig {
    ClusterConfig { configuration_id: 1, nodes: (1..=nodes).collect(), ..Default::default() }
}

fn word(text: impl ToString) -> Word {
    Word(text.to_string())
}

/// When servers run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Wakes {
    /// At every tick.
    EachTick,
    /// When a message comes, when something is appended, and when a tick does something.
    WhenNeeded,
}

/// Servers whose messages take `delay` ticks, and one in ten of which is lost.
struct Cluster {
    servers: Vec<Server>,
    /// The ticks that each server has seen.
    seen: Vec<u64>,
    wakes: Wakes,
    delay: u64,
    in_flight: BTreeMap<u64, Vec<Message<Word>>>,
    /// All that was sent, with its time.
    sent: Vec<String>,
    /// How often a server ran.
    runs: u64,
}

impl Cluster {
    fn new(nodes: u64, delay: u64, wakes: Wakes) -> Self {
        let server = |pid| {
            let config = ServerConfig {
                pid,
                batch_size: 3,
                flush_batch_tick_timeout: 17,
                resend_message_tick_timeout: 23,
                ..Default::default()
            };
            cluster(nodes).build_for_server(config, MemoryStorage::default()).unwrap()
        };
        Self {
            servers: (1..=nodes).map(server).collect(),
            seen: vec![0; usize::try_from(nodes).unwrap()],
            wakes,
            delay,
            in_flight: BTreeMap::new(),
            sent: Vec::new(),
            runs: 0,
        }
    }

    /// Lets the time come to `now`, with what `input` does to a server then.
    fn advance(&mut self, now: u64, mut input: impl FnMut(&mut Server) -> bool) {
        let mut arrived = self.in_flight.remove(&now).unwrap_or_default();
        for (server, seen) in self.servers.iter_mut().zip(&mut self.seen) {
            let pid = server.get_pid();
            let is_due = server.next_timeout().is_some_and(|ticks| *seen + ticks <= now);
            let is_for_it = |message: &Message<Word>| message.get_receiver() == pid;
            let (ours, rest) = arrived.into_iter().partition::<Vec<_>, _>(is_for_it);
            arrived = rest;
            match self.wakes {
                Wakes::EachTick => server.tick(),
                Wakes::WhenNeeded => {
                    // An input is after the ticks before it.
                    let ticks = now - *seen;
                    // A new server has something to send.
                    match now == 1 || is_due || !ours.is_empty() || now.is_multiple_of(41) {
                        true => assert_eq!(server.tick_by(ticks), ticks, "one is enough"),
                        false => continue,
                    }
                }
            }
            *seen = now;
            self.runs += 1;
            ours.into_iter().for_each(|message| server.handle_incoming(message));
            if now.is_multiple_of(41) {
                input(server);
            }
            for message in server.outgoing_messages() {
                self.sent.push(format!("{now} {message:?}"));
                if !self.sent.len().is_multiple_of(10) {
                    self.in_flight.entry(now + self.delay).or_default().push(message);
                }
            }
        }
    }

    fn live(&mut self, ticks: u64) {
        for now in 1..=ticks {
            self.advance(now, |server| {
                let step = now / 41;
                match (server.get_pid(), step % 8) {
                    (pid, 3) if server.get_current_leader() == Some(pid) => {
                        server.transfer_leadership(pid % 3 + 1, 30).is_ok()
                    }
                    (2, 5) => {
                        server.try_become_leader();
                        true
                    }
                    (1, 6) => {
                        server.set_priority(u32::try_from(step).unwrap());
                        true
                    }
                    (pid, _) => server.append(word(format!("{pid}.{now}"))).is_ok(),
                }
            });
        }
    }
}

#[test]
fn who_sleeps_until_it_is_needed_sends_the_same() {
    for delay in [1, 2, 7, 25] {
        let mut awake = Cluster::new(3, delay, Wakes::EachTick);
        awake.live(3_000);
        let mut sleepy = Cluster::new(3, delay, Wakes::WhenNeeded);
        sleepy.live(3_000);
        assert!(awake.servers[0].get_decided_idx() > 50, "{delay}");
        for (at, (a, b)) in awake.sent.iter().zip(&sleepy.sent).enumerate() {
            assert_eq!(a, b, "message {at} with delay {delay}");
        }
        assert_eq!(awake.sent.len(), sleepy.sent.len());
        for (a, b) in awake.servers.iter().zip(&sleepy.servers) {
            assert_eq!(a.status(), b.status());
        }
        assert!(sleepy.runs < awake.runs, "{} of {}", sleepy.runs, awake.runs);
    }
}

#[test]
fn an_idle_cluster_wakes_a_few_times_in_a_heartbeat_round() {
    let mut sleepy = Cluster::new(3, 1, Wakes::WhenNeeded);
    for now in 1..=2_000 {
        sleepy.advance(now, |_| false);
    }
    // A round of 10 ticks has an end; requests and replies of all others come one tick after that.
    let rounds = 3 * 2_000 / 10;
    assert!(sleepy.runs < 5 * rounds, "{} in {rounds} rounds", sleepy.runs);
}

/// A server alone that leads and was drained.
fn alone(change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig { pid: 1, ..Default::default() };
    change(&mut config);
    let mut server = cluster(1).build_for_server(config, MemoryStorage::default()).unwrap();
    (0..20).for_each(|_| {
        server.tick();
        server.outgoing_messages();
    });
    server
}

#[test]
fn timers_are_told_exactly() {
    let mut server = alone(|config| config.election_tick_timeout = 10);
    for left in (1..=10).rev() {
        assert_eq!(server.next_timeout(), Some(left));
        server.tick();
    }
    assert_eq!(server.next_timeout(), Some(10), "the next round");

    let mut server = alone(|config| (config.batch_size, config.flush_batch_tick_timeout) = (9, 4));
    server.append(word("a")).unwrap();
    assert_eq!((server.next_timeout(), server.get_batched_len()), (Some(4), 1));
    assert_eq!(server.tick_by(3), 3);
    assert_eq!((server.next_timeout(), server.get_batched_len()), (Some(1), 1));
    assert_eq!(server.tick_by(100), 1, "no further than to what a tick does");
    assert_eq!((server.get_accepted_idx(), server.get_batched_len()), (1, 0));
}

/// Links may open and close in step with the rounds, and lose the same message in each.
#[test]
fn a_server_whose_proposal_waits_varies_its_rounds() {
    let rounds = |pid: u64, waits: bool| {
        let config = ServerConfig { pid, ..Default::default() };
        let mut server = cluster(3).build_for_server(config, MemoryStorage::default()).unwrap();
        if waits {
            server.append(word("a")).unwrap();
        }
        let mut tick = || {
            server.tick();
            let messages = server.outgoing_messages();
            messages.iter().any(|message| matches!(message, Message::BLE(_)))
        };
        // A round begins with a heartbeat.
        let begins: Vec<u64> = (0..400).filter(|_| tick()).collect();
        begins.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect::<Vec<u64>>()
    };
    assert_eq!(BTreeSet::from_iter(rounds(1, false)), BTreeSet::from([10]));
    let (first, second) = (rounds(1, true), rounds(2, true));
    assert_eq!(first[..6], [10; 6]);
    assert_eq!(BTreeSet::from_iter(first[8..].iter().copied()), BTreeSet::from([10, 11, 12]));
    assert_eq!(first, rounds(1, true));
    assert_ne!(first, second);
}

/// Returns how long each of the last 30 rounds of a server was, in a cluster that loses some messages of it from the
/// time on at which the server gets an input.
fn lengths_of_rounds(
    pid: u64,
    input: impl Fn(&mut Server),
    is_lost: impl Fn(&PaxosMsg<Word>) -> bool,
) -> BTreeSet<u64> {
    let config = |pid| ServerConfig { pid, ..Default::default() };
    let server = |pid| cluster(3).build_for_server(config(pid), MemoryStorage::default()).unwrap();
    let mut servers: Vec<Server> = (1..=3).map(server).collect();
    let mut begins = Vec::new();
    for now in 0..600 {
        if now == 100 {
            assert_eq!(servers[0].get_current_leader(), Some(3));
            input(&mut servers[usize::try_from(pid).unwrap() - 1]);
        }
        servers.iter_mut().for_each(Server::tick);
        let mut is_first_hop = true;
        loop {
            let sent: Vec<Message<Word>> =
                servers.iter_mut().flat_map(|server| server.outgoing_messages()).collect();
            let begins_round = |message: &Message<Word>| match message {
                Message::BLE(ble) => ble.from == pid && matches!(ble.msg, HeartbeatMsg::Request(_)),
                Message::SequencePaxos(_) => false,
            };
            if is_first_hop && sent.iter().any(begins_round) {
                begins.push(now);
            }
            is_first_hop = false;
            if sent.is_empty() {
                break;
            }
            for message in sent {
                let is_dropped = match &message {
                    Message::SequencePaxos(paxos) => {
                        now >= 100 && paxos.from == pid && is_lost(&paxos.msg)
                    }
                    Message::BLE(_) => false,
                };
                if !is_dropped {
                    let to = usize::try_from(message.get_receiver()).unwrap();
                    servers[to - 1].handle_incoming(message);
                }
            }
        }
    }
    begins.windows(2).rev().take(30).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn what_waits_makes_the_rounds_vary() {
    let append = |server: &mut Server| server.append(word("a")).unwrap();
    let read = |server: &mut Server| {
        server.request_read().unwrap();
    };
    let no_entries =
        |msg: &PaxosMsg<Word>| matches!(msg, PaxosMsg::AcceptDecide(_) | PaxosMsg::AcceptSync(_));
    let no_forwards = |msg: &PaxosMsg<Word>| {
        matches!(msg, PaxosMsg::ProposalForward(_) | PaxosMsg::ForwardedProposals(_))
    };
    let no_reads = |msg: &PaxosMsg<Word>| matches!(msg, PaxosMsg::ReadIndexRequest(_));
    let (fixed, varying) = (BTreeSet::from([10]), BTreeSet::from([10, 11, 12]));
    assert_eq!(lengths_of_rounds(3, append, no_entries), varying, "entries of a leader");
    assert_eq!(lengths_of_rounds(1, append, no_forwards), varying, "proposals of a follower");
    assert_eq!(lengths_of_rounds(1, read, no_reads), varying, "reads of a follower");
    for (pid, input) in [(3, append as fn(&mut Server)), (1, append), (1, read)] {
        assert_eq!(lengths_of_rounds(pid, input, |_| false), fixed, "nothing is lost");
    }
}

#[test]
fn any_number_of_ticks_is_legal() {
    let mut server = alone(|_| {});
    let before = server.next_timeout();
    assert_eq!((server.tick_by(0), server.next_timeout()), (0, before));
    assert_eq!(Some(server.tick_by(u64::MAX)), before);
    let mut server = alone(|config| config.election_tick_timeout = u64::MAX);
    assert_eq!(server.next_timeout(), Some(u64::MAX - 20));
    assert_eq!(server.tick_by(u64::MAX - 21), u64::MAX - 21);
    assert_eq!((server.next_timeout(), server.tick_by(7)), (Some(1), 1));
}

#[test]
fn a_halted_replica_has_no_timeout() {
    let storage = FailingStorage::<Word>::default();
    let config = ServerConfig { pid: 1, ..Default::default() };
    let mut server = cluster(1).build_for_server(config, storage.clone()).unwrap();
    (0..20).for_each(|_| server.tick());
    storage.order(|orders| orders.fail_writes = true);
    let halted = server.flush().unwrap_err();
    assert_eq!(server.next_timeout(), None);
    for ticks in [0, 1, 100] {
        assert_eq!(server.try_tick_by(ticks), Err(halted.clone()));
    }
}
