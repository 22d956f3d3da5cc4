//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`: above all I11.

use crate::{membership::FlexibleQuorum, sequence_paxos::tests::Table};

#[test]
fn a_read_at_a_follower() {
    Table::new().check(
        "
        # The leader is asked, by a number that stands for all reads so far.
        following 4.2 ABc      | read | same | read 1; 2: ReadIndexRequest id=1/7/1 n=4.2
                               | read; read | same | read 1; read 1; 2: ReadIndexRequest id=1/7/1 n=4.2
                               | read; output; read | same | read 2; 2: ReadIndexRequest id=1/7/2 n=4.2
        promised 4.2 3.3 ABc   | read | same | read 1; 2: ReadIndexRequest id=1/7/1 n=4.2
        # Confirmed at an index that is decided here, and at an index that is not decided here yet.
        following 4.2 ABc      | read; output; 2: ReadIndexResponse id=1/7/1 at=2; state 1 | same
                               | ready at 2
                               | read; output; 2: ReadIndexResponse id=1/7/1 at=3; state 1 | same
                               | waiting
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; 2: Decide 4.2 dec=3; state 1
            | following 4.2 ABC | ready at 3
        # An answer stands for lower numbers, too.
            | read; output; read; output; 2: ReadIndexResponse id=1/7/2 at=2; state 1; state 2
            | same
            | ready at 2; ready at 2
            | read; output; read; output; 2: ReadIndexResponse id=1/7/1 at=2; state 1; state 2
            | same
            | ready at 2; waiting
        # The latest that can be served.
                               | read; output; ready | same | none
            | read; output; 2: ReadIndexResponse id=1/7/1 at=2; ready | same | up to 1
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; ready | same | none
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; 2: Decide 4.2 dec=3; ready
            | following 4.2 ABC | up to 1
        # Not to another incarnation, and not to a request that was not made.
        following 4.2 ABc      | read; output; 2: ReadIndexResponse id=1/6/1 at=2; state 1 | same
                               | waiting
                               | read; output; 2: ReadIndexResponse id=1/7/2 at=2; state 1 | same
                               | waiting
                               | read; 2: ReadIndexResponse id=1/7/1 at=2; state 1 | same
                               | read 1; waiting; 2: ReadIndexRequest id=1/7/1 n=4.2
                               | state 1 | same | Unknown
        # The answer stays true, whichever server leads by then; an index beyond the new log is
        # asked for again.
            | read; output; 2: ReadIndexResponse id=1/7/1 at=2; 3: Prepare 5.3 na=4.2 len=3; state 1
            | promised 5.3 4.2 ABc | ready at 2; 3: Promise 5.3 na=4.2 len=3 dec=2
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; 3: Prepare 5.3 na=4.2 len=3
            ; 3: AcceptSync 5.3 at=2 dec=2; output; state 1; round
            | following 5.3 AB | waiting; 3: ReadIndexRequest id=1/7/1 n=5.3
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; 3: Prepare 5.3 na=4.2 len=3
            ; 3: AcceptSync 5.3 at=2 +c dec=2; output; state 1 | following 5.3 ABc | waiting
        # Without an answer it is asked for each round. The number that was the latest when it was repeated is
        # repeated beside later ones until it is answered: a later one may get no answer either.
                               | read; output; round | same | 2: ReadIndexRequest id=1/7/1 n=4.2
                               | read; output; read; output; round | same | 2: ReadIndexRequest id=1/7/2 n=4.2
            | read; output; round; output; read; output; round | same
            | 2: ReadIndexRequest id=1/7/1 n=4.2; 2: ReadIndexRequest id=1/7/2 n=4.2
            | read; output; round; output; read; output; round; output; read; output; round | same
            | 2: ReadIndexRequest id=1/7/1 n=4.2; 2: ReadIndexRequest id=1/7/3 n=4.2
            | read; output; round; output; read; output; round; output; read; output
            ; 2: ReadIndexResponse id=1/7/1 at=2; read | same | read 4; 2: ReadIndexRequest id=1/7/4 n=4.2
            | read; output; round; output; read; output; round; output; read | same
            | read 3; 2: ReadIndexRequest id=1/7/1 n=4.2; 2: ReadIndexRequest id=1/7/3 n=4.2
            | read; output; round; output; read; output; 2: ReadIndexResponse id=1/7/1 at=2; round | same
            | 2: ReadIndexRequest id=1/7/2 n=4.2
        # Also while it waits for entries: they may never be decided. A late answer of an earlier leader may
        # name them, and the present leader names a lower index for the same number.
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; round | same | 2: ReadIndexRequest id=1/7/1 n=4.2
            | read; output; 3: Prepare 5.3 na=4.2 len=3; 3: AcceptSync 5.3 at=2 dec=2; output
            ; 2: ReadIndexResponse id=1/7/1 at=3; state 1; 3: ReadIndexResponse id=1/7/1 at=2; state 1
            | following 5.3 AB | waiting; ready at 2
            | read; output; 3: Prepare 5.3 na=4.2 len=3; 3: AcceptSync 5.3 at=2 dec=2; output
            ; 2: ReadIndexResponse id=1/7/1 at=3; round | following 5.3 AB | 3: ReadIndexRequest id=1/7/1 n=5.3
        # Without a route to the leader it is asked directly, at the end of the round as the heartbeats are.
        # When a fourth round ends without a route, it is refused. A route in one of them begins the
        # count anew. Through a peer that the leader answers.
            | read; output; round 3; state 1 | same | waiting; 2: ReadIndexRequest id=1/7/1 n=4.2
            | read; output; round 3; round 3; round 3; state 1 | same
            | waiting; 2: ReadIndexRequest id=1/7/1 n=4.2
            | read; output; round 3; round 3; round 3; round 3; state 1 | same | Unreachable
            | round 3; round 3; round 3; round 3; read; output; state 1; round 3; state 1 | same
            | waiting; Unreachable
            | read; output; round 3; round 3; round 3; round 2; output; round 3; state 1 | same
            | waiting; 2: ReadIndexRequest id=1/7/1 n=4.2
                               | read; output; round 3 via=3; state 1 | same
                               | waiting; 3: ReadIndexRequest id=1/7/1 n=4.2
        # No leader is known.
        recovering 4.2 4.2 ABc | read | same | NoLeader
                               | elected 4.2; read | same | read 1; 2: ReadIndexRequest id=1/7/1 n=4.2
        preparing 4.1 3.2 ABc  | read | same | Preparing
        # The configuration has ended.
        following 4.2 ABC!     | read | same | Reconfigured
        following 4.2 ABC$     | read; output; 2: Decide 4.2 dec=4; state 1 | following 4.2 ABC!
                               | Reconfigured
        ",
    );
}

