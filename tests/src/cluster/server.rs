//! One server: a replica, its clock and its disk.

use super::{application::Application, events::Reported};
use crate::{
    checker::Indices,
    describe,
    disk::{SimDisk, Taken},
    plan::{Missed, ServerSetting, Setting},
    value::SimEntry,
};
use omnipaxos::{ballot_leader_election::Ballot, status::Role, ClusterConfig, OmniPaxos};

/// A replica under simulation.
pub(super) type Replica<T> = OmniPaxos<T, SimDisk<T>>;

/// One server.
#[derive(Debug)]
pub(super) struct Server<T: SimEntry> {
    pub(super) setting: ServerSetting,
    cluster_config: ClusterConfig,
    pub(super) disk: SimDisk<T>,
    pub(super) running: Running<T>,
    /// Counts the starts.
    pub(super) incarnation: u64,
    /// What the replica has reported in its present incarnation.
    pub(super) reported: Reported,
    pub(super) application: Application,
    /// What an application that lags has applied, durably.
    pub(super) slowly_applied_idx: u64,
    /// What it has reported of that in this incarnation of the server.
    pub(super) reported_applied_idx: u64,
    /// What was proposed here.
    pub(super) taken: Vec<u64>,
    /// Whether nothing but ticks that do nothing came since the last drain.
    pub(super) is_quiet: bool,
    /// The ballot in which it leads, and whether it transfers leadership.
    pub(super) leads: Option<Leads>,
    /// For how long it will be down after the fault that is planned.
    pub(super) down: u64,
    clock: u64,
    paused_until: u64,
    pub(super) frozen_until: u64,
    /// What becomes of the ticks while it is frozen.
    missed: Missed,
}

/// A server leads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Leads {
    pub(super) ballot: Ballot,
    pub(super) is_transferring: bool,
}

/// Whether a server runs.
#[derive(Debug)]
pub(super) enum Running<T: SimEntry> {
    /// It does.
    Up(Box<Replica<T>>),
    /// Its replica has halted; it is restarted at a tick of the run.
    Halted {
        /// The replica, which must be silent.
        replica: Box<Replica<T>>,
        /// The tick.
        until: u64,
    },
    /// It has crashed; it is started at a tick of the run.
    Down {
        /// The tick.
        until: u64,
    },
}

impl<T: SimEntry> Server<T> {
    pub(super) fn new(
        setting: &Setting,
        at: usize,
        taken: &Taken,
        seed: u64,
        is_traced: bool,
    ) -> Self {
        let disk = SimDisk::new(setting, at, taken.clone(), seed ^ at as u64);
        if let Some(id) = setting.at(at).storage_id {
            disk.set_id(id);
        }
        if is_traced {
            disk.keep_words();
        }
        Self {
            setting: setting.at(at).clone(),
            cluster_config: ClusterConfig {
                configuration_id: setting.configuration,
                nodes: setting.servers.iter().map(|server| server.config.pid).collect(),
                flexible_quorum: setting.quorum,
            },
            disk,
            running: Running::Down { until: u64::MAX },
            incarnation: 0,
            reported: Reported::default(),
            application: Application::default(),
            slowly_applied_idx: 0,
            reported_applied_idx: 0,
            taken: Vec::new(),
            is_quiet: false,
            leads: None,
            down: 0,
            clock: 0,
            paused_until: 0,
            frozen_until: 0,
            missed: Missed::Skipped,
        }
    }

    pub(super) fn pid(&self) -> u64 {
        self.setting.config.pid
    }

    /// Builds the replica from the disk.
    pub(super) fn build(&mut self) -> Result<&Replica<T>, String> {
        self.disk.restart();
        self.incarnation += 1;
        self.reported = Reported::default();
        self.reported_applied_idx = 0;
        self.is_quiet = false;
        self.leads = None;
        let built = self
            .cluster_config
            .clone()
            .build_for_server(self.setting.config.clone(), self.disk.clone());
        let replica = Box::new(built.map_err(|error| error.to_string())?);
        self.running = Running::Up(replica);
        match &self.running {
            Running::Up(replica) => Ok(replica),
            Running::Halted { .. } | Running::Down { .. } => Err("was just built".into()),
        }
    }

    pub(super) fn replica(&self) -> Option<&Replica<T>> {
        match &self.running {
            Running::Up(replica) => Some(replica),
            Running::Halted { .. } | Running::Down { .. } => None,
        }
    }

    /// How it leads, if it does.
    pub(super) fn leading(&self) -> Option<Leads> {
        let replica = self.replica()?;
        let ballot = replica.get_promise();
        if replica.get_current_leader() != Some(replica.get_pid()) || ballot.pid != self.pid() {
            return None;
        }
        let is_known = self.leads.is_some_and(|leads| leads.ballot == ballot);
        let is_transferring = replica.leadership_transfer().is_some();
        (is_known || replica.status().role == Role::Leading)
            .then_some(Leads { ballot, is_transferring })
    }

    pub(super) fn replica_mut(&mut self) -> Option<&mut Replica<T>> {
        match &mut self.running {
            Running::Up(replica) => Some(replica),
            Running::Halted { .. } | Running::Down { .. } => None,
        }
    }

    /// Whether it is down or halted, and is to be started now.
    pub(super) fn is_back(&self, now: u64) -> bool {
        match &self.running {
            Running::Up(_) => false,
            Running::Halted { until, .. } | Running::Down { until } => *until <= now,
        }
    }

    /// How often its clock ticks in this tick of the run.
    pub(super) fn ticks(&mut self, now: u64) -> u64 {
        let is_frozen = self.frozen_until > now;
        if self.paused_until > now || (is_frozen && self.missed == Missed::Skipped) {
            return 0;
        }
        self.clock += self.setting.speed;
        if is_frozen {
            return 0;
        }
        let ticks = self.clock / ServerSetting::FULL_SPEED;
        self.clock %= ServerSetting::FULL_SPEED;
        ticks
    }

    pub(super) fn pause(&mut self, until: u64) {
        self.paused_until = self.paused_until.max(until);
    }

    pub(super) fn freeze(&mut self, until: u64, missed: Missed) {
        self.frozen_until = self.frozen_until.max(until);
        self.missed = missed;
    }

    pub(super) fn wake(&mut self, now: u64) {
        self.paused_until = self.paused_until.min(now);
        self.frozen_until = self.frozen_until.min(now);
        self.clock %= ServerSetting::FULL_SPEED;
    }

    pub(super) fn describe(&self) -> String {
        let pid = self.pid();
        let Some(replica) = self.replica() else {
            return match &self.running {
                Running::Halted { .. } => format!("{pid}: halted"),
                Running::Up(_) | Running::Down { .. } => format!("{pid}: down"),
            };
        };
        let Indices { promise, compacted, decided, accepted } = indices(replica);
        let leader = replica.get_current_leader();
        let leader = leader.map_or("nobody".into(), |pid| pid.to_string());
        format!(
            "{pid}: follows {leader}, promise {}, {compacted} <= {decided} <= {accepted}",
            describe::ballot(promise)
        )
    }
}

/// What a replica shows.
pub(super) fn indices<T: SimEntry>(replica: &Replica<T>) -> Indices {
    Indices {
        promise: replica.get_promise(),
        compacted: replica.get_compacted_idx(),
        decided: replica.get_decided_idx(),
        accepted: replica.get_accepted_idx(),
    }
}
