//! Assigns codes.

use super::DefaultEncoded;

/// Assigns codes: the default value, and then one more each time.
#[derive(Clone)]
pub(super) struct Codes<Encoded> {
    most: usize,
    given: usize,
    next: Encoded,
}

impl<Encoded: DefaultEncoded> Codes<Encoded> {
    /// Limits the codes to `size`, or to the number that exist.
    pub(super) fn at_most(size: usize) -> Self {
        Self { most: size.min(most_codes::<Encoded>()), given: 0, next: Encoded::default() }
    }

    /// Returns how many codes can be assigned.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Assigns the next code; `None` if all are assigned: then an evicted value frees its code.
    pub(super) fn give(&mut self) -> Option<Encoded> {
        if self.given >= self.most {
            return None;
        }
        self.given += 1;
        let following = self.next.clone() + Encoded::one();
        Some(std::mem::replace(&mut self.next, following))
    }
}

/// Returns how many codes exist: a byte has 255, since one value must remain for the next code.
fn most_codes<Encoded>() -> usize {
    let bits = u32::try_from(8 * size_of::<Encoded>()).unwrap_or(u32::MAX);
    1_usize.checked_shl(bits).map_or(usize::MAX, |codes| codes - 1)
}
