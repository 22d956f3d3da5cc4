//! A state that is too large for messages.
//!
//! The snapshot is a handle: the address of a server, the name of a file, its length and its digest. A
//! server that lacks the state fetches this file from the other server, over a connection of its own.
//! That server may fail meanwhile, or may have removed the file, since the library does not know of it. Then
//! the application asks another server for the last state that it has.
//! The three servers run in this process, and send each other messages through a simulated network.
#![forbid(unsafe_code)]

mod application;
mod handle;

use anyhow::{bail, ensure, Result};
use application::Application;
use handle::Line;
use omnipaxos::{
    util::{LogEntry, NodeId},
    ClusterConfig,
};
use omnipaxos_harness::{build, Cluster, Delay};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::fs;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = |pid: NodeId| Application::start(folder.path().join(format!("server-{pid}")));
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let server = |pid| build(&config, pid, |_config| {}, MemoryStorage::default());

    let mut cluster = Cluster::of([1, 2].map(server), Delay(1));
    let mut applications = [start(1)?, start(2)?];
    let addresses = applications.each_ref().map(|application| application.address);
    cluster.elect(1);
    for round in 1..=3 {
        for n in 1..=100 {
            cluster.server(1).append(Line(format!("line {n} of round {round}")))?;
        }
        cluster.run(20);
        for (server, application) in cluster.servers_mut().zip(&mut applications) {
            application.catch_up(server, &addresses)?;
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
    let server = cluster.server(3);
    let Some(LogEntry::Snapshotted(compacted)) = server.read(0) else {
        bail!("server 3 has learned no snapshot");
    };
    // The server that wrote the file can send only half of it.
    let handle = compacted.snapshot;
    for writer in applications.iter().filter(|writer| writer.address == handle.address) {
        let file = fs::File::options().write(true).open(writer.path(&handle))?;
        file.set_len(handle.bytes / 2)?;
    }
    let mut late = start(3)?;
    late.catch_up(server, &addresses)?;
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
