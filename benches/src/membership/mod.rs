//! What a change of members costs. Simulated ticks and links with a limit of bytes, so that the same
//! figures come out on every machine.

mod net;
#[cfg(feature = "peers")]
mod openraft;
mod ours;
#[cfg(feature = "peers")]
mod raft;

pub use self::ours::Ours;
#[cfg(feature = "peers")]
pub use self::{openraft::OpenRaft, raft::Raft};

use self::net::Net;
use std::collections::{BTreeMap, BTreeSet};

/// Ticks of a heartbeat round of ours, and of an election timeout of `raft`.
pub const ELECTION_TICKS: u64 = 10;

/// The largest message.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// The most bytes on their way to one server.
pub const IN_FLIGHT_BYTES: usize = 1 << 20;

/// What one link carries in a tick.
pub const LINK_BYTES: usize = 64 << 10;

/// Entries appended in a tick at the leader.
pub const LOAD: u64 = 10;

/// A joiner of `raft` or `openraft` that lacks no more entries has caught up, as with ours.
#[cfg(feature = "peers")]
const MOST_MISSING: u64 = 100;

/// After so many ticks a change that has not ended is given up.
const MOST_TICKS: u64 = 20_000;

/// Servers whose members can change.
pub trait Changing {
    /// Starts the members `founders`, with `entries` decided. If `state_bytes` is given, a state of this
    /// size stands for the entries.
    fn start(founders: &[u64], entries: u64, state_bytes: Option<usize>) -> Self;

    /// Starts a server that is to join, without entries.
    fn join(&mut self, pid: u64);

    /// All servers that run.
    fn pids(&self) -> Vec<u64>;

    /// Lets a tick pass at a server.
    fn tick(&mut self, pid: u64);

    /// Takes the messages of a server, each with its receiver.
    fn take(&mut self, pid: u64, send: &mut dyn FnMut(u64, Vec<u8>));

    /// The kind of a message.
    fn kind(bytes: &[u8]) -> String;

    /// Delivers a message.
    fn handle(&mut self, pid: u64, bytes: &[u8]);

    /// The member that leads, if there is one.
    fn leader(&self) -> Option<u64>;

    /// Appends an entry at a server.
    fn append(&mut self, pid: u64);

    /// Number of entries decided at some server.
    fn decided(&self) -> u64;

    /// Does what an operator does next, in each tick, to make `next` the members.
    fn change(&mut self, next: &[u64]);

    /// Whether a server has a vote.
    fn is_member(&self, pid: u64) -> bool;

    /// Whether all of `next` are members, and nobody else.
    fn has_changed(&self, next: &[u64]) -> bool;
}

/// Memory that was allocated and freed in a piece of work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Bytes that are left of it. Negative if more was freed.
    pub left: i64,
    /// The most bytes at a time.
    pub most: u64,
}

/// Does a piece of work, and counts its memory.
pub type Meter<'a> = &'a mut dyn FnMut(&mut dyn FnMut()) -> Used;

/// A [`Meter`] that counts nothing.
pub fn uncounted(work: &mut dyn FnMut()) -> Used {
    work();
    Used::default()
}

/// What a change cost.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Ticks from the request to the end; `None` if it did not end.
    pub ticks: Option<u64>,
    /// Ticks until the last joiner was a member.
    pub until_votes: Option<u64>,
    /// The longest time in ticks without a decision.
    pub longest_pause: u64,
    /// Bytes that the joiners got.
    pub bytes: usize,
    /// Those of them that the first leader sent.
    pub bytes_of_leader: usize,
    /// The largest message.
    pub largest_message: usize,
    /// The most bytes on their way to a joiner from one server.
    pub most_in_flight: usize,
    /// The most memory of the first leader above that at the request, in bytes.
    pub leader_peak: i64,
    /// The most memory of a joiner, in bytes.
    pub joiner_peak: i64,
    /// The memory of a joiner at the end, in bytes.
    pub joiner_end: i64,
}

