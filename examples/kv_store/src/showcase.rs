//! What a cluster can do besides to survive: reads at any server that see all that was written,
//! transferring leadership, and requests that are done once though their server is killed.

use crate::{
    client::Client,
    cluster::Cluster,
    protocol::{Answer, Ask},
};
use anyhow::{bail, Context, Result};
use example_common::say;
use std::{collections::BTreeMap, time::Duration};

const LEADER: Duration = Duration::from_secs(20);

/// The client whose request outlives its server.
const CLIENT: u64 = 1;

/// Shows it all. What is put is added to `records`.
pub(crate) async fn run(
    cluster: &mut Cluster,
    records: &mut BTreeMap<String, String>,
) -> Result<()> {
    read_at_each_server(cluster, records).await?;
    transfer_leadership(cluster).await?;
    kill_with_a_put_under_way(cluster, records).await
}

/// Puts at one server and reads at the next, so that each reads what another took.
async fn read_at_each_server(
    cluster: &mut Cluster,
    records: &mut BTreeMap<String, String>,
) -> Result<()> {
    let leader = cluster.wait_for_leader(LEADER).await?;
    let addresses = cluster.addresses();
    let takers = addresses.keys().copied();
    let readers = addresses.keys().copied().cycle().skip(1);
    for (taker, reader) in takers.zip(readers) {
        let (key, value) = ("colour".to_owned(), format!("of server {taker}"));
        let idx = put(&mut client_of(cluster, taker)?, &key, &value).await?;
        let answer = client_of(cluster, reader)?.ask(Ask::Get { key: key.clone() }).await?;
        if answer != Answer::Value(Some(value.as_str().into())) {
            bail!("server {reader} reads {answer:?} after `{key}` was put as `{value}`");
        }
        let part = if reader == leader { "the leader" } else { "a follower" };
        say!("put at server {taker}, at index {idx}: seen at once at server {reader}, {part}")?;
        records.insert(key, value);
    }
    Ok(())
}

/// Asks the leader to let another server lead.
async fn transfer_leadership(cluster: &mut Cluster) -> Result<()> {
    let leader = cluster.wait_for_leader(LEADER).await?;
    let to = *cluster.addresses().keys().find(|pid| **pid != leader).context("one server")?;
    match client_of(cluster, leader)?.ask(Ask::TransferLeadership { to }).await? {
        Answer::Leads { pid } if pid == to => {
            say!("server {leader} has transferred leadership to server {to}")?;
            Ok(())
        }
        other => bail!("server {leader} should transfer leadership to {to}, and answers {other:?}"),
    }
}

/// Kills the leader between a request and its answer. The client asks the others, and then all
/// answer with the same index: it is done once.
async fn kill_with_a_put_under_way(
    cluster: &mut Cluster,
    records: &mut BTreeMap<String, String>,
) -> Result<()> {
    let leader = cluster.wait_for_leader(LEADER).await?;
    let addresses = cluster.addresses();
    let mut servers = vec![addresses.get(&leader).context("no address")?.clone()];
    servers.extend(addresses.iter().filter(|(pid, _)| **pid != leader).map(|(_, a)| a.clone()));
    let mut client = Client::named(CLIENT, 0, servers);
    client.connect().await?;
    let (key, value) = ("shape".to_owned(), "round".to_owned());
    // The request is sent before the signal is, and the answer has not had the time to come.
    let put_and_ask_again = put(&mut client, &key, &value);
    let leaders = [leader];
    let (idx, killed) = tokio::join!(put_and_ask_again, cluster.kill(&leaders));
    let idx = idx?;
    killed?;
    let how = if client.repetitions() > 0 { "asked again elsewhere, it was" } else { "it was" };
    say!("killed server {leader}, the leader, with a put under way: {how} done at index {idx}")?;
    cluster.restart(leader)?;
    cluster.wait_for_leader(LEADER).await?;
    for (pid, address) in addresses {
        let again = put(&mut Client::named(CLIENT, 0, vec![address]), &key, &value).await?;
        if again != idx {
            bail!("server {pid} says that the put was done at index {again}, not at {idx}");
        }
    }
    say!("all servers say so when they are asked once more: it was done once")?;
    records.insert(key, value);
    Ok(())
}

async fn put(client: &mut Client, key: &str, value: &str) -> Result<u64> {
    let ask = Ask::Put { key: key.to_owned(), value: value.to_owned() };
    match client.ask(ask).await? {
        Answer::Done { idx } => Ok(idx),
        other => bail!("the put of `{key}` was answered with {other:?}"),
    }
}

fn client_of(cluster: &Cluster, pid: u64) -> Result<Client> {
    let address = cluster.addresses().remove(&pid).context("there is no such server")?;
    Ok(Client::new(vec![address]))
}
