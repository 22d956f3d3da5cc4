//! What one server sends and reports, and what the heartbeats of the others change.

use super::{
    super::{Ballot, BallotLeaderElection, Peer, Preempted},
    ask, ballot, reply, round, server, NONE,
};
use crate::{
    config::{ClusterConfig, OmniPaxosConfig, ServerConfig},
    messages::ballot_leader_election::{HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
};

/// The messages that are due: `request to 2`, or `reply to 2`. The server is silent if there are none.
fn sent(ble: &mut BallotLeaderElection) -> Vec<String> {
    let is_silent = ble.is_silent();
    let mut sent = Vec::new();
    ble.build_messages(|message| {
        let name = match message.msg {
            HeartbeatMsg::Request(_) => "request",
            HeartbeatMsg::Reply(_) => "reply",
        };
        sent.push(format!("{name} to {}", message.to));
    });
    assert_eq!(is_silent, sent.is_empty(), "{sent:?}");
    sent
}

#[test]
fn requests_and_replies() {
    let mut ble = server(1, 3, NONE);
    assert_eq!(sent(&mut ble), ["request to 2", "request to 3"]);
    assert!(sent(&mut ble).is_empty(), "once a round");
    ask(&mut ble, 2, true, false);
    assert_eq!(sent(&mut ble), ["request to 2", "reply to 2"], "it may have missed the first");
    ask(&mut ble, 2, true, false);
    assert_eq!(sent(&mut ble), ["reply to 2"], "once a round and peer");
    ble.handle_observer(9, 4);
    assert_eq!(sent(&mut ble), ["reply to 9"]);
    round(&mut ble, &[]);
    ask(&mut ble, 3, true, false);
    let all = ["request to 2", "request to 3", "reply to 3"];
    assert_eq!(sent(&mut ble), all, "no double request to a peer that asked before");
    ask(&mut ble, 3, true, false);
    assert_eq!(sent(&mut ble), ["reply to 3"]);
    round(&mut ble, &[(2, NONE, false)]);
    assert_eq!(ble.leader(), ballot(1, 1));
    assert_eq!(sent(&mut ble), ["request to 2", "request to 3"]);
    ble.resign();
    assert_eq!(
        sent(&mut ble),
        ["request to 2", "request to 3"],
        "an unhappy server reports changes"
    );
    assert!(sent(&mut ble).is_empty(), "once each");
}

#[test]
fn a_peer_whose_request_may_be_lost_is_asked_again() {
    let leader = ballot(4, 3);
    for (has_leader, is_long, answered_before, answers, is_asked_again) in [
        (false, false, false, false, true),
        (false, false, true, false, false),
        (false, false, false, true, false),
        (false, false, true, true, false),
        (true, false, false, false, false),
        (true, false, true, true, false),
        (false, true, true, false, true),
        (true, true, true, false, true),
        (true, true, true, true, false),
        (false, true, false, true, false),
    ] {
        let mut ble = server(1, 5, NONE);
        if has_leader {
            ble.follow(leader);
        }
        (0..2).for_each(|_| round(&mut ble, &[]));
        if answered_before {
            reply(&mut ble, 2, NONE, false);
        }
        if is_long {
            ble.pace.note_late_reply(1);
        }
        round(&mut ble, &[]);
        assert_eq!(ble.pace.is_lengthened(), is_long);
        sent(&mut ble);
        if answers {
            reply(&mut ble, 2, NONE, false);
        }
        ask(&mut ble, 2, true, false);
        let found = sent(&mut ble).contains(&"request to 2".to_string());
        let given = (has_leader, is_long, answered_before, answers);
        assert_eq!(found, is_asked_again, "{given:?}");
    }
}

/// The election of server 2 of three in one epoch, and of the next epoch: rounds of four ticks.
fn two_epochs() -> [BallotLeaderElection; 2] {
    [1, 2].map(|configuration_id| {
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id,
                nodes: vec![1, 2, 3],
                flexible_quorum: None,
            },
            server_config: ServerConfig { pid: 2, election_tick_timeout: 4, ..Default::default() },
        };
        BallotLeaderElection::new(&config, config.membership().into(), NONE, u64::MAX)
    })
}

