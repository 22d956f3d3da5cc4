//! What the examples share: how their servers talk over TCP, and how they run as processes of one
//! machine.
#![forbid(unsafe_code)]

pub mod clients;
mod clock;
pub mod frame;
mod input;
mod local;
pub mod output;
pub mod peers;
mod processes;
pub mod signals;

pub use clock::Clock;
pub use input::{Input, Wire};
pub use local::{free_ports, open_storage, random, Directory, Missing};
pub use peers::Peers;
pub use processes::Processes;
