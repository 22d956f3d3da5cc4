//! Unit tests of snapshots in pieces, between a source and a receiver.

use super::{
    super::encoded_snapshots::{EncodedSnapshots, UNUSED_AFTER},
    encoding, Accompanying, Amount, Complete, PartialSnapshot, Piece, PieceRequest, SnapshotPiece,
    FORGOTTEN_AFTER, ROUNDS_FOR_WHOLE, STALLED_AFTER,
};
use crate::storage::{ReadSnapshot, SnapshotBytes, StorageResult};
use std::sync::Arc;

const MESSAGE: Amount = Amount { entries: 1, bytes: 10 };
const WINDOW: Amount = Amount { entries: 1, bytes: 40 };

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

/// All pieces of a snapshot of the first `idx` entries.
fn pieces(idx: u64, bytes: Vec<u8>) -> Vec<SnapshotPiece> {
    let mut source = EncodedSnapshots::default();
    let encoding = source.keep(idx, bytes);
    let asks = PieceRequest { encoding, from: 0, until: encoding.len };
    let pieces = source.pieces(asks, MESSAGE, Amount::UNLIMITED).unwrap();
    assert!(pieces.iter().all(|piece| piece.bytes.len() <= 10));
    pieces
}

fn with() -> Accompanying {
    Accompanying { decided_idx: 9, compacted_idx: 9, epoch: None }
}

fn take(partial: &mut PartialSnapshot, piece: &SnapshotPiece, from: u64) -> Option<Vec<u8>> {
    match partial.take(piece.clone(), from, Some(2), (0, None), with()) {
        Piece::Last(Complete { bytes, .. }) => Some(bytes),
        Piece::Ignored | Piece::Added | Piece::Corrupt => None,
    }
}

#[test]
fn what_is_asked_for_in_windows_is_put_together() {
    let whole = bytes(105, 3);
    let mut source = EncodedSnapshots::default();
    let encoding = source.keep(9, whole.clone());
    let mut partial = PartialSnapshot::default();
    let first = PieceRequest { encoding, from: 0, until: 10 };
    let mut on_their_way = source.pieces(first, MESSAGE, WINDOW).unwrap();
    let (mut most, mut requests) = (0, 0);
    let complete = loop {
        let piece = on_their_way.remove(0);
        if let Some(complete) = take(&mut partial, &piece, 2) {
            break complete;
        }
        if partial.is_request_due(WINDOW) {
            let asks = partial.next_request(0, WINDOW).unwrap();
            on_their_way.extend(source.pieces(asks, MESSAGE, WINDOW).unwrap());
            requests += 1;
        }
        most = most.max(on_their_way.iter().map(|piece| piece.bytes.len()).sum());
    };
    assert_eq!(complete, whole);
    assert!(most <= 40 && requests < 8, "{most} in flight, {requests} requests");
    assert_eq!(partial.kept(), 0);
}

#[test]
fn another_source_is_asked_for_what_the_first_one_did_not_send() {
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces(9, bytes(105, 3))[0], 2);
    let mut asked = |source| {
        partial.turn_to(source);
        let asks = partial.next_request(0, WINDOW).unwrap();
        (asks.from, asks.until)
    };
    assert_eq!(asked(2), (10, 50));
    assert_eq!(asked(2), (50, 51), "the same source may still send the rest");
    assert_eq!(asked(3), (10, 50));
}

#[test]
fn a_source_with_a_smaller_window_is_asked_again_at_once() {
    let whole = bytes(105, 3);
    let mut source = EncodedSnapshots::default();
    let encoding = source.keep(9, whole.clone());
    let mut partial = PartialSnapshot::default();
    let first = PieceRequest { encoding, from: 0, until: 10 };
    let of_source = Amount { entries: 1, bytes: 20 };
    let (mut on_their_way, mut sent) = (source.pieces(first, MESSAGE, of_source).unwrap(), 1);
    let complete = loop {
        let piece = on_their_way.remove(0);
        if let Some(complete) = take(&mut partial, &piece, 2) {
            break complete;
        }
        if partial.is_request_due(Amount::UNLIMITED) {
            let asks = partial.next_request(0, Amount::UNLIMITED).unwrap();
            on_their_way.extend(source.pieces(asks, MESSAGE, of_source).unwrap());
            sent += on_their_way.len();
        }
    };
    assert_eq!((complete, sent), (whole, 11), "each piece is sent once");
}

