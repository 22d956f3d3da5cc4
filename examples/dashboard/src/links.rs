//! Which links are cut, and the other orders to servers.

use crate::protocol::{Change, Order};
use omnipaxos::util::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A link between two servers, in both directions.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link(NodeId, NodeId);

impl Link {
    pub(crate) fn between(a: NodeId, b: NodeId) -> Self {
        Self(a.min(b), a.max(b))
    }

    /// The other end, if `pid` is one.
    pub(crate) fn other(self, pid: NodeId) -> Option<NodeId> {
        match self {
            Self(a, b) if a == pid => Some(b),
            Self(a, b) if b == pid => Some(a),
            Self(..) => None,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The orders to servers: shared by the dashboard, which changes them, and the tasks that send them.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    wanted: Arc<Mutex<Wanted>>,
}

#[derive(Debug)]
struct Wanted {
    cut: BTreeSet<Link>,
    /// Numbers that a server is given with each order.
    appends: u64,
    next_number: u64,
    ports: BTreeMap<NodeId, u16>,
    /// The change of the members, and the server that is to propose it.
    change: Option<(NodeId, Change)>,
}

impl Orders {
    pub(crate) fn new(appends: u64) -> Self {
        let wanted = Wanted {
            cut: BTreeSet::new(),
            appends,
            next_number: 0,
            ports: BTreeMap::new(),
            change: None,
        };
        Self { wanted: Arc::new(Mutex::new(wanted)) }
    }

    /// The ports of all servers from now on.
    pub(crate) fn set_ports(&self, ports: BTreeMap<NodeId, u16>) {
        self.wanted().ports = ports;
    }

    /// The change of the members from now on, and the server that is to propose it.
    pub(crate) fn set_change(&self, change: Option<(NodeId, Change)>) {
        self.wanted().change = change;
    }

    /// All links that are cut from now on.
    pub(crate) fn set_cut(&self, cut: BTreeSet<Link>) {
        self.wanted().cut = cut;
    }

    pub(crate) fn set_appends(&self, appends: u64) {
        self.wanted().appends = appends;
    }

    pub(crate) fn appends(&self) -> u64 {
        self.wanted().appends
    }

    /// The next order for a server. No number is given out twice.
    pub(crate) fn next_for(&self, pid: NodeId) -> Order {
        let mut wanted = self.wanted();
        let cut = wanted.cut.iter().filter_map(|link| link.other(pid)).collect();
        let (first, count) = (wanted.next_number, wanted.appends);
        wanted.next_number += count;
        let change = wanted.change.as_ref().filter(|(proposer, _)| *proposer == pid);
        let change = change.map(|(_, change)| change.clone());
        Order { cut, first, count, ports: wanted.ports.clone(), change }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Link, Orders};

    #[test]
    fn both_ends_of_a_link_are_told_that_it_is_cut() {
        let orders = Orders::new(0);
        orders.set_cut([Link::between(3, 1), Link::between(3, 2)].into());
        let told = |pid| orders.next_for(pid).cut.into_iter().collect::<Vec<_>>();
        assert_eq!((told(1), told(2), told(3), told(4)), (vec![3], vec![3], vec![1, 2], vec![]));
        assert_eq!(Link::between(3, 1).to_string(), "1-3");
        orders.set_cut([].into());
        assert_eq!(told(3), vec![]);
    }

    #[test]
    fn a_change_is_for_the_server_that_is_to_propose_it() {
        let orders = Orders::new(0);
        let change = Change { configuration_id: 2, nodes: vec![1, 2, 4] };
        orders.set_change(Some((2, change.clone())));
        assert_eq!((orders.next_for(1).change, orders.next_for(2).change), (None, Some(change)));
        orders.set_change(None);
        assert_eq!(orders.next_for(2).change, None);
    }

    #[test]
    fn no_number_is_given_out_twice() {
        let orders = Orders::new(3);
        let firsts: Vec<_> = [1, 2, 1].map(|pid| orders.next_for(pid).first).into();
        assert_eq!(firsts, [0, 3, 6]);
        orders.set_appends(0);
        assert_eq!(orders.next_for(1).count, 0);
    }
}
