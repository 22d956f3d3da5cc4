//! Sequence Paxos (paper §4): replicates the log under the ballot that the election names.
//!
//! All safety is here; the election only gives a hint. Handlers check a message and change the
//! state in memory. [`SequencePaxos::output`] flushes the changes and then builds the messages from
//! the state, so that no message can claim what is not stored.

mod catch_up;
mod compaction;
mod epochs;
mod follower;
mod in_flight;
mod joiners;
mod leader;
mod leader_transfer;
mod loss;
mod observers;
mod outbox;
mod output;
mod progress;
mod proposals;
mod reads;
mod reconfiguration;
mod recovery;
mod routing;
mod stall;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use self::{loss::LeaderRound, routing::Relay, status::Readiness};

use self::{
    catch_up::{EncodedSnapshots, PartialSnapshot, Ranges, Requester},
    compaction::Compactions,
    loss::Loss,
    observers::{Asked, News, Observers},
    outbox::Outbox,
    progress::Presence,
    proposals::Proposals,
    reads::Reads,
    reconfiguration::Reconfiguration,
    routing::Routing,
    stall::Stall,
    state::State,
};
use crate::{
    ballot::Ballot,
    clock::{Tick, Timer},
    codec::Codec,
    config::{Limits, OmniPaxosConfig},
    errors::Halted,
    identity::Identity,
    ids::{ConfigurationId, NodeId},
    membership::Membership,
    messages::sequence_paxos::{PaxosMessage, PaxosMsg},
    observe::trace::{LogEvent, Trace},
    replica_log::{Incarnation, ReplicaLog},
    storage::{Entry, Storage},
};
use std::sync::Arc;

/// The number of runs of decided ids that are remembered with their indices, if messages may have
/// at least as many entries. If they may have fewer, the number is eight times that limit, but at
/// most this.
const ID_RUNS: usize = 256;

/// Replicates the log, at one server.
#[derive(Clone, Debug)]
pub(crate) struct SequencePaxos<T: Entry, B: Storage<T>> {
    config_id: ConfigurationId,
    pid: NodeId,
    members: Arc<Membership>,
    /// Whether the members are those that the log names, not those of a file of this server.
    learned_members: bool,
    log: ReplicaLog<T, B>,
    state: State<T>,
    /// The accepted index of each server; reused by each count.
    accepted: Vec<u64>,
    /// The highest ballot that the election named.
    elected: Ballot,
    /// The change that the election does not know yet.
    leadership_change: Option<LeadershipChange>,
    limits: Limits,
    keeps_undecided_appends: bool,
    /// Number of heartbeat rounds that a leader waits for promises.
    prepare_rounds: u32,
    routing: Routing,
    /// The accepted round, the length of the log and the decided index, at the end of the last heartbeat
    /// round.
    reached_before: (Ballot, u64, u64),
    stall: Stall,
    catch_up: Requester,
    /// What other servers were asked for besides.
    ranges: Ranges<T>,
    partial_snapshot: PartialSnapshot,
    encoded_snapshots: EncodedSnapshots,
    /// The servers that observe this one.
    observers: Observers,
    /// The open request of this server as an observer.
    news: News,
    /// The decided entries that the leader lacks.
    loss: Option<Loss>,
    codec: Codec<T>,
    proposals: Proposals<T>,
    /// The reconfiguration proposed here.
    reconfiguration: Option<Reconfiguration>,
    reads: Reads,
    trace: Trace,
    /// Whether the end of the configuration is logged.
    is_end_reported: bool,
    /// The number of this incarnation; `None` if it is not known to be new.
    incarnation: Option<u64>,
    /// Whether a later incarnation certainly has another number.
    is_counted: bool,
    /// Number of runs of decided ids that are remembered with their indices.
    most_id_runs: usize,
    compaction: Compactions,
    outbox: Outbox,
    resend_timer: Timer,
    /// Whether the next output has work that this one left: the rest of what a follower lacks, or
    /// the decided index, which changed after the write.
    leaves_rest: bool,
}

/// What prevents a server from leading although the election named it, or makes it lead.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeadershipChange {
    /// It was refused for this ballot, or may have been overtaken.
    Preempted(Ballot),
    /// It has resigned.
    Resigned,
    /// No quorum promised its ballot. For this number of rounds it lets others lead.
    NotPromised(u32),
    /// The leader asks it to take over.
    Transferred,
}

