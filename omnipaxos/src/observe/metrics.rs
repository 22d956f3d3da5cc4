//! Reports the numbers of a replica to a metrics recorder.
//!
//! With the feature `metrics` that is the recorder of the [metrics](https://docs.rs/metrics) crate,
//! of the process or of the thread. Without the feature, nothing is reported and no status is
//! built.
//!
//! The replica reports at the end of each heartbeat round and when it halts. So a scraper finds
//! fresh numbers without a task that copies them. A round is short compared with the time between
//! two scrapes, and long compared with an input: the cost of appends and messages does not change.
//! A recorder returns nothing, so it cannot change what a replica does.

use crate::{ids::NodeId, observe::status::Status};

/// Describes the metrics, for tools that show them.
#[inline]
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    to_recorder::describe();
}

/// Reports all metrics. The status is built only if a recorder takes them.
#[inline]
pub(crate) fn record(status: impl FnOnce() -> Status) {
    #[cfg(feature = "metrics")]
    to_recorder::record(&status());
    #[cfg(not(feature = "metrics"))]
    let _ = status;
}

/// Sets the gauges of servers that are no peers any more to 0.
#[inline]
pub(crate) fn clear_peers(pid: NodeId, left: impl IntoIterator<Item = NodeId>) {
    #[cfg(feature = "metrics")]
    to_recorder::clear_peers(pid, left);
    #[cfg(not(feature = "metrics"))]
    let _ = (pid, left);
}

#[cfg(feature = "metrics")]
mod to_recorder {
    //! The feature `metrics`. `docs/metrics.md` has the table for users.

    use crate::{
        ids::NodeId,
        observe::status::{Dropped, FollowerStatus, JoinerStatus, PeerStatus, Role, Stage, Status},
    };
    use metrics::{Label, SharedString, Unit};
    use std::sync::Arc;

    /// A gauge of `S`, or a counter.
    struct Metric<S> {
        name: &'static str,
        unit: Unit,
        meaning: &'static str,
        value: fn(&S) -> u64,
    }

    const fn count<S>(
        name: &'static str,
        meaning: &'static str,
        value: fn(&S) -> u64,
    ) -> Metric<S> {
        Metric { name, unit: Unit::Count, meaning, value }
    }

    const fn bytes<S>(
        name: &'static str,
        meaning: &'static str,
        value: fn(&S) -> u64,
    ) -> Metric<S> {
        Metric { name, unit: Unit::Bytes, meaning, value }
    }

