//! Messages, ballots and ids as text, and back.

use super::disk::{letters, stopsign, stopsign_with, Letter, Letters, DURABLE_BYTES};
use crate::{
    ballot::Ballot,
    config::ClusterConfig,
    entry::{encoding, SharedEntries},
    errors::TryProposeErr,
    identity::Stamp,
    log_entry::LogEntry,
    messages::sequence_paxos::{
        AcceptDecide, AcceptStopSign, AcceptSync, Accepted, AppliedReport, CatchUpChunk,
        CatchUpRedirect, CatchUpRequest, Compaction, CompactionAction, Decide, DecidedRange,
        EntryIds, ForgottenIds, ForwardedProposals, ForwardedStopSign, IdRange, Joining,
        LeadershipCheck, LeadershipCheckAck, LogSync, NotAccepted, PaxosMsg, PieceRequest, Prepare,
        PrepareReq, Promise, ProposalRejection, ReadIndexRequest, ReadIndexResponse, Refusal,
        RejectionReason, SnapshotEncoding, SnapshotPiece, TransferLeadership,
    },
    proposals::{IdRun, Outcome, ProposalId},
    storage::{Epoch, SnapshotType, StopSign},
};
use std::fmt::Write;

pub(super) fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

pub(super) fn ballot(text: &str) -> Ballot {
    text.split_once('.').map_or(Ballot::default(), |(n, pid)| {
        Ballot::with(1, u32::try_from(number(n)).unwrap(), 0, number(pid))
    })
}

pub(super) fn shown_ballot(n: Ballot) -> String {
    if n.n == 0 {
        return "0".to_string();
    }
    format!("{}.{}", n.n, n.pid)
}

/// `2/7/0`: server 2, incarnation 7, number 0. `1/4./3`: appended without an id, at index 3, at the leader
/// of ballot 4.1. `2/text`: made of a text.
pub(super) fn id(text: &str) -> ProposalId {
    let mut parts = text.split('/').map(number);
    let mut next = || parts.next().unwrap_or_else(|| panic!("`{text}` is no id"));
    ProposalId { origin: next(), incarnation: next(), number: next() }
}

pub(super) fn shown_id(id: ProposalId) -> String {
    const HIGHEST: u64 = 1 << 63;
    let ProposalId { origin, incarnation, number } = id;
    if incarnation & HIGHEST != 0 {
        let n = (incarnation ^ HIGHEST) & u64::from(u32::MAX);
        return format!("{origin}/{n}./{number}");
    }
    if incarnation == 0 && number & HIGHEST != 0 {
        return format!("{origin}/text");
    }
    format!("{origin}/{incarnation}/{number}")
}

/// The name of a variant, with the ballot in it if it has one.
pub(super) fn variant(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

pub(super) fn refused(err: TryProposeErr<Letter>) -> String {
    match err {
        TryProposeErr::Refused(err) => variant(&err),
        err => variant(&err),
    }
}

/// The log as the user reads it: as in a state, but for `_2` and `*2`, the first two entries.
pub(super) fn shown_entry(entry: &LogEntry<Letter>) -> String {
    match entry {
        LogEntry::Decided(letter) => letter.0.to_ascii_uppercase().to_string(),
        LogEntry::Undecided(letter) => letter.0.to_string(),
        LogEntry::Trimmed(idx) => format!("_{idx}"),
        LogEntry::Snapshotted(snapshotted) => format!("*{}", snapshotted.trimmed_idx),
        LogEntry::StopSign(_, true) => "!".to_string(),
        LogEntry::StopSign(_, false) => "$".to_string(),
    }
}

pub(super) fn shown_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Decided(idx) => format!("decided at {idx}"),
        Outcome::DecidedBefore(idx) => format!("decided before {idx}"),
        Outcome::NotDecided => "not decided".to_string(),
        Outcome::NotJoined(missing) => format!("not joined: {missing:?}"),
        Outcome::Refused(cause) => format!("refused: {cause}"),
        Outcome::Unknown => "unknown".to_string(),
    }
}

