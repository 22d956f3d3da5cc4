//! How large messages are, and how much is on its way.

use super::{ensure, Check, Checker, Violation};
use crate::{
    describe,
    disk::Image,
    value::{encoded, SimEntry, LARGEST_SNAPSHOT},
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::{
        sequence_paxos::{
            AcceptDecide, CatchUpChunk, CatchUpRequest, LogSync, PaxosMessage, PaxosMsg,
        },
        Message,
    },
    status::Status,
    storage::SnapshotType,
    ServerConfig,
};
use std::{borrow::Cow, collections::BTreeMap};

/// A number of entries and of bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Size {
    entries: u64,
    bytes: u64,
}

impl Size {
    fn of<T: SimEntry>(entries: &[T]) -> Self {
        Self::sum(entries.iter())
    }

    fn sum<'a, T: SimEntry>(entries: impl Iterator<Item = &'a T>) -> Self {
        let none = Size { entries: 0, bytes: 0 };
        entries.fold(none, |sum, entry| Size {
            entries: sum.entries + 1,
            bytes: sum.bytes + entry.size_hint() as u64,
        })
    }

    /// Whether a message of one sort of entries may be so large. A single entry may.
    fn fits(self, limit: Size) -> bool {
        self.entries <= 1 || (self.entries <= limit.entries && self.bytes <= limit.bytes)
    }
}

/// The limits on what a server sends, by its configuration.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    message: Size,
    in_flight: Size,
}

/// The most runs of ids that are remembered with their indices: eight times as many as a message may have
/// entries, up to this, but at least as many as it may have.
const REMEMBERED: u64 = 256;

/// The number of requests of one server for decided entries that are answered at once.
const CHUNKS_AT_ONCE: usize = 4;

impl Limits {
    /// Whether indices may be forgotten of a log of this length, each entry a run by itself.
    pub(super) fn forgets_ids(&self, len: u64) -> bool {
        let most = self.message.entries;
        len > most.saturating_mul(8).min(REMEMBERED).max(most)
    }

    /// Those of a configuration.
    pub fn of(config: &ServerConfig) -> Self {
        let size =
            |entries: usize, bytes: usize| Size { entries: entries as u64, bytes: bytes as u64 };
        Self {
            message: size(config.max_message_entries, config.max_message_bytes),
            in_flight: size(config.max_in_flight_entries, config.max_in_flight_bytes),
        }
    }
}

/// The entries that left a leader for one follower in AcceptDecide messages of one ballot, since
/// it went back or on to some index.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Window {
    n: Ballot,
    start: u64,
    end: u64,
    /// What the follower has confirmed to this incarnation of the leader.
    confirmed: u64,
}

impl Window {
    fn in_ballot(&mut self, n: Ballot) -> &mut Self {
        if self.n != n {
            *self = Self { n, ..Self::default() };
        }
        self
    }

    /// Resets it.
    fn restart(&mut self, at: u64) {
        (self.start, self.end) = (at, at);
    }

    /// Entries leave. Returns the index from which on they are on their way.
    fn extend(&mut self, from_idx: u64, end: u64) -> u64 {
        if from_idx != self.end {
            self.restart(from_idx);
        }
        self.end = end;
        self.start.max(self.confirmed)
    }
}

impl Checker {
    /// Holds servers to these limits.
    #[must_use]
    pub fn limited_to(mut self, limits: Vec<Limits>) -> Self {
        self.limits = limits;
        self
    }

    /// A message reaches a server that runs. What it confirms must not be sent again.
    pub fn heard<T: SimEntry>(&mut self, server: usize, message: &Message<T>) {
        let Message::SequencePaxos(paxos) = message else {
            return;
        };
        let (n, confirmed) = match &paxos.msg {
            PaxosMsg::Accepted(m) => (m.n, m.accepted_idx),
            // A restarted follower reports what it has accepted in the ballot.
            PaxosMsg::PrepareReq(m) => (m.n_accepted, m.accepted_idx),
            _other => return,
        };
        if let Some(follower) = self.position(paxos.from) {
            let window = &mut self.windows[server][follower];
            if window.n == n {
                window.confirmed = window.confirmed.max(confirmed);
            }
        }
    }

