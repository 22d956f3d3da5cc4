//! The answers that wait for one client.

use crate::protocol::Response;
use std::sync::Arc;
use tokio::sync::{mpsc, OwnedSemaphorePermit, Semaphore};

/// Answers that wait for one client. One that does not read them waits for its next ones.
const ANSWERS: usize = 4096;

/// The bytes of the values in these answers. A longer one takes all of them.
const MOST_BYTES: u32 = 32 * 1024 * 1024;

/// Where the answers to one client go.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    queue: mpsc::Sender<Waiting>,
    /// Who waits first gets it, and the others wait until that one is polled. So each that waits belongs to a task that
    /// polls it whenever it is woken. An answer without a value needs none, so it waits behind no value: its client may
    /// read only when it has sent all.
    room: Arc<Semaphore>,
}

/// An answer that waits for its client.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) response: Response,
    /// To be dropped when the answer is written.
    pub(crate) room: Room,
}

/// Room for an answer of so many bytes, until it is dropped. `None` is room for one without a value.
#[derive(Debug)]
pub(crate) struct Room(Option<OwnedSemaphorePermit>);

impl Answers {
    /// Returns also where the answers come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, receiver) = mpsc::channel(ANSWERS);
        (Self { queue, room: Arc::new(Semaphore::new(MOST_BYTES as usize)) }, receiver)
    }

    /// Sends an answer once there is room for it. Until then the caller holds it. It is of no use any more if the
    /// client has gone.
    pub(crate) async fn send(&self, response: Response) {
        let room = self.room(response.bytes()).await;
        self.send_in(room, response).await;
    }

    /// Sends an answer for which there is room.
    pub(crate) async fn send_in(&self, room: Room, response: Response) {
        // The client may have gone.
        let _ = self.queue.send(Waiting { response, room }).await;
    }

    /// Sends an answer, if there is room for it now.
    pub(crate) fn try_send(&self, response: Response) -> Result<(), NoRoom> {
        let room = self.try_room(response.bytes()).ok_or(NoRoom)?;
        self.queue.try_send(Waiting { response, room }).map_err(|_full_or_closed| NoRoom)
    }

    /// Waits for room for so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        if bytes == 0 {
            return Room(None);
        }
        // The semaphore is never closed.
        Room(self.room.clone().acquire_many_owned(counted(bytes)).await.ok())
    }

    /// Returns room for so many bytes, if there is some.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<Room> {
        if bytes == 0 {
            return Some(Room(None));
        }
        let room = self.room.clone().try_acquire_many_owned(counted(bytes)).ok()?;
        Some(Room(Some(room)))
    }

    /// Returns whether the client has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

/// There is no room for an answer, or the client has gone.
#[derive(Debug)]
pub(crate) struct NoRoom;

impl Room {
    /// Returns whether an answer of so many bytes fits.
    pub(crate) fn has(&self, bytes: usize) -> bool {
        let room = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        counted(bytes) as usize <= room
    }
}

fn counted(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(MOST_BYTES).min(MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::{Answers, MOST_BYTES};
    use crate::protocol::{Answer, Response};
    use tokio::task::yield_now;

    fn long(bytes: usize) -> Response {
        Response { number: 1, answer: Answer::Value(Some("x".repeat(bytes).into())) }
    }

    #[tokio::test]
    async fn answers_wait_for_room_and_a_longer_one_until_it_is_alone() {
        let (answers, mut receiver) = Answers::new();
        let half = MOST_BYTES as usize / 2;
        answers.send(long(half)).await;
        assert!(answers.try_send(long(half)).is_err(), "an answer is more than its value");
        assert!(answers.try_send(long(half / 2)).is_ok());
        let to = answers.clone();
        let waits = tokio::spawn(async move { to.send(long(3 * half)).await });
        for _ in 0..2 {
            yield_now().await;
            assert!(!waits.is_finished());
            drop(receiver.recv().await.unwrap());
        }
        waits.await.unwrap();
        assert!(answers.try_room(1).is_none());
        let small = Response { number: 2, answer: Answer::Done { idx: 7 } };
        assert!(answers.try_send(small).is_ok(), "it waits behind no value");
        let alone = receiver.recv().await.unwrap();
        assert!(alone.response.bytes() > 2 * half && alone.room.has(usize::MAX));
        drop(alone);
        assert!(receiver.recv().await.is_some());
        assert!(answers.try_room(2 * half).is_some());
    }

    #[tokio::test]
    async fn who_waits_for_room_ends_with_the_client() {
        let (answers, receiver) = Answers::new();
        answers.send(long(MOST_BYTES as usize)).await;
        let to = answers.clone();
        let waits = tokio::spawn(async move { to.send(long(1)).await });
        yield_now().await;
        drop(receiver);
        waits.await.unwrap();
        assert!(answers.is_closed());
    }
}
