//! Ballot Leader Election (paper §5): exchanges ballots and elects a quorum-connected server.
//!
//! In each heartbeat round a server asks all others for their ballot, the leader that they follow,
//! and whether they are happy with it.
//! - A leader is happy while it reaches the quorum that it needs.
//! - A follower is happy while its leader answers, is happy, and still leads in the ballot that the
//!   follower follows.
//! - A server takes over if it is unhappy, reaches a quorum, and no server that answers is happy.
//! - If a better server can take over, it waits one round for that. A server that lost its quorum
//!   recently is not better, and waits one round more for a server that did not.
//!
//! The election does not see the log and proves nothing. Its result is a hint for Sequence Paxos.

mod candidates;
mod clocks;
mod heartbeats;
mod pace;
mod relay;
mod success;
mod takeover;

pub use crate::ballot::Ballot;

use self::{
    candidates::Candidates,
    clocks::Clocks,
    heartbeats::Mine,
    pace::{Late, Pace, Waits},
    relay::Link,
    success::Success,
    takeover::RoundPoint,
};
use crate::{
    clock::Tick,
    config::OmniPaxosConfig,
    identity::mix,
    ids::{ConfigurationId, NodeId},
    membership::{Membership, Quorum},
    messages::ballot_leader_election::{HeartbeatMsg, HeartbeatReply, HeartbeatRequest},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The election of the leader, from the view of one server.
#[derive(Clone, Debug)]
pub(crate) struct BallotLeaderElection {
    config_id: ConfigurationId,
    pid: NodeId,
    members: Arc<Membership>,
    /// The ballot in which this server took over last; number 0 before that.
    ballot: Ballot,
    /// The ballot of the leader that this server follows. It never decreases in one incarnation.
    leader: Ballot,
    /// Whether that leader was named in this round. Earlier replies do not concern it.
    is_leader_new: bool,
    happy: bool,
    /// The priority in the ballot of the next takeover.
    priority: u32,
    /// The size limit of an entry in the storage of this server, which the requests report.
    max_entry_bytes: u64,
    /// The highest ballot seen anywhere.
    highest: Ballot,
    /// The other servers that may take over.
    candidates: Candidates,
    /// The peers whose clocks run.
    clocks: Clocks,
    /// If a better server may take over: the round at whose end this server stops waiting for it.
    yields_until: Option<u32>,
    /// Whether a read quorum sent messages in the last round. True in the first round.
    heard_of_quorum: bool,
    /// Whether a read quorum answered in any round so far.
    had_quorum: bool,
    /// For this number of rounds this server does not wait for a better one: it did so recently.
    insists: u32,
    /// For this number of rounds this server counts as not steady.
    unsteady_rounds: u32,
    /// For this number of rounds this server does not take over, since no quorum promised its
    /// ballot.
    rests: u32,
    /// The success of this server as a leader.
    success: Success,
    /// The number of rounds in which nothing moved here.
    stalled_rounds: u32,
    /// For this number of rounds a request of the user does not make it take over again.
    asked_rounds: u32,
    /// Whether the user asked in these rounds.
    is_asked: bool,
    /// The state that the last request reported.
    last_reported: Option<Mine>,
    /// The ballot that this server has promised. It refuses leaders below.
    promise: Ballot,
    preempted: Preempted,
    round: u32,
    pace: Pace,
    /// The replies to this round, one per peer.
    replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The replies to the previous round.
    last_replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The replies to earlier rounds that arrived in this one, the latest of each peer. They show
    /// that a peer answers, and do not count for a quorum.
    late_replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The same in the previous round.
    last_late_replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The peers that reported in the last round that they are happy with a leader which denied it.
    refuted: BTreeSet<NodeId>,
    /// The peers that sent a message in this round.
    heard_of: BTreeSet<NodeId>,
    /// Number of rounds in which a peer, not the leader, reported that it is happy with the present leader in
    /// the present ballot.
    content_rounds: BTreeMap<NodeId, u32>,
    /// Whether the leader answered, and sent requests, in the last rounds.
    link: Link,
    /// Whether this server lacks entries that its sources have trimmed.
    lacks_entries: bool,
    is_request_due: bool,
    /// Number of ticks until the first request, if this server [keeps the cadence](Self::keep_cadence)
    /// of an earlier epoch. The first round is longer by these.
    first_request_in: u64,
    /// In the first round: the peers that answered in the epoch before.
    answered_before: BTreeSet<NodeId>,
    /// Before there is a leader: the peers that sent a request in this round and had not answered
    /// before. They get another request, since the first one may have come before their start.
    asked_again: BTreeMap<NodeId, Asked>,
    /// The peers to which a reply is due, and the rounds of their requests.
    replies_due: BTreeMap<NodeId, u32>,
}

/// Whether a request to a peer has left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Asked {
    Due,
    Done,
}

