//! The status of Sequence Paxos.

use super::{
    progress::{Progress, Stage},
    state::State,
    SequencePaxos,
};
use crate::{
    amount::Amount,
    ballot::Ballot,
    ids::NodeId,
    observe::status::{self, CatchUpStatus, FollowerStatus, Load, Role},
    storage::{Entry, Storage},
};

/// Whether proposals make progress between a server and its leader.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// One of the two is not in the accept phase of that ballot, as far as this server knows.
    #[default]
    Waits,
    Ready,
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Returns the other servers, in order.
    pub(crate) fn peers(&self) -> &[NodeId] {
        self.members.peers()
    }

    pub(crate) fn role(&self) -> Role {
        match &self.state {
            State::Recovering if self.is_observer() => Role::Observing,
            State::Recovering => Role::Recovering,
            State::Promised { .. } => Role::Promised,
            State::Following(_) => Role::Following,
            State::Preparing(_) => Role::Preparing,
            State::Leading(_) => Role::Leading,
        }
    }

    /// Returns whether this server is in the accept phase of `leader`.
    pub(crate) fn readiness(&self, leader: Option<Ballot>) -> Readiness {
        match &self.state {
            State::Recovering if self.is_observer() => match self.way_for_proposals() {
                Some(_) => Readiness::Ready,
                None => Readiness::Waits,
            },
            State::Following(_) | State::Leading(_) if leader == Some(self.log.promise()) => {
                Readiness::Ready
            }
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_)
            | State::Leading(_) => Readiness::Waits,
        }
    }

    /// Returns the progress of a follower, if this server leads.
    pub(crate) fn follower(&self, pid: NodeId) -> Option<FollowerStatus> {
        let followers = match &self.state {
            State::Preparing(preparing) => &preparing.followers,
            State::Leading(leading) => &leading.followers,
            State::Recovering | State::Promised { .. } | State::Following(_) => return None,
        };
        followers.get(pid).map(|progress| described(progress, self.log.len()))
    }

    /// Returns the amount of proposals that wait here.
    pub(crate) fn waiting(&self) -> Load {
        load(self.proposals.waiting())
    }

    /// Returns the amount of proposals that are pending.
    pub(crate) fn pending(&self) -> Load {
        load(self.proposals.pending())
    }

    /// Returns what this server holds to catch up, or for servers that catch up.
    pub(crate) fn catch_up_status(&self) -> CatchUpStatus {
        CatchUpStatus {
            early: load(self.ranges.kept()),
            partial_snapshot_bytes: self.partial_snapshot.kept(),
            encoded_snapshot_bytes: self.encoded_snapshots.kept(),
        }
    }

    /// Returns the limits of this server.
    pub(crate) fn limits(&self) -> status::Limits {
        status::Limits {
            message: load(self.limits.message),
            in_flight: load(self.limits.in_flight),
            waiting: load(self.limits.pending),
            snapshot_bytes: self.limits.snapshot_bytes,
        }
    }
}

/// Returns the progress of a follower, at a leader whose log has length `len`.
fn described(progress: &Progress, len: u64) -> FollowerStatus {
    let (stage, sent) = match &progress.stage {
        Stage::Unpromised { .. } => (status::Stage::Unpromised, None),
        Stage::Promised(_) => (status::Stage::Promised, None),
        Stage::CatchingUp(_) => (status::Stage::CatchingUp, None),
        Stage::Syncing(_, sent) => (status::Stage::Syncing, Some(sent)),
        Stage::Replicating(sent) => match sent.catching_up_to {
            None => (status::Stage::Replicating, Some(sent)),
            Some(_) => (status::Stage::CatchingUp, Some(sent)),
        },
    };
    FollowerStatus {
        stage,
        accepted_idx: progress.accepted_idx,
        decided_idx: progress.decided_idx,
        lag: len.saturating_sub(progress.accepted_idx),
        in_flight: sent.map(|sent| load(sent.in_flight())).unwrap_or_default(),
    }
}

fn load(amount: Amount) -> Load {
    Load { entries: amount.entries, bytes: amount.bytes }
}
