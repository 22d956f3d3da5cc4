//! Each expectation follows from the messages, the section on proposals and the invariants in
//! `ARCHITECTURE.md`.

use crate::sequence_paxos::{most_id_runs, tests::Table};

#[test]
fn at_the_leader() {
    Table::new().check(
        "
        # An entry without an id is named by ballot and index, which goes without saying.
        leading 4.1 ABC 2:3/3 | append d | leading 4.1 ABCd 2:3/3
                              | 2: AcceptDecide 4.1 at=3 +d dec=3
        # An id travels with the entry, and is pending until that is decided (I14).
            | propose d | leading 4.1 ABCd 2:3/3 pending=1
            | 1/7/0; 2: AcceptDecide 4.1 at=3 +d ids=3:1/7/0x1 dec=3
            | propose d; output; 2: Accepted 4.1 len=4 dec=3 | leading 4.1 ABCD 2:4/3
            | 2: Decide 4.1 dec=4; 1/7/0 is decided at 3
        # What the storage cannot hold is refused before it is in a log.
                              | append z | same | Unstorable
                              | propose z | same | Unstorable
        # After a stop sign nothing may come (I9).
        leading 4.1 ABC$ 2:3/3 | append d | same | PendingReconfigEntry
                               | propose d | same | PendingReconfigEntry
        # Before it leads it lets them wait.
        preparing 4.1 3.2 ABc | append d; propose e; output; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABcde 2:sync pending=1
            | 2: AcceptSync 4.1 at=2 +cde ids=3:1/4./3x1 ids=4:1/7/0x1 dec=2
        # Those of this server and of others take turns.
        preparing 4.1 3.2 ABc | append de; 3: ForwardedProposals first=3/5/0 ballot=4.1 +fg; output
            ; 2: Promise 4.1 na=3.2 len=3 dec=2 | leading 4.1 ABcdfeg 2:sync
            | 2: AcceptSync 4.1 at=2 +cdfeg ids=3:1/4./3x1 ids=4:3/5/0x1 ids=5:1/4./5x1 ids=6:3/5/1x1 dec=2
        ",
    );
}

#[test]
fn forwarded_to_the_leader() {
    Table::new().check(
        "
        # A proposal whose id is not in the log is appended; a known one is not, again (I13).
        leading 4.1 ABC 2:3/3 | 3: ForwardedProposals first=3/5/0 ballot=4.1 +de
            | leading 4.1 ABCde 2:3/3 | 2: AcceptDecide 4.1 at=3 +de ids=3:3/5/0x2 dec=3
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d; output
            ; 3: ForwardedProposals first=3/5/0 ballot=4.1 +d | leading 4.1 ABCd 2:3/3 |
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d
            ; 3: ForwardedProposals first=3/5/0 ballot=4.1 +de | leading 4.1 ABCde 2:3/3
            | 2: AcceptDecide 4.1 at=3 +de ids=3:3/5/0x2 dec=3
        # A decided one is answered, with its index. The answer goes where the forward came from.
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d; output; 2: Accepted 4.1 len=4 dec=4
            ; output; 3: ForwardedProposals first=3/5/0 ballot=4.1 +d | leading 4.1 ABCD 2:4/4
            | 3: ProposalRejection first=3/5/0 count=1 decided=3
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +de; output; 2: Accepted 4.1 len=5 dec=5
            ; output; 2: ForwardedProposals first=3/5/0 ballot=4.1 +de | leading 4.1 ABCDE 2:5/5
            | 2: ProposalRejection first=3/5/0 count=2 decided=3
        # The leader was restarted: it knows no ids before 3. A proposal forwarded first in this ballot is
        # not there, nor is one with min=3. Others may be.
            | 3: ForwardedProposals first=3/5/0 ballot=3.2 min=2 +d | same
            | 3: ProposalRejection first=3/5/0 count=1 unknown=3
            | 3: ForwardedProposals first=3/5/0 ballot=3.2 min=3 +d | leading 4.1 ABCd 2:3/3
            | 2: AcceptDecide 4.1 at=3 +d ids=3:3/5/0x1 dec=3
        # No leader of a ballot below the first one may take it.
            | 3: ForwardedProposals first=3/5/0 ballot=5.2 min=3 +d | same | election: Preempted
        # Its own come back, and none at all.
            | 3: ForwardedProposals first=1/7/0 ballot=4.1 +d | same |
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 | same |
        # A proposal that cannot be stored is refused, if no earlier leader can have decided it: it was
        # forwarded first in this ballot, or a write quorum has accepted this log.
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +z | same
            | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
            | 3: ForwardedProposals first=3/5/0 ballot=3.2 min=3 +z | same
            | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
        leading 4.1 ABc 2:sync
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +z | same
            | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
            | 3: ForwardedProposals first=3/5/0 ballot=3.2 min=3 +z | same |
        # Plain ones are named by their text, and were not decided when they came.
        leading 4.1 ABC 2:3/3 | 3: ProposalForward +de | leading 4.1 ABCde 2:3/3
            | 2: AcceptDecide 4.1 at=3 +de ids=3:3/textx2 dec=3
            | 3: ProposalForward +d; 3: ProposalForward +d | leading 4.1 ABCd 2:3/3
            | 2: AcceptDecide 4.1 at=3 +d ids=3:3/textx1 dec=3
        leading 4.1 ABc 2:sync | 3: ProposalForward +d | same
            | 3: ProposalRejection first=3/text count=1 unknown=3
        # None after a stop sign; the origin learns of that with the log.
        leading 4.1 ABC$ 2:3/3 | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d | same |
        # A leader that is not promised lets them wait.
        preparing 4.1 3.2 ABc  | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d
            | preparing 4.1 3.2 ABc waits=1 |
            | 3: ForwardedProposals first=3/5/0 ballot=4.1 +d; output
            ; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABcd 2:sync | 2: AcceptSync 4.1 at=2 +cd ids=3:3/5/0x1 dec=2
        ",
    );
}

