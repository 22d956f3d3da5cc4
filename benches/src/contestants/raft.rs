//! `raft` 0.7 (TiKV).
//!
//! Measured are the state machine (`RawNode`), its log in memory (`MemStorage`, of the crate) and
//! the protocol buffers that it takes and gives, as its documentation describes. It is
//! used for throughput:
//! - The data of an entry are bytes, so an entry is serialised once, when it is appended. None
//!   reads it again.
//! - What was appended since the last hop is one proposal.
//! - Appends to the same follower go in one message (`batch_append`), of any size, and many may be
//!   in flight.
//! - The messages of a leader go before it persists, those of a follower after, in the same hop.
//! - The first server campaigns, and no tick passes: there are no heartbeats.
//! - Over a wire, a receiver parses entries that share the bytes of their message.

use crate::cluster::{deliver, Cluster, KeyValue, Wire};
use protobuf::Message as _;
use raft::{
    eraftpb::{Entry, EntryType, Message, MessageType},
    storage::MemStorage,
    Config, RawNode, NO_LIMIT,
};
use slog::{o, Discard, Logger};

/// Position of the leader.
const LEADER: usize = 0;

/// Servers of `raft` that exchange messages by hand.
pub struct Raft {
    /// By id, from 1.
    servers: Vec<Server>,
    messages: Vec<Message>,
    /// What was appended since the last hop.
    queued: Vec<Entry>,
    wire: Wire,
}

struct Server {
    node: RawNode<MemStorage>,
    /// Committed entries that were appended by the driver.
    decided: u64,
}

impl Cluster for Raft {
    fn elected(n: u64, wire: Wire) -> Self {
        let servers = (1..=n).map(|id| Server::new(id, n)).collect();
        let mut cluster = Self { servers, messages: Vec::new(), queued: Vec::new(), wire };
        let leader = &mut cluster.servers[LEADER].node;
        leader.campaign().expect("a follower may campaign");
        deliver(&mut cluster);
        let leader = cluster.servers[LEADER].node.raft.leader_id;
        assert_eq!(leader, LEADER as u64 + 1, "the only candidate is not elected");
        cluster
    }

    fn append(&mut self, entry: KeyValue) {
        self.queued.push(Entry { data: data_of(&entry).into(), ..Entry::default() });
    }

    fn hop(&mut self) -> usize {
        if !self.queued.is_empty() {
            let mut proposal = Message { from: LEADER as u64 + 1, ..Message::default() };
            proposal.set_msg_type(MessageType::MsgPropose);
            proposal.set_entries(std::mem::take(&mut self.queued).into());
            let leader = &mut self.servers[LEADER].node;
            leader.step(proposal).expect("a leader takes proposals");
        }
        for server in &mut self.servers {
            server.draw(&mut self.messages);
        }
        let moved = self.messages.len();
        for message in self.messages.drain(..) {
            let receiver = &mut self.servers[message.to as usize - 1];
            receiver.node.step(travel(message, self.wire)).expect("the sender is a member");
        }
        moved
    }

    fn decided(&self) -> u64 {
        self.servers.iter().map(|server| server.decided).min().unwrap_or(0)
    }
}

impl Server {
    fn new(id: u64, n: u64) -> Self {
        let config = Config {
            max_size_per_msg: NO_LIMIT,
            max_inflight_msgs: 4096,
            batch_append: true,
            ..Config::new(id)
        };
        let voters: Vec<u64> = (1..=n).collect();
        let storage = MemStorage::new_with_conf_state((voters, Vec::new()));
        let node = RawNode::new(&config, storage, &Logger::root(Discard, o!()))
            .expect("the configuration is valid");
        Self { node, decided: 0 }
    }

    /// Persists, applies and sends what is ready.
    fn draw(&mut self, messages: &mut Vec<Message>) {
        if !self.node.has_ready() {
            return;
        }
        let mut ready = self.node.ready();
        assert!(ready.snapshot().is_empty(), "there is a snapshot though no log is compacted");
        messages.extend(ready.take_messages());
        self.apply(&ready.take_committed_entries());
        {
            let mut storage = self.node.store().wl();
            storage.append(ready.entries()).expect("entries follow those before");
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
        }
        messages.extend(ready.take_persisted_messages());

        let mut persisted = self.node.advance(ready);
        if let Some(commit) = persisted.commit_index() {
            self.node.store().wl().mut_hard_state().set_commit(commit);
        }
        messages.extend(persisted.take_messages());
        self.apply(persisted.committed_entries());
        self.node.advance_apply();
    }

    /// Counts the entries that the driver appended; a new leader appends an empty one.
    fn apply(&mut self, committed: &[Entry]) {
        let appended = |entry: &&Entry| {
            entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty()
        };
        self.decided += committed.iter().filter(appended).count() as u64;
    }
}

/// The bytes that bincode makes, in one piece: serde would push those of the value one by one.
fn data_of(entry: &KeyValue) -> Vec<u8> {
    let mut data = Vec::with_capacity(16 + entry.value.len());
    data.extend_from_slice(&entry.key.to_le_bytes());
    data.extend_from_slice(&(entry.value.len() as u64).to_le_bytes());
    data.extend_from_slice(&entry.value);
    data
}

fn travel(message: Message, wire: Wire) -> Message {
    match wire {
        Wire::Moved => message,
        Wire::Serialised => {
            let bytes = message.write_to_bytes().expect("a message can be serialised");
            drop(message);
            Message::parse_from_carllerche_bytes(&bytes.into())
                .expect("what was serialised can be deserialised")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{data_of, Raft};
    use crate::cluster::{replicate, Cluster, KeyValue, Pump, Wire};

    #[test]
    fn every_server_decides_every_entry() {
        for wire in [Wire::Moved, Wire::Serialised] {
            for pump in [Pump::UntilSilent, Pump::OneHop] {
                for (n, group) in [(3, 1), (3, 100), (15, 1), (15, 100)] {
                    let mut cluster = Raft::elected(n, wire);
                    assert_eq!(cluster.decided(), 0);
                    replicate(&mut cluster, KeyValue::many(1_000, 8), group, pump);
                    assert_eq!(cluster.decided(), 1_000);
                }
            }
        }
    }

    #[test]
    fn data_are_what_bincode_makes() {
        for entry in KeyValue::many(300, 8) {
            let made = bincode::serde::encode_to_vec(&entry, bincode::config::legacy());
            assert_eq!(data_of(&entry), made.expect("an entry can be serialised"));
        }
    }
}
