//! Runs a cluster while faults last, and measures.

use super::{Bound, CutOff, Lasting, Reads, What};
use crate::{
    checker::{ensure, violated, Check, Violation},
    cluster::{Cluster, Proposed, Requested, Trace},
    plan::{Action, Missed, Plan},
    rng::Rng,
    run::{caught, Failure},
    value::{Plain, SimEntry},
};
use omnipaxos::reads::{ReadId, ReadState};

/// The most proposals that wait at the keeper.
const MOST_OPEN: usize = 8;

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Report {
    /// What did not hold, and when.
    pub failure: Option<Failure>,
    /// What was measured.
    pub measured: Measured,
    /// The trace, if it was kept.
    pub trace: Trace,
}

/// What is measured in a run.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Ticks in which faults lasted.
    pub ticks: u64,
    /// The longest time without a decision of something that was proposed at the keeper, in ticks.
    pub longest_at_keeper: u64,
    /// The longest time in which no read at the keeper became ready, in ticks.
    pub longest_read: u64,
    /// Entries decided.
    pub decided: u64,
    /// The highest ballot number that a server has promised.
    pub ballots: u64,
    /// How often a server followed another leader than before, most often at one server.
    pub changes: u64,
}

/// What is remembered between two ticks.
#[derive(Debug, Default)]
struct Watch {
    measured: Measured,
    /// For each server, the proposals that wait there, and since when.
    open: Vec<Vec<(u64, u64)>>,
    /// What was proposed at the keeper since something of that was decided, and when that was.
    of_keeper: (Vec<u64>, u64),
    /// The read that waits at the keeper, and when the last one became ready.
    read: (Option<ReadId>, u64),
    /// For each server, the leader that it followed last, and how often that was another.
    followed: Vec<(Option<u64>, u64)>,
    cut_off: CutOff,
}

/// Runs it. Nothing it does leaves this thread, and it depends on nothing but the seed.
pub fn run(lasting: &Lasting, trace: Trace) -> Report {
    let mut cluster = None;
    let size = lasting.size();
    let mut watch =
        Watch { open: vec![Vec::new(); size], followed: vec![(None, 0); size], ..Watch::default() };
    let played = caught(|| play::<Plain>(lasting, trace, &mut cluster, &mut watch));
    let result = match played {
        Ok(result) => result,
        Err(what) => violated(Check::NoPanic, what),
    };
    let Some(mut cluster) = cluster else {
        let failure =
            result.err().map(|violation| Failure { violation, at: 0, servers: String::new() });
        return Report { failure, measured: watch.measured, trace: Trace::Off };
    };
    let (at, servers) = (cluster.now(), caught(|| cluster.describe()).unwrap_or_default());
    let failure = result.err().map(|violation| Failure { violation, at, servers });
    Report { failure, measured: watch.measured, trace: cluster.take_trace() }
}

fn play<T: SimEntry>(
    lasting: &Lasting,
    trace: Trace,
    place: &mut Option<Cluster<T>>,
    watch: &mut Watch,
) -> Result<(), Violation> {
    let setting = lasting.setting.clone();
    let plan = Plan { seed: lasting.seed, setting, steps: Vec::new(), next: None };
    let bound = Bound::of(lasting);
    let cluster = place.insert(Cluster::new(&plan, trace)?);
    for now in 0..lasting.ticks {
        set_links(lasting, cluster, watch, now);
        disturb(lasting, cluster, now)?;
        propose(lasting, cluster, watch, bound.round)?;
        read(lasting, cluster, watch)?;
        cluster.pass_tick()?;
        watch.look(cluster);
        bound.check(&watch.measured)?;
    }
    let most = bound.ballots(lasting.ticks, lasting.size());
    let ballots = watch.measured.ballots;
    ensure!(
        ballots <= most,
        Check::FewBallots,
        "{ballots} ballots in {} ticks; {most} are allowed",
        lasting.ticks
    );
    cluster.end(lasting.setting.ending).map(drop)
}

/// Opens and cuts the links by the plan of the run for this tick.
fn set_links<T: SimEntry>(
    lasting: &Lasting,
    cluster: &mut Cluster<T>,
    watch: &mut Watch,
    now: u64,
) {
    let size = lasting.size();
    if let Some(adversary) = lasting.adversary {
        let follows = |at: usize| {
            let leader = cluster.follows(at)?;
            (0..size).find(|at| cluster.pid(*at) == leader)
        };
        watch.cut_off.attack(adversary, size, follows, now);
    }
    for (from, to, is_open) in lasting.open_links(&watch.cut_off, now) {
        cluster.set_link(from, to, is_open);
    }
}

