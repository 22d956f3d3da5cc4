//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`.

use crate::sequence_paxos::tests::Table;

#[test]
fn prepare() {
    Table::new().check(
        "
        # A lower ballot is refused, with the promise.
        following 4.2 ABc        | 3: Prepare 3.3 | same | 3: NotAccepted 4.2
        promised 4.2 2.3 ABc     | 3: Prepare 3.3 | same | 3: NotAccepted 4.2
        recovering 4.2 4.2 ABc   | 3: Prepare 3.3 | same | 3: NotAccepted 4.2
        preparing 4.1 2.3 ABc    | 3: Prepare 3.3 | same | 3: NotAccepted 4.1
        leading 4.1 ABc 2:sync   | 3: Prepare 3.3 | same | 3: NotAccepted 4.1

        # A higher ballot is promised. The number decides, then the id of the owner.
        following 4.2 ABc        | 3: Prepare 5.3 na=4.2 len=3 | promised 5.3 4.2 ABc
                                 | 3: Promise 5.3 na=4.2 len=3 dec=2
                                 | 3: Prepare 4.3 na=4.2 len=3 | promised 4.3 4.2 ABc
                                 | 3: Promise 4.3 na=4.2 len=3 dec=2
        following 4.3 ABc        | 2: Prepare 4.2 | same | 2: NotAccepted 4.3
        recovering 0 0 -         | 2: Prepare 1.2 | promised 1.2 0 - | 2: Promise 1.2
        recovering 3.3 2.3 ABc   | 2: Prepare 4.2 na=3.3 len=3 | promised 4.2 2.3 ABc
                                 | 2: Promise 4.2 na=2.3 len=3 dec=2
        preparing 4.1 2.3 ABc    | 3: Prepare 5.3 na=3.3 len=3 | promised 5.3 2.3 ABc
                                 | 3: Promise 5.3 na=2.3 len=3 dec=2

        # A promise has what the leader lacks, from its decided index on, if this log is
        # more recent:
        # of a higher accepted round, or of the same and longer.
        following 4.2 ABc        | 3: Prepare 5.3 na=3.3 len=9 dec=1 | promised 5.3 4.2 ABc
                                 | 3: Promise 5.3 na=4.2 len=3 dec=2 at=1 +bc
                                 | 3: Prepare 5.3 na=4.2 len=2 dec=2 | promised 5.3 4.2 ABc
                                 | 3: Promise 5.3 na=4.2 len=3 dec=2 at=2 +c
        following 4.2 ABc$       | 3: Prepare 5.3 na=4.2 len=3 dec=2 | promised 5.3 4.2 ABc$
                                 | 3: Promise 5.3 na=4.2 len=4 dec=2 at=2 +c$
        following 4.2 ABC!       | 3: Prepare 5.3 na=4.2 len=3 dec=3 | promised 5.3 4.2 ABC!
                                 | 3: Promise 5.3 na=4.2 len=4 dec=4 at=3 +$

        # The same ballot again: the acknowledgement of what is accepted in it stands for a promise.
        following 4.2 ABc        | 2: Prepare 4.2 na=3.2 len=1 | same | 2: Accepted 4.2 len=3 dec=2
        promised 4.2 2.3 ABc     | 2: Prepare 4.2 na=2.3 len=3 | same
                                 | 2: Promise 4.2 na=2.3 len=3 dec=2
        # A restarted server reports that it has accepted the ballot.
        recovering 4.2 4.2 ABc   | 2: Prepare 4.2 na=4.2 len=3 | same
                                 | 2: PrepareReq 4.2 na=4.2 len=3 dec=2
        # It has promised and not accepted: it promises again.
        recovering 4.2 2.3 ABc   | 2: Prepare 4.2 na=3.3 len=3 | promised 4.2 2.3 ABc
                                 | 2: Promise 4.2 na=2.3 len=3 dec=2
        # I4: no other server leads in the ballot of this server.
        leading 4.1 ABc 2:sync   | 3: Prepare 4.1 na=3.3 len=3 | same |
        ",
    );
}

