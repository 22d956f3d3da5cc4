//! Each expectation follows from the section on compaction in `ARCHITECTURE.md`, and from the docs of this
//! module.

use crate::sequence_paxos::tests::Table;

#[test]
fn a_leader_asks_all_to_trim() {
    Table::new().check(
        "
        # Up to an index that every server has accepted; without one, up to all that they have.
        leading 4.1 ABCD 2:4/4 3:3/3
            | trim 2 | leading 4.1 __CD 2:4/4 3:3/3 | 2: Trim to=2; 3: Trim to=2
            | trim | leading 4.1 ___D 2:4/4 3:3/3 | 2: Trim to=3; 3: Trim to=3
        # Until each has answered: with each round, and when it is back.
        leading 4.1 ABC 2:3/3 3:3/3
            | trim 2; output; round | leading 4.1 __C 2:3/3 3:3/3 | 2: Trim to=2; 3: Trim to=2
            | trim 2; output; 2: Compacted to=2; round | leading 4.1 __C 2:3/3 3:3/3 | 3: Trim to=2
            | trim 2; output; 2: Compacted to=1; round | leading 4.1 __C 2:3/3 3:3/3
            | 2: Trim to=2; 3: Trim to=2
            | trim 2; output; 2: Compacted to=3; 3: Compacted to=2; round
            | leading 4.1 __C 2:3/3 3:3/3 |
            | trim 2; output; reconnected 3 | leading 4.1 __C 2:3/3 3:3/3 | 3: Trim to=2
            | trim 2; output; 3: Compacted to=2; reconnected 3 | leading 4.1 __C 2:3/3 3:3/3 |
            | trim 2; 2: Compacted to=2 | leading 4.1 __C 2:3/3 3:3/3 | 3: Trim to=2
        # A higher index includes a lower one.
            | trim 1; trim 2 | leading 4.1 __C 2:3/3 3:3/3 | 2: Trim to=2; 3: Trim to=2
            | trim 2; output; trim 2 | leading 4.1 __C 2:3/3 3:3/3 |
        # A leader that has trimmed its log at the request of a server asks all servers.
            | 2: Trim to=2 | leading 4.1 __C 2:3/3 3:3/3
            | 2: Compacted to=2; 2: Trim to=2; 3: Trim to=2
        leading 4.1 __C 2:3/3 3:3/3
            | 2: Compacted to=2; 3: Compacted to=2; output; 2: Trim to=2 | same | 2: Compacted to=2
        # Undecided entries stay.
        leading 4.1 ABcd 2:sync 3:sync
            | 2: Trim to=3 | same |
        ",
    );
}

#[test]
fn others_compact() {
    Table::new().check(
        "
        # What is decided here.
        following 4.2 ABCd     | 2: Trim to=2 | following 4.2 __Cd | 2: Compacted to=2
                               | 2: Trim to=3 | following 4.2 ___d | 2: Compacted to=3
                               | 2: Trim to=4 | same |
                               | 2: Snapshot to=2 | following 4.2 **Cd | 2: Compacted to=2
                               | 2: Snapshot to=4 | same |
        recovering 4.2 3.3 ABC | 3: Trim to=2 | recovering 4.2 3.3 __C | 3: Compacted to=2
        # It is compacted already. The answer is repeated, once an output.
        following 4.2 __Cd     | 2: Trim to=1 | same | 2: Compacted to=1
                               | 2: Trim to=2; 2: Trim to=1 | same | 2: Compacted to=2
        # A snapshot takes in what is trimmed later. It cannot be made of what was trimmed before.
        following 4.2 **Cd     | 2: Trim to=3 | following 4.2 ***d | 2: Compacted to=3
                               | 2: Snapshot to=3 | following 4.2 ***d | 2: Compacted to=3
                               | 2: Snapshot to=2 | same | 2: Compacted to=2
        following 4.2 __Cd     | 2: Snapshot to=3 | same | 2: Compacted to=3
        # The one that asks is not the leader any more: the leader has to ask the others.
        following 4.2 ABCd     | 3: Trim to=2 | following 4.2 __Cd | 3: Compacted to=2; 2: Trim to=2
        following 4.2 __Cd     | 3: Trim to=2 | same | 3: Compacted to=2
        # A follower whose log is trimmed asks its leader to trim, once it is replicating. Also the next leader, if
        # the first one has not answered.
        promised 4.2 3.3 __C
            | 2: Compacted to=2; 3: Compacted to=2; output; 2: AcceptSync 4.2 at=3 dec=3; output
            ; 3: Prepare 5.3 na=4.2 len=3 dec=3; output; 3: AcceptSync 5.3 at=3 dec=3
            | following 5.3 __C | 3: Accepted 5.3 len=3 dec=3; 3: Trim to=2
        promised 4.2 3.3 __C
            | 2: Compacted to=2; 3: Compacted to=2; output; 2: AcceptSync 4.2 at=3 dec=3
            | following 4.2 __C | 2: Accepted 4.2 len=3 dec=3; 2: Trim to=2
        promised 4.2 3.3 **C   | 2: AcceptSync 4.2 at=3 dec=3 | following 4.2 **C
                               | 2: Accepted 4.2 len=3 dec=3
        ",
    );
}

