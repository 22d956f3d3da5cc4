//! One log through reconfigurations: members come and go, and the log continues.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    errors::{CompactionErr, ConfigError, ReconfigurationErr, TryCompactionErr},
    events::Event,
    macros::Entry,
    members::{MemberChange, WaitsFor},
    messages::{
        sequence_paxos::{Joining, PaxosMessage, PaxosMsg},
        Message,
    },
    proposals::Outcome,
    reads::ReadState,
    status::Role,
    storage::{Snapshot, Storage},
    util::LogEntry,
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::{Disk, Lab, Word};
use serde::{Deserialize, Serialize};

fn continues(config: &mut ServerConfig) {
    config.continues = true;
}

fn configuration(configuration_id: u32, nodes: &[u64]) -> ClusterConfig {
    ClusterConfig { configuration_id, nodes: nodes.to_vec(), ..Default::default() }
}

/// Servers 1 to 3 with a leader, and two decided words.
fn three() -> (Lab, u64) {
    let mut lab = Lab::with(&[1, 2, 3], continues);
    lab.run(40);
    let leader = lab.server(1).get_current_leader().unwrap();
    lab.append(leader, "a");
    lab.append(leader % 3 + 1, "b");
    lab.run(20);
    lab.assert_decided_everywhere(&["a", "b"]);
    (lab, leader)
}

#[test]
fn the_log_goes_on_with_other_members() {
    let (mut lab, leader) = three();
    lab.join(4, &[1, 2, 3]);
    lab.run(40);
    let removed = leader % 3 + 1;
    let stays: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|pid| *pid != removed).collect();
    lab.server(leader).reconfigure(configuration(2, &stays), None).unwrap();
    lab.append(removed, "c");
    lab.append(4, "d");
    lab.run(60);
    let log = lab.decided(leader);
    let mut sorted = log.clone();
    sorted.sort();
    assert_eq!(sorted, ["<stop>", "a", "b", "c", "d"], "each is decided once");
    let log: Vec<&str> = log.iter().map(String::as_str).collect();
    lab.assert_decided_everywhere(&log);
    for pid in &stays {
        assert_eq!(lab.server(*pid).status().configuration_id, 2, "at server {pid}");
    }
}

#[test]
fn a_restarted_server_knows_where_it_was() {
    let (mut lab, leader) = three();
    lab.server(leader).reconfigure(configuration(2, &[1, 2, 3]), None).unwrap();
    lab.run(40);
    lab.append(1, "c");
    lab.run(40);
    for pid in 1..=3 {
        lab.restart(pid);
        assert_eq!(lab.server(pid).status().configuration_id, 2);
    }
    lab.run(60);
    lab.append(2, "d");
    lab.run(40);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c", "d"]);
}

#[test]
fn the_leader_may_be_removed() {
    let (mut lab, leader) = three();
    let stays: Vec<u64> = (1..=3).filter(|pid| *pid != leader).collect();
    lab.server(leader).reconfigure(configuration(2, &stays), None).unwrap();
    lab.run(40);
    lab.append(leader, "c");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c"]);
}

#[test]
fn all_servers_may_be_replaced() {
    let (mut lab, leader) = three();
    for pid in 4..=6 {
        lab.join(pid, &[1, 2, 3]);
    }
    lab.run(40);
    lab.server(leader).reconfigure(configuration(2, &[4, 5, 6]), None).unwrap();
    lab.run(60);
    for pid in 1..=3 {
        lab.crash(pid);
    }
    lab.append(5, "c");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c"]);
}

#[test]
fn a_server_that_was_away_catches_up_through_all_epochs() {
    let (mut lab, leader) = three();
    let away = leader % 3 + 1;
    lab.isolate(away);
    for id in 2..6 {
        let leader = lab.server(leader).get_current_leader().unwrap();
        lab.server(leader).reconfigure(configuration(id, &[1, 2, 3]), None).unwrap();
        lab.run(60);
        lab.append(leader, &format!("in {id}"));
        lab.run(40);
    }
    lab.heal_all();
    lab.run(200);
    let log = ["a", "b", "<stop>", "in 2", "<stop>", "in 3", "<stop>", "in 4", "<stop>", "in 5"];
    lab.assert_decided_everywhere(&log);
    assert_eq!(lab.server(away).status().configuration_id, 5);
}