/// Whether this server was refused as a leader for a higher ballot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Preempted {
    No,
    /// In this round. Followers of the higher ballot may not have reported it yet.
    Lately,
    /// Before this round began.
    Known,
}

/// The result of a tick.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    GoesOn,
    Ended,
}

/// What a heartbeat shows about its sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It sent a request.
    Asks,
    /// It sent a reply that is out of date.
    OutOfDate,
    /// It answers, as before.
    Answers,
    /// It did not answer the last round, and now it does.
    Back,
}

impl BallotLeaderElection {
    /// Creates the election of a server that has promised `promise` in an earlier incarnation. The
    /// server follows no leader at first, and never leads in a ballot of that incarnation.
    pub(crate) fn new(
        config: &OmniPaxosConfig,
        members: Arc<Membership>,
        promise: Ballot,
        max_entry_bytes: u64,
    ) -> Self {
        let (cluster, server) = (&config.cluster_config, &config.server_config);
        let (config_id, pid) = (cluster.configuration_id, members.pid());
        let mut ble = Self {
            config_id,
            pid,
            members,
            ballot: Ballot::with(config_id, 0, server.leader_priority, pid),
            leader: Ballot::default(),
            is_leader_new: false,
            happy: false,
            priority: server.leader_priority,
            max_entry_bytes,
            highest: promise,
            candidates: Candidates::default(),
            clocks: Clocks::default(),
            yields_until: None,
            heard_of_quorum: true,
            had_quorum: false,
            insists: 0,
            unsteady_rounds: 0,
            rests: 0,
            success: Success::default(),
            stalled_rounds: 0,
            asked_rounds: 0,
            is_asked: false,
            last_reported: None,
            promise,
            preempted: Preempted::No,
            round: 1,
            pace: Pace::new(server.election_tick_timeout, server.max_election_tick_factor),
            replies: BTreeMap::new(),
            last_replies: BTreeMap::new(),
            late_replies: BTreeMap::new(),
            last_late_replies: BTreeMap::new(),
            refuted: BTreeSet::new(),
            heard_of: BTreeSet::new(),
            content_rounds: BTreeMap::new(),
            link: Link::default(),
            lacks_entries: false,
            is_request_due: true,
            first_request_in: 0,
            answered_before: BTreeSet::new(),
            asked_again: BTreeMap::new(),
            replies_due: BTreeMap::new(),
        };
        if !promise.is_nobodys() {
            ble.be_unsteady();
        }
        ble
    }

    /// Sends the first request when the next one of `earlier`, the election of the epoch before, would have
    /// been due. So a change of epochs adds no heartbeats. Peers that answered there have missed nothing.
    ///
    /// It is meant for a server that expects another one to lead at once. If that server has failed
    /// meanwhile, the others take over later by this delay.
    pub(crate) fn keep_cadence(&mut self, earlier: &Self) {
        if !earlier.is_request_due {
            self.first_request_in = earlier.next_timeout();
            self.is_request_due = false;
            self.last_reported = Some(self.mine());
        }
        let answered = self.members.peers().iter().filter(|peer| earlier.is_there(**peer));
        self.answered_before = answered.copied().collect();
    }

    /// Returns the priority of the next takeover.
    pub(crate) fn priority(&self) -> u32 {
        self.priority
    }

