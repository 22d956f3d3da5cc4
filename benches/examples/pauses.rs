//! The longest call of a server while a snapshot of its state is made, stored and served:
//! `cargo run --release -p omnipaxos_benches --example pauses [--cpu] [FOLDER]`. The folder decides which
//! disk is measured; without one it is the system's folder for temporary files. With `--cpu` the times are
//! those of the processor in the calling thread: for a machine that has other work, and without the disk.
//!
//! Two servers with persistent storages append entries all the time and make a snapshot each. Then the
//! third, which lacks these entries, gets one, and then the entries after it. Later it is away, and gets
//! another one: it makes a snapshot of its own when all pieces have come, and that is being written when the
//! other one is installed. The state of the application is shared, so that a clone of it costs nothing.

use cpu_time::ThreadTime;
use omnipaxos::{
    messages::{
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    storage::{Entry, Snapshot},
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    env,
    error::Error,
    fmt,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

/// Bytes of one value of the state.
const VALUE_BYTES: usize = 1 << 10;

/// Entries between two messages.
const GROUP: usize = 20;

/// Whether the time of the processor counts.
static COUNTS_CPU: LazyLock<bool> =
    LazyLock::new(|| env::args().any(|argument| argument == "--cpu"));

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Command(#[serde(with = "serde_bytes")] Vec<u8>);

impl Entry for Command {
    type Snapshot = State;
    omnipaxos::without_unicache!();
}

/// Values that the application shares with its snapshots.
#[derive(Clone)]
struct State(Arc<Vec<Value>>);

#[derive(Serialize, Deserialize)]
struct Value(u64, #[serde(with = "serde_bytes")] Vec<u8>);

impl State {
    fn of(megabytes: usize) -> Self {
        let count = (megabytes << 20) / VALUE_BYTES;
        State(Arc::new((0..count as u64).map(|n| Value(n, vec![n as u8; VALUE_BYTES])).collect()))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|values| State(Arc::new(values)))
    }
}

impl Snapshot<Command> for State {
    fn create(_: &[Command]) -> Self {
        unreachable!("can_create is false")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

/// How the storage writes a snapshot.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Way {
    /// In the call.
    Call,
    /// From a thread; encoded in the call.
    Thread,
    /// From a thread, which encodes it as well.
    Background,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Call => "in the call",
            Way::Thread => "from a thread (default)",
            Way::Background => "with_background_encoding",
        }
    }

    fn open(self, folder: &Path) -> Result<PersistentStorage<Command>, Box<dyn Error>> {
        let mut config = PersistentStorageConfig::with_path(folder.to_string_lossy());
        if self == Way::Call {
            config.set_largest_inline_snapshot(u64::MAX);
        }
        let storage = PersistentStorage::try_open(config)?;
        Ok(match self {
            Way::Call | Way::Thread => storage,
            Way::Background => storage.with_background_encoding(),
        })
    }
}

/// The longest call so far, and which it was.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Longest(Duration, &'static str);

impl Longest {
    fn time<R>(&mut self, name: &'static str, call: impl FnOnce() -> R) -> R {
        let (start, on_cpu) = (Instant::now(), ThreadTime::now());
        let result = call();
        let took = if *COUNTS_CPU { on_cpu.elapsed() } else { start.elapsed() };
        if took > self.0 {
            *self = Longest(took, name);
        }
        result
    }
}

impl fmt::Display for Longest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ({})", self.0.as_secs_f64() * 1e3, self.1)
    }
}

type Server = OmniPaxos<Command, PersistentStorage<Command>>;

struct Cluster {
    servers: Vec<Server>,
    /// The longest call of each server.
    longest: Vec<Longest>,
    /// Whether the last server takes part.
    is_complete: bool,
    /// Whether the last piece of a snapshot was delivered.
    has_last_piece: bool,
}

/// Returns whether a message has the last piece of a snapshot.
fn is_last_piece(message: &Message<Command>) -> bool {
    let Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::CatchUpChunk(chunk), .. }) = message
    else {
        return false;
    };
    chunk
        .piece
        .as_ref()
        .is_some_and(|piece| piece.offset + piece.bytes.len() as u64 == piece.encoding.len)
}

