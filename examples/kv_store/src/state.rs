//! What the log means: commands, the state they make, and the snapshot of it.

use omnipaxos::{
    macros::Entry,
    storage::{Owned, Snapshot},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[snapshot(Summary)]
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

/// All keys and values, and what is needed to apply no command twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    values: BTreeMap<String, String>,
    /// One for each client ever seen. To forget clients that are gone, servers would have to agree
    /// on the time by entries in the log; this example does not go so far.
    clients: BTreeMap<u64, Numbers>,
}

impl State {
    /// Applies a command, unless it was applied before.
    pub(crate) fn apply(&mut self, command: &Command) -> Applied {
        let numbers = self.clients.entry(command.client).or_default();
        let applied = numbers.add(command.number);
        numbers.add_all_below(command.oldest);
        if applied == Applied::Now {
            let Change { key, value } = command.change.clone();
            match value {
                Some(value) => drop(self.values.insert(key, value)),
                None => drop(self.values.remove(&key)),
            }
        }
        applied
    }

    pub(crate) fn has_applied(&self, client: u64, number: u64) -> bool {
        self.clients.get(&client).is_some_and(|numbers| numbers.contains(number))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&String> {
        self.values.get(key)
    }

    pub(crate) fn number_of_keys(&self) -> u64 {
        self.values.len() as u64
    }

    /// FNV-1a of all keys and values in order, with their lengths. The same on every machine.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for text in self.values.iter().flat_map(|(key, value)| [key, value]) {
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
        let new = later.values.iter().filter(|(key, value)| self.get(key) != Some(value));
        let new = new.map(|(key, value)| Change { key: key.clone(), value: Some(value.clone()) });
        gone.chain(new).collect()
    }
}

/// The numbers of the commands of one client that were applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Numbers {
    /// All numbers below this one.
    all_below: u64,
    /// And these, none of them below: a client has several requests under way, which may be
    /// decided in any order.
    and: BTreeSet<u64>,
}

impl Numbers {
    fn contains(&self, number: u64) -> bool {
        number < self.all_below || self.and.contains(&number)
    }

    fn add(&mut self, number: u64) -> Applied {
        if number < self.all_below || !self.and.insert(number) {
            return Applied::Before;
        }
        self.shift();
        Applied::Now
    }

    fn add_all_below(&mut self, number: u64) {
        if number > self.all_below {
            self.all_below = number;
            self.and = self.and.split_off(&number);
            self.shift();
        }
    }

    fn shift(&mut self) {
        while self.and.remove(&self.all_below) {
            self.all_below = self.all_below.saturating_add(1);
        }
    }
}

/// A snapshot.
///
/// Whether a command is a repetition can depend on all that was before it. So what begins in the
/// middle of the log stays a run of commands until it is merged with what was before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Summary {
    /// What the log means, from its beginning.
    Whole(State),
    /// Commands that follow on one another.
    Run(Vec<Command>),
}

impl Summary {
    /// The state, for a summary that begins where the log begins.
    pub(crate) fn into_state(self) -> State {
        match self {
            Summary::Whole(state) => state,
            Summary::Run(commands) => {
                let mut state = State::default();
                for command in &commands {
                    state.apply(command);
                }
                state
            }
        }
    }
}

impl Snapshot<Command> for Summary {
    fn create(commands: &[Command]) -> Self {
        Summary::Run(commands.to_vec())
    }

    /// The library merges only into a snapshot that begins where the log begins.
    fn merge(&mut self, delta: Self) {
        let before = std::mem::replace(self, Summary::Run(Vec::new()));
        *self = match delta {
            Summary::Whole(state) => Summary::Whole(state),
            Summary::Run(commands) => {
                let mut state = before.into_state();
                for command in &commands {
                    state.apply(command);
                }
                Summary::Whole(state)
            }
        };
    }

    fn use_snapshots() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Applied, Change, Command, State, Summary};
    use omnipaxos::storage::{Entry, Snapshot};

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
        assert_eq!(state.get("a").map(String::as_str), Some("2"));
        assert!(state.has_applied(1, 0) && !state.has_applied(1, 1));
    }

    #[test]
    fn commands_of_a_client_may_come_in_any_order() {
        let mut state = state(&[put(1, 3, "d", ""), put(1, 1, "b", ""), put(1, 0, "a", "")]);
        assert!(!state.has_applied(1, 2));
        assert_eq!(state.apply(&put(1, 2, "c", "")), Applied::Now);
        assert_eq!(state.number_of_keys(), 4);
        assert!((0..4).all(|number| state.has_applied(1, number)));
        let jump = Command { oldest: 9, ..put(1, 12, "e", "") };
        assert_eq!(state.apply(&jump), Applied::Now);
        assert_eq!(state.apply(&put(1, 8, "f", "")), Applied::Before);
        assert_eq!(state.apply(&put(1, 9, "f", "")), Applied::Now);
    }

    #[test]
    fn snapshots_mean_the_same_as_the_log_wherever_it_is_cut() {
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
        for first in 0..=log.len() {
            for second in first..=log.len() {
                let mut summary = Summary::create(&log[..first]);
                summary.merge(Summary::create(&log[first..second]));
                summary.merge(Summary::create(&log[second..]));
                assert_eq!(summary.into_state(), all, "cut at {first} and {second}");
            }
        }
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
