//! From a seed to a plan.

use super::{
    bursts::{self, Faults},
    limits, observers, Action, Compaction, Drains, Early, Ending, EntryKind, Links, Missed, Notify,
    Partial, Plan, Refusal, ServerSetting, Service, Setting, Shape, Step, Until, Wire,
    CONFIGURATION,
};
use crate::{
    disk::{Atomicity, Failure, Honesty, Medium, WriteFault},
    network::{InFlight, LinkConditions, Order},
    rng::Rng,
    value::LARGEST_SNAPSHOT,
};
use omnipaxos::{util::FlexibleQuorum, ServerConfig};

/// How often each kind of step happens, in 100,000 ticks.
#[derive(Clone, Debug, Default)]
struct Rates {
    append: u64,
    compact: u64,
    elect: u64,
    read: u64,
    flush: u64,
    crash: u64,
    write_fault: u64,
    read_fault: u64,
    cut: u64,
    pause: u64,
    forge: u64,
    reconnected: u64,
}

/// What a run is about: one kind of fault, or all of them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Theme {
    Calm,
    Network,
    Crashes,
    Disks,
    Cuts,
    Clocks,
    Wild,
}

pub(super) fn plan(seed: u64, ticks: u64) -> Plan {
    let mut plan = planned(seed, ticks, None);
    let ends = |step: &Step| matches!(step.action, Action::Reconfigure { .. });
    if plan.steps.iter().any(ends) {
        plan.next = Some(Box::new(next(&plan)));
    }
    plan
}

/// The configuration after that of a plan: some of its servers, and some that join.
fn next(before: &Plan) -> Plan {
    const JOIN: [u64; 7] = [21, 22, 23, 24, 25, 26, 27];
    let mut rng = Rng::of(&[before.seed, 0x6E65_7874]);
    let entries = before.setting.entries;
    let ticks = rng.between(1, before.setting.ticks / 3 + 1);
    let mut plan = planned(rng.number(), ticks, Some(entries));
    let old = before.setting.servers.iter().map(|server| server.config.pid);
    let mut pids: Vec<u64> = old.collect();
    let leave = rng.pick(&[0, 0, 1, 2, pids.len()]);
    for _ in 0..leave.min(pids.len()) {
        pids.swap_remove(rng.index(pids.len()));
    }
    pids.extend(JOIN);
    let tells_removed_servers = rng.chance(1, 2);
    let Setting { servers, observers, .. } = &mut plan.setting;
    observers::follow(observers, servers, &pids);
    for (server, pid) in servers.iter_mut().zip(pids) {
        server.config.pid = pid;
        server.config.tells_removed_servers = tells_removed_servers;
        server.starts_at = rng.pick(&[0, 0, 5, 50]);
    }
    plan.setting.configuration = before.setting.configuration + 1;
    plan
}

/// A configuration by itself, with entries of the given kind, or of any.
fn planned(seed: u64, ticks: u64, entries: Option<EntryKind>) -> Plan {
    let mut rng = Rng::of(&[seed, 0x706C_616E]);
    let theme = rng.pick(&[
        Theme::Calm,
        Theme::Network,
        Theme::Crashes,
        Theme::Disks,
        Theme::Cuts,
        Theme::Clocks,
        Theme::Wild,
        Theme::Wild,
        Theme::Wild,
    ]);
    let mut setting = setting(&mut rng, theme, ticks);
    setting.entries = entries.unwrap_or(setting.entries);
    setting.refusal = refusal(&mut Rng::of(&[seed, 0x7265_6675]), setting.servers.len());
    limits::limit(&mut Rng::of(&[seed, 0x6C69_6D69]), &mut setting.servers);
    limits::limit_links(&mut Rng::of(&[seed, 0x6C69_6E6B]), &mut setting.conditions);
    let mut kept = Rng::of(&[seed, 0x6B65_6570]);
    for server in &mut setting.servers {
        server.config.keeps_undecided_appends = kept.chance(1, 3);
        server.config.max_election_tick_factor = kept.pick(&[1, 3, 16, 16]);
    }
    give_ids(&mut Rng::of(&[seed, 0x6964_7300]), &mut setting.servers);
    setting.early = Early::choose(&mut Rng::of(&[seed, 0x6561_726C]));
    start_late(&mut Rng::of(&[seed, 0x6C61_7465]), &mut setting);
    let mut rates = rates(&mut rng, theme);
    if setting.atomicity == Atomicity::OneByOne {
        // Crashes between two operations are what these runs are for.
        rates.write_fault = rates.write_fault.max(2_000);
    }
    let mut steps = Vec::new();
    for at in 0..ticks {
        step(&mut rng, &rates, &setting, |action| steps.push(Step { at, action }));
    }
    reconfigure(&mut rng, &setting, &mut steps);
    ask(&mut Rng::of(&[seed, 0x6E65_7773]), &setting, &mut steps);
    read_and_transfer(&mut Rng::of(&[seed, 0x7265_6164]), &setting, &mut steps);
    choose_compaction(&mut Rng::of(&[seed, 0x636F_6D70]), &mut setting, &mut steps);
    let faults = if theme == Theme::Calm { Faults::None } else { Faults::Any };
    bursts::brew(&mut Rng::of(&[seed, 0x7374_6F72]), faults, &setting, &mut steps);
    observers::add(&mut Rng::of(&[seed, 0x6F62_7365]), &mut setting, &mut steps);
    steps.sort_by_key(|step| step.at);
    Plan { seed, setting, steps, next: None }
}

