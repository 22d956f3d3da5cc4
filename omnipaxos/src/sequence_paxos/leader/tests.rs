//! Each expectation follows from the messages and invariants in `ARCHITECTURE.md`.

use crate::{membership::FlexibleQuorum, sequence_paxos::tests::Table};

#[test]
fn elected() {
    Table::new().check(
        "
        # The owner prepares: all are asked, with what the own log is.
        recovering 3.2 3.2 ABc | elected 4.1 | preparing 4.1 3.2 ABc
                               | 2: Prepare 4.1 na=3.2 len=3 dec=2
                               ; 3: Prepare 4.1 na=3.2 len=3 dec=2
        following 3.2 ABc      | elected 4.1 | preparing 4.1 3.2 ABc
                               | 2: Prepare 4.1 na=3.2 len=3 dec=2
                               ; 3: Prepare 4.1 na=3.2 len=3 dec=2
        promised 3.2 2.2 ABc   | elected 4.1 | preparing 4.1 2.2 ABc
                               | 2: Prepare 4.1 na=2.2 len=3 dec=2
                               ; 3: Prepare 4.1 na=2.2 len=3 dec=2
        preparing 4.1 3.2 ABc  | elected 5.1 | preparing 5.1 3.2 ABc
                               | 2: Prepare 5.1 na=3.2 len=3 dec=2
                               ; 3: Prepare 5.1 na=3.2 len=3 dec=2
        leading 4.1 ABc 2:sync | elected 5.1 | preparing 5.1 4.1 ABc
                               | 2: Prepare 5.1 na=4.1 len=3 dec=2
                               ; 3: Prepare 5.1 na=4.1 len=3 dec=2
        # I4: it leads at most once in a ballot, and in none below its promise.
        recovering 4.1 3.2 ABc | elected 4.1 | same |
        following 4.2 ABc      | elected 4.1 | same |
        leading 4.1 ABc 2:sync | elected 4.1 | same |
        # Another server is to lead: this one waits for its Prepare, and accepts no less until then.
        following 4.2 ABc      | elected 5.3 | same |
        # A leader stops leading, and asks all servers for the new leader.
        preparing 4.1 3.2 ABc  | elected 5.3 | recovering 4.1 3.2 ABc
                               | 2: PrepareReq 4.1 na=3.2 len=3 dec=2
                               ; 3: PrepareReq 4.1 na=3.2 len=3 dec=2
        leading 4.1 ABc 2:sync | elected 5.3 | recovering 4.1 4.1 ABc
                               | 2: PrepareReq 4.1 na=4.1 len=3 dec=2
                               ; 3: PrepareReq 4.1 na=4.1 len=3 dec=2
                               | elected 3.3 | same |
        ",
    );
}

#[test]
fn promise() {
    Table::new().check(
        "
        # With this server, one promise is a quorum of three. The own log is the most
        # recent: the other
        # is older, shorter, or equal.
        preparing 4.1 3.2 ABc  | 2: Promise 4.1 na=2.2 len=9 dec=1 | leading 4.1 ABc 2:sync
                               | 2: AcceptSync 4.1 at=1 +bc dec=2
                               | 2: Promise 4.1 na=3.2 len=2 dec=2 | leading 4.1 ABc 2:sync
                               | 2: AcceptSync 4.1 at=2 +c dec=2
                               | 2: Promise 4.1 na=3.2 len=3 dec=2 | leading 4.1 ABc 2:sync
                               | 2: AcceptSync 4.1 at=2 +c dec=2
        # The other is the most recent: longer in the same round, or of a higher one.
                               | 2: Promise 4.1 na=3.2 len=4 dec=2 at=2 +cd
                               | leading 4.1 ABcd 2:sync
                               | 2: AcceptSync 4.1 at=2 +cd dec=2
                               | 2: Promise 4.1 na=3.3 len=2 dec=2 at=2 | leading 4.1 AB 2:sync
                               | 2: AcceptSync 4.1 at=2 dec=2
                               | 2: Promise 4.1 na=3.3 len=4 dec=3 at=2 +de
                               | leading 4.1 ABDe 2:sync
                               | 2: AcceptSync 4.1 at=3 +e dec=3
        # What is decided elsewhere is decided here with the log that says so (R3). A later leader may have
        # decided other entries than those of the own log.
                               | 2: Promise 4.1 na=3.2 len=4 dec=4 at=2 +cd
                               | leading 4.1 ABCD 2:sync
                               | 2: AcceptSync 4.1 at=4 dec=4
                               | 2: Promise 4.1 na=3.2 len=3 dec=3 | leading 4.1 ABc 2:sync
                               | 2: AcceptSync 4.1 at=3 dec=2
        # A stop sign is adopted, too, and dropped with a log that is not.
                               | 2: Promise 4.1 na=3.2 len=4 dec=2 at=2 +c$
                               | leading 4.1 ABc$ 2:sync
                               | 2: AcceptSync 4.1 at=2 +c$ dec=2
        preparing 4.1 3.2 ABc$ | 2: Promise 4.1 na=3.3 len=3 dec=2 at=2 +d | leading 4.1 ABd 2:sync
                               | 2: AcceptSync 4.1 at=2 +d dec=2
                               | 2: Promise 4.1 na=3.2 len=3 dec=2 | leading 4.1 ABc$ 2:sync
                               | 2: AcceptSync 4.1 at=2 +c$ dec=2
        # The other log is the most recent, and the promise does not hold it: it does not count. Its
        # sender has decided more, which is fetched first.
        preparing 4.1 3.2 ABc  | 2: Promise 4.1 na=3.3 len=9 dec=7 | same | 2: CatchUpRequest dec=2
        # It has not: it is asked again.
                               | 2: Promise 4.1 na=3.3 len=9 dec=2 | same
                               | 2: Prepare 4.1 na=3.2 len=3 dec=2
        # Promises of other ballots, and to others.
                               | 2: Promise 3.1 na=2.2 len=1 | same |
                               | 2: Promise 5.1 na=2.2 len=1 | same |
        following 4.2 ABc      | 3: Promise 4.2 na=3.2 len=4 dec=2 at=2 +cd | same |
        ",
    );
}

