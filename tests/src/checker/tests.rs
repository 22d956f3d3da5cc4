//! Each rule, broken by hand: the checker must complain, and about that rule.

use super::{Check, Checker, Indices, Leaves, Limits};
use crate::{
    disk::{Change, Image},
    plan::{self, Plan, Setting},
    value::{Chain, SimEntry, Summed},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    messages::{
        sequence_paxos::{
            AcceptDecide, AcceptSync, Accepted, AppliedReport, CatchUpChunk, CatchUpRequest,
            Compaction, CompactionAction, DecidedRange, LogSync, PaxosMessage, PaxosMsg,
            PieceRequest, Prepare, SnapshotEncoding, SnapshotPiece,
        },
        Message,
    },
    proposals::{Outcome, ProposalId},
    storage::StopSign,
    util::{LogEntry, SnapshottedEntry},
    ClusterConfig, ServerConfig,
};
use std::ops::Range;

fn ballot(n: u32, pid: u64) -> Ballot {
    Ballot::with(1, n, 0, pid)
}

/// Three servers, and ten proposals.
fn checker() -> Checker {
    let mut checker = Checker::new(vec![1, 2, 3], 2);
    for _ in 0..10 {
        checker.propose();
    }
    checker
}

fn image(n: Ballot, decided_idx: u64, ids: &[u64]) -> Image<Summed> {
    Image {
        log: ids.iter().map(|id| Summed::with_id(*id)).collect(),
        promise: Some(n),
        accepted_round: Some(n),
        decided_idx,
        ..Image::default()
    }
}

/// Flushes the same log on the first `count` disks, and then what is decided.
fn flush(checker: &mut Checker, count: usize, image: &Image<Summed>) {
    let undecided = Image { decided_idx: 0, ..image.clone() };
    for server in 0..count {
        checker.flushed(server, &undecided, Change::Everything).unwrap();
    }
    for server in 0..count {
        checker.flushed(server, image, Change::Everything).unwrap();
    }
}

fn show(
    checker: &mut Checker,
    server: usize,
    n: Ballot,
    entries: &[LogEntry<Summed>],
    decided: u64,
) -> Option<Check> {
    let accepted = entries.len() as u64;
    let now = Indices { promise: n, compacted: 0, decided, accepted };
    let read = |range: Range<u64>| Some(entries[range.start as usize..range.end as usize].to_vec());
    checker.observe(server, now, read).err().map(|violation| violation.check)
}

fn decided(ids: &[u64]) -> Vec<LogEntry<Summed>> {
    ids.iter().map(|id| LogEntry::Decided(Summed::with_id(*id))).collect()
}

fn flushed(checker: &mut Checker, server: usize, image: &Image<Summed>) -> Option<Check> {
    let flushed = checker.flushed(server, image, Change::Everything);
    flushed.err().map(|violation| violation.check)
}

fn outgoing(
    checker: &mut Checker,
    server: usize,
    incarnation: u64,
    msg: PaxosMsg<Summed>,
) -> Option<Check> {
    let pid = server as u64 + 1;
    let message = Message::SequencePaxos(PaxosMessage { from: pid, to: 1 + pid % 3, msg });
    let image = image(ballot(1, 1), 0, &[1, 2]);
    checker
        .check_outgoing(server, incarnation, &message, &image, Leaves::AfterTheWrite)
        .err()
        .map(|violation| violation.check)
}

#[test]
fn a_right_run_is_right() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2, 3]));
    for server in 0..3 {
        assert_eq!(show(&mut checker, server, n, &decided(&[1, 2, 3]), 3), None);
    }
    assert_eq!(checker.decided_len(), 3);
}

#[test]
fn a_fork() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 2]), 2), None);
    assert_eq!(show(&mut checker, 1, n, &decided(&[1, 3]), 2), Some(Check::Agreement));
}

#[test]
fn a_fork_on_disk() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 2, &[1, 2]));
    let other = image(ballot(2, 3), 2, &[1, 3]);
    assert_eq!(flushed(&mut checker, 2, &other), Some(Check::Agreement));
}

