//! Linearizable reads that wait.

use crate::{
    protocol::{Answer, Why},
    state::{Command, State},
    waiter::Waiter,
};
use omnipaxos::{
    reads::{ReadId, ReadRefused, ReadState},
    storage::Storage,
    OmniPaxos,
};
use std::collections::BTreeMap;

/// So many ticks a read may wait here. Then the client hears why, and asks another server.
const TIMEOUT: u64 = 75;

/// Reads that were not answered. None is here for longer than it may wait.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Under way. Those that come between two outputs share an id, and cost one request.
    requested: BTreeMap<ReadId, Vec<Read>>,
    /// To be requested again with the next tick, and why.
    refused: Vec<(Read, ReadRefused)>,
}

/// A read of a key.
#[derive(Debug)]
struct Read {
    key: String,
    waiter: Waiter,
    /// It is given up after this tick.
    last_tick: u64,
}

impl Reads {
    /// Begins a read, in tick `now`.
    pub(crate) fn begin<B: Storage<Command>>(
        &mut self,
        replica: &mut OmniPaxos<Command, B>,
        key: String,
        waiter: Waiter,
        now: u64,
    ) {
        self.request(replica, Read { key, waiter, last_tick: now + TIMEOUT });
    }

    /// Whether reads wait for ticks.
    pub(crate) fn needs_ticks(&self) -> bool {
        !self.requested.is_empty() || !self.refused.is_empty()
    }

    /// Requests again what was refused, and gives up what has waited for too long.
    pub(crate) fn tick<B: Storage<Command>>(
        &mut self,
        replica: &mut OmniPaxos<Command, B>,
        now: u64,
    ) {
        for (read, why) in std::mem::take(&mut self.refused) {
            if now > read.last_tick {
                read.waiter.answer(Answer::AskAgain(Why::NotRead(why.to_string())));
            } else {
                self.request(replica, read);
            }
        }
        self.requested.retain(|_, reads| {
            for late in reads.extract_if(.., |read| now > read.last_tick) {
                let why = "the leader, or a quorum of servers, does not answer".to_owned();
                late.waiter.answer(Answer::AskAgain(Why::NotRead(why)));
            }
            !reads.is_empty()
        });
    }

    /// Answers what can be read from the state after `applied_idx` entries.
    pub(crate) fn answer<B: Storage<Command>>(
        &mut self,
        replica: &OmniPaxos<Command, B>,
        state: &State,
        applied_idx: u64,
    ) {
        let mut refused = Vec::new();
        self.requested.retain(|id, reads| match replica.read_state(*id) {
            ReadState::Ready(idx) if idx <= applied_idx => {
                for Read { key, waiter, .. } in reads {
                    waiter.answer(Answer::Value(state.get(key).map(str::to_owned)));
                }
                false
            }
            ReadState::Refused(why) => {
                refused.extend(reads.drain(..).map(|read| (read, why.clone())));
                false
            }
            _ => true,
        });
        for (read, why) in refused {
            self.refuse(read, why);
        }
    }

    fn request<B: Storage<Command>>(&mut self, replica: &mut OmniPaxos<Command, B>, read: Read) {
        match replica.request_read() {
            Ok(id) => self.requested.entry(id).or_default().push(read),
            Err(why) => self.refuse(read, why),
        }
    }

    /// Keeps a read for the next tick, if it can come to something here.
    fn refuse(&mut self, read: Read, why: ReadRefused) {
        match why {
            ReadRefused::NoLeader
            | ReadRefused::Unreachable(_)
            | ReadRefused::Preparing
            | ReadRefused::Unknown => self.refused.push((read, why)),
            _ => read.waiter.answer(Answer::Refused(why.to_string())),
        }
    }
}
