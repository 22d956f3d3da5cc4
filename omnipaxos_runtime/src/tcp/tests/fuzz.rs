//! Random and mutated bytes for what decodes the bytes of a connection.
//!
//! The inputs are the same in each run. `FUZZ_INPUTS` sets their number.

use super::Text;
use crate::tcp::{
    frame::{self, FrameError},
    handshake::{accept, connect, Announcement, HandshakeError, Hello, MAX_ANNOUNCEMENT},
};
use allocation_counter::measure;
use omnipaxos::{
    members::MemberChange, messages::Message, ClusterConfig, OmniPaxos, OmniPaxosConfig,
    ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    pin::{pin, Pin},
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest frame here.
const MAX_BYTES: usize = 64 * 1024;

/// The most memory that one frame takes while it is read: what lengths in a body may reserve, and the rest.
const MAX_MEMORY: u64 = 5 * 1024 * 1024;

/// Xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Small numbers, those at the edges of an encoding, and others.
    fn number(&mut self) -> u64 {
        let bits = 1 + self.below(64);
        let edge = [0, 1, 250, 251, 252, 253, 254, 255, 256, 4096, 4097, u64::MAX][self.below(12)];
        if self.below(2) == 0 {
            edge
        } else {
            self.next() >> (64 - bits)
        }
    }

    /// Changes bytes, a few times.
    fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(9)).min(bytes.len());
            let number = self.number().to_be_bytes();
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, number)),
                3 => drop(bytes.splice(at..end, number[8 - self.below(9)..].iter().copied())),
                // A number of bincode, which may be the length of something.
                4 => {
                    let number = self.number().to_le_bytes();
                    let (marker, used) = [(251, 2), (252, 4), (253, 8)][self.below(3)];
                    let encoded = [&[marker], &number[..used]].concat();
                    drop(bytes.splice(at..end, encoded));
                }
                5 => {
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (number[7] % 8))
                }
                // The rest of another.
                6 => {
                    let other = &others[self.below(others.len())];
                    let from = self.below(other.len());
                    bytes.truncate(at);
                    bytes.extend(&other[from..]);
                }
                // The length of the frame.
                _ => bytes.iter_mut().zip(&number[4..]).for_each(|(byte, new)| *byte = *new),
            }
        }
    }
}

/// The number of inputs of each kind.
fn inputs() -> u64 {
    std::env::var("FUZZ_INPUTS").map_or(20_000, |inputs| inputs.parse().unwrap())
}

/// A connection on which these bytes arrive, at most `chunk` at once. It keeps what is written to it.
struct Script<'a> {
    arriving: &'a [u8],
    chunk: usize,
    written: Vec<u8>,
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = self.arriving.len().min(self.chunk).min(to.remaining());
        let (now, later) = self.arriving.split_at(bytes);
        to.put_slice(now);
        self.arriving = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend(from);
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The output of a future that waits for nothing.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits, though all bytes have arrived"),
    }
}

/// Three members, and an observer, which takes the place of server 3 later.
fn changing_servers() -> Vec<OmniPaxos<Text, MemoryStorage<Text>>> {
    // So that snapshots travel in pieces.
    let server =
        |pid| ServerConfig { pid, max_observers: 2, max_message_bytes: 1024, ..Default::default() };
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1, 2, 3], ..Default::default() };
    let members = (1..=3).map(|pid| {
        let member = ServerConfig { continues: true, ..server(pid) };
        cluster.clone().build_for_server(member, MemoryStorage::default()).unwrap()
    });
    let observer = OmniPaxosConfig::observe(server(4), &[1, 2]);
    members.chain([observer.try_build(MemoryStorage::default()).unwrap()]).collect()
}

