//! Observers: servers without a vote that learn the decided entries.
//!
//! An observer sends requests, and its sources answer: members, or other observers. So it takes
//! part in no decision. If the leader is not among its sources, the leader sends it nothing. It
//! exchanges heartbeats with its sources, promises and accepts nothing, and remains `Recovering` in
//! terms of [`State`](super::state::State). It gets chunks of the decided log, as any server that
//! [catches up](super::catch_up). Its proposals and reads go to the leader, through its sources if
//! it does not reach the leader.
//!
//! A request waits at the source until the source has decided more. So a new decided entry arrives
//! after one message delay instead of a heartbeat round. A source keeps one request for each
//! observer, and removes it when the observer is silent.
//!
//! An observer does not know whether its source knows the latest decisions. So in each heartbeat
//! round it also asks the next of its sources, without waiting, and changes to a source that has
//! more.

use super::SequencePaxos;
use crate::{
    ids::NodeId,
    messages::sequence_paxos::{CatchUpChunk, CatchUpRequest},
    observe::{status::ObserverStatus, trace::LogEvent},
    storage::{Entry, Storage},
};
use std::collections::BTreeMap;

/// The largest number of servers that relay a proposal or a read of an observer. So a message ends
/// that travels in a circle of observers.
const MOST_HOPS: u8 = 16;

/// Rounds after which an observer repeats a waiting request: the request or its answer may be lost.
const ASKED_AGAIN_AFTER: u32 = 2;

/// The observers of a server, as that server knows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Observers {
    by_pid: BTreeMap<NodeId, Observer>,
}

/// A server that observes this one, directly or through another observer.
#[derive(Copy, Clone, Debug)]
struct Observer {
    /// The server that relayed its last message, and gets answers to it.
    via: NodeId,
    /// The largest decided index that it reported.
    decided_idx: u64,
    /// Its request, if that waits until this server has decided more.
    waiting: Option<CatchUpRequest>,
}

impl Observers {
    /// Records a request of `pid` that came from `via`.
    fn record(&mut self, pid: NodeId, via: NodeId) -> &mut Observer {
        let new = Observer { via, decided_idx: 0, waiting: None };
        let observer = self.by_pid.entry(pid).or_insert(new);
        observer.via = via;
        observer
    }

    /// Returns the server to send to, so that a message reaches `pid`: `pid` itself if it is no
    /// observer.
    pub(super) fn way_to(&self, pid: NodeId) -> NodeId {
        self.by_pid.get(&pid).map_or(pid, |observer| observer.via)
    }

    /// Removes the observers that are not to be kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.by_pid.retain(|pid, _| is_kept(*pid));
    }

    /// Returns whether no server observes this one.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// Returns whether an observer waits for fewer entries than are decided.
    pub(super) fn is_any_due(&self, decided_idx: u64) -> bool {
        let mut waiting = self.by_pid.values().filter_map(|observer| observer.waiting);
        waiting.any(|asks| asks.decided_idx < decided_idx)
    }

    /// Returns the requests that can be answered, now that `decided_idx` entries are decided.
    fn take_due(
        &mut self,
        decided_idx: u64,
    ) -> impl Iterator<Item = (NodeId, CatchUpRequest)> + '_ {
        self.by_pid.iter_mut().filter_map(move |(pid, observer)| {
            let due = observer.waiting.take_if(|asks| asks.decided_idx < decided_idx)?;
            Some((*pid, due))
        })
    }
}

/// The request of an observer that waits at a source.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct News {
    source: Option<NodeId>,
    /// The position of the last chosen source among the reachable ones.
    turn: usize,
    /// Rounds since the request was sent.
    waited: u32,
    /// The largest number of entries that a source has trimmed, as reported.
    trimmed_at_source: u64,
}

/// Whether an observer asks a source in this round.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    No,
}

impl<T: Entry, B: Storage<T>> SequencePaxos<T, B> {
    /// Returns whether this server has no vote.
    #[inline]
    pub(crate) fn is_observer(&self) -> bool {
        self.members.is_observer()
    }

    /// Returns whether a proposal or a read of `origin`, which came from `from` after this number
    /// of hops, is relayed to the leader. A message of a member is relayed once, since it could
    /// travel in circles.
    pub(super) fn may_relay(&self, origin: NodeId, from: NodeId, hops: u8) -> bool {
        match self.members.contains(origin) {
            true => origin == from,
            false => hops < MOST_HOPS,
        }
    }

    /// Returns the way of an answer to `origin`, which came from `from` after this number of hops; `None`
    /// if it goes no further. Servers may each have the last message of an observer from another of
    /// them. So an answer is never passed back to its sender, and does not travel in circles endlessly.
    /// The origin asks again if it gets no answer.
    pub(super) fn way_back(&self, origin: NodeId, from: NodeId, hops: u8) -> Option<NodeId> {
        let way = self.observers.way_to(origin);
        (way != from && origin != from && hops < MOST_HOPS).then_some(way)
    }

    /// Returns whether `pid` is a member, or observes this server and is not forgotten.
    pub(super) fn is_known(&self, pid: NodeId) -> bool {
        self.members.contains(pid) || self.observers.by_pid.contains_key(&pid)
    }

    /// Records that a proposal or a read of `origin` came from `from`.
    pub(super) fn note_origin(&mut self, origin: NodeId, from: NodeId) {
        if !self.members.contains(origin) && origin != self.pid {
            self.observers.record(origin, from);
        }
    }

