//! Ballot Leader Election (paper §5): gossips ballots and elects a quorum-connected server.
//!
//! In rounds of heartbeats each server asks all others for their ballot, the leader they follow
//! and whether they are happy with it. A leader is happy while it reaches the quorum it needs; a
//! follower while the leader answers, is happy, and still leads in the ballot that it follows. A
//! server takes over when it is unhappy, reaches a quorum, and nobody that it reaches is happy.
//!
//! It needs no log and proves nothing: that a server was elected is a hint for Sequence Paxos.

pub use crate::ballot::Ballot;

use crate::{
    clock::{Ring, Timer},
    config::OmniPaxosConfig,
    identity::SenderIdentity,
    ids::{ConfigurationId, NodeId},
    messages::ballot_leader_election::{
        BLEMessage, HeartbeatMsg, HeartbeatReply, HeartbeatRequest,
    },
    quorum::Quorum,
};
use std::collections::BTreeMap;

/// Elects the leader, as one server sees it.
#[derive(Clone, Debug)]
pub(crate) struct BallotLeaderElection {
    config_id: ConfigurationId,
    pid: NodeId,
    peers: Vec<NodeId>,
    quorum: Quorum,
    /// The ballot in which this server took over last; number 0 before that.
    ballot: Ballot,
    /// The leader followed. Never goes back in one life.
    leader: Ballot,
    /// Whether that leader was named in this round: what was answered before tells nothing of it.
    is_leader_new: bool,
    mood: Mood,
    /// Used in the ballot of the next takeover.
    priority: u32,
    /// What the storage of this server can hold: the requests report it.
    max_entry_bytes: u64,
    /// The highest ballot number seen anywhere.
    highest_n: u32,
    /// What this server has promised: it refuses a leader below.
    promise: Ballot,
    outbid: Outbid,
    round: u32,
    round_timer: Timer,
    /// The replies to this round, one a peer.
    replies: BTreeMap<NodeId, HeartbeatReply>,
    /// The replies to the round before.
    last_replies: BTreeMap<NodeId, HeartbeatReply>,
    /// In how many rounds, one after the other, a peer said that it is happy with the leader, while
    /// that did not answer here.
    content_rounds: BTreeMap<NodeId, u32>,
    is_request_due: bool,
    /// The peers to which a reply is due, and the round that they asked in.
    replies_due: BTreeMap<NodeId, u32>,
}

/// A server that hears of a new leader may be happy with it for two rounds before it finds out that
/// it does not reach it. In the third it has got an answer.
const ROUNDS_TO_BE_SURE: u32 = 3;

/// Whether a server is content with its leader.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Mood {
    Happy,
    Unhappy,
}

/// Whether a server was refused as a leader, for a higher ballot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Outbid {
    No,
    /// In this round. Whoever follows the higher ballot may not have said so yet.
    Lately,
    /// Before this round began.
    Known,
}

/// What a tick brought.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    GoesOn,
    Ended,
}

/// What a heartbeat tells about its sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It answers as it did.
    Heard,
    /// It did not answer the last round, and now it does.
    Back,
}

impl BallotLeaderElection {
    /// A server that has promised `promise` in an earlier life. It follows nobody at first, and
    /// never leads in a ballot of that life.
    pub(crate) fn new(config: &OmniPaxosConfig, promise: Ballot, max_entry_bytes: u64) -> Self {
        let (cluster, server) = (&config.cluster_config, &config.server_config);
        let (config_id, pid) = (cluster.configuration_id, server.pid);
        let mut peers = cluster.nodes.clone();
        peers.retain(|peer| *peer != pid);
        peers.sort_unstable();
        Self {
            config_id,
            pid,
            peers,
            quorum: Quorum::of(cluster.nodes.len(), cluster.flexible_quorum),
            ballot: Ballot::with(config_id, 0, server.leader_priority, pid),
            leader: Ballot::default(),
            is_leader_new: false,
            mood: Mood::Unhappy,
            priority: server.leader_priority,
            max_entry_bytes,
            highest_n: promise.n,
            promise,
            outbid: Outbid::No,
            round: 1,
            round_timer: Timer::every(server.election_tick_timeout),
            replies: BTreeMap::new(),
            last_replies: BTreeMap::new(),
            content_rounds: BTreeMap::new(),
            is_request_due: true,
            replies_due: BTreeMap::new(),
        }
    }

