//! Handing leadership over.

use super::Cluster;
use crate::{
    checker::{violated, Check, Violation},
    faults::Kind,
    value::SimEntry,
};
use omnipaxos::handover::HandoverErr;

/// The handovers that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Handovers(Vec<Handover>);

#[derive(Copy, Clone, Debug)]
struct Handover {
    at: usize,
    life: u64,
    to: u64,
}

impl<T: SimEntry> Cluster<T> {
    /// Lets whoever takes itself for the leader hand over.
    pub(super) fn hand_over(&mut self, to: usize, ticks: u64) -> Result<(), Violation> {
        let leads = |at: &usize| self.follows(*at) == Some(self.servers[*at].pid());
        let Some(at) = (0..self.servers.len()).find(leads) else {
            return Ok(());
        };
        let pid = self.servers[to].pid();
        let before = self.servers[at].replica().and_then(|replica| replica.handover());
        let life = self.servers[at].life;
        match self.input(at, |replica| replica.hand_over(pid, ticks))? {
            Some(Ok(())) if at != to && before.is_none() => {
                self.counts.add(Kind::Handover);
                self.handovers.0.push(Handover { at, life, to: pid });
            }
            Some(Err(HandoverErr::ToItself)) if at == to => {}
            Some(Err(HandoverErr::AlreadyHandingOver(pid))) if before == Some(pid) => {}
            Some(Err(HandoverErr::NotLeader(_) | HandoverErr::Halted(_))) | None => {}
            Some(answer) => {
                let what = format!("server {at} answers {answer:?} to a handover to {to}");
                return violated(Check::Handover, what);
            }
        }
        Ok(())
    }

    /// Counts the handovers of a server that are over.
    pub(super) fn watch_handover(&mut self, at: usize) {
        let servers = &self.servers;
        let counts = &mut self.counts;
        self.handovers.0.retain(|handover| {
            if handover.at != at {
                return true;
            }
            let replica = servers[at].replica().filter(|_| servers[at].life == handover.life);
            if replica.is_some_and(|replica| replica.handover().is_some()) {
                return true;
            }
            let leader = replica.and_then(|replica| replica.get_current_leader());
            counts.add(match leader == Some(handover.to) {
                true => Kind::HandedOver,
                false => Kind::HandoverGivenUp,
            });
            false
        });
    }
}