#[test]
fn pieces_in_any_order_with_copies_are_put_together() {
    let whole = bytes(95, 1);
    let pieces = pieces(9, whole.clone());
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[0], 2);
    partial.next_request(0, Amount::UNLIMITED).unwrap();
    for piece in pieces[1..].iter().rev().chain(&pieces[..9]).skip(1) {
        assert!(take(&mut partial, piece, 2).is_none(), "the last one is lost");
    }
    assert_eq!(partial.kept(), 90);
    assert_eq!(take(&mut partial, &pieces[9], 2), Some(whole));
}

#[test]
fn pieces_of_two_encodings_never_mix() {
    let (ours, theirs) = (pieces(9, bytes(95, 1)), pieces(9, bytes(95, 2)));
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &ours[0], 2);
    take(&mut partial, &theirs[1], 2);
    take(&mut partial, &theirs[0], 3);
    assert_eq!(partial.kept(), 10, "3 is not asked, and the others begin in the middle");
    take(&mut partial, &theirs[0], 2);
    for piece in &ours {
        assert!(take(&mut partial, piece, 3).is_none());
    }
    partial.next_request(0, Amount::UNLIMITED).unwrap();
    let complete = theirs.iter().find_map(|piece| take(&mut partial, piece, 2));
    assert_eq!(complete, Some(bytes(95, 2)));
}

#[test]
fn a_lie_about_the_length_allocates_nothing() {
    let mut lie = pieces(9, bytes(95, 1)).remove(0);
    lie.encoding.len = u64::MAX;
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &lie, 2);
    assert_eq!(partial.kept(), 10);
    assert!(partial.partial.as_ref().unwrap().bytes.capacity() <= 16);
    let far = SnapshotPiece { offset: 1 << 40, ..lie };
    take(&mut partial, &far, 2);
    assert_eq!(partial.kept(), 10, "it was not asked for");
}

#[test]
fn pieces_that_were_not_asked_for_are_ignored() {
    let pieces = pieces(9, bytes(95, 1));
    let mut partial = PartialSnapshot::default();
    pieces.iter().for_each(|piece| drop(take(&mut partial, piece, 2)));
    assert_eq!(partial.kept(), 10, "only the first piece may come unasked");
    partial.next_request(0, WINDOW).unwrap();
    pieces.iter().for_each(|piece| drop(take(&mut partial, piece, 2)));
    assert_eq!(partial.kept(), 50);
}

#[test]
fn a_snapshot_that_is_too_large_counts_once_a_round() {
    let mut partial = PartialSnapshot::default();
    for round in 1..3 {
        assert!(partial.note_oversized(2) && partial.note_oversized(3));
        assert!(!partial.note_oversized(2) && partial.is_oversized_at(3));
        assert_eq!(partial.oversized(), 2 * round);
        partial.end_round(0);
        assert!(!partial.is_oversized_at(3));
    }
}

#[test]
fn pieces_that_overlap_take_no_more_than_was_asked_for() {
    let first = pieces(9, bytes(95, 1)).remove(0);
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &first, 2);
    let asked = partial.next_request(0, WINDOW).unwrap();
    for offset in asked.from + 1..asked.until {
        let piece = SnapshotPiece { offset, ..first.clone() };
        take(&mut partial, &piece, 2);
    }
    assert!(partial.kept() <= asked.until, "{} bytes of {asked:?}", partial.kept());
}

#[test]
fn bytes_with_another_digest_are_corrupt() {
    let mut pieces = pieces(9, bytes(15, 1));
    pieces[1].bytes[0] ^= 1;
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[0], 2);
    partial.next_request(0, WINDOW).unwrap();
    let outcome = partial.take(pieces.remove(1), 2, Some(2), (0, None), with());
    assert!(matches!(outcome, Piece::Corrupt), "{outcome:?}");
    assert_eq!(partial.kept(), 0);
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let mut source = EncodedSnapshots::default();
    let encoding = source.keep(9, bytes(95, 1));
    let asks = PieceRequest { encoding, from: 90, until: 95 };
    for _ in 0..FORGOTTEN_AFTER {
        source.end_round();
    }
    assert_eq!(source.pieces(asks, MESSAGE, WINDOW).unwrap().len(), 1);
    assert_eq!((source.after(8), source.after(9)), (Some(encoding), None));
    for _ in 0..=FORGOTTEN_AFTER {
        source.end_round();
    }
    assert!(source.pieces(asks, MESSAGE, WINDOW).unwrap().is_empty());
    assert_eq!(encoding.digest, encoding::digest(&bytes(95, 1)));
}

