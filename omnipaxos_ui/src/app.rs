//! What is shown: made of what a replica told, and nothing else.

use crate::{config::UIAppConfig, log::Log, observation::Observation, rates::Rates};
use omnipaxos::{
    ballot_leader_election::Ballot,
    messages::ballot_leader_election::HeartbeatReply,
    util::{ConfigurationId, NodeId},
};
use std::time::Duration;

/// The model of a dashboard: what one replica has told of itself and of its cluster.
///
/// It is drawn by its implementation of [`Widget`](ratatui::widgets::Widget), and knows neither a
/// terminal nor a clock:
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

/// A server, as the one that is shown knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Which one it is.
    pub pid: NodeId,
    /// What is known of the link to it.
    pub link: Link,
    /// The ballot that it gossips as its own, if it answered.
    pub ballot: Option<Ballot>,
    /// The server that it follows, if it answered and follows one.
    pub follows: Option<NodeId>,
    /// Whether it is content with the leader that it follows, if it answered.
    pub is_happy: Option<bool>,
    /// Number of entries that it has accepted. Only the leader knows.
    pub accepted_idx: Option<u64>,
    /// Number of entries of the leader's log that it has not accepted. Only the leader knows.
    pub lag: Option<Lag>,
}

/// The link to a server, as heartbeats show it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Link {
    /// There is none: it is the same server.
    Own,
    /// It answered the last complete heartbeat round.
    Answers,
    /// It did not.
    Silent,
    /// It observes the server that is shown, and is no member.
    Observes,
}

/// How many entries a follower is behind.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lag {
    /// So many.
    Exactly(u64),
    /// So many or more: the length of the leader's log is not among what was told.
    AtLeast(u64),
}

impl App {
    /// Of a replica from which nothing has been heard.
    pub fn new(config: UIAppConfig) -> Self {
        Self { config, seen: None, rates: Rates::default(), log: Log::default() }
    }

    /// Takes note of what the replica tells. `now` is the time since any moment, always the same.
    pub fn observe(&mut self, told: impl Into<Observation>, now: Duration) {
        let told = told.into();
        self.rates.observe(told.decided_idx, now);
        self.seen = Some(told);
    }

    /// The log lines, to be added to.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The log lines.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The rates at which the decided index grows here.
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The server that is shown.
    pub fn pid(&self) -> NodeId {
        self.config.pid
    }

    /// The configuration that it takes part in.
    pub fn configuration_id(&self) -> ConfigurationId {
        self.config.configuration_id
    }

    /// Whether it has told anything.
    pub fn is_fed(&self) -> bool {
        self.seen.is_some()
    }

    /// The leader as known here.
    pub fn leader(&self) -> Option<NodeId> {
        self.seen.as_ref()?.leader
    }

    /// Whether the server that is shown leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leader() == Some(self.pid())
    }

    /// The ballot of the leader, if somebody told it: the leader, or one that follows it.
    pub fn leader_ballot(&self) -> Option<Ballot> {
        let seen = self.seen.as_ref()?;
        let leader = seen.leader?;
        if leader == self.pid() {
            return Some(seen.ballot);
        }
        let told = seen.replies.values().flat_map(|reply| [reply.ballot, reply.leader]);
        told.filter(|ballot| ballot.pid == leader).max()
    }

    /// Number of entries decided here.
    pub fn decided_idx(&self) -> Option<u64> {
        Some(self.seen.as_ref()?.decided_idx)
    }

    /// Number of servers that it reaches: itself, and those that answered the last complete
    /// heartbeat round.
    pub fn reached(&self) -> usize {
        let counts = |link| match link {
            Link::Own => self.config.has_vote,
            Link::Answers => true,
            Link::Silent | Link::Observes => false,
        };
        self.servers().iter().filter(|server| counts(server.link)).count()
    }

    /// Number of servers that a quorum of the prepare phase has.
    pub fn read_quorum(&self) -> usize {
        self.config.read_quorum
    }

    /// Whether it reaches a quorum.
    pub fn is_quorum_connected(&self) -> bool {
        self.reached() >= self.read_quorum()
    }

    /// All servers of the configuration, by pid, and then the observers of this one.
    pub fn servers(&self) -> Vec<Server> {
        let observers = self.seen.iter().flat_map(|seen| &seen.observers).map(observer);
        self.config.nodes.iter().map(|pid| self.server(*pid)).chain(observers).collect()
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

/// A server that observes the one that is shown.
fn observer((pid, lag): (&NodeId, &u64)) -> Server {
    Server {
        pid: *pid,
        link: Link::Observes,
        ballot: None,
        follows: None,
        is_happy: None,
        accepted_idx: None,
        lag: Some(Lag::Exactly(*lag)),
    }
}

/// The server that the sender of a reply follows. The ballot of nobody has the number 0.
fn followed(reply: &HeartbeatReply) -> Option<NodeId> {
    (reply.leader.n > 0).then_some(reply.leader.pid)
}
