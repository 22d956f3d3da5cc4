//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`.

mod heartbeats;
mod ticks;

use crate::sequence_paxos::tests::Table;

#[test]
fn new_entries() {
    Table::new().check(
        "
        # What a follower was not sent, and the decided index.
        leading 4.1 ABC 2:3/3    | append de | leading 4.1 ABCde 2:3/3
                                 | 2: AcceptDecide 4.1 at=3 +de dec=3
                                 | append d; output; append e | leading 4.1 ABCde 2:3/3
                                 | 2: AcceptDecide 4.1 at=4 +e dec=3
                                 | append d; output; 2: Accepted 4.1 len=4 dec=3; append e
                                 | leading 4.1 ABCDe 2:4/3 | 2: AcceptDecide 4.1 at=4 +e dec=4
        # Once, and nothing after that.
                                 | append d; output | leading 4.1 ABCd 2:3/3 |
        # Also on top of an AcceptSync that is on its way; not before a promise.
        leading 4.1 ABc 2:sync   | append d | leading 4.1 ABcd 2:sync
                                 | 2: AcceptDecide 4.1 at=3 +d dec=2
        preparing 4.1 3.1 ABc    | append d | preparing 4.1 3.1 ABc waits=1 |
        # The decided index alone, once all entries were sent. A follower that knows it gets no message.
        leading 4.1 ABc 2:sync   | 2: Accepted 4.1 len=3 dec=2 | leading 4.1 ABC 2:3/2
                                 | 2: Decide 4.1 dec=3
                                 | 2: Accepted 4.1 len=3 dec=2; output; 2: Accepted 4.1 len=3 dec=3
                                 | leading 4.1 ABC 2:3/3 |
        # I5: what the storage did not write is not sent, and nothing else is.
        leading 4.1 ABC 2:3/3    | append dx; 3: PrepareReq 3.2 | leading 4.1 ABC 2:3/3 | halted
        ",
    );
}

#[test]
fn the_stop_sign() {
    Table::new().check(
        "
        # It is the entry after the others.
        leading 4.1 ABC 2:3/3  | reconfigure | leading 4.1 ABC$ 2:3/3
                               | 2: AcceptStopSign 4.1 at=3 dec=3
                               | append d; reconfigure | leading 4.1 ABCd$ 2:3/3
                               | 2: AcceptDecide 4.1 at=3 +d dec=3; 2: AcceptStopSign 4.1 at=4 dec=3
        # Once.
                               | reconfigure; output | leading 4.1 ABC$ 2:3/3 |
        # Nothing comes after it (I9).
                               | reconfigure; append d | leading 4.1 ABC$ 2:3/3
                               | PendingReconfigEntry; 2: AcceptStopSign 4.1 at=3 dec=3
        # Lost: a gap is reported, or a probe is.
        leading 4.1 ABC$ 2:3/3 | 2: Accepted 4.1 len=3 dec=3 gap | same
                               | 2: AcceptStopSign 4.1 at=3 dec=3
                               | round 2; output; round 2 | same
                               | 2: AcceptStopSign 4.1 at=3 dec=3; 3: Prepare 4.1 na=4.1 len=4 dec=3
        # Decided.
                               | 2: Accepted 4.1 len=4 dec=3 | leading 4.1 ABC! 2:4/3
                               | 2: Decide 4.1 dec=4
        # A follower that lacks entries, too.
        leading 4.1 ABC! 2:4/4 | 3: PrepareReq 4.1 na=4.1 len=2 dec=2 | leading 4.1 ABC! 2:4/4 3:2/2
                               | 3: AcceptDecide 4.1 at=2 +c dec=4; 3: AcceptStopSign 4.1 at=3 dec=4
                               | 3: PrepareReq 4.1 na=4.1 len=4 dec=3 | leading 4.1 ABC! 2:4/4 3:4/3
                               | 3: AcceptStopSign 4.1 at=3 dec=4
        ",
    );
}

