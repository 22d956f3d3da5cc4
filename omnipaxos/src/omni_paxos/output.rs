//! What a replica writes and sends.

use super::{expect_storage, OmniPaxos};
use crate::{
    errors::Halted,
    messages::Message,
    observe::status::WriteUrgency,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns the messages to send to the other servers.
    ///
    /// # Panics
    /// If the storage fails; see
    /// [`try_take_outgoing_messages`](Self::try_take_outgoing_messages).
    pub fn outgoing_messages(&mut self) -> Vec<Message<T>> {
        let mut messages = Vec::new();
        self.take_outgoing_messages(&mut messages);
        messages
    }

    /// Appends the messages to send to the other servers to `buffer`, which can be reused.
    ///
    /// All are for members of the configuration, with two exceptions:
    /// - notices for removed servers, if
    ///   [`ServerConfig::tells_removed_servers`](crate::ServerConfig::tells_removed_servers) is set;
    /// - answers to observers, if
    ///   [`ServerConfig::max_observers`](crate::ServerConfig::max_observers) is above 0.
    ///
    /// Drop a message to a server that your transport does not know.
    ///
    /// # Panics
    /// If the storage fails; see
    /// [`try_take_outgoing_messages`](Self::try_take_outgoing_messages).
    pub fn take_outgoing_messages(&mut self, buffer: &mut Vec<Message<T>>) {
        expect_storage(self.try_take_outgoing_messages(buffer));
    }

    /// Does the same as [`take_outgoing_messages`](Self::take_outgoing_messages), without a panic.
    ///
    /// # Errors
    /// The storage has failed. Messages that are in `buffer` already claim only stored entries.
    pub fn try_take_outgoing_messages(
        &mut self,
        buffer: &mut Vec<Message<T>>,
    ) -> Result<(), Halted> {
        if self.is_idle {
            return self.check_halted();
        }
        self.begin("take_outgoing_messages")?;
        match self.paxos.is_storing_snapshot() {
            true => self.output_while_storing(buffer),
            false => self.output(buffer),
        }
    }

    /// Returns the messages of one output, after the writes that they need.
    #[inline]
    fn output(&mut self, buffer: &mut Vec<Message<T>>) -> Result<(), Halted> {
        let mut first = buffer.len();
        if !self.ble.is_happy() {
            self.repeat_with_request();
        }
        let mut result = self.store_peer_identities().and_then(|()| self.output_of_paxos(buffer));
        if result.is_ok() && self.paxos.is_epoch_due() {
            result = self.begin_due_epochs(buffer, &mut first);
        }
        if result.is_err() {
            self.stamp(buffer, first);
            return self.end_or_halt(result);
        }
        self.ble.build_messages(|message| buffer.push(Message::BLE(message)));
        if self.validator.others().is_notice_due() {
            self.notify_lower_configurations(buffer);
        }
        self.stamp(buffer, first);
        // Changes that an output decides are written by the next output.
        self.is_idle = self.paxos.log().is_flushed();
        self.end();
        Ok(())
    }

    /// Repeats what leaves with the heartbeat request of a round, if another request leaves in it.
    #[cold]
    fn repeat_with_request(&mut self) {
        if self.ble.repeats_request() {
            self.paxos.repeat_with_request();
        }
    }

    /// Appends the messages to `buffer` that may leave before the next write, and writes nothing.
    ///
    /// Send them before [`take_outgoing_messages`](Self::take_outgoing_messages), which then writes the
    /// changes and returns the other messages. So the disks of the followers write at the same time as
    /// that of the leader, not after it:
    ///
    /// - A leader sends the entries that it is about to write: an AcceptDecide does not claim that its
    ///   sender has stored them. They are decided as soon as a write quorum has stored them, with or
    ///   without the leader.
    /// - Every server sends the proposals that it forwards, and the messages of reads.
    ///
    /// Messages which claim that something is stored here are never among them: Promise, Accepted,
    /// Prepare, heartbeats.
    ///
    /// Without this call, `take_outgoing_messages` returns all messages. If nothing is to be written,
    /// this call returns none.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{messages::Message, storage::Storage, util::LogEntry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// # #[derive(Clone, Debug, PartialEq, omnipaxos::macros::Entry)]
    /// # struct Set(u64);
    /// fn drain<S: Storage<Set>>(server: &mut OmniPaxos<Set, S>, send: &mut impl FnMut(Vec<Message<Set>>)) {
    ///     let mut messages = Vec::new();
    ///     server.take_early_messages(&mut messages);
    ///     send(std::mem::take(&mut messages)); // The followers begin to write.
    ///     server.take_outgoing_messages(&mut messages); // This server writes, too.
    ///     send(messages);
    /// }
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2], ..Default::default() };
    /// # let mut servers: Vec<_> = [1, 2]
    /// #     .map(|pid| {
    /// #         let server = ServerConfig { pid, ..Default::default() };
    /// #         cluster.clone().build_for_server(server, MemoryStorage::default()).unwrap()
    /// #     })
    /// #     .into();
    /// # servers[0].append(Set(1)).unwrap();
    /// # for _ in 0..40 {
    /// #     let mut sent = Vec::new();
    /// #     for server in &mut servers {
    /// #         server.tick();
    /// #         drain(server, &mut |messages| sent.extend(messages));
    /// #     }
    /// #     for message in sent {
    /// #         servers[message.get_receiver() as usize - 1].handle_incoming(message);
    /// #     }
    /// # }
    /// # assert_eq!(servers[1].read_decided_suffix(0), Some(vec![LogEntry::Decided(Set(1))]));
    /// ```
    ///
    /// # Panics
    /// If the storage fails; see [`try_take_early_messages`](Self::try_take_early_messages).
    pub fn take_early_messages(&mut self, buffer: &mut Vec<Message<T>>) {
        expect_storage(self.try_take_early_messages(buffer));
    }

    /// Does the same as [`take_early_messages`](Self::take_early_messages), without a panic.
    ///
    /// # Errors
    /// The storage has failed.
    pub fn try_take_early_messages(&mut self, buffer: &mut Vec<Message<T>>) -> Result<(), Halted> {
        if self.is_idle || self.validator.identities().is_unstored() {
            return self.check_halted();
        }
        self.begin("take_early_messages")?;
        let first = buffer.len();
        let result = self.paxos.early_output(buffer);
        self.stamp(buffer, first);
        self.end_or_halt(result)
    }

    /// Returns whether an operation waits for the next write. Call it after the [early
    /// messages](Self::take_early_messages) have left.
    ///
    /// A leader in a steady cluster need not write each time: its followers store the entries, and
    /// decide them without it. If it waits before it calls
    /// [`take_outgoing_messages`](Self::take_outgoing_messages), it handles inputs meanwhile, and
    /// writes more entries at once. A crash loses the entries that it has not written. A write
    /// quorum of the others has stored those that are decided.
    ///
    /// Unless the result is [`Now`](WriteUrgency::Now), the program may handle inputs before it
    /// calls `take_outgoing_messages`. It makes that call at the next tick at the latest, and
    /// earlier if entries stay undecided: a follower may have failed.
    #[must_use]
    pub fn write_urgency(&self) -> WriteUrgency {
        match self.input {
            None if !self.is_idle
                && self.ble.is_silent()
                && !self.validator.identities().is_unstored()
                && !self.validator.others().is_notice_due() =>
            {
                self.paxos.write_urgency()
            }
            _halted_or_due => WriteUrgency::Now,
        }
    }

    /// Passes on to the storage what has arrived of a snapshot, before the output.
    #[cold]
    fn output_while_storing(&mut self, buffer: &mut Vec<Message<T>>) -> Result<(), Halted> {
        if let Err(halted) = self.paxos.store_snapshot().and_then(|()| self.sync_election()) {
            return self.end_or_halt(Err(halted));
        }
        self.output(buffer)?;
        self.is_idle &= !self.paxos.is_storing_snapshot();
        Ok(())
    }

    pub(super) fn output_of_paxos(&mut self, buffer: &mut Vec<Message<T>>) -> Result<(), Halted> {
        match self.paxos.is_silent() {
            true => Ok(()),
            false => self.paxos.output(buffer),
        }
    }

    /// Writes all changes to the storage, without taking messages.
    ///
    /// # Errors
    /// The storage has failed.
    pub fn flush(&mut self) -> Result<(), Halted> {
        self.wake("flush")?;
        self.paxos.schedule_decided_idx();
        let flushed = self.store_peer_identities().and_then(|()| self.paxos.flush_and_decide());
        self.end_or_halt(flushed)
    }
}