/// What became of the changes and proposals of a server.
fn outcomes(lab: &mut Lab, pid: u64) -> Vec<Outcome> {
    let ended = |event| match event {
        Event::ProposalEnded { outcome, .. } => Some(outcome),
        _ => None,
    };
    lab.server(pid).take_events().into_iter().filter_map(ended).collect()
}

#[test]
fn a_change_to_servers_that_never_come_changes_nothing() {
    let (mut lab, leader) = three();
    let change = MemberChange { most_silent_rounds: 5, ..MemberChange::default() };
    let next = configuration(2, &[1, 33, 44]);
    lab.server(leader).change_members(next.clone(), change.clone()).unwrap();
    let again = lab.server(leader).change_members(next.clone(), change);
    assert!(matches!(again, Err(ReconfigurationErr::Pending(..))), "{again:?}");
    lab.append(leader, "c");
    lab.run(30);
    let joiners: Vec<_> =
        lab.server(leader).status().joiners.iter().map(|j| (j.pid, j.decided_idx)).collect();
    assert!(joiners.contains(&(33, None)) && joiners.contains(&(44, None)), "{joiners:?}");
    lab.run(60);
    let missing = outcomes(&mut lab, leader);
    assert_eq!(missing, [Outcome::NotJoined(vec![33, 44])]);
    lab.append(leader % 3 + 1, "d");
    lab.run(20);
    lab.assert_decided_everywhere(&["a", "b", "c", "d"]);
    let next = configuration(2, &[1, 2, 3]);
    lab.server(leader).change_members(next, MemberChange::default()).unwrap();
    lab.run(30);
    assert_eq!(outcomes(&mut lab, leader), [Outcome::Decided(4)]);
}

/// The servers that `pid` asks with its next output how much of the log they hold.
fn asked(lab: &mut Lab, pid: u64) -> Vec<u64> {
    let mut messages = Vec::new();
    lab.server(pid).take_outgoing_messages(&mut messages);
    let asks = |message: &Message<Word>| match message {
        Message::SequencePaxos(PaxosMessage { to, msg: PaxosMsg::Joining(joining), .. }) => {
            joining.decided_idx.is_none().then_some(*to)
        }
        Message::SequencePaxos(_) | Message::BLE(_) => None,
    };
    messages.iter().filter_map(asks).collect()
}

#[test]
fn a_leader_asks_only_those_that_are_not_in_step() {
    let (mut lab, leader) = three();
    let [follower, away] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    lab.join(4, &[1, 2, 3]);
    lab.run(40);
    let next = configuration(2, &[leader, follower, away, 4]);
    lab.server(leader).change_members(next.clone(), MemberChange::default()).unwrap();
    assert_eq!(asked(&mut lab, leader), [4], "it knows what its followers hold");

    // A follower that does not answer may be down.
    let (mut lab, leader) = three();
    let [follower, away] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    lab.crash(away);
    lab.run(30);
    lab.server(leader).change_members(next.clone(), MemberChange::default()).unwrap();
    let mut asked_for = vec![away, 4];
    asked_for.sort_unstable();
    assert_eq!(asked(&mut lab, leader), asked_for);

    // A follower does not know what the others hold.
    lab.server(follower).change_members(next, MemberChange::default()).unwrap();
    assert_eq!(asked(&mut lab, follower).len(), 3);
}

/// A leader that stays sends the Prepare of the next epoch with the decided index that ends the present one.
#[test]
fn a_prepare_that_comes_before_the_epoch_begins_is_promised_with_it() {
    let (mut lab, leader) = three();
    let follower = leader % 3 + 1;
    lab.server(leader).reconfigure(configuration(2, &[1, 2, 3]), None).unwrap();
    let is_of_leader = |message: &Message<Word>| message.get_sender() == leader;
    for _ in 0..20 {
        let mut sent = Vec::new();
        for pid in 1..=3 {
            lab.server(pid).take_outgoing_messages(&mut sent);
        }
        let prepares = |message: &Message<Word>| match message {
            Message::SequencePaxos(paxos) => {
                is_of_leader(message) && matches!(paxos.msg, PaxosMsg::Prepare(_))
            }
            Message::BLE(_) => false,
        };
        let is_begun = sent.iter().any(prepares);
        for message in sent {
            lab.server(message.get_receiver()).handle_incoming(message);
        }
        if is_begun {
            let mut promised = Vec::new();
            lab.server(follower).take_outgoing_messages(&mut promised);
            let kinds: Vec<&str> = promised.iter().filter_map(kind).collect();
            assert_eq!(kinds, ["promise"], "and no question for the leader");
            return;
        }
    }
    panic!("no epoch begins");
}

