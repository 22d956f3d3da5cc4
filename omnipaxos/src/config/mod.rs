//! The configuration of a cluster and of a server.

#[cfg(feature = "toml_config")]
mod from_toml;

use crate::{
    amount::Amount,
    ids::{ConfigurationId, NodeId},
    membership::{FlexibleQuorum, Membership},
};
use std::collections::BTreeSet;
use thiserror::Error;

/// Why a configuration is refused.
///
/// The message does not repeat its cause. [`source`](std::error::Error::source) returns the cause,
/// and [`with_causes`](crate::errors::with_causes) prints both.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[cfg(feature = "toml_config")]
    #[error("could not read the configuration file{}", from_toml::named(.0))]
    ReadFile(#[from] std::io::Error),
    /// The file is not the TOML of a configuration.
    #[cfg(feature = "toml_config")]
    #[error("could not parse the configuration file")]
    Parse(#[from] toml::de::Error),
    /// A field has an illegal value, or the storage does not fit the configuration.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
}

/// Refuses a configuration.
fn invalid<T>(what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::InvalidConfig(what.into()))
}

/// All settings of a server: those of the cluster, and its own.
///
/// ```
/// use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
///
/// let config = OmniPaxosConfig {
///     cluster_config: ClusterConfig {
///         configuration_id: 1,
///         nodes: vec![1, 2, 3],
///         ..Default::default()
///     },
///     server_config: ServerConfig { pid: 2, ..Default::default() },
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), derive(serde::Deserialize))]
pub struct OmniPaxosConfig {
    /// The settings that are the same on all servers.
    pub cluster_config: ClusterConfig,
    /// The settings of this server.
    pub server_config: ServerConfig,
}

impl OmniPaxosConfig {
    /// Creates the configuration of a server that observes a log which
    /// [continues](ServerConfig::continues), and knows only some of its servers.
    ///
    /// The server learns the members with the log. It is an observer until a configuration names
    /// it. From then on it is a member. Use it for a new server that joins a cluster, and for a
    /// server that only observes. Use the same call after a restart: the storage records whether
    /// the server is a member.
    ///
    /// ```
    /// use omnipaxos::{OmniPaxosConfig, ServerConfig};
    ///
    /// let server = ServerConfig { pid: 4, ..Default::default() };
    /// let config = OmniPaxosConfig::observe(server, &[1, 2, 3]);
    /// assert!(config.validate().is_ok());
    /// ```
    pub fn observe(server_config: ServerConfig, sources: &[NodeId]) -> Self {
        let server_config =
            ServerConfig { continues: true, observes: sources.to_vec(), ..server_config };
        Self { cluster_config: ClusterConfig::default(), server_config }
    }

    /// Returns whether the members are not known yet: the server learns them with the log.
    pub(crate) fn learns_members(&self) -> bool {
        self.server_config.continues
            && self.server_config.is_observer()
            && self.cluster_config == ClusterConfig::default()
    }

