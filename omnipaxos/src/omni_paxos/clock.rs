//! Time: the next timeout, and many ticks at once.

use super::{expect_storage, OmniPaxos};
use crate::{
    errors::Halted,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns after how many ticks a tick does something; `None` if the replica has halted.
    ///
    /// The number is at least 1. Fewer ticks only count: they make no message due, write nothing
    /// and change no answer of this replica. So a program sleeps until then, unless it has an input
    /// for the replica earlier. Then it calls [`tick_by`](Self::tick_by) with the number of ticks
    /// that have passed.
    ///
    /// Every input can change the number. Ask after the [output](Self::take_outgoing_messages) that
    /// follows an input, and after the first output of a new replica.
    ///
    /// An idle server waits for the end of its heartbeat round. So it wakes once in
    /// [`election_tick_timeout`](crate::ServerConfig::election_tick_timeout) ticks. A call costs
    /// about as much as a tick.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// # use std::{sync::mpsc::{self, RecvTimeoutError}, time::{Duration, Instant}};
    /// # #[derive(Clone, Debug, Entry)]
    /// # struct Number(u64);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Number, MemoryStorage<Number>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # let (stop, inbox) = mpsc::channel();
    /// # std::thread::spawn(move || {
    /// #     std::thread::sleep(Duration::from_millis(30));
    /// #     drop(stop);
    /// # });
    /// let started = Instant::now();
    /// let mut ticks: u64 = 0; // the ticks that the replica has seen, of one millisecond each
    ///
    /// loop {
    ///     for message in replica.outgoing_messages() {
    ///         // Send it.
    /// #       drop(message);
    ///     }
    ///     let Some(timeout) = replica.next_timeout() else { break };
    ///     let wake = started + Duration::from_millis(ticks + timeout);
    ///     match inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
    ///         Ok(message) => replica.handle_incoming(message),
    ///         Err(RecvTimeoutError::Timeout) => {}
    ///         Err(RecvTimeoutError::Disconnected) => break,
    ///     }
    ///     let due = u64::try_from(started.elapsed().as_millis())?;
    ///     ticks += replica.tick_by(due - ticks);
    /// }
    /// # assert!(ticks > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&self) -> Option<u64> {
        match self.input {
            Some(_halted_in) => None,
            None if self.is_tick_due() => Some(1),
            None => Some(self.paxos.next_timeout().min(self.ble.next_timeout())),
        }
    }

    /// Lets up to `ticks` ticks pass, and returns how many passed.
    ///
    /// It stops after the first tick that does something. The effect is that of this number of
    /// calls of [`tick`](Self::tick), at the cost of one. It stops when messages may be due. A
    /// program that is late takes these messages and then calls it again with the remaining ticks.
    /// So the other servers receive messages of every heartbeat round. A program that is late by
    /// more than a heartbeat round should drop the remaining ticks instead, as if its clock had
    /// stood still: rounds that follow each other at once end before the others can answer.
    ///
    /// # Panics
    /// If the storage has failed; see [`try_tick_by`](Self::try_tick_by).
    pub fn tick_by(&mut self, ticks: u64) -> u64 {
        expect_storage(self.try_tick_by(ticks))
    }

    /// Does the same as [`tick_by`](Self::tick_by), without a panic.
    ///
    /// # Errors
    /// The storage has failed.
    pub fn try_tick_by(&mut self, ticks: u64) -> Result<u64, Halted> {
        self.check_halted()?;
        let timeout = self.next_timeout().unwrap_or(1);
        let silent = ticks.min(timeout - 1);
        if silent > 0 {
            self.paxos.pass(silent);
            self.ble.pass(silent);
        }
        if silent == ticks {
            return Ok(ticks);
        }
        self.try_tick()?;
        Ok(silent + 1)
    }

    /// Returns whether the next tick passes a change between the election and Sequence Paxos. Such
    /// a tick does something, even if no timer expires.
    fn is_tick_due(&self) -> bool {
        let promise = self.paxos.log().promise();
        let is_settled = self.ble.is_settled_on(promise) && self.paxos.is_settled_on(promise);
        !is_settled
            && (self.ble.promised() != promise
                || self.paxos.followed_ballot().is_some_and(|ballot| ballot > self.ble.leader())
                || self.paxos.is_news(self.ble.leader()))
    }
}
