//! A server: a process that ends with the dashboard that has started it.

use crate::{board, replica::Replica};
use anyhow::{Context, Result};
use example_net::{
    clients::{self, bind},
    open_storage, peers, signals, Missing, Peers,
};
use omnipaxos::util::NodeId;
use std::{collections::BTreeMap, path::PathBuf};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

/// Inputs that wait for the replica; a task with more waits.
const INPUTS: usize = 8192;

/// What a server needs to know.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which server it is: 1 for the first port, and so on.
    #[arg(long)]
    pid: NodeId,
    /// The ports at which the servers receive messages of each other, in the order of their pids.
    #[arg(long, value_delimiter = ',', required = true)]
    peer_ports: Vec<u16>,
    /// How many of these servers are members. The others observe all members.
    #[arg(long)]
    members: u64,
    /// The port at which it receives the orders of the dashboard.
    #[arg(long)]
    control_port: u16,
    /// The folder of its log, made if it is not there.
    #[arg(long)]
    data: PathBuf,
}

impl Options {
    pub(crate) fn pid(&self) -> NodeId {
        self.pid
    }
}

/// Serves until the standard input ends, a signal comes, or something fails.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options { pid, peer_ports, members, control_port, data } = options;
    let addresses: BTreeMap<NodeId, String> =
        (1..).zip(&peer_ports).map(|(pid, port)| (pid, format!("127.0.0.1:{port}"))).collect();
    let own_address = addresses.get(&pid).context("no port for this server")?;
    let for_peers = bind(own_address).await?;
    let for_control = bind(&format!("127.0.0.1:{control_port}")).await?;

    let (inputs, receiver) = mpsc::channel(INPUTS);
    let peers = Peers::connect(pid, &addresses, 0, &inputs);
    let listening = peers.clone();
    let all = addresses.into_keys().collect();
    let (stop, stopped) = oneshot::channel();
    // A thread of its own: it waits for the disk, and the network continues meanwhile.
    let mut replica = spawn_blocking(move || {
        let replica = Replica::new(
            board::config(pid, members),
            all,
            open_storage(&data, Missing::IsMade)?,
            peers,
        )?;
        Handle::current().block_on(replica.run(receiver, stopped))
    });
    let ended = tokio::select! {
        ended = &mut replica => return ended.context("the replica panicked")?,
        ended = peers::listen(listening, for_peers, inputs.clone()) => ended,
        ended = clients::listen(for_control, inputs, |_| None) => ended,
        ended = signals::interrupted() => ended,
        () = signals::stdin_closed() => Ok(()),
    };
    drop(stop);
    replica.await.context("the replica panicked")??;
    ended
}