fn kind(message: &Message<Word>) -> Option<&'static str> {
    match message {
        Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::Promise(_), .. }) => Some("promise"),
        Message::SequencePaxos(_) => Some("other"),
        Message::BLE(_) => None,
    }
}

#[test]
fn a_change_that_waits_for_a_quorum_begins_at_once_where_followers_are_in_step() {
    let (mut lab, leader) = three();
    lab.run(30);
    let next = configuration(2, &[1, 2, 3, 9]);
    let change = MemberChange { waits_for: WaitsFor::Quorum, ..MemberChange::default() };
    lab.server(leader).change_members(next, change).unwrap();
    assert!(lab.server(leader).status().joiners.is_empty(), "it waits for none");
    lab.run(40);
    assert_eq!(outcomes(&mut lab, leader), [Outcome::Decided(2)]);
}

#[test]
fn a_server_that_knows_nobody_joins_when_it_is_named() {
    let (mut lab, leader) = three();
    lab.join(4, &[77]);
    lab.run(60);
    assert_eq!(lab.decided(4).len(), 0, "it knows nobody");
    let next = configuration(2, &[1, 2, 3, 4]);
    lab.server(leader).change_members(next, MemberChange::default()).unwrap();
    lab.run(80);
    assert_eq!(outcomes(&mut lab, leader), [Outcome::Decided(2)]);
    lab.append(4, "c");
    lab.run(40);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c"]);
    assert!(lab.server(4).status().role != Role::Observing);
}

#[test]
fn a_removed_server_is_told_that_it_may_stop() {
    let (mut lab, leader) = three();
    let removed = leader % 3 + 1;
    let stays: Vec<u64> = (1..=3).filter(|pid| *pid != removed).collect();
    lab.server(removed).take_events();
    assert_eq!(lab.server(removed).status().may_stop, None);
    lab.server(leader).change_members(configuration(2, &stays), MemberChange::default()).unwrap();
    lab.run(60);
    let events = lab.server(removed).take_events();
    let began = Event::ConfigurationBegan { configuration: configuration(2, &stays), first_idx: 3 };
    assert!(events.contains(&began), "{events:?}");
    assert!(events.contains(&Event::Retired { may_stop: true }), "{events:?}");
    // Both members of the new configuration are needed for a quorum.
    lab.restart(removed);
    assert_eq!(lab.server(removed).status().may_stop, Some(false), "it has not heard of them yet");
    lab.isolate(stays[0]);
    lab.run(60);
    assert_eq!(lab.server(removed).status().may_stop, Some(false));
    lab.heal_all();
    lab.run(60);
    assert_eq!(lab.server(removed).status().may_stop, Some(true));
}

#[test]
fn a_snapshot_brings_a_server_through_several_epochs() {
    let (mut lab, leader) = three();
    let away = leader % 3 + 1;
    lab.isolate(away);
    for id in 2..5 {
        let leader = lab.server(leader).get_current_leader().unwrap();
        lab.server(leader).reconfigure(configuration(id, &[1, 2, 3]), None).unwrap();
        lab.run(80);
        lab.append(leader, &format!("in {id}"));
        lab.run(40);
    }
    for pid in (1..=3).filter(|pid| *pid != away) {
        lab.server(pid).snapshot(None, true).unwrap();
        lab.run(1);
        lab.restart(pid);
    }
    lab.heal_all();
    lab.run(100);
    lab.append(away, "d");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "in 2", "in 3", "in 4", "d"]);
    assert_eq!(lab.server(away).status().epoch_idx, Some(7));
    lab.observe(9, &[away]);
    lab.run(100);
    assert_eq!(lab.decided(9), ["a", "b", "in 2", "in 3", "in 4", "d"]);
}