#[test]
fn forwarded_to_a_server_that_does_not_lead() {
    Table::new().check(
        "
        # It passes them on with the next round, as they are, and only what came from the origin.
        following 4.2 ABc | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d
            | following 4.2 ABc waits=1 |
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d; round | same
            | 2: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d hops=1
            | 3: ProposalForward +d; round | same
            | 2: ForwardedProposals first=3/text min=2 +d hops=1
            | 3: ForwardedProposals first=2/5/0 ballot=4.2 min=1 +d | same |
        # The answers come back the same way.
            | 2: ProposalRejection first=3/5/0 decided=1 | same
            | 3: ProposalRejection first=3/5/0 count=1 hops=1 decided=1
        # The leader does not answer here.
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d; round 3
            | following 4.2 ABc waits=1 |
        following 4.2 ABc$ | 3: ForwardedProposals first=3/5/0 ballot=4.2 min=1 +d | same |
        ",
    );
}

#[test]
fn at_a_server_that_does_not_lead() {
    Table::new().check(
        "
        # A restarted server forwards all with ids: it may have used a text before.
        following 4.2 ABc | propose d | following 4.2 ABc pending=1
            | 1/7/0; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | append d | following 4.2 ABc pending=1
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose de | following 4.2 ABc pending=2
            | 1/7/0; 1/7/1; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +de
            | append de; output; append f | following 4.2 ABc pending=3
            | 2: ForwardedProposals first=1/7/2 ballot=4.2 min=2 +f
            | append z; propose z | same | Unstorable; Unstorable
        promised 4.2 3.3 ABc | propose d | promised 4.2 3.3 ABc pending=1
            | 1/7/0; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
        # Once more after 1, 2 and then every 4 rounds, while it is not in the log.
        following 4.2 ABc | propose d; output; round | following 4.2 ABc pending=1
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; output; round; output; round | following 4.2 ABc pending=1 |
            | propose d; output; round; output; round; round | following 4.2 ABc pending=1
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=2; round
            | following 4.2 ABcd pending=1 | 2: Accepted 4.2 len=4 dec=2
        # It ends when it is decided here. An entry of append ends without a word.
            | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=4
            | following 4.2 ABCD | 2: Accepted 4.2 len=4 dec=4; 1/7/0 is decided at 3
            | append d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=4
            | following 4.2 ABCD | 2: Accepted 4.2 len=4 dec=4
            | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/6/0x1 dec=4
            | following 4.2 ABCD pending=1 | 2: Accepted 4.2 len=4 dec=4
        # Or when the configuration ends without it.
        following 4.2 ABC | propose d; output; 2: AcceptStopSign 4.2 at=3 dec=4 | following 4.2 ABC!
            | 2: Accepted 4.2 len=4 dec=4; 1/7/0 is not decided
        # The id of c is not known here, so the proposal may be c.
        following 4.2 ABc | propose d; output; 2: AcceptStopSign 4.2 at=3 dec=4 | following 4.2 ABC!
            | 2: Accepted 4.2 len=4 dec=4; 1/7/0 is unknown
        # Another leader has synced this log: it is forwarded again, with the ballot of
        # the first forward.
            | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=2
            ; 3: Prepare 5.3 na=4.2 len=3 dec=2; output; 3: AcceptSync 5.3 at=2 +c dec=2
            | following 5.3 ABc pending=1
            | 3: Accepted 5.3 len=3 dec=2; 3: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
        # What was forwarded first in another ballot travels apart.
            | propose d; output; 3: Prepare 5.3 na=4.2 len=3 dec=2; 3: AcceptSync 5.3 at=2 +c dec=2
            ; propose e | following 5.3 ABc pending=2
            | 1/7/1; 3: Accepted 5.3 len=3 dec=2
            ; 3: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            ; 3: ForwardedProposals first=1/7/1 ballot=5.3 min=2 +e
        # What waits when the configuration ends is given up.
        following 4.2 ABC | round 3; append d; 2: AcceptStopSign 4.2 at=3 dec=4 | following 4.2 ABC!
            | 2: Accepted 4.2 len=4 dec=4
        # A later one is not before what was decided when it was made.
        following 4.2 ABc | propose d; output; 2: Decide 4.2 dec=3; output; propose e
            | following 4.2 ABC pending=2
            | 1/7/1; 2: ForwardedProposals first=1/7/1 ballot=4.2 min=3 +e
        # The way: none while the leader does not answer; through a peer that it answers.
            | round 3; propose d | following 4.2 ABc pending=1 | 1/7/0
            | round 3 via=3; propose d | following 4.2 ABc pending=1
            | 1/7/0; 3: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; output; reconnected 2 | following 4.2 ABc pending=1
            | 2: PrepareReq 4.2 na=4.2 len=3 dec=2
            ; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
        # A rejection goes to its origin, and never back to the server that sent it.
        following 4.2 ABc | 2: ProposalRejection first=3/5/0 count=1 unknown=2 | same
            | 3: ProposalRejection first=3/5/0 count=1 hops=1 unknown=2
            | 3: ProposalRejection first=3/5/0 count=1 hops=1 unknown=2 | same |
        recovering 4.2 4.2 ABc | propose d | recovering 4.2 4.2 ABc pending=1 | 1/7/0
                               | append d | recovering 4.2 4.2 ABc waits=1 |
        ",
    );
}

