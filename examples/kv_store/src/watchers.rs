//! Clients that watch keys.

use crate::{
    answers::Answers,
    protocol::{Answer, Response},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clients that get the changes.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<Watcher>>);

#[derive(Debug)]
struct Watcher {
    prefix: String,
    /// Of its request.
    number: u64,
    to: Answers,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, this client gets each change of a key with this prefix.
    pub(crate) fn add(&self, prefix: String, number: u64, to: Answers) {
        let mut watchers = self.lock();
        watchers.retain(|watcher| !watcher.to.is_closed());
        watchers.push(Watcher { prefix, number, to });
    }

    /// Sends a change to the watchers. One that does not keep up would miss changes without a sign. So it gets
    /// an end, as soon as it has read the changes before.
    pub(crate) fn send(&self, key: &str, value: Option<&Arc<str>>) {
        // The key is copied once, if anybody wants it.
        let mut shared: Option<Arc<str>> = None;
        self.lock().retain(|Watcher { prefix, number, to }| {
            if !key.starts_with(prefix) {
                return !to.is_closed();
            }
            let key = shared.get_or_insert_with(|| key.into()).clone();
            let answer = Answer::Changed { key, value: value.cloned() };
            let (to, number) = (to.clone(), *number);
            let sent = to.try_send(Response { number, answer });
            if sent.is_err() {
                let answer = Answer::Refused("too many changes were not read in time".to_owned());
                tokio::spawn(async move { to.send(Response { number, answer }).await });
            }
            sent.is_ok()
        });
    }
}
