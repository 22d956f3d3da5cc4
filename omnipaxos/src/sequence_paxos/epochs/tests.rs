//! Each expectation follows from the section on epochs in `ARCHITECTURE.md`, and from the docs of this
//! module.

use crate::sequence_paxos::tests::Table;

/// The log continues after the stop sign, which names the servers 1, 2 and 3.
fn continuing() -> Table {
    Table::with(|config| config.server_config.continues = true)
}

#[test]
fn a_server_begins_the_next_epoch() {
    continuing().check(
        "
        # It follows nobody. The storage keeps the promise of the epoch before until there is another.
        following 4.2 AB!
            | status 4.2; epoch; status 4.2 | recovering 4.2 4.2 AB
            | Following Ready; Recovering Waits
            | round lost; output; epoch; output; round; output; round | recovering 4.2 4.2 AB |
        # What was not decided waits for a leader of this epoch, and a read is answered there.
            | epoch; append c | recovering 4.2 4.2 AB waits=1 |
            | read; epoch; state 1 | recovering 4.2 4.2 AB | read 1; waiting
        following 4.2 AB$
            | append c; output; 2: Decide 4.2 dec=3; epoch | recovering 4.2 4.2 AB pending=1 |
            | read; output; 2: Decide 4.2 dec=3; epoch; state 1 | recovering 4.2 4.2 AB | waiting
            | 3: ReadIndexRequest id=3/5/1; 2: Decide 4.2 dec=3; epoch | recovering 4.2 4.2 AB |
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d; 2: Decide 4.2 dec=3; epoch; round
            | recovering 4.2 4.2 AB |
        # The change that was proposed here is decided.
        leading 4.1 ABc 2:2/2
            | reconfigure id; output; 2: Accepted 4.1 len=4 dec=3; epoch | recovering 4.1 4.1 ABC
            | 1/7/0 is decided at 3
        # It announces a trim again: its peers may be others.
        following 4.2 _B! | epoch | recovering 4.2 4.2 _B | 2: Trim to=1; 3: Trim to=1
        ",
    );
}

#[test]
fn a_server_that_lacks_trimmed_entries() {
    continuing().check(
        "
        # The sender is in a later epoch. What is undecided here may never have been chosen.
        following 4.2 ABc
            | 3: CatchUpChunk base=2 at=3 +d dec=4; trimmed | same | trimmed at 3
            | 3: CatchUpChunk base=2 at=2 +c dec=3; trimmed | following 4.2 ABC
            | none; 2: Accepted 4.2 len=3 dec=3
        # The sender is in this epoch: every member has stored what it has trimmed.
            | 3: CatchUpChunk base=2 at=3 +d dec=4 present; trimmed | following 4.2 ABCD
            | none; 2: Accepted 4.2 len=4 dec=4
            | 3: CatchUpChunk base=2 at=4 +e dec=5 present; trimmed | same | trimmed at 4
        ",
    );
}

#[test]
fn the_stop_sign_is_compacted_once_the_next_epoch_has_begun() {
    continuing().check(
        "
        following 4.2 AB! | compact_with 3 ab | same | cannot compact beyond the decided index 2
                          | compact_with 2 ab | following 4.2 **! |
        ",
    );
}