#[test]
fn accept_sync() {
    Table::new().check(
        "
        # It replaces the log from the decided index on, as one unit, and counts as accepted in
        # its ballot.
        promised 4.2 3.3 ABc   | 2: AcceptSync 4.2 at=2 +de dec=3 | following 4.2 ABDe
                               | 2: Accepted 4.2 len=4 dec=3
                               | 2: AcceptSync 4.2 at=2 dec=2 | following 4.2 AB
                               | 2: Accepted 4.2 len=2 dec=2
        # It may begin before: what is decided here stays (SC3).
                               | 2: AcceptSync 4.2 at=0 +abde dec=2 | following 4.2 ABde
                               | 2: Accepted 4.2 len=4 dec=2
        promised 1.2 0 -       | 2: AcceptSync 1.2 at=0 +ab | following 1.2 ab
                               | 2: Accepted 1.2 len=2
        # The stop sign comes and goes with the log.
        promised 4.2 3.3 ABc$  | 2: AcceptSync 4.2 at=2 +c dec=3 | following 4.2 ABC
                               | 2: Accepted 4.2 len=3 dec=3
        promised 4.2 3.3 ABc   | 2: AcceptSync 4.2 at=2 +d$ dec=4 | following 4.2 ABD!
                               | 2: Accepted 4.2 len=4 dec=4
        # After a decided stop sign there is nothing to replace (I9).
        promised 4.2 3.3 AB!   | 2: AcceptSync 4.2 at=2 +$ dec=3 | following 4.2 AB!
                               | 2: Accepted 4.2 len=3 dec=3
        # It may begin beyond the decided index where the leader trimmed, but not beyond the log.
        promised 4.2 3.3 ABc   | 2: AcceptSync 4.2 at=3 +d dec=3 | following 4.2 ABCd
                               | 2: Accepted 4.2 len=4 dec=3
                               | 2: AcceptSync 4.2 at=4 +e dec=5 | same
                               | 2: Promise 4.2 na=3.3 len=3 dec=2
        # It ends before what is decided here: it is not applied, and the leader learns that.
                               | 2: AcceptSync 4.2 at=0 +a dec=1 | same
                               | 2: Promise 4.2 na=3.3 len=3 dec=2
        # A copy changes nothing: within a round a follower only appends (I8).
        following 4.2 ABc      | 2: AcceptSync 4.2 at=2 +c dec=2 | same
                               | 2: Accepted 4.2 len=3 dec=2
                               | 2: AcceptSync 4.2 at=2 dec=2 | same | 2: Accepted 4.2 len=3 dec=2
        # A repeated AcceptSync may have more entries.
                               | 2: AcceptSync 4.2 at=2 +cde dec=4 | following 4.2 ABCDe
                               | 2: Accepted 4.2 len=5 dec=4
                               | 2: AcceptSync 4.2 at=2 +c$ dec=4 | following 4.2 ABC!
                               | 2: Accepted 4.2 len=4 dec=4
                               | 2: AcceptSync 4.2 at=5 +f dec=5 | following 4.2 ABC
                               | 2: Accepted 4.2 len=3 dec=3 gap
        # A restarted server has accepted the ballot, too.
        recovering 4.2 4.2 ABc | 2: AcceptSync 4.2 at=2 +cd dec=2 | following 4.2 ABcd
                               | 2: Accepted 4.2 len=4 dec=2
        # A ballot has one owner (I4): no other server syncs in the ballot of this server.
        leading 4.1 ABc 2:sync | 2: AcceptSync 4.1 at=0 +xyz dec=3 | same |
        preparing 4.1 3.1 ABc  | 2: AcceptSync 4.1 at=0 +xyz dec=3 | same |
        ",
    );
}

