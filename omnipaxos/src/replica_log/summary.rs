//! Many values in the text of a state.

use std::{
    fmt::{self, Debug},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Shows how many values there are and a checksum of them; with `{:#?}` it shows them all. Two states
/// whose texts are the same are the same, but for the chance of one in 2^64.
pub(super) struct Summary<I>(pub(super) I);

impl<I: Iterator<Item: Debug + Hash> + Clone> Debug for Summary<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.debug_list().entries(self.0.clone()).finish();
        }
        let (mut count, mut checksum) = (0_u64, DefaultHasher::new());
        for value in self.0.clone() {
            count += 1;
            value.hash(&mut checksum);
        }
        write!(f, "{count} with checksum {:016x}", checksum.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    fn text(values: &[u64]) -> String {
        format!("{:?}", Summary(values.iter()))
    }

    #[test]
    fn different_values_have_different_texts() {
        let texts = [text(&[]), text(&[0]), text(&[1, 2]), text(&[2, 1]), text(&[1, 2, 3])];
        for (i, one) in texts.iter().enumerate() {
            assert!(texts[i + 1..].iter().all(|other| other != one), "{one}");
        }
        assert_eq!(text(&[1, 2]), texts[2]);
        assert!(texts[2].starts_with("2 with checksum "), "{}", texts[2]);
    }

    #[test]
    fn the_long_text_shows_all_values() {
        assert_eq!(format!("{:#?}", Summary([1, 2].iter())), "[\n    1,\n    2,\n]");
    }
}
