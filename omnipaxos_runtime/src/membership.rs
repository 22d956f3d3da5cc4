//! The members of the log, as a node knows them.

use omnipaxos::ClusterConfig;

/// The members of the log, and whether this server may stop: see
/// [`OmniPaxosHandle::membership`](crate::OmniPaxosHandle::membership).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Membership {
    /// The present configuration. At a joining server it has no nodes until the server learns the
    /// present configuration from the log.
    pub configuration: ClusterConfig,
    /// `None` while this server is a member. After its removal: whether the others no longer need
    /// it: see [`Event::Retired`](omnipaxos::events::Event::Retired).
    pub may_stop: Option<bool>,
}
