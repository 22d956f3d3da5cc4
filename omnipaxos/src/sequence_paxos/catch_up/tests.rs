//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`.

use crate::{entry::encoding, sequence_paxos::tests::Table, OmniPaxosConfig};

#[test]
fn requests() {
    let table = Table::with(|config| config.server_config.max_message_entries = 2);
    table.check(
        "
        # Any server answers with what it has decided, and only with that.
        following 4.2 ABCd     | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=1 +bc dec=3
                               | 3: CatchUpRequest dec=3 | same |
                               | 3: CatchUpRequest dec=9 | same |
        recovering 4.2 3.3 ABc | 3: CatchUpRequest | same | 3: CatchUpChunk at=0 +ab dec=2
        leading 4.1 ABC 2:3/3  | 3: CatchUpRequest dec=2 | same | 3: CatchUpChunk at=2 +c dec=3
        # As much as fits, and how much there is.
        following 4.2 ABCDe    | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=1 +bc dec=4
        # The stop sign with the last entries.
        following 4.2 ABC!     | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=1 +bc$ dec=4
                               | 3: CatchUpRequest | same | 3: CatchUpChunk at=0 +ab dec=4
                               | 3: CatchUpRequest dec=3 | same | 3: CatchUpChunk at=3 +$ dec=4
        following 4.2 ABC$     | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=1 +bc dec=3
        # The snapshot where entries are gone. After a trim every server has them.
        following 4.2 **Cd     | 3: CatchUpRequest dec=1 | same
                               | 3: CatchUpChunk at=2 snapshot=** +c dec=3
                               | 3: CatchUpRequest dec=2 | same | 3: CatchUpChunk at=2 +c dec=3
        following 4.2 __Cd     | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=2 +c dec=3
        # A copy of the request, in one output.
                               | 3: CatchUpRequest dec=2; 3: CatchUpRequest dec=2 | same
                               | 3: CatchUpChunk at=2 +c dec=3
        # An output answers four requests of a server.
        following 4.2 ABCDE    | 3: CatchUpRequest dec=1; 3: CatchUpRequest range=0-1
                               ; 3: CatchUpRequest range=1-2; 3: CatchUpRequest range=2-3
                               ; 3: CatchUpRequest range=3-4 | same
                               | 3: CatchUpChunk at=1 +bc dec=5; 3: CatchUpChunk at=0 +a dec=5
                               ; 3: CatchUpChunk at=1 +b dec=5; 3: CatchUpChunk at=2 +c dec=5
        ",
    );
}

#[test]
fn chunks() {
    Table::new().check(
        "
        # A chunk replaces what lies between the decided index and its end. The log beyond stays.
        following 4.2 ABcd     | 3: CatchUpChunk at=2 +e dec=3 | following 4.2 ABEd
                               | 2: Accepted 4.2 len=4 dec=3
                               | 3: CatchUpChunk at=2 +cdef dec=6 | following 4.2 ABCDEF
                               | 2: Accepted 4.2 len=6 dec=6
                               | 3: CatchUpChunk at=0 +abc dec=3 | following 4.2 ABCd
                               | 2: Accepted 4.2 len=4 dec=3
        # There is more.
                               | 3: CatchUpChunk at=2 +c dec=9 | following 4.2 ABCd
                               | 2: Accepted 4.2 len=4 dec=3; 3: CatchUpRequest dec=3 range=3-9
        # Nothing new: a copy is not answered.
                               | 3: CatchUpChunk at=0 +ab dec=9 | same |
        # Beyond the log.
                               | 3: CatchUpChunk at=5 +f dec=6 | same |
        # After a trim, which proves that the entries before are here and are those of all.
                               | 3: CatchUpChunk at=3 +e dec=4 | following 4.2 ABCE
                               | 2: Accepted 4.2 len=4 dec=4
        # A snapshot: the log beyond stays if it reaches that far.
                               | 3: CatchUpChunk at=3 snapshot=abc dec=3 | following 4.2 ***d
                               | 2: Accepted 4.2 len=4 dec=3
                               | 3: CatchUpChunk at=6 snapshot=abcdef +g dec=7
                               | following 4.2 ******G
                               | 2: Accepted 4.2 len=7 dec=7
        # A snapshot of entries that are decided here is not needed.
                               | 3: CatchUpChunk at=2 snapshot=ab +c dec=3 | following 4.2 ABCd
                               | 2: Accepted 4.2 len=4 dec=3
        # The stop sign: nothing comes after it (I9). An undecided one beyond the chunk stays.
                               | 3: CatchUpChunk at=2 +c$ dec=4 | following 4.2 ABC!
                               | 2: Accepted 4.2 len=4 dec=4
        following 4.2 ABcd$    | 3: CatchUpChunk at=2 +c dec=3 | following 4.2 ABCd$
                               | 2: Accepted 4.2 len=5 dec=3
                               | 3: CatchUpChunk at=2 +cde dec=5 | following 4.2 ABCDE
                               | 2: Accepted 4.2 len=5 dec=5
                               | 3: CatchUpChunk at=2 +ef dec=4 | following 4.2 ABEF$
                               | 2: Accepted 4.2 len=5 dec=4
        following 4.2 ABC!     | 3: CatchUpChunk at=2 +c$ dec=4 | same |
        # The ids beyond a chunk stay.
        following 4.2 ABc
            | 2: AcceptDecide 4.2 at=3 +d ids=3:3/5/0x1 dec=2; output; 3: CatchUpChunk at=2 +f dec=3
            ; output; 2: Decide 4.2 dec=4; 3: CatchUpRequest dec=3
            | following 4.2 ABFD | 3: CatchUpChunk at=3 +d ids=3:3/5/0x1 dec=4
            | 2: AcceptDecide 4.2 at=3 +de ids=3:3/5/0x2 dec=2; output; 3: CatchUpChunk at=2 +f dec=3
            ; output; 2: Decide 4.2 dec=5; 3: CatchUpRequest dec=3
            | following 4.2 ABFDE | 3: CatchUpChunk at=3 +de ids=3:3/5/0x2 dec=5
        ",
    );
}

