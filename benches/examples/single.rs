//! One entry at a time, ours alone, for a profiler:
//! `cargo build --release -p omnipaxos_benches --example single`, then
//! `valgrind --tool=callgrind target/release/examples/single`.

use omnipaxos_benches::{
    cluster::{Pump, Wire, Work},
    contestants::Ours,
};

fn main() {
    let work = Work {
        n: 3,
        bytes: 8,
        entries: 20_000,
        group: 1,
        pump: Pump::UntilSilent,
        wire: Wire::Moved,
    };
    println!("{:?}", work.run::<Ours>());
}
