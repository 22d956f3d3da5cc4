//! What once stalled or broke the published crate, each as a story of its own.

use omnipaxos::{
    identity::Stamp,
    messages::{
        sequence_paxos::{Accepted, CatchUpChunk, PaxosMessage, PaxosMsg},
        Message,
    },
    storage::{SnapshotType, StopSign},
    util::{FlexibleQuorum, LogEntry},
    ClusterConfig, CompactionErr, ProposeErr,
};
use omnipaxos_tests::lab::{kind, Lab, Pick, Word, Words};

/// Three servers led by 1.
fn three() -> Lab {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.elect(1);
    lab
}

fn next_config(configuration_id: u32) -> ClusterConfig {
    ClusterConfig { configuration_id, nodes: vec![1, 2, 3], flexible_quorum: None }
}

fn message(from: u64, to: u64, msg: PaxosMsg<Word>) -> Message<Word> {
    Message::SequencePaxos(PaxosMessage { from, to, msg })
}

/// Runs until `done`, and returns how many ticks that took.
fn ticks_until(lab: &mut Lab, mut done: impl FnMut(&mut Lab) -> bool) -> u64 {
    for tick in 1..=200 {
        lab.tick();
        if done(lab) {
            return tick;
        }
    }
    panic!("not done in 200 ticks");
}

/// Appends one entry, loses one message of a kind, and lets nothing else happen.
#[track_caller]
fn lose_one_and_be_silent(pick: Pick) {
    for phase in 0..20 {
        let mut lab = three();
        lab.run(phase);
        lab.append(1, "a");
        lab.drop_next(pick.clone(), 1);
        let ticks =
            ticks_until(&mut lab, |lab| (1..=3).all(|pid| lab.server(pid).get_decided_idx() == 1));
        assert!(ticks <= 25, "{ticks} ticks in phase {phase}");
        lab.assert_decided_everywhere(&["a"]);
    }
}

#[test]
fn one_lost_accept_decide_then_silence() {
    lose_one_and_be_silent(Pick::of(1, 2, "AcceptDecide"));
}

#[test]
fn one_lost_accepted_then_silence() {
    lose_one_and_be_silent(Pick::of(2, 1, "Accepted"));
}

#[test]
fn one_lost_decide_then_silence() {
    lose_one_and_be_silent(Pick::of(1, 3, "Decide"));
}

#[test]
fn the_only_accepted_that_counts_is_lost_then_silence() {
    for phase in 0..20 {
        let mut lab = three();
        lab.crash(3);
        lab.run(phase);
        lab.append(1, "a");
        lab.drop_next(Pick::of(2, 1, "Accepted"), 1);
        let ticks = ticks_until(&mut lab, |lab| lab.server(2).get_decided_idx() == 1);
        assert!(ticks <= 25, "{ticks} ticks in phase {phase}");
    }
}

#[test]
fn one_lost_accept_stopsign_then_silence() {
    for phase in 0..20 {
        let mut lab = three();
        lab.run(phase);
        lab.drop_next(Pick::of(1, 2, "AcceptStopSign"), 1);
        assert!(lab.server(1).reconfigure(next_config(2), None).is_ok());
        let ticks = ticks_until(&mut lab, |lab| {
            (1..=3).all(|pid| lab.server(pid).is_reconfigured().is_some())
        });
        assert!(ticks <= 25, "{ticks} ticks in phase {phase}");
    }
}

#[test]
fn an_undecided_tail_is_decided_after_failover_with_a_minority_down() {
    let mut lab = three();
    lab.drop_next(Pick::kind("Accepted"), 2);
    lab.append(1, "a");
    lab.settle();
    lab.crash(1);
    assert_eq!(lab.server(2).get_decided_idx(), 0);
    ticks_until(&mut lab, |lab| [2, 3].iter().all(|pid| lab.server(*pid).get_decided_idx() == 1));
    lab.assert_decided_everywhere(&["a"]);
}

#[test]
fn a_batch_that_is_not_full_goes_with_the_timer() {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.batch_size = 4;
        config.flush_batch_tick_timeout = 30;
    });
    lab.elect(1);
    lab.append(1, "a");
    lab.run(20);
    assert_eq!(lab.server(1).get_decided_idx(), 0, "it waits for three more");
    lab.run(20);
    lab.assert_decided_everywhere(&["a"]);
    for word in ["b", "c", "d", "e"] {
        lab.append(1, word);
    }
    lab.settle();
    lab.assert_decided_everywhere(&["a", "b", "c", "d", "e"]);
}

