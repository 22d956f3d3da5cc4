//! One replica at a time: what it does when its storage fails, how often it writes, what it shows.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::{with_causes, TryCompactionErr, TryProposeErr},
    identity::Stamp,
    messages::{
        sequence_paxos::{AcceptSync, LogSync, PaxosMessage, PaxosMsg, Prepare},
        Message,
    },
    storage::Storage,
    util::{FlexibleQuorum, LogEntry},
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::{
    failing_storage::FailingStorage,
    lab::{kind, Lab, Word},
};
use std::panic::{catch_unwind, AssertUnwindSafe};

type Replica = OmniPaxos<Word, FailingStorage<Word>>;

fn word(text: &str) -> Word {
    Word(text.to_string())
}

fn config(nodes: &[u64], pid: u64) -> OmniPaxosConfig {
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: nodes.to_vec(),
            flexible_quorum: None,
        },
        server_config: ServerConfig { pid, ..Default::default() },
    }
}

/// A server alone, which leads and has decided two words.
fn alone() -> (Replica, FailingStorage<Word>) {
    let storage = FailingStorage::default();
    let mut replica: Replica = config(&[1], 1).build(storage.clone()).unwrap();
    for _ in 0..10 {
        replica.tick();
    }
    for text in ["a", "b"] {
        replica.append(word(text)).unwrap();
    }
    replica.outgoing_messages();
    assert_eq!(replica.get_decided_idx(), 2);
    replica.outgoing_messages();
    (replica, storage)
}

/// What is visited from `from_idx` on, and the index after that.
fn visited(replica: &Replica, from_idx: u64) -> Option<(Vec<Word>, u64)> {
    let mut words = Vec::new();
    let end = replica.for_each_decided(from_idx, |word| words.push(word.clone()))?;
    Some((words, end))
}

#[test]
fn decided_entries_are_visited_where_they_are() {
    let (mut replica, storage) = alone();
    assert_eq!(visited(&replica, 0), Some((vec![word("a"), word("b")], 2)));
    assert_eq!(visited(&replica, 1), Some((vec![word("b")], 2)));
    assert_eq!(visited(&replica, 2), Some((vec![], 2)));
    assert_eq!(visited(&replica, 3), None, "beyond what is decided");
    replica.append(word("c")).unwrap();
    assert_eq!(visited(&replica, 1), Some((vec![word("b")], 2)), "c is not decided");
    replica.outgoing_messages();
    replica.trim(Some(1)).unwrap();
    assert_eq!(visited(&replica, 0), None, "trimmed");
    assert_eq!(visited(&replica, 1), Some((vec![word("b"), word("c")], 3)));
    let next = ClusterConfig { configuration_id: 2, nodes: vec![1, 2], flexible_quorum: None };
    replica.reconfigure(next, None).unwrap();
    replica.outgoing_messages();
    assert!(replica.is_reconfigured().is_some());
    assert_eq!(visited(&replica, 2), Some((vec![word("c")], 3)), "not the stop sign");
    storage.order(|orders| orders.fail_reads = true);
    let failed = replica.try_for_each_decided(2, |_| panic!("nothing was read")).unwrap_err();
    assert_eq!(with_causes(&failed), "the storage failed to read entries 2..3: bad sector");
}

#[test]
fn a_failed_write_halts_the_replica() {
    let (mut replica, storage) = alone();
    replica.append(word("c")).unwrap();
    storage.order(|orders| orders.fail_writes = true);
    let mut messages = Vec::new();
    let halted = replica.try_take_outgoing_messages(&mut messages).unwrap_err();
    assert!(messages.is_empty());
    assert_eq!(
        with_causes(&halted),
        "the replica has halted: the storage failed to write the decided index, entries 2..3: \
         no space left"
    );
    assert_eq!((halted.cause(), halted.is_panic()), ("no space left", false));
    assert_eq!(replica.halted(), Some(&halted));

    storage.order(|orders| orders.fail_writes = false);
    assert_eq!(replica.try_tick(), Err(halted.clone()), "it stays halted");
    assert_eq!(replica.flush(), Err(halted.clone()));
    assert!(matches!(replica.try_append(word("d")), Err(TryProposeErr::Halted(_))));
    assert_eq!(replica.try_trim(None), Err(TryCompactionErr::Halted(halted.clone())));
    assert_eq!(replica.try_snapshot(None, true), Err(TryCompactionErr::Halted(halted)));
    replica.reconnected(2);

    let decided = vec![LogEntry::Decided(word("a")), LogEntry::Decided(word("b"))];
    assert_eq!(replica.read_entries(0..2), Some(decided), "what was decided before is served");
    assert_eq!(replica.read(2), None);
    assert_eq!(replica.read_decided_suffix(0).map(|entries| entries.len()), Some(2));
    assert_eq!(replica.read_entries(..).map(|entries| entries.len()), Some(2));
    assert_eq!(visited(&replica, 0), Some((vec![word("a"), word("b")], 2)));
    let panic = catch_unwind(AssertUnwindSafe(|| replica.tick())).unwrap_err();
    let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(message.contains("the storage failed to write"), "{message}");

    let mut reopened: Replica = config(&[1], 1).build(storage).unwrap();
    for _ in 0..10 {
        reopened.tick();
        reopened.outgoing_messages();
    }
    assert_eq!(reopened.get_decided_idx(), 2);
}

