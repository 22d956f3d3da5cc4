//! Who a server is: a storage belongs to one server of one configuration, and the others know it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    errors::ConfigError,
    events::Event,
    identity::{Conflict, PeerConflict},
    leader_transfer::TransferErr,
    storage::Storage,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_harness::Delay;
use omnipaxos_storage::{
    memory_storage::MemoryStorage,
    persistent_storage::{PersistentStorage, PersistentStorageConfig, StorageError},
};
use omnipaxos_tests::lab::{words, Disk, Word};
use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

type Durable = PersistentStorage<Word>;

fn open(folder: &std::path::Path) -> Durable {
    let mut config = PersistentStorageConfig::default();
    config.set_path(folder.to_str().unwrap().to_string());
    PersistentStorage::try_open(config).unwrap()
}

fn cluster(nodes: &[u64]) -> ClusterConfig {
    ClusterConfig { configuration_id: 1, nodes: nodes.to_vec(), flexible_quorum: None }
}

fn server(pid: u64) -> ServerConfig {
    ServerConfig { pid, ..Default::default() }
}

fn build<B: Storage<Word>>(
    nodes: &[u64],
    pid: u64,
    storage: B,
) -> Result<OmniPaxos<Word, B>, ConfigError> {
    cluster(nodes).build_for_server(server(pid), storage)
}

