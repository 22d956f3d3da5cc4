//! The size hint is the size of the type and what the fields own, as far as that is known.

use omnipaxos::{
    macros::Entry,
    storage::{Entry, Owned},
};
use std::{collections::BTreeMap, convert::Infallible, fmt::Debug, marker::PhantomData, sync::Arc};

/// What an entry counts beyond its own size.
fn owned<T: Entry>(entry: &T) -> usize {
    entry.size_hint() - size_of::<T>()
}

#[derive(Clone, Debug, Entry)]
struct KeyValue {
    key: String,
    value: Vec<u8>,
}

#[derive(Clone, Debug, Entry)]
struct Tuple(Option<String>, Vec<String>, u64);

#[derive(Clone, Debug, Entry)]
struct Unit;

#[derive(Clone, Debug, Entry)]
struct Braces {}

#[derive(Clone, Debug, Entry)]
enum Never {}

#[derive(Clone, Debug, Entry)]
enum Fieldless {
    A,
}

/// A variant may share its name with the associated type of `Entry`.
#[derive(Clone, Debug, Entry)]
enum Command {
    Put { key: String, value: Vec<u8> },
    Snapshot { name: String },
    Delete(String, u64),
    r#Mod { r#type: String },
    Impossible(Infallible, String),
    NoFields(),
    Nothing,
}

fn plain() {
    let key_value = KeyValue { key: "abc".into(), value: vec![0; 100] };
    assert_eq!(key_value.size_hint(), size_of::<KeyValue>() + 3 + 100);
    assert_eq!(owned(&Tuple(None, Vec::new(), 1)), 0);
    let tuple = Tuple(Some("abc".into()), vec!["a".into(), "bc".into()], 1);
    assert_eq!(owned(&tuple), 3 + 2 * size_of::<String>() + 3);
    assert_eq!(Unit.size_hint(), 0);
    assert_eq!(Braces {}.size_hint(), 0);
    assert_eq!(owned(&Fieldless::A), 0);
    let _: fn(&Never) -> usize = Never::size_hint;

    for (command, bytes) in [
        (Command::Put { key: "a".into(), value: vec![0; 9] }, 10),
        (Command::Snapshot { name: "ab".into() }, 2),
        (Command::Delete("abc".into(), 7), 3),
        (Command::r#Mod { r#type: "abcd".into() }, 4),
        (Command::NoFields(), 0),
        (Command::Nothing, 0),
    ] {
        assert_eq!(owned(&command), bytes, "{command:?}");
    }
}

#[derive(Clone, Debug)]
struct Opaque(#[allow(dead_code)] String);

#[derive(Clone, Debug)]
struct Reported(String);

impl Owned for Reported {
    fn owned_bytes(&self) -> usize {
        self.0.owned_bytes()
    }
}

/// Types without `Owned`, at the top and within others, count as owning nothing.
#[derive(Clone, Debug, Entry)]
struct Mixed {
    opaque: Opaque,
    opaques: Vec<Opaque>,
    told: Reported,
    tolds: Vec<Reported>,
    act: fn(&str) -> usize,
    object: Arc<dyn Debug + Send + Sync>,
    map: BTreeMap<u8, Reported>,
}

#[derive(Clone, Debug, Entry)]
struct Node {
    name: String,
    children: Vec<Node>,
    next: Option<Box<Node>>,
}

/// Packed fields cannot be referred to.
#[derive(Copy, Clone, Debug, Entry)]
#[repr(C, packed(2))]
struct Packed {
    _number: u8,
    _text: &'static str,
}

fn without_owned() {
    let told = || Reported("abc".into());
    let opaque = || Opaque("abc".into());
    let mixed = Mixed {
        opaque: opaque(),
        opaques: vec![opaque()],
        told: told(),
        tolds: vec![told()],
        act: str::len,
        object: Arc::new(told()),
        map: BTreeMap::from([(1, told())]),
    };
    assert_eq!(owned(&mixed), 3 + (size_of::<Reported>() + 3) + (1 + size_of::<Reported>() + 3));

    let leaf = Node { name: "leaf".into(), children: Vec::new(), next: None };
    let root =
        Node { name: "root".into(), children: vec![leaf.clone()], next: Some(Box::new(leaf)) };
    assert_eq!(owned(&root), 4);
    assert_eq!(owned(&Packed { _number: 1, _text: "abc" }), 0);
}

/// A parameter is only known by its bounds.
#[derive(Clone, Debug, Entry)]
struct Unbounded<T>(T, Vec<T>, String);

#[derive(Clone, Debug, Entry)]
struct Bounded<T: Owned>(T, Vec<T>, String);

#[derive(Clone, Debug, Entry)]
enum Generic<'a, T: ?Sized, I: Iterator, const N: usize>
where
    I::Item: Clone + Debug,
{
    Unsized(Arc<T>, PhantomData<T>),
    Projected(I::Item, String),
    Borrowed(&'a T, &'a str, String),
    Array([String; N]),
    Known(<std::vec::IntoIter<String> as Iterator>::Item),
}

/// The last field may be of an unsized type as far as the implementation knows.
#[derive(Clone, Debug, Entry)]
struct Tail<T: ?Sized>(String, T)
where
    Self: Sized;

fn generic() {
    assert_eq!(owned(&Unbounded("abc".to_string(), vec!["d".to_string()], "ef".into())), 2);
    let bounded = Bounded("abc".to_string(), vec!["d".to_string()], "ef".into());
    assert_eq!(owned(&bounded), 3 + (size_of::<String>() + 1) + 2);

    type Of<'a> = Generic<'a, u8, std::vec::IntoIter<String>, 2>;
    for (entry, bytes) in [
        (Of::Unsized(Arc::new(1), PhantomData), 0),
        (Of::Projected("abc".into(), "d".into()), 1),
        (Of::Borrowed(&1, "d", "ef".into()), 2),
        (Of::Array(["a".into(), "bc".into()]), 3),
        (Of::Known("abc".into()), 3),
    ] {
        assert_eq!(owned(&entry), bytes, "{entry:?}");
    }
    assert_eq!(owned(&Tail("abc".into(), "de".to_string())), 3);
}

fn main() {
    plain();
    without_owned();
    generic();
}
