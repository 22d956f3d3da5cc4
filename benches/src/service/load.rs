//! Clients in a closed loop, and what they measure.

use crate::{
    client::{Client, Operation},
    cluster::{Cluster, PATIENCE},
    plan::System,
    Failure,
};
use hdrhistogram::Histogram;
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, MutexGuard,
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// The size of a value in bytes.
const VALUE_BYTES: usize = 256;

/// The longest latency that is recorded; longer ones count as this one.
const LONGEST_MICROS: u64 = 600_000_000;

/// The time before a failed operation is tried again at the next server.
const RETRY: Duration = Duration::from_millis(5);

/// What is done.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Load {
    pub(crate) operation: Operation,
    pub(crate) clients: usize,
    pub(crate) keys: u64,
}

/// What a load measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Microseconds from the first attempt of an operation to its end.
    latencies: Histogram<u64>,
    /// The longest time in which no operation ended.
    pub(crate) longest_pause: Duration,
    /// Attempts that failed. Each was repeated.
    pub(crate) failed: u64,
    /// The number of operations, once the load has ended. The latencies of those that were under way then are
    /// recorded, too.
    operations: Option<u64>,
    elapsed: Duration,
    last_end: Instant,
    last_failure: Option<String>,
}

impl Measured {
    fn begin() -> Result<Self, Failure> {
        Ok(Self {
            latencies: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?,
            longest_pause: Duration::ZERO,
            failed: 0,
            operations: None,
            elapsed: Duration::ZERO,
            last_end: Instant::now(),
            last_failure: None,
        })
    }

