//! One server at a time, with the heartbeats of the others made by hand.

use super::{Ballot, BallotLeaderElection, Peer};
use crate::{
    config::{ClusterConfig, OmniPaxosConfig, ServerConfig},
    messages::ballot_leader_election::{HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
};

/// Server 1 is the best, by its priority.
fn server(pid: u64, n: u64, promise: Ballot) -> BallotLeaderElection {
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: (1..=n).collect(),
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid,
            election_tick_timeout: 1,
            leader_priority: u32::from(pid == 1),
            ..Default::default()
        },
    };
    BallotLeaderElection::new(&config, config.membership().into(), promise, u64::MAX)
}

fn round(ble: &mut BallotLeaderElection, replies: &[(u64, Ballot, bool)]) {
    for (from, leader, happy) in replies {
        hear(ble, *from, *leader, *happy);
    }
    ble.tick(|quorum, servers| quorum.can_accept(servers));
}

fn hear(ble: &mut BallotLeaderElection, from: u64, leader: Ballot, happy: bool) -> Peer {
    let ballot = Ballot::with(1, 0, 0, from);
    let reply = HeartbeatReply { round: ble.round, ballot, leader, happy };
    ble.handle(from, HeartbeatMsg::Reply(reply))
}

const NONE: Ballot = Ballot { config_id: 0, n: 0, priority: 0, pid: 0 };

fn ballot(n: u32, pid: u64) -> Ballot {
    Ballot::with(1, n, u32::from(pid == 1), pid)
}

#[test]
fn leaves_it_to_a_better_server_until_the_end_of_the_next_round() {
    let mut second = server(2, 3, NONE);
    round(&mut second, &[(1, NONE, false), (3, NONE, false)]);
    assert_eq!(second.leader(), NONE, "3 is better");
    hear(&mut second, 3, NONE, false);
    hear(&mut second, 1, NONE, false);
    assert_eq!(second.leader(), NONE, "3 still has time");
    round(&mut second, &[]);
    assert_eq!(second.leader(), ballot(1, 2));
    let mut third = server(3, 3, NONE);
    round(&mut third, &[(2, NONE, false)]);
    assert_eq!(third.leader(), ballot(1, 3), "it is the best of those that are there");
}

#[test]
fn an_unhappy_leader_that_owns_the_highest_ballot_goes_on_in_it() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    leader.promise(ballot(1, 1));
    (0..2).for_each(|_| round(&mut leader, &[]));
    assert_eq!((leader.happy, leader.leader()), (false, ballot(1, 1)));
    round(&mut leader, &[(2, ballot(1, 1), false)]);
    assert_eq!((leader.happy, leader.leader()), (true, ballot(1, 1)));
    leader.be_asked_to_lead();
    assert_eq!(leader.leader(), ballot(1, 1), "and so it does if the user asks");
}

#[test]
fn takes_over_for_the_user_once_in_as_many_rounds_as_there_are_servers() {
    let mut asked = server(1, 3, NONE);
    let mut leaders = Vec::new();
    for n in 1..7 {
        asked.follow(ballot(10 * n, 3));
        asked.promise(asked.leader());
        asked.be_asked_to_lead();
        asked.be_asked_to_lead();
        leaders.push(asked.leader().pid);
        round(&mut asked, &[(2, NONE, false)]);
    }
    assert_eq!(leaders, [1, 3, 3, 3, 3, 3], "with the call, and then at the end of rounds");
    assert_eq!(asked.leader(), ballot(61, 1));
}

#[test]
fn a_leader_that_was_not_promised_leaves_it_to_others() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    leader.promise(ballot(1, 1));
    leader.rest(3);
    for expected in [NONE, NONE, NONE, ballot(2, 1)] {
        round(&mut leader, &[(2, NONE, false)]);
        assert_eq!(leader.leader(), expected);
    }
}

#[test]
fn takes_over_when_a_quorum_is_reached_and_nobody_is_happy() {
    let mut alone = server(1, 3, NONE);
    round(&mut alone, &[]);
    assert_eq!(alone.leader(), NONE, "no quorum");
    round(&mut alone, &[(2, NONE, false)]);
    assert_eq!(alone.leader(), ballot(1, 1));
}

