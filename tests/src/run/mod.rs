//! Runs a plan, from its first step to silence.

mod ending;
mod next_configuration;
mod observers;
mod panics;
mod partly;

pub use self::ending::{Ended, Partly};
pub(crate) use self::panics::caught;
use crate::{
    checker::{Check, Violation},
    cluster::{Cluster, Trace, Traffic},
    coverage::Counts,
    plan::{EntryKind, Plan},
    value::{Plain, SimEntry, Stateful, Summed},
};

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Report {
    /// What did not hold, and when.
    pub failure: Option<Failure>,
    /// Ticks of the run.
    pub ticks: u64,
    /// Entries decided.
    pub decided: u64,
    /// Entries that are in the decided log more than once: forwarded in different ballots.
    pub decided_again: u64,
    /// Messages sent.
    pub traffic: Traffic,
    /// What was done.
    pub counts: Counts,
    /// How the cluster came to rest, if it did.
    pub ended: Option<Ended>,
    /// The trace, if it was kept.
    pub trace: Trace,
}

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The check and what it saw.
    pub violation: Violation,
    /// The tick of the run.
    pub at: u64,
    /// The servers then.
    pub servers: String,
}

/// Runs a plan. Nothing it does leaves this thread, and it depends on nothing but the plan.
pub fn run(plan: &Plan, trace: Trace) -> Report {
    match plan.setting.entries {
        EntryKind::Summed => run_with::<Summed>(plan, trace),
        EntryKind::Plain => run_with::<Plain>(plan, trace),
        EntryKind::Stateful => run_with::<Stateful>(plan, trace),
    }
}

fn run_with<T: SimEntry>(plan: &Plan, trace: Trace) -> Report {
    let mut cluster = None;
    let played = panics::caught(|| play::<T>(plan, trace, &mut cluster));
    let result = match played {
        Ok(result) => result,
        Err(what) => Err(Violation { check: Check::NoPanic, what }),
    };
    let mut report = Report {
        failure: None,
        ticks: 0,
        decided: 0,
        decided_again: 0,
        traffic: Traffic::default(),
        counts: Counts::default(),
        ended: None,
        trace: Trace::Off,
    };
    let (mut at, mut servers) = (0, String::new());
    if let Some(mut cluster) = cluster {
        at = cluster.now();
        if result.is_err() {
            servers = panics::caught(|| cluster.describe()).unwrap_or_default();
        }
        report.ticks = cluster.now();
        report.decided = cluster.checker().decided_len() + cluster.decided_next();
        report.decided_again = cluster.checker().decided_again();
        report.traffic = cluster.traffic();
        report.counts = cluster.counts().clone();
        report.trace = cluster.take_trace();
    }
    match result {
        Ok(ended) => report.ended = Some(ended),
        Err(violation) => report.failure = Some(Failure { violation, at, servers }),
    }
    report
}

/// Plays the steps and then the ending. Leaves the cluster behind also if it fails.
fn play<T: SimEntry>(
    plan: &Plan,
    trace: Trace,
    place: &mut Option<Cluster<T>>,
) -> Result<Ended, Violation> {
    let cluster = place.insert(Cluster::new(plan, trace)?);
    let mut steps = plan.steps.iter().peekable();
    for tick in 0..plan.setting.ticks {
        while let Some(step) = steps.next_if(|step| step.at <= tick) {
            cluster.act(&step.action)?;
        }
        cluster.pass_tick()?;
    }
    if let Some(asked) = plan.calm_takeovers() {
        cluster.check_stability(asked)?;
    }
    let ended = cluster.end(plan.setting.ending)?;
    cluster.checker().check_history()?;
    cluster.end_next()?;
    Ok(ended)
}