#[test]
fn promise_after_the_quorum() {
    Table::new().check(
        "
        # A server that promises late gets the log from its decided index on.
        leading 4.1 ABc 2:sync | 3: Promise 4.1 na=3.3 len=9 dec=1 | leading 4.1 ABc 2:sync 3:sync
                               | 3: AcceptSync 4.1 at=1 +bc dec=2
        # A more recent log than was adopted holds nothing that was chosen: it is replaced.
                               | 3: Promise 4.1 na=3.3 len=4 dec=2 at=2 +de
                               | leading 4.1 ABc 2:sync 3:sync | 3: AcceptSync 4.1 at=2 +c dec=2
        # A copy of a promise that was answered; one with more entries.
                               | 2: Promise 4.1 | same |
                               | 2: Promise 4.1 na=3.2 len=3 dec=1 | same
                               | 2: AcceptSync 4.1 at=1 +bc dec=2
        # A follower that has accepted the ballot sent this promise earlier (P3).
        leading 4.1 ABC 2:3/2  | 2: Promise 4.1 na=3.2 len=3 dec=2 | same |
        # What only the follower has decided is no reason to wait.
        leading 4.1 ABc 2:sync | 3: Promise 4.1 na=3.3 len=9 dec=7 | leading 4.1 ABc 2:sync 3:sync
                               | 3: AcceptSync 4.1 at=3 dec=2
        ",
    );
}

