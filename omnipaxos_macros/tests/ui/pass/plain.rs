//! Structs and enums of every shape; no name of the generated code is imported here.

use omnipaxos::storage::{NoSnapshot, Snapshot};

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
struct Named {
    _key: String,
    _value: u64,
}

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
struct Tuple(#[allow(dead_code)] u64, #[allow(dead_code)] String);

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
struct Unit;

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
#[allow(dead_code)]
enum Command {
    Put { key: String, value: u64 },
    Delete(String),
    Nothing,
}

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
#[snapshot(NoSnapshot)]
struct SaysSo;

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
#[snapshot(self::inner::Count)]
#[allow(dead_code)]
struct Counted(u64);

mod inner {
    #[derive(Clone, Debug)]
    pub struct Count(pub usize);

    impl omnipaxos::storage::Snapshot<super::Counted> for Count {
        fn create(entries: &[super::Counted]) -> Self {
            Count(entries.len())
        }
        fn merge(&mut self, delta: Self) {
            self.0 += delta.0;
        }
        fn use_snapshots() -> bool {
            true
        }
    }
}

fn uses_snapshots<T: omnipaxos::storage::Entry>() -> bool {
    T::Snapshot::use_snapshots()
}

fn main() {
    assert!(!uses_snapshots::<Named>());
    assert!(!uses_snapshots::<Tuple>());
    assert!(!uses_snapshots::<Unit>());
    assert!(!uses_snapshots::<Command>());
    assert!(!uses_snapshots::<SaysSo>());
    assert!(uses_snapshots::<Counted>());
}
