//! A server that is far behind. Links limit the size of a message and the bytes a tick.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    messages::{
        sequence_paxos::{AcceptDecide, PaxosMsg},
        Message,
    },
    storage::Entry,
    util::{LogEntry, NodeId},
    ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_harness::{build, Cluster, Fate, Network};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::moving::{Moving, Put};
use std::collections::BTreeMap;

const MESSAGE: u64 = 4 << 10;

/// What travels with the entries of a message, or a piece of a snapshot.
const OVERHEAD: u64 = 200;

fn small(config: &mut ServerConfig) {
    config.max_message_bytes = MESSAGE as usize;
    config.max_in_flight_bytes = 4 * MESSAGE as usize;
    config.max_in_flight_entries = 100;
}

fn put(key: u64) -> Put {
    Put { key, value: "7".repeat(1000) }
}

/// A cluster in which the last server lacks entries that the others have compacted.
fn compacted(servers: u64, entries: u64) -> Moving<Put> {
    let mut cluster = Moving::new(servers, small);
    cluster.frame_limit = MESSAGE + OVERHEAD;
    cluster.isolated.insert(servers);
    cluster.decide(0..entries, put);
    for pid in 1..servers {
        cluster.server(pid).compact(entries).unwrap();
    }
    cluster.isolated.clear();
    cluster.count_anew();
    cluster
}

#[test]
fn a_snapshot_larger_than_a_message_brings_a_server_back() {
    let mut cluster = compacted(3, 200);
    cluster.server(1).append(put(1000)).unwrap();
    let ticks = cluster.ticks_until_decided(3, 2000);
    println!("{ticks:?} ticks, largest {}, {:?}", cluster.largest, cluster.chunk_bytes);
    assert!(ticks.is_some(), "the snapshot of 200 KB never comes through frames of 4 KiB");
    assert!(cluster.largest <= MESSAGE + OVERHEAD, "{}", cluster.largest);
    cluster.run(100);
    let read = |cluster: &mut Moving<Put>, pid| cluster.server(pid).read_decided_suffix(0).unwrap();
    let (of_1, of_3) = (read(&mut cluster, 1), read(&mut cluster, 3));
    assert_eq!(format!("{of_1:?}"), format!("{of_3:?}"));
}

#[test]
fn a_snapshot_goes_on_at_another_server_if_its_source_vanishes() {
    let mut cluster = compacted(3, 200);
    cluster.bytes_per_tick = 500;
    cluster.run(250);
    let source = cluster.chunk_bytes.iter().max_by_key(|(_, bytes)| **bytes).map(|(pid, _)| *pid);
    let source = source.unwrap();
    assert!(cluster.server(3).get_decided_idx() == 0, "it is on its way from {source}");
    cluster.isolated.insert(source);
    let other = 3 - source;
    let ticks = (0..5000).find(|_| {
        cluster.tick();
        cluster.server(3).get_decided_idx() >= 200
    });
    println!("from {source}, then {other}: {ticks:?} ticks, {:?}", cluster.chunk_bytes);
    assert!(ticks.is_some());
}

#[test]
fn a_snapshot_goes_on_while_its_source_compacts_further() {
    let mut cluster = compacted(3, 200);
    cluster.bytes_per_tick = 2000;
    let mut ticks = 0;
    while cluster.server(3).get_decided_idx() == 0 {
        cluster.server(1).append(put(ticks % 200)).unwrap();
        cluster.tick();
        for pid in [1, 2] {
            let decided_idx = cluster.server(pid).get_decided_idx();
            cluster.server(pid).compact(decided_idx).unwrap();
        }
        ticks += 1;
        assert!(ticks < 3000, "never");
    }
    println!("{ticks} ticks, {:?}", cluster.chunk_bytes);
    assert!(cluster.ticks_until_decided(3, 3000).is_some());
}

