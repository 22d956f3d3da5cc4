//! Observers as processes: servers that no configuration file of the others names.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, wait_for_end, Cluster, TIMEOUT};
use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A server that observes others.
struct Observer {
    process: Child,
    config: PathBuf,
    client_port: u16,
    peer_port: u16,
}

impl Observer {
    /// Starts server `pid`, which asks the servers of `sources`: pids and ports.
    fn start(cluster: &Cluster, pid: u64, sources: &[(u64, u16)]) -> Self {
        let listeners = [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client_port, peer_port] = listeners.map(|l| l.local_addr().unwrap().port());
        let observes: Vec<u64> = sources.iter().map(|(pid, _)| *pid).collect();
        let members = (1..).zip(&cluster.peer_ports).map(|(pid, port)| (pid, *port));
        let mut peers: Vec<(u64, u16)> = members.chain([(pid, peer_port)]).collect();
        peers.extend(sources.iter().filter(|(pid, _)| *pid > 3));
        let peers: String =
            peers.iter().map(|(pid, port)| format!("{pid} = \"127.0.0.1:{port}\"\n")).collect();
        let folder = cluster.directory.path();
        let config = folder.join(format!("observer{pid}.toml"));
        let text = format!(
            "[cluster_config]\nconfiguration_id = 1\nnodes = [1, 2, 3]\n\n\
             [server_config]\npid = {pid}\nobserves = {observes:?}\nmax_observers = 4\ncontinues = true\n\n\
             [kv_store]\nclient_address = \"127.0.0.1:{client_port}\"\nsnapshot_every = 10\n\
             data = '{}'\n\n[kv_store.peers]\n{peers}",
            folder.join(format!("observer{pid}")).display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Self::spawn(&config);
        Self { process, config, client_port, peer_port }
    }

    fn spawn(config: &PathBuf) -> Child {
        kv_store()
            .args(["server", "--observe", "--until-stdin-closes", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::spawn(&self.config);
    }

    fn client(&self, arguments: &[&str]) -> Output {
        let server = format!("127.0.0.1:{}", self.client_port);
        kv_store().args(["client", "--servers", &server]).args(arguments).output().unwrap()
    }

    /// What a client of this server alone prints.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until a text is in what a client prints. The server may not listen yet.
    fn says(&self, arguments: &[&str], text: &str) {
        let start = Instant::now();
        loop {
            let answer = String::from_utf8(self.client(arguments).stdout).unwrap();
            if answer.contains(text) {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "`{text}` is not in:\n{answer}");
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn observers_learn_read_and_put() {
    let mut cluster = Cluster::start();
    cluster.change(&["put", "colour", "green"]);
    let sources = [(1, cluster.peer_ports[0]), (2, cluster.peer_ports[1])];
    let first = Observer::start(&cluster, 4, &sources);
    assert_eq!(first.ask(&["get", "colour"]), "green\n", "a linearizable read");
    let mut second = Observer::start(&cluster, 5, &[(4, first.peer_port)]);
    assert_eq!(second.ask(&["get", "colour"]), "green\n", "through another observer");
    assert!(second.ask(&["put", "shape", "round"]).starts_with("ok, at index "));
    assert_eq!(cluster.ask(&["get", "shape"]), "round\n");
    first.says(&["status"], "Observing in configuration 1");
    first.says(&["status"], "observer 5 has 2 entries, lacks 0");
    cluster.status_says("observer 4 has 2 entries, lacks 0");

    // It misses some entries, and the others make snapshots meanwhile.
    for number in 0..25 {
        cluster.change(&["put", "number", &number.to_string()]);
    }
    second.restart();
    assert_eq!(second.ask(&["get", "number"]), "24\n");
    cluster.kill(0);
    assert_eq!(first.ask(&["get", "number"]), "24\n", "another server leads, if 1 did");
    cluster.kill(1);
    cluster.kill(2);
    second.says(&["get", "--stale", "number"], "24");
}

#[test]
fn no_place_for_an_observer() {
    let mut cluster = Cluster::start();
    for index in 0..3 {
        cluster.kill(index);
        let file = cluster.config_file(index);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("max_observers = 8\n"), "{text}");
        std::fs::write(&file, text.replace("max_observers = 8\n", "max_observers = 1\n")).unwrap();
        cluster.restart(index);
    }
    cluster.change(&["put", "colour", "green"]);
    let first = Observer::start(&cluster, 5, &[(1, cluster.peer_ports[0])]);
    first.says(&["get", "colour"], "green");
    cluster.status_says("observer 5");
    let observer = Observer::start(&cluster, 4, &[(1, cluster.peer_ports[0])]);
    // It asks again and again.
    for _ in 0..10 {
        observer.says(&["status"], "server 1 does not answer");
        assert!(!observer.ask(&["status"]).contains("decided 1"));
        assert!(!cluster.ask(&["status"]).contains("observer 4"));
        sleep(Duration::from_millis(100));
    }
    drop(observer);

    let member = cluster.config_file(0);
    let mut refused = kv_store()
        .args(["server", "--observe", "--config"])
        .arg(&member)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(wait_for_end(&mut refused), Some(1), "a member has a vote");
}
