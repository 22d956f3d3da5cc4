//! A follower serves a read that sees all that was decided anywhere before it was requested.

mod common;

use omnipaxos::{macros::Entry, reads::ReadState};

#[derive(Clone, Debug, Entry)]
struct Deposit(u64);

fn main() {
    let mut servers = common::cluster(3);
    common::run(&mut servers, 30);
    for cents in [100, 20, 3] {
        servers[0].append(Deposit(cents)).expect("no reconfiguration is pending");
    }
    common::run(&mut servers, 10);

    let read = servers[1].request_read().expect("a leader is known");
    while servers[1].read_state(read) == ReadState::Waiting {
        common::run(&mut servers, 1);
    }
    let ReadState::Ready(idx) = servers[1].read_state(read) else {
        panic!("the read is refused: request it again");
    };
    let mut balance = 0;
    let applied = servers[1].for_each_decided(0, |Deposit(cents)| balance += cents);
    assert!(applied >= Some(idx));
    println!("the balance after {idx} entries is {balance}");
    assert_eq!(balance, 123);
}