#[test]
fn chunks_in_each_state() {
    Table::new().check(
        "
        # The promise is repeated: the leader learns what is decided. The accepted round stays.
        promised 4.2 3.3 ABc   | 3: CatchUpChunk at=2 +d dec=3 | promised 4.2 3.3 ABD
                               | 2: Promise 4.2 na=3.3 len=3 dec=3
        recovering 4.2 3.3 ABc | 3: CatchUpChunk at=2 +d dec=3 | recovering 4.2 3.3 ABD |
        recovering 0 0 -       | 3: CatchUpChunk at=0 +ab dec=2 | recovering 0 0 AB |
        preparing 4.1 3.3 ABc  | 3: CatchUpChunk at=2 +d dec=3 | preparing 4.1 3.3 ABD
                               | 3: Prepare 4.1 na=3.3 len=3 dec=3
        # A leader that reaches a quorum ignores it. Without one it resigns: its log
        # changed in its ballot.
        leading 4.1 ABc 2:sync | 3: CatchUpChunk at=2 +d dec=3 | same |
                               | round lost; output; 3: CatchUpChunk at=2 +d dec=3
            | recovering 4.1 4.1 ABD
            | 2: PrepareReq 4.1 na=4.1 len=3 dec=3; 3: PrepareReq 4.1 na=4.1 len=3 dec=3
            ; election: Resigned
            | round lost; output; 3: CatchUpChunk at=0 +ab dec=2 | same |
        ",
    );
}

#[test]
fn what_a_leader_appended_that_resigns() {
    let table = Table::with(|config| config.server_config.keeps_undecided_appends = true);
    table.check(
        "
        # With this setting it is kept as a proposal of this server, once the chunk changes the log.
        leading 4.1 ABC 2:3/3 | append d; output; round lost; output; 3: CatchUpChunk at=3 +e dec=4
            | recovering 4.1 4.1 ABCE pending=1
            | 2: PrepareReq 4.1 na=4.1 len=4 dec=4; 3: PrepareReq 4.1 na=4.1 len=4 dec=4
            ; election: Resigned
            | append d; output; round lost; output; 3: CatchUpChunk at=2 +c dec=3
            | leading 4.1 ABCd 2:3/3 |
        ",
    );
}

#[test]
fn a_chunk_above_a_gap_without_room_for_it() {
    let table = Table::with(|config| config.server_config.max_in_flight_bytes = 1);
    table.check(
        "
        following 4.2 ABc
            | 3: CatchUpChunk at=2 +c dec=9 | following 4.2 ABC
            | 2: Accepted 4.2 len=3 dec=3; 3: CatchUpRequest dec=3 range=3-9
        # One that comes all the same is not requested before the gap is filled: each copy of it would cause another request.
            | 3: CatchUpChunk at=2 +c dec=9; output; 3: CatchUpChunk base=4 at=4 +e dec=9
            | following 4.2 ABC |
            | 3: CatchUpChunk at=2 +c dec=9; output; 3: CatchUpChunk base=4 at=4 +e dec=9; output
            ; 3: CatchUpChunk base=3 at=3 +d dec=9
            | following 4.2 ABCD
            | 2: Accepted 4.2 len=4 dec=4; 3: CatchUpRequest dec=4 range=4-9
        ",
    );
}

