//! Codes to give out.

use super::DefaultEncoded;

/// Gives out codes: the default one, and then each time one more.
#[derive(Clone)]
pub(super) struct Codes<Encoded> {
    most: usize,
    given: usize,
    next: Encoded,
}

impl<Encoded: DefaultEncoded> Codes<Encoded> {
    /// So many to give out, or as many as there are.
    pub(super) fn at_most(size: usize) -> Self {
        Self { most: size.min(most_codes::<Encoded>()), given: 0, next: Encoded::default() }
    }

    /// How many may be given out.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The next code; `None` if all are given out: a value must leave and hand on its own.
    pub(super) fn give(&mut self) -> Option<Encoded> {
        if self.given >= self.most {
            return None;
        }
        self.given += 1;
        let following = self.next.clone() + Encoded::one();
        Some(std::mem::replace(&mut self.next, following))
    }
}

/// How many codes there are to give out: a byte has 255, besides the one that would follow on them.
fn most_codes<Encoded>() -> usize {
    let bits = u32::try_from(8 * size_of::<Encoded>()).unwrap_or(u32::MAX);
    1_usize.checked_shl(bits).map_or(usize::MAX, |codes| codes - 1)
}
