//! Who is measured.

mod limit;
#[cfg(feature = "peers")]
mod openraft;
#[cfg(feature = "peers")]
mod raft;
mod replica;
mod servers;

pub use self::{limit::Limit, replica::Replica, servers::Servers};
#[cfg(feature = "peers")]
pub use self::{openraft::OpenRaft, raft::Raft};

/// A server of ours.
pub type OurServer = replica::ours::Server;

/// Servers of ours.
pub type Ours = Servers<OurServer>;

/// A server of the published crate.
#[cfg(feature = "peers")]
pub type PublishedServer = replica::published::Server;

/// Servers of the published crate.
#[cfg(feature = "peers")]
pub type Published = Servers<PublishedServer>;