#[test]
fn a_read_of_the_epoch_before_shows_what_is_decided_in_the_next_one() {
    let (mut lab, leader) = three();
    let reader = leader % 3 + 1;
    lab.server(leader).reconfigure(configuration(2, &[1, 2, 3]), None).unwrap();
    lab.request_read(reader).unwrap();
    lab.run(60);
    let ReadState::Ready(idx) = lab.read_state(reader) else {
        panic!("{:?}", lab.read_state(reader));
    };
    assert!(idx >= 2, "{idx}");
    lab.request_read(reader).unwrap();
    lab.append(reader, "c");
    lab.run(20);
    assert!(matches!(lab.read_state(reader), ReadState::Ready(3..)));
}

#[test]
fn a_log_of_one_configuration_goes_on_as_one_of_many() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.run(40);
    lab.append(1, "a");
    lab.run(20);
    lab.change_all(continues);
    (1..=3).for_each(|pid| lab.restart(pid));
    lab.run(60);
    let leader = lab.server(1).get_current_leader().unwrap();
    lab.server(leader).reconfigure(configuration(2, &[1, 2]), None).unwrap();
    lab.run(60);
    lab.append(3, "b");
    lab.run(40);
    lab.assert_decided_everywhere(&["a", "<stop>", "b"]);
}

#[test]
fn what_does_not_continue_says_so() {
    let cluster = configuration(1, &[1]);
    let with = |continues| ServerConfig { pid: 1, continues, ..Default::default() };
    let mut ends: OmniPaxos<Word, MemoryStorage<Word>> =
        cluster.clone().build_for_server(with(false), MemoryStorage::default()).unwrap();
    let refused = ends.change_members(configuration(2, &[1]), MemberChange::default());
    assert!(matches!(refused, Err(ReconfigurationErr::EndsHere(..))), "{refused:?}");
    let server: OmniPaxos<Word, MemoryStorage<Word>> =
        cluster.clone().build_for_server(with(true), MemoryStorage::default()).unwrap();
    let text = refusal(cluster.clone().build_for_server(with(false), server.into_storage()));
    assert!(text.contains("set ServerConfig::continues"), "{text}");
    let forgetful = Disk::default();
    forgetful.order(|orders| orders.keeps_no_epochs = true);
    let text = refusal(cluster.build_for_server(with(true), forgetful));
    assert!(text.contains("the storage keeps no epochs"), "{text}");
}

#[test]
fn a_first_member_must_be_named_and_an_observer_needs_servers_to_observe() {
    let server = ServerConfig { pid: 4, continues: true, ..Default::default() };
    let build = |config: OmniPaxosConfig| config.build(MemoryStorage::<Word>::default());
    let cluster_config = configuration(1, &[1, 2, 3]);
    let text = refusal(build(OmniPaxosConfig { cluster_config, server_config: server.clone() }));
    assert!(text.contains("pid 4 must be one of the nodes [1, 2, 3]"), "{text}");
    let text = refusal(build(OmniPaxosConfig::observe(server, &[])));
    assert!(text.contains("neither nodes nor observes"), "{text}");
}

/// A report of a later configuration does not take the vote of a member: the other members may be down.
#[test]
fn a_member_stays_one_whatever_is_reported_of_later_epochs() {
    let (mut lab, leader) = three();
    let reported = leader % 3 + 1;
    let joining = Joining { config_id: 99, decided_idx: None, cluster_name: 0 };
    let msg = PaxosMsg::Joining(joining);
    let message = Message::SequencePaxos(PaxosMessage { from: 77, to: reported, msg });
    lab.server(reported).handle_incoming(message);
    lab.server(leader).reconfigure(configuration(2, &[1, 2, 3]), None).unwrap();
    lab.run(60);
    assert_eq!(lab.server(reported).status().configuration_id, 2);
    assert!(lab.server(reported).status().role != Role::Observing);
    assert_eq!(lab.server(reported).status().may_stop, None);
    lab.isolate(reported % 3 + 1);
    lab.append(reported, "c");
    lab.run(100);
    assert_eq!(lab.decided(reported), ["a", "b", "<stop>", "c"]);
}