#[test]
fn the_earliest_snapshot_that_a_server_asks_for_is_kept() {
    let mut source = EncodedSnapshots::default();
    let encodings: Vec<_> = (1..=3).map(|idx| source.keep(idx, bytes(95, idx as u8))).collect();
    let is_kept = |source: &mut EncodedSnapshots| {
        let asks = encodings.iter().map(|encoding| PieceRequest {
            encoding: *encoding,
            from: 0,
            until: 1,
        });
        asks.map(|asks| !source.clone().pieces(asks, MESSAGE, WINDOW).unwrap().is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(is_kept(&mut source), [true, false, true]);
    assert_eq!(source.kept(), 2 * 95);
    assert_eq!((source.after(0), source.after(2)), (Some(encodings[2]), Some(encodings[2])));
    // The server that wanted the first one asks no more.
    for _ in 0..UNUSED_AFTER {
        source.end_round();
        let asks = PieceRequest { encoding: encodings[2], from: 0, until: 1 };
        source.pieces(asks, MESSAGE, WINDOW).unwrap();
    }
    source.keep(2, bytes(95, 2));
    assert_eq!(is_kept(&mut source), [false, true, true]);
    // The same bytes once more.
    source.keep(2, bytes(95, 2));
    assert_eq!(is_kept(&mut source), [false, true, true]);
}

#[test]
fn after_snapshots_that_cannot_be_decoded_a_whole_one_is_taken_for_a_while() {
    let mut partial = PartialSnapshot::default();
    partial.note_decoded(false);
    assert_eq!(partial.takes_pieces(), encoding::IS_SUPPORTED);
    for in_a_row in 2..4 {
        partial.note_decoded(false);
        for _ in 0..in_a_row * ROUNDS_FOR_WHOLE {
            assert!(!partial.takes_pieces());
            partial.end_round(0);
        }
        assert_eq!(partial.takes_pieces(), encoding::IS_SUPPORTED);
    }
    partial.note_decoded(true);
    partial.note_decoded(false);
    assert_eq!((partial.takes_pieces(), partial.undecodable()), (encoding::IS_SUPPORTED, 4));
}

#[test]
fn a_snapshot_arrives_until_its_source_is_silent() {
    let pieces = pieces(9, bytes(95, 1));
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[1], 2);
    assert!(!partial.is_arriving(), "it begins with the first piece");
    take(&mut partial, &pieces[0], 2);
    for rounds in 0..=FORGOTTEN_AFTER {
        assert_eq!(partial.is_arriving(), rounds < STALLED_AFTER);
        assert_eq!(partial.kept(), 10, "after {rounds} rounds");
        partial.end_round(8);
    }
    assert_eq!(partial.kept(), 0);
    take(&mut partial, &pieces[0], 2);
    partial.end_round(9);
    assert_eq!(partial.kept(), 0, "all of it is decided");
    take(&mut partial, &pieces[0], 2);
    partial.clear();
    assert!(!partial.is_arriving() && partial.kept() == 0);
}

#[test]
fn pieces_that_were_asked_for_wait_for_those_before() {
    let whole = bytes(45, 1);
    let pieces = pieces(9, whole.clone());
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[0], 2);
    assert!(partial.is_request_due(WINDOW));
    partial.next_request(0, Amount { entries: 1, bytes: 30 }).unwrap();
    for (piece, kept) in [(2, 20), (2, 20), (4, 20), (3, 30), (1, 40)] {
        take(&mut partial, &pieces[piece], 2);
        assert_eq!(partial.kept(), kept, "piece {piece}");
    }
    partial.next_request(0, WINDOW).unwrap();
    assert_eq!(take(&mut partial, &pieces[4], 2), Some(whole));
}

#[test]
fn early_pieces_beyond_a_gap_stay() {
    let whole = bytes(45, 1);
    let pieces = pieces(9, whole.clone());
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[0], 2);
    partial.next_request(0, WINDOW).unwrap();
    for piece in [3, 1, 2] {
        assert_eq!(take(&mut partial, &pieces[piece], 2), None);
    }
    assert_eq!(take(&mut partial, &pieces[4], 2), Some(whole));
}

