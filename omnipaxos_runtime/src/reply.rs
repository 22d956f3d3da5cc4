//! Where the result of a request goes.

use tokio::sync::oneshot;

/// Where the result of a request goes. It is closed if the caller has dropped its future.
pub(crate) type Reply<R> = oneshot::Sender<R>;

/// Takes a result on the thread of the replica, in place of a caller that waits for it.
pub(crate) trait TakeResult<R>: Send {
    /// Takes the result. If it is dropped instead, the node has ended.
    fn take(self: Box<Self>, result: R);

    /// Returns whether the request is of no use any more.
    fn is_closed(&self) -> bool;
}

/// Where a result goes that may have no caller of its own.
pub(crate) enum ReplyTo<R> {
    /// A caller that waits for this result.
    Caller(Reply<R>),
    /// A part of this crate that passes it on.
    Part(Box<dyn TakeResult<R>>),
}

impl<R> ReplyTo<R> {
    /// Sends the result, if its caller still waits.
    pub(crate) fn send(self, result: R) {
        match self {
            Self::Caller(reply) => drop(reply.send(result)),
            Self::Part(part) => part.take(result),
        }
    }

    /// Returns whether the caller has dropped its future.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Caller(reply) => reply.is_closed(),
            Self::Part(part) => part.is_closed(),
        }
    }
}

impl<R> From<Reply<R>> for ReplyTo<R> {
    fn from(reply: Reply<R>) -> Self {
        Self::Caller(reply)
    }
}