fn pass(ble: &mut BallotLeaderElection, ticks: u64) {
    for _ in 0..ticks {
        ble.tick(|_, _| true);
    }
}

#[test]
fn a_server_that_keeps_its_cadence_sends_the_first_request_when_the_next_one_was_due() {
    for elapsed in 0..4 {
        let [mut earlier, mut next] = two_epochs();
        sent(&mut earlier);
        pass(&mut earlier, elapsed);
        next.keep_cadence(&earlier);
        ask(&mut next, 1, true, false);
        assert_eq!(sent(&mut next), ["reply to 1"], "it asks all of them later");
        for tick in elapsed + 1..=4 {
            assert_eq!(next.next_timeout(), 5 - tick);
            let mut at_once = next.clone();
            at_once.pass(4 - tick);
            assert_eq!(at_once.next_timeout(), 1);
            assert!(sent(&mut next).is_empty());
            pass(&mut next, 1);
        }
        assert_eq!(sent(&mut next), ["request to 1", "request to 3"]);
        assert_eq!((next.round, next.next_timeout()), (1, 4), "then the round begins");
    }
}

#[test]
fn a_request_that_was_due_in_the_epoch_before_is_sent_at_once() {
    let [earlier, mut next] = two_epochs();
    next.keep_cadence(&earlier);
    assert_eq!(sent(&mut next), ["request to 1", "request to 3"]);
}

#[test]
fn a_server_that_keeps_its_cadence_reports_when_it_loses_its_leader() {
    let [mut earlier, mut next] = two_epochs();
    sent(&mut earlier);
    next.keep_cadence(&earlier);
    next.set_priority(7);
    assert_eq!(sent(&mut next), ["request to 1", "request to 3"], "it is unhappy, and has changed");
}

#[test]
fn peers_that_answered_in_the_epoch_before_are_not_back() {
    let [mut earlier, mut next] = two_epochs();
    reply(&mut earlier, 1, NONE, false);
    pass(&mut earlier, 4);
    sent(&mut earlier);
    let mut fresh = next.clone();
    next.keep_cadence(&earlier);
    assert!(!next.answered(1), "it has not begun this epoch, as far as this server knows");
    assert!(next.answered_lately(1) && !next.answered_lately(3));
    let in_epoch = |from| {
        let ballot = Ballot::with(2, 0, 0, from);
        HeartbeatMsg::Reply(HeartbeatReply { round: 1, ballot, leader: NONE, happy: false })
    };
    assert_eq!(next.handle(1, in_epoch(1)), Peer::Answers);
    assert_eq!(next.handle(3, in_epoch(3)), Peer::Back);
    assert_eq!(fresh.handle(1, in_epoch(1)), Peer::Back);
    pass(&mut next, 2 * 4);
    assert!(next.answered(1));
    pass(&mut next, 4);
    assert!(!next.answered_lately(1), "it did not answer the last round");
}

#[test]
fn happy_with_the_leader_that_says_so_itself() {
    let leader = ballot(4, 3);
    for (from, happy) in [(3, true), (2, false)] {
        let mut ble = server(1, 5, NONE);
        reply(&mut ble, from, leader, true);
        assert_eq!((ble.leader(), ble.is_happy()), (leader, happy), "{from} reports it");
    }
}

#[test]
fn only_the_leader_makes_a_follower_unhappy() {
    let leader = ballot(4, 3);
    for (from, reports, is_new, happy) in [
        (3, leader, false, false),
        (2, leader, false, true),
        (3, leader, true, true),
        (3, ballot(3, 3), false, false),
    ] {
        for by_request in [false, true] {
            let mut ble = server(1, 5, NONE);
            ble.follow(leader);
            ble.is_leader_new = is_new;
            if by_request {
                reply(&mut ble, from, leader, true);
                ask(&mut ble, from, true, false);
            } else {
                reply(&mut ble, from, reports, false);
            }
            assert_eq!(ble.is_happy(), happy, "{from}, {reports:?}, {is_new}, {by_request}");
        }
    }
}

