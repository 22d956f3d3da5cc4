//! Events for the application.

use super::OmniPaxos;
use crate::{
    observe::events::{Event, Observed},
    sequence_paxos::Readiness,
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns the events since the last call: another leader, decided entries, lost peers.
    ///
    /// Call it at any time, for example after each output. The first call compares with an empty
    /// server that knows no other server. If a value has changed several times, only the last value
    /// is reported; indices only grow. A program need not call it: a replica keeps only the latest
    /// outcomes of proposals for it. A call without events allocates nothing. The events may be
    /// ahead of the storage, as the results of all getters may be.
    ///
    /// # Example
    /// ```
    /// # use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
    /// # use omnipaxos_storage::memory_storage::MemoryStorage;
    /// use omnipaxos::events::Event;
    ///
    /// # #[derive(Clone, Debug, Entry)]
    /// # struct Word(&'static str);
    /// # let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    /// # let config = ServerConfig { pid: 1, ..Default::default() };
    /// # let mut replica: OmniPaxos<Word, MemoryStorage<Word>> =
    /// #     cluster.build_for_server(config, MemoryStorage::default())?;
    /// # (0..30).for_each(|_| replica.tick());
    /// # replica.append(Word("hello"))?;
    /// # replica.outgoing_messages();
    /// # let mut seen = Vec::new();
    /// for event in replica.take_events() {
    /// #   seen.push(event.clone());
    ///     match event {
    ///         Event::LeaderChanged { leader: Some(ballot), is_ready: true } => {
    ///             println!("server {} leads, and accepts proposals", ballot.pid);
    ///         }
    ///         Event::Decided { idx } => println!("apply the entries before index {idx}"),
    ///         Event::Reconfigured(stopsign) => println!("start {:?}", stopsign.next_config),
    ///         other => println!("{other:?}"), // there may be more kinds in later versions
    ///     }
    /// }
    /// assert!(replica.take_events().is_empty(), "nothing has happened since");
    /// # assert!(seen.contains(&Event::Decided { idx: 1 }), "{seen:?}");
    /// # assert_eq!(seen.len(), 2, "{seen:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_events(&mut self) -> Vec<Event> {
        let log = self.paxos.log();
        let leader = self.paxos.leader_ballot();
        let decided_idx = self.get_decided_idx();
        let halted = self.halted().cloned();
        let observed = Observed {
            leader,
            is_ready: self.input.is_none() && self.paxos.readiness(leader) == Readiness::Ready,
            compacted_idx: log.compacted_idx().min(decided_idx),
            decided_idx,
            ready_read: self.paxos.ready_read(),
            transfer: self.paxos.leadership_transfer(),
            stopsign: log.stopsign_before(decided_idx).filter(|_| !log.continues()),
            epoch: log.present_epoch(),
            may_stop: self.may_stop(),
            higher: self.higher_configuration(),
            conflicts: self.validator.identities().conflicts(),
            lost: self.paxos.loss(),
            trimmed_at_source: self.paxos.trimmed_at_source(),
            observers: self.paxos.observer_pids().collect(),
            halted: halted.as_ref(),
        };
        let (peers, ble) = (self.paxos.peers(), &self.ble);
        let mut events = self.last_reported.new_events(&observed, peers, |pid| ble.answered(pid));
        let ended = std::iter::from_fn(|| self.paxos.take_outcome());
        events.extend(ended.map(|(id, outcome)| Event::ProposalEnded { id, outcome }));
        events
    }
}
