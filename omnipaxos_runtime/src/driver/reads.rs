//! Linearizable reads that wait.

use crate::{errors::ReadError, reply::ReplyTo, request::ReadIdx};
use omnipaxos::{
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Storage},
    OmniPaxos,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The largest number of waiting reads.
const MAX_READS: usize = 65_536;

/// A read that waits.
struct Read {
    reply: ReplyTo<ReadIdx>,
    /// It ends at this time, if not before.
    deadline: Option<Instant>,
    /// Why it was last refused.
    refused: Option<ReadRefused>,
}

/// Reads without an answer. Those whose callers have dropped their futures, and those out of time, are
/// removed at the next tick.
#[derive(Default)]
pub(super) struct Reads {
    /// Reads that were requested between two outputs share an id.
    requested: BTreeMap<ReadId, Vec<Read>>,
    /// Reads to request again at the next tick.
    refused: Vec<Read>,
    len: usize,
}

impl Reads {
    /// Requests a read.
    pub(super) fn request<T: Entry, B: Storage<T>>(
        &mut self,
        replica: &mut OmniPaxos<T, B>,
        deadline: Option<Instant>,
        reply: ReplyTo<ReadIdx>,
    ) {
        if self.len >= MAX_READS {
            return reply.send(Err(ReadError::Busy));
        }
        self.len += 1;
        self.request_again(replica, Read { reply, deadline, refused: None });
    }

    /// Returns whether reads wait for ticks.
    pub(super) fn needs_ticks(&self) -> bool {
        self.len > 0
    }

    /// Requests refused reads again, and ends those without a caller or out of time.
    pub(super) fn retry<T: Entry, B: Storage<T>>(&mut self, replica: &mut OmniPaxos<T, B>) {
        if self.len == 0 {
            return;
        }
        let now = Instant::now();
        self.requested.retain(|_, reads| {
            end_old(reads, now);
            !reads.is_empty()
        });
        end_old(&mut self.refused, now);
        self.len = self.refused.len() + self.requested.values().map(Vec::len).sum::<usize>();
        for read in std::mem::take(&mut self.refused) {
            self.request_again(replica, read);
        }
    }

    /// Returns whether a read is ready: the first one is before all others.
    pub(super) fn has_ready<T: Entry, B: Storage<T>>(&self, replica: &OmniPaxos<T, B>) -> bool {
        let first = self.requested.keys().next();
        first.is_some_and(|id| matches!(replica.read_state(*id), ReadState::Ready(_)))
    }

    /// Answers the reads that are ready.
    pub(super) fn answer<T: Entry, B: Storage<T>>(&mut self, replica: &mut OmniPaxos<T, B>) {
        let mut refused = Vec::new();
        let len = &mut self.len;
        self.requested.retain(|id, reads| match replica.read_state(*id) {
            ReadState::Ready(idx) => {
                *len -= reads.len();
                reads.drain(..).for_each(|read| read.reply.send(Ok(idx)));
                false
            }
            ReadState::Refused(reason) => {
                refused.extend(reads.drain(..).map(|read| (read, reason.clone())));
                false
            }
            // Also a state of a later version of the core.
            _waiting => true,
        });
        for (read, reason) in refused {
            self.refuse(read, reason);
        }
    }

    fn request_again<T: Entry, B: Storage<T>>(
        &mut self,
        replica: &mut OmniPaxos<T, B>,
        read: Read,
    ) {
        match replica.request_read() {
            Ok(id) => self.requested.entry(id).or_default().push(read),
            Err(reason) => self.refuse(read, reason),
        }
    }

    /// Keeps a read for the next tick, if the reason may vanish.
    fn refuse(&mut self, mut read: Read, reason: ReadRefused) {
        match reason {
            ReadRefused::NoLeader
            | ReadRefused::Unreachable(_)
            | ReadRefused::Preparing
            | ReadRefused::Unknown => {
                read.refused = Some(reason);
                self.refused.push(read);
            }
            reason => {
                self.len -= 1;
                read.reply.send(Err(ReadError::Refused(reason)));
            }
        }
    }
}

/// Ends the reads without a caller, and those out of time.
fn end_old(reads: &mut Vec<Read>, now: Instant) {
    let is_old = |read: &mut Read| {
        read.reply.is_closed() || read.deadline.is_some_and(|deadline| deadline <= now)
    };
    for Read { reply, refused, .. } in reads.extract_if(.., is_old) {
        reply.send(Err(ReadError::TimedOut(refused)));
    }
}