fn setting(rng: &mut Rng, theme: Theme, ticks: u64) -> Setting {
    let size = rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]);
    let atomicity =
        rng.pick(&[Atomicity::Atomic, Atomicity::Atomic, Atomicity::Atomic, Atomicity::OneByOne]);
    let entries = rng.pick(&[EntryKind::Summed, EntryKind::Summed, EntryKind::Plain]);
    let quorum = quorum(rng, size);
    Setting {
        configuration: CONFIGURATION,
        servers: servers(rng, theme, size),
        observers: Vec::new(),
        quorum,
        entries,
        compaction: Compaction::AsAsked,
        atomicity,
        honesty: Honesty::Honest,
        medium: Medium::Memory,
        refusal: Refusal::Nowhere,
        drains: rng.pick(&[Drains::EachInput, Drains::EachTick, Drains::Rarely(40)]),
        early: Early::Never,
        wire: rng.pick(&[Wire::Values, Wire::Values, Wire::Values, Wire::Bytes]),
        conditions: conditions(rng, theme),
        in_flight: rng.pick(&[InFlight::Lost, InFlight::Arrives]),
        ticks,
        ending: Ending {
            notify: rng.pick(&[Notify::Both, Notify::Nobody]),
            partial: partial(rng, size, quorum),
        },
    }
}

fn refusal(rng: &mut Rng, size: usize) -> Refusal {
    let lenient = rng.index(size);
    rng.pick(&[
        Refusal::Nowhere,
        Refusal::Nowhere,
        Refusal::Everywhere,
        Refusal::EverywhereBut(lenient),
    ])
}

/// Of most clusters all disks have ids, of some a part, of some none.
pub(super) fn give_ids(rng: &mut Rng, servers: &mut [ServerSetting]) {
    let percent = rng.pick(&[100, 100, 100, 50, 0]);
    for server in servers {
        if rng.chance(percent, 100) {
            server.storage_id = Some(rng.number().max(1));
        }
    }
}

/// In some runs, some servers are not there at the beginning.
fn start_late(rng: &mut Rng, setting: &mut Setting) {
    if !rng.chance(1, 4) {
        return;
    }
    let latest = rng.pick(&[10, 100, setting.ticks / 2]);
    for server in &mut setting.servers {
        if rng.chance(1, 2) {
            server.starts_at = rng.between(1, latest);
        }
    }
}

fn quorum(rng: &mut Rng, size: usize) -> Option<FlexibleQuorum> {
    rng.chance(1, 5).then(|| quorum_sizes(rng, size))
}

/// Chooses quorum sizes for so many servers.
pub(crate) fn quorum_sizes(rng: &mut Rng, size: usize) -> FlexibleQuorum {
    let write_quorum_size = 1 + rng.index(size.div_ceil(2));
    let least = (size - write_quorum_size + 1).max(write_quorum_size);
    let read_quorum_size = rng.between(least as u64, size as u64) as usize;
    FlexibleQuorum { read_quorum_size, write_quorum_size }
}

