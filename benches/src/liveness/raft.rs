//! A server of `raft` 0.7 (TiKV), with pre-vote and check-quorum.
//!
//! The ratio of `election_tick` and `heartbeat_tick` is the one that its documentation suggests. It
//! persists before its messages leave. A server that is asked to lead asks the leader to transfer
//! leadership to it, or campaigns if it knows none.

use super::{Server, ELECTION_TICKS};
use omnipaxos_tests::rng::Rng;
use raft::{
    eraftpb::{Entry, EntryType, Message},
    storage::MemStorage,
    Config, RawNode,
};
use slog::{o, Discard, Logger};

/// The library draws election timeouts up to here from a generator that has no seed. Each of them is
/// replaced by one that is drawn from the seed, from the usual range, which is recognised by its size.
const NEVER: usize = 1 << 40;

/// A server of raft.
pub struct Raft {
    node: RawNode<MemStorage>,
    decided: u64,
    applied: u64,
    rng: Rng,
    /// Messages that may leave.
    messages: Vec<Message>,
}

/// What outlasts a crash of a server of raft.
#[derive(Default)]
pub struct Disk {
    log: Option<MemStorage>,
    decided: u64,
    applied: u64,
}

impl Server for Raft {
    type Message = Message;
    type Disk = Disk;

    fn start(pid: u64, n: u64, disk: Disk, seed: u64, incarnation: u64) -> Self {
        let election_tick = ELECTION_TICKS as usize;
        let config = Config {
            election_tick,
            heartbeat_tick: election_tick / 10,
            max_election_tick: NEVER,
            pre_vote: true,
            check_quorum: true,
            applied: disk.applied,
            max_size_per_msg: 1 << 20,
            ..Config::new(pid)
        };
        let voters: Vec<u64> = (1..=n).collect();
        let log = disk.log.unwrap_or_else(|| MemStorage::new_with_conf_state((voters, Vec::new())));
        let node = RawNode::new(&config, log, &Logger::root(Discard, o!()))
            .expect("the configuration is valid");
        let rng = Rng::of(&[seed, pid, incarnation]);
        let Disk { decided, applied, .. } = disk;
        let mut server = Self { node, decided, applied, rng, messages: Vec::new() };
        server.draw_timeout();
        server
    }

    fn stop(self) -> Disk {
        let log = Some(self.node.store().clone());
        Disk { log, decided: self.decided, applied: self.applied }
    }

    fn tick(&mut self) {
        self.node.tick();
        self.draw_timeout();
    }

    fn propose(&mut self, number: u64) {
        // A proposal is dropped where no leader is known.
        let _taken_or_dropped = self.node.propose(Vec::new(), number.to_le_bytes().to_vec());
    }

    fn ask_to_lead(&mut self) {
        let (id, leader) = (self.node.raft.id, self.node.raft.leader_id);
        if leader == 0 {
            let _campaigns_or_is_refused = self.node.campaign();
        } else if leader != id {
            self.node.transfer_leader(id);
        }
        self.draw_timeout();
    }

    fn handle(&mut self, message: Message) {
        let _stepped_or_dropped = self.node.step(message);
        self.draw_timeout();
    }

    fn take(&mut self, messages: &mut Vec<(u64, Message)>) {
        while self.node.has_ready() {
            self.draw();
        }
        self.draw_timeout();
        messages.extend(self.messages.drain(..).map(|message| (message.to, message)));
    }

    fn decided(&self) -> u64 {
        self.decided
    }

    fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|leader| *leader != 0)
    }
}

impl Raft {
    /// Draws the election timeout from the seed if the library has just drawn one.
    fn draw_timeout(&mut self) {
        if self.node.raft.randomized_election_timeout() >= 2 * ELECTION_TICKS as usize {
            let drawn = self.rng.between(ELECTION_TICKS, 2 * ELECTION_TICKS - 1);
            self.node.raft.set_randomized_election_timeout(drawn as usize);
        }
    }

    /// Persists, applies, and takes the messages that may leave then.
    fn draw(&mut self) {
        let mut ready = self.node.ready();
        assert!(ready.snapshot().is_empty(), "there is a snapshot though no log is compacted");
        self.messages.extend(ready.take_messages());
        self.apply(&ready.take_committed_entries());
        {
            let mut storage = self.node.store().wl();
            storage.append(ready.entries()).expect("entries follow those before");
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
        }
        self.messages.extend(ready.take_persisted_messages());
        let mut persisted = self.node.advance(ready);
        if let Some(commit) = persisted.commit_index() {
            self.node.store().wl().mut_hard_state().set_commit(commit);
        }
        self.messages.extend(persisted.take_messages());
        self.apply(&persisted.take_committed_entries());
        self.node.advance_apply();
    }

    /// Counts the entries that were proposed; a new leader appends an empty one.
    fn apply(&mut self, committed: &[Entry]) {
        for entry in committed {
            self.applied = entry.index;
            let is_normal = entry.get_entry_type() == EntryType::EntryNormal;
            self.decided += u64::from(is_normal && !entry.data.is_empty());
        }
    }
}
