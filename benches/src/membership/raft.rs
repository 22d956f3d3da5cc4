//! `raft` 0.7 (TiKV): joint consensus, as its documentation describes, with pre-vote and check-quorum.
//!
//! An operator adds the joiners as learners, waits until they have caught up, and makes them voters
//! in one joint change with the removal of the others. If the leader is to go, the joiners become
//! voters first, then one of them gets the leadership, then the others are removed.

use super::{Changing, ELECTION_TICKS, IN_FLIGHT_BYTES, MESSAGE_BYTES, MOST_MISSING};
use protobuf::Message as _;
use raft::{
    eraftpb::{
        ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType,
        Snapshot,
    },
    storage::MemStorage,
    Config, GetEntriesContext, RaftState, RawNode, StateRole, Storage,
};
use slog::{o, Discard, Logger};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

/// Servers of `raft`.
pub struct Raft {
    servers: BTreeMap<u64, RawNode<Log>>,
    founders: Vec<u64>,
    state_bytes: Option<usize>,
    appended: u64,
}

/// A log in memory. [`MemStorage`] alone copies the whole rest of the log for each message.
#[derive(Clone)]
struct Log(MemStorage);

impl Deref for Log {
    type Target = MemStorage;

    fn deref(&self) -> &MemStorage {
        &self.0
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        self.0.initial_state()
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max_size = max_size.into();
        // An entry is larger than 16 bytes.
        let most = max_size.map_or(u64::MAX, |bytes| bytes / 16 + 1);
        self.0.entries(low, high.min(low.saturating_add(most)), max_size, context)
    }

    fn term(&self, idx: u64) -> raft::Result<u64> {
        self.0.term(idx)
    }

    fn first_index(&self) -> raft::Result<u64> {
        self.0.first_index()
    }

    fn last_index(&self) -> raft::Result<u64> {
        self.0.last_index()
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        self.0.snapshot(request_index, to)
    }
}

fn decode(bytes: &[u8]) -> Message {
    Message::parse_from_bytes(bytes).expect("what was serialised can be deserialised")
}

impl Changing for Raft {
    fn start(founders: &[u64], entries: u64, state_bytes: Option<usize>) -> Self {
        let (servers, founders) = (BTreeMap::new(), founders.to_vec());
        let mut raft = Self { servers, founders: founders.clone(), state_bytes, appended: 0 };
        founders.iter().for_each(|pid| raft.join(*pid));
        raft.server(founders[0]).campaign().expect("a follower may campaign");
        while raft.leader().is_none() {
            raft.pass_tick();
        }
        while raft.appended < entries {
            let leader = raft.leader().expect("no server fails");
            (0..1_000).for_each(|_| raft.append(leader));
            raft.pass_tick();
        }
        for _ in 0..10 * ELECTION_TICKS {
            raft.pass_tick();
        }
        for server in raft.servers.values_mut().filter(|_| state_bytes.is_some()) {
            let applied = server.raft.raft_log.applied();
            server.store().wl().compact(applied).expect("all of it is applied");
        }
        raft
    }

    fn join(&mut self, pid: u64) {
        let config = Config {
            election_tick: ELECTION_TICKS as usize,
            heartbeat_tick: 2,
            max_size_per_msg: MESSAGE_BYTES as u64,
            max_inflight_msgs: IN_FLIGHT_BYTES / MESSAGE_BYTES,
            batch_append: true,
            pre_vote: true,
            check_quorum: true,
            ..Config::new(pid)
        };
        // The first voters are in no entry, so each server begins with them.
        let storage = MemStorage::new_with_conf_state((self.founders.clone(), Vec::new()));
        let node = RawNode::new(&config, Log(storage), &Logger::root(Discard, o!()));
        self.servers.insert(pid, node.expect("the configuration is valid"));
    }

    fn pids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    fn tick(&mut self, pid: u64) {
        self.server(pid).tick();
    }

    fn take(&mut self, pid: u64, send: &mut dyn FnMut(u64, Vec<u8>)) {
        let state_bytes = self.state_bytes;
        let mut send = |mut messages: Vec<Message>| {
            for message in &mut messages {
                if message.get_msg_type() == MessageType::MsgSnapshot {
                    let state = vec![7; state_bytes.unwrap_or_default()];
                    message.mut_snapshot().set_data(state.into());
                }
                let bytes = message.write_to_bytes().expect("a message can be serialised");
                send(message.to, bytes);
            }
        };
        draw(self.server(pid), &mut send);
    }

    fn kind(bytes: &[u8]) -> String {
        format!("{:?}", decode(bytes).get_msg_type())
    }

    fn handle(&mut self, pid: u64, bytes: &[u8]) {
        // One of a server that was removed is refused.
        let _ = self.server(pid).step(decode(bytes));
    }

    fn leader(&self) -> Option<u64> {
        let leads = |node: &&RawNode<Log>| node.raft.state == StateRole::Leader;
        self.servers.values().filter(leads).max_by_key(|node| node.raft.term).map(|n| n.raft.id)
    }

