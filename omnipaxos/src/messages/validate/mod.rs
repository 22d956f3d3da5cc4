//! Validation of incoming messages, before any handler sees them.

mod catch_up;
mod observers;
mod other_configurations;
mod peer_identities;

pub use self::other_configurations::HigherConfiguration;
pub(crate) use self::{
    observers::Observers, other_configurations::OtherConfigurations,
    peer_identities::PeerIdentities,
};

use self::peer_identities::Unidentified;
use crate::{
    ballot::Ballot,
    config::OmniPaxosConfig,
    ids::{ConfigurationId, NodeId},
    membership::Membership,
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg, HeartbeatReply},
        sequence_paxos::{
            AppliedReport, CompactionAction, EntryIds, ForgottenIds, LogSync, PaxosMessage,
            PaxosMsg, Promise, RejectionReason, LONGEST_CAUSE,
        },
        Message,
    },
    proposals::ProposalId,
    storage::{Entry, StopSign},
};
use std::sync::Arc;

/// The largest step by which a ballot number may exceed all that were seen. Each takeover raises it
/// by one, so no cluster needs more, and one forged maximum must not use up the numbers.
const LARGEST_JUMP: u32 = 1 << 24;

/// The largest index that is valid. It leaves room for arithmetic on indices.
const LARGEST_IDX: u64 = 1 << 62;

/// Numbers of dropped messages and proposals, by reason. Each counter stops at its maximum.
///
/// Validation drops messages. Proposals are dropped for lack of room, or since they cannot be
/// stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Dropped {
    /// Messages addressed to another server.
    pub misdelivered: u64,
    /// Messages of servers that are not peers of this configuration.
    pub from_strangers: u64,
    /// Messages of another configuration.
    pub of_other_configurations: u64,
    /// Messages of servers with other nodes, quorum sizes or another cluster name under the same
    /// configuration id: see [`Conflict`](crate::identity::Conflict).
    pub of_conflicting_configurations: u64,
    /// Messages from another storage than the known one of the sender, or for another storage than
    /// this one: see [`Conflict`](crate::identity::Conflict).
    pub of_other_storages: u64,
    /// Messages from a storage that is not known here yet, as before the first heartbeat of a new
    /// server.
    pub of_unknown_storages: u64,
    /// Messages with impossible content: a ballot that the sender does not own, an implausible
    /// ballot number, or indices that contradict each other.
    pub malformed: u64,
    /// Proposals for which there was no room: those of [`append`](crate::OmniPaxos::append), and
    /// those forwarded here. Their origins forward the latter again.
    pub proposals: u64,
    /// Entries of [`append`](crate::OmniPaxos::append) and stop signs of
    /// [`reconfigure`](crate::OmniPaxos::reconfigure) at this server that
    /// [cannot be stored](crate::errors::TryProposeErr::Unstorable).
    pub unstorable: u64,
    /// Snapshots that came in pieces and could not be decoded. This server then asked another one.
    pub undecodable_snapshots: u64,
    /// Snapshots of another server that are larger than
    /// [`max_snapshot_bytes`](crate::ServerConfig::max_snapshot_bytes). This server then asked
    /// another one, unless it had refused the snapshots of all others in the same heartbeat round.
    pub oversized_snapshots: u64,
}

/// Why a message is dropped.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reason {
    Misdelivered,
    Stranger,
    /// Contains the configuration of the message.
    OtherConfiguration(ConfigurationId),
    Malformed,
    Unidentified(Unidentified),
}

/// Decides which incoming messages are valid here.
#[derive(Clone, Debug)]
pub(crate) struct MessageValidator {
    pid: NodeId,
    config_id: ConfigurationId,
    members: Arc<Membership>,
    dropped: Dropped,
    others: OtherConfigurations,
    identities: PeerIdentities,
    observers: Observers,
    tells_removed_servers: bool,
    /// Whether the log continues through reconfigurations.
    continues: bool,
}

