//! What the programs of this folder share: how their clients talk to their servers, and how the servers run
//! as processes of one machine. Servers talk to each other through `omnipaxos_runtime`.
#![forbid(unsafe_code)]

pub mod frame;
mod keep_alive;
mod local;
pub mod output;
mod processes;
pub mod signals;

pub use keep_alive::keep_alive;
pub use local::{bind, free_ports, open_storage, random, Directory, Missing};
pub use processes::Processes;
