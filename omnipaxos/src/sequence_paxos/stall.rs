//! Whether what waits at a server does not move.
//!
//! While nothing is wrong, heartbeat rounds have the same length. So a link that opens and closes may stay in step
//! with them, and lose the same message in each. If nothing moves at a server, it varies its rounds.

use super::SequencePaxos;
use crate::{config::ServerConfig, entry::Entry, storage::Storage};

/// After this number of rounds in which something waited and did not move, a server counts as stalled.
const ROUNDS_UNTIL_STALLED: u64 = 8;

/// How far that is of which some waits here at the end of a round; `None` if none of it waits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Waiting {
    /// The decided index, if entries are not decided, or an entry or a stop sign waits to be proposed.
    entries: Option<u64>,
    /// The number of proposals of this server that have ended, if another has not.
    proposals: Option<u64>,
    /// The number up to which reads of this server are ready, if others wait; and the decided index, if those
    /// wait for entries only.
    reads: Option<(u64, Option<u64>)>,
}

/// For how long what waits has not moved.
#[derive(Copy, Clone, Debug)]
pub(super) struct Stall {
    waiting: Waiting,
    rounds_of_entries: u64,
    rounds_of_proposals: u64,
    rounds_of_reads: u64,
    rounds_until_stalled: u64,
}

impl Stall {
    /// An entry may wait for a full batch, here or at the leader.
    pub(super) fn new(config: &ServerConfig) -> Self {
        let rounds_of_a_batch = match config.batch_size > 1 {
            true => config.flush_batch_tick_timeout.div_ceil(config.election_tick_timeout.max(1)),
            false => 0,
        };
        Self {
            waiting: Waiting::default(),
            rounds_of_entries: 0,
            rounds_of_proposals: 0,
            rounds_of_reads: 0,
            rounds_until_stalled: rounds_of_a_batch.saturating_add(ROUNDS_UNTIL_STALLED),
        }
    }

    /// Ends a round.
    fn end_round(&mut self, waiting: Waiting) {
        let before = std::mem::replace(&mut self.waiting, waiting);
        count(&mut self.rounds_of_entries, before.entries, waiting.entries);
        count(&mut self.rounds_of_proposals, before.proposals, waiting.proposals);
        count(&mut self.rounds_of_reads, before.reads, waiting.reads);
    }

    fn is_stalled(&self) -> bool {
        let rounds = self.rounds_of_entries.max(self.rounds_of_proposals).max(self.rounds_of_reads);
        rounds >= self.rounds_until_stalled
    }
}

/// Counts a round, if something waits and is as far as before.
fn count<W: PartialEq>(rounds: &mut u64, before: Option<W>, now: Option<W>) {
    *rounds = match now.is_some() && now == before {
        true => rounds.saturating_add(1),
        false => 0,
    };
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Ends a heartbeat round.
    pub(super) fn end_round_of_stall(&mut self) {
        let waiting = match self.log.has_ended() {
            true => Waiting::default(),
            false => self.what_waits(),
        };
        self.stall.end_round(waiting);
    }

    fn what_waits(&self) -> Waiting {
        let decided_idx = self.log.decided_idx();
        let do_entries_wait = decided_idx < self.log.len()
            || self.proposals.are_queued()
            || self.reconfiguration.is_some();
        Waiting {
            entries: do_entries_wait.then_some(decided_idx),
            proposals: self.proposals.ended_if_waiting(),
            reads: self.reads.ready_if_waiting(decided_idx),
        }
    }

    /// Returns whether what waits here has not moved for some rounds.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_stalled()
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerConfig, Stall, Waiting};

    const NOTHING: Waiting = Waiting { entries: None, proposals: None, reads: None };

    fn entries(decided_idx: u64) -> Waiting {
        Waiting { entries: Some(decided_idx), ..NOTHING }
    }

    fn proposals(ended: u64) -> Waiting {
        Waiting { proposals: Some(ended), ..NOTHING }
    }

    fn reads(ready: u64) -> Waiting {
        Waiting { reads: Some((ready, None)), ..NOTHING }
    }

    /// Returns whether a server is stalled after rounds in which these wait.
    fn is_stalled(config: &ServerConfig, rounds: impl IntoIterator<Item = Waiting>) -> bool {
        let mut stall = Stall::new(config);
        rounds.into_iter().for_each(|waiting| stall.end_round(waiting));
        stall.is_stalled()
    }

    #[test]
    fn a_server_is_stalled_if_something_waits_and_does_not_move() {
        let config = &ServerConfig::default();
        for waiting in [entries(0), entries(5), proposals(3), reads(0)] {
            assert!(!is_stalled(config, [waiting; 8]), "{waiting:?}");
            assert!(is_stalled(config, [waiting; 9]), "{waiting:?}");
            assert!(!is_stalled(config, [vec![waiting; 9], vec![NOTHING]].concat()), "it is over");
        }
        assert!(!is_stalled(config, [NOTHING; 20]), "nothing waits");
        assert!(!is_stalled(config, (0..20).map(entries)), "entries are decided");
        assert!(!is_stalled(config, (0..20).map(proposals)), "proposals end");
        assert!(!is_stalled(config, (0..20).map(reads)), "reads are ready");
        let behind = (0..20).map(|idx| Waiting { reads: Some((0, Some(idx))), ..NOTHING });
        assert!(!is_stalled(config, behind), "the entries for which a read waits come");
        let of_others = (0..20).map(|idx| Waiting { entries: Some(idx), ..proposals(3) });
        assert!(is_stalled(config, of_others), "one kind is enough");
        assert!(
            !is_stalled(config, [vec![entries(0); 20], vec![entries(1)]].concat()),
            "it has moved"
        );
    }

    #[test]
    fn entries_may_wait_for_a_batch() {
        let config = ServerConfig { batch_size: 9, ..Default::default() };
        assert_eq!((config.flush_batch_tick_timeout, config.election_tick_timeout), (200, 10));
        assert!(!is_stalled(&config, [entries(0); 28]));
        assert!(is_stalled(&config, [entries(0); 29]));
        let config = ServerConfig { batch_size: 9, flush_batch_tick_timeout: u64::MAX, ..config };
        assert!(!is_stalled(&config, [entries(0); 100]));
    }
}
