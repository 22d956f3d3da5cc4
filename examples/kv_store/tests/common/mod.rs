//! The program, run as its users do: as processes that talk over TCP.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]
#![allow(dead_code, reason = "no suite uses all of it")]
#![allow(unreachable_pub, reason = "several suites include this")]

pub mod joiner;
pub mod links;
#[cfg(target_os = "linux")]
pub mod network;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, Lines, Write},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub const TIMEOUT: Duration = Duration::from_secs(60);

pub fn kv_store() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv_store"));
    command.env_remove("RUST_LOG");
    command
}

/// Three servers, started from configuration files.
pub struct Cluster {
    pub servers: Vec<Child>,
    pub client_ports: Vec<u16>,
    pub peer_ports: Vec<u16>,
    /// Where the other servers find each: at its own port, or at a proxy.
    pub found_ports: Vec<u16>,
    pub metrics_ports: Vec<u16>,
    pub directory: tempfile::TempDir,
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_found(|_, port| port)
    }

    /// Starts servers that find each other at the ports which `found_at` returns: of each server, given
    /// its pid and the port at which it listens.
    pub fn start_found(found_at: impl Fn(u64, u16) -> u16) -> Self {
        // Another process may take a port before the server does; then start again with others.
        (0..5).find_map(|_| Self::try_start(&found_at)).expect("servers that find their ports free")
    }

    pub fn try_start(found_at: impl Fn(u64, u16) -> u16) -> Option<Self> {
        // Below the ports that the system gives to outgoing connections: those of a server that is
        // killed stay free until it is back.
        let from = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
        let listeners: Vec<_> = (from..32_000)
            .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            .take(9)
            .collect();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(listeners);
        let (client_ports, ports) = ports.split_at(3);
        let (peer_ports, metrics_ports) = ports.split_at(3);
        let mut cluster = Self {
            servers: Vec::new(),
            client_ports: client_ports.to_vec(),
            peer_ports: peer_ports.to_vec(),
            found_ports: (1..).zip(peer_ports).map(|(pid, port)| found_at(pid, *port)).collect(),
            metrics_ports: metrics_ports.to_vec(),
            directory: tempfile::tempdir().unwrap(),
        };
        for index in 0..3 {
            let file = cluster.write_config(index);
            cluster.servers.push(spawn(&file, cluster.open_log(index)));
        }
        let start = Instant::now();
        while cluster.client(&["status"]).status.code() != Some(0) {
            if cluster.servers.iter_mut().any(|server| server.try_wait().unwrap().is_some()) {
                return None;
            }
            assert!(start.elapsed() < TIMEOUT, "the servers do not answer");
        }
        Some(cluster)
    }

    /// The configuration that comes with the example, with other ports.
    pub fn write_config(&self, index: usize) -> PathBuf {
        let original = format!("{}/config/node{}.toml", env!("CARGO_MANIFEST_DIR"), index + 1);
        let mut text = std::fs::read_to_string(original).unwrap();
        for other in 0..3 {
            let client = format!(":{}", self.client_ports[other]);
            let ports = if other == index { &self.peer_ports } else { &self.found_ports };
            let peer = format!(":{}", ports[other]);
            text = text.replace(&format!(":{}", 7001 + other), &client);
            text = text.replace(&format!(":{}", 8001 + other), &peer);
        }
        let data = format!("\"kv_store_data/{}\"", index + 1);
        text = text.replace(&data, &format!("'{}'", self.data(index).display()));
        let file = self.config_file(index);
        std::fs::write(&file, text).unwrap();
        file
    }

    pub fn config_file(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("node{index}.toml"))
    }

    pub fn data(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("data{index}"))
    }

    /// What the server writes is added to what it wrote before.
    pub fn open_log(&self, index: usize) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.log(index)).unwrap()
    }

    /// Kills a server with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        kill(&mut self.servers[index]);
    }

    pub fn restart(&mut self, index: usize) {
        self.servers[index] = spawn(&self.config_file(index), self.open_log(index));
    }

    /// Ends a server in the way that systems do, and waits for its end.
    pub fn terminate(&mut self, index: usize) -> Option<i32> {
        self.signal(index, "-TERM");
        wait_for_end(&mut self.servers[index])
    }

    pub fn signal(&self, index: usize, signal: &str) {
        let id = self.servers[index].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn log(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("node{index}.log"))
    }

    pub fn addresses(&self) -> String {
        let addresses: Vec<_> =
            self.client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    pub fn client_command(&self, arguments: &[&str]) -> Command {
        let mut command = kv_store();
        command.args(["client", "--servers", &self.addresses()]).args(arguments);
        command
    }

    pub fn client(&self, arguments: &[&str]) -> Output {
        self.client_command(arguments).output().unwrap()
    }

    /// What the client prints, if all goes well.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts or deletes, and gives the index at which that was decided.
    pub fn change(&self, arguments: &[&str]) -> u64 {
        let answer = self.ask(arguments);
        let idx = answer.trim_end().strip_prefix("ok, at index ");
        idx.unwrap_or_else(|| panic!("{arguments:?}: {answer}")).parse().unwrap()
    }

    pub fn assert_alive(&mut self) {
        for server in &mut self.servers {
            assert!(server.try_wait().unwrap().is_none(), "a server ended");
        }
    }

    /// The first line of each server in `status` once all are in step. On a busy machine a server may not answer
    /// in time.
    pub fn status_in_step(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let status = String::from_utf8(self.client(&["status"]).stdout).unwrap();
            let is_first = |line: &&str| !line.starts_with(' ');
            let lines: Vec<String> = status.lines().filter(is_first).map(str::to_owned).collect();
            // How much of its log is in a snapshot is each server's own: a server that was behind may
            // have been sent a snapshot.
            let rest = |line: &String| {
                let (_, line) = line.split_once(": ")?;
                let (log, state) = line.split_once(" (")?;
                Some(format!("{log}{}", state.split_once(')')?.1))
            };
            let rests: Vec<_> = lines.iter().map_while(rest).collect();
            if rests.len() == 3 && rests.iter().all(|rest| *rest == rests[0]) {
                return lines;
            }
            assert!(start.elapsed() < TIMEOUT, "not in step: {status}");
        }
    }

    /// Waits until the status has this text.
    pub fn status_says(&self, text: &str) {
        let start = Instant::now();
        loop {
            let status = self.ask(&["status"]);
            if status.contains(text) {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "`{text}` is not in:\n{status}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// A process that answers lines. Killed when it is dropped.
pub struct Asker {
    process: Child,
    lines: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    /// It asks the first of these servers, and the next ones if it has to.
    pub fn start(ports: impl IntoIterator<Item = u16>, options: &[&str]) -> Self {
        let addresses: Vec<String> =
            ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Self::by(kv_store(), &addresses.join(","), options)
    }

    /// It runs this program, which asks at these addresses.
    pub fn by(mut program: Command, addresses: &str, options: &[&str]) -> Self {
        let mut process = program
            .args(["client", "--servers", addresses])
            .args(options)
            .arg("lines")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines, answers }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer()
    }

    pub fn send(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
    }

    pub fn answer(&mut self) -> String {
        self.answers.next().expect("a client that goes on").unwrap()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub fn spawn(config: &Path, log: std::fs::File) -> Child {
    kv_store()
        .args(["server", "--until-stdin-closes", "--config"])
        .arg(config)
        .stdin(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Kills a server with SIGKILL. It must not have ended by itself.
pub fn kill(process: &mut Child) {
    process.kill().unwrap();
    assert_eq!(process.wait().unwrap().signal(), Some(9), "a server had ended by itself");
}

/// The exit status of a process that ends by itself.
pub fn wait_for_end(process: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < TIMEOUT, "the process does not end");
        std::thread::yield_now();
    }
}