#[test]
fn a_fork_in_a_snapshot() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 2, &[1, 2]));
    let mut snapshot = image(n, 2, &[]);
    snapshot.compacted_idx = 2;
    snapshot.snapshot = Some(Chain::default().and(2).and(1));
    assert_eq!(flushed(&mut checker, 2, &snapshot), Some(Check::Agreement));
    let now = Indices { promise: n, compacted: 2, decided: 2, accepted: 2 };
    let read = |_: Range<u64>| {
        let snapshot = Chain::default().and(2).and(1);
        Some(vec![LogEntry::Snapshotted(SnapshottedEntry::<Summed>::with(2, snapshot))])
    };
    let shown = checker.observe(2, now, read).unwrap_err();
    assert_eq!(shown.check, Check::Agreement);
}

#[test]
fn a_value_from_nowhere() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 11]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 11]), 2), Some(Check::Validity));
}

#[test]
fn a_value_that_was_given_back() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    checker.refuse(2);
    flush(&mut checker, 2, &image(n, 0, &[1, 2]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 2]), 2), Some(Check::Validity));
}

#[test]
fn a_lost_entry() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 2, &[1, 2]));
    assert_eq!(flushed(&mut checker, 0, &image(n, 1, &[1, 2])), Some(Check::NeverBack));
    assert_eq!(flushed(&mut checker, 1, &image(n, 2, &[1])), Some(Check::IndexOrder));
}

#[test]
fn a_restart_that_forgets() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 2, &[1, 2]));
    let now = Indices { promise: n, compacted: 0, decided: 1, accepted: 2 };
    let read = |_: Range<u64>| Some(decided(&[1]));
    let restarted = checker.restarted(0, now, read).unwrap_err();
    assert_eq!(restarted.check, Check::NeverBack);
}

#[test]
fn a_replica_that_goes_back() {
    let (mut checker, n) = (checker(), ballot(2, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 2]), 2), None);
    let entries = [decided(&[1]), vec![LogEntry::Undecided(Summed::with_id(2))]].concat();
    assert_eq!(show(&mut checker, 0, n, &entries, 1), Some(Check::NeverBack));
    let older = ballot(1, 1);
    assert_eq!(show(&mut checker, 0, older, &decided(&[1, 2]), 2), Some(Check::NeverBack));
}

#[test]
fn one_acknowledgement_too_few() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1]));
    flush(&mut checker, 1, &image(n, 0, &[1, 2]));
    let shown = show(&mut checker, 0, n, &decided(&[1, 2]), 2);
    assert_eq!(shown, Some(Check::QuorumDecides));
}

#[test]
fn quorums_in_different_ballots() {
    let mut checker = checker();
    flush(&mut checker, 1, &image(ballot(1, 1), 0, &[1]));
    checker.flushed(1, &image(ballot(2, 2), 0, &[1]), Change::Everything).unwrap();
    let shown = show(&mut checker, 0, ballot(1, 1), &decided(&[1]), 1);
    assert_eq!(shown, Some(Check::QuorumDecides));
}

#[test]
fn a_follower_that_does_not_only_append() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 1, &image(n, 0, &[1, 2, 3]));
    assert_eq!(flushed(&mut checker, 0, &image(n, 0, &[1, 2])), Some(Check::OneLogARound));
    assert_eq!(flushed(&mut checker, 0, &image(n, 0, &[1, 4, 3])), Some(Check::OneLogARound));
    assert_eq!(flushed(&mut checker, 1, &image(n, 0, &[1, 4])), Some(Check::OneLogARound));
    assert_eq!(flushed(&mut checker, 0, &image(ballot(2, 2), 0, &[4])), None, "a later round");
}

/// Server 3 has accepted in round 1 what nobody else has; the others decide in round 2.
fn overtaken() -> Checker {
    let mut checker = checker();
    flush(&mut checker, 2, &image(ballot(2, 2), 2, &[1, 2]));
    checker.flushed(2, &image(ballot(1, 1), 1, &[1, 3, 4]), Change::Everything).unwrap();
    checker
}

