//! The result of `next_timeout`, compared with what the tick does.

use super::server::Replica;
use crate::value::SimEntry;
use omnipaxos::errors::Halted;
use std::fmt::{self, Write};

/// What a tick did.
pub(super) struct Ticked {
    pub(super) result: Result<(), Halted>,
    /// How the tick contradicts what was announced.
    pub(super) contradiction: Option<String>,
}

/// Whether an input may do something.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Something,
    /// It is a tick that was announced to do nothing.
    Nothing,
}

/// Lets one tick pass. A tick that is announced to do nothing must leave the replica as `tick_by` does,
/// which then only counts it; this is compared if `compares`.
pub(super) fn tick<T: SimEntry>(replica: &mut Replica<T>, compares: bool) -> (Ticked, Does) {
    let timeout = replica.next_timeout();
    let is_silent = timeout.is_some_and(|timeout| timeout > 1);
    let expected = (compares && is_silent).then(|| {
        let mut passed = replica.clone();
        assert_eq!(passed.tick_by(1), 1);
        format!("{passed:?}")
    });
    let result = replica.try_tick();
    let left = replica.next_timeout();
    let contradiction = if is_silent && left != timeout.map(|timeout| timeout - 1) {
        Some(format!("next_timeout was {timeout:?}, and is {left:?} a tick later"))
    } else {
        let expected = expected.filter(|expected| !is_described_by(replica, expected));
        expected.and_then(|expected| difference(&without_idle(expected), &describe(replica)))
    };
    (Ticked { result, contradiction }, if is_silent { Does::Nothing } else { Does::Something })
}

/// The whole state, but for whether the next drain has to look for something to do. The disk shows how often it
/// was written.
fn describe<T: SimEntry>(replica: &Replica<T>) -> String {
    without_idle(format!("{replica:?}"))
}

fn without_idle(state: String) -> String {
    state.replace("is_idle: true", "is_idle: false")
}

/// Whether a text describes a replica. It finds no difference where [`difference`] finds none, and stores no second
/// text: states of 600 KB are compared.
fn is_described_by<T: SimEntry>(replica: &Replica<T>, expected: &str) -> bool {
    let mut comparison = Comparison { expected, at: 0 };
    write!(comparison, "{replica:?}").is_ok() && comparison.at == expected.len()
}

/// Compares what is written with a text, and fails at the first difference.
struct Comparison<'a> {
    expected: &'a str,
    at: usize,
}

impl Write for Comparison<'_> {
    fn write_str(&mut self, found: &str) -> fmt::Result {
        let (before, rest) = self.expected.split_at(self.at);
        let expected = match found {
            "true" | "false" if before.ends_with("is_idle: ") => {
                if rest.starts_with("true") {
                    "true"
                } else {
                    "false"
                }
            }
            _ => found,
        };
        if !rest.starts_with(expected) {
            return Err(fmt::Error);
        }
        self.at += expected.len();
        Ok(())
    }
}

fn difference(expected: &str, found: &str) -> Option<String> {
    let at = expected.bytes().zip(found.bytes()).position(|(a, b)| a != b);
    let at = at.or((expected.len() != found.len()).then_some(expected.len().min(found.len())))?;
    let around = |text: &str| {
        let bytes = text.as_bytes();
        let around = at.saturating_sub(120)..bytes.len().min(at + 60);
        String::from_utf8_lossy(&bytes[around]).into_owned()
    };
    Some(format!("a silent tick made of {:?} {:?}", around(expected), around(found)))
}