#[test]
fn a_leader_is_preempted_by_a_higher_ballot_only() {
    let own = ballot(1, 1);
    for (leads, reported, expected) in [
        (true, own, Preempted::No),
        (true, NONE, Preempted::No),
        (true, ballot(5, 3), Preempted::Lately),
        (false, ballot(5, 3), Preempted::No),
    ] {
        let mut ble = server(1, 5, NONE);
        if leads {
            ble.take_over();
        } else {
            ble.follow(ballot(4, 3));
        }
        reply(&mut ble, 2, reported, false);
        assert_eq!(ble.preempted, expected, "{leads}, {reported:?}");
    }
}

#[test]
fn a_server_that_hears_of_a_quorum_can_be_elected() {
    let electable = |ble: &BallotLeaderElection| match ble.request(2).msg {
        HeartbeatMsg::Request(request) => request.electable,
        HeartbeatMsg::Reply(_) => panic!("a request was built"),
    };
    let mut ble = server(1, 3, NONE);
    assert!(electable(&ble), "in the first round");
    for (heard, expected, later) in [(true, true, true), (false, true, false), (true, true, true)] {
        if heard {
            ask(&mut ble, 2, true, true);
        }
        assert_eq!(electable(&ble), expected);
        round(&mut ble, &[]);
        assert_eq!(electable(&ble), later);
    }
    ble.rest(2);
    assert!(!electable(&ble), "it lets others go first");
}

#[test]
fn what_replication_is_told() {
    let mut ble = server(1, 3, ballot(2, 3));
    assert_eq!((ble.promised(), ble.highest_n()), (ballot(2, 3), 2));
    for (leader, promise, is_settled) in [
        (ballot(4, 3), ballot(4, 3), true),
        (ballot(5, 2), ballot(4, 3), false),
        (ballot(5, 2), ballot(5, 2), true),
    ] {
        ble.follow(leader);
        ble.promise(promise);
        assert_eq!(ble.is_settled_on(promise), is_settled, "{leader:?} {promise:?}");
        assert!(!ble.is_settled_on(ballot(3, 2)));
        assert_eq!((ble.promised(), ble.highest_n()), (promise, leader.n));
    }
    assert!(!ble.is_settled_on(ballot(4, 3)) && ble.is_settled_on(ballot(5, 2)));
    ble.take_over();
    assert!(!ble.is_settled_on(ballot(5, 2)), "it leads, and has not promised that");
    assert!(!ble.is_settled_on(ballot(6, 1)));
    ble.set_priority(7);
    assert_eq!((ble.priority(), ble.ballot()), (7, ballot(6, 1)), "of the next takeover");
    ble.take_over();
    assert_eq!(ble.ballot(), Ballot::with(1, 7, 7, 1));
    ble.happy = false;
    ble.follow(ble.leader());
    assert!(!ble.is_happy(), "it followed that already");
}

#[test]
fn the_last_reply_of_a_peer() {
    let mut ble = server(1, 3, NONE);
    assert_eq!(ble.last_reply(2), None);
    round(&mut ble, &[(2, NONE, true)]);
    let reply = HeartbeatReply { round: 1, ballot: ballot(0, 2), leader: NONE, happy: true };
    assert_eq!((ble.last_reply(2), ble.last_reply(3)), (Some(reply), None));
    ble.handle(2, HeartbeatMsg::Reply(reply));
    round(&mut ble, &[]);
    assert_eq!(ble.last_reply(2), Some(reply), "a late one");
}

#[test]
fn a_request_of_the_user_is_granted_once_in_as_many_rounds_as_there_are_servers() {
    let mut asked = server(1, 3, NONE);
    let mut numbers = Vec::new();
    for _ in 0..6 {
        asked.follow(Ballot::with(1, asked.highest_n() + 1, 0, 3));
        asked.promise(asked.leader());
        asked.be_asked_to_lead();
        numbers.push(asked.leader().pid);
        let leader = asked.leader();
        round(&mut asked, &[(2, leader, true), (3, leader, true)]);
        numbers.push(asked.leader().pid);
    }
    assert_eq!(numbers, [1, 1, 3, 3, 3, 1, 3, 3, 3, 3, 3, 1], "with the call, or with a round");
    let mut served = server(1, 3, NONE);
    served.be_asked_to_lead();
    served.promise(ballot(1, 1));
    served.be_asked_to_lead();
    served.follow(ballot(2, 3));
    (0..6).for_each(|_| round(&mut served, &[(3, ballot(2, 3), true)]));
    assert_eq!(served.leader(), ballot(2, 3), "it led when the user asked");
}