fn disturb<T: SimEntry>(
    lasting: &Lasting,
    cluster: &mut Cluster<T>,
    now: u64,
) -> Result<(), Violation> {
    for disturbance in &lasting.disturbances {
        if now == 0 || !now.is_multiple_of(disturbance.every) {
            continue;
        }
        let server = disturbance.server;
        cluster.act(&match disturbance.what {
            What::Crash { down } => Action::Crash { server, down },
            What::Freeze { ticks } => Action::Freeze { server, ticks, missed: Missed::Skipped },
            What::PauseTicks { ticks } => Action::PauseTicks { server, ticks },
            What::TransferLeadership => Action::BecomeLeader { server },
            What::Priority => {
                let priority = Rng::of(&[lasting.seed, now]).pick(&[0, 1, 9, u32::MAX]);
                Action::SetPriority { server, priority }
            }
        })?;
    }
    Ok(())
}

/// Some proposals wait at the keeper at all times, and with an adversary at each server, since it may cut
/// off any. Others are made elsewhere now and then. One that has waited for a whole round may be lost, as
/// those of a leader that was overtaken, and others follow it.
fn propose<T: SimEntry>(
    lasting: &Lasting,
    cluster: &mut Cluster<T>,
    watch: &mut Watch,
    round: u64,
) -> Result<(), Violation> {
    let now = cluster.now();
    for (at, open) in watch.open.iter_mut().enumerate() {
        if at != lasting.keeper && lasting.adversary.is_none() {
            continue;
        }
        let checker = cluster.checker();
        open.retain(|(id, since)| !checker.is_decided(*id) && now - since <= round);
        if open.len() < MOST_OPEN {
            if let Proposed::Taken(id) = cluster.append(at)? {
                open.push((id, now));
                if at == lasting.keeper {
                    watch.of_keeper.0.push(id);
                }
            }
        }
    }
    let mut rng = Rng::of(&[lasting.seed, now, 0x7072_6F70]);
    if rng.chance(1, 20) {
        cluster.append(rng.index(lasting.size()))?;
    }
    Ok(())
}

/// A read waits at the keeper at all times. Others may be requested in each tick meanwhile.
fn read<T: SimEntry>(
    lasting: &Lasting,
    cluster: &mut Cluster<T>,
    watch: &mut Watch,
) -> Result<(), Violation> {
    if lasting.reads == Reads::EachTick {
        cluster.request_read(lasting.keeper)?;
    }
    let (waits, ready_at) = &mut watch.read;
    match waits.and_then(|read| cluster.read_state(lasting.keeper, read)) {
        Some(ReadState::Waiting) => return Ok(()),
        Some(ReadState::Ready(_)) => *ready_at = cluster.now(),
        _none_or_refused => {}
    }
    *waits = match cluster.request_read(lasting.keeper)? {
        Requested::Taken(read) => Some(read),
        Requested::Refused(_) | Requested::Nowhere => None,
    };
    Ok(())
}

impl Watch {
    fn look<T: SimEntry>(&mut self, cluster: &Cluster<T>) {
        let now = cluster.now();
        let decided = cluster.checker().decided_len();
        let (of_keeper, decided_at) = &mut self.of_keeper;
        if of_keeper.iter().any(|id| cluster.checker().is_decided(*id)) {
            of_keeper.clear();
            *decided_at = now;
        }
        for (at, (last, changes)) in self.followed.iter_mut().enumerate() {
            let follows = cluster.follows(at);
            if follows.is_some() && follows != *last {
                *changes += u64::from(last.is_some());
                *last = follows;
            }
        }
        let measured = &mut self.measured;
        measured.ticks = now;
        measured.longest_at_keeper = measured.longest_at_keeper.max(now - *decided_at);
        measured.longest_read = measured.longest_read.max(now - self.read.1);
        measured.decided = decided;
        measured.ballots = cluster.highest_promise();
        measured.changes = self.followed.iter().map(|(_, changes)| *changes).max().unwrap_or(0);
    }
}