#[test]
fn leaves_a_happy_neighbour_alone() {
    let mut end_of_chain = server(1, 3, NONE);
    round(&mut end_of_chain, &[(2, ballot(4, 3), true)]);
    assert_eq!(end_of_chain.leader(), ballot(4, 3), "known by hearsay");
    round(&mut end_of_chain, &[(2, ballot(4, 3), true)]);
    assert_eq!(end_of_chain.leader(), ballot(4, 3));
    round(&mut end_of_chain, &[(2, ballot(4, 3), false)]);
    assert_eq!(end_of_chain.leader(), ballot(5, 1), "unhappy: takes over above it");
}

#[test]
fn an_unhappy_leader_is_replaced_within_the_round() {
    let mut follower = server(1, 3, NONE);
    round(&mut follower, &[(3, ballot(2, 3), true), (2, ballot(2, 3), true)]);
    hear(&mut follower, 3, ballot(2, 3), false);
    assert_eq!(follower.leader(), ballot(2, 3), "2 has not answered yet");
    hear(&mut follower, 2, ballot(2, 3), false);
    assert_eq!(follower.leader(), ballot(3, 1));
}

#[test]
fn a_leader_without_a_quorum_is_unhappy() {
    let mut leader = server(1, 5, NONE);
    round(&mut leader, &[(2, NONE, false), (3, NONE, false)]);
    assert_eq!(leader.leader(), ballot(1, 1));
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    assert!(!leader.happy);
}

#[test]
fn never_leads_in_a_ballot_of_an_earlier_incarnation() {
    let mut restarted = server(1, 3, ballot(7, 1));
    assert_eq!(restarted.leader(), NONE);
    for expected in [NONE, NONE, ballot(8, 1)] {
        round(&mut restarted, &[(2, NONE, false)]);
        assert_eq!(restarted.leader(), expected, "2 was not restarted, and goes before it");
    }
}

#[test]
fn a_leader_that_lost_its_quorum_leaves_it_to_a_steady_server() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    (0..2).for_each(|_| round(&mut leader, &[]));
    assert!(!leader.is_steady());
    leader.follow(ballot(2, 3));
    for is_happy in [true, false] {
        let leader_of_3 = ballot(2, 3);
        round(&mut leader, &[(2, leader_of_3, is_happy), (3, leader_of_3, is_happy)]);
        assert_eq!(leader.leader(), leader_of_3, "2 is steady");
    }
    for _ in 0..12 {
        round(&mut leader, &[(3, ballot(2, 3), true)]);
    }
    assert!(leader.is_steady(), "three servers may have led");
}

fn ask(ble: &mut BallotLeaderElection, from: u64, steady: bool, happy: bool) {
    let request = HeartbeatRequest {
        config_id: 1,
        round: ble.round,
        leader: NONE,
        happy,
        priority: 0,
        electable: true,
        steady,
        max_entry_bytes: u64::MAX,
        sender: Box::default(),
        observes: false,
    };
    ble.handle(from, HeartbeatMsg::Request(request));
}

#[test]
fn a_server_that_loses_its_quorum_is_not_steady_whether_or_not_it_leads() {
    let mut follower = server(2, 5, NONE);
    round(&mut follower, &[(3, NONE, false)]);
    assert!(follower.is_steady(), "it had none so far");
    let leader = ballot(4, 4);
    round(&mut follower, &[(3, leader, true), (4, leader, true)]);
    assert!(follower.is_steady());
    round(&mut follower, &[(4, leader, true)]);
    assert!(follower.is_happy() && !follower.is_steady());
    for _ in 0..20 {
        assert!(!follower.is_steady());
        round(&mut follower, &[(3, leader, true), (4, leader, true)]);
    }
    assert!(follower.is_steady(), "five servers may have led");
}

#[test]
fn a_server_that_is_not_steady_waits_two_rounds_for_each_steady_one() {
    let (old, older) = (ballot(4, 3), ballot(3, 3));
    for (steady, rounds) in [(true, 3), (false, 1)] {
        let mut ble = server(1, 3, NONE);
        round(&mut ble, &[(2, older, true)]);
        ble.be_unsteady();
        ble.name_leader(old);
        ble.insists = 8;
        round(&mut ble, &[(2, old, true)]);
        ask(&mut ble, 2, steady, true);
        for _ in 0..rounds {
            assert_eq!(ble.leader(), old, "{steady}");
            round(&mut ble, &[(3, old, false)]);
        }
        assert_eq!(ble.leader(), ballot(5, 1), "{steady}");
    }
}

