//! What runs with lasting faults ask of a cluster.

use super::Cluster;
use crate::value::SimEntry;

impl<T: SimEntry> Cluster<T> {
    /// Opens or cuts one direction of a link.
    pub fn set_link(&mut self, from: usize, to: usize, is_open: bool) {
        self.network.set_open(from, to, is_open);
    }

    /// The id of a server.
    pub fn pid(&self, at: usize) -> u64 {
        self.servers[at].pid()
    }

    /// The highest number of a ballot that a server which runs has promised.
    pub fn highest_promise(&self) -> u64 {
        let replicas = self.servers.iter().filter_map(|server| server.replica());
        replicas.map(|replica| u64::from(replica.get_promise().n)).max().unwrap_or_default()
    }
}
