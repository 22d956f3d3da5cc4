//! Each expectation follows from the section on observers in `ARCHITECTURE.md`, and from the docs of this
//! module.

use crate::sequence_paxos::tests::Table;

#[test]
fn observers_of_this_server() {
    Table::new().check(
        "
        # A request that waits is answered once more is decided.
        following 4.2 ABc
            | 9: CatchUpRequest dec=2 waits; 2: Decide 4.2 dec=3; silent; observers
            | following 4.2 ABC | silent: false; observers 9:2 through 9; 9: CatchUpChunk at=2 +c dec=3
            | 9: CatchUpRequest dec=2 waits; output; 2: Decide 4.2 dec=3; output
            ; 2: AcceptDecide 4.2 at=3 +d dec=4 | following 4.2 ABCD | 2: Accepted 4.2 len=4 dec=4
            | 9: CatchUpRequest dec=2 waits; silent | same | silent: true
            | 9: CatchUpRequest dec=2 waits; output; 2: Decide 4.2 dec=3 | following 4.2 ABC
            | 9: CatchUpChunk at=2 +c dec=3
        # Any other request is answered at once, or not at all.
            | 9: CatchUpRequest dec=1 waits | same | 9: CatchUpChunk at=1 +b dec=2
            | 9: CatchUpRequest dec=2; 2: Decide 4.2 dec=3 | following 4.2 ABC |
            | 3: CatchUpRequest dec=2 waits; 2: Decide 4.2 dec=3; observers | following 4.2 ABC | observers
            | 9: CatchUpRequest dec=2 range=2-3 | same | 9: CatchUpChunk at=2 dec=2
        # What it reports never goes back.
            | 9: CatchUpRequest dec=2; 9: CatchUpRequest dec=1; observers | same
            | observers 9:2 through 9; 9: CatchUpChunk at=1 +b dec=2
        # It is forgotten if this server does not serve it.
            | 9: CatchUpRequest dec=2 waits; forget; 2: Decide 4.2 dec=3; observers
            | following 4.2 ABC | observers
        ",
    );
}

#[test]
fn proposals_of_observers_pass() {
    Table::new().check(
        "
        # From one observer to the next, at most 16 times. A member is no observer.
        following 4.2 ABc
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 hops=15 +d; observers; round
            | same
            | observers 9:0 through 8; 2: ForwardedProposals first=9/5/0 ballot=4.2 min=1 +d hops=16
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 hops=16 +d; round | same |
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d; observers; round | same
            | observers; 2: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d hops=1
            | 8: ForwardedProposals first=3/5/0 ballot=4.2 min=1 hops=1 +d; round | same |
        # The answer goes back the same way.
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 +d; output
            ; 2: ProposalRejection first=9/5/0 decided=1
            | same | 8: ProposalRejection first=9/5/0 count=1 hops=1 decided=1
        # Never to the server that it came from.
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 +d; output
            ; 8: ProposalRejection first=9/5/0 decided=1 | same |
        # Not endlessly: servers may pass it in a circle.
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 +d; output
            ; 2: ProposalRejection first=9/5/0 hops=15 decided=1
            | same | 8: ProposalRejection first=9/5/0 count=1 hops=16 decided=1
            | 8: ForwardedProposals first=9/5/0 ballot=4.2 min=1 +d; output
            ; 2: ProposalRejection first=9/5/0 hops=16 decided=1 | same |
        ",
    );
}

/// Server 1 observes the servers 2 and 3, which decide with 4.
fn observer() -> Table {
    Table::with(|config| {
        config.cluster_config.nodes = vec![2, 3, 4];
        config.server_config.observes = vec![2, 3];
    })
}

