//! The name of a command.

use serde::{Deserialize, Serialize};

/// Names a command, however often and wherever it is executed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId {
    /// The client, under a number that no other client has.
    pub client: u64,
    /// The number of the command among those of the client. It may begin at 0 or at any other number, and
    /// numbers may be left out.
    pub number: u64,
    /// The client has its answers to all commands with lower numbers: servers forget their outputs.
    pub oldest: u64,
}
