//! The progress of each follower, as its leader knows it.

use super::in_flight::InFlight;
use crate::{amount::Amount, ids::NodeId, membership::Quorum, messages::sequence_paxos::Accepted};

/// The other servers of the configuration, by id. Invariant I6: no other server is counted.
#[derive(Clone, Debug)]
pub(super) struct Followers {
    /// In order. They are few, and iterated more often than searched.
    by_node: Vec<(NodeId, Progress)>,
}

impl Followers {
    /// Creates followers that have not promised; a Prepare is due to all. `peers` are in order.
    pub(super) fn unpromised(peers: &[NodeId]) -> Self {
        Self { by_node: peers.iter().map(|pid| (*pid, Progress::unpromised())).collect() }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, pid: NodeId) -> Option<&mut Progress> {
        let position = self.by_node.binary_search_by_key(&pid, |(of, _)| *of).ok()?;
        self.by_node.get_mut(position).map(|(_, progress)| progress)
    }

    pub(super) fn get(&self, pid: NodeId) -> Option<&Progress> {
        let position = self.by_node.binary_search_by_key(&pid, |(of, _)| *of).ok()?;
        self.by_node.get(position).map(|(_, progress)| progress)
    }

    #[inline]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Progress)> {
        self.by_node.iter_mut().map(|(pid, progress)| (*pid, progress))
    }

    /// Returns the number of followers that have promised.
    pub(super) fn promised(&self) -> usize {
        let has_promised = |p: &Progress| !matches!(p.stage, Stage::Unpromised { .. });
        self.by_node.iter().filter(|(_, progress)| has_promised(progress)).count()
    }

    /// Returns the number of followers that have accepted this ballot.
    pub(super) fn in_step(&self) -> usize {
        let is_in_step = |(_, p): &&(NodeId, Progress)| matches!(p.stage, Stage::Replicating(_));
        self.by_node.iter().filter(is_in_step).count()
    }

    /// Returns whether no follower waits for an output of the leader, whose log has this length: each
    /// was sent all of it, or its window, `in_flight`, is full, or the leader waits for the follower.
    pub(super) fn await_nothing(&self, len: u64, in_flight: Amount) -> bool {
        self.by_node.iter().all(|(_, progress)| match &progress.stage {
            Stage::Unpromised { is_prepare_due } => !is_prepare_due,
            Stage::Promised(_) => false,
            Stage::CatchingUp(_) => true,
            Stage::Syncing(_, sent) | Stage::Replicating(sent) => {
                let is_sent = sent.next_idx >= len || sent.room(in_flight).is_none();
                is_sent && !sent.is_probe_due
            }
        })
    }

    /// Returns when the leader repeats what was not acknowledged of a log of length `len`, at the end
    /// of a round. A leader makes progress if a write quorum holds the log, or has acknowledged
    /// something in this round. If not, it sends a little with each heartbeat. A link may be open for
    /// one exchange of heartbeats only, and not in the round after the follower answered.
    pub(super) fn resending(&self, quorum: &Quorum, len: u64) -> Resending {
        let gets_on = |p: &Progress| p.accepted_idx >= len || !p.is_stuck();
        let count = self.by_node.iter().filter(|(_, progress)| gets_on(progress)).count();
        match quorum.can_accept(count + 1) {
            true => Resending::Sparing,
            false => Resending::EachRound,
        }
    }

    /// Returns the server from which a follower should fetch decided entries, in this ballot of
    /// `leader`: another follower that has them, to reduce the load of the leader. Every second
    /// time, and if there is none, it is the leader.
    pub(super) fn source_for(&mut self, pid: NodeId, leader: NodeId) -> NodeId {
        let Some(lagging) = self.get_mut(pid) else {
            return leader;
        };
        let known = lagging.accepted_idx.max(lagging.decided_idx);
        lagging.redirects = lagging.redirects.wrapping_add(1);
        if lagging.redirects % 2 == 0 {
            return leader;
        }
        let has_more = |(of, progress): &&(NodeId, Progress)| {
            *of != pid && progress.decided_idx > known && progress.presence == Presence::Answered
        };
        let sources = self.by_node.iter().filter(has_more);
        sources.max_by_key(|(_, progress)| progress.decided_idx).map_or(leader, |(of, _)| *of)
    }

    /// Returns the largest index that was sent to a follower or acknowledged by one.
    pub(super) fn furthest(&self) -> u64 {
        let sent = |progress: &Progress| match &progress.stage {
            Stage::Syncing(_, sent) | Stage::Replicating(sent) => sent.next_idx,
            Stage::Unpromised { .. } | Stage::Promised(_) | Stage::CatchingUp(_) => 0,
        };
        let all = self.by_node.iter().map(|(_, of)| of.accepted_idx.max(sent(of)));
        all.max().unwrap_or_default()
    }

    /// Returns the accepted index of each in this ballot.
    #[inline]
    pub(super) fn accepted(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.by_node.iter().map(|(pid, progress)| (*pid, progress.accepted_idx))
    }
}