#[test]
fn a_restarted_server_without_incarnations_cannot_ask() {
    let table = Table::with(|config| config.server_config.incarnation = None);
    table.check(
        "
        following 4.2 ABc     | read | same | NoIncarnation
        leading 4.1 ABC 2:3/3 | read | same
            | read 1; 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
        # A new one is its first incarnation, which has a number once it has promised.
        recovering 0 0 -      | elected 1.2; read | same | read 1
        recovering 0 0 -      | 2: Prepare 1.2; read | promised 1.2 0 -
                              | read 1; 2: Promise 1.2; 2: ReadIndexRequest id=1/0/1 n=1.2
        ",
    );
}

#[test]
fn a_read_at_the_leader() {
    Table::new().check(
        "
        # A write quorum confirms that it has promised nothing higher.
        leading 4.1 ABC 2:3/3  | read | same
            | read 1; 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
            | read; output; 3: LeadershipCheckAck 4.1 round=1; output; state 1 | same | ready at 3
        # Before that it waits.
                               | read; output; state 1 | same | waiting
        # The answers of another round or ballot, and a refusal, do not count.
            | read; output; 3: LeadershipCheckAck 4.1; output; state 1 | same | waiting
            | read; output; 3: LeadershipCheckAck 4.1 round=2; output; state 1 | same | waiting
            | read; output; 3: LeadershipCheckAck 3.1 round=1; output; state 1 | same | waiting
            | read; output; 3: NotAccepted 5.3; state 1 | same | waiting; election: Preempted
        # What is not decided when it is requested is decided after it.
            | append d; read; output; 3: LeadershipCheckAck 4.1 round=1; output; state 1
            | leading 4.1 ABCd 2:3/3 | ready at 3
        # But what was adopted may have been decided before.
        leading 4.1 ABc 2:sync | read; output; 2: LeadershipCheckAck 4.1 round=1; output; state 1
                               | same | waiting
            | read; output; 2: LeadershipCheckAck 4.1 round=1; output; 2: Accepted 4.1 len=3 dec=3
            ; state 1 | leading 4.1 ABC 2:3/3 | ready at 3; 2: Decide 4.1 dec=3
        # Those that have not answered are asked again, with the heartbeats: a link may be open only then.
        leading 4.1 ABC 2:3/3  | read; output; round 2 | same
            | 3: Prepare 4.1 na=4.1 len=3 dec=3; 2: LeadershipCheck 4.1 round=1
            ; 3: LeadershipCheck 4.1 round=1
        # What is requested later waits for the next check, after the one on its way.
                               | read; output; read | same | read 2
            | read; output; read; output; 3: LeadershipCheckAck 4.1 round=1; state 2; output
            ; state 1
            ; state 2 | same | ready at 3; waiting
            | read; output; read; output; 3: LeadershipCheckAck 4.1 round=1 | same
            | 2: LeadershipCheck 4.1 round=2; 3: LeadershipCheck 4.1 round=2
        # A later leader knows what was chosen; so the read continues.
            | read; output; 3: Prepare 5.3 na=4.1 len=3 dec=3 | promised 5.3 4.1 ABC
            | 3: Promise 5.3 na=4.1 len=3 dec=3
            | read; output; 3: Prepare 5.3 na=4.1 len=3 dec=3; output; round | promised 5.3 4.1 ABC
            | 3: ReadIndexRequest id=1/7/1 n=5.3
        # The configuration has ended.
        leading 4.1 ABC! 2:4/4 | read | same | Reconfigured
        # A follower that becomes the leader reads by itself.
        following 4.2 ABc      | read; output; elected 5.1; output
                               ; 3: Promise 5.1 na=4.2 len=3 dec=2
            | leading 5.1 ABc 3:sync
            | 3: AcceptSync 5.1 at=2 +c dec=2; 2: LeadershipCheck 5.1 round=1
            ; 3: LeadershipCheck 5.1 round=1
        ",
    );
}