fn refusal<R>(built: Result<R, ConfigError>) -> String {
    match built {
        Ok(_) => panic!("it was built"),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn a_folder_of_one_server_does_not_open_as_another() {
    let folder = tempfile::tempdir().unwrap();
    build(&[1], 1, open(folder.path())).unwrap();
    let text = refusal(build(&[1, 2, 3], 2, open(folder.path())));
    assert!(text.contains("server 1") && text.contains("2"), "{text}");
    build(&[1], 1, open(folder.path())).unwrap();
}

#[test]
fn a_storage_of_three_members_does_not_open_alone() {
    let folder = tempfile::tempdir().unwrap();
    build(&[1, 2, 3], 3, open(folder.path())).unwrap();
    let text = refusal(build(&[3], 3, open(folder.path())));
    assert!(text.contains("[1, 2, 3]") && text.contains("[3]"), "{text}");
    build(&[3, 1, 2], 3, open(folder.path())).expect("the order of the nodes does not matter");
}

#[test]
fn a_memory_storage_that_is_handed_on_knows_whose_it_is() {
    let storage = build(&[1, 2, 3], 3, MemoryStorage::default()).unwrap().into_storage();
    refusal(build(&[1, 2, 3], 2, storage.clone()));
    refusal(build(&[3], 3, storage.clone()));
    build(&[1, 2, 3], 3, storage).unwrap();
}

/// Three servers with disks that have ids, which are counted.
struct Cluster {
    cluster: omnipaxos_harness::Cluster<Word, Disk>,
    disks: BTreeMap<u64, Disk>,
}

impl Deref for Cluster {
    type Target = omnipaxos_harness::Cluster<Word, Disk>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cluster
    }
}

impl Cluster {
    fn new(nodes: &[u64]) -> Self {
        let cluster = omnipaxos_harness::Cluster::of([], Delay(1));
        let mut made = Self { cluster, disks: BTreeMap::new() };
        for pid in nodes {
            made.start(*pid, nodes, Disk::with_id(100 + pid));
        }
        made
    }

    /// Starts a server.
    fn start(&mut self, pid: u64, nodes: &[u64], disk: Disk) {
        self.disks.insert(pid, disk.clone());
        self.cluster.start(build(nodes, pid, disk).unwrap());
    }

    fn append(&mut self, pid: u64, word: &str) {
        self.server(pid).append(Word(word.to_string())).unwrap();
        self.run(60);
    }

    fn decided(&mut self, pid: u64) -> Vec<String> {
        words(self.server(pid).read_decided_suffix(0).unwrap_or_default())
    }

    fn conflicts(&mut self, pid: u64) -> Vec<(u64, Conflict)> {
        let status = self.server(pid).status();
        status.conflicts.iter().map(|found| (found.pid, found.conflict)).collect()
    }

    fn told(&mut self, pid: u64) -> Vec<PeerConflict> {
        let events = self.server(pid).take_events().into_iter();
        events
            .filter_map(|event| match event {
                Event::Conflict(found) => Some(found),
                _another => None,
            })
            .collect()
    }
}

const ALL: [u64; 3] = [1, 2, 3];

#[test]
fn a_wiped_disk_counts_in_no_quorum_of_those_who_know_it() {
    let mut cluster = Cluster::new(&ALL);
    cluster.run(60);
    cluster.isolate(2);
    cluster.append(1, "a");
    cluster.append(1, "b");
    assert_eq!(cluster.decided(3), ["a", "b"], "1 and 3 decided it");
    // 3 loses its disk, 1 is cut off: 2 and 3 are two of three, and know nothing of "a".
    cluster.crash(3);
    cluster.start(3, &ALL, Disk::with_id(999));
    cluster.heal_all();
    cluster.isolate(1);
    cluster.run(300);
    cluster.append(2, "c");
    assert_eq!((cluster.decided(2).len(), cluster.decided(3).len()), (0, 0));
    let known = Conflict::OtherStorage { known: 103, found: Some(999) };
    assert_eq!(cluster.conflicts(2), [(3, known)]);
    assert_eq!(cluster.conflicts(3), [(2, Conflict::Ignored { known: 103, own: Some(999) })]);
    assert!(cluster.server(2).dropped().of_other_storages > 0);
    let told = cluster.told(2);
    assert_eq!(told.iter().map(|found| found.conflict).collect::<Vec<_>>(), [known]);
    cluster.run(200);
    assert_eq!(cluster.told(2), [], "it is told once");
    // 1 is back: it continues with 2, and nothing is lost.
    cluster.heal_all();
    cluster.run(300);
    cluster.append(1, "d");
    assert_eq!(cluster.decided(1), cluster.decided(2));
    assert_eq!(cluster.decided(1)[..2], ["a", "b"]);
    assert!(cluster.decided(3).is_empty(), "it learns nothing");
}

#[test]
fn what_is_known_of_a_disk_outlives_a_restart() {
    let mut cluster = Cluster::new(&ALL);
    cluster.run(60);
    cluster.append(1, "a");
    let disk = cluster.disks[&2].clone();
    assert_eq!(disk.get_identity().unwrap().unwrap().peers, BTreeMap::from([(1, 101), (3, 103)]));
    for pid in ALL {
        cluster.crash(pid);
    }
    cluster.start(3, &ALL, Disk::default());
    cluster.start(2, &ALL, disk);
    cluster.run(300);
    assert_eq!(cluster.server(2).get_promise(), cluster.disks[&2].get_promise().unwrap().unwrap());
    let known = Conflict::OtherStorage { known: 103, found: None };
    assert_eq!(cluster.conflicts(2), [(3, known)], "also where the new one has no id");
    assert_eq!(cluster.conflicts(3), [(2, Conflict::Ignored { known: 103, own: None })]);
}

/// The place of a second server with the id 3.
const TWIN: u64 = 33;

#[test]
fn of_two_servers_with_one_id_the_one_that_was_first_stays() {
    let mut cluster = Cluster::new(&ALL);
    cluster.run(60);
    cluster.append(1, "a");
    cluster.start_at(TWIN, build(&ALL, 3, Disk::with_id(999)).unwrap());
    cluster.run(300);
    cluster.append(1, "b");
    assert_eq!(cluster.decided(3), ["a", "b"]);
    assert_eq!(cluster.conflicts(3), []);
    assert!(cluster.decided(TWIN).is_empty(), "the twin learns nothing");
    assert_eq!(cluster.conflicts(TWIN).len(), 2, "both others ignore it, and it says so");
    for pid in [1, 2] {
        let known = Conflict::OtherStorage { known: 103, found: Some(999) };
        assert_eq!(cluster.conflicts(pid), [(3, known)]);
    }
    // With the first one gone, the twin does not take its place.
    cluster.crash(3);
    cluster.run(300);
    cluster.append(1, "c");
    assert_eq!((cluster.decided(2).len(), cluster.decided(TWIN).len()), (3, 0));
}

#[test]
fn leadership_is_not_transferred_to_a_server_in_conflict() {
    let mut cluster = Cluster::new(&ALL);
    cluster.run(60);
    cluster.append(1, "a");
    cluster.crash(3);
    cluster.start(3, &ALL, Disk::with_id(999));
    cluster.run(300);
    let leader = cluster.server(2).get_current_leader().unwrap();
    let refused = cluster.server(leader).transfer_leadership(3, 100).unwrap_err();
    let conflict = cluster.server(leader).status().conflicts[0];
    assert_eq!((conflict.pid, &refused), (3, &TransferErr::InConflict(conflict)));
    assert_eq!(cluster.server(leader).leadership_transfer(), None);
    assert!(refused.to_string().contains("the disk"), "{refused}");
    let other = 3 - leader;
    assert_eq!(
        cluster.server(leader).transfer_leadership(other, 100),
        Ok(()),
        "the others are not concerned"
    );
}

#[test]
fn a_server_with_other_nodes_is_in_no_quorum_and_all_say_so() {
    for nodes in [vec![3], vec![1, 3], vec![1, 2, 3, 4], vec![2, 3, 4]] {
        let mut cluster = Cluster::new(&ALL);
        cluster.run(60);
        cluster.append(1, "a");
        cluster.crash(3);
        // A storage that keeps no identity does not refuse it.
        cluster.start(3, &nodes, Disk::default());
        cluster.run(300);
        cluster.append(3, "x");
        cluster.append(1, "b");
        assert_eq!(cluster.decided(2), ["a", "b"], "{nodes:?}");
        let expected = if nodes == [3] { vec!["x"] } else { vec![] };
        assert_eq!(cluster.decided(3), expected, "{nodes:?}: alone it cannot know");
        let other_nodes = |conflict: &Conflict| {
            matches!(conflict, Conflict::OtherConfiguration { nodes: true, .. })
        };
        assert!(cluster.conflicts(3).iter().any(|(_, what)| other_nodes(what)), "{nodes:?}");
        assert!(cluster.server(3).dropped().of_conflicting_configurations > 0, "{nodes:?}");
        for pid in nodes.iter().filter(|pid| [1, 2].contains(*pid)) {
            assert!(cluster.conflicts(*pid).iter().any(|(_, what)| other_nodes(what)), "{nodes:?}");
        }
    }
}

#[test]
fn clusters_of_two_names_are_apart() {
    let mut cluster = Cluster::new(&ALL);
    cluster.run(60);
    cluster.crash(3);
    let config = ServerConfig { cluster_name: Some("other".into()), ..server(3) };
    let other = self::cluster(&ALL).build_for_server(config, Disk::default()).unwrap();
    cluster.start_at(3, other);
    cluster.run(100);
    let differs = Conflict::OtherConfiguration { nodes: false, quorums: false, cluster_name: true };
    assert_eq!(cluster.conflicts(1), [(3, differs)]);
    assert_eq!(cluster.conflicts(3), [(1, differs), (2, differs)]);
}

#[test]
fn servers_on_fresh_memory_go_on_as_they_did() {
    let mut cluster = Cluster::new(&[]);
    for pid in ALL {
        cluster.start(pid, &ALL, Disk::default());
    }
    cluster.run(60);
    cluster.append(1, "a");
    cluster.crash(2);
    cluster.start(2, &ALL, Disk::default());
    cluster.run(60);
    cluster.append(1, "b");
    assert_eq!(cluster.decided(2), ["a", "b"]);
    assert_eq!(cluster.conflicts(1), []);
}

#[test]
fn some_servers_may_have_disks_with_ids_and_some_not() {
    let mut cluster = Cluster::new(&[]);
    cluster.start(1, &ALL, Disk::with_id(7));
    cluster.start(2, &ALL, Disk::default());
    cluster.start(3, &ALL, Disk::with_id(8));
    cluster.run(60);
    cluster.append(2, "a");
    for pid in ALL {
        assert_eq!((cluster.decided(pid).len(), cluster.conflicts(pid)), (1, vec![]));
    }
}

#[test]
fn a_server_that_meets_a_wiped_one_first_hears_of_it() {
    let mut cluster = Cluster::new(&ALL);
    cluster.isolate(2);
    cluster.run(60);
    cluster.append(1, "a");
    assert_eq!(cluster.disks[&2].get_identity().unwrap().unwrap().peers, BTreeMap::new());
    cluster.crash(3);
    cluster.heal_all();
    cluster.isolate(3);
    cluster.run(60);
    // 2 has never met 3, and 1 has reported the disk of 3 to it.
    cluster.start(3, &ALL, Disk::with_id(999));
    cluster.heal_all();
    cluster.isolate(1);
    cluster.run(200);
    cluster.append(2, "b");
    assert_eq!(cluster.decided(2), ["a"]);
    assert!(cluster.decided(3).is_empty());
}

#[test]
fn a_server_that_has_what_a_quorum_lost_says_so() {
    for restarts in [false, true] {
        // On fresh memory nobody can know.
        let mut cluster = Cluster::new(&[]);
        for pid in ALL {
            cluster.start(pid, &ALL, Disk::default());
        }
        cluster.run(60);
        for word in ["a", "b", "c"] {
            cluster.append(1, word);
        }
        cluster.isolate(1);
        for pid in [2, 3] {
            cluster.crash(pid);
            cluster.start(pid, &ALL, Disk::default());
        }
        // Their ballots pass that of 1.
        for _ in 0..5 {
            cluster.run(40);
            cluster.server(2).try_become_leader();
        }
        cluster.append(2, "x");
        assert_eq!(cluster.decided(3), ["x"]);
        if restarts {
            let disk = cluster.disks[&1].clone();
            cluster.crash(1);
            cluster.start(1, &ALL, disk);
        }
        cluster.heal_all();
        cluster.run(300);
        assert_eq!(cluster.decided(1), ["a", "b", "c"], "it keeps what is decided");
        let lost = cluster.server(1).status().lost.expect("it says so");
        assert_eq!((lost.leader_idx, lost.decided_idx), (1, 3));
        let events = cluster.server(1).take_events();
        assert!(events.contains(&Event::EntriesLost(lost)), "{events:?}");
        let again = cluster.server(1).take_events();
        assert!(!again.contains(&Event::EntriesLost(lost)), "{again:?}");
    }
}

#[test]
fn a_persistent_storage_that_must_be_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    let mut config = PersistentStorageConfig::default();
    config.set_path(path.to_str().unwrap().to_string());
    let opened = Durable::try_open_existing(config.clone());
    assert!(matches!(opened, Err(StorageError::NoStorage { .. })));
    assert!(!path.exists(), "nothing was made");
    let id = Durable::try_create(config.clone()).unwrap().get_storage_id().unwrap();
    assert!(id.is_some_and(|id| id != 0));
    let again = Durable::try_create(config.clone());
    assert!(matches!(again, Err(StorageError::NotEmpty { .. })), "though nothing was written");
    let opened = Durable::try_open_existing(config.clone()).unwrap();
    assert_eq!(opened.get_storage_id().unwrap(), id, "it stays");
    drop(opened);
    std::fs::remove_dir_all(&path).unwrap();
    assert!(Durable::try_open_existing(config.clone()).is_err());
    let new = Durable::try_create(config).unwrap().get_storage_id().unwrap();
    assert_ne!(new, id);
}

#[test]
fn a_folder_without_an_identity_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).set_promise(Ballot::with(1, 4, 0, 2)).unwrap();
    assert_eq!(open(folder.path()).get_identity().unwrap(), None);
    build(&ALL, 2, open(folder.path())).unwrap();
    assert_eq!(open(folder.path()).get_identity().unwrap().unwrap().pid, 2);
    refusal(build(&ALL, 1, open(folder.path())));
}

/// As programs of 0.2.2 do. The leader does not notice the restart, and has nothing to send.
#[test]
fn a_server_that_is_back_at_once_on_a_fresh_memory_storage_takes_part() {
    let mut cluster = Cluster::new(&[]);
    for pid in ALL {
        cluster.start(pid, &ALL, Disk::default());
    }
    cluster.run(60);
    cluster.append(1, "a");
    let leader = cluster.server(1).get_current_leader().unwrap();
    let follower = leader % 3 + 1;
    cluster.crash(follower);
    cluster.start(follower, &ALL, Disk::default());
    cluster.append(follower, "b");
    for pid in ALL {
        assert_eq!(cluster.decided(pid), ["a", "b"], "server {pid}");
        assert_eq!(cluster.conflicts(pid), []);
    }
}