#[test]
fn a_server_that_learns_what_a_later_round_decided() {
    let n = ballot(1, 1);
    let learned = |decided_idx: u64, ids: &[u64]| image(n, decided_idx, ids);
    assert_eq!(flushed(&mut overtaken(), 2, &learned(2, &[1, 2, 4])), None);
    let cut = flushed(&mut overtaken(), 2, &learned(2, &[1, 2]));
    assert_eq!(cut, Some(Check::OneLogARound), "what is beyond must stay");
    let changed = flushed(&mut overtaken(), 2, &learned(2, &[1, 2, 5]));
    assert_eq!(changed, Some(Check::OneLogARound), "and stay the same");
    let undecided = flushed(&mut overtaken(), 2, &learned(1, &[1, 2, 4]));
    assert_eq!(undecided, Some(Check::OneLogARound), "and what changes must be decided");
    let mut checker = overtaken();
    let torn = |checker: &mut Checker, ids: &[u64]| {
        checker.flushed(2, &learned(1, ids), Change::Torn).err().map(|violation| violation.check)
    };
    assert_eq!(torn(&mut checker, &[1, 2, 4]), None, "the decided index was not written");
    assert_eq!(torn(&mut overtaken(), &[1, 5, 4]), Some(Check::OneLogARound));
}

#[test]
fn what_is_learned_was_not_accepted_in_the_round() {
    let mut checker = overtaken();
    let (n, leader) = (ballot(1, 1), 0);
    let mut behind = self::checker();
    behind.flushed(leader, &image(n, 0, &[1, 3]), Change::Everything).unwrap();
    behind.flushed(1, &image(ballot(2, 2), 0, &[1, 2]), Change::Everything).unwrap();
    behind.flushed(2, &image(ballot(2, 2), 0, &[1, 2]), Change::Everything).unwrap();
    behind.flushed(1, &image(ballot(2, 2), 2, &[1, 2]), Change::Everything).unwrap();
    assert_eq!(flushed(&mut behind, leader, &image(n, 2, &[1, 2])), None, "a leader learns, too");
    checker.flushed(2, &image(n, 2, &[1, 2, 4]), Change::Everything).unwrap();
    let shown = show(&mut checker, 2, n, &decided(&[1, 2, 4]), 3);
    assert_eq!(shown, Some(Check::QuorumDecides));
}

#[test]
fn a_chunk_that_is_not_decided() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 1, &[1, 2]));
    let chunk = |ids: &[u64], decided_idx: u64| {
        let entries: Vec<Summed> = ids.iter().map(|id| Summed::with_id(*id)).collect();
        PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
            config_id: 1,
            base: 0,
            snapshot: None,
            from_idx: 0,
            entries: entries.into(),
            stopsign: None,
            decided_idx,
            ids: None,
            piece: None,
            epoch: None,
            compacted_idx: 0,
            stamp: Stamp::default(),
        }))
    };
    assert_eq!(outgoing(&mut checker, 0, 1, chunk(&[1], 1)), None);
    assert_eq!(outgoing(&mut checker, 0, 1, chunk(&[2], 1)), Some(Check::Agreement));
    assert_eq!(outgoing(&mut checker, 0, 1, chunk(&[1, 2], 1)), Some(Check::Agreement));
    assert_eq!(outgoing(&mut checker, 0, 1, chunk(&[1, 2], 2)), Some(Check::QuorumDecides));
}

#[test]
fn a_round_above_the_promise() {
    let mut checker = checker();
    let mut wrong = image(ballot(1, 1), 0, &[]);
    wrong.accepted_round = Some(ballot(2, 2));
    assert_eq!(flushed(&mut checker, 0, &wrong), Some(Check::RoundPromised));
}

