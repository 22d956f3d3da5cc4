//! The messages between servers.
//!
//! A user only passes messages on. The fields of their bodies may change between versions, and all
//! servers of a cluster must run the same version.

pub mod ballot_leader_election;
pub mod sequence_paxos;
pub(crate) mod validate;

use self::{ballot_leader_election::BLEMessage, sequence_paxos::PaxosMessage};
use crate::{ids::NodeId, storage::Entry};

/// A message to another server of the cluster.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "T: serde::Serialize", deserialize = "T: serde::Deserialize<'de>"))
)]
pub enum Message<T: Entry> {
    /// Replication of the log.
    SequencePaxos(PaxosMessage<T>),
    /// Election of a leader.
    BLE(BLEMessage),
}

impl<T: Entry> Message<T> {
    /// Returns the server that sent this message.
    pub fn get_sender(&self) -> NodeId {
        match self {
            Message::SequencePaxos(m) => m.from,
            Message::BLE(m) => m.from,
        }
    }

    /// Returns the server to which this message must be delivered.
    pub fn get_receiver(&self) -> NodeId {
        match self {
            Message::SequencePaxos(m) => m.to,
            Message::BLE(m) => m.to,
        }
    }
}
