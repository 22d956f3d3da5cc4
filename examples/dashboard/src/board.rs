//! What is known of the cluster: the model of the dashboard. No process, no clock.

use crate::{links::Link, protocol::Report};
use omnipaxos::{util::NodeId, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_ui::{App, Log, LogItem, LogLine, Rates};
use slog::Level;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A server that runs and has not reported for so long does not answer.
const SILENCE: Duration = Duration::from_secs(2);

/// The servers, their links, and their reports.
pub(crate) struct Board {
    members: BTreeMap<NodeId, Member>,
    cut: BTreeSet<Link>,
    /// How fast the largest decided index grows.
    rates: Rates,
    /// What all servers logged, and what was done to them.
    log: Log,
    now: Duration,
}

/// A server.
pub(crate) struct Member {
    /// What it showed if it had a dashboard of its own.
    pub(crate) app: App,
    /// Its last report in this incarnation, and when that came.
    pub(crate) report: Option<(Report, Duration)>,
    is_running: bool,
}

/// Whether a server is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Killed,
    Silent,
    Reports,
}

impl Board {
    /// Servers that do not run, all linked: members and observers.
    pub(crate) fn new(members: u64, observers: u64) -> Self {
        let member = |pid: NodeId| {
            let app = App::new(config(pid, members).into());
            (pid, Member { app, report: None, is_running: false })
        };
        Self {
            members: (1..=members + observers).map(member).collect(),
            cut: BTreeSet::new(),
            rates: Rates::default(),
            log: Log::default(),
            now: Duration::ZERO,
        }
    }

    pub(crate) fn set_running(&mut self, pid: NodeId, is_running: bool) {
        if let Some(member) = self.members.get_mut(&pid) {
            member.is_running = is_running;
            member.report = None;
        }
    }

    pub(crate) fn set_cut(&mut self, link: Link, is_cut: bool) {
        if is_cut {
            self.cut.insert(link);
        } else {
            self.cut.remove(&link);
        }
    }

    /// Takes note of a report. What a server sent before it was killed may come after.
    pub(crate) fn hear(&mut self, pid: NodeId, report: Report, now: Duration) {
        let running = self.members.get_mut(&pid).filter(|member| member.is_running);
        let Some(member) = running else {
            return;
        };
        let items: Vec<_> = report.log.iter().cloned().map(|line| line.at(now)).collect();
        member.app.observe(&report.status, now);
        member.app.log_mut().extend(items.iter().cloned());
        self.log.extend(items);
        member.report = Some((report, now));
    }

    /// Takes note of the time, when all reports have been taken.
    pub(crate) fn look(&mut self, now: Duration) {
        self.now = now;
        self.rates.observe(self.decided_idx(), now);
    }

    /// Writes into the log what was done.
    pub(crate) fn note(&mut self, text: String, at: Duration) {
        self.log.extend([LogItem::Line(LogLine { at, level: Level::Warning, text })]);
    }

    pub(crate) fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    pub(crate) fn cut(&self) -> &BTreeSet<Link> {
        &self.cut
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn presence(&self, pid: NodeId) -> Presence {
        let Some(member) = self.members.get(&pid).filter(|member| member.is_running) else {
            return Presence::Killed;
        };
        match &member.report {
            Some((_, at)) if self.now.saturating_sub(*at) < SILENCE => Presence::Reports,
            Some(_) | None => Presence::Silent,
        }
    }

    /// The last reports of the servers that run.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.members.values().filter_map(|member| member.report.as_ref()).map(|(report, _)| report)
    }

    pub(crate) fn all_report(&self) -> bool {
        self.members.keys().all(|pid| self.presence(*pid) == Presence::Reports)
    }

    /// The largest decided index of any server.
    pub(crate) fn decided_idx(&self) -> u64 {
        self.reports().map(|report| report.status.decided_idx).max().unwrap_or(0)
    }

    /// The server that leads in the highest ballot, if any does.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |report: &&Report| report.status.leader == Some(report.status.pid);
        let highest = self.reports().filter(leads).max_by_key(|report| report.status.ballot)?;
        Some(highest.status.pid)
    }

    /// Whether all servers run, have decided the same log, and hold nothing else.
    pub(crate) fn all_agree(&self) -> bool {
        let Some(first) = self.reports().next() else {
            return false;
        };
        self.all_report()
            && self.reports().all(|Report { status, digest, .. }| {
                status.waiting.entries == 0
                    && status.pending.entries == 0
                    && status.accepted_idx == status.decided_idx
                    && (status.decided_idx, *digest) == (first.status.decided_idx, first.digest)
            })
    }
}

/// The configuration of a server: the first are members, and the others observe all of them.
pub(crate) fn config(pid: NodeId, members: u64) -> OmniPaxosConfig {
    let nodes: Vec<NodeId> = (1..=members).collect();
    let observes = if pid > members { nodes.clone() } else { Vec::new() };
    OmniPaxosConfig {
        cluster_config: ClusterConfig { configuration_id: 1, nodes, ..Default::default() },
        server_config: ServerConfig { pid, observes, max_observers: 8, ..Default::default() },
    }
}
