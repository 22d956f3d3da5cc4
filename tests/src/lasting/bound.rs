//! How long a cluster may take to decide while faults last, and why.

use super::{Kind, Lasting, Measured};
use crate::{
    checker::{ensure, Check, Violation},
    plan::ServerSetting,
};

/// Heartbeat rounds of a leader change. A leader is lost in the middle of a round: that round may
/// still look well, the next does not, and what a server reports of it counts at its end. After one
/// more round nobody within reach is happy, and a server takes over. In the fourth it prepares.
const ROUNDS_OF_A_CHANGE: u64 = 4;

/// A leader's clock stands still. After this number of heartbeat rounds a server gives that leader up: the round in
/// which the clock stops, two more, as usual without a request, and eight more, since requests may be lost.
const ROUNDS_OF_A_STOPPED_CLOCK: u64 = 11;

/// Round trips from there to a decision: Prepare and Promise, AcceptSync and Accepted.
const ROUND_TRIPS_TO_DECIDE: u64 = 2;

/// Round trips of a read: to the leader, and from the leader to a quorum.
const ROUND_TRIPS_OF_A_READ: u64 = 2;

/// Exchanges with a quorum that a leader needs to decide: heartbeats, Prepare, accept.
const EXCHANGES_TO_DECIDE: usize = 3;

/// Exchanges that a read needs: the request, and the check of the leadership.
const EXCHANGES_OF_A_READ: usize = 2;

/// One run in this number may exceed the bound by bad luck alone.
const LUCK: f64 = 1e9;

/// How long a cluster may take, in ticks of the run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// A heartbeat round of the slowest server. Where messages take longer than that, servers
    /// lengthen their rounds: by doubling, so to twice a round trip at most.
    pub round: u64,
    /// A heartbeat round of the fastest server.
    pub shortest_round: u64,
    /// From the loss of a leader to the first decision of the next, if nothing comes between.
    pub change: u64,
    /// From one decision of what is proposed at the keeper to the next, and to the first.
    pub longest: u64,
    /// From one read that is ready at the keeper to the next, and to the first.
    pub longest_read: u64,
    /// Whether nothing ever keeps a leader from leading.
    pub is_calm: bool,
}

impl Bound {
    /// That of a run.
    ///
    /// At worst each other server leads once before the keeper does: a server takes over only while
    /// it reaches a quorum and nobody in reach is happy, and every quorum shares a server with that
    /// of the keeper. So `n` leader changes are enough where the links of the keeper stay open. If another
    /// server leads, the keeper needs eight rounds to find that its link to it is unsteady, and then has a
    /// relay. That takes less than three changes, and there is a third server. What the kinds add:
    /// - windows: each leaves time for one change, so there are `n` of them;
    /// - an adversary: it leaves time for a change between two cuts;
    /// - delays: the servers lengthen their rounds first, which takes as long as the rounds become;
    /// - clocks that stand still: the time to give up each such leader;
    /// - restarts and takeovers: one change for each that the fault enforces in this time;
    /// - loss: each of these leaders needs a few rounds more, see `rounds_of_luck`.
    ///
    /// A read needs a leader that has decided what it adopted, so it may wait as long as a proposal. Then the
    /// keeper may have to wait for the end of a round, since it repeats its request there. After that
    /// come the round trips of the read, and with loss a few rounds more.
    pub fn of(lasting: &Lasting) -> Self {
        let servers = &lasting.setting.servers;
        let conditions = lasting.setting.conditions;
        let ticks = |server: &ServerSetting| {
            let timeout = server.config.election_tick_timeout * ServerSetting::FULL_SPEED;
            timeout.div_ceil(server.speed.max(1))
        };
        let round_trip = 2 * (1 + conditions.least_delay + conditions.delay);
        let slowest = servers.iter().map(ticks).max().unwrap_or(1);
        let shortest_round = servers.iter().map(ticks).min().unwrap_or(1);
        // A round that just ended without the last reply is lengthened to twice what it was.
        let is_late = round_trip >= shortest_round;
        let round = if is_late { slowest.max(2 * round_trip) } else { slowest };
        let change = ROUNDS_OF_A_CHANGE * round + ROUND_TRIPS_TO_DECIDE * round_trip;
        let n = servers.len() as u64;
        let luck = |exchanges| rounds_of_luck(servers.len(), conditions.loss, exchanges) * round;
        let changes = n * (change + luck(EXCHANGES_TO_DECIDE));
        let of_a_read = round + ROUND_TRIPS_OF_A_READ * round_trip + luck(EXCHANGES_OF_A_READ);
        let period = lasting.links.iter().map(|link| link.period).max().unwrap_or(1);
        let extra = match lasting.kind {
            Kind::Windows => n * period,
            Kind::Adversary => lasting.adversary.map_or(0, |adversary| adversary.every),
            Kind::Delay | Kind::Mixed => 2 * round,
            Kind::Restarts | Kind::Takeovers => change,
            Kind::StoppedClocks => {
                lasting.disturbances.len() as u64 * ROUNDS_OF_A_STOPPED_CLOCK * round
            }
            Kind::Calm | Kind::Flaps | Kind::OneWay | Kind::Loss | Kind::Skew | Kind::LateStart => {
                0
            }
        };
        let is_calm = !is_late && matches!(lasting.kind, Kind::Calm | Kind::LateStart);
        let longest = changes + extra;
        let longest_read = longest + of_a_read;
        Self { round, shortest_round, change, longest, longest_read, is_calm }
    }

