//! The entries and snapshots of the log of a state machine.

use super::{command_id::CommandId, machine::StateMachine, sessions::Sessions};
use omnipaxos::storage::{Entry, Snapshot};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An entry of the log: a command, and the client and number that name it.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = ""))]
pub struct IdentifiedCommand<M: StateMachine> {
    pub(super) id: CommandId,
    pub(super) command: M::Command,
}

impl<M: StateMachine> IdentifiedCommand<M> {
    /// Returns the name of the command.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Returns the command.
    pub fn command(&self) -> &M::Command {
        &self.command
    }

    /// Returns the size hint of the entry of a command.
    pub(super) fn bytes_of(command: &M::Command) -> usize {
        size_of::<CommandId>().saturating_add(M::command_bytes(command))
    }
}

impl<M: StateMachine> Clone for IdentifiedCommand<M> {
    fn clone(&self) -> Self {
        Self { id: self.id, command: self.command.clone() }
    }
}

impl<M: StateMachine> fmt::Debug for IdentifiedCommand<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentifiedCommand")
            .field("id", &self.id)
            .field("command", &self.command)
            .finish()
    }
}

impl<M: StateMachine> Entry for IdentifiedCommand<M> {
    type Snapshot = MachineSnapshot<M>;
    omnipaxos::without_unicache!();

    fn size_hint(&self) -> usize {
        Self::bytes_of(&self.command)
    }
}

/// A snapshot of a state machine, and of the outputs that are kept for repeated commands.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = ""))]
pub struct MachineSnapshot<M: StateMachine> {
    pub(super) state: M::Snapshot,
    pub(super) sessions: Sessions<M::Output>,
}

impl<M: StateMachine> MachineSnapshot<M> {
    /// Returns the state.
    pub fn state(&self) -> &M::Snapshot {
        &self.state
    }
}

impl<M: StateMachine> Clone for MachineSnapshot<M> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), sessions: self.sessions.clone() }
    }
}

impl<M: StateMachine> fmt::Debug for MachineSnapshot<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineSnapshot").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Only the state machine makes a snapshot, since the effect of a command depends on those before.
impl<M: StateMachine> Snapshot<IdentifiedCommand<M>> for MachineSnapshot<M> {
    fn create(_: &[IdentifiedCommand<M>]) -> Self {
        unreachable!("can_create() is false")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create() is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}