#[test]
fn more_is_asked_for_when_half_a_window_is_left() {
    let pieces = pieces(9, bytes(95, 1));
    let mut partial = PartialSnapshot::default();
    take(&mut partial, &pieces[0], 2);
    partial.next_request(0, WINDOW).unwrap();
    let mut due = vec![partial.is_request_due(WINDOW)];
    for piece in &pieces[1..5] {
        take(&mut partial, piece, 2);
        due.push(partial.is_request_due(WINDOW));
    }
    assert_eq!(due, [false, false, true, true, true]);
}

#[test]
fn the_ids_are_those_of_the_last_piece() {
    let pieces = pieces(9, bytes(25, 1));
    let mut partial = PartialSnapshot::default();
    let mut last = None;
    for (piece, base) in pieces.iter().zip(1..) {
        partial.next_request(0, Amount::UNLIMITED);
        let taken = partial.take(piece.clone(), 2, Some(2), (base, None), with());
        if let Piece::Last(complete) = taken {
            last = Some(complete.base);
        }
    }
    assert_eq!(last, Some(3));
}

/// A server that passes on to its storage what arrives.
struct Storing {
    partial: PartialSnapshot,
    passed: Vec<u8>,
}

impl Storing {
    fn of(first: &SnapshotPiece) -> Self {
        let mut partial = PartialSnapshot::default();
        take(&mut partial, first, 2);
        assert!(partial.is_storing() && !partial.drop_unwanted());
        assert_eq!(partial.undecided(), Some(first.encoding.len));
        partial.decide_place(true);
        Self { partial, passed: Vec::new() }
    }

    /// An output, after which the storage has written this number of bytes.
    fn output(&mut self, written: u64) {
        assert!(!self.partial.drop_unwanted() && self.partial.undecided().is_none());
        self.passed.extend(self.partial.take_part().unwrap());
        self.partial.note_written(written);
    }
}

#[test]
fn the_storage_gets_all_bytes_in_order() {
    let whole = bytes(95, 1);
    let pieces = pieces(9, whole.clone());
    let mut storing = Storing::of(&pieces[0]);
    storing.partial.next_request(0, Amount::UNLIMITED).unwrap();
    for at in [2, 1, 1, 4, 3, 5, 6, 8, 9] {
        assert_eq!(take(&mut storing.partial, &pieces[at], 2), None);
        storing.output(0);
        assert!(storing.partial.take_complete().is_none());
    }
    assert_eq!(storing.partial.kept(), 95 - 10);
    assert_eq!(take(&mut storing.partial, &pieces[7], 2), None);
    storing.output(60);
    assert_eq!((&storing.passed, storing.partial.kept()), (&whole, 35));
    let complete = storing.partial.take_complete().unwrap();
    assert_eq!((complete.source, complete.idx, complete.bytes), (2, 9, Vec::new()));
    storing.partial.note_installed();
    storing.partial.note_stored();
    assert!(!storing.partial.is_storing() && !storing.partial.drop_unwanted());
}

#[test]
fn a_slow_storage_is_not_overtaken() {
    let pieces = pieces(9, bytes(995, 1));
    let mut storing = Storing::of(&pieces[0]);
    let asked = storing.partial.next_request(0, WINDOW).unwrap();
    assert_eq!((asked.from, asked.until), (10, 40));
    assert_eq!(storing.partial.note_written(0), None, "no progress");
    pieces[1..4].iter().for_each(|piece| drop(take(&mut storing.partial, piece, 2)));
    storing.output(10);
    assert!(!storing.partial.is_request_due(WINDOW), "30 bytes are not written");
    assert_eq!(storing.partial.note_written(10), None, "as before");
    assert_eq!(storing.partial.note_written(12), Some(2), "the source may be asked again");
    for (written, until) in [(20, 60), (40, 80)] {
        storing.output(written);
        assert!(storing.partial.is_request_due(WINDOW), "{written}");
        let asked = storing.partial.next_request(0, WINDOW).unwrap();
        assert_eq!(asked.until, until);
    }
    // What was asked for is lost, and the storage still writes.
    storing.partial.rewind();
    assert_eq!(storing.partial.next_request(0, WINDOW).unwrap().from, 40);
    for _ in 0..FORGOTTEN_AFTER {
        storing.output(1000);
        storing.partial.end_round(0);
    }
    assert!(!storing.partial.is_arriving() && !storing.partial.drop_unwanted());
    storing.partial.end_round(0);
    assert!(storing.partial.is_storing() && storing.partial.drop_unwanted());
    storing.partial.note_stored();
    assert!(!storing.partial.is_storing() && !storing.partial.drop_unwanted());
}