/// A server whose disk is lost, and that learns the log again under its id, has no vote in the first
/// epoch, also after a restart.
#[test]
fn nobody_joins_the_first_epoch() {
    let (mut lab, leader) = three();
    let lost = leader % 3 + 1;
    let others: Vec<u64> = (1..=3).filter(|pid| *pid != lost).collect();
    lab.crash(lost);
    lab.join(lost, &others);
    lab.run(60);
    let role = lab.server(lost).status().role;
    let decided = lab.decided(lost);
    lab.restart(lost);
    lab.run(60);
    assert_eq!((role, decided.len()), (Role::Observing, 2));
    assert_eq!(lab.server(lost).status().role, Role::Observing, "after a restart");
}

/// Its storage has its promise, so it is no new server.
#[test]
fn a_first_member_that_is_restarted_as_if_it_joined_stays_a_member() {
    let server = |pid| ServerConfig { pid, continues: true, ..Default::default() };
    let cluster = configuration(1, &[1, 2]);
    let build = |pid| {
        cluster.clone().build_for_server::<Word, _>(server(pid), MemoryStorage::default()).unwrap()
    };
    let mut servers = [build(1), build(2)];
    let pass = |servers: &mut [OmniPaxos<Word, MemoryStorage<Word>>; 2]| {
        let mut sent = Vec::new();
        for server in servers.iter_mut() {
            server.tick();
            server.take_outgoing_messages(&mut sent);
        }
        for message in sent {
            servers[message.get_receiver() as usize - 1].handle_incoming(message);
        }
    };
    (0..40).for_each(|_| pass(&mut servers));
    for pid in 1..=2 {
        let [one, two] = servers;
        let restart = |server: OmniPaxos<Word, MemoryStorage<Word>>| {
            let config =
                OmniPaxosConfig::observe(ServerConfig { pid, ..Default::default() }, &[3 - pid]);
            config.build(server.into_storage()).unwrap()
        };
        servers = match pid {
            1 => [restart(one), two],
            _both => [one, restart(two)],
        };
        (0..60).for_each(|_| pass(&mut servers));
        let roles = servers.each_ref().map(|server| server.status().role);
        assert!(!roles.contains(&Role::Observing) && roles.contains(&Role::Leading), "{roles:?}");
    }
}

#[test]
fn the_highest_configuration_id_is_refused_since_no_other_may_follow() {
    let server = ServerConfig { pid: 1, continues: true, ..Default::default() };
    let build = |id, server: &ServerConfig| {
        configuration(id, &[1])
            .build_for_server::<Word, _>(server.clone(), MemoryStorage::default())
    };
    let text = refusal(build(u32::MAX, &server));
    assert!(text.contains("configuration_id must be less than 4294967295"), "{text}");
    let mut replica = build(u32::MAX - 2, &server).unwrap();
    let change = |id| (configuration(id, &[1]), MemberChange::default());
    let (next, options) = change(u32::MAX);
    let refused = replica.change_members(next, options);
    assert!(matches!(refused, Err(ReconfigurationErr::Config(..))), "{refused:?}");
    let (next, options) = change(u32::MAX - 1);
    replica.change_members(next, options).unwrap();
    // A log that ends needs no next one.
    build(u32::MAX, &ServerConfig { continues: false, ..server }).unwrap();
}

/// In the way of 0.2.2 the servers of the next configuration start with it. They have a log of their own.
#[test]
fn servers_that_founded_the_next_configuration_do_not_join() {
    let (mut lab, leader) = three();
    let next = configuration(2, &[4, 5, 6]);
    for pid in 4..=6 {
        let server = ServerConfig { pid, continues: true, ..Default::default() };
        lab.start(next.clone().build_for_server(server, Disk::with_id(pid)).unwrap());
    }
    lab.run(40);
    let change = MemberChange { most_silent_rounds: 5, ..MemberChange::default() };
    lab.server(leader).change_members(next, change).unwrap();
    lab.run(100);
    assert_eq!(outcomes(&mut lab, leader), [Outcome::NotJoined(vec![4, 5, 6])]);
}