/// Whether a server reaches its leader, or as a leader the quorum that it needs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Contact {
    #[default]
    Kept,
    /// The leader answers, but what it sends with its heartbeats is lost again and again.
    Unheard,
    Lost,
}

/// The quorum that a leader needs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A read quorum, to be promised its ballot.
    ToPrepare,
    /// A write quorum, to decide.
    ToAccept,
}

/// Returns the number of runs of ids that are remembered with their indices.
fn most_id_runs(max_message_entries: usize) -> usize {
    max_message_entries.saturating_mul(8).min(ID_RUNS).max(max_message_entries)
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Creates the replication of a server from its log.
    pub(crate) fn new(
        config: &OmniPaxosConfig,
        members: Arc<Membership>,
        mut log: ReplicaLog<T, B>,
        incarnation: Incarnation,
        trace: Trace,
    ) -> Self {
        let (cluster, server) = (&config.cluster_config, &config.server_config);
        if server.takes_delta_snapshots {
            log.want_deltas();
        }
        let pid = members.pid();
        let mut paxos = Self {
            config_id: cluster.configuration_id,
            pid,
            members,
            learned_members: false,
            state: State::Recovering,
            accepted: Vec::new(),
            elected: Ballot::default(),
            leadership_change: None,
            limits: server.limits(),
            keeps_undecided_appends: server.keeps_undecided_appends,
            prepare_rounds: leader::LEAST_PREPARE_ROUNDS,
            routing: Routing::default(),
            reached_before: Default::default(),
            stall: Stall::new(server),
            catch_up: Requester::default(),
            ranges: Ranges::default(),
            partial_snapshot: PartialSnapshot::default(),
            encoded_snapshots: EncodedSnapshots::default(),
            observers: Observers::default(),
            news: News::default(),
            loss: None,
            codec: Codec::new(server.limits().in_flight),
            proposals: Proposals::new(server, &log),
            reconfiguration: None,
            incarnation: incarnation.number(),
            is_counted: matches!(incarnation, Incarnation::Counted(_)),
            most_id_runs: most_id_runs(server.max_message_entries),
            compaction: Compactions::default(),
            reads: Reads::default(),
            is_end_reported: log.decided_stopsign().is_some(),
            trace,
            outbox: Outbox::default(),
            resend_timer: Timer::every(server.resend_message_tick_timeout),
            leaves_rest: false,
            log,
        };
        paxos.trace.emit(|| {
            let event = LogEvent::info("starts with the stored log").at(paxos.log.len());
            match paxos.log.promise() {
                n if n.is_nobodys() => event,
                n => event.in_ballot(n),
            }
        });
        paxos.ask_all_for_leader();
        paxos.announce_trim();
        paxos
    }

    /// Handles a message that has passed validation.
    #[inline]
    pub(crate) fn handle(&mut self, message: PaxosMessage<T>) -> Result<(), Halted> {
        let PaxosMessage { from, to: _, msg } = message;
        match msg {
            PaxosMsg::PrepareReq(prepare_req) => self.handle_prepare_req(&prepare_req, from),
            PaxosMsg::Prepare(prepare) => return self.handle_prepare(prepare, from),
            PaxosMsg::Promise(promise) => return self.handle_promise(promise, from),
            PaxosMsg::AcceptSync(sync) => self.handle_accept_sync(sync, from),
            PaxosMsg::AcceptDecide(accept) => self.handle_accept_decide(accept, from),
            PaxosMsg::AcceptStopSign(accept) => self.handle_accept_stopsign(accept, from),
            PaxosMsg::Accepted(accepted) => self.handle_accepted(&accepted, from),
            PaxosMsg::NotAccepted(refusal) => self.handle_not_accepted(refusal.n),
            PaxosMsg::Decide(decide) => self.handle_decide(&decide, from),
            PaxosMsg::CatchUpRedirect(redirect) => self.handle_catch_up_redirect(&redirect, from),
            PaxosMsg::CatchUpRequest(asks) => self.handle_catch_up_request(&asks, from),
            PaxosMsg::CatchUpChunk(chunk) => return self.handle_catch_up_chunk(*chunk, from),
            PaxosMsg::ProposalForward(entries) => self.handle_plain_forward(entries, from),
            PaxosMsg::ForwardedProposals(forwarded) => {
                self.handle_forwarded_proposals(*forwarded, from)
            }
            PaxosMsg::ProposalRejection(rejection) => self.handle_rejection(rejection, from),
            PaxosMsg::ForwardStopSign(stopsign) => self.handle_forwarded_stopsign(*stopsign, from),
            PaxosMsg::Compaction(compaction) => {
                return self.handle_compaction(compaction.action, from)
            }
            PaxosMsg::ReadIndexRequest(request) => self.handle_read_index_request(request, from),
            PaxosMsg::ReadIndexResponse(answer) => self.handle_read_index_response(answer, from),
            PaxosMsg::LeadershipCheck(confirm) => self.handle_leadership_check(confirm, from),
            PaxosMsg::LeadershipCheckAck(confirmed) => {
                self.handle_leadership_check_ack(confirmed, from)
            }
            PaxosMsg::TransferLeadership(asks) => self.handle_transfer_leadership(asks),
            PaxosMsg::Joining(joining) => self.handle_joining(joining, from),
        }
        Ok(())
    }

    /// Lets one tick pass. `answered` returns whether a peer answered the last heartbeat round.
    pub(crate) fn tick(&mut self, answered: impl Fn(NodeId) -> bool) {
        self.proposals.tick();
        self.tick_transfer();
        self.propose_if_leading();
        if self.resend_timer.tick() == Tick::Expired {
            self.resend_to_all(answered);
        }
    }

    /// Returns after how many ticks a tick does something; at least 1. Fewer ticks only count.
    pub(crate) fn next_timeout(&self) -> u64 {
        if self.leadership_change.is_some()
            || self.leaves_rest
            || self.can_propose()
            || self.is_storing_snapshot()
        {
            return 1;
        }
        let batch = match self.is_batch_full() {
            true => None,
            false => self.proposals.next_timeout(),
        };
        let resend = self.has_followers().then(|| self.resend_timer.remaining());
        let timeouts = [batch, resend, self.timeout_of_transfer()];
        timeouts.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Lets ticks pass, fewer than [`next_timeout`](Self::next_timeout).
    pub(crate) fn pass(&mut self, ticks: u64) {
        match self.is_batch_full() {
            // All are released: each tick would restart the timer of the batch.
            true => self.proposals.release_all(),
            false => self.proposals.pass(ticks),
        }
        self.pass_in_transfer(ticks);
        self.resend_timer.pass(ticks);
    }

    /// Ends a heartbeat round: repeats messages without an answer for a round, to the peers that
    /// `answered` it. If the leader did not, `relay` is a peer that it answers. `reported` is the last round of
    /// the leader that it has reported here.
    pub(crate) fn end_round(
        &mut self,
        answered: impl Fn(NodeId) -> bool,
        contact: Contact,
        reported: Option<LeaderRound>,
        relay: Option<Relay>,
    ) {
        self.log.schedule_decided_idx();
        self.end_round_of_stall();
        let contact = self.contact_if_waiting(contact);
        let (len, decided_idx) = (self.log.len(), self.log.decided_idx());
        let quorum = *self.members.quorum();
        if let Some(followers) = self.followers_mut() {
            let resending = followers.resending(&quorum, len);
            for (pid, progress) in followers.iter_mut() {
                let presence = Presence::of(pid, &answered);
                progress.end_round(len, decided_idx, presence, resending);
            }
        }
        if let State::Recovering = self.state {
            self.ask_all_for_leader();
        }
        self.resign_if_not_promised(contact);
        let peers = self.members.peers().iter().copied();
        self.routing.end_round(peers.filter(|peer| answered(*peer)), relay);
        self.end_round_of_reads();
        self.end_round_of_transfer();
        match self.end_round_of_news() {
            Asked::Yes => self.catch_up_in_turn(Contact::Kept),
            Asked::No => self.catch_up_in_turn(contact),
        }
        self.end_round_of_loss(contact, reported);
        self.report_if_unheard(contact);
        self.compaction.repeat();
        self.end_round_of_reconfiguration();
        self.proposals.release_held();
        self.repeat_forwards();
        self.propose_if_leading();
    }

    /// Another heartbeat request leaves in the same round, since this server is unhappy and its state has
    /// changed. Links may be open for this request only, in each round, and the answer to it counts. So the
    /// Prepare, a little of the entries, the checks of the leadership, a few proposals and the request for
    /// reads leave with this one, too.
    pub(crate) fn repeat_with_request(&mut self) {
        self.repeat_to_followers(|_| true);
        self.reads.ask_again();
        self.repeat_few_forwards();
    }

    /// The same, if the request leaves to one peer, which may have missed the first one.
    pub(crate) fn repeat_with_request_to(&mut self, pid: NodeId) {
        self.repeat_to_followers(|follower| follower == pid);
        let way = self.leader().and_then(|leader| self.routing.to(leader));
        if self.leader() == Some(pid) || way.is_some_and(|way| way.next_hop() == pid) {
            self.reads.ask_again();
            self.repeat_few_forwards();
        }
    }

    /// Repeats what a leader sends to some followers with a heartbeat request, and its open checks to all.
    fn repeat_to_followers(&mut self, gets_request: impl Fn(NodeId) -> bool) {
        let (len, quorum) = (self.log.len(), *self.members.quorum());
        if let Some(followers) = self.followers_mut() {
            let resending = followers.resending(&quorum, len);
            for (_, progress) in followers.iter_mut().filter(|(pid, _)| gets_request(*pid)) {
                progress.repeat_with_request(resending);
            }
        }
        self.repeat_checks();
    }

    /// Returns the storage, as the last flush left it.
    pub(crate) fn into_storage(self) -> B {
        self.log.into_storage()
    }

    /// Number of snapshots that came in pieces and could not be decoded.
    pub(crate) fn undecodable_snapshots(&self) -> u64 {
        self.partial_snapshot.undecodable()
    }

    /// Number of snapshots in pieces that were larger than this server takes.
    pub(crate) fn oversized_snapshots(&self) -> u64 {
        self.partial_snapshot.oversized()
    }

    pub(crate) fn log(&self) -> &ReplicaLog<T, B> {
        &self.log
    }

    /// Stores the storage ids of the other servers.
    pub(crate) fn store_identity(&mut self, identity: Identity) -> Result<(), Halted> {
        self.log.store_identity(identity)
    }

    /// Returns whether there is no change for the election, and none from it if it names this
    /// ballot.
    pub(crate) fn is_settled_on(&self, leader: Ballot) -> bool {
        self.elected == leader && self.leadership_change.is_none()
    }

    /// Returns whether [`handle_elected`](Self::handle_elected) would do something.
    pub(crate) fn is_news(&self, elected: Ballot) -> bool {
        let concerns_it = elected.pid == self.pid || self.has_followers();
        elected > self.elected || (elected > self.log.promise() && concerns_it)
    }

    /// Returns the quorum that this server needs as a leader.
    pub(crate) fn needs(&self) -> Needs {
        match self.state {
            State::Preparing(_) => Needs::ToPrepare,
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Leading(_) => Needs::ToAccept,
        }
    }

    /// Returns the accepted index of each server, if this one leads.
    pub(crate) fn accepted_by_node(&self) -> Vec<(NodeId, u64)> {
        match &self.state {
            State::Leading(leading) => {
                leading.followers.accepted().chain([(self.pid, self.log.stored_len())]).collect()
            }
            State::Recovering
            | State::Promised { .. }
            | State::Following(_)
            | State::Preparing(_) => Vec::new(),
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.log.check_invariants();
        self.proposals.check_invariants();
        self.check_reads();
        let (promise, accepted) = (self.log.promise(), self.log.accepted_round());
        match &self.state {
            State::Recovering => {}
            State::Promised { prepare, .. } => {
                debug_assert!(prepare.n == promise, "promised {promise:?}, not {:?}", prepare.n);
                debug_assert!(accepted < promise, "I8: accepted {accepted:?} and waits for it");
            }
            State::Following(_) => {
                debug_assert!(accepted == promise, "follows {promise:?}, accepted {accepted:?}");
            }
            State::Preparing(_) => {
                debug_assert!(promise.pid == self.pid, "I4: leads {promise:?}");
            }
            State::Leading(leading) => {
                debug_assert!(
                    leading.followers.furthest() <= self.log.sendable_len(),
                    "I23: sent or acknowledged {}, of which {} may be sent",
                    leading.followers.furthest(),
                    self.log.sendable_len()
                );
                debug_assert!(promise.pid == self.pid, "I4: leads {promise:?}");
                debug_assert!(accepted == promise, "leads {promise:?}, accepted {accepted:?}");
            }
        }
    }
}
