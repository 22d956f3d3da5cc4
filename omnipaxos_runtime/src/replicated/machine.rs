//! The state machine, which a program implements.

use bincode::enc::write::SizeWriter;
use omnipaxos::storage::StopSign;
use serde::{de::DeserializeOwned, Serialize};
use std::fmt::Debug;

/// A state that all servers change by the same commands in the same order.
///
/// `apply` must be deterministic: its effect and its output depend on the state and the command
/// only. It must not use the clock, random numbers, or the order of a hash map.
///
/// If a method panics, the node ends with [`NodeError::Panicked`](crate::errors::NodeError::Panicked)
/// and the state is dropped. A command that panics at every server ends all nodes: return an error
/// as the output instead.
///
/// ```
/// use omnipaxos_runtime::StateMachine;
///
/// #[derive(Default)]
/// struct Counter(i64);
///
/// impl StateMachine for Counter {
///     type Command = i64;
///     type Output = i64;
///     type Snapshot = i64;
///
///     fn apply(&mut self, _idx: u64, command: &i64) -> i64 {
///         self.0 += command;
///         self.0
///     }
///     fn snapshot(&self) -> i64 {
///         self.0
///     }
///     fn restore(&mut self, snapshot: i64) {
///         self.0 = snapshot;
///     }
/// }
/// ```
///
/// # Encoding
/// [`TcpTransport`](crate::tcp::TcpTransport) and the persistent storage encode these types with
/// bincode 2, whose format is not self-describing. It cannot decode types with serde's `tag`,
/// `untagged`, `flatten` or `skip_serializing_if`. Both refuse a command that they cannot read back,
/// and return the reason. They do not refuse an output of such a type. Then servers cannot learn
/// from snapshots.
pub trait StateMachine: Send + 'static {
    /// A change of the state.
    type Command: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// What a command returns to its caller. Servers keep the latest outputs of each client in
    /// memory and in snapshots: see [`Replicated`](crate::Replicated).
    type Output: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// The whole state, which replaces the commands before it in the log.
    type Snapshot: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// Applies a command, which has index `idx` in the log. The indices grow, with gaps: the node
    /// does not pass repeated commands and stop signs to this method.
    fn apply(&mut self, idx: u64, command: &Self::Command) -> Self::Output;

    /// Applies the stop sign at index `idx`, after which the members change.
    ///
    /// Every server calls it once for each stop sign, in the order of the log, as it calls
    /// [`apply`](Self::apply) for commands. Update the state here if it contains the members, or what
    /// [`MemberChange::metadata`](omnipaxos::members::MemberChange) contains, for example the addresses of
    /// servers. The state must contain them if servers need them later: a server that gets a snapshot does
    /// not see the stop signs before it. The provided body does nothing.
    fn apply_stop_sign(&mut self, idx: u64, stop_sign: &StopSign) {
        let _ = (idx, stop_sign);
    }

    /// Returns the present state. No command is applied meanwhile, so it should be fast.
    fn snapshot(&self) -> Self::Snapshot;

    /// Replaces the state by a snapshot.
    fn restore(&mut self, snapshot: Self::Snapshot);

    /// Returns about how many bytes a command takes: see
    /// [`Entry::size_hint`](omnipaxos::storage::Entry::size_hint). The limits of the replica count
    /// these bytes.
    ///
    /// The provided body returns the size of the type and that of the encoded command, which it
    /// counts with serde. A body of your own may be faster. It must count the memory that a command
    /// owns: [`TcpTransport`](crate::tcp::TcpTransport) refuses a command that takes far more bytes encoded.
    fn command_bytes(command: &Self::Command) -> usize {
        let mut encoded = SizeWriter::default();
        let config = bincode::config::standard();
        // What cannot be encoded counts as far as it was.
        let _ = bincode::serde::encode_into_writer(command, &mut encoded, config);
        size_of_val(command).saturating_add(encoded.bytes_written)
    }
}