/// A server of another cluster may be started with the addresses of this one, by mistake.
#[test]
fn a_server_of_another_cluster_does_not_join() {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.continues = true;
        config.cluster_name = Some("orders".into());
    });
    lab.run(40);
    let leader = lab.server(1).get_current_leader().unwrap();
    for (pid, name) in [(4, Some("orders")), (5, Some("payments")), (6, None)] {
        let cluster_name = name.map(str::to_string);
        let server = ServerConfig { pid, cluster_name, ..Default::default() };
        let joins = OmniPaxosConfig::observe(server, &[1, 2, 3]);
        lab.start(joins.build(Disk::with_id(pid)).unwrap());
    }
    lab.append(leader, "an order");
    lab.run(40);
    let change = MemberChange { most_silent_rounds: 5, ..MemberChange::default() };
    lab.server(leader).change_members(configuration(2, &[1, 2, 3, 4, 5, 6]), change).unwrap();
    lab.run(200);
    assert_eq!(outcomes(&mut lab, leader), [Outcome::NotJoined(vec![5, 6])]);
    assert!(lab.server(5).dropped().of_other_configurations > 0, "it reports that");
    assert_eq!([4, 5, 6].map(|pid| lab.decided(pid).len()), [1, 0, 0], "nor does it learn the log");
    lab.server(leader)
        .change_members(configuration(2, &[1, 2, 3, 4]), MemberChange::default())
        .unwrap();
    lab.run(100);
    assert_eq!(lab.server(4).status().nodes, [1, 2, 3, 4]);
}

/// A server of another cluster, in a higher configuration, has the address of a server that joins, and perhaps the
/// id of a member. The new epoch needs the vote of that server.
#[test]
fn a_server_of_another_cluster_does_not_keep_a_server_from_joining() {
    for id in [Some(99), None] {
        let mut lab = Lab::with(&[1, 2, 3], |config| {
            config.continues = true;
            config.cluster_name = Some("orders".into());
        });
        lab.run(40);
        let leader = lab.server(1).get_current_leader().unwrap();
        let cluster_name = Some("orders".to_string());
        let server = ServerConfig { pid: 4, cluster_name, ..Default::default() };
        lab.start(OmniPaxosConfig::observe(server, &[1, 2, 3]).build(Disk::with_id(4)).unwrap());
        let pid = id.unwrap_or(leader);
        let cluster_name = Some("payments".to_string());
        let server = ServerConfig { pid, cluster_name, continues: true, ..Default::default() };
        let other_cluster = configuration(7, &[4, pid]);
        let mut stranger = other_cluster.build_for_server(server, Disk::with_id(99)).unwrap();
        let change = MemberChange::default();
        lab.server(leader).change_members(configuration(2, &[leader, 4]), change).unwrap();
        for _ in 0..100 {
            stranger.tick();
            for message in stranger.outgoing_messages() {
                lab.server(4).handle_incoming(message);
            }
            lab.run(1);
        }
        assert_eq!(lab.server(4).status().configuration_id, 2, "beside {pid}");
        assert_eq!(lab.server(4).higher_configuration(), None, "beside {pid}");
        lab.append(leader, "a");
        lab.run(40);
        assert_eq!(lab.decided(4).last().map(String::as_str), Some("a"), "beside {pid}");
    }
}

/// A server was started as a founder with other nodes, by mistake. The members that it names are in the
/// next epoch already.
#[test]
fn a_founder_with_other_nodes_learns_nothing_of_the_log() {
    let (mut lab, leader) = three();
    let change = MemberChange::default();
    lab.server(leader).change_members(configuration(2, &[1, 2, 3]), change).unwrap();
    lab.run(60);
    let server = ServerConfig { pid: 4, continues: true, ..Default::default() };
    let founder = configuration(1, &[1, 2, 4]).build_for_server(server, Disk::with_id(4));
    lab.start(founder.unwrap());
    lab.run(100);
    assert_eq!(lab.decided(4), [""; 0]);
    assert_eq!(lab.server(4).status().configuration_id, 1);
    assert!(lab.server(4).dropped().of_conflicting_configurations > 0);
}

