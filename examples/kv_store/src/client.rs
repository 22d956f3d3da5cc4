//! A client: asks one server after the other until it has its answers.

use crate::{
    frame::{self, Kind},
    protocol::{Answer, Ask, Request, Response, Status},
};
use anyhow::{anyhow, bail, Context, Result};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        tcp::{OwnedReadHalf, OwnedWriteHalf},
        TcpStream,
    },
    time::{sleep, timeout, Instant},
};
use tracing::{debug, info};

/// Requests under way at the same time.
const WINDOW: usize = 256;

/// How long a server may take to connect, or to give the next answer, before another is asked.
const PATIENCE: Duration = Duration::from_millis(1000);

/// After so long without any answer from any server the client gives up.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Before another server is asked. Twice as long each time, up to [`LONGEST_PAUSE`], until there is
/// an answer.
const PAUSE: Duration = Duration::from_millis(50);

const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// A client of the cluster.
///
/// Requests may be decided in another order than asked, when a server fails. Whoever minds waits
/// for the answer before asking for the next change of the same key.
pub(crate) struct Client {
    servers: Vec<String>,
    /// Which server is asked.
    at: usize,
    id: u64,
    /// The number of the next request.
    next: u64,
    connection: Option<Connection>,
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    body: Vec<u8>,
}

impl Client {
    /// A client that begins with the first of these servers.
    pub(crate) fn new(servers: Vec<String>) -> Self {
        // Each `RandomState` has keys of its own from the operating system's random numbers.
        let id = RandomState::new().build_hasher().finish();
        Self { servers, at: 0, id, next: 0, connection: None }
    }