    /// Gauges of a server.
    const OF_SERVER: [Metric<Status>; 26] = [
        count("omnipaxos_observers", "Observers that this server serves.", |status| {
            status.observers.len() as u64
        }),
        count(
            "omnipaxos_observer_lag_entries",
            "Entries decided here that the slowest observer of this server lacks.",
            |status| status.observers.iter().map(|observer| observer.lag).max().unwrap_or(0),
        ),
        count("omnipaxos_has_leader", "1 if a leader is known here, else 0.", |status| {
            status.leader.is_some().into()
        }),
        count(
            "omnipaxos_promised_ballot_number",
            "Number of the highest promised ballot; it rises when another server takes over.",
            |status| status.promise.n.into(),
        ),
        count("omnipaxos_decided_idx", "Entries decided here, a stop sign included.", |status| {
            status.decided_idx
        }),
        count("omnipaxos_accepted_idx", "Length of the log here, decided or not.", |status| {
            status.accepted_idx
        }),
        count("omnipaxos_stored_idx", "Length of the log as the storage holds it.", |status| {
            status.stored_idx
        }),
        count(
            "omnipaxos_compacted_idx",
            "Entries trimmed or replaced by a snapshot here.",
            |status| status.compacted_idx,
        ),
        count(
            "omnipaxos_undecided_entries",
            "Entries of the log here that are not known to be decided.",
            |status| status.accepted_idx.saturating_sub(status.decided_idx),
        ),
        count(
            "omnipaxos_waiting_entries",
            "Proposals that wait here for a leader, a full batch, or room in the log.",
            |status| status.waiting.entries,
        ),
        bytes("omnipaxos_waiting_bytes", "Size of the proposals that wait here.", |status| {
            status.waiting.bytes
        }),
        count(
            "omnipaxos_pending_entries",
            "Proposals of this server that are kept until they are decided.",
            |status| status.pending.entries,
        ),
        bytes("omnipaxos_pending_bytes", "Size of the proposals that are kept.", |status| {
            status.pending.bytes
        }),
        count(
            "omnipaxos_max_pending_entries",
            "The largest number of proposals that wait or are kept.",
            |status| status.limits.waiting.entries,
        ),
        bytes(
            "omnipaxos_max_pending_bytes",
            "The largest size of the proposals that wait or are kept.",
            |status| status.limits.waiting.bytes,
        ),
        count(
            "omnipaxos_conflicts",
            "Recent conflicts with other servers over configurations or storages.",
            |status| status.conflicts.len() as u64,
        ),
        count(
            "omnipaxos_entries_lost",
            "1 if the leader lacks entries that are decided here, else 0.",
            |status| status.lost.is_some().into(),
        ),
        count(
            "omnipaxos_is_reconfigured",
            "1 if a stop sign is decided here: the configuration has ended; else 0.",
            |status| status.next_configuration_id.is_some().into(),
        ),
        count(
            "omnipaxos_knows_higher_configuration",
            "1 if a member has reported a higher configuration, else 0.",
            |status| status.higher_configuration.is_some().into(),
        ),
        count("omnipaxos_configuration_id", "The present configuration.", |status| {
            status.configuration_id.into()
        }),
        count(
            "omnipaxos_epoch_idx",
            "The index at which the present configuration begins in a log that continues.",
            |status| status.epoch_idx.unwrap_or(0),
        ),
        count(
            "omnipaxos_kept_epochs",
            "Epochs of a log that continues, from the one of the compacted index on.",
            |status| status.kept_epochs.unwrap_or(0),
        ),
        count(
            "omnipaxos_joiners",
            "Servers that have not caught up and for which a change of members proposed here waits.",
            |status| joiners(status).count() as u64,
        ),
        count(
            "omnipaxos_joiner_lag_entries",
            "Entries decided here that the slowest of these servers lacks.",
            |status| joiners(status).map(|joiner| joiner.lag).max().unwrap_or(0),
        ),
        count("omnipaxos_is_retired", "1 if this server was removed, else 0.", |status| {
            status.may_stop.is_some().into()
        }),
        count(
            "omnipaxos_may_stop",
            "1 if this server was removed and may be stopped for good, else 0.",
            |status| (status.may_stop == Some(true)).into(),
        ),
    ];

    /// Returns the servers for which a change of members still waits.
    fn joiners(status: &Status) -> impl Iterator<Item = &JoinerStatus> {
        status.joiners.iter().filter(|joiner| !joiner.has_caught_up)
    }

    /// A gauge: 1 with the label of the server's role, 0 with the labels of other roles.
    const ROLE: &str = "omnipaxos_role";
    const ROLES: [Role; 7] = [
        Role::Recovering,
        Role::Promised,
        Role::Following,
        Role::Preparing,
        Role::Leading,
        Role::Observing,
        Role::Halted,
    ];

    /// Gauges of another server.
    const OF_PEER: [Metric<PeerStatus>; 5] = [
        count(
            "omnipaxos_peer_answers",
            "1 if the peer answered the last heartbeat round, else 0.",
            |peer| peer.answered().into(),
        ),
        count(
            "omnipaxos_follower_replicating",
            "1 if the peer is a follower of this server in the accept phase, else 0.",
            |peer| of_follower(peer, |follower| (follower.stage == Stage::Replicating).into()),
        ),
        count(
            "omnipaxos_follower_lag_entries",
            "Entries of this leader's log that the peer has not acknowledged.",
            |peer| of_follower(peer, |follower| follower.lag),
        ),
        count(
            "omnipaxos_follower_in_flight_entries",
            "Entries sent to the peer and neither acknowledged nor considered lost.",
            |peer| of_follower(peer, |follower| follower.in_flight.entries),
        ),
        bytes(
            "omnipaxos_follower_in_flight_bytes",
            "Size of what is in flight to the peer.",
            |peer| of_follower(peer, |follower| follower.in_flight.bytes),
        ),
    ];

