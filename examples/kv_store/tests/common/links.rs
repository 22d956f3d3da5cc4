//! Links between servers that can be cut.
//!
//! Each server is found at a proxy, which reads in the hello of a connection which server it is from. What
//! is sent over a link that is cut is held, and passed on once the link is healed, as TCP does; or all its
//! connections break.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The bytes of a hello up to the end of the pid that it is from.
const HELLO: usize = 24;

#[derive(Clone, Default)]
pub struct Links(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    healed: Condvar,
}

#[derive(Default)]
struct State {
    /// The links that are cut, each from the lower pid to the higher one.
    cut: BTreeSet<(u64, u64)>,
    connections: Vec<Connection>,
}

struct Connection {
    from: u64,
    to: u64,
    ends: [TcpStream; 2],
}

fn link(a: u64, b: u64) -> (u64, u64) {
    (a.min(b), a.max(b))
}

impl Links {
    /// Starts the proxy of server `pid`, which listens at `port`. Returns the port at which it is found.
    pub fn proxy(&self, pid: u64, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found_at = listener.local_addr().unwrap().port();
        let links = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let links = links.clone();
                thread::spawn(move || drop(links.pass(stream, pid, port)));
            }
        });
        found_at
    }

    /// Cuts the links between a server and each of these.
    pub fn cut(&self, pid: u64, others: impl IntoIterator<Item = u64>) {
        let mut state = self.state();
        state.cut.extend(others.into_iter().map(|other| link(pid, other)));
    }

    pub fn heal_all(&self) {
        self.state().cut.clear();
        self.0.healed.notify_all();
    }

    /// Breaks all connections of a server. They are made again.
    pub fn break_all(&self, pid: u64) {
        for Connection { from, to, ends } in &self.state().connections {
            if *from == pid || *to == pid {
                ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what comes over a connection to server `to`, until one end closes it.
    fn pass(&self, mut stream: TcpStream, to: u64, port: u16) -> std::io::Result<()> {
        let mut hello = [0; HELLO];
        stream.read_exact(&mut hello)?;
        let from = u64::from_be_bytes(*hello.last_chunk().unwrap());
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        for end in [&stream, &server] {
            end.set_nodelay(true)?;
        }
        let ends = [stream.try_clone()?, server.try_clone()?];
        self.state().connections.push(Connection { from, to, ends });
        let (mut answers, mut back) = (server.try_clone()?, stream.try_clone()?);
        let links = self.clone();
        thread::spawn(move || drop(links.copy(link(from, to), &mut answers, &mut back)));
        self.wait_until_healed(link(from, to));
        let passed = server.write_all(&hello);
        let passed = passed.and_then(|()| self.copy(link(from, to), &mut stream, &mut server));
        let is_this = |connection: &Connection| {
            connection.ends[0]
                .peer_addr()
                .is_ok_and(|peer| stream.peer_addr().is_ok_and(|s| s == peer))
        };
        self.state().connections.retain(|connection| !is_this(connection));
        passed
    }

    fn copy(
        &self,
        link: (u64, u64),
        reader: &mut TcpStream,
        writer: &mut TcpStream,
    ) -> std::io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let copied = loop {
            match reader.read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(read) => {
                    self.wait_until_healed(link);
                    if let Err(broken) = writer.write_all(&bytes[..read]) {
                        break Err(broken);
                    }
                }
                Err(broken) => break Err(broken),
            }
        };
        for end in [reader, writer] {
            drop(end.shutdown(Shutdown::Both));
        }
        copied
    }

    fn wait_until_healed(&self, link: (u64, u64)) {
        let waited = self.0.healed.wait_while(self.state(), |state| state.cut.contains(&link));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
