//! Makes a run that fails simpler, as long as it fails in the same way.

use super::{run, Lasting, Pattern, Reads};
use crate::{checker::Check, cluster::Trace};

/// Opens links, and drops disturbances and reads, that the failure does not need.
pub fn shrink(lasting: &Lasting, check: Check) -> Lasting {
    let mut smallest = lasting.clone();
    let fails = |candidate: &Lasting| {
        let failure = run(candidate, Trace::Off).failure;
        failure.is_some_and(|failure| failure.violation.check == check)
    };
    let one_by_one = Lasting { reads: Reads::OneByOne, ..smallest.clone() };
    if smallest.reads != Reads::OneByOne && fails(&one_by_one) {
        smallest = one_by_one;
    }
    for at in 0..smallest.links.len() {
        for simpler in [Pattern::OPEN, Pattern::CUT] {
            let mut candidate = smallest.clone();
            if std::mem::replace(&mut candidate.links[at], simpler) == simpler {
                break;
            }
            if fails(&candidate) {
                smallest = candidate;
                break;
            }
        }
    }
    for at in (0..smallest.disturbances.len()).rev() {
        let mut candidate = smallest.clone();
        candidate.disturbances.remove(at);
        if fails(&candidate) {
            smallest = candidate;
        }
    }
    smallest
}
