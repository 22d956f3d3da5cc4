//! What messages claim.

use super::{ensure, Check, Checker, Violation};
use crate::{
    describe,
    disk::Image,
    value::{encoded, stop_sign_id, Chain, SimEntry},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::{
        sequence_paxos::{
            AcceptDecide, AcceptStopSign, AcceptSync, Accepted, CatchUpChunk, CompactionAction,
            PaxosMsg, Promise,
        },
        Message,
    },
    storage::{Snapshot, SnapshotType},
};

/// When a message leaves a server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Before the write of its drain.
    BeforeTheWrite,
    /// After that.
    AfterTheWrite,
}

impl Leaves {
    /// Invariant I26: whether a message may leave then, whatever it claims.
    fn allows<T: SimEntry>(self, message: &Message<T>) -> bool {
        match (self, message) {
            (Leaves::AfterTheWrite, _) => true,
            (Leaves::BeforeTheWrite, Message::SequencePaxos(paxos)) => matches!(
                paxos.msg,
                PaxosMsg::AcceptDecide(_)
                    | PaxosMsg::AcceptStopSign(_)
                    | PaxosMsg::Decide(_)
                    | PaxosMsg::LeadershipCheck(_)
                    | PaxosMsg::LeadershipCheckAck(_)
                    | PaxosMsg::ReadIndexRequest(_)
                    | PaxosMsg::ReadIndexResponse(_)
                    | PaxosMsg::ProposalForward(_)
                    | PaxosMsg::ForwardedProposals(_)
                    | PaxosMsg::ForwardStopSign(_)
            ),
            (Leaves::BeforeTheWrite, Message::BLE(_)) => false,
        }
    }
}

/// The sender of a message, with its disk.
struct Speaker<'a, T: SimEntry> {
    pid: u64,
    image: &'a Image<T>,
}

impl<T: SimEntry> Speaker<'_, T> {
    fn promise(&self) -> Ballot {
        self.image.promise.unwrap_or_default()
    }

    fn round(&self) -> Ballot {
        self.image.accepted_round.unwrap_or_default()
    }

    /// Invariant I5, with what the disk holds in the text.
    fn stored(&self, holds: bool, claim: &Message<T>) -> Result<(), Violation> {
        ensure!(
            holds,
            Check::StoredFirst,
            "server {} says {} with promise {}, round {}, log {}..{}, {} decided on its disk",
            self.pid,
            describe::message(claim),
            describe::ballot(self.promise()),
            describe::ballot(self.round()),
            self.image.compacted_idx,
            self.image.accepted_idx(),
            self.image.decided_idx
        );
        Ok(())
    }
}