#[test]
fn a_batch_forwarded_by_a_follower_waits_at_the_leader_only() {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.batch_size = if config.pid == 2 { 100 } else { 1 };
    });
    lab.elect(1);
    lab.append(2, "a");
    lab.settle();
    lab.assert_decided_everywhere(&["a"]);
}

#[test]
fn batch_sizes_may_differ() {
    let mut lab = Lab::with(&[1, 2, 3], |config| {
        config.batch_size = [1, 1, 4, 7][config.pid as usize];
        config.flush_batch_tick_timeout = 3;
    });
    for leader in [1, 2, 3, 1] {
        lab.elect(leader);
        for pid in [1, 2, 3] {
            lab.append(pid, &format!("{leader}-{pid}"));
        }
        lab.run(30);
    }
    let decided = lab.decided(1);
    assert_eq!(decided.len(), 12);
    for pid in [2, 3] {
        assert_eq!(lab.decided(pid), decided);
    }
}

#[test]
fn a_stopsign_takes_a_pending_batch_along() {
    let mut lab = Lab::with(&[1, 2, 3], |config| config.batch_size = 4);
    lab.elect(1);
    lab.append(1, "a");
    assert!(lab.server(1).reconfigure(next_config(2), Some(vec![7])).is_ok());
    let refused = lab.server(1).append(Word("b".into()));
    assert!(matches!(refused, Err(ProposeErr::PendingReconfigEntry(Word(word))) if word == "b"));
    lab.settle();
    lab.assert_decided_everywhere(&["a", "<stop>"]);
    for pid in 1..=3 {
        let stopsign = lab.server(pid).is_reconfigured();
        assert_eq!(stopsign, Some(StopSign::with(next_config(2), Some(vec![7]))));
        assert_eq!(lab.server(pid).get_decided_idx(), 2);
    }
    let again = lab.server(2).reconfigure(next_config(3), None);
    assert!(matches!(again, Err(ProposeErr::PendingReconfigConfig(..))));
}

#[test]
fn a_late_accept_sync_of_the_same_round_changes_nothing() {
    let mut lab = Lab::new(&[1, 2, 3]);
    lab.run(20);
    lab.server(1).try_become_leader();
    lab.drain();
    lab.deliver();
    lab.deliver();
    let late: Vec<_> = lab.in_flight().filter(|m| kind(m) == "AcceptSync").cloned().collect();
    assert_eq!(late.len(), 2);
    lab.settle();
    for word in ["a", "b", "c"] {
        lab.append(1, word);
    }
    lab.drop_next(Pick::of(1, 2, "Decide"), 1);
    lab.settle();
    assert_eq!(lab.log(2), ["a", "b", "c"]);
    for message in late {
        lab.inject(message);
    }
    lab.settle();
    for pid in 1..=3 {
        assert_eq!(lab.log(pid), ["a", "b", "c"], "server {pid}");
    }
}

#[test]
fn an_accepted_of_an_older_ballot_does_not_count() {
    let mut lab = three();
    let old = lab.server(1).get_promise();
    lab.elect(2);
    let new = lab.server(2).get_promise();
    lab.cut_all_but(&[]);
    lab.append(2, "a");
    lab.drain();
    let accepted = |n| {
        let accepted =
            Accepted { n, accepted_idx: 1, decided_idx: 0, gap: false, stamp: Stamp::default() };
        message(3, 2, PaxosMsg::Accepted(accepted))
    };
    lab.server(2).handle_incoming(accepted(old));
    assert_eq!(lab.server(2).get_decided_idx(), 0);
    lab.server(2).handle_incoming(accepted(new));
    assert_eq!(lab.server(2).get_decided_idx(), 1);
}

#[test]
fn an_accept_decide_of_an_accepted_round_is_refused_after_a_higher_promise() {
    let mut lab = three();
    lab.hold_next(Pick::of(1, 2, "AcceptDecide"), 1);
    lab.append(1, "a");
    lab.drain();
    lab.cut(1, 2);
    lab.cut(1, 3);
    lab.elect_among(3, &[2, 3]);
    lab.append(3, "b");
    lab.settle();
    assert_eq!(lab.decided(2), ["b"]);
    lab.heal_all();
    lab.release();
    lab.settle();
    assert_eq!(lab.log(2), ["b"]);
    lab.run(40);
    // What the old leader had appended and nobody else holds is dropped.
    lab.assert_decided_everywhere(&["b"]);
}