/// A server that was removed while it was away, and whose entries were trimmed meanwhile.
#[test]
fn a_removed_server_reports_that_its_sources_have_trimmed() {
    let (mut lab, leader) = three();
    let removed = leader % 3 + 1;
    let stays: Vec<u64> = (1..=3).filter(|pid| *pid != removed).collect();
    lab.isolate(removed);
    lab.append(leader, "c");
    lab.server(leader).change_members(configuration(2, &stays), MemberChange::default()).unwrap();
    lab.run(60);
    lab.append(stays[0], "d");
    lab.run(40);
    let leader = lab.server(stays[0]).get_current_leader().unwrap();
    lab.server(leader).trim(None).unwrap();
    lab.run(40);
    lab.heal_all();
    lab.run(100);
    let events = lab.server(removed).take_events();
    let is_trimmed = |event: &Event| matches!(event, Event::TrimmedAtSource { .. });
    assert!(events.iter().any(is_trimmed), "{events:?} {:?}", lab.server(removed).status());
}

/// The leader is cut off with entries that no other server has, and is removed. The others decide other
/// ones at these indices, and trim them.
#[test]
fn a_removed_leader_does_not_take_its_own_entries_for_those_that_are_trimmed() {
    let (mut lab, leader) = three();
    let stays: Vec<u64> = (1..=3).filter(|pid| *pid != leader).collect();
    lab.isolate(leader);
    ["mine"; 9].iter().for_each(|word| lab.append(leader, word));
    lab.run(100);
    let next = configuration(2, &stays);
    lab.append(stays[0], "c");
    lab.server(stays[0]).change_members(next, MemberChange::default()).unwrap();
    lab.run(60);
    lab.append(stays[0], "d");
    lab.run(40);
    let successor = lab.server(stays[0]).get_current_leader().unwrap();
    lab.server(successor).trim(None).unwrap();
    lab.run(40);
    lab.heal_all();
    lab.run(100);
    assert_eq!(lab.decided(leader), ["a", "b"]);
    let events = lab.server(leader).take_events();
    let is_trimmed = |event: &Event| matches!(event, Event::TrimmedAtSource { .. });
    assert!(events.iter().any(is_trimmed), "{events:?}");
}

/// The leader is cut off with entries that no other server has. The others begin the next epoch, and a
/// snapshot that ends with the stop sign brings the leader there. Its entries belong to the epoch before.
#[test]
fn undecided_entries_do_not_pass_into_the_next_epoch() {
    let (mut lab, leader) = three();
    let other = leader % 3 + 1;
    lab.isolate(leader);
    ["mine"; 9].iter().for_each(|word| lab.append(leader, word));
    lab.run(100);
    let next = configuration(2, &[1, 2, 3]);
    lab.server(other).change_members(next, MemberChange::default()).unwrap();
    lab.run(60);
    for pid in (1..=3).filter(|pid| *pid != leader) {
        assert_eq!(lab.server(pid).status().configuration_id, 2, "at server {pid}");
        lab.server(pid).snapshot(None, true).unwrap();
        lab.run(1);
    }
    lab.heal_all();
    lab.run(100);
    lab.append(leader, "c");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "c"]);
}

/// An observer learns of members that have stopped, from a server that is none there. That server goes
/// on, and so does the observer.
#[test]
fn an_observer_does_not_forget_who_brought_it_to_an_epoch_that_is_over() {
    let (mut lab, leader) = three();
    let change = |lab: &mut Lab, at: u64, id: u32, nodes: &[u64]| {
        lab.server(at).change_members(configuration(id, nodes), MemberChange::default()).unwrap();
        lab.run(100);
    };
    let source = leader % 3 + 1;
    let gone = source % 3 + 1;
    lab.join(4, &[leader]);
    lab.join(5, &[gone]);
    lab.run(60);
    lab.isolate(5);
    change(&mut lab, leader, 2, &[4]);
    lab.isolate(source);
    change(&mut lab, 4, 3, &[leader]);
    lab.crash(4);
    lab.crash(gone);
    lab.cut_all_but(&[(source, 5)]);
    lab.run(60);
    assert_eq!(lab.server(5).status().configuration_id, 2);
    lab.heal_all();
    lab.cut(leader, 5);
    lab.run(300);
    assert_eq!(lab.server(source).status().configuration_id, 3);
    assert_eq!(lab.server(5).status().configuration_id, 3);
}

