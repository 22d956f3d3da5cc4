//! Builds the messages that may leave before the flush.

use super::MessageBuilder;
use crate::{
    amount::Amount,
    errors::Halted,
    ids::NodeId,
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    observe::status::WriteUrgency,
    sequence_paxos::{
        progress::{Progress, Stage},
        state::{Leading, State},
        SequencePaxos,
    },
    storage::{Entry, Storage},
};

/// The largest number of entries that wait for a write without urgency.
const MOST_UNSTORED: u64 = 128;

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Appends the messages to `messages` that may leave before the next write.
    ///
    /// Invariant I26: they claim nothing that a crash before that write could undo. Which kinds these
    /// are, and why, is in `ARCHITECTURE.md`.
    ///
    /// # Errors
    /// The storage failed.
    pub(crate) fn early_output(&mut self, messages: &mut Vec<Message<T>>) -> Result<(), Halted> {
        match &self.state {
            State::Recovering | State::Promised { .. } | State::Preparing(_) => return Ok(()),
            State::Following(_) | State::Leading(_) => {}
        }
        if self.log.is_flushed() || !self.log.is_stored_but_records() || self.is_epoch_due() {
            return Ok(());
        }
        let from = self.pid;
        let mut send = |to: NodeId, msg: PaxosMsg<T>| {
            messages.push(Message::SequencePaxos(PaxosMessage { from, to, msg }));
        };
        if let State::Leading(Leading { followers, adopted_len, .. }) = &mut self.state {
            self.log.release_early();
            let (_, amount) = self.log.recent();
            let (from_idx, entries) = self.log.recent_entries();
            self.codec.encode(from_idx, entries, amount.bytes);
            let mut builder = MessageBuilder {
                log: &self.log,
                limits: &self.limits,
                codec: &mut self.codec,
                adopted_len: *adopted_len,
                read_at_once: self.limits.message.read_at_once(),
                leaves_rest: false,
            };
            let built = followers
                .iter_mut()
                .try_for_each(|(to, progress)| builder.early(progress, |msg| send(to, msg)));
            self.log.forget_recent();
            built?;
        }
        if !self.reads.is_silent() {
            self.build_reads(&mut send);
        }
        self.build_queued_forwards(send);
        if self.proposals.has_pending() && self.log.stopsign_idx().is_none() {
            self.settle_proposals();
        }
        Ok(())
    }

    /// Returns who waits for the next write.
    ///
    /// Invariant I28: it is not `Now` only at a leader that has sent all that it holds, and to which
    /// nothing else is due. Its next output sends nothing but what its own write decides.
    pub(crate) fn write_urgency(&self) -> WriteUrgency {
        let State::Leading(Leading { followers, transfer: None, .. }) = &self.state else {
            return WriteUrgency::Now;
        };
        let end = self.log.sendable_len();
        let is_all_released = self.log.is_released_early() && end == self.log.len();
        let is_awaited = !self.log.is_stored_but_records()
            || self.log.stopsign_idx().is_some()
            || !self.log.unstored_amount().fits(self.most_unstored())
            || !self.has_nothing_due()
            || !followers.await_nothing(end, self.limits.in_flight)
            || self.observers.is_any_due(self.log.decided_idx());
        if !is_all_released || is_awaited || !self.members.quorum().can_accept(followers.in_step())
        {
            return WriteUrgency::Now;
        }
        match self.log.decided_idx() < end {
            true => WriteUrgency::UnlessDecided,
            false => WriteUrgency::Later,
        }
    }

    /// Returns the largest amount that waits for a write without urgency. A larger one takes longer to
    /// write, and each early output copies what waits.
    fn most_unstored(&self) -> Amount {
        self.limits.message.min(Amount { entries: MOST_UNSTORED, bytes: u64::MAX })
    }
}

