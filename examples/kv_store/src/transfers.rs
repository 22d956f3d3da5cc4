//! Who waits for the end of a transfer.

use crate::{
    protocol::{Answer, Why},
    state::Command,
    waiter::Waiter,
};
use omnipaxos::{
    errors::Halted, leader_transfer::TransferErr, storage::Storage, util::NodeId, OmniPaxos,
};

/// In ticks. A server that has to catch up first may need a while; the others go on meanwhile.
const TIMEOUT: u64 = 500;

/// Clients that asked this server to transfer leadership.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    /// For the one under way.
    under_way: Vec<Waiter>,
    /// For those that are over: until it is known who leads.
    over: Vec<Waiter>,
}

impl Transfers {
    /// Begins to transfer leadership, if this server leads, or joins who waits already.
    pub(crate) fn begin<B: Storage<Command>>(
        &mut self,
        replica: &mut OmniPaxos<Command, B>,
        to: NodeId,
        waiter: Waiter,
    ) -> Result<(), Halted> {
        match replica.transfer_leadership(to, TIMEOUT) {
            Ok(()) => self.under_way.push(waiter),
            Err(TransferErr::AlreadyTransferring(other)) if other == to => {
                self.under_way.push(waiter);
            }
            Err(TransferErr::ToItself) => waiter.answer(Answer::Leads { pid: to }),
            Err(TransferErr::NotLeader(leader)) => {
                waiter.answer(Answer::AskAgain(Why::NotLeader { leader }));
            }
            Err(TransferErr::AlreadyTransferring(to)) => {
                waiter.answer(Answer::AskAgain(Why::HandingOver { to }));
            }
            Err(TransferErr::Halted(halted)) => return Err(halted),
            Err(why) => waiter.answer(Answer::Refused(why.to_string())),
        }
        Ok(())
    }

    /// The transfer is over, with or without success.
    pub(crate) fn end(&mut self) {
        self.over.append(&mut self.under_way);
    }

    /// Answers once a leader is known, and this server in step with it. If it is this server, the
    /// transfer was given up.
    pub(crate) fn answer(&mut self, leader: Option<NodeId>) {
        if let Some(pid) = leader {
            for waiter in self.over.drain(..) {
                waiter.answer(Answer::Leads { pid });
            }
        }
    }
}