#[test]
fn promises_of_a_larger_quorum() {
    let table = Table::with(|config| config.cluster_config.nodes = vec![1, 2, 3, 4, 5]);
    table.check(
        "
        # Two more are needed, different ones (I6).
        preparing 4.1 3.2 ABc | 2: Promise 4.1 na=3.2 len=3 dec=2
                              | preparing 4.1 3.2 ABc 2:promised |
                              | 2: Promise 4.1 na=3.2 len=3 dec=2; 2: Promise 4.1 na=3.2 len=3 dec=2
                              | preparing 4.1 3.2 ABc 2:promised |
        # The most recent of all is adopted, in whichever order they come.
        preparing 4.1 3.2 ABc
            | 2: Promise 4.1 na=3.2 len=5 dec=2 at=2 +cde
            ; 3: Promise 4.1 na=3.2 len=4 dec=2 at=2 +cd
            | leading 4.1 ABcde 2:sync 3:sync
            | 2: AcceptSync 4.1 at=2 +cde dec=2; 3: AcceptSync 4.1 at=2 +cde dec=2
            | 2: Promise 4.1 na=3.2 len=4 dec=2 at=2 +cd
            ; 3: Promise 4.1 na=3.2 len=5 dec=2 at=2 +cde
            | leading 4.1 ABcde 2:sync 3:sync
            | 2: AcceptSync 4.1 at=2 +cde dec=2; 3: AcceptSync 4.1 at=2 +cde dec=2
            | 2: Promise 4.1 na=3.3 len=3 dec=2 at=2 +z; 3: Promise 4.1 na=3.2 len=5 dec=2 at=2 +cde
            | leading 4.1 ABz 2:sync 3:sync
            | 2: AcceptSync 4.1 at=2 +z dec=2; 3: AcceptSync 4.1 at=2 +z dec=2
        # The decided index is that of the log which is adopted (R3): the highest of all may be of a later
        # ballot, which another log holds.
            | 2: Promise 4.1 na=3.2 len=3 dec=3; 3: Promise 4.1 na=3.2 len=5 dec=2 at=2 +cde
            | leading 4.1 ABcde 2:sync 3:sync
            | 2: AcceptSync 4.1 at=3 +de dec=2; 3: AcceptSync 4.1 at=2 +cde dec=2
            | 2: Promise 4.1 na=3.2 len=4 dec=4 at=2 +cd; 3: Promise 4.1 na=3.2 len=5 dec=3 at=2 +uvw
            | leading 4.1 ABUvw 2:sync 3:sync
            | 2: AcceptSync 4.1 at=4 +w dec=3; 3: AcceptSync 4.1 at=3 +vw dec=3
        # A server whose promise does not count yet is asked again. The other promise counts.
            | 2: Promise 4.1 na=3.3 len=9 dec=2; 3: Promise 4.1 na=3.2 len=3 dec=2
            | preparing 4.1 3.2 ABc 3:promised | 2: Prepare 4.1 na=3.2 len=3 dec=2
        # What was learned meanwhile may make the own log the most recent.
            | 2: Promise 4.1 na=3.2 len=4 dec=2 at=2 +cd; 3: CatchUpChunk at=2 +cdef dec=6
            | preparing 4.1 3.2 ABCDEF 2:promised | 3: Prepare 4.1 na=3.2 len=6 dec=6
        ",
    );
}

#[test]
fn promises_where_the_others_are_no_quorum() {
    let sizes = FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 1 };
    let table = Table::with(|config| config.cluster_config.flexible_quorum = Some(sizes));
    table.check(
        "
        # All must promise. Then this server decides alone.
        preparing 4.1 3.2 ABc | 2: Promise 4.1 na=3.2 len=3 dec=2
                              | preparing 4.1 3.2 ABc 2:promised |
        preparing 4.1 3.2 ABc 2:promised | 3: Promise 4.1 na=3.2 len=3 dec=2
                              | leading 4.1 ABC 2:sync 3:sync
                              | 2: AcceptSync 4.1 at=0 +abc dec=3; 3: AcceptSync 4.1 at=2 +c dec=3
        ",
    );
}

#[test]
fn a_cluster_of_one_needs_nobody() {
    let table = Table::with(|config| config.cluster_config.nodes = vec![1]);
    table.check(
        "
        recovering 3.1 3.1 ABc | elected 4.1 | leading 4.1 ABC |
        leading 4.1 AB         | append cd | leading 4.1 ABCD |
                               | append cx | leading 4.1 AB | halted
        ",
    );
}

#[test]
fn accepted() {
    Table::new().check(
        "
        # I7: what a write quorum has accepted is decided, and the follower learns it.
        leading 4.1 ABcd 2:sync | 2: Accepted 4.1 len=4 dec=2 | leading 4.1 ABCD 2:4/2
                                | 2: Decide 4.1 dec=4
                                | 2: Accepted 4.1 len=3 dec=2 | leading 4.1 ABCd 2:3/2
                                | 2: Decide 4.1 dec=3
        # Of another ballot.
                                | 2: Accepted 3.1 len=4 dec=2 | same |
                                | 2: Accepted 5.1 len=4 dec=2 | same |
        # Cumulative: an old one changes nothing.
        leading 4.1 ABCD 2:4/4  | 2: Accepted 4.1 len=3 dec=2 | same |
                                | 2: Accepted 4.1 len=3 dec=2 gap | same |
        # An acknowledgement beyond this log: no server has accepted that in this ballot. If those entries
        # are decided, a later leader decided them.
                                | 2: Accepted 4.1 len=9 dec=2 | same |
                                | 2: Accepted 4.1 len=9 dec=9 | same | election: Preempted
        # A stop sign is counted like an entry.
        leading 4.1 ABc$ 2:sync | 2: Accepted 4.1 len=4 dec=2 | leading 4.1 ABC! 2:4/2
                                | 2: Decide 4.1 dec=4
        # Whether it has decided something as the leader, be it adopted or new. What it learned before does
        # not count, nor what it decides as a follower.
        leading 4.1 ABC 2:3/3   | success | same | success: false
                                | append d; success | leading 4.1 ABCd 2:3/3
                                | success: false; 2: AcceptDecide 4.1 at=3 +d dec=3
                                | append d; output; 2: Accepted 4.1 len=4 dec=3; success
                                | leading 4.1 ABCD 2:4/3 | success: true; 2: Decide 4.1 dec=4
        leading 4.1 ABc 2:sync  | 2: Accepted 4.1 len=3 dec=2; success | leading 4.1 ABC 2:3/2
                                | success: true; 2: Decide 4.1 dec=3
        preparing 4.1 3.2 ABc   | output; 2: Promise 4.1 na=3.2 len=4 dec=4 at=2 +cd; success
                                | leading 4.1 ABCD 2:sync
                                | success: false; 2: AcceptSync 4.1 at=4 dec=4
        following 4.2 ABc       | 2: Decide 4.2 dec=3; success | following 4.2 ABC
                                | success: false
        # A follower counts nothing, nor does a leader that prepares.
        following 4.2 ABc       | 3: Accepted 4.2 len=3 dec=3 | same |
        preparing 4.1 3.2 ABc   | 2: Accepted 4.1 len=3 dec=3 | same |
        ",
    );
}

