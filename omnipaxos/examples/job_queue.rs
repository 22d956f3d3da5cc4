//! A queue of jobs that workers claim. The application passes its own state to `compact_with`.
//!
//! What a claim does depends on the jobs and claims before it. So a snapshot cannot be made of a part
//! of the entries, and two snapshots cannot be merged.

mod common;

use omnipaxos::{macros::Entry, storage::Snapshot, util::LogEntry};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Queue)]
enum Command {
    Add {
        job: String,
    },
    /// The worker gets the oldest job that is free, if there is one.
    Claim {
        worker: u64,
    },
    Done {
        worker: u64,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Queue {
    free: VecDeque<String>,
    claimed: BTreeMap<u64, String>,
}

impl Queue {
    fn apply(&mut self, command: &Command) {
        match command {
            Command::Add { job } => self.free.push_back(job.clone()),
            Command::Claim { worker } => {
                if !self.claimed.contains_key(worker) {
                    let job = self.free.pop_front();
                    self.claimed.extend(job.map(|job| (*worker, job)));
                }
            }
            Command::Done { worker } => drop(self.claimed.remove(worker)),
        }
    }
}

impl Snapshot<Command> for Queue {
    fn create(_: &[Command]) -> Self {
        unreachable!("can_create is false: which job a claim gets depends on the entries before")
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

/// The application at one server.
#[derive(Default)]
struct Application {
    applied_idx: u64,
    queue: Queue,
}

impl Application {
    fn catch_up(&mut self, server: &common::Server<Command>) {
        for entry in server.read_decided_suffix(self.applied_idx).unwrap_or_default() {
            match entry {
                LogEntry::Decided(command) => {
                    self.queue.apply(&command);
                    self.applied_idx += 1;
                }
                LogEntry::Snapshotted(compacted) => {
                    self.queue = compacted.snapshot;
                    self.applied_idx = compacted.trimmed_idx;
                }
                LogEntry::Undecided(_) | LogEntry::Trimmed(_) | LogEntry::StopSign(..) => {}
            }
        }
    }
}

fn main() {
    let mut servers = common::cluster(3);
    let mut late = servers.split_off(2);
    common::run(&mut servers, 30);
    for n in 1..=100 {
        let commands = [
            Command::Add { job: format!("job {n}") },
            Command::Claim { worker: n % 3 },
            Command::Done { worker: n % 5 },
        ];
        for command in commands {
            servers[0].append(command).expect("no reconfiguration is pending");
        }
    }
    common::run(&mut servers, 20);
    let mut queue = Queue::default();
    for server in &mut servers {
        let mut application = Application::default();
        application.catch_up(server);
        queue = application.queue.clone();
        server
            .compact_with(application.applied_idx, application.queue)
            .expect("it is decided, and nothing is compacted");
    }

    servers.append(&mut late);
    common::run(&mut servers, 60);
    let mut application = Application::default();
    application.catch_up(&servers[2]);
    println!(
        "the server that was late begins with the state after {} commands: {} jobs are free, {} \
         claimed",
        application.applied_idx,
        queue.free.len(),
        queue.claimed.len()
    );
    assert_eq!((application.applied_idx, application.queue), (300, queue));
}
