//! A server that does not belong to this cluster, though it names servers of it as members (M5).

use super::checks::Truth;
use crate::{
    disk::{Atomicity, SimDisk},
    rng::Rng,
    value::SimEntry,
};
use omnipaxos::{
    events::Event, messages::Message, util::NodeId, ClusterConfig, OmniPaxos, ServerConfig,
};

/// The id of a server which no configuration of this cluster names.
pub(super) const STRANGER: NodeId = 11;

/// The configuration of another cluster is later than those of this one by this number.
const AHEAD: u32 = 1000;

/// Its entry, which is decided only if it joins later, by the log of this cluster.
const OWN_ENTRY: u64 = u64::MAX >> 1;

/// The server. It needs the votes of some servers of this cluster to decide anything.
pub(super) struct Stranger<T: SimEntry> {
    pub(super) pid: NodeId,
    server: OmniPaxos<T, SimDisk<T>>,
    /// Its decided log was compared up to here.
    seen: u64,
    /// Whether it has reported a conflict.
    pub(super) has_complained: bool,
}

impl<T: SimEntry> Stranger<T> {
    /// Starts it as a founder of a log of its own, of which founders of this cluster are members; or in
    /// the place of a founder, with other nodes or as of another cluster; or as a founder of another cluster, in
    /// a later configuration, which sends to all servers of this one.
    pub(super) fn new(
        rng: &mut Rng,
        founding: &ClusterConfig,
        settings: &ServerConfig,
        seed: u64,
    ) -> Result<Self, String> {
        let mut settings = settings.clone();
        let mut configuration = founding.clone();
        let is_majority_left = founding.nodes.len() > 2 && founding.flexible_quorum.is_none();
        settings.pid = match (rng.below(3), founding.nodes.last()) {
            (0, Some(last)) if is_majority_left => {
                configuration.nodes.push(STRANGER);
                *last
            }
            (1, Some(last)) if is_majority_left => {
                settings.cluster_name = Some("another".to_string());
                *last
            }
            _ if Rng::of(&[seed, 0x6168_6561]).chance(1, 2) => {
                settings.cluster_name = Some("another".to_string());
                configuration.configuration_id += AHEAD;
                configuration.nodes = (1..=STRANGER).collect();
                configuration.flexible_quorum = None;
                STRANGER
            }
            _ => {
                // A server that is new, and that it names, might learn from it which servers are members.
                let founders = founding.nodes.iter().take(2).copied();
                let nodes = founders.chain([STRANGER]).collect();
                configuration = ClusterConfig { nodes, flexible_quorum: None, ..configuration };
                STRANGER
            }
        };
        let pid = settings.pid;
        let disk = SimDisk::plain(Atomicity::Atomic, seed);
        disk.set_id(seed | 1);
        let server = configuration.build_for_server(settings, disk);
        let mut server = server.map_err(|error| error.to_string())?;
        server.try_append(T::with_id(OWN_ENTRY)).map_err(|error| error.to_string())?;
        Ok(Self { pid, server, seen: 0, has_complained: false })
    }

    pub(super) fn handle(&mut self, message: Message<T>) {
        self.server.handle_incoming(message);
    }

    /// Lets a tick pass. Returns what it sends. It may learn the log of this cluster, which continues where its
    /// own did not begin, and it decides nothing else.
    pub(super) fn tick(&mut self, truth: &mut Truth) -> Result<Vec<Message<T>>, String> {
        self.server.tick();
        let messages = self.server.outgoing_messages();
        let decided_idx = self.server.get_decided_idx();
        if decided_idx > self.seen {
            let read = self.server.read_decided_suffix(self.seen).unwrap_or_default();
            let learned = truth.learn(self.seen, read);
            self.seen = learned.map_err(|what| format!("M5: at server {}: {what}", self.pid))?;
        }
        let conflicts = self.server.take_events();
        self.has_complained |= conflicts.iter().any(|event| matches!(event, Event::Conflict(_)));
        Ok(messages)
    }
}