#[test]
fn accept_decide() {
    Table::new().check(
        "
        # New entries are appended, and acknowledged with all before them.
        following 4.2 ABc      | 2: AcceptDecide 4.2 at=3 +de dec=3 | following 4.2 ABCde
                               | 2: Accepted 4.2 len=5 dec=3
        # A copy, in whole or in part.
                               | 2: AcceptDecide 4.2 at=2 +c dec=2 | same
                               | 2: Accepted 4.2 len=3 dec=2
                               | 2: AcceptDecide 4.2 at=1 +bcd dec=2 | following 4.2 ABcd
                               | 2: Accepted 4.2 len=4 dec=2
        # A gap: nothing is appended, and no more is decided than is here (I1).
                               | 2: AcceptDecide 4.2 at=4 +e dec=4 | following 4.2 ABC
                               | 2: Accepted 4.2 len=3 dec=3 gap
        # A gap, and what was missing after it: the last report counts.
                               | 2: AcceptDecide 4.2 at=4 +e; 2: AcceptDecide 4.2 at=3 +d
                               | following 4.2 ABcd | 2: Accepted 4.2 len=4 dec=2
        # Without entries it asks what is here.
                               | 2: AcceptDecide 4.2 at=3 dec=3 | following 4.2 ABC
                               | 2: Accepted 4.2 len=3 dec=3
                               | 2: AcceptDecide 4.2 at=9 dec=2 | same
                               | 2: Accepted 4.2 len=3 dec=2 gap
        # An old decided index does not go back (I3).
                               | 2: AcceptDecide 4.2 at=3 +d | following 4.2 ABcd
                               | 2: Accepted 4.2 len=4 dec=2
        # One acknowledgement an output.
                               | 2: AcceptDecide 4.2 at=3 +d; 2: AcceptDecide 4.2 at=4 +e
                               | following 4.2 ABcde | 2: Accepted 4.2 len=5 dec=2
        # Another ballot than the promised one.
                               | 2: AcceptDecide 3.2 at=3 +d | same | 2: NotAccepted 4.2
                               | 3: AcceptDecide 5.3 at=3 +d dec=3 | same
                               | 3: PrepareReq 4.2 na=4.2 len=3 dec=2
        recovering 0 0 -       | 2: AcceptDecide 1.2 at=0 +a | same | 2: PrepareReq 0
        # Promised and not synced: the entries would follow on another log.
        promised 4.2 3.3 ABc   | 2: AcceptDecide 4.2 at=3 +d dec=3 | same |
        recovering 4.2 3.3 ABc | 2: AcceptDecide 4.2 at=3 +d dec=3 | same
                               | 2: PrepareReq 4.2 na=3.3 len=3 dec=2
        # Restarted: the log was accepted in this ballot.
        recovering 4.2 4.2 ABc | 2: AcceptDecide 4.2 at=3 +d dec=3 | following 4.2 ABCd
                               | 2: Accepted 4.2 len=4 dec=3
        leading 4.1 ABc 2:sync | 2: AcceptDecide 4.1 at=3 +d dec=3 | same |
        # I9: nothing comes after a stop sign.
        following 4.2 ABc$     | 2: AcceptDecide 4.2 at=3 +d dec=3 | following 4.2 ABC$
                               | 2: Accepted 4.2 len=4 dec=3
        # I5: what the storage did not write is not acknowledged.
        following 4.2 ABc      | 2: AcceptDecide 4.2 at=3 +x dec=2 | same | halted
        ",
    );
}

#[test]
fn accept_stop_sign() {
    Table::new().check(
        "
        following 4.2 ABc    | 2: AcceptStopSign 4.2 at=3 dec=3 | following 4.2 ABC$
                             | 2: Accepted 4.2 len=4 dec=3
                             | 2: AcceptStopSign 4.2 at=3 dec=4 | following 4.2 ABC!
                             | 2: Accepted 4.2 len=4 dec=4
        # A gap before it.
                             | 2: AcceptStopSign 4.2 at=4 dec=3 | following 4.2 ABC
                             | 2: Accepted 4.2 len=3 dec=3 gap
        # Within a round a follower only appends (I8): a stop sign where an entry is
        # changes nothing.
                             | 2: AcceptStopSign 4.2 at=2 dec=2 | same | 2: Accepted 4.2 len=3 dec=2
        # A copy.
        following 4.2 ABc$   | 2: AcceptStopSign 4.2 at=3 dec=4 | following 4.2 ABC!
                             | 2: Accepted 4.2 len=4 dec=4
        following 4.2 ABC!   | 2: AcceptStopSign 4.2 at=3 dec=4 | same | 2: Accepted 4.2 len=4 dec=4
        following 4.2 -      | 2: AcceptStopSign 4.2 at=0 | following 4.2 $ | 2: Accepted 4.2 len=1
        # Another ballot, or not in step.
        following 4.2 ABc    | 2: AcceptStopSign 3.2 at=3 | same | 2: NotAccepted 4.2
                             | 3: AcceptStopSign 5.3 at=3 | same
                             | 3: PrepareReq 4.2 na=4.2 len=3 dec=2
        promised 4.2 3.3 ABc | 2: AcceptStopSign 4.2 at=3 dec=3 | same |
        ",
    );
}