/// For some clusters, cuts that outlast the faults.
fn partial(rng: &mut Rng, size: usize, quorum: Option<FlexibleQuorum>) -> Option<Partial> {
    if !rng.chance(1, 2) {
        return None;
    }
    let read_quorum = quorum.map_or(size / 2 + 1, |quorum| quorum.read_quorum_size);
    let centre = rng.index(size);
    let lost = (centre + 1 + rng.index(size.max(2) - 1)) % size;
    let mut partials = Vec::new();
    let followed = followed(size, quorum, read_quorum, centre, lost);
    partials.extend(followed.map(|shape| Partial { shape, service: Service::Follows }));
    let mut others = Vec::new();
    if size > 2 {
        others.extend([Shape::Chain(centre), Shape::Star(centre), Shape::Halves(rng.number())]);
    }
    if size > 3 {
        others.extend([Shape::Ring, Shape::Ring]);
    }
    partials.extend(others.into_iter().map(|shape| {
        let links = Links::under(shape, size);
        let service = match links.reach(links.middle()).len() >= read_quorum {
            true => Service::Decides,
            false => Service::Learns,
        };
        Partial { shape, service }
    }));
    if partials.is_empty() {
        return None;
    }
    Some(rng.pick(&partials))
}

/// Cuts that leave a quorum without a minority, or one with a single quorum-connected server.
fn followed(
    size: usize,
    quorum: Option<FlexibleQuorum>,
    read_quorum: usize,
    centre: usize,
    lost: usize,
) -> impl Iterator<Item = Shape> {
    let minority = size - read_quorum;
    let away = (0..minority).fold(0, |away, nth| away | 1 << ((centre + nth) % size));
    // With majorities only the centre has a quorum; a small write quorum may keep another leader,
    // which has no link to some.
    let is_majority = quorum.is_none();
    let shapes = [
        (minority > 0, Shape::Isolated(lost)),
        (minority > 0, Shape::Halves(away)),
        (size > 1, Shape::Unpromised(lost)),
        (size > 3 && is_majority, Shape::Star(centre)),
        (size > 4 && is_majority, Shape::Constrained { centre, lost }),
    ];
    shapes.into_iter().filter(|(is_possible, _)| *is_possible).map(|(_, shape)| shape)
}

fn servers(rng: &mut Rng, theme: Theme, size: usize) -> Vec<ServerSetting> {
    const PIDS: [[u64; 7]; 3] = [
        [1, 2, 3, 4, 5, 6, 7],
        [1, 5, 9_000_000_000, u64::MAX, 77, 1025, 2],
        [u64::MAX - 1, 300, 20, 7, 1 << 40, 1, 1 << 63],
    ];
    let pids = rng.pick(&PIDS);
    let election = rng.pick(&[5, 8, 10, 20]);
    let skewed = theme == Theme::Clocks || (theme == Theme::Wild && rng.chance(1, 3));
    let batches = rng.chance(1, 3);
    let flush = rng.between(1, 2 * election);
    let resend = rng.pick(&[election, 3 * election, 100]);
    let mut server = |pid: u64| ServerSetting {
        config: ServerConfig {
            pid,
            election_tick_timeout: election + rng.below(3),
            resend_message_tick_timeout: resend,
            batch_size: if batches { rng.pick(&[1, 2, 5, 50]) } else { 1 },
            flush_batch_tick_timeout: flush,
            leader_priority: rng.pick(&[0, 0, 0, 1, 7, u32::MAX]),
            max_snapshot_bytes: LARGEST_SNAPSHOT,
            ..Default::default()
        },
        speed: match skewed {
            true => rng.between(2, ServerSetting::FULL_SPEED + 8),
            false => ServerSetting::FULL_SPEED,
        },
        starts_at: 0,
        storage_id: None,
    };
    pids.iter().take(size).map(|pid| server(*pid)).collect()
}

fn conditions(rng: &mut Rng, theme: Theme) -> LinkConditions {
    match theme {
        Theme::Calm => LinkConditions::PERFECT,
        Theme::Crashes | Theme::Disks | Theme::Cuts | Theme::Clocks => LinkConditions {
            delay: rng.below(3),
            order: rng.pick(&[Order::Kept, Order::Free]),
            ..LinkConditions::PERFECT
        },
        Theme::Network | Theme::Wild => LinkConditions {
            loss: rng.pick(&[0, 5, 50, 200]),
            duplicates: rng.pick(&[0, 5, 50, 200]),
            stragglers: rng.pick(&[0, 0, 2, 20]),
            least_delay: 0,
            delay: rng.pick(&[0, 1, 3, 8]),
            order: rng.pick(&[Order::Kept, Order::Free]),
            bytes_per_tick: None,
        },
    }
}