#[test]
fn requests_of_other_servers() {
    Table::new().check(
        "
        leading 4.1 ABC 2:3/3 | 2: ReadIndexRequest id=2/5/1 | same
            | 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
            | 2: ReadIndexRequest id=2/5/1; output; 3: LeadershipCheckAck 4.1 round=1 | same
            | 2: ReadIndexResponse id=2/5/1 at=3
        # The answer goes where the request came from.
            | 3: ReadIndexRequest id=2/5/1; output; 3: LeadershipCheckAck 4.1 round=1 | same
            | 3: ReadIndexResponse id=2/5/1 at=3
        # A copy while the check is on its way is no other request. The check is repeated
        # each round.
            | 2: ReadIndexRequest id=2/5/1; output; 2: ReadIndexRequest id=2/5/1; output
            ; 3: LeadershipCheckAck 4.1 round=1 | same | 2: ReadIndexResponse id=2/5/1 at=3
            | 2: ReadIndexRequest id=2/5/1; output; round 2 | same
            | 3: Prepare 4.1 na=4.1 len=3 dec=3; 2: LeadershipCheck 4.1 round=1
            ; 3: LeadershipCheck 4.1 round=1
        # It is answered again at once, at the old index; another incarnation sends another request.
            | 2: ReadIndexRequest id=2/5/1; output; 3: LeadershipCheckAck 4.1 round=1; output
            ; append d; output; 2: Accepted 4.1 len=4 dec=3; output; 2: ReadIndexRequest id=2/5/1
            | leading 4.1 ABCD 2:4/3 | 2: ReadIndexResponse id=2/5/1 at=3
            | 2: ReadIndexRequest id=2/5/1; output; 3: LeadershipCheckAck 4.1 round=1; output
            ; 2: ReadIndexRequest id=2/6/1 | same
            | 2: LeadershipCheck 4.1 round=2; 3: LeadershipCheck 4.1 round=2
            | 2: ReadIndexRequest id=2/5/1; output; 2: ReadIndexRequest id=2/6/1
            ; 3: LeadershipCheckAck 4.1 round=1 | same
            | 2: LeadershipCheck 4.1 round=2; 3: LeadershipCheck 4.1 round=2
        # Its own request comes back.
                              | 2: ReadIndexRequest id=1/7/1 | same |
        # A leader that is not promised does not know what was decided.
        preparing 4.1 3.2 ABc | 2: ReadIndexRequest id=2/5/1 | same |
        # Nothing is read in a configuration that has ended.
        leading 4.1 ABC! 2:4/4 | 2: ReadIndexRequest id=2/5/1 | same |
        # A server that does not lead passes it on once, and the answer back.
        following 4.2 ABc     | 3: ReadIndexRequest id=3/5/1 | same
            | 2: ReadIndexRequest id=3/5/1 hops=1
                              | 3: ReadIndexRequest id=2/5/1 | same |
                              | 2: ReadIndexRequest id=2/5/1 | same |
                              | round 3; 3: ReadIndexRequest id=3/5/1 | same |
            | 2: ReadIndexResponse id=3/5/1 at=9 | same | 3: ReadIndexResponse id=3/5/1 at=9 hops=1
                              | 2: ReadIndexResponse id=3/5/1 at=9 hops=16 | same |
                              | 3: ReadIndexResponse id=3/5/1 at=9 | same |
        ",
    );
}

