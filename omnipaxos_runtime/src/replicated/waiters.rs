//! The calls of `execute` that wait until their commands are applied here.

use super::{
    command_id::CommandId,
    sessions::{Lookup, Sessions},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The end of a command: its index and its output, or that its output is forgotten.
pub(super) type Executed<O> = Result<(u64, O), OutputForgotten>;

/// The output of a command is not kept any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputForgotten;

/// The waiting calls. Each has a caller that holds a [`Waiting`].
#[derive(Debug)]
pub(super) struct Waiters<O>(Mutex<Inner<O>>);

#[derive(Debug)]
struct Inner<O> {
    /// Commands before this index are applied.
    applied_idx: u64,
    /// Whether no command will be applied any more.
    is_ended: bool,
    next_token: u64,
    /// By client and number.
    by_id: BTreeMap<(u64, u64), Vec<Waiter<O>>>,
}

#[derive(Debug)]
struct Waiter<O> {
    token: u64,
    /// The index of the command in the log, or one that is not lower, once it is known.
    decided_idx: Option<u64>,
    reply: oneshot::Sender<Executed<O>>,
}

impl<O> Default for Waiters<O> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            applied_idx: 0,
            is_ended: false,
            next_token: 0,
            by_id: BTreeMap::new(),
        }))
    }
}

impl<O> Waiters<O> {
    fn lock(&self) -> MutexGuard<'_, Inner<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call. Its receiver is closed if no command will be applied any more.
    pub(super) fn add(
        self: &Arc<Self>,
        id: CommandId,
    ) -> (Waiting<O>, oneshot::Receiver<Executed<O>>) {
        let (reply, receiver) = oneshot::channel();
        let mut inner = self.lock();
        let token = inner.next_token;
        inner.next_token += 1;
        if !inner.is_ended {
            let waiter = Waiter { token, decided_idx: None, reply };
            inner.by_id.entry((id.client, id.number)).or_default().push(waiter);
        }
        (Waiting { waiters: self.clone(), id, token }, receiver)
    }

    /// The command at `idx` was applied, or recognised as a repeated one.
    pub(super) fn applied(&self, id: CommandId, idx: u64, executed: &Executed<O>)
    where
        O: Clone,
    {
        let mut inner = self.lock();
        inner.applied_idx = idx + 1;
        for waiter in inner.by_id.remove(&(id.client, id.number)).into_iter().flatten() {
            // The caller may have dropped its future.
            let _ = waiter.reply.send(executed.clone());
        }
    }

    /// A snapshot of the commands before `idx` was restored.
    pub(super) fn restored(&self, idx: u64, sessions: &Sessions<O>)
    where
        O: Clone,
    {
        let mut inner = self.lock();
        inner.applied_idx = idx;
        inner.by_id.retain(|(client, number), waiters| {
            let id = CommandId { client: *client, number: *number, oldest: 0 };
            let executed = match sessions.lookup(id) {
                Lookup::Kept(idx, output) => Some(Ok((idx, output.clone()))),
                Lookup::Forgotten => Some(Err(OutputForgotten)),
                Lookup::New => None,
            };
            let is_over = |waiter: &mut Waiter<O>| {
                executed.is_some() || waiter.decided_idx.is_some_and(|decided| decided < idx)
            };
            for waiter in waiters.extract_if(.., is_over) {
                // The caller may have dropped its future.
                let _ = waiter.reply.send(executed.clone().unwrap_or(Err(OutputForgotten)));
            }
            !waiters.is_empty()
        });
    }

    /// No command will be applied any more: closes all receivers.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.is_ended = true;
        inner.by_id.clear();
    }
}

/// A waiting call. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting<O> {
    waiters: Arc<Waiters<O>>,
    id: CommandId,
    token: u64,
}

impl<O> Waiting<O> {
    /// The command is decided at this index or before.
    pub(super) fn decided(&self, idx: u64) {
        let mut inner = self.waiters.lock();
        let applied_idx = inner.applied_idx;
        let Some(waiters) = inner.by_id.get_mut(&(self.id.client, self.id.number)) else {
            return;
        };
        if let Some(at) = waiters.iter().position(|waiter| waiter.token == self.token) {
            if idx < applied_idx {
                // A snapshot stood for the command, and had no output of it.
                let waiter = waiters.swap_remove(at);
                let _ = waiter.reply.send(Err(OutputForgotten));
            } else if let Some(waiter) = waiters.get_mut(at) {
                waiter.decided_idx = Some(idx);
            }
        }
    }
}

impl<O> Drop for Waiting<O> {
    fn drop(&mut self) {
        let mut inner = self.waiters.lock();
        let name = (self.id.client, self.id.number);
        if let Some(waiters) = inner.by_id.get_mut(&name) {
            waiters.retain(|waiter| waiter.token != self.token);
            if waiters.is_empty() {
                inner.by_id.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandId, OutputForgotten, Sessions, Waiters};
    use std::sync::Arc;

    fn id(number: u64) -> CommandId {
        CommandId { client: 1, number, oldest: 0 }
    }

    #[test]
    fn every_call_for_a_command_gets_its_output() {
        let waiters = Arc::new(Waiters::default());
        let (_first, mut one) = waiters.add(id(3));
        let (_second, mut two) = waiters.add(id(3));
        let (_third, mut other) = waiters.add(id(4));
        waiters.applied(id(3), 7, &Ok((7, "seven")));
        assert_eq!(one.try_recv(), Ok(Ok((7, "seven"))));
        assert_eq!(two.try_recv(), Ok(Ok((7, "seven"))));
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn a_snapshot_ends_the_calls_for_which_it_stands() {
        let mut sessions = Sessions::default();
        sessions.touch(1, 2);
        sessions.keep(id(3), 2, "three");
        let waiters = Arc::new(Waiters::default());
        let (_kept, mut kept) = waiters.add(id(3));
        let (early, mut early_reply) = waiters.add(id(4));
        let (late, mut late_reply) = waiters.add(id(5));
        let (after, mut after_reply) = waiters.add(id(6));
        early.decided(1);
        waiters.restored(4, &sessions);
        late.decided(3);
        after.decided(4);
        assert_eq!(kept.try_recv(), Ok(Ok((2, "three"))));
        assert_eq!(early_reply.try_recv(), Ok(Err(OutputForgotten)));
        assert_eq!(late_reply.try_recv(), Ok(Err(OutputForgotten)));
        assert!(after_reply.try_recv().is_err());
        waiters.applied(id(6), 4, &Ok((4, "six")));
        assert_eq!(after_reply.try_recv(), Ok(Ok((4, "six"))));
    }

    #[test]
    fn dropped_calls_leave_nothing_behind() {
        let waiters = Arc::new(Waiters::<u64>::default());
        drop(waiters.add(id(3)));
        assert!(waiters.lock().by_id.is_empty());
        let (_waiting, mut reply) = waiters.add(id(3));
        waiters.end();
        assert!(reply.try_recv().is_err());
        let (_waiting, mut reply) = waiters.add(id(3));
        assert!(reply.try_recv().is_err());
        assert!(waiters.lock().by_id.is_empty());
    }
}
