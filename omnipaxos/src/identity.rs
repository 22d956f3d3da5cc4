//! The identity of a server: what its storage keeps about it, and what its messages contain.
//!
//! A storage belongs to one server of one configuration. It keeps an [`Identity`], and
//! [`build`](crate::OmniPaxosConfig::build) refuses to use it for another server or configuration.
//! A lasting storage also has an id, made with it.
//!
//! The servers send both to each other. A server ignores another one if that has another
//! configuration, or another storage than the known one: see [`Conflict`]. `docs/identity.md` is
//! for operators.

use crate::{
    config::ClusterConfig,
    ids::{ConfigurationId, NodeId},
    membership::{FlexibleQuorum, Quorum},
};
use std::{collections::BTreeMap, fmt, iter::once};

/// The identity that a storage keeps about its owner: see
/// [`Storage::set_identity`](crate::storage::Storage::set_identity).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Identity {
    /// The id of the server.
    pub pid: NodeId,
    /// Its configuration.
    pub configuration: ClusterConfig,
    /// The name of its cluster, if it has one.
    pub cluster_name: Option<String>,
    /// The storage ids of other servers that this one knows; 0 if servers report different ids.
    pub peers: BTreeMap<NodeId, u64>,
}

/// Takes the place of a storage id about which servers report different values.
pub(crate) const DISPUTED: u64 = 0;

impl Identity {
    /// Creates the identity of a server that knows no other server.
    pub fn new(pid: NodeId, configuration: ClusterConfig, cluster_name: Option<String>) -> Self {
        Self { pid, configuration, cluster_name, peers: BTreeMap::new() }
    }

    /// Returns the identity of the same server in another configuration. It does not know the storages
    /// of servers that are no members there: such a server may come back with another storage.
    pub(crate) fn in_configuration(&self, configuration: &ClusterConfig) -> Self {
        let mut identity = self.clone();
        identity.peers.retain(|pid, _| configuration.nodes.contains(pid));
        identity.configuration = configuration.clone();
        identity
    }

    /// Returns why a storage with this identity cannot be used as `configured`; `None` if it can.
    pub(crate) fn refusal(&self, configured: &Identity) -> Option<String> {
        let (stored, wanted) = (&self.configuration, &configured.configuration);
        if self.pid != configured.pid {
            return Some(format!(
                "the storage belongs to server {}, but the configuration says pid {}: start each \
                 server with its own storage; if the storage of server {} is lost, replace that \
                 server by one with a new id",
                self.pid, configured.pid, configured.pid
            ));
        }
        if stored.configuration_id != wanted.configuration_id {
            return Some(other_configuration(stored.configuration_id, wanted.configuration_id));
        }
        let id = wanted.configuration_id;
        if sorted(&stored.nodes) != sorted(&wanted.nodes) {
            return Some(format!(
                "the storage belongs to configuration {id} with the nodes {:?}, but the \
                 configuration says {:?} under the same id: use the nodes of the storage; other \
                 nodes need a reconfiguration, which has a higher id",
                stored.nodes, wanted.nodes
            ));
        }
        if quorums(stored) != quorums(wanted) {
            return Some(format!(
                "the storage belongs to configuration {id} with {}, but the configuration says {} \
                 under the same id: use the quorum sizes of the storage; others need a \
                 reconfiguration, which has a higher id",
                describe_quorums(stored),
                describe_quorums(wanted)
            ));
        }
        match (&self.cluster_name, &configured.cluster_name) {
            (None, None | Some(_)) => None,
            (Some(stored), Some(wanted)) if stored == wanted => None,
            (Some(stored), wanted) => Some(format!(
                "the storage belongs to the cluster {stored:?}, but the configuration says {}: use \
                 the storage of this cluster, or correct cluster_name",
                wanted.as_ref().map_or("no cluster_name".into(), |wanted| format!("{wanted:?}"))
            )),
        }
    }
}

/// Returns the text of the error that a storage belongs to another configuration.
pub(crate) fn other_configuration(stored: ConfigurationId, wanted: ConfigurationId) -> String {
    format!(
        "the storage belongs to configuration {stored}, not to {wanted}: a new configuration starts \
         with an empty storage"
    )
}

fn sorted(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}

fn quorums(config: &ClusterConfig) -> FlexibleQuorum {
    Quorum::of(config.nodes.len(), config.flexible_quorum).sizes()
}

