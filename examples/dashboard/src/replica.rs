//! The task that owns the replica of a server.

use crate::protocol::{Line, Number, Order, Report};
use anyhow::Result;
use example_net::{Clock, Peers};
use omnipaxos::{
    errors::{Halted, TryProposeErr},
    messages::Message,
    util::NodeId,
    OmniPaxos, OmniPaxosConfig,
};
use omnipaxos_storage::persistent_storage::PersistentStorage;
use omnipaxos_ui::LogQueue;
use std::{collections::BTreeSet, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// The time of a tick.
const TICK: Duration = Duration::from_millis(10);

/// Ticks of a heartbeat round.
const ROUND: u64 = 20;

/// Ticks after which what was not acknowledged is sent again at the latest.
const RESEND: u64 = 50;

/// Inputs that are handled before messages are built and the disk is written.
const BATCH: usize = 1024;

/// Log lines that wait for the next report.
const WAITING_LINES: usize = 1024;

/// The inputs from the other tasks.
type Input = example_net::Input<Number, Order, Report>;

/// The replica, and what makes it a part of this show.
pub(crate) struct Replica {
    omni_paxos: OmniPaxos<Number, PersistentStorage<Number>>,
    peers: Peers<Number>,
    /// The servers from and to which all messages are dropped. All, until the first order comes.
    cut: BTreeSet<NodeId>,
    /// Number of entries of which `digest` is.
    digested_idx: u64,
    digest: u64,
    log: LogQueue,
    /// Kept to be filled again and again.
    outgoing: Vec<Message<Number>>,
}

impl Replica {
    /// A replica that continues from what its storage holds.
    pub(crate) fn new(
        mut config: OmniPaxosConfig,
        all: BTreeSet<NodeId>,
        storage: PersistentStorage<Number>,
        peers: Peers<Number>,
    ) -> Result<Self> {
        let log = LogQueue::with_room(WAITING_LINES);
        config.server_config.election_tick_timeout = ROUND;
        config.server_config.resend_message_tick_timeout = RESEND;
        config.server_config.custom_logger = Some(log.logger());
        Ok(Self {
            omni_paxos: config.build(storage)?,
            peers,
            cut: all,
            digested_idx: 0,
            digest: 0,
            log,
            outgoing: Vec::new(),
        })
    }

    /// Runs until the other end of `stop` is dropped, or the storage fails.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<()> {
        let mut clock = Clock::every(TICK);
        let mut batch = Vec::with_capacity(BATCH);
        self.send_outgoing()?;
        loop {
            let timeout = self.omni_paxos.next_timeout().unwrap_or(1);
            tokio::select! {
                received = inputs.recv_many(&mut batch, BATCH) => if received == 0 {
                    return Ok(());
                },
                () = clock.sleep(timeout) => {}
                _ = &mut stop => return Ok(()),
            }
            self.omni_paxos.try_tick_by(clock.count())?;
            let mut asked = Vec::new();
            for input in batch.drain(..) {
                match input {
                    Input::Peer(message) => self.hear(message)?,
                    Input::Connected(peer) => self.omni_paxos.reconnected(peer),
                    Input::Client(order, to) => {
                        self.obey(order)?;
                        asked.push(to);
                    }
                }
            }
            self.send_outgoing()?;
            self.digest_decided()?;
            for to in asked {
                // Who does not take its reports gets none.
                let _ = to.try_send(self.report());
            }
        }
    }

    fn hear(&mut self, message: Message<Number>) -> Result<(), Halted> {
        if self.cut.contains(&message.get_sender()) {
            return Ok(());
        }
        self.omni_paxos.try_handle_incoming(message)
    }

    fn obey(&mut self, order: Order) -> Result<(), Halted> {
        self.cut = order.cut;
        for number in order.first..order.first.saturating_add(order.count) {
            match self.omni_paxos.try_append(Number { number }) {
                Ok(()) => {}
                Err(TryProposeErr::Halted(halted)) => return Err(halted),
                // There is no room: this one and the others of the order are left out.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn send_outgoing(&mut self) -> Result<(), Halted> {
        self.omni_paxos.try_take_outgoing_messages(&mut self.outgoing)?;
        for message in self.outgoing.drain(..) {
            if !self.cut.contains(&message.get_receiver()) {
                self.peers.send(message);
            }
        }
        Ok(())
    }

    fn digest_decided(&mut self) -> Result<()> {
        let mut digest = self.digest;
        let read = self.omni_paxos.try_for_each_decided(self.digested_idx, |entry| {
            digest = digest_with(digest, entry.number);
        })?;
        if let Some(idx) = read {
            (self.digested_idx, self.digest) = (idx, digest);
        }
        Ok(())
    }

    fn report(&self) -> Report {
        Report {
            status: self.omni_paxos.status(),
            digest: self.digest,
            log: self.log.take().into_iter().map(Line::from).collect(),
        }
    }
}

/// The digest of one more number: other numbers, or the same in another order, have another.
fn digest_with(digest: u64, number: u64) -> u64 {
    // As in FNV: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv
    number.to_be_bytes().iter().fold(digest ^ 0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
