//! The decided log as a stream.

use crate::{
    batch::{Batch, Decided},
    errors::{DecidedError, NodeError},
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

/// A read that is under way.
type Pull<T> = Pin<Box<dyn Future<Output = Result<Batch<T>, DecidedError>> + Send>>;

/// The decided log of a node from an index on: entries, snapshots and the stop sign, in log order.
///
/// - **No gap.** The index of each item follows that of the item before. The exception is a
///   snapshot, which stands for all entries before its index. It is returned if entries that the
///   receiver lacks are compacted here.
/// - **Backpressure.** The node reads from its log when the receiver has taken what was there, at
///   most 1,024 entries at a time. It stops once it has read 256 KiB, as
///   [`Entry::size_hint`](omnipaxos::storage::Entry::size_hint) counts them, or up to 64 entries
///   later. It reads a snapshot as a whole, for one receiver after the other. A slow receiver costs
///   no further memory.
/// - It ends with `None` after a shutdown. It does not keep the node alive.
///
/// It is a [`Stream`]. [`next`](Self::next) needs no import.
pub struct DecidedLog<T: Entry> {
    node: WeakHandle<T>,
    /// The index after the last item in `items`.
    next_idx: u64,
    items: VecDeque<Decided<T>>,
    pull: Option<Pull<T>>,
    is_ended: bool,
}

impl<T: Entry> DecidedLog<T> {
    pub(crate) fn new(node: WeakHandle<T>, from: u64) -> Self {
        Self { node, next_idx: from, items: VecDeque::new(), pull: None, is_ended: false }
    }

    /// Returns an item that is there already.
    pub(crate) fn next_buffered(&mut self) -> Option<Decided<T>> {
        self.items.pop_front()
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
            let (node, from) = (&self.node, self.next_idx);
            let pull = self.pull.get_or_insert_with(|| {
                let node = node.clone();
                Box::pin(async move { node.pull(from).await })
            });
            let pulled = ready!(pull.as_mut().poll(context));
            self.pull = None;
            match pulled {
                Ok(batch) => {
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
