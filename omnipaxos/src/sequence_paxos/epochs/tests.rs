//! Each expectation follows from the section on epochs in `ARCHITECTURE.md`, and from the docs of this
//! module.

use crate::{config::ClusterConfig, entry::encoding, sequence_paxos::tests::Table};

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
        # Its observers stay.
        following 4.2 AB! | 9: CatchUpRequest dec=3 waits; output; epoch; observers | recovering 4.2 4.2 AB
            | observers 9:3 through 9
        # It announces no trim of the epoch before: those that have joined may need the entries.
        following 4.2 _B!
            | epoch; 2: Prepare 5.2 len=3 dec=3; output; 2: AcceptSync 5.2 at=3 dec=3
            | following 5.2 _B | 2: Accepted 5.2 len=3 dec=3
        leading 4.1 AB! 2:3/3 3:3/3
            | trim 1; epoch; round | recovering 4.1 4.1 _B |
        # What its application has applied, it reports again, and it asks again for a snapshot.
        following 4.2 AB! | applied 1; output; epoch; round | recovering 4.2 4.2 AB
            | 2: Applied to=1; 3: Applied to=1
                          | snapshot 1; output; epoch; round | recovering 4.2 4.2 *B
            | 2: Snapshot to=1; 3: Snapshot to=1
        # As an observer it waits until its sources have compacted.
        following 4.2 AB!
            | applied 2; output; epoch observes | recovering 4.2 4.2 AB |
            | applied 2; output; epoch observes; 3: CatchUpChunk base=3 at=3 +c dec=4 gone=1 present
            | recovering 4.2 4.2 _BC | 3: CatchUpRequest dec=4 waits
        # An observer trims alone, but not what is in an epoch that names it: after a restart it may vote there.
        following 4.2 AB!
            | epoch observes; 3: CatchUpChunk base=3 at=3 +cd dec=5 gone=4 present; applied 4
            | recovering 4.2 4.2 ___CD | 3: CatchUpRequest dec=5 waits
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

/// The stop sign is decided, the next epoch begins, and server 2 leads there.
const NEXT: &str = "2: AcceptStopSign 4.2 at=3 dec=4; output; epoch; round; output
    ; 2: Prepare 5.2 len=4 dec=4; output; 2: AcceptSync 5.2 at=4";

#[test]
fn what_was_underway_in_the_epoch_before() {
    let next = NEXT;
    continuing().check(&format!(
        "
        # Proposals of others are not passed on in this epoch. Their origins forward them again.
        following 4.2 ABc
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d; 2: AcceptStopSign 4.2 at=3 dec=4
            ; epoch | recovering 4.2 4.2 ABC |
        # Own ones are forwarded to its leader. No ballot proves to it that they are new.
            | append d; output; 2: AcceptStopSign 4.2 at=3 dec=4; output; epoch; round; round; round
            ; 2: Prepare 5.2 len=4 dec=4; 2: AcceptSync 5.2 at=4 dec=4 | following 5.2 ABC pending=1
            | 2: Accepted 5.2 len=4 dec=4; 2: ForwardedProposals first=1/7/0 min=2 +d
        # Nor are reads of others.
            | 3: ReadIndexRequest id=3/5/1; 2: AcceptStopSign 4.2 at=3 dec=4; epoch; round
            ; 2: Prepare 5.2 len=4 dec=4; 2: AcceptSync 5.2 at=4 dec=4 | following 5.2 ABC
            | 2: Accepted 5.2 len=4 dec=4
        # The chunk that begins with this epoch contains its configuration.
            | {next} +d dec=5; output; 3: CatchUpRequest dec=4 | following 5.2 ABCD
            | 3: CatchUpChunk at=4 +d dec=5 epoch=2:4
            | {next} +d dec=5; output; 3: CatchUpRequest dec=1 | following 5.2 ABCD
            | 3: CatchUpChunk at=1 +bc$ dec=5
        "
    ));
}