/// Whether a peer answered the last heartbeat round.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Answered,
    Absent,
}

impl Presence {
    pub(super) fn of(pid: NodeId, answered: &impl Fn(NodeId) -> bool) -> Self {
        if answered(pid) {
            Presence::Answered
        } else {
            Presence::Absent
        }
    }
}

/// The state of a log, as a promise reports it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Promised {
    pub(super) decided_idx: u64,
    pub(super) takes_delta: bool,
}

/// The progress of one follower.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The largest index acknowledged in this ballot: the records before it are stored there. At most
    /// the length that the leader may send (I23), which may exceed its own stored length.
    pub(super) accepted_idx: u64,
    /// The largest decided index acknowledged.
    pub(super) decided_idx: u64,
    pub(super) stage: Stage,
    /// The acknowledged indices at the end of the last heartbeat round, if the follower lagged.
    behind_at: Option<(u64, u64)>,
    /// Rounds without progress since the last repetition, including rounds before the promise.
    waited: u32,
    /// Rounds to wait before the next repetition.
    backoff_rounds: u32,
    /// Whether it answered the last heartbeat round.
    presence: Presence,
    /// Number of redirects of the follower.
    redirects: u32,
    /// Whether it is sent no more than a [`LITTLE`], since it has acknowledged nothing for a round.
    pub(super) is_sent_little: bool,
    /// Whether a round has ended since its last promise that was answered.
    is_promise_old: bool,
}

/// The largest number of rounds between repetitions.
const MOST_BACKOFF_ROUNDS: u32 = 4;

/// The amount that a leader without progress repeats to each follower with a heartbeat. A follower repeats as
/// many proposals.
pub(super) const LITTLE: Amount = Amount { entries: 64, bytes: 4096 };

/// When a leader sends again what a follower has not acknowledged for a whole round.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Resending {
    /// If the follower answered the last heartbeat, and less and less often.
    Sparing,
    /// Besides, a [`LITTLE`] of it with each heartbeat, answered or not.
    EachRound,
}

/// What has passed between leader and follower in this ballot.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The follower has not promised.
    Unpromised { is_prepare_due: bool },
    /// The follower has promised; an AcceptSync is due.
    Promised(Promised),
    /// It has promised and lacks too much for an AcceptSync: it was redirected to another server.
    /// Or it lacks more than the little that it is sent now.
    CatchingUp(Promised),
    /// An AcceptSync was sent and not acknowledged.
    Syncing(Promised, Sent),
    /// The follower has accepted this ballot: its log is a prefix of the leader's.
    Replicating(Sent),
}