#[test]
fn an_observer_waits_at_one_source() {
    observer().check(
        "
        # It asks a source that it reaches, and again after two rounds without an answer.
        recovering 0 0 ABC | round | same | 3: CatchUpRequest dec=3 waits
                           | round; output; round | same |
                           | round; output; round; output; round | same | 3: CatchUpRequest dec=3 waits
                           | round; output; round; round; output; round | same |
        # If that source does not answer heartbeats, it asks another source.
                           | round; output; round 2 | same | 2: CatchUpRequest dec=3 waits
                           | round; output; round 2; output; round 2 | same |
        # After each answer it waits for the next.
            | round; output; 3: CatchUpChunk base=3 at=3 +d dec=4 | recovering 0 0 ABCD
            | 3: CatchUpRequest dec=4 waits
            | round; output; 3: CatchUpChunk base=3 at=3 +$ dec=4 | recovering 0 0 ABC! |
        recovering 0 0 ABC! | round; round | same |
        ",
    );
}

#[test]
fn what_a_source_has_trimmed() {
    observer().check(
        "
        # An observer cannot take what follows on entries that it lacks. No trim proves that it has them.
        recovering 0 0 ABC
            | trimmed; status 0 | same | none; Observing Waits
            | 3: CatchUpChunk base=3 at=5 +f dec=6; trimmed | same | trimmed at 5
            | 3: CatchUpChunk base=3 at=5 +f dec=6; 2: CatchUpChunk base=3 at=4 +e dec=6; trimmed | same
            | trimmed at 5
        # It asks another source with the next round, which may have them.
            | round; output; 3: CatchUpChunk base=3 at=5 +f dec=6; output; round | same
            | 2: CatchUpRequest dec=3 waits
            | 3: CatchUpChunk base=3 at=5 +f dec=6; 2: CatchUpChunk base=3 at=3 +d dec=4; output
            ; trimmed | recovering 0 0 ABCD | trimmed at 5
            | 3: CatchUpChunk base=3 at=5 +f dec=6; 2: CatchUpChunk base=3 at=3 +de dec=5; output
            ; trimmed | recovering 0 0 ABCDE | none
        # Nothing is missing: the chunk begins where this log ends, or a snapshot stands for the rest.
            | 3: CatchUpChunk base=3 at=3 +d dec=4; trimmed | recovering 0 0 ABCD
            | none; 3: CatchUpRequest dec=4 waits
            | 3: CatchUpChunk base=1 at=3 +d dec=4; trimmed | recovering 0 0 ABCD
            | none; 3: CatchUpRequest dec=4 waits
            | 3: CatchUpChunk base=3 at=5 snapshot=abcde dec=5; trimmed | recovering 0 0 *****
            | none; 3: CatchUpRequest dec=5 waits
        ",
    );
}

#[test]
fn reads_of_observers_that_are_not_served() {
    Table::new().check(
        "
        # They are forgotten with the observer. Those of members are not.
        leading 4.1 ABC 2:3/3 3:3/3
            | 9: CatchUpRequest dec=3 waits; 9: ReadIndexRequest id=9/5/1; output
            ; 2: LeadershipCheckAck 4.1 round=1 | same | 9: ReadIndexResponse id=9/5/1 at=3
            | 9: CatchUpRequest dec=3 waits; 9: ReadIndexRequest id=9/5/1; output; forget
            ; 2: LeadershipCheckAck 4.1 round=1 | same |
            | 9: CatchUpRequest dec=3 waits; 2: ReadIndexRequest id=2/5/1; output; forget
            ; 3: LeadershipCheckAck 4.1 round=1 | same | 2: ReadIndexResponse id=2/5/1 at=3
        ",
    );
}

#[test]
fn when_proposals_of_an_observer_can_leave() {
    observer().check(
        "
        # To the leader itself, if it answers, else through a source with a route to it.
        recovering 0 0 ABC
            | elected 4.2; status 4.2; append d | recovering 0 0 ABC pending=1
            | Observing Ready; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=3 +d
            | elected 4.2; round 3; output; status 4.2; append d | recovering 0 0 ABC waits=1
            | Observing Waits
            | elected 4.2; round 3 via=3; output; status 4.2; append d | recovering 0 0 ABC pending=1
            | Observing Ready; 3: ForwardedProposals first=1/7/0 ballot=4.2 min=3 +d
        ",
    );
    Table::new().check(
        "
        # A member waits until it follows the leader.
        recovering 4.2 4.2 ABc | elected 4.2; round 3 via=3; output; status 4.2 | same | Recovering Waits
        ",
    );
}
