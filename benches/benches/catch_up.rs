//! A follower that was away while many entries were decided: what it takes to bring it up to date,
//! and what the others notice of it.
//!
//! `cargo bench -p omnipaxos_benches --features peers --bench catch_up` prints tables and writes them
//! to `target/performance/catch_up.md`. Messages are serialised.

use allocation_counter::measure;
use cpu_time::ThreadTime;
use omnipaxos::{macros::Entry, messages::Message, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_benches::{
    alternate,
    cluster::{KeyValue, Wire},
    contestants::{OurServer, Replica, Servers},
    report::{number, Report, NONE},
    Summary, WarmHeap, ROUNDS,
};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{io, time::Duration};

#[cfg(feature = "peers")]
use omnipaxos_benches::contestants::PublishedServer;

/// How many entries the follower misses.
const MISSED: u64 = 1_000_000;

/// A cluster of `n` servers, one of which has missed entries and has its links back.
fn with_lagging<R: Replica>(n: u64) -> (Servers<R>, usize) {
    let mut cluster: Servers<R> = Servers::with(n, Wire::Serialised, None);
    let lagging = (cluster.leader + 1) % cluster.servers.len();
    cluster.decide_between(KeyValue::many(MISSED, 8), |from, to| from != lagging && to != lagging);
    cluster.largest_message = 0;
    for at in 0..n {
        for pid in (0..n).filter(|pid| *pid != at) {
            cluster.servers[at as usize].reconnected(pid + 1);
        }
    }
    (cluster, lagging)
}

fn catch_up<R: Replica>(cluster: &mut Servers<R>, lagging: usize) {
    while cluster.servers[lagging].decided_idx() < MISSED {
        cluster.tick();
        while cluster.hop_between(|_, _| true) > 0 {}
    }
}

/// CPU ms of all servers.
fn cpu_ms<R: Replica>(largest: &mut usize) -> f64 {
    let (mut cluster, lagging) = with_lagging::<R>(3);
    let start = ThreadTime::now();
    catch_up(&mut cluster, lagging);
    let time = start.elapsed();
    *largest = cluster.largest_message;
    time.as_secs_f64() * 1e3
}

/// CPU ms to encode and decode what was missed, in messages of this number of entries: none can do with
/// less.
fn serialising_ms(entries: usize) -> f64 {
    let missed = KeyValue::many(MISSED, 8);
    let config = bincode::config::legacy();
    let mut received: Vec<Vec<KeyValue>> = Vec::new();
    let start = ThreadTime::now();
    for message in missed.chunks(entries) {
        let bytes =
            bincode::serde::encode_to_vec(message, config).expect("entries can be serialised");
        let (entries, _) =
            bincode::serde::decode_from_slice(&bytes, config).expect("and deserialised");
        received.push(entries);
    }
    start.elapsed().as_secs_f64() * 1e3
}

/// The most memory in use on the way beyond what is in use in the end, in bytes: messages, and
/// whatever the servers hold for a while.
fn passing_memory<R: Replica>() -> u64 {
    let (mut cluster, lagging) = with_lagging::<R>(3);
    let memory = measure(|| catch_up(&mut cluster, lagging));
    memory.bytes_max.saturating_sub(memory.bytes_current.max(0) as u64)
}

/// As the entries of the others, for a storage on disk.
#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
struct Pair {
    key: u64,
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
}

type DiskServer = OmniPaxos<Pair, PersistentStorage<Pair>>;

/// As [`passing_memory`], of ours with logs on disk, so that nothing else is in memory.
fn passing_memory_on_disk() -> io::Result<u64> {
    let folder = tempfile::tempdir()?;
    let mut servers: Vec<DiskServer> = (1..=3)
        .map(|pid| {
            let mut config = PersistentStorageConfig::default();
            config.set_path(folder.path().join(pid.to_string()).to_string_lossy().into());
            ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() }
                .build_for_server(
                    ServerConfig { pid, ..Default::default() },
                    PersistentStorage::open(config),
                )
                .expect("the configuration is valid")
        })
        .collect();
    let mut messages = Vec::new();
    let mut hop = |servers: &mut Vec<DiskServer>, lost: Option<u64>| {
        servers.iter_mut().for_each(|server| server.take_outgoing_messages(&mut messages));
        let moved = messages.len();
        for message in messages.drain(..) {
            let ends = [message.get_sender(), message.get_receiver()];
            if !ends.into_iter().any(|pid| Some(pid) == lost) {
                let config = bincode::config::legacy();
                let bytes = bincode::serde::encode_to_vec(&message, config)
                    .expect("a message can be serialised");
                drop(message);
                let (message, _): (Message<Pair>, usize) =
                    bincode::serde::decode_from_slice(&bytes, config).expect("it can be decoded");
                servers[ends[1] as usize - 1].handle_incoming(message);
            }
        }
        moved
    };
    for _ in 0..100 {
        servers.iter_mut().for_each(OmniPaxos::tick);
        while hop(&mut servers, None) > 0 {}
    }
    let leader = servers[0].get_current_leader().expect("there is a leader");
    let lagging = leader % 3 + 1;
    for first in (0..MISSED).step_by(1000) {
        for key in first..first + 1000 {
            let taken = servers[leader as usize - 1].append(Pair { key, value: vec![7; 8] });
            taken.expect("no reconfiguration is pending");
        }
        while hop(&mut servers, Some(lagging)) > 0 {}
    }
    let memory = measure(|| {
        while servers[lagging as usize - 1].get_decided_idx() < MISSED {
            servers.iter_mut().for_each(OmniPaxos::tick);
            while hop(&mut servers, None) > 0 {}
        }
    });
    Ok(memory.bytes_max)
}