#[test]
fn a_resent_forward_is_appended_once() {
    let mut lab = three();
    lab.append(2, "a");
    lab.drain();
    let forwards: Vec<_> =
        lab.in_flight().filter(|m| kind(m) == "ProposalForward").cloned().collect();
    assert_eq!(forwards.len(), 1);
    for _ in 0..3 {
        lab.inject(forwards[0].clone());
    }
    lab.settle();
    lab.inject(forwards[0].clone());
    lab.settle();
    lab.assert_decided_everywhere(&["a"]);
    for _ in 0..3 {
        lab.append(2, "a");
        lab.settle();
    }
    lab.assert_decided_everywhere(&["a", "a", "a", "a"]);
}

#[test]
fn a_leader_behind_a_followers_decided_index_catches_up() {
    let mut lab = three();
    lab.cut(1, 2);
    for word in ["a", "b", "c"] {
        lab.append(1, word);
    }
    lab.run(5);
    assert_eq!(lab.decided(3), ["a", "b", "c"]);
    assert!(lab.decided(2).is_empty());
    lab.crash(1);
    lab.server(2).try_become_leader();
    lab.run(10);
    assert_eq!(lab.server(3).get_current_leader(), Some(2));
    lab.assert_decided_everywhere(&["a", "b", "c"]);
}

#[test]
fn a_trimmed_leader_and_a_lagging_follower() {
    let mut lab = three();
    for word in ["a", "b", "c"] {
        lab.append(1, word);
    }
    lab.drop_next(Pick::of(1, 3, "Decide"), 1);
    lab.settle();
    assert_eq!(lab.server(3).get_decided_idx(), 0, "it has accepted, and knows of no decision");
    lab.cut(1, 3);
    lab.cut(2, 3);
    assert_eq!(lab.server(1).trim(Some(3)), Ok(()));
    lab.append(1, "d");
    lab.run(5);
    assert_eq!(lab.decided(2), ["<trimmed 3>", "d"]);
    assert_eq!(lab.server(1).trim(Some(4)), Err(CompactionErr::NotAllDecided(3)));
    lab.elect_among(2, &[1, 2]);
    lab.heal_all();
    lab.run(40);
    lab.assert_decided_everywhere(&["<trimmed 3>", "d"]);
}

#[test]
fn a_follower_behind_the_snapshot_is_sent_the_snapshot() {
    let words: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let mut lab = three();
    lab.crash(3);
    for word in &words {
        lab.append(1, word);
    }
    lab.run(5);
    assert_eq!(lab.server(1).snapshot(Some(20), true), Ok(()));
    lab.restart(3);
    lab.run(40);
    for pid in 1..=3 {
        assert_eq!(lab.decided(pid), words, "server {pid}");
    }
    assert_eq!(lab.server(3).get_compacted_idx(), 20);
}

#[test]
fn a_delta_that_would_leave_a_gap_is_not_merged() {
    let mut lab = three();
    for word in ["a", "b"] {
        lab.append(1, word);
    }
    lab.settle();
    for base in [0, 1, 3, 5] {
        let delta = Words(vec!["f".into(), "g".into()]);
        lab.inject(message(
            3,
            2,
            PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
                config_id: 1,
                base,
                snapshot: Some(SnapshotType::Delta(delta)),
                from_idx: 7,
                entries: vec![Word("h".into())].into(),
                ids: None,
                stopsign: None,
                decided_idx: 8,
                piece: None,
                epoch: None,
                compacted_idx: 0,
                stamp: Stamp::default(),
            })),
        ));
        lab.settle();
        assert_eq!(lab.decided(2), ["a", "b"], "a delta from {base} on");
    }
    lab.run(30);
    lab.assert_decided_everywhere(&["a", "b"]);
}

