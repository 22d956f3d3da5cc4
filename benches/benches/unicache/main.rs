//! UniCache: the bytes that it saves and the CPU time that it takes, beside messages as they are and
//! messages compressed with zstd.
//!
//! `cargo bench -p omnipaxos_benches --features unicache --bench unicache` prints the table and writes
//! it to `target/performance/unicache.md`.

mod texts;

use omnipaxos::{messages::Message, storage::Entry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_benches::{
    alternate, cpu_time_of,
    report::{number, Report},
    Summary, WarmHeap,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{de::DeserializeOwned, Serialize};
use std::io;
use texts::{CachedPerson, CachedVisit, Person, Text, Visit};
use zstd::bulk::{Compressor, Decompressor};

/// Entries that are decided in each measurement.
const ENTRIES: u64 = 50_000;

/// No message is larger.
const LARGEST: usize = 1 << 22;

/// How messages travel.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Wire {
    Plain,
    /// Each message compressed by itself, at the fastest of the usual levels.
    Zstd,
}

struct Servers<T: Entry> {
    servers: Vec<OmniPaxos<T, MemoryStorage<T>>>,
    messages: Vec<Message<T>>,
    wire: Wire,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    /// Of the leader, server 1.
    bytes_sent: usize,
}

impl<T: Entry + Serialize + DeserializeOwned> Servers<T> {
    /// Three, of which the first leads.
    fn elected(wire: Wire) -> io::Result<Self> {
        let server = |pid| {
            let cluster =
                ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
            let leader_priority = if pid == 1 { 1 } else { 0 };
            cluster
                .build_for_server(
                    ServerConfig { pid, leader_priority, ..Default::default() },
                    MemoryStorage::default(),
                )
                .expect("the configuration is valid")
        };
        let mut cluster = Self {
            servers: (1..=3).map(server).collect(),
            messages: Vec::new(),
            wire,
            compressor: Compressor::new(1)?,
            decompressor: Decompressor::new()?,
            bytes_sent: 0,
        };
        while cluster.servers.iter().any(|server| server.get_current_leader() != Some(1)) {
            cluster.servers.iter_mut().for_each(OmniPaxos::tick);
            cluster.deliver()?;
        }
        Ok(cluster)
    }

    /// Moves messages until there are none.
    fn deliver(&mut self) -> io::Result<()> {
        loop {
            let mut messages = std::mem::take(&mut self.messages);
            for server in &mut self.servers {
                server.take_outgoing_messages(&mut messages);
            }
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages.drain(..) {
                let is_leaders = message.get_sender() == 1;
                let (message, bytes) = self.travel(message)?;
                self.bytes_sent += if is_leaders { bytes } else { 0 };
                let to = message.get_receiver() as usize - 1;
                self.servers[to].handle_incoming(message);
            }
            self.messages = messages;
        }
    }

    fn travel(&mut self, message: Message<T>) -> io::Result<(Message<T>, usize)> {
        let config = bincode::config::standard();
        let mut bytes =
            bincode::serde::encode_to_vec(&message, config).expect("a message can be serialised");
        drop(message);
        let mut size = bytes.len();
        if self.wire == Wire::Zstd {
            bytes = self.compressor.compress(&bytes)?;
            size = bytes.len();
            bytes = self.decompressor.decompress(&bytes, LARGEST)?;
        }
        let (message, _) =
            bincode::serde::decode_from_slice(&bytes, config).expect("it can be deserialised");
        Ok((message, size))
    }

    /// Appends in groups until all is decided everywhere.
    fn decide(&mut self, log: Vec<T>, group: usize) -> io::Result<()> {
        let goal = self.servers[0].get_decided_idx() + log.len() as u64;
        let mut log = log.into_iter();
        while log.len() > 0 {
            for entry in log.by_ref().take(group) {
                self.servers[0].append(entry).expect("there is no reconfiguration");
            }
            self.deliver()?;
        }
        assert!(self.servers.iter().all(|server| server.get_decided_idx() == goal), "not decided");
        Ok(())
    }
}

/// Bytes from the leader to a follower, and CPU ns of all servers, per entry.
fn measure<T: Entry + Serialize + DeserializeOwned + Text>(
    wire: Wire,
    group: usize,
) -> io::Result<[f64; 2]> {
    let mut cluster = Servers::<T>::elected(wire)?;
    let mut log = T::many(ENTRIES + ENTRIES / 10);
    let rest = log.split_off(ENTRIES as usize / 10);
    cluster.decide(log, group)?;
    cluster.bytes_sent = 0;
    let mut result = Ok(());
    let time = cpu_time_of(|| result = cluster.decide(rest, group));
    result?;
    let bytes = cluster.bytes_sent as f64 / 2.0;
    Ok([bytes, time.as_secs_f64() * 1e9].map(|sum| sum / ENTRIES as f64))
}

/// The rows of a text.
fn table<P, C>(report: &mut Report, group: usize) -> io::Result<()>
where
    P: Entry + Serialize + DeserializeOwned + Text,
    C: Entry + Serialize + DeserializeOwned + Text,
{
    let run = |contestant: usize| match contestant {
        0 => measure::<P>(Wire::Plain, group),
        1 => measure::<C>(Wire::Plain, group),
        2 => measure::<P>(Wire::Zstd, group),
        _ => measure::<C>(Wire::Zstd, group),
    };
    let mut bytes = [0.0; 4];
    let mut failed = Ok(());
    let times: Vec<Option<Summary>> = alternate(4, |contestant| match run(contestant) {
        Ok([size, time]) => {
            bytes[contestant] = size;
            Some(time)
        }
        Err(cause) => {
            failed = Err(cause);
            None
        }
    });
    failed?;
    let names = ["as they are", "UniCache", "zstd", "UniCache and zstd"];
    let plain = times.first().copied().flatten().map_or(f64::NAN, |summary| summary.median);
    for ((name, size), time) in names.into_iter().zip(bytes).zip(times) {
        let time = time.map_or(f64::NAN, |summary| summary.median);
        report.row([
            format!("{}, K = {group}", P::NAME),
            name.to_string(),
            number(size),
            number(bytes[0] / size),
            number(time),
            number(time / plain),
        ]);
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let _warm = WarmHeap::of(1 << 28);
    let mut report = Report::new("unicache");
    report.paragraph(
        "Bytes from the leader to one follower, and CPU ns of all 3 servers, serialising included, \
         per entry; the medians of 7 rounds. K entries are appended between two deliveries.",
    );
    report.head(&["text", "messages", "bytes", "saves, times", "CPU ns", "CPU, times"]);
    for group in [1, 100] {
        table::<Person, CachedPerson>(&mut report, group)?;
        table::<Visit, CachedVisit>(&mut report, group)?;
    }
    report.write()
}