    /// Lets one tick pass. `enough` tells whether a leader that reaches so many servers, itself
    /// included, can get on.
    pub(crate) fn tick(&mut self, enough: impl Fn(&Quorum, usize) -> bool) -> Round {
        match self.round_timer.tick() {
            Ring::Silent => Round::GoesOn,
            Ring::Rings => {
                self.end_round(enough);
                Round::Ended
            }
        }
    }

    /// Handles a heartbeat that has passed the door.
    pub(crate) fn handle(&mut self, from: NodeId, msg: HeartbeatMsg) -> Peer {
        match msg {
            HeartbeatMsg::Request(request) => {
                self.replies_due.insert(from, request.round);
                Peer::Heard
            }
            HeartbeatMsg::Reply(reply) => self.handle_reply(from, reply),
        }
    }

    /// Counts a reply, once per peer and round (paper §5.2).
    fn handle_reply(&mut self, from: NodeId, reply: HeartbeatReply) -> Peer {
        self.see(reply.ballot.n.max(reply.leader.n));
        if reply.round != self.round || self.replies.contains_key(&from) {
            return Peer::Heard;
        }
        self.replies.insert(from, reply);
        if reply.happy && reply.leader > self.leader && reply.leader.pid != self.pid {
            self.name_leader(reply.leader);
            if reply.leader.pid == from {
                self.mood = Mood::Happy;
            }
        }
        if self.leader.pid == from && !self.is_leader_new && !self.is_content_with(&reply) {
            self.mood = Mood::Unhappy;
        }
        if self.leads() && reply.leader > self.leader {
            // It follows somebody who is not there, and refuses this leader.
            self.be_outbid(reply.leader);
        }
        let all_answered = self.last_replies.keys().all(|peer| self.replies.contains_key(peer));
        if all_answered && !self.last_replies.is_empty() {
            self.take_over_if_nobody_is_happy();
        }
        if self.last_replies.contains_key(&from) {
            Peer::Heard
        } else {
            Peer::Back
        }
    }

    /// Takes stock of a round and begins the next (paper §5.2).
    fn end_round(&mut self, enough: impl Fn(&Quorum, usize) -> bool) {
        if !std::mem::take(&mut self.is_leader_new) {
            let is_content = if self.leads() {
                enough(&self.quorum, self.reached())
            } else {
                self.replies.get(&self.leader.pid).is_some_and(|reply| self.is_content_with(reply))
            };
            self.mood = if is_content { Mood::Happy } else { Mood::Unhappy };
        }
        self.outbid = match self.outbid {
            Outbid::No => Outbid::No,
            Outbid::Lately => Outbid::Known,
            Outbid::Known => {
                if self.leads() {
                    // Somebody that reaches more servers should, if this one cannot.
                    self.mood = Mood::Unhappy;
                    self.take_over_if_possible();
                }
                Outbid::No
            }
        };
        self.take_over_if_nobody_is_happy();
        self.last_replies = std::mem::take(&mut self.replies);
        self.count_content_rounds();
        self.round = self.round.wrapping_add(1);
        self.is_request_due = true;
    }

    /// Whether the reply of the leader shows that it still leads as this server believes, in a
    /// ballot that this server does not refuse.
    fn is_content_with(&self, reply: &HeartbeatReply) -> bool {
        reply.happy && reply.leader == self.leader && self.leader >= self.promise
    }

    fn name_leader(&mut self, leader: Ballot) {
        self.leader = leader;
        self.is_leader_new = true;
        self.content_rounds.clear();
    }

    fn take_over_if_nobody_is_happy(&mut self) {
        let somebody_is = self.replies.values().any(|reply| reply.happy);
        if self.mood == Mood::Unhappy && !somebody_is {
            self.take_over_if_possible();
        }
    }

    fn take_over_if_possible(&mut self) {
        if self.quorum.can_prepare(self.reached()) {
            self.take_over();
        }
    }

    /// Leads in a new ballot, above all that were seen. When the numbers are used up, which no
    /// cluster lives to see, it does not.
    pub(crate) fn take_over(&mut self) {
        if let Some(n) = self.highest_n.checked_add(1) {
            self.highest_n = n;
            self.ballot = Ballot::with(self.config_id, n, self.priority, self.pid);
            self.name_leader(self.ballot);
            self.mood = Mood::Happy;
            self.outbid = Outbid::No;
        }
    }

