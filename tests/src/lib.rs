//! The simulator, and the suites that run on it.
//!
//! One run is a [`plan::Plan`], made from a seed: a cluster, the conditions on its links, and a
//! list of steps (operations and faults). [`run::run`] executes it on one thread, over the real
//! replicas, with a simulated network, clocks and disks; the [`checker`] watches every input, flush
//! and message, and the answers to clients must be [`linearizable`]. At the end all faults stop, and
//! the cluster must become live and then silent. A plan that fails is made smaller by [`shrink`].
//! The same seed gives the same run, to the byte.
//!
//! Where a stop sign is decided, the next configuration begins on other servers and empty disks, beside the
//! one before, and must come to rest likewise; what reaches the wrong one of both changes nothing.
//!
//! In the runs of [`lasting`] the faults do not stop: one server keeps a quorum, and something must be
//! decided again and again.
//!
//! [`script`] plays cluster stories that are written as text, in a [`lab`].
#![forbid(unsafe_code)]

pub mod caches;
pub mod changes;
pub mod checker;
pub mod cluster;
pub mod coverage;
pub mod describe;
pub mod disk;
pub mod failing_storage;
pub mod impostors;
pub mod lab;
pub mod lasting;
pub mod linearizable;
pub mod moving;
pub mod network;
pub mod plan;
pub mod power_loss;
pub mod rng;
pub mod run;
pub mod scheduled;
pub mod script;
pub mod shrink;
pub mod value;