#[test]
fn an_entry_after_a_stop_sign() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    let next_config = ClusterConfig { configuration_id: 2, nodes: vec![1], flexible_quorum: None };
    let metadata = Some(crate::value::stop_sign_metadata(2));
    let stopsign = StopSign::with(next_config, metadata);
    let mut stopped = image(n, 0, &[1]);
    stopped.stopsign = Some(stopsign.clone());
    flush(&mut checker, 2, &stopped);
    let mut entries = decided(&[1]);
    entries.push(LogEntry::StopSign(stopsign, true));
    assert_eq!(show(&mut checker, 0, n, &entries, 2), None);
    assert!(checker.is_stopped());
    entries.extend(decided(&[3]));
    assert_eq!(show(&mut checker, 0, n, &entries, 3), Some(Check::StopSignLast));
}

#[test]
fn a_proposal_decided_twice() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2, 1]));
    let shown = show(&mut checker, 0, n, &decided(&[1, 2, 1]), 3);
    assert_eq!(shown, Some(Check::DecidedOnce));
    let mut checker = self::checker();
    flush(&mut checker, 2, &image(n, 0, &[1, 2]));
    flush(&mut checker, 2, &image(ballot(2, 2), 0, &[1, 2, 1]));
    let shown = show(&mut checker, 0, ballot(2, 2), &decided(&[1, 2, 1]), 3);
    assert_eq!(shown, None, "in different ballots it may be");
}

/// A server follows the proposal of value 3, when entry 1 is decided there.
fn followed() -> (Checker, ProposalId) {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1]), 1), None);
    let id = ProposalId { origin: 1, incarnation: 1, number: 0 };
    checker.follow(0, 1, id, 3).unwrap();
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 10), None);
    (checker, id)
}

#[test]
fn an_index_that_is_forgotten() {
    let (one, two) = (config_of(1), config_of(2));
    for (config, idx, fault) in
        [(&one, 2, Some(Check::Outcome)), (&one, 3, None), (&two, 3, Some(Check::Outcome))]
    {
        let (mut checker, id) = followed();
        checker = checker.limited_to(vec![Limits::of(config); 3]);
        let ended = checker.ended(0, 1, id, Outcome::DecidedBefore(idx));
        assert_eq!(ended.err().map(|violation| violation.check), fault, "before {idx}");
    }
}

fn config_of(max_message_entries: usize) -> ServerConfig {
    ServerConfig { max_message_entries, ..ServerConfig::default() }
}

#[test]
fn an_outcome_that_somebody_knows() {
    for (restarted_with, fault) in [(1, Some(Check::Outcome)), (2, None)] {
        let (mut checker, id) = followed();
        checker.restarted_with.push(restarted_with);
        let ended = checker.ended(0, 1, id, Outcome::Unknown);
        assert_eq!(ended.err().map(|violation| violation.check), fault, "{restarted_with} entries");
        assert_eq!(checker.lost(0, 1), []);
    }
}

#[test]
fn an_append_that_is_lost() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1, 2]));
    assert_eq!(show(&mut checker, 0, n, &decided(&[1, 2]), 2), None);
    checker.took(0, 1, 2);
    checker.took(0, 1, 3);
    for (restarted_with, lost) in [(2, vec![3]), (3, vec![])] {
        checker.restarted_with.push(restarted_with);
        assert_eq!(checker.lost(0, 1), lost);
    }
}

#[test]
fn a_decided_entry_that_is_shown_as_undecided() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 0, &[1]));
    let entries = [LogEntry::Undecided(Summed::with_id(1))];
    assert_eq!(show(&mut checker, 0, n, &entries, 1), Some(Check::Reading));
}