#[test]
fn a_snapshot_of_a_later_epoch() {
    continuing().check(
        "
        # This server takes no part in the epoch any more, and begins the later one.
        following 4.2 ABc
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=1:0 | following 4.2 ******
            | 2: Accepted 4.2 len=6 dec=6
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5 | recovering 4.2 4.2 ****** |
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5
            ; 2: Prepare 5.2 na=4.2 len=6 dec=6 | recovering 4.2 4.2 ****** |
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5; elected 5.1
            | recovering 4.2 4.2 ****** |
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5
            ; 2: AcceptDecide 4.2 at=6 +g dec=6 | recovering 4.2 4.2 ****** | 2: PrepareReq 4.2 len=6 dec=6
        # What is undecided beyond it belongs to the epoch before.
        following 4.2 ABcdef
            | 3: CatchUpChunk base=2 at=4 snapshot=abcd dec=4 epoch=1:0 | following 4.2 ****ef
            | 2: Accepted 4.2 len=6 dec=4
            | 3: CatchUpChunk base=2 at=4 snapshot=abcd dec=4 epoch=2:3 | recovering 4.2 4.2 **** |
        # There no server answers what was asked for before.
        following 4.2 ABc
            | 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=9 epoch=2:5; output; epoch; round; output
            ; round | recovering 4.2 4.2 ****** |
        # Nor does an answer to a read count: it may be of the end of an epoch between, which others had left.
            | read; output; 2: ReadIndexResponse id=1/7/1 at=4; output
            ; 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5; output; state 1; epoch; state 1
            | recovering 4.2 4.2 ****** | waiting; waiting
        # A change that was proposed here is decided if it is the one that began the epoch. Otherwise it may
        # have begun one before.
            | reconfigure id; 3: Joining len=2; output
            ; 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=2:5; output; epoch
            | recovering 4.2 4.2 ****** | 1/7/0 is decided at 4
            | reconfigure id; 3: Joining len=2; output
            ; 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=3:5; output; epoch
            | recovering 4.2 4.2 ****** | 1/7/0 is unknown
            | reconfigure id; output; 3: CatchUpChunk base=2 at=6 snapshot=abcdef dec=6 epoch=3:5; output
            ; epoch | recovering 4.2 4.2 ****** | 1/7/0 is not decided
        ",
    );
}

#[test]
fn the_servers_of_an_epoch() {
    continuing().check(
        "
        following 4.2 AB!
            | knows 3; knows 4; knows 1 | same
            | peer: true, member: true, alone: false, in step with 2
            ; peer: false, member: false, alone: false, in step with 2
            ; peer: false, member: true, alone: false, in step with 2
            | round 9; knows 3 | same | peer: true, member: true, alone: true, in step with 2
        # Nobody is in step with a leader that has just taken over. It can be asked.
            | epoch; knows 3; successor 3 | recovering 4.2 4.2 AB
            | peer: true, member: true, alone: true, in step with nobody; 3: PrepareReq 0 len=3 dec=3
            | epoch; successor 9; successor 1 | recovering 4.2 4.2 AB |
        promised 4.2 3.3 ABc
            | knows 3 | same | peer: true, member: true, alone: false, in step with nobody
        leading 4.1 ABc 2:2/2
            | knows 9 | same | peer: false, member: false, alone: false, in step with 1
        ",
    );
}

#[test]
fn a_snapshot_in_pieces_of_a_later_epoch() {
    let table = Table::with(|config| {
        config.server_config.continues = true;
        config.server_config.max_message_bytes = 20;
    });
    table.check(&format!(
        "
        following 4.2 ABc
            | {NEXT} +de dec=6; output; compact_with 5 abcd; output; durable 5
            ; 3: CatchUpRequest dec=1 pieces | following 5.2 *****E
            | 3: CatchUpChunk at=1 piece=5 dec=6 epoch=2:4
        "
    ));
    if encoding::IS_SUPPORTED {
        continuing().check(
            "
            following 4.2 ABc
                | 3: CatchUpChunk piece=6:abcdef coded half=1 dec=6 epoch=2:5; output
                ; 3: CatchUpChunk piece=6:abcdef coded half=2 dec=6 epoch=2:5
                | recovering 4.2 4.2 ****** |
            ",
        );
    }
}

