//! Each expectation follows from the section on reconfigurations in `ARCHITECTURE.md`, and from the docs
//! of this module.

use crate::{membership::FlexibleQuorum, sequence_paxos::tests::Table};

#[test]
fn a_stop_sign_that_cannot_be_stored() {
    Table::new().check(
        "
        # The own storage refuses it, or that of the server with the lowest limit.
        leading 4.1 ABC 2:3/3 | reconfigure metadata=z | same | ConfigError
                              | reconfigure id metadata=z | same | Config
                              | limit 2 1; reconfigure metadata=mm | same | ConfigError
        # The leader refuses it, where no earlier leader can have decided it: a write quorum has accepted
        # this log. Until then its origin gets no answer.
        leading 4.1 ABC 2:3/3 | 3: ForwardStopSign id=3/5/0 metadata=z | same
                              | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
                              | 2: ForwardStopSign id=3/5/0 metadata=z hops=1 | same
                              | 2: ProposalRejection first=3/5/0 count=1 refused=4.1
        leading 4.1 ABc 2:sync | 3: ForwardStopSign id=3/5/0 metadata=z | same |
        # It waited here, and the leader refuses it once it leads.
        preparing 4.1 3.2 ABc | 3: ForwardStopSign id=3/5/0 metadata=z; output
            ; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc 2:sync | 2: AcceptSync 4.1 at=2 +c dec=2
            | 3: ForwardStopSign id=3/5/0; output; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc$ 2:sync | 2: AcceptSync 4.1 at=2 +c$ dec=2
        # It was proposed here, before the limit fell. It ends once a write quorum has accepted this log.
            | reconfigure id metadata=mm; limit 2 1; output; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc 2:sync | 2: AcceptSync 4.1 at=2 +c dec=2
            | reconfigure id metadata=mm; limit 2 1; output; 2: Promise 4.1 na=3.2 len=3 dec=2; output
            ; 2: Accepted 4.1 len=3 dec=2; output; round
            | leading 4.1 ABC 2:3/2 | 3: Prepare 4.1 na=4.1 len=3 dec=3; 1/7/0 is refused: no such stop sign
            | reconfigure metadata=mm; limit 2 1; output; 2: Promise 4.1 na=3.2 len=3 dec=2; output
            ; 2: Accepted 4.1 len=3 dec=2; output; round; output; dropped; reconfigure
            | leading 4.1 ABC$ 2:3/2 | dropped 1 and 0; 2: AcceptStopSign 4.1 at=3 dec=3
        ",
    );
}

#[test]
fn a_leader_refuses_only_after_its_ballot_is_stored() {
    let sizes = FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 1 };
    let table = Table::with(|config| config.cluster_config.flexible_quorum = Some(sizes));
    table.check(
        "
        # This server is a write quorum, once it has stored that it accepts its log in this ballot.
        preparing 4.1 3.2 ABc 2:promised
            | 3: Promise 4.1 na=3.2 len=3 dec=2; 3: ForwardStopSign id=3/5/0 metadata=z
            | leading 4.1 ABC 2:sync 3:sync
            | 2: AcceptSync 4.1 at=0 +abc dec=3; 3: AcceptSync 4.1 at=2 +c dec=3
            | 3: Promise 4.1 na=3.2 len=3 dec=2; output; 3: ForwardStopSign id=3/5/0 metadata=z
            | leading 4.1 ABC 2:sync 3:sync
            | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
            | 3: Promise 4.1 na=3.2 len=3 dec=2; 3: ForwardedProposals first=3/5/0 ballot=3.2 min=3 +z
            | leading 4.1 ABC 2:sync 3:sync
            | 2: AcceptSync 4.1 at=0 +abc dec=3; 3: AcceptSync 4.1 at=2 +c dec=3
            | 3: Promise 4.1 na=3.2 len=3 dec=2; output
            ; 3: ForwardedProposals first=3/5/0 ballot=3.2 min=3 +z
            | leading 4.1 ABC 2:sync 3:sync
            | 3: ProposalRejection first=3/5/0 count=1 refused=4.1
        ",
    );
}

