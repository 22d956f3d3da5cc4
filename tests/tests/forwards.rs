//! Proposals that are forwarded, and passed on.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::TryProposeErr,
    events::Event,
    identity::Stamp,
    macros::Entry,
    messages::{
        sequence_paxos::{ForwardedProposals, PaxosMessage, PaxosMsg},
        Message,
    },
    proposals::{Outcome, ProposalId},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::lab::{self, Lab, Pick};

#[derive(Clone, Debug, PartialEq, Entry)]
struct Word(String);

type Server = OmniPaxos<Word, MemoryStorage<Word>>;

/// Three servers that follow one of them.
fn servers() -> Vec<Server> {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let server = |pid| ServerConfig { pid, ..Default::default() };
    let mut servers: Vec<Server> = (1..=3)
        .map(|pid| cluster.clone().build_for_server(server(pid), MemoryStorage::default()).unwrap())
        .collect();
    for _ in 0..50 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        deliver(&mut servers);
    }
    servers
}

fn deliver(servers: &mut [Server]) {
    loop {
        let messages: Vec<_> = servers.iter_mut().flat_map(OmniPaxos::outgoing_messages).collect();
        if messages.is_empty() {
            return;
        }
        for message in messages {
            servers[message.get_receiver() as usize - 1].handle_incoming(message);
        }
    }
}

fn forwards(messages: Vec<Message<Word>>) -> Vec<PaxosMsg<Word>> {
    let forward = |message| match message {
        Message::SequencePaxos(PaxosMessage { msg, .. }) => match msg {
            PaxosMsg::ProposalForward(_) | PaxosMsg::ForwardedProposals(_) => Some(msg),
            _other => None,
        },
        Message::BLE(_) => None,
    };
    messages.into_iter().filter_map(forward).collect()
}

#[test]
fn a_forward_travels_plainly_and_then_with_its_ids() {
    let mut servers = servers();
    let leader = servers[0].get_current_leader().unwrap();
    let follower = leader % 3 + 1;
    let origin = &mut servers[follower as usize - 1];
    origin.append(Word("a".into())).unwrap();
    let sent = forwards(origin.outgoing_messages());
    assert!(matches!(&sent[..], [PaxosMsg::ProposalForward(words)] if words.len() == 1));
    // It is lost, and the text comes again.
    origin.append(Word("a".into())).unwrap();
    let sent = forwards(origin.outgoing_messages());
    assert!(
        matches!(&sent[..], [PaxosMsg::ForwardedProposals(forwarded)] if forwarded.entries.len() == 1)
    );
    for _ in 0..100 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        deliver(&mut servers);
    }
    for server in &servers {
        assert_eq!(server.get_decided_idx(), 2, "each once");
    }
}

/// A restarted server that cannot name its incarnation gives no ids. It forwards each entry once.
#[test]
fn without_a_count_of_incarnations_entries_are_forwarded_once() {
    let word = |word: &str| lab::Word(word.into());
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab.disk(2).order(|orders| orders.counts_no_incarnations = true);
    lab.append(2, "a");
    lab.settle();
    lab.crash(2);
    lab.restart(2);
    lab.run(30);
    let refused = lab.server(2).propose(word("b"));
    assert!(matches!(refused, Err(TryProposeErr::NoIncarnation(back)) if back == word("b")));
    for word in ["a", "b", "b"] {
        lab.append(2, word);
        lab.settle();
    }
    lab.assert_decided_everywhere(&["a", "a", "b", "b"]);
    lab.drop_next(Pick::of(2, 1, "ForwardedProposals"), 1);
    lab.append(2, "lost");
    lab.run(100);
    lab.assert_decided_everywhere(&["a", "a", "b", "b"]);
    lab.server(1).propose(word("c")).expect("it was not restarted");
}

/// Where a leader that was overtaken took it, a later one could not rely on the ballot of the
/// forward to tell that the proposal is in no log whose ids are not known.
#[test]
fn an_forward_goes_to_no_leader_of_an_earlier_ballot() {
    let mut servers = servers();
    let leader = servers[0].get_current_leader().unwrap();
    let follower = leader % 3 + 1;
    let promise = servers[leader as usize - 1].get_promise();
    for (n, decided) in [(promise.n + 1, 0), (promise.n, 1)] {
        let first = ProposalId { origin: follower, incarnation: 7, number: 1 };
        let first_ballot = Ballot { n, ..promise };
        let forwarded = ForwardedProposals {
            first,
            first_ballot,
            min_idx: 0,
            entries: vec![Word("a".into())],
            stamp: Stamp::default(),
            hops: 0,
        };
        let msg = PaxosMsg::ForwardedProposals(Box::new(forwarded));
        let message = PaxosMessage { from: follower, to: leader, msg };
        servers[leader as usize - 1].handle_incoming(Message::SequencePaxos(message));
        deliver(&mut servers);
        for server in &servers {
            assert_eq!(server.get_decided_idx(), decided, "forwarded in ballot {n}");
        }
    }
}