    /// Returns 0 if this server does not lead: a gauge cannot be withdrawn, and would keep the
    /// value of the time when it led.
    fn of_follower(peer: &PeerStatus, value: fn(&FollowerStatus) -> u64) -> u64 {
        peer.follower.as_ref().map_or(0, value)
    }

    /// The counter of messages, with a label for the reason.
    const DROPPED_MESSAGES: &str = "omnipaxos_dropped_messages_total";
    const DROPPED_PROPOSALS: &str = "omnipaxos_dropped_proposals_total";
    const UNSTORABLE_PROPOSALS: &str = "omnipaxos_unstorable_proposals_total";

    pub(super) fn describe() {
        OF_SERVER.iter().for_each(describe_gauge);
        OF_PEER.iter().for_each(describe_gauge);
        let role = "1 with the role that the server plays, 0 with all others.";
        metrics::describe_gauge!(ROLE, Unit::Count, role);
        let messages = "Messages dropped by validation, by reason.";
        metrics::describe_counter!(DROPPED_MESSAGES, Unit::Count, messages);
        let proposals = "Proposals dropped for lack of room.";
        metrics::describe_counter!(DROPPED_PROPOSALS, Unit::Count, proposals);
        let unstorable = "Entries and stop signs dropped since they cannot be stored.";
        metrics::describe_counter!(UNSTORABLE_PROPOSALS, Unit::Count, unstorable);
    }

    fn describe_gauge<S>(metric: &Metric<S>) {
        metrics::describe_gauge!(metric.name, metric.unit, metric.meaning);
    }

    pub(super) fn record(status: &Status) {
        let of_server = Labels::of(status);
        for metric in &OF_SERVER {
            set(metric.name, of_server.all(), (metric.value)(status));
        }
        for role in ROLES {
            set(ROLE, of_server.and("role", role_label(role)), (role == status.role).into());
        }
        for peer in &status.peers {
            let of_peer = Labels(of_server.and("peer", shared(peer.pid)));
            for metric in &OF_PEER {
                set(metric.name, of_peer.all(), (metric.value)(peer));
            }
        }
        let Dropped {
            misdelivered,
            from_strangers,
            of_other_configurations,
            of_conflicting_configurations,
            of_other_storages,
            of_unknown_storages,
            malformed,
            proposals,
            unstorable,
            undecodable_snapshots,
            oversized_snapshots,
        } = status.dropped;
        for (reason, number) in [
            ("misdelivered", misdelivered),
            ("from_strangers", from_strangers),
            ("of_other_configurations", of_other_configurations),
            ("of_conflicting_configurations", of_conflicting_configurations),
            ("of_other_storages", of_other_storages),
            ("of_unknown_storages", of_unknown_storages),
            ("malformed", malformed),
            ("undecodable_snapshot", undecodable_snapshots),
            ("oversized_snapshot", oversized_snapshots),
        ] {
            let labels = of_server.and("reason", reason.into());
            metrics::counter!(DROPPED_MESSAGES, labels).absolute(number);
        }
        metrics::counter!(DROPPED_PROPOSALS, of_server.all()).absolute(proposals);
        metrics::counter!(UNSTORABLE_PROPOSALS, of_server.all()).absolute(unstorable);
    }

    /// A gauge cannot be withdrawn, and would keep the value of the last epoch with the peer. Only a log
    /// that continues loses peers.
    pub(super) fn clear_peers(pid: NodeId, left: impl IntoIterator<Item = NodeId>) {
        let of_server = Labels::in_all_epochs(pid);
        for peer in left {
            let of_peer = Labels(of_server.and("peer", shared(peer)));
            for metric in &OF_PEER {
                set(metric.name, of_peer.all(), 0);
            }
        }
    }

    /// Sets a gauge. Its value is an `f64`, which is exact up to 2^53.
    fn set(name: &'static str, labels: Vec<Label>, value: u64) {
        metrics::gauge!(name, labels).set(value as f64);
    }

    /// Returns the label of a role. A new role has to be in `ROLES`, too.
    fn role_label(role: Role) -> SharedString {
        SharedString::const_str(match role {
            Role::Recovering => "recovering",
            Role::Promised => "promised",
            Role::Following => "following",
            Role::Preparing => "preparing",
            Role::Leading => "leading",
            Role::Observing => "observing",
            Role::Halted => "halted",
        })
    }

