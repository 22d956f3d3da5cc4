//! Leadership transfer.

use super::OmniPaxos;
use crate::{
    ids::NodeId,
    leader_transfer::TransferErr,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Transfers leadership to server `to`, for example before maintenance of the leader.
    ///
    /// `Ok` means that the transfer has begun. While it is under way, proposals are handled as
    /// follows:
    /// - Until `to` has caught up, they are appended as usual.
    /// - Then they wait until `to` leads, for the time of a few messages, and are forwarded to it.
    ///   They are as safe as proposals at a follower.
    /// - The transfer causes no refusal while there is room for waiting proposals.
    /// - A stop sign waits, too.
    ///
    /// The transfer is cancelled after `timeout_ticks`, or when this server stops leading. Then the
    /// waiting proposals continue here. If `to` does not answer heartbeats, proposals wait for two
    /// heartbeat rounds at most.
    ///
    /// [`leadership_transfer`](Self::leadership_transfer) returns whether a transfer is under way.
    /// [`get_current_leader`](Self::get_current_leader) returns whether another server leads. A
    /// server with a higher priority does not take leadership back by itself.
    ///
    /// # Errors
    /// [`TransferErr`] contains the reason why the transfer has not begun.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// # #[derive(Clone, Debug, PartialEq, Entry)]
    /// # struct Number(u64);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2], ..Default::default() };
    /// # let mut servers: Vec<OmniPaxos<Number, MemoryStorage<Number>>> = [1, 2]
    /// #     .map(|pid| {
    /// #         let server = ServerConfig { pid, ..Default::default() };
    /// #         cluster.clone().build_for_server(server, MemoryStorage::default())
    /// #     })
    /// #     .into_iter()
    /// #     .collect::<Result<_, _>>()?;
    /// # let run = |servers: &mut Vec<OmniPaxos<Number, _>>, ticks: u32| {
    /// #     for _ in 0..ticks {
    /// #         servers.iter_mut().for_each(OmniPaxos::tick);
    /// #         for at in [0, 1, 0, 1] {
    /// #             for message in servers[at].outgoing_messages() {
    /// #                 servers[1 - at].handle_incoming(message);
    /// #             }
    /// #         }
    /// #     }
    /// # };
    /// # run(&mut servers, 30);
    /// # servers[0].try_become_leader();
    /// # run(&mut servers, 30);
    /// # let leader = &mut servers[0];
    /// leader.transfer_leadership(2, 50)?;
    /// assert_eq!(leader.leadership_transfer(), Some(2));
    /// // Continue with ticks and messages, until:
    /// # run(&mut servers, 10);
    /// # let leader = &servers[0];
    /// assert_eq!((leader.leadership_transfer(), leader.get_current_leader()), (None, Some(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transfer_leadership(
        &mut self,
        to: NodeId,
        timeout_ticks: u64,
    ) -> Result<(), TransferErr> {
        self.wake("transfer_leadership")?;
        let conflict = self.validator.identities().conflict_with(to);
        let begun = self.paxos.transfer_leadership(to, timeout_ticks, conflict);
        if begun.is_ok() {
            self.last_reported.begin_transfer(to);
        }
        self.end();
        begun
    }

    /// Returns the server to which this leader is transferring leadership, if it is.
    pub fn leadership_transfer(&self) -> Option<NodeId> {
        self.paxos.leadership_transfer()
    }
}
