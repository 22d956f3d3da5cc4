//! UniCache: the bytes that it saves and the CPU time that it takes, beside messages as they are and
//! messages compressed with zstd.
//!
//! `cargo bench -p omnipaxos_benches --features unicache --bench unicache` prints the table and writes
//! it to `target/performance/unicache.md`.

mod texts;

use omnipaxos::{messages::Message, storage::Entry, ClusterConfig};
use omnipaxos_benches::{
    alternate, cpu_time_of,
    report::{number, Report},
    Summary, WarmHeap,
};
use omnipaxos_harness::{build, Cluster, Fate, Network};
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

/// Encodes each message and decodes it again, and counts the bytes of the leader, server 1.
struct Travel {
    wire: Wire,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    bytes_sent: usize,
}

impl<T: Entry + Serialize + DeserializeOwned> Network<T> for Travel {
    fn fate(&mut self, _now: u64, message: &mut Message<T>) -> Fate {
        let config = bincode::config::standard();
        let mut bytes =
            bincode::serde::encode_to_vec(&*message, config).expect("a message can be serialised");
        let mut size = bytes.len();
        if self.wire == Wire::Zstd {
            bytes = self.compressor.compress(&bytes).expect("there is memory");
            size = bytes.len();
            bytes = self.decompressor.decompress(&bytes, LARGEST).expect("it was compressed");
        }
        self.bytes_sent += if message.get_sender() == 1 { size } else { 0 };
        let (decoded, _) =
            bincode::serde::decode_from_slice(&bytes, config).expect("it can be deserialised");
        *message = decoded;
        Fate::Arrives(0)
    }
}

type Servers<T> = Cluster<T, MemoryStorage<T>, Travel>;

/// Three, of which the first leads.
fn elected<T: Entry + Serialize + DeserializeOwned>(wire: Wire) -> io::Result<Servers<T>> {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let server = |pid| build(&config, pid, |_config| {}, MemoryStorage::default());
    let travel = Travel {
        wire,
        compressor: Compressor::new(1)?,
        decompressor: Decompressor::new()?,
        bytes_sent: 0,
    };
    let mut cluster = Cluster::of([1, 2, 3].map(server), travel);
    cluster.elect(1);
    Ok(cluster)
}

/// Appends in groups until all is decided everywhere.
fn decide<T: Entry + Serialize + DeserializeOwned>(
    cluster: &mut Servers<T>,
    log: Vec<T>,
    group: usize,
) {
    let goal = cluster.server(1).get_decided_idx() + log.len() as u64;
    let mut log = log.into_iter();
    while log.len() > 0 {
        for entry in log.by_ref().take(group) {
            cluster.server(1).append(entry).expect("there is no reconfiguration");
        }
        cluster.settle();
    }
    assert!(cluster.servers().all(|server| server.get_decided_idx() == goal), "not decided");
}

/// Bytes from the leader to a follower, and CPU ns of all servers, per entry.
fn measure<T: Entry + Serialize + DeserializeOwned + Text>(
    wire: Wire,
    group: usize,
) -> io::Result<[f64; 2]> {
    let mut cluster = elected::<T>(wire)?;
    let mut log = T::many(ENTRIES + ENTRIES / 10);
    let rest = log.split_off(ENTRIES as usize / 10);
    decide(&mut cluster, log, group);
    cluster.network.bytes_sent = 0;
    let time = cpu_time_of(|| decide(&mut cluster, rest, group));
    let bytes = cluster.network.bytes_sent as f64 / 2.0;
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