#[test]
fn a_transfer_needs_a_quorum_in_the_last_round() {
    for (answers, n) in [(vec![], 0), (vec![2], 1), (vec![2, 3], 1)] {
        let mut ble = server(1, 3, NONE);
        let leader = ballot(0, 3);
        let replies: Vec<_> = answers.iter().map(|pid| (*pid, leader, true)).collect();
        round(&mut ble, &replies);
        ble.take_over_on_transfer();
        assert_eq!(ble.leader().n, n, "{answers:?}");
    }
}

#[test]
fn waits_no_second_time_for_a_better_server() {
    let mut second = server(2, 3, NONE);
    round(&mut second, &[(3, NONE, false)]);
    round(&mut second, &[(3, NONE, false)]);
    assert_eq!((second.leader(), second.insists), (ballot(1, 2), 7), "3 had its time");
    second.follow(ballot(2, 1));
    second.is_leader_new = false;
    second.happy = false;
    round(&mut second, &[(3, NONE, false)]);
    assert_eq!(second.leader(), ballot(3, 2), "at once");
}

#[test]
fn a_leader_that_is_overtaken_in_vain_rests() {
    // It reaches server 3 in each of six rounds but one.
    let leaders = |has_decided: bool, always_but: usize| -> Vec<u64> {
        let mut first = server(1, 3, NONE);
        (0..20).for_each(|_| round(&mut first, &[]));
        first.take_over();
        if has_decided {
            first.note_success(first.ballot());
        }
        first.follow(ballot(2, 2));
        let mut pass = |nth: usize| {
            let reply = [(3, NONE, false)];
            round(&mut first, if nth == always_but { &[] } else { &reply });
            first.leader().pid
        };
        (0..6).map(&mut pass).collect()
    };
    assert_eq!(leaders(true, 2), [2, 1, 1, 1, 1, 1]);
    assert_eq!(leaders(false, 2), [2, 2, 2, 2, 2, 1], "then a steady server comes first");
    assert_eq!(leaders(false, 9), [2, 2, 1, 1, 1, 1], "it has a quorum for long enough");
}

#[test]
fn a_happy_reply_within_a_round_does_not_end_the_wait() {
    let mut second = server(2, 3, NONE);
    round(&mut second, &[(3, NONE, false)]);
    assert_eq!((second.yields_until, second.insists), (Some(2), 0));
    reply(&mut second, 3, NONE, true);
    assert_eq!((second.yields_until, second.insists), (Some(2), 0));
    round(&mut second, &[]);
    assert_eq!((second.yields_until, second.insists), (None, 7), "the end of the round does");
}

#[test]
fn a_recovery_counts_in_a_long_round_and_for_the_leader_only() {
    let leader = ballot(4, 3);
    for (is_long, from, is_new, reported, happy) in [
        (true, 3, false, leader, true),
        (false, 3, false, leader, false),
        (true, 2, false, leader, false),
        (true, 3, true, leader, false),
        (true, 3, false, ballot(3, 3), false),
    ] {
        let mut ble = server(1, 5, NONE);
        ble.follow(leader);
        (0..2).for_each(|_| round(&mut ble, &[]));
        if is_long {
            ble.pace.note_late_reply(1);
        }
        round(&mut ble, &[]);
        reply(&mut ble, from, leader, false);
        ble.is_leader_new = is_new;
        let HeartbeatMsg::Request(request) = ble.request(from).msg else {
            panic!("a request was built");
        };
        let request = HeartbeatRequest { leader: reported, happy: true, ..request };
        ble.handle(from, HeartbeatMsg::Request(request));
        let given = (is_long, from, is_new, reported);
        assert_eq!(ble.is_happy(), happy, "{given:?}");
        let is_counted = ble.replies[&from].happy;
        assert_eq!(is_counted, is_long && from == 3 && !is_new, "{given:?}");
    }
}

