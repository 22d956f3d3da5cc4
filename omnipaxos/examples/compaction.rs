//! Applied entries are replaced by a snapshot, and a server that starts late is sent the snapshot.

mod common;

use omnipaxos::{macros::Entry, storage::Snapshot, util::LogEntry};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Entry)]
#[snapshot(Sum)]
struct Add(u64);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sum(u64);

impl Snapshot<Add> for Sum {
    fn create(entries: &[Add]) -> Self {
        Sum(entries.iter().map(|Add(n)| n).sum())
    }

    fn merge(&mut self, Sum(more): Self) {
        self.0 += more;
    }

    fn use_snapshots() -> bool {
        true
    }
}

fn main() {
    let mut servers = common::cluster(3);
    let mut late = servers.split_off(2);
    common::run(&mut servers, 30);
    for n in 1..=100 {
        servers[0].append(Add(n)).expect("no reconfiguration is pending");
    }
    common::run(&mut servers, 20);
    for server in &mut servers {
        let applied_idx = server.get_decided_idx();
        server.compact(applied_idx).expect("it is decided");
        let (pid, idx) = (server.get_pid(), server.get_compacted_idx());
        println!("server {pid} holds no entry before {idx}");
    }

    servers.append(&mut late);
    common::run(&mut servers, 60);
    match servers[2].read(0) {
        Some(LogEntry::Snapshotted(first)) => {
            let (idx, Sum(sum)) = (first.trimmed_idx, first.snapshot);
            println!("the server that was late begins with the sum of {idx}: {sum}");
            assert_eq!((idx, sum), (100, 5_050));
        }
        other => panic!("no snapshot, but {other:?}"),
    }
}
