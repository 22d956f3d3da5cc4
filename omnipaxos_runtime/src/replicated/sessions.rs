//! Outputs of applied commands, kept to recognise repeated commands.

use super::command_id::CommandId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The largest number of clients that servers remember. Beyond it, all servers forget the client
/// whose last command has the lowest index.
pub const MAX_CLIENTS: usize = 1024;

/// The largest number of outputs that servers keep for one client. Beyond it, servers forget the
/// output with the lowest number.
pub const MAX_OUTPUTS: usize = 1024;

/// The number of touches that are kept. Beyond it, those that are not the last ones of their clients are forgotten.
const MAX_TOUCHES: usize = 4 * MAX_CLIENTS;

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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sessions<O> {
    clients: BTreeMap<u64, Session<O>>,
    /// Commands in order: the index and the client of each. The last one of each client is among them.
    /// Not encoded: `decoded` makes it of `clients`.
    #[serde(skip)]
    touches: VecDeque<(u64, u64)>,
}

/// The outputs for one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Session<O> {
    /// The index of its last command, a repeated one included.
    last_idx: u64,
    /// Outputs below this number are forgotten.
    oldest: u64,
    /// The index and the output of each other command, by number.
    outputs: BTreeMap<u64, (u64, O)>,
}

impl<O> Default for Sessions<O> {
    fn default() -> Self {
        Self { clients: BTreeMap::new(), touches: VecDeque::new() }
    }
}

impl<O> Sessions<O> {
    /// Completes what was decoded.
    pub(super) fn decoded(mut self) -> Self {
        let touches = self.clients.iter().map(|(client, session)| (session.last_idx, *client));
        let mut touches: Vec<(u64, u64)> = touches.collect();
        touches.sort_unstable();
        self.touches = touches.into();
        self
    }

    /// Returns what is known of a command.
    pub(super) fn lookup(&self, id: CommandId) -> Lookup<'_, O> {
        self.clients.get(&id.client).map_or(Lookup::New, |session| session.lookup(id.number))
    }

    /// Notes that the command at `idx`, which is the next one, is of this client. Returns its session.
    pub(super) fn touch(&mut self, client: u64, idx: u64) -> &mut Session<O> {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            self.forget_oldest_clients();
        }
        if self.touches.len() >= MAX_TOUCHES {
            let clients = &self.clients;
            self.touches.retain(|touch| is_last(clients, *touch));
        }
        self.touches.push_back((idx, client));
        let new = Session { last_idx: idx, oldest: 0, outputs: BTreeMap::new() };
        let session = self.clients.entry(client).or_insert(new);
        session.last_idx = idx;
        session
    }

    /// Makes room for one more client.
    fn forget_oldest_clients(&mut self) {
        while self.clients.len() >= MAX_CLIENTS {
            let Some(oldest) = self.touches.pop_front() else { return };
            if is_last(&self.clients, oldest) {
                self.clients.remove(&oldest.1);
            }
        }
    }
}

/// Returns whether the command at an index is the last one of its client.
fn is_last<O>(clients: &BTreeMap<u64, Session<O>>, (idx, client): (u64, u64)) -> bool {
    clients.get(&client).is_some_and(|session| session.last_idx == idx)
}

impl<O> Session<O> {
    /// Returns what is known of the command with this number.
    pub(super) fn lookup(&self, number: u64) -> Lookup<'_, O> {
        match self.outputs.get(&number) {
            _ if number < self.oldest => Lookup::Forgotten,
            Some((idx, output)) => Lookup::Kept(*idx, output),
            None => Lookup::New,
        }
    }

    /// Keeps the output of the command with this number, which was applied at `idx`.
    pub(super) fn keep(&mut self, number: u64, idx: u64, output: O) {
        self.outputs.insert(number, (idx, output));
        if self.outputs.len() > MAX_OUTPUTS {
            let first = self.outputs.keys().next().copied();
            self.forget_below(first.unwrap_or(0).saturating_add(1));
        }
    }

    /// Forgets the outputs of commands below this number.
    pub(super) fn forget_below(&mut self, number: u64) {
        self.oldest = self.oldest.max(number);
        while let Some(first) = self.outputs.first_entry().filter(|first| *first.key() < number) {
            first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandId, Lookup, Sessions, MAX_CLIENTS, MAX_OUTPUTS, MAX_TOUCHES};

    fn id(client: u64, number: u64) -> CommandId {
        CommandId { client, number, oldest: 0 }
    }

    /// Applies a command as the state machine does, and returns whether it was new.
    fn apply(sessions: &mut Sessions<u64>, idx: u64, id: CommandId) -> bool {
        let session = sessions.touch(id.client, idx);
        let is_new = session.lookup(id.number) == Lookup::New;
        if is_new {
            session.keep(id.number, idx, idx * 10);
        }
        session.forget_below(id.oldest);
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
        assert_eq!(sessions.lookup(id(0, 0)), Lookup::Kept(0, &0));
        assert_eq!(sessions.lookup(id(1, 0)), Lookup::New, "the client with the oldest command");
    }

    #[test]
    fn many_commands_of_few_clients_take_little_memory_and_hide_no_other_client() {
        let mut sessions = Sessions::default();
        apply(&mut sessions, 0, id(7, 0));
        let many = 10 * MAX_TOUCHES as u64;
        for idx in 1..many {
            apply(&mut sessions, idx, CommandId { oldest: idx, ..id(idx % 3, idx) });
            assert!(sessions.touches.len() <= MAX_TOUCHES);
        }
        // Three busy clients and 1,021 new ones are as many as are remembered. So the last new one takes the place of
        // the silent client.
        for client in 0..MAX_CLIENTS as u64 - 3 {
            assert_eq!(sessions.lookup(id(7, 0)), Lookup::Kept(0, &0));
            apply(&mut sessions, many + client, id(100 + client, 0));
        }
        assert_eq!(sessions.lookup(id(7, 0)), Lookup::New);
        assert_eq!(sessions.clients.len(), MAX_CLIENTS);
        let last = many - 1;
        assert_eq!(sessions.lookup(id(last % 3, last)), Lookup::Kept(last, &(last * 10)));
    }

    #[test]
    fn a_decoded_copy_continues_alike() {
        let (mut sessions, mut copy) = (Sessions::default(), Sessions::default());
        for idx in 0..10_000 {
            // Of 1,500 clients, some come often.
            let client = if idx % 7 == 0 { idx % 70 } else { idx % 1500 };
            apply(&mut sessions, idx, id(client, idx));
            apply(&mut copy, idx, id(client, idx));
            if idx % 500 == 0 {
                let config = bincode::config::standard();
                let bytes = bincode::serde::encode_to_vec(&copy, config).unwrap();
                let (decoded, _): (Sessions<u64>, usize) =
                    bincode::serde::decode_from_slice(&bytes, config).unwrap();
                copy = decoded.decoded();
            }
            assert_eq!(copy.clients, sessions.clients);
        }
        assert_eq!(sessions.clients.len(), MAX_CLIENTS, "clients were forgotten");
    }
}
