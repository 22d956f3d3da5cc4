//! What happens in the middle of a load: crashes, snapshots, a change of members.

use crate::{
    client::Operation,
    cluster::{Cluster, PATIENCE},
    load::{fill, Load, Running},
    plan::{System, FOUNDERS},
    protocol::Standing,
    table::Figures,
    Failure, SNAPSHOT_EVERY,
};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The server that takes the place of another.
const NEW_SERVER: u64 = FOUNDERS + 1;

/// What happens, beside puts of 16 clients.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    LeaderRestarts,
    FollowerReturns,
    ManySnapshots,
    MemberIsReplaced,
}

impl Scenario {
    pub(crate) const ALL: [Self; 4] =
        [Self::ManySnapshots, Self::FollowerReturns, Self::LeaderRestarts, Self::MemberIsReplaced];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeaderRestarts => "the leader is killed, and starts again",
            Self::FollowerReturns => "a follower was away, and catches up",
            Self::ManySnapshots => "a snapshot every 1,000 commands",
            Self::MemberIsReplaced => "a follower is replaced by a new server",
        }
    }

    /// Returns whether it is measured. The client here changes no members of the key-value store: its own
    /// client does that.
    pub(crate) fn is_measured(self, system: System) -> bool {
        self != Self::MemberIsReplaced || system != System::KvStore
    }

    fn snapshot_every(self) -> u64 {
        match self {
            Self::ManySnapshots => 1000,
            Self::LeaderRestarts | Self::FollowerReturns | Self::MemberIsReplaced => SNAPSHOT_EVERY,
        }
    }

    fn servers(self) -> u64 {
        match self {
            Self::MemberIsReplaced => NEW_SERVER,
            Self::LeaderRestarts | Self::FollowerReturns | Self::ManySnapshots => FOUNDERS,
        }
    }
}

/// Runs a scenario. What happens begins after a quarter of `duration`, and ends within the
/// measurement, which lasts at least `duration`.
pub(crate) async fn run(
    scenario: Scenario,
    system: System,
    keys: u64,
    duration: Duration,
) -> Result<Figures, Failure> {
    let mut cluster = Cluster::start(system, scenario.servers(), scenario.snapshot_every()).await?;
    fill(&cluster, keys).await?;
    let load = Load { operation: Operation::Put, clients: 16, keys };
    let mut running = Running::start(&cluster, cluster.leader().await?, load)?;
    sleep(duration / 5).await;
    running.restart()?;
    let (begun, cpu) = (Instant::now(), cluster.cpu_time()?);
    sleep(duration / 4).await;
    // It may be another one than at the start.
    let leader = cluster.leader().await?;
    let follower = if leader == FOUNDERS { 1 } else { FOUNDERS };
    let took = match scenario {
        Scenario::ManySnapshots => None,
        Scenario::LeaderRestarts => Some(restart(&mut cluster, leader, duration / 4).await?),
        Scenario::FollowerReturns => Some(restart(&mut cluster, follower, duration / 4).await?),
        Scenario::MemberIsReplaced => Some(replace(&mut cluster, leader, follower).await?),
    };
    sleep(duration.saturating_sub(begun.elapsed())).await;
    let cpu = cluster.cpu_time()?.saturating_sub(cpu);
    let measured = running.end().await?;
    Ok(Figures::of(&measured, cpu, cluster.resident_bytes()?).took(took))
}

/// Kills a server, and starts it after a while. Returns how long it takes to catch up.
async fn restart(cluster: &mut Cluster, server: u64, away: Duration) -> Result<Duration, Failure> {
    cluster.kill(server)?;
    sleep(away).await;
    let other = if server == 1 { 2 } else { 1 };
    let decided_idx = cluster.status(other).await?.decided_idx;
    let begun = Instant::now();
    cluster.start_server(server)?;
    until(cluster, server, |restarted| restarted.decided_idx >= decided_idx).await?;
    Ok(begun.elapsed())
}

/// Replaces a server. Returns how long it takes until the new one has the log that the leader had, and
/// the old one may stop.
async fn replace(cluster: &mut Cluster, leader: u64, old: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let decided_idx = cluster.status(leader).await?.decided_idx;
    let mut client = cluster.client(leader).await?;
    timeout(PATIENCE, client.add_member(cluster.peer_port(NEW_SERVER)?)).await??;
    cluster.start_server(NEW_SERVER)?;
    if cluster.system == System::Etcd {
        // It removes a member at once. The others wait until the new one has the log, or most of it.
        until(cluster, NEW_SERVER, |new| new.decided_idx >= decided_idx).await?;
    } else {
        cluster.status(NEW_SERVER).await?;
    }
    let members = (1..=NEW_SERVER).filter(|pid| *pid != old).collect();
    timeout(PATIENCE, client.change_members(members)).await??;
    if cluster.system == System::Ours {
        // The others may stop as soon as the call has returned.
        until(cluster, old, |old| old.may_stop).await?;
    }
    until(cluster, NEW_SERVER, |new| new.decided_idx >= decided_idx).await?;
    let took = begun.elapsed();
    cluster.kill(old)?;
    Ok(took)
}

/// Waits until a server reports what is expected.
async fn until(
    cluster: &Cluster,
    server: u64,
    is_expected: impl Fn(&Standing) -> bool,
) -> Result<(), Failure> {
    let reported = async {
        while !is_expected(&cluster.status(server).await?) {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    timeout(PATIENCE, reported).await?
}
