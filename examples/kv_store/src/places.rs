//! The addresses of servers: from the configuration file, from the log, and from their announcements.

use crate::members::{Addresses, Found, Members};
use omnipaxos::{util::NodeId, ClusterConfig};
use omnipaxos_runtime::tcp::AddressBook;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Where servers find each other, and where clients find them.
#[derive(Debug)]
pub(crate) struct Places {
    own: NodeId,
    /// Where clients find this server.
    client_address: String,
    /// The addresses in the configuration file.
    configured: Addresses,
    /// The servers to observe, from the configuration file.
    observes: Vec<NodeId>,
    /// What the transport uses.
    book: AddressBook,
    by_servers: watch::Sender<Addresses>,
}

impl Places {
    pub(crate) fn new(
        own: NodeId,
        client_address: String,
        configured: Addresses,
        observes: Vec<NodeId>,
        book: AddressBook,
    ) -> Self {
        book.replace(configured.clone());
        let by_servers = watch::Sender::new(configured.clone());
        Self { own, client_address, configured, observes, book, by_servers }
    }

    /// Uses the addresses of the members from the log. There are none until the members change for the first
    /// time.
    pub(crate) fn follow(&self, members: &Addresses) {
        let is_used =
            |pid: &NodeId| members.is_empty() || *pid == self.own || self.observes.contains(pid);
        let configured = self.configured.iter().filter(|(pid, _)| is_used(pid));
        let configured = configured.map(|(pid, address)| (*pid, address.clone()));
        let addresses: Addresses = configured.chain(members.clone()).collect();
        // In this order: an invitation that ends meanwhile removes a server that is not there yet.
        self.by_servers.send_replace(addresses.clone());
        self.book.replace(addresses);
    }

    /// Where a server says that it is, which has connected to this one.
    pub(crate) fn of_connected(&self, pid: NodeId) -> Option<String> {
        let has_connected = self.book.announced().borrow().contains_key(&pid);
        self.book.get(pid).filter(|_| has_connected)
    }

    /// Connects to servers that no configuration names yet, until the invitation is dropped.
    pub(crate) fn invite<'a>(
        &self,
        joining: impl Iterator<Item = (NodeId, &'a String)>,
    ) -> Invitation<'_> {
        let new = joining.filter(|(pid, _)| self.book.get(*pid).is_none());
        let invited = new.map(|(pid, address)| {
            self.book.invite(pid, address);
            pid
        });
        Invitation { places: self, invited: invited.collect() }
    }

    /// Whether it is known where servers find each of these.
    pub(crate) fn are_known(&self, pids: &[NodeId]) -> bool {
        let by_servers = self.by_servers.borrow();
        pids.iter().all(|pid| by_servers.contains_key(pid))
    }

    /// Where servers find each other.
    pub(crate) fn by_servers(&self) -> watch::Receiver<Addresses> {
        self.by_servers.subscribe()
    }

    /// The announcements of servers: where clients find them.
    pub(crate) fn announced(&self) -> watch::Receiver<BTreeMap<NodeId, Vec<u8>>> {
        self.book.announced()
    }

    /// The members of a configuration, and where they are.
    pub(crate) fn of(&self, configuration: &ClusterConfig) -> Members {
        let by_servers = self.by_servers.borrow();
        let announced = self.book.announced();
        let announced = announced.borrow();
        let by_clients = |pid: &NodeId| match *pid == self.own {
            true => Some(self.client_address.clone()),
            false => String::from_utf8(announced.get(pid)?.clone()).ok(),
        };
        let found = |pid: &NodeId| Found {
            by_servers: by_servers.get(pid).cloned(),
            by_clients: by_clients(pid).filter(|address| !address.is_empty()),
        };
        let members = configuration.nodes.iter().map(|pid| (*pid, found(pid))).collect();
        Members { configuration_id: configuration.configuration_id, members }
    }
}

/// Servers that were invited, and were not known here before.
#[derive(Debug)]
pub(crate) struct Invitation<'a> {
    places: &'a Places,
    invited: Vec<NodeId>,
}

impl Invitation<'_> {
    /// The servers have become members: they stay in the address book.
    pub(crate) fn keep(mut self) {
        self.invited.clear();
    }
}

impl Drop for Invitation<'_> {
    /// Their addresses may be wrong, and the next request may name others.
    fn drop(&mut self) {
        let by_servers = self.places.by_servers.borrow();
        for pid in self.invited.iter().filter(|pid| !by_servers.contains_key(pid)) {
            self.places.book.remove(*pid);
        }
    }
}