#[test]
fn gaps() {
    Table::new().check(
        "
        # What follows on the acknowledged index is sent again,
        leading 4.1 ABC 2:3/3 | append de; output; 2: Accepted 4.1 len=3 dec=3 gap
                              | leading 4.1 ABCde 2:3/3 | 2: AcceptDecide 4.1 at=3 +de dec=3
        # once a round: the same gap was reported twice.
            | append de; output; 2: Accepted 4.1 len=3 dec=3 gap; output;
            ; 2: Accepted 4.1 len=3 dec=3 gap | leading 4.1 ABCde 2:3/3 |
            | append de; output; 2: Accepted 4.1 len=3 dec=3 gap; round 2; output;
            ; 2: Accepted 4.1 len=3 dec=3 gap
            | leading 4.1 ABCde 2:3/3 | 2: AcceptDecide 4.1 at=3 +de dec=3
        # What follows was not sent again yet; or was, in this round, though nothing was
        # missing then.
            | append de; output; 2: Accepted 4.1 len=3 dec=3 gap; output; append f; output
            ; 2: Accepted 4.1 len=5 dec=3 gap
            | leading 4.1 ABCDEf 2:5/3 | 2: AcceptDecide 4.1 at=5 +f dec=5
            | 2: Accepted 4.1 len=3 dec=3 gap; append d; output; 2: Accepted 4.1 len=3 dec=3 gap
            | leading 4.1 ABCd 2:3/3 |
        # An old report: more was acknowledged since.
            | append de; output; 2: Accepted 4.1 len=5 dec=3; 2: Accepted 4.1 len=4 dec=3 gap
            | leading 4.1 ABCDE 2:5/3 | 2: Decide 4.1 dec=5
        ",
    );
}

#[test]
fn followers_that_acknowledge_nothing() {
    Table::new().check(
        "
        # No quorum makes progress for a whole round: the entries are sent again with each heartbeat.
        leading 4.1 ABC 2:3/3 3:3/3
            | append d; output; round | leading 4.1 ABCd 2:3/3 3:3/3 |
            | append d; output; round; round | leading 4.1 ABCd 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: AcceptDecide 4.1 at=3 +d dec=3
        # Also to a peer that did not answer the round.
            | append d; output; round; round 3 | leading 4.1 ABCd 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: AcceptDecide 4.1 at=3 +d dec=3
        # A quorum makes progress: a follower that does not is asked what it has.
            | append d; output; round; 2: Accepted 4.1 len=4 dec=3; output; round
            | leading 4.1 ABCD 2:4/3 3:3/3 | 3: AcceptDecide 4.1 at=4 dec=4
            | append d; output; round; round; round; output; round | leading 4.1 ABCd 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: AcceptDecide 4.1 at=3 +d dec=3
        # New entries go with them.
            | append d; output; round; round; append e | leading 4.1 ABCde 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +de dec=3; 3: AcceptDecide 4.1 at=3 +de dec=3
        # All followers have the whole log: nothing is sent.
            | round; round; round; round | same |
        # One does not know what is decided.
        leading 4.1 ABC 2:3/2 3:3/3 | round; output; round | same | 2: AcceptDecide 4.1 at=3 dec=3
        ",
    );
}

#[test]
fn syncs_that_are_not_acknowledged() {
    Table::new().check(
        "
        # No quorum makes progress: repeated after a round, and then each round, also to a peer that does
        # not answer. So is the Prepare.
        leading 4.1 ABc 2:sync
            | round 2 3 | same | 3: Prepare 4.1 na=4.1 len=3 dec=2
            | round; output; round | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
            | round; round; output; round | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
            | round; output; round 3 | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
        # A quorum has the log: repeated after a round, then after two, then every four. Not to a peer that did
        # not answer.
        leading 4.1 ABC 2:sync 3:3/3
            | round; output; round | same | 2: AcceptSync 4.1 at=0 +abc dec=3
            | round; round; output; round | same |
            | round; round; output; round; round | same | 2: AcceptSync 4.1 at=0 +abc dec=3
            | round; round; output; round; round; output; round; round; round | same |
            | round; round; output; round; round; output; round; round; round; round | same
            | 2: AcceptSync 4.1 at=0 +abc dec=3
            | round; output; round 3 | same |
        leading 4.1 ABc 2:sync
            | round; output; round 2 | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
        preparing 4.1 3.2 ABc | round 2 | same
            | 2: Prepare 4.1 na=3.2 len=3 dec=2; 3: Prepare 4.1 na=3.2 len=3 dec=2
        ",
    );
}