/// The words of a message: its name, its ballot, and values with and without keys.
pub(super) struct Fields<'a> {
    name: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let mut words = text.split_whitespace();
        Self { name: words.next().unwrap(), words: words.collect() }
    }

    fn n(&self) -> Ballot {
        ballot(self.words.first().unwrap_or(&"0"))
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn idx(&self, key: &str) -> u64 {
        self.value(key).map_or(0, number)
    }

    fn ballot(&self, key: &str) -> Ballot {
        self.value(key).map_or(Ballot::default(), ballot)
    }

    fn entries(&self) -> &'a str {
        self.words.iter().find_map(|word| word.strip_prefix('+')).unwrap_or_default()
    }

    /// `ids=3:2/7/0x2`: the entries 3 and 4 have the ids 2/7/0 and 2/7/1. `forgot=3:2/7/0x2`: two
    /// entries before 3 have them, at indices that are forgotten.
    fn ids(&self) -> Option<Box<EntryIds>> {
        let ids = |key| {
            let (idx, run) = self.value(key)?.split_once(':')?;
            let (first, count) = run.split_once('x')?;
            Some(IdRun { idx: number(idx), count: number(count), first: id(first) })
        };
        let forgotten = ids("forgot").map(|IdRun { idx, count, first }| {
            let ids = vec![IdRange { first, count }];
            Box::new(ForgottenIds { before: idx, ids, in_doubt: Vec::new() })
        });
        let runs: Vec<IdRun> = ids("ids").into_iter().collect();
        let is_any = forgotten.is_some() || !runs.is_empty();
        is_any.then(|| Box::new(EntryIds { known_from: 0, runs, forgotten }))
    }

    /// `want=4:20-60`: these bytes of the durable snapshot of 4 entries.
    fn wanted_piece(&self) -> Option<PieceRequest> {
        let (idx, bytes) = self.value("want")?.split_once(':')?;
        let (from, until) = bytes.split_once('-')?;
        let encoding = SnapshotEncoding { idx: number(idx), len: DURABLE_BYTES, digest: 0 };
        Some(PieceRequest { encoding, from: number(from), until: number(until) })
    }

    fn piece(&self) -> Option<Box<SnapshotPiece>> {
        let (idx, text) = self.value("piece")?.split_once(':')?;
        let bytes = match self.words.contains(&"coded") {
            true => encoding::encode(&Letters(text.to_string())).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        let digest = self.value("digest").map_or_else(|| encoding::digest(&bytes), number);
        let encoding = SnapshotEncoding { idx: number(idx), len: bytes.len() as u64, digest };
        let half = bytes.len() / 2;
        let (from, until) = match (self.value("bytes"), self.value("half")) {
            (Some(range), _) => {
                let (from, until) = range.split_once('-').unwrap();
                (number(from) as usize, number(until) as usize)
            }
            (None, Some("1")) => (0, half),
            (None, _) => (half, bytes.len()),
        };
        let (offset, bytes) = (from as u64, bytes[from..until].to_vec());
        Some(Box::new(SnapshotPiece { encoding, offset, bytes, is_cut: false }))
    }

    /// `epoch=2:4`: configuration 2 decides the records from index 4 on.
    fn epoch(&self) -> Option<Box<Epoch>> {
        let (id, first_idx) = self.value("epoch")?.split_once(':')?;
        let configuration_id = u32::try_from(number(id)).unwrap();
        let configuration = ClusterConfig { configuration_id, ..stopsign().next_config };
        Some(Box::new(Epoch::new(number(first_idx), configuration, None)))
    }

    fn stopsign(&self) -> Option<StopSign> {
        self.entries().contains('$').then(stopsign)
    }

    fn sync(&self) -> LogSync<Letter> {
        let suffix = SharedEntries::from(letters(self.entries()));
        let (suffix_idx, ids) = (self.idx("at"), self.ids());
        LogSync { suffix_idx, suffix, ids, stopsign: self.stopsign() }
    }

    pub(super) fn message(&self) -> PaxosMsg<Letter> {
        let config_id = u32::from(!self.words.contains(&"joins"));
        // Without the word the sender may be in another epoch.
        let is_of_this_epoch = u32::from(self.words.contains(&"present"));
        let stamp = Stamp { configuration: is_of_this_epoch, ..Stamp::default() };
        let (n, n_accepted) = (self.n(), self.ballot("na"));
        let takes_delta = self.words.contains(&"delta");
        let (accepted_idx, decided_idx) = (self.idx("len"), self.idx("dec"));
        let of_id = |key| id(self.value(key).unwrap());
        let hops = u8::try_from(self.idx("hops")).unwrap();
        match self.name {
            "PrepareReq" => PaxosMsg::PrepareReq(PrepareReq {
                config_id,
                n,
                n_accepted,
                accepted_idx,
                decided_idx,
                stamp,
            }),
            "Prepare" => PaxosMsg::Prepare(Prepare {
                n,
                n_accepted,
                accepted_idx,
                decided_idx,
                takes_delta,
                stamp,
            }),
            "Promise" => {
                let sync = self.value("at").map(|_| Box::new(self.sync()));
                PaxosMsg::Promise(Promise {
                    n,
                    n_accepted,
                    accepted_idx,
                    decided_idx,
                    takes_delta,
                    sync,
                    stamp,
                })
            }
            "AcceptSync" => {
                let sync = Box::new(self.sync());
                PaxosMsg::AcceptSync(AcceptSync { n, decided_idx, sync, stamp })
            }
            "AcceptDecide" => {
                let entries = SharedEntries::from(letters(self.entries())).into();
                let (from_idx, ids) = (self.idx("at"), self.ids());
                PaxosMsg::AcceptDecide(AcceptDecide {
                    n,
                    from_idx,
                    entries,
                    decided_idx,
                    ids,
                    stamp,
                })
            }
            "AcceptStopSign" => {
                let (idx, stopsign) = (self.idx("at"), Box::new(stopsign()));
                PaxosMsg::AcceptStopSign(AcceptStopSign { n, idx, stopsign, decided_idx, stamp })
            }
            "Accepted" => {
                let gap = self.words.contains(&"gap");
                PaxosMsg::Accepted(Accepted { n, accepted_idx, decided_idx, gap, stamp })
            }
            "NotAccepted" => PaxosMsg::NotAccepted(NotAccepted { n }),
            "Decide" => PaxosMsg::Decide(Decide { n, decided_idx, stamp }),
            "CatchUpRedirect" => {
                let source = self.idx("source");
                PaxosMsg::CatchUpRedirect(CatchUpRedirect { n, source, decided_idx })
            }
            "CatchUpRequest" => {
                let waits = self.words.contains(&"waits");
                PaxosMsg::CatchUpRequest(Box::new(CatchUpRequest {
                    config_id,
                    decided_idx,
                    takes_delta,
                    waits,
                    takes_pieces: self.words.contains(&"pieces"),
                    range: self.range(),
                    piece: self.wanted_piece(),
                }))
            }
            "CatchUpChunk" => {
                let letters = |text: &str| Letters(text.to_string());
                let snapshot = self.value("snapshot").map(letters).map(SnapshotType::Complete);
                let delta = self.value("delta").map(letters).map(SnapshotType::Delta);
                let LogSync { suffix_idx: from_idx, suffix: entries, ids, stopsign } = self.sync();
                PaxosMsg::CatchUpChunk(Box::new(CatchUpChunk {
                    config_id,
                    base: self.idx("base"),
                    snapshot: snapshot.or(delta),
                    from_idx,
                    entries,
                    ids,
                    stopsign,
                    piece: self.piece(),
                    epoch: self.epoch(),
                    decided_idx,
                    compacted_idx: self.idx("gone"),
                    stamp,
                }))
            }
            "ProposalForward" => PaxosMsg::ProposalForward(letters(self.entries())),
            "ForwardedProposals" => {
                let (first, first_ballot) = (of_id("first"), self.ballot("ballot"));
                let (min_idx, entries) = (self.idx("min"), letters(self.entries()));
                PaxosMsg::ForwardedProposals(Box::new(ForwardedProposals {
                    first,
                    first_ballot,
                    min_idx,
                    entries,
                    hops,
                    stamp,
                }))
            }
            "ProposalRejection" => {
                let (first, count) = (of_id("first"), self.idx("count").max(1));
                let reason = self.reason();
                let rejection = ProposalRejection { config_id, first, count, reason, hops, stamp };
                PaxosMsg::ProposalRejection(rejection)
            }
            "ForwardStopSign" => {
                let (id, stopsign) = (of_id("id"), stopsign_with(self.value("metadata")));
                PaxosMsg::ForwardStopSign(Box::new(ForwardedStopSign {
                    config_id,
                    id,
                    stopsign,
                    hops,
                }))
            }
            "ReadIndexRequest" => {
                let ProposalId { origin, incarnation, number } = of_id("id");
                let n = self.ballot("n");
                let request =
                    ReadIndexRequest { config_id, origin, incarnation, number, n, hops, stamp };
                PaxosMsg::ReadIndexRequest(request)
            }
            "ReadIndexResponse" => {
                let ProposalId { origin, incarnation, number } = of_id("id");
                let read_idx = self.idx("at");
                PaxosMsg::ReadIndexResponse(ReadIndexResponse {
                    config_id,
                    origin,
                    incarnation,
                    number,
                    read_idx,
                    hops,
                    stamp,
                })
            }
            "LeadershipCheck" => {
                PaxosMsg::LeadershipCheck(LeadershipCheck { n, round: self.idx("round") })
            }
            "LeadershipCheckAck" => {
                let round = self.idx("round");
                PaxosMsg::LeadershipCheckAck(LeadershipCheckAck { n, round, stamp })
            }
            "TransferLeadership" => PaxosMsg::TransferLeadership(TransferLeadership { n }),
            "Joining" => {
                let config_id = u32::try_from(self.idx("config")).unwrap();
                let decided_idx = self.value("len").map(number);
                PaxosMsg::Joining(Joining { config_id, decided_idx, cluster_name: 0 })
            }
            "Trim" | "Snapshot" | "Compacted" | "Applied" => {
                PaxosMsg::Compaction(Compaction { config_id, action: self.compaction(), stamp })
            }
            name => panic!("`{name}` is no message"),
        }
    }

    /// `range=2-4`: the entries 2 and 3 are asked for.
    fn range(&self) -> Option<DecidedRange> {
        let (from, until) = self.value("range")?.split_once('-')?;
        Some(DecidedRange { from_idx: number(from), until_idx: number(until) })
    }

    fn compaction(&self) -> CompactionAction {
        let idx = self.idx("to");
        match self.name {
            "Trim" => CompactionAction::Trim(idx),
            "Snapshot" => CompactionAction::Snapshot(idx),
            "Compacted" => CompactionAction::Compacted(idx),
            _ => CompactionAction::Applied(AppliedReport {
                applied_idx: idx,
                confirmed_idx: self.idx("confirms"),
                asks: self.words.contains(&"asks"),
            }),
        }
    }

    fn reason(&self) -> RejectionReason {
        let refusal = |n| Refusal { n, cause: "no z".to_string() };
        self.value("decided")
            .map(|idx| RejectionReason::Decided(number(idx)))
            .or(self.value("before").map(|idx| RejectionReason::DecidedBefore(number(idx))))
            .or(self.value("unknown").map(|idx| RejectionReason::Unknown(number(idx))))
            .unwrap_or_else(|| RejectionReason::Refused(Box::new(refusal(self.ballot("refused")))))
    }
}

