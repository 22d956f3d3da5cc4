//! A server: the replicated store, and its clients.

use crate::{
    clients, config::Config, members::Members, metrics, places::Places, service::Service,
    state::Store, watchers::Watchers,
};
use anyhow::{Context, Result};
use example_common::{bind, open_storage};
use omnipaxos::{storage::Storage, ServerConfig};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpTransport},
    IdentifiedCommand, Membership, Replicated,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// The largest frame between servers, and as much may wait for each. A change fits four times.
const FRAME_BYTES: usize = 64 * 1024 * 1024;

/// The time for which a removed server that is not needed continues, so that its clients learn where the
/// members are.
const FAREWELL: Duration = Duration::from_secs(2);

/// The same where this server does not know yet where clients find the members.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);

/// Where a server keeps its log.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StorageKind {
    /// In memory. A server that has stopped has forgotten what it promised: it must not be started
    /// again under its pid while the cluster lives.
    Memory,
    /// On disk, in the data folder.
    Persistent,
}

/// Serves until `end` comes true, this server was removed from the members, or something fails. Closes the
/// storage in each case.
pub(crate) async fn run(
    config: Config,
    storage: StorageKind,
    end: impl Future<Output = Result<()>>,
) -> Result<()> {
    let own = config.pid();
    let own_address = config.peers.get(&own).context("no address for this server")?;
    let for_peers = bind(own_address).await?;
    let for_clients = bind(&config.client_address).await?;
    info!("server {own} serves clients at {}", config.client_address);
    if let Some(address) = config.metrics_address {
        // The replica gives its numbers to the recorder of the process by itself.
        let served = metrics::serve(address).await;
        served.with_context(|| format!("cannot serve metrics at {address}"))?;
        info!("server {own} serves metrics at http://{address}/metrics");
    }
    match storage {
        StorageKind::Memory => {
            serve(config, MemoryStorage::default(), for_peers, for_clients, end).await
        }
        StorageKind::Persistent => {
            let (folder, missing) = (config.data.clone(), config.missing);
            let opened = spawn_blocking(move || open_storage(&folder, missing)).await;
            let storage = opened.context("the storage panicked")??.with_background_encoding();
            serve(config, storage, for_peers, for_clients, end).await
        }
    }
}

async fn serve<B>(
    config: Config,
    storage: B,
    for_peers: TcpListener,
    for_clients: TcpListener,
    end: impl Future<Output = Result<()>>,
) -> Result<()>
where
    B: Storage<IdentifiedCommand<Store>> + Send + 'static,
{
    let Config { omnipaxos, client_address, peers, snapshot_every, stays, .. } = config;
    let ServerConfig { pid: own, observes, max_observers, .. } = omnipaxos.server_config.clone();
    let book = AddressBook::default();
    book.admit_guests(max_observers);
    let places = Places::new(own, client_address.clone(), peers, observes, book.clone());
    let (places, watchers) = (Arc::new(places), Arc::new(Watchers::default()));
    let transport = TcpTransport::new(book)
        .listener(for_peers)
        .allow_remote()
        .max_frame_bytes(FRAME_BYTES)
        .max_queued_bytes(FRAME_BYTES)
        .announce(client_address);
    let store = Store::new(watchers.clone(), places.clone());
    let node = Replicated::builder(omnipaxos, storage, store)
        .transport(transport)
        .snapshot_every(snapshot_every)
        .start()
        .await?;
    let membership = node.log().membership();
    let (publisher, members) = watch::channel(Members::default());
    let following = follow_members(membership.clone(), places.clone(), publisher);
    let removed = wait_for_removal(membership, members.clone());
    let service = Arc::new(Service {
        store: node.handle(),
        places,
        watchers,
        members,
        one_status: Arc::default(),
    });
    let ended = tokio::select! {
        cause = node.log().ended_with() => return Err(cause.into()),
        never = clients::listen(for_clients, service) => match never {},
        () = following => Ok(()),
        () = removed, if !stays => {
            warn!("this server was removed from the members, and is not needed: it ends");
            Ok(())
        }
        ended = end => ended,
    };
    node.shutdown().await?;
    info!("server {own} has closed its storage");
    ended
}

/// Publishes the members, and where they are, whenever something of that changes. Returns when the node has
/// ended.
async fn follow_members(
    mut membership: watch::Receiver<Membership>,
    places: Arc<Places>,
    publisher: watch::Sender<Members>,
) {
    let (mut by_servers, mut announced) = (places.by_servers(), places.announced());
    loop {
        by_servers.mark_unchanged();
        announced.mark_unchanged();
        let configuration = membership.borrow_and_update().configuration.clone();
        let members = places.of(&configuration);
        publisher.send_if_modified(|known| {
            let is_new = *known != members;
            *known = members;
            is_new
        });
        tokio::select! {
            changed = membership.changed() => if changed.is_err() {
                return;
            },
            changed = by_servers.changed() => if changed.is_err() {
                return;
            },
            changed = announced.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Returns when this server was removed, is not needed, and its clients had the time to learn where the
/// members are.
async fn wait_for_removal(
    mut membership: watch::Receiver<Membership>,
    mut members: watch::Receiver<Members>,
) {
    loop {
        let may_stop = |membership: &Membership| membership.may_stop == Some(true);
        if membership.wait_for(may_stop).await.is_err() {
            // The node has ended, and so does the server.
            return std::future::pending().await;
        }
        let farewell = async {
            sleep(FAREWELL).await;
            let found = members.wait_for(Members::are_found_by_clients);
            // If no server reports that, this server ends all the same.
            drop(timeout(LONGEST_FAREWELL - FAREWELL, found).await);
        };
        tokio::select! {
            () = farewell => return,
            // It is a member again.
            _ = membership.wait_for(|membership| !may_stop(membership)) => {}
        }
    }
}
