//! Observers, in some runs, and what happens to them.

use super::{
    generate, limits, Action, Compaction, EntryKind, Missed, Notify, ServerSetting, Setting, Shape,
    Step, Until,
};
use crate::{
    disk::{Failure, WriteFault},
    rng::Rng,
};
use omnipaxos::ServerConfig;

/// The ids of observers: none of a member.
const PIDS: [u64; 4] = [101, 31, (1 << 50) + 1, u64::MAX - 5];

/// The sources of observers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Sources {
    /// One or two members each.
    Members,
    /// The first observes a member, the others an earlier one.
    Tree,
    /// Each observes the next; the first may observe a member, too.
    Circle,
    /// Any mixture.
    Any,
}

/// Adds observers to a third of the runs, with steps of their own.
pub(super) fn add(rng: &mut Rng, setting: &mut Setting, steps: &mut Vec<Step>) {
    if !rng.chance(1, 3) {
        return;
    }
    let count = rng.pick(&[1, 1, 2, 2, 3, 4]);
    let sources =
        rng.pick(&[Sources::Members, Sources::Tree, Sources::Tree, Sources::Circle, Sources::Any]);
    setting.observers = (0..count).map(|nth| observer(rng, setting, nth)).collect();
    generate::give_ids(rng, &mut setting.observers);
    limits::limit(rng, &mut setting.observers);
    for nth in 0..count {
        let chosen = choose_sources(rng, sources, setting.servers.len(), nth, count);
        let pids = chosen.into_iter().map(|at| setting.at(at).config.pid).collect();
        setting.observers[nth].config.observes = pids;
    }
    let is_scarce = rng.chance(1, 5);
    for server in setting.servers.iter_mut().chain(&mut setting.observers) {
        server.config.max_observers = if is_scarce { rng.index(count) } else { count };
    }
    act(rng, setting, steps);
    move_states(rng, setting, steps);
}

fn observer(rng: &mut Rng, setting: &Setting, nth: usize) -> ServerSetting {
    let like = setting.servers[rng.index(setting.servers.len())].clone();
    let takes_delta = setting.entries == EntryKind::Summed && rng.chance(1, 6);
    ServerSetting {
        config: ServerConfig {
            pid: PIDS[nth],
            leader_priority: 0,
            max_election_tick_factor: rng.pick(&[1, 3, 16]),
            takes_delta_snapshots: takes_delta,
            ..like.config
        },
        speed: match rng.chance(1, 4) {
            true => rng.between(2, ServerSetting::FULL_SPEED + 8),
            false => like.speed,
        },
        starts_at: match rng.chance(1, 3) {
            true => rng.between(1, setting.ticks / 2 + 1),
            false => 0,
        },
        storage_id: None,
    }
}

