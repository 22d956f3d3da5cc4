//! Inputs and drains, with the checks that end each.

use super::{
    clock::{self, Does, Ticked},
    server::{indices, Replica, Running},
    Cluster,
};
use crate::{
    checker::{ensure, violated, Check, Leaves, Violation},
    coverage::Kind,
    describe,
    disk::{Accident, Done, Usage},
    network::Parcel,
    plan::{Drains, Early},
    value::SimEntry,
};
use omnipaxos::{
    errors::Halted,
    messages::{sequence_paxos::PaxosMsg, Message},
    status::{Role, Status, WriteUrgency},
    util::LogEntry,
};
use std::ops::Range;

/// The number of ticks after which the whole state of a replica is compared.
const COMPARES_EVERY: u64 = 64;

/// What an input returned, and whether it did something.
struct Given<R> {
    result: R,
    does: Does,
}

/// What an input or a drain left behind.
enum Left {
    /// The replica works.
    Working,
    /// It was lost, or halts.
    Gone,
}

impl<T: SimEntry> Cluster<T> {
    /// Starts a server from its disk.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Violation> {
        let server = &mut self.servers[at];
        let pid = server.pid();
        let replica = match server.build() {
            Ok(replica) => replica,
            Err(error) => return violated(Check::Restart, format!("server {pid}: {error}")),
        };
        let now = indices(replica);
        let disk = &server.disk;
        disk.inspect(|image, change| self.checker.flushed(at, image, change))?;
        let server = &self.servers[at];
        if let Some(replica) = server.replica() {
            let read = |range| read(replica, range);
            self.checker.restarted(at, now, read)?;
        }
        self.restart_application(at)?;
        self.trace.note(|| format!("{} start {}", self.now, self.servers[at].describe()));
        Ok(())
    }

    /// Crashes a server; it is started after `down` ticks.
    pub(super) fn crash(&mut self, at: usize, down: u64) -> Result<(), Violation> {
        let until = self.now + 1 + down;
        let server = &mut self.servers[at];
        server.running = Running::Down { until };
        self.trace.note(|| format!("{} crash {} until {until}", self.now, server.pid()));
        self.look_at_disk(at)
    }

    /// Gives an input to a server, if it runs.
    pub(super) fn input<R>(
        &mut self,
        at: usize,
        f: impl FnOnce(&mut Replica<T>) -> R,
    ) -> Result<Option<R>, Violation> {
        self.give(at, |replica| Given { result: f(replica), does: Does::Something })
    }

    fn give<R>(
        &mut self,
        at: usize,
        f: impl FnOnce(&mut Replica<T>) -> Given<R>,
    ) -> Result<Option<R>, Violation> {
        let Some(replica) = self.servers[at].replica_mut() else {
            return Ok(None);
        };
        let Given { result, does } = f(replica);
        self.servers[at].is_quiet &= does == Does::Nothing;
        match self.after_input(at)? {
            Left::Gone => {}
            Left::Working => match self.setting.drains {
                Drains::EachInput => self.drain(at)?,
                Drains::Rarely(_) if self.setting.early == Early::AfterInputs => {
                    self.count_early_decision(at);
                    self.send_early(at)?;
                }
                Drains::EachTick | Drains::Rarely(_) => {}
            },
        }
        Ok(Some(result))
    }

    /// Hands a message to a server.
    pub(super) fn handle(&mut self, at: usize, message: Message<T>) -> Result<(), Violation> {
        if let Running::Halted { replica, .. } = &mut self.servers[at].running {
            let handled = replica.try_handle_incoming(message);
            return self.expect_halted(at, &handled);
        }
        match self.input(at, |replica| replica.try_handle_incoming(message))? {
            Some(handled) => self.expect_working(at, &handled),
            None => Ok(()),
        }
    }

    /// Lets the clock of a server tick.
    pub(super) fn tick(&mut self, at: usize) -> Result<(), Violation> {
        if let Running::Halted { replica, .. } = &mut self.servers[at].running {
            let ticked = replica.try_tick();
            return self.expect_halted(at, &ticked);
        }
        let compares = (self.now + at as u64).is_multiple_of(COMPARES_EVERY);
        let ticked = self.give(at, |replica| {
            let (ticked, does) = clock::tick(replica, compares);
            Given { result: ticked, does }
        })?;
        let Some(Ticked { result, contradiction }) = ticked else {
            return Ok(());
        };
        if let Some(contradiction) = contradiction {
            let pid = self.servers[at].pid();
            return violated(Check::Clock, format!("server {pid}: {contradiction}"));
        }
        self.expect_working(at, &result)
    }

    /// Notifies a server that its link to another is back.
    pub(super) fn reconnected(&mut self, at: usize, peer: usize) -> Result<(), Violation> {
        let peer = self.servers[peer].pid();
        self.input(at, |replica| replica.reconnected(peer)).map(drop)
    }

    fn count_early_decision(&mut self, at: usize) {
        let status = self.servers[at].replica().map(|replica| replica.status());
        let is_early =
            |status: Status| status.role == Role::Leading && status.decided_idx > status.stored_idx;
        if status.is_some_and(is_early) {
            self.counts.add(Kind::EarlyDecided);
        }
    }

    /// Checks that nobody waited for a drain which might have waited.
    fn check_urgency(
        &mut self,
        at: usize,
        urgency: WriteUrgency,
        messages: &[Message<T>],
    ) -> Result<(), Violation> {
        let pid = self.servers[at].pid();
        // The write may decide entries: followers learn it, and observers learn the entries.
        let tells_decided = |message: &Message<T>| {
            let Message::SequencePaxos(message) = message else { return false };
            matches!(message.msg, PaxosMsg::Decide(_) | PaxosMsg::CatchUpChunk(_))
        };
        match urgency {
            WriteUrgency::Later => {
                self.counts.add(Kind::LaterWrites);
                ensure!(
                    messages.is_empty(),
                    Check::Urgency,
                    "server {pid} might write later, and sends {messages:?}"
                );
            }
            WriteUrgency::UnlessDecided => {
                self.counts.add(Kind::LaterWrites);
                ensure!(
                    messages.iter().all(tells_decided),
                    Check::Urgency,
                    "server {pid} might write later unless its entries are undecided, and sends {messages:?}"
                );
            }
            _now => {}
        }
        Ok(())
    }

    /// Puts the messages of a server on the network that may leave before its next write. Returns their
    /// number.
    fn send_early(&mut self, at: usize) -> Result<usize, Violation> {
        let writes = self.servers[at].disk.usage().writes;
        let Some(replica) = self.servers[at].replica_mut() else {
            return Ok(0);
        };
        let mut messages = std::mem::take(&mut self.early_buffer);
        let taken = replica.try_take_early_messages(&mut messages);
        let server = &self.servers[at];
        let pid = server.pid();
        let written = server.disk.usage().writes - writes;
        ensure!(written == 0, Check::OneWrite, "server {pid} wrote before its early messages");
        ensure!(
            !server.is_quiet || messages.is_empty(),
            Check::Clock,
            "server {pid} was drained, and after silent ticks it sends {messages:?} early"
        );
        self.expect_working(at, &taken)?;
        for message in &messages {
            self.counts.add(Kind::Early);
            self.trace.note(|| format!("{} early {}", self.now, describe::message(message)));
        }
        let count = messages.len();
        self.send(at, &mut messages, Leaves::BeforeTheWrite)?;
        self.early_buffer = messages;
        Ok(count)
    }

    /// Drains a server and puts its messages on the network.
    pub(super) fn drain(&mut self, at: usize) -> Result<(), Violation> {
        let early = match self.setting.early {
            Early::Never => 0,
            Early::BeforeDrains | Early::AfterInputs => self.send_early(at)?,
        };
        let mut messages = std::mem::take(&mut self.buffer);
        messages.clear();
        if let Running::Halted { replica, .. } = &mut self.servers[at].running {
            let drained = replica.try_take_outgoing_messages(&mut messages);
            let pid = self.servers[at].pid();
            let sent = messages.len();
            ensure!(sent == 0, Check::Halting, "server {pid} has halted and sends {sent} messages");
            self.buffer = messages;
            return self.expect_halted(at, &drained);
        }
        let Usage { writes, received, .. } = self.servers[at].disk.usage();
        let Some(replica) = self.servers[at].replica_mut() else {
            return Ok(());
        };
        let urgency = replica.write_urgency();
        let drained = replica.try_take_outgoing_messages(&mut messages);
        self.check_urgency(at, urgency, &messages)?;
        let server = &mut self.servers[at];
        let written = server.disk.usage().writes - writes;
        let received = server.disk.usage().received - received;
        self.counts.add_many(Kind::Received, received);
        // A drain that leaves a rest to the next announces it.
        let leaves_rest = server.replica().is_some_and(|replica| replica.next_timeout() == Some(1));
        let was_quiet = std::mem::replace(&mut server.is_quiet, !leaves_rest);
        ensure!(
            !was_quiet || (messages.is_empty() && written == 0),
            Check::Clock,
            "server {} was drained, and after silent ticks it writes {written} times, says {messages:?}",
            server.pid()
        );
        ensure!(written <= 1, Check::OneWrite, "server {} wrote {written} times", server.pid());
        self.after_input(at)?;
        self.expect_working(at, &drained)?;
        if early > 0 && !matches!(self.servers[at].running, Running::Up(_)) {
            self.counts.add(Kind::EarlyCrash);
        }
        if !matches!(self.servers[at].running, Running::Down { .. }) {
            self.send(at, &mut messages, Leaves::AfterTheWrite)?;
        }
        self.buffer = messages;
        Ok(())
    }

    fn send(
        &mut self,
        at: usize,
        messages: &mut Vec<Message<T>>,
        leaves: Leaves,
    ) -> Result<(), Violation> {
        self.checker.check_answers(at, messages)?;
        for message in messages.drain(..) {
            let server = &self.servers[at];
            let incarnation = server.incarnation;
            server.disk.peek(|image| {
                self.checker.check_outgoing(at, incarnation, &message, image, leaves)?;
                self.checker.bounded(at, &message, image)
            })?;
            match &message {
                Message::SequencePaxos(paxos) => self.count_sent(paxos),
                Message::BLE(_) => self.traffic.heartbeats += 1,
            }
            let receiver = message.get_receiver();
            let to = self.servers.iter().position(|s| s.pid() == receiver);
            if let Some(to) = to {
                let message = self.transport(message)?;
                let parcel = Parcel::new(at, to, self.servers[to].incarnation, message);
                self.network.send(self.now, parcel, &mut self.counts);
            } else if self.is_next {
                // To a server that the stop sign left out.
                self.strays.push(message);
            }
        }
        Ok(())
    }

    /// Looks at what an input or a drain did.
    fn after_input(&mut self, at: usize) -> Result<Left, Violation> {
        let server = &self.servers[at];
        let pid = server.pid();
        let direct = server.disk.usage().direct_ops;
        ensure!(direct == 0, Check::OneWrite, "server {pid} wrote outside of write_atomically");
        if let Some(misuse) = server.disk.misuse() {
            return violated(Check::StorageUse, format!("server {pid}: {misuse}"));
        }
        self.look_at_disk(at)?;
        match self.servers[at].disk.accident() {
            Some(accident) => self.suffer(at, accident).map(|()| Left::Gone),
            None => {
                self.observe(at)?;
                self.apply(at)?;
                self.watch_reads(at)?;
                self.watch_transfer(at);
                self.watch_leadership(at);
                Ok(Left::Working)
            }
        }
    }

    /// Whether a server leads no longer in the ballot that it led in. If it was transferring
    /// leadership, it keeps what it took.
    fn watch_leadership(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let leads = server.leading();
        let before = std::mem::replace(&mut server.leads, leads);
        let is_lost = before.is_some_and(|before| {
            !before.is_transferring && leads.is_none_or(|leads| leads.ballot != before.ballot)
        });
        if is_lost && !server.setting.config.keeps_undecided_appends {
            self.counts.add(Kind::Deposed);
            self.checker.may_drop(at, server.incarnation);
        }
    }

    fn look_at_disk(&mut self, at: usize) -> Result<(), Violation> {
        let server = &self.servers[at];
        for words in server.disk.take_words() {
            self.trace.note(|| format!("{} {} writes {words}", self.now, server.pid()));
        }
        server.disk.inspect(|image, change| self.checker.flushed(at, image, change))
    }

    /// Compares what the replica shows with what it showed before.
    fn observe(&mut self, at: usize) -> Result<(), Violation> {
        let server = &self.servers[at];
        let Some(replica) = server.replica() else {
            return Ok(());
        };
        if let Some(halted) = replica.halted() {
            let pid = server.pid();
            return violated(Check::Halting, format!("server {pid} halted for nothing: {halted}"));
        }
        let read = |range| server.disk.undisturbed(|| read(replica, range));
        self.checker.observe(at, indices(replica), read)
    }

    /// The disk of a server had an accident.
    fn suffer(&mut self, at: usize, accident: Accident) -> Result<(), Violation> {
        let down = self.servers[at].down;
        let kind = match accident {
            Accident::Crashed(done) => {
                self.counts.add(match done {
                    Done::Nothing => Kind::CrashBeforeWrite,
                    Done::Part if self.servers[at].disk.peek(|image| image.compacted_idx > 0) => {
                        Kind::TornCompacted
                    }
                    Done::Part => Kind::CrashTorn,
                    Done::All => Kind::CrashAfterWrite,
                });
                return self.crash(at, down);
            }
            Accident::WriteFailed => Kind::WriteError,
            Accident::ReadFailed => Kind::ReadError,
        };
        self.counts.add(kind);
        let until = self.now + 1 + down;
        let server = &mut self.servers[at];
        let pid = server.pid();
        self.trace.note(|| format!("{} {pid} halts: {accident:?}, until {until}", self.now));
        let running = std::mem::replace(&mut server.running, Running::Down { until });
        if let Running::Up(replica) = running {
            ensure!(
                replica.halted().is_some(),
                Check::Halting,
                "server {pid} goes on after {accident:?}"
            );
            let decided = replica.get_decided_idx();
            server.disk.peek(|image| self.checker.halted(at, decided, image))?;
            server.running = Running::Halted { replica, until };
        }
        Ok(())
    }

    /// A working replica gives no [`Halted`], but in the call that met the error.
    fn expect_working(&self, at: usize, result: &Result<(), Halted>) -> Result<(), Violation> {
        let server = &self.servers[at];
        let is_up = server.replica().is_some();
        ensure!(
            !is_up || result.is_ok(),
            Check::Halting,
            "server {} works and answers {result:?}",
            server.pid()
        );
        Ok(())
    }

    fn expect_halted(&self, at: usize, result: &Result<(), Halted>) -> Result<(), Violation> {
        let pid = self.servers[at].pid();
        ensure!(result.is_err(), Check::Halting, "server {pid} has halted and answers {result:?}");
        Ok(())
    }
}

/// Reads for the checker; an error counts as nothing.
pub(super) fn read<T: SimEntry>(
    replica: &Replica<T>,
    range: Range<u64>,
) -> Option<Vec<LogEntry<T>>> {
    replica.try_read_entries(range).ok().flatten()
}
