//! The identities of the peers: the configuration and the storage of each.
//!
//! Invariant I18: a message of Sequence Paxos is accepted only from the storage that this server
//! has stored as that of the sender. The sender must also know this storage as the receiver's, or
//! know none. So a server whose disk was replaced is in no quorum of servers that know its old
//! disk.

use crate::{
    config::{ClusterConfig, OmniPaxosConfig},
    identity::{
        storages, Conflict, Digest, Identity, Mismatch, PeerConflict, SenderIdentity, Stamp,
        DISPUTED,
    },
    ids::{ConfigurationId, NodeId},
    messages::{ballot_leader_election::HeartbeatMsg, sequence_paxos::PaxosMsg, Message},
    storage::{Entry, Epoch},
};

/// Heartbeat rounds without a sign of a conflict, after which it is over.
const ROUNDS_KEPT: u32 = 10;

/// The largest number of conflicts kept, in addition to conflicts with members.
const MOST_STRANGERS: usize = 16;

/// The identities of this server and of its peers.
#[derive(Clone, Debug)]
pub(crate) struct PeerIdentities {
    digest: Digest,
    storage: Option<u64>,
    own: Identity,
    /// The other members.
    peers: Vec<Peer>,
    conflicts: Vec<Kept>,
    has_unlogged: bool,
    /// Whether some peer has reported a storage id that is not stored.
    has_unstored: bool,
}

/// Another member.
#[derive(Clone, Debug)]
struct Peer {
    pid: NodeId,
    /// The storage id of the peer, as stored here.
    stored: Option<u64>,
    /// The storage id of the peer, as reported since the last flush.
    reported: Option<u64>,
    /// The stamp that the peer's messages to this server must have.
    receives: Stamp,
    /// The same digest if the peer does not know the storage of this server.
    receives_unknown: u32,
    /// The stamp of messages to the peer.
    sends: Stamp,
}

/// A conflict, until it is over.
#[derive(Clone, Debug)]
struct Kept {
    found: PeerConflict,
    /// Number of rounds without a sign of it.
    silent_rounds: u32,
    is_logged: bool,
}

impl Conflict {
    fn reason(&self) -> Unidentified {
        match self {
            Self::OtherConfiguration { .. } => Unidentified::OtherConfiguration,
            Self::OtherStorage { .. } | Self::Ignored { .. } => Unidentified::OtherStorage,
        }
    }
}

/// Why a message is not accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// The configuration of its sender differs.
    OtherConfiguration,
    /// The storage of its sender is not the known one, or that of the receiver is not this one.
    OtherStorage,
    /// The storage of the sender is not known yet.
    NotYet,
}

impl PeerIdentities {
    pub(crate) fn new(config: &OmniPaxosConfig, own: Identity, storage: Option<u64>) -> Self {
        let (cluster, server) = (&config.cluster_config, &config.server_config);
        let digest = Digest::of(cluster, server.cluster_name.as_deref());
        let others = cluster.nodes.iter().filter(|pid| **pid != server.pid);
        let peers = others
            .map(|pid| {
                let stored = own.peers.get(pid).copied();
                let mut peer = Peer {
                    pid: *pid,
                    stored,
                    reported: None,
                    receives: Stamp::default(),
                    receives_unknown: 0,
                    sends: Stamp::default(),
                };
                peer.set_stamps(&digest, storage);
                peer
            })
            .collect();
        Self {
            digest,
            storage,
            own,
            peers,
            conflicts: Vec::new(),
            has_unlogged: false,
            has_unstored: false,
        }
    }

    /// Returns the id of the storage of this server, if it has one.
    pub(crate) fn storage(&self) -> Option<u64> {
        self.storage
    }

    /// Returns the identity of this server in the configuration that follows.
    pub(crate) fn for_configuration(&self, next: &ClusterConfig) -> Identity {
        self.unstored().in_configuration(next)
    }

