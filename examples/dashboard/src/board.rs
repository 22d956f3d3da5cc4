//! What is known of the cluster: the model of the dashboard. No process, no clock.

use crate::{
    links::Link,
    members::{Members, Part},
    protocol::{Change, Report},
};
use omnipaxos::{util::NodeId, ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_ui::{App, Log, LogItem, LogLine, Rates};
use slog::Level;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A server that runs and has not reported for so long does not answer.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a server that may stop is shown before it ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Observers that a server serves: those of the user, servers that join, and servers that were removed.
const OBSERVERS: usize = 16;

/// The servers, their links, and their reports.
pub(crate) struct Board {
    servers: BTreeMap<NodeId, Server>,
    members: Members,
    cut: BTreeSet<Link>,
    /// The largest decided index that any server has reported, those that were killed included.
    decided_idx: u64,
    /// How fast it grows.
    rates: Rates,
    /// What all servers logged, and what was done to them.
    log: Log,
    now: Duration,
}

/// A server.
pub(crate) struct Server {
    /// What it showed if it had a dashboard of its own.
    pub(crate) app: App,
    /// Its last report in this incarnation, and when that came.
    pub(crate) report: Option<(Report, Duration)>,
    is_running: bool,
    /// When it first reported that it may stop, in the present configuration.
    may_stop_since: Option<Duration>,
}

/// Whether a server is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Killed,
    Silent,
    Reports,
}

impl Board {
    /// The first members of the cluster. No server is there yet.
    pub(crate) fn new(founders: u64) -> Self {
        Self {
            servers: BTreeMap::new(),
            members: Members::founders(1..=founders),
            cut: BTreeSet::new(),
            decided_idx: 0,
            rates: Rates::default(),
            log: Log::default(),
            now: Duration::ZERO,
        }
    }

    /// Adds a server that does not run, and is linked to all others.
    pub(crate) fn add(&mut self, pid: NodeId, config: OmniPaxosConfig) {
        let app = App::new(config.into());
        let server = Server { app, report: None, is_running: false, may_stop_since: None };
        self.servers.insert(pid, server);
    }

    /// Forgets a server that has ended for good, and its links.
    pub(crate) fn forget(&mut self, pid: NodeId) {
        self.servers.remove(&pid);
        self.cut.retain(|link| link.other(pid).is_none());
    }

