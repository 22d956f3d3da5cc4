//! The other servers as this one knows them: which configuration and which storage each has.
//!
//! Invariant I18: a message of Sequence Paxos is taken only from the storage that this server has
//! stored as that of the sender, and only if the sender takes this storage for the receiver's, or
//! knows none. So a server whose disk was replaced is in no quorum of those that know its disk.

use crate::{
    config::OmniPaxosConfig,
    identity::{
        storages, Conflict, Digest, Identity, Mismatch, PeerConflict, SenderIdentity, Stamp,
        DISPUTED,
    },
    ids::NodeId,
    messages::{ballot_leader_election::HeartbeatMsg, Message},
    storage::Entry,
};

/// Heartbeat rounds after which a conflict is over of which nothing was heard again.
const ROUNDS_KEPT: u32 = 10;

/// At most so many conflicts are kept, beside those with members.
const MOST_STRANGERS: usize = 16;

/// What this server knows of itself and of the others.
#[derive(Clone, Debug)]
pub(crate) struct PeerIdentities {
    digest: Digest,
    storage: Option<u64>,
    own: Identity,
    /// The other members.
    peers: Vec<Peer>,
    conflicts: Vec<Kept>,
    has_unlogged: bool,
    /// Whether some peer has `told` something.
    has_unstored: bool,
}

/// Another member.
#[derive(Clone, Debug)]
struct Peer {
    pid: NodeId,
    /// Its storage, as stored here.
    stored: Option<u64>,
    /// Its storage, as it told since the last flush.
    told: Option<u64>,
    /// What it stamps on messages to here.
    receives: Stamp,
    /// The same where it does not know the storage here.
    receives_unknown: u32,
    /// What is stamped on messages to it.
    sends: Stamp,
}

/// A conflict, until it is over.
#[derive(Clone, Debug)]
struct Kept {
    found: PeerConflict,
    /// Rounds in which nothing was heard of it.
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

/// Why a message is not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// The configuration of its sender differs.
    OtherConfiguration,
    /// The storage of its sender is not the one known here, or that of the receiver not this one.
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
                    told: None,
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

    /// Checks a message of the configuration of this server.
    #[inline]
    pub(crate) fn check<T: Entry>(&mut self, message: &Message<T>) -> Result<(), Unidentified> {
        match message {
            Message::SequencePaxos(paxos) => {
                let Some(stamp) = paxos.msg.stamp() else {
                    return self.check_unstamped(paxos.from);
                };
                match self.peers.iter().find(|peer| peer.pid == paxos.from) {
                    None => Ok(()),
                    Some(peer) => peer.check(stamp),
                }
            }
            Message::BLE(ble) => match &ble.msg {
                HeartbeatMsg::Request(request) => self.hear(ble.from, &request.sender),
                // Sent only to a server that asked, and named the storage of the one that replies.
                HeartbeatMsg::Reply(_) => Ok(()),
            },
        }
    }

    /// A server that is identified tells of the storage of another. So a server that first meets
    /// another after that has lost its disk knows it, if anybody does whom it has heard. Of two
    /// storages none is trusted: it is not known here which was the first.
    fn hear_of_another(&mut self, pid: NodeId, storage: u64) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.pid == pid) else {
            return;
        };
        match peer.told.or(peer.stored) {
            None => {
                peer.told = Some(storage);
                self.has_unstored = true;
            }
            Some(known) if known == storage || known == DISPUTED || storage == DISPUTED => {}
            Some(known) => {
                peer.told = Some(DISPUTED);
                self.has_unstored = true;
                self.keep(pid, Conflict::OtherStorage { known: storage, found: Some(known) });
            }
        }
    }

    /// Checks the sender of a message without a stamp: it must not be in conflict with this server.
    fn check_unstamped(&self, from: NodeId) -> Result<(), Unidentified> {
        let kept = self.conflicts.iter().filter(|kept| kept.found.pid == from);
        kept.map(|kept| kept.found.conflict.reason()).next().map_or(Ok(()), Err)
    }

    /// A server that is no member here has sent a request in this configuration.
    pub(crate) fn hear_stranger(&mut self, pid: NodeId, sender: &SenderIdentity) -> bool {
        let conflict = Conflict::between(&self.digest, &sender.digest);
        conflict.inspect(|conflict| self.keep(pid, *conflict)).is_some()
    }

    /// A heartbeat request tells who its sender is.
    fn hear(&mut self, from: NodeId, sender: &SenderIdentity) -> Result<(), Unidentified> {
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
        let known = peer.told.or(peer.stored);
        match (known, sender.storage) {
            (None, found) => {
                peer.told = found;
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

    /// Keeps a conflict: of one kind with one server the first that is found.
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

    /// A heartbeat round has ended.
    pub(crate) fn end_round(&mut self) {
        for kept in &mut self.conflicts {
            kept.silent_rounds += 1;
        }
        self.conflicts.retain(|kept| kept.silent_rounds <= ROUNDS_KEPT);
    }

    /// The conflicts of late, in the order in which they were found.
    pub(crate) fn conflicts(&self) -> Vec<PeerConflict> {
        self.conflicts.iter().map(|kept| kept.found).collect()
    }

    /// The conflict of late with server `pid`, if there is one.
    pub(crate) fn conflict_with(&self, pid: NodeId) -> Option<PeerConflict> {
        self.conflicts.iter().map(|kept| kept.found).find(|found| found.pid == pid)
    }

    /// The next conflict that was not logged.
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

    /// Whether some server has told its storage since the last flush.
    #[inline]
    pub(crate) fn is_unstored(&self) -> bool {
        self.has_unstored
    }

    /// The identity to be stored, with what other servers told.
    pub(crate) fn unstored(&self) -> Identity {
        let mut identity = self.own.clone();
        let told = self.peers.iter().filter_map(|peer| Some((peer.pid, peer.told?)));
        identity.peers.extend(told);
        identity
    }

    /// That identity is stored now: messages of those servers are taken from now on.
    pub(crate) fn stored(&mut self, identity: Identity) {
        for peer in &mut self.peers {
            peer.stored = identity.peers.get(&peer.pid).copied();
            peer.told = None;
            peer.set_stamps(&self.digest, self.storage);
        }
        self.own = identity;
        self.has_unstored = false;
    }

    /// Stamps messages that leave.
    #[inline]
    pub(crate) fn stamp<'a, T: Entry + 'a>(
        &self,
        messages: impl Iterator<Item = &'a mut Message<T>>,
    ) {
        for message in messages {
            let to = message.get_receiver();
            let peer = self.peers.iter().find(|peer| peer.pid == to);
            match message {
                Message::SequencePaxos(paxos) => {
                    if let Some(stamp) = paxos.msg.stamp_mut() {
                        // An observer is no member, and what it is sent may be passed on: no stamp.
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
    /// The storage of a member other than `to`: in each round the next that is known.
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
    /// Checks the stamp of a message. The heartbeat requests of its sender tell users what is wrong.
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