#[test]
fn snapshots_that_the_user_asks_for() {
    Table::new().check(
        "
        # Any server may, and asks the others, until each has answered.
        following 4.2 ABCd | snapshot 2 | following 4.2 **Cd | 2: Snapshot to=2; 3: Snapshot to=2
                           | snapshot 2 local | following 4.2 **Cd |
                           | snapshot | following 4.2 ***d | 2: Snapshot to=3; 3: Snapshot to=3
                           | snapshot 2; output; round | following 4.2 **Cd
                           | 2: Snapshot to=2; 3: Snapshot to=2
                           | snapshot 2; output; 2: Compacted to=2; round | following 4.2 **Cd
                           | 3: Snapshot to=2
                           | snapshot 2; output; 2: Compacted to=2; 3: Compacted to=2; round
                           | following 4.2 **Cd |
        # Without the stop sign.
        following 4.2 ABC! | snapshot | following 4.2 ***! | 2: Snapshot to=3; 3: Snapshot to=3
                           | snapshot 4 | following 4.2 ***! | 2: Snapshot to=3; 3: Snapshot to=3
        ",
    );
}

#[test]
fn what_all_applications_have_applied() {
    Table::new().check(
        "
        # It is reported to all, until each has confirmed it.
        following 4.2 ABCd | applied 2; applied | same
            | applied 2 2:? 3:?; 2: Applied to=2; 3: Applied to=2
            | applied 2; output; round | same | 2: Applied to=2; 3: Applied to=2
            | applied 2; output; 2: Applied to=1 confirms=2; round; applied | same
            | applied 2 2:1 3:?; 3: Applied to=2
            | applied 2; output; reconnected 3 | same | 3: Applied to=2
            | applied 2; output; applied 2 | same |
            | applied 2; output; applied 1 | same |
        # A report that asks for the index of this server gets it.
            | 2: Applied to=1 asks; applied | same | applied 0 2:1 3:?; 2: Applied
            | applied 2; output; 2: Applied to=1 confirms=2 asks | same | 2: Applied to=2
        # What all have applied is trimmed.
            | applied 3; output; 2: Applied to=1 confirms=3; 3: Applied to=2 confirms=3; applied
            | following 4.2 _BCd | applied 3 2:1 3:2
            | 2: Applied to=3; 3: Applied to=2; applied 3 | following 4.2 __Cd
            | 2: Applied to=3; 3: Applied to=3
        # A leader asks all to trim it.
        leading 4.1 ABC 2:3/3
            | applied 3; output; 2: Applied to=1 confirms=3; 3: Applied to=2 confirms=3
            | leading 4.1 _BC 2:3/3 | 2: Trim to=1; 3: Trim to=1
        # What is compacted was applied.
        following 4.2 __Cd | applied | same | applied 2 2:? 3:?
        ",
    );
}

#[test]
fn what_is_compacted_already_is_not_written_again() {
    Table::new().check(
        "
        following 4.2 **Cd | watch; 2: Snapshot to=2 | same | 2: Compacted to=2
                           | watch; 2: Snapshot to=3 | following 4.2 ***d
                           | wrote snapshot **c, trim 1, compacted 3 (durable later); 2: Compacted to=3
                           | watch; compact_with 2 ab | same |
        following 4.2 __Cd | watch; 2: Trim to=2 | same | 2: Compacted to=2
        ",
    );
}

#[test]
fn snapshots_that_the_application_made() {
    Table::new().check(
        "
        following 4.2 ABCd | watch; compact_with 2 ab | following 4.2 **Cd
                           | wrote snapshot ab, trim 2, compacted 2 (durable later)
                           | compact_with 2 az | same
                           | the snapshot cannot be stored: no z
                           | compact_with 4 abcd | same
                           | cannot compact beyond the decided index 3
        # It may stand for what was trimmed.
        following 4.2 __Cd | watch; compact_with 2 ab | following 4.2 **Cd
                           | wrote snapshot ab, compacted 2
                           | compact_with 1 a | same
                           | the log is compacted up to index 2 already
        following 4.2 ABC! | watch; compact_with 4 abc | following 4.2 ***!
                           | wrote snapshot abc, trim 3, compacted 3 (durable later)
        ",
    );
}

#[test]
fn which_writes_of_a_compaction_may_become_durable_later() {
    Table::new().check(
        "
        # One of entries that the storage holds, in place of no entries or of a snapshot.
        following 4.2 ABC
            | watch; compact_with 2 ab | following 4.2 **C
            | wrote snapshot ab, trim 2, compacted 2 (durable later)
            | watch; snapshot 2 local | following 4.2 **C
            | wrote snapshot ab, trim 2, compacted 2 (durable later)
        following 4.2 *BC
            | watch; compact_with 2 ab | following 4.2 **C
            | wrote snapshot ab, trim 1, compacted 2 (durable later)
        # Not if the storage does not hold them yet, or if they were trimmed.
        following 4.2 ABC
            | watch; 2: AcceptDecide 4.2 at=3 +d dec=4; compact_with 4 abcd | following 4.2 ****
            | wrote snapshot abcd, trim 3, compacted 4, decided 4; 2: Accepted 4.2 len=4 dec=4
            | watch; 2: AcceptDecide 4.2 at=3 +d dec=4; snapshot 4 local | following 4.2 ****
            | wrote snapshot abcd, trim 3, compacted 4, decided 4; 2: Accepted 4.2 len=4 dec=4
        following 4.2 _BC
            | watch; compact_with 2 ab | following 4.2 **C
            | wrote snapshot ab, trim 1, compacted 2
        # Nor if the same write has one of entries that the storage may lack.
        following 4.2 ABcd
            | watch; 3: CatchUpChunk at=3 snapshot=abc dec=3; 2: Decide 4.2 dec=4; compact_with 4 abcd
            | following 4.2 ****
            | wrote snapshot abcd, trim 4, compacted 4, decided 4; 2: Accepted 4.2 len=4 dec=4
        ",
    );
}
