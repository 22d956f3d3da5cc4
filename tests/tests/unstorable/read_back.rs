//! Entries that bincode writes and cannot read, or not even write.

use crate::cluster::{Cluster, LARGE};
use omnipaxos::{errors::TryProposeErr, macros::Entry, storage::Storage};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{
    de::{Error as _, IgnoredAny},
    ser::Error as _,
    Deserialize, Deserializer, Serialize, Serializer,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
};

/// An entry of one of many shapes. One type of all of them, since each compiles the whole library once more.
#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
enum Sample {
    Plain,
    Skips(Skips),
    Untagged(Untagged),
    Tagged(Tagged),
    Adjacent(Adjacent),
    Flat(Flat),
    Json(Json),
    Picky(Picky),
    Unwritable(Unwritable),
    Lossy(Lossy),
    Long(Long),
    Float(f64),
    Path(PathBuf),
    Wide(Vec<u128>),
    Many(Vec<u64>),
    Map(HashMap<String, u64>),
    Set(HashSet<u64>),
}

/// Is proposed at a follower and at the leader, while a server is away, in all ways. It is given back,
/// nobody halts, and an entry without such a value is decided.
fn is_refused(sample: Sample) -> String {
    let mut cluster = Cluster::led_by_1(&[LARGE; 3]);
    cluster.crash(3);
    let mut causes = Vec::new();
    for pid in [1, 2] {
        let server = cluster.server(pid);
        for refused in [server.try_append(sample.clone()), server.propose(sample.clone()).map(drop)]
        {
            match refused {
                Err(TryProposeErr::Unstorable(given_back, cause)) => {
                    assert_eq!(given_back, sample);
                    causes.push(cause);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(server.append(sample.clone()).is_ok());
        assert_eq!(server.dropped().unstorable, 1);
    }
    cluster.run(60);
    cluster.restart(3);
    cluster.run(100);
    assert_eq!(cluster.halted(), []);
    cluster.assert_goes_on(|| Sample::Plain);
    causes.dedup();
    assert_eq!(causes.len(), 1, "{causes:?}");
    causes.remove(0)
}

/// Is taken, and each server gives it back after a restart.
fn is_taken(sample: Sample) {
    let mut cluster = Cluster::led_by_1(&[LARGE; 3]);
    cluster.server(1).try_append(sample.clone()).unwrap();
    cluster.server(2).try_append(sample.clone()).unwrap();
    cluster.run(40);
    for pid in 1..=3 {
        cluster.restart(pid);
        cluster.run(40);
        assert_eq!(cluster.decided(pid), [sample.clone(), sample.clone()]);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    A { value: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u64,
    #[serde(flatten)]
    more: BTreeMap<String, u64>,
}

/// As `serde_json::Value`: it asks the format what comes.
#[derive(Clone, Debug, PartialEq)]
struct Json(u64);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IgnoredAny).map(|_| Json(0))
    }
}

/// Writes itself and does not accept what it wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Picky(u64);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            odd if odd % 2 == 1 => Ok(Picky(odd)),
            even => Err(D::Error::custom(format!("{even} is even"))),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("it cannot be written"))
    }
}

/// Comes back as something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Lossy(String::deserialize(deserializer)?.to_lowercase()))
    }
}

/// What is skipped makes a number of the next field the length of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Long {
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    number: u64,
}

#[test]
fn entries_that_cannot_be_read_back_are_given_back() {
    let why = is_refused(Sample::Skips(Skips { note: None, value: 1 }));
    assert!(why.starts_with("could not read back an entry: "), "{why}");
    is_refused(Sample::Untagged(Untagged::Number(3)));
    is_refused(Sample::Untagged(Untagged::Text("t".into())));
    is_refused(Sample::Tagged(Tagged::A { value: 7 }));
    is_refused(Sample::Adjacent(Adjacent::A(3)));
    is_refused(Sample::Json(Json(4)));
    assert!(is_refused(Sample::Picky(Picky(2))).contains("2 is even"));
    is_refused(Sample::Lossy(Lossy("Ab".into())));
}

#[test]
fn entries_that_cannot_be_written_are_given_back() {
    assert!(is_refused(Sample::Unwritable(Unwritable)).contains("it cannot be written"));
    is_refused(Sample::Flat(Flat { id: 1, more: BTreeMap::from([("a".into(), 2)]) }));
}

#[test]
fn what_is_read_as_a_length_allocates_nothing() {
    for number in [1 << 20, 1 << 40, 1 << 62, u64::MAX] {
        is_refused(Sample::Long(Long { text: String::new(), number }));
    }
}

#[test]
fn entries_that_read_back_are_taken() {
    is_taken(Sample::Skips(Skips { note: Some("n".into()), value: 1 }));
    is_taken(Sample::Picky(Picky(3)));
    is_taken(Sample::Lossy(Lossy("ab".into())));
    is_taken(Sample::Float(f64::INFINITY));
    is_taken(Sample::Path(PathBuf::from("/a/b")));
    is_taken(Sample::Wide(vec![u128::MAX, 0, 1]));
    is_taken(Sample::Many(vec![1; 40_000]));
    // In a hash map the bytes have another order each time.
    is_taken(Sample::Map((0..100).map(|n| (n.to_string(), n)).collect()));
    is_taken(Sample::Set((0..100).collect()));
}

#[test]
fn only_the_size_is_checked_if_so_set() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = PersistentStorageConfig::default();
    assert!(config.get_read_back());
    config.set_path(folder.path().to_str().unwrap().to_string());
    config.set_read_back(false);
    let storage = PersistentStorage::<Sample>::try_open(config.clone()).unwrap();
    let entry = Sample::Skips(Skips { note: None, value: 1 });
    assert!(storage.check_entry(&entry, u64::MAX).is_ok());
    assert!(storage.check_entry(&entry, 1).is_err());
    drop(storage);
    config.set_read_back(true);
    let storage = PersistentStorage::<Sample>::try_open(config).unwrap();
    assert!(storage.check_entry(&entry, u64::MAX).is_err());
}
