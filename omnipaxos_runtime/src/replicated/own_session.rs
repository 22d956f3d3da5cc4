//! The numbers of the commands that a node executes for its own callers.

use super::{command_id::CommandId, sessions::MAX_OUTPUTS};
use crate::random::random;
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The session of one start of a node: a client with a random number.
///
/// The span of the numbers under way is at most [`MAX_OUTPUTS`], so that no server forgets the output
/// of one of them.
#[derive(Debug)]
pub(super) struct OwnSession {
    client: u64,
    numbers: Mutex<Numbers>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Numbers {
    next: u64,
    under_way: BTreeSet<u64>,
}

impl OwnSession {
    pub(super) fn new() -> Self {
        Self { client: random(), numbers: Mutex::default(), freed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next number, once the span allows it.
    pub(super) async fn begin(&self) -> UnderWay<'_> {
        loop {
            // Created before the check, so that it misses no number that becomes free.
            let freed = self.freed.notified();
            if let Some(id) = self.try_begin() {
                return UnderWay { session: self, id };
            }
            freed.await;
        }
    }

    fn try_begin(&self) -> Option<CommandId> {
        let mut numbers = self.lock();
        let number = numbers.next;
        let oldest = numbers.under_way.first().copied().unwrap_or(number);
        if number - oldest >= MAX_OUTPUTS as u64 {
            return None;
        }
        numbers.next += 1;
        numbers.under_way.insert(number);
        Some(CommandId { client: self.client, number, oldest })
    }
}

/// A number under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    session: &'a OwnSession,
    id: CommandId,
}

impl UnderWay<'_> {
    pub(super) fn id(&self) -> CommandId {
        self.id
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.session.lock().under_way.remove(&self.id.number);
        self.session.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnSession, MAX_OUTPUTS};

    #[test]
    fn the_span_of_the_numbers_under_way_is_bounded() {
        let session = OwnSession::new();
        let mut ids: Vec<_> = std::iter::from_fn(|| session.try_begin()).collect();
        assert_eq!(ids.len(), MAX_OUTPUTS);
        assert!(ids.iter().all(|id| id.oldest == 0));
        // Number 0 is still under way.
        let last = ids.pop().unwrap();
        session.lock().under_way.remove(&last.number);
        assert_eq!(session.try_begin(), None);
        session.lock().under_way.remove(&0);
        let next = session.try_begin().unwrap();
        assert_eq!((next.number, next.oldest), (MAX_OUTPUTS as u64, 1));
    }
}
