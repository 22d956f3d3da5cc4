//! Codes that stand for values.

use super::{lookup::Lookup, DefaultEncodable, DefaultEncoded};

/// The values that have a code, at most so many at a time.
#[derive(Clone)]
pub(super) struct Codes<Encodable: DefaultEncodable, Encoded: DefaultEncoded> {
    most: usize,
    /// The code that is given out next, until all are.
    next: Encoded,
    values: Lookup<Encoded, Encodable>,
}

impl<Encodable: DefaultEncodable, Encoded: DefaultEncoded> Codes<Encodable, Encoded> {
    /// No value has a code. As many are given out as there are, whatever is asked for.
    pub(super) fn at_most(size: usize) -> Self {
        Self {
            most: size.min(most_codes::<Encoded>()),
            next: Encoded::default(),
            values: Lookup::new(),
        }
    }

    /// How many values have a code at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many have.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether a value must give its code to the next.
    pub(super) fn is_full(&self) -> bool {
        self.values.len() >= self.most
    }

    /// The value of a code.
    pub(super) fn value(&self, code: &Encoded) -> Option<&Encodable> {
        self.values.get(code)
    }

    /// Gives the next code to the value; not if there are none left.
    pub(super) fn give(&mut self, value: Encodable) -> Encoded {
        let code = self.next.clone();
        self.next = code.clone() + Encoded::one();
        self.values.insert(code.clone(), value);
        code
    }

    /// Takes in a value that had this code in a cache that was serialised.
    #[cfg(feature = "serde")]
    pub(super) fn restore(&mut self, value: Encodable, code: Encoded) {
        if !self.is_full() {
            self.next = self.next.clone() + Encoded::one();
            self.values.insert(code, value);
        }
    }

    /// Gives the code of another value to this one, and gives the other back.
    pub(super) fn hand_on(&mut self, code: &Encoded, value: Encodable) -> Option<Encodable> {
        self.values.insert(code.clone(), value)
    }
}

/// How many codes there are to give out: a byte has 255, besides the one that would follow on them.
fn most_codes<Encoded>() -> usize {
    let bits = u32::try_from(8 * size_of::<Encoded>()).unwrap_or(u32::MAX);
    1_usize.checked_shl(bits).map_or(usize::MAX, |codes| codes - 1)
}
