//! A client: asks one server after the other until it has its answers.

use crate::{
    members::{Change, Members},
    protocol::{Answer, Ask, Request, Response, Status, Why},
    round::Round,
};
use anyhow::{anyhow, bail, Context, Result};
use example_common::{
    frame::{self, Kind},
    keep_alive,
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    pin::Pin,
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
use tokio_io_timeout::{TimeoutReader, TimeoutWriter};
use tracing::{debug, info};

/// How long a server may take to connect, to take the next part of a request, or to give the next part of an
/// answer, before another is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long it may take to answer a transfer.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a client waits for what a server has sent before it turns to another.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// How long it may take to answer a change of the members, which waits for servers that catch up. Then the
/// next server is asked, where that changes nothing twice. A server without progress ends it sooner.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The default time limit. If no server answers for this time, the client gives up.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Before another server is asked. Twice as long each time, up to [`LONGEST_PAUSE`], until there is
/// an answer.
const PAUSE: Duration = Duration::from_millis(50);

const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// A client of the cluster.
///
/// Each request has a number, under which it is asked again where that is needed, so that it is done
/// once. Requests may be decided in another order than asked, when a server fails. To keep the order, wait
/// for the answer before asking for the next change of the same key.
pub(crate) struct Client {
    servers: Vec<String>,
    /// The servers that it was given. If it is one, no other is asked.
    given: Vec<String>,
    /// Which server is asked.
    at: usize,
    id: u64,
    /// The number of the next request.
    next: u64,
    timeout: Duration,
    /// How often another server, or the same one, was asked again.
    repetitions: usize,
    connection: Option<Connection>,
}

struct Connection {
    reader: BufReader<Pin<Box<TimeoutReader<OwnedReadHalf>>>>,
    writer: Pin<Box<TimeoutWriter<OwnedWriteHalf>>>,
    body: Vec<u8>,
    /// Whether an answer did not come in time, of which a part may have come.
    is_amid_an_answer: bool,
}

impl Client {
    /// A client that begins with the first of these servers.
    pub(crate) fn new(servers: Vec<String>) -> Self {
        // Each `RandomState` has keys of its own from the operating system's random numbers.
        let id = RandomState::new().build_hasher().finish();
        Self::named(id, 0, servers)
    }

    /// The client `id`, whose next request has this number. One that it has asked before is not
    /// done again.
    pub(crate) fn named(id: u64, next: u64, servers: Vec<String>) -> Self {
        let given = servers.clone();
        Self { servers, given, at: 0, id, next, timeout: TIMEOUT, repetitions: 0, connection: None }
    }

    /// Gives up after so long without an answer.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How often it has asked again.
    pub(crate) fn repetitions(&self) -> usize {
        self.repetitions
    }

    /// Asks for one thing.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let mut answers = self.ask_all(vec![ask], |_| ()).await?;
        answers.pop().context("no answer")
    }

    /// Changes the members. The change is of those that there are now, so that it is done once however often this
    /// asks for it.
    pub(crate) async fn change_members(&mut self, change: Change) -> Result<Answer> {
        change.check().map_err(|why| anyhow!("refused, and nothing was sent: {why}"))?;
        match self.ask(Ask::PresentMembers).await? {
            Answer::Members(Members { configuration_id, .. }) => {
                self.ask(Ask::ChangeMembers { change, configuration_id }).await
            }
            other => bail!("asked for the members, and the answer is {other:?}"),
        }
    }

    /// Asks one server how it is, and no other.
    pub(crate) async fn status_of(server: &str) -> Result<Status> {
        let mut client = Client::new(vec![server.to_owned()]);
        let asked = async {
            client.connect().await?;
            client.ask(Ask::Status).await
        };
        match timeout(ANSWER_TIMEOUT, asked).await.context("no answer in time")?? {
            Answer::Status(status) => Ok(*status),
            other => bail!("asked for the status, and the answer is {other:?}"),
        }
    }

    /// Asks for many things, with many requests under way. The answers are in the order of `asks`.
    /// After each, `progress` gets their number.
    pub(crate) async fn ask_all(
        &mut self,
        asks: Vec<Ask>,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Answer>> {
        for ask in &asks {
            ask.check().map_err(|why| anyhow!("refused, and nothing was sent: {why}"))?;
        }
        let mut round = Round::new(asks, self.next);
        self.next += round.len();
        let mut last_progress = Instant::now();
        let mut pause = PAUSE;
        // The answer of a server is worth more than that another cannot be reached.
        let mut answer = None;
        while !round.is_done() {
            let before = round.answered();
            match self.pursue(&mut round, &mut progress).await {
                Ok(()) => {}
                Err(Stopped::Refused(why)) => bail!("refused: {why}"),
                Err(Stopped::Elsewhere(cause)) => {
                    if cause.is::<Why>() {
                        answer = Some(cause.to_string());
                    }
                    if round.answered() > before {
                        last_progress = Instant::now();
                        pause = PAUSE;
                    }
                    if last_progress.elapsed() > self.timeout {
                        let answer = answer.map(|why| format!("; a server said: {why}"));
                        // It may be in the middle of a frame.
                        self.connection = None;
                        let unanswered = round.unanswered(self.id) + &answer.unwrap_or_default();
                        return Err(cause.context(unanswered + "; the last cause"));
                    }
                    self.read_last_members().await;
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
        mut on_change: impl FnMut(&str, Option<&str>) -> Result<()>,
    ) -> Result<()> {
        let ask = Ask::Watch { prefix };
        ask.check().map_err(|why| anyhow!("refused, and nothing was sent: {why}"))?;
        self.connect().await?;
        let number = self.next;
        self.next += 1;
        let request = Request { client: self.id, number, oldest: number, ask };
        let connection = self.connection.as_mut().context("not connected")?;
        connection.send([request].into_iter()).await?;
        loop {
            match connection.wait().await?.answer {
                Answer::Changed { key, value } => on_change(&key, value.as_deref())?,
                Answer::Refused(why) => bail!("refused: {why}"),
                other @ (Answer::Done { .. }
                | Answer::Value(_)
                | Answer::Status(_)
                | Answer::Leads { .. }
                | Answer::Members(_)
                | Answer::MembersChanged { .. }
                | Answer::NotJoined(_)
                | Answer::AskAgain(_)) => {
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
            self.ask_for_members().await.map_err(Stopped::Elsewhere)?;
        }
        let Some(connection) = self.connection.as_mut() else {
            return Ok(());
        };
        let time_limit = if round.changes_members() {
            MEMBERS_TIMEOUT
        } else if round.transfers_leadership() {
            TRANSFER_TIMEOUT
        } else {
            ANSWER_TIMEOUT
        };
        while !round.is_done() {
            let requests = round.due(self.id);
            connection.send(requests.into_iter()).await.map_err(Stopped::Elsewhere)?;
            let received = connection.receive(time_limit).await;
            let response = received.map_err(Stopped::Elsewhere)?;
            if let Answer::Members(members) | Answer::MembersChanged { members, .. } =
                &response.answer
            {
                learn(&mut self.servers, &self.given, &mut self.at, members);
            }
            if !round.awaits(response.number) && response.number != Response::OF_NONE {
                continue;
            }
            match response.answer {
                Answer::Refused(why) => return Err(Stopped::Refused(why)),
                // There is no other to go to.
                Answer::AskAgain(why @ Why::NotLeader { leader: Some(_) })
                    if self.given.len() == 1 =>
                {
                    return Err(Stopped::Refused(why.to_string()));
                }
                Answer::AskAgain(why) => return Err(Stopped::Elsewhere(why.into())),
                Answer::Done { .. }
                | Answer::Value(_)
                | Answer::Changed { .. }
                | Answer::Leads { .. }
                | Answer::Members(_)
                | Answer::MembersChanged { .. }
                | Answer::NotJoined(_)
                | Answer::Status(_) => {
                    round.take(response);
                    progress(round.answered());
                }
            }
        }
        Ok(())
    }

    /// Connects to the server of this time.
    pub(crate) async fn connect(&mut self) -> Result<()> {
        let address = self.servers.get(self.at).context("no server is known")?;
        let stream = timeout(ANSWER_TIMEOUT, TcpStream::connect(address))
            .await
            .context("no connection in time")?
            .with_context(|| format!("cannot connect to {address}"))?;
        debug!("asks the server at {address}");
        self.connection = Some(Connection::new(stream)?);
        Ok(())
    }

    /// Asks for the members, so that servers are found which nobody knew when this client began.
    async fn ask_for_members(&mut self) -> Result<()> {
        let (client, number) = (self.id, Response::OF_MEMBERS);
        match self.connection.as_mut().filter(|_| self.given.len() > 1) {
            Some(connection) => {
                // It reports nothing of the answers that the client has.
                let request = Request { client, number, oldest: 0, ask: Ask::Members };
                connection.send([request].into_iter()).await
            }
            None => Ok(()),
        }
    }

    /// Reads where the members are, if a server has sent that before it closed the connection.
    async fn read_last_members(&mut self) {
        let is_needed = self.given.len() > 1;
        let connection = self.connection.as_mut();
        let Some(connection) = connection.filter(|at| is_needed && !at.is_amid_an_answer) else {
            return;
        };
        let read = async {
            while let Ok(response) = connection.receive(LAST_WORDS).await {
                if let Answer::Members(members) = response.answer {
                    learn(&mut self.servers, &self.given, &mut self.at, &members);
                }
            }
        };
        // Else the server may go on with other answers.
        let _ = timeout(10 * LAST_WORDS, read).await;
    }

    fn turn_to_next(&mut self, cause: &anyhow::Error) {
        self.connection = None;
        self.repetitions += 1;
        let from = self.servers.get(self.at).cloned().unwrap_or_default();
        self.at = (self.at + 1) % self.servers.len().max(1);
        let to = self.servers.get(self.at).cloned().unwrap_or_default();
        info!("turns from {from} to {to}: {cause:#}");
    }
}

/// Takes note of where the members are. The servers that the client was given stay, and the one that it
/// asks, which is `at`.
fn learn(servers: &mut Vec<String>, given: &[String], at: &mut usize, members: &Members) {
    if given.len() < 2 {
        return;
    }
    let asked = servers.get(*at).cloned();
    let found = members.members.values().filter_map(|found| found.by_clients.clone());
    let mut known: Vec<String> = Vec::new();
    for server in given.iter().cloned().chain(found).chain(asked.clone()) {
        if !known.contains(&server) {
            known.push(server);
        }
    }
    *at = known.iter().position(|server| Some(server) == asked.as_ref()).unwrap_or_default();
    *servers = known;
}

/// Why the server of this time is not asked any more.
enum Stopped {
    Refused(String),
    /// Another server may answer, or the same one later.
    Elsewhere(anyhow::Error),
}

impl Connection {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let (reader, writer) = stream.into_split();
        let (reader, mut writer) = (TimeoutReader::new(reader), TimeoutWriter::new(writer));
        writer.set_timeout(Some(ANSWER_TIMEOUT));
        let reader = BufReader::new(Box::pin(reader));
        let writer = Box::pin(writer);
        Ok(Self { reader, writer, body: Vec::new(), is_amid_an_answer: false })
    }

    async fn send(&mut self, requests: impl Iterator<Item = Request>) -> Result<()> {
        let mut frames = Vec::new();
        for request in requests {
            frame::encode(Kind::Request, &request, &mut frames)?;
        }
        self.writer.write_all(&frames).await.context("it does not take the request")?;
        Ok(())
    }

    /// Receives an answer. The time limit is for each part of it: a long one may take longer.
    async fn receive(&mut self, time_limit: Duration) -> Result<Response> {
        self.reader.get_mut().as_mut().set_timeout_pinned(Some(time_limit));
        let read = self.read().await;
        read.map_err(|cause| match is_timeout(&cause) {
            true => {
                self.is_amid_an_answer = true;
                anyhow!("no answer in time")
            }
            false => cause,
        })
    }

    /// Waits for an answer without a limit.
    async fn wait(&mut self) -> Result<Response> {
        self.reader.get_mut().as_mut().set_timeout_pinned(None);
        self.read().await
    }

    async fn read(&mut self) -> Result<Response> {
        let response = frame::read(&mut self.reader, Kind::Response, &mut self.body).await?;
        response.context("the server closed the connection")
    }
}

fn is_timeout(cause: &anyhow::Error) -> bool {
    let mut causes = cause.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::{learn, Client};
    use crate::{
        members::{Found, Members},
        protocol::{Answer, Ask, Response},
    };
    use example_common::frame::{self, Kind};
    use std::time::Duration;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::sleep,
    };

    const GET: fn() -> Ask = || Ask::Get { key: "key".to_owned() };

    fn frame_of(number: u64, answer: Answer) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::encode(Kind::Response, &Response { number, answer }, &mut bytes).unwrap();
        bytes
    }

    async fn server() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, Client::named(1, 0, vec![address]))
    }

    #[tokio::test]
    async fn a_long_answer_may_take_longer_than_one_part() {
        let (listener, mut client) = server().await;
        let answer = Answer::Value(Some("x".repeat(1000).into()));
        let bytes = frame_of(0, answer.clone());
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for part in bytes.chunks(bytes.len() / 8) {
                sleep(Duration::from_millis(150)).await;
                stream.write_all(part).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answered = client.ask(GET()) => assert_eq!(answered.unwrap(), answer),
            () = serving => {}
        }
        assert_eq!(client.repetitions(), 0);
    }

    /// What is left of a frame would be taken for the next one.
    #[tokio::test]
    async fn a_connection_is_not_used_after_half_an_answer() {
        let (listener, client) = server().await;
        let mut client = client.with_timeout(Duration::ZERO);
        let bytes = frame_of(0, Answer::Value(Some("x".repeat(1000).into())));
        let listener = &listener;
        let accept = |sent: Vec<u8>| async move {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            stream.write_all(&sent).await.unwrap();
            stream
        };
        let (_stream, failed) =
            tokio::join!(accept(bytes[..bytes.len() / 2].to_vec()), client.ask(GET()));
        assert!(failed.unwrap_err().to_string().contains("no answer in time"));
        let answer = Answer::Value(None);
        let (_other, answered) =
            tokio::join!(accept(frame_of(1, answer.clone())), client.ask(GET()));
        assert_eq!(answered.unwrap(), answer);
    }

    fn members(pids: &[u64]) -> Members {
        let found = |pid: u64| Found { by_servers: None, by_clients: Some(format!("h:{pid}")) };
        let members = pids.iter().map(|pid| (*pid, found(*pid))).collect();
        Members { configuration_id: 1, members }
    }

    #[test]
    fn a_client_learns_where_the_members_are() {
        let given = ["h:1", "h:2"].map(str::to_owned);
        let mut servers = given.to_vec();
        let mut at = 1;
        learn(&mut servers, &given, &mut at, &members(&[2, 3, 4]));
        assert_eq!((servers.join(" "), at), ("h:1 h:2 h:3 h:4".to_owned(), 1));
        at = 2;
        learn(&mut servers, &given, &mut at, &members(&[5]));
        assert_eq!((servers.join(" "), at), ("h:1 h:2 h:5 h:3".to_owned(), 3), "it asks server 3");
        at = 2;
        learn(&mut servers, &given, &mut at, &members(&[5]));
        assert_eq!((servers.join(" "), at), ("h:1 h:2 h:5".to_owned(), 2));
        let mut servers = given[..1].to_vec();
        at = 0;
        learn(&mut servers, &given[..1], &mut at, &members(&[2, 3]));
        assert_eq!(servers, given[..1], "it was given one server, and asks no other");
    }
}
