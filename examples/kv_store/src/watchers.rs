//! Clients that watch keys.

use crate::{
    protocol::{Answer, Response},
    state::Change,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Clients that are told of changes.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    prefix: String,
    /// Of its request.
    number: u64,
    to: mpsc::Sender<Response>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, this client is told of each change of a key with this prefix.
    pub(crate) fn add(&self, prefix: String, number: u64, to: mpsc::Sender<Response>) {
        let mut watchers = self.lock();
        watchers.retain(|watcher| !watcher.to.is_closed());
        watchers.push(Watcher { prefix, number, to });
    }

    /// Tells the watchers of a change. One that does not keep up would miss changes without
    /// knowing, so it is told, as soon as it has read the changes before, that there will be no
    /// more.
    pub(crate) fn tell(&self, change: &Change) {
        let Change { key, value } = change;
        self.lock().retain(|Watcher { prefix, number, to }| {
            if !key.starts_with(prefix) {
                return !to.is_closed();
            }
            let answer = Answer::Changed { key: key.clone(), value: value.clone() };
            let (to, number) = (to.clone(), *number);
            let told = to.try_send(Response { number, answer });
            if told.is_err() {
                let answer = Answer::Refused("too many changes were not read in time".to_owned());
                tokio::spawn(async move { to.send(Response { number, answer }).await });
            }
            told.is_ok()
        });
    }
}
