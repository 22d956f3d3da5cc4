//! Transferring leadership.

use super::OmniPaxos;
use crate::{
    ids::NodeId,
    leader_transfer::TransferErr,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Transfers leadership to server `to`, as before the leader is stopped for maintenance.
    ///
    /// `Ok` means that it has begun. Proposals go on until `to` has caught up; then they wait, for
    /// as long as a few messages take, until it leads, and are forwarded to it. Nothing is refused
    /// for it while there is room for proposals to wait, and what is forwarded is as safe as what is
    /// proposed at a follower. A stop sign that finds no proposals waiting does not wait.
    ///
    /// It is given up after `timeout_ticks`, or when this server leads no longer; then proposals
    /// that waited go on here. A server that does not answer heartbeats delays no proposal for
    /// longer than two rounds of them. [`leadership_transfer`](Self::leadership_transfer) tells
    /// whether it is under way; that another leads,
    /// [`get_current_leader`](Self::get_current_leader) tells. A server with a higher priority does
    /// not take leadership back by itself.
    ///
    /// # Errors
    /// [`TransferErr`] says why it has not begun.
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
    /// // Go on with ticks and messages, until:
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

    /// The server that this leader is transferring leadership to, if it is.
    pub fn leadership_transfer(&self) -> Option<NodeId> {
        self.paxos.leadership_transfer()
    }
}
