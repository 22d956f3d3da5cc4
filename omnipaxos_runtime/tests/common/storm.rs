//! Connections of programs that are no servers.

use super::{config, hello, Word};
use omnipaxos::OmniPaxos;
use omnipaxos_runtime::tcp::TcpCounters;
use omnipaxos_storage::memory_storage::MemoryStorage;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, Duration},
};

/// The server for which some of them pose: it is in the address book, and no member.
pub(crate) const STRANGER: u64 = 4;

const CONNECTIONS: usize = 400;
const AT_ONCE: usize = 24;

/// Xorshift.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = 1 + self.below(longest);
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    /// Bytes of which some are others, or missing.
    fn mutate(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(at + 1),
                1 => drop(bytes.splice(at..at, self.bytes(9))),
                2 => bytes[at] = [0, 251, 252, 253, 255][self.below(5)],
                _ => bytes[at] ^= 1 << self.below(8),
            }
        }
        bytes
    }
}

/// Frames of a server of this id that would be a member.
pub(crate) fn frames_of(pid: u64) -> Vec<Vec<u8>> {
    let mut servers: Vec<OmniPaxos<Word, MemoryStorage<Word>>> =
        (1..=pid).map(|own| config(own, pid).build(MemoryStorage::default()).unwrap()).collect();
    let mut frames = Vec::new();
    for round in 0..60 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        servers.last_mut().unwrap().append(Word::new("x".repeat(round))).unwrap();
        for at in 0..servers.len() {
            for message in servers[at].outgoing_messages() {
                let (from, to) = (message.get_sender(), message.get_receiver());
                if from == pid && to == 1 {
                    let config = bincode::config::standard();
                    let body = bincode::serde::encode_to_vec(&message, config).unwrap();
                    frames.push([&(body.len() as u32).to_be_bytes()[..], &body].concat());
                }
                servers[to as usize - 1].handle_incoming(message);
            }
        }
    }
    frames
}

/// Connects many times to server 1, and sends what is no hello, and after a hello what is often no frame.
/// Checks that each of the former is refused and counted. `plain_hello` is whether a hello is understood
/// there: without TLS.
pub(crate) async fn storm(address: &str, counters: TcpCounters, plain_hello: bool) {
    let frames = frames_of(STRANGER);
    let (mut random, mut running) = (Random(0x853C_49E6_748F_EA9B), JoinSet::new());
    let before = counters.refused_connections();
    let mut refused = 0;
    for _ in 0..CONNECTIONS {
        let start = hello(1, STRANGER, 1);
        let bytes = match random.below(5) {
            0 => {
                refused += 1;
                // Not the magic bytes.
                [&[7][..], &random.bytes(300)].concat()
            }
            1 => {
                refused += 1;
                let end = random.below(start.len());
                start[..end].to_vec()
            }
            2 => {
                refused += u64::from(!plain_hello);
                [&start[..], &random.bytes(300)].concat()
            }
            3 => {
                refused += u64::from(!plain_hello);
                let frame = frames[random.below(frames.len())].clone();
                [start, random.mutate(frame)].concat()
            }
            _ => {
                refused += u64::from(!plain_hello);
                let some = (0..3).flat_map(|_| frames[random.below(frames.len())].clone());
                start.into_iter().chain(some).collect()
            }
        };
        let (address, pause) = (address.to_owned(), random.below(20) as u64);
        running.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            // The other end may have closed it.
            let _ = stream.write_all(first).await;
            sleep(Duration::from_millis(pause)).await;
            let _ = stream.write_all(rest).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        if running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    while counters.refused_connections() < before + refused {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(counters.refused_connections(), before + refused);
}