/// Frames that these servers send each other.
fn frames() -> Vec<Vec<u8>> {
    let mut servers = changing_servers();
    let mut frames = BTreeMap::new();
    let mut random = Random(7);
    for round in 0..600 {
        let leader = servers[0].get_current_leader().map_or(0, |leader| leader as usize - 1);
        match round {
            200 => servers[leader].snapshot(None, false).unwrap(),
            300 => {
                servers[leader].transfer_leadership(if leader == 0 { 2 } else { 1 }, 100).unwrap()
            }
            400 => {
                let nodes = vec![1, 2, 4];
                let next = ClusterConfig { configuration_id: 2, nodes, ..Default::default() };
                servers[leader].change_members(next, MemberChange::default()).unwrap();
            }
            _ => {}
        }
        for server in &mut servers {
            server.tick();
            if round % 10 == 3 {
                let bytes = random.below(300);
                drop(server.try_append(Text("x".repeat(bytes), vec![7; bytes / 2])));
                drop(server.request_read());
            }
        }
        for at in 0..servers.len() {
            for message in servers[at].outgoing_messages() {
                let mut frame = Vec::new();
                frame::encode(&message, MAX_BYTES, &mut frame).unwrap();
                let text = format!("{message:?}");
                let words = text.split(|c: char| !c.is_alphanumeric());
                let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase());
                let kinds: BTreeSet<String> = words.filter(is_name).map(str::to_owned).collect();
                frames.insert(frame, kinds);
                // Server 3 misses a part, and catches up.
                let to = message.get_receiver() as usize - 1;
                if to != 2 || !(100..250).contains(&round) {
                    servers[to].handle_incoming(message);
                }
            }
        }
    }
    // Some of each length, of which there are few kinds; and some of each kind that is rare.
    let mut frames: Vec<(Vec<u8>, BTreeSet<String>)> = frames.into_iter().collect();
    frames.sort_by_key(|(frame, _)| frame.len());
    let mut kept: BTreeSet<Vec<u8>> =
        frames.iter().step_by(7).map(|(frame, _)| frame.clone()).collect();
    for kind in [
        "AcceptStopSign",
        "CatchUpChunk",
        "Compaction",
        "Joining",
        "SnapshotPiece",
        "TransferLeadership",
    ] {
        let of_kind = || frames.iter().filter(|(_, kinds)| kinds.contains(kind));
        assert!(of_kind().next().is_some(), "no {kind} is sent");
        kept.extend(of_kind().take(3).map(|(frame, _)| frame.clone()));
    }
    kept.into_iter().collect()
}

/// Reads frames to the end. Returns what was read, or an error.
fn read_all(arriving: &[u8], chunk: usize) -> Result<Vec<Message<Text>>, FrameError> {
    let mut script = Script { arriving, chunk, written: Vec::new() };
    let (mut messages, mut body) = (Vec::new(), Vec::new());
    at_once(async {
        while let Some((message, _)) = frame::read(&mut script, MAX_BYTES, None, &mut body).await? {
            messages.push(message);
        }
        Ok(messages)
    })
}

#[test]
fn mutated_frames_are_messages_or_errors() {
    let frames = frames();
    assert!(frames.len() > 50, "{} frames", frames.len());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut valid, mut invalid) = (0, 0);
    for input in 0..inputs() {
        let mut bytes = frames[random.below(frames.len())].clone();
        bytes.extend(&frames[random.below(frames.len())]);
        if input % 16 == 0 {
            bytes = (0..random.below(100)).map(|_| random.next() as u8).collect();
        }
        random.mutate(&mut bytes, &frames);
        let mut whole = None;
        let memory = measure(|| whole = Some(read_all(&bytes, usize::MAX)));
        assert!(memory.bytes_max <= MAX_MEMORY, "{} bytes: {bytes:?}", memory.bytes_max);
        let whole = whole.unwrap();
        let chunk = 1 + random.below(7);
        let in_chunks = read_all(&bytes, chunk);
        assert_eq!(format!("{whole:?}"), format!("{in_chunks:?}"), "in chunks of {chunk}");
        match whole {
            Ok(messages) => {
                valid += 1;
                let mut again = Vec::new();
                for message in &messages {
                    frame::encode(message, 2 * MAX_BYTES, &mut again).unwrap();
                }
                let same = read_all(&again, usize::MAX).unwrap();
                assert_eq!(format!("{same:?}"), format!("{messages:?}"));
            }
            Err(_) => invalid += 1,
        }
    }
    println!("{valid} inputs are frames, {invalid} are not");
    assert!(valid > 0 && invalid > valid);
}

const OWN: u64 = 2;
const APPLICATION: u64 = 5;

fn is_admitted(pid: u64) -> bool {
    [1, 3, u64::MAX].contains(&pid)
}

fn hello(from: u64, announcement: &Announcement) -> Vec<u8> {
    let announcement = announcement.encode().unwrap();
    let mut bytes = b"OPXR\0\0\0\x01".to_vec();
    for number in [APPLICATION, from, OWN] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend((announcement.len() as u32).to_be_bytes());
    bytes.extend(announcement);
    bytes
}