    fn append(&mut self, pid: u64) {
        let mut data = self.appended.to_le_bytes().to_vec();
        data.extend(u64::MAX.to_le_bytes());
        if self.server(pid).propose(Vec::new(), data).is_ok() {
            self.appended += 1;
        }
    }

    fn decided(&self) -> u64 {
        let committed = |node: &RawNode<Log>| node.raft.raft_log.committed;
        self.servers.values().map(committed).max().unwrap_or_default()
    }

    fn change(&mut self, next: &[u64]) {
        let Some(leader) = self.leader() else {
            return;
        };
        let node = self.server(leader);
        let tracker = node.raft.prs();
        let conf = tracker.conf().to_conf_state();
        let is_settled = conf.voters_outgoing.is_empty() && !node.raft.has_pending_conf();
        if !is_settled || node.raft.lead_transferee.is_some() {
            return;
        }
        let voters: BTreeSet<u64> = conf.voters.iter().copied().collect();
        let learners: BTreeSet<u64> = conf.learners.iter().copied().collect();
        let joiners = || next.iter().copied().filter(|pid| !voters.contains(pid));
        let last = node.raft.raft_log.last_index();
        let has_caught_up = |pid: u64| {
            tracker.get(pid).is_some_and(|progress| progress.matched + MOST_MISSING >= last)
        };
        let leaving = || voters.iter().copied().filter(|pid| !next.contains(pid));
        let add = |pid| single(ConfChangeType::AddNode, pid);
        let remove = |pid| single(ConfChangeType::RemoveNode, pid);
        if joiners().any(|pid| !learners.contains(&pid)) {
            let learn = |pid| single(ConfChangeType::AddLearnerNode, pid);
            propose(node, joiners().map(learn).collect());
        } else if joiners().count() > 0 {
            if joiners().all(has_caught_up) {
                let removed = leaving().filter(|_| next.contains(&leader)).map(remove);
                propose(node, joiners().map(add).chain(removed).collect());
            }
        } else if leaving().count() > 0 {
            match next.contains(&leader) {
                true => propose(node, leaving().map(remove).collect()),
                false => node.transfer_leader(next[0]),
            }
        }
    }

    fn is_member(&self, pid: u64) -> bool {
        // The leader counts it from then on. It may learn that later.
        self.leader().is_some_and(|leader| {
            self.servers[&leader].raft.prs().conf().to_conf_state().voters.contains(&pid)
        })
    }

    fn has_changed(&self, next: &[u64]) -> bool {
        self.leader().is_some_and(|leader| {
            let mut conf = self.servers[&leader].raft.prs().conf().to_conf_state();
            conf.voters.sort_unstable();
            conf.voters == next && conf.voters_outgoing.is_empty()
        })
    }
}

impl Raft {
    fn server(&mut self, pid: u64) -> &mut RawNode<Log> {
        self.servers.get_mut(&pid).expect("the server was started")
    }

    /// A tick of all servers, without a limit of bytes.
    fn pass_tick(&mut self) {
        let mut messages = Vec::new();
        for server in self.servers.values_mut() {
            server.tick();
            draw(server, &mut |drawn| messages.extend(drawn));
        }
        for message in messages {
            // A message of an earlier term is refused.
            let _ = self.server(message.to).step(message);
        }
    }
}

fn single(kind: ConfChangeType, pid: u64) -> ConfChangeSingle {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = pid;
    single
}

fn propose(node: &mut RawNode<Log>, changes: Vec<ConfChangeSingle>) {
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.into());
    // It is refused while another is under way, and proposed again in the next tick.
    let _ = node.propose_conf_change(Vec::new(), change);
}

/// Persists, applies and sends what is ready.
fn draw(node: &mut RawNode<Log>, send: &mut dyn FnMut(Vec<Message>)) {
    if !node.has_ready() {
        return;
    }
    let mut ready = node.ready();
    send(ready.take_messages());
    if !ready.snapshot().is_empty() {
        let mut snapshot = ready.snapshot().clone();
        snapshot.clear_data();
        node.store().wl().apply_snapshot(snapshot).expect("it is later than the log");
    }
    apply(node, ready.take_committed_entries());
    {
        let mut storage = node.store().wl();
        storage.append(ready.entries()).expect("entries follow those before");
        if let Some(hard_state) = ready.hs() {
            storage.set_hardstate(hard_state.clone());
        }
    }
    send(ready.take_persisted_messages());
    let mut light = node.advance(ready);
    if let Some(commit) = light.commit_index() {
        node.store().wl().mut_hard_state().set_commit(commit);
    }
    send(light.take_messages());
    apply(node, light.take_committed_entries());
    node.advance_apply();
}

/// Applies changes of members.
fn apply(node: &mut RawNode<Log>, committed: Vec<Entry>) {
    for entry in committed {
        if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
            let change = ConfChangeV2::parse_from_bytes(&entry.data);
            let change = change.expect("what was serialised can be deserialised");
            let conf = node.apply_conf_change(&change).expect("the change was checked");
            node.store().wl().set_conf_state(conf);
        }
    }
}
