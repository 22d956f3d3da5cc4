//! Three servers under full load for long, of which one is killed each minute. Their memory and their
//! descriptors stay as they are, and nothing that was acknowledged is lost.
//!
//! ```console
//! $ SOAK_SECONDS=1800 cargo test --release -p kv_store --test soak -- --ignored --nocapture
//! ```
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{Asker, Cluster};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

const CLIENTS: u64 = 16;

/// Each client puts these again and again, and no other does.
const KEYS_A_CLIENT: u64 = 500;

const VALUE_BYTES: usize = 256;

/// Between two samples, in seconds.
const SAMPLE: u64 = 10;

/// A server is killed in each of these periods, in seconds, at this second of it. Before that it may get
/// leadership, and then it is restarted.
const PERIOD: u64 = 60;
const KILL_SOON: u64 = 25;
const KILL: u64 = 30;
const RESTART: u64 = 40;

/// A server counts from this age on, in seconds: before, it reads its log and catches up.
const YOUNG: u64 = 20;

/// How far the last third may be above the second one: a tenth, and as much besides.
const MEMORY_SLACK: u64 = 8 << 20;
const DESCRIPTORS_SLACK: u64 = 4;

/// What a server uses.
#[derive(Copy, Clone, Debug)]
struct Sample {
    second: u64,
    memory: u64,
    descriptors: u64,
    disk: u64,
}

impl Sample {
    fn take(cluster: &Cluster, index: usize, second: u64) -> Self {
        let process = format!("/proc/{}", cluster.servers[index].id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
        let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count() as u64;
        Self { second, memory: kilobytes << 10, descriptors, disk: bytes_in(&cluster.data(index)) }
    }
}

/// The bytes of all files of a folder, some of which may be removed meanwhile.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_in(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// What the clients share.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    operations: AtomicU64,
}

impl Shared {
    /// Puts until it is over, and returns the last value of each key.
    fn put_until_over(&self, ports: &[u16], client: u64) -> BTreeMap<String, String> {
        let mut asker = Asker::start(from(ports, client as usize), &["--timeout", "60"]);
        let mut acknowledged = BTreeMap::new();
        for number in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("{client}-{}", number % KEYS_A_CLIENT);
            let value = format!("{number:0>VALUE_BYTES$}");
            let answer = asker.ask(&format!("put {key} {value}"));
            assert!(answer.starts_with("ok, "), "{answer}");
            self.operations.fetch_add(1, Ordering::Relaxed);
            acknowledged.insert(key, value);
        }
        acknowledged
    }
}

/// Ends the clients, also when the servers cannot continue.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// All ports, beginning with this one.
fn from(ports: &[u16], first: usize) -> impl Iterator<Item = u16> + '_ {
    ports.iter().copied().cycle().skip(first % 3).take(3)
}

/// The servers and what they use.
struct Soak {
    cluster: Cluster,
    samples: [Vec<Sample>; 3],
    /// When each was started, in seconds. `None` while it is killed.
    started: [Option<u64>; 3],
}

impl Soak {
    /// Does what is due at this second.
    fn continues(&mut self, second: u64, operations: u64) {
        // The third server is never killed, so that it shows what a long life does.
        let (kills, index) = (second / PERIOD, (second / PERIOD % 2) as usize);
        match second % PERIOD {
            // Every other time it leads.
            KILL_SOON if kills % 4 < 2 => {
                let pid = (index + 1).to_string();
                // It may lead already.
                drop(self.cluster.client(&["--timeout", "5", "transfer", &pid]));
            }
            KILL => {
                self.cluster.kill(index);
                self.started[index] = None;
            }
            RESTART => {
                self.cluster.restart(index);
                self.started[index] = Some(second);
            }
            _ => {}
        }
        if second.is_multiple_of(SAMPLE) {
            self.sample(second, operations);
        }
    }

    fn sample(&mut self, second: u64, operations: u64) {
        let mut row = format!("| {second} | {operations} |");
        for index in 0..3 {
            let Some(started) = self.started[index] else {
                row += " killed | | |";
                continue;
            };
            let sample = Sample::take(&self.cluster, index, second);
            let Sample { memory, descriptors, disk, .. } = sample;
            row += &format!(" {} | {descriptors} | {} |", mebibytes(memory), mebibytes(disk));
            if second >= started + YOUNG {
                self.samples[index].push(sample);
            }
        }
        println!("{row}");
    }

    /// Compares the last third of the time with the second one.
    fn judge(&self, seconds: u64) {
        for (index, samples) in self.samples.iter().enumerate() {
            let median = |from: u64, used: fn(&Sample) -> u64| {
                let part = from * seconds / 3..(from + 1) * seconds / 3 + 1;
                let mut used: Vec<u64> = samples
                    .iter()
                    .filter(|sample| part.contains(&sample.second))
                    .map(used)
                    .collect();
                used.sort_unstable();
                *used.get(used.len() / 2).expect("a third with a sample")
            };
            let check = |what: &str, used: fn(&Sample) -> u64, slack: u64| {
                let (second, last) = (median(1, used), median(2, used));
                println!("server {}: {what}: {second}, then {last}", index + 1);
                assert!(last <= second + second / 10 + slack, "{what} grows");
            };
            check("bytes of memory", |sample| sample.memory, MEMORY_SLACK);
            check("descriptors", |sample| sample.descriptors, DESCRIPTORS_SLACK);
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[test]
#[ignore = "it lasts for minutes"]
fn memory_and_descriptors_stay_and_nothing_is_lost() {
    let seconds = std::env::var("SOAK_SECONDS");
    let seconds: u64 = seconds.map_or(300, |seconds| seconds.parse().unwrap());
    let cluster = Cluster::start();
    let ports = cluster.client_ports.clone();
    let mut soak = Soak { cluster, samples: Default::default(), started: [Some(0); 3] };
    let shared = Shared::default();
    println!(
        "| second | puts | memory of server 1 (MiB) | descriptors | disk (MiB) | of server 2 | | | of \
         server 3 | | |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    let acknowledged: Vec<_> = std::thread::scope(|scope| {
        let over = Over(&shared);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| (client, &shared, &ports))
            .map(|(client, shared, ports)| {
                scope.spawn(move || shared.put_until_over(ports, client))
            })
            .collect();
        let start = Instant::now();
        for second in 1..=seconds {
            sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            soak.continues(second, shared.operations.load(Ordering::Relaxed));
        }
        drop(over);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    for index in (0..3).filter(|index| soak.started[*index].is_none()) {
        soak.cluster.restart(index);
    }
    soak.cluster.status_in_step();
    for port in &ports {
        let mut asker = Asker::start([*port], &["--timeout", "60"]);
        for (key, value) in &acknowledged {
            assert_eq!(asker.ask(&format!("get {key}")), *value, "{key}");
        }
    }
    soak.cluster.assert_alive();
    println!("{} keys read back from each server: nothing is lost", acknowledged.len());
    soak.judge(seconds);
}