#[test]
fn whom_a_server_asks() {
    Table::new().check(
        "
        # Unhappy with its leader it asks the peers that answer in turn, one a round.
        following 4.2 ABc    | round lost | same | 3: CatchUpRequest dec=2
                             | round lost; output; round lost | same | 2: CatchUpRequest dec=2
                             | round 3 lost; output; round 3 lost | same | 3: CatchUpRequest dec=2
                             | round | same |
        # A source is asked again after two rounds, and given up after four.
        promised 4.2 3.3 ABc
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; round; output; round | same
            | 3: CatchUpRequest dec=2
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; round; round; output; round; round
            | same |
            | 2: CatchUpRedirect 4.2 source=3 dec=9; round; round; round; round; output; round
            ; round
            | same |
        # A source that sends entries gets the next request.
            | 2: CatchUpRedirect 4.2 source=3 dec=9; round; output; 3: CatchUpChunk at=2 +c dec=9
            | promised 4.2 3.3 ABC | 3: CatchUpRequest dec=3 range=3-9
        # It has compacted what follows, and no other server can be asked: it sends what it has instead.
        following 4.2 ABc
            | round 3 lost; output; 3: CatchUpChunk at=2 +c dec=9 gone=5 | following 4.2 ABC
            | 2: Accepted 4.2 len=3 dec=3; 3: CatchUpRequest dec=3
        # The leader, if the source does not answer here.
        promised 4.2 3.3 ABc
            | round 2; 2: CatchUpRedirect 4.2 source=3 dec=9 | same | 2: CatchUpRequest dec=2
        ",
    );
}

#[test]
fn a_server_that_catches_up_faster_than_its_leader_syncs_it() {
    Table::new().check(
        "
        # An AcceptSync ends before what is decided here: no chunks for two rounds.
        promised 4.2 3.3 ABC
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; 3: CatchUpChunk at=3 +d dec=9 | same |
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; round; 3: CatchUpChunk at=3 +d dec=9 | same |
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; round; round; 3: CatchUpChunk at=3 +d dec=4
            | promised 4.2 3.3 ABCD | 2: Promise 4.2 na=3.3 len=4 dec=4 at=3 +d
        # Not for one without entries: the leader has a shorter log than was promised to it.
            | 2: AcceptSync 4.2 at=1 dec=9; output; 3: CatchUpChunk at=3 +d dec=4
            | promised 4.2 3.3 ABCD | 2: Promise 4.2 na=3.3 len=4 dec=4 at=3 +d
        # A redirect ends the pause: it is the leader that asks for it.
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; 2: CatchUpRedirect 4.2 source=3 dec=9; output
            ; 3: CatchUpChunk at=3 +d dec=4 | promised 4.2 3.3 ABCD
                                            | 2: Promise 4.2 na=3.3 len=4 dec=4 at=3 +d
        # Each catching up begins the pause again, unless the leader is gone: then no AcceptSync comes.
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; round; round; 3: CatchUpChunk at=3 +d dec=4; output
            ; 3: CatchUpChunk at=4 +e dec=5 | promised 4.2 3.3 ABCD |
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; round lost; round lost; 3: CatchUpChunk at=3 +d dec=4
            ; output; 3: CatchUpChunk at=4 +e dec=5 | promised 4.2 3.3 ABCDE
            | 2: Promise 4.2 na=3.3 len=5 dec=5 at=3 +de
        # So does another ballot.
            | 2: AcceptSync 4.2 at=1 +b dec=9; output; 3: Prepare 5.3 na=3.3 len=3 dec=3; output
            ; 3: CatchUpChunk at=3 +d dec=4 | promised 5.3 3.3 ABCD
                                            | 3: Promise 5.3 na=3.3 len=4 dec=4 at=3 +d
        ",
    );
}

