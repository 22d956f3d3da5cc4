//! Decides whether a history of one register is linearizable.
//!
//! Each write writes another value, so a read shows which write it follows. That makes the question
//! easy: Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26 (1997). A write and the
//! reads of its value form a cluster. Its zone lies between the first end and the last start of an
//! operation in it. If some operation ends before another starts, the register must hold the value
//! throughout the zone, which is called forward; else all are under way throughout the zone, which is
//! called backward, and one instant of it is enough. The history is linearizable if no two forward
//! zones overlap and none contains a backward one. That is all of it, in n log n steps, so no history
//! is too large.
//!
//! The crates that search for an order either bound the search by a clock, with which a seed would
//! not give the same run, or do not bound it.

use std::{collections::BTreeMap, fmt};

/// The value that a register holds at first.
pub const INITIAL: u64 = 0;

/// A read or a write. No two instants are the same, and none is 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What is done.
    pub action: Action,
    /// When it was invoked.
    pub invoked: u64,
    /// When it was answered. A write that was not may take effect at any time later, or never; a read
    /// that was not proves nothing.
    pub answered: Option<u64>,
}

/// What is done to a register.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes a value that nobody else writes, and not [`INITIAL`].
    Write(u64),
    /// Finds a value.
    Read(u64),
}

/// Why a history is not linearizable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value was read that nobody wrote.
    NeverWritten(u64),
    /// A value was read before anybody began to write it.
    ReadEarly(u64),
    /// Two values were written by the same name.
    WrittenTwice(u64),
    /// Each of two values must have been there while the other was.
    Both(Zone, Zone),
    /// The second value was written and read only while the first must have been there.
    Within(Zone, Zone),
}

/// When a register held a value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The value.
    pub value: u64,
    /// The zone begins.
    pub from: u64,
    /// The zone ends.
    pub to: u64,
}

/// Whether the value must have been there throughout a zone, or at some instant in it.
enum Kind {
    Forward(Zone),
    Backward(Zone),
}

/// A write and the reads of its value.
struct Cluster {
    invoked: u64,
    first_end: u64,
    last_start: u64,
    /// Whether it certainly took effect.
    effect: Effect,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Effect {
    Certain,
    Possible,
}

/// Checks the history of one register.
///
/// # Errors
/// Why it is not linearizable.
pub fn check(history: &[Operation]) -> Result<(), Fault> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for (value, cluster) in clusters(history)? {
        match cluster.zone(value) {
            None => {}
            Some(Kind::Forward(zone)) => forward.push(zone),
            Some(Kind::Backward(zone)) => backward.push(zone),
        }
    }
    forward.sort_by_key(|zone| zone.from);
    for (one, next) in forward.iter().zip(forward.iter().skip(1)) {
        if next.from < one.to {
            return Err(Fault::Both(*one, *next));
        }
    }
    for inner in backward {
        let after = forward.partition_point(|zone| zone.from < inner.from);
        let outer = after.checked_sub(1).and_then(|at| forward.get(at));
        if let Some(outer) = outer.filter(|outer| inner.to < outer.to) {
            return Err(Fault::Within(*outer, inner));
        }
    }
    Ok(())
}

fn clusters(history: &[Operation]) -> Result<BTreeMap<u64, Cluster>, Fault> {
    let at_first = Cluster { invoked: 0, first_end: 0, last_start: 0, effect: Effect::Possible };
    let mut clusters = BTreeMap::from([(INITIAL, at_first)]);
    for operation in history {
        if let Operation { action: Action::Write(value), invoked, answered } = *operation {
            let effect = if answered.is_some() { Effect::Certain } else { Effect::Possible };
            let first_end = answered.unwrap_or(u64::MAX);
            let cluster = Cluster { invoked, first_end, last_start: invoked, effect };
            if clusters.insert(value, cluster).is_some() {
                return Err(Fault::WrittenTwice(value));
            }
        }
    }
    for operation in history {
        if let Operation { action: Action::Read(value), invoked, answered: Some(end) } = *operation
        {
            let cluster = clusters.get_mut(&value).ok_or(Fault::NeverWritten(value))?;
            if end < cluster.invoked {
                return Err(Fault::ReadEarly(value));
            }
            cluster.first_end = cluster.first_end.min(end);
            cluster.last_start = cluster.last_start.max(invoked);
            cluster.effect = Effect::Certain;
        }
    }
    Ok(clusters)
}

