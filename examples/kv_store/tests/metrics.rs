//! What Prometheus is served.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, wait_for_end, Cluster, TIMEOUT};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Instant,
};

/// The samples of a page by name and labels, as they are written there.
type Samples = BTreeMap<String, f64>;

/// The body of the answer to a request over HTTP/1.0, after which the server closes the connection.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 OK"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain"), "{head}");
    Some(body.to_string())
}

/// Reads the text format of Prometheus, and fails where it is not kept: each sample belongs to a
/// metric that has declared its type.
fn parse(page: &str) -> Samples {
    let mut samples = Samples::new();
    let (mut described, mut typed) = (None, None);
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix("# HELP ") {
            described = text.split_once(' ').map(|(name, _)| name.to_string());
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let (name, kind) = text.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert_eq!(described.as_deref(), Some(name), "{line} without a text");
            typed = Some(name.to_string());
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = key.split_once('{').unwrap();
            assert_eq!(typed.as_deref(), Some(name), "{line} without a type");
            for label in labels.strip_suffix('}').unwrap().split(',') {
                let (_, value) = label.split_once('=').unwrap();
                assert!(
                    value.len() > 2 && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
            }
            let is_new = samples.insert(key.to_string(), value.parse().unwrap()).is_none();
            assert!(is_new, "{key} twice");
        }
    }
    samples
}

/// The samples of a server once they fit.
fn wait_for(port: u16, fit: impl Fn(&Samples) -> bool) -> Samples {
    let start = Instant::now();
    loop {
        let samples = get(port, "/metrics").map(|page| parse(&page)).unwrap_or_default();
        if fit(&samples) {
            return samples;
        }
        assert!(start.elapsed() < TIMEOUT, "{samples:#?}");
        std::thread::yield_now();
    }
}

/// A metric of a server. Its log continues, and there is no label for the configuration.
fn name(pid: usize, metric: &str, more: &str) -> String {
    format!("omnipaxos_{metric}{{pid=\"{pid}\"{more}}}")
}

fn value(samples: &Samples, name: &str) -> f64 {
    *samples.get(name).unwrap_or(&f64::NAN)
}

#[test]
fn prometheus_is_served_what_a_cluster_does() {
    let mut cluster = Cluster::start();
    (0..3).for_each(|index| cluster.restart_with_metrics(index));
    for number in 0..5 {
        cluster.ask(&["put", "colour", &number.to_string()]);
    }
    let decided = (cluster.change(&["put", "shape", "round"]) + 1) as f64;
    let pages: Vec<Samples> = (1..=3)
        .map(|pid| {
            // A page may be made while the server writes its values, so that some are of the last
            // round. Each value that is tested below is waited for.
            wait_for(cluster.metrics_ports[pid - 1], |samples| {
                let of = |metric: &str| value(samples, &name(pid, metric, ""));
                let role = |role: &str| name(pid, "role", &format!(",role=\"{role}\""));
                // A client that had no answer in time has asked at another server, too.
                ["waiting_entries", "pending_entries", "undecided_entries"]
                    .iter()
                    .all(|metric| of(metric) == 0.0)
                    && ["decided_idx", "accepted_idx", "stored_idx"]
                        .iter()
                        .all(|metric| of(metric) >= decided)
                    && of("has_leader") == 1.0
                    && value(samples, &role("leading")) + value(samples, &role("following")) == 1.0
                    // The last that a round writes.
                    && of("unstorable_proposals_total") == 0.0
            })
        })
        .collect();
    for (pid, page) in (1..=3).zip(&pages) {
        assert_eq!(page.len(), pages[0].len(), "all give the same");
        assert!(page.keys().all(|key| key.starts_with("omnipaxos_")), "{:?}", page.keys());
        for idx in ["decided_idx", "accepted_idx", "stored_idx"] {
            let value = value(page, &name(pid, idx, ""));
            assert!(value <= 2.0 * decided, "{idx}: {value}");
        }
        assert!(value(page, &name(pid, "promised_ballot_number", "")) >= 1.0);
        assert_eq!(value(page, &name(pid, "dropped_proposals_total", "")), 0.0);
        let malformed = name(pid, "dropped_messages_total", ",reason=\"malformed\"");
        assert_eq!(value(page, &malformed), 0.0);
        for peer in (1..=3).filter(|peer| *peer != pid) {
            let lag = name(pid, "follower_lag_entries", &format!(",peer=\"{peer}\""));
            assert!(value(page, &lag) >= 0.0, "{lag}");
        }
    }

    // Whoever leads reports a killed follower: perhaps not the server that led before.
    let leads = |page: &Samples, pid| value(page, &name(pid, "role", ",role=\"leading\"")) == 1.0;
    let lost = cluster.wait_for_report(leads) % 3 + 1;
    cluster.kill(lost - 1);
    cluster.ask(&["put", "shape", "square"]);
    let of_lost = format!(",peer=\"{lost}\"");
    cluster.wait_for_report(|page, pid| {
        leads(page, pid)
            && value(page, &name(pid, "peer_answers", &of_lost)) == 0.0
            && value(page, &name(pid, "follower_lag_entries", &of_lost)) >= 1.0
    });
    cluster.assert_served_elsewhere(lost);
}

impl Cluster {
    /// The first server whose page fits.
    fn wait_for_report(&self, fits: impl Fn(&Samples, usize) -> bool) -> usize {
        let start = Instant::now();
        loop {
            let page = |pid: usize| get(self.metrics_ports[pid - 1], "/metrics");
            let fitting =
                (1..=3).find(|pid| page(*pid).is_some_and(|page| fits(&parse(&page), *pid)));
            if let Some(pid) = fitting {
                return pid;
            }
            assert!(start.elapsed() < TIMEOUT, "no server reports it");
        }
    }

    fn restart_with_metrics(&mut self, index: usize) {
        self.kill(index);
        let file = self.config_file(index);
        let table = "[kv_store]\n";
        let address =
            format!("{table}metrics_address = \"127.0.0.1:{}\"\n", self.metrics_ports[index]);
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace(table, &address)).unwrap();
        self.restart(index);
    }

    /// The argument comes before the configuration; and an address that is taken is an error.
    fn assert_served_elsewhere(&self, pid: usize) {
        let start = |port: u16| {
            kv_store()
                .args(["server", "--until-stdin-closes", "--config"])
                .arg(self.config_file(pid - 1))
                .args(["--metrics", &format!("127.0.0.1:{port}")])
                .stdin(Stdio::piped())
                .stderr(self.open_log(pid - 1))
                .spawn()
                .unwrap()
        };
        let mut refused = start(self.client_ports[pid % 3]);
        assert_eq!(wait_for_end(&mut refused), Some(1));
        let error = std::fs::read_to_string(self.log(pid - 1)).unwrap();
        assert!(error.contains("cannot serve metrics at 127.0.0.1:"), "{error}");

        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = start(port);
        wait_for(port, |samples| value(samples, &name(pid, "has_leader", "")) == 1.0);
        assert!(get(self.metrics_ports[pid - 1], "/metrics").is_none());
        drop(server.stdin.take());
        assert_eq!(wait_for_end(&mut server), Some(0));
    }
}