#[test]
fn requests_for_ranges() {
    Table::new().check(
        "
        # What is decided and not compacted here, of what was asked for. The sender learns how much is.
        following 4.2 __CDEf | 3: CatchUpRequest range=2-4 | same | 3: CatchUpChunk at=2 +cd dec=5
                             | 3: CatchUpRequest range=3-4 | same | 3: CatchUpChunk at=3 +d dec=5
                             | 3: CatchUpRequest range=4-9 | same | 3: CatchUpChunk at=4 +e dec=5
                             | 3: CatchUpRequest range=1-4 | same | 3: CatchUpChunk at=1 dec=5
                             | 3: CatchUpRequest range=5-6 | same | 3: CatchUpChunk at=5 dec=5
                             | 3: CatchUpRequest range=7-9 | same | 3: CatchUpChunk at=5 dec=5
        # The stop sign is the entry after the others.
        following 4.2 ABC!   | 3: CatchUpRequest range=1-2 | same | 3: CatchUpChunk at=1 +b dec=4
                             | 3: CatchUpRequest range=1-3 | same | 3: CatchUpChunk at=1 +bc dec=4
                             | 3: CatchUpRequest range=1-4 | same | 3: CatchUpChunk at=1 +bc$ dec=4
                             | 3: CatchUpRequest range=3-4 | same | 3: CatchUpChunk at=3 +$ dec=4
        # Ids travel with the entries.
        following 4.2 ABC    | 2: AcceptDecide 4.2 at=3 +de ids=3:3/5/0x2 dec=5; output
            ; 3: CatchUpRequest range=3-5 | following 4.2 ABCDE
            | 3: CatchUpChunk at=3 +de ids=3:3/5/0x2 dec=5
            | 2: AcceptDecide 4.2 at=3 +de ids=3:3/5/0x2 dec=5; output; 3: CatchUpRequest range=4-5
            | following 4.2 ABCDE | 3: CatchUpChunk at=4 +e ids=4:3/5/1x1 dec=5
            | 2: AcceptDecide 4.2 at=3 +de ids=3:3/5/0x2 dec=5; output; 3: CatchUpRequest dec=1
            | following 4.2 ABCDE | 3: CatchUpChunk at=1 +bcde ids=3:3/5/0x2 dec=5
        ",
    );
}

#[test]
fn deltas_from_here() {
    Table::new().check(
        "
        # Eight decided entries or more travel as one snapshot, if the receiver accepts that.
        following 4.2 ABCDEFGHIj
            | 3: CatchUpRequest dec=1 delta | same | 3: CatchUpChunk at=9 delta=bcdefghi dec=9
            | 3: CatchUpRequest dec=2 delta | same | 3: CatchUpChunk at=2 +cdefghi dec=9
            | 3: CatchUpRequest dec=1 | same | 3: CatchUpChunk at=1 +bcdefghi dec=9
        # A snapshot that cannot be stored here does not travel.
        following 4.2 AZCDEFGHIj
            | 3: CatchUpRequest dec=1 delta | same | 3: CatchUpChunk at=1 +zcdefghi dec=9
        following 4.2 *BCDEFGHIj
            | 3: CatchUpRequest delta | same | 3: CatchUpChunk at=1 snapshot=* +bcdefghi dec=9
        # A follower that lacks as many is to catch up first.
        leading 4.1 ABCDEFGHIj 2:9/9
            | 3: Promise 4.1 len=1 dec=1 delta | leading 4.1 ABCDEFGHIj 2:9/9 3:redirected
            | 3: CatchUpRedirect 4.1 source=2 dec=9
            | 3: Promise 4.1 len=2 dec=2 delta | leading 4.1 ABCDEFGHIj 2:9/9 3:sync
            | 3: AcceptSync 4.1 at=2 +cdefghij dec=9
            | 3: Promise 4.1 len=1 dec=1 | leading 4.1 ABCDEFGHIj 2:9/9 3:sync
            | 3: AcceptSync 4.1 at=1 +bcdefghij dec=9
        ",
    );
}

