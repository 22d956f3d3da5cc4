//! Places among the requests that wait for the replica.

use crate::{
    reply::ReplyTo,
    request::{Appended, ReadIdx, Request},
    room::{Room, Taken},
};
use omnipaxos::storage::Entry;
use tokio::sync::mpsc::{self, error::TrySendError};

/// A place among the requests, with room for one entry.
pub(crate) struct Place<'a, T: Entry> {
    permit: mpsc::Permit<'a, Request<T>>,
    room: Taken,
}

impl<'a, T: Entry> Place<'a, T> {
    pub(crate) fn new(permit: mpsc::Permit<'a, Request<T>>, room: Taken) -> Self {
        Self { permit, room }
    }

    /// Takes a place for an entry of so many bytes, if there is one.
    pub(crate) fn try_take(
        requests: &'a mpsc::Sender<Request<T>>,
        room: &Room,
        bytes: usize,
    ) -> Result<Self, TrySendError<()>> {
        let permit = requests.try_reserve()?;
        let room = room.try_take(bytes).ok_or(TrySendError::Full(()))?;
        Ok(Self { permit, room })
    }

    /// Requests that the entry is appended.
    pub(crate) fn append(self, entry: T, reply: ReplyTo<Appended<T>>) {
        self.permit.send(Request::Append(entry, reply, self.room));
    }

    /// Requests a read index instead.
    pub(crate) fn read_index(self, reply: ReplyTo<ReadIdx>) {
        self.permit.send(Request::ReadIndex(None, reply));
    }
}
