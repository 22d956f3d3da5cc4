//! What the log means: changes, and the state they make, which is also the snapshot.

use crate::{
    members::{self, Addresses},
    places::Places,
    watchers::Watchers,
};
use omnipaxos::storage::{Owned, StopSign};
use omnipaxos_runtime::StateMachine;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// What a command changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// The new value; `None` deletes the key.
    pub(crate) value: Option<String>,
}

/// All keys and values. A clone shares the values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    values: BTreeMap<String, Arc<str>>,
    /// Where servers find the members; empty until a first change of the members. A snapshot stands
    /// for the stop signs before it, so it has to hold what they said.
    members: Addresses,
}

impl State {
    /// Applies a change, and returns the new value of its key.
    pub(crate) fn apply(&mut self, Change { key, value }: &Change) -> Option<Arc<str>> {
        let Some(value) = value else {
            self.values.remove(key);
            return None;
        };
        let value: Arc<str> = value.as_str().into();
        match self.values.get_mut(key) {
            Some(present) => *present = value.clone(),
            None => drop(self.values.insert(key.clone(), value.clone())),
        }
        Some(value)
    }

    fn apply_stop_sign(&mut self, stop_sign: &StopSign) {
        let metadata = stop_sign.metadata.as_deref();
        if let Some(members) = metadata.and_then(members::from_metadata) {
            self.members = members;
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Arc<str>> {
        self.values.get(key)
    }

    pub(crate) fn number_of_keys(&self) -> u64 {
        self.values.len() as u64
    }

    /// FNV-1a of all keys and values in order, with their lengths. The same on every machine.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        // One loop over one slice: values of many megabytes take a while in an unoptimised build.
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for text in self.values.iter().flat_map(|(key, value)| [key.as_str(), value]) {
            add(&(text.len() as u64).to_le_bytes());
            add(text.as_bytes());
        }
        digest
    }

    /// The changes that lead from `self` to `later`: keys, and their new values.
    fn changes_to<'a>(
        &'a self,
        later: &'a State,
    ) -> impl Iterator<Item = (&'a str, Option<&'a Arc<str>>)> {
        let gone = self.values.keys().filter(|key| !later.values.contains_key(*key));
        let new = later.values.iter().filter(|(key, value)| self.get(key) != Some(*value));
        let gone = gone.map(|key| (key.as_str(), None));
        gone.chain(new.map(|(key, value)| (key.as_str(), Some(value))))
    }
}

/// The state of a server, and who wants to know of changes.
pub(crate) struct Store {
    state: State,
    watchers: Arc<Watchers>,
    places: Arc<Places>,
}

impl Store {
    pub(crate) fn new(watchers: Arc<Watchers>, places: Arc<Places>) -> Self {
        Self { state: State::default(), watchers, places }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }
}

impl StateMachine for Store {
    type Command = Change;
    type Output = ();
    type Snapshot = State;

    fn apply(&mut self, _idx: u64, change: &Change) {
        let value = self.state.apply(change);
        self.watchers.send(&change.key, value.as_ref());
    }

    fn apply_stop_sign(&mut self, _idx: u64, stop_sign: &StopSign) {
        self.state.apply_stop_sign(stop_sign);
        self.places.follow(&self.state.members);
    }

    fn snapshot(&self) -> State {
        self.state.clone()
    }

    /// Takes over a state that another server has made of the same log, or this one before it was
    /// restarted.
    fn restore(&mut self, state: State) {
        for (key, value) in self.state.changes_to(&state) {
            self.watchers.send(key, value);
        }
        self.state = state;
        self.places.follow(&self.state.members);
    }

    fn command_bytes(change: &Change) -> usize {
        size_of::<Change>() + change.key.owned_bytes() + change.value.owned_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, State, Store};
    use crate::members::to_metadata;
    use bincode::config::standard;
    use omnipaxos::{storage::StopSign, ClusterConfig};
    use omnipaxos_runtime::StateMachine;

    fn change(key: &str, value: Option<&str>) -> Change {
        Change { key: key.to_owned(), value: value.map(str::to_owned) }
    }

    fn put(key: &str, value: &str) -> Change {
        change(key, Some(value))
    }

    fn state(changes: &[Change]) -> State {
        let mut state = State::default();
        for change in changes {
            state.apply(change);
        }
        state
    }

    #[test]
    fn a_command_tells_how_large_it_is() {
        let alone = size_of::<Change>();
        assert_eq!(Store::command_bytes(&put("abc", "12345")), alone + 8);
        assert_eq!(Store::command_bytes(&change("abc", None)), alone + 3);
    }

    #[test]
    fn a_snapshot_continues_as_the_state_and_holds_the_addresses_of_the_members() {
        let mut state = state(&[put("a", "1"), put("b", "2"), change("b", None)]);
        let members = [(1, "h:1".to_owned()), (4, "h:4".to_owned())].into();
        let metadata = Some(to_metadata(&members));
        state.apply_stop_sign(&StopSign::with(ClusterConfig::default(), metadata));
        state.apply_stop_sign(&StopSign::with(ClusterConfig::default(), None));
        let bytes = bincode::serde::encode_to_vec(&state, standard()).unwrap();
        let (later, _): (State, usize) =
            bincode::serde::decode_from_slice(&bytes, standard()).unwrap();
        assert_eq!((&later, &later.members), (&state, &members));
    }

    #[test]
    fn the_digest_tells_states_apart_and_stays_the_same() {
        assert_eq!(State::default().digest(), 0xcbf2_9ce4_8422_2325);
        let states = [
            state(&[put("ab", "c")]),
            state(&[put("a", "bc")]),
            state(&[put("a", "b"), put("c", "")]),
            state(&[]),
        ];
        for (i, a) in states.iter().enumerate() {
            for (j, b) in states.iter().enumerate() {
                assert_eq!(a.digest() == b.digest(), i == j);
            }
        }
        let by_another_way = state(&[put("ab", "x"), put("ab", "c")]);
        assert_eq!(by_another_way.digest(), states[0].digest());
    }

    #[test]
    fn changes_lead_from_one_state_to_the_other() {
        let before = state(&[put("a", "1"), put("b", "1"), put("c", "1")]);
        let after = state(&[put("a", "1"), put("b", "2"), put("d", "1")]);
        let changes: Vec<Change> = before
            .changes_to(&after)
            .map(|(key, value)| change(key, value.map(|value| &**value)))
            .collect();
        assert_eq!(changes, [change("c", None), put("b", "2"), put("d", "1")]);
    }
}