#[test]
fn a_request_confirms_the_ballot_that_its_server_has_promised() {
    let checks = "2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1";
    let rows = "
        # With the leader its server is a write quorum.
        leading 4.1 ABC 2:3/3 | 2: ReadIndexRequest id=2/5/1 n=4.1 | same
                              | 2: ReadIndexResponse id=2/5/1 at=3
        # It has promised another ballot, or none.
        leading 4.1 ABC 2:3/3 | 2: ReadIndexRequest id=2/5/1 n=3.2 | same | CHECKS
                              | 2: ReadIndexRequest id=2/5/1 n=5.3 | same | CHECKS
                              | 2: ReadIndexRequest id=2/5/1 | same | CHECKS
        # It came through a relay: storages are identified between sender and receiver.
                              | 3: ReadIndexRequest id=2/5/1 n=4.1 hops=1 | same | CHECKS
        # No member.
                              | 9: ReadIndexRequest id=9/5/1 n=4.1 | same | CHECKS
        # A leader that is not promised does not know what was decided.
        preparing 4.1 3.2 ABc | 2: ReadIndexRequest id=2/5/1 n=4.1 | same |
        # It answers earlier requests, too, but not the check that these wait for, nor later ones.
        leading 4.1 ABC 2:3/3
            | 2: ReadIndexRequest id=2/5/1; output; 2: ReadIndexRequest id=2/5/2 n=4.1 | same
            | 2: ReadIndexResponse id=2/5/2 at=3
            | 2: ReadIndexRequest id=2/5/1; output; 2: ReadIndexRequest id=2/5/2 n=4.1; output
            ; 3: LeadershipCheckAck 4.1 round=1 | same |
            | 2: ReadIndexRequest id=2/5/3; output; 2: ReadIndexRequest id=2/5/2 n=4.1; output
            ; 3: LeadershipCheckAck 4.1 round=1 | same | 2: ReadIndexResponse id=2/5/3 at=3
            | read; output; 2: ReadIndexRequest id=2/5/2 n=4.1; output; state 1 | same | waiting
        # It is answered again at the old index; another incarnation sends another request.
            | 2: ReadIndexRequest id=2/5/2 n=4.1; output; append d; output
            ; 2: Accepted 4.1 len=4 dec=3; output; 2: ReadIndexRequest id=2/5/1 n=4.1
            | leading 4.1 ABCD 2:4/3 | 2: ReadIndexResponse id=2/5/2 at=3
            | 2: ReadIndexRequest id=2/5/2 n=4.1; output; append d; output
            ; 2: Accepted 4.1 len=4 dec=3; output; 2: ReadIndexRequest id=2/6/1 n=4.1
            | leading 4.1 ABCD 2:4/3 | 2: ReadIndexResponse id=2/6/1 at=4
        ";
    let table = Table::with(|config| config.server_config.max_observers = 2);
    table.check(&rows.replace("CHECKS", checks));
    let table = Table::with(|config| config.cluster_config.nodes = vec![1, 2, 3, 4, 5]);
    table.check(
        "
        leading 4.1 ABC 2:3/3 3:3/3 | 2: ReadIndexRequest id=2/5/1 n=4.1 | same
            | 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
            ; 4: LeadershipCheck 4.1 round=1; 5: LeadershipCheck 4.1 round=1
        ",
    );
}

