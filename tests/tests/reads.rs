//! Linearizable reads: what they cost, and what must not confuse them.

use omnipaxos::{
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    reads::{ReadRefused, ReadState},
    util::FlexibleQuorum,
};
use omnipaxos_tests::lab::{kind, Lab, Pick};

const KINDS: [&str; 4] =
    ["ReadIndexRequest", "LeadershipCheck", "LeadershipCheckAck", "ReadIndexResponse"];

/// Servers led by 1, that have decided two entries.
fn cluster(nodes: &[u64], quorum: Option<FlexibleQuorum>) -> Lab {
    let mut lab = Lab::with_quorum(nodes, quorum, |_| {});
    lab.elect(1);
    lab.append(1, "a");
    lab.append(1, "b");
    lab.run(30);
    lab
}

/// Messages sent for this number of reads that are requested together; all must be ready without a tick,
/// and nothing must get into the log.
fn messages_for(lab: &mut Lab, at: u64, reads: u32) -> [u64; 4] {
    let before = KINDS.map(|kind| lab.sent(kind));
    let (sent_before, len) = (lab.sent_beside_heartbeats(), lab.server(at).get_accepted_idx());
    let ids: Vec<_> = (0..reads).map(|_| lab.server(at).request_read()).collect();
    lab.settle();
    for id in ids {
        let state = id.map(|id| lab.server(at).read_state(id));
        assert_eq!(state, Ok(ReadState::Ready(2)));
    }
    assert_eq!(lab.server(1).get_accepted_idx(), len, "an entry got into the log");
    let sent: Vec<u64> = KINDS.iter().zip(before).map(|(k, before)| lab.sent(k) - before).collect();
    let sent: [u64; 4] = sent.try_into().unwrap_or_default();
    assert_eq!(lab.sent_beside_heartbeats() - sent_before, sent.iter().sum(), "{sent:?}");
    sent
}

#[test]
fn a_thousand_reads_cost_as_much_as_one() {
    println!("| servers | where | reads | requests | questions | confirmations | answers |");
    println!("|---:|---|---:|---:|---:|---:|---:|");
    for n in [1, 3, 5] {
        let nodes: Vec<u64> = (1..=n).collect();
        let mut lab = cluster(&nodes, None);
        for reads in [1, 1000] {
            let [requests, asked, confirmed, answers] = messages_for(&mut lab, 1, reads);
            println!("| {n} | leader | {reads} | {requests} | {asked} | {confirmed} | {answers} |");
            assert_eq!([requests, asked, confirmed, answers], [0, n - 1, n - 1, 0]);
            if n > 1 {
                let [requests, asked, confirmed, answers] = messages_for(&mut lab, 2, reads);
                println!(
                    "| {n} | follower | {reads} | {requests} | {asked} | {confirmed} | {answers} |"
                );
                // The request of a follower confirms the ballot of the leader. Two of three are enough.
                let more = if n == 3 { 0 } else { n - 1 };
                assert_eq!([requests, asked, confirmed, answers], [1, more, more, 1]);
            }
        }
    }
}

/// A leader that is a write quorum alone asks nobody: no other can lead without its promise.
#[test]
fn a_write_quorum_of_one_asks_nobody() {
    let quorum = Some(FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 1 });
    let mut lab = cluster(&[1, 2, 3], quorum);
    assert_eq!(messages_for(&mut lab, 1, 1), [0, 0, 0, 0]);
    assert_eq!(messages_for(&mut lab, 2, 1), [1, 0, 0, 1]);
}

/// Reads that are requested at all servers while a round is on its way share the next one.
#[test]
fn reads_of_all_servers_share_a_round() {
    let mut lab = cluster(&[1, 2, 3, 4, 5], None);
    let before = lab.sent("LeadershipCheck");
    lab.request_read(1).expect("it leads");
    lab.drain();
    for _ in 0..3 {
        for pid in 1..=5 {
            lab.request_read(pid).expect("there is a leader");
        }
        lab.drain();
    }
    lab.settle();
    for pid in 1..=5 {
        assert_eq!(lab.read_state(pid), ReadState::Ready(2));
    }
    let rounds = (lab.sent("LeadershipCheck") - before) / 4;
    assert!(rounds <= 3, "{rounds} rounds");
}

fn requested_before(lab: &Lab) -> Message<omnipaxos_tests::lab::Word> {
    let mut messages = lab.in_flight();
    messages.find(|message| kind(message) == "ReadIndexResponse").expect("it is on its way").clone()
}

