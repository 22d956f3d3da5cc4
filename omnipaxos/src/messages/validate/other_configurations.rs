//! What is known of the configurations before and after this one.

use crate::ids::{ConfigurationId, NodeId};
use std::collections::BTreeSet;

/// A configuration above this server's own, and who told of it.
///
/// A hint that this server has missed a reconfiguration: ask `reported_by`, or any server of the
/// new configuration, what became of this one. It proves nothing, since messages can be forged on
/// their way; nothing in the library depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HigherConfiguration {
    /// The highest id that was told.
    pub configuration_id: ConfigurationId,
    /// The member of this server's own configuration that told it first.
    pub reported_by: NodeId,
}

/// At most so many senders wait to be told of this configuration. Whoever is not among them is
/// told when it says something again.
const MOST_TO_TELL: usize = 64;

/// What is known of other configurations, and who is to be told of this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherConfigurations {
    highest: Option<HigherConfiguration>,
    /// Senders of messages of a lower configuration: once each, whatever they sent.
    to_tell: BTreeSet<NodeId>,
}

impl OtherConfigurations {
    /// A member told of a higher configuration.
    pub(crate) fn hear(&mut self, configuration_id: ConfigurationId, reported_by: NodeId) {
        if self.highest.is_none_or(|highest| highest.configuration_id < configuration_id) {
            self.highest = Some(HigherConfiguration { configuration_id, reported_by });
        }
    }

    /// Somebody is in a lower configuration.
    pub(crate) fn schedule_notice(&mut self, to: NodeId) {
        if self.to_tell.len() < MOST_TO_TELL {
            self.to_tell.insert(to);
        }
    }

    pub(crate) fn highest(&self) -> Option<HigherConfiguration> {
        self.highest
    }

    pub(crate) fn is_notice_due(&self) -> bool {
        !self.to_tell.is_empty()
    }

    /// The next server to be told of this configuration.
    pub(crate) fn pop(&mut self) -> Option<NodeId> {
        self.to_tell.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::{HigherConfiguration, OtherConfigurations, MOST_TO_TELL};

    #[test]
    fn the_highest_counts_and_who_told_it_first() {
        let mut others = OtherConfigurations::default();
        for (id, from) in [(3, 1), (2, 2), (3, 4), (5, 2), (5, 1)] {
            others.hear(id, from);
        }
        let highest = HigherConfiguration { configuration_id: 5, reported_by: 2 };
        assert_eq!(others.highest(), Some(highest));
    }

    #[test]
    fn each_is_told_once_and_no_flood_is_answered() {
        let mut others = OtherConfigurations::default();
        (1..=3).chain(1..=3).for_each(|sender| others.schedule_notice(sender));
        assert_eq!(std::iter::from_fn(|| others.pop()).collect::<Vec<_>>(), [1, 2, 3]);
        (1..=10_000).for_each(|sender| others.schedule_notice(sender));
        assert_eq!(std::iter::from_fn(|| others.pop()).count(), MOST_TO_TELL);
        assert!(!others.is_notice_due());
    }
}
