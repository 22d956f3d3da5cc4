//! Linearizable reads.

use super::OmniPaxos;
use crate::{
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Requests a linearizable read, at any server of the cluster, without an entry in the log.
    ///
    /// The read sees all entries that were decided anywhere before the request, if it is served as
    /// [`read_state`](Self::read_state) describes. That holds also if this server lags, was cut
    /// off, or is a leader that was replaced and does not know it.
    ///
    /// For a read, a write quorum confirms that the leader still leads. All reads requested at a
    /// server between two outputs share one request, and all that wait at the leader share one
    /// round of messages. In a cluster of three that is four small messages at the leader and two
    /// at a follower, for one read or a thousand. Lost messages are sent again with the heartbeats.
    /// A read takes constant memory, and leaks nothing if the program never asks for its state.
    ///
    /// If the leader cannot confirm that it leads, a read waits until it can, or until another
    /// server leads. So limit the time that the program waits. A waiting read is refused at the end of a
    /// heartbeat round if no leader is known, or if the leader was out of reach for four rounds.
    ///
    /// # Errors
    /// [`ReadRefused`] contains the reason. It is always safe to request the read again.
    ///
    /// # Example
    /// ```
    /// use omnipaxos::{macros::Entry, reads::ReadState, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    ///
    /// #[derive(Clone, Debug, Entry)]
    /// struct Add(u64);
    ///
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let server = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut server: OmniPaxos<Add, MemoryStorage<Add>> =
    /// #     cluster.build_for_server(server, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| server.tick());
    /// # server.append(Add(3)).unwrap();
    /// # server.outgoing_messages();
    /// let (mut sum, mut applied_idx) = (0, 0);
    /// let read = server.request_read()?;
    /// // Send the messages of `take_outgoing_messages`, handle incoming ones, and then, repeatedly:
    /// # server.outgoing_messages();
    /// match server.read_state(read) {
    ///     ReadState::Ready(idx) => {
    ///         if let Some(idx) = server.for_each_decided(applied_idx, |Add(n)| sum += n) {
    ///             applied_idx = idx;
    ///         }
    ///         assert!(applied_idx >= idx);
    ///         // Answer the client from `sum`.
    ///     }
    ///     ReadState::Refused(reason) => { /* request it again, or report it to the client */ }
    ///     _ => { /* it waits: ask again later */ }
    /// }
    /// assert_eq!((sum, server.read_state(read)), (3, ReadState::Ready(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request_read(&mut self) -> Result<ReadId, ReadRefused> {
        self.wake("request_read")?;
        let requested = self.paxos.request_read();
        self.end();
        requested
    }

    /// Returns the state of a read.
    ///
    /// Once it is ready it stays ready. A refused one may still become ready. A read is ready only
    /// at an index before a stop sign. The index may grow between two calls. The application may
    /// also read its state at any later index.
    pub fn read_state(&self, read: ReadId) -> ReadState {
        match self.halted() {
            None => self.paxos.read_state(read),
            Some(halted) => ReadState::Refused(ReadRefused::Halted(halted.clone())),
        }
    }
}
