//! The known configurations before and after this one.

use crate::ids::{ConfigurationId, NodeId};
use std::{collections::BTreeSet, ops::Bound};

/// A configuration above this server's own, and the member that reported it.
///
/// It is a hint that this server missed a reconfiguration. Ask `reported_by`, or any server of the
/// new configuration, how this one ended. It proves nothing, since the network can forge messages.
/// Nothing in the library depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HigherConfiguration {
    /// The highest reported id.
    pub configuration_id: ConfigurationId,
    /// The member of this server's own configuration that reported it first.
    pub reported_by: NodeId,
}

/// The largest number of senders that wait for a notice of this configuration, and of servers that
/// reported a higher one. Any other sender is recorded with a later message.
const MAX_SERVERS: usize = 64;

/// The known other configurations, and the servers that will get a notice of this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherConfigurations {
    highest: Option<HigherConfiguration>,
    /// Senders of messages of a lower configuration, each once.
    due_notices: BTreeSet<NodeId>,
    /// Where the log continues: the servers that reported a higher configuration.
    informed: BTreeSet<NodeId>,
    /// The highest configuration that one of them reported.
    highest_informed: ConfigurationId,
    /// Whether one of them reported since the last question.
    is_question_due: bool,
    /// The server that got the last question; 0 before the first.
    asked: NodeId,
}

impl OtherConfigurations {
    /// Records a higher configuration that a member reported.
    pub(crate) fn record(&mut self, configuration_id: ConfigurationId, reported_by: NodeId) {
        if self.highest.is_none_or(|highest| highest.configuration_id < configuration_id) {
            self.highest = Some(HigherConfiguration { configuration_id, reported_by });
        }
    }

    /// Schedules a notice to a server in a lower configuration.
    pub(crate) fn schedule_notice(&mut self, to: NodeId) {
        if self.due_notices.len() < MAX_SERVERS {
            self.due_notices.insert(to);
        }
    }

    /// Records that a server reported a higher configuration, and can be asked for the log.
    pub(crate) fn record_informed(&mut self, id: ConfigurationId, from: NodeId) {
        self.highest_informed = self.highest_informed.max(id);
        if self.informed.len() < MAX_SERVERS || self.informed.contains(&from) {
            self.informed.insert(from);
            self.is_question_due = true;
        }
    }

    /// Returns whether a configuration is over: a server has reported a higher one.
    pub(crate) fn is_over(&self, id: ConfigurationId) -> bool {
        self.highest_informed > id
    }

    /// Begins the next epoch. It forgets all but the highest configuration that was reported.
    pub(crate) fn begin_epoch(&mut self) {
        *self = Self { highest_informed: self.highest_informed, ..Self::default() };
    }

    /// Returns whether this server has reported a higher configuration.
    pub(crate) fn is_informed(&self, pid: NodeId) -> bool {
        self.informed.contains(&pid)
    }

    /// Returns the server to ask for the log: the next one in turn, if there was a report since the last
    /// call.
    pub(crate) fn take_informed(&mut self) -> Option<NodeId> {
        let is_due = std::mem::take(&mut self.is_question_due);
        let after = self.informed.range((Bound::Excluded(self.asked), Bound::Unbounded)).next();
        after.or(self.informed.first()).copied().filter(|_| is_due)
    }

    /// Records that a server was asked for the log.
    pub(crate) fn note_asked(&mut self, pid: NodeId) {
        self.asked = pid;
    }

    pub(crate) fn highest(&self) -> Option<HigherConfiguration> {
        self.highest
    }

    pub(crate) fn is_notice_due(&self) -> bool {
        !self.due_notices.is_empty()
    }

