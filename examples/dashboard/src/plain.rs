//! The same without a terminal: a line a second, and a sequence of faults.

use crate::{
    board::{Board, Presence},
    cluster::{Cluster, POLL},
    links::Link,
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
}

/// When what is done, in eighths of the time.
const STEPS: [(u32, Step); 6] = [
    (1, Step::CutLeaderFromFollower),
    (2, Step::Heal),
    (3, Step::KillLeader),
    (5, Step::Restart),
    (6, Step::IsolateLeader),
    (7, Step::Heal),
];

/// Runs the sequence. An error if the servers do not agree in the end.
pub(crate) async fn run(cluster: &mut Cluster, length: Duration) -> Result<End> {
    let start = Instant::now();
    let mut next_line = Duration::ZERO;
    let mut killed = None;
    let steps = STEPS.into_iter().map(|(eighths, step)| (length * eighths / 8, Some(step)));
    for (due, step) in steps.chain([(length, None)]) {
        while start.elapsed() < due {
            cluster.hear()?;
            if start.elapsed() >= next_line {
                say!("{}", line(cluster.board(), start.elapsed()))?;
                next_line += Duration::from_secs(1);
            }
            sleep(POLL).await;
        }
        if let Some(step) = step {
            let done = take(step, cluster, &mut killed).await?;
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
    say!(
        "all {} servers agree: decided {}, digest {:016x}",
        cluster.board().members().len(),
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
            let follower = cluster.board().members().keys().copied().find(|pid| *pid != leader);
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
            cluster.restart(pid)?;
            Ok(format!("restarted server {pid} from its disk"))
        }
        Step::IsolateLeader => {
            let leader = leader(cluster).await?;
            cluster.isolate(leader);
            Ok(format!("cut all links of server {leader}, the leader"))
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
    let states = board.members().iter().map(|(pid, member)| {
        let state = match (board.presence(*pid), &member.report) {
            (Presence::Killed, _) => "killed".to_owned(),
            (Presence::Silent, _) | (_, None) => "silent".to_owned(),
            (Presence::Reports, Some((report, _))) => {
                format!("{} {}", report.status.role, report.status.decided_idx)
            }
        };
        format!("{pid} {state}")
    });
    let states = states.collect::<Vec<_>>().join(", ");
    let cut = board.cut();
    let cut = cut.iter().map(Link::to_string).collect::<Vec<_>>().join(" ");
    let cut = if cut.is_empty() { String::new() } else { format!("; cut: {cut}") };
    format!("{:>4} s  leader {leader}, {rate} entries/s: {states}{cut}", at.as_secs())
}