    pub(crate) fn set_running(&mut self, pid: NodeId, is_running: bool) {
        if let Some(server) = self.servers.get_mut(&pid) {
            server.is_running = is_running;
            server.report = None;
            server.may_stop_since = None;
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
        let running = self.servers.get_mut(&pid).filter(|server| server.is_running);
        let Some(server) = running else {
            return;
        };
        let items: Vec<_> = report.log.iter().cloned().map(|line| line.at(now)).collect();
        server.app.observe(&report.status, now);
        server.app.log_mut().extend(items.iter().cloned());
        self.log.extend(items);
        if self.members.learn(&report.status) {
            // They may have been members since they reported it.
            self.servers.values_mut().for_each(|server| server.may_stop_since = None);
            let (id, nodes) = (report.status.configuration_id, listed(&report.status.nodes));
            self.note(format!("configuration {id} begins, with the members {nodes}"), now);
        }
        if let Some(refusal) =
            report.refusal.as_ref().filter(|refusal| self.members.refuse(refusal))
        {
            self.note(format!("the members stay as they are: {}", refusal.why), now);
        }
        let is_present = report.status.configuration_id == self.members.configuration_id();
        let may_stop = is_present && report.status.may_stop == Some(true);
        if let Some(server) = self.servers.get_mut(&pid) {
            server.may_stop_since = may_stop.then(|| server.may_stop_since.unwrap_or(now));
            server.report = Some((report, now));
        }
    }

    /// Takes note of the time, when all reports have been taken.
    pub(crate) fn look(&mut self, now: Duration) {
        self.now = now;
        let reported = self.reports().map(|report| report.status.decided_idx);
        self.decided_idx = reported.fold(self.decided_idx, u64::max);
        self.rates.observe(self.decided_idx, now);
    }

    /// Writes into the log what was done.
    pub(crate) fn note(&mut self, text: String, at: Duration) {
        self.log.extend([LogItem::Line(LogLine { at, level: Level::Warning, text })]);
    }

    pub(crate) fn servers(&self) -> &BTreeMap<NodeId, Server> {
        &self.servers
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    /// The change of the members that the user wants, and the server that is to propose it: the leader if
    /// there is one. It waits for servers that are about to start.
    pub(crate) fn change(&self) -> Option<(NodeId, Change)> {
        let change = self.members.change()?;
        let is_starting = |pid: &NodeId| {
            self.members.part(*pid) == Part::Joiner && self.presence(*pid) == Presence::Silent
        };
        if change.nodes.iter().any(is_starting) {
            return None;
        }
        let is_member = |pid: &NodeId| self.members.present().contains(pid);
        let reports = self.reports().map(|report| report.status.pid);
        let proposer = self.leader().filter(is_member).or(reports.filter(is_member).min())?;
        Some((proposer, change))
    }

    /// The change to ask for, if any. From now on it may be decided.
    pub(crate) fn ask(&mut self) -> Option<(NodeId, Change)> {
        let change = self.change();
        if let Some((_, Change { nodes, .. })) = &change {
            self.members.ask(nodes);
        }
        change
    }

    /// Wants a server no longer: it leaves the members, and ends when it may. If this is under way
    /// already, it is to be a member.
    pub(crate) fn remove(&mut self, pid: NodeId, now: Duration) {
        let done = match self.members.part(pid) {
            Part::Leaver | Part::Removed | Part::Dropped => {
                self.members.want(pid);
                "is to be a member again"
            }
            Part::Member | Part::Joiner | Part::Observer if self.members.want_without(pid) => {
                "is to leave"
            }
            Part::Member | Part::Joiner | Part::Observer => "stays: no member would be left",
        };
        self.note(format!("server {pid} {done}"), now);
    }

    /// The servers that the user has removed and that need not run any more, with whether each still runs.
    pub(crate) fn dismissed(&self) -> Vec<(NodeId, Presence)> {
        let is_over = |since: Duration| self.now.saturating_sub(since) >= FAREWELL;
        let may_go = |pid: NodeId, server: &Server| match self.members.part(pid) {
            Part::Member | Part::Leaver | Part::Joiner | Part::Observer => false,
            Part::Removed | Part::Dropped if self.members.may_join(pid) => false,
            Part::Dropped => true,
            Part::Removed if self.presence(pid) == Presence::Killed => self.quorum_has_begun(),
            Part::Removed => server.may_stop_since.is_some_and(is_over),
        };
        let gone = self.servers.iter().filter(|(pid, server)| may_go(**pid, server));
        gone.map(|(pid, _)| (*pid, self.presence(*pid))).collect()
    }

    /// Whether a quorum of the members reports the present configuration, and has stored all that comes
    /// before it: then the servers that were removed may stop.
    fn quorum_has_begun(&self) -> bool {
        let has_begun = |Report { status, .. }: &&Report| {
            self.members.present().contains(&status.pid)
                && status.configuration_id == self.members.configuration_id()
                && status.stored_idx >= self.members.first_idx()
        };
        self.reports().filter(has_begun).count() > self.members.present().len() / 2
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
        let Some(server) = self.servers.get(&pid).filter(|server| server.is_running) else {
            return Presence::Killed;
        };
        match &server.report {
            Some((_, at)) if self.now.saturating_sub(*at) < SILENCE => Presence::Reports,
            Some(_) | None => Presence::Silent,
        }
    }

    /// The last reports of the servers that run.
    pub(crate) fn reports(&self) -> impl Iterator<Item = &Report> {
        self.servers.values().filter_map(|server| server.report.as_ref()).map(|(report, _)| report)
    }

    pub(crate) fn all_report(&self) -> bool {
        self.servers.keys().all(|pid| self.presence(*pid) == Presence::Reports)
    }

    /// The largest decided index that any server has reported.
    pub(crate) fn decided_idx(&self) -> u64 {
        self.decided_idx
    }

    /// The server that leads in the highest ballot, if any does.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |report: &&Report| report.status.leader == Some(report.status.pid);
        let highest = self.reports().filter(leads).max_by_key(|report| report.status.ballot)?;
        Some(highest.status.pid)
    }

    /// Whether the members are those that the user wants, and removed servers have ended; and all servers
    /// run, have decided the same log, and hold nothing else.
    pub(crate) fn all_agree(&self) -> bool {
        let Some(first) = self.reports().next() else {
            return false;
        };
        let is_needed =
            |pid: &NodeId| !matches!(self.members.part(*pid), Part::Removed | Part::Dropped);
        self.all_report()
            && self.members.change().is_none()
            && self.servers.keys().all(is_needed)
            && self.reports().all(|Report { status, digest, .. }| {
                status.waiting.entries == 0
                    && status.pending.entries == 0
                    && status.accepted_idx == status.decided_idx
                    && (status.decided_idx, *digest) == (first.status.decided_idx, first.digest)
            })
    }
}

/// The configuration of a server: a founder, or a server that observes others until the members include it.
pub(crate) fn config(pid: NodeId, founders: u64, observes: &[NodeId]) -> OmniPaxosConfig {
    let max_observers = OBSERVERS;
    let server_config = ServerConfig { pid, continues: true, max_observers, ..Default::default() };
    if !observes.is_empty() {
        return OmniPaxosConfig::observe(server_config, observes);
    }
    let nodes = (1..=founders).collect();
    let cluster_config = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    OmniPaxosConfig { cluster_config, server_config }
}

/// The pids in a line.
pub(crate) fn listed(pids: &[NodeId]) -> String {
    pids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{config, Board, Presence};
    use crate::protocol::{Change, Number, Report};
    use omnipaxos::util::NodeId;
    use omnipaxos_storage::memory_storage::MemoryStorage;
    use std::time::Duration;

    const LATER: Duration = Duration::from_secs(60);

    /// Members 1 to 3, and server 4, which observes them. All run.
    fn board() -> Board {
        let mut board = Board::new(3);
        for pid in 1..=4 {
            board.add(pid, config(pid, 3, if pid == 4 { &[1, 2, 3] } else { &[] }));
            board.set_running(pid, true);
            hear(&mut board, pid, 1, &[1, 2, 3], None);
        }
        board
    }

    /// The server reports this configuration, which begins at a hundred times its id and is stored.
    fn hear(board: &mut Board, pid: NodeId, id: u32, nodes: &[NodeId], may_stop: Option<bool>) {
        let replica = config(pid, 4, &[]).build(MemoryStorage::<Number>::default());
        let mut status = replica.unwrap().status();
        (status.configuration_id, status.nodes) = (id, nodes.to_vec());
        (status.epoch_idx, status.may_stop) = (Some(u64::from(id) * 100), may_stop);
        status.stored_idx = u64::from(id) * 100;
        let report = Report { status, digest: 0, log: Vec::new(), refusal: None };
        board.hear(pid, report, board.now);
    }

    fn nodes(asked: Option<(NodeId, Change)>) -> Option<Vec<NodeId>> {
        asked.map(|(_, change)| change.nodes)
    }

    #[test]
    fn a_joiner_that_is_removed_stays_while_a_change_may_make_it_a_member() {
        let mut board = board();
        board.members_mut().want(4);
        assert_eq!(nodes(board.ask()), Some(vec![1, 2, 3, 4]));
        board.remove(4, board.now);
        board.look(LATER);
        assert_eq!(board.dismissed(), []);
        // Nobody knows what becomes of the change: another one settles it.
        assert_eq!(nodes(board.ask()), Some(vec![1, 2, 3]));
        hear(&mut board, 1, 2, &[1, 2, 3], None);
        assert_eq!((board.dismissed(), board.ask()), (vec![(4, Presence::Silent)], None));
    }

    #[test]
    fn a_joiner_that_became_a_member_before_it_was_removed_leaves_as_a_member_does() {
        let mut board = board();
        board.members_mut().want(4);
        board.ask();
        board.remove(4, board.now);
        assert_eq!(board.dismissed(), []);
        hear(&mut board, 1, 2, &[1, 2, 3, 4], None);
        assert_eq!((board.dismissed(), nodes(board.ask())), (vec![], Some(vec![1, 2, 3])));
        hear(&mut board, 1, 3, &[1, 2, 3], None);
        hear(&mut board, 4, 3, &[1, 2, 3], Some(false));
        board.look(LATER);
        assert_eq!(board.dismissed(), []);
        hear(&mut board, 4, 3, &[1, 2, 3], Some(true));
        board.look(2 * LATER);
        assert_eq!(board.dismissed(), [(4, Presence::Silent)]);
    }

    #[test]
    fn a_server_that_no_change_names_ends_at_once() {
        let mut board = board();
        board.remove(4, board.now);
        assert_eq!((board.dismissed(), board.ask()), (vec![(4, Presence::Reports)], None));
    }

    #[test]
    fn a_removed_server_stays_while_a_change_may_make_it_a_member_again() {
        let mut board = board();
        board.remove(3, board.now);
        board.ask();
        hear(&mut board, 1, 2, &[1, 2], None);
        hear(&mut board, 3, 2, &[1, 2], Some(true));
        board.remove(3, board.now);
        assert_eq!(nodes(board.ask()), Some(vec![1, 2, 3]));
        board.remove(3, board.now);
        board.look(LATER);
        assert_eq!((board.dismissed(), nodes(board.ask())), (vec![], Some(vec![1, 2])));
        // The first of the two changes was decided; the server has not reported since.
        hear(&mut board, 1, 3, &[1, 2, 3], None);
        board.ask();
        hear(&mut board, 1, 4, &[1, 2], None);
        board.look(2 * LATER);
        assert_eq!(board.dismissed(), [], "it may stop in configuration 2 only");
    }

    #[test]
    fn a_killed_server_stays_until_a_quorum_has_what_it_holds() {
        let mut board = board();
        board.remove(3, board.now);
        board.ask();
        hear(&mut board, 1, 2, &[1, 2], None);
        hear(&mut board, 3, 2, &[1, 2], Some(false));
        board.set_running(3, false);
        board.look(LATER);
        assert_eq!(board.dismissed(), [], "one of two members is no quorum");
        hear(&mut board, 2, 2, &[1, 2], None);
        assert_eq!(board.dismissed(), [(3, Presence::Killed)]);
    }

    #[test]
    fn the_last_wanted_member_stays() {
        let mut board = board();
        board.members_mut().want(4);
        for pid in [1, 2, 3, 4] {
            board.remove(pid, board.now);
        }
        assert_eq!(nodes(board.change()), Some(vec![4]));
    }
}
