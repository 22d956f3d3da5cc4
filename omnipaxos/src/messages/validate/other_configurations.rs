//! The known configurations before and after this one.

use super::{MessageValidator, Reason};
use crate::{
    ids::{ConfigurationId, NodeId},
    messages::{
        ballot_leader_election::{BLEMessage, HeartbeatMsg},
        sequence_paxos::{PaxosMessage, PaxosMsg},
        Message,
    },
    storage::Entry,
};
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
    /// The highest configuration that was reported with the name of this cluster.
    highest_reported: ConfigurationId,
    /// Whether one of them reported since the last question.
    is_question_due: bool,
    /// The server that got the last question; 0 before the first.
    asked: NodeId,
}

impl OtherConfigurations {
    /// Records a higher configuration that a member reported.
    fn record(&mut self, configuration_id: ConfigurationId, reported_by: NodeId) {
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

    /// Records the sender of a message of a higher configuration. Only a message that names its cluster
    /// proves that this log has that configuration.
    fn record_later<T: Entry>(&mut self, message: &Message<T>, id: ConfigurationId) {
        self.record_informed(message.get_sender());
        if cluster_name(message).is_some() {
            self.record_reported(id);
        }
    }

    /// Records a higher configuration that was reported with the name of this cluster.
    fn record_reported(&mut self, id: ConfigurationId) {
        self.highest_reported = self.highest_reported.max(id);
    }

    /// Records that a server reported a higher configuration, and can be asked for the log.
    fn record_informed(&mut self, from: NodeId) {
        if self.informed.len() < MAX_SERVERS || self.informed.contains(&from) {
            self.informed.insert(from);
            self.is_question_due = true;
        }
    }

    /// Returns whether a configuration is over: a higher one of this cluster was reported.
    pub(crate) fn is_over(&self, id: ConfigurationId) -> bool {
        self.highest_reported > id
    }

    /// Begins the next epoch. It forgets all but the highest configuration that was reported.
    pub(crate) fn begin_epoch(&mut self) {
        *self = Self { highest_reported: self.highest_reported, ..Self::default() };
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

impl MessageValidator {
    /// Notes from a dropped message whether its sender, or this server, missed a reconfiguration.
    ///
    /// Only a member can report a higher configuration: any other sender may be wrong. The sender
    /// of a lower configuration will get a notice. It may be no member here, since this server does
    /// not know the members of that configuration. Then it gets a notice only if the user has
    /// allowed that.
    #[cold]
    pub(super) fn compare_configurations<T: Entry>(
        &mut self,
        message: &Message<T>,
        reason: Reason,
        highest_n: u32,
    ) {
        let from = message.get_sender();
        match reason {
            Reason::Misdelivered | Reason::Malformed | Reason::Unidentified(_) => {}
            Reason::OtherConfiguration(id) if id > self.config_id => {
                if !self.names_another_cluster(message) {
                    self.others.record(id, from);
                    if self.continues {
                        self.others.record_later(message, id);
                    }
                }
            }
            Reason::OtherConfiguration(id) => self.answer_lower(id, from),
            Reason::Stranger if !self.tells_removed_servers && !self.continues => {}
            Reason::Stranger => match self.examine_body(message, highest_n) {
                // A member of a later configuration, which this server does not know.
                Err(Reason::OtherConfiguration(id)) if self.continues && id > self.config_id => {
                    if from != self.pid && from != 0 && !self.names_another_cluster(message) {
                        self.others.record_later(message, id);
                    }
                }
                Err(Reason::OtherConfiguration(id)) => self.answer_lower(id, from),
                Ok(())
                | Err(
                    Reason::Misdelivered
                    | Reason::Stranger
                    | Reason::Malformed
                    | Reason::Unidentified(_),
                ) => {}
            },
        }
    }

    /// Returns whether a message comes from another cluster, and says so. Its configuration says nothing about
    /// this log.
    fn names_another_cluster<T: Entry>(&self, message: &Message<T>) -> bool {
        let name = cluster_name(message);
        name.is_some_and(|name| self.identities.check_cluster_name(name).is_err())
    }

    /// Schedules an answer to a message of a lower configuration. No configuration has id 0: a server
    /// that has it learns the members with the log.
    fn answer_lower(&mut self, id: ConfigurationId, from: NodeId) {
        let is_lower = id < self.config_id && (id > 0 || self.continues);
        if is_lower && from != self.pid && from != 0 {
            self.others.schedule_notice(from);
            if self.continues && !self.is_member(from) {
                self.observers.record(from);
            }
        }
    }

    /// Records that a server which asks this one to join is in a later configuration.
    #[cold]
    pub(super) fn record_later_epoch<T: Entry>(&mut self, message: &Message<T>) {
        match message {
            Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::Joining(m), .. })
                if m.config_id > self.config_id =>
            {
                self.others.record_later(message, m.config_id);
            }
            Message::SequencePaxos(_) | Message::BLE(_) => {}
        }
    }
}

/// Returns the digest of the name of a cluster, if a message contains one.
fn cluster_name<T: Entry>(message: &Message<T>) -> Option<u32> {
    match message {
        Message::BLE(BLEMessage { msg: HeartbeatMsg::Request(request), .. }) => {
            Some(request.sender.digest.cluster_name)
        }
        Message::SequencePaxos(PaxosMessage { msg: PaxosMsg::Joining(m), .. }) => {
            Some(m.cluster_name)
        }
        Message::BLE(_) | Message::SequencePaxos(_) => None,
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
            reports.iter().for_each(|from| others.record_informed(*from));
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
        others.record_informed(7);
        others.record_informed(8);
        assert_eq!(others.take_informed(), Some(7));
        others.record_informed(8);
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
            reported.into_iter().for_each(|id| others.record_reported(id));
            assert_eq!([2, 3, 4, 5].map(|id| others.is_over(id)), is_over, "{reported:?}");
        }
        others.record(9, 1);
        others.record_informed(7);
        assert!(!others.is_over(5), "these may be of another cluster");
    }

    #[test]
    fn a_flood_of_reports_takes_bounded_room() {
        let mut others = OtherConfigurations::default();
        (1..=10_000).for_each(|from| others.record_informed(from));
        assert!((1..=MAX_SERVERS as u64).all(|pid| others.is_informed(pid)));
        assert!(!others.is_informed(MAX_SERVERS as u64 + 1));
        assert_eq!(others.take_informed(), Some(1));
        others.record_informed(10_000);
        assert_eq!(others.take_informed(), None, "it has no place, so there is nothing to ask");
        others.record_informed(5);
        assert_eq!(others.take_informed(), Some(1), "a recorded server reports again");
    }

    #[test]
    fn the_next_epoch_forgets_all_but_the_highest_reported_configuration() {
        let mut others = OtherConfigurations::default();
        others.record(4, 1);
        others.record_informed(7);
        others.record_reported(4);
        others.note_asked(7);
        others.schedule_notice(2);
        others.begin_epoch();
        assert_eq!((others.highest(), others.pop(), others.take_informed()), (None, None, None));
        assert!(!others.is_informed(7) && !others.is_notice_due());
        assert!(others.is_over(3) && !others.is_over(4));
        others.record_informed(9);
        others.record_informed(3);
        assert_eq!(others.take_informed(), Some(3), "the turns begin again");
    }
}
