//! Three servers in threads send messages through channels, and sleep until they are needed.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "not the core")]

use omnipaxos::{
    macros::Entry, messages::Message, util::NodeId, ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    collections::BTreeMap,
    sync::mpsc::{sync_channel, Receiver, SyncSender},
    thread,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(2);

#[derive(Clone, Debug, Entry)]
struct Line(String);

type Outboxes = BTreeMap<NodeId, SyncSender<Message<Line>>>;

fn main() {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..3).map(|_| sync_channel(1024)).unzip();
    let outboxes: Outboxes = (1..).zip(senders).collect();
    let start = |(pid, inbox)| {
        let outboxes = outboxes.clone();
        thread::spawn(move || serve(pid, &inbox, &outboxes))
    };
    let servers: Vec<_> = (1..).zip(inboxes).map(start).collect();
    servers.into_iter().for_each(|server| server.join().expect("no server panics"));
}

/// Runs a server until three lines are decided, and then while others may need it.
fn serve(pid: NodeId, inbox: &Receiver<Message<Line>>, outboxes: &Outboxes) {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let config = ServerConfig { pid, ..Default::default() };
    let built = cluster.build_for_server(config, MemoryStorage::default());
    let mut replica: OmniPaxos<Line, _> = built.expect("the configuration is legal");
    replica.append(Line(format!("hello from {pid}"))).expect("no reconfiguration is pending");
    let (mut last_tick, mut end) = (Instant::now(), None);
    while end.is_none_or(|end| Instant::now() < end) {
        for message in replica.outgoing_messages() {
            // What a server that is busy or has ended does not take is lost, as in a network.
            outboxes.get(&message.get_receiver()).map(|outbox| outbox.try_send(message));
        }
        let timeout = TICK * replica.next_timeout().map_or(1, |ticks| ticks as u32);
        if let Ok(message) = inbox.recv_timeout(timeout.saturating_sub(last_tick.elapsed())) {
            replica.handle_incoming(message);
        }
        let ticks = (last_tick.elapsed().as_nanos() / TICK.as_nanos()) as u32;
        last_tick += TICK * ticks;
        replica.tick_by(ticks.into());
        if replica.get_decided_idx() == 3 {
            end.get_or_insert(Instant::now() + Duration::from_millis(500));
        }
    }
    replica.for_each_decided(0, |Line(line)| println!("server {pid} has decided {line:?}"));
}
