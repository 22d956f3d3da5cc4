//! The addresses of the servers.

use omnipaxos::util::NodeId;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// The addresses of servers, which can be changed while transports use them.
///
/// Clones share their content. A transport accepts connections only of servers in its book. A server that
/// leaves the book is disconnected; one whose address changes is connected again.
///
/// # Guests
/// A guest is a server that no configuration names: an observer, a server that joins, or one that
/// was removed from the members. Where a book [admits guests](Self::admit_guests), a server that is
/// not in it may connect. It sends its address with the connection, and is in the book until 60
/// attempts to connect to it have failed in a row. So only the joining server must have the
/// addresses of others.
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
pub struct AddressBook(Arc<Book>);

#[derive(Debug)]
struct Book {
    addresses: watch::Sender<Addresses>,
    /// What the servers in the book have announced.
    announced: watch::Sender<BTreeMap<NodeId, Vec<u8>>>,
}

/// The servers in a book.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    listed: BTreeMap<NodeId, String>,
    /// None of them is listed.
    guests: BTreeMap<NodeId, String>,
    max_guests: usize,
}

impl Addresses {
    pub(super) fn get(&self, pid: NodeId) -> Option<&String> {
        self.listed.get(&pid).or_else(|| self.guests.get(&pid))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &String)> {
        self.listed.iter().chain(&self.guests).map(|(pid, address)| (*pid, address))
    }
}

impl Default for AddressBook {
    fn default() -> Self {
        let addresses = watch::Sender::new(Addresses::default());
        let announced = watch::Sender::new(BTreeMap::new());
        Self(Arc::new(Book { addresses, announced }))
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
        book.replace(addresses);
        book
    }
}

impl AddressBook {
    /// Sets the address of a server, as `host:port`. A guest becomes a server like others.
    pub fn set(&self, pid: NodeId, address: impl Into<String>) {
        let address = address.into();
        self.0.addresses.send_if_modified(|addresses| {
            let is_new = addresses.listed.get(&pid) != Some(&address);
            if is_new {
                addresses.guests.remove(&pid);
                addresses.listed.insert(pid, address);
            }
            is_new
        });
    }

    /// Sets the addresses of all servers, as after a change of the members. If the book admits
    /// guests, servers that are left out become guests. Otherwise the book removes them.
    pub fn replace<A: Into<String>>(&self, servers: impl IntoIterator<Item = (NodeId, A)>) {
        let servers: BTreeMap<NodeId, String> =
            servers.into_iter().map(|(pid, address)| (pid, address.into())).collect();
        self.0.addresses.send_if_modified(|addresses| {
            if addresses.listed == servers {
                return false;
            }
            let before = std::mem::replace(&mut addresses.listed, servers);
            if addresses.max_guests > 0 {
                addresses.guests.extend(before);
            }
            let Addresses { listed, guests, .. } = addresses;
            guests.retain(|pid, _| !listed.contains_key(pid));
            true
        });
        self.prune_announcements();
    }

    /// Removes a server, listed or a guest.
    pub fn remove(&self, pid: NodeId) {
        self.0.addresses.send_if_modified(|addresses| {
            let removed = addresses.listed.remove(&pid).or(addresses.guests.remove(&pid));
            removed.is_some()
        });
        self.prune_announcements();
    }

    /// Returns the address of a server, listed or a guest.
    pub fn get(&self, pid: NodeId) -> Option<String> {
        self.0.addresses.borrow().get(pid).cloned()
    }

    /// Lets this number of servers that are not in the book connect, and answers them. Default 0.
    ///
    /// Choose at least [`ServerConfig::max_observers`](omnipaxos::ServerConfig::max_observers).
    pub fn admit_guests(&self, max: usize) {
        self.0.addresses.send_modify(|addresses| addresses.max_guests = max);
    }

    /// Connects to a joining server, as to a guest. This has no effect if the server is in the
    /// book.
    pub fn invite(&self, pid: NodeId, address: impl Into<String>) {
        self.0.addresses.send_if_modified(|addresses| {
            let is_new = addresses.get(pid).is_none();
            if is_new {
                addresses.guests.insert(pid, address.into());
            }
            is_new
        });
    }