/// A server that does not know the members is notified by all of them in each heartbeat round. It asks one
/// of them for the log, and no other while pieces of its snapshot arrive: each has another snapshot.
#[test]
fn a_server_that_joins_gets_the_snapshot_of_one_source() {
    let mut cluster = Moving::new(3, |config| {
        small(config);
        config.continues = true;
    });
    cluster.frame_limit = MESSAGE + OVERHEAD;
    cluster.decide(0..200, put);
    for (pid, idx) in [(1, 200), (2, 190), (3, 180)] {
        cluster.server(pid).compact(idx).unwrap();
    }
    let mut config = ServerConfig { pid: 4, election_tick_timeout: 20, ..Default::default() };
    small(&mut config);
    config.continues = true;
    let joiner = OmniPaxosConfig::observe(config, &[1, 2, 3]);
    cluster.servers.insert(4, joiner.build(MemoryStorage::default()).unwrap());
    cluster.count_anew();
    cluster.bytes_per_tick = 500;
    let ticks = cluster.ticks_until_decided(4, 3000);
    println!("{ticks:?} ticks, {:?}", cluster.chunk_bytes);
    assert!(ticks.is_some(), "{:?}", cluster.chunk_bytes);
    let bytes: u64 = cluster.chunk_bytes.values().sum();
    assert!(bytes < 300_000, "a state of 200 KB takes {bytes} bytes");
}

#[test]
fn many_servers_send_what_one_lacks_and_the_leader_the_least() {
    let mut times = Vec::new();
    for sources in [1, 2, 4] {
        let mut cluster = Moving::new(5, |config| {
            small(config);
            config.max_in_flight_bytes = 32 * MESSAGE as usize;
        });
        cluster.isolated.insert(5);
        cluster.decide(0..2000, put);
        cluster.isolated.clear();
        cluster.cuts = (sources + 1..5).map(|pid| (pid, 5)).collect();
        cluster.count_anew();
        cluster.bytes_per_tick = MESSAGE / 4;
        let ticks = cluster.ticks_until_decided(5, 100_000).unwrap();
        let bytes: u64 = cluster.chunk_bytes.values().sum();
        let of_leader = cluster.chunk_bytes.get(&1).copied().unwrap_or(0);
        println!(
            "{sources} sources: {ticks} ticks, {bytes} bytes, of the leader {}%, largest {}",
            100 * of_leader / bytes,
            cluster.largest
        );
        times.push(ticks);
        assert!(cluster.largest <= MESSAGE + OVERHEAD + 1100, "{}", cluster.largest);
        if sources == 4 {
            assert!(4 * of_leader <= bytes, "the leader sends more than a quarter");
        }
    }
    assert!(3 * times[2] <= times[0], "four sources take more than a third: {times:?}");
}

/// The entries that a message brings to a server that lacks them, in bytes.
fn entry_bytes(message: &Message<Put>) -> usize {
    let entries = match message {
        Message::SequencePaxos(paxos) => match &paxos.msg {
            PaxosMsg::CatchUpChunk(chunk) => Some(&chunk.entries),
            PaxosMsg::AcceptDecide(AcceptDecide { entries, .. }) => entries.plain(),
            _other => None,
        },
        Message::BLE(_) => None,
    };
    entries.map_or(0, |entries| entries.lock().iter().map(Entry::size_hint).sum())
}

/// The bytes of entries that are sent to server 3, by tick and sender.
type SentTo3 = BTreeMap<(u64, NodeId), usize>;

/// Servers 1 to 3, of which 1 leads and has decided `puts` entries with 2.
fn without_3(
    puts: u64,
    change: impl Fn(&mut ServerConfig),
    sent: &mut SentTo3,
) -> Cluster<Put, MemoryStorage<Put>, impl Network<Put> + '_> {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let servers = [1, 2, 3].map(|pid| build(&config, pid, &change, MemoryStorage::default()));
    let count = |now: u64, message: &mut Message<Put>| {
        if message.get_receiver() == 3 {
            *sent.entry((now, message.get_sender())).or_insert(0) += entry_bytes(message);
        }
        Fate::Arrives(1)
    };
    let mut cluster = Cluster::of(servers, count);
    decide_without_3(&mut cluster, puts);
    cluster
}

fn decide_without_3<N: Network<Put>>(cluster: &mut Cluster<Put, MemoryStorage<Put>, N>, puts: u64) {
    cluster.elect(1);
    cluster.isolate(3);
    for key in 0..puts {
        cluster.server(1).append(put(key)).unwrap();
        if key % 500 == 0 {
            cluster.run(3);
        }
    }
    cluster.run(20);
    assert_eq!(cluster.server(2).get_decided_idx(), puts);
}

