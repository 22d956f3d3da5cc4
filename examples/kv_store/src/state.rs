//! What the log means: commands, and the state they make, which is also the snapshot.

use crate::members::{self, Addresses};
use omnipaxos::{
    macros::Entry,
    storage::{Owned, Snapshot, StopSign},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[snapshot(State)]
pub(crate) struct Command {
    pub(crate) client: u64,
    pub(crate) number: u64,
    /// As in the request: the client has its answer to everything below.
    pub(crate) oldest: u64,
    pub(crate) change: Change,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// The new value; `None` deletes the key.
    pub(crate) value: Option<String>,
}

/// So that a [`Command`] tells how large it is, and what waits for a leader is bounded by its size.
impl Owned for Change {
    fn owned_bytes(&self) -> usize {
        self.key.owned_bytes() + self.value.owned_bytes()
    }
}

/// What a command did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Now,
    /// It is in the log a second time, because the client asked again.
    Before,
}

/// What is known of a command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is not applied, as far as is remembered.
    No,
    /// It was decided at this index: the first time, if it is in the log several times.
    Decided { idx: u64 },
    /// Its client has said that it has the answer, or has too many without.
    Answered,
}

/// So many clients are remembered. Of more, the one whose last command is the oldest in the log is
/// forgotten, at all servers alike; what it asks again then is done again.
const MOST_CLIENTS: usize = 1024;

/// So many answers are remembered of one client. It has fewer requests under way.
const MOST_ANSWERS: usize = 1024;

/// All keys and values, and what is needed to apply no command twice.
///
/// A snapshot is a clone of it, which shares the values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    values: BTreeMap<String, Arc<str>>,
    /// At most [`MOST_CLIENTS`].
    clients: BTreeMap<u64, Requests>,
    /// Number of log entries applied: the index of the next.
    len: u64,
    /// Where servers find the members; empty until a first change of the members. A snapshot stands
    /// for the stop signs before it, so it has to hold what they said.
    members: Addresses,
}

impl State {
    /// Applies the next command of the log, unless it was applied before.
    pub(crate) fn apply(&mut self, command: &Command) -> Applied {
        let idx = self.len;
        self.len += 1;
        self.make_room_for(command.client);
        let requests = self.clients.entry(command.client).or_default();
        requests.last_idx = idx;
        let applied = requests.add(command.number, idx);
        requests.forget_below(command.oldest);
        if applied == Applied::Now {
            let Change { key, value } = command.change.clone();
            match value {
                Some(value) => drop(self.values.insert(key, value.into())),
                None => drop(self.values.remove(&key)),
            }
        }
        applied
    }

    /// Applies the stop sign that is next in the log.
    pub(crate) fn apply_stop_sign(&mut self, stop_sign: &StopSign) {
        self.len += 1;
        let metadata = stop_sign.metadata.as_deref();
        if let Some(members) = metadata.and_then(members::from_metadata) {
            self.members = members;
        }
    }

    /// Where servers find the members; empty if the members never changed.
    pub(crate) fn members(&self) -> &Addresses {
        &self.members
    }

    /// Forgets a client, if there is no room for another. By the order of the log, so that all
    /// servers forget the same.
    fn make_room_for(&mut self, client: u64) {
        if self.clients.len() < MOST_CLIENTS || self.clients.contains_key(&client) {
            return;
        }
        let oldest = self.clients.iter().min_by_key(|(_, requests)| requests.last_idx);
        if let Some(oldest) = oldest.map(|(client, _)| *client) {
            self.clients.remove(&oldest);
        }
    }

    /// What is known of a command.
    pub(crate) fn known(&self, client: u64, number: u64) -> Known {
        self.clients.get(&client).map_or(Known::No, |requests| requests.known(number))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| &**value)
    }

    pub(crate) fn number_of_keys(&self) -> u64 {
        self.values.len() as u64
    }

    /// FNV-1a of all keys and values in order, with their lengths. The same on every machine.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for text in self.values.iter().flat_map(|(key, value)| [key.as_str(), value]) {
            for byte in (text.len() as u64).to_le_bytes().iter().chain(text.as_bytes()) {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        digest
    }

    /// The changes that lead from `self` to `later`.
    pub(crate) fn changes_to(&self, later: &State) -> Vec<Change> {
        let gone = self.values.keys().filter(|key| !later.values.contains_key(*key));
        let gone = gone.map(|key| Change { key: key.clone(), value: None });
        let new = later.values.iter().filter(|(key, value)| self.get(key) != Some(&***value));
        let new =
            new.map(|(key, value)| Change { key: key.clone(), value: Some(value.to_string()) });
        gone.chain(new).collect()
    }
}

