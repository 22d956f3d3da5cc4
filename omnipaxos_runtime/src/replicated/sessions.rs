//! Outputs of applied commands, kept to recognise repeated commands.

use super::command_id::CommandId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest number of clients that servers remember. Beyond it, all servers forget the client
/// whose last command has the lowest index.
pub const MAX_CLIENTS: usize = 1024;

/// The largest number of outputs that servers keep for one client. Beyond it, servers forget the
/// output with the lowest number.
pub const MAX_OUTPUTS: usize = 1024;

/// What is known of a command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a, O> {
    /// It is not applied, as far as is remembered.
    New,
    /// It was applied at this index, with this output.
    Kept(u64, &'a O),
    /// It was applied, or its client has its answer. The output is not kept.
    Forgotten,
}

/// The outputs that are kept, by client. Part of the replicated state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sessions<O> {
    clients: BTreeMap<u64, Session<O>>,
    /// The clients by the index of their last command. Made of `clients`.
    #[serde(skip)]
    by_last_idx: BTreeMap<u64, u64>,
}

/// The outputs for one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session<O> {
    /// The index of its last command, a repeated one included.
    last_idx: u64,
    /// Outputs below this number are forgotten.
    oldest: u64,
    /// The index and the output of each other command, by number.
    outputs: BTreeMap<u64, (u64, O)>,
}

impl<O> Default for Sessions<O> {
    fn default() -> Self {
        Self { clients: BTreeMap::new(), by_last_idx: BTreeMap::new() }
    }
}

impl<O> Sessions<O> {
    /// Completes what was decoded.
    pub(super) fn decoded(mut self) -> Self {
        let by_last_idx = self.clients.iter().map(|(client, session)| (session.last_idx, *client));
        self.by_last_idx = by_last_idx.collect();
        self
    }

    /// Returns what is known of a command.
    pub(super) fn lookup(&self, id: CommandId) -> Lookup<'_, O> {
        let Some(session) = self.clients.get(&id.client) else {
            return Lookup::New;
        };
        match session.outputs.get(&id.number) {
            _ if id.number < session.oldest => Lookup::Forgotten,
            Some((idx, output)) => Lookup::Kept(*idx, output),
            None => Lookup::New,
        }
    }

    /// Notes that the command at `idx` is of this client. Call it first for each command.
    pub(super) fn touch(&mut self, client: u64, idx: u64) {
        if let Some(session) = self.clients.get_mut(&client) {
            self.by_last_idx.remove(&session.last_idx);
            session.last_idx = idx;
        } else {
            while self.clients.len() >= MAX_CLIENTS {
                let Some((_, oldest)) = self.by_last_idx.pop_first() else { break };
                self.clients.remove(&oldest);
            }
            let session = Session { last_idx: idx, oldest: 0, outputs: BTreeMap::new() };
            self.clients.insert(client, session);
        }
        self.by_last_idx.insert(idx, client);
    }

    /// Keeps the output of a command, which was applied at `idx`.
    pub(super) fn keep(&mut self, id: CommandId, idx: u64, output: O) {
        if let Some(session) = self.clients.get_mut(&id.client) {
            session.outputs.insert(id.number, (idx, output));
            if session.outputs.len() > MAX_OUTPUTS {
                let first = session.outputs.keys().next().copied();
                session.forget_below(first.unwrap_or(0).saturating_add(1));
            }
        }
    }

    /// Forgets the outputs to which the client has its answers. Call it last for each command.
    pub(super) fn forget_answered(&mut self, id: CommandId) {
        if let Some(session) = self.clients.get_mut(&id.client) {
            session.forget_below(id.oldest);
        }
    }
}

impl<O> Session<O> {
    fn forget_below(&mut self, number: u64) {
        if number > self.oldest {
            self.oldest = number;
            self.outputs = self.outputs.split_off(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandId, Lookup, Sessions, MAX_CLIENTS, MAX_OUTPUTS};

    fn id(client: u64, number: u64) -> CommandId {
        CommandId { client, number, oldest: 0 }
    }

    /// Applies a command as the state machine does, and returns whether it was new.
    fn apply(sessions: &mut Sessions<u64>, idx: u64, id: CommandId) -> bool {
        sessions.touch(id.client, idx);
        let is_new = sessions.lookup(id) == Lookup::New;
        if is_new {
            sessions.keep(id, idx, idx * 10);
        }
        sessions.forget_answered(id);
        is_new
    }

    #[test]
    fn a_repeated_command_keeps_its_first_output() {
        let mut sessions = Sessions::default();
        assert!(apply(&mut sessions, 0, id(1, 0)));
        assert!(apply(&mut sessions, 1, id(2, 0)));
        assert!(!apply(&mut sessions, 2, id(1, 0)));
        assert_eq!(sessions.lookup(id(1, 0)), Lookup::Kept(0, &0));
        assert_eq!(sessions.lookup(id(2, 0)), Lookup::Kept(1, &10));
        assert_eq!(sessions.lookup(id(1, 1)), Lookup::New);
    }

    #[test]
    fn answered_commands_are_forgotten_in_any_order() {
        let mut sessions = Sessions::default();
        for (idx, number) in [3, 0, 2].into_iter().enumerate() {
            assert!(apply(&mut sessions, idx as u64, id(1, number)));
        }
        assert!(apply(&mut sessions, 3, CommandId { oldest: 2, ..id(1, 4) }));
        assert_eq!(sessions.lookup(id(1, 0)), Lookup::Forgotten);
        assert_eq!(sessions.lookup(id(1, 1)), Lookup::Forgotten, "the client has its answer");
        assert_eq!(sessions.lookup(id(1, 2)), Lookup::Kept(2, &20));
        assert!(!apply(&mut sessions, 4, id(1, 1)));
    }

    #[test]
    fn outputs_and_clients_are_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..=MAX_OUTPUTS as u64 {
            apply(&mut sessions, number, id(1, number));
        }
        assert_eq!(sessions.lookup(id(1, 0)), Lookup::Forgotten);
        assert_eq!(sessions.lookup(id(1, 1)), Lookup::Kept(1, &10));
        let mut sessions = Sessions::default();
        let most = MAX_CLIENTS as u64;
        for client in 0..most {
            apply(&mut sessions, client, id(client, 0));
        }
        apply(&mut sessions, most, id(0, 0));
        apply(&mut sessions, most + 1, id(most, 0));
        assert_eq!(sessions.clients.len(), MAX_CLIENTS);
        assert_eq!(sessions.by_last_idx.len(), MAX_CLIENTS);
        assert_eq!(sessions.lookup(id(0, 0)), Lookup::Kept(0, &0));
        assert_eq!(sessions.lookup(id(1, 0)), Lookup::New, "the client with the oldest command");
    }

    #[test]
    fn a_decoded_copy_continues_alike() {
        let mut sessions = Sessions::default();
        for idx in 0..2000 {
            apply(&mut sessions, idx, id(idx % 1500, idx));
            if idx % 500 == 0 {
                let config = bincode::config::standard();
                let bytes = bincode::serde::encode_to_vec(&sessions, config).unwrap();
                let (decoded, _): (Sessions<u64>, usize) =
                    bincode::serde::decode_from_slice(&bytes, config).unwrap();
                assert_eq!(decoded.decoded(), sessions);
            }
        }
    }
}