#[test]
fn leadership_checks() {
    Table::new().check(
        "
        # What counts is that nothing higher is promised.
        following 4.2 ABc      | 2: LeadershipCheck 4.2 round=3 | same
                               | 2: LeadershipCheckAck 4.2 round=3
        promised 4.2 3.3 ABc   | 2: LeadershipCheck 4.2 round=3 | same
                               | 2: LeadershipCheckAck 4.2 round=3
        recovering 4.2 3.3 ABc | 2: LeadershipCheck 4.2 round=3 | same
                               | 2: LeadershipCheckAck 4.2 round=3
        following 4.2 ABc      | 2: LeadershipCheck 3.2 round=3 | same | 2: NotAccepted 4.2
                               | 3: LeadershipCheck 5.3 round=3 | same
                               | 3: PrepareReq 4.2 na=4.2 len=3 dec=2
        # The latest of two. None, if another ballot is promised before it leaves.
            | 2: LeadershipCheck 4.2 round=3; 2: LeadershipCheck 4.2 round=2 | same
            | 2: LeadershipCheckAck 4.2 round=3
            | 2: LeadershipCheck 4.2 round=3; 3: Prepare 5.3 na=4.2 len=3 | promised 5.3 4.2 ABc
            | 3: Promise 5.3 na=4.2 len=3 dec=2
            | 2: LeadershipCheck 4.2 round=9; 3: Prepare 5.3 na=4.2 len=3
            ; 3: LeadershipCheck 5.3 round=1 | promised 5.3 4.2 ABc
            | 3: Promise 5.3 na=4.2 len=3 dec=2; 3: LeadershipCheckAck 5.3 round=1
        ",
    );
}

#[test]
fn a_leader_that_is_a_write_quorum_alone_asks_nobody() {
    let sizes = FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 1 };
    let table = Table::with(|config| config.cluster_config.flexible_quorum = Some(sizes));
    table.check(
        "
        leading 4.1 ABC 2:3/3 3:3/3 | read; output; state 1 | same | ready at 3
                                    | 2: ReadIndexRequest id=2/5/1 | same
                                    | 2: ReadIndexResponse id=2/5/1 at=3
        ",
    );
}

#[test]
fn a_request_is_not_relayed_twice() {
    let table = Table::with(|config| config.cluster_config.nodes = vec![1, 2, 3, 4, 5]);
    table.check(
        "
        # A relay asks the leader itself, and nobody else for a member.
        following 4.2 ABc
            | round 2 3 4 5; output; 4: ReadIndexRequest id=4/5/1 | same
            | 2: ReadIndexRequest id=4/5/1 hops=1
            | round 3 4 5 via=3; output; 4: ReadIndexRequest id=4/5/1 | same |
            | round 3 4 5 via=3; output; read | same | read 1; 3: ReadIndexRequest id=1/7/1 n=4.2
            | round 2 3 4 5; output; 2: ReadIndexRequest id=2/5/1 | same |
        ",
    );
}

#[test]
fn rounds_without_an_open_request() {
    Table::new().check(
        "
        following 4.2 ABC | round; silent | same | silent: true
                          | read; output; 2: ReadIndexResponse id=1/7/1 at=3; output; round; silent | same
                          | silent: true
                          | read; output; round; silent | same | silent: false; 2: ReadIndexRequest id=1/7/1 n=4.2
        following 4.2 ABC! | round; silent | same | silent: true
        ",
    );
}

