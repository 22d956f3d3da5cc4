//! The inputs of a server.

use omnipaxos::{messages::Message, storage::Entry, util::NodeId};
use serde::{de::DeserializeOwned, Serialize};
use tokio::sync::mpsc;

/// An entry whose messages can travel.
pub trait Wire:
    Entry<Snapshot: Serialize + DeserializeOwned + Send + Sync>
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<T> Wire for T where
    T: Entry<Snapshot: Serialize + DeserializeOwned + Send + Sync>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The messages of other servers and the requests of clients. `T` is an entry of the log, `Q` what clients ask,
/// `A` what they are answered.
#[derive(Debug)]
pub enum Input<T: Wire, Q, A> {
    /// A message of another server.
    Peer(Message<T>),
    /// There is a new connection with another server.
    Connected(NodeId),
    /// A request, and where the answer goes.
    Client(Q, mpsc::Sender<A>),
}