/// Changes the members from `founders` to `next` under load.
pub fn change<C: Changing>(
    founders: &[u64],
    next: &[u64],
    entries: u64,
    state_bytes: Option<usize>,
    meter: Meter<'_>,
) -> Cost {
    let joiners: Vec<u64> = next.iter().copied().filter(|pid| !founders.contains(pid)).collect();
    let mut servers = C::start(founders, entries, state_bytes);
    let mut net = Net::new(LINK_BYTES, meter);
    for _ in 0..10 * ELECTION_TICKS {
        load(&mut servers, &mut net);
        net.pass_tick(&mut servers);
    }
    net.forget();
    joiners.iter().for_each(|pid| net.count(*pid, || servers.join(*pid)));
    let first_leader = servers.leader();
    let mut cost = Cost::default();
    let (mut decided, mut since) = (servers.decided(), 0);
    let mut waiting: BTreeSet<u64> = joiners.iter().copied().collect();
    for tick in 1..=MOST_TICKS {
        if let Some(leader) = servers.leader() {
            net.count(leader, || servers.change(next));
        }
        load(&mut servers, &mut net);
        net.pass_tick(&mut servers);
        since += 1;
        if servers.decided() > decided {
            (decided, since) = (servers.decided(), 0);
        }
        cost.longest_pause = cost.longest_pause.max(since);
        waiting.retain(|pid| !servers.is_member(*pid));
        if waiting.is_empty() && cost.until_votes.is_none() {
            cost.until_votes = Some(tick);
        }
        let ended = *cost.ticks.get_or_insert(tick);
        if !servers.has_changed(next) {
            cost.ticks = None;
        } else if tick > ended + 10 * ELECTION_TICKS {
            break;
        }
    }
    for ((from, to), bytes) in net.sent() {
        if joiners.contains(&to) {
            cost.bytes += bytes;
            cost.bytes_of_leader += if Some(from) == first_leader { bytes } else { 0 };
        }
    }
    cost.largest_message = net.largest();
    cost.leader_peak = first_leader.map_or(0, |pid| net.heap(pid).peak);
    for pid in joiners {
        cost.most_in_flight = cost.most_in_flight.max(net.most_queued(pid));
        cost.joiner_peak = cost.joiner_peak.max(net.heap(pid).peak);
        cost.joiner_end = cost.joiner_end.max(net.heap(pid).now);
    }
    cost
}

/// The messages that a change adds in a cluster without load, in which the joiners are in step, of
/// each kind: those of 10 election timeouts from the request on, without those of as long a time without a
/// change. It depends on when the next heartbeats are due, so this is the mean over the ticks of an election timeout.
pub fn extra_messages<C: Changing>(founders: &[u64], next: &[u64]) -> BTreeMap<String, f64> {
    let mut kinds: BTreeMap<String, i64> = BTreeMap::new();
    for phase in 0..ELECTION_TICKS {
        for (kind, count) in messages::<C>(founders, next, next, phase) {
            *kinds.entry(kind).or_default() += count;
        }
        for (kind, count) in messages::<C>(founders, next, founders, phase) {
            *kinds.entry(kind).or_default() -= count;
        }
    }
    kinds.retain(|_, count| *count != 0);
    kinds.into_iter().map(|(kind, sum)| (kind, sum as f64 / ELECTION_TICKS as f64)).collect()
}

/// The messages of each kind while the members are changed from `founders` to `to`; `running` run.
fn messages<C: Changing>(
    founders: &[u64],
    running: &[u64],
    to: &[u64],
    phase: u64,
) -> BTreeMap<String, i64> {
    let mut servers = C::start(founders, 100, None);
    running.iter().filter(|pid| !founders.contains(pid)).for_each(|pid| servers.join(*pid));
    let mut meter = uncounted;
    let mut net = Net::new(usize::MAX, &mut meter);
    for _ in 0..10 * ELECTION_TICKS + phase {
        net.pass_tick(&mut servers);
    }
    net.count_kinds();
    for _ in 0..10 * ELECTION_TICKS {
        if to != founders {
            servers.change(to);
        }
        net.pass_tick(&mut servers);
    }
    net.kinds()
}

fn load<C: Changing>(servers: &mut C, net: &mut Net<'_>) {
    if let Some(leader) = servers.leader() {
        net.count(leader, || (0..LOAD).for_each(|_| servers.append(leader)));
    }
}

#[cfg(test)]
mod tests {
    use super::{change, extra_messages, uncounted, Changing, Cost, Ours};

    fn check<C: Changing>() {
        for (founders, next, state) in [
            (&[1, 2, 3][..], &[1, 2, 4][..], None),
            (&[1, 2, 3], &[4, 5, 6], None),
            (&[1, 2, 3], &[1, 2, 4], Some(300_000)),
        ] {
            let cost: Cost = change::<C>(founders, next, 20_000, state, &mut uncounted);
            assert!(cost.ticks.is_some() && cost.until_votes.is_some(), "{next:?}: {cost:?}");
            assert!(cost.bytes > state.unwrap_or(20_000 * 8), "{cost:?}");
        }
    }

    #[test]
    fn a_change_adds_few_messages() {
        for (founders, next, most) in [
            (&[1, 2, 3, 4, 5][..], &[1, 2, 3, 4, 6][..], 40.0),
            (&[1, 2, 3, 4, 5], &[2, 3, 4, 5, 6], 43.0),
            (&[1, 2, 3], &[1, 2, 4], 26.0),
            (&[1, 2, 3], &[2, 3, 4], 26.0),
        ] {
            let kinds = extra_messages::<Ours>(founders, next);
            let sum: f64 = kinds.values().sum();
            assert!(sum < most, "{founders:?} to {next:?}: {sum} of {kinds:?}");
        }
    }

    #[test]
    fn ours_changes() {
        check::<Ours>();
    }

    #[cfg(feature = "peers")]
    #[test]
    fn raft_changes() {
        check::<super::Raft>();
    }

    #[cfg(feature = "peers")]
    #[test]
    fn openraft_changes() {
        check::<super::OpenRaft>();
    }
}
