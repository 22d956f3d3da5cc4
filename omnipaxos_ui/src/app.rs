//! The model: computed only from what a replica reported.

use crate::{
    config::UIAppConfig,
    log::Log,
    observation::{Membership, Observation},
    rates::Rates,
};
use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::ballot_leader_election::HeartbeatReply,
    util::{ConfigurationId, NodeId},
};
use std::time::Duration;

/// The model of a dashboard: the state that one replica reported about itself and its cluster.
///
/// Its implementation of [`Widget`](ratatui::widgets::Widget) draws it. It uses neither a terminal
/// nor a clock:
///
/// ```
/// # use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
/// # let config = OmniPaxosConfig {
/// #     cluster_config: ClusterConfig {
/// #         configuration_id: 1,
/// #         nodes: vec![1, 2, 3],
/// #         ..Default::default()
/// #     },
/// #     server_config: ServerConfig { pid: 2, ..Default::default() },
/// # };
/// # #[derive(Clone, Debug, omnipaxos::macros::Entry)]
/// # struct Number(u64);
/// # use omnipaxos_storage::memory_storage::MemoryStorage;
/// # let storage = MemoryStorage::<Number>::default();
/// # let replica = config.clone().build(storage)?;
/// use omnipaxos_ui::{ratatui::{backend::TestBackend, Terminal}, App};
/// use std::time::Duration;
///
/// let mut app = App::new(config.into());
/// app.observe(replica.get_ui_states(), Duration::ZERO);
/// let mut terminal = Terminal::new(TestBackend::new(80, 24))?;
/// terminal.draw(|frame| frame.render_widget(&app, frame.area()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct App {
    config: UIAppConfig,
    seen: Option<Observation>,
    rates: Rates,
    log: Log,
}

/// A server, as the shown server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// The id of the server.
    pub pid: NodeId,
    /// The state of the link to it.
    pub link: Link,
    /// The ballot that it sends as its own, if it answered.
    pub ballot: Option<Ballot>,
    /// The server that it follows, if it answered and follows one.
    pub follows: Option<NodeId>,
    /// Whether it is happy with the leader that it follows, if it answered.
    pub is_happy: Option<bool>,
    /// Number of entries that it has accepted. Only the leader knows it.
    pub accepted_idx: Option<u64>,
    /// Number of entries of the leader's log that it has not accepted. Only the leader knows it.
    pub lag: Option<Lag>,
}

/// The link to a server, as heartbeats show it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// No link: it is the shown server itself.
    Own,
    /// It answered the last complete heartbeat round.
    Answers,
    /// It did not answer the last complete heartbeat round.
    Silent,
    /// It observes the shown server, and is no member.
    Observes,
    /// A change of the members that was proposed at the shown server waits until it has caught up.
    Joins,
}

/// The number of entries that a follower lacks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lag {
    /// Exactly this number.
    Exactly(u64),
    /// This number or more: the length of the leader's log was not reported.
    AtLeast(u64),
}

impl App {
    /// Creates the model of a replica that has not reported anything.
    pub fn new(config: UIAppConfig) -> Self {
        Self { config, seen: None, rates: Rates::default(), log: Log::default() }
    }

    /// Records the state that the replica reports. `now` is the time since any fixed moment.
    ///
    /// Where the log [continues](omnipaxos::ServerConfig::continues), use
    /// [`status`](omnipaxos::OmniPaxos::status): it contains the members.
    pub fn observe(&mut self, told: impl Into<Observation>, now: Duration) {
        let told = told.into();
        if let Some(membership) = &told.membership {
            self.config.follow(membership);
        }
        self.rates.observe(told.decided_idx, now);
        self.seen = Some(told);
    }

    /// Returns the log lines, to add more.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Returns the log lines.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the rates at which the decided index grows here.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Returns the id of the shown server.
    pub fn pid(&self) -> NodeId {
        self.config.pid
    }

    /// Returns the configuration of the shown server.
    pub fn configuration_id(&self) -> ConfigurationId {
        self.config.configuration_id
    }

    /// Returns the index at which the configuration of the shown server begins, in a log that continues.
    pub fn epoch_idx(&self) -> Option<u64> {
        self.membership()?.first_idx
    }

    /// Returns whether the shown server may be stopped for good; `None` if it was not removed from the
    /// members.
    pub fn may_stop(&self) -> Option<bool> {
        self.membership()?.may_stop
    }

    /// Returns the number of members of the configuration, as far as they are known.
    pub fn members(&self) -> usize {
        self.config.members()
    }