    /// Checks all fields, also against each other.
    ///
    /// # Errors
    /// [`ConfigError::InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.server_config.validate()?;
        if self.learns_members() {
            return Ok(());
        }
        if self.server_config.continues && self.cluster_config == ClusterConfig::default() {
            return invalid(
                "there are neither nodes nor observes: name the first members, or servers to observe",
            );
        }
        self.cluster_config.validate()?;
        if self.server_config.continues {
            self.cluster_config.check_may_be_followed()?;
            // The storage decides whether this server is a member.
            return Ok(());
        }
        let (pid, nodes) = (self.server_config.pid, &self.cluster_config.nodes);
        if self.server_config.is_observer() && nodes.contains(&pid) {
            return invalid(format!(
                "pid {pid} observes, so it must not be one of the nodes {nodes:?}: an observer has \
                 no vote"
            ));
        }
        self.check_names_itself()
    }

    /// Checks that a server which does not observe is one of the nodes.
    pub(crate) fn check_names_itself(&self) -> Result<(), ConfigError> {
        let (pid, nodes) = (self.server_config.pid, &self.cluster_config.nodes);
        match self.server_config.is_observer() || nodes.contains(&pid) {
            true => Ok(()),
            false => invalid(format!("pid {pid} must be one of the nodes {nodes:?}")),
        }
    }

    /// Returns the servers that this one asks as an observer: in a log that continues, also the
    /// present members.
    fn sources(&self, observes: &[NodeId]) -> Vec<NodeId> {
        let members: &[NodeId] = match self.server_config.continues {
            true => &self.cluster_config.nodes,
            false => &[],
        };
        let sources: BTreeSet<NodeId> = observes.iter().chain(members).copied().collect();
        sources.into_iter().filter(|pid| *pid != self.server_config.pid).collect()
    }

    /// Returns the servers of the configuration for a server that takes no part in its decisions.
    pub(crate) fn membership_of_observer(&self) -> Membership {
        let ServerConfig { pid, observes, .. } = &self.server_config;
        Membership::observer(*pid, &self.cluster_config.nodes, &self.sources(observes))
    }

    /// Returns the servers of the configuration, and which of them this one is.
    pub(crate) fn membership(&self) -> Membership {
        let ClusterConfig { nodes, flexible_quorum, .. } = &self.cluster_config;
        let pid = &self.server_config.pid;
        match nodes.contains(pid) {
            true => Membership::new(*pid, nodes, *flexible_quorum),
            false => self.membership_of_observer(),
        }
    }
}

/// The settings that are the same on all servers of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ClusterConfig {
    /// Names the configuration. It is not 0, and higher in each following configuration.
    pub configuration_id: ConfigurationId,
    /// The servers, in any order.
    pub nodes: Vec<NodeId>,
    /// The quorum sizes, if they are not majorities.
    #[cfg_attr(any(feature = "serde", feature = "toml_config"), serde(default))]
    pub flexible_quorum: Option<FlexibleQuorum>,
}

impl ClusterConfig {
    /// Checks all fields.
    ///
    /// # Errors
    /// [`ConfigError::InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.configuration_id == 0 {
            return invalid("configuration_id must not be 0");
        }
        if self.nodes.is_empty() {
            return invalid("nodes must name at least one server");
        }
        if self.nodes.contains(&0) {
            return invalid(format!("nodes must not contain 0, but are {:?}", self.nodes));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.nodes.iter().find(|pid| !seen.insert(**pid)) {
            return invalid(format!("nodes must be distinct, but {twice} is there twice"));
        }
        match self.flexible_quorum {
            Some(quorum) => self.validate_quorum(quorum),
            None => Ok(()),
        }
    }

    /// Checks that another configuration may follow, in a log that continues.
    pub(crate) fn check_may_be_followed(&self) -> Result<(), ConfigError> {
        match self.configuration_id {
            ConfigurationId::MAX => invalid(format!(
                "configuration_id must be less than {}: in a log that continues, the next configuration \
                 needs a higher one",
                ConfigurationId::MAX
            )),
            0.. => Ok(()),
        }
    }

    fn validate_quorum(&self, quorum: FlexibleQuorum) -> Result<(), ConfigError> {
        let FlexibleQuorum { read_quorum_size: read, write_quorum_size: write } = quorum;
        let n = self.nodes.len();
        if read == 0 || write == 0 {
            return invalid("read_quorum_size and write_quorum_size must not be 0");
        }
        if read > n || write > n {
            return invalid(format!(
                "quorum sizes must not exceed the number of nodes, {n}: \
                 read_quorum_size is {read} and write_quorum_size {write}"
            ));
        }
        if read + write <= n {
            return invalid(format!(
                "read_quorum_size {read} + write_quorum_size {write} must exceed the number of \
                 nodes, {n}, so that any two quorums meet"
            ));
        }
        if read < write {
            return invalid(format!(
                "read_quorum_size {read} must not be less than write_quorum_size {write}"
            ));
        }
        Ok(())
    }
}