#[test]
fn at_a_server_that_starts_empty() {
    Table::new().check(
        "
        # It had no predecessor: the first forward of a text travels without an id.
        recovering 0 0 - | 2: Prepare 1.2; output; 2: AcceptSync 1.2 at=0; output; append a
            | following 1.2 - pending=1 | 2: ProposalForward +a
            | 2: Prepare 1.2; output; 2: AcceptSync 1.2 at=0; output; append a; output; append a
            | following 1.2 - pending=2 | 2: ForwardedProposals first=1/7/0 ballot=1.2 +a
            | 2: Prepare 1.2; output; 2: AcceptSync 1.2 at=0; output; append ab
            | following 1.2 - pending=2 | 2: ProposalForward +ab
        # It may have had one: it was synced to a log with entries.
            | 2: Prepare 1.2 len=1; output; 2: AcceptSync 1.2 at=0 +z; output; append a
            | following 1.2 z pending=1 | 2: ForwardedProposals first=1/7/1 ballot=1.2 +a
        # Ids that it may have given are passed over.
            | 2: Prepare 1.2 len=2; output; 2: AcceptSync 1.2 at=0 +yz ids=0:1/7/5x2; output
            ; append a
            | following 1.2 yz pending=1 | 2: ForwardedProposals first=1/7/7 ballot=1.2 +a
        # Not known yet: it waits until it is synced.
            | 2: Prepare 1.2; append a | promised 1.2 0 - waits=1 | 2: Promise 1.2
        # A server that has promised nothing may forward, where incarnations are counted.
            | elected 1.2; round 3 via=3; append a | recovering 0 0 - pending=1
            | 2: PrepareReq 0; 3: ForwardedProposals first=1/7/0 ballot=1.2 +a
        ",
    );
}