/// A server lost its disk, and learns the log from a member that does not know yet that its configuration is over.
/// A vote there might contradict one that this server gave before.
#[test]
fn no_server_joins_in_an_epoch_that_is_over() {
    let (mut lab, leader) = three();
    let (behind, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let change = |lab: &mut Lab, next: ClusterConfig| {
        lab.server(leader).change_members(next, MemberChange::default()).unwrap();
        lab.run(100);
    };
    lab.omit_disk_ids();
    [4, 5].iter().for_each(|pid| lab.join(*pid, &[leader]));
    change(&mut lab, configuration(2, &[1, 2, 3, 4, 5]));
    lab.crash(4);
    lab.isolate(behind);
    change(&mut lab, configuration(3, &[1, 2, 3, 5]));
    lab.heal_all();
    [leader, other, 5].iter().for_each(|pid| lab.cut(behind, *pid));
    [other, 5].iter().for_each(|pid| lab.cut(4, *pid));
    lab.cut_one_way(4, leader);
    lab.cut(4, behind);
    lab.join(4, &[behind]);
    lab.run(40);
    lab.heal(4, behind);
    lab.run(100);
    let status = lab.server(4).status();
    assert_eq!((status.configuration_id, status.role), (2, Role::Observing));
    lab.heal_all();
    lab.run(100);
    for pid in [4, behind] {
        assert_eq!(lab.server(pid).status().configuration_id, 3, "at server {pid}");
    }
}

/// Why a replica is not built.
fn refusal<B: Storage<Word>>(built: Result<OmniPaxos<Word, B>, ConfigError>) -> String {
    match built {
        Err(ConfigError::InvalidConfig(text)) => text,
        Ok(_) | Err(_) => panic!("it is built"),
    }
}

/// The number of records of the log, stop signs included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counted(u64);

#[derive(Clone, Debug, Entry)]
#[snapshot(Counted)]
struct Unit;

impl Snapshot<Unit> for Counted {
    fn create(_: &[Unit]) -> Self {
        unreachable!("can_create() is false")
    }
    fn merge(&mut self, _: Self) {
        unreachable!("can_create() is false")
    }
    fn use_snapshots() -> bool {
        true
    }
    fn can_create() -> bool {
        false
    }
}

/// Until the next epoch begins, a snapshot stands for no stop sign: the state would count it, and a server
/// that got the snapshot would count it once more.
#[test]
fn a_state_that_contains_the_stop_sign_is_no_snapshot_before_the_next_epoch() {
    let cluster = configuration(1, &[1, 2]);
    let server =
        |pid| omnipaxos_harness::build(&cluster, pid, continues, MemoryStorage::<Unit>::default());
    let (mut one, mut two) = (server(1), server(2));
    one.append(Unit).unwrap();
    let exchange = |one: &mut OmniPaxos<_, _>, two: &mut OmniPaxos<Unit, MemoryStorage<Unit>>| {
        one.tick();
        two.tick();
        two.outgoing_messages().into_iter().for_each(|message| one.handle_incoming(message));
        one.outgoing_messages().into_iter().for_each(|message| two.handle_incoming(message));
    };
    while one.get_decided_idx() < 1 {
        exchange(&mut one, &mut two);
    }
    one.reconfigure(configuration(2, &[1, 2]), None).unwrap();
    while two.get_decided_idx() < 2 {
        exchange(&mut one, &mut two);
    }
    assert!(matches!(two.read(1), Some(LogEntry::StopSign(_, true))));
    let undecided = TryCompactionErr::Refused(CompactionErr::UndecidedIndex(1));
    assert_eq!(
        two.compact_with(2, Counted(2)),
        Err(undecided),
        "server 2 knows the stop sign only"
    );
    two.outgoing_messages();
    two.compact_with(2, Counted(2)).unwrap();
    assert_eq!(two.get_compacted_idx(), 2);
}
