//! One server at a time, with the heartbeats of the others made by hand.

mod heartbeats;

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
        reply(ble, *from, *leader, *happy);
    }
    ble.tick(|quorum, servers| quorum.can_accept(servers));
}

fn reply(ble: &mut BallotLeaderElection, from: u64, leader: Ballot, happy: bool) -> Peer {
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
    reply(&mut second, 3, NONE, false);
    reply(&mut second, 1, NONE, false);
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
    reply(&mut follower, 3, ballot(2, 3), false);
    assert_eq!(follower.leader(), ballot(2, 3), "2 has not answered yet");
    reply(&mut follower, 2, ballot(2, 3), false);
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
        reply(&mut ble, 1, of_1, false);
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

/// It answers that it is happy. Others would not take over from it while this server is happy with it, too.
#[test]
fn a_leader_whose_clock_stands_still_is_given_up_if_a_server_is_unhappy() {
    let of_1 = ballot(1, 1);
    for (others_ask, others_are_happy, expected) in
        [(true, false, 9), (true, true, 40), (false, false, 40)]
    {
        let mut follower = server(3, 3, NONE);
        let answers = |happy| [(1, of_1, true), (2, of_1, happy)];
        for _ in 0..20 {
            [1, 2].into_iter().for_each(|peer| ask(&mut follower, peer, true, true));
            round(&mut follower, &answers(true));
        }
        let rounds = (0..40).take_while(|_| {
            if others_ask {
                ask(&mut follower, 2, others_are_happy, true);
            }
            round(&mut follower, &answers(others_are_happy));
            follower.is_happy() && follower.leader() == of_1
        });
        assert_eq!(rounds.count(), expected, "{others_ask} {others_are_happy}");
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
    assert_eq!(leader.leader(), ballot(1, 1), "another server may follow 5");
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
        reply(&mut leader, 2, ballot(1, 1), true);
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
    assert_eq!(leader.leader(), NONE, "2 has no report of it");
    round(&mut leader, &[(2, ballot(1, 1), false)]);
    assert_eq!(leader.leader(), ballot(2, 1));
}

#[test]
fn a_peer_that_the_leader_answers_is_a_relay() {
    let mut end_of_chain = server(1, 4, NONE);
    let leader = ballot(4, 3);
    let pass = |ble: &mut BallotLeaderElection, answers: &[(u64, Ballot, bool)]| {
        [4, 5].into_iter().for_each(|peer| ask(ble, peer, true, true));
        round(ble, answers);
    };
    for expected in [None, None, Some(4)] {
        pass(&mut end_of_chain, &[(2, leader, false), (4, leader, true)]);
        assert_eq!(end_of_chain.relay(), expected);
    }
    for _ in 0..5 {
        pass(&mut end_of_chain, &[(3, leader, true), (4, leader, true)]);
        assert_eq!(end_of_chain.relay(), Some(4), "the leader may answer now and then");
    }
    pass(&mut end_of_chain, &[(3, leader, true), (4, leader, true)]);
    assert_eq!(end_of_chain.relay(), None, "the leader answers");
    for silent in 1..=2 {
        pass(&mut end_of_chain, &[(4, leader, true)]);
        assert_eq!(end_of_chain.relay(), None, "{silent}");
        pass(&mut end_of_chain, &[(3, leader, true), (4, leader, true)]);
    }
    pass(&mut end_of_chain, &[(4, leader, true)]);
    assert_eq!(end_of_chain.relay(), Some(4), "the link opens and closes");
    pass(&mut end_of_chain, &[]);
    assert_eq!(end_of_chain.relay(), None, "the relay is silent");
    pass(&mut end_of_chain, &[(4, leader, true)]);
    assert_eq!(end_of_chain.relay(), Some(4), "it is back");
    pass(&mut end_of_chain, &[(2, NONE, false)]);
    assert_eq!(end_of_chain.relay(), None, "nobody knows it");
    pass(&mut end_of_chain, &[(4, leader, false)]);
    assert_eq!(end_of_chain.relay(), None, "it has lost the leader");
    pass(&mut end_of_chain, &[(4, leader, true)]);
    assert_eq!(end_of_chain.relay(), Some(4), "the leader has answered it again");
    pass(&mut end_of_chain, &[(4, leader, false), (5, leader, true)]);
    assert_eq!(
        end_of_chain.relay(),
        None,
        "5 may not have noticed yet that the leader does not answer"
    );
    pass(&mut end_of_chain, &[(4, leader, false)]);
    pass(&mut end_of_chain, &[(4, leader, false), (5, leader, true)]);
    pass(&mut end_of_chain, &[(4, leader, false), (5, leader, true)]);
    assert_eq!(end_of_chain.relay(), Some(5), "the leader answers peers in turns");
}

/// Such a peer keeps what it is to pass on until its next round.
#[test]
fn a_peer_whose_clock_runs_is_a_better_relay() {
    let mut end_of_chain = server(1, 4, NONE);
    let both = [(4, ballot(4, 3), true), (5, ballot(4, 3), true)];
    for expected in [None, None, Some(4), Some(4), Some(4), Some(4), Some(4), Some(4), Some(5)] {
        ask(&mut end_of_chain, 5, true, true);
        round(&mut end_of_chain, &both);
        assert_eq!(end_of_chain.relay(), expected);
    }
    round(&mut end_of_chain, &both[..1]);
    assert_eq!(end_of_chain.relay(), Some(4), "there is no other");
}

#[test]
fn requests_of_the_leader_that_are_lost_again_and_again() {
    let leader = ballot(4, 3);
    let mut follower = server(1, 4, NONE);
    let mut pass = |rounds: u32, asks: bool| {
        for _ in 0..rounds {
            if asks {
                ask(&mut follower, 3, true, true);
            }
            round(&mut follower, &[(2, leader, true), (3, leader, true)]);
        }
        follower.misses_requests()
    };
    assert!(!pass(3, true));
    assert!(!pass(1, false), "once");
    assert!(!pass(3, true));
    assert!(pass(1, false), "every fourth round");
    assert!(pass(3, true));
    assert!(!pass(1, true), "once in eight rounds");
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
    assert_eq!(reply(&mut ble, 2, ballot(1, 2), true), Peer::Back);
    round(&mut ble, &[]);
    assert_eq!(reply(&mut ble, 2, ballot(1, 2), true), Peer::Answers);
    assert_eq!(reply(&mut ble, 2, ballot(1, 2), true), Peer::Answers, "a copy");
    round(&mut ble, &[]);
    round(&mut ble, &[]);
    assert_eq!(reply(&mut ble.clone(), 2, ballot(1, 2), true), Peer::Back);
    let (round, ballot_of_2) = (ble.round - 1, ballot(0, 2));
    let late = HeartbeatReply { round, ballot: ballot_of_2, leader: NONE, happy: false };
    assert_eq!(ble.handle(2, HeartbeatMsg::Reply(late)), Peer::Back);
    assert_eq!(reply(&mut ble, 2, ballot(1, 2), true), Peer::Answers, "after a late one");
    let old = HeartbeatReply { round: 900, ..late };
    assert_eq!(ble.handle(3, HeartbeatMsg::Reply(old)), Peer::OutOfDate);
}