#[test]
fn without_incarnations() {
    let table = Table::with(|config| config.server_config.incarnation = None);
    table.check(
        "
        # A restarted server forwards each entry once, and follows none.
        following 4.2 ABc | propose d | same | NoIncarnation
            | append d | same
            | 2: ForwardedProposals first=1/text min=18446744073709551615 +d
            | append d; output; round; round | same |
        # Nothing leaves before the first promise: a later incarnation would not know of it.
        recovering 0 0 -  | elected 1.2; round 3 via=3; append a | recovering 0 0 - waits=1
            | 2: PrepareReq 0
        ",
    );
}

#[test]
fn rejections() {
    Table::new().check(
        "
        # Decided here, too. If not yet, it ends when it is.
        following 4.2 ABc | propose d; output; 2: ProposalRejection first=1/7/0 decided=1 | same
            | 1/7/0 is decided at 1
            | propose d; output; 2: ProposalRejection first=1/7/0 decided=2
            | following 4.2 ABc pending=1 |
            | propose d; output; 2: ProposalRejection first=1/7/0 before=2 | same
            | 1/7/0 is decided before 2
            | propose d; output; 2: ProposalRejection first=1/7/0 before=3
            | following 4.2 ABc pending=1 |
        # All ids are known here from 2 on: it is in doubt for the leader only.
            | propose d; output; 2: ProposalRejection first=1/7/0 unknown=3
            | following 4.2 ABc pending=1 |
        # Refused by a leader that is not outdated. It may be in the log all the same.
            | propose d; output; 2: ProposalRejection first=1/7/0 refused=4.2 | same
            | 1/7/0 is refused: no z
            | propose d; output; 2: ProposalRejection first=1/7/0 refused=3.3
            | following 4.2 ABc pending=1 |
            | propose d; output; elected 5.3; 2: ProposalRejection first=1/7/0 refused=4.2
            | following 4.2 ABc pending=1 |
            | propose d; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=2; output
            ; 2: ProposalRejection first=1/7/0 refused=4.2 | following 4.2 ABcd pending=1 |
        # A later leader may have taken it.
        recovering 0 0 -
            | elected 5.3; propose d; output; 2: ProposalRejection first=1/7/0 refused=4.2
            | recovering 0 0 - pending=1 |
        following 4.2 ABc
            | propose d; output; 3: Prepare 5.3 na=4.2 len=3 dec=2; output
            ; 3: AcceptSync 5.3 at=2 +c dec=2; output; 2: ProposalRejection first=1/7/0 refused=4.2
            | following 5.3 ABc pending=1 |
        # One of several; another incarnation; what was not proposed here.
            | propose de; output; 2: ProposalRejection first=1/7/1 refused=4.2
            | following 4.2 ABc pending=1 | 1/7/1 is refused: no z
            | propose de; output; 2: ProposalRejection first=1/7/0 count=2 decided=0
            | same | 1/7/0 is decided at 0; 1/7/1 is decided at 1
            | propose d; output; 2: ProposalRejection first=1/6/0 decided=1
            | following 4.2 ABc pending=1 |
            | 2: ProposalRejection first=1/7/0 decided=1 | same |
        ",
    );
}

