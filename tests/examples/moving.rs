//! Measures what moving a log or a state to one of five servers takes, over links that carry 64 KiB a
//! tick, and prints it as a table: `cargo run --release -p omnipaxos_tests --example moving`.
#![allow(clippy::unwrap_used, reason = "a measurement may fail")]

use allocation_counter::measure;
use omnipaxos_tests::moving::{Moving, Put};

/// What moving a log or a state to one of five servers takes.
struct Moved {
    ticks: u64,
    /// Of all bytes of chunks, in percent.
    of_leader: u64,
    largest: u64,
    /// Bytes in use at most, at all servers and in the network together, beyond those in use at the end.
    memory: i64,
    /// The longest call of a source and of server 5, in milliseconds.
    longest_calls: (u128, u128),
}

/// Moves what server 5 lacks, from this number of sources: links carry 64 KiB a tick.
fn moved(sources: u64, prepare: impl FnOnce(&mut Moving<Put>)) -> Moved {
    let mut cluster = Moving::new(5, |config| config.election_tick_timeout = 100);
    cluster.isolated.insert(5);
    prepare(&mut cluster);
    cluster.isolated.clear();
    cluster.cuts = (sources + 1..5).map(|pid| (pid, 5)).collect();
    cluster.bytes_per_tick = 64 << 10;
    cluster.count_anew();
    let mut ticks = None;
    let memory = measure(|| ticks = cluster.ticks_until_decided(5, 1_000_000));
    let bytes: u64 = cluster.chunk_bytes.values().sum();
    let of_leader = 100 * cluster.chunk_bytes.get(&1).copied().unwrap_or(0) / bytes;
    let longest = |pid| cluster.longest_call.get(&pid).map_or(0, |longest| longest.as_millis());
    Moved {
        longest_calls: ((1..5).map(longest).max().unwrap_or(0), longest(5)),
        ticks: ticks.unwrap(),
        of_leader,
        largest: cluster.largest,
        memory: memory.bytes_max as i64 - memory.bytes_current,
    }
}

fn main() {
    println!("| lacks | sources | ticks | of the leader | largest message | memory besides | longest call of a source, of the learner |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for sources in [1, 2, 4] {
        let log = moved(sources, |cluster| {
            cluster.decide(0..1_000_000, |key| Put { key, value: "7".repeat(32) });
        });
        print_row("1 M entries", sources, &log);
    }
    for sources in [1, 2, 4] {
        let state = moved(sources, |cluster| {
            cluster.decide(0..64 << 10, |key| Put { key, value: "7".repeat(1 << 10) });
            for pid in 1..5 {
                cluster.server(pid).compact(64 << 10).unwrap();
            }
        });
        print_row("a state of 64 MiB", sources, &state);
    }
}

fn print_row(what: &str, sources: u64, moved: &Moved) {
    let Moved { ticks, of_leader, largest, memory, longest_calls: (of_source, of_5) } = moved;
    println!(
        "| {what} | {sources} | {ticks} | {of_leader} % | {} KiB | {:.1} MiB | {of_source} ms, {of_5} ms |",
        largest >> 10,
        *memory as f64 / f64::from(1 << 20)
    );
}
