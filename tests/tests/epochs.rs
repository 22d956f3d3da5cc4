//! One log through reconfigurations: members come and go, and the log goes on.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{ClusterConfig, ServerConfig};
use omnipaxos_tests::lab::Lab;

fn continues(config: &mut ServerConfig) {
    config.continues = true;
}

fn configuration(configuration_id: u32, nodes: &[u64]) -> ClusterConfig {
    ClusterConfig { configuration_id, nodes: nodes.to_vec(), ..Default::default() }
}

/// Servers 1 to 3 with a leader, and two decided words.
fn three() -> (Lab, u64) {
    let mut lab = Lab::with(&[1, 2, 3], continues);
    lab.run(40);
    let leader = lab.server(1).get_current_leader().unwrap();
    lab.append(leader, "a");
    lab.append(leader % 3 + 1, "b");
    lab.run(20);
    lab.assert_decided_everywhere(&["a", "b"]);
    (lab, leader)
}

#[test]
fn the_log_goes_on_with_other_members() {
    let (mut lab, leader) = three();
    lab.observe(4, &[1, 2, 3]);
    lab.run(40);
    let removed = leader % 3 + 1;
    let stays: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|pid| *pid != removed).collect();
    lab.server(leader).reconfigure(configuration(2, &stays), None).unwrap();
    lab.append(removed, "c");
    lab.append(4, "d");
    lab.run(60);
    let log = lab.decided(leader);
    assert_eq!(log[..3], ["a", "b", "<stop>"]);
    assert_eq!(log.len(), 5, "{log:?}");
    let log: Vec<&str> = log.iter().map(String::as_str).collect();
    lab.assert_decided_everywhere(&log);
    for pid in &stays {
        assert_eq!(lab.server(*pid).status().configuration_id, 2, "at server {pid}");
    }
}

#[test]
fn a_restarted_server_knows_where_it_was() {
    let (mut lab, leader) = three();
    lab.server(leader).reconfigure(configuration(2, &[1, 2, 3]), None).unwrap();
    lab.run(40);
    lab.append(1, "c");
    lab.run(40);
    for pid in 1..=3 {
        lab.restart(pid);
        assert_eq!(lab.server(pid).status().configuration_id, 2);
    }
    lab.run(60);
    lab.append(2, "d");
    lab.run(40);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c", "d"]);
}

#[test]
fn the_leader_may_be_removed() {
    let (mut lab, leader) = three();
    let stays: Vec<u64> = (1..=3).filter(|pid| *pid != leader).collect();
    lab.server(leader).reconfigure(configuration(2, &stays), None).unwrap();
    lab.run(40);
    lab.append(leader, "c");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c"]);
}

#[test]
fn all_servers_may_be_replaced() {
    let (mut lab, leader) = three();
    for pid in 4..=6 {
        lab.observe(pid, &[1, 2, 3]);
    }
    lab.run(40);
    lab.server(leader).reconfigure(configuration(2, &[4, 5, 6]), None).unwrap();
    lab.run(60);
    for pid in 1..=3 {
        lab.crash(pid);
    }
    lab.append(5, "c");
    lab.run(60);
    lab.assert_decided_everywhere(&["a", "b", "<stop>", "c"]);
}

#[test]
fn a_server_that_was_away_catches_up_through_all_epochs() {
    let (mut lab, leader) = three();
    let away = leader % 3 + 1;
    lab.isolate(away);
    for id in 2..6 {
        let leader = lab.server(leader).get_current_leader().unwrap();
        lab.server(leader).reconfigure(configuration(id, &[1, 2, 3]), None).unwrap();
        lab.run(60);
        lab.append(leader, &format!("in {id}"));
        lab.run(40);
    }
    lab.heal_all();
    lab.run(200);
    let log = ["a", "b", "<stop>", "in 2", "<stop>", "in 3", "<stop>", "in 4", "<stop>", "in 5"];
    lab.assert_decided_everywhere(&log);
    assert_eq!(lab.server(away).status().configuration_id, 5);
}