#[test]
fn a_peer_is_back() {
    Table::new().check(
        "
        # It is sent what it lacks at once.
        leading 4.1 ABC 2:3/3  | append d; output; reconnected 2 | leading 4.1 ABCd 2:3/3
                               | 2: AcceptDecide 4.1 at=3 +d dec=3
                               | reconnected 2 | same |
                               | reconnected 3 | same | 3: Prepare 4.1 na=4.1 len=3 dec=3
        leading 4.1 ABc 2:sync | reconnected 2 | same | 2: AcceptSync 4.1 at=0 +abc dec=2
        preparing 4.1 3.2 ABc  | reconnected 2 | same | 2: Prepare 4.1 na=3.2 len=3 dec=2
        # A follower asks its leader. A server without a leader asks any server.
        following 4.2 ABc      | reconnected 2 | same | 2: PrepareReq 4.2 na=4.2 len=3 dec=2
                               | reconnected 3 | same |
        recovering 4.2 4.2 ABc | reconnected 3 | same | 3: PrepareReq 4.2 na=4.2 len=3 dec=2
                               | reconnected 9 | same |
                               | round 2 | same
            | 2: PrepareReq 4.2 na=4.2 len=3 dec=2; 3: PrepareReq 4.2 na=4.2 len=3 dec=2
        # A new server has been asked nothing: it asks only the server that the election named.
        recovering 0 0 -       | round | same |
                               | reconnected 2 | same |
                               | elected 1.2; round | same | 2: PrepareReq 0
        ",
    );
}

#[test]
fn what_a_timer_resends() {
    let table = Table::with(|config| config.server_config.resend_message_tick_timeout = 2);
    table.check(
        "
        leading 4.1 ABC 2:3/3  | append d; output; tick | leading 4.1 ABCd 2:3/3 |
                               | append d; output; tick; tick | leading 4.1 ABCd 2:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: Prepare 4.1 na=4.1 len=4 dec=3
        leading 4.1 ABc 2:sync | tick; tick | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
        preparing 4.1 3.2 ABc  | tick; tick | same
            | 2: Prepare 4.1 na=3.2 len=3 dec=2; 3: Prepare 4.1 na=3.2 len=3 dec=2
        following 4.2 ABc      | tick; tick | same |
        ",
    );
}

#[test]
fn windows() {
    let table = Table::with(|config| {
        config.server_config.max_in_flight_entries = 4;
        config.server_config.max_message_entries = 3;
    });
    table.check(
        "
        # No more than fits is undecided; the rest waits.
        leading 4.1 ABC 2:3/3 | append defg | leading 4.1 ABCdef 2:3/3 waits=1
                              | 2: AcceptDecide 4.1 at=3 +def dec=3
                              | append defg; output; 2: Accepted 4.1 len=4 dec=3
                              | leading 4.1 ABCDefg 2:4/3 | 2: AcceptDecide 4.1 at=6 +g dec=4
        # The window of a follower that acknowledges nothing is full.
        leading 4.1 ABC 2:3/3 3:3/3
            | append def; output; 2: Accepted 4.1 len=6 dec=3; append ghi; output
            ; 2: Accepted 4.1 len=9 dec=6; append j
            | leading 4.1 ABCDEFGHIj 2:9/6 3:3/3 | 2: AcceptDecide 4.1 at=9 +j dec=9
        # It is not redirected while something is on its way, though it lacks more than the window.
            | append def; output; 2: Accepted 4.1 len=6 dec=3; append ghi; output
            ; 2: Accepted 4.1 len=9 dec=6; append jkl; output; 2: Accepted 4.1 len=12 dec=9
            | leading 4.1 ABCDEFGHIJKL 2:12/9 3:3/3 | 2: Decide 4.1 dec=12
        # What an AcceptSync carries counts, too.
        leading 4.1 ABC 2:3/3 3:sync | append def | leading 4.1 ABCdef 2:3/3 3:sync
            | 2: AcceptDecide 4.1 at=3 +def dec=3; 3: AcceptDecide 4.1 at=3 +d dec=3
        # Once it acknowledges some, it gets the rest.
        leading 4.1 ABC 2:3/3 3:3/3
            | append def; output; 2: Accepted 4.1 len=6 dec=3; append ghi; output
            ; 3: Accepted 4.1 len=6 dec=3
            | leading 4.1 ABCDEFghi 2:6/3 3:6/3 | 3: AcceptDecide 4.1 at=7 +hi dec=6
        # Once it reports a gap, all that is in flight counts as lost.
            | append def; output; 2: Accepted 4.1 len=6 dec=3; append ghi; output
            ; 3: Accepted 4.1 len=3 dec=3 gap
            | leading 4.1 ABCDEFghi 2:6/3 3:3/3
            | 3: AcceptDecide 4.1 at=3 +def dec=6; 3: AcceptDecide 4.1 at=6 +g dec=6
        # A restarted follower lacks as much as fits, in messages that fit.
        leading 4.1 ABCDEF 2:6/6 | 3: PrepareReq 4.1 na=4.1 len=2 dec=2
            | leading 4.1 ABCDEF 2:6/6 3:2/2
            | 3: AcceptDecide 4.1 at=2 +cde dec=6; 3: AcceptDecide 4.1 at=5 +f dec=6
        ",
    );
}

