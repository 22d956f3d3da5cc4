//! Large snapshots between servers with persistent storages: sent from a file, and received into one.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    identity::Stamp,
    macros::Entry,
    messages::{
        sequence_paxos::{
            AcceptSync, CatchUpChunk, LogSync, PaxosMessage, PaxosMsg, Prepare, SnapshotEncoding,
            SnapshotPiece,
        },
        Message,
    },
    storage::{Snapshot, SnapshotDigest},
    util::LogEntry,
    ClusterConfig, OmniPaxos, ServerConfig,
};
use omnipaxos_harness::{build, Cluster, Fate};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, path::Path, rc::Rc, thread};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Entry, Serialize, Deserialize)]
#[snapshot(State)]
struct Number(u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State(Vec<u64>);

impl Snapshot<Number> for State {
    fn create(_: &[Number]) -> Self {
        unreachable!("can_create is false")
    }

    fn merge(&mut self, _: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

/// Some 90 KB, encoded.
fn state(seed: u64) -> State {
    State((0..10_000).map(|n| u64::MAX - n * seed).collect())
}

type Store = PersistentStorage<Number>;

fn open(folder: &Path, pid: u64) -> Store {
    let folder = folder.join(pid.to_string());
    let mut config = PersistentStorageConfig::with_path(folder.to_string_lossy());
    config.set_largest_inline_snapshot(1 << 10);
    let storage = Store::try_open(config).unwrap();
    // Which threads hold values differs between the servers.
    if pid == 2 {
        storage
    } else {
        storage.with_background_encoding()
    }
}

const ROUND: u64 = 5;
const MESSAGE: usize = 1 << 10;
const WINDOW: usize = 8 << 10;
const ENTRIES: u64 = 40;

/// What the network did to pieces for the learner.
#[derive(Debug, Default)]
struct Carried {
    /// Number of pieces from servers 1 and 2.
    from: [u64; 2],
    /// The pieces of this server are those of bytes that are no snapshot.
    liar: Option<u64>,
    /// The digest of the bytes that the liar has.
    truth: u64,
    /// The pieces of this server are those of a snapshot that no disk holds.
    exaggerates: Option<u64>,
}

/// Bytes with a digest that are no snapshot of their length.
fn lie(len: u64) -> (Vec<u8>, u64) {
    let bytes = vec![7; usize::try_from(len).unwrap()];
    let mut digest = SnapshotDigest::default();
    digest.update(&bytes);
    (bytes, digest.finish())
}

fn pass(message: &mut Message<Number>, carried: &mut Carried) {
    let (from, to) = (message.get_sender(), message.get_receiver());
    let Message::SequencePaxos(paxos) = message else { return };
    match &mut paxos.msg {
        PaxosMsg::CatchUpChunk(chunk) if to == 3 => {
            assert!(chunk.snapshot.is_none(), "it is larger than a message");
            let Some(piece) = &mut chunk.piece else { return };
            carried.from[from as usize - 1] += 1;
            if carried.exaggerates == Some(from) {
                piece.encoding.len = u64::MAX;
            }
            if carried.liar == Some(from) {
                let (bytes, digest) = lie(piece.encoding.len);
                let offset = usize::try_from(piece.offset).unwrap();
                piece.bytes = bytes[offset..][..piece.bytes.len()].to_vec();
                carried.truth = std::mem::replace(&mut piece.encoding.digest, digest);
            }
        }
        // The liar sends what it has, whatever it is called.
        PaxosMsg::CatchUpRequest(asks) if carried.liar == Some(to) => {
            if let Some(asked) = &mut asks.piece {
                asked.encoding.digest = carried.truth;
            }
        }
        _ => {}
    }
}

type Servers<N> = Cluster<Number, Store, N>;

/// Three servers led by 1, of which 3 lacks entries that the others have compacted.
fn learner(
    folder: &TempDir,
    carried: &Rc<RefCell<Carried>>,
) -> Servers<impl FnMut(u64, &mut Message<Number>) -> Fate> {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let servers = [1, 2, 3].map(|pid| {
        let change = |config: &mut ServerConfig| {
            config.election_tick_timeout = ROUND;
            config.max_message_bytes = MESSAGE;
            config.max_in_flight_bytes = WINDOW;
            config.max_snapshot_bytes = LARGEST;
        };
        build(&config, pid, change, open(folder.path(), pid))
    });
    let seen = Rc::clone(carried);
    let network = move |_now: u64, message: &mut Message<Number>| {
        pass(message, &mut seen.borrow_mut());
        Fate::Arrives(1)
    };
    let mut cluster = Cluster::of(servers, network);
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..ENTRIES {
        cluster.server(1).append(Number(number)).unwrap();
        cluster.run(3);
    }
    cluster.run(2 * ROUND);
    for pid in [1, 2] {
        compact(&mut cluster, pid, ENTRIES, &state(1));
    }
    cluster
}

fn compact<N: FnMut(u64, &mut Message<Number>) -> Fate>(
    cluster: &mut Servers<N>,
    pid: u64,
    idx: u64,
    state: &State,
) {
    cluster.server(pid).compact_with(idx, state.clone()).unwrap();
    cluster.run(1);
    while cluster.server(pid).get_stored_compacted_idx().unwrap() < idx {
        // Only a batch notices that the thread has ended.
        cluster.server(pid).flush().unwrap();
        cluster.run(ROUND);
        thread::yield_now();
        if cluster.server(1).get_current_leader() == Some(1) {
            cluster.server(1).append(Number(0)).unwrap();
        }
    }
}

/// Runs until server 3 has the snapshot of this index. It holds no more than its window in memory.
fn learn<N: FnMut(u64, &mut Message<Number>) -> Fate>(cluster: &mut Servers<N>, idx: u64) {
    for _ in 0..100_000 {
        cluster.run(1);
        thread::yield_now();
        let status = cluster.server(3).status();
        let held = status.catch_up.partial_snapshot_bytes;
        assert!(held <= (WINDOW + MESSAGE) as u64, "{held} bytes");
        for pid in [1, 2] {
            assert_eq!(cluster.server(pid).status().catch_up.encoded_snapshot_bytes, 0);
        }
        if status.compacted_idx >= idx {
            return;
        }
    }
    panic!("{:?}", cluster.server(3).status());
}

fn assert_has<N: FnMut(u64, &mut Message<Number>) -> Fate>(
    cluster: &mut Servers<N>,
    idx: u64,
    state: &State,
) {
    for _ in 0..2 {
        match cluster.server(3).read(0) {
            Some(LogEntry::Snapshotted(found)) => {
                assert_eq!((found.trimmed_idx, &found.snapshot), (idx, state));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn it_is_sent_from_a_file_and_received_into_one() {
    let folder = tempfile::tempdir().unwrap();
    let carried = Rc::default();
    let mut cluster = learner(&folder, &carried);
    cluster.heal_all();
    learn(&mut cluster, ENTRIES);
    assert_has(&mut cluster, ENTRIES, &state(1));
    cluster.run(20 * ROUND);
    let decided_idx = cluster.server(1).get_decided_idx();
    assert_eq!(cluster.server(3).get_decided_idx(), decided_idx);
    assert_eq!(cluster.server(3).dropped().undecodable_snapshots, 0);

    // It serves what it has received.
    drop(cluster);
    let mut found = open(folder.path(), 3);
    let source = omnipaxos::storage::Storage::snapshot_source(&mut found).unwrap();
    assert!(format!("{source:?}").starts_with("Bytes"), "{source:?}");
}

#[test]
fn bytes_that_are_no_snapshot_are_asked_for_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut lies = 0;
    for liar in [1, 2] {
        let folder = folder.path().join(liar.to_string());
        std::fs::create_dir(&folder).unwrap();
        let folder = tempfile::tempdir_in(folder).unwrap();
        let carried: Rc<RefCell<Carried>> = Rc::default();
        let mut cluster = learner(&folder, &carried);
        carried.borrow_mut().liar = Some(liar);
        cluster.heal_all();
        learn(&mut cluster, ENTRIES);
        assert_has(&mut cluster, ENTRIES, &state(1));
        let dropped = cluster.server(3).dropped().undecodable_snapshots;
        let carried = carried.borrow();
        let was_asked = carried.from[liar as usize - 1] > 80;
        assert_eq!(dropped > 0, was_asked, "{carried:?}");
        lies += dropped;
    }
    assert!(lies > 0);
}

/// The file has lost its name, and is read to its end.
#[test]
fn a_source_that_compacts_on_ends_what_it_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let carried = Rc::default();
    let mut cluster = learner(&folder, &carried);
    cluster.heal_all();
    while cluster.server(3).status().catch_up.partial_snapshot_bytes == 0 {
        cluster.run(1);
    }
    for pid in [1, 2] {
        compact_at_once(&mut cluster, pid, ENTRIES + 1, &state(2));
    }
    learn(&mut cluster, ENTRIES);
    assert_has(&mut cluster, ENTRIES, &state(1));
    // What follows on it is in the later snapshot.
    learn(&mut cluster, ENTRIES + 1);
    assert_has(&mut cluster, ENTRIES + 1, &state(2));
    cluster.run(20 * ROUND);
    let decided_idx = cluster.server(1).get_decided_idx();
    assert_eq!(cluster.server(3).get_decided_idx(), decided_idx);
}

fn compact_at_once<N: FnMut(u64, &mut Message<Number>) -> Fate>(
    cluster: &mut Servers<N>,
    pid: u64,
    idx: u64,
    state: &State,
) {
    cluster.server(pid).compact_with(idx, state.clone()).unwrap();
    cluster.server(pid).flush().unwrap();
}

type Server = OmniPaxos<Number, Store>;

fn handle(server: &mut Server, from: u64, msg: PaxosMsg<Number>) {
    server.handle_incoming(Message::SequencePaxos(PaxosMessage { from, to: 3, msg }));
    server.outgoing_messages();
}

fn has_snapshot_file(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().any(|found| {
        let path = found.unwrap().path();
        let is_snapshot = path.file_name().unwrap().to_string_lossy().starts_with("snapshot.");
        is_snapshot || path.is_dir() && has_snapshot_file(&path)
    })
}

/// A chunk without anything, at a source that has compacted four entries.
fn empty_chunk(base: u64) -> CatchUpChunk<Number> {
    CatchUpChunk {
        config_id: 1,
        base,
        snapshot: None,
        from_idx: base,
        entries: Vec::new().into(),
        ids: None,
        stopsign: None,
        piece: None,
        epoch: None,
        decided_idx: 4,
        compacted_idx: 4,
        stamp: Stamp::default(),
    }
}

/// The last piece of a snapshot answers a request from before a restart, in which the decided index was
/// lost. Its ids begin above the decided index now. The server has accepted other entries than those that
/// the snapshot stands for.
#[test]
fn a_snapshot_that_is_not_taken_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let change = |config: &mut ServerConfig| config.election_tick_timeout = ROUND;
    let mut server = build(&config, 3, change, open(folder.path(), 3));
    let (accepted_idx, decided_idx, stamp) = (4, 0, Stamp::default());
    let (n, n_accepted) = (Ballot { config_id: 1, n: 1, priority: 0, pid: 2 }, Ballot::default());
    let prepare = Prepare { n, n_accepted, accepted_idx, decided_idx, takes_delta: false, stamp };
    handle(&mut server, 2, PaxosMsg::Prepare(prepare));
    let suffix = [1, 2, 13, 14].map(Number).to_vec().into();
    let sync = Box::new(LogSync { suffix_idx: 0, suffix, ids: None, stopsign: None });
    handle(&mut server, 2, PaxosMsg::AcceptSync(AcceptSync { n, decided_idx, sync, stamp }));

    let bytes = bincode::serde::encode_to_vec(state(1), bincode::config::standard()).unwrap();
    let mut digest = SnapshotDigest::default();
    digest.update(&bytes);
    let encoding = SnapshotEncoding { idx: 4, len: bytes.len() as u64, digest: digest.finish() };
    for (offset, bytes) in [(0, &bytes[..1000]), (1000, &bytes[1000..])] {
        let piece = SnapshotPiece { encoding, offset, bytes: bytes.to_vec(), is_cut: false };
        let chunk = CatchUpChunk { piece: Some(Box::new(piece)), ..empty_chunk(2) };
        handle(&mut server, 1, PaxosMsg::CatchUpChunk(Box::new(chunk)));
    }
    let is_written = |server: &Server| server.status().catch_up.partial_snapshot_bytes == 0;
    for polls in 0.. {
        if is_written(&server) && !has_snapshot_file(folder.path()) {
            break;
        }
        assert!(polls < 1_000_000, "the storage keeps a snapshot that is not wanted");
        server.outgoing_messages();
        thread::yield_now();
    }
    let entries = [1, 2].map(Number).to_vec().into();
    let chunk = CatchUpChunk { entries, decided_idx: 2, compacted_idx: 0, ..empty_chunk(0) };
    handle(&mut server, 1, PaxosMsg::CatchUpChunk(Box::new(chunk)));
    assert_eq!(server.read_decided_suffix(0).map(|entries| entries.len()), Some(2));
}

/// The largest snapshot that a server takes in the tests of a source that lies.
const LARGEST: u64 = 100 << 10;

/// Follower 3 of leader 2. The others have compacted what it lacks, and server 1 is asked for it.
fn follower(folder: &TempDir) -> Server {
    let config = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let change = |config: &mut ServerConfig| {
        config.election_tick_timeout = ROUND;
        config.max_message_bytes = MESSAGE;
        config.max_in_flight_bytes = WINDOW;
        config.max_snapshot_bytes = LARGEST;
    };
    build(&config, 3, change, open(folder.path(), 3))
}

/// A source that claims a length, and has all the bytes that it is asked for: none is a snapshot.
struct Liar {
    encoding: SnapshotEncoding,
    sent: u64,
}

impl Liar {
    fn piece(&mut self, offset: u64, len: u64) -> PaxosMsg<Number> {
        self.sent += len;
        let bytes = vec![7; usize::try_from(len).unwrap()];
        let piece = SnapshotPiece { encoding: self.encoding, offset, bytes, is_cut: false };
        let chunk = CatchUpChunk { piece: Some(Box::new(piece)), ..empty_chunk(0) };
        PaxosMsg::CatchUpChunk(Box::new(chunk))
    }

    /// Answers each request. Returns their number.
    fn serve(&mut self, server: &mut Server) -> u64 {
        let mut requests = 0;
        for message in server.outgoing_messages() {
            let Message::SequencePaxos(PaxosMessage { to, msg, .. }) = message else { continue };
            let PaxosMsg::CatchUpRequest(asks) = msg else { continue };
            requests += 1;
            let (from, until) = asks.piece.map_or((0, 1), |asked| (asked.from, asked.until));
            for offset in (from..until).step_by(MESSAGE) {
                let msg = self.piece(offset, (until - offset).min(MESSAGE as u64));
                server.handle_incoming(Message::SequencePaxos(PaxosMessage {
                    from: to,
                    to: 3,
                    msg,
                }));
            }
        }
        requests
    }
}

/// Number of bytes in the files of snapshots.
fn bytes_of_snapshot_files(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|found| found.unwrap().path());
    let bytes = files.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => bytes_of_snapshot_files(&path),
            false if name.starts_with("snapshot.") => path.metadata().map_or(0, |file| file.len()),
            false => 0,
        }
    });
    bytes.sum()
}