impl Stage {
    /// Enters the stage replicating: the follower has accepted this ballot.
    #[inline]
    fn in_step(&mut self) -> &mut Sent {
        if !matches!(self, Stage::Replicating(_)) {
            *self = Stage::Replicating(match self {
                Stage::Syncing(_, sent) => std::mem::take(sent),
                Stage::Unpromised { .. }
                | Stage::Promised(_)
                | Stage::CatchingUp(_)
                | Stage::Replicating(_) => Sent::default(),
            });
        }
        match self {
            Stage::Replicating(sent) => sent,
            Stage::Unpromised { .. }
            | Stage::Promised(_)
            | Stage::CatchingUp(_)
            | Stage::Syncing(..) => unreachable!("it was put in step"),
        }
    }
}

/// The messages sent to a follower.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// Records before this index were sent. At most the length that the leader may send (I23).
    pub(super) next_idx: u64,
    /// The decided index that was sent.
    pub(super) decided_idx: u64,
    /// The amount sent and not acknowledged.
    in_flight: InFlight,
    /// Whether to send a message that requires an answer, even without new entries.
    pub(super) is_probe_due: bool,
    /// After a redirect: the leader sends no entries until the follower has this many.
    pub(super) catching_up_to: Option<u64>,
    /// Entries up to this index were sent again in this round. A report that an earlier one is
    /// missing may be old, and is ignored. If messages are small and reordered, each report would
    /// otherwise cause as many again.
    resent_up_to: Option<u64>,
}

impl Sent {
    /// Creates the state in which all entries before `next_idx` have arrived.
    pub(super) fn up_to(next_idx: u64, decided_idx: u64) -> Self {
        Self { next_idx, decided_idx, ..Self::default() }
    }

    /// Records that `amount` was sent, up to index `end`.
    #[inline]
    pub(super) fn advance(&mut self, end: u64, amount: Amount) {
        self.next_idx = end;
        self.in_flight.add(end, amount);
    }

    /// Returns the amount that may be sent now, with `limit` in flight. `None` if there is no room.
    #[inline]
    pub(super) fn room(&self, limit: Amount) -> Option<Amount> {
        let in_flight = self.in_flight.total();
        in_flight.is_below(limit).then(|| limit.without(in_flight))
    }

    /// Returns the amount that is neither acknowledged nor considered lost.
    pub(super) fn in_flight(&self) -> Amount {
        self.in_flight.total()
    }

    /// Returns whether everything sent is acknowledged, or considered lost.
    pub(super) fn is_nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Asks for an acknowledgement, which reports what is missing.
    fn probe(&mut self) {
        self.is_probe_due = true;
        self.resent_up_to = None;
    }

    /// Returns whether the entries after `accepted_idx` were sent again in this round.
    fn was_resent(&self, accepted_idx: u64) -> bool {
        self.resent_up_to.is_some_and(|idx| accepted_idx < idx)
    }

    /// Rewinds to the index that has certainly arrived.
    fn rewind(&mut self, accepted_idx: u64) {
        self.resent_up_to = Some(self.next_idx.max(accepted_idx + 1));
        self.next_idx = accepted_idx;
        self.catching_up_to = None;
        self.in_flight.clear();
    }

    /// Rewinds, and makes a message from there due, even without further changes.
    fn resend_from(&mut self, accepted_idx: u64) {
        self.rewind(accepted_idx);
        self.is_probe_due = true;
    }
}

impl Progress {
    fn unpromised() -> Self {
        Self {
            accepted_idx: 0,
            decided_idx: 0,
            stage: Stage::Unpromised { is_prepare_due: true },
            behind_at: None,
            waited: 0,
            backoff_rounds: 1,
            presence: Presence::Answered,
            redirects: 0,
            is_sent_little: false,
            is_promise_old: false,
        }
    }

