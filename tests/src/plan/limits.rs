//! Limits so small that they matter, in some runs.

use super::ServerSetting;
use crate::{network::LinkConditions, rng::Rng};
use omnipaxos::ServerConfig;

/// How much one server lets travel and wait.
#[derive(Copy, Clone, Debug)]
struct Limits {
    message_entries: usize,
    message_bytes: usize,
    in_flight_entries: usize,
    in_flight_bytes: usize,
    pending_entries: usize,
    pending_bytes: usize,
}

/// Gives tiny limits to the servers of about a third of the runs; mostly the same to all.
pub(super) fn limit(rng: &mut Rng, servers: &mut [ServerSetting]) {
    if !rng.chance(1, 3) {
        return;
    }
    let common = tiny(rng);
    let is_mixed = rng.chance(1, 3);
    for server in servers {
        let limits = if is_mixed { tiny(rng) } else { common };
        limits.apply(&mut server.config);
    }
}

/// In some runs each link carries so few bytes a tick that messages wait for each other. The fewest are
/// about those of the heartbeats.
pub(super) fn limit_links(rng: &mut Rng, conditions: &mut LinkConditions) {
    if rng.chance(1, 10) {
        conditions.bytes_per_tick = Some(rng.pick(&[30, 100, 300, 1_000]));
    }
}

fn tiny(rng: &mut Rng) -> Limits {
    let most = ServerConfig::default();
    let (message_entries, in_flight_entries) = rng.pick(&[
        (1, 1),
        (2, 3),
        (2, 3),
        (5, 8),
        (2, 20),
        (20, 5),
        (most.max_message_entries, most.max_in_flight_entries),
    ]);
    Limits {
        message_entries,
        in_flight_entries,
        message_bytes: rng.pick(&[most.max_message_bytes, most.max_message_bytes, 1, 12, 40, 100]),
        in_flight_bytes: rng.pick(&[most.max_in_flight_bytes, most.max_in_flight_bytes, 1, 100]),
        pending_entries: rng.pick(&[3, 20, 1000]),
        pending_bytes: rng.pick(&[most.max_pending_bytes, most.max_pending_bytes, 100]),
    }
}

impl Limits {
    fn apply(self, config: &mut ServerConfig) {
        config.max_message_entries = self.message_entries;
        config.max_message_bytes = self.message_bytes;
        config.max_in_flight_entries = self.in_flight_entries;
        config.max_in_flight_bytes = self.in_flight_bytes;
        config.max_pending_entries = self.pending_entries;
        config.max_pending_bytes = self.pending_bytes;
    }
}

impl ServerSetting {
    /// The limits of the server, in the order of their declaration.
    pub fn limits(&self) -> [usize; 6] {
        of(&self.config)
    }

    /// Whether some limit is lower than it is by default.
    pub fn is_limited(&self) -> bool {
        let defaults = of(&ServerConfig::default());
        self.limits().iter().zip(defaults).any(|(limit, default)| *limit < default)
    }

    /// Sets all limits to what they are by default.
    pub fn lift_limits(&mut self) {
        let default = ServerConfig::default();
        self.config = ServerConfig {
            max_message_bytes: default.max_message_bytes,
            max_message_entries: default.max_message_entries,
            max_in_flight_bytes: default.max_in_flight_bytes,
            max_in_flight_entries: default.max_in_flight_entries,
            max_pending_bytes: default.max_pending_bytes,
            max_pending_entries: default.max_pending_entries,
            ..self.config.clone()
        };
    }
}

fn of(config: &ServerConfig) -> [usize; 6] {
    [
        config.max_message_bytes,
        config.max_message_entries,
        config.max_in_flight_bytes,
        config.max_in_flight_entries,
        config.max_pending_bytes,
        config.max_pending_entries,
    ]
}