/// The limits of a server: see the fields of [`ServerConfig`] that begin with `max_`.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) message: Amount,
    pub(crate) in_flight: Amount,
    pub(crate) pending: Amount,
    pub(crate) snapshot_bytes: u64,
}

impl Limits {
    /// Returns how much of a snapshot may be on its way: at least a piece, which may fill a message.
    pub(crate) fn pieces_in_flight(&self) -> Amount {
        let bytes = self.in_flight.bytes.max(self.message.bytes);
        Amount { bytes, ..self.in_flight }
    }
}

/// The settings of one server.
///
/// Times are numbers of ticks. A tick is a call of [`OmniPaxos::tick`](crate::OmniPaxos::tick); the
/// user chooses how often to call it.
#[derive(Clone, Debug)]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), derive(serde::Deserialize))]
#[cfg_attr(any(feature = "serde", feature = "toml_config"), serde(default))]
pub struct ServerConfig {
    /// The id of this server: one of the nodes, unless it [observes](Self::observes).
    pub pid: NodeId,
    /// Length of a heartbeat round, in ticks. A crashed leader is replaced within two and a half
    /// rounds. If replies take longer than a round, the server lengthens its rounds: see
    /// [`max_election_tick_factor`](Self::max_election_tick_factor). If what waits here does not
    /// move for eight rounds, or longer if batches may wait longer, each further round is longer by 0 to
    /// a quarter of this; by 0 or 1 tick if this is below 8. Default 10.
    pub election_tick_timeout: u64,
    /// The longest heartbeat round, as a multiple of
    /// [`election_tick_timeout`](Self::election_tick_timeout). A server lengthens its rounds while
    /// the replies that it needs come too late, and shortens them when the replies come sooner. So
    /// a leader is elected even if a round trip takes nearly this long. While rounds are long, a
    /// crash is noticed later in proportion. With 1, rounds are not lengthened for late replies. Default
    /// 16.
    pub max_election_tick_factor: u64,
    /// The largest number of ticks until a leader sends unacknowledged entries again. Usually it
    /// does so earlier, at the end of a heartbeat round. Default 100.
    pub resend_message_tick_timeout: u64,
    /// Number of messages for which 0.2.2 reserves a buffer. It is accepted and checked, and has no
    /// effect. Default 100,000.
    pub buffer_size: usize,
    /// Number of proposals that the leader collects before it replicates them together. Default 1:
    /// the leader does not wait.
    pub batch_size: usize,
    /// Ticks after which the leader replicates a batch that is not full. Default 200.
    pub flush_batch_tick_timeout: u64,
    /// Decides between servers that take over at the same time: the highest priority wins. For a
    /// while, a server that was restarted, or lost its quorum, comes after the others. Default 0.
    pub leader_priority: u32,
    /// The largest number of bytes of entries in one message, as
    /// [`Entry::size_hint`](crate::storage::Entry::size_hint) estimates them. A larger entry
    /// travels alone. A larger snapshot travels in pieces of this size; without the feature `serde`
    /// as a whole. Default 1 MiB.
    ///
    /// It also limits the undecided entries that a leader appends to its log, since one message
    /// contains the undecided tail of a log when the leader changes. So a cluster decides at most
    /// this number of bytes per round trip. If round trips are long, raise it together with
    /// `max_message_entries` and `max_in_flight_bytes`.
    pub max_message_bytes: usize,
    /// The largest number of entries in one message, and of undecided entries in the log of a
    /// leader: see [`max_message_bytes`](Self::max_message_bytes). Default 16,384.
    pub max_message_entries: usize,
    /// The largest number of bytes of entries that a leader sends to a follower and that are not
    /// acknowledged. A server also requests at most this number of bytes of a snapshot at a time,
    /// or one piece if a piece is larger. Default 4 MiB.
    pub max_in_flight_bytes: usize,
    /// The largest number of entries that a leader sends to a follower and that are not
    /// acknowledged. A follower that lacks more decided entries fetches them in chunks from any
    /// server. Default 65,536.
    pub max_in_flight_entries: usize,
    /// The largest number of bytes of proposals that wait in memory, for a leader or for room in
    /// its log. When there is no room, [`OmniPaxos::try_append`](crate::OmniPaxos::try_append)
    /// returns the proposal, and [`OmniPaxos::append`](crate::OmniPaxos::append) drops it. Default
    /// 64 MiB.
    pub max_pending_bytes: usize,
    /// The largest number of proposals that wait in memory: see
    /// [`max_pending_bytes`](Self::max_pending_bytes). Default 1,048,576.
    pub max_pending_entries: usize,
    /// The size of the largest entry that can be proposed, in bytes as
    /// [`Entry::size_hint`](crate::storage::Entry::size_hint) estimates them. It also limits the
    /// metadata of a stop sign. This server refuses larger ones at once, as their origin and as the
    /// leader. Set it to the size that the network of the cluster can carry in one message. Default
    /// `None`: only the storages limit an entry, see
    /// [`Storage::max_entry_bytes`](crate::storage::Storage::max_entry_bytes).
    pub max_entry_bytes: Option<usize>,
    /// The largest snapshot that this server takes from another server in pieces, in encoded bytes.
    /// Default 64 GiB.
    ///
    /// The source claims how many bytes follow. If it claims more than this, the server takes none
    /// of them, counts the snapshot in
    /// [`Dropped::oversized_snapshots`](crate::status::Dropped::oversized_snapshots), logs a
    /// warning and asks another server. So a source with a wrong length cannot fill the disk, or
    /// the memory if the storage does not receive snapshots in parts. Set it below the free space,
    /// and at all servers above the largest state of the application: a server that refuses the
    /// snapshots of all others does not catch up.
    pub max_snapshot_bytes: u64,
    /// Whether to notify removed servers that contact this one from an older configuration. Default
    /// `false`.
    ///
    /// If it is set,
    /// [`OmniPaxos::take_outgoing_messages`](crate::OmniPaxos::take_outgoing_messages) may return a
    /// message for a server that is no member here. Drop the message if you do not know that
    /// server. Members are always notified.
    pub tells_removed_servers: bool,
    /// Whether this server accepts a delta snapshot instead of entries if it lacks eight decided
    /// entries or more. Default `false`.
    ///
    /// A delta snapshot takes fewer bytes, but its entries cannot be read one by one here. The
    /// setting matters only for an entry type with snapshots. By default this server receives
    /// entries as long as the sending server holds them, and a snapshot only of entries that are
    /// compacted there.
    pub takes_delta_snapshots: bool,
    /// Whether this server proposes again, after it lost leadership, the entries that were
    /// [appended](crate::OmniPaxos::append) here while it led. Default `false`.
    ///
    /// By default it drops such an undecided entry, unless another server has it in its log.
    /// Programs that roll back when they lose leadership must not see it decided later.
    /// [`OmniPaxos::propose`](crate::OmniPaxos::propose) does not depend on this setting.
    pub keeps_undecided_appends: bool,
    /// The name of the cluster, the same at all its servers. Default `None`.
    ///
    /// Servers of clusters with different names ignore each other, and a storage that contains a
    /// name is refused in another cluster. The name cannot be changed until the next configuration.
    /// To give a name to a cluster without one, stop all its servers first.
    pub cluster_name: Option<String>,
    /// A file to which the replica appends its log lines. It is created, with its folders, if it
    /// does not exist. Default `None`.
    #[cfg(feature = "logging")]
    pub logger_file_path: Option<String>,
    /// A logger that receives the log lines instead of a file. Default `None`.
    #[cfg(feature = "logging")]
    #[cfg_attr(any(feature = "serde", feature = "toml_config"), serde(skip))]
    pub custom_logger: Option<slog::Logger>,
    /// Names this incarnation of the server: a number below 2^63 that no earlier incarnation had.
    /// If two incarnations have the same number, reads may return old state, and proposals may be
    /// lost.
    ///
    /// Default `None`: the storage counts incarnations, with
    /// [`Storage::next_incarnation`](crate::storage::Storage::next_incarnation). If there is
    /// neither, the following holds for a restarted server while another server leads:
    /// - It cannot [propose with an outcome](crate::OmniPaxos::propose).
    /// - It cannot [read](crate::OmniPaxos::request_read).
    /// - It forwards each plain proposal once, and does not repeat it if the message is lost.
    pub incarnation: Option<u64>,
    /// Makes this server an **observer**, which learns the decided entries and has no vote.
    /// Default: empty, so this server is a member.
    ///
    /// The value names the servers that it asks: members or other observers, in any order. Some of
    /// them must have a place for it: see [`max_observers`](Self::max_observers). `nodes` are the
    /// members, as in their own configuration, without the observer.
    ///
    /// In a log that [continues](Self::continues) it also asks the present members. A member without a
    /// leader asks the servers named here whether it missed a reconfiguration.
    pub observes: Vec<NodeId>,
    /// The largest number of observers that this server serves, directly or through other
    /// observers. Default 0: no server may observe; in a log that [continues](Self::continues), 16 may.
    ///
    /// This server ignores further servers that are no members. An observer costs a heartbeat reply
    /// per round and a few numbers of memory. Its place becomes free after ten heartbeat rounds
    /// without a message. Choose the same number at all members: the leader must have a place for
    /// an observer that proposes or reads.
    pub max_observers: usize,
    /// Whether the log continues through reconfigurations. Default `false`: a decided stop sign ends
    /// the log, and the next configuration starts with an empty storage. Choose the same at all
    /// servers.
    ///
    /// If it is set, the entries of the next configuration follow the stop sign in the same log.
    /// Each server that knows the stop sign begins the next configuration by itself. A server that
    /// is no member there becomes an observer. Proposals that wait are decided in the next
    /// configuration.
    ///
    /// The storage keeps the members: once it has content, the replica ignores `nodes` and the
    /// quorum sizes of the configuration. So a program may use the same configuration after every
    /// restart. See [`OmniPaxosConfig::observe`] for servers that join.
    ///
    /// Do not set it on a storage whose log has ended, with a decided stop sign, if the next
    /// configuration was started with empty storages: these servers would begin that configuration
    /// a second time, in another log. The library cannot detect that.
    pub continues: bool,
}

