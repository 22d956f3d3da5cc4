//! Faults that hit a server for what it does.

use super::{server::Server, Cluster};
use crate::{
    checker::Violation,
    coverage::Kind,
    plan::{Action, Missed, Notify, Shape, TargetedFault, Whom},
    value::SimEntry,
};
use omnipaxos::status::Role;

impl<T: SimEntry> Cluster<T> {
    /// Hits a server, if there is such a one.
    pub(super) fn inject(
        &mut self,
        whom: Whom,
        fault: TargetedFault,
        ticks: u64,
    ) -> Result<(), Violation> {
        let Some(server) = self.find(whom) else {
            return Ok(());
        };
        self.counts.add(match whom {
            Whom::Leader => Kind::LeaderStruck,
            Whom::Candidate => Kind::CandidateStruck,
        });
        let cut = |shape| Action::Cut { shape, ticks, notify: Notify::Nobody };
        self.act(&match fault {
            TargetedFault::Crash => Action::Crash { server, down: ticks },
            TargetedFault::Freeze => Action::Freeze { server, ticks, missed: Missed::Made },
            TargetedFault::PauseTicks => Action::PauseTicks { server, ticks },
            TargetedFault::Isolate => cut(Shape::Isolated(server)),
            TargetedFault::Deafen => cut(Shape::Deaf(server)),
            TargetedFault::Mute => cut(Shape::Mute(server)),
        })
    }

    fn find(&self, whom: Whom) -> Option<usize> {
        let leads = |at: &usize| self.follows(*at) == Some(self.servers[*at].pid());
        let promise = |at: &usize| self.servers[*at].replica().map(|r| r.get_promise());
        let at = (0..self.size()).filter(leads).max_by_key(promise)?;
        let role = |server: &Server<T>| server.replica().map(|replica| replica.status().role);
        match whom {
            Whom::Leader => Some(at),
            Whom::Candidate => {
                Some(at).filter(|at| role(&self.servers[*at]) == Some(Role::Preparing))
            }
        }
    }
}