#[test]
fn what_a_leader_appended_that_is_deposed() {
    let next = "
        leading 4.1 ABC 2:3/3 | append d; output; 3: Prepare 5.3 na=3.3 len=4 dec=3; output
        ; 3: AcceptSync 5.3 at=3 +e dec=3";
    let dropped = "| following 5.3 ABCe | 3: Accepted 5.3 len=4 dec=3";
    let kept = "| following 5.3 ABCe pending=1 | 3: Accepted 5.3 len=4 dec=3
        ; 3: ForwardedProposals first=1/4./3 ballot=4.1 min=3 +d";
    Table::new().check(&format!("{next}{dropped}"));
    let table = Table::with(|config| config.server_config.keeps_undecided_appends = true);
    table.check(&format!("{next}{kept}"));
    Table::new().check(
        "
        # A proposal with an id is never dropped.
        leading 4.1 ABC 2:3/3 | propose d; output; 3: Prepare 5.3 na=3.3 len=4 dec=3; output
            ; 3: AcceptSync 5.3 at=3 +e dec=3 | following 5.3 ABCe pending=1
            | 3: Accepted 5.3 len=4 dec=3; 3: ForwardedProposals first=1/7/0 ballot=4.1 min=3 +d
        # If the next leader has it, it continues there.
            | propose d; output; 3: Prepare 5.3 na=4.1 len=4 dec=3; output
            ; 3: AcceptSync 5.3 at=3 +d ids=3:1/7/0x1 dec=4 | following 5.3 ABCD
            | 3: Accepted 5.3 len=4 dec=4; 1/7/0 is decided at 3
        # What waits is dropped with it, what was appended before this server was promised is not.
        preparing 4.1 3.2 ABc | append d; elected 5.3 | recovering 4.1 3.2 ABc waits=1
            | 2: PrepareReq 4.1 na=3.2 len=3 dec=2; 3: PrepareReq 4.1 na=3.2 len=3 dec=2
        # A transfer of leadership loses nothing.
        leading 4.1 ABC 2:3/3 | append d; transfer 2; output; 2: Prepare 5.2 na=3.3 len=4 dec=3
                              ; output
            ; 2: AcceptSync 5.2 at=3 +e dec=3 | following 5.2 ABCe pending=1
            | 2: Accepted 5.2 len=4 dec=3; 2: ForwardedProposals first=1/4./3 ballot=4.1 min=3 +d
        ",
    );
}

#[test]
fn limits() {
    let table = Table::with(|config| {
        config.server_config.max_pending_entries = 2;
        config.server_config.max_message_entries = 2;
    });
    table.check(
        "
        # The queue is bounded; what is pending counts.
        recovering 4.2 4.2 ABc | append def | recovering 4.2 4.2 ABc waits=2 | Busy
                               | propose def | recovering 4.2 4.2 ABc pending=2 | 1/7/0; 1/7/1; Busy
        following 4.2 ABc | append de; output; append f | following 4.2 ABc pending=2 | Busy
            | 3: ForwardedProposals first=3/5/0 ballot=4.2 +d
            ; 3: ForwardedProposals first=3/5/1 ballot=4.2 +e
            ; 3: ForwardedProposals first=3/5/2 ballot=4.2 +f | following 4.2 ABc waits=2 |
        # What waits is dropped when the leader is deposed, also if it tries again itself before.
        leading 4.1 ABC 2:3/3 | append def; output; elected 5.3 | recovering 4.1 4.1 ABCde
            | 2: PrepareReq 4.1 na=4.1 len=5 dec=3; 3: PrepareReq 4.1 na=4.1 len=5 dec=3
            | append def; output; elected 5.1; output; elected 6.3 | recovering 5.1 4.1 ABCde
            | 2: PrepareReq 5.1 na=4.1 len=5 dec=3; 3: PrepareReq 5.1 na=4.1 len=5 dec=3
        # A stop sign lets all that waits go first.
            | append def; reconfigure | leading 4.1 ABCde 2:3/3 waits=1
            | 2: AcceptDecide 4.1 at=3 +de dec=3
        # A message has no more entries than fit.
        leading 4.1 ABC 2:3/3 | append def; output; 2: Accepted 4.1 len=5 dec=3
            | leading 4.1 ABCDEf 2:5/3 | 2: AcceptDecide 4.1 at=5 +f dec=5
        ",
    );
}