/// Entries that were accepted, and are replaced and decided in a write that fails, are still what
/// the disk holds.
#[test]
fn entries_that_a_failed_write_was_to_replace_are_not_served() {
    let storage = FailingStorage::default();
    let mut replica: Replica = config(&[1, 2, 3], 2).build(storage.clone()).unwrap();
    let mut accept = |from: u64, words: &[&str], decided_idx: u64, fails: bool| {
        let n = Ballot::with(1, 10 + u32::try_from(from).unwrap(), 0, from);
        let prepare = Prepare {
            n,
            n_accepted: Ballot::default(),
            accepted_idx: 0,
            decided_idx: 0,
            takes_delta: false,
            stamp: Stamp::default(),
        };
        let suffix: Vec<Word> = words.iter().map(|text| word(text)).collect();
        let sync = LogSync { suffix_idx: 0, suffix: suffix.into(), stopsign: None, ids: None };
        let sync = AcceptSync { n, decided_idx, sync: Box::new(sync), stamp: Stamp::default() };
        for msg in [PaxosMsg::Prepare(prepare), PaxosMsg::AcceptSync(sync)] {
            let is_sync = matches!(msg, PaxosMsg::AcceptSync(_));
            replica.handle_incoming(Message::SequencePaxos(PaxosMessage { from, to: 2, msg }));
            storage.order(|orders| orders.fail_writes = fails && is_sync);
            let taken = replica.try_take_outgoing_messages(&mut Vec::new());
            assert_eq!(taken.is_err(), fails && is_sync);
        }
    };
    accept(1, &["a", "b", "c"], 1, false);
    accept(3, &["a", "x"], 2, true);
    assert!(replica.halted().is_some());
    assert_eq!(replica.read_decided_suffix(0), Some(vec![LogEntry::Decided(word("a"))]));
    assert_eq!(replica.read(1), None);
    assert_eq!((replica.get_decided_idx(), replica.status().decided_idx), (1, 1));
}

#[test]
fn a_failed_read_is_an_error_and_not_a_shorter_answer() {
    let (replica, storage) = alone();
    storage.order(|orders| orders.fail_reads = true);
    let failed = replica.try_read_entries(..).unwrap_err();
    assert_eq!(with_causes(&failed), "the storage failed to read entries 0..2: bad sector");
    assert!(replica.try_read(0).is_err() && replica.try_read_decided_suffix(1).is_err());
    assert!(replica.halted().is_none(), "a reader may try again");
    storage.order(|orders| orders.fail_reads = false);
    assert_eq!(replica.read(1), Some(LogEntry::Decided(word("b"))));
}

#[test]
fn a_storage_that_cannot_be_read_or_contradicts_itself_is_refused() {
    let storage = FailingStorage::<Word>::default();
    storage.order(|orders| orders.fail_reads = true);
    let error = config(&[1], 1).build::<Word, _>(storage).unwrap_err().to_string();
    assert!(error.contains("the storage failed to read the promise: bad sector"), "{error}");

    let mut storage = MemoryStorage::<Word>::default();
    storage.set_decided_idx(3).unwrap();
    let error = config(&[1], 1).build::<Word, _>(storage).unwrap_err().to_string();
    assert!(error.contains("decided index 3, log length 0"), "{error}");

    let (_, of_first) = alone();
    let mut second = config(&[1], 1);
    second.cluster_config.configuration_id = 2;
    let error = second.build::<Word, _>(of_first).unwrap_err().to_string();
    assert!(error.contains("belongs to configuration 1, not to 2"), "{error}");
}

#[test]
fn a_drain_writes_once_and_an_input_never() {
    let (mut replica, storage) = alone();
    let before = storage.orders().writes;
    for n in 0..100 {
        replica.append(word(&n.to_string())).unwrap();
        replica.tick();
    }
    assert_eq!(storage.orders().writes, before, "inputs change memory only");
    replica.outgoing_messages();
    assert_eq!(storage.orders().writes, before + 1);
    replica.outgoing_messages();
    assert_eq!(storage.orders().writes, before + 1, "a decided index alone waits");
    for _ in 0..20 {
        replica.tick();
        replica.outgoing_messages();
    }
    assert_eq!(storage.orders().writes, before + 2, "until a heartbeat round ends");
    assert_eq!(storage.get_decided_idx().unwrap(), 102);
}

