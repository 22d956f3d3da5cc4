//! What an entry costs that can be counted: allocations, bytes requested, clones and messages, ours
//! beside the peers and beside the least that replicas can do.
//!
//! `cargo bench -p omnipaxos_benches --features peers --bench counts` prints a table and writes it
//! to `target/performance/counts.md`.

use allocation_counter::measure;
use omnipaxos_benches::{
    cluster::{Cluster, Pump, Wire, Work},
    contestants::{Limit, Ours},
    report::{number, Report, NONE},
};
use std::io;

#[cfg(feature = "peers")]
use omnipaxos_benches::contestants::{OpenRaft, Published, Raft};

fn count<C: Cluster>(work: &Work) -> [f64; 4] {
    work.count::<C>(|run| {
        let counted = measure(run);
        [counted.count_total, counted.bytes_total]
    })
}

/// Its tasks move messages themselves, so they are not counted.
const TASKS: &str = "openraft 0.9";

type Count = fn(&Work) -> [f64; 4];

const CONTESTANTS: &[(&str, Count)] = &[
    ("ours", count::<Ours>),
    #[cfg(feature = "peers")]
    ("0.2.2", count::<Published>),
    #[cfg(feature = "peers")]
    ("raft 0.7", count::<Raft>),
    #[cfg(feature = "peers")]
    (TASKS, count::<OpenRaft>),
    ("limit", count::<Limit>),
];

const SINGLE: Work =
    Work { n: 3, bytes: 8, entries: 10_000, group: 1, pump: Pump::UntilSilent, wire: Wire::Moved };

const WORKS: [(&str, Work); 4] = [
    ("K = 1", SINGLE),
    ("K = 1, pipelined", Work { pump: Pump::OneHop, ..SINGLE }),
    ("K = 100", Work { group: 100, ..SINGLE }),
    ("K = 100, 15 servers", Work { group: 100, n: 15, ..SINGLE }),
];

fn main() -> io::Result<()> {
    let mut report = Report::new("counts");
    report.paragraph(
        "Per entry of 8 B, at all servers together. Goals: at most 3 allocations with K = 1 and 1.1 \
         with K = 100, no clone, 4 messages when pipelined.",
    );
    report.head(&["of", "work", "allocations", "bytes requested", "clones", "messages"]);
    for (name, work) in WORKS {
        for (of, count) in CONTESTANTS {
            let mut counted = count(&work).map(number);
            if *of == TASKS {
                counted[3] = NONE.to_string();
            }
            report.row([of.to_string(), name.to_string()].into_iter().chain(counted));
        }
    }
    report.write()
}