    /// Lets one tick pass. `enough` returns whether a leader that reaches this number of servers,
    /// including itself, has the quorum that it needs.
    pub(crate) fn tick(&mut self, enough: impl Fn(&Quorum, usize) -> bool) -> Round {
        if self.first_request_in > 0 {
            self.first_request_in -= 1;
            self.is_request_due |= self.first_request_in == 0;
            return Round::GoesOn;
        }
        match self.pace.tick(self.waits()) {
            Tick::Running => Round::GoesOn,
            Tick::Expired => {
                self.end_round(enough);
                Round::Ended
            }
        }
    }

    /// Returns the number of ticks after which the round ends, or the first request is due; at least 1.
    pub(crate) fn next_timeout(&self) -> u64 {
        match self.first_request_in == 0 {
            true => self.pace.remaining(self.waits()),
            false => self.first_request_in,
        }
    }

    /// Lets ticks pass, fewer than [`next_timeout`](Self::next_timeout).
    pub(crate) fn pass(&mut self, ticks: u64) {
        match self.first_request_in == 0 {
            true => self.pace.pass(ticks),
            false => self.first_request_in = self.first_request_in.saturating_sub(ticks),
        }
    }

    /// Records that nothing moves here, though something waits. The round that has begun becomes a little longer.
    /// Servers, and rounds, differ in by how much. An observer tries another relay now and then.
    pub(crate) fn note_stall(&mut self) {
        let number = mix([self.pid, u64::from(self.round)].into_iter());
        self.pace.vary(number >> 32);
        self.stalled_rounds = self.stalled_rounds.wrapping_add(1);
    }

    fn waits(&self) -> Waits {
        let mut late = self.last_late_replies.keys();
        let have_late_answered = late.all(|peer| self.replies.contains_key(peer));
        Waits::if_not(have_late_answered && self.have_all_answered())
    }

    /// Handles a heartbeat that has passed validation.
    pub(crate) fn handle(&mut self, from: NodeId, msg: HeartbeatMsg) -> Peer {
        self.heard_of.insert(from);
        match msg {
            HeartbeatMsg::Request(request) => {
                self.replies_due.insert(from, request.round);
                self.handle_request(from, &request);
                Peer::Asks
            }
            HeartbeatMsg::Reply(reply) => self.handle_reply(from, reply),
        }
    }

    /// Answers the request of an observer, which counts for nothing else.
    pub(crate) fn handle_observer(&mut self, from: NodeId, round: u32) {
        self.replies_due.insert(from, round);
    }

    /// Records the state that a request reports. If its sender has become unhappy since its reply
    /// in this round, the reply counts as unhappy.
    fn handle_request(&mut self, from: NodeId, request: &HeartbeatRequest) {
        self.see(request.leader);
        self.clocks.record(from);
        let is_missed = match (self.leader.is_nobodys(), self.pace.is_lengthened()) {
            // The request of a long round may be lost. A second request shows that before the
            // round ends.
            (_, true) => !self.replies.contains_key(&from),
            (true, false) => !self.answered(from) && !self.replies.contains_key(&from),
            (false, false) => false,
        };
        // The first request is due later, to all.
        if is_missed && self.first_request_in == 0 {
            self.asked_again.entry(from).or_insert(Asked::Due);
        }
        if !self.candidates.record(from, request) {
            return;
        }
        if request.happy {
            return self.note_recovery(from, request);
        }
        if let Some(reply) = self.replies.get_mut(&from).filter(|reply| reply.happy) {
            (reply.happy, reply.leader) = (false, request.leader);
            if self.leader.pid == from && !self.is_leader_new {
                self.happy = false;
            }
            self.take_over_if_all_answered();
        }
    }

    /// In a long round, a leader that replied as unhappy may have become happy since.
    fn note_recovery(&mut self, from: NodeId, request: &HeartbeatRequest) {
        if !self.pace.is_lengthened() || self.leader.pid != from || self.is_leader_new {
            return;
        }
        let Some(mut reply) = self.replies.get(&from).copied().filter(|reply| !reply.happy) else {
            return;
        };
        (reply.happy, reply.leader) = (true, request.leader);
        self.happy |= self.is_content_with(&reply);
        self.replies.insert(from, reply);
    }