    /// Records a promise. A follower that has accepted this ballot sends none, so a later
    /// promise is old. A promise that reports nothing new and was answered is a copy. But in a later round,
    /// if nothing was acknowledged since and the last heartbeat was not answered, the follower may not hear
    /// this leader ([`Contact::Unheard`](super::Contact)): it is sent a little again.
    pub(super) fn promise(&mut self, promised: Promised) {
        match &self.stage {
            Stage::Replicating(_) => {}
            Stage::CatchingUp(earlier) | Stage::Syncing(earlier, _) if *earlier == promised => {
                if self.is_promise_old && self.presence == Presence::Absent && self.is_stuck() {
                    self.is_promise_old = false;
                    self.is_sent_little = true;
                    self.stage = Stage::Promised(promised);
                }
            }
            Stage::Unpromised { .. }
            | Stage::Promised(_)
            | Stage::CatchingUp(_)
            | Stage::Syncing(..) => {
                self.is_promise_old = false;
                self.stage = Stage::Promised(promised);
            }
        }
    }

    /// Records an acknowledgement (paper §4.1.3). Cumulative: the maximum counts. One that repeats what is
    /// known, in a later round and after a heartbeat without an answer, may come from a follower that does not
    /// hear this leader ([`Contact::Unheard`](super::Contact)): it is sent a little again.
    #[inline]
    pub(super) fn accept(&mut self, accepted: &Accepted) {
        let is_news = accepted.accepted_idx > self.accepted_idx;
        self.is_sent_little &= !is_news;
        self.accepted_idx = self.accepted_idx.max(accepted.accepted_idx);
        self.decided_idx = self.decided_idx.max(accepted.decided_idx);
        let sent = self.stage.in_step();
        sent.next_idx = sent.next_idx.max(self.accepted_idx);
        sent.in_flight.pass(self.accepted_idx);
        let is_latest = accepted.accepted_idx == self.accepted_idx;
        if accepted.gap && is_latest && !sent.was_resent(accepted.accepted_idx) {
            sent.rewind(self.accepted_idx);
        } else if is_latest && !is_news {
            self.send_a_little_if_stuck();
        }
    }

    #[cold]
    fn send_a_little_if_stuck(&mut self) {
        let (accepted_idx, is_stuck) = (self.accepted_idx, self.is_stuck());
        let is_absent = self.presence == Presence::Absent;
        if let Stage::Replicating(sent) = &mut self.stage {
            if is_stuck && is_absent && !sent.was_resent(accepted_idx) {
                sent.resend_from(accepted_idx);
                self.is_sent_little = true;
            }
        }
    }

    /// Continues with a follower that has accepted this ballot, and was restarted or cut off.
    pub(super) fn go_on(&mut self, accepted_idx: u64, decided_idx: u64) {
        self.accepted_idx = self.accepted_idx.max(accepted_idx);
        self.decided_idx = self.decided_idx.max(decided_idx);
        let sent = self.stage.in_step();
        if sent.was_resent(accepted_idx) {
            sent.is_probe_due = true;
        } else {
            sent.decided_idx = decided_idx;
            sent.resend_from(accepted_idx);
        }
    }

    /// Puts off a promise that cannot be used before this leader has fetched decided entries. The
    /// follower is asked again then, or in the next heartbeat round.
    pub(super) fn put_off(&mut self) {
        self.stage = Stage::Unpromised { is_prepare_due: false };
    }

    /// Asks again for a promise that was [put off](Self::put_off) and can be used now.
    pub(super) fn ask_again_if_put_off(&mut self) {
        if let Stage::Unpromised { is_prepare_due } = &mut self.stage {
            *is_prepare_due = true;
        }
    }

    /// Asks again for a promise that could not be used or was forgotten.
    pub(super) fn ask_again(&mut self) {
        self.stage = Stage::Unpromised { is_prepare_due: true };
    }

    /// Returns how much may be sent at once; `None`: as much as the settings allow.
    #[inline]
    pub(super) fn most_at_once(&self) -> Option<Amount> {
        self.is_sent_little.then_some(LITTLE)
    }