    /// Checks a message of the configuration of this server.
    #[inline]
    pub(crate) fn check<T: Entry>(&mut self, message: &Message<T>) -> Result<(), Unidentified> {
        match message {
            Message::SequencePaxos(paxos) => {
                let Some(stamp) = paxos.msg.stamp() else {
                    return self.check_unstamped(paxos.from);
                };
                let checked = match self.peers.iter().find(|peer| peer.pid == paxos.from) {
                    None => Ok(()),
                    Some(peer) => match peer.check(stamp) {
                        Ok(()) => return Ok(()),
                        mismatch => mismatch,
                    },
                };
                let is_chunk = matches!(paxos.msg, PaxosMsg::CatchUpChunk(_));
                match is_chunk && stamp.is_for_earlier_epoch() {
                    true => self.check_epoch(stamp),
                    false => checked,
                }
            }
            Message::BLE(ble) => match &ble.msg {
                HeartbeatMsg::Request(request) => self.record_sender(ble.from, &request.sender),
                // Sent only to a server that asked, and that named the storage of the replying
                // server.
                HeartbeatMsg::Reply(_) => Ok(()),
            },
        }
    }

    /// Records the storage id of a third server, as an identified peer reported it.
    ///
    /// So if a server loses its disk before this server meets it, this server knows the old storage
    /// from any peer that knew it. If two ids are reported, neither is trusted: this server does
    /// not know which one was first.
    fn hear_of_another(&mut self, pid: NodeId, storage: u64) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.pid == pid) else {
            return;
        };
        match peer.reported.or(peer.stored) {
            None => {
                peer.reported = Some(storage);
                self.has_unstored = true;
            }
            Some(known) if known == storage || known == DISPUTED || storage == DISPUTED => {}
            Some(known) => {
                peer.reported = Some(DISPUTED);
                self.has_unstored = true;
                self.keep(pid, Conflict::OtherStorage { known: storage, found: Some(known) });
            }
        }
    }

    /// Checks a chunk from a server in a later epoch: the epoch of this server must have the same
    /// configuration there. Otherwise this server does not belong to that cluster, though it names
    /// servers of it as members. If the sender does not know that epoch, the cluster must have the same name.
    fn check_epoch(&self, stamp: Stamp) -> Result<(), Unidentified> {
        let of_cluster = Digest { cluster_name: self.digest.cluster_name, ..Digest::default() };
        match [self.digest, of_cluster].iter().any(|own| stamp == Stamp::of_earlier_epoch(own)) {
            true => Ok(()),
            false => Err(Unidentified::OtherConfiguration),
        }
    }

    /// Checks the sender of a message without a stamp: it must not be in conflict with this server.
    fn check_unstamped(&self, from: NodeId) -> Result<(), Unidentified> {
        let kept = self.conflicts.iter().filter(|kept| kept.found.pid == from);
        kept.map(|kept| kept.found.conflict.reason()).next().map_or(Ok(()), Err)
    }

    /// Records a request of this configuration from a server that is no member here.
    pub(crate) fn record_stranger(&mut self, pid: NodeId, sender: &SenderIdentity) -> bool {
        let conflict = Conflict::between(&self.digest, &sender.digest);
        conflict.inspect(|conflict| self.keep(pid, *conflict)).is_some()
    }

    /// Records the sender's identity from its heartbeat request.
    fn record_sender(&mut self, from: NodeId, sender: &SenderIdentity) -> Result<(), Unidentified> {
        if let Some(conflict) = Conflict::between(&self.digest, &sender.digest) {
            self.keep(from, conflict);
            return Err(Unidentified::OtherConfiguration);
        }
        if *sender == SenderIdentity::default() {
            return Ok(());
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.pid == from) else {
            return Ok(());
        };
        let known = peer.reported.or(peer.stored);
        match (known, sender.storage) {
            (None, found) => {
                peer.reported = found;
                self.has_unstored |= found.is_some();
            }
            (Some(known), found) if found != Some(known) => {
                self.keep(from, Conflict::OtherStorage { known, found });
                return Err(Unidentified::OtherStorage);
            }
            (Some(_), _) => {}
        }
        if let Some((pid, storage)) = sender.other {
            self.hear_of_another(pid, storage);
        }
        match sender.known {
            Some(known) if self.storage != Some(known) => {
                self.keep(from, Conflict::Ignored { known, own: self.storage });
                Err(Unidentified::OtherStorage)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Records a conflict: the first of its kind with each server.
    #[cold]
    fn keep(&mut self, pid: NodeId, conflict: Conflict) {
        let same =
            |kept: &&mut Kept| kept.found.pid == pid && kept.found.conflict.is_like(&conflict);
        if let Some(kept) = self.conflicts.iter_mut().find(same) {
            kept.silent_rounds = 0;
            return;
        }
        if self.conflicts.len() < MOST_STRANGERS + 3 * self.peers.len() {
            let found = PeerConflict::new(pid, conflict);
            self.conflicts.push(Kept { found, silent_rounds: 0, is_logged: false });
            self.has_unlogged = true;
        }
    }

    /// Ends a heartbeat round.
    pub(crate) fn end_round(&mut self) {
        for kept in &mut self.conflicts {
            kept.silent_rounds += 1;
        }
        self.conflicts.retain(|kept| kept.silent_rounds <= ROUNDS_KEPT);
    }

    /// Returns the recent conflicts, in the order in which they were found.
    pub(crate) fn conflicts(&self) -> Vec<PeerConflict> {
        self.conflicts.iter().map(|kept| kept.found).collect()
    }

    /// Returns the recent conflict with server `pid`, if there is one.
    pub(crate) fn conflict_with(&self, pid: NodeId) -> Option<PeerConflict> {
        self.conflicts.iter().map(|kept| kept.found).find(|found| found.pid == pid)
    }

    /// Returns the next conflict that is not logged.
    pub(crate) fn take_unlogged(&mut self) -> Option<PeerConflict> {
        if !self.has_unlogged {
            return None;
        }
        let next = self.conflicts.iter_mut().find(|kept| !kept.is_logged);
        self.has_unlogged = next.is_some();
        next.map(|kept| {
            kept.is_logged = true;
            kept.found
        })
    }

    /// Returns whether some server has reported its storage id since the last flush.
    #[inline]
    pub(crate) fn is_unstored(&self) -> bool {
        self.has_unstored
    }

    /// Returns the identity to store, with the storage ids that other servers reported.
    pub(crate) fn unstored(&self) -> Identity {
        let mut identity = self.own.clone();
        let reported = self.peers.iter().filter_map(|peer| Some((peer.pid, peer.reported?)));
        identity.peers.extend(reported);
        identity
    }

    /// Records that the identity is stored: from now on messages of those servers are accepted.
    pub(crate) fn stored(&mut self, identity: Identity) {
        for peer in &mut self.peers {
            peer.stored = identity.peers.get(&peer.pid).copied();
            peer.reported = None;
            peer.set_stamps(&self.digest, self.storage);
        }
        self.own = identity;
        self.has_unstored = false;
    }

    /// Stamps outgoing messages. `epochs` returns those of the log of this server.
    #[inline]
    pub(crate) fn stamp<'a, 'e, T: Entry + 'a>(
        &self,
        messages: impl Iterator<Item = &'a mut Message<T>>,
        epochs: impl Fn() -> &'e [Epoch],
    ) {
        for message in messages {
            let to = message.get_receiver();
            let peer = self.peers.iter().find(|peer| peer.pid == to);
            match message {
                Message::SequencePaxos(paxos) => {
                    if self.is_for_another_epoch(&paxos.msg) {
                        self.stamp_chunk(&mut paxos.msg, epochs());
                        continue;
                    }
                    if let PaxosMsg::Joining(joining) = &mut paxos.msg {
                        joining.cluster_name = self.digest.cluster_name;
                    }
                    if let Some(stamp) = paxos.msg.stamp_mut() {
                        // An observer is no member, and messages to it may be relayed: no stamp.
                        *stamp = peer.map(|peer| peer.sends).unwrap_or_default();
                    }
                }
                Message::BLE(ble) => match &mut ble.msg {
                    HeartbeatMsg::Request(request) => {
                        let known = peer.and_then(|peer| peer.stored);
                        let (digest, storage) = (self.digest, self.storage);
                        let other = self.other_than(to, request.round);
                        *request.sender = SenderIdentity { digest, storage, known, other };
                    }
                    HeartbeatMsg::Reply(_) => {}
                },
            }
        }
    }
}

impl PeerIdentities {
    /// Checks the digest of the name of a cluster, which a server sent that is perhaps no member.
    pub(super) fn check_cluster_name(&self, digest: u32) -> Result<(), Unidentified> {
        match digest == 0 || digest == self.digest.cluster_name {
            true => Ok(()),
            false => Err(Unidentified::OtherConfiguration),
        }
    }

    /// Returns whether a message answers a request of another configuration.
    #[inline]
    fn is_for_another_epoch<T: Entry>(&self, msg: &PaxosMsg<T>) -> bool {
        let own = self.own.configuration.configuration_id;
        matches!(msg, PaxosMsg::CatchUpChunk(chunk) if chunk.config_id != own)
    }

    #[cold]
    fn stamp_chunk<T: Entry>(&self, msg: &mut PaxosMsg<T>, epochs: &[Epoch]) {
        let PaxosMsg::CatchUpChunk(chunk) = msg else { return };
        chunk.stamp = self.stamp_for_epoch(chunk.config_id, epochs);
    }

    /// Returns the stamp of a chunk for a server in another epoch: without storages, since the receiver knows
    /// those of that epoch. If this server does not know the configuration, it is that of the cluster's name.
    fn stamp_for_epoch(&self, config_id: ConfigurationId, epochs: &[Epoch]) -> Stamp {
        let mut known = epochs.iter().map(|epoch| &epoch.configuration);
        let of_epoch = known.find(|known| known.configuration_id == config_id);
        let of_epoch = of_epoch.map(|known| Digest::of(known, None)).unwrap_or_default();
        Stamp::of_earlier_epoch(&Digest { cluster_name: self.digest.cluster_name, ..of_epoch })
    }

    /// Returns the storage id of a member other than `to`: of the next member in each round.
    fn other_than(&self, to: NodeId, round: u32) -> Option<(NodeId, u64)> {
        let known = || {
            let peers = self.peers.iter().filter(|peer| peer.pid != to);
            peers.filter_map(|peer| Some((peer.pid, peer.stored.filter(|id| *id != DISPUTED)?)))
        };
        let turn = usize::try_from(round).unwrap_or(0).checked_rem(known().count())?;
        known().nth(turn)
    }
}

impl Peer {
    /// Checks the stamp of a message. Users see the conflict from the heartbeat requests of its
    /// sender.
    #[inline]
    fn check(&self, stamp: Stamp) -> Result<(), Unidentified> {
        match stamp.check(self.receives, self.receives_unknown) {
            Ok(()) => Ok(()),
            Err(Mismatch::Configuration) => Err(Unidentified::OtherConfiguration),
            Err(Mismatch::Storage) if self.stored.is_none() => Err(Unidentified::NotYet),
            Err(Mismatch::Storage) => Err(Unidentified::OtherStorage),
        }
    }

    fn set_stamps(&mut self, digest: &Digest, own: Option<u64>) {
        self.receives = Stamp::of(digest, self.stored, own);
        self.receives_unknown = storages(self.stored, None);
        self.sends = Stamp::of(digest, own, self.stored);
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterConfig, Identity, OmniPaxosConfig, PeerIdentities};
    use crate::config::ServerConfig;

    fn identities(pid: u64, configuration_id: u32, name: Option<&str>) -> PeerIdentities {
        let cluster_config =
            ClusterConfig { configuration_id, nodes: vec![1, 2], flexible_quorum: None };
        let cluster_name = name.map(str::to_string);
        let own = Identity::new(pid, cluster_config.clone(), cluster_name.clone());
        let server_config = ServerConfig { pid, cluster_name, ..ServerConfig::default() };
        PeerIdentities::new(&OmniPaxosConfig { cluster_config, server_config }, own, None)
    }

    #[test]
    fn a_chunk_for_an_unknown_epoch_comes_from_the_cluster_with_that_name() {
        let source = identities(1, 7, Some("orders"));
        let stamp = source.stamp_for_epoch(5, &[]);
        for (name, expected) in [(Some("orders"), true), (Some("payments"), false), (None, false)] {
            let checked = identities(2, 5, name).check_epoch(stamp);
            assert_eq!(checked.is_ok(), expected, "{name:?}");
        }
    }
}