#[test]
fn reads_out_of_bounds_are_none() {
    let mut lab = three();
    for word in ["a", "b", "c"] {
        lab.append(1, word);
    }
    lab.settle();
    let server = lab.server(1);
    assert_eq!(server.read(u64::MAX), None);
    assert_eq!(server.read(3), None);
    assert_eq!(server.read(2), Some(LogEntry::Decided(Word("c".into()))));
    #[allow(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = server.read_entries(2..1);
    assert_eq!(reversed, None);
    assert_eq!(server.read_entries(1..1), None);
    assert_eq!(server.read_entries(..=u64::MAX), None);
    assert_eq!(server.read_entries(u64::MAX..), None);
    assert_eq!(server.read_entries(0..4), None);
    assert_eq!(server.read_entries(1..).map(|e| e.len()), Some(2));
    assert_eq!(server.read_entries(..).map(|e| e.len()), Some(3));
    assert_eq!(server.read_decided_suffix(3), None);
    assert_eq!(server.read_decided_suffix(u64::MAX), None);
    assert_eq!(server.trim(Some(u64::MAX)), Err(CompactionErr::NotAllDecided(3)));
    assert_eq!(server.snapshot(Some(u64::MAX), true), Err(CompactionErr::UndecidedIndex(3)));
    assert_eq!(server.trim(Some(2)), Ok(()));
    assert_eq!(server.read(0), Some(LogEntry::Trimmed(2)));
    assert_eq!(
        server.read_entries(1..3),
        Some(vec![LogEntry::Trimmed(2), LogEntry::Decided(Word("c".into()))])
    );
    assert_eq!(server.trim(Some(1)), Err(CompactionErr::TrimmedIndex(2)));
    assert_eq!(server.snapshot(None, true), Err(CompactionErr::TrimmedIndex(2)));
    assert_eq!(lab.server(2).trim(None), Err(CompactionErr::NotCurrentLeader(1)));
}

#[test]
fn ids_may_be_sparse_and_huge() {
    let nodes = [1, 5, 9_000_000_000];
    let mut lab = Lab::new(&nodes);
    lab.run(25);
    for pid in nodes {
        lab.append(pid, &pid.to_string());
    }
    lab.run(10);
    let mut decided = lab.decided(1);
    for pid in nodes {
        assert_eq!(lab.decided(pid), decided);
        assert!(lab.server(pid).get_ui_states().cluster_state.accepted_indexes.len() <= 1025);
    }
    decided.sort();
    assert_eq!(decided, ["1", "5", "9000000000"]);
}

/// A promise whose log cannot be taken is asked for again, and with it all others: the next best
/// was not kept.
#[test]
fn a_promise_that_cannot_be_used_does_not_leave_a_shorter_log() {
    let mut lab = Lab::new(&[1, 2, 3, 4, 5]);
    lab.elect(1);
    for word in ["a", "b"] {
        lab.append(1, word);
    }
    lab.settle();
    lab.hold_next(Pick::of(1, 5, "Compaction"), 1);
    lab.drop_next(Pick::of(1, 2, "Compaction"), 1);
    assert_eq!(lab.server(1).trim(None), Ok(()));
    lab.settle();
    lab.cut(1, 4);
    lab.cut(1, 5);
    for word in "c d e f g h i j k l".split(' ') {
        lab.append(1, word);
    }
    lab.settle();
    lab.crash(1);
    lab.heal_all();
    lab.hold_next(Pick::of(4, 5, "Promise"), 1);
    lab.drop_nth(Pick::of(5, 2, "Prepare"), 2);
    lab.server(5).try_become_leader();
    lab.drain();
    lab.release();
    lab.settle();
    lab.release();
    lab.settle();
    lab.run(40);
    for pid in [2, 3, 4, 5] {
        let decided = lab.decided(pid);
        assert_eq!(decided.last().map(String::as_str), Some("l"), "server {pid}: {decided:?}");
        assert_eq!(lab.server(pid).get_decided_idx(), 12, "server {pid}");
    }
}

/// With flexible quorums a leader may reach a write quorum, be refused by it, and be unable to
/// prepare again: it must not be happy, so that the server in the middle takes over.
#[test]
fn a_leader_that_is_refused_and_cannot_prepare_gives_way() {
    let quorum = FlexibleQuorum { read_quorum_size: 4, write_quorum_size: 2 };
    let mut lab = Lab::with_quorum(&[1, 2, 3, 4, 5], Some(quorum), |_| {});
    lab.elect(1);
    lab.append(1, "a");
    lab.settle();
    lab.run(3);
    lab.cut_all_but(&[(2, 3)]);
    lab.server(3).try_become_leader();
    lab.settle();
    assert_eq!(lab.server(2).get_promise().pid, 3);
    for pid in [2, 3] {
        lab.crash(pid);
        lab.restart(pid);
    }
    lab.cut_all_but(&[(1, 2), (2, 3), (2, 4), (2, 5)]);
    lab.run(60);
    lab.append(2, "b");
    lab.run(10);
    assert_eq!(lab.decided(2), ["a", "b"]);
}