/// Whether a message is passed to its handler.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    Invalid,
}

impl MessageValidator {
    pub(crate) fn new(
        config: &OmniPaxosConfig,
        members: Arc<Membership>,
        identities: PeerIdentities,
    ) -> Self {
        Self {
            pid: members.pid(),
            config_id: config.cluster_config.configuration_id,
            members,
            dropped: Dropped::default(),
            others: OtherConfigurations::default(),
            identities,
            observers: Observers::at_most(config.server_config.observer_places()),
            tells_removed_servers: config.server_config.tells_removed_servers,
            continues: config.server_config.continues,
        }
    }

    /// Begins the next epoch, with these members.
    pub(crate) fn begin_epoch(
        &mut self,
        config: &OmniPaxosConfig,
        members: Arc<Membership>,
        identities: PeerIdentities,
    ) {
        self.config_id = config.cluster_config.configuration_id;
        self.members = members;
        self.identities = identities;
        self.others.begin_epoch();
        self.observers.begin_epoch(|pid| !self.members.contains(pid));
    }

    /// Checks a message, and counts it if it is dropped. `highest_n` is the highest ballot number
    /// seen.
    #[inline]
    pub(crate) fn check<T: Entry>(&mut self, message: &Message<T>, highest_n: u32) -> Validity {
        let Err(reason) = self.identify(message, self.examine(message, highest_n)) else {
            if !self.observers.are_refused() {
                self.record_observers(message);
            }
            if self.continues {
                self.record_later_epoch(message);
            }
            return Validity::Valid;
        };
        self.compare_configurations(message, reason, highest_n);
        let counter = match reason {
            Reason::Misdelivered => &mut self.dropped.misdelivered,
            Reason::Stranger => &mut self.dropped.from_strangers,
            Reason::OtherConfiguration(_) => &mut self.dropped.of_other_configurations,
            Reason::Malformed => &mut self.dropped.malformed,
            Reason::Unidentified(Unidentified::OtherConfiguration) => {
                &mut self.dropped.of_conflicting_configurations
            }
            Reason::Unidentified(Unidentified::OtherStorage) => &mut self.dropped.of_other_storages,
            Reason::Unidentified(Unidentified::NotYet) => &mut self.dropped.of_unknown_storages,
        };
        *counter = counter.saturating_add(1);
        Validity::Invalid
    }

    /// Returns whether a message that was dropped and counted before belongs here now.
    #[cold]
    pub(crate) fn is_valid<T: Entry>(&mut self, message: &Message<T>, highest_n: u32) -> bool {
        self.identify(message, self.examine(message, highest_n)).is_ok()
    }

    /// Checks the identity of the sender of a message for this configuration. `examined` is the
    /// result of the other checks.
    #[inline]
    fn identify<T: Entry>(
        &mut self,
        message: &Message<T>,
        examined: Result<(), Reason>,
    ) -> Result<(), Reason> {
        match examined {
            Ok(()) if self.continues && self.is_of_another_epoch(message) => {}
            Ok(()) | Err(Reason::Malformed) => {
                self.identities.check(message).map_err(Reason::Unidentified)?;
            }
            Err(Reason::Stranger) => {
                if let Message::BLE(BLEMessage {
                    from, msg: HeartbeatMsg::Request(request), ..
                }) = message
                {
                    let is_same = request.config_id == self.config_id && *from != self.pid;
                    if is_same && self.identities.record_stranger(*from, &request.sender) {
                        return Err(Reason::Unidentified(Unidentified::OtherConfiguration));
                    }
                }
            }
            Err(Reason::Misdelivered | Reason::OtherConfiguration(_) | Reason::Unidentified(_)) => {
            }
        }
        examined
    }

    /// Ends a heartbeat round.
    pub(crate) fn end_round(&mut self) {
        self.identities.end_round();
        self.observers.end_round();
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.observers
    }

    pub(crate) fn identities(&self) -> &PeerIdentities {
        &self.identities
    }