#[test]
fn a_server_that_names_its_own_leader_is_contradicted_by_it() {
    let (leader, other) = (ballot(4, 3), ballot(5, 2));
    for (reply_of_the_leader, is_contradicted) in [
        ((leader, true), false),
        ((leader, false), true),
        ((other, true), true),
        ((other, false), true),
    ] {
        let mut ble = server(1, 3, NONE);
        reply(&mut ble, 3, reply_of_the_leader.0, reply_of_the_leader.1);
        reply(&mut ble, 2, leader, true);
        ble.note_contradicted();
        assert_eq!(ble.refuted.contains(&2), is_contradicted, "{reply_of_the_leader:?}");
    }
}

/// Observer 9 of the servers 1 to 3, which asks the observers 7 and 8.
fn observer() -> BallotLeaderElection {
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: vec![1, 2, 3],
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid: 9,
            election_tick_timeout: 1,
            observes: vec![7, 8],
            ..Default::default()
        },
    };
    BallotLeaderElection::new(&config, config.membership().into(), NONE, u64::MAX)
}

#[test]
fn an_observer_that_is_asked_to_lead_does_not() {
    let mut ble = observer();
    ble.be_asked_to_lead();
    round(&mut ble, &[]);
    assert_eq!(ble.leader(), NONE);
}

#[test]
fn the_route_of_an_observer_to_the_leader() {
    let leader = ballot(4, 3);
    for (of_7, of_8, relay, own, happy) in [
        (0, 1, Some(7), 1, true),
        (2, 1, Some(8), 2, true),
        (3, 3, Some(7), 4, true),
        (7, 8, Some(7), 8, false),
        (8, 6, Some(8), 7, true),
        (8, 8, None, 8, false),
        (8, 9, None, 8, false),
    ] {
        let mut ble = observer();
        ble.follow(leader);
        for _ in 0..4 {
            for (from, way) in [(7, of_7), (8, of_8)] {
                let ballot = Ballot { priority: way, ..Ballot::with(1, 0, 0, from) };
                let reply = HeartbeatReply { round: ble.round, ballot, leader, happy: true };
                ble.handle(from, HeartbeatMsg::Reply(reply));
            }
            ble.tick(|_, _| false);
        }
        assert_eq!(ble.relay(), relay, "{of_7} {of_8}");
        let reply = ble.reply_to_observer(5);
        assert_eq!((reply.round, reply.leader), (5, leader));
        assert_eq!((reply.ballot.priority, reply.happy), (own, happy), "{of_7} {of_8}");
        ble.note_lack_of_entries(true);
        let reply = ble.reply_to_observer(5);
        assert_eq!((reply.ballot.priority, reply.happy), (8, false), "it lacks entries");
    }
}

/// It cannot know whether the clock of a source stands still. Such a source may send to a leader that it does not reach.
#[test]
fn an_observer_at_which_nothing_moves_takes_relays_in_turn() {
    let leader = ballot(4, 3);
    let mut ble = observer();
    ble.follow(leader);
    let mut pass = |rounds: usize, is_stalled: bool| {
        let mut relays: Vec<_> = (0..rounds)
            .map(|_| {
                let answers = [1, 2].map(|peer| (peer, leader, true));
                round(&mut ble, &answers);
                if is_stalled {
                    ble.note_stall();
                }
                ble.relay()
            })
            .collect();
        relays.dedup();
        relays
    };
    assert_eq!(pass(6, false), [None, Some(1)]);
    assert_eq!(pass(9, true), [Some(1), Some(2), Some(1)]);
    assert_eq!(pass(3, true), [Some(1), Some(2)]);
    assert_eq!(pass(20, false), [Some(2)], "things move");
}

#[test]
fn what_a_member_replies_to_an_observer() {
    let leader = ballot(4, 3);
    let mut ble = server(1, 3, NONE);
    assert!(!ble.reply_to_observer(1).happy, "no route");
    ble.follow(leader);
    assert!(ble.reply_to_observer(1).happy, "the leader answers");
    (0..4).for_each(|_| round(&mut ble, &[(2, leader, true)]));
    assert_eq!((ble.is_happy(), ble.relay()), (false, Some(2)));
    let reply = ble.reply_to_observer(1);
    assert_eq!((reply.ballot, reply.happy), (ble.ballot(), true), "through 2");
    ble.take_over();
    (0..4).for_each(|_| round(&mut ble, &[(2, ballot(5, 1), true)]));
    assert_eq!((ble.is_happy(), ble.relay()), (true, None), "a leader needs no relay");
}
