//! How much CPU time an entry costs, from `append` at the leader until all three servers know that
//! it is decided.
//!
//! Three servers in one thread; messages are moved by hand and none is lost. K entries are appended
//! at the leader, then messages are moved until there are none, and so on. Entries are made before
//! the clock starts; election, checks and the end of the cluster do not count either.
//!
//! `cargo bench -p omnipaxos_benches --features peers` measures the published crate beside ours:
//! the same code, compiled against either.

use omnipaxos_benches::{cpu_time_of, Summary, ROUNDS};
use std::time::Duration;

/// Bytes of the value of an entry, and how many entries are decided in a round.
const SIZES: [(usize, usize); 3] = [(8, 20_000), (256, 20_000), (4096, 6_000)];

/// Entries appended between two deliveries of messages.
const GROUPS: [usize; 2] = [1, 100];

/// The measured program, for a crate and the storage that goes with it.
macro_rules! contestant {
    ($name:ident, $omnipaxos:ident, $storage:ident) => {
        mod $name {
            use omnipaxos_benches::cpu_time_of;
            use std::time::Duration;
            use $omnipaxos::{
                messages::Message,
                storage::{Entry, NoSnapshot},
                util::LogEntry,
                ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
            };
            use $storage::memory_storage::MemoryStorage;

            #[derive(Clone, Debug)]
            struct KeyValue {
                key: u64,
                value: Vec<u8>,
            }

            impl Entry for KeyValue {
                type Snapshot = NoSnapshot;
            }

            type Server = OmniPaxos<KeyValue, MemoryStorage<KeyValue>>;

            fn server(pid: u64) -> Server {
                let config = OmniPaxosConfig {
                    cluster_config: ClusterConfig {
                        configuration_id: 1,
                        nodes: vec![1, 2, 3],
                        ..Default::default()
                    },
                    server_config: ServerConfig { pid, ..Default::default() },
                };
                config.build(MemoryStorage::default()).expect("the configuration is valid")
            }

            /// Moves messages until there are none.
            fn deliver(servers: &mut [Server], messages: &mut Vec<Message<KeyValue>>) {
                loop {
                    for server in servers.iter_mut() {
                        messages.extend(server.outgoing_messages());
                    }
                    if messages.is_empty() {
                        return;
                    }
                    for message in messages.drain(..) {
                        let receiver = message.get_receiver() as usize - 1;
                        servers[receiver].handle_incoming(message);
                    }
                }
            }

            /// The CPU time to decide so many entries of so many bytes, in groups.
            pub(crate) fn run(bytes: usize, entries: usize, group: usize) -> Duration {
                let mut servers: Vec<Server> = (1..=3).map(server).collect();
                let mut messages = Vec::new();
                for _ in 0..100 {
                    servers.iter_mut().for_each(Server::tick);
                    deliver(&mut servers, &mut messages);
                }
                let leader = servers[0].get_current_leader().expect("a leader") as usize - 1;
                let log: Vec<KeyValue> = (0..entries as u64)
                    .map(|key| KeyValue { key, value: vec![key as u8; bytes] })
                    .collect();
                let mut log = log.into_iter();
                let time = cpu_time_of(|| {
                    while log.len() > 0 {
                        for entry in log.by_ref().take(group) {
                            assert!(servers[leader].append(entry).is_ok());
                        }
                        deliver(&mut servers, &mut messages);
                    }
                });
                for server in &servers {
                    assert_eq!(server.get_decided_idx(), entries as u64);
                }
                let Some(LogEntry::Decided(last)) = servers[2].read(entries as u64 - 1) else {
                    panic!("the last entry is not decided");
                };
                assert_eq!((last.key, last.value.len()), (entries as u64 - 1, bytes));
                time
            }
        }
    };
}

contestant!(ours, omnipaxos, omnipaxos_storage);

#[cfg(feature = "peers")]
contestant!(published, omnipaxos_published, omnipaxos_storage_published);

/// A name and the program to measure: bytes, entries, group.
type Contestant = (&'static str, fn(usize, usize, usize) -> Duration);

const CONTESTANTS: &[Contestant] = &[
    ("ours", ours::run),
    #[cfg(feature = "peers")]
    ("published 0.2.2", published::run),
];

/// ns per entry of each contestant.
fn measure(bytes: usize, entries: usize, group: usize) -> Vec<Summary> {
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); CONTESTANTS.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in CONTESTANTS.iter().zip(&mut all) {
            times.push(run(bytes, entries, group).as_nanos() as f64 / entries as f64);
        }
    }
    all.into_iter().filter_map(Summary::of).collect()
}

fn main() {
    let resolution = cpu_time_of(|| ());
    println!(
        "CPU time per entry, from append to decided at all of 3 servers; median of {ROUNDS} rounds \
         (smallest to largest). An empty measurement takes {resolution:?}.\n"
    );
    let mut head = String::from("| value | K |");
    let mut line = String::from("|---:|---:|");
    for (name, _) in CONTESTANTS {
        head += &format!(" {name}, ns |");
        line += "---:|";
    }
    if CONTESTANTS.len() > 1 {
        head += " published / ours |";
        line += "---:|";
    }
    println!("{head}\n{line}");
    for (bytes, entries) in SIZES {
        for group in GROUPS {
            let measured = measure(bytes, entries, group);
            let mut row = format!("| {bytes} B | {group} |");
            for Summary { median, min, max } in &measured {
                row += &format!(" {median:.0} ({min:.0} to {max:.0}) |");
            }
            if let [ours, published] = measured.as_slice() {
                row += &format!(" {:.2} |", published.median / ours.median);
            }
            println!("{row}");
        }
    }
}