    pub(crate) fn identities_mut(&mut self) -> &mut PeerIdentities {
        &mut self.identities
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    pub(crate) fn others(&self) -> &OtherConfigurations {
        &self.others
    }

    pub(crate) fn others_mut(&mut self) -> &mut OtherConfigurations {
        &mut self.others
    }

    /// Returns whether a message concerns a server that is to join, which may be any.
    #[cold]
    fn is_joining<T: Entry>(&self, message: &Message<T>, from: NodeId) -> bool {
        match message {
            Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::Joining(_), .. }) => {
                self.continues && from != self.pid && from != 0
            }
            Message::SequencePaxos(_) | Message::BLE(_) => false,
        }
    }

    /// Returns whether a message asks for the log before the present epoch.
    #[cold]
    fn is_of_another_epoch<T: Entry>(&self, message: &Message<T>) -> bool {
        match message {
            Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::CatchUpRequest(m), .. }) => {
                m.config_id != self.config_id
            }
            Message::SequencePaxos(_) | Message::BLE(_) => false,
        }
    }

    fn examine<T: Entry>(&self, message: &Message<T>, highest_n: u32) -> Result<(), Reason> {
        let from = message.get_sender();
        if message.get_receiver() != self.pid {
            return Err(Reason::Misdelivered);
        }
        if !self.members.is_co_member(from) && !self.is_joining(message, from) {
            self.examine_observing(message, from)?;
        }
        self.examine_body(message, highest_n)
    }

    #[inline]
    fn examine_body<T: Entry>(&self, message: &Message<T>, highest_n: u32) -> Result<(), Reason> {
        let from = message.get_sender();
        let ballots = Ballots { validator: self, highest_n };
        match message {
            Message::BLE(ble) => match &ble.msg {
                HeartbeatMsg::Request(request) => {
                    self.configuration(request.config_id)?;
                    ballots.any_or_nobodys(request.leader)
                }
                HeartbeatMsg::Reply(reply) => ballots.reply(reply, from),
            },
            Message::SequencePaxos(paxos) => self.examine_paxos(&paxos.msg, from, &ballots),
        }
    }

    fn examine_paxos<T: Entry>(
        &self,
        msg: &PaxosMsg<T>,
        from: NodeId,
        ballots: &Ballots<'_>,
    ) -> Result<(), Reason> {
        match msg {
            PaxosMsg::PrepareReq(m) => {
                self.configuration(m.config_id)?;
                ballots.any_or_nobodys(m.n)?;
                ballots.any_or_nobodys(m.n_accepted)?;
                indices(m.decided_idx, m.accepted_idx)?;
                check(m.n_accepted <= m.n)
            }
            PaxosMsg::Prepare(m) => {
                ballots.owned(m.n, from)?;
                ballots.any_or_nobodys(m.n_accepted)?;
                indices(m.decided_idx, m.accepted_idx)?;
                check(m.n_accepted <= m.n)
            }
            PaxosMsg::Promise(m) => self.promise(m, ballots),
            PaxosMsg::AcceptSync(m) => {
                ballots.owned(m.n, from)?;
                let len = m.sync.len().ok_or(Reason::Malformed)?;
                indices(0, m.decided_idx)?;
                indices(m.sync.suffix_idx, len)?;
                self.sync(&m.sync, len)
            }
            PaxosMsg::AcceptDecide(m) => {
                ballots.owned(m.n, from)?;
                let end = m.from_idx.saturating_add(m.entries.len() as u64);
                indices(m.from_idx, end)?;
                self.ids(m.ids.as_deref(), end)
            }
            PaxosMsg::AcceptStopSign(m) => {
                ballots.owned(m.n, from)?;
                indices(m.idx, m.idx.saturating_add(1))?;
                self.stopsign(&m.stopsign)
            }
            PaxosMsg::Accepted(m) => {
                ballots.any(m.n)?;
                indices(m.decided_idx, m.accepted_idx)
            }
            PaxosMsg::NotAccepted(m) => ballots.any(m.n),
            PaxosMsg::Decide(m) => ballots.owned(m.n, from),
            PaxosMsg::CatchUpRedirect(m) => {
                ballots.owned(m.n, from)?;
                check(m.source != self.pid && self.is_member(m.source))?;
                indices(0, m.decided_idx)
            }
            PaxosMsg::CatchUpRequest(m) => {
                if !self.continues || m.config_id > self.config_id {
                    self.configuration(m.config_id)?;
                }
                indices(0, m.decided_idx)?;
                m.range.map_or(Ok(()), |range| indices(range.from_idx, range.until_idx))?;
                m.piece.map_or(Ok(()), |piece| {
                    check(piece.from <= piece.until && piece.until <= piece.encoding.len)
                })
            }
            PaxosMsg::CatchUpChunk(m) => self.chunk(m),
            PaxosMsg::ProposalForward(_) => Ok(()),
            PaxosMsg::ForwardedProposals(m) => {
                ballots.any_or_nobodys(m.first_ballot)?;
                self.proposals(m.first, m.entries.len() as u64)
            }
            PaxosMsg::ProposalRejection(m) => {
                self.configuration(m.config_id)?;
                self.proposals(m.first, m.count)?;
                match &m.reason {
                    RejectionReason::Decided(idx)
                    | RejectionReason::DecidedBefore(idx)
                    | RejectionReason::Unknown(idx) => indices(*idx, idx.saturating_add(m.count)),
                    RejectionReason::Refused(refusal) => {
                        ballots.any(refusal.n)?;
                        check(refusal.cause.len() <= LONGEST_CAUSE)
                    }
                }
            }
            PaxosMsg::ForwardStopSign(m) => {
                self.configuration(m.config_id)?;
                self.proposals(m.id, 1)?;
                self.stopsign(&m.stopsign)
            }
            PaxosMsg::Compaction(m) => {
                self.configuration(m.config_id)?;
                match m.action {
                    CompactionAction::Applied(AppliedReport {
                        applied_idx, confirmed_idx, ..
                    }) => indices(0, applied_idx.max(confirmed_idx)),
                    CompactionAction::Trim(_)
                    | CompactionAction::Snapshot(_)
                    | CompactionAction::Compacted(_) => Ok(()),
                }
            }
            PaxosMsg::ReadIndexRequest(m) => {
                self.configuration(m.config_id)?;
                check(self.may_originate(m.origin))?;
                ballots.any_or_nobodys(m.n)
            }
            PaxosMsg::ReadIndexResponse(m) => {
                self.configuration(m.config_id)?;
                check(self.may_originate(m.origin))?;
                indices(0, m.read_idx)
            }
            PaxosMsg::LeadershipCheck(m) => ballots.owned(m.n, from),
            PaxosMsg::LeadershipCheckAck(m) => ballots.owned(m.n, self.pid),
            PaxosMsg::TransferLeadership(m) => ballots.owned(m.n, from),
            PaxosMsg::Joining(m) => {
                let checked = self.identities.check_cluster_name(m.cluster_name);
                checked.map_err(Reason::Unidentified)?;
                indices(0, m.decided_idx.unwrap_or_default())
            }
        }
    }

    #[inline]
    fn is_member(&self, pid: NodeId) -> bool {
        self.members.contains(pid)
    }

    #[inline]
    fn configuration(&self, config_id: ConfigurationId) -> Result<(), Reason> {
        if config_id == self.config_id {
            Ok(())
        } else {
            Err(Reason::OtherConfiguration(config_id))
        }
    }

    /// Returns whether `pid` may be the origin of a proposal or a read: a member or an observer.
    fn may_originate(&self, pid: NodeId) -> bool {
        self.is_member(pid) || pid == self.pid || self.observers.has_place_for(pid)
    }

    /// Checks that proposals are of a member or an observer, and that each has a number.
    fn proposals(&self, first: ProposalId, count: u64) -> Result<(), Reason> {
        check(self.may_originate(first.origin) && first.number.checked_add(count).is_some())
    }

    /// Checks that ids are of entries before index `end`. Their origins need not be members: other
    /// servers may serve observers.
    #[inline]
    fn ids(&self, ids: Option<&EntryIds>, end: u64) -> Result<(), Reason> {
        ids.map_or(Ok(()), |ids| self.some_ids(ids, end))
    }

    fn some_ids(&self, ids: &EntryIds, end: u64) -> Result<(), Reason> {
        let in_doubt = |ids: &ForgottenIds| ids.in_doubt.iter().map(|ids| ids.before).max();
        let before = |ids: &ForgottenIds| ids.before.max(in_doubt(ids).unwrap_or_default());
        indices(0, ids.forgotten.as_deref().map_or(0, before))?;
        check(ids.is_sound(end))
    }

    fn promise<T: Entry>(&self, m: &Promise<T>, ballots: &Ballots<'_>) -> Result<(), Reason> {
        ballots.owned(m.n, self.pid)?;
        ballots.any_or_nobodys(m.n_accepted)?;
        indices(m.decided_idx, m.accepted_idx)?;
        check(m.n_accepted < m.n)?;
        m.sync.as_ref().map_or(Ok(()), |sync| self.sync(sync, m.accepted_idx))
    }

    /// Checks that a sync results in a log of length `len`.
    fn sync<T: Entry>(&self, sync: &LogSync<T>, len: u64) -> Result<(), Reason> {
        check(sync.len() == Some(len))?;
        let end = sync.suffix_idx.saturating_add(sync.suffix.len() as u64);
        self.ids(sync.ids.as_deref(), end)?;
        sync.stopsign.as_ref().map_or(Ok(()), |stopsign| self.stopsign(stopsign))
    }

    fn stopsign(&self, stopsign: &StopSign) -> Result<(), Reason> {
        let next = &stopsign.next_config;
        check(next.configuration_id > self.config_id && next.validate().is_ok())
    }
}

