//! Each expectation follows from the section on identities in `ARCHITECTURE.md`, and from the docs of
//! this module.

use crate::sequence_paxos::tests::Table;

#[test]
fn a_leader_that_lacks_decided_entries() {
    Table::new().check(
        "
        # Its AcceptSync ends before what was decided here at the promise, and it has not decided as much.
        # It may have been overtaken. Five rounds after the one that it reports first it would have noticed that.
        promised 4.2 3.3 ABC
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round; round; output; loss | same
            | none
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round; round; round; output; loss
            | same | 2 of 3 at 4.2
            | 2: AcceptSync 4.2 at=1 +b dec=2; output; round; round; round; round; round; round; output; loss
            | same | 2 of 3 at 4.2
        # It has decided as much: it was only late.
            | 2: AcceptSync 4.2 at=1 +b dec=3; output; round; round; round; round; round; round; output; loss
            | same | none
        # It reaches this server in each of these rounds, and continues in its ballot.
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round lost; round; round; round
            ; round; output; loss | same | none
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; 3: Prepare 5.3 na=3.3 len=3 dec=3; round
            ; round; round; round; round; round; output; loss | promised 5.3 3.3 ABC | none
        # A repeated AcceptSync does not reset the count.
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round
            ; 2: AcceptSync 4.2 at=1 +b dec=1; round; round; output; loss | same | 2 of 3 at 4.2
        # Once that is sure it stays so, also while the leader is out of reach.
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round; round; round; round lost
            ; output; loss | same | 2 of 3 at 4.2
        # Rounds of this server do not count: the clock of the leader may stand still, and its requests may be lost.
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round still; round still; round still
            ; round still; round unheard; round unheard; round unheard; round unheard; output; loss
            | same | none
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round still; round; round unheard; round; round
            ; round still; round; round; output; loss | same | 2 of 3 at 4.2
        # It is over once an AcceptSync fits.
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round; round; round
            ; 2: AcceptSync 4.2 at=3 dec=3; output; loss | following 4.2 ABC | none
        # Entries that were decided in a ballot that was accepted here: a later leader has them, if no
        # server has lost any. That is sure at once.
        following 3.3 ABc | 3: Decide 3.3 dec=3; 2: Prepare 4.2 na=2.2 len=2 dec=1; output
            ; 2: AcceptSync 4.2 at=1 +b dec=1; output; loss | promised 4.2 3.3 ABC | 2 of 3 at 4.2
        ",
    );
}

#[test]
fn a_leader_that_has_what_was_chosen_in_a_ballot_accepted_here() {
    Table::new().check(
        "
        # Two entries are known to be chosen in ballot 3.3. The third may have been decided later.
        following 3.3 ABC | 3: Decide 3.3 dec=2; 2: Prepare 4.2 na=2.2 len=2 dec=1; output
            ; 2: AcceptSync 4.2 at=1 +b dec=1; output; loss | promised 4.2 3.3 ABC | none
        # A copy of an earlier AcceptSync lacks one of the two.
            | 3: Decide 3.3 dec=2; 2: Prepare 4.2 na=2.2 len=2 dec=1; output
            ; 2: AcceptSync 4.2 at=1 +b dec=1; 2: AcceptSync 4.2 at=0 +a; output; loss
            | promised 4.2 3.3 ABC | 2 of 3 at 4.2
            | 3: Decide 3.3 dec=3; 2: Prepare 4.2 na=2.2 len=2 dec=1; output
            ; 2: AcceptSync 4.2 at=1 +b dec=1; output; loss | promised 4.2 3.3 ABC | 2 of 3 at 4.2
        # The first index that the leader of 4.2 reports may have come from a ballot above 5.3. So the leader of
        # 5.3 may lack it. Once it has grown, a write quorum has accepted all before it in 4.2.
        promised 4.2 3.3 ABC
            | 2: AcceptSync 4.2 at=3 dec=3; output; 3: Prepare 5.3 na=3.3 len=2 dec=1; output
            ; 3: AcceptSync 5.3 at=1 +b dec=1; output; loss | promised 5.3 4.2 ABC | none
            | 2: AcceptSync 4.2 at=3 dec=3; 2: Decide 4.2 dec=3; 2: Decide 4.2 dec=3; output
            ; 3: Prepare 5.3 na=3.3 len=2 dec=1; output; 3: AcceptSync 5.3 at=1 +b dec=1; output; loss
            | promised 5.3 4.2 ABC | none
        # A report that comes late shows that the index had grown before.
            | 2: AcceptSync 4.2 at=3 dec=3; 2: Decide 4.2 dec=2; 2: Decide 4.2 dec=3; output
            ; 3: Prepare 5.3 na=3.3 len=2 dec=1; output; 3: AcceptSync 5.3 at=1 +b dec=1; output; loss
            | promised 5.3 4.2 ABC | 2 of 3 at 5.3
            | 2: AcceptSync 4.2 at=3 dec=3; 2: AcceptDecide 4.2 at=3 +d dec=4; output
            ; 3: Prepare 5.3 na=3.3 len=2 dec=1; output; 3: AcceptSync 5.3 at=1 +b dec=1; output; loss
            | promised 5.3 4.2 ABCD | 2 of 4 at 5.3
        # The index that the leader of 3.3 reported first counts for nothing in 4.2.
        following 3.3 ABc
            | 2: Prepare 4.2 na=3.3 len=3 dec=3; output; 2: AcceptSync 4.2 at=3 dec=3; output
            ; 3: Prepare 5.3 na=3.3 len=2 dec=1; output; 3: AcceptSync 5.3 at=1 +b dec=1; output; loss
            | promised 5.3 4.2 ABC | none
        # It is over once this server leads, with the entries.
        promised 4.2 3.3 ABC
            | 2: AcceptSync 4.2 at=1 +b dec=1; output; round; round; round; round; round; round; output
            ; elected 5.1; output; 3: Promise 5.1 na=3.3 len=3 dec=3; output; loss | leading 5.1 ABC 3:sync | none
        ",
    );
}

#[test]
fn a_leader_of_a_new_epoch_that_was_overtaken() {
    Table::with(|config| config.server_config.continues = true).check(
        "
        # The entries of the new epoch come from another server, in a chunk. They were chosen in an unknown
        # ballot. This leader may have been overtaken by the leader of that ballot, so it may lack them.
        following 4.2 ABc | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:4; output; epoch
            ; 2: Prepare 5.2 len=5 dec=4; output; 2: AcceptSync 5.2 at=5 dec=4; output; loss
            | promised 5.2 4.2 ****** | none
        # It lacks the stop sign of the epoch before, with which its own epoch began.
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:4; output; epoch
            ; 2: Prepare 5.2 len=3 dec=3; output; 2: AcceptSync 5.2 at=3 dec=3; output; loss
            | promised 5.2 4.2 ****** | 3 of 6 at 5.2
        ",
    );
}
