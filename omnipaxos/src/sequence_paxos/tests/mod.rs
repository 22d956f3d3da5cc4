//! The notation of the tables in the `tests` modules. A row has a state, inputs, and the state and the
//! messages that follow from them.
//!
//! Server 1 is tested. The others are 2 and 3 unless a [`Table`] says otherwise. A row has four cells:
//!
//! ```text
//! given               | input                       | then
//!                     | sends
//! following 4.2 ABc   | 2: AcceptDecide 4.2 at=3 +d | following 4.2 ABcd
//!                     | 2: Accepted 4.2 len=4 dec=2
//! ```
//!
//! - An empty `given` repeats that of the row above. In `then`, `same` repeats `given`.
//! - A row may have several lines. Each but the first begins with `|` or `;`. A line that begins with
//!   `#` is a comment.
//! - `;` separates inputs, and messages. All messages of a row are of one output, after its inputs.
//! - `2: Prepare ...` is a message from server 2 in `input`, and a message to server 2 in `sends`.
//! - `4.2` is the ballot with number 4 of server 2. `0` is the ballot without an owner.
//! - A log has a letter for each entry, in upper case if the entry is decided. `$` is a stop sign, `!` a
//!   decided stop sign. `_` is an entry that was trimmed, `*` an entry that a snapshot stands for. `-` is
//!   an empty log.
//! - `len` is the length of a log, `dec` a number of decided entries, `na` an accepted round, and `at` the
//!   index of the first of the entries that follow on `+`.
//! - `piece=4:abcd half=1` is the first half of the bytes `abcd`, which are a snapshot of 4 entries; `bytes=1-3`
//!   are two of them. `digest=7` is their digest if it is a wrong one. `coded` encodes the bytes, so that they
//!   can be decoded here. Of a piece that is sent the number of entries is shown.
//! - `present` is the stamp of a sender that is in the epoch of this server.
//! - A key whose number is 0 is left out, and a key whose ballot has no owner.
//!
//! A state is a [role](State), the promise, the accepted round where it may differ, and the log:
//!
//! ```text
//! recovering 4.2 3.3 ABc
//! promised 4.2 3.3 ABc
//! following 4.2 ABc
//! preparing 4.1 3.3 ABc 2:promised     server 2 has promised
//! leading 4.1 ABc 2:3/2 3:sync         server 2 has acknowledged 3 entries, and that 2 are decided;
//!                                      an AcceptSync was sent to server 3
//! ```
//!
//! `waits=2` follows if two proposals wait, and `pending=2` if two proposals with ids have not ended.
//!
//! [`Server::act`] has the inputs that are no messages. `sends` begins with what they return, and ends
//! with what the user and the election learn. After the input `watch`, it also has what was written.

mod disk;
mod notation;
mod state;

use self::{
    disk::{letters, stopsign_with, Disk, Encoded, Letter, Letters},
    notation::{
        ballot, number, refused, shown, shown_ballot, shown_entry, shown_id, shown_outcome,
        variant, Fields,
    },
};
use super::{Contact, LeaderRound, LeadershipChange, Relay, SequencePaxos};
use crate::{
    ballot::Ballot,
    config::{ClusterConfig, OmniPaxosConfig, ServerConfig},
    members::MemberChange,
    messages::{sequence_paxos::PaxosMessage, Message},
    observe::trace::Trace,
    reads::{ReadId, ReadState},
    replica_log::ReplicaLog,
    storage::{Epoch, StopSign},
};
use std::{
    fmt::Write,
    sync::{Arc, Mutex},
};

/// The configuration of the server under test.
#[derive(Clone, Debug)]
pub(super) struct Table {
    config: OmniPaxosConfig,
}

/// A message of the server under test.
fn sent(message: Message<Letter>) -> String {
    let Message::SequencePaxos(PaxosMessage { from: 1, to, msg }) = message else {
        panic!("{message:?} is of another part, or of another server");
    };
    format!("{to}: {}", shown(&msg))
}