#[test]
fn claims_beyond_the_disk() {
    let mut checker = checker();
    let n = ballot(1, 1);
    let accepted = |n: Ballot, accepted_idx: u64| {
        PaxosMsg::Accepted(Accepted {
            n,
            accepted_idx,
            decided_idx: 0,
            gap: false,
            stamp: Stamp::default(),
        })
    };
    assert_eq!(outgoing(&mut checker, 1, 1, accepted(n, 2)), None);
    assert_eq!(outgoing(&mut checker, 1, 1, accepted(n, 3)), Some(Check::StoredFirst));
    assert_eq!(outgoing(&mut checker, 1, 1, accepted(ballot(2, 3), 1)), Some(Check::StoredFirst));
    let accept = |ids: &[u64]| {
        let entries: Vec<Summed> = ids.iter().map(|id| Summed::with_id(*id)).collect();
        let entries = entries.into();
        PaxosMsg::AcceptDecide(AcceptDecide {
            n,
            from_idx: 1,
            entries,
            decided_idx: 0,
            ids: None,
            stamp: Stamp::default(),
        })
    };
    assert_eq!(outgoing(&mut checker, 0, 1, accept(&[2])), None);
    assert_eq!(outgoing(&mut checker, 0, 1, accept(&[2, 3])), Some(Check::StoredFirst));
    assert_eq!(outgoing(&mut checker, 0, 1, accept(&[3])), Some(Check::StoredFirst));
}

#[test]
fn two_owners_of_a_ballot() {
    let mut checker = checker();
    let n = ballot(1, 1);
    let prepare = |n: Ballot| {
        let n_accepted = Ballot::default();
        let (accepted_idx, decided_idx, takes_delta) = (0, 0, false);
        PaxosMsg::Prepare(Prepare {
            n,
            n_accepted,
            accepted_idx,
            decided_idx,
            takes_delta,
            stamp: Stamp::default(),
        })
    };
    assert_eq!(outgoing(&mut checker, 0, 1, prepare(n)), None);
    assert_eq!(
        outgoing(&mut checker, 0, 2, prepare(n)),
        Some(Check::OneOwner),
        "another incarnation"
    );
    assert_eq!(outgoing(&mut checker, 1, 1, prepare(n)), Some(Check::OneOwner), "another server");
}

#[test]
fn a_trim_of_what_some_server_lacks() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    flush(&mut checker, 2, &image(n, 2, &[1, 2]));
    let trim = || {
        let action = CompactionAction::Trim(2);
        PaxosMsg::Compaction(Compaction { config_id: 1, action, stamp: Stamp::default() })
    };
    assert_eq!(outgoing(&mut checker, 0, 1, trim()), Some(Check::TrimSafe));
    checker.flushed(2, &image(n, 2, &[1, 2]), Change::Everything).unwrap();
    assert_eq!(outgoing(&mut checker, 0, 1, trim()), None);
}

/// What the plan of some seed sets, with logs compacted so, and no server that takes deltas.
fn setting(compaction: plan::Compaction) -> Setting {
    let mut setting = Plan::of(1, 1).setting;
    let server = setting.servers[0].clone();
    setting.servers = vec![server.clone(), server.clone(), server];
    for server in &mut setting.servers {
        server.config.takes_delta_snapshots = false;
    }
    setting.compaction = compaction;
    setting
}

#[test]
fn what_nobody_asked_for_is_given_up() {
    let mut checker = checker().compacted_by(&setting(plan::Compaction::AsAsked));
    let asked =
        |checker: &Checker| checker.check_given_up(1, 2).map_err(|violation| violation.check).err();
    assert_eq!(asked(&checker), Some(Check::GivenUp));
    let before = checker.begin_compaction();
    assert_eq!(asked(&checker), None, "this may be what was asked for");
    checker.end_compaction(before, 1);
    assert_eq!(asked(&checker), Some(Check::GivenUp));
    let before = checker.begin_compaction();
    checker.end_compaction(before, 2);
    assert_eq!(asked(&checker), None);
}