#[test]
fn deltas_to_this_server() {
    let table = Table::with(|config| config.server_config.takes_delta_snapshots = true);
    table.check(
        "
        # It is merged with what is decided here, and only there.
        following 4.2 ABCd
            | 3: CatchUpChunk base=3 at=6 delta=def +g dec=7 | following 4.2 ******G
            | 2: Accepted 4.2 len=7 dec=7
            | 3: CatchUpChunk base=2 at=6 delta=cdef +g dec=7 | same |
            | 3: CatchUpChunk base=2 at=3 delta=c +d dec=4 | following 4.2 ABCD
            | 2: Accepted 4.2 len=4 dec=4
            | watch; 3: CatchUpChunk base=3 at=6 delta=def dec=6 | following 4.2 ******
            | wrote snapshot abcdef, trim 4, compacted 6, decided 6; 2: Accepted 4.2 len=6 dec=6
        following 4.2 **Cd
            | watch; 3: CatchUpChunk base=3 at=6 delta=def dec=6 | following 4.2 ******
            | wrote snapshot **cdef, trim 2, compacted 6, decided 6; 2: Accepted 4.2 len=6 dec=6
        # A sum that cannot be stored: from then on entries are asked for.
        following 4.2 ABCd
            | 3: CatchUpChunk base=3 at=6 delta=dez dec=6; round lost | same | 3: CatchUpRequest dec=3
        # The sender of what came is asked for more: the server that was asked before may be silent.
        promised 4.2 3.3 ABc
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; 2: CatchUpChunk base=2 at=2 +c dec=9
            | promised 4.2 3.3 ABC | 2: CatchUpRequest dec=3 delta
        # Nothing stands for what was trimmed.
        following 4.2 __Cd
            | 3: CatchUpChunk base=3 at=6 delta=def dec=6 | same |
        # It is asked for, where it can be merged. A promise asks for one once: otherwise the log would never
        # be synchronised while entries are decided.
        following 4.2 ABc      | round lost | same | 3: CatchUpRequest dec=2 delta
                               | 3: Prepare 5.3 na=4.2 len=3 dec=2 | promised 5.3 4.2 ABc
                               | 3: Promise 5.3 na=4.2 len=3 dec=2 delta
                               | 3: Prepare 5.3 na=4.2 len=3 dec=2; output; 2: CatchUpChunk at=2 +c dec=3
                               | promised 5.3 4.2 ABC | 3: Promise 5.3 na=4.2 len=3 dec=3
        following 4.2 __c      | 2: Compacted to=2; 3: Compacted to=2; round lost | same
                               | 3: CatchUpRequest dec=2
                               | 3: Prepare 5.3 na=4.2 len=3 dec=2 | promised 5.3 4.2 __c
                               | 3: Promise 5.3 na=4.2 len=3 dec=2
        following 4.2 ABc      | elected 5.1 | preparing 5.1 4.2 ABc
                               | 2: Prepare 5.1 na=4.2 len=3 dec=2 delta
                               ; 3: Prepare 5.1 na=4.2 len=3 dec=2 delta
        ",
    );
}

#[test]
fn snapshots_that_the_storage_sends() {
    let table = Table::with(|config| config.server_config.max_message_bytes = 20);
    table.check(
        "
        # In pieces, if they are more than a message. The durable snapshot may be an earlier one.
        following 4.2 ****E | durable 4; 3: CatchUpRequest dec=2 pieces | same
                            | 3: CatchUpChunk at=2 piece=4 dec=5
                            | durable 3; 3: CatchUpRequest dec=2 pieces | same
                            | 3: CatchUpChunk at=2 piece=3 dec=5
                            | durable 4; 3: CatchUpRequest dec=2 | same
                            | 3: CatchUpChunk at=4 snapshot=**** +e dec=5
        # One that ends at the decided index of the receiver, or before, is of no use there. The storage still
        # writes a later one, and the receiver asks again.
                            | durable 2; 3: CatchUpRequest dec=2 pieces | same |
                            | durable 1; 3: CatchUpRequest dec=2 pieces | same |
            | durable 2; 3: CatchUpRequest dec=2 pieces; output; durable 4; 3: CatchUpRequest dec=2 pieces | same
            | 3: CatchUpChunk at=2 piece=4 dec=5
        # The rest in messages of 20 bytes. The receiver may have the beginning from another source.
            | durable 4; 3: CatchUpRequest dec=2 pieces; output
            ; 3: CatchUpRequest dec=2 pieces want=4:20-60 | same
            | 3: CatchUpChunk at=2 piece=4 dec=5; 3: CatchUpChunk at=2 piece=4 dec=5
            | durable 4; 3: CatchUpRequest dec=2 pieces want=4:20-60 | same
            | 3: CatchUpChunk at=2 piece=4 dec=5; 3: CatchUpChunk at=2 piece=4 dec=5
        # It is not held here: the first piece of what is.
            | durable 4; 3: CatchUpRequest dec=2 pieces want=3:20-60 | same
            | 3: CatchUpChunk at=2 piece=4 dec=5
        # Another server needs a later one meanwhile: the receiver of the earlier one goes on.
            | durable 3; 2: CatchUpRequest dec=2 pieces; output; durable 4; 3: CatchUpRequest dec=3 pieces; output
            ; 2: CatchUpRequest dec=2 pieces want=3:20-60 | same
            | 2: CatchUpChunk at=2 piece=3 dec=5; 2: CatchUpChunk at=2 piece=3 dec=5
        # The receiver has decided as much meanwhile, takes no pieces, or wants a range.
            | durable 4; 3: CatchUpRequest dec=2 pieces; output
            ; 3: CatchUpRequest dec=4 pieces want=4:20-60 | same | 3: CatchUpChunk at=4 +e dec=5
            | durable 4; 3: CatchUpRequest dec=2 pieces; output; 3: CatchUpRequest dec=2 | same
            | 3: CatchUpChunk at=4 snapshot=**** +e dec=5
            | durable 4; 3: CatchUpRequest dec=2 pieces; output
            ; 3: CatchUpRequest dec=2 pieces range=4-5 | same | 3: CatchUpChunk at=4 +e dec=5
        # The last piece has the ids.
        following 4.2 ABC
            | 2: AcceptDecide 4.2 at=3 +d ids=3:3/5/0x1 dec=4; output; snapshot 4 local; output
            ; durable 4; 3: CatchUpRequest dec=2 pieces want=4:60-80 | following 4.2 ****
            | 3: CatchUpChunk at=2 piece=4 dec=4
            | 2: AcceptDecide 4.2 at=3 +d ids=3:3/5/0x1 dec=4; output; snapshot 4 local; output
            ; durable 4; 3: CatchUpRequest dec=2 pieces want=4:80-100 | following 4.2 ****
            | 3: CatchUpChunk at=2 piece=4 ids=3:3/5/0x1 dec=4
        ",
    );
}

