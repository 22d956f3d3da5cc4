//! `into_storage`: what a replica leaves behind.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{storage::Storage, util::LogEntry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_tests::{
    failing_storage::FailingStorage,
    lab::{Word, Words},
};

fn alone<B: Storage<Word>>(storage: B) -> OmniPaxos<Word, B> {
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let config = ServerConfig { pid: 1, ..Default::default() };
    let mut server = cluster.build_for_server(config, storage).unwrap();
    (0..30).for_each(|_| server.tick());
    server
}

#[test]
fn a_replica_goes_on_from_the_storage_of_another() {
    let mut first = alone(MemoryStorage::default());
    for word in ["a", "b", "c"] {
        first.append(Word(word.into())).unwrap();
    }
    first.outgoing_messages();
    first.snapshot(Some(2), true).unwrap();
    first.append(Word("d".into())).unwrap();
    let shown = (first.get_promise(), first.get_accepted_idx(), first.get_compacted_idx());
    let mut second = alone(first.into_storage());
    assert_eq!((second.get_accepted_idx(), second.get_compacted_idx()), (shown.1, shown.2));
    assert!(second.get_promise() > shown.0, "it leads in a ballot of its own");
    second.append(Word("e".into())).unwrap();
    second.outgoing_messages();
    let storage = second.into_storage();
    assert_eq!(storage.get_decided_idx().unwrap(), 5, "a decided index alone is written, too");
    assert_eq!(storage.get_snapshot().unwrap(), Some(Words(vec!["a".into(), "b".into()])));
    let words = ["c", "d", "e"].map(|word| Word(word.into()));
    assert_eq!(storage.get_entries(0, 3).unwrap(), words);
}

#[test]
fn the_storage_of_a_halted_replica_is_as_the_failure_left_it() {
    let storage = FailingStorage::default();
    let mut server = alone(storage.clone());
    server.append(Word("a".into())).unwrap();
    server.outgoing_messages();
    server.append(Word("b".into())).unwrap();
    storage.order(|orders| orders.fail_writes = true);
    server.flush().unwrap_err();
    storage.order(|orders| orders.fail_writes = false);
    let writes = storage.orders().writes;
    let storage = server.into_storage();
    assert_eq!(storage.orders().writes, writes, "it writes nothing more");
    let mut server = alone(storage);
    server.outgoing_messages();
    let decided = server.read_decided_suffix(0);
    assert_eq!(decided, Some(vec![LogEntry::Decided(Word("a".into()))]));
}