/// A cell with single spaces.
fn trimmed(cell: &str) -> String {
    cell.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Table {
    /// Server 1 of the servers 1, 2 and 3, in its incarnation 7.
    pub(super) fn new() -> Self {
        let (configuration_id, nodes) = (1, vec![1, 2, 3]);
        let cluster_config = ClusterConfig { configuration_id, nodes, flexible_quorum: None };
        let server_config =
            ServerConfig { pid: 1, incarnation: Some(7), ..ServerConfig::default() };
        Self { config: OmniPaxosConfig { cluster_config, server_config } }
    }

    /// As [`new`](Self::new), with another configuration.
    pub(super) fn with(change: impl FnOnce(&mut OmniPaxosConfig)) -> Self {
        let mut table = Self::new();
        change(&mut table.config);
        table.config.validate().unwrap();
        table
    }

    /// Checks each row of a table.
    pub(super) fn check(&self, table: &str) {
        let mut rows: Vec<String> = Vec::new();
        for line in table.lines().map(str::trim) {
            match (line.strip_prefix('|'), rows.last_mut()) {
                _ if line.is_empty() || line.starts_with('#') => {}
                (None, Some(row)) if line.starts_with(';') => row.push_str(line),
                (Some(rest), Some(row)) if row.matches('|').count() < 3 => {
                    row.push('|');
                    row.push_str(rest);
                }
                _ => rows.push(line.to_string()),
            }
        }
        let (mut given, mut wrong) = (String::new(), String::new());
        for row in rows {
            let cells: Vec<String> = row.split('|').map(trimmed).collect();
            let [first, input, then, sends] = &cells[..] else {
                panic!("a row has four cells: {row}");
            };
            if !first.is_empty() {
                given.clone_from(first);
            }
            let mut server = self.server(&given);
            server.input(input);
            let (found_sends, found_then) = (server.output(), server.state());
            let then = if then == "same" { &given } else { then };
            if (then, sends) != (&found_then, &found_sends) {
                let _ = write!(wrong, "\n{given} | {input}\n  expected | {then} | {sends}");
                let _ = write!(wrong, "\n  found    | {found_then} | {found_sends}");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    /// The server in a state, with nothing due.
    fn server(&self, given: &str) -> Server {
        let words: Vec<&str> = given.split_whitespace().collect();
        let (role, n) = (words[0], ballot(words[1]));
        let (log, followers) = match role {
            "following" | "leading" => (words[2], &words[3..]),
            _ => (words[3], &words[4..]),
        };
        let below = Ballot { n: n.n.saturating_sub(1), ..n };
        let before = if below.n == 0 { Ballot::default() } else { below };
        let (promise, accepted_round) = match role {
            "recovering" => (n, ballot(words[2])),
            "following" => (n, n),
            "promised" | "preparing" => (ballot(words[2]), ballot(words[2])),
            "leading" => (before, before),
            _ => panic!("`{role}` is no role"),
        };
        let disk = Disk::holding(promise, accepted_round, log);
        let mut server = self.restart(disk);
        let (len, decided_idx) = (server.paxos.log.len(), server.paxos.log.decided_idx());
        match role {
            "following" => server.input(&format!("{}: Decide {}", n.pid, words[1])),
            "promised" => {
                let na = words[2];
                let says = format!("Prepare {} na={na} len={len} dec={decided_idx}", words[1]);
                server.input(&format!("{}: {says}", n.pid));
            }
            "preparing" | "leading" => {
                server.input(&format!("elected {}", words[1]));
                server.output();
                server.settle_followers(words[1], followers);
            }
            _ => {}
        }
        server.output();
        assert_eq!(server.state(), trimmed(given), "the state that was made of what is given");
        server
    }

    fn restart(&self, disk: Disk) -> Server {
        let (written, encoded) = (disk.written.clone(), disk.encoded.clone());
        let mut log = ReplicaLog::load(disk).unwrap();
        let mut config = self.config.clone();
        if config.server_config.continues {
            let stored = log.stored_epochs().unwrap().unwrap();
            if let Some(present) = stored.last() {
                config.cluster_config = present.configuration.clone();
            }
            let founding = Epoch::new(0, config.cluster_config.clone(), None);
            let is_founded = !stored.is_empty() || config.learns_members();
            let founding = (!is_founded).then_some(founding);
            log.set_continues(stored, founding).unwrap();
        }
        let incarnation = log.begin_incarnation(config.server_config.incarnation).unwrap();
        let trace = Trace::new(&config.server_config).unwrap();
        let members = Arc::new(config.membership());
        let mut paxos = SequencePaxos::new(&config, members.clone(), log, incarnation, trace);
        members.peers().iter().for_each(|peer| paxos.note_reachable(*peer));
        let (table, answers) = (self.clone(), Vec::new());
        let mut server = Server {
            table,
            paxos,
            answers,
            written,
            encoded,
            shows_writes: false,
            leader_round: 0,
        };
        server.output();
        server
    }
}

/// The server under test.
struct Server {
    table: Table,
    paxos: SequencePaxos<Letter, Disk>,
    /// What the inputs returned.
    answers: Vec<String>,
    /// The writes, one line for each.
    written: Arc<Mutex<Vec<String>>>,
    /// What the storage does with encoded snapshots.
    encoded: Arc<Mutex<Encoded>>,
    /// Whether the next outputs show them.
    shows_writes: bool,
    /// The round of the leader that it has reported last.
    leader_round: u32,
}

impl Server {
    /// Lets the followers of a leader of ballot `n` be as far as `given` says.
    fn settle_followers(&mut self, n: &str, given: &[&str]) {
        let compacted = self.paxos.log.compacted_idx();
        let split = |word: &str| {
            let (pid, stage) = word.split_once(':').unwrap();
            let acknowledged = stage.split_once('/').map(|(a, d)| (number(a), number(d)));
            (number(pid), acknowledged)
        };
        for (pid, acknowledged) in given.iter().map(|word| split(word)) {
            let decided = acknowledged.map_or(0, |(_, decided)| decided).max(compacted);
            self.input(&format!("{pid}: Promise {n} len={decided} dec={decided}"));
        }
        self.output();
        for (pid, acknowledged) in given.iter().map(|word| split(word)) {
            if let Some((accepted, decided)) = acknowledged {
                self.input(&format!("{pid}: Accepted {n} len={accepted} dec={decided}"));
            }
        }
    }

    fn input(&mut self, inputs: &str) {
        for input in inputs.split(';').map(str::trim).filter(|input| !input.is_empty()) {
            match input.split_once(": ") {
                Some((from, text)) => {
                    let (from, msg) = (number(from), Fields::of(text).message());
                    self.paxos.handle(PaxosMessage { from, to: 1, msg }).unwrap();
                }
                None => self.act(input),
            }
            self.paxos.check_invariants();
        }
    }

    /// What is no message.
    fn act(&mut self, input: &str) {
        let words: Vec<&str> = input.split_whitespace().collect();
        match words[..] {
            // Drops the messages of the steps before.
            ["output"] => drop(self.output()),
            // Shows the messages that leave before the next write, and what has ended.
            ["early"] => {
                let mut messages = Vec::new();
                self.paxos.early_output(&mut messages).unwrap();
                let early = messages.into_iter().map(|message| format!("early {}", sent(message)));
                self.answers.extend(early);
                self.show_outcomes();
            }
            // The election names the owner of a ballot.
            ["elected", n] => self.paxos.handle_elected(ballot(n)).unwrap(),
            // Proposes entries at this server.
            ["append", entries] => {
                for entry in letters(entries) {
                    let answer = self.paxos.append(entry);
                    self.answers.extend(answer.err().map(refused));
                }
            }
            ["propose", entries] => {
                for entry in letters(entries) {
                    let answer = self.paxos.propose(entry);
                    self.answers.push(answer.map_or_else(refused, shown_id));
                }
            }
            // Shows what is written from here on.
            ["watch"] => {
                self.written.lock().unwrap().clear();
                self.shows_writes = true;
            }
            // The storage has the bytes of a snapshot that stands for this number of entries.
            ["durable", idx] => self.encoded.lock().unwrap().durable_idx = Some(number(idx)),
            // The storage receives snapshots in parts.
            ["receiver"] => self.encoded.lock().unwrap().is_receiver = true,
            [pace @ ("slow" | "quick")] => self.encoded.lock().unwrap().is_slow = pace == "slow",
            // What the storage has received is written and decoded.
            ["decoded"] => self.encoded.lock().unwrap().is_ready = true,
            // The user wants all changes written.
            ["flush"] => {
                self.paxos.schedule_decided_idx();
                self.paxos.flush_and_decide().unwrap();
            }
            // Proposes the next configuration, with an answer if it ends or with metadata.
            ["reconfigure", ref words @ ..] => {
                let metadata = words.iter().find_map(|word| word.strip_prefix("metadata="));
                let StopSign { next_config, metadata } = stopsign_with(metadata);
                let answer = match words.contains(&"id") {
                    true => {
                        let change = MemberChange { metadata, ..MemberChange::default() };
                        let answer = self.paxos.propose_reconfiguration(next_config, change);
                        answer.map(|id| Some(shown_id(id))).map_err(|err| variant(&err))
                    }
                    false => {
                        let answer = self.paxos.reconfigure(next_config, metadata);
                        answer.map(|()| None).map_err(|err| variant(&err))
                    }
                };
                self.answers.extend(answer.unwrap_or_else(Some));
            }
            // The largest entry that the storage of this server can hold.
            ["limit"] => self.answers.push(match self.paxos.own_max_entry_bytes() {
                u64::MAX => "no limit".to_string(),
                limit => format!("limit {limit}"),
            }),
            // The largest entry that the storage of a peer can hold.
            ["limit", pid, limit] => self.paxos.handle_max_entry_bytes(number(pid), number(limit)),
            // How many entries and stop signs were dropped: those that cannot be stored, and others.
            ["dropped"] => {
                let (unstorable, others) =
                    (self.paxos.dropped_unstorable(), self.paxos.dropped_proposals());
                self.answers.push(format!("dropped {unstorable} and {others}"));
            }
            // Whether an output does nothing.
            ["urgency"] => {
                self.answers.push(format!("urgency: {:?}", self.paxos.write_urgency()));
            }
            ["silent"] => self.answers.push(format!("silent: {}", self.paxos.is_silent())),
            // After how many ticks one does something.
            ["timeout"] => self.answers.push(match self.paxos.next_timeout() {
                u64::MAX => "no timeout".to_string(),
                ticks => format!("timeout {ticks}"),
            }),
            // The status, where the election knows a leader.
            ["status", leader] => {
                let leader = Some(ballot(leader)).filter(|leader| leader.n > 0);
                let (role, readiness) = (self.paxos.role(), self.paxos.readiness(leader));
                self.answers.push(format!("{} {}", variant(&role), variant(&readiness)));
            }
            ["pass", ticks] => self.paxos.pass(number(ticks)),
            // Whether the election has news for this server.
            ["news", n] => {
                let (is_settled, is_news) =
                    (self.paxos.is_settled_on(ballot(n)), self.paxos.is_news(ballot(n)));
                self.answers.push(match (is_settled, is_news) {
                    (true, false) => "settled".to_string(),
                    (false, true) => "news".to_string(),
                    (false, false) => "neither".to_string(),
                    (true, true) => "both".to_string(),
                });
            }
            // Whether it leads and has decided something in its ballot.
            ["success"] => {
                self.answers.push(format!("success: {}", self.paxos.has_decided_as_leader()));
            }
            ["read"] => {
                let answer = self.paxos.request_read();
                let answer = answer.map(|id| format!("read {}", id.number()));
                self.answers.push(answer.unwrap_or_else(|err| variant(&err)));
            }
            // What is known of a read.
            ["state", read] => {
                let state = self.paxos.read_state(ReadId::new(number(read)));
                self.answers.push(match state {
                    ReadState::Waiting => "waiting".to_string(),
                    ReadState::Ready(idx) => format!("ready at {idx}"),
                    ReadState::Refused(reason) => variant(&reason),
                });
            }
            // The latest read that can be served.
            ["ready"] => {
                let ready = self.paxos.ready_read();
                let ready = ready.map(|id| format!("up to {}", id.number()));
                self.answers.push(ready.unwrap_or("none".to_string()));
            }
            // A leader that lacks entries which are decided here.
            ["loss"] => {
                let loss = self.paxos.loss().map(|lost| {
                    let (has, decided) = (lost.leader_idx, lost.decided_idx);
                    format!("{has} of {decided} at {}", shown_ballot(lost.leader))
                });
                self.answers.push(loss.unwrap_or("none".to_string()));
            }
            // A heartbeat round ends, which these answered, or all peers.
            ["round", ref rest @ ..] => {
                let all: Vec<u64> = self.paxos.members.peers().to_vec();
                let some: Vec<u64> = rest.iter().filter_map(|word| word.parse().ok()).collect();
                let is_contact = |word: &&str| ["lost", "unheard", "still"].contains(word);
                let answered = if rest.iter().all(is_contact) { all } else { some };
                let contact = match rest.contains(&"unheard") {
                    true => Contact::Unheard,
                    false if rest.contains(&"lost") => Contact::Lost,
                    false => Contact::Kept,
                };
                let via = rest.iter().find_map(|word| word.strip_prefix("via="));
                let relay = via.zip(self.paxos.leader_ballot());
                let relay = relay.map(|(via, leader)| Relay { leader, peer: number(via) });
                // The clock of the leader may stand still.
                self.leader_round += u32::from(!rest.contains(&"still"));
                let (leader, round) = (self.paxos.log.promise(), self.leader_round);
                let reported = LeaderRound { leader, round };
                let reported = (contact == Contact::Kept).then_some(reported);
                self.paxos.end_round(|pid| answered.contains(&pid), contact, reported, relay);
            }
            // Another heartbeat request leaves in the round: to all, or to one.
            ["request"] => self.paxos.repeat_with_request(),
            ["request", pid] => self.paxos.repeat_with_request_to(number(pid)),
            ["tick"] => self.paxos.tick(|_| true),
            ["resend"] => self.paxos.resend_to_all(|_| true),
            ["reconnected", pid] => self.paxos.reconnected(number(pid)),
            // A leader that did not answer sends a heartbeat request.
            ["asked", pid] => self.paxos.asked_by_silent(number(pid)),
            ["trim", ref idx @ ..] => {
                let idx = idx.first().map(|idx| number(idx));
                let answer = self.paxos.trim(idx);
                self.answers.extend(answer.err().map(|err| err.to_string()));
            }
            ["snapshot", idx, ref rest @ ..] => {
                let answer = self.paxos.snapshot(Some(number(idx)), rest == ["local"]);
                self.answers.extend(answer.err().map(|err| err.to_string()));
            }
            ["snapshot"] => self.paxos.snapshot(None, false).unwrap(),
            // The application made a snapshot.
            ["compact_with", idx, text] => {
                let answer = self.paxos.compact_with(number(idx), Letters(text.to_string()));
                self.answers.extend(answer.err().map(|err| err.to_string()));
            }
            // The application has applied entries.
            ["applied", idx] => {
                let answer = self.paxos.record_applied(number(idx));
                self.answers.extend(answer.err().map(|err| err.to_string()));
            }
            // What the applications are known to have applied: here, and at the peers.
            ["applied"] => {
                let own = self.paxos.applied_idx();
                let peers = self.paxos.members.peers().iter();
                let of_peers: Vec<String> = peers
                    .map(|pid| match self.paxos.applied_idx_of(*pid) {
                        Some(idx) => format!(" {pid}:{idx}"),
                        None => format!(" {pid}:?"),
                    })
                    .collect();
                self.answers.push(format!("applied {own}{}", of_peers.concat()));
            }
            // The user reads the log.
            ["log", from, to] => {
                let log = self.paxos.log().read(number(from), number(to)).unwrap();
                let log = log.map(|log| log.iter().map(shown_entry).collect::<String>());
                self.answers.push(log.unwrap_or("none".to_string()));
            }
            // The same, once the storage has failed.
            ["halted", from, to] => {
                let log = self.paxos.log().read_halted(number(from), number(to)).unwrap();
                let log = log.map(|log| log.iter().map(shown_entry).collect::<String>());
                self.answers.push(log.unwrap_or("none".to_string()));
            }
            ["entry", idx] => {
                let entry = self.paxos.log().read_one(number(idx)).unwrap();
                self.answers.push(entry.as_ref().map_or("none".to_string(), shown_entry));
            }
            // The observers that are served here, and what the sources of this one have trimmed.
            ["observers"] => {
                let all = self.paxos.observers();
                assert!(self.paxos.observer_pids().eq(all.iter().map(|one| one.pid)));
                let all = all.into_iter();
                let all =
                    all.map(|one| format!(" {}:{} through {}", one.pid, one.decided_idx, one.via));
                self.answers.push(format!("observers{}", all.collect::<String>()));
            }
            ["forget"] => self.paxos.forget_observers(|_| false),
            // How many snapshots in pieces were refused.
            ["snapshots"] => {
                let (undecodable, oversized) =
                    (self.paxos.undecodable_snapshots(), self.paxos.oversized_snapshots());
                self.answers.push(format!("{undecodable} undecodable, {oversized} oversized"));
            }
            ["trimmed"] => {
                let idx = self.paxos.trimmed_at_source();
                self.answers
                    .push(idx.map_or("none".to_string(), |idx| format!("trimmed at {idx}")));
            }
            // What is known of a server, and of the place of this one.
            ["knows", pid] => {
                let (is_peer, is_member) =
                    (self.paxos.is_peer(number(pid)), self.paxos.is_member(number(pid)));
                let (is_alone, leader) =
                    (self.paxos.reaches_no_peer(), self.paxos.leader_in_step());
                let leader = leader.map_or("nobody".to_string(), |pid| pid.to_string());
                self.answers.push(format!(
                    "peer: {is_peer}, member: {is_member}, alone: {is_alone}, in step with {leader}"
                ));
            }
            // It takes over in the epoch that this server has begun.
            ["successor", pid] => self.paxos.ask_for_leader(number(pid)),
            // What is held to catch up, or for servers that catch up.
            ["held"] => {
                let held = self.paxos.catch_up_status();
                let (early, partial, encoded) =
                    (held.early.entries, held.partial_snapshot_bytes, held.encoded_snapshot_bytes);
                self.answers
                    .push(format!("held {early} early, {partial} partial, {encoded} encoded"));
            }
            // The server stops, and starts with what it has stored.
            ["restart"] => {
                let disk = self.paxos.clone().into_storage();
                *self = self.table.restart(disk);
            }
            // The log has reached the next epoch, and this server begins it: as a member, or, with `observes`, as
            // an observer, though the epoch names it.
            ["epoch", ref role @ ..] => {
                let epoch = self.paxos.due_epoch().expect("a later epoch is reached");
                self.paxos.flush().unwrap();
                let cluster_config = epoch.configuration.clone();
                let server_config = ServerConfig { pid: 1, ..ServerConfig::default() };
                let config = OmniPaxosConfig { cluster_config, server_config };
                let members = match role.is_empty() {
                    true => config.membership(),
                    false => config.membership_of_observer(),
                };
                self.paxos.begin_epoch(&epoch, Arc::new(members)).unwrap();
            }
            // A proposal for which there is no room.
            ["drop"] => self.paxos.drop_proposal(),
            ["batched"] => self.answers.push(format!("batched {}", self.paxos.batched_len())),
            ["transfer", to] => self.paxos.transfer_leadership(number(to), 100, None).unwrap(),
            // To which server leadership is being transferred.
            ["transfer"] => {
                let to = self.paxos.leadership_transfer();
                self.answers.push(to.map_or("no transfer".to_string(), |to| format!("to {to}")));
            }
            _ => panic!("`{input}` is no input"),
        }
    }

    /// What was returned, the messages of an output, and what the user and the election learn.
    fn output(&mut self) -> String {
        let mut messages = Vec::new();
        if self.paxos.is_storing_snapshot() {
            self.paxos.store_snapshot().unwrap();
        }
        let halted = self.paxos.output(&mut messages).is_err();
        let written = std::mem::take(&mut *self.written.lock().unwrap());
        let written = written.into_iter().filter(|_| self.shows_writes);
        self.answers.extend(written.map(|write| format!("wrote {write}")));
        self.answers.extend(messages.into_iter().map(sent));
        self.show_outcomes();
        let mut all = std::mem::take(&mut self.answers);
        let change = self.paxos.take_leadership_change();
        all.extend(change.map(|change| match change {
            LeadershipChange::NotPromised(rounds) => format!("election: leads not for {rounds}"),
            change => format!("election: {}", variant(&change)),
        }));
        all.extend(halted.then(|| "halted".to_string()));
        all.join("; ")
    }

    fn show_outcomes(&mut self) {
        while let Some((id, outcome)) = self.paxos.take_outcome() {
            self.answers.push(format!("{} is {}", shown_id(id), shown_outcome(&outcome)));
        }
    }
}
