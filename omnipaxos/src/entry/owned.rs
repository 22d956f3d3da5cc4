//! The memory that a value owns.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

/// A value that reports how many bytes it owns beyond its own size.
///
/// `derive(Entry)` adds up these bytes over the fields of an entry, for
/// [`Entry::size_hint`](crate::storage::Entry::size_hint). It is implemented for the primitive
/// types, for strings, and for the usual collections and pointers of the standard library, except
/// hash maps and sets. A field of any other type counts as owning nothing. Implement it for your
/// own types:
///
/// ```
/// use omnipaxos::{macros::Entry, storage::{Entry, Owned}};
///
/// #[derive(Clone, Debug)]
/// struct Author {
///     name: String,
///     age: u8,
/// }
///
/// impl Owned for Author {
///     fn owned_bytes(&self) -> usize {
///         self.name.owned_bytes()
///     }
/// }
///
/// #[derive(Clone, Debug, Entry)]
/// struct Book {
///     title: String,
///     authors: Vec<Author>,
/// }
///
/// let author = Author { name: "Ada".into(), age: 36 };
/// assert_eq!(author.owned_bytes(), 3);
/// let book = Book { title: "Notes".into(), authors: vec![author] };
/// assert_eq!(book.size_hint(), size_of::<Book>() + 5 + size_of::<Author>() + 3);
/// ```
pub trait Owned {
    /// Returns about how many bytes this value owns, without its own size.
    ///
    /// Equal values return equal numbers: the length of a vector counts, not its capacity. Shared
    /// values, as in an `Arc` or a `Cow`, count in full at each owner.
    fn owned_bytes(&self) -> usize;
}

/// Returns the bytes that a pointer to `value` owns, or counts as its own.
fn behind<T: Owned + ?Sized>(value: &T) -> usize {
    size_of_val(value).saturating_add(value.owned_bytes())
}

/// Adds up bytes. It saturates, since `Arc`s of the same value count it several times.
fn sum(bytes: impl IntoIterator<Item = usize>) -> usize {
    bytes.into_iter().fold(0, usize::saturating_add)
}

macro_rules! owns_nothing {
    ($($type:ty)*) => {$(
        impl Owned for $type {
            #[inline]
            fn owned_bytes(&self) -> usize {
                0
            }
        }
    )*};
}

owns_nothing!(() u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 bool char str);

/// In optimised builds this takes no time if the items own nothing, as bytes do: a sum of zeros.
impl<T: Owned> Owned for [T] {
    #[inline]
    fn owned_bytes(&self) -> usize {
        sum(self.iter().map(T::owned_bytes))
    }
}

impl<T: Owned, const N: usize> Owned for [T; N] {
    fn owned_bytes(&self) -> usize {
        self.as_slice().owned_bytes()
    }
}

impl<T: Owned> Owned for Option<T> {
    fn owned_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::owned_bytes)
    }
}

impl Owned for String {
    #[inline]
    fn owned_bytes(&self) -> usize {
        behind(self.as_str())
    }
}

impl<T: Owned> Owned for Vec<T> {
    #[inline]
    fn owned_bytes(&self) -> usize {
        behind(self.as_slice())
    }
}

impl<T: Owned> Owned for VecDeque<T> {
    fn owned_bytes(&self) -> usize {
        let (front, back) = self.as_slices();
        sum([behind(front), behind(back)])
    }
}

impl<T: Owned> Owned for BTreeSet<T> {
    fn owned_bytes(&self) -> usize {
        sum(self.iter().map(behind))
    }
}

impl<K: Owned, V: Owned> Owned for BTreeMap<K, V> {
    fn owned_bytes(&self) -> usize {
        sum(self.iter().flat_map(|(key, value)| [behind(key), behind(value)]))
    }
}

macro_rules! owns_what_it_points_to {
    ($($pointer:ident)*) => {$(
        impl<T: Owned + ?Sized> Owned for $pointer<T> {
            fn owned_bytes(&self) -> usize {
                behind(&**self)
            }
        }
    )*};
}

owns_what_it_points_to!(Box Rc Arc);

