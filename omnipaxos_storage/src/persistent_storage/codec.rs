//! Encodes and decodes values. No other module uses bincode.

use super::error::StorageError;
use bincode::{enc::write::Writer, error::EncodeError};
use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Identity,
    storage::{Epoch, StopSign},
    util::{FlexibleQuorum, NodeId},
    ClusterConfig,
};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::io::Read;

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
        .map_err(StorageError::code("encode", what))
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

/// Decodes a value that takes all of `bytes`.
pub(super) fn decode<V: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<V, StorageError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, bincode::config::standard())
        .map_err(StorageError::code("decode", what))?;
    if used < bytes.len() {
        let left_over = format!("{} bytes are left over", bytes.len() - used);
        return Err(StorageError::code("decode", what)(left_over));
    }
    Ok(value)
}

/// Decodes a value at the beginning of `bytes`. Returns the bytes after it, too.
pub(super) fn decode_first<'a, V: DeserializeOwned>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(V, &'a [u8]), StorageError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, bincode::config::standard())
        .map_err(StorageError::code("decode", what))?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

/// Returns the number of bytes of an encoded value.
pub(super) fn encoded_len<V: Serialize>(
    what: &'static str,
    value: &V,
) -> Result<u64, StorageError> {
    let mut counted = Counted(0);
    bincode::serde::encode_into_writer(value, &mut counted, bincode::config::standard())
        .map_err(StorageError::code("encode", what))?;
    Ok(counted.0)
}

/// Counts the written bytes.
struct Counted(u64);

impl Writer for &mut Counted {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Checks that a value encoded to `bytes` can be read back: the decoded value must have the same
/// encoding. The bytes may have another order, since a hash map may.
pub(super) fn check_round_trip<V: Serialize + DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<(), StorageError> {
    let doing = "read back";
    let value: V = decode_guarded(what, bytes).map_err(|error| match error {
        StorageError::Code { source, .. } => StorageError::Code { doing, what, source },
        other => other,
    })?;
    let mut rest = Compared { rest: Some(bytes) };
    bincode::serde::encode_into_writer(&value, &mut rest, bincode::config::standard())
        .map_err(StorageError::code(doing, what))?;
    if rest.rest.is_some_and(<[u8]>::is_empty) || counts(&encode(what, &value)?) == counts(bytes) {
        return Ok(());
    }
    Err(StorageError::code(doing, what)("what is read is not what was written"))
}

/// Compares written bytes with earlier ones, of which `rest` remains; `None` once they differ.
struct Compared<'a> {
    rest: Option<&'a [u8]>,
}

impl Writer for &mut Compared<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.rest = self.rest.and_then(|rest| rest.strip_prefix(bytes));
        Ok(())
    }
}

/// Returns how often each byte occurs.
fn counts(bytes: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    counts
}

/// Decodes bytes that may have another meaning than they were written with. A wrong length must not
/// allocate more than memory can hold. An integer of one byte takes up to 16 bytes when it is
/// decoded, and the limits count those.
fn decode_guarded<V: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<V, StorageError> {
    let config = bincode::config::standard();
    let decoded = match bytes.len() {
        0..=0x1_0000 => bincode::serde::decode_from_slice(bytes, config.with_limit::<0x20_0000>()),
        0x1_0001..=0x40_0000 => {
            bincode::serde::decode_from_slice(bytes, config.with_limit::<0x800_0000>())
        }
        0x40_0001..=0x800_0000 => {
            bincode::serde::decode_from_slice(bytes, config.with_limit::<0xFFFF_FFFF>())
        }
        _ => return decode(what, bytes),
    };
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => {
            let left_over = format!("{} bytes are left over", bytes.len() - used);
            Err(StorageError::code("decode", what)(left_over))
        }
        Err(error) => Err(StorageError::code("decode", what)(error)),
    }
}

/// Decodes a value that takes all `len` bytes of `reader`, which another server has sent. A length in
/// them that is a lie must not allocate more than memory can hold.
pub(super) fn decode_from<V: DeserializeOwned>(
    what: &'static str,
    reader: &mut dyn Read,
    len: u64,
) -> Result<V, StorageError> {
    let config = bincode::config::standard();
    let mut reader = reader;
    let decoded = match len {
        0..=0x1_0000 => {
            bincode::serde::decode_from_std_read(&mut reader, config.with_limit::<0x20_0000>())
        }
        0x1_0001..=0x40_0000 => {
            bincode::serde::decode_from_std_read(&mut reader, config.with_limit::<0x800_0000>())
        }
        0x40_0001..=0x800_0000 => {
            bincode::serde::decode_from_std_read(&mut reader, config.with_limit::<0xFFFF_FFFF>())
        }
        0x800_0001.. => bincode::serde::decode_from_std_read(&mut reader, config),
    };
    let value = decoded.map_err(StorageError::code("decode", what))?;
    match reader.read(&mut [0]) {
        Ok(0) => Ok(value),
        Ok(_) => Err(StorageError::code("decode", what)("bytes are left over")),
        Err(error) => Err(StorageError::code("decode", what)(error)),
    }
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

/// An [`Epoch`] as it is stored: its first index, and the stop sign that began it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredEpoch(u64, StoredStopSign);

impl StoredEpoch {
    /// Returns the number of entries and stop signs before the epoch.
    pub(super) fn first_idx(&self) -> u64 {
        self.0
    }
}

impl From<Epoch> for StoredEpoch {
    fn from(epoch: Epoch) -> Self {
        Self(epoch.first_idx, StopSign::with(epoch.configuration, epoch.metadata).into())
    }
}

impl From<StoredEpoch> for Epoch {
    fn from(StoredEpoch(first_idx, began): StoredEpoch) -> Self {
        let StopSign { next_config, metadata } = began.into();
        Epoch::new(first_idx, next_config, metadata)
    }
}

/// An [`Identity`] as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredIdentity {
    pid: NodeId,
    configuration_id: u32,
    nodes: Vec<NodeId>,
    quorum: Option<(u64, u64)>,
    cluster_name: Option<String>,
    /// Other servers and their storage ids.
    peers: Vec<(NodeId, u64)>,
}

impl From<Identity> for StoredIdentity {
    fn from(identity: Identity) -> Self {
        // Stored like the configuration of a stop sign.
        let StoredStopSign { configuration_id, nodes, quorum, .. } =
            StopSign::with(identity.configuration, None).into();
        Self {
            pid: identity.pid,
            configuration_id,
            nodes,
            quorum,
            cluster_name: identity.cluster_name,
            peers: identity.peers.into_iter().collect(),
        }
    }
}

impl From<StoredIdentity> for Identity {
    fn from(stored: StoredIdentity) -> Self {
        let StoredIdentity { pid, configuration_id, nodes, quorum, cluster_name, peers } = stored;
        let sign = StoredStopSign { configuration_id, nodes, quorum, metadata: None };
        let mut identity = Identity::new(pid, StopSign::from(sign).next_config, cluster_name);
        identity.peers.extend(peers);
        identity
    }
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
