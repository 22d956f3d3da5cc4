//! The leader transfers leadership, as before it is stopped for maintenance.

mod common;

use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
struct Number(u64);

fn main() {
    let mut servers = common::cluster::<Number>(3);
    common::run(&mut servers, 30);
    let leader = servers[0].get_current_leader().expect("a leader was elected");
    let next = leader % 3 + 1;
    let at = usize::try_from(leader - 1).expect("there are three");

    servers[at].append(Number(1)).expect("no reconfiguration is pending");
    servers[at].transfer_leadership(next, 50).expect("it leads, and the other is a member");
    println!("server {leader} transfers leadership to server {next}");
    let mut ticks = 0;
    while servers[at].get_current_leader() != Some(next) {
        common::run(&mut servers, 1);
        ticks += 1;
        assert!(ticks < 50, "the transfer was cancelled");
    }
    println!("server {next} leads {ticks} ticks later");
    servers[at].append(Number(2)).expect("it is forwarded");
    common::run(&mut servers, 10);
    assert!(servers.iter().all(|server| server.get_decided_idx() == 2));
}
