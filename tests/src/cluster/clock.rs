//! The result of `next_timeout`, compared with what the tick does.

use super::server::Replica;
use crate::value::SimEntry;
use omnipaxos::errors::Halted;

/// The fewest ticks between two comparisons of the whole state of a replica.
const FEWEST_TICKS: u64 = 64;

/// Bytes of a described state for each tick until the next comparison. A state grows with what was decided: a
/// fixed number of ticks would let the comparisons of long runs take most of the time.
const BYTES_A_TICK: u64 = 64;

/// What a tick did.
pub(super) struct Ticked {
    pub(super) result: Result<(), Halted>,
    /// How the tick contradicts what was announced.
    pub(super) contradiction: Option<String>,
    /// After how many ticks the state is to be compared again, if it was compared.
    pub(super) compare_after: Option<u64>,
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
        describe(&passed)
    });
    let result = replica.try_tick();
    let left = replica.next_timeout();
    let compare_after =
        expected.as_ref().map(|state| (state.len() as u64 / BYTES_A_TICK).max(FEWEST_TICKS));
    let contradiction = if is_silent && left != timeout.map(|timeout| timeout - 1) {
        Some(format!("next_timeout was {timeout:?}, and is {left:?} a tick later"))
    } else {
        expected.and_then(|expected| difference(&expected, &describe(replica)))
    };
    let ticked = Ticked { result, contradiction, compare_after };
    (ticked, if is_silent { Does::Nothing } else { Does::Something })
}

/// The whole state, but for whether the next drain has to look for something to do. The disk shows how often it
/// was written.
fn describe<T: SimEntry>(replica: &Replica<T>) -> String {
    format!("{replica:?}").replace("is_idle: true", "is_idle: false")
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