#[test]
fn what_is_too_much_is_learned_elsewhere() {
    let table = Table::with(|config| {
        config.server_config.max_in_flight_entries = 4;
        config.server_config.max_message_entries = 3;
    });
    table.check(
        "
        # More decided entries than the window. A follower that has them is the source.
        leading 4.1 ABCDEF 2:6/6 | 3: PrepareReq 4.1 na=4.1 len=1 dec=1
            | leading 4.1 ABCDEF 2:6/6 3:1/1 | 3: CatchUpRedirect 4.1 source=2 dec=6
        # Every other time it is the leader.
            | 3: PrepareReq 4.1 na=4.1 len=1 dec=1; output; round; output; round
            | leading 4.1 ABCDEF 2:6/6 3:1/1 | 3: CatchUpRedirect 4.1 source=1 dec=6
        # It is, if no other has answered or has more.
            | round 3; 3: PrepareReq 4.1 na=4.1 len=1 dec=1
            | leading 4.1 ABCDEF 2:6/6 3:1/1 | 3: CatchUpRedirect 4.1 source=1 dec=6
        leading 4.1 ABCDEF 2:6/1 | 3: PrepareReq 4.1 na=4.1 len=1 dec=1
            | leading 4.1 ABCDEF 2:6/1 3:1/1 | 3: CatchUpRedirect 4.1 source=1 dec=6
        # It is left alone until it has what was decided then; after that it gets the rest.
        leading 4.1 ABCDEF 2:6/6
            | 3: PrepareReq 4.1 na=4.1 len=1 dec=1; output; 3: Accepted 4.1 len=4 dec=4
            | leading 4.1 ABCDEF 2:6/6 3:4/4 |
            | 3: PrepareReq 4.1 na=4.1 len=1 dec=1; output; append g; 3: Accepted 4.1 len=6 dec=6
            | leading 4.1 ABCDEFg 2:6/6 3:6/6
            | 2: AcceptDecide 4.1 at=6 +g dec=6; 3: AcceptDecide 4.1 at=6 +g dec=6
        # What is compacted here.
        leading 4.1 __CDEF 2:6/6 | 3: PrepareReq 4.1 na=4.1 len=1 dec=1
            | leading 4.1 __CDEF 2:6/6 3:1/1 | 3: CatchUpRedirect 4.1 source=2 dec=6
        leading 4.1 __CDE 2:5/5  | 3: PrepareReq 4.1 na=4.1 len=1 dec=1
            | leading 4.1 __CDE 2:5/5 3:1/1 | 3: CatchUpRedirect 4.1 source=2 dec=5
                                 | 3: PrepareReq 4.1 na=4.1 len=2 dec=2
            | leading 4.1 __CDE 2:5/5 3:2/2 | 3: AcceptDecide 4.1 at=2 +cde dec=5
        # An AcceptSync carries decided entries as far as they fit.
        leading 4.1 ABCDEF 2:6/6
            | 3: Promise 4.1 len=3 dec=3 | leading 4.1 ABCDEF 2:6/6 3:sync
            | 3: AcceptSync 4.1 at=3 +def dec=6
            | 3: Promise 4.1 len=2 dec=2 | leading 4.1 ABCDEF 2:6/6 3:redirected
            | 3: CatchUpRedirect 4.1 source=2 dec=6
        # It is repeated as an AcceptSync is, and once the follower has promised again.
            | 3: Promise 4.1 len=2 dec=2; output; round; output; round
            | leading 4.1 ABCDEF 2:6/6 3:redirected | 3: CatchUpRedirect 4.1 source=1 dec=6
            | 3: Promise 4.1 len=2 dec=2; output; 3: Promise 4.1 len=6 dec=6
            | leading 4.1 ABCDEF 2:6/6 3:sync | 3: AcceptSync 4.1 at=6 dec=6
        # Undecided entries travel as a whole, up to what was adopted.
        leading 4.1 ABcdef 2:redirected
            | 3: Promise 4.1 len=2 dec=2 | leading 4.1 ABcdef 2:redirected 3:sync
            | 3: AcceptSync 4.1 at=2 +cdef dec=2
            | 3: Promise 4.1 len=1 dec=1 | leading 4.1 ABcdef 2:redirected 3:redirected
            | 3: CatchUpRedirect 4.1 source=1 dec=2
        # A trim proves that every server holds what was trimmed. A snapshot does not.
        leading 4.1 ____EF 2:6/6 | 3: Promise 4.1 len=9 dec=1 | leading 4.1 ____EF 2:6/6 3:sync
            | 3: AcceptSync 4.1 at=4 +ef dec=6
        leading 4.1 ****EF 2:6/6 | 3: Promise 4.1 len=9 dec=1
                                 | leading 4.1 ****EF 2:6/6 3:redirected
            | 3: CatchUpRedirect 4.1 source=2 dec=6
        ",
    );
}