/// A message as its words.
struct Shown(String);

impl Shown {
    fn new(name: &str) -> Self {
        Self(name.to_string())
    }

    fn word(mut self, word: impl std::fmt::Display) -> Self {
        let _ = write!(self.0, " {word}");
        self
    }

    fn n(self, n: Ballot) -> Self {
        self.word(shown_ballot(n))
    }

    fn ballot(self, key: &str, n: Ballot) -> Self {
        match n.n {
            0 => self,
            _ => self.word(format_args!("{key}={}", shown_ballot(n))),
        }
    }

    /// `range=2-4`: the entries 2 and 3 are asked for.
    fn asked_range(self, range: Option<DecidedRange>) -> Self {
        match range {
            Some(DecidedRange { from_idx, until_idx }) => {
                self.word(format_args!("range={from_idx}-{until_idx}"))
            }
            None => self,
        }
    }

    /// `waits`: the request of an observer waits at the source.
    fn waits(self, waits: bool) -> Self {
        match waits {
            true => self.word("waits"),
            false => self,
        }
    }

    /// `delta`: a delta snapshot is accepted instead of entries.
    fn delta(self, takes_delta: bool) -> Self {
        match takes_delta {
            true => self.word("delta"),
            false => self,
        }
    }

    fn idx(self, key: &str, idx: u64) -> Self {
        match idx {
            0 => self,
            _ => self.word(format_args!("{key}={idx}")),
        }
    }