impl Cluster {
    /// `None` for a value that need not have been there.
    fn zone(&self, value: u64) -> Option<Kind> {
        let Self { first_end, last_start, effect, .. } = *self;
        if effect == Effect::Possible {
            return None;
        }
        Some(match first_end < last_start {
            true => Kind::Forward(Zone { value, from: first_end, to: last_start }),
            false => Kind::Backward(Zone { value, from: last_start, to: first_end }),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NeverWritten(value) => write!(f, "{value} was read and never written"),
            Fault::ReadEarly(value) => write!(f, "{value} was read before it was proposed"),
            Fault::WrittenTwice(value) => write!(f, "{value} was written twice"),
            Fault::Both(one, two) => write!(f, "{one} and {two}"),
            Fault::Within(outer, inner) => {
                write!(f, "{outer}, and meanwhile at some instant {inner}")
            }
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must have been there in {}..{}", self.value, self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::{check, Action, Fault, Operation, INITIAL};
    use crate::rng::Rng;

    const OPEN: u64 = u64::MAX;

    fn write(value: u64, invoked: u64, answered: u64) -> Operation {
        let answered = Some(answered).filter(|answered| *answered != OPEN);
        Operation { action: Action::Write(value), invoked, answered }
    }

    fn read(value: u64, invoked: u64, answered: u64) -> Operation {
        Operation { action: Action::Read(value), invoked, answered: Some(answered) }
    }

    #[test]
    fn what_is_linearizable() {
        let histories: [&[Operation]; 8] = [
            &[],
            &[read(INITIAL, 1, 2), write(1, 3, 4), read(1, 5, 6)],
            // While a write is under way, one read may miss it and a later one see it.
            &[write(1, 1, 9), read(INITIAL, 2, 3), read(1, 4, 5)],
            // Two writes at once, in either order.
            &[write(1, 1, 4), write(2, 2, 3), read(1, 5, 6), read(1, 7, 8)],
            &[write(1, 1, 4), write(2, 2, 3), read(2, 5, 6), read(2, 7, 8)],
            // What was not answered takes effect late, or never.
            &[write(1, 1, OPEN), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7), read(1, 8, 9)],
            &[write(1, 1, OPEN), write(2, 2, 3), read(2, 4, 5)],
            // Reads that overlap.
            &[write(1, 1, 2), write(2, 3, 8), read(2, 4, 7), read(1, 5, 6)],
        ];
        for history in histories {
            assert_eq!(check(history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn what_is_not() {
        let histories: [(&[Operation], &str); 8] = [
            (&[read(1, 1, 2)], "NeverWritten"),
            (&[read(1, 1, 2), write(1, 3, 4)], "ReadEarly"),
            (&[write(1, 1, 2), write(1, 3, 4)], "WrittenTwice"),
            // Out of date.
            (&[write(1, 1, 2), read(INITIAL, 3, 4)], "Within"),
            (&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)], "Within"),
            // Seen, and then not.
            (&[write(1, 1, OPEN), read(1, 2, 3), read(INITIAL, 4, 5)], "Within"),
            (&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6), read(2, 7, 8)], "Both"),
            // Written once, and there again after another was.
            (
                &[write(1, 1, 2), read(1, 3, 4), write(2, 5, OPEN), read(2, 6, 7), read(1, 8, 9)],
                "Within",
            ),
        ];
        for (history, kind) in histories {
            let fault = check(history).map_err(|fault| format!("{fault:?}"));
            assert!(fault.as_ref().is_err_and(|f| f.starts_with(kind)), "{history:?}: {fault:?}");
        }
    }

    #[test]
    fn a_value_of_an_open_write_that_was_read_counts() {
        let history = [write(1, 1, OPEN), write(2, 2, 3), read(1, 4, 5), read(2, 6, 7)];
        let fault = check(&history);
        assert!(matches!(fault, Err(Fault::Within(..))), "{fault:?}");
    }

    /// Tries all orders.
    fn has_order(left: &[Operation], value: u64) -> bool {
        let ends = left.iter().filter_map(|operation| operation.answered);
        let Some(first_end) = ends.min() else {
            return true;
        };
        let mut next = left.iter().enumerate().filter(|(_, o)| o.invoked < first_end);
        next.any(|(at, operation)| {
            let mut rest = left.to_vec();
            rest.remove(at);
            match operation.action {
                Action::Write(written) => has_order(&rest, written),
                Action::Read(found) => found == value && has_order(&rest, value),
            }
        })
    }

    #[test]
    fn agrees_with_a_search_for_an_order() {
        let mut sound = 0;
        for seed in 0..20_000 {
            let mut rng = Rng::of(&[seed]);
            let (writes, reads) = (rng.between(1, 3), rng.between(1, 4));
            let mut instants: Vec<u64> = (1..=2 * (writes + reads)).collect();
            let mut span = |rng: &mut Rng| {
                let (a, b) = (rng.index(instants.len()), rng.index(instants.len() - 1));
                let (a, b) = (instants.swap_remove(a), instants.swap_remove(b));
                (a.min(b), a.max(b))
            };
            let mut history = Vec::new();
            for value in 1..=writes {
                let (from, to) = span(&mut rng);
                history.push(write(value, from, if rng.chance(1, 4) { OPEN } else { to }));
            }
            for _ in 0..reads {
                let (from, to) = span(&mut rng);
                history.push(read(rng.between(0, writes), from, to));
            }
            let expected = has_order(&history, INITIAL);
            sound += u64::from(expected);
            assert_eq!(check(&history).is_ok(), expected, "{history:?}");
        }
        assert!((2_000..18_000).contains(&sound), "{sound} are linearizable");
    }
}
