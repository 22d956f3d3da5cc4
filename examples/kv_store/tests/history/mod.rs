//! What clients asked and were answered, and whether one register a key explains it.
//!
//! Linearizability is checked key by key, as it may be (Herlihy and Wing, 1990), with the search of
//! Wing and Gong, which remembers what it has tried (Lowe, 2017). Every value is put once at most.

pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A value. No two puts have the same.
pub(crate) type Value = u64;

/// A point in time. Each is given once, so that all are in one order.
pub(crate) type Moment = u64;

/// What was asked of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Put(Value),
    /// And what was answered.
    Get(Option<Value>),
}

/// Something that a client asked.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) key: usize,
    pub(crate) asked: Asked,
    pub(crate) begun: Moment,
    /// When the answer came. `None`: it may be done or not, or be done later.
    pub(crate) answered: Option<Moment>,
}

/// Whether one register for each key, which begins empty, explains all answers. Else what cannot be
/// explained.
pub(crate) fn check(history: &[Operation]) -> Result<(), String> {
    let mut by_key: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        by_key.entry(operation.key).or_default().push(*operation);
    }
    by_key.into_values().try_for_each(|operations| check_key(relevant(operations)))
}

/// Leaves out what can be explained always: a get without an answer, and a put without one that
/// nobody has read, which may have come to nothing. The rest has taken effect.
fn relevant(mut operations: Vec<Operation>) -> Vec<Operation> {
    let read: BTreeSet<Value> = operations
        .iter()
        .filter_map(|operation| match operation.asked {
            Asked::Get(value) => value,
            Asked::Put(_) => None,
        })
        .collect();
    operations.retain(|operation| match operation.asked {
        Asked::Put(value) => operation.answered.is_some() || read.contains(&value),
        Asked::Get(_) => operation.answered.is_some(),
    });
    operations.sort_by_key(|operation| operation.begun);
    operations
}

/// How far an order has got.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Order {
    /// All before this position have taken effect,
    first: usize,
    /// and these, which come later.
    beyond: BTreeSet<usize>,
    value: Option<Value>,
}

impl Order {
    fn after(&self, position: usize, operation: &Operation) -> Self {
        let mut order = self.clone();
        order.beyond.insert(position);
        while order.beyond.remove(&order.first) {
            order.first += 1;
        }
        match operation.asked {
            Asked::Put(value) => order.value = Some(value),
            Asked::Get(_) => {}
        }
        order
    }

    /// The operations that may take effect next: none of the others was answered before they began.
    fn candidates(&self, operations: &[Operation]) -> Vec<usize> {
        let mut first_answer = Moment::MAX;
        let mut candidates = Vec::new();
        for (position, operation) in operations.iter().enumerate().skip(self.first) {
            if operation.begun > first_answer {
                break;
            }
            if !self.beyond.contains(&position) {
                first_answer = first_answer.min(operation.answered.unwrap_or(Moment::MAX));
                candidates.push(position);
            }
        }
        candidates
    }
}

fn check_key(operations: Vec<Operation>) -> Result<(), String> {
    let start = Order { first: 0, beyond: BTreeSet::new(), value: None };
    let mut furthest = start.clone();
    let (mut to_try, mut tried) = (vec![start], HashSet::new());
    while let Some(order) = to_try.pop() {
        if order.first == operations.len() {
            return Ok(());
        }
        if !tried.insert(order.clone()) {
            continue;
        }
        let candidates = order.candidates(&operations);
        let explained = |at: &usize| operations[*at].asked == Asked::Get(order.value);
        // A get that is explained now need not wait: it changes nothing for the others.
        if let Some(at) = candidates.iter().copied().find(explained) {
            to_try.push(order.after(at, &operations[at]));
        } else {
            let puts = candidates.iter().copied();
            let puts = puts.filter(|at| matches!(operations[*at].asked, Asked::Put(_)));
            to_try.extend(puts.map(|at| order.after(at, &operations[at])));
        }
        if order.first > furthest.first {
            furthest = order;
        }
    }
    let stuck: Vec<&Operation> =
        furthest.candidates(&operations).into_iter().map(|at| &operations[at]).collect();
    Err(format!(
        "not linearizable: the best order explains {} of {} operations, and ends with the value \
         {:?}, where one of these must come next: {stuck:#?}",
        furthest.first,
        operations.len(),
        furthest.value
    ))
}

#[cfg(test)]
mod tests {
    use super::{check, Asked, Operation};
    use Asked::{Get, Put};

    /// What is asked of key 0, from when to when; 0 if it is not answered.
    fn history(operations: &[(Asked, u64, u64)]) -> Vec<Operation> {
        let operation = |(asked, begun, answered): &(Asked, u64, u64)| Operation {
            key: 0,
            asked: *asked,
            begun: *begun,
            answered: Some(*answered).filter(|moment| *moment > 0),
        };
        operations.iter().map(operation).collect()
    }

    #[test]
    fn what_a_register_explains() {
        let table: [&[(Asked, u64, u64)]; 8] = [
            &[],
            &[(Get(None), 1, 2), (Put(1), 3, 4), (Get(Some(1)), 5, 6)],
            // A get beside a put sees either; of two puts at once, either may be the last.
            &[(Put(1), 1, 4), (Get(None), 2, 3), (Get(Some(1)), 5, 6)],
            &[(Put(1), 1, 4), (Get(Some(1)), 2, 3)],
            &[(Put(1), 1, 4), (Put(2), 2, 3), (Get(Some(1)), 5, 6)],
            // What was not answered is done late, or never.
            &[(Put(1), 1, 0), (Put(2), 2, 3), (Get(Some(2)), 4, 5), (Get(Some(1)), 6, 7)],
            &[(Put(1), 1, 0), (Put(2), 2, 3), (Get(Some(2)), 4, 5)],
            &[(Get(Some(1)), 2, 5), (Put(1), 3, 0), (Get(None), 4, 6)],
        ];
        for operations in table {
            assert_eq!(check(&history(operations)), Ok(()), "{operations:?}");
        }
    }

    #[test]
    fn what_no_register_explains() {
        let table: [&[(Asked, u64, u64)]; 7] = [
            // Lost, old, not there yet, out of nowhere.
            &[(Put(1), 1, 2), (Get(None), 3, 4)],
            &[(Put(1), 1, 2), (Put(2), 3, 4), (Get(Some(1)), 5, 6)],
            &[(Get(Some(1)), 1, 2), (Put(1), 3, 4)],
            &[(Get(Some(9)), 1, 2)],
            // Two gets that disagree on the order of two puts; one that goes back.
            &[
                (Put(1), 1, 9),
                (Put(2), 2, 10),
                (Get(Some(1)), 3, 4),
                (Get(Some(2)), 5, 6),
                (Get(Some(1)), 7, 8),
            ],
            &[(Put(1), 1, 10), (Get(Some(1)), 2, 3), (Get(None), 4, 5)],
            // Done, then undone, though never answered.
            &[(Put(1), 1, 0), (Get(Some(1)), 2, 3), (Put(2), 4, 5), (Get(Some(1)), 6, 7)],
        ];
        for operations in table {
            assert!(check(&history(operations)).is_err(), "{operations:?}");
        }
    }

    #[test]
    fn keys_do_not_mix() {
        let mut operations = history(&[(Put(1), 1, 2), (Get(None), 3, 4)]);
        operations[1].key = 1;
        assert_eq!(check(&operations), Ok(()));
    }
}
