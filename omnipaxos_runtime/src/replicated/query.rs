//! Queries of the state.

use crate::{
    errors::{panic_message, QueryError, ReadError},
    reply::{Reply, TakeResult},
    request::ReadIdx,
};
use std::panic::{catch_unwind, AssertUnwindSafe};
use tokio::sync::mpsc::{self, error::TrySendError};

/// A query that waits for the state machine.
pub(super) struct Query<M> {
    /// Commands before this index are applied first.
    pub(super) idx: u64,
    pub(super) call: Box<dyn Call<M>>,
}

/// A function of the user, and its caller.
pub(super) trait Call<M>: Send {
    /// Calls the function, and sends its result. It catches panics of the function.
    fn run(self: Box<Self>, machine: &M);

    /// Sends the reason why there is no result.
    fn fail(self: Box<Self>, reason: ReadError);

    /// Returns whether the caller has dropped its future.
    fn is_closed(&self) -> bool;
}

/// A function that returns an `R`.
pub(super) struct Function<F, R> {
    pub(super) function: F,
    pub(super) reply: Reply<Result<R, QueryError>>,
}

impl<M, R: Send, F: FnOnce(&M) -> R + Send> Call<M> for Function<F, R> {
    fn run(self: Box<Self>, machine: &M) {
        let Self { function, reply } = *self;
        let result = catch_unwind(AssertUnwindSafe(|| function(machine)));
        // The caller may have dropped its future.
        let _ =
            reply.send(result.map_err(|payload| QueryError::Panicked(panic_message(&*payload))));
    }

    fn fail(self: Box<Self>, reason: ReadError) {
        // The caller may have dropped its future.
        let _ = self.reply.send(Err(reason.into()));
    }

    fn is_closed(&self) -> bool {
        self.reply.is_closed()
    }
}

/// A query that waits for its read index. The replica passes it on to the state machine, so that the
/// caller is woken once.
pub(super) struct Linearizable<M> {
    pub(super) call: Box<dyn Call<M>>,
    pub(super) queries: mpsc::Sender<Query<M>>,
}

impl<M> TakeResult<ReadIdx> for Linearizable<M> {
    fn take(self: Box<Self>, read: ReadIdx) {
        let Self { call, queries } = *self;
        let idx = match read {
            Ok(idx) => idx,
            Err(reason) => return call.fail(reason),
        };
        match queries.try_send(Query { idx, call }) {
            Ok(()) => {}
            Err(TrySendError::Full(query)) => query.call.fail(ReadError::Busy),
            // The caller learns from the closed reply that the node has ended.
            Err(TrySendError::Closed(_)) => {}
        }
    }

    fn is_closed(&self) -> bool {
        self.call.is_closed()
    }
}