#[test]
fn the_leader_has_refused_the_stop_sign_of_this_server() {
    Table::new().check(
        "
        # It ends, with an outcome or by a count. The next stop sign may follow.
        following 4.2 ABc
            | reconfigure id | same | 1/7/0; 2: ForwardStopSign id=1/7/0
            | reconfigure id; output; 2: ProposalRejection first=1/7/0 refused=4.2 | same
            | 1/7/0 is refused: no z
            | reconfigure; output; 2: ProposalRejection first=1/7/0 refused=4.2; dropped; round | same
            | dropped 1 and 0
            | reconfigure id; output; 2: ProposalRejection first=1/7/0 refused=4.2; output; reconfigure id
            | same | 1/7/1; 2: ForwardStopSign id=1/7/1
        # Copies do not count twice.
            | reconfigure; output; 2: ProposalRejection first=1/7/0 refused=4.2
            ; 2: ProposalRejection first=1/7/0 refused=4.2; dropped | same | dropped 1 and 0
        # It was to be forwarded again: it is not.
            | reconfigure id; output; round 3; output; 2: ProposalRejection first=1/7/0 refused=4.2; output
            ; round | same |
        # The rejection is of another stop sign, or of an earlier ballot.
            | reconfigure id; output; 2: ProposalRejection first=1/7/1 refused=4.2; output; round | same
            | 2: ForwardStopSign id=1/7/0
            | reconfigure id; output; 2: ProposalRejection first=1/7/0 refused=3.2; output; round | same
            | 2: ForwardStopSign id=1/7/0
        # It is in the log: a later leader has taken it.
            | reconfigure id; output; 2: AcceptStopSign 4.2 at=3 dec=2
            ; 2: ProposalRejection first=1/7/0 refused=4.2 | following 4.2 ABc$
            | 2: Accepted 4.2 len=4 dec=2
            | reconfigure id; output; 2: AcceptStopSign 4.2 at=3 dec=2
            ; 2: ProposalRejection first=1/7/0 refused=4.2; output; 2: Decide 4.2 dec=4
            | following 4.2 ABC! | 1/7/0 is decided at 3
        # It waits here. So does the stop sign of a peer, which stays.
        recovering 4.2 3.3 ABc
            | reconfigure id; output; 3: ProposalRejection first=1/7/0 refused=4.2; output
            ; 2: Prepare 4.2 na=3.3 len=3 dec=2; output; round | promised 4.2 3.3 ABc |
        ",
    );
}

#[test]
fn a_stop_sign_that_waits_at_each_round() {
    Table::new().check(
        "
        # A stop sign proposed here waits for a leader, and is forwarded once a round.
        following 4.2 ABc | reconfigure id; output; round | same | 2: ForwardStopSign id=1/7/0
                          | reconfigure id; output; round 3; output; round | same
                          | 2: ForwardStopSign id=1/7/0
        # A stop sign of a peer is forwarded once: its origin repeats it.
            | 3: ForwardStopSign id=3/5/0; round | same | 2: ForwardStopSign id=3/5/0 hops=1
            | 3: ForwardStopSign id=3/5/0; output; round 3; output; round | same |
            | 3: ForwardStopSign id=3/5/0; output; round; output; round | same |
        # A server that prepares to lead keeps it.
        preparing 4.1 3.2 ABc | 3: ForwardStopSign id=3/5/0; round; output
            ; 2: Promise 4.1 na=3.2 len=3 dec=2
            | leading 4.1 ABc$ 2:sync | 2: AcceptSync 4.1 at=2 +c$ dec=2
        # The forward names this server as the origin: it is of an old configuration.
        leading 4.1 ABC 2:3/3 | 3: ForwardStopSign id=1/7/0 | same |
        ",
    );
}

#[test]
fn the_next_configuration_has_a_higher_id() {
    let table = Table::with(|config| config.cluster_config.configuration_id = 2);
    table.check(
        "
        # The one that is proposed here has id 2, as the present one.
        leading 4.1 ABC 2:3/3 | reconfigure | same | ConfigError
                              | reconfigure id | same | Config
                              | 3: ForwardStopSign id=3/5/0 | same |
        following 4.2 ABC     | 3: ForwardStopSign id=3/5/0; round | same |
        ",
    );
}

/// Server 1 of the servers 1 and 2. Server 3 joins with the next configuration.
fn with_a_joiner() -> Table {
    Table::with(|config| {
        config.cluster_config.nodes = vec![1, 2];
        config.server_config.continues = true;
    })
}

#[test]
fn a_stop_sign_waits_for_the_servers_that_join() {
    with_a_joiner().check(
        "
        # They are asked each round. The followers in step need not be asked.
        leading 4.1 ABC 2:3/3
            | reconfigure id | same | 1/7/0; 3: Joining config=1
            | reconfigure id; output; round | same | 3: Joining config=1
            | reconfigure id; output; 3: Joining len=3 | leading 4.1 ABC$ 2:3/3
            | 2: AcceptStopSign 4.1 at=3 dec=3
        # It lacks entries that were trimmed.
        leading 4.1 __C 2:3/3
            | reconfigure id; output; 3: Joining len=1 | same |
            | reconfigure id; output; 3: Joining len=2 | leading 4.1 __C$ 2:3/3
            | 2: AcceptStopSign 4.1 at=3 dec=3
        ",
    );
}

#[test]
fn servers_that_do_not_join_end_the_change() {
    let rounds = "round; output; ".repeat(100);
    with_a_joiner().check(&format!(
        "
        leading 4.1 ABC 2:3/3
            | reconfigure id; output; {rounds} round | same | 1/7/0 is not joined: [3]
            | reconfigure; output; {rounds} round; output; round | same |
            | reconfigure id; output; {rounds} 3: Joining len=3 | leading 4.1 ABC$ 2:3/3
            | 2: AcceptStopSign 4.1 at=3 dec=3
        "
    ));
}

#[test]
fn a_server_that_is_asked_how_much_it_has() {
    Table::new().check(
        "
        # It answers a server of its configuration or a higher one, and catches up with that.
        following 4.2 ABc | 3: Joining config=1 | same | 3: Joining config=1 len=2
                          | 3: Joining config=2 | same
                          | 3: Joining config=2 len=2; 3: CatchUpRequest dec=2
                          | 3: Joining | same |
        # No change waits for that server.
                          | 3: Joining len=3 | same |
        ",
    );
}