#[test]
fn reads_of_others_that_this_server_passes_on() {
    Table::new().check(
        "
        # Those of an observer also through a peer. Those of a member only to the leader.
        following 4.2 ABC | 9: ReadIndexRequest id=9/5/1 | same | 2: ReadIndexRequest id=9/5/1 hops=1
                          | round 3 via=3; 9: ReadIndexRequest id=9/5/1 | same
                          | 3: ReadIndexRequest id=9/5/1 hops=1
                          | round 3 via=3; 3: ReadIndexRequest id=3/5/1 | same |
        # A request without an answer is passed on once more, with the heartbeats: the link to the leader
        # may be open only then. Also one for which there was no route before.
        following 4.2 ABC | 3: ReadIndexRequest id=3/5/1; output; round 2 3 | same
                          | 2: ReadIndexRequest id=3/5/1 hops=1
                          | 3: ReadIndexRequest id=3/5/1; output; round 2 3; output; round 2 3 | same |
            | round 3; 3: ReadIndexRequest id=3/5/1; output; round 2 3 | same
            | 2: ReadIndexRequest id=3/5/1 hops=1
        # Not one with an answer, also to a later request of this incarnation.
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/3 at=9; output; round 2 3 | same |
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/1 at=9; output; round 2 3 | same
            | 2: ReadIndexRequest id=3/5/2 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/4/2 at=9; output; round 2 3 | same
            | 2: ReadIndexRequest id=3/5/2 hops=1
        # Not one that an earlier relay passes on: that one repeats it.
            | 8: ReadIndexRequest id=9/5/1 hops=1; output; round 2 3 | same |
        # One whose answer is known is answered at once, and goes no further: the link to its origin may be
        # open only then. Not one that is asked for later, or by another incarnation.
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=3; output
            ; 3: ReadIndexRequest id=3/5/1 | same | 3: ReadIndexResponse id=3/5/2 at=3 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=3; output
            ; 3: ReadIndexRequest id=3/5/3 | same | 2: ReadIndexRequest id=3/5/3 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=3; output
            ; 3: ReadIndexRequest id=3/6/2 | same | 2: ReadIndexRequest id=3/6/2 hops=1
        # An earlier request without an answer is passed on with the latest, and repeated with it.
            | 3: ReadIndexRequest id=3/5/1; 3: ReadIndexRequest id=3/5/4 | same
            | 2: ReadIndexRequest id=3/5/1 hops=1; 2: ReadIndexRequest id=3/5/4 hops=1
            | 3: ReadIndexRequest id=3/5/4; 3: ReadIndexRequest id=3/5/1 | same
            | 2: ReadIndexRequest id=3/5/1 hops=1; 2: ReadIndexRequest id=3/5/4 hops=1
            | 3: ReadIndexRequest id=3/5/1; output; 3: ReadIndexRequest id=3/5/4; output; round 2 3 | same
            | 2: ReadIndexRequest id=3/5/1 hops=1; 2: ReadIndexRequest id=3/5/4 hops=1
            | 3: ReadIndexRequest id=3/5/1; 3: ReadIndexRequest id=3/5/4; output
            ; 2: ReadIndexResponse id=3/5/1 at=9; output; round 2 3 | same | 2: ReadIndexRequest id=3/5/4 hops=1
            | 3: ReadIndexRequest id=3/5/1; 3: ReadIndexRequest id=3/6/1 | same
            | 2: ReadIndexRequest id=3/6/1 hops=1
        # The answer of an earlier leader may name entries that the present one never decides. It may come late.
            | 9: ReadIndexRequest id=9/5/2; output; 2: ReadIndexResponse id=9/5/2 at=9; output
            ; 3: Prepare 5.3 na=4.2 len=3 dec=3; output; 9: ReadIndexRequest id=9/5/2
            | promised 5.3 4.2 ABC
            | 3: ReadIndexRequest id=9/5/2 hops=1; 9: ReadIndexResponse id=9/5/2 at=9 hops=1
            | 9: ReadIndexRequest id=9/5/2; output; 3: Prepare 5.3 na=4.2 len=3 dec=3; output
            ; 2: ReadIndexResponse id=9/5/2 at=9; output; 9: ReadIndexRequest id=9/5/2
            | promised 5.3 4.2 ABC
            | 3: ReadIndexRequest id=9/5/2 hops=1; 9: ReadIndexResponse id=9/5/2 at=9 hops=1
        # One to a lower number does not replace one to a higher, unless its index is lower and the other one
        # is not decided here.
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=3; output
            ; 2: ReadIndexResponse id=3/5/1 at=2 | same | 3: ReadIndexResponse id=3/5/2 at=3 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=9; output
            ; 2: ReadIndexResponse id=3/5/2 at=8; output; 2: ReadIndexResponse id=3/5/2 at=9
            | same | 3: ReadIndexResponse id=3/5/2 at=8 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=9; output
            ; 2: ReadIndexResponse id=3/5/1 at=3 | same | 3: ReadIndexResponse id=3/5/1 at=3 hops=1
            | 3: ReadIndexRequest id=3/5/2; output; 2: ReadIndexResponse id=3/5/2 at=3; output
            ; 2: ReadIndexResponse id=3/6/1 at=3 | same | 3: ReadIndexResponse id=3/6/1 at=3 hops=1
        # None to a server that is no member, and has asked nothing or is forgotten.
            | 2: ReadIndexResponse id=9/5/2 at=3 | same |
            | 9: ReadIndexRequest id=9/5/2; output; forget; 2: ReadIndexResponse id=9/5/2 at=3 | same |
        # Not to its origin, if that leads by then.
            | 3: ReadIndexRequest id=3/5/1; output; 3: Prepare 5.3 na=4.2 len=3 dec=3; output; round 2 3
            | promised 5.3 4.2 ABC |
        ",
    );
}
