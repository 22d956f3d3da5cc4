//! A state that is too large for messages.
//!
//! The snapshot is a handle: a server, an index, the length of a state and its digest. A server that lacks
//! the state fetches the file of this state from the other server, over a connection of its own. That server
//! may fail meanwhile, or may have removed the file, since the library does not know of it. Then the
//! application asks another server for the last state that it has. After a restart it has its own file.
//! The three servers run in this process, and send each other messages through a simulated network.
#![forbid(unsafe_code)]

mod application;
mod files;
mod handle;
#[cfg(test)]
mod tests;
mod transfer;

use anyhow::{ensure, Context, Result};
use application::{Addresses, Application, Server};
use handle::Line;
use omnipaxos::{util::NodeId, ClusterConfig};
use omnipaxos_harness::{build, Cluster, Delay};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::fs;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = |pid: NodeId| Application::start(pid, &folder.path().join(format!("server-{pid}")));
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let server = |pid| build(&config, pid, |_config| {}, MemoryStorage::default());

    let mut cluster = Cluster::of([1, 2].map(server), Delay(1));
    let mut applications = [start(1)?, start(2)?];
    let addresses: Addresses = (1..).zip(applications.each_ref().map(|at| at.address)).collect();
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
    let handle = late.catch_up(cluster.server(3))?.context("server 3 has learned no snapshot")?;
    // The server that wrote the file can send only half of it.
    let file = folder.path().join(format!("server-{}/state-300", handle.server));
    fs::File::options().write(true).open(file)?.set_len(handle.bytes / 2)?;
    restore(&mut late, cluster.server(3), &addresses)?;
    println!(
        "server 3, which started late, fetched a state of {} bytes after {} entries",
        late.state.len(),
        late.applied_idx
    );
    ensure!(late.state == applications[0].state, "the states of servers 1 and 3 differ");

    // Its own file is enough after a restart.
    let mut restarted = start(3)?;
    restore(&mut restarted, cluster.server(3), &Addresses::new())?;
    ensure!(restarted.state == late.state, "server 3 has lost its state");
    println!("after a restart it reads the state from its own file");
    Ok(())
}

/// Applies all that a server has decided, also what only a state stands for.
fn restore(
    application: &mut Application,
    server: &mut Server,
    addresses: &Addresses,
) -> Result<()> {
    while let Some(handle) = application.catch_up(server)? {
        let (found, state) = application.find(&handle, addresses)?;
        application.install(&found, state, server)?;
    }
    Ok(())
}
