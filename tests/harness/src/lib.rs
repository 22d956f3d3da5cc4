//! A cluster in one process and one thread, which a test drives tick by tick.
//!
//! A [`Cluster`] holds the servers that run, and the messages between them. [`Cluster::tick`] is the one
//! loop: messages arrive, clocks tick, servers send. A [`Network`] decides what happens to each message:
//! [`Delay`] delivers all, [`Scripted`] drops and holds back those that a test picks, and a closure does
//! what it likes. A test of its own kind implements `Network`, to count or to change messages.
//!
//! ```
//! use omnipaxos::{macros::Entry, ClusterConfig};
//! use omnipaxos_harness::{build, Cluster, Delay};
//! # use omnipaxos_storage::memory_storage::MemoryStorage;
//!
//! #[derive(Clone, Debug, Entry)]
//! struct Word(&'static str);
//!
//! let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
//! let server = |pid| build(&config, pid, |_config| {}, MemoryStorage::default());
//! let mut cluster = Cluster::of([1, 2, 3].map(server), Delay(1));
//! cluster.elect(1);
//! cluster.isolate(3);
//! cluster.server(1).append(Word("a"))?;
//! cluster.run(10);
//! assert_eq!(cluster.server(2).get_decided_idx(), 1);
//!
//! let storage = cluster.crash(3).expect("it runs").into_storage();
//! cluster.start(build(&config, 3, |_config| {}, storage));
//! cluster.heal_all();
//! cluster.until_decided_everywhere(1);
//! # Ok::<(), omnipaxos::ProposeErr<Word>>(())
//! ```
#![forbid(unsafe_code)]

mod cluster;
mod kind;
mod network;

pub use self::{
    cluster::{build, Cluster, OnHalt},
    kind::kind,
    network::{Delay, Fate, Network, Pick, Scripted},
};
