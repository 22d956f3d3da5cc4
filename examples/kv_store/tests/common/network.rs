//! Servers in network namespaces of Linux, whose packets can be dropped in each direction.
//!
//! Each server has a namespace, and so has a bridge that connects them, where the clients are. A namespace
//! has no name: it lasts as long as a process in it, which ends with the test, however that ends. So two
//! runs do not meet, and nothing stays.

use super::{kv_store, Asker, TIMEOUT};
use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Instant,
};

pub const SERVERS: usize = 3;

/// An address that no network card here has.
const NOBODY: &str = "02:00:00:00:00:00";

/// Tries what a network needs: a new namespace, a bridge in it, and a pair of cards.
const PROBE: &str =
    "ip link add bridge0 type bridge && ip link add card0 type veth peer name card1 && \
                     nsenter --net=/proc/self/ns/net true";

/// A network namespace, and the process that holds it.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        // It ends with its standard input, which this process has the other end of.
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn();
        let mut namespace = Self(holder.unwrap());
        let of_test = fs::read_link("/proc/self/ns/net").unwrap();
        let start = Instant::now();
        while fs::read_link(namespace.path()).unwrap() == of_test {
            assert_eq!(namespace.0.try_wait().unwrap(), None, "there is no namespace");
            assert!(start.elapsed() < TIMEOUT, "there is no namespace");
            std::thread::yield_now();
        }
        namespace
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// A command in this namespace. Its process is that of `program` itself.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs `ip` with these arguments, separated by spaces.
    fn ip(&self, arguments: &str) {
        let output = self.command("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {output:?}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Three servers of the key-value store, each in a namespace of its own.
pub struct Network {
    servers: Vec<Child>,
    hub: Namespace,
    hosts: Vec<Namespace>,
    directory: tempfile::TempDir,
}

impl Network {
    /// Starts servers that answer. `None`, after a line that says why, if this system makes no such
    /// namespaces for this user.
    pub fn start() -> Option<Self> {
        let probe = Command::new("unshare").args(["--net", "sh", "-c", PROBE]).output();
        let missing = match probe {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
            Err(cause) => Some(format!("unshare: {cause}")),
        };
        if let Some(why) = missing {
            let why = why.replace('\n', "; ");
            // What a macro prints is shown for failed tests alone.
            let line = format!("skipped, for lack of network namespaces: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let hub = Namespace::new();
        hub.ip("link add bridge0 type bridge");
        hub.ip("address add 10.0.0.254/24 dev bridge0");
        hub.ip("link set bridge0 up");
        let hosts: Vec<Namespace> = (0..SERVERS).map(|_| Namespace::new()).collect();
        for (index, host) in hosts.iter().enumerate() {
            let holder = host.0.id();
            hub.ip(&format!("link add card{index} type veth peer name card netns {holder}"));
            hub.ip(&format!("link set card{index} master bridge0 up"));
            host.ip(&format!("address add {}/24 dev card", address(index)));
            host.ip("link set card up");
        }
        let directory = tempfile::tempdir().unwrap();
        let mut network = Self { servers: Vec::new(), hub, hosts, directory };
        for index in 0..SERVERS {
            network.write_config(index);
            let server = network.spawn(index);
            network.servers.push(server);
        }
        let start = Instant::now();
        while network.status().status.code() != Some(0) {
            network.assert_alive();
            assert!(start.elapsed() < TIMEOUT, "the servers do not answer");
        }
        Some(network)
    }

    /// The configuration that comes with the example, with other addresses.
    fn write_config(&self, index: usize) {
        let original = format!("{}/config/node{}.toml", env!("CARGO_MANIFEST_DIR"), index + 1);
        let mut text = fs::read_to_string(original).unwrap();
        for other in 0..SERVERS {
            for port in [7001 + other, 8001 + other] {
                let there = format!("{}:{port}", address(other));
                text = text.replace(&format!("127.0.0.1:{port}"), &there);
            }
        }
        let data = format!("'{}'", self.directory.path().join(format!("data{index}")).display());
        text = text.replace(&format!("\"kv_store_data/{}\"", index + 1), &data);
        fs::write(self.config_file(index), text).unwrap();
    }

    fn config_file(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("node{index}.toml"))
    }

    fn spawn(&self, index: usize) -> Child {
        let log = self.directory.path().join(format!("node{index}.log"));
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.hosts[index].command(kv_store().get_program());
        command.args(["server", "--until-stdin-closes", "--config"]).arg(self.config_file(index));
        command.env_remove("RUST_LOG").stdin(Stdio::piped()).stderr(log).spawn().unwrap()
    }

    /// Kills servers with SIGKILL, all before it waits for the end of one.
    pub fn kill(&mut self, indices: &[usize]) {
        for index in indices {
            self.servers[*index].kill().unwrap();
        }
        for index in indices {
            let ended = self.servers[*index].wait().unwrap();
            assert_eq!(ended.signal(), Some(9), "server {} ended by itself", index + 1);
        }
    }

    /// Starts a server that was killed, on its folder.
    pub fn restart(&mut self, index: usize) {
        self.servers[index] = self.spawn(index);
    }

    pub fn signal(&self, index: usize, signal: &str) {
        let id = self.servers[index].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Drops what `from` sends to `to`, from now on, without a sign to either.
    pub fn cut(&self, from: usize, to: usize) {
        let to = address(to);
        let arguments = format!("neighbour replace {to} lladdr {NOBODY} dev card nud permanent");
        self.hosts[from].ip(&arguments);
    }

    /// Ends a cut.
    pub fn heal(&self, from: usize, to: usize) {
        self.hosts[from].ip(&format!("neighbour delete {} dev card", address(to)));
    }

    /// A client that asks this server first.
    pub fn asker(&self, first: usize, options: &[&str]) -> Asker {
        let in_turn: Vec<String> =
            (0..SERVERS).map(|turn| client_address((first + turn) % SERVERS)).collect();
        Asker::by(self.hub.command(kv_store().get_program()), &in_turn.join(","), options)
    }

    /// What all servers report.
    pub fn status(&self) -> Output {
        let addresses: Vec<String> = (0..SERVERS).map(client_address).collect();
        let mut client = self.hub.command(kv_store().get_program());
        client.args(["client", "--servers", &addresses.join(","), "status"]).output().unwrap()
    }

    /// Waits until what all servers report has this property.
    pub fn wait_for_status(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let status = String::from_utf8(self.status().stdout).unwrap();
            if is_so(&status) {
                return;
            }
            assert!(start.elapsed() < TIMEOUT, "not {what}:\n{status}");
        }
    }

    pub fn assert_alive(&mut self) {
        for (index, server) in self.servers.iter_mut().enumerate() {
            let ended = server.try_wait().unwrap();
            let log = self.directory.path().join(format!("node{index}.log"));
            let log = fs::read_to_string(log).unwrap_or_default();
            assert_eq!(ended, None, "server {} ended:\n{log}", index + 1);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

fn address(index: usize) -> String {
    format!("10.0.0.{}", index + 1)
}

fn client_address(index: usize) -> String {
    format!("{}:{}", address(index), 7001 + index)
}
