//! CPU time, ours beside the peers and beside the least that replicas can do.
//!
//! `cargo bench -p omnipaxos_benches --features peers --bench times` prints a table and writes it
//! to `target/performance/times.md`. Contestants take turns in one thread; without the feature only
//! ours and the limit are measured.

use omnipaxos_benches::{
    alternate,
    cluster::{replicate, Cluster, KeyValue, Pump, Wire, Work},
    contestants::{Limit, OurServer, Ours, Replica, Servers},
    cpu_time_of,
    report::{number, Report, NONE},
    Summary, WarmHeap,
};
use std::{hint::black_box, io};

#[cfg(feature = "peers")]
use omnipaxos_benches::contestants::{OpenRaft, Published, Raft};

/// Memory that is made ready before: more than any contestant holds at a time.
const WARM: usize = 1 << 30;

/// What replicates, by column.
type Replicates = fn(&Work) -> f64;

/// CPU ns per entry.
fn ns<C: Cluster>(work: &Work) -> f64 {
    work.run::<C>().as_nanos() as f64 / work.entries as f64
}

/// In the order of the columns; `None` is not measured.
const CONTESTANTS: [Option<Replicates>; 5] = [
    Some(ns::<Ours>),
    #[cfg(feature = "peers")]
    Some(ns::<Published>),
    #[cfg(feature = "peers")]
    Some(ns::<Raft>),
    #[cfg(feature = "peers")]
    Some(ns::<OpenRaft>),
    #[cfg(not(feature = "peers"))]
    None,
    #[cfg(not(feature = "peers"))]
    None,
    #[cfg(not(feature = "peers"))]
    None,
    Some(ns::<Limit>),
];

const COLUMNS: [&str; 8] =
    ["work", "goal", "ours", "0.2.2", "raft 0.7", "openraft 0.9", "limit", "0.2.2 / ours"];

const USUAL: Work = Work {
    n: 3,
    bytes: 8,
    entries: 50_000,
    group: 100,
    pump: Pump::UntilSilent,
    wire: Wire::Moved,
};

/// One entry at a time.
const SINGLE: Work = Work { group: 1, entries: 10_000, ..USUAL };

/// What is replicated, and how many times the speed of 0.2.2 is the goal.
const REPLICATION: [(&str, &str, Work); 12] = [
    ("8 B, K = 1", "4", SINGLE),
    ("8 B, K = 100", "7", USUAL),
    ("256 B, K = 1", NONE, Work { bytes: 256, ..SINGLE }),
    ("256 B, K = 100", "6", Work { bytes: 256, ..USUAL }),
    ("4 KiB, K = 1", NONE, Work { bytes: 4096, entries: 4000, ..SINGLE }),
    ("4 KiB, K = 100", "6", Work { bytes: 4096, entries: 4000, ..USUAL }),
    ("8 B, K = 1, pipelined", "2.5", Work { pump: Pump::OneHop, ..SINGLE }),
    ("8 B, K = 100, 15 servers", "20", Work { n: 15, entries: 20_000, ..USUAL }),
    ("8 B, K = 1, serialised", "1.5", Work { wire: Wire::Serialised, ..SINGLE }),
    ("8 B, K = 100, serialised", "1.5", Work { wire: Wire::Serialised, ..USUAL }),
    (
        "256 B, K = 100, serialised",
        "1.5",
        Work { bytes: 256, entries: 20_000, wire: Wire::Serialised, ..USUAL },
    ),
    (
        "8 B, K = 1, serialised and pipelined",
        "1.5",
        Work { wire: Wire::Serialised, pump: Pump::OneHop, ..SINGLE },
    ),
];

fn replication(report: &mut Report) {
    report.paragraph(
        "CPU ns per entry, from `append` at the leader until all 3 servers know that it is decided; \
         the median of 7 rounds in which the contestants take turns, with the smallest and largest \
         of ours. K entries are appended between two deliveries of messages; \"pipelined\" has one \
         hop in between, else messages are moved until there are none. The goal is in multiples of \
         0.2.2.",
    );
    report.head(&COLUMNS);
    for (name, goal, work) in REPLICATION {
        // The limit sends nothing that could be serialised; openraft moves messages itself.
        let is_measured = |at: usize| match COLUMNS[at + 2] {
            "limit" => work.wire == Wire::Moved,
            "openraft 0.9" => work.pump == Pump::UntilSilent,
            _ => true,
        };
        let measured = alternate(CONTESTANTS.len(), |at| {
            CONTESTANTS[at].filter(|_| is_measured(at)).map(|run| run(&work))
        });
        report.row(cells(name, goal, &measured));
    }
}

