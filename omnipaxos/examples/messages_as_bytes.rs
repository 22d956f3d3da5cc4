//! Messages travel between servers as bytes: each is serialised, and read again by its receiver.

mod common;

use bincode::{config::standard, serde as codec};
use omnipaxos::{macros::Entry, messages::Message};
use serde::{Deserialize, Serialize};
use std::error::Error;

#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
struct Set {
    key: String,
    value: i64,
}

fn to_bytes(message: &Message<Set>) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(codec::encode_to_vec(message, standard())?)
}

fn from_bytes(bytes: &[u8]) -> Result<Message<Set>, Box<dyn Error>> {
    let (message, len) = codec::decode_from_slice(bytes, standard())?;
    if len < bytes.len() {
        return Err("there are bytes after the message".into());
    }
    Ok(message)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut servers = common::cluster(3);
    common::run(&mut servers, 30);
    servers[0].append(Set { key: "answer".to_string(), value: 42 })?;

    let mut sent = 0;
    while servers.iter().any(|server| server.get_decided_idx() < 1) {
        let mut network: Vec<Vec<u8>> = Vec::new();
        for server in &mut servers {
            server.tick();
            for message in server.outgoing_messages() {
                network.push(to_bytes(&message)?);
            }
        }
        for bytes in network {
            sent += bytes.len();
            let message = from_bytes(&bytes)?;
            let to = message.get_receiver();
            let receiver = servers.iter_mut().find(|server| server.get_pid() == to);
            receiver.ok_or("no such server")?.handle_incoming(message);
        }
    }
    println!("all servers have decided the entry after {sent} bytes of messages");
    Ok(())
}
