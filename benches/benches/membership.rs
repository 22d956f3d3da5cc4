//! What a change of members costs under load: ours beside joint consensus of `raft` and `openraft`.
//!
//! `cargo bench -p omnipaxos_benches --features peers --bench membership` prints tables and writes them to
//! `target/performance/membership.md`. Time is simulated: every run gives the same figures, except for
//! those of `openraft`, whose election timeouts are random.

use allocation_counter::measure;
use omnipaxos_benches::{
    membership::{
        change, extra_messages, Changing, Cost, Ours, Used, ELECTION_TICKS, LINK_BYTES, LOAD,
    },
    report::{Report, NONE},
};
use std::{collections::BTreeMap, io};

#[cfg(feature = "peers")]
use omnipaxos_benches::membership::{OpenRaft, Raft};

/// Entries in the log when the change begins.
const ENTRIES: u64 = 1_000_000;

/// The state that stands for them in a compacted log.
const STATE_BYTES: usize = 16 << 20;

/// A change: its name, the members before and after it.
type Change = (&'static str, &'static [u64], &'static [u64]);

/// The first member leads.
const CHANGES: [Change; 5] = [
    ("1 of 3 replaced", &[1, 2, 3], &[1, 2, 4]),
    ("the leader of 3 replaced", &[1, 2, 3], &[2, 3, 4]),
    ("1 of 5 replaced", &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 6]),
    ("2 of 5 replaced", &[1, 2, 3, 4, 5], &[1, 2, 3, 6, 7]),
    ("5 of 5 replaced", &[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10]),
];

fn counted(work: &mut dyn FnMut()) -> Used {
    let counted = measure(work);
    Used { left: counted.bytes_current, most: counted.bytes_max }
}

fn cost_of<C: Changing>((_, founders, next): Change, state_bytes: Option<usize>) -> Cost {
    change::<C>(founders, next, ENTRIES, state_bytes, &mut counted)
}

fn row(name: &str, system: &str, cost: &Cost) -> [String; 12] {
    let ticks = |ticks: Option<u64>| ticks.map_or("did not end".into(), |ticks| ticks.to_string());
    let kib = |bytes: i64| (bytes >> 10).to_string();
    let share = cost.bytes_of_leader as f64 / cost.bytes.max(1) as f64;
    [
        name.to_string(),
        system.to_string(),
        cost.longest_pause.to_string(),
        ticks(cost.until_votes),
        ticks(cost.ticks),
        cost.bytes.to_string(),
        format!("{:.0} %", 100.0 * share),
        cost.largest_message.to_string(),
        kib(cost.most_in_flight as i64),
        kib(cost.leader_peak),
        kib(cost.joiner_peak),
        kib(cost.joiner_end),
    ]
}

fn messages(name: &str, system: &str, kinds: &BTreeMap<String, f64>) -> [String; 4] {
    let all: f64 = kinds.values().sum();
    let kinds: Vec<String> =
        kinds.iter().map(|(kind, count)| format!("{kind} {count:.1}")).collect();
    [name.to_string(), system.to_string(), format!("{all:.1}"), kinds.join(", ")]
}

fn main() -> io::Result<()> {
    let mut report = Report::new("membership");
    for (log, state_bytes) in [("the whole log", None), ("a snapshot", Some(STATE_BYTES))] {
        report.paragraph(&format!(
            "The joiners get {log}: {ENTRIES} entries of 16 B{}. {LOAD} entries a tick are appended, an \
             election timeout is {ELECTION_TICKS} ticks, a link carries {LINK_BYTES} bytes a tick. Times \
             are in ticks.",
            if state_bytes.is_some() { ", for which a state of 16 MiB stands" } else { "" }
        ));
        report.head(&[
            "",
            "",
            "longest time without a decision",
            "until the joiners vote",
            "until the end",
            "bytes to the joiners",
            "of which from the leader",
            "largest message, bytes",
            "most in flight to a joiner, KiB",
            "memory of the leader above the start, KiB",
            "memory of a joiner, KiB",
            "of which at the end",
        ]);
        for change in CHANGES {
            report.row(row(change.0, "ours", &cost_of::<Ours>(change, state_bytes)));
            #[cfg(feature = "peers")]
            {
                report.row(row(change.0, "raft", &cost_of::<Raft>(change, state_bytes)));
                report.row(row(change.0, "openraft", &cost_of::<OpenRaft>(change, state_bytes)));
            }
        }
    }
    report.paragraph(
        "Messages that a change adds in a cluster without load, all in step: those of 10 election \
         timeouts from the request on, without those of as long a time without a change. The mean \
         over all ticks between two heartbeats.",
    );
    report.head(&["", "", "messages", "of which"]);
    for (name, founders, next) in CHANGES {
        report.row(messages(name, "ours", &extra_messages::<Ours>(founders, next)));
        #[cfg(feature = "peers")]
        {
            report.row(messages(name, "raft", &extra_messages::<Raft>(founders, next)));
            report.row(messages(name, "openraft", &extra_messages::<OpenRaft>(founders, next)));
        }
    }
    if cfg!(feature = "peers") {
        return report.write();
    }
    report.paragraph(&format!("{NONE}: not measured, without the feature `peers`."));
    report.write()
}