fn rates(rng: &mut Rng, theme: Theme) -> Rates {
    let mut rates = Rates {
        append: rng.pick(&[2_000, 10_000, 30_000]),
        compact: rng.pick(&[0, 500, 3_000]),
        elect: rng.pick(&[0, 0, 100, 1_000]),
        read: 1_000,
        flush: 500,
        forge: rng.pick(&[0, 1_000, 5_000]),
        ..Rates::default()
    };
    let mut often = |rate: &mut u64| *rate = rng.pick(&[150, 500, 1_500]);
    match theme {
        Theme::Calm | Theme::Network => {}
        Theme::Crashes => often(&mut rates.crash),
        Theme::Disks => {
            often(&mut rates.write_fault);
            often(&mut rates.read_fault);
        }
        Theme::Cuts => often(&mut rates.cut),
        Theme::Clocks => often(&mut rates.pause),
        Theme::Wild => {
            often(&mut rates.crash);
            often(&mut rates.write_fault);
            often(&mut rates.cut);
            often(&mut rates.pause);
            rates.read_fault = 200;
            rates.reconnected = 300;
        }
    }
    rates
}

fn step(rng: &mut Rng, rates: &Rates, setting: &Setting, mut add: impl FnMut(Action)) {
    const OF: u64 = 100_000;
    let size = setting.servers.len();
    let server = rng.index(size);
    if rng.chance(rates.append, OF) {
        add(Action::Append { server, count: rng.pick(&[1, 1, 1, 3, 10]) });
    }
    if rng.chance(rates.compact, OF) {
        let server = rng.index(size);
        add(compaction(rng, setting.entries, server));
    }
    if rng.chance(rates.elect, OF) {
        add(match rng.chance(1, 2) {
            true => Action::SetPriority { server, priority: rng.pick(&[0, 1, 9, u32::MAX]) },
            false => Action::BecomeLeader { server },
        });
    }
    if rng.chance(rates.read, OF) {
        add(Action::Read { server, seed: rng.number() });
    }
    if rng.chance(rates.flush, OF) {
        add(Action::Flush { server });
    }
    if rng.chance(rates.crash, OF) {
        add(Action::Crash { server, down: rng.pick(&[0, 1, 10, 60, 200]) });
    }
    if rng.chance(rates.write_fault, OF) {
        let fault = WriteFault {
            after: rng.below(5),
            failure: rng.pick(&[Failure::Crash, Failure::Crash, Failure::Error]),
            applied: rng.chance(1, 2),
        };
        add(Action::WriteFault { server, fault, down: rng.pick(&[0, 1, 10, 60]) });
    }
    if rng.chance(rates.read_fault, OF) {
        add(Action::ReadFault { server, after: rng.below(3), down: rng.pick(&[1, 10, 60]) });
    }
    if rng.chance(rates.cut, OF) && size > 1 {
        let ticks = rng.pick(&[5, 30, 100, 300]);
        let notify = rng.pick(&[Notify::Both, Notify::Nobody]);
        add(Action::Cut { shape: shape(rng, size), ticks, notify });
    }
    if rng.chance(rates.pause, OF) {
        let ticks = rng.pick(&[3, 20, 60, 150]);
        add(match rng.chance(1, 2) {
            true => Action::PauseTicks { server, ticks },
            false => {
                let missed = rng.pick(&[Missed::Skipped, Missed::Made]);
                Action::Freeze { server, ticks, missed }
            }
        });
    }
    if rng.chance(rates.forge, OF) {
        add(Action::Forge { server, seed: rng.number() });
    }
    if rng.chance(rates.reconnected, OF) {
        add(Action::Reconnected { server, peer: rng.index(size) });
    }
}

fn compaction(rng: &mut Rng, entries: EntryKind, server: usize) -> Action {
    let until = match rng.chance(1, 2) {
        true => Until::Default,
        false => Until::Percent(rng.between(0, 110)),
    };
    if entries == EntryKind::Plain || rng.chance(1, 3) {
        return Action::Trim { server, until };
    }
    Action::Snapshot { server, until, local: rng.chance(1, 2) }
}