#[test]
fn writes() {
    Table::new().check(
        "
        # All changes in one write. Their order makes a crash between them safe: promise, log, stop sign,
        # accepted round, decided index.
        following 4.2 ABc | watch; 2: AcceptDecide 4.2 at=3 +d dec=3 | following 4.2 ABCd
                          | wrote +d, decided 3; 2: Accepted 4.2 len=4 dec=3
                          | watch; 2: AcceptDecide 4.2 at=3 +d dec=2; 2: AcceptStopSign 4.2 at=4 dec=2
                          | following 4.2 ABcd$ | wrote +d, $; 2: Accepted 4.2 len=5 dec=2
                          | watch; 3: Prepare 5.3 na=4.2 len=3 dec=2 | promised 5.3 4.2 ABc
                          | wrote promise 5.3; 3: Promise 5.3 na=4.2 len=3 dec=2
        promised 4.2 3.3 ABc$ | watch; 2: AcceptSync 4.2 at=2 +de dec=3 | following 4.2 ABDe
                          | wrote +de at 2, no $, accepted 4.2, decided 3; 2: Accepted 4.2 len=4 dec=3
                          | watch; 2: AcceptSync 4.2 at=2 dec=2 | following 4.2 AB
                          | wrote + at 2, no $, accepted 4.2; 2: Accepted 4.2 len=2 dec=2
        promised 4.2 3.3 __Cde | watch; 2: AcceptSync 4.2 at=3 +fg dec=4 | following 4.2 __CFg
                          | wrote +fg at 1, accepted 4.2, decided 4; 2: Accepted 4.2 len=5 dec=4
        following 4.2 __Cd | watch; 2: AcceptDecide 4.2 at=4 +e dec=3 | following 4.2 __Cde
                          | wrote +e; 2: Accepted 4.2 len=5 dec=3
        preparing 4.1 3.2 ABc | watch; 2: Promise 4.1 na=3.3 len=3 dec=3 at=2 +d
                          | leading 4.1 ABD 2:sync
                          | wrote +d at 2, accepted 4.1, decided 3; 2: AcceptSync 4.1 at=3 dec=3
        # A decided index alone waits for the next write, a round, or a user that asks.
        following 4.2 ABc | watch; 2: Decide 4.2 dec=3 | following 4.2 ABC |
                          | watch; 2: Decide 4.2 dec=3; flush | following 4.2 ABC | wrote decided 3
                          | watch; 2: Decide 4.2 dec=3; round | following 4.2 ABC | wrote decided 3
                          | watch; 2: Decide 4.2 dec=2; flush; round | same |
                          | 2: Decide 4.2 dec=3; output; watch; 2: AcceptDecide 4.2 at=3 +d dec=3
                          | following 4.2 ABCd | wrote +d, decided 3; 2: Accepted 4.2 len=4 dec=3
                          | watch; round; flush | same |
        leading 4.1 ABc 2:sync | watch; 2: Accepted 4.1 len=3 dec=2 | leading 4.1 ABC 2:3/2
                          | 2: Decide 4.1 dec=3
        # What is decided elsewhere, and the entries that a snapshot stands for.
        following 4.2 ABcd | watch; 3: CatchUpChunk at=2 +e dec=3 | following 4.2 ABEd
                          | wrote +ed at 2, decided 3; 2: Accepted 4.2 len=4 dec=3
                          | watch; 3: CatchUpChunk at=3 snapshot=abc dec=3 | following 4.2 ***d
                          | wrote snapshot abc, trim 3, compacted 3, +d at 0, decided 3
                          ; 2: Accepted 4.2 len=4 dec=3
                          | watch; 3: CatchUpChunk at=6 snapshot=abcdef +g dec=7
                          | following 4.2 ******G
                          | wrote snapshot abcdef, trim 4, compacted 6, +g, decided 7
                          ; 2: Accepted 4.2 len=7 dec=7
        following 4.2 **Cd | watch; 3: CatchUpChunk at=4 snapshot=abcd dec=4 | following 4.2 ****
                          | wrote snapshot abcd, trim 2, compacted 4, decided 4
                          ; 2: Accepted 4.2 len=4 dec=4
        following 4.2 ABCd | watch; 2: Trim to=2 | following 4.2 __Cd | wrote trim 2, compacted 2; 2: Compacted to=2
                          | 2: AcceptDecide 4.2 at=4 +e dec=4; watch; 2: Trim to=2
                          | following 4.2 __CDe
                          | wrote trim 2, compacted 2, +e, decided 4; 2: Accepted 4.2 len=5 dec=4
                          ; 2: Compacted to=2
        ",
    );
}

