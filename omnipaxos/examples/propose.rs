//! A follower proposes an entry, and an event reports how the proposal ended.

mod common;

use omnipaxos::{events::Event, macros::Entry, proposals::Outcome};

#[derive(Clone, Debug, Entry)]
struct Payment {
    to: &'static str,
    cents: u64,
}

fn main() {
    let mut servers = common::cluster(3);
    common::run(&mut servers, 30);
    let leader = servers[0].get_current_leader();
    let follower = servers.iter().position(|server| Some(server.get_pid()) != leader);
    let follower = follower.expect("two of three servers follow");

    let payment = Payment { to: "Ada", cents: 500 };
    println!("server {} proposes to pay {} cents to {}", follower + 1, payment.cents, payment.to);
    let id = servers[follower].propose(payment).expect("there is room for proposals");
    common::run(&mut servers, 10);

    for event in servers[follower].take_events() {
        match event {
            Event::ProposalEnded { id: ended, outcome: Outcome::Decided(idx) } if ended == id => {
                println!("it is decided at index {idx}");
                return;
            }
            other => println!("meanwhile: {other:?}"),
        }
    }
    panic!("the proposal has not ended");
}