    /// The leader hands over to this server, which takes over if it reached enough servers in the
    /// last round.
    pub(crate) fn be_handed_over(&mut self) {
        if self.quorum.can_prepare(self.last_replies.len() + 1) {
            self.take_over();
        }
    }

    fn see(&mut self, n: u32) {
        self.highest_n = self.highest_n.max(n);
    }

    /// Whether this ballot is known to be promised, and its owner to lead.
    pub(crate) fn is_settled_on(&self, promise: Ballot) -> bool {
        self.promise == promise && self.leader == promise
    }

    /// Sequence Paxos has promised this ballot.
    pub(crate) fn promise(&mut self, promise: Ballot) {
        self.see(promise.n);
        self.promise = promise;
    }

    /// Sequence Paxos has promised `ballot` to another server, which leads then.
    pub(crate) fn follow(&mut self, ballot: Ballot) {
        if ballot > self.leader {
            self.see(ballot.n);
            self.name_leader(ballot);
            self.mood = Mood::Happy;
        }
    }

    /// Sequence Paxos was refused as a leader, for `ballot`. If a round later nobody happy follows
    /// that ballot, this server takes over above it; else it learns of the other leader by then.
    pub(crate) fn be_outbid(&mut self, ballot: Ballot) {
        self.see(ballot.n);
        if self.outbid == Outbid::No {
            self.outbid = Outbid::Lately;
        }
    }

    /// Sequence Paxos has given up leading in the ballot of this server, which follows nobody then.
    pub(crate) fn resign(&mut self) {
        if self.leads() {
            self.leader = Ballot::default();
            self.is_leader_new = false;
            self.content_rounds.clear();
            self.mood = Mood::Unhappy;
        }
    }

    /// Whether this server is content with its leader, which may be itself.
    pub(crate) fn is_happy(&self) -> bool {
        self.mood == Mood::Happy
    }

    /// Counts the rounds in which each peer is happy with a leader that does not answer here.
    fn count_content_rounds(&mut self) {
        let leader = self.leader;
        if leader.pid == self.pid || self.answered(leader.pid) {
            self.content_rounds.clear();
            return;
        }
        let is_content = |reply: &HeartbeatReply| reply.happy && reply.leader == leader;
        let replies = &self.last_replies;
        self.content_rounds.retain(|peer, _| replies.get(peer).is_some_and(is_content));
        for (peer, _) in replies.iter().filter(|(_, reply)| is_content(reply)) {
            let rounds = self.content_rounds.entry(*peer).or_insert(0);
            *rounds = rounds.saturating_add(1);
        }
    }

    /// If the leader did not answer the last rounds, a peer that it answers.
    pub(crate) fn relay(&self) -> Option<NodeId> {
        let mut peers = self.content_rounds.iter();
        peers.find(|(_, rounds)| **rounds >= ROUNDS_TO_BE_SURE).map(|(peer, _)| *peer)
    }

    pub(crate) fn set_priority(&mut self, priority: u32) {
        self.priority = priority;
    }

    /// The leader followed; number 0 if none.
    pub(crate) fn leader(&self) -> Ballot {
        self.leader
    }

    /// The ballot that this server gossips as its own.
    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The highest ballot number seen anywhere.
    pub(crate) fn highest_n(&self) -> u32 {
        self.highest_n
    }

    /// Whether a server answered the last complete round.
    pub(crate) fn answered(&self, pid: NodeId) -> bool {
        self.last_replies.contains_key(&pid)
    }

    /// What a server answered in the last complete round, if it did.
    pub(crate) fn last_reply(&self, pid: NodeId) -> Option<HeartbeatReply> {
        self.last_replies.get(&pid).copied()
    }

    /// Asks for an answer in this round, as every round does. A server of another configuration
    /// learns of this one by it.
    pub(crate) fn request(&self, to: NodeId) -> BLEMessage {
        let (config_id, round) = (self.config_id, self.round);
        let (max_entry_bytes, sender) = (self.max_entry_bytes, SenderIdentity::default());
        let request = HeartbeatRequest { config_id, round, max_entry_bytes, sender };
        BLEMessage { from: self.pid, to, msg: HeartbeatMsg::Request(request) }
    }