#[test]
fn outputs_that_do_nothing() {
    Table::new().check(
        "
        # A follower that knows what is decided has nothing to write and to send.
        following 4.2 ABC  | silent | same | silent: true
                           | 2: AcceptDecide 4.2 at=3 +d dec=3; silent | following 4.2 ABCd
                           | silent: false; 2: Accepted 4.2 len=4 dec=3
                           | 2: AcceptDecide 4.2 at=3 +d dec=3; output; silent | following 4.2 ABCd
                           | silent: true
                           | 2: AcceptDecide 4.2 at=3 +d dec=4; output; silent | following 4.2 ABCD
                           | silent: true
                           | asked 2; silent | same | silent: false; 2: Accepted 4.2 len=3 dec=3
                           | 3: CatchUpRequest dec=1; silent | same
                           | silent: false; 3: CatchUpChunk at=1 +bc dec=3
                           | propose d; silent | following 4.2 ABC pending=1
                           | 1/7/0; silent: false; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=3 +d
                           | propose d; output; silent | following 4.2 ABC pending=1
                           | silent: true
                           | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=3; output
                           ; 2: Decide 4.2 dec=4; silent | following 4.2 ABCD
                           | silent: false; 1/7/0 is decided at 3
                           | reconfigure id; silent | same
                           | 1/7/0; silent: false; 2: ForwardStopSign id=1/7/0
                           | reconfigure id; output; silent | same | silent: true
                           | reconfigure id; output; 2: AcceptStopSign 4.2 at=3 dec=3; output
                           ; 2: Decide 4.2 dec=4; silent | following 4.2 ABC!
                           | silent: false; 1/7/0 is decided at 3
                           | 2: AcceptStopSign 4.2 at=3 dec=3; output
                           ; 2: Decide 4.2 dec=4; silent | following 4.2 ABC! | silent: true
                           | read; silent | same | read 1; silent: false; 2: ReadIndexRequest id=1/7/1 n=4.2
        # Only a decided index is to be written, and that is due.
                           | 2: Decide 4.2 dec=3; silent | same | silent: true
        following 4.2 ABc  | 2: Decide 4.2 dec=3; silent | following 4.2 ABC | silent: true
                           | 2: Decide 4.2 dec=3; round; silent | following 4.2 ABC | silent: false
        # No other server is silent.
        recovering 4.2 4.2 ABC | silent | same | silent: false
        leading 4.1 ABC 2:3/3  | silent | same | silent: false
        ",
    );
}