/// A server learns what is decided in ballots above its promise. So when it was restarted, what it
/// had stored may hold a proposal of such a ballot, and its promise proves nothing of that.
#[test]
fn a_restarted_leader_trusts_only_what_is_forwarded_first_in_its_own_ballot() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab.append(1, "a");
    lab.run(30);
    lab.crash(1);
    lab.restart(1);
    let stored = lab.server(1).get_promise();
    lab.run(30);
    lab.elect(2);
    lab.elect(1);
    let n = lab.server(1).get_promise();
    let between = Ballot { n: stored.n + 1, pid: 2, ..stored };
    assert!(stored < between && between < n);
    for (first_ballot, min_idx, expected) in
        [(between, 0, vec!["a"]), (n, 0, vec!["a", "b"]), (between, 1, vec!["a", "b", "b"])]
    {
        let number = min_idx + u64::from(first_ballot.n);
        let first = ProposalId { origin: 2, incarnation: 9, number };
        let entries = vec![lab::Word("b".into())];
        let forwarded = Box::new(ForwardedProposals {
            first,
            first_ballot,
            min_idx,
            entries,
            stamp: Stamp::default(),
            hops: 0,
        });
        let message = PaxosMessage { from: 2, to: 1, msg: PaxosMsg::ForwardedProposals(forwarded) };
        lab.inject(Message::SequencePaxos(message));
        lab.settle();
        assert_eq!(
            lab.decided(1),
            expected,
            "first forwarded in {first_ballot:?}, not before {min_idx}"
        );
    }
    assert_eq!(lab.sent("ProposalRejection"), 1, "of the first it cannot tell");
}

/// Builds a follower again, on an empty storage. Returns its position.
fn replace_follower(servers: &mut [Server]) -> usize {
    let leader = servers[0].get_current_leader().unwrap();
    let follower = (leader % 3 + 1) as usize - 1;
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let config = ServerConfig { pid: follower as u64 + 1, ..Default::default() };
    servers[follower] = cluster.build_for_server(config, MemoryStorage::default()).unwrap();
    follower
}

fn run(servers: &mut [Server], ticks: usize) {
    for _ in 0..ticks {
        servers.iter_mut().for_each(OmniPaxos::tick);
        deliver(servers);
    }
}

/// It may have had a predecessor. What that has forwarded is in its log once it is in step.
#[test]
fn a_server_on_a_fresh_storage_is_not_taken_for_its_predecessor() {
    for (waits, before_restart) in [(0, 1), (100, 1), (0, 3), (100, 3)] {
        let mut servers = servers();
        let word = || Word("a".into());
        let mut incarnations = 0;
        for times in [before_restart, 2, 2] {
            let follower = match incarnations {
                0 => (servers[0].get_current_leader().unwrap() % 3) as usize,
                _ => replace_follower(&mut servers),
            };
            incarnations += 1;
            run(&mut servers, waits);
            for _ in 0..times {
                servers[follower].append(word()).unwrap();
                deliver(&mut servers);
            }
            run(&mut servers, 100);
            if incarnations > 1 && waits > 0 {
                let id = servers[follower].propose(word()).unwrap();
                run(&mut servers, 100);
                let idx = servers[follower].get_decided_idx() - 1;
                let ended = Event::ProposalEnded { id, outcome: Outcome::Decided(idx) };
                assert!(servers[follower].take_events().contains(&ended), "{incarnations}");
            }
        }
        let decided = before_restart + 4 + if waits > 0 { 2 } else { 0 };
        for server in &servers {
            assert_eq!(server.get_decided_idx(), decided, "{waits} {before_restart}");
        }
    }
}

/// A refusal that comes twice is one refusal, also where nothing is kept to be offered again.
#[test]
fn a_refusal_that_comes_twice_counts_once() {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.max_entry_bytes = Some(if config.pid == 1 { 1 } else { 1000 });
    });
    lab.elect(1);
    lab.disk(2).order(|orders| orders.counts_no_incarnations = true);
    lab.crash(2);
    lab.restart(2);
    lab.run(30);
    for (word, refused) in [("a", 1), ("a", 2), ("b", 3)] {
        lab.append(2, word);
        lab.drain();
        while lab.in_flight().next().is_some() {
            let doubled = |message: &&Message<lab::Word>| {
                ["ForwardedProposals", "ProposalRejection"].contains(&lab::kind(*message))
            };
            let copies: Vec<_> = lab.in_flight().filter(doubled).cloned().collect();
            lab.deliver();
            if lab.sent("ProposalRejection") < 100 {
                for copy in copies {
                    let link = (copy.get_sender(), copy.get_receiver());
                    lab.server(link.1).handle_incoming(copy);
                }
                lab.drain();
            }
        }
        assert_eq!(lab.server(2).dropped().unstorable, refused, "{word}");
    }
}