    /// The labels that several metrics share.
    struct Labels(Vec<Label>);

    impl Labels {
        /// Where a log ends with its configuration, the next one has a replica and metrics of its own.
        fn of(status: &Status) -> Self {
            let mut labels = Self::in_all_epochs(status.pid);
            if status.kept_epochs.is_none() {
                let configuration_id = shared(status.configuration_id);
                labels.0.push(Label::new("configuration_id", configuration_id));
            }
            labels
        }

        /// Where the log continues, so do the metrics: another label would begin others, and leave
        /// the present ones with their last values.
        fn in_all_epochs(pid: NodeId) -> Self {
            Self(vec![Label::new("pid", shared(pid))])
        }

        fn all(&self) -> Vec<Label> {
            self.0.clone()
        }

        fn and(&self, key: &'static str, value: SharedString) -> Vec<Label> {
            self.0.iter().cloned().chain([Label::new(key, value)]).collect()
        }
    }

    /// Returns the text of a number. Copies of it are cheap.
    fn shared(number: impl ToString) -> SharedString {
        SharedString::from_shared(Arc::from(number.to_string()))
    }

    #[cfg(test)]
    mod tests {
        use super::{Dropped, FollowerStatus, JoinerStatus, PeerStatus, Role, Stage, Status};
        use crate::{
            ballot::Ballot,
            messages::ballot_leader_election::HeartbeatReply,
            observe::status::{CatchUpStatus, HigherConfiguration, Limits, Load, ObserverStatus},
        };
        use metrics_util::debugging::{DebugValue, DebuggingRecorder};

        /// A status in which no two numbers are the same.
        fn status() -> Status {
            let load = |entries| Load { entries, bytes: entries * 100 };
            let ballot = Ballot::with(4, 30, 0, 2);
            let heartbeat = HeartbeatReply { round: 1, ballot, leader: ballot, happy: true };
            let follower = FollowerStatus {
                stage: Stage::Replicating,
                accepted_idx: 41,
                decided_idx: 40,
                lag: 6,
                in_flight: load(5),
            };
            let behind = FollowerStatus { stage: Stage::Syncing, lag: 47, ..follower };
            let joiner = |lag, has_caught_up| JoinerStatus {
                pid: lag,
                decided_idx: None,
                lag,
                has_caught_up,
            };
            Status {
                nodes: Vec::new(),
                flexible_quorum: None,
                epoch_idx: Some(17),
                kept_epochs: None,
                may_stop: Some(true),
                joiners: vec![joiner(18, false), joiner(19, false), joiner(22, true)],
                pid: 2,
                configuration_id: 4,
                role: Role::Leading,
                ballot,
                promise: Ballot::with(4, 31, 0, 2),
                leader: Some(2),
                decided_idx: 39,
                accepted_idx: 47,
                stored_idx: 45,
                compacted_idx: 20,
                applied_idx: 0,
                next_configuration_id: None,
                higher_configuration: Some(HigherConfiguration {
                    configuration_id: 5,
                    reported_by: 1,
                }),
                peers: vec![
                    PeerStatus {
                        pid: 1,
                        heartbeat: Some(heartbeat),
                        follower: Some(follower),
                        applied_idx: None,
                    },
                    PeerStatus {
                        pid: 9,
                        heartbeat: None,
                        follower: Some(behind),
                        applied_idx: None,
                    },
                ],
                waiting: load(3),
                pending: load(7),
                conflicts: vec![],
                lost: None,
                observers: vec![
                    ObserverStatus { pid: 7, via: 7, decided_idx: 36, lag: 3 },
                    ObserverStatus { pid: 8, via: 7, decided_idx: 10, lag: 29 },
                ],
                trimmed_at_source: None,
                catch_up: CatchUpStatus::default(),
                limits: Limits {
                    message: load(50),
                    in_flight: load(60),
                    waiting: load(70),
                    snapshot_bytes: 80,
                },
                dropped: Dropped {
                    misdelivered: 81,
                    from_strangers: 82,
                    of_other_configurations: 83,
                    of_conflicting_configurations: 86,
                    of_other_storages: 87,
                    of_unknown_storages: 88,
                    malformed: 84,
                    proposals: 85,
                    unstorable: 86,
                    undecodable_snapshots: 87,
                    oversized_snapshots: 90,
                },
            }
        }