/// The cells of a row.
fn cells(name: &str, goal: &str, measured: &[Option<Summary>]) -> Vec<String> {
    let mut cells = vec![name.to_string(), goal.to_string()];
    for (at, summary) in measured.iter().enumerate() {
        cells.push(match summary {
            None => NONE.to_string(),
            Some(Summary { median, min, max }) if at == 0 => {
                format!("{} ({} to {})", number(*median), number(*min), number(*max))
            }
            Some(Summary { median, .. }) => number(*median),
        });
    }
    cells.push(match (measured.first(), measured.get(1)) {
        (Some(Some(ours)), Some(Some(published))) => number(published.median / ours.median),
        _ => NONE.to_string(),
    });
    cells
}

/// A log of this length, decided at all servers.
fn long_log<R: Replica>(entries: u64) -> Servers<R> {
    let mut cluster = Servers::with(3, Wire::Moved, None);
    replicate(&mut cluster, KeyValue::many(entries, 8), 1000, Pump::UntilSilent);
    cluster
}

/// Appends at the end of a log of this length.
fn at_length<R: Replica>(length: u64) -> f64 {
    let mut cluster = long_log::<R>(length);
    let log = KeyValue::many(20_000, 8);
    let time = cpu_time_of(|| {
        replicate(&mut cluster, log, 100, Pump::UntilSilent);
    });
    time.as_nanos() as f64 / 20_000.0
}

/// A tick of a server with a log of this length, and the messages that it causes.
fn idle_tick<R: Replica>(length: u64) -> f64 {
    const TICKS: u64 = 10_000;
    let mut cluster = long_log::<R>(length);
    let time = cpu_time_of(|| {
        for _ in 0..TICKS {
            cluster.tick();
            while cluster.hop() > 0 {}
        }
    });
    time.as_nanos() as f64 / (TICKS * 3) as f64
}

/// The length of the log that is read.
const READ: u64 = 100_000;

fn read_one<R: Replica>() -> f64 {
    let cluster = long_log::<R>(READ);
    let server = &cluster.servers[2];
    let time = cpu_time_of(|| {
        let mut idx = 1;
        for _ in 0..READ {
            idx = idx * 7919 % READ;
            assert!(server.read(black_box(idx)));
        }
    });
    time.as_nanos() as f64 / READ as f64
}

fn read_suffix<R: Replica>() -> f64 {
    let cluster = long_log::<R>(READ);
    let server = &cluster.servers[2];
    let time = cpu_time_of(|| assert_eq!(server.read_suffix(0), READ as usize));
    time.as_nanos() as f64 / READ as f64
}

fn visit_suffix(cluster: &Ours) -> f64 {
    let server: &OurServer = &cluster.servers[2];
    let mut sum = 0;
    let time = cpu_time_of(|| {
        let end = server.for_each_decided(0, |entry| sum += entry.key);
        assert_eq!(end, Some(READ));
    });
    assert_eq!(sum, READ * (READ - 1) / 2);
    time.as_nanos() as f64 / READ as f64
}

/// Something that is measured of ours and of 0.2.2.
type Pair = (fn() -> f64, Option<fn() -> f64>);

macro_rules! pair {
    ($work:ident $(($arg:expr))?) => {
        (
            || $work::<OurServer>($($arg)?),
            #[cfg(feature = "peers")]
            Some(|| $work::<omnipaxos_benches::contestants::PublishedServer>($($arg)?)),
            #[cfg(not(feature = "peers"))]
            None,
        )
    };
}

const OTHERS: [(&str, &str, Pair); 7] = [
    ("appending 8 B, K = 100, to a log of 10,000", "flat", pair!(at_length(10_000))),
    ("to a log of 100,000", "flat", pair!(at_length(100_000))),
    ("to a log of 1,000,000", "flat", pair!(at_length(1_000_000))),
    ("idle tick, empty log", "1", pair!(idle_tick(0))),
    ("idle tick, log of 100,000", "1", pair!(idle_tick(100_000))),
    ("`read` of one entry", "1", pair!(read_one)),
    ("`read_decided_suffix`, per entry", "1.7", pair!(read_suffix)),
];

fn others(report: &mut Report) {
    report.paragraph(
        "CPU ns, as above. A tick is that of one server, with the heartbeats it causes.",
    );
    report.head(&["work", "goal", "ours", "0.2.2", "0.2.2 / ours"]);
    for (name, goal, (ours, published)) in OTHERS {
        let measured = alternate(2, |at| match at {
            0 => Some(ours()),
            _ => published.map(|published| published()),
        });
        report.row(cells(name, goal, &measured));
    }
    let cluster = long_log(READ);
    let visited = alternate(2, |at| (at == 0).then(|| visit_suffix(&cluster)));
    report.row(cells("`for_each_decided`, per entry", NONE, &visited));
}

fn main() -> io::Result<()> {
    let _warm = WarmHeap::of(WARM);
    let mut report = Report::new("times");
    replication(&mut report);
    others(&mut report);
    report.write()
}