fn describe_quorums(config: &ClusterConfig) -> String {
    let FlexibleQuorum { read_quorum_size: read, write_quorum_size: write } = quorums(config);
    format!("read_quorum_size {read} and write_quorum_size {write}")
}

/// The settings that must be the same at all servers of a configuration, as numbers to compare. Two
/// configurations that differ have equal numbers in one of four billion cases.
///
/// Zeros mean: not set. A message that was made by hand is not checked.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Digest {
    /// Digest of the configuration id and the nodes, in order. In some messages the id is only in
    /// here.
    pub nodes: u32,
    /// Digest of the quorum sizes.
    pub quorums: u32,
    /// Digest of the name of the cluster, also if it has none.
    pub cluster_name: u32,
}

impl Digest {
    pub(crate) fn of(config: &ClusterConfig, cluster_name: Option<&str>) -> Self {
        let FlexibleQuorum { read_quorum_size, write_quorum_size } = quorums(config);
        let sizes = [read_quorum_size as u64, write_quorum_size as u64];
        let id = u64::from(config.configuration_id);
        let name = cluster_name.map(|name| mix(name.bytes().map(u64::from)));
        Self {
            nodes: short(mix(once(id).chain(sorted(&config.nodes)))),
            quorums: short(mix(sizes.into_iter())),
            cluster_name: short(mix(name.into_iter())),
        }
    }

    /// Returns whether the digest is not set.
    fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Returns a digest of all three numbers, never 0.
    fn short(&self) -> u32 {
        short(mix([self.nodes, self.quorums, self.cluster_name].into_iter().map(u64::from)))
    }
}

/// The identity of the sender, as a heartbeat request contains it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SenderIdentity {
    /// The sender's configuration.
    pub digest: Digest,
    /// The id of the sender's storage, if it has one.
    pub storage: Option<u64>,
    /// The id of the receiver's storage, if the sender knows it.
    pub known: Option<u64>,
    /// The storage id of a third server, as the sender knows it: of another server each round.
    pub other: Option<(NodeId, u64)>,
}

/// Marks between which configurations and storages a message may travel.
///
/// A replica sets it when the message leaves. Two different servers have the same 32 bits in one of
/// four billion cases. Zeros mean: not set. A message that was made by hand is not checked.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stamp {
    /// A digest of the sender's configuration.
    pub configuration: u32,
    /// A digest of the sender's storage id and the receiver's, as the sender knows it; 0 if neither
    /// has an id. In a chunk for a server in an earlier epoch: `u32::MAX`, and `configuration` is that of
    /// the earlier epoch in the log of the sender, or that of the cluster's name alone if the sender does not
    /// know that epoch.
    pub storages: u32,
}

/// Takes the place of a digest of storages in a chunk for a server in an earlier epoch.
const ANOTHER_EPOCH: u32 = u32::MAX;

impl Stamp {
    /// Returns the stamp of a message from a server with storage `from` to one with storage `to`.
    pub(crate) fn of(digest: &Digest, from: Option<u64>, to: Option<u64>) -> Self {
        Self { configuration: digest.short(), storages: storages(from, to) }
    }

    /// Returns the stamp of a chunk for a server in an earlier epoch, with this configuration.
    pub(crate) fn of_earlier_epoch(digest: &Digest) -> Self {
        Self { configuration: digest.short(), storages: ANOTHER_EPOCH }
    }

    /// Returns whether a chunk of a log that continues is from a server in another epoch.
    pub(crate) fn is_from_another_epoch(self) -> bool {
        self.is_blank() || self.is_for_earlier_epoch()
    }

    /// Returns whether the stamp is that of a chunk for a server in an earlier epoch.
    pub(crate) fn is_for_earlier_epoch(self) -> bool {
        self.storages == ANOTHER_EPOCH
    }

    fn is_blank(self) -> bool {
        self == Self::default()
    }

    /// Returns why a message with this stamp is not accepted where `expected` is. If the sender
    /// does not know the receiver's storage yet, its digest must be `unknown`.
    #[inline]
    pub(crate) fn check(self, expected: Stamp, unknown: u32) -> Result<(), Mismatch> {
        if self == expected || self.is_blank() {
            Ok(())
        } else if self.configuration != expected.configuration {
            Err(Mismatch::Configuration)
        } else if self.storages == unknown {
            Ok(())
        } else {
            Err(Mismatch::Storage)
        }
    }
}