    /// A message leaves a server while its disk holds `image`.
    ///
    /// # Errors
    /// It is larger than the limits of the server allow.
    pub fn bounded<T: SimEntry>(
        &mut self,
        server: usize,
        message: &Message<T>,
        image: &Image<T>,
    ) -> Result<(), Violation> {
        let (Message::SequencePaxos(paxos), Some(limits)) = (message, self.limits.get(server))
        else {
            return Ok(());
        };
        let limits = *limits;
        match &paxos.msg {
            PaxosMsg::AcceptDecide(m) => {
                let entries = entries_of(m, image);
                self.check_size(server, &entries, limits, message)?;
                self.check_window(server, m, &entries, message, image)
            }
            PaxosMsg::CatchUpChunk(m) => {
                self.check_size(server, &m.entries.lock(), limits, message)?;
                self.check_snapshot(server, m, limits, message)
            }
            PaxosMsg::CatchUpRequest(m) => self.check_request(server, m, limits, message),
            PaxosMsg::ProposalForward(entries) => self.check_size(server, entries, limits, message),
            PaxosMsg::ForwardedProposals(m) => {
                // It is passed on as its origin made it.
                let origin =
                    self.position(m.first.origin).and_then(|origin| self.limits.get(origin));
                let limits = origin.copied().unwrap_or(limits);
                self.check_size(server, &m.entries, limits, message)
            }
            PaxosMsg::AcceptSync(m) => {
                if let Some(follower) = self.position(paxos.to) {
                    let end = m.sync.suffix_idx + m.sync.suffix.len() as u64;
                    self.windows[server][follower].in_ballot(m.n).restart(end);
                }
                self.check_sync(server, &m.sync, m.decided_idx, limits, message)
            }
            PaxosMsg::Promise(m) => match &m.sync {
                Some(sync) => self.check_sync(server, sync, m.decided_idx, limits, message),
                None => Ok(()),
            },
            PaxosMsg::PrepareReq(_)
            | PaxosMsg::Prepare(_)
            | PaxosMsg::AcceptStopSign(_)
            | PaxosMsg::Accepted(_)
            | PaxosMsg::NotAccepted(_)
            | PaxosMsg::Decide(_)
            | PaxosMsg::CatchUpRedirect(_)
            | PaxosMsg::ProposalRejection(_)
            | PaxosMsg::ForwardStopSign(_)
            | PaxosMsg::Compaction(_)
            | PaxosMsg::ReadIndexRequest(_)
            | PaxosMsg::ReadIndexResponse(_)
            | PaxosMsg::LeadershipCheck(_)
            | PaxosMsg::LeadershipCheckAck(_)
            | PaxosMsg::TransferLeadership(_)
            | PaxosMsg::Joining(_) => Ok(()),
        }
    }

    /// The messages of one drain leave a server.
    ///
    /// # Errors
    /// They have more of a snapshot for one server than may be in flight, or more chunks than a server
    /// sends at once.
    pub fn check_answers<T: SimEntry>(
        &self,
        server: usize,
        messages: &[Message<T>],
    ) -> Result<(), Violation> {
        let Some(limits) = self.limits.get(server) else {
            return Ok(());
        };
        let mut sums = BTreeMap::<u64, (u64, usize)>::new();
        for message in messages {
            let Message::SequencePaxos(PaxosMessage { to, msg: PaxosMsg::CatchUpChunk(m), .. }) =
                message
            else {
                continue;
            };
            let (bytes, chunks) = sums.entry(*to).or_default();
            match &m.piece {
                Some(piece) => *bytes += piece.bytes.len() as u64,
                None => *chunks += 1,
            }
        }
        let most = limits.in_flight.bytes.max(limits.message.bytes);
        for (to, (bytes, chunks)) in sums {
            ensure!(
                bytes <= most && chunks <= CHUNKS_AT_ONCE,
                Check::Bounded,
                "server {} sends {to} {bytes} bytes of a snapshot and {chunks} chunks at once, and may \
                 send {most} and {CHUNKS_AT_ONCE}",
                self.pids[server]
            );
        }
        Ok(())
    }

