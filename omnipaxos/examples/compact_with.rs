//! The application passes its own state to `compact_with`: entries alone do not determine a snapshot.

mod common;

use omnipaxos::{macros::Entry, storage::Snapshot, util::LogEntry};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

#[derive(Clone, Debug, Entry, Serialize, Deserialize)]
#[snapshot(Queue)]
enum Command {
    Add(String),
    /// Removes the oldest job. Which one this is depends on all commands before it.
    Take,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Queue(VecDeque<String>);

impl Snapshot<Command> for Queue {
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

fn main() {
    let mut servers = common::cluster(3);
    let mut late = servers.split_off(2);
    common::run(&mut servers, 30);
    for n in 1..=100 {
        servers[0].append(Command::Add(format!("job {n}"))).expect("no change is pending");
        servers[1].append(Command::Take).expect("no change is pending");
    }
    common::run(&mut servers, 20);
    let mut queue = Queue::default();
    for server in &mut servers {
        queue.0.clear();
        server.for_each_decided(0, |command| match command {
            Command::Add(job) => queue.0.push_back(job.clone()),
            Command::Take => drop(queue.0.pop_front()),
        });
        server.compact_with(server.get_decided_idx(), queue.clone()).expect("they are decided");
    }

    servers.append(&mut late);
    common::run(&mut servers, 60);
    let Some(LogEntry::Snapshotted(first)) = servers[2].read(0) else { panic!("no snapshot") };
    println!("the late server begins with the queue after {} commands", first.trimmed_idx);
    assert_eq!((first.trimmed_idx, first.snapshot), (200, queue));
}