impl Cluster {
    fn new(folder: &Path, way: Way) -> Result<Self, Box<dyn Error>> {
        let cluster =
            ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
        let build = |pid: u64| -> Result<Server, Box<dyn Error>> {
            let config = ServerConfig {
                pid,
                leader_priority: u32::from(pid == 1),
                ..ServerConfig::default()
            };
            let storage = way.open(&folder.join(pid.to_string()))?;
            Ok(cluster.clone().build_for_server(config, storage)?)
        };
        let servers = (1..=3).map(build).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            servers,
            longest: vec![Longest::default(); 3],
            is_complete: false,
            has_last_piece: false,
        })
    }

    /// Appends entries, delivers all messages once, and ticks.
    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let count = if self.is_complete { 3 } else { 2 };
        let mut messages: Vec<Message<Command>> = Vec::new();
        for (server, longest) in self.servers.iter_mut().zip(&mut self.longest).take(count) {
            longest.time("tick", || server.tick());
            longest.time("outgoing_messages", || server.take_outgoing_messages(&mut messages));
        }
        for message in messages {
            let at = message.get_receiver() as usize - 1;
            if at < count {
                self.has_last_piece |= is_last_piece(&message);
                let (server, longest) = (&mut self.servers[at], &mut self.longest[at]);
                longest.time("handle_incoming", || server.handle_incoming(message));
            }
        }
        let (leader, longest) = (&mut self.servers[0], &mut self.longest[0]);
        for _ in 0..GROUP {
            longest
                .time("append", || leader.append(Command(vec![7; 64])))
                .map_err(|refused| format!("{refused}"))?;
        }
        Ok(())
    }

    /// The longest call of the first two servers, and of the last one, during `run`.
    fn during<R>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<R, Box<dyn Error>>,
    ) -> Result<(Longest, Longest), Box<dyn Error>> {
        self.longest.fill(Longest::default());
        run(self)?;
        let longest = self.longest[0].max(self.longest[1]);
        Ok((longest, self.longest[2]))
    }

    fn compact(&mut self, at: usize, state: &State) -> Result<u64, Box<dyn Error>> {
        let (server, longest) = (&mut self.servers[at], &mut self.longest[at]);
        let idx = server.get_decided_idx();
        let snapshot = longest.time("clone", || state.clone());
        longest.time("compact_with", || server.compact_with(idx, snapshot))?;
        Ok(idx)
    }

    /// The first two servers make a snapshot each, one after the other: each has a machine of its own
    /// otherwise.
    fn compact_members(&mut self, state: &State) -> Result<(), Box<dyn Error>> {
        for at in 0..2 {
            let idx = self.compact(at, state)?;
            self.step()?;
            while self.servers[at].get_stored_compacted_idx()? < idx {
                self.step()?;
            }
        }
        Ok(())
    }

    /// The last server gets a snapshot while its own is being written.
    fn receive_while_compacting(
        &mut self,
        state: &State,
    ) -> Result<(Longest, Longest), Box<dyn Error>> {
        self.is_complete = false;
        (0..50).try_for_each(|_| self.step())?;
        self.compact_members(state)?;
        (self.is_complete, self.has_last_piece) = (true, false);
        let idx = self.servers[0].get_compacted_idx();
        self.during(|cluster| {
            while !cluster.has_last_piece {
                cluster.step()?;
            }
            cluster.compact(2, state)?;
            while cluster.servers[2].get_compacted_idx() < idx {
                cluster.step()?;
            }
            Ok(())
        })
    }

    fn measure(&mut self, way: Way, megabytes: usize) -> Result<(), Box<dyn Error>> {
        let steps =
            |count: usize| move |cluster: &mut Self| (0..count).try_for_each(|_| cluster.step());
        steps(50)(self)?;
        let (idle, _) = self.during(steps(100))?;
        let state = State::of(megabytes);
        let start = Instant::now();
        let (stored, _) = self.during(|cluster| {
            cluster.compact_members(&state)?;
            steps(20)(cluster)
        })?;
        let took = start.elapsed();
        let (source, receiver) = self.during(|cluster| {
            cluster.is_complete = true;
            let idx = cluster.servers[0].get_compacted_idx();
            while cluster.servers[2].get_decided_idx() < idx {
                cluster.step()?;
            }
            Ok(())
        })?;
        let (source_after, receiver_after) = self.during(|cluster| {
            let idx = cluster.servers[0].get_decided_idx();
            while cluster.servers[2].get_decided_idx() < idx {
                cluster.step()?;
            }
            Ok(())
        })?;
        let after = source_after.max(receiver_after);
        let (_, compacting) = self.receive_while_compacting(&state)?;
        println!(
            "| {megabytes} | {} | {idle} | {stored} | {:.0} | {source} | {receiver} | {after} | {compacting} |",
            way.name(),
            took.as_secs_f64() * 1e3 / 2.0,
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = match env::args().skip(1).find(|argument| argument != "--cpu") {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    println!(
        "Longest call in ms{}, and which it was.\n\n\
         | MB | written | before | made and stored | stored after ms | served: sources | served: receiver | entries after it | receiver with its own |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        if *COUNTS_CPU { " of the processor" } else { "" },
    );
    for (number, megabytes) in [1, 10, 100].into_iter().enumerate() {
        for way in [Way::Call, Way::Thread, Way::Background] {
            let folder = folder.path().join(format!("{number}-{way:?}"));
            Cluster::new(&folder, way)?.measure(way, megabytes)?;
            std::fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}