/// The requests of one client that were applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Requests {
    /// The index of its last command in the log, a repetition included.
    last_idx: u64,
    /// The client asks for none below this number again.
    oldest: u64,
    /// The index at which each of the others was decided, by number. A client has several requests
    /// under way, which may be decided in any order. At most [`MOST_ANSWERS`].
    decided: BTreeMap<u64, u64>,
}

impl Requests {
    fn known(&self, number: u64) -> Known {
        if number < self.oldest {
            return Known::Answered;
        }
        self.decided.get(&number).map_or(Known::No, |idx| Known::Decided { idx: *idx })
    }

    fn add(&mut self, number: u64, idx: u64) -> Applied {
        match self.known(number) {
            Known::Decided { .. } | Known::Answered => Applied::Before,
            Known::No => {
                self.decided.insert(number, idx);
                if self.decided.len() > MOST_ANSWERS {
                    let first = self.decided.keys().next().copied();
                    self.forget_below(first.unwrap_or(0).saturating_add(1));
                }
                Applied::Now
            }
        }
    }

    fn forget_below(&mut self, number: u64) {
        if number > self.oldest {
            self.oldest = number;
            self.decided = self.decided.split_off(&number);
        }
    }
}

/// The state is the snapshot: the server passes it to
/// [`compact_with`](omnipaxos::OmniPaxos::compact_with). Whether a command is a repetition depends on all
/// that was before it, so no snapshot can be made of commands alone.
impl Snapshot<Command> for State {
    fn create(_: &[Command]) -> Self {
        unreachable!("can_create() is false")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create() is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{Applied, Change, Command, Known, State, MOST_ANSWERS, MOST_CLIENTS};
    use crate::members::to_metadata;
    use bincode::config::standard;
    use omnipaxos::{
        storage::{Entry, StopSign},
        ClusterConfig,
    };

    fn put(client: u64, number: u64, key: &str, value: &str) -> Command {
        let change = Change { key: key.to_owned(), value: Some(value.to_owned()) };
        Command { client, number, oldest: 0, change }
    }

    fn delete(client: u64, number: u64, key: &str) -> Command {
        Command {
            change: Change { key: key.to_owned(), value: None },
            ..put(client, number, "", "")
        }
    }

    fn state(commands: &[Command]) -> State {
        let mut state = State::default();
        for command in commands {
            state.apply(command);
        }
        state
    }

    #[test]
    fn a_command_tells_how_large_it_is() {
        assert_eq!(put(1, 0, "abc", "12345").size_hint(), size_of::<Command>() + 8);
        assert_eq!(delete(1, 0, "abc").size_hint(), size_of::<Command>() + 3);
    }

    #[test]
    fn a_repetition_changes_nothing() {
        let mut state = state(&[put(1, 0, "a", "1"), put(2, 0, "a", "2")]);
        assert_eq!(state.apply(&put(1, 0, "a", "1")), Applied::Before);
        assert_eq!(state.get("a"), Some("2"));
        assert_eq!(state.known(1, 0), Known::Decided { idx: 0 }, "not where it is again");
        assert_eq!((state.known(1, 1), state.known(3, 0)), (Known::No, Known::No));
    }

    #[test]
    fn commands_of_a_client_may_come_in_any_order() {
        let mut state = state(&[put(1, 3, "d", ""), put(1, 1, "b", ""), put(1, 0, "a", "")]);
        assert_eq!(state.known(1, 2), Known::No);
        assert_eq!(state.apply(&put(1, 2, "c", "")), Applied::Now);
        assert_eq!(state.number_of_keys(), 4);
        let at = |number| state.known(1, number);
        assert_eq!([0, 1, 2, 3].map(at), [2, 1, 3, 0].map(|idx| Known::Decided { idx }));
        let jump = Command { oldest: 9, ..put(1, 12, "e", "") };
        assert_eq!(state.apply(&jump), Applied::Now);
        assert_eq!((state.known(1, 3), state.known(1, 8)), (Known::Answered, Known::Answered));
        assert_eq!(state.apply(&put(1, 8, "f", "")), Applied::Before);
        assert_eq!(state.apply(&put(1, 9, "f", "")), Applied::Now);
    }

    #[test]
    fn the_client_whose_last_command_is_the_oldest_is_forgotten() {
        let most = MOST_CLIENTS as u64;
        let mut log: Vec<Command> = (0..most).map(|client| put(client, 0, "a", "")).collect();
        log.push(put(0, 0, "a", "")); // asks again, and is the youngest now
        log.push(put(most, 0, "a", ""));
        let all = state(&log);
        assert_eq!(all.clients.len(), MOST_CLIENTS);
        assert_eq!(all.known(0, 0), Known::Decided { idx: 0 });
        assert_eq!((all.known(1, 0), all.known(2, 0)), (Known::No, Known::Decided { idx: 2 }));
    }

    #[test]
    fn the_answers_of_a_client_are_bounded() {
        let most = MOST_ANSWERS as u64;
        let all = state(&(0..=most).map(|number| put(1, number, "a", "")).collect::<Vec<_>>());
        assert_eq!(
            (all.known(1, 0), all.known(1, 1)),
            (Known::Answered, Known::Decided { idx: 1 })
        );
    }

    #[test]
    fn a_snapshot_at_any_index_continues_as_the_state() {
        let log = [
            put(1, 0, "a", "1"),
            put(1, 1, "b", "2"),
            put(2, 0, "a", "3"),
            put(1, 0, "a", "1"),
            delete(2, 1, "b"),
            put(1, 1, "b", "2"),
            delete(2, 2, "nothing"),
            Command { oldest: 2, ..put(1, 3, "c", "4") },
            put(1, 2, "a", "5"),
        ];
        let all = state(&log);
        for idx in 0..=log.len() {
            let bytes = bincode::serde::encode_to_vec(state(&log[..idx]), standard()).unwrap();
            let (mut later, _): (State, usize) =
                bincode::serde::decode_from_slice(&bytes, standard()).unwrap();
            for command in &log[idx..] {
                later.apply(command);
            }
            assert_eq!(later, all, "at {idx}");
        }
    }

    #[test]
    fn a_snapshot_holds_the_addresses_of_the_members() {
        let mut state = state(&[put(1, 0, "a", "1")]);
        let members = [(1, "h:1".to_owned()), (4, "h:4".to_owned())].into();
        let metadata = Some(to_metadata(&members));
        state.apply_stop_sign(&StopSign::with(ClusterConfig::default(), metadata));
        state.apply(&put(1, 1, "b", "1"));
        assert_eq!(state.known(1, 1), Known::Decided { idx: 2 }, "the stop sign has an index");
        state.apply_stop_sign(&StopSign::with(ClusterConfig::default(), None));
        let bytes = bincode::serde::encode_to_vec(&state, standard()).unwrap();
        let (later, _): (State, usize) =
            bincode::serde::decode_from_slice(&bytes, standard()).unwrap();
        assert_eq!((later.members(), later.len), (&members, 4));
    }

    #[test]
    fn the_digest_tells_states_apart_and_stays_the_same() {
        assert_eq!(State::default().digest(), 0xcbf2_9ce4_8422_2325);
        let states = [
            state(&[put(1, 0, "ab", "c")]),
            state(&[put(1, 0, "a", "bc")]),
            state(&[put(1, 0, "a", "b"), put(1, 1, "c", "")]),
            state(&[]),
        ];
        for (i, a) in states.iter().enumerate() {
            for (j, b) in states.iter().enumerate() {
                assert_eq!(a.digest() == b.digest(), i == j);
            }
        }
        let by_another_way = state(&[put(9, 5, "ab", "x"), put(7, 0, "ab", "c")]);
        assert_eq!(by_another_way.digest(), states[0].digest());
    }

    #[test]
    fn changes_lead_from_one_state_to_the_other() {
        let before = state(&[put(1, 0, "a", "1"), put(1, 1, "b", "1"), put(1, 2, "c", "1")]);
        let after = state(&[put(1, 0, "a", "1"), put(1, 1, "b", "2"), put(1, 2, "d", "1")]);
        let change = |key: &str, value: Option<&str>| Change {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        assert_eq!(
            before.changes_to(&after),
            [change("c", None), change("b", Some("2")), change("d", Some("1"))]
        );
    }
}
