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
        if let Some(id) = self.try_begin() {
            return UnderWay { session: self, id };
        }
        loop {
            // One call is woken at a time. If there is no waiting call yet, the next one finds the wake-up.
            self.freed.notified().await;
            if let Some(id) = self.try_begin() {
                // There may be room for the next one, too.
                self.freed.notify_one();
                return UnderWay { session: self, id };
            }
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
        let mut numbers = self.session.lock();
        let was_oldest = numbers.under_way.first() == Some(&self.id.number);
        numbers.under_way.remove(&self.id.number);
        drop(numbers);
        // Only then is the span smaller.
        if was_oldest {
            self.session.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OwnSession, UnderWay, MAX_OUTPUTS};
    use std::{
        future::Future,
        sync::{
            atomic::{AtomicUsize, Ordering},
            Arc,
        },
        task::{Context, Poll, Wake},
    };

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn calls_that_wait_are_woken_one_at_a_time_and_only_if_there_is_room() {
        let session = OwnSession::new();
        let mut under_way: Vec<_> = std::iter::from_fn(|| session.try_begin())
            .map(|id| UnderWay { session: &session, id })
            .collect();
        let wakes = Arc::new(Wakes::default());
        let waker = wakes.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(session.begin())).collect();
        for call in &mut waiting {
            assert!(call.as_mut().poll(&mut context).is_pending());
        }
        let woken = || wakes.0.load(Ordering::Relaxed);
        // Not the oldest.
        drop(under_way.remove(1));
        assert_eq!(woken(), 0);
        // Then two numbers are free.
        drop(under_way.remove(0));
        assert_eq!(woken(), 1);
        let mut begun = Vec::new();
        for call in &mut waiting {
            if let Poll::Ready(begin) = call.as_mut().poll(&mut context) {
                begun.push(begin);
            }
        }
        assert_eq!(begun.len(), 2);
        assert_eq!(woken(), 3, "each passes it on");
        // A call that is dropped after it was woken passes it on, too.
        drop(under_way.remove(0));
        assert_eq!(woken(), 4);
        drop(waiting.remove(3));
        assert_eq!(woken(), 5);
    }

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
