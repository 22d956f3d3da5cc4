//! A server: its listeners and the task that owns the replica.

use crate::{config::Config, protocol::Response, replica::Replica, state::Command};
use anyhow::{Context, Result};
use example_net::{
    clients::{self, bind},
    open_storage, peers, Peers,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::future::Future;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use tracing::info;

/// Inputs that wait for the replica; whoever has more waits.
const INPUTS: usize = 8192;

/// Where a server keeps its log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StorageKind {
    /// In memory. A server that has stopped has forgotten what it promised: it must not be started
    /// again under its pid while the cluster lives.
    Memory,
    /// On disk, in the data folder.
    Persistent,
}

/// Serves until `end` comes true, this server was removed from the members, or something breaks, and closes the storage in either case.
pub(crate) async fn run(
    config: Config,
    storage: StorageKind,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let own = config.pid();
    let own_address = config.peers.get(&own).context("no address for this server")?;
    let for_peers = bind(own_address).await?;
    let client_listener = bind(&config.client_address).await?;
    info!("server {own} serves clients at {}", config.client_address);
    if let Some(address) = config.metrics_address {
        // The replica gives its numbers to the recorder of the process by itself.
        PrometheusBuilder::new()
            .with_http_listener(address)
            .install()
            .with_context(|| format!("cannot serve metrics at {address}"))?;
        info!("server {own} serves metrics at http://{address}/metrics");
    }

    let (inputs, receiver) = mpsc::channel(INPUTS);
    let most_strangers = config.omnipaxos.server_config.max_observers;
    let for_clients = Some(config.client_address.clone());
    let peers = Peers::connect_serving(own, for_clients, &config.peers, most_strangers, &inputs);
    let listening = peers.clone();
    let for_replica = inputs.clone();
    let (stop, stopped) = oneshot::channel();
    // A thread of its own: it waits for the disk, and the network goes on meanwhile.
    let mut replica = spawn_blocking(move || match storage {
        StorageKind::Memory => {
            let replica = Replica::new(&config, MemoryStorage::default(), peers, for_replica)?;
            Handle::current().block_on(replica.run(receiver, stopped))
        }
        StorageKind::Persistent => {
            let storage = open_storage::<Command>(&config.data, config.missing)?;
            let storage = storage.with_background_encoding();
            let replica = Replica::new(&config, storage, peers, for_replica)?;
            Handle::current().block_on(replica.run(receiver, stopped))
        }
    });
    let ended = tokio::select! {
        ended = &mut replica => return ended.context("the replica panicked")?,
        ended = peers::listen(listening, for_peers, inputs.clone()) => ended,
        ended = clients::listen(client_listener, inputs, Response::to_too_long) => ended,
        ended = end => ended,
    };
    drop(stop);
    replica.await.context("the replica panicked")??;
    info!("server {own} has closed its storage");
    ended
}