    /// Counts a reply, once per peer and round (paper §5.2).
    fn handle_reply(&mut self, from: NodeId, reply: HeartbeatReply) -> Peer {
        self.see(reply.ballot.max(reply.leader));
        let peer = if self.is_there(from) { Peer::Answers } else { Peer::Back };
        if reply.round != self.round {
            if self.replies.contains_key(&from) {
                return Peer::Answers;
            }
            return match self.pace.note_late_reply(reply.round) {
                Late::Reply => {
                    self.late_replies.insert(from, reply);
                    peer
                }
                Late::OutOfDate => Peer::OutOfDate,
            };
        }
        if self.replies.contains_key(&from) {
            return Peer::Answers;
        }
        self.pace.note_reply();
        self.replies.insert(from, reply);
        if reply.happy && reply.leader > self.leader && reply.leader.pid != self.pid {
            self.name_leader(reply.leader);
            if reply.leader.pid == from {
                self.happy = true;
            }
        }
        if self.leader.pid == from && !self.is_leader_new && !self.is_content_with(&reply) {
            self.happy = false;
        }
        if self.leads() && reply.leader > self.leader {
            // It follows a server that is not there, and refuses this leader.
            self.be_preempted(reply.leader);
        }
        self.take_over_if_all_answered();
        peer
    }

    /// Evaluates a round and begins the next (paper §5.2).
    fn end_round(&mut self, enough: impl Fn(&Quorum, usize) -> bool) {
        if !std::mem::take(&mut self.is_leader_new) {
            let is_content = if self.leads() {
                enough(self.members.quorum(), self.reached())
            } else {
                let answer = self.replies.get(&self.leader.pid);
                answer.is_some_and(|reply| self.is_content_with(reply)) && !self.gives_up_leader()
            };
            self.happy = is_content;
        }
        self.preempted = match self.preempted {
            Preempted::No => Preempted::No,
            Preempted::Lately => Preempted::Known,
            Preempted::Known => {
                if self.leads() {
                    // If this server cannot lead, a server that reaches more servers should.
                    self.happy = false;
                    self.take_over_if_possible();
                }
                Preempted::No
            }
        };
        let missed = !self.happy;
        self.unsteady_rounds = self.unsteady_rounds.saturating_sub(1);
        self.note_lost_quorum(missed);
        let quorum = self.members.quorum();
        let reached = self.reached();
        self.success.end_round(quorum.can_prepare(reached) && quorum.can_accept(reached));
        self.take_over_if_nobody_is_happy(RoundPoint::AtTheEnd);
        self.note_contradicted();
        self.take_over_if_asked();
        self.rests = self.rests.saturating_sub(1);
        self.insists = self.insists.saturating_sub(1);
        self.heard_of_quorum = self.members.quorum().can_prepare(self.heard_of.len() + 1);
        self.heard_of.clear();
        self.candidates.end_round();
        self.clocks.end_round(self.members.peers());
        self.pace.end_round(self.round, missed);
        self.last_late_replies = std::mem::take(&mut self.late_replies);
        self.last_replies = std::mem::take(&mut self.replies);
        self.count_content_rounds();
        self.round = self.round.wrapping_add(1);
        self.asked_again.clear();
        self.answered_before.clear();
        self.is_request_due = true;
    }

    /// Returns whether the leader's reply shows that it leads in the ballot that this server
    /// follows. This server must not refuse that ballot.
    fn is_content_with(&self, reply: &HeartbeatReply) -> bool {
        reply.happy && reply.leader == self.leader && self.leader >= self.promise
    }

    fn name_leader(&mut self, leader: Ballot) {
        if self.leads() && leader.pid != self.pid {
            self.success.be_overtaken(self.rounds_for_all());
        }
        self.leader = leader;
        self.is_leader_new = true;
        self.end_yielding();
        self.content_rounds.clear();
        self.link = Link::default();
    }