    /// Draws the heartbeats that are due.
    pub(crate) fn draw(&mut self, mut send: impl FnMut(BLEMessage)) {
        if !self.is_request_due && self.replies_due.is_empty() {
            return;
        }
        let from = self.pid;
        if std::mem::take(&mut self.is_request_due) {
            for to in &self.peers {
                send(self.request(*to));
            }
        }
        while let Some((to, round)) = self.replies_due.pop_first() {
            let reply = HeartbeatReply {
                round,
                ballot: self.ballot,
                leader: self.leader,
                happy: self.mood == Mood::Happy,
            };
            send(BLEMessage { from, to, msg: HeartbeatMsg::Reply(reply) });
        }
    }

    fn leads(&self) -> bool {
        self.leader == self.ballot
    }

    /// Number of servers that answered this round, this one included.
    fn reached(&self) -> usize {
        self.replies.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Ballot, BallotLeaderElection, Peer};
    use crate::{
        config::{ClusterConfig, OmniPaxosConfig, ServerConfig},
        messages::ballot_leader_election::{HeartbeatMsg, HeartbeatReply},
    };

    fn server(pid: u64, n: u64, promise: Ballot) -> BallotLeaderElection {
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: (1..=n).collect(),
                flexible_quorum: None,
            },
            server_config: ServerConfig { pid, election_tick_timeout: 1, ..Default::default() },
        };
        BallotLeaderElection::new(&config, promise, u64::MAX)
    }

    fn round(ble: &mut BallotLeaderElection, replies: &[(u64, Ballot, bool)]) {
        for (from, leader, happy) in replies {
            hear(ble, *from, *leader, *happy);
        }
        ble.tick(|quorum, servers| quorum.can_accept(servers));
    }

    fn hear(ble: &mut BallotLeaderElection, from: u64, leader: Ballot, happy: bool) -> Peer {
        let ballot = Ballot::with(1, 0, 0, from);
        let reply = HeartbeatReply { round: ble.round, ballot, leader, happy };
        ble.handle(from, HeartbeatMsg::Reply(reply))
    }

    const NONE: Ballot = Ballot { config_id: 0, n: 0, priority: 0, pid: 0 };

    fn ballot(n: u32, pid: u64) -> Ballot {
        Ballot::with(1, n, 0, pid)
    }

    #[test]
    fn takes_over_when_a_quorum_is_reached_and_nobody_is_happy() {
        let mut alone = server(1, 3, NONE);
        round(&mut alone, &[]);
        assert_eq!(alone.leader(), NONE, "no quorum");
        round(&mut alone, &[(2, NONE, false)]);
        assert_eq!(alone.leader(), ballot(1, 1));
    }

    #[test]
    fn leaves_a_happy_neighbour_alone() {
        let mut end_of_chain = server(1, 3, NONE);
        round(&mut end_of_chain, &[(2, ballot(4, 3), true)]);
        assert_eq!(end_of_chain.leader(), ballot(4, 3), "known by hearsay");
        round(&mut end_of_chain, &[(2, ballot(4, 3), true)]);
        assert_eq!(end_of_chain.leader(), ballot(4, 3));
        round(&mut end_of_chain, &[(2, ballot(4, 3), false)]);
        assert_eq!(end_of_chain.leader(), ballot(5, 1), "unhappy: takes over above it");
    }

    #[test]
    fn an_unhappy_leader_is_replaced_within_the_round() {
        let mut follower = server(1, 3, NONE);
        round(&mut follower, &[(3, ballot(2, 3), true), (2, ballot(2, 3), true)]);
        hear(&mut follower, 3, ballot(2, 3), false);
        assert_eq!(follower.leader(), ballot(2, 3), "2 has not answered yet");
        hear(&mut follower, 2, ballot(2, 3), false);
        assert_eq!(follower.leader(), ballot(3, 1));
    }

    #[test]
    fn a_leader_without_a_quorum_is_unhappy() {
        let mut leader = server(1, 5, NONE);
        round(&mut leader, &[(2, NONE, false), (3, NONE, false)]);
        assert_eq!(leader.leader(), ballot(1, 1));
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        assert!(leader.mood == super::Mood::Unhappy);
    }

    #[test]
    fn never_leads_in_a_ballot_of_an_earlier_life() {
        let mut restarted = server(1, 3, ballot(7, 1));
        assert_eq!(restarted.leader(), NONE);
        round(&mut restarted, &[(2, NONE, false)]);
        assert_eq!(restarted.leader(), ballot(8, 1));
    }

    #[test]
    fn an_outbid_leader_waits_a_round_and_outbids() {
        let mut leader = server(1, 3, NONE);
        round(&mut leader, &[(2, NONE, false)]);
        leader.be_outbid(ballot(5, 3));
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        assert_eq!(leader.leader(), ballot(1, 1), "somebody may follow 5");
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        assert_eq!(leader.leader(), ballot(6, 1));
    }

    #[test]
    fn a_leader_outbids_whom_an_unhappy_peer_follows() {
        let mut leader = server(1, 3, NONE);
        round(&mut leader, &[(2, NONE, false)]);
        round(&mut leader, &[(2, ballot(5, 3), false)]);
        assert_eq!(leader.leader(), ballot(1, 1), "3 may be there in a moment");
        round(&mut leader, &[(2, ballot(5, 3), false)]);
        assert_eq!(leader.leader(), ballot(6, 1));
    }

    #[test]
    fn an_outbid_leader_that_cannot_prepare_is_unhappy() {
        let mut leader = server(1, 5, NONE);
        round(&mut leader, &[(2, NONE, false), (3, NONE, false)]);
        leader.be_outbid(ballot(5, 3));
        let enough = |_: &super::Quorum, servers: usize| servers >= 2;
        for (expected, n) in [(super::Mood::Happy, 1), (super::Mood::Unhappy, 1)] {
            hear(&mut leader, 2, ballot(1, 1), true);
            leader.tick(enough);
            assert_eq!((leader.mood, leader.leader().n), (expected, n));
        }
    }

    #[test]
    fn a_follower_is_not_happy_with_a_leader_that_it_refuses() {
        let mut follower = server(1, 3, ballot(7, 3));
        for _ in 0..2 {
            round(&mut follower, &[(2, ballot(4, 2), true)]);
        }
        assert_eq!(follower.leader(), ballot(4, 2));
        assert!(follower.mood == super::Mood::Unhappy);
    }

    #[test]
    fn an_outbid_leader_gives_way_to_one_that_is_followed() {
        let mut leader = server(1, 3, NONE);
        round(&mut leader, &[(2, NONE, false)]);
        leader.be_outbid(ballot(5, 3));
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        round(&mut leader, &[(2, ballot(5, 3), true)]);
        assert_eq!(leader.leader(), ballot(5, 3));
    }

    #[test]
    fn a_leader_that_resigned_leads_only_in_a_new_ballot() {
        let mut leader = server(1, 3, NONE);
        round(&mut leader, &[(2, NONE, false)]);
        leader.resign();
        assert_eq!(leader.leader(), NONE);
        round(&mut leader, &[(2, ballot(1, 1), true)]);
        assert_eq!(leader.leader(), NONE, "2 has not heard of it");
        round(&mut leader, &[(2, ballot(1, 1), false)]);
        assert_eq!(leader.leader(), ballot(2, 1));
    }

    #[test]
    fn a_peer_that_the_leader_answers_is_a_relay() {
        let mut end_of_chain = server(1, 4, NONE);
        let leader = ballot(4, 3);
        for expected in [None, None, Some(4)] {
            round(&mut end_of_chain, &[(2, leader, false), (4, leader, true)]);
            assert_eq!(end_of_chain.relay(), expected);
        }
        round(&mut end_of_chain, &[(2, leader, true), (3, leader, true)]);
        assert_eq!(end_of_chain.relay(), None, "the leader answers");
        round(&mut end_of_chain, &[(2, NONE, false)]);
        assert_eq!(end_of_chain.relay(), None, "nobody knows it");
    }

    #[test]
    fn numbers_do_not_overflow() {
        let mut last = server(1, 3, ballot(u32::MAX, 2));
        round(&mut last, &[(2, NONE, false)]);
        assert_eq!(last.leader(), NONE);
    }

    #[test]
    fn a_peer_is_back_after_a_missed_round() {
        let mut ble = server(1, 3, NONE);
        assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Back);
        round(&mut ble, &[]);
        assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Heard);
        assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Heard, "a copy");
        round(&mut ble, &[]);
        round(&mut ble, &[]);
        assert_eq!(hear(&mut ble, 2, ballot(1, 2), true), Peer::Back);
    }
}
