//! How long a cluster decides nothing after a fault, in election timeouts: the cases of section 2 of
//! the paper, and a crash of the leader.
//!
//! `cargo bench -p omnipaxos_benches --features peers --bench recovery` prints a table and writes it
//! to `target/performance/recovery.md`.

use omnipaxos_benches::{
    cluster::{KeyValue, Wire},
    contestants::{OurServer, Replica, Servers},
    report::Report,
};
use std::io;

/// Ticks of an election timeout; a message takes one tick.
const TIMEOUT: u64 = 10;

/// The number of phases of the heartbeat rounds in which each fault is tried.
const PHASES: u64 = 50;

/// The ticks without a decision after which it counts as never.
const NEVER: u64 = 100 * TIMEOUT;

/// What servers there are, by position.
struct Roles {
    leader: usize,
    /// A follower that keeps its links.
    hub: usize,
    /// All but the leader.
    followers: Vec<usize>,
}

/// A fault: its name, the goal in election timeouts, the number of servers, which links are left,
/// and which servers continue to propose.
struct Fault {
    name: &'static str,
    goal: &'static str,
    n: u64,
    /// The entries that the hub has missed when it happens.
    hub_misses: u64,
    are_connected: fn(&Roles, usize, usize) -> bool,
    proposers: fn(&Roles) -> Vec<usize>,
}

const FAULTS: [Fault; 4] = [
    Fault {
        name: "leader crash, 3 servers",
        goal: "2.5",
        n: 3,
        hub_misses: 0,
        are_connected: |roles, a, b| a != roles.leader && b != roles.leader,
        proposers: |roles| roles.followers.clone(),
    },
    Fault {
        name: "quorum loss, 5 servers",
        goal: "3.5",
        n: 5,
        hub_misses: 0,
        are_connected: |roles, a, b| a == roles.hub || b == roles.hub,
        proposers: |roles| roles.followers.clone(),
    },
    Fault {
        name: "constrained election, 5 servers",
        goal: "3.5",
        n: 5,
        hub_misses: 2,
        are_connected: |roles, a, b| {
            (a == roles.hub || b == roles.hub) && a != roles.leader && b != roles.leader
        },
        proposers: |roles| roles.followers.clone(),
    },
    Fault {
        name: "chained, 3 servers",
        goal: "3.5",
        n: 3,
        hub_misses: 0,
        are_connected: |roles, a, b| a == roles.hub || b == roles.hub,
        proposers: |roles| vec![roles.leader, roles.hub],
    },
];

/// What came of a fault.
struct Outcome {
    /// Ticks until something proposed after it was decided.
    first: Option<u64>,
    /// Whether ten timeouts later every server that is linked to another knew it, too.
    all_know: bool,
}

fn highest<R: Replica>(cluster: &Servers<R>, of: &[usize]) -> u64 {
    of.iter().map(|at| cluster.servers[*at].decided_idx()).max().unwrap_or(0)
}

fn step<R: Replica>(cluster: &mut Servers<R>, are_connected: impl Fn(usize, usize) -> bool) {
    cluster.tick();
    cluster.hop_between(are_connected);
}

/// The fault, this number of ticks after the servers were in step.
fn try_fault<R: Replica>(fault: &Fault, phase: u64) -> Outcome {
    let mut cluster: Servers<R> = Servers::with(fault.n, Wire::Moved, Some(TIMEOUT));
    let leader = cluster.leader;
    let followers: Vec<usize> = (0..cluster.servers.len()).filter(|at| *at != leader).collect();
    let roles = Roles { leader, hub: followers[0], followers };
    for _ in 0..phase {
        step(&mut cluster, |_, _| true);
    }
    let mut log = KeyValue::many(1_000_000, 8).into_iter();
    for entry in log.by_ref().take(fault.hub_misses as usize) {
        cluster.servers[leader].append(entry);
    }
    if fault.hub_misses > 0 {
        let cut = |a, b| (a, b) != (leader, roles.hub) && (b, a) != (leader, roles.hub);
        for _ in 0..5 {
            step(&mut cluster, cut);
        }
    }
    let are_connected = |a, b| (fault.are_connected)(&roles, a, b);
    let proposers = (fault.proposers)(&roles);
    let before = highest(&cluster, &proposers);
    let mut first = None;
    for tick in 1..=NEVER {
        for at in &proposers {
            cluster.servers[*at].append(log.next().expect("there are enough entries"));
        }
        step(&mut cluster, are_connected);
        if highest(&cluster, &proposers) > before {
            first = Some(tick);
            break;
        }
    }
    let decided = highest(&cluster, &proposers);
    for _ in 0..10 * TIMEOUT {
        step(&mut cluster, are_connected);
    }
    let all = 0..cluster.servers.len();
    let is_linked = |at: &usize| all.clone().any(|other| other != *at && are_connected(*at, other));
    let mut linked = all.clone().filter(is_linked);
    Outcome { first, all_know: linked.all(|at| cluster.servers[at].decided_idx() >= decided) }
}

/// The worst of all phases.
fn worst<R: Replica>(fault: &Fault) -> [String; 2] {
    let outcomes: Vec<Outcome> = (0..PHASES).map(|phase| try_fault::<R>(fault, phase)).collect();
    let never = outcomes.iter().filter(|outcome| outcome.first.is_none()).count();
    let ticks = outcomes.iter().filter_map(|outcome| outcome.first).max();
    let first = match (never, ticks) {
        (0, Some(ticks)) => format!("{:.1}", ticks as f64 / TIMEOUT as f64),
        _ => format!("never, in {never} of {PHASES}"),
    };
    let know = outcomes.iter().filter(|outcome| outcome.all_know).count();
    [first, format!("{know} of {PHASES}")]
}

fn main() -> io::Result<()> {
    let mut report = Report::new("recovery");
    report.paragraph(
        "Election timeouts until a server decides something that was proposed after the fault, the \
         worst of 50 phases; and in how many of them, ten timeouts later, every server that is still \
         linked to another knows it. An election timeout is 10 ticks and a message takes one.",
    );
    report.head(&["fault", "goal", "ours", "0.2.2", "all know it: ours", "0.2.2"]);
    for fault in &FAULTS {
        let ours = worst::<OurServer>(fault);
        #[cfg(feature = "peers")]
        let published = worst::<omnipaxos_benches::contestants::PublishedServer>(fault);
        #[cfg(not(feature = "peers"))]
        let published = ["–", "–"].map(String::from);
        let ([first, know], [published_first, published_know]) = (ours, published);
        let named = [fault.name, fault.goal].map(String::from);
        report.row(named.into_iter().chain([first, published_first, know, published_know]));
    }
    report.write()
}