    /// Asks for one thing.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let mut answers = self.ask_all(vec![ask], |_| ()).await?;
        answers.pop().context("no answer")
    }

    /// Asks one server how it is, and no other.
    pub(crate) async fn status_of(server: &str) -> Result<Status> {
        let mut client = Client::new(vec![server.to_owned()]);
        let asked = async {
            client.connect().await?;
            client.ask(Ask::Status).await
        };
        match timeout(PATIENCE, asked).await.context("no answer in time")?? {
            Answer::Status(status) => Ok(*status),
            other => bail!("asked for the status, and the answer is {other:?}"),
        }
    }

    /// Asks for many things, with many requests under way. The answers are in the order of `asks`.
    /// `progress` is told, after each, how many there are.
    pub(crate) async fn ask_all(
        &mut self,
        asks: Vec<Ask>,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Answer>> {
        let mut round = Round::new(asks, self.next);
        self.next += round.asks.len() as u64;
        let mut last_progress = Instant::now();
        let mut pause = PAUSE;
        while !round.is_done() {
            let before = round.answered;
            match self.pursue(&mut round, &mut progress).await {
                Ok(()) => {}
                Err(Stopped::Refused(why)) => bail!("refused: {why}"),
                Err(Stopped::Elsewhere(cause)) => {
                    if round.answered > before {
                        last_progress = Instant::now();
                        pause = PAUSE;
                    }
                    if last_progress.elapsed() > GIVE_UP {
                        return Err(cause.context("no server answers"));
                    }
                    self.turn_to_next(&cause);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Ok(round.into_answers())
    }

    /// Calls `on_change` for each change of a key with this prefix, until the server is gone.
    pub(crate) async fn watch(
        &mut self,
        prefix: String,
        mut on_change: impl FnMut(String, Option<String>),
    ) -> Result<()> {
        self.connect().await?;
        let number = self.next;
        self.next += 1;
        let request =
            Request { client: self.id, number, oldest: number, ask: Ask::Watch { prefix } };
        let connection = self.connection.as_mut().context("not connected")?;
        connection.send([request].into_iter()).await?;
        loop {
            match connection.receive().await?.answer {
                Answer::Changed { key, value } => on_change(key, value),
                Answer::Refused(why) => bail!("refused: {why}"),
                other @ (Answer::Done { .. }
                | Answer::Value(_)
                | Answer::Status(_)
                | Answer::Busy) => {
                    bail!("asked for changes, and the answer is {other:?}")
                }
            }
        }
    }

    /// Asks for what is not answered yet, at the server of this time.
    async fn pursue(
        &mut self,
        round: &mut Round,
        progress: &mut impl FnMut(usize),
    ) -> Result<(), Stopped> {
        if self.connection.is_none() {
            self.connect().await.map_err(Stopped::Elsewhere)?;
            round.ask_again();
        }
        let Some(connection) = self.connection.as_mut() else {
            return Ok(());
        };
        while !round.is_done() {
            let requests = round.due(self.id);
            let exchange = async {
                connection.send(requests.into_iter()).await?;
                connection.receive().await
            };
            let response = match timeout(PATIENCE, exchange).await {
                Ok(exchanged) => exchanged.map_err(Stopped::Elsewhere)?,
                Err(_) => return Err(Stopped::Elsewhere(anyhow!("no answer in time"))),
            };
            match response.answer {
                Answer::Refused(why) => return Err(Stopped::Refused(why)),
                Answer::Busy => return Err(Stopped::Elsewhere(anyhow!("it is busy"))),
                Answer::Done { .. }
                | Answer::Value(_)
                | Answer::Changed { .. }
                | Answer::Status(_) => {
                    round.take(response);
                    progress(round.answered);
                }
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        let address = self.servers.get(self.at).context("no server is known")?;
        let stream = timeout(PATIENCE, TcpStream::connect(address))
            .await
            .context("no connection in time")?
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        debug!("asks the server at {address}");
        self.connection =
            Some(Connection { reader: BufReader::new(reader), writer, body: Vec::new() });
        Ok(())
    }

    fn turn_to_next(&mut self, cause: &anyhow::Error) {
        self.connection = None;
        let from = self.servers.get(self.at).cloned().unwrap_or_default();
        self.at = (self.at + 1) % self.servers.len().max(1);
        let to = self.servers.get(self.at).cloned().unwrap_or_default();
        info!("turns from {from} to {to}: {cause:#}");
    }
}

/// Why the server of this time is not asked any more.
enum Stopped {
    Refused(String),
    /// Another server may answer, or the same one later.
    Elsewhere(anyhow::Error),
}

/// A number of requests on the way to their answers.
struct Round {
    asks: Vec<Ask>,
    answers: Vec<Option<Answer>>,
    first_number: u64,
    /// Positions of requests under way, and whether they were sent on this connection.
    under_way: BTreeMap<usize, Sent>,
    /// Position of the first request that was never under way.
    next: usize,
    answered: usize,
}

#[derive(Copy, Clone, PartialEq)]
enum Sent {
    Here,
    NotHere,
}

impl Round {
    fn new(asks: Vec<Ask>, first_number: u64) -> Self {
        let answers = asks.iter().map(|_| None).collect();
        Self { asks, answers, first_number, under_way: BTreeMap::new(), next: 0, answered: 0 }
    }

    fn is_done(&self) -> bool {
        self.answered == self.asks.len()
    }

    fn ask_again(&mut self) {
        self.under_way.values_mut().for_each(|sent| *sent = Sent::NotHere);
    }

    /// The requests to send now, on the connection of this time.
    fn due(&mut self, client: u64) -> Vec<Request> {
        while self.under_way.len() < WINDOW && self.next < self.asks.len() {
            self.under_way.insert(self.next, Sent::NotHere);
            self.next += 1;
        }
        let oldest = self.under_way.keys().next().copied().unwrap_or(self.next);
        let oldest = self.first_number + oldest as u64;
        let mut due = Vec::new();
        for (position, sent) in &mut self.under_way {
            if *sent == Sent::NotHere {
                *sent = Sent::Here;
                if let Some(ask) = self.asks.get(*position).cloned() {
                    let number = self.first_number + *position as u64;
                    due.push(Request { client, number, oldest, ask });
                }
            }
        }
        due
    }

    /// Takes an answer; one that is not waited for any more is a copy.
    fn take(&mut self, response: Response) {
        let position = response.number.checked_sub(self.first_number);
        let Some(position) = position.and_then(|position| usize::try_from(position).ok()) else {
            return;
        };
        if self.under_way.remove(&position).is_some() {
            if let Some(place) = self.answers.get_mut(position) {
                *place = Some(response.answer);
                self.answered += 1;
            }
        }
    }

    fn into_answers(self) -> Vec<Answer> {
        self.answers.into_iter().flatten().collect()
    }
}

impl Connection {
    async fn send(&mut self, requests: impl Iterator<Item = Request>) -> Result<()> {
        let mut frames = Vec::new();
        for request in requests {
            frame::encode(Kind::Request, &request, &mut frames)?;
        }
        self.writer.write_all(&frames).await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Response> {
        let response = frame::read(&mut self.reader, Kind::Response, &mut self.body).await?;
        response.context("the server closed the connection")
    }
}

#[cfg(test)]
mod tests {
    use super::{Round, WINDOW};
    use crate::protocol::{Answer, Ask, Response};

    fn gets(number: usize) -> Vec<Ask> {
        (0..number).map(|key| Ask::Get { key: key.to_string() }).collect()
    }

    #[test]
    fn the_window_moves_with_the_answers() {
        let mut round = Round::new(gets(WINDOW + 2), 100);
        let due = round.due(7);
        assert_eq!(due.len(), WINDOW);
        assert!(due.iter().all(|request| request.oldest == 100 && request.client == 7));
        assert_eq!(due[1].number, 101);
        assert!(round.due(7).is_empty());
        round.take(Response { number: 101, answer: Answer::Done { idx: 0 } });
        round.take(Response { number: 101, answer: Answer::Done { idx: 0 } });
        round.take(Response { number: 3, answer: Answer::Done { idx: 0 } });
        assert_eq!(round.answered, 1);
        let due = round.due(7);
        assert_eq!((due.len(), due[0].number, due[0].oldest), (1, 100 + WINDOW as u64, 100));
        round.take(Response { number: 100, answer: Answer::Done { idx: 0 } });
        let due = round.due(7);
        assert_eq!((due.len(), due[0].oldest), (1, 102));
    }

    #[test]
    fn what_is_not_answered_is_asked_again_under_the_same_number() {
        let mut round = Round::new(gets(3), 0);
        assert_eq!(round.due(1).len(), 3);
        round.take(Response { number: 1, answer: Answer::Done { idx: 0 } });
        round.ask_again();
        let numbers: Vec<u64> = round.due(1).iter().map(|request| request.number).collect();
        assert_eq!(numbers, [0, 2]);
    }
}
