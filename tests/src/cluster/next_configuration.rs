//! The next configuration, started as users of 0.2.2 do: where a stop sign is decided, a server builds
//! another replica, with the nodes of the stop sign and an empty storage. The replicas of the
//! configuration before continue for a while.

use super::{
    server::{Running, Server},
    Cluster, Trace,
};
use crate::{
    checker::{ensure, Check, Violation},
    coverage::{Counts, Kind},
    describe,
    plan::{Drains, Plan},
    rng::Rng,
    value::SimEntry,
};
use omnipaxos::{
    messages::{sequence_paxos::PaxosMsg, Message},
    status::{Dropped, Status},
};

/// One in this number of messages that arrive also reaches the replica of the other configuration at that
/// server: users may take it for one of its own.
const STRAYS: u64 = 3;

/// The next configuration.
#[derive(Debug)]
pub(super) enum Next<T: SimEntry> {
    /// There is none.
    Never,
    /// It begins when a stop sign is decided.
    Planned(Box<Plan>),
    /// It has begun.
    Begun {
        /// What happens there; the times count from its beginning.
        plan: Box<Plan>,
        /// How many of the steps were done.
        done: usize,
        /// The tick of the run in which it began.
        since: u64,
        /// Its servers.
        cluster: Box<Cluster<T>>,
    },
}

impl<T: SimEntry> Cluster<T> {
    /// Lets a tick of the run pass also for the next configuration.
    pub(super) fn pass_tick_of_next(&mut self) -> Result<(), Violation> {
        self.begin_next()?;
        let (mut plan, mut done, since, mut cluster) =
            match std::mem::replace(&mut self.next, Next::Never) {
                Next::Begun { plan, done, since, cluster } => (plan, done, since, cluster),
                other @ (Next::Never | Next::Planned(_)) => {
                    self.next = other;
                    return Ok(());
                }
            };
        let passed = self.tick_next(&mut plan, &mut done, since, &mut cluster);
        self.trace.take_over(&mut cluster.trace);
        self.next = Next::Begun { plan, done, since, cluster };
        passed
    }

    fn tick_next(
        &mut self,
        plan: &mut Plan,
        done: &mut usize,
        since: u64,
        next: &mut Cluster<T>,
    ) -> Result<(), Violation> {
        for pid in self.stopped_pids() {
            next.start_soon(pid);
        }
        while let Some(step) = plan.steps.get(*done).filter(|step| since + step.at <= self.now) {
            next.act(&step.action)?;
            *done += 1;
        }
        next.pass_tick()?;
        for message in std::mem::take(&mut self.strays) {
            next.hear_stray(message, Kind::LowerStray)?;
        }
        for message in std::mem::take(&mut next.strays) {
            self.hear_stray(message, Kind::HigherStray)?;
        }
        Ok(())
    }

    /// Begins the next configuration once a server shows its stop sign.
    fn begin_next(&mut self) -> Result<(), Violation> {
        if !matches!(self.next, Next::Planned(_)) || self.stopped_pids().is_empty() {
            return Ok(());
        }
        let Next::Planned(plan) = std::mem::replace(&mut self.next, Next::Never) else {
            return Ok(());
        };
        self.counts.add(Kind::NextConfiguration);
        let pids = self.servers.iter().take(self.size()).map(Server::pid);
        let stays = |pid: u64| plan.setting.servers.iter().any(|server| server.config.pid == pid);
        for _ in pids.filter(|pid| !stays(*pid)) {
            self.counts.add(Kind::Removed);
        }
        let trace = match self.trace {
            Trace::Off => Trace::Off,
            Trace::Kept(_) => Trace::Kept(Vec::new()),
            Trace::Printed => Trace::Printed,
        };
        self.trace.note(|| format!("{} the next configuration begins", self.now));
        let mut cluster = Cluster::unstarted(&plan, trace);
        cluster.now = self.now;
        cluster.is_next = true;
        // The operator starts those that join.
        for at in 0..cluster.servers.len() {
            let pid = cluster.servers[at].pid();
            if self.servers.iter().all(|server| server.pid() != pid) {
                cluster.start_soon(pid);
            }
        }
        self.next = Next::Begun { plan, done: 0, since: self.now, cluster: Box::new(cluster) };
        Ok(())
    }