/// The part of a stamp that differs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Configuration,
    Storage,
}

pub(crate) fn storages(from: Option<u64>, to: Option<u64>) -> u32 {
    match (from, to) {
        (None, None) => 0,
        (from, to) => short(mix([from.unwrap_or(0), to.unwrap_or(0)].into_iter())),
    }
}

fn short(hash: u64) -> u32 {
    ((hash >> 32) as u32).max(1)
}

/// Hashes words, with the same result in every build: FNV-1a, and the finalizer of SplitMix64.
/// Never 0.
pub(crate) fn mix(words: impl Iterator<Item = u64>) -> u64 {
    let finish = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    };
    let hash = words.fold(0xCBF2_9CE4_8422_2325_u64, |hash, word| {
        (hash ^ finish(word.wrapping_add(1))).wrapping_mul(0x0000_0100_0000_01B3)
    });
    finish(hash).max(1)
}

/// Returns the number of an incarnation of an observer. No member remembers the storage of an
/// observer, so the incarnations of two storages must have different numbers.
pub(crate) fn incarnation_of(storage: u64, number: u64) -> u64 {
    (mix([storage, number].into_iter()) >> 1).max(1)
}

/// Why two servers ignore each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Conflict {
    /// The other server has other nodes, other quorum sizes or another cluster name under the same
    /// configuration id. This server ignores all its messages.
    OtherConfiguration {
        /// Whether the nodes differ.
        nodes: bool,
        /// Whether the quorum sizes differ.
        quorums: bool,
        /// Whether the cluster names differ.
        cluster_name: bool,
    },
    /// The storage of the other server is not the known one: its disk was lost or replaced, or two
    /// servers have that id. No quorum here counts it, and this server ignores all its messages.
    OtherStorage {
        /// The storage id that this server knows; 0 if other servers know a different one.
        known: u64,
        /// The storage id that the other server has now, if it has one.
        found: Option<u64>,
    },
    /// The other server knows another storage as that of this server, and ignores this one. The
    /// disk of this server was lost or replaced, or another server has the same id.
    Ignored {
        /// The storage id that the other server knows.
        known: u64,
        /// The storage id of this server, if it has one.
        own: Option<u64>,
    },
}

impl Conflict {
    /// Returns how `theirs` differs; `None` if it does not.
    pub(crate) fn between(ours: &Digest, theirs: &Digest) -> Option<Self> {
        (ours != theirs && !theirs.is_blank()).then_some(Self::OtherConfiguration {
            nodes: ours.nodes != theirs.nodes,
            quorums: ours.quorums != theirs.quorums,
            cluster_name: ours.cluster_name != theirs.cluster_name,
        })
    }

    /// Returns whether both are of one kind.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OtherConfiguration { nodes, quorums, cluster_name } => {
                let differ = [
                    (nodes, "other nodes"),
                    (quorums, "other quorum sizes"),
                    (cluster_name, "another cluster name"),
                ];
                let named: Vec<&str> =
                    differ.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect();
                write!(
                    f,
                    "the other server has {} under the same configuration id: stop it, \
                     compare the configurations of both, and start it with the one that the cluster \
                     was started with; never change it without a reconfiguration",
                    named.join(" and ")
                )
            }
            Self::OtherStorage { known: DISPUTED, found } => write!(
                f,
                "the other server has {}, and some server knew another one under its id: it lost \
                 its disk, or there are two servers with its id; replace it by one with a new id",
                Name(found)
            ),
            Self::OtherStorage { known, found } => write!(
                f,
                "the other server has {}, but had storage {known:016x} before: it lost its disk, \
                 has the disk of another server, or there are two servers with its id; stop it, and \
                 start it with its own storage; if that is lost, replace the server by one with a \
                 new id",
                Name(found)
            ),
            Self::Ignored { known, own } => write!(
                f,
                "the other server ignores this one, which has {}: it knows storage {known:016x} \
                 under this id; stop this server, and start it with its own storage; if that is \
                 lost, replace the server by one with a new id",
                Name(own)
            ),
        }
    }
}

/// Formats a storage id.
struct Name(Option<u64>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "storage {id:016x}"),
            None => f.write_str("a storage without an id"),
        }
    }
}

/// Another server in [conflict](Conflict) with this one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerConflict {
    /// The other server. It may be no member here, if it considers this server a member.
    pub pid: NodeId,
    /// The kind of conflict, with its values.
    pub conflict: Conflict,
}

