//! Linearizable reads that wait.

use crate::{
    errors::ReadError,
    request::{answer, Reply},
};
use omnipaxos::{
    reads::{ReadId, ReadRefused, ReadState},
    storage::{Entry, Storage},
    OmniPaxos,
};
use std::collections::BTreeMap;

/// The largest number of waiting reads.
const MAX_READS: usize = 65_536;

/// Ends a read with its index.
type Read = Reply<Result<u64, ReadError>>;

/// Reads without an answer. Those whose callers have dropped their futures are removed at the next tick.
#[derive(Debug, Default)]
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
        read: Read,
    ) {
        if self.len >= MAX_READS {
            return answer(read, Err(ReadError::Busy));
        }
        self.len += 1;
        self.request_again(replica, read);
    }

    /// Returns whether reads wait for ticks.
    pub(super) fn needs_ticks(&self) -> bool {
        self.len > 0
    }

    /// Requests refused reads again, and drops those without a caller.
    pub(super) fn retry<T: Entry, B: Storage<T>>(&mut self, replica: &mut OmniPaxos<T, B>) {
        if self.len == 0 {
            return;
        }
        self.requested.retain(|_, reads| {
            reads.retain(|read| !read.is_closed());
            !reads.is_empty()
        });
        self.refused.retain(|read| !read.is_closed());
        self.len = self.refused.len() + self.requested.values().map(Vec::len).sum::<usize>();
        for read in std::mem::take(&mut self.refused) {
            self.request_again(replica, read);
        }
    }

    /// Answers the reads that are ready.
    pub(super) fn answer<T: Entry, B: Storage<T>>(&mut self, replica: &mut OmniPaxos<T, B>) {
        let mut refused = Vec::new();
        let len = &mut self.len;
        self.requested.retain(|id, reads| match replica.read_state(*id) {
            ReadState::Ready(idx) => {
                *len -= reads.len();
                reads.drain(..).for_each(|read| answer(read, Ok(idx)));
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
    fn refuse(&mut self, read: Read, reason: ReadRefused) {
        match reason {
            ReadRefused::NoLeader
            | ReadRefused::Unreachable(_)
            | ReadRefused::Preparing
            | ReadRefused::Unknown => self.refused.push(read),
            reason => {
                self.len -= 1;
                answer(read, Err(ReadError::Refused(reason)));
            }
        }
    }
}