/// What the wire format says of a hello: the server that is accepted.
fn accepted_by_the_format(bytes: &[u8]) -> Option<u64> {
    let number = |at: usize| Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = u32::from_be_bytes(*bytes.get(32..)?.first_chunk()?) as usize;
    let announcement = bytes.get(36..36 + length)?;
    let announces = match announcement {
        [] => true,
        [high, low, rest @ ..] => {
            let address = rest.get(..usize::from(*high) << 8 | usize::from(*low));
            address.is_some_and(|address| std::str::from_utf8(address).is_ok())
        }
        [_] => false,
    };
    let from = number(16)?;
    let fits = bytes.starts_with(b"OPXR\0\0\0\x01")
        && (number(8), number(24)) == (Some(APPLICATION), Some(OWN))
        && length <= MAX_ANNOUNCEMENT;
    Some(from).filter(|from| fits && announces && is_admitted(*from))
}

#[test]
fn mutated_hellos_are_accepted_as_the_format_says() {
    let announced = [
        Announcement::default(),
        Announcement { address: "h:1".to_owned(), content: vec![7; 40] },
        Announcement { address: "ä".repeat(60), content: vec![0; 3000] },
    ];
    let hellos: Vec<_> = [1, 2, 3, 9, u64::MAX]
        .into_iter()
        .flat_map(|from| announced.iter().map(move |announced| hello(from, announced)))
        .collect();
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let (mut accepted, mut refused) = (0, 0);
    for input in 0..inputs() {
        let mut bytes = hellos[random.below(hellos.len())].clone();
        if input % 8 > 0 {
            random.mutate(&mut bytes, &hellos);
        }
        let chunk = 1 + random.below(100);
        let mut script = Script { arriving: &bytes, chunk, written: Vec::new() };
        let mut result = None;
        let memory = measure(|| {
            let accepting = accept(&mut script, OWN, APPLICATION, |pid, _| is_admitted(pid));
            result = Some(at_once(accepting));
        });
        assert!(memory.bytes_max <= 4 * MAX_ANNOUNCEMENT as u64, "{} bytes", memory.bytes_max);
        let result = result.unwrap().map(|(pid, _)| pid);
        assert_eq!(result.as_ref().ok(), accepted_by_the_format(&bytes).as_ref(), "{bytes:?}");
        let answer = script.written;
        match result {
            Ok(_) => {
                accepted += 1;
                assert_eq!((answer.len(), &answer[24..]), (28, &[0; 4][..]));
            }
            Err(error) => {
                refused += 1;
                let is_answered = match error {
                    HandshakeError::Io(_)
                    | HandshakeError::Foreign
                    | HandshakeError::Announcement => false,
                    HandshakeError::Version(_)
                    | HandshakeError::Application { .. }
                    | HandshakeError::OtherServer(_)
                    | HandshakeError::NotInBook
                    | HandshakeError::Unlisted(_)
                    | HandshakeError::Misdirected { .. } => true,
                };
                assert_eq!(answer.len(), if is_answered { 28 } else { 0 });
            }
        }
    }
    println!("{accepted} hellos are accepted, {refused} refused");
    assert!(accepted > 0 && refused > accepted);
}

#[test]
fn mutated_answers_are_accepted_from_the_right_server_alone() {
    let answers: Vec<Vec<u8>> = (0..6_u32)
        .flat_map(|verdict| [1, OWN].map(|own: u64| (verdict, own)))
        .map(|(verdict, own)| {
            let mut bytes = b"OPXR\0\0\0\x01".to_vec();
            bytes.extend(APPLICATION.to_be_bytes());
            bytes.extend(own.to_be_bytes());
            bytes.extend(verdict.to_be_bytes());
            bytes
        })
        .collect();
    let mut random = Random(0xD134_2543_DE82_EF95);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..inputs() {
        let mut bytes = answers[random.below(answers.len())].clone();
        random.mutate(&mut bytes, &answers);
        let mut script = Script { arriving: &bytes, chunk: 1 + random.below(28), written: vec![] };
        let hello = Hello { application_version: APPLICATION, from: 1, to: OWN };
        let is_right = bytes.len() >= 28
            && bytes.starts_with(b"OPXR")
            && bytes[16..24] == OWN.to_be_bytes()
            && bytes[24..28] == [0; 4];
        let connected = at_once(connect(&mut script, hello, &[]));
        assert_eq!(connected.is_ok(), is_right, "{connected:?}: {bytes:?}");
        *(if is_right { &mut accepted } else { &mut refused }) += 1;
    }
    println!("{accepted} answers are accepted, {refused} refused");
    assert!(accepted > 0 && refused > accepted);
}