#[test]
fn messages_that_are_not_too_large() {
    let table = Table::with(|config| config.server_config.max_message_entries = 2);
    table.check(
        "
        following 4.2 ABc | propose def | following 4.2 ABc pending=3
            | 1/7/0; 1/7/1; 1/7/2; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +de
            ; 2: ForwardedProposals first=1/7/2 ballot=4.2 min=2 +f
            | append def | following 4.2 ABc pending=3
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +de
            ; 2: ForwardedProposals first=1/7/2 ballot=4.2 min=2 +f
        ",
    );
}

#[test]
fn batches() {
    let table = Table::with(|config| {
        config.server_config.batch_size = 2;
        config.server_config.flush_batch_tick_timeout = 2;
    });
    table.check(
        "
        # They wait for a full batch, for a timer, or for a stop sign.
        leading 4.1 ABC 2:3/3 | append d | leading 4.1 ABC 2:3/3 waits=1 |
            | append d; output; append e | leading 4.1 ABCde 2:3/3
            | 2: AcceptDecide 4.1 at=3 +de dec=3
            | append d; tick | leading 4.1 ABC 2:3/3 waits=1 |
            | append d; tick; tick | leading 4.1 ABCd 2:3/3 | 2: AcceptDecide 4.1 at=3 +d dec=3
            | tick; append d; tick | leading 4.1 ABC 2:3/3 waits=1 |
            | append d; reconfigure | leading 4.1 ABCd$ 2:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 2: AcceptStopSign 4.1 at=4 dec=3
        # A server that does not lead forwards at once.
        following 4.2 ABc | append d | following 4.2 ABc pending=1
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
        ",
    );
}

#[test]
fn stop_signs() {
    Table::new().check(
        "
        # Forwarded once a round until a stop sign is in the log; then nothing else is
        # proposed here.
        following 4.2 ABc | reconfigure | same | 2: ForwardStopSign id=1/7/0
            | reconfigure; output; round | same | 2: ForwardStopSign id=1/7/0
            | reconfigure; output; 2: AcceptStopSign 4.2 at=3 dec=3; round | following 4.2 ABC$
            | 2: Accepted 4.2 len=4 dec=3
            | reconfigure; append d | same | PendingReconfigEntry; 2: ForwardStopSign id=1/7/0
        # Earlier proposals go first.
            | propose d; reconfigure | following 4.2 ABc pending=1
            | 1/7/0; 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            | propose d; reconfigure; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=2
            | following 4.2 ABcd pending=1
            | 2: Accepted 4.2 len=4 dec=2; 2: ForwardStopSign id=1/7/1
        # Through a peer, if the leader answers this server now and then only. What a peer sent goes to the
        # leader itself: it is relayed once.
            | round 2 3 via=3; reconfigure | same | 3: ForwardStopSign id=1/7/0
            | 3: ForwardStopSign id=3/5/0; round 2 3 via=3 | same | 2: ForwardStopSign id=3/5/0 hops=1
        # A later leader dropped it.
            | reconfigure; output; 2: AcceptStopSign 4.2 at=3 dec=2
            ; 3: Prepare 5.3 na=4.2 len=4 dec=2; output; 3: AcceptSync 5.3 at=2 +c dec=2
            | following 5.3 ABc | 3: Accepted 5.3 len=3 dec=2; 3: ForwardStopSign id=1/7/0
        # A leader takes one. The copies, and all others, are dropped.
        leading 4.1 ABC 2:3/3 | 3: ForwardStopSign id=3/5/0 | leading 4.1 ABC$ 2:3/3
            | 2: AcceptStopSign 4.1 at=3 dec=3
            | 3: ForwardStopSign id=3/5/0; 2: ForwardStopSign id=2/5/0 | leading 4.1 ABC$ 2:3/3
            | 2: AcceptStopSign 4.1 at=3 dec=3
            | 3: ForwardStopSign id=1/7/0 | same |
        preparing 4.1 3.2 ABc | 3: ForwardStopSign id=3/5/0; output
                              ; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc$ 2:sync | 2: AcceptSync 4.1 at=2 +c$ dec=2
        # Another server passes it on with the next round, if it came from its origin.
        following 4.2 ABc | 3: ForwardStopSign id=3/5/0 | same |
            | 3: ForwardStopSign id=3/5/0; round | same | 2: ForwardStopSign id=3/5/0 hops=1
            | 3: ForwardStopSign id=2/5/0; round | same |
        ",
    );
}