/// While a leader reads for a server that was away, it answers nobody else. So it sends a part of what that server lacks,
/// and the next output continues.
#[test]
fn no_output_reads_all_that_a_server_lacks() {
    // The second time it lacks so much that it fetches chunks.
    for most_in_flight in [65_536, 7_000] {
        let mut sent = SentTo3::new();
        let change = |config: &mut ServerConfig| config.max_in_flight_entries = most_in_flight;
        let mut cluster = without_3(8_000, change, &mut sent);
        cluster.heal_all();
        let begun = cluster.now();
        cluster.until_decided_everywhere(8_000);
        let ticks = cluster.now() - begun;
        drop(cluster);
        let most = sent.range((begun, 0)..).map(|(_, bytes)| *bytes).max().unwrap();
        println!("{ticks} ticks, at most {most} bytes in an output");
        assert!(most <= 512 << 10, "{most} bytes in an output");
        assert!(ticks < 200, "{ticks} ticks");
    }
}

/// In each output the leader sends a server that lags more than it appends.
#[test]
fn a_server_comes_back_while_much_is_appended() {
    for (bytes, lacking, a_tick) in
        [(1_000, 3_000, 800), (0, 20_000, 4_096), (0, 20_000, 8_192), (0, 20_000, 100)]
    {
        let mut sent = SentTo3::new();
        let mut cluster = without_3(0, |_| {}, &mut sent);
        let mut keys = 0..;
        let mut append = |cluster: &mut Cluster<_, _, _>, count: u64| {
            for key in keys.by_ref().take(count as usize) {
                let value = "7".repeat(bytes);
                cluster.server(1).append(Put { key, value }).unwrap();
            }
            cluster.tick();
        };
        for _ in 0..10 {
            append(&mut cluster, lacking / 10);
        }
        cluster.run(20);
        cluster.heal_all();
        let mut lags = Vec::new();
        for _ in 0..100 {
            append(&mut cluster, a_tick);
            let decided = [1, 3].map(|pid| cluster.server(pid).get_decided_idx());
            lags.push(decided[0].saturating_sub(decided[1]));
        }
        assert!(lags[50..].iter().all(|lag| *lag <= 3 * a_tick), "{a_tick} a tick: {lags:?}");
    }
}

/// A source is asked for several ranges at a time, which are lost, come late, or come twice.
#[test]
fn ranges_that_are_lost_or_late_are_put_together() {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    for seed in 0..20_u64 {
        let change = |config: &mut ServerConfig| config.max_in_flight_entries = 7_000;
        let servers = [1, 2, 3].map(|pid| build(&config, pid, change, MemoryStorage::default()));
        let (mut random, mut chunks) = (seed, 0);
        let fate = |_now: u64, message: &mut Message<Put>| {
            let Message::SequencePaxos(paxos) = message else {
                return Fate::Arrives(1);
            };
            let PaxosMsg::CatchUpChunk(_) = &paxos.msg else {
                return Fate::Arrives(1);
            };
            chunks += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let later = 1 + (random >> 40) % 9;
            match (random >> 33) % 8 {
                0 => Fate::Lost,
                1 => Fate::ArrivesTwice(later, 10 - later),
                _other => Fate::Arrives(later),
            }
        };
        let mut cluster = Cluster::of(servers, fate);
        decide_without_3(&mut cluster, 8_000);
        cluster.heal_all();
        cluster.until_decided_everywhere(8_000);
        let read = cluster.server(3).read_decided_suffix(0).unwrap();
        drop(cluster);
        let keys = read.iter().map(|entry| match entry {
            LogEntry::Decided(put) => put.key,
            other => panic!("{other:?}"),
        });
        assert!(keys.eq(0..8_000), "seed {seed}");
        assert!(chunks > 30, "seed {seed}: {chunks} chunks");
    }
}

/// What it left over would not be sent: the next output is one of the next epoch.
#[test]
fn the_last_output_of_an_epoch_leaves_nothing_over() {
    let mut most = 0;
    // In some of these runs the epoch ends while server 3 is sent what it lacks.
    for ticks_before in 0..40 {
        let mut sent = SentTo3::new();
        let mut cluster = without_3(3_000, |config| config.continues = true, &mut sent);
        cluster.heal_all();
        cluster.run(ticks_before);
        let nodes = vec![1, 2, 3];
        let next = ClusterConfig { configuration_id: 2, nodes, ..Default::default() };
        cluster.server(1).propose_reconfiguration(next, None).unwrap();
        while cluster.server(1).status().configuration_id == 1 {
            cluster.tick();
        }
        let ended = cluster.now();
        drop(cluster);
        most = most.max(sent.get(&(ended, 1)).copied().unwrap_or(0));
    }
    assert!(most > 3 << 19, "at most {most} bytes with the end of the epoch");
}