impl<T: Entry, B: Storage<T>> MessageBuilder<'_, T, B> {
    /// Builds the messages to one follower before the flush: the records that are not stored, if it was
    /// sent all others, and the decided index.
    fn early(
        &mut self,
        progress: &mut Progress,
        send: impl FnMut(PaxosMsg<T>),
    ) -> Result<(), Halted> {
        let most = progress.most_at_once();
        match &mut progress.stage {
            Stage::Unpromised { .. } | Stage::Promised(_) | Stage::CatchingUp(_) => Ok(()),
            Stage::Syncing(_, sent) | Stage::Replicating(sent) => {
                let lacks_stored = sent.next_idx < self.log.unstored_from();
                if lacks_stored || self.is_far_behind(sent) {
                    return Ok(());
                }
                self.accepts(sent, most, send).map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sequence_paxos::tests::Table;

    #[test]
    fn early_messages() {
        Table::new().check(
            "
            # A leader sends what it has not stored (I26), once. It is decided when a quorum has stored it,
            leading 4.1 ABC 2:3/3 3:3/3 | append d; early | leading 4.1 ABCd 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                | append d; early; append e; early | leading 4.1 ABCde 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; early 2: AcceptDecide 4.1 at=4 +e dec=3; early 3: AcceptDecide 4.1 at=4 +e dec=3
            # the rest with the write,
                | append d; early; append e | leading 4.1 ABCde 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; 2: AcceptDecide 4.1 at=4 +e dec=3; 3: AcceptDecide 4.1 at=4 +e dec=3
            # also without the leader.
                | append d; early; 2: Accepted 4.1 len=4 dec=3; 3: Accepted 4.1 len=4 dec=3
                | leading 4.1 ABCD 2:4/3 3:4/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
            # One acceptance is no quorum before the write: the leader counts only what it has stored.
                | append d; early; 2: Accepted 4.1 len=4 dec=3; flush | leading 4.1 ABCD 2:4/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
                | append d; early; 2: Accepted 4.1 len=4 dec=3; early | leading 4.1 ABCD 2:4/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
            # The stop sign, and the decided index.
                | append d; reconfigure; early | leading 4.1 ABCd$ 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 2: AcceptStopSign 4.1 at=4 dec=3
                ; early 3: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptStopSign 4.1 at=4 dec=3
            # Not to a follower that lacks stored entries, and not before a promise.
            leading 4.1 ABC 2:3/3 3:2/2 | 3: Accepted 4.1 len=2 dec=2 gap; append d; early
                | leading 4.1 ABCd 2:3/3 3:2/2
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; 3: AcceptDecide 4.1 at=2 +cd dec=3
            preparing 4.1 3.1 ABc     | append d; early | preparing 4.1 3.1 ABc waits=1 |
            # Nothing if nothing is to be written.
            leading 4.1 ABC 2:3/3     | early; read; early | same | read 1; 2: LeadershipCheck 4.1 round=1
                                      ; 3: LeadershipCheck 4.1 round=1
            # A follower: its proposals and reads, and no acceptance.
            following 4.2 ABc         | 2: AcceptDecide 4.2 at=3 +d; read; append e; early
                | following 4.2 ABcd pending=1
                | read 1; early 2: ReadIndexRequest id=1/7/1 n=4.2
                ; early 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +e; 2: Accepted 4.2 len=4 dec=2
            # Nothing that a crash could undo: a promise, or an accepted round, that is not stored.
            following 4.2 ABc         | 3: Prepare 5.3 na=4.2 len=3 dec=2; read; early
                                      | promised 5.3 4.2 ABc
                | read 1; 3: Promise 5.3 na=4.2 len=3 dec=2; 3: ReadIndexRequest id=1/7/1 n=5.3
            promised 4.2 3.3 ABc      | 2: AcceptSync 4.2 at=2 +de dec=2; append f; early
                | following 4.2 ABde pending=1
                | 2: Accepted 4.2 len=4 dec=2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +f
            promised 4.2 3.3 ABC      | 2: AcceptSync 4.2 at=3 +d dec=3; append f; early
                | following 4.2 ABCd pending=1
                | 2: Accepted 4.2 len=4 dec=3; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=3 +f
            ",
        );
    }

    #[test]
    fn urgency_of_the_write() {
        Table::new().check(
            "
            # A leader may write later what it has sent (I28): to all, and not before it has sent it.
            leading 4.1 ABC 2:3/3 3:3/3 | append d; urgency; early; urgency | leading 4.1 ABCd 2:3/3 3:3/3
                | urgency: Now; early 2: AcceptDecide 4.1 at=3 +d dec=3
                ; early 3: AcceptDecide 4.1 at=3 +d dec=3; urgency: UnlessDecided
                | append d; early; append e; urgency | leading 4.1 ABCde 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; urgency: Now; 2: AcceptDecide 4.1 at=4 +e dec=3; 3: AcceptDecide 4.1 at=4 +e dec=3
            # Nothing to write is written at once.
                | urgency | same | urgency: Now
            # Followers decide without it, if a quorum of them accepts.
                | append d; early; 2: Accepted 4.1 len=4 dec=3; urgency | leading 4.1 ABCD 2:4/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; urgency: UnlessDecided; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
                | append d; early; 2: Accepted 4.1 len=4 dec=3; 3: Accepted 4.1 len=4 dec=3; urgency
                | leading 4.1 ABCD 2:4/3 3:4/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; urgency: Later; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
            # No message may leave before a compaction is written, so the decided index waits for it.
                | append d; early; 2: Accepted 4.1 len=4 dec=3; 3: Accepted 4.1 len=4 dec=3
                ; compact_with 3 abc; early; urgency | leading 4.1 ***D 2:4/3 3:4/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; urgency: Now; 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4
            # A quorum needs this server: the other follower has not promised.
            leading 4.1 ABC 2:3/3     | append d; early; urgency | leading 4.1 ABCd 2:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; urgency: Now
            # A follower waits for stored entries.
            leading 4.1 ABC 2:3/3 3:2/2 | 3: Accepted 4.1 len=2 dec=2 gap; append d; early; urgency
                | leading 4.1 ABCd 2:3/3 3:2/2
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; urgency: Now
                ; 3: AcceptDecide 4.1 at=2 +cd dec=3
            # A peer waits for an answer.
            leading 4.1 ABC 2:3/3 3:3/3 | append d; early; 3: CatchUpRequest dec=2; urgency
                | leading 4.1 ABCd 2:3/3 3:3/3
                | early 2: AcceptDecide 4.1 at=3 +d dec=3; early 3: AcceptDecide 4.1 at=3 +d dec=3
                ; urgency: Now; 3: CatchUpChunk at=2 +c dec=3
            # A stop sign ends the configuration.
            leading 4.1 ABC 2:3/3 3:3/3 | reconfigure; early; urgency | leading 4.1 ABC$ 2:3/3 3:3/3
                | early 2: AcceptStopSign 4.1 at=3 dec=3; early 3: AcceptStopSign 4.1 at=3 dec=3
                ; urgency: Now
            # A follower's acceptance is awaited, and so is a promise.
            following 4.2 ABc         | 2: AcceptDecide 4.2 at=3 +d; early; urgency | following 4.2 ABcd
                | urgency: Now; 2: Accepted 4.2 len=4 dec=2
            preparing 4.1 3.1 ABc     | append d; early; urgency | preparing 4.1 3.1 ABc waits=1
                | urgency: Now
            ",
        );
    }

    #[test]
    fn many_entries_do_not_wait_for_the_write() {
        for (count, urgency) in [(128, "UnlessDecided"), (129, "Now")] {
            let many = "d".repeat(count);
            let sent = format!("AcceptDecide 4.1 at=3 +{many} dec=3");
            Table::new().check(&format!(
                "leading 4.1 ABC 2:3/3 3:3/3 | append {many}; early; urgency
                | leading 4.1 ABC{many} 2:3/3 3:3/3
                | early 2: {sent}; early 3: {sent}; urgency: {urgency}"
            ));
        }
    }

    #[test]
    fn a_chunk_has_only_decided_entries_of_the_write() {
        Table::new().check(
            "
            leading 4.1 A 2:1/1 3:1/1
                | append bcd; early; 2: Accepted 4.1 len=3 dec=1; 3: CatchUpRequest dec=1 range=1-3
                | leading 4.1 ABCd 2:3/1 3:1/1
                | early 2: AcceptDecide 4.1 at=1 +bcd dec=1; early 3: AcceptDecide 4.1 at=1 +bcd dec=1
                ; 2: Decide 4.1 dec=3; 3: Decide 4.1 dec=3
                ; 3: CatchUpChunk at=1 +bc ids=1:1/4./1x2 dec=3
            ",
        );
    }

    /// Proposals end before the write of the server that decides them, or learns that they are decided.
    #[test]
    fn outcomes_before_the_write() {
        Table::new().check(
            "
            leading 4.1 ABC 2:3/3 3:3/3
                | propose d; early; 2: Accepted 4.1 len=4 dec=3; 3: Accepted 4.1 len=4 dec=3; early
                | leading 4.1 ABCD 2:4/3 3:4/3 | 1/7/0
                ; early 2: AcceptDecide 4.1 at=3 +d ids=3:1/7/0x1 dec=3
                ; early 3: AcceptDecide 4.1 at=3 +d ids=3:1/7/0x1 dec=3
                ; early 2: Decide 4.1 dec=4; early 3: Decide 4.1 dec=4; 1/7/0 is decided at 3
            following 4.2 ABC
                | propose d; early; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=4; early
                | following 4.2 ABCD | 1/7/0
                ; 1/7/0 is decided at 3; 2: Accepted 4.2 len=4 dec=4
            # Not if a stop sign ends them: a crash may undo that.
                | propose d; output; 2: AcceptStopSign 4.2 at=3 dec=4; early | following 4.2 ABC!
                | 2: Accepted 4.2 len=4 dec=4; 1/7/0 is not decided
            ",
        );
    }
}
