//! Values as bytes. The only place that knows of bincode.

use super::error::StorageError;
use bincode::{enc::write::Writer, error::EncodeError};
use omnipaxos::{
    ballot_leader_election::Ballot,
    storage::StopSign,
    util::{FlexibleQuorum, NodeId},
    ClusterConfig,
};
use serde::{de::DeserializeOwned, Deserialize, Serialize};

/// Encodes a value.
pub(super) fn encode<V: Serialize>(what: &'static str, value: &V) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    encode_into(what, value, &mut bytes)?;
    Ok(bytes)
}

/// Encodes a value at the end of `bytes`.
pub(super) fn encode_into<V: Serialize>(
    what: &'static str,
    value: &V,
    bytes: &mut Vec<u8>,
) -> Result<(), StorageError> {
    bincode::serde::encode_into_writer(value, At(bytes), bincode::config::standard())
        .map_err(|cause| StorageError::Code { doing: "encode", what, cause: cause.to_string() })
}

/// Writes at the end of a vector.
struct At<'a>(&'a mut Vec<u8>);

impl Writer for At<'_> {
    // Called for each byte of a vector of bytes.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Decodes a value that takes up all of `bytes`.
pub(super) fn decode<V: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<V, StorageError> {
    let failed = |cause| StorageError::Code { doing: "decode", what, cause };
    let (value, used) = bincode::serde::decode_from_slice(bytes, bincode::config::standard())
        .map_err(|cause| failed(cause.to_string()))?;
    if used < bytes.len() {
        return Err(failed(format!("{} bytes are left over", bytes.len() - used)));
    }
    Ok(value)
}

/// A [`Ballot`] as it is stored.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredBallot(u32, u32, u32, NodeId);

impl From<Ballot> for StoredBallot {
    fn from(ballot: Ballot) -> Self {
        Self(ballot.config_id, ballot.n, ballot.priority, ballot.pid)
    }
}

impl From<StoredBallot> for Ballot {
    fn from(StoredBallot(config_id, n, priority, pid): StoredBallot) -> Self {
        Ballot::with(config_id, n, priority, pid)
    }
}

/// A [`StopSign`] as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredStopSign {
    configuration_id: u32,
    nodes: Vec<NodeId>,
    quorum: Option<(u64, u64)>,
    metadata: Option<Vec<u8>>,
}

impl From<StopSign> for StoredStopSign {
    fn from(stopsign: StopSign) -> Self {
        let next = stopsign.next_config;
        Self {
            configuration_id: next.configuration_id,
            nodes: next.nodes,
            quorum: next
                .flexible_quorum
                .map(|sizes| (sizes.read_quorum_size as u64, sizes.write_quorum_size as u64)),
            metadata: stopsign.metadata,
        }
    }
}

impl From<StoredStopSign> for StopSign {
    fn from(stored: StoredStopSign) -> Self {
        let size = |stored: u64| usize::try_from(stored).unwrap_or(usize::MAX);
        let next_config = ClusterConfig {
            configuration_id: stored.configuration_id,
            nodes: stored.nodes,
            flexible_quorum: stored.quorum.map(|(read, write)| FlexibleQuorum {
                read_quorum_size: size(read),
                write_quorum_size: size(write),
            }),
        };
        StopSign::with(next_config, stored.metadata)
    }
}