impl Checker {
    /// A message leaves a server in its given incarnation, while its disk holds `image`.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_outgoing<T: SimEntry>(
        &mut self,
        server: usize,
        incarnation: u64,
        message: &Message<T>,
        image: &Image<T>,
        leaves: Leaves,
    ) -> Result<(), Violation> {
        let pid = self.pids[server];
        ensure!(
            leaves.allows(message),
            Check::StoredFirst,
            "server {pid} sends {} before a write",
            describe::message(message)
        );
        let to = message.get_receiver();
        let is_member = self.pids.contains(&to);
        let may_be_told = self.is_next() && matches!(message, Message::BLE(_));
        ensure!(
            message.get_sender() == pid && to != pid && (is_member || may_be_told),
            Check::StoredFirst,
            "server {pid} sends from {} to {to}: {}",
            message.get_sender(),
            describe::message(message)
        );
        self.check_observing(server, message)?;
        let paxos = match message {
            Message::SequencePaxos(paxos) => &paxos.msg,
            Message::BLE(_) => return Ok(()),
        };
        let speaker = Speaker { pid, image };
        match paxos {
            PaxosMsg::PrepareReq(m) => speaker.stored(speaker.promise() >= m.n, message),
            PaxosMsg::Prepare(m) => {
                self.check_owner(server, incarnation, m.n)?;
                speaker.stored(speaker.promise() >= m.n, message)
            }
            PaxosMsg::Promise(m) => speaker.stored(promise_holds(m, &speaker), message),
            PaxosMsg::AcceptSync(m) => {
                self.check_owner(server, incarnation, m.n)?;
                self.check_decided(pid, m.decided_idx, message)?;
                speaker.stored(sync_holds(m, &speaker), message)
            }
            PaxosMsg::AcceptDecide(m) => {
                self.check_owner(server, incarnation, m.n)?;
                self.check_decided(pid, m.decided_idx, message)?;
                speaker.stored(entries_hold(m, &speaker, leaves), message)
            }
            PaxosMsg::AcceptStopSign(m) => {
                self.check_owner(server, incarnation, m.n)?;
                self.check_decided(pid, m.decided_idx, message)?;
                speaker.stored(stop_sign_holds(m, &speaker, leaves), message)
            }
            PaxosMsg::Accepted(m) => speaker.stored(accepted_holds(m, &speaker), message),
            PaxosMsg::NotAccepted(m) => speaker.stored(speaker.promise() >= m.n, message),
            PaxosMsg::Decide(m) => {
                self.check_owner(server, incarnation, m.n)?;
                self.check_decided(pid, m.decided_idx, message)
            }
            PaxosMsg::CatchUpRedirect(m) => {
                self.check_owner(server, incarnation, m.n)?;
                self.check_decided(pid, m.decided_idx, message)
            }
            PaxosMsg::CatchUpRequest(m) => self.check_decided(pid, m.decided_idx, message),
            PaxosMsg::CatchUpChunk(m) => {
                self.check_decided(pid, m.decided_idx, message)?;
                self.check_chunk(pid, m, message)?;
                speaker.stored(chunk_holds(m, &speaker), message)
            }
            PaxosMsg::Compaction(m) => match m.action {
                CompactionAction::Applied(report) => {
                    self.check_report(server, report.applied_idx)?;
                    speaker.stored(image.accepted_idx() >= report.applied_idx, message)
                }
                CompactionAction::Trim(idx) => self.check_trim(pid, idx),
                CompactionAction::Snapshot(_) => Ok(()),
                CompactionAction::Compacted(idx) => {
                    // After a bare trim there can be no snapshot, and nothing is left to be done.
                    let is_bare = image.snapshot.is_none() && image.compacted_idx > 0;
                    // No server can make a snapshot on request.
                    let is_refused = !T::Snapshot::can_create();
                    // A crash may undo the compaction, which is harmless (I24): the entries stay.
                    let is_compacted = self.shown[server].compacted.max(image.compacted_idx) >= idx;
                    let is_done = is_bare || is_refused || is_compacted;
                    speaker.stored(is_done, message)
                }
                _ => speaker.stored(false, message),
            },
            PaxosMsg::LeadershipCheck(m) => self.check_owner(server, incarnation, m.n),
            PaxosMsg::LeadershipCheckAck(m) => speaker.stored(speaker.promise() == m.n, message),
            PaxosMsg::ReadIndexRequest(m) => {
                // In an epoch, earlier promises do not count. A relay passes on what the origin has promised.
                let promise = Some(speaker.promise()).filter(|n| n.config_id == m.config_id);
                let holds = m.origin != pid || promise.unwrap_or_default() == m.n;
                speaker.stored(holds, message)
            }
            PaxosMsg::TransferLeadership(m) => self.check_owner(server, incarnation, m.n),
            PaxosMsg::Joining(_) => Ok(()),
            PaxosMsg::ProposalForward(_)
            | PaxosMsg::ForwardedProposals(_)
            | PaxosMsg::ProposalRejection(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::ReadIndexResponse(_) => Ok(()),
        }
    }

    /// Invariant I4.
    fn check_owner(&mut self, server: usize, incarnation: u64, n: Ballot) -> Result<(), Violation> {
        let owner = *self.owners.entry(n).or_insert((server, incarnation));
        ensure!(
            owner == (server, incarnation) && n.pid == self.pids[server],
            Check::OneOwner,
            "server {} speaks as the owner of {} in incarnation {incarnation}, as did server {} in incarnation {}",
            self.pids[server],
            describe::ballot(n),
            self.pids[owner.0],
            owner.1
        );
        Ok(())
    }

    /// No server reports a decision that no server has shown.
    fn check_decided<T: SimEntry>(
        &self,
        pid: u64,
        decided_idx: u64,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        ensure!(
            decided_idx <= self.log.len(),
            Check::QuorumDecides,
            "server {pid} says {} when {} are decided",
            describe::message(message),
            self.log.len()
        );
        Ok(())
    }

    /// What others learn is decided, and has no ballot: it must be what is known as decided.
    fn check_chunk<T: SimEntry>(
        &self,
        pid: u64,
        m: &CatchUpChunk<T>,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        let words = describe::message(message);
        let sign = m.stopsign.as_ref().map(stop_sign_id);
        let entries = m.entries.lock();
        let ids = entries.iter().map(SimEntry::id).chain(sign);
        let mut placed = (m.from_idx..).zip(ids);
        ensure!(
            placed.all(|(idx, id)| self.log.id_at(idx) == Some(id) && idx < m.decided_idx),
            Check::Agreement,
            "server {pid} says {words}, others decided something else"
        );
        let sum: Option<Chain> = match &m.snapshot {
            Some(SnapshotType::Complete(snapshot)) => T::covered(snapshot),
            Some(SnapshotType::Delta(delta)) => {
                let before = self.log.sum(m.base);
                before.zip(T::covered(delta)).map(|(before, delta)| before.then(delta))
            }
            None => None,
        };
        let is_piece_right = m.piece.as_ref().is_none_or(|piece| {
            let whole = self.log.sum(piece.encoding.idx).map(|sum| encoded(&sum));
            let offset = piece.offset as usize;
            whole.is_some_and(|whole| {
                whole.len() as u64 == piece.encoding.len
                    && whole.get(offset..offset + piece.bytes.len()) == Some(&piece.bytes[..])
            })
        });
        ensure!(
            is_piece_right,
            Check::Agreement,
            "server {pid} says {words}, which is no piece of the snapshot"
        );
        ensure!(
            sum.is_none() || sum == self.log.sum(m.from_idx),
            Check::Agreement,
            "server {pid} says {words}, others decided {:?}",
            self.log.sum(m.from_idx)
        );
        Ok(())
    }

    /// What is trimmed everywhere must be held by all.
    fn check_trim(&self, pid: u64, idx: u64) -> Result<(), Violation> {
        for (stored, lacking) in self.stored.iter().zip(&self.pids).take(self.members) {
            let len = stored.len();
            ensure!(
                idx <= len,
                Check::TrimSafe,
                "server {pid} trims up to {idx}, and the disk of server {lacking} ends at {len}"
            );
        }
        Ok(())
    }
}