    /// What a server asks for fits into what may be in flight, or is one piece of a snapshot. The range of
    /// the entries at its decided index, which waits for nothing, comes on top, and the stop sign.
    fn check_request<T: SimEntry>(
        &self,
        server: usize,
        m: &CatchUpRequest,
        limits: Limits,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        let most =
            limits.in_flight.entries.saturating_add(limits.message.entries).saturating_add(1);
        let is_range_bounded = m.range.as_ref().is_none_or(|range| {
            range.from_idx < range.until_idx
                && range.until_idx.saturating_sub(m.decided_idx) <= most
        });
        let most_bytes = limits.in_flight.bytes.max(limits.message.bytes);
        let is_piece_bounded = m.piece.as_ref().is_none_or(|piece| {
            piece.until <= piece.encoding.len
                && piece.until.saturating_sub(piece.from) <= most_bytes
        });
        ensure!(
            is_range_bounded && is_piece_bounded,
            Check::Bounded,
            "server {} says {}, and may have {:?} in flight",
            self.pids[server],
            describe::message(message),
            limits.in_flight
        );
        Ok(())
    }

    /// A server shows what it holds to catch up, or for others that do.
    ///
    /// # Errors
    /// It holds more than its limits allow, or than a snapshot has.
    pub fn check_held(&self, server: usize, status: &Status) -> Result<(), Violation> {
        let Some(limits) = self.limits.get(server) else {
            return Ok(());
        };
        let (held, most) = (&status.catch_up, limits.in_flight);
        ensure!(
            held.early.entries <= most.entries
                && held.early.bytes <= most.bytes
                && held.partial_snapshot_bytes <= LARGEST_SNAPSHOT
                && held.encoded_snapshot_bytes <= 2 * LARGEST_SNAPSHOT,
            Check::Bounded,
            "server {} holds {held:?}, and may hold {most:?} early, and snapshots of {LARGEST_SNAPSHOT}: part of \
             one, and two to send",
            self.pids[server]
        );
        ensure!(
            status.dropped.undecodable_snapshots == 0,
            Check::Agreement,
            "server {} has put together a snapshot that is none",
            self.pids[server]
        );
        Ok(())
    }

    fn check_size<T: SimEntry>(
        &self,
        server: usize,
        entries: &[T],
        limits: Limits,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        let size = Size::of(entries);
        ensure!(
            size.fits(limits.message),
            Check::Bounded,
            "server {} says {}, {size:?}, and may say {:?}",
            self.pids[server],
            describe::message(message),
            limits.message
        );
        Ok(())
    }

    /// A snapshot that is larger than a message travels in pieces that are not.
    fn check_snapshot<T: SimEntry>(
        &self,
        server: usize,
        m: &CatchUpChunk<T>,
        limits: Limits,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        let piece = m.piece.as_ref().map_or(0, |piece| piece.bytes.len());
        let whole = m.snapshot.as_ref().map_or(0, |snapshot| match snapshot {
            SnapshotType::Complete(snapshot) | SnapshotType::Delta(snapshot) => {
                encoded(snapshot).len()
            }
        });
        let bytes = piece.max(whole) as u64;
        ensure!(
            bytes <= limits.message.bytes,
            Check::Bounded,
            "server {} says {}, {bytes} bytes of a snapshot, and may say {:?}",
            self.pids[server],
            describe::message(message),
            limits.message
        );
        Ok(())
    }

    /// An undecided tail travels as a whole, also where it exceeds the limit: it may be longer than
    /// a leader with this limit lets it grow, as another leader had another. But then nothing that
    /// is decided travels with it.
    fn check_sync<T: SimEntry>(
        &self,
        server: usize,
        sync: &LogSync<T>,
        decided_idx: u64,
        limits: Limits,
        message: &Message<T>,
    ) -> Result<(), Violation> {
        if sync.suffix_idx >= decided_idx {
            return Ok(());
        }
        self.check_size(server, &sync.suffix.lock(), limits, message)
    }