#[test]
fn accepted_by_a_larger_quorum() {
    let table = Table::with(|config| config.cluster_config.nodes = vec![1, 2, 3, 4, 5]);
    table.check(
        "
        # Three of five: the own log, and two that differ (I6).
        leading 4.1 ABcd 2:sync 3:sync 4:sync
            | 2: Accepted 4.1 len=4 dec=2 | leading 4.1 ABcd 2:4/2 3:sync 4:sync |
            | 2: Accepted 4.1 len=4 dec=2; 2: Accepted 4.1 len=4 dec=2
            | leading 4.1 ABcd 2:4/2 3:sync 4:sync |
            | 2: Accepted 4.1 len=4 dec=2; 4: Accepted 4.1 len=3 dec=2
            | leading 4.1 ABCd 2:4/2 3:sync 4:3/2
            | 2: Decide 4.1 dec=3; 3: Decide 4.1 dec=3; 4: Decide 4.1 dec=3
        ",
    );
}

#[test]
fn not_accepted() {
    Table::new().check(
        "
        # The election decides what to do. Until then nothing changes.
        preparing 4.1 3.2 ABc  | 2: NotAccepted 5.3 | same | election: Preempted
        leading 4.1 ABc 2:sync | 2: NotAccepted 5.3 | same | election: Preempted
        # It is late, or not meant for this server.
                               | 2: NotAccepted 4.1 | same |
                               | 2: NotAccepted 3.3 | same |
        following 4.2 ABc      | 3: NotAccepted 5.3 | same |
        ",
    );
}

#[test]
fn prepare_req() {
    Table::new().check(
        "
        # It has accepted this ballot: the leader continues from there.
        leading 4.1 ABC 2:3/3   | append d; 2: PrepareReq 4.1 na=4.1 len=2 dec=2
                                | leading 4.1 ABCd 2:3/3
                                | 2: AcceptDecide 4.1 at=2 +cd dec=3
        # It lacks nothing: it is asked all the same, which answers it.
                                | 2: PrepareReq 4.1 na=4.1 len=3 dec=3 | same
                                | 2: AcceptDecide 4.1 at=3 dec=3
        # What it has accepted counts.
        leading 4.1 ABcd 2:sync | 2: PrepareReq 4.1 na=4.1 len=4 dec=2 | leading 4.1 ABCD 2:4/2
                                | 2: AcceptDecide 4.1 at=4 dec=4
        # It has not accepted this ballot, or not promised it: it is prepared.
                                | 3: PrepareReq 4.1 na=3.2 len=9 dec=2 | same
                                | 3: Prepare 4.1 na=4.1 len=4 dec=2
                                | 3: PrepareReq 0 | same | 3: Prepare 4.1 na=4.1 len=4 dec=2
                                | 2: PrepareReq 3.2 na=3.2 len=4 dec=2 | leading 4.1 ABcd
                                | 2: Prepare 4.1 na=4.1 len=4 dec=2
        preparing 4.1 3.2 ABc   | output; 2: PrepareReq 3.2 na=3.2 len=4 dec=2 | same
                                | 2: Prepare 4.1 na=3.2 len=3 dec=2
        # A higher ballot is as good as a refusal.
        leading 4.1 ABcd 2:sync | 3: PrepareReq 5.3 na=3.2 len=3 dec=2 | same
                                | 3: Prepare 4.1 na=4.1 len=4 dec=2; election: Preempted
        # Beyond this log: as with Accepted.
                                | 2: PrepareReq 4.1 na=4.1 len=5 dec=5 | same | election: Preempted
                                | 2: PrepareReq 4.1 na=4.1 len=5 dec=4 | same |
        # No other server answers.
        following 4.2 ABc       | 3: PrepareReq 4.2 na=3.2 len=3 dec=2 | same |
        recovering 4.2 4.2 ABc  | 3: PrepareReq 4.2 na=4.2 len=3 dec=2 | same |
        ",
    );
}