#[test]
fn a_buffer_is_appended_to() {
    let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
        config(&[1, 2, 3], 1).build(MemoryStorage::default()).unwrap();
    let mut buffer: Vec<Message<Word>> = replica.outgoing_messages();
    let heartbeats = buffer.len();
    assert_eq!(heartbeats, 2);
    replica.try_become_leader();
    replica.take_outgoing_messages(&mut buffer);
    let kinds: Vec<&str> = buffer.iter().map(kind).collect();
    assert_eq!(kinds, ["HeartbeatRequest", "HeartbeatRequest", "Prepare", "Prepare"]);
}

#[test]
fn the_highest_priority_wins_among_those_that_take_over_together() {
    for favourite in 1..=5 {
        let mut lab = Lab::with(&[1, 2, 3, 4, 5], |config| {
            config.leader_priority = u32::from(config.pid == favourite);
        });
        lab.run(25);
        for pid in 1..=5 {
            assert_eq!(lab.server(pid).get_current_leader(), Some(favourite));
        }
        let next = if favourite == 5 { 4 } else { 5 };
        lab.server(favourite).set_priority(0);
        lab.server(next).set_priority(9);
        lab.run(50);
        assert_eq!(lab.server(1).get_current_leader(), Some(favourite), "no takeover for it");
        lab.crash(favourite);
        lab.run(40);
        assert_eq!(lab.server(next).get_current_leader(), Some(next));
    }
}

#[test]
fn flexible_quorums_decide_with_few_and_elect_with_many() {
    let quorum = FlexibleQuorum { read_quorum_size: 4, write_quorum_size: 2 };
    let mut lab = Lab::with_quorum(&[1, 2, 3, 4, 5], Some(quorum), |_| {});
    lab.elect(1);
    for pid in [3, 4, 5] {
        lab.crash(pid);
    }
    lab.append(1, "a");
    lab.run(60);
    lab.assert_decided_everywhere(&["a"]);
    assert_eq!(lab.server(2).get_current_leader(), Some(1), "two are enough to go on");
    lab.crash(1);
    let prepares = lab.sent("Prepare");
    lab.restart(3);
    lab.restart(4);
    lab.run(60);
    assert_eq!(lab.sent("Prepare"), prepares, "three are too few to elect");
    lab.restart(5);
    lab.run(60);
    lab.append(2, "b");
    lab.run(10);
    lab.assert_decided_everywhere(&["a", "b"]);
}

#[test]
fn the_view_for_dashboards() {
    let mut lab = Lab::new(&[1, 3, 2000]);
    lab.elect(3);
    lab.append(3, "a");
    lab.run(30);
    let states = lab.server(3).get_ui_states();
    assert_eq!((states.current_leader, states.decided_idx), (Some(3), 1));
    assert_eq!(states.current_ballot, lab.server(3).get_promise());
    assert_eq!(states.cluster_state.accepted_indexes, [0, 1, 0, 1], "2000 is not shown");
    assert_eq!(states.heartbeats.len(), 2);
    assert!(states.heartbeats.iter().all(|reply| reply.happy && reply.leader.pid == 3));
    assert_eq!(lab.server(1).get_ui_states().cluster_state.accepted_indexes, [0, 0, 0, 0]);
}

#[test]
fn same_inputs_same_outputs() {
    let run = || {
        let mut lab = Lab::new(&[1, 2, 3]);
        let mut trace = String::new();
        for tick in 0..60 {
            if tick % 3 == 0 {
                lab.append(1 + tick % 3, &tick.to_string());
            }
            lab.tick();
            trace.push_str(&format!("{:?}\n", lab.in_flight().collect::<Vec<_>>()));
        }
        trace
    };
    assert_eq!(run(), run());
}

/// A link may be open for a further request of a round only, and the answer to that one counts.
#[test]
fn an_unhappy_leader_repeats_its_prepare_with_each_request() {
    let build = |pid| config(&[1, 2, 3], pid).build(MemoryStorage::<Word>::default()).unwrap();
    let mut servers = [1, 2, 3].map(build);
    let prepares = |messages: &[Message<Word>]| {
        messages.iter().filter(|message| kind(message) == "Prepare").count()
    };
    let mut has_taken_over = false;
    for _ in 0..100 {
        servers.iter_mut().for_each(|server| server.tick());
        while !has_taken_over {
            let sent: Vec<_> =
                servers.iter_mut().flat_map(|server| server.outgoing_messages()).collect();
            has_taken_over = prepares(&sent) > 0;
            if sent.is_empty() {
                break;
            }
            for message in sent.into_iter().filter(|message| kind(message) != "Prepare") {
                servers[usize::try_from(message.get_receiver()).unwrap() - 1]
                    .handle_incoming(message);
            }
        }
    }
    // 3 has been alone for some rounds.
    let leader = &mut servers[2];
    leader.outgoing_messages();
    leader.tick();
    assert!(leader.outgoing_messages().is_empty(), "in the middle of a round");
    leader.set_priority(7);
    let sent = leader.outgoing_messages();
    assert_eq!((prepares(&sent), sent.len()), (2, 4), "with a request to each: {sent:?}");
    assert!(leader.outgoing_messages().is_empty());
}