    /// Sends again what was not acknowledged of a log of length `len`, decided to `decided_idx`.
    pub(super) fn resend(&mut self, len: u64, decided_idx: u64) {
        let is_behind = self.is_behind(len, decided_idx);
        self.is_sent_little = false;
        match &mut self.stage {
            Stage::Unpromised { is_prepare_due } => *is_prepare_due = true,
            Stage::Promised(_) => {}
            Stage::CatchingUp(promised) | Stage::Syncing(promised, _) => {
                self.stage = Stage::Promised(*promised);
            }
            Stage::Replicating(sent) if is_behind => sent.resend_from(self.accepted_idx),
            Stage::Replicating(_) => {}
        }
    }

    /// A heartbeat round has ended: repeats the Prepare. If nothing was acknowledged for a whole
    /// round, asks a follower in step what it has, and sends an AcceptSync again; then only after
    /// two rounds and four, since a large one may be on its way. A follower in step whose answers
    /// do not come is sent the entries again likewise. A peer that did not answer the round is
    /// sent what it missed when it is back, or, as `resending` returns, a little of it in each round. If a
    /// little is not enough to be in step, it is redirected in each round.
    pub(super) fn end_round(
        &mut self,
        len: u64,
        decided_idx: u64,
        presence: Presence,
        resending: Resending,
    ) {
        self.presence = presence;
        let is_stuck = self.is_stuck();
        let known = Some((self.accepted_idx, self.decided_idx));
        self.behind_at = known.filter(|_| self.is_behind(len, decided_idx));
        self.waited = if is_stuck { self.waited + 1 } else { 0 };
        if !is_stuck {
            self.backoff_rounds = 1;
        }
        self.is_sent_little = false;
        self.is_promise_old = true;
        let is_urgent = is_stuck && resending == Resending::EachRound;
        match &mut self.stage {
            Stage::Unpromised { is_prepare_due } => *is_prepare_due = true,
            Stage::Promised(_) => {}
            Stage::Replicating(sent) => {
                sent.resent_up_to = None;
                let is_asked = is_stuck && presence == Presence::Answered;
                // Not before it was asked, and two rounds have passed.
                if is_asked && self.backoff_rounds > 1 && self.waited >= self.backoff_rounds {
                    self.waited = 0;
                    self.backoff_rounds = MOST_BACKOFF_ROUNDS;
                    sent.resend_from(self.accepted_idx);
                } else {
                    if is_asked && self.backoff_rounds == 1 {
                        (self.waited, self.backoff_rounds) = (0, 2);
                    }
                    if is_urgent {
                        self.send_a_little();
                    } else if is_asked {
                        sent.probe();
                    }
                }
            }
            Stage::CatchingUp(promised) | Stage::Syncing(promised, _)
                if self.waited >= self.backoff_rounds && presence == Presence::Answered =>
            {
                self.waited = 0;
                self.backoff_rounds = (self.backoff_rounds * 2).min(MOST_BACKOFF_ROUNDS);
                self.stage = Stage::Promised(*promised);
            }
            Stage::CatchingUp(_) | Stage::Syncing(..) if is_urgent => self.send_a_little(),
            Stage::CatchingUp(_) | Stage::Syncing(..) => {}
        }
    }

    /// Repeats what leaves with the heartbeat request of a round, since another request leaves in that round.
    pub(super) fn repeat_with_request(&mut self, resending: Resending) {
        if let Stage::Unpromised { is_prepare_due } = &mut self.stage {
            *is_prepare_due = true;
        } else if resending == Resending::EachRound && self.is_stuck() {
            if let Stage::CatchingUp(_) = self.stage {
                // The same redirect leaves again, with the same source.
                self.redirects = self.redirects.wrapping_sub(1);
            }
            self.send_a_little();
        }
    }

    /// Sends a [`LITTLE`] of what was not acknowledged again.
    fn send_a_little(&mut self) {
        match &mut self.stage {
            Stage::Replicating(sent) => sent.resend_from(self.accepted_idx),
            Stage::CatchingUp(promised) | Stage::Syncing(promised, _) => {
                self.stage = Stage::Promised(*promised);
            }
            Stage::Unpromised { .. } | Stage::Promised(_) => return,
        }
        self.is_sent_little = true;
    }

