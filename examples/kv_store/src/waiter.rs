//! Clients that wait for answers, and those who watch.

use crate::{
    protocol::{Answer, Response},
    state::Change,
};
use tokio::sync::mpsc;
use tracing::debug;

/// A client that waits for the answer to a request.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    /// Of the request.
    number: u64,
    to: mpsc::Sender<Response>,
}

impl Waiter {
    pub(crate) fn new(number: u64, to: mpsc::Sender<Response>) -> Self {
        Self { number, to }
    }

    /// Whether the client has closed its connection.
    pub(crate) fn is_gone(&self) -> bool {
        self.to.is_closed()
    }

    /// Answers the client. One that does not read its answers loses them and asks again: a client
    /// must not hold up the replica.
    pub(crate) fn answer(&self, answer: Answer) {
        let Self { number, to } = self;
        if to.try_send(Response { number: *number, answer }).is_err() {
            debug!("dropped the answer to request {number}");
        }
    }
}

/// Clients that are told of changes.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    prefix: String,
    waiter: Waiter,
}

impl Watchers {
    /// From now on, this client is told of each change of a key with this prefix.
    pub(crate) fn add(&mut self, prefix: String, waiter: Waiter) {
        self.watchers.push(Watcher { prefix, waiter });
    }

    pub(crate) fn forget_those_gone(&mut self) {
        self.watchers.retain(|watcher| !watcher.waiter.to.is_closed());
    }

    /// Tells the watchers of a change. One that does not keep up would miss changes without
    /// knowing, so it is told, as soon as it has read the changes before, that there will be no
    /// more.
    pub(crate) fn tell(&mut self, change: &Change) {
        self.watchers.retain(|Watcher { prefix, waiter }| {
            let Change { key, value } = change;
            if !key.starts_with(prefix) {
                return true;
            }
            let answer = Answer::Changed { key: key.clone(), value: value.clone() };
            let (to, number) = (waiter.to.clone(), waiter.number);
            let told = to.try_send(Response { number, answer });
            if told.is_err() {
                let answer = Answer::Refused("too many changes were not read in time".to_owned());
                tokio::spawn(async move { to.send(Response { number, answer }).await });
            }
            told.is_ok()
        });
    }
}
