//! When a tick does something.

use crate::{config::OmniPaxosConfig, sequence_paxos::tests::Table};

#[test]
fn when_a_tick_does_something() {
    let table = Table::with(|config| {
        config.server_config.resend_message_tick_timeout = 20;
        config.server_config.batch_size = 3;
        config.server_config.flush_batch_tick_timeout = 5;
    });
    table.check(
        "
        # Only a leader repeats what it sent.
        following 4.2 ABC     | timeout | same | no timeout
        leading 4.1 ABC 2:3/3 | timeout | same | timeout 20
                              | tick; pass 3; timeout | same | timeout 16
                              | pass 19; timeout | same | timeout 1
        preparing 4.1 3.2 ABc | timeout | same
            | timeout 20
        # A batch that is not full waits.
        leading 4.1 ABC 2:3/3 | append d; timeout | leading 4.1 ABC 2:3/3 waits=1 | timeout 5
                              | append d; tick; timeout | leading 4.1 ABC 2:3/3 waits=1 | timeout 4
                              | append d; pass 4; timeout | leading 4.1 ABC 2:3/3 waits=1 | timeout 1
                              | append d; pass 4; tick; timeout | leading 4.1 ABCd 2:3/3
                              | timeout 15; 2: AcceptDecide 4.1 at=3 +d dec=3
                              | append def; timeout | leading 4.1 ABCdef 2:3/3
                              | timeout 20; 2: AcceptDecide 4.1 at=3 +def dec=3
        # The election gets its change with the next tick.
                              | 2: NotAccepted 5.3; timeout | same | timeout 1; election: Preempted
        ",
    );
}

#[test]
fn when_a_tick_appends() {
    let config = |config: &mut OmniPaxosConfig| {
        config.server_config.resend_message_tick_timeout = 50;
        config.server_config.max_message_entries = 2;
        config.server_config.batch_size = 2;
        config.server_config.flush_batch_tick_timeout = 20;
    };
    Table::with(config).check(
        "
        # An output has decided entries, so that there is room for the next.
        leading 4.1 ABC 2:3/3
            | append defg; early; 2: Accepted 4.1 len=5 dec=3; output; timeout
            | leading 4.1 ABCDE 2:5/3 waits=2 | timeout 1
            | append defg; early; 2: Accepted 4.1 len=5 dec=3; output; tick
            | leading 4.1 ABCDEfg 2:5/3 | 2: AcceptDecide 4.1 at=5 +fg dec=5
        # There is none. The rest waits for a full batch, or is released.
            | append defgh; output; batched; timeout | leading 4.1 ABCde 2:3/3 waits=3
            | batched 1; timeout 20
            | append defg; output; reconfigure; output; timeout | leading 4.1 ABCde 2:3/3 waits=2
            | timeout 50
        # A transfer holds them back.
            | transfer 2; output; append de; output; tick | leading 4.1 ABC 2:3/3 waits=2 |
            | transfer 2; output; append d; reconfigure; timeout | leading 4.1 ABC 2:3/3 waits=1
            | timeout 50
            | transfer 2; output; reconfigure; timeout | same | timeout 50
        ",
    );
    let continuing = Table::with(|with| {
        config(with);
        with.server_config.continues = true;
    });
    continuing.check(
        "
        leading 4.1 ABC 2:3/3
            | append d; timeout | leading 4.1 ABC 2:3/3 waits=1 | timeout 20
        ",
    );
}