    /// Whether it was behind when the last round ended, and has acknowledged nothing since.
    fn is_stuck(&self) -> bool {
        self.behind_at == Some((self.accepted_idx, self.decided_idx))
    }

    fn is_behind(&self, len: u64, decided_idx: u64) -> bool {
        self.accepted_idx < len || self.decided_idx < decided_idx
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Followers, Presence, Progress, Promised, Resending, Sent, Stage};
    use crate::{
        ballot::Ballot, identity::Stamp, membership::Quorum, messages::sequence_paxos::Accepted,
    };

    fn accepted(accepted_idx: u64, gap: bool) -> Accepted {
        Accepted {
            n: Ballot::default(),
            accepted_idx,
            decided_idx: 0,
            gap,
            stamp: Stamp::default(),
        }
    }

    fn next_idx(progress: &Progress) -> u64 {
        match &progress.stage {
            Stage::Replicating(sent) => sent.next_idx,
            other => panic!("not in step but {other:?}"),
        }
    }

    #[test]
    fn acknowledgements_are_cumulative() {
        let mut progress = Progress::unpromised();
        for (idx, known) in [(3, 3), (1, 3), (5, 5), (5, 5)] {
            progress.accept(&accepted(idx, false));
            assert_eq!(progress.accepted_idx, known);
        }
    }

    #[test]
    fn a_gap_rewinds_once_until_that_was_made_good() {
        let mut progress = Progress::unpromised();
        progress.stage = Stage::Replicating(Sent::up_to(9, 0));
        progress.accept(&accepted(4, true));
        assert_eq!(next_idx(&progress), 4);
        send_up_to(&mut progress, 9);
        for gap in [4, 6, 5] {
            progress.accept(&accepted(gap, true));
            assert_eq!(next_idx(&progress), 9, "{gap} was sent again, and is on its way");
        }
        progress.accept(&accepted(9, false));
        send_up_to(&mut progress, 12);
        progress.accept(&accepted(10, true));
        assert_eq!(next_idx(&progress), 10, "another gap");
        send_up_to(&mut progress, 12);
        progress.end_round(12, 0, Presence::Answered, Resending::Sparing);
        progress.accept(&accepted(11, true));
        assert_eq!(next_idx(&progress), 11, "it was lost again");
    }

    fn send_up_to(progress: &mut Progress, idx: u64) {
        match &mut progress.stage {
            Stage::Replicating(sent) => sent.next_idx = idx,
            other => panic!("not in step but {other:?}"),
        }
    }

    #[test]
    fn late_promises_change_nothing() {
        let promised = Promised { decided_idx: 2, takes_delta: false };
        let mut progress = Progress::unpromised();
        progress.promise(promised);
        progress.stage = Stage::Syncing(promised, Sent::up_to(5, 2));
        progress.promise(promised);
        assert!(matches!(progress.stage, Stage::Syncing(..)), "a copy");
        progress.promise(Promised { decided_idx: 3, takes_delta: false });
        assert!(matches!(progress.stage, Stage::Promised(_)), "news");
        progress.accept(&accepted(5, false));
        progress.promise(promised);
        assert!(matches!(progress.stage, Stage::Replicating(_)), "late");
    }