    /// Returns what the servers in the book have [announced](super::TcpTransport::announce) with their last
    /// connections, now and whenever that changes.
    ///
    /// Borrow the value of the receiver for a short time only, and do not change the book meanwhile:
    /// [`replace`](Self::replace) and [`remove`](Self::remove) wait for the end of the borrow.
    pub fn announced(&self) -> watch::Receiver<BTreeMap<NodeId, Vec<u8>>> {
        self.0.announced.subscribe()
    }

    /// Returns whether a server is in the book.
    pub(super) fn contains(&self, pid: NodeId) -> bool {
        self.0.addresses.borrow().get(pid).is_some()
    }

    /// Returns whether a server is in the book, which connects and has this address. If there is room, it
    /// becomes a guest.
    pub(super) fn admits(&self, pid: NodeId, address: &str) -> bool {
        let mut is_admitted = true;
        self.0.addresses.send_if_modified(|addresses| {
            let Addresses { listed, guests, max_guests } = addresses;
            let has_address = !address.is_empty();
            let is_moved = guests.get(&pid).is_some_and(|known| known != address) && has_address;
            let is_known = listed.contains_key(&pid) || guests.contains_key(&pid);
            let is_new = !is_known && has_address && guests.len() < *max_guests;
            is_admitted = is_known || is_new;
            if is_moved || is_new {
                guests.insert(pid, address.to_owned());
            }
            is_moved || is_new
        });
        is_admitted
    }

    /// Takes note of what a server has announced.
    pub(super) fn note(&self, pid: NodeId, announced: Vec<u8>) {
        self.0.announced.send_if_modified(|all| {
            let is_new = all.get(&pid) != Some(&announced);
            let before = all.len();
            all.insert(pid, announced);
            all.retain(|pid, _| self.contains(*pid));
            is_new || all.len() != before
        });
    }

    /// Removes a server that cannot be reached, if it is a guest.
    pub(super) fn forget_guest(&self, pid: NodeId) {
        self.0.addresses.send_if_modified(|addresses| addresses.guests.remove(&pid).is_some());
        self.prune_announcements();
    }

    /// Drops the announcements of servers that are not in the book any more.
    fn prune_announcements(&self) {
        self.0.announced.send_if_modified(|all| {
            let before = all.len();
            all.retain(|pid, _| self.contains(*pid));
            all.len() != before
        });
    }

    /// Returns a receiver of the present and of later addresses.
    pub(super) fn subscribe(&self) -> watch::Receiver<Addresses> {
        self.0.addresses.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressBook, BTreeMap};

    #[test]
    fn guests_are_admitted_while_there_is_room() {
        let book = AddressBook::from([(1, "h:1")]);
        assert!(book.admits(1, "elsewhere:1"), "a listed server");
        assert_eq!(book.get(1).as_deref(), Some("h:1"));
        assert!(!book.admits(4, "h:4"));
        book.admit_guests(1);
        assert!(!book.admits(4, ""), "it could not be answered");
        assert!(book.admits(4, "h:4") && !book.admits(5, "h:5"));
        assert!(book.admits(4, "h:44"), "it has moved");
        assert_eq!(book.get(4).as_deref(), Some("h:44"));
        book.forget_guest(4);
        book.forget_guest(1);
        assert_eq!((book.get(4), book.contains(1)), (None, true));
        assert!(book.admits(5, "h:5"));
    }

    #[test]
    fn servers_that_are_left_out_become_guests() {
        let book = AddressBook::from([(1, "h:1"), (2, "h:2")]);
        book.replace([(2, "h:2"), (3, "h:3")]);
        assert!(!book.contains(1), "this book admits no guests");
        book.admit_guests(4);
        book.invite(4, "h:4");
        book.invite(2, "elsewhere:2");
        assert_eq!(book.get(2).as_deref(), Some("h:2"));
        book.replace([(3, "h:3"), (4, "h:4")]);
        assert_eq!(book.get(2).as_deref(), Some("h:2"));
        for pid in [2, 3, 4] {
            book.forget_guest(pid);
        }
        assert_eq!([2, 3, 4].map(|pid| book.contains(pid)), [false, true, true]);
    }

    #[test]
    fn announcements_are_those_of_servers_in_the_book() {
        let book = AddressBook::from([(1, "h:1")]);
        book.note(1, b"one".to_vec());
        book.note(9, b"nine".to_vec());
        assert_eq!(*book.announced().borrow(), BTreeMap::from([(1, b"one".to_vec())]));
        book.remove(1);
        assert!(book.announced().borrow().is_empty());
    }
}
