//! The connection of the dashboard to a server.

use crate::{
    links::Orders,
    protocol::{Order, Report},
};
use anyhow::{bail, Context, Result};
use example_common::frame::{self, Kind};
use omnipaxos::util::NodeId;
use std::time::Duration;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
    time::{interval, sleep, timeout, MissedTickBehavior},
};

/// How often a server is given an order.
const PERIOD: Duration = Duration::from_millis(100);

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Gives a server its orders, and passes its reports on, until nobody takes them any more.
pub(crate) async fn run(
    pid: NodeId,
    port: u16,
    orders: Orders,
    reports: mpsc::Sender<(NodeId, Report)>,
) {
    while !reports.is_closed() {
        // A server that is killed is not there; when it is back, it is found again.
        drop(converse(pid, port, &orders, &reports).await);
        sleep(PERIOD).await;
    }
}

async fn converse(
    pid: NodeId,
    port: u16,
    orders: &Orders,
    reports: &mpsc::Sender<(NodeId, Report)>,
) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let (mut frames, mut body) = (Vec::new(), Vec::new());
    let mut periods = interval(PERIOD);
    periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        periods.tick().await;
        frames.clear();
        let order: Order = orders.next_for(pid);
        frame::encode(Kind::Request, &order, &mut frames)?;
        let answer = async {
            writer.write_all(&frames).await?;
            frame::read(&mut reader, Kind::Response, &mut body).await
        };
        let Some(report) = timeout(TIMEOUT, answer).await.context("no answer")?? else {
            bail!("the server has closed the connection");
        };
        reports.send((pid, report)).await.context("nobody takes the reports")?;
    }
}
