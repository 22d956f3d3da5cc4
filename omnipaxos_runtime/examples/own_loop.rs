//! Three servers with a loop of their own on tokio, over the public interface of `omnipaxos` alone. It is for
//! programs that have a loop and a network already; others use `Node` or `Replicated`.

use omnipaxos::{
    errors::{with_causes, Halted},
    events::Event,
    macros::Entry,
    messages::Message,
    proposals::{Outcome, ProposalId},
    reads::{ReadId, ReadState},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, error::Error, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep_until, Instant},
};

const TICK: Duration = Duration::from_millis(10);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
struct Line(String);

/// What a server handles. If it ends, it drops the senders: then it is unknown whether a line is decided.
enum Input {
    Message(Message<Line>),
    Propose(Line, Reply<Outcome>),
    Read(Reply<Vec<String>>),
}

/// A refusal is a text. Then nothing was proposed, or read.
type Reply<T> = oneshot::Sender<Result<T, String>>;

struct Server {
    replica: OmniPaxos<Line, MemoryStorage<Line>>,
    /// The network: here, the inputs of the other servers.
    network: BTreeMap<u64, mpsc::Sender<Input>>,
    /// The decided lines.
    state: Vec<String>,
    proposals: BTreeMap<ProposalId, Reply<Outcome>>,
    reads: Vec<(ReadId, Reply<Vec<String>>)>,
}

impl Server {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> Result<(), Failure> {
        let (mut batch, mut last_tick) = (Vec::new(), Instant::now());
        loop {
            let ticks = self.replica.next_timeout().map_or(1, |ticks| ticks.min(1000) as u32);
            tokio::select! {
                received = inputs.recv_many(&mut batch, 1024) => if received == 0 {
                    return Ok(());
                },
                () = sleep_until(last_tick + TICK * ticks) => {}
            }
            let passed = (last_tick.elapsed().as_nanos() / TICK.as_nanos()) as u32;
            last_tick += TICK * passed;
            self.replica.try_tick_by(passed.into())?;
            for input in batch.drain(..) {
                self.handle(input)?;
            }
            // What is true without the write leaves before it: followers write while this server does.
            let mut messages = Vec::new();
            self.replica.try_take_early_messages(&mut messages)?;
            self.send(&mut messages);
            // One write and one message to each server, for all inputs that came together.
            self.replica.try_take_outgoing_messages(&mut messages)?;
            self.send(&mut messages);
            self.answer()?;
        }
    }

    fn send(&self, messages: &mut Vec<Message<Line>>) {
        for message in messages.drain(..) {
            // If the other server is busy or has ended, the message is lost, as in a network.
            let to = self.network.get(&message.get_receiver());
            to.map(|to| to.try_send(Input::Message(message)));
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), Halted> {
        match input {
            Input::Message(message) => self.replica.try_handle_incoming(message)?,
            // A caller that does not wait any more needs no answer.
            Input::Propose(line, reply) => match self.replica.propose(line) {
                Ok(id) => drop(self.proposals.insert(id, reply)),
                Err(refused) => drop(reply.send(Err(with_causes(&refused)))),
            },
            Input::Read(reply) => match self.replica.request_read() {
                Ok(id) => self.reads.push((id, reply)),
                Err(refused) => drop(reply.send(Err(with_causes(&refused)))),
            },
        }
        Ok(())
    }

    /// First what is decided is applied, then callers are answered.
    fn answer(&mut self) -> Result<(), Failure> {
        let Self { replica, state, proposals, reads, .. } = self;
        let applied_idx = state.len() as u64;
        let applied =
            replica.try_for_each_decided(applied_idx, |Line(line)| state.push(line.clone()));
        // Not here, where nobody compacts the log.
        applied?.ok_or("the next lines are compacted")?;
        for event in replica.take_events() {
            if let Event::ProposalEnded { id, outcome } = event {
                proposals.remove(&id).map(|reply| reply.send(Ok(outcome)));
            }
        }
        for (id, reply) in std::mem::take(reads) {
            match replica.read_state(id) {
                ReadState::Ready(idx) if idx <= state.len() as u64 => {
                    drop(reply.send(Ok(state.clone())))
                }
                ReadState::Refused(refused) => drop(reply.send(Err(refused.to_string()))),
                _waiting => reads.push((id, reply)),
            }
        }
        Ok(())
    }
}

/// Proposes a line at each server, and reads them all.
async fn ask(network: &BTreeMap<u64, mpsc::Sender<Input>>) -> Result<(), Failure> {
    for (pid, server) in network {
        let (reply, outcome) = oneshot::channel();
        let line = Line(format!("hello from {pid}"));
        server.send(Input::Propose(line, reply)).await?;
        println!("server {pid}: {:?}", outcome.await??);
    }
    let (reply, lines) = oneshot::channel();
    network[&1].send(Input::Read(reply)).await?;
    println!("server 1 reads {:?}", lines.await??);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let nodes = vec![1, 2, 3];
    let cluster = ClusterConfig { configuration_id: 1, nodes, ..Default::default() };
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(4096)).unzip();
    let network: BTreeMap<u64, mpsc::Sender<Input>> = (1..).zip(senders).collect();
    let mut servers = JoinSet::new();
    for (pid, inputs) in (1..).zip(receivers) {
        let config = ServerConfig { pid, ..Default::default() };
        let replica = cluster.clone().build_for_server(config, MemoryStorage::default())?;
        let (network, state) = (network.clone(), Vec::new());
        let (proposals, reads) = (BTreeMap::new(), Vec::new());
        servers.spawn(Server { replica, network, state, proposals, reads }.run(inputs));
    }
    tokio::select! {
        biased;
        // No server ends of its own accord: its disk may be full.
        Some(ended) = servers.join_next() => ended?,
        asked = ask(&network) => asked,
    }
}