#[test]
fn limits_that_fall_while_proposals_wait() {
    Table::new().check(
        "
        # The limit of a peer is not that of this server.
        preparing 4.1 3.2 ABc | limit 2 1; limit | same | no limit
        # What waits is checked again once this server leads. It is refused where no earlier leader can
        # have decided it.
        preparing 4.1 3.2 ABc
            | propose y; limit 2 1; output; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc 2:sync | 2: AcceptSync 4.1 at=2 +c dec=2; 1/7/0 is refused: no y
            | append dy; limit 2 1; output; 2: Promise 4.1 na=3.2 len=3 dec=2; dropped
            | leading 4.1 ABcd 2:sync
            | dropped 1 and 0; 2: AcceptSync 4.1 at=2 +cd ids=3:1/4./3x1 dec=2
            | append y; limit 2 9; output; 2: Promise 4.1 na=3.2 len=3 dec=2; dropped
            | leading 4.1 ABcy 2:sync
            | dropped 0 and 0; 2: AcceptSync 4.1 at=2 +cy ids=3:1/4./3x1 dec=2
        # It was forwarded in an earlier ballot, whose leader may have taken it.
        following 4.2 ABC
            | propose y; output; limit 2 1; elected 5.1; output; 2: Promise 5.1 na=4.2 len=3 dec=3
            | leading 5.1 ABC 2:sync pending=1 | 2: AcceptSync 5.1 at=3 dec=3
        # What the leader refuses is dropped and counted. A copy of the answer counts nothing.
        following 4.2 ABc
            | append dd; output; 2: ProposalRejection first=1/7/0 count=2 refused=4.2
            ; 2: ProposalRejection first=1/7/0 count=2 refused=4.2; dropped | same | dropped 2 and 0
            | append dd; output; 2: ProposalRejection first=1/7/1 refused=4.2; dropped
            | following 4.2 ABc pending=1 | dropped 1 and 0
            | propose d; output; 2: ProposalRejection first=1/7/0 refused=4.2; dropped | same
            | dropped 0 and 0; 1/7/0 is refused: no z
            | propose d; output; 3: ProposalRejection first=1/7/0 refused=5.3 | same
            | 1/7/0 is refused: no z
            | dropped; drop; drop; dropped | same | dropped 0 and 0; dropped 0 and 2
        ",
    );
}

#[test]
fn proposals_that_wait_for_a_batch() {
    let table = Table::with(|config| config.server_config.batch_size = 3);
    table.check(
        "
        leading 4.1 ABC 2:3/3 | batched | same | batched 0
                              | append de; batched | leading 4.1 ABC 2:3/3 waits=2 | batched 2
                              | append def; batched | leading 4.1 ABCdef 2:3/3
                              | batched 0; 2: AcceptDecide 4.1 at=3 +def dec=3
        ",
    );
}

#[test]
fn incarnations_that_nothing_counts() {
    let table = Table::with(|config| config.server_config.incarnation = None);
    table.check(
        "
        # The first one may give numbers. A promise or a log shows that there was an earlier one.
        recovering 0 0 -     | propose d | recovering 0 0 - pending=1 | 1/0/0
        recovering 0 0 ab    | propose d | same | NoIncarnation
        recovering 4.2 0 -   | propose d | same | NoIncarnation
        recovering 4.2 4.2 a | propose d | same | NoIncarnation
        # A stop sign is forwarded with a number all the same, which a refusal names.
        following 4.2 ABc    | reconfigure | same | 2: ForwardStopSign id=1/0/0
                             | reconfigure id | same | NoIncarnation
            | reconfigure; output; 2: ProposalRejection first=1/0/0 refused=4.2; output; reconfigure
            | same | 2: ForwardStopSign id=1/0/1
            | reconfigure; output; 2: ProposalRejection first=1/0/0 refused=4.2; output; reconfigure
            ; output; 2: ProposalRejection first=1/0/1 refused=4.2; output; reconfigure
            | same | 2: ForwardStopSign id=1/0/2
        ",
    );
}

