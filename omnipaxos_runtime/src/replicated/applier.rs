//! Applies the decided commands to the state machine, and runs queries of it.

use super::{
    entry::{IdentifiedCommand, MachineSnapshot},
    machine::StateMachine,
    query::Query,
    sessions::{Lookup, Sessions},
    waiters::{NoOutput, Waiters},
    MAX_QUERIES,
};
use crate::{
    batch::Decided,
    decided::DecidedLog,
    errors::{panic_message, DecidedError, NodeError},
    request::Request,
    weak::WeakHandle,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// The state machine, and what waits for it.
pub(super) struct Applier<M: StateMachine> {
    machine: M,
    sessions: Sessions<M::Output>,
    /// Commands before this index are applied.
    applied_idx: u64,
    /// Whether a stop sign was applied last.
    is_at_stop_sign: bool,
    snapshot_every: u64,
    /// The next snapshot is made at this index.
    snapshot_idx: u64,
    node: WeakHandle<IdentifiedCommand<M>>,
    log: DecidedLog<IdentifiedCommand<M>>,
    waiters: Arc<Waiters<M::Output>>,
    queries: mpsc::Receiver<Query<M>>,
    /// Queries of a later state, by index.
    waiting: BTreeMap<u64, Vec<Query<M>>>,
    /// Number of queries in `waiting`.
    number_waiting: usize,
    /// Closed once the state machine is dropped: the fields before are dropped first.
    _dropped: oneshot::Sender<Infallible>,
}

impl<M: StateMachine> Applier<M> {
    pub(super) fn new(
        machine: M,
        snapshot_every: u64,
        node: WeakHandle<IdentifiedCommand<M>>,
        waiters: Arc<Waiters<M::Output>>,
        queries: mpsc::Receiver<Query<M>>,
        dropped: oneshot::Sender<Infallible>,
    ) -> Self {
        let log = DecidedLog::new(node.clone(), 0);
        Self {
            machine,
            sessions: Sessions::default(),
            applied_idx: 0,
            is_at_stop_sign: false,
            snapshot_every,
            snapshot_idx: snapshot_every,
            node,
            log,
            waiters,
            queries,
            waiting: BTreeMap::new(),
            number_waiting: 0,
            _dropped: dropped,
        }
    }

    /// Runs until the node has ended. If user code panics, it ends the node.
    pub(super) async fn run(mut self) {
        let cause = self.apply_all().await;
        // Before the receivers of the callers are closed: these return the cause then.
        self.node.end(cause).await;
    }

    async fn apply_all(&mut self) -> NodeError {
        loop {
            if self.number_waiting == MAX_QUERIES {
                self.forget_dropped_queries();
            }
            tokio::select! {
                item = self.log.next() => match item {
                    Some(Ok(item)) => {
                        let apply = AssertUnwindSafe(|| self.apply_batch(item));
                        let applied = caught(apply, || "a command or an output".to_owned());
                        if let Err(cause) | Ok(Err(cause)) = applied {
                            return cause;
                        }
                    }
                    Some(Err(DecidedError::Trimmed(idx))) => return NodeError::Trimmed(idx),
                    Some(Err(DecidedError::Storage(failed))) => return failed.into(),
                    Some(Err(DecidedError::Ended(cause))) => return cause,
                    None => return NodeError::ShutDown,
                },
                // Further ones wait in the queue, and fill it.
                Some(query) = self.queries.recv(), if self.number_waiting < MAX_QUERIES => {
                    self.number_waiting += 1;
                    self.waiting.entry(query.idx).or_default().push(query);
                }
            }
            let queries = AssertUnwindSafe(|| self.run_queries());
            if let Err(cause) = caught(queries, || "the result of a query".to_owned()) {
                return cause;
            }
            // In a log that ends, a snapshot that follows the stop sign would be taken for one that does not.
            if self.applied_idx >= self.snapshot_idx && !self.is_at_stop_sign {
                if let Err(cause) = self.compact().await {
                    return cause;
                }
            }
        }
    }

    /// Applies an item, and those that are there already. The rest of them is not applied if the node ends
    /// meanwhile.
    fn apply_batch(&mut self, first: Decided<IdentifiedCommand<M>>) -> Result<(), NodeError> {
        let mut next = Some(first);
        while let Some(item) = next {
            self.apply(item)?;
            if let Some(cause) = self.node.cause_of_end() {
                return Err(cause);
            }
            next = self.log.next_buffered();
        }
        Ok(())
    }

    fn apply(&mut self, item: Decided<IdentifiedCommand<M>>) -> Result<(), NodeError> {
        match item {
            Decided::Entry { idx, entry } => {
                self.apply_command(idx, &entry)?;
                self.applied_idx = idx + 1;
                self.is_at_stop_sign = false;
            }
            Decided::Snapshot { idx, snapshot } => {
                let MachineSnapshot { state, sessions } = snapshot;
                let machine = AssertUnwindSafe(|| self.machine.restore(state));
                caught(machine, || format!("`restore` of the snapshot at index {idx}"))?;
                self.sessions = sessions.decoded();
                self.applied_idx = idx;
                self.is_at_stop_sign = false;
                self.snapshot_idx = idx.saturating_add(self.snapshot_every);
                self.waiters.restored(idx, &self.sessions);
            }
            Decided::StopSign { idx, stopsign } => {
                let machine = AssertUnwindSafe(|| self.machine.apply_stop_sign(idx, &stopsign));
                caught(machine, || format!("`apply_stop_sign` at index {idx}"))?;
                self.applied_idx = idx + 1;
                self.is_at_stop_sign = true;
                self.waiters.passed_stop_sign(idx);
            }
        }
        Ok(())
    }

    fn apply_command(&mut self, idx: u64, entry: &IdentifiedCommand<M>) -> Result<(), NodeError> {
        let IdentifiedCommand { id, command } = entry;
        let session = self.sessions.touch(id.client, idx);
        let executed = match session.lookup(id.number) {
            Lookup::Kept(idx, output) => Ok((idx, output.clone())),
            Lookup::Forgotten => Err(NoOutput::NumberTooOld),
            Lookup::New => {
                let apply = AssertUnwindSafe(|| {
                    let output = self.machine.apply(idx, command);
                    (output.clone(), output)
                });
                let (kept, output) =
                    caught(apply, || format!("`apply` of the command at index {idx}"))?;
                session.keep(id.number, idx, kept);
                Ok((idx, output))
            }
        };
        // To these its client has the answers.
        session.forget_below(id.oldest);
        self.waiters.applied(*id, idx, &executed);
        Ok(())
    }

    /// Runs the queries of states up to the present one.
    fn run_queries(&mut self) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.applied_idx {
                return;
            }
            for query in first.remove() {
                self.number_waiting -= 1;
                // Its caller may have dropped its future, and asked again.
                if !query.call.is_closed() {
                    query.call.run(&self.machine);
                }
            }
        }
    }

    /// Makes room for queries whose callers still wait.
    fn forget_dropped_queries(&mut self) {
        self.waiting.retain(|_, queries| {
            queries.retain(|query| !query.call.is_closed());
            !queries.is_empty()
        });
        self.number_waiting = self.waiting.values().map(Vec::len).sum();
    }

    /// Replaces the applied commands in the log by a snapshot.
    async fn compact(&mut self) -> Result<(), NodeError> {
        let idx = self.applied_idx;
        let make = AssertUnwindSafe(|| MachineSnapshot {
            state: self.machine.snapshot(),
            sessions: self.sessions.clone(),
        });
        let snapshot = caught(make, || format!("`snapshot` at index {idx}"))?;
        self.snapshot_idx = idx.saturating_add(self.snapshot_every);
        let request = |reply| Request::Compact(idx, Some(snapshot), reply);
        match self.node.ask(request).await? {
            Ok(()) => tracing::debug!("made a snapshot of {idx} commands"),
            Err(refused) => tracing::warn!("made no snapshot of {idx} commands: {refused}"),
        }
        Ok(())
    }
}

impl<M: StateMachine> Drop for Applier<M> {
    fn drop(&mut self) {
        self.waiters.end();
    }
}

/// Runs user code. A panic ends the node.
fn caught<R>(
    run: AssertUnwindSafe<impl FnOnce() -> R>,
    described: impl FnOnce() -> String,
) -> Result<R, NodeError> {
    catch_unwind(run).map_err(|payload| {
        NodeError::Panicked(format!("{}: {}", described(), panic_message(&*payload)))
    })
}