#[test]
fn what_an_application_has_not_applied_is_given_up() {
    let (mut checker, n) = (checker(), ballot(1, 1));
    checker = checker.compacted_by(&setting(plan::Compaction::AsApplied));
    flush(&mut checker, 3, &image(n, 2, &[1, 2]));
    checker.say_applied(0, 2);
    checker.say_applied(1, 2);
    let given_up = |checker: &Checker, idx| {
        checker.check_given_up(0, idx).map_err(|violation| violation.check).err()
    };
    assert_eq!(given_up(&checker, 1), Some(Check::AppliedFirst));
    checker.say_applied(2, 1);
    assert_eq!(given_up(&checker, 1), None);
    assert_eq!(given_up(&checker, 2), Some(Check::AppliedFirst));
    let report = |applied_idx| {
        let report = AppliedReport { applied_idx, confirmed_idx: 0, asks: true };
        let action = CompactionAction::Applied(report);
        PaxosMsg::Compaction(Compaction { config_id: 1, action, stamp: Stamp::default() })
    };
    assert_eq!(outgoing(&mut checker, 2, 1, report(1)), None);
    assert_eq!(outgoing(&mut checker, 2, 1, report(2)), Some(Check::AppliedFirst));
}

/// Messages of at most 2 entries and 40 bytes, with at most 3 entries and 40 bytes on their way.
fn limited() -> Checker {
    let config = ServerConfig {
        max_message_entries: 2,
        max_message_bytes: 40,
        max_in_flight_entries: 3,
        max_in_flight_bytes: 40,
        ..Default::default()
    };
    checker().limited_to(vec![Limits::of(&config); 3])
}

fn sent(checker: &mut Checker, ids: &[u64], msg: PaxosMsg<Summed>) -> Option<Check> {
    let message = Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg });
    let bounded = checker.bounded(0, &message, &image(ballot(1, 1), 0, ids));
    bounded.err().map(|violation| violation.check)
}

fn accept(ids: &[u64], range: Range<usize>) -> PaxosMsg<Summed> {
    let entries: Vec<Summed> = ids[range.clone()].iter().map(|id| Summed::with_id(*id)).collect();
    PaxosMsg::AcceptDecide(AcceptDecide {
        n: ballot(1, 1),
        from_idx: range.start as u64,
        entries: entries.into(),
        decided_idx: 0,
        ids: None,
        stamp: Stamp::default(),
    })
}

#[test]
fn a_message_too_large() {
    // Of 8, 16, 24 and 32 bytes.
    let ids = [4, 1, 2, 3];
    assert_eq!(sent(&mut limited(), &ids, accept(&ids, 0..2)), None);
    assert_eq!(sent(&mut limited(), &ids, accept(&ids, 0..3)), Some(Check::Bounded), "entries");
    assert_eq!(sent(&mut limited(), &ids, accept(&ids, 2..4)), Some(Check::Bounded), "bytes");
    let sync = |suffix_idx: u64, decided_idx: u64| {
        let suffix: Vec<Summed> = ids.iter().map(|id| Summed::with_id(*id)).collect();
        let suffix = suffix.into();
        let sync = LogSync { suffix_idx, suffix, stopsign: None, ids: None };
        PaxosMsg::AcceptSync(AcceptSync {
            n: ballot(1, 1),
            decided_idx,
            sync: Box::new(sync),
            stamp: Stamp::default(),
        })
    };
    assert_eq!(sent(&mut limited(), &ids, sync(5, 5)), None, "an undecided tail as a whole");
    assert_eq!(sent(&mut limited(), &ids, sync(5, 6)), Some(Check::Bounded), "what is decided");
}