    fn membership(&self) -> Option<&Membership> {
        self.seen.as_ref()?.membership.as_ref()
    }

    /// Returns whether the replica has reported anything.
    pub fn is_fed(&self) -> bool {
        self.seen.is_some()
    }

    /// Returns the leader that the shown server knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.seen.as_ref()?.leader
    }

    /// Returns whether the shown server leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.pid())
    }

    /// Returns the ballot of the leader, if the leader or one of its followers reported it.
    pub fn leader_ballot(&self) -> Option<Ballot> {
        let seen = self.seen.as_ref()?;
        let leader = seen.leader?;
        if leader == self.pid() {
            return Some(seen.ballot);
        }
        let told = seen.replies.values().flat_map(|reply| [reply.ballot, reply.leader]);
        told.filter(|ballot| ballot.pid == leader).max()
    }

    /// Returns the number of entries decided here.
    pub fn decided_idx(&self) -> Option<u64> {
        Some(self.seen.as_ref()?.decided_idx)
    }

    /// Returns the number of servers that it reaches.
    ///
    /// These are itself, and the servers that answered the last complete heartbeat round.
    pub fn reached(&self) -> usize {
        let counts = |link| match link {
            Link::Own => self.config.has_vote,
            Link::Answers => true,
            Link::Silent | Link::Observes | Link::Joins => false,
        };
        self.servers().iter().filter(|server| counts(server.link)).count()
    }

    /// Returns the number of servers in a read quorum.
    pub fn read_quorum(&self) -> usize {
        self.config.read_quorum
    }

    /// Returns whether it reaches a read quorum.
    pub fn is_quorum_connected(&self) -> bool {
        self.reached() >= self.read_quorum()
    }

    /// Returns all servers of the configuration by pid, then the servers that join, and then the other
    /// observers of this one.
    pub fn servers(&self) -> Vec<Server> {
        let joiners = || self.membership().into_iter().flat_map(|membership| &membership.joiners);
        let joins = |pid: &NodeId| !self.config.nodes.contains(pid);
        let observers = self.seen.iter().flat_map(|seen| &seen.observers);
        let observers =
            observers.filter(|(pid, _)| joins(pid) && joiners().all(|(joiner, _)| joiner != *pid));
        self.config
            .nodes
            .iter()
            .map(|pid| self.server(*pid))
            .chain(joiners().filter(|(pid, _)| joins(pid)).map(|of| without_vote(of, Link::Joins)))
            .chain(observers.map(|of| without_vote(of, Link::Observes)))
            .collect()
    }

    fn server(&self, pid: NodeId) -> Server {
        let accepted_idx = self.seen.as_ref().and_then(|seen| seen.accepted.get(&pid)).copied();
        let lag = self.lag(accepted_idx);
        if pid == self.pid() {
            let ballot = self.seen.as_ref().map(|seen| seen.ballot);
            let follows = self.leader();
            return Server {
                pid,
                link: Link::Own,
                ballot,
                follows,
                is_happy: None,
                accepted_idx,
                lag,
            };
        }
        let reply = self.seen.as_ref().and_then(|seen| seen.replies.get(&pid));
        Server {
            pid,
            link: reply.map_or(Link::Silent, |_| Link::Answers),
            ballot: reply.map(|reply| reply.ballot),
            follows: reply.and_then(followed),
            is_happy: reply.map(|reply| reply.happy),
            accepted_idx,
            lag,
        }
    }

    fn lag(&self, accepted_idx: Option<u64>) -> Option<Lag> {
        let accepted_idx = accepted_idx?;
        let seen = self.seen.as_ref()?;
        if let Some(own) = seen.accepted.get(&self.pid()) {
            return Some(Lag::Exactly(own.saturating_sub(accepted_idx)));
        }
        let longest = seen.accepted.values().copied().max()?.max(seen.decided_idx);
        Some(Lag::AtLeast(longest.saturating_sub(accepted_idx)))
    }
}

/// Describes a server that is no member.
fn without_vote((pid, lag): (&NodeId, &u64), link: Link) -> Server {
    Server {
        pid: *pid,
        link,
        ballot: None,
        follows: None,
        is_happy: None,
        accepted_idx: None,
        lag: Some(Lag::Exactly(*lag)),
    }
}

/// Returns the server that the sender of a reply follows. Number 0 means: none.
fn followed(reply: &HeartbeatReply) -> Option<NodeId> {
    (reply.leader.n > 0).then_some(reply.leader.pid)
}
