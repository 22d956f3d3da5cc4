//! Time without a decision while faults last, of ours and of Raft under the same faults.
//!
//! Both run on the same ticks, the same network and the same faults, all of which follow from the
//! number of a [`Trial`]. A tick is the time that a message takes on an idle link.
//!
//! One *unit* is [`ELECTION_TICKS`] ticks: a heartbeat round of ours, and the `election_tick` of raft.
//! With these settings both miss a leader that stops after 1 to 2 units: a round that the leader does
//! not answer, begun up to a round later; and a time drawn from `election_tick` to twice that. Raft's
//! documentation suggests an `election_tick` of ten times `heartbeat_tick`, so the latter is 1 tick, and
//! a leader of raft sends ten heartbeats in the time in which a server of ours asks once.

mod network;
mod ours;
#[cfg(feature = "peers")]
mod raft;
mod run;
mod trial;

#[cfg(feature = "peers")]
pub use self::raft::Raft;
pub use self::{
    ours::Ours,
    run::{run, Outcome},
    trial::{Fault, Trial},
};

/// Ticks of a unit.
pub const ELECTION_TICKS: u64 = 10;

/// A server of a contestant.
pub trait Server: Sized {
    /// What it sends.
    type Message;
    /// What outlasts a crash.
    type Disk: Default;

    /// Starts server `pid` of `n`, for the `incarnation`th time. What it draws at random comes from
    /// the seed.
    fn start(pid: u64, n: u64, disk: Self::Disk, seed: u64, incarnation: u64) -> Self;

    /// Stops it. It has just sent what it had to send.
    fn stop(self) -> Self::Disk;

    /// Lets one tick pass.
    fn tick(&mut self);

    /// Proposes an entry, if the server takes one now.
    fn propose(&mut self, number: u64);

    /// Asks it to lead, as a user may.
    fn ask_to_lead(&mut self);

    /// Handles a message.
    fn handle(&mut self, message: Self::Message);

    /// Stores what has changed, and takes the messages to send, each with its receiver.
    fn take(&mut self, messages: &mut Vec<(u64, Self::Message)>);

    /// Number of proposed entries that it knows to be decided.
    fn decided(&self) -> u64;

    /// The leader that it knows.
    fn leader(&self) -> Option<u64>;
}

#[cfg(test)]
mod tests {
    use super::{run, Fault, Ours, Trial};

    fn trials() -> impl Iterator<Item = Trial> {
        let sizes = (2..=5).flat_map(|n| Fault::ALL.map(|fault| (n, fault)));
        sizes.filter_map(|(n, fault)| Trial::of(fault, n, 0))
    }

    #[test]
    fn ours_decides_within_the_bound() {
        for trial in trials().filter(|trial| trial.fault.leaves_a_quorum()) {
            let outcome = run::<Ours>(&trial);
            let bound = trial.bound();
            assert!(outcome.longest <= bound, "{outcome:?}, bound {bound}: {trial:?}");
        }
    }

    #[test]
    fn a_number_gives_the_same_outcome_again() {
        for trial in trials().take(12) {
            assert_eq!(run::<Ours>(&trial), run::<Ours>(&trial));
        }
    }

    #[cfg(feature = "peers")]
    #[test]
    fn raft_decides_where_nothing_fails_and_gives_the_same_outcome_again() {
        use super::Raft;
        for n in 2..=5 {
            let calm = Trial::of(Fault::Start, n, 0).expect("any number of servers may be calm");
            let outcome = run::<Raft>(&calm);
            assert!(outcome.decided > 100 && outcome.longest < 50, "{outcome:?}");
        }
        for trial in trials().take(24) {
            assert_eq!(run::<Raft>(&trial), run::<Raft>(&trial));
        }
    }
}