/// Counts the text also if it is borrowed: the server that receives it owns it.
impl Owned for Cow<'_, str> {
    fn owned_bytes(&self) -> usize {
        behind(&**self)
    }
}

macro_rules! tuples {
    ($($($type:ident $at:tt)*;)*) => {$(
        impl<$($type: Owned),*> Owned for ($($type,)*) {
            fn owned_bytes(&self) -> usize {
                sum([$(self.$at.owned_bytes()),*])
            }
        }
    )*};
}

tuples! {
    A 0;
    A 0 B 1;
    A 0 B 1 C 2;
    A 0 B 1 C 2 D 3;
}

#[cfg(test)]
mod tests {
    use super::Owned;
    use std::{
        borrow::Cow,
        collections::{BTreeMap, BTreeSet, VecDeque},
        rc::Rc,
        sync::Arc,
    };

    const STRING: usize = size_of::<String>();
    const VEC: usize = size_of::<Vec<u8>>();

    fn text(text: &str) -> String {
        text.to_string()
    }

    #[test]
    fn what_each_type_owns() {
        let mut spare = Vec::with_capacity(100);
        spare.push(1_u8);
        let table: &[(&dyn Owned, usize)] = &[
            (&(), 0),
            (&7_u8, 0),
            (&7_i128, 0),
            (&0.5_f64, 0),
            (&true, 0),
            (&'a', 0),
            (&text(""), 0),
            (&text("abc"), 3),
            (&text("å"), 2),
            (&vec![1_u8, 2, 3], 3),
            (&spare, 1),
            (&vec![1_u64, 2, 3], 24),
            (&vec![(); 9], 0),
            (&vec![text("a"), text("bcd")], 2 * STRING + 4),
            (&vec![vec![1_u16, 2], vec![]], 2 * VEC + 4),
            (&[text("a"), text("bcd")], 4),
            (&None::<String>, 0),
            (&Some(text("abc")), 3),
            (&Some(Some(text("abc"))), 3),
            (&Box::new(7_u64), 8),
            (&Box::new(text("abc")), STRING + 3),
            (&Box::<str>::from("abc"), 3),
            (&Box::<[u32]>::from([1, 2]), 8),
            (&Rc::<str>::from("abc"), 3),
            (&Arc::<[String]>::from([text("abc")]), STRING + 3),
            (&Cow::Borrowed("abc"), 3),
            (&Cow::<str>::Owned(text("abc")), 3),
            (&BTreeSet::from([1_u32, 2]), 8),
            (&BTreeMap::from([(1_u64, text("abc"))]), 8 + STRING + 3),
            (&(text("a"),), 1),
            (&(1_u8, text("abc")), 3),
            (&(text("a"), 1_u8, text("abc")), 4),
            (&(text("a"), text("b"), vec![1_u8], Some(text("d"))), 4),
        ];
        for (number, (value, bytes)) in table.iter().enumerate() {
            assert_eq!(value.owned_bytes(), *bytes, "line {number}");
        }
    }

    #[test]
    fn both_ends_of_a_deque_count() {
        let mut deque = VecDeque::from([text("b")]);
        deque.push_front(text("a"));
        deque.push_back(text("cd"));
        assert_eq!(deque.owned_bytes(), 3 * STRING + 4);
    }

    #[test]
    fn what_is_shared_counts_in_full() {
        let shared = Arc::new(text("abc"));
        let both = [shared.clone(), shared];
        assert_eq!(both.owned_bytes(), 2 * (STRING + 3));
    }

    #[test]
    fn a_sum_saturates() {
        struct Huge;
        impl Owned for Huge {
            fn owned_bytes(&self) -> usize {
                usize::MAX
            }
        }
        assert_eq!([Huge, Huge].owned_bytes(), usize::MAX);
        assert_eq!(vec![(text("a"), Huge)].owned_bytes(), usize::MAX);
    }

    #[test]
    fn what_is_behind_a_trait_object_may_be_owned() {
        let boxed: Box<dyn Owned> = Box::new(text("abc"));
        assert_eq!(boxed.owned_bytes(), STRING + 3);
    }
}