impl PeerConflict {
    pub(crate) fn new(pid: NodeId, conflict: Conflict) -> Self {
        Self { pid, conflict }
    }
}

#[cfg(test)]
mod tests {
    use super::{storages, Conflict, Digest, Identity, Mismatch, Stamp};
    use crate::{config::ClusterConfig, membership::FlexibleQuorum};

    fn config(nodes: &[u64], sizes: Option<(usize, usize)>) -> ClusterConfig {
        let flexible_quorum = sizes.map(|(read_quorum_size, write_quorum_size)| FlexibleQuorum {
            read_quorum_size,
            write_quorum_size,
        });
        ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), flexible_quorum }
    }

    fn identity(pid: u64, nodes: &[u64], sizes: Option<(usize, usize)>, name: &str) -> Identity {
        let name = Some(name.to_string()).filter(|name| !name.is_empty());
        Identity::new(pid, config(nodes, sizes), name)
    }

    #[test]
    fn a_storage_is_used_as_what_it_is() {
        let stored = identity(1, &[1, 2, 3], None, "a");
        for (configured, says) in [
            (identity(1, &[3, 2, 1], Some((2, 2)), "a"), None),
            (
                identity(2, &[1, 2, 3], None, "a"),
                Some("server 1, but the configuration says pid 2"),
            ),
            (identity(1, &[1], None, "a"), Some("[1, 2, 3], but the configuration says [1]")),
            (identity(1, &[1, 2, 3], Some((3, 1)), "a"), Some("read_quorum_size 2")),
            (identity(1, &[1, 2, 3], None, "b"), Some("\"a\", but the configuration says \"b\"")),
            (identity(1, &[1, 2, 3], None, ""), Some("says no cluster_name")),
        ] {
            let refusal = stored.refusal(&configured);
            match says {
                None => assert_eq!(refusal, None),
                Some(says) => assert!(refusal.clone().unwrap().contains(says), "{refusal:?}"),
            }
        }
        let unnamed = identity(1, &[1, 2, 3], None, "");
        assert_eq!(unnamed.refusal(&identity(1, &[1, 2, 3], None, "a")), None, "it gets the name");
    }

    #[test]
    fn digests_tell_what_differs() {
        let digest = |nodes: &[u64], sizes, name| Digest::of(&config(nodes, sizes), name);
        let ours = digest(&[1, 2, 3], None, Some("a"));
        assert_eq!(Conflict::between(&ours, &digest(&[2, 3, 1], Some((2, 2)), Some("a"))), None);
        assert_eq!(Conflict::between(&ours, &Digest::default()), None, "it says nothing");
        for (theirs, differs) in [
            (digest(&[1, 2, 4], None, Some("a")), (true, false, false)),
            (digest(&[1, 2, 3], Some((3, 1)), Some("a")), (false, true, false)),
            (digest(&[1, 2, 3], None, None), (false, false, true)),
            (digest(&[3], None, Some("")), (true, true, true)),
        ] {
            let (nodes, quorums, cluster_name) = differs;
            let conflict = Conflict::OtherConfiguration { nodes, quorums, cluster_name };
            assert_eq!(Conflict::between(&ours, &theirs), Some(conflict));
        }
    }

    #[test]
    fn stamps_tell_servers_apart() {
        let digest = Digest::of(&config(&[1, 2, 3], None), None);
        let other = Digest::of(&config(&[1, 3], None), None);
        let (a, b, here) = (Some(7), Some(8), Some(9));
        let expected = Stamp::of(&digest, a, here);
        let check = |stamp: Stamp| stamp.check(expected, storages(a, None));
        assert_eq!(check(expected), Ok(()));
        assert_eq!(check(Stamp::of(&digest, a, None)), Ok(()), "it does not know this one yet");
        assert_eq!(check(Stamp::default()), Ok(()), "made by hand");
        assert_eq!(check(Stamp::of(&digest, b, here)), Err(Mismatch::Storage), "a twin");
        assert_eq!(check(Stamp::of(&digest, None, here)), Err(Mismatch::Storage));
        assert_eq!(
            check(Stamp::of(&digest, a, b)),
            Err(Mismatch::Storage),
            "for a twin of this one"
        );
        assert_eq!(check(Stamp::of(&other, a, here)), Err(Mismatch::Configuration));
        assert_eq!(Stamp::of(&digest, None, None).storages, 0);
    }
}
