//! The members change while clients put: servers join, leave and are replaced, as processes.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{
    joiner::{free_ports, Joiner},
    kv_store,
    links::Links,
    wait_for_end, Cluster, TIMEOUT,
};
use std::{
    collections::BTreeMap,
    process::{Output, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread::JoinHandle,
    time::Instant,
};

/// A client that was given the first three servers, and puts until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, String>>,
}

impl Load {
    fn start(cluster: &Cluster, name: &'static str) -> Self {
        let mut asker = common::Asker::start(cluster.client_ports.clone(), &["--timeout", "60"]);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut acknowledged = BTreeMap::new();
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (key, value) = (format!("{name}{}", number % 50), number.to_string());
                let answer = asker.ask(&format!("put {key} {value}"));
                assert!(answer.starts_with("ok, at index "), "{answer}");
                acknowledged.insert(key, value);
            }
            acknowledged
        });
        Self { stop, thread }
    }

    /// What was acknowledged.
    fn end(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn client(servers: &str, arguments: &[&str]) -> Output {
    let mut command = kv_store();
    command.args(["client", "--servers", servers]).args(arguments).output().unwrap()
}

#[track_caller]
fn ask(servers: &str, arguments: &[&str]) -> String {
    let output = client(servers, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn servers_join_leave_and_are_replaced_under_load() {
    let mut cluster = Cluster::start();
    let servers = cluster.addresses();
    let loads = [Load::start(&cluster, "a"), Load::start(&cluster, "b")];
    let sources =
        format!("1=127.0.0.1:{},2=127.0.0.1:{}", cluster.peer_ports[0], cluster.peer_ports[1]);
    let listed = ask(&servers, &["members"]);
    assert!(listed.starts_with("configuration 1: 1=127.0.0.1:"), "{listed}");

    let mut fourth = Joiner::start(&cluster, 4, &sources);
    let added = ask(&servers, &["members", "add", &fourth.place()]);
    assert!(added.contains(", after server 4 caught up: configuration 2: 1="), "{added}");
    assert!(added.contains(&format!("{} (clients: {})", fourth.place(), fourth.client_address)));
    let again = ask(&servers, &["members", "add", &fourth.place()]);
    assert!(again.starts_with("configuration 2: "), "nothing is to be done: {again}");

    // The leader is removed, and ends by itself.
    ask(&servers, &["transfer", "1"]);
    let removed = ask(&servers, &["members", "remove", "1"]);
    assert!(removed.contains(": configuration 3: 2="), "{removed}");
    assert_eq!(wait_for_end(&mut cluster.servers[0]), Some(0));
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    assert!(log.contains("this server was removed from the members"), "{log}");

    // A server is dead, its disk too.
    cluster.kill(1);
    let sources = format!("{},3=127.0.0.1:{}", fourth.place(), cluster.peer_ports[2]);
    let fifth = Joiner::start(&cluster, 5, &sources);
    let replaced = ask(&servers, &["members", "replace", "2", "with", &fifth.place()]);
    assert!(replaced.contains("after server 5 caught up: configuration 4: 3="), "{replaced}");

    // The last of the servers that the clients were given goes, and they continue.
    ask(&fourth.client_address, &["members", "remove", "3"]);
    assert_eq!(wait_for_end(&mut cluster.servers[2]), Some(0));
    fourth.restart();
    let last = format!("{},{}", fifth.client_address, fourth.client_address);
    ask(&last, &["put", "last", "1"]);
    let mut acknowledged = BTreeMap::new();
    for load in loads {
        acknowledged.extend(load.end());
    }
    assert!(acknowledged.len() > 2, "{acknowledged:?}");
    for server in [&fourth, &fifth] {
        let mut reader = common::Asker::start([server.client_port()], &[]);
        for (key, value) in &acknowledged {
            assert_eq!(reader.ask(&format!("get {key}")), *value, "{key} at {}", server.pid);
        }
    }
}

#[test]
fn a_server_that_lacks_the_last_change_learns_it_before_the_next() {
    let links = Links::default();
    let cluster = Cluster::start_found(|pid, port| links.proxy(pid, port));
    cluster.change(&["put", "a", "1"]);
    links.cut(3, [1, 2, 4]);
    let [first, second, third] =
        [0, 1, 2].map(|at| format!("127.0.0.1:{}", cluster.client_ports[at]));
    let sources = format!("1=127.0.0.1:{}", cluster.found_ports[0]);
    let fourth = Joiner::start(&cluster, 4, &sources);
    ask(&format!("{first},{second}"), &["members", "add", &fourth.place()]);
    // Server 3 cannot learn the change, and says nothing of server 4.
    let output = client(&third, &["--timeout", "3", "members", "remove", "4"]);
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !says.contains("no member"), "{says}");
    links.heal_all();
    // If the last attempt from before is taken now, this one is refused.
    client(&third, &["--timeout", "60", "members", "remove", "4"]);
    let says = ask(&third, &["members"]);
    assert!(says.starts_with("configuration 3: 1=") && !says.contains(" 4="), "{says}");
}

#[test]
fn a_change_is_given_up_if_a_server_does_not_come() {
    let cluster = Cluster::start();
    cluster.change(&["put", "a", "1"]);
    let nobody = format!("4=127.0.0.1:{}", free_ports(1)[0]);
    let output = cluster.client(&["members", "add", &nobody]);
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        says.contains(
            "given up by this server, which has changed nothing: server 4 did not catch up"
        ),
        "{says}"
    );
    assert!(cluster.ask(&["members"]).starts_with("configuration 1: "));
    for (arguments, says) in [
        (["members", "remove", "1", "2", "3"].as_slice(), "no member would be left"),
        (&["members", "replace", "9", "with", "4=h:1"], "server 9 is no member"),
        (&["members", "replace", "2", "4=h:1", "5=h:1"], "it is not `replace PID... with"),
        (&["members", "add", "2=h:1"], "server 2 is a member already"),
        (&["members", "add", "four"], "it is not PID=HOST:PORT"),
    ] {
        let output = cluster.client(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(says), "{arguments:?}: {error}");
    }
}

/// Server 4 connects to server 2 alone, so server 1 has to connect to it.
#[test]
fn an_address_at_which_nobody_was_is_forgotten() {
    let cluster = Cluster::start();
    let first = format!("127.0.0.1:{}", cluster.client_ports[0]);
    let nobody = format!("4=127.0.0.1:{}", free_ports(1)[0]);
    let output = client(&first, &["members", "add", &nobody]);
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(says.contains("server 4 did not catch up"), "{says}");
    let fourth = Joiner::start(&cluster, 4, &format!("2=127.0.0.1:{}", cluster.found_ports[1]));
    let added = ask(&first, &["members", "add", &fourth.place()]);
    assert!(added.contains("after server 4 caught up"), "{added}");
}

/// As a member it would be looked for at that address, and at no other.
#[test]
fn a_server_is_not_added_at_an_address_where_it_is_not() {
    let cluster = Cluster::start();
    let sources = format!("1=127.0.0.1:{}", cluster.found_ports[0]);
    let fourth = Joiner::start(&cluster, 4, &sources);
    cluster.status_says("observer 4");
    let first = format!("127.0.0.1:{}", cluster.client_ports[0]);
    let output = client(&first, &["members", "add", "4=127.0.0.1:1"]);
    let says = String::from_utf8(output.stderr).unwrap();
    let is_there = fourth.place().replace('=', " says that it is at ");
    assert!(!output.status.success() && says.contains(&is_there), "{says}");
    ask(&first, &["members", "add", &fourth.place()]);
}

#[test]
fn a_removed_server_stays_if_it_is_told_to() {
    let mut cluster = Cluster::start();
    cluster.kill(2);
    let mut command = kv_store();
    command.args(["server", "--stay", "--until-stdin-closes", "--config"]);
    command.arg(cluster.config_file(2)).stdin(Stdio::piped());
    cluster.servers[2] = command.spawn().unwrap();
    cluster.change(&["put", "a", "1"]);
    let removed = cluster.ask(&["members", "remove", "3"]);
    assert!(removed.contains("configuration 2: 1="), "{removed}");
    let third = format!("127.0.0.1:{}", cluster.client_ports[2]);
    let start = Instant::now();
    loop {
        let status = ask(&third, &["status"]);
        if status.contains("it was removed, and may be stopped") {
            break;
        }
        assert!(start.elapsed() < TIMEOUT, "{status}");
    }
    cluster.change(&["put", "a", "2"]);
    assert_eq!(ask(&third, &["get", "a"]), "2\n");
    cluster.assert_alive();
}