    fn ended(&mut self, begun: Instant) {
        let now = Instant::now();
        let micros = u64::try_from((now - begun).as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
        if self.operations.is_some() {
            return;
        }
        self.longest_pause = self.longest_pause.max(now - self.last_end);
        self.last_end = now;
    }

    fn failed(&mut self, failure: &dyn std::error::Error) {
        if self.operations.is_none() {
            self.failed += 1;
        }
        self.last_failure = Some(failure.to_string());
    }

    fn end(&mut self, begun: Instant) {
        let now = Instant::now();
        self.elapsed = now - begun;
        self.longest_pause = self.longest_pause.max(now - self.last_end);
        self.operations = Some(self.latencies.len());
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.unwrap_or(self.latencies.len())
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the latency in ms that this part of the operations does not exceed.
    pub(crate) fn millis_at(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Returns why the last failed attempt failed.
    pub(crate) fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Running {
    clients: JoinSet<()>,
    measured: Arc<Mutex<Measured>>,
    /// Whether the clients end after their operations.
    ends: Arc<AtomicBool>,
    begun: Instant,
}

impl Running {
    /// Starts the clients: the first at server `first`, the others spread over all servers.
    pub(crate) fn start(cluster: &Cluster, first: u64, load: Load) -> Result<Self, Failure> {
        let measured = Arc::new(Mutex::new(Measured::begin()?));
        let ends = Arc::new(AtomicBool::new(false));
        let ports: Arc<[u16]> = cluster.client_ports_from(first).into();
        let mut clients = JoinSet::new();
        for client in 0..load.clients {
            let looped = ClosedLoop {
                system: cluster.system,
                ports: ports.clone(),
                server: client,
                connection: None,
                load,
                random: client as u64,
                measured: measured.clone(),
                ends: ends.clone(),
            };
            clients.spawn(looped.run());
        }
        Ok(Self { clients, measured, ends, begun: Instant::now() })
    }

    /// Forgets what was measured until now.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        *lock(&self.measured) = Measured::begin()?;
        self.begun = Instant::now();
        Ok(())
    }

    /// Ends the load, waits until the operations under way have ended, and returns what it measured. The
    /// slowest are among the last ones, where a fault is.
    pub(crate) async fn end(mut self) -> Result<Measured, Failure> {
        lock(&self.measured).end(self.begun);
        self.ends.store(true, Ordering::Relaxed);
        let ending = async {
            while let Some(ended) = self.clients.join_next().await {
                ended?;
            }
            Ok::<_, Failure>(())
        };
        timeout(PATIENCE, ending).await.map_err(|_| "an operation does not end")??;
        let measured = std::mem::replace(&mut *lock(&self.measured), Measured::begin()?);
        match measured.operations() {
            0 => Err("no operation has ended".into()),
            1.. => Ok(measured),
        }
    }
}

/// One client: an operation after the other.
struct ClosedLoop {
    system: System,
    ports: Arc<[u16]>,
    /// Position of the server, modulo their number.
    server: usize,
    connection: Option<Client>,
    load: Load,
    random: u64,
    measured: Arc<Mutex<Measured>>,
    ends: Arc<AtomicBool>,
}

impl ClosedLoop {
    async fn run(mut self) {
        while !self.ends.load(Ordering::Relaxed) {
            let key = self.next_key();
            let begun = Instant::now();
            while let Err(failure) = self.attempt(key).await {
                lock(&self.measured).failed(&*failure);
                self.connection = None;
                self.server += 1;
                sleep(RETRY).await;
            }
            lock(&self.measured).ended(begun);
        }
    }

    async fn attempt(&mut self, key: u64) -> Result<(), Failure> {
        let client = match &mut self.connection {
            Some(client) => client,
            none => {
                let port = self.ports[self.server % self.ports.len()];
                none.insert(Client::connect(self.system, port).await?)
            }
        };
        match self.load.operation {
            Operation::Put => client.put(key, value_of(key)).await,
            Operation::Get => match client.get(key).await? {
                Some(value) if value == value_of(key) => Ok(()),
                _ => Err(format!("key {key} has not the value that was put").into()),
            },
        }
    }

    /// The keys are spread evenly (SplitMix64).
    fn next_key(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % self.load.keys
    }
}

/// Puts every key once.
pub(crate) async fn fill(cluster: &Cluster, keys: u64) -> Result<(), Failure> {
    const CLIENTS: u64 = 64;
    let ports = cluster.client_ports_from(1);
    let system = cluster.system;
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        let port = ports[first as usize % ports.len()];
        clients.spawn(async move {
            let mut client = Client::connect(system, port).await?;
            for key in (first..keys).step_by(CLIENTS as usize) {
                client.put(key, value_of(key)).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    let filled = async {
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        Ok(())
    };
    timeout(Duration::from_secs(120), filled).await?
}

fn value_of(key: u64) -> Vec<u8> {
    // A letter, since one of the stores takes text only.
    vec![b'a' + (key % 26) as u8; VALUE_BYTES]
}

fn lock(measured: &Mutex<Measured>) -> MutexGuard<'_, Measured> {
    measured.lock().expect("no client panics while it holds the lock")
}

#[cfg(test)]
mod tests {
    use super::Measured;
    use std::time::{Duration, Instant};

    #[test]
    fn a_slow_operation_counts_with_all_its_time() {
        let mut measured = Measured::begin().expect("the bounds of the histogram are valid");
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).expect("time passes");
        measured.ended(Instant::now());
        measured.ended(long_ago);
        assert_eq!(measured.operations(), 2);
        assert!(measured.millis_at(1.0) >= 5000.0, "{} ms", measured.millis_at(1.0));
    }

    #[test]
    fn an_operation_that_ends_after_the_load_counts_with_its_time_alone() {
        let mut measured = Measured::begin().expect("the bounds of the histogram are valid");
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).expect("time passes");
        measured.ended(Instant::now());
        measured.end(Instant::now());
        let pause = measured.longest_pause;
        measured.ended(long_ago);
        assert_eq!((measured.operations(), measured.longest_pause), (1, pause));
        assert!(measured.millis_at(1.0) >= 5000.0, "{} ms", measured.millis_at(1.0));
    }
}