/// The number of observers that a server serves if its log continues and `max_observers` is 0.
const PLACES_WHERE_IT_CONTINUES: usize = 16;

/// Incarnations from this number on are reserved for entries appended at a leader without an id.
const HIGHEST_INCARNATION: u64 = 1 << 63;

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            pid: 0,
            election_tick_timeout: 10,
            max_election_tick_factor: 16,
            resend_message_tick_timeout: 100,
            buffer_size: 100_000,
            batch_size: 1,
            flush_batch_tick_timeout: 200,
            leader_priority: 0,
            max_message_bytes: 1 << 20,
            max_message_entries: 1 << 14,
            max_in_flight_bytes: 1 << 22,
            max_in_flight_entries: 1 << 16,
            max_pending_bytes: 1 << 26,
            max_pending_entries: 1 << 20,
            max_entry_bytes: None,
            max_snapshot_bytes: 1 << 36,
            tells_removed_servers: false,
            takes_delta_snapshots: false,
            keeps_undecided_appends: false,
            cluster_name: None,
            #[cfg(feature = "logging")]
            logger_file_path: None,
            #[cfg(feature = "logging")]
            custom_logger: None,
            incarnation: None,
            observes: Vec::new(),
            max_observers: 0,
            continues: false,
        }
    }
}

