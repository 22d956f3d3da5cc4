//! A state that is too large for messages.
//!
//! The snapshot is a handle: the address of a server, the name of a file, its length and its digest. A
//! server that lacks the state fetches this file from the other server, over a connection of its own.
//! The three servers run in this process, and send each other messages through a simulated network.
#![forbid(unsafe_code)]

mod application;
mod handle;

use anyhow::{ensure, Result};
use application::Application;
use handle::Line;
use omnipaxos::{util::NodeId, ClusterConfig};
use omnipaxos_harness::{build, Cluster, Delay};
use omnipaxos_storage::memory_storage::MemoryStorage;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = |pid: NodeId| Application::start(folder.path().join(format!("server-{pid}")));
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let server = |pid| build(&config, pid, |_config| {}, MemoryStorage::default());

    let mut cluster = Cluster::of([1, 2].map(server), Delay(1));
    let mut applications = [start(1)?, start(2)?];
    cluster.elect(1);
    for round in 1..=3 {
        for n in 1..=100 {
            cluster.server(1).append(Line(format!("line {n} of round {round}")))?;
        }
        cluster.run(20);
        for (server, application) in cluster.servers_mut().zip(&mut applications) {
            application.catch_up(server)?;
            server.compact_with(application.applied_idx, application.save()?)?;
        }
        // The servers store the new handles.
        cluster.run(2);
        for (server, application) in cluster.servers().zip(&applications) {
            application.remove_earlier(server)?;
        }
    }

    // This server lacks all entries, and the others have removed them.
    cluster.start(server(3));
    cluster.until_decided_everywhere(300);
    let mut late = start(3)?;
    late.catch_up(cluster.server(3))?;
    println!(
        "server 3, which started late, fetched a state of {} bytes after {} entries",
        late.state.len(),
        late.applied_idx
    );
    ensure!(
        (late.applied_idx, &late.state) == (300, &applications[0].state),
        "the states of servers 1 and 3 differ"
    );
    Ok(())
}
