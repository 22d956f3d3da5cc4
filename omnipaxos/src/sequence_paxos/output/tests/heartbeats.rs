//! What leaves with the heartbeats.

use crate::sequence_paxos::tests::Table;

#[test]
fn a_leader_that_answers_and_whose_heartbeats_are_lost() {
    Table::new().check(
        "
        # A server that waits reports what it has with its own heartbeats, if a round brought nothing, and asks
        # the others for what is decided.
        promised 4.2 3.3 ABc
            | round; output; round unheard | same
            | 2: Promise 4.2 na=3.3 len=3 dec=2; 3: CatchUpRequest dec=2
            | round; output; round | same |
        following 4.2 ABc
            | read; output; round; output; round unheard | same
            | 2: Accepted 4.2 len=3 dec=2; 3: CatchUpRequest dec=2; 2: ReadIndexRequest id=1/7/1 n=4.2
            | read; output; 2: ReadIndexResponse id=1/7/1 at=3; round; output; round unheard | same
            | 2: Accepted 4.2 len=3 dec=2; 3: CatchUpRequest dec=2; 2: ReadIndexRequest id=1/7/1 n=4.2
            | read; output; round; 2: AcceptDecide 4.2 at=3 +d dec=2; output; round unheard
            | following 4.2 ABcd | 3: CatchUpRequest dec=2; 2: ReadIndexRequest id=1/7/1 n=4.2
            | reconfigure id; output; round; output; round unheard | same
            | 2: Accepted 4.2 len=3 dec=2; 3: CatchUpRequest dec=2; 2: ForwardStopSign id=1/7/0
        # A server that waits for nothing does not.
            | round; output; round unheard | same |
        following 4.2 ABC$
            | read; output; 2: Decide 4.2 dec=4; round; output; round unheard | following 4.2 ABC! |
        # The leader sends a little again. Not before a round has passed without an answer.
        leading 4.1 ABC 2:sync 3:3/3
            | round 3; output; 2: Promise 4.1 na=0 len=0 | same | 2: AcceptSync 4.1 at=0 +abc dec=3
            | 2: Promise 4.1 na=0 len=0 | same |
        # The same for an acknowledgement that repeats what is known.
        leading 4.1 ABC 2:3/3 3:3/3
            | append d; output; round 3; output; 2: Accepted 4.1 len=3 dec=3 | leading 4.1 ABCd 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3
            | append d; output; 2: Accepted 4.1 len=3 dec=3 | leading 4.1 ABCd 2:3/3 3:3/3 |
            | append d; output; round 3; output; 2: Accepted 4.1 len=3 dec=3; output
            ; 2: Accepted 4.1 len=3 dec=3 | leading 4.1 ABCd 2:3/3 3:3/3 |
        ",
    );
}

/// A server that is unhappy sends a second request in a round, if its state changes. Only that one may arrive.
#[test]
fn another_heartbeat_request_in_a_round() {
    Table::new().check(
        "
        # A leader repeats the Prepare, and what is not acknowledged if it makes no progress.
        preparing 4.1 3.2 ABc | output; request | same
            | 2: Prepare 4.1 na=3.2 len=3 dec=2; 3: Prepare 4.1 na=3.2 len=3 dec=2
        leading 4.1 ABc 2:sync | round; output; request | same
            | 2: AcceptSync 4.1 at=0 +abc dec=2; 3: Prepare 4.1 na=4.1 len=3 dec=2
        leading 4.1 ABC 2:3/3 | append d; output; round; output; request | leading 4.1 ABCd 2:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: Prepare 4.1 na=4.1 len=4 dec=3
            | append d; output; request | leading 4.1 ABCd 2:3/3 | 3: Prepare 4.1 na=4.1 len=4 dec=3
        leading 4.1 ABC 2:sync 3:3/3 | round; output; request | same |
        # Checks of the leadership.
            | read; output; request | same
            | 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
        # A follower repeats a few proposals, and its request for reads.
        following 4.2 ABc
            | propose d; output; request | following 4.2 ABc pending=1
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | read; output; request | same | 2: ReadIndexRequest id=1/7/1 n=4.2
            | request | same |
        # In a lengthened round: to one peer. To another than the leader only if that is the relay.
            | propose d; read; output; request 2 | following 4.2 ABc pending=1
            | 2: ReadIndexRequest id=1/7/1 n=4.2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; output; request 3 | following 4.2 ABc pending=1 |
            | propose d; output; round 3 via=3; output; request 3 | following 4.2 ABc pending=1
            | 3: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
        preparing 4.1 3.2 ABc | output; request 3 | same | 3: Prepare 4.1 na=3.2 len=3 dec=2
        leading 4.1 ABC 2:3/3 | read; output; request 2 | same
            | 2: LeadershipCheck 4.1 round=1; 3: LeadershipCheck 4.1 round=1
        ",
    );
}