    /// Handles a request for decided entries. The request of an observer that has all of them
    /// waits.
    pub(super) fn handle_catch_up_request(&mut self, asks: &CatchUpRequest, from: NodeId) {
        let lacks_members = self.first_epoch_for(asks).is_some();
        let is_behind = asks.decided_idx < self.log.decided_idx() || lacks_members;
        if !self.members.contains(from) {
            let observer = self.observers.record(from, from);
            observer.decided_idx = observer.decided_idx.max(asks.decided_idx);
            // Any other request leaves the waiting one: it may be a late copy.
            if asks.waits && !is_behind {
                observer.waiting = Some(*asks);
            }
        }
        if is_behind || asks.range.is_some() {
            self.outbox.send_chunk(from, *asks);
        }
    }

    /// Answers the waiting requests for entries that are decided now.
    #[cold]
    pub(super) fn answer_waiting(&mut self) {
        let decided_idx = self.log.decided_idx();
        for (pid, asks) in self.observers.take_due(decided_idx) {
            self.outbox.send_chunk(pid, asks);
        }
    }

    /// Ends a heartbeat round: removes the observers that are not served any more.
    pub(crate) fn forget_observers(&mut self, is_served: impl Fn(NodeId) -> bool) {
        if self.observers.by_pid.is_empty() {
            return;
        }
        self.observers.retain(&is_served);
        let members = self.members.clone();
        self.forget_reads_of(|pid| members.contains(pid) || is_served(pid));
    }

    /// Waits at `source` until it has decided more: this observer has all that `source` has
    /// decided.
    pub(super) fn wait_for_news(&mut self, source: NodeId) {
        if self.is_observer() && self.log.decided_stopsign().is_none() {
            (self.news.source, self.news.waited) = (Some(source), 0);
            self.outbox.request_chunk(source);
        }
    }

    /// Returns whether a request to `to` waits there until more is decided.
    pub(super) fn waits_for_news_of(&self, to: NodeId) -> bool {
        self.news.source == Some(to)
    }

    /// Ends a heartbeat round. Returns whether a source is asked: an observer asks one a round, unless
    /// pieces of a snapshot arrive from one.
    pub(super) fn end_round_of_news(&mut self) -> Asked {
        let has_ended = self.log.decided_stopsign().is_some();
        if !self.is_observer() || has_ended || self.partial_snapshot.is_arriving() {
            return Asked::No;
        }
        self.news.waited += 1;
        match self.news.source.filter(|source| self.routing.is_reachable(*source)) {
            Some(source) if self.news.waited >= ASKED_AGAIN_AFTER => {
                self.wait_for_news(source);
                Asked::Yes
            }
            Some(_) => Asked::No,
            None => {
                let reachable = self.routing.reachable();
                let turn = self.news.turn.wrapping_add(1) % reachable.len().max(1);
                let source = reachable.get(turn).copied();
                self.news.turn = turn;
                source.into_iter().for_each(|source| self.wait_for_news(source));
                if source.is_some() {
                    Asked::Yes
                } else {
                    Asked::No
                }
            }
        }
    }

    /// Returns whether a chunk begins beyond this log and has no snapshot. Then its sender has
    /// trimmed the entries before it. That proves that every member of its epoch stores them, but an
    /// observer lacks them. So may a server that is behind, in an earlier epoch, which the stamp of the
    /// chunk shows: what lies in its log beyond the decided index may never have been chosen.
    pub(super) fn is_trimmed_at(&mut self, source: NodeId, chunk: &CatchUpChunk<T>) -> bool {
        let CatchUpChunk { base, from_idx, ref snapshot, stamp, .. } = *chunk;
        let is_trimmed = from_idx > base && base <= self.log.decided_idx() && snapshot.is_none();
        let is_of_another_epoch = self.log.continues() && stamp.is_from_another_epoch();
        let may_lack = match self.is_observer() || is_of_another_epoch {
            true => from_idx > self.log.decided_idx(),
            false => self.log.continues() && from_idx > self.log.len(),
        };
        if !is_trimmed || !may_lack {
            return false;
        }
        if from_idx > self.news.trimmed_at_source {
            self.news.trimmed_at_source = from_idx;
            self.trace.emit(|| {
                let event = LogEvent::warn("lacks entries that a source has trimmed");
                event.at(from_idx).with_peer(source)
            });
        }
        self.news.source = None;
        true
    }

    /// Returns the number of entries that a source has trimmed, if this observer lacks some of
    /// them.
    pub(crate) fn trimmed_at_source(&self) -> Option<u64> {
        Some(self.news.trimmed_at_source).filter(|idx| *idx > self.log.decided_idx())
    }

    /// Returns the servers that observe this one, in order.
    pub(crate) fn observer_pids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.observers.by_pid.keys().copied()
    }

    /// Returns the servers that observe this one, in order, with their progress.
    pub(crate) fn observers(&self) -> Vec<ObserverStatus> {
        let decided_idx = self.log.decided_idx();
        let status = |(pid, observer): (&NodeId, &Observer)| ObserverStatus {
            pid: *pid,
            via: observer.via,
            decided_idx: observer.decided_idx,
            lag: decided_idx.saturating_sub(observer.decided_idx),
        };
        self.observers.by_pid.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests;
