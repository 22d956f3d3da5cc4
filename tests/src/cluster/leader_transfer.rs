//! Transferring leadership.

use super::Cluster;
use crate::{
    checker::{violated, Check, Violation},
    coverage::Kind,
    value::SimEntry,
};
use omnipaxos::leader_transfer::TransferErr;

/// The transfers that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfers(Vec<Transfer>);

#[derive(Copy, Clone, Debug)]
struct Transfer {
    at: usize,
    incarnation: u64,
    to: u64,
}

impl<T: SimEntry> Cluster<T> {
    /// Lets the server that takes itself for the leader transfer leadership.
    pub(super) fn transfer_leadership(&mut self, to: usize, ticks: u64) -> Result<(), Violation> {
        let leads = |at: &usize| self.follows(*at) == Some(self.servers[*at].pid());
        let Some(at) = (0..self.servers.len()).find(leads) else {
            return Ok(());
        };
        let pid = self.servers[to].pid();
        let before = self.servers[at].replica().and_then(|replica| replica.leadership_transfer());
        let incarnation = self.servers[at].incarnation;
        match self.input(at, |replica| replica.transfer_leadership(pid, ticks))? {
            Some(Ok(())) if at != to && before.is_none() => {
                self.counts.add(Kind::Transfer);
                self.transfers.0.push(Transfer { at, incarnation, to: pid });
            }
            Some(Err(TransferErr::ToItself)) if at == to => {}
            Some(Err(TransferErr::AlreadyTransferring(pid))) if before == Some(pid) => {}
            Some(Err(TransferErr::NotLeader(_) | TransferErr::Halted(_))) | None => {}
            Some(answer) => {
                let what = format!("server {at} answers {answer:?} to a transfer to {to}");
                return violated(Check::Transfer, what);
            }
        }
        Ok(())
    }

    /// Counts the transfers of a server that are over.
    pub(super) fn watch_transfer(&mut self, at: usize) {
        let servers = &self.servers;
        let counts = &mut self.counts;
        self.transfers.0.retain(|transfer| {
            if transfer.at != at {
                return true;
            }
            let replica =
                servers[at].replica().filter(|_| servers[at].incarnation == transfer.incarnation);
            if replica.is_some_and(|replica| replica.leadership_transfer().is_some()) {
                return true;
            }
            let leader = replica.and_then(|replica| replica.get_current_leader());
            counts.add(match leader == Some(transfer.to) {
                true => Kind::Transferred,
                false => Kind::TransferAbandoned,
            });
            false
        });
    }
}
