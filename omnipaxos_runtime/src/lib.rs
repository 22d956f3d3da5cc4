//! Runs a replica of [`omnipaxos`] on tokio: a replicated log whose calls are awaited, replicated
//! state machines, and a transport over TCP.
//!
//! The library `omnipaxos` does no I/O: a program passes messages and ticks to it. This crate is
//! such a program, and uses only the public interface. It has three parts, which you can use
//! separately:
//!
//! - [`Replicated`] executes commands on a [`StateMachine`] of yours, exactly once, and serves
//!   linearizable queries of its state.
//! - [`Node`] and its handle [`OmniPaxosHandle`] append to the log, and return the decided log as a
//!   stream, without a state machine.
//! - [`Transport`] carries messages. [`tcp`] has one over TCP; [`ChannelTransport`] is for a network
//!   of your own.
//!
//! # Example
//! Three servers of one process. A real server is a process of its own, with a storage on disk:
//! `docs/runtime.md` in the repository leads there from an empty folder.
//!
//! ```
//! use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
//! use omnipaxos_runtime::{
//!     tcp::{AddressBook, TcpTransport},
//!     Replicated, StateMachine,
//! };
//! use omnipaxos_storage::memory_storage::MemoryStorage;
//!
//! #[derive(Default)]
//! struct Counter(i64);
//!
//! impl StateMachine for Counter {
//!     type Command = i64;
//!     type Output = i64;
//!     type Snapshot = i64;
//!
//!     fn apply(&mut self, _idx: u64, command: &i64) -> i64 {
//!         self.0 += command;
//!         self.0
//!     }
//!     fn snapshot(&self) -> i64 {
//!         self.0
//!     }
//!     fn restore(&mut self, snapshot: i64) {
//!         self.0 = snapshot;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let book = AddressBook::default();
//! let mut transports = Vec::new();
//! for pid in 1..=3 {
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//!     book.set(pid, listener.local_addr()?.to_string());
//!     transports.push(TcpTransport::new(book.clone()).listener(listener));
//! }
//! let mut servers = Vec::new();
//! for (pid, transport) in (1..).zip(transports) {
//!     let config = OmniPaxosConfig {
//!         cluster_config: ClusterConfig {
//!             configuration_id: 1,
//!             nodes: vec![1, 2, 3],
//!             ..Default::default()
//!         },
//!         server_config: ServerConfig { pid, continues: true, ..Default::default() },
//!     };
//!     let server = Replicated::builder(config, MemoryStorage::default(), Counter::default());
//!     servers.push(server.transport(transport).start().await?);
//! }
//!
//! // At any server:
//! let (idx, output) = servers[0].execute(5).await?;
//! assert_eq!((idx, output), (0, 5));
//! let value = servers[1].query(|counter| counter.0).await?;
//! assert_eq!(value, 5, "a linearizable read at another server");
//! for server in servers {
//!     let storage = server.shutdown().await?;
//! #   drop(storage);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `tls`: TLS with certificates at both ends: `TcpTransport::tls`.
//!
//! # What holds
//! - **A call that returns has happened.** An append returns once the entry is decided, so it is in the
//!   storages of a write quorum, and can be read here. The storage of this server may have it a little
//!   later. An error reports whether the entry may be decided:
//!   [`errors::Known`].
//! - **Every future may be dropped** at any time, also by `select!` and `timeout`. A dropped call
//!   leaves no state in the node, except the effect of its request.
//! - **Everything is bounded**: the types name their limits.
//! - **A node ends as a whole.** If its storage fails to write, or user code panics, all calls return the
//!   [`NodeError`](errors::NodeError). Two panics have other effects: that of the function of a query ends the
//!   query, and one while a message is decoded ends the connection. If all handles are dropped, the node ends and
//!   closes its storage and its sockets.
//! - **Blocking writes stall no task of yours**: the replica and its transport have one thread, and
//!   the state machine has another, unless you choose otherwise.
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod clock;
mod decided;
mod driver;
pub mod errors;
mod events;
mod fitting;
mod inbox;
mod membership;
mod node;
mod place;
mod random;
mod replicated;
mod reply;
mod request;
mod room;
pub mod tcp;
mod transport;
mod weak;

pub use batch::Decided;
pub use builder::{spawn_actor, NodeBuilder};
pub use decided::DecidedLog;
pub use events::{Events, NodeEvent};
pub use inbox::Inbox;
pub use membership::Membership;
pub use node::{Appending, Node, OmniPaxosHandle};
pub use replicated::{
    CommandId, Executing, IdentifiedCommand, MachineSnapshot, Replicated, ReplicatedBuilder,
    ReplicatedNode, StateMachine, MAX_CLIENTS, MAX_OUTPUTS,
};
pub use transport::{ChannelTransport, NoTransport, OutgoingMessages, Transport};

/// The guide, whose programs are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/runtime.md")]
struct Guide;