    #[test]
    fn a_follower_that_does_not_hear_is_sent_a_little() {
        let promised = Promised { decided_idx: 2, takes_delta: false };
        let mut progress = Progress::unpromised();
        progress.end_round(9, 0, Presence::Absent, Resending::Sparing);
        progress.promise(promised);
        progress.stage = Stage::Syncing(promised, Sent::up_to(5, 2));
        progress.promise(promised);
        assert!(matches!(progress.stage, Stage::Syncing(..)), "a copy in the same round");
        progress.end_round(9, 0, Presence::Absent, Resending::Sparing);
        progress.promise(promised);
        assert!(matches!(progress.stage, Stage::Promised(_)) && progress.is_sent_little);
        progress.stage = Stage::Syncing(promised, Sent::up_to(5, 2));
        progress.accept(&accepted(5, false));
        assert!(!progress.is_sent_little, "it gets on");
        progress.end_round(9, 0, Presence::Absent, Resending::Sparing);
        send_up_to(&mut progress, 9);
        progress.accept(&accepted(5, false));
        assert_eq!((next_idx(&progress), progress.is_sent_little), (5, true));
        send_up_to(&mut progress, 9);
        progress.accept(&accepted(5, false));
        assert_eq!(next_idx(&progress), 9, "once a round");
        progress.accept(&accepted(6, false));
        progress.accept(&accepted(6, false));
        assert_eq!((next_idx(&progress), progress.is_sent_little), (9, false), "it gets on");
        progress.end_round(9, 0, Presence::Answered, Resending::Sparing);
        send_up_to(&mut progress, 9);
        progress.accept(&accepted(6, false));
        assert_eq!(next_idx(&progress), 9, "it hears the heartbeats");
    }

    #[test]
    fn what_is_missing_is_sent_again_once_a_round() {
        let mut progress = Progress::unpromised();
        progress.stage = Stage::Replicating(Sent::up_to(9, 0));
        progress.accepted_idx = 4;
        progress.resend(9, 0);
        assert_eq!(next_idx(&progress), 4);
        send_up_to(&mut progress, 9);
        progress.go_on(4, 0);
        assert_eq!(next_idx(&progress), 9, "it asked before that arrived");
        progress.end_round(9, 0, Presence::Answered, Resending::Sparing);
        progress.go_on(4, 0);
        assert_eq!(next_idx(&progress), 4, "it asks again");
    }

    const LIMIT: Amount = Amount { entries: 3, bytes: 100 };

    fn room(progress: &Progress) -> Option<Amount> {
        match &progress.stage {
            Stage::Replicating(sent) => sent.room(LIMIT),
            other => panic!("not in step but {other:?}"),
        }
    }

    #[test]
    fn what_is_acknowledged_or_lost_is_not_in_flight() {
        let mut progress = Progress::unpromised();
        let mut sent = Sent::up_to(0, 0);
        sent.advance(2, Amount { entries: 2, bytes: 60 });
        assert_eq!(sent.room(LIMIT), Some(Amount { entries: 1, bytes: 40 }));
        sent.advance(3, Amount { entries: 1, bytes: 10 });
        progress.stage = Stage::Replicating(sent);
        assert_eq!(room(&progress), None);
        progress.accept(&accepted(2, false));
        assert_eq!(room(&progress), Some(Amount { entries: 2, bytes: 90 }));
        progress.accept(&accepted(2, true));
        assert_eq!((room(&progress), next_idx(&progress)), (Some(LIMIT), 2));
    }

    #[test]
    fn a_follower_that_lags_learns_from_another_or_from_the_leader() {
        let mut followers = Followers::unpromised(&[2, 3, 4]);
        assert_eq!(followers.source_for(2, 1), 1, "nobody has more");
        for (pid, decided_idx) in [(3, 7), (4, 9)] {
            let accepted = Accepted { decided_idx, ..accepted(9, false) };
            followers.get_mut(pid).unwrap().accept(&accepted);
        }
        assert_eq!(followers.source_for(2, 1), 1, "every other time");
        assert_eq!(followers.source_for(2, 1), 4);
        followers.get_mut(4).unwrap().end_round(9, 9, Presence::Absent, Resending::Sparing);
        assert_eq!(followers.source_for(2, 1), 1);
        assert_eq!(followers.source_for(2, 1), 3);
    }

    fn is_probe_due(progress: &Progress) -> bool {
        matches!(&progress.stage, Stage::Replicating(sent) if sent.is_probe_due)
    }

