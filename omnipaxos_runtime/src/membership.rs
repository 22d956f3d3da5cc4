//! The members of the log, as a node knows them.

use omnipaxos::ClusterConfig;

/// The members of the log, and whether this server may stop: see
/// [`OmniPaxosHandle::membership`](crate::OmniPaxosHandle::membership).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Membership {
    /// The present configuration. A server that joins has one without nodes until it learns the
    /// present one from the log.
    pub configuration: ClusterConfig,
    /// `None` unless this server was removed from the members. Then whether the others no longer need it:
    /// see [`Event::Retired`](omnipaxos::events::Event::Retired).
    pub may_stop: Option<bool>,
}
