//! The calls of `execute` that wait until their commands are applied here.

use super::{
    command_id::CommandId,
    entry::IdentifiedCommand,
    machine::StateMachine,
    sessions::{Lookup, Sessions},
};
use crate::{errors::AppendError, reply::TakeResult, request::Appended};
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

/// The end of a call.
#[derive(Debug)]
pub(super) enum Ended<O> {
    /// The command is applied.
    Executed(Executed<O>),
    /// The command is not in the log, for this reason.
    Failed(AppendError<()>),
    /// The proposal for which this call waited has ended without the command: it is to be proposed again.
    ProposeAgain,
}

/// The waiting calls. Each has a caller that holds a [`Waiting`].
///
/// A command is proposed once at a time, however many calls wait for it.
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
    by_id: BTreeMap<(u64, u64), UnderWay<O>>,
}

/// A command that has no output here yet.
#[derive(Debug)]
struct UnderWay<O> {
    /// The present proposal, unless it has ended.
    proposal: Option<u64>,
    /// The index of the command in the log, or one that is not lower, once it is known.
    decided_idx: Option<u64>,
    waiters: Vec<Waiter<O>>,
}

#[derive(Debug)]
struct Waiter<O> {
    token: u64,
    reply: oneshot::Sender<Ended<O>>,
}

