//! The calls of `execute` that wait until their commands are applied here.

use super::{
    command_id::CommandId,
    entry::IdentifiedCommand,
    machine::StateMachine,
    sessions::{Lookup, Sessions},
};
use crate::{errors::AppendError, reply::TakeResult, request::Appended};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The end of a command: its index and its output, or why there is no output.
pub(super) type Executed<O> = Result<(u64, O), NoOutput>;

/// Why a command in the log has no output.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum NoOutput {
    /// It was applied, and its output is not kept any more.
    Forgotten,
    /// Its number is below those whose outputs are kept. It was applied before, if its client keeps the rule
    /// for numbers.
    NumberTooOld,
}

/// What is known of the earlier proposals of a command by the calls that wait for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// None of them is decided.
    NotDecided,
    /// One of them may be decided.
    MayBeDecided,
}

/// The end of a call.
#[derive(Debug)]
pub(super) enum Ended<O> {
    /// The command is applied.
    Executed(Executed<O>),
    /// The last proposal is not in the log, for this reason.
    Failed(AppendError<()>, Earlier),
    /// The proposal for which this call waited has ended without the command: it is to be proposed again.
    ProposeAgain(Earlier),
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
    by_id: BTreeMap<Name, UnderWay<O>>,
    /// The commands whose own index is forgotten, by the last index that they may have.
    by_last_idx: BTreeSet<(u64, Name)>,
}

/// The client and the number of a command.
type Name = (u64, u64);

/// A command that has no output here yet.
#[derive(Debug)]
struct UnderWay<O> {
    /// The present proposal, unless it has ended.
    proposal: Option<u64>,
    /// The index of the command in the log, or one that is not lower, once it is known.
    decided_idx: Option<u64>,
    earlier: Earlier,
    waiters: Vec<Waiter<O>>,
}

#[derive(Debug)]
struct Waiter<O> {
    token: u64,
    reply: oneshot::Sender<Ended<O>>,
}

impl<O> UnderWay<O> {
    /// The proposal has failed. One call gets the reason, and the others propose again.
    fn fail(mut self, failed: AppendError<()>) {
        let is_unknown = matches!(failed, AppendError::Unknown);
        let earlier = if is_unknown { Earlier::MayBeDecided } else { self.earlier };
        if !is_unknown && !self.waiters.is_empty() {
            // The caller may have dropped its future.
            let _ = self.waiters.remove(0).reply.send(Ended::Failed(failed, earlier));
        }
        self.end(|| Ended::ProposeAgain(earlier));
    }

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
            by_last_idx: BTreeSet::new(),
        }))
    }
}