    /// What is on its way to a follower ahead of its acknowledgements. The last entry may exceed
    /// the bytes, or an entry larger than the limit would never be sent.
    fn check_window<T: SimEntry>(
        &mut self,
        server: usize,
        m: &AcceptDecide<T>,
        entries: &[T],
        message: &Message<T>,
        image: &Image<T>,
    ) -> Result<(), Violation> {
        let Some(follower) = self.position(message.get_receiver()) else {
            return Ok(());
        };
        let Some(last) = entries.last() else {
            return Ok(());
        };
        let end = m.from_idx + entries.len() as u64;
        let window = self.windows[server][follower].in_ballot(m.n);
        // What the follower is known to have may be sent again, and does not count.
        let from = window.extend(m.from_idx, end).min(end);
        let held = from.max(image.compacted_idx);
        let first = (held - image.compacted_idx) as usize;
        // Entries that leave before they are stored are only in the message.
        let stored_len = (image.compacted_idx + image.log.len() as u64).max(m.from_idx);
        let unstored = entries.iter().skip((stored_len.max(from) - m.from_idx) as usize);
        let stored = image.log.iter().skip(first).take((end - held) as usize);
        let before_last = Size::sum(stored.chain(unstored));
        let bytes_before_last = before_last.bytes.saturating_sub(last.size_hint() as u64);
        let limit = self.limits[server].in_flight;
        ensure!(
            end - from <= limit.entries && bytes_before_last < limit.bytes,
            Check::Bounded,
            "server {} says {} with entries {from}..{end} on their way, {bytes_before_last} bytes \
             before the last, and may have {limit:?} there",
            self.pids[server],
            describe::message(message)
        );
        Ok(())
    }

    fn position(&self, pid: u64) -> Option<usize> {
        self.pids.iter().position(|known| *known == pid)
    }

    /// A leader takes no more entries into its log ahead of what is decided than one message may
    /// hold, since they may have to travel in one. What it found in the log of others, or in its
    /// own, when it began to lead may be more; then it takes none. The last entry may exceed the
    /// bytes. `len` is the length that the log had before in this round.
    pub(super) fn check_undecided<T: SimEntry>(
        &self,
        server: usize,
        image: &Image<T>,
        len: u64,
    ) -> Result<(), Violation> {
        let Some(limits) = self.limits.get(server) else {
            return Ok(());
        };
        if self.write_quorum == 1 {
            // It decides what it writes, so no more than may wait is undecided at any time.
            return Ok(());
        }
        let end = image.entries_end();
        let decided = image.decided_idx.max(self.shown[server].decided);
        if end <= len.max(decided) {
            return Ok(());
        }
        let first = decided.saturating_sub(image.compacted_idx) as usize;
        let before_last = image.log.len().saturating_sub(first + 1);
        let bytes_before_last = Size::sum(image.log.iter().skip(first).take(before_last)).bytes;
        ensure!(
            end - decided <= limits.message.entries && bytes_before_last < limits.message.bytes,
            Check::Bounded,
            "the leader {} has {} undecided entries, {bytes_before_last} bytes before the last, \
             and may have {:?}",
            self.pids[server],
            end - decided,
            limits.message
        );
        Ok(())
    }
}

/// What a leader sends: what it holds there, if the message is encoded.
fn entries_of<'a, T: SimEntry>(m: &'a AcceptDecide<T>, image: &Image<T>) -> Cow<'a, [T]> {
    if let Some(plain) = m.entries.plain() {
        return Cow::Owned(plain.to_vec());
    }
    let first = m.from_idx.saturating_sub(image.compacted_idx) as usize;
    Cow::Owned(image.log.iter().skip(first).take(m.entries.len()).cloned().collect())
}