/// Checks ballots.
struct Ballots<'a> {
    validator: &'a MessageValidator,
    highest_n: u32,
}

impl Ballots<'_> {
    #[inline]
    fn any(&self, ballot: Ballot) -> Result<(), Reason> {
        self.plausible(ballot)?;
        check(self.validator.is_member(ballot.pid))
    }

    #[inline]
    fn plausible(&self, ballot: Ballot) -> Result<(), Reason> {
        self.validator.configuration(ballot.config_id)?;
        check(!ballot.is_nobodys())?;
        check(ballot.n.saturating_sub(self.highest_n) <= LARGEST_JUMP)
    }

    fn any_or_nobodys(&self, ballot: Ballot) -> Result<(), Reason> {
        if ballot == Ballot::default() {
            return Ok(());
        }
        self.any(ballot)
    }

    /// Checks a ballot of `owner`, which is a member.
    #[inline]
    fn owned(&self, ballot: Ballot, owner: NodeId) -> Result<(), Reason> {
        check(ballot.pid == owner)?;
        self.plausible(ballot)
    }

    /// Checks a reply. A server that has never taken over has a ballot of its own with number 0.
    fn reply(&self, reply: &HeartbeatReply, from: NodeId) -> Result<(), Reason> {
        self.validator.configuration(reply.ballot.config_id)?;
        check(reply.ballot.pid == from)?;
        check(reply.ballot.n.saturating_sub(self.highest_n) <= LARGEST_JUMP)?;
        self.any_or_nobodys(reply.leader)
    }
}

/// Checks that the first index does not exceed the second, and that both are valid.
#[inline]
fn indices(lower: u64, upper: u64) -> Result<(), Reason> {
    check(lower <= upper && upper <= LARGEST_IDX)
}

#[inline]
fn check(holds: bool) -> Result<(), Reason> {
    if holds {
        Ok(())
    } else {
        Err(Reason::Malformed)
    }
}