#[test]
fn a_source_that_lies_about_the_length_fills_no_disk() {
    for len in [LARGEST + 1, 1 << 50, u64::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = follower(&folder);
        let encoding = SnapshotEncoding { idx: 4, len, digest: 9 };
        let mut liar = Liar { encoding, sent: 0 };
        let first = liar.piece(0, MESSAGE as u64);
        handle(&mut server, 1, first);
        let mut requests = 0;
        for _ in 0..50 * ROUND {
            requests += liar.serve(&mut server);
            assert_eq!(server.status().catch_up.partial_snapshot_bytes, 0);
            server.tick();
        }
        assert!(!has_snapshot_file(folder.path()), "{len}");
        assert!(requests < 150 && liar.sent < 200 << 10, "{requests}, {} bytes", liar.sent);
        let dropped = server.dropped();
        assert!(dropped.oversized_snapshots > 0, "{dropped:?}");
        assert_eq!(dropped.undecodable_snapshots, 0);
    }
}

/// A source sends what it was not asked for, as fast as it can.
#[test]
fn pieces_that_nobody_asked_for_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = follower(&folder);
    let encoding = SnapshotEncoding { idx: 4, len: LARGEST, digest: 9 };
    let mut liar = Liar { encoding, sent: 0 };
    for offset in (0..LARGEST).step_by(MESSAGE) {
        let msg = liar.piece(offset, MESSAGE as u64);
        server.handle_incoming(Message::SequencePaxos(PaxosMessage { from: 1, to: 3, msg }));
        let held = server.status().catch_up.partial_snapshot_bytes;
        assert!(held <= (WINDOW + MESSAGE) as u64, "{held} bytes");
    }
    // What it asks for has all bytes and no snapshot.
    for _ in 0..1_000_000 {
        liar.serve(&mut server);
        let held = server.status().catch_up.partial_snapshot_bytes;
        assert!(held <= (WINDOW + MESSAGE) as u64, "{held} bytes");
        // The file of one that is no snapshot may not be removed yet.
        assert!(bytes_of_snapshot_files(folder.path()) <= 2 * LARGEST);
        if server.dropped().undecodable_snapshots > 1 {
            return;
        }
        thread::yield_now();
    }
    panic!("{:?}", server.status());
}

/// The other source has a snapshot that this server takes.
#[test]
fn a_snapshot_that_is_too_large_is_asked_for_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for liar in [1, 2] {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        let carried: Rc<RefCell<Carried>> = Rc::default();
        let mut cluster = learner(&folder, &carried);
        carried.borrow_mut().exaggerates = Some(liar);
        cluster.heal_all();
        learn(&mut cluster, ENTRIES);
        assert_has(&mut cluster, ENTRIES, &state(1));
        refused += cluster.server(3).dropped().oversized_snapshots;
    }
    assert!(refused > 0);
}