        /// Of server 2 in configuration 4.
        const OF_A_LEADER: &str = "
accepted_idx 47
compacted_idx 20
configuration_id 4
conflicts 0
decided_idx 39
dropped_messages_total reason=from_strangers 82
dropped_messages_total reason=malformed 84
dropped_messages_total reason=misdelivered 81
dropped_messages_total reason=of_conflicting_configurations 86
dropped_messages_total reason=of_other_configurations 83
dropped_messages_total reason=of_other_storages 87
dropped_messages_total reason=of_unknown_storages 88
dropped_messages_total reason=oversized_snapshot 90
dropped_messages_total reason=undecodable_snapshot 87
dropped_proposals_total 85
entries_lost 0
epoch_idx 17
follower_in_flight_bytes peer=1 500
follower_in_flight_bytes peer=9 500
follower_in_flight_entries peer=1 5
follower_in_flight_entries peer=9 5
follower_lag_entries peer=1 6
follower_lag_entries peer=9 47
follower_replicating peer=1 1
follower_replicating peer=9 0
has_leader 1
is_reconfigured 0
is_retired 1
joiner_lag_entries 19
joiners 2
kept_epochs 0
knows_higher_configuration 1
max_pending_bytes 7000
max_pending_entries 70
may_stop 1
observer_lag_entries 29
observers 2
peer_answers peer=1 1
peer_answers peer=9 0
pending_bytes 700
pending_entries 7
promised_ballot_number 31
role role=following 0
role role=halted 0
role role=leading 1
role role=observing 0
role role=preparing 0
role role=promised 0
role role=recovering 0
stored_idx 45
undecided_entries 8
unstorable_proposals_total 86
waiting_bytes 300
waiting_entries 3";

        /// A line each, without what all begin with.
        fn taken(recorder: &DebuggingRecorder) -> Vec<String> {
            let metrics = recorder.snapshotter().snapshot().into_vec().into_iter();
            let mut lines: Vec<String> = metrics
                .map(|(key, _, _, value)| {
                    let labels: Vec<String> =
                        key.key().labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
                    let (own, more) = labels.split_at(2);
                    assert_eq!(own, ["pid=2", "configuration_id=4"]);
                    let value = match value {
                        DebugValue::Counter(number) => number.to_string(),
                        DebugValue::Gauge(number) => number.to_string(),
                        DebugValue::Histogram(_) => panic!("there are no histograms"),
                    };
                    let name = key.key().name().strip_prefix("omnipaxos_").unwrap();
                    [&[name.to_string()], more, &[value]].concat().join(" ")
                })
                .collect();
            lines.sort();
            lines
        }

        #[test]
        fn every_number_has_its_place() {
            let recorder = DebuggingRecorder::new();
            metrics::with_local_recorder(&recorder, || super::record(&status()));
            let expected: Vec<&str> = OF_A_LEADER.trim().lines().collect();
            assert_eq!(taken(&recorder), expected);
        }

        #[test]
        fn what_a_leader_knew_of_its_followers_does_not_stay() {
            let recorder = DebuggingRecorder::new();
            metrics::with_local_recorder(&recorder, || {
                super::record(&status());
                let mut overtaken = status();
                overtaken.role = Role::Recovering;
                overtaken.leader = None;
                overtaken.next_configuration_id = Some(6);
                overtaken.peers.iter_mut().for_each(|peer| peer.follower = None);
                super::record(&overtaken);
            });
            let lines = taken(&recorder);
            let of_followers = lines.iter().filter(|line| line.starts_with("follower_"));
            assert!(of_followers.clone().all(|line| line.ends_with(" 0")), "{lines:?}");
            assert_eq!(of_followers.count(), 8);
            for line in [
                "has_leader 0",
                "is_reconfigured 1",
                "role role=leading 0",
                "role role=recovering 1",
            ] {
                assert!(lines.iter().any(|other| other == line), "{line} is not in {lines:?}");
            }
        }
    }
}