fn promise_holds<T: SimEntry>(m: &Promise<T>, speaker: &Speaker<'_, T>) -> bool {
    speaker.promise() >= m.n
        && speaker.round() == m.n_accepted
        && speaker.image.accepted_idx() == m.accepted_idx
}

fn accepted_holds<T: SimEntry>(m: &Accepted, speaker: &Speaker<'_, T>) -> bool {
    speaker.round() == m.n && speaker.image.accepted_idx() >= m.accepted_idx
}

fn sync_holds<T: SimEntry>(m: &AcceptSync<T>, speaker: &Speaker<'_, T>) -> bool {
    let suffix_end = m.sync.suffix_idx + m.sync.suffix.len() as u64;
    let end = suffix_end + u64::from(m.sync.stopsign.is_some());
    speaker.round() == m.n
        && end <= speaker.image.accepted_idx()
        && holds(speaker.image, m.sync.suffix_idx, &m.sync.suffix.lock())
}

fn chunk_holds<T: SimEntry>(m: &CatchUpChunk<T>, speaker: &Speaker<'_, T>) -> bool {
    let end = m.from_idx + m.entries.len() as u64;
    let sign_holds = |s| speaker.image.id_at(end) == Some(stop_sign_id(s));
    end <= speaker.image.accepted_idx()
        && holds(speaker.image, m.from_idx, &m.entries.lock())
        && m.stopsign.as_ref().is_none_or(sign_holds)
}

/// Before a write, entries beyond the end of the disk are those to be written.
fn entries_hold<T: SimEntry>(
    m: &AcceptDecide<T>,
    speaker: &Speaker<'_, T>,
    leaves: Leaves,
) -> bool {
    let image = speaker.image;
    let unstored = position(m.from_idx + m.entries.len() as u64, image.accepted_idx());
    let stored = |entries: &[T]| entries.len().saturating_sub(unstored);
    let is_held = |entries: &[T]| holds(image, m.from_idx, &entries[..stored(entries)]);
    speaker.round() == m.n
        && (unstored == 0 || leaves == Leaves::BeforeTheWrite)
        && m.entries.plain().is_none_or(|plain| is_held(&plain.lock()))
}

/// Number of records before `end` from `from` on.
fn position(end: u64, from: u64) -> usize {
    end.saturating_sub(from) as usize
}

fn stop_sign_holds<T: SimEntry>(
    m: &AcceptStopSign,
    speaker: &Speaker<'_, T>,
    leaves: Leaves,
) -> bool {
    let image = speaker.image;
    let is_unstored = m.idx >= image.accepted_idx();
    let holds = match is_unstored {
        true => leaves == Leaves::BeforeTheWrite,
        false => image.id_at(m.idx) == Some(stop_sign_id(&m.stopsign)),
    };
    speaker.round() == m.n && holds
}

/// Whether `image` holds `entries` from `first` on, as far as they are not compacted.
fn holds<T: SimEntry>(image: &Image<T>, first: u64, entries: &[T]) -> bool {
    let mut placed = (first..).zip(entries);
    placed.all(|(idx, e)| idx < image.compacted_idx || image.id_at(idx) == Some(e.id()))
}