    /// The servers that show a stop sign.
    fn stopped_pids(&self) -> Vec<u64> {
        let is_stopped = |server: &&Server<T>| {
            server.replica().is_some_and(|replica| replica.is_reconfigured().is_some())
        };
        self.servers.iter().filter(is_stopped).map(Server::pid).collect()
    }

    /// Lets a server start for the first time, after the ticks of its setting.
    fn start_soon(&mut self, pid: u64) {
        let now = self.now;
        let Some(server) = self.servers.iter_mut().find(|server| server.pid() == pid) else {
            return;
        };
        if let Running::Down { until: until @ u64::MAX } = &mut server.running {
            *until = now + 1 + server.setting.starts_at;
        }
    }

    /// Keeps some of the messages that arrive for the other configuration. Not what travels as in
    /// 0.2.2, without the id of a configuration: users must keep that apart, see `divergence.md`.
    pub(super) fn keep_stray(&mut self, message: &Message<T>) {
        let is_watched = self.is_next || matches!(self.next, Next::Begun { .. });
        let bears_none = match message {
            Message::SequencePaxos(paxos) => matches!(paxos.msg, PaxosMsg::ProposalForward(_)),
            Message::BLE(_) => false,
        };
        self.arrived += 1;
        if is_watched && !bears_none && Rng::of(&[self.seed, self.arrived]).chance(1, STRAYS) {
            self.strays.push(message.clone());
        }
    }

    /// A message of another configuration reaches a replica, and changes nothing but what the replica
    /// reports of higher configurations.
    fn hear_stray(&mut self, message: Message<T>, kind: Kind) -> Result<(), Violation> {
        let receiver = message.get_receiver();
        let Some(at) = self.servers.iter().position(|server| server.pid() == receiver) else {
            return Ok(());
        };
        if self.servers[at].replica().is_none() || self.servers[at].frozen_until > self.now {
            return Ok(());
        }
        self.counts.add(kind);
        let shown = |server: &Server<T>| server.replica().map(|replica| known(replica.status()));
        let before = shown(&self.servers[at]);
        let words = describe::message(&message);
        self.trace.note(|| format!("{} {}: {words}", self.now, kind.name()));
        let drains = std::mem::replace(&mut self.setting.drains, Drains::EachTick);
        self.handle(at, message)?;
        self.setting.drains = drains;
        let after = shown(&self.servers[at]);
        ensure!(
            after.is_none() || after == before,
            Check::ForgedIgnored,
            "server {at}: {words} of another configuration makes of {before:?} {after:?}"
        );
        match drains {
            Drains::EachInput => self.drain(at),
            Drains::EachTick | Drains::Rarely(_) => Ok(()),
        }
    }

    /// Whether the next configuration has begun, and has ticks with faults left.
    pub fn has_faults_next(&self) -> bool {
        match &self.next {
            Next::Never | Next::Planned(_) => false,
            Next::Begun { plan, since, .. } => self.now < since + plan.setting.ticks,
        }
    }

    /// The next configuration, if it has begun, with what is planned for it. From then on only that
    /// exists.
    pub fn take_next(&mut self) -> Option<(Box<Plan>, Box<Cluster<T>>)> {
        match std::mem::replace(&mut self.next, Next::Never) {
            Next::Never | Next::Planned(_) => None,
            Next::Begun { plan, cluster, .. } => Some((plan, cluster)),
        }
    }

    /// Takes over what was counted in another configuration.
    pub fn take_counts(&mut self, next: &mut Self) {
        self.trace.take_over(&mut next.trace);
        self.counts.merge(&std::mem::take::<Counts>(&mut next.counts));
        self.traffic.paxos += next.traffic.paxos;
        self.traffic.heartbeats += next.traffic.heartbeats;
        self.traffic.observing += next.traffic.observing;
        self.traffic.observers += next.traffic.observers;
        self.decided_next += next.checker.decided_len();
    }

    /// Number of entries that the next configuration has decided.
    pub fn decided_next(&self) -> u64 {
        self.decided_next
    }

    /// The next configuration, in short.
    pub(super) fn describe_next(&self) -> String {
        match &self.next {
            Next::Never | Next::Planned(_) => String::new(),
            Next::Begun { cluster, .. } => format!("; next: {}", cluster.describe()),
        }
    }
}

/// What a message of another configuration must not change.
fn known(mut status: Status) -> Status {
    status.dropped = Dropped::default();
    status.higher_configuration = None;
    status
}