impl<O> UnderWay<O> {
    fn end(self, ended: impl Fn() -> Ended<O>) {
        for waiter in self.waiters {
            // The caller may have dropped its future.
            let _ = waiter.reply.send(ended());
        }
    }
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

impl<O> Inner<O> {
    fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl<O> Waiters<O> {
    fn lock(&self) -> MutexGuard<'_, Inner<O>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of commands that have no output here yet.
    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Adds a call. Its receiver is closed if no command will be applied any more.
    pub(super) fn add(
        self: &Arc<Self>,
        id: CommandId,
    ) -> (Waiting<O>, oneshot::Receiver<Ended<O>>) {
        let (reply, receiver) = oneshot::channel();
        let mut inner = self.lock();
        let token = inner.next_token();
        if !inner.is_ended {
            let name = (id.client, id.number);
            let under_way = inner.by_id.entry(name).or_insert_with(|| UnderWay {
                proposal: None,
                decided_idx: None,
                waiters: Vec::new(),
            });
            under_way.waiters.push(Waiter { token, reply });
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
        if let Some(under_way) = inner.by_id.remove(&(id.client, id.number)) {
            under_way.end(|| Ended::Executed(executed.clone()));
        }
    }

    /// A snapshot of the commands before `idx` was restored.
    pub(super) fn restored(&self, idx: u64, sessions: &Sessions<O>)
    where
        O: Clone,
    {
        let mut inner = self.lock();
        inner.applied_idx = idx;
        let is_over = |(client, number): &(u64, u64), under_way: &mut UnderWay<O>| {
            let id = CommandId { client: *client, number: *number, oldest: 0 };
            let executed = match sessions.lookup(id) {
                Lookup::Kept(idx, output) => Some(Ok((idx, output.clone()))),
                Lookup::Forgotten => Some(Err(OutputForgotten)),
                Lookup::New => None,
            };
            let is_before = under_way.decided_idx.is_some_and(|decided| decided < idx);
            executed.or(is_before.then_some(Err(OutputForgotten)))
        };
        inner.by_id.retain(|name, under_way| {
            let Some(executed) = is_over(name, under_way) else {
                return true;
            };
            for waiter in under_way.waiters.drain(..) {
                // The caller may have dropped its future.
                let _ = waiter.reply.send(Ended::Executed(executed.clone()));
            }
            false
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
    /// Returns the name of the command.
    pub(super) fn id(&self) -> CommandId {
        self.id
    }

    /// Begins a proposal of the command. `None` if one is under way, or the command is decided: then this
    /// call waits for that.
    pub(super) fn propose(&self) -> Option<Proposal<O>> {
        let mut inner = self.waiters.lock();
        let token = inner.next_token();
        let under_way = inner.by_id.get_mut(&(self.id.client, self.id.number))?;
        if under_way.proposal.is_some() || under_way.decided_idx.is_some() {
            return None;
        }
        under_way.proposal = Some(token);
        drop(inner);
        Some(Proposal { waiters: self.waiters.clone(), id: self.id, token })
    }
}

impl<O> Drop for Waiting<O> {
    fn drop(&mut self) {
        let mut inner = self.waiters.lock();
        let name = (self.id.client, self.id.number);
        if let Some(under_way) = inner.by_id.get_mut(&name) {
            under_way.waiters.retain(|waiter| waiter.token != self.token);
            // A later call for the same command finds its proposal.
            let is_left = !under_way.waiters.is_empty()
                || under_way.proposal.is_some()
                || under_way.decided_idx.is_some();
            if !is_left {
                inner.by_id.remove(&name);
            }
        }
    }
}

/// A proposal of a command, which the replica has. If it is dropped, the node has ended.
#[derive(Debug)]
pub(super) struct Proposal<O> {
    waiters: Arc<Waiters<O>>,
    id: CommandId,
    token: u64,
}

impl<O> Proposal<O> {
    /// Ends the proposal. Calls that wait learn from closed receivers that the node has ended.
    fn end(&self, appended: Option<Result<u64, AppendError<()>>>) {
        let mut inner = self.waiters.lock();
        let name = (self.id.client, self.id.number);
        let applied_idx = inner.applied_idx;
        let Some(under_way) = inner.by_id.get_mut(&name) else {
            return;
        };
        if under_way.proposal != Some(self.token) {
            return;
        }
        under_way.proposal = None;
        let decided_idx = match appended {
            Some(Ok(idx)) => idx,
            Some(Err(AppendError::DecidedBefore(idx))) => idx.saturating_sub(1),
            Some(Err(failed)) => {
                let mut under_way = inner.by_id.remove(&name);
                drop(inner);
                let first = under_way.as_mut().filter(|all| !all.waiters.is_empty());
                if let Some(first) = first.map(|all| all.waiters.remove(0)) {
                    let ended = match failed {
                        AppendError::Unknown => Ended::ProposeAgain,
                        failed => Ended::Failed(failed),
                    };
                    // The caller may have dropped its future.
                    let _ = first.reply.send(ended);
                }
                return under_way.into_iter().for_each(|all| all.end(|| Ended::ProposeAgain));
            }
            None => return drop(inner.by_id.remove(&name)),
        };
        if decided_idx >= applied_idx {
            under_way.decided_idx = Some(decided_idx);
        } else if let Some(under_way) = inner.by_id.remove(&name) {
            // A snapshot stood for the command, and had no output of it.
            under_way.end(|| Ended::Executed(Err(OutputForgotten)));
        }
    }
}

impl<M: StateMachine> TakeResult<Appended<IdentifiedCommand<M>>> for Proposal<M::Output> {
    fn take(self: Box<Self>, appended: Appended<IdentifiedCommand<M>>) {
        self.end(Some(appended.map_err(|error| error.map(|_command| ()))));
    }

    /// A later call for the same command waits for it.
    fn is_closed(&self) -> bool {
        false
    }
}

impl<O> Drop for Proposal<O> {
    fn drop(&mut self) {
        // Of no effect once it has ended.
        self.end(None);
    }
}

#[cfg(test)]
mod tests {
    use super::{AppendError, CommandId, Ended, Executed, OutputForgotten, Sessions, Waiters};
    use std::sync::Arc;
    use tokio::sync::oneshot::{error::TryRecvError, Receiver};

    fn id(number: u64) -> CommandId {
        CommandId { client: 1, number, oldest: 0 }
    }

    fn executed<O: Copy>(reply: &mut Receiver<Ended<O>>) -> Option<Executed<O>> {
        match reply.try_recv() {
            Ok(Ended::Executed(executed)) => Some(executed),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn every_call_for_a_command_gets_its_output_from_one_proposal() {
        let waiters = Arc::new(Waiters::default());
        let (first, mut one) = waiters.add(id(3));
        let (second, mut two) = waiters.add(id(3));
        let (_third, mut other) = waiters.add(id(4));
        let proposal = first.propose().unwrap();
        assert!(second.propose().is_none(), "one is under way");
        proposal.end(Some(Ok(7)));
        drop(proposal);
        let (late, mut three) = waiters.add(id(3));
        assert!(late.propose().is_none(), "it is decided");
        waiters.applied(id(3), 7, &Ok((7, "seven")));
        for reply in [&mut one, &mut two, &mut three] {
            assert_eq!(executed(reply), Some(Ok((7, "seven"))));
        }
        assert!(executed(&mut other).is_none());
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn a_failed_proposal_ends_one_call_and_the_others_propose_again() {
        let waiters = Arc::new(Waiters::<u64>::default());
        let (first, mut one) = waiters.add(id(3));
        let (_second, mut two) = waiters.add(id(3));
        first.propose().unwrap().end(Some(Err(AppendError::Busy(()))));
        assert!(matches!(one.try_recv(), Ok(Ended::Failed(AppendError::Busy(())))));
        assert!(matches!(two.try_recv(), Ok(Ended::ProposeAgain)));
        let (again, mut reply) = waiters.add(id(3));
        again.propose().unwrap().end(Some(Err(AppendError::Unknown)));
        assert!(matches!(reply.try_recv(), Ok(Ended::ProposeAgain)));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_proposal_outlives_its_call_and_is_waited_for() {
        let waiters = Arc::new(Waiters::default());
        let (first, _) = waiters.add(id(3));
        let proposal = first.propose().unwrap();
        drop(first);
        let (second, mut reply) = waiters.add(id(3));
        assert!(second.propose().is_none());
        // The command was applied, and is executed once more: the end of the old proposal is of no concern.
        waiters.applied(id(3), 0, &Ok((0, 5)));
        assert_eq!(executed(&mut reply), Some(Ok((0, 5))));
        let (third, mut reply) = waiters.add(id(3));
        let _present = third.propose().unwrap();
        proposal.end(Some(Err(AppendError::DecidedBefore(1))));
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Empty);
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
        early.propose().unwrap().end(Some(Ok(1)));
        waiters.restored(4, &sessions);
        late.propose().unwrap().end(Some(Err(AppendError::DecidedBefore(4))));
        after.propose().unwrap().end(Some(Ok(4)));
        assert_eq!(executed(&mut kept), Some(Ok((2, "three"))));
        assert_eq!(executed(&mut early_reply), Some(Err(OutputForgotten)));
        assert_eq!(executed(&mut late_reply), Some(Err(OutputForgotten)));
        assert_eq!(after_reply.try_recv().unwrap_err(), TryRecvError::Empty);
        waiters.applied(id(6), 4, &Ok((4, "six")));
        assert_eq!(executed(&mut after_reply), Some(Ok((4, "six"))));
    }

    #[test]
    fn dropped_calls_leave_nothing_behind() {
        let waiters = Arc::new(Waiters::<u64>::default());
        drop(waiters.add(id(3)));
        assert_eq!(waiters.len(), 0);
        let (waiting, mut reply) = waiters.add(id(3));
        drop(waiting.propose());
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed, "the node has ended");
        let (_waiting, mut reply) = waiters.add(id(3));
        waiters.end();
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed);
        let (_waiting, mut reply) = waiters.add(id(3));
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed);
        assert_eq!(waiters.len(), 0);
    }
}