#[test]
fn decided_at_an_index_that_is_forgotten() {
    Table::new().check(
        "
        # It ends once all entries are decided here among which it is.
        following 4.2 ABc
            | propose d; output; 2: AcceptDecide 4.2 at=3 +e forgot=3:1/7/0x1 dec=3
            | following 4.2 ABCe | 2: Accepted 4.2 len=4 dec=3; 1/7/0 is decided before 3
            | propose d; output; 2: AcceptDecide 4.2 at=3 +e forgot=4:1/7/0x1 dec=3
            | following 4.2 ABCe pending=1 | 2: Accepted 4.2 len=4 dec=3
            | propose d; output; 2: AcceptDecide 4.2 at=3 +e forgot=4:1/7/0x1 dec=3; output
            ; 2: Decide 4.2 dec=4 | following 4.2 ABCE | 1/7/0 is decided before 4
        # The forgotten id is another one.
            | propose d; output; 2: AcceptDecide 4.2 at=3 +e forgot=3:1/6/0x1 dec=3
            | following 4.2 ABCe pending=1 | 2: Accepted 4.2 len=4 dec=3
        ",
    );
}

#[test]
fn an_entry_that_is_larger_than_a_message() {
    let table = Table::with(|config| config.server_config.max_message_bytes = 5);
    table.check(
        "
        # It travels alone.
        following 4.2 ABc | append de | following 4.2 ABc pending=2
            | 2: ForwardedProposals first=1/7/0 ballot=4.2 min=2 +d
            ; 2: ForwardedProposals first=1/7/1 ballot=4.2 min=2 +e
        ",
    );
}

#[test]
fn what_a_leader_behind_a_relay_may_lack() {
    Table::new().check(
        "
        # This server has the proposal in its log, undecided. The next leader may never send its own log.
        leading 4.1 ABc 2:2/2
            | propose d; output; 2: Prepare 5.2 na=4.1 len=3 dec=2; output; round 3 via=3; output
            ; round 3 via=3; output; round 3 via=3 | promised 5.2 4.1 ABcd pending=1
            | 3: ForwardedProposals first=1/7/0 ballot=4.1 min=2 +d
        leading 4.1 ABC 2:3/3
            | propose d; output; 2: Prepare 5.2 na=4.1 len=3 dec=2; output; round 3 via=3; output
            ; round 3 via=3; output; round 3 via=3 | promised 5.2 4.1 ABCd pending=1
            | 3: ForwardedProposals first=1/7/0 ballot=4.1 min=3 +d
        # A leader that it reaches sends its log soon.
            | propose d; output; 2: Prepare 5.2 na=4.1 len=3 dec=2; output; round; output; round
            ; output; round | promised 5.2 4.1 ABCd pending=1 |
        ",
    );
}

#[test]
fn how_many_ids_are_remembered() {
    let most = [1, 10, 100, 1000].map(most_id_runs);
    assert_eq!(most, [8, 80, 256, 1000]);
}

#[test]
fn outcomes_are_kept_until_they_are_taken() {
    let table = Table::with(|config| config.server_config.max_pending_entries = 1);
    table.check(
        "
        # Also if more end at once than may be pending: a stop sign is no entry.
        following 4.2 ABc
            | propose d; reconfigure id; output; 2: AcceptDecide 4.2 at=3 +d ids=3:1/7/0x1 dec=2
            ; 2: AcceptStopSign 4.2 at=4 dec=5 | following 4.2 ABCD!
            | 2: Accepted 4.2 len=5 dec=5; 1/7/0 is decided at 3; 1/7/1 is decided at 4
        ",
    );
}