impl ServerConfig {
    /// Returns whether this server has no vote: see [`observes`](Self::observes).
    pub fn is_observer(&self) -> bool {
        !self.observes.is_empty()
    }

    /// Returns the number of observers that this server serves. A log that continues needs places for
    /// servers that join or were members.
    pub(crate) fn observer_places(&self) -> usize {
        match self.continues && self.max_observers == 0 {
            true => PLACES_WHERE_IT_CONTINUES,
            false => self.max_observers,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let amount =
            |entries: usize, bytes: usize| Amount { entries: entries as u64, bytes: bytes as u64 };
        Limits {
            message: amount(self.max_message_entries, self.max_message_bytes),
            in_flight: amount(self.max_in_flight_entries, self.max_in_flight_bytes),
            pending: amount(self.max_pending_entries, self.max_pending_bytes),
            snapshot_bytes: self.max_snapshot_bytes,
        }
    }

    /// Checks all fields.
    ///
    /// # Errors
    /// [`ConfigError::InvalidConfig`] names the first field that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let not_zero = [
            ("pid", self.pid == 0),
            ("election_tick_timeout", self.election_tick_timeout == 0),
            ("max_election_tick_factor", self.max_election_tick_factor == 0),
            ("resend_message_tick_timeout", self.resend_message_tick_timeout == 0),
            ("buffer_size", self.buffer_size == 0),
            ("batch_size", self.batch_size == 0),
            ("flush_batch_tick_timeout", self.flush_batch_tick_timeout == 0),
            ("max_message_bytes", self.max_message_bytes == 0),
            ("max_message_entries", self.max_message_entries == 0),
            ("max_in_flight_bytes", self.max_in_flight_bytes == 0),
            ("max_in_flight_entries", self.max_in_flight_entries == 0),
            ("max_pending_bytes", self.max_pending_bytes == 0),
            ("max_pending_entries", self.max_pending_entries == 0),
            ("max_entry_bytes", self.max_entry_bytes == Some(0)),
            ("max_snapshot_bytes", self.max_snapshot_bytes == 0),
        ];
        if let Some((field, _)) = not_zero.iter().find(|(_, is_zero)| *is_zero) {
            return invalid(format!("{field} must not be 0"));
        }
        let mut seen = BTreeSet::new();
        for pid in &self.observes {
            if *pid == 0 || *pid == self.pid {
                return invalid(format!("observes must name other servers, but contains {pid}"));
            }
            if !seen.insert(*pid) {
                return invalid(format!("observes must be distinct, but {pid} is there twice"));
            }
        }
        match self.incarnation {
            Some(incarnation @ HIGHEST_INCARNATION..) => {
                invalid(format!("incarnation must be below 2^63, but is {incarnation}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "the rows of tables")]
mod tests {
    use super::{ClusterConfig, ConfigError, OmniPaxosConfig, ServerConfig};
    use crate::membership::FlexibleQuorum;

    fn config(nodes: &[u64], quorum: Option<(usize, usize)>) -> OmniPaxosConfig {
        let flexible_quorum = quorum.map(|(read_quorum_size, write_quorum_size)| FlexibleQuorum {
            read_quorum_size,
            write_quorum_size,
        });
        let nodes = nodes.to_vec();
        let pid = nodes.first().copied().unwrap_or(1);
        OmniPaxosConfig {
            cluster_config: ClusterConfig { configuration_id: 1, nodes, flexible_quorum },
            server_config: ServerConfig { pid, ..Default::default() },
        }
    }

    fn error(config: &OmniPaxosConfig) -> String {
        match config.validate() {
            Err(ConfigError::InvalidConfig(what)) => what,
            other => panic!("expected an invalid configuration, got {other:?}"),
        }
    }

    #[test]
    fn legal() {
        let table: [(&[u64], Option<(usize, usize)>); 7] = [
            (&[1], None),
            (&[1, 2, 3], None),
            (&[1, 5, 9_000_000_000], None),
            (&[1, 2, 3, 4], Some((3, 2))),
            (&[1, 2, 3], Some((3, 1))),
            (&[1, 2, 3, 4, 5], Some((5, 1))),
            (&[u64::MAX, 1], None),
        ];
        for (nodes, quorum) in table {
            assert!(config(nodes, quorum).validate().is_ok(), "{nodes:?} {quorum:?}");
        }
    }

    #[test]
    fn illegal_clusters() {
        let table: [(&[u64], Option<(usize, usize)>, &str); 8] = [
            (&[], None, "at least one"),
            (&[1, 0], None, "not contain 0"),
            (&[1, 2, 1], None, "1 is there twice"),
            (&[1, 2, 3], Some((2, 1)), "must exceed the number of nodes"),
            (&[1, 2, 3], Some((4, 1)), "not exceed"),
            (&[1, 2, 3], Some((3, 0)), "not be 0"),
            (&[1, 2, 3], Some((1, 3)), "not be less"),
            (&[1, 2, 3], Some((usize::MAX, usize::MAX)), "not exceed"),
        ];
        for (nodes, quorum, says) in table {
            let what = error(&config(nodes, quorum));
            assert!(what.contains(says), "{nodes:?} {quorum:?}: {what}");
        }
    }

    #[test]
    fn illegal_servers() {
        let table: [(fn(&mut ServerConfig), &str); 21] = [
            (|c| c.pid = 0, "pid must not be 0"),
            (|c| c.pid = 4, "pid 4 must be one of the nodes [1, 2, 3]"),
            (|c| c.election_tick_timeout = 0, "election_tick_timeout must not be 0"),
            (|c| c.max_election_tick_factor = 0, "max_election_tick_factor must not be 0"),
            (|c| c.resend_message_tick_timeout = 0, "resend_message_tick_timeout must not be 0"),
            (|c| c.flush_batch_tick_timeout = 0, "flush_batch_tick_timeout must not be 0"),
            (|c| c.batch_size = 0, "batch_size must not be 0"),
            (|c| c.buffer_size = 0, "buffer_size must not be 0"),
            (|c| c.max_message_bytes = 0, "max_message_bytes must not be 0"),
            (|c| c.max_message_entries = 0, "max_message_entries must not be 0"),
            (|c| c.max_in_flight_bytes = 0, "max_in_flight_bytes must not be 0"),
            (|c| c.max_in_flight_entries = 0, "max_in_flight_entries must not be 0"),
            (|c| c.max_pending_bytes = 0, "max_pending_bytes must not be 0"),
            (|c| c.max_pending_entries = 0, "max_pending_entries must not be 0"),
            (|c| c.max_entry_bytes = Some(0), "max_entry_bytes must not be 0"),
            (|c| c.max_snapshot_bytes = 0, "max_snapshot_bytes must not be 0"),
            (
                |c| c.observes = vec![2],
                "pid 1 observes, so it must not be one of the nodes [1, 2, 3]: an observer has no vote",
            ),
            (|c| c.observes = vec![2, 1], "observes must name other servers, but contains 1"),
            (|c| c.observes = vec![0], "observes must name other servers, but contains 0"),
            (|c| c.observes = vec![2, 2], "observes must be distinct, but 2 is there twice"),
            (
                |c| c.incarnation = Some(u64::MAX),
                "incarnation must be below 2^63, but is 18446744073709551615",
            ),
        ];
        for (spoil, says) in table {
            let mut config = config(&[1, 2, 3], None);
            spoil(&mut config.server_config);
            assert_eq!(error(&config), says);
        }
        let mut config = config(&[1, 2, 3], None);
        config.cluster_config.configuration_id = 0;
        assert_eq!(error(&config), "configuration_id must not be 0");
    }
}
