//! Ours: one log that continues, and `change_members`.

use super::{Changing, ELECTION_TICKS, IN_FLIGHT_BYTES, MESSAGE_BYTES};
use omnipaxos::{
    macros::Entry, members::MemberChange, messages::Message, status::Role, storage::Snapshot,
    ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// As many bytes as the entry of `raft`.
#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
#[snapshot(State)]
struct Item {
    key: u64,
    value: u64,
}

/// The state of an application.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State(#[serde(with = "serde_bytes")] Vec<u8>);

impl Snapshot<Item> for State {
    fn create(_: &[Item]) -> Self {
        unreachable!("can_create is false")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

/// Servers of ours.
#[derive(Debug)]
pub struct Ours {
    servers: BTreeMap<u64, OmniPaxos<Item, MemoryStorage<Item>>>,
    founders: Vec<u64>,
    buffer: Vec<Message<Item>>,
    is_asked: bool,
    appended: u64,
}

fn server_config(pid: u64) -> ServerConfig {
    ServerConfig {
        pid,
        election_tick_timeout: ELECTION_TICKS,
        continues: true,
        max_observers: 16,
        max_message_bytes: MESSAGE_BYTES,
        max_in_flight_bytes: IN_FLIGHT_BYTES,
        ..Default::default()
    }
}

const SERIALISED: bincode::config::Configuration = bincode::config::standard();

fn decode(bytes: &[u8]) -> Message<Item> {
    let (message, _) = bincode::serde::decode_from_slice(bytes, SERIALISED)
        .expect("what was serialised can be deserialised");
    message
}

impl Changing for Ours {
    fn start(founders: &[u64], entries: u64, state_bytes: Option<usize>) -> Self {
        let cluster =
            ClusterConfig { configuration_id: 1, nodes: founders.to_vec(), ..Default::default() };
        let start = |pid: &u64| {
            // The first one leads, as with the others.
            let leader_priority = u32::from(*pid == founders[0]);
            let config = ServerConfig { leader_priority, ..server_config(*pid) };
            let server = cluster.clone().build_for_server(config, Default::default());
            (*pid, server.expect("the configuration is valid"))
        };
        let mut ours = Self {
            servers: founders.iter().map(start).collect(),
            founders: founders.to_vec(),
            buffer: Vec::new(),
            is_asked: false,
            appended: 0,
        };
        while ours.leader().is_none() {
            ours.pass_tick();
        }
        while ours.appended < entries {
            let leader = ours.leader().expect("no server fails");
            (0..1_000).for_each(|_| ours.append(leader));
            ours.pass_tick();
        }
        while !ours.servers.values().all(|server| server.get_decided_idx() == ours.appended) {
            ours.pass_tick();
        }
        for server in ours.servers.values_mut().filter(|_| state_bytes.is_some()) {
            let state = State(vec![7; state_bytes.unwrap_or_default()]);
            server.compact_with(server.get_decided_idx(), state).expect("all is decided");
        }
        ours
    }

    fn join(&mut self, pid: u64) {
        let config = OmniPaxosConfig::observe(server_config(pid), &self.founders);
        let server = config.build(MemoryStorage::default()).expect("the configuration is valid");
        self.servers.insert(pid, server);
    }

    fn pids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    fn tick(&mut self, pid: u64) {
        self.server(pid).tick();
    }

    fn take(&mut self, pid: u64, send: &mut dyn FnMut(u64, Vec<u8>)) {
        let mut messages = std::mem::take(&mut self.buffer);
        let server = self.server(pid);
        server.take_outgoing_messages(&mut messages);
        server.take_events();
        for message in messages.drain(..) {
            let bytes = bincode::serde::encode_to_vec(&message, SERIALISED);
            send(message.get_receiver(), bytes.expect("a message can be serialised"));
        }
        self.buffer = messages;
    }

    fn kind(bytes: &[u8]) -> String {
        let text = match decode(bytes) {
            Message::BLE(message) => format!("{:?}", message.msg),
            Message::SequencePaxos(message) => format!("{:?}", message.msg),
        };
        text.split(['(', ' ']).next().unwrap_or_default().to_string()
    }

    fn handle(&mut self, pid: u64, bytes: &[u8]) {
        self.server(pid).handle_incoming(decode(bytes));
    }

    fn leader(&self) -> Option<u64> {
        let leading = |server: &&OmniPaxos<_, _>| server.status().role == Role::Leading;
        let leaders = self.servers.values().filter(leading);
        leaders.max_by_key(|server| server.get_promise()).map(OmniPaxos::get_pid)
    }

    fn append(&mut self, pid: u64) {
        let item = Item { key: self.appended, value: u64::MAX };
        // While a change is under way, entries wait for the next members.
        if self.server(pid).append(item).is_ok() {
            self.appended += 1;
        }
    }

    fn decided(&self) -> u64 {
        self.servers.values().map(|server| server.get_decided_idx()).max().unwrap_or_default()
    }

    fn change(&mut self, next: &[u64]) {
        if let (false, Some(leader)) = (self.is_asked, self.leader()) {
            let next =
                ClusterConfig { configuration_id: 2, nodes: next.to_vec(), ..Default::default() };
            let change = self.server(leader).change_members(next, MemberChange::default());
            self.is_asked = change.is_ok();
        }
    }

    fn is_member(&self, pid: u64) -> bool {
        self.servers[&pid].status().nodes.contains(&pid)
    }

    fn has_changed(&self, next: &[u64]) -> bool {
        let has_begun = |pid| self.servers[pid].status().nodes == next;
        next.iter().all(has_begun) && self.leader().is_some_and(|leader| next.contains(&leader))
    }
}

impl Ours {
    fn server(&mut self, pid: u64) -> &mut OmniPaxos<Item, MemoryStorage<Item>> {
        self.servers.get_mut(&pid).expect("the server was started")
    }

    /// A tick of all servers, without a limit of bytes.
    fn pass_tick(&mut self) {
        let mut messages = Vec::new();
        for server in self.servers.values_mut() {
            server.tick();
            server.take_outgoing_messages(&mut messages);
        }
        for message in messages {
            self.server(message.get_receiver()).handle_incoming(message);
        }
    }
}