    /// Checks what has been measured up to now.
    ///
    /// # Errors
    /// The keeper waited too long.
    pub fn check(&self, measured: &Measured) -> Result<(), Violation> {
        let longest = measured.longest_at_keeper;
        ensure!(
            longest <= self.longest,
            Check::LiveWhileFaultsLast,
            "no proposal of the keeper was decided for {longest} ticks, {:.1} rounds of {} ticks; {:.1} are allowed",
            longest as f64 / self.round as f64,
            self.round,
            self.longest as f64 / self.round as f64
        );
        let longest = measured.longest_read;
        ensure!(
            longest <= self.longest_read,
            Check::LiveWhileFaultsLast,
            "no read at the keeper was ready for {longest} ticks, {:.1} rounds of {} ticks; {:.1} are allowed",
            longest as f64 / self.round as f64,
            self.round,
            self.longest_read as f64 / self.round as f64
        );
        Ok(())
    }

    /// The most ballots in this number of ticks. A takeover needs a round in which nobody within reach is
    /// happy, and leaves a quorum happy, so servers that reach each other take over at most once a
    /// round. At the beginning all servers may do so at once.
    ///
    /// Where nothing ever keeps a leader from leading, all may do so at the end of the first round,
    /// and nobody has a reason to do so again.
    pub fn ballots(&self, ticks: u64, servers: usize) -> u64 {
        if self.is_calm {
            return 1;
        }
        ticks / self.shortest_round.max(1) + servers as u64
    }
}

/// Rounds in which so many exchanges with a quorum succeed, though `loss` of 1,000 messages are lost.
///
/// Each is repeated every round until it gets through, which it does in a round if both messages of
/// enough peers do. What got through once stays, so the rounds add up as waiting times do.
fn rounds_of_luck(size: usize, loss: u64, exchanges: usize) -> u64 {
    if loss == 0 {
        return 0;
    }
    let arrives = (1.0 - loss as f64 / 1000.0).powi(2);
    let (peers, needed) = (size - 1, size / 2);
    let succeeds: f64 = (needed..=peers).map(|count| chance_of(count, peers, arrives)).sum();
    let is_unlucky = |rounds: usize| {
        let failed = (0..exchanges).map(|count| chance_of(count, rounds, succeeds));
        failed.sum::<f64>() > 1.0 / LUCK
    };
    (exchanges..).find(|rounds| !is_unlucky(*rounds)).unwrap_or(exchanges) as u64
}

/// The chance that `count` of `of` things happen, each with the same chance.
fn chance_of(count: usize, of: usize, chance: f64) -> f64 {
    let ways: f64 = (0..count).map(|at| (of - at) as f64 / (at + 1) as f64).product();
    ways * chance.powi(count as i32) * (1.0 - chance).powi((of - count) as i32)
}

#[cfg(test)]
mod tests {
    use super::rounds_of_luck;

    #[test]
    fn more_loss_needs_more_rounds() {
        assert_eq!(rounds_of_luck(3, 0, 3), 0);
        let rounds = |loss| rounds_of_luck(5, loss, 3);
        assert!(rounds(50) < rounds(200) && rounds(200) < rounds(500), "{}", rounds(500));
        assert!(rounds_of_luck(5, 200, 2) < rounds(200));
        assert!((80..100).contains(&rounds_of_luck(2, 500, 3)), "{}", rounds_of_luck(2, 500, 3));
    }
}
