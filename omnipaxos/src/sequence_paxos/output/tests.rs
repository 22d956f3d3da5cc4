//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`.

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
        # A follower asks its leader, and who has none asks anyone.
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
        # It is repeated as an AcceptSync is, and once the follower has promised anew.
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