/// Two pieces, with an output between them in which the storage begins to receive.
#[test]
fn snapshots_that_the_storage_receives() {
    let table = |given: &str, input: &str, then: &str, sends: &str| {
        let halves = |text: &str| {
            let chunk = |half| format!("3: CatchUpChunk {text} half={half} dec=5");
            format!("{}; output; {}", chunk(1), chunk(2))
        };
        let input = input
            .replace("SNAPSHOT", &halves("piece=5:abcde"))
            .replace("FORGED", &halves("piece=5:abcde digest=7"));
        Table::new().check(&format!("{given} | receiver; {input} | {then} | {sends}"));
    };
    // It is installed when the storage has decoded it, as a whole.
    let behind = "following 4.2 Ab";
    table(behind, "SNAPSHOT", "same", "");
    table(behind, "SNAPSHOT; output; round; output; round; output; round", "same", "");
    table(
        behind,
        "SNAPSHOT; output; watch; decoded",
        "following 4.2 *****",
        "wrote snapshot abcde, trim 2, compacted 5, decided 5; 2: Accepted 4.2 len=5 dec=5",
    );
    // The digest is not that of the bytes: they are dropped, whatever they decode to.
    table(behind, "watch; FORGED", "same", "2: CatchUpRequest dec=1");
    table(behind, "FORGED; output; watch; decoded", "same", "");
    // The next snapshot begins anew.
    table(
        behind,
        "FORGED; output; SNAPSHOT; output; watch; decoded",
        "following 4.2 *****",
        "wrote snapshot abcde, trim 2, compacted 5, decided 5; 2: Accepted 4.2 len=5 dec=5",
    );
    // A leader that reaches a quorum stays the leader. Without one it resigns.
    let leading = "leading 4.1 ABC 2:3/3";
    table(leading, "round lost; output; SNAPSHOT; output; round; output; decoded", "same", "");
    table(
        leading,
        "round lost; output; SNAPSHOT; output; decoded",
        "recovering 4.1 4.1 *****",
        "2: PrepareReq 4.1 na=4.1 len=5 dec=5; 3: PrepareReq 4.1 na=4.1 len=5 dec=5; election: Resigned",
    );
}