/// A leader that a peer refuses for a ballot whose owner is gone finds out without a proposal.
#[test]
fn a_leader_learns_that_it_is_refused_while_nothing_is_proposed() {
    let mut lab = three();
    lab.run(5);
    lab.cut_all_but(&[(2, 3)]);
    lab.server(3).try_become_leader();
    lab.settle();
    assert_eq!(lab.server(2).get_promise().pid, 3);
    lab.crash(3);
    lab.cut_all_but(&[(1, 2)]);
    for _ in 0..40 {
        // The clock of 1 stands still, so that it stays happy; 2 misses the leader it promised.
        lab.server(2).tick();
        lab.drain();
        lab.deliver();
    }
    lab.run(60);
    assert_eq!(lab.server(1).get_promise(), lab.server(2).get_promise());
    lab.append(2, "a");
    lab.run(5);
    assert_eq!(lab.decided(2), ["a"]);
}

#[test]
fn a_follower_that_is_away_is_sent_nothing_again() {
    let mut lab = three();
    lab.crash(3);
    for n in 0..100 {
        lab.append(1, &n.to_string());
    }
    lab.settle();
    let before = lab.sent("AcceptDecide");
    lab.run(1000);
    let again = lab.sent("AcceptDecide") - before;
    assert!(again <= 1, "{again}, though it answered one round at most");
    lab.restart(3);
    lab.run(25);
    assert_eq!(lab.server(3).get_decided_idx(), 100);
}

#[test]
fn a_slow_sync_is_not_sent_again_every_round() {
    let mut lab = three();
    lab.crash(3);
    for n in 0..100 {
        lab.append(1, &n.to_string());
    }
    lab.settle();
    lab.server(1).try_become_leader();
    lab.run(30);
    lab.restart(3);
    lab.hold_next(Pick::of(1, 3, "AcceptSync"), usize::MAX);
    let before = lab.sent("AcceptSync");
    lab.run(1000);
    let copies = lab.sent("AcceptSync") - before;
    assert!(copies < 50, "{copies} copies in 100 rounds");
    lab.release();
    lab.settle();
    assert_eq!(lab.server(3).get_decided_idx(), 100);
}

#[test]
fn a_later_trim_of_less_does_not_replace_one_that_is_not_answered() {
    let mut lab = three();
    for word in ["a", "b", "c", "d", "e"] {
        lab.append(1, word);
    }
    lab.settle();
    lab.run(30);
    lab.cut_all_but(&[(1, 2)]);
    assert_eq!(lab.server(1).trim(None), Ok(()));
    lab.run(5);
    assert_eq!(lab.server(2).get_compacted_idx(), 5);
    lab.server(1).try_become_leader();
    lab.run(25);
    assert_eq!(lab.server(1).trim(None), Ok(()), "nothing is accepted by all in this ballot");
    lab.run(25);
    lab.heal_all();
    lab.run(60);
    assert_eq!(lab.server(3).get_compacted_idx(), 5);
}

#[test]
fn the_decided_index_can_be_trimmed_to_after_a_stop_sign() {
    let mut lab = three();
    lab.append(1, "a");
    assert!(lab.server(1).reconfigure(next_config(2), None).is_ok());
    lab.settle();
    assert_eq!(lab.server(1).get_decided_idx(), 2);
    assert_eq!(lab.server(1).trim(Some(2)), Ok(()));
    lab.settle();
    lab.assert_decided_everywhere(&["<trimmed 1>", "<stop>"]);
}

/// What a sender has forgotten, its receiver may know, if most was lost in between.
#[test]
fn a_proposal_is_not_taken_for_a_copy_after_a_long_partition() {
    let mut lab = three();
    lab.append(2, "x");
    lab.settle();
    lab.cut(1, 2);
    for n in 0..4200 {
        lab.append(2, &n.to_string());
        lab.drain();
        if n % 100 == 0 {
            lab.deliver();
        }
    }
    lab.heal_all();
    lab.run(60);
    lab.append(2, "x");
    lab.run(20);
    let meant = lab.decided(1).iter().filter(|word| *word == "x").count();
    assert_eq!(meant, 2);
}
