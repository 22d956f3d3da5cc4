//! A server of ours, with the default settings.

use super::{Server, ELECTION_TICKS};
use crate::cluster::KeyValue;
use omnipaxos::{messages::Message, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

/// A server of ours.
pub struct Ours {
    replica: OmniPaxos<KeyValue, MemoryStorage<KeyValue>>,
    messages: Vec<Message<KeyValue>>,
}

impl Server for Ours {
    type Message = Message<KeyValue>;
    type Disk = MemoryStorage<KeyValue>;

    fn start(pid: u64, n: u64, disk: Self::Disk, _seed: u64, _incarnation: u64) -> Self {
        let server_config =
            ServerConfig { pid, election_tick_timeout: ELECTION_TICKS, ..Default::default() };
        let nodes = (1..=n).collect();
        let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
        let replica = cluster
            .build_for_server(server_config, disk)
            .expect("the configuration is valid, and the storage that of this server");
        Self { replica, messages: Vec::new() }
    }

    fn stop(self) -> Self::Disk {
        self.replica.into_storage()
    }

    fn tick(&mut self) {
        self.replica.tick();
    }

    fn propose(&mut self, number: u64) {
        let entry = KeyValue { key: number, value: Vec::new() };
        self.replica.append(entry).expect("there is no reconfiguration");
    }

    fn ask_to_lead(&mut self) {
        self.replica.try_become_leader();
    }

    fn handle(&mut self, message: Self::Message) {
        self.replica.handle_incoming(message);
    }

    fn take(&mut self, messages: &mut Vec<(u64, Self::Message)>) {
        self.replica.take_outgoing_messages(&mut self.messages);
        messages.extend(self.messages.drain(..).map(|message| (message.get_receiver(), message)));
    }

    fn decided(&self) -> u64 {
        self.replica.get_decided_idx()
    }

    fn leader(&self) -> Option<u64> {
        self.replica.get_current_leader()
    }
}