#[test]
fn a_restart_in_a_later_epoch() {
    continuing().check(&format!(
        "
        # No ballot of an earlier epoch binds this server.
        following 4.2 AB!
            | epoch; flush; restart; 2: Prepare 3.2 len=3 dec=3 | promised 3.2 4.2 AB
            | 2: Promise 3.2 len=3 dec=3
        # The beginning was not stored: it is in the epoch before.
            | epoch; restart; 2: Prepare 3.2 len=3 dec=3 | recovering 4.2 4.2 AB! | 2: NotAccepted 4.2
        # A stop sign that names the next one stays.
            | restart; log 0 3 | recovering 4.2 4.2 AB! | AB!
        following 4.2 AB$
            | restart; log 0 3 | recovering 4.2 4.2 AB$ | AB$
        # The stop sign between the epochs has its place, until it is compacted.
        following 4.2 ABc
            | {NEXT} +d dec=5; output; flush; restart; log 0 5 | recovering 5.2 5.2 ABCD | ABC!D
            | {NEXT} +d dec=5; output; compact_with 3 abc; flush; restart; log 0 5; 3: CatchUpRequest
            | recovering 5.2 5.2 ***D | *3!D; 3: CatchUpChunk at=3 snapshot=abc +$ dec=5
            | {NEXT} +d dec=5; output; compact_with 4 abc; flush; restart; log 0 5; 3: CatchUpRequest
            | recovering 5.2 5.2 ****D
            | *4D; 3: CatchUpChunk at=4 snapshot=abc +d dec=5 epoch=2:4
        # One write stores the epochs, and that the stop sign is none of the present one.
            | 2: AcceptStopSign 4.2 at=3 dec=4; output; watch; epoch | recovering 4.2 4.2 ABC
            | wrote 2 epochs, no $, decided 4
            | {NEXT} +d dec=5; output; watch; compact_with 4 abc | following 5.2 ****D
            | wrote snapshot abc, trim 3, compacted 4 (durable later)
        # With the next compaction after that the epoch before is forgotten.
            | {NEXT} +d dec=5; output; compact_with 4 abc; output; watch; compact_with 5 abcd
            | following 5.2 *****
            | wrote snapshot abcd, trim 1, compacted 5, 1 epochs (durable later)
            | {NEXT} +d dec=5; output; compact_with 3 abc; output; watch; compact_with 5 abcd
            | following 5.2 ***** | wrote snapshot abcd, trim 1, compacted 5 (durable later)
        "
    ));
}

#[test]
fn an_observer_that_knows_no_epoch_sends_no_snapshot_in_pieces() {
    let table = Table::with(|config| {
        config.cluster_config = ClusterConfig::default();
        config.server_config.observes = vec![2, 3];
        config.server_config.continues = true;
        config.server_config.max_message_bytes = 20;
    });
    table.check("recovering 0 0 **C | durable 2; 9: CatchUpRequest dec=1 pieces | same |");
}

/// The server knows no configuration yet.
fn joining() -> Table {
    Table::with(|config| {
        config.cluster_config = ClusterConfig::default();
        config.server_config.observes = vec![2, 3];
        config.server_config.continues = true;
    })
}

#[test]
fn a_server_that_joins_keeps_nothing_beyond_the_first_chunk() {
    joining().check(
        "
        # A write of an earlier chunk was torn: its entries were stored without the decided index.
        recovering 0 0 abc | 2: CatchUpChunk at=0 +ab dec=2 epoch=1:0 | recovering 0 0 AB
                           | 2: CatchUpRequest dec=2 waits
                           | 2: CatchUpChunk at=0 +abcd dec=4 epoch=1:0 | recovering 0 0 ABCD
                           | 2: CatchUpRequest dec=4 waits
        ",
    );
}

#[test]
fn a_server_that_joins_an_empty_log_learns_its_members() {
    continuing().check(
        "
        # A source.
        following 4.2 - | 9: CatchUpRequest joins | same | 9: CatchUpChunk at=0 epoch=1:0
                      | 9: CatchUpRequest | same |
                      | 9: CatchUpRequest joins range=0-1 | same | 9: CatchUpChunk at=0
        following 4.2 a | 9: CatchUpRequest joins | same | 9: CatchUpChunk at=0 epoch=1:0
        # As long as it has accepted nothing, its configuration may be a mistake of its own.
        promised 4.2 0 - | 9: CatchUpRequest joins | same |
        ",
    );
    joining().check(
        "
        recovering 0 0 - | 2: CatchUpChunk epoch=1:0 | same | 2: CatchUpRequest waits
                       | 2: CatchUpChunk epoch=1:0; 3: CatchUpChunk epoch=1:0 | same | 2: CatchUpRequest waits
                       | 2: CatchUpChunk | same |
        # A write of an earlier chunk was torn: its entries were stored without the decided index.
        recovering 0 0 abc | 2: CatchUpChunk epoch=1:0 | recovering 0 0 - | 2: CatchUpRequest waits
        # It passes on what it has learned.
        recovering 0 0 - | 2: CatchUpChunk epoch=1:0; output; epoch; 9: CatchUpRequest joins | same
                         | 9: CatchUpChunk at=0 epoch=1:0
        ",
    );
    // An observer whose configuration is that of its file, which may be wrong.
    let observing = Table::with(|config| {
        config.cluster_config.nodes = vec![2, 3];
        config.server_config.observes = vec![2, 3];
        config.server_config.continues = true;
    });
    observing.check("recovering 0 0 - | 9: CatchUpRequest joins | same |");
}