/// The positions of the sources of an observer.
fn choose_sources(
    rng: &mut Rng,
    sources: Sources,
    members: usize,
    nth: usize,
    count: usize,
) -> Vec<usize> {
    let own = members + nth;
    let mut chosen = match sources {
        Sources::Members => vec![rng.index(members), rng.index(members)],
        Sources::Tree if nth == 0 => vec![rng.index(members)],
        Sources::Tree => vec![members + rng.index(nth)],
        Sources::Circle => {
            let next = members + (nth + 1) % count;
            let mut chosen = vec![next];
            if count == 1 || (nth == 0 && rng.chance(4, 5)) {
                chosen.push(rng.index(members));
            }
            chosen
        }
        Sources::Any => (0..rng.between(1, 3)).map(|_| rng.index(members + count)).collect(),
    };
    chosen.retain(|at| *at != own);
    if chosen.is_empty() {
        chosen.push(rng.index(members));
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Gives the members other pids, also where observers name them as sources.
pub(super) fn follow(observers: &mut [ServerSetting], members: &[ServerSetting], pids: &[u64]) {
    for source in observers.iter_mut().flat_map(|observer| &mut observer.config.observes) {
        let nth = members.iter().position(|member| member.config.pid == *source);
        if let Some(pid) = nth.and_then(|nth| pids.get(nth)) {
            *source = *pid;
        }
    }
}

/// What observers do and suffer, and some more compactions at the members.
fn act(rng: &mut Rng, setting: &Setting, steps: &mut Vec<Step>) {
    const OF: u64 = 100_000;
    let (members, count) = (setting.servers.len(), setting.observers.len());
    let appends = rng.pick(&[0, 1_000, 10_000]);
    let reads = rng.pick(&[0, 1_000, 10_000]);
    let faults = rng.pick(&[0, 100, 300, 1_000]);
    let compactions = rng.pick(&[0, 100, 500]);
    let lies = rng.pick(&[0, 500, 3_000]);
    let ends = steps.iter().any(|step| matches!(step.action, Action::Reconfigure { .. }));
    for at in 0..setting.ticks {
        let server = members + rng.index(count);
        let mut add = |action| steps.push(Step { at, action });
        if rng.chance(appends, OF) {
            add(Action::Append { server, count: rng.pick(&[1, 1, 3, 10]) });
        }
        if rng.chance(reads, OF) {
            add(Action::RequestRead { server });
        }
        if rng.chance(2_000, OF) {
            add(rng.pick(&[
                Action::Read { server, seed: at },
                Action::Flush { server },
                Action::TakeEvents { server },
                Action::Status { server },
            ]));
        }
        if rng.chance(faults, OF) {
            add(fault(rng, server, members + count));
        }
        if rng.chance(lies, OF) {
            let server = if rng.chance(1, 2) { server } else { rng.index(members) };
            add(Action::Forge { server, seed: rng.number() });
        }
        if rng.chance(compactions, OF) {
            let server = if rng.chance(1, 2) { server } else { rng.index(members) };
            add(compaction(rng, setting, server));
        }
        if ends && at + 20 > setting.ticks && rng.chance(1, 40) {
            add(Action::Reconfigure { server });
        }
    }
}

/// In some runs an observer misses entries that all members compact. While it fetches the snapshot from
/// one of them, that crashes, or compacts further.
fn move_states(rng: &mut Rng, setting: &Setting, steps: &mut Vec<Step>) {
    const AWAY: u64 = 60;
    if setting.entries == EntryKind::Plain || rng.chance(1, 2) {
        return;
    }
    let members = setting.servers.len();
    for _ in 0..rng.between(1, 5) {
        let from = rng.below(setting.ticks);
        let mut add = |at: u64, action| {
            if at < setting.ticks {
                steps.push(Step { at, action });
            }
        };
        let shape = Shape::Isolated(members + rng.index(setting.observers.len()));
        add(from, Action::Cut { shape, ticks: AWAY, notify: Notify::Nobody });
        for server in 0..members {
            add(from + rng.between(AWAY / 2, AWAY), compaction(rng, setting, server));
        }
        for _ in 0..rng.between(1, 4) {
            let server = rng.index(members);
            let crash = Action::Crash { server, down: rng.pick(&[0, 1, 10]) };
            let further = compaction(rng, setting, server);
            add(from + AWAY + rng.between(1, 30), rng.pick(&[crash, further]));
        }
    }
}

fn fault(rng: &mut Rng, server: usize, size: usize) -> Action {
    let down = rng.pick(&[0, 1, 10, 60, 300]);
    let ticks = rng.pick(&[3, 20, 60, 300]);
    let other = (server + 1 + rng.index(size - 1)) % size;
    let failure = rng.pick(&[Failure::Crash, Failure::Error]);
    let write = WriteFault { after: rng.below(3), failure, applied: rng.chance(1, 2) };
    let shape = rng.pick(&[
        Shape::OneWay { from: server, to: other },
        Shape::OneWay { from: other, to: server },
        Shape::TwoWay { a: server, b: other },
        Shape::Isolated(server),
        Shape::Deaf(server),
        Shape::Mute(server),
    ]);
    let cut = Action::Cut { shape, ticks, notify: rng.pick(&[Notify::Both, Notify::Nobody]) };
    let after = rng.below(3);
    let missed = rng.pick(&[Missed::Skipped, Missed::Made]);
    rng.pick(&[
        Action::Crash { server, down },
        Action::Crash { server, down },
        Action::WriteFault { server, fault: write, down },
        Action::ReadFault { server, after, down },
        Action::PauseTicks { server, ticks },
        Action::Freeze { server, ticks, missed },
        cut.clone(),
        cut,
    ])
}

/// A member may compact what an observer lacks. An observer compacts for itself.
fn compaction(rng: &mut Rng, setting: &Setting, server: usize) -> Action {
    let percent = rng.between(0, 110);
    let until = rng.pick(&[Until::Default, Until::Percent(percent)]);
    match (setting.entries, setting.compaction) {
        (EntryKind::Summed, _) if rng.chance(5, 6) => {
            Action::Snapshot { server, until, local: rng.chance(1, 2) }
        }
        (EntryKind::Stateful, _) => Action::CompactWith { server, until },
        (EntryKind::Plain, Compaction::AsApplied) => Action::Apply { server, seed: rng.number() },
        (EntryKind::Summed | EntryKind::Plain, _) => Action::Trim { server, until },
    }
}