#[test]
fn a_leader_that_is_not_promised_resigns() {
    Table::new().check(
        "
        # Each round repeats the Prepare. Four rounds with a quorum, and no promise.
        preparing 4.1 3.2 ABc | round 2; output; round 2; output; round 2 | same
                              | 2: Prepare 4.1 na=3.2 len=3 dec=2; 3: Prepare 4.1 na=3.2 len=3 dec=2
                              | round 2; round 2; round 2; output; round 2 | recovering 4.1 3.2 ABc
                              | 2: PrepareReq 4.1 na=3.2 len=3 dec=2
                              ; 3: PrepareReq 4.1 na=3.2 len=3 dec=2; election: leads not for 8
        # The next time it waits twice as long, and leaves it to others for twice as long.
            | round 2; round 2; round 2; round 2; output; elected 5.1; round 2; round 2; round 2
            ; round 2
            ; round 2; round 2; output; round 2 | preparing 5.1 3.2 ABc
            | 2: Prepare 5.1 na=3.2 len=3 dec=2; 3: Prepare 5.1 na=3.2 len=3 dec=2
            | round 2; round 2; round 2; round 2; output; elected 5.1; round 2; round 2; round 2
            ; round 2
            ; round 2; round 2; round 2; output; round 2 | recovering 5.1 3.2 ABc
            | 2: PrepareReq 5.1 na=3.2 len=3 dec=2; 3: PrepareReq 5.1 na=3.2 len=3 dec=2
            ; election: leads not for 16
        # Rounds without a quorum do not count.
        preparing 4.1 3.2 ABc | round lost; round lost; round lost; round lost; output; round 2
                              | same
                              | 2: Prepare 4.1 na=3.2 len=3 dec=2; 3: Prepare 4.1 na=3.2 len=3 dec=2
        # Progress resets the count.
            | round 2; round 2; round 2; 2: CatchUpChunk at=2 +c dec=3; round 2; round 2; output
            ; round 2
            | preparing 4.1 3.2 ABC
            | 2: Prepare 4.1 na=3.2 len=3 dec=3; 3: Prepare 4.1 na=3.2 len=3 dec=3
        ",
    );
}

#[test]
fn a_leader_catches_up_no_further() {
    Table::new().check(
        "
        # A promise that did not count made this server fetch decided entries; the other promise made it
        # the leader.
        preparing 4.1 3.2 ABc
            | 2: Promise 4.1 na=3.3 len=9 dec=4; output; 3: Promise 4.1 na=3.3 len=5 dec=3 at=2 +cde
            ; output; round 2; output; round 2 | leading 4.1 ABCde 3:sync
            | 2: Prepare 4.1 na=4.1 len=5 dec=3; 3: AcceptSync 4.1 at=3 +de dec=3
        ",
    );
}

#[test]
fn trim() {
    Table::new().check(
        "
        # What all servers have accepted may go, and the others are asked to trim it.
        leading 4.1 ABC 2:3/3 3:2/2 | trim 2 | leading 4.1 __C 2:3/3 3:2/2
            | 2: Trim to=2; 3: Trim to=2
            | trim | leading 4.1 __C 2:3/3 3:2/2 | 2: Trim to=2; 3: Trim to=2
            | trim 3 | same | cannot trim beyond index 2, the largest that every server has accepted
        ",
    );
}

/// The second follower lacks more than a little. The leader redirects it in each round.
#[test]
fn a_leader_without_progress_sends_a_little() {
    let (many, few, decided) = ("d".repeat(70), "d".repeat(64), "D".repeat(70));
    let redirects = "3: Prepare 4.1 na=4.1 len=71 dec=70; 2: CatchUpRedirect 4.1 source=1 dec=70";
    Table::new().check(&format!(
        "leading 4.1 ABC 2:3/3
            | append {many}; output; round; output; round | leading 4.1 ABC{many} 2:3/3
            | 2: AcceptDecide 4.1 at=3 +{few} dec=3; 3: Prepare 4.1 na=4.1 len=73 dec=3
        leading 4.1 {decided}e 2:sync
            | round 3; output; round 3 | leading 4.1 {decided}e 2:redirected | {redirects}
            | round 3; output; round 3; output; round 3 | leading 4.1 {decided}e 2:redirected
            | {redirects}"
    ));
}
