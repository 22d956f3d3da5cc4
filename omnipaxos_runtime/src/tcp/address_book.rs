//! The addresses of the servers.

use omnipaxos::util::NodeId;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The addresses of servers, which can be changed while transports use them.
///
/// Clones share their content. A transport accepts connections only of servers in its book. So an
/// observer must be in the book of each server that it observes. A server that leaves the book is
/// disconnected; one whose address changes is connected anew.
///
/// ```
/// use omnipaxos_runtime::tcp::AddressBook;
///
/// let book = AddressBook::from([(1, "127.0.0.1:7001"), (2, "127.0.0.1:7002")]);
/// book.set(3, "127.0.0.1:7003");
/// assert_eq!(book.get(3).as_deref(), Some("127.0.0.1:7003"));
/// book.remove(2);
/// assert_eq!(book.get(2), None);
/// ```
#[derive(Clone, Debug)]
pub struct AddressBook(Arc<watch::Sender<BTreeMap<NodeId, String>>>);

impl Default for AddressBook {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl<A: Into<String>, const N: usize> From<[(NodeId, A); N]> for AddressBook {
    fn from(addresses: [(NodeId, A); N]) -> Self {
        addresses.into_iter().collect()
    }
}

impl<A: Into<String>> FromIterator<(NodeId, A)> for AddressBook {
    fn from_iter<I: IntoIterator<Item = (NodeId, A)>>(addresses: I) -> Self {
        let book = Self::default();
        for (pid, address) in addresses {
            book.set(pid, address);
        }
        book
    }
}

impl AddressBook {
    /// Sets the address of a server, as `host:port`.
    pub fn set(&self, pid: NodeId, address: impl Into<String>) {
        let address = address.into();
        self.0.send_if_modified(|addresses| {
            let is_new = addresses.get(&pid) != Some(&address);
            if is_new {
                addresses.insert(pid, address);
            }
            is_new
        });
    }

    /// Removes a server.
    pub fn remove(&self, pid: NodeId) {
        self.0.send_if_modified(|addresses| addresses.remove(&pid).is_some());
    }

    /// Returns the address of a server.
    pub fn get(&self, pid: NodeId) -> Option<String> {
        self.0.borrow().get(&pid).cloned()
    }

    /// Returns whether a server is in the book.
    pub(super) fn contains(&self, pid: NodeId) -> bool {
        self.0.borrow().contains_key(&pid)
    }

    /// Returns a receiver of the present and of later addresses.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<NodeId, String>> {
        self.0.subscribe()
    }
}