/// However long the storage takes, a snapshot is neither asked for again nor forgotten, whether all of it has
/// come or the beginning.
#[test]
fn a_slow_storage_is_waited_for() {
    let rounds = "round; output; ".repeat(40);
    let begun = "receiver; slow; 3: CatchUpChunk piece=40:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bytes=0-2 dec=40
            ; output; 3: CatchUpChunk piece=40:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bytes=2-4 dec=40; output";
    // Every second round it asks for a byte more, so that the source keeps the snapshot.
    let two_rounds = |n| {
        let letters = "a".repeat(40);
        let byte = format!("piece=40:{letters} bytes={}-{}", 4 + n, 5 + n);
        format!("round; output; round; output; 3: CatchUpChunk {byte} dec=40; output; ")
    };
    let long: String = (0..20).map(two_rounds).collect();
    let small = |config: &mut OmniPaxosConfig| {
        config.server_config.max_in_flight_bytes = 4;
        config.server_config.max_message_bytes = 2;
    };
    Table::with(small).check(&format!(
        "
        following 4.2 Ab
            | {begun}; {long} held | same | held 0 early, 24 partial, 0 encoded
            | {begun}; {long} round; output; round | same | 3: CatchUpRequest dec=1
        # Another source may not begin anew.
            | {begun}; {long} 2: CatchUpChunk piece=41:{other} bytes=0-2 dec=41; held | same
            | held 0 early, 24 partial, 0 encoded
            | {begun}; round; output; round; output; 2: CatchUpRedirect 4.2 source=2 dec=40 | following 4.2 AB |
        # What is written makes room for the rest.
            | {begun}; {long} quick | same | 3: CatchUpRequest dec=1
        # A source that does not send the byte is silent.
            | {begun}; round; output; round; output; {silent} held | same
            | held 0 early, 0 partial, 0 encoded
        ",
        other = "b".repeat(41),
        silent = "round; output; ".repeat(20),
    ));
    Table::new().check(&format!(
        "
        following 4.2 Ab
            | receiver; 3: CatchUpChunk piece=5:abcde half=1 dec=5; output
            ; 3: CatchUpChunk piece=5:abcde half=2 dec=5; output; {rounds}; round | same |
        following 4.2 Ab
            | receiver; 3: CatchUpChunk piece=5:abcde half=1 dec=5; output
            ; 3: CatchUpChunk piece=5:abcde half=2 dec=5; output; {rounds}; decoded
            | following 4.2 ***** | 2: Accepted 4.2 len=5 dec=5
        "
    ));
}

#[test]
fn chunks_above_a_gap() {
    Table::new().check(
        "
        # One waits for those before it, while a source sends entries.
        following 4.2 ABc
            | 3: CatchUpChunk at=2 +c dec=9; output; 3: CatchUpChunk base=4 at=4 +e dec=9; output
            ; 3: CatchUpChunk base=3 at=3 +d dec=9 | following 4.2 ABCDE
            | 2: Accepted 4.2 len=5 dec=5; 3: CatchUpRequest dec=5 range=5-9
            | 3: CatchUpChunk at=2 +c dec=9; output; 3: CatchUpChunk base=4 at=4 +e dec=9; held
            | following 4.2 ABC | held 1 early, 0 partial, 0 encoded
            | 3: CatchUpChunk base=4 at=4 +e dec=9; output; 3: CatchUpChunk base=2 at=2 +cd dec=9
            | following 4.2 ABCD
            | 2: Accepted 4.2 len=4 dec=4; 3: CatchUpRequest dec=4 range=4-9
        # One whose first entries were trimmed does not wait: when it comes to its place, the entries that this
        # server holds there would count as decided.
        following 4.2 ABcdefg
            | 3: CatchUpChunk at=2 +c dec=9; output; 3: CatchUpChunk base=4 at=6 +g dec=9; output
            ; 3: CatchUpChunk base=3 at=3 +d dec=9 | following 4.2 ABCDefg
            | 2: Accepted 4.2 len=7 dec=4; 3: CatchUpRequest dec=4 range=4-9
        # The sender has no more, and the source has compacted what follows: the source sends what it has.
        promised 4.2 3.3 ABc
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; 3: CatchUpChunk at=2 +c dec=9 gone=8; output
            ; 2: CatchUpChunk base=3 at=3 +d dec=4 | promised 4.2 3.3 ABCD | 3: CatchUpRequest dec=4
        # What a silent source does not send is asked for elsewhere.
        following 4.2 ABc
            | 3: CatchUpChunk at=2 +c dec=9; output; round; output; round 2 | following 4.2 ABC
            | 3: CatchUpRequest dec=3; 2: CatchUpRequest dec=3 range=3-9
        ",
    );
}

