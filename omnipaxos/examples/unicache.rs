//! A value that repeats travels as a short code, so the second message is shorter than the first.

mod common;

use bincode::{config::standard, serde::encode_to_vec};
use omnipaxos::macros::UniCacheEntry;
use serde::{Deserialize, Serialize};
use std::error::Error;

#[derive(Clone, Debug, Serialize, Deserialize, UniCacheEntry)]
struct Visit {
    at: u64,
    #[unicache(encoding(u16), size(2000), cache(lru))]
    client: String,
}

/// Appends a visit at the leader, and delivers its messages. Returns how many bytes they take.
fn send(
    servers: &mut [common::Server<Visit>],
    leader: usize,
    visit: Visit,
) -> Result<usize, Box<dyn Error>> {
    servers[leader].append(visit)?;
    let mut bytes = 0;
    for message in servers[leader].outgoing_messages() {
        bytes += encode_to_vec(&message, standard())?.len();
        let to = message.get_receiver();
        let receiver = servers.iter_mut().find(|server| server.get_pid() == to);
        receiver.ok_or("no such server")?.handle_incoming(message);
    }
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut servers = common::cluster(3);
    common::run(&mut servers, 30);
    let leader = servers[0].get_current_leader();
    let leader = servers.iter().position(|server| Some(server.get_pid()) == leader);
    let leader = leader.ok_or("there is no leader")?;

    let client = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101".to_string();
    let first = send(&mut servers, leader, Visit { at: 1, client: client.clone() })?;
    let second = send(&mut servers, leader, Visit { at: 2, client: client.clone() })?;
    println!("messages for the first visit take {first} bytes, for the second {second}");
    assert!(second < first);

    common::run(&mut servers, 10);
    for server in &servers {
        let mut decided = Vec::new();
        server.for_each_decided(0, |visit| decided.push((visit.at, visit.client.clone())));
        assert_eq!(decided, [(1, client.clone()), (2, client.clone())]);
    }
    Ok(())
}