    fn entries(self, entries: &[Letter], stopsign: Option<&StopSign>) -> Self {
        let mut text: String = entries.iter().map(|letter| letter.0).collect();
        text.extend(stopsign.map(|_| '$'));
        if text.is_empty() {
            return self;
        }
        self.word(format_args!("+{text}"))
    }

    fn ids(self, ids: Option<&EntryIds>) -> Self {
        ids.iter().flat_map(|ids| &ids.runs).fold(self, |shown, run| {
            let (idx, first, count) = (run.idx, shown_id(run.first), run.count);
            shown.word(format_args!("ids={idx}:{first}x{count}"))
        })
    }

    fn id(self, key: &str, id: ProposalId) -> Self {
        self.word(format_args!("{key}={}", shown_id(id)))
    }

    fn sync(self, sync: &LogSync<Letter>) -> Self {
        let LogSync { suffix_idx, suffix, ids, stopsign } = sync;
        let shown = self.word(format_args!("at={suffix_idx}"));
        shown.entries(&suffix.to_vec(), stopsign.as_ref()).ids(ids.as_deref())
    }

    fn read(self, origin: u64, incarnation: u64, number: u64) -> Self {
        self.id("id", ProposalId { origin, incarnation, number })
    }
}

pub(super) fn shown(msg: &PaxosMsg<Letter>) -> String {
    match msg {
        PaxosMsg::PrepareReq(m) => Shown::new("PrepareReq")
            .n(m.n)
            .ballot("na", m.n_accepted)
            .idx("len", m.accepted_idx)
            .idx("dec", m.decided_idx),
        PaxosMsg::Prepare(m) => Shown::new("Prepare")
            .n(m.n)
            .ballot("na", m.n_accepted)
            .idx("len", m.accepted_idx)
            .idx("dec", m.decided_idx)
            .delta(m.takes_delta),
        PaxosMsg::Promise(m) => {
            let shown = Shown::new("Promise").n(m.n).ballot("na", m.n_accepted);
            let shown = shown.idx("len", m.accepted_idx).idx("dec", m.decided_idx);
            let shown = shown.delta(m.takes_delta);
            m.sync.iter().fold(shown, |shown, sync| shown.sync(sync))
        }
        PaxosMsg::AcceptSync(m) => {
            Shown::new("AcceptSync").n(m.n).sync(&m.sync).idx("dec", m.decided_idx)
        }
        PaxosMsg::AcceptDecide(m) => Shown::new("AcceptDecide")
            .n(m.n)
            .word(format_args!("at={}", m.from_idx))
            .entries(&m.entries.plain().map(SharedEntries::to_vec).unwrap_or_default(), None)
            .ids(m.ids.as_deref())
            .idx("dec", m.decided_idx),
        PaxosMsg::AcceptStopSign(m) => Shown::new("AcceptStopSign")
            .n(m.n)
            .word(format_args!("at={}", m.idx))
            .idx("dec", m.decided_idx),
        PaxosMsg::Accepted(m) => {
            let shown = Shown::new("Accepted").n(m.n).idx("len", m.accepted_idx);
            let shown = shown.idx("dec", m.decided_idx);
            if m.gap {
                shown.word("gap")
            } else {
                shown
            }
        }
        PaxosMsg::NotAccepted(m) => Shown::new("NotAccepted").n(m.n),
        PaxosMsg::Decide(m) => Shown::new("Decide").n(m.n).idx("dec", m.decided_idx),
        PaxosMsg::CatchUpRedirect(m) => {
            Shown::new("CatchUpRedirect").n(m.n).idx("source", m.source).idx("dec", m.decided_idx)
        }
        PaxosMsg::CatchUpRequest(m) => Shown::new("CatchUpRequest")
            .idx("dec", m.decided_idx)
            .asked_range(m.range)
            .delta(m.takes_delta)
            .waits(m.waits),
        PaxosMsg::CatchUpChunk(m) => {
            let shown = Shown::new("CatchUpChunk").word(format_args!("at={}", m.from_idx));
            let shown = match &m.snapshot {
                Some(SnapshotType::Complete(Letters(text))) => {
                    shown.word(format_args!("snapshot={text}"))
                }
                Some(SnapshotType::Delta(Letters(text))) => {
                    shown.word(format_args!("delta={text}"))
                }
                None => shown,
            };
            let shown = match &m.piece {
                Some(piece) => shown.word(format_args!("piece={}", piece.encoding.idx)),
                None => shown,
            };
            let shown = shown.entries(&m.entries.to_vec(), m.stopsign.as_ref());
            let shown = shown.ids(m.ids.as_deref()).idx("dec", m.decided_idx);
            m.epoch.iter().fold(shown, |shown, epoch| {
                let id = epoch.configuration.configuration_id;
                shown.word(format_args!("epoch={id}:{}", epoch.first_idx))
            })
        }
        PaxosMsg::ProposalForward(entries) => Shown::new("ProposalForward").entries(entries, None),
        PaxosMsg::ForwardedProposals(m) => Shown::new("ForwardedProposals")
            .id("first", m.first)
            .ballot("ballot", m.first_ballot)
            .idx("min", m.min_idx)
            .entries(&m.entries, None)
            .idx("hops", m.hops.into()),
        PaxosMsg::ProposalRejection(m) => {
            let shown = Shown::new("ProposalRejection").id("first", m.first);
            let shown = shown.idx("count", m.count).idx("hops", m.hops.into());
            match &m.reason {
                RejectionReason::Decided(idx) => shown.word(format_args!("decided={idx}")),
                RejectionReason::DecidedBefore(idx) => shown.word(format_args!("before={idx}")),
                RejectionReason::Unknown(idx) => shown.word(format_args!("unknown={idx}")),
                RejectionReason::Refused(refusal) => shown.ballot("refused", refusal.n),
            }
        }
        PaxosMsg::ForwardStopSign(m) => {
            Shown::new("ForwardStopSign").id("id", m.id).idx("hops", m.hops.into())
        }
        PaxosMsg::Compaction(Compaction { action, .. }) => match action {
            CompactionAction::Trim(idx) => Shown::new("Trim").idx("to", *idx),
            CompactionAction::Snapshot(idx) => Shown::new("Snapshot").idx("to", *idx),
            CompactionAction::Compacted(idx) => Shown::new("Compacted").idx("to", *idx),
            CompactionAction::Applied(report) => {
                Shown::new("Applied").idx("to", report.applied_idx)
            }
        },
        PaxosMsg::ReadIndexRequest(m) => Shown::new("ReadIndexRequest")
            .read(m.origin, m.incarnation, m.number)
            .ballot("n", m.n)
            .idx("hops", m.hops.into()),
        PaxosMsg::ReadIndexResponse(m) => Shown::new("ReadIndexResponse")
            .read(m.origin, m.incarnation, m.number)
            .idx("at", m.read_idx)
            .idx("hops", m.hops.into()),
        PaxosMsg::LeadershipCheck(m) => Shown::new("LeadershipCheck").n(m.n).idx("round", m.round),
        PaxosMsg::LeadershipCheckAck(m) => {
            Shown::new("LeadershipCheckAck").n(m.n).idx("round", m.round)
        }
        PaxosMsg::TransferLeadership(m) => Shown::new("TransferLeadership").n(m.n),
        PaxosMsg::Joining(m) => {
            let shown = Shown::new("Joining").idx("config", m.config_id.into());
            m.decided_idx.iter().fold(shown, |shown, len| shown.word(format_args!("len={len}")))
        }
    }
    .0
}
