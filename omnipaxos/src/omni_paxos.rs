//! The replica.

use crate::{
    ballot::Ballot,
    config::{ClusterConfig, ConfigError, OmniPaxosConfig},
    errors::{CompactionErr, Halted, ProposeErr, TryCompactionErr, TryProposeErr},
    ids::NodeId,
    log_entry::LogEntry,
    messages::Message,
    storage::{Entry, StopSign, Storage},
    ui::OmniPaxosStates,
};
use std::{marker::PhantomData, ops::RangeBounds};

/// A replica (skeleton: signatures only).
#[derive(Clone, Debug)]
#[allow(missing_docs, unused, clippy::todo)]
pub struct OmniPaxos<T: Entry, B: Storage<T>> {
    storage: B,
    _t: PhantomData<T>,
}

#[allow(missing_docs, unused, clippy::todo)]
impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    pub(crate) fn build(config: OmniPaxosConfig, storage: B) -> Result<Self, ConfigError> {
        Ok(Self { storage, _t: PhantomData })
    }
    pub fn append(&mut self, entry: T) -> Result<(), ProposeErr<T>> { todo!() }
    pub fn try_append(&mut self, entry: T) -> Result<(), TryProposeErr<T>> { todo!() }
    pub fn reconfigure(&mut self, c: ClusterConfig, metadata: Option<Vec<u8>>) -> Result<(), ProposeErr<T>> { todo!() }
    pub fn try_reconfigure(&mut self, c: ClusterConfig, metadata: Option<Vec<u8>>) -> Result<(), TryProposeErr<T>> { todo!() }
    pub fn handle_incoming(&mut self, message: Message<T>) { todo!() }
    pub fn try_handle_incoming(&mut self, message: Message<T>) -> Result<(), Halted> { todo!() }
    pub fn tick(&mut self) { todo!() }
    pub fn try_tick(&mut self) -> Result<(), Halted> { todo!() }
    pub fn reconnected(&mut self, pid: NodeId) { todo!() }
    pub fn outgoing_messages(&mut self) -> Vec<Message<T>> { todo!() }
    pub fn take_outgoing_messages(&mut self, buffer: &mut Vec<Message<T>>) { todo!() }
    pub fn try_take_outgoing_messages(&mut self, buffer: &mut Vec<Message<T>>) -> Result<(), Halted> { todo!() }
    pub fn flush(&mut self) -> Result<(), Halted> { todo!() }
    pub fn halted(&self) -> Option<&Halted> { todo!() }
    pub fn read(&self, idx: u64) -> Option<LogEntry<T>> { todo!() }
    pub fn try_read(&self, idx: u64) -> Result<Option<LogEntry<T>>, Halted> { todo!() }
    pub fn read_entries(&self, range: impl RangeBounds<u64>) -> Option<Vec<LogEntry<T>>> { todo!() }
    pub fn try_read_entries(&self, range: impl RangeBounds<u64>) -> Result<Option<Vec<LogEntry<T>>>, Halted> { todo!() }
    pub fn read_decided_suffix(&self, from: u64) -> Option<Vec<LogEntry<T>>> { todo!() }
    pub fn try_read_decided_suffix(&self, from: u64) -> Result<Option<Vec<LogEntry<T>>>, Halted> { todo!() }
    pub fn trim(&mut self, idx: Option<u64>) -> Result<(), CompactionErr> { todo!() }
    pub fn try_trim(&mut self, idx: Option<u64>) -> Result<(), TryCompactionErr> { todo!() }
    pub fn snapshot(&mut self, idx: Option<u64>, local_only: bool) -> Result<(), CompactionErr> { todo!() }
    pub fn try_snapshot(&mut self, idx: Option<u64>, local_only: bool) -> Result<(), TryCompactionErr> { todo!() }
    pub fn get_decided_idx(&self) -> u64 { todo!() }
    pub fn get_compacted_idx(&self) -> u64 { todo!() }
    pub fn get_accepted_idx(&self) -> u64 { todo!() }
    pub fn get_pid(&self) -> NodeId { todo!() }
    pub fn get_current_leader(&self) -> Option<NodeId> { todo!() }
    pub fn get_promise(&self) -> Ballot { todo!() }
    pub fn is_reconfigured(&self) -> Option<StopSign> { todo!() }
    pub fn set_priority(&mut self, priority: u32) { todo!() }
    pub fn try_become_leader(&mut self) { todo!() }
    pub fn get_ui_states(&self) -> OmniPaxosStates { todo!() }
}
