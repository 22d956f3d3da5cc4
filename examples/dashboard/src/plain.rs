//! The same without a terminal: a line a second, and a sequence of faults.

use crate::{
    board::{Board, Presence},
    cluster::{Cluster, POLL},
    links::Link,
    members::Part,
    End,
};
use anyhow::{bail, Context, Result};
use example_common::say;
use omnipaxos::util::NodeId;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long the cluster may be without a leader, and how long it may take to agree in the end: much
/// longer than it does, for machines that are busy with other things.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is done to the cluster.
#[derive(Copy, Clone, Debug)]
enum Step {
    CutLeaderFromFollower,
    Heal,
    KillLeader,
    Restart,
    IsolateLeader,
    AddServer,
    RemoveLeader,
}

/// When what is done, in tenths of the time.
const STEPS: [(u32, Step); 8] = [
    (1, Step::CutLeaderFromFollower),
    (2, Step::Heal),
    (3, Step::KillLeader),
    (4, Step::AddServer),
    (5, Step::Restart),
    (6, Step::IsolateLeader),
    (7, Step::Heal),
    (8, Step::RemoveLeader),
];

/// Runs the sequence. An error if the servers do not agree in the end.
pub(crate) async fn run(cluster: &mut Cluster, length: Duration) -> Result<End> {
    let start = Instant::now();
    let mut next_line = Duration::ZERO;
    let mut killed = None;
    let mut changes = 0;
    let steps = STEPS.into_iter().map(|(tenths, step)| (length * tenths / 10, Some(step)));
    for (due, step) in steps.chain([(length, None)]) {
        while start.elapsed() < due {
            cluster.hear().await?;
            if start.elapsed() >= next_line {
                say!("{}", line(cluster.board(), start.elapsed()))?;
                next_line += Duration::from_secs(1);
            }
            sleep(POLL).await;
        }
        if let Some(step) = step {
            let done = take(step, cluster, &mut killed).await?;
            changes += u32::from(matches!(step, Step::AddServer | Step::RemoveLeader));
            say!("{:>4} s  {done}", start.elapsed().as_secs())?;
        }
    }
    cluster.set_appends(0);
    cluster.wait_for(TIMEOUT, "all servers agree", Board::all_agree).await.map_err(|cause| {
        cause.context(format!(
            "the servers do not agree:\n{}",
            line(cluster.board(), start.elapsed())
        ))
    })?;
    let Some(report) =
        cluster.board().reports().next().filter(|report| report.status.decided_idx > 0)
    else {
        bail!("nothing was decided");
    };
    if report.status.configuration_id != 1 + changes {
        bail!(
            "the members have not changed {changes} times: this is configuration {}",
            report.status.configuration_id
        );
    }
    say!(
        "all {} servers agree in configuration {}: decided {}, digest {:016x}",
        cluster.board().servers().len(),
        report.status.configuration_id,
        report.status.decided_idx,
        report.digest
    )?;
    Ok(End::Done)
}

/// Does it, and prints what was done.
async fn take(step: Step, cluster: &mut Cluster, killed: &mut Option<NodeId>) -> Result<String> {
    match step {
        Step::CutLeaderFromFollower => {
            let leader = leader(cluster).await?;
            let follower = cluster.board().servers().keys().copied().find(|pid| *pid != leader);
            let link = Link::between(leader, follower.context("there is no follower")?);
            cluster.cut(link);
            Ok(format!("cut the link {link} of the leader"))
        }
        Step::Heal => {
            cluster.heal_all();
            Ok("healed all links".to_owned())
        }
        Step::KillLeader => {
            let leader = leader(cluster).await?;
            cluster.kill(leader).await?;
            *killed = Some(leader);
            Ok(format!("killed server {leader}, the leader"))
        }
        Step::Restart => {
            let pid = killed.take().context("no server was killed")?;
            cluster.restart(pid);
            Ok(format!("restarted server {pid} from its disk"))
        }
        Step::IsolateLeader => {
            let leader = leader(cluster).await?;
            cluster.isolate(leader);
            Ok(format!("cut all links of server {leader}, the leader"))
        }
        Step::AddServer => {
            cluster.add(None)?;
            Ok("started a new server, which joins".to_owned())
        }
        Step::RemoveLeader => {
            let is_so = |board: &Board| board.members().change().is_none();
            cluster.wait_for(TIMEOUT, "the new server is a member", is_so).await?;
            let leader = leader(cluster).await?;
            cluster.remove(leader);
            Ok(format!("removed server {leader}, the leader, from the members"))
        }
    }
}

/// Waits for a leader.
async fn leader(cluster: &mut Cluster) -> Result<NodeId> {
    cluster.wait_for(TIMEOUT, "a server leads", |board| board.leader().is_some()).await?;
    cluster.board().leader().context("no server leads")
}

fn line(board: &Board, at: Duration) -> String {
    let leader = board.leader().map_or("none".to_owned(), |pid| pid.to_string());
    let rate = board.rates().latest().unwrap_or(0);
    let states = board.servers().iter().map(|(pid, server)| {
        let part = board.members().part(*pid);
        let state = match (board.presence(*pid), &server.report, part) {
            (Presence::Killed, _, _) => "killed".to_owned(),
            (Presence::Silent, _, _) | (_, None, _) => "silent".to_owned(),
            (
                Presence::Reports,
                Some((report, _)),
                Part::Member | Part::Leaver | Part::Observer,
            ) => {
                format!("{} {}", report.status.role, report.status.decided_idx)
            }
            (Presence::Reports, Some((report, _)), Part::Joiner) => {
                format!("joins {}", report.status.decided_idx)
            }
            (Presence::Reports, Some((report, _)), Part::Removed | Part::Dropped) => {
                match report.status.may_stop {
                    Some(true) => "may stop".to_owned(),
                    Some(false) | None => format!("removed {}", report.status.decided_idx),
                }
            }
        };
        format!("{pid} {state}")
    });
    let states = states.collect::<Vec<_>>().join(", ");
    let cut = board.cut();
    let cut = cut.iter().map(Link::to_string).collect::<Vec<_>>().join(" ");
    let cut = if cut.is_empty() { String::new() } else { format!("; cut: {cut}") };
    let id = board.members().configuration_id();
    format!(
        "{:>4} s  leader {leader}, {rate} entries/s, configuration {id}: {states}{cut}",
        at.as_secs()
    )
}