#[test]
fn in_a_long_round_what_the_leader_reports_last_counts() {
    let of_1 = ballot(1, 1);
    for (reports_recovery, expected) in [(false, ballot(2, 3)), (true, of_1)] {
        let mut ble = server(3, 3, NONE);
        round(&mut ble, &[(1, of_1, true), (2, of_1, true)]);
        round(&mut ble, &[]);
        let late = HeartbeatReply { round: ble.round - 2, ballot: of_1, leader: of_1, happy: true };
        ble.handle(1, HeartbeatMsg::Reply(late));
        round(&mut ble, &[]);
        assert!(ble.pace.is_lengthened());
        hear(&mut ble, 1, of_1, false);
        if reports_recovery {
            let request = HeartbeatRequest {
                config_id: 1,
                round: 9,
                leader: of_1,
                happy: true,
                priority: 1,
                electable: true,
                steady: true,
                observes: false,
                max_entry_bytes: u64::MAX,
                sender: Box::default(),
            };
            ble.handle(1, HeartbeatMsg::Request(request));
        }
        for _ in 0..2 {
            ble.tick(|quorum, servers| quorum.can_accept(servers));
        }
        assert_eq!((ble.leader(), ble.is_happy()), (expected, true), "{reports_recovery}");
    }
}

#[test]
fn a_server_whose_clock_stands_still_stops_nobody() {
    let mut ble = server(1, 3, NONE);
    let old = ballot(4, 3);
    for (says, expected) in [(true, old), (false, old), (false, ballot(5, 1))] {
        let leader = if says { old } else { NONE };
        round(&mut ble, &[(2, old, true), (3, leader, says)]);
        assert_eq!(ble.leader(), expected);
    }
}

#[test]
fn a_server_that_asks_nothing_for_long_stops_nobody() {
    let mut ble = server(1, 3, NONE);
    for _ in 0..9 {
        round(&mut ble, &[(2, ballot(4, 3), true)]);
        assert_eq!(ble.leader(), ballot(4, 3), "2 may reach 3");
    }
    round(&mut ble, &[(2, ballot(4, 3), true)]);
    assert_eq!(ble.leader(), ballot(5, 1));
}

#[test]
fn a_preempted_leader_waits_a_round_and_preempts() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    leader.be_preempted(ballot(5, 3));
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    assert_eq!(leader.leader(), ballot(1, 1), "somebody may follow 5");
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    assert_eq!(leader.leader(), ballot(6, 1));
}

#[test]
fn a_leader_preempts_whom_an_unhappy_peer_follows() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    round(&mut leader, &[(2, ballot(5, 3), false)]);
    assert_eq!(leader.leader(), ballot(1, 1), "3 may be there in a moment");
    round(&mut leader, &[(2, ballot(5, 3), false)]);
    assert_eq!(leader.leader(), ballot(6, 1));
}

#[test]
fn a_preempted_leader_that_cannot_prepare_is_unhappy() {
    let mut leader = server(1, 5, NONE);
    round(&mut leader, &[(2, NONE, false), (3, NONE, false)]);
    leader.be_preempted(ballot(5, 3));
    let enough = |_: &super::Quorum, servers: usize| servers >= 2;
    for (expected, n) in [(true, 1), (false, 1)] {
        hear(&mut leader, 2, ballot(1, 1), true);
        leader.tick(enough);
        assert_eq!((leader.happy, leader.leader().n), (expected, n));
    }
}

#[test]
fn a_follower_is_not_happy_with_a_leader_that_it_refuses() {
    let mut follower = server(1, 3, ballot(7, 3));
    for _ in 0..2 {
        round(&mut follower, &[(2, ballot(4, 2), true)]);
    }
    assert_eq!(follower.leader(), ballot(4, 2));
    assert!(!follower.happy);
}

#[test]
fn a_preempted_leader_gives_way_to_one_that_is_followed() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    leader.be_preempted(ballot(5, 3));
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    round(&mut leader, &[(2, ballot(5, 3), true)]);
    assert_eq!(leader.leader(), ballot(5, 3));
}

