//! Three replicas in one process, and the dashboard of one of them.
//!
//! `cargo run --release -p omnipaxos_ui --example one_process`
//!
//! With the argument `panic` it panics after three seconds: the terminal is as before, and the
//! message can be read.

use omnipaxos::{
    macros::Entry, messages::Message, ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_ui::OmniPaxosUI;
use std::{
    error::Error,
    thread::sleep,
    time::{Duration, Instant},
};

#[derive(Clone, Debug, Entry)]
struct Number {
    number: u64,
}

type Replica = OmniPaxos<Number, MemoryStorage<Number>>;

const TICK: Duration = Duration::from_millis(10);

fn config(pid: u64) -> OmniPaxosConfig {
    OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: vec![1, 2, 3],
            ..Default::default()
        },
        server_config: ServerConfig {
            pid,
            custom_logger: Some(OmniPaxosUI::logger()),
            ..Default::default()
        },
    }
}

/// Passes messages on until there are none.
fn deliver(replicas: &mut [Replica], messages: &mut Vec<Message<Number>>) {
    loop {
        for replica in replicas.iter_mut() {
            replica.take_outgoing_messages(messages);
        }
        if messages.is_empty() {
            return;
        }
        for message in messages.drain(..) {
            let to = (1..).zip(replicas.iter_mut()).find(|(pid, _)| *pid == message.get_receiver());
            if let Some((_, replica)) = to {
                replica.handle_incoming(message);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let panics = std::env::args().nth(1).is_some_and(|argument| argument == "panic");
    let mut replicas = (1..=3)
        .map(|pid| config(pid).build(MemoryStorage::default()))
        .collect::<Result<Vec<Replica>, _>>()?;
    let mut messages = Vec::new();
    let mut ui = OmniPaxosUI::with(config(3).into());
    ui.try_start()?;
    let started = Instant::now();
    for number in 0.. {
        for replica in &mut replicas {
            replica.tick();
        }
        if let Some(shown) = replicas.last_mut() {
            // What has no room is left out.
            let _ = shown.append(Number { number });
            ui.tick(shown.get_ui_states());
        }
        deliver(&mut replicas, &mut messages);
        assert!(!panics || started.elapsed() < Duration::from_secs(3), "as you wished");
        if !ui.is_started() {
            break;
        }
        sleep(TICK);
    }
    println!("the dashboard is stopped, and the process continues to its end");
    Ok(())
}