    fn see(&mut self, ballot: Ballot) {
        self.highest = self.highest.max(ballot);
    }

    /// Returns whether this ballot is promised, and its owner is the leader, as far as the election
    /// knows.
    pub(crate) fn is_settled_on(&self, promise: Ballot) -> bool {
        self.promise == promise && self.leader == promise
    }

    /// Returns the ballot that Sequence Paxos has promised, as far as the election knows.
    pub(crate) fn promised(&self) -> Ballot {
        self.promise
    }

    /// Records that Sequence Paxos has promised this ballot.
    pub(crate) fn promise(&mut self, promise: Ballot) {
        self.see(promise);
        self.promise = promise;
    }

    /// Records that Sequence Paxos has promised `ballot` to another server, which then leads.
    pub(crate) fn follow(&mut self, ballot: Ballot) {
        if ballot > self.leader {
            self.see(ballot);
            self.name_leader(ballot);
            self.happy = true;
        }
    }

    /// Records that Sequence Paxos was refused as a leader for `ballot`. If no happy peer follows
    /// that ballot a round later, this server takes over above it. Otherwise it learns of the other
    /// leader by then.
    pub(crate) fn be_preempted(&mut self, ballot: Ballot) {
        self.see(ballot);
        if self.preempted == Preempted::No {
            self.preempted = Preempted::Lately;
        }
    }

    /// Returns whether this server is happy with its leader, which may be itself.
    pub(crate) fn is_happy(&self) -> bool {
        self.happy
    }

    pub(crate) fn set_priority(&mut self, priority: u32) {
        self.priority = priority;
    }

    /// Returns the ballot of the leader that this server follows; number 0 if none.
    pub(crate) fn leader(&self) -> Ballot {
        self.leader
    }

    /// Returns the number of the leader's own round, from its last request. `None` if it did not report that it
    /// leads, and is happy, in the ballot that this server follows.
    pub(crate) fn leader_round(&self) -> Option<u32> {
        self.candidates.round_as_leader(self.leader)
    }

    /// Returns the ballot that this server sends as its own.
    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns the highest ballot number seen anywhere.
    pub(crate) fn highest_n(&self) -> u32 {
        self.highest.n
    }

    /// Returns whether a server answered in the last complete round, possibly to an earlier round.
    pub(crate) fn answered(&self, pid: NodeId) -> bool {
        self.last_replies.contains_key(&pid) || self.last_late_replies.contains_key(&pid)
    }

    /// Returns whether a server answered in the last complete round, also if that was in the epoch before.
    pub(crate) fn answered_lately(&self, pid: NodeId) -> bool {
        self.answered(pid) || self.answered_before.contains(&pid)
    }

    /// Returns whether a server has answered in this round or the last one.
    fn is_there(&self, pid: NodeId) -> bool {
        self.answered_lately(pid)
            || self.replies.contains_key(&pid)
            || self.late_replies.contains_key(&pid)
    }

    /// Returns the reply of a server in the last complete round, if there is one.
    pub(crate) fn last_reply(&self, pid: NodeId) -> Option<HeartbeatReply> {
        let late = || self.last_late_replies.get(&pid);
        self.last_replies.get(&pid).or_else(late).copied()
    }

    /// Returns whether the clock of the leader stands still, as far as its requests show, and a peer whose clock
    /// runs is not happy. That leader answers for ever that it is happy, also without a quorum. While all are
    /// happy, the link may lose its requests only. No server sends requests to an observer.
    fn gives_up_leader(&self) -> bool {
        let mut replies = self.replies.iter();
        !self.members.is_observer()
            && !self.clocks.runs(self.leader.pid)
            && replies.any(|(peer, reply)| !reply.happy && self.clocks.runs(*peer))
    }

    fn leads(&self) -> bool {
        self.leader == self.ballot
    }

    /// Returns the number of servers that answered this round, including this one.
    fn reached(&self) -> usize {
        self.replies.len() + 1
    }
}

#[cfg(test)]
mod tests;