    /// Returns the next server that gets a notice of this configuration.
    pub(crate) fn pop(&mut self) -> Option<NodeId> {
        self.due_notices.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::{HigherConfiguration, OtherConfigurations, MAX_SERVERS};

    #[test]
    fn the_highest_counts_and_who_reported_it_first() {
        let mut others = OtherConfigurations::default();
        for (id, from) in [(3, 1), (2, 2), (3, 4), (5, 2), (5, 1)] {
            others.record(id, from);
        }
        let highest = HigherConfiguration { configuration_id: 5, reported_by: 2 };
        assert_eq!(others.highest(), Some(highest));
    }

    #[test]
    fn each_gets_one_notice_and_a_flood_gets_few() {
        let mut others = OtherConfigurations::default();
        (1..=3).chain(1..=3).for_each(|sender| others.schedule_notice(sender));
        assert_eq!(std::iter::from_fn(|| others.pop()).collect::<Vec<_>>(), [1, 2, 3]);
        (1..=10_000).for_each(|sender| others.schedule_notice(sender));
        assert_eq!(std::iter::from_fn(|| others.pop()).count(), MAX_SERVERS);
        assert!(!others.is_notice_due());
    }

    #[test]
    fn each_report_causes_one_question_to_the_servers_in_turn() {
        let mut others = OtherConfigurations::default();
        assert_eq!(others.take_informed(), None, "there is no report");
        for (reports, expected) in [
            (&[7][..], Some(7)),
            (&[][..], None),
            (&[7][..], Some(7)),
            (&[3, 9, 9][..], Some(9)),
            (&[9][..], Some(3)),
            (&[u64::MAX][..], Some(7)),
            (&[3][..], Some(9)),
            (&[3][..], Some(u64::MAX)),
            (&[3][..], Some(3)),
        ] {
            reports.iter().for_each(|from| others.record_informed(2, *from));
            let asked = others.take_informed();
            assert_eq!(asked, expected, "{reports:?}");
            asked.into_iter().for_each(|pid| others.note_asked(pid));
            assert_eq!(others.take_informed(), None, "once a report: {reports:?}");
        }
        assert!([3, 7, 9, u64::MAX].iter().all(|pid| others.is_informed(*pid)));
        assert!(!others.is_informed(4));
    }

    #[test]
    fn a_server_keeps_its_turn_until_it_is_asked() {
        let mut others = OtherConfigurations::default();
        others.record_informed(2, 7);
        others.record_informed(2, 8);
        assert_eq!(others.take_informed(), Some(7));
        others.record_informed(2, 8);
        assert_eq!(others.take_informed(), Some(7), "the answer of another was awaited");
    }

    #[test]
    fn a_configuration_is_over_if_a_higher_one_was_reported() {
        let mut others = OtherConfigurations::default();
        for (reported, is_over) in [
            (None, [false, false, false, false]),
            (Some(3), [true, false, false, false]),
            (Some(2), [true, false, false, false]),
            (Some(5), [true, true, true, false]),
        ] {
            reported.into_iter().for_each(|id| others.record_informed(id, 7));
            assert_eq!([2, 3, 4, 5].map(|id| others.is_over(id)), is_over, "{reported:?}");
        }
        others.record(9, 1);
        assert!(!others.is_over(5), "a server that cannot be asked is no proof");
    }

    #[test]
    fn a_flood_of_reports_takes_bounded_room() {
        let mut others = OtherConfigurations::default();
        (1..=10_000).for_each(|from| others.record_informed(from as u32, from));
        assert!((1..=MAX_SERVERS as u64).all(|pid| others.is_informed(pid)));
        assert!(!others.is_informed(MAX_SERVERS as u64 + 1));
        assert!(others.is_over(9_999), "the id of a server without a place counts");
        assert_eq!(others.take_informed(), Some(1));
        others.record_informed(2, 10_000);
        assert_eq!(others.take_informed(), None, "it has no place, so there is nothing to ask");
        others.record_informed(2, 5);
        assert_eq!(others.take_informed(), Some(1), "a recorded server reports again");
    }

    #[test]
    fn the_next_epoch_forgets_all_but_the_highest_reported_configuration() {
        let mut others = OtherConfigurations::default();
        others.record(4, 1);
        others.record_informed(4, 7);
        others.note_asked(7);
        others.schedule_notice(2);
        others.begin_epoch();
        assert_eq!((others.highest(), others.pop(), others.take_informed()), (None, None, None));
        assert!(!others.is_informed(7) && !others.is_notice_due());
        assert!(others.is_over(3) && !others.is_over(4));
        others.record_informed(4, 9);
        others.record_informed(4, 3);
        assert_eq!(others.take_informed(), Some(3), "the turns begin again");
    }
}