impl<O> Inner<O> {
    fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// The items before `idx` are applied. Ends the commands that are among them and were not recognised:
    /// a snapshot stood for them, and had no output of them.
    fn pass(&mut self, idx: u64) {
        self.applied_idx = idx;
        while let Some((last_idx, name)) = self.by_last_idx.first().copied() {
            if last_idx >= idx {
                return;
            }
            self.by_last_idx.pop_first();
            let under_way = self.by_id.get(&name);
            if under_way.is_some_and(|under_way| under_way.decided_idx == Some(last_idx)) {
                if let Some(under_way) = self.by_id.remove(&name) {
                    under_way.end(|| Ended::Executed(Err(NoOutput::Forgotten)));
                }
            }
        }
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
        earlier: Earlier,
    ) -> (Waiting<O>, oneshot::Receiver<Ended<O>>) {
        let (reply, receiver) = oneshot::channel();
        let mut inner = self.lock();
        let token = inner.next_token();
        if !inner.is_ended {
            let name = (id.client, id.number);
            let under_way = inner.by_id.entry(name).or_insert_with(|| UnderWay {
                proposal: None,
                decided_idx: None,
                earlier,
                waiters: Vec::new(),
            });
            if earlier == Earlier::MayBeDecided {
                under_way.earlier = earlier;
            }
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
        if let Some(under_way) = inner.by_id.remove(&(id.client, id.number)) {
            under_way.end(|| Ended::Executed(executed.clone()));
        }
        inner.pass(idx + 1);
    }

    /// The stop sign at `idx` was applied.
    pub(super) fn passed_stop_sign(&self, idx: u64) {
        self.lock().pass(idx + 1);
    }

    /// A snapshot of the commands before `idx` was restored.
    pub(super) fn restored(&self, idx: u64, sessions: &Sessions<O>)
    where
        O: Clone,
    {
        let mut inner = self.lock();
        let is_over = |(client, number): &(u64, u64), under_way: &mut UnderWay<O>| {
            let id = CommandId { client: *client, number: *number, oldest: 0 };
            let executed = match sessions.lookup(id) {
                Lookup::Kept(idx, output) => Some(Ok((idx, output.clone()))),
                Lookup::Forgotten => Some(Err(NoOutput::NumberTooOld)),
                Lookup::New => None,
            };
            let is_before = under_way.decided_idx.is_some_and(|decided| decided < idx);
            executed.or(is_before.then_some(Err(NoOutput::Forgotten)))
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
        inner.pass(idx);
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

    /// Adds a call for the same command, in place of this one.
    pub(super) fn again(&self, earlier: Earlier) -> (Self, oneshot::Receiver<Ended<O>>) {
        self.waiters.add(self.id, earlier)
    }

    /// Begins a proposal of the command. `None` if one is under way, or the command is decided: then this
    /// call waits for that. `None` also if this call has its answer already, of an earlier proposal: what
    /// that says of the command must stay true.
    pub(super) fn propose(&self) -> Option<Proposal<O>> {
        let mut inner = self.waiters.lock();
        let token = inner.next_token();
        let under_way = inner.by_id.get_mut(&(self.id.client, self.id.number))?;
        let waits = under_way.waiters.iter().any(|waiter| waiter.token == self.token);
        if !waits || under_way.proposal.is_some() || under_way.decided_idx.is_some() {
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
            // A later call for the same command finds its proposal. One that is decided is recognised if it is
            // proposed again.
            if under_way.waiters.is_empty() && under_way.proposal.is_none() {
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
        let Some(under_way) = inner.by_id.get_mut(&name) else {
            return;
        };
        if under_way.proposal != Some(self.token) {
            return;
        }
        under_way.proposal = None;
        let (decided_idx, is_exact) = match appended {
            Some(Ok(idx)) => (idx, true),
            Some(Err(AppendError::DecidedBefore(idx))) => (idx.saturating_sub(1), false),
            Some(Err(failed)) => {
                let under_way = inner.by_id.remove(&name);
                drop(inner);
                if let Some(under_way) = under_way {
                    under_way.fail(failed);
                }
                return;
            }
            None => return drop(inner.by_id.remove(&name)),
        };
        if under_way.waiters.is_empty() {
            inner.by_id.remove(&name);
            return;
        }
        under_way.decided_idx = Some(decided_idx);
        let applied_idx = inner.applied_idx;
        if !is_exact || decided_idx < applied_idx {
            inner.by_last_idx.insert((decided_idx, name));
            inner.pass(applied_idx);
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
    use super::{AppendError, CommandId, Earlier, Ended, Executed, NoOutput, Sessions, Waiters};
    use std::sync::Arc;
    use tokio::sync::oneshot::{error::TryRecvError, Receiver};

    const NEW: Earlier = Earlier::NotDecided;

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
        let (first, mut one) = waiters.add(id(3), NEW);
        let (second, mut two) = waiters.add(id(3), NEW);
        let (_third, mut other) = waiters.add(id(4), NEW);
        let proposal = first.propose().unwrap();
        assert!(second.propose().is_none(), "one is under way");
        proposal.end(Some(Ok(7)));
        drop(proposal);
        let (late, mut three) = waiters.add(id(3), NEW);
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
        let (first, mut one) = waiters.add(id(3), NEW);
        let (_second, mut two) = waiters.add(id(3), NEW);
        first.propose().unwrap().end(Some(Err(AppendError::Busy(()))));
        assert!(matches!(one.try_recv(), Ok(Ended::Failed(AppendError::Busy(()), NEW))));
        assert!(matches!(two.try_recv(), Ok(Ended::ProposeAgain(NEW))));
        let (again, mut reply) = waiters.add(id(3), NEW);
        again.propose().unwrap().end(Some(Err(AppendError::Unknown)));
        assert!(matches!(reply.try_recv(), Ok(Ended::ProposeAgain(Earlier::MayBeDecided))));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn calls_remember_that_an_earlier_proposal_may_be_decided() {
        let waiters = Arc::new(Waiters::<u64>::default());
        let (first, mut one) = waiters.add(id(3), NEW);
        first.propose().unwrap().end(Some(Err(AppendError::Unknown)));
        let Ok(Ended::ProposeAgain(earlier)) = one.try_recv() else { panic!("its end is unknown") };
        // One that joins meanwhile learns it, too.
        let (joined, mut two) = waiters.add(id(3), NEW);
        let (again, mut one) = waiters.add(id(3), earlier);
        assert!(again.propose().is_some_and(|proposal| {
            proposal.end(Some(Err(AppendError::Busy(()))));
            true
        }));
        let busy = two.try_recv();
        let expected = Earlier::MayBeDecided;
        assert!(matches!(busy, Ok(Ended::Failed(AppendError::Busy(()), told)) if told == expected));
        assert!(matches!(one.try_recv(), Ok(Ended::ProposeAgain(told)) if told == expected));
        drop((joined, again, first));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_call_ends_once_the_entries_before_which_it_was_decided_are_applied() {
        let waiters = Arc::new(Waiters::<u64>::default());
        waiters.restored(4, &Sessions::default());
        let (one, mut reply) = waiters.add(id(3), NEW);
        let (two, mut of_stop_sign) = waiters.add(id(4), NEW);
        one.propose().unwrap().end(Some(Err(AppendError::DecidedBefore(6))));
        two.propose().unwrap().end(Some(Err(AppendError::DecidedBefore(7))));
        waiters.applied(id(8), 4, &Ok((4, 0)));
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Empty);
        waiters.applied(id(9), 5, &Ok((5, 0)));
        assert_eq!(executed(&mut reply), Some(Err(NoOutput::Forgotten)));
        assert_eq!(of_stop_sign.try_recv().unwrap_err(), TryRecvError::Empty);
        waiters.passed_stop_sign(6);
        assert_eq!(executed(&mut of_stop_sign), Some(Err(NoOutput::Forgotten)));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_proposal_outlives_its_call_and_is_waited_for() {
        let waiters = Arc::new(Waiters::default());
        let (first, _) = waiters.add(id(3), NEW);
        let proposal = first.propose().unwrap();
        drop(first);
        let (second, mut reply) = waiters.add(id(3), NEW);
        assert!(second.propose().is_none());
        // The command was applied, and is executed once more: the end of the old proposal is of no concern.
        waiters.applied(id(3), 0, &Ok((0, 5)));
        assert_eq!(executed(&mut reply), Some(Ok((0, 5))));
        let (third, mut reply) = waiters.add(id(3), NEW);
        let _present = third.propose().unwrap();
        proposal.end(Some(Err(AppendError::DecidedBefore(1))));
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Empty);
    }

    #[test]
    fn a_snapshot_ends_the_calls_for_which_it_stands() {
        let mut sessions = Sessions::default();
        sessions.touch(1, 2).keep(3, 2, "three");
        let waiters = Arc::new(Waiters::default());
        let (_kept, mut kept) = waiters.add(id(3), NEW);
        let (early, mut early_reply) = waiters.add(id(4), NEW);
        let (late, mut late_reply) = waiters.add(id(5), NEW);
        let (after, mut after_reply) = waiters.add(id(6), NEW);
        early.propose().unwrap().end(Some(Ok(1)));
        waiters.restored(4, &sessions);
        late.propose().unwrap().end(Some(Err(AppendError::DecidedBefore(4))));
        after.propose().unwrap().end(Some(Ok(4)));
        assert_eq!(executed(&mut kept), Some(Ok((2, "three"))));
        assert_eq!(executed(&mut early_reply), Some(Err(NoOutput::Forgotten)));
        assert_eq!(executed(&mut late_reply), Some(Err(NoOutput::Forgotten)));
        assert_eq!(after_reply.try_recv().unwrap_err(), TryRecvError::Empty);
        waiters.applied(id(6), 4, &Ok((4, "six")));
        assert_eq!(executed(&mut after_reply), Some(Ok((4, "six"))));
    }

    #[test]
    fn dropped_calls_leave_nothing_behind() {
        let waiters = Arc::new(Waiters::<u64>::default());
        drop(waiters.add(id(3), NEW));
        assert_eq!(waiters.len(), 0);
        let (waiting, mut reply) = waiters.add(id(3), NEW);
        drop(waiting.propose());
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed, "the node has ended");
        let (_waiting, mut reply) = waiters.add(id(3), NEW);
        waiters.end();
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed);
        let (_waiting, mut reply) = waiters.add(id(3), NEW);
        assert_eq!(reply.try_recv().unwrap_err(), TryRecvError::Closed);
        assert_eq!(waiters.len(), 0);
    }

    /// Otherwise the answer might say that the command is not decided, while a proposal of the same call is
    /// under way.
    #[test]
    fn a_call_that_has_its_answer_proposes_no_more() {
        let waiters = Arc::new(Waiters::<u64>::default());
        let (one, mut reply) = waiters.add(id(3), NEW);
        let (two, _closed) = waiters.add(id(3), NEW);
        two.propose().unwrap().end(Some(Err(AppendError::Busy(()))));
        let (_again, _reply) = waiters.add(id(3), NEW);
        assert!(one.propose().is_none());
        assert!(matches!(reply.try_recv(), Ok(Ended::Failed(AppendError::Busy(()), NEW))));
    }

    #[test]
    fn decided_commands_of_dropped_calls_leave_nothing_behind() {
        let waiters = Arc::new(Waiters::<u64>::default());
        let (waiting, _reply) = waiters.add(id(3), NEW);
        let proposal = waiting.propose().unwrap();
        drop(waiting);
        proposal.end(Some(Ok(7)));
        assert_eq!(waiters.len(), 0);
        let (waiting, _reply) = waiters.add(id(4), NEW);
        waiting.propose().unwrap().end(Some(Ok(8)));
        drop(waiting);
        assert_eq!(waiters.len(), 0);
    }
}