#[test]
fn decide() {
    Table::new().check(
        "
        # No answer.
        following 4.2 ABcd     | 2: Decide 4.2 dec=3 | following 4.2 ABCd |
                               | 2: Decide 4.2 dec=4 | following 4.2 ABCD |
        # I3: it does not go back.
                               | 2: Decide 4.2 dec=1 | same |
        # Beyond the log: what is missing was lost.
                               | 2: Decide 4.2 dec=5 | following 4.2 ABCD
                               | 2: Accepted 4.2 len=4 dec=4 gap
        following 4.2 ABc$     | 2: Decide 4.2 dec=3 | following 4.2 ABC$ |
                               | 2: Decide 4.2 dec=4 | following 4.2 ABC! |
        # Only the leader of the promised ballot, which has synced this log, counts.
        following 4.2 ABcd     | 2: Decide 3.2 dec=3 | same | 2: NotAccepted 4.2
                               | 3: Decide 5.3 dec=3 | same | 3: PrepareReq 4.2 na=4.2 len=4 dec=2
        promised 4.2 3.3 ABcd  | 2: Decide 4.2 dec=3 | same |
        recovering 4.2 3.3 ABc | 2: Decide 4.2 dec=3 | same | 2: PrepareReq 4.2 na=3.3 len=3 dec=2
        recovering 4.2 4.2 ABc | 2: Decide 4.2 dec=3 | following 4.2 ABC |
        leading 4.1 ABc 2:sync | 2: Decide 4.1 dec=3 | same |
        ",
    );
}

#[test]
fn catch_up_redirect() {
    Table::new().check(
        "
        # The source is asked for what is decided, whatever is accepted here.
        promised 4.2 3.3 ABc   | 2: CatchUpRedirect 4.2 source=3 dec=9 | same
                               | 3: CatchUpRequest dec=2
        # What is decided in this ballot is here already, up to the end of this log.
        following 4.2 ABc      | 2: CatchUpRedirect 4.2 source=3 dec=9 | following 4.2 ABC
                               | 3: CatchUpRequest dec=3
        # A source that does not answer here: the leader takes its place.
                               | round 2; 2: CatchUpRedirect 4.2 source=3 dec=9 | following 4.2 ABC
                               | 2: CatchUpRequest dec=3
        # All is here already: the leader learns that.
        following 4.2 ABC      | 2: CatchUpRedirect 4.2 source=3 dec=3 | same
                               | 2: Accepted 4.2 len=3 dec=3
        promised 4.2 3.3 ABC   | 2: CatchUpRedirect 4.2 source=3 dec=3 | same
                               | 2: Promise 4.2 na=3.3 len=3 dec=3
        # A copy while the source may answer.
        promised 4.2 3.3 ABc
            | 2: CatchUpRedirect 4.2 source=3 dec=9; output; 2: CatchUpRedirect 4.2 source=2 dec=9
            | same |
        # Another ballot.
                               | 2: CatchUpRedirect 3.2 source=3 dec=9 | same | 2: NotAccepted 4.2
                               | 3: CatchUpRedirect 5.3 source=3 dec=9 | same
                               | 3: PrepareReq 4.2 na=3.3 len=3 dec=2
        ",
    );
}

#[test]
fn a_promise_is_made_once_for_all() {
    Table::new().check(
        "
        # What a lower leader sent before is refused after it: its messages were on their way.
        following 4.2 ABc | 3: Prepare 5.3 na=4.2 len=3; 2: AcceptDecide 4.2 at=3 +d dec=3
                          | promised 5.3 4.2 ABc
                          | 3: Promise 5.3 na=4.2 len=3 dec=2; 2: NotAccepted 5.3
        # Of two Prepares between two outputs the higher one is answered.
                          | 3: Prepare 5.3 na=4.2 len=3; 2: Prepare 6.2 na=4.2 len=3
                          | promised 6.2 4.2 ABc | 2: Promise 6.2 na=4.2 len=3 dec=2
        # A log that is not accepted in the new ballot is promised as of the old one.
                          | 3: Prepare 5.3 na=4.2 len=3; output; 2: Prepare 6.2 na=3.2 len=9 dec=2
                          | promised 6.2 4.2 ABc | 2: Promise 6.2 na=4.2 len=3 dec=2 at=2 +c
        # It is repeated when the leader answers again.
        promised 4.2 3.3 ABc | reconnected 2 | same | 2: Promise 4.2 na=3.3 len=3 dec=2
                             | reconnected 3 | same |
        ",
    );
}