#[test]
fn too_much_on_its_way() {
    let ids = [4, 8, 12, 16, 20, 3, 7];
    let (mut checker, n) = (limited(), ballot(1, 1));
    let accepted = |checker: &mut Checker, n: Ballot, accepted_idx: u64| {
        let msg = Accepted { n, accepted_idx, decided_idx: 0, gap: false, stamp: Stamp::default() };
        let (from, to, msg) = (2, 1, PaxosMsg::<Summed>::Accepted(msg));
        checker.heard(0, &Message::SequencePaxos(PaxosMessage { from, to, msg }));
    };
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 0..2)), None);
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 2..3)), None);
    let mut too_soon = limited();
    assert_eq!(sent(&mut too_soon, &ids, accept(&ids, 0..2)), None);
    accepted(&mut too_soon, ballot(0, 1), 2);
    assert_eq!(sent(&mut too_soon, &ids, accept(&ids, 2..4)), Some(Check::Bounded));
    accepted(&mut checker, n, 2);
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 3..5)), None, "two are confirmed");
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 2..4)), None, "again");
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 4..5)), None);
    accepted(&mut checker, n, 5);
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 5..6)), None);
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 6..7)), None, "the last may exceed the bytes");
    accepted(&mut checker, n, 3);
    let ids = [ids.as_slice(), &[11]].concat();
    assert_eq!(sent(&mut checker, &ids, accept(&ids, 7..8)), Some(Check::Bounded), "bytes");
}

#[test]
fn too_much_undecided() {
    let n = ballot(1, 1);
    let mut checker = limited();
    flush(&mut checker, 2, &image(n, 0, &[4, 8, 12]));
    let grown = |decided_idx: u64| image(n, decided_idx, &[4, 8, 12, 16]);
    assert_eq!(flushed(&mut checker, 1, &grown(0)), None, "the leader allows it");
    assert_eq!(flushed(&mut checker, 0, &image(n, 1, &[4, 8, 12])), None, "adopted");
    assert_eq!(flushed(&mut checker, 0, &grown(1)), Some(Check::Bounded));
    assert_eq!(flushed(&mut checker, 0, &grown(2)), None);
}

/// A piece of `bytes` bytes, in an answer to server 2; without any a chunk that has none.
fn answer(bytes: usize) -> Message<Summed> {
    let encoding = SnapshotEncoding { idx: 1, len: 100, digest: 1 };
    let piece = SnapshotPiece { encoding, offset: 0, bytes: vec![0; bytes], is_cut: false };
    let msg = PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
        config_id: 1,
        base: 0,
        snapshot: None,
        from_idx: 0,
        entries: Vec::new().into(),
        stopsign: None,
        decided_idx: 1,
        ids: None,
        piece: Some(Box::new(piece)).filter(|_| bytes > 0),
        compacted_idx: 0,
        epoch: None,
        stamp: Stamp::default(),
    }));
    Message::SequencePaxos(PaxosMessage { from: 1, to: 2, msg })
}

#[test]
fn too_much_at_once() {
    let sent = |sizes: &[usize]| {
        let messages: Vec<Message<Summed>> = sizes.iter().map(|bytes| answer(*bytes)).collect();
        let checked = limited().check_answers(0, &messages);
        checked.err().map(|violation| violation.check)
    };
    assert_eq!(sent(&[20, 20]), None);
    assert_eq!(sent(&[20, 20, 1]), Some(Check::Bounded));
    assert_eq!(sent(&[0, 0, 0, 0]), None);
    assert_eq!(sent(&[0, 0, 0, 0, 0]), Some(Check::Bounded));
}

#[test]
fn more_asked_for_than_may_be_in_flight() {
    let encoding = SnapshotEncoding { idx: 9, len: 100, digest: 1 };
    let asked = |range: Range<u64>, piece: Range<u64>| {
        let asks = CatchUpRequest {
            config_id: 1,
            decided_idx: 0,
            takes_delta: false,
            waits: false,
            takes_pieces: true,
            range: Some(DecidedRange { from_idx: range.start, until_idx: range.end }),
            piece: Some(PieceRequest { encoding, from: piece.start, until: piece.end }),
        };
        sent(&mut limited(), &[], PaxosMsg::CatchUpRequest(Box::new(asks)))
    };
    assert_eq!(asked(4..6, 60..100), None);
    assert_eq!(asked(4..7, 60..100), Some(Check::Bounded), "entries");
    assert_eq!(asked(4..6, 59..100), Some(Check::Bounded), "bytes");
    assert_eq!(asked(4..6, 90..101), Some(Check::Bounded), "beyond the snapshot");
}