    #[test]
    fn asks_after_a_round_without_progress() {
        let mut progress = Progress::unpromised();
        progress.accept(&accepted(2, false));
        progress.stage = Stage::Replicating(Sent::up_to(5, 0));
        progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
        assert!(!is_probe_due(&progress), "it may be on its way");
        progress.end_round(5, 0, Presence::Absent, Resending::Sparing);
        assert!(!is_probe_due(&progress), "nobody is there");
        progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
        assert!(is_probe_due(&progress), "a whole round without an answer");
        assert_eq!(next_idx(&progress), 5);
        progress.accept(&accepted(2, true));
        assert_eq!(next_idx(&progress), 2, "what is missing is sent again");
        progress.stage = Stage::Replicating(Sent::up_to(5, 0));
        progress.accept(&accepted(5, false));
        progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
        progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
        assert!(!is_probe_due(&progress), "in step");
    }

    #[test]
    fn entries_are_sent_again_where_no_answer_comes() {
        let mut progress = Progress::unpromised();
        progress.accept(&accepted(2, false));
        let mut again = Vec::new();
        for round in 0..14 {
            progress.stage = Stage::Replicating(Sent::up_to(5, 0));
            progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
            if next_idx(&progress) == 2 {
                again.push(round);
            }
        }
        assert_eq!(again, [3, 7, 11]);
    }

    #[test]
    fn a_sync_is_sent_again_less_and_less_often() {
        let promised = Promised { decided_idx: 0, takes_delta: false };
        let mut progress = Progress::unpromised();
        let mut again = Vec::new();
        for round in 0..20 {
            if round == 0 || matches!(progress.stage, Stage::Promised(_)) {
                progress.stage = Stage::Syncing(promised, Sent::up_to(5, 0));
            }
            progress.end_round(5, 0, Presence::Answered, Resending::Sparing);
            if matches!(progress.stage, Stage::Promised(_)) {
                again.push(round);
            }
        }
        assert_eq!(again, [1, 3, 7, 11, 15, 19]);
    }

    #[test]
    fn a_leader_that_does_not_get_on_sends_a_little_with_each_heartbeat() {
        let promised = Promised { decided_idx: 0, takes_delta: false };
        for stage in [
            Stage::Replicating(Sent::up_to(9, 0)),
            Stage::Syncing(promised, Sent::up_to(9, 0)),
            Stage::CatchingUp(promised),
        ] {
            let mut progress = Progress::unpromised();
            progress.stage = stage.clone();
            progress.end_round(9, 0, Presence::Absent, Resending::EachRound);
            assert!(!progress.is_sent_little, "it may be on its way");
            for _ in 0..6 {
                progress.stage = stage.clone();
                progress.end_round(9, 0, Presence::Absent, Resending::EachRound);
                assert!(progress.is_sent_little, "{stage:?}");
                let is_sent_again = match &progress.stage {
                    Stage::Promised(_) => true,
                    Stage::Replicating(sent) => sent.next_idx == 0 && sent.is_probe_due,
                    other => panic!("{other:?}"),
                };
                assert!(is_sent_again, "{stage:?}");
            }
            progress.accept(&accepted(4, false));
            assert!(!progress.is_sent_little, "it has got on");
        }
    }

    #[test]
    fn a_leader_gets_on_while_a_write_quorum_does() {
        let quorum = Quorum::of(5, None);
        let mut followers = Followers::unpromised(&[2, 3, 4, 5]);
        let end_round = |followers: &mut Followers| {
            let resending = followers.resending(&quorum, 9);
            for (_, progress) in followers.iter_mut() {
                progress.end_round(9, 0, Presence::Answered, resending);
            }
            resending
        };
        assert_eq!(end_round(&mut followers), Resending::Sparing);
        for (acknowledges, expected) in [
            (vec![2, 3], Resending::Sparing),
            (vec![2], Resending::EachRound),
            (vec![4, 5, 2], Resending::Sparing),
        ] {
            for pid in acknowledges {
                let progress = followers.get_mut(pid).unwrap();
                progress.accept(&accepted(progress.accepted_idx + 1, false));
            }
            assert_eq!(end_round(&mut followers), expected);
        }
    }
}