#[test]
fn what_the_election_is_asked_for() {
    Table::new().check(
        "
        # A ballot above all that it named is news. So is one above the promise for its owner, and for a
        # leader.
        following 4.2 ABC | elected 4.2; news 4.2 | same | settled
                          | elected 4.2; news 5.3 | same | news
                          | elected 4.2; news 5.1 | same | news
                          | elected 4.2; news 3.1 | same | neither
                          | elected 6.3; news 5.1 | same | news
                          | elected 6.3; news 5.3 | same | neither
                          | news 4.2 | same | news
                          | elected 5.3; news 5.3 | same | settled
                          | elected 5.3; news 4.2 | same | neither
        leading 4.1 ABC 2:3/3 | news 4.1 | same | settled
                          | news 5.3 | same | news
                          | news 3.3 | same | neither
        # It has a change for the election.
                          | 2: NotAccepted 5.3; news 4.1 | same | neither; election: Preempted
        ",
    );
}

#[test]
fn what_is_left_for_the_next_output() {
    let table = Table::with(|config| {
        config.server_config.max_in_flight_entries = 4;
        config.server_config.max_message_entries = 3;
        config.server_config.resend_message_tick_timeout = 20;
    });
    table.check(
        "
        # An AcceptSync carries what fits in a message. The rest that may be in flight follows at once.
        leading 4.1 ABC 2:3/3
            | append def; output; 2: Accepted 4.1 len=6 dec=6; append ghi; output
            ; 2: Accepted 4.1 len=9 dec=9; output; 3: Promise 4.1 len=3 dec=3; output; timeout
            | leading 4.1 ABCDEFGHI 2:9/9 3:sync
            | timeout 1; 3: AcceptDecide 4.1 at=6 +g dec=9
            | append def; output; 2: Accepted 4.1 len=6 dec=6; output; 3: Promise 4.1 len=3 dec=3
            ; output; timeout | leading 4.1 ABCDEF 2:6/6 3:sync | timeout 20
        ",
    );
}

#[test]
fn bytes_of_undecided_entries_are_limited() {
    let table = Table::with(|config| config.server_config.max_message_bytes = 35);
    table.check(
        "
        # Each entry counts ten bytes, in the log and where it waits.
        leading 4.1 ABC 2:3/3
            | append defgh | leading 4.1 ABCdefg 2:3/3 waits=1
            | 2: AcceptDecide 4.1 at=3 +def dec=3; 2: AcceptDecide 4.1 at=6 +g dec=3
            | append de; output; append fgh; output | leading 4.1 ABCdefg 2:3/3 waits=1 |
            | append de; output; append fgh; output; 2: Accepted 4.1 len=5 dec=3; output
            | leading 4.1 ABCDEfgh 2:5/3 |
        # So does each that a new leader finds undecided.
        preparing 4.1 3.2 ABcde
            | 2: Promise 4.1 na=3.2 len=5 dec=2; output; append fgh; output
            | leading 4.1 ABcdef 2:sync waits=2 |
        preparing 4.1 3.2 ABCDE
            | 2: Promise 4.1 na=3.2 len=5 dec=5; output; append fghij; output
            | leading 4.1 ABCDEfghi 2:sync waits=1 |
        leading 4.1 ABC 2:3/3
            | append de; output; append fgh; output; 2: Accepted 4.1 len=5 dec=3; output
            | leading 4.1 ABCDEfgh 2:5/3 |
        ",
    );
}