#[test]
fn a_leader_that_resigned_leads_only_in_a_new_ballot() {
    let mut leader = server(1, 3, NONE);
    round(&mut leader, &[(2, NONE, false)]);
    leader.resign();
    assert_eq!(leader.leader(), NONE);
    round(&mut leader, &[(2, ballot(1, 1), true)]);
    assert_eq!(leader.leader(), NONE, "2 has not heard of it");
    round(&mut leader, &[(2, ballot(1, 1), false)]);
    assert_eq!(leader.leader(), ballot(2, 1));
}

#[test]
fn a_peer_that_the_leader_answers_is_a_relay() {
    let mut end_of_chain = server(1, 4, NONE);
    let leader = ballot(4, 3);
    for expected in [None, None, Some(4)] {
        round(&mut end_of_chain, &[(2, leader, false), (4, leader, true)]);
        assert_eq!(end_of_chain.relay(), expected);
    }
    round(&mut end_of_chain, &[(2, leader, true), (3, leader, true)]);
    assert_eq!(end_of_chain.relay(), None, "the leader answers");
    round(&mut end_of_chain, &[(2, NONE, false)]);
    assert_eq!(end_of_chain.relay(), None, "nobody knows it");
}

#[test]
fn numbers_do_not_overflow() {
    let mut last = server(1, 3, ballot(u32::MAX, 2));
    round(&mut last, &[(2, NONE, false)]);
    assert_eq!(last.leader(), NONE);
}

#[test]
fn a_peer_is_back_after_a_missed_round() {
    let mut ble = server(1, 3, NONE);
    assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Back);
    round(&mut ble, &[]);
    assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Heard);
    assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Heard, "a copy");
    round(&mut ble, &[]);
    round(&mut ble, &[]);
    assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Back);
}

/// The messages that are due: `request to 2`, or `reply to 2`.
fn sent(ble: &mut BallotLeaderElection) -> Vec<String> {
    let mut sent = Vec::new();
    ble.build_messages(|message| {
        let name = match message.msg {
            HeartbeatMsg::Request(_) => "request",
            HeartbeatMsg::Reply(_) => "reply",
        };
        sent.push(format!("{name} to {}", message.to));
    });
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
            hear(&mut ble, 2, NONE, false);
        }
        if is_long {
            ble.pace.note_late_reply(1);
        }
        round(&mut ble, &[]);
        assert_eq!(ble.pace.is_lengthened(), is_long);
        sent(&mut ble);
        if answers {
            hear(&mut ble, 2, NONE, false);
        }
        ask(&mut ble, 2, true, false);
        let found = sent(&mut ble).contains(&"request to 2".to_string());
        let given = (has_leader, is_long, answered_before, answers);
        assert_eq!(found, is_asked_again, "{given:?}");
    }
}

#[test]
fn happy_with_the_leader_that_says_so_itself() {
    let leader = ballot(4, 3);
    for (from, happy) in [(3, true), (2, false)] {
        let mut ble = server(1, 5, NONE);
        hear(&mut ble, from, leader, true);
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
                hear(&mut ble, from, leader, true);
                ask(&mut ble, from, true, false);
            } else {
                hear(&mut ble, from, reports, false);
            }
            assert_eq!(ble.is_happy(), happy, "{from}, {reports:?}, {is_new}, {by_request}");
        }
    }
}

#[test]
fn a_leader_is_preempted_by_a_higher_ballot_only() {
    use super::Preempted;
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
        hear(&mut ble, 2, reported, false);
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
    assert_eq!(ble.ballot(), ballot(6, 1));
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
fn a_happy_reply_within_a_round_does_not_end_the_wait() {
    let mut second = server(2, 3, NONE);
    round(&mut second, &[(3, NONE, false)]);
    assert_eq!((second.yields_until, second.insists), (Some(2), 0));
    hear(&mut second, 3, NONE, true);
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
        hear(&mut ble, from, leader, false);
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
        hear(&mut ble, 3, reply_of_the_leader.0, reply_of_the_leader.1);
        hear(&mut ble, 2, leader, true);
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
    }
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