/// Applications hand over their states. Some servers take deltas all the same, and some compactions
/// are of a kind that is refused.
fn hand_over_states(rng: &mut Rng, setting: &mut Setting, steps: &mut [Step]) {
    setting.entries = EntryKind::Stateful;
    for server in &mut setting.servers {
        server.config.takes_delta_snapshots = rng.chance(1, 2);
    }
    for Step { action, .. } in steps {
        if let Action::Trim { server, until } | Action::Snapshot { server, until, .. } = *action {
            if rng.chance(4, 5) {
                *action = Action::CompactWith { server, until };
            }
        }
    }
}

/// In some runs without snapshots, logs are compacted as far as all applications have applied. In some
/// with snapshots, servers take deltas, or applications hand over their states.
fn choose_compaction(rng: &mut Rng, setting: &mut Setting, steps: &mut [Step]) {
    match setting.entries {
        EntryKind::Summed if rng.chance(1, 4) => {
            for server in &mut setting.servers {
                server.config.takes_delta_snapshots = rng.chance(1, 2);
            }
        }
        EntryKind::Plain if rng.chance(1, 2) => {
            setting.compaction = Compaction::AsApplied;
            for Step { action, .. } in steps {
                if let Action::Trim { server, .. } = *action {
                    *action = Action::Apply { server, seed: rng.number() };
                }
            }
        }
        EntryKind::Summed if rng.chance(1, 3) => hand_over_states(rng, setting, steps),
        EntryKind::Summed | EntryKind::Plain | EntryKind::Stateful => {}
    }
}

fn shape(rng: &mut Rng, size: usize) -> Shape {
    let a = rng.index(size);
    let b = (a + 1 + rng.index(size - 1)) % size;
    let groups = rng.number();
    rng.pick(&[
        Shape::OneWay { from: a, to: b },
        Shape::TwoWay { a, b },
        Shape::Isolated(a),
        Shape::Deaf(a),
        Shape::Mute(a),
        Shape::Unpromised(a),
        Shape::Halves(groups),
        Shape::Star(a),
        Shape::Constrained { centre: a, lost: b },
        Shape::Chain(a),
        if size > 3 { Shape::Ring } else { Shape::Chain(a) },
    ])
}

/// The servers are asked what has happened and how they are: often, now and then, or never before
/// the end.
fn ask(rng: &mut Rng, setting: &Setting, steps: &mut Vec<Step>) {
    let often = rng.pick(&[0, 1_000, 10_000]);
    for at in 0..setting.ticks {
        if rng.chance(often, 100_000) {
            let server = rng.index(setting.servers.len());
            let action = match rng.chance(2, 3) {
                true => Action::TakeEvents { server },
                false => Action::Status { server },
            };
            steps.push(Step { at, action });
        }
    }
}

/// In some runs the configuration ends, mostly late.
fn reconfigure(rng: &mut Rng, setting: &Setting, steps: &mut Vec<Step>) {
    if !rng.chance(1, 3) {
        return;
    }
    let early = rng.chance(1, 4);
    for _ in 0..rng.between(1, 3) {
        let at = match early {
            true => rng.below(setting.ticks),
            false => setting.ticks - 1 - rng.below(setting.ticks / 10 + 1).min(setting.ticks - 1),
        };
        let server = rng.index(setting.servers.len());
        steps.push(Step { at, action: Action::Reconfigure { server } });
    }
}

/// Requests reads, and in some runs transfers. A transfer is over before the run ends.
fn read_and_transfer(rng: &mut Rng, setting: &Setting, steps: &mut Vec<Step>) {
    const OF: u64 = 100_000;
    let (reads, transfers) = (rng.pick(&[500, 3_000, 20_000]), rng.pick(&[0, 0, 200, 1_000]));
    let size = setting.servers.len();
    for at in 0..setting.ticks {
        if rng.chance(reads, OF) {
            steps.push(Step { at, action: Action::RequestRead { server: rng.index(size) } });
        }
        if rng.chance(transfers, OF) {
            let ticks = rng.pick(&[1, 5, 10, 15]);
            steps.push(Step {
                at,
                action: Action::TransferLeadership { to: rng.index(size), ticks },
            });
        }
    }
}