#[test]
fn what_is_read_of_the_log() {
    Table::new().check(
        "
        following 4.2 __Cde$ | log 2 4; log 4 6; log 5 6; log 4 5 | same | Cd; e$; $; e
                             | log 0 1; log 0 2; log 1 3; log 0 6 | same | _2; _2; _2C; _2Cde$
                             | log 3 3; log 4 3; log 4 7; log 6 7 | same | none; none; none; none
                             | entry 0; entry 1; entry 2; entry 3 | same | _2; _2; C; d
                             | entry 4; entry 5; entry 6 | same | e; $; none
        following 4.2 __CDE$  | log 2 6; entry 5 | same | CDE$; $
        following 4.2 **C!   | log 0 4; log 2 4; log 0 3 | same | *2C!; C!; *2C
                             | entry 1; entry 2; entry 3; entry 4 | same | *2; C; !; none
        # After a failed write: what was decided and stored, which that write leaves as it is.
        following 4.2 AB!    | halted 0 3; halted 1 2; halted 2 3 | same | AB!; B; !
        following 4.2 __Cde  | halted 0 3; halted 2 3; halted 2 4 | same | _2C; C; none
                             | 2: Decide 4.2 dec=4; halted 2 4; halted 2 5 | following 4.2 __CDe | CD; none
                             | 2: Trim to=3; halted 2 3 | following 4.2 ___de | none; 2: Compacted to=3
        # What is not written yet, too.
        following 4.2 ABc    | 2: AcceptDecide 4.2 at=3 +de dec=4; log 1 4; log 3 5; entry 2; entry 3; entry 4
                             | following 4.2 ABCDe | BCD; De; C; D; e; 2: Accepted 4.2 len=5 dec=4
        ",
    );
}

#[test]
fn entries_of_the_last_write() {
    Table::new().check(
        "
        # Messages share the entries that were written for them, where they are those that are to be sent.
        leading 4.1 ABC 2:3/3
            | append de; 3: CatchUpRequest dec=1 | leading 4.1 ABCde 2:3/3
            | 2: AcceptDecide 4.1 at=3 +de dec=3; 3: CatchUpChunk at=1 +bc dec=3
            | append de; 3: PrepareReq 4.1 na=4.1 len=2 dec=2 | leading 4.1 ABCde 2:3/3 3:2/2
            | 2: AcceptDecide 4.1 at=3 +de dec=3; 3: AcceptDecide 4.1 at=2 +cde dec=3
        # They are forgotten with that output: another log may take their place.
            | append de; output; elected 5.3; 3: Prepare 5.3 na=3.2 len=5 dec=3
            ; 3: AcceptSync 5.3 at=3 +fg dec=5; output; 2: CatchUpRequest dec=3
            | following 5.3 ABCFG | 2: CatchUpChunk at=3 +fg dec=5
        ",
    );
}

#[test]
fn what_does_not_fit_waits_for_an_acknowledgement() {
    let table = Table::with(|config| {
        config.server_config.max_in_flight_entries = 3;
        config.server_config.max_message_entries = 3;
        config.server_config.resend_message_tick_timeout = 20;
    });
    table.check(
        "
        leading 4.1 ABC 2:3/3
            | append def; output; 2: Accepted 4.1 len=6 dec=6; append ghi; output
            ; 2: Accepted 4.1 len=9 dec=9; output; 3: Promise 4.1 len=3 dec=3; output; timeout
            | leading 4.1 ABCDEFGHI 2:9/9 3:sync | timeout 20
        ",
    );
}

#[test]
fn a_storage_that_has_lost_entries() {
    Table::new().check(
        "
        # It returns fewer than it holds: the replica halts, and sends none of them.
        following 4.2 AWCd | 3: CatchUpRequest dec=1 | same | halted
        ",
    );
}

#[test]
fn what_the_status_reports() {
    Table::new().check(
        "
        # Entries get into the log soon where the election knows the leader that is followed here.
        following 4.2 ABC      | status 4.2; status 5.3; status 0 | same
                               | Following Ready; Following Waits; Following Waits
        leading 4.1 ABC 2:3/3  | status 4.1; status 5.3 | same | Leading Ready; Leading Waits
        preparing 4.1 3.2 ABc  | status 4.1 | same | Preparing Waits
        promised 4.2 3.3 ABc   | status 4.2 | same | Promised Waits
        recovering 4.2 4.2 ABc | status 4.2 | same | Recovering Waits
        ",
    );
}