/// What the servers that were not away do meanwhile.
struct Others {
    /// Entries decided at the leader in a hop, on average.
    per_hop: f64,
    /// CPU ns of the leader for each.
    leader_ns: f64,
    /// CPU ns for each, of the slower of the two followers that make a quorum with the leader.
    quorum_ns: f64,
}

/// Five servers decide 100 entries a hop, until the server that was away has caught up, or for as many
/// hops as that took.
fn others(hops: Option<usize>) -> (Others, usize) {
    const GROUP: u64 = 100;
    let (mut cluster, lagging): (Servers<OurServer>, usize) = with_lagging(5);
    let n = cluster.servers.len();
    if hops.is_some() {
        catch_up(&mut cluster, lagging);
    }
    let (leader, start) = (cluster.leader, cluster.servers[cluster.leader].decided_idx());
    let mut busy = vec![Duration::ZERO; n];
    let mut passed = 0;
    let mut log = KeyValue::many(100_000, 8).into_iter();
    let is_over = |passed: usize, cluster: &Servers<OurServer>| match hops {
        Some(hops) => passed == hops,
        None => cluster.servers[lagging].decided_idx() >= MISSED,
    };
    while !is_over(passed, &cluster) {
        for entry in log.by_ref().take(GROUP as usize) {
            Replica::append(&mut cluster.servers[leader], entry);
        }
        hop_timed(&mut cluster, &mut busy);
        passed += 1;
    }
    let decided = (cluster.servers[leader].decided_idx() - start) as f64;
    let ns = |at: usize| busy[at].as_nanos() as f64 / decided;
    let mut followers: Vec<f64> =
        (0..n).filter(|at| *at != leader && *at != lagging).map(ns).collect();
    followers.sort_by(f64::total_cmp);
    let others = Others {
        per_hop: decided / passed as f64,
        leader_ns: ns(leader),
        quorum_ns: followers[1].max(ns(leader)),
    };
    (others, passed)
}

/// One hop, with the time that each server takes. Messages are serialised, but that is not counted:
/// all servers have one heap here, which a large message leaves in another state.
fn hop_timed(cluster: &mut Servers<OurServer>, busy: &mut [Duration]) {
    let mut envelopes = Vec::new();
    for (server, busy) in cluster.servers.iter_mut().zip(busy.iter_mut()) {
        let start = ThreadTime::now();
        let mut messages = Vec::new();
        Replica::take(server, &mut messages);
        *busy += start.elapsed();
        for message in messages {
            let (_, to) = OurServer::ends(&message);
            envelopes.push((to as usize - 1, OurServer::encode(&message)));
        }
    }
    for (to, bytes) in envelopes {
        let message = OurServer::decode(&bytes);
        let start = ThreadTime::now();
        Replica::handle(&mut cluster.servers[to], message);
        busy[to] += start.elapsed();
    }
}

