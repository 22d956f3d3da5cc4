//! Ours and the published crate: the same code, compiled against either.

use crate::cluster::{KeyValue, Wire};

/// A server of either crate, with its storage in memory.
pub trait Replica: Sized {
    /// What it sends.
    type Message;

    /// Server `pid` of `n`, with the default configuration but for the election timeout, in ticks.
    fn new(pid: u64, n: u64, election_timeout: Option<u64>) -> Self;

    /// Lets one tick pass.
    fn tick(&mut self);

    /// Proposes an entry. Returns whether it was taken.
    fn append(&mut self, entry: KeyValue) -> bool;

    /// Takes the messages to send.
    fn take(&mut self, messages: &mut Vec<Self::Message>);

    /// Handles a message.
    fn handle(&mut self, message: Self::Message);

    /// The link to `pid` was lost and is back.
    fn reconnected(&mut self, pid: u64);

    /// Sender and receiver of a message.
    fn ends(message: &Self::Message) -> (u64, u64);

    /// A message as it goes over a network.
    fn encode(message: &Self::Message) -> Vec<u8>;

    /// A message that came over a network.
    fn decode(bytes: &[u8]) -> Self::Message;

    /// A message on its way. Returns its size in bytes, if it is serialised.
    fn travel(message: Self::Message, wire: Wire) -> (Self::Message, usize) {
        match wire {
            Wire::Moved => (message, 0),
            Wire::Serialised => {
                let bytes = Self::encode(&message);
                drop(message);
                (Self::decode(&bytes), bytes.len())
            }
        }
    }

    /// Number of entries that it knows to be decided.
    fn decided_idx(&self) -> u64;

    /// The leader that it knows.
    fn leader(&self) -> Option<u64>;

    /// Reads one entry. Returns whether it is decided.
    fn read(&self, idx: u64) -> bool;

    /// Reads what is decided from an index on. Returns the number of entries.
    fn read_suffix(&self, from_idx: u64) -> usize;
}

/// Implements [`Replica`] for a crate and the storage that goes with it. `$take` takes the messages
/// of a server.
macro_rules! replica {
    ($(#[$doc:meta])* $name:ident, $omnipaxos:ident, $storage:ident, $take:expr) => {
        $(#[$doc])*
        pub(super) mod $name {
            use super::Replica;
            use crate::cluster::KeyValue;
            use $omnipaxos::{
                messages::Message,
                util::LogEntry,
                ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
            };
            use $storage::memory_storage::MemoryStorage;

            /// A server.
            pub(crate) type Server = OmniPaxos<KeyValue, MemoryStorage<KeyValue>>;

            impl Replica for Server {
                type Message = Message<KeyValue>;

                fn new(pid: u64, n: u64, election_timeout: Option<u64>) -> Self {
                    let mut server_config = ServerConfig { pid, ..Default::default() };
                    if let Some(ticks) = election_timeout {
                        server_config.election_tick_timeout = ticks;
                    }
                    let cluster_config = ClusterConfig {
                        configuration_id: 1,
                        nodes: (1..=n).collect(),
                        ..Default::default()
                    };
                    OmniPaxosConfig { cluster_config, server_config }
                        .build(MemoryStorage::default())
                        .expect("the configuration is valid")
                }

                fn tick(&mut self) {
                    self.tick();
                }

                fn append(&mut self, entry: KeyValue) -> bool {
                    self.append(entry).is_ok()
                }

                fn take(&mut self, messages: &mut Vec<Self::Message>) {
                    $take(self, messages)
                }

                fn handle(&mut self, message: Self::Message) {
                    self.handle_incoming(message);
                }

                fn reconnected(&mut self, pid: u64) {
                    self.reconnected(pid);
                }

                fn ends(message: &Self::Message) -> (u64, u64) {
                    (message.get_sender(), message.get_receiver())
                }

                fn encode(message: &Self::Message) -> Vec<u8> {
                    bincode::serde::encode_to_vec(message, bincode::config::legacy())
                        .expect("a message can be serialised")
                }

                fn decode(bytes: &[u8]) -> Self::Message {
                    let config = bincode::config::legacy();
                    let (message, _) = bincode::serde::decode_from_slice(bytes, config)
                        .expect("what was serialised can be deserialised");
                    message
                }

                fn decided_idx(&self) -> u64 {
                    self.get_decided_idx()
                }

                fn leader(&self) -> Option<u64> {
                    self.get_current_leader()
                }

                fn read(&self, idx: u64) -> bool {
                    matches!(self.read(idx), Some(LogEntry::Decided(_)))
                }

                fn read_suffix(&self, from_idx: u64) -> usize {
                    self.read_decided_suffix(from_idx).map_or(0, |entries| entries.len())
                }
            }
        }
    };
}

replica!(
    /// Ours.
    ours,
    omnipaxos,
    omnipaxos_storage,
    |server: &mut Server, messages: &mut Vec<_>| server.take_outgoing_messages(messages)
);

#[cfg(feature = "peers")]
replica!(
    /// The published crate.
    published,
    omnipaxos_published,
    omnipaxos_storage_published,
    |server: &mut Server, messages: &mut Vec<_>| messages.extend(server.outgoing_messages())
);

#[cfg(feature = "peers")]
impl omnipaxos_published::storage::Entry for crate::cluster::KeyValue {
    type Snapshot = omnipaxos_published::storage::NoSnapshot;
}