/// The answer to a request of an earlier incarnation has the number of one of this incarnation.
#[test]
fn an_answer_to_an_earlier_incarnation_is_dropped() {
    let mut lab = cluster(&[1, 2, 3], None);
    lab.request_read(2).expect("there is a leader");
    lab.drain();
    while !lab.in_flight().any(|message| kind(message) == "ReadIndexResponse") {
        lab.deliver();
    }
    let old = requested_before(&lab);
    lab.crash(2);
    lab.settle();
    lab.restart(2);
    lab.append(1, "c");
    lab.run(15);
    lab.drop_next(Pick::of(1, 2, "ReadIndexResponse"), 1);
    lab.request_read(2).expect("there is a leader");
    lab.settle();
    lab.inject(old.clone());
    lab.settle();
    assert_eq!(lab.read_state(2), ReadState::Waiting, "{old:?}");
    lab.run(20);
    assert_eq!(lab.read_state(2), ReadState::Ready(3));
    let Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::ReadIndexResponse(answer), .. }) = old
    else {
        panic!("{old:?}");
    };
    assert_eq!((answer.number, answer.read_idx), (1, 2));
}

/// Confirmations of the round before do not count for the next, however late they come.
#[test]
fn late_confirmations_do_not_count() {
    let mut lab = cluster(&[1, 2, 3], None);
    lab.hold_next(Pick::of(3, 1, "LeadershipCheckAck"), 1);
    lab.request_read(1).expect("it leads");
    lab.settle();
    assert_eq!(lab.read_state(1), ReadState::Ready(2));
    lab.cut(1, 2);
    lab.cut_one_way(1, 3);
    lab.request_read(1).expect("it leads");
    lab.settle();
    lab.release();
    lab.settle();
    assert_eq!(lab.read_state(1), ReadState::Waiting);
}

/// A server that is always behind is served all the same, and forgets nothing that it was asked.
#[test]
fn a_server_that_stays_behind_is_served() {
    let mut lab = cluster(&[1, 2, 3], None);
    let mut waiting = Vec::new();
    for round in 0..200 {
        lab.append(1, &format!("{round}"));
        let read = lab.server(3).request_read().expect("there is a leader");
        waiting.push((read, lab.server(1).get_decided_idx()));
        lab.tick();
        waiting.retain(|(read, least_idx)| match lab.server(3).read_state(*read) {
            ReadState::Waiting => true,
            ReadState::Ready(idx) => {
                assert!(idx >= *least_idx && idx <= lab.server(3).get_decided_idx());
                false
            }
            other => panic!("{other:?}"),
        });
        assert!(waiting.len() <= 12, "{} reads wait in round {round}", waiting.len());
    }
}

#[test]
fn an_id_of_another_incarnation_is_unknown() {
    let mut lab = cluster(&[1], None);
    let read = lab.server(1).request_read().expect("it leads");
    lab.settle();
    assert_eq!(lab.server(1).read_state(read), ReadState::Ready(2));
    let unknown = lab.server(1).request_read().expect("it leads");
    lab.crash(1);
    lab.restart(1);
    let state = lab.server(1).read_state(unknown);
    assert_eq!(state, ReadState::Refused(ReadRefused::Unknown), "it is of another incarnation");
}

/// A restarted server that cannot name its incarnation reads only as a leader. One that is told
/// does.
#[test]
fn without_a_count_of_incarnations_only_a_leader_reads() {
    let mut lab = cluster(&[1, 2, 3], None);
    for pid in [1, 2] {
        lab.disk(pid).order(|orders| orders.counts_no_incarnations = true);
    }
    lab.crash(2);
    lab.restart(2);
    lab.run(30);
    assert_eq!(lab.request_read(2), Err(ReadRefused::NoIncarnation));
    lab.elect(2);
    lab.request_read(2).expect("it leads");
    lab.settle();
    assert_eq!(lab.read_state(2), ReadState::Ready(2));
    lab.cut(1, 2);
    lab.cut(2, 3);
    lab.request_read(2).expect("it leads, as far as it knows");
    lab.run(40);
    assert_eq!(lab.read_state(2), ReadState::Waiting);
    lab.heal_all();
    lab.run(40);
    assert_ne!(lab.server(2).get_current_leader(), Some(2));
    assert_eq!(lab.read_state(2), ReadState::Refused(ReadRefused::NoIncarnation));
}
