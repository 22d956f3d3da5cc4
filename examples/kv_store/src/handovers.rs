//! Who waits for the end of a handover.

use crate::{
    protocol::{Answer, Why},
    state::Command,
    waiter::Waiter,
};
use omnipaxos::{errors::Halted, handover::HandoverErr, storage::Storage, util::NodeId, OmniPaxos};

/// In ticks. A server that has to catch up first may need a while; the others go on meanwhile.
const PATIENCE: u64 = 500;

/// Clients that asked this server to hand leadership over.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
    /// For the one under way.
    under_way: Vec<Waiter>,
    /// For those that are over: until it is known who leads.
    over: Vec<Waiter>,
}

impl Handovers {
    /// Begins to hand over, if this server leads, or joins who waits already.
    pub(crate) fn begin<B: Storage<Command>>(
        &mut self,
        replica: &mut OmniPaxos<Command, B>,
        to: NodeId,
        waiter: Waiter,
    ) -> Result<(), Halted> {
        match replica.hand_over(to, PATIENCE) {
            Ok(()) => self.under_way.push(waiter),
            Err(HandoverErr::AlreadyHandingOver(other)) if other == to => {
                self.under_way.push(waiter);
            }
            Err(HandoverErr::ToItself) => waiter.answer(Answer::Leads { pid: to }),
            Err(HandoverErr::NotLeader(leader)) => {
                waiter.answer(Answer::AskAgain(Why::NotLeader { leader }));
            }
            Err(HandoverErr::AlreadyHandingOver(to)) => {
                waiter.answer(Answer::AskAgain(Why::HandingOver { to }));
            }
            Err(why @ HandoverErr::NotAMember(_)) => {
                waiter.answer(Answer::Refused(why.to_string()));
            }
            Err(HandoverErr::Halted(halted)) => return Err(halted),
        }
        Ok(())
    }

    /// The handover is over, with or without success.
    pub(crate) fn end(&mut self) {
        self.over.append(&mut self.under_way);
    }

    /// Answers once a leader is known, and this server in step with it. If it is this server, the
    /// handover was given up.
    pub(crate) fn answer(&mut self, leader: Option<NodeId>) {
        if let Some(pid) = leader {
            for waiter in self.over.drain(..) {
                waiter.answer(Answer::Leads { pid });
            }
        }
    }
}