/// A row of two measurements in ms.
fn ms(name: &str, goal: &str, measured: &[Option<Summary>]) -> [String; 5] {
    let spread =
        |s: Summary| format!("{} ({} to {})", number(s.median), number(s.min), number(s.max));
    let ratio = |(ours, theirs): (Summary, Summary)| number(theirs.median / ours.median);
    [
        name.to_string(),
        goal.to_string(),
        measured[0].map_or(NONE.into(), spread),
        measured[1].map_or(NONE.into(), |s| number(s.median)),
        measured[0].zip(measured[1]).map_or(NONE.into(), ratio),
    ]
}

fn report_work(report: &mut Report) -> io::Result<()> {
    report.paragraph(
        "A follower was cut off while 1,000,000 entries of 8 B were decided, and is back. CPU ms of \
         all three servers until it has them, medians of 7. Memory: the most that is in use on the \
         way beyond what is in use in the end, at all servers and in messages together.",
    );
    report.head(&["of", "goal", "ours", "0.2.2", "0.2.2 / ours"]);
    let mut largest = [None::<usize>; 2];
    let measured = alternate(2, |at| {
        let mut bytes = 0;
        let ms = match at {
            0 => cpu_ms::<OurServer>(&mut bytes),
            #[cfg(feature = "peers")]
            1 => cpu_ms::<PublishedServer>(&mut bytes),
            _ => return None,
        };
        largest[at] = Some(bytes);
        Some(ms)
    });
    #[cfg(feature = "peers")]
    let published_memory = Some(passing_memory::<PublishedServer>());
    #[cfg(not(feature = "peers"))]
    let published_memory = None;
    report.row(ms("CPU, ms", "3", &measured));
    let serialising = alternate(2, |at| Some(serialising_ms([1 << 14, MISSED as usize][at])));
    report.row(ms("of which to encode and decode", NONE, &serialising));
    let mut bytes = |name: &str, goal: &str, ours: u64, theirs: Option<u64>| {
        let ratio = theirs.map_or(NONE.into(), |theirs| number(theirs as f64 / ours as f64));
        let theirs = theirs.map_or(NONE.into(), |bytes| bytes.to_string());
        report.row([name.into(), goal.into(), ours.to_string(), theirs, ratio]);
    };
    let [ours, theirs] = largest.map(|bytes| bytes.map(|bytes| bytes as u64));
    bytes("largest message, bytes", "1048576", ours.unwrap_or(0), theirs);
    bytes("memory, bytes", NONE, passing_memory::<OurServer>(), published_memory);
    bytes("memory, logs on disk, bytes", NONE, passing_memory_on_disk()?, None);
    Ok(())
}

fn report_others(report: &mut Report) {
    report.paragraph(
        "Five servers of ours, of which one catches up as above while the leader appends 100 entries \
         between two hops; and the same when all are in step. CPU ns per entry of the leader, and of \
         the slower of the leader and two followers, which are enough to decide; without encoding \
         and decoding, medians of 7.",
    );
    report.head(&["", "hops", "entries decided a hop", "leader, ns", "quorum, ns"]);
    let mut rows: [Vec<Others>; 2] = [Vec::new(), Vec::new()];
    let mut hops = 0;
    for _ in 0..ROUNDS {
        let (during, took) = others(None);
        hops = took;
        let (normal, _) = others(Some(took));
        rows[0].push(during);
        rows[1].push(normal);
    }
    for (name, row) in ["while it catches up", "in step"].into_iter().zip(&rows) {
        let median = |of: fn(&Others) -> f64| {
            Summary::of(row.iter().map(of).collect()).map_or(NONE.into(), |s| number(s.median))
        };
        let cells = [median(|o| o.per_hop), median(|o| o.leader_ns), median(|o| o.quorum_ns)];
        report.row([name.to_string(), hops.to_string()].into_iter().chain(cells));
    }
}

fn main() -> io::Result<()> {
    let mut report = Report::new("catch_up");
    report_work(&mut report)?;
    let _warm = WarmHeap::of(1 << 30);
    report_others(&mut report);
    report.write()
}
