//! Each expectation follows from the section on leadership transfer in `ARCHITECTURE.md`, and from the docs
//! of this module.

use crate::sequence_paxos::tests::Table;

#[test]
fn a_server_that_has_the_log_is_asked_to_take_over() {
    Table::new().check(
        "
        # At once, and with each round in which it answers.
        leading 4.1 ABC 2:3/3 3:3/3
            | transfer | same | no transfer
            | transfer 2; transfer | same | to 2; 2: TransferLeadership 4.1
            | transfer 2; output; silent | same | silent: false
            | transfer 2; output; round | same | 2: TransferLeadership 4.1
            | transfer 2; output; round 3; transfer | same | to 2
        # Proposals wait meanwhile, unless it does not answer.
            | transfer 2; append d | leading 4.1 ABC 2:3/3 3:3/3 waits=1 | 2: TransferLeadership 4.1
            | transfer 2; output; round 3; append d | leading 4.1 ABCd 2:3/3 3:3/3
            | 2: AcceptDecide 4.1 at=3 +d dec=3; 3: AcceptDecide 4.1 at=3 +d dec=3
        ",
    );
}

#[test]
fn a_server_that_is_behind_catches_up_first() {
    Table::new().check(
        "
        # Proposals continue until it has the log of the beginning, and the rest is on its way.
        leading 4.1 ABc 2:2/2 3:2/2
            | transfer 2; append d; output; append e | leading 4.1 ABcde 2:2/2 3:2/2
            | 2: AcceptDecide 4.1 at=4 +e dec=2; 3: AcceptDecide 4.1 at=4 +e dec=2
            | transfer 2; append d; output; 2: Accepted 4.1 len=3 dec=2; output; append e
            | leading 4.1 ABCd 2:3/2 3:2/2 waits=1 |
            | transfer 2; append d; 2: Accepted 4.1 len=3 dec=2; append e
            | leading 4.1 ABCde 2:3/2 3:2/2
            | 2: AcceptDecide 4.1 at=3 +de dec=3; 3: AcceptDecide 4.1 at=3 +de dec=3
            | transfer 2; append d; 2: Accepted 4.1 len=3 dec=2; output; append e
            | leading 4.1 ABCd 2:3/2 3:2/2 waits=1 |
        # It has all of it: it is asked.
            | transfer 2; append d; output; 2: Accepted 4.1 len=3 dec=2; output; 2: Accepted 4.1 len=4 dec=3
            | leading 4.1 ABCD 2:4/3 3:2/2
            | 2: Decide 4.1 dec=4; 3: Decide 4.1 dec=4; 2: TransferLeadership 4.1
        # It has not promised this ballot: nothing is known of its log.
        leading 4.1 ABC 3:3/3 | transfer 2; transfer | same | to 2
        ",
    );
}

#[test]
fn a_transfer_that_takes_too_long_is_cancelled() {
    let table = Table::with(|config| {
        config.server_config.resend_message_tick_timeout = 1000;
        config.server_config.flush_batch_tick_timeout = 1000;
    });
    table.check(
        "
        leading 4.1 ABC 3:3/3
            | transfer 2; timeout | same | timeout 100
            | transfer 2; pass 60; tick; timeout | same | timeout 39
            | transfer 2; pass 98; tick; transfer; tick; transfer | same | to 2; no transfer
        # A request is due.
        leading 4.1 ABC 2:3/3 | transfer 2; timeout | same | timeout 1; 2: TransferLeadership 4.1
                              | transfer 2; output; timeout | same | timeout 100
        ",
    );
}

#[test]
fn the_leader_asks_this_server_to_take_over() {
    Table::new().check(
        "
        # Only the leader that this server follows can ask, and only in its ballot.
        following 4.2 ABc    | 2: TransferLeadership 4.2 | same | election: Transferred
                             | 2: TransferLeadership 3.2 | same |
                             | 2: TransferLeadership 5.2 | same |
        promised 4.2 3.3 ABc | 2: TransferLeadership 4.2 | same |
        ",
    );
}