#[test]
fn a_complete_snapshot_waits_for_the_storage() {
    let (ours, theirs) = (pieces(9, bytes(15, 1)), pieces(12, bytes(15, 2)));
    let mut storing = Storing::of(&ours[0]);
    storing.partial.next_request(0, WINDOW).unwrap();
    take(&mut storing.partial, &ours[1], 2);
    for _ in 0..3 * FORGOTTEN_AFTER {
        storing.output(0);
        storing.partial.end_round(8);
        assert!(storing.partial.is_arriving() && !storing.partial.is_request_due(WINDOW));
        assert!(storing.partial.next_request(8, WINDOW).is_none());
        assert!(take(&mut storing.partial, &theirs[0], 2).is_none());
    }
    storing.partial.end_round(9);
    assert!(storing.partial.drop_unwanted(), "all of it is decided");
    assert!(storing.partial.take_complete().is_none());
}

#[test]
fn another_snapshot_takes_the_place_in_the_storage() {
    let (ours, theirs) = (pieces(9, bytes(95, 1)), pieces(12, bytes(95, 2)));
    let mut storing = Storing::of(&ours[0]);
    storing.output(10);
    take(&mut storing.partial, &theirs[0], 2);
    assert!(storing.partial.drop_unwanted());
    assert_eq!(storing.partial.undecided(), Some(95));
    storing.partial.decide_place(true);
    assert_eq!(storing.partial.take_part().as_deref(), Some(&bytes(95, 2)[..10]));
    assert_eq!(storing.partial.take_undecodable(), Some(2));
    storing.partial.note_stored();
    assert!(!storing.partial.is_storing() && storing.partial.take_part().is_none());
}

#[test]
fn corrupt_bytes_are_dropped_in_the_storage() {
    let mut pieces = pieces(9, bytes(15, 1));
    pieces[1].bytes[0] ^= 1;
    let mut storing = Storing::of(&pieces[0]);
    storing.partial.next_request(0, WINDOW).unwrap();
    storing.output(10);
    let outcome = storing.partial.take(pieces.remove(1), 2, Some(2), (0, None), with());
    assert!(matches!(outcome, Piece::Corrupt), "{outcome:?}");
    assert!(storing.partial.drop_unwanted() && storing.partial.take_part().is_none());
}

#[test]
fn bytes_of_a_storage_are_read_when_they_are_asked_for() {
    #[derive(Debug)]
    struct Reader(Vec<u8>);
    impl ReadSnapshot for Reader {
        fn read(&self, offset: u64, len: usize) -> StorageResult<Vec<u8>> {
            match offset {
                90.. => Err("it is damaged".into()),
                _ => Ok(self.0[offset as usize..][..len].to_vec()),
            }
        }
    }
    let whole = bytes(95, 1);
    let digest = encoding::digest(&whole);
    let mut source = EncodedSnapshots::default();
    let stored = SnapshotBytes::new(9, 95, digest, Arc::new(Reader(whole.clone())));
    let encoding = source.keep_stored(stored);
    assert_eq!(pieces(9, whole)[0].encoding, encoding);
    assert_eq!(source.kept(), 0);
    let asks = |from, until| PieceRequest { encoding, from, until };
    let read = source.pieces(asks(0, 60), MESSAGE, WINDOW).unwrap();
    assert_eq!(
        read,
        pieces(9, bytes(95, 1))[..4].iter().cloned().map(cut_at_40).collect::<Vec<_>>()
    );
    assert!(source.pieces(asks(90, 95), MESSAGE, WINDOW).is_err(), "it is damaged");
    let narrow = Amount { entries: 1, bytes: 35 };
    let read = source.pieces(asks(20, 80), MESSAGE, narrow).unwrap();
    let found: Vec<_> = read.iter().map(|piece| (piece.bytes.len(), piece.is_cut)).collect();
    assert_eq!(found, [(10, false), (10, false), (10, false), (5, true)]);
}

fn cut_at_40(piece: SnapshotPiece) -> SnapshotPiece {
    SnapshotPiece { is_cut: piece.end() == Some(40), ..piece }
}