#[test]
fn a_snapshot_that_is_larger_than_this_server_takes() {
    let table = Table::with(|config| config.server_config.max_snapshot_bytes = 5);
    table.check(
        "
        following 4.2 Ab
            | receiver; 3: CatchUpChunk piece=5:abcde half=1 dec=5; timeout | same
            | timeout 1; 3: CatchUpRequest dec=1
            | receiver; 3: CatchUpChunk piece=5:abcde half=1 dec=5; output
            ; 3: CatchUpChunk piece=5:abcde half=2 dec=5; output; decoded; output; snapshots; timeout
            | following 4.2 ***** | 0 undecodable, 0 oversized; no timeout
        # Each sender is refused once in a round, and another one is asked.
            | 3: CatchUpChunk piece=5:abcde half=1 dec=5; held | same
            | held 0 early, 2 partial, 0 encoded; 3: CatchUpRequest dec=1
            | 3: CatchUpChunk piece=6:abcdef half=1 dec=6; snapshots | same
            | 0 undecodable, 1 oversized; 2: CatchUpRequest dec=1
            | 3: CatchUpChunk piece=6:abcdef half=1 dec=6; output; round
            ; 3: CatchUpChunk piece=6:abcdef half=1 dec=6; snapshots | same
            | 0 undecodable, 1 oversized
            | 3: CatchUpChunk piece=6:abcdef half=1 dec=6; output
            ; 2: CatchUpChunk piece=6:abcdef half=1 dec=6; snapshots | same
            | 0 undecodable, 2 oversized
        # Server 3 is the source, and server 2 was not asked.
        promised 4.2 3.3 Ab
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; 2: CatchUpChunk piece=6:abcdef half=1 dec=6
            ; snapshots | same | 0 undecodable, 0 oversized
        ",
    );
}

#[test]
fn another_snapshot_comes_from_the_server_after_the_sender() {
    let table = Table::with(|config| {
        config.cluster_config.nodes = vec![1, 2, 3, 4];
        config.server_config.max_snapshot_bytes = 5;
    });
    table.check(
        "
        following 4.2 Ab
            | 3: CatchUpChunk piece=6:abcdef half=1 dec=6 | same | 4: CatchUpRequest dec=1
            | 4: CatchUpChunk piece=6:abcdef half=1 dec=6 | same | 2: CatchUpRequest dec=1
            | 3: CatchUpChunk piece=5:abcde digest=7 half=1 dec=5; output
            ; 3: CatchUpChunk piece=5:abcde digest=7 half=2 dec=5; snapshots | same
            | 1 undecodable, 0 oversized; 4: CatchUpRequest dec=1
        ",
    );
}

#[test]
fn snapshots_that_are_decoded_here() {
    if !encoding::IS_SUPPORTED {
        return;
    }
    let chunk = |accompanying, half| {
        format!("3: CatchUpChunk piece=5:abcde coded half={half} {accompanying}")
    };
    for (accompanying, sends) in [
        ("dec=5", ""),
        // There is more: at the sender, or elsewhere if it has compacted that.
        ("dec=9", "; 3: CatchUpRequest dec=5 range=5-9"),
        ("dec=9 gone=7", "; 2: CatchUpRequest dec=5 range=5-9"),
    ] {
        let [first, second] = [1, 2].map(|half| chunk(accompanying, half));
        Table::new().check(&format!(
            "following 4.2 Ab | {first}; output; {second} | following 4.2 *****
            | 2: Accepted 4.2 len=5 dec=5{sends}"
        ));
    }
    let [first, second] = [1, 2].map(|half| chunk("dec=5 ids=4:3/5/0x1", half));
    Table::new().check(&format!(
        "following 4.2 Ab | {first}; output; {second}; output; 3: CatchUpRequest | following 4.2 *****
        | 3: CatchUpChunk at=5 snapshot=abcde ids=4:3/5/0x1 dec=5"
    ));
}

#[test]
fn snapshots_that_just_fit_into_a_message() {
    let table = |bytes: usize, input: &str, sends: &str| {
        Table::with(|config| config.server_config.max_message_bytes = bytes)
            .check(&format!("following 4.2 ****E | {input} | same | {sends}"));
    };
    let whole = "3: CatchUpChunk at=4 snapshot=**** +e dec=5";
    table(100, "durable 4; 3: CatchUpRequest dec=2 pieces", whole);
    table(99, "durable 4; 3: CatchUpRequest dec=2 pieces", "3: CatchUpChunk at=2 piece=4 dec=5");
    if encoding::IS_SUPPORTED {
        let alone = "3: CatchUpChunk at=4 snapshot=**** dec=5";
        table(5, "3: CatchUpRequest dec=2 pieces", alone);
        let first = "3: CatchUpChunk at=2 piece=4 dec=5";
        table(4, "3: CatchUpRequest dec=2 pieces", first);
        let held = "3: CatchUpRequest dec=2 pieces; output; held";
        table(4, held, "held 0 early, 0 partial, 5 encoded");
    }
}