#[test]
fn a_leader_that_did_not_answer_is_acknowledged_again() {
    let (many, few) = ("d".repeat(70), "d".repeat(64));
    Table::new().check(&format!(
        "
        following 4.2 ABc    | asked 2 | same | 2: Accepted 4.2 len=3 dec=2
                             | asked 3 | same |
        promised 4.2 3.3 ABc | asked 2 | same |
        # What waits for the leader leaves with the heartbeat reply: directly, unless there is a relay.
        following 4.2 ABc
            | propose d; output; round 3; output; asked 2 | following 4.2 ABc pending=1
            | 2: Accepted 4.2 len=3 dec=2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | round 3; output; propose d; output; asked 2 | following 4.2 ABc pending=1
            | 2: Accepted 4.2 len=3 dec=2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; output; round 3 via=3; output; asked 2 | following 4.2 ABc pending=1
            | 2: Accepted 4.2 len=3 dec=2; 3: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | read; output; round 3; output; asked 2 | same
            | 2: Accepted 4.2 len=3 dec=2; 2: ReadIndexRequest id=1/7/1 n=4.2
        # Not to another server. Once in each round, without a backoff, and only a little.
            | propose d; output; round 3; output; asked 3 | following 4.2 ABc pending=1 |
            | propose d; output; round 3; output; asked 2; output; asked 2 | following 4.2 ABc pending=1
            | 2: Accepted 4.2 len=3 dec=2
            | propose d; output; round 3; asked 2; output; round 3; asked 2; output; round 3; output; asked 2
            | following 4.2 ABc pending=1
            | 2: Accepted 4.2 len=3 dec=2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose {many}; output; round 3; asked 2; output; round 3; output; asked 2
            | following 4.2 ABc pending=70
            | 2: Accepted 4.2 len=3 dec=2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +{few}
        # A leader that sends requests may get a read with the reply. So the count begins anew after a refusal.
            | round 3; round 3; round 3; round 3; asked 2; read; output; round 3; read; output; asked 2
            ; output; round 3; output; round 3; output; round 3; state 1; state 2; round 3; state 2 | same
            | Unreachable; waiting; Unreachable
        ",
    ));
}

#[test]
fn a_promise_fits_into_a_message() {
    let table = Table::with(|config| config.server_config.max_message_entries = 2);
    table.check(
        "
        following 4.2 ABcd  | 3: Prepare 5.3 na=3.3 len=2 dec=2 | promised 5.3 4.2 ABcd
                            | 3: Promise 5.3 na=4.2 len=4 dec=2 at=2 +cd
        # Too much: the leader must first catch up on what is decided here.
        following 4.2 ABCde | 3: Prepare 5.3 na=3.3 len=2 dec=2 | promised 5.3 4.2 ABCde
                            | 3: Promise 5.3 na=4.2 len=5 dec=3
        # It has decided as much. An undecided tail travels as a whole.
        following 4.2 ABcde | 3: Prepare 5.3 na=3.3 len=2 dec=2 | promised 5.3 4.2 ABcde
                            | 3: Promise 5.3 na=4.2 len=5 dec=2 at=2 +cde
        # A snapshot never travels in a promise.
        following 4.2 **C   | 3: Prepare 5.3 na=3.3 len=2 dec=1 | promised 5.3 4.2 **C
                            | 3: Promise 5.3 na=4.2 len=3 dec=3
        # A trim proves that every server holds what was trimmed.
        following 4.2 __C   | 3: Prepare 5.3 na=3.3 len=2 dec=1 | promised 5.3 4.2 __C
                            | 3: Promise 5.3 na=4.2 len=3 dec=3 at=2 +c
        ",
    );
}
