//! The decided log as a stream.

use crate::{
    batch::{Batch, Decided},
    errors::{DecidedError, NodeError},
    request::Request,
    weak::WeakHandle,
};
use futures_core::Stream;
use omnipaxos::storage::Entry;
use std::{
    collections::VecDeque,
    fmt,
    future::{poll_fn, Future},
    pin::Pin,
    task::{ready, Context, Poll},
};

/// Number of entries in the first batch.
const FIRST_LIMIT: u64 = 64;

/// The largest number of entries in a batch.
const MAX_LIMIT: u64 = 1024;

/// The bytes of a batch to aim at, as [`Entry::size_hint`] counts them.
const BATCH_BYTES: usize = 256 * 1024;

/// A read that is under way.
type Pull<T> = Pin<Box<dyn Future<Output = Result<Batch<T>, DecidedError>> + Send>>;

/// The decided log of a node from an index on: entries, snapshots and the stop sign, in log order.
///
/// - **No gap.** The index of each item follows that of the item before. The exception is a
///   snapshot, which stands for all entries before its index. It is returned if entries that the
///   receiver lacks are compacted here.
/// - **Backpressure.** The node reads from its log when the receiver has taken what was there, at
///   most 1,024 entries and about 256 KiB at a time. A slow receiver costs no further memory.
/// - It ends with `None` after a shutdown. It does not keep the node alive.
///
/// It is a [`Stream`]. [`next`](Self::next) needs no import.
pub struct DecidedLog<T: Entry> {
    node: WeakHandle<T>,
    /// The index after the last item in `items`.
    next_idx: u64,
    /// Number of entries to read next.
    limit: u64,
    items: VecDeque<Decided<T>>,
    pull: Option<Pull<T>>,
    is_ended: bool,
}

impl<T: Entry> DecidedLog<T> {
    pub(crate) fn new(node: WeakHandle<T>, from: u64) -> Self {
        let (next_idx, limit) = (from, FIRST_LIMIT);
        Self { node, next_idx, limit, items: VecDeque::new(), pull: None, is_ended: false }
    }

    /// Returns an item that is there already.
    pub(crate) fn next_buffered(&mut self) -> Option<Decided<T>> {
        self.items.pop_front()
    }

    /// Chooses the size of the next batch by the size of the entries of the last one.
    fn adapt(&mut self, batch: &Batch<T>) {
        let entries = batch.items.len().max(1);
        let fitting = BATCH_BYTES / (batch.bytes / entries).max(1);
        // At most twice as many, since the next entries may be larger.
        let fitting = u64::try_from(fitting).unwrap_or(MAX_LIMIT);
        self.limit = fitting.min(self.limit * 2).clamp(1, MAX_LIMIT);
    }
}

impl<T> DecidedLog<T>
where
    T: Entry + Send + 'static,
    T::Snapshot: Send,
{
    /// Waits for the next item. `None` once the node was shut down.
    ///
    /// It is cancel-safe: if the future is dropped, no item is lost.
    ///
    /// # Errors
    /// [`DecidedError`] contains the reason. Nothing is skipped.
    pub async fn next(&mut self) -> Option<Result<Decided<T>, DecidedError>> {
        poll_fn(|context| self.poll_item(context)).await
    }

    fn poll_item(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Decided<T>, DecidedError>>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            if self.is_ended {
                return Poll::Ready(None);
            }
            let (node, from, limit) = (&self.node, self.next_idx, self.limit);
            let pull = self.pull.get_or_insert_with(|| Box::pin(pull(node.clone(), from, limit)));
            let pulled = ready!(pull.as_mut().poll(context));
            self.pull = None;
            match pulled {
                Ok(batch) => {
                    self.adapt(&batch);
                    self.next_idx = batch.end;
                    self.items = batch.items;
                }
                Err(DecidedError::Ended(NodeError::ShutDown)) => self.is_ended = true,
                Err(failed @ DecidedError::Storage(_)) => return Poll::Ready(Some(Err(failed))),
                Err(failed @ (DecidedError::Trimmed(_) | DecidedError::Ended(_))) => {
                    self.is_ended = true;
                    return Poll::Ready(Some(Err(failed)));
                }
            }
        }
    }
}

/// Reads the next batch, once there is one.
async fn pull<T: Entry>(
    node: WeakHandle<T>,
    from: u64,
    limit: u64,
) -> Result<Batch<T>, DecidedError> {
    node.ask(|reply| Request::Decided { from, limit, reply }).await?
}

impl<T> Stream for DecidedLog<T>
where
    T: Entry + Send + Unpin + 'static,
    T::Snapshot: Send + Unpin,
{
    type Item = Result<Decided<T>, DecidedError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(context)
    }
}

impl<T: Entry> fmt::Debug for DecidedLog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecidedLog")
            .field("next_idx", &self.next_idx)
            .field("waiting_items", &self.items.len())
            .finish_non_exhaustive()
    }
}
