//! A transport whose links can be cut.

use crate::protocol::Number;
use omnipaxos::{messages::Message, util::NodeId};
use omnipaxos_runtime::{tcp::TcpTransport, Inbox, Transport};
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The servers to which no message is sent. Both ends of a link know that it is cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeSet<NodeId>>>);

impl Cuts {
    pub(crate) fn set(&self, servers: BTreeSet<NodeId>) {
        *self.lock() = servers;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends over TCP, except over links that are cut.
#[derive(Debug)]
pub(crate) struct Cuttable {
    pub(crate) tcp: TcpTransport,
    pub(crate) cuts: Cuts,
}

impl Transport<Number> for Cuttable {
    async fn start(&mut self, own: NodeId, inbox: Inbox<Number>) -> io::Result<()> {
        self.tcp.start(own, inbox).await
    }

    fn send(&mut self, to: NodeId, messages: &mut Vec<Message<Number>>) {
        if self.cuts.lock().contains(&to) {
            messages.clear();
        } else {
            self.tcp.send(to, messages);
        }
    }

    fn largest_message(&self) -> Option<usize> {
        Transport::<Number>::largest_message(&self.tcp)
    }

    fn check_entry(&self, entry: &Number) -> Result<(), String> {
        self.tcp.check_entry(entry)
    }

    async fn stop(&mut self) {
        Transport::<Number>::stop(&mut self.tcp).await;
    }
}
