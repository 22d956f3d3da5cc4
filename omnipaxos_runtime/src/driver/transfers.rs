//! Leadership transfers that wait for their end.

use crate::{errors::TransferError, reply::Reply};
use omnipaxos::{
    events::Event,
    leader_transfer::TransferErr,
    storage::{Entry, Storage},
    util::NodeId,
    OmniPaxos,
};

/// Ticks after which a transfer is cancelled.
const TIMEOUT_TICKS: u64 = 500;

/// Number of waiting transfers from which those without a caller are searched.
const MANY: usize = 64;

/// A transfer that waits.
#[derive(Debug)]
struct Transfer {
    to: NodeId,
    /// Once the transfer has ended: the ticks for which it waits to learn which server leads.
    ticks: u64,
    reply: Reply<Result<(), TransferError>>,
}

/// The transfers from this server.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    under_way: Vec<Transfer>,
    /// Those that have ended, until this server knows which server leads.
    ended: Vec<Transfer>,
    /// The leader, while this server is ready for proposals.
    leader: Option<NodeId>,
}

impl Transfers {
    /// Begins a transfer, or waits for the same one if it is under way.
    pub(super) fn begin<T: Entry, B: Storage<T>>(
        &mut self,
        replica: &mut OmniPaxos<T, B>,
        to: NodeId,
        reply: Reply<Result<(), TransferError>>,
    ) {
        if self.under_way.len() + self.ended.len() >= MANY {
            self.under_way.retain(|transfer| !transfer.reply.is_closed());
            self.ended.retain(|transfer| !transfer.reply.is_closed());
        }
        match replica.transfer_leadership(to, TIMEOUT_TICKS) {
            Ok(()) => self.under_way.push(Transfer { to, ticks: TIMEOUT_TICKS, reply }),
            Err(TransferErr::AlreadyTransferring(other)) if other == to => {
                self.under_way.push(Transfer { to, ticks: TIMEOUT_TICKS, reply });
            }
            Err(refused) => end(reply, Err(refused.into())),
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::LeaderChanged { leader, is_ready } => {
                self.leader = leader.map(|ballot| ballot.pid).filter(|_| *is_ready);
            }
            Event::LeadershipTransferEnded { .. } => self.ended.append(&mut self.under_way),
            _of_no_concern => {}
        }
    }

    /// Counts ticks that have passed, and ends the transfers for which no leader became known in time.
    pub(super) fn pass(&mut self, ticks: u64) {
        let is_late = |transfer: &mut Transfer| {
            transfer.ticks = transfer.ticks.saturating_sub(ticks);
            transfer.ticks == 0
        };
        for Transfer { reply, .. } in self.ended.extract_if(.., is_late) {
            end(reply, Err(TransferError::Unknown));
        }
    }

    /// Answers the transfers that have ended, once a leader is known.
    pub(super) fn answer(&mut self) {
        let Some(leader) = self.leader else {
            return;
        };
        for Transfer { to, reply, .. } in self.ended.drain(..) {
            match leader == to {
                true => end(reply, Ok(())),
                false => end(reply, Err(TransferError::Cancelled(leader))),
            }
        }
    }
}

fn end(reply: Reply<Result<(), TransferError>>, result: Result<(), TransferError>) {
    // The caller may have dropped its future.
    let _ = reply.send(result);
}

#[cfg(test)]
mod tests {
    use super::{Event, Transfer, TransferError, Transfers, TIMEOUT_TICKS};
    use tokio::sync::oneshot::{self, error::TryRecvError};

    #[test]
    fn a_transfer_ends_if_no_leader_becomes_known() {
        let (reply, mut ended) = oneshot::channel();
        let mut transfers = Transfers::default();
        transfers.under_way.push(Transfer { to: 2, ticks: TIMEOUT_TICKS, reply });
        transfers.note(&Event::LeaderChanged { leader: None, is_ready: false });
        // Before its end the replica counts.
        transfers.pass(TIMEOUT_TICKS);
        transfers.ended.append(&mut transfers.under_way);
        transfers.pass(TIMEOUT_TICKS - 1);
        transfers.answer();
        assert_eq!(ended.try_recv(), Err(TryRecvError::Empty));
        transfers.pass(1);
        assert_eq!(ended.try_recv(), Ok(Err(TransferError::Unknown)));
    }
}
